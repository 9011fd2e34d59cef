package injection

import (
	"slices"
	"strings"
)

// Bounds of the search for runaway patterns: beyond them a pattern is taken
// for harmless.
const (
	maxPattern  = 4096
	maxStates   = 160
	maxPairs    = 20000
	maxPairEdge = 400000
)

// runaway reports whether a backtracking matcher can need time exponential in
// the length of the text for a Python pattern. full is set when the pattern
// has to match the whole text.
//
// It does when some state of the pattern's automaton can be left and reached
// again over the same characters in two ways (the automaton is exponentially
// ambiguous: Weideman et al., "Analyzing matching time behavior of
// backtracking regular expression matchers", 2016), and the match can still
// fail behind that. A bounded repetition of ten or more counts as unbounded.
// Look-arounds are read as if they were groups, back references as a letter.
func runaway(pattern string, full bool) bool {
	if len(pattern) > maxPattern {
		return false
	}
	p := patternParser{text: []rune(pattern)}
	tree := p.alternatives(0)
	if p.bad || p.at < len(p.text) || tree.size() > 4*maxStates {
		return false
	}
	a := automaton{}
	accept := a.state()
	a.compile(tree, accept)
	if len(a.takes) > maxStates {
		return false
	}
	return a.ambiguous(accept, full)
}

// charset are characters, as pairs of bounds that are both included.
type charset []rune

var (
	digitSet = charset{'0', '9'}
	wordSet  = charset{'0', '9', 'A', 'Z', '_', '_', 'a', 'z', 0xaa, 0x10ffff}
	spaceSet = charset{'\t', '\r', ' ', ' '}
	anySet   = charset{0, 0x10ffff}
	lineSet  = charset{0, '\n' - 1, '\n' + 1, 0x10ffff}
)

func (c charset) not() charset {
	c = slices.Clone(c)
	var out charset
	next := rune(0)
	for len(c) > 0 {
		// The lowest first.
		low := 0
		for i := 2; i < len(c); i += 2 {
			if c[i] < c[low] {
				low = i
			}
		}
		if c[low] > next {
			out = append(out, next, c[low]-1)
		}
		next = max(next, c[low+1]+1)
		c = slices.Delete(c, low, low+2)
	}
	if next <= 0x10ffff {
		out = append(out, next, 0x10ffff)
	}
	return out
}

func (c charset) meets(d charset) bool {
	for i := 0; i+1 < len(c); i += 2 {
		for j := 0; j+1 < len(d); j += 2 {
			if c[i] <= d[j+1] && d[j] <= c[i+1] {
				return true
			}
		}
	}
	return false
}

// wordOnly reports whether there are word characters of ASCII only, between
// which there is no \b.
func (c charset) wordOnly() bool {
	for i := 0; i+1 < len(c); i += 2 {
		lo, hi := c[i], c[i+1]
		if !(lo >= '0' && hi <= '9' || lo >= 'A' && hi <= 'Z' || lo == '_' && hi == '_' || lo >= 'a' && hi <= 'z') && lo < 0xaa {
			return false
		}
	}
	return true
}

// patternOp says what a node of a pattern is.
type patternOp uint8

const (
	opSet     patternOp = iota // one character
	opSeq                      // one after the other; empty: nothing
	opAlt                      // one of them
	opRepeat                   // subs[0], min to max times; max < 0: without end
	opAtomic                   // subs[0], and nothing of it is given back
	opBegin                    // ^ \A
	opEnd                      // $ \Z
	opBetween                  // \b
)

type pattern struct {
	op       patternOp
	set      charset
	subs     []*pattern
	min, max int
}

// size bounds how many states a pattern becomes.
func (p *pattern) size() int {
	n := 1
	for _, s := range p.subs {
		n += s.size()
	}
	if p.op == opRepeat {
		n *= max(1, p.min, p.max)
	}
	return min(n, 1<<20)
}

// patternParser reads a pattern as Python's re does. bad is set when it is
// none, or not one that it understands.
type patternParser struct {
	text    []rune
	at      int
	bad     bool
	fold    bool // i
	dot     bool // s
	verbose bool // x
}

func (p *patternParser) peek() rune {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return -1
}

func (p *patternParser) eat(s string) bool {
	for i, r := range []rune(s) {
		if p.at+i >= len(p.text) || p.text[p.at+i] != r {
			return false
		}
	}
	p.at += len(s)
	return true
}

func (p *patternParser) alternatives(depth int) *pattern {
	if depth > 100 {
		p.bad = true
		return &pattern{op: opSeq}
	}
	alt := &pattern{op: opAlt}
	for {
		seq := &pattern{op: opSeq}
		for !p.bad && p.at < len(p.text) && p.peek() != '|' && p.peek() != ')' {
			if atom := p.atom(depth); atom != nil {
				seq.subs = append(seq.subs, p.quantified(atom))
			}
		}
		alt.subs = append(alt.subs, seq)
		if !p.eat("|") {
			break
		}
	}
	if len(alt.subs) == 1 {
		return alt.subs[0]
	}
	return alt
}

func (p *patternParser) quantified(atom *pattern) *pattern {
	for {
		lo, hi, ok := p.quantifier()
		if !ok {
			return atom
		}
		atom = &pattern{op: opRepeat, subs: []*pattern{atom}, min: lo, max: hi}
		if p.eat("+") {
			atom = &pattern{op: opAtomic, subs: []*pattern{atom}}
		} else {
			p.eat("?") // lazy: as many ways
		}
	}
}

// quantifier reads * + ? and {2,5}. Counts of ten and more are unbounded.
func (p *patternParser) quantifier() (lo, hi int, ok bool) {
	switch {
	case p.eat("*"):
		return 0, -1, true
	case p.eat("+"):
		return 1, -1, true
	case p.eat("?"):
		return 0, 1, true
	case p.peek() != '{':
		return 0, 0, false
	}
	start := p.at
	p.at++
	number := func() (n int, ok bool) {
		for p.peek() >= '0' && p.peek() <= '9' {
			n, ok = min(1000, n*10+int(p.peek()-'0')), true
			p.at++
		}
		return n, ok
	}
	lo, some := number()
	hi, comma := lo, p.eat(",")
	if comma {
		more := false
		if hi, more = number(); !more {
			hi = -1
		}
		some = some || more
	}
	if !p.eat("}") || !some && !comma {
		p.at = start
		return 0, 0, false
	}
	if hi >= 10 {
		hi = -1
	}
	return min(lo, 9), hi, true
}

func (p *patternParser) one(set charset) *pattern {
	if p.fold {
		for i := 0; i+1 < len(set); i += 2 {
			for r := max(set[i], 'A'); r <= min(set[i+1], 'z'); r++ {
				if l := r | 0x20; l >= 'a' && l <= 'z' {
					set = append(set, r^0x20, r^0x20)
				}
			}
			if i > 200 {
				break
			}
		}
	}
	return &pattern{op: opSet, set: set}
}

// atom reads what a quantifier can follow; nil for what is nothing.
func (p *patternParser) atom(depth int) *pattern {
	r := p.peek()
	p.at++
	switch r {
	case '.':
		if p.dot {
			return p.one(anySet)
		}
		return p.one(lineSet)
	case '^':
		return &pattern{op: opBegin}
	case '$':
		return &pattern{op: opEnd}
	case '[':
		return p.class()
	case '(':
		return p.group(depth)
	case '\\':
		return p.escape()
	case '*', '+', '?':
		p.bad = true // nothing to repeat
		return nil
	case ' ', '\t', '\n', '\r':
		if p.verbose {
			return nil
		}
	case '#':
		if p.verbose {
			for p.at < len(p.text) && p.peek() != '\n' {
				p.at++
			}
			return nil
		}
	}
	return p.one(charset{r, r})
}

func (p *patternParser) group(depth int) *pattern {
	atomic := false
	if p.eat("?") {
		switch {
		case p.eat("P=") || p.eat("#"):
			reference := p.text[p.at-1] == '='
			for p.at < len(p.text) && p.peek() != ')' {
				p.at++
			}
			p.bad = p.bad || !p.eat(")")
			if reference {
				return p.one(charset{'x', 'x'})
			}
			return nil
		case p.eat("P<"), p.eat("("):
			end := '>'
			if p.text[p.at-1] == '(' {
				end = ')'
			}
			for p.at < len(p.text) && p.peek() != end {
				p.at++
			}
			p.at++
		case p.eat("<="), p.eat("<!"), p.eat("="), p.eat("!"), p.eat(":"):
		case p.eat(">"):
			atomic = true
		default:
			on := true
			for p.at < len(p.text) && p.peek() != ')' && p.peek() != ':' {
				switch p.peek() {
				case '-':
					on = false
				case 'i':
					p.fold = on
				case 's':
					p.dot = on
				case 'x':
					p.verbose = on
				}
				p.at++
			}
			if p.eat(")") {
				return nil
			}
			p.bad = p.bad || !p.eat(":")
		}
	}
	sub := p.alternatives(depth + 1)
	if !p.eat(")") {
		p.bad = true
	}
	if atomic {
		return &pattern{op: opAtomic, subs: []*pattern{sub}}
	}
	return &pattern{op: opSeq, subs: []*pattern{sub}}
}

// escape reads what follows a backslash, outside of a class.
func (p *patternParser) escape() *pattern {
	switch p.peek() {
	case 'A':
		p.at++
		return &pattern{op: opBegin}
	case 'Z', 'z':
		p.at++
		return &pattern{op: opEnd}
	case 'b':
		p.at++
		return &pattern{op: opBetween}
	case 'B':
		p.at++
		return nil
	case '1', '2', '3', '4', '5', '6', '7', '8', '9':
		for p.peek() >= '0' && p.peek() <= '9' {
			p.at++
		}
		return p.one(charset{'x', 'x'})
	}
	return p.one(p.escaped())
}

func (p *patternParser) escaped() charset {
	r := p.peek()
	p.at++
	switch r {
	case -1:
		p.bad = true
		return nil
	case 'd':
		return digitSet
	case 'D':
		return digitSet.not()
	case 'w':
		return wordSet
	case 'W':
		return wordSet.not()
	case 's':
		return spaceSet
	case 'S':
		return spaceSet.not()
	case 'n':
		r = '\n'
	case 't':
		r = '\t'
	case 'r':
		r = '\r'
	case 'f':
		r = '\f'
	case 'v':
		r = '\v'
	case 'a':
		r = 7
	case '0':
		r = 0
	case 'x', 'u', 'U':
		n := map[rune]int{'x': 2, 'u': 4, 'U': 8}[r]
		r = 0
		for range n {
			i := strings.IndexRune("0123456789abcdef", p.peek()|0x20)
			if p.at >= len(p.text) || i < 0 {
				p.bad = true
				return nil
			}
			r = min(r<<4|rune(i), 0x10ffff)
			p.at++
		}
	}
	return charset{r, r}
}

func (p *patternParser) class() *pattern {
	not := p.eat("^")
	var set charset
	for first := true; ; first = false {
		r := p.peek()
		if r < 0 {
			p.bad = true
			return nil
		}
		p.at++
		if r == ']' && !first {
			break
		}
		lo := charset{r, r}
		if r == '\\' {
			if p.peek() == 'b' {
				p.at++
				lo = charset{8, 8}
			} else {
				lo = p.escaped()
			}
		}
		if len(lo) == 2 && lo[0] == lo[1] && p.peek() == '-' && p.at+1 < len(p.text) && p.text[p.at+1] != ']' {
			p.at++
			hi := charset{p.peek(), p.peek()}
			p.at++
			if hi[0] == '\\' {
				hi = p.escaped()
			}
			if len(hi) != 2 || hi[0] < lo[0] {
				p.bad = true
				return nil
			}
			lo = charset{lo[0], hi[0]}
		}
		set = append(set, lo...)
	}
	if not {
		set = set.not()
	}
	return p.one(set)
}

// automaton is a nondeterministic one. A state either takes a character and
// goes on, or leads to others over nothing.
type automaton struct {
	nodes []node
	takes []int // the states that take a character
}

type node struct {
	set    charset // of a state that takes a character
	to     int
	over   []int // to others, over nothing
	only   patternOp
	number int // in takes
}

func (a *automaton) state(over ...int) int {
	a.nodes = append(a.nodes, node{over: over, to: -1})
	return len(a.nodes) - 1
}

// compile returns the state from which p leads to out.
func (a *automaton) compile(p *pattern, out int) int {
	if len(a.takes) > maxStates {
		return out
	}
	switch p.op {
	case opSet:
		s := a.state()
		a.nodes[s].set, a.nodes[s].to, a.nodes[s].number = p.set, out, len(a.takes)
		a.takes = append(a.takes, s)
		return s
	case opAlt:
		var over []int
		for _, s := range p.subs {
			over = append(over, a.compile(s, out))
		}
		return a.state(over...)
	case opRepeat:
		start := out
		if p.max < 0 {
			start = a.state()
			in := a.compile(p.subs[0], start)
			a.nodes[start].over = []int{in, out}
		}
		for range p.max - p.min {
			start = a.state(a.compile(p.subs[0], start), out)
		}
		for range p.min {
			start = a.compile(p.subs[0], start)
		}
		return start
	case opAtomic:
		// It is matched in one way only: as if it took one character.
		s := a.state()
		set := charset{}
		p.first(&set)
		a.nodes[s].set, a.nodes[s].to, a.nodes[s].number = set, out, len(a.takes)
		a.takes = append(a.takes, s)
		return s
	case opBegin, opEnd, opBetween:
		s := a.state(out)
		a.nodes[s].only = p.op
		return s
	}
	for _, s := range slices.Backward(p.subs) {
		out = a.compile(s, out)
	}
	return out
}

// first adds all characters in a pattern.
func (p *pattern) first(set *charset) {
	*set = append(*set, p.set...)
	for _, s := range p.subs {
		s.first(set)
	}
}

// edge is a way from a state that took a character to the next that does.
type edge struct {
	to   int  // index in takes
	many bool // there are several ways
}

// ambiguous looks for exponential ambiguity.
func (a *automaton) ambiguous(accept int, full bool) bool {
	n := len(a.takes)
	edges := make([][]edge, n)
	accepts := make([]bool, n) // the match may end behind it, whatever follows
	for s, from := range a.takes {
		steps := 0
		ways := map[int]int{}
		on := map[int]int{}
		var follow func(at int, word, end bool)
		follow = func(at int, word, end bool) {
			// Twice through the same place is a round over nothing.
			if steps++; steps > 20000 || on[at] > 1 {
				return
			}
			on[at]++
			defer func() { on[at]-- }()
			here := &a.nodes[at]
			switch here.only {
			case opBegin:
				return
			case opEnd:
				end = true
			case opBetween:
				word = true
			}
			if at == accept {
				accepts[s] = accepts[s] || !end && !full
			}
			if here.to >= 0 {
				if !end && !(word && a.nodes[from].set.wordOnly() && here.set.wordOnly()) {
					ways[here.number]++
				}
				return
			}
			for _, next := range here.over {
				follow(next, word, end)
			}
		}
		follow(a.nodes[from].to, false, false)
		for to, k := range ways {
			edges[s] = append(edges[s], edge{to, k > 1})
		}
		slices.SortFunc(edges[s], func(x, y edge) int { return x.to - y.to })
	}
	meets := make([]bool, n*n)
	for i := range n {
		for j := range n {
			meets[i*n+j] = a.nodes[a.takes[i]].set.meets(a.nodes[a.takes[j]].set)
		}
	}
	// Two copies of the automaton read the same text. A component of the
	// pairs that holds a state beside itself and two different states, or two
	// ways between, can be gone round in two ways each time.
	c := components{n: n, edges: edges, meets: meets, number: make([]int32, n*n), low: make([]int32, n*n), on: make([]bool, n*n)}
	for s := range n {
		if c.number[s*n+s] == 0 {
			c.visit(s*n + s)
		}
		if c.over() {
			return false
		}
	}
	for _, comp := range c.found {
		in := map[int]bool{}
		for _, pair := range comp {
			in[pair] = true
		}
		twice, fails := false, false
		for _, pair := range comp {
			u, v := pair/n, pair%n
			if u != v {
				twice = true
				continue
			}
			// If the match may end anywhere in the loop, it need not go back.
			fails = fails || !accepts[u]
			for _, e := range edges[u] {
				twice = twice || e.many && in[e.to*n+e.to]
			}
		}
		if twice && fails && slices.ContainsFunc(comp, func(pair int) bool { return pair/n == pair%n }) {
			return true
		}
	}
	return false
}

// components finds the strongly connected components of the graph of pairs
// (Tarjan), without recursion.
type components struct {
	n           int
	edges       [][]edge
	meets       []bool
	number, low []int32
	on          []bool
	stack       []int
	count       int32
	steps       int
	found       [][]int
}

func (c *components) over() bool { return int(c.count) > maxPairs || c.steps > maxPairEdge }

func (c *components) next(pair int) []int {
	u, v := pair/c.n, pair%c.n
	var out []int
	for _, a := range c.edges[u] {
		for _, b := range c.edges[v] {
			c.steps++
			if c.meets[a.to*c.n+b.to] {
				out = append(out, a.to*c.n+b.to)
			}
		}
	}
	return out
}

func (c *components) visit(root int) {
	type frame struct {
		pair int
		next []int
	}
	enter := func(pair int) frame {
		c.count++
		c.number[pair], c.low[pair] = c.count, c.count
		c.stack = append(c.stack, pair)
		c.on[pair] = true
		return frame{pair, c.next(pair)}
	}
	frames := []frame{enter(root)}
	for len(frames) > 0 && !c.over() {
		f := &frames[len(frames)-1]
		if len(f.next) > 0 {
			to := f.next[0]
			f.next = f.next[1:]
			switch {
			case c.number[to] == 0:
				frames = append(frames, enter(to))
			case c.on[to]:
				c.low[f.pair] = min(c.low[f.pair], c.number[to])
			}
			continue
		}
		pair := f.pair
		frames = frames[:len(frames)-1]
		if len(frames) > 0 {
			up := frames[len(frames)-1].pair
			c.low[up] = min(c.low[up], c.low[pair])
		}
		if c.low[pair] != c.number[pair] {
			continue
		}
		i := slices.Index(c.stack, pair)
		comp := slices.Clone(c.stack[i:])
		c.stack = c.stack[:i]
		for _, p := range comp {
			c.on[p] = false
		}
		if len(comp) > 1 || slices.Contains(c.next(pair), pair) {
			c.found = append(c.found, comp)
		}
	}
}
