package pyflow

import (
	"context"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// program is what all interpreters of one analysis share. It does not change
// after the modules were loaded.
type program struct {
	ctx   context.Context
	cfg   Config
	facts *Facts
	// placed and unplaced hold what went into files; see makeFiles.
	placed, unplaced objID
	tagBits          map[string]tags
	tagList          []string
	files            map[string]*fileInfo
	names            map[string]*fileInfo // modules by root, NUL and dotted name
	// packages are the folders that hold modules, named alike; library the
	// first parts of the names that facts know.
	packages                       map[string]bool
	folders                        map[string][]string // what stands in each folder that holds Python files
	library                        map[string]bool
	models                         map[string]*fileInfo
	roots                          []string
	templates                      sync.Map // parsed, by name and the folder it is asked for from
	parsed                         sync.Map // the same by path
	templateFilters, templateNames map[string]*value
	escapes                        sync.Once
	ownEscapes                     bool  // see autoescaped
	base                           *heap // after the modules were loaded
	baseInterp                     *interp
	builtin                        map[string]*value // lib values of builtins, by name
	urlNames                       map[string]bool   // parameters in URL rules
	urlOpen                        bool              // there may be others
	globalNames                    map[string]bool   // that every template has
}

// fileInfo is a source with its scopes.
type fileInfo struct {
	src   *Source
	f     *pysyntax.File
	path  string
	name  string // of the module
	root  string // directory that the name starts from
	pkg   bool   // is an __init__.py
	model bool
	// literals are the values of its literals, by node, as far as they were
	// asked for; two that ask at once make the same.
	literals []atomic.Pointer[value]
	scopes   map[pysyntax.ID]*scope
	params   map[pysyntax.ID][]pysyntax.Param
	// urlNames and urlOpen are what the file says of URL parameters.
	urlNames []string
	urlOpen  bool
	// globalNames are what it puts into every template.
	globalNames []string
}

// module is a loaded module.
type module struct {
	name  string
	file  *fileInfo // nil for a package without __init__.py
	root  string
	ns    objID
	stars []string // library modules of which everything was imported
}

// function is a def or a lambda with the environment it was made in.
type function struct {
	file     *fileInfo
	id       pysyntax.ID
	sc       *scope
	mod      *module
	name     string
	qual     string // within the module
	params   []pysyntax.Param
	defaults []*value
	free     []objID
	owner    *class
	body     []pysyntax.ID
	expr     pysyntax.ID // of a lambda
	returns  pysyntax.ID
	manager  bool // decorated with contextmanager
	nested   bool
	born     objID  // the next object when it was made
	injects  []Fact // of decorators that call it with arguments of their own
}

func (fn *function) span() Span {
	start, end := fn.file.f.NameSpan(fn.id)
	if end == 0 {
		n := fn.file.f.Node(fn.id)
		start, end = n.Start, n.End
	}
	return Span{fn.file.path, start, end}
}

func (fn *function) fullName() string { return fn.mod.name + "." + fn.qual }

// interp runs code. It belongs to one goroutine.
type interp struct {
	p          *program
	mark       objID   // objects below it are older than the running call
	wrote      []objID // such objects that were written to
	firstWrite int     // where those of the running call begin in wrote
	read       []objID // objects of the base heap that were read
	*readRound
	guessing    bool // labels are gathered for what nothing is known of
	nextObj     objID
	baseTop     objID          // objects up to it are in the base heap
	arena       []*object      // the others, by the order in which they were allocated
	flat        []*object      // the objects of the base heap, by id
	fieldGen    int            // counts the writes to fields of global objects of libraries in this run
	baseWritten map[objID]bool // objects of the base heap that were written to in this run
	fieldGens   int
	derived     map[derivation]*sym
	sources     map[sourceKey]*source
	srcSyms     map[sourceKey]*sym

	fr         *frame
	callAt     Span        // of the call that is about to run
	decorating int         // set while a decorator runs
	decoCall   pysyntax.ID // the call that makes the decorator
	depth      int
	nested     int // calls of iterate, attr, call and str that are running
	steps      int
	limit      int
	entry      *Entry
	watch      *condWatch  // the condition whose value is asked for; nil mostly
	rule       string      // URL rule of the running view, if it has no variable part
	made       []*function // nested functions, in the order they were made
	called     map[funcKey]bool
	brokenOff  []funcKey // whose call while loading was not followed to its end
	modules    map[string]*module
	loading    bool
	raised     []label

	memo      map[memoKey][]*memoEntry
	remembers map[*function]int     // the number of calls that are remembered
	canons    map[funcKey]*function // for a nested function, the one under which its calls are remembered
	unit      int                   // counts the runs from outside
	degraded  bool                  // something was not followed for want of steps
	cut       []*function           // not entered by the running call: too many calls of them were running
	ruleRead  bool                  // what was found depends on rule or method
	method    string                // the only one that the running view answers; empty for several
	unstable  bool                  // something was read that may change without notice: a module that is being loaded
	heads     []value               // for the flattener
	outside   int                   // counts what calls do that is not on the heap: registrations, imports
	contexts  map[*function]callCost
	active    map[*function]int

	hits         map[string]*Hit
	perPlace     map[hitPlace]int
	notes        *noteSet
	entries      []*Entry
	gaveUp       []GaveUp
	views        map[funcKey]string // registered functions, with the kind of entry
	converters   map[string]*value  // URL converters, by name
	fieldSyms    map[*sym]Field     // parts of the input, by the symbol of their value
	libFields    map[string]*value  // of global objects of libraries, by path
	given        []*Hit             // what the running view gives back
	filters      map[string]*value  // of templates, by name
	globals      map[string]*value
	selves       map[*class]*selfState
	ranReg       map[string]bool
	settingNames map[funcKey]map[string]string // see settingUnder
	symNumber    map[*sym]int                  // see fileKey
	total        int
	funcs        int
	regOrder     []*registration
	left         map[keptAt][]*kept // what runs leave in the base heap
	again        bool               // the units run with that in place
	running      *unit
}

// readRound tells cheaply whether an object of the base heap is listed already.
type readRound struct {
	readAt []uint32 // by object: the round in which it was listed
	round  uint32
}

type funcKey struct {
	file *fileInfo
	id   pysyntax.ID
}

type sourceKey struct {
	at   Span
	kind string
	note string
}

// noteSet is what an entry point does, to be replayed when a remembered call
// is used again.
type noteSet struct {
	sinks  map[string]bool
	fields map[Field]bool
}

func (n *noteSet) add(o *noteSet) {
	if n == nil || o == nil {
		return
	}
	if n.sinks == nil {
		n.sinks, n.fields = map[string]bool{}, map[Field]bool{}
	}
	maps.Copy(n.sinks, o.sinks)
	maps.Copy(n.fields, o.fields)
}

// frame is a running function, class body or module.
type frame struct {
	up     *frame
	fn     *function // nil for a module
	file   *fileInfo
	f      *pysyntax.File
	sc     *scope
	mod    *module
	cells  []objID // by slot
	free   []objID
	ns     objID // of a class body or module
	cls    *class
	qual   string
	callAt Span

	rets   [3]*bucket // false, true, not known
	loops  []*loop
	tries  []*try
	yields []*value
	loose  bool // yields happen in loops or branches
	// asked says of what statements were run on, by its text, whether the last
	// one was for the database's catalogue.
	asked map[string]bool
}

// bucket joins the returns of one truth.
type bucket struct {
	v  *value
	st *state
}

type loop struct{ brk, cont *state }

type try struct{ raised *state }

func (it *interp) span(id pysyntax.ID) Span {
	n := it.fr.f.Node(id)
	return Span{it.fr.file.path, n.Start, n.End}
}

// tag returns the bit of a kind of sinks; 0 for one that no fact names.
func (it *interp) tag(kind string) tags { return it.p.tagBits[kind] }

// out reports whether the running entry point has used up its steps.
func (it *interp) out() bool { return it.steps > it.limit }

func (it *interp) step() bool {
	it.steps++
	if it.steps&1023 == 0 && it.p.ctx.Err() != nil {
		it.steps = it.limit + 1
	}
	return it.steps <= it.limit
}

// execAll runs statements until the state is dead.
func (it *interp) execAll(st *state, body []pysyntax.ID) {
	for _, id := range body {
		if st.dead {
			return
		}
		it.exec(st, id)
	}
}

func (it *interp) exec(st *state, id pysyntax.ID) {
	if !it.step() {
		st.dead = true
		return
	}
	f := it.fr.f
	n := f.Node(id)
	switch n.Kind {
	case pysyntax.ExprStmt:
		it.eval(st, n.A)
	case pysyntax.Assign:
		targets, v := f.Assign(id)
		val := it.eval(st, v)
		if st.dead {
			return
		}
		for _, t := range targets {
			it.assign(st, t, val)
		}
	case pysyntax.AnnAssign:
		t, ann, v := f.AnnAssign(id)
		if it.fr.cls != nil && it.fr.sc.class && f.Kind(t) == pysyntax.Name {
			it.fr.cls.fields = append(it.fr.cls.fields, f.Name(t))
		}
		if v != 0 {
			x := it.eval(st, v)
			if it.fr.sc.class && ann != 0 {
				x = it.mappedColumn(f, ann, x)
			}
			it.assign(st, t, x)
		}
	case pysyntax.AugAssign:
		t, op, v := f.AugAssign(id)
		old := it.eval(st, t)
		r := it.eval(st, v)
		if st.dead {
			return
		}
		it.assign(st, t, it.augmented(st, op, old, r))
	case pysyntax.Return:
		v := none
		if n.A != 0 && it.isTest(n.A, 0) {
			it.returnTest(st, n.A)
			return
		}
		if n.A != 0 {
			v = it.eval(st, n.A)
		}
		if st.dead {
			return
		}
		if n.A != 0 {
			it.response(st, v, it.span(n.A))
		}
		it.ret(st, v)
	case pysyntax.If:
		it.execIf(st, id)
	case pysyntax.For, pysyntax.AsyncFor:
		it.execFor(st, id)
	case pysyntax.While:
		it.execWhile(st, id)
	case pysyntax.Break:
		if k := len(it.fr.loops); k > 0 {
			l := it.fr.loops[k-1]
			l.brk = it.joinState(l.brk, st)
		}
		st.dead = true
	case pysyntax.Continue:
		if k := len(it.fr.loops); k > 0 {
			l := it.fr.loops[k-1]
			l.cont = it.joinState(l.cont, st)
		}
		st.dead = true
	case pysyntax.Try, pysyntax.TryStar:
		it.execTry(st, id)
	case pysyntax.With, pysyntax.AsyncWith:
		it.execWith(st, id)
	case pysyntax.Match:
		it.execMatch(st, id)
	case pysyntax.Raise:
		exc, _ := f.Raise(id)
		if exc != 0 {
			v := it.eval(st, exc)
			if !st.dead {
				it.raised = addLabels(it.raised, it.labelsOf(st, v))
			}
		}
		it.throw(st)
	case pysyntax.Assert:
		test, _ := f.Assert(id)
		t, _ := it.cond(st, test)
		*st = *t
	case pysyntax.Import:
		it.execImport(st, id)
	case pysyntax.ImportFrom:
		it.execImportFrom(st, id)
	case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef:
		it.execDef(st, id)
	case pysyntax.ClassDef:
		it.execClass(st, id)
	case pysyntax.Delete:
		for _, t := range f.Delete(id) {
			it.del(st, t)
		}
	case pysyntax.TypeAlias:
		name, _, v := f.TypeAlias(id)
		it.assign(st, name, it.eval(st, v))
	}
}

var predicates = map[string]bool{
	"startswith": true, "endswith": true, "isdigit": true, "isalnum": true, "isalpha": true, "isdecimal": true, "isnumeric": true,
	"isidentifier": true, "is_relative_to": true, "isinstance": true, "all": true, "any": true, "hasattr": true, "callable": true, "bool": true,
}

// isTest reports whether an expression has the form of a condition, so that
// what it says can be kept apart for True and for False. Which values it gives
// is for [interp.returnTest] to see: a function may be called is_valid and
// give back a text.
func (it *interp) isTest(id pysyntax.ID, depth int) bool {
	f := it.fr.f
	switch f.Kind(id) {
	case pysyntax.Compare:
		return true
	case pysyntax.UnaryOp:
		op, _ := f.UnaryOp(id)
		return op == pysyntax.UnaryNot
	case pysyntax.BoolOp:
		_, list := f.BoolOp(id)
		for _, e := range list {
			if depth > 4 || !it.isTest(e, depth+1) {
				return false
			}
		}
		return true
	case pysyntax.Call:
		if depth > 0 {
			return true
		}
		fn, _, _ := f.Call(id)
		switch f.Kind(fn) {
		case pysyntax.Attribute:
			_, name := f.Attribute(fn)
			return predicates[name]
		case pysyntax.Name:
			return predicates[f.Name(fn)]
		}
	}
	return false
}

// returnTest ends st with the return of a test: of each part that decides, the
// value that it had, with what its being true or false says.
func (it *interp) returnTest(st *state, id pysyntax.ID) {
	cur := st.fork()
	st.dead = true
	op, list := it.fr.f.BoolOp(id)
	if list == nil {
		list = []pysyntax.ID{id}
	}
	for i, e := range list {
		yes, no, v := it.condValue(cur, e)
		last := i == len(list)-1
		if !no.dead && (last || op == pysyntax.BoolAnd) {
			w := it.onlyTruth(no, v, false)
			it.response(no, w, it.span(e))
			it.retIn(0, no, w)
		}
		if !yes.dead && (last || op == pysyntax.BoolOr) {
			w := it.onlyTruth(yes, v, true)
			it.response(yes, w, it.span(e))
			it.retIn(1, yes, w)
		}
		if cur = yes; op == pysyntax.BoolOr {
			cur = no
		}
		if cur.dead {
			return
		}
	}
}

// condWatch gathers the values of the calls that a condition consists of.
type condWatch struct {
	fr  *frame
	ids []pysyntax.ID
	v   *value
}

// condValue is [interp.cond], and the value that the condition has.
func (it *interp) condValue(st *state, id pysyntax.ID) (yes, no *state, v *value) {
	w := &condWatch{fr: it.fr}
	var parts func(pysyntax.ID)
	parts = func(id pysyntax.ID) {
		switch it.fr.f.Kind(id) {
		case pysyntax.BoolOp:
			_, list := it.fr.f.BoolOp(id)
			for _, e := range list {
				parts(e)
			}
		case pysyntax.Call:
			w.ids = append(w.ids, id)
		default:
			w.v = boolean
		}
	}
	parts(id)
	outer := it.watch
	it.watch = w
	yes, no = it.cond(st, id)
	it.watch = outer
	if w.v == nil {
		w.v = boolean
	}
	return yes, no, w.v
}

// joinState returns the join of acc and a copy of st.
func (it *interp) joinState(acc, st *state) *state {
	if st.dead {
		return acc
	}
	if acc == nil {
		return st.fork()
	}
	it.merge(acc, st.fork())
	return acc
}

// throw ends st with an exception.
func (it *interp) throw(st *state) {
	if it.fr == nil {
		st.dead = true
		return
	}
	if k := len(it.fr.tries); k > 0 {
		t := it.fr.tries[k-1]
		t.raised = it.joinState(t.raised, st)
	}
	st.dead = true
}

// ret ends st with a return of v.
func (it *interp) ret(st *state, v *value) {
	v = it.refined(st, v)
	i := it.truth(st, v)
	if i < 0 {
		i = 2
		if v.kind == vUnion {
			// What may be None or something is told apart.
			var no, yes *value
			for _, a := range v.elems {
				if it.truth(st, a) == 0 {
					no = join(no, a)
				} else {
					yes = join(yes, a)
				}
			}
			if no != nil && yes != nil && v.sym == nil {
				it.retIn(0, st.fork(), no)
				k := it.truth(st, yes)
				if k < 0 {
					k = 2
				}
				it.retIn(k, st, yes)
				st.dead = true
				return
			}
		}
		if v.sym != nil && (v.sym.yes != nil || v.sym.no != nil) && v.kind == vBoolean {
			f := st.fork()
			it.follow(f, v.sym, false)
			if !f.dead {
				it.retIn(0, f, vFalse)
			}
			it.follow(st, v.sym, true)
			if !st.dead {
				it.retIn(1, st, vTrue)
			}
			st.dead = true
			return
		}
	}
	it.retIn(i, st, v)
	st.dead = true
}

func (it *interp) retIn(i int, st *state, v *value) {
	s := st.fork()
	s.vars = nil
	b := it.fr.rets[i]
	if b == nil {
		it.fr.rets[i] = &bucket{v, s}
		return
	}
	b.v = join(b.v, v)
	it.merge(b.st, s)
}

func (it *interp) execIf(st *state, id pysyntax.ID) {
	test, body, orelse := it.fr.f.If(id)
	yes, no := it.cond(st, test)
	it.execAll(yes, body)
	it.execAll(no, orelse)
	it.join2(st, yes, no)
}

// join2 makes st the join of two states that came from it.
func (it *interp) join2(st, a, b *state) {
	if a.dead {
		*st = *b
		return
	}
	it.merge(a, b)
	*st = *a
}

// loopBody runs one round of a loop on st: afterwards st is where the next
// one begins.
func (it *interp) loopBody(st *state, body []pysyntax.ID) *loop {
	l := &loop{}
	it.fr.loops = append(it.fr.loops, l)
	it.execAll(st, body)
	it.fr.loops = it.fr.loops[:len(it.fr.loops)-1]
	if l.cont != nil {
		it.merge(st, l.cont)
	}
	return l
}

const (
	loopRounds = 3
	// maxUnrolled is the number of steps after which a loop whose condition is
	// known is not followed round by round any more: one that never ends, most
	// likely.
	maxUnrolled = 4000
)

func (it *interp) execFor(st *state, id pysyntax.ID) {
	l := it.fr.f.For(id)
	iter := it.eval(st, l.Iter)
	if st.dead {
		return
	}
	var done *state // after break
	items, exact := it.rows(st, l.Iter, iter)
	if exact {
		for _, v := range items {
			if st.dead || it.out() {
				break
			}
			it.assign(st, l.Target, v)
			lp := it.loopBody(st, l.Body)
			done = it.joinState2(done, lp.brk)
		}
	} else {
		elem := joinAll(items)
		if elem == nil {
			elem = unknown
		}
		loose := it.fr.loose
		it.fr.loose = true
		chars := charSyms(elem)
		if s := placeIn(elem); s != nil {
			chars = append(chars, it.derive("char", "", s))
		}
		var learned *knowledge
		first := true
		rounds := loopRounds
		if len(it.fr.loops) >= 3 {
			rounds = 2
		}
		for round := range rounds {
			body, top := st.fork(), it.nextObj
			if round == 0 {
				it.noChars(st, chars) // what st is then, for no round
			}
			it.assign(body, l.Target, elem)
			lp := it.loopBody(body, l.Body)
			done = it.joinState2(done, lp.brk)
			if body.dead {
				// No round ends normally: what comes after is for no round.
				it.noChars(st, chars)
				break
			}
			if first {
				learned, first = body.known, false
			}
			if !it.mergeChanged(st, body, top, round > 0) {
				break
			}
		}
		it.fr.loose = loose
		if len(chars) > 0 && !st.dead && learned != nil {
			it.learnChars(st, learned, chars)
		}
	}
	if !st.dead {
		it.execAll(st, l.Else)
	}
	if done != nil {
		it.merge(st, done)
	}
}

func (it *interp) joinState2(acc, s *state) *state {
	if s == nil {
		return acc
	}
	return it.joinState(acc, s)
}

// charSyms returns the symbols of v that stand for any character of a text.
func charSyms(v *value) []*sym {
	var out []*sym
	for _, s := range symsOf(v) {
		if s.op == "char" {
			out = append(out, s)
		}
	}
	return out
}

// learnChars learns about texts what every round of a loop over their
// characters has established.
func (it *interp) learnChars(st *state, k *knowledge, chars []*sym) {
	for _, s := range chars {
		r, ok := k.of(s)
		if !ok {
			continue
		}
		c := AnyChars
		if r.bounded {
			c = c.And(r.chars)
		}
		for _, x := range r.not {
			if len(x) == 1 {
				c = c.Without(x)
			}
		}
		if r.eq != nil {
			var e Chars
			for _, a := range r.eq.alts() {
				if a.isConstText() {
					e = e.Or(CharsOf(a.str))
				} else {
					e = AnyChars
				}
			}
			c = c.And(e)
		}
		if c != AnyChars {
			for _, b := range s.bases {
				it.restrictSym(st, b, c)
			}
		}
	}
}

// noChars learns that texts are empty.
func (it *interp) noChars(st *state, chars []*sym) {
	for _, s := range chars {
		for _, b := range s.bases {
			it.restrictSym(st, b, Chars{})
		}
	}
}

func joinAll(list []*value) *value {
	var out *value
	for _, v := range list {
		out = join(out, v)
	}
	return out
}

// mergeChanged merges other into st and reports whether st is different now.
// Objects above top are new in other. With widen, texts that grow become a
// known beginning and a run.
func (it *interp) mergeChanged(st, other *state, top objID, widen bool) bool {
	vars, h := slices.Clone(st.vars), st.heap
	it.merge(st, other)
	changed := false
	if st.heap != h {
		for id, o := range st.heap.objs.each {
			if id > top {
				continue // new in the round
			}
			if !sameObject(it.lookup(h, id), o) {
				changed = true
				break
			}
		}
		if widen && changed {
			var ids []objID
			for id, o := range st.heap.objs.each {
				if id <= top && it.lookup(h, id) != o {
					ids = append(ids, id)
				}
			}
			slices.Sort(ids)
			for _, id := range ids {
				old, o := it.lookup(h, id), it.lookup(st.heap, id)
				for _, k := range o.keys {
					if a, b := old.m[k], o.m[k]; a != nil && a != b && grows(b) {
						o = it.write(st, id)
						o.m[k] = blob(b.elems)
					}
				}
				for i := range o.elems {
					if i < len(old.elems) && old.elems[i] != o.elems[i] && grows(o.elems[i]) {
						o = it.write(st, id)
						o.elems[i] = blob(o.elems[i].elems)
					}
				}
			}
		}
	}
	for i := range st.vars {
		a, b := vars[i], st.vars[i]
		if a == b {
			continue
		}
		if a == nil || b == nil || !same(a, b) || len(shallowLabels(a)) != len(shallowLabels(b)) {
			changed = true
			if widen && a != nil && b != nil && grows(b) {
				st.vars[i] = blob(b.elems)
			}
		}
	}
	return changed
}

// grows reports whether a value that changed in a round is a text that gets
// longer.
func grows(v *value) bool {
	if v.kind != vUnion || len(v.elems) < 2 {
		return false
	}
	consts := true
	for _, e := range v.elems {
		if e.kind != vText {
			return false
		}
		consts = consts && e.text == nil
	}
	return !consts || len(v.elems) > 3
}

func sameObject(a, b *object) bool {
	if a == b {
		return true
	}
	if len(a.elems) != len(b.elems) || len(a.keys) != len(b.keys) || (a.rest == nil) != (b.rest == nil) {
		return false
	}
	eq := func(x, y *value) bool {
		return x == y || x != nil && y != nil && same(x, y) && len(shallowLabels(x)) == len(shallowLabels(y))
	}
	for i := range a.elems {
		if !eq(a.elems[i], b.elems[i]) {
			return false
		}
	}
	for _, k := range a.keys {
		if !eq(a.m[k], b.m[k]) {
			return false
		}
	}
	return a.rest == b.rest || eq(a.rest, b.rest)
}

func (it *interp) execWhile(st *state, id pysyntax.ID) {
	test, body, orelse := it.fr.f.While(id)
	var done, exit *state
	loose := it.fr.loose
	unrolled, begun := 0, it.steps
	for !st.dead && !it.out() {
		yes, no := it.cond(st, test)
		if yes.dead || no.dead {
			// Known: go round by round.
			if yes.dead {
				exit = it.joinState2(exit, no)
				break
			}
			if unrolled++; unrolled > 64 || unrolled > 3 && it.steps-begun > maxUnrolled {
				exit = it.joinState2(exit, yes)
				break
			}
			lp := it.loopBody(yes, body)
			done = it.joinState2(done, lp.brk)
			*st = *yes
			if lp.brk != nil && unrolled > 3 {
				// It may end at any round; a few more change little.
				break
			}
			continue
		}
		it.fr.loose = true
		exit = it.joinState2(exit, no)
		top := it.nextObj
		lp := it.loopBody(yes, body)
		done = it.joinState2(done, lp.brk)
		if yes.dead {
			break
		}
		if unrolled++; unrolled > loopRounds+1 || !it.mergeChanged(st, yes, top, unrolled > 1) {
			_, no = it.cond(st, test)
			exit = it.joinState2(exit, no)
			break
		}
	}
	it.fr.loose = loose
	if exit == nil {
		st.dead = true
	} else {
		*st = *exit
		it.execAll(st, orelse)
	}
	if done != nil {
		it.merge(st, done)
	}
}

func (it *interp) execTry(st *state, id pysyntax.ID) {
	f := it.fr.f
	t := f.Try(id)
	tc := &try{}
	before := it.raised
	it.raised = nil
	if len(t.Handlers) > 0 {
		tc.raised = st.fork()
		it.fr.tries = append(it.fr.tries, tc)
	}
	for _, s := range t.Body {
		if st.dead {
			break
		}
		it.exec(st, s)
		if len(t.Handlers) > 0 && !st.dead && isEffect(f, s) {
			tc.raised = it.joinState(tc.raised, st)
		}
	}
	if len(t.Handlers) > 0 {
		it.fr.tries = it.fr.tries[:len(it.fr.tries)-1]
	}
	labels := it.raised
	it.raised = before
	it.execAll(st, t.Else)
	last := tc.raised
	for i, h := range t.Handlers {
		if tc.raised == nil {
			break
		}
		typ, name, body := f.ExceptHandler(h)
		hs := tc.raised
		if i < len(t.Handlers)-1 {
			hs = tc.raised.fork()
		}
		if typ != 0 {
			it.eval(hs, typ)
		}
		if hs.dead {
			continue
		}
		if name != "" {
			it.bindName(hs, name, &value{kind: vInst, str: "builtins.Exception", labels: labels, sym: &sym{}})
		}
		it.execAll(hs, body)
		if st.dead {
			*st = *hs
		} else {
			it.merge(st, hs)
		}
	}
	if len(t.Finally) > 0 {
		if st.dead {
			if last != nil {
				x := last.fork()
				it.execAll(x, t.Finally)
			}
			return
		}
		it.execAll(st, t.Finally)
	}
}

// isEffect reports whether a statement may leave something behind that a
// handler sees.
func isEffect(f *pysyntax.File, id pysyntax.ID) bool {
	switch f.Kind(id) {
	case pysyntax.Pass, pysyntax.Return, pysyntax.Raise, pysyntax.Break, pysyntax.Continue:
		return false
	}
	return true
}

func (it *interp) execWith(st *state, id pysyntax.ID) {
	items, body := it.fr.f.With(id)
	for _, i := range items {
		v, target := it.fr.f.WithItem(i)
		cm := it.eval(st, v)
		if st.dead {
			return
		}
		x := it.enter(st, cm, it.span(v))
		if target != 0 && !st.dead {
			it.assign(st, target, x)
		}
	}
	it.execAll(st, body)
}

// enter is what "with v as x" gives x.
func (it *interp) enter(st *state, v *value, at Span) *value {
	return over(v, func(v *value) *value {
		switch v.kind {
		case vObj:
			o := it.get(st, v.obj)
			if o == nil || o.kind != oInstance || o.cls == nil {
				return v
			}
			if m := o.cls.lookup(it, st, "__enter__"); m != nil {
				return it.call(st, &value{kind: vBound, fn: m.fn, recv: v, elems: []*value{m}}, &call{at: at})
			}
			if m := o.cls.lookup(it, st, "__aenter__"); m != nil {
				return it.call(st, &value{kind: vBound, fn: m.fn, recv: v, elems: []*value{m}}, &call{at: at})
			}
			return v
		case vInst, vLib:
			for _, f := range it.p.facts.of(it.p.facts.canonical(v.str)) {
				if f.Verb == "enter" && f.Args[0] == v.str {
					return v
				}
				if f.Verb == "enter" {
					return inst(f.Args[0], v.labels)
				}
			}
			for _, f := range it.p.facts.of(it.p.facts.canonical(v.str + ".__enter__")) {
				if f.Verb == "returns" {
					return inst(f.Args[0], v.labels)
				}
			}
		case vTuple:
			if v.str == "contextmanager" && len(v.elems) > 0 {
				return v.elems[0]
			}
		}
		return v
	})
}

// bindName gives a name of the running function a value.
func (it *interp) bindName(st *state, name string, v *value) {
	fr := it.fr
	switch {
	case fr.sc.globals[name]:
		it.write(st, fr.mod.ns).set(name, v)
	case fr.sc.module || fr.sc.class && !fr.sc.nonlocals[name]:
		it.write(st, fr.ns).set(name, v)
	default:
		if slot, ok := fr.sc.slots[name]; ok {
			if slot < len(fr.cells) && fr.cells[slot] != 0 {
				it.write(st, fr.cells[slot]).elems = []*value{v}
				return
			}
			if slot < len(st.vars) {
				st.vars[slot] = v
			}
			return
		}
		if i, ok := fr.sc.free[name]; ok && i < len(fr.free) {
			it.write(st, fr.free[i]).elems = []*value{v}
		}
	}
}

// name reads a name.
func (it *interp) name(st *state, name string) *value {
	fr := it.fr
	if fr.sc.module || fr.sc.class {
		if o := it.get(st, fr.ns); o != nil {
			if v, _ := bound(o.get(name)); v != nil {
				return v
			}
		}
	} else if slot, ok := fr.sc.slots[name]; ok {
		var v *value
		if slot < len(fr.cells) && fr.cells[slot] != 0 {
			v = it.cell(st, fr.cells[slot])
		} else if slot < len(st.vars) {
			v = st.vars[slot]
		}
		if v, _ := bound(v); v != nil {
			return v
		}
		return unknown
	}
	if i, ok := fr.sc.free[name]; ok && i < len(fr.free) {
		if v, _ := bound(it.cell(st, fr.free[i])); v != nil {
			return v
		}
		return unknown
	}
	return it.global(st, fr.mod, name)
}

// isUnbound reports whether a name is a variable of the running function, and
// of no other one, that was given no value on any way here.
func (it *interp) isUnbound(st *state, name string) bool {
	fr := it.fr
	if fr.sc.module || fr.sc.class {
		return false
	}
	slot, ok := fr.sc.slots[name]
	if !ok || slot < len(fr.cells) && fr.cells[slot] != 0 || slot >= len(st.vars) {
		return false
	}
	v, _ := bound(st.vars[slot])
	return v == nil
}

func (it *interp) cell(st *state, id objID) *value {
	o := it.get(st, id)
	if o == nil || len(o.elems) == 0 {
		return nil
	}
	return o.elems[0]
}

func (it *interp) global(st *state, m *module, name string) *value {
	it.unstable = it.unstable || m.ns > it.baseTop
	if o := it.get(st, m.ns); o != nil {
		if v, _ := bound(o.get(name)); v != nil {
			return v
		}
	}
	if v, ok := it.p.builtin[name]; ok {
		return v
	}
	switch name {
	case "__name__":
		if m.file != nil && !m.file.model {
			return join(text(m.name), text("__main__")) // imported, or run as a script
		}
		return text(m.name)
	case "__file__":
		if m.file != nil {
			return text(appDir + "/" + m.file.path)
		}
	case "__path__":
		if m.file != nil && m.file.pkg && !m.file.model {
			return it.list(st, oList, []*value{text(path.Join(appDir, path.Dir(m.file.path)))}, nil)
		}
	case "__unknown__":
		return lib("__unknown__")
	}
	if k := len(m.stars); k > 0 && isPublic(name) {
		return lib(m.stars[k-1] + "." + name)
	}
	return unknown
}

func isPublic(name string) bool { return name != "" && !strings.HasPrefix(name, "_") }

// del is "del target".
func (it *interp) del(st *state, id pysyntax.ID) {
	f := it.fr.f
	switch f.Kind(id) {
	case pysyntax.Name:
		it.bindName(st, f.Name(id), unbound)
	case pysyntax.Subscript:
		v, i := f.Subscript(id)
		c, k := it.eval(st, v), it.eval(st, i)
		if !st.dead {
			it.delItem(st, c, k)
		}
	case pysyntax.Tuple, pysyntax.List:
		for _, e := range f.Elts(id) {
			it.del(st, e)
		}
	case pysyntax.Attribute:
		v, name := f.Attribute(id)
		o := it.eval(st, v)
		if o.kind == vObj && !st.dead {
			it.write(st, o.obj).del(name)
		}
	}
}

// assign gives a target a value.
func (it *interp) assign(st *state, id pysyntax.ID, v *value) {
	if st.dead {
		return
	}
	f := it.fr.f
	n := f.Node(id)
	switch n.Kind {
	case pysyntax.Name:
		name := f.Name(id)
		if hasLabels(v) {
			v = withStep(v, it.span(id), "assigned to "+name)
		}
		it.bindName(st, name, v)
	case pysyntax.Tuple, pysyntax.List:
		it.unpack(st, f.Elts(id), v)
	case pysyntax.Starred:
		items, exact := it.iterate(st, v)
		if exact {
			it.assign(st, n.A, it.list(st, oList, items, nil))
		} else {
			it.assign(st, n.A, it.list(st, oList, nil, joinAll(items)))
		}
	case pysyntax.Attribute:
		o, name := f.Attribute(id)
		it.setAttr(st, it.eval(st, o), name, v, it.span(id))
	case pysyntax.Subscript:
		c, i := f.Subscript(id)
		cv := it.eval(st, c)
		kv := it.evalIndex(st, i)
		if st.dead {
			return
		}
		it.assignItem(st, cv, kv, v, id, c)
	}
}

// hasLabels reports whether v itself carries labels.
func hasLabels(v *value) bool {
	if len(v.labels) > 0 {
		return true
	}
	for i := range v.text {
		if len(v.text[i].labels) > 0 {
			return true
		}
	}
	for _, e := range v.elems {
		if hasLabels(e) {
			return true
		}
	}
	return v.recv != nil && hasLabels(v.recv)
}

func (it *interp) unpack(st *state, targets []pysyntax.ID, v *value) {
	f := it.fr.f
	star := slices.IndexFunc(targets, func(t pysyntax.ID) bool { return f.Kind(t) == pysyntax.Starred })
	// Alternatives of the right length are unpacked place by place.
	if v.kind == vUnion {
		cols := make([]*value, len(targets))
		ok := star < 0
		for _, a := range v.elems {
			items, exact := it.iterate(st, a)
			if !exact || len(items) != len(targets) {
				if a.kind == vNone {
					continue
				}
				ok = false
				break
			}
			for i, x := range items {
				cols[i] = join(cols[i], x)
			}
		}
		if ok && len(cols) > 0 && cols[0] != nil {
			for i, t := range targets {
				it.assign(st, t, cols[i])
			}
			return
		}
	}
	items, exact := it.iterate(st, v)
	switch {
	case exact && star < 0 && len(items) == len(targets):
		for i, t := range targets {
			it.assign(st, t, items[i])
		}
	case exact && star >= 0 && len(items) >= len(targets)-1:
		tail := len(targets) - 1 - star
		for i, t := range targets[:star] {
			it.assign(st, t, items[i])
		}
		mid := items[star : len(items)-tail]
		it.assign(st, f.Value(targets[star]), it.list(st, oList, slices.Clone(mid), nil))
		for i, t := range targets[star+1:] {
			it.assign(st, t, items[len(items)-tail+i])
		}
	default:
		e := joinAll(items)
		if e == nil {
			e = unknown
		}
		if v.kind == vObj && star < 0 {
			// A list of which the beginning is known.
			if o := it.get(st, v.obj); o != nil && o.kind == oList && o.rest != nil {
				for i, t := range targets {
					x := o.rest
					if i < len(o.elems) {
						x = o.elems[i]
					}
					it.assign(st, t, it.nth(unknownOr(noUnbound(x)), strconv.Itoa(i)))
				}
				return
			}
		}
		for i, t := range targets {
			if i == star {
				it.assign(st, f.Value(t), it.list(st, oList, nil, e))
			} else {
				it.assign(st, t, it.nth(e, strconv.Itoa(i)))
			}
		}
	}
}
