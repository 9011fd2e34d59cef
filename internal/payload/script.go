package payload

import "strings"

// The judge of JavaScript reads a text as code, bare or behind a quote that
// ends a string of the page's own script, and asks two things: can these
// tokens stand beside each other in a program, and does the program do what
// only an attack or a program would (call what runs code or talks to the
// visitor, reach for cookies, leave the page)? Prose fails the first:
// two words beside each other are no expression.

type jsKind uint8

const (
	jsEnd jsKind = iota
	jsName
	jsKeyword
	jsNumber
	jsString
	jsOpen    // a quote that nothing closes
	jsTick    // a template literal
	jsPunct   // one character
	jsComment // to the end of the line or text
)

type jsToken struct {
	kind jsKind
	text string
	line bool // a line break stands before it
}

var jsKeywords = set("var", "let", "const", "new", "return", "typeof", "function", "do", "else", "in", "of", "instanceof", "catch", "while", "finally",
	"try", "throw", "delete", "void", "if", "for", "switch", "case", "default", "async", "await", "yield", "class", "extends", "import", "export", "with", "break", "continue")

// jsProgram cuts s into tokens, or returns nil as soon as two of them cannot
// stand beside each other.
func jsProgram(s string) []jsToken {
	// Most texts are prose: two words and no more are looked at.
	for n := 32; n < len(s); n *= 8 {
		head := jsScan(s[:n])
		if len(head) > 3 && !jsGrammar(head[:len(head)-2]) {
			return nil
		}
	}
	t := jsScan(s)
	if !jsGrammar(t) {
		return nil
	}
	return t
}

func jsScan(s string) []jsToken {
	out := make([]jsToken, 0, 16)
	line := false
	add := func(k jsKind, t string) {
		out = append(out, jsToken{k, t, line})
		line = false
	}
	for i := 0; i < len(s) && len(out) < maxTokens; {
		c := s[i]
		switch {
		case c == '\n' || c == '\r':
			line = true
			i++
		case isSpace(c) || c == 0:
			i++
		case c == '/' && i+1 < len(s) && s[i+1] == '/':
			end := strings.IndexByte(s[i:], '\n')
			if end < 0 {
				add(jsComment, s[i:])
				i = len(s)
				continue
			}
			i += end
		case c == '/' && i+1 < len(s) && s[i+1] == '*':
			end := strings.Index(s[i+2:], "*/")
			if end < 0 {
				add(jsComment, s[i:])
				i = len(s)
				continue
			}
			i += end + 4
		case c == '"' || c == '\'' || c == '`':
			j := i + 1
			for j < len(s) && s[j] != c {
				if s[j] == '\\' {
					j++
				}
				j++
			}
			if j >= len(s) {
				add(jsOpen, s[i:])
				i = len(s)
				continue
			}
			k := jsString
			if c == '`' {
				k = jsTick
			}
			add(k, s[i:j+1])
			i = j + 1
		case isDigit(c):
			j := i
			for j < len(s) && (isAlnum(s[j]) || s[j] == '.' || s[j] == '_') {
				j++
			}
			add(jsNumber, s[i:j])
			i = j
		case isWord(c) || c == '$':
			j := i
			for j < len(s) && (isWord(s[j]) || s[j] == '$') {
				j++
			}
			k := jsName
			if jsKeywords[s[i:j]] {
				k = jsKeyword
			}
			add(k, s[i:j])
			i = j
		default:
			add(jsPunct, s[i:i+1])
			i++
		}
	}
	return append(out, jsToken{kind: jsEnd})
}

// jsGrammar says whether tokens can stand beside each other in a program. It
// does not ask for balance: an injected piece closes and opens what the page
// has around it.
func jsGrammar(t []jsToken) bool {
	for i := 0; i+1 < len(t); i++ {
		a, b := t[i], t[i+1]
		ends := a.kind == jsName || a.kind == jsNumber || a.kind == jsString || a.kind == jsTick || a.kind == jsPunct && (a.text == ")" || a.text == "]")
		starts := b.kind == jsName || b.kind == jsNumber || b.kind == jsString || b.kind == jsOpen && b.text[0] != '`'
		if ends && starts && !b.line && (a.text != ")" || b.kind != jsName) {
			return false
		}
		if a.kind == jsPunct && a.text == ")" && b.kind == jsName && !b.line && !jsStatement(t, i) {
			return false
		}
		if a.kind == jsPunct && b.kind == jsPunct && (a.text == "," && b.text == "," || a.text == "." && b.text == "." && (i+2 >= len(t) || t[i+2].text != ".") && (i == 0 || t[i-1].text != ".")) {
			return false
		}
		if a.kind == jsPunct && strings.Contains("#\\", a.text) {
			return false
		}
	}
	return true
}

// jsStatement says that the closing parenthesis at i belongs to if (…), for
// (…) or while (…), behind which a name may follow.
func jsStatement(t []jsToken, i int) bool {
	depth := 0
	for ; i >= 0; i-- {
		switch t[i].text {
		case ")":
			depth++
		case "(":
			if depth--; depth == 0 {
				return i > 0 && t[i-1].kind == jsKeyword
			}
		}
	}
	return true // opened by the page
}

// jsCalls are what injected script calls: it runs text as code, talks to the
// visitor to show that it can, or sends something away.
var jsCalls = set("alert", "confirm", "prompt", "eval", "setTimeout", "setInterval", "setImmediate", "Function", "fetch", "importScripts", "execScript",
	"print", "open", "write", "writeln", "XMLHttpRequest", "atob", "requestAnimationFrame", "createElement", "postMessage", "sendBeacon", "getScript", "require", "msSetImmediate", "generateCRMFRequest", "expression")

// jsGlobals are objects whose use by computed member or assignment gives
// script away.
var jsGlobals = set("window", "self", "top", "parent", "frames", "globalThis", "document", "location", "this", "navigator", "localStorage", "sessionStorage", "process")

// jsActs returns what a program of these tokens does that an attack would, or
// "".
func jsActs(t []jsToken) string {
	at := func(i int) jsToken {
		if i < 0 || i >= len(t) {
			return jsToken{}
		}
		return t[i]
	}
	for i := range t {
		x, n := t[i], at(i+1)
		if x.kind != jsName && x.kind != jsKeyword && !(x.kind == jsPunct && (x.text == "[" || x.text == ")" || x.text == "]")) {
			continue
		}
		opens := n.kind == jsTick || n.kind == jsPunct && n.text == "("
		switch {
		case jsCalls[x.text]:
			if x.text == "print" || x.text == "open" || x.text == "write" || x.text == "require" {
				// Words of everyday: only as a whole call by its
				// global name.
				if !(at(i-1).text == "." && jsGlobals[at(i-2).text]) && x.text != "require" {
					continue
				}
			}
			if opens && !(at(i+2).text == "s" && at(i+3).text == ")") {
				return "call"
			}
			// (alert)(1), alert?.(1), alert.call(…), [1].find(alert)
			if n.text == ")" && at(i-1).text == "(" && (at(i+2).text == "(" || at(i+2).kind == jsTick) {
				return "call"
			}
			if n.text == ")" && at(i-1).text == "(" && at(i-2).kind == jsName && at(i-3).text == "." {
				return "call"
			}
			if n.text == "?" && at(i+2).text == "." {
				return "call"
			}
			if n.text == "." && (at(i+2).text == "call" || at(i+2).text == "apply" || at(i+2).text == "bind" || at(i+2).text == "constructor" || at(i+2).text == "valueOf") {
				return "call"
			}
			if at(i-1).text == "=" && (n.text == ";" || n.text == "," || n.kind == jsEnd && at(i-2).text == "onerror") {
				return "call"
			}
		case x.text == "constructor" && (opens || n.text == "." && at(i+2).text == "constructor" || n.text == "["):
			return "constructor"
		case x.text == "import" && n.text == "(" && (at(i+2).kind == jsString || at(i+2).kind == jsTick):
			return "import"
		case x.text == "location" && n.text == "=" && at(i+2).text != "=" && at(i+2).kind != jsName && at(i+2).kind != jsNumber && at(i-1).text != "&",
			x.text == "location" && n.text == "." && (at(i+2).text == "href" || at(i+2).text == "hash" || at(i+2).text == "assign" || at(i+2).text == "replace" || at(i+2).text == "search"):
			return "location"
		case x.text == "document" && n.text == "." && (at(i+2).text == "cookie" || at(i+2).text == "domain" || at(i+2).text == "write" || at(i+2).text == "location" || at(i+2).text == "body" || at(i+2).text == "forms"):
			return "document"
		case x.text == "innerHTML" || x.text == "outerHTML" || x.text == "insertAdjacentHTML":
			if at(i-1).text == "." && (n.text == "=" || n.text == "(") {
				return "document"
			}
		case jsGlobals[x.text] && n.text == "[" && (at(i+2).kind == jsString || at(i+2).kind == jsTick || at(i+2).kind == jsName && at(i+3).text == "("):
			return "computed member"
		case x.text == "]" && n.kind == jsTick, x.text == "]" && n.text == "(" && at(i-1).kind == jsString:
			return "computed member"
		case (x.text == "__proto__" || x.text == "prototype") && (n.text == "." || n.text == "[" || n.text == "="):
			return "prototype"
		}
	}
	return ""
}

// maxScript is how many bytes behind a quote are read as a program.
const maxScript = 2 << 10

func judgeScript(text string, place Place, _ []string) string {
	if rest, ok := scriptURL(text); ok {
		if t := jsProgram(rest); len(t) > 1 && !harmlessScript(rest) && strings.ContainsAny(rest, "(`=;/[") {
			return "javascript: URL"
		}
	}
	if t := jsProgram(text); len(t) > 2 {
		if act := jsActs(t); act != "" {
			return act
		}
		if jsLoops(t) {
			return "statements"
		}
	}
	// 0;return true : a condition of a query in JavaScript, ended early.
	if i := strings.IndexByte(text, ';'); i >= 0 && i < 64 && jsReturns(jsScan(text[:min(len(text), i+64)])) {
		return "statements"
	}
	// Behind a quote that ends the page's string, or its escaped form: the
	// string is followed by an operator, or what is around it is closed.
	for _, q := range []byte{'\'', '"', '`'} {
		count := strings.Count(text, string(rune(q)))
		at := -1
		for n := range count {
			at += 1 + strings.IndexByte(text[at+1:], q)
			if n >= maxQuotes && n < count-maxQuotes {
				continue
			}
			rest := strings.TrimLeft(text[at+1:], " \t\r\n")
			if rest == "" || strings.IndexByte("-+*/%^&|;,)]}=?<>", rest[0]) < 0 {
				continue
			}
			t := jsProgram(rest[:min(len(rest), maxScript)])
			if len(t) < 3 {
				continue
			}
			if act := jsActs(t); act != "" {
				return act + " after a string"
			}
			if t[0].text == ";" && (jsReturns(t) || jsLoops(t) || len(t) > 4 && t[1].text == "sleep" && t[2].text == "(" && t[3].kind == jsNumber) {
				return "statements"
			}
		}
	}
	// </script> is judged as markup. Code within a template literal: ${…}.
	if i := strings.Index(text, "${"); i >= 0 {
		if t := jsProgram(text[i+2 : min(len(text), i+2+maxScript)]); t != nil {
			if act := jsActs(t); act != "" {
				return act + " in a template literal"
			}
		}
	}
	return ""
}

// jsReturns says that a statement that returns a constant follows a
// semicolon.
func jsReturns(t []jsToken) bool {
	for i := 0; i+3 < len(t); i++ {
		if t[i].text == ";" && t[i+1].text == "return" && i <= 2 {
			v := i + 2
			for t[v].text == "(" && v+1 < len(t) {
				v++
			}
			return t[v].text == "true" || t[v].text == "false" || t[v].kind == jsNumber || t[v].text == "!"
		}
	}
	return false
}

// jsLoops says that the tokens are statements of a program that waits or
// loops: what server-side JavaScript injection does where nothing comes back.
func jsLoops(t []jsToken) bool {
	loop, decl, semi := false, false, 0
	for i, x := range t {
		switch {
		case (x.text == "while" || x.text == "for") && i+1 < len(t) && t[i+1].text == "(":
			loop = true
		case x.text == "var" || x.text == "new" || x.text == "let":
			decl = true
		case x.text == ";":
			semi++
		}
	}
	return loop && decl && semi >= 2
}

// scriptURL returns what stands behind the scheme of a URL that browsers run,
// with what they drop (controls and spaces) dropped.
func scriptURL(s string) (string, bool) {
	name := make([]byte, 0, 16)
	for i := 0; i < len(s) && len(name) < 16; i++ {
		c := s[i]
		switch {
		case c <= ' ':
		case c == ':':
			switch string(name) {
			case "javascript", "vbscript", "livescript":
				return s[i+1:], true
			}
			return "", false
		case isAlnum(c):
			if isAlpha(c) {
				c |= 0x20
			}
			name = append(name, c)
		default:
			return "", false
		}
	}
	return "", false
}

// harmlessScript says that a javascript: URL does nothing to the visitor;
// pages use it where a link shall do nothing.
func harmlessScript(s string) bool {
	s = strings.Trim(s, " ;")
	switch s {
	case "", "void(0)", "void 0", "history.back()", "history.go(-1)", "//", "window.print()", "print()":
		return true
	}
	return false
}
