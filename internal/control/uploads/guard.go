package uploads

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/formdata"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/waf"
	"github.com/dewar-security/dewar/internal/wire"
)

var layers = []*guard.Spec{bodySpec, filesSpec}

var bodySpec = &guard.Spec{
	Name:     "body",
	Partial:  true, // size and form; what files hold is the files layer's
	Control:  "uploads",
	Does:     "reads the request body before the app is bothered, bounds its size, fields and files, and refuses deceptive file names",
	Blocking: true,
	Event:    "upload_validation",
	Reasons: []guard.Reason{
		{Name: "body-too-large", Why: "A body without bound fills memory and disk (CWE-400).", Fix: "Raise max-body on the route, max-form for forms and JSON, or max-sensitive for logins."},
		{Name: "body-no-length", Why: "The length was not announced, and require-length asks for it.", Fix: "Let the client send Content-Length, or set require-length = false."},
		{Name: "body-encoding", Why: "A compressed request body can unpack to a thousand times its size (CWE-409), and no rule could read it.", Fix: "Let the client send the body uncompressed."},
		{Name: "body-type", Why: "The content type is not one that this app accepts.", Fix: "Add it to content-types."},
		{Name: "body-incomplete", Why: "The client did not send the whole body; the app never saw the request.", Fix: "Nothing: the client went away or was cut off."},
		{Name: "body-chunks", Why: "The chunks of the body are not framed as RFC 9112 section 7.1 says: where it ends, and the next request begins, would be a matter of taste (CWE-444).", Fix: "Correct the client: no browser and no library sends such chunks."},
		{Name: "body-slow", Why: "A client that sends a byte now and then would hold a worker for hours (slowloris).", Fix: "Raise body-timeout in [deployment] for slow, honest clients."},
		{Name: "body-storage", Why: "The body did not fit into memory and could not be put on disk; half a body must not reach the app.", Fix: "Make room in $TMPDIR."},
		{Name: "body-multipart", Why: "A multipart body that two parsers read differently smuggles a file past a check.", Fix: "Correct the client: RFC 7578 says what a multipart body looks like."},
		{Name: "upload-fields", Why: "Thousands of fields cost the app time out of proportion (CWE-770).", Fix: "Raise max-fields."},
		{Name: "upload-files", Why: "Too many files in one request.", Fix: "Raise max-files."},
		{Name: "upload-file-size", Why: "One file is larger than files may be.", Fix: "Raise max-file, and max-body on the route."},
		{Name: "upload-path", Why: "A file name with a path leaves the folder for uploads when it is believed (CWE-22).", Fix: "Set directories = true if visitors upload whole directories."},
		{Name: "upload-name", Why: "Control characters, an overlong name or a server's control file deceive the app, the log or the web server.", Fix: "Let the client send a plain file name."},
		{Name: "upload-double-extension", Why: "\"shell.php.jpg\" is run by servers that look at every extension (CWE-434).", Fix: "Rename the file."},
	},
}

// maxName is the longest file name common file systems store, in bytes.
const maxName = 255

type bodyLayer struct {
	cfg    Config
	policy func() *policy.Policy
}

// NewBody returns the body layer.
func NewBody(cfg Config, env guard.Env) (guard.Layer, error) {
	if p := cfg.Problems(); len(p) > 0 {
		return nil, fmt.Errorf("uploads.%s: %s", p[0].Key, p[0].Message)
	}
	return &bodyLayer{cfg.withDefaults(), env.Policy}, nil
}

// Health implements [guard.Reporter].
func (l *bodyLayer) Health() error { return nil }

// Describe implements [guard.Reporter].
func (l *bodyLayer) Describe() string {
	return fmt.Sprintf("bodies up to %v, forms and JSON up to %v, %d files of up to %v",
		l.cfg.MaxBody, l.cfg.MaxForm, l.cfg.MaxFiles, l.cfg.MaxFile)
}

// Request implements [guard.Layer].
func (l *bodyLayer) Request(x *guard.Exchange) guard.Decision {
	r := x.Request
	maxBody, maxForm, maxFile := l.cfg.MaxBody, l.cfg.MaxForm, l.cfg.MaxFile
	if x.Override != nil && x.Override.MaxBody != nil {
		// Whoever writes a limit for a route means it for whatever the route
		// takes.
		maxBody = *x.Override.MaxBody
		maxForm, maxFile = maxBody, maxBody
	} else if l.sensitive(x) {
		maxBody = min(maxBody, l.cfg.MaxSensitive)
	}
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		x.LimitBody(maxBody)
		return guard.Pass()
	}
	if enc := strings.TrimSpace(strings.Join(r.Header["Content-Encoding"], ",")); enc != "" && !strings.EqualFold(enc, "identity") {
		d := guard.Refuse(http.StatusUnsupportedMediaType, "body-encoding", "Content-Encoding: "+quote(enc))
		d.Header = http.Header{"Accept-Encoding": {"identity"}} // RFC 9110 section 15.5.16
		return d
	}
	contentType := r.Header.Get("Content-Type")
	kind := waf.MediaType(contentType)
	if !l.accepts(kind) {
		return guard.Refuse(http.StatusUnsupportedMediaType, "body-type", "Content-Type: "+quote(contentType))
	}
	limit := maxBody
	if formLike(kind) {
		limit = min(maxBody, maxForm)
	}
	switch {
	case r.ContentLength > int64(limit):
		// The limit follows the announced length, so that the body still
		// passes whole when this refusal is only observed.
		x.LimitBody(guard.Size(r.ContentLength))
		return guard.Refuse(http.StatusRequestEntityTooLarge, "body-too-large", fmt.Sprintf("Content-Length %d, allowed %d", r.ContentLength, int64(limit)))
	case r.ContentLength < 0 && l.cfg.RequireLength:
		return guard.Refuse(http.StatusLengthRequired, "body-no-length", "no Content-Length")
	}
	x.LimitBody(limit)
	if x.Streams() {
		return guard.Pass()
	}
	// The whole body first: a client that sends it slowly, or not at all,
	// never holds one of the app's workers.
	if _, err := x.Buffer(); err != nil {
		return bufferError(err, limit)
	}
	if kind != "multipart/form-data" {
		return guard.Pass()
	}
	return l.multipart(x, int64(maxForm), int64(maxFile))
}

// sensitive reports whether the source says that only names, passwords and
// codes belong into the body.
func (l *bodyLayer) sensitive(x *guard.Exchange) bool {
	if l.policy == nil || x.Request.ContentLength == 0 {
		return false
	}
	m := x.Match(l.policy())
	if slices.ContainsFunc(m.Routes, func(r *policy.Route) bool { return r.Is("upload") }) {
		return false
	}
	return m.Is("login") || m.Is("reset") || m.Is("register") || m.Is("token")
}

// bufferError tells a body that is too large from one that did not arrive.
func bufferError(err error, limit guard.Size) guard.Decision {
	var tooLarge *http.MaxBytesError
	var timeout net.Error
	var fault *wire.Fault
	switch {
	case errors.As(err, &fault):
		return guard.Refuse(fault.Status, fault.Reason, oneLine(fault.Detail))
	case errors.As(err, &tooLarge):
		return guard.Refuse(http.StatusRequestEntityTooLarge, "body-too-large", fmt.Sprintf("more than %d bytes", int64(limit)))
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return guard.Refuse(http.StatusRequestTimeout, "body-slow", "the body did not arrive in time")
	case errors.Is(err, guard.ErrBodyStorage):
		d := guard.Refuse(http.StatusServiceUnavailable, "body-storage", oneLine(err.Error()))
		d.Event, d.Severity = "sys_crash", event.High
		return d
	}
	return guard.Refuse(http.StatusBadRequest, "body-incomplete", oneLine(err.Error()))
}

// formLike reports whether a body of this type is held in memory and parsed
// as a whole by the app.
func formLike(kind string) bool {
	switch kind {
	case "application/x-www-form-urlencoded", "application/x-url-encoded", "application/json", "application/xml":
		return true
	}
	return strings.HasPrefix(kind, "text/") || strings.HasSuffix(kind, "+json") || strings.HasSuffix(kind, "+xml")
}

func (l *bodyLayer) accepts(kind string) bool {
	if len(l.cfg.ContentTypes) == 0 {
		return true
	}
	for _, p := range l.cfg.ContentTypes {
		p = strings.ToLower(p)
		if p == kind {
			return true
		}
		if family, ok := strings.CutSuffix(p, "*"); ok && strings.HasPrefix(kind, family) {
			return true
		}
	}
	return false
}

func validTypePattern(s string) bool {
	family, sub, ok := strings.Cut(s, "/")
	return ok && family != "" && sub != "" && family != "*" && !strings.ContainsAny(s, " \t;,") && (sub == "*" || !strings.Contains(sub, "*"))
}

// parts finds the parts of a multipart body, up to what the settings allow.
func (c *Config) parts(x *guard.Exchange) ([]formdata.Part, error) {
	return x.Parts(c.MaxFiles + c.MaxFields)
}

// multipart bounds the parts of a multipart body, and judges the names of
// files.
func (l *bodyLayer) multipart(x *guard.Exchange, maxForm, maxFile int64) guard.Decision {
	parts, err := l.cfg.parts(x)
	var syntax *formdata.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return guard.Refuse(http.StatusBadRequest, "body-multipart", oneLine(err.Error()))
	case errors.Is(err, formdata.ErrTooManyParts):
		return guard.Refuse(http.StatusRequestEntityTooLarge, "upload-fields", fmt.Sprintf("more than %d fields and files", l.cfg.MaxFields+l.cfg.MaxFiles))
	case err != nil:
		return bufferError(fmt.Errorf("%w: %w", guard.ErrBodyStorage, err), 0) // it was here, and cannot be read
	}
	var files, fields int
	var form int64
	for i := range parts {
		p := &parts[i]
		if !p.File {
			if fields++; fields > l.cfg.MaxFields {
				return guard.Refuse(http.StatusRequestEntityTooLarge, "upload-fields", fmt.Sprintf("more than %d fields", l.cfg.MaxFields))
			}
			if form += p.Size; form > maxForm {
				return guard.Refuse(http.StatusRequestEntityTooLarge, "body-too-large", fmt.Sprintf("fields of more than %d bytes", maxForm))
			}
			continue
		}
		if files++; files > l.cfg.MaxFiles {
			return guard.Refuse(http.StatusRequestEntityTooLarge, "upload-files", fmt.Sprintf("more than %d files", l.cfg.MaxFiles))
		}
		// Both spellings of the name: parsers differ in which goes before.
		for _, name := range []string{p.Filename, p.Extended} {
			if reason := checkName(name, l.cfg.Directories); reason != "" {
				return guard.Refuse(http.StatusBadRequest, reason, "file name "+quote(name))
			}
		}
		if p.Size > maxFile {
			return guard.Refuse(http.StatusRequestEntityTooLarge, "upload-file-size", fmt.Sprintf("%s is larger than %d bytes", quote(p.FileName()), maxFile))
		}
	}
	return guard.Pass()
}

// executable are the extensions that web servers hand to an interpreter. A
// file may end in one (whether the app wants such files is the app's
// business); in the middle of a name there is no honest use for them.
var executable = map[string]bool{
	"php": true, "php3": true, "php4": true, "php5": true, "php7": true, "php8": true, "phtml": true, "phar": true, "pht": true,
	"asp": true, "aspx": true, "ashx": true, "asmx": true, "cer": true, "jsp": true, "jspx": true, "jspf": true,
	"cgi": true, "fcgi": true, "pl": true, "py": true, "pyc": true, "rb": true, "sh": true, "bash": true, "shtml": true,
	"exe": true, "bat": true, "cmd": true, "com": true, "scr": true, "vbs": true, "ps1": true, "hta": true, "js": true, "jar": true, "lnk": true, "msi": true,
}

// devices are names that Windows keeps for itself.
var devices = map[string]bool{
	"con": true, "prn": true, "aux": true, "nul": true, "com1": true, "com2": true, "com3": true, "com4": true, "com5": true, "com6": true, "com7": true, "com8": true, "com9": true,
	"lpt1": true, "lpt2": true, "lpt3": true, "lpt4": true, "lpt5": true, "lpt6": true, "lpt7": true, "lpt8": true, "lpt9": true,
}

// compression are last extensions before which another extension is honest:
// "tool.js.gz".
var compression = map[string]bool{"gz": true, "bz2": true, "xz": true, "zst": true, "zip": true, "br": true, "map": true, "txt": true, "md": true, "bak": true, "sig": true, "asc": true, "html": true}

// checkName returns the reason to refuse a file name, or "".
func checkName(name string, directories bool) string {
	if name == "" {
		return "" // an empty file input
	}
	if len(name) > maxName && !directories || len(name) > 4096 || !utf8.ValidString(name) {
		return "upload-name"
	}
	for _, r := range name {
		// Cf covers the characters that turn the reading direction round and
		// make "gpj.exe" look like "exe.jpg"; joiners belong to real words.
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && r != '\u200c' && r != '\u200d' && r != '\u00ad' {
			return "upload-name"
		}
	}
	base := name
	if strings.ContainsAny(name, `/\`) || len(name) > 1 && name[1] == ':' {
		if !directories || strings.ContainsAny(name, `\:`) || strings.HasPrefix(name, "/") {
			return "upload-path"
		}
		for seg := range strings.SplitSeq(name, "/") {
			if seg == "" || seg == "." || seg == ".." {
				return "upload-path"
			}
			base = seg
		}
	}
	if base == "." || base == ".." {
		return "upload-path"
	}
	lower := strings.ToLower(base)
	switch lower {
	case ".htaccess", ".htpasswd", ".user.ini", "web.config":
		return "upload-name"
	}
	// Windows drops trailing dots and spaces and what follows "::", opens a
	// device for some names whatever their extension, and writes into a stream
	// of the file before a colon.
	if strings.HasSuffix(base, ".") || strings.HasSuffix(base, " ") || strings.Contains(base, "::$") {
		return "upload-name"
	}
	if stem, _, _ := strings.Cut(lower, "."); devices[strings.TrimRight(stem, " ")] {
		return "upload-name"
	}
	if before, _, ok := strings.Cut(lower, ":"); ok && executable[before[strings.LastIndexByte(before, '.')+1:]] && strings.Contains(before, ".") {
		return "upload-name"
	}
	ext := strings.Split(lower, ".")
	// "cat.png.html": a picture to who looks for ".png" in the name, and a page
	// to who serves it.
	if n := len(ext); n > 2 && pages[ext[n-1]] && pictures[strings.TrimSpace(ext[n-2])] {
		return "upload-double-extension"
	}
	if last := ext[len(ext)-1]; len(ext) > 2 && (!compression[last] || executable[last]) {
		for _, e := range ext[1 : len(ext)-1] {
			if executable[strings.TrimSpace(e)] && e != last {
				return "upload-double-extension"
			}
		}
		// "invoice.pdf.exe": a document that is a program.
		if windows[last] && document[strings.TrimSpace(ext[len(ext)-2])] {
			return "upload-double-extension"
		}
	}
	return ""
}

var (
	pages    = map[string]bool{"html": true, "htm": true, "xhtml": true, "xht": true, "shtml": true, "svg": true, "svgz": true, "mht": true, "mhtml": true, "xml": true, "xsl": true, "xslt": true}
	pictures = map[string]bool{"jpg": true, "jpeg": true, "png": true, "gif": true, "webp": true, "bmp": true, "avif": true, "heic": true, "mp3": true, "mp4": true}
	windows  = map[string]bool{"url": true, "desktop": true, "scf": true, "pif": true, "jnlp": true, "wsf": true, "wsh": true, "vbe": true, "jse": true, "cpl": true, "msc": true, "reg": true, "iso": true, "exe": true, "bat": true, "cmd": true, "com": true, "scr": true, "vbs": true, "ps1": true, "hta": true, "js": true, "jar": true, "lnk": true, "msi": true}
	document = map[string]bool{"pdf": true, "doc": true, "docx": true, "xls": true, "xlsx": true, "jpg": true, "jpeg": true, "png": true, "gif": true, "txt": true, "mp3": true, "mp4": true, "csv": true}
)

// oneLine keeps an error's text, which may quote the request, on one line of
// the log.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
}

// quote makes text from a request fit for one line of the log.
func quote(s string) string {
	const most = 120
	if len(s) > most {
		s = s[:most] + "…"
	}
	return fmt.Sprintf("%q", s)
}
