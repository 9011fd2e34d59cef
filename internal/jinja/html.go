package jinja

import (
	"cmp"
	"html"
	"path"
	"strings"
)

// mode is a state of the HTML tokenizer, after the HTML standard, section
// 13.2.5. Some of its states are one here with a counter.
type mode uint8

const (
	inText mode = iota
	inTagOpen
	inEndTagOpen
	inTagName
	beforeAttrName
	inAttrName
	afterAttrName
	beforeValue
	inValue
	afterValue
	inSelfClosing
	inMarkupOpen
	inBogusComment
	inComment
	inDoctype
	inCDATA
	inRaw        // the text of an element in which no tags are read
	inRawOpen    // after a "<" there
	inRawEnd     // after "</"
	inRawBang    // after "<!" in a script
	inRawEscaped // in the name of a tag in a script inside of <!--
	inFile       // of a file that is no markup
)

// point is one place in the HTML: all that an HTML tokenizer, and what follows
// it, knows there. It is comparable. The zero point is text.
type point struct {
	mode mode
	xml  bool // the file is XML: no element is special
	kind Kind // of the value, or of the file
	// Of the tag, or of the element whose raw text it is.
	end  bool
	tag  string
	typ  string // <script type>
	attr string
	// Of the attribute's value.
	quote   byte
	value   string // up to the first output
	dynamic bool   // there was one
	url     urlPoint
	ref     string // a character reference that was begun
	code    code
	// word is what was read of a markup declaration or of a name that may end
	// a raw text.
	word    string
	dashes  uint8 // read one after another; in CDATA, the brackets
	start   bool  // nothing was read of the comment
	bang    bool  // the comment was nearly ended by "--!"
	escaped uint8 // in <!-- of a script: 1; and in <script> there: 2
	// stack holds the open elements that are not HTML's, as far as they matter:
	// svg, math, what is HTML again in them, and their scripts and styles with
	// what is in those; each with a "/" behind.
	stack string
	// outermost is set when no HTML element was opened in what is HTML again.
	outermost bool
}

const (
	maxName  = 64
	maxValue = 256
	maxRef   = 33 // the longest name is 31 characters
	maxStack = 16
	starMark = "*" // an output in a name
	htmlMark = "!" // before an element on the stack in which there is HTML
)

// Start returns the state at the beginning of a template. The file's name
// says what it is: a script, a style sheet, JSON, a text without markup, XML,
// or HTML, which is also what is taken for granted.
func Start(name string) State {
	base := strings.ToLower(path.Base(name))
	for _, s := range []string{".j2", ".jinja", ".jinja2", ".tmpl", ".tpl"} {
		base = strings.TrimSuffix(base, s)
	}
	var p point
	switch path.Ext(base) {
	case ".js", ".mjs", ".cjs":
		p = point{mode: inFile, kind: KindScript, code: startCode(javaScript)}
	case ".css":
		p = point{mode: inFile, kind: KindStyle, code: startCode(css)}
	case ".json", ".webmanifest":
		p = point{mode: inFile, kind: KindScriptData, code: startCode(javaScript)}
	case ".xml", ".svg", ".rss", ".atom", ".xsl", ".wsdl":
		p = point{xml: true}
	case ".txt", ".text", ".md", ".rst", ".sql", ".yml", ".yaml", ".toml", ".ini", ".cfg", ".conf", ".csv",
		".tsv", ".sh", ".py", ".env", ".tex", ".service", ".ics", ".vcf":
		p = point{mode: inFile, kind: KindPlain}
	}
	return newState([]point{p})
}

func isHTMLSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 0x20
	}
	return c
}

// appendName adds a byte to a name, up to a bound.
func appendName(s string, c byte) string {
	if len(s) >= maxName {
		return s
	}
	return s + string([]byte{lower(c)})
}

// text steps over text.
func (p *point) text(s string) {
	for i := 0; i < len(s); i++ {
		switch p.mode {
		case inText:
			if p.code.lang != noCode {
				break
			}
			j := strings.IndexByte(s[i:], '<')
			if j < 0 {
				return
			}
			i += j
		case inBogusComment, inDoctype:
			j := strings.IndexByte(s[i:], '>')
			if j < 0 {
				return
			}
			i += j
		case inFile:
			if p.code.lang == noCode {
				return
			}
		}
		p.step(s[i])
	}
}

// step steps over one byte.
func (p *point) step(c byte) {
	switch p.mode {
	case inText:
		if c == '<' {
			p.flush(false)
			p.mode = inTagOpen
		} else if p.code.lang != noCode {
			p.decode(c)
		}
	case inTagOpen:
		switch {
		case c == '!':
			p.mode, p.word = inMarkupOpen, ""
		case c == '/':
			p.mode = inEndTagOpen
		case c == '?':
			p.mode = inBogusComment
		case isLetter(c):
			p.openTag(false, appendName("", c))
		default:
			p.mode = inText
			p.step(c)
		}
	case inEndTagOpen:
		switch {
		case isLetter(c):
			p.openTag(true, appendName("", c))
		case c == '>':
			p.mode = inText
		default:
			p.mode = inBogusComment
		}
	case inTagName:
		switch {
		case isHTMLSpace(c):
			p.mode = beforeAttrName
		case c == '/':
			p.mode = inSelfClosing
		case c == '>':
			p.closeTag(false)
		default:
			p.tag = appendName(p.tag, c)
		}
	case beforeAttrName, afterAttrName, afterValue:
		switch {
		case isHTMLSpace(c):
			if p.mode == afterValue {
				p.mode = beforeAttrName
			}
		case c == '/':
			p.mode = inSelfClosing
		case c == '>':
			p.closeTag(false)
		case c == '=' && p.mode == afterAttrName:
			p.mode = beforeValue
		default:
			p.mode, p.attr = inAttrName, appendName("", c)
		}
	case inSelfClosing:
		if c == '>' {
			p.closeTag(true)
			return
		}
		p.mode = beforeAttrName
		p.step(c)
	case inAttrName:
		switch {
		case isHTMLSpace(c):
			p.mode = afterAttrName
		case c == '/':
			p.mode = inSelfClosing
		case c == '>':
			p.closeTag(false)
		case c == '=':
			p.mode = beforeValue
		default:
			p.attr = appendName(p.attr, c)
		}
	case beforeValue:
		switch {
		case isHTMLSpace(c):
		case c == '"' || c == '\'':
			p.openValue(c)
		case c == '>':
			p.closeTag(false)
		default:
			p.openValue(0)
			p.step(c)
		}
	case inValue:
		switch {
		case p.quote != 0 && c == p.quote:
			p.closeValue()
			p.mode = afterValue
		case p.quote == 0 && isHTMLSpace(c):
			p.closeValue()
			p.mode = beforeAttrName
		case p.quote == 0 && c == '>':
			p.closeValue()
			p.closeTag(false)
		default:
			p.decode(c)
		}
	case inMarkupOpen:
		p.word += string([]byte{lower(c)})
		switch {
		case p.word == "--":
			p.mode, p.start, p.dashes, p.bang, p.word = inComment, true, 0, false, ""
		case p.word == "doctype":
			p.mode, p.word = inDoctype, ""
		case p.word == "[cdata[" && p.cdata():
			p.mode, p.dashes, p.word = inCDATA, 0, ""
		case strings.HasPrefix("--", p.word) || strings.HasPrefix("doctype", p.word) || strings.HasPrefix("[cdata[", p.word) && p.cdata():
		default:
			p.mode, p.word = inBogusComment, ""
			p.step(c)
		}
	case inBogusComment, inDoctype:
		if c == '>' {
			p.mode = inText
		}
	case inComment:
		p.stepComment(c)
	case inCDATA:
		switch {
		case c == '>' && p.dashes >= 2:
			p.mode, p.dashes = inText, 0
		case c == ']':
			p.dashes = min(p.dashes+1, 2)
		default:
			p.dashes = 0
		}
		if p.code.lang != noCode && p.mode == inCDATA {
			p.code.step(c)
		}
	case inRaw, inRawOpen, inRawEnd, inRawBang, inRawEscaped:
		p.stepRaw(c)
	case inFile:
		p.code.step(c)
	}
}

func (p *point) stepComment(c byte) {
	switch {
	case c == '-':
		p.dashes = min(p.dashes+1, 2)
		p.bang = false
		return
	case c == '>' && (p.dashes >= 2 || p.start || p.bang):
		p.mode, p.start, p.dashes, p.bang = inText, false, 0, false
		return
	}
	p.bang = c == '!' && p.dashes >= 2
	p.start, p.dashes = false, 0
}

// stepRaw steps over a byte of a raw text, for which the script or the style
// sheet in it is read at the same time.
func (p *point) stepRaw(c byte) {
	p.code.step(c)
	script := p.tag == "script"
	again := true // go on with this byte as text
	switch p.mode {
	case inRawOpen:
		switch {
		case c == '/':
			p.mode, p.word, again = inRawEnd, "", false
		case c == '!' && script && p.escaped == 0:
			p.mode, p.dashes, again = inRawBang, 0, false
		case isLetter(c) && script && p.escaped == 1:
			p.mode, p.word, again = inRawEscaped, appendName("", c), false
		}
	case inRawBang:
		if c == '-' {
			again = false
			if p.dashes++; p.dashes == 2 {
				p.mode, p.escaped = inRaw, 1
			}
		}
	case inRawEnd, inRawEscaped:
		switch {
		case isLetter(c):
			p.word, again = appendName(p.word, c), false
		case !isHTMLSpace(c) && c != '/' && c != '>', p.mode == inRawEscaped && p.word != "script", p.mode == inRawEnd && p.word != p.tag:
		case p.tag == "plaintext": // it has no end
		case p.mode == inRawEscaped:
			p.escaped = 2
		case p.escaped == 2:
			p.escaped = 1
		default:
			*p = point{xml: p.xml, stack: p.stack, outermost: p.outermost, mode: inTagName, end: true, tag: p.tag}
			p.step(c)
			return
		}
	}
	if !again {
		return
	}
	p.mode, p.word = inRaw, ""
	switch {
	case c == '<':
		p.mode, p.dashes = inRawOpen, 0
	case p.escaped > 0 && c == '-':
		p.dashes = min(p.dashes+1, 2)
	case p.escaped > 0 && c == '>' && p.dashes >= 2:
		p.escaped, p.dashes = 0, 0
	default:
		p.dashes = 0
	}
}

func (p *point) openTag(end bool, name string) {
	p.mode, p.end, p.tag = inTagName, end, name
	p.typ, p.attr = "", ""
}

// rawElements are the HTML elements in which no tags are read.
var rawElements = map[string]Kind{
	"script": KindScript, "style": KindStyle, "title": KindRCDATA, "textarea": KindRCDATA,
	"xmp": KindRawText, "iframe": KindRawText, "noembed": KindRawText, "noframes": KindRawText, "plaintext": KindRawText,
}

// closeTag ends the tag.
func (p *point) closeTag(selfClosing bool) {
	q := point{xml: p.xml, stack: p.stack, outermost: p.outermost}
	tag := p.tag
	// In <script{{ attributes }}> the output is none of the name.
	if t := strings.TrimRight(tag, starMark); t != "" {
		tag = t
	}
	switch {
	case p.end:
		q.endElement(tag)
	case q.foreign() && !p.breaksOut(tag):
		if !selfClosing {
			q.openForeign(tag)
		}
		q.restart()
	default:
		if q.foreign() {
			q.leaveForeign()
		}
		q.outermost = false
		q.restart()
		kind, raw := rawElements[tag]
		switch {
		case tag == "svg" || tag == "math":
			if !selfClosing {
				q.push(tag)
			}
		case raw:
			q.mode, q.tag, q.kind = inRaw, tag, kind
			switch kind {
			case KindStyle:
				q.code = startCode(css)
			case KindScript:
				q.kind, q.code = scriptKind(p.typ)
			}
		}
	}
	*p = q
}

// scriptKind returns what is in a <script> of the type.
func scriptKind(typ string) (Kind, code) {
	typ = strings.ToLower(strings.TrimSpace(typ))
	typ, _, _ = strings.Cut(typ, ";")
	typ = strings.TrimSpace(typ)
	switch {
	case strings.Contains(typ, starMark): // could be any
	case strings.HasSuffix(typ, "json"), typ == "importmap", typ == "speculationrules":
		return KindScriptData, startCode(javaScript)
	case typ == "", typ == "module", strings.Contains(typ, "javascript"), strings.Contains(typ, "ecmascript"),
		strings.Contains(typ, "jscript"), strings.Contains(typ, "livescript"), typ == "text/babel", typ == "text/jsx",
		strings.Contains(typ, "typescript"):
	default:
		return KindScriptData, code{}
	}
	return KindScript, startCode(javaScript)
}

// These are the elements of SVG and MathML in which there is HTML.
var (
	htmlInSVG  = setOf("foreignobject desc title")
	htmlInMath = setOf("mi mo mn ms mtext")
)

// foreign reports whether one is in SVG, MathML or XML.
func (p *point) foreign() bool {
	return p.xml || p.stack != "" && !strings.HasPrefix(p.top(), htmlMark)
}

// cdata reports whether <![CDATA[ has its meaning: where the innermost element
// is not HTML's.
func (p *point) cdata() bool { return p.foreign() || p.stack != "" && p.outermost }

// openForeign puts an element of SVG, MathML or XML on the stack, if it
// matters there.
func (p *point) openForeign(tag string) {
	switch {
	case htmlInSVG[tag] && p.namespace() == "svg", htmlInMath[tag] && p.namespace() == "math":
		p.push(htmlMark + tag)
		p.outermost = true
	case tag == "svg", tag == "math", tag == "script", tag == "style",
		// What is in an element in a script is no script.
		strings.Contains("/"+p.stack, "/script/"), strings.Contains("/"+p.stack, "/style/"):
		p.push(tag)
	}
}

// restart begins the text of the innermost element.
func (p *point) restart() {
	switch p.top() {
	case "script":
		p.code = startCode(javaScript)
	case "style":
		p.code = startCode(css)
	default:
		p.code = code{}
	}
}

func (p *point) top() string {
	s := strings.TrimSuffix(p.stack, "/")
	return s[strings.LastIndexByte(s, '/')+1:]
}

// namespace returns svg or math: the outermost element since there was HTML.
// A <math> in SVG is one of SVG's.
func (p *point) namespace() string {
	s := p.stack
	if i := strings.LastIndex(s, htmlMark); i >= 0 {
		_, s, _ = strings.Cut(s[i:], "/")
	}
	name, _, _ := strings.Cut(s, "/")
	return name
}

func (p *point) push(name string) {
	if strings.Count(p.stack, "/") < maxStack {
		p.stack += name + "/"
	}
}

func (p *point) pop() { p.stack = strings.TrimSuffix(p.stack, p.top()+"/") }

// endElement closes the innermost element of the name, if it is on the stack.
func (p *point) endElement(name string) {
	stack := "/" + p.stack
	switch {
	case !p.foreign() && !p.outermost:
		// In HTML's elements in what is HTML again only its own end tag ends it.
		if p.stack != "" && p.top() == htmlMark+name {
			p.pop()
		}
	case strings.Contains(stack, "/"+name+"/") || strings.Contains(stack, "/"+htmlMark+name+"/"):
		for strings.TrimPrefix(p.top(), htmlMark) != name {
			p.pop()
		}
		p.pop()
		p.outermost = false
	case p.foreign() && !p.xml && (name == "p" || name == "br"):
		p.leaveForeign()
	}
	p.restart()
}

// leaveForeign closes the elements that are not HTML, up to one that is HTML
// again.
func (p *point) leaveForeign() {
	for p.stack != "" && p.foreign() {
		p.pop()
	}
}

// breakouts are the HTML elements that end SVG and MathML by beginning.
var breakouts = setOf(`b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head
	hr i img li listing menu meta nobr ol p pre ruby s small span strong strike sub sup table tt u ul var`)

func (p *point) breaksOut(tag string) bool { return !p.xml && breakouts[tag] }

func setOf(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}

// urlAttributes are the attributes whose value is a URL.
var urlAttributes = setOf(`href src action formaction data poster xlink:href xml:base cite background longdesc
	manifest ping codebase classid profile icon usemap archive srcset imagesrcset lowsrc dynsrc`)

// attrKind classifies an attribute by its name.
func attrKind(name string) Kind {
	switch {
	case len(name) > 2 && strings.HasPrefix(name, "on"):
		return KindEvent
	case name == "style":
		return KindStyleAttr
	case name == "srcdoc":
		return KindSrcdoc
	case urlAttributes[name]:
		return KindURL
	}
	return KindAttr
}

func (p *point) openValue(quote byte) {
	p.mode, p.quote = inValue, quote
	p.value, p.dynamic, p.ref = "", false, ""
	p.kind = attrKind(p.attr)
	p.code = code{}
	p.url = urlPoint{}
	switch p.kind {
	case KindEvent:
		p.code = startCode(javaScript)
	case KindStyleAttr:
		p.code = startCode(css)
	}
}

func (p *point) closeValue() {
	p.flush(false)
	if p.attr == "type" && p.typ == "" {
		p.typ = p.value
		if p.dynamic {
			p.typ += starMark
		}
	}
	p.value, p.dynamic, p.quote, p.kind = "", false, 0, KindText
	p.code, p.url = code{}, urlPoint{}
}

// decode steps over a byte of a text in which character references are
// resolved: a value, or a script in SVG.
func (p *point) decode(c byte) {
	if p.ref != "" {
		if c == ';' {
			ref := html.UnescapeString(p.ref + ";")
			p.ref = ""
			p.decoded(ref)
			return
		}
		if (isLetter(c) || isDigit(c) || c == '#' && len(p.ref) == 1) && len(p.ref) < maxRef {
			p.ref += string([]byte{c})
			return
		}
		p.flush(c == '=')
	}
	if c == '&' {
		p.ref = "&"
		return
	}
	p.plain(c)
}

// flush ends a character reference that has no ";". In a value, names that may
// go without one are none before a letter or a "=", which more says follows.
func (p *point) flush(more bool) {
	if p.ref == "" {
		return
	}
	ref := html.UnescapeString(p.ref)
	number := strings.HasPrefix(p.ref, "&#")
	if p.mode == inValue && !number && (more || ref != html.UnescapeString(p.ref+";")) {
		ref = p.ref
	}
	p.ref = ""
	p.decoded(ref)
}

func (p *point) decoded(s string) {
	for i := range len(s) {
		p.plain(s[i])
	}
}

// plain steps over a byte of a value, or of a script in SVG, as it is meant.
func (p *point) plain(c byte) {
	p.code.step(c)
	if p.mode != inValue {
		return
	}
	if !p.dynamic && len(p.value) < maxValue {
		p.value += string([]byte{c})
	}
	switch p.kind {
	case KindURL:
		if p.url.step(c) && !p.dynamic && isJavaScript(p.value) {
			p.kind, p.code = KindScriptURL, startCode(javaScript)
		}
	case KindAttr:
		// <meta http-equiv="refresh" content="0; url=…">
		if c == '=' && p.tag == "meta" && p.attr == "content" && strings.HasSuffix(strings.ToLower(strings.Join(strings.Fields(p.value), "")), "url=") {
			p.kind, p.value, p.dynamic, p.url = KindURL, "", false, urlPoint{}
		}
	}
}

// isJavaScript reports whether a URL begins with a scheme that runs what
// follows. Browsers pass over white space and control characters.
func isJavaScript(url string) bool {
	url = strings.ToLower(strings.Map(func(r rune) rune {
		if r <= ' ' {
			return -1
		}
		return r
	}, url))
	return url == "javascript:" || url == "vbscript:"
}

// urlPoint is where one stands in a URL.
type urlPoint struct {
	part  URLPart // 0 at the beginning
	slash bool    // one slash was read, which may be the first of two
	read  bool    // something was read
	host  bool    // something was read of the host
	other string  // the scheme while it is read, up to a bound
}

// step steps over a byte. It returns true when that ended a scheme.
func (u *urlPoint) step(c byte) (scheme bool) {
	slash := c == '/' || c == '\\'
	switch {
	case c == '#':
		u.part, u.slash = URLFragment, false
	case c == '?' && u.part < URLQuery:
		u.part, u.slash = URLQuery, false
	case u.part == URLHost:
		if slash && u.host {
			u.part = URLPath
		}
		u.host = u.host || !slash
	case u.part > URLHost:
	case u.slash:
		u.slash = false
		u.part = URLPath
		if slash {
			u.part = URLHost
		}
	case slash && !u.read:
		u.slash = true
	case slash:
		u.part = URLPath
	case c == ':':
		u.part = URLHost
		switch strings.ToLower(u.other) {
		case "", "http", "https", "ftp", "ws", "wss":
		default:
			u.part = URLPath
		}
		u.other = ""
		return true
	case c > ' ':
		u.read = true
		if len(u.other) < maxWord {
			u.other += string([]byte{c})
		}
	}
	if u.part != URLNone {
		u.other = ""
	}
	return false
}

func (u *urlPoint) output() {
	switch u.part {
	case URLNone:
		if !u.slash {
			u.read = true
			u.other = ""
		}
	case URLHost:
		u.host = true
	}
}

// where returns the part a value that follows is in.
func (u urlPoint) where() URLPart {
	switch {
	case u.slash: // and the value may begin with another
		return URLHost
	case u.part == URLNone:
		return URLStart
	}
	return u.part
}

// settle decides what is still open, for something unknown follows.
func (p *point) settle() {
	switch p.mode {
	case beforeValue:
		p.openValue(0)
	case inValue, inText:
		p.flush(true)
	}
	p.code.settle()
}

// output steps over an output, taken for a run of letters.
func (p *point) output() {
	p.settle()
	switch p.mode {
	case inText, inFile:
		p.code.output()
	case inTagOpen, inEndTagOpen:
		p.openTag(p.mode == inEndTagOpen, starMark)
	case inTagName:
		if !strings.HasSuffix(p.tag, starMark) {
			p.tag += starMark
		}
	case beforeAttrName, afterAttrName, afterValue, inSelfClosing:
		p.mode, p.attr = inAttrName, starMark
	case inAttrName:
		if !strings.HasSuffix(p.attr, starMark) {
			p.attr += starMark
		}
	case inValue:
		p.dynamic = true
		p.code.output()
		p.url.output()
	case inMarkupOpen:
		p.mode, p.word = inBogusComment, ""
	case inComment:
		p.start, p.dashes, p.bang = false, 0, false
	case inCDATA:
		p.dashes = 0
		p.code.output()
	case inRaw, inRawOpen, inRawEnd, inRawBang, inRawEscaped:
		p.mode, p.word, p.dashes = inRaw, "", 0
		p.code.output()
	}
}

// context describes the place.
func (p point) context() Context {
	p.settle()
	c := Context{Tag: p.tag}
	switch p.mode {
	case inText, inCDATA:
		if p.code.lang != noCode {
			c.Kind, c.Tag, c.Decoded = KindScript, p.top(), p.mode == inText
			if p.code.lang == css {
				c.Kind = KindStyle
			}
		}
	case inTagOpen, inEndTagOpen, inTagName:
		c.Kind = KindTagName
	case beforeAttrName, afterAttrName, afterValue, inSelfClosing:
		c.Kind = KindAttrName
	case inAttrName:
		c.Kind, c.Attr = KindAttrName, p.attr
	case inValue:
		c.Kind, c.Attr, c.Quote = p.kind, p.attr, p.quote
		c.Prefix, c.Dynamic = p.value, p.dynamic
		if p.kind == KindURL {
			c.URL = p.url.where()
		}
		c.Decoded = p.code.lang != noCode
	case inMarkupOpen, inBogusComment, inDoctype:
		c.Kind = KindMarkup
	case inComment:
		c.Kind = KindComment
	default:
		c.Kind = p.kind
	}
	c.Lexeme = p.code.lex
	return c
}

// compare orders points, so that a set of them has one form.
func (p point) compare(q point) int {
	flag := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	flags := func(p point) int {
		n := 0
		for _, b := range []bool{p.xml, p.end, p.dynamic, p.start, p.bang, p.code.escaped, p.code.class, p.code.operand, p.url.slash, p.url.read, p.url.host, p.outermost} {
			n = n<<1 | flag(b)
		}
		return n
	}
	return cmp.Or(
		cmp.Compare(p.mode, q.mode), cmp.Compare(p.kind, q.kind),
		cmp.Compare(p.stack, q.stack), cmp.Compare(p.tag, q.tag), cmp.Compare(p.typ, q.typ), cmp.Compare(p.attr, q.attr),
		cmp.Compare(p.quote, q.quote), cmp.Compare(p.value, q.value), cmp.Compare(p.ref, q.ref), cmp.Compare(p.word, q.word),
		cmp.Compare(p.url.part, q.url.part), cmp.Compare(p.url.other, q.url.other),
		cmp.Compare(p.code.lang, q.code.lang), cmp.Compare(p.code.lex, q.code.lex), cmp.Compare(p.code.pending, q.code.pending),
		cmp.Compare(p.code.last, q.code.last), cmp.Compare(p.code.opener, q.code.opener), cmp.Compare(p.code.word, q.code.word),
		cmp.Compare(p.code.open, q.code.open),
		cmp.Compare(p.dashes, q.dashes), cmp.Compare(p.escaped, q.escaped),
		cmp.Compare(flags(p), flags(q)),
	)
}
