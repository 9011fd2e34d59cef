package authn

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// issuer is an authorization server of the tests: its metadata, its keys, its
// introspection endpoint.
type issuer struct {
	*httptest.Server
	mu         sync.Mutex
	keys       []jose.JSONWebKey
	fetches    atomic.Int32 // of the keys
	asked      atomic.Int32 // introspections
	introspect func(token string) map[string]any
	down       atomic.Bool
	meta       map[string]any
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	i := &issuer{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		m := map[string]any{"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys", "introspection_endpoint": i.URL + "/introspect"}
		i.mu.Lock()
		maps.Copy(m, i.meta)
		i.mu.Unlock()
		json.NewEncoder(w).Encode(m)
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		i.fetches.Add(1)
		i.mu.Lock()
		defer i.mu.Unlock()
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: i.keys})
	})
	mux.HandleFunc("POST /introspect", func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		if user, pass, ok := r.BasicAuth(); !ok || user != "api" || pass != "introspection-secret" {
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		json.NewEncoder(w).Encode(i.introspect(r.FormValue("token")))
	})
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i.down.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) publish(keys ...jose.JSONWebKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

// key is a private key and its public JWK.
type key struct {
	private crypto.Signer
	kid     string
	alg     jose.SignatureAlgorithm
}

func (k key) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.private.Public(), KeyID: k.kid, Use: "sig", Algorithm: string(k.alg)}
}

var testKeys = sync.OnceValue(func() map[string]key {
	r, _ := rsa.GenerateKey(rand.Reader, 2048)
	r2, _ := rsa.GenerateKey(rand.Reader, 2048)
	weak, _ := rsa.GenerateKey(rand.Reader, 1024)
	e, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, d, _ := ed25519.GenerateKey(rand.Reader)
	return map[string]key{
		"rsa": {r, "rsa-1", jose.RS256}, "rsa2": {r2, "rsa-2", jose.RS256}, "weak": {weak, "weak-1", jose.RS256},
		"ec": {e, "ec-1", jose.ES256}, "ed": {d, "ed-1", jose.EdDSA},
	}
})

// sign makes a token. Members of head stand in its header.
func sign(t testing.TB, k key, head map[string]any, payload any) string {
	t.Helper()
	o := &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{}}
	for name, v := range head {
		o.ExtraHeaders[jose.HeaderKey(name)] = v
	}
	kid := any(k.kid)
	if v, ok := head["kid"]; ok {
		kid = v
		delete(o.ExtraHeaders, "kid")
	}
	signKey := jose.JSONWebKey{Key: k.private}
	if s, ok := kid.(string); ok {
		signKey.KeyID = s
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: k.alg, Key: signKey}, o)
	if err != nil {
		t.Fatal(err)
	}
	b, ok := payload.([]byte)
	if !ok {
		b, err = json.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
	}
	signed, err := s.Sign(b)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// forge puts a token together by hand.
func forge(head, payload any, signature func(input string) []byte) string {
	h, _ := json.Marshal(head)
	if raw, ok := head.(json.RawMessage); ok {
		h = raw
	}
	p, _ := json.Marshal(payload)
	if raw, ok := payload.([]byte); ok {
		p = raw
	}
	input := b64(h) + "." + b64(p)
	var s []byte
	if signature != nil {
		s = signature(input)
	}
	return input + "." + b64(s)
}

// clock is a time that tests move.
type clock struct{ atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time             { return time.Unix(0, c.Load()) }
func (c *clock) move(d time.Duration)       { c.Add(int64(d)) }
func (c *clock) unix(d time.Duration) int64 { return c.now().Add(d).Unix() }

const audience = "https://api.shop.example"

// secrets answers [guard.Env.Secret].
func secrets(ref string) (guard.Secret, error) {
	switch ref {
	case "env:RING":
		return guard.NewSecret("0123456789abcdef0123456789abcdef"), nil
	case "env:RING2":
		return guard.NewSecret("abcdef0123456789abcdef0123456789"), nil
	case "env:CLIENT":
		return guard.NewSecret("client secret & more"), nil
	case "env:API":
		return guard.NewSecret("introspection-secret"), nil
	}
	return guard.Secret{}, fmt.Errorf("%s is not set", ref)
}

func newLayer(t testing.TB, cfg Config, c *clock) *layer {
	t.Helper()
	st := store.NewMemory(store.MemoryOptions{Buckets: 1024, Now: c.now})
	t.Cleanup(func() { st.Close() })
	l, err := NewAuthn(cfg, guard.Env{Store: st, Now: c.now, Secret: secrets})
	if err != nil {
		t.Fatal(err)
	}
	return l.(*layer)
}

func bearerConfig(i *issuer) Config {
	return Config{
		Bearer:   Bearer{Audience: audience, Issuer: i.URL},
		Provider: Provider{ClockSkew: guard.Duration(30 * time.Second)},
		Rules: []Rule{
			{Path: "/public"}, // set to anyone below
			{Path: "/read", Scopes: []string{"read", "admin"}},
			{Path: "/write", AllScopes: []string{"read", "write"}},
			{Path: "/admin/**", Roles: []string{"admins"}},
			{Path: "/**"},
		},
	}
}

// exchange makes a request as the chain hands it to the layer.
func exchange(method, target string, fields ...string) *guard.Exchange {
	r := httptest.NewRequest(method, target, nil)
	r.Header = http.Header{}
	for _, f := range fields {
		name, v, _ := strings.Cut(f, ": ")
		r.Header.Add(name, v)
	}
	return &guard.Exchange{Request: r, Path: r.URL.Path, Client: guard.Client{Scheme: "https", Host: "shop.example"}}
}

// good is a token's payload that is right in every way.
func good(i *issuer, c *clock) map[string]any {
	return map[string]any{
		"iss": i.URL, "aud": audience, "sub": "u-1", "client_id": "mobile", "jti": "j-1",
		"iat": c.unix(-time.Minute), "exp": c.unix(5 * time.Minute), "scope": "read", "groups": []string{"staff"},
	}
}

func with(m map[string]any, pairs ...any) map[string]any {
	m = maps.Clone(m)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == nil {
			delete(m, pairs[i].(string))
			continue
		}
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m
}

var at = map[string]any{"typ": "at+jwt"}

// TestForgedTokens: what jwt_tool and the advisories of a decade try. Each row
// is named after the weakness that would let it in.
func TestForgedTokens(t *testing.T) {
	keys := testKeys()
	rsaKey, ecKey, edKey, weak := keys["rsa"], keys["ec"], keys["ed"], keys["weak"]
	i, c := newIssuer(t), newClock()
	symmetric := jose.JSONWebKey{Key: []byte("a shared secret that the issuer should never have published"), KeyID: "oct-1", Use: "sig"}
	encryption := jose.JSONWebKey{Key: keys["rsa2"].private.Public(), KeyID: "rsa-2", Use: "enc"}
	i.publish(rsaKey.public(), ecKey.public(), edKey.public(), weak.public(), symmetric, encryption)
	l := newLayer(t, bearerConfig(i), c)

	der, _ := x509.MarshalPKIXPublicKey(rsaKey.private.Public())
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	hs := func(secret []byte) func(string) []byte {
		return func(input string) []byte {
			m := hmac.New(sha256.New, secret)
			m.Write([]byte(input))
			return m.Sum(nil)
		}
	}
	g := good(i, c)
	valid := sign(t, rsaKey, at, g)
	parts := strings.Split(valid, ".")
	evil := key{keys["rsa2"].private, "rsa-1", jose.RS256}
	evilJWK := jose.JSONWebKey{Key: evil.private.Public(), KeyID: "evil"}
	var followed atomic.Int32
	evilHost := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		followed.Add(1)
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{evilJWK}})
	}))
	defer evilHost.Close()
	none := func(alg string) string {
		return forge(map[string]any{"alg": alg, "typ": "at+jwt", "kid": "rsa-1"}, g, nil)
	}
	zeros := func(n int) func(string) []byte { return func(string) []byte { return make([]byte, n) } }

	for name, token := range map[string]string{
		"alg none": none("none"), "alg None": none("None"), "alg NONE": none("NONE"), "alg nOnE": none("nOnE"), "alg empty": none(""),
		"alg missing":             forge(map[string]any{"typ": "at+jwt", "kid": "rsa-1"}, g, nil),
		"alg null":                forge(map[string]any{"alg": nil, "typ": "at+jwt"}, g, nil),
		"alg none with signature": parts[0] + "x." + parts[1] + "." + parts[2],
		"blank signature":         parts[0] + "." + parts[1] + ".",
		"signature left out":      parts[0] + "." + parts[1],
		"signature of zeros":      forge(map[string]any{"alg": "RS256", "typ": "at+jwt", "kid": "rsa-1"}, g, zeros(256)),
		"payload exchanged":       parts[0] + "." + b64([]byte(strings.ReplaceAll(string(must(base64.RawURLEncoding.DecodeString(parts[1]))), "u-1", "u-2"))) + "." + parts[2],
		"key confusion: HS256 with the public key as PEM": forge(map[string]any{"alg": "HS256", "typ": "at+jwt", "kid": "rsa-1"}, g, hs(publicPEM)),
		"key confusion: HS256 with the public key as DER": forge(map[string]any{"alg": "HS256", "typ": "at+jwt", "kid": "rsa-1"}, g, hs(der)),
		"key confusion: HS256 with the modulus":           forge(map[string]any{"alg": "HS256", "typ": "at+jwt", "kid": "rsa-1"}, g, hs(rsaKey.private.Public().(*rsa.PublicKey).N.Bytes())),
		"symmetric key published by the issuer":           forge(map[string]any{"alg": "HS256", "typ": "at+jwt", "kid": "oct-1"}, g, hs(symmetric.Key.([]byte))),
		"HS256 with an empty secret":                      forge(map[string]any{"alg": "HS256", "typ": "at+jwt"}, g, hs(nil)),
		"kid with a path to an empty file":                forge(map[string]any{"alg": "HS256", "typ": "at+jwt", "kid": "../../../../dev/null"}, g, hs(nil)),
		"kid with SQL":                                    sign(t, evil, map[string]any{"typ": "at+jwt", "kid": "x' UNION SELECT 'secret"}, g),
		"kid of a shell":                                  sign(t, evil, map[string]any{"typ": "at+jwt", "kid": "key|/usr/bin/id"}, g),
		"kid that is a number":                            forge(map[string]any{"alg": "RS256", "typ": "at+jwt", "kid": 7}, g, zeros(256)),
		"signed by another key under the issuer's kid":    sign(t, evil, at, g),
		"key embedded in the header (jwk, CVE-2018-0114)": sign(t, key{evil.private, "evil", jose.RS256}, map[string]any{"typ": "at+jwt", "jwk": evilJWK}, g),
		"key address in the header (jku)":                 sign(t, key{evil.private, "evil", jose.RS256}, map[string]any{"typ": "at+jwt", "jku": evilHost.URL + "/keys"}, g),
		"certificate address in the header (x5u)":         sign(t, key{evil.private, "evil", jose.RS256}, map[string]any{"typ": "at+jwt", "x5u": evilHost.URL + "/cert"}, g),
		"psychic signature (CVE-2022-21449)":              forge(map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": "ec-1"}, g, zeros(64)),
		"psychic signature in DER":                        forge(map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": "ec-1"}, g, func(string) []byte { return []byte{0x30, 6, 2, 1, 0, 2, 1, 0} }),
		"RSA key of 1024 bits":                            sign(t, weak, at, g),
		"key that is for encryption":                      sign(t, keys["rsa2"], at, g),
		"algorithm of another key":                        forge(map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": "rsa-1"}, g, zeros(64)),
		"algorithm that is not listed":                    sign(t, key{rsaKey.private, "rsa-1", jose.RS512}, at, g),
		"crit that nobody understands":                    forge(map[string]any{"alg": "RS256", "typ": "at+jwt", "kid": "rsa-1", "crit": []string{"x"}, "x": 1}, g, zeros(256)),
		"crit, empty":                                     sign(t, rsaKey, map[string]any{"typ": "at+jwt", "crit": []string{}}, g),
		"payload that is not encoded (b64)":               forge(map[string]any{"alg": "RS256", "typ": "at+jwt", "kid": "rsa-1", "b64": false}, g, zeros(256)),
		"alg twice in the header":                         forge(json.RawMessage(`{"alg":"RS256","kid":"rsa-1","typ":"at+jwt","alg":"none"}`), g, nil),
		"sub twice in the payload":                        sign(t, rsaKey, at, bytes.Replace(must(json.Marshal(g)), []byte(`"sub":"u-1"`), []byte(`"sub":"u-1","sub":"admin"`), 1)),
		"exp twice in the payload":                        sign(t, rsaKey, at, bytes.Replace(must(json.Marshal(g)), []byte(`"sub":`), []byte(`"exp":99999999999,"sub":`), 1)),
		"two JSON values":                                 sign(t, rsaKey, at, append(must(json.Marshal(g)), []byte(`{"sub":"admin"}`)...)),
		"payload that is a list":                          sign(t, rsaKey, at, []byte(`[1]`)),
		"payload that is null":                            sign(t, rsaKey, at, []byte(`null`)),
		"expired":                                         sign(t, rsaKey, at, with(g, "exp", c.unix(-time.Minute))),
		"expired at this second, without skew left":       sign(t, rsaKey, at, with(g, "exp", c.unix(-31*time.Second))),
		"never expires":                                   sign(t, rsaKey, at, with(g, "exp", nil)),
		"exp as text":                                     sign(t, rsaKey, at, with(g, "exp", "9999999999")),
		"exp beyond all time":                             sign(t, rsaKey, at, with(g, "exp", 1e300)),
		"not yet valid":                                   sign(t, rsaKey, at, with(g, "nbf", c.unix(time.Minute))),
		"nbf as text":                                     sign(t, rsaKey, at, with(g, "nbf", "0")),
		"issued in the future":                            sign(t, rsaKey, at, with(g, "iat", c.unix(10*time.Minute))),
		"another issuer":                                  sign(t, rsaKey, at, with(g, "iss", "https://evil.example")),
		"issuer with a slash":                             sign(t, rsaKey, at, with(g, "iss", i.URL+"/")),
		"no issuer":                                       sign(t, rsaKey, at, with(g, "iss", nil)),
		"Iss in another case":                             sign(t, rsaKey, at, with(g, "iss", nil, "Iss", i.URL)),
		"another audience":                                sign(t, rsaKey, at, with(g, "aud", "https://other.example")),
		"audience with this one as a part":                sign(t, rsaKey, at, with(g, "aud", audience+".evil.example")),
		"no audience":                                     sign(t, rsaKey, at, with(g, "aud", nil)),
		"audience that is a number":                       sign(t, rsaKey, at, with(g, "aud", 1)),
		"audience list with an object":                    sign(t, rsaKey, at, with(g, "aud", []any{audience, map[string]any{}})),
		"no subject":                                      sign(t, rsaKey, at, with(g, "sub", nil)),
		"subject that is a number":                        sign(t, rsaKey, at, with(g, "sub", 1)),
		"subject with a line break":                       sign(t, rsaKey, at, with(g, "sub", "u\r\nX-Forwarded-User: admin")),
		"ID token as access token (typ JWT)":              sign(t, rsaKey, map[string]any{"typ": "JWT"}, g),
		"logout token as access token":                    sign(t, rsaKey, map[string]any{"typ": "logout+jwt"}, g),
		"no typ":                                          sign(t, rsaKey, nil, g),
		"JSON serialisation":                              `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"encrypted (five parts)":                          "a.b.c.d.e",
		"too large":                                       sign(t, rsaKey, at, with(g, "x", strings.Repeat("x", maxToken))),
		"empty":                                           "",
		"spaces":                                          parts[0] + ". " + parts[1] + "." + parts[2],
		"header that is not canonical base64":             parts[0] + "=." + parts[1] + "." + parts[2],
		"no token":                                        "....",
	} {
		d := l.Request(exchange("GET", "/data", "Authorization: Bearer "+token))
		if d.Verdict != guard.Deny || d.Status != http.StatusUnauthorized || d.Reason != "authn-bearer" {
			t.Errorf("%s: %v %d %q (%s)", name, d.Verdict, d.Status, d.Reason, d.Detail)
			continue
		}
		if a := d.Header.Get("Www-Authenticate"); !strings.Contains(a, `error="invalid_token"`) || !strings.HasPrefix(a, `Bearer realm="shop.example"`) {
			t.Errorf("%s: WWW-Authenticate %q", name, a)
		}
	}
	if followed.Load() != 0 {
		t.Error("an address in a token's header was followed")
	}

	// And what must pass.
	for name, token := range map[string]string{
		"RS256": valid, "ES256": sign(t, ecKey, at, g), "EdDSA": sign(t, edKey, at, g), "PS256": "", // not published as one
		"application/at+jwt":          sign(t, rsaKey, map[string]any{"typ": "application/at+jwt"}, g),
		"list of audiences":           sign(t, rsaKey, at, with(g, "aud", []string{"x", audience})),
		"a little expired":            sign(t, rsaKey, at, with(g, "exp", c.unix(-20*time.Second))),
		"certificates beside the kid": sign(t, rsaKey, map[string]any{"typ": "at+jwt", "x5t": "abc"}, g),
	} {
		if token == "" {
			continue
		}
		x := exchange("GET", "/data", "Authorization: bearer "+token)
		if d := l.Request(x); d.Verdict != guard.Allow {
			t.Errorf("%s: %+v", name, d)
		} else if x.Identity.Subject != "u-1" || x.Identity.Issuer != i.URL || x.Identity.Ambient || x.Request.Header.Get(userField) != "u-1" {
			t.Errorf("%s: %+v, %v", name, x.Identity, x.Request.Header)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestBearerAuthorization: who has a good token and not the rights for a path
// learns which scope is missing (RFC 6750, 3.1), and is not let in.
func TestBearerAuthorization(t *testing.T) {
	k := testKeys()["rsa"]
	i, c := newIssuer(t), newClock()
	i.publish(k.public())
	cfg := bearerConfig(i)
	cfg.Rules[0].Require = "anyone"
	l := newLayer(t, cfg, c)
	token := func(pairs ...any) string {
		return "Authorization: Bearer " + sign(t, k, at, with(good(i, c), pairs...))
	}
	for _, tt := range []struct {
		name, path, field string
		status            int
		auth              string
	}{
		{"no token", "/data", "", 401, `Bearer realm="shop.example"`},
		{"no token, public", "/public", "", 0, ""},
		{"wrong token, public", "/public", "Authorization: Bearer x", 0, ""},
		{"Basic is no token", "/data", "Authorization: Basic dTpw", 401, ""},
		{"scope there", "/read", token(), 0, ""},
		{"scope missing", "/read", token("scope", "other"), 403, `scope="read admin"`},
		{"scope that contains the name", "/read", token("scope", "readonly unread"), 403, "insufficient_scope"},
		{"one of two", "/write", token(), 403, `scope="read write"`},
		{"both", "/write", token("scope", "write read"), 0, ""},
		{"scp as a list", "/write", token("scope", nil, "scp", []string{"read", "write"}), 0, ""},
		{"no role", "/admin/users", token(), 403, ""},
		{"role", "/admin/users", token("groups", []string{"a", "admins"}), 0, ""},
		{"role as text", "/admin/users", token("groups", "admins"), 0, ""},
		{"role with a comma is one role", "/admin/users", token("groups", "x,admins"), 403, ""},
		{"scope is no role", "/admin/users", token("scope", "admins"), 403, ""},
		{"trailing slash", "/admin/", token(), 403, ""},
		{"the folder itself", "/admin", token(), 403, ""},
	} {
		var fields []string
		if tt.field != "" {
			fields = append(fields, tt.field)
		}
		d := l.Request(exchange("GET", tt.path, fields...))
		if tt.status == 0 && d.Verdict != guard.Allow || tt.status != 0 && (d.Verdict != guard.Deny || d.Status != tt.status) {
			t.Errorf("%s: %v %d %s %s", tt.name, d.Verdict, d.Status, d.Reason, d.Detail)
		}
		if a := strings.Join(d.Header["Www-Authenticate"], ", "); !strings.Contains(a, tt.auth) {
			t.Errorf("%s: WWW-Authenticate %q", tt.name, a)
		}
	}
	// Two Authorization fields: the guard would read one, the app the other.
	if d := l.Request(exchange("GET", "/data", token(), token())); d.Verdict != guard.Deny {
		t.Errorf("two Authorization fields: %+v", d)
	}
}

// TestForeignToken: the tokens of an app that has its own do not make anybody
// wait for the issuer, who does not know them.
func TestForeignToken(t *testing.T) {
	k := testKeys()["rsa2"]
	i, c := newIssuer(t), newClock()
	i.publish(testKeys()["rsa"].public())
	cfg := bearerConfig(i)
	cfg.Rules[0].Require = "anyone"
	l := newLayer(t, cfg, c)
	for name, iss := range map[string]any{"another's": "https://app.example", "nobody's": nil, "no text": 1} {
		field := "Authorization: Bearer " + sign(t, k, at, with(good(i, c), "iss", iss))
		if d := l.Request(exchange("GET", "/public", field)); d.Verdict != guard.Allow {
			t.Errorf("%s: %+v", name, d)
		}
		if d := l.Request(exchange("GET", "/data", field)); d.Status != http.StatusUnauthorized || d.Reason != "authn-bearer" {
			t.Errorf("%s: %+v", name, d)
		}
		c.move(time.Minute)
	}
	if n := i.fetches.Load(); n > 0 {
		t.Errorf("the issuer was asked for its keys %d times", n)
	}
	// One that names the issuer is judged by its signature.
	if d := l.Request(exchange("GET", "/data", "Authorization: Bearer "+sign(t, k, at, good(i, c)))); d.Verdict != guard.Deny || i.fetches.Load() == 0 {
		t.Errorf("%+v", d)
	}
}

// TestKeyRotation: a new key is found when the first token names it, an old
// one ends when its time is over, and tokens that name keys of fancy do not
// make the guard flood the issuer.
func TestKeyRotation(t *testing.T) {
	keys := testKeys()
	i, c := newIssuer(t), newClock()
	i.publish(keys["rsa"].public())
	l := newLayer(t, bearerConfig(i), c)
	ask := func(k key) guard.Decision {
		return l.Request(exchange("GET", "/data", "Authorization: Bearer "+sign(t, k, at, with(good(i, c), "jti", rand.Text(), "exp", c.unix(5*time.Minute), "iat", c.unix(0)))))
	}
	if d := ask(keys["rsa"]); d.Verdict != guard.Allow {
		t.Fatalf("%+v", d)
	}
	for n := range 50 {
		k := keys["ec"]
		k.kid = fmt.Sprint("made-up-", n)
		if d := ask(k); d.Verdict != guard.Deny {
			t.Fatalf("%+v", d)
		}
	}
	if n := i.fetches.Load(); n > 2 {
		t.Errorf("50 unknown keys had the issuer asked %d times", n)
	}
	i.publish(keys["ec"].public())
	c.move(keysPause + time.Second)
	if d := ask(keys["ec"]); d.Verdict != guard.Allow {
		t.Errorf("the new key: %+v", d)
	}
	if d := ask(keys["rsa"]); d.Verdict != guard.Deny {
		t.Errorf("the key that was withdrawn: %+v", d)
	}
	// The issuer goes away: what is known is good for a day beyond its time.
	i.down.Store(true)
	c.move(keysLifetime + time.Hour)
	if d := ask(keys["ec"]); d.Verdict != guard.Allow {
		t.Errorf("while the issuer is down: %+v", d)
	}
	c.move(keysStale)
	if d := ask(keys["ec"]); d.Status != http.StatusServiceUnavailable {
		t.Errorf("a day later: %+v", d)
	}
	i.down.Store(false)
	c.move(keysPause + metadataPause)
	if d := ask(keys["ec"]); d.Verdict != guard.Allow {
		t.Errorf("the issuer is back: %+v", d)
	}
}

// TestRememberedTokens: a token that was found good is not believed for longer
// than it says, nor than a few minutes without a look at the issuer's keys.
func TestRememberedTokens(t *testing.T) {
	keys := testKeys()
	i, c := newIssuer(t), newClock()
	i.publish(keys["rsa"].public())
	l := newLayer(t, bearerConfig(i), c)
	short := "Authorization: Bearer " + sign(t, keys["rsa"], at, with(good(i, c), "exp", c.unix(time.Minute)))
	long := "Authorization: Bearer " + sign(t, keys["rsa"], at, with(good(i, c), "exp", c.unix(24*time.Hour)))
	ask := func(field string) bool { return l.Request(exchange("GET", "/data", field)).Verdict == guard.Allow }
	if !ask(short) || !ask(long) {
		t.Fatal("good tokens are refused")
	}
	c.move(89 * time.Second) // the skew between clocks is 30 s
	if !ask(short) {
		t.Error("refused a second before its end")
	}
	c.move(2 * time.Second)
	if ask(short) {
		t.Error("believed after its end")
	}
	// The issuer withdraws the key.
	i.publish(keys["ec"].public())
	c.move(keysLifetime)
	ask(long) // the keys are read again, beside
	for range 6000 {
		if i.fetches.Load() > 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.move(beliefTime + time.Second)
	if ask(long) {
		t.Error("believed after its key was withdrawn")
	}
}

// TestKeyAbsent: a token that names no key is good when there is only one that
// can have signed it (OpenID Connect Core, 10.1).
func TestKeyAbsent(t *testing.T) {
	keys := testKeys()
	i, c := newIssuer(t), newClock()
	i.publish(keys["rsa"].public(), keys["ec"].public())
	l := newLayer(t, bearerConfig(i), c)
	k := keys["rsa"]
	k.kid = ""
	token := "Authorization: Bearer " + sign(t, k, at, good(i, c))
	if d := l.Request(exchange("GET", "/data", token)); d.Verdict != guard.Allow {
		t.Errorf("one RSA key: %+v", d)
	}
	i.publish(keys["rsa"].public(), jose.JSONWebKey{Key: keys["rsa2"].private.Public(), KeyID: "rsa-2", Use: "sig"})
	l = newLayer(t, bearerConfig(i), c)
	if d := l.Request(exchange("GET", "/data", token)); d.Verdict != guard.Deny {
		t.Errorf("two RSA keys: %+v", d)
	}
}

// TestBoundToken: a token that is bound to a key is no bearer token: a stolen
// one must be worth nothing (RFC 8705, RFC 9449).
func TestBoundToken(t *testing.T) {
	k := testKeys()["rsa"]
	i, c := newIssuer(t), newClock()
	i.publish(k.public())
	l := newLayer(t, bearerConfig(i), c)
	own, other := &x509.Certificate{Raw: []byte("own")}, &x509.Certificate{Raw: []byte("other")}
	sum := sha256.Sum256(own.Raw)
	for _, tt := range []struct {
		name string
		cnf  any
		cert *x509.Certificate
		ok   bool
	}{
		{"unbound", nil, nil, true},
		{"unbound, with a certificate", nil, own, true},
		{"to the certificate", map[string]any{"x5t#S256": b64(sum[:])}, own, true},
		{"to another one", map[string]any{"x5t#S256": b64(sum[:])}, other, false},
		{"to one that is not shown", map[string]any{"x5t#S256": b64(sum[:])}, nil, false},
		{"by DPoP", map[string]any{"jkt": "x"}, own, false},
		{"by both", map[string]any{"x5t#S256": b64(sum[:]), "jkt": "x"}, own, false},
		{"to nothing", map[string]any{}, own, false},
		{"to a text", "x", own, false},
		{"to null", json.RawMessage("null"), own, false},
	} {
		for range 2 { // the second time it is remembered
			payload := good(i, c)
			if tt.cnf != nil {
				payload["cnf"] = tt.cnf
			}
			x := exchange("GET", "/data", "Authorization: Bearer "+sign(t, k, at, payload))
			x.Client.Certificate = tt.cert
			if d := l.Request(x); (d.Verdict == guard.Allow) != tt.ok || !tt.ok && d.Reason != "authn-bearer" {
				t.Errorf("%s: %+v", tt.name, d)
			}
		}
	}
}

// TestGenericType: where the operator accepts typ JWT, an ID token and a
// logout token are still none.
func TestGenericType(t *testing.T) {
	k := testKeys()["rsa"]
	i, c := newIssuer(t), newClock()
	i.publish(k.public())
	cfg := bearerConfig(i)
	cfg.Bearer.Types = []string{"at+jwt", "JWT"}
	cfg.Provider.Issuer, cfg.Provider.ClientID = i.URL, "shop"
	l := newLayer(t, cfg, c)
	jwt := map[string]any{"typ": "JWT"}
	for name, tt := range map[string]struct {
		payload map[string]any
		ok      bool
	}{
		"access token":   {good(i, c), true},
		"ID token":       {with(good(i, c), "nonce", "n"), false},
		"with at_hash":   {with(good(i, c), "at_hash", "n"), false},
		"logout token":   {with(good(i, c), "events", map[string]any{}), false},
		"for the client": {with(good(i, c), "aud", "shop"), false},
	} {
		d := l.Request(exchange("GET", "/data", "Authorization: Bearer "+sign(t, k, jwt, tt.payload)))
		if (d.Verdict == guard.Allow) != tt.ok {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestIntrospection: opaque tokens are the issuer's to judge, the answer is
// remembered for as long as the settings say and no longer than the token, and
// what is stored shows nothing.
func TestIntrospection(t *testing.T) {
	i, c := newIssuer(t), newClock()
	active := true
	answer := func() map[string]any {
		return map[string]any{"active": active, "iss": i.URL, "aud": []string{audience}, "sub": "u-9", "scope": "read", "client_id": "m", "exp": c.unix(40 * time.Second)}
	}
	extra := map[string]any{}
	i.introspect = func(token string) map[string]any {
		if !strings.HasPrefix(token, "good") {
			return map[string]any{"active": false, "sub": "u-9", "aud": audience}
		}
		return with(answer(), flat(extra)...)
	}
	cfg := bearerConfig(i)
	cfg.Bearer.Introspection, cfg.Bearer.ClientID, cfg.Bearer.ClientSecret, cfg.Bearer.Cache = "opaque", "api", "env:API", guard.Duration(time.Minute)
	cfg.Rules[0].Require = "anyone"
	l := newLayer(t, cfg, c)
	ask := func(path, token string) guard.Decision {
		return l.Request(exchange("GET", path, "Authorization: Bearer "+token))
	}
	if d := ask("/read", "good-1"); d.Verdict != guard.Allow {
		t.Fatalf("%+v", d)
	}
	if d := ask("/write", "good-1"); d.Status != http.StatusForbidden {
		t.Errorf("%+v", d)
	}
	if n := i.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	active = false
	if d := ask("/read", "good-1"); d.Verdict != guard.Allow {
		t.Errorf("within the time it is remembered: %+v", d)
	}
	c.move(time.Minute)
	if d := ask("/read", "good-1"); d.Reason != "authn-bearer" {
		t.Errorf("revoked: %+v", d)
	}
	active = true
	for name, more := range map[string]map[string]any{
		"another audience": {"aud": "other"}, "no audience": {"aud": nil}, "another issuer": {"iss": "https://evil.example"},
		"expired": {"exp": c.unix(-time.Hour)}, "no subject and no client": {"sub": nil, "client_id": nil}, "active as text": {"active": "true"}, "a MAC token": {"token_type": "mac"},
	} {
		extra = more
		if d := ask("/read", "good-"+strings.ReplaceAll(name, " ", "-")); d.Reason != "authn-bearer" {
			t.Errorf("%s: %+v", name, d)
		}
	}
	extra = map[string]any{"sub": nil, "client_id": "u-9"}
	x := exchange("GET", "/read", "Authorization: Bearer good-client")
	if d := l.Request(x); d.Verdict != guard.Allow || x.Identity.Subject != "client:u-9" || x.Request.Header.Get(userField) != "client:u-9" {
		t.Errorf("a client without a user: %+v %+v", d, x.Identity)
	}
	extra = nil
	// Nobody has the issuer asked on a path that is for everybody.
	before := i.asked.Load()
	for n := range 20 {
		if d := ask("/public", fmt.Sprint("good-public-", n)); d.Verdict != guard.Allow {
			t.Errorf("%+v", d)
		}
	}
	if n := i.asked.Load() - before; n != 0 {
		t.Errorf("asked %d times for a public path", n)
	}
	// Nor flood it with wrong tokens.
	before = i.asked.Load()
	for n := range 200 {
		ask("/read", fmt.Sprint("bad-", n))
	}
	if n := i.asked.Load() - before; n > 40 {
		t.Errorf("200 wrong tokens had the issuer asked %d times", n)
	}
	c.move(2 * time.Minute)
	i.down.Store(true)
	if d := ask("/read", "good-new"); d.Status != http.StatusServiceUnavailable || d.Header.Get("Retry-After") == "" {
		t.Errorf("the issuer is down: %+v", d)
	}
}

func flat(m map[string]any) (out []any) {
	for k, v := range m {
		out = append(out, k, v)
	}
	return out
}

// TestIntrospectionAlways: a JWT that the issuer has revoked is refused.
func TestIntrospectionAlways(t *testing.T) {
	k := testKeys()["rsa"]
	i, c := newIssuer(t), newClock()
	i.publish(k.public())
	active := true
	i.introspect = func(string) map[string]any { return map[string]any{"active": active} }
	cfg := bearerConfig(i)
	cfg.Bearer.Introspection, cfg.Bearer.ClientID, cfg.Bearer.ClientSecret, cfg.Bearer.Cache = "always", "api", "env:API", guard.Duration(time.Minute)
	l := newLayer(t, cfg, c)
	token := "Authorization: Bearer " + sign(t, k, at, good(i, c))
	if d := l.Request(exchange("GET", "/data", token)); d.Verdict != guard.Allow {
		t.Fatalf("%+v", d)
	}
	active = false
	c.move(90 * time.Second)
	if d := l.Request(exchange("GET", "/data", token)); d.Reason != "authn-bearer" {
		t.Errorf("revoked: %+v", d)
	}
	if d := l.Request(exchange("GET", "/data", "Authorization: Bearer opaque")); d.Reason != "authn-bearer" {
		t.Errorf("opaque: %+v", d)
	}
}
