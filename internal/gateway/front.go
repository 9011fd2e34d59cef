package gateway

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/wire"
)

// front is the HTTP servers under one set of limits and time-outs. net/http
// reads them at any time and without a lock, so new ones want new servers: a
// reload makes a second front, new connections go there, and those of the
// first live on under the limits they began with.
type front struct {
	plain, secure *http.Server // secure is nil when TLS ends elsewhere
	in            [2]*handoff  // what plain and secure accept from
	conns         atomic.Int64
	serving       sync.WaitGroup
	arriving      sync.Map // net.Conn: whose first request has not reached the handler
	arrivals      atomic.Int64
}

type arrivalKey struct{}

// arrived says that a connection is served, or gone.
func (f *front) arrived(c any) {
	if _, ok := f.arriving.LoadAndDelete(c); ok {
		f.arrivals.Add(-1)
	}
}

// arrivalTime is how long shutdown waits for requests that have been read
// already.
const arrivalTime = time.Second

// shutdown lets the servers of f answer what they have been asked, until ctx
// ends. net/http hangs up, without an answer, on a connection whose first
// request it reads after Shutdown was called; those that were handed over
// before are waited for.
func (f *front) shutdown(ctx context.Context) {
	f.retire() // and the last one that was handed over is counted
	for _, s := range f.servers() {
		s.SetKeepAlivesEnabled(false)
	}
	for until := time.Now().Add(arrivalTime); f.arrivals.Load() > 0 && ctx.Err() == nil && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	var wg sync.WaitGroup
	for _, s := range f.servers() {
		wg.Go(func() { _ = s.Shutdown(ctx) })
	}
	wg.Wait()
}

// newFront starts the servers; they get connections by hand.
func (g *Gateway) newFront(c deployment.Config) *front {
	f := &front{}
	complain := g.o.OnConnectionError
	if complain == nil {
		complain = func(string) {}
	}
	inner := timeBodies(insideTLS(http.HandlerFunc(g.newestHandler)), time.Duration(c.BodyTimeout))
	server := func(secure bool) *http.Server {
		p := new(http.Protocols)
		p.SetHTTP1(true)
		s := &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				f.arrived(r.Context().Value(arrivalKey{}))
				inner.ServeHTTP(w, r)
			}),
			ReadHeaderTimeout: time.Duration(c.HeaderTimeout),
			IdleTimeout:       time.Duration(c.IdleTimeout),
			// No ReadTimeout and WriteTimeout: they would cut uploads and
			// event streams. timeBodies and boundedConn ask for progress.
			MaxHeaderBytes:               int(c.MaxHeader),
			DisableGeneralOptionsHandler: true, // "OPTIONS *" is for the chain
			BaseContext:                  func(net.Listener) context.Context { return g.base },
			ErrorLog:                     log.New(lineWriter(complain), "", 0),
			Protocols:                    p,
			ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
				return context.WithValue(wire.Context(ctx, conn), arrivalKey{}, conn)
			},
			ConnState: func(conn net.Conn, s http.ConnState) {
				wire.Track(conn, s)
				switch s {
				case http.StateNew:
					f.conns.Add(1)
					f.arrivals.Add(1)
					f.arriving.Store(conn, nil)
				case http.StateClosed, http.StateHijacked:
					f.conns.Add(-1)
					f.arrived(conn)
				}
			},
		}
		if secure {
			// TLS has ended in wire.Listener, and only what chose h2 there can
			// begin with HTTP/2's preface here.
			p.SetUnencryptedHTTP2(true)
			s.HTTP2 = &http.HTTP2Config{
				MaxConcurrentStreams: 100,
				MaxReadFrameSize:     16 << 10, // the least there is: larger frames are larger buffers
				SendPingTimeout:      30 * time.Second,
				PingTimeout:          15 * time.Second,
				WriteByteTimeout:     time.Duration(c.BodyTimeout),
			}
		}
		return s
	}
	start := func(i int, s *http.Server) {
		h := &handoff{conns: make(chan net.Conn), closed: make(chan struct{})}
		f.in[i] = h
		f.serving.Go(func() { _ = s.Serve(h) }) // ends with the handoff
	}
	f.plain = server(false)
	start(0, f.plain)
	if g.certs.Load() != nil {
		f.secure = server(true)
		start(1, f.secure)
	}
	return f
}

// insideTLS gives requests of HTTP/2 what net/http gives those of HTTP/1:
// the state of the TLS that they came through.
func insideTLS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			r.TLS = wire.TLSOf(r.Context())
		}
		next.ServeHTTP(w, r)
	})
}

// servers lists the servers of f.
func (f *front) servers() []*http.Server {
	if f.secure == nil {
		return []*http.Server{f.plain}
	}
	return []*http.Server{f.plain, f.secure}
}

// retire lets f take no more connections. Those it has are served on.
func (f *front) retire() {
	for _, h := range f.in {
		if h != nil {
			h.Close()
		}
	}
	f.serving.Wait()
}

// handoff is a listener whose connections somebody else accepts.
type handoff struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// give hands a connection over, or returns false when nobody takes one here
// any more.
func (h *handoff) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.closed:
		return false
	}
}

// Accept implements [net.Listener].
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements [net.Listener]; connections know their own.
func (h *handoff) Addr() net.Addr { return handoffAddr{} }

type handoffAddr struct{}

func (handoffAddr) Network() string { return "handoff" }
func (handoffAddr) String() string  { return "handoff" }

// accept hands the connections of one listener to the newest front until the
// listener is closed.
func (g *Gateway) accept(l openListener) error {
	var pause time.Duration
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			// Out of file descriptors, most often; what net/http asks, too.
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() {
				// Wait for some to be given back (CWE-400), as net/http does.
				pause = min(max(2*pause, 5*time.Millisecond), time.Second)
				time.Sleep(pause)
				continue
			}
			return err
		}
		pause = 0
		for {
			f := g.front.Load()
			i := 0
			if l.tls {
				i = 1
			}
			if f.in[i].give(c) {
				break
			}
			if g.front.Load() == f { // nobody is left to serve it
				c.Close()
				break
			}
		}
	}
}

// drain lets all connections end without cutting one: with the next answer
// where the client is about to ask, otherwise when time is up. It returns how
// many were left.
func (g *Gateway) drain(most time.Duration) int64 {
	g.draining.Store(true)
	deadline := time.Now().Add(most)
	for {
		n := g.site.Load().n.Load()
		for _, f := range g.fronts() {
			n += f.conns.Load()
		}
		if n <= 0 || !time.Now().Before(deadline) {
			return max(n, 0)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// lastAnswer tells the client that this connection ends with this answer:
// Connection: close, of which net/http makes a GOAWAY in HTTP/2. Closing an
// idle connection instead would meet a request that is on its way.
func lastAnswer(w http.ResponseWriter, r *http.Request) {
	if len(r.Header["Upgrade"]) == 0 && r.ProtoMajor <= 2 && !strings.EqualFold(r.Header.Get("Connection"), "close") {
		w.Header().Set("Connection", "close")
	}
}

func (g *Gateway) fronts() []*front {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]*front(nil), g.allFronts...)
}

// setFront makes f the one that gets new connections.
func (g *Gateway) setFront(f *front) {
	old := g.front.Swap(f)
	if old != nil {
		old.retire()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	kept := g.allFronts[:0:0]
	for _, o := range g.allFronts {
		if o.conns.Load() > 0 {
			kept = append(kept, o)
		}
	}
	g.allFronts = append(kept, f)
}
