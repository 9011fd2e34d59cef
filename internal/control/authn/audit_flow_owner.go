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

// ownerRules are about whose rows a view gives out or changes.
var ownerRules = []*audit.Rule{
	{
		ID: "DW-AUTHN-010", Control: "authn",
		Title:    "A view takes any user's row where those beside it look at the owner",
		Why:      "The number in the address is the visitor's to choose: who counts up reads or changes what belongs to others.",
		Fix:      "Ask for the owner in the query: filter_by(id=number, user_id=current_user.id).first_or_404(); or compare after loading and abort(404).",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{639, 862}, OWASP: []string{"A01:2025"}, ASVS: []string{"8.2.2"},
		Bad: `from flask import Flask, abort
from flask_login import current_user, login_required
from flask_sqlalchemy import SQLAlchemy
app = Flask(__name__)
db = SQLAlchemy(app)

class Letter(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    user_id = db.Column(db.Integer, db.ForeignKey("user.id"))
    text = db.Column(db.Text)

@app.get("/letters")
@login_required
def letters():
    return [x.text for x in Letter.query.filter_by(user_id=current_user.id)]

@app.get("/letters/<int:number>")
@login_required
def letter(number):
    return Letter.query.get_or_404(number).text
`,
		Good: `from flask import Flask, abort
from flask_login import current_user, login_required
from flask_sqlalchemy import SQLAlchemy
app = Flask(__name__)
db = SQLAlchemy(app)

class Letter(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    user_id = db.Column(db.Integer, db.ForeignKey("user.id"))
    text = db.Column(db.Text)

@app.get("/letters")
@login_required
def letters():
    return [x.text for x in Letter.query.filter_by(user_id=current_user.id)]

@app.get("/letters/<int:number>")
@login_required
def letter(number):
    return Letter.query.filter_by(id=number, user_id=current_user.id).first_or_404().text
`,
		Check: ownerless,
	},
}

// A row is somebody's where the app itself says so: some view compares a
// column of it with who asks, or asks for the rows that have the visitor in
// that column. Which column that is, is read from there and never from its
// name; a model that no view treats so belongs to nobody.

// column is what is known of an attribute of a model.
type column struct{ key bool } // names one row: the primary key, or unique

// owners looks for who owns the rows of a project's models.
type owners struct {
	p      *audit.Pass
	defs   map[string][]definition
	models map[string]map[string]column
	says   map[definition]bool // see saysWho
	asks   map[definition]bool // see asksMore
}

// rowUse is what one function of a view does with the rows of one model.
type rowUse struct {
	route   *flask.Route
	f       *audit.File
	fn      pysyntax.ID
	model   string
	byKey   pysyntax.ID // the query by a key from the request; 0 if there is none
	owner   string      // the column that is held against who asks
	changes bool        // it changes or deletes what the query found
	lists   bool        // a query by nothing of the visitor's
	knows   bool        // it asks for a login, or who asks
	asks    bool        // it asks more about the visitor than whether there is one
	public  bool        // anybody gets it

	ownerAt []pysyntax.ID // where it is held
}

func ownerless(p *audit.Pass) {
	o := &owners{p: p, models: rowModels(p), says: map[definition]bool{}, asks: map[definition]bool{}}
	if len(o.models) == 0 {
		p.NotApplicable("no models were found")
		return
	}
	o.defs = functionsByName(p)
	uses := map[string][]*rowUse{}
	done := map[definition]bool{}
	for _, r := range p.Flask.Routes {
		if r.Function == "" || inTest(p, r.File) {
			continue
		}
		f := p.Project.File(r.FunctionPosition.File)
		id := p.DefinitionAt(r.FunctionPosition)
		if f == nil || id == 0 || done[definition{f, id}] {
			continue
		}
		done[definition{f, id}] = true
		for _, u := range o.view(r, f, id) {
			uses[u.model] = append(uses[u.model], u)
		}
	}
	any := false
	var names []string
	for name := range uses {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		all := uses[name]
		any = any || slices.ContainsFunc(all, func(u *rowUse) bool { return u.owner != "" })
		// Who may see all of them in a list, or without a login, sees nothing
		// new in one of them.
		open := slices.ContainsFunc(all, func(u *rowUse) bool { return u.public || u.lists && !u.asks && u.owner == "" })
		for _, u := range all {
			if u.byKey == 0 || u.owner != "" || u.asks || !u.knows || open && !u.changes {
				continue
			}
			var beside []*rowUse
			for _, b := range all {
				if b == u || b.owner == "" {
					continue
				}
				// Where all may read, who lists his own says nothing about
				// who may change; where some views read them under a check,
				// a change needs one, too.
				if u.changes && open && !b.changes || !u.changes && b.changes {
					continue
				}
				beside = append(beside, b)
			}
			if len(beside) == 0 {
				continue
			}
			sure := audit.Possible
			if len(beside) >= 2 {
				sure = audit.Likely
			}
			what := "gives out"
			if u.changes {
				what = "changes"
			}
			var steps []audit.Step
			for _, b := range beside[:min(4, len(beside))] {
				steps = append(steps, audit.Step{Span: p.Span(b.route.Position), Note: fmt.Sprintf("%s: looks at %s.%s", routeName(b.route), name, b.owner)})
			}
			p.Report(audit.Finding{
				Confidence: sure, Span: u.f.NodeSpan(u.byKey), Related: steps, Label: "by a key that the client chooses",
				Message: fmt.Sprintf("%s %s any %s, whoever asks; %s at %s", routeName(u.route), what, name, looks(len(beside)), beside[0].owner),
			})
		}
	}
	if !any {
		p.NotApplicable("no view looks at the owner of a row")
	}
}

func looks(n int) string {
	if n == 1 {
		return "1 other view looks"
	}
	return fmt.Sprintf("%d other views look", n)
}

// rowModels returns the project's models with their columns.
func rowModels(p *audit.Pass) map[string]map[string]column {
	out := map[string]map[string]column{}
	for f := range p.Python() {
		py := f.Python
		for i := range py.Nodes {
			id := pysyntax.ID(i)
			if py.Kind(id) != pysyntax.ClassDef {
				continue
			}
			c := py.ClassDef(id)
			if slices.ContainsFunc(c.Bases, func(b pysyntax.ID) bool {
				text := string(py.Text(b))
				return strings.Contains(text, "Form") || strings.Contains(text, "Schema")
			}) || len(c.Bases) == 0 {
				continue
			}
			columns := map[string]column{}
			for _, st := range c.Body {
				targets, v := py.Assign(st)
				if t, _, av := py.AnnAssign(st); t != 0 && av != 0 {
					targets, v = []pysyntax.ID{t}, av
				}
				fn, _, keywords := py.Call(v)
				if fn == 0 || len(targets) != 1 {
					continue
				}
				name := py.Name(fn)
				if name == "" {
					_, name = py.Attribute(fn)
				}
				if name != "Column" && name != "mapped_column" && name != "relationship" && !strings.HasSuffix(name, "Field") {
					continue
				}
				col := column{key: py.Name(targets[0]) == "id"}
				for _, k := range keywords {
					kw, kv := py.KeywordArg(k)
					if kw == "primary_key" || kw == "unique" {
						col.key = col.key || p.Flask.Value(f.Path, kv).IsTrue()
					}
				}
				columns[py.Name(targets[0])] = col
			}
			if len(columns) >= 2 {
				if columns["id"] == (column{}) {
					columns["id"] = column{key: true} // of a base
				}
				out[c.Name] = columns
			}
		}
	}
	return out
}

// callee returns the last part of what a call calls.
func callee(py *pysyntax.File, fn pysyntax.ID) string {
	if name := py.Name(fn); name != "" {
		return name
	}
	_, name := py.Attribute(fn)
	return name
}

// called returns the functions of the project that an expression may stand
// for: the one that its name leads to; of a method of something unknown, those
// of its name, unless libraries have such a one.
func (o *owners) called(f *audit.File, fn pysyntax.ID) []definition {
	q := ""
	if f.Python.DottedName(fn) != "" { // a chain of calls is not followed from each of its links
		q = o.p.Flask.Name(f.Path, fn)
	}
	if base, name := f.Python.Attribute(fn); base != 0 && (q == "" || strings.HasPrefix(q, "?.")) {
		if finders[name] || slices.Contains(httpMethods, name) {
			return nil
		}
		return o.defs[name]
	}
	if q == "" {
		return o.defs[f.Python.Name(fn)]
	}
	return o.named(q)
}

// named returns the functions of a qualified name.
func (o *owners) named(q string) []definition {
	var out []definition
	for _, d := range o.defs[lastPart(q)] {
		stem := strings.TrimSuffix(strings.TrimSuffix(d.f.Path, ".py"), "/__init__")
		stem = stem[strings.LastIndexByte(stem, '/')+1:]
		if strings.Contains("."+q, "."+stem+".") {
			out = append(out, d)
		}
	}
	return out
}

// ---- one function ----

// reading is one function with what its names stand for.
type reading struct {
	*owners
	f     *audit.File
	py    *pysyntax.File
	id    pysyntax.ID
	who   map[string]bool   // names that hold who asks
	sent  map[string]bool   // names that hold what the client sent
	rows  map[string]string // names that hold rows: the model
	depth int               // of functions around
}

// read reads the assignments of a function, whose parameters params are sent
// by the client and passed come from a decorator.
func (o *owners) read(f *audit.File, id pysyntax.ID, params, passed []string, depth int) *reading {
	r := &reading{owners: o, f: f, py: f.Python, id: id, who: map[string]bool{}, sent: map[string]bool{}, rows: map[string]string{}, depth: depth}
	for _, name := range params {
		r.sent[name] = true
	}
	for _, name := range passed {
		r.who[name] = true
	}
	bound := locals(r.py, id)
	pysyntax.Walk(r.py, id, func(n pysyntax.ID) bool {
		if k := r.py.Kind(n); k == pysyntax.For || k == pysyntax.AsyncFor {
			loop := r.py.For(n)
			if name := r.py.Name(loop.Target); name != "" {
				bound[name] = append(bound[name], loop.Iter)
			}
		}
		return true
	})
	names := make([]string, 0, len(bound))
	for name := range bound {
		names = append(names, name)
	}
	slices.Sort(names)
	for range 3 { // chains of names are short
		for _, name := range names {
			for _, v := range bound[name] {
				if m := r.rowsOf(v); m != "" {
					r.rows[name] = m
					if r.holdsWho(v) {
						r.who[name] = true // the visitor's own
					}
					continue // a row that was found by what was sent is not itself sent
				}
				r.who[name] = r.who[name] || r.holdsWho(v)
				r.sent[name] = r.sent[name] || r.holdsSent(v)
			}
		}
	}
	return r
}

// rowsOf returns the model whose rows an expression gives.
func (r *reading) rowsOf(v pysyntax.ID) string {
	if m, ok := r.rows[r.py.Name(v)]; ok {
		return m
	}
	model := ""
	pysyntax.Walk(r.py, v, func(n pysyntax.ID) bool {
		if model == "" && r.py.Kind(n) == pysyntax.Call {
			if q := r.query(n); q != nil {
				model = q.model
			}
		}
		return model == ""
	})
	return model
}

// sessionKeyRE matches the keys of a session, and the names below g, under
// which apps keep who is logged in.
var sessionKeyRE = regexp.MustCompile(`(?i)user|uid|login|logged|auth|e?mail|name|account|member|identity|customer|owner|person|^id$|^current`)

// whoNames are what extensions call the one who asks.
var whoNames = []string{"flask_login.current_user", "flask_login.utils.current_user", "flask_security.current_user", "flask_security.core.current_user", "flask_jwt_extended.current_user", "flask_jwt_extended.get_jwt_identity", "flask_jwt_extended.get_current_user", "flask_jwt_extended.get_jwt", "flask_jwt.current_identity", "flask_httpauth.HTTPBasicAuth().current_user", "flask_httpauth.HTTPTokenAuth().current_user", "jwt.decode", "flask_praetorian.current_user", "flask_praetorian.current_user_id", "flask_user.current_user"}

// isWho reports whether a node itself stands for who asks.
func (r *reading) isWho(n pysyntax.ID) bool {
	py := r.py
	switch py.Kind(n) {
	case pysyntax.Name:
		name := py.Name(n)
		if r.who[name] {
			return true
		}
		return slices.Contains(whoNames, r.p.Flask.Name(r.f.Path, n))
	case pysyntax.Attribute:
		base, name := py.Attribute(n)
		if py.Kind(base) == pysyntax.Name && r.p.Flask.Name(r.f.Path, base) == "flask.g" {
			return sessionKeyRE.MatchString(name)
		}
		return py.Kind(base) == pysyntax.Name && slices.Contains(whoNames, r.p.Flask.Name(r.f.Path, n))
	case pysyntax.Subscript:
		base, index := py.Subscript(n)
		return r.ofSession(base) && r.keyOfWho(index)
	case pysyntax.Call:
		fn, args, _ := py.Call(n)
		base, name := py.Attribute(fn)
		if name == "get" && len(args) > 0 && r.ofSession(base) {
			return r.keyOfWho(args[0])
		}
		if r.depth >= 3 {
			return false
		}
		if py.DottedName(fn) != "" && slices.Contains(whoNames, r.p.Flask.Name(r.f.Path, fn)) {
			return true
		}
		for _, d := range r.called(r.f, fn) {
			if r.saysWho(d, r.depth+1) {
				return true
			}
		}
	}
	return false
}

func (r *reading) ofSession(base pysyntax.ID) bool {
	return r.py.Kind(base) == pysyntax.Name && r.p.Flask.Name(r.f.Path, base) == "flask.session"
}

func (r *reading) keyOfWho(index pysyntax.ID) bool {
	s, ok := r.py.StringValue(index)
	return !ok || sessionKeyRE.MatchString(s)
}

func (r *reading) holdsWho(v pysyntax.ID) bool { return r.holds(v, r.isWho) }

// names reports whether an expression names who asks, or by its key a row of
// theirs: what else stands in their rows is about other things.
func (r *reading) names(v pysyntax.ID) bool {
	if m, col := r.ofRow(v); m != "" && len(r.models[m]) > 0 && !r.models[m][col].key {
		return false
	}
	return r.holdsWho(v)
}

func (r *reading) holds(v pysyntax.ID, is func(pysyntax.ID) bool) bool {
	found := false
	pysyntax.Walk(r.py, v, func(n pysyntax.ID) bool {
		found = found || is(n)
		return !found
	})
	return found
}

// isSent reports whether a node itself stands for what the client sent.
func (r *reading) isSent(n pysyntax.ID) bool {
	switch r.py.Kind(n) {
	case pysyntax.Name:
		return r.sent[r.py.Name(n)] || r.p.Flask.Name(r.f.Path, n) == "flask.request"
	case pysyntax.Attribute: // form.number.data
		base, name := r.py.Attribute(n)
		return name == "data" && r.py.Kind(base) == pysyntax.Attribute
	}
	return false
}

func (r *reading) holdsSent(v pysyntax.ID) bool {
	return r.holds(v, r.isSent) && !r.holds(v, r.isToken)
}

// isToken reports whether a node reads what proves who asks rather than what
// is asked for.
func (r *reading) isToken(n pysyntax.ID) bool {
	_, name := r.py.Attribute(n)
	return name == "headers" || name == "cookies" || name == "authorization"
}

// saysWho reports whether a function gives back who asks.
func (o *owners) saysWho(d definition, depth int) bool {
	if is, ok := o.says[d]; ok {
		return is
	}
	o.says[d] = false
	if depth > 3 {
		return false
	}
	r := o.read(d.f, d.id, nil, nil, depth)
	is := false
	pysyntax.Walk(r.py, d.id, func(n pysyntax.ID) bool {
		if r.py.Kind(n) == pysyntax.Return && r.py.Value(n) != 0 {
			v := r.py.Value(n)
			is = is || r.isWhoPath(v)
		}
		return !is
	})
	o.says[d] = is
	return is
}

// isWhoPath reports whether an expression is who asks, an attribute or item
// of it, a conversion of it, or the row that it names.
func (r *reading) isWhoPath(v pysyntax.ID) bool {
	for v != 0 {
		if r.isWho(v) {
			return true
		}
		switch r.py.Kind(v) {
		case pysyntax.Attribute:
			v, _ = r.py.Attribute(v)
		case pysyntax.Subscript:
			v, _ = r.py.Subscript(v)
		case pysyntax.Call:
			if r.rowsOf(v) != "" {
				return r.holdsWho(v)
			}
			fn, args, _ := r.py.Call(v)
			if name := r.py.Name(fn); (name == "int" || name == "str") && len(args) == 1 {
				v = args[0]
				continue
			}
			v, _ = r.py.Attribute(fn)
		default:
			return false
		}
	}
	return false
}

// ---- queries ----

// rowQuery is one chain of calls that finds rows.
type rowQuery struct {
	model  string
	byKey  bool   // a key of the row is what the client sent
	scoped bool   // who asks is part of it
	owner  string // the column that who asks is in
	writes bool   // .delete(), .update()
	inner  []pysyntax.ID
}

var (
	finders = map[string]bool{"get": true, "get_or_404": true, "get_by_id": true, "get_or_none": true, "one_or_404": true, "first_or_404": true, "filter": true, "filter_by": true, "where": true, "select": true, "query": true, "objects": true, "all": true, "scalars": true, "paginate": true, "delete": true, "update": true}
	getters = map[string]bool{"get": true, "get_or_404": true, "get_by_id": true, "get_or_none": true}
)

// longestQuery bounds how many calls of a chain are read: each of its links is
// looked at.
const longestQuery = 50

// query reads a chain of calls from its last; nil if it finds no rows.
func (r *reading) query(n pysyntax.ID) *rowQuery {
	py := r.py
	q := &rowQuery{}
	finds := false
	named := func(id pysyntax.ID) {
		name := py.Name(id)
		if name == "" {
			_, name = py.Attribute(id)
		}
		if _, ok := r.models[name]; ok && q.model == "" {
			q.model = name
		}
	}
	type part struct {
		name     string
		args     []pysyntax.ID
		keywords []pysyntax.ID
	}
	var parts []part
	for id := n; id != 0; {
		if len(parts) > longestQuery {
			return nil
		}
		switch py.Kind(id) {
		case pysyntax.Call:
			q.inner = append(q.inner, id)
			fn, args, keywords := py.Call(id)
			name := callee(py, fn)
			parts = append(parts, part{name, args, keywords})
			finds = finds || finders[name]
			for _, a := range args {
				named(a)
			}
			id = fn
			if py.Kind(fn) == pysyntax.Attribute {
				id, _ = py.Attribute(fn)
				named(id)
				if _, attr := py.Attribute(id); attr == "query" || attr == "objects" {
					finds = true
				}
			} else {
				id = 0
			}
		case pysyntax.Attribute:
			id, _ = py.Attribute(id)
			named(id)
		default:
			id = 0
		}
	}
	if !finds || q.model == "" {
		return nil
	}
	columns := r.models[q.model]
	for _, c := range parts {
		q.writes = q.writes || c.name == "delete" || c.name == "update"
		for _, a := range c.args {
			if getters[c.name] && r.holdsSent(a) {
				q.byKey = true
			}
			q.scoped = q.scoped || r.holdsWho(a)
			pysyntax.Walk(py, a, func(x pysyntax.ID) bool {
				left, rest := py.Compare(x)
				if len(rest) != 1 {
					return true
				}
				for _, pair := range [2][2]pysyntax.ID{{left, rest[0].Right}, {rest[0].Right, left}} {
					_, col := py.Attribute(pair[0])
					if _, ok := columns[col]; !ok {
						continue
					}
					if rest[0].Op == pysyntax.CmpEq && r.holdsSent(pair[1]) {
						q.byKey = q.byKey || columns[col].key
					}
					if rest[0].Op == pysyntax.CmpEq && !columns[col].key && r.names(pair[1]) {
						q.owner = col
					}
				}
				return true
			})
		}
		for _, k := range c.keywords {
			col, v := py.KeywordArg(k)
			known, ok := columns[col]
			if c.name == "values" || c.name == "update" {
				continue
			}
			q.scoped = q.scoped || r.holdsWho(v)
			switch {
			case ok && r.holdsSent(v):
				q.byKey = q.byKey || known.key
			case ok && !known.key && r.names(v):
				q.owner = col
			}
		}
	}
	return q
}

// ---- views ----

// httpMethods are the functions of a class-based view.
var httpMethods = []string{"get", "post", "put", "patch", "delete", "dispatch_request"}

// view returns what the functions of a route do with rows.
func (o *owners) view(r *flask.Route, f *audit.File, id pysyntax.ID) []*rowUse {
	py := f.Python
	if py.Kind(id) != pysyntax.ClassDef {
		return o.function(r, f, id)
	}
	var out []*rowUse
	for _, st := range py.ClassDef(id).Body {
		if k := py.Kind(st); (k == pysyntax.FunctionDef || k == pysyntax.AsyncFunctionDef) && slices.Contains(httpMethods, py.FunctionDef(st).Name) {
			out = append(out, o.function(r, f, st)...)
		}
	}
	return out
}

// moreRE matches the names of decorators, of libraries and of the project,
// that ask for more than a login.
var moreRE = regexp.MustCompile(`(?i)role|perm|admin|owner|access|scope|allow|\bcan_|acl|polic|privilege|staff|superuser|moderator|authori[sz]`)

func (o *owners) function(route *flask.Route, f *audit.File, id pysyntax.ID) []*rowUse {
	py := f.Python
	var sent, passed []string
	for i, param := range py.Params(id) {
		switch {
		case slices.ContainsFunc(route.Params, func(p flask.Param) bool { return p.Name == param.Name }):
			sent = append(sent, param.Name)
		case i == 0 && (param.Name == "self" || param.Name == "cls"):
		default:
			passed = append(passed, param.Name)
		}
	}
	r := o.read(f, id, sent, passed, 0)
	byModel := map[string]*rowUse{}
	var order []string
	seen := map[pysyntax.ID]bool{}
	use := func(model string) *rowUse {
		if byModel[model] == nil {
			byModel[model] = &rowUse{route: route, f: f, fn: id, model: model}
			order = append(order, model)
		}
		return byModel[model]
	}
	for _, st := range py.FunctionDef(id).Body {
		pysyntax.Walk(py, st, func(n pysyntax.ID) bool {
			switch py.Kind(n) {
			case pysyntax.Call:
				if seen[n] {
					break
				}
				if q := r.query(n); q != nil {
					for _, x := range q.inner {
						seen[x] = true
					}
					u := use(q.model)
					switch {
					case q.owner != "":
						u.owner, u.ownerAt = q.owner, append(u.ownerAt, n)
						u.changes = u.changes || q.writes
					case q.scoped:
						u.asks = true
					case q.byKey:
						if u.byKey == 0 {
							u.byKey = n
						}
						u.changes = u.changes || q.writes
					case !r.holdsSent(n):
						u.lists = true
					}
				}
				fn, args, _ := py.Call(n)
				base, name := py.Attribute(fn)
				if m := r.rows[py.Name(base)]; m != "" && (name == "delete" || name == "save" || name == "update" || name == "delete_instance" || name == "remove") {
					use(m).changes = true
				}
				if name == "delete" || name == "populate_obj" || py.Name(fn) == "setattr" {
					for _, a := range args {
						if m := r.rowsOf(a); m != "" {
							use(m).changes = true
						}
					}
				}
			case pysyntax.Assign:
				targets, _ := py.Assign(n)
				for _, t := range targets {
					base, _ := py.Attribute(t)
					if base != 0 {
						if m := r.rowsOf(base); m != "" {
							use(m).changes = true
						}
					}
				}
			case pysyntax.AugAssign:
				t, _, _ := py.AugAssign(n)
				if base, _ := py.Attribute(t); base != 0 {
					if m := r.rowsOf(base); m != "" {
						use(m).changes = true
					}
				}
			case pysyntax.Compare:
				left, rest := py.Compare(n)
				if len(rest) != 1 || !slices.Contains([]uint8{pysyntax.CmpEq, pysyntax.CmpNe, pysyntax.CmpIs, pysyntax.CmpIsNot, pysyntax.CmpIn, pysyntax.CmpNotIn}, uint8(rest[0].Op)) {
					break
				}
				for _, pair := range [2][2]pysyntax.ID{{left, rest[0].Right}, {rest[0].Right, left}} {
					if m, col := r.ofRow(pair[0]); m != "" && r.names(pair[1]) && !o.models[m][col].key {
						u := use(m)
						u.owner, u.ownerAt = col, append(u.ownerAt, n)
					}
				}
			}
			return true
		})
	}
	if len(order) == 0 {
		return nil
	}
	knows := route.LoginRequired || r.holds(id, func(n pysyntax.ID) bool {
		left, rest := py.Compare(n) // "user" in session
		return r.isWho(n) || len(rest) == 1 && r.ofSession(rest[0].Right) && r.keyOfWho(left)
	})
	asks := len(route.Roles) > 0 || route.Kind == flask.KindAdmin || r.asksMore() || o.aroundAsks(route, f, id)
	var out []*rowUse
	for _, m := range order {
		u := byModel[m]
		u.knows, u.asks = knows, u.asks || asks
		u.public = !knows && !slices.Contains(public, route.Kind) && !route.LogsIn
		if u.asks && u.owner == "" && u.byKey == 0 && !u.lists {
			continue
		}
		if u.byKey != 0 && u.owner != "" && !slices.ContainsFunc(u.ownerAt, func(at pysyntax.ID) bool { return !apart(py, id, u.byKey, at) }) {
			// Where the owner is looked at, the query by the key alone is not run.
			bare := *u
			bare.owner = ""
			u.byKey = 0
			out = append(out, &bare)
		}
		out = append(out, u)
	}
	return out
}

// apart reports whether two nodes of a function stand in the two branches of
// an if.
func apart(py *pysyntax.File, fn, a, b pysyntax.ID) bool {
	within := func(n pysyntax.ID, list []pysyntax.ID) bool {
		return slices.ContainsFunc(list, func(st pysyntax.ID) bool {
			return py.Node(st).Start <= py.Node(n).Start && py.Node(n).End <= py.Node(st).End
		})
	}
	found := false
	pysyntax.Walk(py, fn, func(n pysyntax.ID) bool {
		_, yes, no := py.If(n)
		found = found || within(a, yes) && within(b, no) || within(a, no) && within(b, yes)
		return !found
	})
	return found
}

// ofRow returns the model and the first column of row.column and
// row.column.more.
func (r *reading) ofRow(v pysyntax.ID) (model, col string) {
	for r.py.Kind(v) == pysyntax.Attribute {
		base, name := r.py.Attribute(v)
		if m, ok := r.rows[r.py.Name(base)]; ok {
			return m, name
		}
		v, col = base, name
	}
	return "", ""
}

// aroundAsks reports whether a decorator of a view, or a hook before it, asks
// for more than a login.
func (o *owners) aroundAsks(route *flask.Route, f *audit.File, id pysyntax.ID) bool {
	asks := func(name string, defs []definition) bool {
		if len(defs) == 0 {
			return moreRE.MatchString(lastPart(name))
		}
		return slices.ContainsFunc(defs, func(d definition) bool { return o.functionAsks(d, 1) })
	}
	for _, d := range route.Decorators {
		if !d.Above && asks(d.Name, o.named(d.Name)) {
			return true
		}
	}
	for _, d := range f.Python.FunctionDef(id).Decorators { // those of a method, too
		if fn, _, _ := f.Python.Call(d); fn != 0 {
			d = fn
		}
		if asks(callee(f.Python, d), o.called(f, d)) {
			return true
		}
	}
	for _, h := range o.p.Flask.Hooks {
		if h.Kind == "before_request" && (h.Blueprint == "" || h.Blueprint == route.Blueprint) && asks("", o.named(h.Function)) {
			return true
		}
	}
	return false
}

// functionAsks reports whether a function of the project asks more about the
// visitor than whether there is one.
func (o *owners) functionAsks(d definition, depth int) bool {
	if is, ok := o.asks[d]; ok {
		return is
	}
	o.asks[d] = false
	if depth > 3 {
		return false
	}
	var passed []string
	for _, param := range d.f.Python.Params(d.id) {
		if strings.Contains(strings.ToLower(param.Name), "user") {
			passed = append(passed, param.Name)
		}
	}
	is := o.read(d.f, d.id, nil, passed, depth).asksMore()
	o.asks[d] = is
	return is
}

// asksMore reports whether a function asks more about the visitor than
// whether there is one: for a role, for a row that has both the visitor and
// what was sent in it, by a function that does.
func (r *reading) asksMore() bool {
	py := r.py
	found := false
	pysyntax.Walk(py, r.id, func(n pysyntax.ID) bool {
		if found {
			return false
		}
		test := pysyntax.ID(0)
		switch py.Kind(n) {
		case pysyntax.If:
			test, _, _ = py.If(n)
		case pysyntax.While:
			test, _, _ = py.While(n)
		case pysyntax.IfExp:
			test, _, _ = py.IfExp(n)
		case pysyntax.Assert:
			test, _ = py.Assert(n)
		case pysyntax.Return:
			if v := py.Value(n); v != 0 && r.depth > 0 { // the answer of a check
				if k := py.Kind(v); k == pysyntax.BoolOp || k == pysyntax.UnaryOp || k == pysyntax.Compare || k == pysyntax.Attribute {
					test = v
				}
			}
		case pysyntax.Compare:
			test = n
		case pysyntax.Comprehension:
			_, _, conditions, _ := py.Comprehension(n)
			for _, c := range conditions {
				found = found || r.beyond(c)
			}
		case pysyntax.Call:
			fn, args, keywords := py.Call(n)
			name := callee(py, fn)
			who, other := false, false
			values := slices.Clone(args)
			for _, k := range keywords {
				_, v := py.KeywordArg(k)
				values = append(values, v)
			}
			base, _ := py.Attribute(fn)
			if base != 0 {
				values = append(values, base)
			}
			for _, v := range values {
				who = who || r.holdsWho(v)
				other = other || r.holdsSent(v) || r.holdsRow(v)
			}
			_, isModel := r.models[name]
			switch {
			case isModel:
			case who && other && (finders[name] || name == "execute" || name == "find_one" || name == "find"):
				// A row that joins the two, such as a membership; what holds the
				// owner of the row itself is read as such.
				q := r.query(n)
				found = q == nil || q.owner == ""
			case moreRE.MatchString(name) && (who || other):
				found = true
			case r.depth < 3:
				for _, d := range r.called(r.f, fn) {
					found = found || r.functionAsks(d, r.depth+1)
				}
			}
		}
		if test != 0 && !found {
			found = r.beyond(test)
		}
		return !found
	})
	return found
}

func (r *reading) holdsRow(v pysyntax.ID) bool {
	return r.holds(v, func(n pysyntax.ID) bool { return r.rows[r.py.Name(n)] != "" })
}

// presence are the attributes that say no more than that there is a visitor.
var presence = []string{"is_authenticated", "is_active", "is_anonymous", "get"}

// flagRE matches the keys of a session that say what somebody may.
var flagRE = regexp.MustCompile(`(?i)role|admin|staff|perm|level|group|type|super|rights|scope|priv`)

// beyond reports whether a condition asks more about the visitor than whether
// there is one.
func (r *reading) beyond(test pysyntax.ID) bool {
	py := r.py
	found := false
	pysyntax.Walk(py, test, func(n pysyntax.ID) bool {
		if found {
			return false
		}
		switch py.Kind(n) {
		case pysyntax.Attribute:
			base, name := py.Attribute(n)
			if r.isWho(base) && !slices.Contains(presence, name) || flagRE.MatchString(name) && py.Kind(base) == pysyntax.Name && r.p.Flask.Name(r.f.Path, base) == "flask.g" {
				found = true
			}
		case pysyntax.Subscript:
			base, index := py.Subscript(n)
			s, _ := py.StringValue(index)
			found = (r.ofSession(base) || r.isWho(base)) && flagRE.MatchString(s)
		case pysyntax.Call:
			fn, args, _ := py.Call(n)
			base, name := py.Attribute(fn)
			if name == "get" && len(args) > 0 {
				s, _ := py.StringValue(args[0])
				found = (r.ofSession(base) || r.isWho(base)) && flagRE.MatchString(s)
			}
		case pysyntax.Compare:
			left, rest := py.Compare(n)
			if len(rest) != 1 {
				found = r.holdsWho(n)
				break
			}
			a, b := left, rest[0].Right
			if py.Kind(a) == pysyntax.None || py.Kind(b) == pysyntax.None {
				return true
			}
			in := rest[0].Op == pysyntax.CmpIn || rest[0].Op == pysyntax.CmpNotIn
			if s, ok := py.StringValue(a); ok && in && (r.ofSession(b) || r.isWho(b)) { // "user" in session
				found = flagRE.MatchString(s)
				return false
			}
			found = r.holdsWho(a) != r.holdsWho(b) || r.holdsWho(a) && (r.holdsRow(a) || r.holdsRow(b))
		}
		return !found
	})
	return found
}
