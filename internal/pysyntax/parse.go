package pysyntax

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"unicode/utf8"
)

// Limits on what a hostile file can make Dewar build (CWE-674, CWE-770).
const (
	// MaxDepth is the greatest number of nodes on a way from the root of a
	// tree to a leaf: a recursive function over a tree needs no guard. What
	// lies deeper is replaced by a node of kind [Bad] and noted in
	// File.Errors. CPython itself cannot compile such files.
	MaxDepth = 10_000
	// maxNest bounds brackets, blocks and operators inside each other.
	maxNest = 1500
	// maxErrors is how many errors a File keeps.
	maxErrors = 100
	// maxBacktrack is how many bytes are read twice after strings without an
	// end, beyond a multiple of the length of the file.
	maxBacktrack = 1 << 16
	// maxIndents is how many blocks deep a file may be indented, as in CPython.
	maxIndents = 100
	// maxSource is the longest source that is parsed, in bytes.
	maxSource = 1 << 30
)

// Parse parses one module. It never panics and always returns a File with a
// Module: statements that are not Python become nodes of kind [ErrorStmt],
// and File.Errors says what was wrong. src is not changed and not kept.
func Parse(path string, src []byte) *File { return NewParser().Parse(path, src) }

// Parser parses one file after the other faster than [Parse], because it
// keeps its buffers and its table of names. It belongs to one goroutine at a
// time; the Files it returns are independent of it.
type Parser struct{ p parser }

// NewParser returns a Parser.
func NewParser() *Parser {
	q := &Parser{}
	q.p.names = newInterner()
	return q
}

// Parse is as the function [Parse].
func (q *Parser) Parse(path string, src []byte) *File {
	p := &q.p
	var problems []problem
	if len(src) > maxSource {
		src = nil
		problems = []problem{{0, "the file is too long to be parsed"}}
	}
	text, more := decode(src)
	problems = append(problems, more...)
	binary := false
	if i := bytes.IndexByte(text, 0); i >= 0 {
		problems = append(problems, problem{uint32(i), "source code cannot contain NUL bytes"})
		binary = bytes.Count(text, []byte{0}) > len(text)/100
	}

	// The scanner looks up to three bytes ahead of the end without asking.
	const pad = 4
	buf := make([]byte, len(text)+pad)
	copy(buf, text)
	n := uint32(len(text))
	p.lexer = lexer{src: buf, eof: n, lineFrom: 1, colonDepth: -1, bol: true, names: p.names, indents: append(p.indents[:0], 0)}
	if bytes.HasPrefix(text, []byte(bom)) {
		p.pos = uint32(len(bom))
	}
	p.nodes = append(p.nodes[:0], Node{})
	p.lists = append(p.lists[:0], 0)
	p.pending, p.problems = p.pending[:0], problems
	p.nest, p.deepest, p.longest = 0, 0, 0
	p.backtracked, p.lastSemi = 0, 0

	var body uint32
	if binary {
		body = p.listOf(p.add(Node{Kind: ErrorStmt, End: n}))
	} else {
		p.next()
		body = p.module()
	}
	if p.strange > 0 {
		r, _ := utf8.DecodeRune(buf[p.strange:])
		p.problems = append(p.problems, problem{p.strange, fmt.Sprintf("invalid character %q (%U)", r, r)})
	}
	root := p.add(Node{Kind: Module, End: n, A: body})

	f := &File{Path: path, Src: buf[:n:n], Root: root, Syms: p.names.symbols(), ascii: isASCII(buf[:n])}
	f.Nodes = append(make([]Node, 0, len(p.nodes)), p.nodes...)
	f.Lists = append(make([]uint32, 0, len(p.lists)), p.lists...)
	if p.deepest*(24+8*p.longest) > MaxDepth {
		p.problems = append(p.problems, f.limitDepth()...)
	}
	f.setErrors(p.problems)
	p.problems = nil
	return f
}

func isASCII(b []byte) bool {
	for len(b) >= 8 {
		if (b[0]|b[1]|b[2]|b[3]|b[4]|b[5]|b[6]|b[7])&0x80 != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// setErrors sorts the problems and gives them lines and columns.
func (f *File) setErrors(problems []problem) {
	if len(problems) == 0 {
		return
	}
	sort.SliceStable(problems, func(i, j int) bool { return problems[i].pos < problems[j].pos })
	problems = problems[:min(len(problems), maxErrors)]
	f.Errors = make([]SyntaxError, len(problems))
	for i, e := range problems {
		e.pos = min(e.pos, uint32(len(f.Src)))
		line, col := f.Position(e.pos)
		f.Errors[i] = SyntaxError{Pos: e.pos, Line: line, Col: col, Msg: e.msg}
	}
}

// parser is a recursive descent over the tokens. An error unwinds by panic to
// the statement it is in; see stmt.
type parser struct {
	lexer
	nodes    []Node
	lists    []uint32
	pending  []uint32 // elements of lists that are not complete, as a stack
	problems []problem

	lastSemi uint32 // end of the last semicolon that ended a line

	nest    int // how deep we are in brackets, blocks and operators
	deepest int // greatest value of nest in this file
	longest int // longest chain of nodes that nest does not count, as a.b.c
	// backtracked counts the bytes that were scanned again after errors.
	backtracked int
}

// unwind is what an error panics with.
type unwind struct{}

func (p *parser) add(n Node) uint32 {
	p.nodes = append(p.nodes, n)
	return uint32(len(p.nodes) - 1)
}

func (p *parser) node(k Kind, start, a, b, c uint32) uint32 {
	p.nodes = append(p.nodes, Node{Kind: k, Start: start, End: p.prevEnd, A: a, B: b, C: c})
	return uint32(len(p.nodes) - 1)
}

func (p *parser) list(mark int) uint32 {
	n := len(p.pending) - mark
	if n == 0 {
		return 0
	}
	id := uint32(len(p.lists))
	p.lists = append(p.lists, uint32(n))
	p.lists = append(p.lists, p.pending[mark:]...)
	p.pending = p.pending[:mark]
	return id
}

func (p *parser) push(x uint32) { p.pending = append(p.pending, x) }

func (p *parser) listOf(xs ...uint32) uint32 {
	id := uint32(len(p.lists))
	p.lists = append(p.lists, uint32(len(xs)))
	p.lists = append(p.lists, xs...)
	return id
}

// note records an error and goes on.
func (p *parser) note(pos uint32, msg string) {
	if len(p.problems) <= maxErrors {
		p.problems = append(p.problems, problem{pos, msg})
	}
}

// fail records an error and gives the statement up.
func (p *parser) fail(msg string) {
	p.note(p.start, msg)
	panic(unwind{})
}

func (p *parser) expect(t tok, what string) {
	if p.tok != t {
		p.fail("expected " + what)
	}
	p.next()
}

func (p *parser) accept(t tok) bool {
	if p.tok == t {
		p.next()
		return true
	}
	return false
}

// enter and leave count nesting; enter gives up when there is too much. After
// an error the counter is reset where the error is caught.
func (p *parser) enter() {
	p.nest++
	p.deepest = max(p.deepest, p.nest)
	if p.nest > maxNest {
		p.fail("too deeply nested")
	}
}

func (p *parser) leave() { p.nest-- }

// chain notes that a chain of nodes has become n long.
func (p *parser) chain(n int) { p.longest = max(p.longest, n) }

// snapshot is a place in the source to which the parser can return.
type snapshot struct {
	lexer                           lexer
	nodes, lists, pending, problems int
}

func (p *parser) save() snapshot {
	return snapshot{p.lexer, len(p.nodes), len(p.lists), len(p.pending), len(p.problems)}
}

// restore returns to a snapshot. Speculation never crosses a change of
// indentation, so the stack of indentations needs no copy.
func (p *parser) restore(s snapshot) {
	p.lexer = s.lexer
	p.nodes, p.lists, p.pending, p.problems = p.nodes[:s.nodes], p.lists[:s.lists], p.pending[:s.pending], p.problems[:s.problems]
}

// try calls f and returns to where it was if f fails or returns false.
func (p *parser) try(f func() bool) (ok bool) {
	s, nest := p.save(), p.nest
	defer func() {
		p.nest = nest
		if r := recover(); r != nil {
			if _, is := r.(unwind); !is {
				panic(r)
			}
			ok = false
		}
		if !ok {
			p.restore(s)
		}
	}()
	return f()
}

// Blocks and statements.

func (p *parser) module() uint32 {
	m := len(p.pending)
	for p.tok != tEOF {
		if p.tok == tDedent {
			p.next()
			continue
		}
		p.blockItem()
	}
	return p.list(m)
}

// blockItem parses what comes next in a block.
func (p *parser) blockItem() {
	switch p.tok {
	case tNewline:
		p.next()
	case tIndent:
		p.stray()
	default:
		p.stmt()
	}
}

// stray parses a block whose header was not understood into the block around
// it. The scanner's limit on indentations bounds the recursion.
func (p *parser) stray() {
	const near = 400 // bytes within which an earlier error explains this one
	if n := len(p.problems); n == 0 || p.problems[n-1].pos+near < p.start {
		p.note(p.start, "unexpected indent")
	}
	p.next()
	for p.tok != tDedent && p.tok != tEOF {
		p.blockItem()
	}
	if p.tok == tDedent {
		p.next()
	}
}

// stmt parses one line of statements or one compound statement and pushes
// its nodes. After a syntax error it pushes an ErrorStmt, saves what was
// complete, and goes on with the next line.
func (p *parser) stmt() {
	mark, first, start, nest := len(p.pending), len(p.nodes), p.start, p.nest
	p.enter()
	ok := p.safeStmt()
	p.nest = nest
	if ok {
		return
	}
	p.pending = p.pending[:mark]
	last := len(p.nodes)
	p.sync(start)
	bad := p.add(Node{Kind: ErrorStmt, Start: start, End: max(p.end, start)})
	p.push(bad)
	p.salvage(first, last, bad)
}

// salvage pushes the outermost complete statements among the nodes first to
// last, such as the body of an if whose else is broken.
func (p *parser) salvage(first, last int, bad uint32) {
	m := len(p.pending)
	low := p.nodes[bad].End
	for i := last - 1; i >= first; i-- {
		// A statement is made after everything in it, so going backwards
		// the outermost comes first.
		if n := &p.nodes[i]; n.Kind.IsStatement() && n.Kind != ErrorStmt && n.End <= low {
			p.push(uint32(i))
			low = n.Start
		}
	}
	if len(p.pending) > m {
		slices.Reverse(p.pending[m:])
		p.nodes[bad].End = low
	}
}

func (p *parser) safeStmt() (ok bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, is := r.(unwind); !is {
				panic(r)
			}
			ok = false
		}
	}()
	p.statement()
	return true
}

// sync skips to the beginning of a line that may be a statement, after an
// error in the statement that begins at start.
func (p *parser) sync(start uint32) {
	p.colonDepth = -1
	if p.depth == 0 {
		for p.tok != tNewline && p.tok != tEOF && p.tok != tIndent && p.tok != tDedent {
			p.next()
			if p.depth > 0 {
				break
			}
		}
		if p.tok == tNewline {
			p.next()
			return
		}
		if p.depth == 0 {
			return
		}
	}
	// Within brackets lines do not count. Take the next one that looks like
	// a statement, or is not indented deeper than the block.
	p.depth = 0
	pos := p.start
	if p.tok == tErr && pos > start && p.backtracked <= maxBacktrack+16*len(p.src) {
		pos = start // a string without an end has swallowed the lines
		p.backtracked += int(p.start - start)
	}
	limit := p.indents[len(p.indents)-1]
	for {
		pos = p.nextLine(pos)
		if pos >= p.eof {
			pos = p.eof
			break
		}
		q, col := pos, int32(0)
		for p.src[q] == ' ' || p.src[q] == '\t' {
			if p.src[q] == '\t' {
				col = col/8*8 + 8
			} else {
				col++
			}
			q++
		}
		switch p.src[q] {
		case '\n', '\r', '#', ')', ']', '}', ',':
			continue
		}
		if col <= limit || beginsStatement(p.src[q:]) {
			break
		}
	}
	p.pos = pos
	p.bol = true
	p.tok = tNewline
	p.next()
}

func beginsStatement(b []byte) bool {
	for _, w := range [...]string{"def ", "class ", "return ", "import ", "from ", "if ", "for ", "while ", "with ", "try:", "@", "async def", "raise ", "elif ", "else:", "except"} {
		if bytes.HasPrefix(b, []byte(w)) {
			return true
		}
	}
	return false
}

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
		if p.tok == tNewline {
			p.next()
			continue
		}
		if p.tok == tIndent {
			p.stray()
			continue
		}
		p.stmt()
	}
	if p.tok == tDedent {
		p.next()
	}
	return p.list(m)
}

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

func (p *parser) ifStmt() uint32 {
	start := p.start
	p.next()
	test := p.namedExpr()
	body := p.suite()
	var els uint32
	if p.tok == tElif {
		m := len(p.pending)
		p.push(p.ifStmt())
		els = p.list(m)
	} else {
		els = p.elseOpt()
	}
	id := p.node(If, start, test, body, els)
	p.endAtLast(id, body, els)
	return id
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

func (p *parser) target(e uint32) {
	switch p.nodes[e].Kind {
	case Name, Attribute, Subscript, Starred, List, Tuple:
	default:
		p.fail("cannot assign to this expression")
	}
}
