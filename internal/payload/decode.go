package payload

import (
	"bytes"
	"encoding/base64"
	"html"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dewar-security/dewar/internal/percent"
)

// A form is a text after some unwrapping.
type form struct {
	text    string
	through []string
}

// Bounds of unwrapping.
const (
	maxForms  = 8
	maxLayers = 3
)

var wrappings = []struct {
	name   string
	unwrap func(string) (string, bool)
}{
	{"url", func(s string) (string, bool) { return unwrapURL(s, false) }},
	{"url", func(s string) (string, bool) { return unwrapURL(s, true) }},
	{"html", unwrapHTML},
	{"escape", unwrapEscapes},
	{"overlong", unwrapOverlong},
	{"utf-7", unwrapUTF7},
	{"base64", unwrapBase64},
}

// unwrap returns the text and what it may be wrapped around, the text itself
// first.
func unwrap(text string) []form {
	forms := []form{{text: text}}
	for i := 0; i < len(forms) && len(forms) < maxForms; i++ {
		if len(forms[i].through) == maxLayers {
			continue
		}
		for _, w := range wrappings {
			out, ok := w.unwrap(forms[i].text)
			if !ok || len(out) == 0 || len(forms) == maxForms || slices.ContainsFunc(forms, func(f form) bool { return f.text == out }) {
				continue
			}
			forms = append(forms, form{out, append(slices.Clone(forms[i].through), w.name)})
		}
	}
	return forms
}

// unwrapURL decodes percent-encoding (RFC 3986) and IIS's %uXXXX, leniently:
// what is no encoding stays. plus says that a plus sign means a space, as in
// a query.
func unwrapURL(s string, plus bool) (string, bool) {
	if plus && strings.IndexByte(s, '+') < 0 {
		return s, false
	}
	if strings.IndexByte(s, '%') < 0 {
		// Words joined by plus signs, as in a query that was encoded twice.
		if plus && strings.IndexByte(s, ' ') < 0 && strings.ContainsAny(s, ";|&'\"<(") {
			return strings.ReplaceAll(s, "+", " "), true
		}
		return s, false
	}
	var b strings.Builder
	b.Grow(len(s))
	done := false
	for i := 0; i < len(s); i++ {
		c, ok := percent.At(s, i)
		switch {
		case ok:
			b.WriteByte(c)
			i += 2
			done = true
		case s[i] == '%' && i+5 < len(s) && s[i+1]|0x20 == 'u' && isHex(s[i+2]) && isHex(s[i+3]) && isHex(s[i+4]) && isHex(s[i+5]):
			n, _ := strconv.ParseUint(s[i+2:i+6], 16, 32)
			b.WriteRune(rune(n))
			i += 5
			done = true
		case plus && s[i] == '+':
			b.WriteByte(' ')
		default:
			b.WriteByte(s[i])
		}
	}
	if !done {
		return s, false
	}
	return b.String(), true
}

// unwrapHTML resolves HTML character references.
func unwrapHTML(s string) (string, bool) {
	if strings.IndexByte(s, '&') < 0 {
		return s, false
	}
	out := html.UnescapeString(s)
	return out, out != s
}

// unwrapEscapes resolves the escapes of JavaScript, JSON and C strings that
// name a character by number (\u0027, \x27, \u{27}) and line continuations.
func unwrapEscapes(s string) (string, bool) {
	if !strings.Contains(s, `\u`) && !strings.Contains(s, `\x`) && !strings.Contains(s, `\U`) {
		return s, false
	}
	var b strings.Builder
	b.Grow(len(s))
	done := false
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			width, skip := 0, 2
			switch s[i+1] {
			case 'u':
				width = 4
				if i+2 < len(s) && s[i+2] == '{' {
					if end := strings.IndexByte(s[i+3:min(len(s), i+11)], '}'); end > 0 {
						if n, err := strconv.ParseUint(s[i+3:i+3+end], 16, 32); err == nil {
							b.WriteRune(rune(n))
							i += 3 + end
							done = true
							continue
						}
					}
				}
			case 'x':
				width = 2
			case 'U':
				width = 8
			}
			if width > 0 && i+skip+width <= len(s) {
				if n, err := strconv.ParseUint(s[i+skip:i+skip+width], 16, 32); err == nil {
					b.WriteRune(rune(n))
					i += skip + width - 1
					done = true
					continue
				}
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), done
}

// unwrapBase64 decodes a text that is Base64 as a whole (RFC 4648, either
// alphabet, padded or not) if what comes out is text. Short words and numbers
// are Base64 by accident and come out as noise. A plus sign that a form has
// made a space of counts as one.
func unwrapBase64(s string) (string, bool) {
	if out, ok := plainBase64(strings.TrimSpace(s)); ok {
		return out, true
	}
	if spacedBase64(s) {
		return plainBase64(strings.ReplaceAll(strings.Trim(s, "\t\r\n"), " ", "+"))
	}
	return s, false
}

// spacedBase64 says that a text has so few spaces that they may be the plus
// signs of Base64: one in 64 characters is one, and one of six in prose a
// space.
func spacedBase64(s string) bool {
	n := strings.Count(s, " ")
	return n > 0 && len(s) >= 20 && n*16 <= len(s)+15
}

func plainBase64(t string) (string, bool) {
	s := t
	if rest, ok := strings.CutPrefix(t, "data:"); ok {
		if _, rest, ok = strings.Cut(rest, ";base64,"); !ok {
			return s, false
		}
		t = rest
	}
	t = strings.TrimRight(t, "=")
	if len(t) < 8 || len(t)%4 == 1 {
		return s, false
	}
	enc := base64.RawStdEncoding
	for i := range len(t) {
		switch c := t[i]; {
		case isAlnum(c), c == '+', c == '/':
		case c == '-', c == '_':
			enc = base64.RawURLEncoding
		default:
			return s, false
		}
	}
	out, err := enc.DecodeString(t)
	if err != nil || !utf8.Valid(out) {
		return s, false
	}
	for _, r := range string(out) {
		if !unicode.IsPrint(r) && r != '\n' && r != '\r' && r != '\t' && r != 0 {
			return s, false
		}
	}
	// NUL is text to parsers that skip it; noise has other signs as well.
	if n := bytes.Count(out, []byte{0}); n > 0 && n*8 > len(out) {
		return s, false
	}
	return string(out), true
}

// unwrapOverlong decodes ASCII characters written as two bytes of UTF-8
// (RFC 3629 forbids it; old decoders took ../ from c0 ae c0 ae c0 af).
func unwrapOverlong(s string) (string, bool) {
	if strings.IndexByte(s, 0xC0) < 0 && strings.IndexByte(s, 0xC1) < 0 {
		return s, false
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if (s[i] == 0xC0 || s[i] == 0xC1) && i+1 < len(s) && s[i+1]&0xC0 == 0x80 {
			b = append(b, s[i]&1<<6|s[i+1]&0x3F)
			i++
			continue
		}
		b = append(b, s[i])
	}
	return string(b), len(b) < len(s)
}

// unwrapUTF7 decodes the shifted parts of UTF-7 (RFC 2152), which XML parsers
// and old browsers can be told to read: +ADw- is <.
func unwrapUTF7(s string) (string, bool) {
	if !strings.Contains(s, "+A") {
		return s, false
	}
	var b strings.Builder
	done := false
	for i := 0; i < len(s); i++ {
		if s[i] == '+' {
			j := i + 1
			for j < len(s) && (isAlnum(s[j]) || s[j] == '/') {
				j++
			}
			if raw, err := base64.RawStdEncoding.DecodeString(s[i+1 : j]); err == nil && len(raw) >= 2 && len(raw)%2 == 0 && raw[0] == 0 {
				for k := 0; k+1 < len(raw); k += 2 {
					b.WriteRune(rune(raw[k])<<8 | rune(raw[k+1]))
				}
				done = true
				i = j - 1
				if j < len(s) && s[j] == '-' {
					i = j
				}
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), done
}
