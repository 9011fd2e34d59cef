package settings

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

var rules = []*audit.Rule{
	{
		ID: "DW-SETTINGS-001", Control: "settings",
		Title:    "Debug mode is on in a configuration that production can get",
		Why:      "With DEBUG on, Flask hands tracebacks with source code and variables to every visitor, and the Werkzeug debugger runs whatever a visitor types.",
		Fix:      "Leave DEBUG out of the code and switch it on for one shell with \"flask run --debug\"; or set it only in the class for development.",
		Severity: audit.High, Confidence: audit.Certain, CWE: []int{489, 215}, OWASP: []string{"A02:2025"}, ASVS: []string{"13.4.2"},
		MitigatedBy: []string{"mask"},
		Bad:         "from flask import Flask\napp = Flask(__name__)\napp.config[\"DEBUG\"] = True\n",
		Good:        "from flask import Flask\napp = Flask(__name__)\napp.config[\"DEBUG\"] = False\n",
		Check: func(p *audit.Pass) {
			reportTrue(p, "DEBUG", "DEBUG is on for every profile that loads this")
		},
	},
	{
		ID: "DW-SETTINGS-002", Control: "settings",
		Title:    "The development server is started with its debugger",
		Why:      "app.run(debug=True) opens an interactive Python console on every error: whoever reaches the port runs code.",
		Fix:      "Take debug=True out and use \"flask run --debug\" while developing.",
		Severity: audit.Medium, Confidence: audit.Certain, CWE: []int{489}, OWASP: []string{"A02:2025"}, ASVS: []string{"13.4.2"},
		MitigatedBy: []string{"never-public"},
		Bad:         "from flask import Flask\napp = Flask(__name__)\nif __name__ == \"__main__\":\n    app.run(debug=True)\n",
		Good:        "from flask import Flask\napp = Flask(__name__)\nif __name__ == \"__main__\":\n    app.run()\n",
		Check: func(p *audit.Pass) {
			for _, r := range p.Flask.Runs {
				for _, name := range []string{"debug", "use_debugger"} { // use_evalex is a part of the debugger
					if v, ok := r.Args[name]; ok && v.IsTrue() {
						label := name + " is on"
						if r.Main {
							label += " when this file is run by hand"
						}
						p.Report(audit.Finding{Span: p.Span(r.Position), Message: "the development server is started with " + name, Label: label, Edits: withoutDebugger(p, r)})
						break
					}
				}
			}
			if len(p.Flask.Runs) == 0 {
				p.NotApplicable("nothing starts a development server in code")
			}
		},
	},
	{
		ID: "DW-SETTINGS-003", Control: "settings",
		Title:    "Debug mode is switched on by the environment that is shipped",
		Why:      "An env file, image or compose file goes to production with the project, and takes debug mode along.",
		Fix:      "Take the line out; switch debug mode on in your own shell: FLASK_DEBUG=1 flask run.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{489}, OWASP: []string{"A02:2025"}, ASVS: []string{"13.4.2"},
		MitigatedBy: []string{"mask"},
		File:        "Dockerfile",
		Bad:         "FROM python:3.13-slim\nENV FLASK_DEBUG=1\nCMD [\"gunicorn\", \"app:app\"]\n",
		Good:        "FROM python:3.13-slim\nENV FLASK_DEBUG=0\nCMD [\"gunicorn\", \"app:app\"]\n",
		Check: func(p *audit.Pass) {
			looked := false
			for _, v := range p.Flask.Env {
				looked = true
				if (v.Name == "FLASK_DEBUG" || v.Name == "FLASK_ENV") && !v.Example && !development[v.Profile] && debugOn(v.Name, v.Value) {
					p.Report(audit.Finding{Span: p.Span(v.Position), Message: fmt.Sprintf("%s=%s is set in %s", v.Name, v.Value, v.Position.File), Edits: undebugged(p, p.Project.File(v.Position.File), v.Position.Line)})
				}
			}
			for f := range p.Files(audit.Dockerfile, audit.Compose, audit.Procfile, audit.Systemd, audit.Shell) {
				looked = true
				asked := "" // the word that a shell's case asks for
				for n := 1; n <= f.LineCount(); n++ {
					line := f.Line(n)
					if strings.HasPrefix(strings.TrimSpace(line), "#") {
						continue
					}
					if f.Kind == audit.Shell {
						if m := caseLabel.FindStringSubmatch(line); m != nil {
							asked = m[1]
						} else if strings.Contains(line, ";;") || strings.HasPrefix(strings.TrimSpace(line), "esac") {
							asked = ""
						}
						if devWord.MatchString(asked) {
							continue
						}
					}
					if m := shippedDebug.FindStringSubmatch(line); m != nil && debugOn(m[1], m[2]) {
						p.Report(audit.Finding{Span: f.LineSpan(n), Message: fmt.Sprintf("%s=%s is set in %s", m[1], m[2], f.Path), Edits: undebugged(p, f, n)})
					}
				}
			}
			if !looked {
				p.NotApplicable("the project ships no environment")
			}
		},
	},
	{
		ID: "DW-SETTINGS-004", Control: "settings",
		Title:    "Testing mode is on in a configuration that production can get",
		Why:      "TESTING lets exceptions through to the visitor and switches parts of extensions off, CSRF protection and login among them.",
		Fix:      "Set TESTING only in the fixture or the class that the tests use.",
		Severity: audit.Medium, Confidence: audit.Certain, CWE: []int{489}, OWASP: []string{"A02:2025"}, ASVS: []string{"13.4.2"},
		Bad:  "from flask import Flask\napp = Flask(__name__)\napp.config.update(TESTING=True)\n",
		Good: "from flask import Flask\napp = Flask(__name__)\napp.config.update(TESTING=False)\n",
		Check: func(p *audit.Pass) {
			reportTrue(p, "TESTING", "TESTING is on for every profile that loads this")
		},
	},
	{
		ID: "DW-SETTINGS-005", Control: "settings",
		Title:    "Any site may read answers with the visitor's cookies",
		Why:      "With every origin allowed and credentials supported, any page a visitor opens reads what the visitor can read here.",
		Fix:      "Name the origins that need access, and support credentials only for those.",
		Severity: audit.High, Confidence: audit.Certain, CWE: []int{942}, OWASP: []string{"A02:2025"}, ASVS: []string{"3.4.2"},
		MitigatedBy: []string{"cors"},
		Bad:         "from flask import Flask\nfrom flask_cors import CORS\napp = Flask(__name__)\nCORS(app, supports_credentials=True)\n",
		Good:        "from flask import Flask\nfrom flask_cors import CORS\napp = Flask(__name__)\nCORS(app, origins=[\"https://www.example.com\"], supports_credentials=True)\n",
		Check: func(p *audit.Pass) {
			for _, e := range p.Flask.Extension("CORS") {
				credentials := e.Args["supports_credentials"].IsTrue()
				if !credentials {
					credentials = p.Flask.Effective("CORS_SUPPORTS_CREDENTIALS", "production").Value.IsTrue()
				}
				origins, given := e.Args["origins"]
				if !given {
					if s := p.Flask.Effective("CORS_ORIGINS", "production"); s.Setting != nil {
						origins, given = s.Value, true
					}
				}
				_, perResource := e.Args["resources"]
				if credentials && (anyOrigin(origins) || !given && !perResource) {
					p.Report(audit.Finding{Span: p.Span(e.Position), Message: "CORS allows every origin with credentials", Label: "Flask-CORS reflects the origin of whoever asks"})
				}
			}
			if len(p.Flask.Extension("CORS")) == 0 {
				p.NotApplicable("the app does not use Flask-CORS")
			}
		},
	},
	{
		ID: "DW-SETTINGS-006", Control: "settings",
		Title:    "The Werkzeug debugger is put into the WSGI stack",
		Why:      "DebuggedApplication serves the interactive console under any server, gunicorn included; its PIN can be computed from what a traceback and a file read give away.",
		Fix:      "Take DebuggedApplication out of the code that production loads.",
		Severity: audit.Critical, Confidence: audit.Certain, CWE: []int{489, 94}, OWASP: []string{"A02:2025"}, ASVS: []string{"13.4.2"},
		MitigatedBy: []string{"never-public"},
		Bad:         "from flask import Flask\nfrom werkzeug.debug import DebuggedApplication\napp = Flask(__name__)\napp.wsgi_app = DebuggedApplication(app.wsgi_app, evalex=True)\n",
		Good:        "from flask import Flask\napp = Flask(__name__)\n",
		Check: func(p *audit.Pass) {
			for _, c := range p.Flask.Calls("werkzeug.debug.DebuggedApplication") {
				if f := p.Project.File(c.File); f != nil && f.Test {
					continue
				}
				out := audit.Finding{Span: p.Span(c.Position)}
				if c.Conditional {
					out.Confidence, out.Label = audit.Possible, "unless the condition above it never holds in production"
				}
				p.Report(out)
			}
		},
	},
}

// development are the profiles in which debug mode belongs.
var development = map[string]bool{"development": true, "testing": true}

// shippedDebug finds FLASK_DEBUG and FLASK_ENV with a value in the languages
// of images, compose files, units and shell scripts.
var shippedDebug = regexp.MustCompile(`\b(FLASK_DEBUG|FLASK_ENV)["']?\s*(?:=|:|\s)\s*["']?([A-Za-z0-9]+)`)

// caseLabel matches the line that begins an arm of a shell's case, devWord the
// words by which somebody asks for what production does not.
var (
	caseLabel = regexp.MustCompile(`^\s*\(?([\w"'|. -]+)\)\s*(?:#.*)?$`)
	devWord   = regexp.MustCompile(`(?i)(?:^|[^a-z])(?:dev|develop|development|debug|test|tests|local)(?:[^a-z]|$)`)
)

// debugOn reads a variable as Flask does: FLASK_DEBUG is on unless it is
// empty, 0, false or no (flask.helpers.get_debug_flag).
func debugOn(name, value string) bool {
	value = strings.ToLower(strings.Trim(strings.TrimSpace(value), `"'`))
	if name == "FLASK_ENV" {
		return value == "development"
	}
	return value != "" && value != "0" && value != "false" && value != "no"
}

// reportTrue reports every place that switches a setting on for production.
// What is true only when an environment variable says so is none.
func reportTrue(p *audit.Pass, key, label string) {
	if len(p.Flask.Apps) == 0 {
		p.NotApplicable("no Flask app was found")
	}
	for _, s := range p.Flask.Settings {
		if s.Key != key || development[s.Profile] || !s.Value.IsTrue() || s.Source == flask.FromRun || s.Source == flask.FromEnvFile {
			continue
		}
		note := label
		if s.Value.FromEnv != "" {
			note = fmt.Sprintf("%s is on unless %s says otherwise", key, s.Value.FromEnv)
		}
		at := p.Span(s.Position)
		p.Report(audit.Finding{Span: at, Message: key + " is on", Label: note, Edits: p.SetLiteral(at, "False", pysyntax.True)})
	}
}

// withoutDebugger takes what switches the debugger on out of a call of app.run.
func withoutDebugger(p *audit.Pass, r flask.Run) []audit.Edit {
	f := p.Project.File(r.Position.File)
	if f == nil || f.Python == nil {
		return nil
	}
	call := p.CallAt(f, p.Span(r.Position))
	_, positional, keywords := f.Python.Call(call)
	var on []pysyntax.ID // what is True
	var names []string
	for _, k := range keywords {
		name, v := f.Python.KeywordArg(k)
		switch name {
		case "debug", "use_debugger", "use_evalex":
			if r.Args[name].IsTrue() {
				if f.Python.Kind(v) != pysyntax.True {
					return nil // computed: it may be meant
				}
				on, names = append(on, v), append(names, name)
			}
		}
	}
	if r.Callee == "flask.Flask.run" && len(positional) > 2 && f.Python.Kind(positional[2]) == pysyntax.True {
		on, names = append(on, positional[2]), append(names, "")
	}
	if len(on) == 1 && names[0] != "" {
		if e := p.RemoveKeyword(f, call, names[0]); e != nil {
			return e
		}
	}
	var parts [][]audit.Edit
	for _, v := range on {
		parts = append(parts, p.ReplaceNode(f, v, "False"))
	}
	return audit.Together(parts...)
}

// undebugged switches debug mode off in a line of a file that is not Python.
func undebugged(p *audit.Pass, f *audit.File, line int) []audit.Edit {
	if f == nil {
		return nil
	}
	var parts [][]audit.Edit
	for _, m := range shippedDebug.FindAllStringSubmatchIndex(f.Line(line), -1) {
		text := f.Line(line)
		switch name := text[m[2]:m[3]]; {
		case !debugOn(name, text[m[4]:m[5]]):
		case name == "FLASK_ENV":
			parts = append(parts, p.ReplaceInLine(f, line, m[4], m[5], "production"))
		default:
			parts = append(parts, p.ReplaceInLine(f, line, m[4], m[5], "0"))
		}
	}
	return audit.Together(parts...)
}

func anyOrigin(v flask.Value) bool {
	for _, s := range v.Strings() {
		if s == "*" || s == ".*" || s == "https?://.*" || s == ".+" {
			return true
		}
	}
	return false
}
