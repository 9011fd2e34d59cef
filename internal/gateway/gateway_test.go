package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/freeport"
	"github.com/dewar-security/dewar/internal/guard"
)

const echoApp = `
import os, subprocess, sys, threading, time
from flask import Flask, Response, jsonify, request

app = Flask(__name__)
app.secret_key = "a-key-that-must-never-be-in-a-log-0123456789"

@app.route("/", methods=["GET", "POST", "PUT"])
@app.route("/<path:path>", methods=["GET", "POST", "PUT"])
def echo(path=""):
    e = {k: v for k, v in request.environ.items() if isinstance(v, str)}
    return jsonify(environ=e, body=request.get_data(as_text=True), remote=request.remote_addr,
                   scheme=request.scheme, url=request.url, pid=os.getpid())

@app.get("/slow")
def slow():
    open("slow-began", "w").close()
    time.sleep(float(request.args.get("s", "2")))
    return "slow but done"

@app.get("/environ")
def environ():
    return jsonify(dict(os.environ))

@app.get("/fds")
def fds():
    out = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            out[fd] = os.readlink("/proc/self/fd/" + fd)
        except OSError:
            pass
    child = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, close_fds=False).stdout
    return jsonify(own=out, child=child)

seen = threading.Event()

@app.get("/stream")
def stream():
    def events():
        yield "data: 0\n\n"
        yield "data: %s\n\n" % seen.wait(60)
    return Response(events(), mimetype="text/event-stream")

@app.get("/seen")
def was_seen():
    seen.set()
    return "go on"

@app.get("/broken")
def broken():
    def half():
        yield "a" * 1000
        raise RuntimeError("in the middle")
    return Response(half(), headers={"Content-Length": "100000"})

@app.get("/umask")
def umask():
    m = os.umask(0); os.umask(m)
    return "%03o" % m
`

type echo struct {
	Environ map[string]string
	Body    string
	Remote  string
	Scheme  string
	URL     string
	PID     int
}

func getEcho(t *testing.T, method, url, body string, header ...string) echo {
	t.Helper()
	status, text := do(t, method, url, body, header...)
	var e echo
	if err := json.Unmarshal([]byte(text), &e); err != nil || status != 200 {
		t.Fatalf("%s %s: %d %v\n%s", method, url, status, err, text)
	}
	return e
}

// TestServe runs one app through everything a request can meet.
func TestServe(t *testing.T) {
	o := options(t, map[string]string{
		"app.py": echoApp,
		"gunicorn.conf.py": `
bind = "0.0.0.0:8999"
workers = 2
accesslog = "-"
forwarder_headers = "SCRIPT_NAME,REMOTE_USER"
def post_worker_init(worker):
    worker.log.info("the project's own hook ran")
`,
	}, "DEWAR_TOKEN=do-not-pass-on", "GUNICORN_CMD_ARGS=--bind 0.0.0.0:8998 --log-level debug", "OWN=passed-on", "NOTIFY_SOCKET=/run/nobody")
	var facts guard.Facts
	o.Preflight = func(f guard.Facts) error { facts = f; return nil }
	o.Console, o.ConsoleToken, o.ProbeKey = "http://127.0.0.1:1", "token", "key"
	o.StateDir = filepath.Join(t.TempDir(), "d", "state")
	o.Config.Grace = seconds(30)
	os.Mkdir(filepath.Dir(o.StateDir), 0o700)
	r := start(t, o)

	t.Run("facts", func(t *testing.T) {
		if !facts.Known || !facts.AppFound || facts.Debug || facts.DebuggerWrapped || facts.UID != os.Getuid() ||
			!strings.HasPrefix(facts.Server, "gunicorn ") || facts.FlaskVersion == "" || facts.SessionCookieName != "session" {
			t.Errorf("facts %+v", facts)
		}
		if facts.SecretKey.Reveal() != "a-key-that-must-never-be-in-a-log-0123456789" {
			t.Error("the secret key did not arrive")
		}
		found := false
		for _, rt := range facts.Routes {
			found = found || rt.Rule == "/slow" && rt.Endpoint == "slow"
		}
		if !found {
			t.Errorf("routes %v", facts.Routes)
		}
		if strings.Contains(r.steps.String(), "must-never-be") {
			t.Error("the secret key is in the log")
		}
	})
	t.Run("steps", func(t *testing.T) {
		wants := []string{"entry app:app (from app.py)", "on a private unix socket", "bind"}
		if !r.steps.has(StepWarning, "SCRIPT_NAME") {
			wants = append(wants, "forwarder_headers")
		}
		for _, want := range wants {
			if !strings.Contains(r.steps.String(), want) {
				t.Errorf("no %q in\n%s", want, r.steps)
			}
		}
		if !strings.Contains(r.steps.String(), "the project's own hook ran") {
			t.Error("the project's post_worker_init did not run")
		}
		for _, port := range []string{"8998", "8999"} {
			if c, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second); err == nil {
				c.Close()
				t.Errorf("the project's own bind opened port %s past the guard", port)
			}
		}
	})
	t.Run("request", func(t *testing.T) {
		e := getEcho(t, "POST", r.url+"/a%2Fb/%C3%A9;x?a=1;b=2&c=%zz&d", "the body",
			"X-Forwarded-For", "203.0.113.7", "X-Forwarded-Proto", "https", "Content-Type", "text/plain", "Host", "ignored")
		want := map[string]string{
			"QUERY_STRING": "a=1;b=2&c=%zz&d", "HTTP_X_FORWARDED_FOR": "203.0.113.7", "wsgi.url_scheme": "https",
			"REQUEST_METHOD": "POST", "CONTENT_TYPE": "text/plain", "HTTP_HOST": strings.TrimPrefix(r.url, "http://"),
			"RAW_URI": "/a%2Fb/%C3%A9;x?a=1;b=2&c=%zz&d",
		}
		for k, v := range want {
			if e.Environ[k] != v {
				t.Errorf("%s = %q, want %q", k, e.Environ[k], v)
			}
		}
		if e.Body != "the body" || e.Remote != "203.0.113.7" || e.Scheme != "https" {
			t.Errorf("%+v", e)
		}
		if _, ok := e.Environ["HTTP_ACCEPT_ENCODING"]; ok && e.Environ["HTTP_ACCEPT_ENCODING"] != "gzip" {
			t.Errorf("Accept-Encoding %q", e.Environ["HTTP_ACCEPT_ENCODING"])
		}
	})
	t.Run("forged scheme headers do not count", func(t *testing.T) {
		e := getEcho(t, "GET", r.url+"/", "", "X-Forwarded-Ssl", "on", "X-Forwarded-Protocol", "ssl")
		if e.Scheme != "http" {
			t.Errorf("scheme %s", e.Scheme)
		}
	})
	// The client layer takes these away. Behind it gunicorn's own settings
	// are the second line: not even the bare forwarder lets them through.
	t.Run("headers that become environment", func(t *testing.T) {
		if r.steps.has(StepWarning, "SCRIPT_NAME") {
			t.Skip("SKIPPED: this gunicorn has no second line")
		}
		e := getEcho(t, "GET", r.url+"/foo/admin", "", "SCRIPT_NAME", "/foo", "PATH_INFO", "/x", "REMOTE_USER", "admin", "X_Auth_User", "admin")
		if e.Environ["SCRIPT_NAME"] != "" || e.Environ["PATH_INFO"] != "/foo/admin" || e.Environ["REMOTE_USER"] != "" || e.Environ["HTTP_X_AUTH_USER"] != "" {
			t.Errorf("reached the app: SCRIPT_NAME=%q PATH_INFO=%q REMOTE_USER=%q HTTP_X_AUTH_USER=%q", e.Environ["SCRIPT_NAME"], e.Environ["PATH_INFO"], e.Environ["REMOTE_USER"], e.Environ["HTTP_X_AUTH_USER"])
		}
	})
	t.Run("environment", func(t *testing.T) {
		_, text := get(t, r.url+"/environ")
		var env map[string]string
		if err := json.Unmarshal([]byte(text), &env); err != nil {
			t.Fatal(err)
		}
		for k := range env {
			if strings.HasPrefix(k, "DEWAR_") || k == "NOTIFY_SOCKET" || k == "GUNICORN_CMD_ARGS" {
				t.Errorf("%s reached the app", k)
			}
		}
		if env["OWN"] != "passed-on" || env["PYTHONUNBUFFERED"] != "1" {
			t.Errorf("environment %v", env)
		}
	})
	t.Run("the facts pipe is closed", func(t *testing.T) {
		_, text := get(t, r.url+"/fds")
		var fds struct {
			Own   map[string]string
			Child string
		}
		if err := json.Unmarshal([]byte(text), &fds); err != nil {
			t.Fatal(err)
		}
		if v := fds.Own["3"]; strings.HasPrefix(v, "pipe:") && fds.Own["1"] != v {
			// 3 may have been taken again by the worker's own pipe; ours is
			// the one a program of the app would inherit.
			if strings.Contains(fds.Child, "3 -> "+v) {
				t.Errorf("descriptor 3 is inherited: %s", fds.Child)
			}
		}
	})
	t.Run("umask", func(t *testing.T) {
		if _, m := get(t, r.url+"/umask"); m != "077" {
			t.Errorf("umask %s", m)
		}
	})
	t.Run("private", func(t *testing.T) {
		st, err := os.Stat(r.g.server().dir)
		if err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%v %v", st.Mode(), err)
		}
		home, _ := os.ReadDir(strings.TrimPrefix(r.g.o.Environ[1], "HOME="))
		if len(home) > 0 {
			t.Errorf("gunicorn left %v in HOME: its control socket is open", home)
		}
	})
	t.Run("events are not held back", func(t *testing.T) {
		res, err := client.Get(r.url + "/stream")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		// The second is only sent when the first has been seen.
		b := make([]byte, len("data: 0\n\n"))
		if _, err := io.ReadFull(res.Body, b); err != nil || string(b) != "data: 0\n\n" {
			t.Fatalf("the first event: %q, %v", b, err)
		}
		get(t, r.url+"/seen")
		if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "data: True\n\n" {
			t.Errorf("the second event: %q, %v", rest, err)
		}
	})
	t.Run("a cut answer is cut", func(t *testing.T) {
		res, err := client.Get(r.url + "/broken")
		if err != nil {
			return
		}
		defer res.Body.Close()
		b := make([]byte, 200000)
		var n int
		for err == nil {
			var m int
			m, err = res.Body.Read(b[n:])
			n += m
		}
		if n >= 100000 || err.Error() == "EOF" {
			t.Errorf("%d bytes, %v: the client takes a cut answer for a whole one", n, err)
		}
	})
	t.Run("state", func(t *testing.T) {
		s, err := ReadState(o.StateDir)
		if err != nil || s.PID != os.Getpid() || s.ConsoleToken != "token" || s.ProbeKey != "key" || len(s.URLs) != 1 || s.URLs[0] != r.url {
			t.Errorf("%+v %v", s, err)
		}
		st, err := os.Stat(filepath.Join(o.StateDir, stateFile))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
		again := o
		err = Run(context.Background(), Options{Dir: o.Dir, Config: o.Config, App: o.App, Environ: o.Environ, StateDir: again.StateDir, Handler: bare})
		if err == nil || !strings.Contains(err.Error(), "already runs") {
			t.Errorf("a second guard: %v", err)
		}
	})
	t.Run("a killed worker is replaced", func(t *testing.T) {
		pid := getEcho(t, "GET", r.url+"/", "").PID
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(time.Minute)
		for {
			status, text := get(t, r.url+"/")
			var e echo
			if json.Unmarshal([]byte(text), &e); status == 200 && e.PID != pid {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("no new worker: %d %s", status, text)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	t.Run("a running request is finished", func(t *testing.T) {
		type answer struct {
			status int
			text   string
		}
		got := make(chan answer, 1)
		go func() {
			res, err := client.Get(r.url + "/slow?s=2")
			if err != nil {
				got <- answer{0, err.Error()}
				return
			}
			defer res.Body.Close()
			b := make([]byte, 100)
			n, _ := res.Body.Read(b)
			got <- answer{res.StatusCode, string(b[:n])}
		}()
		eventually(t, r, "the request is with the app", func() bool { return exists(filepath.Join(o.Dir, "slow-began")) })
		begin := time.Now()
		if err := r.end(); err != nil {
			t.Errorf("end: %v", err)
		}
		if a := <-got; a.status != 200 || a.text != "slow but done" {
			t.Errorf("got %d %q", a.status, a.text)
		}
		if d := time.Since(begin); d > 25*time.Second {
			t.Errorf("stopping took %s, as long as it may", d)
		}
		if _, err := ReadState(o.StateDir); !errors.Is(err, ErrNotRunning) {
			t.Errorf("state after the end: %v", err)
		}
		if _, err := os.Stat(r.g.server().dir); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", r.g.server().dir, err)
		}
		if r.g.Ready() == nil {
			t.Error("still ready")
		}
	})
}

// TestStartErrors holds what a person reads when the app cannot be served.
func TestStartErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		files  map[string]string
		target string
		conf   func(*Options)
		kind   Fault
		want   []string
		not    []string
	}{
		{name: "import error", kind: FaultImport, files: map[string]string{"app.py": "from flask import Flask\napp = Flask(__name__)\nimport helper\n", "helper.py": "def f():\n    raise ImportError('the library is too old')\nf()\n"},
			want: []string{"cannot import app: ImportError: the library is too old", "helper.py\", line 2", "app.py\", line 3"}, not: []string{"site-packages/gunicorn", "gunicorn_hook"}},
		{name: "missing requirement", kind: FaultImport, files: map[string]string{"app.py": "import flask_nowhere\napp = 1\n"},
			want: []string{"the module flask_nowhere is not installed in", "app.py\", line 1"}},
		{name: "syntax error", kind: FaultImport, files: map[string]string{"app.py": "app = Flask(\n  !\n"},
			want: []string{"cannot import app: SyntaxError", "app.py\", line 1"}},
		{name: "exit at import", kind: FaultImport, files: map[string]string{"app.py": "import sys\napp = 1\nsys.exit('no DATABASE_URL')\n"},
			want: []string{"no DATABASE_URL", "app.py\", line 3"}},
		{name: "no such module", kind: FaultImport, files: map[string]string{"x.py": ""}, target: "nowhere:app",
			want: []string{"there is no module nowhere", "--app"}, not: []string{"Traceback"}},
		{name: "no such app", kind: FaultAttribute, files: map[string]string{"app.py": "x = 1\n"}, target: "app:site",
			want: []string{"module app has no app called site", "--app"}},
		{name: "factory error", kind: FaultFactory, files: map[string]string{"wsgi.py": "def create_app():\n    raise KeyError('SECRET_KEY')\n"},
			want: []string{"making the app with wsgi:create_app() failed: KeyError: 'SECRET_KEY'", "wsgi.py\", line 2"}},
		{name: "factory wants arguments", kind: FaultFactory, files: map[string]string{"wsgi.py": "def create_app(config):\n    pass\n"},
			want: []string{"wsgi:create_app()", "argument"}},
		{name: "preload", kind: FaultImport, files: map[string]string{"app.py": "app = 1\nraise ValueError('early')\n"}, conf: func(o *Options) { o.Config.Preload = true },
			want: []string{"cannot import app: ValueError: early", "app.py\", line 2"}},
		{name: "bad gunicorn.conf.py", kind: FaultConfig, files: map[string]string{"app.py": echoApp, "gunicorn.conf.py": "workers = 1 / 0\n"},
			want: []string{"gunicorn's settings cannot be read: ZeroDivisionError", "gunicorn.conf.py\", line 1"}},
		{name: "bad value in gunicorn.conf.py", kind: FaultExited, files: map[string]string{"app.py": echoApp, "gunicorn.conf.py": "backlog = 'many'\n"},
			want: []string{"gunicorn ended", "backlog"}},
		{name: "slow import", kind: FaultBootTimeout, files: map[string]string{"app.py": "import time\napp = 1\ntime.sleep(600)\n"}, conf: func(o *Options) {
			o.Handler = func(g *Gateway) (http.Handler, error) { g.server().bootTimeout = 2 * time.Second; return bare(g) }
		}, want: []string{"app:app was not loaded within 2s", "what blocks"}},
		{name: "changed while the second worker loads", kind: FaultImport, files: map[string]string{"app.py": "import os, time\napp = lambda e, s: []\ntry:\n    os.close(os.open('first', os.O_CREAT | os.O_EXCL))\nexcept FileExistsError:\n    time.sleep(2)\n    raise ValueError('half deployed')\n"},
			conf: func(o *Options) { o.Config.Workers = 2 }, want: []string{"cannot import app: ValueError: half deployed"}},
		{name: "dies at boot", kind: FaultWorkerBoot, files: map[string]string{"app.py": echoApp, "gunicorn.conf.py": "def post_fork(server, worker):\n    raise OSError('no fork for you')\n"},
			want: []string{"a worker could not start", "no fork for you"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			python := realPython(t)
			dir, env := project(t, c.files), cleanEnviron(t)
			app, err := FindApp(dir, AppOptions{Python: python, Environ: env, Target: c.target})
			if err != nil {
				t.Fatal(err)
			}
			o := Options{Dir: dir, Config: testConfig(), App: app, Environ: env}
			if c.conf != nil {
				c.conf(&o)
			}
			r := launch(t, o)
			select {
			case err = <-r.done:
				r.done <- err
			case <-time.After(2 * time.Minute):
				t.Fatalf("still running\n%s", r.steps)
			}
			var se *StartError
			if !errors.As(err, &se) || se.Kind != c.kind {
				t.Fatalf("kind %q, want %q: %v\n%s", kindOf(se), c.kind, err, r.steps)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("no %q in:\n%v", w, err)
				}
			}
			for _, w := range c.not {
				if strings.Contains(err.Error(), w) {
					t.Errorf("%q in:\n%v", w, err)
				}
			}
			if r.g != nil && len(r.g.URLs()) > 0 {
				t.Error("a public address was opened")
			}
		})
	}
}

func kindOf(e *StartError) Fault {
	if e == nil {
		return "none"
	}
	return e.Kind
}

func TestNoGunicorn(t *testing.T) {
	python := realPython(t)
	dir := project(t, map[string]string{"app.py": echoApp})
	// A virtual environment with nothing in it.
	env := cleanEnviron(t)
	venv := filepath.Join(dir, ".venv")
	if out, err := execIn(dir, env, python, "-m", "venv", "--without-pip", venv); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	app, err := FindApp(dir, AppOptions{Environ: env})
	if err != nil {
		t.Fatal(err)
	}
	if app.Python != filepath.Join(venv, "bin", "python") || app.PythonSource != ".venv" {
		t.Fatalf("%+v", app)
	}
	err = Run(context.Background(), Options{Dir: dir, Config: testConfig(), App: app, Environ: env, StateDir: stateDir(t), Handler: bare})
	var se *StartError
	if !errors.As(err, &se) || se.Kind != FaultNoGunicorn || !strings.Contains(err.Error(), venv) || !strings.Contains(err.Error(), "-m pip install gunicorn") {
		t.Fatalf("%v", err)
	}
	app.Python = filepath.Join(dir, "app.py")
	err = Run(context.Background(), Options{Dir: dir, Config: testConfig(), App: app, Environ: env, StateDir: stateDir(t), Handler: bare})
	if !errors.As(err, &se) || se.Kind != FaultPython {
		t.Fatalf("%v", err)
	}
}

func stateDir(t *testing.T) string {
	d := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(d, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(d, "state")
}

func TestPreflightRefuses(t *testing.T) {
	o := options(t, map[string]string{"app.py": "from flask import Flask\nfrom werkzeug.debug import DebuggedApplication\napp = Flask(__name__)\napp.debug = True\napp.wsgi_app = DebuggedApplication(app.wsgi_app)\n"})
	o.Preflight = func(f guard.Facts) error {
		if f.Debug && f.DebuggerWrapped {
			return errors.New("debug is on")
		}
		return fmt.Errorf("wrong facts: %+v", f)
	}
	r := launch(t, o)
	select {
	case err := <-r.done:
		r.done <- err
		if err == nil || err.Error() != "debug is on" {
			t.Fatalf("%v", err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("still running")
	}
	if len(r.g.URLs()) != 0 {
		t.Error("a public address was opened")
	}
}

// TestUnwrap: the Flask object is found behind what people put around it.
func TestUnwrap(t *testing.T) {
	const head = "from flask import Flask\nflask_app = Flask(__name__)\nflask_app.secret_key = b'\\xff\\x00bytes'\n"
	for name, tail := range map[string]string{
		"middleware":  "from werkzeug.middleware.proxy_fix import ProxyFix\nfrom werkzeug.middleware.dispatcher import DispatcherMiddleware\napp = ProxyFix(DispatcherMiddleware(lambda e, s: [], {'/a': flask_app}))\n",
		"closure":     "def wrap(inner):\n    def call(environ, start_response):\n        return inner(environ, start_response)\n    return call\napp = wrap(wrap(flask_app))\n",
		"wsgi method": "app = flask_app.wsgi_app\n",
		"partial":     "import functools\napp = functools.partial(flask_app)\n",
		"own object":  "class W:\n    def __init__(self, a): self.inner_thing = a\n    def __call__(self, e, s): return self.inner_thing(e, s)\napp = W(flask_app)\n",
		"preload":     "app = flask_app\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t, map[string]string{"app.py": head + tail})
			o.Config.Preload = name == "preload"
			r := start(t, o)
			if f := r.g.Facts(); !f.Known || !f.AppFound || f.SecretKey.Reveal() != "\xff\x00bytes" {
				t.Errorf("%+v", f)
			}
		})
	}
	t.Run("not flask", func(t *testing.T) {
		t.Parallel()
		o := options(t, map[string]string{"wsgi.py": "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'plain']\n"})
		r := start(t, o)
		if f := r.g.Facts(); f.Known || f.Why == "" {
			t.Errorf("%+v", f)
		}
		if s, b := get(t, r.url); s != 200 || b != "plain" {
			t.Errorf("%d %s", s, b)
		}
	})
	t.Run("left to flask's own rules", func(t *testing.T) {
		t.Parallel()
		o := options(t, map[string]string{"wsgi.py": "from site_parts import *\n", "site_parts.py": "from flask import Flask\nthe_shop = Flask('shop')\n"})
		if o.App.Target != "wsgi" {
			t.Errorf("target %q", o.App.Target)
		}
		r := start(t, o)
		if f := r.g.Facts(); !f.AppFound {
			t.Errorf("%+v", f)
		}
	})
}

// TestSessionFacts: the worker says how the app keeps its sessions.
func TestSessionFacts(t *testing.T) {
	const head = "import datetime\nfrom flask import Flask, session\nfrom flask.sessions import SecureCookieSessionInterface, SessionInterface, SessionMixin\napp = Flask(__name__)\napp.secret_key = 'k' * 40\n"
	for name, c := range map[string]struct {
		tail string
		want guard.SessionFacts
	}{
		"Flask's own": {"", guard.SessionFacts{Kind: "cookie", Interface: "SecureCookieSessionInterface", Salt: "cookie-session", Derivation: "hmac", Lifetime: 31 * 24 * time.Hour, Path: "/"}},
		"no key":      {"app.secret_key = None\n", guard.SessionFacts{Kind: "none", Interface: "SecureCookieSessionInterface", Lifetime: 31 * 24 * time.Hour, Path: "/"}},
		"settings": {"app.config.update(SESSION_COOKIE_PATH='/shop', SESSION_COOKIE_DOMAIN='shop.example', PERMANENT_SESSION_LIFETIME=datetime.timedelta(hours=8))\n" +
			"class Own(SecureCookieSessionInterface):\n    salt = 'my-salt'\n    key_derivation = 'django-concat'\napp.session_interface = Own()\n",
			guard.SessionFacts{Kind: "cookie", Interface: "Own", Salt: "my-salt", Derivation: "django-concat", Lifetime: 8 * time.Hour, Path: "/shop", Domain: "shop.example"}},
		"elsewhere": {"class There(SessionInterface):\n    def open_session(self, app, request):\n        return None\n    def save_session(self, app, session, response):\n        pass\napp.session_interface = There()\n",
			guard.SessionFacts{Kind: "id", Interface: "There", Lifetime: 31 * 24 * time.Hour, Path: "/", Tells: true}},
		"broken": {"class Broken(SessionInterface):\n    def get_cookie_path(self, app):\n        raise ValueError('no')\napp.session_interface = Broken()\n",
			guard.SessionFacts{Interface: "ValueError"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, options(t, map[string]string{"app.py": head + c.tail}))
			if f := r.g.Facts(); !f.Known || f.Sessions != c.want {
				t.Errorf("%+v", f.Sessions)
			}
		})
	}
}

func TestCrashLoop(t *testing.T) {
	o := options(t, map[string]string{"app.py": echoApp})
	restarts := 0
	o.OnRestart = func() { restarts++ }
	o.Handler = func(g *Gateway) (http.Handler, error) {
		// The first pause is long enough to look at.
		g.server().backoff = func(n int) time.Duration { return 5 * time.Second / time.Duration(n*n*n) }
		g.server().maxFailures, g.server().window = 3, time.Hour
		return bare(g)
	}
	r := start(t, o)
	var groups []int
	for i := range 3 {
		pid := r.master()
		groups = append(groups, pid)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			// While it is away: 503 with Retry-After, and not ready.
			<-waitFor(func() bool { return r.g.Ready() != nil })
			res, err := client.Get(r.url)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
				t.Errorf("%d %v", res.StatusCode, res.Header)
			}
		}
		if i == 2 {
			break
		}
		<-waitFor(func() bool { return r.master() != pid && r.g.Ready() == nil })
		if err := r.g.Ready(); err != nil {
			t.Fatalf("not started again: %v\n%s", err, r.steps)
		}
		if st, _ := get(t, r.url); st != 200 {
			t.Errorf("status %d after the restart", st)
		}
	}
	select {
	case err := <-r.done:
		r.done <- err
		var se *StartError
		if !errors.As(err, &se) || se.Kind != FaultCrashLoop || !strings.Contains(err.Error(), "3 times within") {
			t.Errorf("%v", err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatalf("did not give up\n%s", r.steps)
	}
	if restarts != 2 {
		t.Errorf("%d restarts", restarts)
	}
	for _, g := range groups {
		if left := groupMembers(g); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// TestBrokenDeployment: gunicorn ends while what is on the disk cannot be
// loaded. The guard says why and 503, for as long as that lasts, and serves
// when the deployment is whole.
func TestBrokenDeployment(t *testing.T) {
	o := options(t, map[string]string{"app.py": echoApp})
	o.Handler = func(g *Gateway) (http.Handler, error) {
		g.server().backoff = func(int) time.Duration { return 50 * time.Millisecond }
		g.server().maxFailures, g.server().window = 3, time.Hour
		return bare(g)
	}
	var restarts atomic.Int64
	o.OnRestart = func() { restarts.Add(1) }
	r := start(t, o)
	name := filepath.Join(o.Dir, "app.py")
	if err := os.WriteFile(name, []byte("raise RuntimeError('half a deployment')\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	syscall.Kill(r.master(), syscall.SIGKILL)
	eventually(t, r, "more tries than a crash loop has", func() bool { return restarts.Load() > 4 })
	res, err := client.Get(r.url)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || r.g.Ready() == nil {
		t.Errorf("while it is broken: %d %v, ready: %v", res.StatusCode, res.Header, r.g.Ready())
	}
	if !r.steps.has(StepWarning, "cannot import app: RuntimeError: half a deployment; starting again") {
		t.Errorf("nothing says why:\n%s", r.steps)
	}
	if err := os.WriteFile(name, []byte(echoApp), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, r, "the whole deployment", func() bool { return r.g.Ready() == nil })
	if s, _ := get(t, r.url); s != 200 {
		t.Errorf("afterwards: %d", s)
	}
}

func TestStubbornApp(t *testing.T) {
	o := options(t, map[string]string{"app.py": echoApp + `
import signal
@app.get("/hang")
def hang():
    subprocess.Popen(["sleep", "300"])
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    time.sleep(300)
`})
	o.Config.Grace = seconds(1)
	r := start(t, o)
	go func() {
		if res, err := client.Get(r.url + "/hang"); err == nil {
			res.Body.Close()
		}
	}()
	pgid := r.master()
	<-waitFor(func() bool { return len(groupMembers(pgid)) >= 3 })
	begin := time.Now()
	if err := r.end(); err != nil { // also checks that the group is gone
		t.Error(err)
	}
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("stopping took %s", d)
	}
}

func TestStopWhileStarting(t *testing.T) {
	o := options(t, map[string]string{"app.py": "import time\napp = 1\ntime.sleep(600)\n"})
	r := launch(t, o)
	<-waitFor(func() bool { return strings.Contains(r.steps.String(), "Booting worker") })
	begin := time.Now()
	if err := r.end(); err != nil {
		t.Errorf("%v", err)
	}
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("took %s", d)
	}
}

func TestOccupiedPort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cfg := testConfig()
	cfg.ListenHTTP = []string{ln.Addr().String()}
	begin := time.Now()
	err = Run(context.Background(), Options{Dir: t.TempDir(), Config: cfg, App: App{Target: "app:app"}, StateDir: stateDir(t), Environ: cleanEnviron(t), Handler: bare})
	if err == nil {
		t.Fatal("started")
	}
	for _, w := range []string{"deployment.listen-http", "in use by", fmt.Sprint(os.Getpid())} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("no %q in %v", w, err)
		}
	}
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("took %s", d)
	}
}

func TestUpstream(t *testing.T) {
	addr := fmt.Sprint("127.0.0.1:", freeport.Take(t))
	o := Options{Dir: t.TempDir(), Config: testConfig(), Upstream: "http://" + addr, Environ: cleanEnviron(t)}
	r := launch(t, o)
	<-waitFor(func() bool { return len(r.g.URLs()) > 0 && r.g.open.Load() })
	if err := r.g.Ready(); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("ready: %v", err)
	}
	if !r.steps.has(StepWarning, "does not answer") {
		t.Errorf("no warning\n%s", r.steps)
	}
	url := r.g.URLs()[0]
	if s, _ := get(t, url); s != 503 {
		t.Errorf("status %d", s)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "up") })}
	go srv.Serve(ln)
	defer srv.Close()
	if s, b := get(t, url); s != 200 || b != "up" {
		t.Errorf("%d %s", s, b)
	}
	<-waitFor(func() bool { return r.g.Ready() == nil })
	if err := r.g.Ready(); err != nil {
		t.Error(err)
	}
	if f := r.g.Facts(); f.Known || f.Why == "" {
		t.Errorf("%+v", f)
	}
}
