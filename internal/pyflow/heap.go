package pyflow

import (
	"cmp"
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
	kind    okind
	cls     *class
	owner   *heap
	elems   []*value
	rest    *value // what further elements or keys may hold; nil if there are none
	factory *value // of a defaultdict
	// restKeys are the labels of a dictionary's keys that are not known.
	restKeys []label
	keys     []string
	m        map[string]*value // dict by keyOf; instance and namespace by name
	// summary is set on an object that stands for several, made by one
	// expression in a loop: writing adds instead of replacing.
	summary bool
	// dirty is set on what was allocated when a heap node has a newer version.
	dirty bool
}

func (o *object) clone(owner *heap) *object {
	c := *o
	c.owner, c.dirty = owner, false
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

// heap is a node of a tree of heaps. It holds the objects that were changed
// since the node was made: what is not in it is in its parent, and what was
// never changed after it was shared is where it was allocated, see
// [interp.allocated].
type heap struct {
	parent *heap
	depth  int
	top    objID // the last object that was there when the node was made
	objs   objTable
	// made are the objects that were allocated in the node, and in those that
	// it stands for, as ranges in their order.
	made []idRange
}

type idRange struct{ first, last objID }

// maxRanges bounds the ranges of a node: beyond it they grow into one another.
const maxRanges = 64

// allocates notes that an object is made in h. Later objects have higher ids.
func (h *heap) allocates(id objID) {
	if n := len(h.made); n > 0 && (h.made[n-1].last == id-1 || n >= maxRanges) {
		h.made[n-1].last = id
		return
	}
	h.made = append(h.made, idRange{id, id})
}

// covers makes h stand for what was allocated in n, too.
func (h *heap) covers(n *heap) {
	if len(n.made) == 0 {
		return
	}
	all := slices.Concat(h.made, n.made)
	slices.SortFunc(all, func(a, b idRange) int { return cmp.Compare(a.first, b.first) })
	h.made = all[:0]
	for _, r := range all {
		if k := len(h.made); k > 0 && (r.first <= h.made[k-1].last+1 || k >= maxRanges) {
			h.made[k-1].last = max(h.made[k-1].last, r.last)
		} else {
			h.made = append(h.made, r)
		}
	}
}

// knows reports whether an object was allocated in the nodes from h up to
// end.
func (h *heap) knows(end *heap, id objID) bool {
	for ; h != end; h = h.parent {
		for _, r := range h.made {
			if r.first <= id && id <= r.last {
				return true
			}
		}
	}
	return false
}

// objTable holds the objects of one node: most have few, for which a list is
// smaller and faster than a map.
type objTable struct {
	list []objEntry
	m    map[objID]*object // instead of list, when there are many
}

type objEntry struct {
	id objID
	o  *object
}

const smallTable = 12

func (t *objTable) get(id objID) *object {
	if t.m != nil {
		return t.m[id]
	}
	for i := range t.list {
		if t.list[i].id == id {
			return t.list[i].o
		}
	}
	return nil
}

func (t *objTable) set(id objID, o *object) {
	if t.m == nil {
		for i := range t.list {
			if t.list[i].id == id {
				t.list[i].o = o
				return
			}
		}
		if len(t.list) < smallTable {
			t.list = append(t.list, objEntry{id, o})
			return
		}
		t.m = make(map[objID]*object, 2*smallTable)
		for _, e := range t.list {
			t.m[e.id] = e.o
		}
		t.list = nil
	}
	t.m[id] = o
}

func (t *objTable) len() int { return len(t.list) + len(t.m) }

// each yields the objects, in no particular order.
func (t *objTable) each(yield func(objID, *object) bool) {
	for _, e := range t.list {
		if !yield(e.id, e.o) {
			return
		}
	}
	for id, o := range t.m {
		if !yield(id, o) {
			return
		}
	}
}

// get returns an object.
func (it *interp) get(st *state, id objID) *object {
	if id <= it.baseTop {
		it.noteRead(id)
	}
	return it.lookup(st.heap, id)
}

// lookup returns an object as a heap has it. Most objects were never written
// to after the state in which they were made was shared.
func (it *interp) lookup(h *heap, id objID) *object {
	if id <= it.baseTop {
		if it.baseWritten[id] {
			if o := above(h, nil, id); o != nil {
				return o
			}
		}
		return it.flat[id]
	}
	o := it.allocated(id)
	if o != nil && o.dirty {
		if v := above(h, nil, id); v != nil {
			return v
		}
	}
	return o
}

// promote makes the objects that there are now part of the base heap: from
// here on calls are remembered that read them.
func (it *interp) promote() {
	for i, o := range it.arena {
		if o.dirty {
			it.markWritten(it.baseTop + objID(i) + 1)
		}
	}
	it.flat = append(it.flat, it.arena...)
	it.arena = it.arena[:0]
	it.baseTop = it.nextObj
	it.readAt = append(it.readAt, make([]uint32, int(it.baseTop)+1-len(it.readAt))...)
}

func (it *interp) markWritten(id objID) {
	if it.baseWritten == nil {
		it.baseWritten = map[objID]bool{}
	}
	it.baseWritten[id] = true
}

// allocated returns an object as it was when the state that made it was
// shared first; nil if it is gone.
func (it *interp) allocated(id objID) *object {
	if i := int(id - it.baseTop - 1); i < len(it.arena) {
		return it.arena[i]
	}
	return nil
}

// put makes o the version of an object that a node has.
func (it *interp) put(h *heap, id objID, o *object) {
	if id > it.baseTop {
		if first := it.allocated(id); first != nil {
			first.dirty = true
		}
	}
	h.objs.set(id, o)
}

// noteRead lists an object of the base heap that the running call depends on.
func (it *interp) noteRead(id objID) {
	if int(id) < len(it.readAt) && it.readAt[id] != it.round {
		it.readAt[id] = it.round
		it.read = append(it.read, id)
	}
}

// noteWrite lists an object that is older than the running call.
func (it *interp) noteWrite(id objID) {
	if id <= it.baseTop {
		it.markWritten(id)
		it.noteRead(id)
	}
	if id >= it.mark {
		return
	}
	// What the caller wrote to before is no write of the running call.
	if n := len(it.wrote); n <= it.firstWrite || it.wrote[n-1] != id {
		it.wrote = append(it.wrote, id)
	}
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
func (it *interp) own(st *state) {
	if !st.shared && st.heap != nil {
		return
	}
	depth := 0
	if st.heap != nil {
		depth = st.heap.depth + 1
	}
	st.heap = &heap{parent: st.heap, depth: depth, top: it.nextObj}
	st.shared = false
	if depth > 24 && depth%12 == 0 {
		st.heap.compress()
	}
}

// compress folds the nodes above h into it, as long as they are small beside
// what it already has: the depth stays logarithmic and so does the number of
// times that an object is copied.
func (h *heap) compress() {
	n := h.parent
	for n != nil && n.parent != nil && (h.depth-n.depth < 12 || n.objs.len() <= 2*h.objs.len()) {
		for id, o := range n.objs.each {
			if h.objs.get(id) == nil {
				h.objs.set(id, o)
			}
		}
		h.top = min(h.top, n.top)
		h.covers(n)
		n = n.parent
	}
	h.parent = n
	h.depth = 0
	if n != nil {
		h.depth = n.depth + 1
	}
}

// write returns the object for changing it.
func (it *interp) write(st *state, id objID) *object {
	it.own(st)
	it.noteWrite(id)
	o := st.heap.objs.get(id)
	if o == nil {
		if id > it.baseTop {
			if first := it.allocated(id); first != nil && first.owner == st.heap {
				return first
			}
		}
		if o = it.get(st, id); o == nil {
			o = &object{kind: oInstance}
		}
	}
	if o.owner == st.heap {
		return o
	}
	o = o.clone(st.heap)
	it.put(st.heap, id, o)
	return o
}

// alloc puts a new object on the heap.
func (it *interp) alloc(st *state, o *object) objID {
	it.own(st)
	o.owner, o.dirty = st.heap, false
	it.nextObj++
	st.heap.allocates(it.nextObj)
	it.arena = append(it.arena, o)
	return it.nextObj
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
			// What was learnt about a value that lives on in one branch only
			// would be forgotten with the branch.
			if st.known != other.known {
				a, b = it.refined(st, a), it.refined(other, b)
			}
			st.vars[i] = join(a, b)
		}
	}
	st.known = it.commonKnowledge(st.known, other.known)
	h := it.mergeHeap(st.heap, other.heap)
	st.shared = h == st.heap || h == other.heap
	st.heap = h
	other.shared = true
}

func (it *interp) mergeHeap(a, b *heap) *heap {
	if a == b {
		return a
	}
	// The nearest common node: depths fall strictly towards the root. Objects
	// up to top were there when the ways parted.
	x, y, top := a, b, it.nextObj
	for x != y {
		if y == nil || x != nil && x.depth >= y.depth {
			top = min(top, x.top)
			x = x.parent
		} else {
			top = min(top, y.top)
			y = y.parent
		}
	}
	base := x
	if a == base {
		a, b = b, a
	}
	if b == base && !touches(a, base, top) {
		return a // only new objects: who does not know them does not mind
	}
	if size(a, base) < size(b, base) {
		a, b = b, a
	}
	// What is new in a stays where it is; the join holds what is in b, and
	// what a has changed.
	out := &heap{parent: a, depth: a.depth + 1, top: it.nextObj}
	for n := a; n != base; n = n.parent {
		for id, o := range n.objs.each {
			if n != a && above(a, n, id) != nil {
				continue // a newer version was seen
			}
			p := above(b, base, id)
			if p == nil {
				p = it.before(b, base, id, top)
			}
			if p != nil && p != o {
				out.objs.set(id, joinObjects(o, p, out))
			}
		}
	}
	for n := b; n != base; n = n.parent {
		for id, p := range n.objs.each {
			if n != b && above(b, n, id) != nil || above(a, base, id) != nil {
				continue
			}
			o := it.before(a, base, id, top)
			out.objs.set(id, joinObjects(o, p, out))
		}
	}
	for n := b; n != base; n = n.parent {
		out.covers(n)
	}
	if out.objs.len() == 0 && len(out.made) == 0 {
		return a
	}
	if out.depth > 24 && out.depth%12 == 0 {
		out.compress()
	}
	return out
}

// before returns an object that the nodes from h up to base have no version
// of, as they see it; nil if it is not there. Objects up to top were there
// when the ways parted at base.
func (it *interp) before(h, base *heap, id, top objID) *object {
	if id <= top {
		return it.lookup(base, id)
	}
	if h.knows(base, id) {
		return it.lookup(nil, id)
	}
	return nil
}

// above returns the version of an object in the nodes from h up to end, end
// not included.
func above(h, end *heap, id objID) *object {
	for ; h != end; h = h.parent {
		if o := h.objs.get(id); o != nil {
			return o
		}
	}
	return nil
}

// size is the number of objects in the nodes from h up to end.
func size(h, end *heap) int {
	n := 0
	for ; h != end; h = h.parent {
		n += h.objs.len()
	}
	return n
}

// touches reports whether an object up to top has another version in h.
func touches(h, base *heap, top objID) bool {
	for ; h != base && h != nil; h = h.parent {
		for id := range h.objs.each {
			if id <= top {
				return true
			}
		}
	}
	return false
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
	o.restKeys = addLabels(o.restKeys, b.restKeys)
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
	clean := v.clean
	if it.guessing && v.kind == vNumber {
		clean |= it.ofDigits(digits.Without(".")) // a number's text has no ".."
	}
	out = addLabels(out, cleaned(v.labels, clean))
	for i := range v.text {
		clean := v.text[i].clean
		if it.guessing {
			clean |= it.ofDigits(v.text[i].chars)
		}
		out = addLabels(out, cleaned(v.text[i].labels, clean))
	}
	for _, e := range v.elems {
		out = it.deepLabels(st, e, depth, out)
	}
	if v.recv != nil {
		out = it.deepLabels(st, v.recv, depth, out)
	}
	if v.kind == vObj && depth > 0 {
		if o := it.get(st, v.obj); o != nil {
			for _, e := range o.elems {
				out = it.deepLabels(st, e, depth-1, out)
			}
			for _, k := range o.keys {
				out = it.deepLabels(st, o.m[k], depth-1, out)
			}
			out = it.deepLabels(st, o.rest, depth-1, out)
			out = addLabels(out, o.restKeys)
		}
	}
	return out
}
