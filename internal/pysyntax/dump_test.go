package pysyntax

import (
	"fmt"
	"strconv"
)

// dumper writes a tree as testdata/pdump.py writes CPython's.
type dumper struct {
	f      *File
	b      []byte
	bare   bool // no positions now
	fields bool // no positions inside of f-strings
}

// dump renders the tree to compare it with CPython's. See testdata/pdump.py
// for bareFields.
func dump(f *File, bareFields bool) []byte {
	d := &dumper{f: f, fields: bareFields}
	if bareFields {
		d.b = append(d.b, "bare\n"...)
	}
	for _, s := range f.Body() {
		d.n(s)
	}
	return d.b
}

func (d *dumper) w(s string) { d.b = append(d.b, s...); d.b = append(d.b, ' ') }
func (d *dumper) open(tag string, n *Node) {
	d.b = append(d.b, '(')
	d.b = append(d.b, tag...)
	if !d.bare {
		d.b = append(d.b, '@')
		d.b = strconv.AppendUint(d.b, uint64(n.Start), 10)
		d.b = append(d.b, '-')
		d.b = strconv.AppendUint(d.b, uint64(n.End), 10)
	}
	d.b = append(d.b, ' ')
}
func (d *dumper) close() { d.b = append(d.b, ')') }
func (d *dumper) l(id uint32) {
	d.b = append(d.b, '[')
	for _, x := range d.f.List(id) {
		d.n(x)
	}
	d.b = append(d.b, ']')
}

var cmpNames = []string{"", "Eq", "NotEq", "Lt", "LtE", "Gt", "GtE", "Is", "IsNot", "In", "NotIn"}
var opNames = []string{"", "Add", "Sub", "Mult", "MatMult", "Div", "Mod", "Pow", "LShift", "RShift", "BitOr", "BitXor", "BitAnd", "FloorDiv"}

func (d *dumper) args(id uint32) {
	d.b = append(d.b, '{')
	if id != 0 {
		for _, a := range d.f.List(d.f.Nodes[id].A) {
			n := &d.f.Nodes[a]
			d.b = append(d.b, "pnvkd"[n.Op])
			d.open("arg", n)
			d.w(d.f.str(n.A))
			d.n(n.B)
			d.close()
			if n.Op != ArgVar && n.Op != ArgKw {
				d.b = append(d.b, '=')
				d.n(n.C)
			}
		}
	}
	d.b = append(d.b, '}')
}

func (d *dumper) parts(l uint32) {
	bare := d.bare
	d.bare = d.fields
	defer func() { d.bare = bare }()
	lit := false
	for _, x := range d.f.List(l) {
		n := &d.f.Nodes[x]
		if n.Kind == StrPart {
			b := d.f.Src[n.Start:n.End]
			if n.Op&(litF|litT) == 0 {
				for b[0] != '"' && b[0] != '\'' {
					b = b[1:]
				}
				q := 1
				if n.Op&litTriple != 0 {
					q = 3
				}
				b = b[q : len(b)-q]
			}
			if n.Op&litRaw == 0 {
				for len(b) >= 2 && b[0] == '\\' && (b[1] == '\n' || b[1] == '\r') {
					if b[1] == '\r' && len(b) > 2 && b[2] == '\n' {
						b = b[1:]
					}
					b = b[2:]
				}
			}
			if len(b) > 0 {
				lit = true
			}
			continue
		}
		if n.Flags&FDebug != 0 {
			lit = true
		}
		if lit {
			d.w("S")
		}
		lit = false
		d.n(x)
	}
	if lit {
		d.w("S")
	}
}

func (d *dumper) n(id uint32) {
	if id == 0 {
		d.w("-")
		return
	}
	f := d.f
	n := &f.Nodes[id]
	switch n.Kind {
	case FunctionDef, AsyncFunctionDef:
		t := "FunctionDef"
		if n.Kind == AsyncFunctionDef {
			t = "AsyncFunctionDef"
		}
		d.open(t, n)
		d.w(d.f.str(n.A))
		x := []uint32{0, 0, 0}
		if n.D != 0 {
			x = f.List(n.D)
		}
		d.args(n.B)
		d.l(x[0])
		d.n(x[1])
		d.l(x[2])
		d.l(n.C)
	case ClassDef:
		d.open("ClassDef", n)
		d.w(d.f.str(n.A))
		x := []uint32{0, 0, 0}
		if n.D != 0 {
			x = f.List(n.D)
		}
		d.l(n.B)
		d.l(x[0])
		d.l(x[2])
		d.l(n.C)
	case Return:
		d.open("Return", n)
		d.n(n.A)
	case Delete:
		d.open("Delete", n)
		d.l(n.A)
	case Assign:
		d.open("Assign", n)
		d.l(n.A)
		d.n(n.B)
	case TypeAlias:
		d.open("TypeAlias", n)
		d.n(n.A)
		d.l(n.B)
		d.n(n.C)
	case AugAssign:
		d.open("AugAssign", n)
		d.w(opNames[n.Op])
		d.n(n.A)
		d.n(n.B)
	case AnnAssign:
		d.open("AnnAssign", n)
		d.n(n.A)
		d.n(n.B)
		d.n(n.C)
	case For, AsyncFor:
		t := "For"
		if n.Kind == AsyncFor {
			t = "AsyncFor"
		}
		d.open(t, n)
		d.n(n.A)
		d.n(n.B)
		d.l(n.C)
		d.l(n.D)
	case While:
		d.open("While", n)
		d.n(n.A)
		d.l(n.B)
		d.l(n.C)
	case If:
		d.open("If", n)
		d.n(n.A)
		d.l(n.B)
		d.l(n.C)
	case With, AsyncWith:
		t := "With"
		if n.Kind == AsyncWith {
			t = "AsyncWith"
		}
		d.open(t, n)
		d.l(n.A)
		d.l(n.B)
	case WithItem:
		d.b = append(d.b, "(item "...)
		d.n(n.A)
		d.n(n.B)
	case Match:
		d.open("Match", n)
		d.n(n.A)
		d.l(n.B)
	case MatchCase:
		d.b = append(d.b, "(case "...)
		d.n(n.A)
		d.n(n.B)
		d.l(n.C)
	case Raise:
		d.open("Raise", n)
		d.n(n.A)
		d.n(n.B)
	case Try, TryStar:
		t := "Try"
		if n.Kind == TryStar {
			t = "TryStar"
		}
		d.open(t, n)
		d.l(n.A)
		d.l(n.B)
		d.l(n.C)
		d.l(n.D)
	case ExceptHandler:
		d.open("ExceptHandler", n)
		d.n(n.A)
		d.w(d.f.str(n.B))
		d.l(n.C)
	case Assert:
		d.open("Assert", n)
		d.n(n.A)
		d.n(n.B)
	case Import:
		d.open("Import", n)
		d.l(n.A)
	case ImportFrom:
		d.open("ImportFrom", n)
		d.w(d.f.str(n.A))
		d.w(fmt.Sprint(n.C))
		d.l(n.B)
	case Alias:
		d.open("alias", n)
		d.w(d.f.str(n.A))
		d.w(d.f.str(n.B))
	case Global, Nonlocal:
		t := "Global"
		if n.Kind == Nonlocal {
			t = "Nonlocal"
		}
		d.open(t, n)
		for _, s := range f.List(n.A) {
			d.w(d.f.str(s))
		}
	case ExprStmt:
		d.open("Expr", n)
		d.n(n.A)
	case Pass:
		d.open("Pass", n)
	case Break:
		d.open("Break", n)
	case Continue:
		d.open("Continue", n)
	case ErrorStmt:
		d.open("ERROR", n)
	case BoolOp:
		d.open("BoolOp", n)
		if n.Op == BoolOr {
			d.w("Or")
		} else {
			d.w("And")
		}
		d.l(n.A)
	case NamedExpr:
		d.open("NamedExpr", n)
		d.n(n.A)
		d.n(n.B)
	case BinOp:
		d.open("BinOp", n)
		d.w(opNames[n.Op])
		d.n(n.A)
		d.n(n.B)
	case UnaryOp:
		d.open("UnaryOp", n)
		d.w([]string{"", "UAdd", "USub", "Invert", "Not"}[n.Op])
		d.n(n.A)
	case Lambda:
		d.open("Lambda", n)
		d.args(n.A)
		d.n(n.B)
	case IfExp:
		d.open("IfExp", n)
		d.n(n.A)
		d.n(n.B)
		d.n(n.C)
	case Dict:
		d.open("Dict", n)
		d.l(n.A)
	case Set:
		d.open("Set", n)
		d.l(n.A)
	case ListComp, SetComp, GeneratorExp:
		d.open([]string{"ListComp", "SetComp", "", "GeneratorExp"}[n.Kind-ListComp], n)
		d.n(n.A)
		d.l(n.B)
	case DictComp:
		d.open("DictComp", n)
		d.n(n.A)
		d.n(n.B)
		d.l(n.C)
	case Comprehension:
		d.b = append(d.b, "(comp "...)
		if n.Flags&FAsync != 0 {
			d.w("async")
		}
		d.n(n.A)
		d.n(n.B)
		d.l(n.C)
	case Await:
		d.open("Await", n)
		d.n(n.A)
	case Yield:
		d.open("Yield", n)
		d.n(n.A)
	case YieldFrom:
		d.open("YieldFrom", n)
		d.n(n.A)
	case Compare:
		d.open("Compare", n)
		d.n(n.A)
		l := f.List(n.B)
		for i := 0; i < len(l); i += 2 {
			d.w(cmpNames[l[i]])
			d.n(l[i+1])
		}
	case Call:
		d.open("Call", n)
		d.n(n.A)
		d.l(n.B)
	case Keyword:
		d.open("keyword", n)
		d.w(d.f.str(n.A))
		d.n(n.B)
	case FormattedValue, Interpolation:
		t := "FormattedValue"
		if n.Kind == Interpolation {
			t = "Interpolation"
		}
		d.open(t, n)
		d.n(n.A)
		c := n.Op
		if c == 0 && n.Flags&FDebug != 0 && n.B == 0 {
			c = 'r'
		}
		if c != 0 {
			d.w(string(rune(c)))
		}
		if n.B != 0 {
			d.b = append(d.b, '<')
			d.parts(f.Nodes[n.B].A)
			d.b = append(d.b, '>')
		}
	case JoinedStr:
		d.open("JoinedStr", n)
		d.parts(n.A)
	case TemplateStr:
		d.open("TemplateStr", n)
		d.parts(n.A)
	case Str:
		d.open("s", n)
	case Bytes:
		d.open("b", n)
	case Num:
		d.open("n", n)
	case None:
		d.open("None", n)
	case True:
		d.open("True", n)
	case False:
		d.open("False", n)
	case Ellipsis:
		d.open("Ellipsis", n)
	case Attribute:
		d.open("Attribute", n)
		d.n(n.A)
		d.w(d.f.str(n.B))
	case Subscript:
		d.open("Subscript", n)
		d.n(n.A)
		d.n(n.B)
	case Starred:
		d.open("Starred", n)
		d.n(n.A)
	case Name:
		d.open("Name", n)
		d.w(d.f.str(n.A))
	case List:
		d.open("List", n)
		d.l(n.A)
	case Tuple:
		d.open("Tuple", n)
		d.l(n.A)
	case Slice:
		d.open("Slice", n)
		d.n(n.A)
		d.n(n.B)
		d.n(n.C)
	case MatchValue:
		d.open("MatchValue", n)
		d.n(n.A)
	case MatchSingleton:
		d.open("MatchSingleton", n)
	case MatchSequence:
		d.open("MatchSequence", n)
		d.l(n.A)
	case MatchMapping:
		d.open("MatchMapping", n)
		d.l(n.A)
		d.w(d.f.str(n.B))
	case MatchClass:
		d.open("MatchClass", n)
		d.n(n.A)
		for _, x := range f.List(n.B) {
			if k := &f.Nodes[x]; k.Kind == Keyword {
				d.w(d.f.str(k.A))
				d.n(k.B)
			} else {
				d.n(x)
			}
		}
	case MatchStar:
		d.open("MatchStar", n)
		d.w(d.f.str(n.A))
	case MatchAs:
		d.open("MatchAs", n)
		d.n(n.A)
		d.w(d.f.str(n.B))
	case MatchOr:
		d.open("MatchOr", n)
		d.l(n.A)
	case TypeVar, ParamSpec, TypeVarTuple:
		d.open([]string{"TypeVar", "ParamSpec", "TypeVarTuple"}[n.Kind-TypeVar], n)
		d.w(d.f.str(n.A))
		d.n(n.B)
		d.n(n.C)
	default:
		d.open(fmt.Sprint("KIND", n.Kind), n)
	}
	d.close()
}
