package attack

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// authority issues access tokens and publishes its keys.
type authority struct {
	*httptest.Server
	key *rsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": a.URL, "authorization_endpoint": a.URL + "/a", "token_endpoint": a.URL + "/t", "jwks_uri": a.URL + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Use: "sig", Algorithm: "RS256"}}})
	})
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.Close)
	return a
}

const apiAudience = "https://api.leaky.example"

// claims are those of a token that the authority would give; pairs change
// them, nil takes one away.
func (a *authority) claims(pairs ...any) map[string]any {
	m := map[string]any{"iss": a.URL, "aud": apiAudience, "sub": "1", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "scope": "orders"}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == nil {
			delete(m, pairs[i].(string))
		} else {
			m[pairs[i].(string)] = pairs[i+1]
		}
	}
	return m
}

func encode(v any) string {
	b, _ := json.Marshal(v)
	return base64.RawURLEncoding.EncodeToString(b)
}

// token puts a token together. A nil sign leaves the signature empty.
func token(head, payload map[string]any, sign func([]byte) []byte) string {
	text := encode(head) + "." + encode(payload)
	if sign == nil {
		return text + "."
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sign([]byte(text)))
}

// signed is a token with the signature of a key.
func signed(t *testing.T, key *rsa.PrivateKey, head, payload map[string]any) string {
	t.Helper()
	o := &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{}}
	for name, v := range head {
		o.ExtraHeaders[jose.HeaderKey(name)] = v
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(payload)
	j, err := s.Sign(b)
	if err != nil {
		t.Fatal(err)
	}
	text, err := j.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAuthn(t *testing.T) {
	a := newAuthority(t)
	mine, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := x509.MarshalPKIXPublicKey(a.key.Public())
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	mac := func(secret []byte) func([]byte) []byte {
		return func(b []byte) []byte {
			m := hmac.New(sha256.New, secret)
			m.Write(b)
			return m.Sum(nil)
		}
	}
	// orders asks for somebody's orders with a token, and reports whether they
	// came.
	orders := func(x *target, token string) bool {
		res := x.browser().get("/api/orders", "Authorization", "Bearer "+token, "Accept", "application/json", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty")
		return res.StatusCode == 200 && strings.HasPrefix(strings.TrimSpace(res.text), "[")
	}
	forged := func(way, token string) attack {
		return attack{"CWE-347 forged token", way, []string{"authn"}, func(_ *testing.T, x *target) bool { return orders(x, token) }}
	}
	// users asks for the list that forgot its login.
	users := func(way, method, path string, header ...string) attack {
		return attack{"CWE-306 view without a login", way, []string{"authn"}, func(_ *testing.T, x *target) bool {
			res := x.browser().do(method, path, "", header...)
			return res.StatusCode == 200 && (method == "HEAD" || strings.Contains(res.text, admin))
		}}
	}
	at := map[string]any{"alg": "RS256", "kid": "k1", "typ": "at+jwt"}
	with := func(pairs ...any) map[string]any {
		m := map[string]any{}
		for k, v := range at {
			m[k] = v
		}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i].(string)] = pairs[i+1]
		}
		return m
	}
	jwk := jose.JSONWebKey{Key: mine.Public(), KeyID: "k1"}
	good := a.claims()
	settings := quiet + fmt.Sprintf("[authn]\nprotect = \"source\"\n[authn.bearer]\nissuer = %q\naudience = %q\n[[authn.rule]]\npath = \"/api/orders\"\nby = \"bearer\"\nscopes = [\"orders\"]\n", a.URL, apiAudience)
	env := []string{"SECRET_KEY=dev"}
	suite(t, settings, env, []attack{
		forged("alg none", token(with("alg", "none"), good, nil)),
		forged("alg nOnE", token(with("alg", "nOnE"), good, nil)),
		forged("no signature", token(at, good, nil)),
		forged("a signature of zeros", token(at, good, func([]byte) []byte { return make([]byte, 256) })),
		forged("key confusion", token(with("alg", "HS256"), good, mac(public))),
		forged("the app's own weak key", token(with("alg", "HS256"), good, mac([]byte("jwt-secret")))),
		forged("an empty secret and a kid that is /dev/null", token(with("alg", "HS256", "kid", "../../../dev/null"), good, mac(nil))),
		forged("psychic signature", token(with("alg", "ES256"), good, func([]byte) []byte { return make([]byte, 64) })),
		forged("another key under the issuer's kid", signed(t, mine, map[string]any{"kid": "k1", "typ": "at+jwt"}, good)),
		forged("its own key in the header", signed(t, mine, map[string]any{"jwk": jwk, "typ": "at+jwt"}, good)),
		forged("its own key's address in the header", signed(t, mine, map[string]any{"jku": a.URL + "/keys?evil", "kid": "k1", "typ": "at+jwt"}, good)),
		{"CWE-613 token out of its time", "expired", []string{"authn"}, func(t *testing.T, x *target) bool {
			return orders(x, signed(t, a.key, map[string]any{"kid": "k1", "typ": "at+jwt"}, a.claims("exp", time.Now().Add(-time.Hour).Unix())))
		}},
		{"CWE-613 token out of its time", "never expires", []string{"authn"}, func(t *testing.T, x *target) bool {
			return orders(x, signed(t, a.key, map[string]any{"kid": "k1", "typ": "at+jwt"}, a.claims("exp", nil)))
		}},
		{"CWE-863 token for something else", "another API's", []string{"authn"}, func(t *testing.T, x *target) bool {
			return orders(x, signed(t, a.key, map[string]any{"kid": "k1", "typ": "at+jwt"}, a.claims("aud", "https://other.example")))
		}},
		{"CWE-863 token for something else", "an ID token", []string{"authn"}, func(t *testing.T, x *target) bool {
			return orders(x, signed(t, a.key, map[string]any{"kid": "k1", "typ": "JWT"}, good))
		}},
		{"CWE-863 token for something else", "without the scope", []string{"authn"}, func(t *testing.T, x *target) bool {
			return orders(x, signed(t, a.key, map[string]any{"kid": "k1", "typ": "at+jwt"}, a.claims("scope", "orders:none products")))
		}},
		users("as it is", "GET", "/admin/users"),
		users("by HEAD", "HEAD", "/admin/users"),
		users("encoded", "GET", "/%61dmin/%75sers"),
		users("as a page that is navigated to", "GET", "/admin/users", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"),
		users("as somebody whom a header names", "GET", "/admin/users", "X-Forwarded-User", "admin", "X-Forwarded-Groups", "admin", "X-Dewar-Remote-User", "admin", "Remote-User", "admin", "X_Dewar_Assertion", "e30.e30."),
		users("with a cookie of fancy", "GET", "/admin/users", "Cookie", "__Host-dewar-login="+strings.Repeat("A", 43)+"; dewar-login=x"),
	})

	// And who has the right comes in.
	x := guarded(t, settings, env...)
	if !orders(x, signed(t, a.key, map[string]any{"kid": "k1", "typ": "at+jwt"}, good)) {
		t.Error("an honest token is refused")
	}
	if res := x.browser().get("/admin/users", "Authorization", "Bearer "+signed(t, a.key, map[string]any{"kid": "k1", "typ": "at+jwt"}, good)); res.StatusCode != 200 {
		t.Errorf("an honest token at a view that wants some login: %d", res.StatusCode)
	}
	for _, path := range []string{"/", "/product/1", "/api/products", "/login"} {
		if res := x.browser().get(path); res.StatusCode != 200 || bytes.Contains([]byte(res.text), []byte("You have to log in first")) {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}
