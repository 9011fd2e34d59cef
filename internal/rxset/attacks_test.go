package rxset

import (
	"io/fs"
	"net/url"
	"path"
	"testing"

	"github.com/corazawaf/coraza-coreruleset/v4/tests"
	"go.yaml.in/yaml/v3"
)

// attacks returns the strings of the Core Rule Set's own regression tests, as
// they stand there and with %xx decoded.
func attacks(t testing.TB) []string {
	t.Helper()
	seen := map[string]bool{}
	var out []string
	add := func(s string) {
		if !seen[s] && len(s) > 1 && len(s) < 2000 {
			seen[s] = true
			out = append(out, s)
		}
	}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode {
			add(n.Value)
			if s, err := url.QueryUnescape(n.Value); err == nil {
				add(s)
			}
		}
		for _, c := range n.Content {
			walk(c)
		}
	}
	err := fs.WalkDir(tests.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || path.Ext(name) != ".yaml" {
			return err
		}
		data, err := fs.ReadFile(tests.FS, name)
		if err != nil {
			return err
		}
		var doc yaml.Node
		if err := yaml.Unmarshal(data, &doc); err != nil {
			return err
		}
		walk(&doc)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 5000 {
		t.Fatalf("only %d strings in the regression tests", len(out))
	}
	return out
}

// TestAttacks compares all patterns over some of the strings that the rules
// were tried with.
func TestAttacks(t *testing.T) {
	patterns := crs(t)
	s, oracles := compile(t, patterns)
	all := attacks(t)
	for i := 0; i < len(all); i += stride {
		check(t, s, patterns, oracles, all[i])
	}
	t.Logf("%d of %d strings", (len(all)+stride-1)/stride, len(all))
}

// stride leaves out strings: Go's regexp takes a minute for all of them.
const stride = 29
