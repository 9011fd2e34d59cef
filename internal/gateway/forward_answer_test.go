package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/wire"
)

// hangUp ends an answer behind which a scripted server closes.
const hangUp = "\x00hang up"

// scripted is an app's server that answers the n-th connection's requests with
// what answer returns for them.
func scripted(t *testing.T, answer func(conn, request int) string) (url string, conns *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	conns = &atomic.Int64{}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			n := int(conns.Add(1))
			go func() {
				defer c.Close()
				br := bufio.NewReader(c)
				for i := 1; ; i++ {
					r, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					io.Copy(io.Discard, r.Body)
					text := answer(n, i)
					text, hangUp := strings.CutSuffix(text, hangUp)
					io.WriteString(c, text)
					if hangUp || text == "" || strings.Contains(text, "\x00close") {
						return
					}
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String(), conns
}

// TestMalformedAnswers: an answer that the client could read differently is
// not passed on.
func TestMalformedAnswers(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, c := range []struct {
		name, answer string
		fine         bool
	}{
		{"plain", ok + "Content-Length: 2\r\n\r\nok", true},
		{"chunked", ok + "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nT: v\r\n\r\n", true},
		{"until the end", ok + "\r\nok\x00close", true},
		{"equal lengths", ok + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", true},
		{"information first", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + ok + "Content-Length: 2\r\n\r\nok", true},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", true},
		{"no phrase", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", true},
		{"two lengths", ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", false},
		{"length and chunked", ok + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false},
		{"chunked twice", ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
		{"another coding", ok + "Transfer-Encoding: gzip\r\n\r\nok\x00close", false},
		{"chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
		{"length with a sign", ok + "Content-Length: +2\r\n\r\nok", false},
		{"list of lengths", ok + "Content-Length: 2, 2\r\n\r\nok", false},
		{"bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok", false},
		{"bare LF between fields", ok + "X: a\nSet-Cookie: evil=1\r\nContent-Length: 2\r\n\r\nok", false},
		{"bare CR in a value", ok + "X: a\rSet-Cookie: evil=1\r\nContent-Length: 2\r\n\r\nok", false},
		{"NUL in a value", ok + "X: a\x00b\r\nContent-Length: 2\r\n\r\nok", false},
		{"folded", ok + "X: a\r\n b\r\nContent-Length: 2\r\n\r\nok", false},
		{"space before the colon", ok + "Content-Length : 2\r\n\r\nok", false},
		{"no colon", ok + "X\r\nContent-Length: 2\r\n\r\nok", false},
		{"two-digit status", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", false},
		{"status 600", "HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nok", false},
		{"HTTP/2", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false},
		{"no head", "ok\r\n\r\n", false},
		{"switching, and nobody asked", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", false},
		{"endless head", ok + strings.Repeat("X: "+strings.Repeat("a", 1000)+"\r\n", 300) + "\r\n", false},
		{"many fields", ok + strings.Repeat("X: a\r\n", 1100) + "\r\n", false},
		{"a first chunk without a size", ok + "Transfer-Encoding: chunked\r\n\r\nok\r\n0\r\n\r\n", false},
		{"a first chunk of less than nothing", ok + "Transfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n", false},
		{"a first chunk behind a bare LF", ok + "Transfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n", false},
		{"chunked, and no chunk", ok + "Transfer-Encoding: chunked\r\n\r\n" + hangUp, false},
		{"a length, and no body", ok + "Content-Length: 10\r\n\r\n" + hangUp, false},
		{"endless information", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20), false},
	} {
		up, _ := scripted(t, func(int, int) string { return c.answer })
		front, errs := forwardTo(t, up, ForwarderOptions{Timeout: time.Minute}, nil)
		res, err := client.Get(front)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		ferr := <-errs
		if c.fine {
			if res.StatusCode != 200 || strings.TrimSuffix(string(b), "\x00close") != "ok" || ferr != nil {
				t.Errorf("%s: %d %q %v", c.name, res.StatusCode, b, ferr)
			}
			continue
		}
		var broken *guard.UpstreamError
		if res.StatusCode != 502 || !errors.As(ferr, &broken) || broken.Reason != "upstream-broken" || res.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d %q %v %v", c.name, res.StatusCode, b, res.Header, ferr)
		}
	}
}

// TestCutAnswers: half an answer never passes for a whole one.
func TestCutAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"short":         "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok\x00close",
		"no last chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n\x00close",
		"a bad chunk":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok!\r\n0\r\n\r\n",
		"a bad size":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n-1\r\n\r\n",
	} {
		up, _ := scripted(t, func(int, int) string { return answer })
		front, _ := forwardTo(t, up, ForwarderOptions{}, nil)
		res, err := client.Get(front)
		if err == nil {
			_, err = io.ReadAll(res.Body)
			res.Body.Close()
		}
		if err == nil {
			t.Errorf("%s: passes for whole", name)
		}
	}
}

// TestNoPoisonedAnswers: bytes that an app sends behind an answer are never
// the answer to another client.
func TestNoPoisonedAnswers(t *testing.T) {
	const poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	for _, c := range []struct{ name, method, answer string }{
		{"more than the length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + poison},
		{"a body for HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison" + poison},
		{"a body for 304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison" + poison},
		{"a body for 204", "GET", "HTTP/1.1 204 No Content\r\n\r\n" + poison},
		{"behind the last chunk", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + poison},
	} {
		up, conns := scripted(t, func(conn, request int) string {
			if conn == 1 && request == 1 {
				return c.answer
			}
			return "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nclean"
		})
		front, _ := forwardTo(t, up, ForwarderOptions{}, nil)
		do(t, c.method, front, "")
		time.Sleep(20 * time.Millisecond) // late bytes, too
		for range 3 {
			if _, got := get(t, front); got != "clean" {
				t.Errorf("%s: the next client got %q", c.name, got)
			}
		}
		if n := conns.Load(); n != 2 {
			t.Errorf("%s: %d connections", c.name, n)
		}
	}
}

// TestKeptConnections: a connection is used again, and one that the app has
// closed meanwhile costs nobody an error.
func TestKeptConnections(t *testing.T) {
	up, conns := scripted(t, func(_, request int) string {
		if request == 3 {
			return ""
		}
		return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	})
	front, _ := forwardTo(t, up, ForwarderOptions{}, nil)
	for i := range 20 {
		if s, b := get(t, front); s != 200 || b != "ok" {
			t.Fatalf("%d: %d %s", i, s, b)
		}
	}
	if n := conns.Load(); n != 10 {
		t.Errorf("%d connections for 20 requests", n)
	}
}

// TestEarlyHints: hints pass the layers and do not become fields of the
// answer.
func TestEarlyHints(t *testing.T) {
	up, _ := scripted(t, func(int, int) string {
		return "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Powered-By: hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	})
	front, _ := forwardTo(t, up, ForwarderOptions{}, func(r *http.Response) error {
		r.Header.Del("X-Powered-By")
		r.Header.Set("X-Layer", r.Status[:3])
		return nil
	})
	answer := raw(t, front, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	first, second, _ := strings.Cut(answer, "\r\n\r\n")
	if !strings.HasPrefix(first, "HTTP/1.1 103 ") || !strings.Contains(first, "Link: </a.css>; rel=preload") || !strings.Contains(first, "X-Layer: 103") || strings.Contains(first, "Powered") {
		t.Errorf("%q", first)
	}
	if !strings.HasPrefix(second, "HTTP/1.1 200 ") || strings.Contains(second, "Link") || !strings.Contains(second, "X-Layer: 200") || !strings.HasSuffix(second, "ok") {
		t.Errorf("%q", second)
	}
}

// TestAnswersAsTheyAre: ranges, conditions, HEAD and lengths pass unchanged.
func TestAnswersAsTheyAre(t *testing.T) {
	content := strings.Repeat("0123456789", 10000)
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader(content))
	})
	front, _ := forwardTo(t, up, ForwarderOptions{}, nil)
	for _, c := range []struct {
		method string
		header []string
		status int
		length int64
		body   string
	}{
		{"GET", nil, 200, 100000, content},
		{"HEAD", nil, 200, 100000, ""},
		{"GET", []string{"Range", "bytes=5-9"}, 206, 5, "56789"},
		{"GET", []string{"Range", "bytes=-3"}, 206, 3, "789"},
		{"GET", []string{"Range", "bytes=200000-"}, 416, -1, ""},
		{"GET", []string{"If-None-Match", `"v1"`}, 304, 0, ""},
		{"GET", []string{"If-Range", `"v0"`, "Range", "bytes=5-9"}, 200, 100000, content},
	} {
		q, _ := http.NewRequest(c.method, front, nil)
		for i := 0; i < len(c.header); i += 2 {
			q.Header.Set(c.header[i], c.header[i+1])
		}
		res, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.status || c.length >= 0 && res.ContentLength != c.length || c.status != 416 && string(b) != c.body {
			t.Errorf("%s %v: %d, %d bytes of %d, %v", c.method, c.header, res.StatusCode, len(b), res.ContentLength, err)
		}
	}
}

// TestEventsFlushAtOnce: each event arrives before the next one is made, and a
// download is not kept whole.
func TestEventsFlushAtOnce(t *testing.T) {
	next := make(chan bool)
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			http.NewResponseController(w).Flush()
			<-next
		}
	})
	front, _ := forwardTo(t, up, ForwarderOptions{}, nil)
	res, err := client.Get(front)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	br := bufio.NewReader(res.Body)
	for i := range 3 {
		line, err := br.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("%q %v", line, err)
		}
		br.ReadString('\n')
		next <- true
	}
}

// TestSilentWebSocket: a WebSocket that nobody uses is ended, one that is used
// in one direction is not.
func TestSilentWebSocket(t *testing.T) {
	up, _ := scripted(t, func(int, int) string {
		return "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
	})
	front, errs := forwardTo(t, up, ForwarderOptions{Silence: 3 * time.Second}, nil)
	c, err := net.Dial("tcp", strings.TrimPrefix(front, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" || res.Header.Get("Connection") != "Upgrade" {
		t.Fatalf("%v %v", res, err)
	}
	for range 9 { // for longer than the silence
		time.Sleep(400 * time.Millisecond)
		if _, err := io.WriteString(c, "x"); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-errs:
			t.Fatalf("ended while it was used: %v", err)
		default:
		}
	}
	select {
	case <-errs:
	case <-time.After(time.Minute):
		t.Error("a silent WebSocket stays open")
	}
}

func TestWebSocketThatIsNone(t *testing.T) {
	for name, answer := range map[string]string{
		"another protocol": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
		"another key":      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
	} {
		up, _ := scripted(t, func(int, int) string { return answer })
		front, _ := forwardTo(t, up, ForwarderOptions{}, nil)
		got := raw(t, front, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 502 ") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestUnsendable: what the request layer did not refuse because it is off is
// not written into two requests.
func TestUnsendable(t *testing.T) {
	rec := newRecorder(t)
	f, err := NewForwarder("http://"+rec.ln.Addr().String(), ForwarderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, change := range map[string]func(*http.Request){
		"method":         func(r *http.Request) { r.Method = "GET / HTTP/1.1\r\nX: y\r\n\r\nGET" },
		"target":         func(r *http.Request) { r.RequestURI, r.URL.Path, r.URL.RawQuery = "/", "/", "a b" },
		"line in target": func(r *http.Request) { r.URL.RawQuery = "a\r\nX:y" },
		"host":           func(r *http.Request) { r.Host = "a\r\nX: y" },
		"no host":        func(r *http.Request) { r.Host = "" },
		"value":          func(r *http.Request) { r.Header["X"] = []string{"a\r\nY: z"} },
		"bare CR":        func(r *http.Request) { r.Header["X"] = []string{"a\rb"} },
		"name":           func(r *http.Request) { r.Header["X: y\r\nZ"] = []string{"a"} },
	} {
		r := httptest.NewRequest("GET", "http://x/", nil)
		change(r)
		err := f.Forward(httptest.NewRecorder(), &guard.Exchange{Request: r}, nil)
		var fault *wire.Fault
		if !errors.As(err, &fault) || fault.Status != 400 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, got := rec.take(); got != "" {
		t.Errorf("%q was written", got)
	}
}

// TestStreamedUpload: on a route that streams, the app reads the body while it
// comes; on every other it hears of the request when it is whole.
func TestStreamedUpload(t *testing.T) {
	seen := make(chan string, 10)
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		p := make([]byte, 5)
		io.ReadFull(r.Body, p)
		seen <- string(p)
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err, r.ContentLength)
	})
	f, err := NewForwarder(up, ForwarderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	chain, err := guard.NewChain(guard.Options{Forward: f, Overrides: []guard.Override{{Path: "/stream", Reason: "large", Stream: true}}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(chain)
	defer srv.Close()
	for _, length := range []int64{-1, 100005} {
		for _, path := range []string{"/stream", "/gather"} {
			pr, pw := io.Pipe()
			q, _ := http.NewRequest("POST", srv.URL+path, pr)
			q.ContentLength = length
			got := make(chan string, 1)
			go func() {
				res, err := client.Do(q)
				if err != nil {
					got <- err.Error()
					return
				}
				defer res.Body.Close()
				b, _ := io.ReadAll(res.Body)
				got <- string(b)
			}()
			io.WriteString(pw, "first")
			if path == "/stream" {
				if s := <-seen; s != "first" {
					t.Errorf("%q", s)
				}
			} else {
				select {
				case <-seen:
					t.Error("the app was bothered with half a request")
				case <-time.After(100 * time.Millisecond):
				}
			}
			pw.Write(bytes.Repeat([]byte("x"), 100000))
			pw.Close()
			want := fmt.Sprint(int64(100000), nil, length)
			if path == "/gather" {
				<-seen
				want = fmt.Sprint(int64(100000), nil, 100005)
			}
			if s := <-got; s != want {
				t.Errorf("%s %d: %q, want %q", path, length, s, want)
			}
		}
	}
}

// TestSlowPostsHoldNobody: a hundred clients that never finish their bodies
// hold none of the app's threads, of which there are two.
func TestSlowPostsHoldNobody(t *testing.T) {
	var busy atomic.Int64
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if busy.Add(1) > 2 {
			w.WriteHeader(503)
		}
		io.Copy(io.Discard, r.Body)
		busy.Add(-1)
	})
	f, err := NewForwarder(up, ForwarderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	chain, err := guard.NewChain(guard.Options{Forward: f})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(chain)
	defer srv.Close()
	for i := range 100 {
		c, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		length := "Content-Length: 100000\r\n\r\nhello"
		if i%2 == 0 {
			length = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
		}
		io.WriteString(c, "POST /slow HTTP/1.1\r\nHost: x\r\n"+length)
	}
	for range 20 {
		if s, _ := get(t, srv.URL); s != 200 {
			t.Fatalf("status %d", s)
		}
	}
	if n := busy.Load(); n != 0 {
		t.Errorf("%d slow requests are with the app", n)
	}
}

// FuzzAnswerHead: what is accepted of an app's answer is what net/http reads.
func FuzzAnswerHead(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\nx: b\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: X\r\nX: y\r\n\r\n2;a=b\r\nok\r\n0\r\nT: v\r\n\r\n",
		"HTTP/1.0 404 \r\n\r\nuntil the end",
		"HTTP/1.1 304 Not Modified\r\nEtag: \"a\"\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	r, _ := http.NewRequestWithContext(context.Background(), "GET", "http://x/", nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, theirs := net.Pipe()
		go func() { theirs.Write(data); theirs.Close() }()
		c := newUpstreamConn(ours)
		defer c.end()
		c.silence = time.Minute
		got, err := c.readHead(r)
		if err != nil {
			return
		}
		want, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(data)), r)
		if err != nil {
			t.Fatalf("net/http refuses: %v", err)
		}
		if got.StatusCode != want.StatusCode || got.Proto != want.Proto {
			t.Fatalf("%d %s, net/http %d %s", got.StatusCode, got.Proto, want.StatusCode, want.Proto)
		}
		for name, v := range got.Header {
			if w := want.Header[name]; fmt.Sprint(v) != fmt.Sprint(w) && name != "Content-Length" {
				t.Fatalf("%s: %q, net/http %q", name, v, w)
			}
		}
		if got.StatusCode < 200 {
			return
		}
		b, err := io.ReadAll(got.Body)
		if err != nil {
			return
		}
		w, err := io.ReadAll(want.Body)
		if err != nil || !bytes.Equal(b, w) {
			t.Fatalf("body %q, net/http %q %v", b, w, err)
		}
	})
}

// FuzzAppendHead: what is written of a request is read again as the same
// request, and as one.
func FuzzAppendHead(f *testing.F) {
	for _, s := range []string{
		"GET /a%2fb?x=%zz;y HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\nCookie: a=b\r\n\r\n",
		"POST http://a/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: X-Hop\r\nX-Hop: y\r\n\r\nabc",
		"PUT //x/../y HTTP/1.0\r\nUpgrade: websocket\r\n\r\n",
	} {
		f.Add([]byte(s), int64(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, length int64) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
		if err != nil {
			return
		}
		length = min(max(length, -1), 100)
		head, err := appendHead(nil, r, length, true)
		if err != nil {
			return
		}
		br := bufio.NewReader(bytes.NewReader(head))
		got, err := http.ReadRequest(br)
		if err != nil {
			t.Fatalf("%q cannot be read: %v", head, err)
		}
		if got.Method != r.Method || got.Host != r.Host || got.URL.Path != r.URL.Path && r.URL.Path != "" || got.URL.RawQuery != r.URL.RawQuery {
			t.Fatalf("%s %s of %s became %q", r.Method, r.URL, r.Host, head)
		}
		if br.Buffered() > 0 {
			t.Fatalf("%q is more than one head", head)
		}
		want := length
		if got.ContentLength != want {
			t.Fatalf("%q: a length of %d, want %d", head, got.ContentLength, want)
		}
		for name, v := range r.Header {
			if !hopByHop(name) && !dropped(r.Header["Connection"])[name] && strings.Join(got.Header[name], ", ") != strings.Join(slices.DeleteFunc(slices.Clone(v), func(s string) bool { return s == "" }), ", ") {
				t.Fatalf("%s: %q became %q", name, v, got.Header[name])
			}
		}
	})
}
