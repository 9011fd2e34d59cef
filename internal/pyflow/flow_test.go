package pyflow_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// testFacts is a small library: t.source() is input, t.sink(x) a place where
// it must not go, and so on.
const testFacts = `
t.source source query "input"
t.args source query map "parameter"
t.text source body "text"
t.request.args source query map "parameter"
flask.request.path source path "path"
t.sink|sink2 sink sql 0
t.open sink path-read 0
t.fetch sink url 0
t.go sink redirect 0
t.use use hash
t.clean clean
t.quote clean sql
t.check checks * 0
t.ensure ensures * 0
t.stop never
t.route entry view
t.App.route entry view
*.route entry view
t.task entry task
t.Node methods graphql resolve_*
t.Change methods graphql mutate
t.Namespace methods message on_*
t.Conn.cursor returns t.Cursor
t.connect returns t.Conn
t.Cursor.execute sink sql 0
t.digits chars 0-9
t.login_required wraps
t.Base.find source stored "row"
t.Row.__iter__ source stored "row"
t.session set session
`

// runSources analyses files given by path.
func runSources(t testing.TB, files map[string]string, cfg pyflow.Config) *pyflow.Result {
	t.Helper()
	facts, err := pyflow.ParseFacts("test.facts", testFacts)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Facts, cfg.Panic = facts, true
	for name, src := range files {
		cfg.Sources = append(cfg.Sources, pyflow.Source{Path: name, Python: pysyntax.Parse(name, []byte(src))})
	}
	return pyflow.Analyze(context.Background(), cfg)
}

var wanted = regexp.MustCompile(`#\s*want(.*)$`)

// TestFlow runs testdata/flow/*.py. Behind "# want" stands what reaches the
// sinks of the line, one value after another in the order of their text: "x"
// is a literal, {…} an unknown part with the characters it may have, {?} one
// that may be anything. A line without it must have no labelled value at a
// sink.
func TestFlow(t *testing.T) {
	names, _ := filepath.Glob("testdata/flow/*.py")
	if len(names) == 0 {
		t.Fatal("there are no cases")
	}
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(name), func(t *testing.T) {
			file := pysyntax.Parse("case.py", src)
			for _, e := range file.Errors {
				t.Errorf("%s: %v", name, e)
			}
			r := runSources(t, map[string]string{"case.py": string(src)}, pyflow.Config{})
			got := map[int][]string{}
			for _, h := range r.Hits {
				if h.Verb != "sink" || h.Kind == "response" {
					continue
				}
				line, _ := file.Position(h.At.Start)
				for _, v := range h.Focus {
					if s := shown(v); !slices.Contains(got[line], s) {
						got[line] = append(got[line], s)
					}
				}
			}
			for i, l := range strings.Split(string(src), "\n") {
				var want string
				if m := wanted.FindStringSubmatch(l); m != nil {
					want = strings.TrimSpace(m[1])
				}
				list := got[i+1]
				slices.Sort(list)
				if have := strings.Join(list, "; "); have != want {
					t.Errorf("%s:%d: %s\n  have %s\n  want %s", name, i+1, strings.TrimSpace(l), have, want)
				}
			}
			for _, g := range r.GaveUp {
				t.Errorf("%s gave up: %s", g.Name, g.Reason)
			}
		})
	}
}

// shown is a value in short.
func shown(v pyflow.Value) string {
	if len(v.Alternatives) > 0 {
		var s []string
		for _, a := range v.Alternatives {
			s = append(s, shown(a))
		}
		slices.Sort(s)
		return "(" + strings.Join(s, " | ") + ")"
	}
	switch v.Kind {
	case pyflow.None:
		return "None"
	case pyflow.Bool:
		if v.Known {
			return fmt.Sprint(v.Bool)
		}
		return "bool"
	case pyflow.Number:
		if v.Known {
			return fmt.Sprint(v.Number)
		}
		return "number"
	case pyflow.Text:
		s := ""
		for _, p := range v.Pieces {
			if !p.Unknown {
				s += fmt.Sprintf("%q", p.Literal)
				continue
			}
			s += "{" + charsShown(p.Chars)
			for _, w := range p.Without {
				if len(w) > 1 {
					s += fmt.Sprintf(" not %q", w)
				}
			}
			if len(p.Harmless) > 0 {
				s += " ok " + strings.Join(p.Harmless, ",")
			}
			if len(p.Labels) == 0 {
				s += " -"
			}
			s += "}"
		}
		if s == "" {
			s = `""`
		}
		return s
	case pyflow.Function:
		return "fn " + v.Type
	case pyflow.Unknown:
		s := "{?"
		for _, l := range v.Labels {
			if len(l.Harmless) > 0 {
				s += " ok " + strings.Join(l.Harmless, ",")
			}
		}
		return s + "}"
	}
	s := v.Type + "["
	for i, x := range v.Items {
		if i > 0 {
			s += ", "
		}
		if i < len(v.Keys) {
			s += v.Keys[i] + ": "
		}
		s += shown(x)
	}
	if v.Rest != nil {
		s += " *" + shown(*v.Rest)
	}
	return s + "]"
}

// charsShown writes a set of characters as a class of a regexp, or what it
// lacks behind a ^.
func charsShown(c pyflow.Chars) string {
	if c == pyflow.AnyChars {
		return "?"
	}
	class := func(has func(rune) bool) string {
		s := ""
		for r := rune(0); r < 128; r++ {
			if !has(r) {
				continue
			}
			end := r
			for end < 127 && has(end+1) {
				end++
			}
			q := func(r rune) string { return strings.Trim(fmt.Sprintf("%q", r), "'") }
			switch {
			case end-r > 1:
				s += q(r) + "-" + q(end)
			case end > r:
				s += q(r) + q(end)
			default:
				s += q(r)
			}
			r = end
		}
		return s
	}
	if c.Has('é') {
		return "^" + class(func(r rune) bool { return !c.Has(r) })
	}
	return class(c.Has)
}
