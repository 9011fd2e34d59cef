package authn

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"crypto/rand"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
)

// provider is the OpenID Connect provider, as its metadata describe it. They
// are read when they are needed: a provider that is down when the guard starts
// keeps nobody from starting, and logins work as soon as it is up.
type provider struct {
	cfg    Provider
	secret guard.Secret
	client *http.Client
	now    guard.Clock
	keys   *keySet

	mu      sync.Mutex
	meta    *metadata
	read    time.Time
	tried   time.Time
	failure error
	flight  chan struct{}
}

// metadata are those of OpenID Connect Discovery and RFC 8414 that are used.
type metadata struct {
	oidc *oidc.Provider

	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	JWKS          string   `json:"jwks_uri"`
	UserInfo      string   `json:"userinfo_endpoint"`
	EndSession    string   `json:"end_session_endpoint"`
	Revocation    string   `json:"revocation_endpoint"`
	Introspection string   `json:"introspection_endpoint"`
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
	IssParameter  bool     `json:"authorization_response_iss_parameter_supported"` // RFC 9207
}

// How often the provider is asked for its metadata.
const (
	metadataLifetime = time.Hour
	metadataPause    = 5 * time.Second // after a failure
)

// transport returns the way to the issuer. caFile adds an authority.
func transport(caFile string) (http.RoundTripper, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	t.ResponseHeaderTimeout, t.MaxResponseHeaderBytes = askTimeout, 64<<10
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", caFile)
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return limited{t}, nil
}

func newProvider(cfg Provider, secret guard.Secret, client *http.Client, now guard.Clock) *provider {
	p := &provider{cfg: cfg, secret: secret, client: client, now: now}
	p.keys = newKeySet(func(ctx context.Context) (string, error) {
		m, err := p.get(ctx)
		if err != nil {
			return "", err
		}
		return m.JWKS, nil
	}, client, now, cfg.Algorithms)
	return p
}

// get returns the metadata. What was read once is used until it can be read
// again.
func (p *provider) get(ctx context.Context) (*metadata, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		now := p.now()
		switch {
		case p.meta != nil && now.Sub(p.read) < metadataLifetime,
			p.meta != nil && now.Sub(p.tried) < metadataPause:
			return p.meta, nil
		case p.failure != nil && p.flight == nil && now.Sub(p.tried) < metadataPause:
			return nil, fmt.Errorf("%w: %w", errUnavailable, p.failure)
		}
		if p.flight == nil {
			p.tried, p.flight = now, make(chan struct{})
			go p.fetch(p.flight)
		}
		if p.meta != nil {
			return p.meta, nil // the new ones come beside
		}
		flight := p.flight
		p.mu.Unlock()
		var err error
		select {
		case <-flight:
		case <-ctx.Done():
			err = ctx.Err()
		}
		p.mu.Lock()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUnavailable, err)
		}
		if p.failure != nil && p.meta == nil {
			return nil, fmt.Errorf("%w: %w", errUnavailable, p.failure)
		}
	}
}

// fetch reads the metadata once. It ends within askTimeout.
func (p *provider) fetch(flight chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	m, err := p.discover(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failure = err; err == nil {
		p.meta, p.read = m, p.now()
	}
	p.flight = nil
	close(flight)
}

func (p *provider) discover(ctx context.Context) (*metadata, error) {
	// It compares the issuer byte for byte (OpenID Connect Discovery, 4.3).
	known, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.cfg.Issuer)
	if err != nil {
		return nil, err
	}
	m := &metadata{oidc: known}
	if err := known.Claims(m); err != nil {
		return nil, err
	}
	for _, e := range []struct {
		name, url string
		want      bool
	}{
		{"authorization_endpoint", m.Authorization, true}, {"token_endpoint", m.Token, true}, {"jwks_uri", m.JWKS, true},
		{"userinfo_endpoint", m.UserInfo, p.cfg.UserInfo}, {"end_session_endpoint", m.EndSession, false},
		{"revocation_endpoint", m.Revocation, false}, {"introspection_endpoint", m.Introspection, false},
	} {
		if e.url == "" && !e.want {
			continue
		}
		if err := checkEndpoint(e.url); err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return m, nil
}

// health says whether logins work. It has the provider asked again when they
// do not.
func (p *provider) health() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.meta == nil && p.flight == nil && (p.tried.IsZero() || now.Sub(p.tried) >= metadataPause) {
		p.tried, p.flight = now, make(chan struct{})
		go p.fetch(p.flight)
	}
	if p.meta == nil && p.failure != nil {
		return fmt.Errorf("%w: the provider %s cannot be asked: logins wait, sessions go on: %w", guard.ErrDegraded, p.cfg.Issuer, p.failure)
	}
	if p.meta == nil {
		return fmt.Errorf("%w: the provider %s has not answered yet", guard.ErrDegraded, p.cfg.Issuer)
	}
	if err := p.keys.health(); err != nil {
		return fmt.Errorf("%w: the keys of %s: %w", guard.ErrDegraded, p.cfg.Issuer, err)
	}
	return nil
}

// oauth2 returns the client's side of the protocol.
func (p *provider) oauth2(m *metadata, redirect string) *oauth2.Config {
	c := &oauth2.Config{
		ClientID: p.cfg.ClientID, ClientSecret: p.secret.Reveal(), RedirectURL: redirect,
		Endpoint: oauth2.Endpoint{AuthURL: m.Authorization, TokenURL: m.Token, AuthStyle: oauth2.AuthStyleInHeader},
		Scopes:   p.cfg.Scopes,
	}
	if !slices.Contains(c.Scopes, oidc.ScopeOpenID) {
		c.Scopes = append([]string{oidc.ScopeOpenID}, c.Scopes...)
	}
	// client_secret_basic is what holds when nothing is said.
	if p.secret.IsZero() || len(m.AuthMethods) > 0 && !slices.Contains(m.AuthMethods, "client_secret_basic") && slices.Contains(m.AuthMethods, "client_secret_post") {
		c.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return c
}

func (p *provider) context(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, p.client)
}

// verified is a key set for a token whose signature was found right before.
type verified []byte

// VerifySignature implements oidc.KeySet.
func (v verified) VerifySignature(context.Context, string) ([]byte, error) { return v, nil }

// expected is what an ID token must say beside what each must.
type expected struct {
	nonce    string // "" when it may be missing
	repeated string // the nonce of the first token, for one that came by a refresh
	access   string // the access token beside it
	subject  string // "" for any
	maxAge   time.Duration
	acr      []string
}

// idToken verifies an ID token (OpenID Connect Core, 3.1.3.7) and returns its
// claims.
func (p *provider) idToken(ctx context.Context, raw string, want expected) (claims, error) {
	h, payload, err := p.keys.verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	if t := strings.ToLower(h.typ); t != "" && t != "jwt" && t != "application/jwt" {
		return nil, badToken("its typ is %q: it is no ID token", clip(h.typ))
	}
	c, err := parseClaims(payload)
	if err != nil {
		return nil, err
	}
	skew := time.Duration(p.cfg.ClockSkew)
	v := oidc.NewVerifier(p.cfg.Issuer, verified(payload), &oidc.Config{
		ClientID: p.cfg.ClientID, SupportedSigningAlgs: p.cfg.Algorithms,
		Now: func() time.Time { return p.now().Add(-skew) },
	})
	token, err := v.Verify(ctx, raw)
	if err != nil {
		return nil, badToken("%v", err)
	}
	if _, err := c.times(p.now(), skew, true); err != nil {
		return nil, err
	}
	if token.Subject == "" || len(token.Subject) > 255 {
		return nil, badToken("it has no usable sub")
	}
	azp, has := c["azp"]
	switch {
	case has && azp != p.cfg.ClientID:
		return nil, badToken("it was made for another client: azp %q", clip(fmt.Sprint(azp)))
	case len(token.Audience) > 1 && !has:
		return nil, badToken("it is for %d audiences, and no azp says which client asked for it", len(token.Audience))
	}
	switch {
	case want.nonce != "" && subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(want.nonce)) != 1:
		return nil, badToken("its nonce is not the one of this login")
	case want.nonce == "" && token.Nonce != "" && token.Nonce != want.repeated:
		return nil, badToken("its nonce is not the one of the first token")
	}
	if want.subject != "" && token.Subject != want.subject {
		return nil, badToken("it is another user's")
	}
	if _, has := c["at_hash"]; has && want.access != "" {
		if err := token.VerifyAccessToken(want.access); err != nil {
			return nil, badToken("at_hash: the access token beside it is another one's")
		}
	}
	if want.maxAge > 0 {
		at, ok, err := c.time("auth_time")
		switch {
		case err != nil:
			return nil, err
		case !ok:
			return nil, badToken("it does not say when the user was authenticated (auth_time), and max_age was asked for")
		case p.now().Sub(at) > want.maxAge+skew:
			return nil, badToken("the user was authenticated at %s, longer ago than allowed", at.UTC().Format(time.RFC3339))
		}
	}
	if len(want.acr) > 0 && !slices.Contains(want.acr, c.text("acr")) {
		return nil, fmt.Errorf("%w: %q", errACR, clip(c.text("acr")))
	}
	return c, nil
}

// errACR says that the user has not proven enough.
var errACR = errors.New("the authentication context is not one of those that are asked for")

// errUser wraps why a user who was authenticated may not come in.
var errUser = errors.New("this user may not log in")

// person fills in whom claims speak of.
func (p *provider) person(c claims, s *session) error {
	s.Issuer, s.Subject = p.cfg.Issuer, c.text("sub") // Google's tokens spell theirs otherwise
	s.SID, s.ACR, s.Name, s.Login = c.text("sid"), c.text("acr"), c.text("name"), c.text("preferred_username")
	// Anybody can write any address into a profile; only one that the provider
	// has verified says who somebody is.
	s.Email = ""
	if v := c["email_verified"]; v == true || v == "true" {
		s.Email = c.text("email")
	}
	user, _ := c.at(p.cfg.UserClaim).(string)
	if p.cfg.UserClaim == "email" {
		user = s.Email
	}
	if p.cfg.UserClaim == "" {
		user = s.Subject
	}
	if user == "" {
		user = s.User // of a session that is renewed
	}
	if !plainText(user) {
		return fmt.Errorf("%w: the claim %s, which names users, is missing, too long or no plain text", errUser, p.cfg.UserClaim)
	}
	s.User = user
	if !plainText(s.Email) {
		s.Email = ""
	}
	if !plainText(s.Name) {
		s.Name = ""
	}
	if !plainText(s.Login) {
		s.Login = ""
	}
	s.Groups = c.list(p.cfg.GroupsClaim)
	if t, ok, err := c.time("auth_time"); ok && err == nil {
		s.AuthTime = t.Unix()
	}
	if len(p.cfg.AllowedDomains) > 0 {
		_, domain, ok := cutLast(s.Email, "@")
		if !ok || !slices.ContainsFunc(p.cfg.AllowedDomains, func(d string) bool { return strings.EqualFold(d, domain) }) {
			return fmt.Errorf("%w: no verified address in authn.provider.email-domains", errUser)
		}
	}
	return nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// plainText reports whether s can stand in a header field and means itself
// there: not empty, no control characters, no space around it.
func plainText(s string) bool {
	if s == "" || len(s) > 255 || !utf8.ValidString(s) || strings.TrimSpace(s) != s {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c >= 0x7f && c < 0xa0 })
}

// flow is a login that is under way: in another tab there may be another one.
// Nonce and PKCE verifier are made of the id, and the state holds it, sealed.
type flow struct {
	ID     string `json:"i"`
	Return string `json:"r"`
	Origin string `json:"o"`
	ACRs   string `json:"s,omitempty"` // wanted, where a rule wants more than a login
	Began  int64  `json:"t"`
}

// Bounds of the cookie of logins under way: it holds the newest of them,
// however many tabs there are.
const (
	maxFlows    = 8
	maxFlowData = 2400 // bytes, sealed and encoded a third more
	flowLife    = 15 * time.Minute
)

func (l *layer) flows(cookie string) []flow {
	if cookie == "" || len(cookie) > 4096 {
		return nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil {
		return nil
	}
	// One that began under another secret begins again.
	b, err = l.ring.all[0].cookie.Open(nil, nil, b, []byte(flowCookie))
	if err != nil {
		return nil
	}
	var list []flow
	if json.Unmarshal(b, &list) != nil {
		return nil
	}
	now := l.now().Unix()
	return slices.DeleteFunc(list, func(f flow) bool {
		return now-f.Began > int64(flowLife/time.Second) || f.Began > now+int64(maxSkew/time.Second)
	})
}

// flowsCookie returns the Set-Cookie for the logins under way; the oldest are
// left out when there are too many.
func (l *layer) flowsCookie(x *guard.Exchange, list []flow) string {
	crossSite := l.cfg.Provider.ResponseMode == "form_post"
	for len(list) > 0 {
		b, _ := json.Marshal(list)
		if len(list) <= maxFlows && len(b) <= maxFlowData {
			value := base64.RawURLEncoding.EncodeToString(l.ring.all[0].cookie.Seal(nil, nil, b, []byte(flowCookie)))
			return setCookie(x, flowCookie, value, flowLife, crossSite)
		}
		list = list[1:]
	}
	return setCookie(x, flowCookie, "", 0, crossSite)
}

// state is what goes to the provider and comes back: which login it is, and
// where that shall end. Only the flow in the browser's own cookie makes it
// worth anything.
type state struct {
	ID     string `json:"i"`
	Return string `json:"r"`
	Began  int64  `json:"t"`
	Tries  int    `json:"n,omitempty"`
}

// statePlace keeps a state from being taken for a cookie.
const statePlace = "state"

func (l *layer) sealState(s state) string {
	return base64.RawURLEncoding.EncodeToString(l.ring.all[0].cookie.Seal(nil, nil, jsonText(s), []byte(statePlace)))
}

// openState returns a state that was sealed here and is not too old.
func (l *layer) openState(text string) (s state, ok bool) {
	if len(text) > 4096 {
		return s, false
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return s, false
	}
	if b, err = l.ring.all[0].cookie.Open(nil, nil, b, []byte(statePlace)); err != nil || json.Unmarshal(b, &s) != nil {
		return s, false
	}
	age := l.now().Unix() - s.Began
	return s, s.ID != "" && age <= int64(flowLife/time.Second) && age >= -int64(maxSkew/time.Second)
}

// maxRestarts bounds how often a login begins again by itself.
const maxRestarts = 2

// lost is the answer to a visitor whose login is not in their cookie, although
// it began here: tabs that are opened at once each get a cookie, and the last
// one is left. Nothing of the provider's answer is used, so that it does not
// matter whose it is: who has a session goes where the tab wanted, and others
// begin again.
func (l *layer) lost(x *guard.Exchange, cookies ownCookies, s state) guard.Decision {
	back := returnPath(s.Return)
	if key := l.sessions.key(cookies.login); key != "" {
		switch c, err := l.sessions.get(x.Request.Context(), key); {
		case err != nil:
			return l.unavailable(err)
		case c != nil:
			return guard.Decision{Verdict: guard.Answer, Status: http.StatusSeeOther, Reason: "authn-login", Event: beginEvent, Severity: event.Debug, Header: http.Header{"Location": {back}, "Referrer-Policy": {"no-referrer"}}}
		}
	}
	if s.Tries >= maxRestarts {
		d := guard.Refuse(http.StatusForbidden, "authn-state", "the login is not in this browser's cookie, again and again")
		d.Event = loginFailEvent
		return d
	}
	x.Note(guard.Note{Event: loginFailEvent, Reason: "authn-state", Detail: "the login is not in this browser's cookie: it begins again"})
	return l.begin(x, cookies, back, nil, s.Tries+1)
}

func (l *layer) nonce(f flow) string {
	return base64.RawURLEncoding.EncodeToString(mac(l.ring.all[0].derive, "nonce", f.ID))
}

// verifier returns the PKCE verifier of a login: 43 characters (RFC 7636, 4.1).
func (l *layer) verifier(f flow) string {
	return base64.RawURLEncoding.EncodeToString(mac(l.ring.all[0].derive, "pkce", f.ID))
}

// origin returns this site's origin, as the provider knows it.
func (l *layer) origin(x *guard.Exchange) (string, bool) {
	if o := l.cfg.Provider.Origin; o != "" {
		return o, true
	}
	o, known := x.Client.Origin()
	return o.String(), known
}

// begin sends the visitor to the provider. acr are authentication contexts of
// which one is wanted.
func (l *layer) begin(x *guard.Exchange, cookies ownCookies, back string, acr []string, tries int) guard.Decision {
	origin, known := l.origin(x)
	if !known {
		return guard.Refuse(http.StatusBadRequest, "authn-origin", "the origin that was asked for is not known")
	}
	m, err := l.provider.get(x.Request.Context())
	if err != nil {
		return l.unavailable(err)
	}
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	f := flow{ID: base64.RawURLEncoding.EncodeToString(b), Return: returnPath(back), Origin: origin, Began: l.now().Unix()}
	if under(f.Return, l.path) {
		f.Return = "/"
	}
	want := l.cfg.Provider.ACR
	if len(acr) > 0 {
		want, f.ACRs = acr, strings.Join(acr, " ")
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(l.nonce(f)), oauth2.S256ChallengeOption(l.verifier(f))}
	param := func(name, value string) { options = append(options, oauth2.SetAuthURLParam(name, value)) }
	if l.cfg.Provider.ResponseMode == "form_post" {
		param("response_mode", "form_post")
	}
	if d := time.Duration(l.cfg.Provider.MaxAge); d > 0 {
		param("max_age", strconv.FormatInt(int64(d/time.Second), 10))
	}
	if len(want) > 0 {
		param("acr_values", strings.Join(want, " "))
	}
	if l.cfg.Provider.Prompt != "" {
		param("prompt", l.cfg.Provider.Prompt)
	}
	to := l.provider.oauth2(m, origin+l.callback()).AuthCodeURL(l.sealState(state{f.ID, f.Return, f.Began, tries}), options...)
	return guard.Decision{Verdict: guard.Answer, Status: http.StatusFound, Reason: "authn-login", Event: beginEvent, Severity: event.Debug, Header: http.Header{
		"Location": {to}, "Set-Cookie": {l.flowsCookie(x, append(l.flows(cookies.flow), f))}, "Referrer-Policy": {"no-referrer"},
	}}
}

// unavailable is the answer when the provider, or the store, does not.
func (l *layer) unavailable(err error) guard.Decision {
	d := guard.Refuse(http.StatusServiceUnavailable, "authn-unavailable", err.Error())
	d.Event, d.Severity, d.Header = "sys_crash", event.High, http.Header{"Retry-After": {"10"}}
	return d
}

// parameter returns a parameter that may stand there once.
func parameter(v url.Values, name string) (string, error) {
	switch list := v[name]; len(list) {
	case 0:
		return "", nil
	case 1:
		return list[0], nil
	default:
		return "", fmt.Errorf("%s stands there %d times", name, len(list))
	}
}

// maxForm bounds the forms that the guard itself reads.
const maxForm guard.Size = 64 << 10

// form reads the request's form.
func form(x *guard.Exchange) (url.Values, error) {
	if !isForm(x.Request) {
		return nil, errors.New("the body is no form")
	}
	x.LimitBody(maxForm)
	b, err := x.Buffer()
	if err != nil {
		return nil, err
	}
	return url.ParseQuery(string(b.Prefix(int(maxForm))))
}

// returned is the callback: the visitor comes back from the provider.
func (l *layer) returned(x *guard.Exchange, cookies ownCookies) guard.Decision {
	r := x.Request
	var v url.Values
	var err error
	switch post := l.cfg.Provider.ResponseMode == "form_post"; {
	case r.Method == http.MethodGet && !post:
		v, err = url.ParseQuery(r.URL.RawQuery)
	case r.Method == http.MethodPost && post:
		v, err = form(x)
	default:
		allow := http.MethodGet
		if post {
			allow = http.MethodPost
		}
		return notAllowed(r.Method, allow)
	}
	fail := func(status int, reason, format string, args ...any) guard.Decision {
		d := guard.Refuse(status, reason, fmt.Sprintf(format, args...))
		d.Event = loginFailEvent
		return d
	}
	if err != nil {
		return fail(http.StatusBadRequest, "authn-response", "%v", err)
	}
	p := map[string]string{}
	for _, name := range []string{"state", "code", "error", "iss"} {
		if p[name], err = parameter(v, name); err != nil {
			return fail(http.StatusBadRequest, "authn-response", "%v", err)
		}
	}
	list := l.flows(cookies.flow)
	sent, ok := l.openState(p["state"])
	if !ok {
		return fail(http.StatusForbidden, "authn-state", "no login that has begun here, or one that took too long")
	}
	i := slices.IndexFunc(list, func(f flow) bool { return f.ID == sent.ID })
	if i < 0 {
		// Not one that this browser has begun, as far as it remembers: the
		// answer is not used (login CSRF, RFC 6749, 10.12).
		return l.lost(x, cookies, sent)
	}
	f := list[i]
	rest := l.flowsCookie(x, slices.Delete(list, i, i+1))
	failed := func(status int, reason, format string, args ...any) guard.Decision {
		d := fail(status, reason, format, args...)
		d.Header = http.Header{"Set-Cookie": {rest}}
		return d
	}
	if origin, _ := l.origin(x); origin != f.Origin {
		return failed(http.StatusForbidden, "authn-state", "the login began at another origin")
	}
	ctx := r.Context()
	first, err := l.store.Once(ctx, stateFolder+l.ring.hidden("state", f.ID), flowLife+time.Minute)
	if err != nil {
		return l.unavailable(err)
	}
	if !first {
		d := failed(http.StatusForbidden, "authn-replay", "this answer of the provider was used before")
		d.Event, d.Severity = reuseEvent, event.High
		return d
	}
	m, err := l.provider.get(ctx)
	if err != nil {
		return l.unavailable(err)
	}
	// RFC 9207: an answer of another authorization server must not be taken
	// for this one's (mix-up).
	switch _, has := v["iss"]; {
	case has && p["iss"] != l.cfg.Provider.Issuer:
		return failed(http.StatusForbidden, "authn-issuer", "iss %q", clip(p["iss"]))
	case !has && m.IssParameter:
		return failed(http.StatusForbidden, "authn-issuer", "the answer has no iss, and the provider says that it sends it")
	}
	if p["error"] != "" {
		return failed(http.StatusForbidden, "authn-refused", "the provider says %q", clip(p["error"]))
	}
	if p["code"] == "" || len(p["code"]) > maxToken {
		return failed(http.StatusBadRequest, "authn-response", "the answer has no code")
	}
	s, given, err := l.redeem(ctx, m, f, p["code"])
	switch {
	case errors.Is(err, errUnavailable):
		return l.unavailable(err)
	case errors.Is(err, errUser), errors.Is(err, errACR):
		return failed(http.StatusForbidden, "authn-user", "%v", err)
	case err != nil:
		d := failed(http.StatusForbidden, "authn-token", "%v", err)
		d.Severity = event.High
		return d
	}
	s.Client = x.Client.Addr.String()
	id, err := l.sessions.start(ctx, s, given)
	if err != nil {
		return l.unavailable(err)
	}
	if key := l.sessions.key(cookies.login); key != "" {
		_ = l.sessions.end(ctx, key) // the one before, of whomever: a new login has a new id
	}
	return guard.Decision{Verdict: guard.Answer, Status: http.StatusSeeOther, Reason: "authn-logged-in", Event: loginEvent, Severity: event.Info, Attributes: map[string]string{"session": s.Handle, "by": "provider"}, Header: http.Header{
		"Location":        {f.Return},
		"Set-Cookie":      {rest, setCookie(x, sessionCookie, id, l.sessions.absolute, false)},
		"Referrer-Policy": {"no-referrer"}, // the code stands in the address
	}}
}

// redeem exchanges the code and returns who has logged in.
func (l *layer) redeem(ctx context.Context, m *metadata, f flow, code string) (s *session, given tokens, err error) {
	ctx, cancel := context.WithTimeout(l.provider.context(ctx), askTimeout)
	defer cancel()
	p := l.provider
	token, err := p.oauth2(m, f.Origin+l.callback()).Exchange(ctx, code, oauth2.VerifierOption(l.verifier(f)))
	if err != nil {
		return nil, given, tokenError(err)
	}
	if !strings.EqualFold(token.TokenType, "bearer") && token.TokenType != "" {
		return nil, given, fmt.Errorf("the token is a %q one, which cannot be used", clip(token.TokenType))
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return nil, given, errors.New("the provider gave no ID token")
	}
	want := expected{nonce: l.nonce(f), access: token.AccessToken, maxAge: time.Duration(p.cfg.MaxAge), acr: p.cfg.ACR}
	if f.ACRs != "" {
		want.acr = strings.Fields(f.ACRs)
	}
	c, err := p.idToken(ctx, raw, want)
	if err != nil {
		return nil, given, err
	}
	if err := p.userInfo(ctx, m, token, c); err != nil {
		return nil, given, err
	}
	s = &session{Nonce: want.nonce, Scopes: p.granted(token)}
	if token.RefreshToken != "" {
		s.Renew = p.renewAt(token)
	}
	return s, tokens{raw, token.RefreshToken}, p.person(c, s)
}

// renewAt returns when a token is to be renewed; 0 for one that does not say
// when it expires.
func (p *provider) renewAt(t *oauth2.Token) int64 {
	if t.Expiry.IsZero() {
		return 0
	}
	return p.now().Add(time.Until(t.Expiry)).Unix()
}

// granted returns the scopes of a token: those asked for, when the answer does
// not say (RFC 6749, 5.1).
func (p *provider) granted(t *oauth2.Token) []string {
	if s, ok := t.Extra("scope").(string); ok && s != "" {
		return strings.Fields(s)
	}
	return p.cfg.Scopes
}

// tokenError tells a refusal of the token endpoint from one that cannot be
// asked. What it answered beside the error's name is not repeated.
func tokenError(err error) error {
	var re *oauth2.RetrieveError
	if !errors.As(err, &re) {
		var ue *url.Error
		if errors.As(err, &ue) || errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%w: %w", errUnavailable, err)
		}
		return errors.New("the token endpoint's answer cannot be used")
	}
	if re.Response != nil && re.Response.StatusCode >= 500 {
		return fmt.Errorf("%w: the token endpoint answered %d", errUnavailable, re.Response.StatusCode)
	}
	return &refusedError{clip(re.ErrorCode)}
}

// refusedError is a refusal of the token endpoint (RFC 6749, 5.2).
type refusedError struct{ code string }

// Error implements error.
func (e *refusedError) Error() string {
	return fmt.Sprintf("the token endpoint refused: %q", e.code)
}

// userInfo adds what the UserInfo endpoint says and the ID token does not.
func (p *provider) userInfo(ctx context.Context, m *metadata, t *oauth2.Token, c claims) error {
	if !p.cfg.UserInfo {
		return nil
	}
	info, err := m.oidc.UserInfo(ctx, oauth2.StaticTokenSource(t))
	if err != nil {
		return fmt.Errorf("%w: UserInfo: %w", errUnavailable, err)
	}
	var raw json.RawMessage
	if err := info.Claims(&raw); err != nil {
		return badToken("UserInfo: %v", err)
	}
	more, err := parseClaims(raw)
	if err != nil {
		return err
	}
	if more.text("sub") != c.text("sub") {
		// Core, 5.3.2: or somebody else's data would be this user's.
		return badToken("UserInfo speaks of another user")
	}
	for name, v := range more {
		if _, has := c[name]; !has {
			c[name] = v
		}
	}
	return nil
}

// renewPause is how long a refresh is left alone: who comes second does not
// use a refresh token twice, which providers take for a theft (RFC 9700,
// 4.14.2), and one that failed is not tried at every request.
const renewPause = 15 * time.Second

// renewed returns the session after its tokens were renewed, if they have
// expired and that is possible; nil when the provider has ended it.
func (l *layer) renewed(x *guard.Exchange, key string, c *cached) *cached {
	s := c.s
	if !l.cfg.Session.Refresh || s.Renew == 0 || l.now().Unix() < s.Renew-10 {
		return c
	}
	ctx := x.Request.Context()
	// Every token has its own name, which is when it is to be renewed.
	first, err := l.store.Once(ctx, renewFolder+l.ring.hidden("renew", key, strconv.FormatInt(s.Renew, 10)), renewPause)
	if err != nil || !first {
		return c
	}
	m, err := l.provider.get(ctx)
	if err != nil {
		return c // sessions go on while the provider is down
	}
	given, err := l.sessions.given(ctx, key)
	if err != nil || given.Refresh == "" {
		return c
	}
	asking, cancel := context.WithTimeout(context.WithoutCancel(l.provider.context(ctx)), askTimeout)
	defer cancel()
	next, err := l.provider.refresh(asking, m, s, &given)
	var refused *refusedError
	switch {
	case errors.As(err, &refused) && refused.code == "invalid_grant", errors.Is(err, errToken), errors.Is(err, errUser):
		x.Note(guard.Note{Event: loginFailEvent, Severity: event.Warn, Reason: "authn-ended", Detail: err.Error(), Attributes: map[string]string{"session": s.Handle}})
		_ = l.sessions.end(ctx, key)
		return nil
	case err != nil:
		return c
	}
	if err := l.sessions.keep(asking, key, next, given); err != nil {
		return c
	}
	if done, err := l.sessions.change(asking, key, c, next); err != nil || !done {
		if c, err := l.sessions.get(asking, key); err == nil {
			if c == nil {
				_ = l.store.Delete(asking, tokensFolder+key) // a logout was faster
			}
			return c // somebody else has renewed it, or ended it
		}
		return c
	}
	c, err = l.sessions.get(asking, key)
	if err != nil {
		return &cached{key: key, s: next}
	}
	return c
}

// refresh asks for new tokens and puts them into given.
func (p *provider) refresh(ctx context.Context, m *metadata, s *session, given *tokens) (*session, error) {
	old := &oauth2.Token{RefreshToken: given.Refresh, Expiry: time.Unix(1, 0)}
	token, err := p.oauth2(m, "").TokenSource(ctx, old).Token()
	if err != nil {
		return nil, tokenError(err)
	}
	next := *s
	next.Renew = p.renewAt(token)
	if token.RefreshToken != "" {
		given.Refresh = token.RefreshToken
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" && !p.cfg.UserInfo {
		return &next, nil
	}
	c := claims{"sub": s.Subject}
	if raw != "" {
		// Core, 12.2: the same user at the same provider.
		if c, err = p.idToken(ctx, raw, expected{repeated: s.Nonce, access: token.AccessToken, subject: s.Subject}); err != nil {
			return nil, err
		}
		given.ID = raw
	}
	if err := p.userInfo(ctx, m, token, c); err != nil {
		return nil, err
	}
	groups := c.at(p.cfg.GroupsClaim)
	// A later token may say less than the first: what is known stays.
	for name, v := range map[string]any{"sid": s.SID, "acr": s.ACR, "name": s.Name, "preferred_username": s.Login} {
		if _, has := c[name]; !has {
			c[name] = v
		}
	}
	if _, has := c["email"]; !has {
		c["email"], c["email_verified"] = s.Email, true
	}
	if err := p.person(c, &next); err != nil {
		return nil, err
	}
	if next.User != s.User {
		return nil, badToken("it names the user otherwise than the first one")
	}
	if groups == nil {
		next.Groups = s.Groups
	}
	return &next, nil
}
