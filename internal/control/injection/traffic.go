package injection

import (
	"bufio"
	"bytes"
	"encoding/base64"
	encjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
)

// Past is one request of past traffic, as the rules need it.
//
// The form is Dewar's own (one JSON object per line) and holds no secrets:
// values of fields that are secret by name or by shape, of every cookie, and
// of every header that is not known to be harmless are replaced by texts of
// the same shape, letters by x and digits by 0, so that the rules see the same
// signs in the same places. Contents of files are left out.
type Past struct {
	Time   time.Time   `json:"time"`
	Method string      `json:"method"`
	URI    string      `json:"uri"` // path and query, as received
	Proto  string      `json:"proto,omitempty"`
	Host   string      `json:"host,omitempty"`
	Header http.Header `json:"header,omitempty"`
	// Body is text; Base64 holds a body that is no text.
	Body   string `json:"body,omitempty"`
	Base64 []byte `json:"base64,omitempty"`
	// Denied says whether the request was refused then, and Reason why, where
	// the log tells.
	Denied bool   `json:"denied,omitempty"`
	Reason string `json:"reason,omitempty"`

	// Line is where it stood in the file, from 1.
	Line int `json:"-"`
}

// body returns the body's bytes.
func (p *Past) body() []byte {
	if len(p.Base64) > 0 {
		return p.Base64
	}
	return []byte(p.Body)
}

// recorder writes past traffic.
type recorder struct {
	sink   *event.FileSink
	redact *event.Redactor
}

// keepFiles is how many full files a recorder keeps beside the one in use.
const keepFiles = 3

func newRecorder(name string, size guard.Size) (*recorder, error) {
	if size <= 0 {
		size = 64 << 20
	}
	sink, err := event.OpenOwnFile(name, int64(size)/(keepFiles+1), keepFiles)
	if err != nil {
		return nil, fmt.Errorf("injection.record: %w", err)
	}
	return &recorder{sink: sink, redact: event.NewRedactor()}, nil
}

// harmlessHeaders are headers whose values hold no secrets. Others are
// recorded by their shape.
var harmlessHeaders = map[string]bool{
	"Accept": true, "Accept-Charset": true, "Accept-Encoding": true, "Accept-Language": true, "Cache-Control": true, "Connection": true, "Content-Encoding": true,
	"Content-Length": true, "Content-Type": true, "Expect": true, "Pragma": true, "Range": true, "Te": true, "Transfer-Encoding": true, "Upgrade": true, "User-Agent": true,
	"X-Requested-With": true, "Sec-Fetch-Site": true, "Sec-Fetch-Mode": true, "Sec-Fetch-Dest": true, "Sec-Fetch-User": true, "Dnt": true, "If-None-Match": true, "If-Modified-Since": true,
}

func (r *recorder) write(in *http.Request, uri string, body []byte, d guard.Decision, now time.Time) error {
	p := Past{Time: now.UTC(), Method: in.Method, URI: r.uri(uri), Proto: in.Proto, Host: in.Host, Header: http.Header{}}
	if d.Verdict != guard.Allow {
		p.Denied, p.Reason = true, d.Reason
	}
	for name, values := range in.Header {
		for _, v := range values {
			switch {
			case harmlessHeaders[name]:
			case name == "Cookie":
				v = maskCookies(v)
			case name == "Referer":
				if u, err := url.Parse(v); err == nil {
					u.RawQuery, u.User, u.Fragment = r.query(u.RawQuery), nil, ""
					if path := r.redact.Path(u.Path); path != u.Path {
						u.Path, u.RawPath = path, ""
					}
					v = u.String()
				} else {
					v = mask(v)
				}
			default:
				v = mask(v)
			}
			p.Header[name] = append(p.Header[name], v)
		}
	}
	if len(body) > 0 {
		body = r.body(in.Header.Get("Content-Type"), body)
		if utf8.Valid(body) {
			p.Body = string(body)
		} else {
			p.Base64 = body
		}
	}
	line, err := encjson.Marshal(&p)
	if err != nil {
		return err
	}
	return r.sink.Write(append(line, '\n'))
}

func (r *recorder) close() error { return r.sink.Close() }

// mask returns a text of the same shape.
func mask(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z':
			return 'x'
		case 'A' <= c && c <= 'Z':
			return 'X'
		case '0' <= c && c <= '9':
			return '0'
		case c >= 0x80 && c != utf8.RuneError:
			return 'ä'
		}
		return c
	}, s)
}

// value masks a value that is secret by its name or shape. Percent-encoding
// is left alone: its digits are signs of the text, not of a secret.
func (r *recorder) value(name, v string) string {
	plain, err := url.QueryUnescape(v)
	if err != nil {
		plain = v
	}
	if r.secret(name) || r.redact.Text(plain) != plain || r.redact.Path(plain) != plain {
		return escaped.ReplaceAllStringFunc(mask(v), func(string) string { return "%41" })
	}
	return v
}

// escaped finds what mask made of percent-encoded bytes.
var escaped = regexp.MustCompile(`%[0xX]{2}`)

// uri masks a request target. What is not in origin form, such as an absolute
// one with a password in it, is masked as a whole.
func (r *recorder) uri(uri string) string {
	path, query, ok := strings.Cut(uri, "?")
	if !strings.HasPrefix(path, "/") {
		path = mask(path)
	}
	path = r.redact.Path(path)
	if !ok {
		return path
	}
	return path + "?" + r.query(query)
}

func (r *recorder) query(q string) string {
	parts := strings.Split(q, "&")
	for i, part := range parts {
		name, v, ok := strings.Cut(part, "=")
		if !ok {
			parts[i] = r.value("", part)
			continue
		}
		plain, err := url.QueryUnescape(name)
		if err != nil {
			plain = name
		}
		parts[i] = r.value("", name) + "=" + r.value(plain, v)
	}
	return strings.Join(parts, "&")
}

func maskCookies(v string) string {
	parts := strings.Split(v, ";")
	for i, part := range parts {
		name, value, ok := strings.Cut(part, "=")
		if ok {
			parts[i] = name + "=" + mask(value)
		} else {
			parts[i] = mask(part)
		}
	}
	return strings.Join(parts, ";")
}

// body masks a body by its type. One that is not understood is masked as a
// whole.
func (r *recorder) body(contentType string, body []byte) []byte {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || !utf8.Valid(body) && !strings.HasPrefix(kind, "multipart/") {
		// Not what it says, perhaps compressed: names in it cannot be read.
		return []byte(mask(string(body)))
	}
	switch {
	case kind == "application/x-www-form-urlencoded":
		return []byte(r.query(string(body)))
	case kind == "application/json" || strings.HasSuffix(kind, "+json"):
		d := encjson.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		var v any
		if d.Decode(&v) != nil {
			break
		}
		if out, err := encjson.Marshal(r.masked("", v)); err == nil {
			return out
		}
	case kind == "multipart/form-data":
		if out, err := r.multipart(params["boundary"], body); err == nil {
			return out
		}
	}
	return []byte(mask(string(body)))
}

func (r *recorder) masked(name string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			inner := k
			if r.secret(name) {
				inner = name // what stands in a secret is one
			}
			out[r.value("", k)] = r.masked(inner, x)
		}
		return out
	case []any:
		for i, x := range v {
			v[i] = r.masked(name, x)
		}
	case string:
		return r.value(name, v)
	case encjson.Number:
		if s := v.String(); r.secret(name) || r.redact.Text(s) != s {
			return 0
		}
	}
	return v
}

// secret says that a name's values are secrets.
func (r *recorder) secret(name string) bool {
	return secretPlace(name) || r.redact.SecretKey(name)
}

// multipart writes the parts again, files without their contents.
func (r *recorder) multipart(boundary string, body []byte) ([]byte, error) {
	var out bytes.Buffer
	w := multipart.NewWriter(&out)
	if err := w.SetBoundary(boundary); err != nil {
		return nil, err
	}
	in := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		part, err := in.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		for name, values := range part.Header {
			for i, v := range values {
				switch {
				case name == "Content-Disposition" && part.FileName() != "":
					values[i] = v[:len(v)-len(fileNames(v))] + mask(fileNames(v))
				case name != "Content-Disposition" && name != "Content-Type":
					values[i] = mask(v)
				}
			}
		}
		to, err := w.CreatePart(part.Header)
		if err != nil {
			return nil, err
		}
		if part.FileName() != "" {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(part, 256<<10))
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(to, r.value(part.FormName(), string(text))); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// fileNames returns the part of a Content-Disposition from its file name on.
func fileNames(v string) string {
	if i := strings.Index(strings.ToLower(v), "filename"); i >= 0 {
		if eq := strings.IndexByte(v[i:], '='); eq >= 0 {
			return v[i+eq+1:]
		}
	}
	return ""
}

// maxPastLine bounds one line of a log, in bytes.
const maxPastLine = 4 << 20

// ReadPast reads past traffic and calls each with every request. It knows four
// forms, by what they look like:
//
//   - what the waf layer records (injection.record), see [Past];
//   - HAR files (version 1.2), as browsers save them;
//   - access logs in the common or combined format of nginx, Apache and
//     gunicorn, which know no bodies;
//   - Dewar's own security log with monitoring.requests on, which knows no
//     bodies and only redacted queries.
//
// Lines that are none of these are counted in skipped. An error names the
// line.
func ReadPast(r io.Reader, each func(*Past) error) (skipped int, err error) {
	br := bufio.NewReaderSize(r, 64<<10)
	if isHAR(br) {
		return 0, readHAR(br, each)
	}
	var line []byte
	for n := 1; ; n++ {
		long, err := false, error(nil)
		line, long, err = readLine(br, line[:0])
		if err != nil && !errors.Is(err, io.EOF) {
			return skipped, fmt.Errorf("line %d: %w", n, err)
		}
		if err != nil && len(line) == 0 && !long {
			return skipped, nil
		}
		if long {
			skipped++ // anybody can make a line long: the rest counts all the same
			continue
		}
		line := bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		p := pastLine(line)
		if p == nil {
			skipped++
			continue
		}
		p.Line = n
		if err := each(p); err != nil {
			return skipped, fmt.Errorf("line %d: %w", n, err)
		}
	}
}

// readLine appends the next line, without its end, to buf. long says that it
// is longer than maxPastLine, and what of it is left out.
func readLine(br *bufio.Reader, buf []byte) (line []byte, long bool, err error) {
	for {
		part, err := br.ReadSlice('\n')
		if len(buf)+len(part) > maxPastLine {
			long, buf = true, buf[:0]
		}
		if !long {
			buf = append(buf, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return buf, long, err
		}
	}
}

// ReadPastFile is [ReadPast] for a file; "-" is in.
func ReadPastFile(name string, in io.Reader, each func(*Past) error) (skipped int, err error) {
	if name == "-" {
		return ReadPast(in, each)
	}
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if skipped, err = ReadPast(f, each); err != nil {
		return skipped, fmt.Errorf("%s: %w", name, err)
	}
	return skipped, nil
}

// pastLine reads one line of a log, or returns nil.
func pastLine(line []byte) *Past {
	if line[0] == '{' {
		var x struct {
			Past
			// Of the security log.
			EventMethod string `json:"http.request.method"`
			Path        string `json:"url.path"`
			Query       string `json:"url.query"`
			Server      string `json:"server.address"`
			Agent       string `json:"user_agent.original"`
			Verdict     string `json:"dewar.verdict"`
			DewarReason string `json:"dewar.reason"`
		}
		if encjson.Unmarshal(line, &x) != nil {
			return nil
		}
		p := x.Past
		if p.Method == "" && x.EventMethod != "" && x.Path != "" {
			p = Past{Time: p.Time, Method: x.EventMethod, URI: (&url.URL{Path: x.Path}).EscapedPath(), Host: x.Server, Denied: x.Verdict == "deny", Reason: x.DewarReason}
			if x.Query != "" {
				p.URI += "?" + x.Query
			}
			if x.Agent != "" {
				p.Header = http.Header{"User-Agent": {x.Agent}}
			}
		}
		if p.Method == "" || p.URI == "" {
			return nil
		}
		return &p
	}
	m := accessLine.FindSubmatch(line)
	if m == nil {
		return nil
	}
	p := &Past{Method: string(m[2]), URI: unescapeLog(string(m[3])), Proto: string(m[4]), Header: http.Header{}}
	if t, err := time.Parse("02/Jan/2006:15:04:05 -0700", string(m[1])); err == nil {
		p.Time = t
	}
	if s := unescapeLog(string(m[7])); s != "" && s != "-" {
		p.Header.Set("Referer", s)
	}
	if s := unescapeLog(string(m[8])); s != "" && s != "-" {
		p.Header.Set("User-Agent", s)
	}
	return p
}

// accessLine is a line of the common or combined log format.
var accessLine = regexp.MustCompile(`^\S+ \S+ .*?\[([^\]]+)\] "([A-Z]{1,20}) ((?:[^"\\]|\\.)*?) (HTTP/[0-9.]+)" (\d{3}) (\S+)(?: "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)")?`)

// unescapeLog undoes what servers write for characters that would break a
// line: \x22, \", \\.
func unescapeLog(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			if s[i+1] == 'x' && i+3 < len(s) {
				var c byte
				if _, err := fmt.Sscanf(s[i+2:i+4], "%02x", &c); err == nil {
					b.WriteByte(c)
					i += 3
					continue
				}
			}
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isHAR says that the file is a HAR file, by its beginning.
func isHAR(br *bufio.Reader) bool {
	head, _ := br.Peek(512)
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n{")
	return bytes.HasPrefix(head, []byte(`"log"`))
}

// maxHAR bounds a HAR file, in bytes.
const maxHAR = 256 << 20

// readHAR reads a HAR file.
func readHAR(r io.Reader, each func(*Past) error) error {
	var har struct {
		Log struct {
			Entries []struct {
				Started time.Time `json:"startedDateTime"`
				Request struct {
					Method  string `json:"method"`
					URL     string `json:"url"`
					Proto   string `json:"httpVersion"`
					Headers []struct{ Name, Value string }
					Post    *struct {
						Mime   string `json:"mimeType"`
						Text   string `json:"text"`
						Coding string `json:"encoding"`
						Params []struct{ Name, Value string }
					} `json:"postData"`
				} `json:"request"`
			} `json:"entries"`
		} `json:"log"`
	}
	head, err := io.ReadAll(io.LimitReader(r, maxHAR+1))
	if err != nil {
		return err
	}
	if len(head) > maxHAR {
		return fmt.Errorf("a HAR file of more than %d MiB", maxHAR>>20)
	}
	if err := encjson.Unmarshal(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), &har); err != nil {
		return fmt.Errorf("a HAR file that cannot be read: %w", err)
	}
	for i, e := range har.Log.Entries {
		u, err := url.Parse(e.Request.URL)
		if err != nil || e.Request.Method == "" {
			continue
		}
		p := &Past{Time: e.Started, Method: e.Request.Method, URI: u.RequestURI(), Proto: e.Request.Proto, Host: u.Host, Header: http.Header{}, Line: i + 1}
		for _, h := range e.Request.Headers {
			// HTTP/2's pseudo-headers are in there, too.
			if !strings.HasPrefix(h.Name, ":") && !strings.EqualFold(h.Name, "Host") {
				p.Header.Add(h.Name, h.Value)
			}
		}
		if post := e.Request.Post; post != nil {
			p.Body = post.Text
			if post.Coding == "base64" {
				if b, err := base64.StdEncoding.DecodeString(post.Text); err == nil {
					p.Body, p.Base64 = "", b
				}
			}
			if p.Body == "" && len(post.Params) > 0 {
				form := url.Values{}
				for _, x := range post.Params {
					form.Add(x.Name, x.Value)
				}
				p.Body = form.Encode()
			}
			if p.Header.Get("Content-Type") == "" && post.Mime != "" {
				p.Header.Set("Content-Type", post.Mime)
			}
		}
		if err := each(p); err != nil {
			return fmt.Errorf("entry %d: %w", i+1, err)
		}
	}
	return nil
}

// sortedKeys returns the keys of m in order.
func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
