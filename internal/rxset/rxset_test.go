package rxset

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"rsc.io/binaryregexp"
)

// oracle is what a pattern must answer, said without this package.
type oracle struct {
	text    *regexp.Regexp
	bin     *binaryregexp.Regexp
	phrases []string
}

func (o oracle) match(value string) bool {
	switch {
	case o.text != nil:
		return o.text.MatchString(value)
	case o.bin != nil:
		return o.bin.MatchString(value)
	}
	for _, p := range o.phrases {
		for i := 0; i+len(p) <= len(value); i++ {
			if foldEqual(value[i:i+len(p)], p) {
				return true
			}
		}
	}
	return false
}

func foldEqual(a, b string) bool {
	for i := range len(a) {
		x, y := a[i], b[i]
		if 'A' <= x && x <= 'Z' {
			x |= 0x20
		}
		if 'A' <= y && y <= 'Z' {
			y |= 0x20
		}
		if x != y {
			return false
		}
	}
	return true
}

func oracleOf(p Pattern) oracle {
	switch {
	case p.Mode == Phrases:
		return oracle{phrases: p.Phrases}
	case p.Mode == Bytes || p.Mode == Rx && isBinary("(?sm)"+p.Expr):
		return oracle{bin: binaryregexp.MustCompile(p.Expr)}
	case p.Mode == Rx:
		return oracle{text: regexp.MustCompile("(?sm)" + p.Expr)}
	}
	return oracle{text: regexp.MustCompile(p.Expr)}
}

// check holds every pattern's answer for value against the oracle, and those
// for some of them, asked for alone, against all.
func check(t testing.TB, s *Set, patterns []Pattern, oracles []oracle, value string) {
	t.Helper()
	out := s.NewBits()
	s.Match(value, nil, out)
	r := rand.New(rand.NewPCG(uint64(len(value)), uint64(len(patterns))))
	for _, share := range []int{2, 10, 60} {
		among, some, want := s.NewBits(), s.NewBits(), slices.Clone(out)
		for i := range patterns {
			if r.IntN(share) == 0 {
				among.Set(i)
			}
		}
		s.Match(value, among, some)
		if want.And(among); !slices.Equal(some, want) {
			t.Fatalf("among %b\non %q: %b, want %b", among, value, some, want)
		}
	}
	for i, o := range oracles {
		if want := o.match(value); out.Has(i) != want {
			t.Fatalf("pattern %d %q\non %q: %v, want %v", i, patterns[i].Expr, value, out.Has(i), want)
		}
	}
}

func compile(t testing.TB, patterns []Pattern) (*Set, []oracle) {
	t.Helper()
	s, err := Compile(patterns)
	if err != nil {
		t.Fatal(err)
	}
	oracles := make([]oracle, len(patterns))
	for i, p := range patterns {
		oracles[i] = oracleOf(p)
	}
	return s, oracles
}

func TestMatch(t *testing.T) {
	patterns := []Pattern{
		{Expr: `^foo$`},
		{Expr: `foo.bar`},
		{Expr: `(?i)skin`},
		{Expr: `\xe2\x80`},
		{Mode: Text, Expr: `\x{fffd}`},
		{Mode: Text, Expr: `^foo$`},
		{Mode: Text, Expr: `a.b`},
		PM("union SELECT"),
		PMFile([]byte("# words\n\n  Union All \nDROP\n")),
		PM("a  b"),
		{Mode: Text, Expr: `(?m)[x-]$\B\n`},
		{Mode: Text, Expr: `q[^\x{10ffff}]`},
		{Expr: `\x{fffd}`}, // Coraza reads \xff, so it is for bytes, of which none is U+FFFD
	}
	s, oracles := compile(t, patterns)
	for value, want := range map[string][]int{
		"":                       {9},
		"x\nfoo\ny":              {0, 9},
		"foo":                    {0, 5, 9},
		"foo\nbar":               {0, 1, 9},
		"a\nb":                   {9},
		"a\xffb":                 {4, 6, 9},
		"\u017f\u212ain":         {2, 9},
		"\u2019":                 {3, 9},
		"\xe2\x80":               {3, 4, 9},
		"UNION all":              {7, 8, 9},
		"selec":                  {9},
		"xx SeLeCt drop":         {7, 8, 9},
		"\ufffd":                 {4, 9},
		"# words":                {9},
		"x\n":                    {9},
		"-\n":                    {9, 10},
		"q\U0010fffe":            {9, 11},
		"q\U0010ffff":            {9},
		"Y foo\r\nfoo\nbar\xc3(": {0, 1, 4, 9},
	} {
		out := s.NewBits()
		s.Match(value, nil, out)
		exp := s.NewBits()
		for _, i := range want {
			exp.Set(i)
		}
		for i := range patterns {
			if out.Has(i) != exp.Has(i) {
				t.Errorf("pattern %d on %q: %v", i, value, out.Has(i))
			}
			if s.Contains(i, value) != exp.Has(i) {
				t.Errorf("pattern %d alone on %q: %v", i, value, !exp.Has(i))
			}
		}
		check(t, s, patterns, oracles, value)
	}
}

// TestCounts: high counts are exact, though groups do not count.
func TestCounts(t *testing.T) {
	patterns := []Pattern{{Expr: `^a{3,40}$`}, {Expr: `x.{16,20}y`}, {Expr: `^(?:b{2}){20}$`}, {Expr: `q{0,17}z{18}`}}
	s, oracles := compile(t, patterns)
	for n := range 60 {
		for _, v := range []string{strings.Repeat("a", n), "x" + strings.Repeat("-", n) + "y", strings.Repeat("b", n), "q" + strings.Repeat("z", n)} {
			check(t, s, patterns, oracles, v)
		}
	}
	for i, p := range s.patterns {
		if p.loose == p.nfa || len(p.loose.inst) >= len(p.nfa.inst) {
			t.Errorf("pattern %d is not relaxed", i)
		}
	}
}

func TestAmong(t *testing.T) {
	s, _ := compile(t, []Pattern{{Expr: "a"}, {Expr: "b"}, PM("c")})
	among, out := s.NewBits(), s.NewBits()
	among.Set(1)
	s.Match("abc", among, out)
	if out.Count() != 1 || !out.Has(1) {
		t.Errorf("among {1}: %b", out)
	}
	among.Clear()
	s.Match("abc", among, out)
	if out.Count() != 1 {
		t.Errorf("what stood in out went: %b", out)
	}
}

func TestCompileErrors(t *testing.T) {
	for _, p := range []Pattern{{Expr: "("}, {Mode: Bytes, Expr: `\xff(`}, {Mode: Text, Expr: `a{2000}`}, {Mode: 99}} {
		if _, err := Compile([]Pattern{{Expr: "a"}, p}); err == nil {
			t.Errorf("%+v compiles", p)
		}
	}
}

func TestCRSCompiles(t *testing.T) {
	patterns := crs(t)
	s, oracles := compile(t, patterns)
	for _, v := range []string{"", "Mozilla/5.0 (X11; Linux x86_64)", "1' or 1=1 -- ", "<script>alert(1)</script>", "; cat /etc/passwd"} {
		check(t, s, patterns, oracles, v)
	}
}
