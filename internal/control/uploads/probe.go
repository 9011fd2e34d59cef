package uploads

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"mime"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe"
)

var checks = []*probe.Check{
	{
		ID:       "upload-size",
		Control:  "uploads",
		Asks:     "Is a request refused that announces a terabyte?",
		Why:      "A body without a limit fills memory and disk, and holds a worker for as long as it comes (CWE-400).",
		Fix:      "Set MAX_CONTENT_LENGTH, or let the guard's body layer enforce uploads.max-body.",
		CWE:      []int{400, 770},
		Requests: findRequests + 1,
		Partial:  true, // a body that announces nothing may be of any size
		Writes:   true,
		Run:      askSize,
	},
	{
		ID:       "upload-active-content",
		Control:  "uploads",
		Asks:     "Does a page that was uploaded come back as a page of the site?",
		Why:      "A visitor who opens it runs its script in the site's name, with the account of whoever looks (CWE-434, CWE-79).",
		Fix:      "Let the guard's files layer enforce and refuse html and svg-script, serve uploads with Content-Disposition: attachment and X-Content-Type-Options: nosniff, or from another host.",
		CWE:      []int{434, 79},
		Requests: findRequests + 50,
		Partial:  true, // of the forms that a visitor without an account can use
		Writes:   true,
		Run:      askActive,
	},
	{
		ID:       "upload-path",
		Control:  "uploads",
		Asks:     "Does a file called ../name land outside of the folder for uploads?",
		Why:      "Whoever chooses the folder writes over the app's own files, or where they are run (CWE-22).",
		Fix:      "Use werkzeug.utils.secure_filename or a name of your own; let the guard's body layer enforce.",
		CWE:      []int{22, 434},
		Requests: findRequests + 24,
		Partial:  true,
		Writes:   true,
		Run:      askPath,
	},
	{
		ID:       "upload-malware",
		Control:  "uploads",
		Asks:     "Is the EICAR test file taken?",
		Why:      "What nobody scans is handed on to everybody who opens it (CWE-434).",
		Fix:      "Set uploads.clamav to the address of ClamAV's daemon.",
		CWE:      []int{434},
		Requests: findRequests + 8,
		Partial:  true,
		Writes:   true,
		Run:      askMalware,
	},
}

// findRequests is how many requests it takes at most to find forms.
const findRequests = 14

// maxPages is how many pages are searched for a form, maxForms how many forms
// get files.
const (
	maxPages = 8
	maxForms = 2
)

// form is one place that takes a file from a visitor.
type form struct {
	page   *probe.Response // where it stands
	target string
	field  string
	values url.Values // its other fields
	cookie string
}

// uploadWords stand in links to pages that take files.
var uploadWords = []string{"upload", "file", "attach", "import", "picture", "photo", "image", "avatar", "media", "document", "submit", "new", "add", "contact", "support", "apply", "share"}

// forms finds where a visitor who has not logged in may send files: on the
// front page, on pages that it links to, and, if the project's route map is at
// hand, by routes that read a file.
func forms(ctx context.Context, c *probe.Client) (found []form, why string) {
	home, why := c.Welcome(ctx)
	if why != "" {
		return nil, why
	}
	seen := map[string]bool{}
	read := func(r *probe.Response) {
		for _, f := range probe.ParsePage(r.Body).Forms {
			file := slices.IndexFunc(f.Fields, func(x probe.Field) bool { return x.Type == "file" })
			target, own := c.Target(r, f.Action)
			if file < 0 || f.Method != http.MethodPost || f.Password() || !own || seen[target] {
				continue
			}
			seen[target] = true
			values := url.Values{}
			for _, x := range f.Fields {
				switch x.Type {
				case "file", "submit", "button", "checkbox", "radio", "image", "reset":
				case "email":
					values.Set(x.Name, "probe@dewar-probe.invalid")
				case "hidden":
					values.Set(x.Name, x.Value)
				default:
					values.Set(x.Name, firstOf(x.Value, "dewar probe"))
				}
			}
			found = append(found, form{page: r, target: target, field: f.Fields[file].Name, values: values})
		}
	}
	if home.HTML() {
		read(home)
	}
	asked := 0
	for _, link := range pagesOf(c, home) {
		if asked == maxPages || len(found) >= maxForms {
			break
		}
		asked++
		if r, err := c.Visit(ctx, link); err == nil && r.Status == http.StatusOK && r.HTML() {
			read(r)
		}
	}
	for _, u := range c.UploadRoutes() {
		if !seen[u.Path] && len(found) < maxForms {
			seen[u.Path] = true
			found = append(found, form{page: home, target: u.Path, field: u.Field, values: url.Values{}})
		}
	}
	if len(found) == 0 {
		return nil, "could not tell: no form for files was found that is open to visitors without an account"
	}
	found = found[:min(len(found), maxForms)]
	cookies, _ := c.Cookies(ctx)
	for i := range found {
		found[i].cookie = probe.Sent(cookies, found[i].page)
	}
	return found, ""
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// pagesOf lists the pages that a page links to, those first whose paths speak
// of files. Links that could do something are left out.
func pagesOf(c *probe.Client, r *probe.Response) (out []string) {
	var others []string
	for _, l := range probe.ParsePage(r.Body).Links {
		t, own := c.Target(r, l)
		lower := strings.ToLower(t)
		if !own || slices.Contains(out, t) || slices.Contains(others, t) || strings.Contains(lower, "logout") || strings.Contains(lower, "delete") || strings.Contains(lower, "remove") || strings.Contains(lower, "/static/") {
			continue
		}
		if slices.ContainsFunc(uploadWords, func(w string) bool { return strings.Contains(lower, w) }) {
			out = append(out, t)
		} else {
			others = append(others, t)
		}
	}
	return append(out, others...)
}

// specimen is one file to send.
type specimen struct {
	name, kind, text string
	marker           string // stands in text, and nowhere else
}

// body writes the form with the file in it.
func (f form) body(x specimen) (body, kind string) {
	boundary := probe.Nonce() + probe.Nonce()
	var b strings.Builder
	for name, values := range f.values {
		for _, v := range values {
			fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n", boundary, quotedName(name), v)
		}
	}
	fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"%s\"\r\nContent-Type: %s\r\n\r\n%s\r\n--%s--\r\n", boundary, quotedName(f.field), quotedName(x.name), x.kind, x.text, boundary)
	return b.String(), "multipart/form-data; boundary=" + boundary
}

// quotedName escapes a name as browsers do.
func quotedName(s string) string {
	return strings.NewReplacer(`"`, "%22", "\r", "%0D", "\n", "%0A").Replace(s)
}

func (f form) header(c *probe.Client, kind string) http.Header {
	h := http.Header{
		"Content-Type": {kind}, "Origin": {c.Origin()}, "Referer": {f.page.URL},
		"Sec-Fetch-Site": {"same-origin"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"},
	}
	if f.cookie != "" {
		h.Set("Cookie", f.cookie)
	}
	return h
}

// send sends one file, as the form's own page would, and returns the answer and
// the text of the page that it leads to.
func (f form) send(ctx context.Context, c *probe.Client, x specimen) (r *probe.Response, text []byte, err error) {
	body, kind := f.body(x)
	r, err = c.Do(ctx, probe.Request{Method: http.MethodPost, Path: f.target, Body: body, Header: f.header(c, kind)})
	if err != nil {
		return nil, nil, err
	}
	text = r.Body
	if next, ok := c.Own(r.Location()); ok {
		text = append(slices.Clone(text), " "+next+" "...)
		if page, err := f.get(ctx, c, next); err == nil {
			text = append(text, page.Body...)
		}
	}
	return r, text, nil
}

func (f form) get(ctx context.Context, c *probe.Client, target string) (*probe.Response, error) {
	h := http.Header{}
	if f.cookie != "" {
		h.Set("Cookie", f.cookie)
	}
	return c.Do(ctx, probe.Request{Path: target, Header: h})
}

// taken says what an answer to an upload means. A redirection to the login says
// that nobody looked at the file.
func taken(c *probe.Client, r *probe.Response) (ok bool, why string) {
	switch {
	case r.Refused():
		return false, fmt.Sprintf("the site answers %d", r.Status)
	case r.Status >= 400:
		return false, fmt.Sprintf("it is answered with %d", r.Status)
	}
	if to, own := c.Own(r.Location()); own {
		for _, w := range []string{"login", "signin", "sign-in", "auth"} {
			if strings.Contains(strings.ToLower(to), w) {
				return false, "it needs an account"
			}
		}
	}
	return true, ""
}

// guesses are folders under which uploads are often served.
var guesses = []string{"/static/uploads/", "/uploads/", "/media/", "/files/", "/static/"}

var targetText = regexp.MustCompile(`(?i)(?:(?:src|href|data|poster|content)\s*=\s*["']?|["'(])((?:https?://|/)[^"'\s<>()\\]+)`)

// locate looks for a file that was taken: at what the answer calls it, at new
// addresses in the answer, and in a folder where another one was found.
func (f form) locate(ctx context.Context, c *probe.Client, x specimen, text []byte, folders []string, most int) *probe.Response {
	var targets []string
	add := func(link string) {
		if t, ok := c.Target(f.page, link); ok && !slices.Contains(targets, t) && t != f.target {
			targets = append(targets, t)
		}
	}
	base := path.Base(x.name)
	named := regexp.MustCompile(`[^\s"'<>()\\=]*` + regexp.QuoteMeta(base) + `[^\s"'<>()\\]*`)
	for _, m := range named.FindAllString(string(text), 3) {
		if strings.Contains(m, "/") {
			add(m)
		}
	}
	for _, folder := range folders {
		add(folder + url.PathEscape(base))
	}
	for _, m := range targetText.FindAllSubmatch(text, 200) {
		if !bytes.Contains(f.page.Body, m[1]) {
			add(string(m[1]))
		}
	}
	for _, t := range targets[:min(len(targets), most)] {
		r, err := f.get(ctx, c, t)
		if err == nil && r.Status == http.StatusOK && bytes.Contains(r.Body, []byte(x.marker)) {
			return r
		}
	}
	return nil
}

// picture is the smallest PNG, with the marker in a comment.
func picture(marker string) string {
	chunk := func(kind, data string) string {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
		b = append(b, kind+data...)
		return string(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE([]byte(kind+data))))
	}
	return "\x89PNG\r\n\x1a\n" + chunk("IHDR", "\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00") + chunk("tEXt", "Comment\x00"+marker) +
		chunk("IDAT", "\x78\x9c\x63\x60\x00\x00\x00\x02\x00\x01") + chunk("IEND", "")
}

// honest is a file that a form for pictures takes.
func honest() specimen {
	n := probe.Nonce()
	return specimen{name: n + ".png", kind: "image/png", text: picture(n), marker: n}
}

// begin finds the forms, if files may be sent at all.
func begin(ctx context.Context, c *probe.Client) ([]form, string) {
	found, why := forms(ctx, c)
	if why == "" && c.Uploads() == "" {
		why = fmt.Sprintf("could not tell: %d forms for files were found, and none was sent: --uploads lets the probe leave harmless files on the site", len(found))
	}
	return found, why
}

// trial is a form that took an honest file, and where that came back.
type trial struct {
	form
	folders []string // "" of a file that was not found again
}

// try sends an honest file: a refusal of another one proves something only if
// this is taken.
func (f form) try(ctx context.Context, c *probe.Client) (t trial, why string) {
	x := honest()
	r, text, err := f.send(ctx, c, x)
	if err != nil {
		return t, err.Error()
	}
	if ok, why := taken(c, r); !ok {
		return t, "an honest picture is not taken: " + why
	}
	t = trial{form: f}
	if at := f.locate(ctx, c, x, text, guesses, 8); at != nil {
		if u, err := url.Parse(at.URL); err == nil && path.Base(u.Path) == x.name {
			t.folders = []string{strings.TrimSuffix(u.Path, x.name)}
		} else {
			t.folders = []string{}
		}
	}
	return t, ""
}

// askActive sends pages and drawings whose script does nothing, and looks how
// they come back.
func askActive(ctx context.Context, c *probe.Client) []probe.Answer {
	found, why := begin(ctx, c)
	if why != "" {
		return []probe.Answer{{Summary: why}}
	}
	var out []probe.Answer
	for _, f := range found {
		t, why := f.try(ctx, c)
		if why != "" {
			out = append(out, probe.Answer{Summary: "could not tell about " + f.target + ": " + why, URL: c.URL(f.target)})
			continue
		}
		out = append(out, t.active(ctx, c)...)
	}
	return out
}

func (t trial) active(ctx context.Context, c *probe.Client) []probe.Answer {
	page := func(n string) string { return "<!doctype html><title>" + n + "</title><script>\"" + n + "\"</script>" }
	var (
		out             []probe.Answer
		refused, served []string
		unclear         []string
	)
	for _, v := range []struct{ what, ext, kind string }{
		{"a page", ".html", "text/html"}, {"a page called a picture", ".png.html", "image/png"}, {"a drawing with a script", ".svg", "image/svg+xml"}, {"a page as a picture", ".png", "image/png"},
	} {
		n := probe.Nonce()
		x := specimen{name: n + v.ext, kind: v.kind, text: page(n), marker: "<script>\"" + n + "\"</script>"}
		if v.ext == ".svg" {
			x.text = `<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"><script>"` + n + `"</script></svg>`
		}
		r, text, err := t.send(ctx, c, x)
		if err != nil {
			unclear = append(unclear, v.what+" ("+err.Error()+")")
			continue
		}
		if ok, why := taken(c, r); !ok {
			if r.Refused() {
				unclear = append(unclear, v.what+" ("+why+")")
			} else {
				refused = append(refused, v.what)
			}
			continue
		}
		at := t.locate(ctx, c, x, text, t.folders, 4)
		switch {
		case at == nil:
			unclear = append(unclear, v.what+" (not found again)")
		case runs(at):
			out = append(out, probe.Answer{
				Outcome: evidence.Fail, URL: at.URL, Seen: seenType(at),
				Summary: fmt.Sprintf("%s that %s took comes back so that its script runs in the site's name", v.what, t.target),
			})
		default:
			served = append(served, v.what+" as "+seenKind(at))
		}
	}
	switch {
	case len(out) > 0:
	case len(unclear) > 0:
		out = append(out, probe.Answer{URL: c.URL(t.target), Summary: "could not tell about " + strings.Join(unclear, ", ") + " at " + t.target})
	default:
		s := t.target + " takes a picture"
		if len(refused) > 0 {
			s += " and refuses " + strings.Join(refused, ", ")
		}
		if len(served) > 0 {
			s += "; it serves " + strings.Join(served, ", ")
		}
		out = append(out, probe.Answer{Outcome: evidence.Pass, URL: c.URL(t.target), Summary: s})
	}
	return out
}

func seenKind(r *probe.Response) string {
	s := firstOf(r.Header.Get("Content-Type"), "no type")
	if d, _, _ := mime.ParseMediaType(r.Header.Get("Content-Disposition")); d != "" {
		s += ", " + d
	}
	return s
}

func seenType(r *probe.Response) string {
	var lines []string
	for _, n := range []string{"Content-Type", "Content-Disposition", "X-Content-Type-Options", "Content-Security-Policy"} {
		if v := r.Header.Get(n); v != "" {
			lines = append(lines, n+": "+v)
		} else {
			lines = append(lines, "no "+n)
		}
	}
	return strings.Join(lines, "\n")
}

// runs reports whether a browser that is led to an answer runs script in it
// with the site's own rights.
func runs(r *probe.Response) bool {
	if d, _, _ := mime.ParseMediaType(r.Header.Get("Content-Disposition")); d != "" && d != "inline" {
		return false
	}
	for _, policy := range r.Header.Values("Content-Security-Policy") {
		if confined(policy) {
			return false
		}
	}
	kind, _, _ := strings.Cut(strings.ToLower(r.Header.Get("Content-Type")), ";")
	switch kind = strings.TrimSpace(kind); {
	case kind == "text/html", kind == "image/svg+xml", kind == "text/xml", kind == "application/xml", strings.HasSuffix(kind, "+xml"):
		return true
	case kind == "" || !strings.Contains(kind, "/"):
		return !strings.EqualFold(strings.TrimSpace(r.Header.Get("X-Content-Type-Options")), "nosniff")
	}
	return false
}

// confined reports whether a policy keeps every inline script from running, or
// puts the answer into an origin of its own.
func confined(policy string) bool {
	directives := map[string][]string{}
	for d := range strings.SplitSeq(policy, ";") {
		if words := strings.Fields(strings.ToLower(d)); len(words) > 0 && directives[words[0]] == nil {
			directives[words[0]] = append([]string{}, words[1:]...)
		}
	}
	if s, ok := directives["sandbox"]; ok && (!slices.Contains(s, "allow-scripts") || !slices.Contains(s, "allow-same-origin")) {
		return true
	}
	for _, name := range []string{"script-src-elem", "script-src", "default-src"} {
		if s, ok := directives[name]; ok {
			return !slices.Contains(s, "'unsafe-inline'") || slices.ContainsFunc(s, func(w string) bool {
				return strings.HasPrefix(w, "'nonce-") || strings.HasPrefix(w, "'sha") || w == "'strict-dynamic'"
			})
		}
	}
	return false
}

// askPath sends an honest picture whose name leads one folder up.
func askPath(ctx context.Context, c *probe.Client) []probe.Answer {
	found, why := begin(ctx, c)
	if why != "" {
		return []probe.Answer{{Summary: why}}
	}
	var out []probe.Answer
	for _, f := range found {
		a := probe.Answer{URL: c.URL(f.target)}
		t, why := f.try(ctx, c)
		if why != "" {
			a.Summary = "could not tell about " + f.target + ": " + why
			out = append(out, a)
			continue
		}
		x := honest()
		x.name = "../" + x.name
		r, text, err := t.send(ctx, c, x)
		if err != nil {
			a.Summary = "could not tell: " + err.Error()
			out = append(out, a)
			continue
		}
		ok, why := taken(c, r)
		switch {
		case r.Refused():
			a.Summary = "could not tell: " + why
		case !ok:
			a.Outcome, a.Summary = evidence.Pass, fmt.Sprintf("%s takes a picture and refuses it under a name with a path", f.target)
			a.Seen = r.Line()
		case len(t.folders) == 0:
			a.Summary = "could not tell: " + f.target + " takes a name with a path, and pictures are not found again under their names"
		default:
			above := path.Dir(strings.TrimSuffix(t.folders[0], "/"))
			if above != "/" {
				above += "/"
			}
			base := path.Base(x.name)
			if up, err := t.get(ctx, c, above+base); err == nil && up.Status == http.StatusOK && bytes.Contains(up.Body, []byte(x.marker)) {
				a.Outcome, a.URL = evidence.Fail, up.URL
				a.Summary = fmt.Sprintf("a file that was called ../%s lies one folder above the uploads of %s", base, f.target)
			} else if at := t.locate(ctx, c, x, text, []string{t.folders[0], t.folders[0] + ".._", t.folders[0] + "_"}, 5); at != nil {
				a.Outcome, a.Summary = evidence.Pass, f.target+" takes a name with a path, and keeps the file in its folder"
				a.URL = at.URL
			} else {
				a.Summary = "could not tell: " + f.target + " takes a name with a path, and the file is not found again"
			}
		}
		out = append(out, a)
	}
	return out
}

// eicar is the test file that every scanner knows, put together here so that
// none finds it in the program.
func eicar() string {
	return strings.Join([]string{`X5O!P%@AP[4\PZX54(P^)7CC)7}$`, "EICAR", "-STANDARD-", "ANTIVIRUS", "-TEST-FILE!$H+H*"}, "")
}

// askMalware compares a text with the test file under the same kind of name.
func askMalware(ctx context.Context, c *probe.Client) []probe.Answer {
	found, why := begin(ctx, c)
	if why == "" && c.Uploads() != "eicar" {
		why = "could not tell: the EICAR test file was not sent: --uploads=eicar allows it"
	}
	if why != "" {
		return []probe.Answer{{Summary: why}}
	}
	var out []probe.Answer
	for _, f := range found {
		a := probe.Answer{URL: c.URL(f.target)}
		send := func(text string) (*probe.Response, bool, string) {
			r, _, err := f.send(ctx, c, specimen{name: probe.Nonce() + ".txt", kind: "text/plain", text: text})
			if err != nil {
				return nil, false, err.Error()
			}
			ok, why := taken(c, r)
			return r, ok, why
		}
		if _, ok, why := send("a harmless text of dewar probe\n"); !ok {
			a.Summary = "could not tell: " + f.target + " takes no text: " + why
		} else if r, ok, why := send(eicar()); ok {
			a.Outcome, a.Seen = evidence.Fail, r.Line()
			a.Summary = f.target + " takes the EICAR test file"
		} else if r == nil || r.Refused() {
			a.Summary = "could not tell: " + why
		} else {
			a.Outcome, a.Seen = evidence.Pass, r.Line()
			a.Summary = f.target + " takes a text and refuses the EICAR test file"
		}
		out = append(out, a)
	}
	return out
}

// announced is what askSize says that it will send.
const announced = 1 << 40

// askSize announces a body and waits whether the site asks for it. Nothing of
// it is sent, and the connection ends after the answer.
func askSize(ctx context.Context, c *probe.Client) []probe.Answer {
	home, why := c.Welcome(ctx)
	if why != "" {
		return []probe.Answer{{Summary: why}}
	}
	f := form{page: home, target: strings.TrimPrefix(home.URL, c.Origin()), field: "file"}
	if found, why := forms(ctx, c); why == "" {
		f = found[0]
	} else if page, login, ok := c.Login(ctx); ok {
		if t, own := c.Target(page, login.Action); own {
			f.page, f.target = page, t
		}
	}
	lines := []string{}
	for name, v := range f.header(c, "multipart/form-data; boundary="+probe.Nonce()) {
		lines = append(lines, name+": "+v[0])
	}
	slices.Sort(lines)
	r, err := c.Raw(ctx, probe.RawRequest{Method: http.MethodPost, Target: f.target, Header: lines, Announce: announced})
	if err != nil {
		return []probe.Answer{{Summary: "could not tell: " + err.Error(), URL: c.URL(f.target)}}
	}
	a := probe.Answer{URL: c.URL(f.target), Seen: fmt.Sprintf("Content-Length: %d, Expect: 100-continue: %s", int64(announced), r.Line())}
	switch {
	case r.Status == http.StatusRequestEntityTooLarge:
		a.Outcome, a.Summary = evidence.Pass, "a body of a terabyte is refused with 413 before any of it is sent"
	case r.Status == http.StatusContinue:
		a.Outcome, a.Summary = evidence.Fail, "the site asks for a body of a terabyte, and waits for it"
	default:
		a.Summary = fmt.Sprintf("could not tell: a POST to %s is answered with %d whatever its size", f.target, r.Status)
	}
	return []probe.Answer{a}
}
