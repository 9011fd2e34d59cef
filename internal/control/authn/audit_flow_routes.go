package authn

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

var rules = slices.Concat(proofRules, routeRules, ownerRules)

// routeRules are about who is let in where.
var routeRules = []*audit.Rule{
	{
		ID: "DW-AUTHN-004", Control: "authn",
		Title:    "A view asks for no login while those beside it do",
		Why:      "A check that was forgotten on one view opens what the others guard: whoever knows the address uses it.",
		Fix:      "Put the same decorator below the route's; better, check in a before_request of the blueprint, where no view can be forgotten.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{306, 862}, OWASP: []string{"A01:2025"}, ASVS: []string{"8.2.1"},
		Bad: `from flask import Flask, request
from flask_login import login_required
app = Flask(__name__)

@app.post("/note/add")
@login_required
def add():
    return store(request.form["text"])

@app.post("/note/<int:n>/edit")
@login_required
def edit(n):
    return store(request.form["text"])

@app.post("/note/<int:n>/drop")
def drop(n):
    return remove(n)
`,
		Good: `from flask import Flask, request
from flask_login import login_required
app = Flask(__name__)

@app.post("/note/add")
@login_required
def add():
    return store(request.form["text"])

@app.post("/note/<int:n>/edit")
@login_required
def edit(n):
    return store(request.form["text"])

@app.post("/note/<int:n>/drop")
@login_required
def drop(n):
    return remove(n)
`,
		Check: openSiblings,
	},
	{
		ID: "DW-AUTHN-005", Control: "authn",
		Title:    "A login check stands above the route and does nothing",
		Why:      "Decorators apply from below: Flask registered the view before it was wrapped, so every request reaches it unchecked.",
		Fix:      "Put the route's decorator first and the check below it.",
		Severity: audit.High, Confidence: audit.Certain, CWE: []int{306, 862}, OWASP: []string{"A01:2025"}, ASVS: []string{"8.2.1"},
		Bad: `from flask import Flask
from flask_login import login_required
app = Flask(__name__)

@login_required
@app.get("/account")
def account():
    return "your account"
`,
		Good: `from flask import Flask
from flask_login import login_required
app = Flask(__name__)

@app.get("/account")
@login_required
def account():
    return "your account"
`,
		Check: func(p *audit.Pass) {
			for _, r := range p.Flask.Routes {
				if r.LoginRequired || inTest(p, r.File) {
					continue
				}
				for _, d := range r.Decorators {
					if d.Above && d.Login {
						p.Report(audit.Finding{Span: p.Span(d.Position), Message: fmt.Sprintf("%s stands above the route %s, which is registered without it", lastPart(d.Name), r.Rule), Label: "does nothing for requests"})
					}
				}
			}
			if len(p.Flask.Routes) == 0 {
				p.NotApplicable("no routes were found")
			}
		},
	},
	{
		ID: "DW-AUTHN-006", Control: "authn",
		Title:    "A check of rights has no effect",
		Why:      "The answer of the check is thrown away, so the view goes on for everybody.",
		Fix:      "Return or raise what turns the visitor away: return redirect(…), raise Forbidden(), if not is_admin(): abort(403); use a decorator with @.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{862, 252}, OWASP: []string{"A01:2025"}, ASVS: []string{"8.3.1"},
		Bad: `from flask import Flask, redirect, session
app = Flask(__name__)

@app.post("/close")
def close():
    if "user" not in session:
        redirect("/login")
    return shut_down()
`,
		Good: `from flask import Flask, redirect, session
app = Flask(__name__)

@app.post("/close")
def close():
    if "user" not in session:
        return redirect("/login")
    return shut_down()
`,
		Check: idleChecks,
	},
	{
		ID: "DW-AUTHN-007", Control: "authn",
		Title:    "A view asks for no role while those beside it do",
		Why:      "Every user who can sign in uses a view that was meant for a few.",
		Fix:      "Put the same decorator on it; better, check the role in a before_request of the blueprint.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{862, 863}, OWASP: []string{"A01:2025"}, ASVS: []string{"8.3.1"},
		Bad: `from flask import Flask, request
from flask_login import login_required
from flask_security import roles_required
app = Flask(__name__)

@app.post("/staff/price")
@roles_required("manager")
def price():
    return store(request.form["price"])

@app.post("/staff/stock")
@roles_required("manager")
def stock():
    return store(request.form["stock"])

@app.post("/staff/fire")
@login_required
def fire():
    return store(request.form["name"])
`,
		Good: `from flask import Flask, request
from flask_security import roles_required
app = Flask(__name__)

@app.post("/staff/price")
@roles_required("manager")
def price():
    return store(request.form["price"])

@app.post("/staff/stock")
@roles_required("manager")
def stock():
    return store(request.form["stock"])

@app.post("/staff/fire")
@roles_required("manager")
def fire():
    return store(request.form["name"])
`,
		Check: rolelessSiblings,
	},
}

// public are the kinds of routes that are open on purpose.
var public = []flask.RouteKind{flask.KindLogin, flask.KindLogout, flask.KindRegister, flask.KindReset, flask.KindHealth, flask.KindStatic, flask.KindToken}

// publicRE matches the names of routes that are open on purpose, or that
// prove who asks in another way.
var publicRE = regexp.MustCompile(`(?i)(?:^|[/_.<>-])(?:web)?hooks?(?:$|[/_.<>-])|callback|oauth|saml|openid|confirm|verif|unsubscribe|subscribe|contact|feedback|newsletter|search|language|locale|theme|consent|cookie|csp|report|metrics|captcha|invit|activate|swagger|graphql|about|terms|privacy|sitemap|robots|well-known|2fa|mfa|otp|vote|cart|basket|checkout|comment|track|ping`)

// staticRE matches the addresses of files that belong to every page.
var staticRE = regexp.MustCompile(`(?i)^/(?:\w+/)?(?:static|assets?|media|images?|img|icons?|fonts?|css|js|favicon[^/]*)(?:/|$)`)

// checksRE matches the text of functions that prove who asks by themselves.
var checksRE = regexp.MustCompile(`compare_digest|hmac\.|[Ss]ignature|check_password|verify_|_verify|authorization|Authorization|api_key|API_KEY|loads\(|jwt|abort\(40[13]|, 40[13]\b|Unauthorized|Forbidden|current_user`)

func openOnPurpose(p *audit.Pass, r *flask.Route) bool {
	if staticRE.MatchString(r.Rule) || slices.Contains(public, r.Kind) || r.LogsIn || r.LogsOut || publicRE.MatchString(r.Rule) || publicRE.MatchString(lastPart(r.Endpoint)) {
		return true
	}
	text := p.ViewText(r)
	return checksRE.MatchString(text) || slices.Equal(r.Methods, []string{"POST"}) && typesPassword.MatchString(text)
}

// typesPassword matches the text of views that take a password: those who make
// an account or log in are not known yet.
var typesPassword = regexp.MustCompile(`["'](?:\w*_)?(?:password|passwd|passphrase)["']|\.password\.data\b`)

func changesState(method string) bool {
	return method != "GET" && method != "HEAD" && method != "OPTIONS"
}

// onlyRedirects reports whether a view does no more than to send the visitor
// elsewhere.
func onlyRedirects(p *audit.Pass, r *flask.Route) bool {
	f := p.Project.File(r.FunctionPosition.File)
	if f == nil || f.Python == nil || len(r.Methods) != 1 || !r.Redirects {
		return false
	}
	py := f.Python
	all, any := true, false
	for i := range py.Nodes {
		id := pysyntax.ID(i)
		if k := py.Kind(id); k != pysyntax.FunctionDef && k != pysyntax.AsyncFunctionDef || f.NodeSpan(id) != p.Span(r.FunctionPosition) {
			continue
		}
		pysyntax.Walk(py, id, func(x pysyntax.ID) bool {
			if py.Kind(x) == pysyntax.Return {
				call, _, _ := py.Call(py.Value(x))
				any = true
				all = all && call != 0 && p.Flask.Name(f.Path, call) == "flask.redirect"
			}
			return all
		})
	}
	return all && any
}

// groups returns the project's routes by blueprint, or by file where there
// is none.
func groups(p *audit.Pass) [][]*flask.Route {
	index := map[string]int{}
	var out [][]*flask.Route
	for _, r := range p.Flask.Routes {
		if r.Function == "" || inTest(p, r.File) {
			continue
		}
		key := "blueprint " + r.Blueprint
		if r.Blueprint == "" {
			key = "file " + r.File
		}
		i, ok := index[key]
		if !ok {
			i = len(out)
			index[key] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], r)
	}
	return out
}

// openSiblings reports routes without a login where nearly all beside them
// ask for one: among those that change something, and the one view of a
// blueprint in which all others do.
func openSiblings(p *audit.Pass) {
	any := false
	for _, group := range groups(p) {
		var gated, open, changing, rest []*flask.Route
		for _, r := range group {
			changes := r.Writes() || r.WritesState
			switch {
			case r.LoginRequired:
				any = true
				if strings.HasPrefix(r.Gate, "before_request") || slices.Contains(public, r.Kind) {
					continue
				}
				gated = append(gated, r)
				if changes {
					changing = append(changing, r)
				}
			case aboveLogin(r) || openOnPurpose(p, r):
			case r.OpenMethods != nil && !slices.ContainsFunc(r.OpenMethods, changesState):
				// What it changes, it changes for whom its methods let in.
				any = true
				gated, changing = append(gated, r), append(changing, r)
			case changes:
				open = append(open, r)
			case onlyRedirects(p, r):
			case !frontPage(r):
				rest = append(rest, r)
			default:
				rest = append(rest, nil) // a group with a front page is public in part
			}
		}
		reported := map[*flask.Route]bool{}
		report := func(r *flask.Route, many []*flask.Route, which string, sure audit.Confidence) {
			reported[r] = true
			p.Report(audit.Finding{
				Confidence: sure, Span: p.Span(r.Position), Message: fmt.Sprintf("%s asks for no login; %s", routeName(r), others(many, which)), Related: beside(p, many),
			})
		}
		for _, r := range minority(open, changing) {
			sure := audit.Likely
			if !r.WritesState && slices.ContainsFunc(changing, func(g *flask.Route) bool { return g.WritesState }) {
				sure = audit.Possible // a search or a preview, as far as can be seen
			}
			report(r, changing, " that change something", sure)
		}
		if len(open) == 0 && len(rest) == 1 && rest[0] != nil && len(gated) >= 3 {
			sure := audit.Possible // it may be what a page needs before the login
			if len(gated) >= 8 || rest[0].Kind == flask.KindAdmin {
				sure = audit.Likely
			}
			report(rest[0], gated, "", sure)
		}
		// The only one below its first folder that is open, and changes something.
		for _, r := range open {
			folder := firstFolder(r.Rule)
			if folder == "" || reported[r] || slices.ContainsFunc(open, func(o *flask.Route) bool { return o != r && firstFolder(o.Rule) == folder }) {
				continue
			}
			var near []*flask.Route
			for _, g := range gated {
				if firstFolder(g.Rule) == folder && (r.Kind == flask.KindAdmin || slices.Contains(changing, g)) {
					near = append(near, g)
				}
			}
			sure := audit.Possible
			if r.Kind == flask.KindAdmin || len(near) >= 2 {
				sure = audit.Likely
			}
			if len(near) > 0 {
				report(r, near, " below /"+folder+"/", sure)
			}
		}
	}
	if !any {
		p.NotApplicable("no route asks for a login")
	}
}

func others(routes []*flask.Route, which string) string {
	if len(routes) == 1 {
		return "1 other beside it" + which + " does"
	}
	return fmt.Sprintf("%d others beside it%s do", len(routes), which)
}

// firstFolder is the first part of a rule that has others behind it; "" if
// there is none, or if it stands for anything.
func firstFolder(rule string) string {
	folder, rest, ok := strings.Cut(strings.TrimPrefix(rule, "/"), "/")
	if !ok || rest == "" || strings.Contains(folder, "<") {
		return ""
	}
	return folder
}

// frontPage reports whether a route is the first page of a site, which
// everybody may see.
func frontPage(r *flask.Route) bool {
	return r.Kind != flask.KindAdmin && (strings.Count(strings.Trim(r.Rule, "/"), "/") == 0 && len(r.Params) == 0 || slices.Contains([]string{"index", "home", "main", "landing"}, lastPart(r.Endpoint)))
}

// aboveLogin reports whether DW-AUTHN-005 speaks of a route.
func aboveLogin(r *flask.Route) bool {
	return slices.ContainsFunc(r.Decorators, func(d flask.Decorator) bool { return d.Above && d.Login })
}

// minority returns the exceptions if they are few enough to be mistakes: one
// beside two, or a quarter of all.
func minority(few, many []*flask.Route) []*flask.Route {
	if len(few) == 1 && len(many) >= 2 || len(few)*3 <= len(many) {
		return few
	}
	return nil
}

func beside(p *audit.Pass, routes []*flask.Route) []audit.Step {
	var out []audit.Step
	for _, r := range routes[:min(4, len(routes))] {
		gate := r.Gate
		if gate == "" {
			gate = "checks of its methods"
		}
		out = append(out, audit.Step{Span: p.Span(r.Position), Note: fmt.Sprintf("%s: %s", routeName(r), gate)})
	}
	return out
}

// rolelessSiblings reports routes that change something for anybody who is
// logged in where nearly all beside them ask for a role.
func rolelessSiblings(p *audit.Pass) {
	any := false
	for _, group := range groups(p) {
		var with, without []*flask.Route
		for _, r := range group {
			changes := r.Writes() || r.WritesState
			switch {
			case len(r.Roles) > 0:
				any = true
				if changes {
					with = append(with, r)
				}
			case changes && r.LoginRequired && strings.HasPrefix(r.Gate, "decorator ") && !ownCheck(p, r):
				without = append(without, r)
			}
		}
		for _, r := range minority(without, with) {
			p.Report(audit.Finding{
				Span: p.Span(r.Position), Message: fmt.Sprintf("%s asks for no role; %d others beside it ask for %s", routeName(r), len(with), strings.Join(with[0].Roles, ", ")),
				Related: beside(p, with),
			})
		}
	}
	if !any {
		p.NotApplicable("no route asks for a role")
	}
}

// ownCheck reports whether a view looks itself at who asks.
func ownCheck(p *audit.Pass, r *flask.Route) bool {
	text := p.ViewText(r)
	return slices.ContainsFunc([]string{"current_user", "session", "g.user", "abort(", "role", "permission", "owner", "get_jwt"}, func(w string) bool { return strings.Contains(text, w) })
}

func inTest(p *audit.Pass, file string) bool {
	f := p.Project.File(file)
	return f != nil && f.Test
}

func lastPart(q string) string { return q[strings.LastIndexByte(q, '.')+1:] }

func routeName(r *flask.Route) string {
	var writes []string
	for _, m := range r.Methods {
		if changesState(m) && (r.OpenMethods == nil || slices.Contains(r.OpenMethods, m)) {
			writes = append(writes, m)
		}
	}
	if len(writes) == 0 {
		writes = []string{"GET"}
	}
	return strings.Join(writes, ", ") + " " + r.Rule
}

// ---- checks without effect ----

var (
	// guardRE matches the names of functions that say whether somebody may.
	guardRE = regexp.MustCompile(`(?i)^(?:is|has|can|may|check|verify|ensure|validate)_\w*(?:admin|auth|authenticated|authorized|authorised|login|logged_in|permission|permissions|permitted|role|roles|owner|access|allowed|superuser|staff|token|user)$`)
	// decoratorRE matches the names of decorators that guard a view.
	decoratorRE = regexp.MustCompile(`(?i)^(?:\w*(?:login|auth|jwt|token|role|roles|admin|permission|permissions)_(?:required|needed)|requires?_(?:login|auth|admin|role|permission)\w*)$`)
	// identityRE matches the text of conditions about who asks.
	identityRE = regexp.MustCompile(`(?i)current_user|session|g\.user|logged|is_auth|admin|\brole|permission|\buser\b|token|\bowner|authori[sz]`)
)

func idleChecks(p *audit.Pass) {
	defs := functionsByName(p)
	p.Functions(func(f *audit.File, id pysyntax.ID, fn pysyntax.Function) {
		py := f.Python
		var conditions []pysyntax.ID // of the ifs around
		var visit func(list []pysyntax.ID)
		statement := func(st pysyntax.ID) {
			call := py.Value(st)
			callee, _, _ := py.Call(call)
			if callee == 0 {
				return
			}
			name := py.Name(callee)
			if name == "" {
				_, name = py.Attribute(callee)
			}
			asks := asksWho(py, conditions)
			q := ""
			if asks || name == "unauthorized" || decoratorRE.MatchString(name) {
				q = p.Flask.Name(f.Path, callee)
			}
			message := ""
			switch {
			case q == "flask.redirect" && asks:
				message = "redirect() only makes a response; without return the view goes on"
			case strings.HasPrefix(q, "werkzeug.exceptions.") && asks && lastPart(q) != "abort" && lastPart(q) != "":
				message = lastPart(q) + "() only makes an exception; without raise the view goes on"
			case strings.HasSuffix(q, "LoginManager.unauthorized"), strings.HasSuffix(q, "login_manager.unauthorized"):
				message = "unauthorized() only makes a response; without return the view goes on"
			case decoratorRE.MatchString(name) && isDecorator(q, defs[name]):
				message = name + " is a decorator: called here it wraps a function and checks nothing"
			case guardRE.MatchString(name) && py.Name(callee) != "" && answersOnly(defs[name]):
				message = fmt.Sprintf("what %s() answers is thrown away", name)
			}
			if message != "" {
				p.Report(audit.Finding{Span: f.NodeSpan(st), Message: message})
			}
		}
		visit = func(list []pysyntax.ID) {
			for _, st := range list {
				switch py.Kind(st) {
				case pysyntax.ExprStmt:
					statement(st)
				case pysyntax.If:
					test, body, orelse := py.If(st)
					if name := uncalled(p, f, test, id, defs); name != "" {
						p.Report(audit.Finding{Span: f.NodeSpan(test), Message: fmt.Sprintf("%s is a function and always true: it is not called", name)})
					}
					conditions = append(conditions, test)
					visit(body)
					visit(orelse)
					conditions = conditions[:len(conditions)-1]
				case pysyntax.Try:
					t := py.Try(st)
					visit(t.Body)
				case pysyntax.With, pysyntax.AsyncWith:
					_, body := py.With(st)
					visit(body)
				case pysyntax.For, pysyntax.AsyncFor:
					visit(py.For(st).Body)
				}
			}
		}
		visit(fn.Body)
	})
}

// asksWho reports whether the nearest condition asks who the visitor is.
func asksWho(py *pysyntax.File, conditions []pysyntax.ID) bool {
	return len(conditions) > 0 && identityRE.Match(py.Text(conditions[len(conditions)-1]))
}

// definition is one function of the project.
type definition struct {
	f  *audit.File
	id pysyntax.ID
}

func functionsByName(p *audit.Pass) map[string][]definition {
	out := map[string][]definition{}
	p.Functions(func(f *audit.File, id pysyntax.ID, fn pysyntax.Function) {
		out[fn.Name] = append(out[fn.Name], definition{f, id})
	})
	return out
}

// isDecorator reports whether a guard is one of a library, or a function of
// the project that makes another.
func isDecorator(q string, defs []definition) bool {
	if len(defs) == 0 {
		return strings.HasPrefix(q, "flask_")
	}
	for _, d := range defs {
		inner := false
		for _, st := range d.f.Python.FunctionDef(d.id).Body {
			k := d.f.Python.Kind(st)
			inner = inner || k == pysyntax.FunctionDef || k == pysyntax.AsyncFunctionDef
		}
		if !inner {
			return false
		}
	}
	return true
}

// turnsAwayRE matches what a function does that turns a visitor away by
// itself.
var turnsAwayRE = regexp.MustCompile(`\braise\b|abort\(|redirect\(|_exit\(|\bassert\b|flash\(`)

// answersOnly reports whether every function of a name gives back an answer
// and does nothing else about it.
func answersOnly(defs []definition) bool {
	for _, d := range defs {
		py := d.f.Python
		if turnsAwayRE.Match(py.Text(d.id)) {
			return false
		}
		returns, works := false, false
		pysyntax.Walk(py, d.id, func(n pysyntax.ID) bool {
			switch py.Kind(n) {
			case pysyntax.Return:
				returns = returns || py.Value(n) != 0
			case pysyntax.ExprStmt:
				if py.Kind(py.Value(n)) != pysyntax.Str {
					works = true // it may act: set a flag, call a guard
				}
			case pysyntax.Assign:
				targets, _ := py.Assign(n)
				for _, t := range targets {
					works = works || py.Kind(t) != pysyntax.Name
				}
			}
			return true
		})
		if !returns || works {
			return false
		}
	}
	return len(defs) > 0
}

// uncalled returns the name of a function of the project that a condition
// takes for its answer: if is_admin: or if not is_admin:.
func uncalled(p *audit.Pass, f *audit.File, test, around pysyntax.ID, defs map[string][]definition) string {
	py := f.Python
	if op, operand := py.UnaryOp(test); op == pysyntax.UnaryNot {
		test = operand
	}
	name := py.Name(test)
	if name == "" || len(defs[name]) == 0 || !guardRE.MatchString(name) {
		return ""
	}
	for _, param := range py.Params(around) {
		if param.Name == name {
			return ""
		}
	}
	if len(locals(py, around)[name]) > 0 {
		return ""
	}
	for _, d := range defs[name] {
		if q := p.Flask.Name(f.Path, test); q != "" && q == p.Flask.Name(d.f.Path, d.id) || d.f == f {
			if len(py.FunctionDef(d.id).Decorators) == 0 && topLevel(d) {
				return name
			}
		}
	}
	return ""
}

// topLevel reports whether a function stands at the top of its module.
func topLevel(d definition) bool {
	return slices.Contains(d.f.Python.Body(), d.id)
}
