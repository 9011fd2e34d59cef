package flask

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

type objKey struct {
	scope *scope
	kind  objKind
}

type madeKey struct {
	unit *unit
	id   node
}

// analyzer holds the module graph and the tables that evaluation fills.
type analyzer struct {
	m           *Model
	units       []*unit
	byFile      map[string]*unit
	firstNames  map[string]bool // first parts of dotted names that may be the project's
	roots       []string        // folders that are likely on Python's path
	libs        map[string]*obj
	objs        map[objKey]*obj
	made        map[madeKey]*obj // constructor calls of Flask's objects
	appsOf      map[*scope][]*obj
	classOf     map[*App]*scope
	appObjs     []*obj
	appAttrs    map[string][]binding
	blueprints  []*blueprint
	extensions  []*extension
	apis        []*api
	params      bool // parameters may be followed to the calls
	configs     map[*scope]*configClass
	exempt      map[*scope]Position // views and blueprints freed of CSRF protection, and where
	exemptBP    map[*blueprint]Position
	reached     map[*Route]Reach    // see Model.Reach
	headerPaths []string            // see headerSessions; nil until it is known
	wrapped     map[*scope][]*scope // decorators of the project around functions
	gates       map[*scope]bool
	lines       map[*scope]lineage
	given       map[*scope][]Value // parameters of the call being folded
	byQual      map[string]*scope
	callIndex   map[string][]Call
	converters  map[string]converter // nil until asked for
	evalDepth   int
	foldDepth   int
	// What is left of the steps allowed to one question, so that a hostile
	// file costs no more than a long one.
	callFuel, testFuel int
	modules            map[moduleKey]*unit // what dotted names mean, once asked for
}

// Analyze builds the model of a project. It never fails: what it does not
// understand is in [Model.Unknown].
func Analyze(files []Source) *Model {
	a := &analyzer{
		m: &Model{Apps: []*App{}, Routes: []*Route{}}, byFile: map[string]*unit{}, firstNames: map[string]bool{}, libs: map[string]*obj{},
		objs: map[objKey]*obj{}, made: map[madeKey]*obj{}, appsOf: map[*scope][]*obj{}, classOf: map[*App]*scope{},
		appAttrs: map[string][]binding{}, configs: map[*scope]*configClass{}, exempt: map[*scope]Position{}, exemptBP: map[*blueprint]Position{},
		modules: map[moduleKey]*unit{}, gates: map[*scope]bool{}, lines: map[*scope]lineage{}, given: map[*scope][]Value{}, byQual: map[string]*scope{},
	}
	a.m.an = a
	files = slices.Clone(files)
	slices.SortStableFunc(files, func(x, y Source) int { return strings.Compare(x.Path, y.Path) })
	isPkg := map[string]bool{}
	for _, f := range files {
		if path.Base(f.Path) == "__init__.py" {
			isPkg[parentDir(f.Path)] = true
		}
	}
	roots := map[string]bool{"": true}
	for _, f := range files {
		switch {
		case f.Python == nil && IsOpenAPI(f.Path, f.Data):
			if !f.Test {
				a.readOperations(f)
			}
		case f.Python == nil:
			a.readEnv(f)
		case !f.Test:
			a.addUnit(f, isPkg, roots)
		}
	}
	for r := range roots {
		a.roots = append(a.roots, r)
	}
	slices.SortFunc(a.roots, func(x, y string) int {
		return cmp.Or(cmp.Compare(strings.Count(x, "/"), strings.Count(y, "/")), strings.Compare(x, y))
	})
	for _, u := range a.units {
		a.readUnit(u)
		for _, s := range u.defs {
			a.byQual[s.qual] = s
		}
	}

	// Three rounds, each over fresh tables: which calls make Flask's objects;
	// which project functions are called with what; then everything, with
	// both known.
	a.findObjects()
	a.reset()
	a.findCallSites()
	a.reset()
	a.params = true
	a.findObjects() // classes and factories reached through parameters
	a.reset()

	a.extensionCalls()
	a.findSettings()
	a.findRoutes()
	a.finish()
	return a.m
}

func (a *analyzer) reset() {
	a.lines = map[*scope]lineage{}
	for _, u := range a.units {
		u.seen = nil
		clear(u.seenAt)
		u.folded = map[node]Value{}
	}
}

func (a *analyzer) addUnit(f Source, isPkg, roots map[string]bool) {
	dir := parentDir(f.Path)
	base := strings.TrimSuffix(path.Base(f.Path), path.Ext(f.Path))
	top := dir
	for isPkg[top] && top != "" {
		top = parentDir(top)
	}
	u := &unit{path: f.Path, dir: dir, top: top, tree: tree{f.Python}, pkg: path.Base(f.Path) == "__init__.py",
		folded: map[node]Value{}, seenAt: make([]int32, len(f.Python.Nodes))}
	rel := strings.TrimPrefix(strings.TrimPrefix(dir, top), "/")
	parts := []string{}
	if rel != "" {
		parts = strings.Split(rel, "/")
	}
	if !u.pkg {
		parts = append(parts, base)
	}
	u.module = strings.Join(parts, ".")
	a.units = append(a.units, u)
	key := f.Path
	if ext := path.Ext(key); ext != ".py" {
		key = strings.TrimSuffix(key, ext) + ".py"
	}
	if a.byFile[key] == nil {
		a.byFile[key] = u
	}
	roots[top] = true
	for p := range strings.SplitSeq(dir, "/") {
		a.firstNames[p] = true
	}
	a.firstNames[base] = true
}

func (a *analyzer) pos(u *unit, id node) Position { return u.tree.position(u.path, id) }

func (a *analyzer) unknown(u *unit, id node, what string) {
	a.m.Unknown = append(a.m.Unknown, Unknown{Position: a.pos(u, id), What: what})
}

func (a *analyzer) allApps() []*obj { return a.appObjs }

// blueprint is a [Blueprint] while it is put together.
type blueprint struct {
	pub    *Blueprint
	unit   *unit
	id     node
	prefix string
	hasPre bool // a prefix was given
	mounts []*mount
	routes []*rawRoute
	hooks  []*Hook
}

// mount is one registration of a blueprint.
type mount struct {
	parent *obj
	bp     *blueprint
	prefix *string
	name   string
	unit   *unit
	id     node
	shared bool // the call may speak of several parents
}

type extension struct {
	*Extension
	unit *unit
	id   node
	kept bool
}

// api is a Flask-RESTful Api, a Flask-RESTX Api or Namespace.
type api struct {
	class     string
	unit      *unit
	id        node
	name      string
	namespace bool
	restx     bool
	prefix    string
	parents   []*obj // apps and blueprints, or for a namespace APIs
	paths     []string
	routes    []*rawRoute
	mounted   bool
	doc       string
	// decorators stand around every resource.
	decorators []Decorator
}

func (a *analyzer) bpAttr(o *obj, name string) []*obj {
	if o.api != nil && name == "blueprint" {
		return o.api.parents
	}
	return nil
}

// assignedName returns the variable that a call's value is bound to.
func (a *analyzer) assignedName(c callSite) string {
	for _, b := range sortedBinds(c.scope) {
		for _, x := range b.list {
			if x.kind == bindExpr && x.node == c.id {
				return b.name
			}
		}
	}
	for _, st := range c.scope.unit.stores {
		if st.value == c.id && st.scope == c.scope {
			return c.scope.unit.tree.text(st.target)
		}
	}
	return ""
}

type named struct {
	name string
	list []binding
}

func sortedBinds(s *scope) []named {
	out := make([]named, 0, len(s.binds))
	for k, v := range s.binds {
		out = append(out, named{k, v})
	}
	slices.SortFunc(out, func(x, y named) int { return strings.Compare(x.name, y.name) })
	return out
}

// findObjects finds the calls that construct apps, blueprints, extensions
// and APIs.
func (a *analyzer) findObjects() {
	for _, u := range a.units {
		for _, c := range u.calls {
			key := madeKey{u, c.id}
			if a.made[key] != nil {
				continue
			}
			fn := u.tree.callee(c.id)
			for _, o := range a.eval(c.scope, fn) {
				var class string
				var cls *scope
				switch o.kind {
				case objLib:
					class = o.q
				case objClass:
					cls = o.scope
					_, lib := a.ancestors(o.scope)
					for _, q := range lib {
						if appClasses[q] || blueprintClasses[q] || apiClasses[q] != 0 || KnownExtension(q) {
							class = q
							break
						}
					}
				default:
					continue
				}
				if made := a.construct(c, class, cls); made != nil {
					a.made[key] = made
					break
				}
			}
		}
	}
}

func (a *analyzer) construct(c callSite, class string, cls *scope) *obj {
	u := c.scope.unit
	switch {
	case appClasses[class]:
		if c.scope.kind == funcScope && c.scope.parent.kind == classScope && c.scope.parent == cls {
			return nil // super().__init__ and the like
		}
		app := &App{Name: a.assignedName(c), Position: a.pos(u, c.id), id: len(a.m.Apps)}
		a.m.Apps = append(a.m.Apps, app)
		o := &obj{kind: objApp, app: app, unit: u, scope: c.scope}
		a.appObjs = append(a.appObjs, o)
		if cls != nil {
			a.appsOf[cls] = append(a.appsOf[cls], o)
			a.classOf[app] = cls
		}
		return o
	case blueprintClasses[class]:
		b := &blueprint{unit: u, id: c.id, pub: &Blueprint{Class: clean(class), Position: a.pos(u, c.id)}}
		a.blueprints = append(a.blueprints, b)
		return &obj{kind: objBlueprint, bp: b, unit: u, scope: c.scope}
	case apiClasses[class] != 0:
		x := &api{class: class, unit: u, id: c.id, namespace: apiClasses[class] == apiNamespace, restx: strings.HasPrefix(class, "flask_restx") || strings.HasPrefix(class, "flask_restplus")}
		a.apis = append(a.apis, x)
		return &obj{kind: objAPI, api: x, unit: u, scope: c.scope}
	case KnownExtension(class) || isExtensionName(class):
		e := &extension{unit: u, id: c.id, kept: KnownExtension(class), Extension: &Extension{
			Class: clean(class), Name: class[strings.LastIndexByte(class, '.')+1:], Var: a.assignedName(c), Position: a.pos(u, c.id)}}
		a.extensions = append(a.extensions, e)
		return &obj{kind: objExtension, ext: e, unit: u, scope: c.scope}
	}
	return nil
}

// isExtensionName reports whether a qualified name looks like the class of a
// Flask extension that the table does not know. It is listed only once it is
// given an app.
func isExtensionName(q string) bool {
	i := strings.LastIndexByte(q, '.')
	return strings.HasPrefix(q, "flask_") && i > 0 && i+1 < len(q) && q[i+1] >= 'A' && q[i+1] <= 'Z' && !strings.Contains(q, "(") && !notExtensions[q[i+1:]]
}

// findCallSites notes what the project passes to its own functions.
func (a *analyzer) findCallSites() {
	for _, u := range a.units {
		for _, c := range u.calls {
			fn, args := u.tree.call(c.id)
			for _, o := range a.eval(c.scope, fn) {
				switch o.kind {
				case objFunc:
					self := 0
					if o.bound || o.scope.parent.kind == classScope && hasDecorator(o.scope, "classmethod") {
						self = 1
					}
					a.addSite(o.scope, argSite{c.scope, args, self})
				case objClass:
					for _, b := range a.classMember(o.scope, "__init__") {
						if b.kind == bindDef {
							a.addSite(b.def, argSite{c.scope, args, 1})
						}
					}
				case objInstance:
					for _, b := range a.classMember(o.scope, "__call__") {
						if b.kind == bindDef {
							a.addSite(b.def, argSite{c.scope, args, 1})
						}
					}
				}
			}
		}
		for _, st := range u.stores {
			base, name := u.tree.attr(st.target)
			if base == 0 || st.value == 0 {
				continue
			}
			for _, o := range a.eval(st.scope, base) {
				if o.kind == objApp {
					a.appAttrs[name] = append(a.appAttrs[name], binding{kind: bindExpr, scope: st.scope, node: st.value})
				}
			}
		}
	}
}

func (a *analyzer) addSite(fn *scope, s argSite) {
	if len(fn.sites) < 256 {
		fn.sites = append(fn.sites, s)
	}
}

// values folds a call's arguments.
func (a *analyzer) values(s *scope, args []arg) (positional []Value, keywords map[string]Value) {
	for _, x := range args {
		switch {
		case x.star == 2:
			if v := a.fold(s, x.val); v.Kind == Dict {
				for i, k := range v.Keys {
					if k.Kind == String {
						if keywords == nil {
							keywords = map[string]Value{}
						}
						keywords[k.Text] = v.Items[i]
					}
				}
			}
		case x.star == 1:
			positional = append(positional, a.fold(s, x.val).Items...)
		case x.name == "":
			positional = append(positional, a.fold(s, x.val))
		default:
			if keywords == nil {
				keywords = map[string]Value{}
			}
			keywords[x.name] = a.fold(s, x.val)
		}
	}
	return positional, keywords
}

func argNamed(args []arg, name string, index int) node {
	for i, x := range args {
		if x.name == name && name != "" || index >= 0 && i == index && x.name == "" && x.star == 0 {
			return x.val
		}
		if x.star == 1 {
			index = -1
		}
	}
	return 0
}

// extensionCalls completes apps and extensions: their arguments, and which
// extension is given the app.
func (a *analyzer) extensionCalls() {
	for _, o := range a.appObjs {
		a.completeApp(o)
	}
	for _, u := range a.units {
		for _, c := range u.calls {
			fn, args := u.tree.call(c.id)
			if o := a.made[madeKey{u, c.id}]; o != nil && o.kind == objExtension {
				e := o.ext
				e.Positional, e.Args = a.values(c.scope, args)
				if a.givesApp(c.scope, args) {
					e.Initialised, e.InitPosition, e.kept = true, e.Position, true
					e.apps = append(e.apps, a.appsIn(c.scope, args)...)
				}
				continue
			}
			base, method := u.tree.attr(fn)
			if base == 0 || method != "init_app" {
				continue
			}
			for _, o := range a.eval(c.scope, base) {
				switch o.kind {
				case objExtension:
					o.ext.Initialised, o.ext.InitPosition, o.ext.kept = true, a.pos(u, c.id), true
					o.ext.apps = append(o.ext.apps, a.appsIn(c.scope, args)...)
					if _, kw := a.values(c.scope, args); kw != nil {
						if o.ext.Args == nil {
							o.ext.Args = map[string]Value{}
						}
						for k, v := range kw {
							o.ext.Args[k] = v
						}
					}
				case objAPI:
					if p := argNamed(args, "app", 0); p != 0 {
						o.api.parents = append(o.api.parents, a.hosts(a.eval(c.scope, p))...)
					}
				}
			}
		}
	}
	for _, e := range a.extensions {
		if e.kept {
			a.m.Extensions = append(a.m.Extensions, e.Extension)
		}
	}
}

func (a *analyzer) hosts(in []*obj) []*obj {
	var out []*obj
	for _, o := range in {
		if o.kind == objApp || o.kind == objBlueprint {
			out = append(out, o)
		}
	}
	return out
}

func (a *analyzer) givesApp(s *scope, args []arg) bool {
	for _, x := range args {
		for _, o := range a.eval(s, x.val) {
			if o.kind == objApp || o.kind == objBlueprint {
				return true
			}
		}
	}
	return false
}

// appsIn returns the apps among the arguments of a call.
func (a *analyzer) appsIn(s *scope, args []arg) []*App {
	var out []*App
	for _, x := range args {
		for _, o := range a.eval(s, x.val) {
			if o.kind == objApp {
				out = append(out, o.app)
			}
		}
	}
	return out
}

func (a *analyzer) completeApp(o *obj) {
	app := o.app
	u, s := o.unit, o.scope
	var id node
	for k, m := range a.made {
		if m == o {
			id = k.id
		}
	}
	_, args := u.tree.call(id)
	_, app.Args = a.values(s, args)
	if s.kind == funcScope {
		for _, r := range s.returns {
			if slices.Contains(a.eval(s, r), o) {
				app.Factory, app.factoryFile, app.factoryStart = s.qual, u.path, s.start
			}
		}
	}
	dir := a.importDir(s, u, args)
	app.StaticFolder = folder(dir, app.Args, "static_folder", "static")
	app.TemplateFolder = folder(dir, app.Args, "template_folder", "templates")
	if app.StaticFolder != "" {
		app.StaticURLPath = "/" + path.Base(app.StaticFolder)
		if v, ok := app.Args["static_url_path"]; ok && v.Kind != None {
			app.StaticURLPath = ""
			if v.Known && v.Kind == String {
				app.StaticURLPath = v.Text
			} else {
				a.unknown(u, id, "the static_url_path of an app is not a constant")
			}
		}
	}
}

// importDir returns the folder that Flask takes for the app's root_path:
// that of the module named by the first argument.
func (a *analyzer) importDir(s *scope, u *unit, args []arg) string {
	name := argNamed(args, "import_name", 0)
	if v := a.fold(s, argNamed(args, "root_path", -1)); v.Known && v.Kind == String {
		return path.Clean(v.Text)
	}
	if name != 0 {
		if v := a.fold(s, name); v.Known && v.Kind == String {
			if m := a.findModule(u, v.Text, 0); m != nil {
				return m.dir
			}
		}
	}
	return u.dir
}

func folder(dir string, args map[string]Value, key, def string) string {
	name := def
	if v, ok := args[key]; ok {
		if !v.Known || v.Kind != String {
			return ""
		}
		name = v.Text
	}
	if name == "" || path.IsAbs(name) {
		return ""
	}
	p := path.Join(dir, name)
	if p == ".." || strings.HasPrefix(p, "../") {
		return ""
	}
	return p
}

// finish sorts everything.
func (a *analyzer) finish() {
	m := a.m
	byPos := func(x, y Position) int {
		return cmp.Or(strings.Compare(x.File, y.File), cmp.Compare(x.Line, y.Line), cmp.Compare(x.Column, y.Column))
	}
	slices.SortStableFunc(m.Apps, func(x, y *App) int { return byPos(x.Position, y.Position) })
	slices.SortStableFunc(m.Extensions, func(x, y *Extension) int { return byPos(x.Position, y.Position) })
	slices.SortStableFunc(m.Settings, func(x, y *Setting) int {
		return cmp.Or(byPos(x.Position, y.Position), strings.Compare(x.Key, y.Key), strings.Compare(string(x.Source), string(y.Source)))
	})
	slices.SortStableFunc(m.Env, func(x, y EnvVar) int { return byPos(x.Position, y.Position) })
	slices.SortStableFunc(m.Runs, func(x, y Run) int { return byPos(x.Position, y.Position) })
	slices.SortStableFunc(m.Hooks, func(x, y Hook) int { return byPos(x.Position, y.Position) })
	slices.SortStableFunc(m.Unknown, func(x, y Unknown) int {
		return cmp.Or(byPos(x.Position, y.Position), strings.Compare(x.What, y.What))
	})
	m.Unknown = slices.Compact(m.Unknown)
	byRule := func(x, y *Route) int {
		return cmp.Or(strings.Compare(x.Rule, y.Rule), strings.Compare(x.Endpoint, y.Endpoint),
			slices.Compare(x.Methods, y.Methods), byPos(x.Position, y.Position))
	}
	slices.SortStableFunc(m.Routes, byRule)
	slices.SortStableFunc(m.Unmounted, byRule)
	// Flask takes a name once: where several places may register a blueprint,
	// one of them does.
	type named struct {
		app                     *App
		fn                      *scope
		rule, endpoint, methods string
	}
	seen := map[named]bool{}
	m.Routes = slices.DeleteFunc(m.Routes, func(r *Route) bool {
		key := named{r.app, r.fn, r.Rule, r.Endpoint, strings.Join(r.Methods, " ")}
		twice := seen[key]
		seen[key] = true
		return twice
	})
	for _, b := range a.blueprints {
		m.Blueprints = append(m.Blueprints, b.pub)
	}
	slices.SortStableFunc(m.Blueprints, func(x, y *Blueprint) int { return byPos(x.Position, y.Position) })
}

// clean turns an internal name, where () marks an instance, into the one
// that the model shows.
func clean(q string) string { return strings.ReplaceAll(q, "()", "") }

// ---- questions that rules ask ----

// Call is one call in the project's code.
type Call struct {
	// Callee is the qualified name through imports and instances:
	// "hashlib.md5", "flask.Response.set_cookie", "shop.mail.send". A method
	// of something unknown is "?.name".
	Callee   string
	File     string
	Node     pysyntax.ID
	Position Position
	// Function is the function around the call, as module.name; the module
	// itself at the top level.
	Function    string
	Main        bool // below if __name__ == "__main__"
	Conditional bool

	scope *scope
	args  []arg
}

// Calls returns every call of the functions or methods with the given
// qualified names, in the order of their places. It may be used from several
// goroutines.
func (m *Model) Calls(names ...string) []Call {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.an.callIndex == nil {
		m.an.indexCalls()
	}
	var out []Call
	for _, n := range names {
		out = append(out, m.an.callIndex[n]...)
	}
	slices.SortStableFunc(out, func(x, y Call) int {
		return cmp.Or(strings.Compare(x.File, y.File), cmp.Compare(x.Position.Line, y.Position.Line), cmp.Compare(x.Position.Column, y.Position.Column))
	})
	return out
}

func (a *analyzer) indexCalls() {
	a.callIndex = map[string][]Call{}
	for _, u := range a.units {
		for _, c := range u.calls {
			fn, args := u.tree.call(c.id)
			q := a.qname(c.scope, fn)
			if q == "" {
				continue
			}
			if strings.HasSuffix(q, "()") {
				q += ".__call__" // an instance is called, not its class
			}
			q = clean(q)
			a.callIndex[q] = append(a.callIndex[q], Call{Callee: q, File: u.path, Node: pysyntax.ID(c.id), Position: a.pos(u, c.id),
				Function: c.scope.qual, Main: c.main, Conditional: c.cond, scope: c.scope, args: args})
		}
	}
}

// Args folds the arguments of a call.
func (m *Model) Args(c Call) (positional []Value, keywords map[string]Value) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.an.values(c.scope, c.args)
}

// Name returns the qualified name of what an expression in a file stands
// for, as [Call.Callee] spells it; empty when unknown.
func (m *Model) Name(file string, id pysyntax.ID) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.an.scopeAt(file, node(id))
	if s == nil {
		return ""
	}
	return clean(m.an.qname(s, node(id)))
}

// Value folds an expression in a file.
func (m *Model) Value(file string, id pysyntax.ID) Value {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.an.scopeAt(file, node(id))
	if s == nil {
		return Value{}
	}
	return m.an.fold(s, node(id))
}

// scopeAt returns the innermost scope around a node.
func (a *analyzer) scopeAt(file string, id node) *scope {
	u := a.byFile[file]
	if u == nil || u.path != file {
		i := slices.IndexFunc(a.units, func(u *unit) bool { return u.path == file })
		if i < 0 {
			return nil
		}
		u = a.units[i]
	}
	if int(id) >= len(u.tree.f.Nodes) {
		return nil
	}
	n := u.tree.at(id)
	// Scopes are in the order in which they begin: the innermost around n is
	// the last that begins before it, or one around that.
	i, _ := slices.BinarySearchFunc(u.scopes, n.Start+1, func(s *scope, at uint32) int { return cmp.Compare(s.start, at) })
	for s := u.scopes[max(i-1, 0)]; s != nil; s = s.parent {
		if s == u.root || s.end >= n.End && s.id != id && inBody(s, n.Start) {
			return s
		}
	}
	return u.root
}

// inBody reports whether an offset is in a definition's body and not in its
// parameters or bases, which belong to the scope around.
func inBody(s *scope, off uint32) bool {
	return s.kind == moduleScope || len(s.def.body) > 0 && off >= s.unit.tree.at(s.def.body[0]).Start
}
