package pysyntax

import (
	"strconv"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/text/unicode/runenames"
)

// maxCharName bounds the text of \N{…}; the longest name has 88 characters.
const maxCharName = 128

// characterNamed returns the character of that Unicode name, as \N{…} means
// it: case does not count. Of the name aliases only those of control
// characters and a few others in wide use are known.
func characterNamed(name string) (rune, bool) {
	if len(name) > maxCharName {
		return 0, false
	}
	name = strings.ToUpper(name)
	if hex, ok := strings.CutPrefix(name, "CJK UNIFIED IDEOGRAPH-"); ok {
		v, err := strconv.ParseUint(hex, 16, 32)
		if err != nil || len(hex) < 4 || !unicode.Is(unicode.Unified_Ideograph, rune(v)) {
			return 0, false
		}
		return rune(v), true
	}
	if syllable, ok := strings.CutPrefix(name, "HANGUL SYLLABLE "); ok {
		return hangulNamed(syllable)
	}
	r, ok := charNames()[name]
	return r, ok
}

var charNames = sync.OnceValue(func() map[string]rune {
	names := make(map[string]rune, 40_000)
	for r := rune(0); r <= unicode.MaxRune; r++ {
		switch r { // ideographs, which are named by rule, and nothing
		case 0x20000:
			r = 0x2F800
		case 0x30000:
			r = 0xE0000
		}
		if n := runenames.Name(r); n != "" && n[0] != '<' {
			names[n] = r
		}
	}
	for n, r := range charAliases {
		names[n] = r
	}
	return names
})

// hangulNamed composes a syllable from the short names of its Jamo
// (The Unicode Standard, 3.12).
func hangulNamed(name string) (rune, bool) {
	for l, lead := range jamoLead {
		rest, ok := strings.CutPrefix(name, lead)
		if !ok {
			continue
		}
		for v, vowel := range jamoVowel {
			trail, ok := strings.CutPrefix(rest, vowel)
			if !ok {
				continue
			}
			for t, s := range jamoTrail {
				if s == trail {
					return rune(0xAC00 + (l*len(jamoVowel)+v)*len(jamoTrail) + t), true
				}
			}
		}
	}
	return 0, false
}

var (
	jamoLead  = strings.Split("G GG N D DD R M B BB S SS  J JJ C K T P H", " ")
	jamoVowel = strings.Split("A AE YA YAE EO E YEO YE O WA WAE OE YO U WEO WE WI YU EU YI I", " ")
	jamoTrail = strings.Split(" G GG GS N NJ NH D L LG LM LB LS LT LP LH M B BS S SS NG J C K T P H", " ")
)

// charAliases are names from the Unicode file NameAliases.txt.
var charAliases = map[string]rune{
	"NULL": 0, "NUL": 0, "START OF HEADING": 1, "SOH": 1, "START OF TEXT": 2, "STX": 2, "END OF TEXT": 3, "ETX": 3,
	"END OF TRANSMISSION": 4, "EOT": 4, "ENQUIRY": 5, "ENQ": 5, "ACKNOWLEDGE": 6, "ACK": 6, "ALERT": 7, "BEL": 7,
	"BACKSPACE": 8, "BS": 8, "CHARACTER TABULATION": 9, "HORIZONTAL TABULATION": 9, "HT": 9, "TAB": 9,
	"LINE FEED": 10, "NEW LINE": 10, "END OF LINE": 10, "LF": 10, "NL": 10, "EOL": 10,
	"LINE TABULATION": 11, "VERTICAL TABULATION": 11, "VT": 11, "FORM FEED": 12, "FF": 12, "CARRIAGE RETURN": 13, "CR": 13,
	"SHIFT OUT": 14, "LOCKING-SHIFT ONE": 14, "SO": 14, "SHIFT IN": 15, "LOCKING-SHIFT ZERO": 15, "SI": 15,
	"DATA LINK ESCAPE": 16, "DLE": 16, "DEVICE CONTROL ONE": 17, "DC1": 17, "DEVICE CONTROL TWO": 18, "DC2": 18,
	"DEVICE CONTROL THREE": 19, "DC3": 19, "DEVICE CONTROL FOUR": 20, "DC4": 20, "NEGATIVE ACKNOWLEDGE": 21, "NAK": 21,
	"SYNCHRONOUS IDLE": 22, "SYN": 22, "END OF TRANSMISSION BLOCK": 23, "ETB": 23, "CANCEL": 24, "CAN": 24,
	"END OF MEDIUM": 25, "EOM": 25, "EM": 25, "SUBSTITUTE": 26, "SUB": 26, "ESCAPE": 27, "ESC": 27,
	"INFORMATION SEPARATOR FOUR": 28, "FILE SEPARATOR": 28, "FS": 28, "INFORMATION SEPARATOR THREE": 29, "GROUP SEPARATOR": 29, "GS": 29,
	"INFORMATION SEPARATOR TWO": 30, "RECORD SEPARATOR": 30, "RS": 30, "INFORMATION SEPARATOR ONE": 31, "UNIT SEPARATOR": 31, "US": 31,
	"SP": 32, "DELETE": 127, "DEL": 127, "NEXT LINE": 0x85, "NEL": 0x85, "NBSP": 0xA0, "SHY": 0xAD,
	"CGJ": 0x34F, "ALM": 0x61C, "ZWSP": 0x200B, "ZWNJ": 0x200C, "ZWJ": 0x200D, "LRM": 0x200E, "RLM": 0x200F,
	"LRE": 0x202A, "RLE": 0x202B, "PDF": 0x202C, "LRO": 0x202D, "RLO": 0x202E, "NNBSP": 0x202F, "MMSP": 0x205F, "WJ": 0x2060,
	"LRI": 0x2066, "RLI": 0x2067, "FSI": 0x2068, "PDI": 0x2069,
	"BYTE ORDER MARK": 0xFEFF, "BOM": 0xFEFF, "ZERO WIDTH NO-BREAK SPACE": 0xFEFF, "ZWNBSP": 0xFEFF,
}
