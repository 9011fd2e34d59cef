package session

import (
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// setCookie is a Set-Cookie header taken apart as RFC 6265bis section 5.6 has
// browsers do it, with every byte kept: printing an unchanged one gives back
// what was read, unknown attributes such as Partitioned and Priority included.
// net/http's parser drops what it does not know.
type setCookie struct {
	pair  string // "name=value", as written
	name  string
	attrs []attribute
}

type attribute struct {
	text  string // " Path=/", as written after the semicolon
	name  string // "path": lower case, trimmed
	value string // trimmed
}

// parseSetCookie takes a header apart. It has no errors: browsers have none
// either.
func parseSetCookie(s string) setCookie {
	parts := strings.Split(s, ";")
	c := setCookie{pair: parts[0]}
	if name, _, ok := strings.Cut(parts[0], "="); ok {
		c.name = trim(name)
	}
	for _, p := range parts[1:] {
		name, value, _ := strings.Cut(p, "=")
		c.attrs = append(c.attrs, attribute{text: p, name: strings.ToLower(trim(name)), value: trim(value)})
	}
	return c
}

func trim(s string) string { return strings.Trim(s, " \t") }

// String prints the header.
func (c setCookie) String() string {
	var b strings.Builder
	b.WriteString(c.pair)
	for _, a := range c.attrs {
		b.WriteByte(';')
		b.WriteString(a.text)
	}
	return b.String()
}

// get returns the attribute that counts for a browser: the last of its name.
func (c setCookie) get(name string) (value string, ok bool) {
	for _, a := range c.attrs {
		if a.name == name {
			value, ok = a.value, true
		}
	}
	return value, ok
}

func (c setCookie) has(name string) bool {
	_, ok := c.get(name)
	return ok
}

// add appends an attribute that the cookie does not have.
func (c *setCookie) add(text string) {
	if n := len(c.attrs); n > 0 && c.attrs[n-1].text == "" {
		c.attrs = c.attrs[:n-1] // "a=b;" ends in an empty attribute
	}
	c.attrs = append(c.attrs, attribute{text: " " + text})
}

// remove takes every attribute of a name away.
func (c *setCookie) remove(name string) {
	kept := c.attrs[:0:0]
	for _, a := range c.attrs {
		if a.name != name {
			kept = append(kept, a)
		}
	}
	c.attrs = kept
}

// hardening says what a cookie must have.
type hardening struct {
	secure   bool
	httpOnly bool
	sameSite string // for cookies without a valid SameSite
}

// harden returns the header with what is missing, and whether anything was.
// An attribute that is there and valid is never changed: nothing is ever
// weakened, nothing doubled.
func harden(header string, h hardening) (out string, changed bool) {
	c := parseSetCookie(header)
	if h.secure && !c.has("secure") {
		c.add("Secure")
		changed = true
	}
	if h.httpOnly && !c.has("httponly") {
		c.add("HttpOnly")
		changed = true
	}
	if v, ok := c.get("samesite"); !ok || !validSameSite(v) {
		if ok {
			c.remove("samesite")
		}
		c.add("SameSite=" + h.sameSite)
		changed = true
	}
	if !changed {
		return header, false
	}
	return c.String(), true
}

func validSameSite(v string) bool {
	return strings.EqualFold(v, "Strict") || strings.EqualFold(v, "Lax") || strings.EqualFold(v, "None")
}

// ignored reports whether every browser ignores the cookie anyway (RFC 6265bis
// section 5.6): it holds control characters, or has neither name nor value.
func ignored(header string) bool {
	for i := range len(header) {
		if c := header[i]; c < ' ' && c != '\t' || c == 0x7f {
			return true
		}
	}
	pair, _, _ := strings.Cut(header, ";")
	return strings.Trim(pair, " \t=") == ""
}

// expiryOf returns when a cookie ends (RFC 6265bis, 5.6): Max-Age counts
// before Expires. ok is false for one that ends with the browser's session.
func expiryOf(c setCookie, now time.Time) (at time.Time, ok bool) {
	if age, ok := c.get("max-age"); ok {
		if n, err := strconv.ParseInt(age, 10, 64); err == nil {
			return now.Add(time.Duration(min(max(n, -1), 1<<33)) * time.Second), true
		}
	}
	if e, ok := c.get("expires"); ok {
		if t, err := http.ParseTime(e); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// ends reports whether a Set-Cookie takes the cookie away.
func (c setCookie) ends(now time.Time) bool {
	at, ok := expiryOf(c, now)
	return ok && !at.After(now)
}

// value returns what stands behind the name.
func (c setCookie) value() string {
	_, v, _ := strings.Cut(c.pair, "=")
	return trim(v)
}

// pairs calls visit for every part of a Cookie field, with the name and the
// value that an app may read in it: Werkzeug begins a name only after a
// semicolon, quotes or not, and takes white space from both ends, old versions
// everything that Python calls so. Those before 2.2 look for the beginning of a
// name behind an equals sign ("=session=x"), those before 2.0 undo quotes and
// escapes in it, too. A part without "=" is a name with an empty value. part is
// what stands between the semicolons.
func pairs(header string, visit func(name, value, part string)) {
	for more := true; more; {
		var part string
		part, header, more = strings.Cut(header, ";")
		from := strip(part)
		for strings.HasPrefix(from, "=") {
			from = strip(from[1:])
		}
		name, value, _ := strings.Cut(from, "=")
		visit(unescaped(strip(name)), strip(value), part)
	}
}

// mayName reports whether a part of a Cookie field may have a name. It is quick
// and says yes too often: [pairs] tells.
func mayName(header, name string) bool {
	return strings.Contains(header, name) || strings.Contains(header, `\`)
}

// unescaped undoes the quotes around a name and the escapes within them: three
// octal digits, or any character that stands for itself (RFC 2109 as Werkzeug
// read it).
func unescaped(name string) string {
	n := len(name) - 1
	if n < 1 || name[0] != '"' || name[n] != '"' {
		return name
	}
	if name = name[1:n]; strings.IndexByte(name, '\\') < 0 {
		return name
	}
	b := make([]byte, 0, len(name))
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '\\' && i+1 < len(name) {
			i++
			if c = name[i]; i+2 < len(name) && octal(c) && c < '4' && octal(name[i+1]) && octal(name[i+2]) {
				c = (c-'0')<<6 | (name[i+1]-'0')<<3 | (name[i+2] - '0')
				i += 2
			}
		}
		b = append(b, c)
	}
	return string(b)
}

func octal(c byte) bool { return '0' <= c && c <= '7' }

// strip is Python's str.strip.
func strip(s string) string {
	if s == "" || s[0] > ' ' && s[0] < 0x7f && s[len(s)-1] > ' ' && s[len(s)-1] < 0x7f {
		return s
	}
	return strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f })
}
