package flask_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// factLine is one path of a line of the knowledge with one of its verbs.
type factLine struct {
	at     string // file:line
	path   string
	verb   string
	args   []string
	absent string // why the real package cannot be asked: "gone" or "open"
}

// sinkKinds, useKinds and the others are the kinds that are agreed upon. A
// further kind is one that some rule asks for by name: a fact of a kind that
// nobody asks for is a slip of the pen.
var (
	sinkKinds = strings.Fields(`sql nosql command code template-text response redirect path-read path-write path-delete path-stat
		send-file archive deserialize yaml xml xpath ldap url header cookie-value log regex session import setattr email-header xslt`)
	useKinds = strings.Fields(`hash cipher random cookie jwt-decode jwt-encode tls request yaml-load xml-parser subprocess tempfile
		password-hash bind-all markup chmod debug-run upload-save cors archive-extract session-login credential`)
	sourceKinds = strings.Fields(`query form json cookie header path file file-content body url websocket stored`)
	entryKinds  = strings.Fields(`view hook error filter task cli message graphql`)
	cleanKinds  = append([]string{"html"}, sinkKinds...)
)

// knowledgeLines reads the facts as text, with the directives in comments
// that pyflow does not care for.
func knowledgeLines(t *testing.T) []factLine {
	t.Helper()
	files, err := fs.Glob(flask.Knowledge, "knowledge/*.facts")
	if err != nil || len(files) == 0 {
		t.Fatalf("no facts: %v", err)
	}
	var out []factLine
	for _, file := range files {
		data, err := fs.ReadFile(flask.Knowledge, file)
		if err != nil {
			t.Fatal(err)
		}
		absent, n := "", 0
		for line := range strings.Lines(string(data)) {
			n++
			line = strings.TrimSpace(line)
			at := fmt.Sprintf("%s:%d", path.Base(file), n)
			switch {
			case line == "":
				absent = ""
				continue
			case strings.HasPrefix(line, "#"):
				word, reason, _ := strings.Cut(line[1:], " ")
				if word == "gone" || word == "open" {
					if strings.TrimSpace(reason) == "" {
						t.Errorf("%s: #%s without a reason", at, word)
					}
					absent = word
				}
				continue
			}
			words := splitFact(line)
			for p := range strings.SplitSeq(words[0], "|") {
				if i := strings.IndexByte(words[0], '|'); i >= 0 && !strings.HasPrefix(words[0], p) {
					p = words[0][:strings.LastIndexByte(words[0][:i], '.')+1] + p
				}
				for _, part := range splitVerbs(words[1:]) {
					out = append(out, factLine{at, p, part[0], part[1:], absent})
				}
			}
		}
	}
	return out
}

// splitFact splits a line at spaces, except in double quotes.
func splitFact(line string) []string {
	var out []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		if line[0] == '"' {
			text, rest, _ := strings.Cut(line[1:], `"`)
			out, line = append(out, text), rest
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		out, line = append(out, word), rest
	}
	return out
}

func splitVerbs(words []string) [][]string {
	out := [][]string{{}}
	for _, w := range words {
		if w == ";" {
			out = append(out, []string{})
			continue
		}
		out[len(out)-1] = append(out[len(out)-1], w)
	}
	return out
}

// TestKnowledgeParses: what is embedded is read by the parsers that the
// engine uses, and nothing is there that they would not look at.
func TestKnowledgeParses(t *testing.T) {
	facts, models := 0, 0
	err := fs.WalkDir(flask.Knowledge, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(flask.Knowledge, p)
		if err != nil {
			return err
		}
		switch {
		case path.Ext(p) == ".facts" && path.Dir(p) == "knowledge":
			fs, err := pyflow.ParseFacts(p, string(data))
			if err != nil {
				t.Error(err)
				return nil
			}
			facts += fs.Len()
		case path.Ext(p) == ".py" && path.Dir(p) == "knowledge/models":
			models++
			for _, d := range pysyntax.Parse(p, data).Errors {
				t.Errorf("%s: %v", p, d)
			}
		default:
			t.Errorf("%s is neither facts nor a model", p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if facts < 1000 || models == 0 {
		t.Errorf("%d facts and %d models: where is the knowledge?", facts, models)
	}
	if n := len(knowledgeLines(t)); n != facts {
		t.Errorf("this test reads %d facts, pyflow %d", n, facts)
	}
}

// TestKnowledgeAgrees: no name is said two things of that exclude each other,
// and no kind, argument or note is misspelled.
func TestKnowledgeAgrees(t *testing.T) {
	rules := ruleSource(t)
	type key struct{ path, verb string }
	seen := map[string]string{}  // whole facts
	one := map[key]factLine{}    // verbs that a name can have once
	likes := map[string]string{} // name: where it is said to be another's
	other := map[string]string{}
	for _, f := range knowledgeLines(t) {
		whole := f.path + " " + f.verb + " " + strings.Join(f.args, " ")
		if at, ok := seen[whole]; ok {
			t.Errorf("%s: %s is said in %s already", f.at, whole, at)
		}
		seen[whole] = f.at
		switch f.verb {
		case "returns", "is", "element", "like", "enter", "chars", "number", "boolean", "clean", "source", "passes", "drops":
			k := key{f.path, f.verb}
			if g, ok := one[k]; ok {
				t.Errorf("%s: %s %s %v, but %v in %s", f.at, f.path, f.verb, f.args, g.args, g.at)
			}
			one[k] = f
		}
		if f.verb == "like" {
			likes[f.path] = f.at
		} else {
			other[f.path] = f.at
		}
		kind := func(kinds []string) {
			if !slices.Contains(kinds, f.args[0]) && !strings.Contains(rules, strconv.Quote(f.args[0])) {
				t.Errorf("%s: %s: no %s kind %q", f.at, f.path, f.verb, f.args[0])
			}
		}
		switch f.verb {
		case "sink":
			kind(sinkKinds)
			for _, a := range f.args[1:] {
				checkArg(t, f, a)
			}
		case "use", "read":
			kind(useKinds)
		case "set":
			kind(append(slices.Clone(sinkKinds), useKinds...))
		case "source":
			kind(sourceKinds)
			note := f.args[len(f.args)-1]
			if len(f.args) > 1 && note != "map" && !strings.Contains(note, " ") && len(note) < 5 {
				t.Errorf("%s: %s: the note %q says nothing", f.at, f.path, note)
			}
			if len(f.args) == 3 && f.args[1] != "map" {
				t.Errorf("%s: %s: %q where map can stand", f.at, f.path, f.args[1])
			}
		case "methods":
			kind(entryKinds)
		case "entry":
			kind(entryKinds)
			for _, a := range f.args[1:] {
				checkArg(t, f, a)
			}
		case "clean":
			for _, a := range f.args {
				if !slices.Contains(cleanKinds, a) && !strings.Contains(rules, strconv.Quote(a)) {
					t.Errorf("%s: %s: no kind %q", f.at, f.path, a)
				}
			}
		case "passes", "calls", "template", "template-text":
			for _, a := range f.args {
				checkArg(t, f, a)
			}
		}
	}
	for p, at := range likes {
		if o, ok := other[p]; ok {
			t.Errorf("%s: %s is another name, so what %s says of it is never read", at, p, o)
		}
		for q := p; strings.Contains(q, "."); {
			q = q[:strings.LastIndexByte(q, '.')]
			if o, ok := likes[q]; ok {
				t.Errorf("%s: %s lies below %s, which %s calls another name", at, p, q, o)
			}
		}
	}
	for p, at := range other {
		for q := p; strings.Contains(q, "."); {
			q = q[:strings.LastIndexByte(q, '.')]
			if o, ok := likes[q]; ok {
				t.Errorf("%s: %s is never read: %s calls %s another name", at, p, o, q)
			}
		}
	}
}

// ruleSource returns the text of all rules, to see which kinds they ask for.
func ruleSource(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range []string{"../control", "../audit"} {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(p) != ".go" || strings.HasSuffix(p, "_test.go") {
				return err
			}
			text, err := os.ReadFile(p)
			b.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if b.Len() < 100_000 {
		t.Fatalf("the rules are %d bytes long: where are they?", b.Len())
	}
	return b.String()
}

// checkArg: an index, a keyword, both, or one of the words.
func checkArg(t *testing.T, f factLine, arg string) {
	t.Helper()
	if arg == "*" || arg == "**" || arg == "self" || arg == "result" {
		return
	}
	index, name, both := strings.Cut(arg, "=")
	digits := index != "" && strings.Trim(index, "0123456789") == ""
	word := func(s string) bool {
		return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
	}
	if both && digits && word(name) || !both && word(index) {
		return
	}
	t.Errorf("%s: %s: %q is no argument", f.at, f.path, arg)
}

// TestKnowledgeTargets: a name that a fact leads to is known itself, so that
// the way does not end there by a slip of the pen.
func TestKnowledgeTargets(t *testing.T) {
	lines := knowledgeLines(t)
	known := map[string]bool{}
	for _, f := range lines {
		for p := f.path; ; p = p[:strings.LastIndexByte(p, '.')] {
			known[p] = true
			if !strings.Contains(p, ".") {
				break
			}
		}
	}
	// What the interpreter itself knows, or what a model defines.
	inGo := []string{"json.", "html.", "markupsafe.", "urllib.parse", "os.path", "werkzeug.datastructures.MultiDict",
		"werkzeug.datastructures.EnvironHeaders", "flask.Response", "flask.jsonify", "flask.make_response", "flask.g", "flask.Config", "uuid.UUID"}
	models, err := fs.Glob(flask.Knowledge, "knowledge/models/*.py")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range models {
		inGo = append(inGo, strings.TrimSuffix(path.Base(m), ".py")+".")
	}
	for _, f := range lines {
		switch f.verb {
		case "like", "returns", "is", "element", "base", "enter":
		default:
			continue
		}
		target := f.args[0]
		if known[target] || slices.ContainsFunc(inGo, func(p string) bool { return strings.HasPrefix(target+".", p) || target == p }) {
			continue
		}
		if f.verb == "returns" && target == f.path { // a class of which only the name matters
			continue
		}
		t.Errorf("%s: %s %s %s, of which nothing is known", f.at, f.path, f.verb, target)
	}
}

// askReal imports the packages and looks every name up. A name below another
// whose type a fact tells is looked up there.
const askReal = `
import importlib, inspect, json, re, sys, warnings
warnings.simplefilter("ignore")

def load(path):
    """The object at a dotted path; KeyError(package) when it is not installed."""
    parts = path.split(".")
    obj, name = None, parts[0]
    try:
        obj = importlib.import_module(name)
    except ModuleNotFoundError as e:
        raise KeyError(e.name)
    rest = parts[1:]
    while rest:
        step = rest[0]
        try:
            obj = getattr(obj, step)
        except AttributeError:
            if inspect.ismodule(obj):
                try:
                    obj = importlib.import_module(obj.__name__ + "." + step)
                except ModuleNotFoundError as e:
                    # An optional dependency of the package is absent.
                    if not (e.name or "").startswith(parts[0] + "."):
                        raise KeyError(e.name)
                    raise AttributeError(path)
            else:
                obj = instance_attribute(obj, step)
        rest = rest[1:]
    return obj

def instance_attribute(cls, name):
    """Raises AttributeError unless instances of the class have the attribute."""
    if not inspect.isclass(cls):
        # What a function or an object is like inside cannot be asked.
        raise AttributeError(name)
    for c in cls.__mro__:
        if name in getattr(c, "__annotations__", {}) or name in getattr(c, "__slots__", ()):
            return None
        try:
            source = inspect.getsource(c)
        except (OSError, TypeError):
            continue
        if re.search(r"\bself\.%s\b\s*(:[^=\n]+)?=" % re.escape(name), source):
            return None
    raise AttributeError(name)

out = []
for path in json.load(sys.stdin):
    try:
        load(path)
        out.append("")
    except KeyError as e:
        out.append("absent " + str(e.args[0]))
    except AttributeError as e:
        out.append("unknown")
    except BaseException as e:
        out.append("absent %s (%s: %s)" % (path.split(".")[0], type(e).__name__, e))
json.dump(out, sys.stdout)
`

// TestKnowledgeIsReal: every name exists in the real library, apart from those
// marked as gone or open. Packages that the interpreter lacks are left out,
// aloud; those that the example apps use must be there.
func TestKnowledgeIsReal(t *testing.T) {
	py := python(t)
	lines := knowledgeLines(t)
	type redirect struct{ from, to string }
	var moves []redirect // from a property or another name to what it is
	for _, f := range lines {
		if f.verb == "like" || f.verb == "is" || f.verb == "returns" {
			moves = append(moves, redirect{f.path + ".", f.args[0] + "."})
		}
	}
	slices.SortFunc(moves, func(a, b redirect) int { return len(b.from) - len(a.from) })
	var paths, ats []string
	seen := map[string]bool{}
	for _, f := range lines {
		if strings.HasPrefix(f.path, "*.") || f.absent != "" || seen[f.path] {
			continue
		}
		seen[f.path] = true
		ask := f.path
		for range 4 {
			i := slices.IndexFunc(moves, func(m redirect) bool { return strings.HasPrefix(ask, m.from) && m.from != m.to })
			if i < 0 {
				break
			}
			ask = moves[i].to + ask[len(moves[i].from):]
		}
		// The proxy stands for the class.
		if rest, ok := strings.CutPrefix(ask, "flask.request."); ok {
			ask = "flask.wrappers.Request." + rest
		}
		if rest, ok := strings.CutPrefix(ask, "flask.session."); ok {
			ask = "flask.sessions.SecureCookieSession." + rest
		}
		paths, ats = append(paths, ask), append(ats, f.at+": "+f.path)
	}
	in, err := json.Marshal(paths)
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "ask.py")
	if err := os.WriteFile(script, []byte(askReal), 0o600); err != nil {
		t.Fatal(err)
	}
	py, err = filepath.Abs(py)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(py, "-W", "ignore", script)
	cmd.Dir = t.TempDir() // packages may write where they run
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "HOME="+t.TempDir())
	cmd.Stdin = bytes.NewReader(in)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", py, err, stderr.String())
	}
	// A package may print when it is imported: the answer is the last line.
	text := bytes.TrimSpace(stdout.Bytes())
	if i := bytes.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	var answers []string
	if err := json.Unmarshal(text, &answers); err != nil || len(answers) != len(paths) {
		t.Fatalf("%d answers to %d names: %v\n%s", len(answers), len(paths), err, stderr.String())
	}
	absent, found := map[string]int{}, 0
	for i, a := range answers {
		switch {
		case a == "":
			found++
		case a == "unknown":
			t.Errorf("%s: the real package has no %s", ats[i], paths[i])
		default:
			absent[strings.TrimPrefix(a, "absent ")]++
		}
	}
	for _, p := range []string{"flask", "werkzeug", "jinja2", "markupsafe", "wtforms", "flask_wtf", "flask_login", "flask_sqlalchemy",
		"sqlalchemy", "flask_restful", "jwt", "yaml", "requests", "urllib3", "click", "itsdangerous"} {
		if absent[p] > 0 {
			t.Errorf("%s is not installed for %s: run scripts/venv.sh", p, py)
		}
	}
	if found < 800 {
		t.Errorf("only %d names were found", found)
	}
	if len(absent) > 0 {
		var list []string
		for p, n := range absent {
			list = append(list, fmt.Sprintf("%s (%d)", p, n))
		}
		slices.Sort(list)
		t.Logf("NOT COMPARED, not installed: %s", strings.Join(list, ", "))
	}
	t.Logf("%d names compared", found)
}

// TestModelsBehave runs the models and the real modules side by side.
func TestModelsBehave(t *testing.T) {
	py := python(t)
	cmd := exec.Command(py, "-W", "ignore", "testdata/knowledge/models.py", "knowledge/models")
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, l := range lines[:len(lines)-1] {
		if strings.HasPrefix(l, "NOT COMPARED") {
			t.Log(l)
		} else {
			t.Errorf("unlike the real module: %s", l)
		}
	}
	if n, err := strconv.Atoi(lines[len(lines)-1]); err != nil || n < 15 {
		t.Errorf("%s cases were run: %v", lines[len(lines)-1], err)
	}
}

// TestKnowledgeFlows runs programs through the engine with the knowledge:
// every line that ends in "#! KIND…" is reached by labelled data at a sink of
// these kinds, and no other line is. Responses are asked for where the line
// says so.
func TestKnowledgeFlows(t *testing.T) {
	facts, models := engineKnowledge(t)
	files, err := filepath.Glob("testdata/knowledge/flow/*.py")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d programs: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".py"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f := pysyntax.Parse(filepath.Base(file), data)
			if len(f.Errors) > 0 {
				t.Fatal(f.Errors)
			}
			r := pyflow.Analyze(t.Context(), pyflow.Config{
				Sources: []pyflow.Source{{Path: filepath.Base(file), Python: f}}, Roots: []string{""}, Facts: facts, Models: models,
			})
			got := map[int][]string{}
			for _, h := range r.Hits {
				labelled := slices.ContainsFunc(h.Focus, func(v pyflow.Value) bool {
					return slices.ContainsFunc(v.All(), func(l pyflow.Label) bool { return !l.Harmless.For(h.Kind) })
				})
				line, _ := f.Position(h.At.Start)
				if (h.Verb == "sink" || h.Verb == "set") && labelled && !slices.Contains(got[line], h.Kind) {
					got[line] = append(got[line], h.Kind)
				}
			}
			n := 0
			for i, text := range strings.Split(string(data), "\n") {
				_, mark, _ := strings.Cut(text, "#! ")
				want := strings.Fields(mark)
				have := got[i+1]
				if !slices.Contains(want, "response") {
					have = slices.DeleteFunc(slices.Clone(have), func(k string) bool { return k == "response" || k == "regex-text" })
				}
				slices.Sort(want)
				slices.Sort(have)
				if !slices.Equal(want, have) {
					t.Errorf("%s:%d: %v reached, want %v: %s", file, i+1, have, want, strings.TrimSpace(text))
				}
				n += len(want)
			}
			if n < 10 {
				t.Errorf("%s has only %d marks", file, n)
			}
			for _, g := range r.GaveUp {
				t.Errorf("gave up %s: %s", g.Name, g.Reason)
			}
		})
	}
}

// engineKnowledge reads the embedded facts and models as package audit does.
func engineKnowledge(t *testing.T) (*pyflow.Facts, map[string]*pyflow.Source) {
	t.Helper()
	var facts *pyflow.Facts
	models := map[string]*pyflow.Source{}
	err := fs.WalkDir(flask.Knowledge, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(flask.Knowledge, p)
		if err != nil {
			return err
		}
		if name, ok := strings.CutSuffix(path.Base(p), ".py"); ok {
			models[name] = &pyflow.Source{Path: "<model>/" + path.Base(p), Python: pysyntax.Parse(p, data)}
			return nil
		}
		more, err := pyflow.ParseFacts(p, string(data))
		if err != nil {
			return err
		}
		if facts == nil {
			facts = more
		} else {
			facts.Merge(more)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return facts, models
}

// TestKnowledgeUses: calls, readings and assignments are told where they are,
// of the kind that stands at the end of their line, and nowhere else.
func TestKnowledgeUses(t *testing.T) {
	facts, models := engineKnowledge(t)
	data, err := os.ReadFile("testdata/knowledge/uses.py")
	if err != nil {
		t.Fatal(err)
	}
	f := pysyntax.Parse("uses.py", data)
	if len(f.Errors) > 0 {
		t.Fatal(f.Errors)
	}
	r := pyflow.Analyze(t.Context(), pyflow.Config{
		Sources: []pyflow.Source{{Path: "uses.py", Python: f}}, Roots: []string{""}, Facts: facts, Models: models,
	})
	got := map[int][]string{}
	for _, h := range r.Hits {
		line, _ := f.Position(h.At.Start)
		if h.Verb == "sink" || h.Kind == "credential" || slices.Contains(got[line], h.Kind) {
			continue
		}
		if len(got[line]) == 0 {
			got[line] = []string{h.Verb}
		}
		got[line] = append(got[line], h.Kind)
	}
	n := 0
	for i, text := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(text, "from ") || strings.HasPrefix(text, "import ") {
			continue // that a module is imported may be of interest by itself
		}
		_, mark, _ := strings.Cut(text, "  # ")
		want := strings.Fields(mark)
		if !slices.Equal(want, got[i+1]) {
			t.Errorf("uses.py:%d: %v, want %v: %s", i+1, got[i+1], want, strings.TrimSpace(text))
		}
		n += len(want)
	}
	if n < 40 {
		t.Errorf("only %d marks", n)
	}
}

// TestKnowledgeResponses: a response object knows what it holds and of which
// type it says it is.
func TestKnowledgeResponses(t *testing.T) {
	facts, models := engineKnowledge(t)
	data, err := os.ReadFile("testdata/knowledge/responses.py")
	if err != nil {
		t.Fatal(err)
	}
	f := pysyntax.Parse("responses.py", data)
	if len(f.Errors) > 0 {
		t.Fatal(f.Errors)
	}
	r := pyflow.Analyze(t.Context(), pyflow.Config{
		Sources: []pyflow.Source{{Path: "responses.py", Python: f}}, Roots: []string{""}, Facts: facts, Models: models,
	})
	got := map[int]string{}
	for _, h := range r.Hits {
		if h.Kind != "response" || len(h.Focus) != 1 {
			continue
		}
		line, _ := f.Position(h.At.Start)
		v := h.Focus[0]
		body, _ := v.Field("response")
		typ, _ := v.Field("content_type")
		name, known := typ.Const()
		if !known || len(body.All()) == 0 {
			name = fmt.Sprintf("%s %v, body %v", v.Type, typ, body)
		}
		if got[line] != "" && got[line] != name {
			name = got[line] + ", " + name
		}
		got[line] = name
	}
	n := 0
	for i, text := range strings.Split(string(data), "\n") {
		_, want, marked := strings.Cut(text, "  # ")
		if want != got[i+1] {
			t.Errorf("responses.py:%d: %q, want %q: %s", i+1, got[i+1], want, strings.TrimSpace(text))
		}
		if marked {
			n++
		}
	}
	if n < 12 {
		t.Errorf("only %d marks", n)
	}
}
