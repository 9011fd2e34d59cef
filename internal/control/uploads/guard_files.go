package uploads

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/clamd"
	"github.com/dewar-security/dewar/internal/content"
	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/formdata"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/waf"
)

var filesSpec = &guard.Spec{
	Name:     "files",
	Partial:  true, // whether a file is kept where it cannot run is the app's doing
	Control:  "uploads",
	Does:     "looks into every uploaded file, refuses what is not what it says or does harm, has it scanned where ClamAV is set, and hands the app only what was understood",
	Blocking: true,
	Event:    "upload_validation",
	Failure:  guard.FailClosed,
	Commands: quarantineCommands,
	Reasons: append([]guard.Reason{
		{Name: "files-multipart", Why: "A multipart body that two parsers read differently smuggles a file past every check (CWE-436).", Fix: "Correct the client: RFC 7578 says what a multipart body looks like."},
		{Name: "files-count", Why: "More parts than are looked at.", Fix: "Raise max-files or max-fields."},
		{Name: "files-storage", Why: "There is no room to unpack the file for a look.", Fix: "Make room in $TMPDIR, or raise uploads.disk."},
		{Name: "files-slow", Why: "The file could not be looked at in the time that there is for it.", Fix: "Raise uploads.inspect-timeout."},
		{Name: "file-extension", Why: "The file's extension is not one of those that are allowed here, by the settings or by the app's own list (CWE-434).", Fix: "Add it to uploads.extensions, or to files.extensions of the route; the app's own list is only noted unless source-extensions = \"enforce\"."},
		{Name: "file-malware", Why: "ClamAV knows the file as malware.", Fix: "Look at it with \"dewar quarantine show\"; \"dewar quarantine release\" lets the same file pass from then on."},
		{Name: "file-unscanned", Why: "ClamAV could not be asked, or does not take files of that size: an unscanned file does not pass unless clamav-failure = \"open\".", Fix: "See why with \"dewar check\"; raise StreamMaxLength in clamd.conf for larger files."},
		{Name: "file-reencode", Why: "The image cannot be decoded, and this route takes images only in a form that was written anew.", Fix: "Set images = \"keep\" on the route."},
	}, dangerReasons()...),
}

// Files is the files layer.
type Files struct {
	cfg        Config
	env        guard.Env
	extensions []string
	clam       *clamd.Client
	quarantine *quarantine // nil: refused files are not kept
	later      *later      // nil: files are held until they are clean
	stop       chan struct{}
	// slots bounds how many files are looked at at the same time: each may
	// take a processor, and a decoder's memory.
	slots chan struct{}

	health struct {
		sync.Mutex
		asked time.Time
		err   error
		what  string
	}
	files, refused, scanned, unscanned atomic.Int64
}

// NewFiles returns the files layer.
func NewFiles(cfg Config, env guard.Env) (guard.Layer, error) {
	if p := cfg.Problems(); len(p) > 0 {
		return nil, fmt.Errorf("uploads.%s: %s", p[0].Key, p[0].Message)
	}
	if env.Now == nil {
		env.Now = time.Now
	}
	if env.Publish == nil {
		env.Publish = func(event.Event) {}
	}
	l := &Files{cfg: cfg.withDefaults(), env: env, slots: make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))}
	l.extensions = normalExtensions(cfg.Extensions)
	if cfg.ClamAV != "" {
		c, err := clamd.Parse(cfg.ClamAV)
		if err != nil {
			return nil, err
		}
		c.Timeout = time.Duration(l.cfg.ClamAVTimeout)
		l.clam = c
	}
	if cfg.Quarantine != "" {
		q, err := openQuarantine(cfg.Quarantine, time.Duration(l.cfg.QuarantineAge), int64(l.cfg.QuarantineSize), env.Now)
		if err != nil {
			return nil, err
		}
		l.quarantine = q
	}
	if l.clam != nil && l.quarantine != nil {
		l.later = newLater(l.clam, l.quarantine, env) // a route may ask for it
	}
	if l.quarantine != nil {
		l.stop = make(chan struct{})
		go l.quarantine.keep(l.stop)
	}
	return l, nil
}

// Close implements [io.Closer].
func (l *Files) Close() error {
	if l.stop != nil {
		close(l.stop)
		l.stop = nil
	}
	if l.later != nil {
		l.later.close()
	}
	return nil
}

func normalExtensions(in []string) (out []string) {
	for _, e := range in {
		out = append(out, strings.ToLower(strings.TrimPrefix(strings.TrimSpace(e), ".")))
	}
	return out
}

// CheckOverride implements [guard.OverrideChecker].
func (l *Files) CheckOverride(o *guard.Override) error {
	for key, list := range map[string][]string{"files.allow": o.Files.Allow, "files.refuse": o.Files.Refuse} {
		if what := dangerProblem(list); what != "" {
			return fmt.Errorf("%s: %s", key, what)
		}
	}
	if s := o.Files.Images; s != "" && s != "keep" && s != "reencode" {
		return fmt.Errorf("files.images: %q: write \"keep\" or \"reencode\"", s)
	}
	switch o.Files.ClamAV {
	case "", "hold", "off":
	case "later":
		if l.quarantine == nil {
			return errors.New("files.clamav: \"later\" needs uploads.quarantine: a file that is found bad later has to be kept somewhere")
		}
	default:
		return fmt.Errorf("files.clamav: %q: write \"hold\", \"later\" or \"off\"", o.Files.ClamAV)
	}
	return nil
}

// Health implements [guard.Reporter].
func (l *Files) Health() error {
	if l.clam == nil {
		return nil
	}
	h := &l.health
	h.Lock()
	defer h.Unlock()
	if now := time.Now(); h.asked.IsZero() || now.Sub(h.asked) > 5*time.Second {
		h.asked = now
		h.what, h.err = l.clam.Version(context.Background())
	}
	return h.err
}

// Describe implements [guard.Reporter].
func (l *Files) Describe() string {
	what := fmt.Sprintf("%d files looked into, %d refused", l.files.Load(), l.refused.Load())
	switch {
	case l.clam == nil:
		what += ", no malware scanner is set"
	default:
		version := "ClamAV"
		l.health.Lock()
		if l.health.what != "" {
			version = l.health.what
		}
		l.health.Unlock()
		what += fmt.Sprintf(", %d scanned by %s, %d not", l.scanned.Load(), version, l.unscanned.Load())
	}
	if l.cfg.KeepBody {
		what += "; multipart bodies reach the app as they came"
	} else {
		what += "; multipart bodies are written anew"
	}
	return what
}

// route is what holds for one request.
type route struct {
	extensions []string
	source     bool // the extensions are the app's own
	allow      []string
	refuse     []string
	keepBody   bool
	reencode   bool
	scan       string // hold, later, off
}

func (l *Files) route(x *guard.Exchange) route {
	r := route{extensions: l.extensions, allow: l.cfg.Allow, refuse: l.cfg.Refuse, keepBody: l.cfg.KeepBody, reencode: l.cfg.Images == "reencode", scan: l.cfg.ClamAVWhen}
	mode := l.cfg.Files
	if o := x.Override; o != nil {
		if len(o.Files.Extensions) > 0 {
			r.extensions = normalExtensions(o.Files.Extensions)
		}
		r.allow = append(slices.Clip(r.allow), o.Files.Allow...)
		r.refuse = append(slices.Clip(r.refuse), o.Files.Refuse...)
		r.keepBody = r.keepBody || o.Files.KeepBody
		if o.Files.Images != "" {
			r.reencode = o.Files.Images == "reencode"
		}
		if o.Files.ClamAV != "" {
			r.scan = o.Files.ClamAV
		}
		if m, ok := o.Modes[filesSpec.Name]; ok {
			mode = m
		}
	}
	if mode != guard.Enforce {
		// Who only looks changes nothing.
		r.keepBody, r.reencode = true, false
	}
	if len(r.extensions) == 0 && l.cfg.SourceExtensions != guard.Off && l.env.Policy != nil {
		r.extensions, r.source = sourceExtensions(x.Match(l.env.Policy())), true
	}
	if l.clam == nil {
		r.scan = "off"
	}
	return r
}

// sourceExtensions are those that every route that could answer compares file
// names with; nil when one of them does not, or may be another one.
func sourceExtensions(m policy.Match) (out []string) {
	for _, r := range m.Routes {
		if len(r.Extensions) == 0 {
			return nil
		}
		out = append(out, r.Extensions...)
	}
	return out
}

// Request implements [guard.Layer].
func (l *Files) Request(x *guard.Exchange) guard.Decision {
	r := x.Request
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 || x.Streams() {
		return guard.Pass()
	}
	contentType := r.Header.Get("Content-Type")
	kind := waf.MediaType(contentType)
	b, err := x.Buffer()
	switch {
	case err != nil:
		return l.unread(err)
	case b.Size() == 0:
		return guard.Pass()
	case kind == "multipart/form-data":
		return l.multipart(x, b)
	case !rawFile(kind) && !binaryBody(b.Prefix(8)):
		return guard.Pass()
	}
	name := path.Base(x.Path)
	if content.Extension(name) == "" {
		name = ""
	}
	declared := kind
	if kind == "text/plain" && content.Extension(name) != "" {
		declared = "" // what clients say who do not know
	}
	parts := []formdata.Part{{Disposition: formdata.Disposition{Filename: name, File: true}, Type: declared, Size: b.Size()}}
	d, replaced := l.inspect(x, b, parts)
	if s, ok := replaced[0]; ok && d.Verdict != guard.Deny {
		x.ReplaceBody(contentType, s.Reader, s.Size)
	}
	return d
}

// unread is the decision for a body that is not here. The body layer says so
// first, unless it is off.
func (l *Files) unread(err error) guard.Decision {
	d := bufferError(err, 0)
	if d.Status == http.StatusServiceUnavailable {
		d.Reason = "files-storage"
		return d
	}
	return guard.Pass() // the chain, or the app, has the error before it
}

// rawFile reports whether a body of this type is one file: what a client PUTs.
// Forms, JSON and XML are what other layers read.
func rawFile(kind string) bool {
	switch {
	case strings.HasPrefix(kind, "multipart/"):
		return false
	case kind == "image/svg+xml", kind == "application/xhtml+xml", strings.HasPrefix(kind, "text/") && kind != "text/xml":
		return true
	}
	return !formLike(kind)
}

// magics begin formats that are no text. A client chooses the type that it
// declares: what calls itself JSON and is an archive is looked into all the
// same, because an app may take request.data as the file.
var magics = []string{"PK\x03\x04", "MZ", "\x7fELF", "%PDF-", "\x89PNG", "\xff\xd8\xff", "GIF8", "Rar!", "7z\xbc\xaf", "\x1f\x8b", "BZh", "\xfd7zXZ", "\xd0\xcf\x11\xe0", "RIFF", "\xca\xfe\xba\xbe"}

func binaryBody(prefix []byte) bool {
	return slices.ContainsFunc(magics, func(m string) bool { return strings.HasPrefix(string(prefix), m) })
}

func (l *Files) multipart(x *guard.Exchange, b *guard.Body) guard.Decision {
	parts, err := l.cfg.parts(x)
	var syntax *formdata.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return guard.Refuse(http.StatusBadRequest, "files-multipart", oneLine(err.Error()))
	case errors.Is(err, formdata.ErrTooManyParts):
		return guard.Refuse(http.StatusRequestEntityTooLarge, "files-count", fmt.Sprintf("more than %d parts", l.cfg.MaxFiles+l.cfg.MaxFields))
	case err != nil:
		return storageFailed(err)
	}
	d, replaced := l.inspect(x, b, parts)
	if d.Verdict == guard.Deny {
		return d
	}
	if !l.route(x).keepBody {
		kind, body := formdata.Compose(b, parts, replaced)
		x.ReplaceBody(kind, body, body.Size())
	}
	return d
}

func storageFailed(err error) guard.Decision {
	d := guard.Refuse(http.StatusServiceUnavailable, "files-storage", oneLine(err.Error()))
	d.Event, d.Severity = "sys_crash", event.High
	return d
}

// inspect looks at the files among parts. replaced has the images that were
// written anew.
func (l *Files) inspect(x *guard.Exchange, b *guard.Body, parts []formdata.Part) (d guard.Decision, replaced map[int]formdata.Source) {
	var r route
	var noted []string
	var names, types []string
	for i := range parts {
		p := &parts[i]
		if !p.File || p.FileName() == "" && p.Size == 0 {
			continue // a field, or a file input that was left empty
		}
		if names == nil {
			r = l.route(x)
		}
		l.files.Add(1)
		names = append(names, quote(p.FileName()))
		v := l.one(x, b, p, r)
		types = append(types, v.kind)
		if v.refused.Verdict == guard.Deny {
			l.refused.Add(1)
			return v.refused, nil
		}
		for _, n := range v.noted {
			noted = append(noted, fmt.Sprintf("%s: %s", quote(p.FileName()), n.detail))
			if d.Verdict == guard.Allow {
				d = guard.Decision{Verdict: guard.Observed, Reason: n.reason, Severity: event.Info}
			}
		}
		if v.replaced.Reader != nil {
			if replaced == nil {
				replaced = map[int]formdata.Source{}
			}
			replaced[i] = v.replaced
		}
	}
	if names == nil {
		return d, nil
	}
	if len(noted) > 0 {
		d.Detail = oneLine(shorten(strings.Join(noted, "; ")))
	}
	if len(parts) == 1 && parts[0].Offset == 0 && (types[0] == "application/octet-stream" || strings.HasPrefix(types[0], "text/")) {
		return d, replaced // a message of some protocol, no upload
	}
	x.Note(guard.Note{Event: "upload_complete", Detail: shorten(strings.Join(names, ", ")), Attributes: map[string]string{
		"files": strconv.Itoa(len(names)), "types": shorten(strings.Join(types, ", ")),
	}})
	return d, replaced
}

func shorten(s string) string {
	const most = 1000
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// verdict is what came of one file.
type verdict struct {
	refused  guard.Decision
	noted    []note
	kind     string
	replaced formdata.Source
}

type note struct{ reason, detail string }

// one looks at one file.
func (l *Files) one(x *guard.Exchange, b *guard.Body, p *formdata.Part, r route) (v verdict) {
	name := p.FileName()
	ctx, cancel := context.WithTimeout(x.Request.Context(), time.Duration(l.cfg.InspectTimeout))
	defer cancel()
	refuse := func(status int, reason, detail string) verdict {
		v.refused = guard.Refuse(status, reason, oneLine(shorten(quote(name)+": "+detail)))
		v.refused.Attributes = map[string]string{"type": v.kind}
		return v
	}
	if len(r.extensions) > 0 {
		ext := content.Extension(name)
		if !slices.Contains(r.extensions, ext) {
			detail := fmt.Sprintf("the extension %q is none of %s", ext, strings.Join(r.extensions, ", "))
			if r.source {
				detail += ", the app's own list"
			}
			if r.source && l.cfg.SourceExtensions == guard.Observe {
				v.noted = append(v.noted, note{"file-extension", detail})
			} else {
				return refuse(http.StatusUnsupportedMediaType, "file-extension", detail)
			}
		}
	}

	// The scanner gets the file while it is looked into.
	var scanned chan scan
	if r.scan == "hold" {
		scanned = make(chan scan, 1)
		scanCtx, stop := context.WithCancel(x.Request.Context())
		defer stop()
		go func() {
			signature, err := l.clam.Scan(scanCtx, p.Content(b))
			scanned <- scan{signature, err}
		}()
		// It reads the body: nobody may take that away before it has ended.
		defer func() {
			if scanned != nil {
				stop()
				<-scanned
			}
		}()
	}

	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return refuse(http.StatusServiceUnavailable, "files-slow", "too many files are looked at already")
	}
	report, err := content.Inspect(ctx, content.File{Name: name, Type: p.Type, Data: p.Content(b), Size: p.Size}, content.Limits{
		Unpacked: int64(l.cfg.MaxUnpacked), Ratio: int64(l.cfg.MaxRatio), Entries: l.cfg.MaxEntries, Depth: l.cfg.MaxNesting, Pixels: int64(l.cfg.MaxPixels),
		Keep: func(src io.Reader) (io.ReaderAt, int64, error) {
			kept, err := x.Keep(src)
			return kept, kept.Size(), err
		},
	})
	<-l.slots
	v.kind = report.Kind.MIME
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return refuse(http.StatusUnprocessableEntity, "files-slow", fmt.Sprintf("not done after %v", l.cfg.InspectTimeout))
	case errors.Is(err, guard.ErrBodyStorage):
		v.refused = storageFailed(err)
		return v
	case err != nil && x.Request.Context().Err() != nil:
		return refuse(http.StatusBadRequest, "files-slow", "the client went away")
	case err != nil:
		v.refused = storageFailed(err)
		return v
	}
	worst := -1
	for i, f := range report.Findings {
		switch d := dangerOf(f.Danger); {
		case slices.Contains(r.allow, string(f.Danger)):
		case d.refuse || slices.Contains(r.refuse, string(f.Danger)):
			// The table of dangers begins with the most telling.
			if worst < 0 || rank(f.Danger) < rank(report.Findings[worst].Danger) {
				worst = i
			}
		default:
			v.noted = append(v.noted, note{dangerReason(f.Danger), f.String()})
		}
	}
	if worst >= 0 {
		f := report.Findings[worst]
		if v := refuse(dangerOf(f.Danger).status, dangerReason(f.Danger), f.String()); !l.keepAway(x, b, p, &v.refused) {
			return v
		}
		v.refused = guard.Decision{}
		v.noted = append(v.noted, note{dangerReason(f.Danger), f.String() + " (released by the operator)"})
	}

	switch r.scan {
	case "hold":
		s := <-scanned
		scanned = nil
		switch {
		case s.err == nil && s.signature != "":
			l.scanned.Add(1)
			if v := refuse(http.StatusUnprocessableEntity, "file-malware", s.signature); !l.keepAway(x, b, p, &v.refused) {
				v.refused.Severity = event.High
				v.refused.Attributes["signature"] = s.signature
				return v
			}
			v.refused = guard.Decision{}
			v.noted = append(v.noted, note{"file-malware", s.signature + " (released by the operator)"})
		case s.err == nil:
			l.scanned.Add(1)
		case x.Request.Context().Err() != nil:
			return refuse(http.StatusBadRequest, "files-slow", "the client went away")
		default:
			l.unscanned.Add(1)
			if l.cfg.ClamAVFailure == "open" {
				v.noted = append(v.noted, note{"file-unscanned", s.err.Error()})
				break
			}
			status := http.StatusServiceUnavailable
			if errors.Is(s.err, clamd.ErrTooLarge) {
				status = http.StatusRequestEntityTooLarge
			}
			v := refuse(status, "file-unscanned", s.err.Error())
			v.refused.Severity = event.High
			if status == http.StatusServiceUnavailable {
				v.refused.Header = http.Header{"Retry-After": {"30"}}
			}
			return v
		}
	case "later":
		if err := l.later.add(x, b, p); err != nil {
			l.unscanned.Add(1)
			if l.cfg.ClamAVFailure != "open" {
				v := refuse(http.StatusServiceUnavailable, "file-unscanned", err.Error())
				v.refused.Header = http.Header{"Retry-After": {"30"}}
				return v
			}
			v.noted = append(v.noted, note{"file-unscanned", err.Error()})
		}
	}

	if r.reencode && report.Kind.Family == content.Image {
		select {
		case l.slots <- struct{}{}:
		case <-ctx.Done():
			return refuse(http.StatusServiceUnavailable, "files-slow", "too many files are looked at already")
		}
		kept, err := rewriteImage(x, content.File{Name: name, Type: p.Type, Data: p.Content(b), Size: p.Size}, report)
		<-l.slots
		switch {
		case errors.Is(err, guard.ErrBodyStorage):
			v.refused = storageFailed(err)
			return v
		case err != nil:
			return refuse(http.StatusUnsupportedMediaType, "file-reencode", err.Error())
		}
		v.replaced = formdata.Source{Reader: kept, Size: kept.Size()}
	}
	return v
}

// rewriteImage writes an image anew into the spool.
func rewriteImage(x *guard.Exchange, f content.File, report *content.Report) (*guard.Body, error) {
	in, out := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil { // here it would end the process
				out.CloseWithError(fmt.Errorf("the decoder failed: %v", v))
			}
		}()
		out.CloseWithError(content.Reencode(out, f, report.Kind))
	}()
	kept, err := x.Keep(in)
	in.CloseWithError(errors.New("not kept"))
	<-done // it reads the body, and takes a decoder's memory
	return kept, err
}

type scan struct {
	signature string
	err       error
}

// keepAway puts a refused file into the quarantine. released reports that the
// operator has let the same file pass before.
func (l *Files) keepAway(x *guard.Exchange, b *guard.Body, p *formdata.Part, d *guard.Decision) (released bool) {
	q := l.quarantine
	if q == nil || l.modeOf(x) != guard.Enforce {
		return false
	}
	h := sha256.New()
	if _, err := io.Copy(h, p.Content(b)); err != nil {
		return false
	}
	sum := hex.EncodeToString(h.Sum(nil))
	if q.isReleased(sum) {
		return true
	}
	rec := recordOf(x, p, d.Reason, d.Detail, sum)
	rec, err := q.put(rec, p.Content(b))
	if err != nil {
		x.Note(guard.Note{Event: "sys_crash", Severity: event.High, Detail: "the file could not be put into the quarantine: " + oneLine(err.Error())})
		return false
	}
	if d.Attributes == nil {
		d.Attributes = map[string]string{}
	}
	d.Attributes["quarantine"] = rec.ID
	x.Note(guard.Note{Event: "upload_stored", Severity: event.Info, Reason: d.Reason, Detail: "kept in quarantine as " + rec.ID, Attributes: map[string]string{"quarantine": rec.ID, "sha256": sum}})
	return false
}

func (l *Files) modeOf(x *guard.Exchange) guard.Mode {
	if x.Override != nil {
		if m, ok := x.Override.Modes[filesSpec.Name]; ok {
			return m
		}
	}
	return l.cfg.Files
}
