package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWAF drives the commands as a user would.
func TestWAF(t *testing.T) {
	dir := project1(t, map[string]string{"app.py": "from flask import Flask\napp = Flask(__name__)\n", "dewar.policy.json": `{"version": 1, "routes": [{"rule": "/item/<int:id>", "methods": ["GET"]}]}`})
	log := filepath.Join(t.TempDir(), "access.log")
	line := func(uri string) string {
		return `203.0.113.9 - - [02/Jan/2026:03:04:05 +0100] "GET ` + uri + ` HTTP/1.1" 200 5 "-" "Mozilla/5.0"` + "\n"
	}
	if err := os.WriteFile(log, []byte(line("/item/7?q=x+%3D%3D+y")+line("/item/8?q=hello")+"garbage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(want int, wants ...string) {
		t.Helper()
		args := wants[:0:0]
		for i, w := range wants {
			if w == "--" {
				args, wants = wants[:i], wants[i+1:]
				break
			}
		}
		code, out, errOut := dewar(t, nil, args...)
		if code != want {
			t.Errorf("%v: status %d, want %d: %s%s", args, code, want, out, errOut)
		}
		for _, w := range wants {
			if !strings.Contains(out+errOut, w) {
				t.Errorf("%v: no %q in\n%s%s", args, w, out, errOut)
			}
		}
	}
	run(0, "waf", "replay", log, "--project", dir, "--", "2 requests, 1 lines in no known form: refused 0")
	run(1, "waf", "replay", log, "--project", dir, "--with", "injection.paranoia=2", "--check", "--", "refused today 0, with the change 1", "/item/<int:id>", "ARGS:q", "942120")
	run(0, "waf", "replay", log, "--project", dir, "--with", "injection.paranoia=2", "--format", "toml", "--", `path = "/item/*"`, "exclude = [942120]")
	run(0, "waf", "replay", log, "--project", dir, "--with", "injection.paranoia=2", "--format", "json", "--", `"newly_refused"`)
	run(2, "waf", "replay", log, "--project", dir, "--with", "injection.paranoia", "--", "key=value")
	run(2, "waf", "replay", log, "--project", dir, "--format", "xml", "--", "text, json or toml")
	run(2, "waf", "replay", filepath.Join(dir, "app.py"), "--project", dir, "--", "no request was found")
	run(2, "waf", "replay", filepath.Join(dir, "none"), "--project", dir, "--", "no such file")

	events := filepath.Join(t.TempDir(), "security.log")
	event := `{"time":"2026-01-02T03:04:05Z","id":"x","event.name":"input_validation_fail","severity":"high","dewar.layer":"waf","dewar.verdict":"observe","dewar.reason":"waf-attack","http.request.method":"POST","url.path":"/post/4","client.address":"203.0.113.7","attributes":{"waf.matches":"941100@ARGS:body"}}` + "\n"
	if err := os.WriteFile(events, []byte(event+event), 0o600); err != nil {
		t.Fatal(err)
	}
	run(0, "waf", "report", events, "--", "0 refused, 2 observed", "POST /post/<int>", "ARGS:body", "941100", "observed")
	run(2, "waf", "report", filepath.Join(dir, "app.py"), "--", "no security log")
	if err := os.WriteFile(filepath.Join(dir, "dewar.policy.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(2, "waf", "replay", log, "--project", dir, "--", "dewar.policy.json: policy: line 1")
}
