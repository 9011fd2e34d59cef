package pyflow

import (
	"slices"
	"strings"
)

// specials are functions of Python that need the interpreter.
var specials map[string]native

func init() {
	specials = map[string]native{
		"builtins.getattr":         specialGetattr,
		"builtins.setattr":         specialSetattr,
		"builtins.hasattr":         specialHasattr,
		"builtins.isinstance":      specialIsinstance,
		"builtins.type":            specialType,
		"builtins.vars":            specialVars,
		"builtins.str":             specialStr,
		"builtins.print":           specialPrint,
		objectNew:                  specialNew,
		"builtins.__import__":      specialDunderImport,
		"importlib.import_module":  specialImport,
		"functools.partial":        specialPartial,
		"functools.partialmethod":  specialPartial,
		"functools.wraps":          func(*interp, *state, *value, *call) *value { return lib("functools.wraps()") },
		"functools.wraps()":        firstArg,
		"functools.update_wrapper": firstArg,
		"typing.cast":              func(it *interp, st *state, self *value, c *call) *value { return c.arg(1, "val") },
		"asyncio.run":              firstArg,
		"asyncio.gather":           specialGather,
		"zipfile.ZipFile":          specialArchive("zipfile.ZipFile", 0, "file"),
		"tarfile.open":             specialArchive("tarfile.open", 2, "fileobj"),
		"tarfile.TarFile":          specialArchive("tarfile.TarFile", 2, "fileobj"),
		"tarfile.TarFile.extract":  specialExtract,
		"sqlalchemy.Column":        specialColumn("sqlalchemy.Column"),

		"sqlalchemy.orm.mapped_column": specialColumn("sqlalchemy.orm.mapped_column"),
	}
	for _, path := range dataClasses {
		specials[path] = specialDataclass(path)
	}
}

// dataClasses are the decorators that make fields of a class's annotations.
var dataClasses = []string{
	"dataclasses.dataclass", "pydantic.dataclasses.dataclass", "attr.s", "attr.attrs", "attr.dataclass", "attr.define",
	"attr.frozen", "attr.mutable", "attrs.define", "attrs.frozen", "attrs.mutable",
}

// specialDataclass is @dataclass(frozen=True), a decorator itself, and
// dataclass(C).
func specialDataclass(path string) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		if len(c.args) == 0 {
			return lib(path)
		}
		return it.specialDecorator(st, lib(path), c.args[0])
	}
}

// specialExtract is archive.extract(member): of an entry it is the name that
// says where it goes, of which the program may have asked something.
func specialExtract(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) == 0 || c.args[0].kind != vUnknown && c.args[0].kind != vInst {
		return nil
	}
	asked := it.attr(st, c.args[0], "name", false, c.at)
	name := it.refined(st, asked)
	if name == asked {
		return nil
	}
	n := *c
	n.args = slices.Clone(c.args)
	n.args[0] = name
	const path = "tarfile.TarFile.extract"
	return it.callFacts(st, path, it.p.facts.of(path), self, &n)
}

func firstArg(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) > 0 {
		return c.args[0]
	}
	return nil
}

// specialArchive opens an archive. What is in one that the application has
// fetched from a server of its choice comes from there, like the answer.
func specialArchive(path string, i int, name string) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		r := it.callFacts(st, path, it.p.facts.of(path), self, c)
		if file := c.arg(i, name); file != nil && r.kind == vInst && it.fetched(st, file) {
			x := *r
			x.clean |= it.tag("archive")
			return &x
		}
		return r
	}
}

func specialGather(it *interp, st *state, self *value, c *call) *value {
	return it.list(st, oList, c.args, c.rest)
}

func specialStr(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) == 1 && len(c.kw) == 0 && c.args[0].kind == vObj {
		return it.str(st, c.args[0])
	}
	return nil
}

// specialPrint is print into something that is written to.
func specialPrint(it *interp, st *state, self *value, c *call) *value {
	file := c.keyword("file")
	if file == nil || file.kind != vObj {
		return nil
	}
	sep, end := text(" "), text("\n")
	if k := c.keyword("sep"); k != nil && k.kind == vText {
		sep = k
	}
	if k := c.keyword("end"); k != nil && k.kind == vText {
		end = k
	}
	var ps []piece
	for i, a := range c.args {
		if i > 0 {
			ps = append(ps, it.pieces(st, sep)...)
		}
		ps = append(ps, it.pieces(st, it.str(st, a))...)
	}
	ps = append(ps, it.pieces(st, end)...)
	it.call(st, it.attr(st, file, "write", true, c.at), &call{at: c.at, args: []*value{fromPieces(ps)}, spans: []Span{c.at}})
	return none
}

// specialGetattr is getattr(v, name[, default]). A name that is not known may
// be any function or class there is.
func specialGetattr(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) < 2 {
		return nil
	}
	v, name := c.args[0], c.args[1]
	var out *value
	for _, n := range name.alts() {
		if n.isConstText() {
			r := it.attr(st, v, n.str, false, c.at)
			out = join(out, r)
			continue
		}
		for _, a := range v.alts() {
			out = join(out, it.anyAttr(st, a, n))
		}
	}
	if len(c.args) > 2 {
		out = join(out, c.args[2])
	}
	return out
}

func (it *interp) anyAttr(st *state, v, name *value) *value {
	var out *value
	ns := func(id objID, recv *value) {
		o := it.get(st, id)
		if o == nil {
			return
		}
		n := 0
		for _, k := range o.keys {
			x, _ := bound(o.m[k])
			if x == nil || strings.HasPrefix(k, "__") || x.kind != vFunc && x.kind != vClass {
				continue
			}
			if p := prefixOf(name); p != "" && !strings.HasPrefix(k, p) {
				continue
			}
			if n++; n > 12 {
				break
			}
			if recv != nil {
				x = it.bindMethod(st, x, recv)
			}
			out = join(out, x)
		}
	}
	labels := addLabels(it.labelsOf(st, v), it.labelsOf(st, name))
	switch v.kind {
	case vModule:
		ns(v.mod.ns, nil)
	case vClass:
		for _, k := range v.cls.mro {
			ns(k.ns, nil)
		}
	case vObj:
		if o := it.get(st, v.obj); o != nil && o.kind == oInstance {
			labels = it.labelsOf(st, name)
			if o.cls != nil {
				for _, k := range o.cls.mro {
					ns(k.ns, v)
				}
			}
			if o.all() != nil {
				out = join(out, o.all())
			}
		}
	}
	return join(out, opaque(labels))
}

func specialSetattr(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) < 3 {
		return nil
	}
	for _, n := range c.args[1].alts() {
		if n.isConstText() {
			it.setAttr(st, c.args[0], n.str, c.args[2], c.at)
		} else if c.args[0].kind == vObj {
			w := it.write(st, c.args[0].obj)
			w.rest = join(w.rest, c.args[2])
		}
	}
	facts := it.p.facts.of("builtins.setattr")
	it.applyHits(st, "builtins.setattr", facts, nil, c)
	return none
}

func specialHasattr(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) == 2 && c.args[1].isConstText() && c.args[0].kind == vObj {
		if o := it.get(st, c.args[0].obj); o != nil && o.kind == oInstance && o.cls != nil && o.rest == nil && !o.cls.hasLibBase() {
			if _, ok := o.m[c.args[1].str]; ok {
				return vTrue
			}
			if o.cls.lookup(it, st, c.args[1].str) != nil {
				return vTrue
			}
			if c.args[0].obj > it.baseTop && !it.loading && !o.summary && o.cls.lookup(it, st, "__getattr__") == nil && o.cls.lookup(it, st, "__getattribute__") == nil {
				return vFalse // this run has made it and knows all that it has
			}
		}
	}
	return boolean
}

func specialIsinstance(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) != 2 {
		return nil
	}
	if c.args[0].kind == vUnion {
		var out *value
		for _, a := range c.args[0].elems {
			out = join(out, it.isInstance(st, a, c.args[1]))
		}
		if t := it.truth(st, out); t >= 0 {
			return boolOf(t == 1)
		}
		return boolean
	}
	return it.isInstance(st, c.args[0], c.args[1])
}

func specialType(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) != 1 {
		return nil
	}
	return over(c.args[0], func(v *value) *value {
		switch v.kind {
		case vObj:
			if o := it.get(st, v.obj); o != nil {
				if o.cls != nil && o.kind == oInstance {
					return &value{kind: vClass, cls: o.cls}
				}
				switch o.kind {
				case oList:
					return lib("builtins.list")
				case oDict:
					return lib("builtins.dict")
				case oSet:
					return lib("builtins.set")
				}
			}
		case vText:
			if v.isBytes {
				return lib("builtins.bytes")
			}
			return lib("builtins.str")
		case vTuple:
			return lib("builtins.tuple")
		case vBool, vBoolean:
			return lib("builtins.bool")
		}
		return unknown
	})
}

func specialVars(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) == 1 && (c.args[0].kind == vObj || c.args[0].kind == vModule) {
		return it.attr(st, c.args[0], "__dict__", false, c.at)
	}
	return nil
}

func specialImport(it *interp, st *state, self *value, c *call) *value {
	name := c.arg(0, "name")
	if name == nil {
		return nil
	}
	it.applyHits(st, "importlib.import_module", it.p.facts.of("importlib.import_module"), nil, c)
	pkg := ""
	if p := c.arg(1, "package"); p != nil && p.isConstText() {
		pkg = p.str
	}
	var out *value
	for _, n := range name.alts() {
		if !n.isConstText() {
			out = join(out, opaque(it.labelsOf(st, n)))
			continue
		}
		full := n.str
		if strings.HasPrefix(full, ".") {
			base := pkg
			for i := 1; i < len(full) && full[i] == '.'; i++ {
				base = parent(base)
			}
			full = strings.TrimPrefix(base+"."+strings.TrimLeft(full, "."), ".")
		}
		m := it.importModule(st, full)
		if m == nil {
			m = lib(full)
		}
		out = join(out, m)
	}
	return out
}

func specialPartial(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) == 0 {
		return nil
	}
	v := &value{kind: vInst, str: "functools.partial", elems: slices.Clone(c.args)}
	if len(c.kw) > 0 {
		kw := &value{kind: vTuple}
		for _, k := range c.kw {
			kw.elems = append(kw.elems, &value{kind: vTuple, str: k.name, elems: []*value{k.v}})
		}
		v.recv = kw
	}
	return v
}

// specialDunderImport is __import__, which gives the first part of a dotted
// name unless there is a fromlist.
func specialDunderImport(it *interp, st *state, self *value, c *call) *value {
	v := specialImport(it, st, self, c)
	if len(c.args) == 0 || len(c.args) > 3 || c.keyword("fromlist") != nil || !c.args[0].isConstText() {
		return v
	}
	top, _, dotted := strings.Cut(c.args[0].str, ".")
	if !dotted {
		return v
	}
	if m := it.importModule(st, top); m != nil {
		return m
	}
	return lib(top)
}
