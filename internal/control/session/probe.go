package session

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe"
)

var checks = []*probe.Check{
	{
		ID:       "cookie-flags",
		Control:  "session",
		Asks:     "Do cookies come with Secure, HttpOnly and SameSite?",
		Why:      "Without Secure a session travels in clear text, without HttpOnly any injected script reads it, without SameSite other sites send it (CWE-614, CWE-1004, CWE-1275).",
		Fix:      "Set SESSION_COOKIE_SECURE, SESSION_COOKIE_HTTPONLY and SESSION_COOKIE_SAMESITE = \"Lax\", the same for REMEMBER_COOKIE_*, or let the guard's cookies layer enforce.",
		CWE:      []int{614, 1004, 1275},
		Requests: 14,
		Run:      askFlags,
	},
	{
		ID:       "session-fixation",
		Control:  "session",
		Asks:     "Does the site take over a session id that the visitor made up?",
		Why:      "A site that keeps a planted session id lets the planter share the session once its victim has logged in (CWE-384).",
		Fix:      "Let the session library issue ids (Flask-Session: a current version), and make a new one at login.",
		CWE:      []int{384},
		Requests: 14,
		Run:      askFixation,
	},
}

// sessionLike reports whether a cookie's name says that it proves who the
// visitor is.
func sessionLike(name string) bool {
	n := strings.ToLower(name)
	n = strings.TrimPrefix(strings.TrimPrefix(n, "__host-"), "__secure-")
	if strings.Contains(n, "csrf") || strings.Contains(n, "xsrf") {
		return false
	}
	return slices.ContainsFunc([]string{"sess", "auth", "jwt", "remember", "login"}, func(w string) bool { return strings.Contains(n, w) }) ||
		n == "sid" || strings.HasSuffix(n, ".sid") || strings.HasSuffix(n, "_sid") || n == "token" || n == "access_token"
}

// flaws says what a served cookie lacks.
func flaws(line string) []string {
	c := parseSetCookie(line)
	var out []string
	if !c.has("secure") {
		out = append(out, "no Secure")
	}
	if sessionLike(c.name) && !c.has("httponly") {
		out = append(out, "no HttpOnly")
	}
	site, ok := c.get("samesite")
	switch {
	case !ok && sessionLike(c.name):
		// Browsers take Lax then, but not all of them, and not for the
		// first two minutes.
		out = append(out, "no SameSite")
	case ok && !validSameSite(site):
		out = append(out, "an invalid SameSite")
	case strings.EqualFold(site, "None") && sessionLike(c.name):
		out = append(out, "SameSite=None, so other sites' requests carry it")
	case strings.EqualFold(site, "None") && !c.has("secure"):
		out = append(out, "SameSite=None without Secure, which browsers refuse")
	}
	lower := strings.ToLower(c.name)
	if path, ok := c.get("path"); strings.HasPrefix(lower, "__host-") && (!c.has("secure") || c.has("domain") || !ok || path != "/") || strings.HasPrefix(lower, "__secure-") && !c.has("secure") {
		out = append(out, "a name whose prefix it does not live up to, so browsers refuse it")
	}
	return out
}

func askFlags(ctx context.Context, c *probe.Client) []probe.Answer {
	cookies, err := c.Cookies(ctx)
	if len(cookies) == 0 {
		why := "could not tell: no page seen without logging in sets a cookie"
		if err != nil {
			why = "could not tell: " + err.Error()
		}
		return []probe.Answer{{Summary: why}}
	}
	var (
		out     []probe.Answer
		session bool
		good    []string
		seen    = map[string]bool{}
		at      string
	)
	for _, k := range cookies {
		if removes(k.Line) {
			continue // a cookie on its way out protects and risks nothing
		}
		session = session || sessionLike(k.Name)
		f := flaws(k.Line)
		key := k.Name + strings.Join(f, ",")
		if seen[key] {
			continue
		}
		seen[key] = true
		if len(f) > 0 {
			out = append(out, probe.Answer{Outcome: evidence.Fail, Summary: fmt.Sprintf("the cookie %s has %s", k.Name, strings.Join(f, ", ")), URL: k.URL, Seen: "Set-Cookie: " + k.Line})
			continue
		}
		good, at = append(good, k.Name), k.URL
	}
	if len(good) > 0 {
		slices.Sort(good)
		out = append(out, probe.Answer{Outcome: evidence.Pass, Summary: "well set: " + strings.Join(slices.Compact(good), ", "), URL: at})
	}
	if !session && len(out) > 0 && out[0].Outcome != evidence.Fail {
		out = append(out, probe.Answer{Summary: "could not tell about the session's cookie: none is set before logging in"})
	}
	return out
}

// removes reports whether a Set-Cookie takes the cookie away.
func removes(line string) bool {
	return parseSetCookie(line).ends(time.Now())
}

func askFixation(ctx context.Context, c *probe.Client) []probe.Answer {
	cookies, err := c.Cookies(ctx)
	i := slices.IndexFunc(cookies, func(k probe.Cookie) bool { return sessionLike(k.Name) && !removes(k.Line) })
	if i < 0 {
		why := "could not tell: no session cookie is set before logging in"
		if err != nil {
			why = "could not tell: " + err.Error()
		}
		return []probe.Answer{{Summary: why}}
	}
	k := cookies[i]
	path := strings.TrimPrefix(k.URL, c.Origin())
	// Of the form of a session id, known to nobody but us.
	planted := probe.Nonce() + probe.Nonce() + probe.Nonce()
	r, err := c.Do(ctx, probe.Request{Path: path, Header: http.Header{"Cookie": {k.Name + "=" + planted}}})
	if err != nil || r.Refused() {
		return []probe.Answer{{Summary: "could not tell: the page was not answered", URL: k.URL}}
	}
	for _, line := range r.Header["Set-Cookie"] {
		s := parseSetCookie(line)
		_, v, _ := strings.Cut(s.pair, "=")
		if s.name != k.Name || removes(line) {
			continue
		}
		if strings.Contains(v, planted) {
			return []probe.Answer{{Outcome: evidence.Fail, Summary: "the made-up session id was taken over into " + k.Name, URL: k.URL, Seen: "Set-Cookie: " + line}}
		}
		return []probe.Answer{{Outcome: evidence.Pass, Summary: "a made-up session id is replaced by a fresh one", URL: k.URL, Seen: "Set-Cookie: " + line}}
	}
	return []probe.Answer{{Summary: "could not tell: no session was set for a made-up session id", URL: k.URL}}
}
