package deployment

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dewar-security/dewar/internal/guard"
)

// parse reads a request as net/http's server does, from the bytes a client
// sends.
func parse(t testing.TB, raw string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	r.RemoteAddr = "192.0.2.9:4711"
	return r
}

func get(t testing.TB, target string, fields ...string) *http.Request {
	t.Helper()
	return parse(t, "GET "+target+" HTTP/1.1\r\nHost: shop.example\r\n"+strings.Join(append(fields, ""), "\r\n")+"\r\n")
}

func newRequest(t testing.TB, cfg Config) guard.Layer {
	t.Helper()
	l, err := NewRequest(cfg, guard.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// documented fails the test when a layer gives a reason its Spec does not
// explain.
func documented(t testing.TB, s *guard.Spec, d guard.Decision) {
	t.Helper()
	if d.Verdict == guard.Allow {
		return
	}
	if !slices.ContainsFunc(s.Reasons, func(r guard.Reason) bool { return r.Name == d.Reason && r.Why != "" && r.Fix != "" }) {
		t.Errorf("layer %s gives the reason %q, which it does not document", s.Name, d.Reason)
	}
}

func TestRequestPath(t *testing.T) {
	l := newRequest(t, Config{})
	for _, tt := range []struct{ target, reason string }{
		// Attacks.
		{"/a/../admin", "request-path"},
		{"/a/./admin", "request-path"},
		{"/..", "request-path"},
		{"/a/%2e%2e/admin", "request-path"},
		{"/a/.%2E/admin", "request-path"},
		{"/a/%2e/admin", "request-path"},
		{"/a/..;/admin", "request-path"},
		{"/a/..;x=1/admin", "request-path"},
		{"/a/%2e%2e%3b/admin", "request-path"},
		{"/a%2fadmin", "request-path"},
		{"/a%2Fadmin", "request-path"},
		{"/a%5cadmin", "request-path"},
		{"/a%5C..%5Cadmin", "request-path"},
		{`/a\admin`, "request-path"},
		{"/admin%00.png", "request-path"},
		{"/a%0d%0aSet-Cookie:x", "request-path"},
		{"/a%09b", "request-path"},
		{"/a%7fb", "request-path"},
		{"//admin", "request-path"},
		{"//evil.example/..", "request-path"},
		{"/%252e%252e/admin", "request-path"},
		{"/static/%252e%252e%252fapp.py", "request-path"},
		{"/static/%25252e%25252e%25252fapp.py", "request-path"},
		{"/static/..%255capp.py", "request-path"},
		{"/a%2500.png", "request-path"},
		{"/%252e./%zz", ""}, // net/http refuses it itself, see below
		{"/caf%e9", "request-encoding"},
		{"/%c0%ae%c0%ae/admin", "request-encoding"}, // overlong dots
		{"/%c0%af", "request-encoding"},
		{"/%ed%a0%80", "request-encoding"}, // a surrogate
		{"/%ff", "request-encoding"},
		{"/caf\u00e9", "request-target"},
		{"/a#b", "request-target"},
		{"/search?q=caf\u00e9", "request-target"},
		{"*", "request-target"},
		{"http://shop.example/", "request-target"},
		{"ftp://shop.example/", "request-target"},
		{"/" + strings.Repeat("a", maxTarget), "request-limit"},
		{"/?" + strings.Repeat("a&", maxParameters), "request-limit"},
		// What honest clients send.
		{"/", ""},
		{"/index.html", ""},
		{"/a//b", ""},
		{"/redirect/https://example.com/x", ""},
		{"/redirect/https%253A%252F%252Fexample.com%252F", ""},
		{"/wiki/100%25", ""},
		{"/wiki/100%25%20sure", ""},
		{"/wiki/.NET", ""},
		{"/wiki/...", ""},
		{"/wiki/a..b", ""},
		{"/v1.2/..x", ""},
		{"/file.tar.gz;v=1", ""},
		{"/a;jsessionid=1", ""},
		{"/caf%C3%A9", ""},
		{"/%E6%97%A5%E6%9C%AC", ""},
		{"/a%20b", ""},
		{"/a+b", ""},
		{"/a|b^c[d]", ""},
		{"/~alice/@bob/$x,y=z!'()*", ""},
		{"/search?q=../../etc/passwd%00&u=https://x/%2f", ""}, // data: the WAF's business
		{"/search?path=C:\\x&q=%zz", ""},
		{"/?a=1;b=2", ""},
		{"/?" + strings.Repeat("a&", maxParameters-1), ""},
		{"/" + strings.Repeat("a", maxTarget-1), ""},
	} {
		if strings.Contains(tt.target, "%zz") && !strings.Contains(tt.target, "?") {
			if _, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + tt.target + " HTTP/1.1\r\nHost: a\r\n\r\n"))); err == nil {
				t.Errorf("net/http now accepts %q", tt.target)
			}
			continue
		}
		r := get(t, tt.target)
		x := &guard.Exchange{Request: r}
		d := l.Request(x)
		documented(t, requestSpec, d)
		if d.Reason != tt.reason {
			t.Errorf("GET %.80s: reason %q (%s), want %q", tt.target, d.Reason, d.Detail, tt.reason)
		}
		if d.Verdict == guard.Allow {
			path, query, _ := strings.Cut(tt.target, "?")
			want, err := url.PathUnescape(path)
			if err != nil || x.Path != want {
				t.Errorf("GET %.80s: Path %q, want %q", tt.target, x.Path, want)
			}
			if r.URL.RawQuery != query {
				t.Errorf("GET %.80s: query %q, want %q", tt.target, r.URL.RawQuery, query)
			}
			// What a proxy writes from URL must decode to the same path.
			out, _, _ := strings.Cut(r.URL.RequestURI(), "?")
			if got, err := url.PathUnescape(out); err != nil || got != x.Path {
				t.Errorf("GET %.80s: forwarded as %q, which is %q to the app, not %q", tt.target, out, got, x.Path)
			}
		} else if tt.reason == "request-path" && x.Path == "" {
			t.Errorf("GET %s: no path to match overrides on", tt.target)
		}
	}
}

func TestRequestMethodAndHost(t *testing.T) {
	l := newRequest(t, Config{})
	for _, tt := range []struct {
		raw    string
		reason string
		status int
	}{
		{"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n", "", 0},
		{"GET / HTTP/1.1\r\nHost: SHOP.example.:8443\r\n\r\n", "", 0},
		{"GET / HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n", "", 0},
		{"PATCH / HTTP/1.1\r\nHost: a\r\n\r\n", "", 0},
		{"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "request-method", 405},
		{"TRACK / HTTP/1.1\r\nHost: a\r\n\r\n", "request-method", 405},
		{"get / HTTP/1.1\r\nHost: a\r\n\r\n", "request-method", 405},
		{"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n", "request-method", 405},
		{"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n", "request-method", 405},
		{"PRI * HTTP/2.0\r\n\r\n", "request-method", 405},
		{"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "request-target", 400},
		{"GET http://other.example/ HTTP/1.1\r\nHost: shop.example\r\n\r\n", "request-target", 400},
		{"GET / HTTP/1.1\r\nHost:\r\n\r\n", "request-host", 400},
		{"GET / HTTP/1.0\r\n\r\n", "request-host", 400},
		{"GET / HTTP/1.1\r\nHost: shop.example:99999\r\n\r\n", "request-host", 400},
		{"GET / HTTP/1.1\r\nHost: shop.example:abc\r\n\r\n", "request-host", 400},
		{"GET / HTTP/1.1\r\nHost: shop.example:\r\n\r\n", "request-host", 400},
		{"GET / HTTP/1.1\r\nHost: user@shop.example\r\n\r\n", "request-host", 400},
		{"GET / HTTP/1.1\r\nHost: shop.example, evil.example\r\n\r\n", "request-host", 400},
		{"GET / HTTP/1.1\r\nHost: shop.example/x\r\n\r\n", "request-host", 400},
		{"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "request-host", 400},
	} {
		d := l.Request(&guard.Exchange{Request: parse(t, tt.raw)})
		documented(t, requestSpec, d)
		if d.Reason != tt.reason || d.Status != tt.status {
			t.Errorf("%q: %d %q, want %d %q", tt.raw, d.Status, d.Reason, tt.status, tt.reason)
		}
		if d.Status == 405 && d.Header.Get("Allow") != "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" {
			t.Errorf("%q: Allow %q", tt.raw, d.Header.Get("Allow"))
		}
	}
	// HTTP/2 with a second opinion about the host.
	r := get(t, "/")
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	r.Header["Host"] = []string{"evil.example"}
	if d := l.Request(&guard.Exchange{Request: r}); d.Reason != "request-host" {
		t.Errorf("HTTP/2 with another Host: %q", d.Reason)
	}
	r = get(t, "/")
	r.Header["Host"] = []string{"Shop.Example"}
	if d := l.Request(&guard.Exchange{Request: r}); d.Verdict != guard.Allow || r.Header["Host"] != nil {
		t.Errorf("HTTP/2 with the same Host: %q, %v", d.Reason, r.Header)
	}
	for _, m := range []string{"TRACE", "CONNECT", "PRI", "", "get", "A B"} {
		if _, err := NewRequest(Config{Methods: []string{"GET", m}}, guard.Env{}); err == nil {
			t.Errorf("the method %q can be allowed", m)
		}
	}
}

func TestRequestFields(t *testing.T) {
	l := newRequest(t, Config{})
	r := get(t, "/foo/admin",
		"SCRIPT_NAME: /foo", "Script_Name: /foo", "script_name: /foo", "Script-Name: /foo", "PATH_INFO: /admin", "Path-Info: /admin",
		"X_Forwarded_For: 6.6.6.6", "X_Auth_User: admin", "Remote_User: admin", "Content_Length: 7", "_: x", "X-Api_Key: x",
		"Proxy: http://evil.example", "X-Original-URL: /admin", "X-Rewrite-URL: /admin",
		"X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE",
		"Connection: X-Forwarded-For, Cookie, close, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__",
		"TE: trailers", "Trailer: X-Forwarded-For", "Proxy-Connection: keep-alive", "Keep-Alive: timeout=5", "Expect: 100-continue",
		"X-Forwarded-For: 203.0.113.5", "Cookie: a=1", "Cookie: b=2", "X-Api-Key: k", "X-Auth-Token: t", "X.Dotted: d",
		"Range: bytes=0-1,2-3", "Accept: */*")
	d := l.Request(&guard.Exchange{Request: r})
	if d.Verdict != guard.Allow {
		t.Fatalf("%+v", d)
	}
	want := http.Header{
		"X-Forwarded-For": {"203.0.113.5"}, // the client layer's to judge
		"Cookie":          {"a=1; b=2"},
		"X-Api-Key":       {"k"}, "X-Auth-Token": {"t"}, "X.dotted": {"d"},
		"Range": {"bytes=0-1,2-3"}, "Accept": {"*/*"},
	}
	if got, want := fmt.Sprint(r.Header), fmt.Sprint(want); got != want {
		t.Errorf("left for the app:\n%v\nwant:\n%v", got, want)
	}
	if got := l.(guard.Reporter).Describe(); !strings.Contains(got, "; 24 header fields") {
		t.Errorf("Describe: %s", got)
	}

	r = get(t, "/", "Range: bytes=0-0"+strings.Repeat(",0-0", maxRanges), "If-Range: x")
	if d := l.Request(&guard.Exchange{Request: r}); d.Verdict != guard.Allow || len(r.Header) != 0 {
		t.Errorf("many ranges: %q, %v", d.Reason, r.Header)
	}

	for _, f := range []string{"Content-Type: text/plain", "Authorization: Bearer x", "Origin: https://shop.example", "Sec-Fetch-Site: same-origin", "Referer: /"} {
		d := l.Request(&guard.Exchange{Request: get(t, "/", f, f)})
		documented(t, requestSpec, d)
		if d.Reason != "request-repeated" {
			t.Errorf("twice %s: %q", f, d.Reason)
		}
	}
	if d := l.Request(&guard.Exchange{Request: get(t, "/", "Accept: a", "Accept: b", "X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 2.2.2.2")}); d.Verdict != guard.Allow {
		t.Errorf("fields that may be repeated: %+v", d)
	}

	many := make([]string, maxFields+1)
	for i := range many {
		many[i] = fmt.Sprintf("X-%d: 1", i)
	}
	if d := l.Request(&guard.Exchange{Request: get(t, "/", many...)}); d.Status != 431 {
		t.Errorf("%d fields: %+v", len(many), d)
	}
	if d := l.Request(&guard.Exchange{Request: get(t, "/", many[:maxFields]...)}); d.Verdict != guard.Allow {
		t.Errorf("%d fields: %+v", maxFields, d)
	}

	// A refused request is clean all the same: observe mode sends it on.
	r = get(t, "/a/../b", "SCRIPT_NAME: /a")
	if d := l.Request(&guard.Exchange{Request: r}); d.Reason != "request-path" || len(r.Header) != 0 {
		t.Errorf("observed request: %q, %v", d.Reason, r.Header)
	}
}

func TestRequestUpgrade(t *testing.T) {
	l := newRequest(t, Config{})
	ws := []string{"Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"}
	r := get(t, "/ws", ws...)
	if d := l.Request(&guard.Exchange{Request: r}); d.Verdict != guard.Allow || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" {
		t.Errorf("WebSocket handshake: %+v, %v", d, r.Header)
	}
	for _, tt := range []struct {
		raw    string
		reason string
	}{
		{"POST /ws HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n" + strings.Join(ws, "\r\n") + "\r\n\r\n", "request-upgrade"},
		{"GET /ws HTTP/1.0\r\nHost: a\r\n" + strings.Join(ws, "\r\n") + "\r\n\r\n", "request-upgrade"},
		{"GET /ws HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n" + strings.Join(ws, "\r\n") + "\r\n\r\nabc", "request-upgrade"},
		{"GET /ws HTTP/1.1\r\nHost: a\r\n" + strings.Join(ws[:3], "\r\n") + "\r\nSec-WebSocket-Version: 777\r\n\r\n", "request-upgrade"},
		{"GET /ws HTTP/1.1\r\nHost: a\r\n" + strings.Join(ws[1:], "\r\n") + "\r\n\r\n", ""}, // not named in Connection: ignored
		{"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n", ""},
		{"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", ""},
		{"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: TLS/1.0\r\n\r\n", ""},
	} {
		r := parse(t, tt.raw)
		d := l.Request(&guard.Exchange{Request: r})
		documented(t, requestSpec, d)
		if d.Reason != tt.reason || r.Header.Get("Upgrade") != "" || r.Header.Get("Connection") != "" {
			t.Errorf("%q: %q, Upgrade %q, Connection %q", tt.raw, d.Reason, r.Header.Get("Upgrade"), r.Header.Get("Connection"))
		}
	}
}

func TestRequestClosesHTTP10(t *testing.T) {
	l := newRequest(t, Config{}).(guard.Responder)
	for _, tt := range []struct{ raw, want string }{
		{"POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", "close"},
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	} {
		resp := &http.Response{Header: http.Header{}}
		l.Response(&guard.Exchange{Request: parse(t, tt.raw)}, resp)
		if got := resp.Header.Get("Connection"); got != tt.want {
			t.Errorf("%q: Connection %q, want %q", tt.raw, got, tt.want)
		}
	}
}

func TestClient(t *testing.T) {
	l, err := NewClient(Config{TrustedProxy: []string{"10.0.0.0/8", "2001:db8:ffff::/48", "::1"}, TrustedHeader: []string{"x-auth-request-user", "X-Forwarded-Prefix"}}, guard.Env{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, remote string
		tls          bool
		fields       []string
		addr, scheme string
		host         string
		trusted      bool
	}{
		{"direct", "192.0.2.9:1", true, nil, "192.0.2.9", "https", "shop.example", false},
		{"a stranger lies", "192.0.2.9:1", false, []string{"X-Forwarded-For: 10.0.0.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example", "X-Real-IP: 1.1.1.1", "Forwarded: for=1.1.1.1"}, "192.0.2.9", "http", "shop.example", false},
		{"one proxy", "10.0.0.1:1", false, []string{"X-Forwarded-For: 203.0.113.5", "X-Forwarded-Proto: https", "X-Forwarded-Host: Shop.Example:8443"}, "203.0.113.5", "https", "shop.example:8443", true},
		{"proxy appends to a lie", "10.0.0.1:1", false, []string{"X-Forwarded-For: 1.1.1.1, 203.0.113.5", "X-Forwarded-Proto: https, http"}, "203.0.113.5", "http", "shop.example", true},
		{"the lie is a trusted address", "10.0.0.1:1", false, []string{"X-Forwarded-For: 10.9.9.9,203.0.113.5"}, "203.0.113.5", "http", "shop.example", true},
		{"two proxies", "10.0.0.1:1", false, []string{"X-Forwarded-For: 6.6.6.6, 203.0.113.5, 10.0.0.2", "X-Forwarded-Proto: http, https, http", "X-Forwarded-Host: evil.example, shop.example, inner.example"}, "203.0.113.5", "https", "shop.example", true},
		{"several lines", "10.0.0.1:1", false, []string{"X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 203.0.113.5", "X-Forwarded-For: 10.0.0.2"}, "203.0.113.5", "http", "shop.example", true},
		{"all trusted", "10.0.0.1:1", false, []string{"X-Forwarded-For: 10.0.0.3, 10.0.0.2"}, "10.0.0.3", "http", "shop.example", true},
		{"nothing said", "10.0.0.1:1", false, nil, "10.0.0.1", "http", "shop.example", true},
		{"garbage", "10.0.0.1:1", false, []string{"X-Forwarded-For: 1.1.1.1, unknown"}, "10.0.0.1", "http", "shop.example", true},
		{"garbage behind a proxy", "10.0.0.1:1", false, []string{"X-Forwarded-For: 1.1.1.1, <script>, 10.0.0.2"}, "10.0.0.2", "http", "shop.example", true},
		{"empty entries", "10.0.0.1:1", false, []string{"X-Forwarded-For: 1.1.1.1, ,"}, "10.0.0.1", "http", "shop.example", true},
		{"port", "10.0.0.1:1", false, []string{"X-Forwarded-For: 203.0.113.5:4711"}, "203.0.113.5", "http", "shop.example", true},
		{"IPv6", "[2001:db8:ffff::1]:1", false, []string{"X-Forwarded-For: 2001:db8::5"}, "2001:db8::5", "http", "shop.example", true},
		{"IPv6 with port", "[::1]:1", false, []string{`X-Forwarded-For: "[2001:db8::5]:47"`}, "2001:db8::5", "http", "shop.example", true},
		{"IPv6 in brackets", "[::1]:1", false, []string{"X-Forwarded-For: [2001:db8::5]"}, "2001:db8::5", "http", "shop.example", true},
		{"IPv6 with zone", "[::1]:1", false, []string{"X-Forwarded-For: fe80::1%eth0"}, "fe80::1", "http", "shop.example", true},
		{"mapped peer", "[::ffff:10.0.0.1]:1", false, []string{"X-Forwarded-For: ::ffff:203.0.113.5"}, "203.0.113.5", "http", "shop.example", true},
		{"zoned peer", "[fe80::1%eth0]:1", true, []string{"X-Forwarded-For: 1.1.1.1"}, "fe80::1", "https", "shop.example", false},
		{"bad scheme", "10.0.0.1:1", true, []string{"X-Forwarded-Proto: javascript"}, "10.0.0.1", "https", "shop.example", true},
		{"bad host", "10.0.0.1:1", true, []string{"X-Forwarded-Host: evil.example/x@y"}, "10.0.0.1", "https", "shop.example", true},
		{"endless list", "10.0.0.1:1", false, []string{"X-Forwarded-For: 203.0.113.5" + strings.Repeat(",10.0.0.2", 10000)}, "10.0.0.2", "http", "shop.example", true},
	} {
		r := get(t, "/", tt.fields...)
		r.RemoteAddr = tt.remote
		if tt.tls {
			r.TLS = &tls.ConnectionState{}
		}
		x := &guard.Exchange{Request: r}
		if d := l.Request(x); d.Verdict != guard.Allow {
			t.Errorf("%s: %+v", tt.name, d)
		}
		c := x.Client
		if c.Addr.String() != tt.addr || c.Scheme != tt.scheme || c.Host != tt.host || c.TrustedPeer != tt.trusted {
			t.Errorf("%s: %+v", tt.name, c)
		}
		want := http.Header{"X-Forwarded-For": {tt.addr}, "X-Real-Ip": {tt.addr}, "X-Forwarded-Proto": {tt.scheme}, "X-Forwarded-Host": {tt.host}}
		if fmt.Sprint(r.Header) != fmt.Sprint(want) || r.Host != tt.host {
			t.Errorf("%s: the app is told %v, Host %s", tt.name, r.Header, r.Host)
		}
	}

	// A unix-socket peer has no address: nothing is invented.
	r := get(t, "/", "X-Forwarded-For: 1.1.1.1")
	r.RemoteAddr = "@"
	x := &guard.Exchange{Request: r}
	l.Request(x)
	if x.Client.Addr.IsValid() || r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("X-Real-Ip") != "" {
		t.Errorf("unix peer: %+v, %v", x.Client, r.Header)
	}
}

func TestClientIdentity(t *testing.T) {
	fields := []string{
		"X-Forwarded-User: admin", "X-Forwarded-Prefix: /app", "X-Forwarded-Ssl: on", "X-Forwarded-Protocol: ssl", "X-Forwarded-Port: 1", "X-Forwarded-Server: x", "X-Forwarded: x",
		"Remote-User: admin", "X-Remote-User: admin", "X-Auth-User: admin", "X-Auth-Request-User: admin", "X-WEBAUTH-USER: admin",
		"X-Script-Name: /app", "X-Scheme: https", "True-Client-IP: 1.1.1.1", "CF-Connecting-IP: 1.1.1.1", "X-SSL-Client-S-DN: CN=admin",
		"X-authentik-username: admin", "X-Goog-Authenticated-User-Email: a@b", "X-Amzn-Oidc-Data: x", "Front-End-Https: on",
	}
	harmless := []string{"Accept: */*", "X-Auth-Token: t", "X-Auth-Key: k", "X-User-Id: 7", "X-Requested-With: XMLHttpRequest", "X-Csrftoken: c", "Authorization: Bearer t", "X-Api-Key: k", "X-Request-Id: r", "Sec-Fetch-Site: none", "Traceparent: 00-0-0-0"}
	l, err := NewClient(Config{TrustedProxy: []string{"10.0.0.1"}, TrustedHeader: []string{"X-Auth-Request-User"}}, guard.Env{})
	if err != nil {
		t.Fatal(err)
	}
	for remote, kept := range map[string]bool{"192.0.2.9:1": false, "10.0.0.1:1": true} {
		r := get(t, "/", append(fields, harmless...)...)
		r.RemoteAddr = remote
		l.Request(&guard.Exchange{Request: r})
		for _, f := range fields {
			name := http.CanonicalHeaderKey(f[:strings.Index(f, ":")])
			if _, ok := r.Header[name]; ok != (kept && name == "X-Auth-Request-User") {
				t.Errorf("from %s: %s reaches the app: %v", remote, name, ok)
			}
		}
		for _, f := range harmless {
			name := http.CanonicalHeaderKey(f[:strings.Index(f, ":")])
			if _, ok := r.Header[name]; !ok {
				t.Errorf("from %s: %s was taken away", remote, name)
			}
		}
	}
}

// TestClientIdentityUnderscores: CGI makes one variable of X-Forwarded-User
// and X_Forwarded_User, and a server that keeps both (gunicorn before 22) joins
// them: no spelling of an identity field is left, even with the request layer
// off.
func TestClientIdentityUnderscores(t *testing.T) {
	l, err := NewClient(Config{TrustedProxy: []string{"10.0.0.1"}, TrustedHeader: []string{"X-Auth-Request-User"}}, guard.Env{})
	if err != nil {
		t.Fatal(err)
	}
	for _, remote := range []string{"192.0.2.9:1", "10.0.0.1:1"} {
		r := get(t, "/", "X_Forwarded_User: admin", "x_forwarded-groups: admins", "X-Dewar_Remote-User: admin", "X-Dewar-Assertion: e30", "REMOTE_USER: admin", "X_Auth_Request_User: admin", "My_Field: 1")
		r.RemoteAddr = remote
		l.Request(&guard.Exchange{Request: r})
		for name := range r.Header {
			if strings.Contains(strings.ToLower(name), "user") || strings.Contains(strings.ToLower(name), "groups") || strings.Contains(strings.ToLower(name), "assertion") {
				t.Errorf("from %s: %s reaches the app", remote, name)
			}
		}
		if len(r.Header["My_field"]) != 1 {
			t.Errorf("a field that speaks of nobody is gone: %v", r.Header)
		}
	}
	if checkTrustedHeader("X-Dewar-Assertion") == nil {
		t.Error("a proxy may speak for the guard")
	}
}

func TestLayerProblems(t *testing.T) {
	c := Config{
		Methods:       []string{"GET", "TRACE"},
		TrustedProxy:  []string{"0.0.0.0/0", "::/0", "proxy.example", "10.0.0.1", "::ffff:10.0.0.0/104"},
		TrustedHeader: []string{"Remote_User", "X-Forwarded-For", "Accept", "X-Original-URL", "X-Auth-Request-User", "a b"},
		AllowedHosts:  []string{"*", "shop.example", ".shop.example", "shop.example:443", "2001:db8::1", "https://shop.example", ""},
	}
	n := map[string]int{}
	for _, p := range c.layerProblems() {
		n[p.Key]++
	}
	want := map[string]int{"methods": 1, "trusted-proxies": 4, "trusted-headers": 5, "allowed-hosts": 4}
	if fmt.Sprint(n) != fmt.Sprint(want) {
		t.Errorf("problems %v, want %v: %+v", n, want, c.layerProblems())
	}
	if p := (&Config{}).layerProblems(); len(p) != 0 {
		t.Errorf("the zero Config has problems: %+v", p)
	}
}

func TestHTTPS(t *testing.T) {
	names := func(n ...string) func() []string { return func() []string { return n } }
	prod := guard.Env{Profile: guard.Production, CertificateNames: names("shop.example", "*.cdn.example", "192.0.2.1", "2001:db8::1")}
	dev := guard.Env{Profile: guard.Development, CertificateNames: names("localhost")}
	for _, tt := range []struct {
		name     string
		cfg      Config
		env      guard.Env
		method   string
		client   guard.Client
		target   string
		status   int
		reason   string
		location string
	}{
		{"served", Config{}, prod, "POST", guard.Client{Scheme: "https", Host: "shop.example"}, "/", 0, "", ""},
		{"any port", Config{}, prod, "GET", guard.Client{Scheme: "https", Host: "shop.example:9"}, "/", 0, "", ""},
		{"wildcard", Config{}, prod, "GET", guard.Client{Scheme: "https", Host: "a.cdn.example"}, "/", 0, "", ""},
		{"wildcard, two labels", Config{}, prod, "GET", guard.Client{Scheme: "https", Host: "a.b.cdn.example"}, "/", 421, "https-host", ""},
		{"wildcard, no label", Config{}, prod, "GET", guard.Client{Scheme: "https", Host: "cdn.example"}, "/", 421, "https-host", ""},
		{"address", Config{}, prod, "GET", guard.Client{Scheme: "https", Host: "192.0.2.1"}, "/", 0, "", ""},
		{"IPv6 address", Config{}, prod, "GET", guard.Client{Scheme: "https", Host: "[2001:db8::1]:443"}, "/", 0, "", ""},
		{"unknown", Config{}, prod, "GET", guard.Client{Scheme: "https", Host: "evil.example"}, "/", 421, "https-host", ""},
		{"suffix trick", Config{}, prod, "GET", guard.Client{Scheme: "https", Host: "evilshop.example"}, "/", 421, "https-host", ""},
		{"no host", Config{}, prod, "GET", guard.Client{Scheme: "https"}, "/", 421, "https-host", ""},
		{"localhost in production", Config{}, prod, "GET", guard.Client{Scheme: "https", Host: "localhost"}, "/", 421, "https-host", ""},
		{"localhost in development", Config{}, dev, "GET", guard.Client{Scheme: "https", Host: "127.0.0.1:8443"}, "/", 0, "", ""},
		{"IPv6 localhost in development", Config{}, dev, "GET", guard.Client{Scheme: "https", Host: "[::1]:8443"}, "/", 0, "", ""},
		{"a rebinding name in development", Config{}, dev, "GET", guard.Client{Scheme: "https", Host: "evil.example:8443"}, "/", 421, "https-host", ""},
		{"listed", Config{AllowedHosts: []string{".Shop.Example", "other.example"}}, prod, "GET", guard.Client{Scheme: "https", Host: "a.b.shop.example"}, "/", 0, "", ""},
		{"listed, the name itself", Config{AllowedHosts: []string{".shop.example"}}, prod, "GET", guard.Client{Scheme: "https", Host: "shop.example"}, "/", 0, "", ""},
		{"listed, no subdomain", Config{AllowedHosts: []string{"shop.example"}}, prod, "GET", guard.Client{Scheme: "https", Host: "a.shop.example"}, "/", 421, "https-host", ""},
		{"the list replaces the certificate's names", Config{AllowedHosts: []string{"other.example"}}, prod, "GET", guard.Client{Scheme: "https", Host: "shop.example"}, "/", 421, "https-host", ""},
		{"redirect", Config{Listen: []string{":443"}}, prod, "GET", guard.Client{Scheme: "http", Host: "shop.example:80"}, "/a%20b?x=1;y", 308, "https-redirect", "https://shop.example/a%20b?x=1;y"},
		{"redirect HEAD", Config{Listen: []string{"0.0.0.0:8443"}}, prod, "HEAD", guard.Client{Scheme: "http", Host: "shop.example"}, "/", 308, "https-redirect", "https://shop.example:8443/"},
		{"redirect to the public port", Config{Listen: []string{":8443"}, PublicPort: 443}, prod, "GET", guard.Client{Scheme: "http", Host: "shop.example:8080"}, "/", 308, "https-redirect", "https://shop.example/"},
		{"redirect to an address", Config{Listen: []string{"[::1]:8443"}}, prod, "GET", guard.Client{Scheme: "http", Host: "[2001:db8::1]"}, "/", 308, "https-redirect", "https://[2001:db8::1]:8443/"},
		{"redirect behind a proxy", Config{Listen: []string{":8443"}}, prod, "GET", guard.Client{Scheme: "http", Host: "shop.example", TrustedPeer: true}, "/", 308, "https-redirect", "https://shop.example/"},
		{"no redirect to a forged host", Config{}, prod, "GET", guard.Client{Scheme: "http", Host: "evil.example"}, "/", 421, "https-host", ""},
		{"POST in clear text", Config{}, prod, "POST", guard.Client{Scheme: "http", Host: "shop.example"}, "/login", 403, "https-cleartext-write", ""},
		{"preflight in clear text", Config{}, prod, "OPTIONS", guard.Client{Scheme: "http", Host: "shop.example"}, "/", 403, "https-cleartext-write", ""},
		{"TLS off in development", Config{TLS: "off"}, dev, "POST", guard.Client{Scheme: "http", Host: "localhost:8080"}, "/", 0, "", ""},
		{"TLS ends in front", Config{TLS: "off", AllowedHosts: []string{"shop.example"}, TrustedProxy: []string{"10.0.0.1"}}, guard.Env{}, "POST", guard.Client{Scheme: "https", Host: "shop.example", TrustedPeer: true}, "/", 0, "", ""},
	} {
		l, err := NewHTTPS(tt.cfg, tt.env)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		r := parse(t, tt.method+" "+tt.target+" HTTP/1.1\r\nHost: x\r\n\r\n")
		d := l.Request(&guard.Exchange{Request: r, Client: tt.client})
		documented(t, httpsSpec, d)
		if d.Status != tt.status || d.Reason != tt.reason || d.Header.Get("Location") != tt.location {
			t.Errorf("%s: %d %q %q", tt.name, d.Status, d.Reason, d.Header.Get("Location"))
		}
		if (d.Verdict == guard.Answer) != (tt.status == 308) {
			t.Errorf("%s: verdict %v", tt.name, d.Verdict)
		}
	}
	for name, cfg := range map[string]Config{
		"no hosts":   {TLS: "off", TrustedProxy: []string{"10.0.0.1"}},
		"no proxies": {TLS: "off", AllowedHosts: []string{"shop.example"}},
		"bad host":   {AllowedHosts: []string{"*"}},
	} {
		if _, err := NewHTTPS(cfg, guard.Env{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	l, _ := NewHTTPS(Config{}, guard.Env{CertificateNames: names()})
	if l.(guard.Reporter).Health() == nil {
		t.Error("a site without a name is called healthy")
	}
}

func TestPreflights(t *testing.T) {
	for _, tt := range []struct {
		server         string
		dev, prod      bool
		devErr, smuErr bool
	}{
		{"gunicorn 27.0.1", false, false, false, false},
		{"gunicorn/20.1.0", false, true, false, false},
		{"gunicorn 20.1.0", false, true, false, false},
		{"Werkzeug/3.1.9 Python/3.12.1", true, false, false, true},
		{"WSGIServer/0.2 CPython/3.12.1", true, false, false, true},
		{"waitress", false, false, false, true},
		{"gunicorn", false, false, false, true},
		{"", false, false, true, true},
	} {
		f := guard.Facts{Known: true, AppFound: true, Server: tt.server}
		p, err := checkDevelopmentServer(f)
		if (p != "") != tt.dev || (err != nil) != tt.devErr {
			t.Errorf("not-development-server, %q: %q, %v", tt.server, p, err)
		}
		p, err = checkProductionServer(f)
		if (p != "") != tt.prod || (err != nil) != tt.smuErr {
			t.Errorf("production-server, %q: %q, %v", tt.server, p, err)
		}
	}
	for _, tt := range []struct {
		patched, worker string
		problem, err    bool
	}{
		{"", "gthread", false, false}, {"gevent", "gthread", true, false}, {"gevent", "sync", true, false}, {"eventlet", "gevent", true, false},
		{"gevent", "gevent", false, false}, {"gevent", "geventwebsocket.gunicorn.workers.GeventWebSocketWorker", false, false}, {"gevent", "", false, true},
	} {
		p, err := checkWorkerClass(guard.Facts{Known: true, Patched: tt.patched, Worker: tt.worker})
		if (p != "") != tt.problem || (err != nil) != tt.err {
			t.Errorf("worker-class, %+v: %q, %v", tt, p, err)
		}
	}
	for _, p := range preflights {
		if problem, err := p.Check(guard.Facts{Why: "no hook"}); problem != "" || err == nil || err.Error() != "no hook" {
			t.Errorf("%s without facts: %q, %v", p.Name, problem, err)
		}
	}
}

// Whatever passes decodes once, to a path without tricks, and a proxy that
// prints the URL sends what was checked.
func FuzzRequestPath(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/%2e%2e/", "/a;b", "/%252e", "//x", "/caf%C3%A9?q=1;2", "/\\", "/%zz", "*", "/a|b"} {
		f.Add(s)
	}
	l, err := NewRequest(Config{}, guard.Env{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, target string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n")))
		if err != nil {
			return
		}
		x := &guard.Exchange{Request: r}
		if l.Request(x).Verdict != guard.Allow {
			return
		}
		p := x.Path
		if !strings.HasPrefix(p, "/") || strings.HasPrefix(p, "//") || !utf8.ValidString(p) || strings.ContainsAny(p, "\\\x00\r\n\t\x7f") ||
			slices.Contains(strings.Split(p, "/"), "..") || slices.Contains(strings.Split(p, "/"), ".") {
			t.Fatalf("%q passes as %q", target, p)
		}
		out, query, _ := strings.Cut(r.URL.RequestURI(), "?")
		if got, err := url.PathUnescape(out); err != nil || got != p {
			t.Fatalf("%q passes as %q and is forwarded as %q", target, p, out)
		}
		if _, want, _ := strings.Cut(r.RequestURI, "?"); query != want {
			t.Fatalf("%q: query %q became %q", target, want, query)
		}
	})
}

// No list a client can write makes it another client than the one our proxy
// vouches for.
func FuzzForwardedFor(f *testing.F) {
	f.Add("1.1.1.1")
	f.Add("10.0.0.1, 10.0.0.2,")
	f.Add(`"[::1]:1", unknown, _x`)
	l := &client{trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	real := netip.MustParseAddr("203.0.113.5")
	f.Fuzz(func(t *testing.T, lie string) {
		addr, hops := l.walk(netip.MustParseAddr("10.0.0.1"), []string{lie + ", 203.0.113.5"})
		if addr != real || hops != 1 {
			t.Fatalf("%q: %v after %d hops", lie, addr, hops)
		}
		addr, hops = l.walk(netip.MustParseAddr("10.0.0.1"), []string{lie})
		if !addr.IsValid() || addr.Zone() != "" || addr.Is4In6() || hops < 1 || hops > maxHops {
			t.Fatalf("%q alone: %v after %d hops", lie, addr, hops)
		}
		_ = fromRight([]string{lie}, hops)
	})
}

func BenchmarkLayers(b *testing.B) {
	env := guard.Env{CertificateNames: func() []string { return []string{"shop.example"} }}
	cfg := Config{TrustedProxy: []string{"10.0.0.0/8"}}
	raw := get(b, "/products/42?page=2&sort=price", "User-Agent: Mozilla/5.0", "Accept: text/html", "Accept-Language: en", "Accept-Encoding: gzip",
		"Cookie: session=abc", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Referer: https://shop.example/", "X-Forwarded-For: 203.0.113.5", "X-Forwarded-Proto: https")
	raw.RemoteAddr = "10.0.0.1:4711"
	for _, l := range []struct {
		name string
		make func(Config, guard.Env) (guard.Layer, error)
	}{{"request", NewRequest}, {"client", NewClient}, {"https", NewHTTPS}} {
		b.Run(l.name, func(b *testing.B) {
			layer, err := l.make(cfg, env)
			if err != nil {
				b.Fatal(err)
			}
			x := &guard.Exchange{Request: raw.Clone(b.Context()), Client: guard.Client{Scheme: "https", Host: "shop.example"}}
			b.ReportAllocs()
			for b.Loop() {
				if l.name == "client" {
					x.Request.Header["X-Forwarded-For"] = raw.Header["X-Forwarded-For"]
					x.Request.Header["X-Forwarded-Proto"] = raw.Header["X-Forwarded-Proto"]
				}
				if d := layer.Request(x); d.Verdict != guard.Allow {
					b.Fatal(d)
				}
			}
		})
	}
}

// TestMethodOverride: an app that asks for it gets the field of a POST, and
// nothing that names a method which the app does not serve, or two.
func TestMethodOverride(t *testing.T) {
	for _, tt := range []struct {
		on      bool
		request string
		reaches bool
	}{
		{true, "POST / HTTP/1.1\r\nHost: a\r\nX-HTTP-Method-Override: DELETE\r\n\r\n", true},
		{true, "POST / HTTP/1.1\r\nHost: a\r\nX-HTTP-Method-Override: TRACE\r\n\r\n", false},
		{true, "POST / HTTP/1.1\r\nHost: a\r\nX-HTTP-Method-Override: delete\r\n\r\n", false},
		{true, "POST / HTTP/1.1\r\nHost: a\r\nX-HTTP-Method-Override: PUT\r\nX-HTTP-Method-Override: DELETE\r\n\r\n", false},
		{true, "GET / HTTP/1.1\r\nHost: a\r\nX-HTTP-Method-Override: DELETE\r\n\r\n", false},
		{false, "POST / HTTP/1.1\r\nHost: a\r\nX-HTTP-Method-Override: DELETE\r\n\r\n", false},
	} {
		x := &guard.Exchange{Request: parse(t, tt.request)}
		if d := newRequest(t, Config{Override: tt.on}).Request(x); d.Verdict != guard.Allow {
			t.Errorf("%q: %+v", tt.request, d)
		}
		if got := x.Request.Header["X-Http-Method-Override"] != nil; got != tt.reaches {
			t.Errorf("%v %q: reaches the app: %v", tt.on, tt.request, got)
		}
	}
}

// TestDeclaredLength: HTTP/2 can announce a length that is none, or that of
// another body.
func TestDeclaredLength(t *testing.T) {
	for _, tt := range []struct {
		value  string
		length int64
		fine   bool
	}{{"3", 3, true}, {"003", 3, true}, {"0", 0, true}, {"5", 0, false}, {"+3", 3, false}, {"", 0, false}, {"0x0", 0, false}, {"3", -1, false}} {
		r := get(t, "/")
		r.ProtoMajor, r.ProtoMinor, r.Proto = 2, 0, "HTTP/2.0"
		r.Header["Content-Length"], r.ContentLength = []string{tt.value}, tt.length
		d := newRequest(t, Config{}).Request(&guard.Exchange{Request: r})
		documented(t, requestSpec, d)
		if (d.Verdict == guard.Allow) != tt.fine || !tt.fine && d.Reason != "request-framing" {
			t.Errorf("%q of %d: %+v", tt.value, tt.length, d)
		}
	}
}
