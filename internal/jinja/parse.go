package jinja

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxErrors is how many errors of a template are kept.
const maxErrors = 100

// Parse reads a template. What is wrong with it is in the template's Errors;
// there is always a tree.
func Parse(path string, src []byte) *Template {
	t := &Template{Path: path, Source: string(src)}
	t.lines = lineStarts(t.Source)
	p := &parser{lexer: lexer{src: t.Source}, t: t, open: map[string]int{}}
	p.frames = []*frame{{body: &t.Body}}
	p.parse()
	slices.SortStableFunc(t.Errors, func(a, b Error) int { return cmp.Compare(a.Start, b.Start) })
	return t
}

// parser holds the state of reading one template.
type parser struct {
	lexer
	t       *Template
	i       int // index of the current token
	nesting int // of expressions
	limit   int // where the text ends: before a line break at the end

	frames []*frame       // open blocks; the first is the template
	open   map[string]int // how many of them have a name
	ends   map[string]int // where the last {% endNAME %} of a name is
	// No comment, no {% raw %} is closed any more: what was not found once is
	// not looked for again and again.
	noComment, noRaw bool
}

// frame is a block whose end was not read yet.
type frame struct {
	name   string // of the tag; "" is the template
	node   Node   // nil in a block that is nested too deep
	body   *[]Node
	head   Span // of the first tag
	closed bool // there was an else or a pluralize: no other may follow
}

func (p *parser) top() *frame { return p.frames[len(p.frames)-1] }

func (p *parser) add(n Node) {
	b := p.top().body
	*b = append(*b, n)
}

func (p *parser) errorf(at Span, format string, args ...any) {
	if len(p.t.Errors) >= maxErrors {
		return
	}
	line, _ := p.t.Line(at.Start)
	p.t.Errors = append(p.t.Errors, Error{at, line, fmt.Sprintf(format, args...)})
}

func (p *parser) parse() {
	src := p.src
	// Jinja drops one line break at the end.
	p.limit = len(src)
	if strings.HasSuffix(src, "\n") {
		p.limit--
	}
	if strings.HasSuffix(src[:p.limit], "\r") {
		p.limit--
	}
	pos := 0
	for pos < len(src) {
		o := nextOpening(src, pos)
		p.text(pos, min(o.at, max(p.limit, pos)), o.trim)
		switch o.kind {
		case 0:
			pos = len(src)
		case '#':
			pos = p.comment(o)
		case '{':
			pos = p.output(o)
		case '%':
			if end, ok := p.raw(o); ok {
				pos = end
				continue
			}
			pos = p.tag(o)
		}
	}
	p.closeTo(0, len(src), func(f *frame) {
		p.errorf(f.head, "{%% %s %%} is never closed", f.name)
	})
	p.checkBlocks()
}

// text adds the text between two offsets.
func (p *parser) text(from, to int, trim bool) {
	value := p.src[from:to]
	if trim {
		value = trimRightSpace(value)
	}
	if from < to {
		p.add(&Text{Span{from, to}, value, false})
	}
}

// literal adds a delimiter that opens nothing as the text it is.
func (p *parser) literal(o opening) int {
	p.text(o.at, o.at+2, false)
	return o.at + 2
}

func (p *parser) comment(o opening) int {
	j := -1
	if !p.noComment {
		j = strings.Index(p.src[o.next:], "#}")
	}
	if j < 0 {
		p.noComment = true
	}
	if j < 0 && o.next >= p.limit {
		// Jinja does not mind when there is nothing in it.
		p.add(&Comment{Span: Span{o.at, len(p.src)}})
		return len(p.src)
	}
	if j < 0 {
		p.errorf(Span{o.at, o.next}, "the comment is never closed")
		return p.literal(o)
	}
	j += o.next
	end := j + 2
	text := p.src[o.next:j]
	if strings.HasSuffix(text, "-") {
		end = skipSpace(p.src, end)
	}
	p.add(&Comment{Span{o.at, j + 2}, text})
	return end
}

// raw reads {% raw %} with its text; ok is false for another tag.
func (p *parser) raw(o opening) (end int, ok bool) {
	src := p.src
	i := skipSpace(src, o.next)
	if !strings.HasPrefix(src[i:], "raw") {
		return 0, false
	}
	i = skipSpace(src, i+3)
	switch {
	case strings.HasPrefix(src[i:], "-%}"):
		i = skipSpace(src, i+3)
	case strings.HasPrefix(src[i:], "%}"):
		i += 2
	default:
		return 0, false
	}
	for from := i; !p.noRaw; {
		j := strings.Index(src[from:], "{%")
		if j < 0 {
			break
		}
		j += from
		from = j + 2
		k := from
		trim := false
		if k < len(src) && (src[k] == '-' || src[k] == '+') {
			trim = src[k] == '-'
			k++
		}
		k = skipSpace(src, k)
		if !strings.HasPrefix(src[k:], "endraw") {
			continue
		}
		k = skipSpace(src, k+len("endraw"))
		n := closing(src[k:], "%}")
		if n == 0 {
			continue
		}
		value := src[i:j]
		if trim {
			value = trimRightSpace(value)
		}
		p.add(&Text{Span{o.at, k + n}, value, true})
		if src[k] == '-' {
			return skipSpace(src, k+n), true
		}
		return k + n, true
	}
	p.noRaw = true
	if i >= p.limit {
		// Jinja does not mind when there is nothing in it.
		p.add(&Text{Span{o.at, len(src)}, "", true})
		return len(src), true
	}
	p.errorf(Span{o.at, i}, "{%% raw %%} is never closed")
	return p.literal(o), true
}

// begin reads the tokens of the tag.
func (p *parser) begin(o opening, close string) (end int, ok bool) {
	end, ok = p.lexer.tag(o.next, close)
	p.i = 0
	p.nesting = 0
	if p.bad != "" {
		p.errorf(p.badSpan, "%s", p.bad)
	}
	return end, ok
}

// tagEnd is where the tag ends whose close, with its white space, ends at end.
func (p *parser) tagEnd(end int) int {
	return p.tokens[len(p.tokens)-1].Start + strings.Index(p.src[p.tokens[len(p.tokens)-1].Start:end], "}") + 1
}

func (p *parser) output(o opening) int {
	end, ok := p.begin(o, "}}")
	if !ok {
		return p.literal(o)
	}
	// The close is two braces.
	n := &Output{Span: Span{o.at, p.tagEnd(end) + 1}}
	if gaveUp := p.try(func() { n.X = p.expressions(); p.expectEnd() }); gaveUp != nil {
		p.gaveUp(gaveUp)
		n.X = p.badExpr(0, n.Span)
	}
	if p.top().name == "trans" {
		if _, ok := n.X.(*Name); !ok {
			p.errorf(n.Span, "inside of {%% trans %%} there are only names")
		}
	}
	p.add(n)
	return end
}

// gaveUp records why a tag was not read to its end, unless its tokens were
// wrong already.
func (p *parser) gaveUp(b *bailout) {
	if p.bad == "" {
		p.errorf(b.at, "%s", b.message)
	}
}

// badExpr is what stands for an expression that could not be read, with what
// can be read from the tokens at or after index from.
func (p *parser) badExpr(from int, at Span) *Bad {
	parts := p.salvage(from)
	b := &Bad{base: base{Span: at}, Parts: parts}
	for _, e := range parts {
		b.h = max(b.h, e.height())
	}
	b.h++
	return b
}

// tag reads {% … %}.
func (p *parser) tag(o opening) int {
	end, ok := p.begin(o, "%}")
	if !ok {
		return p.literal(o)
	}
	at := Span{o.at, p.tagEnd(end)}
	t := p.cur()
	if t.kind != tokName {
		if p.bad == "" {
			p.errorf(at, "expected the name of a tag, got %s", t.describe())
		}
		p.add(&Unknown{Span: at, Args: p.salvage(0)})
		return end
	}
	p.i++
	name := t.text
	switch {
	case strings.HasPrefix(name, "end") && p.end(name, at):
	case p.middle(name, at):
	default:
		p.statement(name, at)
	}
	return end
}

// end reads an end tag. It returns false when nothing of that name is known.
func (p *parser) end(name string, at Span) bool {
	of := name[len("end"):]
	if p.open[of] == 0 {
		if blocks[of] || of == "raw" {
			p.errorf(at, "nothing is open that {%% %s %%} could close", name)
			return true
		}
		// An end tag of an extension whose first tag was not seen: or a tag
		// whose name begins so.
		return false
	}
	k := len(p.frames) - 1
	for p.frames[k].name != of {
		k--
	}
	p.closeTo(k+1, at.Start, func(f *frame) {
		// That an extension's tag has an end tag was a guess.
		if _, guess := f.node.(*Unknown); !guess {
			p.errorf(f.head, "{%% %s %%} is not closed before the {%% %s %%} of what is around it", f.name, name)
		}
	})
	block, _ := p.frames[k].node.(*Block)
	p.closeTo(k, at.End, func(*frame) {})
	if block != nil {
		p.acceptWord(block.Name)
	}
	if t := p.cur(); t.kind != tokEnd && blocks[of] && p.bad == "" {
		p.errorf(t.Span, "expected the end of the tag, got %s", t.describe())
	}
	return true
}

// closeTo closes the open blocks until there are k. Each is reported first.
func (p *parser) closeTo(k, at int, report func(*frame)) {
	for len(p.frames) > max(k, 1) {
		f := p.top()
		p.frames = p.frames[:len(p.frames)-1]
		p.open[f.name]--
		report(f)
		if n, ok := f.node.(interface{ endAt(int) }); ok {
			n.endAt(at)
		}
	}
}

func (s *Span) endAt(offset int) { s.End = max(s.End, offset) }

// middle reads a tag that divides a block. It returns false when name is no
// such tag.
func (p *parser) middle(name string, at Span) bool {
	switch name {
	case "else", "elif", "pluralize":
	default:
		return false
	}
	takes := func(f *frame) bool {
		switch f.node.(type) {
		case *If:
			return name != "pluralize" && !f.closed
		case *For:
			return name == "else" && !f.closed
		case *Trans:
			return name == "pluralize" && !f.closed
		case nil:
			// A block nested too deep; its middle is as flat as itself.
			return f.name == "if" || f.name == "for" && name == "else" || f.name == "trans"
		}
		return false
	}
	// Only blocks that need no end tag may lie between: looking further than
	// the innermost real block would take what belongs to it apart.
	k := len(p.frames) - 1
	for k > 0 && !takes(p.frames[k]) {
		u, ok := p.frames[k].node.(*Unknown)
		if !ok || name == "else" && p.ends[u.Name] > at.End {
			break
		}
		k--
	}
	if k <= 0 || !takes(p.frames[k]) {
		n := &Unknown{Span: at, Name: name, Args: p.salvage(p.i)}
		if _, ok := p.top().node.(*Unknown); !ok {
			p.errorf(at, "there is nothing that {%% %s %%} could divide", name)
		}
		p.add(n)
		return true
	}
	p.closeTo(k+1, at.Start, func(*frame) {})
	f := p.top()
	switch n := f.node.(type) {
	case *If:
		if name == "elif" {
			b := Branch{Span: at}
			p.fillBlock(at, func() { b.Test = p.tuple(false, p.expression) }, &b.Test)
			n.Branches = append(n.Branches, b)
			f.body = &n.Branches[len(n.Branches)-1].Body
			return true
		}
		n.HasElse, f.body, f.closed = true, &n.Else, true
	case *For:
		n.HasElse, f.body, f.closed = true, &n.Else, true
	case *Trans:
		n.HasPlural, f.body, f.closed = true, &n.Plural, true
		if t := p.cur(); t.kind == tokName {
			p.i++
			n.Count = t.text
			if !slices.ContainsFunc(n.Vars, func(v Var) bool { return v.Name == t.text }) {
				p.errorf(t.Span, "%s is none of the variables of {%% trans %%}", t.text)
			}
		} else if len(n.Vars) == 0 && !slices.ContainsFunc(n.Body, func(n Node) bool { _, ok := n.(*Output); return ok }) {
			p.errorf(at, "{%% pluralize %%} without a variable")
		}
	}
	if name == "else" {
		p.acceptOp(":")
	}
	if t := p.cur(); f.node != nil && t.kind != tokEnd && p.bad == "" {
		p.errorf(t.Span, "expected the end of the tag, got %s", t.describe())
	}
	return true
}

// blocks are Jinja's tags that have an end tag.
var blocks = map[string]bool{
	"if": true, "for": true, "block": true, "macro": true, "call": true, "filter": true,
	"set": true, "with": true, "autoescape": true, "trans": true,
}

// fill runs read, which sets what the targets point to, up to the end of the
// tag. When it gives up, the first target that is still nil gets what can be
// read of the tag, the others nothing.
func (p *parser) fill(at Span, read func(), targets ...*Expr) {
	from := p.i
	gaveUp := p.try(func() { read(); p.expectEnd() })
	if gaveUp == nil {
		return
	}
	p.gaveUp(gaveUp)
	// What was read already is not read again.
	for _, t := range targets {
		if *t != nil {
			for p.tokens[from].kind != tokEnd && p.tokens[from].Start < (*t).At().End {
				from++
			}
		}
	}
	bad := p.badExpr(from, at)
	for _, t := range targets {
		if *t == nil {
			*t = bad
			bad = &Bad{base: base{Span: at, h: 1}}
		}
	}
}

// fillBlock is fill for a tag that has an end tag. As in Python, a colon may
// stand at the end.
func (p *parser) fillBlock(at Span, read func(), targets ...*Expr) {
	p.fill(at, func() { read(); p.acceptOp(":") }, targets...)
}

// statement reads a tag that is no end tag and divides nothing.
func (p *parser) statement(name string, at Span) {
	if p.top().name == "trans" {
		p.errorf(at, "inside of {%% trans %%} there are no other tags")
	}
	switch name {
	case "if":
		n := &If{Span: at, Branches: []Branch{{Span: at}}}
		b := &n.Branches[0]
		p.fillBlock(at, func() { b.Test = p.tuple(false, p.expression) }, &b.Test)
		p.push(name, n, at, &b.Body)
	case "for":
		n := &For{Span: at}
		p.fillBlock(at, func() {
			n.Target = p.target(false)
			p.expectWord("in")
			n.Iter = p.tuple(false, p.expression)
			if p.acceptWord("if") {
				n.Filter = p.expression(true)
			}
			n.Recursive = p.acceptWord("recursive")
		}, &n.Target, &n.Iter)
		p.push(name, n, at, &n.Body)
	case "block":
		n := &Block{Span: at}
		p.fillBlock(at, func() {
			n.Name = p.expectName().text
			n.Scoped = p.acceptWord("scoped")
			n.Required = p.acceptWord("required")
		})
		p.push(name, n, at, &n.Body)
	case "extends":
		n := &Extends{Span: at}
		p.fill(at, func() { n.Template = p.expression(true) }, &n.Template)
		p.add(n)
	case "include":
		n := &Include{Span: at}
		p.fill(at, func() {
			n.Template = p.expression(true)
			if p.cur().word("ignore") && p.look().word("missing") {
				p.i += 2
				n.IgnoreMissing = true
			}
			n.WithContext = p.context(true)
		}, &n.Template)
		p.add(n)
	case "import":
		n := &Import{Span: at}
		p.fill(at, func() {
			n.Template = p.expression(true)
			p.expectWord("as")
			n.Alias = p.nameTarget()
			n.WithContext = p.context(false)
		}, &n.Template)
		p.add(n)
	case "from":
		n := &FromImport{Span: at}
		p.fill(at, func() { p.fromImport(n) }, &n.Template)
		p.add(n)
	case "macro":
		n := &Macro{Span: at}
		p.fillBlock(at, func() {
			n.Name = p.nameTarget()
			p.params(&n.Params)
		})
		p.push(name, n, at, &n.Body)
	case "call":
		n := &CallBlock{Span: at}
		p.fillBlock(at, func() {
			if p.cur().op("(") {
				p.params(&n.Params)
			}
			n.X = p.expression(true)
		}, &n.X)
		if _, ok := n.X.(*Call); !ok && p.bad == "" {
			if _, bad := n.X.(*Bad); !bad {
				p.errorf(n.X.At(), "{%% call %%} needs a call")
			}
		}
		p.push(name, n, at, &n.Body)
	case "filter":
		n := &FilterBlock{Span: at}
		p.fillBlock(at, func() { n.X = p.filters() }, &n.X)
		p.push(name, n, at, &n.Body)
	case "set":
		p.set(at)
	case "with":
		n := &With{Span: at}
		p.fillBlock(at, func() {
			for p.cur().kind != tokEnd {
				if len(n.Targets) > 0 {
					p.expectOp(",")
				}
				target := p.target(false)
				p.expectOp("=")
				value := p.expression(true)
				n.Targets = append(n.Targets, target)
				n.Values = append(n.Values, value)
			}
		})
		p.push(name, n, at, &n.Body)
	case "autoescape":
		n := &Autoescape{Span: at}
		p.fillBlock(at, func() { n.X = p.expression(true) }, &n.X)
		p.push(name, n, at, &n.Body)
	case "trans":
		n := &Trans{Span: at}
		p.fill(at, func() { p.trans(n) })
		p.push(name, n, at, &n.Body)
	case "print":
		p.print(at)
	case "do":
		n := &Do{Span: at}
		p.fill(at, func() { n.X = p.expressions() }, &n.X)
		p.add(n)
	case "break":
		p.fill(at, func() {})
		p.add(&Break{at})
	case "continue":
		p.fill(at, func() {})
		p.add(&Continue{at})
	case "debug":
		p.fill(at, func() {})
		p.add(&Debug{at})
	default:
		p.unknown(name, at)
	}
}

// push adds a block and opens it.
func (p *parser) push(name string, n Node, head Span, body *[]Node) {
	f := &frame{name: name, node: n, body: body, head: head}
	if len(p.frames) > maxNesting {
		if len(p.frames) == maxNesting+1 {
			p.errorf(head, "blocks are nested more than %d deep", maxNesting)
		}
		// The tag's expressions stay, its body becomes its sibling.
		p.add(n)
		f.node, f.body = nil, p.top().body
	} else {
		p.add(n)
	}
	p.frames = append(p.frames, f)
	p.open[name]++
}

// context reads with context or without context.
func (p *parser) context(byDefault bool) bool {
	t := p.cur()
	if (t.word("with") || t.word("without")) && p.look().word("context") {
		p.i += 2
		return t.text == "with"
	}
	return byDefault
}

func (p *parser) fromImport(n *FromImport) {
	n.Template = p.expression(true)
	p.expectWord("import")
	context := func() bool {
		t := p.cur()
		n.WithContext = p.context(n.WithContext)
		return p.cur() != t
	}
	for {
		if len(n.Names) > 0 {
			p.expectOp(",")
		}
		if context() {
			return
		}
		t := p.cur()
		name := p.nameTarget()
		if strings.HasPrefix(name, "_") {
			p.errorf(t.Span, "names that begin with an underscore cannot be imported")
		}
		a := Alias{name, name}
		if p.acceptWord("as") {
			a.As = p.nameTarget()
		}
		n.Names = append(n.Names, a)
		if context() || !p.cur().op(",") {
			return
		}
	}
}

func (p *parser) params(params *[]Param) {
	p.expectOp("(")
	defaults := false
	for !p.cur().op(")") {
		if len(*params) > 0 {
			p.expectOp(",")
		}
		t := p.cur()
		a := Param{Span: t.Span, Name: p.nameTarget()}
		switch {
		case p.acceptOp("="):
			defaults = true
			a.Default = p.expression(true)
			a.End = a.Default.At().End
		case defaults:
			p.errorf(t.Span, "a parameter without a default follows one that has one")
		}
		*params = append(*params, a)
	}
	p.expectOp(")")
}

func (p *parser) set(at Span) {
	var target, x, filter Expr
	block := false
	from := p.i
	gaveUp := p.try(func() {
		target = p.target(true)
		switch {
		case p.acceptOp("="):
			x = p.expressions()
		case p.acceptOp("|"):
			block = true
			filter = p.filters()
			p.acceptOp(":")
		default:
			block = true
			p.acceptOp(":")
		}
		p.expectEnd()
	})
	if gaveUp != nil {
		p.gaveUp(gaveUp)
		// Without a "=" it is a block, if it is closed.
		block = !slices.ContainsFunc(p.tokens, func(t token) bool { return t.op("=") }) && p.hasEnd("set", at.End)
		if target != nil {
			for p.tokens[from].kind != tokEnd && p.tokens[from].Start < target.At().End {
				from++
			}
		}
		bad := p.badExpr(from, at)
		if target == nil {
			target = &Bad{base: base{Span: at, h: 1}}
		}
		if x == nil {
			x = bad
		}
		if block && filter == nil && len(bad.Parts) > 0 {
			filter = bad
		}
	}
	if !block {
		p.add(&Set{at, target, x})
		return
	}
	n := &SetBlock{Span: at, Target: target, Filter: filter}
	p.push("set", n, at, &n.Body)
}

func (p *parser) trans(n *Trans) {
	if t := p.cur(); t.kind == tokString {
		p.i++
		n.Context = p.stringValue(t)
	}
	seen := false
	for p.cur().kind != tokEnd {
		if len(n.Vars) > 0 {
			p.expectOp(",")
		}
		if p.acceptOp(":") {
			break
		}
		t := p.expectName()
		if slices.ContainsFunc(n.Vars, func(v Var) bool { return v.Name == t.text }) {
			p.errorf(t.Span, "%s is there twice", t.text)
		}
		switch {
		case p.acceptOp("="):
			x := p.expression(true)
			n.Vars = append(n.Vars, Var{Span{t.Start, x.At().End}, t.text, x})
		case !seen && (t.text == "trimmed" || t.text == "notrimmed"):
			seen = true
			n.Trimmed = t.text == "trimmed"
		default:
			n.Vars = append(n.Vars, Var{t.Span, t.text, &Name{base{t.Span, 1}, t.text}})
		}
	}
}

// print adds an output for every argument. Together they span the tag.
func (p *parser) print(at Span) {
	from, start := p.i, at.Start
	var last *Output
	gaveUp := p.try(func() {
		for p.cur().kind != tokEnd {
			if last != nil {
				p.expectOp(",")
			}
			x := p.expression(true)
			last = &Output{Span{start, x.At().End}, x}
			p.add(last)
			from, start = p.i, x.At().End
		}
	})
	if gaveUp != nil {
		p.gaveUp(gaveUp)
		rest := Span{start, at.End}
		last = &Output{rest, p.badExpr(from, rest)}
		p.add(last)
	}
	if last == nil {
		p.add(&Text{Span: at}) // nothing comes out
		return
	}
	last.End = at.End
}

// unknown reads a tag of an extension: what parses as expressions, with or
// without commas.
func (p *parser) unknown(name string, at Span) {
	n := &Unknown{Span: at, Name: name}
	from := p.i
	if p.try(func() {
		for p.cur().kind != tokEnd {
			if t := p.cur(); t.kind == tokName && p.look().op("=") {
				p.i += 2
				x := p.expression(true)
				n.Keywords = append(n.Keywords, Var{Span{t.Start, x.At().End}, t.text, x})
			} else {
				n.Args = append(n.Args, p.expression(true))
			}
			p.acceptOp(",")
		}
	}) != nil {
		n.Args, n.Keywords = p.salvage(from), nil
	}
	if p.hasEnd(name, at.End) {
		n.HasBody = true
		p.push(name, n, at, &n.Body)
		return
	}
	p.add(n)
}

// hasEnd reports whether an end tag of the name begins after an offset.
func (p *parser) hasEnd(name string, after int) bool {
	if p.ends == nil {
		p.ends = map[string]int{}
		for i := 0; ; {
			j := strings.Index(p.src[i:], "{%")
			if j < 0 {
				break
			}
			i += j + 2
			k := i
			if k < len(p.src) && (p.src[k] == '-' || p.src[k] == '+') {
				k++
			}
			k = skipSpace(p.src, k)
			if strings.HasPrefix(p.src[k:], "end") {
				p.ends[p.src[k+3:wordEnd(p.src, k)]] = i
			}
		}
	}
	return p.ends[name] > after
}

// checkBlocks reports names that two blocks of a template have, and required
// blocks with something in them.
func (p *parser) checkBlocks() {
	seen := map[string]bool{}
	Walk(p.t.Body, func(n Node) bool {
		b, ok := n.(*Block)
		if !ok || b.Name == "" {
			return true
		}
		if seen[b.Name] {
			p.errorf(b.Span, "there are two blocks %q", b.Name)
		}
		seen[b.Name] = true
		if b.Required {
			for _, k := range b.Body {
				t, ok := k.(*Text)
				if _, comment := k.(*Comment); !comment && (!ok || strings.TrimFunc(t.Value, isSpace) != "") {
					p.errorf(b.Span, "the required block %q is not empty", b.Name)
					break
				}
			}
		}
		return true
	})
}
