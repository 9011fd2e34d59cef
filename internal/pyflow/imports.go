package pyflow

import (
	"path"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// names works out what modules are called. A file is known under a name for
// each root above it.
func (p *program) nameModules(files []*fileInfo) {
	p.names = map[string]*fileInfo{}
	p.roots = slices.Clone(p.cfg.Roots)
	if !slices.Contains(p.roots, "") {
		p.roots = append([]string{""}, p.roots...)
	}
	byRoot := slices.Clone(p.roots)
	slices.SortStableFunc(byRoot, func(a, b string) int { return len(b) - len(a) })
	for _, fi := range files {
		for _, r := range byRoot { // the deepest root gives it its own name
			if rel, ok := under(fi.path, r); ok {
				fi.name = dotted(rel)
				fi.root = r
				break
			}
		}
		if fi.name == "" {
			fi.name = "__init__"
		}
	}
	for _, fi := range files {
		if _, taken := p.names[fi.root+"\x00"+fi.name]; !taken {
			p.names[fi.root+"\x00"+fi.name] = fi
		}
		if rel, ok := under(fi.path, ""); ok && fi.root != "" {
			if d := "\x00" + dotted(rel); p.names[d] == nil {
				p.names[d] = fi
			}
		}
	}
	p.packages = map[string]bool{}
	for _, k := range sortedKeys(p.names) {
		for i := strings.LastIndexByte(k, '.'); i > 0; i = strings.LastIndexByte(k[:i], '.') {
			p.packages[k[:i]] = true
		}
	}
}

func under(file, root string) (rel string, ok bool) {
	if root == "" {
		return file, true
	}
	return strings.CutPrefix(file, root+"/")
}

// dotted turns a/b/c.py into a.b.c and a/__init__.py into a.
func dotted(file string) string {
	file = strings.TrimSuffix(strings.TrimSuffix(file, path.Ext(file)), "/__init__")
	if file == "__init__" {
		return ""
	}
	return strings.ReplaceAll(file, "/", ".")
}

// find returns the file of a module as seen from another file, or says that
// it is a folder of modules.
func (p *program) find(from *fileInfo, name string) (fi *fileInfo, root string, folder bool) {
	try := func(r string) bool {
		if f := p.names[r+"\x00"+name]; f != nil {
			fi, root = f, r
			return true
		}
		if p.packages[r+"\x00"+name] {
			root, folder = r, true
			return true
		}
		return false
	}
	if from != nil && !from.model && try(from.root) {
		return fi, root, folder
	}
	if try("") {
		return fi, root, folder
	}
	top := name
	if i := strings.IndexByte(name, '.'); i > 0 {
		top = name[:i]
	}
	if p.library[top] {
		return nil, "", false
	}
	for _, r := range p.roots {
		if try(r) {
			return fi, root, folder
		}
	}
	return nil, "", false
}

// importModule loads a module by its absolute name; nil if it is not part of
// the project.
func (it *interp) importModule(st *state, name string) *value {
	var from *fileInfo
	if it.fr != nil {
		from = it.fr.file
	}
	fi, root, folder := it.p.find(from, name)
	switch {
	case fi != nil:
		if m := it.load(st, fi); m != nil {
			return &value{kind: vModule, mod: m}
		}
		return unknown
	case folder:
		return &value{kind: vModule, mod: it.folder(st, root, name)}
	}
	if fi := it.p.models[name]; fi != nil {
		if m := it.load(st, fi); m != nil {
			return &value{kind: vModule, mod: m}
		}
	}
	return nil
}

// folder is a package without __init__.py.
func (it *interp) folder(st *state, root, name string) *module {
	key := root + "\x00" + name
	if m := it.modules[key]; m != nil {
		return m
	}
	m := &module{name: name, root: root}
	m.ns = it.alloc(st, &object{kind: oNamespace})
	it.setModule(key, m)
	return m
}

func (it *interp) setModule(key string, m *module) {
	it.modules[key] = m
	it.outside++
}

// load runs a module the first time it is wanted.
func (it *interp) load(st *state, fi *fileInfo) *module {
	key := "file\x00" + fi.path
	if m := it.modules[key]; m != nil {
		return m
	}
	if !it.loading {
		return nil // everything was loaded before
	}
	m := &module{name: fi.name, file: fi, root: fi.root}
	m.ns = it.alloc(st, &object{kind: oNamespace})
	it.modules[key] = m
	it.outside++
	if it.depth > 200 {
		return m
	}
	fr, depth, steps, views, first := it.fr, it.depth, it.steps, it.decorating, it.nextObj
	it.decorating = 0
	it.fr = &frame{file: fi, f: fi.f, sc: fi.scopes[fi.f.Root], mod: m, ns: m.ns}
	it.depth = depth + 1
	it.steps = 0
	limit := it.limit
	it.limit = max(limit, len(fi.f.Nodes)) // a long list of routes is no loop
	in := &state{heap: st.heap, shared: true, known: nil}
	st.shared = true
	it.runTop(in, fi.f.Body())
	if it.out() {
		it.gaveUp = append(it.gaveUp, GaveUp{At: Span{File: fi.path}, Name: fi.name, Reason: "the module takes too many steps"})
	}
	it.total += it.steps
	it.fr, it.depth, it.steps, it.decorating, it.limit = fr, depth, steps, views, limit
	st.heap, st.shared = in.heap, true
	it.promote()
	if fr != nil && fr.fn != nil {
		// The module stays, whatever becomes of the call that has imported it:
		// it may raise, or take too long.
		for id := first; id <= it.nextObj; id++ {
			if o := above(in.heap, nil, id); o != nil {
				it.flat[id] = o.clone(nil)
			}
		}
	}
	return m
}

// runTop runs the statements of a module: one that fails does not hide the
// rest, for what looks like sys.exit() may be a mistake of ours.
func (it *interp) runTop(st *state, body []pysyntax.ID) {
	for _, id := range body {
		before, limit := *st, it.limit
		if it.isMain(id) {
			it.limit = min(limit, it.steps+mainSteps)
		}
		it.exec(st, id)
		if it.limit != limit {
			if it.out() {
				it.gaveUp = append(it.gaveUp, GaveUp{At: it.span(id), Name: it.fr.mod.name, Reason: "what the script does when it is run takes too many steps"})
				// What was not run to its end is run as if nothing called it.
				for _, k := range it.brokenOff {
					delete(it.called, k)
				}
				it.brokenOff = nil
				it.steps, st.dead = it.limit, true
			}
			it.limit = limit
		}
		if st.dead {
			if it.out() {
				return
			}
			h := st.heap
			*st = before
			st.heap, st.shared = h, true
		}
	}
}

// mainSteps bounds what a module does only when it is run as a script.
const mainSteps = 25_000

// isMain reports whether a statement is "if __name__ == "__main__":".
func (it *interp) isMain(id pysyntax.ID) bool {
	f := it.fr.f
	if it.loading && f.Kind(id) == pysyntax.If {
		test, _, _ := f.If(id)
		if f.Kind(test) == pysyntax.Compare {
			src := string(f.Text(test))
			return strings.HasPrefix(src, "__name__") && strings.Contains(src, "__main__")
		}
	}
	return false
}

func (it *interp) execImport(st *state, id pysyntax.ID) {
	for _, n := range it.fr.f.Import(id) {
		it.importHits(st, n.Name, n.ID)
		v := it.importModule(st, n.Name)
		if n.As != "" {
			if v == nil {
				v = lib(n.Name)
			}
			it.bindName(st, n.As, v)
			continue
		}
		top := n.Bound()
		if top != n.Name {
			v = it.importModule(st, top)
		}
		if v == nil {
			v = lib(top)
		}
		it.bindName(st, top, v)
	}
}

// importHits are those of facts about the import of a module.
func (it *interp) importHits(st *state, name string, id pysyntax.ID) {
	for _, f := range it.p.facts.byPath[name] {
		if f.Verb == "use" {
			it.hit(st, &f, name, nil, &call{at: it.span(id)}, nil, nil)
		}
	}
}

func (it *interp) execImportFrom(st *state, id pysyntax.ID) {
	f := it.fr.f
	mod, level, names := f.ImportFrom(id)
	if mod == "__future__" {
		return
	}
	base := it.fr.file
	var m *value
	full, folder := mod, ""
	if level > 0 {
		pkg := base.name
		dir := path.Dir(base.path)
		if !base.pkg {
			pkg = parent(pkg)
		}
		for range level - 1 {
			pkg = parent(pkg)
			dir = path.Dir(dir)
		}
		full = strings.TrimPrefix(pkg+"."+mod, ".")
		full = strings.TrimSuffix(full, ".")
		if pkg == "" || base.name == "" {
			// A folder without __init__.py.
			folder = path.Join(dir, strings.ReplaceAll(mod, ".", "/"))
			m = it.importPath(st, folder)
		}
	}
	it.importHits(st, full, id)
	if m == nil && full != "" {
		m = it.importModule(st, full)
	}
	if m == nil && level > 0 {
		dir := path.Dir(base.path)
		for range level - 1 {
			dir = path.Dir(dir)
		}
		m = it.importPath(st, path.Join(dir, strings.ReplaceAll(mod, ".", "/")))
	}
	for _, n := range names {
		if n.Name == "*" {
			it.importStar(st, m, full)
			continue
		}
		var v *value
		switch {
		case m == nil:
			if folder != "" {
				v = it.importPath(st, path.Join(folder, n.Name))
			}
			if v == nil {
				v = it.libNamed(st, full+"."+n.Name)
			}
		case m.kind == vModule:
			v = it.importName(st, m.mod, n.Name, full)
		default:
			v = unknown
		}
		it.bindName(st, n.Bound(), v)
	}
}

func parent(name string) string {
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		return name[:i]
	}
	return ""
}

// importPath loads what is at a path without its ".py".
func (it *interp) importPath(st *state, p string) *value {
	for _, c := range [2]string{p + ".py", path.Join(p, "__init__.py")} {
		if fi := it.p.files[c]; fi != nil {
			if m := it.load(st, fi); m != nil {
				return &value{kind: vModule, mod: m}
			}
		}
	}
	return nil
}

func (it *interp) importName(st *state, m *module, name, full string) *value {
	if o := it.get(st, m.ns); o != nil {
		if v, _ := bound(o.get(name)); v != nil {
			return v
		}
	}
	if m.file == nil || m.file.pkg {
		if v := it.importModule(st, m.name+"."+name); v != nil {
			return v
		}
		if m.file != nil {
			if v := it.importPath(st, path.Join(path.Dir(m.file.path), name)); v != nil {
				return v
			}
		}
	}
	if m.file != nil && m.file.model {
		return lib(m.name + "." + name)
	}
	if k := len(m.stars); k > 0 {
		return lib(m.stars[k-1] + "." + name)
	}
	return it.moduleAttr(st, m, name)
}

// libNamed is the value of a library's name: what a model says it is, else
// the name.
func (it *interp) libNamed(st *state, path string) *value {
	canon := it.p.facts.canonical(path)
	if i := strings.LastIndexByte(canon, '.'); i > 0 {
		if fi := it.p.models[canon[:i]]; fi != nil {
			if m := it.modules["file\x00"+fi.path]; m != nil {
				if o := it.get(st, m.ns); o != nil {
					if v, _ := bound(o.get(canon[i+1:])); v != nil {
						return v
					}
				}
			}
		}
	}
	return lib(path)
}

// importStar is "from m import *".
func (it *interp) importStar(st *state, m *value, full string) {
	if m == nil {
		it.outside++
		it.fr.mod.stars = append(it.fr.mod.stars, full)
		return
	}
	if m.kind != vModule {
		return
	}
	src := m.mod
	o := it.get(st, src.ns)
	if o == nil {
		return
	}
	if all, _ := bound(o.get("__all__")); all != nil {
		if items, exact := it.iterate(st, all); exact {
			for _, n := range items {
				if n.isConstText() {
					it.bindName(st, n.str, it.importName(st, src, n.str, full))
				}
			}
			return
		}
	}
	for _, k := range slices.Clone(o.keys) {
		if isPublic(k) {
			if v, _ := bound(o.m[k]); v != nil {
				it.bindName(st, k, v)
			}
		}
	}
	it.fr.mod.stars = append(it.fr.mod.stars, src.stars...)
}
