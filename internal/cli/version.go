package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, and those of the parts that decide",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintf(a.stdout, "dewar %s %s/%s %s\n", version, runtime.GOOS, runtime.GOARCH, runtime.Version())
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, d := range info.Deps {
					switch d.Path {
					case "github.com/corazawaf/coraza/v3":
						fmt.Fprintf(a.stdout, "  WAF engine     coraza %s\n", d.Version)
					case "github.com/corazawaf/coraza-coreruleset/v4":
						fmt.Fprintf(a.stdout, "  rules          OWASP Core Rule Set %s\n", d.Version)
					}
				}
			}
			return nil
		},
	}
}
