package audit_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/audit/audittest"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// evalRule finds every call of eval, and "eval(" in templates: enough to
// drive everything around rules.
var evalRule = &audit.Rule{
	ID: "DW-TEST-001", Control: "injection", Title: "Input is evaluated", Fix: "do not", Severity: audit.High, Confidence: audit.Certain,
	CWE: []int{95}, MitigatedBy: []string{"waf"},
	Bad: "eval(x)\n", Good: "print('eval(x)')\n",
	Check: func(p *audit.Pass) {
		for f := range p.Python() {
			for i := range f.Python.Nodes {
				fn, _, _ := f.Python.Call(pysyntax.ID(i))
				if fn != 0 && f.Python.Name(fn) == "eval" {
					p.Report(audit.Finding{Span: f.NodeSpan(pysyntax.ID(i))})
				}
			}
		}
		for f := range p.Files(audit.Template, audit.Env, audit.JS) {
			if i := bytes.Index(f.Data, []byte("eval(")); i >= 0 {
				p.Report(audit.Finding{Span: f.SpanAt(i, i+5), Message: "eval in a file"})
			}
		}
	},
}

func load(t *testing.T, text string) *audit.Project {
	t.Helper()
	return audittest.Project(t, txtar.Parse([]byte(text)))
}

func run(t *testing.T, text string, opt audit.Options) *audit.Result {
	t.Helper()
	return audit.Run(context.Background(), load(t, text), []*audit.Rule{evalRule}, opt)
}

func summary(r *audit.Result) []string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, fmt.Sprintf("%s:%d", f.Span.File, f.Span.Line))
	}
	for _, f := range r.Suppressed {
		out = append(out, fmt.Sprintf("%s:%d %s: %s", f.Span.File, f.Span.Line, f.Suppressed.Kind, f.Suppressed.Reason))
	}
	for _, n := range r.Notices {
		out = append(out, fmt.Sprintf("notice %d %s", n.Span.Line, n.Message))
	}
	return out
}

func TestSuppression(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name, text string
		want       []string
	}{
		{"same line", "-- a.py --\neval(x)  # dewar: ignore[DW-TEST-001] a calculator\n", []string{"a.py:1 dewar: a calculator"}},
		{"line above", "-- a.py --\n# dewar: ignore[DW-TEST-001] a calculator\n# more words\neval(x)\neval(y)\n", []string{"a.py:4", "a.py:3 dewar: a calculator"}},
		{"inside a call of several lines", "-- a.py --\neval(\n    x,  # dewar: ignore[DW-TEST-001]: fine\n)\n", []string{"a.py:1 dewar: fine"}},
		{"line below does not count", "-- a.py --\neval(x)\n# dewar: ignore[DW-TEST-001] late\n", []string{"a.py:1", "notice 2 nothing here needs the suppression of DW-TEST-001"}},
		{"a trailing comment does not cover the next line", "-- a.py --\ny = 1  # dewar: ignore[DW-TEST-001] no\neval(x)\n", []string{"a.py:2", "notice 1 nothing here needs the suppression of DW-TEST-001"}},
		{"no reason", "-- a.py --\neval(x)  # dewar: ignore[DW-TEST-001]\n", []string{"a.py:1", "notice 1 the suppression gives no reason, so it does not count"}},
		{"no rule", "-- a.py --\neval(x)  # dewar: ignore everything\n", []string{"a.py:1", "notice 1 the suppression names no rule, so it does not count"}},
		{"empty list", "-- a.py --\neval(x)  # dewar: ignore[] because\n", []string{"a.py:1", "notice 1 the suppression names no rule, so it does not count"}},
		{"a star is no rule", "-- a.py --\neval(x)  # dewar: ignore[*] because\n", []string{"a.py:1", `notice 1 "*" is not a rule id, so it does not count`}},
		{"misspelt", "-- a.py --\neval(x)  # dewar: ignore[DW-TEST-01] because\n", []string{"a.py:1", "notice 1 there is no rule DW-TEST-01"}},
		{"several", "-- a.py --\neval(x)  # dewar: ignore[DW-TEST-009, DW-TEST-001] because\n", []string{"a.py:1 dewar: because", "notice 1 there is no rule DW-TEST-009"}},
		{"until", "-- a.py --\neval(x)  # dewar: ignore[DW-TEST-001] until 2026-11-23: soon\n", []string{"a.py:1 dewar: soon"}},
		{"expired", "-- a.py --\neval(x)  # dewar: ignore[DW-TEST-001] until 2026-11-22: soon\n", []string{"a.py:1", "notice 1 the suppression of DW-TEST-001 ended on 2026-11-22"}},
		{"until without reason", "-- a.py --\neval(x)  # dewar: ignore[DW-TEST-001] until 2027-01-01:\n", []string{"a.py:1", "notice 1 the suppression gives no reason, so it does not count"}},
		{"bad date", "-- a.py --\neval(x)  # dewar: ignore[DW-TEST-001] until tomorrow: soon\n", []string{"a.py:1", `notice 1 "tomorrow" is not a date, so it does not count`}},
		{"in a string", "-- a.py --\neval(\"# dewar: ignore[DW-TEST-001] no comment\")\n", []string{"a.py:1"}},
		{"in a docstring", "-- a.py --\n\"\"\"\n# dewar: ignore[DW-TEST-001] no comment\n\"\"\"; eval(x)\n", []string{"a.py:3"}},
		{"not a comment", "-- a.py --\neval(dewar)[1]; dewar: ignore[1] = 2\n", []string{"a.py:1"}},
		{"template", "-- templates/a.html --\n<p>{# dewar: ignore[DW-TEST-001] shown to admins #}\n<p>eval(1)\n", []string{"templates/a.html:2", "notice 1 nothing here needs the suppression of DW-TEST-001"}},
		{"template alone", "-- templates/a.html --\n{# dewar: ignore[DW-TEST-001] shown to admins #}\n<p>eval(1)\n", []string{"templates/a.html:2 dewar: shown to admins"}},
		{"html", "-- templates/a.html --\n<p>eval(1)  <!-- dewar: ignore[DW-TEST-001] shown to admins -->\n", []string{"templates/a.html:1 dewar: shown to admins"}},
		{"script", "-- a.js --\neval(1) // dewar: ignore[DW-TEST-001] static\n", []string{"a.js:1 dewar: static"}},
		{"env", "-- .env --\nA=eval(1) # dewar: ignore[DW-TEST-001] local\n", []string{".env:1 dewar: local"}},
		{"nosec", "-- a.py --\neval(x)  # nosec\n", []string{"a.py:1 nosec: # nosec"}},
		{"nosec of this weakness", "-- a.py --\neval(x)  # nosec B307\n", []string{"a.py:1 nosec: # nosec"}},
		{"nosec of another weakness", "-- a.py --\neval(x)  # nosec B105, B501\n", []string{"a.py:1"}},
		{"noqa of this weakness", "-- a.py --\neval(x)  # noqa: E501, S307\n", []string{"a.py:1 nosec: # noqa: E501, S307"}},
		{"noqa of another weakness", "-- a.py --\neval(x)  # noqa: S105\n", []string{"a.py:1"}},
		{"noqa of style", "-- a.py --\neval(x)  # noqa: E501\n", []string{"a.py:1"}},
		{"noqa of all", "-- a.py --\neval(x)  # noqa\n", []string{"a.py:1"}},
		{"noqa in a string", "-- a.py --\neval('# noqa: S307')\n", []string{"a.py:1"}},
		{"nosec in a string", "-- a.py --\neval('# nosec')\n", []string{"a.py:1"}},
		{"nosec and a reason", "-- a.py --\neval(x)  # nosec # dewar: ignore[DW-TEST-001] both\n", []string{"a.py:1 dewar: both"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, summary(run(t, tt.text, audit.Options{Now: now}))); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestBaseline(t *testing.T) {
	const before = "-- a.py --\neval(a)\neval(a)\neval(b)\n-- .env --\nA=eval(secret)\n"
	first := run(t, before, audit.Options{})
	var buf bytes.Buffer
	if err := first.Baseline().Write(&buf); err != nil {
		t.Fatal(err)
	}
	base, err := audit.ReadBaseline(&buf, "b.json")
	if err != nil {
		t.Fatal(err)
	}
	// Lines moved, whitespace changed, one finding gone, and one more of a
	// text that was there twice: exactly that one is new. The secret changed,
	// which the fingerprint of an environment file must not show.
	after := run(t, "-- a.py --\nimport os\n\n\nif os:\n        eval(a)\neval(a)\neval(a)\n-- .env --\nA=eval(other)\n", audit.Options{Baseline: base})
	want := []string{"a.py:7", ".env:1 baseline: in the baseline", "a.py:5 baseline: in the baseline", "a.py:6 baseline: in the baseline",
		"notice 0 1 of the baseline's findings are gone"}
	if d := cmp.Diff(want, summary(after)); d != "" {
		t.Error(d)
	}
	// Writing it again keeps what is accepted and adds the new one.
	if n := len(after.Baseline().Entries); n != 4 {
		t.Errorf("%d entries, want 4", n)
	}
	var x, y bytes.Buffer
	b := first.Baseline()
	b.Write(&x)
	slices.Reverse(b.Entries)
	b.Write(&y)
	if x.String() != y.String() {
		t.Error("the file depends on the order of the entries")
	}
	if bytes.Contains(x.Bytes(), []byte("secret")) {
		t.Error("the baseline holds the line")
	}
}

func TestBadBaseline(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "b.json:1: the file ends too early",
		"{\n\"version\": 1,\n\"findings\": [": "b.json:3: the file ends too early",
		"{\n\"version\": 1,\n}":               "b.json:3: invalid character",
		"{\"version\": 2, \"findings\": []}":  "version 2 is not known",
		"{\"version\": 1, \"findings\": [],\n\"x\": 1}":                  "b.json:2: unknown field \"x\"",
		"{\"version\": \"1\"}":                                           "b.json:1:",
		"{\"version\": 1,\n\"findings\": [\n{\"fingerprint\": \"zz\"}]}": "b.json:3: finding 1: \"zz\" is not a fingerprint",
		"{\"version\": 1}\n{}":                                           "b.json:2: text after the end",
	} {
		_, err := audit.ReadBaseline(strings.NewReader(text), "b.json")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
			continue
		}
		if !strings.Contains(err.Error(), "--write-baseline") {
			t.Errorf("%q: no fix in %v", text, err)
		}
	}
}

func TestEvidence(t *testing.T) {
	ok := *evalRule
	panics := audit.Rule{ID: "DW-TEST-002", Control: "csrf", Title: "Panics", Check: func(p *audit.Pass) {
		p.Report(audit.Finding{Span: audit.Span{File: "a.py", Line: 1}, Message: "found before"})
		panic("a rule that is broken")
	}}
	na := audit.Rule{ID: "DW-TEST-003", Control: "csrf", Title: "N", Check: func(p *audit.Pass) { p.NotApplicable("there is no form") }}
	blind := audit.Rule{ID: "DW-TEST-004", Control: "csrf", Title: "B", Check: func(p *audit.Pass) {
		p.NotApplicable("x")
		p.CouldNotLook("the settings are computed")
		p.NotApplicable("y")
	}}
	pass := audit.Rule{ID: "DW-TEST-005", Control: "csrf", Title: "Quiet", Check: func(p *audit.Pass) {}}
	silent := audit.Rule{ID: "DW-TEST-006", Control: "csrf", Title: "No code"}
	p := load(t, "-- a.py --\neval(x)\neval(y)  # nosec\n-- b.py --\ndef (:\n")
	now := time.Now()
	got := audit.Run(context.Background(), p, []*audit.Rule{&silent, &pass, &blind, &na, &panics, &ok}, audit.Options{}).Evidence(now)
	var lines []string
	for _, e := range got {
		if err := e.Validate(); err != nil {
			t.Error(err)
		}
		s := e.Check + " " + e.Outcome.String() + " " + e.Summary
		if e.Location != nil {
			s += " " + e.Location.String()
		}
		lines = append(lines, s)
	}
	want := []string{
		"DW-TEST-001 fail Input is evaluated a.py:1:1",
		"DW-TEST-002 fail found before a.py:1",
		"DW-TEST-002 error the rule failed: a rule that is broken, at audit/audit_test.go",
		"DW-TEST-003 not-applicable there is no form",
		"DW-TEST-004 error the settings are computed",
		"DW-TEST-005 pass not found: quiet (1 file understood in part)",
		"DW-TEST-006 error the rule has no code",
	}
	if len(lines) != len(want) {
		t.Fatalf("%s", strings.Join(lines, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("got  %s\nwant %s", lines[i], want[i])
		}
	}
	if got[0].Fix != "do not" || !slices.Equal(got[0].MitigatedBy, []string{"waf"}) {
		t.Errorf("fix or mitigation lost: %+v", got[0])
	}

	// All suppressed with a reason: a pass that says so.
	r := run(t, "-- a.py --\neval(x)  # dewar: ignore[DW-TEST-001] a calculator\n", audit.Options{})
	if e := r.Evidence(now); len(e) != 1 || e[0].Outcome != evidence.Pass || !strings.Contains(e[0].Summary, "1 finding accepted with a reason") {
		t.Errorf("%+v", e)
	}
	// Nothing read proves nothing.
	empty, err := audit.Load(context.Background(), t.TempDir(), audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if e := audit.Run(context.Background(), empty, []*audit.Rule{&pass}, audit.Options{}).Evidence(now); e[0].Outcome != evidence.Error {
		t.Errorf("an empty project passes: %+v", e)
	}
	// So does an audit called off.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if e := audit.Run(ctx, p, []*audit.Rule{&pass}, audit.Options{}).Evidence(now); e[0].Outcome != evidence.Error {
		t.Errorf("an audit called off passes: %+v", e)
	}
}

func TestDeterministic(t *testing.T) {
	var text strings.Builder
	for i := range 60 {
		fmt.Fprintf(&text, "-- d%d/m%d.py --\neval(a); eval(b)\neval(a)\n", i%7, i)
	}
	p := load(t, text.String())
	second := *evalRule
	second.ID = "DW-TEST-000"
	var first string
	for i := range 8 {
		r := audit.Run(context.Background(), p, []*audit.Rule{evalRule, &second}, audit.Options{Parallel: 1 + i})
		var b strings.Builder
		for _, f := range r.Findings {
			fmt.Fprintln(&b, f.Rule.ID, f.Span, f.Fingerprint)
		}
		if i == 0 {
			first = b.String()
			if len(r.Findings) != 360 {
				t.Fatalf("%d findings", len(r.Findings))
			}
		} else if b.String() != first {
			t.Fatal("another order")
		}
	}
	seen := map[string]bool{}
	for line := range strings.Lines(first) {
		f := strings.Fields(line)
		fp := f[len(f)-1]
		if seen[fp] {
			t.Fatal("two findings with one fingerprint")
		}
		seen[fp] = true
	}
}

func TestFailOn(t *testing.T) {
	r := run(t, "-- a.py --\neval(x)\n", audit.Options{})
	for text, n := range map[string]int{"low": 1, "high": 1, "high/certain": 1, "critical": 0, "never": 0, "critical/possible": 0} {
		var f audit.FailOn
		if err := f.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if got := len(r.Failing(f)); got != n {
			t.Errorf("%s: %d, want %d", text, got, n)
		}
		if f.String() != text {
			t.Errorf("%q became %q", text, f)
		}
	}
	if len(r.Failing(audit.FailOn{})) != 1 {
		t.Error("the zero threshold lets a finding pass")
	}
	var f audit.FailOn
	if err := f.UnmarshalText([]byte("hgih")); err == nil || !strings.Contains(err.Error(), "low, medium, high, critical") {
		t.Errorf("%v", err)
	}
}

// TestLoadHostile reads a tree with everything that goes wrong.
func TestLoadHostile(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	write := func(name, data string) {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("app.py", "from flask import Flask\napp = Flask(__name__, template_folder='pages')\n")
	write("pages/a.html", "<p>")
	write("bad.py", "def f(:\n    pass\nx = 1\n")
	write("binary.py", "import os\x00\x01\x02")
	write("latin.py", "# -*- coding: latin-1 -*-\ns = '\xe4'\n")
	write("image.png", "\x89PNG\x00")
	write("blob", "\x7fELF\x00")
	write("run", "#!/usr/bin/env python3\nprint()\n")
	write("settings.prod", "SECRET_KEY=1\n")
	write(".venv/pyvenv.cfg", "home = /usr\n")
	write(".venv/lib/x.py", "eval(1)\n")
	write("env2/pyvenv.cfg", "home = /usr\n")
	write("env2/y.py", "eval(1)\n")
	write("node_modules/a/a.js", "eval(1)\n")
	write("pkg/__pycache__/a.py", "eval(1)\n")
	write("build/lib/z.py", "eval(1)\n")
	write("pyproject.toml", "[project]\n")
	write("src/build/__init__.py", "")
	write("skipme/q.py", "eval(1)\n")
	write("tests/test_app.py", "eval(1)\n")
	write("deep/"+strings.Repeat("d/", 300)+"deep.py", "x = 1\n")
	if err := os.Truncate(filepath.Join(root, "bad.py"), 22); err != nil {
		t.Fatal(err)
	}
	write("huge.py", "x = 1\n")
	if err := os.Truncate(filepath.Join(root, "huge.py"), 50<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "secret.py"), []byte("eval(1)\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	link("loop_a", "loop_b")
	link("loop_b", "loop_a")
	link(".", "pkg/here")
	link("..", "pkg/up")
	link(outside, "away")
	link(filepath.Join(outside, "secret.py"), "stolen.py")
	link("settings.prod", ".env")
	link("app.py", "alias.py")
	link("nothing", "dangling.py")
	if err := syscall.Mkfifo(filepath.Join(root, "pipe.py"), 0o644); err != nil {
		t.Fatal(err)
	}
	root2 := os.Getuid() == 0
	write("locked.py", "x = 1\n")
	if err := os.Chmod(filepath.Join(root, "locked.py"), 0); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	p, err := audit.Load(ctx, root, audit.Options{Exclude: []string{"skipme"}})
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, f := range p.Files {
		if strings.HasPrefix(f.Path, "deep/") {
			files = append(files, "deep")
			continue
		}
		files = append(files, f.Path+" "+f.Kind.String())
	}
	want := []string{".env env", "app.py python", "bad.py python", "deep", "latin.py python", "pages/a.html template", "pyproject.toml toml",
		"run python", "settings.prod text", "src/build/__init__.py python", "tests/test_app.py python"}
	if root2 {
		want = append(want, "locked.py python")
		slices.Sort(want)
	}
	if d := cmp.Diff(want, files); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"blob", "image.png"}, p.Other); d != "" {
		t.Error(d)
	}
	skips := map[string]string{}
	for _, s := range p.Skipped {
		skips[s.Path] = s.Reason
		if s.Routine != slices.Contains([]string{".venv", "env2", "node_modules", "pkg/__pycache__", "build", "skipme", "alias.py", "pkg/here", "pkg/up"}, s.Path) {
			t.Errorf("%s: routine is %v", s.Path, s.Routine)
		}
	}
	for name, want := range map[string]string{
		"binary.py": "binary", "huge.py": "50.0 MiB", "loop_a": "leads to itself", "away": "leaves the project", "stolen.py": "leaves the project",
		"pipe.py": "not a regular file", "dangling.py": "to nothing", "skipme": "excluded by the settings", "pkg/here": "symbolic link", ".venv": "virtual environment",
	} {
		if !strings.Contains(skips[name], want) {
			t.Errorf("%s: skipped for %q, want %q", name, skips[name], want)
		}
	}
	if !root2 && skips["locked.py"] == "" {
		t.Error("an unreadable file is not noted")
	}
	if len(p.NotUnderstood) == 0 || p.NotUnderstood[0].Span.File != "bad.py" || p.NotUnderstood[0].Span.Line != 1 {
		t.Errorf("not understood: %+v", p.NotUnderstood)
	}
	r := audit.Run(ctx, p, []*audit.Rule{evalRule}, audit.Options{})
	if len(r.Findings) != 0 {
		t.Errorf("read what it should not have: %+v", r.Findings)
	}

	if _, err := audit.Load(ctx, filepath.Join(root, "nowhere"), audit.Options{}); err == nil {
		t.Error("a root that is not there is no error")
	}
	if _, err := audit.Load(ctx, root, audit.Options{Exclude: []string{"[a"}}); err == nil {
		t.Error("a bad pattern is no error")
	}
	small, err := audit.Load(ctx, root, audit.Options{MaxFiles: 3, MaxTotalSize: 10, Parallel: 1})
	if err != nil {
		t.Fatal(err)
	}
	over := 0
	for _, s := range small.Skipped {
		if strings.Contains(s.Reason, "the project") && !s.Routine {
			over++
		}
	}
	if len(small.Files) > 3 || over == 0 {
		t.Errorf("the limits do not hold: %d files, %d skips", len(small.Files), over)
	}
}

func TestTracked(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("NOT TESTED: there is no git to make an index with")
	}
	root := t.TempDir()
	do := func(args ...string) {
		t.Helper()
		cmd := exec.Command(git, args...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	names := []string{".env", "web/.env", "web/app.py", "web/a-rather-long-name-that-needs-no-padding.py", "web/ü.py", "z"}
	os.MkdirAll(filepath.Join(root, "web"), 0o755)
	for _, n := range append(names, "web/loose.py") {
		if err := os.WriteFile(filepath.Join(root, n), []byte("x = 1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	do("init", "-q")
	do(append([]string{"add", "-f"}, names...)...)
	check := func(what, dir, prefix string) {
		t.Helper()
		p, err := audit.Load(context.Background(), dir, audit.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range append(names, "web/loose.py") {
			rel, ok := strings.CutPrefix(n, prefix)
			if !ok {
				continue
			}
			if tracked, known := p.Tracked(rel); !known || tracked != (n != "web/loose.py") {
				t.Errorf("%s: %s tracked %v known %v", what, n, tracked, known)
			}
		}
	}
	check("version 2", root, "")
	check("a folder of the repository", filepath.Join(root, "web"), "web/")
	do("update-index", "--index-version", "4")
	check("version 4", root, "")
	do("update-index", "--index-version", "3")
	do("add", "-N", "web/loose.py")
	do("rm", "-q", "--cached", "web/loose.py")
	check("version 3", root, "")

	index := filepath.Join(root, ".git/index")
	b, _ := os.ReadFile(index)
	os.WriteFile(index, append(b[:len(b)-3], 'x', 'y', 'z'), 0o644)
	p, _ := audit.Load(context.Background(), root, audit.Options{})
	if _, known := p.Tracked(".env"); known {
		t.Error("a damaged index is believed")
	}
	p, _ = audit.Load(context.Background(), t.TempDir(), audit.Options{})
	if _, known := p.Tracked(".env"); known {
		t.Error("known without a repository")
	}
}

func TestExamples(t *testing.T) { audittest.Examples(t, []*audit.Rule{evalRule}) }

// TestAudittest holds that the test helper can fail.
func TestAudittest(t *testing.T) {
	rules := []*audit.Rule{evalRule}
	for text, want := range map[string][]string{
		"Finds it.\n-- a.py --\neval(x)  # want DW-TEST-001\n":                   nil,
		"Near miss.\n-- a.py --\neval\n":                                         nil,
		"Golden.\n-- a.py --\neval(x)\n-- want --\na.py:1: DW-TEST-001\n":        nil,
		"Template.\n-- templates/a.html --\neval(1) {# want DW-TEST-001 #}\n":    nil,
		"Twice.\n-- a.py --\neval(x), eval(y)  # want DW-TEST-001 DW-TEST-001\n": nil,
		"Twice.\n-- a.py --\neval(x), eval(y)  # want DW-TEST-001\n":             {"unexpected a.py:1: DW-TEST-001: Input is evaluated"},
		"Missing.\n-- a.py --\nprint(x)  # want DW-TEST-001\n":                   {"missing a.py:1: DW-TEST-001"},
		"Unknown.\n-- a.py --\nprint(x)  # want DW-TEST-009\n":                   {"a.py:1: wants DW-TEST-009, which is not among the rules tested"},
		"Garbled.\n-- a.py --\nx\n-- want --\nnonsense\n":                        {`want: "nonsense" is not file:line: DW-XXX-001`},
		"-- a.py --\nx\n": {"the case does not say what it tests: begin it with a sentence"},
	} {
		if d := cmp.Diff(want, audittest.Check(t, txtar.Parse([]byte(text)), rules)); d != "" {
			t.Errorf("%q:\n%s", text, d)
		}
	}
}
