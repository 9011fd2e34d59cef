package cli

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/freeport"
	"github.com/dewar-security/dewar/internal/store/redisstore/redistest"
	"github.com/dewar-security/dewar/internal/store/sqlitestore"
)

func (s *site) metric(name string) string {
	s.t.Helper()
	res, err := http.Get(s.consoleURL + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return "(none)"
}

func storeProject(t *testing.T) string {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "app.py"), sessionApp)
	return dir
}

// TestStoreOutlivesRestart: a session, the end of another and a ban are there
// after the guard was stopped and started, and after its file was damaged the
// guard starts and says so.
func TestStoreOutlivesRestart(t *testing.T) {
	dir, state := storeProject(t), t.TempDir()
	environ := []string{"SECRET_KEY=" + realKey, "STATE_DIRECTORY=" + state}
	s := start(t, dir, environ, calmStore...)
	stays, ended := s.client(), s.client()
	s.want(s.post(stays, "/enter", "user", "alice"), 200, "login")
	s.want(s.post(ended, "/enter", "user", "bob"), 200, "login")
	old := s.cookies(ended)
	s.want(s.post(ended, "/leave"), 200, "logout")
	if got := s.with(old); strings.Contains(got, "bob") {
		t.Fatalf("a session after its end: %s", got)
	}
	s.command(0, "ban", "add", "203.0.113.7", "--dir", dir, "--reason", "tested")
	alice := s.cookies(stays)
	s.stop()

	s = start(t, dir, environ, calmStore...)
	if got := s.with(alice); !strings.Contains(got, "hi alice") {
		t.Errorf("a session after a restart: %s", got)
	}
	if got := s.with(old); strings.Contains(got, "bob") {
		t.Errorf("an ended session after a restart: %s", got)
	}
	if out := s.command(0, "ban", "list", "--dir", dir); !strings.Contains(out, "203.0.113.7") || !strings.Contains(out, "tested") {
		t.Errorf("bans after a restart:\n%s", out)
	}
	s.stop()

	files, _ := filepath.Glob(filepath.Join(state, "projects", "*", sqlitestore.FileName))
	if len(files) != 1 {
		t.Fatalf("the store's file: %v", files)
	}
	if st, err := os.Stat(files[0]); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	writeFile(t, files[0], strings.Repeat("no database ", 1000))
	s = start(t, dir, environ, calmStore...)
	s.want(s.ask(s.client(), "GET", "/", ""), 200, "with a damaged store")
	if !strings.Contains(s.out.String(), "set aside") {
		t.Errorf("nobody is told of the damage:\n%s", s.out)
	}
	eventually(t, "the event of the damage", func() bool {
		b, err := os.ReadFile(s.log)
		return err == nil && strings.Contains(string(b), "dewar_store_damaged")
	})
}

// calmStore takes away what limits a test that logs in all the time.
var calmStore = []string{"--set", "abuse.rate-limit=off", "--set", "abuse.login=off"}

// TestStoreAcrossUpgrade: while one process takes over from another, and
// after, bans of both are known.
func TestStoreAcrossUpgrade(t *testing.T) {
	dir := plainProject(t)
	s, _ := process(t, dir, nil)
	s.command(0, "ban", "add", "203.0.113.1", "--dir", dir)
	first := s.pid()
	s.command(0, "upgrade", dir)
	s.command(0, "ban", "add", "203.0.113.2", "--dir", dir)
	eventually(t, "the first process's end", func() bool { return syscall.Kill(first, 0) != nil || zombie(first) })
	s.command(0, "ban", "add", "203.0.113.3", "--dir", dir)
	s.command(0, "upgrade", dir)
	if out := s.command(0, "ban", "list", "--dir", dir); !strings.Contains(out, "203.0.113.1") || !strings.Contains(out, "203.0.113.2") || !strings.Contains(out, "203.0.113.3") {
		t.Errorf("bans after two upgrades:\n%s", out)
	}
}

// TestStoreShared: two guards with one Redis know each other's sessions, ends
// of sessions and bans; when it hangs both go on, and say so; when it is back
// so are they.
func TestStoreShared(t *testing.T) {
	server := redistest.Start(t, "requirepass", "hunter2-redis")
	dir := storeProject(t)
	shared := append([]string{"--set", "store.url=redis://" + server.Address, "--set", "store.password=env:REDIS_PASSWORD", "--set", "store.secret=env:STORE_SECRET", "--set", "store.nodes=2", "--set", "store.timeout=200ms"}, calmStore...)
	environ := []string{"SECRET_KEY=" + realKey, "REDIS_PASSWORD=hunter2-redis", "STORE_SECRET=a secret that both of the nodes have"}
	a, b := start(t, dir, environ, shared...), start(t, dir, environ, shared...)
	if up := a.metric("dewar_store_up"); up != "1" {
		t.Errorf("dewar_store_up is %s", up)
	}
	c := a.client()
	a.want(a.post(c, "/enter", "user", "alice"), 200, "login at the first node")
	cookie := a.cookies(c)
	if got := b.with(cookie); !strings.Contains(got, "hi alice") {
		t.Errorf("the session at the second node: %s", got)
	}
	a.want(a.post(c, "/leave"), 200, "logout at the first node")
	eventually(t, "the end of the session at the second node", func() bool { return !strings.Contains(b.with(cookie), "alice") })
	a.command(0, "ban", "add", "203.0.113.9", "--dir", dir)
	eventually(t, "the ban at the second node", func() bool { return strings.Contains(b.command(0, "ban", "list", "--dir", dir), "203.0.113.9") })

	server.Stall()
	for _, s := range []*site{a, b} {
		anonymous := s.client()
		for range 10 {
			s.want(s.ask(anonymous, "GET", "/", ""), 200, "with a store that hangs")
		}
		eventually(t, "dewar_store_up 0", func() bool { return s.metric("dewar_store_up") == "0" })
		if out := s.command(0, "ban", "list", "--dir", dir); !strings.Contains(out, "203.0.113.9") {
			t.Errorf("bans with a store that hangs:\n%s", out)
		}
		if got := s.with(cookie); strings.Contains(got, "alice") {
			t.Errorf("an ended session lives again: %s", got)
		}
		state, err := (&app{environ: s.environ}).running(dir)
		if err != nil {
			t.Fatal(err)
		}
		var all []evidence.Evidence
		if err := askConsole(t.Context(), state, http.MethodGet, "/evidence", time.Minute, &all); err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(all, func(e evidence.Evidence) bool {
			return e.Check == "store" && e.Outcome == evidence.Error && strings.Contains(e.Summary, "gone since")
		}) {
			t.Error("the evidence does not say that the store is gone")
		}
		if res, err := http.Get(s.consoleURL + "/readyz"); err != nil || res.StatusCode != 200 {
			t.Errorf("a node is taken away because of the store: %v %v", res, err)
		} else {
			res.Body.Close()
		}
	}
	server.Resume()
	for _, s := range []*site{a, b} {
		eventually(t, "dewar_store_up 1", func() bool { return s.metric("dewar_store_up") == "1" })
		var log []byte
		eventually(t, "the events of the store's absence", func() bool {
			log, _ = os.ReadFile(s.log)
			return strings.Contains(string(log), "dewar_store_gone") && strings.Contains(string(log), "dewar_store_back")
		})
		for _, secret := range []string{"hunter2-redis", "a secret that both of the nodes have"} {
			if strings.Contains(string(log), secret) || strings.Contains(s.out.String(), secret) {
				t.Errorf("%q is shown", secret)
			}
		}
	}
	d := b.client()
	b.want(b.post(d, "/enter", "user", "carol"), 200, "login after it is back")
	if got := a.with(b.cookies(d)); !strings.Contains(got, "hi carol") {
		t.Errorf("the session at the other node after it is back: %s", got)
	}
}

// TestStoreRefused: a store that will not have us is an error at the start; one
// that is not there is not.
func TestStoreRefused(t *testing.T) {
	server := redistest.Start(t, "requirepass", "right-password")
	dir := storeProject(t)
	environ := []string{"SECRET_KEY=" + realKey, "REDIS_PASSWORD=wrong-password", "STORE_SECRET=a secret that both of the nodes have"}
	root := real(t)
	work := t.TempDir()
	var out buffer
	code := execute(t.Context(), []string{"run", dir, "--set", "store.url=redis://" + server.Address, "--set", "store.password=env:REDIS_PASSWORD", "--set", "store.secret=env:STORE_SECRET"},
		append([]string{"PATH=" + filepath.Join(root, ".venv", "bin") + ":" + os.Getenv("PATH"), "HOME=" + work, "TMPDIR=" + work}, environ...), strings.NewReader(""), &out, &out)
	if code == 0 || !strings.Contains(out.String(), "WRONGPASS") || strings.Contains(out.String(), "wrong-password") {
		t.Errorf("a wrong password: exit %d\n%s", code, out.String())
	}
	s := start(t, dir, environ, append([]string{"--set", fmt.Sprint("store.url=redis://127.0.0.1:", freeport.Take(t)), "--set", "store.secret=env:STORE_SECRET"}, calmStore...)...)
	for range 20 {
		s.want(s.ask(s.client(), "GET", "/", ""), 200, "without a store")
	}
	if !strings.Contains(s.out.String(), "starts without it") {
		t.Errorf("nobody is told:\n%s", s.out)
	}
}

// TestOpenStore: what auto means, and what it means where there is no folder.
func TestOpenStore(t *testing.T) {
	home, closed := t.TempDir(), t.TempDir()
	if err := os.Chmod(closed, 0o755); err != nil { // others can enter it
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name            string
		environ         []string
		set             map[string]string
		kind, want, err string
	}{
		{"by itself", []string{"HOME=" + home}, nil, "file", sqlitestore.FileName, ""},
		{"no folder", nil, nil, "memory", "end with the guard", ""},
		{"no folder, asked for", nil, map[string]string{"store.kind": "file"}, "", "", "store.path"},
		{"a folder for all", nil, map[string]string{"store.kind": "file", "store.path": closed}, "", "", "chmod 700"},
		{"memory", []string{"HOME=" + home}, map[string]string{"store.kind": "memory"}, "memory", "a restart forgets them", ""},
		{"redis without its secret", nil, map[string]string{"store.url": "redis://127.0.0.1:1", "store.secret": "env:NOT_THERE"}, "", "", "store.secret: $NOT_THERE is not set"},
		{"a short secret", []string{"SHORT=short"}, map[string]string{"store.url": "redis://127.0.0.1:1", "store.secret": "env:SHORT"}, "", "", "32 characters"},
		{"an authority without TLS", []string{"SEC=0123456789abcdef0123456789abcdef"}, map[string]string{"store.url": "redis://127.0.0.1:1", "store.secret": "env:SEC", "store.ca": "ca.pem"}, "", "", "rediss://"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out buffer
			a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &out, environ: tt.environ}
			dir := t.TempDir()
			var flags []catalog.Flag
			for k, v := range tt.set {
				flags = append(flags, catalog.Flag{Key: k, Value: v, Name: k})
			}
			loaded, err := catalog.Load(catalog.Source{Dir: dir, Environ: tt.environ, Flags: flags})
			if err != nil {
				t.Fatal(err)
			}
			s, err := a.openStore(t.Context(), loaded, dir, nil, func(event.Event) {})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if e := s.evidence(time.Now()); s.kind != tt.kind || !strings.Contains(e.Summary, tt.want) || (e.Outcome == evidence.Pass) != (len(s.warnings) == 0) {
				t.Errorf("%s, %+v, want %s and %q", s.kind, e, tt.kind, tt.want)
			}
			if s.nodes() != nil {
				t.Error("it is shared")
			}
			if s.kind == "file" {
				if _, err := a.openStore(t.Context(), loaded, dir, nil, func(event.Event) {}); !errors.Is(err, sqlitestore.ErrInUse) {
					t.Errorf("a second process: %v", err)
				}
			}
		})
	}
}
