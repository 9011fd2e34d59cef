package probe

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/evidence"
)

var fast = Options{Rate: 1e6, Timeout: 30 * time.Second}

func check(n int, f func(ctx context.Context, c *Client) []Answer) *Check {
	return &Check{ID: "test", Control: "csrf", Fix: "fix it", Requests: n, Run: f}
}

func run(t *testing.T, site string, o Options, checks ...*Check) *Report {
	t.Helper()
	r, err := Run(t.Context(), site, checks, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range r.Evidence() {
		if err := e.Validate(); err != nil {
			t.Error(err)
		}
	}
	return r
}

func TestNamesNoSite(t *testing.T) {
	for _, s := range []string{"", " ", "shop.example", "ftp://shop.example", "https://", "https://user:geheim@shop.example", "https://shop.example/admin", "https://shop.example/?x=1", "https://shop.example:0", "https://shop.example:99999", "https://*.example", "https://a b", "http://[::1", "https://%73hop.example%20/"} {
		_, err := Run(t.Context(), s, nil, Options{})
		if err == nil {
			t.Errorf("%q was probed", s)
		} else if strings.Contains(err.Error(), "geheim") {
			t.Errorf("%q: the error repeats the password: %v", s, err)
		}
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	site := "http://" + l.Addr().String()
	l.Close()
	_, err = Run(t.Context(), site, []*Check{check(1, func(context.Context, *Client) []Answer { t.Error("asked"); return nil })}, fast)
	if err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), site) {
		t.Errorf("err = %v: want one line that names the site", err)
	}
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	_, err = Run(t.Context(), strings.Replace(s.URL, "http:", "https:", 1), nil, fast)
	if err == nil || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("https to a cleartext port: %v", err)
	}
}

// TestNothingLeavesForAnotherHost tries every way in which a site or a check
// could send the client elsewhere.
func TestNothingLeavesForAnotherHost(t *testing.T) {
	var strangers atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strangers.Add(1) }))
	defer other.Close()
	_, otherPort, _ := net.SplitHostPort(other.Listener.Addr().String())
	t.Setenv("HTTP_PROXY", other.URL)
	t.Setenv("ALL_PROXY", other.URL)

	var own atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own.Add(1)
		http.Redirect(w, r, other.URL+"/stolen", http.StatusFound)
	}))
	defer s.Close()

	r := run(t, s.URL, fast, check(30, func(ctx context.Context, c *Client) []Answer {
		for _, p := range []string{"/", "//" + other.Listener.Addr().String() + "/", "/\\" + other.Listener.Addr().String(), "/@" + other.Listener.Addr().String()} {
			if _, err := c.Get(ctx, p); err != nil {
				t.Errorf("%s: %v", p, err)
			}
		}
		if _, err := c.Visit(ctx, "/"); err != nil {
			t.Errorf("Visit: %v", err)
		}
		res, err := c.Do(ctx, Request{Path: "/", Host: other.Listener.Addr().String()})
		if err != nil || res.Status != http.StatusFound {
			t.Errorf("Host: %v", err)
		}
		if _, err := c.Raw(ctx, RawRequest{Target: "/", Host: other.Listener.Addr().String()}); err != nil {
			t.Errorf("Raw: %v", err)
		}
		if _, _, err := c.Route(ctx); err != nil {
			t.Errorf("Route: %v", err)
		}
		for _, p := range []string{other.URL, other.URL + "/x", "", "x", "*", "http:/x", "/a\r\nHost: b"} {
			if _, err := c.Get(ctx, p); err == nil {
				t.Errorf("%q was sent", p)
			}
			if _, err := c.Raw(ctx, RawRequest{Target: p}); err == nil && p != "x" && p != "*" && p != "http:/x" {
				t.Errorf("raw %q was sent", p)
			}
		}
		for _, q := range []RawRequest{
			{Target: "/", Header: []string{"A: b\r\nC: d"}}, {Target: "/", Header: []string{"A: b\n\nGET / HTTP/1.1"}},
			{Target: "/", Header: []string{"Content-Length: 5"}}, {Target: "/", Header: []string{"transfer-encoding: chunked"}},
			{Target: "/", Host: "a\r\nb: c"}, {Method: "GET / HTTP/1.1\r\nX: y\r\n\r\nGET", Target: "/"},
		} {
			if _, err := c.Raw(ctx, q); err == nil {
				t.Errorf("%+v was sent", q)
			}
		}
		if _, err := c.Do(ctx, Request{Path: "/", Cleartext: true}); !errors.Is(err, ErrNoCleartext) {
			t.Errorf("cleartext: %v", err)
		}
		if conn, err := c.dial(ctx, mustPort(t, otherPort)); err == nil {
			conn.Close()
			t.Error("dialled another port")
		}
		return []Answer{{Outcome: evidence.Pass, Summary: "asked", URL: c.URL("/")}}
	}))
	if own.Load() == 0 || strangers.Load() != 0 {
		t.Errorf("%d requests to the site, %d to a stranger", own.Load(), strangers.Load())
	}
	if o, _ := evidence.Worst(r.Evidence()); o != evidence.Pass {
		t.Errorf("%+v", r.Evidence())
	}
}

func mustPort(t *testing.T, s string) uint16 {
	t.Helper()
	var p uint16
	if _, err := fmt.Sscan(s, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBudgets(t *testing.T) {
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { n.Add(1) }))
	defer s.Close()
	greedy := func(ctx context.Context, c *Client) []Answer {
		for range 50 {
			if _, err := c.Get(ctx, "/"); err != nil {
				if !errors.Is(err, ErrBudget) {
					t.Errorf("err = %v", err)
				}
				return nil
			}
		}
		t.Error("never stopped")
		return nil
	}
	o := fast
	o.Budget = 10
	r := run(t, s.URL, o, check(7, greedy), check(7, greedy), check(7, greedy))
	if n.Load() != 10 || r.Requests != 10 || r.Results[0].Requests != 7 || r.Results[1].Requests != 3 || r.Results[2].Requests != 0 {
		t.Errorf("%d arrived; report %d: %d, %d, %d", n.Load(), r.Requests, r.Results[0].Requests, r.Results[1].Requests, r.Results[2].Requests)
	}
	for _, e := range r.Evidence() {
		if e.Outcome != evidence.Error {
			t.Errorf("a check without an answer is %s", e.Outcome)
		}
	}
	// A burst is bounded, too, and gives back what it did not need.
	n.Store(0)
	o.Budget, o.Burst = 100, 20
	r = run(t, s.URL, o, check(50, func(ctx context.Context, c *Client) []Answer {
		all, err := c.Repeat(ctx, 1000, Request{Path: "/"}, func(*Response) bool { return false })
		if err != nil || len(all) != 20 {
			t.Errorf("%d answers, %v", len(all), err)
		}
		all, err = c.Repeat(ctx, 1000, Request{Path: "/"}, func(*Response) bool { return true })
		if err != nil || len(all) == 0 || len(all) > 4 {
			t.Errorf("%d answers, %v", len(all), err)
		}
		return nil
	}))
	if int(n.Load()) > r.Requests || r.Requests > 24 {
		t.Errorf("%d arrived, %d counted", n.Load(), r.Requests)
	}
}

func TestPace(t *testing.T) {
	var at []time.Time
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { at = append(at, time.Now()) }))
	defer s.Close()
	run(t, s.URL, Options{Rate: 50}, check(6, func(ctx context.Context, c *Client) []Answer {
		for range 6 {
			if _, err := c.Get(ctx, "/"); err != nil {
				t.Error(err)
			}
		}
		return nil
	}))
	if len(at) != 6 || at[5].Sub(at[0]) < 85*time.Millisecond {
		t.Errorf("6 requests at 50/s took %s", at[len(at)-1].Sub(at[0]))
	}
}

func TestWrites(t *testing.T) {
	var methods []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { methods = append(methods, r.Method) }))
	defer s.Close()
	try := func(ctx context.Context, c *Client) []Answer {
		for _, m := range []string{"POST", "DELETE", "TRACE", "post"} {
			_, err := c.Do(ctx, Request{Method: m, Path: "/"})
			_, err2 := c.Raw(ctx, RawRequest{Method: m, Target: "/"})
			_, err3 := c.Repeat(ctx, 1, Request{Method: m, Path: "/"}, func(*Response) bool { return false })
			for _, err := range []error{err, err2, err3} {
				if !errors.Is(err, ErrWrites) {
					t.Errorf("%s: %v", m, err)
				}
			}
		}
		return nil
	}
	o := fast
	o.Writes = true
	run(t, s.URL, o, check(20, try)) // the check has not declared it
	k := check(20, func(context.Context, *Client) []Answer { t.Error("run although writes are off"); return nil })
	k.Writes = true
	r := run(t, s.URL, fast, k)
	if len(methods) != 0 {
		t.Errorf("sent %v", methods)
	}
	if e := r.Evidence()[0]; e.Outcome != evidence.Error || !strings.Contains(e.Summary, "writing") || len(r.Notes) != 1 {
		t.Errorf("%+v, notes %q", e, r.Notes)
	}
}

func TestPanicCancelAndOrder(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var order []string
	mk := func(id string, f func()) *Check {
		return &Check{ID: id, Control: "csrf", Requests: 1, Run: func(context.Context, *Client) []Answer {
			order = append(order, id)
			f()
			return []Answer{{Outcome: evidence.Pass, Summary: "Looked.", URL: s.URL + "/"}}
		}}
	}
	last := mk("last", func() {})
	last.Last = true
	r, err := Run(ctx, s.URL, []*Check{last, mk("a", func() {}), mk("b", func() { panic("boom") }), mk("c", cancel), mk("d", func() {})}, fast)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "a b c" {
		t.Errorf("ran %s", got)
	}
	var got []string
	for i, e := range r.Evidence() {
		got = append(got, r.Results[i].Check.ID+"="+e.Outcome.String())
	}
	if want := "last=error a=pass b=error c=pass d=error"; strings.Join(got, " ") != want {
		t.Errorf("got %s\nwant %s", strings.Join(got, " "), want)
	}
	if e := r.Evidence()[2]; !strings.Contains(e.Summary, "boom") {
		t.Errorf("panic: %q", e.Summary)
	}
	if e := r.Evidence()[4]; !strings.Contains(e.Summary, "interrupted") {
		t.Errorf("cancelled: %q", e.Summary)
	}
}

func TestCertificateNotTrusted(t *testing.T) {
	var n atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { n.Add(1) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	get := check(2, func(ctx context.Context, c *Client) []Answer {
		r, err := c.Get(ctx, "/")
		if err != nil {
			return []Answer{{Summary: err.Error()}}
		}
		return []Answer{{Outcome: evidence.Pass, Summary: r.Proto, URL: r.URL}}
	})
	o := fast
	o.RootCAs = x509.NewCertPool()
	r := run(t, s.URL, o, get)
	if n.Load() != 0 || r.Evidence()[0].Outcome != evidence.Error || len(r.Notes) == 0 || !strings.Contains(r.Notes[0], "not trusted") {
		t.Errorf("%d requests sent to an untrusted site; %+v; %q", n.Load(), r.Evidence(), r.Notes)
	}
	o.Insecure = true
	r = run(t, s.URL, o, get)
	if n.Load() != 1 || r.Evidence()[0].Outcome != evidence.Pass || !strings.Contains(strings.Join(r.Notes, " "), "not verified") {
		t.Errorf("insecure: %+v, notes %q", r.Evidence(), r.Notes)
	}
	o = fast
	o.RootCAs = x509.NewCertPool()
	o.RootCAs.AddCert(s.Certificate())
	if r = run(t, s.URL, o, get); r.Evidence()[0].Outcome != evidence.Pass || strings.Contains(strings.Join(r.Notes, " "), "certificate") {
		t.Errorf("trusted: %+v, notes %q", r.Evidence(), r.Notes)
	}
}

func TestVantage(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	guarded := func(k []byte) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			path, _, _ := strings.Cut(r.RequestURI, "?")
			if a, ok := evidence.VerifyProbe(k, time.Now(), r.Header.Get(evidence.ProbeHeader), r.Host, path); ok {
				w.Header().Set(evidence.GuardHeader, a)
			}
		})
	}
	ask := check(4, func(ctx context.Context, c *Client) []Answer {
		r, err := c.Get(ctx, "/a%2fb?q=1")
		if err != nil {
			return []Answer{{Summary: err.Error()}}
		}
		r2, err := c.Raw(ctx, RawRequest{Target: "/raw/../x"})
		if err != nil {
			return []Answer{{Summary: err.Error()}}
		}
		return []Answer{{Outcome: evidence.Pass, Summary: "a", URL: r.URL}, {Outcome: evidence.Pass, Summary: "b", URL: r2.URL}, {Outcome: evidence.Pass, Summary: "both"}}
	})
	for _, x := range []struct {
		name      string
		probe     []byte
		guard     http.Handler
		want, raw evidence.Vantage
	}{
		{"through", key, guarded(key), evidence.ThroughGuard, evidence.ThroughGuard},
		{"no guard", key, http.NotFoundHandler(), evidence.AroundGuard, evidence.VantageUnknown},
		{"another guard", key, guarded([]byte("other")), evidence.AroundGuard, evidence.VantageUnknown},
		{"a liar", key, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(evidence.GuardHeader, r.Header.Get(evidence.ProbeHeader))
		}), evidence.AroundGuard, evidence.VantageUnknown},
		{"no key", nil, guarded(key), evidence.VantageUnknown, evidence.VantageUnknown},
	} {
		for _, tls := range []bool{false, true} {
			s := httptest.NewUnstartedServer(x.guard)
			o := fast
			o.Key = x.probe
			if tls {
				s.EnableHTTP2 = true
				s.StartTLS()
				o.Insecure = true
			} else {
				s.Start()
			}
			e := run(t, s.URL, o, ask).Evidence()
			s.Close()
			if len(e) != 3 || e[0].Vantage != x.want || e[1].Vantage != x.raw || e[2].Vantage != x.want {
				t.Errorf("%s, TLS %v: %+v", x.name, tls, e)
			}
		}
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"Set-Cookie: session=eyJhIjoxfQ.aaaa.bbbbbbbbbb; Secure; HttpOnly": "Set-Cookie: session=[redacted]; Secure; HttpOnly",
		"set-cookie: a=; Max-Age=0":                                        "set-cookie: a=; Max-Age=0",
		"Cookie: a=1; b=2":                                                 "Cookie: a=[redacted]; b=[redacted]",
		"Set-Cookie: naked":                                                "Set-Cookie: [redacted]",
		"Location: /\x1b[31mred":                                           "Location: /·[31mred",
		"Strict-Transport-Security: max-age=86400":                         "Strict-Transport-Security: max-age=86400",
		"a\nSet-Cookie: s=geheim":                                          "a\nSet-Cookie: s=[redacted]",
	} {
		if got := redact(in); got != want {
			t.Errorf("redact(%q)\n got %q\nwant %q", in, got, want)
		}
	}
	if s := redact(strings.Repeat("Set-Cookie: s=geheim; x\n", 1000)); strings.Contains(s, "geheim") || len(s) > maxSeen+10 {
		t.Errorf("%d bytes: %q", len(s), s)
	}
}

// TestHostileSite: whatever a site answers costs a check, never the run.
func TestHostileSite(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"endless body": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		},
		"breaks off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("x"))
			panic(http.ErrAbortHandler)
		},
		"no answer": func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"silence": func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
		},
		"loop": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/x"+r.URL.Path, http.StatusFound)
		},
		"huge header": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("a", 1<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(h)
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			s.Start()
			defer s.Close()
			o := fast
			o.Timeout, o.MaxBody = 300*time.Millisecond, 1<<18
			start := time.Now()
			r := run(t, s.URL, o, check(9, func(ctx context.Context, c *Client) []Answer {
				res, err := c.Visit(ctx, "/")
				if err == nil && name == "endless body" && (!res.Truncated || len(res.Body) != 1<<18) {
					t.Errorf("read %d bytes", len(res.Body))
				}
				if err == nil && name != "endless body" && name != "breaks off" {
					t.Errorf("no error: %+v", res)
				}
				c.Login(ctx)
				c.Cookies(ctx)
				return nil
			}))
			if e := r.Evidence(); len(e) != 1 || e[0].Outcome != evidence.Error {
				t.Errorf("%+v", e)
			}
			if d := time.Since(start); d > time.Minute {
				t.Errorf("took %s", d)
			}
			s.CloseClientConnections()
		})
	}
}

func TestExposed(t *testing.T) {
	git := File{Path: "/.git/HEAD", What: "the repository", Looks: func(b []byte) bool { return strings.HasPrefix(string(b), "ref: refs/") }}
	other := File{Path: "/x", What: "x", Looks: func(b []byte) bool { return strings.HasPrefix(string(b), "ref: refs/") }}
	var mu sync.Mutex
	for _, x := range []struct {
		name string
		h    http.HandlerFunc
		want evidence.Outcome
	}{
		{"served", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/.git/HEAD" {
				io.WriteString(w, "ref: refs/heads/main\n")
				return
			}
			if r.URL.Path != "/" {
				http.NotFound(w, r)
			}
		}, evidence.Fail},
		{"hidden", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/" {
				http.NotFound(w, r)
			}
		}, evidence.Pass},
		{"page for everything", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>app</html>") }, evidence.Pass},
		{"the very text for everything", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ref: refs/heads/main "+r.URL.Path) }, evidence.Pass},
		{"limits the probe", func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/.git") {
				w.WriteHeader(429)
			}
		}, evidence.Error},
		{"turns the probe away", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) }, evidence.Error},
	} {
		mu.Lock()
		s := httptest.NewServer(x.h)
		r := run(t, s.URL, fast, check(9, func(ctx context.Context, c *Client) []Answer { return c.Exposed(ctx, []File{git, other}) }))
		s.Close()
		mu.Unlock()
		if got, _ := evidence.Worst(r.Evidence()); got != x.want {
			t.Errorf("%s: %+v", x.name, r.Evidence())
		}
	}
}

const loginPage = `<!doctype html><title> Shop &amp; Co </title><meta HTTP-EQUIV=content-security-policy content="default-src 'self'">
<script src=/static/a.js integrity=sha256-x></script><script>1 < 2; "<form method=post><input type=password name=no>"</script>
<a href=/auth/login?next=/>Log in</a><link rel="stylesheet preload" href=/static/a.css>
<form method=POST action="/auth/login"><input name=csrf_token type=hidden value="abc.def"><input name=user><input type=PASSWORD name=pw><button name=go>`

func TestParsePage(t *testing.T) {
	p := ParsePage([]byte(loginPage))
	if len(p.Forms) != 1 || !p.Forms[0].Password() || p.Forms[0].Method != "POST" || len(p.Forms[0].Fields) != 4 {
		t.Fatalf("forms %+v", p.Forms)
	}
	if f, ok := p.Forms[0].Token(); !ok || f.Value != "abc.def" {
		t.Errorf("token %+v", f)
	}
	if len(p.Scripts) != 2 || p.Scripts[0].Integrity == "" || !p.Scripts[1].Inline || len(p.Meta) != 1 || len(p.Styles) != 1 || len(p.Links) != 1 || p.Title != "Shop & Co" {
		t.Errorf("%+v", p)
	}
}

func FuzzParsePage(f *testing.F) {
	f.Add([]byte(loginPage))
	f.Add([]byte("<form><form><input name=a></form><script><!--<script></script>"))
	f.Add([]byte("<meta http-equiv=\x00><title>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := ParsePage(b)
		for _, x := range p.Forms {
			if x.Method != "GET" && x.Method != "POST" {
				t.Errorf("method %q", x.Method)
			}
			x.Token()
		}
	})
}

func FuzzRedact(f *testing.F) {
	f.Add("session", "geheim12345", "; Secure")
	f.Add("a\nSet-Cookie: b", "x y", "\n")
	f.Fuzz(func(t *testing.T, name, value, rest string) {
		if strings.ContainsAny(name+value, ";=\r\n") || len(value) < 6 || strings.Contains("Set-Cookie: [redacted]"+name+rest, value) {
			t.Skip()
		}
		if got := redact("Set-Cookie: " + name + "=" + value + "; " + rest); strings.Contains(got, value) {
			t.Errorf("%q", got)
		}
	})
}
