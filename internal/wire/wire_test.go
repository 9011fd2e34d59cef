package wire

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// feed is a client that sends data in pieces of at most n bytes and then hangs
// up.
type feed struct {
	net.Conn
	data []byte
	n    int
}

func (f *feed) Read(p []byte) (int, error) {
	if len(f.data) == 0 {
		return 0, io.EOF
	}
	n := len(f.data)
	if f.n > 0 {
		n = min(n, f.n)
	}
	n = copy(p, f.data[:n])
	f.data = f.data[n:]
	return n, nil
}
func (*feed) SetReadDeadline(time.Time) error { return nil }
func (*feed) Close() error                    { return nil }

// parsed is what net/http made of the bytes.
type parsed struct {
	r    *http.Request
	body []byte
	err  error // of the head
	cut  error // of the body
}

func parse(r io.Reader) (p parsed, br *bufio.Reader) {
	br = bufio.NewReader(r)
	p.r, p.err = http.ReadRequest(br)
	if p.err == nil {
		p.body, p.cut = io.ReadAll(p.r.Body)
	}
	return p, br
}

// one sends raw through a Conn and returns what net/http saw and the fault.
func one(raw string, piece int) (parsed, *Fault, *Conn) {
	c := NewConn(&feed{data: []byte(raw), n: piece}, Limits{})
	p, _ := parse(c)
	f := c.headFault
	if f == nil {
		f = c.bodyFault
	}
	return p, f, c
}

func TestRefused(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: a\r\n"
	const post = "POST / HTTP/1.1\r\nHost: a\r\n"
	const chunked = post + "Transfer-Encoding: chunked\r\n\r\n"
	for _, c := range []struct {
		name, raw string
		status    int
		reason    string
	}{
		// The request line.
		{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadLine},
		{"tab", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadLine},
		{"trailing space", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, BadLine},
		{"no version", "GET /\r\n\r\n", 400, BadLine},
		{"lower case version", "GET / http/1.1\r\nHost: a\r\n\r\n", 400, BadLine},
		{"version 1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505, BadLine},
		{"version 2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, BadLine},
		{"version 0.9", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505, BadLine},
		{"long version", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400, BadLine},
		{"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, BadLine},
		{"method with a control", "GE\x01T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadLine},
		{"method with a quote", "G\"T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadLine},
		{"endless method", strings.Repeat("G", 33) + " / HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadLine},
		{"TLS on a clear port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, BadLine},
		{"empty line first", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadLine},
		{"line that ends in LF", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400, BadLine},
		{"bare CR in the line", "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadTarget},
		{"NUL in the target", "GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadTarget},
		{"raw bytes in the target", "GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadTarget},
		{"space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadLine},
		{"fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadTarget},
		{"relative target", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadTarget},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadTarget},
		{"tunnel", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405, BadTarget},
		{"another scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadTarget},
		{"user in the target", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadTarget},
		{"empty authority", "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadTarget},
		{"absolute form, other host", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadHost},
		{"absolute form, other port", "GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, BadHost},
		{"long target", "GET /" + strings.Repeat("a", 8000) + " HTTP/1.1\r\nHost: a\r\n\r\n", 414, TooLong},
		{"endless target", "GET /" + strings.Repeat("a", 20000), 414, TooLong},
		// Host.
		{"no Host", "GET / HTTP/1.1\r\n\r\n", 400, BadHost},
		{"two Hosts", get + "Host: a\r\n\r\n", 400, BadHost},
		{"two Hosts, one in disguise", get + "HOST: b\r\n\r\n", 400, BadHost},
		{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, BadHost},
		{"list of Hosts", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, BadHost},
		{"Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, BadHost},
		{"Host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, BadHost},
		// Fields.
		{"bare LF between fields", get + "X: 1\nY: 2\r\n\r\n", 400, BadField},
		{"bare LF at the end", get + "\n", 400, BadField},
		{"bare CR in a value", get + "X: a\rb\r\n\r\n", 400, BadField},
		{"CR before CRLF", get + "X: a\r\r\n\r\n", 400, BadField},
		{"NUL in a value", get + "X: a\x00b\r\n\r\n", 400, BadField},
		{"control in a value", get + "X: a\x0bb\r\n\r\n", 400, BadField},
		{"DEL in a value", get + "X: a\x7fb\r\n\r\n", 400, BadField},
		{"folded", get + "X: a\r\n b\r\n\r\n", 400, BadField},
		{"folded first", "GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n", 400, BadField},
		{"space before the colon", get + "X : a\r\n\r\n", 400, BadField},
		{"no colon", get + "X\r\n\r\n", 400, BadField},
		{"no name", get + ": a\r\n\r\n", 400, BadField},
		{"name with a slash", get + "X/Y: a\r\n\r\n", 400, BadField},
		{"name with a high byte", get + "X\xa0: a\r\n\r\n", 400, BadField},
		{"name with NUL", get + "X\x00: a\r\n\r\n", 400, BadField},
		{"too many fields", get + strings.Repeat("X: a\r\n", 100) + "\r\n", 431, TooLong},
		{"long field", get + "X: " + strings.Repeat("a", 8190) + "\r\n\r\n", 431, TooLong},
		{"endless field", get + "X: " + strings.Repeat("a", 20000), 431, TooLong},
		{"large head", get + strings.Repeat("X: "+strings.Repeat("a", 8000)+"\r\n", 5) + "\r\n", 431, TooLong},
		{"Expect", get + "Expect: the worst\r\n\r\n", 417, BadExpect},
		{"Expect twice", get + "Expect: 100-continue\r\nExpect: 100-continue\r\n\r\n", 417, BadExpect},
		// Framing.
		{"length and chunked", post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, BadFraming},
		{"chunked and length", post + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400, BadFraming},
		{"two equal lengths", post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400, BadFraming},
		{"two lengths", post + "Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc", 400, BadFraming},
		{"list of lengths", post + "Content-Length: 3, 3\r\n\r\nabc", 400, BadFraming},
		{"length with +", post + "Content-Length: +3\r\n\r\nabc", 400, BadFraming},
		{"length with -", post + "Content-Length: -3\r\n\r\nabc", 400, BadFraming},
		{"length with _", post + "Content-Length: 1_0\r\n\r\n0123456789", 400, BadFraming},
		{"length in hex", post + "Content-Length: 0x3\r\n\r\nabc", 400, BadFraming},
		{"empty length", post + "Content-Length:\r\n\r\n", 400, BadFraming},
		{"length without end", post + "Content-Length: 99999999999999999999\r\n\r\n", 400, BadFraming},
		{"length with an underscore in its name", post + "Content_Length: 3\r\n\r\nabc", 400, BadFraming},
		{"chunked twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, BadFraming},
		{"list of codings", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, BadFraming},
		{"identity, chunked", post + "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", 400, BadFraming},
		{"chunked in quotes", post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400, BadFraming},
		{"chunked with a parameter", post + "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 400, BadFraming},
		{"gzip", post + "Transfer-Encoding: gzip\r\n\r\n", 501, BadFraming},
		{"empty coding", post + "Transfer-Encoding:\r\n\r\n", 501, BadFraming},
		{"coding with an underscore in its name", post + "Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n", 400, BadFraming},
		{"chunked in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, BadFraming},
		// Chunks.
		{"no size", chunked + "\r\n", 400, BadChunks},
		{"no hex", chunked + "zz\r\n", 400, BadChunks},
		{"size with 0x", chunked + "0x3\r\nabc\r\n0\r\n\r\n", 400, BadChunks},
		{"size with +", chunked + "+3\r\nabc\r\n0\r\n\r\n", 400, BadChunks},
		{"size with a space before", chunked + " 3\r\nabc\r\n0\r\n\r\n", 400, BadChunks},
		{"size with a space behind", chunked + "3 \r\nabc\r\n0\r\n\r\n", 400, BadChunks},
		{"size of 17 digits", chunked + "00000000000000003\r\nabc\r\n0\r\n\r\n", 400, BadChunks},
		{"huge size", chunked + "ffffffffffffffff\r\nabc\r\n0\r\n\r\n", 400, BadChunks},
		{"chunk that is longer", chunked + "3\r\nabcd\r\n0\r\n\r\n", 400, BadChunks},
		{"chunk that ends in LF", chunked + "3\r\nabc\n0\r\n\r\n", 400, BadChunks},
		{"chunk that ends in CR", chunked + "3\r\nabc\r0\r\n\r\n", 400, BadChunks},
		{"size that ends in LF", chunked + "3\nabc\r\n0\r\n\r\n", 400, BadChunks},
		{"last size that ends in LF", chunked + "0\n\r\n", 400, BadChunks},
		{"extension with a bare CR", chunked + "3;a\rb\r\nabc\r\n0\r\n\r\n", 400, BadChunks},
		{"extension with NUL", chunked + "3;a=\x00\r\nabc\r\n0\r\n\r\n", 400, BadChunks},
		{"extension that is none", chunked + "3 a\r\nabc\r\n0\r\n\r\n", 400, BadChunks},
		{"extension with an open quote", chunked + "3;a=\"b\r\nabc\r\n0\r\n\r\n", 400, BadChunks},
		{"long extension", chunked + "3;a=" + strings.Repeat("b", 300) + "\r\nabc\r\n0\r\n\r\n", 400, BadChunks},
		{"many extensions", chunked + strings.Repeat("3;a="+strings.Repeat("b", 200)+"\r\nabc\r\n", 30) + "0\r\n\r\n", 400, BadChunks},
		{"trailer that is none", chunked + "0\r\nX\r\n\r\n", 400, BadChunks},
		{"folded trailer", chunked + "0\r\nX: a\r\n b\r\n\r\n", 400, BadChunks},
		{"trailer with LF", chunked + "0\r\nX: a\n\r\n", 400, BadChunks},
		{"large trailer", chunked + "0\r\n" + strings.Repeat("X: "+strings.Repeat("a", 1000)+"\r\n", 6) + "\r\n", 400, BadChunks},
		{"tiny chunks", chunked + strings.Repeat("1\r\na\r\n", smallChunks+1) + "0\r\n\r\n", 400, BadChunks},
	} {
		for _, piece := range []int{0, 1, 7} {
			if piece > 0 && len(c.raw) > 50000 {
				continue
			}
			p, f, _ := one(c.raw, piece)
			if f == nil {
				t.Errorf("%s (by %d): passed, %v %v %q", c.name, piece, p.err, p.cut, p.body)
				continue
			}
			if f.Status != c.status || f.Reason != c.reason || f.Detail == "" {
				t.Errorf("%s (by %d): %+v, want %d %s", c.name, piece, f, c.status, c.reason)
			}
			if c.reason == BadChunks {
				var got *Fault
				if !errors.As(p.cut, &got) || got != f {
					t.Errorf("%s: the body's error is %v", c.name, p.cut)
				}
			} else if p.err != nil || p.r.URL.Path != "/" || !p.r.Close || p.r.Host != "refused" || len(p.body) > 0 {
				t.Errorf("%s: net/http got %+v %v", c.name, p.r, p.err)
			}
		}
	}
}

func TestAccepted(t *testing.T) {
	for _, c := range []struct {
		name, raw, method, uri, host, body string
	}{
		{"plain", "GET /a?b=%zz;c HTTP/1.1\r\nHost: shop.example:8443\r\nAccept: */*\r\n\r\n", "GET", "/a?b=%zz;c", "shop.example:8443", ""},
		{"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", "GET", "/", "", ""},
		{"address", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET", "/", "[::1]:80", ""},
		{"absolute form", "GET http://A.example/x?y HTTP/1.1\r\nHost: a.example\r\nX: 1\r\n\r\n", "GET", "/x?y", "a.example", ""},
		{"absolute form without a path", "GET HTTPS://a HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n", "GET", "/", "a", ""},
		{"absolute form with a body", "POST http://a/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "POST", "/x", "a", "abc"},
		{"length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc", "POST", "/", "a", "abc"},
		{"chunks", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\t Chunked \r\n\r\n3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n", "POST", "/", "a", "abc0123456789"},
		{"extensions", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a;b=c ; d = \"e\\\"\tf\"\r\nabc\r\n0;x\r\n\r\n", "POST", "/", "a", "abc"},
		{"trailers", "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n", "POST", "/", "a", "abc"},
		{"high bytes", "GET / HTTP/1.1\r\nHost: a\r\nCookie: name=\xc3\xa4; b=\"c d\"\r\n\r\n", "GET", "/", "a", ""},
		{"empty value", "GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \r\n\r\n", "GET", "/", "a", ""},
	} {
		for _, piece := range []int{0, 1, 5} {
			p, f, conn := one(c.raw, piece)
			if f != nil || p.err != nil || p.cut != nil {
				t.Errorf("%s (by %d): %v %v %v", c.name, piece, f, p.err, p.cut)
				continue
			}
			if p.r.Method != c.method || p.r.RequestURI != c.uri || p.r.Host != c.host || string(p.body) != c.body {
				t.Errorf("%s (by %d): %s %s of %s, %q", c.name, piece, p.r.Method, p.r.RequestURI, p.r.Host, p.body)
			}
			if len(p.r.Trailer) > 0 && p.r.Trailer.Get("X-Sum") != "" {
				t.Errorf("%s: trailer %v", c.name, p.r.Trailer)
			}
			if conn.state != holding {
				t.Errorf("%s (by %d): state %d", c.name, piece, conn.state)
			}
		}
	}
}

// serve answers over real connections through a Listener, TLS or not.
func serve(t *testing.T, o Options, h http.HandlerFunc) net.Addr {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ConnState: Track, IdleTimeout: 5 * time.Second, ReadHeaderTimeout: 20 * time.Second, ConnContext: Context}
	l := NewListener(ln, o)
	done := make(chan bool)
	go func() { srv.Serve(l); close(done) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return ln.Addr()
}

func echo(w http.ResponseWriter, r *http.Request) {
	if f := FaultOf(r.Context()); f != nil {
		http.Error(w, f.Reason, f.Status)
		return
	}
	b, err := io.ReadAll(r.Body)
	var f *Fault
	if errors.As(err, &f) {
		http.Error(w, f.Reason, f.Status)
		return
	}
	fmt.Fprintf(w, "%s %s %q", r.Method, r.RequestURI, b)
}

// talk sends raw and returns the bodies of the answers until the server
// closes.
func talk(t *testing.T, a net.Addr, raw string) (out []string) {
	t.Helper()
	c, err := net.Dial("tcp", a.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	io.WriteString(c, raw)
	br := bufio.NewReader(c)
	for {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			if err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Errorf("%q: %v", raw, err)
			}
			return out
		}
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
		}
		out = append(out, fmt.Sprintf("%d %s", res.StatusCode, bytes.TrimSpace(b)))
	}
}

// TestPipeline: requests on one connection are answered one after the other,
// and what is wrong with one of them is answered in its turn, as the last.
func TestPipeline(t *testing.T) {
	a := serve(t, Options{}, echo)
	const get, end = "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", "GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	many, want := "", []string{}
	for i := range 40 {
		many += fmt.Sprintf(get, i)
		want = append(want, fmt.Sprintf(`200 GET /%d ""`, i))
	}
	for _, c := range []struct {
		name, raw string
		want      []string
	}{
		{"many", many + end, append(want, `200 GET /end ""`)},
		{"bodies", "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n" + end,
			[]string{`200 POST /1 "abc"`, `200 POST /2 "abc"`, `200 GET /end ""`}},
		{"a fault is the last", fmt.Sprintf(get, 1) + "GET /2 HTTP/1.1\nHost: a\r\n\r\n" + fmt.Sprintf(get, 3), []string{`200 GET /1 ""`, "400 request-line"}},
		{"the body of HTTP/1.0 is no request", "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", []string{"400 request-framing"}},
		{"a faulty body is the last", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n" + end, []string{"400 body-chunks"}},
		{"no Host", "GET / HTTP/1.1\r\n\r\n", []string{"400 request-host"}},
	} {
		if got := talk(t, a, c.raw); !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
}

// TestUnreadBody: the rest of a body that the handler did not read is never
// the next request.
func TestUnreadBody(t *testing.T) {
	a := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) })
	for _, n := range []int{60, 400 << 10} {
		inner := "GET /inner HTTP/1.1\r\nHost: a\r\n\r\n"
		body := inner + strings.Repeat("x", n-len(inner))
		got := talk(t, a, fmt.Sprintf("POST /outer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", n, body)+"GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if slices.Contains(got, "200 /inner") || len(got) == 0 || got[0] != "200 /outer" {
			t.Errorf("%d bytes: %q", n, got)
		}
	}
}

func TestSlowHead(t *testing.T) {
	a := serve(t, Options{Limits: func() Limits { return Limits{HeadTime: 200 * time.Millisecond} }}, echo)
	for _, before := range []string{"", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"} {
		got := talk(t, a, before+"GET /2 HTTP/1.1\r\nHost:")
		if len(got) == 0 || got[len(got)-1] != "408 request-slow" {
			t.Errorf("%q: %q", before, got)
		}
	}
	if got := talk(t, a, ""); len(got) != 0 {
		t.Errorf("silence is answered: %q", got)
	}
}

// TestHangUp: the handler learns that the client is gone, and does not learn
// it from requests that wait behind.
func TestHangUp(t *testing.T) {
	gone := make(chan bool, 2)
	a := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			select {
			case <-r.Context().Done():
				gone <- true
			case <-time.After(time.Minute):
				gone <- false
			}
			return
		}
		time.Sleep(20 * time.Millisecond)
		fmt.Fprint(w, r.URL.Path, r.Context().Err())
	})
	c, err := net.Dial("tcp", a.String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
	time.Sleep(50 * time.Millisecond)
	c.Close()
	if !<-gone {
		t.Error("not told")
	}
	if got := talk(t, a, "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !slices.Equal(got, []string{"200 /a<nil>", "200 /b<nil>"}) {
		t.Errorf("%q", got)
	}
}

func TestHijack(t *testing.T) {
	a := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		line, err := rw.ReadString('\n')
		fmt.Fprintf(c, "%q %v", line, err)
	})
	c, err := net.Dial("tcp", a.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n")
	br := bufio.NewReader(c)
	br.ReadString('\n')
	br.ReadString('\n')
	io.WriteString(c, "\x00 not HTTP\n")
	if b, _ := io.ReadAll(br); string(b) != `"\x00 not HTTP\n" <nil>` {
		t.Errorf("%q", b)
	}
}

func TestPerClient(t *testing.T) {
	reported := make(chan error, 10)
	a := serve(t, Options{PerClient: 2, Report: func(_ net.Addr, err error) { reported <- err }}, echo)
	open := func() net.Conn {
		c, err := net.Dial("tcp", a.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(time.Minute))
		return c
	}
	ask := func(c net.Conn) bool {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		return err == nil && res.StatusCode == 200
	}
	first, second := open(), open()
	if !ask(first) || !ask(second) {
		t.Fatal("refused")
	}
	if ask(open()) {
		t.Error("a third connection is answered")
	}
	if err := <-reported; !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
	first.Close()
	for i := 0; ; i++ {
		if ask(open()) {
			break
		}
		if i == 3000 {
			t.Fatal("no place after one left")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestEvict: clients that say nothing make place for those that do.
func TestEvict(t *testing.T) {
	a := serve(t, Options{Connections: 10, Limits: func() Limits { return Limits{HeadTime: 5 * time.Minute} }}, echo)
	for range 50 {
		c, err := net.Dial("tcp", a.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "GET / HTTP/1.1\r\n")
	}
	// It does not wait for their end: a head may take five minutes.
	if got := talk(t, a, "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !slices.Equal(got, []string{`200 GET /x ""`}) {
		t.Errorf("%q", got)
	}
}

func TestStreamFloods(t *testing.T) {
	frame := func(kind, flags byte, payload string) string {
		n := len(payload)
		return string([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, 0, 0, 0, 1}) + payload
	}
	for _, c := range []struct {
		name, data string
		bad        bool
	}{
		{"a browser", preface + frame(4, 0, "123456") + frame(8, 0, "1234") + strings.Repeat(frame(1, 5, "headers")+frame(8, 0, "1234"), 500) + strings.Repeat(frame(3, 0, "1234"), 100), false},
		{"an upload", preface + strings.Repeat(frame(0, 0, strings.Repeat("x", 1000)), 1000) + frame(0, 1, ""), false},
		{"rapid reset", preface + strings.Repeat(frame(1, 4, "headers")+frame(3, 0, "1234"), 300), true},
		{"ping", preface + strings.Repeat(frame(6, 0, "12345678"), 300), true},
		{"settings", preface + strings.Repeat(frame(4, 0, ""), 300), true},
		{"priority", preface + strings.Repeat(frame(2, 0, "12345"), 300), true},
		{"empty data", preface + strings.Repeat(frame(0, 0, ""), 300), true},
		{"continuation", preface + frame(1, 0, "x") + strings.Repeat(frame(9, 0, "x"), 9), true},
		{"window updates", preface + strings.Repeat(frame(8, 0, "1234"), 30000), true},
	} {
		for _, piece := range []int{0, 1, 11} {
			var told *Fault
			s := newStream(&feed{data: []byte(c.data), n: piece}, func(f *Fault) { told = f })
			now := time.Now()
			s.now = func() time.Time { return now }
			got, err := io.ReadAll(s)
			if (err != nil) != c.bad || (told != nil) != c.bad || !c.bad && string(got) != c.data {
				t.Errorf("%s by %d: %v", c.name, piece, err)
			}
		}
	}
}

// FuzzConn: what a Conn lets pass is what net/http reads from the raw bytes,
// to the last byte of the request.
func FuzzConn(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST http://a/x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\nabc\r\n0\r\nT: v\r\n\r\nrest",
		"GET / HTTP/1.0\r\nX: \xff\t y\r\n\r\n",
		"PUT / HTTP/1.1\r\nHost:a\r\nExpect: 100-continue\r\nContent-Length: 0\r\nCookie: a=b\r\nCookie: c\r\n\r\n",
	} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		in := &feed{data: bytes.Clone(data), n: max(piece, 0)}
		c := NewConn(in, Limits{})
		got, br := parse(c)
		if c.headFault != nil {
			return
		}
		raw := &feed{data: bytes.Clone(data)}
		want, wbr := parse(raw)
		if c.served == 0 {
			return // the head is not whole
		}
		if got.err != nil {
			t.Fatalf("net/http refuses what was let pass: %v", got.err)
		}
		if want.err != nil {
			t.Fatalf("net/http refuses the raw bytes: %v", want.err)
		}
		g, w := got.r, want.r
		if g.Method != w.Method || g.URL.RequestURI() != w.URL.RequestURI() || !strings.EqualFold(g.Host, w.Host) ||
			g.ContentLength != w.ContentLength || !slices.Equal(g.TransferEncoding, w.TransferEncoding) ||
			g.Proto != w.Proto || fmt.Sprint(g.Header) != fmt.Sprint(w.Header) {
			t.Fatalf("%+v\n%+v", g, w)
		}
		if c.bodyFault != nil || got.cut != nil {
			return
		}
		if want.cut != nil || !bytes.Equal(got.body, want.body) {
			t.Fatalf("body %q %v\nraw %q %v", got.body, got.cut, want.body, want.cut)
		}
		for name := range g.Trailer {
			if len(g.Trailer[name]) > 0 {
				t.Fatalf("trailer %v", g.Trailer)
			}
		}
		// Where the next request begins.
		if br.Buffered() > 0 {
			t.Fatal("bytes of the next request were handed out")
		}
		rest := append(bytes.Clone(c.buf[c.r:c.w]), in.data...)
		if c.head.expect && g.ContentLength != 0 {
			return // ReadRequest does not read on
		}
		left, _ := io.ReadAll(wbr)
		if !bytes.Equal(rest, left) {
			t.Fatalf("the next request begins at %q, raw %q", rest, left)
		}
	})
}

func BenchmarkConn(b *testing.B) {
	const head = "GET /products?page=2&sort=price&q=red+shoes HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nCookie: session=eyJjYXJ0IjpbXX0.aRandomValue.signature; theme=dark; seen=1\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\nPriority: u=0, i\r\n\r\n"
	b.ReportAllocs()
	b.SetBytes(int64(len(head)))
	in := &feed{}
	c := NewConn(in, Limits{})
	p := make([]byte, 4096)
	for b.Loop() {
		in.data = []byte(head)[:len(head):len(head)]
		for n := 0; n < len(head); {
			m, err := c.Read(p)
			if err != nil {
				b.Fatal(err)
			}
			n += m
		}
		Track(c, http.StateIdle)
	}
}

// TestTLS: HTTP/1 and HTTP/2 inside TLS, and what is neither.
func TestTLS(t *testing.T) {
	pair := httptest.NewTLSServer(nil)
	defer pair.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	reported := make(chan error, 10)
	srv := &http.Server{ConnState: Track, ConnContext: Context, Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			r.TLS = TLSOf(r.Context())
		}
		fmt.Fprint(w, r.Proto, " ", r.TLS != nil && r.TLS.HandshakeComplete, " ", FaultOf(r.Context()))
	})}
	l := NewListener(ln, Options{
		TLS:    &tls.Config{Certificates: pair.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}},
		Report: func(_ net.Addr, err error) { reported <- err },
	})
	go srv.Serve(l)
	defer srv.Close()
	for _, h2 := range []bool{false, true} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: h2}
		res, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Get("https://" + ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		tr.CloseIdleConnections()
		if want := map[bool]string{false: "HTTP/1.1 true <nil>", true: "HTTP/2.0 true <nil>"}[h2]; string(b) != want {
			t.Errorf("%q, want %q", b, want)
		}
	}
	c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if b, _ := io.ReadAll(c); !bytes.Equal(b, badPreface) {
		t.Errorf("HTTP/1 in a connection for HTTP/2 gets %q", b)
	}
	if err := <-reported; err == nil || !strings.Contains(err.Error(), "preface") {
		t.Error(err)
	}
	plain, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	plain.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(plain, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if b, _ := io.ReadAll(plain); !strings.HasPrefix(string(b), "HTTP/1.1 400 ") || !strings.Contains(string(b), "HTTPS") {
		t.Errorf("clear text gets %q", b)
	}
}

// FuzzStream: floods are found in whatever pieces the bytes arrive, and what
// passes is unchanged.
func FuzzStream(f *testing.F) {
	f.Add([]byte(preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"), 3)
	f.Add([]byte(preface+strings.Repeat("\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678", 300)), 7)
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		now := time.Now()
		read := func(n int) (string, bool) {
			s := newStream(&feed{data: bytes.Clone(data), n: n}, nil)
			s.now = func() time.Time { return now }
			got, err := io.ReadAll(s)
			return string(got), err != nil
		}
		whole, flood := read(0)
		parts, same := read(max(piece, 1))
		if flood != same {
			t.Fatalf("a flood in one piece: %v, in pieces of %d: %v", flood, piece, same)
		}
		if !flood && (whole != string(data) || parts != string(data)) {
			t.Fatal("bytes were changed")
		}
	})
}

// tardy is a listener whose Accept is in the middle of taking a connection
// when it is closed.
type tardy struct {
	net.Listener
	closed chan struct{}
	conn   net.Conn
}

func (l *tardy) Accept() (net.Conn, error) {
	<-l.closed
	if c := l.conn; c != nil {
		l.conn = nil
		time.Sleep(20 * time.Millisecond)
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l *tardy) Close() error {
	close(l.closed)
	return nil
}

// TestCloseWhileAccepting: a connection that was taken at the moment of Close
// is served, not cut.
func TestCloseWhileAccepting(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	l := NewListener(&tardy{closed: make(chan struct{}), conn: server}, Options{})
	go func() {
		time.Sleep(20 * time.Millisecond)
		l.Close()
		io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatalf("it was dropped: %v", err)
	}
	c.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("and then: %v", err)
	}
}

// TestPerClientAfterReload: who is exempt may change while connections are
// open; each leaves the count that it was put in.
func TestPerClientAfterReload(t *testing.T) {
	exempt := false
	l := NewListener(nil, Options{PerClient: 1, Exempt: func(netip.Addr) bool { return exempt }})
	a, b := net.Pipe()
	defer a.Close()
	c := &placed{Conn: b}
	counted, ok := l.admit(c)
	if !ok {
		t.Fatal("the first is refused")
	}
	exempt = true
	free, ok := l.admit(c)
	if !ok {
		t.Fatal("an exempt client is refused")
	}
	exempt = false
	free() // was never counted
	if _, ok := l.admit(c); ok {
		t.Error("the place of another connection was given away")
	}
	exempt = true
	counted()
	exempt = false
	if _, ok := l.admit(c); !ok {
		t.Error("a connection that ended while its client was exempt is counted for ever")
	}
}

// placed is a connection from an address.
type placed struct{ net.Conn }

func (*placed) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7), Port: 1} }
func (*placed) Close() error         { return nil }
