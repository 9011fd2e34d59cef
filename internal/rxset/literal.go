package rxset

import (
	"cmp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"
)

// need is what every text must have that a part of a pattern matches.
// Strings are folded: of lower case, U+017F is s and U+212A is k.
type need struct {
	// exact is every string that the part matches, if known is set.
	exact []string
	known bool
	// clauses are sets of strings; the text holds one of each.
	clauses [][]string
	// masks are sets of symbols; the text holds one of each.
	masks []symset
	// min is the fewest symbols it has.
	min int
}

const (
	// maxExact is how many strings need.exact may hold.
	maxExact = 600
	// maxProduct is how many may come of two parts of several each.
	maxProduct = 64
	// maxClassLiteral is how large a class may be that is written out.
	maxClassLiteral = 6
	// maxMasks and maxClauses are how many of the best are kept.
	maxMasks   = 3
	maxClauses = 2
)

// literals finds a tree's need.
type literals struct {
	symbols func(pairs []rune) symset
	fold    *[256]byte // symbol to folded ASCII, or utf8.RuneSelf
}

// fold returns the table of folded symbols for text read through a.
func (a *alphabet) fold() *[256]byte {
	var f [256]byte
	for c := range f {
		switch {
		case 'A' <= c && c <= 'Z':
			f[c] = byte(c) + 'a' - 'A'
		case c < utf8.RuneSelf:
			f[c] = byte(c)
		default:
			f[c] = utf8.RuneSelf
		}
	}
	if a != nil {
		f[a.search('\u017f')] = 's'
		f[a.search('\u212a')] = 'k'
	}
	return &f
}

func (l *literals) of(re *syntax.Regexp) need {
	switch re.Op {
	case syntax.OpNoMatch:
		return need{known: true}
	case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return need{known: true, exact: []string{""}}
	case syntax.OpLiteral:
		c := conjunction{need: need{known: true, exact: []string{""}}}
		for _, r := range re.Rune {
			c.add(l.class(literalRunes(r, re.Flags&syntax.FoldCase != 0)))
		}
		return c.end()
	case syntax.OpCharClass:
		return l.class(re.Rune)
	case syntax.OpAnyChar:
		return l.class(anyRune)
	case syntax.OpAnyCharNotNL:
		return l.class(anyNotNL)
	case syntax.OpCapture:
		return l.of(re.Sub[0])
	case syntax.OpConcat:
		c := conjunction{need: need{known: true, exact: []string{""}}}
		for _, sub := range re.Sub {
			c.add(l.of(sub))
		}
		return c.end()
	case syntax.OpAlternate:
		return l.either(re.Sub)
	case syntax.OpPlus:
		n := l.of(re.Sub[0])
		n.settle()
		return n
	case syntax.OpQuest:
		n := l.of(re.Sub[0])
		if n.known && len(n.exact) < maxExact {
			return need{known: true, exact: append(n.exact, "")}
		}
	}
	return need{} // OpStar, and what Simplify leaves no more
}

// class is one symbol of a set.
func (l *literals) class(pairs []rune) need {
	set := l.symbols(pairs)
	if set == (symset{}) {
		return need{known: true}
	}
	n := need{min: 1}
	var folded symset
	count := 0
	ascii := true
	for c := range 256 {
		if !set.has(byte(c)) {
			continue
		}
		f := l.fold[c]
		if f == utf8.RuneSelf {
			ascii = false
		} else if !folded.has(f) {
			folded.add(f)
			count++
		}
	}
	if ascii && count <= maxClassLiteral {
		n.known = true
		for c := range byte(utf8.RuneSelf) {
			if folded.has(c) {
				n.exact = append(n.exact, string(rune(c)))
			}
		}
	}
	n.masks = []symset{coarse(set)}
	return n
}

// coarse adds to a set of symbols or bytes what a mask does not tell apart
// from what is in it: the letters, the digits, everything beyond ASCII.
// Nearly every value has letters, so that a mask of some says little, and
// there is room for few kinds of symbols. A byte beyond ASCII may also be
// part of any character beyond ASCII.
func coarse(set symset) symset {
	for _, alike := range []symset{letters, digits, beyond} {
		for i := range set {
			if set[i]&alike[i] != 0 {
				set = set.union(alike)
				break
			}
		}
	}
	return set
}

var letters, digits, beyond symset

func init() {
	for c := range 256 {
		switch {
		case 'a' <= c|0x20 && c|0x20 <= 'z':
			letters.add(byte(c))
		case '0' <= c && c <= '9':
			digits.add(byte(c))
		case c >= utf8.RuneSelf:
			beyond.add(byte(c))
		}
	}
}

// conjunction joins the needs of parts that follow each other.
type conjunction struct {
	need
	loose bool // some part was unknown or did not fit: exact is the last run
}

func (c *conjunction) add(n need) {
	c.min += n.min
	c.masks = append(c.masks, n.masks...)
	product := len(c.exact) * len(n.exact)
	if n.known && (product <= maxProduct || product <= maxExact && min(len(c.exact), len(n.exact)) == 1) {
		joined := make([]string, 0, len(c.exact)*len(n.exact))
		for _, a := range c.exact {
			for _, b := range n.exact {
				joined = append(joined, a+b)
			}
		}
		slices.Sort(joined)
		c.exact = slices.Compact(joined)
		return
	}
	c.clauses = appendClause(c.clauses, c.exact)
	c.loose = true
	if n.known {
		c.exact = n.exact
		return
	}
	c.exact = []string{""}
	c.clauses = append(c.clauses, n.clauses...)
}

func (c *conjunction) end() need {
	if c.loose {
		c.settle()
		c.known, c.exact = false, nil
	}
	c.masks = bestMasks(c.masks)
	c.clauses = bestClauses(c.clauses)
	return c.need
}

// settle makes a clause of the exact strings.
func (n *need) settle() {
	if n.known {
		n.clauses = appendClause(n.clauses, n.exact)
		n.known, n.exact = false, nil
	}
}

// appendClause adds a clause of the strings, unless the empty one, which is
// in every text, is among them. Of two strings of which one holds the other
// the shorter will do.
func appendClause(clauses [][]string, strs []string) [][]string {
	if slices.Contains(strs, "") {
		return clauses
	}
	strs = slices.Clone(strs)
	slices.SortFunc(strs, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
	var kept []string
next:
	for _, s := range strs {
		for _, k := range kept {
			if strings.Contains(s, k) {
				continue next
			}
		}
		kept = append(kept, s)
	}
	return append(clauses, kept)
}

// either joins the needs of alternatives.
func (l *literals) either(subs []*syntax.Regexp) need {
	needs := make([]need, len(subs))
	all := need{known: true, min: 1 << 30}
	for i, sub := range subs {
		n := l.of(sub)
		needs[i] = n
		all.known = all.known && n.known && len(all.exact)+len(n.exact) <= maxExact
		if all.known {
			all.exact = append(all.exact, n.exact...)
		}
		if !n.known || len(n.exact) > 0 {
			all.min = min(all.min, n.min)
		}
	}
	if all.known {
		slices.Sort(all.exact)
		all.exact = slices.Compact(all.exact)
	} else {
		all.exact = nil
	}
	// The best clause and the best mask of each, if each has one.
	var clause []string
	var mask symset
	hasClause, hasMask := true, true
	for i := range needs {
		n := &needs[i]
		if n.known && len(n.exact) == 0 {
			continue // never matches
		}
		n.settle()
		if c := bestClauses(n.clauses); len(c) > 0 {
			clause = append(clause, c[0]...)
		} else {
			hasClause = false
		}
		if m := bestMasks(n.masks); len(m) > 0 {
			mask = mask.union(m[0])
		} else {
			hasMask = false
		}
	}
	if hasClause && !all.known {
		all.clauses = appendClause(nil, clause)
	}
	if hasMask {
		all.masks = []symset{mask}
	}
	if all.min == 1<<30 {
		all.min = 0
	}
	return all
}

// bestMasks returns the rarest, at most maxMasks.
func bestMasks(masks []symset) []symset {
	slices.SortStableFunc(masks, func(a, b symset) int { return cmp.Compare(weighMask(a), weighMask(b)) })
	masks = slices.Compact(masks)
	return masks[:min(len(masks), maxMasks)]
}

// bestClauses returns the rarest, at most maxClauses.
func bestClauses(clauses [][]string) [][]string {
	slices.SortStableFunc(clauses, func(a, b []string) int { return cmp.Compare(weighClause(a), weighClause(b)) })
	clauses = slices.CompactFunc(clauses, slices.Equal)
	return clauses[:min(len(clauses), maxClauses)]
}

// weighMask is how often a symbol of the set stands in ordinary values.
func weighMask(m symset) float64 {
	w := 0.0
	for c := range 256 {
		if m.has(byte(c)) {
			w += usual.one[c]
		}
	}
	return w
}

// weighClause is how often one of the strings does.
func weighClause(strs []string) float64 {
	w := 0.0
	for _, s := range strs {
		w += weigh(s)
	}
	return w
}

// weigh estimates how often s stands at a place of an ordinary value, each
// symbol depending on the one before it.
func weigh(s string) float64 {
	if s == "" {
		return 1
	}
	w := usual.one[s[0]]
	for i := 1; i < len(s); i++ {
		w *= usual.pair(s[i-1], s[i]) / usual.one[s[i-1]]
	}
	return w
}

// frequency is how often symbols and pairs of them stand in ordinary values,
// as a share of all places.
type frequency struct {
	one [256]float64
	two map[[2]byte]float64
}

// pair returns how often b stands behind a.
func (f *frequency) pair(a, b byte) float64 {
	return f.two[[2]byte{a, b}] + 0.2*f.one[a]*f.one[b]
}

// usual is the frequency in folded values like sample. A bad guess makes the
// filter slow, never wrong.
var usual = func() *frequency {
	f := &frequency{two: map[[2]byte]float64{}}
	text := strings.ToLower(sample)
	unit := 1 / float64(len(text)+256)
	for c := range f.one {
		f.one[c] = unit / 8
	}
	for i := range len(text) {
		f.one[text[i]] += unit
		if i > 0 {
			f.two[[2]byte{text[i-1], text[i]}] += 0.8 * unit
		}
	}
	for c := 'A'; c <= 'Z'; c++ {
		f.one[c] = f.one[c+'a'-'A'] / 8
	}
	return f
}()

// sample is a bit of everything that values are usually like.
const sample = `Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36
text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8
https://www.example.com/products/running-shoes?page=2&sort=price-asc&ref=home#reviews
application/x-www-form-urlencoded; charset=utf-8 gzip, deflate, br en-US,en;q=0.5 keep-alive same-origin navigate
eyJ1c2VyX2lkIjo0Miwicm9sZSI6ImVkaXRvciJ9.ZmVlZA.3q2-7wAAAAABAgMEBQYHCAkKCwwNDg8 5f3c18e1-a2b7-4d90-8c6e-0f1a2b3c4d5e
{"id": 1042, "name": "Cotton shirt, blue", "price": "24.90", "tags": ["sale", "new"], "created_at": "2026-03-14T15:09:26Z"}
<div class="card"><a href="/item/17"><img src="/static/img/photo.jpg" alt="A photo" width="320"></a><p>Only three left in stock.</p></div>
John O'Neill, 221b Baker Street, London NW1 6XE, +44 20 7946 0958, john.oneill@example.com, 1984-06-23, 3 500,00 EUR
The order came on Tuesday and everything was there, but the box had been opened at one side. I would like to know whether
you can send another one before the end of the month; if that is not possible, please tell me what it would cost to have it
returned. When we spoke to your colleague about this last week she said that the delivery would take no more than four days.
It was the first time that I had to wait for so long, and although the quality is good I do not think that we should pay for
this again. Thank you for your help with the account: the password reset worked, and the new address is shown on the profile.
Select a size from the table, or use the search box to find other products and their prices. Your data is safe with us.
What is the difference between these two models? Is there a manual for the older version as well? See also the notes below!
username password email search comment message title content first_name last_name csrf_token page limit offset true false null
`
