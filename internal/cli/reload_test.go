package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const reloadApp = `
from flask import Flask, request
app = Flask(__name__)
app.secret_key = "7b1f0c52a7e94ad3b0c1f6b0a2d9e8c4"

@app.route("/", methods=["GET", "POST"])
def index():
    return "VERSION %d bytes" % len(request.get_data())
`

// traffic is a load on a site that counts what went wrong. Some clients keep
// their connections, in HTTP/1.1 and HTTP/2, some open one for each request.
type traffic struct {
	stop   context.CancelFunc
	wg     sync.WaitGroup
	ok     atomic.Int64
	mu     sync.Mutex
	failed []string
}

func load(s *site, each int) *traffic {
	ctx, cancel := context.WithCancel(context.Background())
	l := &traffic{stop: cancel}
	run := func(h2, keep bool) {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.ca}, ForceAttemptHTTP2: h2, DisableKeepAlives: !keep, MaxIdleConnsPerHost: 1}
		if !h2 {
			tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
		}
		c := &http.Client{Transport: tr, Timeout: time.Minute}
		defer tr.CloseIdleConnections()
		for n := 0; ctx.Err() == nil; n++ {
			// A POST is not repeated by the client: a connection that was
			// closed under it is a failure.
			method, body := "GET", io.Reader(nil)
			if n%2 == 1 {
				method, body = "POST", struct{ io.Reader }{strings.NewReader("0123456789")}
			}
			q, _ := http.NewRequest(method, s.https+"/", body)
			q.Header.Set("Sec-Fetch-Site", "same-origin")
			res, err := c.Do(q)
			what := ""
			if err == nil {
				var b []byte
				b, err = io.ReadAll(res.Body)
				res.Body.Close()
				if err == nil && (res.StatusCode != 200 || !bytes.Contains(b, []byte("bytes"))) {
					what = fmt.Sprintf("%s: %d %.80s", method, res.StatusCode, b)
				}
			}
			if err != nil {
				what = fmt.Sprintf("%s (HTTP/2 %v, kept %v): %v", method, h2, keep, err)
			}
			if what != "" {
				l.mu.Lock()
				l.failed = append(l.failed, what)
				l.mu.Unlock()
			} else {
				l.ok.Add(1)
			}
		}
	}
	for range each {
		l.wg.Go(func() { run(false, true) })
		l.wg.Go(func() { run(false, false) })
		l.wg.Go(func() { run(true, true) })
	}
	return l
}

// end stops the load and fails the test for every request that was dropped.
func (l *traffic) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.wg.Wait()
	if len(l.failed) > 0 {
		t.Errorf("%d requests failed beside %d that did not, such as:\n%s", len(l.failed), l.ok.Load(), strings.Join(l.failed[:min(len(l.failed), 5)], "\n"))
	}
	if l.ok.Load() < 20 {
		t.Errorf("only %d requests: the load was none", l.ok.Load())
	}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !cond(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not seen in time: %s", what)
		}
	}
}

// TestReload: settings, certificate and app change under load, and nothing is
// dropped; what cannot be used changes nothing and is said.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	settings := filepath.Join(dir, "dewar.toml")
	writeFile(t, filepath.Join(dir, "app.py"), strings.Replace(reloadApp, "VERSION", "one", 1))
	const base = "[abuse]\nrate-limit = \"off\"\n[injection]\nmode = \"off\"\n"
	writeFile(t, settings, base)
	s := start(t, dir, nil)
	c := s.client()
	reload := func(code int, args ...string) string {
		t.Helper()
		var out buffer
		if got := execute(t.Context(), append([]string{"reload", dir}, args...), s.environ, strings.NewReader(""), &out, &out); got != code {
			t.Fatalf("dewar reload: exit %d, want %d\n%s", got, code, out.String())
		}
		return out.String()
	}
	header := func() string { return s.ask(c, "GET", s.https+"/", "").Header.Get("Referrer-Policy") }
	evidence := func() string {
		t.Helper()
		state, err := (&app{environ: s.environ}).running(dir)
		if err != nil {
			t.Fatal(err)
		}
		var all []json.RawMessage
		if err := askConsole(t.Context(), state, "GET", "/evidence", 10*time.Second, &all); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s", all)
	}

	l := load(s, 1)
	// A file that changes.
	writeFile(t, settings, base+"[headers]\nreferrer-policy = \"same-origin\"\n")
	eventually(t, "the file's new referrer policy", func() bool { return header() == "same-origin" })
	if !strings.Contains(s.out.String(), "headers.referrer-policy ("+settings+":6)") {
		t.Errorf("the change is not named:\n%s", s.out)
	}
	// One that cannot be used: the old stays, place and way out are named.
	writeFile(t, settings, base+"[headers]\nreferrer-polcy = \"origin\"\n")
	eventually(t, "the broken file", func() bool { return strings.Contains(s.out.String(), "not reloaded") })
	if out := s.out.String(); !strings.Contains(out, settings+":6") || !strings.Contains(out, `did you mean "headers.referrer-policy"?`) {
		t.Errorf("the mistake is not named:\n%s", out)
	}
	if header() != "same-origin" {
		t.Error("a broken file changed what was in force")
	}
	if e := evidence(); !strings.Contains(e, "new settings were not taken") || !strings.Contains(e, "referrer-polcy") {
		t.Errorf("the evidence does not say so:\n%s", e)
	}
	if out := reload(1); !strings.Contains(out, "not reloaded: "+settings+":6") {
		t.Errorf("dewar reload said %s", out)
	}
	// A value that a layer cannot work with.
	writeFile(t, settings, base+"[[route]]\npath = \"/x\"\nreason = \"test\"\nmodes = { cfrs = \"off\" }\n")
	if out := reload(1); !strings.Contains(out, settings+":5: [[route]]: ") || !strings.Contains(out, `there is no layer "cfrs"`) {
		t.Errorf("dewar reload said %s", out)
	}
	// What needs a restart is said, the rest comes into force.
	writeFile(t, settings, base+"[headers]\nreferrer-policy = \"origin\"\n[monitoring]\nkeep = 3\n[deployment]\nidle-timeout = \"33s\"\n")
	if out := reload(0); !strings.Contains(out, "waits for a restart: monitoring.keep ("+settings+":8)") || !strings.Contains(out, "changed  deployment.idle-timeout") {
		t.Errorf("dewar reload said %s", out)
	}
	if header() != "origin" {
		t.Error("the new referrer policy is not in force")
	}
	if e := evidence(); !strings.Contains(e, "settings wait for a restart: monitoring.keep") {
		t.Errorf("the evidence does not say so:\n%s", e)
	}
	writeFile(t, settings, base)

	// The app's code, by a second gunicorn beside the first.
	writeFile(t, filepath.Join(dir, "app.py"), strings.Replace(reloadApp, "VERSION", "two", 1))
	if out := reload(0, "--app"); !strings.Contains(out, "and the app") {
		t.Errorf("dewar reload said %s", out)
	}
	if a := s.ask(c, "GET", s.https+"/", ""); !strings.HasPrefix(a.text, "two") {
		t.Errorf("the old code answers: %s", a.text)
	}
	// Code that cannot be loaded, and code that a preflight refuses.
	writeFile(t, filepath.Join(dir, "app.py"), "from flask import Flask\nimport nothing_of_this_name\napp = Flask(__name__)\n")
	if out := reload(1, "--app"); !strings.Contains(out, "the module nothing_of_this_name is not installed") {
		t.Errorf("dewar reload said %s", out)
	}
	writeFile(t, filepath.Join(dir, "app.py"), reloadApp+"\napp.debug = True\n")
	if out := reload(1, "--app"); !strings.Contains(out, "would not start in profile production") || !strings.Contains(out, "debug-off") {
		t.Errorf("dewar reload said %s", out)
	}
	if a := s.ask(c, "GET", s.https+"/", ""); !strings.HasPrefix(a.text, "two") {
		t.Errorf("code that was refused answers: %s", a.text)
	}
	// The signal does it all.
	writeFile(t, filepath.Join(dir, "app.py"), strings.Replace(reloadApp, "VERSION", "three", 1))
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the third app", func() bool { return strings.HasPrefix(s.ask(c, "GET", s.https+"/", "").text, "three") })
	// Fewer workers: gunicorn's own settings change with a new one.
	writeFile(t, settings, base+"[deployment]\nthreads = 2\n")
	if out := reload(0); !strings.Contains(out, "deployment.threads") {
		t.Errorf("dewar reload said %s", out)
	}
	l.end(t)
	if e := evidence(); strings.Contains(e, "new settings were not taken") || !strings.Contains(e, "without a restart") {
		t.Errorf("the evidence of the last reload:\n%s", e)
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	if left := processesOf(t, dir); len(left) > 0 {
		t.Errorf("left running: %v", left)
	}
}
