package headers

import (
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	// Two folders: the app's and a blueprint's.
	static, files := t.TempDir(), t.TempDir()
	old := time.Now().Add(-time.Hour)
	write := func(dir, name, text string, at time.Time) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	facts := guard.Facts{Routes: []guard.FactRoute{{Rule: "/static/<path:filename>", Folder: static}, {Rule: "/files/<path:filename>", Folder: files}, {Rule: "/"}}}
	l, err := NewHeaders(Config{Integrity: guard.Enforce, CSPMode: "off"}, guard.Env{Policy: func() *routemap.Policy { return p }, Facts: func() guard.Facts { return facts }})
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
	for name, text := range map[string]string{"a.js": "one", "a.css": "two", "late.js": "late"} {
		write(static, name, text, old)
	}
	write(files, "a.js", "file", old)
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
	// Edited in place: the page knows, before anybody has asked for the file.
	write(static, "a.js", "new", old.Add(time.Minute))
	if got := serve("/shop/", "text/html", page); !strings.Contains(got, hash("new")) || strings.Contains(got, hash("one")) {
		t.Errorf("after an edit: %s", got)
	}
	// Of the same length, and put in its place by rename.
	write(static, "b.js", "NEW", old.Add(time.Minute))
	if err := os.Rename(filepath.Join(static, "b.js"), filepath.Join(static, "a.js")); err != nil {
		t.Fatal(err)
	}
	if got := serve("/shop/", "text/html", page); !strings.Contains(got, hash("NEW")) {
		t.Errorf("after a rename: %s", got)
	}
	// While it is edited, and when it is gone.
	write(static, "a.js", "half", time.Now())
	if got := serve("/shop/", "text/html", page); strings.Contains(got, hash("half")) || strings.Contains(got, hash("NEW")) || !strings.Contains(got, hash("two")) {
		t.Errorf("within an edit: %s", got)
	}
	os.Remove(filepath.Join(static, "a.js"))
	if got := serve("/shop/", "text/html", page); strings.Contains(got, hash("NEW")) {
		t.Errorf("without the file: %s", got)
	}
	write(static, "a.js", "new", old)
	// What is no file, or not served as it is, may be anything by the next time.
	serve("/static/a.js", "text/javascript", "minified", "Cache-Control", "no-cache")
	serve("/made.js", "text/javascript", "made", "Cache-Control", "no-cache")
	serve("/static/../../etc/passwd", "text/javascript", "x", "Cache-Control", "no-cache")
	if got := serve("/shop/", "text/html", page+"<script src=/made.js></script>"); strings.Contains(got, hash("minified")) || strings.Contains(got, hash("made")) {
		t.Errorf("not a file's bytes: %s", got)
	}
	// An address that never changes, and does.
	serve("/static/v.js?v=2", "text/javascript", "four", "Cache-Control", "immutable")
	if got := serve("/shop/", "text/html", page); strings.Contains(got, hash("four")) {
		t.Errorf("not immutable: %s", got)
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
