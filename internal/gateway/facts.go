package gateway

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
)

// report is what gunicorn_hook.py says over the pipe.
type report struct {
	Kind string `json:"kind"` // configured, failed, facts, exited
	PID  int    `json:"pid"`

	// configured
	Overridden []string `json:"overridden"`
	Kept       []string `json:"kept"`
	Workers    int      `json:"workers"` // processes that gunicorn starts

	// failed
	Phase     string `json:"phase"` // config, import, attribute, factory, worker-boot
	Late      bool   `json:"late"`  // a worker that takes the place of another: it tries again
	Type      string `json:"type"`
	Message   string `json:"message"`
	Self      bool   `json:"self"` // the app's own module is what is missing
	Missing   string `json:"missing"`
	Traceback string `json:"traceback"`

	// exited
	Worker int `json:"worker"` // the process that ended

	// facts
	Known          bool     `json:"known"`
	Why            string   `json:"why"`
	Found          bool     `json:"found"`
	Debug          bool     `json:"debug"`
	Testing        bool     `json:"testing"`
	Debugger       bool     `json:"debugger"`
	Server         string   `json:"server"`
	Secret         []byte   `json:"secret"`
	Fallbacks      [][]byte `json:"fallbacks"`
	SessionCookie  string   `json:"session_cookie"`
	RememberCookie string   `json:"remember_cookie"`
	Sessions       struct {
		Kind       string  `json:"kind"`
		Interface  string  `json:"interface"`
		Salt       string  `json:"salt"`
		Derivation string  `json:"derivation"`
		Lifetime   float64 `json:"lifetime"` // seconds
		Path       string  `json:"path"`
		Domain     string  `json:"domain"`
		Tells      bool    `json:"tells"`
	} `json:"sessions"`
	Flask       string      `json:"flask"`
	Werkzeug    string      `json:"werkzeug"`
	Python      string      `json:"python"`
	Routes      []factRoute `json:"routes"`
	Elsewhere   []string    `json:"elsewhere"`
	UID         int         `json:"uid"`
	Patched     string      `json:"patched"`
	WorkerClass string      `json:"worker_class"`
}

type factRoute struct {
	Rule     string   `json:"rule"`
	Methods  []string `json:"methods"`
	Endpoint string   `json:"endpoint"`

	Converters map[string]string `json:"converters"`

	Folder string `json:"folder"`
}

func (r report) facts() guard.Facts {
	f := guard.Facts{
		Known: r.Known, Why: r.Why,
		AppFound: r.Found, Debug: r.Debug, Testing: r.Testing, DebuggerWrapped: r.Debugger,
		Server: r.Server, SecretKey: guard.NewSecret(string(r.Secret)),
		SessionCookieName: r.SessionCookie, RememberCookieName: r.RememberCookie,
		Sessions: guard.SessionFacts{
			Kind: r.Sessions.Kind, Interface: r.Sessions.Interface, Salt: r.Sessions.Salt, Derivation: r.Sessions.Derivation,
			Lifetime: time.Duration(min(max(r.Sessions.Lifetime, 0), 1e9) * float64(time.Second)), Path: r.Sessions.Path, Domain: r.Sessions.Domain, Tells: r.Sessions.Tells,
		},
		FlaskVersion: r.Flask, WerkzeugVersion: r.Werkzeug, PythonVersion: r.Python,
		UID: r.UID, Elsewhere: r.Elsewhere, Patched: r.Patched, Worker: r.WorkerClass,
	}
	for _, k := range r.Fallbacks {
		f.SecretKeyFallbacks = append(f.SecretKeyFallbacks, guard.NewSecret(string(k)))
	}
	for _, rt := range r.Routes {
		f.Routes = append(f.Routes, guard.FactRoute(rt))
	}
	if f.Known && !f.AppFound {
		f.Known, f.Why = false, "no flask.Flask object was found behind the WSGI callable"
	}
	return f
}

const (
	maxFrame   = 4096    // PIPE_BUF: longer writes of several workers may mix
	maxReport  = 8 << 20 // 20,000 routes fit
	maxSenders = 64      // workers in the middle of a report
)

// readReports reads frames "pid +|. base64" until the pipe ends. What cannot
// be read is given to bad: the pipe belongs to the app's process, and nothing
// on it may stop the guard.
func readReports(r io.Reader, good func(report), bad func(error)) {
	br := bufio.NewReaderSize(r, maxFrame)
	parts := map[int][]byte{}
	for {
		line, err := br.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = br.ReadSlice('\n')
			}
			bad(fmt.Errorf("a frame longer than %d bytes", maxFrame))
			if err != nil {
				return
			}
			continue
		}
		if err != nil {
			return
		}
		pid, more, data, err := parseFrame(line)
		if err != nil {
			bad(err)
			continue
		}
		if _, ok := parts[pid]; !ok && len(parts) == maxSenders {
			bad(errors.New("too many unfinished reports: all dropped"))
			clear(parts)
		}
		if len(parts[pid])+len(data) > maxReport {
			bad(fmt.Errorf("report of process %d is longer than %d bytes", pid, maxReport))
			delete(parts, pid)
			continue
		}
		parts[pid] = append(parts[pid], data...)
		if more {
			continue
		}
		whole := parts[pid]
		delete(parts, pid)
		rep, err := parseReport(whole)
		if err != nil {
			bad(fmt.Errorf("report of process %d: %w", pid, err))
			continue
		}
		good(rep)
	}
}

func parseFrame(line []byte) (pid int, more bool, data []byte, err error) {
	f := bytes.Fields(line)
	if len(f) != 3 || len(f[1]) != 1 || f[1][0] != '+' && f[1][0] != '.' {
		return 0, false, nil, errors.New("not a frame")
	}
	pid, err = strconv.Atoi(string(f[0]))
	if err != nil || pid <= 0 {
		return 0, false, nil, errors.New("frame without a process id")
	}
	return pid, f[1][0] == '+', f[2], nil
}

// parseReport never quotes what it read: the SECRET_KEY may be in it.
func parseReport(b64 []byte) (report, error) {
	var r report
	b := make([]byte, base64.StdEncoding.DecodedLen(len(b64)))
	n, err := base64.StdEncoding.Decode(b, b64)
	if err != nil {
		return r, errors.New("not Base64")
	}
	if err := json.Unmarshal(b[:n], &r); err != nil {
		return r, errors.New("not the JSON that was agreed on")
	}
	switch r.Kind {
	case "configured", "failed", "facts", "exited":
		return r, nil
	}
	return r, errors.New("unknown kind")
}
