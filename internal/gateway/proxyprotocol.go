package gateway

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

// proxyListener takes the client's address from the PROXY protocol, version 1
// or 2, that a load balancer in front speaks. From the addresses named in the
// settings it must come, and is believed; from anybody else it is no part of
// the conversation: there the first bytes are TLS or HTTP, as always, and a
// PROXY line is refused as neither.
type proxyListener struct {
	net.Listener
	trusted func(netip.Addr) bool
	wait    func() time.Duration // for the header
	report  func(error)

	start   sync.Once
	ready   chan net.Conn
	done    chan struct{}
	err     error
	pending chan struct{} // bounds those whose header is awaited
	giving  sync.WaitGroup
}

func newProxyListener(ln net.Listener, trusted func(netip.Addr) bool, wait func() time.Duration, report func(error)) *proxyListener {
	return &proxyListener{Listener: ln, trusted: trusted, wait: wait, report: report,
		ready: make(chan net.Conn), done: make(chan struct{}), pending: make(chan struct{}, 1024)}
}

// Accept implements [net.Listener].
func (l *proxyListener) Accept() (net.Conn, error) {
	l.start.Do(func() { go l.accept() })
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.done:
		return nil, l.err
	}
}

func (l *proxyListener) accept() {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			l.err = err
			l.giving.Wait() // those that were here before are served
			close(l.done)
			return
		}
		a, ok := c.RemoteAddr().(*net.TCPAddr)
		if !ok || !l.trusted(a.AddrPort().Addr().Unmap().WithZone("")) {
			l.give(c)
			continue
		}
		l.pending <- struct{}{}
		l.giving.Go(func() {
			defer func() { <-l.pending }()
			p, err := readProxyHeader(c, l.wait())
			if err != nil {
				c.Close()
				l.report(fmt.Errorf("PROXY protocol from %s: %w", a, err))
				return
			}
			l.give(p)
		})
	}
}

func (l *proxyListener) give(c net.Conn) {
	select {
	case l.ready <- c:
	case <-l.done:
		c.Close()
	}
}

// proxiedConn is a connection whose other end is who the proxy says.
type proxiedConn struct {
	net.Conn
	r             *bufio.Reader // nil when all that was read ahead is used up
	remote, local net.Addr
}

func readProxyHeader(c net.Conn, wait time.Duration) (net.Conn, error) {
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	p := &proxiedConn{Conn: c, r: bufio.NewReaderSize(c, 1<<10), remote: c.RemoteAddr(), local: c.LocalAddr()}
	h, err := proxyproto.Read(p.r)
	if err != nil {
		return nil, err
	}
	// LOCAL and UNKNOWN: the proxy itself asks, for its health check.
	if !h.Command.IsLocal() && !h.TransportProtocol.IsUnspec() {
		s, ok1 := h.SourceAddr.(*net.TCPAddr)
		d, ok2 := h.DestinationAddr.(*net.TCPAddr)
		if !ok1 || !ok2 {
			return nil, errors.New("no TCP addresses in the header")
		}
		p.remote, p.local = s, d
	}
	return p, c.SetReadDeadline(time.Time{})
}

// Read implements [net.Conn].
func (c *proxiedConn) Read(b []byte) (int, error) {
	if c.r == nil {
		return c.Conn.Read(b)
	}
	if c.r.Buffered() == 0 {
		c.r = nil
		return c.Conn.Read(b)
	}
	return c.r.Read(b)
}

// RemoteAddr implements [net.Conn].
func (c *proxiedConn) RemoteAddr() net.Addr { return c.remote }

// LocalAddr implements [net.Conn].
func (c *proxiedConn) LocalAddr() net.Addr { return c.local }

// CloseWrite implements what boundedConn has.
func (c *proxiedConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}
