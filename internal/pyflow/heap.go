package pyflow

import (
	"maps"
	"slices"
)

// objID names an object on the heap. Later objects have higher ids.
type objID uint32

type okind uint8

const (
	oList okind = iota + 1
	oDict
	oSet
	oInstance
	oCell
	oNamespace // of a module or a class
)

// object is what stands behind an objID. It changes only while the heap node
// that owns it is written to.
type object struct {
	kind  okind
	cls   *class
	owner *heap
	elems []*value
	rest  *value // what further elements or keys may hold; nil if there are none
	keys  []string
	m     map[string]*value // dict by keyOf; instance and namespace by name
	// summary is set on an object that stands for several, made by one
	// expression in a loop: writing adds instead of replacing.
	summary bool
}

func (o *object) clone(owner *heap) *object {
	c := *o
	c.owner = owner
	c.elems = slices.Clone(o.elems)
	c.keys = slices.Clone(o.keys)
	c.m = maps.Clone(o.m)
	return &c
}

func (o *object) get(key string) *value { return o.m[key] }

// set binds key.
func (o *object) set(key string, v *value) {
	if o.m == nil {
		o.m = map[string]*value{}
	}
	old, ok := o.m[key]
	if !ok {
		if len(o.keys) >= maxKeys && o.kind == oDict {
			o.rest = join(o.rest, v)
			return
		}
		o.keys = append(o.keys, key)
	}
	if o.summary && ok {
		v = join(old, v)
	}
	o.m[key] = v
}

func (o *object) del(key string) {
	if _, ok := o.m[key]; ok {
		delete(o.m, key)
		o.keys = slices.DeleteFunc(o.keys, func(k string) bool { return k == key })
	}
}

// add appends an element.
func (o *object) add(v *value) {
	if len(o.elems) >= maxElems || o.rest != nil && o.kind == oList || o.summary {
		o.rest = join(o.rest, v)
		return
	}
	o.elems = append(o.elems, v)
}

// smash forgets where elements stand.
func (o *object) smash() {
	for _, e := range o.elems {
		o.rest = join(o.rest, e)
	}
	o.elems = nil
	for _, k := range o.keys {
		o.rest = join(o.rest, o.m[k])
	}
	o.keys, o.m = nil, nil
	if o.rest == nil {
		o.rest = unknown
	}
}

// all returns the join of everything in it; nil when it is empty.
func (o *object) all() *value {
	out := o.rest
	for _, e := range o.elems {
		out = join(out, e)
	}
	for _, k := range o.keys {
		out = join(out, o.m[k])
	}
	return out
}

// heap is a node of a tree of heaps: what is not in it is in its parent.
type heap struct {
	parent *heap
	depth  int
	objs   map[objID]*object
}

func (h *heap) get(id objID) *object {
	for ; h != nil; h = h.parent {
		if o, ok := h.objs[id]; ok {
			return o
		}
	}
	return nil
}

// state is a point of the execution: the variables of the running function,
// the heap, and what is known about unknown values.
type state struct {
	vars   []*value
	heap   *heap
	shared bool // heap is seen by others, too: write to a new node
	known  *knowledge
	dead   bool
}

// fork returns a second state that goes on from here.
func (st *state) fork() *state {
	st.shared = true
	c := *st
	c.vars = slices.Clone(st.vars)
	return &c
}

// own makes the top node of the heap one that only this state writes to.
func (st *state) own() {
	if !st.shared && st.heap != nil {
		return
	}
	depth := 0
	if st.heap != nil {
		depth = st.heap.depth + 1
	}
	st.heap = &heap{parent: st.heap, depth: depth, objs: map[objID]*object{}}
	st.shared = false
	if depth > 24 && depth%12 == 0 {
		st.heap.compress()
	}
}

// compress folds the nodes between h and the oldest one into h.
func (h *heap) compress() {
	n := h.parent
	for n != nil && n.parent != nil {
		for id, o := range n.objs {
			if _, ok := h.objs[id]; !ok {
				h.objs[id] = o
			}
		}
		n = n.parent
	}
	h.parent = n
	h.depth = 1
}

// write returns the object for changing it.
func (it *interp) write(st *state, id objID) *object {
	if id < it.mark {
		it.effects++
		if id <= it.baseTop {
			it.gens++
			it.baseGen = it.gens
		}
	}
	st.own()
	o := st.heap.objs[id]
	if o != nil && o.owner == st.heap {
		return o
	}
	if o == nil {
		o = st.heap.get(id)
	}
	if o == nil {
		o = &object{kind: oInstance}
	}
	o = o.clone(st.heap)
	st.heap.objs[id] = o
	return o
}

// alloc puts a new object on the heap.
func (it *interp) alloc(st *state, o *object) objID {
	st.own()
	it.nextObj++
	id := it.nextObj
	o.owner = st.heap
	st.heap.objs[id] = o
	return id
}

// merge makes st the join of st and other. Either may be dead or nil.
func (it *interp) merge(st, other *state) {
	if other == nil || other.dead {
		return
	}
	if st.dead {
		vars, h, k := other.vars, other.heap, other.known
		other.shared = true
		*st = state{vars: vars, heap: h, shared: true, known: k}
		return
	}
	for i := range st.vars {
		if i < len(other.vars) && st.vars[i] != other.vars[i] {
			a, b := st.vars[i], other.vars[i]
			if a == nil {
				a = unbound
			}
			if b == nil {
				b = unbound
			}
			st.vars[i] = join(a, b)
		}
	}
	st.known = it.commonKnowledge(st.known, other.known)
	st.heap = it.mergeHeap(st.heap, other.heap)
	st.shared = true
	other.shared = true
}

func (it *interp) mergeHeap(a, b *heap) *heap {
	if a == b {
		return a
	}
	// The nearest common node: depths fall strictly towards the root.
	x, y := a, b
	for x != y {
		if y == nil || x != nil && x.depth >= y.depth {
			x = x.parent
		} else {
			y = y.parent
		}
	}
	base := x
	da, db := delta(a, base), delta(b, base)
	if len(db) == 0 {
		return a
	}
	if len(da) == 0 {
		return b
	}
	depth := 0
	if base != nil {
		depth = base.depth + 1
	}
	out := &heap{parent: base, depth: depth, objs: make(map[objID]*object, len(da)+len(db))}
	for id, o := range da {
		p, ok := db[id]
		if !ok {
			p = base.get(id)
		}
		out.objs[id] = joinObjects(o, p, out)
	}
	for id, p := range db {
		if _, ok := da[id]; !ok {
			out.objs[id] = joinObjects(base.get(id), p, out)
		}
	}
	return out
}

// delta returns the newest version of each object above base.
func delta(h, base *heap) map[objID]*object {
	if h == base {
		return nil
	}
	if h.parent == base {
		return h.objs
	}
	out := map[objID]*object{}
	for ; h != base && h != nil; h = h.parent {
		for id, o := range h.objs {
			if _, ok := out[id]; !ok {
				out[id] = o
			}
		}
	}
	return out
}

func joinObjects(a, b *object, owner *heap) *object {
	switch {
	case a == b || b == nil:
		return a
	case a == nil:
		return b
	}
	o := a.clone(owner)
	o.summary = a.summary || b.summary
	if len(a.elems) == len(b.elems) {
		for i, e := range b.elems {
			o.elems[i] = join(o.elems[i], e)
		}
	} else {
		// Of lists of different length the common beginning stays known when
		// they share it; what follows may or may not be there.
		n := 0
		for n < len(a.elems) && n < len(b.elems) && same(a.elems[n], b.elems[n]) {
			n++
		}
		for _, e := range a.elems[n:] {
			o.rest = join(o.rest, e)
		}
		for _, e := range b.elems[n:] {
			o.rest = join(o.rest, e)
		}
		o.elems = o.elems[:n]
	}
	if b.rest != nil {
		o.rest = join(o.rest, b.rest)
	}
	for _, k := range a.keys {
		if w, ok := b.m[k]; ok {
			o.m[k] = join(o.m[k], w)
		} else {
			o.m[k] = join(o.m[k], unbound)
		}
	}
	for _, k := range b.keys {
		if _, ok := a.m[k]; !ok {
			o.set(k, join(b.m[k], unbound))
		}
	}
	return o
}

// bound takes "not there" out of what a name or key may hold. missing says
// that it was a possibility.
func bound(v *value) (out *value, missing bool) {
	if v == nil || v.kind == vUnbound {
		return nil, true
	}
	if v.kind != vUnion {
		return v, false
	}
	i := slices.IndexFunc(v.elems, func(e *value) bool { return e.kind == vUnbound })
	if i < 0 {
		return v, false
	}
	rest := slices.Delete(slices.Clone(v.elems), i, i+1)
	return union(rest), true
}

// labelsOf returns every label in v, on the heap too, to a depth of four.
func (it *interp) labelsOf(st *state, v *value) []label {
	return it.deepLabels(st, v, 4, nil)
}

func (it *interp) deepLabels(st *state, v *value, depth int, out []label) []label {
	if v == nil {
		return out
	}
	out = addLabels(out, v.labels)
	for i := range v.text {
		out = addLabels(out, v.text[i].labels)
	}
	for _, e := range v.elems {
		out = it.deepLabels(st, e, depth, out)
	}
	if v.recv != nil {
		out = it.deepLabels(st, v.recv, depth, out)
	}
	if v.kind == vObj && depth > 0 {
		if o := st.heap.get(v.obj); o != nil {
			for _, e := range o.elems {
				out = it.deepLabels(st, e, depth-1, out)
			}
			for _, k := range o.keys {
				out = it.deepLabels(st, o.m[k], depth-1, out)
			}
			out = it.deepLabels(st, o.rest, depth-1, out)
		}
	}
	return out
}
