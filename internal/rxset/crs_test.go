package rxset

import (
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
)

// operator finds the operator of a SecRule: after the variables, in quotes,
// with \" for a quote inside.
var operator = regexp.MustCompile(`(?m)^\s*SecRule\s+\S+\s+"(!?@(?:rx|pm|pmFromFile)\s(?:[^"\\]|\\.)*)"`)

// crs returns every @rx, @pm and @pmFromFile of the Core Rule Set, each
// different one once, read from the module that the gateway uses.
func crs(t testing.TB) []Pattern {
	t.Helper()
	names, err := fs.Glob(coreruleset.FS, "@owasp_crs/*.conf")
	if err != nil {
		t.Fatal(err)
	}
	var out []Pattern
	seen := map[string]bool{}
	for _, name := range names {
		data, err := fs.ReadFile(coreruleset.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(data), "\\\n", " ")
		for _, m := range operator.FindAllStringSubmatch(text, -1) {
			op, arg, _ := strings.Cut(strings.TrimPrefix(m[1], "!"), " ")
			arg = strings.ReplaceAll(strings.TrimSpace(arg), `\"`, `"`)
			if strings.Contains(arg, "%{") || seen[op+arg] {
				continue // filled in for each request
			}
			seen[op+arg] = true
			switch op {
			case "@rx":
				out = append(out, Pattern{Expr: arg})
			case "@pm":
				out = append(out, PM(arg))
			case "@pmFromFile":
				words, err := fs.ReadFile(coreruleset.FS, path.Join("@owasp_crs", arg))
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, PMFile(words))
			}
		}
	}
	if len(out) < 280 {
		t.Fatalf("only %d patterns found in the Core Rule Set", len(out))
	}
	return out
}
