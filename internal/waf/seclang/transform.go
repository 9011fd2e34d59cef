package seclang

// charset says which kinds of bytes are in a text.
type charset uint32

const (
	hasNUL charset = 1 << iota
	hasSpace
	hasWhite // tab, line feed, vertical tab, form feed, carriage return
	hasPercent
	hasPlus
	hasBackslash
	hasAmpersand
	hasUpper
	hasLower
	hasHigh // above ASCII
	hasSlash
	hasDot
	hasQuote
	hasCaret
	hasComma // or semicolon
	hasParen // opening
	hasLess
	hasDash
	hasHash
	hasStar
	hasColon
	hasDigit
	hasUnderscore
	hasEquals
	hasOther

	anything charset = 1<<31 - 1
)

var charsets = func() (t [256]charset) {
	for c := range t {
		switch {
		case c == 0:
			t[c] = hasNUL
		case c >= 0x80:
			t[c] = hasHigh
		case 'A' <= c && c <= 'Z':
			t[c] = hasUpper
		case 'a' <= c && c <= 'z':
			t[c] = hasLower
		case '0' <= c && c <= '9':
			t[c] = hasDigit
		default:
			t[c] = hasOther
		}
	}
	for c, k := range map[byte]charset{
		' ': hasSpace, '\t': hasWhite, '\n': hasWhite, '\v': hasWhite, '\f': hasWhite, '\r': hasWhite,
		'%': hasPercent, '+': hasPlus, '\\': hasBackslash, '&': hasAmpersand, '/': hasSlash, '.': hasDot,
		'"': hasQuote, '\'': hasQuote, '^': hasCaret, ',': hasComma, ';': hasComma, '(': hasParen, '<': hasLess,
		'-': hasDash, '#': hasHash, '*': hasStar, ':': hasColon, '_': hasUnderscore, '=': hasEquals,
	} {
		t[c] = k
	}
	return t
}()

func charsetOf(s string) charset {
	var c charset
	for i := 0; i < len(s); i++ {
		c |= charsets[s[i]]
	}
	return c
}

// triggers are Coraza's transformations by the name of their function, with
// the bytes of which a value must hold one for the transformation to change
// it. A transformation that is not here is one that this package does not
// know.
var triggers = map[string]charset{
	"none":               0,
	"base64decode":       anything,
	"base64decodeext":    anything,
	"base64encode":       anything,
	"cmdLine":            hasUpper | hasQuote | hasBackslash | hasCaret | hasSpace | hasComma | hasWhite | hasSlash | hasParen,
	"compressWhitespace": hasSpace | hasWhite | hasHigh,
	"cssDecode":          hasBackslash,
	"escapeSeqDecode":    hasBackslash,
	"hexDecode":          anything,
	"hexEncode":          anything,
	"htmlEntityDecode":   hasAmpersand,
	"jsDecode":           hasBackslash,
	"length":             anything,
	"lowerCase":          hasUpper | hasHigh,
	"md5T":               anything,
	"normalisePath":      hasSlash | hasDot,
	"normalisePathWin":   hasSlash | hasDot | hasBackslash | hasColon | hasSpace,
	"removeComments":     hasSlash | hasLess | hasDash | hasHash,
	"removeCommentsChar": hasSlash | hasStar | hasLess | hasDash | hasHash,
	"removeNulls":        hasNUL,
	"removeWhitespace":   hasSpace | hasWhite | hasHigh,
	"replaceComments":    hasSlash,
	"replaceNulls":       hasNUL,
	"sha1T":              anything,
	"upperCase":          hasLower | hasHigh,
	"urlDecode":          hasPercent | hasPlus,
	"urlDecodeUni":       hasPercent | hasPlus,
	"urlEncode":          anything,
	"utf8ToUnicode":      hasHigh,
	"trim":               hasSpace | hasWhite,
	"trimLeft":           hasSpace | hasWhite,
	"trimRight":          hasSpace | hasWhite,
}

// quick are transformations that are slow in Coraza, written anew for texts of
// ASCII.
var quick = map[string]func(string) string{
	"removeWhitespace": func(s string) string {
		b := make([]byte, 0, len(s))
		for i := 0; i < len(s); i++ {
			if charsets[s[i]]&(hasSpace|hasWhite) == 0 {
				b = append(b, s[i])
			}
		}
		return string(b)
	},
	"lowerCase": func(s string) string {
		b := []byte(s)
		for i, c := range b {
			if 'A' <= c && c <= 'Z' {
				b[i] = c + 'a' - 'A'
			}
		}
		return string(b)
	},
}

// same says of some transformations, beyond their triggers, that they leave a
// text as it is: a path of one part stays.
var same = map[string]func(text string, set charset) bool{
	"normalisePath": func(text string, set charset) bool { return set&hasSlash == 0 && text != "." },
	"normalisePathWin": func(text string, set charset) bool {
		if text == "" || set&(hasSlash|hasBackslash|hasColon) != 0 {
			return text == ""
		}
		last := text[len(text)-1]
		return last != '.' && last != ' '
	},
}
