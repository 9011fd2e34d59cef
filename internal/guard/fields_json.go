package guard

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dewar-security/dewar/internal/percent"
	"github.com/dewar-security/dewar/internal/policy"
)

// json reads JSON as Python's json.loads does: RFC 8259, and NaN and Infinity
// besides, and a byte order mark before it. It knows no UTF-16, which
// json.loads does: that is refused.
func (p *fieldParser) json(text string, guessed bool) error {
	text = strings.TrimPrefix(text, "\ufeff")
	if !utf8.ValidString(text) {
		return malformedFields("the JSON is not UTF-8")
	}
	s := jsonScanner{p: p, s: text, guessed: guessed}
	s.space()
	if err := s.value("", 0, 0, false); err != nil {
		return err
	}
	s.space()
	if s.i < len(s.s) {
		return s.fail()
	}
	return nil
}

// pythonText returns a body as json.loads decodes it, which goes by the first
// bytes (json.detect_encoding); text that is not well-formed in UTF-16 or
// UTF-32 comes out with replacement characters, where Python ends with an
// exception.
func pythonText(s string) string {
	at := func(i int) byte { return s[i] }
	var order binary.ByteOrder = binary.LittleEndian
	width, skip := 1, 0
	switch n := len(s); {
	case n >= 4 && (s[:4] == "\x00\x00\xfe\xff" || s[:4] == "\xff\xfe\x00\x00"):
		width, skip = 4, 4
		if at(0) == 0 {
			order = binary.BigEndian
		}
	case n >= 2 && (s[:2] == "\xfe\xff" || s[:2] == "\xff\xfe"):
		width, skip = 2, 2
		if at(0) == 0xfe {
			order = binary.BigEndian
		}
	case n >= 4 && at(0) == 0:
		order, width = binary.BigEndian, 4
		if at(1) != 0 {
			width = 2
		}
	case n >= 4 && at(1) == 0:
		width = 4
		if at(2) != 0 || at(3) != 0 {
			width = 2
		}
	case n == 2 && at(0) == 0:
		order, width = binary.BigEndian, 2
	case n == 2 && at(1) == 0:
		width = 2
	}
	if width == 1 {
		return s
	}
	b := []byte(s[skip:])
	if width == 2 {
		units := make([]uint16, 0, len(b)/2)
		for ; len(b) >= 2; b = b[2:] {
			units = append(units, order.Uint16(b))
		}
		return string(utf16.Decode(units))
	}
	var out strings.Builder
	for ; len(b) >= 4; b = b[4:] {
		if r := order.Uint32(b); r <= utf8.MaxRune {
			out.WriteRune(rune(r))
		} else {
			out.WriteRune(utf8.RuneError)
		}
	}
	return out.String()
}

type jsonScanner struct {
	p       *fieldParser
	s       string
	i       int
	guessed bool
}

func (s *jsonScanner) fail() error { return malformedFields("no JSON at byte %d", s.i) }

func (s *jsonScanner) space() {
	for s.i < len(s.s) {
		switch s.s[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

func (s *jsonScanner) add(name, value string, kind JSONKind, keys int, inList bool) error {
	return s.p.add(Field{In: policy.JSON, Name: name, Value: value, Kind: kind, Depth: uint8(keys), InList: inList, Guessed: s.guessed})
}

// value reads one value. depth counts objects and lists around it, keys the
// keys in its name.
func (s *jsonScanner) value(name string, depth, keys int, inList bool) error {
	if s.i == len(s.s) {
		return s.fail()
	}
	switch c := s.s[s.i]; c {
	case '{', '[':
		if depth >= maxFieldDepth {
			return malformedFields("JSON nests deeper than %d", maxFieldDepth)
		}
		s.i++
		if c == '{' {
			if err := s.add(name, "", JSONObject, keys, inList); err != nil {
				return err
			}
			return s.object(name, depth+1, keys, inList)
		}
		if err := s.add(name, "", JSONList, keys, inList); err != nil {
			return err
		}
		return s.list(name, depth+1, keys)
	case '"':
		v, ok := s.text()
		if !ok {
			return s.fail()
		}
		return s.add(name, v, JSONString, keys, inList)
	}
	for _, word := range [...]struct {
		text string
		kind JSONKind
	}{{"true", JSONBool}, {"false", JSONBool}, {"null", JSONNull}, {"NaN", JSONNumber}, {"Infinity", JSONNumber}, {"-Infinity", JSONNumber}} {
		if strings.HasPrefix(s.s[s.i:], word.text) {
			s.i += len(word.text)
			return s.add(name, word.text, word.kind, keys, inList)
		}
	}
	begin := s.i
	if !s.number() {
		return s.fail()
	}
	return s.add(name, s.s[begin:s.i], JSONNumber, keys, inList)
}

func (s *jsonScanner) object(name string, depth, keys int, inList bool) error {
	s.space()
	if s.next('}') {
		return nil
	}
	for {
		s.space()
		if s.i == len(s.s) || s.s[s.i] != '"' {
			return s.fail()
		}
		key, ok := s.text()
		if !ok {
			return s.fail()
		}
		s.space()
		if !s.next(':') {
			return s.fail()
		}
		s.space()
		if keys > 0 {
			key = name + "." + key
		}
		if err := s.value(key, depth, keys+1, inList); err != nil {
			return err
		}
		s.space()
		if s.next('}') {
			return nil
		}
		if !s.next(',') {
			return s.fail()
		}
	}
}

func (s *jsonScanner) list(name string, depth, keys int) error {
	s.space()
	if s.next(']') {
		return nil
	}
	for {
		s.space()
		if err := s.value(name, depth, keys, true); err != nil {
			return err
		}
		s.space()
		if s.next(']') {
			return nil
		}
		if !s.next(',') {
			return s.fail()
		}
	}
}

// next passes over c if it is next.
func (s *jsonScanner) next(c byte) bool {
	if s.i < len(s.s) && s.s[s.i] == c {
		s.i++
		return true
	}
	return false
}

func (s *jsonScanner) digits() bool {
	begin := s.i
	for s.i < len(s.s) && '0' <= s.s[s.i] && s.s[s.i] <= '9' {
		s.i++
	}
	return s.i > begin
}

func (s *jsonScanner) number() bool {
	s.next('-')
	if !s.next('0') && !s.digits() {
		return false
	}
	// A dot or an e that no digits follow ends the number: what stands there
	// is then no JSON.
	if mark := s.i; s.next('.') && !s.digits() {
		s.i = mark
		return true
	}
	if mark := s.i; s.next('e') || s.next('E') {
		if !s.next('+') {
			s.next('-')
		}
		if !s.digits() {
			s.i = mark
		}
	}
	return true
}

// text reads a string. A half of a surrogate pair, which Python keeps, becomes
// U+FFFD.
func (s *jsonScanner) text() (string, bool) {
	s.i++
	begin := s.i
	for s.i < len(s.s) {
		switch c := s.s[s.i]; {
		case c == '"':
			s.i++
			return s.s[begin : s.i-1], true
		case c < ' ':
			return "", false
		case c == '\\':
			return s.escaped(begin)
		}
		s.i++
	}
	return "", false
}

func (s *jsonScanner) escaped(begin int) (string, bool) {
	b := append(make([]byte, 0, 2*(s.i-begin)+16), s.s[begin:s.i]...)
	for s.i < len(s.s) {
		c := s.s[s.i]
		s.i++
		switch {
		case c == '"':
			return string(b), true
		case c < ' ':
			return "", false
		case c != '\\':
			b = append(b, c)
			continue
		}
		if s.i == len(s.s) {
			return "", false
		}
		c = s.s[s.i]
		s.i++
		switch c {
		case '"', '\\', '/':
			b = append(b, c)
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r, ok := s.unit()
			if !ok {
				return "", false
			}
			if utf16.IsSurrogate(r) && strings.HasPrefix(s.s[s.i:], `\u`) {
				mark := s.i
				s.i += 2
				low, ok := s.unit()
				if !ok {
					return "", false
				}
				if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
					b = utf8.AppendRune(b, pair)
					continue
				}
				s.i = mark
			}
			b = utf8.AppendRune(b, r)
		default:
			return "", false
		}
	}
	return "", false
}

// unit reads the four digits of \uXXXX.
func (s *jsonScanner) unit() (r rune, ok bool) {
	if len(s.s)-s.i < 4 {
		return 0, false
	}
	for _, c := range []byte(s.s[s.i : s.i+4]) {
		d := percent.Digit(c)
		if d < 0 {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	s.i += 4
	return r, true
}
