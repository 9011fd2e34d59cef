// Package markup finds the tags of an HTML page, for layers that look at pages
// on their way out. It goes over a page once, copies nothing, and looks
// closely only at tags, so it is several times faster than a tokenizer of HTML
// that hands out every text.
//
//	markup.Each(page, func(t *markup.Tag) {
//		if t.Is("script") { … t.Text, t.Get("src") … }
//	})
//
// It follows the tokenizer of the HTML standard (section 13.2.5) where pages
// are sound. Of a page that is broken, or that a browser reads in a state of
// its own (script data escaped, SVG), it may see other tags than a browser:
// whoever allows something because of what it found must tie that to the bytes
// that were found.
package markup

import (
	"bytes"
	"strings"

	"golang.org/x/net/html"
)

// Tag is a start tag of a page. It is only valid during the call.
type Tag struct {
	// Name as it is written.
	Name []byte
	// Start is the place of "<", End that behind ">".
	Start, End int
	Attrs      []Attr
	// Text is what stands in a script or a style sheet, up to its end tag, as
	// it is written. Of other elements it is nil.
	Text []byte
}

// Attr is an attribute, as it is written: character references are not
// resolved; see [Value].
type Attr struct {
	Name, Value []byte
	// At is the place of the name.
	At int
}

// Is reports whether the tag has this name, which is in lower case.
func (t *Tag) Is(lower string) bool { return EqualFold(t.Name, lower) }

// Get returns the value of the first attribute with this name, which is in
// lower case, with character references resolved.
func (t *Tag) Get(lower string) (value string, ok bool) {
	for _, a := range t.Attrs {
		if EqualFold(a.Name, lower) {
			return string(Value(a.Value)), true
		}
	}
	return "", false
}

// Each calls f for every start tag of a page, in their order. Comments, and
// what looks like tags in the text of scripts, style sheets, titles and text
// areas, are left out.
func Each(page []byte, f func(*Tag)) {
	var t Tag
	for i := 0; i < len(page); {
		j := bytes.IndexByte(page[i:], '<')
		if j < 0 {
			return
		}
		t.Start = i + j
		i = t.Start + 1
		if i >= len(page) {
			return
		}
		switch c := page[i] | 0x20; {
		case bytes.HasPrefix(page[i:], []byte("!--")):
			end := bytes.Index(page[i+3:], []byte("-->"))
			if end < 0 {
				return
			}
			i += 3 + end + 3
			continue
		case c < 'a' || c > 'z':
			continue
		}
		start := i
		for i < len(page) && !blank(page[i]) && page[i] != '>' && page[i] != '/' {
			i++
		}
		t.Name, t.Attrs, t.Text = page[start:i], t.Attrs[:0], nil
		if i = t.attributes(page, i); i > len(page) {
			return // the tag does not end: it is none
		}
		t.End = i
		switch {
		case t.Is("script"), t.Is("style"):
			end := endTag(page[i:], t.Name)
			if end < 0 {
				return
			}
			t.Text = page[i : i+end]
			i += end
		case t.Is("textarea"), t.Is("title"), t.Is("xmp"), t.Is("iframe"), t.Is("noembed"), t.Is("noframes"):
			end := endTag(page[i:], t.Name)
			if end < 0 {
				return // what looks like tags in it is text, to the end
			}
			i += end
		}
		f(&t)
	}
}

// attributes reads the attributes of a tag from i on, which is behind its
// name, and returns the place behind its ">", or more than the page's length
// if there is none.
func (t *Tag) attributes(page []byte, i int) int {
	for i < len(page) {
		for i < len(page) && (blank(page[i]) || page[i] == '/') {
			i++
		}
		if i < len(page) && page[i] == '>' {
			return i + 1
		}
		start := i
		for i < len(page) && !blank(page[i]) && page[i] != '>' && page[i] != '/' && (page[i] != '=' || i == start) {
			i++
		}
		name := page[start:i]
		for i < len(page) && blank(page[i]) {
			i++
		}
		if i >= len(page) {
			break
		}
		if page[i] != '=' {
			t.Attrs = append(t.Attrs, Attr{Name: name, At: start})
			continue
		}
		i++
		for i < len(page) && blank(page[i]) {
			i++
		}
		if i >= len(page) {
			break
		}
		var v []byte
		switch q := page[i]; q {
		case '"', '\'':
			end := bytes.IndexByte(page[i+1:], q)
			if end < 0 {
				return len(page) + 1
			}
			v = page[i+1 : i+1+end]
			i += end + 2
		default:
			from := i
			for i < len(page) && !blank(page[i]) && page[i] != '>' {
				i++
			}
			v = page[from:i]
		}
		t.Attrs = append(t.Attrs, Attr{Name: name, Value: v, At: start})
	}
	return len(page) + 1
}

var newlines = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// Value returns what an attribute's value means: with character references
// resolved and line breaks as \n.
func Value(v []byte) []byte {
	if bytes.IndexByte(v, '&') < 0 && bytes.IndexByte(v, '\r') < 0 {
		return v
	}
	return []byte(html.UnescapeString(newlines.Replace(string(v))))
}

// Text returns what a script or a style sheet means: with line breaks as \n.
func Text(v []byte) []byte {
	if bytes.IndexByte(v, '\r') < 0 {
		return v
	}
	return []byte(newlines.Replace(string(v)))
}

// endTag returns where the end tag of an element begins, or -1.
func endTag(page, name []byte) int {
	for i := 0; ; {
		j := bytes.Index(page[i:], []byte("</"))
		if j < 0 {
			return -1
		}
		i += j
		rest := page[i+2:]
		if len(rest) > len(name) && bytes.EqualFold(rest[:len(name)], name) && (blank(rest[len(name)]) || rest[len(name)] == '>' || rest[len(name)] == '/') {
			return i
		}
		i += 2
	}
}

func blank(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r'
}

// EqualFold compares a name with one in lower case, in ASCII.
func EqualFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i := range b {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
