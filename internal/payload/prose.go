package payload

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Prose says that a text is words, numbers and the punctuation of sentences,
// addresses of people included, and that no judge finds structure in it. It is
// true of much that word lists take for attacks, and of nothing that an
// interpreter would read as more than words: quotes stand only inside words
// or around them in pairs, a sign only at the end of a word, before a space;
// the words are no expression of SQL and no line is a command. Characters that
// some decoder takes for those of ASCII (full-width forms, other quotes and
// spaces) count as these.
func Prose(text string) bool {
	if len(text) == 0 || len(text) > MaxText || !utf8.ValidString(text) {
		return false
	}
	if strings.IndexByte(text, '%') >= 0 && !percentages(text) {
		// Prose that was percent-encoded once more.
		plain, ok := unwrapURL(text, false)
		return ok && strings.IndexByte(plain, '%') < 0 && Prose(plain) && Judge(text, Text) == nil
	}
	// Typographic quotes are honest around words, but not what becomes of
	// them in an old character set.
	if quotes := foldASCII(text, true); quotes != text && Judge(quotes, Text) != nil {
		return false
	}
	text = foldASCII(text, false)
	words := 0
	open := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		prev, next := byte(' '), byte(' ')
		if i > 0 {
			prev = text[i-1]
		}
		if i+1 < len(text) {
			next = text[i+1]
		}
		switch {
		case isAlnum(c) || c >= 0x80:
			if i == 0 || !isAlnum(prev) && prev < 0x80 {
				words++
			}
		case c == ' ':
		case c == '\n' || c == '\r' || c == '\t':
		case c == ',' || c == '!' || c == '?' || c == ':' || c == '.':
			// Ends a word; a dot or comma may stand within a number or an
			// address.
			if !isSpace(next) && next != c && !(isAlnum(prev) && isAlnum(next) && (c == '.' || c == ',')) && next != ')' && next != '"' {
				return false
			}
		case c == ';':
			if !isAlpha(prev) && prev < 0x80 || next != ' ' {
				return false
			}
		case c == '%': // percentages has looked at it
		case c == '\'' || c == '-':
			if !(isAlpha(prev) || prev >= 0x80) || !(isAlpha(next) || next >= 0x80) {
				if !(c == '-' && isAlnum(prev) && isAlnum(next)) && !(c == '-' && prev == ' ' && next == ' ') {
					return false
				}
			}
		case c == '&':
			// Between the names of people who trade together: Lee & Sons. A
			// shell runs what stands behind one, whatever its case on Windows.
			word, _, _ := strings.Cut(text[min(i+2, len(text)):], " ")
			if prev != ' ' || next != ' ' || i < 2 || !isAlpha(text[i-2]) && text[i-2] < 0x80 || word == "" || word[0] < 'A' || word[0] > 'Z' || shellCommands[strings.ToLower(word)] {
				return false
			}
		case c == '@' || c == '+' || c == '_':
			if !isAlnum(prev) || !isAlnum(next) {
				return false
			}
		case c == '(':
			if prev != ' ' || !isAlnum(next) && next < 0x80 {
				return false
			}
			open++
		case c == ')':
			if open == 0 {
				return false
			}
			open--
		default:
			return false
		}
	}
	return words > 0 && open == 0 && !sqlInWords(text) && !commandLines(text) && Judge(text, Text) == nil
}

// percentages says that every percent sign stands behind a number and before a
// space, the end of a clause or of the text: it encodes nothing.
func percentages(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			continue
		}
		if i == 0 || text[i-1] < '0' || text[i-1] > '9' {
			return false
		}
		if i+1 < len(text) && !isSpace(text[i+1]) && strings.IndexByte(",.!?)", text[i+1]) < 0 {
			return false
		}
	}
	return true
}

// foldASCII writes the characters that some decoder takes for those of ASCII
// as these: full-width forms, spaces and line ends, brackets, the modifier
// apostrophe; with quotes also the quotes of typography.
func foldASCII(s string, quotes bool) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r < 0x80:
			return r
		case r >= 0xFF01 && r <= 0xFF5E:
			return r - 0xFF01 + '!'
		case r == 0x2028, r == 0x2029, r == 0x85:
			return '\n'
		case unicode.IsSpace(r), r >= 0x200B && r <= 0x200D, r == 0x2060, r == 0xFEFF, r == 0xAD:
			return ' '
		case r == 0x2BC, r == 0x2B9, r == 0x2C8, r == 0x2032, r == 0x2035:
			return '\''
		case r == 0x2BA, r == 0x2033:
			return '"'
		case r == 0x2039, r == 0x2329, r == 0x3008, r == 0xFE64:
			return '<'
		case r == 0x203A, r == 0x232A, r == 0x3009, r == 0xFE65:
			return '>'
		case r == 0x37E:
			return ';'
		case r == 0x2044, r == 0x2215:
			return '/'
		case quotes && r >= 0x2018 && r <= 0x201B:
			return '\''
		case quotes && r >= 0x201C && r <= 0x201F:
			return '"'
		}
		return r
	}, s)
}

// sqlInWords says that words alone, without a sign, change a statement into
// which they are put bare: they are an expression as a whole ("null or true",
// "0 or id between 1 and 9"), begin another query, or are a second statement
// behind a number, which SQL Server runs.
func sqlInWords(text string) bool {
	// A percentage is a remainder there: with "or" and "and" it is a condition.
	percent := strings.IndexByte(text, '%') >= 0
	buf := sqlBuffers.Get().(*[]sqlToken)
	defer sqlBuffers.Put(buf)
	tokens, _ := sqlScan((*buf)[:0], text, 0, maxTokens)
	*buf = tokens
	for i := 0; i+1 < len(tokens); i++ {
		switch tokens[i].text {
		case "OR", "AND", "XOR":
			if percent {
				return true
			}
		case "UNION", "INTERSECT", "EXCEPT", "MINUS":
			n := tokens[i+1].text
			if (n == "ALL" || n == "DISTINCT" || n == "DISTINCTROW") && i+2 < len(tokens) {
				n = tokens[i+2].text
			}
			if n == "SELECT" || n == "VALUES" || n == "TABLE" {
				return true
			}
		}
	}
	if tokens[0].kind == sqlNumber && len(tokens) > 1 {
		switch tokens[1].text {
		case "SELECT", "INSERT", "UPDATE", "DELETE", "DROP", "EXEC", "EXECUTE", "SHUTDOWN", "DECLARE", "WAITFOR", "TRUNCATE", "ALTER", "CREATE", "GRANT", "MERGE":
			return true
		}
	}
	return sqlExpression(tokens)
}

// sqlExpression says that all tokens are one expression of names, numbers and
// operators. Alternatives of names alone ("Ann or Ben") are none: something
// must compare, negate or be a constant, and a number is one beside OR.
func sqlExpression(t []sqlToken) bool {
	telling, operators, number, logic := false, 0, false, false
	t = slices.DeleteFunc(t, func(x sqlToken) bool { return x.text == "(" || x.text == ")" })
	if len(t) == 0 {
		return false
	}
	i := 0
	at := func() string { return strings.ToUpper(t[min(i, len(t)-1)].text) }
	for {
		for at() == "NOT" || at() == "BINARY" {
			telling = true
			i++
		}
		for t[min(i, len(t)-1)].kind == sqlOp {
			i++ // a sign
		}
		if t[min(i, len(t)-1)].kind != sqlWord && t[min(i, len(t)-1)].kind != sqlNumber {
			return false
		}
		number = number || t[i].kind == sqlNumber
		if w := at(); w == "NULL" || w == "TRUE" || w == "FALSE" {
			telling = true
		}
		i++
		for at() == "." && i+1 < len(t) && t[i+1].kind == sqlWord {
			i += 2
		}
		if t[min(i, len(t)-1)].kind == sqlEnd {
			return (telling || number && logic) && operators > 0
		}
		switch w := at(); w {
		case "ORDER", "GROUP", "LIMIT", "OFFSET", "HAVING", "ISNULL", "NOTNULL", ";":
			// A clause of the statement's, or its end.
			n := t[min(i+1, len(t)-1)]
			return (telling || number && logic) && operators > 0 && (w != ";" || n.kind == sqlEnd) || n.text == "BY" || w != ";" && n.kind == sqlNumber || w == "ISNULL" || w == "NOTNULL"
		}
		if at() == "NOT" { // NOT LIKE, NOT IN, NOT BETWEEN
			i++
		}
		switch at() {
		case "BETWEEN":
			telling = true
			if i+1 < len(t) && (t[i+1].text == "SYMMETRIC" || t[i+1].text == "ASYMMETRIC") {
				i++
			}
		case "OR", "AND":
			logic = true
		case ",", "?":
		case ":":
			i++ // a cast
		case "SIMILAR", "OVERLAPS", "ILIKE", "IN", "SOUNDS":
			telling = true
		case "XOR", "LIKE", "RLIKE", "REGEXP", "GLOB", "DIV", "MOD", "IS", "COLLATE":
			telling = true
		default:
			if t[min(i, len(t)-1)].kind != sqlOp {
				return false
			}
		}
		operators++
		i++
		for at() == "TO" {
			i++ // SIMILAR TO
		}
	}
}

// commandLines says that a line is a command that a sentence would not be:
// behind another line, a program's name with little or nothing behind it;
// anywhere, one with an address or a file as all of its arguments. Behind a
// semicolon, too, one that needs no argument is a command alone. What stands
// behind a line break is no prose at all where it begins like a command of a
// shell or of a protocol: [Inert] then asks for each kind.
func commandLines(text string) bool {
	if !headerInert(text) {
		return true
	}
	for n, line := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if n == 0 && text[0] != '\n' && text[0] != '\r' {
			continue
		}
		if !noCommand(line, '\n') {
			return true
		}
	}
	for n, clause := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' || r == ';' }) {
		if n > 0 && endless[strings.TrimSpace(clause)] {
			return true
		}
	}
	for n, line := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		words := strings.Fields(line)
		if len(words) == 0 || len(words) > 2 || !shellCommands[words[0]] || ambiguous[words[0]] {
			continue
		}
		if n > 0 || len(words) == 2 && strings.IndexByte(strings.TrimRight(words[1], ".!?"), '.') > 0 {
			return true
		}
	}
	return false
}
