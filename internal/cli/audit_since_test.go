package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAuditSince works in a real repository that names programs to run in
// every setting that git reads.
func TestAuditSince(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	const view = "import flask, os\napp = flask.Flask(__name__)\n\n@app.get(\"/%\")\ndef v%():\n    q = flask.request.args[\"q\"]\n    os.system(\"ls \" + q)\n    return \"\"\n"
	code := func(n string) string { return strings.ReplaceAll(view, "%", n) }
	dir := project1(t, map[string]string{"a.py": code("a"), "b.py": code("b"), "c.py": code("c"), "d.py": code("d")})
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"}, args...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	audit := func(args ...string) (int, string, string) {
		return dewar(t, nil, append([]string{"audit", dir, "-f", "concise"}, args...)...)
	}
	if code, out, errs := audit("--since", "HEAD"); code != exitError || !strings.Contains(errs, "git repository") {
		t.Errorf("no repository: %d %s %s", code, out, errs)
	}
	git("init", "-q", "-b", "main")
	if code, _, errs := audit("--since", "HEAD"); code != exitError || !strings.Contains(errs, "no commit") {
		t.Errorf("no commit: %d %s", code, errs)
	}
	git("add", ".")
	git("commit", "-qm", "one")
	git("checkout", "-qb", "topic")
	for _, bad := range []string{"nowhere", "--output=x", "", "HEAD..main"} {
		if code, _, errs := audit("--since=" + bad); code != exitError || errs == "" {
			t.Errorf("--since=%s: %d %s", bad, code, errs)
		}
	}
	found := func(rev string) string {
		t.Helper()
		_, out, errs := audit("--since", rev)
		if errs != "" {
			t.Errorf("%s", errs)
		}
		var in []string
		for _, name := range []string{"a.py", "b.py", "c.py", "d.py", "e.py", "new.py"} {
			if strings.Contains("\n"+out, "\n"+name+":7:") {
				in = append(in, name)
			}
		}
		return strings.Join(in, " ")
	}
	if got := found("main"); got != "" {
		t.Errorf("nothing changed: %s", got)
	}
	write("a.py", strings.Replace(code("a"), "args[\"q\"]", "args[\"r\"]", 1)) // the source only
	write("b.py", strings.Replace(code("b"), "return \"\"", "return \"x\"", 1))
	write("new.py", code("new"))
	git("mv", "c.py", "e.py")
	write("d.py", strings.ReplaceAll(code("d"), "\n", "\r\n"))
	// Everything that git could be made to run, if it looked at files.
	ran := filepath.Join(t.TempDir(), "ran")
	evil := filepath.Join(t.TempDir(), "evil")
	if err := os.WriteFile(evil, []byte("#!/bin/sh\necho $0 >> "+ran+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	git("config", "core.fsmonitor", evil)
	git("config", "diff.external", evil)
	git("config", "filter.x.clean", evil)
	git("config", "diff.x.textconv", evil)
	git("config", "core.pager", evil)
	git("config", "core.sshCommand", evil)
	write(".gitattributes", "*.py filter=x diff=x\n")
	if got := found("main"); got != "a.py new.py" {
		t.Errorf("a step of the trace, a new file, not a renamed one: %q", got)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("git ran what the repository names")
	}
	git("config", "--unset", "core.fsmonitor")
	git("config", "--unset", "filter.x.clean")
	git("checkout", "-q", "-b", "other", "main")
	git("stash", "-q", "-u")
	write("a.py", code("a")+"# more\n")
	git("commit", "-qam", "other work")
	if got := found("topic"); got != "" {
		t.Errorf("topic is behind: %q", got)
	}
	git("checkout", "-q", "topic")
	if got := found("other"); got != "" {
		t.Errorf("what the other branch did is no change of this one: %q", got)
	}
	// A place of a cause that has others, elsewhere, unchanged.
	const slow = "import requests\n\ndef f(u):\n    return requests.get(u)\n"
	write("f.py", slow)
	git("add", "f.py")
	git("commit", "-qm", "slow")
	write("f.py", slow+"\ndef g(u):\n    return requests.head(u)\n")
	if _, out, _ := audit("--since", "HEAD"); !strings.Contains(out, "f.py:7:12: low[DW-ABUSE-001] requests.head has no timeout") || strings.Contains(out, "places") {
		t.Errorf("a new place of a known cause:\n%s", out)
	}
	if code, out, _ := dewar(t, nil, "audit", dir, "--since", "main", "-f", "json"); code != exitOK || !strings.Contains(out, "\"elsewhere\": ") {
		t.Errorf("%d: findings elsewhere fail:\n%s", code, out)
	}
}
