package content

import (
	"bytes"
	"fmt"
	"html"
	"regexp"
	"strings"
)

// maxMarkup is how much of SVG and XML is read, in bytes.
const maxMarkup = 16 << 20

// markup looks at SVG and XML.
func (in *inspection) markup(f File, kind Kind, entry string) error {
	b := make([]byte, min(f.Size, maxMarkup))
	if err := readAt(f.Data, b, 0); err != nil {
		return err
	}
	if f.Size > maxMarkup {
		in.find(Opaque, entry, "only the first %d bytes of markup were looked at", maxMarkup)
	}
	if err := in.ctx.Err(); err != nil {
		return err
	}
	text := textOf(b)
	if e := declaredEncoding.FindSubmatch(text[:min(len(text), 200)]); e != nil {
		switch strings.ToLower(string(e[1])) {
		case "utf-8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16", "utf-16le", "utf-16be", "utf8", "latin1", "cp1252", "windows-1251", "iso-8859-2", "gb2312", "gbk", "shift_jis", "euc-jp", "big5":
			// All have ASCII where ASCII is.
		default:
			if kind.Family == SVG {
				in.find(SVGScript, entry, "an encoding in which script could hide: %q", e[1])
			}
		}
	}
	if what := entities(text); what != "" {
		in.find(XMLEntities, entry, "%s", what)
	}
	what := ""
	switch {
	case kind.Family == SVG:
		if what = svgActive(text, true); what != "" {
			in.find(SVGScript, entry, "%s", what)
		}
	case bytes.Contains(text, []byte("xml-stylesheet")) && ownStylesheet.Match(text):
		in.find(HiddenScript, entry, "an XSL style sheet of its own")
	case namesMarkup(text):
		// Served as XML, elements of XHTML and SVG are what they are in a page.
		// A style sheet that writes pages has them as text of its own.
		if root, _ := rootOf(text); root != "stylesheet" && root != "transform" {
			if what = svgActive(text, false); what != "" {
				in.find(HiddenScript, entry, "%s", what)
			}
		}
	}
	return nil
}

// ownStylesheet is the instruction for a style sheet that is part of the file,
// which writes whatever page it likes.
var ownStylesheet = regexp.MustCompile(`(?i)<\?xml-stylesheet[^>]*\bhref\s*=\s*["']\s*(?:#|data:|["'])`)

// namesMarkup reports whether XML names the namespace of XHTML or of SVG.
func namesMarkup(b []byte) bool {
	spaces := [][]byte{[]byte("www.w3.org/1999/xhtml"), []byte("www.w3.org/2000/svg")}
	for _, s := range spaces {
		if bytes.Contains(b, s) {
			return true
		}
	}
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte("xmlns"))
		if i < 0 {
			return false
		}
		at += i + 5
		value := []byte(html.UnescapeString(string(b[at:min(len(b), at+300)])))
		for _, s := range spaces {
			if bytes.Contains(value, s) {
				return true
			}
		}
	}
}

var (
	declaredEncoding = regexp.MustCompile(`(?i)^[^<]*<\?xml[^>]*?encoding\s*=\s*["']([^"']*)["']`)
	entityStart      = regexp.MustCompile(`<!ENTITY\s+(%\s+)?([^\s"'>]+)\s+`)
	entityReference  = regexp.MustCompile(`[&%][\w:.-]+;`)
)

// entities says what is wrong with the entities that a document type
// declaration defines: they read other files (CWE-611), or are made of one
// another so that a few lines expand to gigabytes (CWE-776). Entities for
// plain texts, such as Adobe's for namespaces, are in order.
func entities(b []byte) string {
	if !bytes.Contains(b, []byte("<!DOCTYPE")) {
		return "" // XML knows it in capitals only
	}
	nested, references := 0, 0
	for _, m := range entityStart.FindAllSubmatchIndex(b, 1000) {
		name, rest := b[m[4]:m[5]], b[m[1]:]
		switch {
		case bytes.HasPrefix(rest, []byte("SYSTEM")), bytes.HasPrefix(rest, []byte("PUBLIC")):
			return fmt.Sprintf("the entity %q is read from elsewhere", name)
		case m[2] >= 0:
			return fmt.Sprintf("the parameter entity %q", name)
		case len(rest) > 0 && (rest[0] == '"' || rest[0] == '\''):
			end := bytes.IndexByte(rest[1:], rest[0])
			if end < 0 {
				return fmt.Sprintf("the entity %q does not end", name)
			}
			value := rest[1 : 1+end]
			if n := len(entityReference.FindAll(value, 100)); n > 0 {
				nested, references = nested+1, references+n
			}
			if bytes.IndexByte(value, '<') >= 0 || bytes.Contains(bytes.ToLower(value), []byte("&#")) && strings.Contains(html.UnescapeString(string(value)), "<") {
				return fmt.Sprintf("the entity %q holds markup", name)
			}
		}
	}
	if nested >= 2 && references > nested {
		return fmt.Sprintf("%d entities made of others", nested)
	}
	return ""
}

// svgActive says what in SVG runs script, or "". It looks at every tag,
// wherever it stands: what is text to one parser (a CDATA section, a comment
// that two parsers end in different places) is markup to another. With sheets, a
// style sheet that rewrites the document counts: feeds have one, drawings none.
func svgActive(b []byte, sheets bool) string {
	for i := 0; i < len(b); {
		j := bytes.IndexByte(b[i:], '<')
		if j < 0 {
			return ""
		}
		i += j + 1
		rest := b[i:]
		switch {
		case bytes.HasPrefix(rest, []byte("!--")):
			// A comment about which nobody disagrees is passed over.
			if body, _, ok := bytes.Cut(rest[3:], []byte("--")); ok {
				after := rest[3+len(body)+2:]
				if len(body) > 0 && body[0] != '>' && !bytes.HasPrefix(body, []byte("->")) && len(after) > 0 && after[0] == '>' {
					i += 3 + len(body) + 3
				}
			}
			continue
		case bytes.HasPrefix(rest, []byte("?xml-stylesheet")):
			if end := bytes.IndexByte(rest, '>'); sheets && end >= 0 && bytes.Contains(bytes.ToLower(rest[:end]), []byte("xsl")) {
				return "an XSL style sheet"
			}
			continue
		}
		name, attrs, n := tagAt(rest)
		i += n
		if name == "" {
			continue
		}
		switch name {
		case "script", "handler", "listener", "iframe", "embed", "object", "meta", "base", "form":
			// HTML in a foreignObject is harmless without one of these, and
			// drawing programs write it for labels.
			return "the element " + name
		}
		for _, a := range attrs {
			value := clean(a.value)
			switch {
			case strings.HasPrefix(a.name, "on") && len(a.name) > 2 && strings.TrimSpace(a.value) != "":
				return "the attribute " + a.name + " of " + name
			case strings.HasPrefix(value, "javascript:"), strings.HasPrefix(value, "vbscript:"):
				return "a link to script in the attribute " + a.name
			case strings.HasPrefix(value, "data:text/html"), strings.HasPrefix(value, "data:image/svg+xml") && name == "use", strings.HasPrefix(value, "data:application/xhtml"):
				return "a page in the attribute " + a.name
			case (a.name == "values" || a.name == "to" || a.name == "from" || a.name == "by") && strings.Contains(value, "javascript:"):
				return "script in an animation"
			}
		}
	}
	return ""
}

// clean takes away what browsers pass over at the beginning of a URL.
func clean(s string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || r == 0xa0 || r == 0xad {
			return -1
		}
		return r
	}, html.UnescapeString(s)))
}

type attribute struct{ name, value string }

// tagAt reads a start tag behind its "<": its local name in lower case, its
// attributes by local name, and its length. Empty is no start tag.
func tagAt(b []byte) (name string, attrs []attribute, n int) {
	space := func(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f' || c == '/' }
	i := 0
	for i < len(b) && !space(b[i]) && b[i] != '>' && b[i] != '<' {
		i++
	}
	if i == 0 || b[0] == '!' || b[0] == '?' || b[0] == '/' || i > 200 {
		return "", nil, 0
	}
	name = local(b[:i])
	for len(attrs) < 1000 {
		for i < len(b) && space(b[i]) {
			i++
		}
		if i >= len(b) || b[i] == '>' || b[i] == '<' {
			break
		}
		start := i
		for i < len(b) && !space(b[i]) && b[i] != '=' && b[i] != '>' && b[i] != '<' {
			i++
		}
		a := attribute{name: local(b[start:i])}
		for i < len(b) && space(b[i]) && b[i] != '/' {
			i++
		}
		if i < len(b) && b[i] == '=' {
			i++
			for i < len(b) && space(b[i]) && b[i] != '/' {
				i++
			}
			if i < len(b) && (b[i] == '"' || b[i] == '\'') {
				end := bytes.IndexByte(b[i+1:], b[i])
				if end < 0 {
					end = len(b) - i - 1
				}
				a.value = string(b[i+1 : i+1+end])
				i = min(len(b), i+end+2)
			} else {
				start := i
				for i < len(b) && !space(b[i]) && b[i] != '>' {
					i++
				}
				a.value = string(b[start:i])
			}
		} else if i == start {
			i++ // a lone sign
		}
		attrs = append(attrs, a)
	}
	return name, attrs, i
}

// local returns a name without its namespace prefix, in lower case.
func local(b []byte) string {
	if i := bytes.LastIndexByte(b, ':'); i >= 0 {
		b = b[i+1:]
	}
	return strings.ToLower(string(b))
}
