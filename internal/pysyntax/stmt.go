package pysyntax

// suite parses a colon and a block, and returns the list of its statements.
func (p *parser) suite() uint32 {
	p.expect(tColon, "':'")
	m := len(p.pending)
	if p.tok != tNewline {
		p.simpleLine()
		return p.list(m)
	}
	p.next()
	if p.tok != tIndent {
		p.note(p.start, "expected an indented block")
		return 0
	}
	p.next()
	for p.tok != tDedent && p.tok != tEOF {
		p.blockItem()
	}
	if p.tok == tDedent {
		p.next()
	}
	return p.list(m)
}

// simpleLine parses the simple statements of one line and pushes them.
func (p *parser) simpleLine() {
	for {
		p.push(p.simple())
		end := p.end
		if !p.accept(tSemi) {
			break
		}
		if p.tok == tNewline || p.tok == tEOF {
			p.lastSemi = end
			break
		}
	}
	if p.tok == tEOF {
		return
	}
	p.expect(tNewline, "end of line")
}

// endAt lets a compound statement end where the last statement of its body
// ends, or the semicolon after that, and returns the statement.
func (p *parser) endAt(id, body uint32) uint32 {
	if n := p.lists[body]; body != 0 && n > 0 {
		p.nodes[id].End = max(p.nodes[p.lists[body+n]].End, p.lastSemi)
	}
	return id
}

// atCompound reports whether a compound statement may begin here.
func (p *parser) atCompound() bool {
	switch p.tok {
	case tIf, tWhile, tFor, tTry, tWith, tDef, tClass, tAt, tAsync:
		return true
	case tName:
		return p.sym == symMatch
	}
	return false
}

// statement parses one statement, or a line of simple ones, and pushes it.
func (p *parser) statement() {
	start := p.start
	switch p.tok {
	case tIf:
		p.push(p.ifStmt())
	case tWhile:
		p.next()
		test := p.namedExpr()
		body := p.suite()
		els := p.elseOpt()
		id := p.node(While, start, test, body, els)
		p.endAtLast(id, body, els)
		p.push(id)
	case tFor:
		p.push(p.forStmt(start, For))
	case tTry:
		p.push(p.tryStmt())
	case tWith:
		p.push(p.withStmt(start, With))
	case tDef:
		p.push(p.funcDef(start, 0, FunctionDef))
	case tClass:
		p.push(p.classDef(0))
	case tAt:
		m := len(p.pending)
		for p.tok == tAt {
			p.next()
			p.push(p.namedExpr())
			p.expect(tNewline, "newline after decorator")
		}
		decs := p.list(m)
		s := p.start
		switch {
		case p.tok == tDef:
			p.push(p.funcDef(s, decs, FunctionDef))
		case p.tok == tClass:
			p.push(p.classDef(decs))
		case p.tok == tAsync:
			p.next()
			if p.tok != tDef {
				p.fail("expected def")
			}
			p.push(p.funcDef(s, decs, AsyncFunctionDef))
		default:
			p.fail("expected def or class after decorator")
		}
	case tAsync:
		p.next()
		switch p.tok {
		case tDef:
			p.push(p.funcDef(start, 0, AsyncFunctionDef))
		case tFor:
			p.push(p.forStmt(start, AsyncFor))
		case tWith:
			p.push(p.withStmt(start, AsyncWith))
		default:
			p.fail("expected def, for or with after async")
		}
	case tName:
		if p.sym == symMatch {
			if id := p.matchStmt(); id != 0 {
				p.push(id)
				return
			}
		}
		p.simpleLine()
	default:
		p.simpleLine()
	}
}

// endAtLast is endAt with the last list that is not empty.
func (p *parser) endAtLast(id uint32, lists ...uint32) {
	for i := len(lists) - 1; i >= 0; i-- {
		if lists[i] != 0 {
			p.endAt(id, lists[i])
			return
		}
	}
}

func (p *parser) elseOpt() uint32 {
	if p.tok == tElse {
		p.next()
		return p.suite()
	}
	return 0
}

// ifStmt parses if and all of its elif, which nest to the right. It does so
// without recursion: generated code has thousands of them.
func (p *parser) ifStmt() uint32 {
	m := len(p.pending)
	arms := 0
	for {
		start := p.start
		p.next()
		test := p.namedExpr()
		body := p.suite()
		p.push(start)
		p.push(test)
		p.push(body)
		arms++
		if p.tok != tElif {
			break
		}
	}
	p.chain(arms)
	els := p.elseOpt()
	for {
		n := len(p.pending) - 3
		start, test, body := p.pending[n], p.pending[n+1], p.pending[n+2]
		p.pending = p.pending[:n]
		id := p.node(If, start, test, body, els)
		p.endAtLast(id, body, els)
		if n == m {
			return id
		}
		els = p.listOf(id)
	}
}

func (p *parser) forStmt(start uint32, k Kind) uint32 {
	p.next()
	target := p.targets()
	p.expect(tIn, "'in'")
	iter := p.starExprs()
	body := p.suite()
	els := p.elseOpt()
	id := p.node(k, start, target, iter, body)
	p.nodes[id].D = els
	p.endAtLast(id, body, els)
	return id
}

// withStmt parses with. Whether a bracket holds the items or belongs to the
// first one shows only at its end.
func (p *parser) withStmt(start uint32, k Kind) uint32 {
	p.next()
	m := len(p.pending)
	paren := false
	if p.tok == tLPar {
		paren = p.try(func() bool {
			p.next()
			for p.tok != tRPar {
				p.withItem()
				if !p.accept(tComma) {
					break
				}
			}
			if p.tok != tRPar || len(p.pending) == m {
				return false
			}
			p.next()
			return p.tok == tColon
		})
	}
	if !paren {
		for {
			p.withItem()
			if !p.accept(tComma) {
				break
			}
		}
	}
	items := p.list(m)
	body := p.suite()
	return p.endAt(p.node(k, start, items, body, 0), body)
}

func (p *parser) withItem() {
	start := p.start
	e := p.expr()
	var v uint32
	if p.accept(tAs) {
		v = p.starTarget()
	}
	p.push(p.node(WithItem, start, e, v, 0))
}

func (p *parser) tryStmt() uint32 {
	start := p.start
	p.next()
	body := p.suite()
	k := Try
	m := len(p.pending)
	for p.tok == tExcept {
		hs := p.start
		p.next()
		if p.tok == tStar {
			p.next()
			k = TryStar
		}
		var typ, name uint32
		if p.tok != tColon {
			ts := p.start
			typ = p.expr()
			if p.tok == tComma { // PEP 758
				mm := len(p.pending)
				p.push(typ)
				for p.accept(tComma) {
					if p.tok == tColon {
						break
					}
					p.push(p.expr())
				}
				l := p.list(mm)
				typ = p.node(Tuple, ts, l, 0, 0)
			}
			if p.accept(tAs) {
				name = p.name()
			}
		}
		hb := p.suite()
		p.push(p.endAt(p.node(ExceptHandler, hs, typ, name, hb), hb))
	}
	handlers := p.list(m)
	els := p.elseOpt()
	var final uint32
	if p.tok == tFinally {
		p.next()
		final = p.suite()
	}
	if handlers == 0 && final == 0 {
		p.note(p.start, "expected except or finally")
	}
	id := p.node(k, start, body, handlers, els)
	p.nodes[id].D = final
	p.endAtLast(id, body, handlers, els, final)
	return id
}

func (p *parser) name() uint32 {
	if p.tok != tName {
		p.fail("expected a name")
	}
	s := p.sym
	p.next()
	return s
}

func (p *parser) funcDef(start, decs uint32, k Kind) uint32 {
	p.next()
	name := p.name()
	tps := p.typeParams()
	p.expect(tLPar, "'('")
	args := p.params(tRPar, true)
	p.expect(tRPar, "')'")
	var ret uint32
	if p.accept(tArrow) {
		ret = p.starExprs()
	}
	body := p.suite()
	id := p.node(k, start, name, args, body)
	if decs|ret|tps != 0 {
		p.nodes[id].D = p.listOf(decs, ret, tps)
	}
	return p.endAt(id, body)
}

func (p *parser) classDef(decs uint32) uint32 {
	start := p.start
	p.next()
	name := p.name()
	tps := p.typeParams()
	var args uint32
	if p.tok == tLPar {
		p.next()
		args = p.callArgs()
		p.expect(tRPar, "')'")
	}
	body := p.suite()
	id := p.node(ClassDef, start, name, args, body)
	if decs|tps != 0 {
		p.nodes[id].D = p.listOf(decs, 0, tps)
	}
	return p.endAt(id, body)
}

func (p *parser) typeParams() uint32 {
	if p.tok != tLBrk {
		return 0
	}
	p.next()
	m := len(p.pending)
	for p.tok != tRBrk {
		start, k := p.start, TypeVar
		if p.tok == tStar {
			k = TypeVarTuple
			p.next()
		} else if p.tok == tPower {
			k = ParamSpec
			p.next()
		}
		n := p.name()
		var bound, def uint32
		if p.accept(tColon) {
			bound = p.expr()
		}
		if p.accept(tAssign) {
			if k == TypeVarTuple && p.tok == tStar {
				def = p.starExpr()
			} else {
				def = p.expr()
			}
		}
		p.push(p.node(k, start, n, bound, def))
		if !p.accept(tComma) {
			break
		}
	}
	p.expect(tRBrk, "']'")
	return p.list(m)
}

// params parses a parameter list up to (not including) close.
func (p *parser) params(close tok, annot bool) uint32 {
	start := p.start
	m := len(p.pending)
	kind := uint8(ArgNormal)
	for p.tok != close {
		switch p.tok {
		case tSlash:
			p.next()
			for _, a := range p.pending[m:] {
				p.nodes[a].Op = ArgPosOnly
			}
		case tStar:
			p.next()
			kind = ArgKwOnly
			if p.tok != tComma {
				p.param(ArgVar, annot)
			}
		case tPower:
			p.next()
			p.param(ArgKw, annot)
		default:
			p.param(kind, annot)
		}
		if !p.accept(tComma) {
			break
		}
	}
	if len(p.pending) == m {
		return 0
	}
	l := p.list(m)
	return p.node(Arguments, start, l, 0, 0)
}

func (p *parser) param(kind uint8, annot bool) {
	start := p.start
	n := p.name()
	var ann, def uint32
	if annot && p.accept(tColon) {
		if kind == ArgVar {
			ann = p.starExpr()
		} else {
			ann = p.expr()
		}
	}
	end := p.prevEnd
	if p.accept(tAssign) {
		def = p.expr()
	}
	id := p.node(Arg, start, n, ann, def)
	p.nodes[id].Op = kind
	p.nodes[id].End = end
	p.push(id)
}

// simple parses one simple statement.
func (p *parser) simple() uint32 {
	start := p.start
	switch p.tok {
	case tPass:
		p.next()
		return p.node(Pass, start, 0, 0, 0)
	case tBreak:
		p.next()
		return p.node(Break, start, 0, 0, 0)
	case tContinue:
		p.next()
		return p.node(Continue, start, 0, 0, 0)
	case tReturn:
		p.next()
		var v uint32
		if p.tok != tNewline && p.tok != tSemi && p.tok != tEOF {
			v = p.starExprs()
		}
		return p.node(Return, start, v, 0, 0)
	case tRaise:
		p.next()
		var e, c uint32
		if p.tok != tNewline && p.tok != tSemi && p.tok != tEOF {
			e = p.expr()
			if p.accept(tFrom) {
				c = p.expr()
			}
		}
		return p.node(Raise, start, e, c, 0)
	case tGlobal, tNonlocal:
		k := Global
		if p.tok == tNonlocal {
			k = Nonlocal
		}
		p.next()
		m := len(p.pending)
		for {
			p.push(p.name())
			if !p.accept(tComma) {
				break
			}
		}
		l := p.list(m)
		return p.node(k, start, l, 0, 0)
	case tDel:
		p.next()
		m := len(p.pending)
		for p.tok != tNewline && p.tok != tSemi && p.tok != tEOF {
			p.push(p.bin(0))
			if !p.accept(tComma) {
				break
			}
		}
		l := p.list(m)
		return p.node(Delete, start, l, 0, 0)
	case tAssert:
		p.next()
		t := p.expr()
		var msg uint32
		if p.accept(tComma) {
			msg = p.expr()
		}
		return p.node(Assert, start, t, msg, 0)
	case tImport, tFrom:
		return p.importStmt(start, 0)
	case tName:
		switch p.sym {
		case symType:
			if id := p.typeAlias(); id != 0 {
				return id
			}
		case symLazy:
			s := p.save()
			p.next()
			if p.tok == tImport || p.tok == tFrom {
				return p.importStmt(start, FLazy)
			}
			p.restore(s)
		}
	}
	return p.exprStmt(start)
}

// typeAlias parses a type statement, or returns 0 if type is a name here.
func (p *parser) typeAlias() uint32 {
	s := p.save()
	start := p.start
	p.next()
	if p.tok != tName {
		p.restore(s)
		return 0
	}
	ns := p.start
	n := p.name()
	nm := p.node(Name, ns, n, 0, 0)
	tps := p.typeParams()
	p.expect(tAssign, "'='")
	v := p.expr()
	return p.node(TypeAlias, start, nm, tps, v)
}

// dotted parses a.b.c and returns its symbol.
func (p *parser) dotted() uint32 {
	s := p.name()
	if p.tok != tDot {
		return s
	}
	name := []byte(p.names.strs[s])
	for p.accept(tDot) {
		name = append(append(name, '.'), p.names.strs[p.name()]...)
	}
	return p.names.intern(string(name))
}

func (p *parser) importStmt(start uint32, flags uint16) uint32 {
	from := p.tok == tFrom
	p.next()
	m := len(p.pending)
	if !from {
		for {
			s := p.start
			n := p.dotted()
			var as uint32
			if p.accept(tAs) {
				as = p.name()
			}
			p.push(p.node(Alias, s, n, as, 0))
			if !p.accept(tComma) {
				break
			}
		}
		l := p.list(m)
		id := p.node(Import, start, l, 0, 0)
		p.nodes[id].Flags = flags
		return id
	}
	var level, mod uint32
	for p.tok == tDot || p.tok == tEllipsis {
		if p.tok == tDot {
			level++
		} else {
			level += 3
		}
		p.next()
	}
	if p.tok != tImport {
		mod = p.dotted()
	}
	p.expect(tImport, "'import'")
	if p.tok == tStar {
		s := p.start
		p.next()
		p.push(p.node(Alias, s, p.names.intern("*"), 0, 0))
	} else {
		paren := p.accept(tLPar)
		for p.tok == tName {
			s := p.start
			n := p.name()
			var as uint32
			if p.accept(tAs) {
				as = p.name()
			}
			p.push(p.node(Alias, s, n, as, 0))
			if !p.accept(tComma) {
				break
			}
		}
		if paren {
			p.expect(tRPar, "')'")
		}
		if len(p.pending) == m {
			p.fail("expected names to import")
		}
	}
	l := p.list(m)
	id := p.node(ImportFrom, start, mod, l, level)
	p.nodes[id].Flags = flags
	return id
}

func (p *parser) exprStmt(start uint32) uint32 {
	var e uint32
	if p.tok == tYield {
		e = p.yield()
	} else {
		e = p.starExprs()
	}
	switch {
	case p.tok == tAssign:
		m := len(p.pending)
		for p.tok == tAssign {
			p.target(e)
			p.push(e)
			p.next()
			if p.tok == tYield {
				e = p.yield()
			} else {
				e = p.starExprs()
			}
		}
		l := p.list(m)
		return p.node(Assign, start, l, e, 0)
	case p.tok == tColon:
		n := &p.nodes[e]
		if n.Kind != Name && n.Kind != Attribute && n.Kind != Subscript {
			p.fail("illegal target for annotation")
		}
		p.next()
		ann := p.expr()
		var v uint32
		if p.accept(tAssign) {
			if p.tok == tYield {
				v = p.yield()
			} else {
				v = p.starExprs()
			}
		}
		return p.node(AnnAssign, start, e, ann, v)
	case p.tok >= tAugBase && p.tok < tAugBase+16:
		op := uint8(p.tok - tAugBase)
		p.target(e)
		p.next()
		var v uint32
		if p.tok == tYield {
			v = p.yield()
		} else {
			v = p.starExprs()
		}
		id := p.node(AugAssign, start, e, v, 0)
		p.nodes[id].Op = op
		return id
	}
	return p.node(ExprStmt, start, e, 0, 0)
}

// target gives up if e cannot be assigned to.
func (p *parser) target(e uint32) {
	switch p.nodes[e].Kind {
	case Name, Attribute, Subscript, Starred, List, Tuple:
	default:
		p.fail("cannot assign to this expression")
	}
}
