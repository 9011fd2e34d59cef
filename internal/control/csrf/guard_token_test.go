package csrf

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

func tokens(t testing.TB, s store.Store) *protection {
	t.Helper()
	l, err := NewCSRF(Config{Token: true}, guard.Env{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	return l.(*protection)
}

func tlsExchange(r *http.Request) *guard.Exchange {
	return &guard.Exchange{Request: r, Path: r.URL.Path, Client: guard.Client{Scheme: "https", Host: "shop.example"}}
}

// form gets a page through the layer and returns it with the cookie that it
// set.
func form(t testing.TB, l *protection, page, cookie string, change ...func(*http.Response)) (body, set string, h http.Header) {
	t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	x := tlsExchange(r)
	if d := l.Request(x); d.Verdict != guard.Allow {
		t.Fatalf("%+v", d)
	}
	res := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}, Body: io.NopCloser(strings.NewReader(page)), ContentLength: int64(len(page))}
	for _, f := range change {
		f(res)
	}
	l.Response(x, res)
	b, _ := io.ReadAll(res.Body)
	if res.ContentLength >= 0 && res.StatusCode == 200 && int64(len(b)) != res.ContentLength {
		t.Fatalf("%d bytes, Content-Length %d", len(b), res.ContentLength)
	}
	set, _, _ = strings.Cut(res.Header.Get("Set-Cookie"), ";")
	return string(b), set, res.Header
}

var hidden = regexp.MustCompile(`<input type="hidden" name="_dewar_csrf" value="([A-Za-z0-9_-]+)">`)

func TestTokensInForms(t *testing.T) {
	l := tokens(t, store.NewMemory(store.MemoryOptions{Buckets: 64}))
	for _, c := range []struct {
		name, page string
		n          int
	}{
		{"post", `<form method="post" action="/x"><p>a</p></form>`, 1},
		{"in any case", "<FORM ACTION=x METHOD=POST\n><p>a</FORM><form method='post'></form>", 2},
		{"our own address", `<form method=post action="https://shop.example/x">`, 1},
		{"get", `<form><input name=q></form><form method=get>`, 0},
		{"another site", `<form method=post action="https://evil.example/">`, 0},
		{"another scheme", `<form method=post action="http://shop.example/">`, 0},
		{"another port", `<form method=post action="https://shop.example:8443/">`, 0},
		{"another site without a scheme", `<form method=post action="//evil.example/">`, 0},
		{"as browsers read it", "<form method=post action=\" \\\\evil.example/\"><form method=post action='/\t/evil.example'><form method=post action='\x01//evil.example'>", 0},
		{"another site, in character references", `<form method=post action="&#47;/evil.example/">`, 0},
		{"a user name", `<form method=post action="https://shop.example@evil.example/">`, 0},
		{"javascript", `<form method=post action="javascript:x()">`, 0},
		{"in a script", `<script>var f = '<form method="post">'</script><!-- <form method=post> --><textarea><form method=post></textarea>`, 0},
		// What else decides where a form goes, or puts its fields into an address.
		{"a foreign base", `<base href="https://evil.example/"><form method=post action="/x">`, 0},
		{"a base of ours", `<base href="/shop/" target=_top><form method=post action="x">`, 1},
		{"a button that leads elsewhere", `<form method=post><button formaction="//evil.example/">`, 0},
		{"one from outside of the form", `<form id=f method=post></form><input type=image form=f formaction="https://evil.example/">`, 0},
		{"a button that makes it a GET", `<form method=post><button formmethod=get>`, 0},
		{"buttons of ours", `<form method=post><button formaction="/y" formmethod=POST><button formmethod=dialog>`, 1},
		{"no page", "hello", 0},
	} {
		body, set, h := form(t, l, c.page, "")
		if n := len(hidden.FindAllString(body, -1)); n != c.n || hidden.ReplaceAllString(body, "") != c.page {
			t.Errorf("%s: %d tokens in %s", c.name, n, body)
		}
		if (c.n > 0) != strings.HasPrefix(set, "__Host-dewar-csrf=") || (c.n > 0) != (h.Get("Cache-Control") == "private") {
			t.Errorf("%s: %v", c.name, h)
		}
	}
	const page = `<form method=post>`
	for name, change := range map[string]func(*http.Response){
		"JSON":             func(r *http.Response) { r.Header.Set("Content-Type", "application/json") },
		"shared by caches": func(r *http.Response) { r.Header.Set("Cache-Control", "max-age=60, Public") },
		"in pieces":        func(r *http.Response) { r.ContentLength = -1 },
		"unknown coding":   func(r *http.Response) { r.Header.Set("Content-Encoding", "br") },
		"not modified":     func(r *http.Response) { r.StatusCode = 304 },
		"a part": func(r *http.Response) {
			r.StatusCode = 206
			r.Header.Set("Content-Range", "bytes 0-17/18")
		},
	} {
		if body, set, _ := form(t, l, page, "", change); body != page || set != "" {
			t.Errorf("%s: %s, %s", name, body, set)
		}
	}
	// No shared cache keeps one visitor's token and cookie for another.
	for own, want := range map[string]string{"": "private", "max-age=60": "max-age=60, private", "no-cache": "no-cache, private", `max-age=60, private="x-y"`: `max-age=60, private="x-y", private`, "Private, max-age=60": "Private, max-age=60", "no-store": "no-store"} {
		_, _, h := form(t, l, page, "", func(r *http.Response) {
			if own != "" {
				r.Header.Set("Cache-Control", own)
			}
		})
		if got := h.Get("Cache-Control"); got != want {
			t.Errorf("Cache-Control %q became %q, want %q", own, got, want)
		}
	}
	// The same visitor keeps the cookie, and no two pages have one token.
	one, set, _ := form(t, l, page, "")
	two, again, _ := form(t, l, page, set)
	if again != "" || one == two {
		t.Errorf("%s\n%s\n%s", again, one, two)
	}
}

// TestTokenKeyShared: nodes that begin at once have one key, and a store that
// is gone keeps nobody from starting.
func TestTokenKeyShared(t *testing.T) {
	s := &gone{Store: store.NewMemory(store.MemoryOptions{Buckets: 64})}
	s.down.Store(true)
	alone := tokens(t, s)
	if err := alone.Health(); !errors.Is(err, guard.ErrDegraded) {
		t.Errorf("%v", err)
	}
	if body, _, _ := form(t, alone, `<form method=post>`, ""); !hidden.MatchString(body) {
		t.Errorf("no token while the store is gone: %s", body)
	}
	s.down.Store(false)
	nodes := make([]*protection, 8)
	var all sync.WaitGroup
	for i := range nodes {
		all.Go(func() { nodes[i] = tokens(t, s) })
	}
	all.Wait()
	alone.token.tried.Store(0) // its pause is over
	nodes = append(nodes, alone)
	for i, l := range nodes {
		if !bytes.Equal(l.token.secret(), nodes[0].token.secret()) || l.Health() != nil {
			t.Errorf("node %d has another key, %v", i, l.Health())
		}
	}
}

// gone is a store that can be gone.
type gone struct {
	store.Store
	down atomic.Bool
}

func (g *gone) Update(ctx context.Context, key string, change func([]byte, bool) ([]byte, time.Duration, error)) error {
	if g.down.Load() {
		return store.ErrUnavailable
	}
	return g.Store.Update(ctx, key, change)
}

func (g *gone) Get(ctx context.Context, key string) ([]byte, bool, error) {
	if g.down.Load() {
		return nil, false, store.ErrUnavailable
	}
	v, ok, err := g.Store.Get(ctx, key)
	time.Sleep(time.Millisecond) // others come between
	return v, ok, err
}

// TestTokenSpeaks: who says nothing about where a request comes from is let in
// with the token of a form that this visitor got, and with nothing else.
func TestTokenSpeaks(t *testing.T) {
	s := store.NewMemory(store.MemoryOptions{Buckets: 64})
	l := tokens(t, s)
	body, cookie, _ := form(t, l, `<form method=post>`, "")
	token := hidden.FindStringSubmatch(body)[1]
	otherBody, otherCookie, _ := form(t, l, `<form method=post>`, "")
	other := hidden.FindStringSubmatch(otherBody)[1]
	const multipart = "--b\r\nContent-Disposition: form-data; name=\"_dewar_csrf\"\r\n\r\nTOKEN\r\n--b--\r\n"
	for _, c := range []struct {
		name, cookie, body string
		header             []string
		reason             string
	}{
		{"token", cookie, "a=1&_dewar_csrf=" + token, nil, ""},
		{"multipart", cookie, strings.ReplaceAll(multipart, "TOKEN", token), []string{"Content-Type", "multipart/form-data; boundary=b"}, ""},
		{"none", cookie, "a=1", nil, "csrf-token"},
		{"another visitor's", cookie, "_dewar_csrf=" + other, nil, "csrf-token"},
		{"another visitor's cookie", otherCookie, "_dewar_csrf=" + token, nil, "csrf-token"},
		{"no cookie", "", "_dewar_csrf=" + token, nil, "csrf-token"},
		{"two cookies", cookie + "; " + otherCookie, "_dewar_csrf=" + token, nil, "csrf-token"},
		{"a cookie that siblings can set", strings.TrimPrefix(cookie, "__Host-"), "_dewar_csrf=" + token, nil, "csrf-token"},
		{"token twice", cookie, "_dewar_csrf=" + token + "&_dewar_csrf=" + token, nil, "csrf-token"},
		{"token in the query only", cookie, "a=1", []string{"query", "_dewar_csrf=" + token}, "csrf-token"},
		{"made up", cookie, "_dewar_csrf=" + strings.Repeat("A", 32), nil, "csrf-token"},
		{"no body", cookie, "", nil, "csrf-token"},
		{"token does not make up for another site", cookie, "_dewar_csrf=" + token, []string{"Origin", "https://evil.example"}, "csrf-origin"},
		{"nor for what the browser says", cookie, "_dewar_csrf=" + token, []string{"Sec-Fetch-Site", "cross-site"}, "csrf-cross-site"},
		{"our own origin needs none", cookie, "a=1", []string{"Origin", "https://shop.example"}, ""},
	} {
		r := httptest.NewRequest("POST", "/x", strings.NewReader(c.body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i+1 < len(c.header); i += 2 {
			if c.header[i] == "query" {
				r.URL.RawQuery = c.header[i+1]
			} else {
				r.Header.Set(c.header[i], c.header[i+1])
			}
		}
		r.Header.Set("Cookie", "session=abc")
		if c.cookie != "" {
			r.Header.Set("Cookie", "session=abc; "+c.cookie)
		}
		d := l.Request(tlsExchange(r))
		if d.Reason != c.reason {
			t.Errorf("%s: %+v, want %q", c.name, d, c.reason)
		}
		if got := r.Header.Get("Cookie"); got != "session=abc" {
			t.Errorf("%s: the app gets %q", c.name, got)
		}
	}
	// A reload, and another node over the same store, know the token.
	r := httptest.NewRequest("POST", "/x", strings.NewReader(url.Values{"_dewar_csrf": {token}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Cookie", "session=abc; "+cookie)
	if d := tokens(t, s).Request(tlsExchange(r)); d.Verdict != guard.Allow {
		t.Errorf("after a reload: %+v", d)
	}
}
