// Package pysyntax parses Python 3.8 to 3.15, quickly and without ever giving
// up: what is not Python becomes a node of kind [ErrorStmt] and an entry in
// [File.Errors], and the statements around it are there. Of a compound
// statement whose line has an error but whose block can be told, only that line
// is lost: a [Bad] node stands for what could not be read of it, and its
// decorators, its block and its arms are where they belong.
//
// [Parse] returns a [File]: the source, a table of lines and a tree in the
// form of CPython's own ast module. A node is named by its [ID]; accessors
// take it apart:
//
//	f := pysyntax.Parse("app.py", src)
//	pysyntax.Walk(f, f.Root, func(id pysyntax.ID) bool {
//		if fn, args, keywords := f.Call(id); fn != 0 && f.DottedName(fn) == "os.system" {
//			line, col := f.Position(f.Node(id).Start)
//			…
//		}
//		return true
//	})
//
// An accessor asked about a node of another kind, or about id 0, returns zero
// values. [File.StringValue], [File.BytesValue] and [File.NumValue] decode
// literals as Python does.
//
// The tree lies in two slices without pointers, [File.Nodes] and
// [File.Lists]. Statements such as match, type and lazy import are understood
// whatever the Python version of the project; what a version forbids beyond
// the grammar, such as return outside of a function, is not an error here.
//
// Nesting is bounded: no tree is higher than [MaxDepth], so that recursive
// functions over it cannot overflow the stack.
package pysyntax
