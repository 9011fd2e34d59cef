package flask

import (
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// This file is the only one that knows how pysyntax lays a tree out.

type node = pysyntax.ID

type tree struct{ f *pysyntax.File }

type arg struct {
	name string // "" for a positional argument
	val  node
	star int // 1 for *args, 2 for **kwargs
}

func (t tree) at(id node) *pysyntax.Node { return &t.f.Nodes[id] }

func (t tree) kind(id node) pysyntax.Kind { return t.f.Nodes[id].Kind }

func (t tree) sym(s uint32) string { return t.f.Syms.Str(s) }

func (t tree) list(id uint32) []node { return t.f.List(id) }

func (t tree) body() []node { return t.list(t.at(t.f.Root).A) }

// call returns the parts of a call; fn is 0 for any other node.
func (t tree) call(id node) (fn node, args []arg) {
	n := t.at(id)
	if n.Kind != pysyntax.Call {
		return 0, nil
	}
	return n.A, t.args(n.B)
}

// callee returns what a call calls, 0 for any other node.
func (t tree) callee(id node) node {
	if n := t.at(id); n.Kind == pysyntax.Call {
		return n.A
	}
	return 0
}

func (t tree) args(list uint32) []arg {
	ids := t.list(list)
	args := make([]arg, 0, len(ids))
	for _, a := range ids {
		switch n := t.at(a); n.Kind {
		case pysyntax.Keyword:
			if n.A == 0 {
				args = append(args, arg{val: n.B, star: 2})
			} else {
				args = append(args, arg{name: t.sym(n.A), val: n.B})
			}
		case pysyntax.Starred:
			args = append(args, arg{val: n.A, star: 1})
		default:
			args = append(args, arg{val: a})
		}
	}
	return args
}

// attr returns the parts of base.name; base is 0 for any other node.
func (t tree) attr(id node) (base node, name string) {
	n := t.at(id)
	if n.Kind != pysyntax.Attribute {
		return 0, ""
	}
	return n.A, t.sym(n.B)
}

func (t tree) name(id node) string {
	if n := t.at(id); n.Kind == pysyntax.Name {
		return t.sym(n.A)
	}
	return ""
}

// sub returns the parts of base[index].
func (t tree) sub(id node) (base, index node) {
	n := t.at(id)
	if n.Kind != pysyntax.Subscript {
		return 0, 0
	}
	return n.A, n.B
}

type param struct {
	name    string
	ann     node
	def     node
	variant uint8 // pysyntax.Arg…
}

type def struct {
	name       string
	params     []param
	decorators []node
	body       []node
}

// def returns the parts of a function or, without params, of a class.
func (t tree) def(id node) (d def) {
	n := t.at(id)
	d.name = t.sym(n.A)
	d.body = t.list(n.C)
	if n.D != 0 {
		d.decorators = t.list(t.list(n.D)[0])
	}
	if n.Kind != pysyntax.ClassDef && n.B != 0 {
		for _, a := range t.list(t.at(n.B).A) {
			p := t.at(a)
			d.params = append(d.params, param{name: t.sym(p.A), ann: p.B, def: p.C, variant: p.Op})
		}
	}
	return d
}

func (t tree) bases(id node) []arg { return t.args(t.at(id).B) }

// firstPart returns the part of a dotted name before the first dot.
func firstPart(dotted string) string {
	s, _, _ := strings.Cut(dotted, ".")
	return s
}

// each calls f for the direct children of a node.
func (t tree) each(id node, f func(node)) {
	n := t.at(id)
	one := func(ids ...node) {
		for _, x := range ids {
			if x != 0 {
				f(x)
			}
		}
	}
	many := func(lists ...uint32) {
		for _, l := range lists {
			one(t.list(l)...)
		}
	}
	switch n.Kind {
	case pysyntax.Module:
		many(n.A)
	case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef, pysyntax.ClassDef:
		if n.D != 0 {
			x := t.list(n.D)
			many(x[0])
			one(x[1])
		}
		if n.Kind == pysyntax.ClassDef {
			many(n.B)
		} else {
			one(n.B)
		}
		many(n.C)
	case pysyntax.Arguments:
		many(n.A)
	case pysyntax.Arg:
		one(n.B, n.C)
	case pysyntax.Keyword:
		one(n.B)
	case pysyntax.Delete, pysyntax.Set, pysyntax.List, pysyntax.Tuple, pysyntax.Dict, pysyntax.BoolOp,
		pysyntax.JoinedStr, pysyntax.TemplateStr, pysyntax.MatchSequence, pysyntax.MatchOr:
		many(n.A)
	case pysyntax.Assign:
		many(n.A)
		one(n.B)
	case pysyntax.Return, pysyntax.Raise, pysyntax.Assert, pysyntax.ExprStmt, pysyntax.AugAssign, pysyntax.AnnAssign,
		pysyntax.WithItem, pysyntax.BinOp, pysyntax.UnaryOp, pysyntax.IfExp, pysyntax.Await, pysyntax.Yield,
		pysyntax.YieldFrom, pysyntax.Starred, pysyntax.Slice, pysyntax.Subscript, pysyntax.NamedExpr, pysyntax.Lambda,
		pysyntax.MatchValue:
		one(n.A, n.B, n.C)
	case pysyntax.TypeAlias:
		one(n.A, n.C)
	case pysyntax.FormattedValue, pysyntax.Interpolation:
		one(n.A, n.B)
	case pysyntax.Attribute:
		one(n.A)
	case pysyntax.Call, pysyntax.MatchClass:
		one(n.A)
		many(n.B)
	case pysyntax.For, pysyntax.AsyncFor:
		one(n.A, n.B)
		many(n.C, n.D)
	case pysyntax.While, pysyntax.If:
		one(n.A)
		many(n.B, n.C)
	case pysyntax.With, pysyntax.AsyncWith:
		many(n.A, n.B)
	case pysyntax.Match:
		one(n.A)
		many(n.B)
	case pysyntax.MatchCase:
		one(n.A, n.B)
		many(n.C)
	case pysyntax.MatchMapping:
		many(n.A)
	case pysyntax.MatchAs:
		one(n.A)
	case pysyntax.Try, pysyntax.TryStar:
		many(n.A, n.B, n.C, n.D)
	case pysyntax.ExceptHandler:
		one(n.A)
		many(n.C)
	case pysyntax.ListComp, pysyntax.SetComp, pysyntax.GeneratorExp:
		one(n.A)
		many(n.B)
	case pysyntax.DictComp:
		one(n.A, n.B)
		many(n.C)
	case pysyntax.Comprehension:
		one(n.A, n.B)
		many(n.C)
	case pysyntax.Compare:
		one(n.A)
		l := t.list(n.B)
		for i := 1; i < len(l); i += 2 {
			one(l[i])
		}
	}
}

// walk visits id and everything below it, in the order of the text, as long
// as f says so.
func (t tree) walk(id node, f func(node) bool) {
	if id == 0 || !f(id) {
		return
	}
	t.each(id, func(c node) { t.walk(c, f) })
}

type comparison struct {
	op    string
	right node
}

var compareOps = map[uint32]string{
	pysyntax.CmpEq: "==", pysyntax.CmpNe: "!=", pysyntax.CmpLt: "<", pysyntax.CmpLe: "<=", pysyntax.CmpGt: ">", pysyntax.CmpGe: ">=",
	pysyntax.CmpIs: "is", pysyntax.CmpIsNot: "is not", pysyntax.CmpIn: "in", pysyntax.CmpNotIn: "not in",
}

func (t tree) compare(id node) []comparison {
	l := t.list(t.at(id).B)
	var out []comparison
	for i := 0; i+1 < len(l); i += 2 {
		out = append(out, comparison{compareOps[l[i]], l[i+1]})
	}
	return out
}

func (t tree) text(id node) string { return string(t.f.Text(id)) }

// str returns the value of a string or bytes literal.
func (t tree) str(id node) (string, bool) {
	switch t.kind(id) {
	case pysyntax.Str:
		return t.f.StringValue(id)
	case pysyntax.Bytes:
		b, ok := t.f.BytesValue(id)
		return string(b), ok
	}
	return "", false
}

// piece returns the literal text in a formatted string.
func (t tree) piece(id node) (string, bool) { return t.f.StringValue(id) }

func (t tree) unary(id node) string {
	switch t.at(id).Op {
	case pysyntax.UnaryNot:
		return "not"
	case pysyntax.UnaryMinus:
		return "-"
	case pysyntax.UnaryPlus:
		return "+"
	}
	return "~"
}

func (t tree) isOr(id node) bool { return t.at(id).Op == pysyntax.BoolOr }

// position returns the place of a node.
func (t tree) position(path string, id node) Position {
	n := t.at(id)
	p := Position{File: path}
	p.Line, p.Column = t.f.Position(n.Start)
	p.EndLine, p.EndColumn = t.f.Position(n.End)
	return p
}
