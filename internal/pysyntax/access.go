package pysyntax

import (
	"bytes"
	"iter"
)

// The accessors below take a tree apart. Each answers for the kinds of nodes
// that its comment names and returns zero values for all others, id 0
// included. Lists belong to the tree: do not change them.

// is returns the node if it is of one of the kinds, and otherwise node 0,
// whose fields are all zero.
func (f *File) is(id ID, kinds ...Kind) *Node {
	n := &f.Nodes[id]
	for _, k := range kinds {
		if n.Kind == k {
			return n
		}
	}
	return &f.Nodes[0]
}

func (f *File) str(sym uint32) string { return f.Syms.strs[sym] }

// extras returns the lists and the node that few functions and classes have.
func (f *File) extras(n *Node) (x [3]uint32) {
	if n.D != 0 {
		copy(x[:], f.List(n.D))
	}
	return x
}

// Body returns the statements of the module.
func (f *File) Body() []ID { return f.List(f.Nodes[f.Root].A) }

// Name returns the identifier of a Name. As everywhere in the tree it is in
// the normal form NFKC, as Python compares identifiers (PEP 3131).
func (f *File) Name(id ID) string { return f.str(f.is(id, Name).A) }

// Attribute returns the parts of value.name.
func (f *File) Attribute(id ID) (value ID, name string) {
	n := f.is(id, Attribute)
	return n.A, f.str(n.B)
}

// DottedName returns "a.b.c" for a Name or for Attributes of a Name, and
// otherwise "".
func (f *File) DottedName(id ID) string {
	n := &f.Nodes[id]
	if n.Kind == Name {
		return f.str(n.A)
	}
	var parts []string
	size := 0
	for ; n.Kind == Attribute; n = &f.Nodes[n.A] {
		parts = append(parts, f.str(n.B))
		size += len(f.str(n.B)) + 1
	}
	if n.Kind != Name {
		return ""
	}
	b := append(make([]byte, 0, size+len(f.str(n.A))), f.str(n.A)...)
	for i := len(parts) - 1; i >= 0; i-- {
		b = append(append(b, '.'), parts[i]...)
	}
	return string(b)
}

// Subscript returns the parts of value[index].
func (f *File) Subscript(id ID) (value, index ID) {
	n := f.is(id, Subscript)
	return n.A, n.B
}

// Slice returns the parts of lower:upper:step, each 0 if left out.
func (f *File) Slice(id ID) (lower, upper, step ID) {
	n := f.is(id, Slice)
	return n.A, n.B, n.C
}

// Value returns the one expression that an ExprStmt, Return, Await, Yield,
// YieldFrom, Starred, MatchValue or MatchSingleton holds; 0 for a bare return
// or yield.
func (f *File) Value(id ID) ID {
	return f.is(id, ExprStmt, Return, Await, Yield, YieldFrom, Starred, MatchValue, MatchSingleton).A
}

// Call returns the parts of a Call. args are the positional arguments, of
// which a Starred gives any number; keywords are of kind Keyword.
func (f *File) Call(id ID) (fn ID, args, keywords []ID) {
	n := f.is(id, Call)
	args, keywords = f.splitArgs(n.B)
	return n.A, args, keywords
}

// Arguments returns the arguments of a Call, or the bases and keywords of a
// ClassDef, in the order of the text.
func (f *File) Arguments(id ID) []ID { return f.List(f.is(id, Call, ClassDef).B) }

// Argument returns the value of the keyword argument of that name of a Call
// or ClassDef, or 0. hasUnpack says that there is a **mapping, which may hold
// it all the same.
func (f *File) Argument(id ID, name string) (value ID, hasUnpack bool) {
	for _, a := range f.Arguments(id) {
		if n := &f.Nodes[a]; n.Kind == Keyword {
			switch {
			case n.A == 0:
				hasUnpack = true
			case value == 0 && f.str(n.A) == name:
				value = n.B
			}
		}
	}
	return value, hasUnpack
}

func (f *File) splitArgs(list uint32) (args, keywords []ID) {
	all := f.List(list)
	i := 0
	for i < len(all) && f.Nodes[all[i]].Kind != Keyword {
		i++
	}
	j := i
	for j < len(all) && f.Nodes[all[j]].Kind == Keyword {
		j++
	}
	if j == len(all) {
		return all[:i:i], all[i:]
	}
	args, keywords = append(args, all[:i]...), append(keywords, all[i:j]...)
	for _, a := range all[j:] { // f(k=1, *args)
		if f.Nodes[a].Kind == Keyword {
			keywords = append(keywords, a)
		} else {
			args = append(args, a)
		}
	}
	return args, keywords
}

// KeywordArg returns the parts of a Keyword; name is "" for **value.
func (f *File) KeywordArg(id ID) (name string, value ID) {
	n := f.is(id, Keyword)
	return f.str(n.A), n.B
}

// Function is a def, or async def.
type Function struct {
	Name       string
	Params     ID // Arguments, 0 if there are none: see [File.Params]
	Body       []ID
	Decorators []ID
	Returns    ID
	TypeParams []ID
	Async      bool
}

// FunctionDef returns the parts of a FunctionDef or AsyncFunctionDef.
func (f *File) FunctionDef(id ID) Function {
	n := f.is(id, FunctionDef, AsyncFunctionDef)
	x := f.extras(n)
	return Function{
		Name: f.str(n.A), Params: n.B, Body: f.List(n.C),
		Decorators: f.List(x[0]), Returns: x[1], TypeParams: f.List(x[2]),
		Async: n.Kind == AsyncFunctionDef,
	}
}

// Class is a class statement.
type Class struct {
	Name       string
	Bases      []ID
	Keywords   []ID // such as metaclass=M
	Body       []ID
	Decorators []ID
	TypeParams []ID
}

// ClassDef returns the parts of a ClassDef.
func (f *File) ClassDef(id ID) Class {
	n := f.is(id, ClassDef)
	x := f.extras(n)
	c := Class{Name: f.str(n.A), Body: f.List(n.C), Decorators: f.List(x[0]), TypeParams: f.List(x[2])}
	c.Bases, c.Keywords = f.splitArgs(n.B)
	return c
}

// Param is one parameter of a function.
type Param struct {
	ID         ID // the Arg
	Name       string
	Kind       uint8 // ArgPosOnly to ArgKw
	Annotation ID
	Default    ID
}

// Params returns the parameters of a FunctionDef, AsyncFunctionDef or Lambda,
// or of its Arguments, in the order of the text.
func (f *File) Params(id ID) []Param {
	switch n := &f.Nodes[id]; n.Kind {
	case FunctionDef, AsyncFunctionDef:
		id = n.B
	case Lambda:
		id = n.A
	}
	list := f.List(f.is(id, Arguments).A)
	if len(list) == 0 {
		return nil
	}
	params := make([]Param, len(list))
	for i, a := range list {
		n := &f.Nodes[a]
		params[i] = Param{ID: a, Name: f.str(n.A), Kind: n.Op, Annotation: n.B, Default: n.C}
	}
	return params
}

// Lambda returns the parts of a Lambda; for params see [File.Params].
func (f *File) Lambda(id ID) (params, body ID) {
	n := f.is(id, Lambda)
	return n.A, n.B
}

// TypeParam returns the parts of a TypeVar, ParamSpec or TypeVarTuple.
func (f *File) TypeParam(id ID) (name string, bound, def ID) {
	n := f.is(id, TypeVar, ParamSpec, TypeVarTuple)
	return f.str(n.A), n.B, n.C
}

// Assign returns the parts of an Assign. a = b = v has two targets.
func (f *File) Assign(id ID) (targets []ID, value ID) {
	n := f.is(id, Assign)
	return f.List(n.A), n.B
}

// AugAssign returns the parts of target op= value.
func (f *File) AugAssign(id ID) (target ID, op uint8, value ID) {
	n := f.is(id, AugAssign)
	return n.A, n.Op, n.B
}

// AnnAssign returns the parts of target: annotation = value; value may be 0.
func (f *File) AnnAssign(id ID) (target, annotation, value ID) {
	n := f.is(id, AnnAssign)
	return n.A, n.B, n.C
}

// NamedExpr returns the parts of target := value.
func (f *File) NamedExpr(id ID) (target, value ID) {
	n := f.is(id, NamedExpr)
	return n.A, n.B
}

// TypeAlias returns the parts of type name[params] = value.
func (f *File) TypeAlias(id ID) (name ID, params []ID, value ID) {
	n := f.is(id, TypeAlias)
	return n.A, f.List(n.B), n.C
}

// Delete returns the targets of a Delete.
func (f *File) Delete(id ID) []ID { return f.List(f.is(id, Delete).A) }

// Names returns the names of a Global or Nonlocal.
func (f *File) Names(id ID) []string {
	list := f.List(f.is(id, Global, Nonlocal).A)
	if len(list) == 0 {
		return nil
	}
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = f.str(s)
	}
	return names
}

// ImportedName is one name of an import.
type ImportedName struct {
	ID   ID     // the Alias
	Name string // "a.b.c" in import a.b.c; "*" in from m import *
	As   string // "" without as
}

// Bound returns the name that the import binds: the alias, the first part of
// a dotted name, or "" for *.
func (n ImportedName) Bound() string {
	switch {
	case n.As != "":
		return n.As
	case n.Name == "*":
		return ""
	}
	for i := range len(n.Name) {
		if n.Name[i] == '.' {
			return n.Name[:i]
		}
	}
	return n.Name
}

// Import returns the modules of import a, b.c as d.
func (f *File) Import(id ID) []ImportedName { return f.aliases(f.is(id, Import).A) }

// ImportFrom returns the parts of from ..module import names: level is the
// number of dots.
func (f *File) ImportFrom(id ID) (module string, level int, names []ImportedName) {
	n := f.is(id, ImportFrom)
	return f.str(n.A), int(n.C), f.aliases(n.B)
}

func (f *File) aliases(list uint32) []ImportedName {
	ids := f.List(list)
	if len(ids) == 0 {
		return nil
	}
	names := make([]ImportedName, len(ids))
	for i, id := range ids {
		n := f.is(id, Alias)
		names[i] = ImportedName{id, f.str(n.A), f.str(n.B)}
	}
	return names
}

// If returns the parts of an If. For elif, orelse is one If.
func (f *File) If(id ID) (test ID, body, orelse []ID) {
	n := f.is(id, If)
	return n.A, f.List(n.B), f.List(n.C)
}

// While returns the parts of a While.
func (f *File) While(id ID) (test ID, body, orelse []ID) {
	n := f.is(id, While)
	return n.A, f.List(n.B), f.List(n.C)
}

// Loop is a for, or async for.
type Loop struct {
	Target, Iter ID
	Body, Else   []ID
	Async        bool
}

// For returns the parts of a For or AsyncFor.
func (f *File) For(id ID) Loop {
	n := f.is(id, For, AsyncFor)
	return Loop{n.A, n.B, f.List(n.C), f.List(n.D), n.Kind == AsyncFor}
}

// With returns the parts of a With or AsyncWith; items are of kind WithItem.
func (f *File) With(id ID) (items, body []ID) {
	n := f.is(id, With, AsyncWith)
	return f.List(n.A), f.List(n.B)
}

// WithItem returns the parts of value as target; target may be 0.
func (f *File) WithItem(id ID) (value, target ID) {
	n := f.is(id, WithItem)
	return n.A, n.B
}

// TryStatement is a try.
type TryStatement struct {
	Body     []ID
	Handlers []ID // of kind ExceptHandler
	Else     []ID
	Finally  []ID
	Star     bool // except*
}

// Try returns the parts of a Try or TryStar.
func (f *File) Try(id ID) TryStatement {
	n := f.is(id, Try, TryStar)
	return TryStatement{f.List(n.A), f.List(n.B), f.List(n.C), f.List(n.D), n.Kind == TryStar}
}

// ExceptHandler returns the parts of except typ as name. typ is 0 for a bare
// except and a Tuple for several types.
func (f *File) ExceptHandler(id ID) (typ ID, name string, body []ID) {
	n := f.is(id, ExceptHandler)
	return n.A, f.str(n.B), f.List(n.C)
}

// Match returns the parts of a Match; cases are of kind MatchCase.
func (f *File) Match(id ID) (subject ID, cases []ID) {
	n := f.is(id, Match)
	return n.A, f.List(n.B)
}

// MatchCase returns the parts of case pattern if guard; guard may be 0.
func (f *File) MatchCase(id ID) (pattern, guard ID, body []ID) {
	n := f.is(id, MatchCase)
	return n.A, n.B, f.List(n.C)
}

// Patterns returns what is in a MatchSequence, MatchOr or MatchClass; of the
// last some may be of kind Keyword.
func (f *File) Patterns(id ID) []ID {
	if n := &f.Nodes[id]; n.Kind == MatchClass {
		return f.List(n.B)
	}
	return f.List(f.is(id, MatchSequence, MatchOr).A)
}

// MatchClass returns the class of a MatchClass; see also [File.Patterns].
func (f *File) MatchClass(id ID) (class ID) { return f.is(id, MatchClass).A }

// MatchMapping returns the parts of a MatchMapping; rest is the name after
// **.
func (f *File) MatchMapping(id ID) (keys, patterns []ID, rest string) {
	n := f.is(id, MatchMapping)
	keys, patterns = f.pairs(n.A)
	return keys, patterns, f.str(n.B)
}

// MatchAs returns the parts of a MatchAs: pattern as name; a name alone,
// where pattern is 0; or _, where both are zero.
func (f *File) MatchAs(id ID) (pattern ID, name string) {
	n := f.is(id, MatchAs)
	return n.A, f.str(n.B)
}

// MatchStar returns the name of a MatchStar, "" for *_.
func (f *File) MatchStar(id ID) string { return f.str(f.is(id, MatchStar).A) }

// Raise returns the parts of raise exc from cause.
func (f *File) Raise(id ID) (exc, cause ID) {
	n := f.is(id, Raise)
	return n.A, n.B
}

// Assert returns the parts of assert test, msg.
func (f *File) Assert(id ID) (test, msg ID) {
	n := f.is(id, Assert)
	return n.A, n.B
}

// Elts returns the elements of a List, Tuple or Set.
func (f *File) Elts(id ID) []ID { return f.List(f.is(id, List, Tuple, Set).A) }

// Dict returns the keys and values of a Dict, one value to a key. The key of
// **value is 0.
func (f *File) Dict(id ID) (keys, values []ID) { return f.pairs(f.is(id, Dict).A) }

// DictItems is as [File.Dict] and needs no memory.
func (f *File) DictItems(id ID) iter.Seq2[ID, ID] {
	return func(yield func(key, value ID) bool) {
		list := f.List(f.is(id, Dict).A)
		for i := 0; i+1 < len(list); i += 2 {
			if !yield(list[i], list[i+1]) {
				return
			}
		}
	}
}

func (f *File) pairs(list uint32) (keys, values []ID) {
	l := f.List(list)
	if len(l) == 0 {
		return nil, nil
	}
	both := make([]ID, len(l))
	keys, values = both[:len(l)/2:len(l)/2], both[len(l)/2:]
	for i := range keys {
		keys[i], values[i] = l[2*i], l[2*i+1]
	}
	return keys, values
}

// BinOp returns the parts of a BinOp; op is OpAdd to OpFloorDiv.
func (f *File) BinOp(id ID) (left ID, op uint8, right ID) {
	n := f.is(id, BinOp)
	return n.A, n.Op, n.B
}

// UnaryOp returns the parts of a UnaryOp; op is UnaryPlus to UnaryNot.
func (f *File) UnaryOp(id ID) (op uint8, operand ID) {
	n := f.is(id, UnaryOp)
	return n.Op, n.A
}

// BoolOp returns the parts of a and b and c; op is BoolAnd or BoolOr.
func (f *File) BoolOp(id ID) (op uint8, operands []ID) {
	n := f.is(id, BoolOp)
	return n.Op, f.List(n.A)
}

// Comparison is one operator of a Compare with what stands to its right.
type Comparison struct {
	Op    uint8 // CmpEq to CmpNotIn
	Right ID
}

// Compare returns the parts of a Compare: a < b < c has two comparisons.
func (f *File) Compare(id ID) (left ID, rest []Comparison) {
	n := f.is(id, Compare)
	l := f.List(n.B)
	if len(l) == 0 {
		return n.A, nil
	}
	rest = make([]Comparison, len(l)/2)
	for i := range rest {
		rest[i] = Comparison{uint8(l[2*i]), l[2*i+1]}
	}
	return n.A, rest
}

// IfExp returns the parts of body if test else orelse.
func (f *File) IfExp(id ID) (test, body, orelse ID) {
	n := f.is(id, IfExp)
	return n.A, n.B, n.C
}

// Comp returns the parts of a ListComp, SetComp, GeneratorExp or DictComp.
// key is 0 except for the last; for {**value for …} it is 0 there as well.
// generators are of kind Comprehension.
func (f *File) Comp(id ID) (key, value ID, generators []ID) {
	if n := &f.Nodes[id]; n.Kind == DictComp {
		return n.A, n.B, f.List(n.C)
	}
	n := f.is(id, ListComp, SetComp, GeneratorExp)
	return 0, n.A, f.List(n.B)
}

// Comprehension returns the parts of for target in iter if a if b.
func (f *File) Comprehension(id ID) (target, iter ID, conditions []ID, async bool) {
	n := f.is(id, Comprehension)
	return n.A, n.B, f.List(n.C), n.Flags&FAsync != 0
}

// FStringParts returns the parts of a JoinedStr or TemplateStr: literal text
// of kind StrPart, for which see [File.StringValue], and replacement fields
// of kind FormattedValue or Interpolation. Adjacent text may come in several
// parts, some of them empty.
func (f *File) FStringParts(id ID) []ID { return f.List(f.is(id, JoinedStr, TemplateStr).A) }

// Field is a replacement field {value!r:format} of an f-string or t-string.
type Field struct {
	Value      ID
	Conversion byte   // 's', 'r', 'a' or 0
	Format     ID     // JoinedStr, or 0
	Debug      []byte // in {value = }: the text to be shown with it, "value = "
}

// Field returns the parts of a FormattedValue or Interpolation. The field
// {value=} without a format converts by 'r'; Conversion says so.
func (f *File) Field(id ID) Field {
	n := f.is(id, FormattedValue, Interpolation)
	x := Field{Value: n.A, Conversion: n.Op, Format: n.B}
	if n.Flags&FDebug != 0 {
		x.Debug = f.Src[n.Start+1 : n.C]
		if n.Op == 0 && n.B == 0 {
			x.Conversion = 'r'
		}
	}
	return x
}

// NameSpan returns where the name of a FunctionDef, AsyncFunctionDef,
// ClassDef, Attribute, Name, Keyword, Arg or Alias stands in the source; for
// **value and *args it is what stands there.
func (f *File) NameSpan(id ID) (start, end uint32) {
	n := &f.Nodes[id]
	switch n.Kind {
	case FunctionDef, AsyncFunctionDef, ClassDef:
		words := 1
		if n.Kind == AsyncFunctionDef {
			words = 2
		}
		pos := n.Start
		for range words {
			pos = f.skipSpace(pos + identLen(f.Src[pos:n.End]))
		}
		return pos, pos + identLen(f.Src[pos:n.End])
	case Attribute:
		end = n.End
		start = end
		for start > n.Start && isIdent(f.Src[start-1]) {
			start--
		}
		return start, end
	case Keyword, Arg:
		return n.Start, n.Start + identLen(f.Src[n.Start:n.End])
	case Name, Alias:
		return n.Start, n.End
	}
	return 0, 0
}

// skipSpace skips blanks and joined lines.
func (f *File) skipSpace(pos uint32) uint32 {
	for int(pos) < len(f.Src) && bytes.IndexByte([]byte(" \t\f\\\r\n"), f.Src[pos]) >= 0 {
		pos++
	}
	return pos
}

func isIdent(c byte) bool { return class[c] == cIdent || class[c] == cDigit }

func identLen(b []byte) uint32 {
	n := 0
	for n < len(b) && isIdent(b[n]) {
		n++
	}
	return uint32(n)
}
