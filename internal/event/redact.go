package event

import (
	"bytes"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/dewar-security/dewar/internal/percent"
)

// Redacted is what stands in place of a secret.
const Redacted = "[redacted]"

// Lengths, in bytes, to which an event's texts are cut.
const (
	maxUserAgent = 256
	maxText      = 2048
	maxDetail    = 1024
	maxStack     = 8192
	// maxLine bounds what is looked at: texts are redacted first and cut
	// afterwards, because half a token no longer looks like one.
	maxLine = 64 << 10
)

// secretKeys are the names of parameters, headers and fields whose values
// never reach the log, compared without case, - and _.
var secretKeys = strings.Fields(`password passwd pwd pass passphrase passcode secret clientsecret token accesstoken refreshtoken
	passwort kennwort motdepasse contrasena senha wachtwoord haslo
	idtoken idtokenhint csrftoken xcsrftoken csrf xsrf xsrftoken authenticitytoken apikey apitoken key accesskey secretkey privatekey authkey
	encryptionkey signingkey masterkey sessionkey accountkey sharedkey subscriptionkey consumerkey deploykey sshkey hmackey jwtkey fernetkey
	authorization proxyauthorization auth credential credentials cookie setcookie session sessionid sid jsessionid phpsessid
	code state nonce otp totp pin mfa cvv cvc cvv2 card cardnumber ccnumber pan iban ssn sin taxid assertion samlresponse samlrequest
	signature sig hmac jwt bearer remembertoken resettoken magic ticket xamzsignature xamzcredential xamzsecuritytoken xgoogsignature xgoogcredential
	xapikey xauthtoken awsaccesskeyid googleaccessid newpassword oldpassword currentpassword confirmpassword passwordconfirm password1 password2
	passwordagain repeatpassword securitytoken answer`)

// secretParts make a name secret wherever they stand in it: user_password,
// stripe_secret_key.
var secretParts = []string{"password", "passwd", "secret", "token", "apikey", "accesskey", "privatekey", "credential", "sessionid"}

// secretEnds make a name secret as its last word: db_pass, smtpPwd.
var secretEnds = []string{"pass", "pwd", "otp", "pin", "cvv", "cvc", "ssn", "jwt", "passphrase"}

// plainWords are names that are words of prose, too: "status code: 404",
// "state: running". Followed by a colon and a space they do not count.
var plainWords = setOfWords(`code state key answer pin card auth session sig sid magic ticket pan pass nonce signature sin otp bearer`)

func setOfWords(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

// Redactor takes secrets and personal data out of events: by the name a value
// goes under, and by the shape of the value itself. It errs on the side of
// taking out; ids, paths, numbers and hashes that are no credentials stay.
// The zero value is not usable; it is safe for concurrent use.
type Redactor struct{ keys map[string]bool }

// NewRedactor returns a redactor that also knows the given names.
func NewRedactor(more ...string) *Redactor {
	r := &Redactor{keys: map[string]bool{}}
	for _, k := range secretKeys {
		r.keys[k] = true
	}
	for _, k := range more {
		if f := foldKey(nil, k); len(f) > 0 {
			r.keys[string(f)] = true
		}
	}
	return r
}

// maxName is how much of a name before = or : is looked at, from its end.
const maxName = 96

// foldKey appends a name to buf without what spellings of one name differ in.
func foldKey(buf []byte, k string) []byte {
	for i := range len(k) {
		switch c := k[i]; c {
		case '-', '_', '.', ' ', '[', ']', '"', '\'', '\\':
		default:
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			buf = append(buf, c)
		}
	}
	return buf
}

// SecretKey reports whether values under this name are taken out.
func (r *Redactor) SecretKey(name string) bool {
	secret, _ := r.secretKey(name)
	return secret
}

func (r *Redactor) secretKey(name string) (secret, plain bool) {
	if len(name) > maxName {
		name = name[len(name)-maxName:]
	}
	var stack [maxName]byte
	k := foldKey(stack[:0], name)
	if len(k) < 3 || k[0] >= '0' && k[0] <= '9' && k[len(k)-1] <= '9' {
		return r.keys[string(k)], false // the hours of a time, the index of a list
	}
	if r.keys[string(k)] {
		return true, plainWords[string(k)]
	}
	for _, e := range secretEnds {
		if !bytes.HasSuffix(k, []byte(e)) {
			continue
		}
		// A word of its own: after punctuation, or a capital after none.
		end := strings.TrimRight(name, `]"'\`)
		if i := len(end) - len(e); i > 0 && strings.EqualFold(end[i:], e) {
			before, first := featuresOf(end[i-1:i]), featuresOf(end[i:i+1])
			if before.lower+before.upper+before.digits == 0 || first.upper > 0 && before.upper == 0 {
				return true, false
			}
		}
	}
	for _, p := range secretParts {
		if bytes.Contains(k, []byte(p)) {
			return true, false
		}
	}
	return false, false
}

// Event returns e with every text redacted, cut, and made safe to print.
func (r *Redactor) Event(e Event) Event {
	e.Name = cut(clean(e.Name), 64)
	e.Message = cut(r.Text(clean(e.Message)), maxText)
	e.Detail = cut(r.Text(clean(e.Detail)), maxDetail)
	e.Reason, e.Layer, e.Control, e.Verdict = cut(clean(e.Reason), 64), cut(clean(e.Layer), 64), cut(clean(e.Control), 64), cut(clean(e.Verdict), 16)
	e.RequestID = cut(clean(e.RequestID), 64)
	e.Method, e.Scheme = cut(clean(e.Method), 32), cut(clean(e.Scheme), 16)
	e.Host = cut(r.text(clean(e.Host), false), 256) // "token.example.com:443" assigns nothing
	e.Path = cut(r.Path(clean(e.Path)), maxText)
	e.Query = cut(r.Query(clean(e.Query)), maxText)
	e.UserAgent = cut(r.Text(clean(e.UserAgent)), maxUserAgent)
	if e.Attributes != nil {
		a := maps.Clone(e.Attributes)
		for k, v := range a {
			if name := cut(r.Text(clean(k)), 64); name != k {
				delete(a, k)
				k = name
			}
			if r.SecretKey(k) {
				a[k] = Redacted
			} else {
				a[k] = cut(r.Text(clean(v)), maxStack)
			}
		}
		e.Attributes = a
	}
	return e
}

// Line redacts a line of somebody else's log, such as gunicorn's access log:
// as [Redactor.Text], and in every word with a slash also what
// [Redactor.Path] and [Redactor.Query] take out of a path and a query. The
// result is one line of valid UTF-8 without control characters; colours are
// dropped.
func (r *Redactor) Line(s string) string {
	s = clean(uncoloured(s))
	if strings.IndexByte(s, '/') < 0 {
		return r.Text(s)
	}
	var out []byte
	last := 0
	for i := 0; i < len(s); {
		if lineBreaks[s[i]] {
			i++
			continue
		}
		start := i
		for i < len(s) && !lineBreaks[s[i]] {
			i++
		}
		slash := strings.IndexByte(s[start:i], '/')
		if slash < 0 {
			continue
		}
		slash += start
		path, query, has := strings.Cut(s[slash:i], "?")
		red := r.links(path)
		if has {
			if q := r.Query(query); q != query || red != path {
				red += "?" + q
			} else {
				continue
			}
		} else if red == path {
			continue
		}
		out = append(append(out, s[last:slash]...), red...)
		last = i
	}
	if last > 0 {
		s = string(append(out, s[last:]...))
	}
	return r.Text(s)
}

// uncoloured drops the escape sequences that colour text in a terminal.
func uncoloured(s string) string {
	i := strings.IndexByte(s, 0x1b)
	if i < 0 {
		return s
	}
	var b strings.Builder
	for i >= 0 {
		b.WriteString(s[:i])
		s = s[i:]
		n := 1
		if len(s) > 1 && s[1] == '[' {
			n = 2
			for n < len(s) && (s[n] >= '0' && s[n] <= '9' || s[n] == ';') {
				n++
			}
		}
		if n < 2 || n >= len(s) || s[n] != 'm' {
			b.WriteByte(0x1b) // not a colour: clean makes it visible
			n = 0
		}
		s = s[n+1:]
		i = strings.IndexByte(s, 0x1b)
	}
	b.WriteString(s)
	return b.String()
}

// lineBreaks end a path in a line of text.
var lineBreaks = byteSet(" \t\"'`<>()")

func byteSet(s string) (t [256]bool) {
	for i := range len(s) {
		t[s[i]] = true
	}
	return t
}

// Path redacts a path: as [Redactor.Text], and segments that look like the
// token of a link, such as a reset link carries there.
func (r *Redactor) Path(p string) string { return r.Text(r.links(p)) }

// links redacts the segments of a path that are tokens.
func (r *Redactor) links(p string) string {
	var out []byte
	last := 0
	before := "" // the segment before, which may say that a token follows
	for i := 0; i < len(p); {
		start := i
		for i < len(p) && p[i] != '/' {
			i++
		}
		seg, _, _ := strings.Cut(p[start:i], ";")
		plain := seg
		if strings.IndexByte(seg, '%') >= 0 {
			plain = unescape(seg, false)
		}
		if start > 0 && (linkToken(plain) || tellable(plain) && tellTale(before)) {
			out = append(append(out, p[last:start]...), Redacted...)
			last = start + len(seg)
		}
		before = plain
		i++
	}
	if last == 0 {
		return p
	}
	return string(append(out, p[last:]...))
}

// tellTales stand before a token in the paths of links sent by mail.
var tellTales = []string{"reset", "verif", "confirm", "activat", "unsubscribe", "invit", "magic", "token", "passw", "recover", "unlock", "login", "signup", "share"}

func tellTale(seg string) bool {
	var stack [24]byte
	if len(seg) > len(stack) {
		return false
	}
	k := foldKey(stack[:0], seg)
	for _, t := range tellTales {
		if bytes.Contains(k, []byte(t)) {
			return true
		}
	}
	return false
}

// tellable reports whether a segment after a tell-tale one is long and odd
// enough for a token: then a UUID or a hash is one, too.
func tellable(s string) bool {
	if len(s) < 16 {
		return false
	}
	f := featuresOf(s)
	return f.digits > 0 && !f.other && strings.IndexByte(s, '.') < 0
}

// linkToken reports whether a path segment or a value looks like a random
// token: 22 characters of base64url (128 bits) or more. UUIDs, ULIDs, slugs,
// hashes in lower case and file names with an extension are none.
func linkToken(s string) bool {
	if len(s) < 22 {
		return false
	}
	f := featuresOf(s)
	return !f.other && f.dots == 0 && f.lower > 0 && f.upper > 0 && (f.digits > 0 || f.changes*5 >= len(s)*2)
}

// features of a run of characters.
type features struct {
	lower, upper, digits, dots int
	// changes counts neighbours of different kinds: 0.65 per character in
	// random base64, about 0.3 in CamelCase words.
	changes int
	other   bool // something that is not in base64url or a dot
}

func featuresOf(s string) (f features) {
	var last uint8
	for i := range len(s) {
		var kind uint8
		switch c := s[i]; {
		case c >= 'a' && c <= 'z':
			f.lower++
			kind = 1
		case c >= 'A' && c <= 'Z':
			f.upper++
			kind = 2
		case c >= '0' && c <= '9':
			f.digits++
			kind = 3
		case c == '-' || c == '_':
			kind = 4
		case c == '=':
			kind = 5
		case c == '.':
			f.dots++
			kind = 6
		default:
			f.other = true
		}
		if kind != last && i > 0 {
			f.changes++
		}
		last = kind
	}
	return f
}

// Query redacts a query string pair by pair and keeps its form. A pair is
// what stands between two &; where ; separates pairs, too (WSGI servers
// differ), a secret name takes out everything up to the next &.
func (r *Redactor) Query(q string) string {
	if q == "" {
		return ""
	}
	var out []byte
	last := 0
	for i := 0; i <= len(q); {
		end := len(q)
		if n := strings.IndexByte(q[i:], '&'); n >= 0 {
			end = i + n
		}
		for j := i; j < end; {
			stop := end
			if n := strings.IndexByte(q[j:end], ';'); n >= 0 {
				stop = j + n
			}
			name, _, has := strings.Cut(q[j:stop], "=")
			from, red := j, ""
			switch {
			case has && r.SecretKey(unescape(name, true)):
				from, stop, red = j+len(name)+1, end, Redacted
			case has:
				from += len(name) + 1
				fallthrough
			default:
				red = r.value(q[from:stop])
			}
			if red != q[from:stop] && from < stop {
				out = append(append(out, q[last:from]...), red...)
				last = stop
			}
			j = stop + 1
		}
		i = end + 1
	}
	if last == 0 {
		return q
	}
	return string(append(out, q[last:]...))
}

// value redacts an encoded value: as it stands, and as what it decodes to,
// up to three times (a URL within a URL within a URL). One that holds a
// secret only when decoded is written decoded.
func (r *Redactor) value(v string) string {
	if linkToken(v) {
		return Redacted
	}
	plain := v
	for range 3 {
		next := unescape(plain, true)
		if next == plain {
			break
		}
		plain = next
		if linkToken(plain) {
			return Redacted
		}
		if red := r.inner(plain); red != plain {
			return encode.Replace(clean(red))
		}
	}
	return r.inner(v)
}

// encode keeps a decoded value from ending its pair.
var encode = strings.NewReplacer("&", "%26", ";", "%3B", "=", "%3D", "#", "%23", " ", "+")

// inner redacts a value that may be a URL of its own.
func (r *Redactor) inner(v string) string {
	if strings.IndexByte(v, '/') >= 0 {
		return r.Line(v)
	}
	return r.Text(v)
}

// unescape undoes percent-encoding where it is valid and leaves the rest:
// what a lenient server would read.
func unescape(s string, plus bool) string {
	if strings.IndexByte(s, '%') < 0 && (!plus || strings.IndexByte(s, '+') < 0) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c, ok := percent.At(s, i)
		switch {
		case ok:
			b = append(b, c)
			i += 2
		case plus && s[i] == '+':
			b = append(b, ' ')
		default:
			b = append(b, s[i])
		}
	}
	return string(b)
}

func isHex(c byte) bool { return percent.Digit(c) >= 0 }

// Text redacts what looks like a secret inside a text: values after a secret
// name (password=…, "token": "…", Authorization: …), credentials of known
// form, JWTs and signed cookies, private keys, card numbers, the password of
// a URL, random strings of 40 characters or more; and shortens e-mail
// addresses. One pass, no regular expressions. Valid UTF-8 stays valid.
func (r *Redactor) Text(s string) string { return r.text(s, true) }

// kinds of bytes that the scan stops at.
const (
	skip   uint8 = iota
	word         // letters, digits, _ - .
	assign       // = :
	escape       // %
	at           // @
	back         // \ before a letter: \n, \u000a, \x1b
	tagEnd       // >
)

var kindOf = func() (t [256]uint8) {
	for c := range 256 {
		if isWord(byte(c)) {
			t[c] = word
		}
	}
	t['='], t[':'], t['%'], t['@'], t['\\'], t['>'] = assign, assign, escape, at, back, tagEnd
	return t
}()

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}

// scan is one pass over a text: s with cuts.
type scan struct {
	s    string
	out  []byte
	last int // everything before is in out
}

// cut replaces s[from:to].
func (c *scan) cut(from, to int, with string) {
	from = max(from, c.last)
	if to <= from {
		return
	}
	c.out = append(append(c.out, c.s[c.last:from]...), with...)
	c.last = to
}

func (r *Redactor) text(s string, names bool) string {
	if len(s) < 4 {
		return s
	}
	c := scan{s: s}
	for i := 0; i < len(s); {
		switch kindOf[s[i]] {
		case word:
			next := c.word(i)
			if names && strings.HasPrefix(s[i:], "--") && next < len(s) && s[next] == ' ' && c.last <= i {
				next = r.option(&c, i, next)
			}
			i = next
		case tagEnd:
			if names {
				i = r.element(&c, i)
			} else {
				i++
			}
		case assign:
			if end := c.url(i); end > 0 {
				i = end
			} else if names {
				i = r.assigned(&c, i, 1)
			} else {
				i++
			}
		case escape:
			switch {
			case i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]):
				i++
			case names && (s[i+1] == '3' && s[i+2]|0x20 == 'd' || s[i+1] == '3' && s[i+2]|0x20 == 'a'):
				i = r.assigned(&c, i, 3)
			case s[i+1] == '4' && s[i+2] == '0':
				i = c.mail(i, 3)
			default:
				i += 3
			}
		case at:
			i = c.mail(i, 1)
		case back:
			for i < len(s) && s[i] == '\\' {
				i++
			}
			i += escaped(s[i:])
		default:
			i++
		}
	}
	if c.out == nil {
		return s
	}
	return string(append(c.out, s[c.last:]...))
}

// escaped returns how many of the characters after a backslash belong to it:
// what comes next begins a word.
func escaped(s string) int {
	switch {
	case s == "":
	case s[0] == 'n' || s[0] == 'r' || s[0] == 't':
		return 1
	case s[0] == 'x' && len(s) > 2 && isHex(s[1]) && isHex(s[2]):
		return 3
	case s[0] == 'u' && len(s) > 4 && isHex(s[1]) && isHex(s[2]) && isHex(s[3]) && isHex(s[4]):
		return 5
	}
	return 0
}

// assigned redacts the value after a secret name and the sign at i, which is
// = or :, width bytes long. It returns where to go on.
func (r *Redactor) assigned(c *scan, i, width int) int {
	s := c.s
	end := i
	for end > 0 && i-end < 12 {
		if b := s[end-1]; b == ' ' || b == '\t' || b == '"' || b == '\'' || b == '\\' {
			end--
		} else if strings.HasSuffix(s[:end], tab) {
			end -= len(tab)
		} else {
			break
		}
	}
	start := end
	for start > 0 && end-start < maxName {
		if p := s[start-1]; !isWord(p) && p != '[' && p != ']' && p != '%' {
			break
		}
		start--
	}
	if start == end {
		return i + width
	}
	name := s[start:end]
	if strings.IndexByte(name, '%') >= 0 {
		name = unescape(name, false)
		if n := strings.LastIndexAny(name, "&?;{,="); n >= 0 {
			name = name[n+1:]
		}
	}
	secret, plain := r.secretKey(name)
	if !secret && start > 0 && s[start-1] == '\\' {
		name = name[min(len(name), escaped(name)):]
		secret, plain = r.secretKey(name)
	}
	if !secret {
		return i + width
	}
	v := i + width
	for v < len(s) && (s[v] == '=' || s[v] == '>') {
		v++ // == and =>
	}
	spaces := v
	v = blanks(s, v)
	if v >= len(s) {
		return v
	}
	if plain && width == 1 && s[i] == ':' && end == i && v > spaces && s[v] != '"' && s[v] != '\'' {
		return v
	}
	v, stop := c.extent(v, name)
	if isScheme(s[v:stop]) {
		// "X-Auth-Token: Bearer x": the word after is the value.
		if next := blanks(s, stop); next > stop && next < len(s) {
			_, stop = c.extent(next, "")
		}
	}
	c.cut(v, stop, Redacted)
	return max(stop, i+width)
}

// tab is what clean makes of one.
const tab = `\u0009`

// blanks returns where the spaces and tabs at i end.
func blanks(s string, i int) int {
	for i < len(s) {
		switch {
		case s[i] == ' ' || s[i] == '\t':
			i++
		case strings.HasPrefix(s[i:], tab):
			i += len(tab)
		default:
			return i
		}
	}
	return i
}

// element redacts the text of an XML element with a secret name whose tag
// ends at i, and returns where to go on. <code> and <key> are ordinary markup.
func (r *Redactor) element(c *scan, i int) int {
	s := c.s
	start := i
	for start > 0 && i-start < maxName && s[start-1] != '<' && s[start-1] != '>' {
		start--
	}
	if start == 0 || s[start-1] != '<' || s[i-1] == '/' {
		return i + 1
	}
	name, _, _ := strings.Cut(s[start:i], " ")
	name = name[strings.LastIndexByte(name, ':')+1:]
	if name == "" || name[0] == '/' {
		return i + 1
	}
	if secret, plain := r.secretKey(name); !secret || plain {
		return i + 1
	}
	to := len(s)
	if n := strings.IndexByte(s[i+1:], '<'); n >= 0 {
		to = i + 1 + n
	}
	c.cut(i+1, to, Redacted)
	return to
}

// option redacts the word after a command line's --password.
func (r *Redactor) option(c *scan, i, end int) int {
	if secret, plain := r.secretKey(c.s[i:end]); !secret || plain {
		return end
	}
	from := blanks(c.s, end)
	if from == len(c.s) || c.s[from] == '-' || c.s[from] == '=' || c.s[from] == ':' {
		return end
	}
	from, to := c.extent(from, "")
	c.cut(from, to, Redacted)
	return to
}

// wholeLine are headers whose value is all that follows.
var wholeLine = setOfWords("cookie setcookie authorization proxyauthorization")

// extent returns the value that begins at v: within quotes, within brackets,
// or up to a space. What a value could go on after goes with it: half a
// password is too much.
func (c *scan) extent(v int, name string) (from, to int) {
	s := c.s
	q := v
	for q < len(s) && s[q] == '\\' {
		q++
	}
	if q < len(s) && (s[q] == '"' || s[q] == '\'') {
		mark := s[v : q+1]
		from = q + 1
		for i := from; i < len(s); i++ {
			switch {
			case s[i] == '\\' && len(mark) == 1:
				i++
			case s[i] == mark[0] && strings.HasPrefix(s[i:], mark) && (len(mark) == 1 || s[i-1] != '\\'):
				return from, i
			}
		}
		return from, len(s)
	}
	var stack [maxName]byte
	k := foldKey(stack[:0], name[max(0, len(name)-maxName):])
	if wholeLine[string(k)] {
		to = len(s)
		for _, nl := range []string{"\n", `\u000a`, `\u000d`} {
			if n := strings.Index(s[v:to], nl); n >= 0 {
				to = v + n
			}
		}
		return v, to
	}
	to = v
	if s[v] == '[' || s[v] == '{' || s[v] == '(' {
		to = brackets(s, v)
	}
	for ; to < len(s); to++ {
		switch s[to] {
		case ' ':
			if p := s[to-1]; to > v && (p == ':' || p == '=' || p == ' ') {
				continue // "password=\nX-Api-Key: x": the next name was taken for the value
			}
			if end := grouped(s, v, to, printed[string(k)]); end > to {
				to = end - 1
				continue
			}
			return v, to
		case '"':
			if p := s[to-1]; to > v && (p == ' ' || p == ':' || p == '=') {
				_, end := c.extent(to, name)
				return v, end
			}
			return v, to
		case '\t', '\n', '\r', '&', '<', '`':
			return v, to
		case '%':
			if strings.HasPrefix(s[to:], "%26") {
				return v, to
			}
		}
	}
	return v, to
}

// printed names have values that people write in groups: the rest of
// "card=4242 4242 4242 4242" is not prose.
var printed = setOfWords("card cardnumber creditcard ccnumber pan iban ssn taxid")

// grouped returns the end of a value s[v:to] that goes on after the space at
// to: a card number, or under such a name whatever comes in groups of up to
// seven with a digit each.
func grouped(s string, v, to int, named bool) int {
	k := to
	for k > v && s[k-1] >= '0' && s[k-1] <= '9' {
		k--
	}
	// Something else may stand right before it, such as an escaped tab.
	for k = max(k, to-19); k < to; k++ {
		if end := cardAt(s, k); end > to {
			return end
		}
	}
	end := to
	for named {
		next := end + 1
		digit := false
		for next < len(s) && isWord(s[next]) && next-end <= 8 {
			digit = digit || s[next] >= '0' && s[next] <= '9'
			next++
		}
		if !digit || next-end > 8 {
			break
		}
		if end = next; end >= len(s) || s[end] != ' ' {
			break
		}
	}
	return end
}

// brackets returns the end of what the bracket at i opens, or of the text.
func brackets(s string, i int) int {
	depth := 0
	for ; i < len(s); i++ {
		switch c := s[i]; c {
		case '[', '{', '(':
			depth++
		case ']', '}', ')':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"', '\'':
			for i++; i < len(s) && s[i] != c; i++ {
				if s[i] == '\\' {
					i++
				}
			}
		}
	}
	return len(s)
}

// maxUserinfo bounds how far an @ is looked for.
const maxUserinfo = 1024

// url redacts user:password@ when the colon at i begins ://. It returns where
// to go on, or 0 when it does not.
func (c *scan) url(i int) int {
	s := c.s
	if s[i] != ':' || !strings.HasPrefix(s[i:], "://") {
		return 0
	}
	web := strings.HasSuffix(s[:i], "http") || strings.HasSuffix(s[:i], "https")
	at := -1
scan:
	for j := i + 3; j < min(len(s), i+maxUserinfo); j++ {
		switch s[j] {
		case '@':
			at = j
		case ' ', '\t', '\n', '"', '\'', '<', '>', '`':
			break scan
		case ':':
			if strings.HasPrefix(s[j:], "://") {
				break scan
			}
		case '/', '?', '#':
			// A web address has its path here; a database's password may
			// hold them as they are.
			if web {
				break scan
			}
		}
	}
	if at >= 0 {
		c.cut(i+3, at, Redacted)
		return at
	}
	return i + 3
}

// mail shortens the e-mail address around the @ at i, which is width bytes
// long: one letter and the domain are enough to recognise one's own.
func (c *scan) mail(i, width int) int {
	s := c.s
	start := i
	for start > c.last && i-start < 64 && (isWord(s[start-1]) || s[start-1] == '+' || s[start-1] >= utf8.RuneSelf || s[start-1] == '~' || s[start-1] == '!' || s[start-1] == '%') {
		start--
	}
	for start < i && (!utf8.RuneStart(s[start]) || s[start] == '%' && start+2 < i) {
		if s[start] == '%' {
			start += 2
		}
		start++
	}
	j := i + width
	dot := false
	tld := 0 // letters since the last dot: the end of pkg@v1.2.3 is no domain
	for j < len(s) && (isWord(s[j]) || s[j] >= utf8.RuneSelf) {
		switch {
		case s[j] == '.' && j+1 < len(s) && s[j+1] != '.' && s[j+1] != '-' && (isWord(s[j+1]) || s[j+1] >= utf8.RuneSelf):
			dot = dot || j > i+width
			tld = 0
		case s[j] >= '0' && s[j] <= '9':
			tld = -maxLine
		default:
			tld++
		}
		j++
	}
	if start == i || !dot || tld < 2 {
		return i + width
	}
	_, size := utf8.DecodeRuneInString(s[start:])
	c.cut(start, i, s[start:start+size]+"***")
	return i + width // the domain is looked at like any word
}

// word looks at the run of word characters at i and returns its end.
func (c *scan) word(i int) int {
	s := c.s
	j := i + 1
	for j < len(s) && kindOf[s[j]] == word {
		j++
	}
	run := s[i:j]
	if run[0] >= '0' && run[0] <= '9' {
		if end := cardAt(s, i); end > 0 {
			c.cut(i, end, Redacted)
			return end
		}
	}
	if len(run) < 8 {
		return j
	}
	if end := c.bearer(i, j); end > 0 {
		c.cut(i, end, Redacted)
		return end
	}
	if len(run) < 10 {
		return j
	}
	if n := strings.Index(run, "-----BEGIN"); n >= 0 {
		if end := keyBlock(s, i+n); end > 0 {
			c.cut(i+n, end, Redacted)
			return end
		}
	}
	if len(run) < 15 {
		return j
	}
	from := credential(s, i, j)
	if from < 0 {
		return j
	}
	if s[from] >= '0' && s[from] <= '9' {
		if end := cardAt(s, from); end > 0 {
			c.cut(from, end, Redacted)
			return end
		}
	}
	for j < len(s) && s[j] == '=' {
		j++
	}
	c.cut(from, j, Redacted)
	return j
}

// schemes come before a credential in an Authorization header (RFC 9110,
// 11.6.2), or in a text that quotes one.
var schemes = []string{"bearer", "basic", "token", "negotiate", "digest", "apikey"}

func isScheme(w string) bool {
	for _, s := range schemes {
		if strings.EqualFold(w, s) {
			return true
		}
	}
	return false
}

// bearer returns the end of the credential at s[i:j] when the word before it
// says that it is one, otherwise 0. "Basic authentication" is prose: a
// credential has digits, or letters of both cases in no order.
func (c *scan) bearer(i, j int) int {
	s := c.s
	k := i
	switch {
	case k > 0 && (s[k-1] == ' ' || s[k-1] == '+'):
		k--
	case k > 2 && s[k-3:k] == "%20":
		k -= 3
	default:
		return 0
	}
	found := false
	for _, w := range schemes {
		if k >= len(w) && strings.EqualFold(s[k-len(w):k], w) {
			found = true
		}
	}
	if !found {
		return 0
	}
	for j < len(s) && (isWord(s[j]) || s[j] == '+' || s[j] == '/' || s[j] == '=' || s[j] == '~') {
		j++
	}
	f := featuresOf(s[i:j])
	if f.digits > 0 || f.lower > 0 && f.upper > 1 || s[j-1] == '=' {
		return j
	}
	return 0
}

// keyBlock returns the end of the private key in PEM that begins at i, or 0
// if it is something else, such as a certificate. A block without an end goes
// to the end of the text. Spaces may be percent-encoded.
func keyBlock(s string, i int) int {
	// The label, up to the next hyphens: capitals and spaces.
	head := i + len("-----BEGIN")
	for head < len(s) && head-i < 80 && (s[head] >= 'A' && s[head] <= 'Z' || s[head] == ' ' || s[head] == '+' || strings.HasPrefix(s[head:], "%20")) {
		if s[head] == '%' {
			head += 2
		}
		head++
	}
	label := s[i:head]
	if !strings.Contains(label, "PRIVATE") || !strings.Contains(label, "KEY") {
		return 0
	}
	n := strings.Index(s[i:], "-----END")
	if n < 0 {
		return len(s)
	}
	end := i + n + len("-----END")
	if n = strings.Index(s[end:], "-----"); n < 0 {
		return len(s)
	}
	return end + n + 5
}

// prefixes begin credentials of known services; min is the least length of a
// real one.
var prefixes = []struct {
	p   string
	min int
}{
	{"AKIA", 20}, {"ASIA", 20}, {"ghp_", 30}, {"gho_", 30}, {"ghu_", 30}, {"ghs_", 30}, {"ghr_", 30}, {"github_pat_", 40},
	{"glpat-", 20}, {"xoxa-", 15}, {"xoxb-", 15}, {"xoxp-", 15}, {"xoxr-", 15}, {"xoxs-", 15}, {"xoxe-", 15}, {"xapp-", 15},
	{"sk_live_", 20}, {"rk_live_", 20}, {"sk_test_", 20}, {"rk_test_", 20}, {"pk_live_", 20}, {"whsec_", 20},
	{"AIza", 35}, {"GOCSPX-", 28}, {"ya29.", 20}, {"SG.", 40}, {"npm_", 30}, {"pypi-AgEI", 40},
	{"sk-ant-", 30}, {"sk-proj-", 30}, {"hvs.", 20}, {"dop_v1_", 40}, {"shpat_", 30}, {"shpss_", 30}, {"AGE-SECRET-KEY-", 40},
}

var prefixStart = func() (t [256]bool) {
	for _, p := range prefixes {
		t[p.p[0]] = true
	}
	t['e'] = true // eyJ
	return t
}()

// credential returns where in the run s[i:j] a credential begins, or -1. What
// begins there goes to the end of the run.
func credential(s string, i, j int) int {
	for k := i; k < j; k++ {
		if k > i && s[k-1] != '.' && s[k-1] != '-' && s[k-1] != '_' {
			continue
		}
		if s[k] >= '0' && s[k] <= '9' && k > i && s[k-1] != '.' && cardAt(s, k) > 0 {
			return k
		}
		if !prefixStart[s[k]] {
			continue
		}
		rest := s[k:j]
		if len(rest) >= 15 && strings.HasPrefix(rest, "eyJ") {
			return k // base64 of {" : a JWT (RFC 7519), a Flask session, another JSON
		}
		for _, p := range prefixes {
			if len(rest) < p.min || !strings.HasPrefix(rest, p.p) {
				continue
			}
			if f := featuresOf(rest[4:min(len(rest), 20)]); p.p[1:] == "KIA" || p.p[1:] == "SIA" {
				if f.lower > 0 || f.other || f.dots > 0 {
					continue
				}
			}
			return k
		}
	}
	run := strings.TrimRight(s[i:j], ".")
	if dot := strings.LastIndexByte(run, '.'); dot > 0 {
		if signature(run[:dot], run[dot+1:]) {
			return i
		}
		return -1
	}
	if len(run) == 128 && i > 0 && (s[i-1] == '|' || i > 2 && strings.EqualFold(s[i-3:i], "%7c")) {
		return i // Flask-Login's remember_token: user|HMAC-SHA512
	}
	if len(run) >= 40 {
		f := featuresOf(run)
		if f.lower > 0 && f.upper > 0 && f.digits > 0 && f.changes*5 >= len(run)*2 && !strings.HasPrefix(run, "sha") {
			return i
		}
	}
	return -1
}

// signature reports whether sig, which follows body and a dot, is what
// itsdangerous appends: a MAC of SHA-1, SHA-256, SHA-384 or SHA-512 in
// base64url, mostly after a timestamp of six characters.
func signature(body, sig string) bool {
	switch len(sig) {
	case 27, 43, 64, 86:
	default:
		if len(sig) < 27 || body[0] != '.' {
			return false
		}
	}
	f := featuresOf(sig)
	if f.other || f.lower == 0 || f.upper == 0 {
		return false
	}
	if stamp := body[strings.LastIndexByte(body, '.')+1:]; len(stamp) >= 5 && len(stamp) <= 8 && len(stamp) < len(body) && featuresOf(stamp).upper > 0 {
		return true
	}
	return f.changes*5 >= len(sig)*2 || f.digits > 0 && f.changes*4 >= len(sig)
}

// cardAt returns the end of the payment card number at s[i], or 0: 14 to 19
// digits in one piece or in groups as they are printed, with one kind of
// separator (a space, a hyphen, + or %20 of a form), that pass Luhn and begin
// as an issuer's numbers of that length do. 13-digit Visa numbers are no
// longer issued and look like European article numbers; 19-digit ones were
// all false in practice.
func cardAt(s string, i int) int {
	var digits [20]byte
	n, group, groups := 0, 0, 0
	sep := ""
	end, whole := i, 0
	for end < len(s) && n < len(digits) {
		c := s[end]
		if c >= '0' && c <= '9' {
			digits[n] = c - '0'
			n++
			group++
			end++
			continue
		}
		if group < 4 || group > 7 {
			break // not printed like a card
		}
		this := ""
		switch {
		case c == ' ' || c == '-' || c == '+':
			this = s[end : end+1]
		case strings.HasPrefix(s[end:], "%20"), strings.HasPrefix(s[end:], "%2D"):
			this = s[end : end+3]
		}
		next := end + len(this)
		if this == "" || sep != "" && this != sep || next >= len(s) || s[next] < '0' || s[next] > '9' {
			break
		}
		if card(digits[:n]) {
			whole = end // "4242 4242 4242 4242 7 pieces"
		}
		sep = this
		group = 0
		groups++
		end = next
	}
	if groups > 0 && (groups > 4 || group < 3 || group > 7) {
		return whole
	}
	if n > 19 || end < len(s) && isWord(s[end]) && s[end] != '-' && s[end] != '.' && s[end] != '_' || !card(digits[:n]) {
		return whole
	}
	return end
}

func card(d []byte) bool {
	n := len(d)
	if n < 14 {
		return false
	}
	head := int(d[0])*1000 + int(d[1])*100 + int(d[2])*10 + int(d[3])
	known := d[0] == 4 && n == 16 || // Visa
		n == 16 && (head >= 5100 && head <= 5599 || head >= 2221 && head <= 2720) || // Mastercard
		n == 15 && (head/100 == 34 || head/100 == 37) || // American Express
		n >= 16 && (head == 6011 || head/100 == 65 || head/10 >= 644 && head/10 <= 649) || // Discover
		n == 16 && head >= 3528 && head <= 3589 || // JCB
		n == 14 && (head/10 >= 300 && head/10 <= 305 || head/100 == 36 || head/100 == 38) || // Diners
		n >= 16 && head/100 == 62 // UnionPay
	if !known {
		return false
	}
	sum := 0
	for i := range d {
		v := int(d[n-1-i])
		if i%2 == 1 {
			if v *= 2; v > 9 {
				v -= 9
			}
		}
		sum += v
	}
	return sum%10 == 0
}

// clean escapes what could forge a line of the log or drive a terminal
// (CWE-117, CWE-150): control characters, line and paragraph separators,
// bidirectional overrides, bytes that are no UTF-8. Of a text beyond all
// measure it keeps the beginning, up to the last whole word.
func clean(s string) string {
	if len(s) > maxLine {
		n := maxLine
		for n > 0 && s[n-1] != ' ' && s[n-1] != '\n' && s[n-1] != '&' {
			n--
		}
		s = s[:n] + "…"
	}
	i := 0
	for i < len(s) && s[i] >= 0x20 && s[i] < 0x7f {
		i++
	}
	if i == len(s) {
		return s
	}
	bad := false
	for _, c := range s[i:] {
		if unsafeRune(c) {
			bad = true
			break
		}
	}
	if !bad {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		c, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case c == utf8.RuneError && n == 1:
			b.WriteString(`\x`)
			b.WriteByte(hexDigits[s[i]>>4])
			b.WriteByte(hexDigits[s[i]&15])
		case unsafeRune(c):
			b.WriteString(`\u`)
			for shift := 12; shift >= 0; shift -= 4 {
				b.WriteByte(hexDigits[c>>shift&15])
			}
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// cut shortens s to at most n bytes and an ellipsis.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

const hexDigits = "0123456789abcdef"

func unsafeRune(c rune) bool {
	return c < 0x20 || c >= 0x7f && c < 0xa0 || c == utf8.RuneError || c == 0x2028 || c == 0x2029 ||
		c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 || c == 0x200e || c == 0x200f || c == 0x061c || c == 0xfeff
}
