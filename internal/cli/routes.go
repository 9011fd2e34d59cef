package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/gateway"
)

func (a *app) routesCommand() *cobra.Command {
	var asJSON, patches bool
	c := &cobra.Command{
		Use:   "routes [DIR]",
		Short: "Print what the app answers, what each route reads and who is let in",
		Long: `Routes prints the route map of a project: rule, methods, endpoint, the types of
path parameters, the fields of query, form, JSON, files, headers and cookies
with the types the code turns them into, decorators, login, role and CSRF
state, what a route is for, and what its code reaches. It runs nothing of the
project.

With --json the map is for programs; docs/route-map.schema.json is its schema.
What was not understood is listed in both: a map may lack routes.` + exitHelp,
		Example: `  dewar routes
  dewar routes --json --patches > dewar.policy.json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := project(args)
			if err != nil {
				return err
			}
			loaded, err := a.load(dir)
			if err != nil {
				return err
			}
			read, err := readProject(c.Context(), dir, loaded.Config)
			if err != nil {
				return err
			}
			if patches && !asJSON {
				return errors.New("--patches is for --json")
			}
			var found []audit.Patch
			if patches {
				rules := slices.DeleteFunc(slices.Clone(read.rules), func(r *audit.Rule) bool { return r.Patch == "" })
				res := audit.Run(c.Context(), read.project, rules, read.options)
				found = read.project.Patches(read.project.Flow(c.Context()), res.Findings)
			}
			return a.output("", func(w io.Writer) error { return writeRoutes(c.Context(), w, read.project, asJSON, found) })
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&patches, "patches", false, "with --json: also the findings that a guard can hold shut, for dewar.policy.json")
	return c
}

// writeRoutes prints the route map of a project.
func writeRoutes(ctx context.Context, w io.Writer, p *audit.Project, asJSON bool, patches []audit.Patch) error {
	m := p.RouteMap(ctx)
	m.Patches = patches
	if ctx.Err() != nil {
		return errInterrupted
	}
	if asJSON {
		return writeJSON(w, m)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "METHODS\tRULE\tENDPOINT\tLOGIN\tCSRF\tFOR\tREADS\tREACHES\tWHERE")
	for i := range m.Routes {
		fmt.Fprintln(t, strings.Join(routeColumns(&m.Routes[i]), "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range m.Unmounted {
		fmt.Fprintf(w, "not registered, as far as was seen: %s %s (%s:%d)\n", strings.Join(r.Methods, ","), r.Rule, r.File, r.Line)
	}
	for _, u := range m.Unknown {
		fmt.Fprintf(w, "not understood: %s:%d: %s\n", u.File, u.Line, u.What)
	}
	fmt.Fprintf(w, "%d routes\n", len(m.Routes))
	return nil
}

// routeColumns is one line of "dewar routes".
func routeColumns(r *audit.MappedRoute) []string {
	login := "–"
	if r.Login.Required {
		login = "yes"
		if len(r.Login.Roles) > 0 {
			login = strings.Join(r.Login.Roles, ",")
		}
	}
	csrf := r.CSRF
	if csrf == "not-needed" {
		csrf = "–"
	}
	var kinds []string
	for _, k := range r.Kinds {
		kinds = append(kinds, string(k))
	}
	var reads []string
	last := ""
	for _, f := range r.Fields {
		text := f.Name
		if f.Type != "" {
			text += "=" + f.Type
		}
		if f.In == last {
			reads[len(reads)-1] += "," + text
			continue
		}
		last = f.In
		reads = append(reads, f.In+":"+text)
	}
	if r.OtherFields {
		reads = append(reads, "…")
	}
	return []string{
		strings.Join(r.Methods, ","), r.Rule, r.Endpoint, login, csrf, strings.Join(kinds, ","), strings.Join(reads, " "), strings.Join(r.Sinks, ","),
		fmt.Sprintf("%s:%d", r.File, r.Line),
	}
}

// foundApp is the app as "dewar init" shows it.
type foundApp struct{ Target, From string }

func findApp(dir, target string) (foundApp, error) {
	a, err := gateway.FindApp(dir, gateway.AppOptions{Target: target})
	return foundApp{a.Target, a.Source}, err
}
