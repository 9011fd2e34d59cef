package settings

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe/probetest"
)

// site answers listed paths with status 200 and everything else with 404.
func site(pages map[string]string, header ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		text, ok := pages[r.URL.Path]
		if !ok && r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		kind := "text/html; charset=utf-8"
		switch {
		case strings.HasSuffix(r.URL.Path, ".css"):
			kind = "text/css"
		case strings.HasSuffix(r.URL.Path, ".js"):
			kind = "text/javascript"
		}
		w.Header().Set("Content-Type", kind)
		io.WriteString(w, text)
	})
}

func every(status int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
}

const console = `<script>var CONSOLE_MODE = true, EVALEX = true, SECRET = "x";</script>`

const werkzeugPage = `<title>ZeroDivisionError</title><script>var CONSOLE_MODE = false, EVALEX = true;</script><h2 class="traceback">Traceback <em>(most recent call last)</em></h2>`

func TestProbes(t *testing.T) {
	withQuery := func(has, text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.RawQuery, has) {
				w.Header().Set("Content-Type", "text/css")
				io.WriteString(w, text)
			}
		})
	}
	onError := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/" {
				w.WriteHeader(500)
				io.WriteString(w, text)
			}
		})
	}
	cors := func(f func(origin string) (string, string)) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if o := r.Header.Get("Origin"); o != "" {
				allow, cred := f(o)
				w.Header().Set("Access-Control-Allow-Origin", allow)
				w.Header().Set("Access-Control-Allow-Credentials", cred)
			}
		})
	}
	const page = `<html><script src="/static/app.js"></script><link rel=stylesheet href="/assets/css/a.css">`
	for _, x := range []struct {
		check, name string
		site        http.Handler
		want        evidence.Outcome
	}{
		{"debugger-reachable", "console", site(map[string]string{"/console": console}), evidence.Fail},
		{"debugger-reachable", "stylesheet", withQuery("__debugger__=yes&cmd=resource", "div.traceback, div.plain { border: 1px }"), evidence.Fail},
		{"debugger-reachable", "none", site(nil), evidence.Pass},
		{"debugger-reachable", "another console", site(map[string]string{"/console": "<h1>Game console shop</h1>"}), evidence.Pass},
		{"debugger-reachable", "turned away", every(403), evidence.Error},
		{"debugger-reachable", "limited", every(429), evidence.Error},

		{"traceback-shown", "plain", onError("Traceback (most recent call last):\n  File \"/srv/app.py\", line 3\n"), evidence.Fail},
		{"traceback-shown", "escaped", onError("<pre>Traceback (most recent call last):\n  File &#34;/srv/app.py&#34;</pre>"), evidence.Fail},
		{"traceback-shown", "debugger", onError(werkzeugPage), evidence.Fail},
		{"traceback-shown", "an article about them", onError("How to read: Traceback (most recent call last)"), evidence.Pass},
		{"traceback-shown", "none", onError("<h1>Internal Server Error</h1>"), evidence.Pass},

		{"source-served", "app.py", site(map[string]string{"/app.py": "from flask import Flask\napp = Flask(__name__)\n"}), evidence.Fail},
		{"source-served", "requirements", site(map[string]string{"/requirements.txt": "# pinned\nflask==3.1.0\n"}), evidence.Fail},
		{"source-served", "Dockerfile", site(map[string]string{"/Dockerfile": "FROM python:3.12\n"}), evidence.Fail},
		{"source-served", "a page of that name", site(map[string]string{"/app.py": "<!doctype html>\nimport os\ndef f():\n"}), evidence.Pass},
		{"source-served", "prose", site(map[string]string{"/requirements.txt": "You need a passport.\n"}), evidence.Pass},

		{"directory-listing", "nginx", site(map[string]string{"/static/": "<html><head><title>Index of /static/</title></head><h1>Index of /static/</h1>"}), evidence.Fail},
		{"directory-listing", "the page's own folder", site(map[string]string{"/": page, "/assets/css/": "<title>Directory listing for /assets/css/</title>"}), evidence.Fail},
		{"directory-listing", "none", site(map[string]string{"/": page}), evidence.Pass},

		{"source-map-served", "map", site(map[string]string{"/": page, "/static/app.js": "a()\n//# sourceMappingURL=app.js.map\n", "/static/app.js.map": `{"version":3,"sourcesContent":["x"],"mappings":"AAAA"}`}), evidence.Fail},
		{"source-map-served", "map without source", site(map[string]string{"/": page, "/static/app.js": "a()\n//# sourceMappingURL=app.js.map\n", "/static/app.js.map": `{"version":3,"mappings":"AAAA"}`}), evidence.Pass},
		{"source-map-served", "not there", site(map[string]string{"/": page, "/static/app.js": "a()\n//# sourceMappingURL=app.js.map\n"}), evidence.Pass},
		{"source-map-served", "elsewhere", site(map[string]string{"/": page, "/static/app.js": "//# sourceMappingURL=https://maps.example/a.map"}), evidence.Pass},
		{"source-map-served", "no scripts", site(nil), evidence.NotApplicable},

		{"cors-reflects-origin", "reflects", cors(func(o string) (string, string) { return o, "true" }), evidence.Fail},
		{"cors-reflects-origin", "null", cors(func(o string) (string, string) { return "null", "true" }), evidence.Fail},
		{"cors-reflects-origin", "public", cors(func(o string) (string, string) { return "*", "true" }), evidence.Pass},
		{"cors-reflects-origin", "without credentials", cors(func(o string) (string, string) { return o, "" }), evidence.Pass},
		{"cors-reflects-origin", "a partner", cors(func(o string) (string, string) { return "https://partner.example", "true" }), evidence.Pass},
	} {
		t.Run(x.check+"/"+x.name, func(t *testing.T) {
			probetest.Want(t, probetest.Ask(t, probetest.Find(t, checks, x.check), x.site, false), x.want)
		})
	}
}
