package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// Upgrade starts the program of Options.Command and hands it the listening
// sockets. When it says that it serves, Upgrade returns its process id, and
// this guard must end: [Run] then lets every connection end with its next
// answer. When the new one fails, or does not serve within most, it is ended
// and nothing has changed: the sockets were never closed, so no connection
// was refused in either case.
func (g *Gateway) Upgrade(ctx context.Context, most time.Duration) (pid int, err error) {
	g.changing.Lock()
	defer g.changing.Unlock()
	if !g.open.Load() || g.stopping.Load() {
		return 0, ErrNotNow
	}
	if len(g.o.Command) == 0 {
		return 0, errors.New("this guard does not know how it was started")
	}
	files := []uintptr{0, 1, 2}
	var own []int // duplicates, ours to close
	defer func() {
		for _, fd := range own {
			syscall.Close(fd)
		}
	}()
	pass := func(c syscall.Conn) (int, error) {
		fd, err := duplicate(c)
		if err != nil {
			return 0, fmt.Errorf("cannot hand over a socket: %w", err)
		}
		own = append(own, fd)
		files = append(files, uintptr(fd))
		return len(files) - 1, nil
	}
	ready, tell, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer ready.Close()
	defer tell.Close()
	var h handover
	if h.Ready, err = pass(tell); err != nil {
		return 0, err
	}
	if h.Lock, err = pass(g.claim.lock); err != nil {
		return 0, err
	}
	g.o.Listeners.mu.Lock()
	opened := append([]openedListener(nil), g.o.Listeners.opened...)
	g.o.Listeners.mu.Unlock()
	for _, l := range opened {
		c, ok := l.Listener.(syscall.Conn)
		if !ok {
			return 0, fmt.Errorf("cannot hand over %s", l.Addr())
		}
		n, err := pass(c)
		if err != nil {
			return 0, err
		}
		h.Listeners = append(h.Listeners, handedListener{FD: n, Setting: l.setting, Spec: l.spec, Foreign: l.foreign})
	}
	text, err := json.Marshal(h)
	if err != nil {
		return 0, err
	}
	env := []string{handoverVariable + "=" + string(text)}
	for _, kv := range g.o.Environ {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case handoverVariable, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID":
		default:
			env = append(env, kv)
		}
	}
	pid, err = syscall.ForkExec(g.o.Command[0], g.o.Command, &syscall.ProcAttr{Env: env, Files: files})
	if err != nil {
		return 0, fmt.Errorf("cannot start %s: %w", g.o.Command[0], err)
	}
	tell.Close()
	syscall.Close(own[0]) // the pipe's writing end: the child's is the last one
	own = own[1:]
	p, err := os.FindProcess(pid)
	if err != nil {
		return 0, err
	}
	ended := make(chan *os.ProcessState, 1)
	go func() {
		st, _ := p.Wait()
		ended <- st
	}()
	said := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(ready, 64<<10))
		said <- strings.TrimSpace(string(b))
	}()
	timer := time.NewTimer(most)
	defer timer.Stop()
	fail := func(err error) (int, error) {
		_ = p.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = p.Kill()
			<-ended
		}
		return 0, err
	}
	select {
	case s := <-said:
		if s == handoverReady {
			g.handedOver.Store(true)
			for _, l := range opened {
				if u, ok := l.Listener.(*net.UnixListener); ok {
					u.SetUnlinkOnClose(false) // it is the other's now
				}
			}
			g.notify.send(fmt.Sprintf("MAINPID=%d", pid), "READY=1")
			if g.o.OnHandOver != nil {
				g.o.OnHandOver(pid)
			}
			return pid, nil
		}
		why := strings.TrimPrefix(s, "error: ")
		if why == "" {
			why = "it ended without a word"
		}
		return fail(fmt.Errorf("the new guard (process %d) does not serve: %s", pid, why))
	case <-timer.C:
		return fail(fmt.Errorf("the new guard (process %d) did not serve within %s", pid, most))
	case <-ctx.Done():
		return fail(ctx.Err())
	}
}

// handoverReady is what the new guard says when it serves.
const handoverReady = "ready"

// Tell says on the pipe of a hand-over, if there is one, that this guard
// serves, or why it does not.
func (l *Listeners) Tell(err error) {
	if l == nil {
		return
	}
	l.mu.Lock()
	f := l.ready
	l.ready = nil
	l.mu.Unlock()
	if f == nil {
		return
	}
	text := handoverReady
	if err != nil {
		text = "error: " + err.Error()
	}
	_, _ = f.WriteString(text + "\n")
	f.Close()
}
