package gateway

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/guard"
)

//go:embed gunicorn_hook.py
var gunicornHook []byte

// interpreter is what the app's Python says about itself.
type interpreter struct {
	Python   string `json:"python"`
	Prefix   string `json:"prefix"`
	Gunicorn string `json:"gunicorn"`
	Flask    string `json:"flask"`
	Error    string `json:"error"`
}

const askInterpreter = `
import json, platform, sys
out = {"python": platform.python_version(), "prefix": sys.prefix}
try:
    from importlib import metadata
    for name in ("gunicorn", "flask"):
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            out[name] = ""
except ImportError:
    out["error"] = "Python 3.8 or later is needed"
print(json.dumps(out))
`

// ask runs the interpreter once, in a folder with nothing to import from.
func ask(ctx context.Context, app App, environ []string, dir string) (interpreter, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var it interpreter
	cmd := exec.CommandContext(ctx, app.Python, "-c", askInterpreter)
	cmd.Dir, cmd.Env = dir, environ
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &it)
	}
	if err == nil && it.Error != "" {
		err = errors.New(it.Error)
	}
	if err != nil {
		return it, &StartError{Kind: FaultPython, Message: fmt.Sprintf("%s (from %s) does not work: %v", app.Python, app.PythonSource, err),
			Fix: "make the virtual environment again, or set python under [app] in dewar.toml", Output: clean(stderr.String())}
	}
	if it.Gunicorn == "" {
		return it, &StartError{Kind: FaultNoGunicorn, Message: fmt.Sprintf("gunicorn is not installed in %s (Python %s, from %s)", it.Prefix, it.Python, app.PythonSource),
			Fix: app.Python + " -m pip install gunicorn"}
	}
	if major, _, _ := strings.Cut(it.Gunicorn, "."); len(major) < 3 {
		if n, err := strconv.Atoi(major); err == nil && n < 20 {
			return it, &StartError{Kind: FaultNoGunicorn, Message: fmt.Sprintf("gunicorn %s in %s is too old: 20 or later is needed, 23 or later is wise", it.Gunicorn, it.Prefix),
				Fix: app.Python + " -m pip install --upgrade gunicorn"}
		}
	}
	return it, nil
}

// workers returns how many worker processes to start: the setting, or
// WEB_CONCURRENCY as gunicorn reads it, or one more than twice the CPUs that
// this process may use (GOMAXPROCS, which follows cgroup limits), at most 12.
func workers(cfg deployment.Config, env environment) int {
	if cfg.Workers > 0 {
		return cfg.Workers
	}
	if n, err := strconv.Atoi(env["WEB_CONCURRENCY"]); err == nil && n > 0 && n <= 512 {
		return n
	}
	return min(2*runtime.GOMAXPROCS(0)+1, 12)
}

// hookInput is what gunicorn_hook.py is told, as JSON in DEWAR_GUNICORN.
type hookInput struct {
	Pipe          int            `json:"pipe"`
	Settings      map[string]any `json:"settings"`
	Defaults      []string       `json:"defaults"`
	UserConfig    string         `json:"user_config"`
	CmdArgs       string         `json:"cmd_args"`
	ClientAddress bool           `json:"client_address"`
}

// upstreamKeepalive is how long gunicorn keeps an idle connection; the
// forwarder's pool lets go earlier, so that it never writes into a closed one.
const upstreamKeepalive = 75 * time.Second

// gunicornSettings are the settings that protect. The hook leaves out what
// the installed version does not know.
func gunicornSettings(cfg deployment.Config, env environment, app App, socket, tmp string) hookInput {
	seconds := func(d guard.Duration) int { return max(int(time.Duration(d)/time.Second), 1) }
	in := hookInput{Settings: map[string]any{
		"bind":      []string{"unix:" + socket},
		"chdir":     app.Dir,
		"workers":   workers(cfg, env),
		"threads":   max(cfg.Threads, 1),
		"umask":     0o077,
		"proc_name": "dewar:" + filepath.Base(app.Dir),

		"timeout":             seconds(cfg.Timeout),
		"graceful_timeout":    seconds(cfg.Grace),
		"keepalive":           int(upstreamKeepalive / time.Second),
		"max_requests":        cfg.MaxRequests,
		"max_requests_jitter": cfg.MaxRequests / 10,
		"preload_app":         cfg.Preload,
		"worker_class":        "gthread",

		// A second parser behind the guard's: its limits are a little wider,
		// so that the guard is the one who refuses.
		"limit_request_line":       8190,
		"limit_request_fields":     150,
		"limit_request_field_size": max(int(cfg.MaxHeader), 8190),

		// gunicorn trusts every peer of a unix socket. The scheme is the one
		// thing the guard tells it; SCRIPT_NAME, PATH_INFO and REMOTE_USER
		// as headers are how path rules were got around.
		"forwarded_allow_ips":                "",
		"secure_scheme_headers":              map[string]string{"X-FORWARDED-PROTO": "https"},
		"forwarder_headers":                  "",
		"header_map":                         "drop",
		"proxy_protocol":                     false,
		"proxy_allow_ips":                    "",
		"permit_obsolete_folding":            false,
		"strip_header_spaces":                false,
		"permit_unconventional_http_method":  false,
		"permit_unconventional_http_version": false,
		"casefold_http_method":               false,
		"http2_cleartext":                    false,

		// gunicorn 25.1 and later listen for commands otherwise.
		"control_socket_disable": true,

		// Development's comforts, and what would take the child from its
		// supervisor.
		"daemon": false, "reload": false, "spew": false, "check_config": false, "print_config": false,
		"reuse_port": false, "keyfile": nil, "certfile": nil, "errorlog": "-", "pidfile": nil,
	}, Defaults: []string{"worker_class", "umask"}, ClientAddress: true}
	if cfg.Workers == 0 {
		in.Defaults = append(in.Defaults, "workers")
	}
	if tmp != "" {
		in.Settings["worker_tmp_dir"] = tmp
	}
	if name := filepath.Join(app.Dir, "gunicorn.conf.py"); exists(name) {
		in.UserConfig = name
	}
	in.CmdArgs = env["GUNICORN_CMD_ARGS"]
	if v, ok := app.Env["GUNICORN_CMD_ARGS"]; ok && in.CmdArgs == "" {
		in.CmdArgs = v
	}
	return in
}

// heartbeatDir returns a folder in memory for the workers' heartbeat files: on
// a disk that stalls, a healthy worker looks dead.
func heartbeatDir() string {
	const shm = "/dev/shm"
	f, err := os.CreateTemp(shm, "dewar-")
	if err != nil {
		return ""
	}
	f.Close()
	os.Remove(f.Name())
	return shm
}

// withheld are variables that would change how gunicorn listens, or that
// belong to Dewar's own supervisor.
var withheld = []string{
	"GUNICORN_CMD_ARGS", "GUNICORN_PID", "GUNICORN_FD", "FORWARDED_ALLOW_IPS",
	"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC",
	"WERKZEUG_RUN_MAIN", "WERKZEUG_SERVER_FD", "FLASK_RUN_FROM_CLI",
}

// childEnviron is the environment of the app: ours, and what dotenv files add,
// without anything of Dewar's own (its tokens must not reach the app).
func childEnviron(env environment, app App) []string {
	out := []string{"PYTHONUNBUFFERED=1"}
	add := func(k, v string) {
		if k == "PYTHONUNBUFFERED" || strings.HasPrefix(k, "DEWAR_") || slices.Contains(withheld, k) || strings.ContainsRune(k+v, 0) {
			return
		}
		out = append(out, k+"="+v)
	}
	for k, v := range env {
		add(k, v)
	}
	for k, v := range app.Env {
		if _, ok := env[k]; !ok {
			add(k, v)
		}
	}
	slices.Sort(out)
	return out
}
