package pysyntax

import (
	"bytes"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// tok is a kind of token.
type tok uint8

// keywords are interned first and in this order, so that the symbol of a hard
// keyword is its token. Soft keywords are names to the scanner.
var keywords = []string{
	"False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def",
	"del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
	"lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
	"match", "case", "type", "lazy", "_",
}

// Hard keywords.
const (
	tFalse tok = iota + 1
	tNone
	tTrue
	tAnd
	tAs
	tAssert
	tAsync
	tAwait
	tBreak
	tClass
	tContinue
	tDef
	tDel
	tElif
	tElse
	tExcept
	tFinally
	tFor
	tFrom
	tGlobal
	tIf
	tImport
	tIn
	tIs
	tLambda
	tNonlocal
	tNot
	tOr
	tPass
	tRaise
	tReturn
	tTry
	tWhile
	tWith
	tYield

	lastKeyword = tYield
)

// Symbols of the soft keywords.
const (
	symMatch uint32 = iota + uint32(lastKeyword) + 1
	symCase
	symType
	symLazy
	symUnderscore
)

// Other tokens.
const (
	tEOF tok = iota + 64
	tNewline
	tIndent
	tDedent
	tName
	tNumber
	tString
	tFString
	tLPar
	tRPar
	tLBrk
	tRBrk
	tLBrace
	tRBrace
	tComma
	tColon
	tSemi
	tDot
	tEllipsis
	tAssign
	tWalrus
	tArrow
	tExcl
	tLt
	tGt
	tEq
	tNe
	tLe
	tGe
	tErr // no token: a string without an end, a character that begins none
)

// Operators: tOpBase+OpAdd is +, tAugBase+OpAdd is +=.
const (
	tOpBase  tok = 160
	tAugBase tok = 192
	tTilde   tok = 230

	tPlus  = tOpBase + OpAdd
	tMinus = tOpBase + OpSub
	tStar  = tOpBase + OpMul
	tSlash = tOpBase + OpDiv
	tAt    = tOpBase + OpMatMul
	tPower = tOpBase + OpPow
	tPipe  = tOpBase + OpOr
)

// Classes of bytes. Every byte of a character beyond ASCII counts as a
// letter; see identifier. The blanks are the last.
const (
	cOther = iota
	cIdent
	cDigit
	cSpace
	cNL
)

var class = func() (class [256]uint8) {
	for c := 'a'; c <= 'z'; c++ {
		class[c], class[c-32] = cIdent, cIdent
	}
	class['_'] = cIdent
	for c := 128; c < 256; c++ {
		class[c] = cIdent
	}
	for c := '0'; c <= '9'; c++ {
		class[c] = cDigit
	}
	class[' '], class['\t'], class['\f'] = cSpace, cSpace, cSpace
	class['\n'], class['\r'] = cNL, cNL
	return class
}()

// lexer turns source into tokens, one at a time.
type lexer struct {
	src        []byte // followed by padding of NUL bytes
	eof        uint32 // length of the source
	pos        uint32
	lineFrom   uint32 // from here to lineEnd there is no '\n'; see endOfLine
	lineEnd    uint32
	depth      int32 // how many brackets are open
	colonDepth int32 // depth at which ':' ends an f-string's expression, or -1
	pend       int32 // DEDENTs still to come, as a negative number
	bol        bool  // at the beginning of a logical line
	// The current token.
	tok        tok
	start, end uint32
	sym        uint32    // of a name; the quote of a tFString
	strFlags   uint8     // of a string
	prevEnd    uint32    // end of the token before
	strange    uint32    // behind where the first character stands that no identifier may have; 0 if none
	noted      []problem // what the scanner has against the source; see remark
	names      *interner
	shared     *Interner
	indents    []int32
	tabless    []int32 // the indents as they are if a tab is one column wide
}

// Prefixes and quotes of a string literal, in lexer.strFlags and in Node.Op
// of a StrPart.
const (
	litRaw = 1 << iota
	litBytes
	litF
	litT
	litTriple
	litEscaped // there is a backslash
)

// next scans one token into l.tok.
func (l *lexer) next() {
	l.prevEnd = l.end
	if l.pend != 0 {
		l.pend++
		l.tok = tDedent
		l.start, l.end, l.prevEnd = l.pos, l.pos, l.pos
		return
	}
	src := l.src
	if l.bol {
		l.bol = false
		if l.indentation() {
			return
		}
	}
again:
	c := src[l.pos]
	for class[c] == cSpace {
		l.pos++
		c = src[l.pos]
	}
	start := l.pos
	l.start = start
	switch class[c] {
	case cIdent:
		h := hashBasis
		p := start
		seen := byte(0)
		for {
			h = (h ^ uint32(c)) * 16777619
			seen |= c
			p++
			c = src[p]
			if k := class[c]; k != cIdent && k != cDigit {
				break
			}
		}
		if (c == '"' || c == '\'') && p-start <= 2 {
			if fl, ok := stringPrefix(src[start:p]); ok {
				l.pos = p
				l.lexString(fl)
				return
			}
		}
		l.pos, l.end = p, p
		if seen >= utf8.RuneSelf {
			l.sym, l.tok = l.names.intern(l.identifier(src[start:p])), tName
			return
		}
		s := l.names.lookup(h, src[start:p])
		l.sym = s
		if s <= uint32(lastKeyword) {
			l.tok = tok(s)
		} else {
			l.tok = tName
		}
		return
	case cDigit:
		l.lexNumber()
		return
	case cNL:
		if c == '\r' && src[l.pos+1] == '\n' {
			l.pos++
		}
		l.pos++
		if l.depth > 0 {
			goto again
		}
		l.tok, l.end, l.bol = tNewline, l.pos, true
		return
	}
	one := func(t tok) {
		l.tok = t
		l.pos++
		l.end = l.pos
	}
	switch c {
	case '(':
		l.depth++
		one(tLPar)
	case ')':
		if l.depth > 0 {
			l.depth--
		}
		one(tRPar)
	case '[':
		l.depth++
		one(tLBrk)
	case ']':
		if l.depth > 0 {
			l.depth--
		}
		one(tRBrk)
	case '{':
		l.depth++
		one(tLBrace)
	case '}':
		if l.depth > 0 {
			l.depth--
		}
		one(tRBrace)
	case ',':
		one(tComma)
	case ';':
		one(tSemi)
	case '~':
		one(tTilde)
	case ':':
		if src[l.pos+1] == '=' && l.depth != l.colonDepth {
			l.pos++
			one(tWalrus)
		} else {
			one(tColon)
		}
	case '.':
		if class[src[l.pos+1]] == cDigit {
			l.lexNumber()
		} else if src[l.pos+1] == '.' && src[l.pos+2] == '.' {
			l.pos += 2
			one(tEllipsis)
		} else {
			one(tDot)
		}
	case '"', '\'':
		l.lexString(0)
	case '=':
		if src[l.pos+1] == '=' {
			l.pos++
			one(tEq)
		} else {
			one(tAssign)
		}
	case '!':
		if src[l.pos+1] == '=' {
			l.pos++
			one(tNe)
		} else {
			one(tExcl)
		}
	case '<':
		switch src[l.pos+1] {
		case '=':
			l.pos++
			one(tLe)
		case '<':
			l.pos++
			l.op(OpLShift)
		case '>': // Python 2
			l.remark(l.pos, "<> is written != in Python 3")
			l.pos++
			one(tNe)
		default:
			one(tLt)
		}
	case '>':
		switch src[l.pos+1] {
		case '=':
			l.pos++
			one(tGe)
		case '>':
			l.pos++
			l.op(OpRShift)
		default:
			one(tGt)
		}
	case '-':
		if src[l.pos+1] == '>' {
			l.pos++
			one(tArrow)
		} else {
			l.op(OpSub)
		}
	case '+':
		l.op(OpAdd)
	case '*':
		if src[l.pos+1] == '*' {
			l.pos++
			l.op(OpPow)
		} else {
			l.op(OpMul)
		}
	case '/':
		if src[l.pos+1] == '/' {
			l.pos++
			l.op(OpFloorDiv)
		} else {
			l.op(OpDiv)
		}
	case '%':
		l.op(OpMod)
	case '@':
		l.op(OpMatMul)
	case '&':
		l.op(OpAnd)
	case '|':
		l.op(OpOr)
	case '^':
		l.op(OpXor)
	case '#':
		l.pos = l.endOfLine(l.pos)
		goto again
	case '\\':
		p := l.pos + 1
		if src[p] == '\r' {
			p++
			if src[p] == '\n' {
				p++
			}
			l.pos = p
			l.continued()
			goto again
		}
		if src[p] == '\n' {
			l.pos = p + 1
			l.continued()
			goto again
		}
		one(tErr)
	case 0:
		if l.pos >= l.eof {
			l.atEOF()
			return
		}
		one(tErr)
	default:
		one(tErr)
	}
}

// atEOF gives the tokens after the end of the source: NEWLINE unless there was
// one, a DEDENT for every open block, EOF for ever.
func (l *lexer) atEOF() {
	l.start, l.end = l.pos, l.pos
	if l.tok != tNewline && l.tok != tDedent && l.tok != tEOF && l.depth == 0 && l.tok != 0 {
		l.tok = tNewline
		l.bol = true
		return
	}
	if len(l.indents) > 1 {
		l.indents, l.tabless = l.indents[:len(l.indents)-1], l.tabless[:len(l.tabless)-1]
		l.tok = tDedent
		return
	}
	l.tok = tEOF
}

// identifier returns the name that an identifier with characters beyond ASCII
// stands for (PEP 3131). What is no identifier in Python is taken for one and
// noted, so that the statement is not lost: quotes and blanks that a word
// processor made.
func (l *lexer) identifier(b []byte) string {
	for i, r := range string(b) {
		if r >= utf8.RuneSelf && !isIdentRune(r, i == 0) && l.strange == 0 {
			l.strange = l.start + uint32(i) + 1
		}
	}
	return string(norm.NFKC.Bytes(b))
}

func isIdentRune(r rune, first bool) bool {
	if unicode.In(r, unicode.L, unicode.Nl, unicode.Other_ID_Start) {
		return true
	}
	if !first && unicode.In(r, unicode.Mn, unicode.Mc, unicode.Nd, unicode.Pc, unicode.Other_ID_Continue) {
		return true
	}
	// XID closes these sets under NFKC; the few characters that this adds or
	// takes away are left to Python.
	return false
}

// endOfLine returns where the line of pos ends: at its line break or the end
// of the source. It never looks at a byte twice for comments that follow each
// other, whatever the line breaks are.
func (l *lexer) endOfLine(pos uint32) uint32 {
	if pos < l.lineFrom || pos > l.lineEnd {
		l.lineFrom, l.lineEnd = pos, l.eof
		if i := bytes.IndexByte(l.src[pos:l.eof], '\n'); i >= 0 {
			l.lineEnd = pos + uint32(i)
		}
	}
	if i := bytes.IndexByte(l.src[pos:l.lineEnd], '\r'); i >= 0 {
		return pos + uint32(i)
	}
	return l.lineEnd
}

// nextLine returns where the line after that of pos begins.
func (l *lexer) nextLine(pos uint32) uint32 {
	pos = l.endOfLine(pos)
	switch {
	case pos >= l.eof:
		return l.eof
	case l.src[pos] == '\r' && l.src[pos+1] == '\n':
		return pos + 2
	}
	return pos + 1
}

// op ends the token of a binary operator, or of its augmented assignment.
func (l *lexer) op(o uint8) {
	l.pos++
	if l.src[l.pos] == '=' && !(l.depth == l.colonDepth) {
		l.pos++
		l.tok = tAugBase + tok(o)
	} else {
		l.tok = tOpBase + tok(o)
	}
	l.end = l.pos
}

// indentation measures the next logical line. It reports whether the result
// is a token, INDENT or DEDENT.
func (l *lexer) indentation() bool {
	src := l.src
	for {
		col, tabless := int32(0), int32(0)
		p := l.pos
	sp:
		for {
			switch src[p] {
			case ' ':
				col++
				tabless++
			case '\t':
				col = col/8*8 + 8
				tabless++
			case '\f':
				col, tabless = 0, 0
			case '\\':
				// a continued blank prefix keeps the first indent
				if src[p+1] == '\n' || src[p+1] == '\r' {
					q := p + 1
					if src[q] == '\r' && src[q+1] == '\n' {
						q++
					}
					q++
					if q >= l.eof {
						l.remark(l.eof, "the source ends where a line is continued")
					}
					for class[src[q]] == cSpace {
						q++
					}
					p = q
					break sp
				}
				break sp
			default:
				break sp
			}
			p++
		}
		c := src[p]
		if c == '#' {
			p = l.endOfLine(p)
			c = src[p]
		}
		if c == '\r' {
			p++
			if src[p] == '\n' {
				p++
			}
			l.pos = p
			continue
		}
		if c == '\n' {
			l.pos = p + 1
			continue
		}
		l.pos = p
		if p >= l.eof {
			return false
		}
		top, tablessTop := l.indents[len(l.indents)-1], l.tabless[len(l.tabless)-1]
		if col == top {
			if tabless != tablessTop {
				l.badIndent(p)
			}
			return false
		}
		l.start, l.end = p, p
		if col > top {
			if len(l.indents) > maxIndents {
				l.badIndent(p)
				return false
			}
			if tabless <= tablessTop {
				l.badIndent(p)
			}
			l.indents, l.tabless = append(l.indents, col), append(l.tabless, tabless)
			l.tok = tIndent
			return true
		}
		n := int32(0)
		for len(l.indents) > 1 && l.indents[len(l.indents)-1] > col {
			l.indents, l.tabless = l.indents[:len(l.indents)-1], l.tabless[:len(l.tabless)-1]
			n++
		}
		switch k := len(l.indents) - 1; {
		case l.indents[k] < col: // inconsistent dedent: treat as that level
			l.badIndent(p)
			l.indents, l.tabless = append(l.indents, col), append(l.tabless, tabless)
			n--
			if n == 0 {
				return false
			}
		case l.tabless[k] != tabless:
			l.badIndent(p)
		}
		l.tok = tDedent
		l.pend = -(n - 1)
		return true
	}
}

// badIndent notes an indentation that fits no block around it, or would fit
// another one if tabs were of another width.
func (l *lexer) badIndent(pos uint32) {
	l.remark(pos, "this indentation fits no block, or only with tabs of one width")
}

// remark records an error that costs no token.
func (l *lexer) remark(pos uint32, msg string) {
	if len(l.noted) < maxErrors {
		l.noted = append(l.noted, problem{pos, msg})
	}
}

// continued notes that the source ends behind a backslash.
func (l *lexer) continued() {
	if l.pos >= l.eof {
		l.remark(l.eof, "the source ends where a line is continued")
	}
}

// lexNumber scans a number, tolerantly: NumValue refuses what Python does.
func (l *lexer) lexNumber() {
	src := l.src
	p := l.pos
	digits := func() {
		for class[src[p]] == cDigit || src[p] == '_' && class[src[p-1]] == cDigit && class[src[p+1]] == cDigit {
			p++
		}
	}
	c := src[p]
	if c == '0' && (src[p+1]|32 == 'x' || src[p+1]|32 == 'o' || src[p+1]|32 == 'b') {
		hex := src[p+1]|32 == 'x'
		p += 2
		for {
			d := src[p]
			if class[d] == cDigit || d == '_' || hex && (d|32 >= 'a' && d|32 <= 'f') {
				p++
				continue
			}
			break
		}
	} else {
		if c != '.' {
			digits()
		}
		if src[p] == '.' {
			p++
			digits()
		}
		if src[p]|32 == 'e' {
			q := p + 1
			if src[q] == '+' || src[q] == '-' {
				q++
			}
			if class[src[q]] == cDigit {
				p = q
				digits()
			}
		}
		if src[p]|32 == 'j' {
			p++
		}
	}
	l.pos, l.end, l.tok = p, p, tNumber
}

// stringPrefix returns the flags that the letters before a quote stand for.
func stringPrefix(b []byte) (uint8, bool) {
	var fl uint8
	for _, c := range b {
		switch c | 32 {
		case 'r':
			if fl&litRaw != 0 {
				return 0, false
			}
			fl |= litRaw
		case 'b':
			fl |= litBytes
		case 'f':
			fl |= litF
		case 't':
			fl |= litT
		case 'u':
			if len(b) > 1 {
				return 0, false
			}
		default:
			return 0, false
		}
	}
	switch fl & (litBytes | litF | litT) {
	case 0, litBytes, litF, litT:
	default:
		return 0, false
	}
	return fl, len(b) < 2 || fl&litRaw != 0
}

// lexString scans a string literal, or the beginning of an f-string or
// t-string up to its text. l.start is at the prefix, l.pos at the quote.
func (l *lexer) lexString(fl uint8) {
	src := l.src
	q := src[l.pos]
	p := l.pos + 1
	if src[p] == q && src[p+1] == q {
		fl |= litTriple
		p += 2
	}
	if fl&(litF|litT) != 0 {
		l.strFlags = fl
		l.sym = uint32(q)
		l.pos, l.end, l.tok = p, p, tFString
		return
	}
	l.strFlags = fl
	l.tok = tString
	if fl&litTriple != 0 {
		for {
			i := bytes.IndexByte(src[p:], q)
			if i < 0 {
				l.pos = l.eof
				l.end, l.tok = l.pos, tErr
				return
			}
			if k := bytes.IndexByte(src[p:int(p)+i], '\\'); k >= 0 {
				l.strFlags |= litEscaped
				p += uint32(k) + 2
				continue
			}
			p += uint32(i)
			if src[p+1] == q && src[p+2] == q {
				p += 3
				l.pos, l.end = p, p
				return
			}
			p++
		}
	}
	for {
		switch c := src[p]; c {
		case q:
			p++
			l.pos, l.end = p, p
			return
		case '\\':
			l.strFlags |= litEscaped
			if src[p+1] == '\r' && src[p+2] == '\n' {
				p++
			}
			p += 2
			p = min(p, l.eof)
		case '\n', '\r':
			l.pos, l.end, l.tok = p, p, tErr
			return
		case 0:
			if p >= l.eof {
				l.pos, l.end, l.tok = p, p, tErr
				return
			}
			p++
		default:
			p++
		}
	}
}
