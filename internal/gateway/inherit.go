package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dewar-security/dewar/internal/control/deployment"
)

// handoverVariable carries what a guard hands to the one that takes over from
// it: see [Gateway.Upgrade].
const handoverVariable = "DEWAR_HANDOVER"

// handover is what stands in it: numbers of file descriptors.
type handover struct {
	// Ready is the pipe on which the new guard says that it serves; Lock is
	// the state folder's.
	Ready     int              `json:"ready"`
	Lock      int              `json:"lock"`
	Listeners []handedListener `json:"listeners"`
}

type handedListener struct {
	FD      int    `json:"fd"`
	Setting string `json:"setting"` // listen, listen-http, console
	Spec    string `json:"spec"`    // the address as the setting spells it
	// Foreign sockets were opened by systemd: their files are not ours.
	Foreign bool `json:"foreign,omitempty"`
}

// Listeners opens every address of the guard. It prefers sockets that are
// open already: those of the guard that hands over to this one, and those
// that systemd passes (sd_listen_fds(3)). It remembers what it opened, for
// the guard that will take over one day. The zero value inherits nothing.
type Listeners struct {
	mu        sync.Mutex
	inherited []inherited
	opened    []openedListener
	ready     *os.File
	lock      *os.File
}

type inherited struct {
	net.Listener
	setting string // "" when any setting may have it
	spec    string // "" when the address decides
	name    string // what systemd calls it
	foreign bool   // systemd's
}

type openedListener struct {
	net.Listener
	setting, spec string
	foreign       bool
}

// socketNames are the names that FileDescriptorName= of a systemd socket may
// have, and the settings they stand for.
var socketNames = map[string]string{"https": "listen", "http": "listen-http", "console": "console"}

// Inherit takes over the sockets that this process was started with, as far
// as its environment names them.
func Inherit(environ []string) (*Listeners, error) {
	env := environmentOf(environ)
	l := &Listeners{}
	if v := env[handoverVariable]; v != "" {
		var h handover
		if err := json.Unmarshal([]byte(v), &h); err != nil {
			return nil, fmt.Errorf("$%s is not what a guard hands over: %w", handoverVariable, err)
		}
		for _, f := range h.Listeners {
			if err := l.take(f.FD, inherited{setting: f.Setting, spec: f.Spec, foreign: f.Foreign}); err != nil {
				return nil, err
			}
		}
		for _, p := range []struct {
			fd  int
			to  **os.File
			who string
		}{{h.Ready, &l.ready, "ready"}, {h.Lock, &l.lock, "lock"}} {
			if p.fd > 2 {
				syscall.CloseOnExec(p.fd)
				*p.to = os.NewFile(uintptr(p.fd), p.who)
			}
		}
		return l, nil
	}
	if pid, err := strconv.Atoi(env["LISTEN_PID"]); err != nil || pid != os.Getpid() {
		return l, nil // for somebody else, as the protocol says
	}
	n, err := strconv.Atoi(env["LISTEN_FDS"])
	if err != nil || n < 0 || n > 64 {
		return nil, fmt.Errorf("$LISTEN_FDS: %q is no number of sockets", env["LISTEN_FDS"])
	}
	names := strings.Split(env["LISTEN_FDNAMES"], ":")
	for i := range n {
		in := inherited{foreign: true}
		if i < len(names) {
			in.name = names[i]
			in.setting = socketNames[in.name]
		}
		if err := l.take(3+i, in); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// TakingOver reports whether another guard runs and hands over to this one.
func (l *Listeners) TakingOver() bool { return l != nil && l.lock != nil }

func (l *Listeners) take(fd int, in inherited) error {
	f := os.NewFile(uintptr(fd), in.name)
	if f == nil {
		return fmt.Errorf("no file descriptor %d was passed", fd)
	}
	defer f.Close()
	syscall.CloseOnExec(fd)
	ln, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("file descriptor %d (%s) is no listening socket: %w", fd, in.name, err)
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(!in.foreign)
	}
	in.Listener = ln
	l.inherited = append(l.inherited, in)
	return nil
}

// find returns the inherited socket for an address, and takes it out.
func (l *Listeners) find(setting, spec string) (net.Listener, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.inherited, func(in inherited) bool {
		switch {
		case in.setting != "" && in.setting != setting:
			return false
		case in.spec != "":
			return in.spec == spec
		}
		return sameAddress(spec, in.Addr())
	})
	if i >= 0 {
		ln, foreign := l.inherited[i].Listener, l.inherited[i].foreign
		l.inherited = slices.Delete(l.inherited, i, i+1)
		l.opened = append(l.opened, openedListener{ln, setting, spec, foreign})
		return ln, nil
	}
	for _, in := range l.inherited {
		if in.setting == setting && in.spec == "" {
			return nil, fmt.Errorf("deployment.%s: systemd passed the socket %q for it, which is %s: let ListenStream= and the setting name the same address", setting, in.name, in.Addr())
		}
	}
	return nil, nil
}

// has reports whether an address is open already.
func (l *Listeners) has(setting, spec string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.inherited, func(in inherited) bool {
		return (in.setting == "" || in.setting == setting) && (in.spec == spec || in.spec == "")
	})
}

// Listen returns the listener for one address of a setting of the
// [deployment] section: an inherited one, or a new one by [Listen].
func (l *Listeners) Listen(ctx context.Context, setting, spec string) (net.Listener, error) {
	ln, err := l.find(setting, spec)
	if ln != nil || err != nil {
		return ln, err
	}
	if ln, err = Listen(ctx, setting, spec); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened = append(l.opened, openedListener{ln, setting, spec, false})
	return ln, nil
}

// handedOver reports whether this guard takes over from another.
func (l *Listeners) handedOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lock != nil
}

// rest closes the inherited sockets that no setting asked for, and names them.
func (l *Listeners) rest() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, in := range l.inherited {
		name := in.Addr().Network() + " " + in.Addr().String()
		if in.name != "" {
			name += " (" + in.name + ")"
		}
		out = append(out, name)
		in.Close()
	}
	l.inherited = nil
	return out
}

// sameAddress reports whether a socket's address is what a setting says.
func sameAddress(spec string, a net.Addr) bool {
	network, address, err := deployment.ParseListen(spec)
	if err != nil || network != a.Network() {
		return false
	}
	if network == "unix" {
		return address == a.String()
	}
	want, err := net.ResolveTCPAddr("tcp", address)
	got, ok := a.(*net.TCPAddr)
	if err != nil || !ok || want.Port != got.Port {
		return false
	}
	if want.IP == nil || want.IP.IsUnspecified() {
		return got.IP.IsUnspecified()
	}
	return want.IP.Equal(got.IP)
}

// duplicate returns a second descriptor of what c stands for, closed on exec,
// without touching its mode as os.File.Fd would.
func duplicate(c syscall.Conn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd = -1
	cerr := raw.Control(func(u uintptr) { fd, err = unix.FcntlInt(u, unix.F_DUPFD_CLOEXEC, 10) })
	return fd, errors.Join(err, cerr)
}
