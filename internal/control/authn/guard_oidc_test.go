package authn

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// hostileOP is an OpenID provider that does everything right, until a test
// tells it otherwise.
type hostileOP struct {
	*httptest.Server
	t     testing.TB
	clock *clock

	mu       sync.Mutex
	keys     []jose.JSONWebKey
	signer   key
	codes    map[string]url.Values // of authorization requests
	refresh  map[string]string     // refresh token to subject
	seq      int
	subject  string
	requests []url.Values // authorization requests
	tokens   []url.Values // token requests
	revoked  []string

	meta     func(map[string]any)
	answer   func(url.Values)            // the authorization response
	head     map[string]any              // of the ID token
	idClaims func(map[string]any)        // of the ID token
	sign     func(map[string]any) string // makes the ID token
	response func(map[string]any)        // of the token endpoint
	userinfo func(map[string]any)
	refused  string // error of a refresh
	down     atomic.Bool
	fetches  atomic.Int32 // of the keys
}

const clientID, clientSecret = "shop:web", "client secret & more"

func newHostileOP(t testing.TB, c *clock) *hostileOP {
	t.Helper()
	o := &hostileOP{t: t, clock: c, codes: map[string]url.Values{}, refresh: map[string]string{}, subject: "u-1", signer: testKeys()["rsa"]}
	o.keys = []jose.JSONWebKey{o.signer.public()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		m := map[string]any{
			"issuer": o.URL, "authorization_endpoint": o.URL + "/authorize?tenant=1", "token_endpoint": o.URL + "/token", "jwks_uri": o.URL + "/keys",
			"userinfo_endpoint": o.URL + "/userinfo", "end_session_endpoint": o.URL + "/end", "revocation_endpoint": o.URL + "/revoke",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			// Whoever believes this takes unsigned tokens.
			"id_token_signing_alg_values_supported": []string{"RS256", "none", "HS256"},
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.meta != nil {
			o.meta(m)
		}
		json.NewEncoder(w).Encode(m)
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		o.fetches.Add(1)
		o.mu.Lock()
		defer o.mu.Unlock()
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: o.keys})
	})
	mux.HandleFunc("GET /authorize", o.authorize)
	mux.HandleFunc("POST /token", o.token)
	mux.HandleFunc("GET /userinfo", func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		defer o.mu.Unlock()
		m := map[string]any{"sub": o.subject, "email": "ann@shop.example", "email_verified": true, "groups": []string{"staff"}}
		if o.userinfo != nil {
			o.userinfo(m)
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(m)
	})
	mux.HandleFunc("POST /revoke", func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.revoked = append(o.revoked, r.FormValue("token"))
	})
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.down.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *hostileOP) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests = append(o.requests, q)
	if q.Get("client_id") != clientID || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 ||
		len(q.Get("state")) < 22 || len(q.Get("nonce")) < 22 || !slices.Contains(strings.Fields(q.Get("scope")), "openid") || !strings.HasSuffix(q.Get("redirect_uri"), "/_dewar/auth/callback") {
		http.Error(w, "not an authorization request that this provider takes: "+r.URL.RawQuery, http.StatusBadRequest)
		return
	}
	o.seq++
	code := fmt.Sprint("code-", o.seq)
	o.codes[code] = q
	v := url.Values{"code": {code}, "state": {q.Get("state")}}
	if o.answer != nil {
		o.answer(v)
	}
	if q.Get("response_mode") == "form_post" {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><form method="post" action="%s">`, html.EscapeString(q.Get("redirect_uri")))
		for name := range v {
			fmt.Fprintf(w, `<input type="hidden" name="%s" value="%s">`, name, html.EscapeString(v.Get(name)))
		}
		fmt.Fprintf(w, "</form><script>document.forms[0].submit()</script><!--FORM %s-->", v.Encode())
		return
	}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+v.Encode(), http.StatusFound)
}

func (o *hostileOP) token(w http.ResponseWriter, r *http.Request) {
	fail := func(code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": "a secret detail"})
	}
	_ = r.ParseForm()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tokens = append(o.tokens, r.PostForm)
	user, pass, basic := r.BasicAuth()
	if user, _ = url.QueryUnescape(user); !basic || user != clientID || must(url.QueryUnescape(pass)) != clientSecret {
		w.WriteHeader(http.StatusUnauthorized)
		json.NewEncoder(w).Encode(map[string]string{"error": "invalid_client"})
		return
	}
	nonce := ""
	subject := o.subject
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		q, ok := o.codes[r.PostForm.Get("code")]
		delete(o.codes, r.PostForm.Get("code"))
		sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
		if !ok || q.Get("redirect_uri") != r.PostForm.Get("redirect_uri") || q.Get("code_challenge") != b64(sum[:]) {
			fail("invalid_grant")
			return
		}
		nonce = q.Get("nonce")
	case "refresh_token":
		s, ok := o.refresh[r.PostForm.Get("refresh_token")]
		delete(o.refresh, r.PostForm.Get("refresh_token"))
		if o.refused != "" || !ok {
			code := o.refused
			if code == "" {
				code = "invalid_grant" // used twice
			}
			fail(code)
			return
		}
		subject = s
	default:
		fail("unsupported_grant_type")
		return
	}
	o.seq++
	access, refresh := fmt.Sprint("access-", o.seq), fmt.Sprint("refresh-", o.seq)
	o.refresh[refresh] = subject
	half := sha256.Sum256([]byte(access))
	c := map[string]any{
		"iss": o.URL, "aud": clientID, "sub": subject, "sid": "sid-1", "iat": o.clock.unix(0), "exp": o.clock.unix(5 * time.Minute), "auth_time": o.clock.unix(-time.Second),
		"at_hash": b64(half[:16]), "groups": []string{"staff"}, "preferred_username": "ann", "name": "Ann Example", "email": "ann@shop.example", "email_verified": true,
	}
	if nonce != "" {
		c["nonce"] = nonce
	}
	if o.idClaims != nil {
		o.idClaims(c)
	}
	raw := ""
	if o.sign != nil {
		raw = o.sign(c)
	} else {
		raw = sign(o.t, o.signer, o.head, c)
	}
	m := map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": 300, "refresh_token": refresh, "id_token": raw}
	if o.response != nil {
		o.response(m)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(m)
}

// change runs f under the provider's lock.
func (o *hostileOP) change(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

// site is a guard in front of an app that says what it was told.
type site struct {
	*httptest.Server
	t      testing.TB
	layer  *layer
	store  store.Store
	mu     sync.Mutex
	events []event.Event
}

type echo struct{}

func (echo) Forward(w http.ResponseWriter, x *guard.Exchange, modify func(*http.Response) error) error {
	var b bytes.Buffer
	h := x.Request.Header
	fmt.Fprintf(&b, "app %s %s user=%q email=%q groups=%q remote=%q cookie=%q subject=%q\n", x.Request.Method, x.Request.URL.RequestURI(), h.Get(userField), h.Get(emailField), h.Get(groupsField), h.Get(remoteUserField), h.Get("Cookie"), x.Identity.Subject)
	res := &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {"text/plain"}, "X-Assertion-Seen": h[assertionField]}, Body: io.NopCloser(&b), Request: x.Request}
	if err := modify(res); err != nil {
		return err
	}
	for k, v := range res.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(res.StatusCode)
	_, err := io.Copy(w, res.Body)
	return err
}

func siteConfig(o *hostileOP) Config {
	return Config{
		Default: "anyone", Secrets: []string{"env:RING"},
		Provider: Provider{Issuer: o.URL, ClientID: clientID, ClientSecret: "env:CLIENT", ClockSkew: guard.Duration(30 * time.Second), UserClaim: "preferred_username"},
		Session:  Session{Refresh: true},
		Rules:    []Rule{{Path: "/admin/**", Roles: []string{"admins"}}, {Path: "/mfa", ACR: []string{"urn:mfa"}}, {Path: "/account/**"}},
	}
}

func newSite(t testing.TB, cfg Config, c *clock, more ...func(*guard.Env)) *site {
	t.Helper()
	st := store.NewMemory(store.MemoryOptions{Buckets: 1024, Now: c.now})
	t.Cleanup(func() { st.Close() })
	s := &site{t: t, store: st}
	env := guard.Env{Store: st, Now: c.now, Secret: secrets}
	for _, f := range more {
		f(&env)
	}
	l, err := NewAuthn(cfg, env)
	if err != nil {
		t.Fatal(err)
	}
	s.layer = l.(*layer)
	chain, err := guard.NewChain(guard.Options{
		Layers: []guard.Bound{{Spec: layers[0], Layer: l, Mode: cfg.Mode}}, Forward: echo{}, Now: c.now,
		Publish: func(e event.Event) { s.mu.Lock(); defer s.mu.Unlock(); s.events = append(s.events, e) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewTLSServer(chain)
	t.Cleanup(s.Close)
	return s
}

// reasons returns the reasons of the events so far, and forgets them.
func (s *site) reasons() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		out = append(out, e.Reason)
	}
	s.events = nil
	return out
}

// browser is a user agent with cookies.
type browser struct {
	*http.Client
	t testing.TB
}

func (s *site) browser() *browser {
	jar, _ := cookiejar.New(nil)
	c := &http.Client{Transport: s.Client().Transport, Jar: jar}
	return &browser{c, s.t}
}

// go returns the status, the final address and the body of a page that the
// visitor wants to see.
func (b *browser) visit(url string, fields ...string) (int, string, string) {
	b.t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	r.Header.Set("Accept", "text/html")
	for _, f := range fields {
		name, v, _ := strings.Cut(f, ": ")
		r.Header.Set(name, v)
	}
	return b.do(r)
}

func (b *browser) do(r *http.Request) (int, string, string) {
	b.t.Helper()
	res, err := b.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, res.Request.URL.String(), string(body)
}

// stop returns the browser that does not follow a redirect to where.
func (b *browser) stop(prefix string) *browser {
	c := *b.Client
	c.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), prefix) {
			return http.ErrUseLastResponse
		}
		return nil
	}
	return &browser{&c, b.t}
}

// TestLogin: the whole way, once around.
func TestLogin(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	cfg := siteConfig(o)
	cfg.RemoteUser = true
	s := newSite(t, cfg, c)
	b := s.browser()
	if code, _, body := b.visit(s.URL + "/"); code != 200 || !strings.Contains(body, `user=""`) {
		t.Fatalf("%d %s", code, body)
	}
	code, at, body := b.visit(s.URL+"/account/orders?id=7&x=%2F", "X-Forwarded-User: admin", "Cookie: theme=dark")
	if code != 200 || at != s.URL+"/account/orders?id=7&x=%2F" || !strings.Contains(body, `user="ann"`) || !strings.Contains(body, `email="ann@shop.example"`) ||
		!strings.Contains(body, `groups="staff"`) || !strings.Contains(body, `remote="ann"`) || !strings.Contains(body, `subject="u-1"`) {
		t.Fatalf("%d %s\n%s\n%v", code, at, body, s.reasons())
	}
	if strings.Contains(body, "dewar-login") {
		t.Errorf("the app gets the guard's own cookies: %s", body)
	}
	// It holds for other pages, and other users' rights are not theirs.
	if code, _, body := b.visit(s.URL + "/"); code != 200 || !strings.Contains(body, `user="ann"`) {
		t.Errorf("%d %s", code, body)
	}
	if code, _, _ := b.visit(s.URL + "/admin/users"); code != 403 {
		t.Errorf("an admin's page: %d", code)
	}
	if code, _, _ := s.browser().stop(o.URL).visit(s.URL + "/account/"); code != 302 {
		t.Errorf("another browser: %d", code)
	}
	q := o.requests[0]
	if q.Get("tenant") != "1" || q.Get("redirect_uri") != s.URL+"/_dewar/auth/callback" || q.Get("scope") != "openid profile email" {
		t.Errorf("%v", q)
	}
	// The cookie: opaque, and as hard as cookies get.
	u, _ := url.Parse(s.URL)
	for _, k := range b.Jar.Cookies(u) {
		if strings.Contains(k.Value, "u-1") || strings.Contains(k.Value, "ann") || !strings.HasPrefix(k.Name, "__Host-") {
			t.Errorf("cookie %s=%s", k.Name, k.Value)
		}
	}
	// What is stored opens nothing and shows nobody.
	n := 0
	look := func(e store.Entry) bool {
		n++
		for _, secret := range []string{"access-", "refresh-", "ann", "u-1"} {
			if bytes.Contains(e.Value, []byte(secret)) {
				t.Errorf("the store holds %q in clear", secret)
			}
		}
		return true
	}
	err := errors.Join(s.store.Scan(context.Background(), sessionFolder, look), s.store.Scan(context.Background(), tokensFolder, look), s.store.Scan(context.Background(), indexFolder, look))
	if err != nil || n != 4 {
		t.Errorf("%d values, %v", n, err)
	}
}

// TestAssertion: the app can verify who asks with the keys at authn.path/keys.
func TestAssertion(t *testing.T) {
	c := newClock()
	o := newHostileOP(t, c)
	s := newSite(t, siteConfig(o), c)
	b := s.browser()
	b.visit(s.URL + "/account/")
	res, err := b.Get(s.URL + "/x")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	text := res.Header.Get("X-Assertion-Seen")
	keys, err := s.Client().Get(s.URL + "/_dewar/auth/keys")
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Body.Close()
	var set jose.JSONWebKeySet
	if err := json.NewDecoder(keys.Body).Decode(&set); err != nil || len(set.Keys) != 1 || !set.Keys[0].IsPublic() || keys.Header.Get("Content-Type") != "application/jwk-set+json" {
		t.Fatalf("%v %+v", err, set)
	}
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	payload, err := jws.Verify(set.Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	m, err := parseClaims(payload)
	if err != nil || m.text("sub") != "ann" || m.text("iss") != s.URL || m.text("aud") != s.URL || m.text("idp_sub") != "u-1" || m.text("idp") != o.URL || len(m.list("groups")) != 1 {
		t.Errorf("%s", payload)
	}
	if end, err := m.times(c.now(), 0, true); err != nil || end.Sub(c.now()) > assertionLife {
		t.Errorf("%v %v", end, err)
	}
	// With the same secret another node signs with the same key; with another
	// one, with another.
	r1, _ := newRing([]string{"0123456789abcdef0123456789abcdef"}, "")
	r2, _ := newRing([]string{"0123456789abcdef0123456789abcdeF"}, "")
	same, _ := set.Keys[0].Thumbprint(crypto.SHA256)
	k1, k2 := jose.JSONWebKey{Key: r1.all[0].assertion.Public()}, jose.JSONWebKey{Key: r2.all[0].assertion.Public()}
	t1, _ := k1.Thumbprint(crypto.SHA256)
	t2, _ := k2.Thumbprint(crypto.SHA256)
	if !bytes.Equal(same, t1) || bytes.Equal(same, t2) {
		t.Error("keys do not follow the secret")
	}
}

// TestHostileProvider replays the relying-party cases of the OpenID
// conformance suite, and what else a provider, or whoever stands between, can
// get wrong. Each must end without a session.
func TestHostileProvider(t *testing.T) {
	keys := testKeys()
	type provider = *hostileOP
	claim := func(name string, v any) func(provider, *Config) {
		return func(o provider, _ *Config) {
			o.idClaims = func(m map[string]any) {
				if v == nil {
					delete(m, name)
				} else {
					m[name] = v
				}
			}
		}
	}
	respond := func(name, v string) func(provider, *Config) {
		return func(o provider, _ *Config) { o.answer = func(q url.Values) { q[name] = []string{v} } }
	}
	for _, tt := range []struct {
		name   string
		reason string // "" logs in
		set    func(provider, *Config)
	}{
		// What must work.
		{"code flow", "", func(provider, *Config) {}},
		{"client-secret-basic with characters that need encoding", "", func(provider, *Config) {}},
		{"kid absent, one key", "", func(o provider, _ *Config) { o.signer.kid = "" }},
		{"key rotation before the login", "", func(o provider, _ *Config) {
			o.signer = keys["rsa2"]
			o.keys = []jose.JSONWebKey{keys["rsa2"].public()}
		}},
		{"several audiences with azp", "", func(o provider, _ *Config) {
			o.idClaims = func(m map[string]any) { m["aud"], m["azp"] = []string{"other", clientID}, clientID }
		}},
		{"claims from UserInfo", "", func(o provider, c *Config) {
			c.Provider.UserInfo = true
			c.Provider.AllowedDomains = []string{"shop.example"}
			o.idClaims = func(m map[string]any) { delete(m, "email"); delete(m, "email_verified") }
		}},
		{"no at_hash", "", claim("at_hash", nil)},
		{"iss in the answer", "", func(o provider, _ *Config) { o.answer = func(q url.Values) { q.Set("iss", o.URL) } }},
		{"a clock that is a little behind", "", func(o provider, _ *Config) {
			o.idClaims = func(m map[string]any) {
				m["iat"], m["exp"] = o.clock.unix(20*time.Second), o.clock.unix(-20*time.Second)
			}
		}},
		{"max_age kept", "", func(o provider, c *Config) { c.Provider.MaxAge = guard.Duration(time.Minute) }},
		{"ES256", "", func(o provider, _ *Config) {
			o.signer, o.keys = keys["ec"], []jose.JSONWebKey{keys["ec"].public()}
			o.idClaims = func(m map[string]any) { delete(m, "at_hash") }
		}},
		{"client_secret_post where basic is not offered", "authn-token", func(o provider, _ *Config) {
			o.meta = func(m map[string]any) { m["token_endpoint_auth_methods_supported"] = []string{"client_secret_post"} }
		}}, // this provider wants basic all the same: what was offered was sent

		// The signature.
		{"signature wrong", "authn-token", func(o provider, _ *Config) {
			o.sign = func(m map[string]any) string {
				raw := sign(o.t, o.signer, nil, m)
				return raw[:len(raw)-10] + "AAAAAAAAAA"
			}
		}},
		{"signed by another key under the same kid", "authn-token", func(o provider, _ *Config) { o.signer = key{keys["rsa2"].private, "rsa-1", jose.RS256} }},
		{"alg none, which the metadata offer", "authn-token", func(o provider, _ *Config) {
			o.sign = func(m map[string]any) string { return forge(map[string]any{"alg": "none"}, m, nil) }
		}},
		{"HS256 with the client secret, which the metadata offer", "authn-token", func(o provider, _ *Config) {
			o.sign = func(m map[string]any) string {
				s, _ := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte("client secret & more, of 32 bytes!")}, nil)
				b, _ := json.Marshal(m)
				j, _ := s.Sign(b)
				return must(j.CompactSerialize())
			}
		}},
		{"kid absent, several keys", "authn-token", func(o provider, _ *Config) {
			o.signer.kid = ""
			o.keys = append(o.keys, keys["rsa2"].public())
		}},
		{"kid unknown", "authn-token", func(o provider, _ *Config) { o.signer.kid = "nobody's" }},
		{"key in the token's own header", "authn-token", func(o provider, _ *Config) {
			o.signer = key{keys["rsa2"].private, "evil", jose.RS256}
			o.head = map[string]any{"jwk": jose.JSONWebKey{Key: keys["rsa2"].private.Public(), KeyID: "evil"}}
		}},
		{"an access token as ID token", "authn-token", func(o provider, _ *Config) { o.head = map[string]any{"typ": "at+jwt"} }},
		{"a logout token as ID token", "authn-token", func(o provider, _ *Config) { o.head = map[string]any{"typ": "logout+jwt"} }},

		// The claims.
		{"issuer wrong", "authn-token", claim("iss", "https://evil.example")},
		{"issuer missing", "authn-token", claim("iss", nil)},
		{"issuer with a slash", "authn-token", func(o provider, c *Config) { claim("iss", o.URL+"/")(o, c) }},
		{"audience wrong", "authn-token", claim("aud", "other")},
		{"audience missing", "authn-token", claim("aud", nil)},
		{"audience in another case", "authn-token", claim("aud", strings.ToUpper(clientID))},
		{"several audiences without azp", "authn-token", claim("aud", []string{clientID, "other"})},
		{"azp of another client", "authn-token", claim("azp", "other")},
		{"azp that is no text", "authn-token", claim("azp", []string{clientID})},
		{"sub missing", "authn-token", claim("sub", nil)},
		{"sub empty", "authn-token", claim("sub", "")},
		{"sub of 256 characters", "authn-token", claim("sub", strings.Repeat("x", 256))},
		{"iat missing", "authn-token", claim("iat", nil)},
		{"exp missing", "authn-token", claim("exp", nil)},
		{"expired", "authn-token", func(o provider, c *Config) { claim("exp", o.clock.unix(-time.Minute))(o, c) }},
		{"issued in the future: clock skew", "authn-token", func(o provider, c *Config) { claim("iat", o.clock.unix(2*time.Minute))(o, c) }},
		{"not yet valid", "authn-token", func(o provider, c *Config) { claim("nbf", o.clock.unix(2*time.Minute))(o, c) }},
		{"nonce wrong", "authn-token", claim("nonce", "another login's nonce, of 43 characters....")},
		{"nonce missing", "authn-token", claim("nonce", nil)},
		{"at_hash wrong", "authn-token", claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA")},
		{"at_hash empty", "authn-token", claim("at_hash", "")},
		{"auth_time missing although max_age was asked for", "authn-token", func(o provider, c *Config) {
			c.Provider.MaxAge = guard.Duration(time.Minute)
			claim("auth_time", nil)(o, c)
		}},
		{"authenticated longer ago than max_age", "authn-token", func(o provider, c *Config) {
			c.Provider.MaxAge = guard.Duration(time.Minute)
			claim("auth_time", o.clock.unix(-2*time.Minute))(o, c)
		}},
		{"sub twice", "authn-token", func(o provider, _ *Config) {
			o.sign = func(m map[string]any) string {
				b, _ := json.Marshal(m)
				return sign(o.t, o.signer, nil, bytes.Replace(b, []byte(`"sub":"u-1"`), []byte(`"sub":"u-1","sub":"u-2"`), 1))
			}
		}},
		{"acr that was not asked for", "authn-user", func(o provider, c *Config) { c.Provider.ACR = []string{"urn:mfa"} }},
		{"user name with a line break", "authn-user", claim("preferred_username", "ann\r\nX-Admin: 1")},
		{"user name missing", "authn-user", claim("preferred_username", nil)},
		{"address that nobody has verified", "authn-user", func(o provider, c *Config) {
			c.Provider.AllowedDomains = []string{"shop.example"}
			claim("email_verified", false)(o, c)
		}},
		{"address of another domain", "authn-user", func(o provider, c *Config) {
			c.Provider.AllowedDomains = []string{"shop.example"}
			claim("email", "ann@shop.example@evil.example")(o, c)
		}},
		{"address as the user's name, unverified", "authn-user", func(o provider, c *Config) {
			c.Provider.UserClaim = "email"
			claim("email_verified", nil)(o, c)
		}},

		// The token endpoint and UserInfo.
		{"no ID token", "authn-token", func(o provider, _ *Config) { o.response = func(m map[string]any) { delete(m, "id_token") } }},
		{"no access token", "authn-token", func(o provider, _ *Config) { o.response = func(m map[string]any) { delete(m, "access_token") } }},
		{"token of another kind", "authn-token", func(o provider, _ *Config) { o.response = func(m map[string]any) { m["token_type"] = "mac" } }},
		{"UserInfo of another user", "authn-token", func(o provider, c *Config) {
			c.Provider.UserInfo = true
			o.userinfo = func(m map[string]any) { m["sub"] = "u-2" }
		}},
		{"UserInfo without sub", "authn-token", func(o provider, c *Config) {
			c.Provider.UserInfo = true
			o.userinfo = func(m map[string]any) { delete(m, "sub") }
		}},

		// The answer at the callback.
		{"state of nobody", "authn-state", respond("state", "AAAAAAAAAAAAAAAAAAAAAA")},
		{"state missing", "authn-state", func(o provider, _ *Config) { o.answer = func(q url.Values) { q.Del("state") } }},
		{"state twice", "authn-response", func(o provider, _ *Config) { o.answer = func(q url.Values) { q.Add("state", "x") } }},
		{"code twice", "authn-response", func(o provider, _ *Config) { o.answer = func(q url.Values) { q.Add("code", "x") } }},
		{"code missing", "authn-response", func(o provider, _ *Config) { o.answer = func(q url.Values) { q.Del("code") } }},
		{"code of nobody", "authn-token", respond("code", "x")},
		{"mix-up: answer of another server", "authn-issuer", respond("iss", "https://evil.example")},
		{"mix-up: iss empty", "authn-issuer", respond("iss", "")},
		{"mix-up: iss left out by a server that sends it", "authn-issuer", func(o provider, _ *Config) {
			o.meta = func(m map[string]any) { m["authorization_response_iss_parameter_supported"] = true }
		}},
		{"the visitor broke it off", "authn-refused", func(o provider, _ *Config) {
			o.answer = func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") }
		}},
		{"an error beside a code", "authn-refused", respond("error", "server_error")},

		// The metadata.
		{"metadata of another issuer", "authn-unavailable", func(o provider, _ *Config) {
			o.meta = func(m map[string]any) { m["issuer"] = "https://evil.example" }
		}},
		{"issuer with a slash too many in the metadata", "authn-unavailable", func(o provider, _ *Config) {
			o.meta = func(m map[string]any) { m["issuer"] = o.URL + "/" }
		}},
		{"token endpoint in clear text", "authn-unavailable", func(o provider, _ *Config) {
			o.meta = func(m map[string]any) { m["token_endpoint"] = "http://evil.example/token" }
		}},
		{"keys in clear text", "authn-unavailable", func(o provider, _ *Config) {
			o.meta = func(m map[string]any) { m["jwks_uri"] = "http://evil.example/keys" }
		}},
		{"no token endpoint", "authn-unavailable", func(o provider, _ *Config) { o.meta = func(m map[string]any) { delete(m, "token_endpoint") } }},
		{"a redirect instead of keys", "authn-unavailable", func(o provider, _ *Config) {
			elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, o.URL+"/keys", http.StatusFound)
			}))
			o.t.Cleanup(elsewhere.Close)
			o.meta = func(m map[string]any) { m["jwks_uri"] = elsewhere.URL }
		}},
		{"keys without end", "authn-unavailable", func(o provider, _ *Config) {
			endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, `{"keys":[`)
				for r.Context().Err() == nil {
					if _, err := io.WriteString(w, strings.Repeat(`{"kty":"oct"},`, 1000)); err != nil {
						return
					}
				}
			}))
			o.t.Cleanup(endless.Close)
			o.meta = func(m map[string]any) { m["jwks_uri"] = endless.URL }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClock()
			o := newHostileOP(t, c)
			cfg := siteConfig(o)
			tt.set(o, &cfg)
			s := newSite(t, cfg, c)
			b := s.browser()
			code, at, body := b.visit(s.URL + "/account/")
			reasons := s.reasons()
			if tt.reason == "" {
				if code != 200 || at != s.URL+"/account/" || !strings.Contains(body, `user="ann"`) {
					t.Fatalf("%d at %s: %s %v", code, at, body, reasons)
				}
				return
			}
			if code < 400 || len(reasons) == 0 || reasons[len(reasons)-1] != tt.reason {
				t.Errorf("%d at %s: reasons %q, want %s\n%s", code, at, reasons, tt.reason, body)
			}
			if strings.Contains(body, "a secret detail") || strings.Contains(fmt.Sprint(s.events), "a secret detail") {
				t.Error("what the provider said is repeated")
			}
			// No session, whatever was answered.
			o.change(func() { o.answer, o.meta = nil, nil })
			if code, _, _ := b.stop(o.URL).visit(s.URL + "/account/"); code == 200 {
				t.Errorf("there is a session all the same")
			}
		})
	}
}
