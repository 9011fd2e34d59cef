package rxset

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"unicode"

	binsyntax "rsc.io/binaryregexp/syntax"
)

// parse returns the tree of a regular expression as the package that
// Pattern's mode names would read it. The two packages' trees differ only in
// the type.
func (p *pattern) parse() (*syntax.Regexp, error) {
	var re *syntax.Regexp
	switch p.mode {
	case Text:
		var err error
		if re, err = syntax.Parse(p.expr, syntax.Perl); err != nil {
			return nil, err
		}
	case Bytes:
		old, err := binsyntax.Parse(p.expr, binsyntax.Perl)
		if err != nil {
			return nil, err
		}
		re = convert(old)
	default:
		return nil, fmt.Errorf("no regular expression: mode %d", p.mode)
	}
	return re, nil
}

// convert copies a tree of binaryregexp, an older copy of Go's package with
// the same operators and flags under the same numbers; a test holds that.
func convert(old *binsyntax.Regexp) *syntax.Regexp {
	re := &syntax.Regexp{
		Op:    syntax.Op(old.Op),
		Flags: syntax.Flags(old.Flags),
		Rune:  slices.Clone(old.Rune),
		Min:   old.Min,
		Max:   old.Max,
		Cap:   old.Cap,
		Name:  old.Name,
	}
	for _, sub := range old.Sub {
		re.Sub = append(re.Sub, convert(sub))
	}
	return re
}

// instRunes returns the characters that in consumes as pairs of first and
// last, in order.
func instRunes(in *syntax.Inst) []rune {
	switch in.Op {
	case syntax.InstRuneAny:
		return anyRune
	case syntax.InstRuneAnyNotNL:
		return anyNotNL
	case syntax.InstRune1:
		return []rune{in.Rune[0], in.Rune[0]}
	}
	if len(in.Rune) == 1 {
		return literalRunes(in.Rune[0], syntax.Flags(in.Arg)&syntax.FoldCase != 0)
	}
	return in.Rune
}

var (
	anyRune  = []rune{0, unicode.MaxRune}
	anyNotNL = []rune{0, '\n' - 1, '\n' + 1, unicode.MaxRune}
)

// literalRunes returns r, and with fold what it folds to, as pairs.
func literalRunes(r rune, fold bool) []rune {
	rs := []rune{r}
	if fold {
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			rs = append(rs, f)
		}
	}
	slices.Sort(rs)
	pairs := make([]rune, 0, 2*len(rs))
	for _, r := range rs {
		pairs = append(pairs, r, r)
	}
	return pairs
}

// contains reports whether r lies in one of pairs.
func contains(pairs []rune, r rune) bool {
	lo, hi := 0, len(pairs)/2
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		switch {
		case r < pairs[2*m]:
			hi = m
		case r > pairs[2*m+1]:
			lo = m + 1
		default:
			return true
		}
	}
	return false
}

// phraseTree returns a pattern of mode Bytes for phrases.
func phraseTree(phrases []string) *syntax.Regexp {
	any := &syntax.Regexp{Op: syntax.OpAlternate}
	for _, s := range phrases {
		all := &syntax.Regexp{Op: syntax.OpConcat}
		for _, c := range []byte(s) {
			pairs := []rune{rune(c), rune(c)}
			if letter := c | 0x20; 'a' <= letter && letter <= 'z' {
				pairs = []rune{rune(letter &^ 0x20), rune(letter &^ 0x20), rune(letter), rune(letter)}
			}
			all.Sub = append(all.Sub, &syntax.Regexp{Op: syntax.OpCharClass, Rune: pairs})
		}
		any.Sub = append(any.Sub, all)
	}
	return any
}

const (
	// maxCount is the highest count of a repetition that relax keeps.
	maxCount = 15
	// leastCount is how many repetitions are kept of a higher one.
	leastCount = 3
)

// relax returns a pattern that matches whatever re matches, and more: what is
// repeated up to a high count, such as .{1,100}, may be repeated for ever. It
// needs far fewer instructions and states, as nobody counts. It returns nil if
// there is nothing to relax.
func relax(re *syntax.Regexp) *syntax.Regexp {
	var subs []*syntax.Regexp
	for i, sub := range re.Sub {
		if r := relax(sub); r != nil {
			if subs == nil {
				subs = slices.Clone(re.Sub)
			}
			subs[i] = r
		}
	}
	if re.Op == syntax.OpRepeat && max(re.Min, re.Max) > maxCount {
		sub := re.Sub[0]
		if subs != nil {
			sub = subs[0]
		}
		return &syntax.Regexp{Op: syntax.OpRepeat, Flags: re.Flags, Min: min(re.Min, leastCount), Max: -1, Sub: []*syntax.Regexp{sub}}
	}
	if subs == nil {
		return nil
	}
	r := *re
	r.Sub = subs
	return &r
}
