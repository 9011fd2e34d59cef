package cli

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/browsertest"
)

// chromium returns a function that opens a page in a headless Chromium and
// returns its DOM when the scripts have run, with what the console said.
func chromium(t *testing.T) func(page string) (dom, console string) {
	t.Helper()
	return func(page string) (string, string) {
		t.Helper()
		c := browsertest.Command(t, "--enable-logging=stderr", "--v=0", "--virtual-time-budget=4000", "--dump-dom", page)
		var out, errs buffer
		c.Stdout, c.Stderr = &out, &errs
		if err := c.Run(); err != nil && out.String() == "" {
			t.Fatalf("chromium: %v\n%s", err, errs.String())
		}
		return out.String(), errs.String()
	}
}

const cspApp = `from flask import Flask, render_template, request
app = Flask(__name__)
app.secret_key = "0ddb3c3e8a8d4c1fa7ddc5dd3a3c8e6df6ba9c0f"
@app.get("/")
def index():
    return render_template("page.html", q=request.args.get("q", ""), name=request.args.get("name", "Ann O'Neil \"<x>"), cart={"n": [1, 2.5, None], "s": "</script>'&"}, rows=["a", "b"])
`

const cspPage = `<!doctype html><html><head><meta charset="utf-8"><title>page</title>
<style>body { color: {{ "rgb(1, 2, 3)" }} }</style>
<script>window.ran = ["head"];</script></head>
<body data-ran="nothing" onload="ran.push('onload {{ rows[0] }}'.slice(0, 6)); document.body.dataset.ran = ran.join(' ')">
<p id="styled" style="width: {{ 40 + 2 }}px">styled</p>
<script>
  ran.push("{{ name }}" ? "string" : "");
  ran.push({{ cart|tojson }}.n[1]);
  {% for row in rows -%}
  ran.push("row-{{ row }}");
  {% endfor %}
  {% if q %}ran.push('searched');{% endif %}
  ran.push(getComputedStyle(document.getElementById("styled")).width, getComputedStyle(document.body).color.replaceAll(" ", ""));
</script>
<div>{{ q|safe }}</div>
</body></html>
`

// TestPolicyInABrowser: with the policy in force that was read from the
// templates, a page's own scripts, handlers and styles work in a real browser,
// and injected ones do not, whatever shape they have.
func TestPolicyInABrowser(t *testing.T) {
	open := chromium(t)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "templates"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "app.py"), cspApp)
	writeFile(t, filepath.Join(dir, "templates", "page.html"), cspPage)
	writeFile(t, filepath.Join(dir, "dewar.toml"), "[injection]\nmode = \"off\"\nvirtual-patches = \"off\"\n[headers]\ncsp-mode = \"enforce\"\n")
	s := start(t, dir, nil)
	const own = `data-ran="head string 2.5 row-a row-b 42px rgb(1,2,3) onload"`
	dom, console := open(s.https + "/")
	if !strings.Contains(dom, own) {
		t.Errorf("the page's own scripts did not all run:\n%s\n%s", bodyTag(dom), csp(console))
	}
	if v := csp(console); v != "" {
		t.Errorf("the browser saw violations:\n%s", v)
	}
	const searched = `data-ran="head string 2.5 row-a row-b searched 42px rgb(1,2,3) onload"`
	for _, attack := range []string{
		"<script>document.body.dataset.evil=1</script>",
		"<img src=x onerror=\"document.body.dataset.evil=1\">",
		"<svg onload=document.body.dataset.evil=1>",
		"<iframe srcdoc=\"<script>parent.document.body.dataset.evil=1</script>\"></iframe>",
		"<a id=l href=\"javascript:document.body.dataset.evil=1\">x</a><script>l.click()</script>",
		// The shape of the page's own script, with something else in its places.
		"<script>\n  ran.push(\"\" ? \"string\" : \"\");\n  ran.push(document.body.dataset.evil=1.n[1]);\n</script>",
		"<script>window.ran = [\"head\"];document.body.dataset.evil=1</script>",
		"<base href=https://evil.example/><p style=\"background:url(https://evil.example/x)\">",
		"<style>body { color: red } </style>",
	} {
		q := "/?" + url.Values{"q": {attack}}.Encode()
		dom, console := open(s.https + q)
		body := bodyTag(dom)
		if strings.Contains(body, "data-evil") || !strings.Contains(body, searched) {
			t.Errorf("%s: %s\n%s", attack, body, csp(console))
		}
		if csp(console) == "" {
			t.Errorf("%s: the browser stopped nothing", attack)
		}
	}
	// The same page without a policy: the attacks are attacks.
	writeFile(t, filepath.Join(dir, "dewar.toml"), "[injection]\nmode = \"off\"\nvirtual-patches = \"off\"\n[headers]\ncsp-mode = \"off\"\n")
	eventually(t, "no policy", func() bool {
		return s.ask(s.client(), "GET", s.https+"/", "").Header.Get("Content-Security-Policy") == ""
	})
	if dom, _ := open(s.https + "/?" + url.Values{"q": {"<script>document.body.dataset.evil=1</script>"}}.Encode()); !strings.Contains(bodyTag(dom), "data-evil") {
		t.Errorf("without a policy the attack did nothing: the test tests nothing\n%s", bodyTag(dom))
	}
}

// TestPolicyBesideAWeakOne: an app that sends a policy of its own which allows
// everything is held to ours, its own scripts work, and what it loads over http
// is asked for over https.
func TestPolicyBesideAWeakOne(t *testing.T) {
	open := chromium(t)
	dir := t.TempDir()
	for _, d := range []string{"templates", "static"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "app.py"), `from flask import Flask, render_template, request
app = Flask(__name__)
app.secret_key = "0ddb3c3e8a8d4c1fa7ddc5dd3a3c8e6df6ba9c0f"
@app.get("/")
def index():
    return render_template("page.html", q=request.args.get("q", ""))
@app.after_request
def weak(r):
    r.headers["Content-Security-Policy"] = "default-src * 'unsafe-inline' 'unsafe-eval'"
    return r
`)
	writeFile(t, filepath.Join(dir, "templates", "page.html"), `<!doctype html><html><head><title>page</title><script>window.ran = ["own"];</script>
<script src="http://{{ request.host }}/static/cleartext.js"></script></head>
<body onload="document.body.dataset.ran = ran.join(' ')">{{ q|safe }}</body></html>`)
	writeFile(t, filepath.Join(dir, "static", "cleartext.js"), `ran.push("upgraded")`)
	config := func(own string) string {
		return "[deployment]\nallowed-hosts = [\"localhost\", \"site.test\"]\n[injection]\nmode = \"off\"\nvirtual-patches = \"off\"\n[headers]\nhsts = \"0s\"\ncsp-mode = \"enforce\"\ncsp-own = \"" + own + "\"\n"
	}
	writeFile(t, filepath.Join(dir, "dewar.toml"), config("weak"))
	s := start(t, dir, nil)
	// For browsers http://localhost is as good as https: nothing to upgrade.
	site := strings.Replace(s.https, "localhost", "site.test", 1)
	dom, console := open(site + "/")
	if !strings.Contains(dom, `data-ran="own upgraded"`) || csp(console) != "" {
		t.Errorf("the page's own scripts: %s\n%s", bodyTag(dom), csp(console))
	}
	evil := func(v string) string { return site + "/?" + url.Values{"q": {v}}.Encode() }
	attacks := []string{"<script>document.body.dataset.evil=1</script>", "<img src=x onerror=\"document.body.dataset.evil=1\">"}
	for _, attack := range attacks {
		dom, console := open(evil(attack))
		if body := bodyTag(dom); strings.Contains(body, "data-evil") || !strings.Contains(body, `data-ran="own upgraded"`) || csp(console) == "" {
			t.Errorf("%s: %s\n%s", attack, body, csp(console))
		}
	}
	// The app's policy alone stops none of them.
	writeFile(t, filepath.Join(dir, "dewar.toml"), config("never"))
	eventually(t, "the app's policy alone", func() bool {
		return len(s.ask(s.client(), "GET", s.https+"/", "").Header["Content-Security-Policy"]) == 1
	})
	for _, attack := range attacks {
		if dom, _ := open(evil(attack)); !strings.Contains(bodyTag(dom), "data-evil") {
			t.Errorf("%s did nothing without ours: the test tests nothing", attack)
		}
	}
}

// bodyTag returns the start tag of a DOM's body.
func bodyTag(dom string) string {
	_, rest, _ := strings.Cut(dom, "<body")
	tag, _, _ := strings.Cut(rest, ">")
	return tag
}

// csp returns the lines in which Chromium tells of a policy.
func csp(console string) string {
	var out []string
	for line := range strings.SplitSeq(console, "\n") {
		if strings.Contains(line, "Content Security Policy") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}
