package cli

import (
	"errors"
	"os"
	"strings"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/lsp"
)

// ruleDocs is where the rules are described.
const ruleDocs = "https://github.com/dewar-security/dewar/blob/main/docs/rules.md#"

func (a *app) lspCommand() *cobra.Command {
	var verbose bool
	c := &cobra.Command{
		Use:   "lsp",
		Short: "Serve findings, explanations and repairs to an editor",
		Long: `Lsp is a language server: it speaks the Language Server Protocol on standard
input and output, and an editor starts it. It audits each workspace folder as
a whole, with the documents as the editor shows them, and shows

  - findings as diagnostics, in files that are not open as well,
  - the reason, the trace step by step and the advice when you point at one,
  - repairs that hold, as "dewar fix" makes them, and a comment that silences
    the finding, as code actions. "source.fixAll.dewar" repairs a file when it
    is saved, where the editor is told to.

Each folder's dewar.toml and baseline count. Nothing of the project is run, and
nothing is sent anywhere. The README says how to set up VS Code, Neovim and
Helix.` + exitHelp,
		Example: `  dewar lsp              what an editor starts
  dewar lsp --verbose    the same, with remarks in the editor's log`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if f, ok := a.stdin.(*os.File); ok && term.IsTerminal(f.Fd()) {
				return errors.New("lsp is started by an editor and speaks to it on standard input: see \"dewar lsp --help\"")
			}
			cfg := lsp.Config{
				Version: version,
				Open: func(dir string) ([]*audit.Rule, audit.Options, error) {
					loaded, err := a.load(dir)
					if err != nil {
						return nil, audit.Options{}, err
					}
					r, err := prepare(dir, loaded.Config)
					if err != nil {
						return nil, audit.Options{}, err
					}
					return r.rules, r.options, nil
				},
				Link: func(rule string) string { return ruleDocs + strings.ToLower(rule) },
			}
			if verbose {
				cfg.Log = a.stderr
			}
			err := lsp.Serve(c.Context(), a.stdin, a.stdout, cfg)
			if errors.Is(err, lsp.ErrNoShutdown) {
				return exitStatus(exitFindings) // as the protocol wants it
			}
			return err
		},
	}
	f := c.Flags()
	f.Bool("stdio", true, "speak on standard input and output; editors pass it, there is no other way")
	f.BoolVar(&verbose, "verbose", false, "remarks of the server on standard error")
	return c
}
