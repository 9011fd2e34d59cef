package seclang

import (
	"maps"
	"math/bits"
	"os"
	"path"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

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
	funcs []*operator // numbered from first
	first int         // the number after the patterns of set, on a word of its own
	width int         // of all numbers
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
	quick   func(string) string // for ASCII
	same    func(text string, set charset) bool
}

// run transforms a text of that charset.
func (n *node) run(text string, set charset) (string, bool, error) {
	if n.same != nil && n.same(text, set) {
		return text, false, nil
	}
	if n.quick != nil && set&hasHigh == 0 {
		out := n.quick(text)
		return out, len(out) != len(text) || out != text, nil
	}
	return n.step.fn(text)
}

type singleClass struct {
	v     variables.RuleVariable
	class *class
}

// class is what is looked for in one kind of value.
type class struct {
	id    int
	steps []use

	mu    sync.Mutex // of making plans
	plans atomic.Pointer[map[charset]*plan]
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
	// Operators begin at a word of their own in what is looked for.
	s.funcs, s.first = b.funcs, (len(b.list)+63)&^63
	s.width = s.first + len(b.funcs)

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
			pattern = s.first + ^pattern
		}
		leaf := b.leaf(w.nodes[len(w.nodes)-1], pattern, w.r.multi)
		w.r.leaf = leaf
		w.r.scanned = pattern < s.first || b.funcs[pattern-s.first].foreseen == nil
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
		c := &class{id: len(s.classes)}
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
					u.leaves = append(u.leaves, leafRef{uint16(q.pattern), uint16(q.leaf)})
				}
			}
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
	case r.op.negated && (r.capture || r.multi), p.cfg.prefilter && r.op.name == "rx":
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
	for _, o := range p.kept {
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
	x := capturer{capture: true, to: make([]variable, len(digitNames))}
	if !f.head.op.run.Evaluate(&x, text) {
		return false
	}
	if f.digits&^x.written != 0 {
		return true // it depends on what other rules captured
	}
	expand := func(m *macro) string {
		out := ""
		for _, t := range m.tokens {
			if t.v == variables.TX {
				out += x.to[t.slot].value
			} else {
				out += t.text
			}
		}
		return out
	}
	key := strings.ToLower(expand(f.head.effects[0].key))
	for _, rx := range f.others {
		if rx.MatchString(key) {
			return true
		}
	}
	value := expand(f.head.effects[0].value)
	if out, ok := setvar("", value); !ok || out != value {
		return true
	}
	for _, s := range f.link.steps {
		if out, _, err := s.fn(value); err == nil {
			value = out
		}
	}
	op := f.link.op
	if op.macro != nil {
		return comparisons[op.name](value, op.arg) != op.negated
	}
	return op.run.Evaluate(plain, value) != op.negated
}

// findCaptures finds the captures that op makes whenever it matches, if that
// does not depend on the value.
func (op *operator) findCaptures() {
	switch op.name {
	case "rx":
		if re, err := syntax.Parse(op.arg, syntax.Perl); err == nil {
			op.captures = 1<<(min(re.MaxCap(), 8)+1) - 1
		}
	case "detectSQLi":
		op.captures = 1
	}
}

// quicken gives every operator that is a pattern its test: those of the links
// of chains, and of rules that are not scanned, have a set of their own, so
// that they are no burden to scans.
func (b *build) quicken() error {
	rest := &build{files: b.files, patterns: map[string]int{}}
	at := map[*operator]int{}
	for _, r := range b.p.kept {
		for l := r; l != nil; l = l.chain {
			if l.op == nil || l.op.macro != nil {
				continue
			}
			l.op.findCaptures()
			if b.p.cfg.prefilter {
				continue // Coraza then sees less than the pattern says
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
var plain = &capturer{}

// path returns the nodes of r's transformations, the value itself first.
func (b *build) path(r *rule) []int {
	at, out := 0, []int{0}
	for _, st := range r.steps {
		k := [3]any{at, st.name, r.multi}
		n, ok := b.nodes[k]
		if !ok {
			n = len(b.s.nodes)
			b.nodes[k] = n
			b.s.nodes = append(b.s.nodes, node{parent: at, step: st, strict: r.multi, trigger: triggers[st.name], quick: quick[st.name], same: same[st.name]})
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
	at      []int32 // result of each step of the plan
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
	return s.add(text, charsetOf(text), width)
}

func (s *scratch) add(text string, set charset, width int) int32 {
	n := len(s.results)
	s.results = append(s.results, text)
	s.sets = append(s.sets[:n], set)
	if n == len(s.among) {
		s.among = append(s.among, rxset.NewBits(width))
	}
	return int32(n)
}

// plan is a class without the transformations that do nothing to a value of
// one charset.
type plan struct {
	among  rxset.Bits // what is looked for in the value itself
	leaves []leafRef
	steps  []use // the rest; the first stands for the value
}

// maxPlans bounds the plans of a class: there are hundreds of charsets in
// traffic, and millions in what an attacker can make up.
const maxPlans = 512

// plan returns c's plan for values of a charset.
func (c *class) plan(s *scanner, set charset) *plan {
	if plans := c.plans.Load(); plans != nil {
		if p := (*plans)[set]; p != nil {
			return p
		}
	}
	p := &plan{among: rxset.NewBits(s.width), steps: []use{{}}}
	place := make([]int, len(c.steps)) // in p.steps; 0 is the value
	for i := range c.steps {
		u := &c.steps[i]
		up := 0
		if i > 0 {
			up = place[u.parent]
		}
		if n := &s.nodes[u.node]; up == 0 && (u.node == 0 || n.trigger != anything && set&n.trigger == 0) {
			if u.among != nil {
				p.among.Or(u.among)
				p.leaves = append(p.leaves, u.leaves...)
			}
			continue
		}
		place[i] = len(p.steps)
		p.steps = append(p.steps, use{node: u.node, parent: up, among: u.among, leaves: u.leaves})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[charset]*plan{}
	if plans := c.plans.Load(); plans != nil {
		if len(*plans) >= maxPlans {
			return p
		}
		maps.Copy(all, *plans)
	}
	all[set] = p
	c.plans.Store(&all)
	return p
}

// find returns the leaves of a value of class c. The result is valid until
// the next call.
func (s *scanner) find(c *class, value string, w *scratch) hits {
	w.results, w.sets, w.found = w.results[:0], w.sets[:0], w.found[:0]
	if w.out == nil {
		w.out = rxset.NewBits(s.width)
	}
	w.add(value, charsetOf(value), s.width)
	p := c.plan(s, w.sets[0])
	copy(w.among[0], p.among)
	w.at = append(w.at[:0], 0)
	for i := 1; i < len(p.steps); i++ {
		u := &p.steps[i]
		at := w.at[u.parent]
		n := &s.nodes[u.node]
		if n.trigger == anything || w.sets[at]&n.trigger != 0 {
			text, changed, err := n.run(w.results[at], w.sets[at])
			if err == nil && (changed || !n.strict) && text != w.results[at] {
				before := len(w.results)
				if at = w.result(text, s.width); int(at) == before {
					w.among[at].Clear()
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
		if r == 0 {
			w.collect(p.leaves)
		}
		for i := 1; i < len(p.steps); i++ {
			if w.at[i] == int32(r) {
				w.collect(p.steps[i].leaves)
			}
		}
	}
	return w.found
}

func (w *scratch) collect(leaves []leafRef) {
	for _, l := range leaves {
		if w.out.Has(int(l.pattern)) && !w.found.has(int(l.leaf)) {
			w.found = append(w.found, l.leaf)
		}
	}
}

// match adds to out the patterns of among that match text.
func (s *scanner) match(text string, set charset, among, out rxset.Bits) {
	first := s.first >> 6
	s.set.Match(text, among[:first], out)
	for word := first; word < len(among); word++ {
		for rest := among[word]; rest != 0; rest &= rest - 1 {
			if i := word<<6 + bits.TrailingZeros64(rest); s.funcs[i-s.first].matches(text, set) {
				out.Set(i)
			}
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
	case op.name == "detectSQLi" && oneWord(text, set), op.name == "detectXSS" && set&(hasLess|hasEquals) == 0:
		return false
	}
	return op.run.Evaluate(plain, text)
}

// oneWord reports whether text is one SQL token to libinjection, a word or a
// number, which is never an injection: its shortest pattern has two tokens.
func oneWord(text string, set charset) bool {
	const word = hasUpper | hasLower | hasUnderscore
	switch {
	case text == "" || set&^(word|hasDigit|hasDot) != 0:
		return false
	case set&^word == 0:
		return len(text) < 32
	case set&hasDot == 0:
		return len(text) < 32 && (text[0] > '9' || set&^hasDigit == 0)
	case set&^(hasDigit|hasDot) == 0: // 59.90
		i := strings.IndexByte(text, '.')
		return i > 0 && i < len(text)-1 && i == strings.LastIndexByte(text, '.') && len(text) < 32
	}
	// The names of JSON members: no keyword begins like this.
	return strings.HasPrefix(text, "json.")
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
