package rxset

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
	"unsafe"

	"rsc.io/binaryregexp"
)

// Mode says how a Pattern is read and what a value is to it.
type Mode uint8

const (
	// Rx reads Expr as the argument of Coraza's @rx: (?sm) stands in front
	// of it and the value is UTF-8 text, unless Expr holds escapes that make
	// no valid UTF-8 (\xe2 alone, say): then it is read without (?sm) and the
	// value is bytes, each a character of its own.
	Rx Mode = iota
	// Text is Go's regexp, Expr taken as it stands.
	Text
	// Bytes is rsc.io/binaryregexp, Expr taken as it stands: every byte of
	// the value is one character.
	Bytes
	// Phrases matches a value that holds at least one of Phrases, upper and
	// lower case of ASCII letters being the same.
	Phrases
)

// Pattern is one thing to look for.
type Pattern struct {
	Mode Mode
	// Expr is the regular expression; unused by Phrases.
	Expr string
	// Phrases is what Mode Phrases looks for. The empty phrase is in every
	// value.
	Phrases []string
}

// PM returns the pattern of Coraza's @pm with the argument arg: phrases
// between single spaces.
func PM(arg string) Pattern {
	return Pattern{Mode: Phrases, Phrases: strings.Split(strings.ToLower(arg), " ")}
}

// PMFile returns the pattern of Coraza's @pmFromFile for a file of the
// content data: one phrase a line, without the blanks around it, leaving out
// empty lines and those that begin with #.
func PMFile(data []byte) Pattern {
	p := Pattern{Mode: Phrases}
	for sc := bufio.NewScanner(bytes.NewReader(data)); sc.Scan(); {
		if l := strings.TrimSpace(sc.Text()); l != "" && l[0] != '#' {
			p.Phrases = append(p.Phrases, strings.ToLower(l))
		}
	}
	return p
}

// Set is a compiled list of patterns. It is safe for concurrent use.
type Set struct {
	patterns []*pattern
	alphabet *alphabet
	filter   *filter
	groups   atomic.Pointer[[]group]
	first    []group // as Compile made them
	// alone has the patterns that are in no group.
	alone Bits

	maxTable, maxTables int // the constants, but in tests

	regroup sync.Mutex   // to change groups
	restore atomic.Int64 // when to go back to first, in nanoseconds; 0: never
	misses  atomic.Int64 // steps that no table had
	mu      sync.Mutex   // for dfas
	dfas    []*dfa       // all that have been made
	used    atomic.Int64 // bytes in their tables
	scratch sync.Pool    // of *scratch
	buffers sync.Pool    // of *buffer
}

const (
	// maxTable is how many bytes the table of one automaton may take.
	maxTable = 1 << 20
	// maxTables is how many they may take together.
	maxTables = 12 << 20
)

// pattern is one Pattern ready to run alone.
type pattern struct {
	mode    Mode // never Rx
	expr    string
	phrases []string
	nfa     *nfa // nil if the filter decides, or for what is too large for an automaton
	// loose is nfa, or one that matches more; then nfa has the last word.
	loose *nfa
	dfa   func() *dfa // its own, made when first asked for; nil without nfa

	once sync.Once
	text *regexp.Regexp
	bin  *binaryregexp.Regexp
}

// buffer is what one Match needs.
type buffer struct {
	symbols []byte
	ascii   bool             // the value is its own symbols
	kinds   uint64           // filter.kind of every symbol
	may     Bits             // patterns that may match
	met     [maxClauses]Bits // patterns whose clauses have come true
	groups  []*group         // those with a pattern that may match
	one     Bits             // for Contains
	found   Bits
	known   [maskAnswers]maskAnswer
	sum     []uint64
}

// Compile prepares patterns; the numbers in a Bits are their positions. An
// expression that does not compile is an error that names it.
func Compile(patterns []Pattern) (*Set, error) {
	s := &Set{patterns: make([]*pattern, len(patterns)), maxTable: maxTable, maxTables: maxTables}
	s.scratch.New = func() any { return &scratch{} }
	s.buffers.New = func() any {
		b := &buffer{may: s.NewBits(), one: s.NewBits(), found: s.NewBits()}
		for k := range b.met {
			b.met[k] = s.NewBits()
		}
		words := len(b.may)
		all := make([]uint64, maskAnswers*words)
		for k := range b.known {
			b.known[k].pass = all[k*words : (k+1)*words]
		}
		return b
	}
	trees := make([]*syntax.Regexp, len(patterns))
	progs := make([]*syntax.Prog, len(patterns))
	looser := make([]*syntax.Prog, len(patterns)) // nil if progs is good
	for i, p := range patterns {
		q := p.resolve()
		s.patterns[i] = q
		if q.mode == Phrases {
			continue
		}
		tree, err := q.parse()
		if err != nil {
			return nil, fmt.Errorf("pattern %d: %w", i, err)
		}
		loose := relax(tree)
		trees[i] = tree.Simplify()
		if progs[i], err = syntax.Compile(trees[i]); err == nil && loose != nil {
			looser[i], err = syntax.Compile(loose.Simplify())
		}
		if err != nil {
			return nil, fmt.Errorf("pattern %d: %w", i, err)
		}
	}
	s.alphabet = s.chooseAlphabet(progs)
	fb := newFilterBuilder(len(patterns), s.alphabet)
	text := &literals{symbols: s.alphabet.symbols, fold: fb.f.fold}
	raw := &literals{symbols: byteSymbols, fold: (*alphabet)(nil).fold()}
	for i, q := range s.patterns {
		l := text
		switch {
		case q.mode == Phrases:
			rest := fb.addPhrases(i, q.phrases)
			if len(rest) > 0 {
				prog, err := syntax.Compile(phraseTree(rest).Simplify())
				if err != nil {
					return nil, fmt.Errorf("pattern %d: %w", i, err)
				}
				q.nfa = newNFA(prog, byteSymbols)
				q.loose = q.nfa
			}
			continue
		case q.mode == Bytes:
			l = raw
		case progs[i] == nil:
			fb.add(i, need{}) // its characters are not in the alphabet
			continue
		}
		fb.add(i, l.of(trees[i]))
		q.nfa = newNFA(progs[i], l.symbols)
		q.loose = q.nfa
		if looser[i] != nil {
			q.loose = newNFA(looser[i], l.symbols)
		}
		if q.nfa != nil {
			q.dfa = sync.OnceValue(func() *dfa { return newDFA(s, []*nfa{q.nfa}, true) })
		}
	}
	s.filter = fb.finish()
	s.group()
	// The states that ordinary values need are there before the first comes.
	found := s.NewBits()
	for line := range strings.Lines(sample) {
		s.Match(line[:len(line)-1], nil, found)
	}
	return s, nil
}

// resolve decides what Rx stands for.
func (p Pattern) resolve() *pattern {
	q := &pattern{mode: p.Mode, expr: p.Expr, phrases: p.Phrases}
	if p.Mode == Rx {
		q.mode, q.expr = Text, "(?sm)"+p.Expr
		if isBinary(q.expr) {
			q.mode, q.expr = Bytes, p.Expr
		}
	}
	return q
}

// chooseAlphabet returns the alphabet for the programs of the texts. Where
// they tell too many characters apart it drops those that tell most of them
// from progs, so that Go's regexp runs them.
func (s *Set) chooseAlphabet(progs []*syntax.Prog) *alphabet {
	sets := make([][][]rune, len(progs))
	for i, prog := range progs {
		if prog == nil || s.patterns[i].mode != Text {
			continue
		}
		known := map[string]bool{}
		var key []byte
		for k := range prog.Inst {
			switch in := &prog.Inst[k]; in.Op {
			case syntax.InstRune, syntax.InstRune1:
				pairs := instRunes(in)
				if len(pairs) == 0 || pairs[len(pairs)-1] < utf8.RuneSelf {
					continue
				}
				key = key[:0]
				for _, r := range pairs {
					key = binary.LittleEndian.AppendUint32(key, uint32(r))
				}
				if !known[string(key)] {
					known[string(key)] = true
					sets[i] = append(sets[i], pairs)
				}
			}
		}
	}
	for {
		if a := newAlphabet(slices.Concat(sets...)); a != nil {
			return a
		}
		worst, most := 0, -1
		for i := range sets {
			n := 0
			for _, pairs := range sets[i] {
				n += len(pairs)
			}
			if n > most {
				worst, most = i, n
			}
		}
		sets[worst], progs[worst] = nil, nil
	}
}

// Len returns how many patterns s has.
func (s *Set) Len() int { return len(s.patterns) }

// NewBits returns an empty set wide enough for every pattern of s.
func (s *Set) NewBits() Bits { return NewBits(len(s.patterns)) }

// Match adds to out every pattern of among that matches value; a nil among
// is all of them. Both must be at least as wide as NewBits makes them. Nothing
// is taken out of out. It does not keep value.
func (s *Set) Match(value string, among, out Bits) {
	b := s.buffers.Get().(*buffer)
	symbols := s.read(b, value)
	groups := *s.groups.Load()
	if n := s.filter.look(b, symbols, len(value), groups, among, out); n > 0 {
		b.choose(groups, n)
		s.run(b, value, symbols, out)
	}
	s.buffers.Put(b)
}

// fewPatterns is for how many patterns their groups are looked for one by one.
const fewPatterns = 6

// choose finds the groups with one of the n patterns that may match.
func (b *buffer) choose(groups []group, n int) {
	b.groups = b.groups[:0]
	if n > fewPatterns {
		for k := range groups {
			if groups[k].all.Intersects(b.may) {
				b.groups = append(b.groups, &groups[k])
			}
		}
		return
	}
	for k, w := range b.may {
		for ; w != 0; w &= w - 1 {
			i := k<<6 + bits.TrailingZeros64(w)
			for k := range groups {
				if groups[k].all.Has(i) {
					if !slices.Contains(b.groups, &groups[k]) {
						b.groups = append(b.groups, &groups[k])
					}
					break
				}
			}
		}
	}
}

// run runs the groups chosen and the patterns in none.
func (s *Set) run(b *buffer, value, symbols string, out Bits) {
	run := b.groups
	if !b.ascii {
		run = slices.DeleteFunc(run, func(g *group) bool {
			if g.raw {
				s.report(b, g, g.dfa.match(value), value, symbols, out)
			}
			return g.raw
		})
	}
	var d [4]*dfa
	var m [4]uint32
	for len(run) > 1 {
		n := min(len(run), 4)
		for k := range d {
			d[k] = run[min(k, n-1)].dfa // a third twice
		}
		if n > 2 {
			match4(&d, symbols, &m)
		} else {
			match2(&d, symbols, &m)
		}
		for k, g := range run[:n] {
			s.report(b, g, m[k], value, symbols, out)
		}
		run = run[n:]
	}
	if len(run) == 1 {
		s.report(b, run[0], run[0].dfa.match(symbols), value, symbols, out)
	}
	for k, w := range s.alone {
		for w &= b.may[k]; w != 0; w &= w - 1 {
			i := k<<6 + bits.TrailingZeros64(w)
			if s.patterns[i].match(value, symbols) {
				out.Set(i)
			}
		}
	}
}

// report adds the members of g that match, of those asked for.
func (s *Set) report(b *buffer, g *group, matched uint32, value, symbols string, out Bits) {
	for ; matched != 0; matched &= matched - 1 {
		i := g.members[bits.TrailingZeros32(matched)]
		if p := s.patterns[i]; b.may.Has(i) && (p.loose == p.nfa || p.match(value, symbols)) {
			out.Set(i)
		}
	}
}

// Contains reports whether pattern i matches value.
func (s *Set) Contains(i int, value string) bool {
	p := s.patterns[i]
	b := s.buffers.Get().(*buffer)
	defer s.buffers.Put(b)
	if p.mode == Phrases {
		b.one.Clear()
		b.one.Set(i)
		b.found.Clear()
		s.Match(value, b.one, b.found)
		return b.found.Has(i)
	}
	symbols := s.read(b, value)
	return s.filter.pass(b, b.kinds).Has(i) && p.match(value, symbols)
}

// read returns value's symbols, which are value's own or b's memory, and
// counts their kinds.
func (s *Set) read(b *buffer, value string) string {
	kind := &s.filter.kind
	kinds, high := uint64(0), byte(0)
	for i := range len(value) {
		kinds |= kind[value[i]]
		high |= value[i]
	}
	b.ascii = high < utf8.RuneSelf
	if b.ascii {
		b.kinds = kinds
		return value
	}
	b.symbols = s.alphabet.encode(b.symbols[:0], value)
	kinds = 0
	for _, c := range b.symbols {
		kinds |= kind[c]
	}
	b.kinds = kinds
	return unsafe.String(&b.symbols[0], len(b.symbols))
}

// Submatch returns what pattern i's regular expression captures in value,
// the whole match first, as pairs of offsets as regexp's
// FindStringSubmatchIndex gives them; nil if it does not match. For phrases
// it is the leftmost longest one. It runs Go's regexp and allocates: ask it
// only for patterns that match.
func (s *Set) Submatch(i int, value string) []int {
	p := s.patterns[i]
	p.compile()
	switch p.mode {
	case Text:
		return p.text.FindStringSubmatchIndex(value)
	case Bytes:
		return p.bin.FindStringSubmatchIndex(value)
	}
	at, n := -1, 0
	folded := lowerASCII(value)
	for _, ph := range p.phrases {
		k := strings.Index(folded, lowerASCII(ph))
		if k >= 0 && (at < 0 || k < at || k == at && len(ph) > n) {
			at, n = k, len(ph)
		}
	}
	if at < 0 {
		return nil
	}
	return []int{at, at + n}
}

// compile makes what runs p alone, once.
func (p *pattern) compile() {
	p.once.Do(func() {
		switch p.mode {
		case Text:
			p.text = regexp.MustCompile(p.expr)
		case Bytes:
			p.bin = binaryregexp.MustCompile(p.expr)
		}
	})
}

// match answers for p alone.
func (p *pattern) match(value, symbols string) bool {
	if p.dfa != nil {
		if p.mode == Bytes {
			symbols = value
		}
		return p.dfa().match(symbols) != 0
	}
	p.compile()
	switch p.mode {
	case Text:
		return p.text.MatchString(value)
	case Bytes:
		return p.bin.MatchString(value)
	}
	folded := lowerASCII(value)
	for _, ph := range p.phrases {
		if strings.Contains(folded, lowerASCII(ph)) {
			return true
		}
	}
	return false
}

// lowerASCII is strings.ToLower for ASCII letters only; other bytes, broken
// UTF-8 included, stay.
func lowerASCII(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// isBinary reports whether expr, its \x escapes written out, is no valid
// UTF-8: the question by which Coraza 3.8.1 chooses between text and bytes
// (matchesArbitraryBytes in its operator rx). Its answers are kept as they
// are: an escape of which fewer than four characters are left counts as
// itself, and so does one that names no byte.
func isBinary(expr string) bool {
	var out []byte
	for i := 0; i < len(expr); i++ {
		rest := expr[i:]
		if rest[0] != '\\' {
			out = append(out, rest[0])
			continue
		}
		if len(rest) < 4 {
			out = append(out, rest...)
			break
		}
		if rest[1] != 'x' {
			out = append(out, '\\')
			continue
		}
		escape, skip := rest, 3
		if len(rest) >= 6 && rest[2] == '{' {
			if end := strings.IndexByte(rest, '}'); end >= 0 {
				escape, skip = `\x`+rest[3:end], end
			}
		}
		r, multibyte, _, err := strconv.UnquoteChar(escape, 0)
		if err != nil || multibyte {
			out = append(out, '\\')
			continue
		}
		out = append(out, byte(r))
		i += skip
	}
	return !utf8.Valid(out)
}
