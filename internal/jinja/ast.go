package jinja

import (
	"sort"
	"strings"
)

// Template is a parsed template. It is not changed after [Parse] and may be
// used by several goroutines.
type Template struct {
	Path   string // as given to Parse
	Source string
	Body   []Node
	Errors []Error // by place

	lines []int // offsets at which lines begin
}

// Line returns the line and the column (in bytes) of an offset into Source,
// both counted from 1.
func (t *Template) Line(offset int) (line, column int) {
	offset = max(0, min(offset, len(t.Source)))
	i := sort.Search(len(t.lines), func(i int) bool { return t.lines[i] > offset }) - 1
	return i + 1, offset - t.lines[i] + 1
}

// Error is something in a template that is not Jinja.
type Error struct {
	Span
	Line    int // from 1
	Message string
}

// Span is a range of bytes of a template's source; End is exclusive. Every
// node has one.
type Span struct{ Start, End int }

// At returns the span.
func (s Span) At() Span { return s }

// Node is a statement, an output or text. A block's node spans everything
// from its first tag to its last.
type Node interface {
	At() Span
	node()
}

// Expr is an expression.
type Expr interface {
	At() Span
	expr()
	height() int
}

// Text is what comes out as it stands. Value is the source's text without the
// white space that a neighbour's "-" takes away.
type Text struct {
	Span
	Value string
	Raw   bool // inside {% raw %}, whose tags the span includes
}

// Comment is {# … #}.
type Comment struct {
	Span
	Text string
}

// Output is {{ X }}, or one argument of {% print %}.
type Output struct {
	Span
	X Expr
}

// If is {% if %} with its {% elif %}s.
type If struct {
	Span
	Branches []Branch // at least one
	Else     []Node
	HasElse  bool
}

// Branch is one condition of an [If].
type Branch struct {
	Span // of the tag
	Test Expr
	Body []Node
}

// For is {% for Target in Iter if Filter recursive %}. Else runs when there
// was nothing to iterate over.
type For struct {
	Span
	Target    Expr // *Name, or *Tuple of targets
	Iter      Expr
	Filter    Expr // nil if there is none
	Recursive bool
	Body      []Node
	Else      []Node
	HasElse   bool
}

// Block is {% block Name %}.
type Block struct {
	Span
	Name             string
	Scoped, Required bool
	Body             []Node
}

// Extends is {% extends Template %}.
type Extends struct {
	Span
	Template Expr
}

// Include is {% include Template %}. Template may be a list of names, of
// which the first that exists is taken.
type Include struct {
	Span
	Template      Expr
	IgnoreMissing bool
	WithContext   bool // the default
}

// Import is {% import Template as Alias %}.
type Import struct {
	Span
	Template    Expr
	Alias       string
	WithContext bool // not the default
}

// FromImport is {% from Template import Names %}.
type FromImport struct {
	Span
	Template    Expr
	Names       []Alias
	WithContext bool // not the default
}

// Alias is one name of a [FromImport]. As equals Name where nothing else was
// said.
type Alias struct{ Name, As string }

// Macro is {% macro Name(Params) %}.
type Macro struct {
	Span
	Name   string
	Params []Param
	Body   []Node
}

// Param is a parameter of a [Macro] or a [CallBlock]; Default may be nil.
type Param struct {
	Span
	Name    string
	Default Expr
}

// CallBlock is {% call(Params) X %}: X is a call of a macro, which may call
// its caller, that is Body, with arguments.
type CallBlock struct {
	Span
	Params []Param
	X      Expr
	Body   []Node
}

// FilterBlock is {% filter X %}. At the bottom of the chain of filters is one
// whose X is nil: the body's output.
type FilterBlock struct {
	Span
	X    Expr
	Body []Node
}

// Set is {% set Target = X %}. Target is a *Name, an *Attr of a namespace, or
// a *Tuple of such.
type Set struct {
	Span
	Target Expr
	X      Expr
}

// SetBlock is {% set Target | Filter %}: the target is what the body puts
// out, through the filters. Filter is nil if there are none; else at the
// bottom of its chain is one whose X is nil.
type SetBlock struct {
	Span
	Target Expr
	Filter Expr
	Body   []Node
}

// With is {% with a = 1, b = 2 %}. A value does not see the names before it.
type With struct {
	Span
	Targets []Expr
	Values  []Expr // as many
	Body    []Node
}

// Autoescape is {% autoescape X %}.
type Autoescape struct {
	Span
	X    Expr
	Body []Node
}

// Trans is {% trans %}, with what {% pluralize %} adds in Plural. Inside, an
// output is a name: one of Vars, or one of the template.
type Trans struct {
	Span
	Context string // of the message
	Vars    []Var
	Trimmed bool
	Body    []Node
	// Plural is the second form, Count the name that chooses, if given.
	Plural    []Node
	HasPlural bool
	Count     string
}

// Var is a name with its value. In {% trans name %} the value is the Name.
type Var struct {
	Span
	Name string
	X    Expr
}

// Do is {% do X %}.
type Do struct {
	Span
	X Expr
}

// Break is {% break %}.
type Break struct{ Span }

// Continue is {% continue %}.
type Continue struct{ Span }

// Debug is {% debug %}: it puts out the whole context.
type Debug struct{ Span }

// Unknown is a tag that Jinja does not know: an extension's, or a mistake.
type Unknown struct {
	Span
	Name string
	// Args are the tag's arguments as far as they are expressions; Keywords
	// those of the form name=value.
	Args     []Expr
	Keywords []Var
	// Body is what is between the tag and its end tag, if it has one.
	Body    []Node
	HasBody bool
}

func (*Text) node()        {}
func (*Comment) node()     {}
func (*Output) node()      {}
func (*If) node()          {}
func (*For) node()         {}
func (*Block) node()       {}
func (*Extends) node()     {}
func (*Include) node()     {}
func (*Import) node()      {}
func (*FromImport) node()  {}
func (*Macro) node()       {}
func (*CallBlock) node()   {}
func (*FilterBlock) node() {}
func (*Set) node()         {}
func (*SetBlock) node()    {}
func (*With) node()        {}
func (*Autoescape) node()  {}
func (*Trans) node()       {}
func (*Do) node()          {}
func (*Break) node()       {}
func (*Continue) node()    {}
func (*Debug) node()       {}
func (*Unknown) node()     {}

// base is what every expression has.
type base struct {
	Span
	h int // height of its tree
}

func (*base) expr()         {}
func (b *base) height() int { return b.h }

// Name is a variable.
type Name struct {
	base
	Name string
}

// ConstKind says what a [Const] is.
type ConstKind uint8

// The kinds of constants.
const (
	None ConstKind = iota
	Bool
	Int
	Float
	String
)

// Const is a literal. Text is a String's value (neighbouring strings are
// one), a number as it is written, without underscores, "true" or "false", or
// "none".
type Const struct {
	base
	Kind ConstKind
	Text string
}

// Attr is X.Name: the attribute, or else the item.
type Attr struct {
	base
	X    Expr
	Name string
}

// Item is X[Index], or X.0. Index may be a *Slice, or a *Tuple in which there
// are some.
type Item struct {
	base
	X, Index Expr
}

// Slice is lower:upper:step inside an [Item]; each may be nil.
type Slice struct {
	base
	Lower, Upper, Step Expr
}

// Args are the arguments of a call.
type Args struct {
	Args     []Expr
	Keywords []Var
	Star     Expr // *args, or nil
	StarStar Expr // **kwargs, or nil
}

// Call is Func(…).
type Call struct {
	base
	Func Expr
	Args
}

// Filter is X|Name(…). X is nil at the bottom of a [FilterBlock] or a
// [SetBlock].
type Filter struct {
	base
	X    Expr
	Name string // may have dots
	Args
}

// Test is X is Name(…).
type Test struct {
	base
	X       Expr
	Name    string // may have dots
	Negated bool   // is not
	Args
}

// BinOp is Left Op Right. Op is one of + - * / // % ** and or.
type BinOp struct {
	base
	Op          string
	Left, Right Expr
}

// UnaryOp is Op X. Op is one of not - +.
type UnaryOp struct {
	base
	Op string
	X  Expr
}

// Compare is a chain: a < b < c is Left a with two Ops.
type Compare struct {
	base
	Left Expr
	Ops  []CompareOp
}

// CompareOp is one link of a [Compare]. Op is one of == != < > <= >= in and
// "not in".
type CompareOp struct {
	Op    string
	Right Expr
}

// Cond is Then if Test else Else; Else may be nil: undefined.
type Cond struct {
	base
	Test, Then, Else Expr
}

// Concat is a ~ b ~ c.
type Concat struct {
	base
	Parts []Expr
}

// List is [a, b].
type List struct {
	base
	Items []Expr
}

// Tuple is (a, b) or a, b.
type Tuple struct {
	base
	Items []Expr
}

// Dict is {key: value}.
type Dict struct {
	base
	Keys, Values []Expr // as many
}

// Bad stands where no expression could be read. Parts are the expressions
// that could be.
type Bad struct {
	base
	Parts []Expr
}

// Kids calls f for every node directly inside n, in the order of the source.
func Kids(n Node, f func(Node)) {
	all := func(bodies ...[]Node) {
		for _, b := range bodies {
			for _, k := range b {
				f(k)
			}
		}
	}
	switch n := n.(type) {
	case *If:
		for _, b := range n.Branches {
			all(b.Body)
		}
		all(n.Else)
	case *For:
		all(n.Body, n.Else)
	case *Block:
		all(n.Body)
	case *Macro:
		all(n.Body)
	case *CallBlock:
		all(n.Body)
	case *FilterBlock:
		all(n.Body)
	case *SetBlock:
		all(n.Body)
	case *With:
		all(n.Body)
	case *Autoescape:
		all(n.Body)
	case *Trans:
		all(n.Body, n.Plural)
	case *Unknown:
		all(n.Body)
	}
}

// Walk calls f for the nodes and everything inside them, in the order of the
// source. Where f returns false, what is inside is left out.
func Walk(nodes []Node, f func(Node) bool) {
	for _, n := range nodes {
		if f(n) {
			Kids(n, func(k Node) { Walk([]Node{k}, f) })
		}
	}
}

// Exprs calls f for every expression that stands directly in n, not in the
// nodes inside it, in the order of the source. Targets of assignments are
// among them.
func Exprs(n Node, f func(Expr)) {
	each := func(es ...Expr) {
		for _, e := range es {
			if e != nil {
				f(e)
			}
		}
	}
	params := func(ps []Param) {
		for _, p := range ps {
			each(p.Default)
		}
	}
	vars := func(vs []Var) {
		for _, v := range vs {
			each(v.X)
		}
	}
	switch n := n.(type) {
	case *Output:
		each(n.X)
	case *If:
		for _, b := range n.Branches {
			each(b.Test)
		}
	case *For:
		each(n.Target, n.Iter, n.Filter)
	case *Extends:
		each(n.Template)
	case *Include:
		each(n.Template)
	case *Import:
		each(n.Template)
	case *FromImport:
		each(n.Template)
	case *Macro:
		params(n.Params)
	case *CallBlock:
		params(n.Params)
		each(n.X)
	case *FilterBlock:
		each(n.X)
	case *Set:
		each(n.Target, n.X)
	case *SetBlock:
		each(n.Target, n.Filter)
	case *With:
		for i := range n.Targets {
			each(n.Targets[i], n.Values[i])
		}
	case *Autoescape:
		each(n.X)
	case *Trans:
		vars(n.Vars)
	case *Do:
		each(n.X)
	case *Unknown:
		each(n.Args...)
		vars(n.Keywords)
	}
}

// Operands calls f for every expression directly inside e, in the order of
// the source, those of Keywords after the other arguments.
func Operands(e Expr, f func(Expr)) {
	each := func(es ...Expr) {
		for _, e := range es {
			if e != nil {
				f(e)
			}
		}
	}
	args := func(a *Args) {
		each(a.Args...)
		for _, k := range a.Keywords {
			each(k.X)
		}
		each(a.Star, a.StarStar)
	}
	switch e := e.(type) {
	case *Attr:
		each(e.X)
	case *Item:
		each(e.X, e.Index)
	case *Slice:
		each(e.Lower, e.Upper, e.Step)
	case *Call:
		each(e.Func)
		args(&e.Args)
	case *Filter:
		each(e.X)
		args(&e.Args)
	case *Test:
		each(e.X)
		args(&e.Args)
	case *BinOp:
		each(e.Left, e.Right)
	case *UnaryOp:
		each(e.X)
	case *Compare:
		each(e.Left)
		for _, o := range e.Ops {
			each(o.Right)
		}
	case *Cond:
		each(e.Then, e.Test, e.Else)
	case *Concat:
		each(e.Parts...)
	case *List:
		each(e.Items...)
	case *Tuple:
		each(e.Items...)
	case *Dict:
		for i := range e.Keys {
			each(e.Keys[i], e.Values[i])
		}
	case *Bad:
		each(e.Parts...)
	}
}

// lineStarts returns where the lines of src begin: after "\n", "\r\n" and
// "\r", as Jinja counts.
func lineStarts(src string) []int {
	starts := make([]int, 1, 1+strings.Count(src, "\n"))
	for i := 0; i < len(src); i++ {
		if src[i] == '\n' || src[i] == '\r' && (i+1 == len(src) || src[i+1] != '\n') {
			starts = append(starts, i+1)
		}
	}
	return starts
}
