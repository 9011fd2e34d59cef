package settings

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/guard"
)

// What Werkzeug 3.1 sends for an exception in debug mode, cut.
const debuggerPage = `<!doctype html>
<html lang=en>
  <head>
    <title>KeyError: &#39;x&#39;
 // Werkzeug Debugger</title>
    <link rel="stylesheet" href="?__debugger__=yes&amp;cmd=resource&amp;f=style.css">
    <script src="?__debugger__=yes&amp;cmd=resource&amp;f=debugger.js"></script>
    <script>
      var CONSOLE_MODE = false,
          EVALEX = true,
          EVALEX_TRUSTED = false,
          SECRET = "e1XamIlXzVNMc7GPZX9w";
    </script>
  </head>
  <body style="background-color: #fff">
<h2 class="traceback">Traceback <em>(most recent call last)</em></h2>
`

const traceback = `Traceback (most recent call last):
  File "/srv/shop/app.py", line 6, in boom
    return {}["alice@example.com"]
KeyError: 'alice@example.com'
`

func gz(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

func response(status int, kind, body string, known bool) *http.Response {
	r := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	if known {
		r.ContentLength = int64(len(body))
	}
	return r
}

func TestMask(t *testing.T) {
	l, err := NewMask(Config{}, guard.Env{})
	if err != nil {
		t.Fatal(err)
	}
	m := l.(guard.Responder)
	html, page := "text/html; charset=utf-8", "<h1>Welcome</h1>"
	for _, c := range []struct {
		name   string
		r      *http.Response
		reason string
	}{
		{"debugger", response(500, html, debuggerPage, true), "mask-debugger"},
		{"debugger, streamed", response(500, html, debuggerPage+strings.Repeat("x", 100<<10), false), "mask-debugger"},
		{"debugger with status 200", response(200, html, debuggerPage, true), "mask-debugger"},
		{"console", response(200, html, strings.ReplaceAll(debuggerPage, "CONSOLE_MODE = false", "CONSOLE_MODE = true"), true), "mask-debugger"},
		{"traceback as text", response(500, "text/plain", traceback, true), "mask-traceback"},
		{"traceback without a type", response(500, "", traceback, false), "mask-traceback"},
		{"traceback in JSON", response(500, "application/json", `{"error":"boom","trace":"Traceback (most recent call last):\n  File \"/srv/app.py\""}`, true), "mask-traceback"},
		{"traceback in HTML", response(502, html, "<pre>"+traceback+"</pre>", true), "mask-traceback"},
		{"traceback with status 400", response(400, html, "<pre>"+traceback+"</pre>", true), "mask-traceback"},
		{"traceback, gzip", func() *http.Response {
			r := response(500, html, gz(traceback), true)
			r.Header.Set("Content-Encoding", "gzip")
			return r
		}(), "mask-traceback"},
		{"SQLAlchemy", response(500, "application/json", `{"error":"(sqlite3.OperationalError) no such table: user\n[SQL: SELECT * FROM user WHERE name = ?]\n[parameters: ('alice',)]\n(Background on this error at: https://sqlalche.me/e/20/e3q8)"}`, true), "mask-database"},
		{"psycopg with status 400", response(400, "text/plain", "psycopg2.errors.SyntaxError: syntax error at or near", true), "mask-database"},
		{"Jinja", response(500, "text/plain", "jinja2.exceptions.UndefinedError: 'a' is undefined", true), "mask-template"},
		{"debug helper", response(400, "text/plain", "You tried to access the file 'x' in the request.files dictionary but it does not exist.", true), "mask-traceback"},

		{"page", response(200, html, page, true), ""},
		{"the app's own error page", response(500, html, "<h1>Something went wrong</h1><p>Reference 01J9</p>", true), ""},
		{"the app's own JSON error", response(500, "application/json", `{"error":"internal error","id":"01J9"}`, true), ""},
		{"a page that quotes a traceback", response(200, html, "<pre>"+traceback+"</pre>", true), ""},
		{"a page about the debugger", response(200, html, "<p>Werkzeug's EVALEX and __debugger__ …</p>", true), ""},
		{"script", response(200, "application/javascript", debuggerPage, true), ""},
		{"empty error", response(500, html, "", true), ""},
	} {
		want, _ := io.ReadAll(c.r.Body)
		c.r.Body = io.NopCloser(bytes.NewReader(want))
		d := m.Response(&guard.Exchange{}, c.r)
		if d.Reason != c.reason || (d.Verdict == guard.Deny) != (c.reason != "") || c.reason != "" && d.Status != 500 {
			t.Errorf("%s: %+v, want %q", c.name, d, c.reason)
		}
		if strings.Contains(d.Detail, "alice") {
			t.Errorf("%s: the detail holds a visitor's data: %s", c.name, d.Detail)
		}
		if got, err := io.ReadAll(c.r.Body); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the body changed (%v)", c.name, err)
		}
		if c.reason != "" && !slices.ContainsFunc(maskSpec.Reasons, func(r guard.Reason) bool { return r.Name == c.reason }) {
			t.Errorf("%s: reason %q is not documented", c.name, c.reason)
		}
	}
}

type untouchable struct{ t *testing.T }

func (u untouchable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// Streams, downloads and large pages must not wait for the mask.
func TestMaskLeavesStreamsAlone(t *testing.T) {
	m, _ := NewMask(Config{}, guard.Env{})
	for _, c := range []struct {
		status int
		kind   string
		length int64
		disp   string
	}{
		{200, "text/event-stream", -1, ""}, {500, "text/event-stream", -1, ""}, {200, "text/html", -1, ""}, {200, "text/html", maskPage + 1, ""},
		{200, "application/json", 100, ""}, {500, "application/octet-stream", -1, ""}, {200, "image/png", 100, ""}, {404, "text/plain", 100, `attachment; filename="a"`},
	} {
		r := &http.Response{StatusCode: c.status, Header: http.Header{"Content-Type": {c.kind}}, ContentLength: c.length, Body: io.NopCloser(untouchable{t})}
		if c.disp != "" {
			r.Header.Set("Content-Disposition", c.disp)
		}
		if d := m.(guard.Responder).Response(&guard.Exchange{}, r); d.Verdict != guard.Allow {
			t.Errorf("%+v: %+v", c, d)
		}
	}
}

func TestMaskedHeaders(t *testing.T) {
	m, _ := NewMask(Config{}, guard.Env{})
	r := response(200, "text/html", "x", true)
	for _, name := range []string{"Server", "X-Powered-By", "X-Werkzeug-Debug", "X-Runtime"} {
		r.Header.Set(name, "gunicorn/20.1.0")
	}
	r.Header["x-werkzeug-odd"] = []string{"1"}
	r.Header.Set("X-Request-Id", "1")
	m.(guard.Responder).Response(&guard.Exchange{}, r)
	if len(r.Header) != 2 || r.Header.Get("X-Request-Id") == "" {
		t.Errorf("%v", r.Header)
	}
}

func TestExceptionName(t *testing.T) {
	for in, want := range map[string]string{
		traceback: " (KeyError)",
		"Traceback (most recent call last):\n  File \"x\"\n\nsqlalchemy.exc.IntegrityError: (alice)\n": " (sqlalchemy.exc.IntegrityError)",
		"Traceback (most recent call last):\n  File \"x\"\n":                                           "",
		"Traceback (most recent call last):\n<b>x</b>\n":                                               "",
		"nothing": "",
	} {
		if got := exceptionName([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzMask(f *testing.F) {
	f.Add(500, "text/html", "", []byte(debuggerPage))
	f.Add(500, "text/plain", "gzip", []byte(gz(traceback)))
	f.Add(200, "text/html", "deflate", []byte("x"))
	m, _ := NewMask(Config{}, guard.Env{})
	f.Fuzz(func(t *testing.T, status int, kind, encoding string, body []byte) {
		r := response(status, kind, string(body), true)
		r.Header.Set("Content-Encoding", encoding)
		d := m.(guard.Responder).Response(&guard.Exchange{}, r)
		if strings.ContainsAny(d.Detail, "\r\n<") {
			t.Fatalf("%q", d.Detail)
		}
		if got, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(got, body) {
			t.Fatalf("the body changed (%v)", err)
		}
	})
}

func BenchmarkMask(b *testing.B) {
	m, _ := NewMask(Config{}, guard.Env{})
	page := strings.Repeat("<p>Our shop sells shoes of many colours.</p>", 400)
	for _, c := range []struct {
		name   string
		status int
	}{{"page17k", 200}, {"error17k", 500}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				m.(guard.Responder).Response(&guard.Exchange{}, response(c.status, "text/html", page, true))
			}
		})
	}
}
