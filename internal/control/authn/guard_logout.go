package authn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
)

// logout ends the visitor's session: here, and at the provider if the settings
// say so (OpenID Connect RP-Initiated Logout 1.0).
func (l *layer) logout(x *guard.Exchange, own ownCookies) guard.Decision {
	r := x.Request
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return notAllowed(r.Method, "GET, POST")
	}
	if !ownPage(x) {
		d := guard.Refuse(http.StatusForbidden, "authn-logout-cross-site", fmt.Sprintf("Sec-Fetch-Site %q, Origin %q", clip(r.Header.Get("Sec-Fetch-Site")), clip(r.Header.Get("Origin"))))
		d.Event = "malicious_csrf"
		return d
	}
	ctx := r.Context()
	to := l.cfg.Provider.AfterLogout
	var about map[string]string
	cookies := []string{setCookie(x, sessionCookie, "", 0, false)}
	if own.flow != "" {
		cookies = append(cookies, l.flowsCookie(x, nil))
	}
	if key := l.sessions.key(own.login); key != "" {
		c, err := l.sessions.get(ctx, key)
		if err == nil && c != nil {
			var given tokens
			if given, err = l.sessions.given(ctx, key); err == nil {
				err = l.sessions.end(ctx, key)
			}
			if err == nil {
				to, about = l.farewell(x, given), map[string]string{"session": c.s.Handle, "by": "user"}
			}
		}
		if err != nil {
			return l.unavailable(err) // a logout that did not happen must not look like one
		}
	}
	return guard.Decision{Verdict: guard.Answer, Status: http.StatusSeeOther, Reason: "authn-logged-out", Event: logoutEvent, Severity: event.Info, Attributes: about, Header: http.Header{
		"Location": {to}, "Set-Cookie": cookies, "Clear-Site-Data": {`"cache"`}, "Referrer-Policy": {"no-referrer"},
	}}
}

// farewell takes leave of the provider: what it gave is given back, and the
// address returned ends its session, too.
func (l *layer) farewell(x *guard.Exchange, given tokens) string {
	to := l.cfg.Provider.AfterLogout
	m, err := l.provider.get(x.Request.Context())
	if err != nil {
		return to
	}
	if m.Revocation != "" && given.Refresh != "" {
		// RFC 7009. Nobody waits for it, and it ends within askTimeout.
		go l.provider.revoke(m, given.Refresh)
	}
	if l.cfg.Provider.Logout == "local" || m.EndSession == "" {
		return to
	}
	origin, known := l.origin(x)
	u, err := url.Parse(m.EndSession)
	if err != nil || !known {
		return to
	}
	q := u.Query()
	q.Set("client_id", l.cfg.Provider.ClientID)
	q.Set("post_logout_redirect_uri", origin+to)
	if given.ID != "" {
		q.Set("id_token_hint", given.ID)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// revoke gives a refresh token back.
func (p *provider) revoke(m *metadata, token string) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	v := url.Values{"token": {token}, "token_type_hint": {"refresh_token"}}
	if p.secret.IsZero() {
		v.Set("client_id", p.cfg.ClientID)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.Revocation, strings.NewReader(v.Encode()))
	if err != nil {
		return
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if !p.secret.IsZero() {
		req.SetBasicAuth(url.QueryEscape(p.cfg.ClientID), url.QueryEscape(p.secret.Reveal()))
	}
	_, _, _ = ask(p.client, req) // the token expires some day
}

// ownPage reports whether no other site's page made the request. A browser
// that says nothing sent a link that somebody typed or followed; a form it
// sends with an Origin.
func ownPage(x *guard.Exchange) bool {
	r := x.Request
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "":
	default:
		return false
	}
	own, known := x.Client.Origin()
	if v := r.Header.Get("Origin"); v != "" {
		o, err := guard.ParseOrigin(v)
		return err == nil && known && o == own
	}
	if v := r.Header.Get("Referer"); v != "" {
		u, err := url.Parse(v)
		if err != nil {
			return false
		}
		o, err := guard.ParseOrigin(u.Scheme + "://" + u.Host)
		return err == nil && known && o == own
	}
	return r.Method == http.MethodGet
}

// logoutEventName is the member of events that makes a token a logout token
// (OpenID Connect Back-Channel Logout 1.0, 2.4).
const logoutEventName = "http://schemas.openid.net/event/backchannel-logout"

// logoutTokenLife is how old a logout token may be that says of itself that it
// is valid for longer.
const logoutTokenLife = 10 * time.Minute

// backChannel takes the provider's word that a session has ended there.
func (l *layer) backChannel(x *guard.Exchange) guard.Decision {
	if x.Request.Method != http.MethodPost {
		return notAllowed(x.Request.Method, "POST")
	}
	refuse := func(err error) guard.Decision {
		d := guard.Refuse(http.StatusBadRequest, "authn-logout-token", err.Error())
		d.Event, d.Header = loginFailEvent, http.Header{"Cache-Control": {"no-store"}}
		return d
	}
	v, err := form(x)
	if err != nil {
		return refuse(err)
	}
	raw, err := parameter(v, "logout_token")
	if err == nil && raw == "" {
		err = errors.New("there is no logout_token")
	}
	if err != nil {
		return refuse(err)
	}
	ctx := x.Request.Context()
	c, err := l.provider.logoutToken(ctx, raw)
	switch {
	case errors.Is(err, errUnavailable):
		return l.unavailable(err)
	case err != nil:
		return refuse(err)
	}
	first, err := l.store.Once(ctx, stateFolder+l.ring.hidden("logout", c.text("iss"), c.text("jti")), logoutTokenLife+2*maxSkew)
	if err != nil {
		return l.unavailable(err)
	}
	if !first {
		d := refuse(badToken("its jti was used before"))
		d.Reason, d.Event, d.Severity = "authn-replay", reuseEvent, event.High
		return d
	}
	n, err := l.sessions.endAll(ctx, l.cfg.Provider.Issuer, c.text("sub"), c.text("sid"))
	if err != nil {
		return l.unavailable(err)
	}
	return guard.Decision{Verdict: guard.Answer, Status: http.StatusOK, Reason: "authn-logged-out", Event: logoutEvent, Severity: event.Info, Detail: fmt.Sprintf("%d sessions", n), Attributes: map[string]string{"by": "provider"}, Header: http.Header{"Cache-Control": {"no-store"}}}
}

// logoutToken verifies a logout token (Back-Channel Logout, 2.6).
func (p *provider) logoutToken(ctx context.Context, raw string) (claims, error) {
	h, payload, err := p.keys.verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	if t := strings.TrimPrefix(strings.ToLower(h.typ), "application/"); t != "logout+jwt" && t != "jwt" && t != "" {
		return nil, badToken("its typ is %q: it is no logout token", clip(h.typ))
	}
	c, err := parseClaims(payload)
	if err != nil {
		return nil, err
	}
	if c.text("iss") != p.cfg.Issuer {
		return nil, badToken("it was issued by %q", clip(c.text("iss")))
	}
	aud, err := c.audience()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(aud, p.cfg.ClientID) {
		return nil, badToken("it is for %q", clip(strings.Join(aud, ", ")))
	}
	skew, now := time.Duration(p.cfg.ClockSkew), p.now()
	issued, ok, err := c.time("iat")
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, badToken("it has no iat")
	case now.Sub(issued) > logoutTokenLife+skew:
		return nil, badToken("it is of %s", issued.UTC().Format(time.RFC3339))
	}
	if _, has := c["exp"]; has { // required since the final text, left out by older providers
		if _, err := c.times(now, skew, true); err != nil {
			return nil, err
		}
	} else if now.Add(skew).Before(issued) {
		return nil, badToken("it was issued in the future")
	}
	if c.text("jti") == "" {
		return nil, badToken("it has no jti: it could be sent again and again")
	}
	if _, has := c["nonce"]; has {
		return nil, badToken("it has a nonce: it is an ID token")
	}
	events, _ := c["events"].(map[string]any)
	if member, ok := events[logoutEventName].(map[string]any); !ok || member == nil {
		return nil, badToken("its events do not say that it is about a logout")
	}
	for _, name := range []string{"sub", "sid"} {
		if v, has := c[name]; has {
			if s, ok := v.(string); !ok || s == "" {
				return nil, badToken("%s is no text", name)
			}
		}
	}
	if c.text("sub") == "" && c.text("sid") == "" {
		return nil, badToken("it names neither a user nor a session")
	}
	return c, nil
}
