package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/dewar-security/dewar/internal/wire"
)

// hopByHop are the fields that are for one connection only, and those that
// say how long a body is: they are written anew.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade", "Content-Length", "Host", "Expect", "Http2-Settings":
		return true
	}
	return false
}

// unsendable says that a request has no unambiguous form in HTTP/1.1. No
// request that the request layer enforces on gets here; in other modes this is
// where "or none" holds.
func unsendable(reason, what, value string) error {
	return &wire.Fault{Status: http.StatusBadRequest, Reason: reason, Detail: fmt.Sprintf("%s %q cannot be written in HTTP/1.1", what, value[:min(len(value), 100)])}
}

// target returns what the client asked for, byte for byte, unless a layer has
// changed the URL.
func target(r *http.Request) string {
	path, query, _ := strings.Cut(r.RequestURI, "?")
	if strings.HasPrefix(path, "/") && query == r.URL.RawQuery {
		if path == r.URL.Path {
			return r.RequestURI
		}
		if p, err := url.PathUnescape(path); err == nil && p == r.URL.Path {
			return r.RequestURI
		}
	}
	t := r.URL.EscapedPath()
	if t == "" {
		t = "/"
	}
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		t += "?" + r.URL.RawQuery
	}
	return t
}

// plainTarget reports whether a target is one word of visible ASCII.
func plainTarget(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return strings.HasPrefix(s, "/")
}

// appendHead writes the head of r. length is that of the body: -1 for one
// that is not known, 0 for none. keep asks the app to keep the connection.
func appendHead(b []byte, r *http.Request, length int64, keep bool) ([]byte, error) {
	t := target(r)
	if !plainTarget(t) {
		return b, unsendable(wire.BadTarget, "target", t)
	}
	if r.Method == "" || strings.ContainsFunc(r.Method, func(c rune) bool { return !httpguts.IsTokenRune(c) }) {
		return b, unsendable(wire.BadLine, "method", r.Method)
	}
	if r.Host == "" || !httpguts.ValidHostHeader(r.Host) || strings.ContainsAny(r.Host, "\r\n ,/@") {
		return b, unsendable(wire.BadHost, "host", r.Host)
	}
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, t...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, r.Host...)
	b = append(b, "\r\n"...)
	drop := dropped(r.Header["Connection"])
	for name, values := range r.Header {
		if hopByHop(name) || drop != nil && drop[name] {
			continue
		}
		if !httpguts.ValidHeaderFieldName(name) {
			return b, unsendable(wire.BadField, "header name", name)
		}
		if len(values) == 0 {
			continue // a field that somebody took away
		}
		// One line for each name: of several, one server takes the first,
		// one the last, and one joins them (RFC 9110, 5.3, says that a list in
		// one line means the same).
		b = append(b, name...)
		b = append(b, ": "...)
		first := true
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return b, unsendable(wire.BadField, "the value of "+name, v)
			}
			if v == "" {
				continue
			}
			if !first {
				b = append(b, ", "...)
			}
			b, first = append(b, v...), false
		}
		b = append(b, "\r\n"...)
	}
	switch {
	case length > 0:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, length, 10)
		b = append(b, "\r\n"...)
	case length < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		b = append(b, "Content-Length: 0\r\n"...)
	}
	switch up := r.Header["Upgrade"]; {
	case len(up) == 1 && strings.EqualFold(up[0], "websocket") && length == 0:
		b = append(b, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	case !keep:
		b = append(b, "Connection: close\r\n"...)
	}
	return append(b, "\r\n"...), nil
}

// dropped returns the canonical names in Connection, or nil. The request
// layer has removed the client's; an answer may have its own.
func dropped(connection []string) map[string]bool {
	var m map[string]bool
	for _, line := range connection {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if name == "" || name == "Close" || name == "Keep-Alive" || name == "Upgrade" {
				continue
			}
			if m == nil {
				m = map[string]bool{}
			}
			m[name] = true
		}
	}
	return m
}

// inline is how large a body may be to go out with the head, in one write,
// that no app's server can block.
const inline = 16 << 10

// sendBody writes a body that is not inline, and its end.
func (c *upstreamConn) sendBody(body io.Reader, length int64) error {
	buf := copyBuffers.Get()
	defer copyBuffers.Put(buf)
	if length >= 0 {
		n, err := io.CopyBuffer(struct{ io.Writer }{c.Conn}, struct{ io.Reader }{io.LimitReader(body, length)}, buf)
		if err == nil && n < length {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	const room = 10 // a size and CRLF
	for {
		n, err := body.Read(buf[room : len(buf)-2])
		if n > 0 {
			head := strconv.AppendInt(buf[:0], int64(n), 16)
			head = append(head, "\r\n"...)
			from := room - len(head)
			copy(buf[from:], head)
			copy(buf[room+n:], "\r\n")
			if _, err := c.Conn.Write(buf[from : room+n+2]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			_, err = io.WriteString(c.Conn, "0\r\n\r\n")
			return err
		}
		if err != nil {
			return err
		}
	}
}
