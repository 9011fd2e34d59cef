package pysyntax

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"unicode/utf8"
)

// Limits on what a hostile file can make Dewar build (CWE-674, CWE-770).
const (
	// MaxDepth is the greatest number of nodes on a way from the root of a
	// tree to a leaf: a recursive function over a tree needs no guard. What
	// lies deeper is replaced by a node of kind [Bad] and noted in
	// File.Errors. CPython 3.11 to 3.13 refuse to compile a chain that long.
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
	// maxNames is how many names a Parser keeps for the next file.
	maxNames = 1 << 18
	// maxFailures is how many statements may fail before the rest of the file
	// is given up: it is no Python, and each failure costs microseconds.
	maxFailures = 20_000
	// maxSource is the longest source that is parsed, in bytes.
	maxSource = 128 << 20
)

// Parse parses one module. It never panics and always returns a File with a
// Module: statements that are not Python become nodes of kind [ErrorStmt],
// and File.Errors says what was wrong. src is not changed and not kept.
func Parse(path string, src []byte) *File {
	q := parsers.Get().(*Parser)
	f := q.Parse(path, src)
	parsers.Put(q)
	return f
}

var parsers = sync.Pool{New: func() any { return NewParser() }}

// Parser keeps its buffers and its table of names from one file to the next.
// It belongs to one goroutine at a time; the Files it returns are independent
// of it and of each other. [Parse] has a pool of them.
type Parser struct{ p parser }

// NewParser returns a Parser.
func NewParser() *Parser {
	return &Parser{}
}

const parserFailed = "the parser failed on this file: please report it"

// Parse is as the function [Parse].
func (q *Parser) Parse(path string, src []byte) (f *File) {
	defer func() {
		// The last line of defence: one file must not end an audit.
		if r := recover(); r != nil {
			q.p = parser{}
			f = failed(path)
		}
	}()
	return q.p.parse(path, src)
}

// failed returns a File for a source that could not be read at all.
func failed(path string) *File {
	return &File{
		Path: path, Root: 1, Nodes: []Node{{}, {Kind: Module}}, Lists: []uint32{0},
		Syms: Symbols{[]string{""}}, Errors: []SyntaxError{{Line: 1, Col: 1, Msg: parserFailed}},
	}
}

func (p *parser) parse(path string, src []byte) *File {
	if p.names == nil || len(p.names.strs) > maxNames {
		p.names = newInterner(p.shared)
	}
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
	p.lexer = lexer{src: buf, eof: n, lineFrom: 1, colonDepth: -1, bol: true, names: p.names, indents: append(p.indents[:0], 0), tabless: append(p.tabless[:0], 0), noted: p.noted[:0]}
	if bytes.HasPrefix(text, []byte(bom)) {
		p.pos = uint32(len(bom))
	}
	p.nodes = append(p.nodes[:0], Node{})
	p.lists = append(p.lists[:0], 0)
	p.pending, p.problems = p.pending[:0], problems
	p.nest, p.deepest, p.longest = 0, 0, 0
	p.backtracked, p.failures, p.lastSemi = 0, 0, 0

	var body uint32
	if binary {
		body = p.listOf(p.add(Node{Kind: ErrorStmt, End: n}))
	} else {
		p.next()
		body = p.module()
	}
	if p.strange > 0 {
		at := p.strange - 1
		r, _ := utf8.DecodeRune(buf[at:])
		p.problems = append(p.problems, problem{at, fmt.Sprintf("invalid character %q (%U)", r, r)})
	}
	p.problems = append(p.problems, p.noted...)
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
	if n := len(problems); n > maxErrors {
		problems = append(problems[:maxErrors-1], problems[n-1])
	}
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

	scratch []byte // of checkEscapes

	nest    int // how deep we are in brackets, blocks and operators
	deepest int // greatest value of nest in this file
	longest int // longest chain of nodes that nest does not count, as a.b.c
	// backtracked counts the bytes that were scanned again after errors.
	backtracked int
	failures    int // statements that failed
}

const invalidSyntax = "invalid syntax"

// unwind is what an error panics with.
type unwind struct{}

// add, node and list build the tree bottom-up: a node comes after all of its
// children, which limitDepth and salvage rely on.
func (p *parser) add(n Node) uint32 {
	p.nodes = append(p.nodes, n)
	return uint32(len(p.nodes) - 1)
}

// node makes a node that ends where the last token read ended.
func (p *parser) node(k Kind, start, a, b, c uint32) uint32 {
	p.nodes = append(p.nodes, Node{Kind: k, Start: start, End: p.prevEnd, A: a, B: b, C: c})
	return uint32(len(p.nodes) - 1)
}

// list makes a list of what is pending above mark.
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
	if p.tok == tErr && (msg == invalidSyntax || strings.HasPrefix(msg, "expected ")) {
		switch c := p.src[p.start]; {
		case p.start >= p.eof: // it has been said
		case c == '"' || c == '\'' || class[c] == cIdent:
			msg = "unterminated string literal"
		case c == '\\':
			msg = "unexpected character after line continuation character"
		default:
			msg = fmt.Sprintf("invalid character %q", c)
		}
	}
	p.note(p.start, msg)
	panic(unwind{})
}

// expect reads a token of kind t, or gives the statement up.
func (p *parser) expect(t tok, what string) {
	if p.tok != t {
		p.fail("expected " + what)
	}
	p.next()
}

// accept reads a token of kind t if there is one.
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
	compound := p.atCompound()
	p.enter()
	ok := p.safeStmt()
	p.nest = nest
	if ok {
		return
	}
	p.pending = p.pending[:mark]
	last := len(p.nodes)
	end := p.trim(start, p.sync(start))
	bad := p.add(Node{Kind: ErrorStmt, Start: start, End: end})
	p.push(bad)
	if compound {
		p.salvage(first, last, bad)
	}
}

// trim returns end without the blanks and line breaks before it.
func (p *parser) trim(start, end uint32) uint32 {
	for end > start && class[p.src[end-1]] >= cSpace {
		end--
	}
	return max(start, end)
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
			if decs := p.decorators(n); decs != 0 {
				low = min(low, p.nodes[p.lists[decs+1]].Start)
			}
		}
	}
	if len(p.pending) > m {
		slices.Reverse(p.pending[m:])
		p.nodes[bad].End = p.trim(p.nodes[bad].Start, low)
	}
}

// decorators returns the list of decorators of a function or class.
func (p *parser) decorators(n *Node) uint32 {
	if n.D != 0 && (n.Kind == FunctionDef || n.Kind == AsyncFunctionDef || n.Kind == ClassDef) {
		return p.lists[n.D+1]
	}
	return 0
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

// sync goes on behind a statement that begins at start and has an error: at
// the next line that may be a statement. It returns where the bad text ends.
func (p *parser) sync(start uint32) (end uint32) {
	p.colonDepth = -1
	pos := p.start
	if p.failures++; p.failures > maxFailures {
		p.problems = append(p.problems, problem{p.start, "too many errors: the rest of the file was not read"})
		p.depth, p.pos, p.end = 0, p.eof, p.eof
		p.tok = tNewline
		p.next()
		return p.eof
	}
	if p.tok == tErr && p.end > p.nextLine(start) && p.backtracked <= maxBacktrack+16*len(p.src) {
		pos = start // a string without an end has swallowed lines
		p.backtracked += int(p.end - start)
	} else if p.depth == 0 {
		for p.tok != tNewline && p.tok != tEOF && p.tok != tIndent && p.tok != tDedent && p.depth == 0 {
			p.next()
		}
		switch {
		case p.tok == tNewline:
			end = p.start
			p.next()
			return end
		case p.depth == 0:
			return p.start
		}
		pos = p.start
	}
	// Within brackets lines do not count. Take the first one that looks like
	// a statement, or is not indented deeper than the block: it may be the
	// line of the error.
	p.depth = 0
	if i := bytes.LastIndexAny(p.src[start:pos], "\r\n"); i >= 0 {
		pos = start + uint32(i) + 1
	} else {
		pos = p.nextLine(pos)
	}
	limit := p.indents[len(p.indents)-1]
	for ; pos < p.eof; pos = p.nextLine(pos) {
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
	p.pos, p.end = pos, pos
	p.bol = true
	p.tok = tNewline
	p.next()
	return pos
}

func beginsStatement(b []byte) bool {
	for _, w := range [...]string{"def ", "class ", "return ", "import ", "from ", "if ", "for ", "while ", "with ", "try:", "@", "async def", "raise ", "elif ", "else:", "except"} {
		if bytes.HasPrefix(b, []byte(w)) {
			return true
		}
	}
	return false
}
