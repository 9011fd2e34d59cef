// Package formdata reads multipart/form-data (RFC 7578, RFC 2046) so that no
// parser behind it can read something else, and writes it anew.
//
// Go, Werkzeug and the rest disagree about bare line feeds, repeated or
// extended parameters, white space around a boundary and much more, and each
// disagreement hides a file from a check (CWE-436). [Index] and [NewReader]
// take only what browsers and HTTP libraries send and every parser reads in
// one way; anything else is an error. [Compose] writes what was understood in
// one spelling under a boundary of its own, so that an app gets that and
// nothing else. The contents are never copied: a part is a place in a body
// that lies elsewhere, and a composed body reads through to it.
package formdata

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"strings"
)

// errFraming is what a reader of [NewReader] returns for a body whose
// parts other parsers would cut in other places.
var errFraming = errors.New("multipart: the boundary or a part's header stands where parsers disagree about it")

// maxPartHeader bounds one line of a part's header.
const maxPartHeader = 16 << 10

// Boundary returns the boundary of a multipart Content-Type. It takes only
// what every parser reads in the same way: parameters without RFC 2231
// extensions, each once, and a boundary of 1 to 70 characters as in RFC 2046
// section 5.1.1, without space.
func Boundary(contentType string) (string, bool) {
	_, rest, _ := strings.Cut(contentType, ";")
	boundary, seen := "", map[string]bool{}
	for param := range strings.SplitSeq(rest, ";") {
		if param = strings.Trim(param, " \t"); param == "" {
			continue
		}
		key, value, found := strings.Cut(param, "=")
		key = strings.ToLower(key)
		if !found || key == "" || seen[key] || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", false
		}
		seen[key] = true
		quoted := len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"'
		if quoted {
			value = value[1 : len(value)-1]
		}
		for _, c := range []byte(value) {
			switch {
			case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', strings.IndexByte("'+_-.", c) >= 0:
			case quoted && strings.IndexByte("(),/:=?", c) >= 0:
			default:
				return "", false
			}
		}
		if key == "boundary" {
			boundary = value
		}
	}
	return boundary, boundary != "" && len(boundary) <= 70
}

// NewReader returns a reader of a multipart body that fails where Go and
// other parsers would see different parts. Werkzeug takes a bare CR or LF for
// a line's end, finds the first boundary in the middle of a line, and accepts
// more white space behind a boundary: to Go
//
//	file contents\n--boundary\r\nContent-Disposition: form-data; name="q"…
//
// is still the file, which no rule looks at, and to Werkzeug a field (CWE-436).
// So the boundary may stand nowhere but between CRLF and CRLF (or "--" at the
// end), nothing may stand before the first one, and lines of part headers end
// in CRLF and hold no control characters.
func NewReader(body io.Reader, boundary string) *multipart.Reader {
	return multipart.NewReader(&framing{src: body, delimiter: []byte("--" + boundary)}, boundary)
}

type framingState uint8

const (
	beforeFirst framingState = iota
	inHeader
	inContent
	afterLast
)

// framing passes a multipart body on as far as it is unambiguous.
type framing struct {
	src       io.Reader
	delimiter []byte
	state     framingState
	store     []byte
	buf       []byte // what was read and not yet handed out, in store
	ready     int    // how much of buf has been checked
	last      [2]byte
	err       error // of src
	failed    bool
}

// Read implements [io.Reader].
func (f *framing) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for f.ready == 0 {
		switch {
		case f.failed:
			return 0, errFraming
		case f.err != nil && len(f.buf) == 0:
			return 0, f.err
		}
		f.fill()
		for f.step() {
		}
	}
	n := copy(p, f.buf[:f.ready])
	f.buf, f.ready = f.buf[n:], f.ready-n
	return n, nil
}

func (f *framing) fill() {
	if f.err != nil {
		return
	}
	const chunk = 32 << 10
	if cap(f.buf)-len(f.buf) < chunk/2 {
		// What is left moves to the beginning of the same memory.
		if len(f.store)-len(f.buf) < chunk {
			f.store = make([]byte, len(f.buf)+2*chunk)
		}
		f.buf = f.store[:copy(f.store, f.buf)]
	}
	old := len(f.buf)
	n, err := io.ReadAtLeast(f.src, f.buf[old:cap(f.buf)], 1)
	f.buf, f.err = f.buf[:old+n], err
}

// pass marks n more bytes as checked.
func (f *framing) pass(n int) {
	for _, c := range f.buf[f.ready:][max(0, n-2):n] {
		f.last[0], f.last[1] = f.last[1], c
	}
	f.ready += n
}

// step checks one more piece and reports whether there may be another one in
// the buffer.
func (f *framing) step() bool {
	if f.failed {
		return false
	}
	rest, end := f.buf[f.ready:], f.err != nil
	if len(rest) == 0 {
		return false
	}
	switch f.state {
	case beforeFirst:
		if len(rest) < len(f.delimiter)+2 && !end {
			return false
		}
		// Some clients send an empty line first.
		if !bytes.HasPrefix(bytes.TrimPrefix(rest, []byte("\r\n")), f.delimiter) {
			f.failed = true
			return false
		}
		f.state, f.last = inContent, [2]byte{'\r', '\n'}
		return true
	case inHeader:
		i := bytes.IndexByte(rest, '\n')
		switch {
		case i < 0 && end:
			f.pass(len(rest)) // cut: the multipart reader says so
			return false
		case i < 0 && len(rest) <= maxPartHeader:
			return false
		case i < 1 || i > maxPartHeader || rest[i-1] != '\r' || bytes.IndexFunc(rest[:i-1], control) >= 0:
			f.failed = true
			return false
		}
		if i == 1 {
			f.state = inContent
		}
		f.pass(i + 1)
		return true
	case inContent:
		i := bytes.Index(rest, f.delimiter)
		if i < 0 {
			// The rest may be the beginning of a delimiter.
			n := len(rest)
			if !end {
				n = max(0, n-len(f.delimiter)+1)
			}
			f.pass(n)
			return false
		}
		f.pass(i)
		after := rest[i+len(f.delimiter):]
		const longest = len("--\r\n")
		if len(after) < longest && !end {
			return false
		}
		final := bytes.HasPrefix(after, []byte("--\r\n")) || end && string(after) == "--"
		switch {
		case f.last != [2]byte{'\r', '\n'}, !final && !bytes.HasPrefix(after, []byte("\r\n")):
			f.failed = true
			return false
		case final:
			f.state = afterLast
		default:
			f.state = inHeader
		}
		f.pass(len(f.delimiter) + 2)
		return true
	}
	f.pass(len(rest)) // nobody reads what stands behind the last boundary
	return false
}

func control(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }
