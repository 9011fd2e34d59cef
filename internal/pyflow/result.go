package pyflow

import (
	"slices"
	"strconv"
	"strings"

	"github.com/dewar-security/dewar/internal/jinja"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// Source is one Python file of the project.
type Source struct {
	Path   string // relative to the project, with slashes
	Python *pysyntax.File
	Test   bool // loaded when imported, never an entry
}

// Span is a range of a file: Start and End are bytes of its source, End is
// exclusive.
type Span struct {
	File       string
	Start, End uint32
}

// Result is what happened when the project ran. Everything is sorted.
type Result struct {
	Hits    []*Hit
	Entries []*Entry
	// GaveUp lists functions that were not run to their end.
	GaveUp []GaveUp
	// Functions is how many functions were run, Steps how many expressions
	// and statements, over all.
	Functions, Steps int
}

// GaveUp is a function that took more than its bound.
type GaveUp struct {
	At     Span
	Name   string
	Reason string
}

// Entry is a function that is called from outside the project.
type Entry struct {
	Kind     string // of the fact: view, hook, task, cli, …
	Path     string // what registered it: "flask.Flask.route"
	At       Span   // the function's name, or the lambda
	Register Span   // the decorator or call that registered it
	Name     string // package.module.function
	Function string // last part of Name
	// Args are the arguments of the registration.
	Args     []Value
	Keywords map[string]Value
	// Self is what it was registered on.
	Self Value
	// Fields are the parts of the request that it reads.
	Fields []Field
	// Sinks are the kinds of sinks that were reached below it, labelled or
	// not; sorted.
	Sinks []string
}

// Field is a part of the input that an entry reads by name.
type Field struct {
	Kind string // of the source's label: query, form, json, cookie, header, file
	Name string // empty when it is computed
	Type string // int, float, bool, …; empty for text
	At   Span
}

// Hit is a place where the program may do what a fact speaks of, with the
// values as they may be. One place has several hits when it is reached with
// different values.
type Hit struct {
	Verb, Kind string // of the fact
	Path       string // of the fact's name: "sqlite3.Cursor.execute"; "{{ }}" in a template
	At         Span   // the call, or the expression
	Function   string // package.module.function around it
	Entry      *Entry // through which it was reached first; nil for a function that nothing calls
	// Args are all positional arguments, Keywords the others; Unpacked is set
	// when there are more, unknown, by *args or **kwargs.
	//
	// What *args and **kwargs of unknown content may hold is Keywords["**"].
	Args     []Value
	Keywords map[string]Value
	Unpacked bool
	Self     Value // the receiver
	// ArgSpans are the places of Args, KeywordSpans of Keywords.
	ArgSpans     []Span
	KeywordSpans map[string]Span
	// Focus are the values of the arguments that a sink names.
	Focus []Value
	// Output says where in a template a value comes out; nil elsewhere.
	Output *Output
	// Answer is, of what a view gives back, what the project's decorators
	// around the view made of it in the end; nil if there are none.
	Answer *Value
}

// Arg returns the argument at index i or, failing that, of the name. ok is
// false when it is not given.
func (h *Hit) Arg(i int, name string) (v Value, ok bool) {
	if i >= 0 && i < len(h.Args) {
		return h.Args[i], true
	}
	if name != "" {
		v, ok = h.Keywords[name]
	}
	return v, ok
}

// Output is where a template's expression comes out.
type Output struct {
	Template string
	// Context is jinja's name for the place in the HTML: "text",
	// "attr-quoted", "script", …
	Context string
	Quote   byte   // of the attribute or of the script's string
	Attr    string // name of the attribute
	Tag     string
	Prefix  string // of the attribute's value before the expression
	Escaped bool   // autoescaped
	// Place is all that is known about the place.
	Place jinja.Context
}

// Kind says what a [Value] is.
type Kind uint8

// The kinds of values.
const (
	Unknown Kind = iota // anything
	None
	Bool
	Number
	Text // str or bytes
	List // list, tuple or set
	Dict
	Object   // an instance: Type says of what
	Function // or a class, a module, a method: Type is its path
)

// Value is what an expression may be, as it stood at a [Hit].
type Value struct {
	Kind Kind
	// Known is set on None, and on a Bool, Number or Text that is constant.
	Known  bool
	Bool   bool
	Number float64
	// Pieces is the text in order. A constant text has one literal piece, or
	// none when it is empty.
	Pieces []Piece
	Bytes  bool
	// Type is the dotted path of an Object's class or of a Function.
	Type string
	// Items are the known elements of a List; the values of a Dict or the
	// fields of an Object, whose names are Keys. Rest stands for all further
	// ones; nil if there are none.
	Items []Value
	Keys  []string
	Rest  *Value
	// Labels say from where the value may come, as far as it is not in
	// Pieces, Items and Rest.
	Labels []Label
	// Alternatives is not empty when the value may be one of several; then
	// the other fields are empty.
	Alternatives []Value
	// Safe marks markup that template escaping leaves alone.
	Safe bool
}

// Piece is a part of a text: a literal, or a run of characters that is not
// known.
type Piece struct {
	Literal string
	Unknown bool
	Chars   Chars    // that may occur
	First   Chars    // that may stand first
	Without []string // texts that do not occur
	// Doubled are quotation marks of which any that occur stand there an even
	// number of times in a row, as one does within a literal of SQL (ISO/IEC
	// 9075-2, <quote symbol>).
	Doubled string
	Harmless
	Labels []Label
}

// Harmless lists the kinds of sinks that a value was made harmless for. The
// word "guess" among them says that it went through a call of which nothing
// is known; "path-setting" and "url-setting" say that a path or URL was checked
// unless a setting of the app's own switches that off.
type Harmless []string

// For reports whether the kind is listed, or "*".
func (h Harmless) For(kind string) bool { return slices.Contains(h, kind) || slices.Contains(h, "*") }

// Label says that data came from outside.
type Label struct {
	Kind string // of the source: query, form, json, cookie, header, path, stored, …
	At   Span   // where it was read
	Note string // `query parameter "q"`
	// Trace is the way from the source, first step first.
	Trace []Step
	Harmless
}

// Name returns the name of the part of a request that the label stands for,
// as its note has it in quotes; "" where it has none.
func (l Label) Name() string {
	i := strings.IndexByte(l.Note, '"')
	if i < 0 {
		return ""
	}
	quoted, err := strconv.QuotedPrefix(l.Note[i:])
	if err != nil {
		return ""
	}
	name, _ := strconv.Unquote(quoted)
	return name
}

// Step is one stop on the way of a label.
type Step struct {
	At   Span
	Note string
}

// Each calls f for the value, or for each of its alternatives.
func (v Value) Each(f func(Value)) {
	if len(v.Alternatives) == 0 {
		f(v)
		return
	}
	for _, a := range v.Alternatives {
		a.Each(f)
	}
}

// Const returns the text of a constant str or bytes.
func (v Value) Const() (string, bool) {
	if v.Kind != Text || !v.Known {
		return "", false
	}
	var b strings.Builder
	for _, p := range v.Pieces {
		b.WriteString(p.Literal)
	}
	return b.String(), true
}

// Prefix returns the known beginning of a text.
func (v Value) Prefix() string {
	if v.Kind != Text || len(v.Pieces) == 0 || v.Pieces[0].Unknown {
		return ""
	}
	return v.Pieces[0].Literal
}

// All returns every label in the value, parts included, in order and
// without repeats.
func (v Value) All() []Label {
	var out []Label
	v.eachLabel(func(l Label) {
		for _, o := range out {
			if o.Kind == l.Kind && o.At == l.At {
				return
			}
		}
		out = append(out, l)
	})
	return out
}

func (v Value) eachLabel(f func(Label)) {
	for _, l := range v.Labels {
		f(l)
	}
	for _, p := range v.Pieces {
		for _, l := range p.Labels {
			f(l)
		}
	}
	for _, i := range v.Items {
		i.eachLabel(f)
	}
	for _, a := range v.Alternatives {
		a.eachLabel(f)
	}
	if v.Rest != nil {
		v.Rest.eachLabel(f)
	}
}

// Field returns a Dict's item or an Object's field by name.
func (v Value) Field(name string) (Value, bool) {
	for i, k := range v.Keys {
		if k == name && i < len(v.Items) {
			return v.Items[i], true
		}
	}
	return Value{}, false
}

// Chars is a set of characters: the ASCII ones one by one, all others
// together.
type Chars struct {
	lo, hi uint64
	other  bool
}

// AnyChars holds every character.
var AnyChars = Chars{^uint64(0), ^uint64(0), true}

// Has reports whether r is in the set.
func (c Chars) Has(r rune) bool {
	switch {
	case r >= 128:
		return c.other
	case r >= 64:
		return c.hi>>(r-64)&1 != 0
	}
	return c.lo>>r&1 != 0
}

// HasAny reports whether one of the characters of s is in the set.
func (c Chars) HasAny(s string) bool {
	for _, r := range s {
		if c.Has(r) {
			return true
		}
	}
	return false
}

// And returns the intersection, Or the union, Not the complement.
func (c Chars) And(d Chars) Chars { return Chars{c.lo & d.lo, c.hi & d.hi, c.other && d.other} }

// Or returns the union.
func (c Chars) Or(d Chars) Chars { return Chars{c.lo | d.lo, c.hi | d.hi, c.other || d.other} }

// Without returns the set without the characters of s.
func (c Chars) Without(s string) Chars {
	for _, r := range s {
		switch {
		case r >= 128:
		case r >= 64:
			c.hi &^= 1 << (r - 64)
		default:
			c.lo &^= 1 << r
		}
	}
	return c
}

// CharsOf returns the set of the characters of s.
func CharsOf(s string) Chars {
	var c Chars
	for _, r := range s {
		c = c.with(r)
	}
	return c
}

func (c Chars) with(r rune) Chars {
	switch {
	case r >= 128 || r < 0:
		c.other = true
	case r >= 64:
		c.hi |= 1 << (r - 64)
	default:
		c.lo |= 1 << r
	}
	return c
}

// CharRange reads a class as it stands between the brackets of a regexp:
// "a-zA-Z0-9_.-". A "\\" takes the next character as it is; "\\u" adds all
// beyond ASCII.
func CharRange(class string) Chars {
	var c Chars
	rs := []rune(class)
	for i := 0; i < len(rs); i++ {
		lo := rs[i]
		if lo == '\\' && i+1 < len(rs) {
			i++
			switch rs[i] {
			case 'u':
				c.other = true
				continue
			case 'n':
				lo = '\n'
			case 't':
				lo = '\t'
			case 's':
				lo = ' '
			default:
				lo = rs[i]
			}
		}
		hi := lo
		if i+2 < len(rs) && rs[i+1] == '-' {
			hi = rs[i+2]
			i += 2
		}
		for r := lo; r <= hi; r++ {
			c = c.with(r)
		}
	}
	return c
}
