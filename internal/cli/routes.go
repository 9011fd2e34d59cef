package cli

import (
	"fmt"
	"strings"

	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/gateway"
)

// routeColumns is one line of "dewar audit --routes".
func routeColumns(r *flask.Route) []string {
	login := "–"
	if r.LoginRequired {
		login = "yes"
		if len(r.Roles) > 0 {
			login = strings.Join(r.Roles, ",")
		}
	}
	var reads []string
	add := func(what string, names []string) {
		if len(names) > 0 {
			reads = append(reads, what+":"+strings.Join(names, ","))
		}
	}
	add("query", r.Query)
	add("form", r.Form)
	add("json", r.JSON)
	add("files", r.Files)
	if r.DynamicKeys {
		reads = append(reads, "…")
	}
	return []string{strings.Join(r.Methods, ","), r.Rule, r.Endpoint, login, strings.Join(reads, " "), fmt.Sprintf("%s:%d", r.File, r.Line)}
}

func unknownText(u flask.Unknown) string {
	return fmt.Sprintf("%s:%d: %s", u.Position.File, u.Position.Line, u.What)
}

// foundApp is the app as "dewar init" shows it.
type foundApp struct{ Target, From string }

func findApp(dir, target string) (foundApp, error) {
	a, err := gateway.FindApp(dir, gateway.AppOptions{Target: target})
	return foundApp{a.Target, a.Source}, err
}
