package pysyntax

import "fmt"

// Kind says what a [Node] is. The names are those of CPython's ast module,
// with Constant split by type: Str, Bytes, Num, None, True, False, Ellipsis.
type Kind uint8

// The kinds of nodes. Where a comment gives a layout, it says what the fields
// A, B, C and D of the node hold; [File] has an accessor for each.
const (
	Bad Kind = iota // node 0, and what stands for an expression nested deeper than [MaxDepth]

	// Statements.
	Module           // A body
	FunctionDef      // A name, B Arguments, C body, D extras: decorators, returns, type parameters
	AsyncFunctionDef // as FunctionDef
	ClassDef         // A name, B arguments as of Call, C body, D extras: decorators, 0, type parameters
	Return           // A value
	Delete           // A targets
	Assign           // A targets, B value
	TypeAlias        // A Name, B type parameters, C value
	AugAssign        // Op, A target, B value
	AnnAssign        // A target, B annotation, C value
	For              // A target, B iterable, C body, D else
	AsyncFor         // as For
	While            // A test, B body, C else
	If               // A test, B body, C else: for elif one If node
	With             // A WithItems, B body
	AsyncWith        // as With
	Match            // A subject, B MatchCases
	Raise            // A exception, B cause
	Try              // A body, B ExceptHandlers, C else, D finally
	TryStar          // as Try
	Assert           // A test, B message
	Import           // A Aliases; Flags may have FLazy
	ImportFrom       // A module name, B Aliases, C level; Flags may have FLazy
	Global           // A list of names, not of nodes
	Nonlocal         // as Global
	ExprStmt         // A value
	Pass
	Break
	Continue
	ErrorStmt // text that is no statement; see File.Errors

	// Expressions.
	BoolOp         // Op, A operands
	NamedExpr      // A Name, B value
	BinOp          // Op, A left, B right
	UnaryOp        // Op, A operand
	Lambda         // A Arguments, B body
	IfExp          // A test, B value if true, C value if false
	Dict           // A keys and values in turn; key 0 for **value
	Set            // A elements
	ListComp       // A element, B Comprehensions
	SetComp        // as ListComp
	DictComp       // A key (0 for **value), B value, C Comprehensions
	GeneratorExp   // as ListComp
	Await          // A value
	Yield          // A value
	YieldFrom      // A value
	Compare        // A left, B operator and operand in turn
	Call           // A function, B arguments in the order of the text: expressions, Starred, Keyword
	FormattedValue // A value, B format (JoinedStr), C end of the expression's text, Op conversion; Flags may have FDebug
	Interpolation  // as FormattedValue, of a t-string
	JoinedStr      // A parts: StrPart, FormattedValue
	TemplateStr    // A parts: StrPart, Interpolation
	Str            // literal, or several next to each other: see [File.StringValue]
	Bytes          // see [File.BytesValue]
	StrPart        // literal text in a JoinedStr, TemplateStr or format
	Num            // see [File.NumValue]
	None
	True
	False
	Ellipsis
	Attribute // A value, B name
	Subscript // A value, B index: an expression, Slice or Tuple
	Starred   // A value
	Name      // A name
	List      // A elements
	Tuple     // A elements
	Slice     // A lower, B upper, C step

	// The rest.
	Comprehension  // A target, B iterable, C conditions; Flags may have FAsync
	ExceptHandler  // A type, B name, C body
	Arguments      // A Args
	Arg            // A name, B annotation, C default, Op Arg…; End is without the default
	Keyword        // A name (0 for **value), B value
	Alias          // A name, B name after as
	WithItem       // A value, B target
	MatchCase      // A pattern, B guard, C body
	MatchValue     // A value
	MatchSingleton // A None, True or False
	MatchSequence  // A patterns
	MatchMapping   // A keys and patterns in turn, B name of the rest
	MatchClass     // A class, B patterns and Keywords
	MatchStar      // A name
	MatchAs        // A pattern, B name; both 0 for _
	MatchOr        // A patterns
	TypeVar        // A name, B bound, C default
	ParamSpec      // as TypeVar
	TypeVarTuple   // as TypeVar
)

// ID names a node of one [File]: its index in File.Nodes. 0 is no node.
type ID = uint32

// Node is 28 bytes and holds no pointer, so that the garbage collector never
// scans a tree. A to D are node ids, list ids or symbols as the comment at
// the [Kind] says; 0 is nothing. Prefer the accessors of [File].
type Node struct {
	Kind       Kind
	Op         uint8
	Flags      uint16
	Start, End uint32 // bytes of File.Src; End is exclusive
	A, B, C, D uint32
}

// Flags of a [Node].
const (
	FParen uint16 = 1 << iota // the expression stood in parentheses, outside its span
	FAsync                    // async for in a comprehension
	FDebug                    // {value=} in an f-string
	FLazy                     // lazy import (PEP 810)
)

// Kinds of parameters, in Node.Op of an Arg and in [Param].
const (
	ArgPosOnly = iota // before /
	ArgNormal
	ArgVar    // *args
	ArgKwOnly // after * or *args
	ArgKw     // **kwargs
)

// Operators of BinOp and AugAssign. OpOr, OpXor and OpAnd are the bitwise
// ones.
const (
	OpAdd = iota + 1
	OpSub
	OpMul
	OpMatMul
	OpDiv
	OpMod
	OpPow
	OpLShift
	OpRShift
	OpOr
	OpXor
	OpAnd
	OpFloorDiv
)

// Operators of UnaryOp.
const (
	UnaryPlus = iota + 1
	UnaryMinus
	UnaryInvert
	UnaryNot
)

// Operators of BoolOp.
const (
	BoolAnd = iota + 1
	BoolOr
)

// Operators of Compare.
const (
	CmpEq = iota + 1
	CmpNe
	CmpLt
	CmpLe
	CmpGt
	CmpGe
	CmpIs
	CmpIsNot
	CmpIn
	CmpNotIn
)

// IsStatement reports whether nodes of the kind are statements.
func (k Kind) IsStatement() bool { return k >= FunctionDef && k <= ErrorStmt }

// String returns the name of the kind, as of the constant.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

var kindNames = [...]string{
	Bad:              "Bad",
	Module:           "Module",
	FunctionDef:      "FunctionDef",
	AsyncFunctionDef: "AsyncFunctionDef",
	ClassDef:         "ClassDef",
	Return:           "Return",
	Delete:           "Delete",
	Assign:           "Assign",
	TypeAlias:        "TypeAlias",
	AugAssign:        "AugAssign",
	AnnAssign:        "AnnAssign",
	For:              "For",
	AsyncFor:         "AsyncFor",
	While:            "While",
	If:               "If",
	With:             "With",
	AsyncWith:        "AsyncWith",
	Match:            "Match",
	Raise:            "Raise",
	Try:              "Try",
	TryStar:          "TryStar",
	Assert:           "Assert",
	Import:           "Import",
	ImportFrom:       "ImportFrom",
	Global:           "Global",
	Nonlocal:         "Nonlocal",
	ExprStmt:         "ExprStmt",
	Pass:             "Pass",
	Break:            "Break",
	Continue:         "Continue",
	ErrorStmt:        "ErrorStmt",
	BoolOp:           "BoolOp",
	NamedExpr:        "NamedExpr",
	BinOp:            "BinOp",
	UnaryOp:          "UnaryOp",
	Lambda:           "Lambda",
	IfExp:            "IfExp",
	Dict:             "Dict",
	Set:              "Set",
	ListComp:         "ListComp",
	SetComp:          "SetComp",
	DictComp:         "DictComp",
	GeneratorExp:     "GeneratorExp",
	Await:            "Await",
	Yield:            "Yield",
	YieldFrom:        "YieldFrom",
	Compare:          "Compare",
	Call:             "Call",
	FormattedValue:   "FormattedValue",
	Interpolation:    "Interpolation",
	JoinedStr:        "JoinedStr",
	TemplateStr:      "TemplateStr",
	Str:              "Str",
	Bytes:            "Bytes",
	StrPart:          "StrPart",
	Num:              "Num",
	None:             "None",
	True:             "True",
	False:            "False",
	Ellipsis:         "Ellipsis",
	Attribute:        "Attribute",
	Subscript:        "Subscript",
	Starred:          "Starred",
	Name:             "Name",
	List:             "List",
	Tuple:            "Tuple",
	Slice:            "Slice",
	Comprehension:    "Comprehension",
	ExceptHandler:    "ExceptHandler",
	Arguments:        "Arguments",
	Arg:              "Arg",
	Keyword:          "Keyword",
	Alias:            "Alias",
	WithItem:         "WithItem",
	MatchCase:        "MatchCase",
	MatchValue:       "MatchValue",
	MatchSingleton:   "MatchSingleton",
	MatchSequence:    "MatchSequence",
	MatchMapping:     "MatchMapping",
	MatchClass:       "MatchClass",
	MatchStar:        "MatchStar",
	MatchAs:          "MatchAs",
	MatchOr:          "MatchOr",
	TypeVar:          "TypeVar",
	ParamSpec:        "ParamSpec",
	TypeVarTuple:     "TypeVarTuple",
}
