package flask_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// sources turns a txtar text into what Analyze reads.
func sources(text string) []flask.Source {
	var out []flask.Source
	for _, f := range txtar.Parse([]byte(text)).Files {
		s := flask.Source{Path: f.Name}
		if strings.HasSuffix(f.Name, ".py") {
			s.Python = pysyntax.Parse(f.Name, f.Data)
		} else {
			s.Data = f.Data
		}
		out = append(out, s)
	}
	return out
}

// TestGolden holds the whole model of the test apps, every position
// included.
func TestGolden(t *testing.T) {
	dirs, _ := filepath.Glob("testdata/apps/*")
	if len(dirs) == 0 {
		t.Fatal("no apps")
	}
	for _, dir := range dirs {
		if strings.HasSuffix(dir, ".json") {
			continue
		}
		m := flask.Analyze(load(t, dir))
		got, err := json.MarshalIndent(m, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, '\n')
		if bytes.Contains(got, []byte("not a real key")) {
			t.Errorf("%s: the JSON shows a secret", dir)
		}
		if *update {
			if err := os.WriteFile(dir+".json", got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(dir + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Errorf("%s (-want +got; -update rewrites):\n%s", dir, d)
		}
		again, _ := json.MarshalIndent(flask.Analyze(load(t, dir)), "", "  ")
		if !bytes.Equal(append(again, '\n'), got) {
			t.Errorf("%s: a second run gives another model", dir)
		}
	}
}

func TestFold(t *testing.T) {
	tests := []struct{ code, want string }{
		{`X = "a" "b" + 'c'`, `"abc"`},
		{`X = 60 * 60 * 24 + 0x10 - 1_0`, `86406`},
		{`X = 1 / 0`, `<unknown>`},
		{`X = "a" * 10**9`, `<unknown>`},
		{`X = 9**9**9**9`, `<unknown>`},
		{`X = X + 1`, `<unknown>`},
		{"A = 'dev'\nX = f'{A}-{3}!'", `"dev-3!"`},
		{`X = "%s/%s" % ("a", 3)`, `"a/3"`},
		{`X = not ""`, `True`},
		{`X = None or 0 or "x"`, `"x"`},
		{`X = 1 and ""`, `""`},
		{`X = "a" if 1 < 2 else "b"`, `"a"`},
		{`X = "b" in ["a", "b"]`, `True`},
		{`X = {"a": 1, **{"b": 2}}["b"]`, `2`},
		{`X = dict(a=1).get("z", "none")`, `"none"`},
		{`X = [1, 2, 3][-1]`, `3`},
		{"from datetime import timedelta as td\nX = td(days=1, hours=1)", `timedelta(seconds=90000)`},
		{"import datetime\nX = datetime.timedelta(0, 5)", `timedelta(seconds=5)`},
		{"import os\nX = os.environ['K']", `environ["K"]`},
		{"import os\nX = os.environ.get('K')", `environ.get("K", None)`},
		{"import os\nX = os.environ.get('K') or 'dev'", `environ.get("K", "dev")`},
		{"import os\nX = os.getenv('A') or os.getenv('B') or 'c'", `environ.get("A", "c")`},
		{"from os import environ as e\nX = e.get('K', 'dev')", `environ.get("K", "dev")`},
		{"import os\nX = bool(int(os.getenv('D', '0')))", `environ.get("D", False)`},
		{"import os\nX = bool(os.getenv('D', 'False'))", `environ.get("D", True)`}, // the classic mistake
		{"import os\nX = os.getenv('D', 'no').lower() in ('1', 'true')", `environ.get("D", False)`},
		{"import os\nX = os.getenv('D') == 'production'", `environ.get("D", False)`},
		{"import os\nX = 'a' if os.getenv('D') else 'b'", `environ.get("D", "b")`},
		{"from decouple import config\nX = config('D', default=True, cast=bool)", `environ.get("D", True)`},
		{"from environs import Env\nenv = Env()\nX = env.bool('D', default=False)", `environ.get("D", False)`},
		{"import os\ndef flag(n, d=True):\n    return os.getenv(n, str(d)).lower() == 'true'\nX = flag('D')", `environ.get("D", True)`},
		{"import secrets\nX = secrets.token_hex(16)", `<random>`},
		{"import uuid\nX = uuid.uuid4().hex", `<random>`},
		{"import os\nX = os.urandom(24).hex()", `<random>`},
		{"X = open('/run/key').read().strip()", `<read from a file>`},
		{"from flask_limiter.util import get_remote_address\nX = get_remote_address", `flask_limiter.util.get_remote_address`},
		{"try:\n    X = 1\nexcept Exception:\n    X = 2", `<unknown>`},
	}
	for _, tt := range tests {
		f := pysyntax.Parse("m.py", []byte(tt.code))
		m := flask.Analyze([]flask.Source{{Path: "m.py", Python: f}})
		var last pysyntax.ID
		for i := range f.Nodes {
			if n := &f.Nodes[i]; n.Kind == pysyntax.Assign && string(f.Src[n.Start]) == "X" {
				last = n.B
			}
		}
		if got := m.Value("m.py", last).String(); got != tt.want && tt.want != "<unknown>" {
			t.Errorf("%s\n got %s\nwant %s", tt.code, got, tt.want)
		}
		// The same through the name.
		src := tt.code + "\nY = X\n"
		f = pysyntax.Parse("m.py", []byte(src))
		m = flask.Analyze([]flask.Source{{Path: "m.py", Python: f}})
		for i := range f.Nodes {
			if n := &f.Nodes[i]; n.Kind == pysyntax.Assign && string(f.Src[n.Start]) == "Y" {
				last = n.B
			}
		}
		if got := m.Value("m.py", last).String(); got != tt.want {
			t.Errorf("through a name: %s\n got %s\nwant %s", tt.code, got, tt.want)
		}
	}
}

const profiles = `
-- app.py --
from flask import Flask
import conf, os
app = Flask(__name__)
%s
-- conf.py --
class Config:
    DEBUG = False
    SESSION_COOKIE_SECURE = True
class DevConfig(Config):
    DEBUG = True
    SESSION_COOKIE_SECURE = False
class ProdConfig(DevConfig):
    SESSION_COOKIE_SECURE = True
`

func TestEffective(t *testing.T) {
	tests := []struct {
		code, key, profile string
		want               string
		certain            bool
	}{
		{``, "SESSION_COOKIE_SAMESITE", "production", "None", true},
		{`app.config["DEBUG"] = True`, "DEBUG", "production", "True", true},
		{`app.debug = True`, "DEBUG", "production", "True", true},
		{"if x:\n    app.debug = True", "DEBUG", "production", "True", false},
		// inherits from the development class, which is the bug to find
		{`app.config.from_object({"d": conf.DevConfig, "p": conf.ProdConfig}[os.environ["P"]])`, "DEBUG", "production", "True", true},
		{`app.config.from_object({"d": conf.DevConfig, "p": conf.ProdConfig}[os.environ["P"]])`, "SESSION_COOKIE_SECURE", "production", "True", true},
		{`app.config.from_object("conf.DevConfig")`, "SESSION_COOKIE_SECURE", "production", "False", true},
		{`app.config.from_object(conf.Config)`, "DEBUG", "production", "False", true},
		{"app.config.from_object(conf.Config)\napp.config.update(DEBUG=True)", "DEBUG", "production", "True", true},
		{`app.config.from_envvar("SETTINGS")`, "WTF_CSRF_ENABLED", "production", "True", false},
		{`app.config.setdefault("MAX_CONTENT_LENGTH", 5)`, "MAX_CONTENT_LENGTH", "", "5", true},
	}
	for _, tt := range tests {
		m := flask.Analyze(sources(fmt.Sprintf(profiles, tt.code)))
		e := m.Effective(tt.key, tt.profile)
		if e.Value.String() != tt.want || e.Certain != tt.certain {
			t.Errorf("%s: %s in %q is %s (certain %v), want %s (%v)", tt.code, tt.key, tt.profile, e.Value, e.Certain, tt.want, tt.certain)
		}
	}
}

// TestUnknown holds that what is not understood is said.
func TestUnknown(t *testing.T) {
	tests := []struct{ name, code, want string }{
		{"receiver", "from somewhere import thing\ndef f(x):\n    @x.route('/a')\n    def v(): pass", "which is not understood"},
		{"rule", "from flask import Flask\napp = Flask(__name__)\n@app.route(make())\ndef v(): pass", "rule of a route is not a constant"},
		{"blueprint", "from flask import Flask\napp = Flask(__name__)\napp.register_blueprint(load())", "the blueprint load() is not understood"},
		{"unregistered", "from flask import Blueprint\nb = Blueprint('b', __name__)\n@b.route('/a')\ndef v(): pass", "nothing registers the blueprint b"},
		{"object", "from flask import Flask\napp = Flask(__name__)\napp.config.from_object(pick())", "from_object is not understood"},
		{"file", "from flask import Flask\napp = Flask(__name__)\napp.config.from_pyfile('x.cfg')", "come from the file x.cfg"},
		{"key", "from flask import Flask\napp = Flask(__name__)\napp.config[k()] = 1", "key is not a constant"},
		{"admin", "from flask_appbuilder import expose\nclass V:\n    @expose('/a')\n    def v(self): pass", "flask_appbuilder are not followed"},
	}
	for _, tt := range tests {
		m := flask.Analyze(sources("-- app.py --\n" + tt.code + "\n"))
		found := false
		for _, u := range m.Unknown {
			found = found || strings.Contains(u.What, tt.want) && u.Position.Line > 0
		}
		if !found {
			t.Errorf("%s: no %q in %+v", tt.name, tt.want, m.Unknown)
		}
	}
}

// TestCircles must end: modules and classes that name one another.
func TestCircles(t *testing.T) {
	for name, text := range map[string]string{
		"self":     "-- p/__init__.py --\nfrom . import p\nfrom .p import x\nfrom p import *\n-- p/p.py --\nfrom . import x\nfrom p import *\nx = x",
		"classes":  "-- a.py --\nfrom b import B\nclass A(B): pass\na = A().x.y\n-- b.py --\nfrom a import A\nclass B(A): X = A.X\nclass C(C): pass",
		"calls":    "-- a.py --\ndef f(x=None): return g(f(x))\ndef g(y): return f(y)\napp = f(g(1))\n@app.route(f('/'))\ndef v(): return v()",
		"values":   "-- a.py --\nA = B + B\nB = A + A\nC = [C, C]\nD = {'a': D}\nE = D['a']['a']\n",
		"mounts":   "-- a.py --\nfrom flask import *\napp = Flask(__name__)\na = Blueprint('a', __name__)\nb = Blueprint('b', __name__)\na.register_blueprint(b)\nb.register_blueprint(a)\na.register_blueprint(a)\napp.register_blueprint(a)\n@a.route('/x')\ndef x(): pass\n",
		"diamonds": "-- a.py --\nclass A0: pass\n" + diamonds(60) + "x = A60().missing",
	} {
		m := flask.Analyze(sources(text))
		if name == "mounts" && len(m.Routes) == 0 {
			t.Error("the route of a blueprint that registers itself is lost")
		}
	}
}

func diamonds(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "class B%d(A%d): pass\nclass C%d(A%d): pass\nclass A%d(B%d, C%d): pass\n", i, i-1, i, i-1, i, i, i)
	}
	return b.String()
}

// TestCost holds that a file written to be slow is not: every level doubles
// the work of one that follows all the ways.
func TestCost(t *testing.T) {
	var b strings.Builder
	b.WriteString("-- a.py --\nfrom flask import *\napp = Flask(__name__)\ndef f0(x): return x\nd0 = {}\nv0 = session\n")
	for i := 1; i < 40; i++ {
		wide := func(format string) string {
			return strings.TrimSuffix(strings.Repeat(fmt.Sprintf(format, i-1)+", ", 40), ", ")
		}
		fmt.Fprintf(&b, "def f%d(x): return [%s]\n", i, wide("f%d(x)"))
		fmt.Fprintf(&b, "d%d = %s\n", i, strings.ReplaceAll(wide("d%d"), ",", " or"))
		fmt.Fprintf(&b, "v%d = %s\n", i, strings.ReplaceAll(wide("v%d"), ",", " or"))
		fmt.Fprintf(&b, "x%d, y%d = (%s)\n", i, i, wide("x%d"))
	}
	b.WriteString("app.config.update(f39(1), A=f39(2))\napp.config.update(d39)\napp.add_url_rule('/', view_func=f39(d39)(v39))\n@app.before_request\ndef g():\n    if not v39: abort(401)\n")
	src := sources(b.String())
	done := make(chan struct{})
	go func() {
		flask.Analyze(src)
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("still at work after 20 s")
	}
}

// TestClassViews holds that a login asked for by one method does not count
// for the others, and that a second mount changes nothing.
func TestClassViews(t *testing.T) {
	m := flask.Analyze(sources(`
-- app.py --
from flask import Flask, Blueprint
from flask.views import MethodView
from flask_login import login_required
app = Flask(__name__)
bp = Blueprint("b", __name__)
class Half(MethodView):
    def get(self): pass
    @login_required
    def post(self): pass
class Whole(MethodView):
    @login_required
    def get(self): pass
    @login_required
    def post(self): pass
bp.add_url_rule("/half", view_func=Half.as_view("half"))
bp.add_url_rule("/whole", view_func=Whole.as_view("whole"))
app.register_blueprint(bp)
app.register_blueprint(bp, name="c", url_prefix="/c")
`))
	got := map[string]bool{}
	for _, r := range m.Routes {
		got[r.Rule] = r.LoginRequired
	}
	want := map[string]bool{"/half": false, "/c/half": false, "/whole": true, "/c/whole": true, "/static/<path:filename>": false}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestCalls(t *testing.T) {
	m := flask.Analyze(sources(`
-- app.py --
import hashlib
from hashlib import md5 as weak
from flask import Flask, make_response
from helpers import cookie
app = Flask(__name__)
@app.get("/")
def index():
    resp = make_response("x")
    resp.set_cookie("a", "b", httponly=False)
    hashlib.md5(b"x"); weak(b"y")
    return cookie(resp)
-- helpers.py --
def cookie(r):
    r.set_cookie("c", secure=True)
    return r
`))
	if n := len(m.Calls("hashlib.md5")); n != 2 {
		t.Errorf("%d calls of hashlib.md5, want 2", n)
	}
	calls := m.Calls("flask.Response.set_cookie")
	if len(calls) != 2 || calls[0].Function != "app.index" || calls[1].File != "helpers.py" {
		t.Fatalf("calls of set_cookie: %+v", calls)
	}
	var wg sync.WaitGroup // rules ask side by side
	for range 4 {
		wg.Go(func() {
			for _, c := range m.Calls("flask.Response.set_cookie", "?.get") {
				m.Args(c)
				m.Name(c.File, c.Node)
				m.Value(c.File, c.Node)
			}
			m.Effective("DEBUG", "production")
		})
	}
	wg.Wait()
	pos, kw := m.Args(calls[0])
	if len(pos) != 2 || pos[0].Text != "a" || !kw["httponly"].IsFalse() {
		t.Errorf("arguments %v %v", pos, kw)
	}
}

func TestEnvFile(t *testing.T) {
	m := flask.Analyze([]flask.Source{{Path: ".env.production", Data: []byte("\ufeff# c\nA=1 # one\nexport B = 'x # y'\nC=\"a\\n\\\"b\"\nnot a line\nD=\nE=\"two\nlines\"\r\nF=#\n =x\n")}})
	var got []string
	for _, v := range m.Env {
		got = append(got, fmt.Sprintf("%s=%q:%d %s", v.Name, v.Value, v.Position.Line, v.Profile))
	}
	want := []string{`A="1":2 production`, `B="x # y":3 production`, `C="a\n\"b":4 production`, `D="":6 production`, `E="two\nlines":7 production`, `F="":9 production`}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func FuzzAnalyze(f *testing.F) {
	for _, dir := range []string{"testdata/apps/single", "testdata/apps/factory"} {
		var b strings.Builder
		for _, s := range load(f, dir) {
			if s.Python != nil {
				fmt.Fprintf(&b, "-- %s --\n%s\n", s.Path, s.Python.Src)
			}
		}
		f.Add(b.String(), "A=1\n")
	}
	f.Add("-- a.py --\nfrom . import a\n-- __init__.py --\nfrom .a import *\n", "A='\\")
	f.Fuzz(func(t *testing.T, text, env string) {
		if len(text) > 1<<16 {
			return
		}
		m := flask.Analyze(append(sources(text), flask.Source{Path: ".env", Data: []byte(env)}))
		if _, err := json.Marshal(m); err != nil {
			t.Fatal(err)
		}
		for _, r := range m.Routes {
			r.Allowed()
		}
		m.Effective("SECRET_KEY", "production")
		for _, c := range m.Calls("open", "?.get") {
			m.Args(c)
		}
	})
}

func BenchmarkAnalyze(b *testing.B) {
	src := load(b, "testdata/apps/factory")
	b.ReportAllocs()
	for b.Loop() {
		flask.Analyze(src)
	}
}

// TestHandedBack registers blueprints that went through a function of the
// project: each has only its own routes, under its own prefix.
// TestRegisteredOnce has a blueprint that several places may register.
func TestRegisteredOnce(t *testing.T) {
	src := "from flask import Blueprint, Flask\nbp = Blueprint('bp', __name__)\n@bp.get('/a')\ndef a():\n    return ''\n@bp.post('/a')\ndef b():\n    return ''\napp = Flask(__name__)\n" +
		"def one():\n    app.register_blueprint(bp)\ndef two():\n    app.register_blueprint(bp)\ndef three():\n    app.register_blueprint(bp, url_prefix='/again')\n"
	m := flask.Analyze([]flask.Source{{Path: "app.py", Data: []byte(src), Python: pysyntax.Parse("app.py", []byte(src))}})
	var got []string
	for _, r := range m.Routes {
		if r.Blueprint != "" {
			got = append(got, r.Rule+" "+strings.Join(r.Methods, ","))
		}
	}
	if want := []string{"/a GET", "/a POST", "/again/a GET", "/again/a POST"}; !slices.Equal(got, want) {
		t.Errorf("have %q, want %q", got, want)
	}
}

// TestHandedRoutes has a function that registers what it is given.
func TestHandedRoutes(t *testing.T) {
	src := `from flask import Blueprint, Flask
from flask.views import MethodView

def register(bp, rules, view_func, **options):
    for rule in rules:
        bp.add_url_rule(rule, view_func=view_func, **options)

def one(target, rule, view):
    target.add_url_rule(rule, view_func=view, methods=["PUT"])

class Room(MethodView):
    def get(self, number=None):
        return ""
    def post(self, number=None):
        return ""

def bell():
    return ""

def load(app):
    rooms = Blueprint("rooms", __name__)
    register(rooms, ["/", "/<int:number>"], view_func=Room.as_view("room"))
    register(rooms, rules=("/bell",), view_func=bell, methods=["POST"])
    one(rooms, "/put", bell)
    app.register_blueprint(rooms, url_prefix="/rooms")

app = Flask(__name__)
load(app)
`
	m := flask.Analyze([]flask.Source{{Path: "app.py", Data: []byte(src), Python: pysyntax.Parse("app.py", []byte(src))}})
	var got []string
	for _, r := range m.Routes {
		if r.Blueprint != "" {
			got = append(got, r.Rule+" "+strings.Join(r.Methods, ",")+" "+r.Endpoint+" "+r.Function)
		}
	}
	want := []string{"/rooms/ GET,POST rooms.room app.Room", "/rooms/<int:number> GET,POST rooms.room app.Room", "/rooms/bell POST rooms.bell app.bell", "/rooms/put PUT rooms.bell app.bell"}
	if !slices.Equal(got, want) {
		t.Errorf("have %q, want %q; %v", got, want, m.Unknown)
	}
}

func TestHandedBack(t *testing.T) {
	m := flask.Analyze(sources(`
-- app.py --
from flask import Flask, Blueprint
def timed(name, part=None):
    part.after_request(print)
    return part
def either(flag, one, other):
    if flag:
        return one
    return other
desk = timed("desk", Blueprint("desk", __name__))
hatch = timed("hatch", part=Blueprint("hatch", __name__))
attic = either(0, Blueprint("attic", __name__), None)
@desk.get("/a")
def a(): pass
@hatch.get("/b")
def b(): pass
@attic.get("/c")
def c(): pass
app = Flask(__name__, static_folder=None)
app.register_blueprint(desk, url_prefix="/desk")
app.register_blueprint(hatch, url_prefix="/hatch")
app.register_blueprint(attic)
`))
	var got []string
	for _, r := range m.Routes {
		got = append(got, r.Endpoint+" "+r.Rule)
	}
	slices.Sort(got)
	if want := []string{"attic.c /c", "desk.a /desk/a", "hatch.b /hatch/b"}; !slices.Equal(got, want) {
		t.Errorf("routes %q, want %q", got, want)
	}
}
