package deployment

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/percent"
	"github.com/dewar-security/dewar/internal/wire"
)

// Limits of the request layer. They are far above what browsers send and
// below what makes gunicorn answer for itself (100 fields of 8190 bytes, and
// a few fields are ours).
const (
	maxFields     = 80   // header fields, each line counted
	maxTarget     = 8000 // bytes of path and query
	maxParameters = 1000 // parameters in the query
	maxRanges     = 10   // ranges in one Range header
)

var requestSpec = &guard.Spec{
	Name:     "request",
	Control:  "deployment",
	Does:     "Refuses requests that two parsers could read differently, and takes away header fields that would control the app's server.",
	Blocking: true,
	Failure:  guard.FailClosed,
	Event:    "input_validation_fail",
	Reasons: append([]guard.Reason{
		{
			Name: "request-method",
			Why:  "The method is not among those the app serves; TRACE and CONNECT would turn the guard into a mirror or a tunnel.",
			Fix:  "Add the method to deployment.methods; TRACE, CONNECT and PRI cannot be added.",
		},
		{
			Name: "request-target",
			Why:  "The request line names no path of this site: *, a whole URL, a fragment, or bytes that must be percent-encoded (RFC 9112 section 3.2); the app's server would read another path from it than the guard.",
			Fix:  "Only proxies and attack tools send these: correct the client.",
		},
		{
			Name: "request-host",
			Why:  "The Host is missing, doubled or not a host name, so that links and redirects made from it could lead anywhere.",
			Fix:  "Correct the client; every HTTP/1.1 client sends one valid Host.",
		},
		{
			Name: "request-path",
			Why:  "The path holds a dot segment, an encoded slash, a backslash, a control character or two leading slashes: the app sees another path than the one that rules were matched against.",
			Fix:  "Let the app put such values into the query, or set modes = { request = \"observe\" } for the route.",
		},
		{
			Name: "request-encoding",
			Why:  "The path is not valid percent-encoded UTF-8: Werkzeug replaces what it cannot decode, and different paths become one.",
			Fix:  "Percent-encode the path as UTF-8.",
		},
		{
			Name: "request-repeated",
			Why:  "A header field that may occur once occurs twice; the guard would check one, the app use the other.",
			Fix:  "Send the field once.",
		},
		{
			Name: "request-upgrade",
			Why:  "The protocol switch is not a well-formed WebSocket handshake (RFC 6455 section 4.1); after a switch the guard sees no more requests.",
			Fix:  "Correct the client; only GET over HTTP/1.1 can start a WebSocket.",
		},
		{
			Name: "request-limit",
			Why:  "More header fields, parameters or bytes in the request line than any browser sends; parsing them costs the app's worker.",
			Fix:  "Shorten the request: the limits are 80 fields, 1000 parameters and 8000 bytes of path and query.",
		},
	}, wireReasons()...),
}

// wireReasons are those for which no request gets as far as the layer. They
// stand in every mode: what has no unambiguous reading cannot be passed on.
func wireReasons() (out []guard.Reason) {
	for _, r := range wire.Reasons {
		out = append(out, guard.Reason{Name: r.Name, Why: r.Why, Fix: r.Fix})
	}
	return out
}

// strayHeaders reach no app: the server or a framework would let them change
// what was asked for after the guard has looked. Fields with an underscore
// need no list, they all go: gunicorn takes SCRIPT_NAME and PATH_INFO from
// unix-socket peers literally, and before 22.0 made X_Forwarded_For and
// X-Forwarded-For one variable.
var strayHeaders = setOf(
	"Proxy",                            // httpoxy (CVE-2016-5385): becomes HTTP_PROXY
	"X-Original-Url", "X-Original-Uri", // another path than the one checked
	"X-Rewrite-Url", "X-Override-Url",
	"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", // another method
	"Script-Name", "Path-Info",
	"Http2-Settings", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate",
	"Keep-Alive", "Te", "Trailer",
	"Expect", // net/http has answered it; the app's server would answer it again
)

// singleHeaders may occur once. What gunicorn joins with a comma, or refuses
// since 26.1, another parser reads first or last.
var singleHeaders = setOf(
	"Content-Type", "Content-Length", "Content-Encoding", "Content-Disposition", "Authorization", "Origin", "Referer",
	"Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Access-Control-Request-Method",
	"User-Agent", "Range", "If-Range", "X-Requested-With",
)

// overrideHeaders let a POST be another method to apps that ask for them.
var overrideHeaders = setOf("X-Http-Method-Override", "X-Http-Method", "X-Method-Override")

func setOf(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[http.CanonicalHeaderKey(n)] = true
	}
	return m
}

// request is the first layer: one unambiguous request, or none.
type request struct {
	methods  map[string]bool
	override bool
	allow    string
	dropped  atomic.Uint64
}

// NewRequest makes the request layer.
func NewRequest(cfg Config, _ guard.Env) (guard.Layer, error) {
	l := &request{methods: map[string]bool{}, override: cfg.Override}
	methods := cfg.Methods
	if len(methods) == 0 {
		methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
	}
	for _, m := range methods {
		if err := checkMethod(m); err != nil {
			return nil, fmt.Errorf("deployment.methods: %w", err)
		}
		l.methods[m] = true
	}
	l.allow = strings.Join(methods, ", ")
	return l, nil
}

// checkMethod reports why the app cannot be given the method m.
func checkMethod(m string) error {
	switch m {
	case "TRACE", "CONNECT", "PRI":
		return fmt.Errorf("%s never reaches an app: remove it", m)
	}
	if m == "" || strings.Trim(m, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
		return fmt.Errorf("%q is not a method: write it in capital letters, such as \"PATCH\"", m)
	}
	return nil
}

// Request implements [guard.Layer].
func (l *request) Request(x *guard.Exchange) guard.Decision {
	r := x.Request
	// Set before anything is refused: overrides match on it, and in observe
	// mode the next layers work with it.
	x.Path = r.URL.Path

	target := r.RequestURI
	if target == "" {
		target = r.URL.RequestURI()
	}
	if !l.methods[r.Method] {
		d := guard.Refuse(http.StatusMethodNotAllowed, "request-method", "method "+clip(r.Method))
		d.Header = http.Header{"Allow": {l.allow}}
		return l.fields(x, d)
	}
	if len(target) > maxTarget {
		return l.fields(x, guard.Refuse(http.StatusRequestURITooLong, "request-limit", fmt.Sprintf("%d bytes of path and query", len(target))))
	}
	if target == "" || target[0] != '/' {
		return l.fields(x, guard.Refuse(http.StatusBadRequest, "request-target", "target "+clip(target)))
	}
	if i := strings.IndexFunc(target, notInTarget); i >= 0 {
		return l.fields(x, guard.Refuse(http.StatusBadRequest, "request-target", fmt.Sprintf("byte %#02x in the target", target[i])))
	}
	path, query, _ := strings.Cut(target, "?")
	if strings.Count(query, "&") >= maxParameters {
		return l.fields(x, guard.Refuse(http.StatusBadRequest, "request-limit", "more than 1000 parameters in the query"))
	}
	decoded, reason, detail := checkPath(path)
	if decoded != "" {
		x.Path = decoded
	}
	if reason != "" {
		return l.fields(x, guard.Refuse(http.StatusBadRequest, reason, detail))
	}
	// The query goes on byte for byte: a proxy that parses and prints it
	// would drop ?a=1;b=2, and the app see another query than the WAF.
	r.URL.RawQuery = query
	return l.fields(x, l.host(r))
}

// notInTarget reports characters that RFC 3986 does not let stand in a
// request target. | ^ [ ] ` { } and " do not either, but browsers send some of
// them and they mean themselves to every parser.
func notInTarget(c rune) bool {
	return c <= ' ' || c >= 0x7f || c == '#'
}

// host refuses a Host that is missing, doubled or malformed.
func (l *request) host(r *http.Request) guard.Decision {
	// HTTP/2 carries the host in :authority; a Host field beside it that says
	// something else is a second opinion.
	if other, ok := r.Header["Host"]; ok {
		if len(other) != 1 || !strings.EqualFold(other[0], r.Host) {
			return guard.Refuse(http.StatusBadRequest, "request-host", fmt.Sprintf("host %s, and Host %s", clip(r.Host), clip(strings.Join(other, ", "))))
		}
		delete(r.Header, "Host")
	}
	if _, _, err := guard.SplitAuthority(r.Host); err != nil {
		return guard.Refuse(http.StatusBadRequest, "request-host", fmt.Sprintf("Host %s: %v", clip(r.Host), err))
	}
	return guard.Pass()
}

// fields takes away what must not reach the app and refuses what is left
// unclear. It runs even after an earlier refusal d, because in observe mode
// the request goes on and its fields must be clean all the same.
func (l *request) fields(x *guard.Exchange, d guard.Decision) guard.Decision {
	r := x.Request
	refuse := func(status int, reason, detail string) {
		if d.Verdict == guard.Allow {
			d = guard.Refuse(status, reason, detail)
		}
	}

	upgrade, connection := r.Header["Upgrade"], r.Header["Connection"]
	// Connection is removed and not obeyed: the fields that are for one
	// connection only are known (strayHeaders), and a client that names
	// X-Forwarded-For or Cookie in it wants the next proxy to lose ours.
	delete(r.Header, "Connection")
	if len(upgrade) > 0 {
		delete(r.Header, "Upgrade")
		// Anything but WebSocket is ignored, as RFC 9110 section 7.8 allows:
		// a backend that speaks h2c would open a tunnel past the guard.
		if len(upgrade) == 1 && strings.EqualFold(strings.TrimSpace(upgrade[0]), "websocket") && names(connection, "upgrade") {
			if r.Method != http.MethodGet || !r.ProtoAtLeast(1, 1) || r.ProtoMajor != 1 || r.ContentLength != 0 ||
				r.Header.Get("Sec-Websocket-Key") == "" || r.Header.Get("Sec-Websocket-Version") != "13" {
				refuse(http.StatusBadRequest, "request-upgrade", fmt.Sprintf("%s %s with Upgrade: websocket, Sec-WebSocket-Version %s", clip(r.Method), r.Proto, clip(r.Header.Get("Sec-Websocket-Version"))))
			} else {
				r.Header["Upgrade"], r.Header["Connection"] = []string{"websocket"}, []string{"Upgrade"}
			}
		}
	}

	if cl := r.Header["Content-Length"]; len(cl) == 1 {
		// net/http holds HTTP/1 to it, and HTTP/2 only when there is a body:
		// there a length that is no number counts for none.
		if n, err := strconv.ParseUint(cl[0], 10, 63); err != nil || int64(n) != r.ContentLength {
			refuse(http.StatusBadRequest, wire.BadFraming, fmt.Sprintf("Content-Length %s, and a body of %d", clip(cl[0]), r.ContentLength))
		}
	}

	n := 0
	for name, values := range r.Header {
		n += len(values)
		if l.override && overrideHeaders[name] && r.Method == http.MethodPost && len(values) == 1 && l.methods[values[0]] {
			continue
		}
		if strayHeaders[name] || !fieldName(name) {
			delete(r.Header, name)
			l.dropped.Add(uint64(len(values)))
			continue
		}
		if len(values) > 1 && singleHeaders[name] {
			refuse(http.StatusBadRequest, "request-repeated", fmt.Sprintf("%d %s fields", len(values), name))
		}
	}
	if n > maxFields {
		refuse(http.StatusRequestHeaderFieldsTooLarge, "request-limit", fmt.Sprintf("%d header fields", n))
	}
	if c := r.Header["Cookie"]; len(c) > 1 {
		// HTTP/2 clients split them (RFC 9113 section 8.2.3). gunicorn would
		// join them with a comma, which is part of a value to Werkzeug.
		r.Header["Cookie"] = []string{strings.Join(c, "; ")}
	}
	if v := r.Header["Range"]; len(v) > 0 && strings.Count(v[0], ",") >= maxRanges {
		// The whole file is cheaper than a thousand overlapping parts
		// (CVE-2011-3192); ignoring Range is always right (RFC 9110
		// section 14.2).
		delete(r.Header, "Range")
		delete(r.Header, "If-Range")
	}
	return d
}

// names reports whether a comma-separated list has the token.
func names(lines []string, token string) bool {
	for _, line := range lines {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// fieldName reports whether a header field's name becomes one CGI variable
// that no other name becomes: - turns into _, so _ cannot stand for itself.
func fieldName(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
		case strings.IndexByte("!#$%&'*+.^`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// Response implements [guard.Responder]. An HTTP/1.0 connection ends with its
// first answer: net/http ignores Transfer-Encoding there and would read the
// body as the next request.
func (l *request) Response(x *guard.Exchange, r *http.Response) guard.Decision {
	if !x.Request.ProtoAtLeast(1, 1) {
		r.Header.Set("Connection", "close")
	}
	return guard.Pass()
}

// Health implements [guard.Reporter].
func (l *request) Health() error { return nil }

// Describe implements [guard.Reporter].
func (l *request) Describe() string {
	return fmt.Sprintf("methods %s; %d header fields taken away so far", l.allow, l.dropped.Load())
}

// checkPath decodes a raw path as gunicorn does for PATH_INFO and Werkzeug
// after it, and says why it must not go on. The decoded path comes back even
// then, if there is one.
func checkPath(raw string) (decoded, reason, detail string) {
	decoded = raw
	if strings.IndexByte(raw, '\\') >= 0 {
		return decoded, "request-path", "backslash"
	}
	if strings.IndexByte(raw, '%') >= 0 {
		var err error
		if decoded, err = url.PathUnescape(raw); err != nil {
			return "", "request-encoding", "broken percent-encoding"
		}
		if !utf8.ValidString(decoded) {
			return decoded, "request-encoding", "the path is not UTF-8"
		}
		// A slash that was data to the client is a separator to the app.
		if strings.Count(decoded, "/") != strings.Count(raw, "/") {
			return decoded, "request-path", "encoded slash"
		}
		if strings.IndexByte(decoded, '\\') >= 0 {
			return decoded, "request-path", "encoded backslash"
		}
		if strings.IndexFunc(decoded, func(c rune) bool { return c < ' ' || c == 0x7f }) >= 0 {
			return decoded, "request-path", "encoded control character"
		}
	}
	if strings.HasPrefix(decoded, "//") {
		// Werkzeug strips leading slashes before it looks for the route:
		// //admin is /admin past every rule for /admin.
		return decoded, "request-path", "two leading slashes"
	}
	if dotSegment(decoded) {
		return decoded, "request-path", "dot segment"
	}
	// %252e%252e is text to the app, unless the app decodes a second time.
	// Encoded text as such is fine (%253A in a URL within the path), a climb
	// hidden in it is not: nobody means that.
	again := decoded
	for range 4 {
		if strings.IndexByte(again, '%') < 0 {
			break
		}
		next := unquote(again)
		if next == again {
			break
		}
		again = next
		if strings.IndexByte(again, 0) >= 0 || dotSegment(strings.ReplaceAll(again, `\`, "/")) {
			return decoded, "request-path", "dot segment or NUL, encoded more than once"
		}
	}
	return decoded, "", ""
}

// dotSegment reports whether a segment is . or .., also with parameters
// behind it (/..;x/, which Tomcat and friends strip).
func dotSegment(path string) bool {
	if !strings.Contains(path, "/.") {
		return false
	}
	for seg := range strings.SplitSeq(path, "/") {
		seg, _, _ = strings.Cut(seg, ";")
		if seg == "." || seg == ".." {
			return true
		}
	}
	return false
}

// unquote decodes what is valid percent-encoding and leaves the rest, as
// Python's urllib.parse.unquote does.
func unquote(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c, ok := percent.At(s, i)
		if ok {
			i += 2
		} else {
			c = s[i]
		}
		b.WriteByte(c)
	}
	return b.String()
}

// clip quotes the start of what a client sent, for a Decision's detail.
func clip(s string) string {
	if len(s) > 100 {
		return fmt.Sprintf("%q… (%d bytes)", s[:100], len(s))
	}
	return fmt.Sprintf("%q", s)
}
