package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/dewar-security/dewar/internal/control/deployment"
)

// quicFront serves HTTP/3 (RFC 9114) on the UDP ports beside the addresses for
// HTTPS: the same chain, certificate and limits. Early data is off: whoever
// records it can send it again (RFC 8446, 8).
//
// A QUIC connection belongs to the process that it began in. After a hand-over
// the old process tells its clients to go (GOAWAY), answers what they have
// asked, and lets go of the port; the new one takes it then, and serves over
// TCP until it has it.
type quicFront struct {
	g       *Gateway
	handler http.Handler
	servers []*quic.Transport
	conns   atomic.Int64
	running users // requests
	serving sync.WaitGroup

	mu      sync.Mutex
	clients map[netip.Prefix]int
	all     []*h3Server  // the newest last; the others have connections
	ports   map[int]bool // that are open
}

// h3Server is the server of the connections that began under its limits: they
// are read at any time, without a lock.
type h3Server struct {
	http3.Server
	conns int // guarded by quicFront.mu
}

// enter returns the server for a new connection, with the limits in force.
func (q *quicFront) enter() *h3Server {
	c := q.g.config()
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.all); n > 0 {
		if s := q.all[n-1]; s.MaxHeaderBytes == int(c.MaxHeader) && s.IdleTimeout == time.Duration(c.IdleTimeout) {
			s.conns++
			return s
		}
	}
	q.all = slices.DeleteFunc(q.all, func(s *h3Server) bool { return s.conns == 0 })
	s := &h3Server{Server: http3.Server{Handler: q.handler, MaxHeaderBytes: int(c.MaxHeader), IdleTimeout: time.Duration(c.IdleTimeout)}, conns: 1}
	q.all = append(q.all, s)
	return s
}

func (q *quicFront) leave(s *h3Server) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s.conns--
}

// altSvc tells browsers that HTTP/3 is spoken (RFC 7838), on the port that the
// request came to or on the public one.
func (q *quicFront) altSvc(w http.ResponseWriter, r *http.Request) {
	a, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return
	}
	q.mu.Lock()
	open := q.ports[a.Port]
	q.mu.Unlock()
	if !open {
		return
	}
	port := a.Port
	if p := q.g.config().PublicPort; p != 0 {
		port = p
	}
	w.Header().Set("Alt-Svc", fmt.Sprintf(`h3=":%d"; ma=86400`, port))
}

func (g *Gateway) newQUIC() *quicFront {
	q := &quicFront{g: g, clients: map[netip.Prefix]int{}, ports: map[int]bool{}}
	q.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q.running.n.Add(1)
		defer q.running.done()
		patience := time.Duration(g.config().BodyTimeout) // as it is now: a reload may have changed it
		inner := timeBodies(http.HandlerFunc(g.newestHandler), patience)
		inner.ServeHTTP(&patientWriter{ResponseWriter: w, rc: http.NewResponseController(w), stall: patience}, r.WithContext(withBase(r.Context(), g.base)))
	})
	return q
}

// withBase returns ctx, cancelled when base is, too: at the end of the guard.
func withBase(ctx, base context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(base, cancel)
	// base outlives every request: it must not keep what belongs to one.
	context.AfterFunc(ctx, func() { stop(); cancel() })
	return ctx
}

// patientWriter gives the client a fixed time for each write, as boundedConn
// does.
type patientWriter struct {
	http.ResponseWriter
	rc    *http.ResponseController
	stall time.Duration
}

// Unwrap lets [http.ResponseController] reach flush and deadlines.
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write implements [http.ResponseWriter].
func (w *patientWriter) Write(b []byte) (int, error) {
	_ = w.rc.SetWriteDeadline(time.Now().Add(w.stall))
	return w.ResponseWriter.Write(b)
}

// open serves on the UDP port of a TCP address that is open. A port that is
// taken is an error, unless this guard takes over from one that still has it:
// then it is tried until ctx ends.
func (q *quicFront) open(ctx context.Context, tcp *net.TCPAddr, inherited bool) error {
	listen := func() (net.PacketConn, error) {
		return new(net.ListenConfig).ListenPacket(ctx, "udp", net.JoinHostPort(hostOf(tcp), strconv.Itoa(tcp.Port)))
	}
	pc, err := listen()
	if err != nil && inherited && errors.Is(err, syscall.EADDRINUSE) {
		q.serving.Go(func() {
			for ctx.Err() == nil {
				select {
				case <-ctx.Done():
					return
				case <-time.After(100 * time.Millisecond):
				}
				if pc, err := listen(); err == nil {
					if err := q.serve(ctx, pc, tcp.Port); err != nil {
						q.g.o.Progress(Step{Kind: StepWarning, Name: "site", Text: "HTTP/3: " + err.Error()})
					}
					return
				}
			}
		})
		return nil
	}
	if err != nil {
		return fmt.Errorf("deployment.http3: the UDP port beside %s cannot be opened: %w", tcp, err)
	}
	return q.serve(ctx, pc, tcp.Port)
}

func hostOf(a *net.TCPAddr) string {
	if a.IP == nil || a.IP.IsUnspecified() {
		return ""
	}
	return a.IP.String()
}

func (q *quicFront) serve(ctx context.Context, pc net.PacketConn, port int) error {
	c := q.g.config()
	most := int64(min(c.MaxConns, maxOpen()))
	tr := &quic.Transport{
		Conn: pc,
		// Half full: let clients prove their address first (RFC 9000, 8.1),
		// or forged ones fill the rest.
		VerifySourceAddress: func(net.Addr) bool { return q.conns.Load() > most/2 },
	}
	conf := q.quicConfig()
	// New connections ask for the time-outs in force.
	conf.GetConfigForClient = func(*quic.ClientInfo) (*quic.Config, error) { return q.quicConfig(), nil }
	ln, err := tr.Listen(http3.ConfigureTLSConfig(q.g.tlsConfig()), conf)
	if err != nil {
		pc.Close()
		return err
	}
	q.mu.Lock()
	q.servers = append(q.servers, tr)
	q.ports[port] = true
	q.mu.Unlock()
	q.serving.Go(func() {
		for {
			conn, err := ln.Accept(ctx)
			if err != nil {
				return
			}
			leave, ok := q.admit(conn.RemoteAddr(), most)
			if !ok {
				_ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad), "")
				continue
			}
			go func() {
				defer leave()
				server := q.enter()
				defer q.leave(server)
				if err := server.ServeQUICConn(conn); err != nil && q.g.o.OnConnectionError != nil && !errors.Is(err, http.ErrServerClosed) {
					q.g.o.OnConnectionError("HTTP/3: " + clean(err.Error()))
				}
			}()
		}
	})
	return nil
}

// quicConfig returns the limits and time-outs of a new connection.
func (q *quicFront) quicConfig() *quic.Config {
	c := q.g.config()
	return &quic.Config{
		HandshakeIdleTimeout:  time.Duration(c.HeaderTimeout),
		MaxIdleTimeout:        time.Duration(c.IdleTimeout),
		MaxIncomingStreams:    100,
		MaxIncomingUniStreams: 8, // three of HTTP/3's own
		// What a client may send that nobody has read yet.
		InitialStreamReceiveWindow:     256 << 10,
		MaxStreamReceiveWindow:         1 << 20,
		InitialConnectionReceiveWindow: 512 << 10,
		MaxConnectionReceiveWindow:     4 << 20,
		Allow0RTT:                      false,
	}
}

// admit counts a connection, in all and by client.
func (q *quicFront) admit(a net.Addr, most int64) (leave func(), ok bool) {
	if q.conns.Add(1) > most {
		q.conns.Add(-1)
		return nil, false
	}
	var p netip.Prefix
	if u, isUDP := a.(*net.UDPAddr); isUDP {
		ip := u.AddrPort().Addr().Unmap().WithZone("")
		bits := 32
		if ip.Is6() {
			bits = 64
		}
		if c := q.g.config(); c.MaxPerClient > 0 && !ip.IsLoopback() && !deployment.Trusts(c.TrustedProxy, ip) {
			p, _ = ip.Prefix(bits)
			q.mu.Lock()
			n := q.clients[p]
			if n < c.MaxPerClient {
				q.clients[p] = n + 1
			}
			q.mu.Unlock()
			if n >= c.MaxPerClient {
				q.conns.Add(-1)
				return nil, false
			}
		}
	}
	return func() {
		q.conns.Add(-1)
		if p.IsValid() {
			q.mu.Lock()
			if q.clients[p]--; q.clients[p] <= 0 {
				delete(q.clients, p)
			}
			q.mu.Unlock()
		}
	}, true
}

// stop lets running requests finish within grace and gives the ports back.
func (q *quicFront) stop(grace time.Duration) {
	q.mu.Lock()
	q.ports = map[int]bool{} // no Alt-Svc any more
	servers := slices.Clone(q.all)
	q.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	told := make(chan struct{})
	go func() {
		defer close(told)
		var wg sync.WaitGroup
		for _, s := range servers {
			wg.Go(func() { _ = s.Shutdown(ctx) })
		}
		wg.Wait()
	}()
	// GOAWAY is on its way; what a client has sent before it came is here by
	// then. Clients that have nothing to ask are not waited for.
	select {
	case <-told:
	case <-time.After(min(grace, 500*time.Millisecond)):
		q.running.wait(grace)
		time.Sleep(50 * time.Millisecond) // the last bytes of the last answer
	}
	cancel()
	<-told
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range q.servers {
		_ = t.Close()
		_ = t.Conn.Close()
	}
	q.servers = nil
}
