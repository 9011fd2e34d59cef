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
	softPart = 16
	softView = 40 // of a view's, which registers nothing
	// lateStored of the steps of a function that nothing calls are taken before
	// calls that are only given what the app has stored are no longer entered.
	lateStored  = 3
	maxDepth    = 32
	maxContexts = 12
	// modelContexts times as many are for a function of a model; knownContexts
	// times as many for arguments that hold nothing from outside.
	modelContexts = 16
	knownContexts = 8
	// A check that the whole project asks is small, and has to be followed for
	// each who asks: a function whose calls take smallCall steps has more of
	// them, up to maxContextSteps together.
	smallCall       = 150
	maxContextSteps = 30_000
	tinyCall        = 30
	maxMemo         = 256 // calls of one function that are remembered
	maxRecursion    = 2
	// maxCounted is the same for a recursion that counts known numbers.
	maxCounted = 5
	// maxNested bounds protocols that call one another without a function of
	// the project between them: __iter__ that gives a new iterable, a property
	// of a property.
	maxNested = 400
)

// callCost is what the calls of a function with different arguments took.
type callCost struct {
	calls, steps int
	widened      int // of them only with where the arguments came from
	runs, all    int // with those that are told apart by what objects hold
}

// tiny reports whether a call costs so little that it is made however late
// it is: what gives the one object that knows what is allowed, say.
func (c callCost) tiny() bool { return c.runs > 0 && c.all <= c.runs*tinyCall }

// spent reports whether there were enough different calls of a function.
func (c callCost) spent(limit int) bool {
	return c.calls >= limit && (c.steps > c.calls*smallCall || c.steps >= maxContextSteps)
}

// allStored reports whether labels are all of what the app itself has stored.
func allStored(list []label) bool {
	for _, l := range list {
		if l.src.kind != "stored" {
			return false
		}
	}
	return true
}

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
	if fv.kind == vBound && fv.recv != nil && fv.recv.kind == vText && fv.recv.isBytes {
		it.growBytes(st, fnID, fv, c)
	}
	c.deco = deco
	if f.Kind(fnID) == pysyntax.Attribute {
		on, _ := f.Attribute(fnID)
		c.on = it.span(on)
	}
	it.intoDict(st, fnID, c)
	r := it.refined(st, it.call(st, fv, c))
	return r
}

// growBytes is b.extend(more) of a bytearray under a name.
func (it *interp) growBytes(st *state, fn pysyntax.ID, fv *value, c *call) {
	f := it.fr.f
	on, method := f.Attribute(fn)
	name := f.Name(on)
	if name == "" || len(c.args) != 1 || method != "extend" && method != "append" {
		return
	}
	more := c.args[0]
	if method == "append" || more.kind != vText {
		more = &value{kind: vText, isBytes: true, text: run(AnyChars, it.labelsOf(st, more)).text}
	}
	it.bindName(st, name, it.concat(st, fv.recv, more))
}

// intoDict notes that the attributes of an object are set by name:
// x.__dict__.update(…), vars(x).update(…).
func (it *interp) intoDict(st *state, fn pysyntax.ID, c *call) {
	f := it.fr.f
	on, name := f.Attribute(fn)
	if name != "update" {
		return
	}
	if _, of := f.Attribute(on); of != "__dict__" {
		vars, args, _ := f.Call(on)
		if len(args) != 1 || f.Name(vars) != "vars" {
			return
		}
	}
	const path = "_dewar.attributes.update"
	it.applyHits(st, path, it.p.facts.of(path), nil, c)
}

// evalArgs evaluates the arguments of a call.
func (it *interp) evalArgs(st *state, id pysyntax.ID) *call {
	f := it.fr.f
	c := &call{at: it.span(id)}
	var kwSpans []Span
	list := f.Arguments(id)
	if n := len(list); n > 0 {
		c.args, c.spans = make([]*value, 0, n), make([]Span, 0, n)
	}
	for _, a := range list {
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
				if o != nil && o.cls != nil {
					if given, ok := it.unpacked(st, m, o); ok {
						for _, k := range given {
							c.kw = append(c.kw, k)
							kwSpans = append(kwSpans, it.span(v))
						}
						continue
					}
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

// unpacked returns what ** takes out of an object that is no dict but has its
// keys() and __getitem__(); ok is false if it has not, or if its keys are not
// known.
func (it *interp) unpacked(st *state, v *value, o *object) (given []kwarg, ok bool) {
	keys, item := o.cls.lookup(it, st, "keys"), o.cls.lookup(it, st, "__getitem__")
	if keys == nil || item == nil || keys.kind != vFunc || item.kind != vFunc {
		return nil, false
	}
	list, exact := it.iterate(st, it.callFunction(st, keys.fn, v, &call{}))
	if !exact || st.dead {
		return nil, false
	}
	for _, k := range list {
		if !k.isConstText() {
			return nil, false
		}
		x := it.callFunction(st, item.fn, v, &call{args: []*value{k}})
		if st.dead {
			return nil, false
		}
		given = append(given, kwarg{k.str, x})
	}
	return given, true
}

// call calls fn.
func (it *interp) call(st *state, fn *value, c *call) *value {
	if st.dead || it.out() {
		return unknown
	}
	if it.nested > maxNested {
		return opaque(addLabels(shallowLabels(fn), c.guesses(it, st)))
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
			if o.kind == oInstance && o.cls.whole() {
				return unknown // TypeError: nothing that it holds comes out
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
		if one := onePathMethod(fn); one != nil {
			return it.callBound(st, one, c)
		}
		return it.callEach(st, fn.elems, c)
	case vModule, vNum, vNumber, vBool, vBoolean:
		return unknown // TypeError
	}
	// Something unknown: what it is given may come back.
	it.callbacks(st, c)
	return opaque(addLabels(shallowLabels(fn), c.guesses(it, st)))
}

// callEach calls one of several. Where some are functions of the project,
// what another one, of which nothing is known, may make of the arguments adds
// nothing.
func (it *interp) callEach(st *state, fns []*value, c *call) *value {
	var out, guesses *value
	followed := slices.ContainsFunc(fns, func(fn *value) bool { return fn.kind == vFunc || fn.kind == vBound && fn.fn != nil })
	var end *state
	for _, fn := range fns {
		switch fn.kind {
		case vNone, vUnbound, vNum, vNumber, vBool, vBoolean:
			continue
		}
		s := st.fork()
		v := it.call(s, fn, c)
		if s.dead {
			continue
		}
		end = it.joinState(end, s)
		if followed && v.kind == vUnknown && fn.fn == nil && allGuessed(cleaned(v.labels, v.clean)) {
			guesses = join(guesses, v)
			continue
		}
		out = join(out, v)
	}
	if out == nil {
		out = guesses
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

// memoEntry is a remembered call: what it was given, what it read, and what
// it left behind. Objects are told by their content, so that it serves for
// other objects that hold the same.
type memoEntry struct {
	gen      int
	unit     int // the only run from outside for which it is good; 0 for all
	rule     string
	method   string
	ruleRead bool
	mark     objID
	at       Span // of the call, for models: their hits are put there
	args     []*value
	given    []objID // objects that the arguments hold, in their order
	reads    []baseRead
	dead     bool
	v        *value
	known    []*knowledge // learned, oldest first
	changed  []*object    // as the call left them: objects it was given or that are in the base heap
	changes  []objID
	objects  []*object // that it made and that can be reached
	ids      []objID
	raised   []label
	notes    *noteSet
	yes, no  []*knowledge
	before   *knowledge   // what was known when it began
	uses     []*knowledge // what it asked for of that
	cut      []*function  // into which it did not go for they were running
	// fixed says that what it left behind speaks of unknowns that came from
	// those it was given: it holds for these only.
	fixed bool
}

type memoKey struct {
	fn   *function
	args uint64
}

// baseRead is an object of the base heap as a call has found it.
type baseRead struct {
	id objID
	o  *object
}

const (
	maxReads   = 400
	maxChanges = 24
	maxMade    = 300
)

// distinctReads lists each read since first once.
func (it *interp) distinctReads(first int) []objID {
	it.round++
	n := first
	for _, id := range it.read[first:] {
		if it.readAt[id] != it.round {
			it.readAt[id] = it.round
			it.read[n] = id
			n++
		}
	}
	return it.read[:n]
}

// remembered finds a call with the same arguments in the same circumstances,
// and what its unknowns are called now.
func (it *interp) remembered(st *state, fn *function, key uint64, at Span, args []*value) (*memoEntry, *matcher) {
next:
	// The newest first: of a recursion it is the outermost.
	for _, m := range slices.Backward(it.memo[memoKey{fn, key}]) {
		if m.gen != it.fieldGen || m.ruleRead && (m.rule != it.rule || m.method != it.method) || m.at != at || m.unit != 0 && m.unit != it.unit || len(m.args) != len(args) {
			continue
		}
		if slices.ContainsFunc(m.cut, func(fn *function) bool { return it.active[fn] == 0 }) {
			continue
		}
		for _, k := range m.uses {
			if r, ok := st.known.of(k.sym); !ok || !r.same(&k.fact) {
				continue next
			}
		}
		x := &matcher{m: m, known: st.known}
		for i, v := range m.args {
			if !x.value(v, args[i]) {
				continue next
			}
		}
		for _, r := range m.reads {
			if o := it.lookup(st.heap, r.id); o != r.o && (o == nil || r.o == nil || !x.object(r.o, o)) {
				continue next
			}
		}
		if x.renames() { // what did not change must not speak of what has another name now
			for _, r := range m.reads {
				if r.o != nil && it.lookup(st.heap, r.id) == r.o && !x.object(r.o, r.o) {
					continue next
				}
			}
		}
		return m, x
	}
	return nil, nil
}

// matcher compares what a call is given with what a remembered one was given.
// An unknown of which nothing is known may have another symbol, if the same
// one everywhere and if what the call left behind can be told of another.
type matcher struct {
	m        *memoEntry
	known    *knowledge
	from, to []*sym
}

func (x *matcher) sym(a, b *sym) bool {
	if a == nil || b == nil {
		return a == b
	}
	for i := range x.from {
		if x.from[i] == a || x.to[i] == b {
			return x.from[i] == a && x.to[i] == b
		}
	}
	if a != b {
		if x.m.fixed || !a.plain() || !b.plain() {
			return false
		}
		if _, ok := x.m.before.of(a); ok {
			return false
		}
		if _, ok := x.known.of(b); ok {
			return false
		}
	}
	x.from, x.to = append(x.from, a), append(x.to, b)
	return true
}

func (x *matcher) value(a, b *value) bool {
	if a == b && (a == nil || a.sym == nil && a.text == nil && a.elems == nil && a.recv == nil) {
		return true
	}
	if a == nil || b == nil || a.kind != b.kind || a.str != b.str || a.num != b.num || a.isInt != b.isInt || a.isBytes != b.isBytes || a.safe != b.safe ||
		a.obj != b.obj || a.reg != b.reg || a.fn != b.fn || a.cls != b.cls || a.mod != b.mod || a.pat != b.pat || a.clean != b.clean ||
		len(a.elems) != len(b.elems) || len(a.text) != len(b.text) || (a.text == nil) != (b.text == nil) || !sameLabels(a.labels, b.labels) ||
		!x.sym(a.sym, b.sym) {
		return false
	}
	for i := range a.text {
		p, q := &a.text[i], &b.text[i]
		if p.lit != q.lit || p.chars != q.chars || p.notFirst != q.notFirst || p.clean != q.clean || !sameLabels(p.labels, q.labels) ||
			!slices.Equal(p.not, q.not) || !x.sym(p.sym, q.sym) {
			return false
		}
	}
	for i := range a.elems {
		if !x.value(a.elems[i], b.elems[i]) {
			return false
		}
	}
	return x.value(a.recv, b.recv)
}

func (x *matcher) object(a, b *object) bool {
	if a.kind != b.kind || a.cls != b.cls || len(a.elems) != len(b.elems) || len(a.keys) != len(b.keys) || a.summary != b.summary || !sameLabels(a.restKeys, b.restKeys) {
		return false
	}
	for i := range a.elems {
		if !x.value(a.elems[i], b.elems[i]) {
			return false
		}
	}
	for i, k := range a.keys {
		if k != b.keys[i] || !x.value(a.m[k], b.m[k]) {
			return false
		}
	}
	return x.value(a.rest, b.rest) && x.value(a.factory, b.factory)
}

// renames reports whether a symbol goes by another name.
func (x *matcher) renames() bool { return !slices.Equal(x.from, x.to) }

// remember completes m with what the call has read and left behind; false if
// it cannot be used again. start is the heap in which it began, which nobody
// writes to any more.
func (it *interp) remember(st *state, m *memoEntry, written, read []objID, start *heap) bool {
	if len(read) > maxReads {
		return false
	}
	if !m.dead { // what a call did that never returns is lost with it
		for _, id := range written {
			if id > it.baseTop && !slices.Contains(m.given, id) || len(m.changes) >= maxChanges {
				return false
			}
			o := it.lookup(st.heap, id)
			if o == nil || o.cls != nil && o.cls.ns >= m.mark {
				return false
			}
			m.changes, m.changed = append(m.changes, id), append(m.changed, o)
		}
		for _, o := range m.changed {
			if !it.collectObject(st, o, m, 1) {
				return false
			}
		}
		if !it.collect(st, m.v, m, 0) {
			return false
		}
	}
	for _, id := range read {
		o := it.lookup(start, id)
		if it.baseWritten[id] && o != nil && o.holds(it) {
			return false // what it found there may have changed since
		}
		m.reads = append(m.reads, baseRead{id, o})
	}
	return true
}

// holds reports whether o holds objects that are not in the base heap.
func (o *object) holds(it *interp) bool {
	isNew := func(v *value) bool { return v != nil && it.reachesNew(v, 0) }
	if isNew(o.rest) || isNew(o.factory) || slices.ContainsFunc(o.elems, isNew) {
		return true
	}
	for _, v := range o.m {
		if isNew(v) {
			return true
		}
	}
	return false
}

// callFunction runs a function of the project.
func (it *interp) callFunction(st *state, fn *function, self *value, c *call) *value {
	if it.steps > it.soft() && it.depth > 0 && !it.loading && !it.contexts[fn].tiny() {
		// Late in a long run only what comes from outside is followed further,
		// and of a function that nothing calls not what was stored, either.
		labels := addLabels(c.labels(it, st), labelsOrNil(it, st, self))
		late := it.entry == nil && it.steps > it.limit/lateStored
		switch {
		case len(labels) == 0 && (it.depth > 1 || late):
			it.degraded = true
			return unknown
		case late && allStored(labels):
			it.degraded = true
			return opaque(guessed(labels, guess))
		}
	}
	it.called[funcKey{fn.file, fn.id}] = true
	if fn.file.model && fn.name == "__unknown__" {
		return opaque(c.labels(it, st))
	}
	if it.depth >= maxDepth || it.active[fn] >= maxRecursion && (it.active[fn] >= maxCounted || !slices.ContainsFunc(c.args, func(v *value) bool { return v.kind == vNum })) {
		if it.depth >= maxDepth {
			it.degraded = true
		} else if !slices.Contains(it.cut, fn) {
			it.cut = append(it.cut, fn)
		}
		return opaque(guessed(addLabels(c.labels(it, st), labelsOrNil(it, st, self)), guess))
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
	memoize, byContent, flat, of := fn.mod.ns <= it.baseTop && !it.p.cfg.forget, false, vars, fn
	var fl flattener
	if memoize && (it.fresh(fn) || slices.ContainsFunc(vars, func(v *value) bool { return v != nil && it.reachesNew(v, 0) })) {
		// What objects and closures hold counts, as long as it is little.
		fl, it.heads = flattener{it: it, st: st}, it.heads[:0]
		if it.fresh(fn) {
			of = it.canon(fn)
			memoize = fl.function(fn, 0)
		}
		memoize = memoize && fl.all(vars)
		flat, byContent = fl.out, true
	}
	var site Span
	if fn.file.model {
		site = it.at(c)
	}
	var key uint64
	if memoize {
		key = it.hashArgs(flat)
		if m, x := it.remembered(st, of, key, site, flat); m != nil {
			return it.replay(st, m, x, fn, c, fl.seen)
		}
		// A model is small, and what it was given tells one use from another.
		limit := maxContexts
		if fn.file.model {
			limit *= modelContexts
		}
		if cost := it.contexts[of]; cost.spent(limit) && !byContent && !it.loading {
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
			if m, x := it.remembered(st, of, key, site, flat); m != nil {
				return it.replay(st, m, x, fn, c, nil)
			}
			if cost.widened >= limit && (cost.widened >= (knownContexts-1)*limit || slices.ContainsFunc(vars, func(v *value) bool { return v != nil && !v.isConst() && len(it.labelsOf(st, v)) > 0 })) {
				return opaque(c.guesses(it, st))
			}
			cost.widened++
			it.contexts[of] = cost
		}
	}
	began := it.steps

	oldMark, oldNotes, oldRaised, oldDegraded, oldRuleRead, oldUnstable := it.mark, it.notes, it.raised, it.degraded, it.ruleRead, it.unstable
	mark := it.nextObj + 1
	it.mark, it.notes, it.raised, it.degraded, it.ruleRead, it.unstable = mark, &noteSet{}, nil, false, false, false
	oldCut := it.cut
	it.cut = nil
	oldFirst := it.firstWrite
	firstWrite, firstRead, start, outside := len(it.wrote), len(it.read), st.heap, it.outside
	it.firstWrite = firstWrite
	it.round++
	before := st.known
	var savedArgs []*value
	var usedBefore []*knowledge
	if memoize {
		usedBefore = before.takeUsed()
	}
	if memoize && byContent {
		savedArgs = fl.keep()
	} else if memoize {
		savedArgs = slices.Clone(flat)
	}

	it.callAt = c.at
	v, rets := it.run(st, fn, vars)
	if it.loading && it.out() {
		it.brokenOff = append(it.brokenOff, funcKey{fn.file, fn.id})
	}

	cost := it.contexts[fn]
	cost.runs++
	cost.all += it.steps - began
	it.contexts[fn] = cost
	if memoize && !byContent {
		cost := it.contexts[of]
		cost.calls++
		cost.steps += it.steps - began
		it.contexts[of] = cost
	}
	var uses []*knowledge
	if memoize {
		uses = before.takeUsed()
		for _, k := range slices.Concat(uses, usedBefore) {
			k.used = true
		}
	}
	// A recursion that was cut short within this call is as much as any caller
	// gets; one that began further out would go on for another.
	cut := slices.DeleteFunc(it.cut, func(fn *function) bool { return it.active[fn] == 0 })
	it.cut = oldCut
	it.addCut(cut)
	notes, raised := it.notes, it.raised
	it.mark, it.notes = oldMark, oldNotes
	it.raised = addLabels(oldRaised, raised)
	if oldNotes != nil {
		oldNotes.add(notes)
	}
	it.read = it.distinctReads(firstRead)
	written := it.wrote[firstWrite:]
	slices.Sort(written)
	written = slices.Compact(written)
	if memoize && !it.unstable && it.outside == outside && !it.out() && it.remembers[of] < maxMemo {
		m := &memoEntry{gen: it.fieldGen, rule: it.rule, method: it.method, ruleRead: it.ruleRead, at: site, args: savedArgs, given: fl.seen, before: before, uses: uses, mark: mark, dead: st.dead, v: v, raised: raised, notes: notes}
		if it.degraded || len(cut) > 0 {
			m.unit, m.cut = it.unit, cut
		}
		if it.remember(st, m, written, it.read[firstRead:], start) {
			if !st.dead {
				m.known = newKnowledge(st.known, before)
				if rets[0] != nil && rets[1] != nil && rets[2] == nil {
					m.no, m.yes = newKnowledge(rets[0].st.known, before), newKnowledge(rets[1].st.known, before)
				}
			}
			m.fixed = m.derives()
			it.remembers[of]++
			it.memo[memoKey{of, key}] = append(it.memo[memoKey{of, key}], m)
		}
	}
	it.degraded, it.ruleRead, it.unstable = it.degraded || oldDegraded, it.ruleRead || oldRuleRead, it.unstable || oldUnstable
	it.wrote, it.firstWrite = it.wrote[:firstWrite], oldFirst
	for _, id := range written {
		if id < oldMark {
			it.wrote = append(it.wrote, id)
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

func (it *interp) addCut(list []*function) {
	for _, fn := range list {
		if it.active[fn] > 0 && !slices.Contains(it.cut, fn) {
			it.cut = append(it.cut[:len(it.cut):len(it.cut)], fn)
		}
	}
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

// replay uses a remembered call again. given are the objects that its
// arguments hold now.
func (it *interp) replay(st *state, m *memoEntry, x *matcher, fn *function, c *call, given []objID) *value {
	it.notes.add(m.notes)
	it.raised = addLabels(it.raised, m.raised)
	for _, r := range m.reads {
		it.noteRead(r.id)
	}
	it.ruleRead = it.ruleRead || m.ruleRead
	it.degraded = it.degraded || m.unit != 0 && len(m.cut) == 0
	it.addCut(m.cut)
	if m.dead {
		it.throw(st)
		return unknown
	}
	v, known, yes, no := m.v, m.known, m.yes, m.no
	ren := renamer{}
	if x.renames() {
		ren.from, ren.to = x.from, x.to
		known, yes, no = ren.knowledge(known), ren.knowledge(yes), ren.knowledge(no)
	}
	st.replayKnowledge(known)
	if len(m.ids) > 0 || len(m.changes) > 0 || len(m.given) > 0 || ren.from != nil {
		ren.ids = make(map[objID]objID, len(m.ids)+len(given))
		for i, id := range m.given {
			ren.ids[id] = given[i]
		}
		if len(m.ids) > 0 || len(m.changes) > 0 {
			it.own(st)
		}
		first := len(it.arena)
		for _, id := range m.ids {
			ren.ids[id] = it.alloc(st, &object{})
		}
		for i := range m.ids {
			it.arena[first+i] = ren.object(m.objects[i], st.heap)
		}
		for i, id := range m.changes {
			if to, ok := ren.ids[id]; ok {
				id = to
			}
			it.noteWrite(id)
			it.put(st.heap, id, ren.object(m.changed[i], st.heap))
		}
		v = ren.value(v)
	}
	if len(yes) > 0 || len(no) > 0 {
		v = outcome(v, yes, no)
	}
	if hasLabels(v) && c.at.File != "" {
		v = withStep(v, c.at, "returned by "+fn.name+"()")
	}
	return v
}

// renamer replaces objects and symbols by others.
type renamer struct {
	ids      map[objID]objID
	fns      map[*function]*function
	from, to []*sym
}

func (r *renamer) sym(s *sym) *sym {
	if s != nil {
		if i := slices.Index(r.from, s); i >= 0 {
			return r.to[i]
		}
	}
	return s
}

func (r *renamer) knowledge(list []*knowledge) []*knowledge {
	var out []*knowledge
	for _, k := range list {
		c := *k
		c.sym = r.sym(k.sym)
		c.fact.eq = r.value(k.fact.eq)
		out = append(out, &c)
	}
	return out
}

func (r *renamer) object(o *object, owner *heap) *object {
	o = o.clone(owner)
	for k, e := range o.elems {
		o.elems[k] = r.value(e)
	}
	for k, e := range o.m {
		o.m[k] = r.value(e)
	}
	o.rest = r.value(o.rest)
	o.factory = r.value(o.factory)
	return o
}

// value returns v, speaking of the other objects and symbols.
func (r *renamer) value(v *value) *value {
	if v == nil {
		return nil
	}
	var c *value // a copy, as soon as something is different
	change := func() *value {
		if c == nil {
			x := *v
			c = &x
		}
		return c
	}
	switch v.kind {
	case vObj:
		if id, ok := r.ids[v.obj]; ok && id != v.obj {
			change().obj = id
		}
	case vFunc:
		if fn := r.function(v.fn); fn != v.fn {
			change().fn = fn
		}
	}
	if r.from != nil {
		if s := r.sym(v.sym); s != v.sym {
			change().sym = s
		}
		cloned := false
		for i := range v.text {
			if s := r.sym(v.text[i].sym); s != v.text[i].sym {
				if !cloned {
					change().text, cloned = slices.Clone(v.text), true
				}
				c.text[i].sym = s
			}
		}
	}
	cloned := false
	for i, e := range v.elems {
		if x := r.value(e); x != e {
			if !cloned {
				change().elems, cloned = slices.Clone(v.elems), true
			}
			c.elems[i] = x
		}
	}
	if v.recv != nil {
		if x := r.value(v.recv); x != v.recv {
			change().recv = x
		}
	}
	if c == nil {
		return v
	}
	return c
}

// derives reports whether what a call left behind speaks of symbols that were
// derived from others: from those it was given, perhaps.
func (m *memoEntry) derives() bool {
	for _, list := range [3][]*knowledge{m.known, m.yes, m.no} {
		for _, k := range list {
			if !k.sym.plain() || derived(k.fact.eq) {
				return true
			}
		}
	}
	for _, o := range m.objects {
		if o.derived() {
			return true
		}
	}
	for _, o := range m.changed {
		if o.derived() {
			return true
		}
	}
	return derived(m.v)
}

func (o *object) derived() bool {
	for _, e := range o.elems {
		if derived(e) {
			return true
		}
	}
	for _, k := range o.keys {
		if derived(o.m[k]) {
			return true
		}
	}
	return derived(o.rest) || derived(o.factory)
}

func derived(v *value) bool {
	if v == nil {
		return false
	}
	if v.sym != nil && !v.sym.plain() {
		return true
	}
	for i := range v.text {
		if s := v.text[i].sym; s != nil && !s.plain() {
			return true
		}
	}
	return slices.ContainsFunc(v.elems, derived) || derived(v.recv)
}

// function returns a closure over the other variables.
func (r *renamer) function(fn *function) *function {
	if !slices.ContainsFunc(fn.free, func(id objID) bool { to, ok := r.ids[id]; return ok && to != id }) {
		return fn
	}
	if c, ok := r.fns[fn]; ok {
		return c
	}
	c := *fn
	if r.fns == nil {
		r.fns = map[*function]*function{}
	}
	r.fns[fn] = &c
	c.free = slices.Clone(fn.free)
	for i, id := range c.free {
		if to, ok := r.ids[id]; ok {
			c.free[i] = to
		}
	}
	c.defaults = slices.Clone(fn.defaults)
	for i, d := range c.defaults {
		c.defaults[i] = r.value(d)
	}
	return &c
}

// collect gathers the objects that a result reaches; false if they are too
// many, or were there before without being given to the call.
func (it *interp) collect(st *state, v *value, m *memoEntry, depth int) bool {
	if v == nil {
		return true
	}
	if depth > 24 || len(m.ids) > maxMade {
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
		if !it.freeIsNew(v.fn) {
			return true
		}
		if v.fn.owner != nil && v.fn.owner.ns > it.baseTop {
			return false
		}
		for _, id := range v.fn.free {
			if !it.collectID(st, id, m, depth) {
				return false
			}
		}
		for _, d := range v.fn.defaults {
			if !it.collect(st, d, m, depth+1) {
				return false
			}
		}
	case vBound:
		return v.fn == nil || !it.freeIsNew(v.fn)
	case vClass:
		return v.cls.ns <= it.baseTop
	case vDeco:
		return false
	case vObj:
		return it.collectID(st, v.obj, m, depth)
	}
	return true
}

func (it *interp) collectID(st *state, id objID, m *memoEntry, depth int) bool {
	if id <= it.baseTop || slices.Contains(m.ids, id) || slices.Contains(m.given, id) {
		return true
	}
	if id < m.mark {
		return false // it was there before
	}
	o := it.lookup(st.heap, id)
	if o == nil || o.cls != nil && o.cls.ns > it.baseTop {
		return false
	}
	m.ids = append(m.ids, id)
	m.objects = append(m.objects, o)
	return it.collectObject(st, o, m, depth)
}

func (it *interp) collectObject(st *state, o *object, m *memoEntry, depth int) bool {
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
	return it.collect(st, o.rest, m, depth+1) && it.collect(st, o.factory, m, depth+1)
}

// flattener writes values down with what the objects in them hold, so that
// two calls can be compared whose arguments are different objects.
type flattener struct {
	it   *interp
	st   *state
	out  []*value
	seen []objID
	at   []int // the places in out of what it has made itself
}

// head writes down something that is no value of the program. It lies where
// the next flattener puts its own: see keep.
func (f *flattener) head(v value) {
	if len(f.it.heads) == cap(f.it.heads) {
		f.it.heads = make([]value, 0, max(64, 2*cap(f.it.heads)))
	}
	f.it.heads = append(f.it.heads, v)
	f.at = append(f.at, len(f.out))
	f.out = append(f.out, &f.it.heads[len(f.it.heads)-1])
}

// keep returns what was written down, for good.
func (f *flattener) keep() []*value {
	out, heads := slices.Clone(f.out), make([]value, len(f.at))
	for i, k := range f.at {
		heads[i] = *out[k]
		out[k] = &heads[i]
	}
	return out
}

const maxFlat = 300

func (f *flattener) all(vars []*value) bool {
	for _, v := range vars {
		if !f.add(v, 0) {
			return false
		}
	}
	return true
}

func (f *flattener) add(v *value, depth int) bool {
	if len(f.out) >= maxFlat || depth > 6 {
		return false
	}
	if v == nil || !f.it.reachesNew(v, 0) {
		f.out = append(f.out, v)
		return true
	}
	switch v.kind {
	case vObj:
		return f.object(v, depth)
	case vFunc:
		return f.function(v.fn, depth)
	case vUnion, vTuple, vInst, vBound:
		if v.fn != nil && f.it.fresh(v.fn) {
			return false
		}
		c := *v
		c.elems, c.recv = nil, nil
		c.num = c.num*100 + float64(len(v.elems))
		f.head(c)
		for _, e := range v.elems {
			if !f.add(e, depth+1) {
				return false
			}
		}
		return v.recv == nil || f.add(v.recv, depth+1)
	}
	return false
}

func (f *flattener) object(v *value, depth int) bool {
	if i := slices.Index(f.seen, v.obj); i >= 0 {
		f.head(value{kind: vTuple, str: "seen", num: float64(i)})
		return true
	}
	o := f.it.get(f.st, v.obj)
	if o == nil || o.cls != nil && o.cls.ns > f.it.baseTop {
		return false
	}
	f.seen = append(f.seen, v.obj)
	f.head(value{kind: vTuple, str: "object", num: float64(o.kind)*1000 + float64(len(o.elems)), isInt: o.rest != nil, isBytes: o.factory != nil, safe: o.summary, cls: o.cls, labels: v.labels, sym: v.sym})
	if len(o.restKeys) > 0 {
		f.head(value{kind: vTuple, str: "keys", labels: o.restKeys})
	}
	if o.factory != nil && !f.add(o.factory, depth+1) {
		return false
	}
	for _, e := range o.elems {
		if !f.add(e, depth+1) {
			return false
		}
	}
	for _, k := range o.keys {
		f.head(value{kind: vText, str: k})
		if !f.add(o.m[k], depth+1) {
			return false
		}
	}
	return o.rest == nil || f.add(o.rest, depth+1)
}

// function writes down a function that was made in this run.
func (f *flattener) function(fn *function, depth int) bool {
	if depth > 6 || len(f.out) >= maxFlat || fn.owner != nil && fn.owner.ns > f.it.baseTop {
		return false
	}
	f.head(value{kind: vTuple, str: "def " + fn.file.path, num: float64(fn.id), cls: fn.owner})
	for _, id := range fn.free {
		if !f.add(&value{kind: vObj, obj: id}, depth+1) {
			return false
		}
	}
	for _, d := range fn.defaults {
		if !f.add(d, depth+1) {
			return false
		}
	}
	return true
}

// canon returns the function under which calls of a nested one are
// remembered, which is made anew each time that the code around it runs.
func (it *interp) canon(fn *function) *function {
	k := funcKey{fn.file, fn.id}
	if it.canons[k] == nil {
		it.canons[k] = fn
	}
	return it.canons[k]
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

// fresh reports whether a function was made by code that is not in the base
// heap, and may be made again.
func (it *interp) fresh(fn *function) bool { return fn.nested && fn.born > it.baseTop }

// reachesNew reports whether v leads to objects that are not in the base
// heap, so that what a call does depends on more than its arguments.
func (it *interp) reachesNew(v *value, depth int) bool {
	switch v.kind {
	case vObj:
		return v.obj > it.baseTop
	case vFunc:
		return it.fresh(v.fn)
	case vClass:
		return v.cls.ns > it.baseTop
	case vDeco:
		return true
	case vBound:
		if v.fn != nil && it.fresh(v.fn) {
			return true
		}
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
		h.WriteByte(0)
	}
	if v.kind == vObj {
		maphash.WriteComparable(h, v.obj)
	}
	for _, l := range v.labels {
		maphash.WriteComparable(h, l.src)
	}
	if depth < 3 {
		for _, e := range v.elems {
			hashValue(h, e, depth+1)
		}
	}
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
	fn.born = it.nextObj + 1
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
		if v.kind == vClass && slices.Contains(dataClasses, path) {
			v.cls.data = true
			return v
		}
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
	case "functools.lru_cache", "functools.cache", "functools.singledispatch", "abc.abstractmethod", "typing.overload", "functools.total_ordering", "enum.unique", "typing.final", "functools.wraps":
		return v
	}
	return nil
}
