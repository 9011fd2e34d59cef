package event

import (
	"bytes"
	"maps"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Redacted is what stands in place of a secret.
const Redacted = "[redacted]"

// Lengths, in bytes, to which an event's texts are cut.
const (
	maxUserAgent = 256
	maxText      = 2048
	maxDetail    = 1024
	maxStack     = 8192
)

// secretKeys are the names of parameters, headers and fields whose values
// never reach the log, compared without case, - and _.
var secretKeys = strings.Fields(`password passwd pwd pass passphrase secret clientsecret token accesstoken refreshtoken
	idtoken idtokenhint csrftoken xcsrftoken csrf xsrf xsrftoken authenticitytoken apikey apitoken key accesskey secretkey privatekey authkey
	authorization proxyauthorization auth credential credentials cookie setcookie session sessionid sid jsessionid phpsessid
	code state nonce otp totp pin mfa cvv cvc cvv2 card cardnumber ccnumber pan iban ssn sin taxid assertion samlresponse samlrequest
	signature sig hmac jwt bearer remembertoken resettoken magic ticket xamzsignature xamzcredential xamzsecuritytoken
	xapikey xauthtoken awsaccesskeyid googleaccessid newpassword oldpassword currentpassword confirmpassword passwordconfirm password1 password2
	passwordagain repeatpassword securitytoken answer`)

// secretParts make a name secret wherever they stand in it: user_password,
// stripe_secret_key.
var secretParts = []string{"password", "passwd", "secret", "token", "apikey", "privatekey", "credential", "sessionid"}

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
		r.keys[foldKey(k)] = true
	}
	return r
}

func foldKey(k string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A'
		case c == '-' || c == '_' || c == '.' || c == ' ' || c == '[' || c == ']':
			return -1
		}
		return c
	}, k)
}

// SecretKey reports whether values under this name are taken out.
func (r *Redactor) SecretKey(name string) bool {
	k := foldKey(name)
	if r.keys[k] {
		return true
	}
	for _, p := range secretParts {
		if strings.Contains(k, p) {
			return true
		}
	}
	return false
}

// Event returns e with every text redacted, cut, and made safe to print.
func (r *Redactor) Event(e Event) Event {
	e.Name = clean(e.Name, 64)
	e.Message = r.Text(clean(e.Message, maxText))
	e.Detail = r.Text(clean(e.Detail, maxDetail))
	e.Reason, e.Layer, e.Control, e.Verdict = clean(e.Reason, 64), clean(e.Layer, 64), clean(e.Control, 64), clean(e.Verdict, 16)
	e.RequestID = clean(e.RequestID, 64)
	e.Method, e.Scheme = clean(e.Method, 32), clean(e.Scheme, 16)
	e.Host = r.Text(clean(e.Host, 256))
	e.Path = r.path(clean(e.Path, maxText))
	e.Query = r.Query(clean(e.Query, maxText))
	e.UserAgent = r.Text(clean(e.UserAgent, maxUserAgent))
	if e.Attributes != nil {
		a := maps.Clone(e.Attributes)
		for k, v := range a {
			if r.SecretKey(k) {
				a[k] = Redacted
			} else {
				a[k] = r.Text(clean(v, maxStack))
			}
		}
		e.Attributes = a
	}
	return e
}

// path redacts a path segment by segment: a reset link carries its token
// there.
func (r *Redactor) path(p string) string {
	segs := strings.Split(p, "/")
	for i, s := range segs {
		if i > 0 && s != "" && linkToken(s) && i > 1 {
			segs[i] = Redacted
			continue
		}
		segs[i] = r.Text(s)
	}
	return strings.Join(segs, "/")
}

// linkToken reports whether a path segment looks like a token of a link: long,
// and with letters of both cases and digits, as base64 has. UUIDs, slugs,
// hashes in lower case and file names with an extension are none.
func linkToken(s string) bool {
	if len(s) < 24 {
		return false
	}
	var lower, upper, digit bool
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z':
			lower = true
		case c >= 'A' && c <= 'Z':
			upper = true
		case c >= '0' && c <= '9':
			digit = true
		case c == '-' || c == '_' || c == '=':
		default:
			return false
		}
	}
	return lower && upper && digit
}

// Query redacts a query string pair by pair and keeps its form. A pair that
// cannot be decoded is judged as it stands.
func (r *Redactor) Query(q string) string {
	if q == "" {
		return ""
	}
	var b strings.Builder
	for i, pair := range splitPairs(q) {
		if i > 0 {
			b.WriteByte(pair.sep)
		}
		k, v, has := strings.Cut(pair.text, "=")
		name, err := url.QueryUnescape(k)
		if err != nil {
			name = k
		}
		if !has {
			b.WriteString(r.Text(k))
			continue
		}
		b.WriteString(r.Text(k))
		b.WriteByte('=')
		if r.SecretKey(name) {
			b.WriteString(Redacted)
			continue
		}
		plain, err := url.QueryUnescape(v)
		if err != nil {
			plain = v
		}
		if red := r.Text(plain); red != plain {
			b.WriteString(strings.ReplaceAll(clean(red, maxText), "&", "%26"))
		} else {
			b.WriteString(r.Text(v))
		}
	}
	return b.String()
}

type pair struct {
	sep  byte
	text string
}

func splitPairs(q string) []pair {
	var out []pair
	start, sep := 0, byte('&')
	for i := 0; i <= len(q); i++ {
		if i == len(q) || q[i] == '&' || q[i] == ';' {
			out = append(out, pair{sep, q[start:i]})
			if i < len(q) {
				sep = q[i]
			}
			start = i + 1
		}
	}
	return out
}

// Text redacts what looks like a secret inside a text: values after a secret
// name (password=…, "token": "…", Authorization: …), credentials of known
// form, JWTs and signed cookies, private keys, card numbers, the password of
// a URL; and shortens e-mail addresses. One pass over words, no regular
// expressions.
func (r *Redactor) Text(s string) string {
	if len(s) < 4 {
		return s
	}
	if i := strings.Index(s, "-----BEGIN "); i >= 0 && strings.Contains(s[i:], "PRIVATE KEY") {
		return r.Text(s[:i]) + Redacted
	}
	b := []byte(s)
	b = r.assignments(b)
	b = urlPasswords(b)
	b = words(b)
	b = cards(b)
	return string(b)
}

// assignments redacts the value after a secret name and = or :.
func (r *Redactor) assignments(b []byte) []byte {
	if bytes.IndexByte(b, '=') < 0 && bytes.IndexByte(b, ':') < 0 {
		return b
	}
	var out []byte
	last := 0
	for i := 0; i < len(b); i++ {
		if b[i] != '=' && b[i] != ':' {
			continue
		}
		end := i
		for end > last && (b[end-1] == ' ' || b[end-1] == '"' || b[end-1] == '\'' || b[end-1] == '\\') {
			end--
		}
		start := end
		for start > last && (isWord(b[start-1]) || b[start-1] == '[' || b[start-1] == ']') && end-start < 64 {
			start--
		}
		if start == end || !r.SecretKey(string(b[start:end])) {
			continue
		}
		name := foldKey(string(b[start:end]))
		v := i + 1
		if v < len(b) && b[v] == '=' {
			v++ // ==
		}
		for v < len(b) && b[v] == ' ' {
			v++
		}
		if v >= len(b) {
			break
		}
		stop := v
		switch quote := b[v]; {
		case quote == '\\' && v+1 < len(b) && (b[v+1] == '"' || b[v+1] == '\''):
			v += 2
			if n := bytes.Index(b[v:], b[v-2:v]); n >= 0 {
				stop = v + n
			} else {
				stop = len(b)
			}
		case quote == '"' || quote == '\'':
			v++
			stop = v
			for stop < len(b) && b[stop] != quote {
				if b[stop] == '\\' {
					stop++
				}
				stop++
			}
			stop = min(stop, len(b))
		case name == "cookie" || name == "setcookie" || name == "authorization" || name == "proxyauthorization":
			stop = len(b) // the whole header
			if n := bytes.IndexByte(b[v:], '\n'); n >= 0 {
				stop = v + n
			}
		default:
			for stop = v; stop < len(b) && !bytes.ContainsRune([]byte(" \t\n,;&\"'}])"), rune(b[stop])); stop++ {
			}
		}
		if stop == v {
			continue
		}
		out = append(append(out, b[last:v]...), Redacted...)
		last = stop
		i = stop - 1
	}
	if last == 0 {
		return b
	}
	return append(out, b[last:]...)
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}

// urlPasswords redacts user:password@ after ://.
func urlPasswords(b []byte) []byte {
	for from := 0; ; {
		i := bytes.Index(b[from:], []byte("://"))
		if i < 0 {
			return b
		}
		start := from + i + 3
		end := start
		at := -1
		for end < len(b) && !bytes.ContainsRune([]byte("/?# \t\n\"'<>"), rune(b[end])) {
			if b[end] == '@' {
				at = end
			}
			end++
		}
		from = end
		if at < 0 {
			continue
		}
		out := append(append(append([]byte(nil), b[:start]...), Redacted...), b[at:]...)
		from += len(out) - len(b)
		b = out
	}
}

// words looks at each run of characters that tokens are made of.
func words(b []byte) []byte {
	var out []byte
	last := 0
	for i := 0; i < len(b); {
		if !isTokenByte(b[i]) {
			i++
			continue
		}
		start := i
		for i < len(b) && isTokenByte(b[i]) {
			i++
		}
		rep := judge(b[start:i])
		// "Bearer x" and "Basic x" give the value away by the word before.
		if rep == "" && i-start >= 8 && start > 0 {
			before := bytes.ToLower(b[max(0, start-7):start])
			if bytes.HasSuffix(before, []byte("bearer ")) || bytes.HasSuffix(before, []byte("basic ")) {
				rep = Redacted
			}
		}
		if rep != "" {
			out = append(append(out, b[last:start]...), rep...)
			last = i
		}
	}
	if last == 0 {
		return b
	}
	return append(out, b[last:]...)
}

func isTokenByte(c byte) bool {
	return isWord(c) || c == '+' || c == '/' || c == '=' || c == '@' || c == '~' || c == '%'
}

// prefixes begin credentials of known services; min is the least length of a
// real one.
var prefixes = []struct {
	p   string
	min int
}{
	{"AKIA", 20}, {"ASIA", 20}, {"ghp_", 30}, {"gho_", 30}, {"ghu_", 30}, {"ghs_", 30}, {"ghr_", 30}, {"github_pat_", 40},
	{"glpat-", 20}, {"xoxa-", 15}, {"xoxb-", 15}, {"xoxp-", 15}, {"xoxr-", 15}, {"xoxs-", 15}, {"sk_live_", 20}, {"rk_live_", 20},
	{"sk_test_", 20}, {"pk_live_", 20}, {"whsec_", 20}, {"AIza", 35}, {"ya29.", 20}, {"SG.", 40}, {"npm_", 30}, {"pypi-AgEI", 40},
	{"sk-ant-", 30}, {"sk-proj-", 30}, {"hvs.", 20}, {"dop_v1_", 40}, {"shpat_", 30}, {"AGE-SECRET-KEY-", 40},
}

// judge returns what to write in place of a word; "" to keep it.
func judge(w []byte) string {
	if len(w) >= 6 {
		if at := bytes.IndexByte(w, '@'); at > 0 && at == bytes.LastIndexByte(w, '@') && bytes.IndexByte(w[at:], '.') > 1 && w[len(w)-1] != '.' && bytes.IndexByte(w, '/') < 0 {
			// personal data: enough to recognise one's own address
			_, size := utf8.DecodeRune(w)
			return string(w[:size]) + "***" + string(w[at:])
		}
	}
	if len(w) < 15 {
		return ""
	}
	for _, p := range prefixes {
		if len(w) >= p.min && bytes.HasPrefix(w, []byte(p.p)) {
			return Redacted
		}
	}
	if signed(w) {
		return Redacted
	}
	return ""
}

// signed recognises a JWT (RFC 7519) and what itsdangerous signs: three
// base64url parts, or a Flask cookie that begins with a dot, or a
// remember-me token user|hex of 128 digits.
func signed(w []byte) bool {
	w = bytes.TrimPrefix(w, []byte("."))
	parts := bytes.Split(w, []byte("."))
	if len(parts) == 3 || len(parts) == 5 {
		total := 0
		for i, p := range parts {
			if !base64URL(p) || len(p) < 5 && !(len(parts) == 5 && i > 0) {
				return false
			}
			total += len(p)
		}
		// A JWT's header begins with eyJ; a Flask session's payload does, or
		// is zlib (the leading dot), and its signature has 27 characters of
		// SHA-1 or more.
		return bytes.HasPrefix(parts[0], []byte("eyJ")) || len(parts[2]) >= 27 && total >= 36
	}
	return len(parts) == 2 && len(parts[1]) >= 27 && len(parts[0]) >= 8 && base64URL(parts[0]) && base64URL(parts[1]) && mixed(parts[1])
}

func base64URL(p []byte) bool {
	for _, c := range p {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '=') {
			return false
		}
	}
	return true
}

func mixed(p []byte) bool {
	var lower, upper, digit bool
	for _, c := range p {
		lower = lower || c >= 'a' && c <= 'z'
		upper = upper || c >= 'A' && c <= 'Z'
		digit = digit || c >= '0' && c <= '9'
	}
	return lower && upper && digit
}

// cards redacts payment card numbers: 13 to 19 digits, spaces or hyphens
// between, that pass Luhn and begin as an issuer's numbers of that length do.
// 19-digit Visa numbers are left out: they were all false in practice.
func cards(b []byte) []byte {
	var out []byte
	last := 0
	for i := 0; i < len(b); {
		if b[i] < '0' || b[i] > '9' {
			i++
			continue
		}
		if i > 0 && (isWord(b[i-1]) && b[i-1] != '-' || b[i-1] == '%') {
			for i < len(b) && isWord(b[i]) {
				i++
			}
			continue
		}
		start, end := i, i
		var digits [20]byte
		n := 0
		for end < len(b) && n < len(digits) {
			c := b[end]
			if c >= '0' && c <= '9' {
				digits[n] = c - '0'
				n++
				end++
				continue
			}
			if (c == ' ' || c == '-') && end+1 < len(b) && b[end+1] >= '0' && b[end+1] <= '9' {
				end++
				continue
			}
			break
		}
		followed := end < len(b) && (isWord(b[end]) && b[end] != '-' && b[end] != '.')
		if !followed && n <= 19 && card(digits[:n]) {
			out = append(append(out, b[last:start]...), Redacted...)
			last = end
		}
		i = max(end, start+1)
	}
	if last == 0 {
		return b
	}
	return append(out, b[last:]...)
}

func card(d []byte) bool {
	n := len(d)
	if n < 13 {
		return false
	}
	head := int(d[0])*1000 + int(d[1])*100 + int(d[2])*10 + int(d[3])
	known := d[0] == 4 && (n == 13 || n == 16) || // Visa
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

// clean cuts s and escapes what could forge a line of the log or drive a
// terminal (CWE-117, CWE-150): control characters, line and paragraph
// separators, bidirectional overrides, bytes that are no UTF-8.
func clean(s string, most int) string {
	cut := false
	if len(s) > most {
		s, cut = s[:most], true
		for len(s) > 0 && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
		if len(s) > 0 && s[len(s)-1] >= utf8.RuneSelf {
			s = s[:len(s)-1]
		}
	}
	bad := false
	for _, c := range s {
		if unsafeRune(c) {
			bad = true
			break
		}
	}
	if bad {
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
		s = b.String()
	}
	if cut {
		s += "…"
	}
	return s
}

const hexDigits = "0123456789abcdef"

func unsafeRune(c rune) bool {
	return c < 0x20 || c >= 0x7f && c < 0xa0 || c == utf8.RuneError || c == 0x2028 || c == 0x2029 ||
		c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 || c == 0x200e || c == 0x200f || c == 0x061c || c == 0xfeff
}
