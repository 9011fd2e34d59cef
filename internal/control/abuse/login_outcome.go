package abuse

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/dewar-security/dewar/internal/flasksession"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/waf"
)

// outcome is what came of an attempt.
type outcome uint8

const (
	unknown outcome = iota
	failure
	success
	// untried: the app did not get as far as looking at the password.
	untried
)

func (o outcome) String() string { return [...]string{"unknown", "failure", "success", "untried"}[o] }

// learned is what successful logins look like: their route, status and target,
// where a session showed that they were successful. The same answer without a
// session is then a failure: an app that sends everybody to the front page
// tells no other way. Another target stays unknown, for it may be that of a
// second factor.
type learned struct {
	mu   sync.Mutex
	seen map[string]int
}

const (
	learnedMost   = 1024 // answers that are remembered
	learnedEnough = 3    // logins that make one of them believed
)

func signature(route string, r *http.Response) string {
	target, _, _ := strings.Cut(r.Header.Get("Location"), "?")
	return clip(route, 200) + " " + strconv.Itoa(r.StatusCode) + " " + clip(target, 200)
}

func (l *learned) show(route string, r *http.Response) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := signature(route, r)
	if n, ok := l.seen[s]; ok || len(l.seen) < learnedMost {
		l.seen[s] = min(n+1, learnedEnough)
	}
}

func (l *learned) shown(route string, r *http.Response) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[signature(route, r)] >= learnedEnough
}

// peekAnswer is how much of an answer is looked at, in bytes.
const peekAnswer = 64 << 10

// userKeys are what apps keep an account under in Flask's session;
// "_user_id" is Flask-Login's.
var userKeys = []string{"_user_id", "user_id", "userid", "uid", "user", "username", "account_id", "account", "logged_in", "loggedin", "authenticated", "identity", "email"}

// infer says what came of an attempt, by the strongest sign there is: the
// session belongs to somebody now; a token was given; the status says so; the
// redirection leads back to the login; the answer asks for the password again
// or says that it was wrong. why names the sign. user is the app's own id of
// the account, where the session shows it.
func (l *loginLayer) infer(x *guard.Exchange, r *http.Response, a *attempt) (o outcome, why, user string) {
	// Renewed is no sign: it may be a session that the client brought itself.
	if x.Change == guard.LoggedIn {
		l.learned.show(a.route, r)
		return success, "the session belongs to an account now", x.Identity.Account
	}
	if user, ok := l.session(x, r); ok {
		l.learned.show(a.route, r)
		return success, "the session cookie names a user", user
	}
	switch {
	case r.StatusCode == http.StatusUnauthorized:
		return failure, "401", ""
	case a.kind == basicAuth && r.StatusCode < 400 && l.proves(x.Request):
		return success, "no 401 where a pair is asked for", ""
	case a.kind == basicAuth:
		return untried, "the place may be for everybody", ""
	case r.StatusCode == http.StatusForbidden, r.StatusCode == http.StatusUnprocessableEntity:
		if a.certain {
			return failure, r.Status, ""
		}
		return unknown, r.Status, ""
	case r.StatusCode >= 500, r.StatusCode == http.StatusTooManyRequests, r.StatusCode == http.StatusNotFound,
		r.StatusCode == http.StatusMethodNotAllowed, r.StatusCode == http.StatusRequestEntityTooLarge, r.StatusCode == http.StatusUnsupportedMediaType:
		return untried, r.Status, ""
	case r.StatusCode >= 300 && r.StatusCode < 400:
		return l.redirected(x, r, a)
	}
	if r.StatusCode < 200 || r.StatusCode == http.StatusNoContent {
		return unknown, r.Status, ""
	}
	kind := waf.MediaType(r.Header.Get("Content-Type"))
	switch {
	case kind == "application/json" || strings.HasSuffix(kind, "+json"):
		text, err := guard.PeekBody(r, peekAnswer)
		if err != nil {
			return unknown, "the answer cannot be read", ""
		}
		return jsonOutcome(text, r.StatusCode)
	case kind == "text/html" || kind == "application/xhtml+xml" || kind == "text/plain" || kind == "":
		text, err := guard.PeekBody(r, peekAnswer)
		if err != nil {
			return unknown, "the answer cannot be read", ""
		}
		if asksSecret(text, a.kind) {
			return failure, "the answer asks again", ""
		}
		if saysFailed(text) {
			return failure, "the answer says so", ""
		}
		if r.StatusCode >= 400 {
			return unknown, r.Status, ""
		}
	}
	return unknown, r.Status, ""
}

// session looks for a user in the cookies that an answer sets: in Flask's own
// session, in Flask-Login's remember token, in cookies with a token. The
// session layer, where it is on, says it better: by x.Change.
func (l *loginLayer) session(x *guard.Exchange, r *http.Response) (user string, ok bool) {
	if len(r.Header["Set-Cookie"]) == 0 {
		return "", false
	}
	var facts guard.Facts
	if l.facts != nil {
		facts = l.facts()
	}
	for _, line := range r.Header["Set-Cookie"] {
		c, err := http.ParseSetCookie(line)
		if err != nil || c.Value == "" || c.MaxAge < 0 {
			continue
		}
		name := strings.ToLower(c.Name)
		if c.Name == facts.RememberCookieName || strings.Contains(name, "remember") {
			if id, ok := flasksession.Remembered(c.Value); ok {
				return id, true
			}
		}
		if strings.Contains(name, "access_token") || strings.Contains(name, "auth_token") || strings.Contains(name, "jwt") {
			return "", true
		}
		id := sessionUser(c.Value)
		if id == "" {
			continue
		}
		// What the client brought itself proves nothing.
		if old, err := x.Request.Cookie(c.Name); err == nil && sessionUser(old.Value) == id {
			continue
		}
		return id, true
	}
	return "", false
}

// sessionUser returns who a session of Flask's belongs to.
func sessionUser(v string) string {
	t, ok := flasksession.Parse(v)
	if !ok {
		return ""
	}
	s, err := t.Session()
	if err != nil {
		return ""
	}
	for _, k := range userKeys {
		if id := s.Text(k); id != "" {
			return id
		}
	}
	return ""
}

// redirected judges a redirection: back to the login is a failure. To
// anywhere else, without a session that names somebody, says nothing: apps
// send people to the front page with a message, too.
func (l *loginLayer) redirected(x *guard.Exchange, r *http.Response, a *attempt) (outcome, string, string) {
	u, err := x.Request.URL.Parse(r.Header.Get("Location"))
	if err != nil || r.Header.Get("Location") == "" {
		return unknown, "a redirection to nowhere", ""
	}
	target := strings.TrimRight(u.Path, "/")
	if target == strings.TrimRight(x.Path, "/") && (a.kind == login || a.kind == secondFactor || a.kind == resetCode) {
		return failure, "sent back to where it came from", ""
	}
	if a.kind == login || a.kind == secondFactor {
		if l.policy != nil {
			if p := l.policy(); p != nil && primary(p.Match(http.MethodGet, u.Path), "login") {
				return failure, "sent to a login", ""
			}
		}
		last := strings.ToLower(target[strings.LastIndexByte(target, '/')+1:])
		if slices.Contains([]string{"login", "log-in", "logon", "signin", "sign-in"}, last) {
			return failure, "sent to a login", ""
		}
	}
	for _, values := range u.Query() {
		for _, v := range values {
			if saysFailed([]byte(v)) {
				return failure, "sent on with an error", ""
			}
		}
	}
	for _, k := range []string{"error", "err", "login_error", "failed", "failure"} {
		if u.Query().Has(k) {
			return failure, "sent on with an error", ""
		}
	}
	// Who had a session already may be sent on without a new one.
	if x.Identity.Account == "" && l.learned.shown(a.route, r) {
		return failure, "sent where logins are sent, without a session", ""
	}
	return unknown, "sent elsewhere", ""
}

// tokenKey reports whether an API gives what a login is for under a name
// (access_token: RFC 6749 section 5.1). Tokens against forged requests are for
// everybody.
func tokenKey(k string) bool {
	return (strings.HasSuffix(k, "token") || k == "jwt" || k == "api_key" || k == "apikey") && !strings.Contains(k, "csrf") && !strings.Contains(k, "xsrf")
}

func jsonOutcome(text []byte, status int) (outcome, string, string) {
	var doc map[string]json.RawMessage
	if json.Unmarshal(text, &doc) != nil {
		return unknown, "the JSON is no object", ""
	}
	if o, why := jsonSigns(doc, 0); o != unknown {
		return o, why, ""
	}
	if status == http.StatusBadRequest {
		return failure, "400 with JSON", ""
	}
	return unknown, "the JSON says nothing", ""
}

// jsonSigns looks for a token or an error in an object and those within it:
// {"data": {…}}, {"response": {"user": {"authentication_token": …}}}.
func jsonSigns(doc map[string]json.RawMessage, depth int) (o outcome, why string) {
	given := false
	for k, v := range doc {
		k = strings.ToLower(strings.ReplaceAll(k, "-", "_"))
		v = bytes.TrimSpace(v)
		switch {
		case tokenKey(k) && len(v) > 10 && v[0] == '"':
			given = true
		case k == "error" || k == "errors":
			if s := string(v); s != "null" && s != "false" && s != `""` && s != "[]" && s != "{}" {
				o, why = failure, "the JSON holds an error"
			}
		case k == "success" || k == "ok" || k == "authenticated" || k == "logged_in" || k == "valid":
			if string(v) == "false" {
				o, why = failure, "the JSON says so"
			}
		case (k == "status" || k == "result") && slices.Contains([]string{`"error"`, `"fail"`, `"failed"`, `"failure"`, `"denied"`}, strings.ToLower(string(v))):
			o, why = failure, "the JSON says so"
		case (k == "message" || k == "msg" || k == "detail" || k == "description") && o == unknown && saysFailed(v):
			o, why = failure, "the JSON says so"
		}
	}
	if given && o == unknown {
		return success, "a token was given" // beside an error it is one for the next try
	}
	if o != unknown || depth == 2 {
		return o, why
	}
	for _, v := range doc {
		var inner map[string]json.RawMessage
		if json.Unmarshal(v, &inner) == nil {
			switch in, reason := jsonSigns(inner, depth+1); in {
			case success:
				return in, reason
			case failure:
				o, why = in, reason
			}
		}
	}
	return o, why
}

// asksSecret reports whether a page holds an input for a password or, where
// that was tried, a code.
func asksSecret(page []byte, kind attemptKind) bool {
	for inputs := 0; inputs < 300; { // a page of nothing else costs no more
		i := bytes.IndexByte(page, '<')
		if i < 0 {
			return false
		}
		page = page[i+1:]
		if len(page) < 6 || !bytes.EqualFold(page[:5], []byte("input")) {
			continue
		}
		inputs++
		tag := page[5:min(len(page), 2000)]
		if j := bytes.IndexByte(tag, '>'); j >= 0 {
			tag = tag[:j]
		}
		if strings.EqualFold(attribute(tag, "type"), "password") {
			return true
		}
		if kind == secondFactor || kind == resetCode {
			if n := plainName(attribute(tag, "name")); slices.Contains(codeNames, n) {
				return true
			}
		}
	}
	return false
}

// attribute returns the value of an attribute in the inside of a tag.
func attribute(tag []byte, name string) string {
	for rest := tag; ; {
		i := indexFold(rest, name)
		if i < 0 {
			return ""
		}
		before := byte(' ')
		if i > 0 {
			before = rest[i-1]
		}
		v := bytes.TrimLeft(rest[i+len(name):], " \t\r\n\f")
		rest = rest[i+len(name):]
		if !strings.ContainsRune(" \t\r\n\f/\"'", rune(before)) || len(v) == 0 || v[0] != '=' {
			continue
		}
		v = bytes.TrimLeft(v[1:], " \t\r\n\f")
		if len(v) == 0 {
			return ""
		}
		if q := v[0]; q == '"' || q == '\'' {
			v = v[1:]
			if j := bytes.IndexByte(v, q); j >= 0 {
				v = v[:j]
			}
			return string(v)
		}
		if j := bytes.IndexAny(v, " \t\r\n\f/>"); j >= 0 {
			v = v[:j]
		}
		return string(v)
	}
}

func indexFold(s []byte, word string) int {
	for i := 0; i+len(word) <= len(s); i++ {
		if bytes.EqualFold(s[i:i+len(word)], []byte(word)) {
			return i
		}
	}
	return -1
}

// failed are the words in which apps say that a login was refused.
var failed = []string{"invalid", "incorrect", "wrong", "failed", "denied", "not match", "unknown user", "no such user", "not found", "bad credentials", "bad password", "try again", "unauthorized", "not recognized", "does not exist"}

// saysFailed reports whether a short text says that something was refused. A
// long one may speak of anything.
func saysFailed(text []byte) bool {
	if len(text) > 2<<10 {
		return false
	}
	low := bytes.ToLower(text)
	return slices.ContainsFunc(failed, func(w string) bool { return bytes.Contains(low, []byte(w)) })
}
