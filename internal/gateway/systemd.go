package gateway

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// notifier speaks sd_notify(3): single datagrams of NAME=value lines. Without
// $NOTIFY_SOCKET it says nothing. A service manager that does not listen is
// no reason to stop serving, so errors are dropped.
type notifier struct {
	socket   string
	watchdog time.Duration // 0: not asked for
}

func newNotifier(env environment) notifier {
	n := notifier{socket: env["NOTIFY_SOCKET"]}
	if pid := env["WATCHDOG_PID"]; pid == "" || pid == strconv.Itoa(os.Getpid()) {
		if us, err := strconv.ParseInt(env["WATCHDOG_USEC"], 10, 64); err == nil && us > 0 {
			n.watchdog = time.Duration(us) * time.Microsecond
		}
	}
	return n
}

func (n notifier) send(lines ...string) {
	if n.socket == "" {
		return
	}
	name := n.socket
	if name[0] == '@' {
		name = "\x00" + name[1:] // an abstract socket
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.Write([]byte(strings.Join(lines, "\n")))
}

// Reloading tells the service manager that settings are read again; the
// returned function, that they have been.
func (g *Gateway) Reloading() (done func()) {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	g.notify.send("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", ts.Nano()/1000))
	return func() { g.notify.send("READY=1") }
}

// watchdog tells the service manager twice per period that the guard is alive,
// as long as it is: who waits for a lock for ever sends nothing, and is
// started again.
func (g *Gateway) watchdogActor() Actor {
	return Actor{Name: "watchdog", Run: func(ctx context.Context) error {
		t := time.NewTicker(g.notify.watchdog / 2)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-t.C:
			}
			g.mu.Lock()
			//lint:ignore SA2001 to have been in it is the answer
			g.mu.Unlock()
			if g.apps != nil {
				g.apps.mu.Lock()
				//lint:ignore SA2001 as above
				g.apps.mu.Unlock()
			}
			_ = g.Ready()
			g.notify.send("WATCHDOG=1")
		}
	}}
}
