package pyflow

import (
	"path"
	"slices"
	"strings"
)

// Programs look for their own parts at run time: the modules of a folder, the
// functions of a module. Both are known here. The project's files stand under
// /app, which is also what __file__ says.

const appDir = "/app"

// finderOf is what pkgutil says finds a module.
const finderOf = "importlib.machinery.FileFinder"

func init() {
	for name, f := range map[string]native{
		"os.listdir":                             listDir,
		"glob.glob":                              globFiles,
		"glob.iglob":                             globFiles,
		"os.path.isfile":                         isOwnFile,
		"os.path.exists":                         isOwnFile,
		"pkgutil.iter_modules":                   iterModules(false),
		"pkgutil.walk_packages":                  iterModules(true),
		"inspect.getmembers":                     getMembers,
		"builtins.dir":                           dirOf,
		"importlib.util.spec_from_file_location": specFromFile,
		"importlib.util.module_from_spec":        moduleFromSpec,
		"importlib.util.find_spec":               findSpec,
	} {
		natives[name] = f
	}
}

// folderIndex gives the names in each folder of the project that has Python
// files, below it too.
func folderIndex(files []*fileInfo) map[string][]string {
	out := map[string][]string{}
	seen := map[string]bool{}
	for _, fi := range files {
		for p := fi.path; p != "." && p != "/" && !seen[p] && !fi.src.Test; p = path.Dir(p) {
			seen[p] = true
			d := path.Dir(p)
			if d == "." {
				d = ""
			}
			out[d] = append(out[d], path.Base(p))
		}
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

// ownFolder returns the folder of the project that v is the path of, as it is
// seen from where the program started.
func (it *interp) ownFolder(st *state, v *value) (dir string, ok bool) {
	v = it.asPath(st, v)
	if !v.isConstText() {
		return "", false
	}
	rel, ok := it.ownPath(v.str)
	if !ok {
		return "", false
	}
	_, ok = it.p.folders[rel]
	return rel, ok
}

// ownPath is where in the project an absolute path leads, or one that is
// relative to the folder in which the program was started.
func (it *interp) ownPath(s string) (rel string, ok bool) {
	if !strings.HasPrefix(s, "/") {
		if it.fr == nil {
			return "", false
		}
		root := ""
		if it.fr.file != nil {
			root = it.fr.file.root
		}
		s = path.Join(appDir, root, s)
	}
	s = path.Clean(s)
	if s == appDir {
		return "", true
	}
	return strings.CutPrefix(s, appDir+"/")
}

// others stands for the names in a folder that are no Python files.
func others() *value {
	return fromPieces([]piece{{sym: &sym{}, chars: AnyChars.Without("/"), not: []string{".py"}}})
}

func listDir(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "path")
	if v == nil {
		return nil
	}
	dir, ok := it.ownFolder(st, v)
	if !ok || dir == "" {
		return nil // of where it was started more is to be expected
	}
	var out []*value
	for _, name := range it.p.folders[dir] {
		out = append(out, text(name))
	}
	return it.list(st, oList, append(out, others()), nil)
}

// globMatches returns the project's files that a pattern for Python files
// finds; ok is false for other patterns, which find also what is not known.
func (it *interp) globMatches(pattern string) (found []string, ok bool) {
	rel, ok := it.ownPath(pattern)
	if !ok || !strings.HasSuffix(rel, ".py") || strings.Contains(rel, "**") {
		return nil, false
	}
	dir, base := path.Dir(rel), path.Base(rel)
	if dir == "." {
		dir = ""
	}
	if strings.ContainsAny(dir, "*?[") || it.p.folders[dir] == nil {
		return nil, false
	}
	for _, name := range it.p.folders[dir] {
		if m, err := path.Match(base, name); err == nil && m && (name[0] != '.' || base[0] == '.') {
			found = append(found, path.Join(appDir, dir, name))
		}
	}
	return found, true
}

func globFiles(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "pathname")
	if v == nil || c.keyword("root_dir") != nil {
		return nil
	}
	if v = it.asPath(st, v); !v.isConstText() {
		return nil
	}
	found, ok := it.globMatches(v.str)
	if !ok {
		return nil
	}
	var out []*value
	for _, name := range found {
		out = append(out, text(name))
	}
	return it.list(st, oList, out, nil)
}

// isOwnFile says that the project's own files are there. Of others nothing is
// known.
func isOwnFile(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) != 1 {
		return boolean
	}
	v := it.asPath(st, c.args[0])
	if v.isConstText() && strings.HasPrefix(v.str, appDir+"/") && it.p.files[v.str[len(appDir)+1:]] != nil {
		return vTrue
	}
	return boolean
}

// iterModules is pkgutil.iter_modules and, when deep, walk_packages: tuples of
// the finder, the name and whether it is a package.
func iterModules(deep bool) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		where := c.arg(0, "path")
		if where == nil {
			return nil
		}
		prefix := ""
		if p := c.arg(1, "prefix"); p != nil {
			if !p.isConstText() {
				return nil
			}
			prefix = p.str
		}
		dirs, exact := it.iterate(st, where)
		if !exact || len(dirs) == 0 {
			return nil
		}
		var out []*value
		for _, d := range dirs {
			dir, ok := it.ownFolder(st, d)
			if !ok {
				return nil
			}
			out = it.modulesIn(out, dir, prefix, deep)
		}
		return it.list(st, oList, out, nil)
	}
}

func (it *interp) modulesIn(out []*value, dir, prefix string, deep bool) []*value {
	for _, name := range it.p.folders[dir] {
		mod, file := strings.CutSuffix(name, ".py")
		sub := path.Join(dir, name)
		if mod == "__init__" || !file && it.p.files[sub+"/__init__.py"] == nil || len(out) >= maxElems {
			continue
		}
		out = append(out, &value{kind: vTuple, elems: []*value{inst(finderOf, nil), text(prefix + mod), boolOf(!file)}})
		if deep && !file {
			out = it.modulesIn(out, sub, prefix+mod+".", true)
		}
	}
	return out
}

// moduleInfo is an attribute of what pkgutil says about a module; nil if v is
// something else.
func moduleInfo(v *value, name string) *value {
	if v.kind != vTuple || len(v.elems) != 3 || v.elems[0].kind != vInst || v.elems[0].str != finderOf {
		return nil
	}
	switch name {
	case "module_finder":
		return v.elems[0]
	case "name":
		return v.elems[1]
	case "ispkg":
		return v.elems[2]
	}
	return nil
}

// members are the names in a module or class with what they stand for, in the
// order of the names; ok is false for anything else.
func (it *interp) members(st *state, v *value, at Span) (names []string, values []*value, ok bool) {
	switch v.kind {
	case vModule:
		o := it.get(st, v.mod.ns)
		if o == nil || v.mod.file == nil || v.mod.file.model {
			return nil, nil, false
		}
		it.unstable = it.unstable || v.mod.ns > it.baseTop
		names = slices.Clone(o.keys)
	case vClass:
		if v.cls.hasLibBase() {
			return nil, nil, false // what it inherits is not known
		}
		for _, k := range v.cls.mro {
			if o := it.get(st, k.ns); o != nil {
				names = append(names, o.keys...)
			}
		}
	default:
		return nil, nil, false
	}
	slices.Sort(names)
	names = slices.Compact(names)
	kept := names[:0]
	for _, n := range names {
		if x, _ := bound(it.attr(st, v, n, false, at)); x != nil {
			kept = append(kept, n)
			values = append(values, x)
		}
	}
	return kept, values, true
}

// memberTests are the predicates of the standard library for what a module
// holds, by the kinds of which they are true.
var memberTests = map[string][]vkind{
	"inspect.isfunction": {vFunc}, "inspect.isclass": {vClass}, "inspect.ismodule": {vModule},
	"inspect.isroutine": {vFunc, vBound}, "builtins.callable": {vFunc, vClass, vBound},
}

func getMembers(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "object")
	if v == nil {
		return nil
	}
	names, values, ok := it.members(st, v, c.at)
	if !ok {
		return nil
	}
	pred := c.arg(1, "predicate")
	var out []*value
	for i, n := range names {
		if pred != nil && pred.kind == vLib && memberTests[pred.str] != nil {
			known := values[i].kind == vFunc || values[i].kind == vClass || values[i].kind == vModule || values[i].isConst() || values[i].kind == vObj
			if known && !slices.Contains(memberTests[pred.str], values[i].kind) {
				continue
			}
		} else if pred != nil && pred.kind != vNone && len(functionsIn(pred)) > 0 {
			r := it.call(st, pred, &call{at: c.at, args: []*value{values[i]}})
			if st.dead {
				return unknown
			}
			switch it.truth(st, r) {
			case 0:
				continue
			case -1:
				return nil // any of them may be left out
			}
		}
		out = append(out, &value{kind: vTuple, elems: []*value{text(n), values[i]}})
	}
	if len(out) > maxElems {
		return nil // as one for all they would tell nothing and take long
	}
	return it.list(st, oList, out, nil)
}

func dirOf(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) != 1 {
		return nil
	}
	names, _, ok := it.members(st, c.args[0], c.at)
	if !ok {
		return nil
	}
	var out []*value
	for _, n := range names {
		out = append(out, text(n))
	}
	return it.list(st, oList, out, nil)
}

// moduleSpec is a specification whose module is known.
const moduleSpec = "importlib.machinery.ModuleSpec"

func specFromFile(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(1, "location")
	if v == nil {
		return nil
	}
	if v = it.asPath(st, v); !v.isConstText() {
		return nil
	}
	rel, ok := it.ownPath(v.str)
	if !ok || it.p.files[rel] == nil {
		return nil
	}
	m := it.importPath(st, strings.TrimSuffix(rel, ".py"))
	if m == nil {
		return nil
	}
	return &value{kind: vInst, str: moduleSpec, elems: []*value{m}}
}

func findSpec(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "name")
	if v == nil || !v.isConstText() || strings.HasPrefix(v.str, ".") {
		return nil
	}
	m := it.importModule(st, v.str)
	if m == nil || m.kind != vModule {
		return nil
	}
	return &value{kind: vInst, str: moduleSpec, elems: []*value{m}}
}

func moduleFromSpec(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "spec")
	if v == nil || v.kind != vInst || v.str != moduleSpec || len(v.elems) != 1 {
		return nil
	}
	return v.elems[0]
}
