package gateway

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// elsewhereApps are apps in which something else than a rule may answer a
// path, or cannot. The first line of each is a word of the reason that is
// given, "-" where there is none.
const elsewhereApps = `
# -
app = Flask(__name__)
@app.get("/")
def index(): return "x"
# -
app = Flask(__name__)
@app.before_request
def note():
    if not request.endpoint:
        return
    g.user = 1
    if g.get("banned"):
        raise PermissionError("no")
@app.after_request
def harden(response):
    response.headers["X-Frame-Options"] = "DENY"
    return response
@app.errorhandler(404)
def missing(e):
    return render_template_string("none"), 404
@app.errorhandler(HTTPException)
def any_error(e):
    if e.code == 500:
        return jsonify(error="x"), 405
    return e
@app.errorhandler(ValueError)
def other(e):
    return "fine"
@app.errorhandler(500)
def broken(e):
    return "fine"
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1)
# before_request
app = Flask(__name__)
@app.before_request
def gate():
    return "closed" if g.get("closed") else None
# before_request
app = Flask(__name__)
@app.before_request
def gate():
    abort(redirect("/login"))
# before_request
app = Flask(__name__)
app.before_request(lambda: "x")
# after_request
app = Flask(__name__)
@app.after_request
def other(response):
    if response.status_code == 404:
        response = make_response("found")
    return response
# after_request
app = Flask(__name__)
@app.after_request
def other(response):
    response.status_code = 200
    return response
# error handler
app = Flask(__name__)
@app.errorhandler(404)
def single_page(e):
    return "<div id=app></div>"
# error handler
app = Flask(__name__)
@app.errorhandler(NotFound)
def moved(e):
    if request.path == "/old":
        return redirect("/new")
    return "none", 404
# error handler
app = Flask(__name__)
@app.errorhandler(Exception)
def all_of_them(e):
    return "none", 200
# middleware
app = Flask(__name__)
class Static:
    def __init__(self, app): self.app = app
    def __call__(self, environ, start_response): return self.app(environ, start_response)
app.wsgi_app = Static(app.wsgi_app)
# middleware
inner = Flask(__name__)
app = inner
wsgi = DispatcherMiddleware(inner, {"/other": inner})
# Prefix
app = Flask(__name__)
app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)
# not Flask's
class Own(Flask):
    def dispatch_request(self): return "x"
app = Own(__name__)
# not Flask's
app = Flask(__name__)
app.handle_user_exception = lambda e: "x"
# url_map
app = Flask(__name__)
class OwnMap(Map): pass
app.url_map = OwnMap()
`

const elsewhereScript = `
import json, os, runpy, sys, linecache
from flask import Flask, abort, g, jsonify, make_response, redirect, render_template_string, request
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import Map
r, w = os.pipe()
os.environ["DEWAR_GUNICORN"] = json.dumps({"pipe": w, "user_config": "", "cmd_args": "", "settings": {"umask": 18}, "defaults": [], "client_address": False})
hook = runpy.run_path(sys.argv[1])
out = []
for i, text in enumerate(json.load(sys.stdin)):
    name = "case%d.py" % i
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    scope = dict(globals(), wsgi=None)
    exec(compile(text, name, "exec"), scope)
    out.append(hook["_elsewhere"](scope["wsgi"] or scope["app"], scope["app"]))
json.dump(out, sys.stdout)
`

// TestElsewhere asks the hook of apps what may answer a path without a rule.
func TestElsewhere(t *testing.T) {
	var texts, wants []string
	for c := range strings.SplitSeq(strings.TrimSpace(elsewhereApps), "\n# ") {
		want, text, _ := strings.Cut(strings.TrimPrefix(c, "# "), "\n")
		wants, texts = append(wants, want), append(texts, text)
	}
	in, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	hook, err := filepath.Abs("gunicorn_hook.py")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(realPython(t), "-c", elsewhereScript, hook)
	cmd.Dir = t.TempDir()
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(in)), os.Stderr
	data, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got [][]string
	if err := json.Unmarshal(data, &got); err != nil || len(got) != len(wants) {
		t.Fatalf("%v: %s", err, data)
	}
	for i, want := range wants {
		found := slices.ContainsFunc(got[i], func(s string) bool { return strings.Contains(s, want) })
		if want == "-" && len(got[i]) > 0 || want != "-" && !found {
			t.Errorf("want %q, got %q of\n%s", want, got[i], texts[i])
		}
	}
}
