package jinja

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEnd tokenKind = iota // of the tag
	tokName
	tokString
	tokInt
	tokFloat
	tokOp
	tokBad // no token of Jinja's
)

// token is a piece of a tag. text is the source's, of a string without its
// quotes.
type token struct {
	kind tokenKind
	text string
	Span
}

// opening is what a piece of text between two tags is cut at.
type opening struct {
	at   int  // of the delimiter, or the length of the source
	kind byte // '{', '%', '#', or 0 at the end
	trim bool // white space before it goes
	next int  // after the delimiter and its sign
}

// nextOpening finds the next delimiter at or after from.
func nextOpening(src string, from int) opening {
	for i := from; ; i++ {
		j := strings.IndexByte(src[i:], '{')
		if j < 0 || i+j+1 >= len(src) {
			return opening{at: len(src), next: len(src)}
		}
		i += j
		switch k := src[i+1]; k {
		case '{', '%', '#':
			o := opening{at: i, kind: k, next: i + 2}
			if i+2 < len(src) && (src[i+2] == '-' || src[i+2] == '+') {
				o.trim = src[i+2] == '-'
				o.next++
			}
			return o
		}
	}
}

// isSpace is what Python's regular expressions take for white space.
func isSpace(r rune) bool {
	return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f
}

func skipSpace(src string, i int) int {
	for i < len(src) {
		r, n := utf8.DecodeRuneInString(src[i:])
		if !isSpace(r) {
			break
		}
		i += n
	}
	return i
}

func trimRightSpace(s string) string { return strings.TrimRightFunc(s, isSpace) }

func isWordRune(r rune) bool {
	return r == '_' || r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsNumber(r) || unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Mc, r))
}

// wordEnd returns the end of the word that begins at i, which is i if there
// is none.
func wordEnd(src string, i int) int {
	for i < len(src) {
		if c := src[i]; c < utf8.RuneSelf {
			if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') {
				break
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(src[i:])
		if !isWordRune(r) {
			break
		}
		i += n
	}
	return i
}

// lexer cuts tags into tokens.
type lexer struct {
	src    string
	tokens []token // of the tag read last, ending in tokEnd
	// noQuote holds, for ' and ", an offset behind which none closes a string,
	// so that a template full of open strings is not searched again and again.
	noQuote [2]int
	// The error, if the tag was not read smoothly.
	bad     string
	badSpan Span
}

func (l *lexer) fail(at Span, format string, args ...any) {
	if l.bad == "" {
		l.bad, l.badSpan = fmt.Sprintf(format, args...), at
	}
}

// tag reads the tokens of the tag whose delimiter ends at from, up to close,
// which is "}}" or "%}". It returns the offset behind the close and the white
// space that goes with it. Where there is no close, ok is false.
//
// A tag with brackets or strings that do not match ends at the first close
// that could be meant.
func (l *lexer) tag(from int, close string) (end int, ok bool) {
	l.tokens = l.tokens[:0]
	l.bad = ""
	var open []byte
	src := l.src
	i := from
	add := func(kind tokenKind, n int) {
		l.tokens = append(l.tokens, token{kind, src[i : i+n], Span{i, i + n}})
		i += n
	}
scan:
	for {
		i = skipSpace(src, i)
		if i >= len(src) {
			break
		}
		c := src[i]
		rest := src[i:]
		if closes := closing(rest, close); closes > 0 {
			// Inside of braces "}}" closes two of them. Inside of other
			// brackets nothing but the end of the tag can be meant.
			if len(open) == 0 || open[len(open)-1] != '}' || close == "%}" {
				if len(open) > 0 {
					l.fail(Span{i, i + closes}, "expected %q before the end of the tag", open[len(open)-1])
				}
				l.tokens = append(l.tokens, token{tokEnd, "", Span{i, i}})
				end = i + closes
				if rest[0] == '-' {
					end = skipSpace(src, end)
				}
				return end, true
			}
		}
		if n := floatLength(src, i); n > 0 {
			add(tokFloat, n)
			continue
		}
		if n := intLength(rest); n > 0 {
			add(tokInt, n)
			continue
		}
		if n := wordEnd(rest, 0); n > 0 {
			add(tokName, n)
			continue
		}
		switch c {
		case '"', '\'':
			j := l.stringEnd(i)
			if j < 0 {
				l.fail(Span{i, i + 1}, "the string is never closed")
				break scan
			}
			l.tokens = append(l.tokens, token{tokString, src[i+1 : j], Span{i, j + 1}})
			i = j + 1
			continue
		case '{':
			if strings.HasPrefix(rest, "{{") || strings.HasPrefix(rest, "{%") || strings.HasPrefix(rest, "{#") {
				l.fail(Span{i, i + 2}, "%q inside of a tag", rest[:2])
				break scan
			}
			open = append(open, '}')
			add(tokOp, 1)
			continue
		case '(':
			open = append(open, ')')
			add(tokOp, 1)
			continue
		case '[':
			open = append(open, ']')
			add(tokOp, 1)
			continue
		case ')', ']', '}':
			if len(open) == 0 || open[len(open)-1] != c {
				l.fail(Span{i, i + 1}, "unexpected %q", string(c))
				add(tokBad, 1)
				continue
			}
			open = open[:len(open)-1]
			add(tokOp, 1)
			continue
		}
		if len(rest) > 1 {
			switch rest[:2] {
			case "//", "**", "==", "!=", ">=", "<=":
				add(tokOp, 2)
				continue
			}
		}
		if strings.IndexByte("+-/*%~><=.:|,;", c) >= 0 {
			add(tokOp, 1)
			continue
		}
		r, n := utf8.DecodeRuneInString(rest)
		l.fail(Span{i, i + n}, "unexpected character %q", r)
		add(tokBad, n)
	}
	// Not closed as it should be: look for a close before the place that was
	// reached.
	j := strings.Index(src[from:i], close)
	if j < 0 {
		l.fail(Span{max(from-2, 0), from}, "missing %q", close)
		return from, false
	}
	j += from
	n := 0
	for n < len(l.tokens) && l.tokens[n].End <= j {
		n++
	}
	l.tokens = append(l.tokens[:n], token{tokEnd, "", Span{j, j}})
	return j + len(close), true
}

// closing returns how long the close is with which s begins, with its sign.
func closing(s, close string) int {
	switch {
	case strings.HasPrefix(s, close):
		return 2
	case len(s) > 2 && (s[0] == '-' || s[0] == '+' && close == "%}") && s[1:3] == close:
		return 3
	}
	return 0
}

// stringEnd returns the offset of the quote that closes the string at i.
func (l *lexer) stringEnd(i int) int {
	q := l.src[i]
	memo := &l.noQuote[0]
	if q == '"' {
		memo = &l.noQuote[1]
	}
	if *memo > 0 && i >= *memo-1 {
		return -1
	}
	for j := i + 1; j < len(l.src); j++ {
		switch l.src[j] {
		case '\\':
			j++
		case q:
			return j
		}
	}
	*memo = i + 1
	return -1
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// digits returns how long the run of digits at the beginning of s is, with
// single underscores between them.
func digits(s string, digit func(byte) bool) int {
	n := 0
	for n < len(s) && (digit(s[n]) || s[n] == '_' && n > 0 && n+1 < len(s) && digit(s[n+1])) {
		n++
	}
	return n
}

// floatLength returns how long the float at i is, 0 if there is none. After a
// dot there is none: a.1.2 has two items.
func floatLength(src string, i int) int {
	if !isDigit(src[i]) || i > 0 && src[i-1] == '.' {
		return 0
	}
	s := src[i:]
	n := digits(s, isDigit)
	fraction := false
	if n < len(s) && s[n] == '.' {
		if m := digits(s[n+1:], isDigit); m > 0 {
			n += 1 + m
			fraction = true
		}
	}
	if n < len(s) && s[n]|0x20 == 'e' {
		m := n + 1
		if m < len(s) && (s[m] == '+' || s[m] == '-') {
			m++
		}
		if k := digits(s[m:], isDigit); k > 0 {
			return m + k
		}
	}
	if fraction {
		return n
	}
	return 0
}

// intLength returns how long the integer at the beginning of s is.
func intLength(s string) int {
	if s == "" || !isDigit(s[0]) {
		return 0
	}
	if s[0] != '0' {
		return digits(s, isDigit)
	}
	if len(s) > 2 {
		var digit func(byte) bool
		switch s[1] | 0x20 {
		case 'b':
			digit = func(c byte) bool { return c == '0' || c == '1' }
		case 'o':
			digit = func(c byte) bool { return c >= '0' && c <= '7' }
		case 'x':
			digit = func(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }
		}
		if digit != nil {
			// One underscore may follow the letter.
			from := 2
			if s[2] == '_' {
				from = 3
			}
			if n := digits(s[from:], digit); n > 0 {
				return from + n
			}
		}
	}
	return digits(s, func(c byte) bool { return c == '0' })
}

// unescape returns what a string literal stands for: Python's escapes. bad is
// the offset of an escape that Python refuses, or -1; such ones stay as they
// are.
func unescape(s string) (value string, bad int) {
	i := strings.IndexByte(s, '\\')
	if i < 0 {
		return s, -1
	}
	bad = -1
	var b strings.Builder
	for ; i >= 0; i = strings.IndexByte(s, '\\') {
		b.WriteString(s[:i])
		s = s[i:]
		if len(s) == 1 {
			break
		}
		n := 2
		switch c := s[1]; c {
		case '\n':
		case '\\', '\'', '"':
			b.WriteByte(c)
		case 'a':
			b.WriteByte('\a')
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'v':
			b.WriteByte('\v')
		case '0', '1', '2', '3', '4', '5', '6', '7':
			r := rune(0)
			for n = 1; n < 4 && n < len(s) && s[n] >= '0' && s[n] <= '7'; n++ {
				r = r*8 + rune(s[n]-'0')
			}
			b.WriteRune(r)
		case 'x', 'u', 'U':
			length := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
			r, ok := hexRune(s[2:], length)
			n = 2
			if ok {
				n += length
				b.WriteRune(r)
			} else {
				if bad < 0 {
					bad = b.Len()
				}
				b.WriteString(s[:2])
			}
		default:
			// Unknown escapes stay; \N{NAME} too, whose names are not known
			// here.
			b.WriteString(s[:2])
		}
		s = s[n:]
	}
	b.WriteString(s)
	return b.String(), bad
}

func hexRune(s string, n int) (r rune, ok bool) {
	if len(s) < n {
		return 0, false
	}
	v := uint64(0)
	for i := range n {
		c := s[i]
		switch {
		case isDigit(c):
			v = v<<4 | uint64(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			v = v<<4 | uint64(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return rune(v), v <= unicode.MaxRune
}
