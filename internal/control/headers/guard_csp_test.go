package headers

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/csp"
	"github.com/dewar-security/dewar/internal/guard"
	routemap "github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/store"
)

// source makes a route map whose templates are these.
func source(t testing.TB, templates ...string) func() *routemap.Policy {
	t.Helper()
	var files []csp.File
	for i, text := range templates {
		files = append(files, csp.File{Path: fmt.Sprintf("templates/%d.html", i), Data: []byte(text)})
	}
	content, err := json.Marshal(csp.Read(files, []csp.File{{Path: "static/a.js", Data: []byte("fetch('https://api.example/x')")}}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := routemap.Decode(strings.NewReader(`{"version": 1, "routes": [{"rule": "/cart/<id>", "methods": ["GET"], "answers": ["GET"]}], "content": ` + string(content) + `}`))
	if err != nil {
		t.Fatal(err)
	}
	return func() *routemap.Policy { return p }
}

// page sends a page through the layer and returns its policy.
func page(t testing.TB, l guard.Responder, status int, body string, change ...func(*http.Response)) (policy string, x *guard.Exchange) {
	t.Helper()
	r := &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
	for _, f := range change {
		f(r)
	}
	sent, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(sent))
	x = &guard.Exchange{Request: httptest.NewRequest("GET", "/", nil), Client: guard.Client{Scheme: "https", Host: "shop.example"}}
	l.Response(x, r)
	if after, _ := io.ReadAll(r.Body); !bytes.Equal(after, sent) {
		t.Fatalf("the page was changed: %.200s", after)
	}
	return r.Header.Get("Content-Security-Policy"), x
}

func enforcing(t testing.TB, policy func() *routemap.Policy, change ...func(*Config)) guard.Responder {
	t.Helper()
	c := Config{CSPMode: "enforce", CSP: "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'none'", CSPReport: "off"}
	for _, f := range change {
		f(&c)
	}
	l, err := NewHeaders(c, guard.Env{Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	return l.(guard.Responder)
}

// TestPolicyFromTheSource: what the templates hold is allowed, on the pages
// that have it.
func TestPolicyFromTheSource(t *testing.T) {
	templates := source(t,
		`<script>fixed()</script><p style="color: red">`,
		`<script>cart({{ cart|tojson }})</script><a onclick="go('{{ id }}')"><script src="https://cdn.example/x.js"></script><img src="https://img.example/{{ n }}.png"><base href="https://evil.example/"><embed src="https://evil.example/">`)
	l := enforcing(t, templates)
	has := func(name, policy string, want map[string]string) {
		t.Helper()
		for k, v := range want {
			if got, _ := directive(policy, k); got != v {
				t.Errorf("%s: %s is %q, want %q", name, k, got, v)
			}
		}
	}
	q := func(text string) string { return "'" + csp.Hash(text) + "'" }
	got, _ := page(t, l, 200, `<script>fixed()</script><p style="color: red"><script>cart([1])</script><a onclick="go('7')"><script>alert(1)</script><p onmouseover="alert(1)">`)
	scripts := []string{csp.Hash("cart([1])"), csp.Hash("fixed()")}
	slices.Sort(scripts)
	has("whole", got, map[string]string{
		"script-src":      "'self' '" + scripts[0] + "' '" + scripts[1] + "' https://cdn.example/x.js",
		"script-src-attr": "'unsafe-hashes' " + q("go('7')"),
		"style-src-attr":  "'unsafe-hashes' " + q("color: red"),
		"img-src":         "https://img.example",
		"style-src":       "'self'", "base-uri": "", "object-src": "",
	})
	got, _ = page(t, l, 200, "<p>nothing inline")
	has("nothing inline", got, map[string]string{"script-src": "'self' https://cdn.example/x.js", "script-src-attr": "", "style-src-attr": ""})

	got, _ = page(t, l, 304, "")
	if got != "" {
		t.Errorf("304: %q would replace the policy of the page in the cache", got)
	}
	got, _ = page(t, l, 200, "<script>cart([1])</script>", func(r *http.Response) { r.ContentLength = -1 })
	has("streamed", got, map[string]string{"script-src": "'self' " + q("fixed()") + " https://cdn.example/x.js"})
	got, _ = page(t, l, 200, "", func(r *http.Response) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		io.WriteString(z, "<script>cart([2])</script>")
		z.Close()
		r.Header.Set("Content-Encoding", "gzip")
		r.Body, r.ContentLength = io.NopCloser(&b), int64(b.Len())
	})
	has("gzip", got, map[string]string{"script-src": "'self' " + q("cart([2])") + " https://cdn.example/x.js"})
	got, _ = page(t, l, 200, "<script>cart([1])</script>", func(r *http.Response) { r.Header.Set("Content-Security-Policy", "default-src 'none'") })
	if got != "default-src 'none'" {
		t.Errorf("the app's own policy: %q", got)
	}
	got, x := page(t, l, 200, "<script>cart([1])</script><script>cart([2])</script>")
	has("copied", got, map[string]string{"script-src": "'self' https://cdn.example/x.js"})
	_ = x

	got, _ = page(t, enforcing(t, templates, func(c *Config) { c.CSPSource = guard.Off }), 200, "<script>fixed()</script>")
	has("off", got, map[string]string{"script-src": "'self'"})
	got, _ = page(t, enforcing(t, templates, func(c *Config) { c.CSP = "script-src 'self' 'unsafe-inline'" }), 200, "<script>fixed()</script>")
	has("unsafe-inline of the operator", got, map[string]string{"script-src": "'self' 'unsafe-inline' https://cdn.example/x.js"})
	got, _ = page(t, enforcing(t, func() *routemap.Policy { return nil }), 200, "<script>fixed()</script>")
	has("no source", got, map[string]string{"script-src": "'self'"})
}

// TestPolicyThatIsFull: a page with more of the app's own texts than a header
// has room for gets no header that is too long, and is not broken silently.
func TestPolicyThatIsFull(t *testing.T) {
	var scripts, styles strings.Builder
	for i := range 60 {
		fmt.Fprintf(&scripts, "<script>f(%d)</script>", i)
		fmt.Fprintf(&styles, `<p style="width: %dpx">`, i)
	}
	templates := source(t, scripts.String()+styles.String())
	l := enforcing(t, templates)
	few, _, _ := strings.Cut(scripts.String(), "<script>f(20)")
	full := func() bool { return strings.Contains(l.(*headers).Describe(), "has room for") }
	policy, _ := page(t, l, 200, few)
	if strings.Count(policy, "sha256-") != 20 || full() {
		t.Errorf("%s\n%s", policy, l.(*headers).Describe())
	}
	// Styles on attributes run nothing: all of them, rather than a page that
	// looks wrong. Never of style sheets or scripts.
	policy, _ = page(t, l, 200, few+styles.String())
	if attr, _ := directive(policy, "style-src-attr"); attr != "'unsafe-inline'" || strings.Count(policy, "unsafe-inline") != 1 || strings.Count(policy, "sha256-") != 20 || full() {
		t.Errorf("%s\n%s", policy, l.(*headers).Describe())
	}
	policy, _ = page(t, l, 200, scripts.String())
	if n := strings.Count(policy, "sha256-"); len(policy) > defaultCSPMax+len("; "+upgradeInsecure) || n < 40 || n >= 60 || strings.Contains(policy, "unsafe-inline") {
		t.Errorf("%d bytes, %d hashes: %s", len(policy), n, policy)
	}
	if d := l.(*headers).Describe(); !strings.Contains(d, "1 pages have more inline texts than a header has room for") {
		t.Error(d)
	}
	more := enforcing(t, templates, func(c *Config) { c.CSPMax = 8192 })
	if policy, _ = page(t, more, 200, scripts.String()+styles.String()); strings.Count(policy, "sha256-") != 120 || strings.Contains(more.(*headers).Describe(), "room") {
		t.Errorf("%d bytes, %d hashes", len(policy), strings.Count(policy, "sha256-"))
	}
	// A report-only policy without some of the app's own texts would report
	// them for attacks.
	quiet := enforcing(t, templates, func(c *Config) { c.CSPMode = "report-only" })
	for body, want := range map[string]bool{few: true, scripts.String(): false} {
		r := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/html"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
		quiet.Response(&guard.Exchange{Request: httptest.NewRequest("GET", "/", nil), Client: guard.Client{Scheme: "https"}}, r)
		if got := r.Header.Get("Content-Security-Policy-Report-Only") != ""; got != want {
			t.Errorf("report-only policy: %v, want %v", got, want)
		}
	}
	// Addresses have room, too, or none.
	var hosts strings.Builder
	for i := range 60 {
		fmt.Fprintf(&hosts, `<script src="https://cdn%d.example/a/long/way/to/the/%s.js"></script>`, i, strings.Repeat("x", 80))
	}
	if policy, _ = page(t, enforcing(t, source(t, hosts.String())), 200, hosts.String()); len(policy) > defaultCSPMax+len("; "+upgradeInsecure) || !strings.Contains(policy, "https://cdn10.example/") {
		t.Errorf("%d bytes: %s", len(policy), policy)
	}
}

// TestPolicyBesideAnother: a policy of the app's own that lets any script run
// gets ours beside it, with what the page's own scripts need; a script that is
// loaded over http is the one that browsers ask for over https.
func TestPolicyBesideAnother(t *testing.T) {
	const weak = "default-src * 'unsafe-inline'"
	templates := source(t, `<script>cart({{ cart|tojson }})</script><script src="http://cdn.example/x.js"></script><script>ws = new WebSocket("x")</script><img src="http://img.example/x">`)
	sent := func(status int, scheme string) []string {
		body := "<script>cart([1])</script>"
		r := &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"text/html"}, "Content-Security-Policy": {weak}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
		enforcing(t, templates).Response(&guard.Exchange{Request: httptest.NewRequest("GET", "/", nil), Client: guard.Client{Scheme: scheme}}, r)
		return r.Header["Content-Security-Policy"]
	}
	got := sent(200, "https")
	if len(got) != 2 || got[0] != weak {
		t.Fatalf("%q", got)
	}
	for name, want := range map[string]string{"script-src": "'self' '" + csp.Hash("cart([1])") + "' https://cdn.example/x.js", "img-src": "https://img.example", upgradeInsecure: ""} {
		if v, ok := directive(got[1], name); !ok || v != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}
	if got := sent(200, "http"); len(got) != 2 || !strings.Contains(got[1], " http://cdn.example/x.js") || strings.Contains(got[1], upgradeInsecure) {
		t.Errorf("over http: %q", got)
	}
	// A 304 with the app's policy alone would take ours off the page in the
	// browser's cache.
	if got := sent(304, "https"); len(got) != 0 {
		t.Errorf("304: %q", got)
	}
}

// TestHostilePolicyFile: a route map from elsewhere adds no directive of its
// own to the header, and the evidence says why its content is not used.
func TestHostilePolicyFile(t *testing.T) {
	for _, content := range []string{
		`{"origins": {"script-src": ["https://a.example; script-src *"]}}`,
		`{"origins": {"script-src": ["'unsafe-inline'"]}}`,
		`{"origins": {"script-src *; x": ["https://a.example"]}}`,
		`{"scripts": [{"hash": "sha256-x' *; '"}]}`,
		`{"scripts": [{"pattern": "("}]}`,
		`{"scripts": 1}`,
	} {
		p, err := routemap.Decode(strings.NewReader(`{"version": 1, "routes": [], "content": ` + content + `}`))
		if err != nil {
			t.Fatal(err)
		}
		l := enforcing(t, func() *routemap.Policy { return p })
		if got, _ := page(t, l, 200, "x"); got != "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'none'; frame-ancestors 'none'; upgrade-insecure-requests" {
			t.Errorf("%s: %s", content, got)
		}
		if s := l.(guard.Reporter).Describe(); !strings.Contains(s, "without the app's templates: ") {
			t.Errorf("%s: %s", content, s)
		}
	}
}

// reporter is a csp-reports layer with a clock and a store.
func reporter(t testing.TB, s store.Store) *reports {
	t.Helper()
	l, err := NewReports(Config{CSP: "default-src 'self'; connect-src 'self'"}, guard.Env{Store: s, Now: time.Now, Policy: source(t, "<script>x</script>")})
	if err != nil {
		t.Fatal(err)
	}
	return l.(*reports)
}

func send(l *reports, method, kind, body, client string) guard.Decision {
	r := httptest.NewRequest(method, ReportPath, strings.NewReader(body))
	r.Header.Set("Content-Type", kind)
	x := &guard.Exchange{Request: r, Path: ReportPath, Client: guard.Client{Addr: netip.MustParseAddr(client), Host: "shop.example"}}
	return l.Request(x)
}

func TestReports(t *testing.T) {
	s := store.NewMemory(store.MemoryOptions{Buckets: 1024})
	l := reporter(t, s)
	old := func(directive, blocked, document string) string {
		return fmt.Sprintf(`{"csp-report": {"document-uri": %q, "violated-directive": %q, "blocked-uri": %q}}`, document, directive, blocked)
	}
	const cart = "https://shop.example/cart/7?token=secret"
	for i := range 4 {
		client := fmt.Sprintf("203.0.113.%d", i+1)
		for _, body := range []string{
			old("connect-src", "https://api.example/x?secret=1", cart), old("connect-src", "https://tracker.example", cart),
			old("script-src-elem", "inline", cart), old("script-src", "eval", cart), old("img-src", "data", "https://shop.example/nowhere/secret"),
		} {
			if d := send(l, "POST", "application/csp-report", body, client); d.Verdict != guard.Answer || d.Status != 204 || !d.Quiet {
				t.Fatalf("%+v", d)
			}
		}
		send(l, "POST", "application/reports+json", `[{"type": "csp-violation", "body": {"documentURL": "https://shop.example/cart/8", "blockedURL": "https://api.example/y", "effectiveDirective": "connect-src"}}, {"type": "deprecation", "body": {}}]`, client)
	}
	// What changes nothing: extensions, other sites' pages, no directive.
	for _, body := range []string{
		old("script-src", "moz-extension://0123", cart), old("script-src", "https://x.example", "https://other.example/"),
		old("evil-src", "inline", cart), `{"csp-report": {"document-uri": "https://shop.example/", "effective-directive": "script-src", "blocked-uri": "inline", "source-file": "chrome-extension://x"}}`,
	} {
		send(l, "POST", "application/csp-report", body, "203.0.113.9")
	}
	for _, c := range []struct {
		method, kind, body string
		status             int
	}{
		{"GET", "application/csp-report", "", 405},
		{"POST", "text/plain", "{}", 415},
		{"POST", "application/csp-report", "{", 400},
		{"POST", "application/csp-report", `{"x": "` + strings.Repeat("x", maxReport) + `"}`, 413},
	} {
		if d := send(l, c.method, c.kind, c.body, "203.0.113.9"); d.Verdict != guard.Answer || d.Status != c.status {
			t.Errorf("%s %s %.20s: %+v, want %d", c.method, c.kind, c.body, d, c.status)
		}
	}
	check := func(l *reports) {
		t.Helper()
		v, err := l.Operate(t.Context(), "csp report", nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, g := range v.([]reported) {
			got = append(got, fmt.Sprintf("%s %s %s %d %s", g.Directive, g.Blocked, g.Route, g.Reports, g.Clients))
		}
		want := []string{
			"connect-src https://api.example /cart/<id> 8 4", "connect-src https://tracker.example /cart/<id> 4 4", "img-src data: ? 4 4",
			"script-src eval /cart/<id> 4 4", "script-src-elem inline /cart/<id> 4 4",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		v, err = l.Operate(t.Context(), "csp propose", nil)
		if err != nil {
			t.Fatal(err)
		}
		text := v.(string)
		for _, want := range []string{`csp = "default-src 'self'; connect-src 'self' https://api.example"` + "\n", "# decide: connect-src https://tracker.example: 4 clients", "# decide: script-src: an inline script", "script-src: eval"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in\n%s", want, text)
			}
		}
		if strings.Contains(text, "unsafe") || strings.Contains(text, "secret") {
			t.Errorf("proposed\n%s", text)
		}
	}
	check(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	check(reporter(t, s)) // a reload keeps them
	if _, err := l.Operate(t.Context(), "csp clear", nil); err != nil || len(l.groups) != 0 {
		t.Errorf("%v, %d groups", err, len(l.groups))
	}
}

// TestReportsAreBounded: anybody can send them.
func TestReportsAreBounded(t *testing.T) {
	l := reporter(t, store.NewMemory(store.MemoryOptions{Buckets: 1 << 16}))
	for i := range 3 * maxGroups {
		send(l, "POST", "application/csp-report", fmt.Sprintf(`{"csp-report": {"document-uri": "https://shop.example/", "effective-directive": "img-src", "blocked-uri": "https://h%d.example"}}`, i), fmt.Sprintf("203.0.%d.%d", i/256, i%256))
	}
	if len(l.groups) != maxGroups || l.dropped != 2*maxGroups {
		t.Errorf("%d groups, %d dropped", len(l.groups), l.dropped)
	}
	n := 0
	for range 3 * reportRate.Requests {
		if send(l, "POST", "application/csp-report", "{}", "198.51.100.1").Status == 429 {
			n++
		}
	}
	if n < reportRate.Requests {
		t.Errorf("%d of %d refused", n, 3*reportRate.Requests)
	}
}

func FuzzParseReports(f *testing.F) {
	f.Add([]byte(`{"csp-report": {"document-uri": "https://a/", "blocked-uri": "inline", "violated-directive": "script-src 'self'"}}`))
	f.Add([]byte(`[{"type": "csp-violation", "body": {"blockedURL": "data:x"}}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := parseReports(data)
		if err != nil {
			return
		}
		if len(all) > maxReports {
			t.Fatal(len(all))
		}
		for _, v := range all {
			if name, _ := blocked(v.blocked); len(name) > 140 || strings.ContainsAny(name, " ;,'\"\r\n*") {
				t.Fatalf("%q is named %q", v.blocked, name)
			}
		}
	})
}

func BenchmarkPage(b *testing.B) {
	l := enforcing(b, source(b, `<script>cart({{ cart|tojson }})</script><p style="color: red">`))
	body := strings.Repeat("<p class=row>some text of a page</p>\n", 800) + `<script>cart({"a": [1, 2, 3]})</script><p style="color: red">`
	r := &http.Response{StatusCode: 200}
	x := &guard.Exchange{Request: httptest.NewRequest("GET", "/", nil), Client: guard.Client{Scheme: "https"}}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		r.Header, r.Body, r.ContentLength = http.Header{"Content-Type": {"text/html"}}, io.NopCloser(strings.NewReader(body)), int64(len(body))
		l.Response(x, r)
	}
}

// TestCaching: pages of a known visitor are for his browser only, those of
// logins and the administration for nobody's cache; what the app says stays.
func TestCaching(t *testing.T) {
	p, err := routemap.Decode(strings.NewReader(`{"version": 1, "routes": [
		{"rule": "/login", "methods": ["GET"], "answers": ["GET"], "kind": "login"}, {"rule": "/page", "methods": ["GET"], "answers": ["GET"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewHeaders(Config{}, guard.Env{Policy: func() *routemap.Policy { return p }})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, account, own, want string }{
		{"/login", "", "", "no-store"}, {"/login", "7", "", "no-store"}, {"/page", "7", "", "private"}, {"/page", "", "", ""},
		{"/nowhere", "7", "", "private"}, {"/login", "7", "max-age=60", "max-age=60"},
	} {
		r := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/html"}}}
		if c.own != "" {
			r.Header.Set("Cache-Control", c.own)
		}
		x := &guard.Exchange{Request: httptest.NewRequest("GET", c.path, nil), Path: c.path, Identity: guard.Identity{Account: c.account}}
		l.(guard.Responder).Response(x, r)
		if got := r.Header.Get("Cache-Control"); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
