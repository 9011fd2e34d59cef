package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/dewar-security/dewar/internal/gateway"
)

var buildOnce struct {
	sync.Once
	data []byte
	err  error
}

// program builds the dewar command and returns a fresh copy of it.
func program(t *testing.T) string {
	t.Helper()
	real(t)
	buildOnce.Do(func() {
		dir, err := os.MkdirTemp("", "dewar-build-")
		if err != nil {
			buildOnce.err = err
			return
		}
		defer os.RemoveAll(dir)
		out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "dewar"), "github.com/dewar-security/dewar/cmd/dewar").CombinedOutput()
		if err != nil {
			buildOnce.err = fmt.Errorf("go build: %w\n%s", err, out)
			return
		}
		buildOnce.data, buildOnce.err = os.ReadFile(filepath.Join(dir, "dewar"))
	})
	if buildOnce.err != nil {
		t.Fatal(buildOnce.err)
	}
	name := filepath.Join(t.TempDir(), "dewar")
	if err := os.WriteFile(name, buildOnce.data, 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// process runs "dewar run" as a process of its own, so that it can be
// replaced by another. wrap is put before the command.
func process(t *testing.T, dir string, environ []string, wrap ...string) (s *site, name string) {
	t.Helper()
	root := real(t)
	name = program(t)
	work := t.TempDir()
	run := filepath.Join(work, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 3)
	s = &site{t: t, dir: dir, out: &buffer{}, https: "https://localhost:" + ports[0], http: "http://localhost:" + ports[1], consoleURL: "http://127.0.0.1:" + ports[2]}
	s.environ = append([]string{
		"PATH=" + filepath.Join(root, ".venv", "bin") + ":" + os.Getenv("PATH"), "VIRTUAL_ENV=" + filepath.Join(root, ".venv"),
		"HOME=" + work, "XDG_RUNTIME_DIR=" + run, "TMPDIR=" + os.TempDir(),
	}, environ...)
	cert, key := selfSigned(t)
	pem, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	s.ca = x509.NewCertPool()
	s.ca.AppendCertsFromPEM(pem)
	args := append(wrap, name, "run", dir, "--log", filepath.Join(work, "events.jsonl"), "--set", "deployment.certificate="+cert, "--set", "deployment.key="+key,
		"--set", "deployment.listen=127.0.0.1:"+ports[0], "--set", "deployment.listen-http=127.0.0.1:"+ports[1],
		"--set", "deployment.console=127.0.0.1:"+ports[2], "--set", "deployment.workers=2", "--set", "deployment.grace=5s", "--set", "deployment.http3=true")
	cmd := exec.Command(args[0], args[1:]...)
	// A pipe of our own: those of exec.Cmd end with the first process.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer r.Close()
		_, _ = io.Copy(s.out, r)
	}()
	cmd.Env, cmd.Stdout, cmd.Stderr = s.environ, w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		for deadline := time.Now().Add(time.Minute); syscall.Kill(-cmd.Process.Pid, 0) == nil && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		if t.Failed() {
			t.Logf("dewar run said:\n%s", s.out)
		}
	})
	eventually(t, "readiness", func() bool {
		res, err := http.Get(s.consoleURL + "/readyz")
		if err != nil {
			select {
			case <-ended:
				t.Fatalf("it ended:\n%s", s.out)
			default:
			}
			return false
		}
		res.Body.Close()
		return res.StatusCode == 200
	})
	return s, name
}

func (s *site) pid() int {
	s.t.Helper()
	state, err := (&app{environ: s.environ}).running(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	return state.PID
}

// command runs another dewar command against the site and returns its output.
func (s *site) command(code int, args ...string) string {
	s.t.Helper()
	var out buffer
	if got := execute(s.t.Context(), args, s.environ, strings.NewReader(""), &out, &out); got != code {
		s.t.Fatalf("dewar %s: exit %d, want %d\n%s", strings.Join(args, " "), got, code, out.String())
	}
	return out.String()
}

func plainProject(t *testing.T) (dir string) {
	dir = t.TempDir()
	writeFile(t, filepath.Join(dir, "app.py"), strings.Replace(reloadApp, "VERSION", "one", 1))
	writeFile(t, filepath.Join(dir, "dewar.toml"), "[abuse]\nrate-limit = \"off\"\n[injection]\nmode = \"off\"\n")
	return dir
}

// TestUpgrade: one process takes over from another under load, and nothing is
// dropped; one that does not come up changes nothing.
func TestUpgrade(t *testing.T) {
	dir := plainProject(t)
	s, name := process(t, dir, nil)
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(name+".new", data, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
	gone := func(pid int) {
		t.Helper()
		eventually(t, fmt.Sprintf("the end of process %d", pid), func() bool { return syscall.Kill(pid, 0) != nil || zombie(pid) })
	}
	first := s.pid()
	l := load(s, 1)
	idle, err := net.Dial("tcp", strings.TrimPrefix(s.http, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()

	// Programs that do not come up.
	for _, bad := range []struct{ script, want string }{
		{"#!/bin/sh\nexit 3\n", "it ended without a word"},
		{"not a program at all", "exec format error"},
	} {
		replace([]byte(bad.script))
		if out := s.command(1, "upgrade", dir); !strings.Contains(out, bad.want) || s.pid() != first {
			t.Errorf("%q: dewar upgrade said %s", bad.script, out)
		}
	}
	replace(good)
	writeFile(t, filepath.Join(dir, "dewar.toml"), "[abuse]\nrate-limt = \"off\"\n")
	if out := s.command(1, "upgrade", dir); !strings.Contains(out, `did you mean "abuse.rate-limit"?`) {
		t.Errorf("broken settings: dewar upgrade said %s", out)
	}
	writeFile(t, filepath.Join(dir, "dewar.toml"), "[abuse]\nrate-limit = \"off\"\n[injection]\nmode = \"off\"\n")

	// Two upgrades, the second by signal.
	if out := s.command(0, "upgrade", dir); !strings.Contains(out, fmt.Sprintf("took over from %d", first)) {
		t.Errorf("dewar upgrade said %s", out)
	}
	second := s.pid()
	if second == first {
		t.Fatal("nothing took over")
	}
	gone(first)
	if err := syscall.Kill(second, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the third process", func() bool { return s.pid() != second })
	gone(second)
	l.end(t)
	if res, err := http.Get(s.consoleURL + "/readyz"); err != nil || res.StatusCode != 200 {
		t.Errorf("the console after two upgrades: %v %v", res, err)
	} else {
		res.Body.Close()
	}
	// The UDP port follows, when the process that had it has let go.
	quic := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: s.ca}}
	defer quic.Close()
	eventually(t, "HTTP/3 of the third process", func() bool {
		res, err := (&http.Client{Transport: quic, Timeout: 10 * time.Second}).Get(s.https + "/")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == 200 && res.ProtoMajor == 3
	})
	if h := s.ask(s.client(), "GET", "/", "").Header.Get("Alt-Svc"); !strings.HasPrefix(h, "h3=") {
		t.Errorf("HTTP/3 is served and not announced: Alt-Svc %q", h)
	}
	// The last one ends as the first would have.
	last := s.pid()
	if err := syscall.Kill(last, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	gone(last)
	if _, err := (&app{environ: s.environ}).running(dir); !errors.Is(err, gateway.ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
	if left := processesOf(t, dir); len(left) > 0 {
		t.Errorf("left running: %v", left)
	}
}

func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b[strings.LastIndexByte(string(b), ')'):]), ") Z")
}

// TestSystemd: sockets that were opened by somebody else are served, and the
// service manager hears when the site is ready, reads settings again, is alive
// and stops.
func TestSystemd(t *testing.T) {
	dir := plainProject(t)
	sock := filepath.Join(t.TempDir(), "notify")
	heard, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: sock, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	messages := make(chan string, 1000)
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := heard.Read(b)
			if err != nil {
				close(messages)
				return
			}
			messages <- string(b[:n])
		}
	}()
	until := func(want string) {
		t.Helper()
		timeout := time.After(2 * time.Minute)
		var all []string
		for {
			select {
			case m := <-messages:
				if all = append(all, m); strings.Contains(m, want) {
					return
				}
			case <-timeout:
				t.Fatalf("no %q from the guard, but %q", want, all)
			}
		}
	}
	s, _ := process(t, dir, []string{"NOTIFY_SOCKET=" + sock, "WATCHDOG_USEC=400000"})
	until("READY=1")
	until("WATCHDOG=1")
	s.command(0, "reload", dir)
	until("RELOADING=1\nMONOTONIC_USEC=")
	until("READY=1")
	s.command(0, "upgrade", dir)
	until(fmt.Sprintf("MAINPID=%d", s.pid()))
	until("WATCHDOG=1")
	if err := syscall.Kill(s.pid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until("STOPPING=1")
}

// TestSocketActivation: the guard serves on sockets that were open before it.
func TestSocketActivation(t *testing.T) {
	root, dir, name := real(t), plainProject(t), program(t)
	cert, key := selfSigned(t)
	var files []*os.File
	var addrs []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		addrs, files = append(addrs, l.Addr().String()), append(files, f)
		l.Close() // the descriptor that is passed keeps it open
	}
	work := t.TempDir()
	run := func(names string, out io.Writer) *exec.Cmd {
		// $$ of the shell is the process that it becomes.
		cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh", name, "run", dir, "--set", "deployment.certificate="+cert, "--set", "deployment.key="+key,
			"--set", "deployment.listen="+addrs[0], "--set", "deployment.listen-http="+addrs[1], "--set", "deployment.console=", "--set", "deployment.workers=1", "--log", filepath.Join(work, "log"))
		cmd.Env = []string{"PATH=" + filepath.Join(root, ".venv", "bin") + ":" + os.Getenv("PATH"), "VIRTUAL_ENV=" + filepath.Join(root, ".venv"), "HOME=" + work, "LISTEN_FDS=3", "LISTEN_FDNAMES=" + names}
		cmd.ExtraFiles = files
		cmd.Stdout, cmd.Stderr = out, out
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	var wrong buffer
	cmd := run("http:https:x", &wrong) // the names say the opposite of the addresses
	if err := cmd.Wait(); err == nil || !strings.Contains(wrong.String(), "let ListenStream= and the setting name the same address") {
		t.Errorf("%v\n%s", err, wrong.String())
	}
	var out buffer
	cmd = run("https:dewar.socket:other", &out)
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	// Connections that came before the guard did are answered, too: the
	// socket was open.
	c := &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, _ := http.NewRequest("GET", "http://"+addrs[1]+"/", nil)
	req.Host = "localhost"
	res, err := c.Do(req)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	res.Body.Close()
	if res.StatusCode != 308 {
		t.Errorf("%s\n%s", res.Status, out.String())
	}
	eventually(t, "the note about the third socket", func() bool {
		return strings.Contains(out.String(), "a socket was passed that no setting asks for") && strings.Contains(out.String(), addrs[2])
	})
}

// TestUpgradeUnixSockets: sockets with a name are handed over, keep it, and
// lose it with the last process.
func TestUpgradeUnixSockets(t *testing.T) {
	dir, work := plainProject(t), t.TempDir()
	site, console := filepath.Join(work, "site"), filepath.Join(work, "console")
	f, err := os.OpenFile(filepath.Join(dir, "dewar.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, "[deployment]\ntls = \"off\"\nlisten-http = [\"unix:%s\"]\nconsole = \"unix:%s\"\nworkers = 1\ngrace = \"2s\"\n", site, console)
	f.Close()
	root, name := real(t), program(t)
	run := filepath.Join(work, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &unixSite{t: t, socket: site}
	environ := []string{"PATH=" + filepath.Join(root, ".venv", "bin") + ":" + os.Getenv("PATH"), "VIRTUAL_ENV=" + filepath.Join(root, ".venv"), "HOME=" + work, "XDG_RUNTIME_DIR=" + run}
	out, err := os.Create(filepath.Join(work, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(name, "run", dir, "--profile", "development")
	cmd.Env, cmd.Stdout, cmd.Stderr = environ, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go cmd.Wait()
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	eventually(t, "the first answer", func() bool { return s.get() == 200 })
	old := cmd.Process.Pid
	var said buffer
	if code := execute(t.Context(), []string{"upgrade", dir}, environ, strings.NewReader(""), &said, &said); code != 0 {
		t.Fatalf("exit %d: %s", code, said.String())
	}
	eventually(t, "the end of the first process", func() bool {
		if got := s.get(); got != 200 {
			t.Fatalf("in between: %d", got)
		}
		return syscall.Kill(old, 0) != nil || zombie(old)
	})
	state, err := (&app{environ: environ}).running(dir)
	if err != nil || state.PID == old {
		t.Fatalf("%+v %v", state, err)
	}
	if err := syscall.Kill(state.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the sockets' end", func() bool {
		_, err1 := os.Stat(site)
		_, err2 := os.Stat(console)
		return errors.Is(err1, os.ErrNotExist) && errors.Is(err2, os.ErrNotExist)
	})
}

// unixSite is a site behind a unix socket.
type unixSite struct {
	t      *testing.T
	socket string
}

func (s *unixSite) get() int {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.socket)
	}}
	res, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Get("http://localhost/")
	if err != nil {
		return 0
	}
	res.Body.Close()
	return res.StatusCode
}
