package cli

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/control"
)

// TestVirtualPatches attacks the leaky example through the guard, with the WAF
// off: bare, every attack works; with the findings of the audit held shut none
// does, and what visitors do still works.
func TestVirtualPatches(t *testing.T) {
	root := real(t)
	leaky := filepath.Join(root, "examples", "leaky")
	attacks := []struct{ what, target, effect string }{
		{"SQL injection", "/?q=" + url.QueryEscape("x' UNION SELECT 4242, 'sql'||'works', 0 --"), "sqlworks"},
		{"template injection", "/tools/greet?name=" + url.QueryEscape("{{ 7*191 }}"), "1337"},
		{"command injection", "/tools/ping?host=" + url.QueryEscape("localhost;exit 7"), "1792"},
		{"code injection", "/tools/calculate?sum=" + url.QueryEscape("len('dewar')*1000"), "5000"},
		{"path traversal", "/tools/manual?file=../wsgi.py", "DELIBERATELY VULNERABLE"},
		{"path traversal, encoded twice", "/tools/manual?file=..%2Fwsgi.py", "DELIBERATELY VULNERABLE"},
		{"script in a page", "/desk/hello?name=" + url.QueryEscape("<script>alert(1)</script>"), "<script>alert(1)"},
		{"script in a template", "/?q=" + url.QueryEscape("<b onclick=a>"), "<b onclick=a>"},
		{"attribute without quotes", "/desk/?topic=" + url.QueryEscape("x onmouseover=a"), "data-topic=x onmouseover=a"},
		{"the second of two values", "/desk/hello?name=kim&name=" + url.QueryEscape("<script>alert(1)</script>"), ""},
	}
	honest := []struct{ target, want string }{
		{"/?q=chair", "<button>"}, {"/?q=" + url.QueryEscape(`5" screen, 50% off`), "<button>"}, {"/tools/greet?name=Kim+O%27Neil", "Hello Kim O'Neil"}, {"/tools/ping?host=localhost", `"status": 0`},
		{"/tools/calculate?sum=" + url.QueryEscape("(1+2)*3"), `"result": 9`}, {"/tools/manual?file=flask.txt", ""}, {"/tools/manual", ""}, {"/desk/hello?name=" + url.QueryEscape("Tom & Kim <3"), "Hello Tom"}, {"/desk/?topic=chairs", "About chairs"},
		{"/tools/go?to=/desk/", ""}, {"/?unrelated=" + url.QueryEscape("{{ 1 }}"), "<button>"},
	}
	for _, patched := range []bool{false, true} {
		mode := "off"
		if patched {
			mode = "enforce"
		}
		s := start(t, leaky, []string{"INSTANCE_PATH=" + t.TempDir(), "SECRET_KEY=e2e-0f3a9b7c5d1e8f2a4b6c8d0e2f4a6b8c1d"}, "--profile", "development", "--set", "injection.mode=off", "--set", "injection.virtual-patches="+mode)
		for _, e := range s.environ {
			if data, ok := strings.CutPrefix(e, "XDG_DATA_HOME="); ok {
				pem, err := os.ReadFile(filepath.Join(data, "dewar", "ca", "dewar-local-ca.pem")) // what development has for a certificate
				if err != nil {
					t.Fatal(err)
				}
				s.ca.AppendCertsFromPEM(pem)
			}
		}
		c := s.client()
		for _, a := range attacks {
			got := s.ask(c, "GET", a.target, "")
			if patched {
				s.want(got, 403, a.what)
			} else if got.StatusCode != 200 || !strings.Contains(got.text, a.effect) {
				t.Errorf("%s does not work bare: %d\n%.300s", a.what, got.StatusCode, got.text)
			}
		}
		for _, h := range honest {
			if got := s.ask(c, "GET", h.target, ""); got.StatusCode >= 400 || !strings.Contains(got.text, h.want) {
				t.Errorf("patched %v: %s: %d\n%.300s", patched, h.target, got.StatusCode, got.text)
			}
		}
		if patched {
			// A redirection to another site is a finding of medium severity:
			// noted. The event names finding, place and parameter, no value.
			if got := s.ask(c, "GET", "/tools/go?to=https%3A%2F%2Felsewhere.example%2F", ""); got.StatusCode != 302 {
				t.Errorf("a finding of medium severity: %d", got.StatusCode)
			}
		}
		s.stop()
		if !patched {
			continue
		}
		log, err := os.ReadFile(s.log)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"patch.check":"DW-INJECTION-001"`, `leaky/tools.py:32`, `"patch.parameter":"query host"`, `"patch.fingerprint":"`, `DW-INJECTION-017`} {
			if !bytes.Contains(log, []byte(want)) {
				t.Errorf("the log does not say %s", want)
			}
		}
	}
}

// TestPatchesInTheChecklist: a finding whose every source is held shut is
// mitigated, one with another source is not.
func TestPatchesInTheChecklist(t *testing.T) {
	real(t)
	const head = "import os\nfrom flask import Flask, request\napp = Flask(__name__)\napp.secret_key = os.environ['SECRET_KEY']\n"
	for name, c := range map[string]struct {
		app  string
		want control.Status
	}{
		"covered":    {head + "@app.get('/read')\ndef read():\n    return open(os.path.join('files', request.args['name'])).read()\n", control.Mitigated},
		"a raw body": {head + "@app.post('/read')\ndef read():\n    name = request.args.get('name') or request.get_data(as_text=True)\n    return open(os.path.join('files', name)).read()\n", control.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range map[string]string{"app.py": c.app, "requirements.txt": "flask==3.1.3\n"} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := start(t, dir, []string{"SECRET_KEY=e2e-0f3a9b7c5d1e8f2a4b6c8d0e2f4a6b8c1d"}, "--set", "injection.mode=off")
			// What the app has no route for gets its own page without reaching
			// it, once it gave the page twice.
			cl := s.client()
			for _, path := range []string{"/none/1", "/none/2", "/wp-login.php"} {
				if a := s.ask(cl, "GET", path, ""); a.StatusCode != 404 || !strings.Contains(a.text, "The requested URL was not found on the server") {
					t.Errorf("%s: %d %s", path, a.StatusCode, a.text)
				}
			}
			var out, errs bytes.Buffer
			if code := execute(t.Context(), []string{"check", dir, "--profile", "production", "--url", s.https, "--ca", s.cert, "--format", "json"}, s.environ, nil, &out, &errs); code != exitOK && code != exitFindings {
				t.Fatalf("dewar check ended with %d: %s", code, &errs)
			}
			var list struct {
				Controls []control.Row `json:"controls"`
			}
			if err := json.Unmarshal(out.Bytes(), &list); err != nil {
				t.Fatal(err)
			}
			for _, row := range list.Controls {
				if row.ID != "injection" {
					continue
				}
				refused := regexp.MustCompile(`"dewar.verdict":"deny","dewar.reason":"route-unknown"[^\n]*"url.path":"/wp-login.php"`)
				eventually(t, "the event of a path without a route", func() bool {
					log, err := os.ReadFile(s.log)
					return err == nil && refused.Match(log)
				})
				if row.Status != c.want || c.want == control.Mitigated && !strings.Contains(row.Because, "virtual-patches") {
					t.Errorf("%s: %s", row.Status, row.Because)
				}
				return
			}
			t.Error("no row for injection")
		})
	}
}
