package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
)

// forwarding serves a Forwarder to handler and returns the front's address.
func forwardTo(t *testing.T, upstream string, o ForwarderOptions, modify func(*http.Response) error) (front string, errs chan error) {
	t.Helper()
	f, err := NewForwarder(upstream, o)
	if err != nil {
		t.Fatal(err)
	}
	errs = make(chan error, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := f.Forward(w, &guard.Exchange{Request: r}, modify)
		select {
		case errs <- err:
		default:
		}
		if up, ok := err.(*guard.UpstreamError); ok {
			w.WriteHeader(up.Status)
		} else if err != nil {
			w.WriteHeader(400)
		}
	}))
	t.Cleanup(func() { srv.Close(); f.Close() })
	return srv.URL, errs
}

func upstream(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func raw(t *testing.T, url, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, request)
	b, _ := io.ReadAll(c)
	return string(b)
}

func TestForwardRequest(t *testing.T) {
	type seen struct {
		uri, host string
		header    http.Header
		body      string
	}
	got := make(chan seen, 1)
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- seen{r.RequestURI, r.Host, r.Header.Clone(), string(b)}
		w.Header().Set("Content-Encoding", "gzip")
		w.Write([]byte("not really gzip"))
	})
	front, _ := forwardTo(t, up, ForwarderOptions{}, nil)
	answer := raw(t, front, "POST /a%2fb/../c;d=%41?x=1;y=2&%zz=%C3%A9&&+ HTTP/1.1\r\nHost: shop.example:8443\r\nConnection: close, X-Secret-Hop\r\nX-Secret-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: x\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\nabc\r\n0\r\nX-T: smuggled\r\n\r\n")
	s := <-got
	if s.uri != "/a%2fb/../c;d=%41?x=1;y=2&%zz=%C3%A9&&+" {
		t.Errorf("URI %q", s.uri)
	}
	if s.host != "shop.example:8443" || s.body != "abc" {
		t.Errorf("host %q body %q", s.host, s.body)
	}
	for _, h := range []string{"X-Secret-Hop", "Keep-Alive", "Proxy-Authorization", "User-Agent", "Accept-Encoding", "X-T"} {
		if v, ok := s.header[h]; ok {
			t.Errorf("%s: %q reached the app", h, v)
		}
	}
	for h, v := range map[string]string{"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.example"} {
		if got := s.header[h]; len(got) != 1 || got[0] != v {
			t.Errorf("%s: %q, want %q", h, got, v)
		}
	}
	if !strings.Contains(answer, "Content-Encoding: gzip") || !strings.HasSuffix(answer, "not really gzip") {
		t.Errorf("answer %q", answer)
	}
}

func TestForwardAddsNothing(t *testing.T) {
	got := make(chan http.Header, 1)
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Clone()
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "not for the client")
		w.Header().Set("X-Kept", "for the client")
	})
	front, _ := forwardTo(t, up, ForwarderOptions{}, nil)
	answer := raw(t, front, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if strings.Contains(answer, "X-Hop") || !strings.Contains(answer, "X-Kept") {
		t.Errorf("answer %q", answer)
	}
	if h := <-got; len(h) != 0 {
		t.Errorf("the app got %v", h)
	}
}

func TestForwardErrors(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	slow := upstream(t, func(w http.ResponseWriter, r *http.Request) { time.Sleep(2 * time.Second) })
	cut := upstream(t, func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	fine := upstream(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	nonsense, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer nonsense.Close()
	go func() {
		for {
			c, err := nonsense.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "SSH-2.0-nothing\r\n")
			c.Close()
		}
	}()
	for _, c := range []struct {
		name, upstream, request string
		modify                  func(*http.Response) error
		status                  int
		reason                  string
		retry                   bool
	}{
		{name: "refused", upstream: "http://" + dead.Addr().String(), status: 503, reason: "upstream-down", retry: true},
		{name: "no socket", upstream: "unix:/nowhere/app.sock", status: 503, reason: "upstream-down", retry: true},
		{name: "slow", upstream: slow, status: 504, reason: "upstream-timeout"},
		{name: "cut", upstream: cut, status: 502, reason: "upstream-broken", retry: true},
		{name: "cut post", upstream: cut, request: "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", status: 502, reason: "upstream-broken", retry: true},
		{name: "nonsense", upstream: "unix:" + nonsense.Addr().String(), status: 502, reason: "upstream-broken", retry: true},
		{name: "modify refuses", upstream: fine, modify: func(*http.Response) error { return errors.New("refused") }, status: 400},
		{name: "bad chunk", upstream: fine, request: "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", status: 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			timeout := time.Minute
			if c.reason == "upstream-timeout" {
				timeout = 500 * time.Millisecond
			}
			front, errs := forwardTo(t, c.upstream, ForwarderOptions{Timeout: timeout}, c.modify)
			if c.request == "" {
				c.request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
			}
			answer := raw(t, front, c.request)
			if !strings.HasPrefix(answer, fmt.Sprintf("HTTP/1.1 %d ", c.status)) {
				t.Errorf("answer %q, want status %d", answer, c.status)
			}
			err := <-errs
			var up *guard.UpstreamError
			if is := errors.As(err, &up); is != (c.reason != "") || is && (up.Reason != c.reason || (up.RetryAfter > 0) != c.retry) {
				t.Errorf("%#v", err)
			}
		})
	}
}

func TestClientGone(t *testing.T) {
	began, left := make(chan bool, 1), make(chan bool, 1)
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		began <- true
		<-r.Context().Done() // the upstream is told
		left <- true
	})
	front, errs := forwardTo(t, up, ForwarderOptions{}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	q, _ := http.NewRequestWithContext(ctx, "GET", front, nil)
	go func() { <-began; cancel() }()
	if _, err := client.Do(q); err == nil {
		t.Fatal("answered")
	}
	select {
	case err := <-errs:
		if !errors.Is(err, guard.ErrClientGone) {
			t.Errorf("%v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("still forwarding")
	}
	select {
	case <-left:
	case <-time.After(time.Minute):
		t.Error("the upstream was not told")
	}
}

func TestBodyLimitWhileStreaming(t *testing.T) {
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	f, err := NewForwarder(up, ForwarderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 10)
		err := f.Forward(w, &guard.Exchange{Request: r}, nil)
		var tooLarge *http.MaxBytesError
		if !errors.As(err, &tooLarge) {
			t.Errorf("%#v", err)
		}
		w.WriteHeader(413)
	}))
	defer srv.Close()
	if s, _ := do(t, "POST", srv.URL, strings.Repeat("x", 1000)); s != 413 {
		t.Errorf("status %d", s)
	}
}

// TestPostNeverMeetsAClosingConnection: an app that closes each connection
// after one answer (a worker that is replaced does) fails no request.
func TestPostNeverMeetsAClosingConnection(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
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
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				io.Copy(io.Discard, r.Body)
				// Promises keep-alive, and closes.
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}()
		}
	}()
	front, _ := forwardTo(t, "http://"+ln.Addr().String(), ForwarderOptions{}, nil)
	for i := range 300 {
		method := "POST"
		if i%2 == 0 {
			method = "GET"
		}
		if s, _ := do(t, method, front, ""); s != 200 {
			t.Fatalf("%s %d: status %d", method, i, s)
		}
	}
}

func TestUpgrade(t *testing.T) {
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			t.Errorf("header %v", r.Header)
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		line, _ := rw.ReadString('\n')
		io.WriteString(c, "echo "+line)
	})
	modified := false
	front, errs := forwardTo(t, up, ForwarderOptions{}, func(r *http.Response) error { modified = r.StatusCode == 101; return nil })
	c, err := net.Dial("tcp", strings.TrimPrefix(front, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%v %v", res, err)
	}
	io.WriteString(c, "hello\n")
	if line, err := br.ReadString('\n'); line != "echo hello\n" {
		t.Errorf("%q %v", line, err)
	}
	c.Close()
	if err := <-errs; err != nil || !modified {
		t.Errorf("%v, modified %v", err, modified)
	}
}

func TestNewForwarder(t *testing.T) {
	for _, bad := range []string{"", "https://x", "http://", "http://x/path", "http://u:p@x", "unix:", "unix://host/x", "ftp://x", "127.0.0.1:80", "http://x?q=1", "http://[::1"} {
		if _, err := NewForwarder(bad, ForwarderOptions{}); err == nil || !strings.Contains(err.Error(), "app.upstream") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, good := range []string{"http://127.0.0.1:8000", "http://app", "http://[::1]:80/", "unix:/run/app.sock", "unix:///run/app.sock"} {
		if _, err := NewForwarder(good, ForwarderOptions{}); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	if s := RetrySeconds(1100 * time.Millisecond); s != "2" {
		t.Errorf("%s", s)
	}
}

// TestAnswerBeforeTheBodyWasRead: a view that refuses an upload answers and
// closes while the body is still on its way. The visitor gets the app's
// answer, whichever side is faster.
func TestAnswerBeforeTheBodyWasRead(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "app.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close() // with the body unread
				if _, err := http.ReadRequest(bufio.NewReaderSize(c, 16)); err != nil {
					return
				}
				io.WriteString(c, "HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
			}()
		}
	}()
	front, errs := forwardTo(t, "unix:"+socket, ForwarderOptions{}, nil)
	for _, size := range []int{1, 3000, 100_000, 8 << 20} {
		for range 20 {
			res, err := http.Post(front, "application/octet-stream", strings.NewReader(strings.Repeat("x", size)))
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if err := <-errs; err != nil || res.StatusCode != http.StatusConflict || string(b) != "no" {
				t.Fatalf("%d bytes: %d %q, %v", size, res.StatusCode, b, err)
			}
		}
	}
}
