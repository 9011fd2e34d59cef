package waf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/dewar-security/dewar/internal/formdata"
	"github.com/dewar-security/dewar/internal/waf/seclang"
)

// body is what of a request body goes to Coraza.
type body struct {
	processor string // Coraza's name: URLENCODED, MULTIPART, JSON, XML or ""
	bytes     []byte
	partial   bool
	guessed   bool   // processor is a guess from the content
	tail      []byte // a value that the parser of cut JSON drops
	denied    Reason
	why       string
}

// colliding returns the fields of a form whose names differ in case alone. Of
// those Coraza keeps only one, by chance one or the other, so that text=…
// could hide behind Text=x; Flask has both.
func (b *body) colliding() (fields [][2]string) {
	if !oddNames(b.bytes) {
		return nil
	}
	first := map[string]string{} // by name in lower case
	collide := map[string]bool{}
	seclang.Pairs(string(b.bytes), 0, func(name, _ string) {
		fold := strings.ToLower(name)
		if have, ok := first[fold]; ok && have != name {
			collide[fold] = true
		}
		first[fold] = name
	})
	if len(collide) == 0 {
		return nil
	}
	seclang.Pairs(string(b.bytes), 0, func(name, value string) {
		if collide[strings.ToLower(name)] {
			fields = append(fields, [2]string{name, value})
		}
	})
	return fields
}

// oddNames reports whether a field's name in a form holds something else than
// small letters, digits and signs.
func oddNames(form []byte) bool {
	for len(form) > 0 {
		switch c := form[0]; {
		case c == '=': // the value does not matter
			i := bytes.IndexByte(form, '&')
			if i < 0 {
				return false
			}
			form = form[i:]
		case c >= 'A' && c <= 'Z' || c == '%' || c >= 0x80:
			return true
		}
		form = form[1:]
	}
	return false
}

// readBody reads r.Body as the app's framework would understand it.
func (e *Engine) readBody(r Request) (body, error) {
	contentType := ""
	if v := r.Header["Content-Type"]; len(v) > 0 {
		contentType = v[0]
	}
	kind := MediaType(contentType)
	if kind == "multipart/form-data" {
		return e.reduceMultipart(contentType, r.Body)
	}
	// Images pasted into text do not count, so more may have to be read.
	raw, err := io.ReadAll(io.LimitReader(r.Body, 8*e.cfg.MaxInspect))
	if err != nil {
		return body{}, err
	}
	raw = dropImages(raw, processorFor(kind))
	b := body{bytes: raw, processor: processorFor(kind)}
	if b.processor == "" {
		switch {
		case looksLikeJSON(raw):
			if bytes.IndexByte(raw, 0) >= 0 {
				return malformed("JSON in UTF-16 or UTF-32, which the rules cannot read"), nil
			}
			b.processor, b.guessed = "JSON", true
		case strings.HasPrefix(kind, "text/"):
			// Whoever says text gets it read: one control character in front
			// must not hide the rest. Without NULs UTF-16 reads as ASCII.
			raw = bytes.Map(dropControl, raw)
			b.bytes = raw
		case looksBinary(raw):
			return body{}, nil
		default:
			// A rule of the Core Rule Set (901340) has it parsed as
			// urlencoded, so that every rule sees the text.
		}
	}
	if int64(len(raw)) > e.cfg.MaxInspect {
		b.bytes, b.partial = raw[:e.cfg.MaxInspect], true
		if !e.cfg.Partial {
			return tooLarge(e.cfg.MaxInspect), nil
		}
		if b.processor == "JSON" {
			b.tail = openString(b.bytes)
		}
	}
	return b, nil
}

// Images pasted into text: a data URI of a raster image whose first bytes are
// that image's. SVG is none: it can hold scripts.
var (
	imageURI     = regexp.MustCompile(`data:image\\?/(?:png|jpe?g|gif|webp);base64,(?:iVBORw0KGgo|\\?/9j\\?/|R0lGOD|UklGR)(?:[A-Za-z0-9+/]|\\/)*={0,2}`)
	imageURIForm = regexp.MustCompile(`data(?::|%3[Aa])image(?:/|%2[Ff])(?:png|jpe?g|gif|webp)(?:;|%3[Bb])base64(?:,|%2[Cc])(?:iVBORw0KGgo|(?:/|%2[Ff])9j(?:/|%2[Ff])|R0lGOD|UklGR)(?:[A-Za-z0-9/]|%2[BbFf])*(?:%3[Dd]|=){0,2}`)
)

// dropImages replaces pasted images by the word "image". The rules take their
// "data:" and ";base64" for attacks, and reading them is nearly all the cost.
// What is dropped is base64 text with an image's signature: no character of it
// means anything to SQL, HTML or a shell.
func dropImages(b []byte, processor string) []byte {
	if !bytes.Contains(b, []byte("base64")) {
		return b
	}
	if processor == "URLENCODED" {
		return imageURIForm.ReplaceAllLiteral(b, []byte("image"))
	}
	return imageURI.ReplaceAllLiteral(b, []byte("image"))
}

// openString returns the beginning of the string in which cut JSON ends, or
// nil: a parser drops it.
func openString(b []byte) []byte {
	start := -1
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '\\' && start >= 0:
			i++
		case b[i] == '"' && start >= 0:
			start = -1
		case b[i] == '"':
			start = i + 1
		}
	}
	if start < 0 {
		return nil
	}
	return b[start:]
}

func tooLarge(limit int64) body {
	return body{denied: ReasonTooLarge, why: fmt.Sprintf("more than %d bytes to inspect", limit)}
}

// MediaType returns the type in a Content-Type without its parameters, as
// Werkzeug reads it: up to the first ";", without the white space at both ends
// that Python's str.strip knows (the field is Latin-1 there: one byte is one
// character), in lower case.
func MediaType(contentType string) string {
	kind, _, _ := strings.Cut(contentType, ";")
	for kind != "" && pythonSpace(kind[0]) {
		kind = kind[1:]
	}
	for kind != "" && pythonSpace(kind[len(kind)-1]) {
		kind = kind[:len(kind)-1]
	}
	return strings.ToLower(kind)
}

func pythonSpace(c byte) bool {
	return c == ' ' || c >= '\t' && c <= '\r' || c >= 0x1c && c <= 0x1f || c == 0x85 || c == 0xa0
}

// processorFor names the parser of a media type. JSON follows Werkzeug's
// Request.is_json; application/x-url-encoded was a form until Werkzeug 3.
func processorFor(kind string) string {
	switch {
	case kind == "application/x-www-form-urlencoded", kind == "application/x-url-encoded":
		return "URLENCODED"
	case kind == "application/json", strings.HasSuffix(kind, "+json"):
		return "JSON"
	case kind == "text/xml", kind == "application/xml", strings.HasSuffix(kind, "+xml"):
		return "XML"
	}
	return ""
}

// looksLikeJSON reports whether a body of a type that nobody parses begins as
// a JSON object or array. Python's json.loads also takes UTF-16 and UTF-32, so
// NUL bytes and byte order marks before the bracket are skipped.
func looksLikeJSON(b []byte) bool {
	for _, c := range b {
		switch c {
		case ' ', '\t', '\r', '\n', 0, 0xfe, 0xff, 0xef, 0xbb, 0xbf:
			continue
		case '{', '[':
			return true
		}
		return false
	}
	return false
}

// dropControl drops the control characters that text has not, and keeps bytes
// that are no UTF-8.
func dropControl(r rune) rune {
	if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f {
		return -1
	}
	return r
}

// looksBinary reports whether the beginning of b is no text: it holds control
// characters that text has not, or it is no UTF-8.
func looksBinary(b []byte) bool {
	const sample = 512
	cut := len(b) > sample
	if cut {
		b = b[:sample]
	}
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			// A character cut by the sample's end is no error.
			return !cut || len(b)-i >= utf8.UTFMax
		}
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' && r != '\f' && r != 0x1b || r == 0x7f {
			return true
		}
		i += n
	}
	return false
}

// reduceMultipart copies a multipart body without the contents of its files:
// Coraza would write each of them to disk and no rule looks at them. Part
// headers and fields stay as Coraza would have seen them, also those behind a
// file of any size.
func (e *Engine) reduceMultipart(contentType string, r io.Reader) (body, error) {
	boundary, ok := formdata.Boundary(contentType)
	if !ok {
		return malformed("multipart body without a usable boundary"), nil
	}
	var out bytes.Buffer
	b := body{processor: "MULTIPART"}
	mr := formdata.NewReader(r, boundary)
	for parts := 0; ; parts++ {
		p, err := mr.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return bodyError(err)
		}
		if parts == e.cfg.MaxArguments {
			return body{denied: ReasonArguments, why: fmt.Sprintf("more than %d parts", e.cfg.MaxArguments)}, nil
		}
		d, why := formdata.PartDisposition(p.Header)
		if why != "" {
			return malformed(why), nil
		}
		out.WriteString("--" + boundary + "\r\n")
		writeHeader(&out, p.Header)
		out.WriteString("\r\n")
		if d.Filename != "" || d.Extended != "" {
			if _, err := io.Copy(io.Discard, p); err != nil {
				return bodyError(err)
			}
		} else {
			room := e.cfg.MaxInspect - int64(out.Len())
			n, err := io.Copy(&out, io.LimitReader(p, max(0, room)+1))
			if err != nil {
				return bodyError(err)
			}
			if n > max(0, room) {
				b.partial = true
			}
		}
		out.WriteString("\r\n")
		if int64(out.Len()) > e.cfg.MaxInspect {
			b.partial = true
		}
		if b.partial {
			break
		}
	}
	if b.partial && !e.cfg.Partial {
		return tooLarge(e.cfg.MaxInspect), nil
	}
	out.WriteString("--" + boundary + "--\r\n")
	b.bytes = out.Bytes()
	return b, nil
}

// writeHeader writes a part's header; names and values came out of a parsed
// header and hold no line ends.
func writeHeader(out *bytes.Buffer, h textproto.MIMEHeader) {
	for name, values := range h {
		for _, v := range values {
			out.WriteString(name + ": " + v + "\r\n")
		}
	}
}

func malformed(why string) body { return body{denied: ReasonMalformed, why: why} }

// bodyError tells a body that is no multipart from one that could not be
// read, by what the multipart reader makes of it.
func bodyError(err error) (body, error) {
	var protocol textproto.ProtocolError
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.As(err, &protocol) ||
		strings.HasPrefix(err.Error(), "multipart:") || strings.HasPrefix(err.Error(), "mime:") {
		return malformed("multipart body is malformed or cut"), nil
	}
	return body{}, err
}
