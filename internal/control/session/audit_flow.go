package session

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/pyflow"
)

// flowRules look at the cookies that the app sets itself.
var flowRules = []*audit.Rule{
	{
		ID: "DW-SESSION-010", Control: "session",
		Title:    "A cookie travels over plain HTTP, too",
		Why:      "Without Secure the browser sends the cookie with every unencrypted request to the site, where anybody on the way reads and changes it.",
		Fix:      "response.set_cookie(name, value, secure=True, httponly=True, samesite=\"Lax\")",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{614}, OWASP: []string{"A02:2025"}, ASVS: []string{"3.3.1"},
		MitigatedBy: []string{"cookies"},
		Bad:         "from flask import Flask, make_response\napp = Flask(__name__)\n\n@app.get(\"/\")\ndef index():\n    out = make_response(\"hello\")\n    out.set_cookie(\"visit\", \"7\", httponly=True, samesite=\"Lax\")\n    return out\n",
		Good:        "from flask import Flask, make_response\napp = Flask(__name__)\n\n@app.get(\"/\")\ndef index():\n    out = make_response(\"hello\")\n    out.set_cookie(\"visit\", \"7\", secure=True, httponly=True, samesite=\"Lax\")\n    return out\n",
		Check:       func(p *audit.Pass) { cookieFlag(p, secureFlag) },
	},
	{
		ID: "DW-SESSION-011", Control: "session",
		Title:    "Scripts can read a cookie",
		Why:      "Without HttpOnly one injected script takes the cookie away.",
		Fix:      "response.set_cookie(name, value, secure=True, httponly=True, samesite=\"Lax\"), unless the page's own script has to read it.",
		Severity: audit.Low, Confidence: audit.Likely, CWE: []int{1004}, OWASP: []string{"A02:2025"}, ASVS: []string{"3.3.4"},
		MitigatedBy: []string{"cookies"},
		Bad:         "from flask import Flask, make_response\napp = Flask(__name__)\n\n@app.get(\"/\")\ndef index():\n    out = make_response(\"hello\")\n    out.set_cookie(\"visit\", \"7\", secure=True, samesite=\"Lax\")\n    return out\n",
		Good:        "from flask import Flask, make_response\napp = Flask(__name__)\n\n@app.get(\"/\")\ndef index():\n    out = make_response(\"hello\")\n    out.set_cookie(\"visit\", \"7\", secure=True, httponly=True, samesite=\"Lax\")\n    return out\n",
		Check:       func(p *audit.Pass) { cookieFlag(p, httpOnlyFlag) },
	},
	{
		ID: "DW-SESSION-012", Control: "session",
		Title:    "A cookie has no SameSite",
		Why:      "Flask sends none by default; browsers that do not assume Lax then send the cookie with requests that other sites make.",
		Fix:      "response.set_cookie(name, value, secure=True, httponly=True, samesite=\"Lax\")",
		Severity: audit.Low, Confidence: audit.Likely, CWE: []int{1275}, OWASP: []string{"A01:2025"}, ASVS: []string{"3.3.2"},
		MitigatedBy: []string{"cookies"},
		Bad:         "from flask import Flask, make_response\napp = Flask(__name__)\n\n@app.get(\"/\")\ndef index():\n    out = make_response(\"hello\")\n    out.set_cookie(\"visit\", \"7\", secure=True, httponly=True)\n    return out\n",
		Good:        "from flask import Flask, make_response\napp = Flask(__name__)\n\n@app.get(\"/\")\ndef index():\n    out = make_response(\"hello\")\n    out.set_cookie(\"visit\", \"7\", secure=True, httponly=True, samesite=\"Strict\")\n    return out\n",
		Check:       func(p *audit.Pass) { cookieFlag(p, sameSiteFlag) },
	},
	{
		ID: "DW-SESSION-013", Control: "session",
		Title:    "A password is kept in the session cookie",
		Why:      "Flask signs its session cookie and does not encrypt it: whoever has the cookie, or a copy of it in a log or a backup, reads the password.",
		Fix:      "Keep who is signed in (the account's id) in the session, never what was proven with.",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{312, 539}, OWASP: []string{"A04:2025"}, ASVS: []string{"14.3.3"},
		MitigatedBy: []string{"session"},
		Bad: `from flask import Flask, request, session
app = Flask(__name__)

@app.post("/login")
def login():
    session["password"] = request.form["password"]
    return {}
`,
		Good: `from flask import Flask, request, session
app = Flask(__name__)

@app.post("/login")
def login():
    session["strength"] = len(request.form["password"])
    return {}
`,
		Check: func(p *audit.Pass) {
			for _, e := range p.Flask.Extension("Session") {
				if e.Initialised {
					return // Flask-Session keeps it on the server
				}
			}
			p.Follow(append(p.Hits("set", "session"), p.Hits("sink", "session")...), func(h *pyflow.Hit) []audit.Danger {
				for _, v := range slices.Concat(h.Args, h.Focus) {
					for _, l := range audit.Readable(v) {
						if !audit.Guessed(l) && (audit.FromOutside(l) || audit.FromStore(l)) && audit.PasswordName(audit.QuotedName(l)) {
							return []audit.Danger{{Label: l, Message: "%s goes into the session, which the browser can read", Caret: "stored in the session here"}}
						}
					}
				}
				return nil
			})
		},
	},
}

// cookieAttr is one attribute that a cookie should have.
type cookieAttr struct {
	index   int // of the argument of set_cookie
	name    string
	missing string
	// bad reports whether a value that is given may leave the attribute out.
	bad func(pyflow.Value) bool
}

var (
	secureFlag   = cookieAttr{6, "secure", "Secure", off}
	httpOnlyFlag = cookieAttr{7, "httponly", "HttpOnly", off}
	sameSiteFlag = cookieAttr{8, "samesite", "SameSite", func(v pyflow.Value) bool {
		bad := false
		v.Each(func(v pyflow.Value) {
			s, ok := v.Const()
			bad = bad || v.Kind == pyflow.None || ok && (s == "" || strings.EqualFold(s, "none"))
		})
		return bad
	}}
)

// off reports whether a value is false for sure: one that is decided at run
// time (secure=request.is_secure) may be right.
func off(v pyflow.Value) bool {
	bad, other := false, false
	v.Each(func(v pyflow.Value) {
		if v.Kind == pyflow.Bool && v.Known && !v.Bool || v.Kind == pyflow.None || v.Kind == pyflow.Number && v.Known && v.Number == 0 {
			bad = true
		} else {
			other = true
		}
	})
	return bad && !other
}

// forScripts names cookies that the page's own scripts are meant to read.
var forScripts = regexp.MustCompile(`(?i)csrf|xsrf|theme|lang|locale|consent|timezone|tz$|dark|color|colour|sidebar|banner|flash|toast`)

func cookieFlag(p *audit.Pass, flag cookieAttr) {
	p.Judge(p.Hits("use", "cookie"), func(h *pyflow.Hit) (audit.Finding, bool) {
		if !strings.HasSuffix(h.Path, ".set_cookie") && !strings.HasSuffix(h.Path, ".dump_cookie") {
			return audit.Finding{}, false
		}
		if strings.HasPrefix(h.Path, "*.") && len(h.Args) == 1 && len(h.Keywords) == 0 && !h.Unpacked {
			return audit.Finding{}, false // a cookie for a jar, by which the app is a client
		}
		index := flag.index
		if strings.HasSuffix(h.Path, ".dump_cookie") {
			// dump_cookie(key, value, max_age, expires, path, domain, secure, httponly, charset, sync_expires, max_size, samesite)
			if flag.name == "samesite" {
				index = 11
			}
		}
		v, given := h.Arg(index, flag.name)
		if !given {
			v, given = h.Keywords["**"].Field(flag.name)
		}
		switch {
		case given && !flag.bad(v), !given && h.Unpacked, deletes(h):
			return audit.Finding{}, false
		}
		name := "the cookie"
		if key, ok := h.Arg(0, "key"); ok {
			if s, ok := key.Const(); ok && s != "" {
				name = fmt.Sprintf("the cookie %q", s)
				if flag.name == "httponly" && forScripts.MatchString(s) {
					return audit.Finding{}, false
				}
			}
		}
		f, call := p.HitCall(h)
		if name == "the cookie" && flag.name == "httponly" && call != 0 {
			// The name is a setting's or a variable's: what that is called.
			_, args, _ := f.Python.Call(call)
			if len(args) > 0 && forScripts.Match(f.Python.Text(args[0])) || forScripts.MatchString(h.Function[strings.LastIndexByte(h.Function, '.')+1:]) {
				return audit.Finding{}, false
			}
		}
		out := audit.Finding{Message: name + " is set without " + flag.missing}
		if given {
			out.Message = fmt.Sprintf("%s is set with %s off", name, flag.missing)
		}
		if call != 0 {
			out.Edits = p.Repair(f, func() []audit.Edit { return p.FixCookie(f, call, flag.name) })
		}
		return out, true
	})
}

// deletes reports whether a call takes a cookie away.
func deletes(h *pyflow.Hit) bool {
	for _, a := range []struct {
		index int
		name  string
	}{{2, "max_age"}, {3, "expires"}} {
		if v, ok := h.Arg(a.index, a.name); ok && v.Kind == pyflow.Number && v.Known && v.Number <= 0 {
			return true
		}
	}
	return false
}
