package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// sessionApp is an unmodified Flask app with logins; SERVER_SIDE=1 keeps its
// sessions on the server.
const sessionApp = `
import os, threading, time
from flask import Flask, request, session
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user

app = Flask(__name__)
app.secret_key = os.environ["SECRET_KEY"]
if os.environ.get("SERVER_SIDE"):
    from cachelib.file import FileSystemCache
    from flask_session import Session
    app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=FileSystemCache(os.environ["SESSION_DIR"]))
    Session(app)
manager = LoginManager(app)

class User(UserMixin):
    def __init__(self, id):
        self.id = id

@manager.user_loader
def load(id):
    return User(id)

@app.get("/")
def me():
    return "hi %s %s" % (current_user.get_id(), sorted(k for k in session if k[0] != "_"))

@app.post("/enter")
def enter():
    login_user(User(request.form["user"]), remember="remember" in request.form)
    return "welcome"

@app.post("/leave")
def leave():
    logout_user()
    return "bye"

@app.post("/clear")
def clear():
    session.clear()
    return "gone"

@app.post("/set")
def set():
    session[request.form["k"]] = request.form["v"]
    return "ok"

@app.post("/slow")
def slow():
    # Answers when the test says so.
    gate = os.environ["GATE"]
    open(os.path.join(gate, "arrived-%d-%d" % (os.getpid(), threading.get_ident())), "w").close()
    for _ in range(6000):
        if os.path.exists(os.path.join(gate, "open")):
            break
        time.sleep(0.01)
    session["late"] = "1"
    return "ok"

@app.get("/seen")
def seen():
    return request.headers.get("Cookie", "") + " " + request.headers.get("X-Dewar-Session", ""), 200, {"Content-Type": "text/plain"}
`

const realKey = "0d7c1f9e4b8a46c2a1e5f3b7d9c08642-e2e"

// sessionSite runs the app behind the guard, and bare.
func sessionSite(t *testing.T, serverSide bool) (s *site, bare string, environ []string) {
	t.Helper()
	root := real(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(sessionApp), 0o600); err != nil {
		t.Fatal(err)
	}
	environ = []string{"SECRET_KEY=" + realKey, "GATE=" + t.TempDir()}
	if serverSide {
		environ = append(environ, "SERVER_SIDE=1", "SESSION_DIR="+t.TempDir())
	}
	port := freePorts(t, 1)[0]
	cmd := exec.Command(filepath.Join(root, ".venv", "bin", "gunicorn"), "-b", "127.0.0.1:"+port, "--threads", "8", "app:app")
	cmd.Dir, cmd.Env = dir, append(append(os.Environ(), environ...), "PYTHONDONTWRITEBYTECODE=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	eventually(t, "the bare app", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	environ = append(environ, "STATE_DIRECTORY="+t.TempDir())
	return start(t, dir, environ, calm...), "http://127.0.0.1:" + port, environ
}

// calm takes away what limits a test that logs in all the time.
var calm = []string{"--set", "abuse.rate-limit=off", "--set", "abuse.login=off", "--set", "abuse.bans=off", "--set", "session.grace=1s"}

func (s *site) post(c *http.Client, path string, form ...string) answer {
	s.t.Helper()
	v := url.Values{}
	for i := 0; i+1 < len(form); i += 2 {
		v.Set(form[i], form[i+1])
	}
	return s.ask(c, "POST", path, v.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Origin", s.https, "Sec-Fetch-Site", "same-origin")
}

// with asks with exactly this Cookie field.
func (s *site) with(cookie string) string {
	s.t.Helper()
	c := s.client()
	c.Jar = nil
	return s.ask(c, "GET", "/", "", "Cookie", cookie).text
}

// cookies returns what the browser has for the site, as a field.
func (s *site) cookies(c *http.Client) string {
	u, _ := url.Parse(s.https)
	var out []string
	for _, k := range c.Jar.Cookies(u) {
		out = append(out, k.Name+"="+k.Value)
	}
	return strings.Join(out, "; ")
}

func (s *site) session(c *http.Client) string {
	for part := range strings.SplitSeq(s.cookies(c), "; ") {
		if strings.HasPrefix(part, "__Host-session=") {
			return part
		}
	}
	return ""
}

func direct(t *testing.T, bare, cookie string) string {
	t.Helper()
	r, _ := http.NewRequest("GET", bare, nil)
	r.Header.Set("Cookie", cookie)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return string(b)
}

// TestSealedSession drives a real Flask app, with its sessions in the cookie
// and on the server, bare and guarded, as an attacker does who has everything
// but the sealing key (CWE-384, CWE-565, CWE-613).
func TestSealedSession(t *testing.T) {
	root := real(t)
	for _, serverSide := range []bool{false, true} {
		t.Run(fmt.Sprintf("server side %v", serverSide), func(t *testing.T) {
			s, bare, environ := sessionSite(t, serverSide)
			nobody := "hi None"

			// flask-unsign with the real key: bare it is an admin, guarded nobody.
			if !serverSide {
				sign := exec.Command(filepath.Join(root, ".venv", "bin", "python"), "-m", "flask_unsign", "--sign", "--cookie", "{'_user_id': 'admin', '_fresh': True}", "--secret", realKey)
				out, err := sign.Output()
				if err != nil {
					t.Fatalf("flask-unsign: %v", err)
				}
				forged := "session=" + strings.TrimSpace(string(out))
				if got := direct(t, bare, forged); !strings.HasPrefix(got, "hi admin") {
					t.Errorf("bare, forged: %q: the test cannot fail", got)
				}
				for _, c := range []string{forged, "__Host-" + forged} {
					if got := s.with(c); !strings.HasPrefix(got, nobody) {
						t.Errorf("guarded, forged: %q", got)
					}
				}
			}

			// Fixation: the attacker's own session, planted before the login.
			attacker, victim := s.client(), s.client()
			s.post(attacker, "/set", "k", "planted", "v", "1")
			planted := s.session(attacker)
			if planted == "" {
				t.Fatalf("no sealed cookie: %q", s.cookies(attacker))
			}
			u, _ := url.Parse(s.https)
			victim.Jar.SetCookies(u, attacker.Jar.Cookies(u))
			s.post(victim, "/enter", "user", "alice", "remember", "1")
			if got := s.ask(victim, "GET", "/", "").text; !strings.HasPrefix(got, "hi alice") {
				t.Fatalf("logged in: %q (%s)", got, s.cookies(victim))
			}
			if got := s.with(planted); !strings.HasPrefix(got, nobody) {
				t.Errorf("planted, within the grace: %q", got)
			}
			time.Sleep(1100 * time.Millisecond) // the grace
			if got := s.with(planted); got != nobody+" []" {
				t.Errorf("planted: %q", got)
			}
			seen := s.ask(victim, "GET", "/seen", "").text
			if strings.Contains(seen, "__Host-") || !strings.Contains(seen, "session=") || !strings.Contains(seen, "remember_token=alice|") {
				t.Errorf("the app gets %q", seen)
			}

			// Another cookie's name, and a planted one in front.
			sealed := strings.TrimPrefix(s.session(victim), "__Host-session=")
			for _, c := range []string{"remember_token=" + sealed, "__Host-remember_token=" + sealed} {
				if got := s.with(c); !strings.HasPrefix(got, nobody) {
					t.Errorf("swapped: %q", got)
				}
			}
			if got := s.with("session=tossed; " + s.session(victim)); !strings.HasPrefix(got, "hi alice") {
				t.Errorf("tossed: %q", got)
			}

			// A restart keeps the session, and what has ended.
			before := s.cookies(victim)
			gone := s.client()
			s.post(gone, "/enter", "user", "dora")
			left := s.session(gone)
			s.post(gone, "/leave")
			s.stop()
			s2 := start(t, s.dir, environ, calm...)
			if got := s2.with(before); !strings.HasPrefix(got, "hi alice") {
				t.Errorf("after a restart: %q", got)
			}
			if got := s2.with(left); !strings.HasPrefix(got, nobody) {
				t.Errorf("left before the restart: %q", got)
			}

			// The logout ends it, and the remember token, for every copy.
			v2 := s2.client()
			s2.post(v2, "/enter", "user", "bob", "remember", "1")
			copied, only := s2.cookies(v2), s2.session(v2)
			if got := s2.with(only); !strings.HasPrefix(got, "hi bob") {
				t.Errorf("a copy before the logout: %q", got)
			}
			s2.post(v2, "/leave")
			if got := s2.ask(v2, "GET", "/", "").text; !strings.HasPrefix(got, nobody) {
				t.Errorf("after the logout: %q", got)
			}
			time.Sleep(1100 * time.Millisecond)
			for _, c := range []string{copied, only} {
				if got := s2.with(c); !strings.HasPrefix(got, nobody) {
					t.Errorf("replayed after the logout: %q", got)
				}
			}

			// The operator sees and ends them.
			v3 := s2.client()
			s2.post(v3, "/enter", "user", "carol", "remember", "1")
			var out bytes.Buffer
			operate := func(args ...string) string {
				out.Reset()
				if code := execute(context.Background(), append(append([]string{"session"}, args...), "--dir", s2.dir), s2.environ, strings.NewReader(""), &out, &out); code != 0 {
					t.Errorf("session %v: %d: %s", args, code, &out)
				}
				return out.String()
			}
			if got := operate("list", "carol"); strings.Count(got, "carol") != 2 || !strings.Contains(got, "remember_token") || !strings.Contains(got, "Firefox") {
				t.Errorf("session list: %s", got)
			}
			time.Sleep(1100 * time.Millisecond)
			operate("end", "carol")
			if got := s2.ask(v3, "GET", "/", "").text; !strings.HasPrefix(got, nobody) {
				t.Errorf("after session end: %q", got)
			}

			// The log names what was done, and holds no cookie.
			s2.stop()
			for _, x := range []struct {
				log  string
				want []string
			}{{s.log, []string{"authn_login_success", "malicious_session"}}, {s2.log, []string{"authn_login_success", "authn_logout", "session_use_after_expire", "dewar_operate"}}} {
				b, err := os.ReadFile(x.log)
				if err != nil {
					t.Fatal(err)
				}
				var names []string
				for line := range strings.Lines(string(b)) {
					var e struct {
						Name       string `json:"event.name"`
						Attributes map[string]string
					}
					if err := json.Unmarshal([]byte(line), &e); err != nil {
						t.Fatal(err)
					}
					names = append(names, e.Name)
					if e.Name == "authn_login_success" && (e.Attributes["account"] == "" || len(e.Attributes["handle"]) != 16) {
						t.Errorf("%s", line)
					}
				}
				for _, n := range x.want {
					if !slices.Contains(names, n) {
						t.Errorf("no event %s in %q", n, names)
					}
				}
				for part := range strings.SplitSeq(before+"; "+copied, "; ") {
					if _, v, _ := strings.Cut(part, "="); len(v) > 20 && strings.Contains(string(b), v[:20]) {
						t.Errorf("the log holds a cookie")
					}
				}
			}
		})
	}
}

// TestLoginInParallel: the answers of requests that were on their way when
// somebody logged in, or out, change nothing afterwards. With Flask alone the
// last one wins, whoever's it is.
func TestLoginInParallel(t *testing.T) {
	s, bare, environ := sessionSite(t, false)
	gate := ""
	for _, e := range environ {
		if dir, ok := strings.CutPrefix(e, "GATE="); ok {
			gate = dir
		}
	}
	try := func(base string, c *http.Client, around func()) {
		var all sync.WaitGroup
		for range 3 {
			all.Add(1)
			go func() {
				defer all.Done()
				s.post(c, base+"/slow")
			}()
		}
		arrived := filepath.Join(gate, "arrived-*")
		eventually(t, "three requests in the app", func() bool {
			names, _ := filepath.Glob(arrived)
			return len(names) == 3
		})
		around()
		open := filepath.Join(gate, "open")
		writeFile(t, open, "")
		all.Wait()
		names, _ := filepath.Glob(arrived)
		for _, name := range append(names, open) {
			if err := os.Remove(name); err != nil {
				t.Error(err)
			}
		}
	}
	jar, _ := cookiejar.New(nil)
	alone := &http.Client{Jar: jar}
	s.post(alone, bare+"/set", "k", "cart", "v", "1")
	try(bare, alone, func() { s.post(alone, bare+"/enter", "user", "alice") })
	if got := s.ask(alone, "GET", bare+"/", "").text; strings.HasPrefix(got, "hi alice") {
		t.Errorf("Flask alone kept the login (%q): the test cannot fail", got)
	}
	c := s.client()
	s.post(c, "/set", "k", "cart", "v", "1")
	try("", c, func() { s.post(c, "/enter", "user", "alice") })
	if got := s.ask(c, "GET", "/", "").text; got != "hi alice ['cart']" {
		t.Errorf("after the login: %q", got)
	}
	try("", c, func() { s.post(c, "/clear") })
	if got := s.ask(c, "GET", "/", "").text; got != "hi None []" {
		t.Errorf("after the logout: %q", got)
	}
}

// TestManyLogins: a hundred logins and logouts through everything there is
// leave no session and no memory behind (a thousand in the layer's own test).
func TestManyLogins(t *testing.T) {
	s, _, _ := sessionSite(t, true)
	c := s.client()
	for i := range 100 {
		s.post(c, "/enter", "user", "alice")
		s.post(c, "/leave")
		if i%25 == 24 {
			if got := s.ask(c, "GET", "/", "").text; got != "hi None []" {
				t.Fatalf("%d: %q", i, got)
			}
		}
	}
	var out bytes.Buffer
	if code := execute(context.Background(), []string{"session", "list", "alice", "--dir", s.dir}, s.environ, strings.NewReader(""), &out, &out); code != 0 || strings.TrimSpace(out.String()) != "nothing" {
		t.Errorf("%d: %s", code, &out)
	}
}
