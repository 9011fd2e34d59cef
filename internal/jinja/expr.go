package jinja

import (
	"fmt"
	"strings"
)

// Bounds on nesting. See the package comment.
const (
	maxNesting = 200
	maxHeight  = 400
)

// bailout ends the reading of a tag. It does not leave the package.
type bailout struct {
	at      Span
	message string
}

func (p *parser) fail(at Span, format string, args ...any) {
	panic(bailout{at, fmt.Sprintf(format, args...)})
}

// try runs f and returns why it gave up, or nil.
func (p *parser) try(f func()) (gaveUp *bailout) {
	nesting := p.nesting
	defer func() {
		p.nesting = nesting
		switch r := recover().(type) {
		case nil:
		case bailout:
			gaveUp = &r
		default:
			panic(r)
		}
	}()
	f()
	return nil
}

func (p *parser) cur() token { return p.tokens[p.i] }

// look returns the token after the current one.
func (p *parser) look() token { return p.tokens[min(p.i+1, len(p.tokens)-1)] }

func (p *parser) next() token {
	t := p.tokens[p.i]
	if t.kind != tokEnd {
		p.i++
	}
	return t
}

func (t token) op(op string) bool     { return t.kind == tokOp && t.text == op }
func (t token) word(word string) bool { return t.kind == tokName && t.text == word }

// describe is how an error names the token.
func (t token) describe() string {
	switch t.kind {
	case tokEnd:
		return "the end of the tag"
	case tokString:
		return "a string"
	}
	return fmt.Sprintf("%q", t.text)
}

func (p *parser) acceptOp(op string) bool {
	if p.cur().op(op) {
		p.i++
		return true
	}
	return false
}

func (p *parser) acceptWord(word string) bool {
	if p.cur().word(word) {
		p.i++
		return true
	}
	return false
}

func (p *parser) expectOp(op string) token {
	t := p.cur()
	if !t.op(op) {
		p.fail(t.Span, "expected %q, got %s", op, t.describe())
	}
	return p.next()
}

func (p *parser) expectWord(word string) {
	if t := p.cur(); !t.word(word) {
		p.fail(t.Span, "expected %q, got %s", word, t.describe())
	}
	p.i++
}

// expectName returns the next token, which is a name.
func (p *parser) expectName() token {
	t := p.cur()
	if t.kind != tokName {
		p.fail(t.Span, "expected a name, got %s", t.describe())
	}
	return p.next()
}

func (p *parser) expectEnd() {
	if t := p.cur(); t.kind != tokEnd {
		p.fail(t.Span, "expected the end of the tag, got %s", t.describe())
	}
}

// base makes the base of an expression that begins at start and ends with the
// token before the current one, and has the kids below it.
func (p *parser) base(start int, kids ...Expr) base {
	end := start
	if p.i > 0 {
		end = max(start, p.tokens[p.i-1].End)
	}
	h := 0
	for _, k := range kids {
		if k != nil {
			h = max(h, k.height())
		}
	}
	if h++; h > maxHeight {
		p.fail(Span{start, end}, "the expression is nested more than %d deep", maxHeight)
	}
	return base{Span{start, end}, h}
}

// enter counts one level of nesting; the caller leaves it.
func (p *parser) enter() {
	if p.nesting++; p.nesting > maxNesting {
		p.fail(p.cur().Span, "the expression is nested more than %d deep", maxNesting)
	}
}

func (p *parser) leave() { p.nesting-- }

// tuple reads one expression or several with commas. Where cond is not set,
// the expressions have no if, as in the head of a for.
func (p *parser) tuple(cond bool, one func(cond bool) Expr) Expr {
	start := p.cur().Start
	var items []Expr
	isTuple := false
	for {
		if len(items) > 0 {
			p.expectOp(",")
		}
		if t := p.cur(); t.kind == tokEnd || t.op(")") {
			break
		}
		items = append(items, one(cond))
		if !p.cur().op(",") {
			break
		}
		isTuple = true
	}
	if !isTuple {
		if len(items) == 0 {
			p.fail(p.cur().Span, "expected an expression, got %s", p.cur().describe())
		}
		return items[0]
	}
	return &Tuple{p.base(start, items...), items}
}

// expressions is a tuple as it stands in {{ }}.
func (p *parser) expressions() Expr { return p.tuple(true, p.expression) }

func (p *parser) expression(cond bool) Expr {
	p.enter()
	defer p.leave()
	if !cond {
		return p.or()
	}
	start := p.cur().Start
	e := p.or()
	for p.acceptWord("if") {
		test := p.or()
		var other Expr
		if p.acceptWord("else") {
			other = p.expression(true)
		}
		e = &Cond{p.base(start, test, e, other), test, e, other}
	}
	return e
}

func (p *parser) or() Expr {
	start := p.cur().Start
	e := p.and()
	for p.acceptWord("or") {
		right := p.and()
		e = &BinOp{p.base(start, e, right), "or", e, right}
	}
	return e
}

func (p *parser) and() Expr {
	start := p.cur().Start
	e := p.not()
	for p.acceptWord("and") {
		right := p.not()
		e = &BinOp{p.base(start, e, right), "and", e, right}
	}
	return e
}

func (p *parser) not() Expr {
	if !p.cur().word("not") {
		return p.compare()
	}
	start := p.next().Start
	p.enter()
	defer p.leave()
	e := p.not()
	return &UnaryOp{p.base(start, e), "not", e}
}

func (p *parser) compare() Expr {
	start := p.cur().Start
	left := p.sum()
	var ops []CompareOp
	kids := []Expr{left}
	for {
		t := p.cur()
		op := ""
		switch {
		case t.kind == tokOp:
			switch t.text {
			case "==", "!=", "<", ">", "<=", ">=":
				op = t.text
			}
		case t.word("in"):
			op = "in"
		case t.word("not") && p.look().word("in"):
			op = "not in"
			p.i++
		}
		if op == "" {
			break
		}
		p.i++
		right := p.sum()
		ops = append(ops, CompareOp{op, right})
		kids = append(kids, right)
	}
	if ops == nil {
		return left
	}
	return &Compare{p.base(start, kids...), left, ops}
}

// binary reads a chain of operators, leaning left.
func (p *parser) binary(operand func() Expr, ops ...string) Expr {
	start := p.cur().Start
	e := operand()
	for {
		t := p.cur()
		if t.kind != tokOp {
			return e
		}
		found := false
		for _, op := range ops {
			found = found || t.text == op
		}
		if !found {
			return e
		}
		p.i++
		right := operand()
		e = &BinOp{p.base(start, e, right), t.text, e, right}
	}
}

func (p *parser) sum() Expr { return p.binary(p.concat, "+", "-") }

func (p *parser) concat() Expr {
	start := p.cur().Start
	e := p.product()
	if !p.cur().op("~") {
		return e
	}
	parts := []Expr{e}
	for p.acceptOp("~") {
		parts = append(parts, p.product())
	}
	return &Concat{p.base(start, parts...), parts}
}

func (p *parser) product() Expr { return p.binary(p.power, "*", "/", "//", "%") }

// power leans left, unlike Python's.
func (p *parser) power() Expr {
	return p.binary(func() Expr { return p.unary(true) }, "**")
}

func (p *parser) unary(filters bool) Expr {
	t := p.cur()
	var e Expr
	if t.op("-") || t.op("+") {
		p.i++
		p.enter()
		x := p.unary(false)
		p.leave()
		e = &UnaryOp{p.base(t.Start, x), t.text, x}
	} else {
		e = p.primary(false)
	}
	e = p.postfix(e)
	if filters {
		e = p.filterExpr(e)
	}
	return e
}

// primary reads a name, a literal or something in brackets. Where namespace
// is set, name.attribute is a target.
func (p *parser) primary(namespace bool) Expr {
	t := p.next()
	switch t.kind {
	case tokName:
		switch t.text {
		case "true", "True":
			return &Const{p.base(t.Start), Bool, "true"}
		case "false", "False":
			return &Const{p.base(t.Start), Bool, "false"}
		case "none", "None":
			return &Const{p.base(t.Start), None, "none"}
		}
		n := &Name{p.base(t.Start), t.text}
		if namespace && p.acceptOp(".") {
			attr := p.expectName()
			return &Attr{p.base(t.Start, n), n, attr.text}
		}
		return n
	case tokString:
		value := p.stringValue(t)
		for p.cur().kind == tokString {
			value += p.stringValue(p.next())
		}
		return &Const{p.base(t.Start), String, value}
	case tokInt:
		return &Const{p.base(t.Start), Int, strings.ReplaceAll(t.text, "_", "")}
	case tokFloat:
		return &Const{p.base(t.Start), Float, strings.ReplaceAll(t.text, "_", "")}
	case tokOp:
		switch t.text {
		case "(":
			if p.acceptOp(")") {
				return &Tuple{p.base(t.Start), nil}
			}
			e := p.tuple(true, p.expression)
			p.expectOp(")")
			return e
		case "[":
			items := p.items("]")
			return &List{p.base(t.Start, items...), items}
		case "{":
			return p.dict(t.Start)
		}
	}
	p.fail(t.Span, "unexpected %s", t.describe())
	return nil
}

// newlines are all the same to Jinja.
var newlines = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// stringValue decodes a string.
func (p *parser) stringValue(t token) string {
	value, bad := unescape(newlines.Replace(t.text))
	if bad >= 0 {
		p.errorf(t.Span, "the string has an escape that is cut off")
	}
	return value
}

// items reads expressions with commas up to the closing bracket.
func (p *parser) items(close string) []Expr {
	var items []Expr
	for !p.cur().op(close) {
		if len(items) > 0 {
			p.expectOp(",")
			if p.cur().op(close) {
				break
			}
		}
		items = append(items, p.expression(true))
	}
	p.expectOp(close)
	return items
}

func (p *parser) dict(start int) Expr {
	d := &Dict{}
	var kids []Expr
	for !p.cur().op("}") {
		if len(d.Keys) > 0 {
			p.expectOp(",")
			if p.cur().op("}") {
				break
			}
		}
		key := p.expression(true)
		p.expectOp(":")
		value := p.expression(true)
		d.Keys = append(d.Keys, key)
		d.Values = append(d.Values, value)
		kids = append(kids, key, value)
	}
	p.expectOp("}")
	d.base = p.base(start, kids...)
	return d
}

func (p *parser) postfix(e Expr) Expr {
	start := e.At().Start
	for {
		switch t := p.cur(); {
		case t.op("."):
			p.i++
			a := p.next()
			switch a.kind {
			case tokName:
				e = &Attr{p.base(start, e), e, a.text}
			case tokInt:
				index := &Const{base{a.Span, 1}, Int, strings.ReplaceAll(a.text, "_", "")}
				e = &Item{p.base(start, e), e, index}
			default:
				p.fail(a.Span, "expected a name or a number after the dot, got %s", a.describe())
			}
		case t.op("["):
			p.i++
			index := p.subscript(t.Start)
			e = &Item{p.base(start, e, index), e, index}
		case t.op("("):
			e = p.call(e)
		default:
			return e
		}
	}
}

func (p *parser) call(f Expr) Expr {
	c := &Call{Func: f}
	kids := p.args(&c.Args)
	c.base = p.base(f.At().Start, append(kids, f)...)
	return c
}

func (p *parser) subscript(start int) Expr {
	var items []Expr
	for !p.cur().op("]") {
		if len(items) > 0 {
			p.expectOp(",")
		}
		items = append(items, p.subscribed())
	}
	p.expectOp("]")
	if len(items) == 1 {
		return items[0]
	}
	return &Tuple{p.base(start, items...), items}
}

// subscribed reads one index or slice.
func (p *parser) subscribed() Expr {
	start := p.cur().Start
	s := &Slice{}
	if !p.cur().op(":") {
		e := p.expression(true)
		if !p.cur().op(":") {
			return e
		}
		s.Lower = e
	}
	p.expectOp(":")
	more := func() bool { return !p.cur().op("]") && !p.cur().op(",") }
	if !p.cur().op(":") && more() {
		s.Upper = p.expression(true)
	}
	if p.acceptOp(":") && more() {
		s.Step = p.expression(true)
	}
	s.base = p.base(start, s.Lower, s.Upper, s.Step)
	return s
}

// args reads the arguments of a call into a and returns them all.
func (p *parser) args(a *Args) (kids []Expr) {
	open := p.expectOp("(")
	for first := true; !p.cur().op(")"); first = false {
		if !first {
			p.expectOp(",")
			if p.cur().op(")") {
				break
			}
		}
		ok := true
		var e Expr
		t := p.cur()
		switch {
		case t.op("*"):
			ok = a.Star == nil && a.StarStar == nil
			p.i++
			e = p.expression(true)
			a.Star = e
		case t.op("**"):
			ok = a.StarStar == nil
			p.i++
			e = p.expression(true)
			a.StarStar = e
		case t.kind == tokName && p.look().op("="):
			ok = a.StarStar == nil
			p.i += 2
			e = p.expression(true)
			a.Keywords = append(a.Keywords, Var{Span{t.Start, e.At().End}, t.text, e})
		default:
			ok = a.Star == nil && a.StarStar == nil && len(a.Keywords) == 0
			e = p.expression(true)
			a.Args = append(a.Args, e)
		}
		if !ok {
			p.errorf(open.Span, "the arguments of the call are in an order that Jinja refuses")
		}
		kids = append(kids, e)
	}
	p.expectOp(")")
	return kids
}

// filterExpr reads the filters, tests and calls after an expression.
func (p *parser) filterExpr(e Expr) Expr {
	for {
		switch t := p.cur(); {
		case t.op("|"):
			p.i++
			e = p.filter(e, e.At().Start)
		case t.word("is"):
			e = p.test(e)
		case t.op("("):
			e = p.call(e)
		default:
			return e
		}
	}
}

// filters reads {% filter a|b %} or what follows the target of a set block.
// The first name is the next token.
func (p *parser) filters() Expr {
	start := p.cur().Start
	e := p.filter(nil, start)
	for p.acceptOp("|") {
		e = p.filter(e, start)
	}
	return e
}

func (p *parser) filter(x Expr, start int) Expr {
	f := &Filter{X: x, Name: p.dottedName()}
	kids := []Expr{x}
	if p.cur().op("(") {
		kids = append(kids, p.args(&f.Args)...)
	}
	f.base = p.base(start, kids...)
	return f
}

func (p *parser) dottedName() string {
	name := p.expectName().text
	for p.acceptOp(".") {
		name += "." + p.expectName().text
	}
	return name
}

func (p *parser) test(x Expr) Expr {
	p.i++ // is
	t := &Test{X: x, Negated: p.acceptWord("not")}
	t.Name = p.dottedName()
	kids := []Expr{x}
	switch c := p.cur(); {
	case c.op("("):
		kids = append(kids, p.args(&t.Args)...)
	case c.kind == tokName || c.kind == tokString || c.kind == tokInt || c.kind == tokFloat || c.op("[") || c.op("{"):
		switch {
		case c.word("else"), c.word("or"), c.word("and"):
		case c.word("is"):
			p.fail(c.Span, "tests cannot be chained with is")
		default:
			arg := p.postfix(p.primary(false))
			t.Args.Args = []Expr{arg}
			kids = append(kids, arg)
		}
	}
	t.base = p.base(x.At().Start, kids...)
	return t
}

// target reads what is assigned to.
func (p *parser) target(namespace bool) Expr {
	e := p.tuple(false, func(bool) Expr { return p.primary(namespace) })
	p.checkTarget(e, namespace)
	return e
}

func (p *parser) checkTarget(e Expr, namespace bool) {
	switch e := e.(type) {
	case *Name:
		return
	case *Attr:
		if namespace {
			return
		}
	case *Tuple:
		for _, i := range e.Items {
			p.checkTarget(i, namespace)
		}
		return
	}
	p.fail(e.At(), "nothing can be assigned to this")
}

// nameTarget reads a single name that is assigned to.
func (p *parser) nameTarget() string {
	t := p.expectName()
	switch t.text {
	case "true", "True", "false", "False", "none", "None":
		p.fail(t.Span, "nothing can be assigned to %s", t.text)
	}
	return t.text
}

// salvage returns the expressions that can be read from the tokens at or
// after index from, whatever is between them.
func (p *parser) salvage(from int) []Expr {
	var parts []Expr
	p.i = from
	// Each try may read the whole tag; their number keeps a hostile tag cheap.
	for tries := 0; tries < 50 && p.cur().kind != tokEnd; {
		at := p.i
		t := p.cur()
		if t.kind == tokBad || t.kind == tokOp && t.text != "(" && t.text != "[" && t.text != "{" || t.kind == tokName && words[t.text] {
			p.i++
			continue
		}
		tries++
		var e Expr
		if p.try(func() { e = p.unary(true) }) == nil {
			parts = append(parts, e)
			continue
		}
		p.i = at
		if t.kind != tokName {
			p.i++
			continue
		}
		// Then the name at least.
		e = p.primary(false)
		for p.cur().op(".") && p.look().kind == tokName && e.height() < maxNesting {
			p.i++
			name := p.next().text
			e = &Attr{p.base(t.Start, e), e, name}
		}
		parts = append(parts, e)
	}
	for p.cur().kind != tokEnd {
		p.i++
	}
	return parts
}

// words are those that are no variables where a tag is read word by word.
var words = map[string]bool{
	"if": true, "else": true, "is": true, "in": true, "and": true, "or": true, "not": true,
	"as": true, "import": true, "with": true, "without": true, "context": true,
	"ignore": true, "missing": true, "recursive": true,
}
