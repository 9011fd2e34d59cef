package pysyntax

// AppendChildren appends the direct children of a node to ids, in the order
// of the text as far as CPython's fields are (a conditional expression gives
// its test before its body), and returns the result.
func (f *File) AppendChildren(ids []ID, id ID) []ID {
	n := &f.Nodes[id]
	one := func(id ID) {
		if id != 0 {
			ids = append(ids, id)
		}
	}
	many := func(list uint32) {
		for _, id := range f.List(list) {
			if id != 0 {
				ids = append(ids, id)
			}
		}
	}
	switch n.Kind {
	case Module, Arguments, Delete, Import, Set, List, Tuple, Dict, BoolOp, JoinedStr, TemplateStr,
		MatchSequence, MatchOr, MatchMapping:
		many(n.A)
	case FunctionDef, AsyncFunctionDef:
		x := f.extras(n)
		many(x[0])
		many(x[2])
		one(n.B)
		one(x[1])
		many(n.C)
	case ClassDef:
		x := f.extras(n)
		many(x[0])
		many(x[2])
		many(n.B)
		many(n.C)
	case Assign:
		many(n.A)
		one(n.B)
	case TypeAlias:
		one(n.A)
		many(n.B)
		one(n.C)
	case ImportFrom:
		many(n.B)
	case Arg, TypeVar, ParamSpec, TypeVarTuple:
		one(n.B)
		one(n.C)
	case Keyword:
		one(n.B)
	case For, AsyncFor:
		one(n.A)
		one(n.B)
		many(n.C)
		many(n.D)
	case While, If:
		one(n.A)
		many(n.B)
		many(n.C)
	case With, AsyncWith:
		many(n.A)
		many(n.B)
	case Match, Call, MatchClass, ListComp, SetComp, GeneratorExp:
		one(n.A)
		many(n.B)
	case Try, TryStar:
		many(n.A)
		many(n.B)
		many(n.C)
		many(n.D)
	case ExceptHandler:
		one(n.A)
		many(n.C)
	case MatchCase, Comprehension, DictComp:
		one(n.A)
		one(n.B)
		many(n.C)
	case Compare:
		one(n.A)
		for i, x := range f.List(n.B) {
			if i%2 == 1 {
				ids = append(ids, x)
			}
		}
	case FormattedValue, Interpolation, Subscript, BinOp, NamedExpr, Lambda, AugAssign, Raise, Assert, WithItem:
		one(n.A)
		one(n.B)
	case Return, ExprStmt, UnaryOp, Await, Yield, YieldFrom, Starred, Attribute, MatchValue, MatchSingleton, MatchAs:
		one(n.A)
	case AnnAssign, IfExp, Slice:
		one(n.A)
		one(n.B)
		one(n.C)
	}
	return ids
}

// Children returns the direct children of a node. See [File.AppendChildren].
func (f *File) Children(id ID) []ID { return f.AppendChildren(nil, id) }

// Walk calls visit for root and everything below it, parents before children
// and in the order of [File.AppendChildren]. If visit returns false, what is
// below the node is left out.
func Walk(f *File, root ID, visit func(id ID) bool) {
	if root == 0 {
		return
	}
	stack := []ID{root}
	for len(stack) > 0 {
		id := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if !visit(id) {
			continue
		}
		n := len(stack)
		stack = f.AppendChildren(stack, id)
		for i, j := n, len(stack)-1; i < j; i, j = i+1, j-1 {
			stack[i], stack[j] = stack[j], stack[i]
		}
	}
}

// Parents returns the parent of every node by id; 0 for the Module and for
// nodes that an error cut off from the tree.
func Parents(f *File) []ID {
	parents := make([]ID, len(f.Nodes))
	var children []ID
	Walk(f, f.Root, func(id ID) bool {
		children = f.AppendChildren(children[:0], id)
		for _, c := range children {
			parents[c] = id
		}
		return true
	})
	return parents
}

// limitDepth replaces what is nested so deep that the tree would be higher
// than MaxDepth, and returns the errors. A node always comes after its
// children, so one pass over the nodes does it.
func (f *File) limitDepth() []problem {
	var problems []problem
	height := make([]uint16, len(f.Nodes))
	var children []ID
	for id := 1; id < len(f.Nodes); id++ {
		n := &f.Nodes[id]
		h := 1
		children = f.AppendChildren(children[:0], uint32(id))
		for _, c := range children {
			h = max(h, int(height[c])+1)
		}
		if h >= MaxDepth && n.Kind != Module {
			if k := len(problems); k == 0 || problems[k-1].pos != n.Start {
				problems = append(problems, problem{n.Start, "too deeply nested"})
			}
			k := Bad
			if n.Kind.IsStatement() {
				k = ErrorStmt
			}
			*n, h = Node{Kind: k, Start: n.Start, End: n.End}, 1
		}
		height[id] = uint16(h)
	}
	return problems
}
