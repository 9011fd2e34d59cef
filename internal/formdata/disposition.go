package formdata

import (
	"net/textproto"
	"net/url"
	"strings"
)

// PartDisposition reads the header of a multipart part. It refuses a part that
// parsers read differently: a header name that is no token (before a colon
// with space in front of it, Go sees another header and Werkzeug the same
// one), a Content-Disposition missing, repeated or not in the form that
// [ParseDisposition] takes, and a Content-Transfer-Encoding, which RFC 7578
// section 4.7 does away with and Go undoes where Werkzeug does not. why says
// what is wrong; empty means that all is well.
func PartDisposition(h textproto.MIMEHeader) (d Disposition, why string) {
	for name := range h {
		for i := range len(name) {
			if !tokenByte(name[i]) {
				return d, "multipart part with a malformed header name"
			}
		}
	}
	for _, enc := range h["Content-Transfer-Encoding"] {
		switch strings.ToLower(strings.TrimSpace(enc)) {
		case "7bit", "8bit", "binary":
		default:
			return d, "multipart part with a Content-Transfer-Encoding (RFC 7578 section 4.7)"
		}
	}
	cd := h["Content-Disposition"]
	if len(cd) != 1 {
		return d, "multipart part without exactly one Content-Disposition"
	}
	d, ok := ParseDisposition(cd[0])
	if !ok {
		return d, "multipart part with an ambiguous Content-Disposition"
	}
	return d, ""
}

// Disposition is what the Content-Disposition header of a multipart part says.
type Disposition struct {
	Name string
	// Filename is the file's name; the one of filename* (RFC 8187), which
	// goes before in some parsers, is in Extended. Both are as sent, with
	// escapes undone, Extended in UTF-8. File reports whether either
	// parameter is there.
	Filename, Extended string
	File               bool
	// ExtendedLast says that filename* stands behind filename, or alone:
	// Werkzeug takes whichever is last.
	ExtendedLast bool
}

// ParseDisposition reads a part's Content-Disposition. It takes only the
// spellings that every parser reads in the same way, which are those that
// browsers and HTTP libraries send: form-data with name, filename and
// filename* at most once each, as a token or quoted string, without space
// around the equals sign. Anything else is ambiguous: to Go and Coraza
//
//	form-data; name="q"; filename ="x"
//
// is a file, whose contents no rule looks at, and to Werkzeug a form field.
func ParseDisposition(header string) (d Disposition, ok bool) {
	const kind = "form-data"
	if len(header) < len(kind) || !strings.EqualFold(header[:len(kind)], kind) {
		return d, false
	}
	rest := header[len(kind):]
	var hasName, hasFile, hasExtended bool
	for rest != "" {
		if rest[0] != ';' {
			return d, false
		}
		rest = strings.TrimLeft(rest[1:], " ")
		key, after, found := strings.Cut(rest, "=")
		if !found {
			return d, false
		}
		var value string
		if value, rest, ok = parameterValue(after); !ok {
			return d, false
		}
		switch {
		case key == "name" && !hasName:
			hasName, d.Name = true, value
		case key == "filename" && !hasFile:
			hasFile, d.Filename, d.ExtendedLast = true, value, false
		case key == "filename*" && !hasExtended && after[0] != '"':
			hasExtended, d.ExtendedLast = true, true
			if d.Extended, ok = extendedValue(value); !ok {
				return d, false
			}
		default:
			return d, false
		}
	}
	d.File = hasFile || hasExtended
	return d, hasName
}

// parameterValue reads a token or a quoted string from the beginning of s.
func parameterValue(s string) (value, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		n := 0
		for n < len(s) && tokenByte(s[n]) {
			n++
		}
		return s[:n], s[n:], n > 0
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], true
		case c == '\\':
			// Only what has to be escaped: parsers disagree about the rest.
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", "", false
			}
			b.WriteByte(s[i])
		case c < ' ' || c == 0x7f:
			return "", "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

// tokenByte reports whether c may stand in a token (RFC 9110 section 5.6.2).
func tokenByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// extendedValue reads charset'language'percent-encoded, in the character sets
// that Werkzeug knows: with another one it drops the parameter, and what
// looked like a file is a field.
func extendedValue(s string) (string, bool) {
	charset, rest, ok := strings.Cut(s, "'")
	if !ok {
		return "", false
	}
	charset = strings.ToLower(charset)
	switch charset {
	case "utf-8", "iso-8859-1", "us-ascii", "ascii":
	default:
		return "", false
	}
	_, text, ok := strings.Cut(rest, "'")
	if !ok || text == "" || strings.Contains(text, "'") {
		return "", false
	}
	text, err := url.PathUnescape(text)
	return DecodeText([]byte(text), charset), err == nil
}
