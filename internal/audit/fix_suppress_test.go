package audit_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/audit"
)

// TestSuppress: the comment is one that counts, and changes nothing else.
func TestSuppress(t *testing.T) {
	for _, c := range []struct{ name, file, in, want string }{
		{"Python", "a.py", "if x:\n    MARK()\n", "if x:\n    # dewar: ignore[DW-TEST-001] why\n    MARK()\n"},
		{"first line, CRLF", "a.py", "MARK()\r\n", "# dewar: ignore[DW-TEST-001] why\r\nMARK()\r\n"},
		{"byte order mark", "a.py", "\ufeffMARK()\n", "\ufeff# dewar: ignore[DW-TEST-001] why\nMARK()\n"},
		{"in a call", "a.py", "f(\n    a,\n    MARK(),\n)\n", "f(\n    a,\n    # dewar: ignore[DW-TEST-001] why\n    MARK(),\n)\n"},
		{"in a string", "a.py", "x = '''\nMARK()\n'''\n", ""},
		{"on a joined line", "a.py", "x = 1 + \\\n  MARK()\n", ""},
		{"template", "templates/a.html", "<p>\n  {{ MARK() }}\n", "<p>\n  {# dewar: ignore[DW-TEST-001] why #}\n  {{ MARK() }}\n"},
		{"in a tag of a template", "templates/a.html", "{% if\n MARK() %}x{% endif %}\n", ""},
		{"HTML", "a.html", "<p>\n<b>MARK()</b>\n", "<p>\n<!-- dewar: ignore[DW-TEST-001] why -->\n<b>MARK()</b>\n"},
		{"in a tag of HTML", "a.html", "<p\n MARK()>\n", ""},
		{"in a script", "a.html", "<script>\nMARK()\n</script>\n", ""},
		{"env", ".env", "A=1\nB=MARK()\n", "A=1\n# dewar: ignore[DW-TEST-001] why\nB=MARK()\n"},
		{"Dockerfile", "Dockerfile", "FROM a\nENV MARK()\n", "FROM a\n# dewar: ignore[DW-TEST-001] why\nENV MARK()\n"},
		{"YAML", "a.yaml", "a:\n  b: MARK()\n", "a:\n  # dewar: ignore[DW-TEST-001] why\n  b: MARK()\n"},
		{"JSON", "a.json", "{\"a\": \"MARK()\"}\n", ""},
		{"JavaScript", "a.js", "MARK();\n", "// dewar: ignore[DW-TEST-001] why\nMARK();\n"},
		{"in a template literal", "a.js", "x = `\nMARK()`;\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			rule := &audit.Rule{ID: "DW-TEST-001", Control: "settings", Title: "Mark", Severity: audit.Low, Check: func(p *audit.Pass) {
				for f := range p.Files() {
					if i := bytes.Index(f.Data, []byte("MARK()")); i >= 0 {
						p.Report(audit.Finding{Span: f.SpanAt(i, i+6)})
					}
				}
			}}
			rules := []*audit.Rule{rule}
			p := audit.InMemory(map[string][]byte{c.file: []byte(c.in)})
			res := audit.Run(t.Context(), p, rules, audit.Options{})
			if len(res.Findings) != 1 {
				t.Fatalf("%d findings", len(res.Findings))
			}
			for _, bad := range []string{"", " ", "two\nlines"} {
				if p.Suppress(&res.Findings[0], bad) != nil {
					t.Errorf("%q is taken for a reason", bad)
				}
			}
			edits := p.Suppress(&res.Findings[0], "why")
			got := ""
			if edits != nil {
				got = string(audit.ApplyEdits(p.File(c.file).Data, edits))
			}
			if got != c.want {
				t.Fatalf("got\n%s\nwant\n%s", got, c.want)
			}
			if got == "" {
				return
			}
			after := audit.Run(t.Context(), p.With(map[string][]byte{c.file: []byte(got)}), rules, audit.Options{})
			if len(after.Findings) != 0 || len(after.Suppressed) != 1 || !strings.Contains(after.Suppressed[0].Suppressed.Reason, "why") || len(after.Notices) != 0 {
				t.Errorf("afterwards: %+v", after)
			}
		})
	}
}
