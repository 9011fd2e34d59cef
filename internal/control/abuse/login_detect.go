package abuse

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/dewar-security/dewar/internal/flasksession"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
)

// attemptKind is what a request tries.
type attemptKind uint8

const (
	noAttempt    attemptKind = iota
	login                    // a name and a password
	basicAuth                // the same, in an Authorization header (RFC 7617)
	secondFactor             // a code
	resetCode                // a code or token that sets a new password
	newPassword              // registration or reset: a password is chosen, none is proven
)

func (k attemptKind) String() string {
	return [...]string{"", "login", "basic", "second factor", "reset code", "new password"}[k]
}

// guesses reports whether somebody who does not know the secret would try
// many.
func (k attemptKind) guesses() bool { return k != noAttempt && k != newPassword }

// attempt is what a request tries. The accounts and the password are the
// client's words: they stay in the attempt and are never written anywhere.
type attempt struct {
	kind attemptKind
	// accounts are the names of accounts in the request, normalised. Where
	// nothing says which one the app reads, all of them count: a field that
	// only distracts frees nobody.
	accounts []string
	password string
	chosen   string // a password that is to be one from now on
	// basic is the pair of an Authorization header, normalised; beside a form,
	// too.
	basic *[2]string
	route string // the route's rule, or the path
	// certain says that the route map, or the operator, calls this a login;
	// otherwise it only looks like one.
	certain bool
}

// maxNames is the most names of accounts in one attempt. Forms have one, or a
// name and an address; more than that is meant to mislead.
const maxNames = 6

// maxName bounds an account's name and a password, in bytes: what is longer is
// cut for counting (NIST SP 800-63B asks verifiers for 64 characters).
const maxName = 320

// secretName reports whether a field's name is that of a password.
func secretName(n string) bool {
	return strings.Contains(n, "password") || strings.Contains(n, "passwd") || strings.Contains(n, "passphrase") ||
		strings.Contains(n, "passwort") || strings.Contains(n, "pwd") || n == "pass" || n == "passcode" || n == "userpass" || n == "loginpass"
}

// newSecretName reports whether the field holds a password that is chosen,
// not one that is proven.
func newSecretName(n string) bool {
	for _, w := range []string{"new", "repeat", "confirm", "again", "verify", "retype", "second"} {
		if strings.Contains(n, w) {
			return true
		}
	}
	return strings.HasSuffix(n, "2")
}

// codeNames are fields of one-time codes.
var codeNames = []string{"otp", "totp", "code", "token", "mfa", "mfacode", "otpcode", "totpcode", "twofactorcode", "verificationcode", "authcode", "2fa", "2facode", "pin", "backupcode", "recoverycode", "resetcode"}

// accountNames are fields of accounts' names.
var accountNames = []string{"username", "email", "user", "login", "identity", "identifier", "userid", "account", "accountid", "accountname", "useremail", "emailaddress", "mail", "loginname", "loginid", "nickname", "handle", "uname", "phone", "mobile", "name"}

// plainName takes what forms put around a field's name away: user[password],
// login-password, data.password.
func plainName(n string) string {
	return string(appendPlain(make([]byte, 0, len(n)), n))
}

func appendPlain(b []byte, n string) []byte {
	if i := strings.LastIndexByte(n, '['); i >= 0 && strings.HasSuffix(n, "]") && i+1 < len(n)-1 {
		n = n[i+1 : len(n)-1]
	}
	if i := strings.LastIndexByte(n, '.'); i >= 0 {
		n = n[i+1:]
	}
	for i := range len(n) {
		switch c := n[i]; {
		case c == '_', c == '-', c == ' ':
		case 'A' <= c && c <= 'Z':
			b = append(b, c+'a'-'A')
		default:
			b = append(b, c)
		}
	}
	return b
}

// fieldClass is what a field's name says that it holds.
type fieldClass uint8

const (
	otherField fieldClass = iota
	secretField
	chosenField // a password that is chosen
	codeField
	accountField
)

// maxFieldName is the longest name of a field that is looked at, in bytes.
const maxFieldName = 100

// classes are the names that say it without a word in them.
var classes = func() map[string]fieldClass {
	m := map[string]fieldClass{}
	for _, n := range accountNames {
		m[n] = accountField
	}
	for _, n := range codeNames {
		m[n] = codeField
	}
	return m
}()

// classify says what a field holds by its name. Requests have hundreds of
// fields, and nearly none is of interest: nothing is allocated for those.
func classify(name string) fieldClass {
	if len(name) > maxFieldName {
		return otherField
	}
	var buf [maxFieldName]byte
	b := appendPlain(buf[:0], name)
	// All words for passwords have one of these two.
	for i := 1; i < len(b); i++ {
		if b[i-1] == 'p' && (b[i] == 'a' || b[i] == 'w') {
			if n := string(b); secretName(n) {
				if newSecretName(n) {
					return chosenField
				}
				return secretField
			}
			break
		}
	}
	return classes[string(b)]
}

// beside reports whether a field of a login's form is there for something else
// than the account and the password.
func beside(name string) bool {
	n := plainName(name)
	return strings.Contains(n, "csrf") || strings.Contains(n, "token") || n == "next" || n == "submit" || strings.HasPrefix(n, "remember")
}

// detect returns what the request tries; kind is noAttempt for nearly all.
//
// The route map knows which routes are for logins and which fields they read.
// Without one, or beside it, every request that changes something and holds a
// field named like a password counts: an app that takes logins where nobody
// expects them is guarded, too.
func (l *loginLayer) detect(x *guard.Exchange) attempt {
	r := x.Request
	var m policy.Match
	if l.policy != nil {
		m = x.Match(l.policy())
	}
	writes := r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch
	var basic *[2]string
	if v := r.Header["Authorization"]; len(v) == 1 && len(v[0]) > 6 && strings.EqualFold(v[0][:6], "basic ") {
		if name, password, ok := r.BasicAuth(); ok {
			basic = &[2]string{normalName(name), clip(password, maxName)}
		}
	}
	chosen := ""
	if writes && (r.ContentLength != 0 || r.URL.RawQuery != "") || r.URL.RawQuery != "" && primary(m, "login", "token") {
		if a := l.fromFields(x, m); a.kind != noAttempt {
			if a.basic = basic; basic == nil || a.kind.guesses() {
				return a
			}
			chosen = a.chosen
		}
	}
	if basic != nil {
		return attempt{kind: basicAuth, chosen: chosen, accounts: []string{basic[0]}, password: basic[1], route: "basic", certain: true, basic: basic}
	}
	return attempt{}
}

// primary reports whether every route that could answer is first of all for
// one of kinds. That a view logs its user in again after a change of password
// does not make it a login.
func primary(m policy.Match, kinds ...string) bool {
	for _, r := range m.Routes {
		kind := r.Kind
		if kind == "" && len(r.Kinds) > 0 {
			kind = r.Kinds[0]
		}
		if !slices.Contains(kinds, kind) {
			return false
		}
	}
	return len(m.Routes) > 0
}

func (l *loginLayer) fromFields(x *guard.Exchange, m policy.Match) attempt {
	// What was read before an error counts: whoever breaks the body after the
	// password must not go uncounted.
	fields, _ := x.Fields()
	if len(fields) == 0 {
		return attempt{}
	}
	var password, choice, code string
	var names, read []string // of accounts; those that the route is known to read
	secrets, chosen, codes := 0, 0, false
	first, hasFirst := "", false
	look := func(f *guard.Field) {
		if f.File || f.Kind == guard.JSONObject || f.Kind == guard.JSONList || len(f.Name) > maxFieldName {
			return
		}
		switch class := classify(f.Name); class {
		case secretField, chosenField:
			if class == chosenField {
				chosen++
				choice = f.Value
			} else {
				secrets++
			}
			if password == "" || class == secretField && secrets == 1 {
				password = f.Value
			}
		case codeField:
			if f.Value != "" {
				code, codes = f.Value, true
			}
		case accountField:
			add := func(to []string, v string) []string {
				if v == "" || len(to) > maxNames || slices.Contains(to, v) {
					return to
				}
				return append(to, v)
			}
			v := normalName(f.Value)
			names = add(names, v)
			if len(m.Routes) > 0 && l.reads(m, f) {
				read = add(read, v)
			}
		case otherField:
			if !hasFirst && (f.In == policy.Form || f.In == policy.JSON) && !beside(f.Name) {
				first, hasFirst = f.Value, true
			}
		}
	}
	for i := range fields {
		if fields[i].In != policy.Query {
			look(&fields[i])
		}
	}
	inBody := secrets+chosen > 0 || codes
	for i := range fields {
		f := &fields[i]
		if f.In != policy.Query || !l.reads(m, f) {
			continue
		}
		// Beside a body with a secret, /login?password=x may be there to
		// mislead; but request.values takes what stands in the query first.
		switch class := classify(f.Name); {
		case !inBody, class == accountField:
			look(f)
		case class == secretField && len(m.Routes) > 0:
			password = f.Value
		}
	}
	if secrets+chosen == 0 && !codes && primary(m, "login") {
		if f := l.unnamedSecret(fields, m); f != nil {
			secrets, password = 1, f.Value
			if hasFirst && first == f.Value {
				hasFirst = false
			}
		}
	}
	path := strings.ToLower(strings.TrimRight(x.Path, "/"))
	sensitive := slices.ContainsFunc(l.patterns, func(p string) bool { return guard.MatchPattern(p, path) })
	a := attempt{route: clip(x.Path, 200), password: clip(password, maxName)}
	if chosen > 0 {
		a.chosen = clip(choice, maxName)
	}
	if len(m.Routes) > 0 {
		a.route = m.Routes[0].Rule
	}
	has := secrets+chosen > 0
	switch {
	case primary(m, "login", "token") && has:
		a.kind, a.certain = login, true
		if len(names) == 0 || len(read) == 0 && hasFirst {
			names = append(names, normalName(first)) // the map says it is a login: its other field names who
		}
	case primary(m, "login", "token") && codes:
		a.kind, a.certain, a.password = secondFactor, true, clip(code, maxName)
	case primary(m, "reset") && codes:
		a.kind, a.certain, a.password = resetCode, true, clip(code, maxName)
	case primary(m, "register", "reset"):
		if has {
			a.kind = newPassword
		}
	case has && sensitive && (strings.Contains(path, "regist") || strings.Contains(path, "signup") || strings.Contains(path, "sign-up")):
		a.kind = newPassword
	case has && !sensitive && (x.Identity.Account != "" || x.Identity.Subject != ""):
		// Who is logged in sends passwords for other reasons: new users, new
		// settings, a confirmation.
		if chosen == 0 {
			return attempt{}
		}
		a.kind = newPassword
	case has:
		// A second password beside the first does not make it a change: an
		// app that takes a login does not look at it.
		a.kind, a.certain = login, sensitive
		if len(names) == 0 {
			names = append(names, normalName(first))
		}
	case codes && sensitive:
		a.kind, a.certain, a.password = secondFactor, true, clip(code, maxName)
	default:
		return attempt{}
	}
	if len(read) > 0 && !slices.ContainsFunc(m.Routes, func(r *policy.Route) bool { return r.OtherFields }) {
		names = read // which fields the app reads is known
	}
	slices.Sort(names)
	if a.kind == newPassword && a.chosen == "" {
		a.chosen = a.password
	}
	a.accounts = slices.DeleteFunc(slices.Compact(names), func(n string) bool { return n == "" })
	switch {
	case len(a.accounts) > maxNames && !a.certain:
		a.accounts = nil // a list of users, perhaps: it counts for the client
	case len(a.accounts) == 0 && x.Identity.Account != "":
		a.accounts = []string{"id:" + x.Identity.Account}
	case len(a.accounts) == 0 && a.kind == secondFactor:
		if id := pendingUser(x.Request); id != "" {
			a.accounts = []string{"pending:" + id}
		}
	}
	return a
}

// unnamedSecret returns the password of a login whose field is called pw or
// in a language that [secretName] does not know: the only field, besides that
// of the account, which the view reads and the request has.
func (l *loginLayer) unnamedSecret(fields guard.Fields, m policy.Match) (found *guard.Field) {
	account := false
	for _, r := range m.Routes {
		for _, k := range r.Fields {
			account = account || classify(k.Name) == accountField
		}
	}
	if !account {
		return nil
	}
	for i := range fields {
		f := &fields[i]
		if f.File || f.Value == "" || classify(f.Name) != otherField || beside(f.Name) || !l.reads(m, f) {
			continue
		}
		if found != nil && found.Name != f.Name {
			return nil
		}
		if found == nil {
			found = f
		}
	}
	return found
}

// pendingUser returns whom the app's session names between the two factors, in
// whatever key: tf_user_id, pending_user, otp_email. The app signed it, so
// nobody can choose another one to be counted.
func pendingUser(r *http.Request) string {
	for _, c := range r.Cookies() {
		t, ok := flasksession.Parse(c.Value)
		if !ok {
			continue
		}
		s, err := t.Session()
		if err != nil {
			continue
		}
		for _, k := range slices.Sorted(maps.Keys(s)) {
			n := strings.ToLower(k)
			if strings.Contains(n, "user") || strings.Contains(n, "account") || strings.Contains(n, "email") || strings.Contains(n, "uid") {
				if v := s.Text(k); v != "" {
					return clip(v, maxName)
				}
			}
		}
	}
	return ""
}

// reads reports whether a route is known to read a field.
func (l *loginLayer) reads(m policy.Match, f *guard.Field) bool {
	for _, r := range m.Routes {
		if slices.ContainsFunc(r.Fields, func(k policy.Field) bool { return k.In == f.In && k.Name == f.Name }) {
			return true
		}
	}
	return len(m.Routes) == 0
}

// normalName makes one name of what apps and their databases take for the same
// account: case, width and composition of letters, space around them, accents
// and characters that do not show do not count (MySQL's usual collations find
// kim under kím). That two accounts may share a count is the safe side.
func normalName(s string) string {
	s = strings.TrimSpace(clip(s, maxName))
	plain := true
	for i := range len(s) {
		if c := s[i]; c >= 0x7f || c < ' ' || 'A' <= c && c <= 'Z' {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	s = cases.Fold().String(norm.NFKC.String(s))
	s = strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Mn, unicode.Cf, unicode.Cc) {
			return -1
		}
		return r
	}, norm.NFKD.String(s))
	return strings.TrimSpace(norm.NFKC.String(s))
}

// handle names an account where its name must not stand: in keys of the store
// and in the log. Without the key it cannot be made from a list of names.
func handle(key []byte, kind, name string) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(kind))
	m.Write([]byte{0})
	m.Write([]byte(name))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:16])
}
