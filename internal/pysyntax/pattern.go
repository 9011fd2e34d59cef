package pysyntax

// matchStmt parses a match statement, or returns 0 if match is a name here.
func (p *parser) matchStmt() uint32 {
	s := p.save()
	start := p.start
	// Most uses as a name show in the next token.
	p.next()
	switch p.tok {
	case tAssign, tDot, tComma, tRPar, tRBrk, tColon, tNewline, tSemi, tEq, tNe, tLt, tGt, tLe, tGe, tEOF, tIn, tIs, tAnd, tOr, tIf, tAs, tFor:
		p.restore(s)
		return 0
	}
	if p.tok >= tAugBase && p.tok < tAugBase+16 {
		p.restore(s)
		return 0
	}
	p.restore(s)
	var subj uint32
	if !p.try(func() bool {
		p.next()
		subj = p.subjectExpr()
		if p.tok != tColon {
			return false
		}
		// A ':' that ends the line can only be that of a match statement.
		q := p.pos
		for class[p.src[q]] == cSpace {
			q++
		}
		c := p.src[q]
		return c == '\n' || c == '\r' || c == '#'
	}) {
		return 0
	}
	p.next()
	p.expect(tNewline, "newline")
	if p.tok != tIndent {
		p.fail("expected an indented block after match")
	}
	p.next()
	m := len(p.pending)
	for p.tok == tName && p.sym == symCase {
		cs := p.start
		p.next()
		pat := p.openPattern()
		var guard uint32
		if p.accept(tIf) {
			guard = p.namedExpr()
		}
		body := p.suite()
		p.push(p.endAt(p.node(MatchCase, cs, pat, guard, body), body))
	}
	if p.tok == tDedent {
		p.next()
	} else if p.tok != tEOF {
		p.fail("expected case")
	}
	l := p.list(m)
	return p.endAt(p.node(Match, start, subj, l, 0), l)
}

// subjectExpr parses what stands between match and its colon.
func (p *parser) subjectExpr() uint32 {
	start := p.start
	e := p.starNamed(true)
	if p.tok != tComma {
		return e
	}
	m := len(p.pending)
	p.push(e)
	for p.accept(tComma) {
		if p.tok == tColon {
			break
		}
		p.push(p.starNamed(true))
	}
	l := p.list(m)
	return p.node(Tuple, start, l, 0, 0)
}

// openPattern parses a pattern, or several as a sequence without brackets.
func (p *parser) openPattern() uint32 {
	start := p.start
	e := p.maybeStar()
	if p.tok != tComma && p.nodes[e].Kind != MatchStar {
		return e
	}
	m := len(p.pending)
	p.push(e)
	for p.accept(tComma) {
		if p.tok == tColon || p.tok == tIf {
			break
		}
		p.push(p.maybeStar())
	}
	l := p.list(m)
	return p.node(MatchSequence, start, l, 0, 0)
}

// maybeStar parses a pattern or *name.
func (p *parser) maybeStar() uint32 {
	if p.tok == tStar {
		start := p.start
		p.next()
		n := p.name()
		if n == symUnderscore {
			n = 0
		}
		return p.node(MatchStar, start, n, 0, 0)
	}
	return p.asPattern()
}

// asPattern parses alternatives with | and a name behind as.
func (p *parser) asPattern() uint32 {
	start := p.start
	p.enter()
	defer p.leave()
	e := p.closed()
	if p.tok == tPipe {
		m := len(p.pending)
		p.push(e)
		for p.tok == tPipe {
			p.next()
			p.push(p.closed())
		}
		l := p.list(m)
		e = p.node(MatchOr, start, l, 0, 0)
	}
	if p.accept(tAs) {
		if p.tok == tName && p.sym == symUnderscore {
			p.note(p.start, "cannot use _ as a target")
		}
		n := p.name()
		e = p.node(MatchAs, start, e, n, 0)
	}
	return e
}

// closed parses a pattern without | and as.
func (p *parser) closed() uint32 {
	start := p.start
	switch p.tok {
	case tNumber, tMinus, tPlus:
		v := p.bin(4) // signed and complex literals: binds + and - only above comparison
		p.patternNumber(v)
		return p.node(MatchValue, start, v, 0, 0)
	case tString, tFString:
		v := p.strings()
		return p.node(MatchValue, start, v, 0, 0)
	case tNone, tTrue, tFalse:
		v := p.atom()
		return p.node(MatchSingleton, start, v, 0, 0)
	case tName:
		s := p.sym
		p.next()
		if p.tok != tDot && p.tok != tLPar {
			if s == symUnderscore {
				s = 0
			}
			return p.node(MatchAs, start, 0, s, 0)
		}
		e := p.node(Name, start, s, 0, 0)
		for i := 1; p.accept(tDot); i++ {
			n := p.name()
			e = p.node(Attribute, start, e, n, 0)
			p.chain(i)
		}
		if p.tok != tLPar {
			return p.node(MatchValue, start, e, 0, 0)
		}
		p.next()
		m := len(p.pending)
		keyword := false
		for p.tok != tRPar {
			ks := p.start
			x := p.asPattern()
			if p.tok == tAssign {
				keyword = true
			} else if keyword {
				p.note(ks, "a positional pattern follows a keyword pattern")
			}
			if p.tok == tAssign {
				n := p.nodes[x]
				if n.Kind != MatchAs || n.A != 0 {
					p.fail("bad keyword pattern")
				}
				p.next()
				v := p.asPattern()
				nm := n.B
				if nm == 0 {
					nm = symUnderscore
				}
				x = p.node(Keyword, ks, nm, v, 0)
			}
			p.push(x)
			if !p.accept(tComma) {
				break
			}
		}
		p.expect(tRPar, "')'")
		l := p.list(m)
		return p.node(MatchClass, start, e, l, 0)
	case tLPar, tLBrk:
		close := tRPar
		if p.tok == tLBrk {
			close = tRBrk
		}
		br := close == tRBrk
		p.next()
		m := len(p.pending)
		comma := br
		for p.tok != close {
			p.push(p.maybeStar())
			if !p.accept(tComma) {
				break
			}
			comma = true
		}
		p.expect(close, "closing bracket")
		if !comma && len(p.pending) == m+1 && p.nodes[p.pending[m]].Kind != MatchStar {
			e := p.pending[m]
			p.pending = p.pending[:m]
			return e
		}
		l := p.list(m)
		return p.node(MatchSequence, start, l, 0, 0)
	case tLBrace:
		p.next()
		m := len(p.pending)
		var rest uint32
		for p.tok != tRBrace {
			if rest != 0 {
				p.note(p.start, "nothing can follow the rest of a mapping pattern")
			}
			if p.tok == tPower {
				p.next()
				if rest != 0 || p.tok == tName && p.sym == symUnderscore {
					p.note(p.start, "invalid rest of a mapping pattern")
				}
				rest = p.name()
			} else {
				var k uint32
				switch p.tok {
				case tString, tFString:
					k = p.strings()
				case tNumber, tMinus:
					k = p.bin(4)
					p.patternNumber(k)
				case tNone, tTrue, tFalse:
					k = p.atom()
				default:
					ks := p.start
					n := p.name()
					k = p.node(Name, ks, n, 0, 0)
					for i := 1; p.accept(tDot); i++ {
						n := p.name()
						k = p.node(Attribute, ks, k, n, 0)
						p.chain(i)
					}
				}
				p.expect(tColon, "':'")
				v := p.asPattern()
				p.push(k)
				p.push(v)
			}
			if !p.accept(tComma) {
				break
			}
		}
		p.expect(tRBrace, "'}'")
		l := p.list(m)
		return p.node(MatchMapping, start, l, rest, 0)
	}
	p.fail("invalid pattern")
	return 0
}

// patternNumber notes what is no number that a pattern may have: a literal,
// its negative, or such a one plus or minus an imaginary literal.
func (p *parser) patternNumber(id uint32) {
	imaginary := func(id uint32) bool { return p.src[p.nodes[id].End-1]|0x20 == 'j' }
	signed := func(id uint32) (number uint32, ok bool) {
		n := &p.nodes[id]
		if n.Kind == UnaryOp && n.Op == UnaryMinus && n.Flags&FParen == 0 {
			id, n = n.A, &p.nodes[n.A]
		}
		return id, n.Kind == Num && n.Flags&FParen == 0
	}
	if _, ok := signed(id); ok {
		return
	}
	n := p.nodes[id]
	if n.Kind == BinOp && (n.Op == OpAdd || n.Op == OpSub) {
		if re, ok := signed(n.A); ok && !imaginary(re) && p.nodes[n.B].Kind == Num && imaginary(n.B) {
			return
		}
	}
	p.note(n.Start, "a pattern may only have numbers, negative and complex ones among them")
}
