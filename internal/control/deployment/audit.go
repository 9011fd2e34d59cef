package deployment

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
		ID: "DW-DEPLOYMENT-001", Control: "deployment",
		Title:    "Production starts the development server",
		Why:      "Flask's own server is not made for hostile clients: no limits, no time-outs, one debug switch away from remote code execution.",
		Fix:      "Start gunicorn (or let dewar run start it): gunicorn 'shop:create_app()'.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{489, 1188}, OWASP: []string{"A02:2025"}, ASVS: []string{"13.4.2"},
		MitigatedBy: nil,
		File:        "Dockerfile",
		Bad:         "FROM python:3.13-slim\nCMD [\"flask\", \"run\", \"--host=0.0.0.0\"]\n",
		Good:        "FROM python:3.13-slim\nCMD [\"gunicorn\", \"--bind=unix:/run/app.sock\", \"app:app\"]\n",
		Check: func(p *audit.Pass) {
			looked := false
			for f := range p.Files(audit.Dockerfile, audit.Compose, audit.Procfile, audit.Systemd) {
				looked = true
				for n := 1; n <= f.LineCount(); n++ {
					line := f.Line(n)
					if !startsProgram(f.Kind, line) {
						continue
					}
					words := strings.Join(strings.Fields(strings.NewReplacer(`"`, " ", `'`, " ", ",", " ", "[", " ", "]", " ").Replace(line)), " ")
					switch {
					case flaskRun.MatchString(words):
						p.Report(audit.Finding{Span: f.LineSpan(n), Message: "the development server is the program that production starts"})
					case pythonFile.MatchString(words):
						if name := pythonFile.FindStringSubmatch(words)[1]; runsServer(p, name) {
							p.Report(audit.Finding{Span: f.LineSpan(n), Message: name + " starts the development server, and production starts " + name})
						}
					}
				}
			}
			if !looked {
				p.NotApplicable("no image, Procfile or unit says how production starts the app")
			}
		},
	},
	{
		ID: "DW-DEPLOYMENT-002", Control: "deployment",
		Title:    "Importing the module starts the development server",
		Why:      "gunicorn imports the module; app.run() outside of if __name__ == \"__main__\" then starts a second, unprotected server or blocks the worker.",
		Fix:      "Put app.run() below if __name__ == \"__main__\":, or take it out and use flask run.",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{489}, OWASP: []string{"A02:2025"}, ASVS: []string{"13.4.2"},
		Bad:  "from flask import Flask\napp = Flask(__name__)\napp.run()\n",
		Good: "from flask import Flask\napp = Flask(__name__)\nif __name__ == \"__main__\":\n    app.run()\n",
		Check: func(p *audit.Pass) {
			for _, c := range p.Flask.Calls("flask.Flask.run", "flask.app.Flask.run") {
				f := p.Project.File(c.File)
				if c.Main || f == nil || f.Test || !atTopLevel(p, c) || readsArguments(f) {
					continue
				}
				p.Report(audit.Finding{Span: p.Span(c.Position)})
			}
			if len(p.Flask.Runs) == 0 {
				p.NotApplicable("nothing starts a development server in code")
			}
		},
	},
	{
		ID: "DW-DEPLOYMENT-003", Control: "deployment",
		Title:    "The development server listens on every address",
		Why:      "The server meant for one developer answers the whole network.",
		Fix:      "Leave host out: the default is 127.0.0.1.",
		Severity: audit.Medium, Confidence: audit.Certain, CWE: []int{1327}, OWASP: []string{"A02:2025"}, ASVS: []string{"13.4.2"},
		Bad:  "from flask import Flask\napp = Flask(__name__)\nif __name__ == \"__main__\":\n    app.run(host=\"0.0.0.0\")\n",
		Good: "from flask import Flask\napp = Flask(__name__)\nif __name__ == \"__main__\":\n    app.run(host=\"127.0.0.1\")\n",
		Check: func(p *audit.Pass) {
			for _, r := range p.Flask.Runs {
				v := r.Args["host"]
				if v.Default != nil {
					v = *v.Default
				}
				if v.Known && (v.Text == "0.0.0.0" || v.Text == "::") {
					p.Report(audit.Finding{Span: p.Span(r.Position), Message: "the development server listens on " + v.Text})
				}
			}
			if len(p.Flask.Runs) == 0 {
				p.NotApplicable("nothing starts a development server in code")
			}
		},
	},
	{
		ID: "DW-DEPLOYMENT-004", Control: "deployment",
		Title:    "gunicorn believes every client about where it comes from",
		Why:      "With forwarded_allow_ips = \"*\" a client that reaches gunicorn chooses its own address and scheme, and passes every check that relies on them.",
		Fix:      "Name the proxy's addresses, or leave the setting out: 127.0.0.1 and unix sockets are the default.",
		Severity: audit.Medium, Confidence: audit.Certain, CWE: []int{348}, OWASP: []string{"A02:2025"}, ASVS: []string{"4.1.3"},
		MitigatedBy: []string{"client"},
		File:        "gunicorn.conf.py",
		Bad:         "forwarded_allow_ips = \"*\"\n",
		Good:        "forwarded_allow_ips = \"10.0.0.7\"\n",
		Check: func(p *audit.Pass) {
			gunicornSetting(p, "forwarded_allow_ips", `(?:^|\s)--forwarded-allow-ips[= ]["']?\*`, func(v flask.Value) bool {
				return v.Known && v.Text == "*"
			})
		},
	},
	{
		ID: "DW-DEPLOYMENT-005", Control: "deployment",
		Title:    "gunicorn reloads code in production",
		Why:      "The reloader watches files and restarts workers on every change: who can write one file runs code, and honest requests are cut.",
		Fix:      "Take reload out; use it from the command line while developing.",
		Severity: audit.Medium, Confidence: audit.Certain, CWE: []int{489}, OWASP: []string{"A02:2025"}, ASVS: []string{"13.4.2"},
		File: "gunicorn.conf.py",
		Bad:  "reload = True\n",
		Good: "reload = False\n",
		Check: func(p *audit.Pass) {
			gunicornSetting(p, "reload", `\bgunicorn\b.*\s--reload(?:\s|["',\]]|$)`, flask.Value.IsTrue)
		},
	},
	{
		ID: "DW-DEPLOYMENT-006", Control: "deployment",
		Title:    "gunicorn reads requests without a limit",
		Why:      "A limit of 0 lets one client fill the memory with a request line or a header that never ends.",
		Fix:      "Leave the limits at their defaults (4094, 100, 8190).",
		Severity: audit.Medium, Confidence: audit.Certain, CWE: []int{770}, OWASP: []string{"A02:2025"}, ASVS: []string{"15.2.2"},
		File: "gunicorn.conf.py",
		Bad:  "limit_request_line = 0\n",
		Good: "limit_request_line = 8190\n",
		Check: func(p *audit.Pass) {
			for _, name := range []string{"limit_request_line", "limit_request_fields", "limit_request_field_size"} {
				gunicornSetting(p, name, `--`+strings.ReplaceAll(name, "_", "[-_]")+`[= ]0\b`, func(v flask.Value) bool {
					return v.Known && v.Kind == flask.Number && v.Num <= 0
				})
			}
		},
	},
	{
		ID: "DW-DEPLOYMENT-007", Control: "deployment",
		Title:    "ProxyFix believes more proxies than one",
		Why:      "ProxyFix takes the client's address that many places from the right of X-Forwarded-For. With fewer proxies in front than it believes, the client writes its own address.",
		Fix:      "Count the proxies in front of the app and give exactly that number; behind dewar it is 1.",
		Severity: audit.Medium, Confidence: audit.Possible, CWE: []int{348}, OWASP: []string{"A02:2025"}, ASVS: []string{"4.1.3"},
		MitigatedBy: []string{"client"},
		Bad:         "from flask import Flask\nfrom werkzeug.middleware.proxy_fix import ProxyFix\napp = Flask(__name__)\napp.wsgi_app = ProxyFix(app.wsgi_app, x_for=5)\n",
		Good:        "from flask import Flask\nfrom werkzeug.middleware.proxy_fix import ProxyFix\napp = Flask(__name__)\napp.wsgi_app = ProxyFix(app.wsgi_app, x_for=1)\n",
		Check: func(p *audit.Pass) {
			calls := p.Flask.Calls("werkzeug.middleware.proxy_fix.ProxyFix", "werkzeug.contrib.fixers.ProxyFix")
			for _, c := range calls {
				positional, keywords := p.Flask.Args(c)
				hops := keywords["x_for"]
				if len(positional) > 1 {
					hops = positional[1]
				}
				if hops.Known && hops.Kind == flask.Number && hops.Num > 1 {
					p.Report(audit.Finding{Span: p.Span(c.Position), Message: fmt.Sprintf("ProxyFix believes %.0f proxies", hops.Num)})
				}
			}
			if len(calls) == 0 {
				p.NotApplicable("the app does not use ProxyFix")
			}
		},
	},
}

var (
	flaskRun   = regexp.MustCompile(`(?:^|[ /=:])(?:flask|python3? -m flask)(?: (?:--app|-A)[ =]\S+)?(?: --debug)? run\b`)
	pythonFile = regexp.MustCompile(`(?:^|[ /=:])python[0-9.]*(?: -[uOBEs]+)* (\S+\.py)\b`)
)

// startsProgram reports whether a line names the program that a deployment
// starts.
func startsProgram(k audit.Kind, line string) bool {
	t := strings.TrimSpace(line)
	upper := strings.ToUpper(t)
	switch k {
	case audit.Dockerfile:
		return strings.HasPrefix(upper, "CMD") || strings.HasPrefix(upper, "ENTRYPOINT")
	case audit.Compose:
		return strings.HasPrefix(t, "command:") || strings.HasPrefix(t, "entrypoint:")
	case audit.Procfile:
		name, _, ok := strings.Cut(t, ":")
		return ok && !strings.HasPrefix(t, "#") && name != "release"
	case audit.Systemd:
		return strings.HasPrefix(t, "ExecStart=")
	}
	return false
}

// runsServer reports whether the project's file name starts the development
// server when it is run.
func runsServer(p *audit.Pass, name string) bool {
	name = name[strings.LastIndexByte(name, '/')+1:]
	for _, r := range p.Flask.Runs {
		if f := r.Position.File; f == name || strings.HasSuffix(f, "/"+name) {
			return true
		}
	}
	return false
}

// readsArguments reports whether a module reads the arguments of its command
// line when it is loaded: it is a program, and no server can import it.
func readsArguments(f *audit.File) bool {
	py := f.Python
	found := false
	for _, id := range py.Body() {
		pysyntax.Walk(py, id, func(id pysyntax.ID) bool {
			switch py.Kind(id) {
			case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef, pysyntax.ClassDef, pysyntax.Lambda:
				return false
			case pysyntax.Call:
				fn, _, _ := py.Call(id)
				_, method := py.Attribute(fn)
				found = found || method == "parse_args"
			}
			return !found
		})
	}
	return found
}

// atTopLevel reports whether a call runs when its module is imported.
func atTopLevel(p *audit.Pass, c flask.Call) bool {
	line := p.Project.File(c.File).Line(c.Position.Line)
	return !c.Conditional && len(line) > 0 && line[0] != ' ' && line[0] != '\t'
}

// gunicornSetting reports a setting in gunicorn's configuration file, or an
// option of the command lines that start it.
func gunicornSetting(p *audit.Pass, name, option string, bad func(flask.Value) bool) {
	looked := false
	re := regexp.MustCompile(option)
	for f := range p.Files(audit.GunicornConf) {
		if f.Python == nil {
			continue
		}
		looked = true
		for _, a := range topLevelAssignments(p, f) {
			if a.name == name && bad(p.Flask.Value(f.Path, a.value)) {
				sure := audit.Certain
				if a.maybe {
					sure = audit.Possible
				}
				p.Report(audit.Finding{Confidence: sure, Span: f.NodeSpan(a.node), Message: fmt.Sprintf("%s is %s", name, strings.TrimSpace(string(f.Python.Text(a.value))))})
			}
		}
	}
	for f := range p.Files(audit.Dockerfile, audit.Compose, audit.Procfile, audit.Systemd, audit.Shell) {
		for n := 1; n <= f.LineCount(); n++ {
			line := f.Line(n)
			if !strings.Contains(line, "gunicorn") && f.Kind != audit.Dockerfile && f.Kind != audit.Compose || strings.HasPrefix(strings.TrimSpace(line), "#") {
				continue
			}
			looked = looked || strings.Contains(line, "gunicorn")
			if re.MatchString(strings.NewReplacer(`",`, " ", `"`, "").Replace(line)) {
				p.Report(audit.Finding{Span: f.LineSpan(n), Message: fmt.Sprintf("gunicorn is started with %s switched this way", strings.ReplaceAll(name, "_", "-"))})
			}
		}
	}
	if !looked {
		p.NotApplicable("the project does not configure gunicorn")
	}
}
