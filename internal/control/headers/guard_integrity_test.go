package headers

import (
	"crypto/sha512"
	"encoding/base64"
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
		r := httptest.NewRequest("GET", target, nil)
		x := &guard.Exchange{Request: r, Path: r.URL.Path, Client: guard.Client{Scheme: "https", Host: "shop.example"}}
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
}
