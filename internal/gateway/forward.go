package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
)

// Forwarder hands requests to the app, over a unix socket or to an address.
// It implements [guard.Forwarder].
//
// It adds nothing to a request: what the client layer wrote into the
// X-Forwarded headers is what the app gets. Path and query arrive byte for
// byte, Host unchanged, hop-by-hop headers are gone (RFC 9110, 7.6.1), and the
// body has one length. What cannot be written as one unambiguous request is
// not written at all. Answers are read as strictly: forward_answer.go.
type Forwarder struct {
	o    ForwarderOptions
	host string // for requests of our own
	dial func(context.Context) (net.Conn, error)
	idle idleConns
	// down returns when the upstream is known to be away, and for how long.
	down func() (bool, time.Duration)
}

var _ guard.Forwarder = (*Forwarder)(nil)

// ForwarderOptions bounds a [Forwarder].
type ForwarderOptions struct {
	// Timeout is how long the app may take to begin its answer after it got
	// the whole request; 0 means 30 seconds.
	Timeout time.Duration
	// Silence is how long an answer that has begun, or a WebSocket, may pause;
	// 0 means 10 minutes.
	Silence time.Duration
	// Idle is how many idle connections are kept; 0 means 64.
	Idle int
}

// NewForwarder returns the Forwarder to an upstream: "unix:/run/app.sock" or
// "http://host:port".
func NewForwarder(upstream string, o ForwarderOptions) (*Forwarder, error) {
	u, err := url.Parse(upstream)
	network, address := "tcp", ""
	switch {
	case err != nil:
	case u.Scheme == "unix" && (u.Path != "" || u.Opaque != "") && u.Host == "":
		network, address = "unix", u.Path+u.Opaque
		u = &url.URL{Scheme: "http", Host: "app"}
	case u.Scheme == "http" && u.Hostname() != "" && strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.User == nil:
		port := u.Port()
		if port == "" {
			port = "80"
		}
		address = net.JoinHostPort(u.Hostname(), port)
	default:
		err = errors.New("neither a unix socket nor an http address")
	}
	if err != nil {
		return nil, fmt.Errorf("app.upstream: %q cannot be used: write http://127.0.0.1:8000 or unix:/run/app.sock", upstream)
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Silence <= 0 {
		o.Silence = 10 * time.Minute
	}
	if o.Idle <= 0 {
		o.Idle = 64
	}
	d := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	return &Forwarder{
		o: o, host: u.Host, idle: idleConns{most: o.Idle},
		down: func() (bool, time.Duration) { return false, 0 },
		dial: func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, network, address) },
	}, nil
}

// Forward sends x.Request to the app and its answer to w. modify sees the
// answer before anything is written; an error from it comes back unchanged,
// and nothing has been written then. When the app gives no answer the error
// is an [*guard.UpstreamError], or wraps [guard.ErrClientGone]. When the answer breaks off in
// the middle Forward panics with [http.ErrAbortHandler], as net/http wants
// it: the client must not take a cut answer for a whole one.
func (f *Forwarder) Forward(w http.ResponseWriter, x *guard.Exchange, modify func(*http.Response) error) error {
	if down, retry := f.down(); down {
		return &guard.UpstreamError{Status: http.StatusServiceUnavailable, RetryAfter: retry, Reason: "upstream-down", Err: errors.New("the app's server is being started")}
	}
	r := x.Request
	var body *clientBody
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		body = &clientBody{ReadCloser: r.Body, live: !x.Gathered()}
	}
	c, res, err := f.send(w, r, body, modify)
	if err != nil {
		if c != nil {
			c.end()
		}
		return f.explain(r.Context(), body, err)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		return f.tunnel(w, x, c, res, modify)
	}
	whole := false
	defer func() {
		if whole {
			f.release(c)
		} else {
			c.end()
		}
	}()
	if modify != nil {
		if err := modify(res); err != nil {
			return err
		}
	}
	if ctx := x.Context(); ctx != r.Context() {
		c.until(ctx)
	}
	buf := copyBuffers.Get()
	defer copyBuffers.Put(buf)
	// Before the body's first byte nothing of the answer goes out: an app that
	// fails there can still be answered for, with a page.
	n, err := first(res.Body, buf)
	if n == 0 && err != nil && err != io.EOF {
		return f.explain(x.Context(), body, &sendError{err})
	}
	h := w.Header()
	for name, v := range res.Header {
		h[name] = v
	}
	if c.writing != nil && body != nil && body.live && r.ProtoMajor == 1 {
		// The rest of the client's body is not read: net/http must not take
		// the connection for one that can be used again (see halt).
		h.Set("Connection", "close")
	}
	w.WriteHeader(res.StatusCode)
	if err := c.copyBody(w, res, buf, n, err); err != nil {
		panic(http.ErrAbortHandler)
	}
	_ = res.Body.Close()
	whole = true
	return nil
}

// first reads the beginning of an answer's body.
func first(body io.Reader, buf []byte) (n int, err error) {
	if body == nil || body == http.NoBody {
		return 0, io.EOF
	}
	for n == 0 && err == nil {
		n, err = body.Read(buf)
	}
	return n, err
}

// send writes the request on a connection and reads the head of the answer.
// Connections are kept only for requests that can be repeated: a worker that
// is replaced closes its idle connections, and a POST on its way into one
// could neither be sent again nor be told from one that was handled.
func (f *Forwarder) send(w http.ResponseWriter, r *http.Request, body *clientBody, modify func(*http.Response) error) (*upstreamConn, *http.Response, error) {
	again := body == nil && repeatable(r.Method) && len(r.Header["Upgrade"]) == 0
	if again {
		if c := f.idle.get(); c != nil {
			res, err := c.roundTrip(w, r, nil, true, f.o, modify)
			if err == nil || c.heard || r.Context().Err() != nil || !gone(err) && !errors.Is(err, io.EOF) {
				return c, res, err
			}
			c.end() // it was closed just now: nobody has seen the request
		}
	}
	nc, err := f.dial(r.Context())
	if err != nil {
		return nil, nil, &sendError{err}
	}
	c := newUpstreamConn(nc)
	res, err := c.roundTrip(w, r, body, again, f.o, modify)
	return c, res, err
}

func repeatable(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// release keeps a connection whose answer has been read to its end, if it can
// carry another request.
func (f *Forwarder) release(c *upstreamConn) {
	if !c.reusable() || !f.idle.put(c) {
		c.end()
	}
}

// explain sorts what can go wrong before the answer begins.
func (f *Forwarder) explain(ctx context.Context, body *clientBody, err error) error {
	var failed *sendError
	if !errors.As(err, &failed) {
		return err // from modify, or about the request itself
	}
	err = failed.err
	var ne net.Error
	switch {
	case body != nil && body.failed() != nil:
		return body.failed() // the client's body: too large, too slow, cut
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", guard.ErrClientGone, err)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EAGAIN):
		// Not listening, or (EAGAIN on a unix socket) its backlog is full.
		retry := time.Second
		if _, r := f.down(); r > 0 {
			retry = r
		}
		return &guard.UpstreamError{Status: http.StatusServiceUnavailable, RetryAfter: retry, Reason: "upstream-down", Err: err}
	case errors.As(err, &ne) && ne.Timeout():
		return &guard.UpstreamError{Status: http.StatusGatewayTimeout, Reason: "upstream-timeout", Err: err}
	}
	return &guard.UpstreamError{Status: http.StatusBadGateway, RetryAfter: time.Second, Reason: "upstream-broken", Err: err}
}

// sendError marks what went wrong on the way to the app or back.
type sendError struct{ err error }

func (e *sendError) Error() string { return e.err.Error() }
func (e *sendError) Unwrap() error { return e.err }

// clientBody remembers that reading the client's body failed: it looks like
// an error of the upstream's otherwise.
type clientBody struct {
	io.ReadCloser
	live bool // it is still on its way
	err  atomic.Pointer[error]
}

func (b *clientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.err.CompareAndSwap(nil, &err)
	}
	return n, err
}

func (b *clientBody) failed() error {
	if p := b.err.Load(); p != nil {
		return *p
	}
	return nil
}

// RetrySeconds returns d as the Retry-After header wants it: whole seconds,
// rounded up.
func RetrySeconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// Check dials the upstream and hangs up.
func (f *Forwarder) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	c, err := f.dial(ctx)
	if err != nil {
		return err
	}
	return c.Close()
}

// server asks the upstream for its front page's head and returns the Server
// field, cut and made safe to print; empty when nothing is said.
func (f *Forwarder) server(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+f.host+"/", nil)
	if err != nil {
		return ""
	}
	c, res, err := f.send(nil, r, nil, nil)
	if c != nil {
		defer c.end()
	}
	if err != nil {
		return ""
	}
	v := clean(res.Header.Get("Server"))
	return v[:min(len(v), 100)]
}

// Close lets go of idle connections, now and from now on.
func (f *Forwarder) Close() { f.idle.close() }

// watch checks the upstream every few seconds until ctx ends, for readiness
// when something else runs the app.
func (f *Forwarder) watch(ctx context.Context, up *atomic.Pointer[error], progress func(Step), every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := f.Check(ctx)
		if ctx.Err() != nil {
			return
		}
		if was := *up.Swap(&err); (was == nil) != (err == nil) {
			if err == nil {
				progress(Step{Kind: StepDone, Name: "upstream", Text: "answers again"})
			} else {
				progress(Step{Kind: StepWarning, Name: "upstream", Text: fmt.Sprintf("does not answer: %v", err)})
			}
		}
	}
}

// idleConns keeps connections for the next request. The one used last is used
// next, so that the others grow old.
type idleConns struct {
	most   int
	mu     sync.Mutex
	conns  []*upstreamConn
	closed bool
}

// oldest is how long a connection may have been idle: less than gunicorn
// keeps it.
const oldest = upstreamKeepalive - 15*time.Second

func (p *idleConns) get() *upstreamConn {
	for {
		p.mu.Lock()
		n := len(p.conns)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.conns[n-1]
		p.conns[n-1] = nil
		p.conns = p.conns[:n-1]
		p.mu.Unlock()
		if time.Since(c.idleSince) < oldest && c.silent() {
			return c
		}
		c.end()
	}
}

func (p *idleConns) put(c *upstreamConn) bool {
	c.idleSince = time.Now()
	var old *upstreamConn
	p.mu.Lock()
	if p.closed || len(p.conns) >= p.most {
		p.mu.Unlock()
		return false
	}
	if len(p.conns) > 0 && c.idleSince.Sub(p.conns[0].idleSince) >= oldest {
		old, p.conns = p.conns[0], p.conns[1:]
	}
	p.conns = append(p.conns, c)
	p.mu.Unlock()
	if old != nil {
		old.end()
	}
	return true
}

func (p *idleConns) close() {
	p.mu.Lock()
	conns := p.conns
	p.conns, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range conns {
		c.end()
	}
}
