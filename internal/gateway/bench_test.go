package gateway

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/control/uploads"
	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/wire"
)

const benchRequest = "GET /products?page=2&sort=price&q=red+shoes HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nCookie: session=eyJjYXJ0IjpbXX0.aRandomValue.signature; theme=dark; seen=1\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\n\r\n"

var benchAnswer = "HTTP/1.1 200 OK\r\nServer: gunicorn\r\nDate: Sat, 28 Nov 2026 18:00:00 GMT\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 1024\r\nVary: Cookie\r\nX-End: 1\r\n\r\n" + string(bytes.Repeat([]byte("x"), 1024))

// BenchmarkGet compares what a GET costs: the CPU of client, proxy and app
// together, of which client and app are a few microseconds and the same in
// all. "through" is the bare net/http proxy that the others are measured by.
func BenchmarkGet(b *testing.B) {
	socket := filepath.Join(b.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				p := make([]byte, 16<<10)
				for {
					n := 0
					for !bytes.HasSuffix(p[:n], []byte("\r\n\r\n")) {
						m, err := c.Read(p[n:])
						if err != nil {
							return
						}
						n += m
					}
					io.WriteString(c, benchAnswer)
				}
			}()
		}
	}()
	f, err := NewForwarder("unix:"+socket, ForwarderOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	target := &url.URL{Scheme: "http", Host: "app"}
	reverse := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target); p.Out.Host = p.In.Host },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}, MaxIdleConnsPerHost: 64, DisableCompression: true},
	}
	env := guard.Env{Now: time.Now, CertificateNames: func() []string { return nil }, Facts: func() guard.Facts { return guard.Facts{} }}
	var bounds []guard.Bound
	for _, specs := range [][]*guard.Spec{deployment.Control.Layers, uploads.Control.Layers} {
		for _, s := range specs {
			var l guard.Layer
			switch s.Name {
			case "request":
				l, err = deployment.NewRequest(deployment.Config{}, env)
			case "client":
				l, err = deployment.NewClient(deployment.Config{}, env)
			case "body":
				l, err = uploads.NewBody(uploads.Config{}, env)
			default:
				continue
			}
			if err != nil {
				b.Fatal(err)
			}
			bounds = append(bounds, guard.Bound{Spec: s, Layer: l})
		}
	}
	chain, err := guard.NewChain(guard.Options{Layers: bounds, Forward: f, Publish: func(event.Event) {}})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		strict  bool
		handler http.Handler
	}{
		{"through", false, reverse},
		{"forwarder", false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = f.Forward(w, &guard.Exchange{Request: r}, nil)
		})},
		{"wire+forwarder", true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = f.Forward(w, &guard.Exchange{Request: r}, nil)
		})},
		{"wire+layers+forwarder", true, timeBodies(insideTLS(chain), time.Minute)},
	} {
		b.Run(c.name, func(b *testing.B) {
			front, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			srv := &http.Server{Handler: c.handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second}
			if c.strict {
				srv.ConnState, srv.ConnContext = wire.Track, wire.Context
				front = wire.NewListener(boundedListener{front, time.Minute}, wire.Options{})
			}
			go srv.Serve(front)
			defer srv.Close()
			conn, err := net.Dial("tcp", front.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			p := make([]byte, 16<<10)
			b.ReportAllocs()
			before := cpu()
			for b.Loop() {
				io.WriteString(conn, benchRequest)
				n := 0
				for !bytes.HasSuffix(p[:n], []byte("xxxxxxxx")) || n < 1024+100 {
					m, err := conn.Read(p[n:])
					if err != nil {
						b.Fatal(err)
					}
					n += m
				}
			}
			b.ReportMetric(float64((cpu()-before).Nanoseconds())/1000/float64(b.N), "cpu-µs/op")
		})
	}
}

func cpu() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
