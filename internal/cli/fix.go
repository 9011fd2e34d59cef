package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/report"
)

func (a *app) fixCommand() *cobra.Command {
	var (
		apply bool
		only  []string
	)
	c := &cobra.Command{
		Use:   "fix [PATH]",
		Short: "Repair what can be repaired without changing what the app does",
		Long: `Fix audits the project and shows the repairs of its findings as a diff. With
--apply it writes them, too. PATH is the project's folder, or one file of the
project in the current folder, which then is the only one to change.

A repair is tried out in memory first. It is dropped, and the reason said, if
afterwards a file does not parse, the finding is still there, another one has
come up or a rule cannot look any more. Where repairs overlap, the one of the
earlier finding is made first and the other one tried on what came out.
Findings that a comment or the baseline silences stay as they are.

Writing is all or nothing: a file appears under its name whole, with the mode
and the owner it had. Nothing is written if a file changed since it was read,
is a symbolic link or lies outside of the project. Files with changes that are
not committed are written as well: what stands on standard output is exactly
the patch, so "git apply -R" takes it back.

Without --apply the exit status is 1 when there is something to repair.` + exitHelp,
		Example: `  dewar fix                          show the repairs
  dewar fix --apply                  make them
  dewar fix --rule DW-SESSION-001    only those of one rule
  dewar fix app/views.py | git apply`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir, file, err := fixTarget(args)
			if err != nil {
				return err
			}
			loaded, err := a.load(dir)
			if err != nil {
				return err
			}
			read, err := prepare(dir, loaded.Config)
			if err != nil {
				return err
			}
			for _, id := range only {
				if !slices.Contains(read.options.KnownRules, id) {
					return fmt.Errorf("--rule: there is no rule %q%s", id, catalog.Suggest(id))
				}
				if !slices.ContainsFunc(read.rules, func(r *audit.Rule) bool { return r.ID == id }) {
					return fmt.Errorf("--rule: %s is switched off by audit.disable", id)
				}
			}
			if read.project, err = audit.Load(c.Context(), dir, read.options); err != nil {
				if c.Context().Err() != nil {
					return errInterrupted
				}
				return err
			}
			if file != "" && read.project.File(file) == nil {
				return fmt.Errorf("%s is not part of what Dewar reads in %s: \"dewar audit --all\" lists what is left out", file, dir)
			}
			res := audit.Run(c.Context(), read.project, read.rules, read.options)
			links := linked(dir)
			var refused []audit.Refusal
			fixes, err := audit.PlanFixes(c.Context(), read.project, res, read.rules, read.options, func(f *audit.Finding) bool {
				if len(only) > 0 && !slices.Contains(only, f.Rule.ID) {
					return false
				}
				for _, e := range f.Edits {
					if file != "" && e.File != file || links(e.File) {
						return false
					}
				}
				return true
			})
			if err != nil {
				if c.Context().Err() != nil {
					return errInterrupted
				}
				return err
			}
			for _, f := range fixes.After.Findings {
				for _, e := range f.Edits {
					if links(e.File) && (len(only) == 0 || slices.Contains(only, f.Rule.ID)) && (file == "" || e.File == file) {
						refused = append(refused, audit.Refusal{Finding: f, Reason: e.File + " is a symbolic link: repair the file it points at"})
						break
					}
				}
			}
			fixes.Refused = append(fixes.Refused, refused...)
			if err := report.Diff(a.stdout, fixes.Files, a.screen(a.stdout)); err != nil {
				return err
			}
			if apply && len(fixes.Files) > 0 {
				if err := audit.WriteFixes(dir, fixes.Files); err != nil {
					return err
				}
			}
			if err := report.FixSummary(a.stderr, fixes, apply, a.screen(a.stderr)); err != nil {
				return err
			}
			if !apply && len(fixes.Files) > 0 {
				return exitStatus(exitFindings)
			}
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&apply, "apply", false, "write the repairs")
	f.StringSliceVar(&only, "rule", nil, "only repairs of the rule `ID`; may be repeated")
	_ = c.RegisterFlagCompletionFunc("rule", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var ids []string
		for _, r := range catalog.Rules() {
			ids = append(ids, r.ID+"\t"+r.Title)
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	})
	return c
}

// fixTarget returns the project's folder and, where the argument is a file,
// its path in the project.
func fixTarget(args []string) (dir, file string, err error) {
	if len(args) > 0 {
		if st, err := os.Stat(args[0]); err == nil && !st.IsDir() {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return "", "", err
			}
			if dir, err = filepath.Abs("."); err != nil {
				return "", "", err
			}
			rel, err := filepath.Rel(dir, path)
			if err != nil || !filepath.IsLocal(rel) {
				return "", "", fmt.Errorf("%s lies outside of the current folder: go to the project's folder first (dewar reads the project as a whole)", args[0])
			}
			return dir, filepath.ToSlash(rel), nil
		}
	}
	if len(args) > 0 {
		if _, err := os.Stat(args[0]); errors.Is(err, fs.ErrNotExist) {
			return "", "", fmt.Errorf("%s does not exist: give the folder of a Flask project, or a file in it", args[0])
		}
	}
	dir, err = project(args)
	return dir, "", err
}

// linked tells which files of a project are read through a symbolic link.
func linked(dir string) func(string) bool {
	known := map[string]bool{}
	return func(file string) bool {
		l, ok := known[file]
		if !ok {
			fi, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(file)))
			l = err == nil && fi.Mode()&fs.ModeSymlink != 0
			known[file] = l
		}
		return l
	}
}
