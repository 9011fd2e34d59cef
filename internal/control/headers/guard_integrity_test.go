package headers

import (
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/guard"
	routemap "github.com/dewar-security/dewar/internal/policy"
)

// TestIntegrity: a page says of its own scripts what was served last, where no
// browser can have another version, and says nothing where it cannot know.
func TestIntegrity(t *testing.T) {
	p, err := routemap.Decode(strings.NewReader(`{"version": 1, "routes": [{"rule": "/files/<path:filename>", "methods": ["GET"], "answers": ["GET"], "kind": "static"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewHeaders(Config{Integrity: guard.Enforce, CSPMode: "off"}, guard.Env{Policy: func() *routemap.Policy { return p }})
	if err != nil {
		t.Fatal(err)
	}
	serve := func(target, kind, body string, header ...string) string {
		t.Helper()
		if target[0] == '/' {
			target = "https://shop.example" + target
		}
		r := httptest.NewRequest("GET", target, nil)
		x := &guard.Exchange{Request: r, Path: r.URL.Path, Client: guard.Client{Scheme: "https", Host: r.Host}}
		res := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
		for i := 0; i < len(header); i += 2 {
			res.Header.Add(header[i], header[i+1])
		}
		l.(guard.Responder).Response(x, res)
		out, _ := io.ReadAll(res.Body)
		if int64(len(out)) != res.ContentLength {
			t.Fatalf("%s: %d bytes of %d", target, len(out), res.ContentLength)
		}
		return string(out)
	}
	hash := func(s string) string {
		sum := sha512.Sum384([]byte(s))
		return ` integrity="sha384-` + base64.StdEncoding.EncodeToString(sum[:]) + `"`
	}
	const page = `<script src="/static/a.js" defer></script><link href='/static/a.css' rel='preload stylesheet'><script src="https://shop.example/static/v.js?v=2"></script><script src=//shop.example/static/a.js></script><script src="https://cdn.example/static/a.js"></script><script src="/static/a.js" integrity="own"></script><script src="../static/a.js"></script><script src="/static/kept.js"></script><script>x()</script>`
	if got := serve("/shop/", "text/html", page); got != page {
		t.Errorf("nothing is known: %s", got)
	}
	serve("/static/a.js", "text/javascript; charset=utf-8", "one", "Cache-Control", "no-cache", "ETag", `"1"`)
	serve("/static/a.css", "text/css", "two", "Cache-Control", "no-cache")
	serve("/static/v.js?v=2", "text/javascript", "three", "Cache-Control", "public, max-age=31536000, immutable")
	serve("/static/kept.js", "text/javascript", "kept", "Cache-Control", "max-age=3600")
	want := strings.NewReplacer(
		`<script src="/static/a.js" defer`, `<script`+hash("one")+` src="/static/a.js" defer`,
		`<link`, `<link`+hash("two"),
		`<script src="https://shop`, `<script`+hash("three")+` src="https://shop`,
		`<script src=//`, `<script`+hash("one")+` src=//`,
		`<script src="..`, `<script`+hash("one")+` src="..`,
	).Replace(page)
	if got := serve("/shop/", "text/html", page); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	serve("/files/a.js", "text/javascript", "file", "Cache-Control", "no-cache", "Vary", "Cookie")
	if got := serve("/shop/", "text/html", "<script src=/files/a.js></script>"); !strings.Contains(got, hash("file")) {
		t.Errorf("a file of the app's static folder: %s", got)
	}
	// A page that is kept would ask for this script when it is another by then.
	for _, header := range [][]string{
		{"Cache-Control", "max-age=600"}, {"Cache-Control", "private, max-age=600"}, {"Cache-Control", "public"}, {"Cache-Control", "no-cache", "Cache-Control", "S-MaxAge=9"},
		{"Expires", "Thu, 01 Jan 2037 00:00:00 GMT"}, {"Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT"},
	} {
		if got := serve("/shop/", "text/html", page, header...); got != page {
			t.Errorf("%v: %s", header, got)
		}
	}
	for _, header := range [][]string{{"Cache-Control", "no-cache"}, {"Cache-Control", "private, no-store"}, {"Cache-Control", "max-age=0", "Expires", "Thu, 01 Jan 2037 00:00:00 GMT"}} {
		if got := serve("/shop/", "text/html", page, header...); got != want {
			t.Errorf("%v: %s", header, got)
		}
	}
	// Another app of the same name below another host.
	if got := serve("https://blog.example/shop/", "text/html", `<script src="/static/a.js"></script>`); strings.Contains(got, "sha384") {
		t.Errorf("another host's script: %s", got)
	}
	serve("https://blog.example/static/a.js", "text/javascript", "blog", "Cache-Control", "no-cache")
	if got := serve("/shop/", "text/html", page); got != want {
		t.Errorf("after another host's script: %s", got)
	}
	// Another content under the same address.
	serve("/static/a.js", "text/javascript", "new", "Cache-Control", "no-cache", "ETag", `"2"`)
	if got := serve("/shop/", "text/html", page); !strings.Contains(got, hash("new")) || strings.Contains(got, hash("one")) {
		t.Errorf("after a change: %s", got)
	}
	// What cannot be known any more.
	for _, header := range [][]string{{"Cache-Control", "max-age=60"}, {"Cache-Control", "no-cache", "Vary", "Cookie"}, {"Cache-Control", "no-cache", "Set-Cookie", "a=b"}, {}} {
		serve("/static/a.js", "text/javascript", "new", "Cache-Control", "no-cache")
		serve("/static/a.js", "text/javascript", "new", header...)
		if got := serve("/shop/", "text/html", page); strings.Contains(got, hash("new")) {
			t.Errorf("%v: %s", header, got)
		}
	}
	serve("/static/a.js", "text/javascript", "new", "Cache-Control", "no-cache")
	if got := serve("/shop/", "text/html", "<base href=/other/>"+page); strings.Contains(got, "sha384") {
		t.Errorf("with a base: %s", got)
	}
	// A script that is made for each visitor.
	for i := range 40 {
		serve("/static/a.js", "text/javascript", strings.Repeat("x", i), "Cache-Control", "no-cache")
	}
	if got := serve("/shop/", "text/html", page); strings.Contains(got, hash(strings.Repeat("x", 39))) {
		t.Errorf("made anew: %s", got)
	}
	// Somebody asks for so many that there is no room.
	for i := range maxAssets + 10 {
		serve(fmt.Sprintf("/static/a.js?%d", i), "text/javascript", "x", "Cache-Control", "no-cache")
	}
	serve("/static/late.js", "text/javascript", "late", "Cache-Control", "no-cache")
	if got := serve("/shop/", "text/html", "<script src=/static/late.js></script>"); !strings.Contains(got, hash("late")) {
		t.Errorf("no room for the app's own: %s", got)
	}
	if n := l.(*headers).sri.count(); n > maxAssets {
		t.Errorf("%d remembered", n)
	}
}
