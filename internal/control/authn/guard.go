package authn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/store"
)

// Names of events (OWASP Logging Vocabulary).
const (
	loginEvent     = "authn_login_success"
	loginFailEvent = "authn_login_fail"
	logoutEvent    = "session_expired"
	endedEvent     = "session_use_after_expire"
	reuseEvent     = "authn_token_reuse"
	rightsEvent    = "authz_fail"
	beginEvent     = "http_request" // nothing has been proven yet
)

var layers = []*guard.Spec{{
	Name:     "authn",
	Control:  "authn",
	Does:     "Lets people log in at an OpenID Connect provider, verifies bearer tokens, refuses who may not ask for a path, and tells the app who asks.",
	Partial:  true, // it keeps the promise for the paths that the settings name
	Blocking: true,
	Failure:  guard.FailClosed,
	Event:    rightsEvent,
	Reasons: []guard.Reason{
		{
			Name: "authn-required",
			Why:  "The path is for people who have logged in, or for a valid token, and the request shows neither (CWE-306).",
			Fix:  "Log in at authn.path/login or send a token. If the path is for everybody: an [[authn.rule]] with require = \"anyone\" before the others.",
		},
		{
			Name: "authn-login",
			Why:  "A page was asked for that wants a login: the visitor was sent to the provider.",
			Fix:  "Nothing: this is how a login begins.",
		},
		{
			Name: "authn-logged-in",
			Why:  "The visitor came back from the provider with a valid proof of who they are.",
			Fix:  "Nothing.",
		},
		{
			Name: "authn-logged-out",
			Why:  "The visitor, or the provider (back-channel logout), ended the session.",
			Fix:  "Nothing.",
		},
		{
			Name: "authn-rights",
			Why:  "Who asks is known and has not the role, the group, the scope or the kind of proof that the rule for the path wants (CWE-862).",
			Fix:  "Give the user the role at the provider (authn.provider.groups-claim names where it is read), or change the [[authn.rule]].",
		},
		{
			Name: "authn-step-up",
			Why:  "The rule for the path wants a stronger authentication than this login was (acr, RFC 9470).",
			Fix:  "Log in again with it; if the provider never gives that acr, correct the [[authn.rule]].",
		},
		{
			Name: "authn-bearer",
			Why:  "The bearer token is forged, expired, revoked, another API's or no access token at all; the detail says which (CWE-347, RFC 8725).",
			Fix:  "Get a new token from the issuer in authn.bearer.issuer, for authn.bearer.audience.",
		},
		{
			Name: "authn-request",
			Why:  "The request to one of the guard's own addresses is not formed as it must be.",
			Fix:  "Correct the client.",
		},
		{
			Name: "authn-response",
			Why:  "The provider's answer at the callback is not formed as it must be: no code, a parameter twice, another method.",
			Fix:  "See authn.provider.response-mode; everybody but the provider sends these by mistake or by malice.",
		},
		{
			Name: "authn-state",
			Why:  "The answer belongs to no login that this browser has begun within a quarter of an hour: somebody wants to log a visitor in as somebody else (login CSRF, RFC 6749 section 10.12), the login took too long, or another tab began one at the same moment. It is not used; a login that began here begins again.",
			Fix:  "Begin the login again. If it happens always: set authn.provider.origin, so that login and callback are at the same host.",
		},
		{
			Name: "authn-replay",
			Why:  "The answer of the provider, or a logout token, was used a second time.",
			Fix:  "Begin the login again; the first use may have been somebody else's.",
		},
		{
			Name: "authn-issuer",
			Why:  "The answer comes from another authorization server than the login went to (mix-up, RFC 9207).",
			Fix:  "authn.provider.issuer must be spelt exactly as the provider spells it.",
		},
		{
			Name: "authn-refused",
			Why:  "The provider says that there is no login: the visitor has broken it off, or has no access.",
			Fix:  "See the provider's log; the detail has its error.",
		},
		{
			Name: "authn-token",
			Why:  "The provider's tokens could not be had or do not prove what they must: signature, issuer, audience, azp, nonce, times, at_hash; the detail says which.",
			Fix:  "See the detail: client-id, client-secret, algorithms and clock-skew under authn.provider, and both clocks.",
		},
		{
			Name: "authn-user",
			Why:  "The user is known to the provider and may not come in: no verified address in email-domains, no usable user-claim, not the acr that is wanted.",
			Fix:  "See the detail, and the settings under authn.provider.",
		},
		{
			Name: "authn-ended",
			Why:  "The cookie of a session that has ended was shown again, or the provider would not renew a session.",
			Fix:  "Nothing, if the user has just logged out in another tab; many of one session are a stolen cookie.",
		},
		{
			Name: "authn-stream-ended",
			Why:  "A WebSocket or an event stream was open when its login ended (a logout, here or at the provider, an operator, its absolute time): it was cut, so that nobody goes on reading after it (CWE-613).",
			Fix:  "Nothing: who is logged in again connects again.",
		},
		{
			Name: "authn-logout-token",
			Why:  "A back-channel logout token is not valid (OpenID Connect Back-Channel Logout, 2.6); the detail says why. Nobody was logged out.",
			Fix:  "See authn.provider.issuer and client-id.",
		},
		{
			Name: "authn-logout-cross-site",
			Why:  "Another site's page wanted to log the visitor out.",
			Fix:  "Link to the logout from your own pages.",
		},
		{
			Name: "authn-origin",
			Why:  "The host that was asked for is not known, so that no redirect URI could be made.",
			Fix:  "Set authn.provider.origin.",
		},
		{
			Name: "authn-unavailable",
			Why:  "The provider, or the store of sessions, does not answer. Who has a session goes on while the store answers.",
			Fix:  "See the detail, and the health of the layer in dewar check.",
		},
	},
	Commands: []guard.Command{
		{Name: "login sessions", Does: "Lists the sessions of people who have logged in at the provider.", Args: []guard.Arg{{Name: "subject", Does: "only those of one user: subject, user name or verified address", Optional: true}}},
		{Name: "login end", Does: "Ends the sessions of a user, or one session.", Args: []guard.Arg{{Name: "subject", Does: "the user's subject, user name or verified address, or a session's handle"}}, Changes: true},
	},
}}

// layer is the login at the edge.
type layer struct {
	cfg      Config
	path     string
	ring     *ring
	store    store.Store
	now      guard.Clock
	sessions *sessions
	provider *provider // nil when there is none
	bearer   *bearer   // nil when no tokens are accepted
	assert   *asserter
	client   *http.Client
	noted    *lru[time.Time] // sessions whose cookie was shown after their end
	policy   func() *policy.Policy
	facts    func() guard.Facts
	// ended are the sessions that were ended, on every node, and streams what
	// goes on with a session; ended is nil without a provider.
	ended   *store.Replica
	streams guard.Streams[func(detail string)]
}

// NewAuthn makes the authn layer.
func NewAuthn(cfg Config, env guard.Env) (guard.Layer, error) {
	if p := cfg.Problems(); len(p) > 0 {
		return nil, fmt.Errorf("authn.%s: %s", p[0].Key, p[0].Message)
	}
	defaults(&cfg)
	l := &layer{cfg: cfg, path: cfg.Path, store: env.Store, now: env.Now, policy: env.Policy, facts: env.Facts}
	if l.now == nil {
		l.now = time.Now
	}
	if l.store == nil {
		return nil, errors.New("no store")
	}
	secret := func(key, ref string) (guard.Secret, error) {
		if ref == "" {
			return guard.Secret{}, nil
		}
		if env.Secret == nil {
			return guard.Secret{}, fmt.Errorf("authn.%s: there is nothing to read it from", key)
		}
		s, err := env.Secret(ref)
		if err != nil {
			return s, fmt.Errorf("authn.%s: %w", key, err)
		}
		return s, nil
	}
	var roots []string
	for _, ref := range cfg.Secrets {
		s, err := secret("secrets", ref)
		if err != nil {
			return nil, err
		}
		roots = append(roots, s.Reveal())
	}
	dir := ""
	if len(roots) == 0 && env.DataDir != nil {
		// Without one sessions end with the process; Describe says so.
		dir, _ = env.DataDir()
	}
	var err error
	if l.ring, err = newRing(roots, dir); err != nil {
		return nil, fmt.Errorf("authn.secrets: %w", err)
	}
	way, err := transport(cfg.Provider.CAFile)
	if err != nil {
		return nil, fmt.Errorf("authn.provider.ca-file: %w", err)
	}
	client := newClient(way)
	l.client, l.noted = client, newLRU[time.Time](4096)
	l.sessions = &sessions{store: l.store, ring: l.ring, now: l.now, idle: time.Duration(cfg.Session.Idle), absolute: time.Duration(cfg.Session.Absolute), cache: newLRU[*cached](8192)}
	l.assert = newAsserter(l.ring, l.now)
	clientSecret, err := secret("provider.client-secret", cfg.Provider.ClientSecret)
	if err != nil {
		return nil, err
	}
	if cfg.Provider.Issuer != "" {
		l.provider = newProvider(cfg.Provider, clientSecret, client, l.now)
		_ = l.provider.health() // the first question, so that the first visitor need not wait
	}
	if cfg.Bearer.Audience != "" {
		b := &bearer{
			cfg: cfg.Bearer, issuer: cfg.Bearer.Issuer, skew: time.Duration(cfg.Provider.ClockSkew), clientID: cfg.Provider.ClientID, secret: clientSecret,
			client: client, now: l.now, ring: l.ring, store: l.store, judged: newLRU[judged](maxJudged),
		}
		if b.issuer == "" {
			b.issuer = cfg.Provider.Issuer
		}
		if cfg.Bearer.ClientSecret != "" {
			if b.secret, err = secret("bearer.client-secret", cfg.Bearer.ClientSecret); err != nil {
				return nil, err
			}
		}
		if l.provider != nil && b.issuer == cfg.Provider.Issuer {
			b.meta = l.provider.get
		} else {
			b.meta = remembered(l.now, func(ctx context.Context) (*metadata, error) { return bearerMetadata(ctx, client, b.issuer) })
		}
		b.keys = newKeySet(func(ctx context.Context) (string, error) {
			if cfg.Bearer.JWKSURL != "" {
				return cfg.Bearer.JWKSURL, nil
			}
			m, err := b.meta(ctx)
			if err != nil {
				return "", err
			}
			return m.JWKS, nil
		}, client, l.now, cfg.Bearer.Algorithms)
		l.bearer = b
	}
	if err := l.free(); err != nil {
		return nil, err
	}
	if l.provider != nil {
		l.ended = store.Follow(l.store, endedFolder, store.FollowOptions{Now: l.now, OnChange: l.cut})
	}
	return l, nil
}

// defaults fills in what a Config that nobody decoded lacks.
func defaults(c *Config) {
	text := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	list := func(p *[]string, v ...string) {
		if len(*p) == 0 {
			*p = v
		}
	}
	text(&c.Default, "anyone")
	text(&c.Path, "/_dewar/auth")
	text(&c.Identity, "headers")
	text(&c.Provider.UserClaim, "sub")
	text(&c.Provider.GroupsClaim, "groups")
	text(&c.Provider.AfterLogout, "/")
	list(&c.Provider.Algorithms, "RS256", "PS256", "ES256", "EdDSA")
	list(&c.Provider.Scopes, "openid", "profile", "email")
	list(&c.Bearer.Algorithms, "RS256", "PS256", "ES256", "EdDSA")
	list(&c.Bearer.Types, "at+jwt")
	text(&c.Bearer.UserClaim, "sub")
	text(&c.Bearer.GroupsClaim, "groups")
	if c.Session.Absolute == 0 {
		c.Session.Absolute = guard.Duration(12 * time.Hour)
	}
	if c.Session.Idle == 0 {
		c.Session.Idle = min(guard.Duration(time.Hour), c.Session.Absolute)
	}
}

// The guard's own addresses, below authn.path.
const (
	loginPath       = "/login"
	callbackPath    = "/callback"
	logoutPath      = "/logout"
	backChannelPath = "/backchannel-logout"
	keysPath        = "/keys"
)

func (l *layer) callback() string { return l.path + callbackPath }

// free reports whether a route of the app has one of the guard's addresses.
// One with variable parts, such as a catch-all, is only covered.
func (l *layer) free() error {
	taken := func(rule string) error {
		if strings.Contains(rule, "<") || !under(strings.TrimSuffix(rule, "/"), l.path) {
			return nil
		}
		return fmt.Errorf("authn.path: the app has the route %s itself: choose another path than %s", rule, l.path)
	}
	if l.policy != nil {
		if p := l.policy(); p != nil {
			for _, r := range p.Routes() {
				if err := taken(r.Rule); err != nil {
					return err
				}
			}
		}
	}
	if l.facts != nil {
		for _, r := range l.facts().Routes {
			if err := taken(r.Rule); err != nil {
				return err
			}
		}
	}
	return nil
}

// Request implements [guard.Layer].
func (l *layer) Request(x *guard.Exchange) guard.Decision {
	strip(x.Request)
	cookies := takeCookies(x)
	if under(x.Path, l.path) {
		return l.own(x, cookies)
	}
	ctx := x.Request.Context()
	first, second := l.needs(x)
	needed := first.login || second.login

	var id *identity
	token, hasToken := "", false
	if l.bearer != nil && !(first.bySession() || second.bySession()) {
		token, hasToken = bearerToken(x.Request)
	}
	var wrong error
	if hasToken {
		// A token that is sent is the proof that is meant: a cookie beside it
		// does not make up for a wrong one. Where nothing is asked for it may
		// be another's, such as one of the app's own.
		asker := ""
		if needed {
			asker = askerOf(x.Client.Addr)
		}
		if id, wrong = l.bearer.judge(ctx, token, asker); errors.Is(wrong, errUnavailable) && needed {
			return l.unavailable(wrong)
		}
		if id != nil && id.boundElsewhere(x.Client) {
			id, wrong = nil, badToken("it is bound to another client certificate than the one that was shown (RFC 8705)")
		}
	}
	switch {
	case hasToken && (needed || id != nil):
	case cookies.login != "" && l.provider != nil:
		key := l.sessions.key(cookies.login)
		if key == "" {
			break
		}
		c, err := l.sessions.get(ctx, key)
		if err != nil {
			if needed {
				return l.unavailable(err)
			}
			break
		}
		if c == nil && needed && l.sessions.ended(ctx, key) && l.notable(key) {
			x.Note(guard.Note{Event: endedEvent, Severity: event.Warn, Reason: "authn-ended", Detail: "the cookie of a session that has ended", Attributes: map[string]string{"session": key[:12]}})
		}
		if c != nil {
			c = l.renewed(x, key, c)
		}
		if c != nil {
			id = sessionIdentity(c)
			x.SetValue(streamKey{}, c)
		}
	}
	if id != nil {
		l.identify(x, id)
	}
	for _, n := range [2]need{first, second} {
		if what, detail := n.lacks(id); what != nothing {
			return l.deny(x, cookies, n, id, what, detail, wrong)
		}
	}
	return guard.Pass()
}

// notePause is how long the cookie of one ended session is worth one event: a
// page that was left open may ask every few seconds.
const notePause = 10 * time.Minute

func (l *layer) notable(key string) bool {
	now := l.now()
	if at, ok := l.noted.get(key); ok && now.Sub(at) < notePause {
		return false
	}
	l.noted.put(key, now)
	return true
}

// askerOf names a client to the limit on wrong tokens.
func askerOf(a netip.Addr) string {
	return guard.ClientNetwork(a).String()
}

func sessionIdentity(c *cached) *identity {
	s := c.s
	return &identity{
		issuer: s.Issuer, subject: s.Subject, user: s.User, email: s.Email, name: s.Name, login: s.Login, groups: s.Groups, scopes: s.Scopes,
		acr: s.ACR, authTime: s.AuthTime, expires: time.Unix(s.Ends, 0), signed: &c.signed,
	}
}

// deny is the answer to a request that lacks something.
func (l *layer) deny(x *guard.Exchange, cookies ownCookies, n need, id *identity, what lack, detail string, wrong error) guard.Decision {
	r := x.Request
	realm := x.Client.Host
	observed := l.cfg.Mode == guard.Observe
	if x.Override != nil {
		if m, ok := x.Override.Modes["authn"]; ok {
			observed = m == guard.Observe
		}
	}
	canLogin := l.provider != nil && (n.rule == nil || n.rule.By != "bearer") && wrong == nil && (id == nil || !id.bearer)
	var acr []string
	if n.rule != nil {
		acr = n.rule.ACR
	}
	refuse := func(status int, reason, detail, auth string) guard.Decision {
		d := guard.Refuse(status, reason, detail)
		if auth != "" {
			d.Header = http.Header{"Www-Authenticate": {auth}}
		}
		return d
	}
	// A scheme that no browser knows: it asks nobody for a password.
	loginChallenge := fmt.Sprintf("Cookie realm=%s, form-action=%s, cookie-name=%s", quoted(realm), quoted(l.path+loginPath), quoted(cookieName(x, sessionCookie)))
	switch {
	case wrong != nil:
		code, desc := "invalid_token", "the token is not valid"
		d := refuse(http.StatusUnauthorized, "authn-bearer", wrong.Error(), challenge(realm, code, desc))
		d.Event = loginFailEvent
		return d
	case what == lackLogin:
		if canLogin && !observed && navigates(r) {
			return l.begin(x, cookies, r.URL.RequestURI(), acr, 0)
		}
		var ways []string
		if l.bearer != nil && (n.rule == nil || n.rule.By != "session") {
			ways = append(ways, challenge(realm, "", ""))
		}
		if canLogin {
			ways = append(ways, loginChallenge)
		}
		d := guard.Refuse(http.StatusUnauthorized, "authn-required", detail)
		d.Header = http.Header{"Www-Authenticate": ways}
		return d
	case what == lackACR && canLogin && !observed && navigates(r):
		return l.begin(x, cookies, r.URL.RequestURI(), acr, 0)
	case what == lackACR:
		return refuse(http.StatusUnauthorized, "authn-step-up", detail, challenge(realm, "insufficient_user_authentication", "a stronger authentication is wanted", "acr_values", strings.Join(acr, " ")))
	}
	auth := ""
	if what == lackScope && id.bearer {
		auth = challenge(realm, "insufficient_scope", "", "scope", strings.Join(append(append([]string(nil), n.rule.Scopes...), n.rule.AllScopes...), " "))
	}
	return refuse(http.StatusForbidden, "authn-rights", detail, auth)
}

// own answers at the guard's own addresses.
func (l *layer) own(x *guard.Exchange, cookies ownCookies) guard.Decision {
	r := x.Request
	rest := strings.TrimPrefix(x.Path, l.path)
	if rest == keysPath && l.cfg.Identity != "off" {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return notAllowed(r.Method, "GET, HEAD")
		}
		return guard.Decision{Verdict: guard.Answer, Status: http.StatusOK, Event: "http_request", Severity: event.Debug, Body: l.assert.jwks, Header: http.Header{
			"Content-Type": {"application/jwk-set+json"}, "Cache-Control": {"public, max-age=300"},
		}}
	}
	if l.provider == nil {
		return wrongRequest(http.StatusNotFound, "no provider is set")
	}
	switch rest {
	case loginPath:
		if r.Method != http.MethodGet {
			return notAllowed(r.Method, "GET")
		}
		q, err := url.ParseQuery(r.URL.RawQuery)
		back := ""
		if err == nil {
			back, err = parameter(q, "return")
		}
		if err != nil {
			return wrongRequest(http.StatusBadRequest, err.Error())
		}
		return l.begin(x, cookies, back, nil, 0)
	case callbackPath:
		return l.returned(x, cookies)
	case logoutPath:
		return l.logout(x, cookies)
	case backChannelPath:
		return l.backChannel(x)
	}
	return wrongRequest(http.StatusNotFound, "nothing is at "+clip(x.Path))
}

// wrongRequest refuses what is no request to one of the guard's own addresses.
func wrongRequest(status int, detail string) guard.Decision {
	d := guard.Refuse(status, "authn-request", detail)
	d.Event = "input_validation_fail"
	return d
}

func notAllowed(method, allow string) guard.Decision {
	d := wrongRequest(http.StatusMethodNotAllowed, "method "+clip(method))
	d.Header = http.Header{"Allow": {allow}}
	return d
}

// Response implements [guard.Responder]. What was made for one user is kept by
// no cache in between, unless the app says otherwise.
func (l *layer) Response(x *guard.Exchange, r *http.Response) guard.Decision {
	if x.Identity.Subject != "" && len(r.Header["Cache-Control"]) == 0 {
		r.Header["Cache-Control"] = []string{"private"}
	}
	return guard.Pass()
}

// Close implements [io.Closer]: another layer has taken this one's place.
func (l *layer) Close() error {
	l.client.CloseIdleConnections()
	if l.ended != nil {
		// A WebSocket may be in it for longer than anything else.
		l.streams.WhenEmpty(func() { l.ended.Close() })
	}
	return nil
}

// Health implements [guard.Reporter].
func (l *layer) Health() error {
	if err := l.free(); err != nil {
		return err
	}
	if l.provider != nil {
		if err := l.provider.health(); err != nil {
			return err
		}
	}
	if l.bearer != nil {
		if err := l.bearer.keys.health(); err != nil {
			return fmt.Errorf("%w: the issuer %s of bearer tokens: %w", guard.ErrDegraded, l.bearer.issuer, err)
		}
	}
	return nil
}

// Describe implements [guard.Reporter].
func (l *layer) Describe() string {
	var parts []string
	if l.provider != nil {
		parts = append(parts, "logins at "+l.cfg.Provider.Issuer)
	}
	if l.bearer != nil {
		parts = append(parts, "tokens of "+l.bearer.issuer+" for "+l.cfg.Bearer.Audience)
	}
	who := "whatever no rule names is for anyone"
	if l.cfg.Default == "login" {
		who = "whatever no rule names wants a login"
	} else if l.cfg.Protect == "source" {
		who = "so do the routes that the source marks"
	}
	s := fmt.Sprintf("%s; %d rules, %s", strings.Join(parts, ", "), len(l.cfg.Rules), who)
	if l.provider != nil && !l.ring.lasting {
		s += "; sessions end with the process (authn.secrets is not set)"
	}
	return s
}

// listed is a session as an operator sees it.
type listed struct {
	Handle  string    `json:"handle"`
	User    string    `json:"user"`
	Subject string    `json:"subject"`
	Groups  string    `json:"groups"`
	Client  string    `json:"client"`
	Since   time.Time `json:"since"`
	Ends    time.Time `json:"ends"`
}

// maxListed bounds what an operator is shown at once.
const maxListed = 10000

// Operate implements [guard.Operator].
func (l *layer) Operate(ctx context.Context, command string, args map[string]string) (any, error) {
	who := args["subject"]
	is := func(s *session) bool {
		return who == "" || s.Subject == who || s.User == who || s.Handle == who || s.Email != "" && strings.EqualFold(s.Email, who)
	}
	switch command {
	case "login sessions":
		list := []listed{}
		err := l.sessions.all(ctx, func(_ string, s *session, left time.Duration) bool {
			if is(s) {
				ends := min(s.Ends, l.now().Add(left).Unix())
				list = append(list, listed{s.Handle, s.User, s.Subject, strings.Join(s.Groups, " "), s.Client, time.Unix(s.Created, 0), time.Unix(ends, 0)})
			}
			return len(list) < maxListed
		})
		return list, err
	case "login end":
		var keys []string
		if err := l.sessions.all(ctx, func(key string, s *session, _ time.Duration) bool {
			if is(s) {
				keys = append(keys, key)
			}
			return true
		}); err != nil {
			return nil, err
		}
		if len(keys) == 0 {
			return nil, fmt.Errorf("nobody called %q has a session", who)
		}
		for _, k := range keys {
			if err := l.sessions.end(ctx, k); err != nil {
				return nil, err
			}
		}
		return map[string]int{"ended": len(keys)}, nil
	}
	return nil, guard.ErrNoCommand
}

// jsonText writes what cannot fail to be written.
func jsonText(v any) []byte {
	b, _ := json.Marshal(v)
	return b
}
