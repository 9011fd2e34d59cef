package csrf

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
)

func request(t testing.TB, method string, fields ...string) *http.Request {
	t.Helper()
	raw := method + " /transfer HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newCSRF(t testing.TB) guard.Layer {
	t.Helper()
	l, err := NewCSRF(Config{TrustedOrigins: []string{"https://admin.shop.example", "https://partner.example:8443"}, SessionCookies: []string{"shopper"}},
		guard.Env{Facts: func() guard.Facts {
			return guard.Facts{Known: true, SessionCookieName: "s", RememberCookieName: "keep"}
		}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

const (
	cookie = "Cookie: theme=dark; session=abc"
	ours   = "Origin: https://shop.example"
	evil   = "Origin: https://evil.example"
)

func TestCSRF(t *testing.T) {
	ws := func(f ...string) []string { return append(f, "Upgrade: websocket", "Connection: Upgrade") }
	l := newCSRF(t)
	for _, tt := range []struct {
		name   string
		method string
		fields []string
		reason string
	}{
		// Attacks.
		{"cross-site form", "POST", []string{cookie, evil, "Sec-Fetch-Site: cross-site"}, "csrf-cross-site"},
		{"cross-site form, old browser", "POST", []string{cookie, evil}, "csrf-origin"},
		{"cross-site form, SameSite kept the cookie: login CSRF", "POST", []string{evil, "Sec-Fetch-Site: cross-site"}, "csrf-cross-site"},
		{"without Origin", "POST", []string{cookie, "Sec-Fetch-Site: cross-site"}, "csrf-cross-site"},
		{"PUT", "PUT", []string{cookie, evil}, "csrf-origin"},
		{"DELETE", "DELETE", []string{cookie, evil}, "csrf-origin"},
		{"an unknown method is no safe one", "FOO", []string{cookie, evil}, "csrf-origin"},
		{"sibling subdomain", "POST", []string{cookie, "Origin: https://blog.shop.example", "Sec-Fetch-Site: same-site"}, "csrf-same-site"},
		{"parent domain", "POST", []string{cookie, "Origin: https://example"}, "csrf-origin"},
		{"clear-text page of our host", "POST", []string{cookie, "Origin: http://shop.example"}, "csrf-origin"},
		{"another port of our host", "POST", []string{cookie, "Origin: https://shop.example:8443"}, "csrf-origin"},
		{"user name in Origin", "POST", []string{cookie, "Origin: https://evil@shop.example"}, "csrf-origin-invalid"},
		{"our name as a user name", "POST", []string{cookie, "Origin: https://shop.example@evil.example"}, "csrf-origin-invalid"},
		{"sandboxed frame", "POST", []string{cookie, "Origin: null", "Sec-Fetch-Site: cross-site"}, "csrf-origin-invalid"},
		{"null, old browser", "POST", []string{cookie, "Origin: null"}, "csrf-origin-invalid"},
		{"null, user-initiated", "POST", []string{cookie, "Origin: null", "Sec-Fetch-Site: none"}, "csrf-origin-invalid"},
		{"two origins", "POST", []string{cookie, ours, evil}, "csrf-origin-invalid"},
		{"empty origin", "POST", []string{cookie, "Origin:"}, "csrf-origin-invalid"},
		{"our origin as a prefix", "POST", []string{cookie, "Origin: https://shop.example.evil.example"}, "csrf-origin"},
		{"our origin as a suffix", "POST", []string{cookie, "Origin: https://evilshop.example"}, "csrf-origin"},
		{"our Origin after a foreign redirect", "POST", []string{cookie, ours, "Sec-Fetch-Site: cross-site"}, "csrf-cross-site"},
		{"empty Sec-Fetch-Site", "POST", []string{cookie, "Sec-Fetch-Site: "}, "csrf-no-origin"},
		{"two Sec-Fetch-Site", "POST", []string{cookie, "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"}, "csrf-cross-site"},
		{"unknown Sec-Fetch-Site", "POST", []string{cookie, "Sec-Fetch-Site: same-origin-ish"}, "csrf-cross-site"},
		{"same-origin claimed with another Origin", "POST", []string{cookie, evil, "Sec-Fetch-Site: same-origin"}, "csrf-origin"},
		{"no sender at all", "POST", []string{cookie}, "csrf-no-origin"},
		{"empty Referer", "POST", []string{cookie, "Referer:"}, "csrf-no-origin"},
		{"the app's own session cookie", "POST", []string{"Cookie: s=1"}, "csrf-no-origin"},
		{"the app's remember cookie", "POST", []string{"Cookie: a=1; keep=1"}, "csrf-no-origin"},
		{"a configured cookie", "POST", []string{"Cookie: shopper=1"}, "csrf-no-origin"},
		{"JWT cookie", "POST", []string{"Cookie: access_token_cookie=1"}, "csrf-no-origin"},
		{"prefixed cookie", "POST", []string{"Cookie: __Host-sid=1"}, "csrf-no-origin"},
		{"foreign Referer", "POST", []string{cookie, "Referer: https://evil.example/https://shop.example/"}, "csrf-referer"},
		{"Referer with our name in front", "POST", []string{cookie, "Referer: https://shop.example.evil.example/"}, "csrf-referer"},
		{"Referer with a user name", "POST", []string{cookie, "Referer: https://shop.example@evil.example/"}, "csrf-referer"},
		{"clear-text Referer", "POST", []string{cookie, "Referer: http://shop.example/"}, "csrf-referer"},
		{"Referer is garbage", "POST", []string{cookie, "Referer: ../x"}, "csrf-referer"},
		{"token and cookie, cross-site", "POST", []string{cookie, evil, "Sec-Fetch-Site: cross-site", "Authorization: Bearer x"}, "csrf-cross-site"},
		{"cached Basic login, cross-site", "POST", []string{evil, "Sec-Fetch-Site: cross-site", "Authorization: Basic eDp5"}, "csrf-cross-site"},
		{"cached Negotiate login and cookie", "POST", []string{cookie, "Authorization: Negotiate abc"}, "csrf-no-origin"},
		{"cross-site WebSocket", "GET", ws(cookie, evil), "csrf-origin"},
		{"cross-site WebSocket, no cookie", "GET", ws(evil, "Sec-Fetch-Site: cross-site"), "csrf-cross-site"},
		{"cross-site WebSocket with a token", "GET", ws(evil, "Authorization: Bearer x"), "csrf-origin"},
		{"sibling WebSocket", "GET", ws(cookie, "Origin: https://blog.shop.example", "Sec-Fetch-Site: same-site"), "csrf-same-site"},
		{"WebSocket without Origin", "GET", ws(cookie), "csrf-websocket"},
		{"WebSocket without Origin, same-origin claimed", "GET", ws(cookie, "Sec-Fetch-Site: same-origin"), "csrf-websocket"},
		{"WebSocket from a sandbox", "GET", ws(cookie, "Origin: null", "Sec-Fetch-Site: same-origin"), "csrf-origin-invalid"},
		// What honest clients send.
		{"our form", "POST", []string{cookie, ours, "Sec-Fetch-Site: same-origin"}, ""},
		{"our form, old browser", "POST", []string{cookie, ours}, ""},
		{"our form, port written out", "POST", []string{cookie, "Origin: https://shop.example:443"}, ""},
		{"our form, capital letters", "POST", []string{cookie, "Origin: HTTPS://Shop.Example"}, ""},
		{"our form, very old browser", "POST", []string{cookie, "Referer: https://shop.example/cart?x=https://evil.example"}, ""},
		{"our form, Referer is the bare origin", "POST", []string{cookie, "Referer: https://shop.example"}, ""},
		{"our form under no-referrer", "POST", []string{cookie, "Origin: null", "Sec-Fetch-Site: same-origin"}, ""},
		{"our fetch without Origin", "POST", []string{cookie, "Sec-Fetch-Site: same-origin"}, ""},
		{"the visitor himself", "POST", []string{cookie, "Sec-Fetch-Site: none"}, ""},
		{"trusted origin", "POST", []string{cookie, "Origin: https://admin.shop.example", "Sec-Fetch-Site: same-site"}, ""},
		{"trusted origin across sites", "POST", []string{cookie, "Origin: https://partner.example:8443", "Sec-Fetch-Site: cross-site"}, ""},
		{"trusted Referer", "POST", []string{cookie, "Referer: https://admin.shop.example/x"}, ""},
		{"webhook", "POST", []string{"X-Hub-Signature-256: sha256=00", "User-Agent: GitHub-Hookshot/1"}, ""},
		{"API client", "POST", []string{"Authorization: Bearer x"}, ""},
		{"API client with curl -u", "POST", []string{"Authorization: Basic eDp5"}, ""},
		{"API client with a cookie jar", "POST", []string{cookie, "Authorization: Bearer x"}, ""},
		{"another site's page with its own token", "POST", []string{evil, "Sec-Fetch-Site: cross-site", "Authorization: Bearer x"}, ""},
		{"analytics and CSRF cookies only", "POST", []string{"Cookie: _ga=1; csrf_token=2; theme=dark; XSRF-TOKEN=3"}, ""},
		{"cross-site link", "GET", []string{cookie, "Sec-Fetch-Site: cross-site"}, ""},
		{"cross-site image", "HEAD", []string{cookie, evil, "Sec-Fetch-Site: cross-site"}, ""},
		{"preflight", "OPTIONS", []string{evil, "Access-Control-Request-Method: PUT"}, ""},
		{"our WebSocket", "GET", ws(cookie, ours, "Sec-Fetch-Site: same-origin"), ""},
		{"trusted WebSocket", "GET", ws(cookie, "Origin: https://admin.shop.example"), ""},
		{"native WebSocket client", "GET", ws("Authorization: Bearer x"), ""},
		{"native WebSocket client without login", "GET", ws(), ""},
	} {
		x := &guard.Exchange{Request: request(t, tt.method, tt.fields...), Client: guard.Client{Scheme: "https", Host: "shop.example"}}
		d := l.Request(x)
		if d.Reason != tt.reason || (d.Verdict == guard.Allow) != (tt.reason == "") {
			t.Errorf("%s: %q (%s), want %q", tt.name, d.Reason, d.Detail, tt.reason)
		}
		if d.Verdict != guard.Allow {
			documented := false
			for _, r := range layers[0].Reasons {
				documented = documented || r.Name == d.Reason
			}
			if !documented || d.Status != 403 {
				t.Errorf("%s: undocumented %+v", tt.name, d)
			}
		}
	}
}

// Whatever net/http refuses, this layer refuses too: it is the floor.
func TestStricterThanNetHTTP(t *testing.T) {
	l, err := NewCSRF(Config{}, guard.Env{})
	if err != nil {
		t.Fatal(err)
	}
	floor := http.NewCrossOriginProtection()
	n := 0
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"} {
		for _, site := range []string{"", "same-origin", "none", "same-site", "cross-site", "x"} {
			for _, origin := range []string{"", "https://shop.example", "https://evil.example", "http://shop.example", "null", "x", "https://a@shop.example"} {
				for _, c := range []string{"", "session=1"} {
					var f []string
					if site != "" {
						f = append(f, "Sec-Fetch-Site: "+site)
					}
					if origin != "" {
						f = append(f, "Origin: "+origin)
					}
					if c != "" {
						f = append(f, "Cookie: "+c)
					}
					r := request(t, method, f...)
					if floor.Check(r) == nil {
						continue
					}
					n++
					if d := l.Request(&guard.Exchange{Request: r, Client: guard.Client{Scheme: "https", Host: "shop.example"}}); d.Verdict != guard.Deny {
						t.Errorf("%s %q passes, net/http refuses it", method, f)
					}
				}
			}
		}
	}
	if n < 100 {
		t.Fatalf("only %d refusals compared", n)
	}
}

// A site whose own origin is unknown believes nobody's Origin.
func TestUnknownOwnOrigin(t *testing.T) {
	l := newCSRF(t)
	for _, c := range []guard.Client{{}, {Scheme: "https"}, {Host: "shop.example"}} {
		if d := l.Request(&guard.Exchange{Request: request(t, "POST", cookie, ours), Client: c}); d.Verdict != guard.Deny {
			t.Errorf("%+v: %+v", c, d)
		}
	}
}

func TestProblems(t *testing.T) {
	c := Config{TrustedOrigins: []string{"https://a.example", "a.example", "https://a.example/", "null", "https://*.example"}}
	if p := c.Problems(); len(p) != 4 {
		t.Errorf("%d problems: %+v", len(p), p)
	}
	if _, err := NewCSRF(c, guard.Env{}); err == nil {
		t.Error("a layer is made of bad settings")
	}
}

// A Referer never makes a foreign page ours: the browser writes its own
// origin in front, whatever the page's path is.
func FuzzReferer(f *testing.F) {
	f.Add("/")
	f.Add("@shop.example/")
	f.Add(":443@shop.example")
	f.Add(".shop.example\\")
	f.Fuzz(func(t *testing.T, tail string) {
		o, err := refererOrigin("https://evil.example" + tail)
		if err == nil && o.Host == "shop.example" {
			t.Fatalf("%q is from %v", tail, o)
		}
	})
}

func BenchmarkCSRF(b *testing.B) {
	l := newCSRF(b)
	for name, r := range map[string]*http.Request{
		"GET":    request(b, "GET", cookie),
		"POST":   request(b, "POST", cookie, ours, "Sec-Fetch-Site: same-origin"),
		"Cookie": request(b, "POST", "Cookie: _ga=1; theme=dark"),
	} {
		b.Run(name, func(b *testing.B) {
			x := &guard.Exchange{Request: r, Client: guard.Client{Scheme: "https", Host: "shop.example"}}
			b.ReportAllocs()
			for b.Loop() {
				if d := l.Request(x); d.Verdict != guard.Allow {
					b.Fatal(d)
				}
			}
		})
	}
}

// TestAmbientIdentity: the cookie of a login at the edge never reaches the app
// and is not in sight here; the identity that it proved is. A form of another
// site must not borrow it, whatever else the request carries.
func TestAmbientIdentity(t *testing.T) {
	l := newCSRF(t)
	for _, tt := range []struct {
		ambient bool
		fields  []string
		reason  string
	}{
		{true, nil, "csrf-no-origin"},
		{false, nil, ""},
		{true, []string{"Authorization: Bearer x"}, "csrf-no-origin"},
		{true, []string{evil, "Authorization: Bearer x"}, "csrf-origin"},
		{false, []string{evil, "Authorization: Bearer x"}, ""},
		{true, []string{ours}, ""},
	} {
		x := &guard.Exchange{Request: request(t, "POST", tt.fields...), Client: guard.Client{Scheme: "https", Host: "shop.example"}}
		x.Identity = guard.Identity{Subject: "u", Issuer: "https://id.example", Ambient: tt.ambient}
		if d := l.Request(x); d.Reason != tt.reason {
			t.Errorf("ambient %v, %q: %q, want %q", tt.ambient, tt.fields, d.Reason, tt.reason)
		}
	}
}

// TestGetThatWrites: another site's page cannot load what the source says is a
// change; a link of its can be followed.
func TestGetThatWrites(t *testing.T) {
	p, err := policy.Decode(strings.NewReader(`{"version": 1, "routes": [
		{"rule": "/logout", "methods": ["GET"], "answers": ["GET", "HEAD"], "writes_state": true},
		{"rule": "/page", "methods": ["GET"], "answers": ["GET", "HEAD"]},
		{"rule": "/both/<path:any>", "methods": ["GET"], "answers": ["GET"]},
		{"rule": "/both/x", "methods": ["GET"], "answers": ["GET"], "writes_state": true}]}`))
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewCSRF(Config{TrustedOrigins: []string{"https://app.example"}}, guard.Env{Policy: func() *policy.Policy { return p }})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		header     map[string]string
		reason     string
	}{
		{"image", "/logout", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, "csrf-get"},
		{"frame", "/logout", map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, "csrf-get"},
		{"without a destination", "/logout", map[string]string{"Sec-Fetch-Site": "cross-site"}, "csrf-get"},
		{"link", "/logout", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, ""},
		{"our own page", "/logout", map[string]string{"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "image"}, ""},
		{"no browser", "/logout", nil, ""},
		{"nobody is logged in", "/logout", map[string]string{"Sec-Fetch-Site": "cross-site", "Cookie": "theme=dark"}, ""},
		{"trusted", "/logout", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Origin": "https://app.example"}, ""},
		{"a page that reads", "/page", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}, ""},
		{"another route may answer", "/both/x", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}, ""},
	} {
		r := httptest.NewRequest("GET", c.path, nil)
		r.Header.Set("Cookie", "session=x")
		for k, v := range c.header {
			r.Header.Set(k, v)
		}
		x := &guard.Exchange{Request: r, Path: c.path, Client: guard.Client{Scheme: "https", Host: "shop.example"}}
		if d := l.Request(x); d.Reason != c.reason {
			t.Errorf("%s: %+v, want %q", c.name, d, c.reason)
		}
	}
}
