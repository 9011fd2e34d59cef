package audit

import (
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// extensionLists are the lists of file extensions in a project's code, and the
// functions and forms that compare an upload's name with one of them. A name
// that stands for two different lists is nil.
type extensionLists struct {
	p         *Project
	constants map[string][]string
	checkers  map[string][]string
	defined   map[string]int
}

var (
	// extensionText is one entry of such a list.
	extensionText = regexp.MustCompile(`^\.?[a-zA-Z0-9]{1,8}$`)
	// commonExtension is what at least one entry is: a list of words is none.
	commonExtension = regexp.MustCompile(`(?i)^\.?(png|jpe?g|gif|webp|svg|bmp|tiff?|heic|pdf|docx?|xlsx?|pptx?|odt|ods|csv|tsv|txt|md|json|xml|ya?ml|zip|tar|gz|tgz|7z|mp3|mp4|wav|ogg|webm|mov|ttf|otf|woff2?|ics|vcf|gpx|geojson|sql|db|sqlite|py|ipynb|html?)$`)
	// takesExtension is in code that takes the extension off a name.
	takesExtension = regexp.MustCompile(`(?i)splitext|rsplit|rpartition|\.suffix|split\(\s*["']\.["']|\bext(ension)?\b|_ext\b|\.endswith`)
)

// extensionLists reads the project's code. It says what the code compares
// with, not that it refuses everything else.
func (p *Project) extensionLists() *extensionLists {
	l := &extensionLists{p: p, constants: map[string][]string{}, checkers: map[string][]string{}, defined: map[string]int{}}
	for _, f := range p.Files {
		if f.Python == nil || f.Test {
			continue
		}
		py := f.Python
		for id := range py.Nodes {
			if id := pysyntax.ID(id); py.Kind(id) == pysyntax.Assign {
				targets, value := py.Assign(id)
				if len(targets) == 1 && py.Kind(targets[0]) == pysyntax.Name {
					if list := l.literal(py, value); list != nil {
						put(l.constants, py.Name(targets[0]), list)
					}
				}
			}
		}
	}
	for _, f := range p.Files {
		if f.Python == nil || f.Test {
			continue
		}
		for id := range f.Python.Nodes {
			id := pysyntax.ID(id)
			switch f.Python.Kind(id) {
			case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef:
				name := f.Python.FunctionDef(id).Name
				l.defined[name]++
				if list := l.compared(f, id); list != nil {
					put(l.checkers, name, list)
				}
			case pysyntax.ClassDef:
				if list := l.validated(f, id); list != nil {
					name := f.Python.ClassDef(id).Name
					l.defined[name]++
					put(l.checkers, name, list)
				}
			}
		}
	}
	for name, n := range l.defined {
		if n > 1 {
			delete(l.checkers, name) // nobody knows which one is called
		}
	}
	return l
}

// put notes a list under a name; another list under the same name makes both
// void.
func put(m map[string][]string, name string, list []string) {
	if have, ok := m[name]; ok && !slices.Equal(have, list) {
		list = nil
	}
	m[name] = list
}

// literal returns a list that is written out, or nil: {"png", "jpg"},
// frozenset([".png"]), the keys of {".png": "image/png"}.
func (l *extensionLists) literal(py *pysyntax.File, id pysyntax.ID) (out []string) {
	var elements []pysyntax.ID
	switch py.Kind(id) {
	case pysyntax.Set, pysyntax.List, pysyntax.Tuple:
		elements = py.Elts(id)
	case pysyntax.Dict:
		elements, _ = py.Dict(id)
	case pysyntax.Call:
		fn, args, _ := py.Call(id)
		switch py.DottedName(fn) {
		case "set", "frozenset", "tuple", "list":
			if len(args) == 1 {
				return l.literal(py, args[0])
			}
		}
		return nil
	}
	common := false
	for _, e := range elements {
		if e == 0 {
			return nil // **more
		}
		s, ok := py.StringValue(e)
		if !ok || !extensionText.MatchString(s) {
			return nil
		}
		common = common || commonExtension.MatchString(s)
		out = append(out, strings.ToLower(strings.TrimPrefix(s, ".")))
	}
	if !common {
		return nil
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// resolve returns the list that an expression stands for, or nil.
func (l *extensionLists) resolve(py *pysyntax.File, id pysyntax.ID) []string {
	if list := l.literal(py, id); list != nil {
		return list
	}
	key := ""
	switch py.Kind(id) {
	case pysyntax.Name:
		return l.constants[py.Name(id)]
	case pysyntax.Attribute:
		_, name := py.Attribute(id)
		return l.constants[name]
	case pysyntax.Subscript:
		base, index := py.Subscript(id)
		if name := py.DottedName(base); name == "config" || strings.HasSuffix(name, ".config") {
			key, _ = py.StringValue(index)
		}
	case pysyntax.Call:
		fn, args, _ := py.Call(id)
		if name := py.DottedName(fn); strings.HasSuffix(name, "config.get") && len(args) > 0 {
			key, _ = py.StringValue(args[0])
		}
	}
	if key == "" {
		return nil
	}
	var out []string
	if e := l.p.Flask.Effective(key, "production"); e.Setting != nil && e.Value.Known {
		for _, s := range e.Value.Strings() {
			if !extensionText.MatchString(s) {
				return nil
			}
			out = append(out, strings.ToLower(strings.TrimPrefix(s, ".")))
		}
	}
	if out == nil {
		return l.constants[key] // set by app.config.from_object
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// compared returns the one list that a function compares an extension with.
func (l *extensionLists) compared(f *File, root pysyntax.ID) (out []string) {
	py := f.Python
	n := py.Node(root)
	if !takesExtension.Match(py.Src[n.Start:n.End]) {
		return nil
	}
	several := false
	note := func(list []string) {
		several = several || out != nil && list != nil && !slices.Equal(out, list)
		if list != nil {
			out = list
		}
	}
	pysyntax.Walk(py, root, func(id pysyntax.ID) bool {
		switch py.Kind(id) {
		case pysyntax.Compare:
			if _, rest := py.Compare(id); len(rest) == 1 && (rest[0].Op == pysyntax.CmpIn || rest[0].Op == pysyntax.CmpNotIn) {
				note(l.resolve(py, rest[0].Right))
			}
		case pysyntax.Call:
			fn, args, _ := py.Call(id)
			if py.Kind(fn) == pysyntax.Attribute && len(args) == 1 {
				if _, name := py.Attribute(fn); name == "endswith" {
					note(l.resolve(py, args[0]))
				}
			}
		}
		return true
	})
	if several {
		return nil
	}
	return out
}

// validated returns the list of a form class with one file field:
// FileAllowed(["png", "jpg"]) of Flask-WTF.
func (l *extensionLists) validated(f *File, root pysyntax.ID) (out []string) {
	py, fields := f.Python, 0
	pysyntax.Walk(py, root, func(id pysyntax.ID) bool {
		if py.Kind(id) != pysyntax.Call {
			return true
		}
		fn, args, _ := py.Call(id)
		switch name := py.DottedName(fn); name[strings.LastIndexByte(name, '.')+1:] {
		case "FileField", "MultipleFileField":
			fields++
		case "FileAllowed", "FileExtension":
			if len(args) > 0 {
				out = l.resolve(py, args[0])
			}
		}
		return true
	})
	if fields != 1 {
		return nil
	}
	return out
}

// of returns the extensions that a route's code compares the name of its one
// file with: in the view, or in what the view calls by name.
func (l *extensionLists) of(r *flask.Route) (out []string) {
	f := l.p.File(r.FunctionPosition.File)
	if f == nil || f.Python == nil {
		return nil
	}
	py := f.Python
	for id := range py.Nodes {
		id := pysyntax.ID(id)
		switch py.Kind(id) {
		case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef, pysyntax.ClassDef:
		default:
			continue
		}
		span := f.NodeSpan(id)
		if span.Line != r.FunctionPosition.Line {
			continue
		}
		several := false
		note := func(list []string) {
			several = several || out != nil && list != nil && !slices.Equal(out, list)
			if list != nil {
				out = list
			}
		}
		note(l.compared(f, id))
		pysyntax.Walk(py, id, func(call pysyntax.ID) bool {
			if py.Kind(call) == pysyntax.Call {
				fn, _, _ := py.Call(call)
				name := py.DottedName(fn)
				note(l.checkers[name[strings.LastIndexByte(name, '.')+1:]])
			}
			return true
		})
		if several {
			return nil
		}
		return out
	}
	return nil
}
