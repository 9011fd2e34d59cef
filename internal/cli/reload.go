package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/gateway"
)

func (a *app) reloadCommand() *cobra.Command {
	var code bool
	c := &cobra.Command{
		Use:   "reload [DIR]",
		Short: "Let the running guard read its settings again, without dropping a request",
		Long: `Reload tells the guard that runs for the project to read its settings,
certificates and rule files again. All of it comes into force or nothing: what
cannot be used is reported with file, line and key, and the guard goes on as it
was. Settings that only a restart can change are listed.

With --app the app's code is loaded anew as well: a second gunicorn starts beside
the first, must load the app and pass the preflights, and gets all new requests;
the first ends when its requests have. For that long the app takes twice its
memory. SIGHUP to "dewar run" does the same as reload --app.

It ends with 1 when the new settings or the app were not taken.` + exitHelp,
		Example: `  dewar reload
  dewar reload --app`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := project(args)
			if err != nil {
				return err
			}
			return a.reload(c.Context(), dir, code)
		},
	}
	c.Flags().BoolVar(&code, "app", false, "load the app's code anew, too")
	return c
}

// reload asks the running guard over its console.
func (a *app) reload(ctx context.Context, dir string, code bool) error {
	state, err := a.running(dir)
	if err != nil {
		return err
	}
	if state.Console == "" {
		return fmt.Errorf("the guard runs (process %d) without a console (deployment.console): kill -HUP %d reloads settings and app; what came of it is in its output", state.PID, state.PID)
	}
	path := "/reload"
	if code {
		path += "?app=1"
	}
	var r reloaded
	if err := askConsole(ctx, state, http.MethodPost, path, 5*time.Minute, &r); err != nil {
		return err
	}
	r.print(a.stdout)
	if r.Error != "" {
		return exitStatus(exitFindings)
	}
	return nil
}

// reloaded says what came of a reload. The zero value is none at all.
type reloaded struct {
	Time time.Time `json:"time"`
	// By says what asked for it: SIGHUP, dewar reload, a file.
	By string `json:"by"`
	// Error is empty when everything is in force.
	Error string `json:"error,omitempty"`
	// Changed are the settings that have another value now, Waiting those
	// that wait for a restart.
	Changed []catalog.Changed `json:"changed,omitempty"`
	Waiting []catalog.Changed `json:"waiting,omitempty"`
	// App is set when the app was loaded anew.
	App  bool          `json:"app,omitempty"`
	Took time.Duration `json:"took"`
	// Since is when what is in force came into force.
	Since time.Time `json:"since"`
	// notNow: nothing was looked at.
	notNow bool
}

func (r reloaded) print(w io.Writer) {
	if r.Error != "" {
		fmt.Fprintf(w, "not reloaded: %s\nwhat came into force at %s stays in force\n", r.Error, r.Since.Format(time.DateTime))
		return
	}
	what := "settings, certificates and rule files"
	if r.App {
		what += " and the app"
	}
	fmt.Fprintf(w, "reloaded %s in %s\n", what, r.Took.Round(time.Millisecond))
	for _, c := range r.Changed {
		fmt.Fprintf(w, "  changed  %s\n", c)
	}
	for _, c := range r.Waiting {
		fmt.Fprintf(w, "  waits for a restart: %s\n", c)
	}
}

// evidence says what is in force and what is not.
func (r reloaded) evidence(now time.Time) evidence.Evidence {
	e := evidence.Evidence{Control: "deployment", Face: evidence.Guard, Check: "reload", Time: now}
	switch {
	case r.Error != "":
		e.Summary = fmt.Sprintf("new settings were not taken at %s (%s): %s; what came into force at %s stays in force", r.Time.Format(time.TimeOnly), r.By, r.Error, r.Since.Format(time.DateTime))
		e.Fix = "mend what is named there, then dewar reload"
	case len(r.Waiting) > 0:
		var names []string
		for _, c := range r.Waiting {
			names = append(names, c.String())
		}
		e.Summary = "settings wait for a restart: " + strings.Join(names, ", ")
		e.Fix = "restart the guard"
	case r.Time.IsZero():
		e.Outcome, e.Summary = evidence.Pass, "the settings in force are those of the start"
	default:
		e.Outcome = evidence.Pass
		e.Summary = fmt.Sprintf("the settings in force were read at %s (%s), without a restart", r.Time.Format(time.DateTime), r.By)
	}
	return e
}

// reload reads the settings again and puts them into force, all or nothing;
// with code the app is loaded anew, too. What came of it is also kept for the
// evidence, printed and published.
func (r *guardRun) reload(ctx context.Context, by string, code bool) reloaded {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	r.mu.Lock()
	g := r.gw
	r.mu.Unlock()
	if g != nil {
		defer g.Reloading()()
	}
	begin := time.Now()
	out := reloaded{Time: begin, By: by, App: code}
	err := r.change(ctx, code, &out)
	out.Took = time.Since(begin)
	if errors.Is(err, gateway.ErrNotNow) {
		out.Error, out.notNow = err.Error(), true
		return out
	}
	r.mu.Lock()
	out.Since = begin
	if err != nil {
		out.Error, out.Changed, out.Waiting, out.App = err.Error(), nil, nil, false
		out.Since = r.since
	} else {
		r.since = begin
	}
	r.last = out
	r.mu.Unlock()

	step := gateway.Step{Kind: gateway.StepDone, Name: "reload"}
	e := event.Event{Time: begin, Name: "dewar_reload", Severity: event.Info, Control: "deployment", Message: "settings were read again: " + by}
	var text strings.Builder
	out.print(&text)
	step.Text = strings.TrimSpace(text.String()) + " (" + by + ")"
	if err != nil {
		step.Kind = gateway.StepWarning
		e.Severity, e.Message = event.High, "new settings could not be taken, the old stay in force: "+by
		e.Detail = out.Error
	}
	r.a.progress().step(step)
	r.bus.Publish(e)
	return out
}

func (r *guardRun) change(ctx context.Context, code bool, out *reloaded) error {
	loaded, err := r.load()
	if err != nil {
		return err
	}
	r.mu.Lock()
	old, g := r.loaded, r.gw
	r.mu.Unlock()
	if g == nil {
		return gateway.ErrNotNow
	}
	out.Changed, out.Waiting = loaded.Replace(old)
	c := gateway.Change{Config: loaded.Config.Deployment}
	if code && loaded.Config.App.Upstream == "" {
		app, err := r.findApp(loaded)
		if err != nil {
			return err
		}
		c.App = &app
	}
	chain, _, err := r.chainOf(g, loaded.Config)
	if err != nil {
		return located(loaded, err)
	}
	c.Handler = chain
	back := func() {}
	if c.App != nil {
		back = r.policy.outdate()
	}
	if err := g.Change(ctx, c); err != nil {
		back()
		_ = chain.Close()
		return located(loaded, err)
	}
	if c.App != nil {
		// The code is new: so may be what it reads.
		r.policy.renew(ctx, r.a, r.dir)
	}
	r.mu.Lock()
	r.loaded, r.chain = loaded, chain
	r.mu.Unlock()
	return nil
}

var settingName = regexp.MustCompile(`\[\[route\]\]|\b[a-z-]+(\.[a-z-]+)+`)

// located puts the place of the setting that an error names before it, if the
// setting stands in a file.
func located(l *catalog.Loaded, err error) error {
	for _, name := range settingName.FindAllString(err.Error(), -1) {
		if name == "[[route]]" {
			name = "route"
		}
		if o := l.Origin(name); o.Kind == "file" {
			return fmt.Errorf("%s: %w", o, err)
		}
	}
	return err
}

// watchEvery is how often files are looked at.
const watchEvery = 2 * time.Second

// watch reloads on SIGHUP and when a file of the settings has changed, and
// upgrades on SIGUSR2. It returns when another process has taken over.
func (r *guardRun) watch(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	usr2 := make(chan os.Signal, 1)
	signal.Notify(usr2, syscall.SIGUSR2)
	defer signal.Stop(usr2)
	onTerminal := false
	f, isFile := r.a.stderr.(*os.File)
	if isFile {
		onTerminal = term.IsTerminal(f.Fd())
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	seen := r.read.Of(r.settings().Files(r.dir))
	before := seen
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.handedOver:
			return nil
		case <-usr2:
			r.upgrade(ctx, "SIGUSR2")
		case <-hup:
			if onTerminal && !term.IsTerminal(f.Fd()) {
				return nil // the terminal is gone: that is what the signal was about
			}
			r.reload(ctx, "SIGHUP", true)
			seen = gateway.StampFiles(r.settings().Files(r.dir))
			before = seen
		case <-tick.C:
			l := r.settings()
			now := gateway.StampFiles(l.Files(r.dir))
			changed := now.Changed(seen)
			// Not while somebody is still writing: two looks must agree.
			still := len(now.Changed(before)) == 0
			before = now
			if len(changed) == 0 || !still || !l.Config.Deployment.Watch {
				continue
			}
			if out := r.reload(ctx, strings.Join(changed, ", ")+" changed", false); out.notNow {
				continue
			}
			// New settings may name other files.
			seen = now.Of(r.settings().Files(r.dir))
			before = seen
		}
	}
}

// askConsole asks the guard's private listener and decodes its JSON answer.
func askConsole(ctx context.Context, s gateway.State, method, path string, most time.Duration, into any) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	base := s.Console
	transport := consoleTransport(&base)
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(base, "/")+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.ConsoleToken)
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
		return fmt.Errorf("the console answered %s: %s", res.Status, strings.TrimSpace(string(b)))
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 16<<20)).Decode(into); err != nil {
		return fmt.Errorf("the console's answer: %w", err)
	}
	return nil
}
