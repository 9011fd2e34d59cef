package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/report"
)

func (a *app) auditCommand() *cobra.Command {
	var (
		formats       = formats[*report.AuditReport]{known: report.AuditFormats, example: "sarif=dewar.sarif"}
		routes, all   bool
		writeBaseline string
		exitZero      bool
		strict        bool
		stdinName     string
		noCache       bool
		since         string
	)
	c := &cobra.Command{
		Use:   "audit [DIR|-]",
		Short: "Read the project and report where it breaks a promise",
		Long: `Audit reads the project's Python, templates, settings and manifests, and reports
where a promise is broken, with the code, the reason and the fix. It runs
nothing of the project and changes nothing.

A finding is silenced where it stands, with a reason:

    app.config["X"] = True  # dewar: ignore[DW-SETTINGS-001] only in the tests

or by a baseline file, which names findings by content and not by line.

With "-" it reads one file from standard input, by the settings of the folder
it is started in; --stdin-name says what the file is called.

With --since it still reads the whole project, and reports the findings of which
the place or any step of the trace lies on a line changed since the merge base
of the revision and HEAD. Uncommitted lines and files that git has no older
version of count as changed, and so do the lines beside deleted ones; a file
that was renamed is compared with what it was.

A project that did not change since an audit of it is read, compared by content
and not judged again: the findings are kept in $XDG_CACHE_HOME/dewar (below
~/.cache by default), for the user alone. --no-cache does without.

What could not be read or understood is always listed.` + exitHelp,
		Example: `  dewar audit
  dewar audit - --stdin-name shop/views.py < views.py
  dewar audit --format sarif=dewar.sarif --format text
  dewar audit --fail-on high
  dewar audit --since origin/main
  dewar audit --write-baseline .dewar-baseline.json
  dewar audit --routes`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			spendMemory()
			stdin := len(args) == 1 && args[0] == "-"
			if stdin {
				args = nil
			}
			dir, err := project(args)
			if err != nil {
				return err
			}
			loaded, err := a.load(dir, slices.Concat(flag(c, "fail-on", "audit.fail-on"), flag(c, "baseline", "audit.baseline"))...)
			if err != nil {
				return err
			}
			if c.Flags().Changed("since") && (stdin || routes || writeBaseline != "") {
				return errors.New("--since goes with a project's findings: not with -, --routes or --write-baseline")
			}
			outs, err := formats.outputs()
			if err != nil {
				return err
			}
			read, err := prepare(dir, loaded.Config)
			if err != nil {
				return err
			}
			if stdin {
				err = a.readStdin(read, stdinName)
			} else if routes {
				read.project, err = audit.Load(c.Context(), dir, read.options)
			}
			if err != nil {
				return interrupted(c.Context(), err)
			}
			if routes {
				return a.output(outs[0].file, func(w io.Writer) error {
					return writeRoutes(c.Context(), w, read.project, outs[0].Name == "json", nil)
				})
			}
			var cache *audit.Cache
			if !noCache && !stdin {
				cache = a.cache()
			}
			hide := func() {}
			if a.wantsProgress() {
				tick := time.NewTicker(100 * time.Millisecond)
				p := startProgress(a.stderr, tick.C)
				read.options.Progress = p.tell
				hide = func() { tick.Stop(); p.finish() }
			}
			res, err := promptly(c.Context(), func() (*audit.Result, error) { return read.judge(c.Context(), cache) })
			hide()
			if err != nil {
				return interrupted(c.Context(), err)
			}
			var limit *report.Since
			if c.Flags().Changed("since") {
				ch, err := audit.Since(c.Context(), dir, since, read.tree.File, read.tree.Names())
				if err != nil {
					return interrupted(c.Context(), err)
				}
				limit = &report.Since{Revision: ch.Revision, Base: ch.Base, Elsewhere: res.Only(ch)}
			}
			if writeBaseline != "" {
				return a.saveBaseline(writeBaseline, res)
			}
			r := read.report(res, loaded)
			r.All, r.Since = all, limit
			failing := res.Failing(loaded.Config.Audit.FailOn)
			switch {
			case len(failing) > 0 && !exitZero:
				r.Exit = exitFindings
			case strict && len(r.Skipped)+len(r.NotUnderstood)+len(r.Unproven) > 0:
				r.Exit = exitIncomplete
			}
			if err := write(a, outs, r); err != nil {
				return err
			}
			if r.Exit != exitOK {
				return exitStatus(r.Exit)
			}
			return nil
		},
	}
	formats.register(c)
	f := c.Flags()
	f.BoolVar(&routes, "routes", false, "print the route map instead of findings")
	f.BoolVar(&all, "all", false, "show hints and suppressed findings in full")
	f.String("fail-on", "", "`severity` from which findings fail: low, medium, high, critical or never (default medium)")
	f.String("baseline", "", "`file` of known findings not to report again")
	f.StringVar(&writeBaseline, "write-baseline", "", "write the findings of now to `file` as the baseline")
	f.StringVar(&stdinName, "stdin-name", "stdin.py", "`path` that a file from standard input is taken to have")
	f.StringVar(&since, "since", "", "report only findings on lines changed since the branch left `revision`")
	f.BoolVar(&noCache, "no-cache", false, "find everything anew, and keep nothing for the next run")
	f.BoolVar(&exitZero, "exit-zero", false, "end with 0 whatever is found")
	f.BoolVar(&strict, "strict", false, "end with 3 when something was not read or not understood")
	_ = c.RegisterFlagCompletionFunc("fail-on", words("low", "medium", "high", "critical", "never"))
	return c
}

// reading is a project that has been read and is ready to be judged.
type reading struct {
	dir     string
	project *audit.Project // nil if the result came from a tree
	tree    *audit.Tree
	rules   []*audit.Rule
	options audit.Options
}

// judge runs the rules over the project, or over the tree in dir that the
// cache may know.
func (r *reading) judge(ctx context.Context, c *audit.Cache) (*audit.Result, error) {
	if r.project != nil {
		return audit.Run(ctx, r.project, r.rules, r.options), ctx.Err()
	}
	r.options.Flow = true
	var err error
	if r.tree, err = audit.Open(ctx, r.dir, r.options); err != nil {
		return nil, err
	}
	res, err := c.Run(ctx, r.tree, r.rules, r.options)
	return res, cmp.Or(err, ctx.Err())
}

// source returns the text of a file that was judged; nil if there is none.
func (r *reading) source(file string) []byte {
	if r.project == nil {
		return r.tree.File(file)
	}
	if f := r.project.File(file); f != nil {
		return f.Data
	}
	return nil
}

// promptly calls f, and waits for it no longer than a moment after ctx ended:
// who presses ctrl-C does not want to see a rule through.
func promptly[T any](ctx context.Context, f func() (T, error)) (out T, err error) {
	done := make(chan struct{})
	var got T
	var failed error
	go func() {
		defer close(done)
		got, failed = f()
	}()
	select {
	case <-done:
		return got, failed
	case <-ctx.Done():
	}
	select {
	case <-done:
		return got, cmp.Or(failed, ctx.Err())
	case <-time.After(300 * time.Millisecond):
		return out, ctx.Err()
	}
}

// interrupted says what an error means once ctx has ended.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// cache returns the user's cache of findings; nil where the environment names
// no place for it, or the program cannot tell itself from another.
func (a *app) cache() *audit.Cache {
	dir := a.cacheDir()
	if dir == "" {
		return nil
	}
	note := func(s string) { fmt.Fprintf(a.stderr, "dewar: note: %s\n", s) }
	id, err := audit.ProgramID()
	if err != nil {
		note("the cache is not used: " + err.Error())
		return nil
	}
	return &audit.Cache{Dir: dir, Program: id, Note: note}
}

// cacheDir is os.UserCacheDir by the environment given, and "dewar" in it.
func (a *app) cacheDir() string {
	env := map[string]string{}
	for _, kv := range a.environ {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	base := env["XDG_CACHE_HOME"]
	if !filepath.IsAbs(base) { // the specification: ignore it then
		switch home := env["HOME"]; {
		case runtime.GOOS == "windows":
			base = env["LocalAppData"]
		case home == "":
			return ""
		case runtime.GOOS == "darwin":
			base = filepath.Join(home, "Library", "Caches")
		default:
			base = filepath.Join(home, ".cache")
		}
	}
	if !filepath.IsAbs(base) {
		return ""
	}
	return filepath.Join(base, "dewar")
}

func readProject(ctx context.Context, dir string, cfg *catalog.Config) (*reading, error) {
	r, err := prepare(dir, cfg)
	if err != nil {
		return nil, err
	}
	r.options.Flow = true
	r.project, err = audit.Load(ctx, dir, r.options)
	return r, err
}

// spendMemory trades memory for time: an audit ends after seconds, and half of
// them would go to the garbage collector. The limit is soft and keeps a large
// project below what a small CI machine has.
func spendMemory() {
	debug.SetGCPercent(1000)
	debug.SetMemoryLimit(1100 << 20)
}

// readStdin reads one file of a project from standard input.
func (a *app) readStdin(r *reading, name string) error {
	name = filepath.ToSlash(filepath.Clean(name))
	if !fs.ValidPath(name) || name == "." {
		return fmt.Errorf("--stdin-name: %q is no path below the project: write one such as shop/views.py", name)
	}
	limit := cmp.Or(r.options.MaxFileSize, audit.DefaultMaxFileSize)
	data, err := io.ReadAll(io.LimitReader(a.stdin, limit+1))
	if err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	if int64(len(data)) > limit {
		return fmt.Errorf("standard input has more than %d bytes: raise audit.max-file in dewar.toml, or audit the folder", limit)
	}
	r.project = audit.InMemory(map[string][]byte{name: data})
	return nil
}

// prepare picks the rules and the options by the settings, and reads nothing
// but the baseline.
func prepare(dir string, cfg *catalog.Config) (*reading, error) {
	r := &reading{dir: dir}
	all := catalog.Rules()
	var ids []string
	for _, k := range all {
		ids = append(ids, k.ID)
		if !slices.Contains(cfg.Audit.Disable, k.ID) {
			r.rules = append(r.rules, k)
		}
	}
	for _, id := range cfg.Audit.Disable {
		if !slices.Contains(ids, id) {
			return nil, &catalog.ConfigError{Problems: []string{fmt.Sprintf("audit.disable: there is no rule %q%s", id, catalog.Suggest(id))}}
		}
	}
	r.options = audit.Options{Exclude: cfg.Audit.Exclude, MaxFileSize: int64(cfg.Audit.MaxFile), KnownRules: ids}
	if name := cfg.Audit.Baseline; name != "" {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the baseline %s does not exist: make it with \"dewar audit --write-baseline %s\"", name, cfg.Audit.Baseline)
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if r.options.Baseline, err = audit.ReadBaseline(f, name); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// report fits a result for the formats.
func (r *reading) report(res *audit.Result, loaded *catalog.Loaded) *report.AuditReport {
	out := &report.AuditReport{
		Version: version, App: appName(r.dir, loaded.Config), Profile: string(loaded.Config.Profile),
		Findings: audit.Grouped(res.Findings), Suppressed: audit.Grouped(res.Suppressed), Rules: r.rules,
		Source: r.source, Cached: res.Cached,
		Files: res.Stats.Files, Lines: res.Stats.Lines, Routes: res.Stats.Routes, Duration: res.Stats.Duration,
		FailOn: failOnText(loaded.Config.Audit.FailOn), Base: workspacePath(r.dir),
		Fails: func(f audit.Finding) bool { return loaded.Config.Audit.FailOn.Reached(&f) },
	}
	if loaded.File != "" {
		out.Config = filepath.Base(loaded.File)
	}
	for _, s := range res.Skips {
		if !s.Routine {
			out.Skipped = append(out.Skipped, report.Note{Place: s.Path, Text: s.Reason, File: s.Path})
		}
	}
	for _, n := range res.NotUnderstood {
		out.NotUnderstood = append(out.NotUnderstood, report.Note{Place: spanText(n.Span), Text: n.Message, File: n.Span.File, Line: n.Span.Line})
	}
	for _, o := range res.Outcomes {
		if o.Outcome.String() == "error" {
			out.Unproven = append(out.Unproven, report.Note{Place: o.Rule.ID, Text: o.Reason})
		}
	}
	for _, n := range res.Notices {
		out.NotUnderstood = append(out.NotUnderstood, report.Note{Place: cmp.Or(spanText(n.Span), "baseline"), Text: n.Message + ": " + n.Fix, File: n.Span.File, Line: n.Span.Line})
	}
	return out
}

// workspacePath is the project's folder relative to where the build runs, ""
// if it is that or lies elsewhere.
func workspacePath(dir string) string {
	here := os.Getenv("GITHUB_WORKSPACE")
	if here == "" {
		here = "."
	}
	from, err := filepath.Abs(here)
	if err != nil {
		return ""
	}
	to, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	rel, err := filepath.Rel(from, to)
	if err != nil || rel == "." || !filepath.IsLocal(rel) {
		return ""
	}
	return filepath.ToSlash(rel)
}

func spanText(s audit.Span) string {
	if s.File == "" || s.Line == 0 {
		return s.File
	}
	return fmt.Sprintf("%s:%d:%d", s.File, s.Line, s.Column)
}

func failOnText(t audit.FailOn) string {
	if t.Never {
		return "nothing"
	}
	return t.String() + " and above"
}

func appName(dir string, cfg *catalog.Config) string { return cmp.Or(cfg.App.Name, filepath.Base(dir)) }

func (a *app) saveBaseline(name string, res *audit.Result) error {
	b := res.Baseline()
	if err := a.output(name, b.Write); err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "dewar: %d findings in %s; set audit.baseline = %q to use it\n", len(b.Entries), name, name)
	return nil
}
