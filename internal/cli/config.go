package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) configCommand() *cobra.Command {
	var format string
	var changed bool
	c := &cobra.Command{
		Use:   "config [DIR]",
		Short: "Print the settings in force and where each value came from",
		Long: `Config prints every setting, its value and its origin. Settings come from, in
this order, the later winning:

  1. the defaults of the profile (production unless something says otherwise)
  2. dewar.toml, or [tool.dewar] of pyproject.toml: its sections, then those
     under [profiles.NAME] for the profile in force
  3. the environment: DEWAR_CSRF_MODE sets csrf.mode
  4. flags: --profile, --set csrf.mode=observe, and a command's own

Unknown keys, wrong types and impossible values are errors.` + exitHelp,
		Example: `  dewar config --changed
  dewar config --profile development --format json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := project(args)
			if err != nil {
				return err
			}
			loaded, err := a.load(dir)
			if err != nil {
				return err
			}
			settings := loaded.Settings()
			if changed {
				kept := settings[:0]
				for _, s := range settings {
					if s.Origin.Kind != "default" {
						kept = append(kept, s)
					}
				}
				settings = kept
			}
			switch format {
			case "json":
				e := json.NewEncoder(a.stdout)
				e.SetIndent("", "  ")
				return e.Encode(settings)
			case "text":
			default:
				return fmt.Errorf("--format: %q is not allowed: write text or json", format)
			}
			wide := 0
			for _, s := range settings {
				wide = max(wide, len(s.Key)+3+min(len(s.Text), 40))
			}
			for _, s := range settings {
				line := s.Key + " = " + s.Text
				fmt.Fprintf(a.stdout, "%s%s  # %s\n", line, strings.Repeat(" ", max(0, wide-len(line))), s.Origin)
			}
			return nil
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text or json")
	c.Flags().BoolVar(&changed, "changed", false, "only what is not the production default")
	_ = c.RegisterFlagCompletionFunc("format", words("text", "json"))
	return c
}
