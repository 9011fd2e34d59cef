package wire

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

type state uint8

const (
	readingHead state = iota // nothing of the request was handed out yet
	headOut                  // buf[r:out] is a checked head
	inBody                   // left bytes of body are to come
	inChunks                 // a chunked body
	holding                  // the request is being answered
	raw                      // hijacked: not HTTP any more
	refused                  // a fault's stand-in was handed out; what comes is thrown away
	broken                   // the body is faulty
)

// Conn is a client's HTTP/1 connection, read strictly. net/http must tell it
// the connection's state ([Track]).
type Conn struct {
	net.Conn // TLS or TCP
	lim      *Limits

	buf       []byte
	r, w, out int // buf[r:w] was read and not handed out; see headOut

	state  state
	head   head
	left   int64
	chunks chunks
	served int // requests whose head was handed out

	headFault, bodyFault *Fault
	thrown               int // bytes thrown away after a fault

	mu       sync.Mutex
	deadline time.Time     // as net/http wants it
	wake     chan struct{} // a new deadline, or the end
	closed   bool

	onClose func()
}

// TLSConn is a Conn inside TLS: net/http takes Request.TLS from it.
type TLSConn struct {
	*Conn
	state tls.ConnectionState
}

// ConnectionState returns what the handshake settled.
func (c *TLSConn) ConnectionState() tls.ConnectionState { return c.state }

// NewConn reads c strictly. The zero Limits stands for the defaults.
func NewConn(c net.Conn, l Limits) *Conn {
	l = l.withDefaults()
	return newConn(c, &l)
}

func newConn(c net.Conn, l *Limits) *Conn {
	k := &Conn{Conn: c, lim: l, wake: make(chan struct{}, 1)}
	k.chunks.emit = k.chunks.space[:0]
	return k
}

// Unwrap returns the Conn behind what net/http was given, or nil.
func Unwrap(c net.Conn) *Conn {
	switch c := c.(type) {
	case *Conn:
		return c
	case *TLSConn:
		return c.Conn
	}
	return nil
}

// Track is for [http.Server.ConnState]: when a request has been answered the
// next one may be read, and a hijacked connection is not HTTP any more.
//
// [http.Server.ConnState]: https://pkg.go.dev/net/http#Server.ConnState
func Track(c net.Conn, s http.ConnState) {
	k := Unwrap(c)
	if k == nil {
		return
	}
	switch s {
	case http.StateIdle:
		if k.state == holding {
			k.state, k.head = readingHead, head{}
			k.chunks = chunks{}
			k.chunks.emit = k.chunks.space[:0]
		} else if k.state != raw {
			k.state = broken // the body was not read to its end: no next request can be told apart
		}
	case http.StateHijacked:
		k.state = raw
	}
}

// Read implements [net.Conn]. It returns bytes of the current request only.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		switch c.state {
		case readingHead:
			if err := c.readHead(); err != nil {
				return 0, err
			}
		case headOut:
			n := copy(p, c.buf[c.r:c.out])
			if c.r += n; c.r == c.out {
				c.afterHead()
			}
			return n, nil
		case inBody:
			p = p[:min(int64(len(p)), c.left)]
			n, err := c.data(p)
			if c.left -= int64(n); c.left == 0 {
				c.state = holding
			}
			return n, err
		case inChunks:
			if n, err := c.readChunks(p); n > 0 || err != nil {
				return n, err
			}
		case holding:
			if err := c.hold(); err != nil {
				return 0, err
			}
		case raw:
			return c.data(p)
		case refused:
			return 0, c.throw()
		case broken:
			if c.bodyFault == nil {
				return 0, io.EOF
			}
			return 0, c.bodyFault
		}
	}
}

// data returns what was read before, or reads into p directly.
func (c *Conn) data(p []byte) (int, error) {
	if c.r < c.w {
		n := copy(p, c.buf[c.r:c.w])
		c.r += n
		return n, nil
	}
	if c.state == inBody || c.state == inChunks {
		c.buf, c.r, c.w = nil, 0, 0 // a body that is waited for needs none
	}
	return c.Conn.Read(p)
}

// firstBuffer is where a head's buffer begins; most fit, and a client that
// sends nothing costs no more.
const firstBuffer = 1 << 10

// room makes place for more bytes behind buf[r:w].
func (c *Conn) room() {
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w < len(c.buf) {
		return
	}
	b := make([]byte, max(2*len(c.buf), firstBuffer))
	copy(b, c.buf[:c.w])
	c.buf = b
}

// readHead reads until the head is whole, or faulty. An error means that
// there is no request.
func (c *Conn) readHead() error {
	if c.r == c.w && len(c.buf) > 4*firstBuffer {
		c.buf = nil // a large head is no reason to keep its place while idle
	}
	if c.r > 0 || c.w == len(c.buf) {
		c.room()
	}
	var until time.Time
	defer func() {
		if !until.IsZero() {
			c.mu.Lock()
			_ = c.Conn.SetReadDeadline(c.deadline)
			c.mu.Unlock()
		}
	}()
	blank := c.served > 0 // old clients send an empty line behind a body
	for {
		if blank && c.w >= 2 {
			if blank = false; c.buf[0] == '\r' && c.buf[1] == '\n' {
				c.r = 2
				c.room()
			}
		}
		if c.w > 0 {
			if !blank {
				done, f := c.head.scan(c.buf[:c.w], c.lim)
				if f != nil {
					c.refuse(f)
					return nil
				}
				if done {
					c.state, c.out = headOut, c.head.pos
					c.originForm()
					return nil
				}
			}
			if until.IsZero() {
				until = time.Now().Add(c.lim.HeadTime)
				c.mu.Lock()
				if c.deadline.IsZero() || until.Before(c.deadline) {
					_ = c.Conn.SetReadDeadline(until)
				}
				c.mu.Unlock()
			}
		}
		if c.w == len(c.buf) {
			c.room()
		}
		n, err := c.Conn.Read(c.buf[c.w:])
		c.w += n
		if n > 0 {
			continue // an error comes again
		}
		var slow net.Error
		switch {
		case err == nil:
		case c.w > 0 && errors.As(err, &slow) && slow.Timeout():
			c.refuse(c.head.fault(c.buf[:c.w], http.StatusRequestTimeout, TooSlow, "the head did not arrive in time"))
			return nil
		case c.w > 0 && err == io.EOF:
			return io.ErrUnexpectedEOF
		default:
			return err
		}
	}
}

// originForm takes scheme and host out of a target in absolute form. The host
// is the same as in Host.
func (c *Conn) originForm() {
	h := &c.head
	if h.authority.to == 0 {
		return
	}
	path := h.authority.to
	if path == h.target.to {
		path-- // http://host alone
		c.buf[path] = '/'
	}
	n := copy(c.buf[h.target.from:], c.buf[path:c.w])
	cut := path - h.target.from
	c.w = h.target.from + n
	c.out -= cut
}

func (c *Conn) afterHead() {
	c.served++
	switch h := &c.head; {
	case c.headFault != nil:
		c.state = refused
	case h.chunked:
		c.state = inChunks
	case h.length > 0:
		c.state, c.left = inBody, h.length
	default:
		c.state = holding
	}
}

// refuse gives net/http a harmless request in place of a faulty one. Its
// answer is the last on this connection.
func (c *Conn) refuse(f *Fault) {
	c.headFault = f
	method := "GET"
	if f.Method == http.MethodHead {
		method = f.Method // or the page would be taken for the next answer
	}
	c.buf = append(c.buf[:0], method+" / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n"...)
	c.r, c.w, c.out = 0, len(c.buf), len(c.buf)
	c.state = headOut
}

func (c *Conn) readChunks(p []byte) (n int, err error) {
	k := &c.chunks
	for n < len(p) {
		if len(k.emit) > 0 {
			m := copy(p[n:], k.emit)
			n += m
			if k.emit = k.emit[m:]; len(k.emit) == 0 {
				k.emit = k.space[:0]
			}
			continue
		}
		switch k.state {
		case chunkDone:
			c.state = holding
			return n, nil
		case chunkData:
			if c.r == c.w && n > 0 {
				return n, nil // the rest may be long in coming
			}
			m, err := c.data(p[n:][:min(int64(len(p)-n), k.left)])
			n += m
			k.took(m)
			if err != nil {
				return n, err
			}
			continue
		}
		m, more, f := k.step(c.buf[c.r:c.w])
		if c.r += m; f != nil {
			f.Method, f.Target, f.Host = "", "", "" // the request is known
			c.bodyFault, c.state = f, broken
			return n, nil // the fault comes next
		}
		if !more {
			continue
		}
		if n > 0 {
			return n, nil
		}
		c.room()
		m, err := c.Conn.Read(c.buf[c.w:])
		c.w += m
		if m == 0 && err != nil {
			return 0, err
		}
	}
	return n, nil
}

// hold waits for the client to hang up, or for the deadline that ends the
// wait, while a request is answered. What arrives belongs to the next request:
// it stays in the buffer, and nothing more is read then.
func (c *Conn) hold() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
		if len(c.buf) == 0 {
			c.buf = make([]byte, firstBuffer)
		}
		n, err := c.Conn.Read(c.buf)
		if c.w = n; n == 0 {
			return err
		}
	}
	for {
		c.mu.Lock()
		d, closed := c.deadline, c.closed
		c.mu.Unlock()
		switch {
		case closed:
			return net.ErrClosed
		case !d.IsZero() && !time.Now().Before(d):
			return os.ErrDeadlineExceeded
		case d.IsZero():
			<-c.wake
		default:
			t := time.NewTimer(time.Until(d))
			select {
			case <-c.wake:
			case <-t.C:
			}
			t.Stop()
		}
	}
}

// throw reads what a refused client still sends, so that it can read its
// answer, up to a bound.
func (c *Conn) throw() error {
	const most = 256 << 10
	if cap(c.buf) < firstBuffer {
		c.buf = make([]byte, firstBuffer)
	}
	c.buf = c.buf[:cap(c.buf)]
	for {
		n, err := c.Conn.Read(c.buf)
		if c.thrown += n; err != nil {
			return err
		}
		if c.thrown > most {
			return io.EOF
		}
	}
}

// SetReadDeadline implements [net.Conn].
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	err := c.Conn.SetReadDeadline(t)
	c.mu.Unlock()
	c.rouse()
	return err
}

// SetDeadline implements [net.Conn].
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *Conn) rouse() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// CloseWrite tells the client that nothing more will come.
func (c *Conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close implements [net.Conn]. After a refusal it gives the client a moment
// to read why: closing on unread bytes would reset the connection and throw
// the answer away.
func (c *Conn) Close() error {
	c.mu.Lock()
	was := c.closed
	c.closed = true
	c.mu.Unlock()
	c.rouse()
	if was {
		return net.ErrClosed
	}
	if (c.headFault != nil || c.bodyFault != nil) && c.CloseWrite() == nil {
		_ = c.Conn.SetReadDeadline(time.Now().Add(250 * time.Millisecond))
		_, _ = io.CopyN(io.Discard, c.Conn, 64<<10)
	}
	err := c.Conn.Close()
	if c.onClose != nil {
		c.onClose()
	}
	return err
}
