package flask

import (
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// Reach is the project's code that runs for a request to a route: hooks,
// decorators, the view, and what these call, a few calls deep.
type Reach struct {
	Functions []Position // of the functions, in no order that means anything
	// Named are the last names of methods that are called on what was not
	// understood.
	Named []string
	// Cookies is set when something reads what the browser sends by itself:
	// the session, who is logged in by it, a cookie.
	Cookies bool
	// Headers is set when something reads a header by which a client can prove
	// who it is, and which no other site can make a browser send:
	// Authorization, or one of the app's own.
	Headers bool
	// Token is set when a decorator asks for such a header, or the app's own
	// sessions are found by it, so that nobody is let in by a cookie.
	Token bool
}

// Reach returns what runs for a route, as far as it can be seen. It may be
// used from several goroutines.
func (m *Model) Reach(r *Route) Reach {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.an
	if out, ok := a.reached[r]; ok {
		return out
	}
	out := Reach{Token: a.byHeader(r)}
	done := map[*scope]bool{}
	var level []*scope
	for _, h := range r.hooks {
		if strings.HasPrefix(h.Kind, "before_") && h.fn != nil {
			level = append(level, h.fn)
		}
	}
	for _, d := range r.Decorators {
		if d.Above {
			continue
		}
		if s := a.byQual[strings.TrimSuffix(d.Name, "()")]; s != nil {
			level = append(level, s)
		}
		out.Cookies = out.Cookies || cookieDecorators[d.Name]
		out.Token = out.Token || headerDecorators[d.Name]
	}
	if r.fn != nil {
		level = append(level, a.handlers(r.fn, r.Methods)...)
	}
	for depth := 0; depth <= maxCallDepth+1 && len(level) > 0; depth++ {
		var next []*scope
		for _, s := range level {
			if s.kind == classScope {
				for _, b := range a.classMember(s, "__call__") {
					if b.kind == bindDef {
						next = append(next, b.def)
					}
				}
				continue
			}
			if done[s] || len(done) > maxCallees {
				continue
			}
			done[s] = true
			f := a.own(s)
			out.Functions = append(out.Functions, a.pos(s.unit, s.id))
			out.Named = append(out.Named, f.named...)
			out.Cookies = out.Cookies || f.cookies
			out.Headers = out.Headers || f.headers
			for _, c := range f.callees {
				next = append(next, c.fn)
			}
			// What it is decorated with runs as well.
			next = append(next, a.wrappers(s)...)
		}
		level = next
	}
	out.Named = sorted(out.Named)
	if a.reached == nil {
		a.reached = map[*Route]Reach{}
	}
	a.reached[r] = out
	return out
}

// wrappers returns the project's functions that a function is decorated with.
func (a *analyzer) wrappers(s *scope) []*scope {
	if out, ok := a.wrapped[s]; ok {
		return out
	}
	var out []*scope
	for _, d := range s.def.decorators {
		if dec := a.byQual[strings.TrimSuffix(a.decorator(s.parent, d).Name, "()")]; dec != nil && dec != s {
			out = append(out, dec)
		}
	}
	if a.wrapped == nil {
		a.wrapped = map[*scope][]*scope{}
	}
	a.wrapped[s] = out
	return out
}

// App returns the app that a route is one of; nil when that is not known.
func (r *Route) App() *App { return r.app }

// Shared reports whether the call that registers the route, or its blueprint,
// may speak of several apps, so that App is one of them.
func (r *Route) Shared() bool { return r.shared }

// Speaks reports whether a hook runs for a route's requests.
func (r *Route) Speaks(h *Hook) bool {
	return slices.ContainsFunc(r.hooks, func(x *Hook) bool { return x.Position == h.Position && x.Kind == h.Kind })
}

// Of reports whether an extension was given the app. One that was given
// something not understood may have been given any.
func (e *Extension) Of(app *App) bool { return len(e.apps) == 0 || slices.Contains(e.apps, app) }

// handlers returns the functions that answer the methods of a view: itself,
// or those of its class.
func (a *analyzer) handlers(fn *scope, methods []string) []*scope {
	if fn.kind == funcScope {
		return []*scope{fn}
	}
	var out []*scope
	project, _ := a.ancestors(fn)
	for _, m := range append(httpMethods[:], "dispatch_request") {
		if m != "dispatch_request" && methods != nil && !slices.Contains(methods, strings.ToUpper(m)) {
			continue
		}
		for _, c := range project {
			if i := slices.IndexFunc(c.binds[m], func(b binding) bool { return b.kind == bindDef }); i >= 0 {
				out = append(out, c.binds[m][i].def)
				break
			}
		}
	}
	return out
}

// cookieDecorators let those through whom a cookie speaks for,
// headerDecorators those whom a header speaks for that no other site can send.
var (
	cookieDecorators = set("flask_login.login_required flask_login.fresh_login_required flask_security.login_required flask_security.auth_required flask_user.login_required")
	headerDecorators = set("flask_httpauth.HTTPTokenAuth.login_required flask_jwt.jwt_required flask_security.auth_token_required flask_security.decorators.auth_token_required")
)

// identity reads what an expression says about who asks.
func (f *facts) identity(q string) {
	for _, p := range [...]string{"flask.session", "flask_login.current_user", "flask_security.current_user", "flask.request.cookies", "flask_jwt_extended.current_user"} {
		if q == p || strings.HasPrefix(q, p+".") {
			f.cookies = true
		}
	}
}

// headerKey reports whether a name is that of a header which no page can make
// a browser send to another site without asking it (Fetch, 2.2.2): any but
// the few that requests have anyway.
func headerKey(name string) bool {
	switch strings.ToLower(name) {
	case "", "accept", "accept-language", "accept-encoding", "content-language", "content-type", "content-length", "range", "host", "referer", "origin", "user-agent", "cookie", "connection",
		"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "if-none-match", "if-modified-since", "dnt", "x-requested-with":
		return false
	}
	return true
}

// openMethods returns the methods of a class-based view whose functions do not
// guard themselves; nil where that is no question.
func (a *analyzer) openMethods(cls *scope, methods []string) []string {
	var out []string
	for _, m := range methods {
		for _, h := range a.handlers(cls, []string{m}) {
			if a.turnsAway(h) || slices.ContainsFunc(h.def.decorators, func(d node) bool { return a.loginDecorator(a.decorator(h.parent, d), h.parent, d) }) {
				continue
			}
			out = append(out, m)
		}
	}
	return out
}

// apiDecorators reads Api(decorators=[…]) and api.decorators = […] of
// Flask-RESTful and Flask-RESTX, which wrap every resource.
func (a *analyzer) apiDecorators() {
	for _, x := range a.apis {
		if o := a.made[madeKey{x.unit, x.id}]; o != nil {
			_, args := x.unit.tree.call(x.id)
			if d := argNamed(args, "decorators", -1); d != 0 {
				x.decorators = append(x.decorators, a.decoratorList(o.scope, d)...)
			}
		}
	}
	for _, u := range a.units {
		for _, st := range u.stores {
			base, name := u.tree.attr(st.target)
			if base == 0 || name != "decorators" || st.value == 0 {
				continue
			}
			switch u.tree.kind(st.value) {
			case pysyntax.List, pysyntax.Tuple:
				for _, o := range a.eval(st.scope, base) {
					if o.kind == objAPI {
						o.api.decorators = append(o.api.decorators, a.decoratorList(st.scope, st.value)...)
					}
				}
			}
		}
	}
}
