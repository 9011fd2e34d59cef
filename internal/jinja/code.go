package jinja

import "strings"

type language uint8

const (
	noCode language = iota
	javaScript
	css
)

// code is where one stands in a script or a style sheet. It is comparable.
type code struct {
	lang    language
	lex     Lexeme
	escaped bool // the next character is
	class   bool // in […] of a regular expression
	// operand is set when an expression was just read, so that a "/" divides.
	// In url(…) it says that something was read of it.
	operand bool
	pending byte   // "/", "*" or "$" that may begin or end something
	last    byte   // the "+" or "-" read last
	opener  uint8  // how much was read of "<!--"
	word    string // read at the moment
	// open holds the braces inside of ${…} of a template: "$" where one
	// begins, "{" for those in it.
	open string
}

func startCode(l language) code {
	if l == noCode {
		return code{}
	}
	return code{lang: l, lex: LexCode}
}

const (
	maxWord = 16 // longer than every keyword
	maxOpen = 32
)

func isWordByte(c byte) bool {
	return c == '_' || c == '$' || c|0x20 >= 'a' && c|0x20 <= 'z' || isDigit(c) || c >= 0x80
}

// beforeRegexp are the words of JavaScript after which a "/" begins a regular
// expression.
var beforeRegexp = map[string]bool{
	"await": true, "case": true, "delete": true, "do": true, "else": true, "finally": true, "in": true,
	"instanceof": true, "new": true, "of": true, "return": true, "throw": true, "try": true,
	"typeof": true, "void": true, "yield": true,
}

// settle decides what is still open, for something unknown follows.
func (c *code) settle() {
	if c.lang == javaScript && c.lex == LexCode && c.pending == '/' && !c.operand {
		c.lex, c.class = LexRegexp, false
	}
	c.pending, c.opener, c.last = 0, 0, 0
}

// output steps over an output.
func (c *code) output() {
	c.settle()
	c.escaped = false
	c.word = ""
	c.operand = true
}

func (c *code) step(b byte) {
	switch c.lang {
	case javaScript:
		c.stepJS(b)
	case css:
		c.stepCSS(b)
	}
}

// enter begins a lexeme.
func (c *code) enter(l Lexeme) { *c = code{lang: c.lang, lex: l, open: c.open, operand: c.operand} }

// leave ends a lexeme; operand says whether a "/" then divides.
func (c *code) leave(operand bool) {
	*c = code{lang: c.lang, lex: LexCode, open: c.open, operand: operand}
}

func (c *code) stepJS(b byte) {
	switch c.lex {
	case LexCode:
		c.stepJSCode(b)
	case LexDouble, LexSingle:
		switch {
		case c.escaped:
			c.escaped = false
		case b == '\\':
			c.escaped = true
		case b == '"' && c.lex == LexDouble, b == '\'' && c.lex == LexSingle, b == '\n', b == '\r':
			c.leave(true)
		}
	case LexTemplate:
		was := c.pending
		c.pending = 0
		switch {
		case c.escaped:
			c.escaped = false
		case b == '\\':
			c.escaped = true
		case b == '`':
			c.leave(true)
		case b == '$':
			c.pending = '$'
		case b == '{' && was == '$':
			c.push('$')
			c.leave(false)
		}
	case LexRegexp:
		switch {
		case b == '\n' || b == '\r':
			c.leave(true)
		case c.escaped:
			c.escaped = false
		case b == '\\':
			c.escaped = true
		case b == '[':
			c.class = true
		case b == ']':
			c.class = false
		case b == '/' && !c.class:
			c.leave(true)
		}
	case LexLine:
		if b == '\n' || b == '\r' {
			c.leave(c.operand)
		}
	case LexComment:
		c.stepComment(b)
	}
}

func (c *code) stepComment(b byte) {
	if b == '/' && c.pending == '*' {
		c.leave(c.operand)
		return
	}
	c.pending = 0
	if b == '*' {
		c.pending = '*'
	}
}

func (c *code) push(b byte) {
	if len(c.open) < maxOpen {
		c.open += string(b)
	}
}

func (c *code) stepJSCode(b byte) {
	if c.pending == '/' {
		c.pending = 0
		switch {
		case b == '/':
			c.enter(LexLine)
			return
		case b == '*':
			c.enter(LexComment)
			return
		case !c.operand:
			c.enter(LexRegexp)
			c.stepJS(b)
			return
		}
		c.operand = false
	}
	if isWordByte(b) {
		if len(c.word) < maxWord {
			c.word += string(b)
		}
		c.operand, c.last, c.opener = true, 0, 0
		return
	}
	if c.word != "" {
		c.operand = !beforeRegexp[c.word]
		c.word = ""
	}
	last, opener := c.last, c.opener
	c.last, c.opener = 0, 0
	switch b {
	case ' ', '\t', '\n', '\r', '\f', '\v':
	case '/':
		c.pending = '/'
	case '"':
		c.enter(LexDouble)
	case '\'':
		c.enter(LexSingle)
	case '`':
		c.enter(LexTemplate)
	case ')', ']':
		c.operand = true
	case '{':
		if c.open != "" {
			c.push('{')
		}
		c.operand = false
	case '}':
		c.operand = false
		if n := len(c.open); n > 0 {
			top := c.open[n-1]
			c.open = c.open[:n-1]
			if top == '$' {
				c.enter(LexTemplate)
			}
		}
	case '+', '-':
		if b == '-' && opener >= 2 {
			// <!-- begins a comment to the end of the line.
			if c.opener = opener + 1; c.opener == 4 {
				c.enter(LexLine)
				return
			}
		}
		if last == b {
			c.operand = true // x++
		} else {
			c.operand = false
			c.last = b
		}
	case '<':
		c.opener = 1
		c.operand = false
	case '!':
		if opener == 1 {
			c.opener = 2
		}
		c.operand = false
	default:
		c.operand = false
	}
}

func (c *code) stepCSS(b byte) {
	switch c.lex {
	case LexCode:
		if c.pending == '/' && b == '*' {
			c.enter(LexComment)
			return
		}
		c.pending = 0
		word := c.word
		c.word = ""
		switch {
		case b == '/':
			c.pending = '/'
		case b == '"':
			c.enter(LexDouble)
		case b == '\'':
			c.enter(LexSingle)
		case b == '(' && strings.EqualFold(word, "url"):
			c.enter(LexURL)
			c.operand = false
		case isWordByte(b) || b == '-':
			c.word = word
			if len(word) < maxWord {
				c.word += string(b)
			}
		}
	case LexDouble, LexSingle:
		switch {
		case c.escaped:
			c.escaped = false
		case b == '\\':
			c.escaped = true
		case b == '"' && c.lex == LexDouble, b == '\'' && c.lex == LexSingle, b == '\n', b == '\r', b == '\f':
			c.leave(false)
		}
	case LexURL:
		switch {
		case c.escaped:
			c.escaped = false
		case b == '\\':
			c.escaped = true
		case b == ')':
			c.leave(false)
		case isHTMLSpace(b):
		case b == '"' && !c.operand:
			c.enter(LexDouble)
		case b == '\'' && !c.operand:
			c.enter(LexSingle)
		default:
			c.operand = true
		}
	case LexComment:
		c.stepComment(b)
	}
}
