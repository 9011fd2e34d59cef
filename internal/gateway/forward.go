package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
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
// byte, Host unchanged, hop-by-hop headers are gone (RFC 9110, 7.6.1).
type Forwarder struct {
	proxy *httputil.ReverseProxy
	// fresh dials for every request, pooled keeps connections.
	fresh, pooled *http.Transport
	target        *url.URL
	dial          func(context.Context) (net.Conn, error)
	// down returns when the upstream is known to be away, and for how long.
	down func() (bool, time.Duration)
}

var _ guard.Forwarder = (*Forwarder)(nil)

// ForwarderOptions bounds a [Forwarder].
type ForwarderOptions struct {
	// Timeout is how long the app may take to begin its answer after it got
	// the whole request; 0 means 30 seconds.
	Timeout time.Duration
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
	if o.Idle <= 0 {
		o.Idle = 64
	}
	d := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	f := &Forwarder{
		target: &url.URL{Scheme: "http", Host: u.Host},
		down:   func() (bool, time.Duration) { return false, 0 },
		dial:   func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, network, address) },
	}
	transport := func() *http.Transport {
		return &http.Transport{
			Proxy:       nil, // HTTP_PROXY is for the app's own calls
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return f.dial(ctx) },
			// The app's Content-Encoding is between it and the client.
			DisableCompression:     true,
			ResponseHeaderTimeout:  o.Timeout,
			MaxIdleConns:           o.Idle,
			MaxIdleConnsPerHost:    o.Idle,
			IdleConnTimeout:        upstreamKeepalive - 15*time.Second,
			MaxResponseHeaderBytes: 256 << 10,
			ForceAttemptHTTP2:      false,
			Protocols:              onlyHTTP1(),
		}
	}
	f.fresh, f.pooled = transport(), transport()
	f.fresh.DisableKeepAlives = true
	f.fresh.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := f.dial(ctx)
		if err != nil {
			return nil, err
		}
		return &patientConn{Conn: c}, nil
	}
	f.proxy = &httputil.ReverseProxy{
		Transport:      roundTrip(f.send),
		Rewrite:        f.rewrite,
		FlushInterval:  -1, // server-sent events must not wait
		BufferPool:     &copyBuffers,
		ErrorLog:       log.New(io.Discard, "", 0), // errors are returned, not printed
		ModifyResponse: modifyResponse,
		ErrorHandler:   keepError,
	}
	return f, nil
}

func onlyHTTP1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// patientConn lets an app answer before it has read the whole body. A view
// that refuses an upload does that, and its server then closes the
// connection: net/http would report the failed write and throw the answer
// away. What cannot be written any more is dropped, and the reading side says
// what the app said, or that it said nothing. Only connections that carry one
// request are wrapped: on them nothing is ever sent twice.
type patientConn struct {
	net.Conn
	gone atomic.Bool
}

func (c *patientConn) Write(p []byte) (int, error) {
	if c.gone.Load() {
		return len(p), nil
	}
	n, err := c.Conn.Write(p)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		c.gone.Store(true)
		return len(p), nil
	}
	return n, err
}

type roundTrip func(*http.Request) (*http.Response, error)

func (r roundTrip) RoundTrip(q *http.Request) (*http.Response, error) { return r(q) }

// send keeps connections only for requests that can be repeated. A worker
// that is replaced closes its idle connections, and a POST on its way into
// one could neither be sent again nor be told from one that was handled.
func (f *Forwarder) send(r *http.Request) (*http.Response, error) {
	t := f.fresh
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		if r.Body == nil || r.Body == http.NoBody {
			t = f.pooled
		}
	}
	res, err := t.RoundTrip(r)
	if err != nil {
		return nil, &sendError{err}
	}
	return res, nil
}

// forwarding is what one call of Forward shares with the hooks of its proxy.
type forwarding struct {
	modify func(*http.Response) error
	body   *clientBody
	err    error
	// answered is set when the app's answer is on its way to the client.
	answered bool
}

type forwardingKey struct{}

func forwardingOf(ctx context.Context) *forwarding {
	s, _ := ctx.Value(forwardingKey{}).(*forwarding)
	return s
}

// forwardedHeaders are those that ReverseProxy takes out of the outgoing
// request. The client layer has taken away what the client sent and written
// its own: they are put back.
var forwardedHeaders = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

func (f *Forwarder) rewrite(p *httputil.ProxyRequest) {
	p.Out.URL.Scheme, p.Out.URL.Host = f.target.Scheme, f.target.Host
	p.Out.Host = p.In.Host
	// ReverseProxy drops query parts that Go cannot parse ("a=1;b=2"): the
	// app must see the query that the WAF saw.
	p.Out.URL.RawQuery = p.In.URL.RawQuery
	p.Out.URL.ForceQuery = p.In.URL.ForceQuery
	for _, h := range forwardedHeaders {
		if v, ok := p.In.Header[h]; ok {
			p.Out.Header[h] = v
		}
	}
	if _, ok := p.Out.Header["User-Agent"]; !ok {
		p.Out.Header["User-Agent"] = nil // net/http would write its own
	}
}

func modifyResponse(r *http.Response) error {
	s := forwardingOf(r.Request.Context())
	if s.modify != nil {
		if err := s.modify(r); err != nil {
			return err
		}
	}
	s.answered = true
	return nil
}

func keepError(_ http.ResponseWriter, r *http.Request, err error) {
	if s := forwardingOf(r.Context()); s != nil {
		s.err = err
	}
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
	s := &forwarding{modify: modify}
	ctx := x.Request.Context()
	r := x.Request.WithContext(context.WithValue(ctx, forwardingKey{}, s))
	if r.Body != nil && r.Body != http.NoBody {
		s.body = &clientBody{ReadCloser: r.Body}
		r.Body = s.body
	}
	f.proxy.ServeHTTP(w, r)
	if s.err == nil {
		return nil
	}
	if s.answered {
		// An upgrade that failed half way: the connection is of no use.
		return &guard.UpstreamError{Status: http.StatusBadGateway, Reason: "upstream-broken", Err: s.err}
	}
	return f.explain(ctx, s)
}

// explain sorts what can go wrong before the answer begins.
func (f *Forwarder) explain(ctx context.Context, s *forwarding) error {
	var failed *sendError
	if !errors.As(s.err, &failed) {
		return s.err // from modify
	}
	err := failed.err
	var ne net.Error
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", guard.ErrClientGone, err)
	case s.body != nil && s.body.failed() != nil:
		return s.body.failed() // the client's body: too large, too slow, cut
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

// sendError marks what the transport returned.
type sendError struct{ err error }

func (e *sendError) Error() string { return e.err.Error() }
func (e *sendError) Unwrap() error { return e.err }

// clientBody remembers that reading the client's body failed: the transport
// returns such an error as if it were the upstream's.
type clientBody struct {
	io.ReadCloser
	err atomic.Pointer[error]
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
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, f.target.String(), nil)
	if err != nil {
		return ""
	}
	res, err := f.fresh.RoundTrip(r)
	if err != nil {
		return ""
	}
	res.Body.Close()
	v := clean(res.Header.Get("Server"))
	return v[:min(len(v), 100)]
}

// Close lets go of idle connections.
func (f *Forwarder) Close() {
	f.fresh.CloseIdleConnections()
	f.pooled.CloseIdleConnections()
}

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

// buffers is an [httputil.BufferPool] of the size io.Copy uses.
type buffers struct{ pool sync.Pool }

var copyBuffers buffers

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 32<<10)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
