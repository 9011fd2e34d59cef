package flask

import (
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// facts are what the text of one function says, without what it calls.
type facts struct {
	form, query, json, files []string
	uploads, dynamic, body   bool
	redirects                bool
	writeAt, endAt           Position // the first change; the first end of a transaction
	dirty                    bool     // an object is changed that a transaction may store
	keeps                    bool     // something is made where it was not there
	session                  bool     // writes to the visitor's own session
	logsIn, logsOut          bool
	types                    map[string]string // of form fields that are not text
	callees                  []callee

	cookies bool     // reads what a browser sends by itself
	headers bool     // reads a header that only a client sends that means to
	named   []string // methods called on what is not understood

	keeping int // set while reading what is only done where something is missing
}

// callee is a function that is called, and whether only where something is
// missing that it makes.
type callee struct {
	fn     *scope
	keeper bool
	own    bool // it is only given what the visitor's own session holds
}

func (f *facts) merge(g *facts) {
	for name, t := range g.types {
		f.typed(name, t)
	}
	f.form, f.query = append(f.form, g.form...), append(f.query, g.query...)
	f.json, f.files = append(f.json, g.json...), append(f.files, g.files...)
	f.uploads = f.uploads || g.uploads
	f.dynamic = f.dynamic || g.dynamic
	f.body = f.body || g.body
	f.redirects = f.redirects || g.redirects
	if f.writeAt.Line == 0 {
		f.writeAt = g.writeAt
	}
	if f.endAt.Line == 0 {
		f.endAt = g.endAt
	}
	f.dirty = f.dirty || g.dirty
	f.keeps = f.keeps || g.keeps
	f.session = f.session || g.session
	f.logsIn = f.logsIn || g.logsIn
	f.logsOut = f.logsOut || g.logsOut
}

func sorted(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}

func (f *facts) fill(r *Route) {
	r.Form, r.Query, r.JSON, r.Files = sorted(f.form), sorted(f.query), sorted(f.json), sorted(f.files)
	r.Uploads, r.DynamicKeys, r.ReadsBody = f.uploads, f.dynamic, f.body
	var writes bool
	r.WriteAt, writes = f.writes()
	r.Redirects, r.WritesState = f.redirects, writes || f.session
	r.OnlySession = f.session && !writes
	r.OnlyKeeps = f.keeps && !writes
	r.Types = f.types
	r.LogsIn, r.LogsOut = f.logsIn, f.logsOut && !f.logsIn // logging in often clears the session first
}

// How far a view's facts are gathered from the functions it calls.
const (
	maxCallees   = 200
	maxCallDepth = 3
)

// factsOf gathers the facts of a view: its function or the methods of its
// class, and the project functions called from there.
func (a *analyzer) factsOf(r *rawRoute) *facts {
	var start []*scope
	if r.fn.kind == funcScope {
		start = []*scope{r.fn}
	} else {
		seen := map[string]bool{}
		project, _ := a.ancestors(r.fn)
		for _, c := range project {
			for _, m := range append(httpMethods[:], "dispatch_request") {
				for _, b := range c.binds[m] {
					if b.kind == bindDef && !seen[m] && (r.methods == nil || m == "dispatch_request" || slices.Contains(r.methods, strings.ToUpper(m))) {
						seen[m] = true
						start = append(start, b.def)
					}
				}
			}
		}
	}
	total := &facts{}
	done := map[*scope]bool{}
	acted := map[*scope]bool{} // done, and not only where something is missing
	var level []callee
	for _, fn := range start {
		level = append(level, callee{fn: fn})
	}
	for depth := 0; depth <= maxCallDepth && len(level) > 0; depth++ {
		var next []callee
		for _, c := range level {
			if acted[c.fn] || (c.keeper || c.own) && done[c.fn] || len(done) > maxCallees {
				continue
			}
			f := *a.own(c.fn)
			if acted[c.fn] = !c.keeper && !c.own; !acted[c.fn] {
				_, writes := f.writes()
				f.writeAt, f.endAt, f.dirty = Position{}, Position{}, false
				f.keeps, f.session = f.keeps || writes && c.keeper, f.session || writes && c.own
			}
			done[c.fn] = true
			total.merge(&f)
			for _, x := range f.callees {
				next = append(next, callee{x.fn, x.keeper || c.keeper, x.own || c.own})
			}
		}
		level = next
	}
	a.schemaFields(r, total)
	return total
}

func (a *analyzer) scopeOf(u *unit, id node) *scope {
	i, ok := slices.BinarySearchFunc(u.defs, u.tree.at(id).Start, func(s *scope, at uint32) int {
		return int(int64(s.start) - int64(at))
	})
	if !ok {
		return nil
	}
	return u.defs[i]
}

// own reads the facts of one function.
func (a *analyzer) own(fn *scope) *facts {
	if fn.facts != nil {
		return fn.facts
	}
	f := &facts{}
	fn.facts = f
	t := fn.unit.tree
	lazy := a.lazy(fn)
	var visit func(s *scope, id node, depth int)
	visitAll := func(s *scope, id node, depth int) {
		t.each(id, func(c node) { visit(s, c, depth) })
	}
	visit = func(s *scope, id node, depth int) {
		if depth > 1000 {
			return
		}
		if lazy[id] {
			f.keeping++
			defer func() { f.keeping-- }()
		}
		n := t.at(id)
		switch n.Kind {
		case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef, pysyntax.ClassDef:
			if in := a.scopeOf(fn.unit, id); in != nil {
				for _, b := range in.def.body {
					visit(in, b, depth+1)
				}
			}
			return
		case pysyntax.ExprStmt:
			if t.kind(n.A) == pysyntax.Call {
				a.effect(s, n.A, f)
			}
		case pysyntax.Call:
			if a.callFacts(s, id, f) {
				_, args := t.call(id)
				for _, x := range args {
					visit(s, x.val, depth+1)
				}
				return
			}
		case pysyntax.Subscript:
			if a.qname(s, n.A) == "flask.request.headers" {
				f.headers = f.headers || headerKey(a.fold(s, n.B).Text)
			}
			if list, _ := a.requestPart(s, n.A, f); list != nil {
				a.addKey(s, n.B, f, list)
				visit(s, n.B, depth+1)
				return
			}
		case pysyntax.Compare:
			if rest := t.compare(id); len(rest) == 1 && (rest[0].op == "in" || rest[0].op == "not in") {
				if list, _ := a.requestPart(s, rest[0].right, f); list != nil {
					a.addKey(s, n.A, f, list)
					visit(s, n.A, depth+1)
					return
				}
			}
		case pysyntax.Attribute, pysyntax.Name:
			if n.Kind == pysyntax.Attribute || len(lookup(s, t.sym(n.A))) > 0 {
				q := a.qname(s, id)
				f.identity(q)
				f.headers = f.headers || q == "flask.request.authorization" || strings.HasPrefix(q, "flask.request.authorization.")
			}
			if n.Kind == pysyntax.Attribute || len(lookup(s, t.sym(n.A))) > 0 {
				switch q := a.qname(s, id); q {
				case "flask.request.form", "flask.request.args", "flask.request.values", "flask.request.json":
					// The whole of it is used. A name stands for what a call
					// returned, which was seen there.
					if n.Kind == pysyntax.Attribute {
						a.requestPart(s, id, f)
						f.dynamic = true
					}
				case "flask.request.files":
					a.requestPart(s, id, f)
				case "flask.request.data", "flask.request.stream":
					f.body = true
				}
			}
		case pysyntax.Assign:
			for _, target := range t.list(n.A) {
				a.sessionStore(s, target, n.B, f)
				a.assigned(s, target, n.B, f)
			}
		case pysyntax.AugAssign:
			a.sessionStore(s, n.A, 0, f)
			a.assigned(s, n.A, 0, f)
		case pysyntax.Delete:
			for _, x := range t.list(n.A) {
				if base, key := t.sub(x); base != 0 && a.qname(s, base) == "flask.session" {
					f.session = true
					if isIdentity(a.fold(s, key).Text) {
						f.logsOut = true
					}
				}
			}
		}
		visitAll(s, id, depth+1)
	}
	if fn.kind == funcScope {
		for _, b := range fn.def.body {
			visit(fn, b, 0)
		}
	}
	return f
}

// requestPart recognises the parts of the request that hold named values.
// The lists are where their keys belong.
func (a *analyzer) requestPart(s *scope, id node, f *facts) (lists []*[]string, whole bool) {
	switch a.qname(s, id) {
	case "flask.request.form":
		f.body = true
		return []*[]string{&f.form}, true
	case "flask.request.args":
		return []*[]string{&f.query}, true
	case "flask.request.values":
		f.body = true
		return []*[]string{&f.form, &f.query}, true
	case "flask.request.json":
		f.body = true
		return []*[]string{&f.json}, true
	case "flask.request.files":
		f.body, f.uploads = true, true
		return []*[]string{&f.files}, true
	}
	return nil, false
}

func (a *analyzer) addKey(s *scope, key node, f *facts, lists []*[]string) {
	k := a.fold(s, key)
	if !k.Known || k.Kind != String {
		f.dynamic = f.dynamic || k.Kind != Number
		return
	}
	for _, l := range lists {
		*l = append(*l, k.Text)
	}
}

var identityRE = regexp.MustCompile(`(?i)^_?(user|uid|usr|account|member|admin|is_admin|logged|login|auth|email|customer|username|identity|is_auth|current_user)`)

// isIdentity reports whether a session key says who somebody is.
func isIdentity(key string) bool { return identityRE.MatchString(key) }

func (a *analyzer) sessionStore(s *scope, target, value node, f *facts) {
	base, key := s.unit.tree.sub(target)
	if base == 0 || a.qname(s, base) != "flask.session" {
		return
	}
	f.session = true
	if isIdentity(a.fold(s, key).Text) {
		if v := a.fold(s, value); v.IsFalse() {
			f.logsOut = true
		} else {
			f.logsIn = true
		}
	}
}

// callFacts reads one call. It reports true when the callee needs no further
// look.
func (a *analyzer) callFacts(s *scope, id node, f *facts) bool {
	t := s.unit.tree
	fn, args := t.call(id)
	q := a.qname(s, fn)
	base, method := t.attr(fn)
	if base != 0 {
		if lists, _ := a.requestPart(s, base, f); lists != nil {
			switch method {
			case "get", "getlist", "pop", "setdefault":
				if k := argNamed(args, "key", 0); k != 0 {
					a.addKey(s, k, f, lists)
				}
			case "to_dict", "items", "keys", "values", "lists", "copy":
				f.dynamic = true
			}
			return true
		}
	}
	f.identity(q)
	if q == "flask.request.headers.get" {
		f.headers = f.headers || headerKey(a.fold(s, argNamed(args, "key", 0)).Text)
	}
	switch q {
	case "flask.request.get_json":
		f.body = true
		return true
	case "flask.request.get_data":
		f.body = true
		return true
	case "flask.redirect":
		f.redirects = true
	case "flask_login.login_user", "flask_security.login_user", "flask_security.utils.login_user", "flask_jwt_extended.create_access_token",
		"flask_jwt_extended.set_access_cookies":
		f.logsIn = true
	case "flask_login.logout_user", "flask_security.logout_user", "flask_security.utils.logout_user", "flask.session.clear", "flask_jwt_extended.unset_jwt_cookies":
		f.logsOut = true
	case "flask.session.pop":
		f.session = true
		if isIdentity(a.fold(s, argNamed(args, "", 0)).Text) {
			f.logsOut = true
		}
	case "flask.session.update":
		f.session = true
		for _, x := range args {
			if isIdentity(x.name) {
				f.logsIn = true
			}
		}
	case "flask_restful.reqparse.RequestParser().parse_args", "flask_restx.reqparse.RequestParser().parse_args":
		f.body = true
		f.dynamic = !a.parserFields(s, base, f) || f.dynamic
	}
	a.writeFacts(s, id, base, q, method, args, f)
	known := false
	for _, o := range a.eval(s, fn) {
		known = known || o.kind == objFunc || o.kind == objClass
		switch o.kind {
		case objFunc:
			f.callees = append(f.callees, callee{o.scope, f.keeping > 0 || a.stamps(s, args), a.onlyOwn(s, args)})
		case objClass:
			if a.formFields(o.scope, f) {
				return true
			}
			for _, b := range a.classMember(o.scope, "__init__") {
				if b.kind == bindDef {
					f.callees = append(f.callees, callee{fn: b.def, keeper: f.keeping > 0})
				}
			}
		}
	}
	if !known && base != 0 && !strings.HasPrefix(q, "flask.") {
		f.named = append(f.named, method)
	}
	return false
}

// formFields adds the fields of a WTForms class.
func (a *analyzer) formFields(cls *scope, f *facts) bool {
	project, lib := a.ancestors(cls)
	if !slices.ContainsFunc(lib, func(q string) bool { return formClasses[q] }) {
		return false
	}
	f.body = true
	if slices.Contains(lib, "flask_wtf.FlaskForm") {
		f.form = append(f.form, "csrf_token")
	}
	for _, c := range project {
		for _, b := range sortedBinds(c) {
			for _, x := range b.list {
				if x.kind != bindExpr {
					continue
				}
				fn := x.scope.unit.tree.callee(x.node)
				if fn == 0 || !strings.HasSuffix(a.qname(x.scope, fn), "Field") {
					continue
				}
				if q := a.qname(x.scope, fn); fileFields[q] || strings.HasSuffix(q, "FileField") || strings.HasSuffix(q, "FilesField") {
					f.files, f.uploads = append(f.files, b.name), true
				} else {
					f.form = append(f.form, b.name)
					if t := fieldTypes[lastPart(q)]; t != "" {
						f.typed(b.name, t)
					}
				}
			}
		}
	}
	return true
}

// ---- who is turned away ----

var (
	loginNameRE = regexp.MustCompile(`(?i)(login|logged_?in|auth|sign(ed)?_?in|token|jwt|admin|role|permission|staff|member|user|superuser|scope|api_?key|privilege)`)
	demandRE    = regexp.MustCompile(`(?i)(require|needed|need_|only|protect|restrict|must_|has_|ensure|check_|verify)`)
	notLoginRE  = regexp.MustCompile(`(?i)(anonymous|logout|guest|not_logged|unauthenticated|csrf|optional|exempt|public|loader|handler)`)
)

// loginName reports whether a decorator, by its name or by what the project
// wrote for it, lets only known users through.
func (a *analyzer) loginName(d Decorator) bool {
	if loginByName[d.Name] {
		return true
	}
	if s := a.byQual[d.Name]; s != nil && s.kind == funcScope {
		if a.turnsAway(s) {
			return true
		}
		// A decorator made of another one: def admin(f): return login_required(f).
		for _, q := range a.mentions(s) {
			if loginByName[q] {
				return true
			}
		}
	}
	last := lastPart(d.Name)
	return loginNameRE.MatchString(last) && demandRE.MatchString(last) && !notLoginRE.MatchString(last)
}

func (a *analyzer) loginDecorator(d Decorator, _ *scope, _ node) bool { return a.loginName(d) }

var loginByName = func() map[string]bool {
	m := map[string]bool{}
	for q := range loginDecorators {
		m[clean(q)] = true
	}
	return m
}()

// mentions returns the qualified names of the decorators and calls in a
// function.
func (a *analyzer) mentions(fn *scope) []string {
	var out []string
	for _, s := range fn.unit.defs {
		if s.start >= fn.start && s.end <= fn.end && s != fn {
			for _, d := range s.def.decorators {
				out = append(out, a.decorator(s.parent, d).Name)
			}
		}
	}
	for _, c := range fn.unit.calls {
		if c.scope == fn || within(c.scope, fn) {
			f := fn.unit.tree.callee(c.id)
			out = append(out, clean(a.qname(c.scope, f)))
		}
	}
	return out
}

func within(s, outer *scope) bool {
	for ; s != nil; s = s.parent {
		if s == outer {
			return true
		}
	}
	return false
}

var roleWords = regexp.MustCompile(`(?i)(role|permission|scope|privilege|access|admin|staff|superuser|group)`)

func (a *analyzer) rolesOf(d Decorator) []string {
	last := lastPart(d.Name)
	if !roleDecorators[d.Name] && !roleWords.MatchString(last) {
		return nil
	}
	var out []string
	for _, v := range d.Positional {
		out = append(out, v.Strings()...)
	}
	for _, k := range [...]string{"role", "roles", "permission", "permissions", "scope", "scopes", "group"} {
		if v, ok := d.Args[k]; ok {
			out = append(out, v.Strings()...)
		}
	}
	if len(out) == 0 && strings.Contains(strings.ToLower(last), "admin") {
		out = append(out, "admin")
	}
	return out
}

// turnsAway reports whether a function, inner functions included, answers
// whoever is not known with a refusal: an if on the identity whose branch
// aborts, raises or redirects.
func (a *analyzer) turnsAway(fn *scope) bool {
	if v, ok := a.gates[fn]; ok {
		return v
	}
	a.gates[fn] = false
	t := fn.unit.tree
	found := false
	var visit func(s *scope, id node, depth int)
	visit = func(s *scope, id node, depth int) {
		if found || depth > 1000 {
			return
		}
		n := t.at(id)
		switch n.Kind {
		case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef, pysyntax.ClassDef:
			if in := a.scopeOf(fn.unit, id); in != nil {
				for _, b := range in.def.body {
					visit(in, b, depth+1)
				}
			}
			return
		case pysyntax.If:
			id, neg := a.identityTest(s, n.A, 0)
			if id && (neg && a.denies(s, t.list(n.B)) || !neg && a.denies(s, t.list(n.C))) {
				found = true
				return
			}
			// if known: return view(); …and then the refusal
		case pysyntax.Call:
			f := t.callee(id)
			switch a.qname(s, f) {
			case "flask_jwt_extended.verify_jwt_in_request", "flask_login.login_required", "flask.current_app.login_manager.unauthorized",
				"flask_login.LoginManager().unauthorized", "flask_jwt_extended.view_decorators.verify_jwt_in_request":
				found = true
				return
			}
		}
		t.each(id, func(c node) { visit(s, c, depth+1) })
	}
	for _, b := range fn.def.body {
		visit(fn, b, 0)
	}
	a.gates[fn] = found
	return found
}

// identityTest reports whether a condition asks who the user is, and whether
// it holds for those who are not known.
func (a *analyzer) identityTest(s *scope, id node, depth int) (is, negative bool) {
	t := s.unit.tree
	n := t.at(id)
	if depth == 0 {
		a.testFuel = 2000
	}
	if a.testFuel--; depth > 32 || a.testFuel < 0 {
		return false, false
	}
	switch n.Kind {
	case pysyntax.UnaryOp:
		if t.unary(id) == "not" {
			is, neg := a.identityTest(s, n.A, depth+1)
			return is, !neg
		}
	case pysyntax.BoolOp:
		for _, x := range t.list(n.A) {
			if is, neg := a.identityTest(s, x, depth+1); is {
				return true, neg
			}
		}
	case pysyntax.Compare:
		rest := t.compare(id)
		if len(rest) != 1 {
			return false, false
		}
		r := rest[0]
		switch r.op {
		case "in", "not in":
			if a.qname(s, r.right) == "flask.session" && isIdentity(a.fold(s, n.A).Text) {
				return true, r.op == "not in"
			}
			is, _ := a.identityTest(s, n.A, depth+1)
			return is, r.op == "not in"
		case "is", "==":
			is, _ := a.identityTest(s, n.A, depth+1)
			other := a.fold(s, r.right)
			return is, other.IsFalse()
		case "is not", "!=":
			is, _ := a.identityTest(s, n.A, depth+1)
			other := a.fold(s, r.right)
			return is, !other.IsFalse()
		}
		return a.identityTest(s, n.A, depth+1)
	case pysyntax.Subscript:
		if a.qname(s, n.A) == "flask.session" {
			return isIdentity(a.fold(s, n.B).Text), false
		}
	case pysyntax.Call:
		fn, args := t.call(id)
		switch q := a.qname(s, fn); {
		case q == "flask.session.get":
			return isIdentity(a.fold(s, argNamed(args, "key", 0)).Text), false
		case q == "flask.request.headers.get":
			k := strings.ToLower(a.fold(s, argNamed(args, "key", 0)).Text)
			return k == "authorization" || strings.Contains(k, "api-key") || strings.Contains(k, "token"), false
		case strings.HasPrefix(q, "flask_login.current_user."), strings.HasPrefix(q, "flask_security.current_user."), strings.HasPrefix(q, "flask.g.user."):
			return true, false
		case q == "getattr" && len(args) > 0:
			return a.identityTest(s, args[0].val, depth+1)
		}
	case pysyntax.Attribute, pysyntax.Name:
		q := a.qname(s, id)
		last := lastPart(q)
		switch {
		case last == "is_anonymous":
			return true, true
		case last == "is_authenticated" || last == "is_admin":
			return true, false
		case strings.HasPrefix(q, "flask_login.current_user"), strings.HasPrefix(q, "flask_security.current_user"),
			q == "flask.request.authorization":
			return true, false
		case strings.HasPrefix(q, "flask.g."):
			return isIdentity(strings.TrimPrefix(q, "flask.g.")), false
		}
		// auth = request.authorization; user = session.get("user_id")
		if n.Kind == pysyntax.Name {
			for _, b := range lookup(s, t.sym(n.A)) {
				if b.kind == bindExpr && b.node != 0 && b.scope.unit == s.unit && t.kind(b.node) != pysyntax.Name {
					if is, neg := a.identityTest(b.scope, b.node, depth+8); is {
						return true, neg
					}
				}
			}
		}
	}
	return false, false
}

// denies reports whether statements refuse: abort(401 or 403), raise, a
// redirect, or an answer with such a status.
func (a *analyzer) denies(s *scope, ids []node) bool {
	t := s.unit.tree
	found := false
	for _, id := range ids {
		t.walk(id, func(x node) bool {
			n := t.at(x)
			switch n.Kind {
			case pysyntax.Raise:
				found = true
			case pysyntax.Return:
				if n.A == 0 {
					return false
				}
				t.walk(n.A, func(y node) bool {
					switch t.kind(y) {
					case pysyntax.Num:
						v := a.fold(s, y)
						found = found || v.Num == 401 || v.Num == 403 || v.Num == 404
					case pysyntax.Call:
						f := t.callee(y)
						q := a.qname(s, f)
						found = found || q == "flask.redirect" || strings.Contains(strings.ToLower(q), "unauthorized") || strings.Contains(strings.ToLower(q), "forbidden")
					}
					return !found
				})
			case pysyntax.Call:
				f := t.callee(x)
				found = found || a.qname(s, f) == "flask.abort"
			}
			return !found
		})
	}
	return found
}

// exceptions returns the constants that a gate compares the request's
// endpoint, path or blueprint with.
func (a *analyzer) exceptions(fn *scope) []string {
	t := fn.unit.tree
	var out []string
	isWhere := func(id node) bool {
		switch a.qname(fn, id) {
		case "flask.request.endpoint", "flask.request.path", "flask.request.blueprint", "flask.request.full_path", "flask.request.url_rule",
			"flask.request.url_rule.rule", "flask.request.url_rule.endpoint":
			return true
		}
		return false
	}
	t.walk(fn.id, func(x node) bool {
		switch n := t.at(x); n.Kind {
		case pysyntax.Compare:
			for _, c := range t.compare(x) {
				if isWhere(n.A) {
					out = append(out, a.fold(fn, c.right).Strings()...)
				} else if isWhere(c.right) {
					out = append(out, a.fold(fn, n.A).Strings()...)
				}
			}
		case pysyntax.Call:
			f, args := t.call(x)
			if base, m := t.attr(f); base != 0 && (m == "startswith" || m == "endswith") && isWhere(base) && len(args) > 0 {
				out = append(out, a.fold(fn, args[0].val).Strings()...)
			}
		}
		return true
	})
	return sorted(out)
}
