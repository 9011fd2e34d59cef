package injection

import (
	"fmt"
	"html"
	"net/http"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe/probetest"
)

// search is a site whose front page repeats q, and whose search form posts to
// /find, in the way that show does it.
func search(show func(w http.ResponseWriter, q string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		switch r.URL.Path {
		case "/":
			fmt.Fprint(w, `<form action="/find"><input name="words"><input type=hidden name=lang value=de></form>`)
		case "/find":
			if r.FormValue("lang") != "de" {
				http.Error(w, "no language", 400)
				return
			}
			show(w, r.FormValue("words"))
		default:
			http.NotFound(w, r)
		}
	})
}

func TestProbes(t *testing.T) {
	for _, x := range []struct {
		check, name string
		show        func(w http.ResponseWriter, q string)
		want        evidence.Outcome
	}{
		{"reflected-markup", "as is", func(w http.ResponseWriter, q string) { fmt.Fprintf(w, "<p>%s</p>", q) }, evidence.Fail},
		{"reflected-markup", "in an attribute", func(w http.ResponseWriter, q string) { fmt.Fprintf(w, `<input value="%s">`, q) }, evidence.Fail},
		{"reflected-markup", "in an error page", func(w http.ResponseWriter, q string) { w.WriteHeader(500); fmt.Fprint(w, q) }, evidence.Fail},
		{"reflected-markup", "escaped", func(w http.ResponseWriter, q string) { fmt.Fprintf(w, "<p>%s</p>", html.EscapeString(q)) }, evidence.Pass},
		{"reflected-markup", "in a comment", func(w http.ResponseWriter, q string) { fmt.Fprintf(w, "<!-- %s -->", q) }, evidence.Pass},
		{"reflected-markup", "as plain text", func(w http.ResponseWriter, q string) {
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(w, q)
		}, evidence.Pass},
		{"reflected-markup", "as JSON", func(w http.ResponseWriter, q string) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, "%q", q)
		}, evidence.Pass},
		{"reflected-markup", "refused in front", func(w http.ResponseWriter, q string) {
			if strings.Contains(q, "<") {
				w.WriteHeader(403)
				return
			}
			fmt.Fprintf(w, "<p>%s</p>", q)
		}, evidence.Pass},
		{"reflected-markup", "not repeated", func(w http.ResponseWriter, q string) {}, evidence.Error},
		{"reflected-markup", "limited", func(w http.ResponseWriter, q string) { w.WriteHeader(429) }, evidence.Error},

		{"template-arithmetic", "rendered", func(w http.ResponseWriter, q string) {
			fmt.Fprint(w, strings.ReplaceAll(q, "{{1337*7}}", "9359"))
		}, evidence.Fail},
		{"template-arithmetic", "repeated", func(w http.ResponseWriter, q string) { fmt.Fprint(w, html.EscapeString(q)) }, evidence.Pass},
		{"template-arithmetic", "not repeated", func(w http.ResponseWriter, q string) { fmt.Fprint(w, "9359") }, evidence.Error},

		{"sql-error", "breaks", func(w http.ResponseWriter, q string) {
			if strings.Count(q, "'")%2 == 1 {
				w.WriteHeader(500)
			}
		}, evidence.Fail},
		{"sql-error", "shown with 200", func(w http.ResponseWriter, q string) {
			if strings.Count(q, "'")%2 == 1 {
				fmt.Fprint(w, "(sqlite3.OperationalError) near")
			}
		}, evidence.Fail},
		{"sql-error", "any quote breaks", func(w http.ResponseWriter, q string) {
			if strings.Contains(q, "'") {
				w.WriteHeader(500)
			}
		}, evidence.Error},
		{"sql-error", "always broken", func(w http.ResponseWriter, q string) { w.WriteHeader(500) }, evidence.Error},
		{"sql-error", "article about errors", func(w http.ResponseWriter, q string) { fmt.Fprint(w, "sqlite3.OperationalError: how to") }, evidence.Error},
		{"sql-error", "bound", func(w http.ResponseWriter, q string) { fmt.Fprint(w, html.EscapeString(q)) }, evidence.Pass},
	} {
		t.Run(x.check+"/"+x.name, func(t *testing.T) {
			probetest.Want(t, probetest.Ask(t, probetest.Find(t, checks, x.check), search(x.show), false), x.want)
		})
	}
}
