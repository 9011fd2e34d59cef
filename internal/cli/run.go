package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/spf13/cobra"

	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/console"
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/control/monitoring"
	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/gateway"
	"github.com/dewar-security/dewar/internal/guard"
)

func (a *app) runCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "run [DIR]",
		Short: "Run the app under gunicorn behind the guard",
		Long: `Run finds the Flask app as flask does, starts it under gunicorn on a private unix
socket, looks at it before the first request is let in, and serves it over HTTPS
through the guard's layers. With --upstream it guards an app that something else
runs.

In production it refuses to start with debug mode on, with a weak SECRET_KEY or
on a development server; --profile development relaxes that and says so.

Ctrl-C or SIGTERM ends it in good order: nothing new is accepted, running
requests finish, gunicorn ends. Settings, certificates and rule files are read
again when they change (deployment.watch) and by "dewar reload"; SIGHUP does that
and loads the app's code anew, beside the old until that has finished. SIGUSR2 or
"dewar upgrade" starts a new version of dewar, which takes over the listening
sockets. Sockets and notifications of systemd are understood.` + exitHelp,
		Example: `  dewar run --profile development
  dewar run --app 'shop:create_app("prod")'
  dewar run --upstream http://127.0.0.1:8000
  dewar run --set csrf.mode=observe --set injection.mode=off`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := project(args)
			if err != nil {
				return err
			}
			var more []catalog.Flag
			for name, key := range map[string]string{"app": "app.target", "upstream": "app.upstream", "listen": "deployment.listen", "listen-http": "deployment.listen-http", "log": "monitoring.log"} {
				more = append(more, flag(c, name, key)...)
			}
			sort.Slice(more, func(i, j int) bool { return more[i].Key < more[j].Key })
			listeners, err := gateway.Inherit(a.environ)
			if err != nil {
				return err
			}
			err = a.run(c.Context(), dir, listeners, func() (*catalog.Loaded, error) { return a.load(dir, more...) })
			if err != nil {
				listeners.Tell(err) // whoever hands over goes on
			} else {
				listeners.Tell(errors.New("it was told to end while starting"))
			}
			return err
		},
	}
	f := c.Flags()
	f.String("app", "", "the WSGI app as `module:name`, when it is not found by itself")
	f.String("upstream", "", "`URL` of an app that something else runs")
	f.String("listen", "", "`address` for HTTPS, such as :443; commas between several")
	f.String("listen-http", "", "`address` that redirects HTTP to HTTPS")
	f.String("log", "", "`file` for the security log (default stderr)")
	return c
}

// guardRun is one running guard: what the console and the chain share.
type guardRun struct {
	a       *app
	dir     string
	load    func() (*catalog.Loaded, error)
	bus     *event.Bus
	metrics *console.Metrics
	// chainOf makes a chain from settings.
	chainOf  func(*gateway.Gateway, *catalog.Config) (*guard.Chain, []guard.Bound, error)
	selfTest error
	policy   *sourcePolicy
	store    *sharedStore
	known    sync.Once // the policy was waited for
	ctx      context.Context
	read     gateway.Stamps // of the files the settings depend on, at the start
	// reloading is held while settings are changed.
	reloading sync.Mutex
	// handedOver is closed when another process serves in this one's place.
	handedOver chan struct{}

	mu         sync.Mutex
	loaded     *catalog.Loaded // in force
	chain      *guard.Chain
	gw         *gateway.Gateway
	preflights []evidence.Evidence
	last       reloaded // the last reload
	since      time.Time
}

// settings returns what is in force.
func (r *guardRun) settings() *catalog.Loaded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.loaded
}

func (a *app) run(ctx context.Context, dir string, listeners *gateway.Listeners, load func() (*catalog.Loaded, error)) error {
	loaded, err := load()
	if err != nil {
		return err
	}
	// Before anything is made of them: what changes from now on is seen.
	read := gateway.StampFiles(loaded.Files(dir))
	cfg := loaded.Config
	out := a.progress()
	fmt.Fprintf(a.stderr, "%s %s guard   profile %s\n", out.name("dewar"), version, cfg.Profile)

	bus, err := monitoring.Open(cfg.Monitoring, a.stdout, a.stderr)
	if err != nil {
		return err
	}
	defer bus.Close()
	r := &guardRun{a: a, handedOver: make(chan struct{}), ctx: ctx, dir: dir, load: load, loaded: loaded, since: time.Now(), read: read, bus: bus, selfTest: monitoring.SelfTest(cfg.Monitoring)}
	if r.selfTest != nil {
		return fmt.Errorf("the security log would leak: %w", r.selfTest)
	}
	// The app's own log may hold what ours must not: reset links in gunicorn's
	// access log, values in a traceback.
	redact := event.NewRedactor(cfg.Monitoring.Redact...)
	probeKey, consoleToken := console.NewToken(), console.NewToken()
	shared, err := a.openStore(ctx, loaded, dir, listeners, bus.Publish)
	if err != nil {
		return err
	}
	defer shared.Close()
	r.store = shared

	if r.policy, err = a.startPolicy(ctx, dir, cfg); err != nil {
		return located(loaded, err)
	}

	opts := gateway.Options{
		Dir: dir, Profile: cfg.Profile, Config: cfg.Deployment, Upstream: cfg.App.Upstream, Environ: a.environ,
		ProbeKey: probeKey, ConsoleToken: consoleToken,
		Progress:  func(s gateway.Step) { out.step(s) },
		Output:    func(line string) { out.app(redact.Line(line)) },
		Preflight: r.preflight, Trial: r.trial,
		Listeners: listeners, Command: a.command, Store: shared.nodes(),
	}
	if opts.Upstream == "" {
		if opts.App, err = r.findApp(loaded); err != nil {
			return err
		}
	}
	var specs []*guard.Spec
	for _, l := range catalog.Layers {
		specs = append(specs, l.Spec)
	}
	metrics := console.NewMetrics(version, specs, bus.Lost)
	r.metrics = metrics
	if shared.resilient != nil {
		metrics.Store(shared.resilient.Status)
	}
	r.chainOf = func(g *gateway.Gateway, cfg *catalog.Config) (*guard.Chain, []guard.Bound, error) {
		cfg = withSharedSecrets(cfg)
		env := guard.Env{Profile: cfg.Profile, Store: shared.Store, Now: time.Now, CertificateNames: g.CertificateNames, Facts: g.Facts, Policy: r.policy.current, Publish: bus.Publish,
			DataDir: func() (string, error) { return gateway.DataDir(dir, a.environ) },
			Secret: func(ref string) (guard.Secret, error) {
				s, err := deployment.Secret(ref, a.environ, dir)
				return guard.NewSecret(s), err
			},
		}
		bound, err := catalog.Bind(cfg, env)
		if err != nil {
			return nil, nil, err
		}
		chain, err := guard.NewChain(guard.Options{
			Layers: bound, Overrides: cfg.Routes, Forward: g.Forwarder(), Publish: bus.Publish, Now: time.Now,
			ProbeKey: []byte(probeKey), LogAllowed: cfg.Monitoring.Requests, Metrics: metrics,
			Spool: guard.NewSpool(cfg.Uploads.Memory, cfg.Uploads.Disk),
		})
		return chain, bound, err
	}
	metrics.Workers(func() (int, int) {
		r.mu.Lock()
		g := r.gw
		r.mu.Unlock()
		if g == nil {
			return 0, 0
		}
		return g.Workers()
	})
	opts.OnWorker, opts.OnConnectionError = metrics.WorkerStarted, func(string) { metrics.ConnectionError() }
	opts.OnConnectionRefused = func(client netip.Addr, reason, detail string) {
		bus.Publish(event.Event{
			Name: "excess_rate_limit_exceeded", Severity: event.High, Control: "deployment", Layer: "request", Verdict: guard.Deny.String(),
			Reason: reason, Detail: detail, Client: client,
		})
	}
	opts.OnRestart = func() {
		metrics.Restarted()
		bus.Publish(event.Event{Name: "sys_restart", Severity: event.High, Message: "gunicorn ended and was started again", Control: "deployment"})
	}
	var consoleURL string
	if cfg.Deployment.Console != "" {
		cons, err := console.Listen(ctx, console.Options{
			Address: cfg.Deployment.Console, Token: consoleToken, Ready: r.ready, Metrics: metrics, Events: r.events, Layers: r.health,
			Checklist: func(context.Context) (any, error) { return r.checklist(), nil },
			Evidence:  func(context.Context) (any, error) { return r.evidence(), nil },
			Listeners: listeners,
			Operate:   r.operate,
			Upgrade:   func(ctx context.Context) (any, error) { return r.upgrade(ctx, "dewar upgrade"), nil },
			Reload:    func(ctx context.Context, app bool) (any, error) { return r.reload(ctx, "dewar reload", app), nil },
		})
		if err != nil {
			return err
		}
		defer cons.Close()
		opts.OnHandOver = func(int) { cons.HandOver() }
		consoleURL = cons.URL()
		opts.Console = consoleURL
		opts.Actors = append(opts.Actors, cons.Actor())
	}
	opts.Handler = func(g *gateway.Gateway) (http.Handler, error) {
		chain, bound, err := r.chainOf(g, cfg)
		if err != nil {
			return nil, located(loaded, err)
		}
		r.mu.Lock()
		r.gw, r.chain = g, chain
		r.mu.Unlock()
		out.step(gateway.Step{Kind: gateway.StepDone, Name: "layers", Text: layersText(bound, cfg.Routes)})
		out.step(gateway.Step{Kind: gateway.StepDone, Name: "store", Text: shared.what})
		out.step(gateway.Step{Kind: gateway.StepDone, Name: "log", Text: cfg.Monitoring.Log + " · redaction tested with canaries"})
		if consoleURL != "" {
			out.step(gateway.Step{Kind: gateway.StepDone, Name: "console", Text: consoleURL + " · /healthz /readyz /metrics /checklist"})
		}
		return chain, nil
	}
	opts.Actors = append(opts.Actors, gateway.Actor{Name: "reload", Run: r.watch})
	bus.Publish(event.Event{Time: time.Now(), Name: "sys_startup", Severity: event.Info, Message: "the guard starts", Control: "monitoring", Attributes: map[string]string{"version": version, "profile": string(cfg.Profile)}})
	err = gateway.Run(ctx, opts)
	msg := "the guard stopped"
	if err != nil {
		msg = "the guard ended with an error"
	}
	bus.Publish(event.Event{Time: time.Now(), Name: "sys_shutdown", Severity: event.Info, Message: msg, Control: "monitoring"})
	return err
}

// findApp looks for the app under the settings given.
func (r *guardRun) findApp(l *catalog.Loaded) (gateway.App, error) {
	cfg, origin := l.Config, ""
	if cfg.App.Target != "" {
		origin = l.Origin("app.target").String()
	}
	return gateway.FindApp(r.dir, gateway.AppOptions{Target: cfg.App.Target, TargetSource: origin, Python: cfg.App.Python, Environ: r.a.environ, Profile: cfg.Profile})
}

// preflight judges the app before the first request, and again when a later
// worker says something else.
func (r *guardRun) preflight(f guard.Facts) error {
	r.known.Do(func() { r.policy.wait(r.ctx, r.a.progress()) })
	profile := r.settings().Config.Profile
	refusals, warnings, ev := guard.RunPreflights(profile, f, catalog.Preflights())
	r.mu.Lock()
	r.preflights = ev
	r.mu.Unlock()
	for _, w := range warnings {
		r.a.progress().step(gateway.Step{Kind: gateway.StepWarning, Name: "relaxed", Text: fmt.Sprintf("%s: %s (production refuses to start)", w.Preflight.Name, w.Problem)})
	}
	return refused("refusing to start in profile "+string(profile), refusals)
}

// trial judges an app that was loaded anew, before it gets a request.
func (r *guardRun) trial(f guard.Facts) error {
	profile := r.settings().Config.Profile
	refusals, _, _ := guard.RunPreflights(profile, f, catalog.Preflights())
	return refused("the app as it is now would not start in profile "+string(profile), refusals)
}

func refused(what string, refusals []guard.PreflightResult) error {
	if len(refusals) == 0 {
		return nil
	}
	var b strings.Builder
	b.WriteString(what + ":")
	for _, p := range refusals {
		fmt.Fprintf(&b, "\n  ✗ %s: %s\n    fix: %s", p.Preflight.Name, p.Problem, p.Preflight.Fix)
	}
	b.WriteString("\n  while developing: dewar run --profile development")
	return errors.New(b.String())
}

func (r *guardRun) ready() error {
	r.mu.Lock()
	g := r.gw
	r.mu.Unlock()
	if g == nil {
		return errors.New("starting")
	}
	return g.Ready()
}

// evidence is what the guard can say about the promises now.
func (r *guardRun) evidence() []evidence.Evidence {
	r.mu.Lock()
	chain, pre, last, loaded, g := r.chain, r.preflights, r.last, r.loaded, r.gw
	r.mu.Unlock()
	out := append([]evidence.Evidence(nil), pre...)
	if chain != nil {
		out = append(out, chain.Evidence()...)
	}
	if g != nil {
		out = append(out, g.Evidence()...)
	}
	out = append(out, last.evidence(time.Now()), r.policy.evidence(time.Now()), r.store.evidence(time.Now()))
	return append(out, monitoring.Evidence(loaded.Config.Monitoring, r.bus, r.selfTest, time.Now()))
}

func (r *guardRun) checklist() *control.Checklist {
	return control.Fold(catalog.All, r.evidence(), time.Now())
}

// events returns the latest n events, the newest first.
func (r *guardRun) events(n int) []event.Event {
	all := r.bus.Recent()
	slices.Reverse(all)
	return all[:min(n, len(all))]
}

// health returns the state of every layer.
func (r *guardRun) health() map[string]error {
	r.mu.Lock()
	chain := r.chain
	r.mu.Unlock()
	if chain == nil {
		return nil
	}
	health := chain.Health()
	health["store"] = r.store.health()
	return health
}

func layersText(bound []guard.Bound, routes []guard.Override) string {
	var enforce, observe, off []string
	for _, b := range bound {
		switch b.Mode {
		case guard.Observe:
			observe = append(observe, b.Spec.Name)
		case guard.Off:
			off = append(off, b.Spec.Name)
		default:
			enforce = append(enforce, b.Spec.Name)
		}
	}
	s := fmt.Sprintf("%d enforcing", len(enforce))
	if len(observe) > 0 {
		s += fmt.Sprintf(", %d observing (%s)", len(observe), strings.Join(observe, ", "))
	}
	if len(off) > 0 {
		s += fmt.Sprintf(", %d off (%s)", len(off), strings.Join(off, ", "))
	}
	if n := len(routes); n > 0 {
		s += fmt.Sprintf(", %d route exceptions", n)
	}
	return s
}

// progress writes the lines of a start. Several goroutines may use it.
type progress struct {
	w      io.Writer
	colour bool
	mu     *sync.Mutex
}

var progressMu sync.Mutex

func (a *app) progress() *progress {
	return &progress{w: a.stderr, colour: a.screen(a.stderr).Colour, mu: &progressMu}
}

func (p *progress) name(s string) string { return p.paint("#41b7e6", s) }

func (p *progress) paint(colour, s string) string {
	if !p.colour {
		return s
	}
	return lipgloss.NewStyle().Foreground(lipgloss.Color(colour)).Render(s)
}

func (p *progress) step(s gateway.Step) {
	mark := p.paint("#46c768", "✓")
	switch s.Kind {
	case gateway.StepReady:
		mark = p.paint("#41b7e6", "➜")
	case gateway.StepNote:
		mark = "·"
	case gateway.StepWarning:
		mark = p.paint("#e3a72f", "!")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "  %s %-11s %s\n", mark, s.Name, strings.ReplaceAll(s.Text, "\n", "\n                "))
}

// app prints a line of the app's or gunicorn's own log. What an app writes
// must not drive the terminal (CWE-150).
func (p *progress) app(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "    app │ %s\n", strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, line))
}
