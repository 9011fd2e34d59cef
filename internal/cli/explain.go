package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/report"
)

func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain [NAME...]",
		Short: "Say what a control, rule, layer, reason or probe check is, why it matters and what to do",
		Long: `Explain prints the catalogue's entry for a name met in a report: a control
(csrf), a rule (DW-CSRF-001), a layer (never-public), a reason for a refusal
(csrf-cross-site), a preflight or a probe check. Without a name it lists every
control with its faces.` + exitHelp,
		Example: `  dewar explain csrf
  dewar explain DW-SECRETS-001`,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, t := range catalog.Topics() {
				names = append(names, t.Name)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			screen := a.screen(a.stdout)
			page := report.NewExplainer(screen)
			if len(args) == 0 {
				for _, c := range catalog.All {
					page.Control(c)
				}
				return page.Flush(a.stdout, screen)
			}
			for _, name := range args {
				found := catalog.Find(name)
				if len(found) == 0 {
					return fmt.Errorf("nothing is called %q%s; \"dewar explain\" lists everything", name, catalog.Suggest(name))
				}
				for _, t := range found {
					switch t.Kind {
					case "control":
						page.Control(t.Control)
					case "rule":
						page.Rule(t.Rule)
					case "layer":
						page.Layer(t.Layer)
					case "reason":
						page.Reason(t.Layer, *t.Reason)
					case "preflight":
						page.Preflight(t.Pre)
					case "service":
						page.Service(t.Service)
					case "check":
						page.Check(t.Check)
					}
				}
			}
			return page.Flush(a.stdout, screen)
		},
	}
}
