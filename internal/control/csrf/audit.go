package csrf

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/html"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

var rules = []*audit.Rule{
	{
		ID: "DW-CSRF-001", Control: "csrf",
		Title:    "Routes that change state have no protection against forged requests",
		Why:      "Nothing proves that a POST comes from the app's own pages: any site a visitor opens can send it with the visitor's cookies.",
		Fix:      "Enable it for the whole app: csrf = CSRFProtect(); csrf.init_app(app).",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{352}, OWASP: []string{"A01:2025"}, ASVS: []string{"3.5.1"},
		MitigatedBy: []string{"csrf"},
		Bad:         "import os\nfrom flask import Flask, request, session\napp = Flask(__name__)\napp.secret_key = os.environ[\"SECRET_KEY\"]\n@app.post(\"/name\")\ndef name():\n    session[\"name\"] = request.form[\"name\"]\n    return \"\"\n",
		Good:        "import os\nfrom flask import Flask, request, session\nfrom flask_wtf import CSRFProtect\napp = Flask(__name__)\napp.secret_key = os.environ[\"SECRET_KEY\"]\nCSRFProtect(app)\n@app.post(\"/name\")\ndef name():\n    session[\"name\"] = request.form[\"name\"]\n    return \"\"\n",
		Check:       unprotected,
	},
	{
		ID: "DW-CSRF-002", Control: "csrf",
		Title:    "A view is exempt from CSRF protection",
		Why:      "The token check is switched off for this view, so another site can send its requests with the visitor's cookies.",
		Fix:      "Take the exemption away; if a machine calls the view (a webhook), let the view check a signature and read no session, and say so in a suppression.",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{352}, OWASP: []string{"A01:2025"}, ASVS: []string{"3.5.1"},
		MitigatedBy: []string{"csrf"},
		Bad:         "from flask import Flask\nfrom flask_wtf import CSRFProtect\napp = Flask(__name__)\ncsrf = CSRFProtect(app)\n@app.post(\"/pay\")\n@csrf.exempt\ndef pay():\n    return \"\"\n",
		Good:        "from flask import Flask\nfrom flask_wtf import CSRFProtect\napp = Flask(__name__)\ncsrf = CSRFProtect(app)\n@app.post(\"/pay\")\ndef pay():\n    return \"\"\n",
		Check: func(p *audit.Pass) {
			if len(protections(p)) == 0 {
				p.NotApplicable("the app has no CSRF protection to be exempt from")
				return
			}
			exempted(p)
		},
	},
	{
		ID: "DW-CSRF-003", Control: "csrf",
		Title:    "CSRF protection is switched off",
		Why:      "Flask-WTF then accepts every form, whoever made it.",
		Fix:      "Switch it off only in the class or fixture that the tests use.",
		Severity: audit.High, Confidence: audit.Certain, CWE: []int{352}, OWASP: []string{"A01:2025"}, ASVS: []string{"3.5.1"},
		MitigatedBy: []string{"csrf"},
		Bad:         "from flask import Flask\napp = Flask(__name__)\napp.config[\"WTF_CSRF_ENABLED\"] = False\n",
		Good:        "from flask import Flask\napp = Flask(__name__)\napp.config[\"WTF_CSRF_ENABLED\"] = True\n",
		Check: func(p *audit.Pass) {
			for _, s := range p.Flask.Settings {
				if s.Profile == "testing" || s.Profile == "development" {
					continue
				}
				if (s.Key == "WTF_CSRF_ENABLED" || s.Key == "WTF_CSRF_CHECK_DEFAULT" && !callsProtect(p)) && s.Value.IsFalse() {
					p.Report(audit.Finding{Span: p.Span(s.Position), Message: s.Key + " is off"})
				}
			}
			if len(p.Flask.Apps) == 0 {
				p.NotApplicable("no Flask app was found")
			}
		},
	},
	{
		ID: "DW-CSRF-004", Control: "csrf",
		Title:    "A form has no CSRF token",
		Why:      "Without a token the app cannot tell its own form from one on another site.",
		Fix:      "Put {{ form.hidden_tag() }} or <input type=\"hidden\" name=\"csrf_token\" value=\"{{ csrf_token() }}\"> into the form.",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{352}, OWASP: []string{"A01:2025"}, ASVS: []string{"3.5.1"},
		MitigatedBy: []string{"csrf"},
		File:        "templates/form.html",
		Bad:         "<form method=\"post\" action=\"/buy\"><button>Buy</button></form>\n",
		Good:        "<form method=\"post\" action=\"/buy\">{{ form.hidden_tag() }}<button>Buy</button></form>\n",
		Check: func(p *audit.Pass) {
			looked := false
			macros := tokenMacros(p)
			own, some, protected := ownFields(p)
			protected = protected || everywhere(p)
			for f := range p.Files(audit.Template) {
				looked = true
				for _, at := range formsWithoutToken(f.Data, macros, own) {
					// Without the token, which a script may add, the check that
					// runs before every view refuses it; of views that are
					// exempt DW-CSRF-002 speaks.
					if protected {
						continue
					}
					finding := audit.Finding{Span: f.SpanAt(at[0], at[1])}
					if some {
						finding.Confidence, finding.Label = audit.Possible, "unless the app's own check refuses it, or a script adds the token"
					}
					p.Report(finding)
				}
			}
			if !looked {
				p.NotApplicable("the project has no templates")
			}
		},
	},
	{
		ID: "DW-CSRF-005", Control: "csrf",
		Title:    "A GET request changes state",
		Why:      "Links, images and prefetching send GET requests by themselves, with the visitor's cookies and without any token.",
		Fix:      "Accept only POST (or PUT, PATCH, DELETE) for what changes something, and use a form or fetch to send it.",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{352, 650}, OWASP: []string{"A01:2025"}, ASVS: []string{"3.5.3"},
		Bad:  "from flask import Flask\nfrom flask_sqlalchemy import SQLAlchemy\napp = Flask(__name__)\ndb = SQLAlchemy(app)\n@app.get(\"/item/<int:n>/delete\")\ndef delete(n):\n    db.session.delete(db.session.get(Item, n))\n    db.session.commit()\n    return \"\"\n",
		Good: "from flask import Flask\nfrom flask_sqlalchemy import SQLAlchemy\napp = Flask(__name__)\ndb = SQLAlchemy(app)\n@app.post(\"/item/<int:n>/delete\")\ndef delete(n):\n    db.session.delete(db.session.get(Item, n))\n    db.session.commit()\n    return \"\"\n",
		Check: func(p *audit.Pass) {
			seen := map[flask.Position]int{} // routes by view
			open := func(r *flask.Route) bool {
				if r.Writes() || !r.WritesState || r.OnlySession || r.LogsIn || r.LogsOut || inTest(p, r.File) {
					return false
				}
				// No other site can send the header that lets somebody in, or
				// knows what the visitor was sent off with.
				reach := p.Flask.Reach(r)
				return !reach.Token && (!reach.Headers || reach.Cookies) && !oneTime(p, r, reach)
			}
			for _, r := range p.Flask.Routes {
				if open(r) {
					seen[r.FunctionPosition]++
				}
			}
			for _, r := range p.Flask.Routes {
				n := seen[r.FunctionPosition] - 1
				if !open(r) || n < 0 {
					continue
				}
				seen[r.FunctionPosition] = 0
				f := audit.Finding{Span: p.Span(r.Position), Message: routeName(r) + " changes state on GET"}
				if n > 0 {
					f.Message = fmt.Sprintf("%s and %d other %s of its view change state on GET", routeName(r), n, plural(n, "address", "addresses"))
				}
				if r.WriteAt.Line > 0 {
					f.Related = []audit.Step{{Span: p.Span(r.WriteAt), Note: "written here"}}
				}
				if at := r.WriteAt; at.File != r.FunctionPosition.File || at.Line < r.FunctionPosition.Line || at.Line > r.FunctionPosition.EndLine {
					f.Confidence = audit.Possible // whether that is reached hangs on what is asked for
				}
				if i := secretParam(r); i >= 0 {
					f.Confidence, f.Label = audit.Possible, "unless "+r.Params[i].Name+", in the address, is a secret that is checked"
				}
				p.Report(f)
			}
			if len(p.Flask.Routes) == 0 {
				p.NotApplicable("no routes were found")
			}
		},
	},
}

// unprotected reports, once per app, the routes that accept a form or JSON
// with the visitor's cookies and that nothing protects.
func unprotected(p *audit.Pass) {
	if len(p.Flask.Apps) == 0 {
		p.NotApplicable("no Flask app was found")
		return
	}
	sessions := p.Flask.Effective("SECRET_KEY", "production").Setting != nil || len(p.Flask.Extension("LoginManager")) > 0
	checks := ownChecks(p)
	routes := map[*flask.App][]*flask.Route{} // open ones; nil for those of which the app is not known
	any := false
	given := func(r *flask.Route) bool {
		return slices.ContainsFunc(protections(p), func(e *flask.Extension) bool { return e.Initialised && (r.App() == nil || e.Of(r.App())) })
	}
	type address struct {
		at   flask.Position
		rule string
	}
	done := map[address]bool{}
	for _, r := range p.Flask.Routes {
		done[address{r.Position, r.Rule}] = done[address{r.Position, r.Rule}] || r.Shared() && given(r)
	}
	for _, r := range p.Flask.Routes {
		if !r.Writes() || r.Function == "" || inTest(p, r.File) {
			continue
		}
		app := r.App()
		if given(r) {
			any = true
			continue
		}
		// Of a call that may speak of several apps, one is enough.
		if key := (address{r.Position, r.Rule}); r.Shared() && done[key] {
			continue
		} else if r.Shared() {
			done[key] = true
		}
		if validatesForm(p, r) {
			continue
		}
		reach := p.Flask.Reach(r)
		if validates(p, r, reach) {
			continue
		}
		any = any || sessions || reach.Cookies
		switch {
		case checks.in(reach):
		case reach.Token, reach.Headers && !reach.Cookies: // no other site can send the header
		case !reach.Cookies && (!sessions || !hasSessions(p, app)):
		default:
			routes[app] = append(routes[app], r)
		}
	}
	if !any && !sessions {
		p.NotApplicable("the app has no sessions, so a forged request carries no rights")
		return
	}
	if len(routes) == 0 {
		if len(p.Flask.Unknown) > 0 && len(p.Flask.Extension("CSRFProtect"))+len(checks.at) == 0 {
			p.CouldNotLook(fmt.Sprintf("no unprotected route was found, but %d places were not understood", len(p.Flask.Unknown)))
		}
		return
	}
	for _, app := range append(slices.Clone(p.Flask.Apps), nil) {
		open := routes[app]
		if len(open) == 0 {
			continue
		}
		f := audit.Finding{Span: p.Span(p.Flask.Apps[0].Position), Label: "no CSRFProtect is given this app"}
		if app != nil {
			f.Span = p.Span(app.Position)
		}
		for _, e := range protections(p) {
			if !e.Initialised {
				f.Span, f.Label = p.Span(e.Position), "made, but never given an app"
			}
		}
		n := len(open)
		f.Message = fmt.Sprintf("%d %s state without protection against forged requests", n, plural(n, "route changes", "routes change"))
		for _, r := range open[:min(n, 5)] {
			f.Related = append(f.Related, audit.Step{Span: p.Span(r.Position), Note: routeName(r)})
		}
		p.Report(f)
	}
}

// beside reports whether a file stands in the folder of another, or below it.
func beside(file, other string) bool {
	dir := path.Dir(other)
	return dir == "." || dir == path.Dir(file) || strings.HasPrefix(file, dir+"/")
}

// hasSessions reports whether an app of several has sessions of its own: a key
// that is set in its part of the project, or a route that reads them.
func hasSessions(p *audit.Pass, app *flask.App) bool {
	if app == nil {
		return true
	}
	for _, s := range p.Flask.Settings {
		if s.Key != "SECRET_KEY" {
			continue
		}
		if s.Source == flask.FromAssign || s.Source == flask.FromAttribute {
			if path.Dir(s.Position.File) == path.Dir(app.Position.File) && (s.Position.File == app.Position.File || len(p.Flask.Apps) == 1) {
				return true
			}
		} else if beside(s.Position.File, app.Position.File) || beside(app.Position.File, s.Position.File) {
			return true
		}
	}
	return slices.ContainsFunc(p.Flask.Routes, func(r *flask.Route) bool { return r.App() == app && p.Flask.Reach(r).Cookies })
}

// protections returns the uses of extensions that check every request.
func protections(p *audit.Pass) []*flask.Extension {
	return slices.Concat(p.Flask.Extension("CSRFProtect"), p.Flask.Extension("CsrfProtect"), p.Flask.Extension("SeaSurf"))
}

// everywhere reports whether an extension checks every request of all apps.
func everywhere(p *audit.Pass) bool {
	for _, key := range []string{"WTF_CSRF_ENABLED", "WTF_CSRF_CHECK_DEFAULT"} {
		if e := p.Flask.Effective(key, "production"); e.Setting != nil && e.Value.IsFalse() && (key == "WTF_CSRF_ENABLED" || !callsProtect(p)) {
			return false
		}
	}
	given := func(app *flask.App) bool {
		return slices.ContainsFunc(protections(p), func(e *flask.Extension) bool { return e.Initialised && (app == nil || e.Of(app)) })
	}
	for _, r := range p.Flask.Routes {
		if r.Writes() && r.Function != "" && !inTest(p, r.File) && !given(r.App()) {
			return false
		}
	}
	return given(nil)
}

func callsProtect(p *audit.Pass) bool {
	return len(p.Flask.Calls("flask_wtf.csrf.CSRFProtect.protect", "flask_wtf.CSRFProtect.protect")) > 0
}

// validatesForm reports whether the view validates a Flask-WTF form, which
// checks the token by itself.
func validatesForm(p *audit.Pass, r *flask.Route) bool {
	f := p.Project.File(r.FunctionPosition.File)
	if f == nil || f.Python == nil || !bytes.Contains(f.Data, []byte("validate")) {
		return false
	}
	found := false
	for id := range f.Python.Nodes {
		kind := f.Python.Kind(pysyntax.ID(id))
		if kind != pysyntax.FunctionDef && kind != pysyntax.AsyncFunctionDef && kind != pysyntax.ClassDef {
			continue
		}
		span := f.NodeSpan(pysyntax.ID(id))
		if span.Line <= r.FunctionPosition.Line && r.FunctionPosition.Line <= span.EndLine && definesAt(f, pysyntax.ID(id), r.FunctionPosition) {
			found = found || bytes.Contains(f.Python.Text(pysyntax.ID(id)), []byte(".validate_on_submit("))
		}
	}
	return found
}

// withoutToken matches where a form is made, or its class, that asks for no
// token.
var withoutToken = regexp.MustCompile(`["']?\bcsrf["']?\s*[:=]\s*False|\bcsrf_enabled\s*=\s*False`)

// validates reports whether code that runs for the route calls validate() of
// a Flask-WTF form, which checks the token like validate_on_submit(). Much has
// such a method; what it is called on is known once the program was run. Files
// that make forms without a token are left out.
func validates(p *audit.Pass, r *flask.Route, reach flask.Reach) bool {
	f := p.Project.File(r.FunctionPosition.File)
	if f == nil || !bytes.Contains(f.Data, []byte(".validate(")) || withoutToken.Match(f.Data) {
		return false
	}
	return slices.ContainsFunc(p.Hits("use", "form-token"), func(h *pyflow.Hit) bool {
		at := p.Project.FlowSpan(h.At)
		return slices.ContainsFunc(reach.Functions, func(fn flask.Position) bool {
			if fn.File != at.File || at.Line < fn.Line || fn.EndLine < at.Line {
				return false
			}
			made := p.Project.File(fn.File)
			return made != nil && !withoutToken.Match(made.Data)
		})
	})
}

// ownCheck is a function of the project that compares what the session holds
// with what the form or a header brings, and says no, or answers whether they
// are equal.
type ownCheck struct {
	names  []string // of the fields and headers, as far as they are constant
	aborts bool
}

// ownSet holds the project's own checks by their place.
type ownSet struct {
	at     map[flask.Position]ownCheck
	called map[string]bool // names of functions that are checks, wherever there is one
}

// in reports whether one of the checks runs for a route.
func (c ownSet) in(reach flask.Reach) bool {
	return slices.ContainsFunc(reach.Functions, func(at flask.Position) bool { _, ok := c.at[at]; return ok }) ||
		slices.ContainsFunc(reach.Named, func(name string) bool { return c.called[name] })
}

// ownChecks finds the project's own checks.
func ownChecks(p *audit.Pass) ownSet {
	out := ownSet{map[flask.Position]ownCheck{}, map[string]bool{}}
	other := map[string]bool{}
	p.Functions(func(f *audit.File, id pysyntax.ID, fn pysyntax.Function) {
		check, ok := ownCheck{}, false
		if bytes.Contains(f.Python.Text(id), []byte("session")) {
			check, ok = readCheck(p, f, id)
		}
		if !ok {
			other[fn.Name] = true
			return
		}
		s := f.NodeSpan(id)
		out.at[flask.Position{File: s.File, Line: s.Line, Column: s.Column, EndLine: s.EndLine, EndColumn: s.EndColumn}] = check
		out.called[fn.Name] = true
	})
	for name := range other {
		delete(out.called, name)
	}
	return out
}

// ownFields returns patterns, for text in lower case, of the names that the
// token has which the project's own checks look for; some is set when there are
// such checks, everywhere when one of them runs before every request that may
// change something.
func ownFields(p *audit.Pass) (names []*regexp.Regexp, some, everywhere bool) {
	all := ownChecks(p)
	var fields []string
	for _, c := range all.at {
		fields = append(fields, c.names...)
	}
	slices.Sort(fields)
	for _, name := range slices.Compact(fields) {
		names = append(names, regexp.MustCompile(`\b`+regexp.QuoteMeta(strings.ToLower(name))+`\b`))
	}
	for i := range p.Flask.Hooks {
		h := &p.Flask.Hooks[i]
		check, ok := all.at[h.Position]
		if !ok || !check.aborts || h.Kind != "before_request" || h.Blueprint != "" {
			continue
		}
		if slices.ContainsFunc(p.Flask.Routes, func(r *flask.Route) bool {
			return r.Writes() && r.Function != "" && !inTest(p, r.File) && !r.Speaks(h)
		}) {
			continue
		}
		everywhere = true
	}
	return names, len(all.at) > 0, everywhere
}

// identityKeyRE matches the keys of a session under which stands who somebody
// is, which others may know.
var identityKeyRE = regexp.MustCompile(`(?i)^_?(?:user|uid|usr|account|member|name|email|login|lang|role)`)

// secretAttrRE matches attributes of a session that hold a token.
var secretAttrRE = regexp.MustCompile(`(?i)csrf|xsrf|token|nonce`)

// readCheck reads a function as a check; ok is false if it is none.
func readCheck(p *audit.Pass, f *audit.File, fn pysyntax.ID) (check ownCheck, ok bool) {
	py := f.Python
	locals := localValues(py, fn)
	// side tells whether a value comes from the session or from the request,
	// and by which constants.
	var side func(v pysyntax.ID, depth int) (session, request bool, names []string)
	side = func(v pysyntax.ID, depth int) (session, request bool, names []string) {
		pysyntax.Walk(py, v, func(id pysyntax.ID) bool {
			base, key := py.Subscript(id)
			if call, args, _ := py.Call(id); call != 0 && len(args) > 0 {
				key = args[0]
				base, _ = py.Attribute(call)
			}
			if key != 0 && base != 0 {
				s, _ := py.StringValue(key)
				switch p.Flask.Name(f.Path, base) {
				case "flask.session":
					session = session || !identityKeyRE.MatchString(s)
				case "flask.request.form", "flask.request.headers", "flask.request.values", "flask.request.json":
					if request = true; s != "" {
						names = append(names, s)
					}
				}
			}
			if of, attr := py.Attribute(id); of != 0 && secretAttrRE.MatchString(attr) && p.Flask.Name(f.Path, of) == "flask.session" {
				session = true // of an interface of the app's own: session.csrf_token
			}
			if n := py.Name(id); n != "" && depth < 2 {
				for _, x := range locals[n] {
					s, r, more := side(x, depth+1)
					session, request, names = session || s, request || r, append(names, more...)
				}
			}
			return len(names) < 16
		})
		return session, request, names
	}
	pysyntax.Walk(py, fn, func(id pysyntax.ID) bool {
		var a, b pysyntax.ID
		if left, rest := py.Compare(id); left != 0 && len(rest) == 1 && (rest[0].Op == pysyntax.CmpEq || rest[0].Op == pysyntax.CmpNe) {
			a, b = left, rest[0].Right
		} else if call, args, _ := py.Call(id); call != 0 && len(args) == 2 && compareRE.Match(py.Text(call)) {
			a, b = args[0], args[1]
		}
		if a != 0 && b != 0 {
			aOurs, aTheirs, names := side(a, 0)
			bOurs, bTheirs, more := side(b, 0)
			if aOurs && !aTheirs && bTheirs && !bOurs || bOurs && !bTheirs && aTheirs && !aOurs {
				ok = true
				check.names = append(check.names, append(names, more...)...)
			}
		}
		return len(check.names) < 16
	})
	if !ok {
		return check, false
	}
	check.aborts = turnsAwayRE.Match(py.Text(fn))
	return check, check.aborts || answers(py, fn)
}

// answers reports whether a function gives back what it finds out.
func answers(py *pysyntax.File, fn pysyntax.ID) bool {
	found := false
	pysyntax.Walk(py, fn, func(id pysyntax.ID) bool {
		found = found || py.Kind(id) == pysyntax.Return && py.Value(id) != 0
		return !found
	})
	return found
}

// compareRE matches functions that compare two values.
var compareRE = regexp.MustCompile(`(?i)(?:compare_digest|cmp|compare|equals?|same)$`)

// turnsAwayRE finds what refuses a request.
var turnsAwayRE = regexp.MustCompile(`\babort\(|\braise\b|\b4[0-9]{2}\b`)

// preventsRE matches a handler that keeps the browser from sending the form:
// first of all, or as the last of calls that nothing skips.
var preventsRE = regexp.MustCompile(`^\s*(?:event\.preventDefault\(\)|(?:[\w.]+\((?:[\w.,\s]|'[^']*')*\)\s*;\s*)*return\s+false\s*;?\s*$)`)

// byScript reports whether a script sends the form instead of the browser: its
// own sending is prevented in an attribute, whatever else happens there.
func byScript(attrs map[string]string) bool {
	// A form that a script submits goes out as it stands, without its handler.
	if on := attrs["onsubmit"]; preventsRE.MatchString(on) && !strings.Contains(on, ".submit(") && !strings.Contains(on, ".requestSubmit(") {
		return true
	}
	for name := range attrs {
		event, modifiers, _ := strings.Cut(name, ".")
		if (event == "@submit" || event == "v-on:submit" || event == "x-on:submit") && slices.Contains(strings.Split(modifiers, "."), "prevent") {
			return true
		}
	}
	return false
}

// definesAt reports whether a function or class begins at a position: the
// definition itself, not one around it.
func definesAt(f *audit.File, id pysyntax.ID, at flask.Position) bool {
	span := f.NodeSpan(id)
	return span.Line == at.Line && span.Column == at.Column
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func inTest(p *audit.Pass, file string) bool {
	f := p.Project.File(file)
	return f != nil && f.Test
}

func routeName(r *flask.Route) string {
	var writes []string
	for _, m := range r.Methods {
		if m != "GET" && m != "HEAD" && m != "OPTIONS" {
			writes = append(writes, m)
		}
	}
	if len(writes) == 0 {
		writes = []string{"GET"}
	}
	return strings.Join(writes, ", ") + " " + r.Rule
}

// secretParam returns the index of the part of a route's address that may be a
// secret, such as the token in the link of a mail: another site cannot send what
// it does not know. It is -1 if there is none.
func secretParam(r *flask.Route) int {
	return slices.IndexFunc(r.Params, func(x flask.Param) bool { return x.Type == "str" && audit.SecretName(x.Name) })
}

// exempted reports the exemptions, each with all the routes that it frees.
func exempted(p *audit.Pass) {
	var places []flask.Position
	freed := map[flask.Position][]*flask.Route{}
	for _, r := range p.Flask.Routes {
		if !r.CSRFExempt || !r.Writes() || inTest(p, r.File) {
			continue
		}
		// No other site can send the header that lets somebody in.
		if reach := p.Flask.Reach(r); reach.Token || reach.Headers && !reach.Cookies {
			continue
		}
		if freed[r.ExemptAt] == nil {
			places = append(places, r.ExemptAt)
		}
		freed[r.ExemptAt] = append(freed[r.ExemptAt], r)
	}
	for _, at := range places {
		routes := freed[at]
		first := routes[0]
		f := audit.Finding{Span: p.Span(at), Message: routeName(first) + " is exempt from CSRF protection", Cause: "views are exempt from CSRF protection"}
		if n := len(routes) - 1; n > 0 {
			f.Message = fmt.Sprintf("%s and %d other %s are exempt from CSRF protection", routeName(first), n, plural(n, "route", "routes"))
			for _, r := range routes[:min(len(routes), 5)] {
				f.Related = append(f.Related, audit.Step{Span: p.Span(r.Position), Note: routeName(r)})
			}
		}
		if first.Blueprint != "" {
			f.Cause = "views of the blueprint " + first.Blueprint + " are exempt from CSRF protection"
		}
		secret := secretParam(first)
		if secret >= 0 && slices.IndexFunc(routes, func(r *flask.Route) bool {
			return !slices.ContainsFunc(r.Params, func(x flask.Param) bool { return x == first.Params[secret] })
		}) < 0 {
			// Another site cannot send what it does not know; whether the view
			// checks it is not known here.
			f.Confidence = audit.Possible
			f.Label = "unless " + first.Params[secret].Name + ", in the address, is a secret that is checked"
		}
		p.Report(f)
	}
}

// tokenMarks are the ways a Jinja template puts a token into a form, by hand
// or through the macros of Flask-WTF, Bootstrap-Flask and Flask-Admin.
var tokenMarks = [][]byte{
	[]byte("csrf_token"), []byte("hidden_tag("), []byte("quick_form("), []byte("render_form("),
	[]byte("csrf_input"), []byte("_csrf"), []byte("csrf-token"), []byte("csrf_field"), []byte("render_hidden"), []byte("hidden_fields"),
	[]byte("csrfmiddlewaretoken"), []byte("xsrf"),
}

// formsWithoutToken returns the byte ranges of the start tags of forms that
// post to the app itself and hold no token. Jinja's own tags are text to the
// HTML tokenizer, which is what is wanted here: what stands between the form's
// tags is searched as it is written.
func formsWithoutToken(src []byte, macros map[string]bool, own []*regexp.Regexp) [][2]int {
	var out [][2]int
	z := html.NewTokenizer(bytes.NewReader(blankJinja(src)))
	offset := 0
	open, from, to := false, 0, 0
	finish := func(end int) {
		if !open {
			return
		}
		open = false
		body := bytes.ToLower(src[from:end])
		if !slices.ContainsFunc(tokenMarks, func(m []byte) bool { return bytes.Contains(body, m) }) &&
			!slices.ContainsFunc(own, func(re *regexp.Regexp) bool { return re.Match(body) }) && !hasInclude(body) && !callsMacro(body, macros) {
			out = append(out, [2]int{from, to})
		}
	}
	for {
		kind := z.Next()
		raw := len(z.Raw())
		start, end := offset, offset+raw
		offset = end
		if kind == html.ErrorToken {
			finish(min(start, len(src)))
			return out
		}
		name, hasAttr := z.TagName()
		if string(name) != "form" {
			continue
		}
		switch kind {
		case html.StartTagToken, html.SelfClosingTagToken:
			finish(start)
			attrs := map[string]string{}
			for hasAttr {
				var k, v []byte
				k, v, hasAttr = z.TagAttr()
				attrs[string(k)] = string(v)
			}
			method := strings.ToLower(strings.TrimSpace(attrs["method"]))
			action := strings.ToLower(strings.TrimSpace(attrs["action"]))
			if method == "post" && !byScript(attrs) && !strings.HasPrefix(action, "http://") && !strings.HasPrefix(action, "https://") && !strings.HasPrefix(action, "//") {
				open, from, to = true, start, end
			}
		case html.EndTagToken:
			finish(end)
		}
	}
}

var (
	macroStart = regexp.MustCompile(`\{%-?\s*macro\s+([A-Za-z_]\w*)\s*\(`)
	macroEnd   = regexp.MustCompile(`\{%-?\s*endmacro\b`)
	macroCall  = regexp.MustCompile(`\{\{-?\s*(?:[a-z_]\w*\.)?([a-z_]\w*)\s*\(`)
)

// tokenMacros returns every macro of the project's templates by name, in
// lower case, and whether it puts a token into the form.
func tokenMacros(p *audit.Pass) map[string]bool {
	out := map[string]bool{}
	for f := range p.Files(audit.Template) {
		for _, m := range macroStart.FindAllSubmatchIndex(f.Data, -1) {
			body := bytes.ToLower(f.Data[m[1]:])
			if end := macroEnd.FindIndex(body); end != nil {
				body = body[:end[0]]
			}
			name := strings.ToLower(string(f.Data[m[2]:m[3]]))
			out[name] = out[name] || slices.ContainsFunc(tokenMarks, func(t []byte) bool { return bytes.Contains(body, t) })
		}
	}
	return out
}

// callsMacro reports whether a form's body calls a macro of the project that
// puts a token into it, or one that gets the form and is not the project's
// own: where nobody can look, nothing is claimed.
func callsMacro(body []byte, macros map[string]bool) bool {
	for _, m := range macroCall.FindAllSubmatchIndex(body, -1) {
		token, ours := macros[string(body[m[2]:m[3]])]
		if token {
			return true
		}
		args, _, _ := bytes.Cut(body[m[1]:], []byte(")"))
		if !ours && bytes.Contains(args, []byte("form")) && !bytes.Contains(args, []byte("url_for")) && !bytes.Equal(body[m[2]:m[3]], []byte("url_for")) {
			return true
		}
	}
	return false
}

// hasInclude reports whether a form's content comes from elsewhere: another
// template, a macro, a block of a child. Where nobody can look, nothing is
// claimed.
func hasInclude(body []byte) bool {
	for _, m := range []string{"{% include", "{%- include", "{% block", "{%- block", "{% call", "{%- call", "caller()"} {
		if bytes.Contains(body, []byte(m)) {
			return true
		}
	}
	return false
}

// blankJinja replaces what stands inside Jinja's delimiters by spaces, byte
// for byte, so that a > or a quote in an expression does not end a tag.
func blankJinja(src []byte) []byte {
	out := bytes.Clone(src)
	for i := 0; i+1 < len(out); i++ {
		if out[i] != '{' {
			continue
		}
		var end []byte
		switch out[i+1] {
		case '{':
			end = []byte("}}")
		case '%':
			end = []byte("%}")
		case '#':
			end = []byte("#}")
		default:
			continue
		}
		n := bytes.Index(out[i+2:], end)
		if n < 0 {
			return out
		}
		for j := i; j < i+2+n+2; j++ {
			if out[j] != '\n' {
				out[j] = ' '
			}
		}
		i += n + 3
	}
	return out
}
