package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"

	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/csp"
	"github.com/dewar-security/dewar/internal/evidence"
)

//go:embed checklist.html
var checklistPage string

//go:embed checklist.css
var checklistStyle string

var checklistTemplate = template.Must(template.New("checklist").Funcs(template.FuncMap{
	"glyph": func(state string) string { return cellGlyph[state].glyph },
	"word": func(state string) string {
		return map[string]string{
			"pass": "pass", "partial": "holds in part", "fail": "fail", "mitigated": "fails, but a guard layer stands in front", "error": "could not tell",
			"not-applicable": "does not apply", "silent": "not asked in this run", "not-yet": "not built yet", "never": "cannot exist",
		}[state]
	},
	"mark":   func(s control.Status) string { return statusGlyph[s].glyph },
	"origin": origin,
	"outcome": func(o evidence.Outcome) string {
		return o.String()
	},
}).Parse(checklistPage))

// ChecklistHTML writes one page that needs nothing else: no script, no image,
// no font, and a Content-Security-Policy that holds it to that. Texts from
// the project and the site are escaped by html/template.
func ChecklistHTML(w io.Writer, r *ChecklistReport, _ Screen) error {
	rows := slices.Clone(r.Rows)
	slices.SortStableFunc(rows, func(a, b control.Row) int {
		return slices.Index(alarm, a.Status) - slices.Index(alarm, b.Status)
	})
	score := r.Score()
	segment := func(n int) string {
		if score.Of == 0 {
			return "0"
		}
		return fmt.Sprintf("%.2f", 100*float64(n)/float64(score.Of))
	}
	type part struct{ Class, X, Width string }
	var parts []part
	x := 0
	for _, p := range []struct {
		class string
		n     int
	}{{"met", score.Met}, {"mitigated", score.Mitigated}, {"failed", score.Failed}, {"unproven", score.Unproven}} {
		parts = append(parts, part{p.class, segment(x), segment(p.n)})
		x += p.n
	}
	return checklistTemplate.Execute(w, map[string]any{
		"R": r, "Rows": rows, "Score": score, "Faces": evidence.Faces, "Bar": parts,
		"CSP":   "default-src 'none'; style-src '" + csp.Hash(checklistStyle) + "'; base-uri 'none'; form-action 'none'",
		"Style": template.CSS(checklistStyle),
	})
}
