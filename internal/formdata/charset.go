package formdata

import (
	"unicode/utf8"
	"unsafe"
)

// DecodeText decodes bytes as Python's bytes.decode(charset, "replace") does,
// for the character sets that Werkzeug knows: utf-8, iso-8859-1, and ascii or
// us-ascii. The text may lie in the memory of b.
func DecodeText(b []byte, charset string) string {
	plain := true
	for _, c := range b {
		if c >= utf8.RuneSelf {
			plain = false
			break
		}
	}
	if plain || charset == "utf-8" && utf8.Valid(b) {
		return unsafe.String(unsafe.SliceData(b), len(b))
	}
	out := make([]byte, 0, len(b)+len(b)/2)
	for len(b) > 0 {
		n := 1
		switch c := b[0]; {
		case c < utf8.RuneSelf:
			out = append(out, c)
		case charset == "iso-8859-1":
			out = utf8.AppendRune(out, rune(c))
		case charset != "utf-8":
			out = utf8.AppendRune(out, utf8.RuneError)
		default:
			r, size := utf8.DecodeRune(b)
			if r == utf8.RuneError && size == 1 {
				size = subpart(b)
			}
			out, n = utf8.AppendRune(out, r), size
		}
		b = b[n:]
	}
	return string(out)
}

// subpart returns the length of the broken sequence that b begins with, which
// is replaced as one: the longest beginning of a well-formed one (Unicode,
// table 3-7), or one byte.
func subpart(b []byte) int {
	low, high, want := byte(0x80), byte(0xbf), 0
	switch c := b[0]; {
	case 0xc2 <= c && c <= 0xdf:
		want = 1
	case 0xe0 <= c && c <= 0xef:
		want = 2
	case 0xf0 <= c && c <= 0xf4:
		want = 3
	}
	switch b[0] {
	case 0xe0:
		low = 0xa0
	case 0xed:
		high = 0x9f
	case 0xf0:
		low = 0x90
	case 0xf4:
		high = 0x8f
	}
	n := 1
	for ; n <= want && n < len(b) && low <= b[n] && b[n] <= high; n++ {
		low, high = 0x80, 0xbf
	}
	return n
}
