// Package redistest runs real servers of Redis or Valkey for tests, on free
// ports of the loopback interface.
package redistest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/freeport"
)

// Programs are the servers to test with, as far as they are installed.
var Programs = []string{"redis-server", "valkey-server"}

// Installed returns those of [Programs] that there are. Without any it skips
// the test, or fails it when DEWAR_REQUIRE_REAL is 1.
func Installed(t testing.TB) []string {
	t.Helper()
	var out []string
	for _, name := range Programs {
		if _, err := exec.LookPath(name); err == nil {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		if os.Getenv("DEWAR_REQUIRE_REAL") == "1" {
			t.Fatal("no redis-server: install Debian's package redis-server")
		}
		t.Skip("SKIPPED: no redis-server here")
	}
	return out
}

// A Server is one running process.
type Server struct {
	Address string
	Port    int
	t       testing.TB
	program string
	dir     string
	args    []string
	cmd     *exec.Cmd
}

// Start starts the first of [Installed] with settings such as
// "maxmemory", "2mb".
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	return StartProgram(t, Installed(t)[0], settings...)
}

// StartProgram is Start with a chosen server.
func StartProgram(t testing.TB, program string, settings ...string) *Server {
	t.Helper()
	s := &Server{t: t, program: program, dir: t.TempDir(), Port: freeport.Take(t)}
	s.Address = fmt.Sprint("127.0.0.1:", s.Port)
	s.args = []string{"--port", fmt.Sprint(s.Port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", "no", "--loglevel", "notice", "--enable-debug-command", "local"}
	for i := 0; i+1 < len(settings); i += 2 {
		s.args = append(s.args, append([]string{"--" + settings[i]}, strings.Fields(settings[i+1])...)...)
	}
	s.Run()
	t.Cleanup(s.Kill)
	return s
}

// StartSentinel starts a Sentinel that watches the group name, whose master
// is the server given.
func StartSentinel(t testing.TB, name string, master *Server, quorum int) *Server {
	t.Helper()
	s := &Server{t: t, program: master.program, dir: t.TempDir(), Port: freeport.Take(t)}
	s.Address = fmt.Sprint("127.0.0.1:", s.Port)
	file := filepath.Join(s.dir, "sentinel.conf")
	conf := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor %s 127.0.0.1 %d %d\nsentinel down-after-milliseconds %s 500\nsentinel failover-timeout %s 3000\n", s.Port, s.dir, name, master.Port, quorum, name, name)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = []string{file, "--sentinel"}
	s.Run()
	t.Cleanup(s.Kill)
	return s
}

// Run starts the process (again) and waits until it answers.
func (s *Server) Run() {
	s.t.Helper()
	s.cmd = exec.Command(s.program, s.args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for range 2400 {
		if out, err := s.Do("PING"); err == nil && (strings.Contains(out, "PONG") || strings.Contains(out, "NOAUTH")) {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	b, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	s.t.Fatalf("%s does not come up:\n%s", s.program, b)
}

// Do sends one inline command and returns the first line of the answer.
func (s *Server) Do(command string) (string, error) {
	c, err := net.DialTimeout("tcp", s.Address, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

// MustDo is Do for a command that must work.
func (s *Server) MustDo(command string) string {
	s.t.Helper()
	out, err := s.Do(command)
	if err != nil || strings.HasPrefix(out, "-") {
		s.t.Fatalf("%s: %q %v", command, out, err)
	}
	return out
}

// Stall stops the process without ending it; Resume lets it go on.
func (s *Server) Stall() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume is the end of Stall.
func (s *Server) Resume() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }

// Kill ends the process at once.
func (s *Server) Kill() {
	if s.cmd != nil && s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// StartCluster starts a Cluster of three masters and returns them when all
// slots are served.
func StartCluster(t testing.TB) []*Server {
	t.Helper()
	var nodes []*Server
	for range 3 {
		nodes = append(nodes, Start(t, "cluster-enabled", "yes", "cluster-node-timeout", "2000", "cluster-require-full-coverage", "no"))
	}
	const slots = 16384
	for i, n := range nodes {
		n.MustDo(fmt.Sprint("CLUSTER ADDSLOTSRANGE ", i*slots/3, " ", (i+1)*slots/3-1))
		n.MustDo(fmt.Sprint("CLUSTER SET-CONFIG-EPOCH ", i+1))
	}
	for _, n := range nodes[1:] {
		n.MustDo(fmt.Sprint("CLUSTER MEET 127.0.0.1 ", nodes[0].Port))
	}
	for range 2400 {
		ready := 0
		for _, n := range nodes {
			if info := n.info("CLUSTER INFO"); strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_assigned:16384") && strings.Contains(info, "cluster_known_nodes:3") {
				ready++
			}
		}
		if ready == len(nodes) {
			return nodes
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the cluster does not come together")
	return nil
}

// Info returns what the server says of a section of INFO.
func (s *Server) Info(section string) string { return s.info("INFO " + section) }

// info returns the whole of an answer that is one text.
func (s *Server) info(command string) string {
	c, err := net.DialTimeout("tcp", s.Address, 10*time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(c, "%s\r\n", command)
	r := bufio.NewReader(c)
	var n int
	if _, err := fmt.Fscanf(r, "$%d\r\n", &n); err != nil {
		return ""
	}
	b := make([]byte, n)
	for got := 0; got < n; {
		m, err := r.Read(b[got:])
		if err != nil {
			return string(b[:got])
		}
		got += m
	}
	return string(b)
}
