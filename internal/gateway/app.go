package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/dewar-security/dewar/internal/guard"
)

// App is a Flask app as gunicorn will be told to load it.
type App struct {
	// Target is gunicorn's application: module:name or
	// module:factory('argument'). A module alone means that the source does
	// not show which name is the app: then Flask's own rules choose it inside
	// the worker.
	Target string
	// Source says where the target was found: "wsgi.py", "$FLASK_APP",
	// "/srv/shop/.flaskenv", "settings".
	Source string
	// Dir is the working directory of the app: the project's folder.
	Dir string
	// Path is the folder on sys.path from which the module is imported: Dir,
	// or higher up when Dir lies inside a package.
	Path string
	// Python is the interpreter of the app's virtual environment, and
	// PythonSource says why that one.
	Python       string
	PythonSource string
	// Env holds what .env and .flaskenv add to the environment. It may hold
	// secrets: it goes to the child and nowhere else.
	Env map[string]string
	// Notes is what a person should know about the search.
	Notes []string
}

// AppOptions narrows the search for the app. The zero value searches as the
// flask command does.
type AppOptions struct {
	// Target is the app, when settings or flags name it: it wins over
	// FLASK_APP. Everything FLASK_APP may hold is allowed.
	Target string
	// TargetSource says where Target was set, for messages.
	TargetSource string
	// Python is the interpreter, when settings name it.
	Python string
	// Environ is the environment; nil means [os.Environ].
	Environ []string
	// Profile decides whether FLASK_DEBUG of a dotenv file counts: only in
	// development.
	Profile guard.Profile
}

// NoAppError says that no app was found, and what was looked for.
type NoAppError struct {
	Dir    string
	Looked []string // one line per place
	Fix    string
}

// Error lists every place that was looked at, and the way out.
func (e *NoAppError) Error() string {
	return fmt.Sprintf("no Flask app found in %s\n  looked for %s\n  %s", e.Dir, strings.Join(e.Looked, "\n  looked for "), e.Fix)
}

const fixTarget = `name it: dewar run --app module:name, target = "module:name" under [app] in dewar.toml, or FLASK_APP`

// FindApp finds the app of the project in dir, in the order of the flask
// command: the target given, FLASK_APP from the environment, .env and
// .flaskenv, then wsgi.py and app.py (or packages of these names). It reads
// source text and imports nothing.
func FindApp(dir string, o AppOptions) (App, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return App{}, fmt.Errorf("project folder: %w", err)
	}
	if st, err := os.Stat(dir); err != nil {
		return App{}, fmt.Errorf("project folder: %w", err)
	} else if !st.IsDir() {
		return App{}, fmt.Errorf("project folder: %s is a file: give the folder it is in, and the file with --app", dir)
	}
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	env := environmentOf(o.Environ)
	app := App{Dir: dir, Path: dir}
	if app.Env, app.Notes, err = readDotenv(dir, env); err != nil {
		return App{}, err
	}
	// "flask run" loads these files and turns the debugger on; a production
	// server would not, and neither do we.
	if v, ok := app.Env["FLASK_DEBUG"]; ok && o.Profile != guard.Development {
		delete(app.Env, "FLASK_DEBUG")
		if isTrue(v) {
			app.Notes = append(app.Notes, "FLASK_DEBUG from a dotenv file is for \"flask run\": not passed on outside the development profile")
		}
	}
	if app.Python, app.PythonSource, err = findPython(dir, o.Python, env); err != nil {
		return App{}, err
	}

	target, source := o.Target, o.TargetSource
	if source == "" {
		source = "settings"
	}
	if target == "" {
		if v := env["FLASK_APP"]; v != "" {
			target, source = v, "$FLASK_APP"
		} else if v := app.Env["FLASK_APP"]; v != "" {
			target, source = v, "FLASK_APP in a dotenv file"
		}
	}
	if target != "" {
		app.Source = source
		return app.resolve(target)
	}

	none := &NoAppError{Dir: dir, Fix: fixTarget, Looked: []string{
		"FLASK_APP in the environment, .env and .flaskenv: not set",
	}}
	for _, base := range []string{"wsgi.py", "app.py"} {
		name := moduleFile(filepath.Join(dir, base))
		if name == "" {
			none.Looked = append(none.Looked, fmt.Sprintf("%s or a package %s/: not there", base, strings.TrimSuffix(base, ".py")))
			continue
		}
		rel, _ := filepath.Rel(dir, name)
		app.Source = rel
		return app.resolve(base)
	}
	return App{}, none
}

func isTrue(v string) bool {
	return !slices.Contains([]string{"", "0", "false", "no"}, strings.ToLower(v))
}

// resolve turns what FLASK_APP may hold (path/to/app.py:name, package.module,
// module:factory('x')) into gunicorn's target.
func (a App) resolve(spec string) (App, error) {
	spec = strings.TrimSpace(spec)
	path, name := splitTarget(spec)
	if path == "" || strings.ContainsFunc(path, unicode.IsControl) {
		return App{}, fmt.Errorf("%s: %q names no module: write module:name", a.Source, spec)
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(a.Dir, path)
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	path = strings.TrimSuffix(path, ".py")
	if filepath.Base(path) == "__init__" {
		path = filepath.Dir(path)
	}
	// A dotted name is one path element for flask as well; a package above
	// belongs to the module's name.
	module := filepath.Base(path)
	root := filepath.Dir(path)
	for exists(filepath.Join(root, "__init__.py")) && filepath.Dir(root) != root {
		module = filepath.Base(root) + "." + module
		root = filepath.Dir(root)
	}
	a.Path = root
	file := moduleFile(filepath.Join(root, strings.ReplaceAll(module, ".", string(filepath.Separator))))
	for part := range strings.SplitSeq(module, ".") {
		if !isIdentifier(part) {
			return App{}, fmt.Errorf("%s: %q is no module name: %q is not a Python identifier", a.Source, module, part)
		}
	}

	var src source
	if file != "" {
		text, err := readSource(file)
		if err != nil {
			return App{}, fmt.Errorf("%s: %w", a.Source, err)
		}
		src = scanSource(text)
	} else {
		// The module may be installed in the virtual environment.
		a.Notes = append(a.Notes, fmt.Sprintf("%s: no file for module %s below %s: it is looked for among the installed packages", a.Source, module, root))
	}

	if name != "" {
		name = strings.TrimSpace(name)
		m := targetName.FindStringSubmatch(name)
		if m == nil {
			return App{}, fmt.Errorf("%s: %q in %q is neither a name nor a call with literal arguments: write module:app or module:create_app('production')", a.Source, name, spec)
		}
		// flask calls a factory that is only named; gunicorn would take the
		// function itself for a WSGI app.
		if m[2] == "" && (src.functions[m[1]] || file == "" && isFactoryName(m[1])) {
			name += "()"
		}
		a.Target = module + ":" + name
		return a, nil
	}
	a.Target = module
	if file == "" {
		return a, nil // Flask's rules choose inside the worker
	}
	if chosen := src.choose(); chosen != "" {
		a.Target += ":" + chosen
		return a, nil
	}
	rel, err := filepath.Rel(a.Dir, file)
	if err != nil {
		rel = file
	}
	switch {
	case len(src.apps) > 1:
		return App{}, &NoAppError{Dir: a.Dir, Fix: fixTarget, Looked: []string{
			fmt.Sprintf("one Flask app in %s: there are several (%s)", rel, strings.Join(src.apps, ", ")),
		}}
	case src.opaque:
		return a, nil
	}
	return App{}, &NoAppError{Dir: a.Dir, Fix: fixTarget, Looked: []string{
		fmt.Sprintf("app or application in %s: no such name", rel),
		fmt.Sprintf("a name bound to Flask(…) in %s: none", rel),
		fmt.Sprintf("create_app or make_app in %s: no such function", rel),
	}}
}

var targetName = regexp.MustCompile(`^([\p{L}_][\p{L}\p{N}_]*)(\s*\((?s:.*)\))?$`)

// splitTarget cuts at the first colon that is not a drive letter's, as flask
// does.
func splitTarget(s string) (path, name string) {
	for i := range len(s) {
		if s[i] == ':' && (i+1 == len(s) || s[i+1] != '/' && s[i+1] != '\\') {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func isFactoryName(s string) bool { return s == "create_app" || s == "make_app" }

func isIdentifier(s string) bool {
	for i, r := range s {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsNumber(r)) {
			return false
		}
	}
	return s != ""
}

// moduleFile returns the source of the module at path (without .py): a
// package's __init__.py wins over a module, as in Python.
func moduleFile(path string) string {
	path = strings.TrimSuffix(path, ".py")
	for _, name := range []string{filepath.Join(path, "__init__.py"), path + ".py"} {
		if st, err := os.Stat(name); err == nil && st.Mode().IsRegular() {
			return name
		}
	}
	return ""
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

const maxSource = 8 << 20

func readSource(name string) (string, error) {
	st, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	if st.Size() > maxSource {
		return "", fmt.Errorf("%s has %d bytes; more than %d is no entry point: name the app with --app", name, st.Size(), maxSource)
	}
	b, err := os.ReadFile(name)
	return string(b), err
}

// source is what the text of a module shows without running it.
type source struct {
	names     map[string]bool // bound at the top level
	functions map[string]bool // defined at the top level
	apps      []string        // bound to Flask(…) at the top level
	opaque    bool            // names may come from elsewhere: import *, exec
}

var (
	topAssign = regexp.MustCompile(`^([\p{L}_][\p{L}\p{N}_]*)\s*(?::[^=]*)?=([^=].*)?$`)
	topDef    = regexp.MustCompile(`^(?:async\s+)?def\s+([\p{L}_][\p{L}\p{N}_]*)\s*\(`)
	topBlock  = regexp.MustCompile(`^(?:class|def|async\s+def)\b`)
	topImport = regexp.MustCompile(`^(?:from\s+\S+\s+)?import\s+(.*)$`)
	flaskCall = regexp.MustCompile(`^\s*(?:[\p{L}_][\p{L}\p{N}_]*\s*\.\s*)?Flask\s*\(`)
)

// scanSource finds the names bound at the module's top level. It is a hint,
// not a parser: package pysyntax is that.
func scanSource(text string) source {
	s := source{names: map[string]bool{}, functions: map[string]bool{}}
	inside := false // a function or class: what is bound there is its own
	for line := range strings.SplitSeq(logicalLines(text), "\n") {
		line = strings.TrimRight(line, " \t\r\f")
		body := strings.TrimLeft(line, " \t")
		if body == "" {
			continue
		}
		if len(line) == len(body) {
			inside = topBlock.MatchString(line)
		} else if inside {
			continue
		}
		if m := topImport.FindStringSubmatch(body); m != nil {
			list := strings.Trim(strings.TrimSpace(m[1]), "()")
			for item := range strings.SplitSeq(list, ",") {
				f := strings.Fields(item)
				switch {
				case len(f) == 1 && f[0] == "*":
					s.opaque = true
				case len(f) == 1 && len(line) == len(body):
					s.names[f[0]] = true
				case len(f) == 3 && f[1] == "as" && len(line) == len(body):
					s.names[f[2]] = true
				case len(f) > 0:
					s.opaque = true // inside try or if: known only when run
				}
			}
			continue
		}
		if len(line) != len(body) {
			// An indented binding counts for the module when it stands in an
			// if, try or with; only running it tells.
			if m := topAssign.FindStringSubmatch(body); m != nil && (m[1] == "app" || m[1] == "application" || flaskCall.MatchString(m[2])) {
				s.opaque = true
			}
			continue
		}
		if m := topDef.FindStringSubmatch(line); m != nil {
			// def application(environ, start_response) is an app, not a factory.
			s.names[m[1]] = true
			s.functions[m[1]] = !strings.Contains(line, "environ")
		} else if m := topAssign.FindStringSubmatch(line); m != nil {
			s.names[m[1]] = true
			delete(s.functions, m[1])
			if flaskCall.MatchString(m[2]) && !slices.Contains(s.apps, m[1]) {
				s.apps = append(s.apps, m[1])
			}
		}
		if strings.HasPrefix(line, "globals()") || strings.HasPrefix(line, "exec(") {
			s.opaque = true
		}
	}
	return s
}

// choose follows flask's find_best_app: app, application, the only Flask
// object, create_app, make_app. It returns "" when the text cannot tell.
func (s source) choose() string {
	for _, n := range []string{"app", "application"} {
		if s.names[n] && !s.functions[n] {
			return n
		}
	}
	if len(s.apps) == 1 {
		return s.apps[0]
	}
	if len(s.apps) > 1 || s.opaque {
		return ""
	}
	for _, n := range []string{"create_app", "make_app"} {
		if s.names[n] {
			return n + "()"
		}
	}
	return ""
}

// logicalLines takes strings and comments out of Python source and joins
// lines inside brackets or after a backslash, so that every logical line is
// one line of text: "app = Flask(__name__)" in a docstring is no binding.
func logicalLines(src string) string {
	var b strings.Builder
	depth := 0
	for i := 0; i < len(src); {
		c := src[i]
		switch {
		case c == '#':
			for i < len(src) && src[i] != '\n' {
				i++
			}
		case c == '"' || c == '\'':
			n := skipString(src[i:])
			b.WriteString(`""`)
			i += n
		case c == '\\' && i+1 < len(src) && src[i+1] == '\n':
			b.WriteByte(' ')
			i += 2
		case c == '\\' && strings.HasPrefix(src[i+1:], "\r\n"):
			b.WriteByte(' ')
			i += 3
		case c == '\n' && depth > 0:
			b.WriteByte(' ')
			i++
		default:
			switch c {
			case '(', '[', '{':
				depth++
			case ')', ']', '}':
				depth = max(depth-1, 0)
			}
			b.WriteByte(c)
			i++
		}
	}
	return b.String()
}

// skipString returns the length of the string literal at the start of s, up
// to the end of the line when a single-quoted one is not closed.
func skipString(s string) int {
	q := s[:1]
	long := strings.HasPrefix(s, q+q+q)
	i := 1
	if long {
		i = 3
	}
	for i < len(s) {
		switch {
		case s[i] == '\\':
			i += 2
		case long && strings.HasPrefix(s[i:], q+q+q):
			return i + 3
		case !long && s[i] == q[0]:
			return i + 1
		case !long && s[i] == '\n':
			return i
		default:
			i++
		}
	}
	return len(s)
}

// findPython returns the interpreter of the project's virtual environment.
func findPython(dir, given string, env environment) (python, source string, err error) {
	if given != "" {
		p := given
		if !filepath.IsAbs(p) && strings.ContainsRune(p, filepath.Separator) {
			p = filepath.Join(dir, p)
		}
		if st, err := os.Stat(p); err == nil && st.IsDir() {
			p = filepath.Join(p, "bin", "python")
		}
		if p, err = lookExecutable(p, env["PATH"]); err != nil {
			return "", "", fmt.Errorf("app.python: %q: %w: give the interpreter of the app's virtual environment", given, err)
		}
		return p, "settings", nil
	}
	var looked []string
	venvs := []struct{ dir, source string }{
		{env["VIRTUAL_ENV"], "$VIRTUAL_ENV"},
		{filepath.Join(dir, ".venv"), ".venv"},
		{filepath.Join(dir, "venv"), "venv"},
	}
	for _, v := range venvs {
		if v.dir == "" {
			continue
		}
		p := filepath.Join(v.dir, "bin", "python")
		if q, err := lookExecutable(p, ""); err == nil {
			return q, v.source, nil
		}
		looked = append(looked, p)
	}
	for _, name := range []string{"python3", "python"} {
		if p, err := lookExecutable(name, env["PATH"]); err == nil {
			return p, "PATH", nil
		}
		looked = append(looked, name+" on PATH")
	}
	return "", "", fmt.Errorf("no Python found (looked for %s): make a virtual environment (python3 -m venv .venv) or set python under [app] in dewar.toml", strings.Join(looked, ", "))
}

// lookExecutable is exec.LookPath with the PATH of the app's environment. It
// never looks in relative entries of PATH (CWE-426), and does not resolve
// links: a virtual environment's python is one.
func lookExecutable(name, path string) (string, error) {
	check := func(p string) error {
		st, err := os.Stat(p)
		switch {
		case err != nil:
			var pe *fs.PathError
			if errors.As(err, &pe) {
				return pe.Err
			}
			return err
		case st.IsDir():
			return errors.New("is a folder")
		case st.Mode()&0o111 == 0:
			return errors.New("is not executable")
		}
		return nil
	}
	if strings.ContainsRune(name, filepath.Separator) {
		p, err := filepath.Abs(name)
		if err != nil {
			return "", err
		}
		return p, check(p)
	}
	for _, d := range filepath.SplitList(path) {
		if !filepath.IsAbs(d) {
			continue
		}
		if p := filepath.Join(d, name); check(p) == nil {
			return p, nil
		}
	}
	return "", errors.New("not found on PATH")
}
