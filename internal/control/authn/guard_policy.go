package authn

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
)

// identity is whom a request belongs to, however that was proven.
type identity struct {
	issuer, subject string
	user, email     string
	name, login     string // name and preferred_username
	groups, scopes  []string
	acr             string
	authTime        int64
	bearer          bool   // by a token in the Authorization header
	client          string // the client that the token was given to
	certificate     string // SHA-256 of the one that a token is bound to, base64url
	expires         time.Time
	signed          *assertion // the last one for the app; nil for who is not remembered
}

// need is what some request must have: a login, and what its rule says beside.
type need struct {
	login bool
	rule  *Rule // nil when none names the path
}

// bySession reports whether only a login will do: a token is not looked at.
func (n need) bySession() bool { return n.login && n.rule != nil && n.rule.By == "session" }

// needs returns what a request must have. It is more than one only where two
// readings of the path are for different rules: both hold then.
func (l *layer) needs(x *guard.Exchange) (first, second need) {
	first = l.need(x, x.Path)
	if strings.Contains(x.Path, "//") {
		// Werkzeug merges slashes; a server in front of the app, too.
		second = l.need(x, mergeSlashes(x.Path))
	}
	return first, second
}

func mergeSlashes(p string) string {
	var b strings.Builder
	for i := range len(p) {
		if p[i] != '/' || i == 0 || p[i-1] != '/' {
			b.WriteByte(p[i])
		}
	}
	return b.String()
}

func (l *layer) need(x *guard.Exchange, path string) need {
	for i := range l.cfg.Rules {
		r := &l.cfg.Rules[i]
		if r.matches(x.Request.Method, path) {
			return need{login: r.Require != "anyone", rule: r}
		}
	}
	var m policy.Match
	if l.policy != nil {
		m = x.Match(l.policy())
	}
	if l.cfg.Default == "login" {
		return need{login: !open(x.Request, m)}
	}
	if l.cfg.Protect == "source" {
		for _, r := range m.Routes {
			if r.Login.Required || r.Is("admin") {
				return need{login: true}
			}
		}
	}
	return need{}
}

// open reports whether the app itself means a request for everybody: its
// static files, and the health checks of whoever watches it.
func open(r *http.Request, m policy.Match) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return m.Is("static") || m.Is("health") && !slices.ContainsFunc(m.Routes, func(r *policy.Route) bool { return r.Login.Required })
	case http.MethodOptions:
		// A preflight carries no credentials (Fetch, 4.8). Where no view
		// answers OPTIONS itself, Flask does, with an Allow field.
		if r.Header.Get("Origin") == "" || r.Header.Get("Access-Control-Request-Method") == "" || len(m.Routes) == 0 {
			return false
		}
		for _, route := range m.Routes {
			if slices.Contains(route.Methods, http.MethodOptions) {
				return false
			}
		}
		return true
	}
	return false
}

// matches reports whether the rule is for a request. A slash at the end makes
// no difference: the app's router redirects from one to the other.
func (r *Rule) matches(method, path string) bool {
	if len(r.Methods) > 0 && !slices.Contains(r.Methods, method) && (method != http.MethodHead || !slices.Contains(r.Methods, http.MethodGet)) {
		return false
	}
	if guard.MatchPattern(r.Path, path) {
		return true
	}
	if trimmed := strings.TrimRight(path, "/"); trimmed != path {
		return trimmed != "" && guard.MatchPattern(r.Path, trimmed)
	}
	return guard.MatchPattern(r.Path, path+"/")
}

// lack is why an identity is not enough for a rule.
type lack uint8

const (
	nothing lack = iota
	lackLogin
	lackProof // another kind of proof: a token instead of a session
	lackScope
	lackRole
	lackACR
)

// lacks says what id is short of. A nil id is nobody.
func (n need) lacks(id *identity) (what lack, detail string) {
	switch {
	case !n.login:
		return nothing, ""
	case id == nil:
		return lackLogin, "nobody has logged in"
	case n.rule == nil:
		return nothing, ""
	}
	r := n.rule
	if r.By == "session" && id.bearer || r.By == "bearer" && !id.bearer {
		return lackProof, fmt.Sprintf("the rule for %s wants a %s", r.Path, r.By)
	}
	if detail := short("scope", id.scopes, r.Scopes, r.AllScopes); detail != "" {
		return lackScope, detail
	}
	if detail := short("role", id.groups, r.Roles, r.AllRoles); detail != "" {
		return lackRole, detail
	}
	if len(r.ACR) > 0 && !slices.Contains(r.ACR, id.acr) {
		return lackACR, fmt.Sprintf("acr %q, and %s is wanted", clip(id.acr), strings.Join(r.ACR, " or "))
	}
	return nothing, ""
}

// short says which of the wanted names are missing.
func short(kind string, has, one, all []string) string {
	if len(one) > 0 && !slices.ContainsFunc(one, func(s string) bool { return slices.Contains(has, s) }) {
		return fmt.Sprintf("no %s of %s", kind, strings.Join(one, ", "))
	}
	for _, s := range all {
		if !slices.Contains(has, s) {
			return fmt.Sprintf("no %s %s", kind, s)
		}
	}
	return ""
}

// navigates reports whether a browser asks for a page to show: only that can
// be answered with a way to the provider. A script's fetch would follow the
// redirect, run into CORS and report a network error.
func navigates(r *http.Request) bool {
	if r.Method != http.MethodGet || len(r.Header["Upgrade"]) > 0 || r.Header.Get("X-Requested-With") != "" {
		return false
	}
	mode, dest := r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Sec-Fetch-Dest")
	if mode != "" || dest != "" {
		return mode == "navigate" && dest == "document"
	}
	for _, line := range r.Header["Accept"] {
		if strings.Contains(strings.ToLower(line), "text/html") {
			return true
		}
	}
	return false
}

// under reports whether a path (with a query or not) is prefix or below it.
func under(path, prefix string) bool {
	path, _, _ = strings.Cut(path, "?")
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}
