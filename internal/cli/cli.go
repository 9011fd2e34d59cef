// Package cli is the command line: flags in, one call, text and an exit
// status out. It holds no logic of its own beyond joining the packages below.
//
// [Main] takes arguments and streams, so that a test runs the whole program.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/report"
)

// version is set by the linker.
var version = "unknown"

// The exit statuses of every command.
const (
	exitOK         = 0
	exitFindings   = 1
	exitError      = 2
	exitIncomplete = 3
)

// exitStatus is an error that only carries a status: everything has been said.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// errInterrupted ends a command that was told to stop before it had looked at
// everything.
var errInterrupted = errors.New("interrupted: not everything was looked at, so nothing is reported")

const exitHelp = `
Exit status:
  0  clean: nothing to say, or nothing at or above the threshold
  1  findings at or above the threshold, or a promise that fails
  2  wrong usage, wrong settings, or something Dewar needs is missing
  3  incomplete: with --strict, a file was skipped or not understood`

// app is one invocation: its streams and what the global flags say.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
	// command is how this program is started again; nil in a test.
	command []string

	// self is the path of this program; empty in tests, which run in another.
	self string

	configFile string
	profile    string
	sets       []string
	color      string
}

// Main runs dewar and returns its exit status.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		// The first signal asks for an orderly end, the second one for any.
		<-ctx.Done()
		stop()
	}()
	self, _ := os.Executable()
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, environ: os.Environ(), self: self}
	if name := ownPath(os.Args[0]); name != "" {
		a.command = append([]string{name}, args...)
	}
	return a.execute(ctx, args)
}

// ownPath returns the path this program was started by. Not that of the file
// behind it: a link, or a package manager, puts a new version there.
func ownPath(name string) string {
	if found, err := exec.LookPath(name); err == nil {
		if abs, err := filepath.Abs(found); err == nil {
			return abs
		}
	}
	exe, _ := os.Executable()
	return exe
}

// execute is Main with everything given.
func execute(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return (&app{stdin: stdin, stdout: stdout, stderr: stderr, environ: environ}).execute(ctx, args)
}

func (a *app) execute(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	var status exitStatus
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &status):
		return int(status)
	}
	a.fail(err)
	return exitError
}

// Root returns the command tree, for generated documentation.
func Root() *cobra.Command {
	return (&app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}).root()
}

// fail prints an error once, every line of it under the program's name.
func (a *app) fail(err error) {
	var bad *catalog.ConfigError
	if errors.As(err, &bad) {
		for _, p := range bad.Problems {
			fmt.Fprintf(a.stderr, "dewar: %s\n", p)
		}
		fmt.Fprintln(a.stderr, "dewar: nothing was started; \"dewar config --help\" says where settings come from")
		return
	}
	fmt.Fprintf(a.stderr, "dewar: %v\n", err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "dewar",
		Short: "Audit, run, guard and probe a Flask app, and say which security promises hold",
		Long: `Dewar is one binary around an unmodified Flask app. It audits the project,
runs the app behind a hardened proxy, probes the live site, and folds all
evidence into one checklist: which promises hold, and how do we know?

Start with "dewar audit" in a project's folder; nothing is changed and nothing
is sent anywhere.` + exitHelp,
		Example: `  dewar audit                        read the project, print findings
  dewar run --profile development    run the app behind the guard, with a local certificate
  dewar check --url https://localhost:8443
                                     audit, guard and probe together: the checklist`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version,
	}
	root.SetVersionTemplate("dewar {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w (see \"%s --help\")", err, c.CommandPath())
	})
	f := root.PersistentFlags()
	f.StringVarP(&a.configFile, "config", "c", "", "settings `file` (default: dewar.toml, or [tool.dewar] in pyproject.toml)")
	f.StringVar(&a.profile, "profile", "", "production, staging or development (default: production)")
	f.StringArrayVar(&a.sets, "set", nil, "one setting as `key=value`, such as csrf.mode=observe; may be repeated")
	f.StringVar(&a.color, "color", "auto", "auto, always or never")
	_ = root.RegisterFlagCompletionFunc("profile", words("production", "staging", "development"))
	_ = root.RegisterFlagCompletionFunc("color", words("auto", "always", "never"))
	_ = root.RegisterFlagCompletionFunc("set", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var keys []string
		for _, s := range catalog.Reference() {
			for _, f := range s.Fields {
				keys = append(keys, f.Key+"=")
			}
		}
		return keys, cobra.ShellCompDirectiveNoSpace
	})
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains([]string{"auto", "always", "never"}, a.color) {
			return fmt.Errorf("--color: %q is not allowed: write auto, always or never", a.color)
		}
		return nil
	}
	root.AddCommand(a.auditCommand(), a.fixCommand(), a.routesCommand(), a.lspCommand(), a.runCommand(), a.reloadCommand(), a.upgradeCommand(), a.wafCommand(), a.probeCommand(), a.checkCommand(), a.explainCommand(), a.initCommand(), a.configCommand(), a.versionCommand())
	root.AddCommand(a.operateCommands()...)
	return root
}

// words completes a flag or argument from a fixed list.
func words(list ...string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return list, cobra.ShellCompDirectiveNoFileComp
	}
}

// load reads the settings for a project's folder; more are settings that the
// command's own flags stand for.
func (a *app) load(dir string, more ...catalog.Flag) (*catalog.Loaded, error) {
	src := catalog.Source{Dir: dir, File: a.configFile, Environ: a.environ}
	if a.profile != "" {
		src.Flags = append(src.Flags, catalog.Flag{Key: "profile", Value: a.profile, Name: "--profile"})
	}
	for _, s := range a.sets {
		k, v, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("--set %s: write key=value, such as --set csrf.mode=observe", s)
		}
		src.Flags = append(src.Flags, catalog.Flag{Key: k, Value: v, Name: "--set " + k})
	}
	src.Flags = append(src.Flags, more...)
	return catalog.Load(src)
}

// flag returns the setting that a command's own flag stands for, if given.
func flag(c *cobra.Command, name, key string) []catalog.Flag {
	f := c.Flags().Lookup(name)
	if f == nil || !f.Changed {
		return nil
	}
	return []catalog.Flag{{Key: key, Value: f.Value.String(), Name: "--" + name}}
}

// screen says how text may look on w.
func (a *app) screen(w io.Writer) report.Screen {
	s := report.Screen{Environ: a.environ}
	if f, ok := w.(*os.File); ok && term.IsTerminal(f.Fd()) {
		s.Colour = true
		if width, _, err := term.GetSize(f.Fd()); err == nil {
			s.Width = width
		}
	}
	for _, kv := range a.environ {
		// https://no-color.org: set and not empty.
		if v, ok := strings.CutPrefix(kv, "NO_COLOR="); ok && v != "" {
			s.Colour = false
		}
	}
	switch a.color {
	case "always":
		s.Colour = true
	case "never":
		s.Colour = false
	}
	return s
}

// project checks a project's folder given on the command line.
func project(args []string) (string, error) {
	dir := "."
	if len(args) > 0 {
		dir = args[0]
	}
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s does not exist: give the folder of a Flask project", dir)
	case err != nil:
		return "", err
	case !st.IsDir():
		return "", fmt.Errorf("%s is a file: give the folder of a Flask project (dewar reads the project as a whole)", dir)
	}
	return filepath.Abs(dir)
}

// output writes to a file, or to standard output for "" and "-". The file
// appears whole or not at all.
func (a *app) output(name string, write func(io.Writer) error) error {
	if name == "" || name == "-" {
		return write(a.stdout)
	}
	// A device or a pipe (/dev/null) is written to: it must not be replaced.
	if st, err := os.Stat(name); err == nil && !st.Mode().IsRegular() && !st.IsDir() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("cannot write %s: %w", name, err)
		}
		return errors.Join(write(f), f.Close())
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), ".dewar-*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	defer os.Remove(tmp.Name())
	if err := errors.Join(write(tmp), tmp.Chmod(0o644), tmp.Close()); err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	return os.Rename(tmp.Name(), name)
}
