package csp

import (
	"bytes"

	"golang.org/x/net/html"
)

// scan calls f for every inline script, event handler, style sheet and style
// attribute of a page, as a browser hashes it: character references in
// attributes resolved, line breaks as \n. It goes over the page once and looks
// closely only at tags; it is several times faster than a tokenizer that
// copies every text. Where a browser would read a broken page in another way
// it finds too little or something else, which gets no hash.
func scan(page []byte, f func(at class, text []byte)) {
	for i := 0; i < len(page); {
		j := bytes.IndexByte(page[i:], '<')
		if j < 0 {
			return
		}
		i += j + 1
		if i >= len(page) {
			return
		}
		switch c := page[i]; {
		case bytes.HasPrefix(page[i:], []byte("!--")):
			end := bytes.Index(page[i+3:], []byte("-->"))
			if end < 0 {
				return
			}
			i += 3 + end + 3
			continue
		case !letter(c):
			continue
		}
		start := i
		for i < len(page) && !blank(page[i]) && page[i] != '>' && page[i] != '/' {
			i++
		}
		name := page[start:i]
		hasSrc := false
		i = attributes(page, i, func(k, v []byte) {
			switch {
			case len(k) > 2 && k[0]|0x20 == 'o' && k[1]|0x20 == 'n':
				f(handlers, value(v))
			case equalFold(k, "style"):
				f(styleAttributes, value(v))
			case equalFold(k, "src"):
				hasSrc = true
			}
		})
		if i > len(page) {
			return // the tag does not end: it is none
		}
		var at class
		switch {
		case equalFold(name, "script"):
			at = scripts
		case equalFold(name, "style"):
			at = styles
		case equalFold(name, "textarea"), equalFold(name, "title"), equalFold(name, "xmp"), equalFold(name, "iframe"), equalFold(name, "noembed"), equalFold(name, "noframes"):
			end := endTag(page[i:], name)
			if end < 0 {
				return // what looks like tags in it is text, to the end
			}
			i += end
			continue
		default:
			continue
		}
		end := endTag(page[i:], name)
		if end < 0 {
			return
		}
		if text := page[i : i+end]; len(text) > 0 && (at == styles || !hasSrc) {
			if bytes.IndexByte(text, '\r') >= 0 {
				text = []byte(newlines.Replace(string(text)))
			}
			f(at, text)
		}
		i += end
	}
}

// attributes calls f for the attributes of a tag from i on, which is behind
// its name, and returns the place behind its ">", or more than the page's
// length if there is none.
func attributes(page []byte, i int, f func(k, v []byte)) int {
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
			f(name, nil)
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
			start = i
			for i < len(page) && !blank(page[i]) && page[i] != '>' {
				i++
			}
			v = page[start:i]
		}
		f(name, v)
	}
	return len(page) + 1
}

// value resolves the character references of an attribute.
func value(v []byte) []byte {
	if bytes.IndexByte(v, '&') < 0 && bytes.IndexByte(v, '\r') < 0 {
		return v
	}
	return []byte(html.UnescapeString(newlines.Replace(string(v))))
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

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// equalFold compares a name with one in lower case.
func equalFold(b []byte, lower string) bool {
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
