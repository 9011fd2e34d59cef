package pyflow

import (
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// class is a class of the project.
type class struct {
	name   string
	mod    *module
	file   *fileInfo
	id     pysyntax.ID
	ns     objID
	bases  []*value
	mro    []*class
	libs   []string // paths of library classes it derives from
	fields []string // annotated names, in order
	data   bool     // is a dataclass or the like
	open   bool     // has bases of which nothing is known
}

func (c *class) path() string { return c.mod.name + "." + c.name }

// lookup finds a name in the class or those it derives from; nil if there is
// none.
func (c *class) lookup(it *interp, st *state, name string) *value {
	for _, k := range c.mro {
		if o := it.get(st, k.ns); o != nil {
			if v, _ := bound(o.get(name)); v != nil {
				return v
			}
		}
	}
	return nil
}

func (c *class) hasLibBase() bool { return len(c.libs) > 0 || c.open }

// libBase returns the first library class it derives from.
func (c *class) libBase() string {
	if len(c.libs) > 0 {
		return c.libs[0]
	}
	return ""
}

func (c *class) derives(path string) bool { return slices.Contains(c.libs, path) }

func (it *interp) execClass(st *state, id pysyntax.ID) {
	f := it.fr.f
	d := f.ClassDef(id)
	c := &class{name: d.Name, mod: it.fr.mod, file: it.fr.file, id: id}
	for _, b := range d.Bases {
		if f.Kind(b) == pysyntax.Starred {
			c.open = true
			continue
		}
		v := it.eval(st, b)
		if st.dead {
			return
		}
		if v.kind == vUnion {
			v = v.elems[0]
		}
		c.bases = append(c.bases, v)
	}
	for _, k := range d.Keywords {
		_, v := f.KeywordArg(k)
		it.eval(st, v)
	}
	c.linearize(it, st)
	fr := it.fr
	qual := d.Name
	if fr.qual != "" {
		qual = fr.qual + "." + d.Name
	}
	c.ns = it.alloc(st, &object{kind: oNamespace, cls: c})
	in := &frame{up: fr, fn: fr.fn, file: fr.file, f: f, sc: fr.file.scopes[id], mod: fr.mod, ns: c.ns, cls: c, qual: qual}
	for _, n := range in.sc.order {
		in.free = append(in.free, it.cellOf(st, n))
	}
	vars := st.vars
	st.vars = nil
	it.fr = in
	it.execAll(st, d.Body)
	it.fr = fr
	st.dead = false
	st.vars = vars
	it.registerMethods(st, c)
	v := it.decorators(st, d.Decorators, &value{kind: vClass, cls: c})
	it.bindName(st, d.Name, v)
}

// registerMethods registers the methods that the library calls by their name:
// resolve_user of a GraphQL type, on_message of a Socket.IO namespace.
func (it *interp) registerMethods(st *state, c *class) {
	for _, l := range c.libs {
		for _, f := range it.p.facts.byPath[l] {
			if f.Verb != "methods" {
				continue
			}
			o := it.get(st, c.ns)
			if o == nil {
				return
			}
			for _, name := range o.keys {
				m, _ := bound(o.get(name))
				if m != nil && m.kind == vTuple && (m.str == "staticmethod" || m.str == "classmethod") {
					m = m.elems[0]
				}
				if m == nil || m.kind != vFunc || !slices.ContainsFunc(f.Args[1:], func(p string) bool { return matchName(p, name) }) {
					continue
				}
				it.register(st, &registration{kind: f.Args[0], path: l + "." + name, at: m.fn.span(), fn: m})
			}
		}
	}
}

// matchName reports whether a name fits a pattern that may end in "*", which
// alone stands for every public name.
func matchName(pattern, name string) bool {
	if head, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, head) && len(name) > len(head) && (head != "" || name[0] != '_')
	}
	return pattern == name
}

// maxMRO bounds the ancestors of a class.
const maxMRO = 256

// linearize works out the order in which classes are asked: C3 where it is
// defined, else depth first.
func (c *class) linearize(it *interp, st *state) {
	c.mro = []*class{c}
	var seqs [][]*class
	var direct []*class
	for _, b := range c.bases {
		switch b.kind {
		case vClass:
			seqs = append(seqs, b.cls.mro)
			direct = append(direct, b.cls)
			c.open = c.open || b.cls.open
			c.data = c.data || b.cls.data
			for _, f := range b.cls.fields {
				if !slices.Contains(c.fields, f) {
					c.fields = append(c.fields, f)
				}
			}
		case vLib, vInst:
			if b.str != "builtins.object" && b.str != "abc.ABC" && b.str != "typing.Generic" && b.str != "typing.Protocol" {
				c.libs = append(c.libs, it.p.facts.canonical(b.str))
			}
		case vBound:
			if p := it.pathOf(st, b); p != "" {
				c.libs = append(c.libs, it.p.facts.canonical(p))
			} else {
				c.open = true
			}
		default:
			c.open = true
		}
	}
	if len(c.bases) == 1 && len(direct) == 1 { // the usual case, in no time however long the chain
		c.mro, seqs = append(c.mro, direct[0].mro[:min(len(direct[0].mro), maxMRO)]...), nil
	} else {
		seqs = append(seqs, direct)
	}
	for range maxMRO {
		var next *class
		for _, s := range seqs {
			if len(s) == 0 {
				continue
			}
			ok := true
			for _, o := range seqs {
				if len(o) > 1 && slices.Contains(o[1:], s[0]) {
					ok = false
				}
			}
			if ok {
				next = s[0]
				break
			}
		}
		if next == nil {
			break
		}
		c.mro = append(c.mro, next)
		for i, s := range seqs {
			if len(s) > 0 && s[0] == next {
				seqs[i] = s[1:]
			}
		}
	}
	for _, s := range seqs { // no order fits: as they come
		for _, k := range s {
			if len(c.mro) <= maxMRO && !slices.Contains(c.mro, k) {
				c.mro = append(c.mro, k)
			}
		}
	}
	if c.file.model {
		// What a model leaves out is told by facts.
		c.libs = append(c.libs, it.p.facts.canonical(c.path()))
	}
	for _, k := range c.mro[1:] {
		for _, l := range k.libs {
			if !slices.Contains(c.libs, l) {
				c.libs = append(c.libs, l)
			}
		}
	}
}

// dataBases are library classes whose instances take their annotated fields
// as arguments.
var dataBases = []string{"pydantic.BaseModel", "typing.NamedTuple", "pydantic.main.BaseModel"}

// instantiate calls a class.
func (it *interp) instantiate(st *state, c *class, args *call) *value {
	if m := c.enumMembers(it, st); m != nil {
		return m // Color("red") is one of its members, or raises
	}
	if c.file.model {
		if n := natives[c.path()]; n != nil {
			if r := n(it, st, nil, args); r != nil {
				return r
			}
		}
	}
	if c.derives("typing.TypedDict") || c.derives("typing_extensions.TypedDict") {
		return it.call(st, lib("builtins.dict"), args) // which it is
	}
	init, made := c.lookup(it, st, "__init__"), false
	var v *value
	if n := c.lookup(it, st, "__new__"); n != nil && n.kind == vFunc {
		r := it.callFunction(st, n.fn, &value{kind: vClass, cls: c}, args)
		switch {
		case st.dead:
			return unknown
		case it.isMadeOf(st, r, c):
			v, made = r, true
		case r.kind != vUnknown:
			return r
		}
	}
	if v == nil {
		v = &value{kind: vObj, obj: it.alloc(st, &object{kind: oInstance, cls: c})}
	}
	data := c.data
	for _, b := range dataBases {
		data = data || c.derives(b)
	}
	if init != nil {
		it.call(st, it.bindMethod(st, init, v), args)
		if st.dead {
			return unknown
		}
	} else if !made {
		w := it.write(st, v.obj)
		i := 0
		if data {
			for _, f := range c.fields {
				var x *value
				if i < len(args.args) {
					x = args.args[i]
					i++
				} else if x = args.keyword(f); x == nil {
					x = args.rest
				}
				if x != nil {
					w.set(f, x)
				}
			}
		}
		for _, k := range args.kw {
			w.set(k.name, k.v)
		}
		if c.hasLibBase() {
			var labels []label
			for ; i < len(args.args); i++ {
				labels = addLabels(labels, it.labelsOf(st, args.args[i]))
			}
			if args.rest != nil {
				labels = addLabels(labels, it.labelsOf(st, args.rest))
			}
			if len(labels) > 0 {
				w.rest = join(w.rest, opaque(labels))
			}
		}
	}
	for _, b := range c.libs {
		for _, path := range [2]string{b, b + ".__init__"} {
			path = it.p.facts.canonical(path)
			it.applyHits(st, path, it.p.facts.byPath[path], v, args)
		}
	}
	if post := c.lookup(it, st, "__post_init__"); post != nil {
		it.call(st, it.bindMethod(st, post, v), &call{at: args.at})
	}
	return v
}

// isMadeOf reports whether v is an instance of c, so that what __new__ has
// given is initialised.
func (it *interp) isMadeOf(st *state, v *value, c *class) bool {
	if v.kind != vObj {
		return false
	}
	o := it.get(st, v.obj)
	return o != nil && o.kind == oInstance && o.cls != nil && slices.Contains(o.cls.mro, c)
}

// objectNew is the path of the function behind C.__new__.
const objectNew = "builtins.object.__new__"

// specialNew is object.__new__(C): an instance that nobody has initialised.
func specialNew(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) == 0 || c.args[0].kind != vClass {
		return nil
	}
	return &value{kind: vObj, obj: it.alloc(st, &object{kind: oInstance, cls: c.args[0].cls})}
}

// enumMembers returns the members of an Enum, nil if c is none.
func (c *class) enumMembers(it *interp, st *state) *value {
	is := false
	for _, l := range c.libs {
		is = is || l == "enum.Enum" || l == "enum.IntEnum" || l == "enum.StrEnum" || l == "enum.Flag"
	}
	if !is {
		return nil
	}
	var out *value
	if o := it.get(st, c.ns); o != nil {
		for _, k := range o.keys {
			if strings.HasPrefix(k, "_") {
				continue
			}
			if v, _ := bound(o.m[k]); v != nil && v.isConst() {
				out = join(out, enumMember(c, k, v))
			}
		}
	}
	return out
}

// enumMember is Color.RED: a tuple of the name and the value that knows its
// class.
func enumMember(c *class, name string, v *value) *value {
	return &value{kind: vTuple, str: "enum", cls: c, elems: []*value{text(name), v}}
}

// bindMethod is what reading a function of a class through an instance gives.
func (it *interp) bindMethod(st *state, m, recv *value) *value {
	return over(m, func(m *value) *value {
		switch m.kind {
		case vFunc:
			return &value{kind: vBound, fn: m.fn, recv: recv, elems: []*value{m}}
		case vTuple:
			switch m.str {
			case "staticmethod":
				return m.elems[0]
			case "classmethod":
				cls := recv
				if recv.kind == vObj {
					if o := it.get(st, recv.obj); o != nil && o.cls != nil {
						cls = &value{kind: vClass, cls: o.cls}
					}
				}
				return it.bindMethod(st, m.elems[0], cls)
			}
		}
		return m
	})
}

// evalSuper is super() or super(C, self).
func (it *interp) evalSuper(st *state, id pysyntax.ID) *value {
	f := it.fr.f
	_, args, _ := f.Call(id)
	var self *value
	cls := it.fr.fn.owner
	if len(args) == 2 {
		c := it.eval(st, args[0])
		self = it.eval(st, args[1])
		if c.kind == vClass {
			cls = c.cls
		}
	} else {
		ps := it.fr.fn.params
		if len(ps) > 0 {
			self = it.name(st, ps[0].Name)
		}
	}
	if cls == nil || self == nil {
		return unknown
	}
	return &value{kind: vInst, str: "builtins.super", cls: cls, recv: self}
}

// superAttr is an attribute of super().
func (it *interp) superAttr(st *state, v *value, name string) *value {
	self := v.recv
	var mro []*class
	var own *class
	switch self.kind {
	case vObj:
		if o := it.get(st, self.obj); o != nil && o.cls != nil {
			own = o.cls
		}
	case vClass:
		own = self.cls
	}
	if own == nil {
		own = v.cls
	}
	mro = own.mro
	i := slices.Index(mro, v.cls)
	if i < 0 {
		mro, i = v.cls.mro, 0
	}
	for _, k := range mro[i+1:] {
		if o := it.get(st, k.ns); o != nil {
			if m, _ := bound(o.get(name)); m != nil {
				return it.bindMethod(st, m, self)
			}
		}
	}
	if b := v.cls.libBase(); b != "" {
		return &value{kind: vBound, recv: &value{kind: vInst, str: b, recv: self}, str: name}
	}
	if name == "__new__" && !v.cls.open {
		return lib(objectNew)
	}
	return &value{kind: vBound, recv: unknown, str: name}
}

// isInstance is isinstance(v, c) for classes of the project and the types of
// Python.
func (it *interp) isInstance(st *state, v, c *value) *value {
	switch c.kind {
	case vTuple, vUnion:
		var out *value
		for _, e := range c.elems {
			r := it.isInstance(st, v, e)
			if it.truth(st, r) == 1 && c.kind == vTuple {
				return vTrue
			}
			out = join(out, r)
		}
		if out == nil || it.truth(st, out) != 0 {
			if out != nil && c.kind == vTuple && len(c.elems) == 1 {
				return out
			}
			return boolean
		}
		return vFalse
	case vClass:
		switch v.kind {
		case vObj:
			o := it.get(st, v.obj)
			if o == nil || o.cls == nil {
				return boolOf(o == nil)
			}
			if slices.Contains(o.cls.mro, c.cls) {
				return vTrue
			}
			if slices.Contains(c.cls.mro, o.cls) || o.cls.open {
				return boolean
			}
			return vFalse
		case vText, vNone, vBool, vNum, vNumber, vTuple, vBoolean:
			if v.kind == vTuple && v.cls != nil {
				return boolOf(slices.Contains(v.cls.mro, c.cls))
			}
			return vFalse
		case vUnknown:
			if v.str == "text" { // or None
				return vFalse
			}
			// The model says what one is of which nothing is known but that it
			// is one; what is done to it now is known. What came from nowhere
			// goes the same way whatever it is.
			if c.cls.modelled() && v.sym == nil && it.inModel() {
				return vFalse
			}
			if c.cls.modelled() && v.sym != nil {
				if some := c.cls.lookup(it, st, "_some"); some != nil {
					x := v
					return test(func(it *interp, st *state) {
						made := it.call(st, some, &call{args: []*value{{kind: vUnknown, labels: x.labels, clean: x.clean}}})
						if st.dead || made.kind != vObj {
							st.dead = false
							return
						}
						st.learn(x.sym, func(r *refinement) { r.eq = made })
					}, nil)
				}
			}
		}
	case vLib:
		is := func(names ...string) *value { return boolOf(slices.Contains(names, c.str)) }
		switch v.kind {
		case vText:
			if v.isBytes {
				return is("builtins.bytes", "builtins.object")
			}
			return is("builtins.str", "builtins.object", "six.string_types", "builtins.basestring", "collections.abc.Iterable", "typing.Iterable", "collections.abc.Sequence", "six.text_type")
		case vNone:
			return is("builtins.object", "types.NoneType")
		case vBool, vBoolean:
			return is("builtins.bool", "builtins.int", "builtins.object")
		case vNum, vNumber:
			if c.str == "builtins.int" || c.str == "builtins.float" {
				if v.kind == vNum {
					return boolOf(v.isInt == (c.str == "builtins.int"))
				}
				return boolean
			}
			return is("numbers.Number", "numbers.Real", "builtins.object", "decimal.Decimal")
		case vTuple:
			return is("builtins.tuple", "builtins.object", "collections.abc.Iterable", "collections.abc.Sequence")
		case vObj:
			o := it.get(st, v.obj)
			switch {
			case o == nil:
				return boolean
			case o.kind == oList:
				return is("builtins.list", "builtins.object", "collections.abc.Iterable", "collections.abc.Sequence", "collections.abc.MutableSequence")
			case o.kind == oDict:
				return is("builtins.dict", "builtins.object", "collections.abc.Iterable", "collections.abc.Mapping", "collections.abc.MutableMapping", "typing.Mapping")
			case o.kind == oSet:
				return is("builtins.set", "builtins.object", "collections.abc.Iterable", "collections.abc.Set")
			case o.cls != nil && o.cls.derives(it.p.facts.canonical(c.str)):
				return vTrue
			case o.cls != nil && (!o.cls.hasLibBase() || o.cls.modelled() && strings.HasPrefix(c.str, "builtins.")):
				return is("builtins.object")
			}
		case vUnknown:
			if v.str == "text" && is("builtins.list", "builtins.dict", "builtins.tuple", "builtins.set", "builtins.int", "builtins.float", "builtins.bool", "builtins.bytes") == vTrue {
				return vFalse // it is a str or None
			}
			if c.str == "builtins.tuple" && it.inModel() {
				return vFalse // views that give back headers write a tuple
			}
			// Being a number leaves no room for text.
			if c.str == "builtins.int" || c.str == "builtins.float" || c.str == "builtins.bool" {
				x := v
				return test(func(it *interp, st *state) { it.restrict(st, x, digits) }, nil)
			}
		}
	}
	return boolean
}

// modelled reports whether a class is told by a model, bases and all.
func (c *class) modelled() bool { return c.mod != nil && c.mod.file != nil && c.mod.file.model }

// inModel reports whether a model runs, and not the project.
func (it *interp) inModel() bool { return it.fr != nil && it.fr.file != nil && it.fr.file.model }

// whole reports whether the project and the models tell all that the class and
// those it derives from have: a method that is not there is nowhere.
func (c *class) whole() bool {
	return !c.open && !slices.ContainsFunc(c.libs, func(b string) bool {
		return !slices.ContainsFunc(c.mro, func(k *class) bool { return k.modelled() && k.path() == b })
	})
}
