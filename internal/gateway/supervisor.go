package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/guard"
)

// Fault says why the app's server did not start, or stopped.
type Fault string

// The faults a [StartError] distinguishes.
const (
	FaultPython      Fault = "python"       // the interpreter does not run
	FaultNoGunicorn  Fault = "no-gunicorn"  // not installed, or too old
	FaultConfig      Fault = "config"       // the project's gunicorn.conf.py fails
	FaultImport      Fault = "import"       // importing the app's module fails
	FaultAttribute   Fault = "attribute"    // the module has no such app
	FaultFactory     Fault = "factory"      // the factory fails
	FaultWorkerBoot  Fault = "worker-boot"  // a worker dies before it serves
	FaultBootTimeout Fault = "boot-timeout" // loading the app takes too long
	FaultExited      Fault = "exited"       // gunicorn ended by itself
	FaultCrashLoop   Fault = "crash-loop"   // it kept ending
)

// StartError is one clear message about an app that cannot be served, with the
// app's own words beneath.
type StartError struct {
	Kind    Fault
	Message string
	// Fix says what to do, if that is known.
	Fix string
	// Output is the app's traceback, or the last lines it wrote. It is the
	// app's text: it may quote anything.
	Output string
}

// Error returns the message, the fix, and the app's output indented beneath.
func (e *StartError) Error() string {
	s := e.Message
	if e.Fix != "" {
		s += "\n  " + e.Fix
	}
	if e.Output != "" {
		s += "\n\n    " + strings.ReplaceAll(strings.TrimRight(e.Output, "\n"), "\n", "\n    ")
	}
	return s
}

// supervisor runs one gunicorn on a private unix socket and keeps it running.
type supervisor struct {
	app      App
	cfg      deployment.Config
	env      environment
	output   func(line string) // every line of the child's log
	progress func(Step)
	restarts func() // a gunicorn that ended was started again
	booted   func() // a worker reported that it is ready

	dir    string // private, 0700
	socket string
	it     interpreter
	in     hookInput
	tail   tail

	facts atomic.Pointer[guard.Facts]
	up    atomic.Bool
	// retryAt is when the next start is tried, for Retry-After.
	retryAt atomic.Int64

	mu       sync.Mutex
	child    *child
	stopping bool
	quit     chan struct{} // closed by Stop

	// Set by tests.
	backoff     func(failures int) time.Duration
	maxFailures int
	window      time.Duration
	bootTimeout time.Duration
}

// child is one run of gunicorn.
type child struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the whole group has ended
	err    error         // of cmd.Wait, after exited

	ready   chan struct{} // closed when every worker has loaded the app
	failed  chan struct{} // closed with the first failure
	mu      sync.Mutex
	failure *report
	workers int          // how many gunicorn was told to start, 0 while it has not said so
	serving map[int]bool // those that have loaded the app, by process id
	loaded  bool         // ready is closed
	up      bool         // it was put into service
	late    *report      // why a worker that takes another's place cannot serve; nil when all do
	said    string       // what was last said about that
	ended   bool         // the leader's number may name another process by now
}

func newSupervisor(app App, cfg deployment.Config, environ []string) *supervisor {
	return &supervisor{
		app: app, cfg: cfg, env: environmentOf(environ),
		output: func(string) {}, progress: func(Step) {}, restarts: func() {}, booted: func() {},
		quit:    make(chan struct{}),
		backoff: backoff, maxFailures: 5, window: time.Minute,
		bootTimeout: max(time.Minute, 2*time.Duration(cfg.Timeout)),
	}
}

// backoff returns how long to wait after a number of failures in a row: half
// a second, doubled each time up to half a minute, give or take a quarter so
// that many hosts do not start in step.
func backoff(failures int) time.Duration {
	d := min(500*time.Millisecond<<min(max(failures-1, 0), 10), 30*time.Second)
	return d*3/4 + rand.N(d/2)
}

// prepare makes the private folder and asks the interpreter.
func (s *supervisor) prepare(ctx context.Context) error {
	dir, err := privateDir(s.env)
	if err != nil {
		return err
	}
	s.dir, s.socket = dir, filepath.Join(dir, "app.sock")
	if s.it, err = ask(ctx, s.app, childEnviron(s.env, s.app), dir); err != nil {
		s.cleanup()
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "gunicorn_hook.py"), gunicornHook, 0o600); err != nil {
		s.cleanup()
		return err
	}
	s.in = gunicornSettings(s.cfg, s.env, s.app, s.socket, heartbeatDir())
	if p := s.env["SCRIPT_NAME"]; p != "" {
		s.progress(Step{Kind: StepNote, Name: "app", Text: fmt.Sprintf("SCRIPT_NAME=%s is set: the app is mounted there, and paths in settings include it", clean(p))})
	}
	return nil
}

func (s *supervisor) cleanup() {
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

// Start starts gunicorn and returns when every worker has loaded the app, or
// says why one could not. Nothing is left running after an error.
//
// Every worker imports the app for itself, and gunicorn ends with the first
// that cannot: one that serves while others still import would go down with
// them if the source changed in between, as it does while it is deployed.
func (s *supervisor) Start(ctx context.Context) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	if err := s.launch(ctx); err != nil {
		s.cleanup()
		return err
	}
	return nil
}

// launch starts one gunicorn and waits until it serves.
func (s *supervisor) launch(ctx context.Context) error {
	c, err := s.spawn()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.child = c
	stopping := s.stopping
	s.mu.Unlock()
	fail := func(err error) error {
		s.end(c, 0)
		return err
	}
	if stopping {
		return fail(context.Canceled)
	}
	serve := func() error {
		if err := s.dial(ctx); err != nil {
			return fail(&StartError{Kind: FaultExited, Message: "gunicorn reported a worker but does not listen: " + err.Error(), Output: s.tail.text(20)})
		}
		c.putUp()
		s.up.Store(true)
		s.retryAt.Store(0)
		s.look(c, true)
		return nil
	}
	deadline := time.NewTimer(s.bootTimeout)
	defer deadline.Stop()
	select {
	case <-c.ready:
		return serve()
	case <-c.exited:
		return s.diagnose(c)
	case <-c.failed:
		// gunicorn ends by itself after most failures; after a SystemExit
		// it would boot workers for ever.
		select {
		case <-c.exited:
		case <-time.After(time.Second):
		}
		return fail(s.diagnose(c))
	case <-deadline.C:
		c.mu.Lock()
		loaded, workers := len(c.serving), c.workers
		c.mu.Unlock()
		if loaded > 0 {
			s.progress(Step{Kind: StepWarning, Name: "workers", Text: fmt.Sprintf("%d of %d workers loaded %s within %s: they serve, the others are still at it", loaded, workers, s.app.Target, s.bootTimeout)})
			return serve()
		}
		return fail(&StartError{Kind: FaultBootTimeout, Message: fmt.Sprintf("%s was not loaded within %s", s.app.Target, s.bootTimeout),
			Fix: "find out what blocks while it is imported: a database, a network call", Output: s.tail.text(20)})
	case <-ctx.Done():
		return fail(ctx.Err())
	case <-s.quit:
		return fail(context.Canceled)
	}
}

func (s *supervisor) dial(ctx context.Context) error {
	d := net.Dialer{Timeout: 2 * time.Second}
	c, err := d.DialContext(ctx, "unix", s.socket)
	if err != nil {
		return err
	}
	return c.Close()
}

// spawn starts the process and the goroutines that listen to it.
func (s *supervisor) spawn() (*child, error) {
	_ = os.Remove(s.socket)
	reportR, reportW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	logR, logW, err := os.Pipe()
	if err != nil {
		reportR.Close()
		reportW.Close()
		return nil, err
	}
	s.in.Pipe = 3 // the first of ExtraFiles
	input, err := json.Marshal(s.in)
	if err != nil {
		return nil, err
	}
	args := []string{"-m", "gunicorn", "--config", filepath.Join(s.dir, "gunicorn_hook.py")}
	if s.app.Path != s.app.Dir {
		args = append(args, "--pythonpath", s.app.Path)
	}
	cmd := exec.Command(s.app.Python, append(args, s.app.Target)...)
	cmd.Dir = s.app.Dir
	cmd.Env = append(childEnviron(s.env, s.app), "DEWAR_GUNICORN="+string(input))
	cmd.Stdout, cmd.Stderr = logW, logW
	cmd.ExtraFiles = []*os.File{reportW}
	cmd.SysProcAttr = childAttributes()

	c := &child{cmd: cmd, exited: make(chan struct{}), ready: make(chan struct{}), failed: make(chan struct{}), serving: map[int]bool{}}
	started := make(chan error)
	reaped := make(chan struct{})
	go func() {
		defer close(reaped)
		// The kernel sends the parent-death signal when the *thread* that
		// started the child ends: this goroutine keeps its thread until then.
		runtime.LockOSThread()
		err := cmd.Start()
		logW.Close()
		reportW.Close()
		started <- err
		if err != nil {
			logR.Close()
			reportR.Close()
			return
		}
		c.err = reap(cmd, func() {
			c.mu.Lock()
			c.ended = true
			c.mu.Unlock()
		})
		// A process that left the group may hold the pipes open: do not wait
		// for it longer than it takes to read what is there.
		_ = logR.SetReadDeadline(time.Now().Add(2 * time.Second))
		_ = reportR.SetReadDeadline(time.Now().Add(2 * time.Second))
	}()
	if err := <-started; err != nil {
		return nil, &StartError{Kind: FaultPython, Message: fmt.Sprintf("cannot run %s: %v", s.app.Python, err)}
	}
	var readers sync.WaitGroup
	readers.Go(func() {
		defer logR.Close()
		readLines(logR, func(line string) {
			if strings.Contains(line, "WORKER TIMEOUT") {
				s.progress(Step{Kind: StepWarning, Name: "workers", Text: fmt.Sprintf("a worker was stuck for longer than deployment.timeout (%s) and is replaced", s.cfg.Timeout)})
			}
			s.tail.add(line)
			s.output(line)
		})
	})
	readers.Go(func() {
		defer reportR.Close()
		readReports(reportR, func(r report) { s.report(c, r) }, func(err error) {
			s.progress(Step{Kind: StepWarning, Name: "workers", Text: "unreadable report from a worker: " + err.Error()})
		})
	})
	go func() {
		<-reaped
		readers.Wait() // what it wrote last has been read
		close(c.exited)
	}()
	return c, nil
}

func (s *supervisor) report(c *child, r report) {
	switch r.Kind {
	case "configured":
		c.mu.Lock()
		c.workers = r.Workers
		c.mu.Unlock()
		if len(r.Overridden) > 0 {
			s.progress(Step{Kind: StepNote, Name: "workers", Text: fmt.Sprintf("%s in gunicorn.conf.py or GUNICORN_CMD_ARGS: dewar's own values are used instead (see [deployment])", strings.Join(r.Overridden, ", "))})
		}
	case "failed":
		c.mu.Lock()
		delete(c.serving, r.PID)
		if r.Late && c.up {
			c.late = &r
		} else if c.failure == nil {
			c.failure = &r
			close(c.failed)
		}
		c.mu.Unlock()
		s.look(c, true)
	case "facts":
		f := r.facts()
		s.facts.Store(&f)
		s.booted()
		c.mu.Lock()
		c.serving[r.PID] = true
		if len(c.serving) >= max(c.workers, 1) && !c.loaded {
			c.loaded = true
			close(c.ready)
		}
		c.mu.Unlock()
		s.look(c, false)
	case "exited":
		c.mu.Lock()
		delete(c.serving, r.Worker)
		c.mu.Unlock()
		s.look(c, false)
	}
}

// putUp takes the child into service. A replacement that failed a moment ago
// does not keep it from that, and the next failure is a first one again.
func (c *child) putUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.up = true
	if c.failure != nil && c.failure.Late {
		c.late, c.failure, c.failed = c.failure, nil, make(chan struct{})
	}
}

// look judges what is left when workers that take the place of others cannot
// be started: as long as one serves, the app is served with the code that it
// has, and new ones try again by themselves (see _give_way in the hook). When
// none does and another has failed, this gunicorn is of no use any more.
func (s *supervisor) look(c *child, failed bool) {
	c.mu.Lock()
	serving, why, said := len(c.serving), c.late, Step{}
	switch {
	case why == nil || !c.up || c.failure != nil:
	case serving >= c.workers:
		c.late, c.said = nil, ""
		said = Step{Kind: StepDone, Name: "workers", Text: fmt.Sprintf("all %d workers serve again", c.workers)}
	case serving == 0 && failed:
		c.failure = why
		s.up.Store(false)
		go s.end(c, 5*time.Second)
	case serving > 0:
		text := fmt.Sprintf("a new worker could not start: %s; %d of %d workers serve on with what they have loaded, and it is tried again", s.explain(why).Message, serving, c.workers)
		if text != c.said {
			c.said = text
			said = Step{Kind: StepWarning, Name: "workers", Text: text}
		}
	}
	c.mu.Unlock()
	if said.Text != "" {
		s.progress(said)
	}
}

// workers returns how many workers serve, of how many there should be, and why
// there are fewer, when new ones cannot be started.
func (s *supervisor) workers() (serving, wanted int, why *StartError) {
	s.mu.Lock()
	c := s.child
	s.mu.Unlock()
	if c == nil {
		return 0, 0, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.up.Load() {
		serving = len(c.serving)
	}
	if c.late != nil {
		why = s.explain(c.late)
	}
	return serving, c.workers, why
}

func (c *child) alive() bool {
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

// diagnose turns the end of a child into one message.
func (s *supervisor) diagnose(c *child) *StartError {
	c.mu.Lock()
	f := c.failure
	c.mu.Unlock()
	if f != nil {
		return s.explain(f)
	}
	code := "status unknown"
	if st := c.cmd.ProcessState; st != nil {
		code = st.String()
	}
	e := &StartError{Kind: FaultExited, Message: fmt.Sprintf("gunicorn ended (%s)", code), Output: s.tail.text(30)}
	if p := c.cmd.ProcessState; p != nil && (p.ExitCode() == 3 || p.ExitCode() == 4) {
		e.Kind, e.Message = FaultWorkerBoot, fmt.Sprintf("a worker could not start, and gunicorn gave up (%s)", code)
	}
	return e
}

// explain turns a worker's report of a failure into one message.
func (s *supervisor) explain(f *report) *StartError {
	e := &StartError{Kind: Fault(f.Phase), Output: clean(f.Traceback)}
	what := clean(f.Type + ": " + f.Message)
	module, name, _ := strings.Cut(s.app.Target, ":")
	switch {
	case f.Phase == string(FaultWorkerBoot):
		e.Message = fmt.Sprintf("a hook in gunicorn.conf.py failed: %s", what)
	case f.Phase == "config":
		e.Message = fmt.Sprintf("gunicorn's settings cannot be read: %s", what)
		e.Fix = "look at gunicorn.conf.py and GUNICORN_CMD_ARGS"
	case f.Self:
		e.Message = fmt.Sprintf("there is no module %s (from %s)", module, s.app.Source)
		e.Fix, e.Output = fixTarget, ""
	case f.Phase == "import" && f.Missing != "":
		e.Message = fmt.Sprintf("cannot import %s: the module %s is not installed in %s", module, clean(f.Missing), s.it.Prefix)
		e.Fix = "install the app's requirements there, or choose another environment: python under [app] in dewar.toml"
	case f.Phase == "import":
		e.Message = fmt.Sprintf("cannot import %s: %s", module, what)
	case f.Phase == "attribute":
		e.Message = fmt.Sprintf("module %s has no app called %s: %s", module, name, what)
		e.Fix = fixTarget
	default:
		e.Kind = FaultFactory
		e.Message = fmt.Sprintf("making the app with %s failed: %s", s.app.Target, what)
	}
	return e
}

// mends reports whether a fault is one of the app's code, settings or
// environment as they are on the disk: what a deployment that is under way, or
// the next one, makes good.
func (f Fault) mends() bool { return f != FaultExited && f != FaultCrashLoop }

// longestPause is the longest pause before an app that could not be loaded is
// tried again: the visitors wait for it.
const longestPause = 10 * time.Second

// recent are moments of the last while.
type recent []time.Time

func (r *recent) add(now time.Time, window time.Duration) int {
	*r = append(*r, now)
	for now.Sub((*r)[0]) > window {
		*r = (*r)[1:]
	}
	return len(*r)
}

// Run keeps gunicorn running after Start. It returns nil after Stop, and a
// [*StartError] when gunicorn keeps ending without a word: a server that
// crashes five times in a minute is not going to be well the sixth time, and a
// service manager shall know. An app that cannot be loaded any more is tried
// until it can: it has been loaded before, so that it is the files that
// changed, and ending would make a deployment that takes a minute an outage
// that lasts, since the guard does not start with a broken app.
func (s *supervisor) Run(ctx context.Context) error {
	defer s.cleanup()
	var failures, crashes recent
	for {
		s.mu.Lock()
		c := s.child
		s.mu.Unlock()
		select {
		case <-c.exited:
		case <-s.quit:
			return nil
		}
		s.up.Store(false)
		s.mu.Lock()
		stopping := s.stopping
		s.mu.Unlock()
		if stopping {
			return nil
		}
		last := s.diagnose(c)
		for {
			now := time.Now()
			wait := s.backoff(failures.add(now, s.window))
			if last.Kind.mends() {
				wait = min(wait, longestPause)
			} else if n := crashes.add(now, s.window); n >= s.maxFailures {
				return &StartError{Kind: FaultCrashLoop, Fix: last.Fix, Output: last.Output,
					Message: fmt.Sprintf("the app's server ended %d times within %s, giving up: %s", n, s.window, last.Message)}
			}
			s.retryAt.Store(now.Add(wait).UnixNano())
			s.progress(Step{Kind: StepWarning, Name: "workers", Text: fmt.Sprintf("%s; starting again in %s", last.Message, wait.Round(100*time.Millisecond))})
			select {
			case <-time.After(wait):
			case <-s.quit:
				return nil
			}
			s.restarts()
			err := s.launch(ctx)
			if err == nil {
				s.progress(Step{Kind: StepDone, Name: "workers", Text: "gunicorn serves again"})
				break
			}
			if !errors.As(err, &last) {
				if s.isStopping() || ctx.Err() != nil {
					return nil
				}
				last = &StartError{Kind: FaultExited, Message: err.Error()}
			}
		}
	}
}

func (s *supervisor) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// Stop ends gunicorn: TERM, which lets running requests finish, and after
// grace KILL for its whole process group. It returns when all have ended, and
// may be called before Run, instead of it, and more than once.
func (s *supervisor) Stop(grace time.Duration) {
	s.mu.Lock()
	first := !s.stopping
	s.stopping = true
	c := s.child
	s.mu.Unlock()
	if first {
		defer close(s.quit)
	}
	s.up.Store(false)
	if c != nil {
		s.end(c, grace)
	}
	s.cleanup()
}

func (s *supervisor) end(c *child, grace time.Duration) {
	if grace > 0 && c.alive() {
		// The master alone: it passes the signal on in order.
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-c.exited:
			return
		case <-time.After(grace):
		}
	}
	c.mu.Lock()
	if !c.ended {
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	}
	c.mu.Unlock()
	<-c.exited
}

// maxSocketPath is the room in sockaddr_un, with its NUL: 108 bytes on Linux,
// 104 on the BSDs.
const maxSocketPath = 103

// privateDir makes a folder that nobody else can enter, short enough for a
// unix socket's path.
func privateDir(env environment) (string, error) {
	var firstErr error
	for _, base := range []string{env["XDG_RUNTIME_DIR"], os.TempDir(), "/tmp"} {
		if base == "" || !filepath.IsAbs(base) {
			continue
		}
		dir, err := os.MkdirTemp(base, "dewar-") // 0700
		if err == nil && len(filepath.Join(dir, "app.sock")) > maxSocketPath {
			_ = os.Remove(dir)
			err = fmt.Errorf("%s is too long for a unix socket", dir)
		}
		if err == nil {
			return dir, nil
		}
		if firstErr == nil {
			firstErr = err
		}
	}
	return "", fmt.Errorf("no folder for the app's private socket: %w: set TMPDIR or XDG_RUNTIME_DIR to a short path you can write to", firstErr)
}
