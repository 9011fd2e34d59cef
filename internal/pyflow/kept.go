package pyflow

import (
	"slices"
)

// What a view leaves in a list, dictionary, object or global name of its
// module is there for the next request. So the views run twice: the second
// time those that read what was left, with that in place, its labels of the
// kind "kept".

const (
	maxKeptDepth = 4
	maxKept      = 8   // values of one place
	maxKeptUnits = 400 // that run again
)

// keptAt is a place of the base heap: an object, and for one with names which.
type keptAt struct {
	obj  objID
	name string
}

// kept is a value without the heap of the run that it is from.
type kept struct {
	v     *value // if it is no new object
	kind  okind
	cls   *class
	rest  []*kept // elements, and values under keys that are not known
	names []string
	at    map[string][]*kept
}

// keep notes what the run that ends in st leaves in objects that were there
// before it.
func (it *interp) keep(st *state) {
	if it.again || len(it.baseWritten) == 0 || len(it.p.cfg.Kept) == 0 || st.dead {
		return
	}
	ids := make([]objID, 0, len(it.baseWritten))
	for id := range it.baseWritten {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		was, o := it.flat[id], it.lookup(st.heap, id)
		if o == nil || o == was || id == it.p.unplaced {
			continue
		}
		note := func(name string, v, old *value) {
			if v == nil || v == old || !it.isKept(st, v) {
				return
			}
			at := keptAt{id, name}
			if it.left == nil {
				it.left = map[keptAt][]*kept{}
			}
			if list := it.left[at]; len(list) < maxKept {
				it.left[at] = append(list, it.freeze(st, v, 0)...)
			}
		}
		old := func(i int) *value {
			if i < len(was.elems) {
				return was.elems[i]
			}
			return was.rest
		}
		for i, v := range o.elems {
			note("", v, old(i))
		}
		note("", o.rest, was.rest)
		for _, k := range o.keys {
			name := k
			if o.kind == oDict {
				name = "" // known or not, it is for whoever asks
			}
			note(name, o.m[k], was.m[k])
		}
	}
}

// isKept reports whether v holds something that is of interest to later runs.
func (it *interp) isKept(st *state, v *value) bool {
	return slices.ContainsFunc(it.labelsOf(st, v), func(l label) bool { return slices.Contains(it.p.cfg.Kept, l.src.kind) && l.clean != allTags })
}

// earlier makes of labels those of what an earlier request left.
func (it *interp) earlier(list []label) []label {
	var out []label
	for _, l := range list {
		if !slices.Contains(it.p.cfg.Kept, l.src.kind) {
			continue
		}
		out = addLabels(out, []label{{src: it.sourceOf("kept", l.src.at, l.src.note+" of an earlier request"), step: l.step, clean: l.clean}})
	}
	return out
}

func (it *interp) freeze(st *state, v *value, depth int) []*kept {
	if v.kind == vUnion {
		var out []*kept
		for _, a := range v.elems {
			if len(out) < maxKept {
				out = append(out, it.freeze(st, a, depth)...)
			}
		}
		return out
	}
	if v.kind == vObj && v.obj > it.baseTop && depth < maxKeptDepth {
		o := it.get(st, v.obj)
		if o == nil || o.cls != nil && o.cls.ns > it.baseTop {
			return []*kept{{v: opaque(it.earlier(it.labelsOf(st, v)))}}
		}
		k := &kept{kind: o.kind, cls: o.cls, at: map[string][]*kept{}}
		for _, e := range append(slices.Clone(o.elems), o.rest) {
			if e != nil && len(k.rest) < maxKept {
				k.rest = append(k.rest, it.freeze(st, e, depth+1)...)
			}
		}
		for _, name := range o.keys {
			if len(k.names) < maxElems {
				k.names = append(k.names, name)
				k.at[name] = it.freeze(st, o.m[name], depth+1)
			}
		}
		return []*kept{k}
	}
	return []*kept{{v: it.plain(st, v, depth)}}
}

// plain is a value that refers to nothing of the run.
func (it *interp) plain(st *state, v *value, depth int) *value {
	switch v.kind {
	case vText:
		if v.text == nil {
			return v
		}
		c := &value{kind: vText, isBytes: v.isBytes, safe: v.safe, text: slices.Clone(v.text)}
		for i := range c.text {
			if p := &c.text[i]; p.sym != nil {
				p.sym, p.labels = &sym{}, it.earlier(p.labels)
			}
		}
		return c
	case vNumber:
		return numeric(it.earlier(v.labels))
	case vTuple:
		if v.str == "" && depth < maxKeptDepth {
			c := &value{kind: vTuple}
			for _, e := range v.elems {
				var x *value
				for _, k := range it.freeze(st, e, maxKeptDepth) {
					x = join(x, k.v)
				}
				c.elems = append(c.elems, unknownOr(x))
			}
			return c
		}
	case vInst:
		c := inst(v.str, it.earlier(v.labels))
		c.clean = v.clean
		return c
	case vUnknown:
		c := *opaque(it.earlier(v.labels))
		c.clean = v.clean
		return &c
	}
	if !it.reachesNew(v, 0) && len(it.labelsOf(st, v)) == 0 {
		return v
	}
	return opaque(it.earlier(it.labelsOf(st, v)))
}

// thaw puts what was kept into the base heap.
func (it *interp) thaw(list []*kept) *value {
	var out *value
	for _, k := range list {
		v := k.v
		if v == nil {
			o := &object{kind: k.kind, cls: k.cls}
			if r := it.thaw(k.rest); r != nil {
				o.rest = r
			}
			for _, name := range k.names {
				o.set(name, unknownOr(it.thaw(k.at[name])))
			}
			it.nextObj++
			it.flat = append(it.flat, o)
			v = &value{kind: vObj, obj: it.nextObj}
		}
		out = join(out, v)
	}
	return out
}

// runKept runs those units again that read what others have left.
func (a *analysis) runKept(units []*unit) {
	var places []keptAt
	left := map[keptAt][]*kept{}
	for _, it := range a.workers {
		for at, list := range it.left {
			if left[at] == nil {
				places = append(places, at)
			}
			_ = list
			left[at] = []*kept{}
		}
	}
	if len(places) == 0 {
		return
	}
	for _, it := range a.workers { // in their order, not the map's
		for at := range left {
			if list := it.left[at]; len(list) > 0 && len(left[at]) < maxKept {
				left[at] = append(left[at], list[:min(len(list), maxKept-len(left[at]))]...)
			}
		}
	}
	slices.SortFunc(places, func(x, y keptAt) int {
		if x.obj != y.obj {
			return int(x.obj) - int(y.obj)
		}
		if x.name < y.name {
			return -1
		}
		return 1
	})
	changed := map[objID]bool{}
	base := a.base
	for _, at := range places {
		v := base.thaw(left[at])
		if v == nil {
			continue
		}
		o := base.flat[at.obj].clone(nil)
		switch {
		case at.name == "":
			o.rest = join(o.rest, v)
		case o.m[at.name] == nil && o.kind == oInstance:
			o.set(at.name, join(unbound, v))
		default:
			o.set(at.name, join(o.m[at.name], v))
		}
		base.flat[at.obj] = o
		changed[at.obj] = true
	}
	base.baseTop = base.nextObj
	var again []*unit
	for _, u := range units {
		if len(again) < maxKeptUnits && slices.ContainsFunc(u.reads, func(id objID) bool { return changed[id] }) {
			again = append(again, u)
		}
	}
	n := len(a.workers)
	base.again = true
	a.run(again)
	base.again = false
	for _, it := range a.workers[n:] {
		it.entries, it.gaveUp, it.funcs = nil, nil, 0 // they were counted before
	}
}
