package gateway

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/guard"
)

// fakePython is enough for FindApp, which runs nothing.
func fakePython(t *testing.T) string {
	p := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(p, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFindApp(t *testing.T) {
	const app = "from flask import Flask\napp = Flask(__name__)\n"
	for _, c := range []struct {
		name   string
		files  map[string]string
		env    []string
		o      AppOptions
		target string
		source string
		path   string // relative to the project
		sub    string // project folder inside the tree
	}{
		{name: "app.py", files: map[string]string{"app.py": app}, target: "app:app", source: "app.py"},
		{name: "wsgi.py before app.py", files: map[string]string{"app.py": app, "wsgi.py": app}, target: "wsgi:app", source: "wsgi.py"},
		{name: "a package called app", files: map[string]string{"app/__init__.py": app}, target: "app:app", source: "app/__init__.py"},
		{name: "application", files: map[string]string{"wsgi.py": "application = make()\n"}, target: "wsgi:application", source: "wsgi.py"},
		{name: "the only Flask object", files: map[string]string{"app.py": "import flask\nshop = flask.Flask(\n    __name__,\n)\n"}, target: "app:shop", source: "app.py"},
		{name: "annotated", files: map[string]string{"app.py": "shop: Flask = Flask(__name__)\n"}, target: "app:shop", source: "app.py"},
		{name: "imported", files: map[string]string{"wsgi.py": "from shop.main import (\n    db,\n    server as app,\n)\n"}, target: "wsgi:app", source: "wsgi.py"},
		{name: "factory", files: map[string]string{"app.py": "def create_app(test=None):\n    app = Flask(__name__)\n    return app\n"}, target: "app:create_app()", source: "app.py"},
		{name: "make_app", files: map[string]string{"app.py": "def make_app(): pass\n"}, target: "app:make_app()", source: "app.py"},
		{name: "imported factory", files: map[string]string{"app.py": "from shop import create_app\n"}, target: "app:create_app()", source: "app.py"},
		{name: "only in a docstring", files: map[string]string{"app.py": "'''\napp = Flask(__name__)\n'''\nshop = Flask(__name__)\n"}, target: "app:shop", source: "app.py"},
		{name: "star import is left to flask", files: map[string]string{"wsgi.py": "from shop import *\n"}, target: "wsgi", source: "wsgi.py"},
		{name: "conditional is left to flask", files: map[string]string{"wsgi.py": "import os\nif os.environ.get('X'):\n    app = Flask('x')\nelse:\n    app = Flask('y')\n"}, target: "wsgi", source: "wsgi.py"},
		{name: "FLASK_APP", files: map[string]string{"app.py": app, "shop.py": app}, env: []string{"FLASK_APP=shop"}, target: "shop:app", source: "$FLASK_APP"},
		{name: "FLASK_APP file", files: map[string]string{"src/shop.py": app}, env: []string{"FLASK_APP=src/shop.py"}, target: "shop:app", source: "$FLASK_APP", path: "src"},
		{name: "FLASK_APP climbs packages", files: map[string]string{"src/a/__init__.py": "", "src/a/b/__init__.py": "", "src/a/b/main.py": app}, env: []string{"FLASK_APP=src/a/b/main.py"}, target: "a.b.main:app", source: "$FLASK_APP", path: "src"},
		{name: "FLASK_APP package", files: map[string]string{"shop/__init__.py": "def create_app(): pass\n"}, env: []string{"FLASK_APP=shop"}, target: "shop:create_app()", source: "$FLASK_APP"},
		{name: "FLASK_APP init file", files: map[string]string{"shop/__init__.py": app}, env: []string{"FLASK_APP=shop/__init__.py"}, target: "shop:app", source: "$FLASK_APP"},
		{name: "FLASK_APP dotted", files: map[string]string{"shop/__init__.py": "", "shop/web.py": app}, env: []string{"FLASK_APP=shop.web:app"}, target: "shop.web:app", source: "$FLASK_APP"},
		{name: "named factory is called", files: map[string]string{"shop.py": "def build(): pass\n"}, env: []string{"FLASK_APP=shop:build"}, target: "shop:build()", source: "$FLASK_APP"},
		{name: "factory with arguments", files: map[string]string{"shop.py": "def create_app(x): pass\n"}, env: []string{"FLASK_APP=shop:create_app('prod', debug=False)"}, target: "shop:create_app('prod', debug=False)", source: "$FLASK_APP"},
		{name: "a WSGI function is no factory", files: map[string]string{"shop.py": "def application(environ, start_response): pass\n"}, env: []string{"FLASK_APP=shop:application"}, target: "shop:application", source: "$FLASK_APP"},
		{name: ".flaskenv", files: map[string]string{"shop.py": app, ".flaskenv": "export FLASK_APP = 'shop'  # the shop\n"}, target: "shop:app", source: "FLASK_APP in a dotenv file"},
		{name: ".env over .flaskenv", files: map[string]string{"a.py": app, "b.py": app, ".flaskenv": "FLASK_APP=a\n", ".env": "FLASK_APP=b\n"}, target: "b:app", source: "FLASK_APP in a dotenv file"},
		{name: "environment over .env", files: map[string]string{"a.py": app, "b.py": app, ".env": "FLASK_APP=b\n"}, env: []string{"FLASK_APP=a"}, target: "a:app", source: "$FLASK_APP"},
		{name: "settings over FLASK_APP", files: map[string]string{"a.py": app, "b.py": app}, env: []string{"FLASK_APP=a"}, o: AppOptions{Target: "b:app", TargetSource: "--app"}, target: "b:app", source: "--app"},
		{name: "installed module", files: map[string]string{"x.txt": ""}, env: []string{"FLASK_APP=installed_shop:create_app"}, target: "installed_shop:create_app()", source: "$FLASK_APP"},
		{name: "project inside a package", files: map[string]string{"pkg/__init__.py": "", "pkg/app.py": app}, sub: "pkg", target: "pkg.app:app", source: "app.py", path: ".."},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(project(t, c.files), c.sub)
			c.o.Environ, c.o.Python = append(c.env, "PATH="), fakePython(t)
			a, err := FindApp(dir, c.o)
			if err != nil {
				t.Fatal(err)
			}
			if a.Target != c.target || a.Source != c.source || a.Dir != dir || a.Path != filepath.Join(dir, c.path) {
				t.Errorf("target %q from %q path %q, want %q from %q path %q", a.Target, a.Source, a.Path, c.target, c.source, filepath.Join(dir, c.path))
			}
		})
	}
}

func TestFindAppErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		env   []string
		want  []string
	}{
		{name: "empty", want: []string{"no Flask app found in", "FLASK_APP in the environment", "wsgi.py or a package wsgi/: not there", "app.py or a package app/", "--app module:name"}},
		{name: "nothing in it", files: map[string]string{"app.py": "x = 1\n"}, want: []string{"app or application in app.py", "create_app or make_app"}},
		{name: "several", files: map[string]string{"app.py": "a = Flask(1)\nb = Flask(2)\n"}, want: []string{"there are several (a, b)"}},
		{name: "no expression", files: map[string]string{"app.py": ""}, env: []string{"FLASK_APP=app:import os"}, want: []string{"$FLASK_APP", "neither a name nor a call"}},
		{name: "no identifier", files: map[string]string{"my-app.py": ""}, env: []string{"FLASK_APP=my-app.py"}, want: []string{"$FLASK_APP", `"my-app" is not a Python identifier`}},
		{name: "control character", env: []string{"FLASK_APP=a\x00b"}, want: []string{"names no module"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := FindApp(project(t, c.files), AppOptions{Environ: append(c.env, "PATH="), Python: fakePython(t)})
			if err == nil {
				t.Fatal("found")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("no %q in: %v", w, err)
				}
			}
		})
	}
	if _, err := FindApp("/nowhere/at/all", AppOptions{}); err == nil {
		t.Error("a missing folder was accepted")
	}
	var none *NoAppError
	if _, err := FindApp(t.TempDir(), AppOptions{Environ: []string{"PATH="}, Python: fakePython(t)}); !errors.As(err, &none) {
		t.Errorf("%v", err)
	}
	if _, err := FindApp(t.TempDir(), AppOptions{Environ: []string{"PATH=bin:."}}); err == nil || !strings.Contains(err.Error(), "no Python found") {
		t.Errorf("%v", err)
	}
}

func TestDotenvEnvironment(t *testing.T) {
	dir := project(t, map[string]string{
		"app.py": "app = 1\n", ".flaskenv": "FLASK_DEBUG=1\nA=flaskenv\nB=flaskenv\n", ".env": "B=env\nC=${B}-${OUT}-${NOPE:-default}\nREAL=file\nnot a binding\nD=x\x00y\n",
	})
	env := []string{"REAL=real", "OUT=outside", "PATH="}
	a, err := FindApp(dir, AppOptions{Environ: env, Python: fakePython(t)})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"A": "flaskenv", "B": "env", "C": "env-outside-default"}
	for k, v := range want {
		if a.Env[k] != v {
			t.Errorf("%s=%q, want %q", k, a.Env[k], v)
		}
	}
	if len(a.Env) != len(want) {
		t.Errorf("%v", a.Env)
	}
	if notes := strings.Join(a.Notes, "\n"); !strings.Contains(notes, "FLASK_DEBUG") || !strings.Contains(notes, "line 4 is no NAME=value") || !strings.Contains(notes, "NUL") {
		t.Errorf("%v", a.Notes)
	}
	if a, err = FindApp(dir, AppOptions{Environ: env, Python: fakePython(t), Profile: guard.Development}); err != nil || a.Env["FLASK_DEBUG"] != "1" {
		t.Errorf("%v %v", a.Env, err)
	}
	// The child gets what is not Dewar's.
	child := childEnviron(environmentOf([]string{"A=outer", "DEWAR_TOKEN=x", "LISTEN_FDS=1"}), App{Env: map[string]string{"A": "inner", "DEWAR_X": "y", "E": "z"}})
	if !slices.Equal(child, []string{"A=outer", "E=z", "PYTHONUNBUFFERED=1"}) {
		t.Errorf("%q", child)
	}
}

var dotenvCases = []string{
	"A=1\nB = two words # comment\nC='single # not $X \\' quote'\nD=\"double\\n\\t\\\"q\\\" \\x41\"\n",
	"export A=1\nexport  B='x'\nexportC=2\n",
	"A=\"over\nseveral\nlines\"\nB='over\r\nlines'\r\nC=3\r\n",
	"A\nB=\nC=\"\"\nD=''\n=novalue\n'Q K'=quoted key\n# only\n   # indented\n",
	"A='unclosed\nB=2\n", "A=\"x\" trailing\nB=2\n", "A=a#b\nB=a #b\nC=#c\nD= # d\n",
	"A=\\n\nB='\\\\'\nC=\"\\\\\"\nD=\"a\\\\\"\n", "A=1;B=2\n\n\n\tT=tab\n", "A=é\u00a0x \u2003\nÜ=1\n",
}

// TestDotenvOracle compares with python-dotenv, when it is installed.
func TestDotenvOracle(t *testing.T) {
	python := realPython(t)
	env := cleanEnviron(t)
	if _, err := execIn(t.TempDir(), env, python, "-c", "import dotenv"); err != nil {
		if os.Getenv("DEWAR_REQUIRE_REAL") == "1" {
			t.Fatal("needs python-dotenv in the virtual environment")
		}
		t.Skip("SKIPPED: needs python-dotenv in the virtual environment")
	}
	dir := t.TempDir()
	for i, text := range dotenvCases {
		name := filepath.Join(dir, "env")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := execIn(dir, env, python, "-c", "import dotenv,json,logging\nlogging.disable()\nprint(json.dumps([[k,v] for k,v in dotenv.dotenv_values('env', interpolate=False).items() if v is not None]))")
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		var want [][2]string
		if err := json.Unmarshal([]byte(out), &want); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		wantMap, got := map[string]string{}, map[string]string{}
		for _, kv := range want {
			wantMap[kv[0]] = kv[1]
		}
		vars, _ := parseDotenv(text)
		for _, v := range vars {
			got[v.name] = v.value
		}
		if len(got) != len(wantMap) {
			t.Errorf("case %d: got %q, want %q", i, got, wantMap)
		}
		for k, v := range wantMap {
			if got[k] != v {
				t.Errorf("case %d: %s=%q, want %q", i, k, got[k], v)
			}
		}
	}
}

func FuzzDotenv(f *testing.F) {
	for _, c := range dotenvCases {
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, text string) {
		vars, _ := parseDotenv(text)
		for _, v := range vars {
			if v.name == "" || strings.ContainsAny(v.name, "=\n") && !strings.Contains(text, "'") {
				t.Errorf("name %q", v.name)
			}
			expand(v.value, map[string]string{}, environment{})
		}
	})
}

func FuzzScanSource(f *testing.F) {
	f.Add("app = Flask(__name__)\n'''x\n'''\n")
	f.Add("def create_app(\n  a=')',\n): # '\n  pass\nx = \"\\\"\n")
	f.Add("a = r'\\'\nb = f'{x!r}'\n\\\n")
	f.Fuzz(func(t *testing.T, text string) {
		if name := scanSource(text).choose(); name != "" && !targetName.MatchString(name) {
			t.Errorf("chose %q", name)
		}
		App{Dir: "/nowhere"}.resolve(text)
	})
}

func TestFindPython(t *testing.T) {
	root := t.TempDir()
	python := func(parts ...string) string {
		p := filepath.Join(append([]string{root}, parts...)...)
		os.MkdirAll(filepath.Dir(p), 0o755)
		os.WriteFile(p, nil, 0o755)
		return p
	}
	dir := filepath.Join(root, "p")
	os.Mkdir(dir, 0o755)
	onPath := python("bin", "python3")
	env := environment{"PATH": ".:" + filepath.Join(root, "bin")}
	check := func(want, source string) {
		t.Helper()
		p, s, err := findPython(dir, "", env)
		if err != nil || p != want || s != source {
			t.Errorf("%q %q %v, want %q", p, s, err, want)
		}
	}
	check(onPath, "PATH")
	check2 := python("p", "venv", "bin", "python")
	check(check2, "venv")
	check(python("p", ".venv", "bin", "python"), ".venv")
	env["VIRTUAL_ENV"] = filepath.Join(root, "active")
	active := python("active", "bin", "python")
	check(active, "$VIRTUAL_ENV")
	if p, _, err := findPython(dir, ".venv", env); err != nil || p != filepath.Join(dir, ".venv/bin/python") {
		// A name without a slash is looked up on PATH.
		if err == nil || !strings.Contains(err.Error(), "app.python") {
			t.Errorf("%q %v", p, err)
		}
	}
	if p, _, err := findPython(dir, "./.venv", env); err != nil || p != filepath.Join(dir, ".venv/bin/python") {
		t.Errorf("%q %v", p, err)
	}
	if _, _, err := findPython(dir, "/nowhere/python", env); err == nil || !strings.Contains(err.Error(), "app.python") {
		t.Errorf("%v", err)
	}
}
