package csrf

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
)

var layers = []*guard.Spec{{
	Name:     "csrf",
	Control:  "csrf",
	Does:     "Refuses state-changing requests and WebSocket handshakes that another site's page made, by Fetch-Metadata, Origin and Referer.",
	Blocking: true,
	Failure:  guard.FailClosed,
	Event:    "malicious_csrf",
	Reasons: []guard.Reason{
		{
			Name: "csrf-cross-site",
			Why:  "The browser says that a page of another site sent the request (Sec-Fetch-Site: cross-site).",
			Fix:  "List the page's origin in csrf.trusted-origins; for callbacks that browsers post (SAML, payment), add a [[route]] with modes = { csrf = \"off\" } and let the view check the message's own signature.",
		},
		{
			Name: "csrf-same-site",
			Why:  "The browser says that a sibling subdomain sent the request: whoever takes over one subdomain could act for users of all.",
			Fix:  "List the sibling's origin in csrf.trusted-origins.",
		},
		{
			Name: "csrf-origin",
			Why:  "The Origin is not ours: scheme, host or port differs.",
			Fix:  "If the page is yours, list its origin in csrf.trusted-origins. If Origin names this very site, the guard does not know its public name: let the proxy in front send X-Forwarded-Host and X-Forwarded-Proto and list it in deployment.trusted-proxies.",
		},
		{
			Name: "csrf-origin-invalid",
			Why:  "The Origin is null (a sandboxed frame, a local file, a redirect across sites) or no origin at all; neither can be ours.",
			Fix:  "Send forms from a page of this site that is not sandboxed.",
		},
		{
			Name: "csrf-referer",
			Why:  "An old browser sent neither Sec-Fetch-Site nor Origin, and the Referer is another site's.",
			Fix:  "List the page's origin in csrf.trusted-origins.",
		},
		{
			Name: "csrf-no-origin",
			Why:  "The request changes state with the visitor's session cookie and nothing says which page sent it. Every current browser does say.",
			Fix:  "Let API clients authenticate with a header (Authorization) instead of a cookie, or send Origin; for old browsers, csrf.token = true puts a token into the app's forms.",
		},
		{
			Name: "csrf-token",
			Why:  "The request changes state with the visitor's session cookie, nothing says which page sent it, and the token of the app's forms (csrf.token) is missing or somebody else's.",
			Fix:  "Load the form again; clients other than browsers send Origin, or authenticate with a header instead of a cookie.",
		},
		{
			Name: "csrf-get",
			Why:  "Another site's page loaded this address as an image, a frame, a script or by fetch, with the visitor's session cookie, and the app's source says that its view changes something on GET (CWE-352).",
			Fix:  "Let the view change nothing on GET. If other sites may do that (a pixel that counts), add a [[route]] with modes = { csrf = \"off\" }, or list their origin in csrf.trusted-origins. Links are not refused: people follow them.",
		},
		{
			Name: "csrf-websocket",
			Why:  "A WebSocket handshake with a session cookie came without Origin; browsers always send it (RFC 6455 section 10.2), and cookies alone would let any site open the socket (CWE-1385).",
			Fix:  "Let native clients send Origin, or authenticate with a header.",
		},
	},
}}

// protection is the layer that asks where a request comes from.
//
// It follows net/http.CrossOriginProtection where that refuses, and is
// stricter where it allows: an Origin must be ours with scheme and port, not
// only by host; null and user names in it are refused; WebSocket handshakes
// are checked although they are GETs; and a session cookie without any word
// about the sender is refused.
type protection struct {
	trusted []guard.Origin
	cookies []string
	facts   func() guard.Facts
	token   *token // nil: csrf.token is off
	policy  func() *policy.Policy
}

// NewCSRF makes the csrf layer.
func NewCSRF(cfg Config, env guard.Env) (guard.Layer, error) {
	l := &protection{cookies: cfg.SessionCookies, facts: env.Facts, policy: env.Policy}
	for _, s := range cfg.TrustedOrigins {
		o, err := guard.ParseOrigin(s)
		if err != nil {
			return nil, fmt.Errorf("csrf.trusted-origins: %w", err)
		}
		l.trusted = append(l.trusted, o)
	}
	if cfg.Token {
		var err error
		if l.token, err = newToken(env.Store); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Request implements [guard.Layer].
func (l *protection) Request(x *guard.Exchange) guard.Decision {
	r := x.Request
	if l.token != nil {
		l.token.take(x)
	}
	upgrade := len(r.Header["Upgrade"]) > 0
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		if !upgrade {
			return l.get(x)
		}
	}
	own, known := x.Client.Origin()
	// Both are forbidden header names: no page can set or change them.
	site, hasSite := one(r.Header["Sec-Fetch-Site"])
	hasSite = hasSite && site != "" // an empty one says nothing
	origin, hasOrigin := one(r.Header["Origin"])

	if hasOrigin {
		o, err := guard.ParseOrigin(origin)
		switch {
		case errors.Is(err, guard.ErrOpaqueOrigin) && site == "same-origin" && !upgrade:
			// A form of ours under Referrer-Policy: no-referrer sends null
			// (Fetch standard, "append a request Origin header"). A
			// sandboxed frame's would come with cross-site.
			return guard.Pass()
		case err != nil:
			if len(origin) > 100 {
				origin = origin[:100]
			}
			return refuse("csrf-origin-invalid", "Origin %q", origin)
		case slices.Contains(l.trusted, o):
			return guard.Pass()
		case !known || o != own:
			d := bySite(site)
			if d.Verdict == guard.Allow {
				d = refuse("csrf-origin", "Origin %s at %s://%s", o, x.Client.Scheme, x.Client.Host)
			} else {
				d.Detail += ", Origin " + o.String()
			}
			if upgrade {
				return d
			}
			return l.bearer(x, d)
		}
		// Ours. What the browser says about the way (a redirect through
		// another site) still counts.
		return bySite(site)
	}
	if hasSite && !upgrade {
		return bySite(site)
	}

	// Nothing says who sent it: an old browser or no browser at all. Only
	// what a browser attaches by itself can be abused.
	if !x.Identity.Ambient && (!l.credentialed(r) || apiToken(r)) {
		return guard.Pass()
	}
	if upgrade {
		return refuse("csrf-websocket", "WebSocket handshake with a session cookie and no Origin")
	}
	if referer, ok := one(r.Header["Referer"]); ok && referer != "" {
		o, err := refererOrigin(referer)
		if err == nil && (known && o == own || slices.Contains(l.trusted, o)) {
			return guard.Pass()
		}
		if err != nil {
			return refuse("csrf-referer", "Referer is no URL")
		}
		return refuse("csrf-referer", "Referer from %s", o)
	}
	if l.token != nil {
		if why := l.token.check(x); why != "" {
			return refuse("csrf-token", "%s", why)
		}
		return guard.Pass()
	}
	return refuse("csrf-no-origin", "%s with a session cookie, without Sec-Fetch-Site, Origin and Referer", r.Method)
}

// get is the verdict on a request that should change nothing. Where the source
// says that it does, no other site's page may make it in passing. A navigation
// of the visitor's (a link in a mail, the way back from a login elsewhere) is
// let go: Fetch Metadata cannot tell whether he meant it.
func (l *protection) get(x *guard.Exchange) guard.Decision {
	r := x.Request
	site, _ := one(r.Header["Sec-Fetch-Site"])
	if site != "cross-site" && site != "same-site" || l.policy == nil || r.Method == http.MethodOptions {
		return guard.Pass()
	}
	mode, _ := one(r.Header["Sec-Fetch-Mode"])
	dest, _ := one(r.Header["Sec-Fetch-Dest"])
	if mode == "navigate" && dest == "document" || !x.Match(l.policy()).Writes() || !l.credentialed(r) {
		return guard.Pass()
	}
	if origin, ok := one(r.Header["Origin"]); ok {
		if o, err := guard.ParseOrigin(origin); err == nil && slices.Contains(l.trusted, o) {
			return guard.Pass()
		}
	}
	return refuse("csrf-get", "Sec-Fetch-Site: %s, Sec-Fetch-Dest: %q", site, dest)
}

// bearer lets d go when the request proves itself with an API token and no
// session cookie: a public API that another site's page calls with its own
// token, allowed by the app's CORS policy, uses nobody's authority but the
// token's.
func (l *protection) bearer(x *guard.Exchange, d guard.Decision) guard.Decision {
	if r := x.Request; apiToken(r) && !l.credentialed(r) && !x.Identity.Ambient {
		return guard.Pass()
	}
	return d
}

// bySite is the verdict on Sec-Fetch-Site alone.
func bySite(site string) guard.Decision {
	switch site {
	case "", "same-origin", "none": // none: the visitor, not a page
		return guard.Pass()
	case "same-site":
		return refuse("csrf-same-site", "Sec-Fetch-Site: same-site")
	}
	return refuse("csrf-cross-site", "Sec-Fetch-Site: %q", site)
}

func refuse(reason, format string, args ...any) guard.Decision {
	return guard.Refuse(http.StatusForbidden, reason, fmt.Sprintf(format, args...))
}

// one returns a field's value. More than one (the request layer refuses them,
// unless it only observes) are returned as what they would be in CGI, which
// is no valid value of the fields asked for here.
func one(values []string) (string, bool) {
	switch len(values) {
	case 0:
		return "", false
	case 1:
		return values[0], true
	}
	return strings.Join(values, ","), true
}

// refererOrigin returns the origin of a Referer, which is a URL.
func refererOrigin(s string) (guard.Origin, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return guard.Origin{}, errors.New("no scheme")
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return guard.ParseOrigin(scheme + "://" + rest)
}

// apiToken reports whether the request carries an Authorization that no
// browser attaches by itself. Basic, Digest, Negotiate and NTLM are attached
// to every request once the visitor has logged in.
func apiToken(r *http.Request) bool {
	v, ok := one(r.Header["Authorization"])
	if !ok {
		return false
	}
	scheme, token, _ := strings.Cut(strings.TrimSpace(v), " ")
	switch strings.ToLower(scheme) {
	case "", "basic", "digest", "negotiate", "ntlm":
		return false
	}
	return strings.TrimSpace(token) != ""
}

// credentialed reports whether a cookie proves who the visitor is.
func (l *protection) credentialed(r *http.Request) bool {
	var f guard.Facts
	asked := false
	for _, line := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			name, _, _ := strings.Cut(pair, "=")
			name = strings.Trim(name, " \t")
			if name == "" {
				continue
			}
			if sessionLike(name) || slices.Contains(l.cookies, name) {
				return true
			}
			if !asked && l.facts != nil {
				f, asked = l.facts(), true
			}
			if name == f.SessionCookieName || name == f.RememberCookieName {
				return true
			}
		}
	}
	return false
}

// sessionLike reports whether a cookie's name sounds like a proof of
// identity. A cookie that only sounds like one costs a client without Origin
// a refusal; one that is missed costs a user his account.
func sessionLike(name string) bool {
	n := strings.ToLower(name)
	n = strings.TrimPrefix(strings.TrimPrefix(n, "__host-"), "__secure-")
	if strings.Contains(n, "csrf") || strings.Contains(n, "xsrf") {
		return false
	}
	for _, w := range [...]string{"sess", "auth", "token", "jwt", "remember", "login", "userid", "user_id"} {
		if strings.Contains(n, w) {
			return true
		}
	}
	return n == "sid" || strings.HasSuffix(n, ".sid") || strings.HasSuffix(n, "_sid") || n == "user"
}

// Health implements [guard.Reporter].
func (l *protection) Health() error {
	if l.token != nil {
		return l.token.health()
	}
	return nil
}

// Describe implements [guard.Reporter].
func (l *protection) Describe() string {
	s := "only our own origin may change state"
	if len(l.trusted) > 0 {
		s = fmt.Sprintf("our own origin and %d trusted ones may change state", len(l.trusted))
	}
	if l.token != nil {
		s += fmt.Sprintf("; a token in forms speaks for clients that do not say where they come from (%d pages changed)", l.token.pages.Load())
	}
	return s
}
