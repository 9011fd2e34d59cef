package seclang

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/dewar-security/dewar/internal/rxset"
)

// Files reads the files that rules name, as the Coraza instance reads them.
type Files interface {
	ReadFile(name string) ([]byte, error)
}

// hits are the leaves that a value matches: operators, each on the result of
// its transformations.
type hits []uint16

func (h hits) has(leaf int) bool {
	for _, l := range h {
		if int(l) == leaf {
			return true
		}
	}
	return false
}

// scanner finds the leaves of values. Transformations form a tree, so that
// what rules share is done once, and a transformation is left out where the
// value holds no byte that it changes. Each different result is matched once
// against all operators that any rule applies to it.
type scanner struct {
	set   *rxset.Set
	funcs []*operator // numbered after the patterns of set
	width int         // patterns and funcs
	nodes []node
	// classes are kinds of values on which the same leaves are looked for.
	classes  []*class
	byName   [2 * lists]map[string]*class
	defaults [2 * lists]*class
	singles  []singleClass
	leaves   int
	cache    *cache
}

// node is a transformation of the result of another node; node 0 is the value.
type node struct {
	parent int
	step   step
	// strict is how multiMatch goes on: only with results that the
	// transformation itself calls changed.
	strict  bool
	trigger charset
}

type singleClass struct {
	v     variables.RuleVariable
	class *class
}

// class is what is looked for in one kind of value.
type class struct {
	id    int
	steps []use
	// trigger are the bytes without which no transformation of the class
	// changes a value; all is then what is looked for.
	trigger charset
	all     rxset.Bits
}

// use is one node in a class with the operators that look at its result.
type use struct {
	node   int
	parent int // its place in the class's steps
	among  rxset.Bits
	leaves []leafRef
}

type leafRef struct{ pattern, leaf uint16 }

// build collects what newScanner needs.
type build struct {
	p        *Program
	s        *scanner
	patterns map[string]int
	list     []rxset.Pattern
	funcs    []*operator
	funcAt   map[string]int
	nodes    map[[3]any]int
	leaves   map[[2]any]int
	files    Files
}

func newScanner(p *Program, files Files) (*scanner, error) {
	s := &scanner{nodes: []node{{}}}
	b := &build{p: p, s: s, files: files, patterns: map[string]int{}, funcAt: map[string]int{}, nodes: map[[3]any]int{}, leaves: map[[2]any]int{}}
	type wanted struct {
		r       *rule
		pattern int // negative: ^index into funcs
		nodes   []int
	}
	var all []wanted
	seen := map[*rule]bool{}
	for phase := types.PhaseRequestHeaders; phase <= types.PhaseResponseBody; phase++ {
		for _, op := range p.phases[phase] {
			r := op.rule
			if r == nil || seen[r] || !scannable(p, r) {
				continue
			}
			seen[r] = true
			if f := foresee(p, r); f != nil {
				b.funcs = append(b.funcs, f)
				all = append(all, wanted{r, ^(len(b.funcs) - 1), b.path(r)})
				continue
			}
			all = append(all, wanted{r, b.pattern(r.op), b.path(r)})
		}
	}
	var err error
	if s.set, err = rxset.Compile(b.list); err != nil {
		return nil, err
	}
	if err := b.quicken(); err != nil {
		return nil, err
	}
	s.funcs, s.width = b.funcs, len(b.list)+len(b.funcs)

	// What is looked for in which kind of value.
	type request struct {
		node, pattern, leaf int
	}
	named := [2 * lists]map[string][]request{}
	general := [2 * lists][]request{}
	single := map[variables.RuleVariable][]request{}
	for i := range named {
		named[i] = map[string][]request{}
	}
	// First the names, so that what looks at all of them reaches each.
	for _, w := range all {
		for _, t := range w.r.targets {
			for _, v := range t.views {
				if t.keyRx == nil && t.key != "" {
					if k := source(v); named[k][t.fold] == nil {
						named[k][t.fold] = []request{}
					}
				}
			}
		}
	}
	for _, w := range all {
		pattern := w.pattern
		if pattern < 0 {
			pattern = len(b.list) + ^pattern
		}
		leaf := b.leaf(w.nodes[len(w.nodes)-1], pattern, w.r.multi)
		w.r.leaf = leaf
		w.r.scanned = pattern < len(b.list) || b.funcs[pattern-len(b.list)].foreseen == nil
		nodes := w.nodes[len(w.nodes)-1:]
		if w.r.multi {
			nodes = w.nodes
		}
		for _, n := range nodes {
			q := request{n, pattern, leaf}
			for _, t := range w.r.targets {
				if t.single {
					single[t.v] = append(single[t.v], q)
					continue
				}
				for _, v := range t.views {
					k := source(v)
					if t.keyRx == nil && t.key != "" {
						named[k][t.fold] = append(named[k][t.fold], q)
						continue
					}
					general[k] = append(general[k], q)
					for name := range named[k] {
						named[k][name] = append(named[k][name], q)
					}
				}
			}
		}
	}
	same := map[string]*class{}
	make := func(list []request) *class {
		if len(list) == 0 {
			return nil
		}
		slices.SortFunc(list, func(a, b request) int {
			if a.node != b.node {
				return a.node - b.node
			}
			if a.pattern != b.pattern {
				return a.pattern - b.pattern
			}
			return a.leaf - b.leaf
		})
		list = slices.Compact(list)
		var key strings.Builder
		for _, q := range list {
			for _, n := range [...]int{q.node, q.pattern, q.leaf} {
				key.WriteByte(byte(n))
				key.WriteByte(byte(n >> 8))
			}
		}
		if c := same[key.String()]; c != nil {
			return c
		}
		c := &class{id: len(s.classes), all: rxset.NewBits(s.width)}
		need := map[int]bool{0: true}
		for _, q := range list {
			for n := q.node; n != 0; n = s.nodes[n].parent {
				need[n] = true
			}
		}
		place := map[int]int{}
		for n := range s.nodes {
			if !need[n] {
				continue
			}
			place[n] = len(c.steps)
			u := use{node: n, parent: place[s.nodes[n].parent]}
			for _, q := range list {
				if q.node == n {
					if u.among == nil {
						u.among = rxset.NewBits(s.width)
					}
					u.among.Set(q.pattern)
					c.all.Set(q.pattern)
					u.leaves = append(u.leaves, leafRef{uint16(q.pattern), uint16(q.leaf)})
				}
			}
			c.trigger |= s.nodes[n].trigger
			c.steps = append(c.steps, u)
		}
		s.classes = append(s.classes, c)
		same[key.String()] = c
		return c
	}
	for k := range named {
		s.byName[k] = map[string]*class{}
		s.defaults[k] = make(general[k])
		for name, list := range named[k] {
			s.byName[k][name] = make(list)
		}
	}
	for _, v := range singleList {
		if c := make(single[v]); c != nil {
			s.singles = append(s.singles, singleClass{v, c})
		}
	}
	s.leaves = len(b.leaves)
	s.cache = newCache()
	return s, nil
}

// singleList holds the variables of singles in order.
var singleList = func() (out []variables.RuleVariable) {
	for v := range singles {
		out = append(out, v)
	}
	slices.Sort(out)
	return out
}()

// source numbers the values and names of lists.
func source(v view) int {
	k := 2 * int(v.list)
	if v.names {
		k++
	}
	return k
}

// scannable reports whether what r's operator says of a value is the same
// whenever it is asked.
func scannable(p *Program, r *rule) bool {
	switch {
	case r.trouble != "" || r.op == nil || r.always || len(r.targets) == 0:
		return false
	case r.op.macro != nil && !r.op.macro.constant():
		return false
	case r.op.negated && (r.capture || r.multi || p.cfg.prefilter):
		return false
	}
	for _, t := range r.targets {
		if t.count || volatile[t.v] || !t.single && t.views == nil {
			return false
		}
	}
	return true
}

// foreseen is a chain of the form
//
//	SecRule LIST "@rx …" "capture,setvar:'tx.prefix_%{tx.0}=…%{tx.0}…',chain"
//	  SecRule TX:/^prefix_/ "@within …"
//
// with which the Core Rule Set compares parts of every header name with a
// list. Its first link matches in every request, but of one value it can be
// said beforehand whether the second link would match what it sets.
type foreseen struct {
	head, link *rule
	digits     uint16 // captures that the variable set is made of
	// others are names that other rules look at.
	others []*regexp.Regexp
}

// foresee returns the operator that says whether a value can make a chain of
// that form match, or nil.
func foresee(p *Program, r *rule) *operator {
	c := r.chain
	if c == nil || c.chain != nil || r.op.name != "rx" || r.op.negated || !r.capture || r.multi || c.multi || c.capture ||
		len(r.effects) != 1 || r.effects[0].kind != setVariable || len(c.targets) != 1 {
		return nil
	}
	e, t := &r.effects[0], &c.targets[0]
	if len(e.key.tokens) < 2 || e.key.tokens[0].v != variables.Unknown || t.v != variables.TX || t.keyRx == nil || t.count || len(t.except) > 0 {
		return nil
	}
	prefix := strings.ToLower(e.key.tokens[0].text)
	if t.keyRx.String() != "^"+regexp.QuoteMeta(prefix) {
		return nil
	}
	f := &foreseen{head: r, link: c}
	for _, t := range slices.Concat(e.key.tokens, e.value.tokens) {
		switch {
		case t.v == variables.Unknown:
		case t.v == variables.TX && t.slot < 10:
			f.digits |= 1 << t.slot
		default:
			return nil
		}
	}
	if op := c.op; op == nil || op.macro != nil && !op.macro.constant() || op.macro == nil && op.name != "rx" && op.name != "pm" {
		return nil
	}
	// Nobody else may set these variables, and who sees them is asked.
	for _, n := range p.names {
		if strings.HasPrefix(n, prefix) {
			return nil
		}
	}
	for _, o := range p.rules {
		for l := o; l != nil; l = l.chain {
			for i := range l.targets {
				u := &l.targets[i]
				if u.v != variables.TX || u == t || u.keyRx == nil && u.key != "" {
					continue
				}
				if u.keyRx == nil {
					return nil
				}
				f.others = append(f.others, u.keyRx)
			}
			for i := range l.effects {
				u := &l.effects[i]
				if u.kind != setVariable && u.kind != removeVariable || u == e || u.key.constant() {
					continue
				}
				other := ""
				if u.key.tokens[0].v == variables.Unknown {
					other = strings.ToLower(u.key.tokens[0].text)
				}
				if n := min(len(other), len(prefix)); other[:n] == prefix[:n] {
					return nil
				}
			}
		}
	}
	return &operator{name: "foreseen", foreseen: f}
}

// possible reports whether the chain can match for a value of its first link.
func (f *foreseen) possible(text string) bool {
	x := &Transaction{tx: make([]variable, len(digitNames)), capture: true}
	if !f.head.op.run.Evaluate((*capturer)(x), text) {
		return false
	}
	if f.digits&^x.written != 0 {
		return true // it depends on what other rules captured
	}
	key, _ := x.expand(f.head.effects[0].key)
	for _, rx := range f.others {
		if rx.MatchString(strings.ToLower(key)) {
			return true
		}
	}
	value, _ := x.expand(f.head.effects[0].value)
	if out, ok := setvar("", value); !ok || out != value {
		return true
	}
	for _, s := range f.link.steps {
		if out, _, err := s.fn(value); err == nil {
			value = out
		}
	}
	x.capture = false
	return x.matchesOperator(f.link.op, value)
}

// quicken gives every operator that is a pattern its test: those of the links
// of chains, and of rules that are not scanned, have a set of their own, so
// that they are no burden to scans.
func (b *build) quicken() error {
	rest := &build{files: b.files, patterns: map[string]int{}}
	at := map[*operator]int{}
	for _, r := range b.p.rules {
		for l := r; l != nil; l = l.chain {
			if l.op == nil || l.op.macro != nil {
				continue
			}
			pattern, key, ok := b.patternOf(l.op)
			if !ok {
				continue
			}
			if i, known := b.patterns[key]; known {
				l.op.test = func(value string) bool { return b.s.set.Contains(i, value) }
				continue
			}
			at[l.op] = rest.number(pattern, key)
		}
	}
	set, err := rxset.Compile(rest.list)
	if err != nil {
		return err
	}
	for op, i := range at {
		op.test = func(value string) bool { return set.Contains(i, value) }
	}
	return nil
}

// patternOf returns what an operator looks for, if it is a pattern, and a
// name that is the same for operators that look for the same.
func (b *build) patternOf(op *operator) (pattern rxset.Pattern, key string, ok bool) {
	switch op.name {
	case "rx":
		pattern = rxset.Pattern{Mode: rxset.Rx, Expr: op.arg}
	case "pm":
		pattern = rxset.PM(op.arg)
	case "pmFromFile", "pmf":
		if data, ok := b.file(op); ok {
			pattern = rxset.PMFile(data)
		}
	}
	// The empty phrase, or a file that is not found as Coraza found it, is
	// left to Coraza's own code.
	ok = op.name == "rx" || len(pattern.Phrases) > 0
	for _, phrase := range pattern.Phrases {
		ok = ok && phrase != "" && op.run.Evaluate(plain, phrase)
	}
	key = op.name + " " + op.arg
	if strings.HasPrefix(op.name, "pmF") || op.name == "pmf" {
		key += " " + op.file
	}
	return pattern, key, ok
}

// number puts a pattern into the list, once.
func (b *build) number(pattern rxset.Pattern, key string) int {
	i, known := b.patterns[key]
	if !known {
		i = len(b.list)
		b.patterns[key] = i
		b.list = append(b.list, pattern)
	}
	return i
}

// pattern numbers an operator: patterns of the set from 0 up, others from -1
// down.
func (b *build) pattern(op *operator) int {
	pattern, key, ok := b.patternOf(op)
	if ok {
		return b.number(pattern, key)
	}
	i, known := b.funcAt[key]
	if !known {
		i = len(b.funcs)
		b.funcAt[key] = i
		plainOp := *op
		plainOp.negated = false
		b.funcs = append(b.funcs, &plainOp)
	}
	return ^i
}

// file reads the file of a …FromFile operator where Coraza looks for it.
func (b *build) file(op *operator) ([]byte, bool) {
	if b.files == nil {
		return nil, false
	}
	names := []string{op.arg}
	if !path.IsAbs(op.arg) {
		names = []string{path.Join(path.Dir(op.file), op.arg)}
		if wd, err := os.Getwd(); err == nil {
			names = append(names, path.Join(wd, op.arg))
		}
	}
	for _, n := range names {
		data, err := b.files.ReadFile(n)
		if err == nil {
			return data, true
		}
		if !os.IsNotExist(err) {
			return nil, false
		}
	}
	return nil, false
}

// plain is a transaction that captures nothing.
var plain = (*capturer)(&Transaction{})

// path returns the nodes of r's transformations, the value itself first.
func (b *build) path(r *rule) []int {
	at, out := 0, []int{0}
	for _, st := range r.steps {
		k := [3]any{at, st.name, r.multi}
		n, ok := b.nodes[k]
		if !ok {
			n = len(b.s.nodes)
			b.nodes[k] = n
			b.s.nodes = append(b.s.nodes, node{parent: at, step: st, strict: r.multi, trigger: triggers[st.name]})
		}
		at = n
		out = append(out, n)
	}
	return out
}

// leaf numbers a pattern at the end of a path.
func (b *build) leaf(node, pattern int, multi bool) int {
	k := [2]any{[2]int{node, pattern}, multi}
	n, ok := b.leaves[k]
	if !ok {
		n = len(b.leaves)
		b.leaves[k] = n
	}
	return n
}

// scratch is what a scan needs and the next one can use again.
type scratch struct {
	at      []int32 // result of each step of the class
	results []string
	sets    []charset
	among   []rxset.Bits
	out     rxset.Bits
	found   hits
}

func (s *scratch) reset() { clear(s.results); s.results = s.results[:0] }

// result returns the number of a text among the results so far.
func (s *scratch) result(text string, width int) int32 {
	for i, r := range s.results {
		if r == text {
			return int32(i)
		}
	}
	n := len(s.results)
	s.results = append(s.results, text)
	s.sets = append(s.sets[:n], charsetOf(text))
	if n == len(s.among) {
		s.among = append(s.among, rxset.NewBits(width))
	}
	s.among[n].Clear()
	return int32(n)
}

// find returns the leaves of a value of class c. The result is valid until
// the next call.
func (s *scanner) find(c *class, value string, w *scratch) hits {
	w.results, w.sets, w.found = w.results[:0], w.sets[:0], w.found[:0]
	if w.out == nil {
		w.out = rxset.NewBits(s.width)
	}
	w.result(value, s.width)
	if w.sets[0]&c.trigger == 0 {
		w.out.Clear()
		s.match(value, w.sets[0], c.all, w.out)
		if !w.out.Empty() {
			for i := range c.steps {
				w.collect(&c.steps[i])
			}
		}
		return w.found
	}
	w.at = w.at[:0]
	for i := range c.steps {
		u := &c.steps[i]
		at := int32(0)
		if u.node != 0 {
			at = w.at[u.parent]
			n := &s.nodes[u.node]
			if w.sets[at]&n.trigger != 0 {
				if text, changed, err := n.step.fn(w.results[at]); err == nil && (changed || !n.strict) {
					at = w.result(text, s.width)
				}
			} else if n.trigger == anything {
				// The empty value has no bytes.
				if text, changed, err := n.step.fn(w.results[at]); err == nil && (changed || !n.strict) {
					at = w.result(text, s.width)
				}
			}
		}
		w.at = append(w.at, at)
		if u.among != nil {
			w.among[at].Or(u.among)
		}
	}
	for r := range w.results {
		if w.among[r].Empty() {
			continue
		}
		w.out.Clear()
		s.match(w.results[r], w.sets[r], w.among[r], w.out)
		if w.out.Empty() {
			continue
		}
		for i := range c.steps {
			if w.at[i] == int32(r) {
				w.collect(&c.steps[i])
			}
		}
	}
	return w.found
}

func (w *scratch) collect(u *use) {
	for _, l := range u.leaves {
		if w.out.Has(int(l.pattern)) && !w.found.has(int(l.leaf)) {
			w.found = append(w.found, l.leaf)
		}
	}
}

// match adds to out the patterns of among that match text.
func (s *scanner) match(text string, set charset, among, out rxset.Bits) {
	s.set.Match(text, among, out)
	for i := s.set.Len(); i < s.width; i++ {
		if among.Has(i) && s.funcs[i-s.set.Len()].matches(text, set) {
			out.Set(i)
		}
	}
}

// matches runs an operator that needs no transaction.
func (op *operator) matches(text string, set charset) bool {
	switch {
	case op.foreseen != nil:
		return op.foreseen.possible(text)
	case op.macro != nil:
		return comparisons[op.name](text, op.arg)
	}
	return op.run.Evaluate(plain, text)
}

// classOf returns the class of a named value.
func (s *scanner) classOf(k int, fold string) *class {
	if c, ok := s.byName[k][fold]; ok {
		return c
	}
	return s.defaults[k]
}

// scanAll scans every value that was not yet.
func (x *Transaction) scanAll() {
	s := x.p.scanner
	for _, sc := range s.singles {
		e := &x.singles[sc.v]
		if !e.scanned {
			e.hits, e.scanned = x.scanValue(sc.class, e.value), true
		}
	}
	for l := range x.lists {
		values := x.lists[l]
		for i := range values {
			e := &values[i]
			if e.scanned {
				continue
			}
			if c := s.classOf(2*l, e.fold); c != nil {
				e.hits = x.scanValue(c, e.value)
			}
			if c := s.classOf(2*l+1, e.fold); c != nil {
				e.nameHits = x.scanValue(c, e.key)
			}
			e.scanned = true
		}
	}
}

// scanValue returns the leaves of a value and notes them.
func (x *Transaction) scanValue(c *class, value string) hits {
	s := x.p.scanner
	h, ok := s.cache.get(c.id, value)
	if !ok {
		h = s.cache.put(c.id, value, s.find(c, value, &x.scan))
	}
	for _, l := range h {
		x.hitBits[l>>6] |= 1 << (l & 63)
	}
	return h
}

// Forget drops what the program remembers of values, for measurements.
func (p *Program) Forget() { p.scanner.cache.reset() }
