package payload

import "strings"

// Prose says that a text is words, numbers and the punctuation of sentences,
// addresses of people included, and that no judge finds structure in it. It is
// true of much that word lists take for attacks, and of nothing that an
// interpreter would read as more than words: quotes stand only inside words
// or around them in pairs, a sign only at the end of a word, before a space.
func Prose(text string) bool {
	if len(text) == 0 || len(text) > MaxText {
		return false
	}
	if strings.IndexByte(text, '%') >= 0 {
		// Prose that was percent-encoded once more.
		plain, ok := unwrapURL(text, false)
		return ok && strings.IndexByte(plain, '%') < 0 && Prose(plain) && Judge(text, Text) == nil
	}
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
		case c == '\'' || c == '-':
			if !(isAlpha(prev) || prev >= 0x80) || !(isAlpha(next) || next >= 0x80) {
				if !(c == '-' && isAlnum(prev) && isAlnum(next)) && !(c == '-' && prev == ' ' && next == ' ') {
					return false
				}
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
		case c == '"':
			return false
		default:
			return false
		}
	}
	return words > 0 && open == 0 && Judge(text, Text) == nil
}
