package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/guard"
)

// realPython returns the interpreter of the repository's virtual environment.
// DEWAR_TEST_PYTHON names another one, to test other versions of gunicorn.
func realPython(t *testing.T) string {
	t.Helper()
	p := os.Getenv("DEWAR_TEST_PYTHON")
	if p == "" {
		p, _ = filepath.Abs("../../.venv/bin/python")
	}
	if _, err := os.Stat(p); err != nil {
		if os.Getenv("DEWAR_REQUIRE_REAL") == "1" {
			t.Fatalf("needs make venv: %v", err)
		}
		t.Skipf("SKIPPED: needs make venv (%v)", err)
	}
	return p
}

// cleanEnviron is an environment with nothing of this machine's settings.
func cleanEnviron(t *testing.T, more ...string) []string {
	t.Helper()
	home := t.TempDir()
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8"}, more...)
}

// project writes files into a new folder.
func project(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func seconds(n int) guard.Duration { return guard.Duration(n) * guard.Duration(time.Second) }

func testConfig() deployment.Config {
	return deployment.Config{
		ListenHTTP: []string{"127.0.0.1:0"}, TLS: "off", Workers: 1, Threads: 4,
		Timeout: seconds(20), HeaderTimeout: seconds(5), BodyTimeout: seconds(10), IdleTimeout: seconds(10), Grace: seconds(10),
		MaxHeader: 32 << 10, MaxRequests: 0, MaxConns: 100,
	}
}

// steps collects what Run says.
type steps struct {
	mu   sync.Mutex
	all  []Step
	logs []string
}

func (s *steps) progress(p Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, p)
}

func (s *steps) output(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs = append(s.logs, line)
}

func (s *steps) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, p := range s.all {
		fmt.Fprintf(&b, "%d %-8s %s\n", p.Kind, p.Name, p.Text)
	}
	return b.String() + strings.Join(s.logs, "\n")
}

func (s *steps) has(kind StepKind, text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.all {
		if p.Kind == kind && strings.Contains(p.Text, text) {
			return true
		}
	}
	return false
}

// running is a gateway under test.
type running struct {
	t     *testing.T
	g     *Gateway
	steps *steps
	url   string
	stop  context.CancelFunc
	done  chan error
}

// bare forwards everything: what the chain does without layers.
func bare(g *Gateway) (http.Handler, error) {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := g.Forwarder().Forward(w, &guard.Exchange{Request: r}, nil)
		if up, ok := err.(*guard.UpstreamError); ok {
			if up.RetryAfter > 0 {
				w.Header().Set("Retry-After", RetrySeconds(up.RetryAfter))
			}
			http.Error(w, up.Reason, up.Status)
		} else if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}), nil
}

// start runs a gateway until it serves, or fails the test.
func start(t *testing.T, o Options) *running {
	t.Helper()
	r := launch(t, o)
	select {
	case err := <-r.done:
		r.done <- err
		t.Fatalf("did not start: %v\n%s", err, r.steps)
	case <-waitFor(func() bool { return r.g != nil && r.g.Ready() == nil }):
	}
	if r.g == nil || r.g.Ready() != nil {
		t.Fatalf("did not start in time\n%s", r.steps)
	}
	if u := r.g.URLs(); len(u) > 0 {
		r.url = u[0]
	}
	return r
}

func launch(t *testing.T, o Options) *running {
	t.Helper()
	r := &running{t: t, steps: &steps{}, done: make(chan error, 1)}
	o.Progress, o.Output = r.steps.progress, r.steps.output
	if o.StateDir == "" {
		o.StateDir = filepath.Join(t.TempDir(), "s", "state")
		if err := os.Mkdir(filepath.Dir(o.StateDir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	handler := o.Handler
	if handler == nil {
		handler = bare
	}
	ready := make(chan struct{})
	o.Handler = func(g *Gateway) (http.Handler, error) {
		r.g = g
		close(ready)
		return handler(g)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() { r.done <- Run(ctx, o) }()
	t.Cleanup(func() { r.end() })
	select {
	case <-ready:
	case err := <-r.done:
		r.done <- err
	case <-time.After(time.Minute):
	}
	return r
}

func waitFor(cond func() bool) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		defer close(c)
		for deadline := time.Now().Add(2 * time.Minute); !cond() && time.Now().Before(deadline); {
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return c
}

// end stops the gateway, and fails the test when a process of it is left.
func (r *running) end() error {
	r.t.Helper()
	var groups []int
	if r.g != nil && r.g.server() != nil {
		r.g.server().mu.Lock()
		if c := r.g.server().child; c != nil {
			groups = append(groups, c.cmd.Process.Pid)
		}
		r.g.server().mu.Unlock()
	}
	r.stop()
	select {
	case err := <-r.done:
		r.done <- err
		for _, pgid := range groups {
			if left := groupMembers(pgid); len(left) > 0 {
				r.t.Errorf("processes left in group %d: %v", pgid, left)
				_ = syscall.Kill(-pgid, syscall.SIGKILL)
			}
		}
		return err
	case <-time.After(90 * time.Second):
		r.t.Errorf("did not stop in time\n%s", r.steps)
		for _, pgid := range groups {
			_ = syscall.Kill(-pgid, syscall.SIGKILL)
		}
		return nil
	}
}

// master returns gunicorn's process id, which is also its group's.
func (r *running) master() int {
	s := r.g.server()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.child.cmd.Process.Pid
}

// groupMembers lists the living processes of a process group.
func groupMembers(pgid int) []int {
	var out []int
	dirs, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range dirs {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(f) > 2 && f[2] == strconv.Itoa(pgid) && f[0] != "Z" {
			pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
			out = append(out, pid)
		}
	}
	return out
}

// options finds the app in a project made of files.
func options(t *testing.T, files map[string]string, environ ...string) Options {
	t.Helper()
	dir := project(t, files)
	env := cleanEnviron(t, environ...)
	app, err := FindApp(dir, AppOptions{Python: realPython(t), Environ: env})
	if err != nil {
		t.Fatal(err)
	}
	return Options{Dir: dir, Config: testConfig(), App: app, Environ: env}
}

var client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}

func get(t *testing.T, url string, header ...string) (int, string) {
	t.Helper()
	return do(t, "GET", url, "", header...)
}

func do(t *testing.T, method, url, body string, header ...string) (int, string) {
	t.Helper()
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	q, err := http.NewRequest(method, url, rd)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		q.Header[header[i]] = append(q.Header[header[i]], header[i+1]) // names as given
	}
	res, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}
