package uploads

import (
	"bytes"
	"fmt"
	"github.com/dewar-security/dewar/internal/policy"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dewar-security/dewar/internal/guard"
)

func newLayer(t testing.TB, cfg Config) guard.Layer {
	t.Helper()
	l, err := NewBody(cfg, guard.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func exchange(contentType, body string) *guard.Exchange {
	r := httptest.NewRequest("POST", "/upload", strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return &guard.Exchange{Request: r, Path: "/upload"}
}

func chunked(x *guard.Exchange) *guard.Exchange {
	x.Request.ContentLength = -1
	return x
}

const mp = "multipart/form-data; boundary=XX"

// part returns one part; an empty disposition gives a part without one.
func part(disposition, content string) string {
	if disposition != "" {
		disposition = "Content-Disposition: " + disposition + "\r\n"
	}
	return "--XX\r\n" + disposition + "\r\n" + content + "\r\n"
}

func file(name, content string) string {
	return part(fmt.Sprintf(`form-data; name="f"; filename="%s"`, name), content)
}

const end = "--XX--\r\n"

var small = Config{MaxBody: 1000, MaxForm: 100, MaxFile: 200, MaxFiles: 2, MaxFields: 3}

func TestBody(t *testing.T) {
	field := part(`form-data; name="a"`, "hello")
	for _, c := range []struct {
		name   string
		cfg    Config
		x      *guard.Exchange
		reason string
		status int
	}{
		{"form", small, exchange("application/x-www-form-urlencoded", "a=1"), "", 0},
		{"form too large", small, exchange("application/x-www-form-urlencoded", strings.Repeat("a", 101)), "body-too-large", 413},
		{"JSON too large", small, exchange("application/vnd.api+json; charset=utf-8", strings.Repeat("1", 101)), "body-too-large", 413},
		{"JSON with space around its type", small, exchange("\xa0application/json ;", strings.Repeat("1", 101)), "body-too-large", 413},
		{"form exactly at the limit", small, exchange("application/x-www-form-urlencoded", strings.Repeat("a", 100)), "", 0},
		{"chunked form too large", small, chunked(exchange("application/x-www-form-urlencoded", strings.Repeat("a", 101))), "body-too-large", 413},
		{"binary within max-body", small, exchange("image/png", strings.Repeat("a", 999)), "", 0},
		{"binary too large", small, exchange("image/png", strings.Repeat("a", 1001)), "body-too-large", 413},
		{"no length, none required", small, chunked(exchange("image/png", "a")), "", 0},
		{"no length", Config{RequireLength: true}, chunked(exchange("image/png", "a")), "body-no-length", 411},
		{"type refused", Config{ContentTypes: []string{"application/json"}}, exchange("text/plain", "a"), "body-type", 415},
		{"no type refused", Config{ContentTypes: []string{"application/json"}}, exchange("", "a"), "body-type", 415},
		{"type accepted", Config{ContentTypes: []string{"Application/JSON"}}, exchange("application/json;charset=utf-8", "{}"), "", 0},
		{"family accepted", Config{ContentTypes: []string{"image/*"}}, exchange("image/png", "a"), "", 0},
		{"family refused", Config{ContentTypes: []string{"image/*"}}, exchange("imagex/png", "a"), "body-type", 415},

		{"multipart", small, exchange(mp, field+file("cat.jpg", "x")+end), "", 0},
		{"empty file input", small, exchange(mp, file("", "")+end), "", 0},
		{"three fields", small, exchange(mp, field+field+field+end), "", 0},
		{"four fields", small, exchange(mp, field+field+field+field+end), "upload-fields", 413},
		{"three files", small, exchange(mp, file("a", "")+file("b", "")+file("c", "")+end), "upload-files", 413},
		{"file at the limit", small, exchange(mp, file("a", strings.Repeat("x", 200))+end), "", 0},
		{"file too large", small, exchange(mp, file("a", strings.Repeat("x", 201))+end), "upload-file-size", 413},
		{"fields together too large", small, exchange(mp, part(`form-data; name="a"`, strings.Repeat("x", 60))+part(`form-data; name="b"`, strings.Repeat("x", 60))+end), "body-too-large", 413},

		{"no boundary", small, exchange("multipart/form-data", field+end), "body-multipart", 400},
		{"boundary twice", small, exchange("multipart/form-data; boundary=XX; boundary=YY", field+end), "body-multipart", 400},
		{"not ended", small, exchange(mp, field), "body-multipart", 400},
		{"ended within a part", small, exchange(mp, "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nhel"), "body-multipart", 400},
		{"no disposition", small, exchange(mp, part("", "x")+end), "body-multipart", 400},
		{"two dispositions", small, exchange(mp, "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\nx\r\n"+end), "body-multipart", 400},
		{"two file names", small, exchange(mp, part(`form-data; name="f"; filename="a.jpg"; filename="a.php"`, "x")+end), "body-multipart", 400},
		{"attachment", small, exchange(mp, part(`attachment; name="a"`, "x")+end), "body-multipart", 400},
		{"no name", small, exchange(mp, part(`form-data`, "x")+end), "body-multipart", 400},
		{"base64 part", small, exchange(mp, "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Transfer-Encoding: base64\r\n\r\nx\r\n"+end), "body-multipart", 400},
		{"hostile extended name", small, exchange(mp, part(`form-data; name="f"; filename*=utf-8''..%2f..%2fetc%2fcron.d%2fx`, "x")+end), "upload-path", 400},
		{"hostile extended name beside an honest one", small, exchange(mp, part(`form-data; name="f"; filename="a.jpg"; filename*=utf-8''%2e%2e%2fx`, "x")+end), "upload-path", 400},
		{"umlaut in an extended name", small, exchange(mp, part(`form-data; name="f"; filename*=utf-8''%C3%BCber.jpg`, "x")+end), "", 0},
		{"path", small, exchange(mp, file("../../app.py", "x")+end), "upload-path", 400},
		{"double extension", small, exchange(mp, file("shell.php.jpg", "x")+end), "upload-double-extension", 400},
		{"a page called a picture", small, exchange(mp, file("cat.png.html", "x")+end), "upload-double-extension", 400},
		{"a page called a picture, in capitals", small, exchange(mp, file("CAT.PNG .HTM", "x")+end), "upload-double-extension", 400},
		{"a drawing called a picture", small, exchange(mp, file("cat.jpeg.svg", "x")+end), "upload-double-extension", 400},
		{"a shortcut called a document", small, exchange(mp, file("bill.pdf.url", "x")+end), "upload-double-extension", 400},
		{"a page with a dot", small, exchange(mp, file("report.2026.html", "x")+end), "", 0},
		{"a report of data", small, exchange(mp, file("data.csv.html", "x")+end), "", 0},
		{"NUL", small, exchange(mp, file("a.php\x00.jpg", "x")+end), "body-multipart", 400},
		{"NUL, encoded", small, exchange(mp, part(`form-data; name="f"; filename*=utf-8''a.php%00.jpg`, "x")+end), "body-multipart", 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newLayer(t, c.cfg).Request(c.x)
			if d.Reason != c.reason || d.Status != c.status || (d.Verdict == guard.Deny) != (c.reason != "") {
				t.Errorf("%+v, want %q %d", d, c.reason, c.status)
			}
			for _, r := range bodySpec.Reasons {
				if r.Name == d.Reason {
					return
				}
			}
			if d.Reason != "" {
				t.Errorf("reason %q is not documented", d.Reason)
			}
		})
	}
}

func TestContentEncoding(t *testing.T) {
	for enc, refused := range map[string]bool{"gzip": true, "br": true, "GZIP, identity": true, "identity": false, "": false} {
		x := exchange("application/json", "{}")
		x.Request.Header.Set("Content-Encoding", enc)
		d := newLayer(t, Config{}).Request(x)
		if (d.Reason == "body-encoding") != refused {
			t.Errorf("%q: %+v", enc, d)
		}
		if refused && (d.Status != 415 || d.Header.Get("Accept-Encoding") != "identity") {
			t.Errorf("%q: %+v", enc, d)
		}
	}
}

func TestRouteLimit(t *testing.T) {
	larger, less := guard.Size(5000), guard.Size(2)
	x := exchange("application/json", strings.Repeat("1", 3000))
	x.Override = &guard.Override{MaxBody: &larger}
	if d := newLayer(t, small).Request(x); d.Verdict != guard.Allow {
		t.Errorf("a larger limit: %+v", d)
	}
	x = exchange("image/png", "abc")
	x.Override = &guard.Override{MaxBody: &less}
	if d := newLayer(t, small).Request(x); d.Reason != "body-too-large" {
		t.Errorf("a smaller limit: %+v", d)
	}
}

func TestNoBody(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Content-Type", mp) // some clients send it with GET
	if d := newLayer(t, Config{}).Request(&guard.Exchange{Request: r}); d.Verdict != guard.Allow {
		t.Errorf("%+v", d)
	}
}

// The app gets the body as it was sent.
func TestBodyIsForwardedWhole(t *testing.T) {
	body := part(`form-data; name="a"`, "hello") + file("cat.jpg", strings.Repeat("\xff\x00", 1000)) + end
	x := exchange(mp, body)
	if d := newLayer(t, Config{}).Request(x); d.Verdict != guard.Allow {
		t.Fatalf("%+v", d)
	}
	got, err := io.ReadAll(x.Request.Body)
	if err != nil || string(got) != body {
		t.Errorf("%d bytes of %d, %v", len(got), len(body), err)
	}
}

func TestClientThatGoesAway(t *testing.T) {
	x := exchange("application/json", "")
	x.Request.ContentLength = 10
	x.Request.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), broken{}))
	if d := newLayer(t, Config{}).Request(x); d.Reason != "body-incomplete" || d.Status != 400 {
		t.Errorf("%+v", d)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestCheckName(t *testing.T) {
	for name, want := range map[string]string{
		"cat.jpg": "", "Foto vom Strand (1).JPG": "", "résumé.pdf": "", "archive.tar.gz": "", "jquery.min.js": "", "app.js.map": "",
		"report.v2.final.docx": "", ".bashrc": "", "a": "", "日本語.png": "", "می\u200cخواهم.txt": "", "bundle.js.gz": "", "John's \"file\".txt": "",
		"setup.py": "", "data.2024-01-02.csv": "", "python.py.txt": "",
		"../x": "upload-path", "a/b.jpg": "upload-path", `C:\Users\x\cat.jpg`: "upload-path", "c:cat.jpg": "upload-path",
		"/etc/passwd": "upload-path", "..": "upload-path", ".": "upload-path", `..\x`: "upload-path",
		"a\nb": "upload-name", "a\x00": "upload-name", "exe\u202egpj.exe": "upload-name", strings.Repeat("a", 256): "upload-name",
		"NUL.png": "upload-name", "aux": "upload-name", "com1.txt": "upload-name", "shell.php:x.jpg": "upload-name", "x.asp:.jpg": "upload-name", "console.txt": "", "Minutes 10:30.txt": "", "aux-cable.jpg": "",
		".htaccess": "upload-name", "WEB.CONFIG": "upload-name", "shell.php.": "upload-name", "shell.php ": "upload-name", "a.asp::$DATA": "upload-name", "\xff": "upload-name",
		"shell.php.jpg": "upload-double-extension", "x.PHP5.png": "upload-double-extension", "x.phtml.a.b": "upload-double-extension", "invoice.pdf.exe": "upload-double-extension",
		"invoice.pdf .exe": "upload-double-extension", "x.php .jpg": "upload-double-extension",
	} {
		if got := checkName(name, false); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]string{
		"photos/2024/cat.jpg": "", "a/../../x": "upload-path", "/a": "upload-path", "a//b": "upload-path", `a\b`: "upload-path", "a/.htaccess": "upload-name", "a/x.php.jpg": "upload-double-extension",
	} {
		if got := checkName(name, true); got != want {
			t.Errorf("directories, %q: %q, want %q", name, got, want)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for _, bad := range []Config{
		{MaxBody: -1}, {MaxForm: -1}, {MaxFile: -1}, {MaxFiles: -1}, {MaxFields: -1},
		{ContentTypes: []string{"json"}}, {ContentTypes: []string{"*/*"}}, {ContentTypes: []string{"image/*png"}}, {ContentTypes: []string{"text/plain; charset=utf-8"}},
	} {
		if _, err := NewBody(bad, guard.Env{}); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func FuzzBody(f *testing.F) {
	f.Add(mp, part(`form-data; name="a"`, "hello")+file("cat.jpg", "x")+end)
	f.Add(mp, part(`form-data; name="f"; filename="a"; filename*=utf-8''%2e`, "x")+end)
	f.Add("application/json", "{}")
	l := newLayer(f, small)
	f.Fuzz(func(t *testing.T, contentType, body string) {
		x := exchange(contentType, body)
		d := l.Request(x)
		if d.Verdict == guard.Deny {
			if d.Status < 400 || d.Reason == "" || strings.ContainsAny(d.Detail, "\r\n\x00\x1b") {
				t.Fatalf("%+v", d)
			}
			return
		}
		got, err := io.ReadAll(x.Request.Body)
		if err != nil || string(got) != body {
			t.Fatalf("the app would get %q instead of %q", got, body)
		}
	})
}

func FuzzCheckName(f *testing.F) {
	f.Add("a/b.php.jpg", true)
	f.Fuzz(func(t *testing.T, name string, directories bool) {
		if checkName(name, directories) != "" {
			return
		}
		if !utf8.ValidString(name) || strings.ContainsAny(name, "\x00\r\n\\") || !directories && strings.Contains(name, "/") || name == ".." || strings.HasPrefix(name, "/") || strings.Contains(name, "../") || strings.HasSuffix(name, "/..") {
			t.Fatalf("%q passed", name)
		}
	})
}

func BenchmarkBody(b *testing.B) {
	form := strings.Repeat("field=some+text&", 128)
	upload := part(`form-data; name="a"`, "hello") + file("cat.jpg", strings.Repeat("\xff", 1<<20)) + end
	l := newLayer(b, Config{})
	for _, c := range []struct{ name, kind, body string }{{"form2k", "application/x-www-form-urlencoded", form}, {"upload1m", mp, upload}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				r, _ := http.NewRequest("POST", "/", bytes.NewReader([]byte(c.body)))
				r.Header.Set("Content-Type", c.kind)
				if d := l.Request(&guard.Exchange{Request: r}); d.Verdict != guard.Allow {
					b.Fatal(d)
				}
			}
		})
	}
}

// TestFullDisk: our own trouble is not the client's fault.
func TestFullDisk(t *testing.T) {
	d := bufferError(fmt.Errorf("%w: no space left on device", guard.ErrBodyStorage), 1<<20)
	if d.Status != http.StatusServiceUnavailable || d.Reason != "body-storage" || d.Event != "sys_crash" {
		t.Errorf("%+v", d)
	}
}

// TestSensitiveBodies: where only names and passwords belong, a body is small;
// what takes files, or has a limit of its own, is not bound by that.
func TestSensitiveBodies(t *testing.T) {
	p, err := policy.Decode(strings.NewReader(`{"version": 1, "routes": [
		{"rule": "/login", "methods": ["POST"], "answers": ["POST"], "kind": "login", "kinds": ["login"]},
		{"rule": "/join", "methods": ["POST"], "answers": ["POST"], "kind": "register", "kinds": ["register", "upload"]},
		{"rule": "/post", "methods": ["POST"], "answers": ["POST"], "kind": "page"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewBody(Config{}, guard.Env{Policy: func() *policy.Policy { return p }})
	if err != nil {
		t.Fatal(err)
	}
	own := guard.Size(1 << 20)
	for _, c := range []struct {
		path     string
		size     int
		override *guard.Override
		reason   string
	}{
		{"/login", 200 << 10, nil, ""},
		{"/login", 300 << 10, nil, "body-too-large"},
		{"/login", 300 << 10, &guard.Override{MaxBody: &own}, ""},
		{"/join", 300 << 10, nil, ""},
		{"/post", 300 << 10, nil, ""},
		{"/nowhere", 300 << 10, nil, ""},
	} {
		r := httptest.NewRequest("POST", c.path, strings.NewReader("password="+strings.Repeat("x", c.size)))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if d := l.Request(&guard.Exchange{Request: r, Path: c.path, Override: c.override}); d.Reason != c.reason {
			t.Errorf("%s, %d bytes: %+v, want %q", c.path, c.size, d, c.reason)
		}
	}
}
