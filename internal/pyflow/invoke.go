package pyflow

import (
	"hash/maphash"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

const (
	// softPart of the steps are taken whatever happens; from then on calls
	// without anything from outside are not entered.
	softPart     = 6
	softView     = 40 // of a view's, which registers nothing
	maxDepth     = 32
	maxContexts  = 12
	maxMemo      = 64 // calls of one function that are remembered
	maxRecursion = 2
	// maxNested bounds protocols that call one another without a function of
	// the project between them: __iter__ that gives a new iterable, a property
	// of a property.
	maxNested = 400
)

func (it *interp) evalCall(st *state, id pysyntax.ID) *value {
	f := it.fr.f
	fnID, _, _ := f.Call(id)
	var fv *value
	switch f.Kind(fnID) {
	case pysyntax.Attribute:
		fv = it.evalAttribute(st, fnID, true)
	case pysyntax.Name:
		if f.Name(fnID) == "super" && it.fr.fn != nil {
			return it.evalSuper(st, id)
		}
		fv = it.refined(st, it.name(st, f.Name(fnID)))
	default:
		fv = it.eval(st, fnID)
	}
	if st.dead {
		return unknown
	}
	deco := it.decoCall == id
	c := it.evalArgs(st, id)
	if st.dead {
		return unknown
	}
	c.deco = deco
	r := it.refined(st, it.call(st, fv, c))
	return r
}

// evalArgs evaluates the arguments of a call.
func (it *interp) evalArgs(st *state, id pysyntax.ID) *call {
	f := it.fr.f
	c := &call{at: it.span(id)}
	var kwSpans []Span
	for _, a := range f.Arguments(id) {
		switch f.Kind(a) {
		case pysyntax.Starred:
			items, exact := it.iterate(st, it.eval(st, f.Value(a)))
			if exact && c.rest == nil {
				for _, x := range items {
					c.args = append(c.args, x)
					c.spans = append(c.spans, it.span(a))
				}
			} else {
				r := joinAll(items)
				if r == nil {
					r = unknown
				}
				c.rest = join(c.rest, r)
			}
		case pysyntax.Keyword:
			name, v := f.KeywordArg(a)
			x := it.eval(st, v)
			if name != "" {
				c.kw = append(c.kw, kwarg{name, x})
				kwSpans = append(kwSpans, it.span(v))
				continue
			}
			for _, m := range x.alts() {
				var o *object
				if m.kind == vObj {
					o = it.get(st, m.obj)
				}
				if o == nil || o.kind != oDict {
					if m.kind != vNone {
						c.rest = join(c.rest, opaque(it.labelsOf(st, m)))
					}
					continue
				}
				for _, k := range o.keys {
					if kv := keyValue(k); kv.isConstText() {
						if b, _ := bound(o.m[k]); b != nil {
							c.kw = append(c.kw, kwarg{kv.str, b})
							kwSpans = append(kwSpans, it.span(v))
						}
					}
				}
				if o.rest != nil {
					c.rest = join(c.rest, o.rest)
				}
			}
		default:
			x := it.eval(st, a)
			c.args = append(c.args, x)
			c.spans = append(c.spans, it.span(a))
		}
	}
	c.spans = append(c.spans, kwSpans...)
	return c
}

// call calls fn.
func (it *interp) call(st *state, fn *value, c *call) *value {
	if st.dead || it.out() {
		return unknown
	}
	if it.nested > maxNested {
		return opaque(addLabels(shallowLabels(fn), guessed(c.labels(it, st), it.tag("guess"))))
	}
	it.nested++
	defer func() { it.nested-- }()
	switch fn.kind {
	case vFunc:
		return it.callFunction(st, fn.fn, nil, c)
	case vBound:
		return it.callBound(st, fn, c)
	case vClass:
		return it.instantiate(st, fn.cls, c)
	case vLib:
		return it.callLib(st, fn.str, nil, c)
	case vDeco:
		return it.decorate(st, fn, c)
	case vObj:
		if o := it.get(st, fn.obj); o != nil && o.cls != nil {
			if m := o.cls.lookup(it, st, "__call__"); m != nil {
				return it.call(st, it.bindMethod(st, m, fn), c)
			}
			if b := o.cls.libBase(); b != "" {
				return it.callLib(st, b+".__call__", fn, c)
			}
		}
	case vInst:
		if fn.str == "functools.partial" && len(fn.elems) > 0 {
			return it.callPartial(st, fn, c)
		}
		return it.callLib(st, fn.str+".__call__", fn, c)
	case vUnion:
		return it.callEach(st, fn.elems, c)
	case vModule:
		return unknown
	}
	// Something unknown: what it is given may come back.
	it.callbacks(st, c)
	return opaque(addLabels(shallowLabels(fn), guessed(c.labels(it, st), it.tag("guess"))))
}

// callEach calls one of several.
func (it *interp) callEach(st *state, fns []*value, c *call) *value {
	var out *value
	var end *state
	for _, fn := range fns {
		if fn.kind == vNone || fn.kind == vUnbound {
			continue
		}
		s := st.fork()
		v := it.call(s, fn, c)
		if s.dead {
			continue
		}
		out = join(out, v)
		end = it.joinState(end, s)
	}
	if end == nil {
		if len(fns) > 0 && out == nil && fns[0].kind == vNone && len(fns) == 1 {
			return unknown
		}
		st.dead = true
		return unknown
	}
	*st = *end
	return out
}

func (it *interp) callPartial(st *state, fn *value, c *call) *value {
	n := &call{at: c.at, rest: c.rest, args: slices.Concat(fn.elems[1:], c.args)}
	if fn.recv != nil && fn.recv.kind == vTuple {
		for _, kv := range fn.recv.elems {
			n.kw = append(n.kw, kwarg{kv.str, kv.elems[0]})
		}
	}
	n.kw = append(n.kw, c.kw...)
	return it.call(st, fn.elems[0], n)
}

// callbacks calls functions of the project that are handed to something
// unknown, which may call them.
func (it *interp) callbacks(st *state, c *call) {
	if it.loading {
		return
	}
	for _, a := range c.args {
		if a.kind == vFunc && a.fn.expr != 0 || a.kind == vFunc && a.fn.nested {
			n := len(a.fn.params)
			labels := []label(nil)
			for _, b := range c.args {
				if b != a {
					labels = addLabels(labels, it.labelsOf(st, b))
				}
			}
			cc := &call{at: c.at}
			for range n {
				cc.args = append(cc.args, opaque(labels))
			}
			s := st.fork()
			it.callFunction(s, a.fn, nil, cc)
			if !s.dead {
				it.merge(st, s)
			}
		}
	}
}

// memoEntry is a remembered call.
type memoEntry struct {
	key     uint64
	gen     int
	rule    string
	mark    objID
	at      Span // of the call, for models: their hits are put there
	args    []*value
	dead    bool
	v       *value
	known   []*knowledge // learned, oldest first
	objects []*object
	ids     []objID
	raised  []label
	notes   *noteSet
	yes, no []*knowledge
}

// callFunction runs a function of the project.
func (it *interp) callFunction(st *state, fn *function, self *value, c *call) *value {
	if it.steps > it.soft() && it.depth > 1 && !it.loading && len(c.labels(it, st)) == 0 && len(labelsOrNil(it, st, self)) == 0 {
		// Late in a long run only what comes from outside is followed further.
		return unknown
	}
	it.called[funcKey{fn.file, fn.id}] = true
	if fn.file.model && fn.name == "__unknown__" {
		return opaque(c.labels(it, st))
	}
	if it.depth >= maxDepth || it.active[fn] >= maxRecursion {
		return opaque(guessed(addLabels(c.labels(it, st), labelsOrNil(it, st, self)), it.tag("guess")))
	}
	if fn.file.model {
		path := it.p.facts.canonical(fn.fullName())
		facts := it.p.facts.of(path)
		it.applyHits(st, path, facts, self, c)
		for i := range facts {
			if facts[i].Verb == "entry" {
				return it.entryCall(st, path, &facts[i], self, c)
			}
		}
	}
	vars := it.bind(st, fn, self, c)
	if st.dead {
		return unknown
	}
	for i, v := range vars {
		if v != nil {
			v = it.refined(st, v)
			if hasLabels(v) && c.at.File != "" {
				v = withStep(v, c.at, "passed to "+fn.name+"()")
			}
			vars[i] = v
		}
	}
	memoize := !it.loading && !it.freeIsNew(fn)
	var site Span
	if fn.file.model {
		site = it.at(c)
	}
	flat, byContent := vars, false
	if memoize {
		for _, v := range vars {
			if v != nil && it.reachesNew(v, 0) {
				// What objects hold counts, as long as it is little.
				fl := flattener{it: it, st: st}
				memoize = fl.all(vars)
				flat, byContent = fl.out, true
				break
			}
		}
	}
	var key uint64
	if memoize {
		key = it.hashArgs(flat)
		for _, m := range it.memo[fn] {
			if m.key == key && m.gen == it.baseGen && m.rule == it.rule && m.at == site && sameArgs(m.args, flat) {
				return it.replay(st, m, fn, c)
			}
		}
		if it.contexts[fn] >= maxContexts && !byContent {
			// Widen: only where the arguments come from still counts.
			for i, v := range vars {
				if v != nil && !v.isConst() && v.kind != vFunc && v.kind != vClass {
					vars[i] = opaque(shallowLabels(v))
					if vars[i].sym != nil {
						w := *vars[i]
						w.sym = nil
						vars[i] = &w
					}
				}
			}
			flat = vars
			key = it.hashArgs(vars)
			for _, m := range it.memo[fn] {
				if m.key == key && m.gen == it.baseGen && m.rule == it.rule && m.at == site && sameArgs(m.args, vars) {
					return it.replay(st, m, fn, c)
				}
			}
			if it.contexts[fn] >= 2*maxContexts {
				return opaque(guessed(c.labels(it, st), it.tag("guess")))
			}
		}
		if !byContent {
			it.contexts[fn]++
		}
	}

	oldMark, oldEffects, oldNotes := it.mark, it.effects, it.notes
	oldRaised := it.raised
	it.mark, it.effects, it.notes = it.nextObj+1, 0, &noteSet{}
	it.raised = nil
	before := st.known
	savedArgs := slices.Clone(flat)
	mark := it.mark

	it.callAt = c.at
	v, rets := it.run(st, fn, vars)

	effects, notes, raised := it.effects, it.notes, it.raised
	it.mark, it.notes = oldMark, oldNotes
	it.effects = oldEffects + effects
	it.raised = addLabels(oldRaised, raised)
	if oldNotes != nil {
		oldNotes.add(notes)
	}
	if memoize && effects == 0 && !it.out() && len(it.memo[fn]) < maxMemo {
		m := &memoEntry{key: key, gen: it.baseGen, rule: it.rule, at: site, args: savedArgs, dead: st.dead, v: v, raised: raised, notes: notes}
		if !st.dead {
			m.known = newKnowledge(st.known, before)
			m.mark = mark
			if !it.collect(st, v, m, 0) {
				m = nil
			}
		}
		if m != nil {
			if rets[0] != nil && rets[1] != nil && rets[2] == nil {
				m.no, m.yes = newKnowledge(rets[0].st.known, before), newKnowledge(rets[1].st.known, before)
			}
			it.memo[fn] = append(it.memo[fn], m)
		}
	}
	if st.dead {
		return unknown
	}
	if rets[0] != nil && rets[1] != nil && rets[2] == nil {
		v = outcome(v, newKnowledge(rets[1].st.known, before), newKnowledge(rets[0].st.known, before))
	}
	if hasLabels(v) && c.at.File != "" {
		v = withStep(v, c.at, "returned by "+fn.name+"()")
	}
	return v
}

func labelsOrNil(it *interp, st *state, v *value) []label {
	if v == nil {
		return nil
	}
	return it.labelsOf(st, v)
}

// outcome makes v carry what its truth says about other things.
func outcome(v *value, yes, no []*knowledge) *value {
	if len(yes) == 0 && len(no) == 0 {
		return v
	}
	s := &sym{}
	if len(yes) > 0 {
		s.yes = func(it *interp, st *state) { st.replayKnowledge(yes) }
	}
	if len(no) > 0 {
		s.no = func(it *interp, st *state) { st.replayKnowledge(no) }
	}
	switch v.kind {
	case vUnion:
		truth := true
		for _, a := range v.elems {
			truth = truth && a.kind == vBool
		}
		if truth {
			return &value{kind: vBoolean, sym: s}
		}
		c := *v
		c.sym = s
		return &c
	case vBoolean:
		return &value{kind: vBoolean, sym: s}
	}
	return v
}

// newKnowledge returns what was learned after before, oldest first.
func newKnowledge(k, before *knowledge) []*knowledge {
	var out []*knowledge
	n := 0
	if before != nil {
		n = before.n
	}
	for ; k != nil && k != before && (k.n > n || before == nil || k.n == n); k = k.next {
		out = append(out, k)
		if len(out) > 200 {
			break
		}
	}
	slices.Reverse(out)
	return out
}

// replayKnowledge adds refinements.
func (st *state) replayKnowledge(list []*knowledge) {
	for _, k := range list {
		f := k.fact
		st.learn(k.sym, func(r *refinement) {
			if f.bounded {
				if !r.bounded {
					r.bounded, r.chars = true, AnyChars
				}
				r.chars = r.chars.And(f.chars)
			}
			for _, n := range f.not {
				if len(r.not) < 16 && !slices.Contains(r.not, n) {
					r.not = append(r.not[:len(r.not):len(r.not)], n)
				}
			}
			r.clean |= f.clean
			for _, n := range f.notPrefix {
				if len(r.notPrefix) < 8 && !slices.Contains(r.notPrefix, n) {
					r.notPrefix = append(r.notPrefix[:len(r.notPrefix):len(r.notPrefix)], n)
				}
			}
			if f.eq != nil {
				r.eq = f.eq
			}
			if len(f.prefix) > len(r.prefix) {
				r.prefix = f.prefix
			}
			if len(f.suffix) > len(r.suffix) {
				r.suffix = f.suffix
			}
			r.notNone = r.notNone || f.notNone
			r.nonEmpty = r.nonEmpty || f.nonEmpty
		})
	}
}

// replay uses a remembered call again.
func (it *interp) replay(st *state, m *memoEntry, fn *function, c *call) *value {
	it.notes.add(m.notes)
	it.raised = addLabels(it.raised, m.raised)
	if m.dead {
		it.throw(st)
		return unknown
	}
	st.replayKnowledge(m.known)
	v := m.v
	if len(m.ids) > 0 {
		ren := make(map[objID]objID, len(m.ids))
		for _, id := range m.ids {
			it.nextObj++
			ren[id] = it.nextObj
		}
		st.own()
		for i, id := range m.ids {
			o := m.objects[i].clone(st.heap)
			for k, e := range o.elems {
				o.elems[k] = renamed(e, ren)
			}
			for k, e := range o.m {
				o.m[k] = renamed(e, ren)
			}
			o.rest = renamed(o.rest, ren)
			st.heap.objs.set(ren[id], o)
		}
		v = renamed(v, ren)
	}
	if len(m.yes) > 0 || len(m.no) > 0 {
		v = outcome(v, m.yes, m.no)
	}
	if hasLabels(v) && c.at.File != "" {
		v = withStep(v, c.at, "returned by "+fn.name+"()")
	}
	return v
}

// renamed replaces the objects that v speaks of.
func renamed(v *value, ren map[objID]objID) *value {
	if v == nil {
		return nil
	}
	switch {
	case v.kind == vObj:
		if id, ok := ren[v.obj]; ok {
			c := *v
			c.obj = id
			return &c
		}
	case len(v.elems) > 0 || v.recv != nil:
		c := *v
		c.elems = slices.Clone(v.elems)
		for i, e := range c.elems {
			c.elems[i] = renamed(e, ren)
		}
		c.recv = renamed(v.recv, ren)
		return &c
	}
	return v
}

// collect gathers the objects that a result reaches; false if they are too
// many or were there before.
func (it *interp) collect(st *state, v *value, m *memoEntry, depth int) bool {
	if v == nil {
		return true
	}
	if depth > 8 || len(m.ids) > 64 {
		return false
	}
	for _, e := range v.elems {
		if !it.collect(st, e, m, depth+1) {
			return false
		}
	}
	if v.recv != nil && !it.collect(st, v.recv, m, depth+1) {
		return false
	}
	switch v.kind {
	case vFunc:
		return !it.freeIsNew(v.fn)
	case vClass:
		return v.cls.ns <= it.baseTop
	case vDeco:
		return false
	case vObj:
		if v.obj <= it.baseTop || slices.Contains(m.ids, v.obj) {
			return true
		}
		if v.obj < m.mark {
			return false // it was given
		}
		o := it.get(st, v.obj)
		if o == nil {
			return false
		}
		m.ids = append(m.ids, v.obj)
		m.objects = append(m.objects, o)
		for _, e := range o.elems {
			if !it.collect(st, e, m, depth+1) {
				return false
			}
		}
		for _, k := range o.keys {
			if !it.collect(st, o.m[k], m, depth+1) {
				return false
			}
		}
		return it.collect(st, o.rest, m, depth+1)
	}
	return true
}

// flattener writes values down with what the objects in them hold, so that
// two calls can be compared whose arguments are different objects.
type flattener struct {
	it   *interp
	st   *state
	out  []*value
	seen []objID
}

const maxFlat = 120

func (f *flattener) all(vars []*value) bool {
	for _, v := range vars {
		if !f.add(v, 0) {
			return false
		}
	}
	return true
}

func (f *flattener) add(v *value, depth int) bool {
	if len(f.out) >= maxFlat || depth > 5 {
		return false
	}
	if v == nil || !f.it.reachesNew(v, 0) {
		f.out = append(f.out, v)
		return true
	}
	switch v.kind {
	case vObj:
		if i := slices.Index(f.seen, v.obj); i >= 0 {
			f.out = append(f.out, &value{kind: vTuple, str: "seen", num: float64(i)})
			return true
		}
		o := f.it.get(f.st, v.obj)
		if o == nil || o.cls != nil && o.cls.ns > f.it.baseTop || o.factory != nil || len(o.restKeys) > 0 || o.summary {
			return false
		}
		f.seen = append(f.seen, v.obj)
		f.out = append(f.out, &value{kind: vTuple, str: "object", num: float64(o.kind)*1000 + float64(len(o.elems)), isInt: o.rest != nil, cls: o.cls, labels: v.labels, sym: v.sym})
		for _, e := range o.elems {
			if !f.add(e, depth+1) {
				return false
			}
		}
		for _, k := range o.keys {
			f.out = append(f.out, &value{kind: vText, str: k})
			if !f.add(o.m[k], depth+1) {
				return false
			}
		}
		return o.rest == nil || f.add(o.rest, depth+1)
	case vUnion, vTuple, vInst, vBound:
		c := *v
		c.elems, c.recv = nil, nil
		c.num = c.num*100 + float64(len(v.elems))
		f.out = append(f.out, &c)
		for _, e := range v.elems {
			if !f.add(e, depth+1) {
				return false
			}
		}
		return v.recv == nil || f.add(v.recv, depth+1)
	}
	return false
}

// soft is the number of steps after which only what comes from outside is
// followed.
func (it *interp) soft() int {
	if it.entry != nil && it.entry.Kind == "view" {
		return it.limit / softView
	}
	return it.limit / softPart
}

// freeIsNew reports whether a function uses variables of functions around it
// that are not in the base heap.
func (it *interp) freeIsNew(fn *function) bool {
	for _, id := range fn.free {
		if id > it.baseTop {
			return true
		}
	}
	return false
}

// reachesNew reports whether v leads to objects that are not in the base
// heap, so that what a call does depends on more than its arguments.
func (it *interp) reachesNew(v *value, depth int) bool {
	switch v.kind {
	case vObj:
		return v.obj > it.baseTop
	case vFunc:
		return it.freeIsNew(v.fn)
	case vClass:
		return v.cls.ns > it.baseTop
	case vDeco:
		return true
	}
	if depth > 6 {
		return true
	}
	for _, e := range v.elems {
		if it.reachesNew(e, depth+1) {
			return true
		}
	}
	return v.recv != nil && it.reachesNew(v.recv, depth+1)
}

var hashSeed = maphash.MakeSeed()

// hashArgs is a hash of values without their labels' traces. It only serves
// to find candidates, so its seed does not matter.
func (it *interp) hashArgs(vars []*value) uint64 {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	for _, v := range vars {
		hashValue(&h, v, 0)
	}
	return h.Sum64()
}

func hashValue(h *maphash.Hash, v *value, depth int) {
	if v == nil {
		h.WriteByte(255)
		return
	}
	h.WriteByte(byte(v.kind))
	h.WriteString(v.str)
	maphash.WriteComparable(h, v.num)
	for i := range v.text {
		h.WriteString(v.text[i].lit)
		maphash.WriteComparable(h, v.text[i].sym)
	}
	if v.kind == vObj {
		maphash.WriteComparable(h, v.obj)
	}
	maphash.WriteComparable(h, v.sym)
	if depth < 3 {
		for _, e := range v.elems {
			hashValue(h, e, depth+1)
		}
	}
}

func sameArgs(a, b []*value) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !identical(a[i], b[i]) {
			return false
		}
	}
	return true
}

// identical is as same, and the labels and symbols are the same too.
func identical(a, b *value) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil || !same(a, b) || a.sym != b.sym || !sameLabels(a.labels, b.labels) || len(a.elems) != len(b.elems) {
		return false
	}
	for i := range a.text {
		if !sameLabels(a.text[i].labels, b.text[i].labels) {
			return false
		}
	}
	for i := range a.elems {
		if !identical(a.elems[i], b.elems[i]) {
			return false
		}
	}
	if a.recv != nil {
		return identical(a.recv, b.recv)
	}
	return true
}

func sameLabels(a, b []label) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].src != b[i].src || a[i].clean != b[i].clean {
			return false
		}
	}
	return true
}

// run executes a function's body with its variables. st ends as the caller
// goes on; dead when the function never returns.
func (it *interp) run(st *state, fn *function, vars []*value) (*value, [3]*bucket) {
	it.funcs++
	it.depth++
	it.active[fn]++
	defer func() {
		it.depth--
		it.active[fn]--
	}()
	fr := &frame{up: it.fr, fn: fn, file: fn.file, f: fn.file.f, sc: fn.sc, mod: fn.mod, free: fn.free, cls: fn.owner, qual: fn.qual, callAt: it.callAt}
	caller, decorating, decoCall := it.fr, it.decorating, it.decoCall
	it.decorating, it.decoCall = 0, 0
	defer func() { it.decorating, it.decoCall = decorating, decoCall }()
	callerVars := st.vars
	known := st.known
	in := &state{vars: make([]*value, len(fn.sc.slots)), heap: st.heap, shared: true, known: known}
	st.shared = true
	copy(in.vars, vars)
	if len(fn.sc.cells) > 0 {
		fr.cells = make([]objID, len(fn.sc.slots))
		for _, name := range sortedKeys(fn.sc.cells) {
			slot, ok := fn.sc.slots[name]
			if !ok {
				continue
			}
			o := &object{kind: oCell}
			if in.vars[slot] != nil {
				o.elems = []*value{in.vars[slot]}
			}
			fr.cells[slot] = it.alloc(in, o)
		}
	}
	it.fr = fr
	if fn.expr != 0 {
		v := it.eval(in, fn.expr)
		if !in.dead {
			it.ret(in, v)
		}
	} else {
		it.execAll(in, fn.body)
		if !in.dead {
			it.ret(in, none)
		}
	}
	it.fr = caller
	var v *value
	var end *state
	for _, b := range fr.rets {
		if b == nil {
			continue
		}
		v = join(v, b.v)
		end = it.joinState(end, b.st)
	}
	if fn.sc.generator {
		v = it.generated(st, fn, fr, end)
		if end == nil {
			// What it yielded before it ended badly is there all the same.
			return v, [3]*bucket{}
		}
	}
	if end == nil {
		it.throw(st)
		return unknown, fr.rets
	}
	*st = state{vars: callerVars, heap: end.heap, shared: true, known: end.known}
	if fn.sc.generator {
		v = it.generated(st, fn, fr, end)
		return v, [3]*bucket{}
	}
	return v, fr.rets
}

// generated is what a generator gives: a list of what it yields.
func (it *interp) generated(st *state, fn *function, fr *frame, end *state) *value {
	if fn.manager {
		v := joinAll(fr.yields)
		if v == nil {
			v = none
		}
		return &value{kind: vTuple, str: "contextmanager", elems: []*value{v}}
	}
	if fr.loose {
		r := joinAll(fr.yields)
		if r == nil {
			r = unknown
		}
		return it.list(st, oList, nil, r)
	}
	return it.list(st, oList, slices.Clone(fr.yields), nil)
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// bind gives the parameters of fn their values, by slot.
func (it *interp) bind(st *state, fn *function, self *value, c *call) []*value {
	vars := make([]*value, len(fn.sc.slots))
	args := c.args
	if self != nil {
		args = slices.Concat([]*value{self}, args)
	}
	used := make([]bool, len(c.kw))
	pos := 0
	for i, p := range fn.params {
		slot, ok := fn.sc.slots[p.Name]
		if !ok {
			continue
		}
		switch p.Kind {
		case pysyntax.ArgVar:
			var extra []*value
			if pos < len(args) {
				extra = args[pos:]
				pos = len(args)
			}
			if c.rest != nil {
				vars[slot] = it.list(st, oList, slices.Clone(extra), c.rest)
			} else {
				vars[slot] = &value{kind: vTuple, elems: slices.Clone(extra)}
			}
			continue
		case pysyntax.ArgKw:
			o := &object{kind: oDict, rest: c.rest}
			for k, kw := range c.kw {
				if !used[k] {
					key, _ := keyOf(text(kw.name))
					o.set(key, kw.v)
				}
			}
			vars[slot] = &value{kind: vObj, obj: it.alloc(st, o)}
			continue
		}
		var v *value
		if p.Kind != pysyntax.ArgKwOnly && pos < len(args) {
			v = args[pos]
			pos++
		} else {
			for k, kw := range c.kw {
				if kw.name == p.Name && p.Kind != pysyntax.ArgPosOnly {
					v, used[k] = kw.v, true
				}
			}
		}
		if v == nil {
			d := fn.defaults[i]
			if c.rest == unknown {
				v = it.missing(st, fn, p)
				if d != nil {
					v = join(d, v)
				}
				vars[slot] = v
				continue
			}
			switch {
			case c.rest != nil && d != nil:
				v = join(c.rest, d)
			case c.rest != nil:
				v = c.rest
			case d != nil:
				v = d
			default:
				v = it.missing(st, fn, p)
			}
		}
		vars[slot] = v
	}
	return vars
}

// missing is the value of a parameter that nobody gives: of its annotation's
// type.
func (it *interp) missing(st *state, fn *function, p pysyntax.Param) *value {
	if p.Annotation == 0 {
		return unknown
	}
	return it.annotated(st, fn, p.Annotation)
}

// annotated is something of which only its type is known.
func (it *interp) annotated(st *state, fn *function, ann pysyntax.ID) *value {
	f := fn.file.f
	switch f.Kind(ann) {
	case pysyntax.Name, pysyntax.Attribute:
	default:
		return unknown
	}
	fr := it.fr
	it.fr = &frame{fn: fn, file: fn.file, f: f, sc: &scope{module: true}, mod: fn.mod, ns: fn.mod.ns}
	defer func() { it.fr = fr }()
	s := st.fork()
	t := it.eval(s, ann)
	switch t.kind {
	case vClass:
		return &value{kind: vObj, obj: it.alloc(st, &object{kind: oInstance, cls: t.cls, rest: unknown})}
	case vLib:
		switch t.str {
		case "builtins.int", "builtins.float":
			return number
		case "builtins.bool":
			return boolean
		case "builtins.str", "typing.Any", "builtins.object":
			return unknown
		}
		if strings.HasPrefix(t.str, "typing.") || strings.HasPrefix(t.str, "builtins.") {
			return unknown
		}
		return inst(t.str, nil)
	}
	return unknown
}

// newFunction makes a function of a def or lambda.
func (it *interp) newFunction(st *state, id pysyntax.ID, name string) *function {
	fr := it.fr
	f := fr.f
	fn := &function{file: fr.file, id: id, sc: fr.file.scopes[id], mod: fr.mod, name: name, params: fr.file.params[id]}
	fn.nested = fr.fn != nil
	fn.qual = name
	if fr.qual != "" {
		fn.qual = fr.qual + "." + name
	}
	if fr.sc.class {
		fn.owner = fr.cls
	} else if fr.fn != nil {
		fn.owner = fr.fn.owner
	}
	fn.defaults = make([]*value, len(fn.params))
	for i, p := range fn.params {
		if p.Default != 0 {
			fn.defaults[i] = it.eval(st, p.Default)
		}
	}
	for _, n := range fn.sc.order {
		fn.free = append(fn.free, it.cellOf(st, n))
	}
	if f.Kind(id) != pysyntax.Lambda {
		d := f.FunctionDef(id)
		fn.body, fn.returns = d.Body, d.Returns
	}
	it.made = append(it.made, fn)
	return fn
}

// cellOf returns the cell of a variable that an inner function uses.
func (it *interp) cellOf(st *state, name string) objID {
	fr := it.fr
	if slot, ok := fr.sc.slots[name]; ok && slot < len(fr.cells) && fr.cells[slot] != 0 {
		return fr.cells[slot]
	}
	if i, ok := fr.sc.free[name]; ok && i < len(fr.free) {
		return fr.free[i]
	}
	return it.alloc(st, &object{kind: oCell})
}

func (it *interp) execDef(st *state, id pysyntax.ID) {
	f := it.fr.f
	d := f.FunctionDef(id)
	fn := it.newFunction(st, id, d.Name)
	v := &value{kind: vFunc, fn: fn}
	regs := len(it.regOrder)
	v = it.decorators(st, d.Decorators, v)
	if st.dead {
		return
	}
	for _, r := range it.regOrder[min(regs, len(it.regOrder)):] {
		// What other decorators made of it is how it is called, but the
		// function is what the developer knows.
		if fns := functionsIn(r.fn); r.orig == nil && len(fns) > 0 && fns[0] != fn && fns[0].nested && fns[0].id != fn.id {
			r.orig = fn
			it.views[funcKey{fn.file, fn.id}] = r.kind
			delete(it.views, funcKey{fns[0].file, fns[0].id})
		}
	}
	it.bindName(st, d.Name, v)
}

// decorators applies decorators, the lowest first.
func (it *interp) decorators(st *state, list []pysyntax.ID, v *value) *value {
	f := it.fr.f
	for i := len(list) - 1; i >= 0; i-- {
		d := list[i]
		var dv *value
		switch f.Kind(d) {
		case pysyntax.Attribute:
			dv = it.evalAttribute(st, d, true)
		default:
			it.decoCall = d
			dv = it.eval(st, d)
			it.decoCall = 0
		}
		if st.dead {
			return v
		}
		if special := it.specialDecorator(st, dv, v); special != nil {
			v = special
			continue
		}
		switch dv.kind {
		case vFunc, vBound, vClass, vDeco, vLib, vObj, vInst, vUnion:
			c := &call{at: it.span(d), args: []*value{v}, spans: []Span{it.span(d)}}
			it.decorating++
			r := it.call(st, dv, c)
			it.decorating--
			if st.dead {
				st.dead = false // a decorator that never returns would be a mistake of ours
				continue
			}
			switch r.kind {
			case vFunc, vClass, vBound, vDeco, vObj, vUnion:
				v = r
			case vTuple:
				v = r
			case vLib, vInst:
				if it.isTask(r) {
					v = r
				}
			}
		}
	}
	return v
}

// isTask reports whether r wraps a function.
func (it *interp) isTask(r *value) bool { return r.str == "functools.partial" }

// specialDecorator handles decorators that Python itself understands.
func (it *interp) specialDecorator(st *state, d, v *value) *value {
	path := ""
	switch d.kind {
	case vLib:
		path = d.str
	case vBound:
		if d.recv.kind == vTuple && d.recv.str == "property" {
			// @x.setter
			c := *d.recv
			c.elems = slices.Clone(d.recv.elems)
			for len(c.elems) < 2 {
				c.elems = append(c.elems, none)
			}
			if d.str == "setter" {
				c.elems[1] = v
			}
			return &c
		}
	}
	switch path {
	case "builtins.property", "functools.cached_property", "werkzeug.utils.cached_property", "abc.abstractproperty", "sqlalchemy.ext.hybrid.hybrid_property":
		return &value{kind: vTuple, str: "property", elems: []*value{v}}
	case "builtins.staticmethod":
		return &value{kind: vTuple, str: "staticmethod", elems: []*value{v}}
	case "builtins.classmethod":
		return &value{kind: vTuple, str: "classmethod", elems: []*value{v}}
	case "contextlib.contextmanager", "contextlib.asynccontextmanager":
		if v.kind == vFunc {
			c := *v.fn
			c.manager = true
			return &value{kind: vFunc, fn: &c}
		}
	case "dataclasses.dataclass", "attr.s", "attr.attrs", "attrs.define", "attr.define", "attrs.frozen", "attr.dataclass", "pydantic.dataclasses.dataclass":
		if v.kind == vClass {
			v.cls.data = true
			return v
		}
	case "functools.lru_cache", "functools.cache", "functools.singledispatch", "abc.abstractmethod", "typing.overload", "functools.total_ordering", "enum.unique", "typing.final", "functools.wraps":
		return v
	}
	return nil
}
