package gateway

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/evidence"
)

// hammers is how many clients a load has.
const hammers = 4

// workerLoad counts the answers of workers under load.
type workerLoad struct {
	stop chan struct{}
	wg   sync.WaitGroup
	mu   sync.Mutex
	ok   int
	bad  []string
}

// hammer asks the app until it is ended.
func hammer(url string) *workerLoad {
	l := &workerLoad{stop: make(chan struct{})}
	for range hammers {
		l.wg.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				what := ""
				res, err := client.Get(url + "/pid")
				if err != nil {
					what = err.Error()
				} else {
					b, err := io.ReadAll(res.Body)
					res.Body.Close()
					if err != nil || res.StatusCode != 200 {
						what = fmt.Sprintf("%d %.200s %v", res.StatusCode, b, err)
					}
				}
				l.mu.Lock()
				if what != "" {
					l.bad = append(l.bad, what)
				} else {
					l.ok++
				}
				l.mu.Unlock()
			}
		})
	}
	return l
}

// end stops the load and returns how many requests failed.
func (l *workerLoad) end(t *testing.T) []string {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	if l.ok < 20 {
		t.Errorf("only %d requests: the load was none", l.ok)
	}
	return l.bad
}

// workerProcesses lists gunicorn's children.
func (r *running) workerProcesses() []int {
	r.t.Helper()
	master := r.master()
	return slices.DeleteFunc(groupMembers(master), func(pid int) bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return true
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		return len(f) < 2 || f[1] != fmt.Sprint(master)
	})
}

const pidApp = `
import os
from flask import Flask
app = Flask(__name__)
app.secret_key = "a-key-that-must-never-be-in-a-log-0123456789"

@app.get("/pid")
def pid():
    return str(os.getpid())
`

// TestWorkerCannotStart: a worker dies while what is on the disk cannot be
// loaded. The other one goes on with what it has, every request is answered,
// and when the code is whole again so is the number of workers. Only when
// none is left there is nothing to serve: 503 until the code is mended.
func TestWorkerCannotStart(t *testing.T) {
	for _, class := range []string{"gthread", "sync"} {
		t.Run(class, func(t *testing.T) {
			files := map[string]string{"app.py": pidApp, "gunicorn.conf.py": `
worker_class = "` + class + `"
def post_fork(server, worker):
    worker.log.info("the project's post_fork ran for %d", worker.age)
def child_exit(server, worker):
    server.log.info("the project's child_exit ran for %d", worker.age)
`}
			o := options(t, files)
			o.Config.Workers = 2
			r := start(t, o)
			name := filepath.Join(o.Dir, "app.py")
			deploy := func(text string) {
				t.Helper()
				if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			serving := func(n int) func() bool {
				return func() bool { got, wanted := r.g.Workers(); return got == n && wanted == 2 }
			}
			state := func() evidence.Evidence { return r.g.Evidence()[1] }
			if !serving(2)() || state().Outcome != evidence.Pass || !strings.Contains(state().Summary, "2 of 2 workers serve") {
				t.Fatalf("at the start: %+v", state())
			}
			master, load := r.master(), hammer(r.url)

			// Each kind of broken code, with a worker that ends under it: the
			// first is killed, the others end as after max-requests.
			for i, broken := range []string{"raise ValueError('half deployed')\n", "app = Flask(\n", "import sys\nsys.exit('no settings')\n", "site = 1\n"} {
				deploy(broken)
				sig := syscall.SIGTERM
				if i == 0 {
					sig = syscall.SIGKILL
				}
				if err := syscall.Kill(r.workerProcesses()[0], sig); err != nil {
					t.Fatal(err)
				}
				eventually(t, r, "a worker that cannot start is told of", func() bool { return state().Outcome == evidence.Fail })
				if e := state(); !strings.HasPrefix(e.Summary, "1 of 2 workers serve: a new one could not start: ") || e.Fix == "" {
					t.Errorf("%q: %+v", broken, e)
				}
				if i == 0 && (!strings.Contains(state().Summary, "cannot import app: ValueError: half deployed") ||
					!r.steps.has(StepWarning, "a new worker could not start: cannot import app: ValueError: half deployed; 1 of 2 workers serve on")) {
					t.Errorf("%+v\n%s", state(), r.steps)
				}
				if err := r.g.Ready(); err != nil {
					t.Errorf("not ready, and one worker serves: %v", err)
				}
				deploy(pidApp)
				eventually(t, r, "both workers", serving(2))
				eventually(t, r, "being well", func() bool { return state().Outcome == evidence.Pass })
			}
			// What the killed worker was at work on is lost with it.
			bad := load.end(t)
			lost := slices.DeleteFunc(slices.Clone(bad), func(s string) bool { return strings.HasPrefix(s, "502 upstream-broken") })
			if len(lost) > 0 || len(bad) > hammers {
				t.Errorf("%d of %d requests failed: %q", len(bad), len(bad)+load.ok, bad[:min(len(bad), 8)])
			}
			if r.master() != master {
				t.Error("gunicorn ended")
			}
			if !r.steps.has(StepDone, "all 2 workers serve again") {
				t.Errorf("nothing says that all is well\n%s", r.steps)
			}
			for _, hook := range []string{"post_fork ran for 3", "child_exit ran for"} {
				if !strings.Contains(r.steps.String(), "the project's "+hook) {
					t.Errorf("the project's own hook did not run: %s", hook)
				}
			}

			// All of them, while it is broken.
			deploy("raise ValueError('half deployed')\n")
			for _, pid := range r.workerProcesses() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			eventually(t, r, "that nobody serves", func() bool { return r.g.Ready() != nil })
			eventually(t, r, "503", func() bool {
				res, err := client.Get(r.url)
				if err != nil {
					return false
				}
				res.Body.Close()
				return res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") != ""
			})
			eventually(t, r, "what is wrong", func() bool { return r.steps.has(StepWarning, "half deployed; starting again") })
			deploy(pidApp)
			eventually(t, r, "both workers", func() bool { return r.g.Ready() == nil && serving(2)() })
			if s, _ := get(t, r.url+"/pid"); s != 200 {
				t.Errorf("afterwards: %d", s)
			}
			// And with one that waits it ends in good time.
			deploy("raise ValueError('half deployed')\n")
			_ = syscall.Kill(r.workerProcesses()[0], syscall.SIGKILL)
			eventually(t, r, "a worker that waits", func() bool { return state().Outcome == evidence.Fail })
			if err := r.end(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNoRecyclingWhileBroken: while new workers cannot start, those that serve
// stay beyond their max-requests; afterwards they are replaced as ever.
func TestNoRecyclingWhileBroken(t *testing.T) {
	o := options(t, map[string]string{"app.py": pidApp})
	o.Config.Workers, o.Config.MaxRequests = 2, 100
	r := start(t, o)
	serving := func() int { n, _ := r.g.Workers(); return n }
	name := filepath.Join(o.Dir, "app.py")
	if err := os.WriteFile(name, []byte("raise ValueError('half deployed')\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(r.workerProcesses()[0], syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, r, "a worker that cannot start", func() bool { return r.g.Evidence()[1].Outcome == evidence.Fail })
	load := hammer(r.url)
	eventually(t, r, "many more requests than a worker is for", func() bool {
		load.mu.Lock()
		defer load.mu.Unlock()
		return load.ok > 400
	})
	if n := serving(); n != 1 {
		t.Errorf("%d workers serve", n)
	}
	if err := os.WriteFile(name, []byte(pidApp), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, r, "both workers", func() bool { return serving() == 2 })
	last := r.workerProcesses()
	eventually(t, r, "that both were replaced", func() bool {
		now := r.workerProcesses()
		return serving() == 2 && len(now) == 2 && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(last, pid) })
	})
	if bad := load.end(t); len(bad) > 0 {
		t.Errorf("%d of %d requests failed: %q", len(bad), len(bad)+load.ok, bad[:min(len(bad), 8)])
	}
}

// TestWorkerHookFails: a hook of the project's that fails for a replacement
// takes nothing down either.
func TestWorkerHookFails(t *testing.T) {
	for _, hook := range []string{"post_fork(server, worker)", "post_worker_init(worker)"} {
		o := options(t, map[string]string{"app.py": pidApp, "gunicorn.conf.py": "import os\ndef " + hook + ":\n    if os.path.exists('broken'):\n        raise OSError('no place left')\n"})
		o.Config.Workers = 2
		r := start(t, o)
		broken := filepath.Join(o.Dir, "broken")
		if err := os.WriteFile(broken, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(r.workerProcesses()[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, r, "the failure of "+hook, func() bool {
			return r.steps.has(StepWarning, "a new worker could not start: a hook in gunicorn.conf.py failed: OSError: no place left; 1 of 2 workers serve on")
		})
		if s, _ := get(t, r.url+"/pid"); s != 200 {
			t.Errorf("%s: %d", hook, s)
		}
		if err := os.Remove(broken); err != nil {
			t.Fatal(err)
		}
		eventually(t, r, "both workers", func() bool { n, _ := r.g.Workers(); return n == 2 })
		if err := r.end(); err != nil {
			t.Error(err)
		}
	}
}

// TestPreloadedWorkersDie: with preload a replacement has the code of its
// master, whatever is on the disk.
func TestPreloadedWorkersDie(t *testing.T) {
	o := options(t, map[string]string{"app.py": pidApp})
	o.Config.Workers, o.Config.Preload = 2, true
	r := start(t, o)
	if err := os.WriteFile(filepath.Join(o.Dir, "app.py"), []byte("raise ValueError('half deployed')\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	old := r.workerProcesses()
	for _, pid := range old {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	eventually(t, r, "two others", func() bool {
		now := r.workerProcesses()
		n, _ := r.g.Workers()
		return n == 2 && len(now) == 2 && now[0] != old[0] && now[1] != old[1] && now[0] != old[1]
	})
	if s, _ := get(t, r.url+"/pid"); s != 200 {
		t.Errorf("status %d", s)
	}
}

// TestFailuresAroundTheStart: a replacement that fails just before the app is
// put into service, and later settings that cannot be read on a SIGHUP, are two
// first failures.
func TestFailuresAroundTheStart(t *testing.T) {
	s := newSupervisor(App{Target: "app:app"}, deployment.Config{}, nil)
	c := &child{exited: make(chan struct{}), ready: make(chan struct{}), failed: make(chan struct{}), serving: map[int]bool{}}
	s.report(c, report{Kind: "configured", PID: 1, Workers: 1})
	s.report(c, report{Kind: "facts", PID: 2})
	s.report(c, report{Kind: "failed", PID: 3, Phase: "import", Late: true})
	c.putUp()
	if c.failure != nil || c.late == nil {
		t.Fatalf("failure %v, late %v", c.failure, c.late)
	}
	s.report(c, report{Kind: "failed", PID: 1, Phase: "config"})
	if c.failure == nil || c.failure.Phase != "config" {
		t.Errorf("failure %v", c.failure)
	}
}
