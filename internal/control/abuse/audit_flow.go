package abuse

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// flowRules look at what the app waits for, and what it lets be tried.
var flowRules = []*audit.Rule{
	{
		ID: "DW-ABUSE-001", Control: "abuse",
		Title:    "A request to another server waits without end",
		Why:      "requests, urllib and smtplib wait for ever unless told: when the other side hangs, every worker does soon, and the site is down.",
		Fix:      "Give a timeout in seconds: requests.get(url, timeout=10).",
		Severity: audit.Low, Confidence: audit.Likely, CWE: []int{400, 1088}, OWASP: []string{"A06:2025"}, ASVS: []string{"13.2.6"},
		Bad:   "import requests\n\ndef rates():\n    return requests.get(\"https://rates.example.com/today\").json()\n",
		Good:  "import requests\n\ndef rates():\n    return requests.get(\"https://rates.example.com/today\", timeout=10).json()\n",
		Check: missingTimeout,
	},
	{
		ID: "DW-ABUSE-002", Control: "abuse",
		Title:    "Passwords can be tried as often as one likes",
		Why:      "A login, reset or token route without a limit is fed with millions of leaked passwords, or with every code of six digits.",
		Fix:      "Put a limit on it: @limiter.limit(\"10 per hour\", methods=[\"POST\"]) of Flask-Limiter, per address and per account.",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{307, 799}, OWASP: []string{"A07:2025"}, ASVS: []string{"6.3.1"},
		MitigatedBy: []string{"rate-limit", "login"},
		Bad: `from flask import Flask, request, session
from werkzeug.security import check_password_hash
app = Flask(__name__)

@app.post("/login")
def login():
    if check_password_hash(stored(request.form["name"]), request.form["password"]):
        session["user"] = request.form["name"]
    return ""
`,
		Good: `from flask import Flask, request, session
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from werkzeug.security import check_password_hash
app = Flask(__name__)
limiter = Limiter(get_remote_address, app=app)

@app.post("/login")
@limiter.limit("10 per hour")
def login():
    if check_password_hash(stored(request.form["name"]), request.form["password"]):
        session["user"] = request.form["name"]
    return ""
`,
		Check: unlimitedGuesses,
	},
}

var (
	// limitRE matches decorators, and text in functions, that limit how
	// often something is tried.
	limitRE = regexp.MustCompile(`(?i)limit|throttl|attempt|lockout|locked|captcha|brute|ban(?:ned)?_|too_many|429|failed_|cooldown`)
	// countsRE is limitRE for what a view calls, where a limit may be one of
	// rows.
	countsRE = regexp.MustCompile(`(?i)throttl|lockout|locked_?out|too_many|rate_?limit|brute|captcha|(?:login|failed|password)_?(?:attempt|fail|trie)|failed_?(?:login|auth)`)
	// typedRE matches what a password or a code that somebody types is called.
	typedRE = regexp.MustCompile(`(?i)passw|passphrase|\bpwd\b|\bpin\b|\b\w*otp\b|one_?time|["']\w*(?:code|token)["']`)
	// makesRE matches what makes an account or sets a password, checksRE what
	// looks whether one is right.
	makesRE  = regexp.MustCompile(`(?i)hash_password|password_hash\(|set_password|encrypt_password|create_user|new_user`)
	checksRE = regexp.MustCompile(`(?i)check_password|verif(?:y|ies)\w*\(|authenticate\w*\(|checkpw|compare_digest|check_\w+\(|valid\w*_user|\.password\s*[!=]=|(?:code|token|otp|pin)["'\])]*\s*[!=]=|[!=]=\s*[\w.\["']*(?:code|token|otp|pin)\b`)
	// passwordCheckRE is checksRE for what a view calls.
	passwordCheckRE = regexp.MustCompile(`(?i)check_password|checkpw|verify_password|password_verify|verify_hash`)
	// limitsMany matches a limit put on a blueprint: limiter.limit("…")(bp).
	limitsMany = regexp.MustCompile(`(?i)\blimit\([^\n]*\)\(\w`)
)

func unlimitedGuesses(p *audit.Pass) {
	for _, e := range p.Flask.Extension("Limiter") {
		for _, name := range []string{"default_limits", "application_limits"} {
			if v, ok := e.Args[name]; ok && (!v.Known || len(v.Items) > 0) {
				return
			}
		}
	}
	for _, key := range []string{"RATELIMIT_DEFAULT", "RATELIMIT_APPLICATION"} {
		if p.Flask.Effective(key, "production").Setting != nil {
			return
		}
	}
	for _, h := range p.Flask.Hooks {
		if h.Kind == "before_request" && limitRE.MatchString(h.Function) {
			return
		}
	}
	for f := range p.Python() {
		if bytes.Contains(bytes.ToLower(f.Data), []byte("limit(")) && limitsMany.Match(f.Data) {
			p.CouldNotLook("a limit is put on what is not a view in " + f.Path)
			return
		}
	}
	guessed := false
	for _, r := range p.Flask.Routes {
		if f := p.Project.File(r.File); r.Function == "" || !r.Writes() || f == nil || f.Test || !triesSecrets(r) {
			continue
		}
		guessed = true
		if slices.ContainsFunc(r.Decorators, func(d flask.Decorator) bool { return limitRE.MatchString(d.Name) }) || limitRE.MatchString(p.ViewText(r)) {
			continue
		}
		// The view, and the project's functions that it calls.
		reach := p.Flask.Reach(r)
		view := p.ViewText(r)
		text := view
		if slices.ContainsFunc(reach.Functions, func(at flask.Position) bool {
			t := p.DefinitionText(at)
			text += t
			return countsRE.MatchString(t)
		}) {
			continue
		}
		switch {
		case !typedRE.MatchString(text) && !slices.ContainsFunc(slices.Concat(r.Form, r.JSON), func(s string) bool { return audit.PasswordName(s) || audit.SecretName(s) }) && r.Kind != flask.KindReset:
			continue // somebody else asks for it, as in SAML and OAuth
		case makesRE.MatchString(text) && !checksRE.MatchString(view) && !passwordCheckRE.MatchString(text):
			continue // it sets one
		case r.Kind == flask.KindReset && reach.Cookies && knownRE.MatchString(text):
			continue // of somebody who is logged in
		}
		p.Report(audit.Finding{Span: p.Span(r.Position), Message: fmt.Sprintf("%s answers as often as one likes", r.Rule), Label: "no limit here, and none for the app"})
	}
	if !guessed {
		p.NotApplicable("no route takes a password or code")
	}
}

// knownRE matches the user who is logged in.
var knownRE = regexp.MustCompile(`\bcurrent_user\.(?:id|email|name|username|password|set_|check_)|session\.get_user\(\)|\bg\.user\b`)

// triesSecrets reports whether a route is where passwords and codes are
// tried.
func triesSecrets(r *flask.Route) bool {
	switch r.Kind {
	case flask.KindLogin:
		return !r.LoginRequired
	case flask.KindReset:
		// A token in the address is too long to be guessed.
		return len(r.Params) == 0 && !r.LoginRequired
	case flask.KindToken:
		return slices.ContainsFunc(slices.Concat(r.Form, r.JSON), audit.PasswordName)
	}
	return false
}

// timeoutAt are the calls that wait without end unless told otherwise, and
// the index of their argument for the timeout, -1 where it has a name only.
var timeoutAt = map[string]int{
	"urllib.request.urlopen": 2, "urllib.request.OpenerDirector.open": 2,
	"http.client.HTTPConnection": 2, "http.client.HTTPSConnection": 2,
	"smtplib.SMTP": 3, "smtplib.SMTP_SSL": 5, "ftplib.FTP": 4, "ftplib.FTP_TLS": -1, "imaplib.IMAP4": 2, "imaplib.IMAP4_SSL": -1, "poplib.POP3": 2,
	"socket.create_connection": 1, "telnetlib.Telnet": 2,
}

// timeoutOf returns the index of the timeout among the arguments of a call.
func timeoutOf(path string) (index int, ok bool) {
	if i, ok := timeoutAt[path]; ok {
		return i, true
	}
	module, method, _ := strings.Cut(path, ".")
	if module != "requests" {
		return 0, false
	}
	if method == "Session.request" {
		return 8, true // method, url, params, data, headers, cookies, files, auth, timeout
	}
	switch method[strings.LastIndexByte(method, '.')+1:] {
	case "get", "post", "put", "delete", "patch", "head", "options", "request", "send":
		return -1, true
	}
	return 0, false
}

// patientClasses returns the names of the project's classes that give the
// requests of a session a timeout: sessions and adapters of its own.
func patientClasses(p *audit.Pass) []string {
	var out []string
	for f := range p.Python() {
		py := f.Python
		if !bytes.Contains(f.Data, []byte("timeout")) || !bytes.Contains(f.Data, []byte("requests")) {
			continue
		}
		for i := range py.Nodes {
			id := pysyntax.ID(i)
			if py.Kind(id) != pysyntax.ClassDef || !bytes.Contains(py.Text(id), []byte("timeout")) {
				continue
			}
			c := py.ClassDef(id)
			if slices.ContainsFunc(c.Bases, func(b pysyntax.ID) bool {
				q := p.Flask.Name(f.Path, b)
				return strings.HasPrefix(q, "requests.") && (strings.HasSuffix(q, ".Session") || strings.HasSuffix(q, ".HTTPAdapter"))
			}) {
				out = append(out, c.Name)
			}
		}
	}
	return out
}

// script reports whether a file is run by hand: it says what it does as a
// program, holds no part of the app, and nothing imports it. What it waits for
// holds up nobody else.
func script(p *audit.Pass, f *audit.File) bool {
	if !mainRE.Match(f.Data) || bytes.Contains(f.Data, []byte("Flask(")) || bytes.Contains(f.Data, []byte("Blueprint(")) {
		return false
	}
	name := strings.TrimSuffix(path.Base(f.Path), ".py")
	imported := regexp.MustCompile(`(?m)^[ \t]*(?:from|import)[ \t][^\n#]*\b` + regexp.QuoteMeta(name) + `\b`)
	for g := range p.Python() {
		if g != f && bytes.Contains(g.Data, []byte(name)) && imported.Match(g.Data) {
			return false
		}
	}
	return true
}

// mainRE matches what only a program does.
var mainRE = regexp.MustCompile(`(?m)^if __name__ *== *['"]__main__['"]|\bsys\.argv\b|\bArgumentParser\(|^#!`)

func missingTimeout(p *audit.Pass) {
	patient := patientClasses(p)
	scripts := map[*audit.File]bool{}
	p.Judge(p.Hits("use", "request"), func(h *pyflow.Hit) (audit.Finding, bool) {
		index, ok := timeoutOf(h.Path)
		if !ok {
			return audit.Finding{}, false
		}
		v, given := h.Arg(index, "timeout")
		if !given {
			v, given = h.Keywords["**"].Field("timeout")
		}
		if given && v.Kind != pyflow.None || !given && h.Unpacked {
			return audit.Finding{}, false
		}
		f, call := p.HitCall(h)
		if call == 0 {
			return audit.Finding{}, false
		}
		if _, ok := scripts[f]; !ok {
			scripts[f] = script(p, f)
		}
		if scripts[f] {
			return audit.Finding{}, false
		}
		out := audit.Finding{Message: fmt.Sprintf("%s has no timeout", h.Path), Cause: "requests to other servers are made without a timeout"}
		if len(patient) > 0 && strings.HasPrefix(h.Path, "requests.Session.") {
			out.Confidence, out.Label = audit.Possible, "unless the session has the timeout of "+strings.Join(patient[:min(len(patient), 3)], ", ")
		}
		if given {
			out.Message = fmt.Sprintf("the timeout of %s is None", h.Path)
		}
		out.Edits = p.Repair(f, func() []audit.Edit { return p.FixTimeout(f, call) })
		return out, true
	})
}
