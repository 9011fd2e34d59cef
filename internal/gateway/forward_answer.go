package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Limits of an answer's head.
const (
	maxAnswerHead   = 256 << 10
	maxAnswerFields = 1000
	maxInformation  = 8 // 1xx answers before the answer
)

// upstreamConn is a connection to the app's server. It carries one request at
// a time.
type upstreamConn struct {
	net.Conn
	br   *bufio.Reader
	head []byte // scratch: the request's head, then the answer's

	silence time.Duration
	heard   bool // a byte of the current answer has arrived
	keep    bool // the answer lets the connection live on
	left    int64
	chunks  *chunkedAnswer
	done    bool // the answer was read to its end
	set     time.Time

	writing chan error // of a body that is written while the answer is read
	halt    func()     // makes the client's body fail
	unwatch func() bool
	ended   bool

	idleSince time.Time
	raw       syscall.RawConn
	quiet     bool
	peek      func(fd uintptr) bool
}

var answerReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 8<<10) }}

func newUpstreamConn(nc net.Conn) *upstreamConn {
	br := answerReaders.Get().(*bufio.Reader)
	br.Reset(nc)
	return &upstreamConn{Conn: nc, br: br}
}

// end closes the connection and waits until nothing uses the request's body
// any more.
func (c *upstreamConn) end() {
	if c.ended {
		return
	}
	c.ended = true
	if c.unwatch != nil {
		c.unwatch()
	}
	_ = c.Conn.Close()
	if c.writing != nil {
		c.halt()
		<-c.writing
	}
	c.br.Reset(nil)
	answerReaders.Put(c.br)
	c.br = nil
}

// reusable reports whether the next answer on this connection can only be
// that of the next request.
func (c *upstreamConn) reusable() bool {
	if !c.keep || !c.done || c.br.Buffered() > 0 || c.writing != nil || c.ended {
		return false
	}
	if c.unwatch != nil && !c.unwatch() {
		return false // the client went away in this moment
	}
	c.unwatch = nil
	return true
}

// silent reports whether nothing has arrived while the connection was idle:
// neither its end nor bytes of an answer that nobody asked for, which the next
// client would get (response queue poisoning, CWE-444).
func (c *upstreamConn) silent() bool {
	if c.raw == nil {
		s, ok := c.Conn.(syscall.Conn)
		if !ok {
			return false
		}
		var err error
		if c.raw, err = s.SyscallConn(); err != nil {
			return false
		}
		c.peek = func(fd uintptr) bool {
			var b [1]byte
			_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			c.quiet = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
			return true
		}
	}
	c.quiet = false
	return c.raw.Read(c.peek) == nil && c.quiet
}

// roundTrip writes a request and reads the head of its answer. Information on
// the way (103) goes to w, through modify like every answer.
func (c *upstreamConn) roundTrip(w http.ResponseWriter, r *http.Request, body *clientBody, keep bool, o ForwarderOptions, modify func(*http.Response) error) (*http.Response, error) {
	c.heard, c.keep, c.done, c.left, c.silence = false, false, false, 0, o.Silence
	length := int64(0)
	if body != nil {
		length = r.ContentLength
	}
	head, err := appendHead(c.head[:0], r, length, keep)
	c.head = head
	if err != nil {
		return nil, err
	}
	ctx := r.Context()
	if ctx.Done() != nil {
		c.until(ctx) // the app is told when nobody waits
	}
	if err := c.write(w, head, body, length); err != nil {
		return nil, &sendError{err}
	}
	if c.writing == nil {
		_ = c.Conn.SetReadDeadline(time.Now().Add(o.Timeout))
	}
	res, err := c.answer(w, r, o, modify)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, &sendError{ctx.Err()}
	}
	c.set = time.Time{}
	return res, nil
}

// until closes the connection when ctx ends before the answer does.
func (c *upstreamConn) until(ctx context.Context) {
	if c.unwatch != nil {
		c.unwatch() // what it did, ctx does: it comes from the one before
	}
	c.unwatch = context.AfterFunc(ctx, func() { _ = c.Conn.Close() })
}

// write sends the head and, when it is short, the body with it. A longer one
// is sent while the answer is read: an app may answer before it has read the
// whole body, and must not be waited for when it does. What cannot be written
// any more because the app has closed is dropped: the answer says why, or that
// there is none.
func (c *upstreamConn) write(w http.ResponseWriter, head []byte, body *clientBody, length int64) error {
	if body != nil && length > 0 && length <= inline {
		n := len(head)
		head = append(head, make([]byte, length)...)
		c.head = head
		if _, err := io.ReadFull(body, head[n:]); err != nil {
			if body.failed() == nil {
				body.err.CompareAndSwap(nil, &err)
			}
			return err
		}
		body = nil
	}
	if _, err := c.Conn.Write(head); err != nil && !gone(err) {
		return err
	}
	if body == nil {
		return nil
	}
	timeout := c.silence
	c.writing = make(chan error, 1)
	c.halt = func() {
		if w != nil && body.live {
			// The client's body is of no use any more; its connection ends.
			_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
		}
	}
	_ = c.Conn.SetReadDeadline(time.Now().Add(timeout))
	go func() {
		err := c.sendBody(body, length)
		if err != nil && !gone(err) {
			_ = c.Conn.SetDeadline(time.Unix(1, 0)) // nobody will answer half a request
		}
		c.writing <- err
	}()
	return nil
}

func gone(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// errAnswer is an answer that is none, or more than one.
type errAnswer string

func (e errAnswer) Error() string { return "the app's answer is malformed: " + string(e) }

// answer reads heads until the final one.
func (c *upstreamConn) answer(w http.ResponseWriter, r *http.Request, o ForwarderOptions, modify func(*http.Response) error) (*http.Response, error) {
	for range maxInformation {
		if c.writing != nil && !c.heard {
			if err := c.await(o.Timeout); err != nil {
				return nil, &sendError{err}
			}
		}
		res, err := c.readHead(r)
		if err != nil {
			return nil, &sendError{err}
		}
		switch {
		case res.StatusCode == http.StatusSwitchingProtocols:
			if err := checkUpgrade(r, res); err != nil {
				return nil, &sendError{err}
			}
			c.keep = false
			return res, nil
		case res.StatusCode >= 200:
			return res, nil
		case res.StatusCode == http.StatusEarlyHints && w != nil && r.ProtoAtLeast(1, 1):
			if err := inform(w, res, modify); err != nil {
				return nil, err
			}
		}
	}
	return nil, &sendError{errAnswer("only 1xx")}
}

// await waits for the first byte of an answer while the body is written. The
// app's time begins when it has the whole request.
func (c *upstreamConn) await(timeout time.Duration) error {
	first := make(chan error, 1)
	go func() {
		_, err := c.br.Peek(1)
		first <- err
	}()
	select {
	case err := <-first:
		return err
	case err := <-c.writing:
		c.writing = nil
		if err != nil && !gone(err) {
			<-first // sendBody's goroutine has set the deadline
			return err
		}
		_ = c.Conn.SetReadDeadline(time.Now().Add(timeout))
		return <-first
	}
}

// inform passes on a 103: hints about what the answer will need. Its fields
// pass the layers, too, and are not those of the answer.
func inform(w http.ResponseWriter, res *http.Response, modify func(*http.Response) error) error {
	if modify != nil {
		if err := modify(res); err != nil {
			return err
		}
	}
	h := w.Header()
	own := maps.Clone(h)
	for name, v := range res.Header {
		h[name] = v
	}
	w.WriteHeader(res.StatusCode)
	clear(h)
	maps.Copy(h, own)
	return nil
}

// readHead reads one head, strictly: what this reader and the client's could
// take for different answers is refused (CWE-113, CWE-444).
func (c *upstreamConn) readHead(r *http.Request) (*http.Response, error) {
	head := c.head[:0]
	var line, n int
	for {
		part, err := c.br.ReadSlice('\n')
		head = append(head, part...)
		if len(part) > 0 {
			c.heard = true
		}
		if len(head) > maxAnswerHead {
			return nil, errAnswer("a head of more than 256 KiB")
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			c.head = head
			if err == io.EOF && len(head) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		l := head[line:]
		if len(l) < 2 || l[len(l)-2] != '\r' {
			return nil, errAnswer("a line that ends in a bare LF")
		}
		line = len(head)
		if len(l) == 2 {
			break
		}
		if n++; n > maxAnswerFields {
			return nil, errAnswer("more than 1000 fields")
		}
	}
	c.head = head
	text := string(head[:len(head)-2]) // all strings of the answer are parts of it
	status, text, _ := strings.Cut(text, "\r\n")
	res := &http.Response{Request: r, ProtoMajor: 1, Header: make(http.Header, n+8), ContentLength: -1}
	if err := statusLine(res, status); err != nil {
		return nil, err
	}
	values := make([]string, 0, n)
	for text != "" {
		var l string
		l, text, _ = strings.Cut(text, "\r\n")
		name, value, ok := strings.Cut(l, ":")
		if !ok || !httpguts.ValidHeaderFieldName(name) {
			return nil, errAnswer(fmt.Sprintf("the line %q", l[:min(len(l), 100)]))
		}
		value = strings.Trim(value, " \t")
		if !httpguts.ValidHeaderFieldValue(value) {
			return nil, errAnswer(fmt.Sprintf("a control character in %s", name))
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		if old := res.Header[name]; old != nil {
			res.Header[name] = append(old, value)
			continue
		}
		values = append(values, value)
		res.Header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	return res, c.frame(r, res)
}

func statusLine(res *http.Response, s string) error {
	bad := func() error { return errAnswer(fmt.Sprintf("the status line %q", s[:min(len(s), 100)])) }
	if len(s) < len("HTTP/1.1 200") || s[:7] != "HTTP/1." || s[7] != '0' && s[7] != '1' || s[8] != ' ' || len(s) > 12 && s[12] != ' ' {
		return bad()
	}
	code := 0
	for _, d := range []byte(s[9:12]) {
		if d < '0' || d > '9' {
			return bad()
		}
		code = code*10 + int(d-'0')
	}
	if code < 100 || code > 599 || !httpguts.ValidHeaderFieldValue(s) {
		return bad()
	}
	res.Proto, res.ProtoMinor, res.Status, res.StatusCode = s[:8], int(s[7]-'0'), s[9:], code
	return nil
}

// frame finds out how long the answer is (RFC 9112, 6.3) and takes away the
// fields of this connection.
func (c *upstreamConn) frame(r *http.Request, res *http.Response) error {
	c.done, c.left, c.chunks = false, 0, nil
	h := res.Header
	connection := h["Connection"]
	closing := res.ProtoMinor == 0
	for _, line := range connection {
		closing = closing || httpguts.HeaderValuesContainsToken([]string{line}, "close")
	}
	for name := range dropped(connection) {
		delete(h, name)
	}
	te, cl := h["Transfer-Encoding"], h["Content-Length"]
	chunked := false
	switch {
	case len(te) > 0 && (len(te) > 1 || !strings.EqualFold(te[0], "chunked") || res.ProtoMinor == 0):
		return errAnswer(fmt.Sprintf("Transfer-Encoding %q", te))
	case len(te) > 0 && len(cl) > 0:
		return errAnswer("Transfer-Encoding and Content-Length")
	case len(te) > 0:
		chunked = true
	}
	for i, v := range cl {
		n, err := strconv.ParseUint(v, 10, 62)
		if err != nil || i > 0 && v != cl[0] {
			return errAnswer(fmt.Sprintf("Content-Length %q", cl))
		}
		res.ContentLength = int64(n)
	}
	if len(cl) > 1 {
		h["Content-Length"] = cl[:1]
	}
	switching := res.StatusCode == http.StatusSwitchingProtocols
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		if !switching || name != "Upgrade" {
			delete(h, name)
		}
	}
	c.keep = !closing
	switch {
	case res.StatusCode < 200, res.StatusCode == http.StatusNoContent:
		delete(h, "Content-Length") // RFC 9110, 8.6
		res.ContentLength = 0
		fallthrough
	case r.Method == http.MethodHead, res.StatusCode == http.StatusNotModified:
		// An app that sends a body all the same would begin the next answer
		// with it.
		c.keep, c.done, res.Body = false, true, http.NoBody
	case chunked:
		c.chunks = &chunkedAnswer{c: c}
		res.Body = c.chunks
	case res.ContentLength == 0:
		c.done, res.Body = true, http.NoBody
	case res.ContentLength > 0:
		c.left = res.ContentLength
		res.Body = (*lengthAnswer)(c)
	default:
		c.keep = false
		res.Body = (*closedAnswer)(c)
	}
	return nil
}

// read reads from the answer's body and gives the app its time.
func (c *upstreamConn) read(p []byte) (int, error) {
	if c.ended {
		return 0, net.ErrClosed
	}
	if c.br.Buffered() == 0 {
		if now := time.Now(); now.Sub(c.set) > time.Second {
			c.set = now
			_ = c.Conn.SetReadDeadline(now.Add(c.silence))
		}
	}
	return c.br.Read(p)
}

// lengthAnswer is a body of c.left bytes.
type lengthAnswer upstreamConn

// Read implements [io.Reader].
func (a *lengthAnswer) Read(p []byte) (int, error) {
	if a.left == 0 {
		return 0, io.EOF
	}
	n, err := (*upstreamConn)(a).read(p[:min(int64(len(p)), a.left)])
	a.left -= int64(n)
	switch {
	case a.left == 0:
		a.done = true
		return n, io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close implements [io.Closer].
func (*lengthAnswer) Close() error { return nil }

// closedAnswer is a body that ends with the connection.
type closedAnswer upstreamConn

// Read implements [io.Reader].
func (a *closedAnswer) Read(p []byte) (int, error) {
	n, err := (*upstreamConn)(a).read(p)
	a.done = a.done || err == io.EOF
	return n, err
}

// Close implements [io.Closer].
func (*closedAnswer) Close() error { return nil }

// chunkedAnswer is a chunked body. Its trailers are dropped: no layer has
// seen them.
type chunkedAnswer struct {
	c     *upstreamConn
	left  int64
	begun bool // a chunk has been read, and its CRLF is to come
	err   error
}

// Close implements [io.Closer].
func (*chunkedAnswer) Close() error { return nil }

// Read implements [io.Reader].
func (a *chunkedAnswer) Read(p []byte) (int, error) {
	if a.err != nil || len(p) == 0 {
		return 0, a.err
	}
	if a.left == 0 {
		if a.err = a.next(); a.err != nil {
			return 0, a.err
		}
	}
	n, err := a.c.read(p[:min(int64(len(p)), a.left)])
	a.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	a.err = err
	return n, err
}

// ready reports whether more of the body can be read without waiting.
func (a *chunkedAnswer) ready() bool {
	b, _ := a.c.br.Peek(a.c.br.Buffered())
	if a.left > 0 {
		return len(b) > 0
	}
	return bytes.IndexByte(bytes.TrimPrefix(b, []byte("\r\n")), '\n') >= 0
}

func (a *chunkedAnswer) line() ([]byte, error) {
	c := a.c
	if c.br.Buffered() == 0 {
		c.set = time.Now()
		_ = c.Conn.SetReadDeadline(c.set.Add(c.silence))
	}
	b, err := c.br.ReadSlice('\n')
	switch {
	case err == io.EOF:
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	case len(b) < 2 || b[len(b)-2] != '\r':
		return nil, errAnswer("a chunk's line that ends in a bare LF")
	}
	return b[:len(b)-2], nil
}

// next reads the line before a chunk, and what follows the last one.
func (a *chunkedAnswer) next() error {
	if a.begun {
		if b, err := a.line(); err != nil {
			return err
		} else if len(b) > 0 {
			return errAnswer("a chunk that is longer than it said")
		}
	}
	b, err := a.line()
	if err != nil {
		return err
	}
	b, _, _ = bytes.Cut(b, []byte(";"))
	b = bytes.TrimRight(b, " \t")
	n := int64(0)
	for _, d := range b {
		switch {
		case '0' <= d && d <= '9':
			d -= '0'
		case 'a' <= d && d <= 'f':
			d -= 'a' - 10
		case 'A' <= d && d <= 'F':
			d -= 'A' - 10
		default:
			return errAnswer("a chunk without a size")
		}
		if n = n<<4 | int64(d); n > 1<<50 {
			return errAnswer("a chunk without end")
		}
	}
	if len(b) == 0 {
		return errAnswer("a chunk without a size")
	}
	a.left, a.begun = n, true
	if n > 0 {
		return nil
	}
	for range maxAnswerFields {
		b, err := a.line()
		if err != nil {
			return err
		}
		if len(b) == 0 {
			a.c.done = true
			return io.EOF
		}
		name, value, ok := strings.Cut(string(b), ":")
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return errAnswer("a trailer that is none")
		}
	}
	return errAnswer("too many trailers")
}

// copyBody copies an answer to the client, of which n bytes in buf have been
// read, with err. What has arrived is sent on before more is waited for, so
// that events stream and small answers stay whole.
func (c *upstreamConn) copyBody(w http.ResponseWriter, res *http.Response, buf []byte, n int, err error) error {
	var flush *http.ResponseController
	for {
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n > 0 && !c.done && !c.ready() {
			if flush == nil {
				flush = http.NewResponseController(w)
			}
			if err := flush.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return err
			}
		}
		n, err = res.Body.Read(buf)
	}
}

// ready reports whether more of the answer can be read without waiting.
func (c *upstreamConn) ready() bool {
	if c.chunks != nil {
		return c.chunks.ready()
	}
	return c.br.Buffered() > 0
}

// buffers is a pool of buffers of the size io.Copy uses.
type buffers struct{ pool sync.Pool }

var copyBuffers buffers

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[32 << 10]byte); ok {
		return p[:]
	}
	return new([32 << 10]byte)[:]
}

func (b *buffers) Put(p []byte) { b.pool.Put((*[32 << 10]byte)(p)) }
