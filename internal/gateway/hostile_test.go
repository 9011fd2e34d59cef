package gateway

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/control/uploads"
	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
)

// recorder is an app's server that keeps every byte it gets, and answers 200
// to each connection that sends anything.
type recorder struct {
	ln net.Listener

	mu    sync.Mutex
	conns int
	bytes bytes.Buffer
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{ln: ln}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.conns++
			r.mu.Unlock()
			go func() {
				defer c.Close()
				p := make([]byte, 64<<10)
				for {
					n, err := c.Read(p)
					r.mu.Lock()
					r.bytes.Write(p[:n])
					r.mu.Unlock()
					if err != nil {
						return
					}
					if bytes.Contains(p[:n], []byte("\r\n\r\n")) {
						io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
						c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
					}
				}
			}()
		}
	}()
	return r
}

// take returns what has arrived since the last call.
func (r *recorder) take() (conns int, got string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	conns, got = r.conns, r.bytes.String()
	r.conns = 0
	r.bytes.Reset()
	return conns, got
}

// events collects what a chain publishes.
type events struct {
	mu  sync.Mutex
	all []event.Event
}

func (e *events) publish(v event.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, v)
}

func (e *events) take() []event.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := e.all
	e.all = nil
	return out
}

// layered is the chain that every request meets, without the layers that
// judge content; request is the mode of the request layer.
func layered(t *testing.T, cfg deployment.Config, request guard.Mode, e *events, watch ...func(guard.Forwarder) guard.Forwarder) func(*Gateway) (http.Handler, error) {
	return func(g *Gateway) (http.Handler, error) {
		env := guard.Env{Now: time.Now, CertificateNames: func() []string { return nil }, Facts: func() guard.Facts { return guard.Facts{} }}
		var bounds []guard.Bound
		add := func(specs []*guard.Spec, name string, mode guard.Mode, l guard.Layer, err error) {
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range specs {
				if s.Name == name {
					bounds = append(bounds, guard.Bound{Spec: s, Layer: l, Mode: mode})
				}
			}
		}
		rl, err := deployment.NewRequest(cfg, env)
		add(deployment.Control.Layers, "request", request, rl, err)
		cl, err := deployment.NewClient(cfg, env)
		add(deployment.Control.Layers, "client", guard.Enforce, cl, err)
		bl, err := uploads.NewBody(uploads.Config{}, env)
		add(uploads.Control.Layers, "body", guard.Enforce, bl, err)
		if len(bounds) != 3 {
			t.Fatalf("%d layers", len(bounds))
		}
		forward := g.Forwarder()
		for _, w := range watch {
			forward = w(forward)
		}
		return guard.NewChain(guard.Options{Layers: bounds, Forward: forward, Publish: e.publish})
	}
}

// exchange sends raw and returns all that comes back.
func exchange(t *testing.T, url, raw string) string {
	t.Helper()
	scheme, addr, _ := strings.Cut(url, "://")
	var c net.Conn
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	if scheme == "https" {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	}
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(c)
	return string(b)
}

// TestNothingOfARefusedRequest: whatever is wrong with a request, in whatever
// mode the request layer is, in clear text and in TLS: the client gets an
// answer, the log a documented reason, and the app's server not one byte.
func TestNothingOfARefusedRequest(t *testing.T) {
	const post = "POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\n"
	vectors := []struct{ name, raw, status, reason string }{
		{"bare LF", "GET /x HTTP/1.1\r\nHost: 127.0.0.1\nX: y\r\n\r\n", "400", "request-field"},
		{"length and chunked", post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "400", "request-framing"},
		{"unknown coding", post + "Transfer-Encoding: gzip\r\n\r\n", "501", "request-framing"},
		{"half a chunked body", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", "400", "body-chunks"},
		{"a chunk that is too long", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n", "400", "body-chunks"},
		{"chunked in HTTP/1.0", "POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n1c\r\nGET /smuggled HTTP/1.1\r\n\r\n\r\n0\r\n\r\n", "400", "request-framing"},
		{"preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505", "request-line"},
		{"tunnel", "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n", "405", "request-target"},
		{"folded", "GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\nX: y\r\n\tz\r\n\r\n", "400", "request-field"},
		{"expectation", post + "Expect: 200-ok\r\nContent-Length: 1\r\n\r\nx", "417", "request-expect"},
		{"many fields", "GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\n" + strings.Repeat("X: y\r\n", 200) + "\r\n", "431", "request-limit"},
		{"long target", "GET /" + strings.Repeat("x", 9000) + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "414", "request-limit"},
	}
	documented := map[string]bool{}
	for _, specs := range [][]*guard.Spec{deployment.Control.Layers, uploads.Control.Layers} {
		for _, s := range specs {
			for _, r := range s.Reasons {
				documented[s.Name+" "+r.Name] = r.Why != "" && r.Fix != ""
			}
		}
	}
	for _, mode := range []guard.Mode{guard.Enforce, guard.Observe, guard.Off} {
		for _, inTLS := range []bool{false, true} {
			rec, ev := newRecorder(t), &events{}
			cfg := testConfig()
			if inTLS {
				cfg.TLS, cfg.Listen = "local", []string{"127.0.0.1:0"}
			}
			cfg.AllowedHosts = []string{"127.0.0.1"}
			r := start(t, Options{Dir: t.TempDir(), Profile: guard.Development, Config: cfg, Upstream: "http://" + rec.ln.Addr().String(), Environ: cleanEnviron(t), Handler: layered(t, cfg, mode, ev)})
			name := r.url[:5] + " " + mode.String() + ": "
			rec.take()
			for _, v := range vectors {
				ev.take()
				answer := exchange(t, r.url, v.raw)
				if !strings.HasPrefix(answer, "HTTP/1.1 "+v.status+" ") || !strings.Contains(answer, "Connection: close") || !strings.Contains(answer, "X-Request-Id: ") {
					t.Errorf("%s%s: answer %.100q, want %s", name, v.name, answer, v.status)
				}
				if strings.Count(answer, "HTTP/1.1 ") != 1 {
					t.Errorf("%s%s: answers %q", name, v.name, answer)
				}
				if conns, got := rec.take(); conns > 0 || got != "" {
					t.Errorf("%s%s: %d connections and %q reached the app", name, v.name, conns, got)
				}
				all := ev.take()
				if len(all) != 1 || all[0].Reason != v.reason || all[0].Verdict != "deny" || all[0].Detail == "" || !documented[all[0].Layer+" "+all[0].Reason] {
					t.Errorf("%s%s: events %+v", name, v.name, all)
				} else if v.reason == "request-framing" && (all[0].Path != "/x" || all[0].Method != "POST") {
					t.Errorf("%s%s: the log says %s %s", name, v.name, all[0].Method, all[0].Path)
				}
			}
			if answer := exchange(t, r.url, "GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"); !strings.HasSuffix(answer, "ok") {
				t.Errorf("%san honest request: %q", name, answer)
			}
			if conns, got := rec.take(); conns != 1 || !strings.HasPrefix(got, "GET /x HTTP/1.1\r\n") {
				t.Errorf("%sthe recorder is deaf: %d %q", name, conns, got)
			}
		}
	}
}

// TestWebSocketThroughAll: a handshake passes the strict reader, the layers
// and the forwarder, and bytes pass both ways; what a client sends behind the
// handshake before it is accepted is not lost and is no request, and after a
// refused handshake it is one.
func TestWebSocketThroughAll(t *testing.T) {
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ws" || r.Header.Get("Upgrade") != "websocket" {
			io.WriteString(w, "no socket at "+r.URL.Path)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
		for range 2 {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			io.WriteString(c, "echo "+line)
		}
	})
	for _, inTLS := range []bool{false, true} {
		cfg := testConfig()
		if inTLS {
			cfg.TLS, cfg.Listen = "local", []string{"127.0.0.1:0"}
		}
		r := start(t, Options{Dir: t.TempDir(), Profile: guard.Development, Config: cfg, Upstream: up, Environ: cleanEnviron(t), Handler: layered(t, cfg, guard.Enforce, &events{})})
		handshake := func(path string) string {
			return "GET " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
		}
		answer := exchange(t, r.url, handshake("/ws")+"GET /smuggled HTTP/1.1\nfirst\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 101 ") || !strings.HasSuffix(answer, "\r\n\r\necho GET /smuggled HTTP/1.1\necho first\n") {
			t.Errorf("TLS %v: %q", inTLS, answer)
		}
		answer = exchange(t, r.url, handshake("/none")+"GET /next HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
		if strings.Count(answer, "HTTP/1.1 200 OK\r\n") != 2 || !strings.Contains(answer, "no socket at /none") || !strings.HasSuffix(answer, "no socket at /next") {
			t.Errorf("TLS %v: %q", inTLS, answer)
		}
	}
}
