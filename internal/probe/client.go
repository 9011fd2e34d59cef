package probe

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dewar-security/dewar/internal/evidence"
)

// Errors of a [Client]. They say that nothing was sent.
var (
	// ErrBudget: the check's or the run's allowance of requests is used up.
	ErrBudget = errors.New("the request budget is used up")
	// ErrWrites: a check that has not declared Writes, or a run without
	// Options.Writes, tried another method than GET, HEAD or OPTIONS.
	ErrWrites = errors.New("requests that write are not allowed")
	// ErrUntrusted: the site's certificate does not verify, so whoever
	// answers may not be the site.
	ErrUntrusted = errors.New("the certificate is not trusted")
	// ErrNoCleartext: the site has no cleartext side that may be asked.
	ErrNoCleartext = errors.New("no cleartext port is known")
)

// Options bound what a run may do. The zero value is polite and verifies
// certificates; it sends no writing requests.
type Options struct {
	Budget  int           // requests at most in all; 0 means 150
	Rate    float64       // requests per second; 0 means 5
	Timeout time.Duration // for one request; 0 means 10 s
	MaxBody int64         // bytes read of one answer; 0 means 1 MiB
	// Burst is how many requests the rate-limit checks may send without a
	// pause, within the budget; 0 means 40, a negative number none.
	Burst int
	// Writes lets checks send what is neither GET, HEAD nor OPTIONS.
	Writes bool
	// Uploads says which files checks may leave on the site: "" for none,
	// "markers" for harmless ones, "eicar" for the test file of scanners, too.
	Uploads string
	// UploadRoutes are routes that read a file, by the app's route map.
	UploadRoutes []UploadRoute
	// RootCAs verifies the certificate; nil means the system's.
	RootCAs *x509.CertPool
	// Insecure goes on with a certificate that does not verify. The report
	// says so.
	Insecure bool
	// Cleartext is the port on which the same host answers without TLS, for
	// the redirect check. 0 means 80 for a site on port 443, and otherwise
	// none: the port next to 8443 may be somebody else's.
	Cleartext uint16
	// Key is the key that the running guard gave out; nil when none is known.
	Key []byte
	// Version is Dewar's, for the User-Agent.
	Version string
	// Progress, when set, is called after every check, from one goroutine.
	Progress func(Result)
}

// UploadRoute is a path of the site that takes a file in a field of a form.
type UploadRoute struct{ Path, Field string }

func (o Options) withDefaults() Options {
	if o.Budget <= 0 {
		o.Budget = 150
	}
	if o.Rate <= 0 {
		o.Rate = 5
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 1 << 20
	}
	if o.Burst == 0 {
		o.Burst = 40
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	return o
}

// Client sends requests to the one site that the user named. It cannot reach
// another host: requests carry a path and no address, the dialler knows one
// address, and redirects are reported and not followed.
//
// A Client belongs to one check: its Requests and Writes are enforced here.
// The methods that send return an error when nothing, or no whole answer,
// came back.
type Client struct {
	*site
	check *Check
	left  *int // requests left for the check; guarded by site.mu
	// around and through count the check's own answers by vantage.
	around, through *int
}

// site is what all checks of a run share.
type site struct {
	o      Options
	scheme string
	host   string // lower case, without port or brackets
	port   uint16
	clear  uint16 // 0: none
	addr   netip.Addr

	h1, h2 *http.Transport
	// trust is why the certificate does not verify, nil if it does.
	trust error

	mu      sync.Mutex
	left    int
	sent    int
	next    time.Time // when the pace allows the next request
	pages   map[string]*Response
	vantage map[string]evidence.Vantage
	hops    []Hop
	closed  bool // nothing listens on the cleartext side
}

// Request is one request to the site.
type Request struct {
	Method string // "" means GET
	// Path is the request target, path and query, starting with a slash.
	Path   string
	Header http.Header
	Body   string
	// Host is the Host field to send instead of the site's. It changes
	// nothing about where the request goes.
	Host string
	// Cleartext asks the cleartext side of a site that has TLS.
	Cleartext bool
}

// Response is one answer, its body read up to Options.MaxBody.
type Response struct {
	URL       string // what was asked
	Status    int
	Proto     string
	Header    http.Header
	Body      []byte
	Truncated bool // the body goes on
	At        time.Time
	TLS       *tls.ConnectionState
	Vantage   evidence.Vantage
}

// Location returns the target of a redirect made absolute, or nil.
func (r *Response) Location() *url.URL {
	l := r.Header.Get("Location")
	if r.Status < 300 || r.Status > 399 || l == "" {
		return nil
	}
	base, err := url.Parse(r.URL)
	if err != nil {
		return nil
	}
	u, err := base.Parse(l)
	if err != nil {
		return nil
	}
	return u
}

// HTML reports whether the answer is a page.
func (r *Response) HTML() bool {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	return kind == "text/html" || kind == "application/xhtml+xml"
}

// parseSite reads the URL that the user named.
func parseSite(raw string, o Options) (*site, error) {
	if strings.TrimSpace(raw) == "" {
		return nil, errors.New("no site named: give its URL, such as https://staging.example.com; nothing is ever probed that you did not name")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%q is no URL: %w", raw, err)
	}
	s := &site{o: o, scheme: strings.ToLower(u.Scheme), left: o.Budget, pages: map[string]*Response{}, vantage: map[string]evidence.Vantage{}}
	switch {
	case s.scheme != "http" && s.scheme != "https":
		return nil, fmt.Errorf("%q: write the site's URL with its scheme, https:// or http://", raw)
	case u.User != nil:
		return nil, fmt.Errorf("%q: leave user name and password out of the URL: %s would be the host", u.Redacted(), u.Hostname())
	case u.Hostname() == "" || strings.ContainsAny(u.Hostname(), " *%/\\"):
		return nil, fmt.Errorf("%q names no host", raw)
	case u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return nil, fmt.Errorf("%q: give the site, not a page: %s://%s", raw, u.Scheme, u.Host)
	}
	s.host = strings.ToLower(u.Hostname())
	s.port = 443
	if s.scheme == "http" {
		s.port = 80
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%q: %s is no port", raw, p)
		}
		s.port = uint16(n)
	}
	if s.scheme == "https" {
		s.clear = o.Cleartext
		if s.clear == 0 && s.port == 443 {
			s.clear = 80
		}
		if s.clear == s.port {
			return nil, fmt.Errorf("port %d cannot be both the site's and its cleartext side", s.port)
		}
	}
	return s, nil
}

// open finds the host's address once: from here on, a name server that
// changes its mind (DNS rebinding) leads nowhere else. It reports an error
// when nothing listens.
func (s *site) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(s.host); err == nil {
		addrs = append(addrs, a)
	} else if addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", s.host); err != nil {
		return fmt.Errorf("%s cannot be resolved: %w", s.host, err)
	}
	var errs []error
	for _, a := range addrs {
		s.addr = a.Unmap()
		// Half the time for each address: one that drops packets must not
		// keep the next from being tried.
		actx, cancel := context.WithTimeout(ctx, max(s.o.Timeout/2, time.Second))
		c, err := s.dial(actx, s.port)
		cancel()
		if err == nil {
			c.Close()
			errs = nil
			break
		}
		errs = append(errs, err)
	}
	if len(errs) > 0 || len(addrs) == 0 {
		return fmt.Errorf("%s does not answer: %w", s.origin(), errors.Join(errs...))
	}
	s.h2 = s.transport(true)
	s.h1 = s.transport(false)
	return nil
}

func (s *site) close() {
	for _, t := range []*http.Transport{s.h1, s.h2} {
		if t != nil {
			t.CloseIdleConnections()
		}
	}
}

// dial connects to the pinned address and nothing else.
func (s *site) dial(ctx context.Context, port uint16) (net.Conn, error) {
	if port != s.port && (s.clear == 0 || port != s.clear) {
		return nil, fmt.Errorf("port %d is not the site's", port)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", netip.AddrPortFrom(s.addr, port).String())
}

func (s *site) transport(h2 bool) *http.Transport {
	t := &http.Transport{
		Proxy: nil, // a proxy from the environment would be another host
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			host, p, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			n, err := strconv.ParseUint(p, 10, 16)
			if err != nil || !strings.EqualFold(host, s.host) {
				return nil, fmt.Errorf("%s is not the site", addr)
			}
			return s.dial(ctx, uint16(n))
		},
		TLSClientConfig:        s.tlsConfig(),
		DisableCompression:     true,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        30 * time.Second,
		TLSHandshakeTimeout:    s.o.Timeout,
		ResponseHeaderTimeout:  s.o.Timeout,
		MaxResponseHeaderBytes: 256 << 10,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	t.Protocols.SetHTTP2(h2)
	return t
}

func (s *site) tlsConfig() *tls.Config {
	return &tls.Config{ServerName: s.host, RootCAs: s.o.RootCAs, InsecureSkipVerify: s.o.Insecure, MinVersion: tls.VersionTLS10}
}

// authority is the Host field for the site.
func (s *site) authority(clear bool) string {
	scheme, port := s.scheme, s.port
	if clear {
		scheme, port = "http", s.clear
	}
	if scheme == "https" && port == 443 || scheme == "http" && port == 80 {
		if strings.Contains(s.host, ":") {
			return "[" + s.host + "]"
		}
		return s.host
	}
	return net.JoinHostPort(s.host, strconv.Itoa(int(port)))
}

func (s *site) origin() string { return s.scheme + "://" + s.authority(false) }

// Origin returns the site's origin: scheme, host and, unless it is the
// scheme's own, port.
func (s *site) Origin() string { return s.origin() }

// Host returns the site's host name, without port.
func (s *site) Host() string { return s.host }

// HTTPS reports whether the site was named with https.
func (s *site) HTTPS() bool { return s.scheme == "https" }

// Cleartext reports whether the site has a cleartext side that may be asked.
func (s *site) Cleartext() bool { return s.clear != 0 }

// Insecure reports whether certificates are not verified.
func (s *site) Insecure() bool { return s.o.Insecure }

// Burst returns how many requests may be sent without a pause; 0 for none.
func (s *site) Burst() int { return max(s.o.Burst, 0) }

// Uploads returns which files may be sent: see [Options].
func (s *site) Uploads() string { return s.o.Uploads }

// UploadRoutes returns the routes that read a file, as far as they are known.
func (s *site) UploadRoutes() []UploadRoute { return s.o.UploadRoutes }

// URL returns the absolute URL of a path of the site.
func (s *site) URL(path string) string { return s.origin() + path }

// ClearURL returns the absolute URL of a path of the site's cleartext side.
func (s *site) ClearURL(path string) string { return "http://" + s.authority(true) + path }

// Own returns the request target of u when it lies on the site's origin.
func (s *site) Own(u *url.URL) (target string, ok bool) {
	if u == nil || u.User != nil || !strings.EqualFold(u.Scheme, s.scheme) {
		return "", false
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[s.scheme]
	}
	if host != s.host || port != strconv.Itoa(int(s.port)) {
		return "", false
	}
	t := u.EscapedPath()
	if t == "" {
		t = "/"
	}
	if t[0] != '/' {
		return "", false
	}
	if u.RawQuery != "" {
		t += "?" + u.RawQuery
	}
	return t, true
}

// take takes n requests out of the budgets, or none.
func (c *Client) take(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case n > *c.left:
		return fmt.Errorf("%s: %w (%d requests for this check)", c.check.ID, ErrBudget, c.check.Requests)
	case n > c.site.left:
		return fmt.Errorf("%s: %w (%d requests in all)", c.check.ID, ErrBudget, c.o.Budget)
	}
	*c.left -= n
	c.site.left -= n
	c.sent += n
	return nil
}

// Left returns how many requests the check may still send.
func (c *Client) Left() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return min(*c.left, c.site.left)
}

// wait keeps the pace.
func (c *Client) wait(ctx context.Context) error {
	c.mu.Lock()
	now := time.Now()
	at := c.next
	if at.Before(now) {
		at = now
	}
	c.next = at.Add(time.Duration(float64(time.Second) / c.o.Rate))
	c.mu.Unlock()
	if d := at.Sub(now); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// permit refuses what must not be sent at all.
func (c *Client) permit(method string, clear bool) error {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
	default:
		if !c.o.Writes || !c.check.Writes {
			return fmt.Errorf("%s %w", method, ErrWrites)
		}
	}
	if clear && c.clear == 0 {
		return ErrNoCleartext
	}
	if !clear && c.trust != nil {
		return fmt.Errorf("%w: %w", ErrUntrusted, c.trust)
	}
	return nil
}

// Do sends one request, when the pace allows it.
func (c *Client) Do(ctx context.Context, q Request) (*Response, error) {
	req, err := c.prepare(q)
	if err != nil {
		return nil, err
	}
	if err := c.take(1); err != nil {
		return nil, err
	}
	if err := c.wait(ctx); err != nil {
		return nil, err
	}
	return c.send(ctx, req, c.h2)
}

// Get asks for one path.
func (c *Client) Get(ctx context.Context, path string) (*Response, error) {
	return c.Do(ctx, Request{Path: path})
}

// Repeat sends one request n times over a few connections, without pauses,
// until stop says that an answer is enough or ctx ends, and returns the
// answers in the order in which they came. n is cut to Options.Burst and to
// what the budgets leave; requests that were not needed are given back.
// Requests that failed are missing among the answers; err is the first such
// failure.
func (c *Client) Repeat(ctx context.Context, n int, q Request, stop func(*Response) bool) (all []*Response, err error) {
	n = min(n, c.Burst(), c.Left())
	if n <= 0 {
		return nil, fmt.Errorf("%s: bursts are switched off or %w", c.check.ID, ErrBudget)
	}
	if _, err := c.prepare(q); err != nil {
		return nil, err
	}
	if err := c.take(n); err != nil {
		return nil, err
	}
	var (
		mu   sync.Mutex
		sent int
		g    errgroup.Group
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range 4 {
		g.Go(func() error {
			for {
				mu.Lock()
				if sent == n || ctx.Err() != nil {
					mu.Unlock()
					return nil
				}
				sent++
				mu.Unlock()
				req, err := c.prepare(q)
				if err != nil {
					return err
				}
				// HTTP/1.1: one connection each, as many clients would come.
				r, err := c.send(ctx, req, c.h1)
				if err != nil {
					if ctx.Err() != nil {
						return nil
					}
					return err
				}
				mu.Lock()
				all = append(all, r)
				mu.Unlock()
				if stop(r) {
					cancel()
				}
			}
		})
	}
	err = g.Wait()
	c.mu.Lock()
	*c.left += n - sent
	c.site.left += n - sent
	c.sent -= n - sent
	c.mu.Unlock()
	return all, err
}

// prepare checks a request and makes it a net/http one.
func (c *Client) prepare(q Request) (*http.Request, error) {
	method := q.Method
	if method == "" {
		method = http.MethodGet
	}
	if err := c.permit(method, q.Cleartext); err != nil {
		return nil, err
	}
	u, err := url.ParseRequestURI(q.Path)
	if err != nil || !strings.HasPrefix(q.Path, "/") {
		return nil, fmt.Errorf("%q is no path of the site", q.Path)
	}
	// Whatever was parsed, this is where it goes.
	u.Scheme, u.Host, u.User = c.scheme, c.authority(false), nil
	if q.Cleartext {
		u.Scheme, u.Host = "http", c.authority(true)
	}
	// An explicit port: what the transport dials is what was asked for.
	host := u.Host
	u.Host = net.JoinHostPort(c.host, strconv.Itoa(int(c.port)))
	if q.Cleartext {
		u.Host = net.JoinHostPort(c.host, strconv.Itoa(int(c.clear)))
	}
	if q.Host != "" {
		host = q.Host
	}
	req := &http.Request{Method: method, URL: u, Host: host, Header: c.header(q.Header)}
	if q.Body != "" {
		req.Body = io.NopCloser(strings.NewReader(q.Body))
		req.ContentLength = int64(len(q.Body))
	} else if method == http.MethodPost {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	return req, nil
}

// header adds what every request of ours carries.
func (c *Client) header(h http.Header) http.Header {
	h = h.Clone()
	if h == nil {
		h = http.Header{}
	}
	var id [8]byte
	rand.Read(id[:])
	h.Set("User-Agent", "dewar-probe/"+c.o.Version+" (+https://github.com/dewar-security/dewar)")
	h.Set("X-Request-Id", "probe-"+hex.EncodeToString(id[:]))
	if h.Get("Accept") == "" {
		h.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	}
	return h
}

// send sends, reads and notes the vantage.
func (c *Client) send(ctx context.Context, req *http.Request, t *http.Transport) (*Response, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.o.Timeout, fmt.Errorf("no answer within %s", c.o.Timeout))
	defer cancel()
	req = req.WithContext(ctx)
	clear := req.URL.Scheme == "http" && c.scheme == "https"
	shown := c.origin()
	if clear {
		shown = "http://" + c.authority(true)
	}
	shown += req.URL.RequestURI()
	expect := ""
	if len(c.o.Key) > 0 {
		path, _, _ := strings.Cut(req.URL.RequestURI(), "?")
		var sig string
		sig, expect = evidence.SignProbe(c.o.Key, time.Now(), req.Host, path)
		req.Header.Set(evidence.ProbeHeader, sig)
	}
	res, err := t.RoundTrip(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("%s %s: %w", req.Method, shown, err)
	}
	defer res.Body.Close()
	return c.read(res, shown, expect, true)
}

// read takes an answer in. signed says that the request was well formed, so
// that a guard in front would have answered it with a signature.
func (c *Client) read(res *http.Response, shown, expect string, signed bool) (*Response, error) {
	body, err := io.ReadAll(io.LimitReader(res.Body, c.o.MaxBody+1))
	if err != nil && len(body) == 0 {
		return nil, fmt.Errorf("%s: the answer breaks off: %w", shown, err)
	}
	r := &Response{URL: shown, Status: res.StatusCode, Proto: res.Proto, Header: res.Header, Body: body, TLS: res.TLS, At: time.Now()}
	if int64(len(body)) > c.o.MaxBody {
		r.Body, r.Truncated = body[:c.o.MaxBody], true
	}
	switch {
	case expect == "":
	case res.Header.Get(evidence.GuardHeader) == expect:
		r.Vantage = evidence.ThroughGuard
	case signed:
		r.Vantage = evidence.AroundGuard
	}
	c.mu.Lock()
	switch r.Vantage {
	case evidence.AroundGuard:
		*c.around++
	case evidence.ThroughGuard:
		*c.through++
	}
	if old, ok := c.vantage[shown]; !ok || old != evidence.AroundGuard {
		c.vantage[shown] = r.Vantage
	}
	c.mu.Unlock()
	return r, nil
}

// RawRequest is one HTTP/1.1 request written byte for byte, for what net/http
// would put straight: dot segments, odd header names, unknown versions. Host,
// User-Agent and Connection: close are added.
type RawRequest struct {
	Method string   // "" means GET
	Target string   // the request target as written
	Header []string // whole lines without line ends
	Host   string   // instead of the site's; "" is the site's
	// Cleartext asks the cleartext side of a site that has TLS.
	Cleartext bool
	// Announce, when it is not 0, announces a body of so many bytes and asks
	// whether to send it (Expect: 100-continue). None of it is sent. The answer
	// is the final one, or 100 when none comes within three quarters of Options.Timeout.
	Announce int64
}

// Raw sends a request over a connection of its own.
func (c *Client) Raw(ctx context.Context, q RawRequest) (*Response, error) {
	method := q.Method
	if method == "" {
		method = http.MethodGet
	}
	if err := c.permit(method, q.Cleartext); err != nil {
		return nil, err
	}
	host := q.Host
	if host == "" {
		host = c.authority(q.Cleartext)
	}
	// Our own requests must not become two: no line ends in any part, and no
	// body that somebody could read as the next request.
	for _, part := range append([]string{method, q.Target, host}, q.Header...) {
		name, _, _ := strings.Cut(part, ":")
		if strings.ContainsAny(part, "\r\n") || strings.EqualFold(name, "Content-Length") || strings.EqualFold(name, "Transfer-Encoding") {
			return nil, fmt.Errorf("%q cannot be part of a raw request", part)
		}
	}
	if q.Target == "" || strings.ContainsAny(method+q.Target, " \t") || strings.Contains(q.Target, "://") {
		return nil, fmt.Errorf("%q cannot be a raw request's target", q.Target)
	}
	if err := c.take(1); err != nil {
		return nil, err
	}
	if err := c.wait(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.o.Timeout, fmt.Errorf("no answer within %s", c.o.Timeout))
	defer cancel()

	shown := c.origin()
	port := c.port
	if q.Cleartext {
		shown, port = "http://"+c.authority(true), c.clear
	}
	shown += q.Target
	conn, err := c.dial(ctx, port)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, shown, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var state *tls.ConnectionState
	if c.scheme == "https" && !q.Cleartext {
		cfg := c.tlsConfig()
		cfg.NextProtos = []string{"http/1.1"}
		t := tls.Client(conn, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, shown, err)
		}
		st := t.ConnectionState()
		state, conn = &st, t
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", method, q.Target, host)
	h := c.header(nil)
	expect := ""
	if len(c.o.Key) > 0 {
		path, _, _ := strings.Cut(q.Target, "?")
		var sig string
		sig, expect = evidence.SignProbe(c.o.Key, time.Now(), host, path)
		h.Set(evidence.ProbeHeader, sig)
	}
	_ = h.Write(&b) // a Buffer does not fail
	for _, line := range q.Header {
		b.WriteString(line + "\r\n")
	}
	if q.Announce > 0 {
		fmt.Fprintf(&b, "Content-Length: %d\r\nExpect: 100-continue\r\n", q.Announce)
	}
	b.WriteString("\r\n")
	if _, err := conn.Write(b.Bytes()); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, shown, err)
	}
	in := bufio.NewReader(io.LimitReader(conn, c.o.MaxBody+(256<<10)))
	res, err := http.ReadResponse(in, &http.Request{Method: method})
	if err == nil && q.Announce > 0 && res.StatusCode == http.StatusContinue {
		goOn := res
		_ = conn.SetReadDeadline(time.Now().Add(c.o.Timeout * 3 / 4)) // a connection that cannot wait ends with ctx
		if res, err = http.ReadResponse(in, &http.Request{Method: method}); errors.Is(err, os.ErrDeadlineExceeded) {
			res, err = goOn, nil
			res.Body = http.NoBody
		}
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("%s %s: %w", method, shown, err)
	}
	defer res.Body.Close()
	res.TLS = state
	// A server may refuse such a request before any guard layer sees it.
	return c.read(res, shown, expect, false)
}

// Handshake makes one TLS connection with versions from lowest to highest
// (0: any) and, up to TLS 1.2, the given cipher suites (none: all that Go
// offers, and every one it has below TLS 1.2), and closes it. The certificate
// is not verified: [Client.Verify] does that.
//
// An error other than a [DialError] is the server's refusal, or a connection
// that broke.
func (c *Client) Handshake(ctx context.Context, lowest, highest uint16, suites ...uint16) (*tls.ConnectionState, error) {
	if c.scheme != "https" {
		return nil, errors.New("the site was named without TLS")
	}
	if err := c.take(1); err != nil {
		return nil, err
	}
	if err := c.wait(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.o.Timeout, fmt.Errorf("no answer within %s", c.o.Timeout))
	defer cancel()
	conn, err := c.dial(ctx, c.port)
	if err != nil {
		return nil, &DialError{err}
	}
	defer conn.Close()
	cfg := c.tlsConfig()
	cfg.InsecureSkipVerify = true
	cfg.NextProtos = []string{"h2", "http/1.1"}
	if lowest != 0 {
		cfg.MinVersion = lowest
	}
	cfg.MaxVersion = highest
	cfg.CipherSuites = suites
	if len(suites) == 0 && highest != 0 && highest < tls.VersionTLS12 {
		// Old servers speak old suites; all of them are offered.
		for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			if slices.ContainsFunc(s.SupportedVersions, func(v uint16) bool { return v <= highest }) {
				cfg.CipherSuites = append(cfg.CipherSuites, s.ID)
			}
		}
	}
	t := tls.Client(conn, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, &DialError{cause} // silence is no refusal
		}
		return nil, err
	}
	st := t.ConnectionState()
	return &st, nil
}

// Hop is one answer of the cleartext side.
type Hop struct {
	URL    string
	Status int
	To     string // where it redirects, absolute; "" for no redirect
}

// Route asks the cleartext side for its front page and follows its redirects for
// as long as they stay there, three at most. closed is true when nothing
// listens. For a site that was named with http, that is its own port. The
// result is shared by the checks of a run.
func (c *Client) Route(ctx context.Context) (hops []Hop, closed bool, err error) {
	c.mu.Lock()
	hops, closed = c.hops, c.closed
	c.mu.Unlock()
	if hops != nil || closed {
		return hops, closed, nil
	}
	side := c.HTTPS()
	if side && c.clear == 0 {
		return nil, false, ErrNoCleartext
	}
	path := "/"
	for range 3 {
		r, err := c.Do(ctx, Request{Path: path, Cleartext: side})
		if errors.Is(err, syscall.ECONNREFUSED) {
			closed = true
			break
		}
		if err != nil {
			return nil, false, err
		}
		h := Hop{URL: r.URL, Status: r.Status}
		u := r.Location()
		if u != nil {
			h.To = u.String()
		}
		hops = append(hops, h)
		if u == nil || !strings.EqualFold(u.Scheme, "http") {
			break
		}
		port := c.clear
		if !side {
			port = c.port
		}
		own := site{scheme: "http", host: c.host, port: port}
		next, ok := own.Own(u)
		if !ok || next == path {
			break
		}
		path = next
	}
	c.mu.Lock()
	c.hops, c.closed = hops, closed
	c.mu.Unlock()
	return hops, closed, nil
}

// DialError is a connection that could not be opened or on which nothing came
// back, which tells nothing about TLS.
type DialError struct{ Err error }

func (e *DialError) Error() string { return e.Err.Error() }

// Unwrap returns the network's error.
func (e *DialError) Unwrap() error { return e.Err }

// Verify checks a certificate chain as a browser with Options.RootCAs would
// at the time now: chain, host name, dates.
func (s *site) Verify(chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("no certificate")
	}
	pool := x509.NewCertPool()
	for _, c := range chain[1:] {
		pool.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: s.host, Roots: s.o.RootCAs, Intermediates: pool, CurrentTime: now})
	return err
}
