package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/audit"
)

// dewar runs the program in an empty environment.
func dewar(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = execute(t.Context(), args, append([]string{"HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}, environ...), strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func project1(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const debugApp = "import os\nfrom flask import Flask\napp = Flask(__name__)\napp.secret_key = os.environ[\"SECRET_KEY\"]\napp.config.update(SESSION_COOKIE_SECURE=True, SESSION_COOKIE_SAMESITE=\"Lax\", DEBUG=True)\n"

// TestBadInput: a clear error or a noted skip, never a crash, never a lost
// finding.
func TestBadInput(t *testing.T) {
	hostile := project1(t, map[string]string{
		"app.py":           debugApp,
		"broken.py":        "def f(:\n  x = = 1\n",
		"binary.py":        "\x7fELF\x00\x01\x02" + strings.Repeat("\x00\xff", 500),
		"latin.py":         "# -*- coding: latin-1 -*-\nname = '\xe9'\n",
		"deep.py":          strings.Repeat("(", 50000),
		"templates/x.html": "{% if %}<form method=post>{{",
		".env.example":     "SECRET_KEY=\n",
	})
	big, err := os.Create(filepath.Join(hostile, "big.py"))
	if err != nil {
		t.Fatal(err)
	}
	if err := big.Truncate(50 << 20); err != nil {
		t.Fatal(err)
	}
	big.Close()
	for link, to := range map[string]string{"loop": ".", "self": "self", "dangling.py": "nowhere.py", "outside.py": "/etc/passwd"} {
		if err := os.Symlink(to, filepath.Join(hostile, link)); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("hostile project", func(t *testing.T) {
		code, out, errs := dewar(t, nil, "audit", hostile)
		if code != exitFindings || errs != "" {
			t.Fatalf("ended with %d, %s", code, errs)
		}
		for _, want := range []string{"DW-SETTINGS-001", "app.py:5", "broken.py", "binary.py", "big.py", "deep.py", "outside.py"} {
			if !strings.Contains(out, want) {
				t.Errorf("nothing is said about %s:\n%s", want, out)
			}
		}
		if strings.Contains(out, "root:") {
			t.Error("a link led out of the project")
		}
		if code, _, _ := dewar(t, nil, "audit", hostile, "--fail-on", "never", "--strict"); code != exitIncomplete {
			t.Errorf("--strict ended with %d", code)
		}
	})
	file := filepath.Join(hostile, "app.py")
	empty := t.TempDir()
	for name, tt := range map[string]struct {
		args []string
		want []string
	}{
		"missing folder":      {[]string{"audit", "/no/such/folder"}, []string{"/no/such/folder does not exist"}},
		"a file":              {[]string{"audit", file}, []string{"is a file"}},
		"unknown command":     {[]string{"audti"}, []string{"unknown command", "audit"}},
		"unknown flag":        {[]string{"audit", "--frmat", "x"}, []string{"unknown flag", "--help"}},
		"unknown format":      {[]string{"audit", empty, "--format", "xml"}, []string{"xml", "sarif"}},
		"two on stdout":       {[]string{"audit", empty, "--format", "json", "--format", "text"}, []string{"standard output"}},
		"unwritable output":   {[]string{"audit", empty, "--format", "json=/no/such/folder/x"}, []string{"cannot write /no/such/folder/x"}},
		"missing baseline":    {[]string{"audit", empty, "--baseline", "gone.json"}, []string{"gone.json does not exist", "--write-baseline"}},
		"bad severity":        {[]string{"audit", empty, "--fail-on", "awful"}, []string{"--fail-on", "awful"}},
		"no rule":             {[]string{"audit", empty, "--set", "audit.disable=DW-CSRF-01"}, []string{"DW-CSRF-01", "DW-CSRF-001"}},
		"missing settings":    {[]string{"config", empty, "--config", "/no/such.toml"}, []string{"/no/such.toml"}},
		"no key=value":        {[]string{"config", empty, "--set", "csrf.mode"}, []string{"key=value"}},
		"no profile":          {[]string{"config", empty, "--profile", "prod"}, []string{"prod", "production, staging, development"}},
		"probe nobody":        {[]string{"probe"}, []string{"name the site"}},
		"probe no URL":        {[]string{"probe", "localhost"}, []string{"localhost"}},
		"probe nothing there": {[]string{"probe", "https://127.0.0.1:1"}, []string{"127.0.0.1:1"}},
		"no check":            {[]string{"probe", "https://127.0.0.1:1", "--only", "csfr"}, []string{"csfr", "csrf"}},
		"no topic":            {[]string{"explain", "crsf"}, []string{"crsf", `did you mean "csrf"`}},
		"no color":            {[]string{"explain", "--color", "yes"}, []string{"--color", "auto"}},
		"run nothing":         {[]string{"run", empty}, []string{"no Flask app found", "--app"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, errs := dewar(t, nil, tt.args...)
			if code != exitError {
				t.Errorf("ended with %d, want %d", code, exitError)
			}
			for _, w := range tt.want {
				if !strings.Contains(errs, w) {
					t.Errorf("no %q in: %s", w, errs)
				}
			}
			if strings.Contains(errs, "panic") || strings.Contains(errs, "goroutine") {
				t.Errorf("a crash: %s", errs)
			}
		})
	}
}

// TestBaselineAndSuppression: what is accepted is not reported again, and
// what is new is.
func TestBaselineAndSuppression(t *testing.T) {
	dir := project1(t, map[string]string{"app.py": debugApp})
	base := filepath.Join(dir, "base.json")
	if code, _, errs := dewar(t, nil, "audit", dir, "--write-baseline", base); code != exitOK {
		t.Fatal(errs)
	}
	if code, out, _ := dewar(t, nil, "audit", dir, "--baseline", "base.json"); code != exitOK || !strings.Contains(out, "1 suppressed (1 baseline)") {
		t.Errorf("ended with %d:\n%s", code, out)
	}
	// Lines above do not matter; a second finding is new.
	if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte("# a\n\n"+debugApp+"app.config[\"TESTING\"] = True\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := dewar(t, nil, "audit", dir, "--baseline", "base.json"); code != exitFindings || strings.Contains(out, "DW-SETTINGS-001") || !strings.Contains(out, "DW-SETTINGS-004") {
		t.Errorf("ended with %d:\n%s", code, out)
	}
	quiet := strings.Replace(debugApp, "DEBUG=True)", "DEBUG=True)  # dewar: ignore[DW-SETTINGS-001] a test bench, never deployed", 1)
	if code, out, _ := dewar(t, nil, "audit", project1(t, map[string]string{"app.py": quiet}), "--all"); code != exitOK || !strings.Contains(out, "never deployed") {
		t.Errorf("a suppression with a reason: %d\n%s", code, out)
	}
	silent := strings.Replace(debugApp, "DEBUG=True)", "DEBUG=True)  # dewar: ignore[DW-SETTINGS-001]", 1)
	if code, _, _ := dewar(t, nil, "audit", project1(t, map[string]string{"app.py": silent})); code != exitFindings {
		t.Errorf("a suppression without a reason counts: %d", code)
	}
}

// TestAuditIsDeterministic: the same tree gives the same bytes.
func TestAuditIsDeterministic(t *testing.T) {
	for _, format := range []string{"json", "sarif", "concise"} {
		_, one, _ := dewar(t, nil, "audit", "../../examples/leaky", "--format", format)
		for range 3 {
			if _, again, _ := dewar(t, nil, "audit", "../../examples/leaky", "--format", format); again != one {
				t.Errorf("%s differs between two runs", format)
			}
		}
		if len(one) < 1000 {
			t.Errorf("%s says nothing about examples/leaky", format)
		}
	}
}

// TestInit: the file that init writes is read back, as it is and with every
// comment taken away.
func TestInit(t *testing.T) {
	dir := project1(t, map[string]string{"wsgi.py": "from flask import Flask\napp = Flask(__name__)\n"})
	code, out, errs := dewar(t, nil, "init", dir)
	if code != exitOK || !strings.Contains(out, "wsgi") {
		t.Fatalf("%d %s %s", code, out, errs)
	}
	name := filepath.Join(dir, "dewar.toml")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if code, out, errs := dewar(t, nil, "config", dir, "--changed"); code != exitOK || strings.TrimSpace(out) != "" {
		t.Errorf("the file changes something: %d %s %s", code, out, errs)
	}
	if code, _, errs := dewar(t, nil, "init", dir); code != exitError || !strings.Contains(errs, "--force") {
		t.Errorf("init overwrites: %d %s", code, errs)
	}
	open := regexp.MustCompile(`(?m)^# ((?:[a-z0-9-]+ = |\[\[route\]\]).*)$`).ReplaceAllString(string(text), "$1")
	open = regexp.MustCompile(`(?m)^.* = …$`).ReplaceAllString(open, "")
	if err := os.WriteFile(name, []byte(open), 0o644); err != nil {
		t.Fatal(err)
	}
	code, out, errs = dewar(t, nil, "config", dir)
	if code != exitOK {
		t.Errorf("with every comment taken away: %s", errs)
	}
	if n := strings.Count(out, "dewar.toml:"); n < 30 {
		t.Errorf("only %d settings come from the file:\n%s", n, out)
	}
}

func TestConfig(t *testing.T) {
	dir := project1(t, map[string]string{"dewar.toml": "[csrf]\nmode = \"observe\"\n"})
	code, out, errs := dewar(t, []string{"DEWAR_DEPLOYMENT_THREADS=7"}, "config", dir, "--profile", "staging", "--changed")
	if code != exitOK {
		t.Fatal(errs)
	}
	for _, want := range []string{`csrf.mode = "observe"`, "dewar.toml:2", "deployment.threads = 7", "# $DEWAR_DEPLOYMENT_THREADS", `profile = "staging"`, "# --profile"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	_, out, _ = dewar(t, nil, "config", dir, "--format", "json")
	var all []struct {
		Key    string
		Origin struct{ Kind string }
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) < 40 {
		t.Errorf("%v, %d settings", err, len(all))
	}
}

func TestExplain(t *testing.T) {
	code, out, errs := dewar(t, nil, "explain", "csrf", "dw-csrf-001", "csrf-cross-site")
	if code != exitOK {
		t.Fatal(errs)
	}
	for _, want := range []string{"every state-changing request proves", "DW-CSRF-001", "bad", "good", "CWE-352", "csrf-cross-site", "not built yet"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	_, all, _ := dewar(t, nil, "explain")
	if n := strings.Count(all, "\ncontrol ") + 1; n < 14 {
		t.Errorf("%d controls explained, want 14", n)
	}
}

// TestAuditStdin: one file from standard input is judged like one of a
// project.
func TestAuditStdin(t *testing.T) {
	run := func(in string, args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		t.Chdir(t.TempDir())
		code := execute(t.Context(), append([]string{"audit", "-"}, args...), []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}, strings.NewReader(in), &out, &errs)
		return code, out.String(), errs.String()
	}
	code, out, errs := run("import os\nfrom flask import Flask, request\napp = Flask(__name__)\n\n@app.get('/x')\ndef x():\n    os.system('ls ' + request.args['d'])\n", "--stdin-name", "shop/views.py")
	if code != exitFindings || !strings.Contains(out, "shop/views.py:7") || !strings.Contains(out, "DW-INJECTION-004") {
		t.Errorf("%d %s %s", code, out, errs)
	}
	if code, out, errs := run("x = 1\n"); code != exitOK {
		t.Errorf("%d %s %s", code, out, errs)
	}
	if code, _, errs := run("x = 1\n", "--stdin-name", "../x.py"); code == exitOK || !strings.Contains(errs, "--stdin-name") {
		t.Errorf("%d %s", code, errs)
	}
}

// TestHelp: every command says what it does, gives an example where it takes
// arguments, and ends with its exit statuses.
func TestHelp(t *testing.T) {
	for _, c := range Root().Commands() {
		if c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		code, out, errs := dewar(t, nil, c.Name(), "--help")
		if code != exitOK || !strings.Contains(out, "Usage:") {
			t.Errorf("%s --help: %d %s", c.Name(), code, errs)
		}
		if c.Name() != "version" && (!strings.Contains(out, "Examples:") || !strings.Contains(out, "Exit status:")) {
			t.Errorf("%s --help has no examples or no exit statuses", c.Name())
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, out, _ := dewar(t, nil, "completion", shell); code != exitOK || len(out) < 500 {
			t.Errorf("completion %s: %d, %d bytes", shell, code, len(out))
		}
	}
	if _, out, _ := dewar(t, nil, "__complete", "explain", "DW-CSRF"); !strings.Contains(out, "DW-CSRF-001") {
		t.Errorf("explain does not complete rules: %s", out)
	}
}

func TestRoutes(t *testing.T) {
	code, out, errs := dewar(t, nil, "audit", "../../examples/shop", "--routes")
	if code != exitOK {
		t.Fatal(errs)
	}
	for _, want := range []string{"/product/<int:", "GET", "POST", "/api/orders", "34 routes"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

// TestRoutesCommand: the map for people has what was inferred, the one for
// programs is the same map.
func TestRoutesCommand(t *testing.T) {
	code, out, errs := dewar(t, nil, "routes", "../../examples/leaky")
	if code != exitOK {
		t.Fatal(errs)
	}
	for _, want := range []string{"price_cents=int", "page,fetch", "command", "exempt", "query:url"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	code, out, errs = dewar(t, nil, "routes", "--json", "../../examples/leaky")
	if code != exitOK {
		t.Fatal(errs)
	}
	var m audit.RouteMap
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(m.Routes, func(r audit.MappedRoute) bool { return r.Endpoint == "tools.preview" })
	if i < 0 || !slices.Contains(m.Routes[i].Sinks, "url") || m.Version != 1 {
		t.Errorf("version %d, tools.preview is route %d of %d", m.Version, i, len(m.Routes))
	}
}

func TestSameSite(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"https://127.0.0.1:8443", "https://localhost:8443/", true},
		{"https://[::1]:8443", "https://127.0.0.1:8443", true},
		{"https://shop.example", "https://shop.example:443/x", true},
		{"https://127.0.0.1:8443", "https://shop.example:8443", false},
		{"https://localhost:8443", "https://localhost:8444", false},
		{"https://localhost:8443", "http://localhost:8443", false},
		{"https://shop.example", "https://shop.example.evil.example", false},
	} {
		if got := sameSite(tt.a, tt.b); got != tt.want {
			t.Errorf("%s and %s: %v", tt.a, tt.b, got)
		}
	}
}

// TestInterrupted: a command that was told to stop reports nothing, rather
// than half.
func TestInterrupted(t *testing.T) {
	dir := project1(t, map[string]string{"app.py": debugApp})
	for _, name := range []string{"audit", "check"} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var out, errs bytes.Buffer
		code := execute(ctx, []string{name, dir}, []string{"HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir()}, nil, &out, &errs)
		if code != exitError || out.Len() > 0 {
			t.Errorf("%s ended with %d and said:\n%s%s", name, code, &out, &errs)
		}
	}
}
