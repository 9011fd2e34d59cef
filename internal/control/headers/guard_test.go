package headers

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
)

var year = Config{HSTS: guard.Duration(yearOfHSTS)}

func newLayer(t testing.TB, cfg Config) guard.Responder {
	t.Helper()
	l, err := NewHeaders(cfg, guard.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return l.(guard.Responder)
}

// through sends the headers of an app's answer, "Name: value" each, through
// the layer.
func through(t testing.TB, cfg Config, scheme string, own ...string) http.Header {
	t.Helper()
	h := http.Header{}
	for _, line := range own {
		name, v, ok := strings.Cut(line, ": ")
		if !ok {
			t.Fatalf("%q", line)
		}
		h.Add(name, v)
	}
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "text/html; charset=utf-8")
	}
	r := &http.Response{StatusCode: 200, Header: h}
	if d := newLayer(t, cfg).Response(&guard.Exchange{Client: guard.Client{Scheme: scheme}}, r); d.Verdict != guard.Allow {
		t.Fatalf("%+v", d)
	}
	return r.Header
}

func with(change func(*Config)) Config {
	c := year
	change(&c)
	return c
}

func TestHeaders(t *testing.T) {
	enforce := with(func(c *Config) { c.CSPMode = "enforce" })
	const upgrade = "; upgrade-insecure-requests"
	const reporting = defaultCSP + "; report-uri " + ReportPath + upgrade
	const baseline = "object-src 'none'; base-uri 'self'; frame-ancestors 'none'" + upgrade
	own := func(v string) string { return "Content-Security-Policy: " + v }
	for _, c := range []struct {
		name string
		cfg  Config
		own  []string
		want map[string]string // lines; "" means absent
	}{
		{"an app that sets nothing", year, nil, map[string]string{
			"Strict-Transport-Security":    "max-age=31536000",
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
			"Referrer-Policy":              "strict-origin-when-cross-origin",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Permissions-Policy":           defaultPermissions,
			"Content-Security-Policy":      baseline,
			"Cache-Control":                "",
		}},
		{"CSP in force", enforce, nil, map[string]string{"Content-Security-Policy": reporting, "Content-Security-Policy-Report-Only": ""}},
		{"CSP off", with(func(c *Config) { c.CSPMode = "off" }), nil, map[string]string{"Content-Security-Policy": "", "Content-Security-Policy-Report-Only": ""}},
		{"no reports", with(func(c *Config) { c.CSPMode = "enforce"; c.CSPReport = "off" }), nil, map[string]string{"Content-Security-Policy": defaultCSP + upgrade}},
		{"embedder policy", with(func(c *Config) { c.EmbedderPolicy = "require-corp" }), nil, map[string]string{"Cross-Origin-Embedder-Policy": "require-corp"}},
		{"embedder policy is for pages", with(func(c *Config) { c.EmbedderPolicy = "require-corp" }), []string{"Content-Type: application/json"}, map[string]string{"Cross-Origin-Embedder-Policy": ""}},
		{"report URL", with(func(c *Config) { c.CSPMode = "enforce"; c.CSP = "default-src 'self'"; c.CSPReport = "/csp" }), nil, map[string]string{"Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; report-uri /csp" + upgrade}},
		{"frames for oneself", with(func(c *Config) { c.FrameAncestors = "'self'" }), nil, map[string]string{"X-Frame-Options": "SAMEORIGIN", "Content-Security-Policy": "object-src 'none'; base-uri 'self'; frame-ancestors 'self'" + upgrade}},
		{"frames for a partner", with(func(c *Config) { c.FrameAncestors = "'self' https://partner.example" }), []string{"X-Frame-Options: ALLOWALL"}, map[string]string{"X-Frame-Options": "", "Content-Security-Policy": "object-src 'none'; base-uri 'self'; frame-ancestors 'self' https://partner.example" + upgrade}},
		{"nothing is upgraded", with(func(c *Config) { c.UpgradeInsecure = guard.Off }), nil, map[string]string{"Content-Security-Policy": "object-src 'none'; base-uri 'self'; frame-ancestors 'none'"}},

		{"the app's CSP says which scripts run", enforce, []string{own("default-src 'self' cdn.example"), "X-Frame-Options: SAMEORIGIN"}, map[string]string{"Content-Security-Policy": "default-src 'self' cdn.example\nbase-uri 'self'; frame-ancestors 'self'" + upgrade, "Content-Security-Policy-Report-Only": "", "X-Frame-Options": "SAMEORIGIN"}},
		{"the app's CSP says everything", enforce, []string{own("script-src 'nonce-x'; object-src data.example; base-uri x.example; frame-ancestors 'self'; Upgrade-Insecure-Requests")}, map[string]string{"Content-Security-Policy": "script-src 'nonce-x'; object-src data.example; base-uri x.example; frame-ancestors 'self'; Upgrade-Insecure-Requests", "X-Frame-Options": ""}},
		{"the app's CSP with framing only", enforce, []string{own("frame-ancestors https://partner.example")}, map[string]string{"X-Frame-Options": "", "Content-Security-Policy": "frame-ancestors https://partner.example\n" + strings.Replace(reporting, "; frame-ancestors 'none'", "", 1)}},
		{"the app's CSP lets any script run", enforce, []string{own("default-src * 'unsafe-inline' 'unsafe-eval'"), "X-Frame-Options: ALLOWALL"}, map[string]string{"Content-Security-Policy": "default-src * 'unsafe-inline' 'unsafe-eval'\n" + reporting, "X-Frame-Options": "DENY", "Content-Security-Policy-Report-Only": ""}},
		{"it does, and we only report", year, []string{own("default-src https: 'unsafe-inline'; object-src 'self'")}, map[string]string{"Content-Security-Policy": "default-src https: 'unsafe-inline'; object-src 'self'\nbase-uri 'self'; frame-ancestors 'none'" + upgrade, "Content-Security-Policy-Report-Only": strings.Replace(defaultCSP, "; frame-ancestors 'none'", "", 1) + "; report-uri " + ReportPath}},
		{"it does, and that is the app's business", with(func(c *Config) { c.CSPMode, c.CSPOwn = "enforce", "never" }), []string{own("default-src *")}, map[string]string{"Content-Security-Policy": "default-src *", "Content-Security-Policy-Report-Only": ""}},
		{"ours beside every CSP of the app's", with(func(c *Config) { c.CSPMode, c.CSPOwn = "enforce", "always" }), []string{own("default-src 'self'; frame-ancestors 'self'")}, map[string]string{"Content-Security-Policy": "default-src 'self'; frame-ancestors 'self'\n" + reporting}},
		{"CSP off beside the app's", with(func(c *Config) { c.CSPMode = "off" }), []string{own("default-src *")}, map[string]string{"Content-Security-Policy": "default-src *"}},
		{"an empty CSP is none", enforce, []string{"Content-Security-Policy:  ;"}, map[string]string{"Content-Security-Policy": reporting}},
		{"the app's report-only policy stays", year, []string{"Content-Security-Policy-Report-Only: default-src 'self'"}, map[string]string{"Content-Security-Policy-Report-Only": "default-src 'self'\n" + strings.Replace(defaultCSP, "; frame-ancestors 'none'", "", 1) + "; report-uri " + ReportPath, "Content-Security-Policy": baseline}},
		{"an app that frames itself", year, []string{"X-Frame-Options: sameorigin"}, map[string]string{"X-Frame-Options": "sameorigin", "Content-Security-Policy": "object-src 'none'; base-uri 'self'; frame-ancestors 'self'" + upgrade}},
		{"two frame options are none", year, []string{"X-Frame-Options: DENY", "X-Frame-Options: SAMEORIGIN"}, map[string]string{"X-Frame-Options": "DENY"}},

		{"longer HSTS of the app", year, []string{"Strict-Transport-Security: max-age=63072000; includeSubDomains; preload"}, map[string]string{"Strict-Transport-Security": "max-age=63072000; includeSubDomains; preload"}},
		{"shorter HSTS of the app", year, []string{"Strict-Transport-Security: max-age=300; includeSubDomains"}, map[string]string{"Strict-Transport-Security": "max-age=31536000; includeSubDomains"}},
		{"HSTS given up by the app", year, []string{"Strict-Transport-Security: max-age=0"}, map[string]string{"Strict-Transport-Security": "max-age=31536000"}},
		{"broken HSTS of the app", year, []string{"Strict-Transport-Security: max-age=99999999; max-age=1"}, map[string]string{"Strict-Transport-Security": "max-age=31536000"}},
		{"HSTS off", Config{}, []string{"Strict-Transport-Security: max-age=300"}, map[string]string{"Strict-Transport-Security": "max-age=300"}},
		{"HSTS for subdomains and preload", with(func(c *Config) { c.HSTSSubdomains, c.HSTSPreload = true, true }), nil, map[string]string{"Strict-Transport-Security": "max-age=31536000; includeSubDomains; preload"}},

		{"stricter referrer policy of the app", year, []string{"Referrer-Policy: no-referrer"}, map[string]string{"Referrer-Policy": "no-referrer"}},
		{"referrer policy with a fallback", year, []string{"Referrer-Policy: no-referrer, same-origin"}, map[string]string{"Referrer-Policy": "no-referrer, same-origin"}},
		{"unsafe referrer policy", year, []string{"Referrer-Policy: no-referrer, unsafe-url"}, map[string]string{"Referrer-Policy": "strict-origin-when-cross-origin"}},
		{"unknown referrer policy", year, []string{"Referrer-Policy: nope"}, map[string]string{"Referrer-Policy": "strict-origin-when-cross-origin"}},
		{"permissions of the app", year, []string{"Permissions-Policy: camera=(self)"}, map[string]string{"Permissions-Policy": "camera=(self)"}},
		{"opener policy of the app", year, []string{"Cross-Origin-Opener-Policy: same-origin-allow-popups"}, map[string]string{"Cross-Origin-Opener-Policy": "same-origin-allow-popups"}},
		{"no opener policy of the app", year, []string{"Cross-Origin-Opener-Policy: unsafe-none"}, map[string]string{"Cross-Origin-Opener-Policy": "same-origin"}},
		{"resource policy of the app", year, []string{"Cross-Origin-Resource-Policy: cross-origin"}, map[string]string{"Cross-Origin-Resource-Policy": "cross-origin"}},
		{"wrong nosniff", year, []string{"X-Content-Type-Options: sniff", "X-Content-Type-Options: x"}, map[string]string{"X-Content-Type-Options": "nosniff"}},
		{"all off", with(func(c *Config) {
			c.ReferrerPolicy, c.PermissionsPolicy, c.OpenerPolicy, c.ResourcePolicy = "off", "off", "off", "off"
		}), nil,
			map[string]string{"Referrer-Policy": "", "Permissions-Policy": "", "Cross-Origin-Opener-Policy": "", "Cross-Origin-Resource-Policy": ""}},

		{"image", enforce, []string{"Content-Type: image/png"}, map[string]string{"Cross-Origin-Resource-Policy": "", "Content-Security-Policy": "", "X-Content-Type-Options": "nosniff"}},
		{"PDF", enforce, []string{"Content-Type: application/pdf"}, map[string]string{"Content-Security-Policy": "", "X-Frame-Options": "DENY"}},
		{"SVG can run scripts", enforce, []string{"Content-Type: image/svg+xml"}, map[string]string{"Content-Security-Policy": reporting}},
		{"JSON", enforce, []string{"Content-Type: application/json"}, map[string]string{"Content-Security-Policy": "", "Cross-Origin-Resource-Policy": "same-origin"}},

		{"cookie without Cache-Control", year, []string{"Set-Cookie: session=x"}, map[string]string{"Cache-Control": "private"}},
		{"cookie with Cache-Control", year, []string{"Set-Cookie: session=x", "Cache-Control: public, max-age=60"}, map[string]string{"Cache-Control": "public, max-age=60"}},
		{"cookie, switched off", with(func(c *Config) { c.PrivateCookies = guard.Off }), []string{"Set-Cookie: session=x"}, map[string]string{"Cache-Control": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := through(t, c.cfg, "https", c.own...)
			for name, want := range c.want {
				got := h.Values(name)
				if strings.Join(got, "\n") != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestReportOnly(t *testing.T) {
	h := through(t, year, "https")
	ro := h.Get("Content-Security-Policy-Report-Only")
	if !strings.HasPrefix(ro, "default-src 'none'; script-src 'self'") || strings.Contains(ro, "frame-ancestors") {
		t.Errorf("%q", ro)
	}
}

func TestNoHSTSOverHTTP(t *testing.T) {
	if h := through(t, year, "http"); h.Get("Strict-Transport-Security") != "" || strings.Contains(h.Get("Content-Security-Policy"), "upgrade") {
		t.Error(h)
	}
}

// TestRestrictsScripts: which policies of an app's own say what runs, as
// browsers read them.
func TestRestrictsScripts(t *testing.T) {
	for policy, want := range map[string]bool{
		"script-src 'self'": true, "default-src 'none'": true, "script-src": true, "SCRIPT-SRC 'SELF'": true,
		"script-src 'nonce-abc' 'unsafe-inline' 'strict-dynamic' https: http:": true, "script-src 'sha256-x=' 'unsafe-inline'": true,
		"script-src 'strict-dynamic' https: 'unsafe-inline'": true, "sandbox allow-forms": true, "script-src https://*.cdn.example/x": true,
		"default-src *; script-src 'self'": true, "script-src 'self'; script-src *": true, "default-src *, script-src 'self'": true,
		"script-src 'self' 'unsafe-eval'": true, "script-src blob: 'self'": true, "script-src //*": true,

		"": false, "default-src *": false, "default-src 'self' 'unsafe-inline'": false, "script-src *:*": false, "script-src https://*:443": false,
		"script-src 'self' HTTPS:": false, "script-src data:": false, "object-src 'none'; base-uri 'none'": false,
		"sandbox allow-scripts": false, "style-src 'self'": false, "script-src 'self'; script-src-elem *": false, "script-src 'self'; script-src-attr 'unsafe-inline'": false,
		"script-src *; script-src 'self'": false, "script-src https://*/x 'nonce-a'": false, "img-src 'self', style-src 'none'": false,
	} {
		if got := restrictsScripts(readPolicies([]string{policy})); got != want {
			t.Errorf("%q: %v", policy, got)
		}
	}
	if !restrictsScripts(readPolicies([]string{"default-src *", "script-src 'self'"})) {
		t.Error("of two lines the stricter one counts")
	}
}

// Flask-WTF refuses a form over https without a Referer: no setting of ours
// may take it away (flask-wtf issues 288 and 364).
func TestReferrerIsNeverTakenAway(t *testing.T) {
	for _, c := range []Config{{}, year} {
		if p := through(t, c, "https").Get("Referrer-Policy"); p == "" || strings.Contains(p, "no-referrer") {
			t.Errorf("%q", p)
		}
	}
	if _, err := NewHeaders(Config{ReferrerPolicy: "no-referrer"}, guard.Env{}); err == nil {
		t.Error("no-referrer was accepted")
	}
}

func TestConfigErrors(t *testing.T) {
	for _, bad := range []Config{
		{CSPMode: "on"}, {CSP: "default-src 'self'\r\nX: y"}, {OpenerPolicy: "unsafe-none"}, {ResourcePolicy: "x"},
		{FrameAncestors: "none"}, {FrameAncestors: "self"}, {FrameAncestors: "'none' https://a.example"}, {FrameAncestors: "'self'; script-src *"},
		{CSPReport: "/csp; script-src *"},
		{HSTS: guard.Duration(24 * time.Hour), HSTSPreload: true, HSTSSubdomains: true}, {HSTS: guard.Duration(yearOfHSTS), HSTSPreload: true},
	} {
		if _, err := NewHeaders(bad, guard.Env{}); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

// The parts of MDN's HTTP Observatory that concern the layer (its scoring
// table, version 1.6): no penalty, and every bonus but preloaded HSTS, SRI and
// COEP.
func TestObservatory(t *testing.T) {
	h := through(t, with(func(c *Config) { c.CSPMode = "enforce" }), "https", "Set-Cookie: session=x; Secure; HttpOnly; SameSite=Lax")
	score := 100
	csp := map[string]string{}
	for d := range strings.SplitSeq(h.Get("Content-Security-Policy"), ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(d), " ")
		csp[k] = v
	}
	switch script := csp["script-src"]; {
	case script == "":
		score -= 25
	case strings.Contains(script, "unsafe-inline"), strings.Contains(script, "data:"), script == "*":
		score -= 20
	case csp["default-src"] == "'none'" && !strings.Contains(csp["style-src"], "unsafe-inline"):
		score += 10
	default:
		score += 5
	}
	if age, ok := maxAge(h.Get("Strict-Transport-Security")); !ok {
		score -= 20
	} else if age < 15768000 {
		score -= 10
	}
	if h.Get("X-Content-Type-Options") != "nosniff" {
		score -= 5
	}
	if csp["frame-ancestors"] == "'none'" || csp["frame-ancestors"] == "'self'" {
		score += 5
	} else {
		score -= 20
	}
	if protectiveReferrer(h.Get("Referrer-Policy")) {
		score += 5
	}
	if v := h.Get("Cross-Origin-Resource-Policy"); v == "same-origin" || v == "same-site" {
		score += 10
	}
	if h.Get("Cross-Origin-Opener-Policy") == "same-origin" {
		score += 10
	}
	if score != 140 {
		t.Errorf("score %d without the cookie bonus, want 140", score)
	}
}

func FuzzResponse(f *testing.F) {
	f.Add("Content-Security-Policy", "default-src 'self'", "text/html")
	f.Add("Strict-Transport-Security", "max-age=\"1\"; includeSubDomains", "")
	f.Add("X-Frame-Options", "ALLOW-FROM x", "image/png")
	f.Add("Content-Security-Policy", "default-src * 'unsafe-inline', img-src x", "text/html")
	f.Add("Content-Security-Policy", "frame-ancestors 'self'; script-src", "text/html")
	l := newLayer(f, with(func(c *Config) { c.CSPMode = "enforce" }))
	f.Fuzz(func(t *testing.T, name, v, kind string) {
		h := http.Header{"Content-Type": {kind}}
		h.Add(name, v)
		r := &http.Response{StatusCode: 200, Header: h}
		x := &guard.Exchange{Client: guard.Client{Scheme: "https"}}
		l.Response(x, r)
		if h.Get("X-Content-Type-Options") != "nosniff" {
			t.Fatal("no nosniff")
		}
		for _, one := range []string{"Strict-Transport-Security", "X-Frame-Options", "Referrer-Policy", "X-Content-Type-Options"} {
			if len(h[one]) > 1 {
				t.Fatalf("%s: %q", one, h[one])
			}
		}
		if age, ok := maxAge(h.Get("Strict-Transport-Security")); !ok || age < 31536000 {
			t.Fatalf("%q", h["Strict-Transport-Security"])
		}
		before := h.Clone()
		l.Response(x, r)
		for k := range h {
			if strings.Join(h[k], "\n") != strings.Join(before[k], "\n") {
				t.Fatalf("a second pass changed %s: %q to %q", k, before[k], h[k])
			}
		}
	})
}

func BenchmarkHeaders(b *testing.B) {
	l := newLayer(b, year)
	x := &guard.Exchange{Client: guard.Client{Scheme: "https"}}
	b.ReportAllocs()
	for range b.N {
		r := &http.Response{Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}, "Set-Cookie": {"session=x"}}}
		l.Response(x, r)
	}
}
