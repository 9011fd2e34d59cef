package flask

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// rawRoute is a registration before it is known where its blueprint hangs.
type rawRoute struct {
	unit       *unit
	id         node // the decorator or call
	rule       string
	methods    []string // nil: as Flask decides
	endpoint   string
	autoOpt    bool
	fn         *scope // function, or class of a class-based view
	cls        *scope
	decorators []Decorator
	redirectTo bool
	apiClass   bool // of Flask-RESTful: no automatic endpoint rules of Flask's
	synthetic  RouteKind
}

var httpMethods = [...]string{"get", "post", "head", "options", "delete", "put", "trace", "patch"}

var shortcutMethods = map[string]string{"get": "GET", "post": "POST", "put": "PUT", "delete": "DELETE", "patch": "PATCH"}

func (a *analyzer) findRoutes() {
	for _, b := range a.blueprints {
		a.completeBlueprint(b)
	}
	for _, x := range a.apis {
		a.completeAPI(x)
	}
	a.apiDecorators()
	appRoutes := map[*App][]*rawRoute{}
	add := func(recv *obj, r *rawRoute) {
		switch recv.kind {
		case objApp:
			appRoutes[recv.app] = append(appRoutes[recv.app], r)
		case objBlueprint:
			recv.bp.routes = append(recv.bp.routes, r)
		case objAPI:
			recv.api.routes = append(recv.api.routes, r)
		}
	}
	hooks := map[*App][]*Hook{}
	wide := map[*obj][]*Hook{} // of blueprints, for the apps that they are registered on
	addHook := func(recv *obj, h *Hook) {
		if strings.Contains(h.Kind, "_app_") || h.Kind == "app_errorhandler" { // a blueprint's hook for the whole app
			h.Kind = strings.Replace(h.Kind, "app_", "", 1)
			wide[recv] = append(wide[recv], h)
		} else if recv.kind == objApp {
			hooks[recv.app] = append(hooks[recv.app], h)
		} else {
			recv.bp.hooks = append(recv.bp.hooks, h)
			h.Blueprint = recv.bp.pub.Name
		}
		a.m.Hooks = append(a.m.Hooks, *h)
	}

	for _, u := range a.units {
		for _, s := range u.defs {
			a.decoratorRoutes(u, s, add, addHook)
		}
		for _, c := range u.calls {
			a.callRoutes(u, c, add, addHook)
		}
	}

	a.operationRoutes(add)

	// APIs hand their resources to apps and blueprints.
	for _, x := range a.apis {
		if x.namespace {
			continue
		}
		a.mountAPI(x, add)
	}

	for recv, list := range wide {
		apps := map[*App]bool{}
		a.registeredOn(recv, apps, 0)
		for _, o := range a.appObjs {
			// Where nothing registers it that is understood, it may be any app
			// of its part of the project.
			if apps[o.app] || len(apps) == 0 && (len(a.appObjs) == 1 || topFolder(recv.unit.path) == topFolder(o.unit.path)) {
				hooks[o.app] = append(hooks[o.app], list...)
			}
		}
	}
	for _, o := range a.appObjs {
		slices.SortFunc(hooks[o.app], func(x, y *Hook) int {
			return cmp.Or(strings.Compare(x.Position.File, y.Position.File), cmp.Compare(x.Position.Line, y.Position.Line), cmp.Compare(x.Position.Column, y.Position.Column), strings.Compare(x.Kind, y.Kind))
		})
		app := o.app
		if app.StaticFolder != "" && app.StaticURLPath != "" {
			a.m.Routes = append(a.m.Routes, a.staticRoute(app.StaticURLPath, "static", "", app.Position))
		}
		for _, r := range appRoutes[app] {
			a.m.Routes = append(a.m.Routes, a.route(r, nil, nil, hooks[app]))
			a.m.Routes[len(a.m.Routes)-1].app = app
		}
	}
	reached := map[*blueprint]bool{}
	for _, b := range a.blueprints {
		for _, m := range b.mounts {
			if m.parent.kind == objApp {
				from := len(a.m.Routes)
				a.expand(m, m.prefix, "", nil, hooks[m.parent.app], reached, 0, &a.m.Routes)
				for _, r := range a.m.Routes[from:] {
					r.app, r.shared = m.parent.app, m.shared
				}
			}
		}
	}
	for _, b := range a.blueprints {
		if !reached[b] {
			for _, r := range b.routes {
				a.m.Unmounted = append(a.m.Unmounted, a.route(r, &mount{bp: b, name: b.pub.Name}, prefixOf(b), nil))
			}
			if len(b.routes) > 0 {
				a.unknown(b.unit, b.id, "nothing registers the blueprint "+b.pub.Name)
			}
		}
	}
	for _, x := range a.apis {
		if !x.mounted && len(x.routes) > 0 {
			for _, r := range x.routes {
				a.m.Unmounted = append(a.m.Unmounted, a.route(r, nil, &x.prefix, nil))
			}
			a.unknown(x.unit, x.id, "nothing gives the API an app")
		}
	}
}

// topFolder returns the first folder of a path.
func topFolder(name string) string {
	dir, _, ok := strings.Cut(name, "/")
	if !ok {
		return ""
	}
	return dir
}

// registeredOn adds the apps that an object is, or is registered on.
func (a *analyzer) registeredOn(o *obj, apps map[*App]bool, depth int) {
	switch {
	case depth > 16:
	case o.kind == objApp:
		apps[o.app] = true
	case o.kind == objBlueprint:
		for _, m := range o.bp.mounts {
			a.registeredOn(m.parent, apps, depth+1)
		}
	}
}

func prefixOf(b *blueprint) *string {
	if b.hasPre {
		return &b.prefix
	}
	return nil
}

func (a *analyzer) completeBlueprint(b *blueprint) {
	o := a.made[madeKey{b.unit, b.id}]
	_, args := b.unit.tree.call(b.id)
	s := o.scope
	pos, kw := a.values(s, args)
	b.pub.Args = kw
	if v, ok := kw["name"]; ok {
		b.pub.Name = v.Text
	} else if len(pos) > 0 {
		b.pub.Name = pos[0].Text
	}
	if b.pub.Name == "" {
		a.unknown(b.unit, b.id, "the name of a blueprint is not a constant")
		b.pub.Name = "?"
	}
	if v := argNamed(args, "url_prefix", -1); v != 0 {
		f := a.fold(s, v)
		switch {
		case f.Known && f.Kind == String:
			b.prefix, b.hasPre = f.Text, true
		case f.Default != nil && f.Default.Kind == String:
			b.prefix, b.hasPre = f.Default.Text, true
		case f.Kind != None:
			a.unknown(b.unit, v, "the url_prefix of the blueprint "+b.pub.Name+" is not a constant")
		}
	}
	dir := b.unit.dir
	if n := argNamed(args, "import_name", 1); n != 0 {
		if f := a.fold(s, n); f.Known && f.Kind == String {
			if m := a.findModule(b.unit, f.Text, 0); m != nil {
				dir = m.dir
			}
		}
	}
	b.pub.StaticFolder = folder(dir, kw, "static_folder", "")
	b.pub.TemplateFolder = folder(dir, kw, "template_folder", "")
	if b.pub.StaticFolder != "" {
		p := "/" + path.Base(b.pub.StaticFolder)
		if v, ok := kw["static_url_path"]; ok && v.Kind != None {
			p = v.Text
		}
		b.routes = append(b.routes, &rawRoute{unit: b.unit, id: b.id, rule: strings.TrimRight(p, "/") + "/<path:filename>", endpoint: "static",
			methods: []string{"GET"}, autoOpt: true, synthetic: KindStatic})
	}
}

// expand adds the routes of a blueprint where it is mounted, and those of
// the blueprints below.
func (a *analyzer) expand(m *mount, prefix *string, names string, chain []*blueprint, hooks []*Hook, reached map[*blueprint]bool, depth int, out *[]*Route) {
	b := m.bp
	if depth > 16 || slices.Contains(chain, b) {
		return
	}
	reached[b] = true
	name := m.name
	if names != "" {
		name = names + "." + name
	}
	if prefix == nil {
		prefix = prefixOf(b)
	}
	all := append(slices.Clone(hooks), b.hooks...)
	for _, r := range b.routes {
		*out = append(*out, a.route(r, &mount{bp: b, name: name}, prefix, all))
	}
	chain = append(slices.Clone(chain), b)
	for _, child := range a.blueprints {
		for _, cm := range child.mounts {
			if cm.parent.kind != objBlueprint || cm.parent.bp != b {
				continue
			}
			// flask.Blueprint.register: the parent's prefix comes first.
			p := cm.prefix
			if p == nil {
				p = prefixOf(child)
			}
			switch {
			case prefix != nil && p != nil:
				j := strings.TrimRight(*prefix, "/") + "/" + strings.TrimLeft(*p, "/")
				p = &j
			case p == nil:
				p = prefix
			}
			if p == nil {
				empty := ""
				p = &empty
			}
			a.expand(cm, p, name, chain, all, reached, depth+1, out)
		}
	}
}

func joinRule(prefix *string, rule string) string {
	if prefix == nil || *prefix == "" && rule != "" {
		if prefix != nil && !strings.HasPrefix(rule, "/") {
			return "/" + rule
		}
		return rule
	}
	if rule == "" {
		return *prefix
	}
	return strings.TrimRight(*prefix, "/") + "/" + strings.TrimLeft(rule, "/")
}

func (a *analyzer) staticRoute(urlPath, endpoint, blueprint string, at Position) *Route {
	rule := strings.TrimRight(urlPath, "/") + "/<path:filename>"
	return &Route{Rule: rule, Methods: []string{"GET"}, Endpoint: endpoint, Blueprint: blueprint, File: at.File, Line: at.Line, Position: at,
		Params: []Param{{Name: "filename", Converter: "path", Type: "str"}}, Kind: KindStatic, autoOptions: true}
}

// decoratorRoutes reads the decorators of one function or class.
func (a *analyzer) decoratorRoutes(u *unit, s *scope, add func(*obj, *rawRoute), addHook func(*obj, *Hook)) {
	t := u.tree
	var all []Decorator
	read := func() []Decorator {
		if all == nil {
			for _, d := range s.def.decorators {
				all = append(all, a.decorator(s.parent, d))
			}
		}
		return all
	}
	for i, dec := range s.def.decorators {
		fn, args := t.call(dec)
		called := fn != 0
		if !called {
			fn = dec
		}
		base, name := t.attr(fn)
		if base == 0 {
			if q := a.qname(s.parent, fn); exposing[q] {
				a.unknown(u, dec, "views of "+firstPart(q)+" are not followed")
			}
			continue
		}
		_, shortcut := shortcutMethods[name]
		isRoute := name == "route" || shortcut || name == "resource"
		if !isRoute && !hookKinds[name] && name != "doc" {
			continue
		}
		if name == "doc" || isRoute && !called {
			continue
		}
		recvs := a.receivers(s.parent, base)
		if len(recvs) == 0 {
			if name == "route" && len(a.eval(s.parent, base)) == 0 {
				a.unknown(u, dec, "a route is registered on "+t.text(base)+", which is not understood")
			}
			continue
		}
		if hookKinds[name] {
			pos, _ := a.values(s.parent, args)
			h := a.hook(name, s, pos)
			for _, r := range recvs {
				if r.kind != objAPI {
					addHook(r, h)
				}
			}
			continue
		}
		decs := slices.Clone(read())
		for j := range decs {
			decs[j].Above = j < i
		}
		decs = slices.Delete(decs, i, i+1)
		// Other registrations are no decorators of the view.
		decs = slices.DeleteFunc(decs, func(d Decorator) bool { return isRegistration(d.Name) })
		for _, recv := range recvs {
			rules := []node{argNamed(args, "rule", 0)}
			if recv.kind == objAPI { // any number of addresses
				rules = nil
				for _, x := range args {
					if x.name == "" && x.star == 0 {
						rules = append(rules, x.val)
					}
				}
			}
			for _, rule := range rules {
				r := a.newRoute(u, s.parent, dec, rule, args, recv)
				if r == nil {
					continue
				}
				r.decorators = decs
				if m, ok := shortcutMethods[name]; ok && recv.kind != objAPI {
					r.methods = []string{m}
				}
				if s.kind == classScope {
					a.classView(r, s)
				} else {
					r.fn = s
				}
				if r.endpoint == "" && recv.kind != objAPI {
					r.endpoint = s.name
				}
				add(recv, r)
			}
		}
	}
}

func isRegistration(q string) bool {
	i := strings.LastIndexByte(q, '.')
	if i < 0 {
		return false
	}
	_, short := shortcutMethods[q[i+1:]]
	return (short || q[i+1:] == "route") && (q[:i] == "flask.Flask" || q[:i] == "flask.Blueprint")
}

// receivers returns the apps, blueprints and APIs that an expression stands
// for.
func (a *analyzer) receivers(s *scope, id node) []*obj {
	var out []*obj
	for _, o := range a.eval(s, id) {
		if o.kind == objApp || o.kind == objBlueprint || o.kind == objAPI {
			out = append(out, o)
		}
	}
	return out
}

// newRoute reads what every form of registration has in common.
func (a *analyzer) newRoute(u *unit, s *scope, id, rule node, args []arg, recv *obj) *rawRoute {
	v := a.fold(s, rule)
	if v.Default != nil {
		v = *v.Default
	}
	if !v.Known || v.Kind != String {
		a.unknown(u, id, "the rule of a route is not a constant")
		return nil
	}
	r := &rawRoute{unit: u, id: id, rule: v.Text, autoOpt: true}
	if m := argNamed(args, "methods", -1); m != 0 {
		f := a.fold(s, m)
		if f.Kind != List || !f.Known {
			a.unknown(u, m, "the methods of a route are not constant")
		}
		r.methods = []string{}
		for _, x := range f.Strings() {
			r.methods = append(r.methods, strings.ToUpper(x))
		}
	}
	if e := argNamed(args, "endpoint", -1); e != 0 {
		f := a.fold(s, e)
		r.endpoint = f.Text
		if !f.Known && f.Kind != None {
			a.unknown(u, e, "the endpoint of a route is not a constant")
		}
	}
	if p := argNamed(args, "provide_automatic_options", -1); p != 0 && a.fold(s, p).IsFalse() {
		r.autoOpt = false
	}
	r.redirectTo = argNamed(args, "redirect_to", -1) != 0
	return r
}

// classView fills in what a class-based view says itself.
func (a *analyzer) classView(r *rawRoute, cls *scope) {
	r.cls, r.fn = cls, cls
	project, lib := a.ancestors(cls)
	byMethod := slices.ContainsFunc(lib, func(q string) bool {
		return q == "flask.views.MethodView" || strings.HasSuffix(q, ".Resource") || strings.HasSuffix(q, ".MethodView")
	})
	if b := a.classMember(cls, "methods"); len(b) > 0 && r.methods == nil {
		for _, x := range b {
			if x.kind == bindExpr {
				r.methods = []string{}
				for _, m := range a.fold(x.scope, x.node).Strings() {
					r.methods = append(r.methods, strings.ToUpper(m))
				}
			}
		}
	}
	if r.methods == nil && (byMethod || !slices.Contains(lib, "flask.views.View")) {
		for _, m := range httpMethods {
			for _, c := range project {
				if c.binds[m] != nil {
					r.methods = append(r.methods, strings.ToUpper(m))
					break
				}
			}
		}
	}
	if b := a.classMember(cls, "decorators"); len(b) > 0 {
		for _, x := range b {
			if x.kind == bindExpr {
				r.decorators = append(r.decorators, a.decoratorList(x.scope, x.node)...)
			}
		}
	}
	// Flask-RESTful's name for the same.
	for _, x := range a.classMember(cls, "method_decorators") {
		if x.kind == bindExpr {
			r.decorators = append(r.decorators, a.decoratorList(x.scope, x.node)...)
		}
	}
	r.decorators = append(r.decorators, a.commonDecorators(project, r.methods)...)
	if b := a.classMember(cls, "provide_automatic_options"); len(b) == 1 && b[0].kind == bindExpr && a.fold(b[0].scope, b[0].node).IsFalse() {
		r.autoOpt = false
	}
}

// commonDecorators returns the decorators that stand on every method of a
// class-based view; what guards one of them does not guard the route.
func (a *analyzer) commonDecorators(project []*scope, methods []string) []Decorator {
	var common []Decorator
	first := true
	names := []string{"dispatch_request"}
	for _, m := range methods {
		names = append(names, strings.ToLower(m))
	}
	for _, m := range names {
		for _, c := range project {
			i := slices.IndexFunc(c.binds[m], func(b binding) bool { return b.kind == bindDef })
			if i < 0 {
				continue
			}
			var here []Decorator
			for _, d := range c.binds[m][i].def.def.decorators {
				here = append(here, a.decorator(c, d))
			}
			if first {
				common = here
			} else {
				common = slices.DeleteFunc(common, func(d Decorator) bool {
					return !slices.ContainsFunc(here, func(h Decorator) bool { return h.Name == d.Name })
				})
			}
			first = false
			break
		}
	}
	return common
}

func (a *analyzer) decoratorList(s *scope, id node) []Decorator {
	t := s.unit.tree
	var out []Decorator
	switch t.kind(id) {
	case pysyntax.List, pysyntax.Tuple:
		for _, x := range t.list(t.at(id).A) {
			out = append(out, a.decorator(s, x))
		}
	case pysyntax.Dict: // method_decorators by method
		l := t.list(t.at(id).A)
		for i := 1; i < len(l); i += 2 {
			out = append(out, a.decoratorList(s, l[i])...)
		}
	}
	return out
}

func (a *analyzer) decorator(s *scope, id node) Decorator {
	t := s.unit.tree
	d := Decorator{Position: a.pos(s.unit, id)}
	fn, args := t.call(id)
	if fn == 0 {
		fn = id
	} else {
		d.Positional, d.Args = a.values(s, args)
	}
	if d.Name = clean(a.qname(s, fn)); d.Name == "" {
		d.Name = "?." + lastPart(t.text(fn))
	}
	return d
}

func lastPart(s string) string { return s[strings.LastIndexByte(s, '.')+1:] }

// view resolves what is given as view_func.
func (a *analyzer) view(s *scope, id node, r *rawRoute, seen map[madeKey]bool) bool {
	t := s.unit.tree
	if key := (madeKey{s.unit, id}); id == 0 || seen[key] || len(seen) > 100 {
		return false
	} else {
		seen[key] = true
	}
	if fn, args := t.call(id); fn != 0 {
		if base, name := t.attr(fn); name == "as_view" {
			for _, o := range a.eval(s, base) {
				if o.kind == objClass {
					a.classView(r, o.scope)
					if r.endpoint == "" {
						r.endpoint = a.fold(s, argNamed(args, "name", 0)).Text
					}
					return true
				}
			}
			return false
		}
		// A decorator called by hand: login_required(view), limit("…")(view).
		d := a.decorator(s, fn)
		for _, x := range args {
			if x.star == 0 && a.view(s, x.val, r, seen) {
				r.decorators = append(r.decorators, d)
				return true
			}
		}
		return false
	}
	if t.kind(id) == pysyntax.Lambda {
		if r.endpoint == "" {
			r.endpoint = "<lambda>"
		}
		return true
	}
	for _, o := range a.eval(s, id) {
		if o.kind == objFunc {
			r.fn = o.scope
			for _, d := range o.scope.def.decorators {
				r.decorators = append(r.decorators, a.decorator(o.scope.parent, d))
			}
			if r.endpoint == "" {
				r.endpoint = o.scope.name
			}
			return true
		}
	}
	for _, b := range a.bindings(s, id) {
		if b.kind == bindExpr && b.node != 0 && b.node != id && a.view(b.scope, b.node, r, seen) {
			return true
		}
	}
	return false
}

// handedRoutes reads what a function of the project registers for those who
// call it, and reports whether the call of add_url_rule is one such:
//
//	def register(bp, rules, view):
//	    for rule in rules:
//	        bp.add_url_rule(rule, view_func=view)
func (a *analyzer) handedRoutes(c callSite, base node, args []arg, add func(*obj, *rawRoute)) bool {
	s, t := c.scope, c.scope.unit.tree
	if s.kind != funcScope || len(s.sites) == 0 {
		return false
	}
	param := func(id node) int {
		b := s.binds[t.name(id)]
		if id == 0 || len(b) != 1 || b[0].kind != bindParam || b[0].index >= len(s.def.params) {
			return -1
		}
		return b[0].index
	}
	recv, ruleArg := param(base), argNamed(args, "rule", 0)
	rule, each := param(ruleArg), false
	if b := s.binds[t.name(ruleArg)]; rule < 0 && len(b) == 1 && b[0].kind == bindLoop {
		rule, each = param(b[0].node), true
	}
	if recv < 0 || rule < 0 || recv == 0 && s.parent.kind == classScope {
		return false
	}
	methods, viewArg := argNamed(args, "methods", -1), argNamed(args, "view_func", 2)
	view := param(viewArg)
	for _, site := range s.sites {
		given := func(index int) node {
			v, _ := site.arg(s.def.params[index], index)
			return v
		}
		from := site.scope.unit
		rules := []node{given(rule)}
		if k := from.tree.kind(rules[0]); each && (k == pysyntax.List || k == pysyntax.Tuple) {
			rules = from.tree.f.Elts(rules[0])
		} else if each || rules[0] == 0 {
			continue
		}
		// What goes through by **kwargs has its own name; the rest is told above.
		var named []arg
		for _, x := range site.args {
			if x.name != "" {
				named = append(named, x)
			}
		}
		for _, o := range a.receivers(site.scope, given(recv)) {
			for _, at := range rules {
				r := a.newRoute(from, site.scope, at, at, named, o)
				if r == nil {
					continue
				}
				if r.methods == nil && methods != 0 && param(methods) < 0 {
					r.methods = []string{}
					for _, m := range a.fold(s, methods).Strings() {
						r.methods = append(r.methods, strings.ToUpper(m))
					}
				}
				understood := false
				if view >= 0 {
					understood = a.view(site.scope, given(view), r, map[madeKey]bool{})
				} else if viewArg != 0 {
					understood = a.view(s, viewArg, r, map[madeKey]bool{})
				}
				if !understood {
					a.unknown(from, at, "the view of a route is not understood")
				}
				add(o, r)
			}
		}
	}
	return true
}

// callRoutes reads registrations written as calls.
func (a *analyzer) callRoutes(u *unit, c callSite, add func(*obj, *rawRoute), addHook func(*obj, *Hook)) {
	t := u.tree
	fn, args := t.call(c.id)
	if inner, iargs := t.call(fn); inner != 0 && len(args) == 1 { // app.route("/x")(view)
		if base, name := t.attr(inner); name == "route" {
			for _, recv := range a.receivers(c.scope, base) {
				if r := a.newRoute(u, c.scope, c.id, argNamed(iargs, "rule", 0), iargs, recv); r != nil {
					if !a.view(c.scope, args[0].val, r, map[madeKey]bool{}) {
						a.unknown(u, c.id, "the view of a route is not understood")
					}
					add(recv, r)
				}
			}
			return
		}
	}
	base, name := t.attr(fn)
	if base == 0 {
		return
	}
	switch name {
	case "add_url_rule":
		if a.handedRoutes(c, base, args, add) {
			return
		}
		recvs := a.receivers(c.scope, base)
		if len(recvs) == 0 {
			if len(a.eval(c.scope, base)) == 0 {
				a.unknown(u, c.id, "a route is registered on "+t.text(base)+", which is not understood")
			}
			return
		}
		for _, recv := range recvs {
			r := a.newRoute(u, c.scope, c.id, argNamed(args, "rule", 0), args, recv)
			if r == nil {
				continue
			}
			if e := argNamed(args, "endpoint", 1); e != 0 && r.endpoint == "" {
				r.endpoint = a.fold(c.scope, e).Text
			}
			if v := argNamed(args, "view_func", 2); v != 0 && !a.view(c.scope, v, r, map[madeKey]bool{}) {
				a.unknown(u, v, "the view of a route is not understood")
			}
			if r.endpoint == "" {
				a.unknown(u, c.id, "the endpoint of a route is not known")
			}
			add(recv, r)
		}
	case "register_blueprint":
		recvs := a.receivers(c.scope, base)
		v := argNamed(args, "blueprint", 0)
		if v == 0 {
			return
		}
		bps := a.receivers(c.scope, v)
		if len(recvs) == 0 || len(bps) == 0 {
			if len(recvs) > 0 || len(a.eval(c.scope, base)) == 0 {
				a.unknown(u, c.id, "the blueprint "+short(t.text(v))+" is not understood")
			}
			return
		}
		for _, recv := range recvs {
			for _, b := range bps {
				if b.kind != objBlueprint || recv.kind == objAPI && !strings.HasPrefix(recv.api.class, "flask_smorest") {
					continue
				}
				m := &mount{parent: recv, bp: b.bp, name: b.bp.pub.Name, unit: u, id: c.id, shared: len(recvs) > 1}
				if p := argNamed(args, "url_prefix", -1); p != 0 {
					f := a.fold(c.scope, p)
					if f.Default != nil {
						f = *f.Default
					}
					if f.Known && f.Kind == String {
						m.prefix = &f.Text
					} else if f.Kind != None {
						a.unknown(u, p, "the url_prefix of the blueprint "+b.bp.pub.Name+" is not a constant")
					}
				}
				if n := argNamed(args, "name", -1); n != 0 {
					m.name = a.fold(c.scope, n).Text
				}
				a.addMount(m)
			}
		}
	case "add_resource":
		recvs := a.receivers(c.scope, base)
		for _, recv := range recvs {
			if recv.kind == objAPI {
				a.addResource(u, c, args, recv, add)
			}
		}
		if len(recvs) == 0 && len(a.eval(c.scope, base)) == 0 {
			a.unknown(u, c.id, "a resource is added to "+t.text(base)+", which is not understood")
		}
	case "add_namespace":
		for _, recv := range a.receivers(c.scope, base) {
			for _, x := range a.receivers(c.scope, argNamed(args, "ns", 0)) {
				if recv.kind == objAPI && x.kind == objAPI {
					x.api.parents = append(x.api.parents, recv)
					p := ""
					if v := argNamed(args, "path", 1); v != 0 {
						p = a.fold(c.scope, v).Text
					}
					x.api.paths = append(x.api.paths, p)
				}
			}
		}
	case "exempt":
		if q := a.qname(c.scope, fn); q != "flask_wtf.CSRFProtect().exempt" && q != "flask_seasurf.SeaSurf().exempt" {
			return
		}
		for _, x := range args {
			for _, o := range a.eval(c.scope, x.val) {
				switch o.kind {
				case objFunc:
					a.exempt[o.scope] = a.pos(u, c.id)
				case objBlueprint:
					a.exemptBP[o.bp] = a.pos(u, c.id)
				}
			}
		}
	default:
		if !hookKinds[name] || len(args) == 0 {
			return
		}
		// app.before_request(f), app.register_error_handler(404, f)
		last := args[len(args)-1].val
		if name == "register_error_handler" {
			last = argNamed(args, "f", 1)
		}
		if last == 0 {
			return
		}
		for _, recv := range a.receivers(c.scope, base) {
			if recv.kind == objAPI {
				continue
			}
			for _, o := range a.eval(c.scope, last) {
				if o.kind == objFunc {
					pos, _ := a.values(c.scope, args[:len(args)-1])
					k := name
					if k == "register_error_handler" {
						k = "errorhandler"
					}
					addHook(recv, a.hook(k, o.scope, pos))
				}
			}
		}
	}
}

func short(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:60], "") + "…"
	}
	return s
}

func (a *analyzer) addMount(m *mount) {
	if len(m.bp.mounts) >= 64 {
		return
	}
	m.bp.mounts = append(m.bp.mounts, m)
	pub := Mount{Name: m.name, Position: a.pos(m.unit, m.id)}
	if m.parent.kind == objBlueprint {
		pub.Parent = m.parent.bp.pub.Name
	}
	if p := m.prefix; p != nil {
		pub.Prefix = *p
	} else if m.bp.hasPre {
		pub.Prefix = m.bp.prefix
	}
	m.bp.pub.Mounts = append(m.bp.pub.Mounts, pub)
}

func (a *analyzer) hook(kind string, fn *scope, args []Value) *Hook {
	h := &Hook{Kind: kind, Function: fn.qual, Position: a.pos(fn.unit, fn.id), Args: args, fn: fn}
	if strings.HasPrefix(kind, "before") {
		h.Gate = a.turnsAway(fn) || slices.ContainsFunc(fn.def.decorators, func(d node) bool {
			return a.loginDecorator(a.decorator(fn.parent, d), fn.parent, d)
		})
		if h.Gate {
			h.Except = a.exceptions(fn)
		}
	}
	return h
}

// ---- Flask-RESTful and Flask-RESTX ----

func (a *analyzer) completeAPI(x *api) {
	o := a.made[madeKey{x.unit, x.id}]
	_, args := x.unit.tree.call(x.id)
	s := o.scope
	fold := func(name string, i int) string { return a.fold(s, argNamed(args, name, i)).Text }
	if x.namespace {
		x.name = fold("name", 0)
		x.prefix = fold("path", -1)
		if x.prefix == "" {
			x.prefix = "/" + x.name
		}
		return
	}
	if p := argNamed(args, "app", 0); p != 0 {
		x.parents = append(x.parents, a.hosts(a.eval(s, p))...)
	}
	x.prefix = fold("prefix", -1)
	x.doc = "/"
	if d := argNamed(args, "doc", -1); d != 0 {
		v := a.fold(s, d)
		x.doc = v.Text
	}
}

func (a *analyzer) addResource(u *unit, c callSite, args []arg, recv *obj, add func(*obj, *rawRoute)) {
	cls := argNamed(args, "resource", 0)
	var class *scope
	for _, o := range a.eval(c.scope, cls) {
		if o.kind == objClass {
			class = o.scope
		}
	}
	if class == nil {
		a.unknown(u, c.id, "the resource "+short(u.tree.text(cls))+" is not understood")
		return
	}
	for i, x := range args {
		if i == 0 || x.name != "" {
			continue
		}
		if x.star != 0 {
			a.unknown(u, c.id, "the addresses of a resource are not constant")
			continue
		}
		if r := a.newRoute(u, c.scope, c.id, x.val, args, recv); r != nil {
			a.classView(r, class)
			add(recv, r)
		}
	}
}

// mountAPI hands the routes of an API and of its namespaces to its hosts.
func (a *analyzer) mountAPI(x *api, add func(*obj, *rawRoute)) {
	if len(x.parents) == 0 {
		return
	}
	x.mounted = true
	type prefixed struct {
		prefix, ns string
		routes     []*rawRoute
	}
	own := prefixed{prefix: x.prefix, routes: x.routes}
	if x.restx {
		own.ns = "default"
	}
	groups := []prefixed{own}
	for _, n := range a.apis {
		for i, p := range n.parents {
			if n.namespace && p.api == x {
				pre := n.prefix
				if n.paths[i] != "" {
					pre = n.paths[i]
				}
				groups = append(groups, prefixed{x.prefix + pre, n.name, n.routes})
				n.mounted = true
			}
		}
	}
	for _, host := range unique(x.parents) {
		for _, g := range groups {
			for _, r := range g.routes {
				y := *r
				y.decorators = slices.Concat(x.decorators, r.decorators)
				y.rule = g.prefix + r.rule
				if y.endpoint == "" && y.cls != nil {
					if x.restx {
						y.endpoint = g.ns + "_" + camelToSnake(y.cls.name)
					} else {
						y.endpoint = strings.ToLower(y.cls.name)
					}
				}
				y.apiClass = true
				add(host, &y)
			}
		}
		if x.restx {
			a.restxOwn(x, host, add)
		}
	}
}

// restxOwn adds what Flask-RESTX serves by itself: the documentation page
// and the description of the API.
func (a *analyzer) restxOwn(x *api, host *obj, add func(*obj, *rawRoute)) {
	own := func(rule, endpoint string) {
		add(host, &rawRoute{unit: x.unit, id: x.id, rule: rule, endpoint: endpoint, methods: []string{"GET"}, autoOpt: true, synthetic: KindAPI})
	}
	own(x.prefix+"/swagger.json", "specs")
	if x.doc != "" {
		own(x.doc, "doc")
	}
	root := x.prefix
	if root == "" {
		root = "/"
	}
	own(root, "root")
	if host.kind == objApp {
		own("/swaggerui/<path:filename>", "restx_doc.static")
	}
}

var camelRE = regexp.MustCompile(`([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])`)

func camelToSnake(s string) string {
	for range 2 {
		s = camelRE.ReplaceAllString(s, "${1}${3}_${2}${4}")
	}
	return strings.ToLower(s)
}

// ---- the finished route ----

var ruleParamRE = regexp.MustCompile(`<(?:([a-zA-Z_][a-zA-Z0-9_]*)(?:\(([^)]*)\))?:)?([a-zA-Z_][a-zA-Z0-9_]*)>`)

func parseParams(rule string) []Param {
	var out []Param
	for _, m := range ruleParamRE.FindAllStringSubmatch(rule, -1) {
		p := Param{Name: m[3], Converter: m[1], Args: m[2]}
		if p.Converter == "" {
			p.Converter = "string"
		}
		p.Type = converterTypes[p.Converter]
		out = append(out, p)
	}
	return out
}

func (a *analyzer) route(r *rawRoute, m *mount, prefix *string, hooks []*Hook) *Route {
	out := &Route{Rule: joinRule(prefix, r.rule), Endpoint: r.endpoint, Position: a.pos(r.unit, r.id), autoOptions: r.autoOpt,
		Decorators: slices.Clone(r.decorators), fn: r.fn, redirectTo: r.redirectTo, hooks: hooks}
	out.File, out.Line = out.Position.File, out.Position.Line
	if m != nil {
		out.Blueprint = m.bp.pub.Name
		out.Endpoint = strings.TrimLeft(m.name+"."+r.endpoint, ".")
		out.ExemptAt, out.CSRFExempt = a.exemptBP[m.bp]
	}
	if r.methods == nil {
		out.Methods = []string{"GET"}
	} else {
		// OPTIONS declared by the view itself needs no automatic one.
		out.Methods = slices.Clone(r.methods)
		slices.Sort(out.Methods)
		out.Methods = slices.Compact(out.Methods)
		if slices.Contains(out.Methods, "OPTIONS") {
			out.autoOptions = false
		}
	}
	out.Params = parseParams(out.Rule)
	a.convert(out.Params)
	if r.fn != nil {
		f := a.factsOf(r)
		out.Function = r.fn.qual
		out.FunctionPosition = a.pos(r.fn.unit, r.fn.id)
		out.File, out.Line = out.FunctionPosition.File, out.FunctionPosition.Line
		f.fill(out)
		if at, ok := a.exempt[r.fn]; ok {
			out.ExemptAt, out.CSRFExempt = at, true
		}
	}
	for _, d := range out.Decorators {
		switch d.Name {
		case "flask_wtf.CSRFProtect.exempt", "flask_seasurf.SeaSurf.exempt":
			// It remembers the name: the order does not matter.
			out.ExemptAt, out.CSRFExempt = d.Position, true
		}
	}
	a.gate(out, r, hooks)
	if out.Kind = r.synthetic; out.Kind == "" {
		out.Kind = routeKind(out)
	}
	return out
}

// gate decides whether a route asks for a login, and says by what.
func (a *analyzer) gate(out *Route, r *rawRoute, hooks []*Hook) {
	for i, d := range out.Decorators {
		out.Decorators[i].Login = a.loginName(d)
		if d.Above || !out.Decorators[i].Login {
			continue
		}
		if lastPart(d.Name) == "jwt_required" {
			if v, ok := d.Args["optional"]; ok && v.IsTrue() {
				continue
			}
		}
		if !out.LoginRequired {
			out.LoginRequired, out.Gate = true, "decorator "+d.Name
		}
		for _, role := range a.rolesOf(out.Decorators[i]) {
			if !slices.Contains(out.Roles, role) {
				out.Roles = append(out.Roles, role)
			}
		}
	}
	if !out.LoginRequired && r.cls != nil {
		open := a.openMethods(r.cls, out.Methods)
		if len(open) == 0 && len(out.Methods) > 0 && !slices.Contains(out.Methods, "OPTIONS") {
			out.LoginRequired, out.Gate = true, "a check of every method"
		} else if len(open) < len(out.Methods) {
			out.OpenMethods = open
		}
	}
	if !out.LoginRequired && r.fn != nil && r.fn.kind == funcScope && a.turnsAway(r.fn) {
		out.LoginRequired, out.Gate = true, "a check in the function"
	}
	if out.LoginRequired || r.synthetic == KindStatic {
		return
	}
	for _, h := range hooks {
		if h.Kind != "before_request" || !h.Gate {
			continue
		}
		exempt := slices.ContainsFunc(h.Except, func(e string) bool {
			return e == out.Endpoint || e == out.Rule || e == out.Blueprint && e != "" || lastPart(out.Endpoint) == e ||
				strings.HasPrefix(e, "/") && len(e) > 1 && strings.HasPrefix(out.Rule, e)
		})
		if !exempt {
			out.LoginRequired, out.Gate = true, "before_request "+h.Function
			return
		}
	}
}

// healthCheck reports whether an address is that of a health check. Words that
// a page may have for what it shows ("/orders/ready", "/patients/health") count
// only where nothing else stands in the address.
func healthCheck(rule string, has func(...string) bool) bool {
	if strings.Count(rule, "/") > 2 {
		return false
	}
	if has("healthz", "healthcheck", "readyz", "livez") || has("health", "heartbeat") && has("check", "status", "probe") {
		return true
	}
	if !has("health", "ready", "ping", "heartbeat", "alive") {
		return false
	}
	for s := range strings.SplitSeq(rule, "/") {
		switch s {
		case "", "health", "ready", "readiness", "live", "liveness", "alive", "ping", "heartbeat", "api", "v1", "v2", "internal", "_":
		default:
			return false
		}
	}
	return true
}

func routeKind(r *Route) RouteKind {
	name := lastPart(r.Endpoint)
	words := append(splitWords(r.Rule), splitWords(name)...)
	rule := strings.ToLower(r.Rule)
	has := func(w ...string) bool {
		return slices.ContainsFunc(words, func(x string) bool { return slices.Contains(w, x) })
	}
	switch {
	case r.LogsIn && !r.LoginRequired && !has("register", "signup"), has("login", "signin", "logon", "authenticate") && !r.LogsOut,
		strings.Contains(rule, "sign-in") || strings.Contains(rule, "log-in"):
		return KindLogin
	case has("logout", "signout", "logoff") || strings.Contains(rule, "sign-out") || r.LogsOut && !r.LogsIn && len(words) < 6:
		return KindLogout
	case has("register", "signup", "registration") || strings.Contains(rule, "sign-up"):
		return KindRegister
	case has("reset", "forgot", "forgotten", "recover", "recovery") && !has("filter", "filters", "cache", "db"):
		return KindReset
	case has("token", "tokens", "oauth") && r.Writes():
		return KindToken
	case has("admin", "administrator", "backoffice", "superuser") || slices.Contains(r.Roles, "admin"):
		return KindAdmin
	case healthCheck(rule, has) && len(r.Query)+len(r.Params) == 0:
		return KindHealth
	case has("api", "graphql", "rpc", "webhook", "webhooks") || len(r.JSON) > 0 || slices.ContainsFunc(r.Methods, func(m string) bool { return m == "PUT" || m == "PATCH" || m == "DELETE" }):
		return KindAPI
	}
	return KindPage
}
