package authn

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// bearer judges access tokens: JWTs by their signature and claims (RFC 9068,
// RFC 8725), others by asking the issuer (RFC 7662).
type bearer struct {
	cfg      Bearer
	issuer   string
	skew     time.Duration
	clientID string // of the login's client: its ID tokens are no access tokens
	secret   guard.Secret
	client   *http.Client
	now      guard.Clock
	keys     *keySet
	meta     func(context.Context) (*metadata, error)
	ring     *ring
	store    store.Store
	// judged are tokens that were found good, by their hash. None is
	// believed for longer than beliefTime, so that a key that was withdrawn
	// counts.
	judged *lru[judged]
}

type judged struct {
	id    *identity
	until time.Time
}

const (
	beliefTime = 5 * time.Minute
	// maxJudged bounds how many tokens are remembered.
	maxJudged = 16384
)

// token returns the token in the Authorization field (RFC 6750, 2.1). Tokens
// in a form or a query are not looked at: they end up in logs.
func bearerToken(r *http.Request) (token string, ok bool) {
	v := r.Header["Authorization"]
	if len(v) == 0 {
		return "", false
	}
	scheme, rest, _ := strings.Cut(strings.Trim(v[0], " \t"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return "", false
	}
	if len(v) > 1 {
		return "", true // two fields: the app could read the other one
	}
	return strings.Trim(rest, " \t"), true
}

// isB64Token reports whether s is a b64token (RFC 6750, 2.1).
func isB64Token(s string) bool {
	t := strings.TrimRight(s, "=")
	return t != "" && strings.Trim(t, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/") == ""
}

// judge returns whom a token is for. The issuer may be asked for the client
// asker; "" lets it not be asked. The error wraps errToken or errUnavailable.
func (b *bearer) judge(ctx context.Context, token, asker string) (*identity, error) {
	if len(token) > maxToken || !isB64Token(token) {
		return nil, badToken("it is not formed like one")
	}
	sum := sha256.Sum256([]byte(token))
	hash := string(sum[:])
	now := b.now()
	if j, ok := b.judged.get(hash); ok {
		if now.Before(j.until) {
			return j.id, nil
		}
		b.judged.remove(hash)
	}
	var id *identity
	var err error
	isJWT := strings.Count(token, ".") == 2
	if isJWT {
		if id, err = b.jwt(ctx, token); err != nil {
			return nil, err
		}
	}
	until := now.Add(beliefTime)
	switch b.cfg.Introspection {
	case "always":
		if asker == "" {
			return nil, badToken("it was not asked about")
		}
		until = now // what was found is in the store, for all nodes
		if id, err = b.introspect(ctx, token, hash, asker, id); err != nil {
			return nil, err
		}
	case "opaque":
		if isJWT {
			break
		}
		if asker == "" {
			return nil, badToken("it was not asked about")
		}
		until = now
		if id, err = b.introspect(ctx, token, hash, asker, nil); err != nil {
			return nil, err
		}
	default:
		if !isJWT {
			return nil, badToken("it is no JWT")
		}
	}
	if until.After(now) {
		if end := id.expires.Add(b.skew); end.Before(until) {
			until = end
		}
		id.signed = &assertion{}
		b.judged.put(hash, judged{id, until})
	}
	return id, nil
}

// jwt verifies an access token that is a JWT.
func (b *bearer) jwt(ctx context.Context, token string) (*identity, error) {
	// Of a token that says itself that it is another's, such as one of the app's
	// own, no key is looked for: nobody waits for an issuer who has nothing to
	// do with it. What it says is believed only against it.
	if iss, ok := claimed(token); ok && iss != b.issuer {
		return nil, badToken("it was issued by %q", clip(iss))
	}
	h, payload, err := b.keys.verify(ctx, token)
	if err != nil {
		return nil, err
	}
	typ := strings.TrimPrefix(strings.ToLower(h.typ), "application/")
	if !slices.ContainsFunc(b.cfg.Types, func(t string) bool {
		return strings.TrimPrefix(strings.ToLower(t), "application/") == typ
	}) {
		return nil, badToken("its typ is %q: it is no access token (RFC 9068, 4)", clip(h.typ))
	}
	c, err := parseClaims(payload)
	if err != nil {
		return nil, err
	}
	if c.text("iss") != b.issuer {
		return nil, badToken("it was issued by %q", clip(c.text("iss")))
	}
	expires, err := c.times(b.now(), b.skew, false)
	if err != nil {
		return nil, err
	}
	if err := b.audience(c); err != nil {
		return nil, err
	}
	if typ != "at+jwt" {
		// A typ that says nothing: what only other kinds of tokens have must
		// not be there.
		for _, name := range []string{"nonce", "at_hash", "c_hash", "events", "logout_token"} {
			if _, has := c[name]; has {
				return nil, badToken("it holds %s: it is no access token", name)
			}
		}
		if aud, _ := c.audience(); b.clientID != "" && b.clientID != b.cfg.Audience && slices.Contains(aud, b.clientID) && len(aud) == 1 {
			return nil, badToken("it is for the client that people log in with: it is an ID token")
		}
	}
	return b.identity(c, expires)
}

// claimed returns the issuer that a token names, unverified. ok is false for
// one that cannot be read: what is wrong with it is for others to say.
func claimed(token string) (iss string, ok bool) {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.Strict().DecodeString(payload)
	if err != nil {
		return "", false
	}
	c, err := parseClaims(raw)
	if err != nil {
		return "", false
	}
	return c.text("iss"), true
}

// boundElsewhere reports whether a token is bound to another certificate than
// the client's (RFC 8705, 3).
func (id *identity) boundElsewhere(c guard.Client) bool {
	if id.certificate == "" {
		return false
	}
	if c.Certificate == nil {
		return true
	}
	sum := sha256.Sum256(c.Certificate.Raw)
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(id.certificate)) != 1
}

func (b *bearer) audience(c claims) error {
	aud, err := c.audience()
	if err != nil {
		return err
	}
	if !slices.Contains(aud, b.cfg.Audience) {
		return badToken("it is for %q", clip(strings.Join(aud, ", ")))
	}
	return nil
}

func (b *bearer) identity(c claims, expires time.Time) (*identity, error) {
	id := &identity{
		issuer: b.issuer, subject: c.text("sub"), name: c.text("name"), login: c.text("preferred_username"), groups: c.list(b.cfg.GroupsClaim), scopes: c.scopes(),
		acr: c.text("acr"), bearer: true, client: c.text("client_id"), expires: expires,
	}
	if id.client == "" {
		id.client = c.text("azp")
	}
	if t, ok, err := c.time("auth_time"); ok && err == nil {
		id.authTime = t.Unix()
	}
	if v, has := c["cnf"]; has {
		// A token that is bound to a key is worth nothing without a proof of
		// that key: taken as a bearer token a stolen one would do.
		m, _ := v.(map[string]any)
		id.certificate, _ = m["x5t#S256"].(string)
		if len(m) != 1 || id.certificate == "" {
			return nil, badToken("it is bound to a key (cnf) by a proof that is not verified here, such as DPoP")
		}
	}
	if v := c["email_verified"]; v == true || v == "true" {
		id.email = c.text("email")
	}
	if id.subject == "" || len(id.subject) > 255 {
		return nil, badToken("it has no usable sub")
	}
	id.user = id.subject
	if b.cfg.UserClaim != "" && b.cfg.UserClaim != "sub" {
		id.user, _ = c.at(b.cfg.UserClaim).(string)
		if b.cfg.UserClaim == "email" {
			id.user = id.email
		}
	}
	if !plainText(id.user) {
		return nil, badToken("its claim %s, which names users, is missing or no plain text", b.cfg.UserClaim)
	}
	if !plainText(id.email) {
		id.email = ""
	}
	if !plainText(id.name) {
		id.name = ""
	}
	if !plainText(id.login) {
		id.login = ""
	}
	return id, nil
}

// inactiveTime is how long it is remembered that a token is none.
const inactiveTime = 10 * time.Second

// wrongRate is how many wrong tokens one client can have the issuer asked
// about.
var wrongRate = store.Rate{Requests: 30, Per: time.Minute}

// introspect asks the issuer about a token (RFC 7662). jwt is what the token
// itself says, or nil.
func (b *bearer) introspect(ctx context.Context, token, hash, asker string, jwt *identity) (*identity, error) {
	key := askedFolder + b.ring.hidden("token", hash)
	if sealed, ok, err := b.store.Get(ctx, key); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnavailable, err)
	} else if ok {
		if raw, err := b.ring.open(key, sealed); err == nil {
			return b.introspected(raw, jwt)
		}
	}
	limit := askedFolder + "wrong/" + asker
	if r, err := b.store.Allow(ctx, limit, wrongRate, 0); err == nil && r.Remaining == 0 {
		return nil, badToken("it was not asked about: this client has sent too many wrong ones")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	at := b.cfg.IntrospectionURL
	if at == "" {
		m, err := b.meta(ctx)
		if err != nil {
			return nil, err
		}
		if at = m.Introspection; at == "" {
			return nil, fmt.Errorf("%w: its metadata name no introspection endpoint", errUnavailable)
		}
	}
	body := url.Values{"token": {token}, "token_type_hint": {"access_token"}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	id := b.cfg.ClientID
	if id == "" {
		id = b.clientID
	}
	req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(b.secret.Reveal()))
	raw, _, err := ask(b.client, req)
	if err != nil {
		return nil, fmt.Errorf("%w: introspection: %w", errUnavailable, err)
	}
	who, err := b.introspected(raw, jwt)
	life := inactiveTime
	switch {
	case err == nil:
		life = time.Duration(b.cfg.Cache)
		if left := who.expires.Sub(b.now()); left < life {
			life = left
		}
	case !errors.Is(err, errToken):
		return nil, err
	default:
		_, _ = b.store.Allow(ctx, limit, wrongRate, 1)
	}
	if life > 0 {
		_ = b.store.Put(ctx, key, b.ring.seal(key, raw), life) // the next one asks again
	}
	return who, err
}

// introspected reads an introspection answer.
func (b *bearer) introspected(raw []byte, jwt *identity) (*identity, error) {
	c, err := parseClaims(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: introspection: %w", errUnavailable, errors.New("its answer is no JSON object"))
	}
	if c["active"] != true {
		return nil, badToken("the issuer says that it is not active")
	}
	if t := c.text("token_type"); t != "" && !strings.EqualFold(t, "bearer") && !strings.EqualFold(t, "access_token") && !strings.EqualFold(t, "at+jwt") {
		return nil, badToken("the issuer says that it is a %q", clip(t))
	}
	if iss := c.text("iss"); iss != "" && iss != b.issuer {
		return nil, badToken("it was issued by %q", clip(iss))
	}
	if jwt != nil {
		if _, bound := c["cnf"]; bound && jwt.certificate == "" {
			return nil, badToken("the issuer says that it is bound to a key, and it does not")
		}
		return jwt, nil // which the token's own claims were judged for
	}
	// aud may be left out (RFC 7662, 2.2), and a token of another API then
	// looks the same: that is refused.
	if err := b.audience(c); err != nil {
		return nil, err
	}
	expires := b.now().Add(time.Duration(b.cfg.Cache))
	if _, has := c["exp"]; has {
		if expires, err = c.times(b.now(), b.skew, false); err != nil {
			return nil, err
		}
	}
	if id := c.text("client_id"); c["sub"] == nil && id != "" {
		// A token that a program got for itself. It must not look like the user
		// whose subject is the same text (RFC 9700, 4.15).
		c["sub"] = "client:" + id
	}
	return b.identity(c, expires)
}

// bearerMetadata reads the metadata of an authorization server that is not
// the login's provider (RFC 8414, or OpenID Connect Discovery).
func bearerMetadata(ctx context.Context, client *http.Client, issuer string) (*metadata, error) {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil, err
	}
	insert := *u
	insert.Path = "/.well-known/oauth-authorization-server" + strings.TrimSuffix(u.Path, "/")
	var failed error
	for _, at := range []string{strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration", insert.String()} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
		if err != nil {
			return nil, err
		}
		body, _, err := ask(client, req)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		var m struct {
			metadata
			Issuer string `json:"issuer"`
		}
		if err := json.Unmarshal(body, &m); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", at, err))
			continue
		}
		if m.Issuer != issuer {
			return nil, fmt.Errorf("%s speaks for %q, not for %q", at, clip(m.Issuer), issuer)
		}
		if err := checkEndpoint(m.JWKS); err != nil {
			return nil, fmt.Errorf("%s: jwks_uri: %w", at, err)
		}
		if m.Introspection != "" {
			if err := checkEndpoint(m.Introspection); err != nil {
				return nil, fmt.Errorf("%s: introspection_endpoint: %w", at, err)
			}
		}
		return &m.metadata, nil
	}
	return nil, failed
}

// remembered keeps the metadata that read returns for an hour, and a failure
// for some seconds.
func remembered(now guard.Clock, read func(context.Context) (*metadata, error)) func(context.Context) (*metadata, error) {
	var mu sync.Mutex
	var known *metadata
	var failure error
	var at time.Time
	return func(ctx context.Context) (*metadata, error) {
		mu.Lock()
		defer mu.Unlock()
		switch age := now().Sub(at); {
		case known != nil && failure == nil && age < metadataLifetime, known != nil && failure != nil && age < metadataPause:
			return known, nil
		case failure != nil && age < metadataPause:
			return nil, failure
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
		defer cancel()
		m, err := read(ctx)
		at, failure = now(), nil
		if err != nil {
			failure = fmt.Errorf("%w: %w", errUnavailable, err)
			if known != nil {
				return known, nil
			}
			return nil, failure
		}
		known = m
		return m, nil
	}
}

// challenge returns the WWW-Authenticate field of an answer to a request with
// a token, or without one (RFC 6750, 3; RFC 9470 for acr).
func challenge(realm, code, description string, extra ...string) string {
	var b strings.Builder
	b.WriteString("Bearer realm=" + quoted(realm))
	if code != "" {
		b.WriteString(", error=" + quoted(code))
		if description != "" {
			b.WriteString(", error_description=" + quoted(description))
		}
	}
	for i := 0; i+1 < len(extra); i += 2 {
		b.WriteString(", " + extra[i] + "=" + quoted(extra[i+1]))
	}
	return b.String()
}

// quoted writes a quoted-string of visible ASCII.
func quoted(s string) string {
	return strconv.Quote(strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return '?'
		}
		return c
	}, s))
}
