package event

import (
	"maps"
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
// never reach the log, compared without case and punctuation.
var secretKeys = strings.Fields(`password passwd pwd pass passphrase secret clientsecret token accesstoken refreshtoken
	idtoken idtokenhint csrftoken xcsrftoken csrf xsrf xsrftoken authenticitytoken apikey apitoken accesskey secretkey privatekey authkey
	signingkey encryptionkey masterkey authorization proxyauthorization credential credentials cookie setcookie sessionid jsessionid phpsessid
	otp totp pin mfa cvv cvc cvv2 cardnumber creditcard ccnumber iban ssn taxid assertion samlresponse samlrequest
	hmac jwt bearer remembertoken resettoken xamzsignature xamzcredential xamzsecuritytoken
	xapikey xauthtoken awsaccesskeyid googleaccessid newpassword oldpassword currentpassword confirmpassword passwordconfirm password1 password2
	passwordagain repeatpassword securitytoken`)

// plainKeys are names that are secret as a parameter, a field or before an
// equals sign, and ordinary words before a colon: "status code: 404".
var plainKeys = strings.Fields(`auth code state nonce key session sid card pan sin signature sig magic ticket answer challenge verifier codeverifier`)

// secretParts make a name secret wherever they stand in it: user_password,
// stripe_secret_key.
var secretParts = []string{"password", "passwd", "secret", "token", "apikey", "privatekey", "credential", "sessionid"}

// secretEnds make a name secret as its last word: db_pass, smtp-pwd.
var secretEnds = []string{"pass", "pwd", "otp", "pin", "cvv", "cvc", "ssn", "jwt", "passphrase"}

// Redactor takes secrets and personal data out of events: by the name a value
// goes under, and by the shape of the value itself. It errs on the side of
// taking out; ids, paths, numbers and hashes that are no credentials stay.
// The zero value is not usable; it is safe for concurrent use.
//
// What it cannot know stays: a password with a space in it after an unquoted
// "password:" is taken out up to the space, and a secret that looks like any
// word, under a name that says nothing, looks like any word.
type Redactor struct{ keys map[string]strength }

// strength says how much a name alone proves.
type strength uint8

const (
	notSecret strength = iota
	// plain names are secret unless they stand in prose before a colon.
	plain
	strong
)

// NewRedactor returns a redactor that also knows the given names.
func NewRedactor(more ...string) *Redactor {
	r := &Redactor{keys: map[string]strength{}}
	for _, k := range plainKeys {
		r.keys[k] = plain
	}
	for _, k := range secretKeys {
		r.keys[k] = strong
	}
	for _, k := range more {
		var buf [maxKey]byte
		if k := foldKey(&buf, k); len(k) > 0 {
			r.keys[string(k)] = strong
		}
	}
	return r
}

// SecretKey reports whether values under this name are taken out.
func (r *Redactor) SecretKey(name string) bool { return r.weigh(name) != notSecret }

// maxKey is how much of a name is looked at, from its end.
const maxKey = 64

// foldKey writes the letters and digits of a name, in lower case, into buf.
func foldKey(buf *[maxKey]byte, k string) []byte {
	if len(k) > maxKey {
		k = k[len(k)-maxKey:]
	}
	n := 0
	for i := range len(k) {
		c := k[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= utf8.RuneSelf {
			buf[n] = c
			n++
		}
	}
	return buf[:n]
}

func (r *Redactor) weigh(name string) strength {
	var buf [maxKey]byte
	k := foldKey(&buf, name)
	if s := r.keys[string(k)]; s != notSecret {
		return s
	}
	for _, p := range secretParts {
		if strings.Contains(string(k), p) {
			return strong
		}
	}
	for _, e := range secretEnds {
		if !strings.HasSuffix(string(k), e) {
			continue
		}
		name := strings.TrimRight(name, "]")
		if i := len(name) - len(e); i > 0 {
			// A word of its own: after punctuation, or a capital after none.
			c, before := name[i], name[i-1]
			if class[before]&(upper|lower|digit) == 0 || class[c]&upper != 0 && class[before]&upper == 0 {
				return strong
			}
		}
	}
	return notSecret
}

// Event returns e with every text redacted, cut, and made safe to print.
func (r *Redactor) Event(e Event) Event {
	e.Name = printable(cut(e.Name, 64), 64)
	e.Message = r.field(e.Message, maxText)
	e.Detail = r.field(e.Detail, maxDetail)
	e.Reason, e.Layer = printable(cut(e.Reason, 64), 64), printable(cut(e.Layer, 64), 64)
	e.Control, e.Verdict = printable(cut(e.Control, 64), 64), printable(cut(e.Verdict, 16), 16)
	e.RequestID = printable(cut(e.RequestID, 64), 64)
	e.Method, e.Scheme = printable(cut(e.Method, 32), 32), printable(cut(e.Scheme, 16), 16)
	e.Host = printable(r.host(cut(e.Host, 256)), 256)
	e.Path = r.field(e.Path, maxText)
	e.Query = printable(r.Query(cut(e.Query, maxText)), maxText)
	e.UserAgent = r.field(e.UserAgent, maxUserAgent)
	if e.Attributes != nil {
		a := maps.Clone(e.Attributes)
		for k, v := range a {
			if r.SecretKey(k) {
				a[k] = Redacted
			} else {
				a[k] = r.field(v, maxStack)
			}
		}
		e.Attributes = a
	}
	return e
}

func (r *Redactor) field(s string, most int) string {
	return printable(r.Text(cut(s, most)), most)
}

// host redacts a Host field: there are no assignments in it, and what a
// client puts before an @ is no host.
func (r *Redactor) host(h string) string {
	if i := strings.LastIndexByte(h, '@'); i >= 0 {
		h = Redacted + h[i:]
	}
	return (&scanner{r: r, s: h, noKeys: true}).text()
}

// Query redacts a query string pair by pair and keeps its form. Names and
// values are judged as the app will see them; a pair with a broken escape is
// judged with the escape as it stands, not left out.
func (r *Redactor) Query(q string) string {
	if q == "" {
		return ""
	}
	var b strings.Builder
	b.Grow(len(q))
	for i := 0; q != ""; i++ {
		if i > 0 {
			b.WriteByte('&')
		}
		part, rest, more := strings.Cut(q, "&")
		r.pair(&b, part, true)
		if q = rest; more && rest == "" {
			b.WriteByte('&')
		}
	}
	return b.String()
}

// pair writes one pair. Some frameworks also split at semicolons: what is no
// secret as a whole is looked at in these parts, too.
func (r *Redactor) pair(b *strings.Builder, text string, whole bool) {
	k, v, has := strings.Cut(text, "=")
	if name, _ := unescape(k); has && v != "" && r.SecretKey(name) {
		r.part(b, k)
		b.WriteByte('=')
		b.WriteString(Redacted)
		return
	}
	if whole && strings.Contains(text, ";") {
		for i, p := range strings.Split(text, ";") {
			if i > 0 {
				b.WriteByte(';')
			}
			r.pair(b, p, false)
		}
		return
	}
	r.part(b, k)
	if has {
		b.WriteByte('=')
		r.part(b, v)
	}
}

// part writes a name or a value: as it stands if it holds no secret, else
// decoded and redacted.
func (r *Redactor) part(b *strings.Builder, s string) {
	plain, ok := unescape(s)
	if !ok {
		b.WriteString(Redacted)
		return
	}
	red := r.Text(plain)
	if red == plain {
		b.WriteString(s)
		return
	}
	for i := range len(red) {
		switch c := red[i]; c {
		case '&', ';', '=', '+':
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		default:
			b.WriteByte(c)
		}
	}
}

// unescape decodes a part of a query until nothing is left to decode: what is
// encoded twice is for a link within a link. ok is false after four rounds.
func unescape(s string) (plain string, ok bool) {
	for range 4 {
		next := unescapeOnce(s)
		if next == s {
			return s, true
		}
		s = next
	}
	return s, unescapeOnce(s) == s
}

// unescapeOnce decodes valid escapes and leaves broken ones.
func unescapeOnce(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b = append(b, ' ')
		case s[i] == '%' && isEscape(s[i:]):
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	return string(b)
}

func isEscape(s string) bool {
	return len(s) >= 3 && s[0] == '%' && class[s[1]]&hex != 0 && class[s[2]]&hex != 0
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

// Text redacts what looks like a secret inside a text: values after a secret
// name (password=…, "token": "…", Authorization: …), credentials of known
// form, JWTs and signed cookies, private keys, tokens of links, card numbers,
// the user of a URL; and shortens e-mail addresses. One pass, no regular
// expressions; redacting twice changes nothing more.
func (r *Redactor) Text(s string) string {
	return (&scanner{r: r, s: s}).text()
}

// Classes of bytes.
const (
	upper = 1 << iota
	lower
	digit
	hex
	word  // what credentials are made of: letters, digits, - _ .
	local // the part of an e-mail address before the @
	stop  // ends an unquoted value
	space
)

var class = func() (t [256]uint8) {
	for c := range t {
		b := byte(c)
		switch {
		case b >= 'A' && b <= 'Z':
			t[c] = upper | word | local
		case b >= 'a' && b <= 'z':
			t[c] = lower | word | local
		case b >= '0' && b <= '9':
			t[c] = digit | hex | word | local
		case b >= utf8.RuneSelf:
			t[c] = local
		}
		if b >= 'A' && b <= 'F' || b >= 'a' && b <= 'f' {
			t[c] |= hex
		}
	}
	for _, c := range []byte("-_.") {
		t[c] |= word | local
	}
	t['+'] |= local
	for _, c := range []byte(" \t\r\n,;&\"'<>\x00") {
		t[c] |= stop
	}
	for _, c := range []byte(" \t\r\n") {
		t[c] |= space
	}
	return t
}()

// scanner goes through a text once, word by word.
type scanner struct {
	r      *Redactor
	s      string
	noKeys bool
	out    []byte
	last   int // s[:last] is in out
	// the word before the current one is s[from:to]
	from, to int
}

func (c *scanner) text() string {
	s := c.s
	for i := 0; i < len(s); {
		switch b := s[i]; {
		case class[b]&word != 0:
			i = c.word(i)
		case b == '@':
			i = c.email(i, 1)
		case b == '%' && len(s)-i > 2 && s[i+1:i+3] == "40":
			i = c.email(i, 3)
		case b == ':' && strings.HasPrefix(s[i:], "://"):
			i = c.userinfo(i + 3)
		default:
			i++
		}
	}
	if c.last == 0 && c.out == nil {
		return s
	}
	return string(append(c.out, s[c.last:]...))
}

// replace writes text in place of s[from:to] and returns to.
func (c *scanner) replace(from, to int, text string) int {
	from = max(from, c.last)
	if c.out == nil {
		c.out = make([]byte, 0, len(c.s)+16)
	}
	c.out = append(append(c.out, c.s[c.last:from]...), text...)
	c.last = to
	return to
}

// word looks at the run of word bytes at i and returns where to go on.
func (c *scanner) word(i int) int {
	s := c.s
	end := i + 1
	for end < len(s) && class[s[end]]&word != 0 {
		end++
	}
	start := i
	sep := byte(0) // what stands before the word
	if i > 0 {
		sep = s[i-1]
	}
	if sep == '%' && end-start >= 2 && class[s[i]]&class[s[i+1]]&hex != 0 {
		// An escape: the word begins after it.
		start = i + 2
		if s[i:i+2] == "25" && end-start >= 2 && class[s[start]]&class[s[start+1]]&hex != 0 {
			start += 2
		}
		sep = unhex(s[start-2])<<4 | unhex(s[start-1])
	}
	w := s[start:end]
	before := s[c.from:c.to]
	gap := s[c.to:start]
	c.from, c.to = start, end

	if sep != '-' && strings.HasPrefix(w, "-----") {
		if stop := c.privateKey(start); stop > 0 {
			return stop
		}
	}
	if next := c.assignment(start, end, sep, before, gap); next > 0 {
		return next
	}
	if len(w) >= 8 && (gap == " " || gap == "%20" || gap == "+") {
		if stop := c.scheme(start, before); stop > 0 {
			return c.replace(start, stop, Redacted)
		}
	}
	if len(w) >= 15 {
		bare := strings.TrimRight(w, ".-")
		switch {
		case credential(bare),
			sep == '|' && len(bare) >= 64 && isHex(bare), // Flask-Login: user|digest
			sep == '/' && (linkToken(bare) || len(bare) >= 16 && (gap == "/" || gap == "%2F") && linkWord(before) && idLike(bare)):
			c.replace(start, start+len(bare), Redacted)
			return end
		}
	}
	for p := start; p < end; p++ {
		if class[s[p]]&digit == 0 {
			continue
		}
		if p == start || s[p-1] == '-' || s[p-1] == '_' {
			if stop := c.card(p); stop > 0 {
				return c.replace(p, stop, Redacted)
			}
		}
		for p+1 < end && class[s[p+1]]&digit != 0 {
			p++
		}
	}
	return end
}

// privateKey redacts a PEM block, also one that is cut at either end.
func (c *scanner) privateKey(i int) (stop int) {
	s := c.s[i:]
	head := s[:min(len(s), 60)]
	begin := strings.HasPrefix(s, "-----BEGIN ")
	if !begin && !strings.HasPrefix(s, "-----END ") || !strings.Contains(head, "PRIVATE KEY") {
		return 0
	}
	from, tail := i, i
	if begin {
		n := strings.Index(s, "-----END ")
		if n < 0 {
			return c.replace(from, len(c.s), Redacted)
		}
		tail += n
	} else {
		from = c.last // only its end is here: what came before is the key
	}
	tail += len("-----END ")
	if n := strings.Index(c.s[tail:], "-----"); n >= 0 {
		return c.replace(from, tail+n+5, Redacted)
	}
	return c.replace(from, len(c.s), Redacted)
}

// assignment redacts the value after a secret name: name=, name:, "name":,
// 'name' =>, <name>, name%3D. 0 means that there is none.
func (c *scanner) assignment(start, end int, sep byte, before, gap string) (next int) {
	s := c.s
	if c.noKeys || end >= len(s) {
		return 0
	}
	v, quoted := end, false
	for n := 0; v < len(s) && n < 5; n++ {
		switch s[v] {
		case '"', '\'', '\\', ']':
			quoted = true
			v++
			continue
		case ' ':
			v++
			continue
		}
		break
	}
	if v >= len(s) {
		return 0
	}
	prose := false
	switch rest := s[v:]; {
	case rest[0] == '=':
		v++
		for v < len(s) && (s[v] == '=' || s[v] == '>') { // == and =>
			v++
		}
	case rest[0] == ':':
		prose = !quoted
		v++
		if v < len(s) && s[v] == '=' {
			v++
		}
	case rest[0] == '>' && sep == '<' && v == end:
		v++
	case strings.HasPrefix(rest, "%3D"), strings.HasPrefix(rest, "%3d"), strings.HasPrefix(rest, "%3A"), strings.HasPrefix(rest, "%3a"):
		v += 3
	case strings.HasPrefix(rest, "%253D"), strings.HasPrefix(rest, "%253d"):
		v += 5
	default:
		return 0
	}
	name := s[start:end]
	switch weight := c.r.weigh(name); {
	case weight == notSecret && !(gap == " " && c.r.weigh(before+name) == strong), // "API key: …"
		weight == plain && prose && !(gap == " " && c.r.weigh(before+name) == strong):
		return 0
	}
	from, to := value(s, v, name)
	if from == to {
		return 0
	}
	if s[from:to] == Redacted {
		return to
	}
	c.replace(from, to, Redacted)
	c.from, c.to = to, to
	return to
}

// value returns where the value at v begins and ends.
func value(s string, v int, name string) (from, to int) {
	for v < len(s) && class[s[v]]&space != 0 && s[v] != '\n' {
		v++
	}
	if v >= len(s) {
		return v, v
	}
	rest := s[v:]
	switch b := s[v]; {
	case b == '\\' && len(rest) > 1 && (rest[1] == '"' || rest[1] == '\''):
		v += 2
		if n := strings.Index(s[v:], rest[:2]); n >= 0 {
			return v, v + n
		}
		return v, len(s)
	case b == '"' || b == '\'':
		v++
		for to = v; to < len(s) && s[to] != b; to++ {
			if s[to] == '\\' {
				to++
			}
		}
		return v, min(to, len(s))
	case strings.HasPrefix(rest, Redacted):
		to = v + len(Redacted)
		n := to
		for n < len(s) && class[s[n]]&stop == 0 {
			n++
		}
		if strings.Trim(s[to:n], ")]}") != "" {
			to = n // somebody wrote on behind it
		}
		return v, to
	case b == '[' || b == '{':
		// A list or an object: to its end, quotes understood.
		depth, quote := 0, byte(0)
		for to = v; to < len(s); to++ {
			switch b := s[to]; {
			case quote != 0:
				if b == '\\' {
					to++
				} else if b == quote {
					quote = 0
				}
			case b == '"' || b == '\'':
				quote = b
			case b == '[' || b == '{':
				depth++
			case b == ']' || b == '}':
				if depth--; depth == 0 {
					return v, to + 1
				}
			}
		}
		return v, len(s)
	}
	var buf [maxKey]byte
	switch string(foldKey(&buf, name)) {
	case "cookie", "setcookie", "authorization", "proxyauthorization":
		// A whole header, up to its line's end.
		if n := strings.IndexAny(rest, "\r\n"); n >= 0 {
			return v, v + n
		}
		return v, len(s)
	}
	for to = v; to < len(s) && class[s[to]]&stop == 0; to++ {
	}
	if to < len(s) && s[to] == ' ' && isScheme(s[v:to]) {
		for to++; to < len(s) && class[s[to]]&stop == 0; to++ {
		}
	}
	for to > v && (s[to-1] == ')' || s[to-1] == ']' || s[to-1] == '}') {
		to--
	}
	return v, to
}

func isScheme(w string) bool {
	for _, s := range []string{"bearer", "basic", "digest", "token", "negotiate", "apikey"} {
		if strings.EqualFold(w, s) {
			return true
		}
	}
	return false
}

// scheme recognises the credentials of RFC 7235 after the word that names
// their scheme, and returns where they end. "basic settings" are none.
func (c *scanner) scheme(start int, before string) (stop int) {
	bearer, basic := strings.EqualFold(before, "bearer"), strings.EqualFold(before, "basic")
	if !bearer && !basic {
		return 0
	}
	s := c.s
	stop = start
	digits := 0
	for stop < len(s) && (class[s[stop]]&word != 0 || s[stop] == '+' || s[stop] == '/' || s[stop] == '~') {
		if class[s[stop]]&digit != 0 {
			digits++
		}
		stop++
	}
	upperInside := strings.ToLower(s[start+1:stop]) != s[start+1:stop]
	for stop < len(s) && s[stop] == '=' {
		stop++
	}
	if n := stop - start; n >= 20 || n >= 8 && (digits > 0 || upperInside || s[stop-1] == '=') {
		return stop
	}
	return 0
}

// prefixes begin credentials of known services; min is the least length of a
// real one.
var prefixes = []struct {
	p   string
	min int
}{
	{"AKIA", 20}, {"ASIA", 20}, {"ghp_", 30}, {"gho_", 30}, {"ghu_", 30}, {"ghs_", 30}, {"ghr_", 30}, {"github_pat_", 40},
	{"glpat-", 20}, {"xoxa-", 15}, {"xoxb-", 15}, {"xoxp-", 15}, {"xoxr-", 15}, {"xoxs-", 15}, {"xapp-", 15}, {"sk_live_", 20}, {"rk_live_", 20},
	{"sk_test_", 20}, {"pk_live_", 20}, {"whsec_", 20}, {"AIza", 35}, {"ya29.", 20}, {"GOCSPX-", 20}, {"SG.", 40}, {"npm_", 30}, {"pypi-AgEI", 40},
	{"sk-ant-", 30}, {"sk-proj-", 30}, {"hvs.", 20}, {"dop_v1_", 40}, {"shpat_", 30}, {"AGE-SECRET-KEY-", 40},
}

func credential(w string) bool {
	for i := range prefixes {
		if p := &prefixes[i]; w[0] == p.p[0] && len(w) >= p.min && strings.HasPrefix(w, p.p) {
			return true
		}
	}
	return signed(w)
}

// signed recognises a JWT (RFC 7519), also one that is cut or unsigned, and
// what itsdangerous signs: payload.signature, payload.timestamp.signature, and
// Flask's compressed session, which begins with a dot.
func signed(w string) bool {
	compressed := w[0] == '.'
	w = strings.TrimLeft(w, ".")
	first, rest, ok := strings.Cut(w, ".")
	if !ok {
		return false
	}
	if len(first) >= 10 && strings.HasPrefix(first, "eyJ") || compressed && strings.HasPrefix(first, "eJ") {
		return true // base64 of {" and of zlib's header
	}
	second, third, three := strings.Cut(rest, ".")
	if !three {
		return len(first) >= 2 && len(second) >= 27 && len(second) <= 86 && mixed(second)
	}
	if strings.Contains(third, ".") {
		return false
	}
	// itsdangerous: six characters of time, then HMAC-SHA1 (27) to SHA-512 (86).
	return len(second) >= 5 && len(second) <= 7 && len(third) >= 27 && len(third) <= 86 && mixed(third)
}

// mixed reports whether w changes between small letters, capitals and digits
// as often as random base64 does; names in CamelCase do not.
func mixed(w string) bool {
	changes, seen := 0, uint8(0)
	for i := range len(w) {
		k := class[w[i]] & (upper | lower | digit)
		seen |= k
		if i > 0 && k != class[w[i-1]]&(upper|lower|digit) {
			changes++
		}
	}
	return seen == upper|lower|digit && changes*11 >= len(w)*4
}

func isHex(w string) bool {
	for i := range len(w) {
		if class[w[i]]&hex == 0 {
			return false
		}
	}
	return true
}

// linkToken reports whether a path segment looks like the token of a link:
// random base64. UUIDs, slugs, hashes and file names are none.
func linkToken(s string) bool {
	return len(s) >= 24 && strings.IndexByte(s, '.') < 0 && mixed(s)
}

// linkWord reports whether a path segment announces a token.
func linkWord(s string) bool {
	if len(s) > 40 {
		return false
	}
	s = strings.ToLower(s)
	for _, w := range []string{"reset", "confirm", "activat", "verif", "invit", "magic", "unsubscribe", "token", "recover", "password"} {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// idLike reports whether w is made of letters, digits and hyphens, with a
// digit: a UUID, a hash, a number.
func idLike(w string) bool {
	digits := false
	for i := range len(w) {
		if class[w[i]]&(upper|lower|digit) == 0 && w[i] != '-' && w[i] != '_' {
			return false
		}
		digits = digits || class[w[i]]&digit != 0
	}
	return digits
}

// email shortens the address around an @, which is width bytes wide, to what
// its owner still recognises. Names with a version (pkg@v1.2.3) are none.
func (c *scanner) email(at, width int) (next int) {
	s := c.s
	next = at + width
	end := next
	for end < len(s) && (class[s[end]]&(upper|lower|digit) != 0 || s[end] == '-' || s[end] == '.') {
		end++
	}
	domain := strings.TrimRight(s[next:end], ".-")
	dot := strings.LastIndexByte(domain, '.')
	if dot < 1 || len(domain)-dot < 3 {
		return next
	}
	for _, b := range []byte(domain[dot+1:]) {
		if class[b]&(upper|lower) == 0 {
			return next
		}
	}
	from := at
	for from > c.last && class[s[from-1]]&local != 0 {
		from--
	}
	if from > 0 && s[from-1] == '%' && at-from >= 2 && class[s[from]]&class[s[from+1]]&hex != 0 {
		from += 2
	}
	for from < at && !utf8.RuneStart(s[from]) {
		from++
	}
	if from == at {
		return next
	}
	if from > 0 && s[from-1] == ':' && !strings.HasSuffix(strings.ToLower(s[:from]), "mailto:") {
		c.replace(from, at, Redacted) // user:password@host
		return next
	}
	_, size := utf8.DecodeRuneInString(s[from:at])
	c.replace(from+size, at, "***")
	return next
}

// userinfo redacts user:password@ at the beginning of a URL's authority.
func (c *scanner) userinfo(i int) (next int) {
	s := c.s
	end, at := i, -1
	for ; end < len(s) && class[s[end]]&(stop|space) == 0 && s[end] != '/' && s[end] != '?' && s[end] != '#'; end++ {
		if s[end] == '@' {
			at = end
		}
	}
	if at < 0 && end < len(s) && s[end] != ' ' {
		// A password may hold an unescaped / ? or #. Then what stands behind
		// the colon is no port.
		if _, port, ok := strings.Cut(s[i:end], ":"); ok && s[i] != '[' && strings.Trim(port, "0123456789") != "" {
			for ; end < len(s) && class[s[end]]&space == 0 && s[end] != '"' && s[end] != '\''; end++ {
				if s[end] == '@' {
					at = end
					break
				}
			}
		}
	}
	if at < 0 || at == i || s[i:at] == Redacted {
		return i
	}
	return c.replace(i, at, Redacted)
}

// card returns where the payment card number that begins at i ends, or 0:
// digits in one piece or in the groups that cards are printed with, that pass
// Luhn and begin as an issuer's numbers of that length do.
func (c *scanner) card(i int) (stop int) {
	s := c.s
	var digits [19]byte
	var groups [8]int
	n, g := 0, 0
	end := i
	for end < len(s) {
		b := s[end]
		if class[b]&digit != 0 {
			if n == len(digits) {
				return 0
			}
			digits[n] = b - '0'
			n++
			groups[g]++
			end++
			// A number may end after this group even if more follow.
			if end == len(s) || class[s[end]]&digit == 0 {
				if stop == 0 && n >= 12 && grouped(groups[:g+1]) && !continues(s[end:]) && isCard(digits[:n], c.near(i)) {
					stop = end
				}
			}
			continue
		}
		if (b == ' ' || b == '-') && end+1 < len(s) && class[s[end+1]]&digit != 0 && g+1 < len(groups) {
			if groups[g] != 4 && groups[g] != 6 || b != s[i+groups[0]] {
				break
			}
			g++
			end++
			continue
		}
		break
	}
	return stop
}

// continues reports whether a number goes on in s as something else: letters,
// a fraction.
func continues(s string) bool {
	if s == "" {
		return false
	}
	if s[0] == '.' || s[0] == '-' {
		return len(s) > 1 && class[s[1]]&(upper|lower) != 0 || s[0] == '.' && len(s) > 1 && class[s[1]]&digit != 0
	}
	return class[s[0]]&word != 0
}

func grouped(g []int) bool {
	switch {
	case len(g) == 1:
		return true
	case len(g) == 3 && g[0] == 4 && g[1] == 6:
		return g[2] == 4 || g[2] == 5
	}
	for i, n := range g {
		if n != 4 && (i < len(g)-1 || n == 0 || n > 4) {
			return false
		}
	}
	return true
}

// near reports whether a word before i announces a card.
func (c *scanner) near(i int) bool {
	before := strings.ToLower(c.s[max(0, i-24):i])
	for _, w := range []string{"card", "visa", "maestro", "jcb", "payment", "credit", "debit"} {
		if strings.Contains(before, w) {
			return true
		}
	}
	return false
}

// isCard checks issuer, length and Luhn's sum (ISO/IEC 7812-1). Lengths that
// are rare on cards and common elsewhere (13 digits are a German EAN, 19 that
// begin with 4 were all block numbers in practice) count only after a word
// that announces a card.
func isCard(d []byte, announced bool) bool {
	n := len(d)
	head := int(d[0])*1000 + int(d[1])*100 + int(d[2])*10 + int(d[3])
	known := n == 16 && d[0] == 4 || // Visa
		n == 16 && (head >= 5100 && head <= 5599 || head >= 2221 && head <= 2720) || // Mastercard
		n == 15 && (head/100 == 34 || head/100 == 37) || // American Express
		n >= 16 && (head == 6011 || head/100 == 65 || head/10 >= 644 && head/10 <= 649) || // Discover
		n == 16 && head >= 3528 && head <= 3589 || // JCB
		n == 14 && (head/10 >= 300 && head/10 <= 305 || head/100 == 36 || head/100 == 38) || // Diners
		n >= 16 && head/100 == 62 || // UnionPay
		announced && (d[0] == 4 && (n == 13 || n == 19) ||
			n == 15 && (head == 2131 || head == 1800) ||
			head/100 == 50 || head/100 >= 56 && head/100 <= 58 || head/100 == 63 || head/100 == 67) // Maestro
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

// cut shortens s to most bytes. It takes the last word away with it, but for
// its beginning: half a credential would no longer be recognised as one.
func cut(s string, most int) string {
	const mark = "…"
	if len(s) <= most || len(s) <= most+len(mark) && strings.HasSuffix(s, mark) {
		return s
	}
	s = s[:most]
	for len(s) > 0 && !utf8.RuneStart(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	if len(s) > 0 && s[len(s)-1] >= utf8.RuneSelf {
		s = s[:len(s)-1]
	}
	digits, i := 0, len(s)
	for ; i > 0 && (class[s[i-1]]&digit != 0 || s[i-1] == ' ' || s[i-1] == '-'); i-- {
		digits += int(class[s[i-1]] & digit / digit)
	}
	if digits > 6 {
		return s[:i] + mark
	}
	for i = len(s); i > 0 && class[s[i-1]]&word != 0; i-- {
	}
	return s[:min(i+4, len(s))] + mark
}

// printable escapes what could forge a line of the log or drive a terminal
// (CWE-117, CWE-150): control characters, line and paragraph separators,
// bidirectional overrides, invisible tags, bytes that are no UTF-8. The result
// has at most a few bytes more than most.
func printable(s string, most int) string {
	bad := false
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] >= 0x7f {
			bad = true
			break
		}
	}
	if !bad && len(s) <= most {
		return s
	}
	const mark = "…"
	var b strings.Builder
	b.Grow(min(len(s), most) + 16)
	for i := 0; i < len(s); {
		if b.Len() >= most && s[i:] != mark {
			b.WriteString(mark)
			break
		}
		c, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case c == utf8.RuneError && n == 1:
			b.WriteString(`\x`)
			b.WriteByte(hexDigits[s[i]>>4])
			b.WriteByte(hexDigits[s[i]&15])
		case unsafeRune(c):
			form, digits := `\u`, 12
			if c > 0xffff {
				form, digits = `\U`, 28
			}
			b.WriteString(form)
			for shift := digits; shift >= 0; shift -= 4 {
				b.WriteByte(hexDigits[c>>shift&15])
			}
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

const hexDigits = "0123456789abcdef"

func unsafeRune(c rune) bool {
	return c < 0x20 || c >= 0x7f && c < 0xa0 || c == utf8.RuneError || c == 0x2028 || c == 0x2029 ||
		c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 || c == 0x200e || c == 0x200f || c == 0x061c || c == 0xfeff ||
		c >= 0xe0000 && c <= 0xe007f
}
