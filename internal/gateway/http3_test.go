package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/dewar-security/dewar/internal/wire"
)

// TestHTTP3 asks over QUIC: the same site, the same limits.
func TestHTTP3(t *testing.T) {
	slow, release := make(chan struct{}), make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(slow)
			<-release
		}
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %s %d %v %s", r.Method, r.URL, n, err, r.Header.Get("Transfer-Encoding"))
	}))
	defer up.Close()
	var protos []string
	r, base := tlsSite(t, func(o *Options) {
		o.Config.HTTP3 = true
		o.Upstream = up.URL
		o.Handler = func(g *Gateway) (http.Handler, error) {
			h, err := bare(g)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				protos = append(protos, fmt.Sprint(r.Proto, " ", r.TLS != nil, " ", r.Host))
				h.ServeHTTP(w, r)
			}), err
		}
	})
	_, port, _ := net.SplitHostPort(r.address())
	if !r.steps.has(StepReady, "HTTP/1.1, 2 and 3") {
		t.Errorf("not said:\n%s", r.steps)
	}
	// Over TCP the site says that it speaks HTTP/3.
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: base.Clone(), DisableKeepAlives: true}}
	res, err := client.Get(r.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := res.Header.Get("Alt-Svc"); got != `h3=":`+port+`"; ma=86400` {
		t.Errorf("Alt-Svc %q", got)
	}
	// And does.
	tr := &http3.Transport{TLSClientConfig: base.Clone(), QUICConfig: &quic.Config{}}
	defer tr.Close()
	q := &http.Client{Timeout: time.Minute, Transport: tr}
	body := strings.Repeat("x", 300<<10)
	for _, c := range []struct{ method, body, want string }{
		{"GET", "", "GET /a%2Fb?x=1 0 <nil> "}, {"POST", body, fmt.Sprintf("POST /a%%2Fb?x=1 %d <nil> ", len(body))},
	} {
		req, _ := http.NewRequest(c.method, "https://shop.example:"+port+"/a%2Fb?x=1", strings.NewReader(c.body))
		req.URL.Host = "127.0.0.1:" + port
		req.Host = "shop.example"
		res, err := q.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", c.method, err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.ProtoMajor != 3 || res.StatusCode != 200 || string(b) != c.want || res.Header.Get("Alt-Svc") != "" {
			t.Errorf("%s: %s %d %q", c.method, res.Proto, res.StatusCode, b)
		}
	}
	if got := protos[len(protos)-1]; got != "HTTP/3.0 true shop.example" {
		t.Errorf("the handler saw %q", got)
	}
	// Too much of a head.
	req, _ := http.NewRequest("GET", "https://127.0.0.1:"+port+"/", nil)
	req.Header.Set("X-Large", strings.Repeat("y", 64<<10))
	if res, err := q.Do(req); err == nil && res.StatusCode < 400 {
		t.Errorf("a head of 64 KiB: %s", res.Status)
	}
	// No early data, even from a client that would send it.
	cache := base.Clone()
	cache.ClientSessionCache = tls.NewLRUClientSessionCache(2)
	cache.NextProtos = []string{"h3"}
	for i := range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		conn, err := quic.DialAddrEarly(ctx, "127.0.0.1:"+port, cache, &quic.Config{})
		if err != nil {
			t.Fatal(err)
		}
		<-conn.HandshakeComplete()
		if s := conn.ConnectionState(); s.Used0RTT {
			t.Errorf("connection %d: early data was taken", i)
		}
		time.Sleep(100 * time.Millisecond) // for the ticket
		conn.CloseWithError(0, "")
		cancel()
	}
	// A request that runs is finished at the end, over QUIC, too; a
	// connection that only is there holds nothing up.
	got := make(chan string, 1)
	go func() {
		res, err := q.Get("https://127.0.0.1:" + port + "/slow")
		if err != nil {
			got <- err.Error()
			return
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		got <- fmt.Sprint(string(b), err)
	}()
	<-slow
	begin := time.Now()
	time.AfterFunc(300*time.Millisecond, func() { close(release) })
	if err := r.end(); err != nil {
		t.Error(err)
	}
	if s := <-got; s != "GET /slow 0 <nil> <nil>" {
		t.Errorf("a running request: %q", s)
	}
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("the end took %s", d)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:"+port)
	if err != nil {
		t.Errorf("the UDP port is not given back: %v", err)
	} else {
		pc.Close()
	}
}

// TestProxyProtocol: who the client is a load balancer says, if it may.
func TestProxyProtocol(t *testing.T) {
	v2 := func(command byte, src, dst string) string {
		var b bytes.Buffer
		b.WriteString("\r\n\r\n\x00\r\nQUIT\n")
		b.WriteByte(0x20 | command)
		b.WriteByte(0x11) // TCP over IPv4
		_ = binary.Write(&b, binary.BigEndian, uint16(12))
		b.Write(net.ParseIP(src).To4())
		b.Write(net.ParseIP(dst).To4())
		_ = binary.Write(&b, binary.BigEndian, []uint16{4711, 443})
		return b.String()
	}
	site := func(trusted ...string) *running {
		up := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(up.Close)
		c := testConfig()
		c.ProxyProtocol, c.HeaderTimeout = trusted, seconds(3)
		return start(t, Options{Dir: t.TempDir(), Config: c, Upstream: up.URL, Environ: cleanEnviron(t), Handler: func(*Gateway) (http.Handler, error) {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if f := wire.FaultOf(r.Context()); f != nil { // what the chain refuses
					w.WriteHeader(f.Status)
				}
				io.WriteString(w, r.RemoteAddr)
			}), nil
		}})
	}
	ask := func(r *running, header string) string {
		t.Helper()
		c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		// The request may come with the header or after it; the header comes
		// whole (specification of the protocol, section 2).
		for _, part := range []string{header + "GET / HTT", "P/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"} {
			if _, err := io.WriteString(c, part); err != nil {
				return "refused"
			}
			time.Sleep(5 * time.Millisecond)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return "refused"
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		if res.StatusCode != 200 {
			return strconv.Itoa(res.StatusCode)
		}
		return string(b)
	}
	believed, others := site("127.0.0.0/8"), site("192.0.2.0/24")
	for _, c := range []struct{ name, header, want string }{
		{"v1", "PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n", "203.0.113.7:4711"},
		{"v1 IPv6", "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n", "[2001:db8::7]:4711"},
		{"v2", v2(1, "203.0.113.8", "198.51.100.1"), "203.0.113.8:4711"},
		{"v2 LOCAL", v2(0, "203.0.113.8", "198.51.100.1"), "127.0.0.1:"},
		{"v1 UNKNOWN", "PROXY UNKNOWN\r\n", "127.0.0.1:"},
		{"none", "", "refused"},
		{"wrong address", "PROXY TCP4 999.0.113.7 198.51.100.1 4711 443\r\n", "refused"},
		{"no end", "PROXY TCP4 203.0.113.7 198.51.100.1 4711 443" + strings.Repeat(" ", 200) + "\r\n", "refused"},
		{"twice", "PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\nPROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n", "400"},
	} {
		if got := ask(believed, c.header); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	// Who is not named cannot say who it is.
	if got := ask(others, "PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n"); got != "400" {
		t.Errorf("a header from somebody else: %q", got)
	}
	if got := ask(others, ""); !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("without a header: %q", got)
	}
	// A header that never comes holds nothing up.
	silent, err := net.Dial("tcp", strings.TrimPrefix(believed.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if got := ask(believed, "PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n"); got != "203.0.113.7:4711" {
		t.Errorf("beside a silent one: %q", got)
	}
	_ = silent.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := silent.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the silent one is still there: %v", err)
	}
}

// retained counts who still listens for its end.
type retained struct {
	context.Context
	done chan struct{}
	held atomic.Int64
}

func (c *retained) Done() <-chan struct{} { return c.done }
func (c *retained) Value(any) any         { return nil }
func (c *retained) AfterFunc(func()) func() bool {
	c.held.Add(1)
	return func() bool { c.held.Add(-1); return true }
}

// TestWithBase: the context of the whole guard lives as long as it does, and
// must not keep a piece of every request that ended.
func TestWithBase(t *testing.T) {
	base := &retained{Context: context.Background(), done: make(chan struct{})}
	for range 100 {
		ctx, end := context.WithCancel(t.Context())
		withBase(ctx, base)
		end()
	}
	for i := 0; base.held.Load() > 0; i++ {
		if i == 6000 {
			t.Fatalf("%d of 100 ended requests are kept", base.held.Load())
		}
		time.Sleep(10 * time.Millisecond)
	}
	// And the guard's end is the request's.
	g, end := context.WithCancel(t.Context())
	ctx := withBase(t.Context(), g)
	end()
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
		t.Error("a request outlived the guard")
	}
}

// TestHTTP3Reload: time-outs that a reload changes are changed over QUIC, too,
// and a unix socket, which has no UDP beside it, does not claim HTTP/3.
func TestHTTP3Reload(t *testing.T) {
	failed := make(chan error, 1)
	socket := t.TempDir() + "/s"
	r, base := tlsSite(t, func(o *Options) {
		o.Config.HTTP3, o.Config.BodyTimeout = true, seconds(60)
		o.Config.Listen = append(o.Config.Listen, "unix:"+socket)
		o.Handler = func(*Gateway) (http.Handler, error) {
			return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, err := io.ReadAll(r.Body)
				failed <- err
			}), nil
		}
	})
	if got := r.g.describe("unix:" + socket); !strings.Contains(got, "HTTP/1.1 and 2,") {
		t.Error(got)
	}
	cfg := *r.g.config()
	cfg.BodyTimeout, cfg.IdleTimeout = seconds(1), seconds(7)
	if err := r.g.Change(t.Context(), Change{Config: cfg}); err != nil {
		t.Fatal(err)
	}
	if d := r.g.quic.quicConfig().MaxIdleTimeout; d != 7*time.Second {
		t.Errorf("a new connection may be idle for %s", d)
	}
	tr := &http3.Transport{TLSClientConfig: base.Clone()}
	defer tr.Close()
	body, slow := io.Pipe()
	defer slow.Close()
	go func() {
		res, err := (&http.Client{Transport: tr}).Post("https://"+r.address()+"/", "text/plain", body)
		if err == nil {
			res.Body.Close()
		}
	}()
	_, _ = io.WriteString(slow, "the beginning")
	select {
	case err := <-failed:
		if err == nil {
			t.Error("half a body was taken for a whole one")
		}
	case <-time.After(time.Minute):
		t.Error("the old body-timeout holds")
	}
}

// TestHTTP3HeaderLimitReload: the largest head that a reload sets is that of
// connections opened later.
func TestHTTP3HeaderLimitReload(t *testing.T) {
	r, base := tlsSite(t, func(o *Options) {
		o.Config.HTTP3, o.Config.MaxHeader = true, 64<<10
		o.Handler = func(*Gateway) (http.Handler, error) {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }), nil
		}
	})
	get := func(tr *http3.Transport, size int) int {
		t.Helper()
		q, _ := http.NewRequest(http.MethodGet, "https://"+r.address()+"/", nil)
		q.Header.Set("X-Long", strings.Repeat("x", size))
		res, err := (&http.Client{Transport: tr}).Do(q)
		if err != nil {
			return 0
		}
		res.Body.Close()
		return res.StatusCode
	}
	old := &http3.Transport{TLSClientConfig: base.Clone()}
	defer old.Close()
	if got := get(old, 16<<10); got != 204 {
		t.Fatalf("16 KiB of 64: %d", got)
	}
	cfg := *r.g.config()
	cfg.MaxHeader = 8 << 10
	if err := r.g.Change(t.Context(), Change{Config: cfg}); err != nil {
		t.Fatal(err)
	}
	fresh := &http3.Transport{TLSClientConfig: base.Clone()}
	defer fresh.Close()
	if got := get(fresh, 1<<10); got != 204 {
		t.Errorf("1 KiB of 8: %d", got)
	}
	if got := get(fresh, 16<<10); got == 204 {
		t.Error("16 KiB pass where 8 are the limit")
	}
	if got := get(old, 16<<10); got != 204 {
		t.Errorf("a connection lives on under the limit it began with: %d", got)
	}
}
