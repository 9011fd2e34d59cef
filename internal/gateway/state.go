package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// State is what a running guard leaves for the other commands of the same
// user, in run.json: where its console listens, and the keys to it. The file
// is readable by this user only, and gone when the guard is.
type State struct {
	PID int `json:"pid"`
	// Process tells the process from a later one of the same number: the
	// boot's id and the ticks since boot at which it started.
	Process string `json:"process"`
	// Console is the private listener's URL, or unix:/path; ConsoleToken is
	// the bearer token for what only this user may read there.
	Console      string `json:"console,omitempty"`
	ConsoleToken string `json:"console_token,omitempty"`
	// URLs are the public addresses.
	URLs []string `json:"urls"`
	// Redirects are the addresses that answer in clear text with a redirect
	// to one of URLs.
	Redirects []string `json:"redirects,omitempty"`
	// ProbeKey signs what dewar probe sends, so that the guard can say
	// "this came through me".
	ProbeKey string    `json:"probe_key,omitempty"`
	Project  string    `json:"project"`
	Started  time.Time `json:"started"`
}

// ErrNotRunning says that no guard runs for the project.
var ErrNotRunning = errors.New("no guard is running for this project")

const stateFile = "run.json"

// StateDir returns the folder for the runtime state of the project in dir:
// below $XDG_RUNTIME_DIR, else below the temporary folder. It makes nothing.
func StateDir(dir string, environ []string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	sum := sha256.Sum256([]byte(abs))
	id := hex.EncodeToString(sum[:8])
	if run := environmentOf(environ)["XDG_RUNTIME_DIR"]; filepath.IsAbs(run) && exists(run) {
		return filepath.Join(run, "dewar", id), nil
	}
	return filepath.Join(os.TempDir(), "dewar-"+strconv.Itoa(os.Getuid()), id), nil
}

// DataDir makes and returns the folder for what the guard of the project in dir
// keeps over restarts: below $STATE_DIRECTORY, which systemd sets, else below
// $XDG_DATA_HOME/dewar, by default ~/.local/share/dewar. It has mode 0700; the
// error says why there is none.
func DataDir(dir string, environ []string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	sum := sha256.Sum256([]byte(abs))
	env := environmentOf(environ)
	var base string
	switch {
	case env["STATE_DIRECTORY"] != "":
		base, _, _ = strings.Cut(env["STATE_DIRECTORY"], ":")
	case filepath.IsAbs(env["XDG_DATA_HOME"]):
		base = filepath.Join(env["XDG_DATA_HOME"], "dewar")
	case filepath.IsAbs(env["HOME"]):
		base = filepath.Join(env["HOME"], ".local", "share", "dewar")
	default:
		return "", errors.New("there is no folder for what outlives a restart: neither $STATE_DIRECTORY, $XDG_DATA_HOME nor $HOME is set")
	}
	data := filepath.Join(base, "projects", hex.EncodeToString(sum[:8]))
	return data, PrivateDir(data)
}

// PrivateDir makes a folder with mode 0700, or sees that the one that is there
// belongs to this user and nobody else can enter it.
func PrivateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return checkPrivate(dir)
}

// makePrivate makes dir and its parent with mode 0700 and checks that they
// are ours: in a shared temporary folder somebody else may have been there
// first (CWE-379).
func makePrivate(dir string) error {
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Mkdir(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		} else if err == nil {
			continue
		}
		if d == dir {
			if err := checkPrivate(d); err != nil {
				return err
			}
		} else if err := checkParent(d); err != nil {
			return err
		}
	}
	return nil
}

// checkPrivate refuses a folder that somebody else owns or can enter, or that
// is a link.
func checkPrivate(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	uid, ok := ownerOf(st)
	switch {
	case !st.IsDir():
		return fmt.Errorf("%s is not a folder (or is a link to one): take it away", dir)
	case ok && uid != os.Getuid():
		return fmt.Errorf("%s belongs to user %d, not to %d: it cannot be trusted; choose another state folder", dir, uid, os.Getuid())
	case st.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s can be entered by other users (mode %04o): chmod 700 it", dir, st.Mode().Perm())
	}
	return nil
}

// checkParent refuses a folder in which somebody else could rename ours.
func checkParent(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	uid, ok := ownerOf(st)
	switch {
	case !st.IsDir():
		return fmt.Errorf("%s is not a folder (or is a link to one)", dir)
	case ok && uid != os.Getuid() && uid != 0:
		return fmt.Errorf("%s belongs to user %d: it cannot be trusted; choose another state folder", dir, uid)
	case st.Mode().Perm()&0o022 != 0 && st.Mode()&os.ModeSticky == 0:
		return fmt.Errorf("%s can be written by other users (mode %04o): chmod 700 it, or choose another state folder", dir, st.Mode().Perm())
	}
	return nil
}

// ReadState returns the state of the guard that runs for the project whose
// [StateDir] is dir. It returns [ErrNotRunning] when there is none, or when
// the one that wrote the file is gone.
func ReadState(dir string) (State, error) {
	var s State
	name := filepath.Join(dir, stateFile)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return s, ErrNotRunning
	}
	if err := checkPrivate(dir); err != nil {
		return s, err
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, ErrNotRunning
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil || s.PID <= 0 {
		return State{}, fmt.Errorf("%s is damaged: delete it", name)
	}
	if processID(s.PID) != s.Process || s.Process == "" {
		return State{}, ErrNotRunning
	}
	return s, nil
}

// claim is a state folder that this process holds.
type claim struct {
	dir  string
	lock *os.File
}

// claimState takes dir for this process. A guard that already runs for the
// project is an error that names it, unless it hands over its lock.
func claimState(dir, project string, handed *os.File) (*claim, error) {
	if err := makePrivate(dir); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if handed != nil {
		return &claim{dir, handed}, nil // the lock lives as long as one of both does
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		who := ""
		if other, err := ReadState(dir); err == nil {
			who = fmt.Sprintf(" (process %d, %s)", other.PID, strings.Join(other.URLs, ", "))
		}
		return nil, fmt.Errorf("a guard already runs for %s%s: stop it first", project, who)
	}
	return &claim{dir, lock}, nil
}

// write says how to reach this process.
func (c *claim) write(s State) error {
	s.PID = os.Getpid()
	s.Process = processID(s.PID)
	b, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = writePrivate(filepath.Join(c.dir, stateFile), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	return nil
}

// remove takes the file away.
func (c *claim) remove() { _ = os.Remove(filepath.Join(c.dir, stateFile)) }

// release lets go of the folder.
func (c *claim) release() { c.lock.Close() }

// processID identifies a running process beyond its number, or returns ""
// when there is none.
func processID(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		if exists("/proc/self/stat") || syscall.Kill(pid, 0) != nil {
			return ""
		}
		return strconv.Itoa(pid) // no /proc here
	}
	// Field 22, after the name in parentheses, which may hold anything.
	i := strings.LastIndexByte(string(stat), ')')
	fields := strings.Fields(string(stat[i+1:]))
	if i < 0 || len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(boot)) + "/" + fields[19]
}
