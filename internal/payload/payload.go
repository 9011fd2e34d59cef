// Package payload asks of a text what it would become: whether some
// interpreter behind the app (a database, a shell, a browser, a template
// engine, a file system, an XML parser) would read structure in it where the
// app means to put plain data.
//
//	for _, f := range payload.Judge(value, payload.Text) {
//		fmt.Println(f.Kind, f.Shape) // sql tautology
//	}
//
// A signature asks for words; a judge asks for grammar. "Union was a great
// select" has the words and no grammar. Each judge cuts the text into the
// tokens of its language, in each of the positions in which an app might put
// it (bare, inside a quoted string, inside an attribute), and names the
// construct it found, or finds none. It runs nothing and has no scores.
//
// # Decoding
//
// A text may be wrapped: percent-encoded once more, HTML character
// references, JavaScript escapes, Base64. [Judge] looks at the text and at
// what unwrapping yields, at most three layers deep and eight forms in all;
// [Finding.Through] names the layers. Base64 counts only when the whole text
// is that and what comes out is text.
//
// # Data
//
// [Inert] says of which interpreters a text is certain to be nothing but data,
// and why in its code: the text breaks the statement, script or expression it
// would be put into, no word of it stands where a command would, its path leads
// nowhere. [Judge] is silent when in doubt, Inert is not believed when in doubt.
//
// # Prose
//
// [Prose] says that a text is words and the punctuation of sentences, in
// which no judge finds structure. Rules that go by words, such as those of
// the OWASP Core Rule Set at paranoia level 1, refuse some honest prose; a
// caller may let such a refusal go.
//
// # Bounds
//
// A text is looked at up to [MaxText] bytes; callers refuse longer ones or let
// them go. Padding (the same byte many times over) is skipped, and what is
// left is judged in pieces that overlap. Every judge takes time linear in its
// piece times a small constant: tokens are made once for each position, and
// nothing goes back over them more than a bounded number of times. A text
// without any character that could begin a structure costs one table lookup
// for each byte and allocates nothing.
package payload

import "slices"

// MaxText is how many bytes of a text are looked at.
const MaxText = 256 << 10

// Texts longer than a piece are judged in pieces that share an overlap, so
// that a structure shorter than that is whole in one of them.
const (
	piece   = 8 << 10
	overlap = 1 << 10
)

// Kind is the interpreter that would read structure in a text.
type Kind uint8

// The kinds, with the weakness (CWE) of the app that lets them through.
const (
	SQL      Kind = iota + 1 // CWE-89
	NoSQL                    // CWE-943
	Shell                    // CWE-78
	Code                     // CWE-94 and CWE-502: Python, PHP, Java, serialised objects
	HTML                     // CWE-79: markup that runs script or loads something
	Script                   // CWE-79: JavaScript
	Template                 // CWE-1336
	Path                     // CWE-22
	LDAP                     // CWE-90
	XML                      // CWE-611: document types, entities, server-side includes
	Header                   // CWE-113 and CWE-93: lines of HTTP, SMTP or IMAP
	kinds
)

var kindNames = [kinds]string{"", "sql", "nosql", "shell", "code", "html", "script", "template", "path", "ldap", "xml", "header"}

// String returns the kind's name in settings and logs.
func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return "unknown"
}

// ParseKind is the inverse of [Kind.String].
func ParseKind(name string) (Kind, bool) {
	i := slices.Index(kindNames[:], name)
	return Kind(max(i, 0)), i > 0
}

// Kinds is a set of kinds.
type Kinds uint16

// KindsOf returns the set of the kinds given.
func KindsOf(list ...Kind) (s Kinds) {
	for _, k := range list {
		s |= 1 << k
	}
	return s
}

// Has says whether k is in the set.
func (s Kinds) Has(k Kind) bool { return s&(1<<k) != 0 }

// All is every kind.
const All Kinds = 1<<kinds - 2

// Place is where in a request a text stood.
type Place uint8

// The places. In a path or a header a line break is never honest; a body that
// is a text of its own (a comment, an article) may hold many lines.
const (
	Text     Place = iota // a parameter of a query, form or JSON body
	Segment               // the path of the URL
	Name                  // the name of a parameter
	Field                 // a header's or cookie's value
	Document              // a whole body
)

// Finding is one structure.
type Finding struct {
	Kind Kind
	// Shape names the construct in a few words, fixed for each kind:
	// "tautology", "event handler", "command after separator".
	Shape string
	// Through lists what had to be unwrapped to see it, outermost first:
	// "url", "html", "escape", "base64".
	Through []string
	// Text is the form in which it was seen, cut to 120 bytes. It quotes
	// the request and may hold secrets.
	Text string
}

// Judge returns the structures in text, the first of each kind; nil where
// there are none.
func Judge(text string, place Place) []Finding { return JudgeKinds(text, place, All) }

// JudgeKinds is [Judge] for some kinds only: what is known of where a value
// goes says which interpreters can meet it.
func JudgeKinds(text string, place Place, among Kinds) []Finding {
	if len(text) > MaxText {
		text = text[:MaxText]
	}
	var found []Finding
	var seen Kinds
	if len(text) <= piece {
		return judgePiece(nil, &seen, text, place, among)
	}
	if marksOf(text) == 0 {
		return nil
	}
	text = unpad(text)
	for from := 0; ; from += piece - overlap {
		found = judgePiece(found, &seen, text[from:min(len(text), from+piece)], place, among)
		if from+piece >= len(text) {
			return found
		}
	}
}

// unpad shortens long runs of one byte, which only push what matters out of
// sight.
func unpad(s string) string {
	const keep = 16
	b := make([]byte, 0, len(s))
	run := 0
	for i := range len(s) {
		if i > 0 && s[i] == s[i-1] {
			run++
		} else {
			run = 0
		}
		if run < keep {
			b = append(b, s[i])
		}
	}
	return string(b)
}

func judgePiece(found []Finding, seen *Kinds, text string, place Place, among Kinds) []Finding {
	m := marksOf(text)
	if m == 0 {
		return found
	}
	if m&markWrapped == 0 && (m&markSpace != 0 && !spacedBase64(text) || m&markPlain64 == 0) {
		return judgeForm(found, seen, form{text: text}, m, place, among)
	}
	for _, form := range unwrap(text) {
		if m := marksOf(form.text); m != 0 {
			found = judgeForm(found, seen, form, m, place, among)
		}
	}
	return found
}

// judgeForm asks the judges whose marks occur in one form of a text.
func judgeForm(found []Finding, seen *Kinds, form form, m marks, place Place, among Kinds) []Finding {
	for _, j := range judges {
		if !among.Has(j.kind) || seen.Has(j.kind) || m&j.needs == 0 {
			continue
		}
		if shape := j.judge(form.text, place, form.through); shape != "" {
			*seen |= 1 << j.kind
			found = append(found, Finding{Kind: j.kind, Shape: shape, Through: form.through, Text: cut(form.text, 120)})
		}
	}
	return found
}

// A judge looks for one kind. It is not asked about texts in which none of
// the marks in needs occurs.
type judge struct {
	kind  Kind
	needs marks
	judge func(text string, place Place, through []string) string
}

var judges = []judge{
	{SQL, markQuote | markSpace | markParen | markSemi | markDash | markSlash | markOp, judgeSQL},
	{HTML, markAngle | markQuote | markEquals, judgeHTML},
	{Script, markSemi | markParen | markColon | markTick | markEquals | markBracket, judgeScript},
	{Shell, markSemi | markPipe | markAmp | markDollar | markTick | markBreak | markSlash | markParen | markDash, judgeShell},
	{Template, markBrace | markPercent | markAngle | markAt, judgeTemplate},
	{Path, markDots | markSlash | markBackslash | markColon, judgePath},
	{Code, markParen | markColon | markAngle | markBrace | markSpace | markPlain64, judgeCode},
	{NoSQL, markDollar | markParen | markBracket | markQuote, judgeNoSQL},
	{LDAP, markParen | markColon, judgeLDAP},
	{XML, markAngle, judgeXML},
	{Header, markBreak | markHigh, judgeHeader},
}

// marks are the classes of characters in a text.
type marks uint32

const (
	markQuote marks = 1 << iota
	markSpace
	markParen
	markSemi
	markDash
	markSlash
	markOp
	markAngle
	markEquals
	markColon
	markTick
	markBracket
	markPipe
	markAmp
	markDollar
	markBreak
	markBrace
	markPercent
	markAt
	markDots
	markBackslash
	markPlain64
	markHigh
	markOverlong
)

// markWrapped are the marks that every wrapping but Base64 has one of.
const markWrapped = markPercent | markOp | markAmp | markBackslash | markOverlong

var markTable = func() (t [256]marks) {
	for c, m := range map[string]marks{
		"'\"": markQuote, " \t": markSpace, "()": markParen, ";": markSemi, "-#": markDash, "/": markSlash,
		"<>": markAngle | markOp, "=": markEquals | markOp, "+*|&^~": markOp, ":": markColon, "`": markTick | markQuote,
		"[]": markBracket, "$": markDollar, "\r\n\x0b\x0c": markBreak | markSpace, "{}": markBrace, "%": markPercent | markOp,
		"@": markAt, "\\": markBackslash, "\x00": markBreak,
	} {
		for i := range len(c) {
			t[c[i]] |= m
		}
	}
	t[0xE5] |= markHigh // U+560D is a line break to some
	t[0xC0] |= markOverlong
	t[0xC1] |= markOverlong
	t['|'] |= markPipe
	t['&'] |= markAmp
	return t
}()

// marksOf returns what occurs in s. Two dots and a long run of Base64
// characters are marks, too: neither shows in a single byte.
func marksOf(s string) marks {
	var m marks
	run, longest := 0, 0
	for i := range len(s) {
		c := s[i]
		m |= markTable[c]
		if c == '.' && i > 0 && s[i-1] == '.' {
			m |= markDots
		}
		if isAlnum(c) || c == '_' {
			run++
		} else {
			longest = max(longest, run)
			run = 0
		}
	}
	if max(longest, run) >= 10 {
		m |= markPlain64
	}
	return m
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}

func isAlpha(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isAlnum(c byte) bool { return isAlpha(c) || isDigit(c) }
func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }
func isWord(c byte) bool  { return isAlnum(c) || c == '_' || c >= 0x80 }
func isHex(c byte) bool   { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }
