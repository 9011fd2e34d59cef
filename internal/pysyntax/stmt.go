package pysyntax

import "bytes"

// suite parses a colon and a block, and returns the list of its statements.
func (p *parser) suite() uint32 {
	p.expect(tColon, "':'")
	return p.afterColon()
}

func (p *parser) afterColon() uint32 {
	if p.tok != tNewline {
		m := len(p.pending)
		p.simpleLine()
		return p.list(m)
	}
	p.next()
	if p.tok != tIndent {
		p.note(p.start, "expected an indented block")
		return 0
	}
	return p.block()
}

// block parses an indented block.
func (p *parser) block() uint32 {
	m := len(p.pending)
	p.next()
	for p.tok != tDedent && p.tok != tEOF {
		p.blockItem()
	}
	if p.tok == tDedent {
		p.next()
	}
	return p.list(m)
}

// headed parses the line of a compound statement, with f up to its colon, and
// its block. When the line has an error but a block follows, the block is
// parsed as what it is, and bad is a [Bad] node for the line: the statement
// keeps its decorators, its body, and the arms behind it.
func (p *parser) headed(f func()) (body, bad uint32) {
	if bad = p.header(f); bad == 0 {
		return p.afterColon(), 0
	}
	return p.block(), bad
}

// header parses a line with f, and its colon. After an error it goes on to the
// block that follows and returns a node for the line; without a block the
// statement is given up.
func (p *parser) header(f func()) (bad uint32) {
	start, mark, nest := p.start, len(p.pending), p.nest
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		if _, is := r.(unwind); !is {
			panic(r)
		}
		p.pending, p.nest = p.pending[:mark], nest
		end, ok := p.toBlock(start)
		if !ok {
			panic(r)
		}
		bad = p.add(Node{Kind: Bad, Start: start, End: p.trim(start, end)})
	}()
	f()
	p.expect(tColon, "':'")
	return 0
}

// toBlock goes on, after an error in the line of a compound statement, to the
// indented block that follows it; ok is false, and nothing is read, if there
// is none within reach.
func (p *parser) toBlock(start uint32) (end uint32, ok bool) {
	const reach = 20 // lines that a header may have behind its error
	if p.failures >= maxFailures || p.tok == tEOF {
		return 0, false
	}
	limit := p.indents[len(p.indents)-1]
	line, at := p.start, p.start
	if p.depth > 0 {
		line = start // the bracket that was left open may have swallowed the block
	}
	for range reach {
		next := p.nextLine(line)
		col, blank := p.indentOf(next)
		for blank && next < p.eof {
			next = p.nextLine(next)
			col, blank = p.indentOf(next)
		}
		if next >= p.eof {
			return 0, false
		}
		if text := withoutComment(p.src[line:next]); col > limit && (p.depth == 0 || ends(text, ":") || p.lineOf(at) == next && !ends(text, ",([{\\")) {
			p.failures++
			p.depth, p.colonDepth = 0, -1
			p.pos, p.end = next, next
			p.bol = true
			p.tok = tNewline
			p.next()
			return line + uint32(len(text)), p.tok == tIndent
		}
		if p.depth == 0 || col <= limit && !closes(p.src[next:]) {
			return 0, false
		}
		line = next
	}
	return 0, false
}

// lineOf returns where the line of a place begins.
func (p *parser) lineOf(pos uint32) uint32 {
	return uint32(bytes.LastIndexAny(p.src[:pos], "\r\n") + 1)
}

// ends reports whether a line ends in one of the characters.
func ends(line []byte, chars string) bool {
	return len(line) > 0 && bytes.IndexByte([]byte(chars), line[len(line)-1]) >= 0
}

// closes reports whether a line goes on with what brackets hold.
func closes(line []byte) bool {
	line = bytes.TrimLeft(line, " \t\f")
	return len(line) > 0 && (line[0] == ')' || line[0] == ']' || line[0] == '}')
}

// withoutComment returns a line without the comment and blanks at its end. A
// "#" in a string may be taken for one.
func withoutComment(line []byte) []byte {
	if i := bytes.IndexByte(line, '#'); i >= 0 {
		line = line[:i]
	}
	return bytes.TrimRight(line, " \t\f\r\n")
}

// indentOf returns the column in which a line begins, and whether it is blank.
func (p *parser) indentOf(pos uint32) (col int32, blank bool) {
	for ; pos < p.eof; pos++ {
		switch p.src[pos] {
		case ' ':
			col++
		case '\t':
			col = col/8*8 + 8
		case '\f':
			col = 0
		case '\n', '\r', '#':
			return col, true
		default:
			return col, false
		}
	}
	return col, true
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
		var test uint32
		body, bad := p.headed(func() {
			p.next()
			test = p.namedExpr()
		})
		if bad != 0 {
			test = bad
		}
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
			p.decorator()
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

// decorator parses the line of one decorator and pushes it. After an error it
// pushes a [Bad] node if the next line is a decorator or what is decorated.
func (p *parser) decorator() {
	start, mark, nest := p.start, len(p.pending), p.nest
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		if _, is := r.(unwind); !is {
			panic(r)
		}
		p.pending, p.nest = p.pending[:mark], nest
		from := p.start
		if p.depth > 0 {
			from = start
		}
		next := p.nextLine(from)
		col, blank := p.indentOf(next)
		if blank || p.failures >= maxFailures || p.start >= p.eof || col != p.indents[len(p.indents)-1] || !decorates(p.src[next:]) {
			panic(r)
		}
		p.failures++
		p.depth, p.colonDepth = 0, -1
		p.pos, p.end = next, next
		p.bol = true
		p.tok = tNewline
		p.next()
		p.push(p.add(Node{Kind: Bad, Start: start, End: p.trim(start, next)}))
	}()
	p.next()
	p.push(p.namedExpr())
	p.expect(tNewline, "newline after decorator")
}

// decorates reports whether a line is a decorator or can have one.
func decorates(line []byte) bool {
	line = bytes.TrimLeft(line, " \t\f")
	for _, w := range [...]string{"@", "def ", "class ", "async "} {
		if bytes.HasPrefix(line, []byte(w)) {
			return true
		}
	}
	return false
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
		body, _ := p.headed(p.next)
		return body
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
		var test uint32
		body, bad := p.headed(func() {
			p.next()
			test = p.namedExpr()
		})
		if bad != 0 {
			test = bad
		}
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
	var target, iter uint32
	body, bad := p.headed(func() {
		p.next()
		target = p.targets()
		p.expect(tIn, "'in'")
		iter = p.starExprs()
	})
	if bad != 0 {
		if target == 0 {
			target = bad
		}
		iter = bad
	}
	els := p.elseOpt()
	id := p.node(k, start, target, iter, body)
	p.nodes[id].D = els
	p.endAtLast(id, body, els)
	return id
}

// withStmt parses with. Whether a bracket holds the items or belongs to the
// first one shows only at its end.
func (p *parser) withStmt(start uint32, k Kind) uint32 {
	var items uint32
	body, _ := p.headed(func() { items = p.withItems() })
	return p.endAt(p.node(k, start, items, body, 0), body)
}

func (p *parser) withItems() uint32 {
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
	return p.list(m)
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
	body, _ := p.headed(p.next)
	k := Try
	m := len(p.pending)
	for p.tok == tExcept {
		hs := p.start
		var typ, name uint32
		first := len(p.pending) == m
		hb, bad := p.headed(func() {
			p.next()
			star := p.tok == tStar
			if !first && star != (k == TryStar) {
				p.note(hs, "cannot have both except and except* on the same try")
			}
			if star {
				p.next()
				k = TryStar
			}
			if star && p.tok == tColon {
				p.note(p.start, "expected one or more exception types")
			}
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
					if p.tok == tAs {
						p.note(ts, "several exception types must be in parentheses when as follows")
					}
				}
				if p.accept(tAs) {
					name = p.name()
				}
			}
		})
		if bad != 0 {
			typ, name = bad, 0
		}
		p.push(p.endAt(p.node(ExceptHandler, hs, typ, name, hb), hb))
	}
	handlers := p.list(m)
	if handlers == 0 && p.tok == tElse {
		p.note(p.start, "expected except or finally")
	}
	els := p.elseOpt()
	var final uint32
	if p.tok == tFinally {
		final, _ = p.headed(p.next)
	}
	if handlers == 0 && final == 0 && els == 0 {
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
	var name, tps, args, ret uint32
	body, _ := p.headed(func() {
		p.next()
		name = p.name()
		tps = p.typeParams()
		p.expect(tLPar, "'('")
		args = p.params(tRPar, true)
		p.expect(tRPar, "')'")
		if p.accept(tArrow) {
			ret = p.starExprs()
		}
	})
	id := p.node(k, start, name, args, body)
	if decs|ret|tps != 0 {
		p.nodes[id].D = p.listOf(decs, ret, tps)
	}
	return p.endAt(id, body)
}

func (p *parser) classDef(decs uint32) uint32 {
	start := p.start
	var name, tps, args uint32
	body, _ := p.headed(func() {
		p.next()
		name = p.name()
		tps = p.typeParams()
		if p.tok != tLPar {
			return
		}
		p.next()
		args = p.callArgs()
		if args != 0 {
			if g := &p.nodes[p.lists[args+1]]; g.Kind == GeneratorExp && g.Flags&FParen == 0 {
				p.note(g.Start, "a generator expression is no base class")
			}
		}
		p.expect(tRPar, "')'")
	})
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
	slash, defaults, bare := false, false, false
	for p.tok != close {
		at := p.start
		if n := len(p.pending); n > m && p.nodes[p.pending[n-1]].Op == ArgKw {
			p.note(at, "no parameter can follow **")
		}
		switch p.tok {
		case tSlash:
			switch {
			case slash:
				p.note(at, "/ may appear only once")
			case kind == ArgKwOnly:
				p.note(at, "/ must be ahead of *")
			case len(p.pending) == m:
				p.note(at, "at least one parameter must precede /")
			}
			p.next()
			slash = true
			for _, a := range p.pending[m:] {
				if p.nodes[a].Op == ArgNormal {
					p.nodes[a].Op = ArgPosOnly
				}
			}
		case tStar:
			p.next()
			if kind == ArgKwOnly {
				p.note(at, "* may appear only once")
			}
			kind = ArgKwOnly
			if bare = p.tok == tComma; !bare {
				if p.param(ArgVar, annot) {
					p.note(at, "* cannot have a default value")
				}
			}
		case tPower:
			p.next()
			if bare {
				p.note(at, "a named parameter must follow *")
			}
			bare = false
			if p.param(ArgKw, annot) {
				p.note(at, "** cannot have a default value")
			}
		default:
			bare = false
			if p.param(kind, annot) {
				defaults = true
			} else if defaults && kind == ArgNormal {
				p.note(at, "a parameter without default follows one with a default")
			}
		}
		if !p.accept(tComma) {
			break
		}
	}
	if bare {
		p.note(p.start, "a named parameter must follow *")
	}
	if len(p.pending) == m {
		return 0
	}
	l := p.list(m)
	return p.node(Arguments, start, l, 0, 0)
}

// param parses one parameter, pushes it and reports whether it has a default.
func (p *parser) param(kind uint8, annot bool) bool {
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
	return def != 0
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
			e := p.bin(0)
			if bad := p.badTarget(e, false); bad != 0 {
				p.note(p.nodes[bad].Start, "cannot delete this expression")
			}
			p.push(e)
			if !p.accept(tComma) {
				break
			}
		}
		if len(p.pending) == m {
			p.fail(invalidSyntax)
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
	} else if level == 0 {
		p.note(p.start, "expected the name of a module")
	}
	p.expect(tImport, "'import'")
	if p.tok == tStar {
		s := p.start
		p.next()
		p.push(p.node(Alias, s, p.names.intern("*"), 0, 0))
	} else {
		paren := p.accept(tLPar)
		comma := false
		for ; p.tok == tName; comma = true {
			s := p.start
			n := p.name()
			var as uint32
			if p.accept(tAs) {
				as = p.name()
			}
			p.push(p.node(Alias, s, n, as, 0))
			if comma = false; !p.accept(tComma) {
				break
			}
		}
		if paren {
			p.expect(tRPar, "')'")
		} else if comma {
			p.note(p.start, "a comma at the end needs parentheses")
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
		switch p.nodes[e].Kind {
		case Name, Attribute, Subscript:
		case Tuple, List:
			p.note(start, "cannot assign to several targets here")
		default:
			p.fail("cannot assign to this expression")
		}
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
	switch bad := p.badTarget(e, true); bad {
	case 0:
	case e:
		p.fail("cannot assign to this expression")
	default:
		p.note(p.nodes[bad].Start, "cannot assign to this expression")
	}
}

// badTarget returns what in e cannot be assigned to, or 0. Brackets bound
// the recursion.
func (p *parser) badTarget(e uint32, star bool) uint32 {
	n := &p.nodes[e]
	switch n.Kind {
	case Name, Attribute, Subscript:
		return 0
	case Starred:
		if star && p.nodes[n.A].Kind != Starred {
			return p.badTarget(n.A, star)
		}
	case List, Tuple:
		if n.A == 0 {
			return 0
		}
		for _, x := range p.lists[n.A+1:][:p.lists[n.A]] {
			if bad := p.badTarget(x, star); bad != 0 {
				return bad
			}
		}
		return 0
	}
	return e
}
