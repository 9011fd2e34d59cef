package pysyntax

import "bytes"

// starExprs parses an expression, *value or a tuple without parentheses.
func (p *parser) starExprs() uint32 {
	start := p.start
	e := p.starNamed(false)
	if p.tok != tComma {
		return e
	}
	m := len(p.pending)
	p.push(e)
	for p.accept(tComma) {
		if !p.exprStart() {
			break
		}
		p.push(p.starNamed(false))
	}
	l := p.list(m)
	return p.node(Tuple, start, l, 0, 0)
}

// exprStart reports whether the token can begin an expression.
func (p *parser) exprStart() bool {
	switch p.tok {
	case tName, tNumber, tString, tFString, tLPar, tLBrk, tLBrace, tTilde, tNot, tLambda, tAwait, tNone, tTrue, tFalse, tEllipsis,
		tMinus, tPlus, tStar:
		return true
	}
	return false
}

// starred parses *value.
func (p *parser) starred() uint32 {
	start := p.start
	p.next()
	e := p.bin(0)
	return p.node(Starred, start, e, 0, 0)
}

// starExpr parses an expression or *value.
func (p *parser) starExpr() uint32 {
	if p.tok == tStar {
		return p.starred()
	}
	return p.expr()
}

// starNamed parses an expression, with named also name := value, or *value.
func (p *parser) starNamed(named bool) uint32 {
	if p.tok == tStar {
		return p.starred()
	}
	if named {
		return p.namedExpr()
	}
	return p.expr()
}

// targets parses the targets of a for.
func (p *parser) targets() uint32 {
	start := p.start
	e := p.starTarget()
	if p.tok != tComma {
		return e
	}
	m := len(p.pending)
	p.push(e)
	for p.accept(tComma) {
		if p.tok == tIn || p.tok == tAssign || !p.exprStart() {
			break
		}
		p.push(p.starTarget())
	}
	l := p.list(m)
	return p.node(Tuple, start, l, 0, 0)
}

// starTarget parses one target, which may be *value.
func (p *parser) starTarget() uint32 {
	if p.tok == tStar {
		return p.starred()
	}
	e := p.bin(0)
	p.target(e)
	return e
}

// namedExpr parses an expression or name := value.
func (p *parser) namedExpr() uint32 {
	e := p.expr()
	if p.tok == tWalrus {
		n := p.nodes[e]
		if n.Kind != Name || n.Flags&FParen != 0 {
			p.fail("cannot use := with this target")
		}
		p.next()
		v := p.expr()
		return p.node(NamedExpr, n.Start, e, v, 0)
	}
	return e
}

// expr parses an expression without :=, * or a bare tuple.
func (p *parser) expr() uint32 {
	if p.tok == tLambda {
		if p.depth == p.colonDepth {
			p.note(p.start, "a lambda in a replacement field must be in parentheses")
		}
		p.enter()
		e := p.lambda()
		p.leave()
		return e
	}
	start := p.start
	e := p.or()
	if p.tok == tIf {
		p.next()
		c := p.or()
		p.expect(tElse, "'else'")
		p.enter()
		o := p.expr()
		p.leave()
		e = p.node(IfExp, start, c, e, o)
	}
	return e
}

func (p *parser) lambda() uint32 {
	start := p.start
	p.next()
	args := p.params(tColon, false)
	p.expect(tColon, "':'")
	b := p.expr()
	return p.node(Lambda, start, args, b, 0)
}

func (p *parser) or() uint32 {
	start := p.start
	e := p.and()
	if p.tok != tOr {
		return e
	}
	m := len(p.pending)
	p.push(e)
	for p.accept(tOr) {
		p.push(p.and())
	}
	l := p.list(m)
	id := p.node(BoolOp, start, l, 0, 0)
	p.nodes[id].Op = BoolOr
	return id
}

func (p *parser) and() uint32 {
	start := p.start
	e := p.not()
	if p.tok != tAnd {
		return e
	}
	m := len(p.pending)
	p.push(e)
	for p.accept(tAnd) {
		p.push(p.not())
	}
	l := p.list(m)
	id := p.node(BoolOp, start, l, 0, 0)
	p.nodes[id].Op = BoolAnd
	return id
}

func (p *parser) not() uint32 {
	if p.tok == tNot {
		start := p.start
		p.enter()
		p.next()
		e := p.not()
		p.leave()
		id := p.node(UnaryOp, start, e, 0, 0)
		p.nodes[id].Op = UnaryNot
		return id
	}
	return p.comparison()
}

// cmpOp reads a comparison operator; 0 if there is none.
func (p *parser) cmpOp() uint32 {
	switch p.tok {
	case tEq:
		p.next()
		return CmpEq
	case tNe:
		p.next()
		return CmpNe
	case tLt:
		p.next()
		return CmpLt
	case tLe:
		p.next()
		return CmpLe
	case tGt:
		p.next()
		return CmpGt
	case tGe:
		p.next()
		return CmpGe
	case tIn:
		p.next()
		return CmpIn
	case tIs:
		p.next()
		if p.accept(tNot) {
			return CmpIsNot
		}
		return CmpIs
	case tNot:
		p.next()
		p.expect(tIn, "'in'")
		return CmpNotIn
	}
	return 0
}

func (p *parser) comparison() uint32 {
	start := p.start
	e := p.bin(0)
	switch p.tok {
	case tEq, tNe, tLt, tLe, tGt, tGe, tIn, tIs, tNot:
	default:
		return e
	}
	m := len(p.pending)
	for {
		op := p.cmpOp()
		if op == 0 {
			break
		}
		r := p.bin(0)
		p.push(op)
		p.push(r)
	}
	l := p.list(m)
	return p.node(Compare, start, e, l, 0)
}

// prec says how tight the binary operators bind.
var prec = [16]int8{OpOr: 1, OpXor: 2, OpAnd: 3, OpLShift: 4, OpRShift: 4, OpAdd: 5, OpSub: 5, OpMul: 6, OpDiv: 6, OpFloorDiv: 6, OpMod: 6, OpMatMul: 6}

// bin parses binary operators that bind tighter than min, all of them
// left-associative; ** is in unary.
func (p *parser) bin(min int8) uint32 {
	start := p.start
	e := p.unary()
	for n := 1; p.tok > tOpBase && p.tok < tOpBase+16; n++ {
		op := uint8(p.tok - tOpBase)
		pr := prec[op]
		if pr <= min {
			break
		}
		p.next()
		r := p.bin(pr)
		e = p.node(BinOp, start, e, r, 0)
		p.nodes[e].Op = op
		p.chain(n)
	}
	return e
}

func (p *parser) unary() uint32 {
	switch p.tok {
	case tMinus, tPlus, tTilde:
		start, t := p.start, p.tok
		p.enter()
		p.next()
		e := p.unary()
		p.leave()
		id := p.node(UnaryOp, start, e, 0, 0)
		switch t {
		case tPlus:
			p.nodes[id].Op = UnaryPlus
		case tMinus:
			p.nodes[id].Op = UnaryMinus
		default:
			p.nodes[id].Op = UnaryInvert
		}
		return id
	}
	start := p.start
	var e uint32
	if p.tok == tAwait {
		p.next()
		e = p.primary()
		e = p.node(Await, start, e, 0, 0)
	} else {
		e = p.primary()
	}
	if p.tok == tPower {
		p.enter()
		p.next()
		r := p.unary()
		p.leave()
		e = p.node(BinOp, start, e, r, 0)
		p.nodes[e].Op = OpPow
	}
	return e
}

// primary parses an atom with the attributes, calls and subscripts behind it.
func (p *parser) primary() uint32 {
	// Whatever nests by brackets comes through here.
	p.enter()
	start := p.start
	e := p.atom()
	for n := 1; ; n++ {
		switch p.tok {
		case tDot:
			p.next()
			n := p.name()
			e = p.node(Attribute, start, e, n, 0)
		case tLPar:
			ls := p.start
			p.next()
			args := p.callArgs()
			p.expect(tRPar, "')'")
			if args != 0 && p.lists[args] == 1 {
				g := &p.nodes[p.lists[args+1]]
				if g.Kind == GeneratorExp && g.Flags&FParen == 0 {
					g.Start, g.End = ls, p.prevEnd
				}
			}
			e = p.node(Call, start, e, args, 0)
		case tLBrk:
			p.next()
			s := p.subscript()
			p.expect(tRBrk, "']'")
			e = p.node(Subscript, start, e, s, 0)
		default:
			p.leave()
			return e
		}
		p.chain(n)
	}
}

// subscript parses what stands in the brackets of x[…].
func (p *parser) subscript() uint32 {
	start := p.start
	e := p.slice()
	if p.tok != tComma && p.nodes[e].Kind != Starred {
		return e
	}
	m := len(p.pending)
	p.push(e)
	for p.accept(tComma) {
		if p.tok == tRBrk {
			break
		}
		p.push(p.slice())
	}
	l := p.list(m)
	return p.node(Tuple, start, l, 0, 0)
}

func (p *parser) slice() uint32 {
	start := p.start
	var lo, hi, st uint32
	if p.tok != tColon {
		lo = p.starNamed(true)
		if p.tok != tColon {
			return lo
		}
		if p.nodes[lo].Kind == Starred {
			p.note(start, "cannot use * in a slice")
		}
	}
	p.next()
	if p.tok != tColon && p.tok != tComma && p.tok != tRBrk {
		hi = p.expr()
	}
	if p.accept(tColon) && p.tok != tComma && p.tok != tRBrk {
		st = p.expr()
	}
	return p.node(Slice, start, lo, hi, st)
}

// callArgs parses arguments up to the closing parenthesis, and returns their
// list.
func (p *parser) callArgs() uint32 {
	m := len(p.pending)
	var bare uint32 // a generator expression without parentheses
	keyword, unpacked := false, false
	for p.tok != tRPar {
		start := p.start
		switch p.tok {
		case tStar:
			if unpacked {
				p.note(start, "* cannot follow ** in a call")
			}
			p.next()
			e := p.expr()
			id := p.node(Starred, start, e, 0, 0)
			if p.tok == tFor || p.tok == tAsync {
				g := p.comps()
				id = p.node(GeneratorExp, start, id, g, 0)
				bare = id
			}
			p.push(id)
		case tPower:
			unpacked = true
			p.next()
			e := p.expr()
			p.push(p.node(Keyword, start, 0, e, 0))
		default:
			e := p.namedExpr()
			if p.tok == tAssign {
				n := p.nodes[e]
				if n.Kind != Name {
					p.fail("bad keyword argument")
				}
				if n.Flags&FParen != 0 {
					p.note(start, "bad keyword argument")
				}
				p.next()
				v := p.expr()
				e = p.node(Keyword, start, n.A, v, 0)
				keyword = true
			} else {
				if keyword || unpacked {
					p.note(start, "a positional argument follows a keyword argument")
				}
				if p.tok == tFor || p.tok == tAsync {
					g := p.comps()
					e = p.node(GeneratorExp, start, e, g, 0)
					bare = e
				}
			}
			p.push(e)
		}
		if !p.accept(tComma) {
			break
		}
		if bare != 0 {
			p.note(p.nodes[bare].Start, "a generator expression beside other arguments must be in parentheses")
		}
	}
	if bare != 0 && len(p.pending) > m+1 {
		p.note(p.nodes[bare].Start, "a generator expression beside other arguments must be in parentheses")
	}
	return p.list(m)
}

// comps parses the for and if of a comprehension, and returns their list.
func (p *parser) comps() uint32 {
	m := len(p.pending)
	for p.tok == tFor || p.tok == tAsync {
		start := p.start
		var fl uint16
		if p.accept(tAsync) {
			fl = FAsync
		}
		p.expect(tFor, "'for'")
		t := p.targets()
		p.expect(tIn, "'in'")
		it := p.or()
		mm := len(p.pending)
		for p.tok == tIf {
			p.next()
			c := p.or()
			if p.tok == tWalrus {
				p.next()
				v := p.expr()
				c = p.node(NamedExpr, p.nodes[c].Start, c, v, 0)
			}
			p.push(c)
		}
		ifs := p.list(mm)
		id := p.node(Comprehension, start, t, it, ifs)
		p.nodes[id].Flags = fl
		p.push(id)
	}
	return p.list(m)
}

func (p *parser) yield() uint32 {
	start := p.start
	p.next()
	if p.accept(tFrom) {
		e := p.expr()
		return p.node(YieldFrom, start, e, 0, 0)
	}
	var e uint32
	if p.exprStart() {
		e = p.starExprs()
	}
	return p.node(Yield, start, e, 0, 0)
}

func (p *parser) atom() uint32 {
	start := p.start
	switch p.tok {
	case tName:
		s := p.sym
		p.next()
		return p.node(Name, start, s, 0, 0)
	case tNumber:
		return p.number()
	case tString, tFString:
		return p.strings()
	case tNone:
		p.next()
		return p.node(None, start, 0, 0, 0)
	case tTrue:
		p.next()
		return p.node(True, start, 0, 0, 0)
	case tFalse:
		p.next()
		return p.node(False, start, 0, 0, 0)
	case tEllipsis:
		p.next()
		return p.node(Ellipsis, start, 0, 0, 0)
	case tLPar:
		return p.group(start)
	case tLBrk:
		p.next()
		if p.tok == tRBrk {
			p.next()
			return p.node(List, start, 0, 0, 0)
		}
		e := p.starNamed(true)
		if p.tok == tFor || p.tok == tAsync {
			g := p.comps()
			p.expect(tRBrk, "']'")
			return p.node(ListComp, start, e, g, 0)
		}
		l := p.rest(e, tRBrk)
		p.expect(tRBrk, "']'")
		return p.node(List, start, l, 0, 0)
	case tLBrace:
		return p.braces(start)
	}
	p.fail(invalidSyntax)
	return 0
}

// rest parses the elements behind the first, up to the closing bracket.
func (p *parser) rest(first uint32, close tok) uint32 {
	m := len(p.pending)
	p.push(first)
	for p.accept(tComma) {
		if p.tok == close {
			break
		}
		p.push(p.starNamed(true))
	}
	return p.list(m)
}

// group parses what stands in parentheses.
func (p *parser) group(start uint32) uint32 {
	p.next()
	if p.tok == tRPar {
		p.next()
		return p.node(Tuple, start, 0, 0, 0)
	}
	if p.tok == tYield {
		e := p.yield()
		p.expect(tRPar, "')'")
		p.nodes[e].Flags |= FParen
		return e
	}
	e := p.starNamed(true)
	switch p.tok {
	case tFor, tAsync:
		g := p.comps()
		p.expect(tRPar, "')'")
		id := p.node(GeneratorExp, start, e, g, 0)
		p.nodes[id].Flags |= FParen
		return id
	case tComma:
		l := p.rest(e, tRPar)
		p.expect(tRPar, "')'")
		id := p.node(Tuple, start, l, 0, 0)
		p.nodes[id].Flags |= FParen
		return id
	}
	if p.nodes[e].Kind == Starred {
		p.fail("cannot use starred expression here")
	}
	p.expect(tRPar, "')'")
	p.nodes[e].Flags |= FParen
	return e
}

// braces parses a set, a dict or a comprehension of one.
func (p *parser) braces(start uint32) uint32 {
	p.next()
	if p.tok == tRBrace {
		p.next()
		return p.node(Dict, start, 0, 0, 0)
	}
	m := len(p.pending)
	if p.tok == tPower {
		p.next()
		v := p.bin(0)
		if p.tok == tFor || p.tok == tAsync { // PEP 798
			g := p.comps()
			p.expect(tRBrace, "'}'")
			return p.node(DictComp, start, 0, v, g)
		}
		p.push(0)
		p.push(v)
		return p.dictRest(start, m)
	}
	e := p.starNamed(true)
	if p.nodes[e].Kind != Starred && p.accept(tColon) {
		v := p.expr()
		if p.tok == tFor || p.tok == tAsync {
			g := p.comps()
			p.expect(tRBrace, "'}'")
			return p.node(DictComp, start, e, v, g)
		}
		p.push(e)
		p.push(v)
		return p.dictRest(start, m)
	}
	if p.tok == tFor || p.tok == tAsync {
		g := p.comps()
		p.expect(tRBrace, "'}'")
		return p.node(SetComp, start, e, g, 0)
	}
	l := p.rest(e, tRBrace)
	p.expect(tRBrace, "'}'")
	return p.node(Set, start, l, 0, 0)
}

// dictRest parses the items of a dict behind those pending above m.
func (p *parser) dictRest(start uint32, m int) uint32 {
	for p.accept(tComma) {
		if p.tok == tRBrace {
			break
		}
		if p.tok == tPower {
			p.next()
			v := p.bin(0)
			p.push(0)
			p.push(v)
			continue
		}
		k := p.expr()
		p.expect(tColon, "':'")
		v := p.expr()
		p.push(k)
		p.push(v)
	}
	l := p.list(m)
	p.expect(tRBrace, "'}'")
	return p.node(Dict, start, l, 0, 0)
}

// number parses a number. One that Python refuses is noted and kept.
func (p *parser) number() uint32 {
	start, c := p.start, p.src[p.end]
	text := p.src[start:p.end]
	switch {
	case class[c] == cDigit || class[c] == cIdent && !p.wordBehindNumber():
		p.note(start, "invalid number")
	case len(text) > 1 && (text[0] == '0' || text[len(text)-1] == '_' || text[1] == '_'):
		if msg := badNumber(text); msg != "" {
			p.note(start, msg)
		}
	}
	p.next()
	return p.node(Num, start, 0, 0, 0)
}

// wordBehindNumber reports whether what follows the number at once is one of
// the keywords that may: 1if x else 2.
func (p *parser) wordBehindNumber() bool {
	for _, w := range [...]string{"and", "else", "for", "if", "in", "is", "or", "not"} {
		if bytes.HasPrefix(p.src[p.end:], []byte(w)) {
			return true
		}
	}
	return false
}

// badNumber says what Python has against a number that begins with 0 or has
// an underscore at its end, or "".
func badNumber(text []byte) string {
	last := text[len(text)-1]
	if last == '_' || bytes.Contains(text, []byte("__")) {
		return "invalid number"
	}
	switch text[1] | 0x20 {
	case 'x', 'o', 'b':
		most := map[byte]byte{'x': 'f', 'o': '7', 'b': '1'}[text[1]|0x20]
		for _, c := range text[2:] {
			if c != '_' && (class[c] == cDigit && c > most || class[c] != cDigit && c|0x20 > most) {
				return "invalid digit in a number"
			}
		}
		if len(text) == 2 {
			return "a number without digits"
		}
		return ""
	}
	zeros := true
	for _, c := range text {
		if c != '_' && class[c] != cDigit {
			return "" // a float may begin with 0
		}
		zeros = zeros && (c == '0' || c == '_')
	}
	if text[0] == '0' && !zeros {
		return "leading zeros in decimal integer literals are not permitted; use an 0o prefix for octal integers"
	}
	return ""
}
