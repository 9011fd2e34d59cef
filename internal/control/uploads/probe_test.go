package uploads

import (
	"bytes"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/clamd/clamdtest"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/formdata"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/probe"
	"github.com/dewar-security/dewar/internal/probe/probetest"
)

// album is a site with a form for files that keeps them under /files/ in the
// ways that its fields say.
type album struct {
	refuse func(name, text string) bool
	rename func(name string) string // "": under its own
	kind   func(name string) string // by the extension when nil
	header http.Header
	shows  bool // the answer names the file
	form   string
	token  bool
	limit  int64

	mu   sync.Mutex
	kept map[string]string
	sent []string
}

// ServeHTTP implements [http.Handler].
func (a *album) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if a.limit > 0 && r.ContentLength > a.limit {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	switch {
	case r.URL.Path == "/":
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "s1"})
		fmt.Fprint(w, `<a href="/about">about</a> <a href="/logout">bye</a> <a href="/send-file">send</a> <a href="https://elsewhere.example/upload">x</a>`)
	case r.URL.Path == "/logout":
		a.sent = append(a.sent, "LOGOUT")
	case r.URL.Path == "/send-file" && r.Method == http.MethodGet:
		form := a.form
		if form == "" {
			form = `<form method=post enctype="multipart/form-data"><input type=hidden name=csrf_token value=t1><input name=title><input type=file name=picture></form>`
		}
		fmt.Fprint(w, form)
	case r.Method == http.MethodPost && (r.URL.Path == "/send-file" || r.URL.Path == "/api/put"):
		name, text, token := taking(r)
		if name == "" {
			return // it broke off
		}
		if a.token && (token != "t1" || r.Header.Get("Cookie") != "session=s1" || r.Header.Get("Origin") == "") {
			http.Error(w, "no token", http.StatusBadRequest)
			return
		}
		if a.refuse != nil && a.refuse(name, text) {
			http.Error(w, "no such files", http.StatusBadRequest)
			return
		}
		a.sent = append(a.sent, name)
		at := path.Join("/files", name) // as who believes the name does
		if a.rename != nil {
			at = "/files/" + a.rename(name)
		}
		if a.kept == nil {
			a.kept = map[string]string{}
		}
		a.kept[at] = text
		if a.shows {
			fmt.Fprintf(w, `{"url": "%s"}`, at)
			return
		}
		http.Redirect(w, r, "/send-file", http.StatusFound)
	default:
		text, ok := a.kept[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		kind := map[string]string{".html": "text/html", ".svg": "image/svg+xml", ".png": "image/png", ".txt": "text/plain"}[path.Ext(r.URL.Path)]
		if a.kind != nil {
			kind = a.kind(r.URL.Path)
		}
		w.Header()["Content-Type"] = []string{kind}
		if kind == "" {
			w.Header()["Content-Type"] = nil
		}
		for n, v := range a.header {
			w.Header()[n] = v
		}
		_, _ = io.WriteString(w, text)
	}
}

// taking reads a form as Werkzeug does, which believes the name with its path.
func taking(r *http.Request) (name, text, token string) {
	b, _ := io.ReadAll(r.Body)
	_, params, _ := strings.Cut(r.Header.Get("Content-Type"), "boundary=")
	for _, part := range strings.Split(string(b), "--"+params) {
		head, body, _ := strings.Cut(part, "\r\n\r\n")
		body = strings.TrimSuffix(body, "\r\n")
		line, _, _ := strings.Cut(strings.TrimPrefix(head, "\r\nContent-Disposition: "), "\r\n")
		d, ok := formdata.ParseDisposition(line)
		switch {
		case !ok:
		case d.File:
			name, text = d.Filename, body
		case d.Name == "csrf_token":
			token = body
		}
	}
	return name, text, token
}

func TestProbe(t *testing.T) {
	active := func(_, text string) bool { return strings.Contains(text, "<script>") }
	byName := func(name, _ string) bool { return !strings.HasSuffix(name, ".png") }
	secure := func(name string) string { return path.Base(name) }
	header := func(kv ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(kv); i += 2 {
			h.Set(kv[i], kv[i+1])
		}
		return h
	}
	const size, content, where, malware = "upload-size", "upload-active-content", "upload-path", "upload-malware"
	for _, x := range []struct {
		check, name string
		site        *album
		want        evidence.Outcome
	}{
		{content, "as it came", &album{}, evidence.Fail},
		{content, "as it came, shown", &album{shows: true}, evidence.Fail},
		{content, "under another name", &album{shows: true, rename: func(name string) string { return fmt.Sprintf("%x%s", len(name)*7919, path.Ext(name)) }}, evidence.Fail},
		{content, "with a token", &album{token: true}, evidence.Fail},
		{content, "without a type", &album{kind: func(string) string { return "" }}, evidence.Fail},
		{content, "with a policy that lets inline scripts run", &album{header: header("Content-Security-Policy", "default-src 'self' 'unsafe-inline'")}, evidence.Fail},
		{content, "pages refused by content", &album{refuse: active}, evidence.Pass},
		{content, "by its name, and the picture is a page", &album{refuse: byName}, evidence.Pass},
		{content, "as attachments", &album{header: header("Content-Disposition", "attachment; filename=x")}, evidence.Pass},
		{content, "as inline", &album{header: header("Content-Disposition", "inline")}, evidence.Fail},
		{content, "in a sandbox", &album{header: header("Content-Security-Policy", "sandbox")}, evidence.Pass},
		{content, "with a policy", &album{header: header("Content-Security-Policy", "default-src 'none'")}, evidence.Pass},
		{content, "as bytes", &album{kind: func(string) string { return "application/octet-stream" }}, evidence.Pass},
		{content, "without a type and nosniff", &album{kind: func(string) string { return "" }, header: header("X-Content-Type-Options", "nosniff")}, evidence.Pass},
		{content, "taken and nowhere found", &album{rename: func(string) string { return probe.Nonce() }}, evidence.Error},
		{content, "nothing is taken", &album{refuse: func(_, _ string) bool { return true }}, evidence.Error},
		{content, "no form", &album{form: "<p>closed"}, evidence.Error},
		{content, "a registration", &album{form: `<form method=post><input type=password name=p><input type=file name=f></form>`}, evidence.Error},
		{content, "a form of another site", &album{form: `<form method=post action="https://elsewhere.example/x"><input type=file name=f></form>`}, evidence.Error},

		{where, "believed", &album{}, evidence.Fail},
		{where, "secured", &album{rename: secure}, evidence.Pass},
		{where, "refused", &album{refuse: func(name, _ string) bool { return strings.Contains(name, "/") }}, evidence.Pass},
		{where, "lost", &album{rename: func(name string) string {
			if strings.Contains(name, "/") {
				return probe.Nonce()
			}
			return name
		}}, evidence.Error},
		{where, "nothing is taken", &album{refuse: func(_, _ string) bool { return true }}, evidence.Error},

		{malware, "taken", &album{}, evidence.Fail},
		{malware, "scanned", &album{refuse: func(_, text string) bool { return text == clamdtest.Eicar() }}, evidence.Pass},
		{malware, "no texts", &album{refuse: byName}, evidence.Error},

		{size, "a limit", &album{limit: 1 << 20}, evidence.Pass},
		{size, "none", &album{}, evidence.Fail},
	} {
		t.Run(x.check+"/"+x.name, func(t *testing.T) {
			got := probetest.Ask(t, probetest.Find(t, checks, x.check), x.site, false, func(o *probe.Options) { o.Uploads, o.Timeout = "eicar", 10*time.Second })
			probetest.Want(t, got, x.want)
			for _, n := range x.site.sent {
				if n == "LOGOUT" || !strings.HasPrefix(path.Base(n), "dewar") {
					t.Errorf("%q was sent", n)
				}
			}
			// Without leave nothing is sent that could stay.
			x.site.sent = nil
			if x.check != size {
				got = probetest.Ask(t, probetest.Find(t, checks, x.check), x.site, false)
				probetest.Want(t, got, evidence.Error)
			}
			if len(x.site.sent) > 0 {
				t.Errorf("%q was sent without leave", x.site.sent)
			}
		})
	}
	// EICAR needs leave of its own, and writing requests their setting.
	site := &album{}
	probetest.Want(t, probetest.Ask(t, probetest.Find(t, checks, malware), site, false, func(o *probe.Options) { o.Uploads = "markers" }), evidence.Error)
	for _, k := range checks {
		probetest.Want(t, probetest.Ask(t, k, site, false, func(o *probe.Options) { o.Uploads, o.Writes = "eicar", false }), evidence.Error)
	}
	if len(site.sent) > 0 {
		t.Errorf("%q was sent", site.sent)
	}
	// A route that no page leads to.
	site = &album{form: "<p>none"}
	probetest.Want(t, probetest.Ask(t, probetest.Find(t, checks, content), site, false, func(o *probe.Options) {
		o.Uploads, o.UploadRoutes = "markers", []probe.UploadRoute{{Path: "/api/put", Field: "f"}}
	}), evidence.Fail)
	if len(site.sent) < 2 {
		t.Error("the route map was not used")
	}
}

// TestSpecimens: the honest picture is one, and the test file is that.
func TestSpecimens(t *testing.T) {
	x := honest()
	if _, err := png.Decode(strings.NewReader(x.text)); err != nil || !bytes.Contains([]byte(x.text), []byte(x.marker)) {
		t.Error(err)
	}
	if eicar() != clamdtest.Eicar() {
		t.Error("not the test file")
	}
	if d := newFiles(t, Config{}, guard.Env{}).Request(exchange(mp, typed(x.name, x.kind, x.text)+end)); d.Reason != "" {
		t.Errorf("the guard finds %+v in the honest picture", d)
	}
}
