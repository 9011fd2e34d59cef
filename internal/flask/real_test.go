package flask_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// load reads the Python and environment files below dir.
func load(t testing.TB, dir string) []flask.Source {
	t.Helper()
	var out []flask.Source
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		rel = filepath.ToSlash(rel)
		base := filepath.Base(p)
		switch {
		case strings.HasSuffix(base, ".py"):
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			test := strings.Contains("/"+rel, "/tests/") || strings.HasPrefix(base, "test_") || base == "conftest.py"
			out = append(out, flask.Source{Path: rel, Python: pysyntax.Parse(rel, b), Test: test})
		case strings.HasPrefix(base, ".env") || base == ".flaskenv":
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			out = append(out, flask.Source{Path: rel, Data: b, Example: strings.Contains(base, "example")})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatalf("nothing to read in %s", dir)
	}
	return out
}

// python returns an interpreter that has Flask and the extensions that the
// apps use, or skips: CI sets DEWAR_REQUIRE_REAL so that it cannot.
func python(t *testing.T) string {
	t.Helper()
	var tried []string
	for _, p := range []string{os.Getenv("DEWAR_PYTHON"), "../../.venv/bin/python"} {
		if p == "" {
			continue
		}
		out, err := exec.Command(p, "-c", "import flask, flask_login, flask_wtf, flask_sqlalchemy, flask_restful").CombinedOutput()
		if err == nil {
			return p
		}
		tried = append(tried, fmt.Sprintf("%s: %v %s", p, err, out))
	}
	msg := "NOT COMPARED with real Flask: no Python with Flask; run scripts/venv.sh or set DEWAR_PYTHON\n" + strings.Join(tried, "\n")
	if os.Getenv("DEWAR_REQUIRE_REAL") != "" {
		t.Fatal(msg)
	}
	t.Skip(msg)
	return ""
}

const printMap = `
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
module, _, name = sys.argv[2].partition(":")
app = getattr(importlib.import_module(module), name)
if not hasattr(app, "url_map"):
    app = app()
json.dump([[r.rule, r.endpoint, sorted(r.methods)] for r in app.url_map.iter_rules()], sys.stdout)
`

// TestRealURLMap compares the routes read from the text with the url_map of
// the app as Flask itself builds it.
func TestRealURLMap(t *testing.T) {
	apps := []struct {
		dir, app string
		optional bool // written elsewhere in the tree
	}{
		{"testdata/apps/factory", "wsgi:app", false},
		{"testdata/apps/single", "app:app", false},
		{"../../examples/shop", "shop:create_app", true},
		{"../../examples/leaky", "leaky:create_app", true},
	}
	for _, a := range apps {
		t.Run(a.dir, func(t *testing.T) {
			if _, err := os.Stat(a.dir); err != nil && a.optional {
				t.Skipf("%s is not there", a.dir)
			}
			py := python(t)
			cmd := exec.Command(py, "-c", printMap, a.dir, a.app)
			cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "SECRET_KEY=only-for-this-test-0123456789abcdefghijklmnopqrstuvwxyz", "DATABASE_URL=sqlite://")
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			var rules [][]any
			if err := json.Unmarshal(out, &rules); err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, r := range rules {
				methods := []string{}
				for _, m := range r[2].([]any) {
					methods = append(methods, m.(string))
				}
				want = append(want, fmt.Sprintf("%s %s %s", r[0], r[1], strings.Join(methods, ",")))
			}
			var got []string
			m := flask.Analyze(load(t, a.dir))
			for _, r := range m.Routes {
				got = append(got, fmt.Sprintf("%s %s %s", r.Rule, r.Endpoint, strings.Join(r.Allowed(), ",")))
			}
			slices.Sort(want)
			slices.Sort(got)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("url_map of Flask (-) and ours (+):\n%s", d)
				for _, u := range m.Unknown {
					t.Logf("unknown: %+v", u)
				}
			}
			if len(want) == 0 {
				t.Error("Flask knows no route")
			}
		})
	}
}
