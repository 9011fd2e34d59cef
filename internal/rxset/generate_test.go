package rxset

import (
	"fmt"
	"math/rand/v2"
	"regexp/syntax"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// generate appends to b a text that the tree re matches as far as its
// assertions let it: the ways are drawn from r. Bytes patterns get one byte
// for each character.
func generate(r *rand.Rand, b []byte, re *syntax.Regexp, raw bool) []byte {
	char := func(c rune) {
		if raw {
			b = append(b, byte(c))
		} else {
			b = utf8.AppendRune(b, c)
		}
	}
	repeat := func(least, most int) {
		n := least
		if most > least {
			n += min(r.IntN(most-least+1), r.IntN(3)+r.IntN(8)/7*r.IntN(40))
		}
		for range n {
			b = generate(r, b, re.Sub[0], raw)
			if len(b) > 4000 {
				break
			}
		}
	}
	switch re.Op {
	case syntax.OpLiteral:
		for _, c := range re.Rune {
			if re.Flags&syntax.FoldCase != 0 {
				orbit := literalRunes(c, true)
				if o := orbit[2*r.IntN(len(orbit)/2)]; !raw || o <= 0xff {
					c = o
				}
			}
			char(c)
		}
	case syntax.OpCharClass:
		if len(re.Rune) == 0 {
			break
		}
		k := r.IntN(len(re.Rune)/2) * 2
		lo, hi := re.Rune[k], re.Rune[k+1]
		if raw {
			hi = max(lo, min(hi, 0xff))
		} else if r.IntN(4) > 0 && lo < 0x7f {
			hi = min(hi, 0x7e)
		}
		char(lo + rune(r.IntN(int(hi-lo)+1)))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		char(rune(" aZ09_-'\"<>();|&$\\/.=é\u2019\ufffd\u017f"[r.IntN(20)]))
	case syntax.OpCapture, syntax.OpConcat:
		for _, sub := range re.Sub {
			b = generate(r, b, sub, raw)
		}
	case syntax.OpAlternate:
		b = generate(r, b, re.Sub[r.IntN(len(re.Sub))], raw)
	case syntax.OpStar:
		repeat(0, 1000)
	case syntax.OpPlus:
		repeat(1, 1000)
	case syntax.OpQuest:
		repeat(0, 1)
	case syntax.OpRepeat:
		if re.Max < 0 {
			repeat(re.Min, re.Min+1000)
		} else {
			repeat(re.Min, re.Max)
		}
	}
	return b
}

// odd are pieces that texts are broken with.
var odd = []string{
	"\n", "\r\n", "\x00", " ", "\xff", "\xc3", "\xe2\x80", "\xe2\x80\x98", "\xc2\xb4", "\u017f", "\u212a", "\ufffd", "\xed\xa0\x80",
	"'", "\"", "`", ";", "|", "&&", "$(", "{", "}", "<", ">", "\\", "/", "/*", "--", "#", "=", "%", "_", "a", "Z", "0", ".", ",", ":", "\v", "\t", "\x7f", "é", "\U0001F600",
}

// mutate changes text in a few places.
func mutate(r *rand.Rand, text string) string {
	for range 1 + r.IntN(4) {
		at := r.IntN(len(text) + 1)
		end := min(len(text), at+r.IntN(3))
		switch r.IntN(8) {
		case 0:
			text = text[:at]
		case 1:
			text = text[at:]
		case 2:
			text = text[:at] + text[end:]
		case 3:
			text = text[:at] + strings.ToUpper(text[at:end]) + text[end:]
		case 4:
			text = text[:end] + text[at:]
		default:
			text = text[:at] + odd[r.IntN(len(odd))] + text[at:]
		}
	}
	return text
}

// values returns texts that a pattern matches or nearly matches.
func values(t testing.TB, r *rand.Rand, p Pattern, n int) []string {
	t.Helper()
	var out []string
	if p.Mode == Phrases {
		for range n {
			w := p.Phrases[r.IntN(len(p.Phrases))]
			if r.IntN(2) == 0 {
				w = strings.ToUpper(w)
			}
			out = append(out, w, mutate(r, w), mutate(r, "x"+w+"y"))
		}
		return out
	}
	q := p.resolve()
	re, err := q.parse()
	if err != nil {
		t.Fatal(err)
	}
	re = re.Simplify()
	for range n {
		text := string(generate(r, nil, re, q.mode == Bytes))
		around := odd[r.IntN(len(odd))] + text + odd[r.IntN(len(odd))]
		out = append(out, text, around, mutate(r, text), mutate(r, around))
	}
	return out
}

// TestOwnValues runs every pattern of the Core Rule Set over texts made from
// its own tree: the pattern itself, and together with all others.
func TestOwnValues(t *testing.T) {
	patterns := crs(t)
	s, oracles := compile(t, patterns)
	r := rand.New(rand.NewPCG(1, 2))
	n, hits := 0, 0
	hit := s.NewBits()
	out := s.NewBits()
	for round := range 3 {
		for i, p := range patterns {
			for _, v := range values(t, r, p, 2) {
				want := oracles[i].match(v)
				n++
				if want {
					hits++
					hit.Set(i)
				}
				out.Clear()
				s.Match(v, nil, out)
				if out.Has(i) != want || s.Contains(i, v) != want {
					t.Fatalf("pattern %d %q\non %q: %v, alone %v, want %v", i, p.Expr, v, out.Has(i), s.Contains(i, v), want)
				}
				if round == 0 && n%10 == 0 && len(v) < 100 {
					check(t, s, patterns, oracles, v)
				}
			}
		}
	}
	if hits < n/4 {
		t.Errorf("only %d of %d texts match the pattern that they were made from", hits, n)
	}
	if hit.Count() < len(patterns)*9/10 {
		t.Errorf("only %d of %d patterns match a text made from them", hit.Count(), len(patterns))
	}
	t.Logf("%d texts, %d matches", n, hits)
}

// grammar makes a regular expression from the numbers that next draws.
func grammar(next func(n int) int, depth int) string {
	atoms := []string{
		"a", "b", "c", "k", "s", "ab", "foo", "select", "union", "1", " ", "_", "-", `\.`, ".", `\n`, `\w`, `\W`, `\d`, `\s`, `\S`, "[a-c]", "[^a]", "[^ab\n]", `[k-t]`,
		"é", "\u017f", `\x{fffd}`, `\x{212a}`, `[à-ÿ]`, `\pL`, `\PN`, "^", "$", `\b`, `\B`, `\A`, `\z`, "(?:)", `\x00`, `[[:punct:]]`, `\x{10ffff}`, "[^\\x00-\\x{10ffff}]",
	}
	if depth <= 0 {
		return atoms[next(len(atoms))]
	}
	sub := func() string { return grammar(next, depth-1) }
	switch next(11) {
	case 0, 1, 2:
		return sub() + sub()
	case 3:
		return sub() + sub() + sub()
	case 4:
		return "(?:" + sub() + "|" + sub() + ")"
	case 5:
		return "(" + sub() + "|" + sub() + "|" + sub() + ")"
	case 6:
		return "(?:" + sub() + ")" + []string{"*", "+", "?", "*?", "+?", "??"}[next(6)]
	case 7:
		m, more := next(6), next(8)
		if m > 3 {
			m, more = 5*(m-3), 3*more // more than is counted in a group
		}
		return "(?:" + sub() + ")" + fmt.Sprintf("{%d,%d}", m, m+more)
	case 8:
		return "(?i:" + sub() + ")"
	case 9:
		return []string{"(?m:", "(?s:", "(?-m:", "(?-s:"}[next(4)] + sub() + ")"
	}
	return atoms[next(len(atoms))]
}

// TestRandom compares patterns of a grammar with Go over texts made from
// them.
func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	rounds := 300
	if testing.Short() {
		rounds = 50
	}
	for range rounds {
		var patterns []Pattern
		for range 1 + r.IntN(12) {
			p := Pattern{Mode: Mode(r.IntN(3)), Expr: grammar(r.IntN, 1+r.IntN(4))}
			if p.Mode == Bytes && strings.ContainsAny(p.Expr, "éſàÿ") {
				p.Mode = Text // raw UTF-8 in a pattern is one character to both
			}
			if _, err := Compile([]Pattern{p}); err != nil {
				continue // repeated too often
			}
			patterns = append(patterns, p)
		}
		if r.IntN(2) == 0 {
			patterns = append(patterns, PM("foo  sel"), PM("uni \u017fk \xff kz"))
		}
		if len(patterns) == 0 {
			continue
		}
		s, oracles := compile(t, patterns)
		for _, p := range slices.Clone(patterns) {
			for _, v := range values(t, r, p, 8) {
				check(t, s, patterns, oracles, v)
			}
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add([]byte("\x00\x04\x08seed of a pattern\x06"), "foo bar\n")
	f.Add([]byte{3, 1, 0, 9, 33, 35, 1, 2, 6}, "a\xffb\u212a")
	f.Fuzz(func(t *testing.T, seed []byte, value string) {
		if len(value) > 1000 || len(seed) > 100 {
			return
		}
		k := 0
		next := func(n int) int {
			if k == len(seed) {
				return 0
			}
			k++
			return int(seed[k-1]) % n
		}
		var patterns []Pattern
		for k < len(seed) && len(patterns) < 8 {
			p := Pattern{Mode: Mode(next(3)), Expr: grammar(next, next(5))}
			if _, err := Compile([]Pattern{p}); err == nil {
				patterns = append(patterns, p)
			}
		}
		s, oracles := compile(t, patterns)
		check(t, s, patterns, oracles, value)
		r := rand.New(rand.NewPCG(uint64(len(seed)), uint64(len(value))))
		for range 4 {
			check(t, s, patterns, oracles, mutate(r, value))
		}
	})
}

func FuzzCRS(f *testing.F) {
	patterns := crs(f)
	s, oracles := compile(f, patterns)
	r := rand.New(rand.NewPCG(5, 6))
	for _, p := range patterns {
		for _, v := range values(f, r, p, 1)[1:3] {
			if len(v) < 300 {
				f.Add(v)
			}
		}
	}
	f.Fuzz(func(t *testing.T, value string) {
		if len(value) > 500 {
			return
		}
		check(t, s, patterns, oracles, value)
	})
}
