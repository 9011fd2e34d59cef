package wire

import (
	"bytes"
	"fmt"
	"strings"
)

// class says where a byte may stand.
type class uint8

const (
	inToken  class = 1 << iota // RFC 9110 section 5.6.2
	inTarget                   // visible ASCII, without #
	inValue                    // field-vchar, SP and HTAB (RFC 9110 section 5.5)
	inHost                     // letters, digits and . - _ : [ ]
)

var classes = func() (t [256]class) {
	for c := range 256 {
		b := byte(c)
		alnum := '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
		if alnum || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0 {
			t[c] |= inToken
		}
		if b > ' ' && b < 0x7f && b != '#' {
			t[c] |= inTarget
		}
		if b >= ' ' && b != 0x7f || b == '\t' {
			t[c] |= inValue
		}
		if alnum || strings.IndexByte(".-_:[]", b) >= 0 {
			t[c] |= inHost
		}
	}
	return t
}()

// foreign returns the index of the first byte that is not of class k, or -1.
func foreign(b []byte, k class) int {
	for i, c := range b {
		if classes[c]&k == 0 {
			return i
		}
	}
	return -1
}

// span is a part of the head.
type span struct{ from, to int }

func (s span) of(b []byte) []byte { return b[s.from:s.to] }

// head is a request's head as far as it has been read. It is filled by scan,
// line by line as they arrive.
type head struct {
	pos    int // start of the first line that has not been checked
	fields int // header lines seen
	line   bool

	method, target, host span
	hosts                int
	authority            span // of a target in absolute form
	minor                byte // '0' or '1'
	length               int64
	hasLength            bool
	chunked              bool
	expect               bool
}

// scan checks what has arrived of a head and reports whether it is whole. buf
// is the head from its first byte; after false, scan is called again with the
// same bytes and more.
func (h *head) scan(buf []byte, l *Limits) (done bool, f *Fault) {
	for {
		i := bytes.IndexByte(buf[h.pos:], '\n')
		if i < 0 {
			return false, h.partial(buf, l)
		}
		end := h.pos + i + 1
		if i == 0 || buf[end-2] != '\r' {
			return false, h.fault(buf, 400, h.where(), "a line that ends in a bare LF")
		}
		line := buf[h.pos : end-2]
		if end > l.Head {
			return false, h.fault(buf, 431, TooLong, fmt.Sprintf("a head of more than %d bytes", l.Head))
		}
		switch {
		case !h.line:
			if f := h.requestLine(buf, line, l); f != nil {
				return false, f
			}
			h.line = true
		case len(line) == 0:
			h.pos = end
			return true, h.finish(buf)
		default:
			if end-h.pos > l.Line {
				return false, h.fault(buf, 431, TooLong, fmt.Sprintf("a header line of %d bytes", end-h.pos))
			}
			if h.fields++; h.fields > l.Fields {
				return false, h.fault(buf, 431, TooLong, fmt.Sprintf("more than %d header lines", l.Fields))
			}
			if f := h.field(buf, line); f != nil {
				return false, f
			}
		}
		h.pos = end
	}
}

func (h *head) where() string {
	if h.line {
		return BadField
	}
	return BadLine
}

// partial refuses the beginning of a line that can become nothing good, so
// that nobody has to wait for its end.
func (h *head) partial(buf []byte, l *Limits) *Fault {
	n := len(buf) - h.pos
	switch {
	case !h.line && n > l.Target+64:
		return h.fault(buf, 414, TooLong, fmt.Sprintf("a request line of more than %d bytes", l.Target))
	case h.line && n > l.Line:
		return h.fault(buf, 431, TooLong, fmt.Sprintf("a header line of more than %d bytes", l.Line))
	case len(buf) > l.Head:
		return h.fault(buf, 431, TooLong, fmt.Sprintf("a head of more than %d bytes", l.Head))
	case !h.line && n > 0 && classes[buf[h.pos]]&inToken == 0 && buf[h.pos] != '\r':
		return h.fault(buf, 400, BadLine, fmt.Sprintf("a request that begins with %#02x", buf[h.pos]))
	}
	return nil
}

func (h *head) fault(buf []byte, status int, reason, detail string) *Fault {
	return &Fault{Status: status, Reason: reason, Detail: detail,
		Method: plain(h.method.of(buf)), Target: plain(h.target.of(buf)), Host: plain(h.host.of(buf))}
}

func (h *head) requestLine(buf, line []byte, l *Limits) *Fault {
	bad := func(detail string) *Fault { return h.fault(buf, 400, BadLine, detail) }
	first := bytes.IndexByte(line, ' ')
	last := bytes.LastIndexByte(line, ' ')
	if first < 0 || first == last {
		return bad("a request line without method, target and version: " + clip(line))
	}
	method, target, version := line[:first], line[first+1:last], line[last+1:]
	if len(method) == 0 || len(method) > 32 || foreign(method, inToken) >= 0 {
		return bad("method " + clip(method))
	}
	h.method = span{h.pos, h.pos + first}
	if len(target) > l.Target {
		return h.fault(buf, 414, TooLong, fmt.Sprintf("a target of %d bytes", len(target)))
	}
	if i := foreign(target, inTarget); i >= 0 || len(target) == 0 {
		if i >= 0 && target[i] == ' ' {
			return bad("more than two spaces: " + clip(line))
		}
		return h.fault(buf, 400, BadTarget, "target "+clip(target))
	}
	h.target = span{h.pos + first + 1, h.pos + last}
	switch {
	case len(version) != 8 || string(version[:5]) != "HTTP/" || version[6] != '.' ||
		version[5] < '0' || version[5] > '9' || version[7] < '0' || version[7] > '9':
		return bad("version " + clip(version))
	case version[5] != '1' || version[7] > '1':
		return h.fault(buf, 505, BadLine, "version "+clip(version))
	}
	h.minor = version[7]
	if target[0] == '/' {
		return nil
	}
	if string(method) == "CONNECT" {
		return h.fault(buf, 405, BadTarget, "CONNECT "+clip(target))
	}
	// The absolute form must be understood (RFC 9112 section 3.2.2).
	for _, scheme := range []string{"http://", "https://"} {
		if len(target) > len(scheme) && strings.EqualFold(string(target[:len(scheme)]), scheme) {
			rest := target[len(scheme):]
			n := bytes.IndexAny(rest, "/?")
			if n < 0 {
				n = len(rest)
			}
			if n == 0 || foreign(rest[:n], inHost) >= 0 || n < len(rest) && rest[n] == '?' {
				break
			}
			from := h.target.from + len(scheme)
			h.authority = span{from, from + n}
			return nil
		}
	}
	return h.fault(buf, 400, BadTarget, "target "+clip(target))
}

func (h *head) field(buf, line []byte) *Fault {
	bad := func(detail string) *Fault { return h.fault(buf, 400, BadField, detail) }
	if line[0] == ' ' || line[0] == '\t' {
		return bad("a folded header line")
	}
	colon := bytes.IndexByte(line, ':')
	if colon < 1 {
		return bad("a header line without a name: " + clip(line))
	}
	name := line[:colon]
	if i := foreign(name, inToken); i >= 0 {
		return bad("header name " + clip(name))
	}
	if i := foreign(line[colon+1:], inValue); i >= 0 {
		return bad(fmt.Sprintf("byte %#02x in the value of %s", line[colon+1+i], clip(name)))
	}
	value := trim(line[colon+1:])
	at := func() span {
		from := h.pos + colon + 1 + bytes.Index(line[colon+1:], value)
		return span{from, from + len(value)}
	}
	// Names are compared with - and _ alike: CGI makes one variable of both.
	switch len(name) {
	case 4:
		if like(name, "host") {
			if h.hosts++; h.hosts > 1 {
				return h.fault(buf, 400, BadHost, "two Host fields")
			}
			h.host = at()
			if len(value) == 0 || foreign(value, inHost) >= 0 {
				return h.fault(buf, 400, BadHost, "Host "+clip(value))
			}
		}
	case 6:
		if like(name, "expect") {
			if h.expect || !strings.EqualFold(string(value), "100-continue") {
				return h.fault(buf, 417, BadExpect, "Expect "+clip(value))
			}
			h.expect = true
		}
	case 14:
		if like(name, "content-length") {
			n, ok := decimal(value)
			if h.hasLength || !ok || name[7] == '_' {
				return h.fault(buf, 400, BadFraming, "Content-Length "+clip(value)+again(h.hasLength))
			}
			h.length, h.hasLength = n, true
		}
	case 17:
		if like(name, "transfer-encoding") {
			status := 400
			if !strings.Contains(strings.ToLower(string(value)), "chunked") {
				status = 501 // RFC 9112 section 6.1
			}
			if h.chunked || name[8] == '_' || !strings.EqualFold(string(value), "chunked") {
				return h.fault(buf, status, BadFraming, "Transfer-Encoding "+clip(value)+again(h.chunked))
			}
			h.chunked = true
		}
	}
	return nil
}

func again(twice bool) string {
	if twice {
		return ", for the second time"
	}
	return ""
}

// finish checks what only the whole head tells.
func (h *head) finish(buf []byte) *Fault {
	switch {
	case h.hosts == 0 && h.minor == '1':
		return h.fault(buf, 400, BadHost, "no Host")
	case h.chunked && h.hasLength:
		return h.fault(buf, 400, BadFraming, "Transfer-Encoding and Content-Length")
	case h.chunked && h.minor == '0':
		return h.fault(buf, 400, BadFraming, "Transfer-Encoding in HTTP/1.0")
	case h.authority.to > 0 && !strings.EqualFold(string(h.authority.of(buf)), string(h.host.of(buf))):
		return h.fault(buf, 400, BadHost, fmt.Sprintf("target %s, and Host %s", clip(h.target.of(buf)), clip(h.host.of(buf))))
	}
	return nil
}

// like reports whether a field's name is the lower-case want, or would become
// the same CGI variable.
func like(name []byte, want string) bool {
	for i, c := range name {
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c == '_':
			c = '-'
		}
		if c != want[i] {
			return false
		}
	}
	return true
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// decimal reads 1*DIGIT of at most 18 digits: less than an exabyte.
func decimal(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
