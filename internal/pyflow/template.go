package pyflow

import (
	"bytes"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/dewar-security/dewar/internal/jinja"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

const (
	maxTemplateDepth = 12
	maxTemplateSteps = 20_000
)

// render is what rendering a template gives. Its name or its text is given;
// the rest of the call's arguments are its variables.
//
// What the template puts out is judged where it does so: the text that comes
// back has no labels.
func (it *interp) render(st *state, name, source *value, c *call) *value {
	vars := map[string]*value{}
	for _, k := range c.kw {
		vars[k.name] = it.refined(st, k.v)
	}
	for i, a := range c.args {
		if i == 0 && (a == name || a == source) {
			continue
		}
		// Jinja's own render takes dictionaries.
		for _, d := range a.alts() {
			if d.kind == vObj {
				if o := it.get(st, d.obj); o != nil && o.kind == oDict {
					for _, k := range o.keys {
						if kv := keyValue(k); kv.isConstText() {
							if b, _ := bound(o.m[k]); b != nil {
								vars[kv.str] = join(vars[kv.str], b)
							}
						}
					}
					if o.rest != nil {
						vars["*"] = join(vars["*"], o.rest)
					}
				}
			}
		}
	}
	if c.rest != nil {
		vars["*"] = join(vars["*"], c.rest)
	}
	if name != nil {
		for _, n := range name.alts() {
			if n.kind == vObj || n.kind == vTuple { // the first of several that exists
				items, _ := it.iterate(st, n)
				for _, x := range items {
					if x.isConstText() && it.renderName(st, x.str, vars, c.at) {
						break
					}
				}
				continue
			}
			if n.isConstText() {
				if !it.renderName(st, n.str, vars, c.at) {
					it.renderUnseen(st, n.str, vars, c)
				}
			}
		}
	}
	if source != nil {
		for _, s := range source.alts() {
			if s.isConstText() && it.at(c) == c.at {
				t := jinja.Parse("<string>", []byte(s.str))
				it.renderTemplate(st, t, c.at, vars, c.at)
			}
		}
	}
	return run(AnyChars, nil)
}

func (it *interp) renderName(st *state, name string, vars map[string]*value, at Span) bool {
	t := it.template(name, it.at(&call{at: at}).File)
	if t == nil {
		return false
	}
	it.renderTemplate(st, t, Span{}, vars, at)
	return true
}

// renderUnseen notes what is given as markup to a template that is not there to
// be read: whatever stands in it, that is put out as it is.
func (it *interp) renderUnseen(st *state, name string, vars map[string]*value, c *call) {
	if it.at(c) != c.at {
		return // a model's call, which is no place of the project
	}
	for _, k := range sortedKeys(vars) {
		for _, v := range vars[k].alts() {
			if !v.safe || len(it.labelsOf(st, v)) == 0 {
				continue
			}
			it.reach("template")
			place := jinja.Start(name).Contexts()[0]
			out := &Output{Template: name, Context: place.Kind.String(), Place: place}
			it.record(st, &Hit{Verb: "sink", Kind: "template", Path: "{{ }}", At: c.at, Output: out}, nil, &call{at: c.at}, []*value{v})
		}
	}
}

// template returns a parsed template by the name that the file from uses;
// nil if there is none.
func (it *interp) template(name, from string) *jinja.Template {
	key := [2]string{name, path.Dir(from)}
	if t, ok := it.p.templates.Load(key); ok {
		return t.(*jinja.Template)
	}
	var t *jinja.Template
	if it.p.cfg.Template != nil {
		if p, src, ok := it.p.cfg.Template(name, from); ok && len(src) < 2<<20 {
			once, _ := it.p.parsed.LoadOrStore(p, sync.OnceValue(func() *jinja.Template { return jinja.Parse(p, src) }))
			t = once.(func() *jinja.Template)()
		}
	}
	it.p.templates.Store(key, t)
	return t
}

// rendering is one template being run.
type rendering struct {
	it     *interp
	st     *state
	t      *jinja.Template
	html   jinja.State
	scopes []map[string]*value
	escape bool
	fixed  Span // where everything is, when the template's text is in Python
	depth  int
	quiet  bool
	blocks map[string][]blockAt
	super  []blockAt
	macros map[string]*macro
	steps  *int
	active map[*jinja.Macro]int
	caller *macro
}

type blockAt struct {
	t *jinja.Template
	b *jinja.Block
}

// macro is a macro, or a caller's body, with where it was made.
type macro struct {
	m      *jinja.Macro
	params []jinja.Param
	body   []jinja.Node
	r      *rendering
}

func (it *interp) renderTemplate(st *state, t *jinja.Template, fixed Span, vars map[string]*value, at Span) {
	steps := 0
	given := map[string]*value{}
	for k, v := range vars {
		if hasLabels(v) {
			note := "given to template " + t.Path
			if k != "*" {
				note += " as " + k
			}
			v = withStep(v, at, note)
		}
		given[k] = v
	}
	r := &rendering{it: it, st: st, t: t, html: jinja.Start(t.Path), scopes: []map[string]*value{given}, escape: it.p.autoescaped(t),
		fixed: fixed, blocks: map[string][]blockAt{}, macros: map[string]*macro{}, steps: &steps, active: map[*jinja.Macro]int{}}
	dead := st.dead
	r.top(t)
	st.dead = dead // a template decides nothing
}

// autoescaped is Flask's choice (Flask.select_jinja_autoescape), which goes by
// how the name ends: page.html.j2 is not escaped. A project that writes of
// autoescape somewhere may have chosen otherwise, and a text without a tag (a
// mail, a settings file) is no page in which escaping would matter.
func (p *program) autoescaped(t *jinja.Template) bool {
	switch path.Ext(t.Path) {
	case ".html", ".htm", ".xml", ".xhtml", ".svg":
		return true
	case ".j2", ".jinja", ".jinja2":
		p.escapes.Do(func() {
			for _, f := range p.files {
				if !f.model && bytes.Contains(f.f.Src, []byte("autoescape")) {
					p.ownEscapes = true
				}
			}
		})
		return p.ownEscapes || !holdsTag(t)
	}
	return t.Path == "<string>"
}

// holdsTag reports whether a template's own text has a tag of HTML in it.
func holdsTag(t *jinja.Template) (found bool) {
	jinja.Walk(t.Body, func(n jinja.Node) bool {
		if n, ok := n.(*jinja.Text); ok {
			found = found || anyTag.MatchString(n.Value)
		}
		return !found
	})
	return found
}

var anyTag = regexp.MustCompile(`</?[A-Za-z]`)

// top runs a template with those it extends.
func (r *rendering) top(t *jinja.Template) {
	var ext *jinja.Extends
	jinja.Walk(t.Body, func(n jinja.Node) bool {
		switch n := n.(type) {
		case *jinja.Extends:
			if ext == nil {
				ext = n
			}
		case *jinja.Block:
			r.blocks[n.Name] = append(r.blocks[n.Name], blockAt{t, n})
		case *jinja.Macro:
			if r.macros[n.Name] == nil {
				r.macros[n.Name] = &macro{n, n.Params, n.Body, r}
			}
		}
		return true
	})
	if ext == nil || r.depth >= maxTemplateDepth {
		r.nodes(t.Body)
		return
	}
	// What a child does outside of its blocks has no output.
	r.quiet = true
	for _, n := range t.Body {
		switch n.(type) {
		case *jinja.Set, *jinja.SetBlock, *jinja.Import, *jinja.FromImport, *jinja.Do, *jinja.If:
			r.node(n)
		}
	}
	r.quiet = false
	found := false
	for _, n := range r.eval(ext.Template).alts() {
		if !n.isConstText() {
			continue
		}
		if p := r.it.template(n.str, r.from()); p != nil && p != t {
			found = true
			sub := *r
			sub.t, sub.depth, sub.fixed = p, r.depth+1, Span{}
			sub.html = jinja.Start(p.Path)
			sub.blocks = map[string][]blockAt{}
			for k, v := range r.blocks {
				sub.blocks[k] = v
			}
			sub.top(p)
		}
	}
	if !found {
		// A parent that is not known: its blocks stand in text.
		for _, n := range t.Body {
			if b, ok := n.(*jinja.Block); ok {
				r.block(b)
			}
		}
	}
}

func (r *rendering) step() bool {
	*r.steps++
	return *r.steps < maxTemplateSteps && r.it.step()
}

func (r *rendering) nodes(list []jinja.Node) {
	for _, n := range list {
		r.node(n)
	}
}

func (r *rendering) push() { r.scopes = append(r.scopes, map[string]*value{}) }
func (r *rendering) pop()  { r.scopes = r.scopes[:len(r.scopes)-1] }

func (r *rendering) set(name string, v *value) { r.scopes[len(r.scopes)-1][name] = v }

func (r *rendering) node(n jinja.Node) {
	if !r.step() {
		return
	}
	switch n := n.(type) {
	case *jinja.Text:
		if !r.quiet {
			r.html = r.html.Text(n.Value)
		}
	case *jinja.Output:
		r.output(n)
	case *jinja.If:
		r.branch(n)
	case *jinja.For:
		r.loop(n)
	case *jinja.Block:
		r.block(n)
	case *jinja.Set:
		r.assign(n.Target, r.eval(n.X))
	case *jinja.SetBlock:
		html := r.html
		r.html = jinja.State{}
		r.nodes(n.Body)
		r.html = html
		r.assign(n.Target, &value{kind: vText, text: run(AnyChars, nil).text, safe: true})
	case *jinja.With:
		r.push()
		for i, t := range n.Targets {
			if i < len(n.Values) {
				r.assign(t, r.eval(n.Values[i]))
			}
		}
		r.nodes(n.Body)
		r.pop()
	case *jinja.Autoescape:
		old := r.escape
		r.escape = r.it.truth(r.st, r.eval(n.X)) != 0
		r.nodes(n.Body)
		r.escape = old
	case *jinja.FilterBlock:
		old := r.escape
		if f, ok := n.X.(*jinja.Filter); ok && (f.Name == "escape" || f.Name == "e" || f.Name == "forceescape") {
			r.escape = true
		}
		r.nodes(n.Body)
		r.escape = old
	case *jinja.Macro:
		r.macros[n.Name] = &macro{n, n.Params, n.Body, r}
	case *jinja.CallBlock:
		old := r.caller
		c := *r
		r.caller = &macro{nil, n.Params, n.Body, &c}
		r.eval(n.X)
		r.caller = old
	case *jinja.Include:
		for _, x := range r.names(n.Template) {
			t := r.it.template(x, r.from())
			if t == nil || r.depth >= maxTemplateDepth {
				continue
			}
			sub := *r
			sub.t, sub.depth, sub.fixed = t, r.depth+1, Span{}
			sub.blocks, sub.macros = map[string][]blockAt{}, map[string]*macro{}
			sub.scopes = append(r.scopes[:len(r.scopes):len(r.scopes)], map[string]*value{})
			sub.top(t)
			r.html = sub.html
			if _, list := n.Template.(*jinja.List); list {
				break
			}
		}
	case *jinja.Import:
		for _, x := range r.names(n.Template) {
			if m := r.imported(x); m != nil {
				for name, mm := range m {
					r.macros[n.Alias+"."+name] = mm
				}
			}
		}
	case *jinja.FromImport:
		for _, x := range r.names(n.Template) {
			if m := r.imported(x); m != nil {
				for _, a := range n.Names {
					if mm := m[a.Name]; mm != nil {
						r.macros[a.As] = mm
					}
				}
			}
		}
	case *jinja.Trans:
		r.push()
		for _, v := range n.Vars {
			if v.X != nil {
				r.set(v.Name, r.eval(v.X))
			}
		}
		r.nodes(n.Body)
		r.pop()
	case *jinja.Do:
		r.eval(n.X)
	case *jinja.Unknown:
		for _, a := range n.Args {
			r.eval(a)
		}
		r.nodes(n.Body)
	}
}

// from is the file that names other templates.
func (r *rendering) from() string {
	if r.fixed.File != "" {
		return r.fixed.File
	}
	return r.t.Path
}

// names returns the constant names that an expression may be.
func (r *rendering) names(e jinja.Expr) []string {
	var out []string
	v := r.eval(e)
	for _, a := range v.alts() {
		if a.isConstText() {
			out = append(out, a.str)
		} else if a.kind == vObj || a.kind == vTuple {
			items, _ := r.it.iterate(r.st, a)
			for _, x := range items {
				if x.isConstText() {
					out = append(out, x.str)
				}
			}
		}
	}
	return out
}

// imported returns the macros of a template.
func (r *rendering) imported(name string) map[string]*macro {
	t := r.it.template(name, r.from())
	if t == nil || r.depth >= maxTemplateDepth {
		return nil
	}
	sub := *r
	sub.t, sub.depth, sub.fixed = t, r.depth+1, Span{}
	sub.macros = map[string]*macro{}
	sub.scopes = []map[string]*value{{}}
	sub.quiet = true
	for _, n := range t.Body {
		switch n := n.(type) {
		case *jinja.Macro:
			sub.macros[n.Name] = &macro{n, n.Params, n.Body, &sub}
		case *jinja.Set, *jinja.Import, *jinja.FromImport:
			sub.node(n)
		}
	}
	sub.quiet = false
	return sub.macros
}

// assume learns what follows from a condition of value v being so or not; what
// is learnt holds until the caller forgets it.
func (r *rendering) assume(e jinja.Expr, v *value, truth bool, depth int) {
	if depth > 8 {
		return
	}
	switch x := e.(type) {
	case *jinja.UnaryOp:
		if x.Op == "not" {
			r.assume(x.X, r.eval(x.X), !truth, depth+1)
			return
		}
	case *jinja.BinOp:
		if x.Op != "and" && x.Op != "or" {
			break
		}
		if (x.Op == "and") == truth {
			r.assume(x.Left, r.eval(x.Left), truth, depth+1)
			r.assume(x.Right, r.eval(x.Right), truth, depth+1)
			return
		}
		// One of them is so, nobody knows which.
		before := r.st.known
		r.assume(x.Left, r.eval(x.Left), truth, depth+1)
		left := r.st.known
		r.st.known = before
		r.assume(x.Right, r.eval(x.Right), truth, depth+1)
		r.st.known = r.it.commonKnowledge(left, r.st.known)
		return
	}
	r.it.follow(r.st, v.sym, truth)
}

func (r *rendering) branch(n *jinja.If) {
	before := r.html
	var ends []jinja.State
	decided := false
	known := r.st.known
	defer func() { r.st.known = known }()
	for _, b := range n.Branches {
		v := r.eval(b.Test)
		t := r.it.truth(r.st, v)
		if t == 0 {
			continue
		}
		r.html = before
		outside := r.st.known
		r.assume(b.Test, v, true, 0)
		r.nodes(b.Body)
		r.st.known = outside
		r.assume(b.Test, v, false, 0)
		ends = append(ends, r.html)
		if t == 1 {
			decided = true
			break
		}
	}
	if !decided {
		r.html = before
		r.nodes(n.Else)
		ends = append(ends, r.html)
	}
	r.html = jinja.Join(ends...)
}

func (r *rendering) loop(n *jinja.For) {
	items, exact := r.it.iterate(r.st, r.eval(n.Iter))
	before := r.html
	e := joinAll(items)
	if e == nil {
		e = unknown
		if exact {
			r.nodes(n.Else)
			return
		}
	}
	for range 2 {
		start := r.html
		r.push()
		r.set("loop", unknown)
		r.assign(n.Target, e)
		if n.Filter != nil {
			r.eval(n.Filter)
		}
		r.nodes(n.Body)
		r.pop()
		r.html = jinja.Join(start, r.html)
		if r.html == start {
			break
		}
	}
	if n.HasElse {
		end := r.html
		r.html = before
		r.nodes(n.Else)
		r.html = jinja.Join(end, r.html)
	}
}

func (r *rendering) block(n *jinja.Block) {
	list := r.blocks[n.Name]
	if len(list) == 0 {
		list = []blockAt{{r.t, n}}
	}
	r.runBlock(list)
}

func (r *rendering) runBlock(list []blockAt) {
	if r.depth >= 2*maxTemplateDepth {
		return
	}
	sub := *r
	sub.depth++
	sub.t, sub.super = list[0].t, list[1:]
	if list[0].t != r.t {
		sub.fixed = Span{}
		if list[0].t.Path == "<string>" {
			sub.fixed = r.fixed
		}
	}
	sub.scopes = append(r.scopes[:len(r.scopes):len(r.scopes)], map[string]*value{})
	sub.nodes(list[0].b.Body)
	r.html = sub.html
}

// assign gives a target a value.
func (r *rendering) assign(target jinja.Expr, v *value) {
	switch t := target.(type) {
	case *jinja.Name:
		r.set(t.Name, v)
	case *jinja.Tuple:
		items, exact := r.it.iterate(r.st, v)
		for i, x := range t.Items {
			e := joinAll(items)
			if exact && len(items) == len(t.Items) {
				e = items[i]
			}
			if e == nil {
				e = unknown
			}
			r.assign(x, e)
		}
	case *jinja.Attr:
		r.it.setAttr(r.st, r.eval(t.X), t.Name, v, Span{})
	}
}

// output is {{ x }}.
func (r *rendering) output(n *jinja.Output) {
	if r.macroCall(n.X) {
		return
	}
	v := r.it.refined(r.st, r.eval(n.X))
	if r.quiet {
		return
	}
	at := Span{r.t.Path, uint32(n.At().Start), uint32(n.At().End)}
	if r.t.Path == "<string>" || r.fixed.File != "" {
		at = r.fixed
	}
	if len(r.it.labelsOf(r.st, v)) > 0 && at.File != "" {
		r.it.reach("template")
		for _, alt := range r.shown(v) {
			if len(r.it.labelsOf(r.st, alt)) == 0 {
				continue
			}
			for i, c := range r.html.Contexts() {
				if i >= 3 {
					break
				}
				out := &Output{Template: r.t.Path, Context: c.Kind.String(), Quote: c.Quote, Attr: c.Attr, Tag: c.Tag, Prefix: c.Prefix, Escaped: r.escape && !alt.safe, Place: c}
				r.it.record(r.st, &Hit{Verb: "sink", Kind: "template", Path: "{{ }}", At: at, Output: out}, nil, &call{at: at}, []*value{alt})
			}
		}
	}
	if v.isConstText() && v.safe {
		r.html = r.html.Text(v.str)
	} else {
		r.html = r.html.Output()
	}
}

// shown takes apart what is safe markup and what is not.
func (r *rendering) shown(v *value) []*value {
	if v.kind != vUnion {
		return []*value{v}
	}
	var safe, other *value
	for _, a := range v.elems {
		if a.safe {
			safe = join(safe, a)
		} else {
			other = join(other, a)
		}
	}
	var out []*value
	for _, x := range []*value{safe, other} {
		if x != nil {
			out = append(out, x)
		}
	}
	return out
}

// macroCall runs {{ macro(…) }}, {{ caller() }}, {{ super() }} or
// {{ self.block() }} where it stands; false if the expression is none.
func (r *rendering) macroCall(e jinja.Expr) bool {
	c, ok := e.(*jinja.Call)
	if !ok {
		return false
	}
	var m *macro
	switch f := c.Func.(type) {
	case *jinja.Name:
		switch {
		case f.Name == "super" && r.super != nil:
			if len(r.super) > 0 {
				r.runBlock(r.super)
			}
			return true
		case f.Name == "caller" && r.caller != nil:
			m = r.caller
		default:
			m = r.macros[f.Name]
		}
	case *jinja.Attr:
		if x, ok := f.X.(*jinja.Name); ok {
			if x.Name == "self" && len(r.blocks[f.Name]) > 0 {
				r.runBlock(r.blocks[f.Name]) // the block once more
				return true
			}
			m = r.macros[x.Name+"."+f.Name]
		}
	}
	if m == nil {
		return false
	}
	r.call(m, c)
	return true
}

func (r *rendering) call(m *macro, c *jinja.Call) {
	if r.depth >= 2*maxTemplateDepth || m.m != nil && r.active[m.m] > 1 {
		return
	}
	vars := map[string]*value{}
	for i, p := range m.params {
		var v *value
		switch {
		case i < len(c.Args.Args):
			v = r.eval(c.Args.Args[i])
		default:
			for _, k := range c.Keywords {
				if k.Name == p.Name {
					v = r.eval(k.X)
				}
			}
		}
		if v == nil && p.Default != nil {
			v = r.eval(p.Default)
		}
		if v == nil {
			v = unknown
		}
		if hasLabels(v) && m.m != nil && r.fixed.File == "" {
			v = withStep(v, Span{r.t.Path, uint32(c.At().Start), uint32(c.At().End)}, "passed to macro "+m.m.Name)
		}
		vars[p.Name] = v
	}
	for i, x := range c.Args.Args {
		if i >= len(m.params) {
			vars["varargs"] = join(vars["varargs"], r.it.list(r.st, oList, nil, r.eval(x)))
		}
	}
	o := &object{kind: oDict}
	for _, k := range c.Keywords {
		if _, ok := vars[k.Name]; !ok {
			key, _ := keyOf(text(k.Name))
			o.set(key, r.eval(k.X))
		}
	}
	vars["kwargs"] = &value{kind: vObj, obj: r.it.alloc(r.st, o)}
	sub := *m.r
	sub.st, sub.html, sub.depth, sub.quiet, sub.steps = r.st, r.html, r.depth+1, r.quiet, r.steps
	if m != r.caller {
		sub.caller = r.caller
	}
	sub.scopes = append(m.r.scopes[:len(m.r.scopes):len(m.r.scopes)], vars)
	if m.m != nil {
		r.active[m.m]++
		defer func() { r.active[m.m]-- }()
	}
	sub.nodes(m.body)
	r.html = sub.html
}

// flaskGlobals are the names that Flask puts into every template.
var flaskGlobals = map[string]string{
	"request": "flask.request", "session": "flask.session", "g": "flask.g", "url_for": "flask.url_for",
	"get_flashed_messages": "flask.get_flashed_messages", "config": "flask.current_app.config", "current_user": "flask_login.current_user",
	"range": "builtins.range", "dict": "builtins.dict",
}

func (r *rendering) name(name string) *value {
	for i := len(r.scopes) - 1; i >= 0; i-- {
		if v := r.scopes[i][name]; v != nil {
			return r.it.refined(r.st, v)
		}
	}
	if p, ok := flaskGlobals[name]; ok {
		return r.it.libValue(r.st, p)
	}
	// Of a context of which only some names are known it is not likely that
	// it hides what every template has.
	if v := r.it.p.templateNames[name]; v != nil {
		return v
	}
	if v := r.it.libFields[contextField+name]; v != nil {
		return v
	}
	if r.it.p.globalNames[name] || name == "self" {
		return unknown
	}
	if v := r.scopes[0]["*"]; v != nil {
		return v
	}
	return unknown
}

// contextField is what the fields begin with in which the names are kept that
// context processors give to every template.
const contextField = "_dewar.context."

// contextNames keeps what a context processor gave.
func (it *interp) contextNames(st *state, v *value) {
	for _, a := range v.alts() {
		if a.kind != vObj {
			continue
		}
		o := it.get(st, a.obj)
		if o == nil || o.kind != oDict {
			continue
		}
		for _, key := range o.keys {
			if name := keyValue(key); name.isConstText() {
				it.setLibField(contextField+name.str, o.m[key])
			}
		}
	}
}

// globalNames returns the names that a file puts among the globals of a Jinja
// environment, with env.globals.update(…) or env.globals["name"] = ….
func globalNames(f *pysyntax.File) (names []string) {
	constant := func(id pysyntax.ID) {
		if f.Kind(id) == pysyntax.Str {
			if s, ok := f.StringValue(id); ok {
				names = append(names, s)
			}
		}
	}
	globals := func(id pysyntax.ID) bool {
		if f.Kind(id) != pysyntax.Attribute {
			return false
		}
		_, name := f.Attribute(id)
		return name == "globals"
	}
	for i := range f.Nodes {
		id := pysyntax.ID(i)
		switch f.Nodes[i].Kind {
		case pysyntax.Subscript:
			if c, k := f.Subscript(id); globals(c) {
				constant(k)
			}
		case pysyntax.Call:
			fn, args, keywords := f.Call(id)
			if f.Kind(fn) != pysyntax.Attribute {
				continue
			}
			if recv, name := f.Attribute(fn); name != "update" || !globals(recv) {
				continue
			}
			for _, a := range args {
				if f.Kind(a) == pysyntax.Dict {
					for k := range f.DictItems(a) {
						constant(k)
					}
				}
			}
			for _, k := range keywords {
				if name, _ := f.KeywordArg(k); name != "" {
					names = append(names, name)
				}
			}
		}
	}
	return names
}

// libValue is the value of a library's name.
func (it *interp) libValue(st *state, path string) *value {
	i := strings.LastIndexByte(path, '.')
	return it.attr(st, lib(path[:i]), path[i+1:], false, Span{})
}

func (r *rendering) at(e jinja.Expr) Span {
	if r.fixed.File != "" {
		return r.fixed
	}
	return Span{r.t.Path, uint32(e.At().Start), uint32(e.At().End)}
}

func (r *rendering) eval(e jinja.Expr) *value {
	if e == nil || !r.step() {
		return unknown
	}
	it, st := r.it, r.st
	switch e := e.(type) {
	case *jinja.Name:
		return r.name(e.Name)
	case *jinja.Const:
		switch e.Kind {
		case jinja.None:
			return none
		case jinja.Bool:
			return boolOf(e.Text == "true")
		case jinja.Int, jinja.Float:
			n, err := strconv.ParseFloat(e.Text, 64)
			if err != nil {
				return number
			}
			if e.Kind == jinja.Int {
				return integer(n)
			}
			return float(n)
		}
		t := text(e.Text)
		return &value{kind: vText, str: t.str, text: t.text, safe: true}
	case *jinja.Attr:
		v := r.eval(e.X)
		return it.refined(st, r.attr(v, e.Name, e))
	case *jinja.Item:
		v := r.eval(e.X)
		var k *value
		if s, ok := e.Index.(*jinja.Slice); ok {
			part := func(x jinja.Expr) *value {
				if x == nil {
					return none
				}
				return r.eval(x)
			}
			k = &value{kind: vInst, str: "builtins.slice", elems: []*value{part(s.Lower), part(s.Upper), part(s.Step)}}
		} else {
			k = r.eval(e.Index)
		}
		if k.isConstText() && v.kind == vObj {
			if o := it.get(st, v.obj); o != nil && o.kind == oInstance {
				return it.attr(st, v, k.str, false, r.at(e))
			}
		}
		return it.refined(st, it.subscript(st, v, k, r.at(e)))
	case *jinja.Call:
		return r.evalCall(e)
	case *jinja.Filter:
		return r.filter(e)
	case *jinja.Test:
		switch e.Name {
		case "defined", "undefined":
			if is := r.defined(e.X); is >= 0 {
				return boolOf((is == 1) == (e.Name == "defined"))
			}
		}
		r.eval(e.X)
		return boolean
	case *jinja.BinOp:
		a, b := r.eval(e.Left), r.eval(e.Right)
		switch e.Op {
		case "and":
			switch it.truth(st, a) {
			case 0:
				return a
			case 1:
				return b
			}
			return join(it.onlyTruth(st, a, false), b)
		case "or":
			switch it.truth(st, a) {
			case 1:
				return a
			case 0:
				return b
			}
			return join(it.onlyTruth(st, a, true), b)
		}
		return it.binary(st, e.Op, a, b)
	case *jinja.UnaryOp:
		v := r.eval(e.X)
		if e.Op == "not" {
			if t := it.truth(st, v); t >= 0 {
				return boolOf(t == 0)
			}
			return boolean
		}
		return numeric(it.labelsOf(st, v))
	case *jinja.Compare:
		v := r.eval(e.Left)
		out := boolean
		for _, op := range e.Ops {
			w := r.eval(op.Right)
			out = it.compare(st, op.Op, v, w)
			v = w
		}
		if t := it.truth(st, out); t >= 0 && len(e.Ops) == 1 {
			return boolOf(t == 1)
		}
		return boolean
	case *jinja.Cond:
		switch it.truth(st, r.eval(e.Test)) {
		case 1:
			return r.eval(e.Then)
		case 0:
			if e.Else == nil {
				return empty
			}
			return r.eval(e.Else)
		}
		v := r.eval(e.Then)
		if e.Else != nil {
			v = join(v, r.eval(e.Else))
		}
		return v
	case *jinja.Concat:
		out := empty
		for _, p := range e.Parts {
			v := it.str(st, r.eval(p))
			out = it.concat(st, out, v)
		}
		if out.safe {
			c := *out
			c.safe = false
			return &c
		}
		return out
	case *jinja.List, *jinja.Tuple:
		var elems []*value
		jinja.Operands(e, func(x jinja.Expr) { elems = append(elems, r.eval(x)) })
		if _, ok := e.(*jinja.Tuple); ok {
			return &value{kind: vTuple, elems: elems}
		}
		return it.list(st, oList, elems, nil)
	case *jinja.Dict:
		o := &object{kind: oDict}
		for i, k := range e.Keys {
			kv, vv := r.eval(k), r.eval(e.Values[i])
			if key, ok := keyOf(kv); ok {
				o.set(key, vv)
			} else {
				o.rest = join(o.rest, vv)
			}
		}
		return &value{kind: vObj, obj: it.alloc(st, o)}
	}
	var labels []label
	jinja.Operands(e, func(x jinja.Expr) { labels = addLabels(labels, it.labelsOf(st, r.eval(x))) })
	return opaque(labels)
}

// defined reports whether an item of a dictionary is there: 1, 0 or, where that
// is not known, -1.
func (r *rendering) defined(e jinja.Expr) int {
	var of jinja.Expr
	var k *value
	switch e := e.(type) {
	case *jinja.Attr:
		of, k = e.X, text(e.Name)
	case *jinja.Item:
		if _, ok := e.Index.(*jinja.Slice); ok {
			return -1
		}
		of, k = e.X, r.eval(e.Index)
	default:
		return -1
	}
	key, ok := keyOf(k)
	if !ok {
		return -1
	}
	out := -2
	for _, v := range r.eval(of).alts() {
		is := -1
		if v.kind == vObj {
			if o := r.it.get(r.st, v.obj); o != nil && o.kind == oDict && (!k.isConstText() || containerMethods[oDict][k.str] == nil) {
				switch x, missing := bound(o.get(key)); {
				case x != nil && !missing:
					is = 1
				case x == nil && o.rest == nil:
					is = 0
				}
			}
		}
		if out == -2 {
			out = is
		} else if out != is {
			out = -1
		}
	}
	return max(out, -1)
}

// attr is x.name, which may be an item, too.
func (r *rendering) attr(v *value, name string, e jinja.Expr) *value {
	it, st := r.it, r.st
	return over(v, func(v *value) *value {
		if v.kind == vObj {
			if o := it.get(st, v.obj); o != nil && o.kind == oDict {
				key, _ := keyOf(text(name))
				if x, _ := bound(o.get(key)); x != nil {
					return x
				}
				if containerMethods[oDict][name] == nil {
					if o.rest != nil {
						return o.rest
					}
					return empty // undefined
				}
			}
		}
		if v.kind == vInst {
			if f := it.mapping(v.str); f != nil && len(it.p.facts.of(it.p.facts.canonical(v.str+"."+name))) == 0 {
				switch name {
				case "get", "getlist", "items", "values", "keys", "to_dict":
				default:
					return it.mapItem(st, f, v, text(name), r.at(e), "")
				}
			}
		}
		return it.attr(st, v, name, false, r.at(e))
	})
}

func (r *rendering) evalCall(e *jinja.Call) *value {
	it, st := r.it, r.st
	if n, ok := e.Func.(*jinja.Name); ok {
		switch n.Name {
		case "_", "gettext", "ngettext":
			// A message is the project's own; what is put into it is escaped
			// as it is (Jinja's newstyle gettext).
			var labels []label
			for _, k := range e.Keywords {
				labels = addLabels(labels, it.labelsOf(st, r.eval(k.X)))
			}
			return run(AnyChars, labels)
		}
	}
	if r.macroCall(e) {
		return &value{kind: vText, text: run(AnyChars, nil).text, safe: true}
	}
	var fn *value
	if a, ok := e.Func.(*jinja.Attr); ok {
		recv := r.eval(a.X)
		fn = over(recv, func(v *value) *value { return it.attr(st, v, a.Name, true, r.at(e)) })
	} else {
		fn = r.eval(e.Func)
	}
	c := &call{at: r.at(e)}
	for _, a := range e.Args.Args {
		c.args = append(c.args, r.eval(a))
		c.spans = append(c.spans, r.at(a))
	}
	for _, k := range e.Keywords {
		c.kw = append(c.kw, kwarg{k.Name, r.eval(k.X)})
		c.spans = append(c.spans, r.at(k.X))
	}
	for _, x := range []jinja.Expr{e.Star, e.StarStar} {
		if x != nil {
			c.rest = join(c.rest, opaque(it.labelsOf(st, r.eval(x))))
		}
	}
	s := st.fork()
	v := it.call(s, fn, c)
	if s.dead {
		return unknown
	}
	*st = *s
	return v
}

func (r *rendering) filter(e *jinja.Filter) *value {
	it, st := r.it, r.st
	v := unknown
	if e.X != nil {
		v = r.eval(e.X)
	}
	var args []*value
	for _, a := range e.Args.Args {
		args = append(args, r.eval(a))
	}
	for _, k := range e.Keywords {
		args = append(args, r.eval(k.X))
	}
	asText := func(v *value) *value { return fromPieces(it.pieces(st, v)) }
	switch e.Name {
	case "safe":
		return over(v, func(v *value) *value {
			c := *asText(v)
			c.safe = true
			return &c
		})
	case "escape", "e", "forceescape":
		return over(v, func(v *value) *value {
			if v.safe && e.Name != "forceescape" {
				return v
			}
			c := *escapeHTML(it, asText(v))
			c.safe = true
			return &c
		})
	case "tojson", "htmlsafe_json_dumps":
		t := run(AnyChars.Without("<>&'\n\r"), it.labelsOf(st, v))
		c := *t
		c.safe = true
		c.text[0].clean |= it.tag("tojson")
		return &c
	case "urlencode":
		return run(CharRange("a-zA-Z0-9_.~%&=+/-"), it.labelsOf(st, v))
	case "int", "float", "length", "count", "round", "sum", "filesizeformat", "wordcount", "abs":
		return numeric(it.labelsOf(st, v))
	case "default", "d":
		if len(args) > 0 {
			return join(v, args[0])
		}
		return v
	case "string":
		return over(v, func(v *value) *value { return asText(v) })
	case "first", "last", "random", "min", "max":
		items, _ := it.iterate(st, v)
		return unknownOr(joinAll(items))
	case "list", "sort", "reverse", "unique", "batch", "slice", "groupby", "select", "reject", "selectattr", "rejectattr":
		if e.Name == "batch" || e.Name == "slice" || e.Name == "groupby" {
			return it.list(st, oList, nil, it.list(st, oList, nil, v))
		}
		return v
	case "items", "dictsort":
		fn := over(v, func(v *value) *value { return it.attr(st, v, "items", true, r.at(e)) })
		return it.call(st, fn, &call{at: r.at(e)})
	case "attr":
		if len(args) > 0 && args[0].isConstText() {
			return r.attr(v, args[0].str, e)
		}
	case "map":
		items, _ := it.iterate(st, v)
		x := joinAll(items)
		for _, k := range e.Keywords {
			if k.Name == "attribute" && x != nil {
				if n := r.eval(k.X); n.isConstText() {
					return it.list(st, oList, nil, r.attr(x, n.str, e))
				}
			}
		}
		return it.list(st, oList, nil, unknownOr(x))
	case "join":
		var labels []label
		chars := AnyChars
		labels = addLabels(labels, it.labelsOf(st, v))
		return run(chars, labels)
	case "upper", "lower", "trim", "title", "capitalize", "replace":
		name := map[string]string{"trim": "strip"}[e.Name]
		if name == "" {
			name = e.Name
		}
		if m := textMethods[name]; m != nil {
			return over(v, func(v *value) *value {
				t := asText(v)
				if x := m(it, st, t, &call{at: r.at(e), args: args}); x != nil {
					if v.safe && !x.safe && x.kind == vText {
						c := *x
						c.safe = true
						return &c
					}
					return x
				}
				return run(AnyChars, it.labelsOf(st, v))
			})
		}
	case "striptags", "truncate", "wordwrap", "center", "indent", "format", "pprint", "xmlattr", "urlize", "nl2br":
		labels := it.labelsOf(st, v)
		for _, a := range args {
			labels = addLabels(labels, it.labelsOf(st, a))
		}
		t := run(AnyChars, labels)
		if e.Name == "urlize" || e.Name == "xmlattr" {
			c := *escapeHTML(it, t)
			c.safe = true
			return &c
		}
		if (e.Name == "truncate" || e.Name == "indent" || e.Name == "center") && v.safe {
			c := *t
			c.safe = true
			return &c
		}
		return t
	}
	if fn := it.p.templateFilters[e.Name]; fn != nil {
		s := st.fork()
		x := it.call(s, fn, &call{at: r.at(e), args: append([]*value{v}, args...)})
		if !s.dead {
			*st = *s
			return x
		}
	}
	labels := it.labelsOf(st, v)
	for _, a := range args {
		labels = addLabels(labels, it.labelsOf(st, a))
	}
	return opaque(labels)
}

// escapeHTML is markupsafe.escape of a text.
func escapeHTML(it *interp, v *value) *value {
	if v.isConstText() {
		return text(strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&#39;", `"`, "&#34;").Replace(v.str))
	}
	out := make([]piece, len(v.text))
	for i, p := range v.text {
		if p.sym == nil {
			p.lit = escapeHTML(it, text(p.lit)).str
		} else {
			p.chars = p.chars.Without(`<>"'`)
		}
		out[i] = p
	}
	return fromPieces(out)
}
