package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestState(t *testing.T) {
	dir := stateDir(t)
	if _, err := ReadState(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("%v", err)
	}
	c, err := claimState(dir, "/p", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadState(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("claimed only: %v", err)
	}
	if err := c.write(State{Console: "http://127.0.0.1:9", URLs: []string{"https://x"}}); err != nil {
		t.Fatal(err)
	}
	s, err := ReadState(dir)
	if err != nil || s.PID != os.Getpid() || s.Console != "http://127.0.0.1:9" {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := claimState(dir, "/p", nil); err == nil || !strings.Contains(err.Error(), "https://x") {
		t.Errorf("%v", err)
	}
	c.remove()
	c.release()
	if _, err := ReadState(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("released: %v", err)
	}
	name := filepath.Join(dir, stateFile)
	// A guard that was killed leaves its file; its number may be taken again.
	for _, stale := range []string{`{"pid":1,"process":"other-boot/1"}`, `{"pid":4194999,"process":"x"}`, `{"pid":4194999,"process":""}`} {
		os.WriteFile(name, []byte(stale), 0o600)
		if _, err := ReadState(dir); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v", stale, err)
		}
	}
	os.WriteFile(name, []byte("{"), 0o600)
	if _, err := ReadState(dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("%v", err)
	}
	// Somebody else was there first (CWE-379).
	os.Chmod(dir, 0o777)
	if _, err := claimState(dir, "/p", nil); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("%v", err)
	}
	if _, err := ReadState(dir); err == nil || errors.Is(err, ErrNotRunning) {
		t.Errorf("%v", err)
	}
	link := filepath.Join(filepath.Dir(dir), "link")
	os.Chmod(dir, 0o700)
	os.Symlink(dir, link)
	if _, err := claimState(link, "/p", nil); err == nil || !strings.Contains(err.Error(), "link") {
		t.Errorf("%v", err)
	}
	open := filepath.Join(t.TempDir(), "open")
	os.Mkdir(open, 0o700)
	os.Chmod(open, 0o777)
	if _, err := claimState(filepath.Join(open, "state"), "/p", nil); err == nil || !strings.Contains(err.Error(), "written by other users") {
		t.Errorf("%v", err)
	}
	if os.Getuid() == 0 {
		theirs := filepath.Join(t.TempDir(), "theirs")
		os.Mkdir(theirs, 0o700)
		os.Chown(theirs, 12345, -1)
		if _, err := claimState(theirs, "/p", nil); err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
			t.Errorf("%v", err)
		}
	}
}

func TestStateDir(t *testing.T) {
	run := t.TempDir()
	a, err := StateDir("/p/a", []string{"XDG_RUNTIME_DIR=" + run})
	if err != nil || !strings.HasPrefix(a, filepath.Join(run, "dewar")+"/") {
		t.Errorf("%q %v", a, err)
	}
	b, _ := StateDir("/p/b", []string{"XDG_RUNTIME_DIR=" + run})
	c, _ := StateDir("/p/../p/a", []string{"XDG_RUNTIME_DIR=" + run})
	if a == b || a != c {
		t.Errorf("%q %q %q", a, b, c)
	}
	d, _ := StateDir("/p/a", nil)
	if !strings.HasPrefix(d, os.TempDir()) {
		t.Errorf("%q", d)
	}
}

func TestRunActors(t *testing.T) {
	var order []string
	actor := func(name string, stop bool) Actor {
		a := Actor{Name: name, Run: func(ctx context.Context) error { <-ctx.Done(); order = append(order, name+" ended"); return nil }}
		if stop {
			a.Stop = func() { order = append(order, name+" asked") }
		}
		return a
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := runActors(ctx, []Actor{actor("a", true), actor("b", false), actor("c", true)}); err != nil {
		t.Error(err)
	}
	if want := []string{"c asked", "c ended", "b ended", "a asked", "a ended"}; !slices.Equal(order, want) {
		t.Errorf("%v, want %v", order, want)
	}
	err := runActors(context.Background(), []Actor{actor("a", true), {Name: "bad", Run: func(context.Context) error { return io.ErrUnexpectedEOF }}})
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(err.Error(), "bad: ") {
		t.Errorf("%v", err)
	}
}

func TestListen(t *testing.T) {
	ctx := context.Background()
	sock := filepath.Join(t.TempDir(), "s")
	ln, err := Listen(ctx, "listen", "unix:"+sock)
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := os.Stat(sock); st.Mode().Perm() != 0o660 {
		t.Errorf("mode %v", st.Mode())
	}
	if _, err := Listen(ctx, "listen", "unix:"+sock); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("%v", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close() // a socket that a killed process left
	if ln, err = Listen(ctx, "listen", "unix:"+sock); err != nil {
		t.Fatal(err)
	}
	ln.Close()
	os.WriteFile(sock, []byte("x"), 0o600)
	if _, err := Listen(ctx, "listen", "unix:"+sock); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"443", "x", "unix:rel", "127.0.0.1:99999", "203.0.113.9:0"} {
		if _, err := Listen(ctx, "listen", bad); err == nil || !strings.Contains(err.Error(), "deployment.listen") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestSlowReader: a client that takes nothing loses its connection.
func TestSlowReader(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := boundedListener{ln, 500 * time.Millisecond}
	defer b.Close()
	done := make(chan error, 1)
	go func() {
		c, err := b.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		for err == nil {
			_, err = c.Write(make([]byte, 1<<20))
		}
		done <- err
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	select {
	case err := <-done:
		if !os.IsTimeout(err) {
			t.Errorf("%v", err)
		}
	case <-time.After(time.Minute):
		t.Error("still writing")
	}
}
