package jinja

// Kind says what an output's place in the HTML is, roughly.
type Kind uint8

// The kinds of places.
const (
	KindText       Kind = iota // between tags
	KindPlain                  // in a file without markup
	KindRCDATA                 // in <title> or <textarea>
	KindRawText                // in <xmp>, <iframe>, <noembed>, <noframes>, <plaintext>
	KindComment                // <!-- x -->
	KindMarkup                 // <!DOCTYPE x>, <?x>, </ x>
	KindTagName                // <x>
	KindAttrName               // <p x>
	KindAttr                   // the value of an attribute that means nothing more
	KindURL                    // the value of an attribute that is a URL
	KindStyleAttr              // the value of style
	KindSrcdoc                 // the value of an iframe's srcdoc: a document of its own
	KindEvent                  // the value of an attribute that is a script: onclick
	KindScriptURL              // in a URL behind javascript:
	KindStyle                  // in <style>, or a CSS file
	KindScriptData             // in <script> with a type that no browser runs, or a JSON file
	KindScript                 // in <script>, or a JavaScript file
)

var kindNames = [...]string{
	"text", "plain", "rcdata", "rawtext", "comment", "markup", "tag-name", "attr-name", "attr", "url",
	"style-attr", "srcdoc", "event", "script-url", "style", "script-data", "script",
}

func (k Kind) String() string { return kindNames[k] }

// Lexeme says where inside of a script or a style sheet a place is.
type Lexeme uint8

// The lexemes. Of a style sheet there are LexCode, LexDouble, LexSingle,
// LexComment and LexURL.
const (
	LexNone     Lexeme = iota // not in a script or a style sheet
	LexCode                   // outside of all others
	LexDouble                 // "…"
	LexSingle                 // '…'
	LexTemplate               // `…`, outside of ${…}
	LexRegexp                 // /…/
	LexLine                   // a comment to the end of the line
	LexComment                // /* … */
	LexURL                    // url(…) without quotes
)

var lexemeNames = [...]string{"", "code", "double", "single", "template", "regexp", "line-comment", "comment", "url"}

func (l Lexeme) String() string { return lexemeNames[l] }

// URLPart says which part of a URL a place is in.
type URLPart uint8

// The parts of a URL.
const (
	URLNone     URLPart = iota // not in a URL
	URLStart                   // the value may choose the scheme, so javascript:
	URLHost                    // it may choose the host, or its end
	URLPath                    // the host is fixed, or is what was put out before
	URLQuery                   // behind the "?"
	URLFragment                // behind the "#"
)

var urlPartNames = [...]string{"", "start", "host", "path", "query", "fragment"}

func (u URLPart) String() string { return urlPartNames[u] }

// Context is a place in the HTML in which an output may come out.
type Context struct {
	Kind Kind
	// Tag is the element's name in lower case: of the tag around an
	// attribute, or of the element around a script or a text that no tags are
	// read in. An output in it is a "*", as is what is not the same on all
	// ways here.
	Tag string
	// Attr is the attribute's name in lower case, an output in it a "*".
	Attr string
	// Quote is what the attribute's value is quoted with, 0 if with nothing
	// or there is no value.
	Quote byte
	// Prefix is the attribute's value before the first output, character
	// references resolved, at most 256 bytes; Dynamic is set when there are
	// other outputs between it and this one, or it is not the same on all
	// ways here.
	Prefix  string
	Dynamic bool
	// URL is set in attributes that are URLs.
	URL URLPart
	// Lexeme is set in scripts and style sheets, those in attributes
	// included.
	Lexeme Lexeme
	// Decoded is set where character references are resolved before a script
	// or a style sheet is read, so that escaping HTML protects nothing: in
	// attributes, and in SVG.
	Decoded bool
}

// Unquoted reports whether the place is in an attribute's value that has no
// quotes: white space ends it, and escaping leaves that alone.
func (c Context) Unquoted() bool {
	switch c.Kind {
	case KindAttr, KindURL, KindStyleAttr, KindSrcdoc, KindEvent, KindScriptURL:
		return c.Quote == 0
	}
	return false
}
