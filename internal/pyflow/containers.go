package pyflow

import (
	"slices"
	"strconv"
	"strings"
)

// containerMethods are the methods of lists, dictionaries and sets;
// tupleMethods those of tuples.
var (
	containerMethods map[okind]map[string]native
	tupleMethods     map[string]native
)

func init() {
	containerMethods = map[okind]map[string]native{
		oList: {
			"append": func(it *interp, st *state, self *value, c *call) *value {
				it.grow(st, self, c.arg(0, "object"))
				return none
			},
			"extend": func(it *interp, st *state, self *value, c *call) *value {
				it.growAll(st, self, c.arg(0, "iterable"))
				return none
			},
			"insert": listInsert, "pop": listPop, "remove": listRemove,
			"clear": func(it *interp, st *state, self *value, c *call) *value {
				o := it.write(st, self.obj)
				o.elems, o.rest = nil, nil
				return none
			},
			"copy": func(it *interp, st *state, self *value, c *call) *value { return it.copyOf(st, self) },
			"reverse": func(it *interp, st *state, self *value, c *call) *value {
				o := it.write(st, self.obj)
				if o.rest == nil {
					slices.Reverse(o.elems)
				} else {
					o.smash()
				}
				return none
			},
			"sort": func(it *interp, st *state, self *value, c *call) *value {
				o := it.write(st, self.obj)
				if o.rest == nil && sortConsts(o.elems, c) {
					return none
				}
				if len(o.elems) > 1 {
					o.smash()
				}
				return none
			},
			"index": numberOfList, "count": numberOfList,
		},
		oDict: {
			"get": dictGet, "setdefault": dictSetdefault, "pop": dictPop,
			"popitem": func(it *interp, st *state, self *value, c *call) *value {
				o := it.get(st, self.obj)
				return &value{kind: vTuple, elems: []*value{opaque(o.restKeys), unknownOr(noUnbound(o.all()))}}
			},
			"update": func(it *interp, st *state, self *value, c *call) *value {
				for _, a := range c.args {
					it.updateDictFrom(st, self.obj, a)
				}
				o := it.write(st, self.obj)
				for _, k := range c.kw {
					key, _ := keyOf(text(k.name))
					o.set(key, k.v)
				}
				if c.rest != nil {
					o.rest = join(o.rest, c.rest)
				}
				it.writeFields(st, self, c.at)
				return none
			},
			"keys":   func(it *interp, st *state, self *value, c *call) *value { return it.dictList(st, self, true, false) },
			"values": func(it *interp, st *state, self *value, c *call) *value { return it.dictList(st, self, false, true) },
			"items":  func(it *interp, st *state, self *value, c *call) *value { return it.dictList(st, self, true, true) },
			"clear": func(it *interp, st *state, self *value, c *call) *value {
				o := it.write(st, self.obj)
				o.keys, o.m, o.rest, o.restKeys = nil, nil, nil, nil
				return none
			},
			"copy": func(it *interp, st *state, self *value, c *call) *value { return it.copyOf(st, self) },
		},
		oSet: {
			"add": func(it *interp, st *state, self *value, c *call) *value {
				it.grow(st, self, c.arg(0, ""))
				return none
			},
			"update": func(it *interp, st *state, self *value, c *call) *value {
				for _, a := range c.args {
					it.growAll(st, self, a)
				}
				return none
			},
			"discard": setRemove, "remove": setRemove,
			"pop": func(it *interp, st *state, self *value, c *call) *value {
				return it.taken(unknownOr(it.get(st, self.obj).all()), c)
			},
			"clear": func(it *interp, st *state, self *value, c *call) *value {
				o := it.write(st, self.obj)
				o.elems, o.rest = nil, nil
				return none
			},
			"copy":  func(it *interp, st *state, self *value, c *call) *value { return it.copyOf(st, self) },
			"union": setMethod("|"), "intersection": setMethod("&"), "difference": setMethod("-"), "symmetric_difference": setMethod("^"),
			"issubset":   func(it *interp, st *state, self *value, c *call) *value { return it.subset(st, self, c.arg(0, "")) },
			"issuperset": func(it *interp, st *state, self *value, c *call) *value { return boolean },
			"isdisjoint": setDisjoint,
		},
	}
	tupleMethods = map[string]native{
		"index": func(it *interp, st *state, self *value, c *call) *value { return number },
		"count": func(it *interp, st *state, self *value, c *call) *value { return number },
	}
}

// writeFields puts what is in an object's __dict__ into the object.
func (it *interp) writeFields(st *state, dict *value, at Span) {
	if dict.recv == nil || dict.recv.kind != vObj {
		return
	}
	d := it.get(st, dict.obj)
	w := it.write(st, dict.recv.obj)
	for _, k := range d.keys {
		if name := keyValue(k); name.isConstText() {
			w.set(name.str, d.m[k])
		}
	}
	if d.rest != nil {
		w.rest = join(w.rest, d.rest)
	}
}

func noUnbound(v *value) *value {
	v, _ = bound(v)
	return v
}

// grow appends to a list or adds to a set.
func (it *interp) grow(st *state, self, v *value) {
	if v == nil {
		v = unknown
	}
	o := it.write(st, self.obj)
	if o.kind == oSet && slices.ContainsFunc(o.elems, func(e *value) bool { return it.isSame(self, e, v) }) {
		return
	}
	o.add(v)
}

func (it *interp) growAll(st *state, self, from *value) {
	if from == nil {
		return
	}
	items, exact := it.iterate(st, from)
	if exact {
		for _, v := range items {
			it.grow(st, self, v)
		}
		return
	}
	o := it.write(st, self.obj)
	r := joinAll(items)
	if r == nil {
		r = unknown
	}
	o.rest = join(o.rest, r)
}

func listInsert(it *interp, st *state, self *value, c *call) *value {
	v := unknownOr(c.arg(1, ""))
	o := it.write(st, self.obj)
	if k := c.arg(0, ""); k != nil && k.kind == vNum && o.rest == nil && len(o.elems) < maxElems {
		i := int(k.num)
		if i < 0 {
			i = max(0, len(o.elems)+i)
		}
		o.elems = slices.Insert(o.elems, min(i, len(o.elems)), v)
		return none
	}
	o.smash()
	o.rest = join(o.rest, v)
	return none
}

func listPop(it *interp, st *state, self *value, c *call) *value {
	k := c.arg(0, "")
	if k == nil {
		k = integer(-1)
	}
	o := it.write(st, self.obj)
	if o.rest == nil && !o.summary {
		if i, ok := index(k, len(o.elems)); ok {
			v := o.elems[i]
			o.elems = slices.Delete(o.elems, i, i+1)
			return unknownOr(noUnbound(v))
		}
	}
	v := noUnbound(o.all())
	o.smash()
	return it.taken(unknownOr(v), c)
}

// taken is one element that a call has taken out of a container: what is
// learnt about it says nothing about those that other calls take.
func (it *interp) taken(v *value, c *call) *value {
	at := it.at(c)
	return it.nth(v, at.File+":"+strconv.FormatUint(uint64(at.Start), 10))
}

func listRemove(it *interp, st *state, self *value, c *call) *value {
	v := unknownOr(c.arg(0, ""))
	o := it.write(st, self.obj)
	if o.rest == nil {
		for i, e := range o.elems {
			switch equalKnown(e, v) {
			case 1:
				o.elems = slices.Delete(o.elems, i, i+1)
				return none
			case -1:
				o.smash()
				return none
			}
		}
		return none
	}
	o.smash()
	return none
}

// isSame reports whether v is certainly equal to an element of a container: a
// constant, or the very same part of the input in a container that this run
// has made. One that is there for later requests may hold that of another.
func (it *interp) isSame(container, elem, v *value) bool {
	if equalKnown(elem, v) == 1 {
		return true
	}
	if container.kind != vObj || container.obj <= it.baseTop || it.loading || !inputOnly(v) {
		return false
	}
	// Of one of several things only this very value is the same one.
	return elem == v || v.kind != vUnion && same(elem, v)
}

// inputOnly reports whether a value is made of certain parts of the input and
// literals, so that it is equal to whatever is made of them in the same way.
func inputOnly(v *value) bool {
	switch v.kind {
	case vUnknown:
		return v.sym.certain(0)
	case vUnion:
		return !slices.ContainsFunc(v.elems, func(e *value) bool { return !e.isConst() && !inputOnly(e) })
	case vText:
		for i := range v.text {
			if p := &v.text[i]; p.sym != nil && !p.sym.certain(0) {
				return false
			}
		}
		return len(v.text) > 0
	}
	return false
}

// anyOps are the derivations that give one of several things.
var anyOps = map[string]bool{"nth": true, "char": true, "either": true, "place": true}

// certain reports whether s stands for one thing in the whole run: a certain
// part of the input, or what a function without a memory has made of one.
func (s *sym) certain(depth int) bool {
	if s == nil || depth > 8 || anyOps[s.op] {
		return false
	}
	if s.input {
		return true
	}
	for _, b := range s.bases {
		if !b.certain(depth + 1) {
			return false
		}
	}
	return len(s.bases) > 0
}

// setRemove is s.remove(v) and s.discard(v).
func setRemove(it *interp, st *state, self *value, c *call) *value {
	v := unknownOr(c.arg(0, ""))
	o := it.write(st, self.obj)
	if o.rest == nil && !o.summary {
		o.elems = slices.DeleteFunc(o.elems, func(e *value) bool { return it.isSame(self, e, v) })
	}
	return none
}

// setDisjoint is s.isdisjoint(other).
func setDisjoint(it *interp, st *state, self *value, c *call) *value {
	o := it.get(st, self.obj)
	other := c.arg(0, "")
	if o == nil || other == nil {
		return boolean
	}
	items, exact := it.iterate(st, other)
	apart := exact && o.rest == nil
	for _, e := range o.elems {
		for _, x := range items {
			if exact && it.isSame(self, e, x) {
				return vFalse
			}
			// What may be one of several may be any.
			apart = apart && e.kind != vUnion && x.kind != vUnion && equalKnown(e, x) == 0
		}
	}
	if apart {
		return vTrue
	}
	return boolean
}

func numberOfList(it *interp, st *state, self *value, c *call) *value {
	o := it.get(st, self.obj)
	v := c.arg(0, "")
	if o != nil && v != nil && o.rest == nil {
		for i, e := range o.elems {
			switch equalKnown(e, v) {
			case 1:
				return integer(float64(i))
			case -1:
				return number
			}
		}
	}
	return number
}

// sortConsts sorts constants of one kind in place; false if they are not.
func sortConsts(elems []*value, c *call) bool {
	if len(c.args) > 0 || c.keyword("key") != nil {
		return false
	}
	desc := false
	if r := c.keyword("reverse"); r != nil {
		if r.kind != vBool {
			return false
		}
		desc = r.num != 0
	}
	nums, texts := true, true
	for _, e := range elems {
		nums = nums && e.kind == vNum
		texts = texts && e.isConstText()
	}
	if !nums && !texts {
		return false
	}
	slices.SortStableFunc(elems, func(a, b *value) int {
		n := strings.Compare(a.str, b.str)
		if nums {
			n = int(a.num - b.num)
			if a.num < b.num {
				n = -1
			} else if a.num > b.num {
				n = 1
			}
		}
		if desc {
			return -n
		}
		return n
	})
	return true
}

// copyOf is a shallow copy of a container.
func (it *interp) copyOf(st *state, v *value) *value {
	o := it.get(st, v.obj)
	if o == nil {
		return unknown
	}
	return &value{kind: vObj, obj: it.alloc(st, o.clone(nil))}
}

func dictGet(it *interp, st *state, self *value, c *call) *value {
	o := it.get(st, self.obj)
	k := c.arg(0, "key")
	d := c.arg(1, "default")
	if d == nil {
		d = none
	}
	if k == nil {
		return nil
	}
	return over(k, func(k *value) *value {
		if key, ok := keyOf(k); ok {
			v, missing := bound(o.get(key))
			if missing {
				v = join(v, d)
				if o.rest != nil {
					v = join(v, it.nth(o.rest, key))
				}
			}
			return v
		}
		v := noUnbound(o.all())
		return join(v, d)
	})
}

func dictSetdefault(it *interp, st *state, self *value, c *call) *value {
	k := c.arg(0, "key")
	d := c.arg(1, "default")
	if d == nil {
		d = none
	}
	if k == nil {
		return nil
	}
	v := dictGet(it, st, self, &call{args: []*value{k, d}})
	it.setItem(st, self, k, v)
	return v
}

func dictPop(it *interp, st *state, self *value, c *call) *value {
	k := c.arg(0, "key")
	if k == nil {
		return nil
	}
	args := []*value{k}
	if d := c.arg(1, "default"); d != nil {
		args = append(args, d)
	}
	v := dictGet(it, st, self, &call{args: args})
	if len(args) == 1 && v.kind == vUnion {
		// Without a default it raises.
		var out *value
		for _, a := range v.elems {
			if a.kind != vNone {
				out = join(out, a)
			}
		}
		v = unknownOr(out)
	}
	it.delItem(st, self, k)
	return v
}

// updateDictFrom is d.update(m), m being a mapping or a sequence of pairs.
func (it *interp) updateDictFrom(st *state, id objID, m *value) {
	for _, a := range m.alts() {
		if a.kind == vObj {
			if o := it.get(st, a.obj); o != nil && o.kind == oDict {
				w := it.write(st, id)
				it.updateDict(st, w, a)
				continue
			}
		}
		if a.kind == vObj || a.kind == vTuple {
			items, exact := it.iterate(st, a)
			w := it.write(st, id)
			for _, p := range items {
				kv, ok := it.iterate(st, p)
				if ok && len(kv) == 2 {
					if key, ok := keyOf(kv[0]); ok && exact {
						w.set(key, kv[1])
						continue
					}
					w.rest = join(w.rest, kv[1])
					w.restKeys = addLabels(w.restKeys, it.keyLabels(st, kv[0]))
					continue
				}
				labels := it.labelsOf(st, p)
				w.rest = join(w.rest, opaque(labels))
				w.restKeys = addLabels(w.restKeys, labels)
			}
			continue
		}
		w := it.write(st, id)
		it.updateDict(st, w, a)
	}
}

// dictList is what keys(), values() and items() give.
func (it *interp) dictList(st *state, self *value, keys, values bool) *value {
	o := it.get(st, self.obj)
	one := func(k, v *value) *value {
		switch {
		case keys && values:
			return &value{kind: vTuple, elems: []*value{k, v}}
		case keys:
			return k
		}
		return v
	}
	var elems []*value
	rest := (*value)(nil)
	for _, k := range o.keys {
		v, missing := bound(o.m[k])
		if v == nil {
			continue
		}
		x := one(keyValue(k), v)
		if missing {
			rest = join(rest, x)
		} else {
			elems = append(elems, x)
		}
	}
	if o.rest != nil {
		rest = join(rest, one(opaque(o.restKeys), o.rest))
	}
	return it.list(st, oList, elems, rest)
}

func setMethod(op string) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		out := self
		for _, a := range c.args {
			items, exact := it.iterate(st, a)
			y := &object{kind: oSet}
			if exact {
				y.elems = items
			} else {
				y.rest = unknownOr(joinAll(items))
			}
			out = it.setOperation(st, op, it.get(st, out.obj), y)
		}
		return out
	}
}

// subset is the test self <= other: every element is one of other's.
func (it *interp) subset(st *state, self, other *value) *value {
	o := it.get(st, self.obj)
	if o == nil || other == nil {
		return boolean
	}
	chars := charSyms(unknownOr(noUnbound(o.all())))
	if len(chars) == 0 {
		return boolean
	}
	var allowed Chars
	items, _ := it.iterate(st, other)
	for _, e := range items {
		for _, a := range e.alts() {
			if !a.isConstText() {
				c, l, _ := charsOf(a)
				if len(l) > 0 || c == AnyChars {
					return boolean
				}
				allowed = allowed.Or(c)
				continue
			}
			allowed = allowed.Or(CharsOf(a.str))
		}
	}
	return test(func(it *interp, st *state) {
		for _, s := range chars {
			for _, b := range s.bases {
				it.restrictSym(st, b, allowed)
			}
		}
	}, nil)
}
