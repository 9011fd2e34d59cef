package pyflow

import (
	"slices"
	"strconv"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// evalAttribute reads value.name; callee says that it is about to be called.
func (it *interp) evalAttribute(st *state, id pysyntax.ID, callee bool) *value {
	v, name := it.fr.f.Attribute(id)
	o := it.eval(st, v)
	if st.dead {
		return unknown
	}
	if o = with(o, name); o == nil {
		it.throw(st) // AttributeError
		return unknown
	}
	r := it.attr(st, o, name, callee, it.span(id))
	return it.refined(st, r)
}

// The attributes of Python's own constants.
var (
	textAttrs = names(`capitalize casefold center count encode endswith expandtabs find format format_map index isalnum isalpha
		isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip
		maketrans partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines
		decode startswith strip swapcase title translate upper zfill`)
	numberAttrs = names(`as_integer_ratio bit_count bit_length conjugate denominator from_bytes fromhex hex imag is_integer
		numerator real to_bytes`)
)

func names(list string) map[string]bool {
	out := map[string]bool{}
	for _, n := range strings.Fields(list) {
		out[n] = true
	}
	return out
}

// with returns what of v may have an attribute: a constant has only those of
// its type. It is nil if nothing may.
func with(v *value, name string) *value {
	lacks := func(v *value) bool {
		switch {
		case strings.HasPrefix(name, "__"):
		case v.kind == vText:
			return v.text == nil && !v.safe && !v.isBytes && !textAttrs[name] // bytes may be a bytearray
		case v.kind == vNum, v.kind == vBool:
			return !numberAttrs[name]
		}
		return false
	}
	if v.kind == vUnion && slices.ContainsFunc(v.elems, lacks) {
		rest := slices.DeleteFunc(slices.Clone(v.elems), lacks)
		if len(rest) == 0 {
			return nil
		}
		return union(rest)
	}
	if lacks(v) {
		return nil
	}
	return v
}

// attr is getattr(v, name).
func (it *interp) attr(st *state, v *value, name string, callee bool, at Span) *value {
	if it.nested > maxNested {
		return opaque(shallowLabels(v))
	}
	it.nested++
	defer func() { it.nested-- }()
	switch v.kind {
	case vUnion:
		var out *value
		for _, a := range v.elems {
			if a.kind == vNone || a.kind == vUnbound {
				continue // would raise
			}
			out = join(out, it.attr(st, a, name, callee, at))
		}
		if out == nil {
			return unknown
		}
		return out
	case vModule:
		return it.moduleAttr(st, v.mod, name)
	case vClass:
		return it.classAttr(st, v, name, callee, at)
	case vObj:
		return it.objectAttr(st, v, name, callee, at)
	case vTuple:
		switch {
		case v.str == "enum":
			switch name {
			case "value", "_value_":
				return v.elems[1]
			case "name", "_name_":
				return v.elems[0]
			}
		case v.str == "":
			if x := moduleInfo(v, name); x != nil {
				return x
			}
		case v.str == "property":
			return &value{kind: vBound, recv: v, str: name}
		}
	case vFunc:
		switch name {
		case "__name__", "__qualname__":
			return text(v.fn.name)
		case "__doc__":
			return unknown
		case "__module__":
			return text(v.fn.mod.name)
		case "delay", "apply", "__call__", "__wrapped__", "s", "si":
			return v
		}
	case vBound:
		if v.fn != nil {
			switch name {
			case "__self__":
				return v.recv
			case "__func__":
				return v.elems[0]
			case "__name__":
				return text(v.fn.name)
			}
		}
		if p := it.pathOf(st, v); p != "" {
			return it.libAttr(st, p+"."+name, v, name, callee, at)
		}
	case vLib:
		if v.str == "os.environ" && callee {
			return &value{kind: vBound, recv: v, str: name}
		}
		return it.libAttr(st, v.str+"."+name, nil, name, callee, at)
	case vInst:
		switch v.str {
		case "builtins.super":
			return it.superAttr(st, v, name)
		}
		if x := it.knownAttr(st, v, name); x != nil {
			return x
		}
		return it.libAttr(st, v.str+"."+name, v, name, callee, at)
	case vNum, vNumber:
		switch name {
		case "real", "numerator":
			return v
		}
	}
	if v.kind == vUnknown && !callee {
		return it.unknownAttr(st, v, name, at)
	}
	return &value{kind: vBound, recv: v, str: name}
}

// unknownAttr is a field of something of which nothing is known.
func (it *interp) unknownAttr(st *state, v *value, name string, at Span) *value {
	for _, f := range it.p.facts.any[name] {
		switch f.Verb {
		case "is":
			return inst(f.Args[0], v.labels)
		case "source":
			if len(f.Args) > 0 {
				return it.sourceValue(st, "*."+name, f, v, at)
			}
		}
	}
	if len(v.labels) == 0 {
		return &value{kind: vBound, recv: v, str: name}
	}
	return &value{kind: vUnknown, labels: v.labels, clean: v.clean, sym: it.derive("attr", name, symOf(v))}
}

func (it *interp) classAttr(st *state, v *value, name string, callee bool, at Span) *value {
	c := v.cls
	if x := c.lookup(it, st, name); x != nil {
		if x.kind == vTuple && (x.str == "staticmethod" || x.str == "classmethod") {
			return it.bindMethod(st, x, v)
		}
		if x.isConst() {
			for _, l := range c.libs {
				if strings.HasPrefix(l, "enum.") {
					return enumMember(c, name, x)
				}
			}
		}
		return x
	}
	switch name {
	case "__name__", "__qualname__":
		return text(c.name)
	case "__module__":
		return text(c.mod.name)
	case "__mro__", "__bases__", "__subclasses__", "__dict__", "__doc__":
		return unknown
	case "mro":
		return unknown
	}
	if m := c.lookup(it, st, "__getattr__"); false && m != nil {
		return unknown
	}
	for _, b := range c.libs {
		if it.known(b + "." + name) {
			return it.libAttr(st, b+"."+name, v, name, callee, at)
		}
	}
	if b := c.libBase(); b != "" {
		return it.libAttr(st, b+"."+name, v, name, callee, at)
	}
	if name == "__new__" && !c.open {
		return lib(objectNew)
	}
	return unknown
}

// known reports whether there is a fact about the path or something below.
func (it *interp) known(path string) bool {
	return len(it.p.facts.of(it.p.facts.canonical(path))) > 0
}

func (it *interp) objectAttr(st *state, v *value, name string, callee bool, at Span) *value {
	o := it.get(st, v.obj)
	if o == nil {
		return unknown
	}
	if o.kind != oInstance {
		return &value{kind: vBound, recv: v, str: name}
	}
	var own *value
	missing := true
	if x, ok := o.m[name]; ok {
		own, missing = bound(x)
	}
	if own != nil && !missing {
		return own
	}
	c := o.cls
	if c == nil {
		return join(own, unknownOr(o.rest))
	}
	if m := c.lookup(it, st, name); m != nil {
		if m.kind == vTuple && m.str == "property" {
			r := it.call(st, it.bindMethod(st, m.elems[0], v), &call{at: at})
			return join(own, r)
		}
		if m.kind == vObj {
			// A descriptor with __get__?
			if d := it.get(st, m.obj); d != nil && d.kind == oInstance && d.cls != nil {
				if g := d.cls.lookup(it, st, "__get__"); g != nil {
					return it.call(st, it.bindMethod(st, g, m), &call{at: at, args: []*value{v, none}})
				}
			}
		}
		bm := it.bindMethod(st, m, v)
		if o.rest != nil && m.kind != vFunc && m.kind != vTuple && !it.isFormField(st, m) {
			// Of an object that came from elsewhere the class's value is only
			// the default.
			bm = join(bm, it.fieldOf(st, v, o, name))
			if isColumn(m) {
				bm = it.fieldOf(st, v, o, name)
			}
			switch {
			case isNumberColumn(m):
				bm = numeric(it.labelsOf(st, bm))
			case m.kind == vInst && m.str == relationship:
				bm = opaque(storedOf(it.labelsOf(st, bm)))
			}
		}
		return join(own, bm)
	}
	switch name {
	case "__class__":
		return &value{kind: vClass, cls: c}
	case "__dict__":
		d := &object{kind: oDict, rest: o.rest}
		for _, k := range o.keys {
			key, _ := keyOf(text(k))
			d.set(key, o.m[k])
		}
		return &value{kind: vObj, obj: it.alloc(st, d), recv: v}
	}
	if g := c.lookup(it, st, "__getattr__"); g != nil && own == nil {
		return it.call(st, it.bindMethod(st, g, v), &call{at: at, args: []*value{text(name)}})
	}
	for _, b := range c.libs {
		if it.known(b + "." + name) {
			return join(own, it.libAttr(st, b+"."+name, v, name, callee, at))
		}
	}
	if o.rest != nil {
		return join(own, it.fieldOf(st, v, o, name))
	}
	if b := c.libBase(); b != "" {
		return join(own, it.libAttr(st, b+"."+name, v, name, callee, at))
	}
	if own != nil {
		return own
	}
	if c.open {
		return &value{kind: vBound, recv: unknown, str: name}
	}
	return unknown
}

// isFormField reports whether a class attribute describes a form's field, whose
// instances hold the field itself there, and the data in that.
func (it *interp) isFormField(st *state, v *value) bool {
	switch v.kind {
	case vInst:
		return it.known(v.str + ".data")
	case vObj:
		o := it.get(st, v.obj)
		return o != nil && o.kind == oInstance && o.cls != nil && slices.ContainsFunc(o.cls.libs, func(b string) bool { return it.known(b + ".data") })
	}
	return false
}

// isColumn reports whether a class attribute describes a column or field of
// a model, whose instances hold data there.
func isColumn(v *value) bool {
	if v.kind != vInst && v.kind != vUnknown {
		return false
	}
	return true
}

func unknownOr(v *value) *value {
	if v == nil {
		return unknown
	}
	return v
}

// fieldOf is a field of an object whose fields are not known one by one.
func (it *interp) fieldOf(st *state, v *value, o *object, name string) *value {
	r := o.rest
	if r == nil {
		return unknown
	}
	if r.kind == vUnknown && r.sym != nil {
		return &value{kind: vUnknown, labels: r.labels, clean: r.clean, sym: it.derive("attr", name, r.sym)}
	}
	return r
}

func (it *interp) moduleAttr(st *state, m *module, name string) *value {
	if o := it.get(st, m.ns); o != nil {
		if v, _ := bound(o.get(name)); v != nil {
			return v
		}
	}
	if sub, ok := it.modules[m.name+"."+name]; ok {
		return &value{kind: vModule, mod: sub}
	}
	if m.file != nil && m.file.model {
		return lib(m.name + "." + name)
	}
	if m.file != nil && m.file.pkg || m.file == nil {
		if v := it.importModule(st, m.name+"."+name); v != nil {
			return v
		}
	}
	if k := len(m.stars); k > 0 && isPublic(name) {
		return lib(m.stars[k-1] + "." + name)
	}
	switch name {
	case "__name__":
		return text(m.name)
	case "__file__", "__path__":
		return it.global(st, m, name)
	case "__dict__":
		names, values, ok := it.members(st, &value{kind: vModule, mod: m}, Span{})
		if !ok {
			return unknown
		}
		d := &object{kind: oDict}
		for i, n := range names {
			key, _ := keyOf(text(n))
			d.set(key, values[i])
		}
		return &value{kind: vObj, obj: it.alloc(st, d)}
	}
	if m.name == "builtins" {
		return lib("builtins." + name)
	}
	return unknown
}

// setAttr is v.name = x.
func (it *interp) setAttr(st *state, o *value, name string, x *value, at Span) {
	if st.dead {
		return
	}
	alts := o.alts()
	for _, a := range alts {
		switch a.kind {
		case vObj:
			obj := it.get(st, a.obj)
			if obj == nil {
				continue
			}
			if obj.kind != oInstance {
				continue
			}
			if obj.cls != nil {
				if m := obj.cls.lookup(it, st, name); m != nil && m.kind == vTuple && m.str == "property" && len(m.elems) > 1 && m.elems[1].kind == vFunc {
					it.call(st, it.bindMethod(st, m.elems[1], a), &call{at: at, args: []*value{x}})
					continue
				}
				for _, b := range obj.cls.libs {
					it.setFacts(st, b+"."+name, a, nil, x, at)
					if c := it.p.facts.canonical(b); it.p.facts.keeps[c] {
						it.setLibField(c+"."+name, x)
					}
				}
			}
			w := it.write(st, a.obj)
			if len(alts) > 1 {
				old := w.get(name)
				if old == nil {
					old = unbound
				}
				w.set(name, join(old, x))
			} else {
				w.set(name, x)
			}
		case vModule:
			it.write(st, a.mod.ns).set(name, x)
		case vClass:
			it.write(st, a.cls.ns).set(name, x)
		case vLib:
			it.setFacts(st, a.str+"."+name, a, nil, x, at)
			it.setLibField(a.str+"."+name, x)
		case vInst:
			it.setFacts(st, a.str+"."+name, a, nil, x, at)
			if c := it.p.facts.canonical(a.str); it.p.facts.keeps[c] {
				it.setLibField(c+"."+name, x)
			}
		case vBound:
			if p := it.pathOf(st, a); p != "" {
				it.setFacts(st, p+"."+name, a, nil, x, at)
			} else {
				it.setFacts(st, "*."+name, a, nil, x, at)
			}
		case vUnknown:
			it.setFacts(st, "*."+name, a, nil, x, at)
		}
	}
}

// assignItem is c[k] = v.
func (it *interp) assignItem(st *state, c, k, v *value, id, cid pysyntax.ID) {
	for _, a := range c.alts() {
		switch a.kind {
		case vObj:
			o := it.get(st, a.obj)
			if o != nil && o.kind == oInstance {
				if o.cls != nil {
					for _, b := range o.cls.libs {
						it.setFacts(st, b, a, k, v, it.span(id))
					}
					if m := o.cls.lookup(it, st, "__setitem__"); m != nil {
						it.call(st, it.bindMethod(st, m, a), &call{at: it.span(id), args: []*value{k, v}})
						continue
					}
				}
				w := it.write(st, a.obj)
				w.rest = join(w.rest, v)
				continue
			}
			if len(c.alts()) > 1 {
				w := it.write(st, a.obj)
				w.rest = join(w.rest, v)
				continue
			}
			it.setItem(st, a, k, v)
			it.writeFields(st, a, it.span(id))
		case vInst, vLib:
			it.setFacts(st, a.str, a, k, v, it.span(id))
		case vBound:
			if a.str == "converters" && v.kind == vClass && k.isConstText() && it.loading {
				it.outside++
				it.converters[k.str] = v
			}
			if k.isConstText() && it.loading && callable(v) {
				switch a.str {
				case "filters":
					it.filters[k.str] = v
					it.outside++
				case "globals":
					it.globals[k.str] = v
					it.outside++
				}
			}
			if p := it.pathOf(st, a); p != "" {
				it.setFacts(st, p, a, k, v, it.span(id))
			}
		}
	}
}

// subscript is c[k].
func (it *interp) subscript(st *state, c, k *value, at Span) *value {
	switch c.kind {
	case vUnion:
		var out *value
		for _, a := range c.elems {
			if a.kind == vNone || a.kind == vUnbound {
				continue
			}
			out = join(out, it.subscript(st, a, k, at))
		}
		return unknownOr(out)
	case vObj:
		if o := it.get(st, c.obj); o != nil && o.kind == oInstance {
			if o.cls != nil {
				if m := o.cls.lookup(it, st, "__getitem__"); m != nil {
					return it.call(st, it.bindMethod(st, m, c), &call{at: at, args: []*value{k}})
				}
			}
			if o.cls != nil {
				for _, b := range o.cls.libs {
					path := it.p.facts.canonical(b + ".__getitem__")
					for _, f := range it.p.facts.of(path) {
						switch f.Verb {
						case "returns":
							return inst(f.Args[0], it.labelsOf(st, c))
						case "source":
							return it.sourceCall(st, path, f, c, &call{at: at, args: []*value{k}})
						}
					}
				}
			}
			return it.fieldOf(st, c, o, "[]")
		}
		return it.item(st, c, k)
	case vTuple, vText:
		return it.item(st, c, k)
	case vClass:
		if m := c.cls.enumMembers(it, st); m != nil {
			return m
		}
		return c // Generic[T]
	case vLib:
		return it.libItem(st, c, k, at)
	case vInst:
		if len(c.elems) > 0 {
			if r := it.item(st, c, k); r != nil && r.kind != vUnknown {
				return r
			}
		}
		return it.libItem(st, c, k, at)
	case vBound:
		if p := it.pathOf(st, c); p != "" {
			return it.libItem(st, c, k, at)
		}
		labels := it.labelsOf(st, c)
		if len(labels) == 0 {
			return &value{kind: vBound, recv: c, str: "[]"}
		}
		return opaque(labels)
	}
	labels := addLabels(it.labelsOf(st, c), nil)
	if len(labels) == 0 {
		if c.kind == vUnknown {
			return &value{kind: vBound, recv: c, str: "[]"}
		}
		return unknown
	}
	if s := placeIn(k); s != nil && c.kind == vUnknown && c.sym == s {
		return &value{kind: vUnknown, labels: labels, clean: c.clean, sym: it.derive("char", "", s)}
	}
	arg := "?"
	if key, ok := keyOf(k); ok {
		arg = key
		if c.str == "json" && k.isConstText() {
			src := it.sourceOf("json", at, "JSON field "+strconv.Quote(k.str))
			s := it.derive("item", arg, symOf(c))
			f := Field{Kind: "json", Name: k.str, At: at}
			it.field(f)
			s.input = true
			it.fieldSyms[s] = f
			return &value{kind: vUnknown, labels: []label{{src: src}}, clean: c.clean, sym: s}
		}
		return &value{kind: vUnknown, labels: labels, clean: c.clean, sym: it.derive("item", arg, symOf(c))}
	}
	return &value{kind: vUnknown, labels: labels, clean: c.clean, sym: &sym{}}
}

// callBound calls a method.
func (it *interp) callBound(st *state, fn *value, c *call) *value {
	if fn.fn != nil {
		return it.callFunction(st, fn.fn, fn.recv, c)
	}
	recv, name := fn.recv, fn.str
	switch recv.kind {
	case vUnion:
		return it.callEach(st, mapValues(recv.elems, func(r *value) *value { return &value{kind: vBound, recv: r, str: name} }), c)
	case vText:
		return it.callText(st, recv, name, c)
	case vObj:
		o := it.get(st, recv.obj)
		if o != nil && o.kind != oInstance {
			if m := containerMethods[o.kind][name]; m != nil {
				if r := m(it, st, recv, c); r != nil {
					return r
				}
			}
			return opaque(addLabels(it.labelsOf(st, recv), c.labels(it, st)))
		}
		if p := it.pathOf(st, fn); p != "" {
			return it.callLib(st, p, recv, c)
		}
		return opaque(addLabels(it.labelsOf(st, recv), c.labels(it, st)))
	case vLib:
		if recv.str == "os.environ" {
			return it.callLib(st, "os.environ."+name, recv, c)
		}
	case vTuple:
		if m := tupleMethods[name]; m != nil {
			if r := m(it, st, recv, c); r != nil {
				return r
			}
		}
		return opaque(addLabels(it.labelsOf(st, recv), c.labels(it, st)))
	}
	if p := it.pathOf(st, fn); p != "" {
		if recv.kind == vInst && recv.recv != nil && recv.pat == nil && recv.str != "builtins.super" && len(recv.elems) == 0 {
			// super().method of a library class: self is what counts.
			return it.callLib(st, p, recv.recv, c)
		}
		return it.callLib(st, p, recv, c)
	}
	// Nothing is known of the receiver but what its method is called.
	if facts := it.p.facts.any[name]; len(facts) > 0 {
		return it.callFacts(st, "*."+name, facts, recv, c)
	}
	if m, ok := textMethods[name]; ok {
		labels := it.labelsOf(st, recv)
		if len(labels) > 0 || name == "format" || name == "join" || name == "replace" && putsInto(c) {
			t := fromPieces(it.pieces(st, recv))
			if r := m(it, st, t, c); r != nil {
				return r
			}
		}
	}
	switch name {
	case "append", "add", "extend", "update", "insert", "setdefault":
		return none
	case "get", "pop":
		if r := it.lookUp(st, recv, c); r != nil {
			return r
		}
	}
	it.callbacks(st, c)
	return opaque(addLabels(it.labelsOf(st, recv), c.guesses(it, st)))
}

// putsInto reports whether a call of replace has the shape of a text's: what is
// put in place of a constant text becomes a part of the result, whatever the
// text is that it is put into.
func putsInto(c *call) bool {
	return len(c.args) == 2 && len(c.kw) == 0 && c.rest == nil && c.args[0].isConstText()
}

// lookUp is recv.get(key, default) and recv.pop(key, default) of something of
// which nothing is known: what it holds under the key, or the default. The key
// does not become a part of that. nil if it is no such call.
func (it *interp) lookUp(st *state, recv *value, c *call) *value {
	k := c.arg(0, "key")
	if k == nil || len(c.args) > 2 {
		return nil
	}
	r := it.subscript(st, recv, k, c.at)
	if d := c.arg(1, "default"); d != nil && d.kind != vNone {
		r = join(r, d)
	}
	return r
}

func mapValues(list []*value, f func(*value) *value) []*value {
	out := make([]*value, len(list))
	for i, v := range list {
		out[i] = f(v)
	}
	return out
}

// callText calls a method of a text.
func (it *interp) callText(st *state, recv *value, name string, c *call) *value {
	if facts := it.p.facts.of("builtins.str." + name); len(facts) > 0 {
		it.applyHits(st, "builtins.str."+name, facts, recv, c)
	}
	if m := textMethods[name]; m != nil {
		if r := m(it, st, recv, c); r != nil {
			return r
		}
	}
	return opaque(addLabels(it.labelsOf(st, recv), c.labels(it, st)))
}

// maxLinks bounds the attributes of attributes whose path is asked for.
const maxLinks = 64

// pathOf is the name under which facts may know v; empty if there is none.
func (it *interp) pathOf(st *state, v *value) string {
	n := 0
	for r := v; r != nil && r.kind == vBound; r = r.recv {
		if n++; n > maxLinks { // no name of a library is that long
			return ""
		}
	}
	switch v.kind {
	case vLib, vInst:
		return v.str
	case vBound:
		if v.fn != nil {
			return ""
		}
		switch r := v.recv; r.kind {
		case vLib, vInst:
			return r.str + "." + v.str
		case vText:
			return "builtins.str." + v.str
		case vClass:
			return r.cls.factPath(it, v.str)
		case vObj:
			if o := it.get(st, r.obj); o != nil && o.cls != nil {
				return o.cls.factPath(it, v.str)
			}
		case vBound:
			if p := it.pathOf(st, r); p != "" {
				return p + "." + v.str
			}
		}
	}
	return ""
}

// factPath is the path of an inherited name of a library class.
func (c *class) factPath(it *interp, name string) string {
	for _, b := range c.libs {
		if it.known(b + "." + name) {
			return b + "." + name
		}
	}
	if b := c.libBase(); b != "" {
		return b + "." + name
	}
	return ""
}

// iterate returns the values that iterating over v gives: all of them if
// exact, else any of them any number of times.
func (it *interp) iterate(st *state, v *value) (items []*value, exact bool) {
	if it.nested > maxNested {
		return []*value{opaque(shallowLabels(v))}, false // __iter__ that gives a new iterable each time
	}
	it.nested++
	defer func() { it.nested-- }()
	switch v.kind {
	case vTuple:
		if v.str == "" {
			return v.elems, len(v.elems) <= maxElems*8
		}
	case vText:
		if v.text == nil {
			if v.isBytes {
				if len(v.str) <= maxElems {
					for i := range len(v.str) {
						items = append(items, integer(float64(v.str[i])))
					}
					return items, true
				}
				return []*value{number}, false
			}
			if len(v.str) <= maxElems {
				for _, r := range v.str {
					items = append(items, text(string(r)))
				}
				return items, true
			}
		}
		return []*value{it.charOf(v)}, false
	case vObj:
		o := it.get(st, v.obj)
		if o == nil {
			return nil, false
		}
		switch o.kind {
		case oList, oSet:
			for _, e := range o.elems {
				if b, _ := bound(e); b != nil {
					items = append(items, b)
				}
			}
			if o.rest != nil {
				return append(items, o.rest), false
			}
			return items, !o.summary && len(items) <= maxElems*8
		case oDict:
			for _, k := range o.keys {
				items = append(items, keyValue(k))
			}
			if o.rest != nil {
				return append(items, opaque(o.restKeys)), false
			}
			return items, !o.summary
		case oInstance:
			if o.cls != nil {
				if m := o.cls.lookup(it, st, "__iter__"); m != nil {
					r := it.call(st, it.bindMethod(st, m, v), &call{})
					if !st.dead && (r.kind != vObj || r.obj != v.obj) {
						return it.iterate(st, r)
					}
				}
				if m := o.cls.lookup(it, st, "__next__"); m != nil && !st.dead {
					return []*value{it.call(st, it.bindMethod(st, m, v), &call{})}, false
				}
				if m := o.cls.lookup(it, st, "__getitem__"); m != nil && !st.dead {
					return []*value{it.call(st, it.bindMethod(st, m, v), &call{args: []*value{number}})}, false
				}
			}
			return []*value{it.fieldOf(st, v, o, "[]")}, false
		}
	case vClass:
		if m := v.cls.enumMembers(it, st); m != nil {
			return m.alts(), true
		}
	case vUnion:
		for _, a := range v.elems {
			if a.kind == vNone || a.kind == vUnbound {
				continue
			}
			x, _ := it.iterate(st, a)
			items = append(items, x...)
		}
		if len(items) > maxElems {
			items = []*value{joinAll(items)}
		}
		return items, false
	case vInst, vLib:
		switch v.str {
		case "builtins.range":
			return it.rangeItems(v)
		case "pathlib.parents":
			return []*value{over(over(v.elems[0], it.dirName), pathOfText)}, false
		case "urllib.parse.ParseResult":
			for _, name := range urlParts {
				if name == "params" && v.num == 5 {
					continue
				}
				items = append(items, unknownOr(it.urlAttr(st, v, name)))
			}
			return items, true
		}
		return []*value{it.libElement(st, v)}, false
	case vBound:
		if p := it.pathOf(st, v); p != "" {
			return []*value{it.libElement(st, v)}, false
		}
	}
	labels := it.labelsOf(st, v)
	if len(labels) == 0 {
		return []*value{unknown}, false
	}
	if v.kind == vUnknown {
		return []*value{{kind: vUnknown, labels: labels, clean: v.clean, sym: it.derive("char", "", symOf(v))}}, false
	}
	return []*value{opaque(labels)}, false
}

// charOf is any one character of a text.
func (it *interp) charOf(v *value) *value {
	c, labels, clean := charsOf(v)
	syms := symsOf(v)
	if len(syms) == 1 && len(v.text) == 1 {
		p := v.text[0]
		return &value{kind: vText, text: []piece{{sym: it.derive("char", "", p.sym), chars: p.chars, clean: p.clean, labels: p.labels}}}
	}
	return &value{kind: vText, text: []piece{{sym: &sym{op: "char", bases: syms}, chars: c, clean: clean &^ cleanUnlabelled(labels), labels: labels}}}
}

// list puts a list on the heap.
func (it *interp) list(st *state, kind okind, elems []*value, rest *value) *value {
	if len(elems) > maxElems {
		for _, e := range elems[maxElems:] {
			rest = join(rest, e)
		}
		elems = elems[:maxElems]
	}
	return &value{kind: vObj, obj: it.alloc(st, &object{kind: kind, elems: slices.Clone(elems), rest: rest})}
}
