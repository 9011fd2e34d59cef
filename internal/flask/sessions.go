package flask

import (
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// headerSessions returns the first segments of the paths for which a session
// interface of the project's own looks for the session in a header, which no
// other site can make a browser send, and not in a cookie:
//
//	def open_session(self, app, request):
//	    if request.path.startswith("/api/"):
//	        key = request.headers.get("X-Session")
//	    else:
//	        key = request.cookies.get("session")
func (a *analyzer) headerSessions() []string {
	if a.headerPaths != nil {
		return a.headerPaths
	}
	a.headerPaths = []string{}
	for _, u := range a.units {
		for _, s := range u.defs {
			if s.kind == funcScope && s.name == "open_session" && len(s.def.params) >= 3 {
				a.headerPaths = append(a.headerPaths, a.headerBranches(s)...)
			}
		}
	}
	a.headerPaths = sorted(a.headerPaths)
	return a.headerPaths
}

func (a *analyzer) headerBranches(s *scope) []string {
	t := s.unit.tree
	request := s.def.params[2].name
	reads := func(list []node, part string) bool {
		found := false
		for _, st := range list {
			t.walk(st, func(x node) bool {
				base, name := t.attr(x)
				found = found || base != 0 && name == part && t.name(base) == request
				return !found
			})
		}
		return found
	}
	var out []string
	t.walk(s.id, func(x node) bool {
		n := t.at(x)
		if n.Kind != pysyntax.If || !reads(t.list(n.B), "headers") || reads(t.list(n.B), "cookies") {
			return true
		}
		test := n.A
		if name := t.name(test); name != "" {
			if list := s.binds[name]; len(list) == 1 && list[0].kind == bindExpr {
				test = list[0].node
			}
		}
		if p := pathTested(t, test, request); p != "" {
			out = append(out, p)
		}
		return true
	})
	// Cookies that are read whatever is asked for speak for all paths.
	for _, st := range s.def.body {
		if t.kind(st) != pysyntax.If && reads([]node{st}, "cookies") {
			return nil
		}
	}
	return out
}

// pathTested returns the first segment of the path that a condition asks for;
// "" for other conditions.
func pathTested(t tree, test node, request string) string {
	segment := func(s string) string {
		s, _, _ = strings.Cut(strings.TrimPrefix(s, "/"), "/")
		return s
	}
	ofPath := func(id node) bool {
		base, name := t.attr(id)
		return base != 0 && name == "path" && t.name(base) == request
	}
	switch n := t.at(test); n.Kind {
	case pysyntax.Compare: // request.path.split("/")[1] == "api"
		rest := t.compare(test)
		if len(rest) != 1 || rest[0].op != "==" {
			return ""
		}
		base, index := t.sub(n.A)
		call, args := t.call(base)
		on, method := t.attr(call)
		if on == 0 || method != "split" || !ofPath(on) || t.text(index) != "1" || len(args) == 0 {
			return ""
		}
		if sep, _ := t.str(args[0].val); sep != "/" {
			return ""
		}
		s, _ := t.str(rest[0].right)
		return segment(s)
	case pysyntax.Call: // request.path.startswith("/api/")
		fn, args := t.call(test)
		if on, method := t.attr(fn); on != 0 && method == "startswith" && ofPath(on) && len(args) == 1 {
			if s, _ := t.str(args[0].val); strings.HasPrefix(s, "/") {
				return segment(s)
			}
		}
	}
	return ""
}

// byHeader reports whether the sessions of a route are those that a header
// names.
func (a *analyzer) byHeader(r *Route) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.Rule, "/"), "/")
	return first != "" && !strings.Contains(first, "<") && slices.Contains(a.headerSessions(), first)
}
