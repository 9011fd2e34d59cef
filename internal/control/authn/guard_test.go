package authn

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/store"
)

// TestProgramsAreNotRedirected: a script's fetch would follow a redirect to
// the provider, fail at CORS, and the visitor would see a network error. Only
// a page that a person wants to see is answered with a way to the provider.
func TestProgramsAreNotRedirected(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	for _, tt := range []struct {
		name, method string
		fields       []string
		status       int
		kind         string
	}{
		{"navigation", "GET", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html"}, 302, ""},
		{"old browser", "GET", []string{"Accept: text/html,application/xhtml+xml,*/*;q=0.8"}, 302, ""},
		{"fetch", "GET", []string{"Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Accept: */*"}, 401, "application/problem+json"},
		{"fetch of text/html", "GET", []string{"Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Accept: text/html"}, 401, "text/html; charset=utf-8"},
		{"XHR of an old library", "GET", []string{"X-Requested-With: XMLHttpRequest", "Accept: text/html, */*"}, 401, "text/html; charset=utf-8"},
		{"JSON client", "GET", []string{"Accept: application/json"}, 401, "application/problem+json"},
		{"image", "GET", []string{"Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image", "Accept: image/*"}, 401, ""},
		{"frame", "GET", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe", "Accept: text/html"}, 401, ""},
		{"form", "POST", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html"}, 401, "text/html; charset=utf-8"},
		{"HEAD", "HEAD", []string{"Accept: text/html"}, 401, ""},
		{"WebSocket", "GET", []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-Websocket-Version: 13", "Sec-Websocket-Key: x", "Sec-Fetch-Mode: websocket", "Sec-Fetch-Dest: empty"}, 401, ""},
		{"WebSocket, disguised", "GET", []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html"}, 401, ""},
	} {
		r, _ := http.NewRequest(tt.method, s.URL+"/account/", nil)
		for _, f := range tt.fields {
			name, v, _ := strings.Cut(f, ": ")
			r.Header.Set(name, v)
		}
		res, err := s.Client().Transport.RoundTrip(r)
		if err != nil {
			t.Fatal(tt.name, err)
		}
		res.Body.Close()
		if res.StatusCode != tt.status || tt.kind != "" && res.Header.Get("Content-Type") != tt.kind {
			t.Errorf("%s: %d %s", tt.name, res.StatusCode, res.Header.Get("Content-Type"))
		}
		if a := res.Header.Get("Www-Authenticate"); (tt.status == 401) != (a != "") || strings.HasPrefix(a, "Basic") {
			t.Errorf("%s: WWW-Authenticate %q", tt.name, a)
		}
		if tt.status == 302 && (res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Referrer-Policy") != "no-referrer") {
			t.Errorf("%s: %v", tt.name, res.Header)
		}
	}
}

// TestTabs: fifty tabs are fifty logins under way and one bounded cookie; the
// newest can all be completed, in any order.
func TestTabs(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	b := s.browser()
	stopped := b.stop(o.URL)
	for n := range 50 {
		if code, _, _ := stopped.visit(fmt.Sprintf("%s/account/%d?q=%s", s.URL, n, strings.Repeat("x", 200))); code != 302 {
			t.Fatal(code)
		}
	}
	u, _ := url.Parse(s.URL)
	cookies := b.Jar.Cookies(u)
	size := 0
	for _, k := range cookies {
		size += len(k.Name) + len(k.Value)
	}
	if len(cookies) != 1 || size > 3800 {
		t.Fatalf("%d cookies, %d bytes", len(cookies), size)
	}
	// The states, oldest first: only the newest can come back.
	r, _ := http.NewRequest("GET", s.URL, nil)
	for _, k := range cookies {
		r.AddCookie(k)
	}
	x := &guard.Exchange{Request: r, Client: guard.Client{Scheme: "https"}}
	list := s.layer.flows(takeCookies(x).flow)
	if len(list) < 4 || len(list) > maxFlows || !strings.HasPrefix(list[len(list)-1].Return, "/account/49?") {
		t.Fatalf("%d flows, the last %q", len(list), list[len(list)-1].Return)
	}
	o.mu.Lock()
	begun := slices.Clone(o.requests)
	o.mu.Unlock()
	if len(begun) != 0 {
		t.Fatalf("the provider was asked")
	}
}

// callbackOf goes to the provider with a browser that stops there and returns
// the address of the callback.
func callbackOf(t *testing.T, s *site, b *browser, path string) string {
	t.Helper()
	r, _ := http.NewRequest("GET", s.URL+path, nil)
	r.Header.Set("Accept", "text/html")
	res, err := b.stop("").Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	at := res.Header.Get("Location")
	res, err = b.stop("").Get(at)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.Header.Get("Location")
}

// TestLoginCSRF: an answer of the provider for one browser logs in no other
// one, and none twice.
func TestLoginCSRF(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	attacker, victim := s.browser(), s.browser()
	redeemed := func() int { o.mu.Lock(); defer o.mu.Unlock(); return len(o.tokens) }
	back := callbackOf(t, s, attacker, "/account/")
	code, _, _ := victim.stop(o.URL).visit(back)
	if r := s.reasons(); code != 302 || !slices.Contains(r, "authn-state") || slices.Contains(r, "authn-logged-in") {
		t.Errorf("the attacker's answer in the victim's browser: %d %q", code, r)
	}
	if code, _, _ := victim.stop(o.URL).visit(s.URL + "/account/"); code != 302 {
		t.Errorf("the victim has a session: %d", code)
	}
	// With a login of the victim's own under way it is still another one's.
	callbackOf(t, s, victim, "/account/")
	if code, _, _ := victim.stop(o.URL).visit(back); code != 302 || redeemed() != 0 {
		t.Errorf("with a login under way: %d, %d codes were redeemed", code, redeemed())
	}
	if code, _, _ := victim.stop(o.URL).visit(s.URL + "/account/"); code != 302 {
		t.Errorf("the victim has a session: %d", code)
	}
	s.reasons()
	// The attacker's own browser may use it, once.
	u, _ := url.Parse(s.URL)
	before := attacker.Jar.Cookies(u)
	if code, _, body := attacker.visit(back); code != 200 || redeemed() != 1 {
		t.Fatalf("%d %s", code, body)
	}
	if code, at, _ := attacker.stop(o.URL).visit(back); code != 200 || at != s.URL+"/account/" || redeemed() != 1 {
		t.Errorf("used twice by who has a session: %d at %s, %d codes were redeemed", code, at, redeemed())
	}
	// Also from a copy of the cookie as it was.
	thief := s.browser()
	thief.Jar.SetCookies(u, before)
	s.reasons()
	if code, _, _ := thief.visit(back); code != 403 || !slices.Contains(s.reasons(), "authn-replay") {
		t.Errorf("replay from a copied cookie: %d", code)
	}
	// And not after its time.
	late := callbackOf(t, s, victim, "/account/")
	c.move(flowLife + time.Second)
	if code, _, _ := victim.visit(late); code != 403 {
		t.Errorf("a late answer: %d", code)
	}
	// Nor with a code of another login (code injection): PKCE and nonce bind
	// it.
	one, two := callbackOf(t, s, s.browser(), "/account/"), callbackOf(t, s, victim, "/account/")
	uOne, _ := url.Parse(one)
	uTwo, _ := url.Parse(two)
	q := uTwo.Query()
	q.Set("code", uOne.Query().Get("code"))
	uTwo.RawQuery = q.Encode()
	s.reasons()
	if code, _, _ := victim.visit(uTwo.String()); code != 403 || !slices.Contains(s.reasons(), "authn-token") {
		t.Errorf("a code that was injected: %d", code)
	}
}

// TestMetadata: endpoints that anybody in between could be are not used, and
// the health says which.
func TestMetadata(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	for _, tt := range []struct{ name, url, want string }{
		{"token_endpoint", "http://evil.example/token", "token_endpoint: \"http://evil.example/token\" is not https"},
		{"jwks_uri", "http://evil.example/keys", "jwks_uri: "},
		{"authorization_endpoint", "javascript:alert(1)", "authorization_endpoint: "},
		{"authorization_endpoint", "", "authorization_endpoint: "},
		{"end_session_endpoint", "http://evil.example/end", "end_session_endpoint: "},
		{"revocation_endpoint", "ftp://x/", "revocation_endpoint: "},
		{"introspection_endpoint", "http://evil.example/i", "introspection_endpoint: "},
		{"issuer", "https://evil.example", "did not match"},
		{"issuer", o.URL + "/", "did not match"},
		{"end_session_endpoint", "", ""},
		{"", "", ""},
	} {
		o.change(func() {
			o.meta = func(m map[string]any) {
				if tt.name != "" {
					m[tt.name] = tt.url
				}
			}
		})
		p := newProvider(Provider{Issuer: o.URL, ClientID: clientID}, guard.Secret{}, o.Client(), c.now)
		_, err := p.discover(t.Context())
		if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %q: %v", tt.name, tt.url, err)
		}
	}
}

// TestTabsAtOnce: a browser that restores its tabs asks for all of them with
// the same cookie, and keeps the last one it gets. Every tab ends where it
// wanted, and no answer is used in a browser that did not ask for it.
func TestTabsAtOnce(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	lost := callbackOf(t, s, s.browser(), "/account/one?x=1") // its cookie is overwritten
	b := s.browser()
	kept := callbackOf(t, s, b, "/account/two")
	if code, at, _ := b.visit(lost); code != 200 || at != s.URL+"/account/one?x=1" {
		t.Errorf("the tab whose cookie was lost: %d at %s %q", code, at, s.reasons())
	}
	if code, at, _ := b.visit(kept); code != 200 || at != s.URL+"/account/two" {
		t.Errorf("the other one: %d at %s %q", code, at, s.reasons())
	}
	if code, at, _ := b.stop(o.URL).visit(lost); code != 200 || at != s.URL+"/account/one?x=1" {
		t.Errorf("with a session: %d at %s", code, at)
	}
	// A browser that keeps no cookies is not sent around for ever.
	hops := 0
	for at := callbackOf(t, s, s.browser(), "/account/"); ; hops++ {
		r, _ := http.NewRequest("GET", at, nil)
		res, err := s.Client().Transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if at = res.Header.Get("Location"); at == "" {
			if res.StatusCode != 403 {
				t.Errorf("%d", res.StatusCode)
			}
			break
		}
		if hops > 20 {
			t.Fatal("for ever")
		}
	}
	// What was not sealed here begins nothing.
	for _, v := range []string{"x", "", b64([]byte(`{"i":"x","r":"/account/"}`)), s.layer.flowsCookie(exchange("GET", "/"), []flow{{ID: "x", Return: "/"}})} {
		if code, _, _ := s.browser().stop(o.URL).visit(s.URL + "/_dewar/auth/callback?code=x&state=" + url.QueryEscape(v)); code != 403 {
			t.Errorf("state %q: %d", v, code)
		}
	}
}

// TestOtherOrigin: a login that began at one host does not end at another.
func TestOtherOrigin(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	x := exchange("GET", "/account/", "Accept: text/html")
	d := s.layer.Request(x)
	to, _ := url.Parse(d.Header.Get("Location"))
	cookie, _, _ := strings.Cut(d.Header.Get("Set-Cookie"), ";")
	if to.Query().Get("redirect_uri") != "https://shop.example/_dewar/auth/callback" {
		t.Fatalf("%v", d.Header)
	}
	x = exchange("GET", "/_dewar/auth/callback?code=x&state="+to.Query().Get("state"), "Cookie: "+cookie)
	x.Client.Host = "evil.example"
	if d := s.layer.Request(x); d.Reason != "authn-state" {
		t.Errorf("%+v", d)
	}
	x = exchange("GET", "/_dewar/auth/callback?code=x&state="+to.Query().Get("state"), "Cookie: "+cookie)
	if d := s.layer.Request(x); d.Reason != "authn-token" { // a wrong code, at the right host
		t.Errorf("%+v", d)
	}
	// With an origin in the settings it is that one, whatever was asked for.
	cfg := siteConfig(o)
	cfg.Provider.Origin = "https://www.shop.example"
	s = newSite(t, cfg, c)
	x = exchange("GET", "/account/", "Accept: text/html")
	x.Client.Host = "evil.example"
	to, _ = url.Parse(s.layer.Request(x).Header.Get("Location"))
	if to.Query().Get("redirect_uri") != "https://www.shop.example/_dewar/auth/callback" {
		t.Errorf("%s", to)
	}
}

// TestTokenBesideSession: a token that is sent where one is wanted is the proof
// that counts; elsewhere it may be the app's own, and does not log anybody out.
func TestTokenBesideSession(t *testing.T) {
	k := testKeys()["rsa"]
	c := newClock()
	o := newHostileOP(t, c)
	cfg := siteConfig(o)
	cfg.Bearer.Audience = audience
	cfg.Rules = append(cfg.Rules, Rule{Path: "/web/**", By: "session"}, Rule{Path: "/api/**", By: "bearer"}, Rule{Path: "/either/**"})
	s := newSite(t, cfg, c)
	b := s.browser()
	b.visit(s.URL + "/account/")
	u, _ := url.Parse(s.URL)
	cookie := "Cookie: " + b.Jar.Cookies(u)[0].String()
	good := "Authorization: Bearer " + sign(t, k, at, map[string]any{"iss": o.URL, "aud": audience, "sub": "m-1", "exp": c.unix(time.Minute)})
	wrong := "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.x"
	for _, tt := range []struct {
		path    string
		fields  []string
		subject string // "" is refused
		ambient bool
	}{
		{"/web/x", []string{cookie}, "u-1", true}, {"/web/x", []string{cookie, wrong}, "u-1", true}, {"/web/x", []string{cookie, good}, "u-1", true}, {"/web/x", []string{good}, "", false},
		{"/api/x", []string{cookie}, "", false}, {"/api/x", []string{cookie, wrong}, "", false}, {"/api/x", []string{cookie, good}, "m-1", false}, {"/api/x", []string{good}, "m-1", false},
		{"/either/x", []string{cookie, wrong}, "", false}, {"/either/x", []string{cookie, good}, "m-1", false}, {"/either/x", []string{cookie}, "u-1", true},
		{"/", []string{cookie, wrong}, "u-1", true}, {"/", []string{cookie, good}, "m-1", false},
	} {
		x := exchange("GET", tt.path, tt.fields...)
		d := s.layer.Request(x)
		if (d.Verdict == guard.Allow) != (tt.subject != "") || tt.subject != "" && (x.Identity.Subject != tt.subject || x.Identity.Ambient != tt.ambient) {
			t.Errorf("%s %v: %v %s %+v", tt.path, len(tt.fields), d.Verdict, d.Reason, x.Identity)
		}
	}
}

// TestReturn: a login comes back to this site, wherever somebody wants it to
// end.
func TestReturn(t *testing.T) {
	for _, bad := range []string{
		"https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "/\n/evil.example", "///evil.example", "/%5c/evil.example", "/%5Cevil.example",
		"evil.example", "javascript:alert(1)", "", "/.//evil.example", "/..//evil.example", "/a/../..//evil.example", "/%2e/%2fevil.example", " /x", "/x\r\nSet-Cookie: a=b", "/é", "/x#y",
		"/" + strings.Repeat("x", maxReturn), "/\x00", "http:/x", "/%zz",
	} {
		if got := returnPath(bad); got != "/" {
			t.Errorf("%q comes back to %q", bad, got)
		}
	}
	for _, good := range []string{"/", "/a", "/a/b?c=d&e=https://x//y", "/a//b", "/%20x", "/a;b=c"} {
		if got := returnPath(good); got != good {
			t.Errorf("%q comes back to %q", good, got)
		}
	}
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	for in, want := range map[string]string{"/account/x": "/account/x", "//evil.example": "/", "https://evil.example/": "/", "/_dewar/auth/logout": "/", "/_dewar/auth/login?return=/x": "/"} {
		if code, at, _ := s.browser().visit(s.URL + "/_dewar/auth/login?return=" + url.QueryEscape(in)); code != 200 || at != s.URL+want {
			t.Errorf("%q: %d at %s", in, code, at)
		}
	}
	if code, _, _ := s.browser().visit(s.URL + "/_dewar/auth/login?return=/a&return=//evil"); code != 400 {
		t.Errorf("two returns: %d", code)
	}
}

// FuzzReturnPath: what comes out leads to this site, as a browser reads it.
func FuzzReturnPath(f *testing.F) {
	for _, s := range []string{"/", "//x", "/\\x", "/a?b", "/./x", "/%2f%2fx"} {
		f.Add(s)
	}
	base, _ := url.Parse("https://shop.example/_dewar/auth/callback")
	f.Fuzz(func(t *testing.T, in string) {
		out := returnPath(in)
		u, err := base.Parse(out)
		if err != nil || u.Scheme != "https" || u.Host != "shop.example" || !strings.HasPrefix(out, "/") || strings.HasPrefix(out, "//") || strings.ContainsAny(out, "\\\r\n\t\x00") {
			t.Fatalf("%q: %q, %v %v", in, out, u, err)
		}
		if strings.HasPrefix(u.Path, "//") {
			t.Fatalf("%q: %q", in, u)
		}
	})
}

// TestSessionLife: idle and absolute times, a new id at every login, and a
// cookie that is there twice.
func TestSessionLife(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	cfg := siteConfig(o)
	cfg.Session.Idle, cfg.Session.Absolute, cfg.Session.Refresh = guard.Duration(time.Hour), guard.Duration(5*time.Hour), false
	s := newSite(t, cfg, c)
	b := s.browser()
	in := func() bool {
		code, _, _ := b.stop(o.URL).visit(s.URL + "/account/")
		return code == 200
	}
	b.visit(s.URL + "/account/")
	u, _ := url.Parse(s.URL)
	first := b.Jar.Cookies(u)
	for range 5 {
		c.move(50 * time.Minute)
		if !in() {
			t.Fatal("a session in use has ended")
		}
	}
	c.move(50 * time.Minute)
	if in() {
		t.Error("a session outlives its absolute time")
	}
	b.visit(s.URL + "/account/")
	if second := b.Jar.Cookies(u); slices.ContainsFunc(second, func(k *http.Cookie) bool {
		return k.Value != "" && slices.ContainsFunc(first, func(f *http.Cookie) bool { return f.Value == k.Value })
	}) {
		t.Error("two logins have one session id")
	}
	c.move(61 * time.Minute)
	if in() {
		t.Error("a session that was idle goes on")
	}
	// A login in a browser that has a session ends that one (fixation).
	b.visit(s.URL + "/account/")
	old := b.Jar.Cookies(u)
	b.visit(s.URL + "/_dewar/auth/login")
	thief := s.browser()
	thief.Jar.SetCookies(u, old)
	if code, _, _ := thief.stop(o.URL).visit(s.URL + "/account/"); code != 302 {
		t.Error("the session before the login goes on")
	}
	if !slices.Contains(s.reasons(), "authn-ended") {
		t.Error("nobody notes that an ended session is used")
	}
	for range 5 {
		thief.stop(o.URL).visit(s.URL + "/account/")
	}
	if slices.Contains(s.reasons(), "authn-ended") {
		t.Error("it is noted at every request")
	}
	// Twice: one of them was planted.
	k := b.Jar.Cookies(u)[0]
	for _, two := range [][2]string{{k.Value, newID()}, {newID(), k.Value}, {k.Value, k.Value}} {
		x := exchange("GET", "/account/", "Cookie: "+k.Name+"="+two[0]+"; a=b; "+k.Name+"="+two[1])
		if d := s.layer.Request(x); d.Verdict != guard.Deny {
			t.Errorf("two session cookies: %+v", d)
		}
	}
	// Without the prefix, over https, it is no cookie of ours, and reaches no app.
	x := exchange("GET", "/", "Cookie: dewar-login="+k.Value+"; a=b")
	if s.layer.Request(x); x.Identity.Subject != "" || x.Request.Header.Get("Cookie") != "a=b" {
		t.Errorf("%+v %v", x.Identity, x.Request.Header)
	}
	for _, v := range []string{"", "x", strings.Repeat("A", 43), strings.Repeat("A", 42) + "B", strings.Repeat("A", 5000), "../../x", k.Value + "A", k.Value[:42]} {
		x := exchange("GET", "/account/", "Cookie: "+k.Name+"="+v)
		if d := s.layer.Request(x); d.Verdict == guard.Allow {
			t.Errorf("cookie %q is a session", v)
		}
	}
}

// TestRefresh: tokens are renewed once however many requests come at once, the
// refresh token is the new one afterwards, a provider that is down ends
// nobody's session, and one that says no does.
func TestRefresh(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	b := s.browser()
	b.visit(s.URL + "/account/")
	grants := func(kind string) (n int) {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, v := range o.tokens {
			if v.Get("grant_type") == kind {
				n++
			}
		}
		return n
	}
	c.move(6 * time.Minute)
	o.change(func() { o.idClaims = func(m map[string]any) { m["groups"] = []string{"staff", "admins"} } })
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if code, _, body := b.visit(s.URL + "/account/"); code != 200 {
				t.Errorf("%d %s", code, body)
			}
		})
	}
	wg.Wait()
	if n := grants("refresh_token"); n != 1 {
		t.Fatalf("%d refreshes for 20 requests", n)
	}
	if code, _, body := b.visit(s.URL + "/admin/x"); code != 200 {
		t.Errorf("a role that the provider gave meanwhile: %d %s", code, body)
	}
	for n := range 3 {
		c.move(6 * time.Minute)
		if code, _, _ := b.visit(s.URL + "/account/"); code != 200 || grants("refresh_token") != n+2 {
			t.Fatalf("%d, %d refreshes", code, grants("refresh_token"))
		}
	}
	o.down.Store(true)
	for range 5 {
		c.move(6 * time.Minute)
		if code, _, _ := b.visit(s.URL + "/account/"); code != 200 {
			t.Fatalf("the provider is down: %d", code)
		}
	}
	if err := s.layer.Health(); err != nil {
		t.Logf("health: %v", err)
	}
	o.down.Store(false)
	c.move(time.Minute)
	// A user of another name, or another subject, in the new token.
	o.change(func() { o.idClaims = func(m map[string]any) { m["sub"] = "u-2" } })
	if code, _, _ := b.stop(o.URL).visit(s.URL + "/account/"); code != 302 {
		t.Errorf("another user's token at a refresh: %d", code)
	}
	o.change(func() { o.idClaims = nil })
	b.visit(s.URL + "/account/")
	// Another name for the same subject: the app would see a user change within
	// a session.
	o.change(func() { o.idClaims = func(m map[string]any) { m["preferred_username"] = "admin" } })
	c.move(6 * time.Minute)
	if code, _, _ := b.stop(o.URL).visit(s.URL + "/account/"); code != 302 {
		t.Errorf("another name at a refresh: %d", code)
	}
	o.change(func() { o.idClaims = nil })
	b.visit(s.URL + "/account/")
	o.change(func() { o.refused = "invalid_grant" })
	c.move(6 * time.Minute)
	s.reasons()
	if code, _, _ := b.stop(o.URL).visit(s.URL + "/account/"); code != 302 || !slices.Contains(s.reasons(), "authn-ended") {
		t.Errorf("a user whom the provider has locked: %d", code)
	}
}

// TestRotationBetweenLogins: the provider changes its key without a word; the
// next login is verified with the new one.
func TestRotationBetweenLogins(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	for _, name := range []string{"rsa", "rsa2", "rsa"} {
		k := testKeys()[name]
		o.change(func() { o.signer, o.keys = k, []jose.JSONWebKey{k.public()} })
		if code, _, body := s.browser().visit(s.URL + "/account/"); code != 200 {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	if n := o.fetches.Load(); n != 3 {
		t.Errorf("the keys were fetched %d times", n)
	}
}

// TestLogout: the session ends here and at the provider, what it gave is given
// back, another site cannot do it, and a copy of the cookie is worthless.
func TestLogout(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	b := s.browser()
	b.visit(s.URL + "/account/")
	u, _ := url.Parse(s.URL)
	copied := b.Jar.Cookies(u)
	for _, fields := range [][]string{{"Sec-Fetch-Site: cross-site"}, {"Sec-Fetch-Site: same-site"}, {"Origin: https://evil.example"}, {"Referer: https://evil.example/x"}} {
		if code, _, _ := b.visit(s.URL+"/_dewar/auth/logout", fields...); code != 403 {
			t.Errorf("%v: %d", fields, code)
		}
	}
	if code, _, _ := b.stop(o.URL).visit(s.URL + "/account/"); code != 200 {
		t.Fatal("another site has ended the session")
	}
	r, _ := http.NewRequest("POST", s.URL+"/_dewar/auth/logout", nil)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	res, err := b.stop(o.URL).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	to, _ := url.Parse(res.Header.Get("Location"))
	if q := to.Query(); res.StatusCode != 303 || !strings.HasPrefix(to.String(), o.URL+"/end?") || q.Get("client_id") != clientID || q.Get("post_logout_redirect_uri") != s.URL+"/" || strings.Count(q.Get("id_token_hint"), ".") != 2 {
		t.Errorf("%d %s", res.StatusCode, to)
	}
	thief := s.browser()
	thief.Jar.SetCookies(u, copied)
	for _, k := range []*browser{b, thief} {
		if code, _, _ := k.stop(o.URL).visit(s.URL + "/account/"); code != 302 {
			t.Errorf("after the logout: %d", code)
		}
	}
	for range 6000 {
		o.mu.Lock()
		n := len(o.revoked)
		o.mu.Unlock()
		if n == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.revoked) != 1 || !strings.HasPrefix(o.revoked[0], "refresh-") {
		t.Errorf("revoked %q", o.revoked)
	}
}

// TestLogoutRace: requests that are on their way while a session ends do not
// bring it back, neither by noting that it is in use nor by a refresh.
func TestLogoutRace(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	for range 20 {
		b := s.browser()
		b.visit(s.URL + "/account/")
		c.move(6*time.Minute + s.layer.sessions.idle/8)
		u, _ := url.Parse(s.URL)
		copied := b.Jar.Cookies(u)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { b.stop(o.URL).visit(s.URL + "/account/") })
		}
		wg.Go(func() { b.stop(o.URL).visit(s.URL + "/_dewar/auth/logout") })
		wg.Wait()
		thief := s.browser()
		thief.Jar.SetCookies(u, copied)
		if code, _, _ := thief.stop(o.URL).visit(s.URL + "/account/"); code != 302 {
			t.Fatal("the session came back")
		}
	}
}

// TestBackChannelLogout replays the conformance suite's cases for logout
// tokens, and others. A token that is not right ends no session.
func TestBackChannelLogout(t *testing.T) {
	keys := testKeys()
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	logoutType := map[string]any{"typ": "logout+jwt"}
	jti := 0
	token := func(pairs ...any) map[string]any {
		jti++
		return with(map[string]any{
			"iss": o.URL, "aud": clientID, "iat": c.unix(0), "exp": c.unix(2 * time.Minute), "jti": fmt.Sprint("j", jti), "sub": "u-1", "sid": "sid-1",
			"events": map[string]any{logoutEventName: map[string]any{}},
		}, pairs...)
	}
	send := func(body string, fields ...string) int {
		r, _ := http.NewRequest("POST", s.URL+"/_dewar/auth/backchannel-logout", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for _, f := range fields {
			name, v, _ := strings.Cut(f, ": ")
			r.Header.Set(name, v)
		}
		res, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("Cache-Control %q", res.Header.Get("Cache-Control"))
		}
		return res.StatusCode
	}
	post := func(raw string) int { return send("logout_token=" + url.QueryEscape(raw)) }
	b := s.browser()
	b.visit(s.URL + "/account/")
	used := token()
	for name, raw := range map[string]string{
		"alg none":                          forge(map[string]any{"alg": "none", "typ": "logout+jwt"}, token(), nil),
		"alg missing":                       forge(map[string]any{"typ": "logout+jwt"}, token(), nil),
		"signature wrong":                   sign(t, key{keys["rsa2"].private, "rsa-1", jose.RS256}, logoutType, token()),
		"kid unknown":                       sign(t, key{keys["rsa2"].private, "rsa-9", jose.RS256}, logoutType, token()),
		"issuer wrong":                      sign(t, o.signer, logoutType, token("iss", "https://evil.example")),
		"issuer missing":                    sign(t, o.signer, logoutType, token("iss", nil)),
		"audience wrong":                    sign(t, o.signer, logoutType, token("aud", "other")),
		"audience missing":                  sign(t, o.signer, logoutType, token("aud", nil)),
		"events missing":                    sign(t, o.signer, logoutType, token("events", nil)),
		"event of another kind":             sign(t, o.signer, logoutType, token("events", map[string]any{"http://schemas.openid.net/event/other": map[string]any{}})),
		"event that is no object":           sign(t, o.signer, logoutType, token("events", map[string]any{logoutEventName: "x"})),
		"events that are a list":            sign(t, o.signer, logoutType, token("events", []string{logoutEventName})),
		"nonce":                             sign(t, o.signer, logoutType, token("nonce", "x")),
		"nonce that is null":                sign(t, o.signer, logoutType, with(token(), "nonce", json.RawMessage("null"))),
		"neither sub nor sid":               sign(t, o.signer, logoutType, token("sub", nil, "sid", nil)),
		"sub that is no text":               sign(t, o.signer, logoutType, token("sub", 1)),
		"iat missing":                       sign(t, o.signer, logoutType, token("iat", nil)),
		"issued in the future":              sign(t, o.signer, logoutType, token("iat", c.unix(5*time.Minute))),
		"of yesterday":                      sign(t, o.signer, logoutType, token("iat", c.unix(-24*time.Hour), "exp", nil)),
		"of yesterday, valid till tomorrow": sign(t, o.signer, logoutType, token("iat", c.unix(-24*time.Hour), "exp", c.unix(24*time.Hour))),
		"expired":                           sign(t, o.signer, logoutType, token("exp", c.unix(-time.Minute))),
		"jti missing":                       sign(t, o.signer, logoutType, token("jti", nil)),
		"typ of an access token":            sign(t, o.signer, map[string]any{"typ": "at+jwt"}, token()),
		"an ID token":                       sign(t, o.signer, nil, map[string]any{"iss": o.URL, "aud": clientID, "sub": "u-1", "iat": c.unix(0), "exp": c.unix(time.Minute)}),
		"nothing":                           "",
		"no token":                          "x",
		"encrypted":                         "a.b.c.d.e",
		"sub twice":                         sign(t, o.signer, logoutType, []byte(strings.Replace(string(must(json.Marshal(token()))), `"sub":`, `"sub":"u-2","sub":`, 1))),
	} {
		if code := post(raw); code != 400 {
			t.Errorf("%s: %d", name, code)
		}
	}
	good := sign(t, o.signer, logoutType, token())
	for name, code := range map[string]int{
		"twice":               send("logout_token=" + good + "&logout_token=" + good),
		"as JSON":             send(`{"logout_token":"`+good+`"}`, "Content-Type: application/json"),
		"of nobody's session": post(sign(t, o.signer, logoutType, token("sub", "u-7", "sid", nil))) + 200,
		"of another user's session with this sid": post(sign(t, o.signer, logoutType, token("sub", "u-7"))) + 200,
	} {
		if code != 400 {
			t.Errorf("%s: %d", name, code)
		}
	}
	if r, err := s.Client().Get(s.URL + "/_dewar/auth/backchannel-logout?logout_token=" + good); err != nil || r.StatusCode != 405 {
		t.Errorf("GET: %v %v", r, err)
	}
	in := func(b *browser) bool { code, _, _ := b.stop(o.URL).visit(s.URL + "/account/"); return code == 200 }
	if !in(b) {
		t.Fatal("a wrong logout token has ended the session")
	}
	// By sid: this session only.
	o.change(func() { o.idClaims = func(m map[string]any) { m["sid"] = "sid-2" } })
	other := s.browser()
	other.visit(s.URL + "/account/")
	if code := post(sign(t, o.signer, logoutType, used)); code != 200 {
		t.Fatalf("%d", code)
	}
	if in(b) || !in(other) {
		t.Errorf("by sid: %v %v", in(b), in(other))
	}
	s.reasons()
	if code := post(sign(t, o.signer, logoutType, used)); code != 400 || !slices.Contains(s.reasons(), "authn-replay") {
		t.Errorf("jti used twice: %d", code)
	}
	// By sub: all of the user's.
	b.visit(s.URL + "/account/")
	if code := post(sign(t, o.signer, map[string]any{"typ": "JWT"}, token("sid", nil))); code != 200 || in(b) || in(other) {
		t.Errorf("by sub: %d %v %v", code, in(b), in(other))
	}
	// Without exp, as older providers send it.
	b.visit(s.URL + "/account/")
	if code := post(sign(t, o.signer, logoutType, token("exp", nil, "sub", nil, "sid", "sid-2"))); code != 200 || in(b) {
		t.Errorf("without exp, by sid alone: %d %v", code, in(b))
	}
}

// TestProviderDown: the guard starts without the provider, says so, lets who
// needs no login pass, and works as soon as the provider does.
func TestProviderDown(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	o.down.Store(true)
	s := newSite(t, siteConfig(o), c)
	code, _, _ := s.browser().visit(s.URL + "/account/")
	if code != 503 || !slices.Contains(s.reasons(), "authn-unavailable") {
		t.Errorf("%d", code)
	}
	if err := s.layer.Health(); err == nil || !strings.Contains(err.Error(), o.URL) {
		t.Errorf("health: %v", err)
	}
	if code, _, _ := s.browser().visit(s.URL + "/"); code != 200 {
		t.Errorf("a page for everybody: %d", code)
	}
	o.down.Store(false)
	c.move(metadataPause)
	if code, _, body := s.browser().visit(s.URL + "/account/"); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	if err := s.layer.Health(); err != nil {
		t.Errorf("health: %v", err)
	}
}

// TestFormPost: the answer as a form: the cookie of the login under way is the
// only one that other sites' requests carry.
func TestFormPost(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	cfg := siteConfig(o)
	cfg.Provider.ResponseMode = "form_post"
	s := newSite(t, cfg, c)
	b := s.browser()
	r, _ := http.NewRequest("GET", s.URL+"/account/", nil)
	r.Header.Set("Accept", "text/html")
	res, _ := b.stop(o.URL).Do(r)
	res.Body.Close()
	if k := res.Header.Get("Set-Cookie"); !strings.Contains(k, "SameSite=None") || !strings.Contains(k, "Secure") || !strings.Contains(k, "HttpOnly") || !strings.Contains(k, "Path=/") {
		t.Errorf("%s", k)
	}
	_, _, body := b.visit(res.Header.Get("Location"))
	_, answer, ok := strings.Cut(body, "<!--FORM ")
	if answer = strings.TrimSuffix(answer, "-->"); !ok {
		t.Fatal(body)
	}
	if code, _, _ := b.visit(s.URL + "/_dewar/auth/callback?" + answer); code != 405 {
		t.Errorf("as a query: %d", code)
	}
	post, _ := http.NewRequest("POST", s.URL+"/_dewar/auth/callback", strings.NewReader(answer))
	post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	post.Header.Set("Origin", o.URL)
	post.Header.Set("Sec-Fetch-Site", "cross-site")
	res, err := b.stop(s.URL + "/account").Do(post)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 303 || !strings.Contains(strings.Join(res.Header["Set-Cookie"], "\n"), "__Host-dewar-login=") || !strings.Contains(strings.Join(res.Header["Set-Cookie"], "\n"), "SameSite=Lax") {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	if code, _, _ := b.visit(s.URL + "/account/"); code != 200 {
		t.Errorf("%d", code)
	}
}

// TestStepUp: a path that wants a stronger login sends the visitor to prove
// more, does not believe one that was not given, and tells programs what is
// missing (RFC 9470).
func TestStepUp(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	b := s.browser()
	b.visit(s.URL + "/account/")
	code, _, _ := b.visit(s.URL + "/mfa")
	if r := s.reasons(); code != 403 || r[len(r)-1] != "authn-user" {
		t.Errorf("the provider did not do it: %d %q", code, r)
	}
	o.mu.Lock()
	if q := o.requests[len(o.requests)-1]; q.Get("acr_values") != "urn:mfa" {
		t.Errorf("%v", q)
	}
	o.mu.Unlock()
	r, _ := http.NewRequest("GET", s.URL+"/mfa", nil)
	res, err := b.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if a := res.Header.Get("Www-Authenticate"); res.StatusCode != 401 || !strings.Contains(a, `error="insufficient_user_authentication"`) || !strings.Contains(a, `acr_values="urn:mfa"`) {
		t.Errorf("%d %s", res.StatusCode, a)
	}
	o.change(func() { o.idClaims = func(m map[string]any) { m["acr"] = "urn:mfa" } })
	if code, _, body := b.visit(s.URL + "/mfa"); code != 200 {
		t.Errorf("%d %s", code, body)
	}
}

// TestDefaultLogin: what no rule names wants a login; what the app's source
// says is for everybody, and nothing else, does not.
func TestDefaultLogin(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	cfg := siteConfig(o)
	cfg.Default = "login"
	cfg.Rules = append(cfg.Rules, Rule{Path: "/hooks/**", Methods: []string{"POST"}, Require: "anyone"}, Rule{Path: "/slash/"}, Rule{Path: "/plain"}, Rule{Path: "/deep/er"})
	p, err := policy.Decode(strings.NewReader(`{"version":1,"routes":[
	 {"rule":"/static/<path:filename>","methods":["GET"],"answers":["GET","HEAD","OPTIONS"],"endpoint":"static","kind":"static","kinds":["static"]},
	 {"rule":"/healthz","methods":["GET"],"endpoint":"h","kind":"health","kinds":["health"]},
	 {"rule":"/health","methods":["GET"],"endpoint":"diary","kind":"health","kinds":["health"],"login":{"required":true}},
	 {"rule":"/api/x","methods":["GET","POST"],"answers":["GET","POST","HEAD","OPTIONS"],"endpoint":"x","kind":"api","kinds":["api"]},
	 {"rule":"/api/own","methods":["GET","OPTIONS"],"answers":["GET","HEAD","OPTIONS"],"endpoint":"own","kind":"api","kinds":["api"]},
	 {"rule":"/admin2","methods":["GET"],"endpoint":"a","kind":"admin","kinds":["admin"]},
	 {"rule":"/me","methods":["GET"],"endpoint":"me","login":{"required":true}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	known := func(e *guard.Env) { e.Policy = func() *policy.Policy { return p } }
	preflight := []string{"Origin: https://x.example", "Access-Control-Request-Method: POST"}
	for _, tt := range []struct {
		method, path string
		fields       []string
		open         bool // with default = "login"
		bySource     bool // open with protect = "source"
	}{
		{"GET", "/", nil, false, true}, {"GET", "/static/a.css", nil, true, true}, {"HEAD", "/static/a.css", nil, true, true}, {"POST", "/static/a.css", nil, false, true},
		{"GET", "/healthz", nil, true, true}, {"POST", "/healthz", nil, false, true}, {"GET", "/health", nil, false, false}, {"GET", "/nothing", nil, false, true}, {"GET", "/staticx", nil, false, true},
		{"POST", "/hooks/pay", nil, true, true}, {"GET", "/hooks/pay", nil, false, true},
		{"OPTIONS", "/api/x", preflight, true, true}, {"OPTIONS", "/api/x", nil, false, true}, {"OPTIONS", "/api/own", preflight, false, true}, {"GET", "/api/x", preflight, false, true},
		{"GET", "/admin2", nil, false, false}, {"GET", "/me", nil, false, false}, {"HEAD", "/me", nil, false, true}, {"GET", "/admin/x", nil, false, false},
		{"GET", "/x//admin/", nil, false, true}, {"GET", "/slash", nil, false, false}, {"GET", "/slash/", nil, false, false}, {"GET", "/plain/", nil, false, false}, {"GET", "/plain//", nil, false, false},
		{"GET", "/deep//er", nil, false, false}, {"GET", "/deep///er/", nil, false, false}, {"GET", "/slash/x", nil, false, true}, {"GET", "/account", nil, false, false}, {"GET", "/account/", nil, false, false}, {"GET", "/account//x", nil, false, false},
	} {
		for _, bySource := range []bool{false, true} {
			cfg := cfg
			want := tt.open
			if bySource {
				cfg.Default, cfg.Protect, want = "anyone", "source", tt.bySource
			}
			s := newSite(t, cfg, c, known)
			d := s.layer.Request(exchange(tt.method, tt.path, tt.fields...))
			if (d.Verdict == guard.Allow) != want {
				t.Errorf("%s %s (source %v): %+v", tt.method, tt.path, bySource, d)
			}
			s.Close()
		}
	}
	// The guard's own addresses must be free.
	taken, _ := policy.Decode(strings.NewReader(`{"version":1,"routes":[{"rule":"/_dewar/auth/callback","methods":["GET"],"endpoint":"x"},{"rule":"/<path:any>","methods":["GET"],"endpoint":"y"}]}`))
	env := guard.Env{Now: c.now, Secret: secrets, Policy: func() *policy.Policy { return taken }}
	env.Store = newSite(t, cfg, c).store
	if _, err := NewAuthn(cfg, env); err == nil || !strings.Contains(err.Error(), "/_dewar/auth/callback") {
		t.Errorf("a route of the app: %v", err)
	}
	cfg.Path = "/sso"
	if _, err := NewAuthn(cfg, env); err != nil {
		t.Errorf("a catch-all is in the way: %v", err)
	}
}

// TestObserve: nothing is refused, nobody is sent away, and no client's word
// about who asks reaches the app.
func TestObserve(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	cfg := siteConfig(o)
	cfg.Mode = guard.Observe
	s := newSite(t, cfg, c)
	code, _, body := s.browser().visit(s.URL+"/account/", "X-Forwarded-User: admin", "X-Forwarded-Groups: admins", "X-Dewar-Remote-User: admin", "X-Dewar-Assertion: e30.e30.x", "X_Forwarded_User: admin")
	if code != 200 || strings.Contains(body, "admin\"") || !slices.Contains(s.reasons(), "authn-required") {
		t.Errorf("%d %s", code, body)
	}
}

// TestForgedIdentity: on every path, for everybody or not, in every spelling.
func TestForgedIdentity(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	for _, path := range []string{"/", "/_dewar/auth/x", "/account/"} {
		x := exchange("GET", path, "X-Forwarded-User: a", "X-FORWARDED-EMAIL: a", "x-forwarded-groups: a", "X-Forwarded-Preferred-Username: a", "X-Dewar-Assertion: a", "X-Dewar-Remote-User: a")
		for _, n := range []string{"X_Forwarded_User", "X-Forwarded_User", "x_dewar_remote_user", "X_DEWAR_ASSERTION", "X_forwarded-Groups"} {
			x.Request.Header[n] = []string{"a"}
		}
		s.layer.Request(x)
		if len(x.Request.Header) != 0 {
			t.Errorf("%s: %v", path, x.Request.Header)
		}
	}
}

// TestGroupsField: a group's name must not become two.
func TestGroupsField(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	x := exchange("GET", "/")
	s.layer.identify(x, &identity{issuer: "i", subject: "s", user: "u", groups: []string{"staff", "x,admins", "a\r\nb", " admins", "ärzte"}, expires: c.now().Add(time.Hour)})
	if got := x.Request.Header.Get(groupsField); got != "staff,ärzte" {
		t.Errorf("%q", got)
	}
	if !slices.Contains(x.Identity.Roles, "x,admins") {
		t.Errorf("%q", x.Identity.Roles)
	}
}

// TestReload: sessions and what is signed outlive a reload, with a secret and
// without.
func TestReload(t *testing.T) {
	for _, secret := range []string{"", "env:RING"} {
		c := newClock()
		o := newHostileOP(t, c)
		cfg := siteConfig(o)
		if cfg.Secrets = nil; secret != "" {
			cfg.Secrets = []string{secret}
		}
		s := newSite(t, cfg, c)
		b := s.browser()
		b.visit(s.URL + "/account/")
		u, _ := url.Parse(s.URL)
		k := b.Jar.Cookies(u)[0]
		again, err := NewAuthn(cfg, guard.Env{Store: s.store, Now: c.now, Secret: secrets})
		if err != nil {
			t.Fatal(err)
		}
		x := exchange("GET", "/account/", "Cookie: "+k.Name+"="+k.Value)
		if d := again.Request(x); d.Verdict != guard.Allow || x.Identity.Subject != "u-1" {
			t.Errorf("secret %q: %+v", secret, d)
		}
		if secret == "" {
			continue
		}
		cfg.Secrets = nil
		other, _ := NewAuthn(cfg, guard.Env{Store: s.store, Now: c.now, Secret: secrets})
		if d := other.Request(exchange("GET", "/account/", "Cookie: "+k.Name+"="+k.Value)); d.Verdict == guard.Allow {
			t.Error("a session that was sealed with another secret is opened")
		}
	}
}

// TestSecrets: a secret is changed by putting a new one first: who has logged in
// stays, the provider can still end their sessions, and the app can verify
// what either signed. One that nobody gave lies in a file, made once.
func TestSecrets(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	cfg := siteConfig(o)
	s := newSite(t, cfg, c)
	b := s.browser()
	b.visit(s.URL + "/account/")
	u, _ := url.Parse(s.URL)
	field := "Cookie: " + b.Jar.Cookies(u)[0].String()
	cfg.Secrets = []string{"env:RING2", "env:RING"}
	v, err := NewAuthn(cfg, guard.Env{Store: s.store, Now: c.now, Secret: secrets})
	if err != nil {
		t.Fatal(err)
	}
	next := v.(*layer)
	if d := next.Request(exchange("GET", "/account/", field)); d.Verdict != guard.Allow {
		t.Errorf("%+v", d)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(next.assert.jwks, &set); err != nil || len(set.Keys) != 2 || set.Keys[0].KeyID == set.Keys[1].KeyID {
		t.Errorf("%s", next.assert.jwks)
	}
	if n, err := next.sessions.endAll(t.Context(), o.URL, "", "sid-1"); n != 1 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if d := next.Request(exchange("GET", "/account/", field)); d.Verdict != guard.Deny {
		t.Errorf("%+v", d)
	}
	if _, err := newRing([]string{"short"}, ""); err == nil {
		t.Error("a short secret")
	}
	dir := t.TempDir()
	var kids [8]string
	var wg sync.WaitGroup
	for n := range kids {
		wg.Go(func() {
			r, err := newRing(nil, dir)
			if err != nil || !r.lasting {
				t.Error(err)
				return
			}
			kids[n] = r.hidden("x")
		})
	}
	wg.Wait()
	for _, k := range kids {
		if k != kids[0] {
			t.Error("two processes made two secrets")
		}
	}
	if st, err := os.Stat(filepath.Join(dir, keyFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("%v", list)
	}
	_ = os.WriteFile(filepath.Join(dir, keyFile), []byte("# nothing\n"), 0o600)
	if _, err := newRing(nil, dir); err == nil {
		t.Error("an empty file is a secret")
	}
}

// TestStoreDown: sessions cannot be looked up: nobody gets in, and what is for
// everybody goes on.
func TestStoreDown(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	b := s.browser()
	b.visit(s.URL + "/account/")
	back := callbackOf(t, s, s.browser(), "/account/")
	s.store.Close()
	if code, _, _ := b.visit(s.URL + "/account/"); code != 503 {
		t.Errorf("%d", code)
	}
	if code, _, body := b.visit(s.URL + "/"); code != 200 || !strings.Contains(body, `user=""`) {
		t.Errorf("%d %s", code, body)
	}
	if code, _, _ := b.visit(s.URL+"/_dewar/auth/logout", "Sec-Fetch-Site: same-origin"); code != 503 {
		t.Errorf("a logout that did not happen looks like one: %d", code)
	}
	if code, _, _ := b.visit(back); code == 200 {
		t.Errorf("%d", code)
	}
}

// TestNodes: two nodes with one store and one secret are one site: who has
// logged in at one has at the other, who is logged out at one is at the other
// at once, and tokens are renewed by one of them.
func TestNodes(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	one := newSite(t, siteConfig(o), c)
	two := newSite(t, siteConfig(o), c, func(e *guard.Env) { e.Store = one.store })
	b := one.browser() // its cookies are the host's, whatever the port
	b.visit(one.URL + "/account/")
	u, _ := url.Parse(one.URL)
	copied := b.Jar.Cookies(u)
	in := func(b *browser, s *site) bool {
		code, _, _ := b.stop(o.URL).visit(s.URL + "/account/")
		return code == 200
	}
	if !in(b, one) || !in(b, two) {
		t.Fatal("the other node does not know the session")
	}
	c.move(6 * time.Minute)
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			if !in(b, []*site{one, two}[n%2]) {
				t.Error("a session was lost while tokens were renewed")
			}
		})
	}
	wg.Wait()
	o.mu.Lock()
	renewed := 0
	for _, v := range o.tokens {
		if v.Get("grant_type") == "refresh_token" {
			renewed++
		}
	}
	o.mu.Unlock()
	if renewed != 1 {
		t.Errorf("%d refreshes", renewed)
	}
	if b.stop(o.URL).visit(two.URL + "/_dewar/auth/logout"); in(b, one) || in(b, two) {
		t.Error("a logout at one node is none at the other")
	}
	thief := one.browser()
	thief.Jar.SetCookies(u, copied)
	if in(thief, one) || in(thief, two) {
		t.Error("a copy of the cookie goes on")
	}
}

// TestOperator: an operator sees who has logged in and can end it.
func TestOperator(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	ctx := context.Background()
	a, b := s.browser(), s.browser()
	a.visit(s.URL + "/account/")
	o.change(func() {
		o.subject = "u-2"
		o.idClaims = func(m map[string]any) { m["preferred_username"], m["email"] = "bob", "bob@shop.example" }
	})
	b.visit(s.URL + "/account/")
	v, err := s.layer.Operate(ctx, "login sessions", map[string]string{})
	list, _ := v.([]listed)
	if err != nil || len(list) != 2 {
		t.Fatalf("%v %v", v, err)
	}
	if text := string(must(json.Marshal(list))); strings.Contains(text, "access-") || strings.Contains(text, "refresh-") {
		t.Errorf("%s", text)
	}
	if v, err := s.layer.Operate(ctx, "login sessions", map[string]string{"subject": "BOB@shop.example"}); err != nil || len(v.([]listed)) != 1 {
		t.Errorf("%v %v", v, err)
	}
	if _, err := s.layer.Operate(ctx, "login end", map[string]string{"subject": "nobody"}); err == nil {
		t.Error("nobody was ended")
	}
	if v, err := s.layer.Operate(ctx, "login end", map[string]string{"subject": "u-2"}); err != nil || v.(map[string]int)["ended"] != 1 {
		t.Errorf("%v %v", v, err)
	}
	for who, k := range map[string]*browser{"ann": a, "bob": b} {
		code, _, _ := k.stop(o.URL).visit(s.URL + "/account/")
		if (who == "ann") != (code == 200) {
			t.Errorf("%s: %d", who, code)
		}
	}
}

// TestManySessions: one user cannot fill the store with sessions.
func TestManySessions(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	ctx := context.Background()
	var first string
	for n := range maxSessions + 10 {
		id, err := s.layer.sessions.start(ctx, &session{Issuer: o.URL, Subject: "u-1", User: "ann", SID: fmt.Sprint(n)}, tokens{})
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			first = id
		}
	}
	n := 0
	_ = s.layer.sessions.all(ctx, func(string, *session, time.Duration) bool { n++; return true })
	if n != maxSessions {
		t.Errorf("%d sessions", n)
	}
	if c, err := s.layer.sessions.get(ctx, s.layer.sessions.key(first)); c != nil || err != nil {
		t.Errorf("the oldest goes on: %v %v", c, err)
	}
	if ended, err := s.layer.sessions.endAll(ctx, o.URL, "u-1", ""); err != nil || ended != maxSessions {
		t.Errorf("%d %v", ended, err)
	}
}

// between runs something before a session is put into the store.
type between struct {
	store.Store
	run func()
}

func (b *between) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if run := b.run; run != nil && strings.HasPrefix(key, sessionFolder) {
		b.run = nil
		run()
	}
	return b.Store.Put(ctx, key, value, ttl)
}

// TestLogoutWhileItBegins: the provider's logout ends a session that is just
// being made.
func TestLogoutWhileItBegins(t *testing.T) {
	c := newClock()
	st := &between{Store: store.NewMemory(store.MemoryOptions{Now: c.now})}
	l, err := NewAuthn(Config{Mode: guard.Enforce}, guard.Env{Store: st, Now: c.now, Secret: secrets})
	if err != nil {
		t.Fatal(err)
	}
	ss := l.(*layer).sessions
	who := func() *session {
		return &session{Issuer: "https://id.example", Subject: "u-1", SID: "s-1", User: "u-1"}
	}
	st.run = func() {
		if _, err := ss.endAll(t.Context(), "https://id.example", "u-1", "s-1"); err != nil {
			t.Error(err)
		}
	}
	id, err := ss.start(t.Context(), who(), tokens{ID: "x"})
	if err == nil || id != "" {
		t.Errorf("%q, %v", id, err)
	}
	n := 0
	_ = ss.all(t.Context(), func(string, *session, time.Duration) bool { n++; return true })
	if n > 0 {
		t.Errorf("%d sessions", n)
	}
	if id, err = ss.start(t.Context(), who(), tokens{}); err != nil {
		t.Fatal(err)
	}
	if got, err := ss.get(t.Context(), ss.key(id)); got == nil || err != nil {
		t.Errorf("the next login: %v, %v", got, err)
	}
}
