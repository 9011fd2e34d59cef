package authn

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/dewar-security/dewar/internal/guard"
)

// FuzzToken: whatever is sent, only what the key has signed is believed, and
// what is believed is what was signed.
func FuzzToken(f *testing.F) {
	k := testKeys()["ed"]
	payload := []byte(`{"iss":"i","sub":"u","aud":"a","exp":4102444800}`)
	valid := sign(f, k, at, payload)
	for _, s := range []string{valid, valid + "=", strings.Replace(valid, ".", "..", 1), "a.b.c", "", "...", `{"payload":""}`, forge(map[string]any{"alg": "none"}, payload, nil)} {
		f.Add(s)
	}
	now := time.Now()
	s := newKeySet(func(context.Context) (string, error) { return "http://127.0.0.1:1/", nil }, http.DefaultClient, func() time.Time { return now }, []string{"EdDSA"})
	s.keys, s.expires = []jose.JSONWebKey{k.public()}, now.Add(time.Hour)
	s.vain = now // no key is fetched
	f.Fuzz(func(t *testing.T, raw string) {
		_, got, err := s.verify(t.Context(), raw)
		if err != nil {
			return
		}
		if !bytes.Equal(got, payload) {
			t.Fatalf("%q is believed to say %q", raw, got)
		}
		if c, err := parseClaims(got); err != nil || c.text("sub") != "u" {
			t.Fatalf("%v %v", c, err)
		}
	})
}

// FuzzClaims: claims of any shape are read or refused.
func FuzzClaims(f *testing.F) {
	for _, s := range []string{`{"aud":["a",1],"exp":1e9,"scope":"a b","scp":["x"],"a":{"b":["c"]}}`, `{"exp":"1"}`, `{"aud":{}}`, `{"exp":1e400}`, `[]`, `{"a":1,"a":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseClaims(b)
		if err != nil {
			return
		}
		_, _ = c.audience()
		_, _ = c.times(time.Now(), time.Minute, true)
		for _, s := range append(c.list("a.b"), c.list("groups")...) {
			if s == "" || len(s) > maxName {
				t.Fatalf("%q", s)
			}
		}
		c.scopes()
	})
}

// FuzzCookies: the guard's cookies never reach the app, and the app's own all
// do, as net/http reads them.
func FuzzCookies(f *testing.F) {
	for _, s := range []string{"a=b; __Host-dewar-login=x; c=d", "dewar-login=x", "__Host-dewar-login-flow=y;__Host-dewar-login=x; __Host-dewar-login=z", "; ;=;a", "dewar-login", " __Host-dewar-login = x ", "a=dewar-login"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header = http.Header{"Cookie": {line}}
		before := r.Cookies()
		own := takeCookies(&guard.Exchange{Request: r, Client: guard.Client{Scheme: "https"}})
		after := r.Cookies()
		i := 0
		for _, k := range before {
			switch strings.TrimPrefix(k.Name, "__Host-") {
			case sessionCookie, flowCookie:
				continue
			}
			if i >= len(after) || after[i].Name != k.Name || after[i].Value != k.Value {
				t.Fatalf("%q: %v, then %v", line, before, after)
			}
			i++
		}
		if i != len(after) {
			t.Fatalf("%q: %v, then %v", line, before, after)
		}
		if strings.Contains(own.login+own.flow, ";") {
			t.Fatalf("%q: %+v", line, own)
		}
	})
}
