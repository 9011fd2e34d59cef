// Package wire reads HTTP/1 requests strictly, byte for byte, before net/http
// sees them. What two parsers could read as two different requests (CWE-444)
// never gets past it, on clear text and inside TLS alike.
//
//	                 ┌────────────── Listener ──────────────┐
//	TCP ─▶ limits ─▶ │ TLS ─▶ h2:  Stream (frames counted)   │─▶ net/http
//	                 │    └─▶ h1:  Conn (head, body checked) │
//	                 └──────────────────────────────────────┘
//
// A [Conn] lets net/http read one request at a time: the whole head once it
// has been checked, then as many bytes of body as the head announced, then
// nothing until net/http says that the answer is out. So requests that were
// pipelined are read one after the other, and the bytes behind a request are
// never taken for a part of it.
//
// What is wrong with a request is a [Fault]. A faulty head is not given to
// net/http: it gets a harmless request in its place, whose context leads to
// the fault ([FaultOf]). The chain of layers answers it with the one error
// page, in the order of the pipeline, and writes the event. A fault in a body
// is the error of the body's reader.
//
// What is accepted is a subset of what net/http accepts, and net/http reads it
// in the same way: a fuzz test holds that. It is also rewritten where that
// loses nothing: chunk extensions and trailers are left out, a target in
// absolute form loses its scheme and host when they are those of Host.
package wire

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// Fault says why a request or a connection goes no further.
type Fault struct {
	// Status is the HTTP status that the client gets.
	Status int
	// Reason is one of [Reasons].
	Reason string
	// Detail says what exactly was seen, for the log. It quotes the client.
	Detail string
	// Method, Target and Host are what was read before the fault, clipped;
	// empty when it came too early.
	Method, Target, Host string
}

// Error implements error.
func (f *Fault) Error() string { return f.Reason + ": " + f.Detail }

// Reason documents one Fault.Reason: the attack, and what to do when the
// refusal was wrong.
type Reason struct{ Name, Why, Fix string }

// The reasons for a fault.
const (
	BadLine    = "request-line"
	BadTarget  = "request-target"
	BadHost    = "request-host"
	BadField   = "request-field"
	BadFraming = "request-framing"
	BadExpect  = "request-expect"
	TooLong    = "request-limit"
	TooSlow    = "request-slow"
	BadChunks  = "body-chunks"
	Crowded    = "connection-limit"
	Flooded    = "connection-flood"
)

// Reasons documents the faults of a request's head that no layer knows of.
// The request layer lists them as its own.
var Reasons = []Reason{
	{BadLine, "The request line is not METHOD SP TARGET SP HTTP/1.1 CRLF (RFC 9112 section 3), or asks for another version: parsers that forgive read different requests from it.", "Correct the client."},
	{BadField, "A header line does not follow RFC 9112 section 5: a bare CR or LF, NUL or another control character, white space before the colon, a folded line, an impossible name. The app's server could read other fields from it, or another request (CWE-113, CWE-444).", "Correct the client; no browser sends such lines."},
	{BadFraming, "How long the body is has two answers: Content-Length beside Transfer-Encoding, either of them twice or as a list, in HTTP/1.0, or not a plain number (RFC 9112 section 6): request smuggling (CWE-444).", "Send Content-Length once, in digits, or Transfer-Encoding: chunked, once."},
	{BadExpect, "The client expects something that no server offers (RFC 9110 section 10.1.1).", "Send Expect: 100-continue, or nothing."},
	{TooSlow, "The head of the request did not arrive in time: slow clients would hold connections for hours (slowloris).", "Raise deployment.header-timeout for slow, honest clients."},
	{Crowded, "One address opened more connections than a person's browsers do (CWE-770): those above the limit are closed before TLS.", "Raise deployment.max-connections-per-client; list the proxies in front in deployment.trusted-proxies, they are exempt."},
	{Flooded, "A connection sent HTTP/2 frames that cost the server more than the client, in a flood: rapid reset (CVE-2023-44487), PING, SETTINGS, CONTINUATION (CVE-2024-27316), empty DATA. It was ended.", "Nothing: no browser sends as many."},
}

// Limits bounds what is read. The zero Limits stands for the defaults.
type Limits struct {
	// Head is the most bytes of a request's head; 0 means 32 KiB.
	Head int
	// Line is the most bytes of one header line, its end included; 0 means
	// 8190, gunicorn's own limit.
	Line int
	// Target is the most bytes of the request target; 0 means 8000.
	Target int
	// Fields is the most header lines; 0 means 100.
	Fields int
	// HeadTime is how long a head may take from its first byte; 0 means 10
	// seconds.
	HeadTime time.Duration
}

func (l Limits) withDefaults() Limits {
	def := func(p *int, n int) {
		if *p <= 0 {
			*p = n
		}
	}
	def(&l.Head, 32<<10)
	def(&l.Line, 8190)
	def(&l.Target, 8000)
	def(&l.Fields, 100)
	if l.HeadTime <= 0 {
		l.HeadTime = 10 * time.Second
	}
	return l
}

type connKey struct{}

// FaultOf returns the fault in whose place a request stands, or nil for a
// request that is what it says.
func FaultOf(ctx context.Context) *Fault {
	if c, ok := ctx.Value(connKey{}).(*Conn); ok {
		return c.headFault
	}
	return nil
}

// clip quotes the start of what a client sent.
func clip[T string | []byte](s T) string {
	if len(s) > 100 {
		return fmt.Sprintf("%q… (%d bytes)", s[:100], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// plain returns the start of s with what cannot be printed replaced.
func plain(s []byte) string {
	out := make([]byte, 0, min(len(s), 200))
	for _, c := range s[:min(len(s), 200)] {
		if c < ' ' || c >= 0x7f {
			c = '?'
		}
		out = append(out, c)
	}
	return string(out)
}

// Context is for [http.Server.ConnContext]: it leads from a request to its
// connection.
//
// [http.Server.ConnContext]: https://pkg.go.dev/net/http#Server.ConnContext
func Context(ctx context.Context, c net.Conn) context.Context {
	if s, ok := c.(*Stream); ok {
		return context.WithValue(ctx, connKey{}, s)
	}
	if k := Unwrap(c); k != nil {
		return context.WithValue(ctx, connKey{}, k)
	}
	return ctx
}

// TLSOf returns what the handshake of an HTTP/2 connection settled, or nil:
// net/http knows it only of HTTP/1.
func TLSOf(ctx context.Context) *tls.ConnectionState {
	if s, ok := ctx.Value(connKey{}).(*Stream); ok {
		return s.tls
	}
	return nil
}
