package pyflow

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// Config is what [Analyze] needs.
type Config struct {
	Sources []Source
	// Roots are the directories, relative to the project, in which absolute
	// imports are looked up, "" being the project itself; the first that has
	// the module wins.
	Roots []string
	Facts *Facts
	// Models are library modules written in Python that are run instead of
	// the library, by their dotted path. What a model does not define falls
	// back to the facts.
	Models map[string]*Source
	// Template finds a template by the name that the file from (Python or a
	// template) uses; nil means that there are none. Paths are relative to the
	// project. It must give the same for all files of a folder.
	Template func(name, from string) (path string, text []byte, ok bool)
	// Factories returns functions that make the app; it is called when all
	// modules are loaded. One that no module has called is called then, as a
	// server does.
	Factories func() []Span
	// Operations returns views that a document of the API names instead of the
	// program; it is called when all modules are loaded.
	Operations func() []Operation
	// Kept are the kinds of labels of which a view that runs later is told when
	// an earlier one left such data in an object of a module; none of them
	// means that each run stands alone.
	Kept []string
	// Steps bounds what one entry point may take; 0 means 150,000.
	Steps int
	// Workers is how many goroutines may run; 0 means one for each processor.
	// The result does not depend on it.
	Workers int
	// Panic lets a mistake of this package end the program instead of being
	// listed in [Result.GaveUp]; for tests.
	Panic bool

	forget bool // no call is remembered; for tests
}

// Operation is a view with its URL rule and with the kind of label of each
// parameter that does not come from the rule.
type Operation struct {
	At     Span // the beginning of the function's definition
	Rule   string
	Handed map[string]string
}

const (
	defaultSteps = 150_000
	shards       = 64
	// uncalledPart of the steps are for a function that nothing calls: nobody
	// outside reaches it, as far as can be seen.
	uncalledPart = 3
)

// Analyze runs the project. When ctx ends it returns what it has, every
// function that was not run being listed in [Result.GaveUp].
func Analyze(ctx context.Context, cfg Config) *Result {
	if cfg.Steps == 0 {
		cfg.Steps = defaultSteps
	}
	if cfg.Workers == 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	if cfg.Facts == nil {
		cfg.Facts, _ = ParseFacts("", "")
	}
	p := &program{ctx: ctx, cfg: cfg, facts: cfg.Facts, files: map[string]*fileInfo{}, models: map[string]*fileInfo{}}
	files := p.prepare()
	base := newInterp(p)
	world := base.loadAll(files)
	p.base, p.baseInterp = world.heap, base
	p.templateFilters, p.templateNames = base.filters, base.globals
	for _, r := range base.regOrder {
		if r.kind == "filter" || r.kind == "global" {
			m := p.templateFilters
			if r.kind == "global" {
				m = p.templateNames
			}
			name := ""
			if len(r.args) > 0 && r.args[0].isConstText() {
				name = r.args[0].str
			} else if fns := functionsIn(r.fn); len(fns) > 0 {
				name = fns[0].name
			}
			if m[name] == nil {
				m[name] = r.fn
			}
		}
	}

	a := &analysis{p: p, base: base, called: base.called}
	var units []*unit
	seen, alike := map[string]bool{}, map[string]int{}
	for _, r := range base.regOrder {
		// A closure that is made in a loop is another view for each rule.
		k := r.key()
		if full := k + "\x00" + r.rule(); !seen[full] && alike[k] < maxAlike {
			seen[full] = true
			alike[k]++
			units = append(units, &unit{reg: r, file: r.at.File, pos: r.at.Start})
		}
	}
	// Hooks first: what they leave in flask.g the views read.
	var hooks []*unit
	units = slices.DeleteFunc(units, func(u *unit) bool {
		hook := u.reg.kind == "hook"
		if hook {
			hooks = append(hooks, u)
		}
		return hook
	})
	if len(hooks) > 0 {
		a.run(hooks)
		for _, it := range a.workers {
			for _, k := range sortedKeys(it.libFields) {
				base.libFields[k] = join(base.libFields[k], it.libFields[k])
			}
		}
	}
	a.run(units)
	a.runKept(slices.Concat(hooks, units))
	units = nil
	done := map[funcKey]bool{}
	for _, fn := range base.made {
		k := funcKey{fn.file, fn.id}
		if a.called[k] || done[k] || fn.file.model || fn.file.src.Test {
			continue
		}
		done[k] = true
		units = append(units, &unit{fn: fn, file: fn.file.path, pos: fn.file.f.Node(fn.id).Start})
	}
	slices.SortStableFunc(units, func(x, y *unit) int {
		return cmp.Or(strings.Compare(x.file, y.file), cmp.Compare(x.pos, y.pos))
	})
	a.run(units)
	return a.result()
}

// prepare finds the scopes of every file and names the modules.
func (p *program) prepare() []*fileInfo {
	var files []*fileInfo
	for i := range p.cfg.Sources {
		s := &p.cfg.Sources[i]
		if s.Python == nil {
			continue
		}
		files = append(files, &fileInfo{src: s, f: s.Python, path: s.Path, literals: make([]atomic.Pointer[value], len(s.Python.Nodes))})
	}
	slices.SortFunc(files, func(a, b *fileInfo) int { return strings.Compare(a.path, b.path) })
	all := slices.Clone(files)
	for _, name := range sortedKeys(p.cfg.Models) {
		s := p.cfg.Models[name]
		fi := &fileInfo{src: s, f: s.Python, path: s.Path, name: name, model: true}
		p.models[name] = fi
		all = append(all, fi)
	}
	var wg sync.WaitGroup
	next := make(chan *fileInfo)
	for range p.cfg.Workers {
		wg.Go(func() {
			for fi := range next {
				fi.scopes = buildScopes(fi.f)
				fi.urlNames, fi.urlOpen = urlNames(fi.f)
				fi.globalNames = globalNames(fi.f)
				fi.params = map[pysyntax.ID][]pysyntax.Param{}
				for id := range fi.scopes {
					switch fi.f.Kind(id) {
					case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef, pysyntax.Lambda:
						fi.params[id] = fi.f.Params(id)
					}
				}
			}
		})
	}
	for _, fi := range all {
		next <- fi
	}
	close(next)
	wg.Wait()
	p.urlNames, p.globalNames = map[string]bool{}, map[string]bool{}
	for _, fi := range files {
		p.urlOpen = p.urlOpen || fi.urlOpen
		for _, name := range fi.urlNames {
			p.urlNames[name] = true
		}
		for _, name := range fi.globalNames {
			p.globalNames[name] = true
		}
		fi.pkg = strings.HasSuffix("/"+fi.path, "/__init__.py")
		p.files[fi.path] = fi
	}
	p.nameModules(files)
	p.folders = folderIndex(files)
	p.tagBits = map[string]tags{}
	p.library = map[string]bool{}
	kinds := map[string]bool{}
	note := func(f Fact) {
		switch f.Verb {
		case "sink", "checks", "ensures":
			kinds[f.Args[0]] = true
		case "clean":
			for _, k := range f.Args {
				kinds[k] = true
			}
		}
	}
	for path, list := range p.facts.byPath {
		top, _, _ := strings.Cut(path, ".")
		p.library[top] = true
		for _, f := range list {
			note(f)
		}
	}
	for _, list := range p.facts.any {
		for _, f := range list {
			note(f)
		}
	}
	delete(kinds, "*")
	for _, k := range [...]string{"response", "template", "tojson", "script", "html", pathSetting, urlSetting} {
		kinds[k] = true
	}
	for i, k := range sortedKeys(kinds) {
		if i < 63 {
			p.tagBits[k] = 1 << i
			p.tagList = append(p.tagList, k)
		}
	}
	p.tagBits["guess"] = guess
	p.builtin = map[string]*value{}
	for _, n := range builtinNames {
		p.builtin[n] = lib("builtins." + n)
	}
	return files
}

var builtinNames = strings.Fields(`abs aiter all anext any ascii bin bool breakpoint bytearray bytes callable chr classmethod
compile complex delattr dict dir divmod enumerate eval exec filter float format frozenset getattr globals hasattr hash
help hex id input int isinstance issubclass iter len list locals map max memoryview min next object oct open ord pow
print property range repr reversed round set setattr slice sorted staticmethod str sum super tuple type vars zip
__import__ unicode basestring xrange raw_input reduce reload unichr long execfile
BaseException Exception ArithmeticError AssertionError AttributeError BufferError EOFError FileExistsError FileNotFoundError
ImportError IndexError InterruptedError IsADirectoryError KeyError KeyboardInterrupt LookupError ModuleNotFoundError NameError
NotADirectoryError NotImplementedError OSError IOError OverflowError PermissionError RecursionError ReferenceError RuntimeError
StopIteration StopAsyncIteration SyntaxError SystemError SystemExit TimeoutError TypeError UnicodeDecodeError UnicodeEncodeError
UnicodeError ValueError ZeroDivisionError ConnectionError NotImplemented Warning DeprecationWarning UserWarning`)

func newInterp(p *program) *interp {
	return &interp{
		p: p, derived: map[derivation]*sym{}, sources: map[sourceKey]*source{}, srcSyms: map[sourceKey]*sym{},
		called: map[funcKey]bool{}, modules: map[string]*module{}, limit: p.cfg.Steps,
		memo: map[memoKey][]*memoEntry{}, remembers: map[*function]int{}, canons: map[funcKey]*function{}, contexts: map[*function]callCost{}, active: map[*function]int{},
		hits: map[string]*Hit{}, perPlace: map[hitPlace]int{}, views: map[funcKey]string{},
		converters: map[string]*value{}, flat: []*object{nil}, readRound: &readRound{}, libFields: map[string]*value{}, fieldSyms: map[*sym]Field{}, filters: map[string]*value{}, globals: map[string]*value{}, selves: map[*class]*selfState{}, notes: &noteSet{},
	}
}

// shard returns an interpreter that goes on from the loaded program.
// Its worker lends it reads.
func (it *interp) shard(reads *readRound) *interp {
	n := newInterp(it.p)
	n.derived, n.sources, n.srcSyms = maps.Clone(it.derived), maps.Clone(it.sources), maps.Clone(it.srcSyms)
	n.modules, n.views, n.converters = maps.Clone(it.modules), maps.Clone(it.views), it.converters
	n.nextObj, n.baseTop = it.nextObj, it.nextObj
	n.flat, n.readRound = it.flat, reads
	n.again = it.again
	n.libFields = maps.Clone(it.libFields)
	return n
}

// loadAll runs every module.
func (it *interp) loadAll(files []*fileInfo) *state {
	it.loading = true
	st := &state{}
	it.own(st)
	it.makeFiles(st)
	for _, name := range sortedKeys(it.p.models) {
		it.load(st, it.p.models[name])
	}
	for _, fi := range files {
		if !fi.src.Test {
			it.load(st, fi)
		}
		if st.heap.depth > 64 {
			st.heap.flatten()
		}
	}
	it.runFactories(st)
	it.registerOperations(st)
	it.loading = false
	it.promote()
	st.heap.flatten()
	for id, o := range st.heap.objs.each {
		it.flat[id] = o
	}
	it.arena, it.memo, it.baseWritten = nil, nil, nil
	return &state{heap: &heap{}, shared: true}
}

// runFactories calls the functions that make the app and that no module has
// called: what they keep is there before any request.
func (it *interp) runFactories(st *state) {
	if it.p.cfg.Factories == nil {
		return
	}
	for _, at := range it.p.cfg.Factories() {
		for _, fn := range it.made {
			if fn.nested || fn.owner != nil || fn.file.path != at.File || fn.file.src.Test || fn.file.f.Node(fn.id).Start != at.Start || it.called[funcKey{fn.file, fn.id}] {
				continue
			}
			it.begin()
			s := &state{heap: st.heap, shared: true}
			st.shared = true
			it.callFunction(s, fn, nil, &call{rest: unknown})
			it.total += it.steps
			if it.out() {
				it.gaveUp = append(it.gaveUp, GaveUp{At: at, Name: fn.fullName(), Reason: "it takes too many steps"})
			}
			if !s.dead {
				st.heap, st.shared = s.heap, true
				it.promote()
			}
		}
	}
}

// registerOperations registers the views that documents name.
func (it *interp) registerOperations(st *state) {
	if it.p.cfg.Operations == nil {
		return
	}
	for _, o := range it.p.cfg.Operations() {
		for _, fn := range it.made {
			if fn.nested || fn.file.path != o.At.File || fn.file.f.Node(fn.id).Start != o.At.Start {
				continue
			}
			r := &registration{kind: "view", path: "connexion.operation", at: fn.span(), args: []*value{text(o.Rule)}, fn: &value{kind: vFunc, fn: fn}, handed: o.Handed}
			if ns := it.get(st, fn.mod.ns); fn.owner == nil && ns != nil {
				// What its decorators made of it is what is called.
				if v, _ := bound(ns.get(fn.name)); v != nil && callable(v) && len(functionsIn(v)) > 0 && functionsIn(v)[0] != fn {
					r.fn, r.orig = v, fn
				}
			}
			it.register(st, r)
			it.views[funcKey{fn.file, fn.id}] = r.kind
			break
		}
	}
}

// flatten makes h a heap without parents.
func (h *heap) flatten() {
	for n := h.parent; n != nil; n = n.parent {
		for id, o := range n.objs.each {
			if h.objs.get(id) == nil {
				h.objs.set(id, o)
			}
		}
	}
	h.parent = nil
	h.depth = 0
}

// unit is one function to be run.
type unit struct {
	reg  *registration
	fn   *function
	file string
	pos  uint32
	// reads are the objects of the base heap that its runs have read.
	reads []objID
}

// maxAlike bounds how many registrations of one function at one place run.
const maxAlike = 64

// rule is the first text that a closure is registered with: a URL rule. A
// function of no surroundings is the same one under each rule, and "" here.
func (r *registration) rule() string {
	if !slices.ContainsFunc(functionsIn(r.fn), func(fn *function) bool { return fn.nested && len(fn.free) > 0 }) {
		return ""
	}
	for _, a := range r.args {
		if a.isConstText() {
			return a.str
		}
	}
	return ""
}

func (r *registration) key() string {
	var b strings.Builder
	if r.fn.kind == vTuple && r.fn.str == "asview" && r.fn.elems[0].kind == vClass {
		b.WriteString(r.fn.elems[0].cls.path())
	}
	for _, fn := range functionsIn(r.fn) {
		b.WriteString(fn.file.path)
		b.WriteByte(0)
		b.WriteString(fn.qual)
		b.WriteByte(byte(fn.id))
		b.WriteByte(byte(fn.id >> 8))
		b.WriteByte(byte(fn.id >> 16))
	}
	if r.fn.kind == vClass {
		b.WriteString(r.fn.cls.path())
	}
	b.WriteString(r.kind)
	b.WriteString(r.at.File)
	for _, n := range []uint32{r.at.Start, r.at.End} {
		b.WriteByte(byte(n))
		b.WriteByte(byte(n >> 8))
		b.WriteByte(byte(n >> 16))
	}
	return b.String()
}

// analysis gathers the results of shards.
type analysis struct {
	p       *program
	base    *interp
	called  map[funcKey]bool
	workers []*interp
}

// run runs units in a fixed number of shards, each in order.
func (a *analysis) run(units []*unit) {
	n := min(shards, len(units))
	if n == 0 {
		return
	}
	its := make([]*interp, n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(a.p.cfg.Workers, n) {
		wg.Go(func() {
			reads := &readRound{readAt: make([]uint32, a.base.baseTop+1)}
			for i := range next {
				it := a.base.shard(reads)
				its[i] = it
				for _, u := range units[i*len(units)/n : (i+1)*len(units)/n] {
					it.runUnit(u)
				}
				it.release()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	for _, it := range its {
		maps.Copy(a.called, it.called)
	}
	a.workers = append(a.workers, its...)
}

// release drops what only running needs.
func (it *interp) release() {
	it.readRound, it.wrote, it.read, it.canons, it.remembers, it.arena = nil, nil, nil, nil, nil, nil
	it.memo, it.derived, it.sources, it.srcSyms, it.modules, it.made = nil, nil, nil, nil, nil, nil
	it.selves, it.contexts, it.active, it.regOrder, it.views = nil, nil, nil, nil, nil
}

func (a *analysis) result() *Result {
	r := &Result{}
	hits := map[string]*Hit{}
	places := map[hitPlace]int{}
	for _, it := range append([]*interp{a.base}, a.workers...) {
		for _, k := range sortedKeys(it.hits) {
			h := it.hits[k]
			place := hitPlace{h.At, h.Verb, h.Kind, h.Path}
			if old, ok := hits[k]; ok {
				if old.Entry == nil {
					hits[k] = h
				}
				continue
			}
			if places[place] >= 2*hitsPerPlace {
				continue
			}
			places[place]++
			hits[k] = h
		}
		r.Entries = append(r.Entries, it.entries...)
		r.GaveUp = append(r.GaveUp, it.gaveUp...)
		r.Functions += it.funcs
		r.Steps += it.total
	}
	for _, k := range sortedKeys(hits) {
		r.Hits = append(r.Hits, hits[k])
	}
	slices.SortStableFunc(r.Entries, func(x, y *Entry) int {
		return cmp.Or(compareSpan(x.Register, y.Register), compareSpan(x.At, y.At), strings.Compare(x.Kind, y.Kind))
	})
	slices.SortStableFunc(r.GaveUp, func(x, y GaveUp) int { return compareSpan(x.At, y.At) })
	r.GaveUp = slices.Compact(r.GaveUp)
	return r
}

func compareSpan(a, b Span) int {
	return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End))
}

// runUnit runs one function with what it registers and makes.
func (it *interp) runUnit(u *unit) {
	if it.p.ctx.Err() != nil {
		name, at := "", Span{File: u.file, Start: u.pos, End: u.pos}
		if u.fn != nil {
			name = u.fn.fullName()
		}
		it.gaveUp = append(it.gaveUp, GaveUp{At: at, Name: name, Reason: "the audit was called off"})
		return
	}
	// A mistake of ours in one function must not cost the others.
	defer func() {
		if r := recover(); r != nil {
			if it.p.cfg.Panic {
				panic(r)
			}
			name := ""
			if u.fn != nil {
				name = u.fn.fullName()
			}
			it.gaveUp = append(it.gaveUp, GaveUp{At: Span{File: u.file, Start: u.pos, End: u.pos}, Name: name, Reason: fmt.Sprintf("internal error: %v", r)})
			it.active, it.depth, it.nested = map[*function]int{}, 0, 0
		}
	}()
	it.fieldGen = 0
	clear(it.baseWritten)
	it.unit++
	st := &state{heap: it.p.base, shared: true}
	if u.reg != nil {
		it.running = u
		it.runEntry(st, u.reg, 0)
		it.running = nil
		return
	}
	if it.called[funcKey{u.fn.file, u.fn.id}] {
		return
	}
	it.runFunction(st, u.fn, 0)
}

const maxNesting = 4

// begin prepares the interpreter for a run from outside.
func (it *interp) begin() {
	it.steps, it.mark, it.wrote, it.read = 0, 0, it.wrote[:0], it.read[:0]
	it.fr, it.depth, it.raised, it.decorating, it.cut = nil, 0, nil, 0, nil
	it.firstWrite = 0
	it.notes = &noteSet{}
	it.rule, it.method = "", ""
}

// finish runs what a run has registered and made: in the state it ended in.
func (it *interp) finish(st *state, name string, at Span, regs, made, nesting int) {
	it.total += it.steps
	if it.out() {
		it.gaveUp = append(it.gaveUp, GaveUp{At: at, Name: name, Reason: "it takes too many steps"})
	}
	if nesting >= maxNesting {
		return
	}
	st.shared = true
	for i := regs; i < len(it.regOrder) && i < regs+2000; i++ {
		r := it.regOrder[i]
		k := r.key()
		if it.ranReg[k] {
			continue
		}
		if it.ranReg == nil {
			it.ranReg = map[string]bool{}
		}
		it.ranReg[k] = true
		s := &state{heap: st.heap, shared: true, known: st.known}
		it.runEntry(s, r, nesting+1)
	}
	end := len(it.made)
	for i := made; i < end && i < made+500; i++ {
		fn := it.made[i]
		if it.called[funcKey{fn.file, fn.id}] || fn.file.model || fn.expr != 0 {
			continue
		}
		s := &state{heap: st.heap, shared: true, known: st.known}
		it.runFunction(s, fn, nesting+1)
	}
}

// runFunction runs a function that nothing calls.
func (it *interp) runFunction(st *state, fn *function, nesting int) {
	it.begin()
	regs, made := len(it.regOrder), len(it.made)
	it.entry = nil
	var self *value
	if fn.owner != nil && len(fn.params) > 0 && !fn.nested {
		st, self = it.selfFor(st, fn.owner)
		it.begin()
	}
	it.mark = it.baseTop + 1
	limit := it.limit
	it.limit /= uncalledPart
	it.callFunction(st, fn, self, &call{rest: unknown})
	gone := it.out()
	it.limit = limit
	if gone {
		it.steps = max(it.steps, limit+1) // so that it is told
	}
	if st.heap == nil {
		st.heap = it.p.base
	}
	it.finish(st, fn.fullName(), fn.span(), regs, made, nesting)
}

// selfState is an instance of a class after its constructor ran on unknown
// arguments.
type selfState struct {
	heap *heap
	v    *value
}

// selfFor returns an instance for calling a method of a class.
func (it *interp) selfFor(st *state, c *class) (*state, *value) {
	if st.heap != it.p.base {
		v := &value{kind: vObj, obj: it.alloc(st, &object{kind: oInstance, cls: c, rest: unknown})}
		return st, v
	}
	s := it.selves[c]
	if s == nil {
		s = &selfState{}
		v := &value{kind: vObj, obj: it.alloc(st, &object{kind: oInstance, cls: c, rest: unknown})}
		if init := c.lookup(it, st, "__init__"); init != nil && init.kind == vFunc {
			try := st.fork()
			old := it.limit
			it.limit = it.steps + 20_000
			it.callFunction(try, init.fn, v, &call{rest: unknown})
			it.limit = old
			if !try.dead {
				st = &state{heap: try.heap, shared: true}
				it.write(st, v.obj).rest = unknown
			}
		}
		s.heap, s.v = st.heap, v
		it.selves[c] = s
	}
	return &state{heap: s.heap, shared: true}, s.v
}

// runEntry calls a registered function as its caller would.
func (it *interp) runEntry(st *state, r *registration, nesting int) {
	it.begin()
	regs, made := len(it.regOrder), len(it.made)
	e := &Entry{Kind: r.kind, Path: r.path, Register: r.at, Keywords: map[string]Value{}}
	z := freezer{it: it, st: st, seen: map[objID]bool{}, traces: true}
	for _, a := range r.args {
		e.Args = append(e.Args, z.value(a, 0))
	}
	for _, k := range r.kw {
		e.Keywords[k.name] = z.value(k.v, 0)
	}
	if r.self != nil {
		e.Self = z.value(r.self, 0)
	}
	it.entry = e
	it.rule, it.method = staticRule(r), soleMethod(r, e)
	defer func() { it.rule, it.method = "", "" }()
	it.mark = it.baseTop + 1
	fns := functionsIn(r.fn)
	if len(fns) > 0 {
		fn := fns[0]
		if r.orig != nil {
			fn = r.orig
		}
		e.At, e.Name, e.Function = fn.span(), fn.fullName(), fn.name
	}
	class := r.fn.kind == vClass || r.fn.kind == vTuple
	for i, target := range it.entryTargets(&st, r) {
		if i > 0 {
			// Each method of a class is an entry of its own.
			c := *e
			e = &c
			e.Fields, e.Sinks = nil, nil
			it.notes = &noteSet{}
			it.entry = e
		}
		if class && target.kind == vBound && target.fn != nil {
			it.views[funcKey{target.fn.file, target.fn.id}] = r.kind
			e.At, e.Name, e.Function = target.fn.span(), target.fn.fullName(), target.fn.name
		}
		s := st.fork()
		it.given = nil
		v := it.call(s, target, it.entryArgs(s, r, target))
		if !s.dead {
			st = s
			if r.orig != nil && len(it.given) > 0 {
				z := freezer{it: it, st: st, seen: map[objID]bool{}, traces: true}
				answer := z.value(it.refined(st, v), 0)
				for _, h := range it.given {
					h.Answer = &answer
				}
			}
			if strings.HasSuffix(r.path, "context_processor") {
				it.contextNames(st, v)
			}
			it.keep(st)
		}
		if u := it.running; u != nil && !it.again {
			u.reads = append(u.reads, it.distinctReads(0)...)
			slices.Sort(u.reads)
			u.reads = slices.Compact(u.reads)
		}
		e.Fields = sortedFields(it.notes.fields)
		e.Sinks = sortedKeys(it.notes.sinks)
		it.entries = append(it.entries, e)
	}
	it.finish(st, e.Name, e.At, regs, made, nesting)
	it.entry = nil
}

func sortedFields(m map[Field]bool) []Field {
	out := make([]Field, 0, len(m))
	for f := range m {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b Field) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name), compareSpan(a.At, b.At), strings.Compare(a.Type, b.Type))
	})
	return out
}

var methodNames = []string{"dispatch_request", "get", "post", "put", "patch", "delete", "head", "options"}

// entryTargets returns what is called when fn is: of a class its methods.
func (it *interp) entryTargets(st **state, r *registration) []*value {
	fn := r.fn
	var c *class
	switch {
	case fn.kind == vClass:
		c = fn.cls
	case fn.kind == vTuple && fn.str == "asview" && fn.elems[0].kind == vClass:
		c = fn.elems[0].cls
	case r.orig != nil && r.orig.owner != nil && !r.orig.nested && len(r.orig.params) > 0:
		s, self := it.selfFor(*st, r.orig.owner)
		*st = s
		return []*value{it.bindMethod(s, fn, self)}
	case fn.kind == vUnion:
		return fn.elems
	case fn.kind == vFunc && fn.fn.owner != nil && !fn.fn.nested && len(fn.fn.params) > 0:
		// A method that was registered in the body of its class.
		s, self := it.selfFor(*st, fn.fn.owner)
		*st = s
		return []*value{it.bindMethod(s, fn, self)}
	default:
		return []*value{fn}
	}
	s, self := it.selfFor(*st, c)
	*st = s
	var out []*value
	for _, n := range methodNames {
		if m := c.lookup(it, s, n); m != nil && m.kind == vFunc {
			out = append(out, it.bindMethod(s, m, self))
		}
	}
	if len(out) == 0 {
		out = append(out, fn)
	}
	return out
}
