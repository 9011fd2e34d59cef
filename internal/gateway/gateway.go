// Package gateway is the guard's way in and way out: it finds the Flask app,
// runs it under gunicorn on a private unix socket, ends TLS, and forwards
// what the chain of layers lets through.
//
//	       TLS, timeouts, limits         chain (package guard)
//	client ───────────────────▶ listener ───────────────────▶ Forwarder
//	                                                              │ unix socket, 0700
//	            Supervisor ── starts, watches, restarts ──▶ gunicorn ▸ workers
//	                 ◀── facts about the app, over a private pipe ──┘
//
// [FindApp] looks for the app as the flask command does. [Run] starts
// everything in the only safe order: addresses are checked, the certificate
// is read, gunicorn loads the app, the preflights look at what the app says
// about itself, and only then a public address is opened. It ends in the
// opposite order: nothing new is accepted, running requests finish, gunicorn
// is told to end, and what is left of its process group is killed.
//
// # The app's server
//
// gunicorn reads a configuration that Dewar writes. The project's own
// gunicorn.conf.py and GUNICORN_CMD_ARGS are read first and keep what does
// not weaken the app; what Dewar overrides is said in one line. A hook in the
// workers reports the facts the preflights need (debug mode, SECRET_KEY,
// routes) through an inherited pipe, and why an app cannot be loaded. The
// SECRET_KEY goes that way only: it is in no environment, file or log.
//
// On Linux the child gets SIGTERM when this process dies, even by SIGKILL.
// Programs that the app starts and that leave its process group are not
// followed: holding them is the sandbox's work.
//
// # Where later work goes
//
// ACME is a third implementation of the unexported certificates interface.
// HTTP/3 and the PROXY protocol belong into Gateway.open, beside and below
// bound. Reload without loss passes the listeners that Gateway.open made.
package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/guard"
)

// StepKind says what a Step is, so that the caller chooses its mark.
type StepKind uint8

// The kinds of a Step.
const (
	StepDone    StepKind = iota + 1 // ✓ a part stands
	StepReady                       // ➜ an address to open
	StepNote                        // something to know
	StepWarning                     // ! something to look at
)

// Step is one line about the start, the end, or a change in between.
type Step struct {
	Kind StepKind
	Name string // app, workers, tls, site, upstream, stop
	Text string
}

// Options says what to run. Config, Handler and either App or Upstream are
// required.
type Options struct {
	// Dir is the project's folder.
	Dir     string
	Profile guard.Profile
	Config  deployment.Config
	// App is what [FindApp] found; Upstream is the URL of an app that
	// something else runs. One of them is set.
	App      App
	Upstream string
	// Environ is the environment, for the app too; nil means os.Environ().
	Environ []string
	// StateDir overrides where run.json is written; see [StateDir].
	StateDir string

	// Handler makes the chain. It is called once, when the certificate is
	// known and before the app is started.
	Handler func(*Gateway) (http.Handler, error)
	// Preflight looks at the app before the first address is opened; an
	// error ends the start. It is called again when a later worker says
	// something else than the first: then its error is only reported.
	Preflight func(guard.Facts) error
	// Actors run around everything else: they start first and end last.
	Actors []Actor

	// Console, ConsoleToken and ProbeKey are written to run.json.
	Console, ConsoleToken, ProbeKey string

	// Progress gets every Step, from several goroutines but never two at
	// once; Output every line that the app and gunicorn write.
	Progress func(Step)
	Output   func(line string)
	// OnRestart is called when gunicorn is started again, OnWorker when a
	// worker has loaded the app, OnConnectionError with what net/http says
	// about connections that came to nothing.
	OnRestart, OnWorker func()
	OnConnectionError   func(string)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Gateway is what [Run] runs, for the parts that are made beside it: the
// chain, the console. All methods may be called from any goroutine.
type Gateway struct {
	o          Options
	forwarder  *Forwarder
	certs      certificates
	supervisor *supervisor
	upstream   atomic.Pointer[error] // with Options.Upstream
	// upstreamServer is the Server field of an upstream that was there at the
	// start: a development server says that it is one.
	upstreamServer string

	open     atomic.Bool
	stopping atomic.Bool
	mu       sync.Mutex
	urls     []string
	// redirects are the addresses that only lead to HTTPS.
	redirects []string
}

// Forwarder returns the way to the app.
func (g *Gateway) Forwarder() *Forwarder { return g.forwarder }

// CertificateNames returns the names and addresses that the certificate in
// use covers, or nil when TLS ends elsewhere.
func (g *Gateway) CertificateNames() []string {
	if g.certs == nil {
		return nil
	}
	return namesOf(g.certs.current())
}

// Facts returns what the newest worker said about the app.
func (g *Gateway) Facts() guard.Facts {
	if g.supervisor == nil {
		return guard.Facts{Why: "something else runs the app: dewar cannot look inside", Server: g.upstreamServer}
	}
	if f := g.supervisor.facts.Load(); f != nil {
		return *f
	}
	return guard.Facts{Why: "no worker has loaded the app yet"}
}

// Ready returns nil when requests can be answered, or says why not.
func (g *Gateway) Ready() error {
	switch {
	case g.stopping.Load():
		return errors.New("stopping")
	case g.supervisor != nil && !g.supervisor.up.Load():
		return errors.New("the app's server does not run")
	case !g.open.Load():
		return errors.New("starting")
	}
	if g.supervisor == nil {
		if err := *g.upstream.Load(); err != nil {
			return fmt.Errorf("the upstream does not answer: %w", err)
		}
	}
	return nil
}

// URLs returns the public addresses, once they are open.
func (g *Gateway) URLs() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.urls)
}

// Run starts the guard and serves until ctx is done, then ends in good order
// and returns nil. An error says what could not be started, or what ended.
func Run(ctx context.Context, o Options) error {
	g := &Gateway{o: o}
	if err := g.defaults(); err != nil {
		return err
	}
	dir := g.o.StateDir
	if dir == "" {
		var err error
		if dir, err = StateDir(g.o.Dir, g.o.Environ); err != nil {
			return err
		}
	}
	claim, err := claimState(dir, g.o.Dir)
	if err != nil {
		return err
	}
	defer claim.release()

	for _, l := range g.addresses() {
		if err := tryListen(ctx, l.setting, l.spec); err != nil {
			return err
		}
	}
	if err := g.openCertificates(); err != nil {
		return err
	}
	if err := g.connect(ctx); err != nil {
		return err
	}
	defer g.forwarder.Close()
	if g.supervisor != nil {
		defer g.supervisor.cleanup()
	}
	handler, err := g.o.Handler(g)
	if err != nil {
		return err
	}

	if err := g.startApp(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to end while starting
		}
		return err
	}
	listeners, err := g.listen(ctx)
	if err == nil {
		err = claim.write(State{
			Console: o.Console, ConsoleToken: o.ConsoleToken, ProbeKey: o.ProbeKey,
			URLs: g.URLs(), Redirects: g.redirects, Project: g.o.Dir, Started: g.o.Now(),
		})
	}
	if err != nil {
		for _, l := range listeners {
			l.Close()
		}
		if g.supervisor != nil {
			g.supervisor.Stop(time.Duration(g.o.Config.Grace))
		}
		return err
	}

	actors := slices.Clone(o.Actors)
	if g.certs != nil {
		actors = append(actors, Actor{Name: "certificate", Run: func(ctx context.Context) error { g.certs.run(ctx); return nil }})
	}
	if g.supervisor != nil {
		actors = append(actors, Actor{
			Name: "app", Run: g.supervisor.Run,
			Stop: func() { g.supervisor.Stop(time.Duration(g.o.Config.Grace) + 2*time.Second) },
		})
	} else {
		actors = append(actors, Actor{Name: "upstream", Run: func(ctx context.Context) error {
			g.forwarder.watch(ctx, &g.upstream, g.o.Progress, 3*time.Second)
			return nil
		}})
	}
	actors = append(actors, g.serve(handler, listeners))
	err = runActors(ctx, actors)
	g.o.Progress(Step{Kind: StepDone, Name: "stop", Text: "stopped"})
	return err
}

func (g *Gateway) defaults() error {
	o := &g.o
	switch {
	case o.Handler == nil:
		return errors.New("gateway: no handler")
	case (o.App.Target == "") == (o.Upstream == ""):
		return errors.New("gateway: either an app or an upstream")
	}
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Output == nil {
		o.Output = func(string) {}
	}
	if o.Preflight == nil {
		o.Preflight = func(guard.Facts) error { return nil }
	}
	progress, mu := o.Progress, new(sync.Mutex)
	o.Progress = func(s Step) {
		if progress != nil {
			mu.Lock()
			defer mu.Unlock()
			progress(s)
		}
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	o.Dir = dir
	c := &o.Config
	for _, p := range []*string{&c.Certificate, &c.Key} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	if c.TLS == "" {
		c.TLS = "files"
	}
	if p := c.Problems(); len(p) > 0 {
		return fmt.Errorf("deployment.%s: %s", p[0].Key, p[0].Message)
	}
	return nil
}

type listenAddress struct {
	setting, spec string
	tls           bool
}

// addresses lists what is to be opened, HTTPS first.
func (g *Gateway) addresses() []listenAddress {
	var out []listenAddress
	if g.o.Config.TLS != "off" {
		for _, a := range g.o.Config.Listen {
			out = append(out, listenAddress{"listen", a, true})
		}
	}
	for _, a := range g.o.Config.ListenHTTP {
		out = append(out, listenAddress{"listen-http", a, false})
	}
	return out
}

func (g *Gateway) openCertificates() error {
	c := g.o.Config
	switch c.TLS {
	case "off":
		if len(c.TrustedProxy) == 0 && g.o.Profile != guard.Development {
			g.o.Progress(Step{Kind: StepWarning, Name: "tls", Text: "deployment.tls is off and no trusted-proxies are named: the app is served in clear text to everybody"})
		}
		return nil
	case "local":
		if g.o.Profile != guard.Development {
			return errors.New("deployment.tls = \"local\" is for --profile development: visitors do not know the authority; set certificate and key")
		}
		dir, err := LocalCADir(g.o.Environ)
		if err != nil {
			return err
		}
		l, err := newLocalCertificates(dir, c.AllowedHosts, g.o.Now, g.o.Progress)
		if err != nil {
			return err
		}
		g.certs = l
	case "files":
		f, err := newFileCertificates(c, g.o.Now, g.o.Progress)
		if err != nil {
			return err
		}
		g.certs = f
	default:
		return fmt.Errorf("deployment.tls: %q: write files, local or off", c.TLS)
	}
	g.o.Progress(Step{Kind: StepDone, Name: "tls", Text: g.certs.describe()})
	return nil
}

// connect makes the way to the app; nothing is started yet.
func (g *Gateway) connect(ctx context.Context) (err error) {
	cfg := g.o.Config
	fo := ForwarderOptions{Timeout: time.Duration(cfg.Timeout)}
	if g.o.Upstream != "" {
		g.forwarder, err = NewForwarder(g.o.Upstream, fo)
		return err
	}
	s := newSupervisor(g.o.App, cfg, g.o.Environ)
	s.progress, s.output = g.o.Progress, g.o.Output
	if g.o.OnRestart != nil {
		s.restarts = g.o.OnRestart
	}
	s.booted = func() {
		if g.o.OnWorker != nil {
			g.o.OnWorker()
		}
		// Later workers load the app anew, perhaps from changed files.
		if g.open.Load() {
			if err := g.o.Preflight(g.Facts()); err != nil {
				g.o.Progress(Step{Kind: StepWarning, Name: "app", Text: "a worker that was started later would not have passed: " + err.Error()})
			}
		}
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	if g.forwarder, err = NewForwarder("unix:"+s.socket, fo); err != nil {
		s.cleanup()
		return err
	}
	g.forwarder.down = func() (bool, time.Duration) {
		if s.up.Load() {
			return false, 0
		}
		return true, max(time.Until(time.Unix(0, s.retryAt.Load())), 0) + time.Second
	}
	g.supervisor = s
	return nil
}

// startApp starts gunicorn and asks the preflights.
func (g *Gateway) startApp(ctx context.Context) error {
	s := g.supervisor
	if s == nil {
		err := g.forwarder.Check(ctx)
		g.upstream.Store(&err)
		if err != nil {
			g.o.Progress(Step{Kind: StepWarning, Name: "upstream", Text: fmt.Sprintf("%s does not answer (%v): requests get 503 until it does", g.o.Upstream, err)})
		} else {
			g.upstreamServer = g.forwarder.server(ctx)
			g.o.Progress(Step{Kind: StepDone, Name: "upstream", Text: g.o.Upstream + ", run by something else"})
		}
		return g.o.Preflight(g.Facts())
	}
	for _, n := range g.o.App.Notes {
		g.o.Progress(Step{Kind: StepNote, Name: "app", Text: clean(n)})
	}
	if err := s.launch(ctx); err != nil {
		return err
	}
	f := g.Facts()
	text := fmt.Sprintf("entry %s (from %s)", g.o.App.Target, g.o.App.Source)
	if f.Known {
		text = fmt.Sprintf("Flask %s, %d routes, %s", clean(f.FlaskVersion), len(f.Routes), text)
	}
	g.o.Progress(Step{Kind: StepDone, Name: "app", Text: text})
	n := workers(g.o.Config, s.env)
	g.o.Progress(Step{Kind: StepDone, Name: "workers", Text: fmt.Sprintf("%d × gunicorn %s on a private unix socket (not reachable except through the guard)", n, s.it.Gunicorn)})
	if major, _, _ := strings.Cut(s.it.Gunicorn, "."); len(major) == 2 && major < "22" {
		g.o.Progress(Step{Kind: StepWarning, Name: "workers", Text: fmt.Sprintf("gunicorn %s takes header fields with underscores and SCRIPT_NAME for its own: only the guard's request layer is between; upgrade to 23 or later", s.it.Gunicorn)})
	}
	if err := g.o.Preflight(f); err != nil {
		s.Stop(time.Duration(g.o.Config.Grace))
		return err
	}
	return nil
}

type openListener struct {
	net.Listener
	tls bool
}

// listen opens the public addresses.
func (g *Gateway) listen(ctx context.Context) ([]openListener, error) {
	var out []openListener
	c := g.o.Config
	for _, a := range g.addresses() {
		ln, err := Listen(ctx, a.setting, a.spec)
		if err != nil {
			return out, err
		}
		g.mu.Lock()
		if a.tls || g.certs == nil {
			g.urls = append(g.urls, g.url(ln.Addr(), a.tls))
		} else {
			g.redirects = append(g.redirects, g.url(ln.Addr(), false))
		}
		g.mu.Unlock()
		out = append(out, openListener{bound(ln, c.MaxConns, time.Duration(c.BodyTimeout)), a.tls})
	}
	return out, nil
}

// url returns the address a person opens: a name of the certificate when all
// interfaces are listened on.
func (g *Gateway) url(a net.Addr, secure bool) string {
	if a.Network() == "unix" {
		return "unix:" + a.String()
	}
	scheme, standard := "http", "80"
	if secure {
		scheme, standard = "https", "443"
	}
	host, port, _ := net.SplitHostPort(a.String())
	if p := g.o.Config.PublicPort; p != 0 && secure {
		port = strconv.Itoa(p)
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
		for _, n := range append(g.CertificateNames(), g.o.Config.AllowedHosts...) {
			if !strings.ContainsAny(n, "*") && !strings.HasPrefix(n, ".") {
				host = n
				break
			}
		}
	}
	if port == standard {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return scheme + "://" + host
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// serve returns the actor that answers on all listeners.
func (g *Gateway) serve(handler http.Handler, listeners []openListener) Actor {
	c := g.o.Config
	base, cancel := context.WithCancel(context.Background())
	complain := g.o.OnConnectionError
	if complain == nil {
		complain = func(string) {}
	}
	server := func(secure bool) *http.Server {
		p := new(http.Protocols)
		p.SetHTTP1(true)
		s := &http.Server{
			Handler:           timeBodies(handler, time.Duration(c.BodyTimeout)),
			ReadHeaderTimeout: time.Duration(c.HeaderTimeout),
			IdleTimeout:       time.Duration(c.IdleTimeout),
			// No ReadTimeout and WriteTimeout: they would cut uploads and
			// event streams. timeBodies and boundedConn ask for progress.
			MaxHeaderBytes:               int(c.MaxHeader),
			DisableGeneralOptionsHandler: true, // "OPTIONS *" is for the chain
			BaseContext:                  func(net.Listener) context.Context { return base },
			ErrorLog:                     log.New(lineWriter(complain), "", 0),
			Protocols:                    p,
		}
		if secure {
			p.SetHTTP2(true)
			s.TLSConfig = tlsConfig(g.certs)
			s.HTTP2 = &http.HTTP2Config{
				MaxConcurrentStreams: 100,
				SendPingTimeout:      30 * time.Second,
				PingTimeout:          15 * time.Second,
				WriteByteTimeout:     time.Duration(c.BodyTimeout),
			}
		}
		return s
	}
	plain, secure := server(false), (*http.Server)(nil)
	servers := []*http.Server{plain}
	if g.certs != nil {
		secure = server(true)
		servers = append(servers, secure)
	}
	return Actor{
		Name: "listeners",
		Run: func(context.Context) error {
			failed := make(chan error, len(listeners))
			g.open.Store(true)
			for _, l := range listeners {
				go func() {
					if l.tls {
						failed <- secure.ServeTLS(l.Listener, "", "")
					} else {
						failed <- plain.Serve(l.Listener)
					}
				}()
			}
			for _, u := range g.URLs() {
				g.o.Progress(Step{Kind: StepReady, Name: "site", Text: g.describe(u)})
			}
			var first error
			for range listeners {
				if err := <-failed; !errors.Is(err, http.ErrServerClosed) && first == nil {
					first = err
					for _, s := range servers {
						s.Close()
					}
				}
			}
			return first
		},
		Stop: func() {
			g.stopping.Store(true)
			g.o.Progress(Step{Kind: StepNote, Name: "stop", Text: fmt.Sprintf("no new connections; running requests have %s", c.Grace)})
			ctx, done := context.WithTimeout(context.Background(), time.Duration(c.Grace))
			defer done()
			var wg sync.WaitGroup
			for _, s := range servers {
				wg.Go(func() { _ = s.Shutdown(ctx) })
			}
			wg.Wait()
			cancel() // WebSockets, and what did not finish in time
			for _, s := range servers {
				_ = s.Close()
			}
		},
	}
}

// describe says what a URL speaks, as far as it is settled by configuration.
func (g *Gateway) describe(u string) string {
	if g.certs != nil {
		return u + "  (HTTP/1.1 and 2, " + tls.VersionName(tls.VersionTLS12) + " and 1.3)"
	}
	return u + "  (HTTP/1.1; something in front ends TLS)"
}

// lineWriter hands what a log.Logger writes to a function, line by line.
type lineWriter func(string)

var _ io.Writer = lineWriter(nil)

func (w lineWriter) Write(b []byte) (int, error) {
	w(clean(strings.TrimRight(string(b), "\n")))
	return len(b), nil
}
