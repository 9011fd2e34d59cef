package pysyntax

import (
	"bytes"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// StringValue returns the value of a Str (adjacent literals joined), of a
// StrPart, or of a JoinedStr without replacement fields. ok is false for any
// other node, and where Python would refuse the literal: a bad \x, \u or \U
// escape, a \N{name} that is not known.
//
// The value is UTF-8 except that a lone surrogate, which "\ud800" makes, is
// encoded as if it were a character (Python's "surrogatepass"): such a value
// is not valid UTF-8, and no two values become equal.
func (f *File) StringValue(id ID) (value string, ok bool) {
	n := &f.Nodes[id]
	switch n.Kind {
	case Str:
		b, ok := f.joined(n, 0)
		return string(b), ok
	case StrPart:
		b, ok := f.part(nil, n)
		return string(b), ok
	case JoinedStr:
		var b []byte
		for _, p := range f.List(n.A) {
			if f.Nodes[p].Kind != StrPart {
				return "", false
			}
			if b, ok = f.part(b, &f.Nodes[p]); !ok {
				return "", false
			}
		}
		return string(b), true
	}
	return "", false
}

// BytesValue returns the value of a Bytes, adjacent literals joined. ok is
// false for any other node, and where Python would refuse the literal: a bad
// \x escape, a character that is not ASCII, a string among the bytes.
func (f *File) BytesValue(id ID) (value []byte, ok bool) {
	n := &f.Nodes[id]
	if n.Kind != Bytes {
		return nil, false
	}
	return f.joined(n, litBytes)
}

// joined decodes the literals of a Str or Bytes. Each must be of the wanted
// type, 0 or litBytes.
func (f *File) joined(n *Node, want uint8) (out []byte, ok bool) {
	out = make([]byte, 0, n.End-n.Start)
	src := f.Src[n.Start:n.End]
	for {
		src = bytes.TrimLeft(src, " \t\f\r\n\\")
		switch {
		case len(src) == 0:
			return out, true
		case src[0] == '#':
			i := bytes.IndexAny(src, "\r\n")
			if i < 0 {
				return nil, false
			}
			src = src[i:]
			continue
		}
		body, flags, rest := cutLiteral(src)
		if rest == nil || flags&(litBytes|litF|litT) != want {
			return nil, false
		}
		if out, ok = decodeLiteral(out, body, flags); !ok {
			return nil, false
		}
		src = rest
	}
}

// part decodes a StrPart.
func (f *File) part(out []byte, n *Node) ([]byte, bool) {
	src := f.Src[n.Start:n.End]
	if n.Op&(litF|litT) == 0 { // a whole literal next to an f-string
		body, flags, rest := cutLiteral(src)
		if rest == nil || flags&litBytes != 0 {
			return nil, false
		}
		return decodeLiteral(out, body, flags)
	}
	return decodeLiteral(out, src, n.Op)
}

// cutLiteral cuts the literal that src begins with: its text between the
// quotes, its flags and what follows. rest is nil if there is no literal.
func cutLiteral(src []byte) (body []byte, flags uint8, rest []byte) {
	i := 0
	for i < len(src) && src[i] != '"' && src[i] != '\'' {
		i++
	}
	flags, ok := stringPrefix(src[:i])
	if !ok || i == len(src) {
		return nil, 0, nil
	}
	quote := src[i : i+1]
	if q := src[i:]; len(q) >= 3 && q[1] == q[0] && q[2] == q[0] {
		quote = q[:3]
		flags |= litTriple
	}
	start := i + len(quote)
	for i = start; ; {
		j := bytes.IndexByte(src[min(i, len(src)):], quote[0])
		if j < 0 {
			return nil, 0, nil
		}
		if k := bytes.IndexByte(src[i:i+j], '\\'); k >= 0 {
			i += k + 2
			continue
		}
		i += j
		if bytes.HasPrefix(src[i:], quote) {
			return src[start:i], flags, src[i+len(quote):]
		}
		i++
	}
}

// decodeLiteral appends the value of the text of a literal to out. It decodes
// as CPython does, line breaks included, which are all "\n" in Python.
func decodeLiteral(out, body []byte, flags uint8) ([]byte, bool) {
	special := "\r\\"
	if flags&litRaw != 0 {
		special = "\r"
	}
	if flags&litBytes != 0 && !isASCII(body) {
		return nil, false
	}
	for {
		i := bytes.IndexAny(body, special)
		if i < 0 {
			return append(out, body...), true
		}
		out = append(out, body[:i]...)
		c := body[i]
		body = body[i+1:]
		if c == '\r' {
			out = append(out, '\n')
			body = bytes.TrimPrefix(body, []byte("\n"))
			continue
		}
		if len(body) == 0 { // f"\{x}"
			return append(out, '\\'), true
		}
		c = body[0]
		body = body[1:]
		switch c {
		case '\n':
		case '\r':
			body = bytes.TrimPrefix(body, []byte("\n"))
		case '\\', '\'', '"':
			out = append(out, c)
		case 'a':
			out = append(out, '\a')
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'v':
			out = append(out, '\v')
		case '0', '1', '2', '3', '4', '5', '6', '7':
			v := rune(c - '0')
			for n := 0; n < 2 && len(body) > 0 && '0' <= body[0] && body[0] <= '7'; n++ {
				v = v<<3 | rune(body[0]-'0')
				body = body[1:]
			}
			out = appendChar(out, v, flags)
		case 'x', 'u', 'U':
			size := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
			if flags&litBytes != 0 && c != 'x' {
				out = append(out, '\\', c)
				continue
			}
			v, ok := hexValue(body, size)
			if !ok || v > utf8.MaxRune {
				return nil, false
			}
			body = body[size:]
			out = appendChar(out, rune(v), flags)
		case 'N':
			if flags&litBytes != 0 {
				out = append(out, '\\', c)
				continue
			}
			end := bytes.IndexByte(body, '}')
			if end < 2 || body[0] != '{' {
				return nil, false
			}
			r, ok := characterNamed(string(body[1:end]))
			if !ok {
				return nil, false
			}
			out = utf8.AppendRune(out, r)
			body = body[end+1:]
		default: // no escape: the backslash stays
			out = append(out, '\\', c)
		}
	}
}

func appendChar(out []byte, r rune, flags uint8) []byte {
	switch {
	case flags&litBytes != 0:
		return append(out, byte(r))
	case 0xD800 <= r && r <= 0xDFFF:
		return append(out, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
	}
	return utf8.AppendRune(out, r)
}

func hexValue(b []byte, size int) (uint64, bool) {
	if len(b) < size {
		return 0, false
	}
	for _, c := range b[:size] {
		if !isHex(c) {
			return 0, false
		}
	}
	v, err := strconv.ParseUint(string(b[:size]), 16, 64)
	return v, err == nil
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }

// Number is the value of a Num.
type Number struct {
	Int   *big.Int // nil unless it is an integer
	Float float64  // the value, or that of Int, rounded; +Inf if too large
	Imag  bool     // Float is the imaginary part
}

// maxDigits is CPython's own limit on the digits of an integer literal
// (CVE-2020-10735): converting more takes quadratic time.
const maxDigits = 4300

// NumValue returns the value of a Num. ok is false for any other node, for a
// literal that Python refuses, such as 0777 or 1__0, and for an integer of
// more than 4,300 digits.
func (f *File) NumValue(id ID) (value Number, ok bool) {
	if f.Nodes[id].Kind != Num {
		return Number{}, false
	}
	text := string(f.Text(id))
	digits := strings.ReplaceAll(text, "_", "")
	if strings.Contains(text, "__") || strings.HasSuffix(text, "_") {
		return Number{}, false
	}
	base, prefixed := 10, len(digits) > 1 && digits[0] == '0'
	if prefixed {
		switch digits[1] | 0x20 {
		case 'x':
			base = 16
		case 'o':
			base = 8
		case 'b':
			base = 2
		default:
			prefixed = false
		}
	}
	if prefixed {
		digits = digits[2:]
	}
	if base != 10 || strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }) < 0 {
		if base == 10 && digits[0] == '0' && strings.Trim(digits, "0") != "" || len(digits) > maxDigits {
			return Number{}, false
		}
		value.Int, ok = new(big.Int).SetString(digits, base)
		if !ok {
			return Number{}, false
		}
		value.Float, _ = new(big.Float).SetInt(value.Int).Float64()
		return value, true
	}
	if n := len(digits) - 1; digits[n]|0x20 == 'j' {
		value.Imag = true
		digits = digits[:n]
	}
	v, err := strconv.ParseFloat(digits, 64)
	if err != nil && v == 0 {
		return Number{}, false
	}
	value.Float = v
	return value, true
}
