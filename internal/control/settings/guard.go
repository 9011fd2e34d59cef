package settings

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
)

var layers = []*guard.Spec{neverPublicSpec, corsSpec, maskSpec}

var preflights = []*guard.Preflight{{
	Name:      "debug-off",
	Control:   "settings",
	Does:      "Refuses to start an app in debug or testing mode, or with Werkzeug's debugger around it.",
	Why:       "In debug mode an error page is a Python console (CWE-489); TESTING lets errors pass their handlers and switches protections such as CSRF tokens off.",
	Fix:       "Set DEBUG and TESTING to False, remove FLASK_DEBUG=1 and app.run(debug=True), and wrap nothing in DebuggedApplication.",
	RelaxedIn: []guard.Profile{guard.Development},
	Check:     checkDebug,
}}

func checkDebug(f guard.Facts) (string, error) {
	if !f.Known {
		if f.Why != "" {
			return "", errors.New(f.Why)
		}
		return "", errors.New("nothing is known about the running app")
	}
	var on []string
	if f.DebuggerWrapped {
		on = append(on, "Werkzeug's debugger is wrapped around it")
	}
	if f.Debug {
		on = append(on, "DEBUG is on")
	}
	if f.Testing {
		on = append(on, "TESTING is on")
	}
	if len(on) > 0 {
		return "the app runs with development settings: " + strings.Join(on, ", "), nil
	}
	if !f.AppFound {
		return "", errors.New("no Flask app was found behind the WSGI callable")
	}
	return "", nil
}

var neverPublicSpec = &guard.Spec{
	Name:     "never-public",
	Control:  "settings",
	Does:     "Answers 404 for the debugger, repository folders, dotfiles, backups, databases, keys and source files.",
	Blocking: true,
	Failure:  guard.FailClosed,
	Event:    "malicious_direct_reference",
	Severity: event.Warn,
	Reasons: []guard.Reason{
		{
			Name: "never-public-debugger",
			Why:  "Werkzeug's debugger and console execute Python for whoever guesses the PIN (CWE-489).",
			Fix:  "If the app has a page of its own at /console, its rule is found in the running app; else list it in settings.public.",
		},
		{
			Name: "never-public-dotfile",
			Why:  "Dotfiles hold what was not meant to be seen: .git the source, .env the keys (CWE-538).",
			Fix:  "Only /.well-known/ is public (RFC 8615). List other paths in settings.public.",
		},
		{
			Name: "never-public-backup",
			Why:  "Backups and editor leftovers hand out source code and data (CWE-530).",
			Fix:  "Keep downloads apart from leftovers, or list the path in settings.public.",
		},
		{
			Name: "never-public-file",
			Why:  "Databases, private keys, Python sources and project files are no web pages (CWE-552).",
			Fix:  "If the app serves such files on purpose, list the path in settings.public, as in /downloads/*.db.",
		},
		{
			Name: "never-public-listed",
			Why:  "The path is listed in settings.private.",
			Fix:  "Remove it from settings.private.",
		},
	},
}

// privateSuffixes end the name of a file that is no web page, in lower case.
var privateSuffixes = []struct{ suffix, reason, what string }{
	{"~", "never-public-backup", "editor backup"},
	{".bak", "never-public-backup", "backup"},
	{".backup", "never-public-backup", "backup"},
	{".old", "never-public-backup", "backup"},
	{".orig", "never-public-backup", "merge leftover"},
	{".rej", "never-public-backup", "merge leftover"},
	{".save", "never-public-backup", "editor backup"},
	{".swp", "never-public-backup", "editor swap file"},
	{".swo", "never-public-backup", "editor swap file"},
	{".sql", "never-public-backup", "database dump"},
	{".sql.gz", "never-public-backup", "database dump"},
	{".sql.bz2", "never-public-backup", "database dump"},
	{".sql.xz", "never-public-backup", "database dump"},
	{".sql.zst", "never-public-backup", "database dump"},
	{".sql.zip", "never-public-backup", "database dump"},
	{".dump", "never-public-backup", "database dump"},
	{".rdb", "never-public-backup", "Redis dump"},
	{".sqlite", "never-public-file", "database"},
	{".sqlite3", "never-public-file", "database"},
	{".sqlite-wal", "never-public-file", "database journal"},
	{".sqlite3-wal", "never-public-file", "database journal"},
	{".db", "never-public-file", "database"},
	{".db-wal", "never-public-file", "database journal"},
	{".db-journal", "never-public-file", "database journal"},
	{".pem", "never-public-file", "key or certificate"},
	{".key", "never-public-file", "private key"},
	{".p12", "never-public-file", "private key"},
	{".pfx", "never-public-file", "private key"},
	{".jks", "never-public-file", "key store"},
	{".kdbx", "never-public-file", "password store"},
	{".py", "never-public-file", "Python source"},
	{".pyc", "never-public-file", "Python bytecode"},
	{".pyo", "never-public-file", "Python bytecode"},
}

// privateNames are whole names of such files, in lower case.
var privateNames = map[string]string{
	"dockerfile": "build file", "docker-compose.yml": "build file", "docker-compose.yaml": "build file",
	"docker-compose.override.yml": "build file", "compose.yml": "build file", "compose.yaml": "build file",
	"requirements.txt": "dependency list", "pipfile": "dependency list", "pipfile.lock": "dependency list",
	"poetry.lock": "dependency list", "uv.lock": "dependency list", "pdm.lock": "dependency list", "pyproject.toml": "project file",
	"setup.cfg": "project file", "tox.ini": "project file", "alembic.ini": "settings with a database URL", "uwsgi.ini": "server settings",
	"dewar.toml": "guard settings", "web.config": "server settings", "package-lock.json": "dependency list", "yarn.lock": "dependency list",
	"id_rsa": "private key", "id_dsa": "private key", "id_ecdsa": "private key", "id_ed25519": "private key",
	"terraform.tfstate": "infrastructure secrets", "credentials.json": "credentials", "secrets.json": "credentials", "secrets.yml": "credentials", "secrets.yaml": "credentials",
	"thumbs.db": "folder index", "desktop.ini": "folder index",
}

// neverPublic is the layer that hides what no visitor should see.
type neverPublic struct {
	private, public []string
	facts           func() guard.Facts
}

// NewNeverPublic makes the never-public layer.
func NewNeverPublic(cfg Config, env guard.Env) (guard.Layer, error) {
	for _, p := range cfg.Problems() {
		if p.Key == "private" || p.Key == "public" {
			return nil, fmt.Errorf("settings.%s: %s", p.Key, p.Message)
		}
	}
	return &neverPublic{private: cfg.Private, public: cfg.Public, facts: env.Facts}, nil
}

// Request implements [guard.Layer].
func (l *neverPublic) Request(x *guard.Exchange) guard.Decision {
	if debuggerQuery(x.Request.URL.RawQuery) {
		// No rule and no setting excuses this one: werkzeug.debug looks at
		// the query of every path.
		return refuseDebugger("__debugger__ in the query")
	}
	reason, what := private(x.Path)
	if reason == "" {
		for _, p := range l.private {
			if guard.MatchPattern(p, x.Path) {
				reason, what = "never-public-listed", p
				break
			}
		}
		if reason == "" {
			return guard.Pass()
		}
	}
	for _, p := range l.public {
		if guard.MatchPattern(p, x.Path) {
			return guard.Pass()
		}
	}
	if reason != "never-public-listed" && l.routed(x.Path) {
		return guard.Pass()
	}
	if reason == "never-public-debugger" {
		return refuseDebugger(what)
	}
	// 404, as for a path that does not exist: an honest "forbidden" would
	// tell which files are worth another try.
	return guard.Refuse(http.StatusNotFound, reason, what)
}

func refuseDebugger(detail string) guard.Decision {
	d := guard.Refuse(http.StatusNotFound, "never-public-debugger", detail)
	d.Severity = event.High
	return d
}

// routed reports whether the running app has a rule for exactly this path: a
// view that somebody wrote, not a file that somebody forgot. Rules with
// variables do not count, /static/<path:filename> is one.
func (l *neverPublic) routed(path string) bool {
	if l.facts == nil {
		return false
	}
	f := l.facts()
	if f.DebuggerWrapped && path == "/console" {
		return false // the debugger answers before the app's own rule
	}
	for _, r := range f.Routes {
		if !strings.Contains(r.Rule, "<") && (r.Rule == path || strings.TrimSuffix(r.Rule, "/") == path) {
			return true
		}
	}
	return false
}

// private says why a decoded path is never public; reason is empty when it
// may be.
func private(path string) (reason, what string) {
	// As werkzeug's Request.path: any number of leading slashes is one.
	if trimmed := strings.TrimLeft(path, "/"); trimmed == "console" || trimmed == "console/" {
		return "never-public-debugger", "Werkzeug's console"
	}
	lower := strings.ToLower(path)
	if t := strings.Trim(lower, "/"); t == "server-status" || t == "server-info" || t == "nginx_status" {
		return "never-public-file", "server status"
	}
	first, last := true, ""
	for seg := range strings.SplitSeq(lower, "/") {
		// /.git;x/, /app.py%20 and /app.py. open the same file on some
		// servers and file systems, as does /app.py::$DATA on NTFS.
		seg, _, _ = strings.Cut(seg, ";")
		seg, _, _ = strings.Cut(seg, "::")
		if strings.Trim(seg, ".") != "" {
			seg = strings.TrimRight(seg, " .")
		}
		if seg == "" {
			continue
		}
		last = seg
		switch {
		case seg[0] == '.' && !(first && seg == ".well-known") && !slug(seg):
			return "never-public-dotfile", "dotfile " + seg
		case seg == "__pycache__":
			return "never-public-file", "Python bytecode"
		case seg == "__debugger__":
			return "never-public-debugger", "__debugger__"
		}
		first = false
	}
	if what := privateNames[last]; what != "" {
		return "never-public-file", what
	}
	if len(last) > 2 && last[0] == '#' && last[len(last)-1] == '#' {
		return "never-public-backup", "editor backup"
	}
	// Most paths have no dot and no tilde near the end.
	if strings.LastIndexByte(last, '.') < 0 && last != "" && last[len(last)-1] != '~' {
		return "", ""
	}
	for _, p := range privateSuffixes {
		if len(last) > len(p.suffix) && strings.HasSuffix(last, p.suffix) {
			return p.reason, p.what
		}
	}
	return "", ""
}

// slug reports whether a segment with a leading dot is a name that people
// give things: /tag/.net, /wiki/.NET-Framework, /wiki/...
func slug(seg string) bool {
	return seg == ".net" || strings.HasPrefix(seg, ".net-") || strings.HasPrefix(seg, ".net_") || strings.HasPrefix(seg, ".net ") || strings.Trim(seg, ".") == ""
}

// debuggerQuery reports whether a query has the parameter that
// werkzeug.debug.DebuggedApplication obeys. Its value is not looked at: "yes"
// is what it takes today.
func debuggerQuery(raw string) bool {
	if strings.IndexByte(raw, '%') < 0 {
		// Nothing to decode but +, which the name does not hold.
		if !strings.Contains(raw, "__debugger__") {
			return false
		}
	}
	for raw != "" {
		pair := raw
		if i := strings.IndexAny(raw, "&;"); i >= 0 {
			pair, raw = raw[:i], raw[i+1:]
		} else {
			raw = ""
		}
		key, _, _ := strings.Cut(pair, "=")
		if key == "__debugger__" {
			return true
		}
		if strings.IndexByte(key, '%') >= 0 {
			if k, err := url.QueryUnescape(key); err == nil && k == "__debugger__" {
				return true
			}
		}
	}
	return false
}

// Health implements [guard.Reporter].
func (l *neverPublic) Health() error { return nil }

// Describe implements [guard.Reporter].
func (l *neverPublic) Describe() string {
	return fmt.Sprintf("debugger, dotfiles and %d kinds of private files; %d more patterns, %d exceptions", len(privateSuffixes)+len(privateNames), len(l.private), len(l.public))
}
