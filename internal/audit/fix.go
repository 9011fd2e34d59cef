package audit

import (
	"bytes"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// The builders below make the edits of a [Finding] in terms of Python's tree.
// They return nil where they cannot be sure of the text: in a file whose
// encoding they cannot write, within an f-string, behind a **mapping. What
// needs several edits joins them with [Together], so that a repair is whole
// or absent:
//
//	name, imp := p.EnsureImport(f, "secrets", call)
//	p.Report(audit.Finding{
//		Span:  f.NodeSpan(call),
//		Edits: audit.Together(imp, p.ReplaceNode(f, fn, name+".choice")),
//	})
//
// Offsets of nodes count in the decoded source, offsets of edits in the
// file's own bytes; the builders translate.

// Together joins the parts of one repair. It is nil if a part is: an edit
// that could not be built must not be left out silently. An empty part that
// is not nil has nothing to do.
func Together(parts ...[]Edit) []Edit {
	all := []Edit{}
	for _, p := range parts {
		if p == nil {
			return nil
		}
		all = append(all, p...)
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// ReplaceNode replaces the text of a node; parentheses around it stay. That
// the new text binds as tightly as the place needs is the caller's business.
func (p *Pass) ReplaceNode(f *File, id pysyntax.ID, text string) []Edit {
	if f.Python == nil || id == 0 {
		return nil
	}
	n := f.Python.Node(id)
	return f.edit(n.Start, n.End, text)
}

// ValueAt returns the expression that a flask.Setting at that place is given:
// the value of an assignment whose target is there, of a dictionary whose key
// is there, or the expression itself. It is 0 if nothing of the kind is
// there.
func (p *Pass) ValueAt(f *File, at Span) pysyntax.ID {
	py := f.Python
	if py == nil || at.File != f.Path {
		return 0
	}
	start, end := f.srcOffset(at.Line, at.Column), f.srcOffset(at.EndLine, at.EndColumn)
	is := func(id pysyntax.ID) bool {
		n := py.Node(id)
		return id != 0 && n.Start == start && n.End == end
	}
	var value, itself pysyntax.ID
	pysyntax.Walk(py, py.Root, func(id pysyntax.ID) bool {
		n := py.Node(id)
		switch n.Kind {
		case pysyntax.Assign:
			targets, v := py.Assign(id)
			if slices.ContainsFunc(targets, is) {
				value = v
			}
		case pysyntax.AnnAssign:
			if t, _, v := py.AnnAssign(id); is(t) {
				value = v
			}
		case pysyntax.Dict:
			for k, v := range py.DictItems(id) {
				if is(k) {
					value = v
				}
			}
		}
		if !n.Kind.IsStatement() && n.Kind != pysyntax.Module && is(id) {
			itself = id
		}
		return value == 0
	})
	if value != 0 {
		return value
	}
	return itself
}

// CallAt returns the call at a place, or 0.
func (p *Pass) CallAt(f *File, at Span) pysyntax.ID {
	py := f.Python
	if py == nil || at.File != f.Path {
		return 0
	}
	start, end := f.srcOffset(at.Line, at.Column), f.srcOffset(at.EndLine, at.EndColumn)
	for i := range py.Nodes {
		if n := &py.Nodes[i]; n.Kind == pysyntax.Call && n.Start == start && n.End == end {
			return pysyntax.ID(i)
		}
	}
	return 0
}

// SetLiteral gives a setting at a place another value if what it has is one
// of the literals given by kind, such as pysyntax.True, and nil otherwise:
// what is computed may be meant.
func (p *Pass) SetLiteral(at Span, text string, old ...pysyntax.Kind) []Edit {
	f := p.Project.File(at.File)
	if f == nil || f.Python == nil {
		return nil
	}
	id := p.ValueAt(f, at)
	if id == 0 || !slices.Contains(old, f.Python.Kind(id)) {
		return nil
	}
	return p.ReplaceNode(f, id, text)
}

// SetKeyword gives a call the keyword argument name=value: in place of the
// value it has, or behind the last argument. It is nil where the call takes a
// **mapping or *sequence, which may hold the argument already.
func (p *Pass) SetKeyword(f *File, call pysyntax.ID, name, value string) []Edit {
	py := f.Python
	if py == nil || py.Kind(call) != pysyntax.Call {
		return nil
	}
	v, unpacks := py.Argument(call, name)
	if v != 0 {
		return p.ReplaceNode(f, v, value)
	}
	args := py.Arguments(call)
	for _, a := range args {
		k := py.Kind(a)
		unpacks = unpacks || k == pysyntax.Starred || k == pysyntax.GeneratorExp
	}
	n := py.Node(call)
	if unpacks || n.End == 0 || py.Src[n.End-1] != ')' {
		return nil
	}
	text := name + "=" + value
	if len(args) == 0 {
		fn, _, _ := py.Call(call)
		open, ok := openParen(py.Src, py.Node(fn).End, n.End)
		if !ok {
			return nil
		}
		return f.edit(open+1, open+1, text)
	}
	last := py.Node(args[len(args)-1])
	behind, comma, ok := behindArgument(py.Src, last.End, n.End-1)
	if !ok {
		return nil
	}
	if !comma {
		return f.edit(behind, behind, ", "+text)
	}
	// f(a,\n    b,  # why\n): a line of its own, like the one above.
	first := lineStart(py.Src, last.Start)
	indent := py.Src[first:last.Start]
	if end := lineEnd(py.Src, behind); len(bytes.TrimLeft(indent, " \t")) == 0 && end < n.End-1 {
		return f.edit(end, end, f.newline()+string(indent)+text+",")
	}
	return f.edit(behind, behind, " "+text+",")
}

// openParen finds the parenthesis that begins the arguments of a call, behind
// the function, which may itself stand in parentheses.
func openParen(src []byte, from, to uint32) (uint32, bool) {
	for i := from; i < to; i++ {
		switch src[i] {
		case '(':
			return i, true
		case ')', ' ', '\t', '\f', '\\', '\r', '\n':
		case '#':
			i = lineEnd(src, i) - 1
		default:
			return 0, false
		}
	}
	return 0, false
}

// behindArgument returns where the last argument of a call ends with the
// parentheses around it and the comma behind it; to is the parenthesis that
// ends the call.
func behindArgument(src []byte, from, to uint32) (end uint32, comma, ok bool) {
	end = from
	for i := from; i < to; i++ {
		switch src[i] {
		case ')':
			end = i + 1
		case ',':
			end, comma = i+1, true
		case ' ', '\t', '\f', '\\', '\r', '\n':
		case '#':
			i = lineEnd(src, i) - 1
		default:
			return 0, false, false
		}
	}
	return end, comma, true
}

var onlyCommas = regexp.MustCompile(`^[\s\\]*(?:,[\s\\]*)?$`)

// RemoveKeyword takes the keyword argument of that name out of a call. Where
// a comment or parentheses stand in the way, it is nil.
func (p *Pass) RemoveKeyword(f *File, call pysyntax.ID, name string) []Edit {
	py := f.Python
	if py == nil || py.Kind(call) != pysyntax.Call {
		return nil
	}
	args := py.Arguments(call)
	i := slices.IndexFunc(args, func(a pysyntax.ID) bool {
		k, _ := py.KeywordArg(a)
		return py.Kind(a) == pysyntax.Keyword && k == name
	})
	if i < 0 {
		return nil
	}
	n, whole := py.Node(args[i]), py.Node(call)
	start, end := n.Start, n.End
	clean := func(a, b uint32) bool { return a <= b && onlyCommas.Match(py.Src[a:b]) }
	switch {
	case i > 0:
		start = py.Node(args[i-1]).End
		if !clean(start, n.Start) {
			return nil
		}
	case len(args) > 1:
		end = py.Node(args[1]).Start
		if !clean(n.End, end) {
			return nil
		}
	default:
		end = whole.End - 1
		if !clean(n.End, end) {
			return nil
		}
	}
	return f.edit(start, end, "")
}

// InsertAfter puts lines below the statement, indented like it. It is nil
// where something else stands on the statement's lines.
func (p *Pass) InsertAfter(f *File, statement pysyntax.ID, lines ...string) []Edit {
	py := f.Python
	if py == nil || !py.Kind(statement).IsStatement() {
		return nil
	}
	n := py.Node(statement)
	first := lineStart(py.Src, n.Start)
	indent := py.Src[first:n.Start]
	end := lineEnd(py.Src, n.End)
	rest := bytes.TrimLeft(py.Src[n.End:end], " \t\f")
	if len(bytes.TrimLeft(indent, " \t")) > 0 || len(rest) > 0 && rest[0] != '#' {
		return nil
	}
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(f.newline())
		b.Write(indent)
		b.WriteString(l)
	}
	return f.edit(end, end, b.String())
}

// ReplaceInLine replaces the bytes from and to of a line, for files that are
// not Python.
func (p *Pass) ReplaceInLine(f *File, line, from, to int, text string) []Edit {
	if line < 1 || line > len(f.starts()) || from < 0 || from > to || to > len(f.Line(line)) {
		return nil
	}
	return []Edit{{File: f.Path, Start: f.starts()[line-1] + from, End: f.starts()[line-1] + to, New: text}}
}

// EnsureImport makes a module usable at a node and returns the name by which
// it is there: "secrets", an alias that the file has for it, or "ET" for
// xml.etree.ElementTree imported so. No edit is needed when the file imports
// it already; the edits are then empty and not nil. Where the name means
// something else in the file, or the project has a module of its own by that
// name, they are nil and the name is empty.
func (p *Pass) EnsureImport(f *File, module string, at pysyntax.ID) (name string, edits []Edit) {
	py := f.Python
	if py == nil || module == "" {
		return "", nil
	}
	body := py.Body()
	inFunction := withinFunction(py, at)
	for _, s := range body {
		if !inFunction && py.Node(s).Start > py.Node(at).Start {
			break
		}
		switch py.Kind(s) {
		case pysyntax.Import:
			for _, n := range py.Import(s) {
				if n.Name == module && bindings(py, n.Bound(), n.ID) == 0 {
					if n.As != "" {
						return n.As, []Edit{}
					}
					return module, []Edit{}
				}
			}
		case pysyntax.ImportFrom:
			from, level, names := py.ImportFrom(s)
			for _, n := range names {
				if level == 0 && from+"."+n.Name == module && bindings(py, n.Bound(), n.ID) == 0 {
					return n.Bound(), []Edit{}
				}
			}
		}
	}
	top, _, _ := strings.Cut(module, ".")
	if bindings(py, top, 0) > 0 || p.ownModule(f, top) {
		return "", nil
	}
	if edits = f.insertImport(module); edits == nil {
		return "", nil
	}
	return module, edits
}

// ownModule reports whether an import of name in f may find the project's own
// file.
func (p *Pass) ownModule(f *File, name string) bool {
	for dir := path.Dir(f.Path); ; dir = path.Dir(dir) {
		if p.Project.File(path.Join(dir, name+".py")) != nil || p.Project.File(path.Join(dir, name, "__init__.py")) != nil {
			return true
		}
		if dir == "." {
			return false
		}
	}
}

// insertImport puts an import where a person would: into the order of the
// first imports, below the docstring and what comes from __future__.
func (f *File) insertImport(module string) []Edit {
	py := f.Python
	body := py.Body()
	text, nl := "import "+module, f.newline()
	i := 0
	if i < len(body) && py.Kind(body[i]) == pysyntax.ExprStmt && py.Kind(py.Value(body[i])) == pysyntax.Str {
		i++
	}
	doc := i
	for ; i < len(body); i++ {
		if from, _, _ := py.ImportFrom(body[i]); from != "__future__" || py.Kind(body[i]) != pysyntax.ImportFrom {
			break
		}
	}
	first := i
	plain := func(s pysyntax.ID) string { // the module of a plain import that stands alone on its line
		if names := py.Import(s); len(names) > 0 && f.aloneBefore(s) {
			return names[0].Name
		}
		return ""
	}
	isImport := func(s pysyntax.ID) bool {
		k := py.Kind(s)
		return k == pysyntax.Import || k == pysyntax.ImportFrom
	}
	// The first group: imports without a blank line or anything else between.
	for ; i < len(body) && isImport(body[i]); i++ {
		if i > first {
			between := py.Src[py.Node(body[i-1]).End:py.Node(body[i]).Start]
			if bytes.Count(bytes.ReplaceAll(between, []byte("\r\n"), []byte("\n")), []byte("\n")) > 1 {
				break
			}
		}
		if name := plain(body[i]); name > module || py.Kind(body[i]) == pysyntax.ImportFrom && f.aloneBefore(body[i]) {
			at := lineStart(py.Src, py.Node(body[i]).Start)
			return f.edit(at, at, text+nl)
		}
	}
	if i > first { // behind the last of the group
		return f.below(body, i-1, nl+text)
	}
	if i > doc { // behind the last of __future__
		return f.below(body, i-1, nl+text)
	}
	if doc > 0 {
		return f.below(body, doc-1, nl+nl+text)
	}
	if len(body) == 0 {
		return nil
	}
	at, ok := f.statementLine(body[0])
	if !ok {
		return nil
	}
	return f.edit(at, at, text+nl+nl)
}

// below inserts text at the end of the line on which a statement of the
// module ends, if no other statement is there.
func (f *File) below(body []pysyntax.ID, i int, text string) []Edit {
	py := f.Python
	end := lineEnd(py.Src, py.Node(body[i]).End)
	rest := bytes.TrimLeft(py.Src[py.Node(body[i]).End:end], " \t\f")
	if len(rest) > 0 && rest[0] != '#' {
		return nil
	}
	return f.edit(end, end, text)
}

// aloneBefore reports whether nothing stands before a statement of the module
// on its line.
func (f *File) aloneBefore(s pysyntax.ID) bool {
	start := f.Python.Node(s).Start
	return lineStart(f.Python.Src, start) == start
}

// statementLine returns where the line of a statement of the module starts,
// decorators included.
func (f *File) statementLine(s pysyntax.ID) (uint32, bool) {
	py := f.Python
	start := py.Node(s).Start
	decorators := py.FunctionDef(s).Decorators
	if py.Kind(s) == pysyntax.ClassDef {
		decorators = py.ClassDef(s).Decorators
	}
	if len(decorators) > 0 {
		if at := py.Node(decorators[0]).Start; at < start {
			start = at
		}
		line := lineStart(py.Src, start)
		if before := bytes.TrimRight(py.Src[line:start], " \t("); string(before) != "@" && len(before) > 0 {
			return 0, false
		}
		return line, true
	}
	line := lineStart(py.Src, start)
	return line, line == start
}

// bindings counts the places in a file that give a name a meaning, except the
// import of that node.
func bindings(py *pysyntax.File, name string, except pysyntax.ID) int {
	return bindingsBelow(py, py.Root, name, except)
}

// bindingsIn counts the places in a function, or in the module, that give a
// name a meaning, those in functions within included: they may say nonlocal.
func bindingsIn(py *pysyntax.File, scope pysyntax.ID, name string) int {
	return bindingsBelow(py, scope, name, 0)
}

func bindingsBelow(py *pysyntax.File, root pysyntax.ID, name string, except pysyntax.ID) int {
	if name == "" {
		return 1 // nothing can be said
	}
	count := 0
	var target func(id pysyntax.ID, depth int)
	target = func(id pysyntax.ID, depth int) {
		switch py.Kind(id) {
		case pysyntax.Name:
			if py.Name(id) == name {
				count++
			}
		case pysyntax.Tuple, pysyntax.List:
			for _, e := range py.Elts(id) {
				if depth < pysyntax.MaxDepth {
					target(e, depth+1)
				}
			}
		case pysyntax.Starred:
			target(py.Value(id), depth+1)
		}
	}
	named := func(s string) {
		if s == name {
			count++
		}
	}
	pysyntax.Walk(py, root, func(id pysyntax.ID) bool {
		switch py.Kind(id) {
		case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef:
			d := py.FunctionDef(id)
			if id != root || root == py.Root {
				named(d.Name)
			}
			for _, a := range py.Params(id) {
				named(a.Name)
			}
		case pysyntax.Lambda:
			for _, a := range py.Params(id) {
				named(a.Name)
			}
		case pysyntax.ClassDef:
			named(py.ClassDef(id).Name)
		case pysyntax.Delete:
			for _, t := range py.Delete(id) {
				target(t, 0)
			}
		case pysyntax.Assign:
			targets, _ := py.Assign(id)
			for _, t := range targets {
				target(t, 0)
			}
		case pysyntax.AugAssign:
			t, _, _ := py.AugAssign(id)
			target(t, 0)
		case pysyntax.AnnAssign:
			t, _, _ := py.AnnAssign(id)
			target(t, 0)
		case pysyntax.NamedExpr:
			t, _ := py.NamedExpr(id)
			target(t, 0)
		case pysyntax.TypeAlias:
			t, _, _ := py.TypeAlias(id)
			target(t, 0)
		case pysyntax.For, pysyntax.AsyncFor:
			target(py.For(id).Target, 0)
		case pysyntax.Comprehension:
			t, _, _, _ := py.Comprehension(id)
			target(t, 0)
		case pysyntax.WithItem:
			_, t := py.WithItem(id)
			target(t, 0)
		case pysyntax.ExceptHandler:
			_, n, _ := py.ExceptHandler(id)
			named(n)
		case pysyntax.MatchAs:
			_, n := py.MatchAs(id)
			named(n)
		case pysyntax.MatchStar:
			named(py.MatchStar(id))
		case pysyntax.MatchMapping:
			_, _, n := py.MatchMapping(id)
			named(n)
		case pysyntax.Import, pysyntax.ImportFrom:
			_, _, names := py.ImportFrom(id)
			for _, n := range append(py.Import(id), names...) {
				// import a.b and import a.c bind the same a.
				if n.ID == except || n.As == "" && strings.HasPrefix(n.Name, name+".") {
					continue
				}
				named(n.Bound())
			}
		}
		return true
	})
	return count
}

// withinFunction reports whether a node stands in the body of a function,
// which runs after the module's imports.
func withinFunction(py *pysyntax.File, id pysyntax.ID) bool {
	at := py.Node(id)
	found := false
	pysyntax.Walk(py, py.Root, func(k pysyntax.ID) bool {
		n := py.Node(k)
		if n.Kind.IsStatement() && (at.Start < n.Start || at.End > n.End) {
			return false
		}
		if n.Kind == pysyntax.FunctionDef || n.Kind == pysyntax.AsyncFunctionDef {
			if body := py.FunctionDef(k).Body; len(body) > 0 && at.Start >= py.Node(body[0]).Start {
				found = true
			}
		}
		return !found
	})
	return found
}

// ---- the text of a file ----

// newline returns what ends the file's lines: that of its first one.
func (f *File) newline() string {
	i := bytes.IndexAny(f.Data, "\r\n")
	switch {
	case i < 0 || f.Data[i] == '\n':
		return "\n"
	case i+1 < len(f.Data) && f.Data[i+1] == '\n':
		return "\r\n"
	}
	return "\r"
}

// lineStart and lineEnd return where the line of an offset starts, behind a
// byte order mark, and where its line break begins.
func lineStart(src []byte, at uint32) uint32 {
	i := uint32(bytes.LastIndexAny(src[:at], "\r\n") + 1)
	if i == 0 && bytes.HasPrefix(src, []byte("\xef\xbb\xbf")) {
		return min(3, at)
	}
	return i
}

func lineEnd(src []byte, at uint32) uint32 {
	if i := bytes.IndexAny(src[at:], "\r\n"); i >= 0 {
		return at + uint32(i)
	}
	return uint32(len(src))
}

// srcOffset returns the offset in the decoded source of a line and column as
// of [pysyntax.File.Position].
func (f *File) srcOffset(line, col int) uint32 {
	src := f.Python.Src
	at := 0
	for n := 1; n < line; n++ {
		i := bytes.IndexAny(src[at:], "\r\n")
		if i < 0 {
			return uint32(len(src))
		}
		at += i + 1
		if src[at-1] == '\r' && at < len(src) && src[at] == '\n' {
			at++
		}
	}
	if line == 1 && bytes.HasPrefix(src, []byte("\xef\xbb\xbf")) {
		at = 3
	}
	for c := 1; c < col && at < len(src); c++ {
		_, n := utf8.DecodeRune(src[at:])
		at += n
	}
	return uint32(at)
}

// edit replaces a range of the decoded source, or returns nil where that
// cannot be said in bytes of the file.
func (f *File) edit(start, end uint32, text string) []Edit {
	if f.inFString(start, end, text) {
		return nil
	}
	return f.editAnywhere(start, end, text)
}

// editAnywhere is edit for those who know what they do to an f-string.
func (f *File) editAnywhere(start, end uint32, text string) []Edit {
	src := f.Python.Src
	if start > end || int(end) > len(src) {
		return nil
	}
	if len(src) == len(f.Data) && bytes.Equal(src, f.Data) {
		return []Edit{{File: f.Path, Start: int(start), End: int(end), New: text}}
	}
	// Another encoding than UTF-8: the new text must mean the same in it.
	a, ok := f.dataOffset(start)
	b, ok2 := f.dataOffset(end)
	if !ok || !ok2 || strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return nil
	}
	return []Edit{{File: f.Path, Start: a, End: b, New: text}}
}

// dataOffset translates an offset in the decoded source into one in the
// file's bytes.
func (f *File) dataOffset(at uint32) (int, bool) {
	src := f.Python.Src
	if utf8.RuneCount(src) == len(f.Data) { // one byte to a character
		return utf8.RuneCount(src[:at]), true
	}
	// Several bytes to a character. In all the encodings that Python takes
	// for source and that keep no state (which escapes would change), the
	// line break is never a part of a character; so what begins a line and is
	// ASCII is the same bytes.
	if bytes.ContainsAny(f.Data, "\x1b\x0e\x0f") {
		return 0, false
	}
	begin := bytes.LastIndexByte(src[:at], '\n') + 1
	prefix := src[begin:at]
	if bytes.ContainsFunc(prefix, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return 0, false
	}
	data := f.Data
	base := 0
	for range bytes.Count(src[:at], []byte("\n")) {
		i := bytes.IndexByte(data[base:], '\n')
		if i < 0 {
			return 0, false
		}
		base += i + 1
	}
	if !bytes.HasPrefix(data[base:], prefix) {
		return 0, false
	}
	return base + len(prefix), true
}

// inFString reports whether a range lies within an f-string in which the text
// could end the string or the field (before Python 3.12 any quote may).
func (f *File) inFString(start, end uint32, text string) bool {
	if !strings.ContainsAny(text, "\"'\\#{}!:=\r\n") {
		return false
	}
	for i := range f.Python.Nodes {
		n := &f.Python.Nodes[i]
		if (n.Kind == pysyntax.JoinedStr || n.Kind == pysyntax.TemplateStr) && n.Start < end && start < n.End && (n.Start < start || end < n.End) {
			return true
		}
	}
	return false
}
