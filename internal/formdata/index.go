package formdata

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"strings"
	"unicode/utf8"
)

// Part is one part of a body: what its header says, and where its content
// lies.
type Part struct {
	Disposition
	// Type is the part's Content-Type as sent, "" when there is none.
	Type string
	// Extra are the other fields of its header, each once, in order.
	Extra [][2]string
	// Offset and Size say where the content stands in the body.
	Offset, Size int64
}

// FileName is the name by which the app would have known the file: the one
// that stands last where there are two, as Werkzeug has it.
func (p *Part) FileName() string {
	if p.ExtendedLast {
		return p.Extended
	}
	return p.Filename
}

// Content returns a reader of the part's content in the body that it was
// found in.
func (p *Part) Content(body io.ReaderAt) *io.SectionReader {
	return io.NewSectionReader(body, p.Offset, p.Size)
}

// ErrTooManyParts is what [Index] returns for a body with more parts than
// were allowed.
var ErrTooManyParts = errors.New("too many parts")

// SyntaxError says what of a body is not as RFC 7578 and every parser have
// it. Errors of the reader come as they are.
type SyntaxError struct {
	Offset int64
	What   string
}

// Error implements error.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("multipart: %s (at byte %d)", e.What, e.Offset)
}

// Bounds on one part's header.
const (
	maxHeaderFields = 16
	maxHeaderBytes  = 16 << 10
)

// Index finds the parts of a multipart body of size bytes, at most so many.
// It reads the body once, front to back, in pieces.
func Index(body io.ReaderAt, size int64, boundary string, most int) ([]Part, error) {
	s := scanner{src: body, size: size, delimiter: []byte("--" + boundary)}
	return s.parts(most)
}

// window is how much of the body is looked at in one piece: a part's header
// fits into it.
const window = 64 << 10

// scanner walks over a body. buf holds the bytes from at on.
type scanner struct {
	src       io.ReaderAt
	size      int64
	delimiter []byte
	at        int64
	buf       []byte
	store     [window]byte
}

// ahead returns up to n bytes from the scanner's place on: fewer only at the
// end of the body.
func (s *scanner) ahead(n int) ([]byte, error) {
	if len(s.buf) < n && s.at+int64(len(s.buf)) < s.size {
		have := copy(s.store[:], s.buf)
		room := min(int64(len(s.store)-have), s.size-s.at-int64(have))
		k, err := s.src.ReadAt(s.store[have:have+int(room)], s.at+int64(have))
		s.buf = s.store[:have+k]
		if int64(k) < room {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF // shorter than its size
			}
			return nil, err
		}
	}
	return s.buf, nil
}

func (s *scanner) skip(n int) { s.at, s.buf = s.at+int64(n), s.buf[n:] }

func (s *scanner) fail(what string) error { return &SyntaxError{s.at, what} }

func (s *scanner) parts(most int) ([]Part, error) {
	b, err := s.ahead(len(s.delimiter) + 2)
	if err != nil {
		return nil, err
	}
	// Some clients send an empty line first.
	if bytes.HasPrefix(b, []byte("\r\n")) {
		s.skip(2)
	}
	if b, err = s.ahead(len(s.delimiter)); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(b, s.delimiter) {
		return nil, s.fail("the body does not begin with its boundary")
	}
	var out []Part
	for {
		// Here stands a delimiter.
		s.skip(len(s.delimiter))
		b, err := s.ahead(len("--\r\n"))
		if err != nil {
			return nil, err
		}
		switch {
		case bytes.HasPrefix(b, []byte("\r\n")):
			s.skip(2)
		case bytes.HasPrefix(b, []byte("--\r\n")), string(b) == "--":
			return out, nil // nobody reads what follows
		default:
			return nil, s.fail("a boundary is followed by something else than a line's end")
		}
		if len(out) == most {
			return nil, ErrTooManyParts
		}
		p, err := s.header()
		if err != nil {
			return nil, err
		}
		if err := s.content(&p); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
}

// header reads a part's header with the empty line that ends it.
func (s *scanner) header() (p Part, err error) {
	begin, h, order := s.at, textproto.MIMEHeader{}, make([]string, 0, 4)
	for {
		b, err := s.ahead(maxHeaderBytes)
		if err != nil {
			return p, err
		}
		i := bytes.IndexByte(b, '\n')
		switch {
		case i < 0 && len(b) < maxHeaderBytes:
			return p, s.fail("the body ends within a part's header")
		case i < 0, s.at+int64(i)-begin > maxHeaderBytes, len(order) > maxHeaderFields:
			return p, s.fail("the header of a part is too large")
		case i < 1 || b[i-1] != '\r' || bytes.IndexFunc(b[:i-1], control) >= 0:
			return p, s.fail("a line of a part's header ends in something else than CRLF, or holds a control character")
		case i == 1:
			s.skip(2)
			return p, s.understand(&p, h, order)
		}
		line := b[:i-1]
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || len(name) == 0 || bytes.IndexFunc(name, func(r rune) bool { return r >= 0x80 || !tokenByte(byte(r)) }) >= 0 {
			return p, s.fail("a line of a part's header is no field")
		}
		if !utf8.Valid(value) {
			return p, s.fail("a part's header is not UTF-8")
		}
		key := textproto.CanonicalMIMEHeaderKey(string(name))
		if _, twice := h[key]; twice {
			return p, s.fail("a part has the same header field twice")
		}
		h[key] = []string{string(bytes.Trim(value, " \t"))}
		order = append(order, key)
		s.skip(i + 1)
	}
}

// understand reads what the fields of a part's header mean.
func (s *scanner) understand(p *Part, h textproto.MIMEHeader, order []string) error {
	d, why := PartDisposition(h)
	if why != "" {
		return s.fail(why)
	}
	p.Disposition = d
	for _, name := range []string{d.Filename, d.Extended} {
		if !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return s.fail("a file name with control characters, or that is not UTF-8")
		}
	}
	for _, key := range order {
		switch value := h[key][0]; key {
		case "Content-Disposition", "Content-Transfer-Encoding", "Content-Length":
			// Said anew, or by the framing.
		case "Content-Type":
			p.Type = value
		default:
			p.Extra = append(p.Extra, [2]string{key, value})
		}
	}
	kind, params, _ := strings.Cut(strings.ToLower(p.Type), ";")
	if strings.HasPrefix(strings.TrimSpace(kind), "multipart/") {
		return s.fail("a part that is itself multipart (RFC 7578 section 4.3 does away with it)")
	}
	if i := strings.Index(params, "charset"); i >= 0 && !p.File {
		// What a field says depends on it; Werkzeug knew every codec of
		// Python up to 2.2, UTF-7 among them.
		v := strings.Trim(params[i+len("charset"):], " \t=\"*'")
		v, _, _ = strings.Cut(v, ";")
		switch strings.Trim(v, " \t\"'") {
		case "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1":
		default:
			return s.fail("a field in a character set that not every parser knows")
		}
	}
	return nil
}

// content finds the end of a part's content: the next boundary, which must
// stand behind CRLF. The place is behind that CRLF then.
func (s *scanner) content(p *Part) error {
	p.Offset = s.at
	last := [2]byte{'\r', '\n'} // the empty line: a part may have no content
	for {
		b, err := s.ahead(len(s.delimiter) + 1)
		if err != nil {
			return err
		}
		i := bytes.Index(b, s.delimiter)
		n := i
		if i < 0 {
			if s.at+int64(len(b)) == s.size {
				return s.fail("the last boundary is missing")
			}
			n = len(b) - len(s.delimiter) + 1 // the rest may begin one
		}
		switch {
		case n >= 2:
			last = [2]byte{b[n-2], b[n-1]}
		case n == 1:
			last = [2]byte{last[1], b[0]}
		}
		s.skip(n)
		if i < 0 {
			continue
		}
		if last != [2]byte{'\r', '\n'} {
			return s.fail("a boundary stands within a line, or behind a bare CR or LF")
		}
		// Behind the empty line the boundary may follow at once: no content.
		p.Size = max(0, s.at-2-p.Offset)
		return nil
	}
}
