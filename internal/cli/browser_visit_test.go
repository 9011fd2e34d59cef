package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/browsertest"
)

// visitor is one Chromium with one tab, driven by the DevTools protocol over a
// pipe: it logs in, follows links, sends forms, and remembers what the browser
// refused to load or to run.
type visitor struct {
	t        *testing.T
	to       *os.File
	messages chan message
	id       int
	session  string
	// complaints are what a policy, an integrity attribute or a cross-origin
	// policy stopped, with the page it was on.
	complaints []string
	page       string
	loaded     bool
}

type message struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
	Params struct {
		Entry struct {
			Source, Text, URL string
		} `json:"entry"`
		BlockedReason string `json:"blockedReason"`
		Message       string `json:"message"`
	} `json:"params"`
}

// visit starts a browser.
func visit(t *testing.T) *visitor {
	t.Helper()
	in, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := browsertest.Command(t, "--remote-debugging-pipe", "about:blank")
	c.ExtraFiles = []*os.File{in, out} // 3 and 4
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	out.Close()
	v := &visitor{t: t, to: to, messages: make(chan message, 1024)}
	go func() {
		defer close(v.messages)
		r := bufio.NewReaderSize(from, 1<<20)
		for {
			line, err := r.ReadBytes(0)
			if err != nil {
				return
			}
			var m message
			if json.Unmarshal(line[:len(line)-1], &m) == nil {
				select {
				case v.messages <- m:
				case <-t.Context().Done():
					return
				}
			}
		}
	}()
	t.Cleanup(func() {
		to.Close() // which ends the browser
		c.Wait()
		from.Close()
	})
	var target struct{ TargetID string }
	v.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	v.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	v.session = attached.SessionID
	for _, domain := range []string{"Page", "Log", "Runtime", "Network"} {
		v.call(domain+".enable", map[string]any{}, nil)
	}
	return v
}

// call asks the browser for something and decodes its answer.
func (v *visitor) call(method string, params map[string]any, answer any) {
	v.t.Helper()
	v.id++
	m := map[string]any{"id": v.id, "method": method, "params": params}
	if v.session != "" {
		m["sessionId"] = v.session
	}
	line, err := json.Marshal(m)
	if err != nil {
		v.t.Fatal(err)
	}
	if _, err := v.to.Write(append(line, 0)); err != nil {
		v.t.Fatalf("the browser is gone: %v", err)
	}
	var got message
	v.until(method, func(m message) bool { got = m; return m.ID == v.id })
	if got.Error != nil {
		v.t.Fatalf("%s: %s", method, got.Error)
	}
	if answer != nil {
		if err := json.Unmarshal(got.Result, answer); err != nil {
			v.t.Fatalf("%s: %v in %s", method, err, got.Result)
		}
	}
}

// until takes messages until one is what is waited for.
func (v *visitor) until(what string, found func(message) bool) {
	v.t.Helper()
	timeout := time.After(2 * time.Minute)
	for {
		select {
		case m, ok := <-v.messages:
			if !ok {
				v.t.Fatalf("the browser ended at %s", what)
			}
			switch p := m.Params; {
			case m.Method == "Page.loadEventFired":
				v.loaded = true
			case m.Method == "Page.javascriptDialogOpening":
				v.complaints = append(v.complaints, v.page+": a dialog: "+p.Message)
				v.id++ // nobody waits for the answer
				fmt.Fprintf(v.to, `{"id":%d,"sessionId":%q,"method":"Page.handleJavaScriptDialog","params":{"accept":true}}`+"\x00", v.id+1<<20, v.session)
			case m.Method == "Log.entryAdded" && (p.Entry.Source == "security" || strings.Contains(p.Entry.Text, "Content Security Policy") || strings.Contains(p.Entry.Text, "integrity")):
				v.complaints = append(v.complaints, v.page+": "+p.Entry.Text)
			case m.Method == "Network.loadingFailed" && p.BlockedReason != "":
				v.complaints = append(v.complaints, v.page+": not loaded: "+p.BlockedReason)
			}
			if found(m) {
				return
			}
		case <-timeout:
			v.t.Fatalf("the browser said nothing in time: %s on %s", what, v.page)
		}
	}
}

// open goes to a page and waits until it has loaded.
func (v *visitor) open(page string) {
	v.t.Helper()
	v.page, v.loaded = page, false
	var to struct{ ErrorText string }
	v.call("Page.navigate", map[string]any{"url": page}, &to)
	if to.ErrorText != "" { // a download, a 204
		v.t.Logf("%s: %s", page, to.ErrorText)
		return
	}
	v.arrive()
}

func (v *visitor) arrive() {
	v.t.Helper()
	if !v.loaded {
		v.until("load", func(message) bool { return v.loaded })
	}
	v.eval("0", nil) // what is said about the page comes before
}

// eval runs an expression in the page, outside of its policy.
func (v *visitor) eval(expression string, answer any) {
	v.t.Helper()
	var out struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	v.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &out)
	if out.ExceptionDetails != nil {
		v.t.Fatalf("%s on %s: %s", expression, v.page, out.ExceptionDetails)
	}
	if answer != nil {
		if err := json.Unmarshal(out.Result.Value, answer); err != nil {
			v.t.Fatalf("%s: %v in %s", expression, err, out.Result.Value)
		}
	}
}

// send fills in the form that has all the fields, name and value by turns, and
// presses its button.
func (v *visitor) send(fields ...string) {
	v.t.Helper()
	list, err := json.Marshal(fields)
	if err != nil {
		v.t.Fatal(err)
	}
	v.loaded = false
	var found bool
	v.eval(`(() => {
		const fields = `+string(list)+`;
		for (const form of document.forms) {
			let all = true;
			for (let i = 0; i < fields.length; i += 2) all = all && form.elements[fields[i]];
			if (!all) continue;
			for (let i = 0; i < fields.length; i += 2) form.elements[fields[i]].value = fields[i + 1];
			setTimeout(() => form.requestSubmit());
			return true;
		}
		return false;
	})()`, &found)
	if !found {
		v.t.Fatalf("%s has no form with %s", v.page, list)
	}
	v.page += " (sent)"
	v.arrive()
}

// at returns the address of the page.
func (v *visitor) at() (address string) {
	v.t.Helper()
	v.eval("location.href", &address)
	return address
}

// crawl opens every page of a site that links lead to, with a few of those that
// differ in a number only, and returns their paths.
func (v *visitor) crawl(site string, skip ...string) map[string]bool {
	v.t.Helper()
	queue, seen, shapes := []string{"/"}, map[string]bool{}, map[string]int{}
	for len(queue) > 0 && len(seen) < 150 {
		path := queue[0]
		queue = queue[1:]
		shape := strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return '0'
			}
			return r
		}, path)
		if seen[path] || shapes[shape] >= 2 {
			continue
		}
		seen[path] = true
		shapes[shape]++
		v.open(site + path)
		var links []string
		v.eval("[...document.querySelectorAll('a[href]')].map(a => a.href)", &links)
		for _, l := range links {
			u, err := url.Parse(l)
			if err != nil || !strings.HasPrefix(l, site+"/") {
				continue
			}
			skipped := false
			for _, s := range skip {
				skipped = skipped || strings.HasPrefix(u.Path, s)
			}
			if !skipped {
				queue = append(queue, u.RequestURI())
			}
		}
	}
	return seen
}

// quiet fails the test if the browser complained.
func (v *visitor) quiet(what string) {
	v.t.Helper()
	if len(v.complaints) > 0 {
		v.t.Errorf("%s: the browser stopped\n%s", what, strings.Join(v.complaints, "\n"))
	}
	v.complaints = nil
}

// strictest is what the examples are shown to a browser with.
var strictest = []string{"--set", "headers.csp-mode=enforce", "--set", "headers.integrity=enforce", "--set", "headers.embedder-policy=require-corp", "--set", "csrf.token=true", "--set", "abuse.rate-limit=off"}

// TestShopInABrowser: with every header of ours at its strictest and tokens in
// the forms, a browser goes through all pages of the shop, as a visitor and as
// the administrator, and is stopped nowhere.
func TestShopInABrowser(t *testing.T) {
	v := visit(t)
	s := startShop(t, strictest...)
	pages := v.crawl(s.https)
	for _, want := range []string{"/cart/", "/login", "/register", "/reset"} {
		if !pages[want] {
			t.Errorf("the crawl did not come to %s", want)
		}
	}
	v.open(s.https + "/login")
	v.send("email", "admin@shop.example", "password", shopPassword+"-admin")
	if at := v.at(); at != s.https+"/" {
		t.Fatalf("after the login: %s", at)
	}
	v.open(s.https + "/product/1")
	v.send("quantity", "2")
	v.open(s.https + "/checkout")
	v.send("address", "1 Long Road\nSmall Town")
	if at := v.at(); !strings.HasPrefix(at, s.https+"/orders/") {
		t.Errorf("after the order: %s", at)
	}
	v.open(s.https + "/?q=" + url.QueryEscape("tea & <coffee>"))
	pages = v.crawl(s.https)
	for _, want := range []string{"/account", "/orders", "/admin/", "/admin/orders", "/admin/products", "/admin/products/new", "/admin/users"} {
		if !pages[want] {
			t.Errorf("the administrator's crawl did not come to %s", want)
		}
	}
	v.quiet("the shop")
	var stamped int
	v.open(s.https + "/")
	v.eval("document.querySelectorAll('script[src][integrity]').length", &stamped)
	if stamped == 0 {
		t.Error("no script has integrity: nothing was tried")
	}
	if h := s.ask(s.client(), "GET", "/", "").Header; !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("Cross-Origin-Embedder-Policy") != "require-corp" {
		t.Errorf("the strictest headers are not there: %v", h)
	}
}

// TestLeakyInABrowser: leaky's own policy allows everything. Ours beside it
// stops no honest visitor, and the scripts that leaky lets strangers write.
func TestLeakyInABrowser(t *testing.T) {
	root := real(t)
	v := visit(t)
	s := start(t, filepath.Join(root, "examples", "leaky"), []string{"INSTANCE_PATH=" + t.TempDir(), "SECRET_KEY=e2e-0f3a9b7c5d1e8f2a4b6c8d0e2f4a6b8c1d"}, append([]string{"--profile", "development", "--set", "deployment.tls=files", "--set", "injection.mode=off", "--set", "injection.virtual-patches=off"}, strictest...)...)
	skip := []string{"/logout", "/backoffice", "/cart/add"}
	v.crawl(s.https, skip...)
	v.open(s.https + "/register")
	v.send("email", "ann@leaky.example", "name", "Ann O'Neil", "password", "correct horse")
	v.open(s.https + "/login")
	v.send("email", "ann@leaky.example", "password", "correct horse")
	v.open(s.https + "/product/2")
	v.send("text", `It's "great": 1 < 2 & 3 > 2`)
	v.open(s.https + "/cart/add/2")
	v.open(s.https + "/?q=" + url.QueryEscape("tea & coffee"))
	if pages := v.crawl(s.https, skip...); !pages["/account"] || !pages["/product/1"] || !pages["/tools/"] {
		t.Errorf("the crawl came to %v", pages)
	}
	v.quiet("leaky, used honestly")
	for _, page := range []string{
		"/desk/hello?name=" + url.QueryEscape("<script>alert(1)</script>"),
		"/desk/hello?name=" + url.QueryEscape("<svg onload=alert(1)>"),
		"/desk/?topic=" + url.QueryEscape("${alert(1)}"),
		"/desk/?topic=" + url.QueryEscape("x onmouseover=alert(1) style=position:fixed;inset:0"),
		"/tools/greet?name=" + url.QueryEscape("<img src=x onerror=alert(1)>"),
		"/desk/hello?name=" + url.QueryEscape("<iframe srcdoc='<script>top.alert(1)</script>'></iframe>"),
		"/desk/hello?name=" + url.QueryEscape("<script src=data:,alert(1)></script>"),
	} {
		v.open(s.https + page)
		v.eval("document.querySelector('[onmouseover]')?.dispatchEvent(new MouseEvent('mouseover'))", nil)
		stopped := false
		for _, c := range v.complaints {
			stopped = stopped || strings.Contains(c, "Content Security Policy")
			if strings.Contains(c, "a dialog") {
				t.Errorf("%s ran: %s", page, c)
			}
		}
		if !stopped {
			t.Errorf("%s: the browser stopped nothing: %q", page, v.complaints)
		}
		v.complaints = nil
	}
	// With leaky's policy alone they run.
	bare := start(t, filepath.Join(root, "examples", "leaky"), []string{"INSTANCE_PATH=" + t.TempDir(), "SECRET_KEY=e2e-0f3a9b7c5d1e8f2a4b6c8d0e2f4a6b8c1d"}, append([]string{"--profile", "development", "--set", "deployment.tls=files", "--set", "injection.mode=off", "--set", "injection.virtual-patches=off", "--set", "headers.csp-own=never"}, strictest...)...)
	v.open(bare.https + "/desk/hello?name=" + url.QueryEscape("<script>alert(1)</script>"))
	if !strings.Contains(strings.Join(v.complaints, "\n"), "a dialog: 1") {
		t.Errorf("without ours the script did not run: the test tests nothing: %q", v.complaints)
	}
}

// TestIntegrityOfAnEditedFile: a script that is edited in place, while the app
// runs, is said right in the next page: a browser runs it.
func TestIntegrityOfAnEditedFile(t *testing.T) {
	v := visit(t)
	dir := t.TempDir()
	for _, d := range []string{"templates", "part", "part/files"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "app.py"), `from flask import Blueprint, Flask, render_template
app = Flask(__name__)
app.secret_key = "0ddb3c3e8a8d4c1fa7ddc5dd3a3c8e6df6ba9c0f"
app.register_blueprint(Blueprint("part", __name__, static_folder="part/files", url_prefix="/part"))
@app.get("/")
def index():
    return render_template("page.html")
`)
	writeFile(t, filepath.Join(dir, "templates", "page.html"), `<!doctype html><html><body><script src="{{ url_for('part.static', filename='a b.js') }}"></script></body></html>`)
	version := func(n string) {
		t.Helper()
		name := filepath.Join(dir, "part", "files", "a b.js")
		if err := os.WriteFile(name, []byte("document.body.dataset.ran = "+n), 0o600); err != nil {
			t.Fatal(err)
		}
		// Not just now: within seconds of an edit nothing is said at all.
		if err := os.Chtimes(name, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	version("1")
	s := start(t, dir, nil, "--set", "headers.integrity=enforce")
	v.open(s.https + "/")
	for _, want := range []string{"1", "22", "333"} {
		version(want)
		var got, said string
		v.open(s.https + "/")
		v.eval("document.body.dataset.ran || 'nothing'", &got)
		v.eval("document.querySelector('script').integrity", &said)
		if got != want || !strings.HasPrefix(said, "sha384-") {
			t.Errorf("version %s: %s ran, integrity %q", want, got, said)
		}
	}
	v.quiet("an edited script")
}
