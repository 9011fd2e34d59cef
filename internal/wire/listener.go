package wire

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Options says what a [Listener] does with connections.
type Options struct {
	// Limits is asked for every new connection; nil means the defaults.
	Limits func() Limits
	// TLS ends TLS; nil means clear text, and HTTP/1 only.
	TLS *tls.Config
	// Connections is the most at once; 0 means 4096. When they are all taken
	// the one that has been silent for longest, without having sent its first
	// request, makes place for a new one.
	Connections int
	// PerClient is the most at once from one address, IPv6 counted by /64; 0
	// means no limit.
	PerClient int
	// Exempt names addresses that PerClient does not apply to: proxies.
	Exempt func(netip.Addr) bool
	// Report is told about connections that come to nothing: failed
	// handshakes, floods, too many from one address. It may be nil.
	Report func(net.Addr, error)
}

// ErrTooMany is reported for a connection above Options.PerClient.
var ErrTooMany error = &Fault{Status: 429, Reason: Crowded, Detail: "too many connections from one address"}

// Listener takes connections, ends TLS and gives net/http those that have
// something to say: what has not sent a whole head yet costs a goroutine and
// a small buffer, and is the first to go when there are too many.
//
// Accept returns a [*Conn], a [*TLSConn] or a [*Stream] (HTTP/2).
type Listener struct {
	net.Listener
	o Options

	start   sync.Once
	ready   chan net.Conn
	closing chan struct{} // no new connections
	done    chan struct{} // and the last of those that were waiting is gone
	slots   chan struct{}

	mu      sync.Mutex
	err     error
	closed  bool
	over    bool
	waiting int        // connections that are not net/http's yet, and accept
	parked  *list.List // of net.Conn: those without a request, oldest first
	clients map[netip.Prefix]int
	last    time.Duration // for CloseWithin; 0 means lastCall
}

// lastCall is how long a connection that was there before Close may take to
// send its request.
const lastCall = time.Second

// CloseWithin is Close with another time for the connections that were there
// before: when somebody else serves the address on, there is no hurry.
func (l *Listener) CloseWithin(d time.Duration) error {
	l.mu.Lock()
	l.last = d
	l.mu.Unlock()
	return l.Close()
}

// NewListener wraps ln.
func NewListener(ln net.Listener, o Options) *Listener {
	if o.Connections <= 0 {
		o.Connections = 4096
	}
	return &Listener{
		Listener: ln, o: o, ready: make(chan net.Conn),
		closing: make(chan struct{}), done: make(chan struct{}), slots: make(chan struct{}, o.Connections),
		parked: list.New(), clients: map[netip.Prefix]int{},
	}
}

// Accept implements [net.Listener].
func (l *Listener) Accept() (net.Conn, error) {
	l.start.Do(func() {
		l.mu.Lock()
		l.waiting++ // what it has taken at Close is not among the others yet
		l.mu.Unlock()
		go l.accept()
	})
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.done:
		l.mu.Lock()
		defer l.mu.Unlock()
		return nil, l.err
	}
}

// Close implements [net.Listener]. Accept goes on for a moment with the
// connections that were there before: a client that has connected is about to
// send its request.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	l.end(net.ErrClosed)
	return err
}

func (l *Listener) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed, l.err = true, err
	close(l.closing)
	if l.waiting == 0 {
		l.finish()
	} else {
		last := l.last
		if last == 0 {
			last = lastCall
		}
		time.AfterFunc(last, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.finish()
		})
	}
}

// finish ends Accept. The caller holds mu.
func (l *Listener) finish() {
	if l.over {
		return
	}
	l.over = true
	close(l.done)
	for e := l.parked.Front(); e != nil; e = e.Next() {
		e.Value.(net.Conn).Close()
	}
}

// left says that a connection is net/http's now, or came to nothing.
func (l *Listener) left() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting--; l.waiting == 0 && l.closed {
		l.finish()
	}
}

func (l *Listener) accept() {
	defer l.left()
	wait := time.Duration(0)
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() { // out of files, as net/http does
				wait = min(max(2*wait, 5*time.Millisecond), time.Second)
				select {
				case <-time.After(wait):
					continue
				case <-l.closing:
				}
			}
			l.end(err)
			return
		}
		wait = 0
		leave, ok := l.admit(c)
		if !ok {
			continue
		}
		if !l.slot() {
			c.Close()
			leave()
			return
		}
		// Before its goroutine runs: the next connection may have to find it.
		l.mu.Lock()
		l.waiting++
		place := l.parked.PushBack(c)
		l.mu.Unlock()
		go l.prepare(c, place, leave)
	}
}

// slot waits for a place among the connections, and makes one where it can. It
// returns false when the listener is closed.
func (l *Listener) slot() bool {
	for {
		select {
		case l.slots <- struct{}{}:
			return true
		default:
		}
		again := time.Minute // what was closed gives back its place by itself
		if !l.evict() {
			again = 50 * time.Millisecond // all are busy
		}
		t := time.NewTimer(again)
		select {
		case l.slots <- struct{}{}:
			t.Stop()
			return true
		case <-l.closing:
			t.Stop()
			return false
		case <-t.C:
		}
	}
}

// evict closes the connection that has been waiting for longest.
func (l *Listener) evict() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.parked.Front()
	if e == nil {
		return false
	}
	l.parked.Remove(e)
	e.Value.(net.Conn).Close()
	return true
}

// network is what is counted as one client.
func network(a net.Addr) (netip.Prefix, bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}, false
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	return p, err == nil
}

func (l *Listener) counted(c net.Conn) (netip.Prefix, bool) {
	if l.o.PerClient <= 0 {
		return netip.Prefix{}, false
	}
	p, ok := network(c.RemoteAddr())
	if !ok || l.o.Exempt != nil && l.o.Exempt(c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("")) {
		return netip.Prefix{}, false
	}
	return p, true
}

// admit counts a connection among those of its client. leave takes it out
// again: of what it was counted in, whoever is exempt by then.
func (l *Listener) admit(c net.Conn) (leave func(), ok bool) {
	p, ok := l.counted(c)
	if !ok {
		return func() {}, true
	}
	l.mu.Lock()
	n := l.clients[p]
	if n < l.o.PerClient {
		l.clients[p] = n + 1
	}
	l.mu.Unlock()
	if n >= l.o.PerClient {
		c.Close()
		l.report(c, ErrTooMany)
		return nil, false
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.clients[p]--; l.clients[p] <= 0 {
			delete(l.clients, p)
		}
	}, true
}

func (l *Listener) report(c net.Conn, err error) {
	if l.o.Report != nil {
		l.o.Report(c.RemoteAddr(), err)
	}
}

// prepare brings a connection to where it has something to say.
func (l *Listener) prepare(c net.Conn, place *list.Element, leave func()) {
	release := sync.OnceFunc(func() {
		<-l.slots
		leave()
	})
	defer l.left()

	lim := Limits{}
	if l.o.Limits != nil {
		lim = l.o.Limits()
	}
	lim = lim.withDefaults()
	_ = c.SetDeadline(time.Now().Add(lim.HeadTime))
	out, err := l.open(c, &lim, release)
	l.mu.Lock()
	l.parked.Remove(place) // evict may have done it
	l.mu.Unlock()
	if err != nil {
		c.Close()
		release()
		var slow net.Error
		if err != io.EOF && !errors.Is(err, net.ErrClosed) && !(errors.As(err, &slow) && slow.Timeout()) {
			l.report(c, err)
		}
		return
	}
	_ = out.SetDeadline(time.Time{})
	select {
	case l.ready <- out:
	case <-l.done:
		out.Close()
	}
}

// open ends TLS and waits for the first head, or for HTTP/2's preface.
func (l *Listener) open(c net.Conn, lim *Limits, release func()) (net.Conn, error) {
	if l.o.TLS == nil {
		k := newConn(c, lim)
		k.onClose = release
		return k, k.await()
	}
	t := tls.Server(c, l.o.TLS)
	ctx, cancel := context.WithTimeout(context.Background(), lim.HeadTime)
	err := t.HandshakeContext(ctx)
	cancel()
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) && plain.Conn != nil && looksLikeHTTP(plain.RecordHeader) {
		_, _ = io.WriteString(plain.Conn, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nThis address speaks HTTPS.\n")
		return nil, errors.New("HTTP on an HTTPS address")
	}
	if err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	switch s := t.ConnectionState(); s.NegotiatedProtocol {
	case "", "http/1.1", "http/1.0":
		k := newConn(t, lim)
		k.onClose = release
		return &TLSConn{k, s}, k.await()
	case "h2":
		f := newStream(t, func(f *Fault) { l.report(c, f) })
		f.tls = &s
		f.onClose = release
		first := make([]byte, prefaceLen+frameHeaderLen)
		n, err := io.ReadAtLeast(t, first, prefaceLen)
		if n > 0 && !strings.HasPrefix(preface, string(first[:min(n, prefaceLen)])) {
			// net/http would hang up without a word (RFC 9113, 3.4).
			_, _ = t.Write(badPreface)
			return nil, errors.New("HTTP/2: no connection preface")
		}
		f.first = first[:n]
		return f, err
	default:
		// A challenge by TLS-ALPN-01 ends with the handshake (RFC 8737).
		return nil, io.EOF
	}
}

// await reads the first head.
func (c *Conn) await() error {
	c.mu.Lock()
	c.deadline = time.Now().Add(c.lim.HeadTime)
	c.mu.Unlock()
	return c.readHead()
}

func looksLikeHTTP(b [5]byte) bool {
	switch string(b[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}
