package gateway

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/dewar-security/dewar/internal/guard"
)

// overHTTP2 sends one request made of fields, frame by frame and unchecked,
// and returns the status of the answer, or what else came.
func overHTTP2(t *testing.T, addr string, fields []hpack.HeaderField, body string, trailers []hpack.HeaderField) string {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, c)
	f.AllowIllegalWrites = true
	f.WriteSettings()
	block := func(fields []hpack.HeaderField) []byte {
		var b bytes.Buffer
		e := hpack.NewEncoder(&b)
		for _, h := range fields {
			e.WriteField(h)
		}
		return b.Bytes()
	}
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(fields), EndHeaders: true, EndStream: body == "" && trailers == nil})
	if body != "" {
		f.WriteData(1, trailers == nil, []byte(body))
	}
	if trailers != nil {
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(trailers), EndHeaders: true, EndStream: true})
	}
	dec := hpack.NewDecoder(4096, nil)
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return err.Error()
		}
		switch fr := fr.(type) {
		case *http2.HeadersFrame:
			got, _ := dec.DecodeFull(fr.HeaderBlockFragment())
			for _, h := range got {
				if h.Name == ":status" && h.Value != "100" {
					return h.Value
				}
			}
		case *http2.RSTStreamFrame:
			return fr.ErrCode.String()
		case *http2.GoAwayFrame:
			return fr.ErrCode.String()
		}
	}
}

// TestHostileHTTP2: what HTTP/2 can say and HTTP/1 cannot never reaches the
// app's server, which would read it as another request, or as two.
func TestHostileHTTP2(t *testing.T) {
	rec, ev := newRecorder(t), &events{}
	cfg := testConfig()
	cfg.TLS, cfg.Listen = "local", []string{"127.0.0.1:0"}
	r := start(t, Options{Dir: t.TempDir(), Profile: guard.Development, Config: cfg, Upstream: "http://" + rec.ln.Addr().String(), Environ: cleanEnviron(t), Handler: layered(t, cfg, guard.Enforce, ev)})
	addr := strings.TrimPrefix(r.url, "https://")
	time.Sleep(50 * time.Millisecond)

	get := func(more ...string) []hpack.HeaderField {
		fields := []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "127.0.0.1"}, {Name: ":path", Value: "/x"}}
	next:
		for i := 0; i+1 < len(more); i += 2 {
			for j := range fields {
				if fields[j].Name == more[i] && more[i][0] == ':' {
					fields[j].Value = more[i+1]
					continue next
				}
			}
			fields = append(fields, hpack.HeaderField{Name: more[i], Value: more[i+1]})
		}
		return fields
	}
	twice := func(name, value string) []hpack.HeaderField {
		return append([]hpack.HeaderField{{Name: name, Value: value}}, get()...)
	}
	without := func(name string) (out []hpack.HeaderField) {
		for _, f := range get() {
			if f.Name != name {
				out = append(out, f)
			}
		}
		return out
	}
	post := func(more ...string) []hpack.HeaderField { return get(append([]string{":method", "POST"}, more...)...) }
	for _, c := range []struct {
		name   string
		fields []hpack.HeaderField
		body   string
	}{
		{"method with a line", get(":method", "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET"), ""},
		{"method with a space", get(":method", "GET /admin"), ""},
		{"path with a line", get(":path", "/x HTTP/1.1\r\nX: y"), ""},
		{"path with a space", get(":path", "/x HTTP/1.1"), ""},
		{"path with a tab", get(":path", "/x\ty"), ""},
		{"path with a fragment", get(":path", "/x#y"), ""},
		{"path without a slash", get(":path", "x"), ""},
		{"whole URL as path", get(":path", "https://127.0.0.1/x"), ""},
		{"asterisk", get(":path", "*", ":method", "OPTIONS"), ""},
		{"empty path", get(":path", ""), ""},
		{"dot segments", get(":path", "/a/../admin"), ""},
		{"authority with a line", get(":authority", "127.0.0.1\r\nX: y"), ""},
		{"authority with a user", get(":authority", "u@127.0.0.1"), ""},
		{"authority with a path", get(":authority", "127.0.0.1/x"), ""},
		{"another Host", get("host", "other"), ""},
		{"scheme with a line", get(":scheme", "https\r\nX: y"), ""},
		{"another scheme", get(":scheme", "ftp"), ""},
		{"tunnel", []hpack.HeaderField{{Name: ":method", Value: "CONNECT"}, {Name: ":authority", Value: "127.0.0.1:22"}}, ""},
		{"two methods", twice(":method", "POST"), ""},
		{"two paths", twice(":path", "/admin"), ""},
		{"two authorities", twice(":authority", "other"), ""},
		{"no path", without(":path"), ""},
		{"no method", without(":method"), ""},
		{"no scheme", without(":scheme"), ""},
		{"an unknown pseudo field", get(":status", "200"), ""},
		{"pseudo field behind others", append(append([]hpack.HeaderField{{Name: "x", Value: "y"}}, get()...), hpack.HeaderField{Name: ":path", Value: "/admin"}), ""},
		{"upper case name", get("X-Upper", "y"), ""},
		{"name with a line", get("x: y\r\nz", "a"), ""},
		{"name with a colon", get("x:y", "a"), ""},
		{"empty name", get("", "a"), ""},
		{"value with a line", get("x", "y\r\nContent-Length: 5"), ""},
		{"value with LF", get("x", "y\nz"), ""},
		{"value with CR", get("x", "y\rz"), ""},
		{"value with NUL", get("x", "y\x00z"), ""},
		{"Connection", get("connection", "close"), ""},
		{"Transfer-Encoding", post("transfer-encoding", "chunked"), "0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"},
		{"Upgrade", get("upgrade", "h2c"), ""},
		{"Keep-Alive", get("keep-alive", "5"), ""},
		{"TE", get("te", "chunked"), ""},
		{"length that is too small", post("content-length", "3"), "abcGET /smuggled HTTP/1.1\r\n\r\n"},
		{"length that is too large", post("content-length", "300"), "abc"},
		{"two lengths", post("content-length", "3", "content-length", "30"), "abc"},
		{"length with a sign", post("content-length", "+3"), "abc"},
		{"list of lengths", post("content-length", "3, 3"), "abc"},
		{"length without a body", get("content-length", "5"), ""},
		{"no number", get("content-length", "0x0"), ""},
	} {
		ev.take()
		rec.take()
		got := overHTTP2(t, addr, c.fields, c.body, nil)
		if strings.HasPrefix(got, "2") || strings.HasPrefix(got, "3") {
			t.Errorf("%s: %s", c.name, got)
		}
		if _, b := rec.take(); b != "" {
			t.Errorf("%s: %q reached the server", c.name, b)
		}
	}
	for _, c := range []struct {
		name     string
		fields   []hpack.HeaderField
		body     string
		trailers []hpack.HeaderField
		want     []string
		never    []string
	}{
		{"plain", get(), "", nil, []string{"GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\n"}, nil},
		{"Host instead of authority", append(without(":authority"), hpack.HeaderField{Name: "host", Value: "127.0.0.1"}), "", nil, []string{"Host: 127.0.0.1\r\n"}, nil},
		{"cookies in crumbs", get("cookie", "a=b", "cookie", "c=d"), "", nil, []string{"Cookie: a=b; c=d\r\n"}, nil},
		{"body without a length", post(), "abc", nil, []string{"Content-Length: 3\r\n", "\r\n\r\nabc"}, []string{"chunked"}},
		{"body with its length", post("content-length", "3"), "abc", nil, []string{"Content-Length: 3\r\n", "\r\n\r\nabc"}, nil},
		{"trailers", post(), "abc", []hpack.HeaderField{{Name: "x-forwarded-for", Value: "6.6.6.6"}, {Name: "x-sum", Value: "1"}}, []string{"Content-Length: 3\r\n"}, []string{"6.6.6.6", "X-Sum"}},
		{"underscores and overrides", get("x_forwarded_for", "6.6.6.6", "x-original-url", "/admin", "proxy", "http://6.6.6.6", "te", "trailers"), "", nil, nil, []string{"6.6.6.6", "admin", "Te:"}},
	} {
		rec.take()
		if got := overHTTP2(t, addr, c.fields, c.body, c.trailers); got != "200" {
			t.Errorf("%s: %s", c.name, got)
		}
		_, b := rec.take()
		for _, w := range c.want {
			if !strings.Contains(b, w) {
				t.Errorf("%s: no %q in %q", c.name, w, b)
			}
		}
		for _, w := range c.never {
			if strings.Contains(b, w) {
				t.Errorf("%s: %q in %q", c.name, w, b)
			}
		}
	}
}

// TestHTTP2Floods: floods end the connection and are told, an honest client
// with a hundred streams is served.
func TestHTTP2Floods(t *testing.T) {
	rec := newRecorder(t)
	cfg := testConfig()
	cfg.TLS, cfg.Listen = "local", []string{"127.0.0.1:0"}
	told := make(chan string, 100)
	r := start(t, Options{OnConnectionRefused: func(client netip.Addr, reason, detail string) { told <- client.String() + " " + reason + " " + detail }, Dir: t.TempDir(), Profile: guard.Development, Config: cfg, Upstream: "http://" + rec.ln.Addr().String(), Environ: cleanEnviron(t), Handler: layered(t, cfg, guard.Enforce, &events{})})
	addr := strings.TrimPrefix(r.url, "https://")
	var bomb bytes.Buffer
	e := hpack.NewEncoder(&bomb)
	for _, h := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "127.0.0.1"}, {Name: ":path", Value: "/x"}, {Name: "x", Value: strings.Repeat("a", 3000)}} {
		e.WriteField(h)
	}
	head := bytes.Clone(bomb.Bytes())
	for range 4000 { // one byte each, three thousand when unpacked
		e.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("a", 3000)})
	}
	for _, v := range []struct {
		name  string
		flood func(*http2.Framer) error
		want  string
	}{
		{"rapid reset", func(f *http2.Framer) error {
			for i := range 2000 {
				f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: head, EndHeaders: true, EndStream: true})
				if err := f.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel); err != nil {
					return err
				}
			}
			return nil
		}, "closed"},
		{"ping", func(f *http2.Framer) error {
			for range 2000 {
				if err := f.WritePing(false, [8]byte{}); err != nil {
					return err
				}
			}
			return nil
		}, "closed"},
		{"settings", func(f *http2.Framer) error {
			for range 2000 {
				if err := f.WriteSettings(); err != nil {
					return err
				}
			}
			return nil
		}, "closed"},
		{"continuation", func(f *http2.Framer) error {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head[:10]})
			for range 2000 {
				if err := f.WriteContinuation(1, false, []byte{}); err != nil {
					return err
				}
			}
			return nil
		}, "closed"},
		{"HPACK bomb", func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: bomb.Bytes(), EndHeaders: true, EndStream: true})
		}, "431"},
	} {
		got := func() string {
			c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(time.Minute))
			io.WriteString(c, http2.ClientPreface)
			f := http2.NewFramer(c, c)
			f.AllowIllegalWrites = true
			f.WriteSettings()
			sent := make(chan error, 1)
			go func() { sent <- v.flood(f) }()
			dec := hpack.NewDecoder(4096, nil)
			for {
				fr, err := f.ReadFrame()
				if err != nil {
					if ne, ok := err.(net.Error); ok && ne.Timeout() {
						return "still open"
					}
					return "closed"
				}
				if h, ok := fr.(*http2.HeadersFrame); ok && v.want != "closed" {
					for _, h := range must(dec.DecodeFull(h.HeaderBlockFragment())) {
						if h.Name == ":status" {
							return h.Value
						}
					}
				}
			}
		}()
		if got != v.want {
			t.Errorf("%s: %s, want %s", v.name, got, v.want)
		}
		if v.want != "closed" {
			continue
		}
		select {
		case s := <-told:
			if !strings.HasPrefix(s, "127.0.0.1 connection-flood ") {
				t.Errorf("%s: told %s", v.name, s)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s: nobody was told", v.name)
		}
		time.Sleep(1100 * time.Millisecond) // one entry of a kind in a second
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprint("test: ", err))
	}
	return v
}

func TestThrottle(t *testing.T) {
	var th throttle
	now := time.Now()
	for i, want := range []struct {
		after time.Duration
		kind  string
		more  int
		ok    bool
	}{{0, "a", 0, true}, {0, "a", 0, false}, {0, "b", 0, true}, {500 * time.Millisecond, "a", 0, false}, {time.Second, "a", 2, true}, {3 * time.Second, "a", 0, true}} {
		if more, ok := th.tell(want.kind, now.Add(want.after)); more != want.more || ok != want.ok {
			t.Errorf("%d: %d %v", i, more, ok)
		}
	}
}
