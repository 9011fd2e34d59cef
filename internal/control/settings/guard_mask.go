package settings

import (
	"bytes"
	"fmt"
	"mime"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
)

// maskSpec describes the mask layer.
var maskSpec = &guard.Spec{
	Name:     "mask",
	Control:  "settings",
	Does:     "replaces tracebacks, debugger pages and database errors in answers by the error page, and takes away headers that name the server's software",
	Blocking: true,
	Event:    "sys_crash",
	Severity: event.High,
	Reasons: []guard.Reason{
		{Name: "mask-debugger", Why: "Werkzeug's debugger runs any Python code for whoever finds it (CWE-489).", Fix: "Start the app without debug mode."},
		{Name: "mask-traceback", Why: "A traceback shows source code, paths and values to the visitor (CWE-209).", Fix: "Let the app answer errors with a page of its own; the traceback belongs in the log."},
		{Name: "mask-database", Why: "A database error shows the query and its parameters (CWE-209).", Fix: "Catch the error, log it, and answer without str(error)."},
		{Name: "mask-template", Why: "A template error shows template source and names (CWE-209).", Fix: "Correct the template, and answer errors with a page of the app's own."},
	},
}

const (
	// maskPeek is how much of an error's body is looked at: Werkzeug's
	// debugger gives itself away in the first kilobyte.
	maskPeek = 64 << 10
	// maskPage is the largest page below status 400 that is looked at.
	maskPage = 256 << 10
)

// maskedHeaders name software and versions to an attacker who looks for known
// holes, or carry the debugger's data.
var maskedHeaders = []string{"Server", "X-Powered-By", "X-Aspnet-Version", "X-Aspnetmvc-Version", "X-Generator", "X-Runtime", "X-Debug-Token", "X-Debug-Token-Link", "X-Debug-Exception", "X-Debug-Exception-File"}

type mask struct{}

// NewMask returns the mask layer.
func NewMask(Config, guard.Env) (guard.Layer, error) { return mask{}, nil }

// Request implements [guard.Layer].
func (mask) Request(*guard.Exchange) guard.Decision { return guard.Pass() }

// Health implements [guard.Reporter].
func (mask) Health() error { return nil }

// Describe implements [guard.Reporter].
func (mask) Describe() string {
	return fmt.Sprintf("tracebacks, debugger pages and database errors in the first %d KiB of error answers and in whole pages up to %d KiB; not in event streams, downloads, br or zstd", maskPeek>>10, maskPage>>10)
}

// Response implements [guard.Responder].
func (mask) Response(_ *guard.Exchange, r *http.Response) guard.Decision {
	for _, name := range maskedHeaders {
		r.Header.Del(name)
	}
	for name := range r.Header {
		if strings.HasPrefix(textproto.CanonicalMIMEHeaderKey(name), "X-Werkzeug-") {
			delete(r.Header, name)
		}
	}
	if r.Body == nil || r.Body == http.NoBody {
		return guard.Pass()
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		kind = ""
	}
	var marks []mark
	n := maskPeek
	switch {
	case kind == "text/event-stream" || isBinary(kind) || isAttachment(r.Header):
		return guard.Pass() // streams and files pass byte by byte
	case r.StatusCode >= 400:
		marks = allMarks
	case kind == "text/html" && r.ContentLength > 0 && r.ContentLength <= maskPage:
		// A page of known length is there already: looking at it holds
		// nothing up. It may quote a traceback (a forum, a bug tracker), but
		// no page has reason to load the debugger.
		marks, n = debuggerMarks, maskPage
	default:
		return guard.Pass()
	}
	text, err := guard.PeekBody(r, n)
	if err != nil && len(text) == 0 {
		return guard.Pass() // nothing to see; the reader gets the same error
	}
	for _, m := range marks {
		if m.in(text) {
			return guard.Refuse(http.StatusInternalServerError, m.reason, m.what+exceptionName(text))
		}
	}
	return guard.Pass()
}

func isBinary(kind string) bool {
	major, _, _ := strings.Cut(kind, "/")
	switch major {
	case "image", "audio", "video", "font":
		return kind != "image/svg+xml"
	}
	return kind == "application/octet-stream" || kind == "application/pdf" || kind == "application/zip"
}

func isAttachment(h http.Header) bool {
	return strings.HasPrefix(strings.ToLower(strings.TrimSpace(h.Get("Content-Disposition"))), "attachment")
}

// mark is a sign of one kind of leak: all of its words appear.
type mark struct {
	reason, what string
	words        [][]byte
}

func newMark(reason, what string, words ...string) mark {
	m := mark{reason: reason, what: what}
	for _, w := range words {
		m.words = append(m.words, []byte(w))
	}
	return m
}

func (m mark) in(text []byte) bool {
	for _, w := range m.words {
		if !bytes.Contains(text, w) {
			return false
		}
	}
	return true
}

var debuggerMarks = []mark{
	newMark("mask-debugger", "Werkzeug's debugger", `?__debugger__=yes`, `EVALEX`),
	newMark("mask-debugger", "Werkzeug's debugger", `SECRET = "`, `EVALEX`),
	newMark("mask-debugger", "Werkzeug's console", `// Werkzeug Debugger`, `CONSOLE_MODE`),
}

// allMarks are looked for in errors; the most telling first.
var allMarks = append(debuggerMarks[:len(debuggerMarks):len(debuggerMarks)],
	newMark("mask-traceback", "a traceback", "Traceback (most recent call last)"),
	newMark("mask-traceback", "a traceback", "Traceback <em>(most recent call last)"),
	newMark("mask-traceback", "a traceback", "werkzeug.debug"),
	newMark("mask-traceback", "Flask's debug helper", "flask.debughelpers."),
	newMark("mask-traceback", "Flask's debug helper", "in the request.files dictionary but it does not exist"),
	newMark("mask-database", "a SQLAlchemy error", "(Background on this error at: https://sqlalche.me/"),
	newMark("mask-database", "a SQLAlchemy error", "sqlalchemy.exc."),
	newMark("mask-database", "a SQLAlchemy error", "[SQL: ", "[parameters: "),
	newMark("mask-database", "a SQLite error", "sqlite3.OperationalError"),
	newMark("mask-database", "a SQLite error", "sqlite3.IntegrityError"),
	newMark("mask-database", "a SQLite error", "sqlite3.ProgrammingError"),
	newMark("mask-database", "a PostgreSQL error", "psycopg.errors."),
	newMark("mask-database", "a PostgreSQL error", "psycopg2."),
	newMark("mask-database", "a MySQL error", "pymysql.err."),
	newMark("mask-database", "a MySQL error", "MySQLdb."),
	newMark("mask-template", "a Jinja error", "jinja2.exceptions."),
)

// exceptionName returns " (module.Name)" for the exception of a plain
// traceback: its class, for the log. Its message may hold a visitor's data.
func exceptionName(text []byte) string {
	_, rest, ok := bytes.Cut(text, []byte("Traceback (most recent call last):\n"))
	if !ok {
		return ""
	}
	for line := range bytes.Lines(rest) {
		if len(line) == 0 || line[0] == ' ' || line[0] == '\t' || line[0] == '\n' || line[0] == '\r' {
			continue
		}
		name, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		if len(name) > 100 {
			return ""
		}
		for _, c := range name {
			if c != '.' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
				return ""
			}
		}
		return " (" + string(name) + ")"
	}
	return ""
}
