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
// The workers that gunicorn starts with must all load the app. One that takes
// another's place later and cannot, because half a deployment is on the disk,
// waits and tries again, and the others serve on; gunicorn by itself would end
// and take them with it. When none is left gunicorn is started again, with
// pauses, until the app can be loaded.
//
// On Linux the child gets SIGTERM when this process dies, even by SIGKILL.
// Programs that the app starts and that leave its process group are not
// followed: holding them is the sandbox's work.
//
// # Reload
//
// [Gateway.Change] replaces what can be replaced, all of a change or nothing:
//
//	chain         an atomic pointer; each request stays in the one it began in
//	certificate   an atomic pointer; the next handshake gets the new one
//	time-outs     a new front of HTTP servers, which gets the new connections
//	app           a new generation, a second gunicorn on its own socket, that
//	              has loaded the app and passed the preflights; the old one
//	              ends when its last request has
//
// Whoever is in something that is replaced is counted (users), and nothing is
// closed under them.
package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
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
	// known and before the app is started; later ones come with a [Change].
	Handler func(*Gateway) (http.Handler, error)
	// Preflight looks at the app before the first address is opened; an
	// error ends the start. It is called again when a later worker says
	// something else than the first: then its error is only reported.
	Preflight func(guard.Facts) error
	// Trial looks at an app that was loaded anew, before it gets a request;
	// with an error it gets none. nil means Preflight.
	Trial func(guard.Facts) error
	// Actors run around everything else: they start first and end last.
	Actors []Actor

	// Store is the store that several nodes share; nil when this is the only
	// one. Certificates by ACME can be kept in it.
	Store store.Store
	// CertificateCheck is how often certificates by ACME are looked at; 0
	// means ten minutes.
	CertificateCheck time.Duration
	// Listeners opens the addresses; nil inherits nothing. The caller's own
	// listeners that belong to the guard are opened by it, too.
	Listeners *Listeners
	// Command is how this program is started again for [Gateway.Upgrade]: its
	// path and its arguments.
	Command []string
	// OnHandOver is called when another process has taken over: what the
	// caller listens on by Listeners is no longer its own.
	OnHandOver func(pid int)

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
	// OnConnectionRefused is called for connections that were ended for what
	// they did: a documented reason of package wire, at most one of each kind
	// in a second.
	OnConnectionRefused func(client netip.Addr, reason, detail string)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Gateway is what [Run] runs, for the parts that are made beside it: the
// chain, the console. All methods may be called from any goroutine.
type Gateway struct {
	o    Options
	apps *apps
	// base is the context of every request; cancel ends those that take too
	// long at the end.
	base   context.Context
	cancel context.CancelFunc

	cfg   atomic.Pointer[deployment.Config] // in force
	site  atomic.Pointer[site]
	certs atomic.Pointer[keptCertificates] // nil when TLS ends elsewhere
	front atomic.Pointer[front]

	policy atomic.Pointer[policy] // of TLS
	quic   *quicFront             // nil without HTTP/3

	upstream atomic.Pointer[error] // with Options.Upstream
	// upstreamServer is the Server field of an upstream that was there at the
	// start: a development server says that it is one.
	upstreamServer string

	notify notifier
	claim  *claim

	open     atomic.Bool
	serving  chan struct{} // closed when open is set
	stopping atomic.Bool
	draining atomic.Bool
	// handedOver is set when another process serves in this one's place.
	handedOver atomic.Bool
	// changing is held while a Change is made.
	changing   sync.Mutex
	background sync.WaitGroup
	mu         sync.Mutex
	urls       []string
	// redirects are the addresses that only lead to HTTPS.
	redirects []string
	allFronts []*front
	refusals  throttle
}

// Forwarder returns the way to the app, whichever generation of it is in
// force.
func (g *Gateway) Forwarder() guard.Forwarder { return g.apps }

// server returns the supervisor of the newest gunicorn, or nil when something
// else runs the app.
func (g *Gateway) server() *supervisor {
	if g.apps == nil {
		return nil
	}
	return g.apps.current.Load().supervisor
}

// CertificateNames returns the names and addresses that the certificate in
// use covers, or nil when TLS ends elsewhere.
func (g *Gateway) CertificateNames() []string {
	c := g.certs.Load()
	if c == nil {
		return nil
	}
	return c.covers()
}

// Facts returns what the newest worker said about the app.
func (g *Gateway) Facts() guard.Facts {
	return g.factsOf(g.server())
}

func (g *Gateway) factsOf(s *supervisor) guard.Facts {
	if s == nil {
		return guard.Facts{Why: "something else runs the app: dewar cannot look inside", Server: g.upstreamServer}
	}
	if f := s.facts.Load(); f != nil {
		return *f
	}
	return guard.Facts{Why: "no worker has loaded the app yet"}
}

// Ready returns nil when requests can be answered, or says why not.
func (g *Gateway) Ready() error {
	s := g.server()
	switch {
	case g.stopping.Load():
		return errors.New("stopping")
	case s != nil && !s.up.Load():
		return errors.New("the app's server does not run")
	case !g.open.Load():
		return errors.New("starting")
	}
	if s == nil {
		if err := *g.upstream.Load(); err != nil {
			return fmt.Errorf("the upstream does not answer: %w", err)
		}
	}
	// An expired certificate is for the visitor to judge: a load balancer that
	// turned away for it would make a warning an outage.
	if k := g.certs.Load(); k != nil {
		return k.missing()
	}
	return nil
}

// Workers returns how many workers serve the app, and how many there should
// be; nothing and nothing when something else runs it.
func (g *Gateway) Workers() (serving, wanted int) {
	s := g.server()
	if s == nil {
		return 0, 0
	}
	serving, wanted, _ = s.workers()
	return serving, wanted
}

// workersEvidence says whether the app has all of its workers.
func (g *Gateway) workersEvidence(s *supervisor) evidence.Evidence {
	e := evidence.Evidence{Control: "deployment", Face: evidence.Guard, Check: "workers", Time: g.o.Now(), Outcome: evidence.Pass}
	serving, wanted, why := s.workers()
	e.Summary = fmt.Sprintf("%d of %d workers serve", serving, wanted)
	switch {
	case why != nil:
		e.Outcome, e.Summary = evidence.Fail, e.Summary+": a new one could not start: "+why.Message
		e.Fix = "mend what is on the disk: new workers try again by themselves; deploy with dewar reload --app, which takes new code into service as a whole or not at all"
	case serving == 0:
		e.Outcome, e.Fix = evidence.Fail, "see why in the output of dewar run: gunicorn is started again by itself"
	}
	return e
}

// Evidence says what is known about the connections' protection, and about the
// app's workers.
func (g *Gateway) Evidence() []evidence.Evidence {
	e := evidence.Evidence{Control: "deployment", Face: evidence.Guard, Check: "tls", Time: g.o.Now()}
	k := g.certs.Load()
	switch {
	case k == nil:
		e.Summary = "TLS ends at something in front (deployment.tls is off): the guard cannot see how well"
	case k.missing() != nil:
		e.Summary, e.Fix = "not every name is served: "+k.missing().Error(), "see what the authority wants; it is tried again by itself"
	case k.state() != nil:
		e.Outcome, e.Summary, e.Fix = evidence.Fail, "visitors are warned: "+k.state().Error(), "renew the certificate"
	default:
		e.Outcome = evidence.Pass
		e.Summary = "TLS 1.2 and 1.3 with forward secrecy, X25519MLKEM768 preferred; keys of session tickets change every eight hours; " + k.describe()
		if g.policy.Load().authority != nil {
			e.Summary += "; client certificates are verified by " + g.config().ClientCA
		}
	}
	if s := g.server(); s != nil {
		return []evidence.Evidence{e, g.workersEvidence(s)}
	}
	return []evidence.Evidence{e}
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
	g := &Gateway{o: o, serving: make(chan struct{})}
	if err := g.defaults(); err != nil {
		return err
	}
	g.cfg.Store(&g.o.Config)
	boundGarbage()
	g.base, g.cancel = context.WithCancel(context.Background())
	defer g.cancel()
	dir := g.o.StateDir
	if dir == "" {
		var err error
		if dir, err = StateDir(g.o.Dir, g.o.Environ); err != nil {
			return err
		}
	}
	claim, err := claimState(dir, g.o.Dir, g.o.Listeners.lock)
	if err != nil {
		return err
	}
	g.claim = claim
	defer func() {
		if !g.handedOver.Load() {
			claim.remove()
		}
		claim.release()
	}()

	for _, l := range g.addresses() {
		if g.o.Listeners.has(l.setting, l.spec) {
			continue
		}
		if err := tryListen(ctx, l.setting, l.spec); err != nil {
			return err
		}
	}
	certs, err := g.openCertificates(g.o.Config)
	if err != nil {
		return err
	}
	p, err := g.newPolicy(g.o.Config)
	if err != nil {
		return err
	}
	g.policy.Store(p)
	if certs != nil {
		g.certs.Store(keep(certs))
		g.o.Progress(Step{Kind: StepDone, Name: "tls", Text: certs.describe()})
	}
	first, err := g.newGeneration(ctx, g.o.App, g.o.Config)
	if err != nil {
		return err
	}
	g.apps = newApps(first)
	defer first.forwarder.Close()
	if first.supervisor != nil {
		defer first.supervisor.cleanup()
	}
	handler, err := g.o.Handler(g)
	if err != nil {
		return err
	}
	g.setHandler(handler)

	if err := g.startApp(ctx, first); err != nil {
		if ctx.Err() != nil {
			return nil // told to end while starting
		}
		return err
	}
	listeners, err := g.listen(ctx)
	if err == nil && g.o.Config.HTTP3 {
		g.quic = g.newQUIC()
		for _, l := range listeners {
			if a, ok := l.Addr().(*net.TCPAddr); ok && l.tls && err == nil {
				err = g.quic.open(g.base, a, g.o.Listeners.handedOver())
			}
		}
	}
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
		if first.supervisor != nil {
			first.supervisor.Stop(time.Duration(g.o.Config.Grace))
		}
		return err
	}

	actors := slices.Clone(o.Actors)
	if g.certs.Load() != nil {
		actors = append(actors, Actor{Name: "certificate", Run: g.keepCertificates}, Actor{Name: "tickets", Run: g.keepTickets})
	}
	if first.supervisor != nil {
		actors = append(actors, Actor{
			Name: "app", Run: g.apps.run,
			Stop: func() { g.apps.stop(time.Duration(g.config().Grace) + 2*time.Second) },
		})
	} else {
		actors = append(actors, Actor{Name: "upstream", Run: func(ctx context.Context) error {
			first.forwarder.watch(ctx, &g.upstream, g.o.Progress, 3*time.Second)
			return nil
		}})
	}
	if g.notify.watchdog > 0 {
		actors = append(actors, g.watchdogActor())
	}
	for _, name := range g.o.Listeners.rest() {
		g.o.Progress(Step{Kind: StepWarning, Name: "site", Text: "a socket was passed that no setting asks for, and is closed: " + name})
	}
	actors = append(actors, g.serve(listeners))
	err = runActors(ctx, actors)
	g.background.Wait()
	g.o.Progress(Step{Kind: StepDone, Name: "stop", Text: "stopped"})
	return err
}

// config returns the settings in force.
func (g *Gateway) config() *deployment.Config { return g.cfg.Load() }

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
	if o.Listeners == nil {
		o.Listeners = &Listeners{}
	}
	g.notify = newNotifier(environmentOf(o.Environ))
	if o.Trial == nil {
		o.Trial = o.Preflight
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	o.Dir = dir
	return settle(&o.Config, dir)
}

// settle makes the paths of c absolute and checks it.
func settle(c *deployment.Config, dir string) error {
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

// openCertificates returns where the certificate comes from under c; nil when
// TLS ends elsewhere.
func (g *Gateway) openCertificates(c deployment.Config) (certificates, error) {
	switch c.TLS {
	case "off":
		if len(c.TrustedProxy) == 0 && g.o.Profile != guard.Development {
			g.o.Progress(Step{Kind: StepWarning, Name: "tls", Text: "deployment.tls is off and no trusted-proxies are named: the app is served in clear text to everybody"})
		}
		return nil, nil
	case "local":
		if g.o.Profile != guard.Development {
			return nil, errors.New("deployment.tls = \"local\" is for --profile development: visitors do not know the authority; set certificate and key")
		}
		dir, err := LocalCADir(g.o.Environ)
		if err != nil {
			return nil, err
		}
		return newLocalCertificates(dir, c.AllowedHosts, g.o.Now, g.o.Progress)
	case "files":
		return newFileCertificates(c, g.o.Now, g.o.Progress)
	case "acme":
		return newACMECertificates(c, acmeOptions{
			now: g.o.Now, progress: g.o.Progress, environ: g.o.Environ, dir: g.o.Dir, serving: g.serving, shared: g.o.Store,
			check: g.o.CertificateCheck, httpPort: challengePort(c.ListenHTTP), tlsPort: challengePort(c.Listen),
		})
	}
	return nil, fmt.Errorf("deployment.tls: %q: write files, acme, local or off", c.TLS)
}

// newGeneration makes the way to the app; nothing is started yet.
func (g *Gateway) newGeneration(ctx context.Context, app App, cfg deployment.Config) (*generation, error) {
	fo := ForwarderOptions{Timeout: time.Duration(cfg.Timeout), Silence: time.Duration(cfg.StreamTimeout)}
	if g.o.Upstream != "" {
		f, err := NewForwarder(g.o.Upstream, fo)
		return &generation{forwarder: f}, err
	}
	n := &generation{}
	s := newSupervisor(app, cfg, g.o.Environ)
	s.progress, s.output = g.o.Progress, g.o.Output
	if g.o.OnRestart != nil {
		s.restarts = g.o.OnRestart
	}
	s.booted = func() {
		if g.o.OnWorker != nil {
			g.o.OnWorker()
		}
		// Later workers load the app anew, perhaps from changed files.
		if g.open.Load() && g.apps.current.Load() == n {
			if err := g.o.Preflight(g.factsOf(s)); err != nil {
				g.o.Progress(Step{Kind: StepWarning, Name: "app", Text: "a worker that was started later would not have passed: " + err.Error()})
			}
		}
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	f, err := NewForwarder("unix:"+s.socket, fo)
	if err != nil {
		s.cleanup()
		return nil, err
	}
	f.down = func() (bool, time.Duration) {
		if s.up.Load() {
			return false, 0
		}
		return true, max(time.Until(time.Unix(0, s.retryAt.Load())), 0) + time.Second
	}
	n.forwarder, n.supervisor = f, s
	return n, nil
}

// startApp starts gunicorn and asks the preflights.
func (g *Gateway) startApp(ctx context.Context, n *generation) error {
	s := n.supervisor
	if s == nil {
		err := n.forwarder.Check(ctx)
		g.upstream.Store(&err)
		if err != nil {
			g.o.Progress(Step{Kind: StepWarning, Name: "upstream", Text: fmt.Sprintf("%s does not answer (%v): requests get 503 until it does", g.o.Upstream, err)})
		} else {
			g.upstreamServer = n.forwarder.server(ctx)
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
	g.o.Progress(Step{Kind: StepDone, Name: "app", Text: describeApp(g.o.App, f)})
	w := workers(g.o.Config, s.env)
	g.o.Progress(Step{Kind: StepDone, Name: "workers", Text: fmt.Sprintf("%d × gunicorn %s on a private unix socket (not reachable except through the guard)", w, s.it.Gunicorn)})
	if major, _, _ := strings.Cut(s.it.Gunicorn, "."); len(major) == 2 && major < "22" {
		g.o.Progress(Step{Kind: StepWarning, Name: "workers", Text: fmt.Sprintf("gunicorn %s takes header fields with underscores and SCRIPT_NAME for its own: only the guard's request layer is between; upgrade to 23 or later", s.it.Gunicorn)})
	}
	if err := g.o.Preflight(f); err != nil {
		s.Stop(time.Duration(g.o.Config.Grace))
		return err
	}
	return nil
}

func describeApp(app App, f guard.Facts) string {
	text := fmt.Sprintf("entry %s (from %s)", app.Target, app.Source)
	if f.Known {
		text = fmt.Sprintf("Flask %s, %d routes, %s", clean(f.FlaskVersion), len(f.Routes), text)
	}
	return text
}

type openListener struct {
	net.Listener
	tls bool
}

// listen opens the public addresses.
func (g *Gateway) listen(ctx context.Context) ([]openListener, error) {
	var out []openListener
	for _, a := range g.addresses() {
		ln, err := g.o.Listeners.Listen(ctx, a.setting, a.spec)
		if err != nil {
			return out, err
		}
		g.mu.Lock()
		if a.tls || g.certs.Load() == nil {
			g.urls = append(g.urls, g.url(ln.Addr(), a.tls))
		} else {
			g.redirects = append(g.redirects, g.url(ln.Addr(), false))
		}
		g.mu.Unlock()
		out = append(out, openListener{g.strict(ln, a.tls), a.tls})
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
	if p := g.config().PublicPort; p != 0 && secure {
		port = strconv.Itoa(p)
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
		for _, n := range append(g.CertificateNames(), g.config().AllowedHosts...) {
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
func (g *Gateway) serve(listeners []openListener) Actor {
	var accepting sync.WaitGroup
	return Actor{
		Name: "listeners",
		Run: func(context.Context) error {
			g.setFront(g.newFront(*g.config()))
			failed := make(chan error, len(listeners))
			for _, l := range listeners {
				accepting.Go(func() { failed <- g.accept(l) })
			}
			g.open.Store(true)
			close(g.serving)
			for _, u := range g.URLs() {
				g.o.Progress(Step{Kind: StepReady, Name: "site", Text: g.describe(u)})
			}
			g.o.Listeners.Tell(nil)
			g.notify.send("READY=1", "STATUS=serving "+strings.Join(g.URLs(), " "))
			var first error
			for range listeners {
				if err := <-failed; err != nil && first == nil {
					first = err
					for _, l := range listeners {
						l.Close()
					}
				}
			}
			return first
		},
		Stop: func() {
			c := *g.config()
			g.stopping.Store(true)
			grace := time.Duration(c.Grace)
			if g.handedOver.Load() {
				g.o.Progress(Step{Kind: StepNote, Name: "stop", Text: fmt.Sprintf("another process serves new connections; those of this one have %s", c.Grace)})
			} else {
				g.notify.send("STOPPING=1")
				if c.Drain > 0 {
					// Load balancers see /readyz and turn away first.
					g.draining.Store(true)
					g.o.Progress(Step{Kind: StepNote, Name: "stop", Text: fmt.Sprintf("not ready any more; new connections are taken for another %s", c.Drain)})
					time.Sleep(time.Duration(c.Drain))
				}
				g.o.Progress(Step{Kind: StepNote, Name: "stop", Text: fmt.Sprintf("no new connections; running requests have %s", c.Grace)})
			}
			begin := time.Now()
			g.draining.Store(g.draining.Load() || g.handedOver.Load())
			for _, l := range listeners {
				if s, ok := l.Listener.(interface{ CloseWithin(time.Duration) error }); ok && g.handedOver.Load() {
					s.CloseWithin(grace)
				} else {
					l.Close()
				}
			}
			var wg sync.WaitGroup
			if g.quic != nil {
				most := grace
				wg.Go(func() { g.quic.stop(most) })
			}
			accepting.Wait()
			if g.handedOver.Load() {
				// The address answers, by another process: nothing is closed
				// that a client may be about to use.
				grace = max(grace-time.Since(begin), 0)
				if n := g.drain(grace); n > 0 {
					g.o.Progress(Step{Kind: StepNote, Name: "stop", Text: fmt.Sprintf("%d connections were still open after %s and are closed", n, c.Grace)})
				}
				grace = time.Second
			}
			ctx, done := context.WithTimeout(context.Background(), grace)
			defer done()
			for _, f := range g.fronts() {
				wg.Go(func() { f.shutdown(ctx) })
			}
			wg.Wait()
			g.cancel() // WebSockets, and what did not finish in time
			for _, f := range g.fronts() {
				for _, s := range f.servers() {
					_ = s.Close()
				}
			}
		},
	}
}

// describe says what a URL speaks, as far as it is settled by configuration.
func (g *Gateway) describe(u string) string {
	if g.quic != nil && !strings.HasPrefix(u, "unix:") {
		return u + "  (HTTP/1.1, 2 and 3, " + tls.VersionName(tls.VersionTLS12) + " and 1.3)"
	}
	if g.certs.Load() != nil {
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
