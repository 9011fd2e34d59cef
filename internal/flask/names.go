package flask

import (
	"path"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// unit is one Python module of the project.
type unit struct {
	path   string
	module string // dotted, from the folder that is on Python's path
	dir    string // the folder of the file; "" is the project's root
	top    string // the folder that module starts from
	pkg    bool   // __init__.py
	tree   tree
	root   *scope
	scopes []*scope // in the order of their start
	folded map[node]Value
	seen   [][]*obj
	seenAt []int32 // by node: 1 + its index in seen, 0 if it was not asked for
	calls  []callSite
	// places where something is assigned to a subscript or an attribute
	stores []store
	defs   []*scope // functions and classes, in the order of the text
}

type callSite struct {
	scope *scope
	id    node
	cond  bool
	main  bool
}

type store struct {
	scope  *scope
	target node
	value  node // 0 for an augmented assignment
	cond   bool
}

type scopeKind uint8

const (
	moduleScope scopeKind = iota
	classScope
	funcScope
)

// scope is a module, class or function with the names bound in it.
type scope struct {
	kind    scopeKind
	unit    *unit
	parent  *scope
	name    string
	qual    string // module.Class.name
	id      node
	start   uint32
	end     uint32
	def     def
	binds   map[string][]binding
	global  map[string]bool
	returns []node
	attrs   map[string][]binding // of a class: self.x = … in its methods
	cond    bool
	main    bool
	sites   []argSite // of a function: where the project calls it
	facts   *facts
	isGen   bool
}

type argSite struct {
	scope *scope
	args  []arg
	self  int // 1 when the first parameter is bound by the call
}

type bindKind uint8

const (
	bindExpr   bindKind = iota
	bindImport          // text is the module; level for relative ones
	bindFrom            // text is the module, name the name in it
	bindModule          // scope is a module's
	bindLib             // text is a qualified name outside the project
	bindDef             // def is a function or class
	bindParam           // index
	bindLoop            // node is what is iterated over
	bindItem            // node is unpacked, index is the place
	bindOther
)

type binding struct {
	kind      bindKind
	scope     *scope // in which node is to be read
	node      node
	text      string
	name      string
	level     int
	index     int
	def       *scope
	cond      bool
	augmented bool
}

type objKind uint8

const (
	objLib objKind = iota // something outside the project: q
	objModule
	objFunc
	objClass
	objInstance // of a project class
	objApp
	objBlueprint
	objExtension
	objAPI
)

// obj is what a name can stand for.
type obj struct {
	kind  objKind
	q     string
	unit  *unit
	scope *scope // function, class
	app   *App
	bp    *blueprint
	ext   *extension
	api   *api
	bound bool // a method reached through an instance
}

// ---- reading a module into scopes ----

type reader struct {
	a    *analyzer
	u    *unit
	t    tree
	cond int
	main int
}

func (a *analyzer) readUnit(u *unit) {
	u.root = &scope{kind: moduleScope, unit: u, name: u.module, qual: u.module, id: u.tree.f.Root,
		end: uint32(len(u.tree.f.Src)) + 1, binds: map[string][]binding{}}
	u.scopes = append(u.scopes, u.root)
	r := &reader{a: a, u: u, t: u.tree}
	r.stmts(u.root, u.tree.body())
}

func (r *reader) stmts(s *scope, ids []node) {
	for _, id := range ids {
		r.stmt(s, id)
	}
}

func (r *reader) bind(s *scope, name string, b binding) {
	if name == "" {
		return
	}
	if b.scope == nil {
		b.scope = s
	}
	b.cond = r.cond > 0
	if s.global[name] {
		s = r.u.root
	}
	s.binds[name] = append(s.binds[name], b)
}

func (r *reader) stmt(s *scope, id node) {
	t := r.t
	n := t.at(id)
	switch n.Kind {
	case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef, pysyntax.ClassDef:
		r.define(s, id)
	case pysyntax.Import:
		for _, al := range t.list(n.A) {
			m := t.at(al)
			full, as := t.sym(m.A), t.sym(m.B)
			if as != "" {
				r.bind(s, as, binding{kind: bindImport, text: full, node: al})
			} else {
				r.bind(s, firstPart(full), binding{kind: bindImport, text: firstPart(full), node: al})
			}
		}
	case pysyntax.ImportFrom:
		for _, al := range t.list(n.B) {
			m := t.at(al)
			name, as := t.sym(m.A), t.sym(m.B)
			if as == "" {
				as = name
			}
			r.bind(s, as, binding{kind: bindFrom, text: t.sym(n.A), name: name, level: int(n.C), node: al})
		}
	case pysyntax.Global:
		if s.global == nil {
			s.global = map[string]bool{}
		}
		for _, x := range t.list(n.A) {
			s.global[t.sym(x)] = true
		}
	case pysyntax.Assign:
		r.expr(s, n.B)
		for _, target := range t.list(n.A) {
			r.target(s, target, n.B, binding{kind: bindExpr, node: n.B})
		}
	case pysyntax.AnnAssign:
		r.expr(s, n.C)
		if n.C != 0 {
			r.target(s, n.A, n.C, binding{kind: bindExpr, node: n.C})
		} else if name := t.name(n.A); name != "" && s.kind == funcScope {
			r.bind(s, name, binding{kind: bindOther})
		}
	case pysyntax.AugAssign:
		r.expr(s, n.B)
		if name := t.name(n.A); name != "" {
			r.bind(s, name, binding{kind: bindExpr, node: n.B, augmented: true})
		} else {
			r.expr(s, n.A)
			r.u.stores = append(r.u.stores, store{s, n.A, 0, r.cond > 0})
		}
	case pysyntax.For, pysyntax.AsyncFor:
		r.expr(s, n.B)
		r.target(s, n.A, 0, binding{kind: bindLoop, node: n.B})
		r.cond++
		r.stmts(s, t.list(n.C))
		r.stmts(s, t.list(n.D))
		r.cond--
	case pysyntax.With, pysyntax.AsyncWith:
		for _, w := range t.list(n.A) {
			item := t.at(w)
			r.expr(s, item.A)
			if item.B != 0 {
				r.target(s, item.B, 0, binding{kind: bindOther})
			}
		}
		r.stmts(s, t.list(n.B))
	case pysyntax.If:
		r.expr(s, n.A)
		if r.isMain(s, n.A) {
			r.main++
			r.stmts(s, t.list(n.B))
			r.main--
			r.stmts(s, t.list(n.C))
			return
		}
		if t.name(n.A) == "TYPE_CHECKING" || strings.HasSuffix(t.text(n.A), ".TYPE_CHECKING") {
			r.stmts(s, t.list(n.B)) // imports that only name types still say what a name is
			return
		}
		r.cond++
		r.stmts(s, t.list(n.B))
		r.stmts(s, t.list(n.C))
		r.cond--
	case pysyntax.Try, pysyntax.TryStar:
		r.stmts(s, t.list(n.A))
		r.cond++
		for _, h := range t.list(n.B) {
			hn := t.at(h)
			r.bind(s, t.sym(hn.B), binding{kind: bindOther})
			r.stmts(s, t.list(hn.C))
		}
		r.cond--
		r.stmts(s, t.list(n.C))
		r.stmts(s, t.list(n.D))
	case pysyntax.While:
		r.expr(s, n.A)
		r.cond++
		r.stmts(s, t.list(n.B))
		r.stmts(s, t.list(n.C))
		r.cond--
	case pysyntax.Match:
		r.expr(s, n.A)
		r.cond++
		for _, c := range t.list(n.B) {
			r.stmts(s, t.list(t.at(c).C))
		}
		r.cond--
	case pysyntax.Return:
		r.expr(s, n.A)
		if s.kind == funcScope && n.A != 0 {
			s.returns = append(s.returns, n.A)
		}
	default:
		t.each(id, func(c node) { r.expr(s, c) })
	}
}

// isMain recognises `__name__ == "__main__"`.
func (r *reader) isMain(s *scope, id node) bool {
	t := r.t
	if t.kind(id) != pysyntax.Compare {
		return false
	}
	rest := t.compare(id)
	if len(rest) != 1 || rest[0].op != "==" {
		return false
	}
	l, rt := t.at(id).A, rest[0].right
	if t.name(l) != "__name__" {
		l, rt = rt, l
	}
	v, _ := t.str(rt)
	return t.name(l) == "__name__" && v == "__main__"
}

// expr notes calls and the names bound by := below an expression.
func (r *reader) expr(s *scope, id node) {
	if id == 0 {
		return
	}
	switch n := r.t.at(id); n.Kind {
	case pysyntax.Call:
		r.u.calls = append(r.u.calls, callSite{s, id, r.cond > 0, r.main > 0 || s.main})
	case pysyntax.NamedExpr:
		r.bind(s, r.t.name(n.A), binding{kind: bindExpr, node: n.B})
	case pysyntax.Yield, pysyntax.YieldFrom:
		s.isGen = true
	}
	r.t.each(id, func(c node) { r.expr(s, c) })
}

func (r *reader) target(s *scope, id, value node, b binding) {
	t := r.t
	n := t.at(id)
	switch n.Kind {
	case pysyntax.Name:
		r.bind(s, t.sym(n.A), b)
	case pysyntax.Starred:
		r.target(s, n.A, 0, binding{kind: bindOther})
	case pysyntax.Tuple, pysyntax.List:
		items := t.list(n.A)
		var values []node
		if b.kind == bindExpr && value != 0 {
			if k := t.kind(value); k == pysyntax.Tuple || k == pysyntax.List {
				values = t.list(t.at(value).A)
			}
		}
		for i, x := range items {
			switch {
			case len(values) == len(items):
				r.target(s, x, values[i], binding{kind: bindExpr, node: values[i]})
			case b.kind == bindExpr || b.kind == bindLoop:
				r.target(s, x, 0, binding{kind: bindItem, node: b.node, index: i, level: int(b.kind)})
			default:
				r.target(s, x, 0, binding{kind: bindOther})
			}
		}
	case pysyntax.Subscript:
		r.expr(s, id)
		r.u.stores = append(r.u.stores, store{s, id, value, r.cond > 0 || s.cond})
	case pysyntax.Attribute:
		r.expr(s, n.A)
		r.u.stores = append(r.u.stores, store{s, id, value, r.cond > 0 || s.cond})
		if s.kind == funcScope && s.parent.kind == classScope && len(s.def.params) > 0 && t.name(n.A) == s.def.params[0].name {
			b.scope = s
			c := s.parent
			if c.attrs == nil {
				c.attrs = map[string][]binding{}
			}
			name := t.sym(n.B)
			c.attrs[name] = append(c.attrs[name], b)
		}
	}
}

func (r *reader) define(s *scope, id node) {
	t := r.t
	n := t.at(id)
	d := t.def(id)
	in := &scope{kind: funcScope, unit: r.u, parent: s, name: d.name, qual: s.qual + "." + d.name, id: id, def: d,
		start: n.Start, end: n.End, binds: map[string][]binding{}, cond: r.cond > 0 || s.cond && s.kind == classScope, main: r.main > 0 || s.main}
	if n.Kind == pysyntax.ClassDef {
		in.kind = classScope
		for _, b := range t.bases(id) {
			r.expr(s, b.val)
		}
	}
	for _, dec := range d.decorators {
		r.expr(s, dec)
	}
	for i, p := range d.params {
		r.expr(s, p.def)
		in.binds[p.name] = append(in.binds[p.name], binding{kind: bindParam, scope: in, index: i})
	}
	r.u.scopes = append(r.u.scopes, in)
	r.u.defs = append(r.u.defs, in)
	r.bind(s, d.name, binding{kind: bindDef, def: in})
	cond, main := r.cond, r.main
	r.cond = 0
	r.stmts(in, d.body)
	r.cond, r.main = cond, main
}

// ---- modules ----

// findModule returns the module that a dotted name means in u.
func (a *analyzer) findModule(u *unit, dotted string, level int) *unit {
	key := moduleKey{u.dir, u.top, dotted, level}
	m, ok := a.modules[key]
	if !ok {
		m = a.lookForModule(u, dotted, level)
		a.modules[key] = m
	}
	return m
}

type moduleKey struct {
	dir, top, dotted string
	level            int
}

func (a *analyzer) lookForModule(u *unit, dotted string, level int) *unit {
	rel := strings.ReplaceAll(dotted, ".", "/")
	if level > 0 {
		dir := u.dir
		for range level - 1 {
			if dir == "" {
				return nil
			}
			dir = parentDir(dir)
		}
		return a.moduleAt(path.Join(dir, rel))
	}
	if rel == "" || !a.firstNames[firstPart(dotted)] {
		return nil
	}
	for dir := u.top; ; dir = parentDir(dir) {
		if m := a.moduleAt(path.Join(dir, rel)); m != nil {
			return m
		}
		if dir == "" {
			break
		}
	}
	for _, root := range a.roots {
		if m := a.moduleAt(path.Join(root, rel)); m != nil {
			return m
		}
	}
	return nil
}

func (a *analyzer) moduleAt(p string) *unit {
	if m := a.byFile[p+"/__init__.py"]; m != nil {
		return m
	}
	if p == "" {
		return a.byFile["__init__.py"]
	}
	return a.byFile[p+".py"]
}

func parentDir(dir string) string {
	i := strings.LastIndexByte(dir, '/')
	if i < 0 {
		return ""
	}
	return dir[:i]
}

// ---- what a name stands for ----

const maxEvalDepth = 120

// bindings returns where the name or attribute is bound, following imports.
func (a *analyzer) bindings(s *scope, id node) []binding {
	t := s.unit.tree
	switch n := t.at(id); n.Kind {
	case pysyntax.Name:
		return a.followImports(lookup(s, t.sym(n.A)), nil)
	case pysyntax.Attribute:
		var out []binding
		name := t.sym(n.B)
		for _, o := range a.eval(s, n.A) {
			out = append(out, a.member(o, name)...)
		}
		return a.followImports(out, nil)
	}
	return nil
}

// lookup finds a name by Python's rule: local, enclosing functions (classes
// only from their own body), module.
func lookup(s *scope, name string) []binding {
	for x := s; x != nil; x = x.parent {
		if x != s && x.kind == classScope {
			continue
		}
		if x.global[name] {
			return x.unit.root.binds[name]
		}
		if b := x.binds[name]; b != nil {
			return b
		}
	}
	return nil
}

// nameKey is a name in a module, to notice imports that go in circles.
type nameKey struct {
	unit *unit
	name string
}

// followImports replaces `from m import x` by the bindings of x in m, to the
// end of the chain: what is left is no bindFrom.
func (a *analyzer) followImports(in []binding, seen map[nameKey]bool) []binding {
	if !slices.ContainsFunc(in, func(b binding) bool { return b.kind == bindFrom }) {
		return in
	}
	if seen == nil {
		seen = map[nameKey]bool{}
	}
	var out []binding
	for _, b := range in {
		if b.kind == bindFrom {
			out = append(out, a.from(b, seen)...)
		} else {
			out = append(out, b)
		}
	}
	return out
}

func (a *analyzer) from(b binding, seen map[nameKey]bool) []binding {
	if b.name == "*" {
		return nil
	}
	if m := a.findModule(b.scope.unit, b.text, b.level); m != nil {
		if found := a.moduleMember(m, b.name, seen); len(found) > 0 {
			return found
		}
		if m.pkg {
			if sub := a.moduleAt(path.Join(m.dir, b.name)); sub != nil {
				return []binding{{kind: bindModule, scope: sub.root}}
			}
		}
		return nil
	}
	full := b.name
	if b.text != "" {
		full = b.text + "." + b.name
	}
	if sub := a.findModule(b.scope.unit, full, b.level); sub != nil { // of a folder without __init__.py
		return []binding{{kind: bindModule, scope: sub.root}}
	}
	if b.level > 0 {
		return nil
	}
	return []binding{{kind: bindLib, scope: b.scope, text: full}}
}

// moduleMember returns the bindings of a name in a module, star imports
// included. seen holds the names that led here.
func (a *analyzer) moduleMember(m *unit, name string, seen map[nameKey]bool) []binding {
	if seen == nil {
		seen = map[nameKey]bool{}
	}
	key := nameKey{m, name}
	if seen[key] { // `from . import x` in a package names the submodule
		return nil
	}
	seen[key] = true
	if b := m.root.binds[name]; b != nil {
		return a.followImports(b, seen)
	}
	for _, star := range m.root.binds["*"] {
		if from := a.findModule(m, star.text, star.level); from != nil {
			if b := a.moduleMember(from, name, seen); len(b) > 0 {
				return b
			}
		}
	}
	return nil
}

// member returns the bindings of an attribute of o.
func (a *analyzer) member(o *obj, name string) []binding {
	switch o.kind {
	case objModule:
		return a.moduleMember(o.unit, name, nil)
	case objClass, objInstance:
		return a.classMember(o.scope, name)
	}
	return nil
}

// classMember returns the bindings of an attribute of a class, its own or
// inherited within the project.
func (a *analyzer) classMember(c *scope, name string) []binding {
	project, _ := a.ancestors(c)
	for _, c := range project {
		if b := c.binds[name]; b != nil {
			return b
		}
		if b := c.attrs[name]; b != nil {
			return b
		}
	}
	return nil
}

// bases returns what a class derives from.
func (a *analyzer) bases(c *scope) []*obj {
	var out []*obj
	for _, b := range c.unit.tree.bases(c.id) {
		if b.name == "" && b.star == 0 {
			out = append(out, a.eval(c.parent, b.val)...)
		}
	}
	return out
}

// ancestors returns a class and every project class above it, nearest first,
// and the qualified names of the library classes above.
func (a *analyzer) ancestors(c *scope) (project []*scope, library []string) {
	if l, ok := a.lines[c]; ok {
		return l.project, l.library
	}
	a.lines[c] = lineage{project: []*scope{c}} // while a base is looked up in the class itself
	var l lineage
	var visit func(*scope)
	visit = func(c *scope) {
		if slices.Contains(l.project, c) || len(l.project) > 64 {
			return
		}
		l.project = append(l.project, c)
		for _, b := range a.bases(c) {
			switch b.kind {
			case objClass:
				visit(b.scope)
			case objLib:
				if !slices.Contains(l.library, b.q) {
					l.library = append(l.library, b.q)
				}
			}
		}
	}
	visit(c)
	a.lines[c] = l
	return l.project, l.library
}

// lineage is what a class derives from.
type lineage struct {
	project []*scope
	library []string
}

func (a *analyzer) lib(q string) *obj {
	if c, ok := canonical[q]; ok {
		q = c
	}
	o := a.libs[q]
	if o == nil {
		o = &obj{kind: objLib, q: q}
		a.libs[q] = o
	}
	return o
}

func (a *analyzer) object(s *scope, k objKind) *obj {
	key := objKey{s, k}
	o := a.objs[key]
	if o == nil {
		o = &obj{kind: k, scope: s, unit: s.unit}
		a.objs[key] = o
	}
	return o
}

func (a *analyzer) moduleObj(u *unit) *obj { return a.object(u.root, objModule) }

// eval returns what an expression can stand for. Values that are no modules,
// functions, classes or objects of Flask are not listed.
func (a *analyzer) eval(s *scope, id node) []*obj {
	if id == 0 {
		return nil
	}
	u := s.unit
	if i := u.seenAt[id]; i > 0 {
		return u.seen[i-1]
	}
	if a.evalDepth >= maxEvalDepth {
		return nil
	}
	a.evalDepth++
	u.seen = append(u.seen, nil) // what is defined by itself is unknown
	at := len(u.seen)
	u.seenAt[id] = int32(at)
	v := a.evalNew(s, id)
	a.evalDepth--
	if len(v) == 1 && v[0].kind == objLib && v[0].q == "flask.current_app" && len(a.appObjs) > 0 {
		v = a.appObjs
	}
	if len(v) > 1 {
		v = unique(v)
	}
	u.seen[at-1] = v
	return v
}

func unique(in []*obj) []*obj {
	out := in[:0:0]
	for _, o := range in {
		if !slices.Contains(out, o) {
			out = append(out, o)
		}
		if len(out) >= 64 {
			break
		}
	}
	return out
}

func (a *analyzer) evalNew(s *scope, id node) []*obj {
	t := s.unit.tree
	n := t.at(id)
	switch n.Kind {
	case pysyntax.Name:
		name := t.sym(n.A)
		b := lookup(s, name)
		if b == nil {
			for _, star := range s.unit.root.binds["*"] {
				if m := a.findModule(s.unit, star.text, star.level); m != nil {
					b = append(b, a.moduleMember(m, name, nil)...)
				} else if star.level == 0 && (star.text == "flask" || knownModules[firstPart(star.text)]) {
					return []*obj{a.lib(star.text + "." + name)}
				}
			}
			if b == nil && builtins[name] {
				return []*obj{a.lib(name)}
			}
		}
		return a.evalBindings(b)
	case pysyntax.Attribute:
		var out []*obj
		name := t.sym(n.B)
		for _, o := range a.eval(s, n.A) {
			out = append(out, a.evalMember(s, o, name)...)
		}
		return out
	case pysyntax.Call:
		return a.evalCall(s, id)
	case pysyntax.IfExp:
		return append(slices.Clone(a.eval(s, n.B)), a.eval(s, n.C)...)
	case pysyntax.BoolOp:
		var out []*obj
		for _, x := range t.list(n.A) {
			out = append(out, a.eval(s, x)...)
		}
		return out
	case pysyntax.NamedExpr:
		return a.eval(s, n.B)
	case pysyntax.Await:
		return a.eval(s, n.A)
	case pysyntax.List, pysyntax.Tuple, pysyntax.Set:
		var out []*obj // a container stands for its elements
		for _, x := range t.list(n.A) {
			if t.kind(x) == pysyntax.Starred {
				x = t.at(x).A
			}
			out = append(out, a.eval(s, x)...)
		}
		return out
	case pysyntax.Dict:
		var out []*obj
		l := t.list(n.A)
		for i := 1; i < len(l); i += 2 {
			out = append(out, a.eval(s, l[i])...)
		}
		return out
	case pysyntax.Subscript:
		return a.evalSubscript(s, n.A, n.B)
	}
	return nil
}

// evalSubscript follows a constant key into a dict display; with any other
// key, a container stands for all of its elements.
func (a *analyzer) evalSubscript(s *scope, base, index node) []*obj {
	if key := a.fold(s, index); key.Known && key.Kind == String {
		for _, b := range a.dictsOf(s, base) {
			bt := b.scope.unit.tree
			l := bt.list(bt.at(b.node).A)
			for i := 0; i+1 < len(l); i += 2 {
				if l[i] == 0 {
					continue
				}
				if k := a.fold(b.scope, l[i]); k.Known && k.Text == key.Text {
					return a.eval(b.scope, l[i+1])
				}
			}
		}
	}
	if q := a.qname(s, base); q != "" && !strings.HasPrefix(q, "?") {
		if objs := a.eval(s, base); len(objs) == 1 && objs[0].kind == objLib {
			return []*obj{a.lib(q + "[]")}
		}
	}
	return a.eval(s, base)
}

// dictsOf returns the dict displays that an expression can be.
func (a *analyzer) dictsOf(s *scope, id node) []binding {
	t := s.unit.tree
	if t.kind(id) == pysyntax.Dict {
		return []binding{{kind: bindExpr, scope: s, node: id}}
	}
	var out []binding
	for _, b := range a.bindings(s, id) {
		if b.kind == bindExpr && b.node != 0 && b.scope.unit.tree.kind(b.node) == pysyntax.Dict {
			out = append(out, b)
		}
	}
	return out
}

func (a *analyzer) evalBindings(in []binding) []*obj {
	var out []*obj
	for _, b := range in {
		out = append(out, a.evalBinding(b)...)
	}
	return out
}

func (a *analyzer) evalBinding(b binding) []*obj {
	switch b.kind {
	case bindImport:
		if m := a.findModule(b.scope.unit, b.text, 0); m != nil {
			return []*obj{a.moduleObj(m)}
		}
		return []*obj{a.lib(b.text)}
	case bindFrom:
		return a.evalBindings(a.followImports([]binding{b}, nil))
	case bindModule:
		return []*obj{a.moduleObj(b.scope.unit)}
	case bindLib:
		return []*obj{a.lib(b.text)}
	case bindDef:
		if b.def.kind == classScope {
			return []*obj{a.object(b.def, objClass)}
		}
		// A property stands for what it returns.
		for _, d := range b.def.def.decorators {
			if n := b.def.unit.tree.name(d); n == "property" || n == "cached_property" {
				return a.evalReturns(b.def)
			}
		}
		return []*obj{a.object(b.def, objFunc)}
	case bindExpr:
		return a.eval(b.scope, b.node)
	case bindLoop:
		return a.evalElements(b.scope, b.node)
	case bindItem:
		return a.evalItem(b)
	case bindParam:
		return a.evalParam(b.scope, b.index)
	}
	return nil
}

// evalElements returns what the elements of an iterable can be.
func (a *analyzer) evalElements(s *scope, id node) []*obj {
	t := s.unit.tree
	if fn, args := t.call(id); fn != 0 && len(args) > 0 {
		if n := t.name(fn); n == "reversed" || n == "sorted" || n == "list" || n == "tuple" || n == "set" || n == "enumerate" {
			return a.evalElements(s, args[0].val)
		}
	}
	return a.eval(s, id)
}

// evalItem returns the element at a place of what is unpacked: of a call's
// returned tuple, or of each tuple in a list that is looped over.
func (a *analyzer) evalItem(b binding) []*obj {
	var out []*obj
	fuel := 1000
	var pick func(s *scope, id node, depth int)
	pick = func(s *scope, id node, depth int) {
		t := s.unit.tree
		if fuel--; depth > 8 || fuel < 0 {
			return
		}
		switch t.kind(id) {
		case pysyntax.Tuple, pysyntax.List:
			if l := t.list(t.at(id).A); b.index < len(l) {
				out = append(out, a.eval(s, l[b.index])...)
			}
		case pysyntax.Call:
			fn := t.callee(id)
			for _, o := range a.eval(s, fn) {
				if o.kind == objFunc {
					for _, r := range o.scope.returns {
						pick(o.scope, r, depth+1)
					}
				}
			}
		case pysyntax.Name, pysyntax.Attribute:
			for _, bb := range a.bindings(s, id) {
				if bb.kind == bindExpr && bb.node != 0 {
					pick(bb.scope, bb.node, depth+1)
				}
			}
		}
	}
	if bindKind(b.level) != bindLoop {
		pick(b.scope, b.node, 0)
		return out
	}
	// every element of the iterable
	var each func(s *scope, id node, depth int)
	each = func(s *scope, id node, depth int) {
		t := s.unit.tree
		if fuel--; depth > 8 || fuel < 0 {
			return
		}
		switch t.kind(id) {
		case pysyntax.Tuple, pysyntax.List, pysyntax.Set:
			for _, x := range t.list(t.at(id).A) {
				pick(s, x, depth+1)
			}
		case pysyntax.Name, pysyntax.Attribute:
			for _, bb := range a.bindings(s, id) {
				if bb.kind == bindExpr && bb.node != 0 {
					each(bb.scope, bb.node, depth+1)
				}
			}
		case pysyntax.Call: // enumerate(x), d.items()
			fn, args := t.call(id)
			if base, m := t.attr(fn); base != 0 && m == "items" && b.index == 1 {
				out = append(out, a.eval(s, base)...)
			} else if t.name(fn) == "enumerate" && len(args) > 0 && b.index == 1 {
				out = append(out, a.evalElements(s, args[0].val)...)
			}
		}
	}
	each(b.scope, b.node, 0)
	return out
}

// evalParam returns what the project's calls pass for a parameter.
func (a *analyzer) evalParam(fn *scope, index int) []*obj {
	if index >= len(fn.def.params) {
		return nil
	}
	p := fn.def.params[index]
	if index == 0 && fn.parent.kind == classScope && !hasDecorator(fn, "staticmethod") {
		if hasDecorator(fn, "classmethod") {
			return []*obj{a.object(fn.parent, objClass)}
		}
		return a.instance(fn.parent)
	}
	var out []*obj
	if a.params {
		for _, site := range fn.sites {
			if v, ok := site.arg(p, index); ok {
				out = append(out, a.eval(site.scope, v)...)
			}
		}
	}
	if len(out) == 0 && p.def != 0 {
		out = append(out, a.eval(fn.parent, p.def)...)
	}
	if len(out) == 0 && p.ann != 0 {
		for _, o := range a.eval(fn.parent, p.ann) {
			if o.kind == objLib && (o.q == "flask.Flask" || o.q == "flask.Blueprint") {
				if o.q == "flask.Flask" && len(a.m.Apps) > 0 {
					return a.allApps()
				}
			} else if o.kind == objClass {
				out = append(out, a.instance(o.scope)...)
			}
		}
	}
	if len(out) == 0 && a.params && (p.name == "app" || p.name == "flask_app" || p.name == "application") {
		return a.allApps() // called from outside, as extensions and CLIs do
	}
	return out
}

// arg returns the argument that a call passes for a parameter.
func (s argSite) arg(p param, index int) (node, bool) {
	i := s.self
	for _, x := range s.args {
		if x.name == p.name && x.name != "" {
			return x.val, true
		}
		if x.star != 0 {
			if x.star == 1 {
				i = 1 << 20
			}
			continue
		}
		if x.name == "" {
			if i == index {
				return x.val, true
			}
			i++
		}
	}
	return 0, false
}

func hasDecorator(fn *scope, name string) bool {
	for _, d := range fn.def.decorators {
		if fn.unit.tree.name(d) == name {
			return true
		}
	}
	return false
}

// instance returns an object of a project class: an app or blueprint when
// the class derives from one.
func (a *analyzer) instance(c *scope) []*obj {
	_, lib := a.ancestors(c)
	for _, q := range lib {
		if appClasses[q] {
			if apps := a.appsOf[c]; apps != nil {
				return apps
			}
		}
	}
	return []*obj{a.object(c, objInstance)}
}

func (a *analyzer) evalReturns(fn *scope) []*obj {
	var out []*obj
	for _, r := range fn.returns {
		out = append(out, a.eval(fn, r)...)
	}
	return out
}

// evalReturned returns what one call of a function gives: where it hands back
// one of its parameters, what this call passes for it, not what any call does.
func (a *analyzer) evalReturned(fn *scope, site argSite) []*obj {
	var out []*obj
	for _, r := range fn.returns {
		if b := fn.binds[fn.unit.tree.name(r)]; len(b) == 1 && b[0].kind == bindParam && len(fn.def.decorators) == 0 && b[0].index < len(fn.def.params) {
			if v, ok := site.arg(fn.def.params[b[0].index], b[0].index); ok {
				out = append(out, a.eval(site.scope, v)...)
				continue
			}
		}
		out = append(out, a.eval(fn, r)...)
	}
	return out
}

// evalMember returns what an attribute of o can be.
func (a *analyzer) evalMember(s *scope, o *obj, name string) []*obj {
	switch o.kind {
	case objLib:
		if a.firstNames[firstPart(o.q)] && !strings.Contains(o.q, "(") {
			if m := a.findModule(s.unit, o.q+"."+name, 0); m != nil {
				return []*obj{a.moduleObj(m)}
			}
		}
		return []*obj{a.lib(o.q + "." + name)}
	case objModule:
		if b := a.moduleMember(o.unit, name, nil); b != nil {
			return a.evalBindings(b)
		}
		if o.unit.pkg {
			if m := a.moduleAt(path.Join(o.unit.dir, name)); m != nil {
				return []*obj{a.moduleObj(m)}
			}
		}
		return nil
	case objClass, objInstance:
		if b := a.classMember(o.scope, name); b != nil {
			out := a.evalBindings(b)
			if o.kind == objInstance {
				for i, x := range out {
					if x.kind == objFunc && x.scope.parent.kind == classScope {
						y := *x
						y.bound = true
						out[i] = a.boundFunc(x)
					}
				}
			}
			return out
		}
		_, lib := a.ancestors(o.scope)
		if len(lib) > 0 {
			suffix := "."
			if o.kind == objInstance {
				suffix = "()."
			}
			return []*obj{a.lib(lib[0] + suffix + name)}
		}
		return nil
	case objApp:
		if name == "config" {
			return []*obj{a.lib("flask.Flask().config")}
		}
		if name == "app" && a.appAttrs[name] == nil { // Connexion's is around Flask's
			return []*obj{o}
		}
		if cls := a.classOf[o.app]; cls != nil { // a method of a subclass
			if b := a.classMember(cls, name); b != nil {
				return a.evalBindings(b)
			}
		}
		if b := a.appAttrs[name]; b != nil { // hung onto the app by the project
			return a.evalBindings(b)
		}
		return []*obj{a.lib("flask.Flask()." + name)}
	case objExtension:
		if name == "app" {
			return a.allApps()
		}
		return []*obj{a.lib(o.ext.Class + "()." + name)}
	case objAPI:
		if b := a.bpAttr(o, name); b != nil {
			return b
		}
		return []*obj{a.lib(o.api.class + "()." + name)}
	case objBlueprint:
		return []*obj{a.lib("flask.Blueprint()." + name)}
	}
	return nil
}

func (a *analyzer) boundFunc(f *obj) *obj {
	key := objKey{f.scope, objFunc + 100}
	o := a.objs[key]
	if o == nil {
		o = &obj{kind: objFunc, scope: f.scope, unit: f.unit, bound: true}
		a.objs[key] = o
	}
	return o
}

func (a *analyzer) evalCall(s *scope, id node) []*obj {
	t := s.unit.tree
	if o, ok := a.made[madeKey{s.unit, id}]; ok {
		return []*obj{o}
	}
	fn, args := t.call(id)
	// app.test_client().get, super().x: the base decides below
	if t.name(fn) == "super" && s.kind == funcScope && s.parent.kind == classScope && lookup(s, "super") == nil {
		var out []*obj
		for _, b := range a.bases(s.parent) {
			if b.kind == objClass {
				out = append(out, a.object(b.scope, objInstance))
			} else if b.kind == objLib {
				out = append(out, a.lib(b.q+"()"))
			}
		}
		return out
	}
	var out []*obj
	for _, o := range a.eval(s, fn) {
		switch o.kind {
		case objLib:
			if o.q == "typing.cast" && len(args) == 2 {
				out = append(out, a.eval(s, args[1].val)...)
			} else if passThrough[o.q] && len(args) > 0 {
				out = append(out, a.eval(s, args[0].val)...)
			} else if r, ok := returnTypes[o.q]; ok {
				out = append(out, a.lib(r))
			} else if strings.Count(o.q, "(") < 4 {
				out = append(out, a.lib(o.q+"()"))
			}
		case objFunc:
			if !o.scope.isGen {
				site := argSite{scope: s, args: args}
				if o.bound {
					site.self = 1
				}
				out = append(out, a.evalReturned(o.scope, site)...)
			}
		case objClass:
			out = append(out, a.instance(o.scope)...)
		case objApp: // app(environ, start_response)
		case objInstance:
			for _, b := range a.classMember(o.scope, "__call__") {
				if b.kind == bindDef {
					out = append(out, a.evalReturns(b.def)...)
				}
			}
		}
	}
	return out
}

// qname returns the qualified name of what an expression stands for:
// "flask.request.form", "shop.auth.login_required", "flask_wtf.csrf.CSRFProtect()"
// for an instance. Empty when unknown. A method of something unknown is
// "?.name".
func (a *analyzer) qname(s *scope, id node) string {
	if id == 0 {
		return ""
	}
	for _, o := range a.eval(s, id) {
		if q := o.qname(); q != "" {
			return q
		}
	}
	if _, name := s.unit.tree.attr(id); name != "" {
		return "?." + name
	}
	return ""
}

func (o *obj) qname() string {
	switch o.kind {
	case objLib:
		return o.q
	case objModule:
		return o.unit.module
	case objFunc, objClass:
		return o.scope.qual
	case objInstance:
		return o.scope.qual + "()"
	case objApp:
		return "flask.Flask()"
	case objBlueprint:
		return "flask.Blueprint()"
	case objExtension:
		return o.ext.Class + "()"
	case objAPI:
		return o.api.class + "()"
	}
	return ""
}
