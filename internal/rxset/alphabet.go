package rxset

import (
	"slices"
	"unicode/utf8"
)

// A text is read as symbols, one byte for each character: ASCII stands for
// itself, and the symbols from 128 up are classes of other characters that
// no pattern of the set tells apart. Every byte of broken UTF-8 is U+FFFD,
// as for Go's regexp. A value of ASCII is thus its own string of symbols. To
// a pattern of mode Bytes a value's symbols are its bytes.

// symset is a set of symbols.
type symset [4]uint64

func (s *symset) add(c byte)      { s[c>>6] |= 1 << (c & 63) }
func (s *symset) has(c byte) bool { return s[c>>6]>>(c&63)&1 != 0 }

func (s symset) union(o symset) symset {
	for i := range s {
		s[i] |= o[i]
	}
	return s
}

// maxSymbols is how many classes of characters beyond ASCII a set may have.
const maxSymbols = 128

// alphabet maps characters to symbols.
type alphabet struct {
	lo  []rune      // where each interval begins; the first at 0x80
	sym []byte      // its symbol
	low [0x780]byte // of U+0080 to U+07FF
	n   int         // symbols beyond ASCII
}

// newAlphabet returns the coarsest alphabet in which every one of sets
// (pairs of first and last character) is a set of symbols. It is nil if that
// takes more than maxSymbols.
func newAlphabet(sets [][]rune) *alphabet {
	cut := []rune{utf8.RuneSelf}
	for _, pairs := range sets {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] > utf8.RuneSelf {
				cut = append(cut, pairs[i])
			}
			if end := pairs[i+1] + 1; end > utf8.RuneSelf && end <= utf8.MaxRune {
				cut = append(cut, end)
			}
		}
	}
	slices.Sort(cut)
	a := &alphabet{lo: slices.Compact(cut)}
	a.sym = make([]byte, len(a.lo))
	bySignature := map[string]byte{}
	signature := make([]byte, (len(sets)+7)/8)
	for i, r := range a.lo {
		clear(signature)
		for k, pairs := range sets {
			if contains(pairs, r) {
				signature[k/8] |= 1 << (k % 8)
			}
		}
		sym, ok := bySignature[string(signature)]
		if !ok {
			if a.n == maxSymbols {
				return nil
			}
			sym = byte(utf8.RuneSelf + a.n)
			a.n++
			bySignature[string(signature)] = sym
		}
		a.sym[i] = sym
	}
	for i := range a.low {
		a.low[i] = a.search(rune(utf8.RuneSelf + i))
	}
	return a
}

func (a *alphabet) search(r rune) byte {
	i, ok := slices.BinarySearch(a.lo, r)
	if !ok {
		i--
	}
	return a.sym[i]
}

// symbols returns the set of symbols for pairs of characters, which must
// have been among those that the alphabet was made for.
func (a *alphabet) symbols(pairs []rune) symset {
	var s symset
	for i := 0; i < len(pairs); i += 2 {
		for r := pairs[i]; r <= min(pairs[i+1], utf8.RuneSelf-1); r++ {
			s.add(byte(r))
		}
	}
	for i, r := range a.lo {
		if contains(pairs, r) {
			s.add(a.sym[i])
		}
	}
	return s
}

// encode appends the symbols of value to dst.
func (a *alphabet) encode(dst []byte, value string) []byte {
	for i := 0; i < len(value); {
		c := value[i]
		if c < utf8.RuneSelf {
			dst = append(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(value[i:])
		i += n
		if r < 0x800 {
			c = a.low[r-utf8.RuneSelf]
		} else {
			c = a.search(r)
		}
		dst = append(dst, c)
	}
	return dst
}

// byteSymbols returns the set of bytes for pairs of characters of a pattern
// of mode Bytes.
func byteSymbols(pairs []rune) symset {
	var s symset
	for i := 0; i < len(pairs); i += 2 {
		for r := pairs[i]; r <= min(pairs[i+1], 0xff); r++ {
			s.add(byte(r))
		}
	}
	return s
}
