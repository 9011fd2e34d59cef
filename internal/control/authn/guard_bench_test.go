package authn

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/guard"
)

// again makes the request anew for every turn: the layer takes its cookie.
func again(b *testing.B, l *layer, path string, fields ...string) {
	b.Helper()
	x := exchange("GET", path, fields...)
	h := x.Request.Header
	if d := l.Request(x); d.Verdict != guard.Allow {
		b.Fatalf("%+v", d)
	}
	var clean http.Header = map[string][]string{}
	for _, f := range fields {
		clean = exchange("GET", path, fields...).Request.Header
		_ = f
	}
	b.ReportAllocs()
	for b.Loop() {
		clear(h)
		maps.Copy(h, clean)
		x.Identity = guard.Identity{}
		if d := l.Request(x); d.Verdict != guard.Allow {
			b.Fatalf("%+v", d)
		}
	}
}

func benchSite(b *testing.B) (*layer, string) {
	b.Helper()
	c := newClock()
	o := newHostileOP(b, c)
	s := newSite(b, siteConfig(o), c)
	id, err := s.layer.sessions.start(b.Context(), &session{Issuer: o.URL, Subject: "u-1", User: "ann", Email: "ann@shop.example", Login: "ann", Groups: []string{"staff", "admins"}, Scopes: []string{"openid"}}, tokens{strings.Repeat("eyJ0", 300), "r"})
	if err != nil {
		b.Fatal(err)
	}
	return s.layer, "Cookie: theme=dark; __Host-dewar-login=" + id + "; session=abc"
}

// BenchmarkNobody is a page for everybody, asked for by somebody unknown.
func BenchmarkNobody(b *testing.B) {
	l, _ := benchSite(b)
	again(b, l, "/", "Cookie: theme=dark; session=abc", "Accept: text/html")
}

// BenchmarkSession is a request of somebody who has logged in: the session is
// asked for in the store, opened once, and the assertion is a minute old at
// most.
func BenchmarkSession(b *testing.B) {
	l, cookie := benchSite(b)
	again(b, l, "/admin/x", cookie, "Accept: text/html")
}

// BenchmarkSessionOpened is the same with nothing remembered.
func BenchmarkSessionOpened(b *testing.B) {
	l, cookie := benchSite(b)
	x := exchange("GET", "/admin/x", cookie)
	h := x.Request.Header.Clone()
	b.ReportAllocs()
	for b.Loop() {
		l.sessions.cache = newLRU[*cached](16)
		clear(x.Request.Header)
		maps.Copy(x.Request.Header, h)
		if d := l.Request(x); d.Verdict != guard.Allow {
			b.Fatalf("%+v", d)
		}
	}
}

// BenchmarkBearer is a request with a token that was seen before.
func BenchmarkBearer(b *testing.B) {
	k := testKeys()["rsa"]
	i, c := newIssuer(b), newClock()
	i.publish(k.public())
	l := newLayer(b, bearerConfig(i), c)
	again(b, l, "/read", "Authorization: Bearer "+sign(b, k, at, good(i, c)))
}

// BenchmarkBearerVerified verifies every token.
func BenchmarkBearerVerified(b *testing.B) {
	for _, name := range []string{"rsa", "ec", "ed"} {
		b.Run(name, func(b *testing.B) {
			k := testKeys()[name]
			i, c := newIssuer(b), newClock()
			i.publish(k.public())
			l := newLayer(b, bearerConfig(i), c)
			token := sign(b, k, at, good(i, c))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.bearer.jwt(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestMemory: what is remembered is bounded, however many tokens come.
func TestMemory(t *testing.T) {
	l := newLRU[int](1000)
	for n := range 100000 {
		l.put(fmt.Sprint(n), n)
	}
	if len(l.young)+len(l.old) > 1000 {
		t.Errorf("%d entries", len(l.young)+len(l.old))
	}
	l.put("kept", 1)
	for n := range 400 {
		l.put(fmt.Sprint("x", n), n)
		if _, ok := l.get("kept"); !ok {
			t.Fatal("what is asked for all the time was forgotten")
		}
	}
	l.remove("kept")
	if _, ok := l.get("kept"); ok {
		t.Error("removed, and still there")
	}
	// A forged token is not remembered at all.
	i, c := newIssuer(t), newClock()
	k := testKeys()["rsa"]
	i.publish(k.public())
	layer := newLayer(t, bearerConfig(i), c)
	for n := range 100 {
		layer.Request(exchange("GET", "/read", fmt.Sprintf("Authorization: Bearer %s", forge(map[string]any{"alg": "RS256", "kid": "rsa-1", "typ": "at+jwt"}, with(good(i, c), "jti", n), func(string) []byte { return make([]byte, 256) }))))
	}
	if n := len(layer.bearer.judged.young); n != 0 {
		t.Errorf("%d forged tokens are remembered", n)
	}
}
