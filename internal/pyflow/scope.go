package pyflow

import "github.com/dewar-security/dewar/internal/pysyntax"

// scope says where the names of one function (or module, class) live.
type scope struct {
	parent *scope
	class  bool
	module bool
	// slots are the function's own variables, cells those of them that inner
	// functions use; free are the names that come from outer functions.
	slots map[string]int
	cells map[string]bool
	free  map[string]int
	order []string // names of free, by index
	// globals are declared so; nonlocals, too.
	globals, nonlocals map[string]bool
	used               []string
	seen               map[string]bool
	generator          bool
	inner              []*scope
}

// scopes finds the scope of every function, lambda and class of a file.
type scopes struct {
	f    *pysyntax.File
	byID map[pysyntax.ID]*scope
}

func newScope(parent *scope) *scope {
	s := &scope{parent: parent, slots: map[string]int{}, seen: map[string]bool{}}
	if parent != nil {
		parent.inner = append(parent.inner, s)
	}
	return s
}

// buildScopes walks the file once.
func buildScopes(f *pysyntax.File) map[pysyntax.ID]*scope {
	b := &scopes{f: f, byID: map[pysyntax.ID]*scope{}}
	root := newScope(nil)
	root.module = true
	b.byID[f.Root] = root
	for _, id := range f.Body() {
		b.visit(id, root)
	}
	b.resolve(root)
	return b.byID
}

func (s *scope) bind(name string) {
	if name == "" {
		return
	}
	if _, ok := s.slots[name]; !ok {
		s.slots[name] = len(s.slots)
	}
}

func (s *scope) use(name string) {
	if !s.seen[name] {
		s.seen[name] = true
		s.used = append(s.used, name)
	}
}

func (b *scopes) target(id pysyntax.ID, s *scope) {
	if id == 0 {
		return
	}
	f := b.f
	n := f.Node(id)
	switch n.Kind {
	case pysyntax.Name:
		s.bind(f.Name(id))
	case pysyntax.Tuple, pysyntax.List:
		for _, e := range f.Elts(id) {
			b.target(e, s)
		}
	case pysyntax.Starred:
		b.target(n.A, s)
	default:
		b.visit(id, s)
	}
}

func (b *scopes) visit(id pysyntax.ID, s *scope) {
	if id == 0 {
		return
	}
	f := b.f
	n := f.Node(id)
	switch n.Kind {
	case pysyntax.Name:
		s.use(f.Name(id))
		return
	case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef:
		d := f.FunctionDef(id)
		s.bind(d.Name)
		b.visitAll(d.Decorators, s)
		inner := newScope(s)
		b.byID[id] = inner
		b.params(id, s, inner)
		b.visit(d.Returns, s)
		b.visitAll(d.Body, inner)
		return
	case pysyntax.Lambda:
		_, body := f.Lambda(id)
		inner := newScope(s)
		b.byID[id] = inner
		b.params(id, s, inner)
		b.visit(body, inner)
		return
	case pysyntax.ClassDef:
		d := f.ClassDef(id)
		s.bind(d.Name)
		b.visitAll(d.Decorators, s)
		for _, a := range f.Arguments(id) {
			b.visit(a, s)
		}
		inner := newScope(s)
		inner.class = true
		b.byID[id] = inner
		b.visitAll(d.Body, inner)
		return
	case pysyntax.Assign:
		targets, v := f.Assign(id)
		for _, t := range targets {
			b.target(t, s)
		}
		b.visit(v, s)
		return
	case pysyntax.AugAssign:
		t, _, v := f.AugAssign(id)
		b.target(t, s)
		b.visit(t, s)
		b.visit(v, s)
		return
	case pysyntax.AnnAssign:
		t, _, v := f.AnnAssign(id)
		b.target(t, s)
		b.visit(v, s)
		return
	case pysyntax.NamedExpr:
		t, v := f.NamedExpr(id)
		b.target(t, s)
		b.visit(v, s)
		return
	case pysyntax.For, pysyntax.AsyncFor:
		l := f.For(id)
		b.target(l.Target, s)
		b.visit(l.Iter, s)
		b.visitAll(l.Body, s)
		b.visitAll(l.Else, s)
		return
	case pysyntax.Comprehension:
		t, iter, conds, _ := f.Comprehension(id)
		b.target(t, s)
		b.visit(iter, s)
		b.visitAll(conds, s)
		return
	case pysyntax.WithItem:
		v, t := f.WithItem(id)
		b.visit(v, s)
		b.target(t, s)
		return
	case pysyntax.ExceptHandler:
		typ, name, body := f.ExceptHandler(id)
		b.visit(typ, s)
		s.bind(name)
		b.visitAll(body, s)
		return
	case pysyntax.Import, pysyntax.ImportFrom:
		names := f.Import(id)
		if n.Kind == pysyntax.ImportFrom {
			_, _, names = f.ImportFrom(id)
		}
		for _, x := range names {
			s.bind(x.Bound())
		}
		return
	case pysyntax.Global:
		if s.globals == nil {
			s.globals = map[string]bool{}
		}
		for _, g := range f.Names(id) {
			s.globals[g] = true
		}
		return
	case pysyntax.Nonlocal:
		if s.nonlocals == nil {
			s.nonlocals = map[string]bool{}
		}
		for _, g := range f.Names(id) {
			s.nonlocals[g] = true
		}
		return
	case pysyntax.Delete:
		for _, t := range f.Delete(id) {
			b.target(t, s)
			b.visit(t, s)
		}
		return
	case pysyntax.MatchAs:
		_, name := f.MatchAs(id)
		s.bind(name)
	case pysyntax.MatchMapping:
		_, _, rest := f.MatchMapping(id)
		s.bind(rest)
	case pysyntax.MatchStar:
		s.bind(f.MatchStar(id))
	case pysyntax.TypeAlias:
		b.target(n.A, s)
		return
	case pysyntax.Yield, pysyntax.YieldFrom:
		s.generator = true
	}
	for _, c := range f.Children(id) {
		b.visit(c, s)
	}
}

func (b *scopes) visitAll(ids []pysyntax.ID, s *scope) {
	for _, id := range ids {
		b.visit(id, s)
	}
}

func (b *scopes) params(id pysyntax.ID, outer, inner *scope) {
	for _, p := range b.f.Params(id) {
		inner.bind(p.Name)
		b.visit(p.Default, outer)
		b.visit(p.Annotation, outer)
	}
}

// resolve works out which names come from outer functions.
func (b *scopes) resolve(s *scope) {
	for _, in := range s.inner {
		b.resolve(in)
	}
	for g := range s.globals {
		delete(s.slots, g)
	}
	for g := range s.nonlocals {
		delete(s.slots, g)
	}
	if s.globals != nil || s.nonlocals != nil {
		i := 0
		for name := range s.slots {
			s.slots[name] = i
			i++
		}
	}
	for _, in := range s.inner {
		for _, name := range in.order {
			b.need(s, name)
		}
	}
	if s.module {
		return
	}
	for _, name := range s.used {
		b.want(s, name)
	}
	for name := range s.nonlocals {
		b.want(s, name)
	}
}

// need makes name available to the scopes inside of s.
func (b *scopes) need(s *scope, name string) {
	if s.module {
		return
	}
	if _, own := s.slots[name]; own && !s.class {
		if s.cells == nil {
			s.cells = map[string]bool{}
		}
		s.cells[name] = true
		return
	}
	b.wantFree(s, name)
}

// want notes a name that s uses itself.
func (b *scopes) want(s *scope, name string) {
	if _, own := s.slots[name]; own || s.globals[name] {
		return
	}
	b.wantFree(s, name)
}

func (b *scopes) wantFree(s *scope, name string) {
	if _, ok := s.free[name]; ok {
		return
	}
	// Only names that an outer function binds are free; others are global.
	for o := s.parent; o != nil && !o.module; o = o.parent {
		if o.class {
			continue
		}
		if o.globals[name] {
			return
		}
		if _, ok := o.slots[name]; ok {
			if s.free == nil {
				s.free = map[string]int{}
			}
			s.free[name] = len(s.order)
			s.order = append(s.order, name)
			return
		}
	}
}
