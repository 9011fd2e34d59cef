package authn

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
)

// Config is the [authn] section of dewar.toml: who may ask for what, and who
// says who is asking. With neither a provider nor bearer tokens there is
// nobody to ask, and the layer is off.
type Config struct {
	Mode       guard.Mode `toml:"mode" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the authn layer. It is off as long as neither authn.provider.issuer nor authn.bearer.audience is set."`
	Default    string     `toml:"default" default:"anyone" jsonschema:"enum=anyone,enum=login" jsonschema_description:"Who may ask for what no [[authn.rule]] names: anyone, or whoever has logged in (login). The app's static files and health checks, as the route map knows them, stay open."`
	Protect    string     `toml:"protect" default:"rules" jsonschema:"enum=rules,enum=source" jsonschema_description:"What needs a login beside the rules: nothing more (rules), or also every route whose view asks for one in the source, and every admin route (source)."`
	Path       string     `toml:"path" default:"/_dewar/auth" jsonschema_description:"Where the guard's own addresses lie: PATH/login, /callback, /logout, /backchannel-logout and /keys. No route of the app may have them."`
	RemoteUser bool       `toml:"remote-user" jsonschema_description:"Tell the app who asks as REMOTE_USER in the WSGI environment, too: for an app that dewar run starts. flask.request.remote_user reads it."`
	Identity   string     `toml:"identity" default:"headers" jsonschema:"enum=headers,enum=off" jsonschema_description:"Tell the app who asks in X-Forwarded-User, -Email, -Preferred-Username and -Groups, and in X-Dewar-Assertion, a token signed with ES256 whose keys are at PATH/keys (headers), or not at all (off)."`
	Secrets    []string   `toml:"secrets" jsonschema_description:"The secrets, each as env:NAME or file:/path, of which the keys are made that seal sessions and sign assertions; at least 32 characters, the same on every node. The first one seals, all of them open: put a new one first, and take the old one away a day later. Empty: store.secret when nodes share a store, else a random one in a file of this project's state that only you can read."`
	Provider   Provider   `toml:"provider" jsonschema_description:"The OpenID Connect provider that people log in at."`
	Session    Session    `toml:"session" jsonschema_description:"How long a login lasts."`
	Bearer     Bearer     `toml:"bearer" jsonschema_description:"Access tokens in the Authorization header (RFC 6750)."`
	Rules      []Rule     `toml:"rule" jsonschema_description:"Who may ask for what, each an [[authn.rule]] table; the first that matches applies."`
}

// Provider is the [authn.provider] section: an OpenID Connect provider and
// this site as its client.
type Provider struct {
	Issuer         string         `toml:"issuer" jsonschema_description:"The provider's issuer, exactly as it spells it, such as https://id.example.com/realms/shop. Its metadata are read from there (OpenID Connect Discovery)."`
	ClientID       string         `toml:"client-id" jsonschema_description:"The client's id at the provider."`
	ClientSecret   string         `toml:"client-secret" jsonschema_description:"The client's secret, as env:NAME or file:/path. Empty: a public client, which only PKCE protects."`
	Scopes         []string       `toml:"scopes" default:"openid,profile,email" jsonschema_description:"What to ask for; openid is always among it. offline_access makes some providers give a refresh token."`
	Origin         string         `toml:"origin" jsonschema_description:"This site's public origin, such as https://shop.example.com: the redirect URI to register is ORIGIN/_dewar/auth/callback. Empty: the origin that each visitor asked for."`
	ResponseMode   string         `toml:"response-mode" default:"query" jsonschema:"enum=query,enum=form_post" jsonschema_description:"How the provider's answer comes: query (a redirect), or form_post (a form; the cookie of a login under way is then SameSite=None)."`
	Algorithms     []string       `toml:"algorithms" default:"RS256,PS256,ES256,EdDSA" jsonschema_description:"Signature algorithms that are accepted in ID and logout tokens. Only public-key ones can be listed."`
	MaxAge         guard.Duration `toml:"max-age" jsonschema_description:"How long ago the visitor may have proven who they are at the provider when a login starts here (max_age); 0 asks for nothing."`
	ACR            []string       `toml:"acr" jsonschema_description:"Authentication contexts (acr) of which a login must have one; they are asked for. Empty: any."`
	Prompt         string         `toml:"prompt" jsonschema:"enum=,enum=login,enum=consent,enum=select_account" jsonschema_description:"What the provider shall ask the visitor at every login: login, consent or select_account."`
	UserClaim      string         `toml:"user-claim" default:"sub" jsonschema_description:"The claim that names the user to the app, such as preferred_username. Only sub is never given to another person later. A dot leads into an object; roles come from groups-claim."`
	GroupsClaim    string         `toml:"groups-claim" default:"groups" jsonschema_description:"The claim with groups or roles, such as realm_access.roles; a dot leads into an object."`
	UserInfo       bool           `toml:"userinfo" jsonschema_description:"Ask the UserInfo endpoint, too, for claims that the ID token lacks."`
	Logout         string         `toml:"logout" default:"provider" jsonschema:"enum=provider,enum=local" jsonschema_description:"What PATH/logout ends: the session here and the one at the provider (OpenID Connect RP-Initiated Logout), or only the one here (local)."`
	AfterLogout    string         `toml:"after-logout" default:"/" jsonschema_description:"Path of this site that is shown after a logout."`
	CAFile         string         `toml:"ca-file" jsonschema_description:"PEM file of the authority that the provider's certificate is by, when it is a private one."`
	ClockSkew      guard.Duration `toml:"clock-skew" default:"30s" jsonschema_description:"How far the provider's clock may be from ours; at most 5m."`
	AllowedDomains []string       `toml:"email-domains" jsonschema_description:"Only people with a verified email address in one of these domains may log in. Empty: everybody whom the provider lets."`
}

// Session is the [authn.session] section.
type Session struct {
	Idle     guard.Duration `toml:"idle" default:"1h" jsonschema_description:"A session ends when nothing was asked for so long."`
	Absolute guard.Duration `toml:"absolute" default:"12h" jsonschema_description:"A session ends so long after the login, whatever happens."`
	Refresh  bool           `toml:"refresh" default:"true" jsonschema_description:"Renew the provider's tokens with the refresh token when they expire: a user whom the provider has locked is out then. Without a refresh token the session lasts as long as idle and absolute say."`
}

// Bearer is the [authn.bearer] section: access tokens.
type Bearer struct {
	Audience         string         `toml:"audience" jsonschema_description:"The name of this API in the token's aud. Bearer tokens are accepted only with it."`
	Issuer           string         `toml:"issuer" jsonschema_description:"Who issues the tokens. Empty: authn.provider.issuer."`
	JWKSURL          string         `toml:"jwks-url" jsonschema_description:"Where the issuer's keys are. Empty: as its metadata say (RFC 8414, OpenID Connect Discovery)."`
	Algorithms       []string       `toml:"algorithms" default:"RS256,PS256,ES256,EdDSA" jsonschema_description:"Signature algorithms that are accepted. Only public-key ones can be listed."`
	Types            []string       `toml:"types" default:"at+jwt" jsonschema_description:"Values of the token's typ that are accepted. RFC 9068 wants at+jwt, so that an ID token is not taken for an access token; older providers write JWT."`
	UserClaim        string         `toml:"user-claim" default:"sub" jsonschema_description:"The claim that names the user to the app."`
	GroupsClaim      string         `toml:"groups-claim" default:"groups" jsonschema_description:"The claim with groups or roles."`
	Introspection    string         `toml:"introspection" default:"off" jsonschema:"enum=off,enum=opaque,enum=always" jsonschema_description:"Ask the issuer about tokens (RFC 7662): never, about those that are no JWT (opaque), or about every one (always), so that a revoked one is refused."`
	IntrospectionURL string         `toml:"introspection-url" jsonschema_description:"The introspection endpoint. Empty: as the issuer's metadata say."`
	ClientID         string         `toml:"client-id" jsonschema_description:"Who asks at the introspection endpoint. Empty: authn.provider.client-id."`
	ClientSecret     string         `toml:"client-secret" jsonschema_description:"The secret for that, as env:NAME or file:/path. Empty: authn.provider.client-secret."`
	Cache            guard.Duration `toml:"cache" default:"1m" jsonschema_description:"How long an introspected token is believed without asking again, at most until it expires: so long can a revoked one still be used."`
}

// Rule says who may ask for some paths.
type Rule struct {
	Path      string   `toml:"path" jsonschema_description:"Pattern on the decoded path: * matches within a segment, ** across segments, /admin/** also matches /admin."`
	Methods   []string `toml:"methods" jsonschema_description:"Methods the rule is for; empty means all."`
	Require   string   `toml:"require" jsonschema_description:"anyone, or login. Empty means login."`
	Roles     []string `toml:"roles" jsonschema_description:"Groups or roles of which the user must have one."`
	AllRoles  []string `toml:"all-roles" jsonschema_description:"Groups or roles of which the user must have every one."`
	Scopes    []string `toml:"scopes" jsonschema_description:"Scopes of which the token must have one."`
	AllScopes []string `toml:"all-scopes" jsonschema_description:"Scopes of which the token must have every one."`
	ACR       []string `toml:"acr" jsonschema_description:"Authentication contexts of which the login must have one: the visitor is sent to the provider to prove more (RFC 9470)."`
	By        string   `toml:"by" jsonschema_description:"How the identity must be proven: session (a login), bearer (a token), or empty for either."`
}

// enabled reports whether somebody vouches for visitors.
func (c *Config) enabled() bool { return c.Provider.Issuer != "" || c.Bearer.Audience != "" }

// LayerMode is the mode of the authn layer: off while nobody vouches for
// anybody.
func (c *Config) LayerMode() guard.Mode {
	if !c.enabled() {
		return guard.Off
	}
	return c.Mode
}

// Idle says why the layer is off, or "".
func (c *Config) Idle() string {
	if !c.enabled() {
		return "not configured: nobody vouches for a visitor (authn.provider.issuer or authn.bearer.audience)"
	}
	return ""
}

// publicKeyAlgorithms are those whose verifying key is no secret. With a MAC
// a provider's public key could be used as the secret of a forged token
// (CVE-2015-9235), and "none" proves nothing.
var publicKeyAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// maxSkew bounds clock-skew.
const maxSkew = 5 * time.Minute

// Problems reports settings that cannot be used.
func (c *Config) Problems() []guard.Problem {
	var out []guard.Problem
	bad := func(key, format string, args ...any) {
		out = append(out, guard.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	secret := func(key, ref string) {
		if ref != "" && !strings.HasPrefix(ref, "env:") && !strings.HasPrefix(ref, "file:") {
			bad(key, "write env:NAME or file:/path: a secret has no place in a settings file")
		}
	}
	endpoint := func(key, s string) {
		if s == "" {
			return
		}
		if err := checkEndpoint(s); err != nil {
			bad(key, "%v", err)
		}
	}
	algorithms := func(key string, list []string) {
		for _, a := range list {
			if !slices.Contains(publicKeyAlgorithms, a) {
				bad(key, "%q is no public-key signature: write some of %s", a, strings.Join(publicKeyAlgorithms, ", "))
			}
		}
	}
	for _, s := range c.Secrets {
		secret("secrets", s)
		if s == "" {
			bad("secrets", "an empty one")
		}
	}
	if c.Path != "" && !plainPath(c.Path) {
		bad("path", "%q is no plain path: write something like /_dewar/auth", c.Path)
	}

	p := &c.Provider
	endpoint("provider.issuer", p.Issuer)
	if strings.ContainsAny(p.Issuer, "?#") {
		bad("provider.issuer", "an issuer has no query and no fragment")
	}
	secret("provider.client-secret", p.ClientSecret)
	algorithms("provider.algorithms", p.Algorithms)
	if p.Issuer != "" && p.ClientID == "" {
		bad("provider.client-id", "which client is this site at %s?", p.Issuer)
	}
	if p.Issuer == "" && p.ClientID != "" {
		bad("provider.issuer", "client-id is set, and no issuer")
	}
	if p.Origin != "" {
		if o, err := guard.ParseOrigin(p.Origin); err != nil {
			bad("provider.origin", "%v", err)
		} else if o.String() != p.Origin {
			bad("provider.origin", "write it as %s", o)
		}
	}
	if p.AfterLogout != "" && returnPath(p.AfterLogout) != p.AfterLogout {
		bad("provider.after-logout", "%q is no path of this site", p.AfterLogout)
	}
	if d := time.Duration(p.ClockSkew); d < 0 || d > maxSkew {
		bad("provider.clock-skew", "%s: at most %s, or expired tokens live on", p.ClockSkew, guard.Duration(maxSkew))
	}
	for _, s := range p.Scopes {
		if s == "" || strings.ContainsAny(s, " \"\\") {
			bad("provider.scopes", "%q is no scope: list them one by one", s)
		}
	}
	if d := time.Duration(p.MaxAge); d%time.Second != 0 {
		bad("provider.max-age", "%s: whole seconds only", p.MaxAge)
	}

	s := &c.Session
	if s.Idle != 0 && s.Absolute != 0 && s.Idle > s.Absolute {
		bad("session.idle", "%s is longer than session.absolute, %s", s.Idle, s.Absolute)
	}
	if d := time.Duration(s.Absolute); d > 90*24*time.Hour {
		bad("session.absolute", "%s: at most 90 days", s.Absolute)
	}
	if d := time.Duration(s.Idle); d != 0 && d < time.Minute {
		bad("session.idle", "%s: at least a minute", s.Idle)
	}

	b := &c.Bearer
	endpoint("bearer.issuer", b.Issuer)
	endpoint("bearer.jwks-url", b.JWKSURL)
	endpoint("bearer.introspection-url", b.IntrospectionURL)
	secret("bearer.client-secret", b.ClientSecret)
	algorithms("bearer.algorithms", b.Algorithms)
	if b.Audience != "" && b.Issuer == "" && p.Issuer == "" {
		bad("bearer.issuer", "who issues the tokens for %s?", b.Audience)
	}
	if b.Audience == "" && (b.Issuer != "" || b.JWKSURL != "" || b.Introspection != "" && b.Introspection != "off") {
		bad("bearer.audience", "tokens for whom? Without an audience a token for another API would do here")
	}
	if b.Introspection != "" && b.Introspection != "off" && b.ClientSecret == "" && p.ClientSecret == "" {
		bad("bearer.client-secret", "an issuer does not tell just anybody about tokens (RFC 7662, 2.1): give the credentials")
	}
	if d := time.Duration(b.Cache); d > time.Hour {
		bad("bearer.cache", "%s: a revoked token could be used for so long; at most 1h", b.Cache)
	}

	for i := range c.Rules {
		r := &c.Rules[i]
		where := fmt.Sprintf("rule %q: ", r.Path)
		if err := guard.CheckPattern(r.Path); err != nil {
			bad("rule", "%v", err)
		}
		for _, m := range r.Methods {
			if m == "" || strings.ToUpper(m) != m || strings.ContainsAny(m, " \t,;") {
				bad("rule", "%s%q is no method: write it in capital letters", where, m)
			}
		}
		switch r.Require {
		case "", "login":
		case "anyone":
			if len(r.Roles)+len(r.AllRoles)+len(r.Scopes)+len(r.AllScopes)+len(r.ACR) > 0 || r.By != "" {
				bad("rule", "%srequire = \"anyone\" and more: anyone has no roles", where)
			}
		default:
			bad("rule", "%srequire = %q: write \"anyone\" or \"login\"", where, r.Require)
		}
		switch r.By {
		case "":
		case "session":
			if p.Issuer == "" {
				bad("rule", "%sby = \"session\", and there is no provider to log in at", where)
			}
		case "bearer":
			if b.Audience == "" {
				bad("rule", "%sby = \"bearer\", and bearer.audience is not set", where)
			}
		default:
			bad("rule", "%sby = %q: write \"session\" or \"bearer\"", where, r.By)
		}
	}
	if !c.enabled() && (len(c.Rules) > 0 || c.Default == "login" || c.Protect == "source") {
		key := "default"
		if len(c.Rules) > 0 {
			key = "rule"
		} else if c.Protect == "source" {
			key = "protect"
		}
		bad(key, "somebody must vouch for visitors: set provider.issuer or bearer.audience")
	}
	return out
}

// checkEndpoint reports why s is no address to get keys and tokens from: https
// it must be, except on this machine (RFC 8414, 2).
func checkEndpoint(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("%q is no URL such as https://id.example.com", s)
	}
	switch {
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%q is not https: whoever stands between could vouch for anybody", s)
}

// loopback reports whether a host is this machine.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// plainPath reports whether p is a path of letters, digits and -._~ with no
// slash at its end.
func plainPath(p string) bool {
	if len(p) < 2 || p[0] != '/' || p[len(p)-1] == '/' || strings.Contains(p, "//") {
		return false
	}
	for seg := range strings.SplitSeq(p[1:], "/") {
		if seg == "." || seg == ".." {
			return false
		}
	}
	return strings.Trim(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/") == ""
}

// maxReturn bounds the address that a login comes back to, in bytes.
const maxReturn = 512

// returnPath returns s if it is a path (with a query) of this very site, or
// else "/": a login that ends somewhere else is an open redirect (CWE-601).
// What browsers read as another host is none: //evil, /\evil, and what hides
// such a start behind characters that they leave out.
func returnPath(s string) string {
	if len(s) == 0 || len(s) > maxReturn || s[0] != '/' || len(s) > 1 && s[1] == '/' {
		return "/"
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '\\' || c == '#' {
			return "/"
		}
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || strings.HasPrefix(u.Path, "//") {
		return "/"
	}
	if strings.Contains(u.Path, `\`) {
		return "/"
	}
	for seg := range strings.SplitSeq(u.Path, "/") {
		if seg == "." || seg == ".." {
			return "/" // /.//evil is //evil once the dot is gone
		}
	}
	return s
}
