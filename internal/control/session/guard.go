package session

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dewar-security/dewar/internal/guard"
)

var layers = []*guard.Spec{sessionSpec, cookiesSpec}

var cookiesSpec = &guard.Spec{
	Name:    "cookies",
	Control: "session",
	Does:    "completes the app's Set-Cookie: Secure over https, HttpOnly on session cookies, SameSite where none is set",
}

// Names that Flask and Flask-Login use unless told otherwise.
var defaultSessionCookies = []string{"session", "remember_token"}

// maxNoted bounds the names kept for Describe: an app can make up any number.
const maxNoted = 16

type cookies struct {
	cfg      Config
	facts    func() guard.Facts
	sameSite string

	seen, changed, dropped atomic.Int64
	mu                     sync.Mutex
	crossSite              []string // cookies that the app sets with SameSite=None
}

// NewCookies returns the cookies layer.
func NewCookies(cfg Config, env guard.Env) (guard.Layer, error) {
	if p := cfg.Problems(); len(p) > 0 {
		return nil, fmt.Errorf("session.%s: %s", p[0].Key, p[0].Message)
	}
	return &cookies{cfg: cfg, facts: env.Facts, sameSite: cfg.sameSite()}, nil
}

// Request implements [guard.Layer].
func (l *cookies) Request(*guard.Exchange) guard.Decision { return guard.Pass() }

// Health implements [guard.Reporter].
func (l *cookies) Health() error { return nil }

// Describe implements [guard.Reporter].
func (l *cookies) Describe() string {
	s := fmt.Sprintf("Secure and SameSite=%s where missing, HttpOnly on %s; %d of %d cookies completed",
		l.sameSite, strings.Join(l.sessionNames(), ", "), l.changed.Load(), l.seen.Load())
	if n := l.dropped.Load(); n > 0 {
		s += fmt.Sprintf(", %d dropped as malformed", n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.crossSite) > 0 {
		s += "; the app itself sends cross-site (SameSite=None): " + strings.Join(l.crossSite, ", ")
	}
	return s
}

// sessionNames lists the cookies that prove who the visitor is.
func (l *cookies) sessionNames() []string {
	names := append(slices.Clone(defaultSessionCookies), l.cfg.Cookies...)
	if l.facts != nil {
		f := l.facts()
		for _, n := range []string{f.SessionCookieName, f.RememberCookieName} {
			if n != "" {
				names = append(names, n)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// isSession reports whether a cookie must not be readable by scripts. A
// __Host- or __Secure- prefix does not change what a cookie is for.
func isSession(name string, session []string) bool {
	if slices.Contains(session, name) {
		return true
	}
	for _, prefix := range []string{"__Host-", "__Secure-", "__Http-", "__Host-Http-"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && slices.Contains(session, rest) {
			return true
		}
	}
	return false
}

// Response implements [guard.Responder].
func (l *cookies) Response(x *guard.Exchange, r *http.Response) guard.Decision {
	list := r.Header["Set-Cookie"]
	if len(list) == 0 {
		return guard.Pass()
	}
	session := l.sessionNames()
	out := list[:0:0]
	for _, header := range list {
		l.seen.Add(1)
		if ignored(header) {
			// No browser stores it, and some proxy behind us may read it
			// as something else.
			l.dropped.Add(1)
			continue
		}
		c := parseSetCookie(header)
		h := hardening{
			// A Secure cookie over http would be lost: then the https
			// layer is what is missing.
			secure:   x.Client.Scheme == "https",
			sameSite: l.sameSite,
			// What the user lists as readable is theirs to decide.
			httpOnly: isSession(c.name, session) && !slices.Contains(l.cfg.JSReadable, c.name),
		}
		if v, _ := c.get("samesite"); strings.EqualFold(v, "None") {
			l.note(c.name)
		}
		hardened, changed := harden(header, h)
		if changed {
			l.changed.Add(1)
		}
		out = append(out, hardened)
	}
	if len(out) == 0 {
		r.Header.Del("Set-Cookie")
	} else {
		r.Header["Set-Cookie"] = out
	}
	return guard.Pass()
}

// note remembers a cookie that other sites' requests carry.
func (l *cookies) note(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.crossSite) < maxNoted && !slices.Contains(l.crossSite, name) {
		l.crossSite = append(l.crossSite, name)
	}
}
