package payload

import "strings"

// Why a text is nothing to a browser: it begins no tag, adds no attribute that
// runs or loads something, is no URL that does, and read as JavaScript, from
// its beginning or behind a quote, it does not parse, so that the whole script
// around it does not run.

// htmlInert: no tags but those that set text, no attribute, no URL of a scheme
// that holds code.
func htmlInert(s string) bool {
	for i := 0; i+1 < len(s); i++ {
		if s[i] != '<' {
			continue
		}
		c := s[i+1]
		if c == '!' || c == '?' || c == '%' {
			return false
		}
		if c == '/' {
			if i+2 >= len(s) {
				return false
			}
			if !isAlpha(s[i+2]) {
				continue // a comment to browsers, of words
			}
		} else if !isAlpha(c) {
			continue
		}
		end := strings.IndexByte(s[i:], '>')
		if end < 0 || !textTags[strings.ToLower(strings.Trim(s[i+1:i+end], "/ "))] {
			return false
		}
	}
	for i := 1; i < len(s); i++ {
		if s[i] == '=' && activeAttribute(s[:i]) {
			return false
		}
	}
	return urlInert(s)
}

// textTags are tags without attributes that say how text looks.
var textTags = set("b", "i", "u", "s", "p", "br", "hr", "em", "strong", "small", "big", "sub", "sup", "code", "pre", "kbd", "samp", "tt", "ul", "ol", "li", "dl", "dt", "dd", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "td", "th", "div", "span", "del", "ins", "mark", "cite", "q", "abbr", "center")

// activeAttribute says that a text ends with the name of an attribute that
// runs or loads something.
func activeAttribute(s string) bool {
	s = strings.TrimRight(s, " \t\r\n/")
	i := len(s)
	for i > 0 && (isAlnum(s[i-1]) || strings.IndexByte("-:_", s[i-1]) >= 0) && len(s)-i < 40 {
		i--
	}
	name := strings.ToLower(s[i:])
	return len(name) > 4 && strings.HasPrefix(name, "on") || urlAttributes[name] || name == "style" || name == "srcdoc" || name == "srcset" || name == "http-equiv" || name == "attributename" || strings.Contains(name, ":")
}

// urlInert: as the address of a link the text runs nothing.
func urlInert(s string) bool {
	// Behind a space, too: a filter may leave the rest of an attribute.
	l := strings.ToLower(s)
	for _, name := range []string{"javascript:", "vbscript:"} {
		for from := 0; ; {
			i := strings.Index(l[from:], name)
			if i < 0 {
				break
			}
			from += i + len(name)
			if !jsBreaks(s[from:], false) {
				return false
			}
		}
	}
	var scheme []byte
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c <= ' ':
		case c == ':':
			switch strings.ToLower(string(scheme)) {
			case "javascript", "vbscript", "livescript", "mocha", "view-source", "blob", "filesystem", "jar":
				return jsBreaks(s[i+1:], false)
			case "data":
				return mediaURL(s)
			}
			return true
		case isAlnum(c) || c == '+' || c == '-' || c == '.':
			scheme = append(scheme, c)
		default:
			return true
		}
	}
	return true
}

// mediaURL says that a text is a picture, a sound or a font in a URL, wrapped
// in Base64 as a whole: browsers show it and run nothing of it.
func mediaURL(s string) bool {
	head, rest, ok := strings.Cut(s, ";base64,")
	kind, ok2 := strings.CutPrefix(strings.ToLower(strings.TrimSpace(head)), "data:")
	if !ok || !ok2 {
		return false
	}
	switch kind {
	case "image/png", "image/gif", "image/jpeg", "image/jpg", "image/webp", "image/avif", "image/bmp", "image/x-icon", "audio/wav", "audio/wave", "audio/mpeg", "audio/ogg", "video/mp4", "video/webm", "font/woff", "font/woff2", "font/ttf", "application/font-woff", "application/x-font-woff", "application/x-font-ttf":
	default:
		return false
	}
	return strings.Trim(rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=\r\n ") == ""
}

// scriptInert: wherever it stands in a page's script, the script does not
// parse, or the text stays in its string.
func scriptInert(s string) bool {
	for rest := s; ; {
		// In a template literal a name is put in, which runs nothing.
		_, after, ok := strings.Cut(rest, "${")
		if !ok {
			break
		}
		name, _, closed := strings.Cut(after, "}")
		if !closed || !dottedName(name) {
			return false
		}
		rest = after
	}
	if l := strings.ToLower(s); strings.Contains(l, "</s") || strings.Contains(s, "/*") || strings.Contains(s, "<!--") || strings.Contains(s, "-->") || strings.HasSuffix(s, `\`) || strings.Contains(s, `\'`) || strings.Contains(s, `\"`) || strings.Contains(s, "\\`") || !urlInert(s) {
		return false
	}
	if mediaURL(s) {
		return true // one letter would be a name, none is a call
	}
	if !sqlOperand(s) && !jsBreaks(s, false) {
		return false
	}
	if !linesInert(s) {
		return false
	}
	for i, quotes := 0, 0; i < len(s); i++ {
		if s[i] != '\'' && s[i] != '"' && s[i] != '`' {
			continue
		}
		if quotes++; quotes > 64 || !jsBreaks(s[i+1:], true) {
			return false
		}
	}
	return true
}

// linesInert says that a text behind an app's own "//", which ends with the
// line, leaves no program: from each further line on the rest does not parse,
// or has nothing that calls, sets or loads.
func linesInert(s string) bool {
	if strings.IndexByte(s, '\n') < 0 && strings.IndexByte(s, '\r') < 0 && !strings.Contains(s, "\u2028") && !strings.Contains(s, "\u2029") {
		return true
	}
	s = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u2028", "\n", "\u2029", "\n").Replace(s)
	for n := 0; ; n++ {
		_, rest, more := strings.Cut(s, "\n")
		if !more {
			return true
		}
		if s = rest; n >= 512 || !jsIdle(rest) && !jsBreaks(rest, false) {
			return false
		}
	}
}

// jsIdle says that a program, if a text were one, would do nothing.
func jsIdle(s string) bool {
	if strings.ContainsAny(s, "(=[`\\") {
		return false
	}
	for w := range strings.FieldsFuncSeq(s, func(r rune) bool { return r < 0x80 && !isWord(byte(r)) && r != '$' }) {
		switch w {
		case "new", "import", "export", "throw", "delete", "debugger", "await", "yield":
			return false
		}
	}
	return true
}

// dottedName says that a text is names with dots between them.
func dottedName(s string) bool {
	for name := range strings.SplitSeq(s, ".") {
		if name == "" || !isAlpha(name[0]) || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" || strings.Contains(name, "__") {
			return false
		}
	}
	return true
}

// codeInert: no opening of PHP or of a page that a server runs, no serialised
// object. As an expression of a language with JavaScript's grammar it does not
// parse, by scriptInert. Python has statements of words, so a line must not begin like one.
func codeInert(s string) bool {
	if strings.Contains(s, "<?") || strings.Contains(s, "<%") || strings.Contains(s, "<jsp") || strings.Contains(s, "__") || strings.Contains(s, "#{") || strings.Contains(s, "rO0AB") {
		return false
	}
	if strings.ContainsAny(s, "(`") || strings.Contains(s, "import") {
		for line := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '\n' || r == '\r' || r == ';' || r == ':' }) {
			if f := strings.Fields(line); len(f) > 1 && pythonWords[f[0]] {
				return false
			}
		}
	}
	return true
}

var pythonWords = set("import", "from", "def", "class", "lambda", "exec", "print", "echo", "include", "require", "system", "return", "assert", "raise", "yield", "await", "async", "puts", "eval", "del", "global")

// jsBreaks says that two tokens of s stand beside each other that no script
// has. behind says that a string has ended before it.
func jsBreaks(s string, behind bool) bool {
	for _, most := range []int{96, 1024} {
		head := s[:min(len(s), most)]
		if jsClashes(head, behind, len(head) < len(s)) {
			return true
		}
		if len(head) == len(s) {
			break
		}
	}
	return false
}

// jsClashes is jsBreaks for a piece of a text, of which the last tokens may be
// cut.
func jsClashes(s string, behind, part bool) bool {
	t := jsScan(s)
	if part {
		t = append(t[:max(0, len(t)-3)], jsToken{kind: jsEnd})
	}
	if behind {
		t = append([]jsToken{{kind: jsString, text: "''"}}, t...)
	}
	for i := 0; i+1 < len(t); i++ {
		a, b := t[i], t[i+1]
		if b.kind == jsEnd || b.kind == jsOpen && b.text[0] == '`' {
			return false
		}
		ends := a.kind == jsName || a.kind == jsNumber || a.kind == jsString || a.kind == jsPunct && (a.text == ")" || a.text == "]" || a.text == "}")
		if b.text == "/" && !ends && !(a.kind == jsTick) {
			return false // a regular expression begins
		}
		if i == 0 && a.text == "/" {
			return false
		}
		value := a.kind == jsName || a.kind == jsNumber || a.kind == jsString
		if value && !b.line && (b.kind == jsName && !jsContextual[a.text] && !jsContextual[b.text] || b.kind == jsNumber || b.kind == jsString || b.kind == jsOpen) {
			return true
		}
		if value && b.text == "{" && !b.line && (i == 0 || t[i-1].kind != jsKeyword) && !jsContextual[a.text] {
			return true
		}
		// A comment, or a line that begins with one, hides what follows.
		if b.kind == jsComment || a.kind == jsPunct && (a.text == "\\" || a.text == "#") {
			return false
		}
	}
	return false
}

// jsContextual are names behind which another one may stand.
var jsContextual = set("async", "get", "set", "static", "of", "as", "from", "let", "type", "using", "accessor", "meta")
