package authn

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/dewar-security/dewar/internal/guard"
)

// Header fields that say who asks. The client layer takes the client's own
// away, whatever the mode of this one; a trusted proxy's go here, too: where
// the guard says who asks, nobody else does.
const (
	userField      = "X-Forwarded-User"
	emailField     = "X-Forwarded-Email"
	nameField      = "X-Forwarded-Preferred-Username"
	groupsField    = "X-Forwarded-Groups"
	assertionField = "X-Dewar-Assertion"
	// remoteUserField becomes REMOTE_USER in the hook of the app's gunicorn.
	remoteUserField = "X-Dewar-Remote-User"
)

// strip takes every such field away, in every spelling that CGI makes one
// variable of.
func strip(r *http.Request) {
	for _, f := range [...]string{userField, emailField, nameField, groupsField, assertionField, remoteUserField} {
		delete(r.Header, f)
	}
	for name := range r.Header {
		if strings.IndexByte(name, '_') < 0 {
			continue
		}
		switch http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")) {
		case userField, emailField, nameField, groupsField, assertionField, remoteUserField:
			delete(r.Header, name)
		}
	}
}

// identify tells the layers behind, and the app, who asks.
func (l *layer) identify(x *guard.Exchange, id *identity) {
	x.Identity.Subject, x.Identity.Issuer, x.Identity.Ambient = id.subject, id.issuer, !id.bearer
	x.Identity.Roles = id.groups
	if len(id.scopes) > 0 {
		roles := make([]string, 0, len(id.groups)+len(id.scopes))
		x.Identity.Roles = append(append(roles, id.groups...), id.scopes...)
	}
	h := x.Request.Header
	if l.cfg.RemoteUser {
		h[remoteUserField] = []string{id.user}
	}
	if l.cfg.Identity == "off" {
		return
	}
	h[userField] = []string{id.user}
	if id.email != "" {
		h[emailField] = []string{id.email}
	}
	if id.login != "" {
		h[nameField] = []string{id.login}
	}
	if len(id.groups) > 0 {
		// A group whose name holds a comma would be two to whoever splits the
		// field; the assertion has it.
		var plain []string
		size := 0
		for _, g := range id.groups {
			if plainText(g) && !strings.Contains(g, ",") && size < 4096 {
				plain, size = append(plain, g), size+len(g)+1
			}
		}
		if len(plain) > 0 {
			h[groupsField] = []string{strings.Join(plain, ",")}
		}
	}
	if origin, ok := x.Client.Origin(); ok {
		if a := l.assert.about(origin.String(), id); a != "" {
			h[assertionField] = []string{a}
		}
	}
}

// asserter signs for the app who asks: with ES256, so that what the app holds
// to verify it cannot make one.
type asserter struct {
	signer jose.Signer
	jwks   []byte
	now    guard.Clock
	recent *lru[*assertion]
}

// assertion is the last one about somebody.
type assertion struct {
	mu     sync.Mutex
	origin string
	text   string
	until  time.Time // when it is to be made anew
}

// assertionLife is how long an assertion is valid. It is made anew when half
// of that is over.
const assertionLife = 2 * time.Minute

func newAsserter(r *ring, now guard.Clock) *asserter {
	var set jose.JSONWebKeySet
	for _, k := range r.all {
		public := jose.JSONWebKey{Key: k.assertion.Public(), Algorithm: string(jose.ES256), Use: "sig"}
		if t, err := public.Thumbprint(crypto.SHA256); err == nil {
			public.KeyID = base64.RawURLEncoding.EncodeToString(t)
		}
		set.Keys = append(set.Keys, public)
	}
	key := jose.JSONWebKey{Key: r.all[0].assertion, KeyID: set.Keys[0].KeyID, Algorithm: string(jose.ES256)}
	signer, _ := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType("JWT")) // the key fits
	return &asserter{signer: signer, jwks: jsonText(set), now: now, recent: newLRU[*assertion](8192)}
}

// about returns an assertion about id for the app at origin, which is its
// audience and its issuer's name.
func (a *asserter) about(origin string, id *identity) string {
	now := a.now()
	last := id.signed
	if last == nil {
		sum := sha256.Sum256(jsonText([]any{id.issuer, id.subject, id.user, id.email, id.name, id.login, id.acr, id.groups, id.scopes, id.expires.Unix(), id.client}))
		known := false
		if last, known = a.recent.get(string(sum[:])); !known {
			last = &assertion{}
			a.recent.put(string(sum[:]), last)
		}
	}
	last.mu.Lock()
	defer last.mu.Unlock()
	if last.origin == origin && now.Before(last.until) {
		return last.text
	}
	b := make([]byte, 12)
	_, _ = rand.Read(b)
	ends := now.Add(assertionLife)
	if id.expires.Before(ends) {
		ends = id.expires
	}
	claims := map[string]any{
		"iss": origin, "aud": origin, "sub": id.user, "iat": now.Unix(), "exp": ends.Unix(), "jti": base64.RawURLEncoding.EncodeToString(b),
		"idp": id.issuer, "idp_sub": id.subject, "by": "session",
	}
	if id.bearer {
		claims["by"] = "bearer"
	}
	for name, v := range map[string]string{"email": id.email, "name": id.name, "preferred_username": id.login, "acr": id.acr, "client_id": id.client} {
		if v != "" {
			claims[name] = v
		}
	}
	if len(id.groups) > 0 {
		claims["groups"] = id.groups
	}
	if len(id.scopes) > 0 {
		claims["scope"] = strings.Join(id.scopes, " ")
	}
	if id.authTime != 0 {
		claims["auth_time"] = id.authTime
	}
	payload := jsonText(claims)
	if len(payload) > 4096 {
		delete(claims, "groups") // too many for a header field: the app has to ask
		claims["groups_left_out"] = len(id.groups)
		payload = jsonText(claims)
	}
	signed, err := a.signer.Sign(payload)
	if err != nil {
		return ""
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		return ""
	}
	last.origin, last.text, last.until = origin, text, now.Add(assertionLife/2)
	if ends.Before(last.until) {
		last.until = ends
	}
	return text
}
