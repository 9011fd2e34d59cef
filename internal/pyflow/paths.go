package pyflow

import (
	"path"
	"slices"
	"strings"
)

func init() {
	for name, f := range map[string]native{
		"join": pathJoin, "basename": pathBase, "dirname": pathDir, "split": pathSplit, "splitext": pathSplitExt,
		"normpath": pathNorm("norm"), "abspath": pathNorm("norm"), "realpath": pathNorm("real"),
		"isabs": pathIsAbs, "normcase": pathKeep, "expanduser": pathKeep, "expandvars": pathKeep, "fspath": pathKeep, "relpath": pathRel,
		"commonpath": pathCommon,
	} {
		natives["os.path."+name] = f
		natives["posixpath."+name] = f
	}
	natives["os.fspath"] = pathKeep
	natives["os.fsdecode"] = pathKeep
	for _, c := range [...]string{"Path", "PurePath", "PosixPath", "PurePosixPath"} {
		natives["pathlib."+c] = newPath
	}
	for name, f := range map[string]native{
		"joinpath": pathlibJoin, "resolve": pathlibResolve, "absolute": pathlibResolve, "expanduser": pathlibSame,
		"as_posix": pathlibText, "__str__": pathlibText, "is_relative_to": pathlibInside, "relative_to": pathlibRelative,
		"with_name": pathlibWithName, "with_suffix": pathlibWithSuffix, "with_stem": pathlibWithName, "is_absolute": func(it *interp, st *state, self *value, c *call) *value { return boolean },
		"iterdir": pathlibList, "glob": pathlibList, "rglob": pathlibBelow,
	} {
		natives["pathlib.Path."+name] = f
	}
	natives["pathlib.Path.cwd"] = func(it *interp, st *state, self *value, c *call) *value { return pathOfText(absolute("")) }
	natives["pathlib.Path.home"] = natives["pathlib.Path.cwd"]
}

// absolute is a path of which only its end is known.
func absolute(end string) *value {
	return fromPieces([]piece{{lit: "/"}, {sym: &sym{}, chars: AnyChars, not: []string{".."}}, {lit: end}})
}

// asPath is what os.fspath gives: text.
func (it *interp) asPath(st *state, v *value) *value {
	return over(v, func(v *value) *value {
		if t := it.pathText(st, v); t != nil {
			return t
		}
		if v.kind == vText {
			return v
		}
		return fromPieces(it.pieces(st, v))
	})
}

// pathText is str(v) of a pathlib path; nil for anything else.
func (it *interp) pathText(st *state, v *value) *value {
	if v.kind == vInst && v.str == "pathlib.Path" && len(v.elems) == 1 {
		return v.elems[0]
	}
	return nil
}

func pathOfText(t *value) *value {
	return &value{kind: vInst, str: "pathlib.Path", elems: []*value{t}, sym: t.sym}
}

// onePathMethod is the question whether a path of pathlib, whichever of several
// it is, is in a folder; nil for other methods. What it says holds of all.
func onePathMethod(v *value) *value {
	var t *value
	name := v.elems[0].str
	if name != "relative_to" && name != "is_relative_to" {
		return nil
	}
	for _, b := range v.elems {
		if b.kind != vBound || b.str != name || b.recv == nil || b.recv.kind != vInst || b.recv.str != "pathlib.Path" || len(b.recv.elems) == 0 {
			return nil
		}
		t = join(t, b.recv.elems[0])
	}
	return &value{kind: vBound, recv: pathOfText(t), str: name}
}

// normalPath reports whether a path, whichever of several it is, has no "..":
// it is known, or was normalised.
func normalPath(t *value) bool {
	some := false
	for _, a := range t.alts() {
		if a.isConstText() {
			continue
		}
		if !slices.ContainsFunc(symsOf(a), normalized) {
			return false
		}
		some = true
	}
	return some
}

// joinPaths is os.path.join(a, b).
func (it *interp) joinPaths(st *state, a, b *value) *value {
	return over2(a, b, func(a, b *value) *value {
		if a.kind != vText || b.kind != vText {
			return fromPieces(slices.Concat(it.pieces(st, a), []piece{{lit: "/"}}, it.pieces(st, b)))
		}
		if strings.HasPrefix(prefixOf(b), "/") {
			return b
		}
		if a.isConstText() && a.str == "" {
			return b
		}
		sep := text("/")
		if n := len(a.text); a.isConstText() && strings.HasSuffix(a.str, "/") || n > 0 && a.text[n-1].sym == nil && strings.HasSuffix(a.text[n-1].lit, "/") {
			sep = empty
		}
		joined := it.concat(st, it.concat(st, a, sep), b)
		// What begins with "/" replaces all before it.
		if len(b.text) > 0 && b.text[0].sym != nil && b.text[0].chars.Has('/') && !b.text[0].notFirst.Has('/') && !startsNot(st, b.text[0].sym, "/") {
			return join(joined, b)
		}
		return joined
	})
}

// startsNot reports whether a condition has said that s does not begin so.
func startsNot(st *state, s *sym, prefix string) bool {
	r, ok := st.known.of(s)
	return ok && slices.Contains(r.notPrefix, prefix)
}

func pathJoin(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) == 0 {
		return nil
	}
	out := it.asPath(st, c.args[0])
	for _, a := range c.args[1:] {
		out = it.joinPaths(st, out, it.asPath(st, a))
	}
	if c.rest != nil {
		r := fromPieces(it.pieces(st, c.rest))
		out = it.concat(st, it.concat(st, out, text("/")), r)
	}
	return out
}

func pathBase(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) == 0 {
		return nil
	}
	return over(it.asPath(st, c.args[0]), func(v *value) *value { return it.baseName(v) })
}

func (it *interp) baseName(v *value) *value {
	if v.isConstText() {
		return text(v.str[strings.LastIndexByte(v.str, '/')+1:])
	}
	// From the last "/" of a literal on, if nothing behind it has another.
	ps := v.text
	for i := len(ps) - 1; i >= 0; i-- {
		if ps[i].sym != nil {
			if ps[i].chars.Has('/') {
				break
			}
			continue
		}
		if k := strings.LastIndexByte(ps[i].lit, '/'); k >= 0 {
			out := slices.Clone(ps[i:])
			out[0].lit = out[0].lit[k+1:]
			return fromPieces(out)
		}
	}
	return narrowed(it.part(v, "basename", ""), AnyChars.Without("/"))
}

func pathDir(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) == 0 {
		return nil
	}
	return over(it.asPath(st, c.args[0]), func(v *value) *value { return it.dirName(v) })
}

func (it *interp) dirName(v *value) *value {
	if v.isConstText() {
		i := strings.LastIndexByte(v.str, '/')
		if i == 0 {
			return text("/")
		}
		return text(v.str[:max(i, 0)])
	}
	ps := v.text
	for i := len(ps) - 1; i >= 0; i-- {
		if ps[i].sym != nil {
			if ps[i].chars.Has('/') {
				// As far as the last "/" of the piece, which may be all before it.
				out := slices.Clone(ps[:i+1])
				out[i].sym = it.derive("dirname", "", ps[i].sym)
				return fromPieces(out)
			}
			continue
		}
		if k := strings.LastIndexByte(ps[i].lit, '/'); k >= 0 {
			out := slices.Clone(ps[:i+1])
			out[i].lit = out[i].lit[:k]
			return fromPieces(out)
		}
	}
	return it.part(v, "dirname", "")
}

func pathSplit(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) == 0 {
		return nil
	}
	return &value{kind: vTuple, elems: []*value{pathDir(it, st, nil, c), pathBase(it, st, nil, c)}}
}

func pathSplitExt(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) == 0 {
		return nil
	}
	v := it.asPath(st, c.args[0])
	root := over(v, func(v *value) *value {
		if v.isConstText() {
			return text(strings.TrimSuffix(v.str, path.Ext(v.str)))
		}
		if n := len(v.text) - 1; v.text[n].sym == nil && strings.Contains(v.text[n].lit, ".") {
			out := slices.Clone(v.text)
			out[n].lit = strings.TrimSuffix(out[n].lit, path.Ext(out[n].lit))
			return fromPieces(out)
		}
		return it.part(v, "stem", "")
	})
	ext := over(v, func(v *value) *value {
		if v.isConstText() {
			return text(path.Ext(v.str))
		}
		if n := len(v.text) - 1; v.text[n].sym == nil && strings.Contains(v.text[n].lit, ".") {
			return text(path.Ext(v.text[n].lit))
		}
		return narrowed(it.part(v, "ext", ""), AnyChars.Without("/"))
	})
	return &value{kind: vTuple, elems: []*value{root, ext}}
}

// pathNorm is normpath, abspath, realpath: a path without "..", which for the
// last two is absolute.
func pathNorm(op string) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		if len(c.args) == 0 {
			return nil
		}
		return over(it.asPath(st, c.args[0]), func(v *value) *value { return it.normPath(v, op) })
	}
}

func (it *interp) normPath(v *value, op string) *value {
	if v.isConstText() {
		if strings.HasPrefix(v.str, "/") {
			return text(path.Clean(v.str))
		}
		if op == "norm" {
			return text(path.Clean(v.str))
		}
		if s := path.Clean(v.str); !strings.HasPrefix(s, "..") {
			return absolute("/" + s)
		}
		return absolute("")
	}
	ch, labels, clean := charsOf(v)
	if staysBelow(v) {
		clean |= it.pathTags()
	}
	return &value{kind: vText, text: []piece{{sym: it.derive(op, around(v), symsOf(v)...), chars: ch.Or(CharsOf("/")), labels: labels, clean: clean &^ cleanUnlabelled(labels)}}}
}

// staysBelow reports whether what comes from outside is, in a path that begins
// with something else, nothing but names: without the letters of "/" and "..".
func staysBelow(v *value) bool {
	for i := range v.text {
		p := &v.text[i]
		if p.sym != nil && len(p.labels) > 0 && (i == 0 || p.chars.Has('/') || p.chars.Has('.')) {
			return false
		}
	}
	return len(v.text) > 0
}

// around is what stands around the unknown parts of a path: the same name in
// another folder is another path.
func around(v *value) string {
	var b strings.Builder
	for _, p := range v.text {
		if p.sym == nil {
			b.WriteString(p.lit)
		} else if len(v.text) > 1 {
			b.WriteByte(0)
		}
	}
	return b.String()
}

func pathIsAbs(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) == 0 {
		return nil
	}
	return textStarts(it, st, flatten(it.asPath(st, c.args[0])), &call{args: []*value{text("/")}})
}

func pathKeep(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) == 0 {
		return nil
	}
	return it.asPath(st, c.args[0])
}

func pathRel(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) == 0 {
		return nil
	}
	return over(it.asPath(st, c.args[0]), func(v *value) *value {
		if v.isConstText() {
			return run(AnyChars, nil)
		}
		return it.part(v, "relpath", "")
	})
}

// pathCommon is commonpath: its being equal to a folder says that all paths
// are in it.
func pathCommon(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) == 0 {
		return nil
	}
	items, _ := it.iterate(st, c.args[0])
	var syms []*sym
	var labels []label
	norm := true
	for _, x := range items {
		for _, t := range it.asPath(st, x).alts() {
			ss := symsOf(t)
			if l := it.labelsOf(st, t); len(l) > 0 {
				labels = addLabels(labels, l)
				norm = norm && len(ss) == 1 && normalized(ss[0])
			}
			syms = append(syms, ss...)
		}
	}
	op := "commonpath"
	if !norm {
		op = "common" // of paths with ".." in them it says nothing
	}
	return &value{kind: vText, text: []piece{{sym: it.derive(op, "", syms...), chars: AnyChars, labels: labels}}}
}

func newPath(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) == 0 {
		return pathOfText(text("."))
	}
	out := it.asPath(st, c.args[0])
	for _, a := range c.args[1:] {
		out = it.joinPaths(st, out, it.asPath(st, a))
	}
	return over(out, pathOfText)
}

// pathDiv is a / b of pathlib.
func (it *interp) pathDiv(st *state, a, b *value) *value {
	return over(it.joinPaths(st, it.asPath(st, a), it.asPath(st, b)), pathOfText)
}

func pathlibJoin(it *interp, st *state, self *value, c *call) *value {
	out := it.asPath(st, self)
	for _, a := range c.args {
		out = it.joinPaths(st, out, it.asPath(st, a))
	}
	return over(out, pathOfText)
}

func pathlibResolve(it *interp, st *state, self *value, c *call) *value {
	return over(it.asPath(st, self), func(v *value) *value { return pathOfText(it.resolved(v)) })
}

// resolved is realpath: absolute.
func (it *interp) resolved(v *value) *value {
	r := it.normPath(v, "real")
	if r.isConstText() || len(r.text) != 1 || prefixOf(r) != "" {
		return r
	}
	// It begins with a "/", whatever it was.
	out := *r
	out.text = []piece{{lit: "/"}, r.text[0]}
	out.text[1].sym = it.derive("real", "/", r.text[0].sym)
	return &out
}

func pathlibSame(it *interp, st *state, self *value, c *call) *value { return self }

func pathlibText(it *interp, st *state, self *value, c *call) *value { return it.pathText(st, self) }

func pathlibInside(it *interp, st *state, self *value, c *call) *value {
	t := it.pathText(st, self)
	if t == nil || len(c.args) == 0 || !allStored(it.labelsOf(st, c.args[0])) {
		return boolean
	}
	if normalPath(t) {
		return it.insideTest(t)
	}
	return boolean
}

func pathlibRelative(it *interp, st *state, self *value, c *call) *value {
	t := it.pathText(st, self)
	if t == nil || len(c.args) == 0 {
		return nil
	}
	if allStored(it.labelsOf(st, c.args[0])) && normalPath(t) {
		// It raises unless the path is below the other one.
		for _, s := range symsOf(t) {
			st.learnClean(s, it.pathTags(), 0)
		}
	}
	return pathOfText(it.refined(st, it.part(t, "relpath", "")))
}

func pathlibWithName(it *interp, st *state, self *value, c *call) *value {
	t := it.pathText(st, self)
	if t == nil || len(c.args) == 0 {
		return nil
	}
	return over(it.joinPaths(st, it.dirName(flatten(t)), it.asPath(st, c.args[0])), pathOfText)
}

func pathlibWithSuffix(it *interp, st *state, self *value, c *call) *value {
	t := it.pathText(st, self)
	if t == nil || len(c.args) == 0 {
		return nil
	}
	return over(it.concat(st, it.part(flatten(t), "stem", ""), it.asPath(st, c.args[0])), pathOfText)
}

func pathlibList(it *interp, st *state, self *value, c *call) *value {
	t := it.pathText(st, self)
	if t == nil {
		return nil
	}
	if p := c.arg(0, "pattern"); p != nil && p.isConstText() && t.isConstText() && strings.HasPrefix(t.str, "/") {
		if found, ok := it.globMatches(path.Join(t.str, p.str)); ok {
			var out []*value
			for _, name := range found {
				out = append(out, pathOfText(text(name)))
			}
			return it.list(st, oList, out, nil)
		}
	}
	return pathlibBelow(it, st, self, c)
}

// pathlibBelow gives paths of which only the beginning is known.
func pathlibBelow(it *interp, st *state, self *value, c *call) *value {
	t := it.pathText(st, self)
	if t == nil {
		return nil
	}
	name := piece{sym: &sym{}, chars: AnyChars.Without("/")}
	return it.list(st, oList, nil, pathOfText(fromPieces(slices.Concat(it.pieces(st, flatten(t)), []piece{{lit: "/"}, name}))))
}

// pathAttr is an attribute of a pathlib path; nil for a method.
func (it *interp) pathAttr(st *state, self *value, name string) *value {
	t := it.pathText(st, self)
	if t == nil {
		return nil
	}
	switch name {
	case "name":
		return over(t, it.baseName)
	case "parent":
		return over(over(t, it.dirName), pathOfText)
	case "parents":
		return &value{kind: vInst, str: "pathlib.parents", elems: []*value{t}}
	case "stem", "suffix":
		r := pathSplitExt(it, st, nil, &call{args: []*value{over(t, it.baseName)}})
		if name == "stem" {
			return r.elems[0]
		}
		return r.elems[1]
	case "suffixes", "parts":
		return it.list(st, oList, nil, over(t, it.baseName))
	}
	return nil
}
