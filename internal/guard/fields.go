package guard

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/dewar-security/dewar/internal/formdata"
	"github.com/dewar-security/dewar/internal/percent"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/waf"
)

// Bounds on what [Exchange.Fields] takes of one request.
const (
	// MaxFields is the most values.
	MaxFields = 10_000
	// MaxFieldBytes is the most text of all values and names together, in
	// bytes. The contents of files do not count: they are passed over.
	MaxFieldBytes = 16 << 20
	// maxFieldDepth bounds how deep JSON nests: beyond it Python's parser
	// comes near its own end.
	maxFieldDepth = 128
)

var (
	// ErrFieldsMalformed says that the query or body is not what it claims
	// to be, or that two parsers read it differently: what the app would
	// see of it is not known.
	ErrFieldsMalformed = errors.New("the request's fields cannot be read")
	// ErrFieldsTooMany says that there are more fields, or there is more
	// text in them, than is looked at.
	ErrFieldsTooMany = errors.New("the request has more fields than are looked at")
)

// OwnFieldPrefix begins the names of form fields that layers put into pages:
// they come back with the app's own, and are no field that its code reads.
const OwnFieldPrefix = "_dewar_"

// JSONKind is what a value of JSON is.
type JSONKind uint8

// The kinds of JSON (RFC 8259 section 3). NotJSON is every value of a query,
// a form or a file.
const (
	NotJSON JSONKind = iota
	JSONString
	JSONNumber
	JSONBool
	JSONNull
	JSONObject
	JSONList
)

// String returns Python's name for what json.loads makes of it.
func (k JSONKind) String() string {
	return [...]string{"", "str", "number", "bool", "None", "dict", "list"}[min(k, JSONList)]
}

// Field is one named value of a request.
type Field struct {
	// In is where it stands: policy.Query, policy.Form, policy.JSON or
	// policy.File.
	In string
	// Name is the field's name. In JSON it is the path of keys from the
	// outermost object, joined by dots; places in lists are left out, so
	// {"lines": [{"n": 1}, {"n": 2}]} has lines.n twice. A value that is in
	// no object has the name "".
	Name string
	// Value is the text that the app gets; of a number, true, false and null
	// of JSON as it was written, of an object or a list "". Of a file it is
	// the file's name, "" for a file input that was left empty.
	Value string
	// File says that this is a file, whose contents are not looked at here.
	File bool
	// Kind is what JSON says the value is.
	Kind JSONKind
	// Depth counts the keys in the name of a JSON field.
	Depth uint8
	// InList says that a JSON value is in a list, so that its name comes as
	// often as the list has values.
	InList bool
	// Guessed says that the body's type is not JSON but its text is: an app
	// that reads it with get_json(force=True) or json.loads sees this field.
	Guessed bool
}

// Fields are the named values of a request in the order in which they stand.
// They are shared by all layers: nobody changes them.
type Fields []Field

// Get returns the value that the app gets when it asks for a field by its
// name: the first one in a query or a form, the last one in JSON.
func (f Fields) Get(in, name string) (string, bool) {
	found := -1
	for i := range f {
		if f[i].In == in && f[i].Name == name {
			found = i
			if in != policy.JSON {
				break
			}
		}
	}
	if found < 0 {
		return "", false
	}
	return f[found].Value, true
}

// Count returns how often a name stands in one place.
func (f Fields) Count(in, name string) int {
	n := 0
	for i := range f {
		if f[i].In == in && f[i].Name == name {
			n++
		}
	}
	return n
}

// Fields returns the named values of the request as Werkzeug reads them: the
// query, then the form, the JSON or the parts of a multipart body. They are
// read once and remembered. The whole body is gathered for it, so only layers
// behind the body layer call this; where the body streams past ([Exchange.Streams])
// there is only the query.
//
// The values are parts of the request's own memory where nothing had to be
// decoded. They are valid until the exchange ends.
//
// An error wraps [ErrFieldsMalformed], [ErrFieldsTooMany] or is that of
// [Exchange.Buffer]; what was read before it is returned all the same.
func (x *Exchange) Fields() (Fields, error) {
	if x.fieldsRead {
		return x.fields, x.fieldsErr
	}
	x.fieldsRead = true
	p := fieldParser{}
	x.fieldsErr = p.request(x)
	x.fields = p.out
	return x.fields, x.fieldsErr
}

// fieldParser collects fields up to the bounds.
type fieldParser struct {
	out   Fields
	bytes int
}

func (p *fieldParser) add(f Field) error {
	p.bytes += len(f.Name) + len(f.Value)
	if len(p.out) >= MaxFields || p.bytes > MaxFieldBytes {
		return fmt.Errorf("%w: %d fields, %d bytes", ErrFieldsTooMany, len(p.out), p.bytes)
	}
	p.out = append(p.out, f)
	return nil
}

func malformedFields(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrFieldsMalformed}, args...)...)
}

func (p *fieldParser) request(x *Exchange) error {
	r := x.Request
	if err := p.pairs(policy.Query, r.URL.RawQuery); err != nil {
		return err
	}
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 || x.Streams() {
		return nil
	}
	b, err := x.Buffer()
	if err != nil {
		return err
	}
	if b.Size() == 0 {
		return nil
	}
	types := r.Header["Content-Type"]
	if len(types) > 1 {
		return malformedFields("%d Content-Type headers", len(types))
	}
	contentType := ""
	if len(types) == 1 {
		contentType = types[0]
	}
	kind := waf.MediaType(contentType)
	if kind == "multipart/form-data" {
		return p.multipart(b.Reader(), contentType)
	}
	form := kind == "application/x-www-form-urlencoded" || kind == "application/x-url-encoded"
	isJSON := kind == "application/json" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")
	if !form && !isJSON && !looksLikeJSON(b.Prefix(64)) {
		return nil
	}
	text, err := b.text(MaxFieldBytes)
	if err != nil {
		return err
	}
	switch {
	case form:
		if err := p.pairs(policy.Form, text); err != nil {
			return err
		}
		if !looksLikeJSON(b.Prefix(64)) {
			return nil
		}
		fallthrough
	case !isJSON:
		// Nothing says that it is JSON, so that it is not is no fault.
		mark, size := len(p.out), p.bytes
		if err := p.json(pythonText(text), true); errors.Is(err, ErrFieldsMalformed) {
			p.out, p.bytes = p.out[:mark], size
		} else if err != nil {
			return err
		}
		return nil
	}
	return p.json(text, false)
}

// text returns the whole body as a string, without a copy where it is in
// memory: nothing writes into a body that has been gathered.
func (b *Body) text(most int64) (string, error) {
	if b.size > most {
		return "", fmt.Errorf("%w: a body of %d bytes", ErrFieldsTooMany, b.size)
	}
	if b.file == nil && b.view == nil {
		return unsafe.String(unsafe.SliceData(b.memory), int(b.size)), nil
	}
	p := make([]byte, b.size)
	if _, err := io.ReadFull(b.Reader(), p); err != nil {
		return "", fmt.Errorf("%w: %w", ErrBodyStorage, err)
	}
	return unsafe.String(unsafe.SliceData(p), len(p)), nil
}

// looksLikeJSON reports whether a body that begins with b may be an object or
// a list to json.loads, which takes UTF-8, UTF-16 and UTF-32 with or without a
// byte order mark, and any space before.
func looksLikeJSON(b []byte) bool {
	if len(b) > 1 && (b[0] == 0xff && b[1] == 0xfe || b[0] == 0xfe && b[1] == 0xff) {
		b = b[2:]
	} else if len(b) > 2 && b[0] == 0xef && b[1] == 0xbb && b[2] == 0xbf {
		b = b[3:]
	}
	for _, c := range b {
		switch c {
		case 0, ' ', '\t', '\r', '\n':
		case '{', '[':
			return true
		case 0xfe, 0xff: // of UTF-32's mark
		default:
			return false
		}
	}
	return len(b) > 0 // it may come after more space
}

// pairs reads a query or an urlencoded form as urllib.parse.parse_qsl does
// with keep_blank_values and Werkzeug's error handler: cut at & only, + for
// space, escapes undone, bytes that are no UTF-8 left as escapes. Raw bytes
// that are no UTF-8 end the app's parsing with an exception.
func (p *fieldParser) pairs(in, text string) error {
	if text == "" {
		return nil
	}
	if !utf8.ValidString(text) {
		return malformedFields("the %s is not UTF-8", in)
	}
	if p.out == nil {
		p.out = make(Fields, 0, min(strings.Count(text, "&")+1, 64))
	}
	for text != "" {
		var pair string
		pair, text, _ = strings.Cut(text, "&")
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		if err := p.add(Field{In: in, Name: unquotePlus(name), Value: unquotePlus(value)}); err != nil {
			return err
		}
	}
	return nil
}

// unquotePlus undoes + and %XX.
func unquotePlus(s string) string {
	i := strings.IndexAny(s, "+%")
	if i < 0 {
		return s
	}
	b := append(make([]byte, 0, len(s)), s[:i]...)
	high := false
	for ; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			c = ' '
		} else if d, ok := percent.At(s, i); ok {
			c = d
			high = high || c >= utf8.RuneSelf
			i += 2
		}
		b = append(b, c)
	}
	if high && !utf8.Valid(b) {
		return requote(b)
	}
	return unsafe.String(unsafe.SliceData(b), len(b)) // nobody else has b
}

// requote writes bytes that are no UTF-8 as %XX.
func requote(b []byte) string {
	const digits = "0123456789ABCDEF"
	out := make([]byte, 0, len(b)+16)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			out = append(out, '%', digits[b[0]>>4], digits[b[0]&15])
		} else {
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return string(out)
}

// multipart reads the parts of a multipart body, which two parsers must read
// alike: see [formdata.NewReader] and [formdata.PartDisposition]. What stands in
// files is passed over.
func (p *fieldParser) multipart(body io.Reader, contentType string) error {
	boundary, ok := formdata.Boundary(contentType)
	if !ok {
		return malformedFields("no usable boundary in the Content-Type")
	}
	mr := formdata.NewReader(body, boundary)
	for {
		part, err := mr.NextRawPart()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return malformedFields("%w", err)
		}
		d, why := formdata.PartDisposition(part.Header)
		if why != "" {
			return malformedFields("%s", why)
		}
		for name, values := range part.Header {
			for _, v := range values {
				// Werkzeug decodes the header strictly: with one byte that
				// is no UTF-8 the app gets an empty form.
				if !utf8.ValidString(v) || !utf8.ValidString(name) {
					return malformedFields("a part's header is not UTF-8")
				}
			}
		}
		if d.File {
			if _, err := io.Copy(io.Discard, part); err != nil {
				return malformedFields("%w", err)
			}
			// %22 is how browsers write a quote (HTML, section 4.10.21.8).
			f := Field{In: policy.File, File: true, Name: quotes(d.Name), Value: quotes(d.Filename)}
			if d.ExtendedLast {
				f.Value = d.Extended
			}
			if err := p.add(f); err != nil {
				return err
			}
			continue
		}
		charset, ok := partCharset(part.Header["Content-Type"])
		if !ok {
			return malformedFields("a part's Content-Type is read in more than one way")
		}
		value, err := io.ReadAll(io.LimitReader(part, int64(MaxFieldBytes-p.bytes)+1))
		if err != nil {
			return malformedFields("%w", err)
		}
		if err := p.add(Field{In: policy.Form, Name: quotes(d.Name), Value: formdata.DecodeText(value, charset)}); err != nil {
			return err
		}
	}
}

func quotes(s string) string { return strings.ReplaceAll(s, "%22", `"`) }

// partCharset returns the character set that Werkzeug decodes a part with:
// the last charset parameter of its first Content-Type, if it is one of four.
// ok is false for parameters that parsers take in different ways.
func partCharset(contentTypes []string) (charset string, ok bool) {
	const utf = "utf-8"
	if len(contentTypes) == 0 {
		return utf, true
	}
	_, rest, _ := strings.Cut(contentTypes[0], ";")
	if rest == "" {
		return utf, true
	}
	charset = utf
	for rest != "" {
		rest = strings.TrimLeft(rest, " \t;")
		if rest == "" {
			break
		}
		key, after, found := strings.Cut(rest, "=")
		key = strings.ToLower(key)
		if !found || key == "" || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", false
		}
		var value string
		if strings.HasPrefix(after, `"`) {
			value, after, found = strings.Cut(after[1:], `"`)
			if !found || strings.Contains(value, `\`) {
				return "", false
			}
		} else {
			n := strings.IndexAny(after, "; \t")
			if n < 0 {
				n = len(after)
			}
			value, after = after[:n], after[n:]
		}
		after = strings.TrimLeft(after, " \t")
		if after != "" && after[0] != ';' || value == "" {
			return "", false
		}
		rest = after
		if key == "charset" {
			switch charset = strings.ToLower(value); charset {
			case "ascii", "us-ascii", "iso-8859-1":
			default:
				charset = utf
			}
		}
	}
	return charset, true
}
