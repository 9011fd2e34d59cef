package pysyntax

import "bytes"

// strings parses one or more string literals next to each other. Several
// make one node: Str or Bytes, or if one of them has replacement fields,
// JoinedStr or TemplateStr with parts.
func (p *parser) strings() uint32 {
	start := p.start
	m := len(p.pending)
	var seen uint8 // prefixes of all
	plain := false
	for p.tok == tString || p.tok == tFString {
		seen |= p.strFlags
		if p.tok == tString {
			plain = plain || p.strFlags&litBytes == 0
			p.push(p.add(Node{Kind: StrPart, Start: p.start, End: p.end, Op: p.strFlags &^ litEscaped}))
			p.checkLiteral()
			p.next()
			continue
		}
		p.fstring()
	}
	if seen&litBytes != 0 && (plain || seen&(litF|litT) != 0) {
		p.note(start, "cannot mix bytes and nonbytes literals")
	}
	switch {
	case seen&litT != 0:
		l := p.list(m)
		return p.node(TemplateStr, start, l, 0, 0)
	case seen&litF != 0:
		l := p.list(m)
		return p.node(JoinedStr, start, l, 0, 0)
	}
	// The parts of a constant are the last nodes made: drop them.
	p.nodes = p.nodes[:len(p.nodes)-(len(p.pending)-m)]
	p.pending = p.pending[:m]
	if seen&litBytes != 0 {
		return p.node(Bytes, start, 0, 0, 0)
	}
	return p.node(Str, start, 0, 0, 0)
}

// fstring parses one f-string or t-string (PEP 701, PEP 750). The current
// token is its beginning, up to and with the opening quote.
func (p *parser) fstring() {
	p.literalParts(p.strFlags, byte(p.sym), false)
	p.tok = 0
	p.end = p.pos
	p.next()
}

// literalParts scans literal text and replacement fields until the closing quote
// or, in a format, the closing brace. It pushes the nodes of the parts.
func (p *parser) literalParts(fl uint8, q byte, spec bool) {
	src := p.src
	lit := p.pos
	flush := func(end uint32) {
		if end > lit {
			if fl&litRaw == 0 && bytes.IndexByte(src[lit:end], '\\') >= 0 {
				p.checkEscapes(lit, src[lit:end], fl)
			}
			p.push(p.add(Node{Kind: StrPart, Start: lit, End: end, Op: fl}))
		}
	}
	for {
		c := src[p.pos]
		switch {
		case c == q:
			if fl&litTriple != 0 && !(src[p.pos+1] == q && src[p.pos+2] == q) {
				p.pos++
				continue
			}
			if spec {
				p.start = p.pos
				p.fail("unterminated replacement field")
			}
			flush(p.pos)
			p.pos++
			if fl&litTriple != 0 {
				p.pos += 2
			}
			return
		case c == '\\':
			n := src[p.pos+1]
			switch {
			case n == '{' || n == '}': // no escape: a backslash before a field
				p.pos++
			case n == 'N' && fl&litRaw == 0 && src[p.pos+2] == '{' && !spec:
				i := bytes.IndexByte(src[p.pos:min(p.pos+maxCharName, p.eof)], '}')
				if i < 0 {
					p.fail("malformed \\N character escape")
				}
				p.pos += uint32(i) + 1
			case n == '\r' && src[p.pos+2] == '\n':
				p.pos += 3
			case p.pos+1 >= p.eof:
				p.pos++
			default:
				p.pos += 2
			}
		case c == '{':
			if src[p.pos+1] == '{' && !spec {
				// keep one brace in the literal
				p.pos++
				flush(p.pos)
				p.pos++
				lit = p.pos
				continue
			}
			flush(p.pos)
			p.field(fl, q)
			lit = p.pos
		case c == '}':
			if spec {
				flush(p.pos)
				return
			}
			if src[p.pos+1] == '}' {
				p.pos++
				flush(p.pos)
				p.pos++
				lit = p.pos
				continue
			}
			p.start = p.pos
			p.fail("single '}' in f-string")
		case (c == '\n' || c == '\r') && fl&litTriple == 0 && !spec:
			p.start, p.end, p.tok = p.pos, p.pos, tErr
			p.fail("unterminated f-string")
		case p.pos >= p.eof:
			p.start, p.end, p.tok = p.pos, p.pos, tErr
			p.fail("unterminated f-string")
		default:
			p.pos++
		}
	}
}

// field parses a replacement field and pushes its node. The position is at
// its opening brace and afterwards behind its closing one.
func (p *parser) field(fl uint8, q byte) {
	p.enter()
	start := p.pos
	p.pos++
	depth, colonDepth := p.depth, p.colonDepth
	p.depth++
	p.colonDepth = p.depth
	p.tok = 0
	p.next()
	var e uint32
	if p.tok == tYield {
		e = p.yield()
	} else {
		e = p.starExprs()
		if p.tok == tWalrus {
			p.fail(invalidSyntax)
		}
	}
	var conv uint8
	var flags uint16
	var spec uint32
	if p.tok == tAssign {
		flags |= FDebug
		p.next()
	}
	end := p.start // of the expression's text
	if p.tok == tExcl {
		mark := p.end
		p.next()
		if p.start != mark {
			p.note(mark, "the conversion must follow the ! at once")
		}
		if p.tok != tName || p.end-p.start != 1 {
			p.fail("bad conversion")
		}
		if conv = p.src[p.start]; conv != 's' && conv != 'r' && conv != 'a' {
			p.note(p.start, "invalid conversion: expected s, r or a")
		}
		p.next()
	}
	if p.tok == tColon {
		specStart, m := p.start, len(p.pending)
		p.literalParts(fl, q, true)
		l := p.list(m)
		spec = p.add(Node{Kind: JoinedStr, Start: specStart, End: p.pos, A: l})
		p.pos++ // '}'
	} else if p.tok != tRBrace {
		p.fail("expected '}'")
	}
	p.depth, p.colonDepth = depth, colonDepth
	p.leave()
	k := FormattedValue
	if fl&litT != 0 {
		k = Interpolation
	}
	id := p.add(Node{Kind: k, Start: start, End: p.pos, A: e, B: spec, Op: conv, Flags: flags, C: end})
	p.push(id)
}

// checkLiteral notes what Python has against the text of the current token, a
// string: escapes that stand for nothing, bytes beyond ASCII.
func (p *parser) checkLiteral() {
	text := p.src[p.start:p.end]
	switch {
	case p.strFlags&litBytes != 0 && !isASCII(text):
		p.note(p.start, "bytes can only contain ASCII literal characters")
	case p.strFlags&(litEscaped|litRaw) == litEscaped:
		body, flags, rest := cutLiteral(text)
		if rest != nil {
			p.checkEscapes(p.start, body, flags)
		}
	}
}

// checkEscapes notes an escape in the text of a literal that Python refuses.
func (p *parser) checkEscapes(pos uint32, body []byte, flags uint8) {
	for rest := body; ; {
		i := bytes.IndexByte(rest, '\\')
		if i < 0 || i+1 >= len(rest) {
			return
		}
		switch rest[i+1] {
		case 'x', 'u', 'U', 'N':
			var ok bool
			if p.scratch, ok = decodeLiteral(p.scratch[:0], body, flags); !ok {
				p.note(pos, "an escape in this string stands for no character")
			}
			return
		}
		rest = rest[i+2:]
	}
}
