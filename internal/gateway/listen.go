package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/wire"
)

// Listen opens one address of a setting of the [deployment] section. What cannot be opened is one message
// that names the setting, and who has the port if that can be seen.
func Listen(ctx context.Context, setting, spec string) (net.Listener, error) {
	network, address, err := deployment.ParseListen(spec)
	if err != nil {
		return nil, fmt.Errorf("deployment.%s: %w", setting, err)
	}
	if network == "unix" {
		if err := removeStaleSocket(address); err != nil {
			return nil, fmt.Errorf("deployment.%s: %w", setting, err)
		}
	}
	ln, err := new(net.ListenConfig).Listen(ctx, network, address)
	if err == nil {
		if network == "unix" {
			// The folder decides who may connect; the socket never is for all.
			err = os.Chmod(address, 0o660)
		}
		if err == nil {
			return ln, nil
		}
		ln.Close()
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		who := portOwner(address)
		if who == "" {
			who = "another process"
		}
		return nil, fmt.Errorf("deployment.%s: %s is in use by %s: stop it, or choose another address", setting, spec, who)
	case errors.Is(err, syscall.EACCES) && network == "tcp":
		return nil, fmt.Errorf("deployment.%s: this user may not listen on %s: choose a port from 1024 up, or allow low ports (setcap cap_net_bind_service=+ep on the dewar binary, or AmbientCapabilities=CAP_NET_BIND_SERVICE in its systemd unit)", setting, spec)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("deployment.%s: no interface of this machine has the address of %s", setting, spec)
	}
	return nil, fmt.Errorf("deployment.%s: cannot listen on %s: %w", setting, spec, err)
}

// tryListen reports whether an address could be opened, before time is spent
// on loading the app.
func tryListen(ctx context.Context, setting, spec string) error {
	if network, address, err := deployment.ParseListen(spec); err == nil {
		if network == "unix" {
			return nil // opening would take the place of whoever serves now
		}
		if _, port, _ := net.SplitHostPort(address); port == "0" {
			return nil
		}
	}
	ln, err := Listen(ctx, setting, spec)
	if err != nil {
		return err
	}
	return ln.Close()
}

// removeStaleSocket removes a socket that nobody listens on any more.
func removeStaleSocket(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is no socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("unix:%s is in use by another process: stop it, or choose another path", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// portOwner says who listens on a TCP port, as far as /proc tells this user.
func portOwner(address string) string {
	_, port, err := net.SplitHostPort(address)
	n, err2 := strconv.Atoi(port)
	if err != nil || err2 != nil {
		return ""
	}
	inodes := map[string]bool{}
	suffix := fmt.Sprintf(":%04X", n)
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		sc := bufio.NewScanner(f)
		for sc.Scan() {
			col := strings.Fields(sc.Text())
			const listening = "0A"
			if len(col) > 9 && strings.HasSuffix(col[1], suffix) && col[3] == listening {
				inodes["socket:["+col[9]+"]"] = true
			}
		}
		f.Close()
	}
	if len(inodes) == 0 {
		return ""
	}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		fds, err := os.ReadDir(p + "/fd")
		if err != nil {
			continue // another user's
		}
		for _, fd := range fds {
			if l, err := os.Readlink(p + "/fd/" + fd.Name()); err == nil && inodes[l] {
				comm, _ := os.ReadFile(p + "/comm")
				return fmt.Sprintf("%s (process %s)", clean(strings.TrimSpace(string(comm))), filepath.Base(p))
			}
		}
	}
	return ""
}

func peerAddr(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// throttle lets one entry of each kind pass in a second and counts the rest: a
// flood of connections must not become a flood of the log.
type throttle struct {
	mu   sync.Mutex
	kind map[string]*throttled
}

type throttled struct {
	last time.Time
	more int
}

// tell reports whether to write an entry, and how many were not written.
func (t *throttle) tell(kind string, now time.Time) (more int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kind == nil {
		t.kind = map[string]*throttled{}
	}
	k := t.kind[kind]
	if k == nil {
		k = &throttled{}
		t.kind[kind] = k
	}
	if now.Sub(k.last) < time.Second {
		k.more++
		return 0, false
	}
	more, k.more, k.last = k.more, 0, now
	return more, true
}

// boundedListener bounds how long a client may refuse to take what is written to it: a reader that never reads would hold
// a worker's thread (CWE-400, "slow read").
type boundedListener struct {
	net.Listener
	stall time.Duration
}

// strict returns the listener whose connections net/http gets: bounded, out of
// TLS, and read strictly before net/http reads them.
func (g *Gateway) strict(ln net.Listener, secure bool) net.Listener {
	c := g.config()
	o := wire.Options{
		Limits: func() wire.Limits {
			c := g.config()
			return wire.Limits{Head: int(c.MaxHeader), HeadTime: time.Duration(c.HeaderTimeout)}
		},
		Connections: min(c.MaxConns, maxOpen()),
		PerClient:   c.MaxPerClient,
		Exempt: func(a netip.Addr) bool {
			return a.IsLoopback() || deployment.Trusts(g.config().TrustedProxy, a)
		},
		Report: func(a net.Addr, err error) {
			if g.o.OnConnectionError != nil {
				g.o.OnConnectionError(clean(err.Error()))
			}
			var f *wire.Fault
			if g.o.OnConnectionRefused == nil || !errors.As(err, &f) {
				return
			}
			if n, ok := g.refusals.tell(f.Reason, g.o.Now()); ok {
				detail := f.Detail
				if n > 0 {
					detail += fmt.Sprintf(" (and %d more connections since the last entry)", n)
				}
				g.o.OnConnectionRefused(peerAddr(a), f.Reason, detail)
			}
		},
	}
	if secure {
		o.TLS = g.tlsConfig()
	}
	ln = boundedListener{ln, time.Duration(c.BodyTimeout)}
	ln = newProxyListener(ln,
		func(a netip.Addr) bool { return deployment.Trusts(g.config().ProxyProtocol, a) },
		func() time.Duration { return time.Duration(g.config().HeaderTimeout) },
		func(err error) { o.Report(nil, err) })
	return wire.NewListener(ln, o)
}

// maxOpen is how many client connections the limit on open files allows: each
// may need one more to the app.
func maxOpen() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil || uint64(r.Cur) > 1<<21 {
		return 1 << 20
	}
	return max(int(r.Cur)/2-64, 16)
}

func (l boundedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4})
	}
	return &boundedConn{Conn: c, stall: l.stall}, nil
}

type boundedConn struct {
	net.Conn
	stall time.Duration
}

// CloseWrite tells the client that nothing more will come, and still reads:
// closing on unread bytes would throw away the answer on its way.
func (c *boundedConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Write gives the client a fixed time for each write (at most 32 KiB, a TLS
// record has 16): that is a minimum rate, not a limit on the whole answer.
func (c *boundedConn) Write(b []byte) (n int, err error) {
	const chunk = 32 << 10
	for {
		part := b[n:min(n+chunk, len(b))]
		if err := c.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(part)
		n += m
		if err != nil || n == len(b) {
			return n, err
		}
	}
}

// minimumRate is what a request's body must come at once its time is up.
const minimumRate = 4 << 10 // bytes per second

// timeBodies gives the client a limited time for the body: timeout, and one
// second more for every minimumRate bytes that arrived. The deadline is taken
// away with the last byte, because net/http ends a running request whose
// connection meets one.
func timeBodies(next http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		b := &timedBody{ReadCloser: r.Body, rc: http.NewResponseController(w), start: time.Now(), timeout: timeout}
		b.extend()
		r.Body = b
		next.ServeHTTP(w, r)
	})
}

type timedBody struct {
	io.ReadCloser
	rc      *http.ResponseController
	start   time.Time
	timeout time.Duration

	mu   sync.Mutex
	n    int64
	next int64 // extend again from here
	done bool
}

func (b *timedBody) extend() {
	b.next = b.n + 16<<10
	_ = b.rc.SetReadDeadline(b.start.Add(b.timeout + time.Duration(b.n)*time.Second/minimumRate))
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n += int64(n)
	switch {
	case b.done:
	case err != nil:
		b.done = true
		if err == io.EOF {
			_ = b.rc.SetReadDeadline(time.Time{})
		}
	case b.n >= b.next:
		b.extend()
	}
	return n, err
}
