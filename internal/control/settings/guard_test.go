package settings

import (
	"bufio"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/guard"
)

func get(t testing.TB, target string) *guard.Exchange {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: shop.example\r\n\r\n")))
	if err != nil {
		t.Fatalf("%q: %v", target, err)
	}
	return &guard.Exchange{Request: r, Path: r.URL.Path, Client: guard.Client{Scheme: "https", Host: "shop.example"}}
}

func TestNeverPublic(t *testing.T) {
	l, err := NewNeverPublic(Config{
		Private: []string{"/internal/**", "**/*.log"},
		Public:  []string{"/downloads/*.db", "/internal/health"},
	}, guard.Env{Facts: func() guard.Facts {
		return guard.Facts{Known: true, Routes: []guard.FactRoute{{Rule: "/export/all.sql"}, {Rule: "/keys/site.pem/"}, {Rule: "/static/<path:filename>"}}}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ target, reason string }{
		// What scanners ask for.
		{"/console", "never-public-debugger"},
		{"///console", "never-public-debugger"},
		{"/console/", "never-public-debugger"},
		{"/c%6fnsole", "never-public-debugger"},
		{"/?__debugger__=yes&cmd=resource&f=debugger.js", "never-public-debugger"},
		{"/any/page?a=1&__debugger__=yes&cmd=pinauth&pin=1&s=x", "never-public-debugger"},
		{"/?%5f%5Fdebugger__=yes", "never-public-debugger"},
		{"/?a=%zz&__debugger__=yes", "never-public-debugger"},
		{"/?__debugger__", "never-public-debugger"},
		{"/?a;__debugger__=yes", "never-public-debugger"},
		{"/downloads/x.db?__debugger__=yes", "never-public-debugger"},
		{"/__debugger__/x", "never-public-debugger"},
		{"/.git/config", "never-public-dotfile"},
		{"/.GIT/HEAD", "never-public-dotfile"},
		{"/%2egit/HEAD", "never-public-dotfile"},
		{"/static/.git/HEAD", "never-public-dotfile"},
		{"/.git;x=1/HEAD", "never-public-dotfile"},
		{"/.env", "never-public-dotfile"},
		{"/.env.production", "never-public-dotfile"},
		{"/app/.flaskenv", "never-public-dotfile"},
		{"/.svn/entries", "never-public-dotfile"},
		{"/.aws/credentials", "never-public-dotfile"},
		{"/.DS_Store", "never-public-dotfile"},
		{"/.htpasswd", "never-public-dotfile"},
		{"/static/.well-known/x", "never-public-dotfile"},
		{"/.well-known/.git/HEAD", "never-public-dotfile"},
		{"/.well-knownx", "never-public-dotfile"},
		{"/app.py~", "never-public-backup"},
		{"/config.bak", "never-public-backup"},
		{"/CONFIG.BAK", "never-public-backup"},
		{"/static/app.js.orig", "never-public-backup"},
		{"/app.py.swp", "never-public-backup"},
		{"/%23app.py%23", "never-public-backup"},
		{"/backup/dump.sql", "never-public-backup"},
		{"/dump.sql.gz", "never-public-backup"},
		{"/site.old/", "never-public-backup"},
		{"/app.db", "never-public-file"},
		{"/instance/app.sqlite3", "never-public-file"},
		{"/app.db%20", "never-public-file"},
		{"/app.db.", "never-public-file"},
		{"/app.py::$DATA", "never-public-file"},
		{"/app.db;x", "never-public-file"},
		{"/app.db/", "never-public-file"},
		{"/server.key", "never-public-file"},
		{"/id_rsa", "never-public-file"},
		{"/cert.PEM", "never-public-file"},
		{"/app.py", "never-public-file"},
		{"/static/../app.py", "never-public-file"}, // the request layer observes
		{"/__pycache__/app.cpython-312.pyc", "never-public-file"},
		{"/Dockerfile", "never-public-file"},
		{"/docker-compose.yml", "never-public-file"},
		{"/requirements.txt", "never-public-file"},
		{"/pyproject.toml", "never-public-file"},
		{"/server-status", "never-public-file"},
		{"/server-status/", "never-public-file"},
		{"/static/keys/site.pem", "never-public-file"},
		{"/internal", "never-public-listed"},
		{"/internal/x", "never-public-listed"},
		{"/var/app.log", "never-public-listed"},
		// What visitors ask for.
		{"/", ""},
		{"/static/app.js", ""},
		{"/static/app.min.js.map", ""},
		{"/static/v1.2.3/app.css", ""},
		{"/.well-known/acme-challenge/AbC_-123", ""},
		{"/.well-known/security.txt", ""},
		{"/robots.txt", ""},
		{"/favicon.ico", ""},
		{"/console/games", ""},
		{"/consoles", ""},
		{"/products/console", ""},
		{"/Console", ""},
		{"/?q=__debugger__", ""},
		{"/?q=what+is+__debugger__%3Dyes", ""},
		{"/?__debugger=yes", ""},
		{"/?x__debugger__=yes", ""},
		{"/?q=.git", ""},
		{"/wiki/.NET", ""},
		{"/tag/.net-core", ""},
		{"/wiki/...", ""},
		{"/git/config", ""},
		{"/~alice/", ""},
		{"/a~b", ""},
		{"/posts/how-to-use.env", ""},
		{"/posts/sqlite", ""},
		{"/posts/old", ""},
		{"/turkey", ""},
		{"/u/j.doe", ""},
		{"/wiki/Makefile", ""},
		{"/wiki/server-status", ""},
		{"/happy", ""},
		{"/copy", ""},
		{"/db", ""},
		{"/caf%C3%A9", ""},
		{"/downloads/x.db", ""},
		{"/export/all.sql", ""},
		{"/keys/site.pem", ""},
		{"/internal/health", ""},
	} {
		d := l.Request(get(t, tt.target))
		if d.Reason != tt.reason || (tt.reason != "" && d.Status != 404) {
			t.Errorf("%s: %d %q (%s), want %q", tt.target, d.Status, d.Reason, d.Detail, tt.reason)
		}
		if d.Verdict != guard.Allow && !slices.ContainsFunc(neverPublicSpec.Reasons, func(r guard.Reason) bool { return r.Name == d.Reason }) {
			t.Errorf("%s: undocumented reason %q", tt.target, d.Reason)
		}
	}
}

// A console of the app's own is let through, unless Werkzeug's would answer.
func TestOwnConsole(t *testing.T) {
	own := guard.Facts{Known: true, Routes: []guard.FactRoute{{Rule: "/console"}}}
	wrapped := own
	wrapped.DebuggerWrapped = true
	catchAll := guard.Facts{Known: true, Routes: []guard.FactRoute{{Rule: "/<page>"}}}
	for _, tt := range []struct {
		f    guard.Facts
		want guard.Verdict
	}{{own, guard.Allow}, {wrapped, guard.Deny}, {catchAll, guard.Deny}, {guard.Facts{}, guard.Deny}} {
		l, err := NewNeverPublic(Config{}, guard.Env{Facts: func() guard.Facts { return tt.f }})
		if err != nil {
			t.Fatal(err)
		}
		if d := l.Request(get(t, "/console")); d.Verdict != tt.want {
			t.Errorf("%+v: %+v", tt.f, d)
		}
		if d := l.Request(get(t, "/console?__debugger__=yes")); d.Verdict != guard.Deny {
			t.Errorf("%+v: the debugger is reachable", tt.f)
		}
	}
}

func TestCORS(t *testing.T) {
	const creds = "Access-Control-Allow-Credentials: true"
	for _, tt := range []struct {
		name   string
		mode   guard.Mode
		fields []string
		want   []string
	}{
		{"nothing said", 0, []string{"Content-Type: text/html"}, []string{"Content-Type: text/html"}},
		{"public API", 0, []string{"Access-Control-Allow-Origin: *"}, []string{"Access-Control-Allow-Origin: *"}},
		{"public API, preflight", 0, []string{"Access-Control-Allow-Origin: *", "Access-Control-Allow-Methods: POST"}, []string{"Access-Control-Allow-Methods: POST", "Access-Control-Allow-Origin: *"}},
		{"star with credentials", 0, []string{"Access-Control-Allow-Origin: *", creds}, []string{"Access-Control-Allow-Origin: *"}},
		{"reflected, no credentials", 0, []string{"Access-Control-Allow-Origin: https://evil.example"}, []string{"Access-Control-Allow-Origin: https://evil.example", "Vary: Origin"}},
		{"reflected with credentials", 0, []string{"Access-Control-Allow-Origin: https://evil.example", creds, "Access-Control-Allow-Headers: X-A", "Access-Control-Expose-Headers: X-B", "Access-Control-Max-Age: 600", "ETag: 1"}, []string{"Etag: 1", "Vary: Origin"}},
		{"credentials spelt wrong", 0, []string{"Access-Control-Allow-Origin: https://evil.example", "Access-Control-Allow-Credentials: True"}, []string{"Vary: Origin"}},
		{"null", 0, []string{"Access-Control-Allow-Origin: null"}, []string{"Vary: Origin"}},
		{"two values", 0, []string{"Access-Control-Allow-Origin: https://shop.example", "Access-Control-Allow-Origin: https://evil.example"}, []string{"Vary: Origin"}},
		{"own origin", 0, []string{"Access-Control-Allow-Origin: https://shop.example", creds, "Vary: Accept"}, []string{creds, "Access-Control-Allow-Origin: https://shop.example", "Vary: Accept", "Vary: Origin"}},
		{"same site", 0, []string{"Access-Control-Allow-Origin: https://app.shop.example", creds, "Vary: Cookie, origin"}, []string{creds, "Access-Control-Allow-Origin: https://app.shop.example", "Vary: Cookie, origin"}},
		{"same site in clear text", 0, []string{"Access-Control-Allow-Origin: http://app.shop.example", creds}, []string{"Vary: Origin"}},
		{"listed", 0, []string{"Access-Control-Allow-Origin: https://partner.test:8443", creds, "Vary: *"}, []string{creds, "Access-Control-Allow-Origin: https://partner.test:8443", "Vary: *"}},
		{"listed on another port", 0, []string{"Access-Control-Allow-Origin: https://partner.test", creds}, []string{"Vary: Origin"}},
		{"a user name", 0, []string{"Access-Control-Allow-Origin: https://x@shop.example", creds}, []string{"Vary: Origin"}},
		{"observed", guard.Observe, []string{"Access-Control-Allow-Origin: https://evil.example", creds}, []string{creds, "Access-Control-Allow-Origin: https://evil.example", "Vary: Origin"}},
	} {
		l, err := NewCORS(Config{CORS: tt.mode, CORSOrigins: []string{"https://partner.test:8443"}}, guard.Env{})
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Response{Header: http.Header{}}
		for _, f := range tt.fields {
			k, v, _ := strings.Cut(f, ": ")
			r.Header.Add(k, v)
		}
		if d := l.(guard.Responder).Response(get(t, "/"), r); d.Verdict != guard.Allow {
			t.Errorf("%s: %+v", tt.name, d)
		}
		var got []string
		for k, vs := range r.Header {
			for _, v := range vs {
				got = append(got, k+": "+v)
			}
		}
		slices.Sort(got)
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s:\n got %q\nwant %q", tt.name, got, tt.want)
		}
	}
}

func TestSameSite(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"https://a.shop.example", "https://b.shop.example", true},
		{"https://shop.example", "https://a.b.shop.example:99", true},
		{"https://shop.co.uk", "https://evil.co.uk", false},
		{"https://mine.github.io", "https://evil.github.io", false},
		{"https://shop.example", "http://shop.example", false},
		{"https://10.0.0.1", "https://20.0.0.1", false},
		{"https://10.0.0.1", "https://10.0.0.1:8443", true},
		{"https://localhost", "https://evil.localhost", false},
		{"https://com", "https://evil.com", false},
	} {
		a, err := guard.ParseOrigin(tt.a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := guard.ParseOrigin(tt.b)
		if err != nil {
			t.Fatal(err)
		}
		if sameSite(a, b) != tt.want || sameSite(b, a) != tt.want {
			t.Errorf("%s and %s: want %v", tt.a, tt.b, tt.want)
		}
	}
}

func TestDebugOff(t *testing.T) {
	for _, tt := range []struct {
		f            guard.Facts
		problem, err bool
	}{
		{guard.Facts{Known: true, AppFound: true}, false, false},
		{guard.Facts{Known: true, AppFound: true, Debug: true}, true, false},
		{guard.Facts{Known: true, AppFound: true, Testing: true}, true, false},
		{guard.Facts{Known: true, DebuggerWrapped: true}, true, false}, // known without the app object
		{guard.Facts{Known: true}, false, true},
		{guard.Facts{Debug: true, Why: "no hook"}, false, true},
		{guard.Facts{}, false, true},
	} {
		p, err := checkDebug(tt.f)
		if (p != "") != tt.problem || (err != nil) != tt.err {
			t.Errorf("%+v: %q, %v", tt.f, p, err)
		}
	}
}

func TestProblems(t *testing.T) {
	c := Config{Private: []string{"x"}, Public: []string{"/ok/**", "y"}, CORSOrigins: []string{"*", "https://a.example"}}
	if p := c.Problems(); len(p) != 3 {
		t.Errorf("%d problems: %+v", len(p), p)
	}
	if _, err := NewNeverPublic(c, guard.Env{}); err == nil {
		t.Error("never-public is made of bad settings")
	}
	if _, err := NewCORS(c, guard.Env{}); err == nil {
		t.Error("cors is made of bad settings")
	}
}

// The oracle decodes the whole query the way Werkzeug does.
func FuzzDebuggerQuery(f *testing.F) {
	f.Add("a=1&__debugger__=yes")
	f.Add("%5f_debugger__=yes&%")
	f.Add("__debugger__")
	f.Fuzz(func(t *testing.T, raw string) {
		v, _ := url.ParseQuery(raw) // keeps what it could parse
		if _, ok := v["__debugger__"]; ok && !debuggerQuery(raw) {
			t.Fatalf("%q reaches the debugger", raw)
		}
	})
}

// No path panics, and no harmless suffix hides a dotfile.
func FuzzPrivate(f *testing.F) {
	for _, s := range []string{"/.git", "/a/.well-known", "/#a#", "/x::y", "/. ./a", "/a.db; x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		reason, what := private("/" + path)
		if (reason == "") != (what == "") {
			t.Fatalf("%q: %q, %q", path, reason, what)
		}
		if r, _ := private("/.git/" + path); r == "" {
			t.Fatalf("/.git/%q is public", path)
		}
	})
}

func BenchmarkNeverPublic(b *testing.B) {
	l, err := NewNeverPublic(Config{}, guard.Env{})
	if err != nil {
		b.Fatal(err)
	}
	for _, target := range []string{"/products/42?page=2", "/static/css/app.min.css?v=1%2e2"} {
		b.Run(target, func(b *testing.B) {
			x := get(b, target)
			b.ReportAllocs()
			for b.Loop() {
				if d := l.Request(x); d.Verdict != guard.Allow {
					b.Fatal(d)
				}
			}
		})
	}
}

func BenchmarkCORS(b *testing.B) {
	l, _ := NewCORS(Config{}, guard.Env{})
	for name, h := range map[string]http.Header{"none": {}, "same-site": {"Access-Control-Allow-Origin": {"https://app.shop.example"}, "Access-Control-Allow-Credentials": {"true"}, "Vary": {"Origin"}}} {
		b.Run(name, func(b *testing.B) {
			x, r := get(b, "/"), &http.Response{Header: h}
			b.ReportAllocs()
			for b.Loop() {
				l.(guard.Responder).Response(x, r)
			}
		})
	}
}
