package session

import (
	"fmt"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

var rules = []*audit.Rule{
	{
		ID: "DW-SESSION-001", Control: "session",
		Title:    "The session cookie travels over plain HTTP, too",
		Why:      "Without Secure the browser sends the session with every unencrypted request to the site, where anybody on the way reads it.",
		Fix:      "app.config[\"SESSION_COOKIE_SECURE\"] = True",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{614}, OWASP: []string{"A02:2025"}, ASVS: []string{"3.3.1"},
		MitigatedBy: []string{"cookies"},
		Bad:         "import os\nfrom flask import Flask\napp = Flask(__name__)\napp.config.update(SECRET_KEY=os.environ[\"SECRET_KEY\"], SESSION_COOKIE_SECURE=False)\n",
		Good:        "import os\nfrom flask import Flask\napp = Flask(__name__)\napp.config.update(SECRET_KEY=os.environ[\"SECRET_KEY\"], SESSION_COOKIE_SECURE=True)\n",
		Check: func(p *audit.Pass) {
			if !sessions(p) {
				return
			}
			for _, e := range p.Flask.Extension("Talisman") {
				if e.Initialised && !e.Args["session_cookie_secure"].IsFalse() {
					return // Flask-Talisman sets it
				}
			}
			mustBeTrue(p, "SESSION_COOKIE_SECURE")
		},
	},
	{
		ID: "DW-SESSION-002", Control: "session",
		Title:    "Scripts can read the session cookie",
		Why:      "With HttpOnly off, one injected script takes the session away.",
		Fix:      "Leave SESSION_COOKIE_HTTPONLY at its default, True.",
		Severity: audit.High, Confidence: audit.Certain, CWE: []int{1004}, OWASP: []string{"A02:2025"}, ASVS: []string{"3.3.4"},
		MitigatedBy: []string{"cookies"},
		Bad:         "from flask import Flask\napp = Flask(__name__)\napp.config[\"SESSION_COOKIE_HTTPONLY\"] = False\n",
		Good:        "from flask import Flask\napp = Flask(__name__)\napp.config[\"SESSION_COOKIE_HTTPONLY\"] = True\n",
		Check: func(p *audit.Pass) {
			for _, key := range []string{"SESSION_COOKIE_HTTPONLY", "REMEMBER_COOKIE_HTTPONLY"} {
				for _, s := range inProduction(p, key) {
					if s.Value.IsFalse() {
						at := p.Span(s.Position)
						p.Report(audit.Finding{Span: at, Message: key + " is off", Edits: p.SetLiteral(at, "True", pysyntax.False)})
					}
				}
			}
		},
	},
	{
		ID: "DW-SESSION-003", Control: "session",
		Title:    "The session cookie has no SameSite",
		Why:      "Flask sends none by default; browsers that do not assume Lax then send the session with requests that other sites make.",
		Fix:      "app.config[\"SESSION_COOKIE_SAMESITE\"] = \"Lax\"",
		Severity: audit.Low, Confidence: audit.Likely, CWE: []int{1275}, OWASP: []string{"A01:2025"}, ASVS: []string{"3.3.2"},
		MitigatedBy: []string{"cookies"},
		Bad:         "import os\nfrom flask import Flask\napp = Flask(__name__)\napp.secret_key = os.environ[\"SECRET_KEY\"]\n",
		Good:        "import os\nfrom flask import Flask\napp = Flask(__name__)\napp.secret_key = os.environ[\"SECRET_KEY\"]\napp.config[\"SESSION_COOKIE_SAMESITE\"] = \"Lax\"\n",
		Check: func(p *audit.Pass) {
			if !sessions(p) {
				return
			}
			for _, e := range p.Flask.Extension("Talisman") {
				if _, said := e.Args["session_cookie_samesite"]; e.Initialised && !said {
					return // Flask-Talisman sets Lax
				}
			}
			e := p.Flask.Effective("SESSION_COOKIE_SAMESITE", "production")
			switch {
			case e.Setting == nil:
				reportApps(p, "SESSION_COOKIE_SAMESITE is not set, and Flask's default is none", `SESSION_COOKIE_SAMESITE`, `"Lax"`)
			case e.Value.Known && e.Value.Kind == flask.None:
				at := p.Span(e.Setting.Position)
				p.Report(audit.Finding{Span: at, Message: "SESSION_COOKIE_SAMESITE is None: the attribute is left out", Edits: p.SetLiteral(at, `"Lax"`, pysyntax.None)})
			}
		},
	},
	{
		ID: "DW-SESSION-004", Control: "session",
		Title:    "The session cookie is sent with other sites' requests",
		Why:      "SameSite=None tells the browser to send the session with every request any page makes: forged requests come with the visitor's rights.",
		Fix:      "Use \"Lax\". Where another site must embed the app, give that part its own cookie.",
		Severity: audit.Medium, Confidence: audit.Certain, CWE: []int{1275, 352}, OWASP: []string{"A01:2025"}, ASVS: []string{"3.3.2"},
		Bad:  "from flask import Flask\napp = Flask(__name__)\napp.config[\"SESSION_COOKIE_SAMESITE\"] = \"None\"\n",
		Good: "from flask import Flask\napp = Flask(__name__)\napp.config[\"SESSION_COOKIE_SAMESITE\"] = \"Lax\"\n",
		Check: func(p *audit.Pass) {
			for _, key := range []string{"SESSION_COOKIE_SAMESITE", "REMEMBER_COOKIE_SAMESITE"} {
				for _, s := range inProduction(p, key) {
					v := s.Value
					if v.Default != nil {
						v = *v.Default
					}
					if v.Known && v.Kind == flask.String && strings.EqualFold(v.Text, "none") {
						p.Report(audit.Finding{Span: p.Span(s.Position), Message: key + " is \"None\""})
					}
				}
			}
		},
	},
	{
		ID: "DW-SESSION-005", Control: "session",
		Title:    "Sessions live for months",
		Why:      "Flask's session cannot be revoked: a stolen cookie works until it expires.",
		Fix:      "Set PERMANENT_SESSION_LIFETIME to hours or a few days; Flask's default is 31 days.",
		Severity: audit.Medium, Confidence: audit.Certain, CWE: []int{613}, OWASP: []string{"A07:2025"}, ASVS: []string{"7.3.1", "7.3.2"},
		MitigatedBy: []string{"session"},
		Bad:         "from datetime import timedelta\nfrom flask import Flask\napp = Flask(__name__)\napp.config[\"PERMANENT_SESSION_LIFETIME\"] = timedelta(days=365)\n",
		Good:        "from datetime import timedelta\nfrom flask import Flask\napp = Flask(__name__)\napp.config[\"PERMANENT_SESSION_LIFETIME\"] = timedelta(hours=12)\n",
		Check: func(p *audit.Pass) {
			const most = 31 * 24 * 3600
			for _, s := range inProduction(p, "PERMANENT_SESSION_LIFETIME") {
				v := s.Value
				if v.Default != nil {
					v = *v.Default
				}
				if v.Known && (v.Kind == flask.Duration || v.Kind == flask.Number) && v.Num > most {
					p.Report(audit.Finding{Span: p.Span(s.Position), Message: fmt.Sprintf("a session lives for %.0f days", v.Num/86400)})
				}
			}
		},
	},
	{
		ID: "DW-SESSION-006", Control: "session",
		Title:    "The remember-me cookie travels over plain HTTP, too",
		Why:      "The cookie logs its owner in for a year by default, and Flask-Login does not set Secure unless told.",
		Fix:      "app.config.update(REMEMBER_COOKIE_SECURE=True, REMEMBER_COOKIE_SAMESITE=\"Lax\")",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{614}, OWASP: []string{"A02:2025"}, ASVS: []string{"3.3.1"},
		MitigatedBy: []string{"cookies"},
		Bad:         "from flask import Flask\nfrom flask_login import LoginManager, login_user\napp = Flask(__name__)\nlogin = LoginManager(app)\n@app.post(\"/login\")\ndef sign_in():\n    login_user(find(), remember=True)\n    return \"\"\n",
		Good:        "from flask import Flask\nfrom flask_login import LoginManager, login_user\napp = Flask(__name__)\napp.config[\"REMEMBER_COOKIE_SECURE\"] = True\nlogin = LoginManager(app)\n@app.post(\"/login\")\ndef sign_in():\n    login_user(find(), remember=True)\n    return \"\"\n",
		Check: func(p *audit.Pass) {
			remembers := false
			for _, c := range p.Flask.Calls("flask_login.login_user", "flask_login.utils.login_user") {
				positional, keywords := p.Flask.Args(c)
				v, said := keywords["remember"]
				if len(positional) > 1 {
					v, said = positional[1], true
				}
				// remember=form.remember.data is no constant, and counts.
				remembers = remembers || said && !v.IsFalse()
			}
			if !remembers {
				p.NotApplicable("nothing asks Flask-Login to remember a user")
				return
			}
			mustBeTrue(p, "REMEMBER_COOKIE_SECURE")
		},
	},
}

// sessions reports whether the app signs sessions at all.
func sessions(p *audit.Pass) bool {
	if len(p.Flask.Apps) == 0 {
		p.NotApplicable("no Flask app was found")
		return false
	}
	if p.Flask.Effective("SECRET_KEY", "production").Setting == nil {
		p.NotApplicable("the app sets no SECRET_KEY, so it has no sessions")
		return false
	}
	return true
}

// inProduction returns the places that give a setting a value which
// production can get.
func inProduction(p *audit.Pass, key string) []*flask.Setting {
	var out []*flask.Setting
	for _, s := range p.Flask.Settings {
		if s.Key == key && s.Profile != "development" && s.Profile != "testing" {
			out = append(out, s)
		}
	}
	if len(p.Flask.Apps) == 0 {
		p.NotApplicable("no Flask app was found")
	}
	return out
}

// mustBeTrue reports a setting whose default is not safe unless production
// gets True.
func mustBeTrue(p *audit.Pass, key string) {
	e := p.Flask.Effective(key, "production")
	switch {
	case e.Setting == nil && e.Certain:
		reportApps(p, key+" is not set, and the default is False", key, "True")
	case e.Setting == nil:
		p.CouldNotLook(key + " is not set in what was understood, but some settings were not: see dewar audit --routes")
	case e.Value.IsTrue():
	case e.Value.IsFalse():
		at := p.Span(e.Setting.Position)
		p.Report(audit.Finding{Span: at, Message: key + " is off", Edits: p.SetLiteral(at, "True", pysyntax.False)})
	default:
		// It depends on something that only the running app knows.
		p.CouldNotLook(fmt.Sprintf("%s at %s:%d is decided at run time", key, e.Setting.Position.File, e.Setting.Position.Line))
	}
}

// reportApps reports at every app that a setting is missing; value is what it
// should be.
func reportApps(p *audit.Pass, message, key, value string) {
	for _, a := range p.Flask.Apps {
		if f := p.Project.File(a.Position.File); f != nil && f.Test {
			continue
		}
		p.Report(audit.Finding{Span: p.Span(a.Position), Message: message, Label: "this app", Edits: configure(p, a, key, value)})
	}
}

// configure sets a setting below the line that makes the app. A config class
// would do as well; but which one production loads is not always known.
func configure(p *audit.Pass, a *flask.App, key, value string) []audit.Edit {
	f := p.Project.File(a.Position.File)
	if f == nil || f.Python == nil {
		return nil
	}
	call := p.CallAt(f, p.Span(a.Position))
	if call == 0 {
		return nil
	}
	var edits []audit.Edit
	pysyntax.Walk(f.Python, f.Python.Root, func(id pysyntax.ID) bool {
		if targets, v := f.Python.Assign(id); v == call {
			if name := f.Python.DottedName(targets[0]); name != "" {
				edits = p.InsertAfter(f, id, fmt.Sprintf("%s.config[%q] = %s", name, key, value))
			}
		}
		return edits == nil
	})
	return edits
}
