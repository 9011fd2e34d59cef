// Package flask knows how Flask applications are written: where apps,
// blueprints, extensions and settings come from, what the settings mean by
// default, and which routes there are. It knows no vulnerability.
//
// [Analyze] reads parsed Python and environment files and returns a [Model].
// It follows imports through the project (absolute, relative, re-exported),
// factories, values passed to functions, config classes and their bases, and
// folds constants; it runs nothing. What it could not follow is listed in
// [Model.Unknown], so that nobody takes a gap for an absence.
//
// Knowledge about Flask, Werkzeug and the extensions is data: see
// [KnownSettings] and the tables in knowledge.go.
package flask

import (
	"slices"
	"strings"
	"sync"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// Source is one file given to [Analyze].
type Source struct {
	Path    string         // relative to the project, with slashes
	Python  *pysyntax.File // nil for an environment file
	Data    []byte
	Test    bool // test code: not part of the app
	Example bool // a pattern such as .env.example: no settings
}

// Position is a range in a file. Lines and columns count from 1, columns in
// characters; the end is exclusive.
type Position struct {
	File      string `json:"file"`
	Line      int    `json:"line"`
	Column    int    `json:"column,omitempty"`
	EndLine   int    `json:"end_line,omitempty"`
	EndColumn int    `json:"end_column,omitempty"`
}

// Model is what a project's source says about its Flask apps. Every list is
// sorted by position, routes by rule.
type Model struct {
	Apps       []*App       `json:"apps"`
	Blueprints []*Blueprint `json:"blueprints,omitempty"`
	Extensions []*Extension `json:"extensions,omitempty"`
	Settings   []*Setting   `json:"settings,omitempty"`
	// Classes are the classes and modules that settings stand in.
	Classes []*ConfigClass `json:"classes,omitempty"`
	Env     []EnvVar       `json:"env,omitempty"`
	Runs    []Run          `json:"runs,omitempty"`
	Hooks   []Hook         `json:"hooks,omitempty"`
	Routes  []*Route       `json:"routes"`
	// Unmounted are routes of blueprints and APIs that nothing registers, as
	// far as could be seen: see Unknown before calling them dead.
	Unmounted []*Route `json:"unmounted,omitempty"`
	// Operations are those of the documents that Connexion reads.
	Operations []*Operation `json:"-"`
	// Unknown lists what was seen and not understood.
	Unknown []Unknown `json:"unknown,omitempty"`

	mu sync.Mutex // guards an, whose tables fill on demand
	an *analyzer
}

// App is one Flask application: a call of Flask or of a subclass.
type App struct {
	Name     string   `json:"name"` // the variable it is bound to
	Position Position `json:"position"`
	// Factory is the function that returns the app, as package.module.name;
	// empty for an app made at import.
	Factory string `json:"factory,omitempty"`
	// Folders relative to the project; empty where unknown or switched off.
	StaticFolder   string `json:"static_folder,omitempty"`
	StaticURLPath  string `json:"static_url_path,omitempty"`
	TemplateFolder string `json:"template_folder,omitempty"`
	// Args are the keyword arguments given to the constructor.
	Args map[string]Value `json:"args,omitempty"`

	id           int
	factoryFile  string
	factoryStart uint32
}

// FactoryAt returns the file and the offset in bytes of the definition of
// the factory; ok is false for an app made at import.
func (a *App) FactoryAt() (file string, start uint32, ok bool) {
	return a.factoryFile, a.factoryStart, a.Factory != ""
}

// Blueprint is one blueprint (or Flask-RESTX namespace).
type Blueprint struct {
	Name     string           `json:"name"`
	Class    string           `json:"class"`
	Position Position         `json:"position"`
	Mounts   []Mount          `json:"mounts,omitempty"`
	Args     map[string]Value `json:"args,omitempty"`
	// StaticFolder and TemplateFolder as in App.
	StaticFolder   string `json:"static_folder,omitempty"`
	TemplateFolder string `json:"template_folder,omitempty"`
}

// Mount is one registration of a blueprint.
type Mount struct {
	// Parent is the blueprint it is registered on; empty for an app.
	Parent   string   `json:"parent,omitempty"`
	Name     string   `json:"name"` // the name there, which endpoints begin with
	Prefix   string   `json:"prefix,omitempty"`
	Position Position `json:"position"`
}

// Extension is one use of an extension: its constructor is called.
type Extension struct {
	// Class is the qualified name in the form of the Extensions table, such
	// as "flask_wtf.CSRFProtect", and Name the short one.
	Class    string   `json:"class"`
	Name     string   `json:"name"`
	Var      string   `json:"var,omitempty"`
	Position Position `json:"position"`
	// Initialised is set when the extension was given the app: in the
	// constructor or by init_app at InitPosition.
	Initialised  bool             `json:"initialised"`
	InitPosition Position         `json:"init_position,omitzero"`
	Positional   []Value          `json:"positional,omitempty"`
	Args         map[string]Value `json:"args,omitempty"` // of both calls

	apps []*App // that it was given, as far as understood
}

// Run is a call of app.run or of another development server.
type Run struct {
	Callee   string   `json:"callee"` // "flask.Flask.run", "flask_socketio.SocketIO.run", "werkzeug.serving.run_simple"
	Position Position `json:"position"`
	// Main is set below `if __name__ == "__main__":`, where gunicorn does not
	// come.
	Main bool             `json:"main"`
	Args map[string]Value `json:"args,omitempty"`
}

// Hook is a function that Flask calls around requests.
type Hook struct {
	// Kind is the decorator's name: before_request, after_request,
	// errorhandler, …
	Kind     string   `json:"kind"`
	Function string   `json:"function"`
	Position Position `json:"position"` // of the function
	// Blueprint is empty for a hook on the app.
	Blueprint string  `json:"blueprint,omitempty"`
	Args      []Value `json:"args,omitempty"`
	// Gate is set on a before_request hook that turns away who is not known.
	Gate bool `json:"gate,omitempty"`
	// Except holds the constants that the hook compares the request with:
	// endpoints, paths and blueprints that a gate may let through.
	Except []string `json:"except,omitempty"`

	fn *scope
}

// Unknown is something seen and not understood.
type Unknown struct {
	Position Position `json:"position"`
	What     string   `json:"what"` // one clause, no full stop
}

// Decorator is one decorator of a view, its name resolved through imports:
// "flask_login.login_required", "shop.auth.admin_required",
// "flask_limiter.Limiter.limit".
type Decorator struct {
	Name       string           `json:"name"`
	Position   Position         `json:"position"`
	Positional []Value          `json:"positional,omitempty"`
	Args       map[string]Value `json:"args,omitempty"`
	// Above is set on a decorator that stands above the one that registers
	// the route: Flask registered the function without it, so for requests
	// it does nothing.
	Above bool `json:"above,omitempty"`
	// Login is set on a decorator that, by its name or by what the project
	// wrote for it, lets only known users through.
	Login bool `json:"login,omitempty"`
}

// Param is one variable part of a rule.
type Param struct {
	Name      string `json:"name"`
	Converter string `json:"converter"` // "string", "int", "path", … or a registered one
	Args      string `json:"args,omitempty"`
	// Type is what the view gets: str, int, float, UUID; empty for a
	// converter of the project.
	Type string `json:"type,omitempty"`
	// Regex is what a converter of the project accepts, as far as its class
	// says so.
	Regex string `json:"regex,omitempty"`
}

// RouteKind says what a route is for, by its address, its name and what its
// function does.
type RouteKind string

// The kinds of routes.
const (
	KindPage     RouteKind = "page"
	KindLogin    RouteKind = "login"
	KindLogout   RouteKind = "logout"
	KindRegister RouteKind = "register"
	KindReset    RouteKind = "reset"
	KindToken    RouteKind = "token"
	KindAdmin    RouteKind = "admin"
	KindAPI      RouteKind = "api"
	KindStatic   RouteKind = "static"
	KindHealth   RouteKind = "health"
)

// Route is one rule of an app. The facts about its function are read from
// the function's text and from the project functions it calls; Form, Query
// and JSON may therefore be incomplete where a key is computed, which
// DynamicKeys says.
type Route struct {
	Rule     string   `json:"rule"`
	Methods  []string `json:"methods"` // as declared, sorted; see Allowed
	Endpoint string   `json:"endpoint"`
	// Function is the view as package.module.name, empty for what Flask or
	// an extension serves.
	Function  string `json:"function,omitempty"`
	File      string `json:"file"`
	Line      int    `json:"line"`
	Blueprint string `json:"blueprint,omitempty"`
	// Position is the place of the registration: the decorator or the call.
	Position Position `json:"position"`
	// FunctionPosition is the place of the whole function or class, decorators
	// left out.
	FunctionPosition Position    `json:"function_position,omitzero"`
	Params           []Param     `json:"params,omitempty"`
	Decorators       []Decorator `json:"decorators,omitempty"`

	// LoginRequired: Gate says by what. Roles are the constants given to a
	// decorator that checks roles or permissions.
	LoginRequired bool     `json:"login_required"`
	Gate          string   `json:"gate,omitempty"`
	Roles         []string `json:"roles,omitempty"`
	// CSRFExempt is set on a view that is freed of CSRF protection; ExemptAt is
	// the decorator or the call that frees it, or its blueprint.
	CSRFExempt bool     `json:"csrf_exempt,omitempty"`
	ExemptAt   Position `json:"exempt_at,omitzero"`

	Uploads bool     `json:"uploads,omitempty"`
	Form    []string `json:"form,omitempty"`
	Query   []string `json:"query,omitempty"`
	JSON    []string `json:"json,omitempty"`
	Files   []string `json:"files,omitempty"`
	// Types are the types of fields that a form class or a parser names and
	// that are not text: int, float, bool, date, …
	Types       map[string]string `json:"types,omitempty"`
	DynamicKeys bool              `json:"dynamic_keys,omitempty"`
	ReadsBody   bool              `json:"reads_body,omitempty"` // form, JSON, files or raw data

	Redirects   bool `json:"redirects,omitempty"`
	WritesState bool `json:"writes_state,omitempty"`
	// WriteAt is the first place that writes, the visitor's own session left
	// out.
	WriteAt Position `json:"write_at,omitzero"`
	// OnlyKeeps is set where something is made if it is not there yet, and
	// nothing else is written: a cache, a row that is made when it is first
	// asked for.
	OnlyKeeps bool `json:"only_keeps,omitempty"`
	// OnlySession is set when the state is the visitor's own session.
	OnlySession bool      `json:"only_session,omitempty"`
	LogsIn      bool      `json:"logs_in,omitempty"`
	LogsOut     bool      `json:"logs_out,omitempty"`
	Kind        RouteKind `json:"kind"`

	// OpenMethods are the methods of a class-based view whose functions do not
	// ask for a login by themselves, where those of others do.
	OpenMethods []string `json:"open_methods,omitempty"`

	autoOptions bool
	fn          *scope
	app         *App
	hooks       []*Hook
	redirectTo  bool
	shared      bool
}

// Allowed returns the methods that the app answers: the declared ones, HEAD
// where there is GET, and OPTIONS unless the app switched it off. Sorted.
func (r *Route) Allowed() []string {
	m := slices.Clone(r.Methods)
	if slices.Contains(m, "GET") {
		m = append(m, "HEAD")
	}
	if r.autoOptions {
		m = append(m, "OPTIONS")
	}
	slices.Sort(m)
	return slices.Compact(m)
}

// Writes reports whether the route answers a method that may change state
// (RFC 9110, section 9.2.1).
func (r *Route) Writes() bool {
	return slices.ContainsFunc(r.Methods, func(m string) bool {
		return m != "GET" && m != "HEAD" && m != "OPTIONS" && m != "TRACE"
	})
}

// TemplateFolders returns every folder, relative to the project, that an app
// or blueprint loads templates from. Sorted.
func (m *Model) TemplateFolders() []string {
	var out []string
	for _, a := range m.Apps {
		out = append(out, a.TemplateFolder)
	}
	for _, b := range m.Blueprints {
		out = append(out, b.TemplateFolder)
	}
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(s string) bool { return s == "" })
}

// Extension returns the uses of the extension with a short name, such as
// "CSRFProtect".
func (m *Model) Extension(name string) []*Extension {
	var out []*Extension
	for _, e := range m.Extensions {
		if e.Name == name {
			out = append(out, e)
		}
	}
	return out
}

// SourceKind is the way a setting gets into an app.
type SourceKind string

// The ways a setting gets into an app.
const (
	FromAssign    SourceKind = "assign"    // app.config["X"] = v
	FromUpdate    SourceKind = "update"    // app.config.update(X=v), from_mapping
	FromAttribute SourceKind = "attribute" // app.secret_key = v
	FromClass     SourceKind = "class"     // an attribute of a config class
	FromModule    SourceKind = "module"    // a name in a module or file that from_object or from_pyfile reads
	FromRun       SourceKind = "run"       // app.run(debug=True)
	FromEnvFile   SourceKind = "env-file"  // a line of .env, .flaskenv or the like
	FromPrefix    SourceKind = "prefix"    // from_prefixed_env with the variable in an env file
)

// Setting is one place that gives a setting a value.
type Setting struct {
	Key    string     `json:"key"`
	Value  Value      `json:"value"`
	Source SourceKind `json:"source"`
	// Class is the config class, as package.module.name.
	Class    string   `json:"class,omitempty"`
	Position Position `json:"position"`
	// FromEnv is the environment variable that decides at run time.
	FromEnv string `json:"from_env,omitempty"`
	// Profile is what a name says the setting is for: production, staging,
	// development, testing; empty when for all.
	Profile string `json:"profile,omitempty"`
	// Applied is set when a call was found that loads the setting into an
	// app; a config class that is chosen in a way not understood is not
	// applied, and may be all the same.
	Applied bool `json:"applied"`
	// Conditional is set below an if that was not decided.
	Conditional bool `json:"conditional,omitempty"`
	// Default is set for setdefault, which only speaks when nothing else did.
	Default bool `json:"default,omitempty"`

	rank int
	node node
	cls  *scope
}

// EnvVar is one line of an environment file.
type EnvVar struct {
	Name     string   `json:"name"`
	Value    string   `json:"-"` // may be a secret
	Position Position `json:"position"`
	Profile  string   `json:"profile,omitempty"`
	Example  bool     `json:"example,omitempty"`
}

// EnvVars returns the lines of environment files, patterns left out, that set
// a variable.
func (m *Model) EnvVars(name string) []EnvVar {
	var out []EnvVar
	for _, v := range m.Env {
		if v.Name == name && !v.Example {
			out = append(out, v)
		}
	}
	return out
}

// Effective is what a setting comes to.
type Effective struct {
	// Setting is the place that decides; nil means that the value is the
	// framework's default.
	Setting *Setting
	Value   Value
	// Certain is false when another place may decide instead: a class that
	// nothing is known to load, a condition, a value not understood.
	Certain bool
	// All are the places that were weighed, the deciding one last.
	All []*Setting
}

// Effective returns what key comes to in a profile ("production", …; empty
// for any): what is assigned in code wins over what an object or a file
// brings, a subclass over its base, a later line over an earlier one, and the
// documented default stands when nothing speaks.
func (m *Model) Effective(key, profile string) Effective {
	var all []*Setting
	near := m.inheritance(profile)
	for _, s := range m.Settings {
		_, inherited := near[s.Class]
		if s.Key == key && (profile == "" || s.Profile == "" || s.Profile == profile || s.Class != "" && inherited) {
			all = append(all, s)
		}
	}
	weight := func(s *Setting) int {
		w := s.rank * 1000
		if s.Applied {
			w += 500
		}
		if d, ok := near[s.Class]; ok && s.Class != "" {
			w += max(0, 100-d)
		}
		if s.Profile != "" && s.Profile == profile {
			w += 200
		}
		if s.Default {
			w -= 1 << 16
		}
		return w
	}
	slices.SortStableFunc(all, func(a, b *Setting) int { return weight(a) - weight(b) })
	e := Effective{All: all, Certain: true}
	if len(all) == 0 {
		if k, ok := KnownSetting(key); ok {
			e.Value = k.Default
		}
		for _, u := range m.Unknown {
			if strings.HasPrefix(u.What, unknownSettings) {
				e.Certain = false
			}
		}
		return e
	}
	e.Setting = all[len(all)-1]
	e.Value = e.Setting.Value
	e.Certain = e.Setting.Applied && !e.Setting.Conditional && e.Value.Known
	for _, s := range all[:len(all)-1] {
		if weight(s) == weight(e.Setting) && s.Position.File != e.Setting.Position.File && s.Value.String() != e.Value.String() {
			e.Certain = false
		}
	}
	return e
}

// inheritance returns the config classes that speak in a profile, with the
// distance to the class that is loaded: 0 for that one, 1 for its bases. A
// class is loaded in a profile when its name says so, or when the app loads
// it whatever its name says.
func (m *Model) inheritance(profile string) map[string]int {
	near := map[string]int{}
	var level []*ConfigClass
	for _, c := range m.Classes {
		if c.Always || profile != "" && c.Profile == profile {
			level = append(level, c)
		}
	}
	for d := 0; len(level) > 0; d++ {
		var next []*ConfigClass
		for _, c := range level {
			if _, ok := near[c.Name]; ok {
				continue
			}
			near[c.Name] = d
			for _, b := range m.Classes {
				if slices.Contains(c.Bases, b.Name) {
					next = append(next, b)
				}
			}
		}
		level = next
	}
	return near
}

// unknownSettings begins the text of every Unknown about settings.
const unknownSettings = "settings "
