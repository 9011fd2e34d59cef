package payload

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"compress/flate"
	"compress/gzip"
	"compress/zlib"

	"go.yaml.in/yaml/v3"
)

// MaxDocument is how much of a document in one of [Documents] is looked at. A
// longer one is refused unless what matters stands at its beginning.
const MaxDocument = 16 << 20

// Documents are the languages of which a whole body or file can be a text, and
// that [Sink.BreaksDocument] judges: what does harm there is not that the value
// leaves its place, but what the document asks its reader to do.
var Documents = []string{"xml", "yaml", "pickle", "jsonpickle"}

// BreaksDocument is [Sink.Breaks] for the bytes of a body or a file, of which
// whole says that there is no more than these.
//
// Where the source is known to read them as they come, the sink's Spot is raw.
// Otherwise they are also looked at without Base64 and compression around them,
// as Python undoes these.
func (s Sink) BreaksDocument(b []byte, whole bool) string {
	return s.document(b, whole, false)
}

func (s Sink) document(b []byte, whole, text bool) string {
	if len(b) > MaxDocument {
		b, whole = b[:MaxDocument], false
	}
	judge := documentJudges[s.Language]
	if why := judge(b, whole, text); why != "" || s.Spot == "raw" {
		return why
	}
	// In Base64, compressed, or compressed and in Base64.
	forms := append(lenientBase64(b), b)
	for i, f := range forms {
		if i < len(forms)-1 && (s.Language != "yaml" || beginsAsText(f)) {
			if why := judge(f, whole, false); why != "" {
				return "in Base64: " + why
			}
		}
		unpacked, all, ok := decompress(f)
		if !ok || s.Language == "yaml" && !beginsAsText(unpacked) {
			continue
		}
		if why := judge(unpacked, all, false); why != "" {
			return "compressed: " + why
		}
	}
	return ""
}

// documentJudges say what a document asks its reader to do. whole is set when
// there is no more of it; text when it comes to the program as a str, of which
// no encoding is to be found out.
var documentJudges = map[string]func(b []byte, whole, text bool) string{
	"xml": breaksXML, "yaml": breaksYAML, "pickle": breaksPickle, "jsonpickle": breaksJSONPickle,
}

// beginsAsText reports whether YAML's readers get anywhere with b: they give up
// at the first character that is not printable.
func beginsAsText(b []byte) bool {
	if bytes.HasPrefix(b, []byte("\xff\xfe")) || bytes.HasPrefix(b, []byte("\xfe\xff")) {
		return true
	}
	n := min(len(b), 64)
	for n > 0 && n < len(b) && !utf8.RuneStart(b[n]) {
		n--
	}
	return utf8.Valid(b[:n]) && bytes.IndexFunc(b[:n], func(r rune) bool {
		return r != '\t' && r != '\n' && r != '\r' && r != 0x85 && r != 0xfeff && unicode.IsControl(r)
	}) < 0
}

// lenientBase64 decodes as base64.b64decode does, which passes over whatever
// is not of its alphabet; with - and _ for + and /, too, where they stand.
func lenientBase64(b []byte) [][]byte {
	var out [][]byte
	decode := func(urlSafe bool) {
		clean := make([]byte, 0, len(b))
		for _, c := range b {
			switch {
			case isAlnum(c), c == '+', c == '/':
				clean = append(clean, c)
			case urlSafe && c == '-':
				clean = append(clean, '+')
			case urlSafe && c == '_':
				clean = append(clean, '/')
			case c == '=' && len(clean)%4 >= 2:
				goto end
			}
		}
	end:
		if len(clean)%4 == 1 {
			clean = clean[:len(clean)-1]
		}
		d := make([]byte, base64.RawStdEncoding.DecodedLen(len(clean)))
		if n, _ := base64.RawStdEncoding.Decode(d, clean); n > 1 {
			out = append(out, d[:n])
		}
	}
	decode(false)
	if bytes.ContainsAny(b, "-_") {
		decode(true)
	}
	return out
}

// decompress undoes zlib, gzip and bare deflate; all is false when there is
// more than is looked at.
func decompress(b []byte) (out []byte, all, ok bool) {
	if len(b) < 6 {
		return nil, false, false
	}
	var r io.Reader
	var err error
	switch {
	case b[0] == 0x1f && b[1] == 0x8b:
		r, err = gzip.NewReader(bytes.NewReader(b))
	case b[0]&0x0f == 8 && binary.BigEndian.Uint16(b)%31 == 0:
		r, err = zlib.NewReader(bytes.NewReader(b))
	default:
		r = flate.NewReader(bytes.NewReader(b))
	}
	if err != nil {
		return nil, false, false
	}
	// What comes before an error is there: a reader of a stream has seen it,
	// and nothing comes after.
	out, _ = io.ReadAll(io.LimitReader(r, maxUnpacked+1))
	if len(out) == 0 {
		return nil, false, false
	}
	if len(out) > maxUnpacked {
		return out[:maxUnpacked], false, true
	}
	return out, true, true
}

const tooLong = "longer than can be judged"

// maxUnpacked is how much of what a compressed document becomes is looked at.
const maxUnpacked = 4 << 20

// --- XML

// breaksXML refuses a document type: entities are declared in it, and only
// there. It can stand nowhere but before the first element, so that nothing
// behind that matters, however long it is. Documents in an encoding that is not
// read here are refused, unless they are a str already.
func breaksXML(b []byte, whole, text bool) string {
	if !text {
		var why string
		if b, why = asciiXML(b); why != "" {
			return why
		}
	} else if bytes.IndexByte(b, 0) >= 0 {
		return "NUL"
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	for {
		b = bytes.TrimLeft(b, " \t\r\n")
		var end string
		switch {
		case len(b) == 0 && whole:
			return "" // nothing that a parser takes
		case len(b) < 4 && !whole:
			return tooLong
		case bytes.HasPrefix(b, []byte("<?")):
			if decl, ok := bytes.CutPrefix(b, []byte("<?xml")); ok && !readEncoding(decl) {
				return "XML in an encoding that is not looked into"
			}
			end = "?>"
		case bytes.HasPrefix(b, []byte("<!--")):
			b, end = b[4:], "-->"
		case len(b) > 1 && b[0] == '<' && b[1] != '!' && b[1] != '%' && b[1] != '&':
			return "" // the first element
		default:
			// A document type, or what a parser has to be lenient with.
			if bytes.Contains(b, []byte("<!DOCTYPE")) || bytes.Contains(b, []byte("<!ENTITY")) {
				return "document type, which can declare entities"
			}
			if !whole {
				return tooLong
			}
			return ""
		}
		i := bytes.Index(b, []byte(end))
		if i < 0 {
			if whole {
				return "" // no parser gets farther
			}
			return tooLong
		}
		b = b[i+len(end):]
	}
}

// asciiXML returns a document in ASCII or an encoding that has ASCII in it, of
// one in UTF-16 or UTF-32 (XML 1.0, appendix F).
func asciiXML(b []byte) ([]byte, string) {
	wide := func(size int, order binary.ByteOrder) []byte {
		out := make([]byte, 0, len(b)/size+4)
		for ; len(b) >= size; b = b[size:] {
			c := uint32(0)
			if size == 2 {
				c = uint32(order.Uint16(b))
			} else {
				c = order.Uint32(b)
			}
			switch {
			case c == 0xfeff:
			case c < 0x80:
				out = append(out, byte(c))
			default:
				out = append(out, 'x') // no mark of XML
			}
		}
		return out
	}
	at := func(p string) bool { return bytes.HasPrefix(b, []byte(p)) }
	switch {
	case at("\x00\x00\xfe\xff"), at("\x00\x00\x00<"):
		return wide(4, binary.BigEndian), ""
	case at("\xff\xfe\x00\x00"), at("<\x00\x00\x00"):
		return wide(4, binary.LittleEndian), ""
	case at("\xfe\xff"), at("\x00"):
		return wide(2, binary.BigEndian), ""
	case at("\xff\xfe"), len(b) > 1 && b[1] == 0:
		return wide(2, binary.LittleEndian), ""
	case at("\x4c\x6f\xa7\x94"):
		return nil, "XML in EBCDIC, which is not looked into"
	}
	return b, ""
}

// readEncoding reports whether the encoding that an XML declaration names has
// ASCII where ASCII is: in no other one the marks of a document type can look
// otherwise. decl is what follows <?xml.
func readEncoding(decl []byte) bool {
	decl, _, _ = bytes.Cut(decl[:min(len(decl), 1024)], []byte("?>"))
	_, name, ok := bytes.Cut(decl, []byte("encoding"))
	if !ok {
		return true
	}
	name = bytes.TrimLeft(name, " \t\r\n=")
	if len(name) == 0 || name[0] != '"' && name[0] != '\'' {
		return false
	}
	value, _, ok := bytes.Cut(name[1:], name[:1])
	n := strings.ToLower(string(value))
	for _, p := range []string{"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-", "iso8859-", "latin", "windows-125", "cp125", "koi8-", "utf-16", "utf16", "ucs-2", "utf-32", "ucs-4", "iso-10646-ucs-", "gb2312", "gbk", "gb18030", "big5", "euc-", "shift_jis", "shift-jis"} {
		if strings.HasPrefix(n, p) {
			return ok
		}
	}
	return false
}

// --- YAML

// standardTags are what every YAML loader makes plain data of.
var standardTags = []string{"null", "bool", "int", "float", "binary", "timestamp", "omap", "pairs", "set", "str", "seq", "map", "merge", "value"}

// breaksYAML refuses tags but those of plain data, directives that give tags
// another name, and aliases by which a few lines stand for a great deal. A tag
// is looked for where a node can begin; where that cannot be told from a scalar
// that goes on over several lines it counts as one.
func breaksYAML(b []byte, whole, text bool) string {
	if !whole {
		return tooLong
	}
	doc := string(b)
	if !text && len(b) > 1 && (b[0] == 0xff && b[1] == 0xfe || b[0] == 0xfe && b[1] == 0xff) {
		units := make([]uint16, len(b)/2)
		for i := range units {
			if b[0] == 0xff {
				units[i] = binary.LittleEndian.Uint16(b[2*i:])
			} else {
				units[i] = binary.BigEndian.Uint16(b[2*i:])
			}
		}
		doc = string(utf16.Decode(units))
	}
	aliases := 0
	for i := 0; i < len(doc); i++ {
		switch doc[i] {
		case '%':
			if atLineStart(doc[:i]) && strings.HasPrefix(doc[i:], "%TAG") {
				return "directive that renames tags"
			}
		case '*':
			aliases++
		case '!':
			if why := yamlTag(doc[:i], doc[i:]); why != "" {
				return why
			}
		}
	}
	if aliases >= 16 {
		return aliasBomb(doc)
	}
	return ""
}

// atLineStart reports whether what follows begins a line as YAML 1.1 has lines.
func atLineStart(before string) bool {
	r, _ := utf8.DecodeLastRuneInString(before)
	return before == "" || strings.ContainsRune("\n\r\u0085\u2028\u2029\ufeff", r)
}

// yamlTag judges what may be a tag.
func yamlTag(before, rest string) string {
	if last, _ := utf8.DecodeLastRuneInString(before); !atLineStart(before) && !strings.ContainsRune(" \t[{,:", last) {
		return "" // within a word
	}
	rest = rest[:min(len(rest), 1024)]
	end := strings.IndexFunc(rest, func(r rune) bool {
		return unicode.IsSpace(r) || r == 0 || strings.ContainsRune(",[]{}\u0085\u2028\u2029", r)
	})
	if end < 0 {
		end = len(rest)
	}
	tag := rest[:end]
	if u, ok := unwrapURL(tag, false); ok {
		tag = u
	}
	name, isStandard := strings.CutPrefix(tag, "!!")
	if v, ok := strings.CutPrefix(rest, "!<"); ok {
		name, _, _ = strings.Cut(v, ">")
		if u, ok := unwrapURL(name, false); ok {
			name = u
		}
		if name, isStandard = strings.CutPrefix(name, "tag:yaml.org,2002:"); !isStandard && !strings.HasPrefix(name, "!") && !strings.Contains(name, ":") {
			return "" // <= is no URI
		}
	}
	if isStandard && slices.Contains(standardTags, name) || tag == "!" {
		return ""
	}
	if strings.HasPrefix(name, "python/") {
		return "tag of a Python object"
	}
	if !isStandard && strings.Trim(tag, "!") == "" || name == "" {
		return ""
	}
	// Where a node begins: at the start of a line, behind an indicator, or
	// behind the anchor of the node. A tag of the program's own counts only
	// where it stands for sure.
	if strings.LastIndexByte(tag, '!') == 0 && !strings.HasPrefix(tag, "!<") {
		if len(before) > 1024 {
			before = before[len(before)-1024:]
		}
		if i := strings.LastIndexAny(before, "\n\r"); beginsNode(before[i+1:]) {
			return "tag of the program's own"
		}
		return ""
	}
	line := before
	for !atLineStart(line) {
		r, n := utf8.DecodeLastRuneInString(line)
		if r == ' ' || r == '\t' {
			line = line[:len(line)-n]
			continue
		}
		spaced := len(line) < len(before)
		switch {
		case strings.ContainsRune("[{,:", r), spaced && strings.ContainsRune(":-?", r):
			return "tag of an object"
		case spaced && strings.HasPrefix(strings.TrimLeft(line[strings.LastIndexAny(line, " \t\n\r,[{")+1:], "\u0085\u2028\u2029\ufeff"), "&"):
			return "tag of an object"
		}
		return ""
	}
	return "tag of an object"
}

// nodeBegins is what can stand before a node on its line: indicators, a key, an
// anchor.
var nodeBegins = regexp.MustCompile(`^\x{feff}?(?:--- +)?[ ]*(?:[-?] +)*(?:(?:[\w .-]+|"[^"\\]*"|'[^']*') *: +)?(?:&\S+ +)?$`)

func beginsNode(line string) bool { return nodeBegins.MatchString(line) }

// maxExpanded is how many nodes a document may have once every alias is what it
// stands for.
const maxExpanded = 100_000

// aliasBomb counts what a document becomes.
func aliasBomb(doc string) string {
	const why = "aliases that stand for more than can be judged"
	if len(doc) > 1<<20 {
		return why
	}
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(doc), &root); err != nil {
		if strings.Count(doc, "*") > 200 {
			return why
		}
		return ""
	}
	size := map[*yaml.Node]int{}
	open := map[*yaml.Node]bool{}
	var count func(n *yaml.Node) int
	count = func(n *yaml.Node) int {
		if n == nil || open[n] {
			return 1
		}
		if s, ok := size[n]; ok {
			return s
		}
		open[n] = true
		s := 1
		if n.Kind == yaml.AliasNode {
			s = count(n.Alias)
		}
		for _, c := range n.Content {
			s = min(s+count(c), maxExpanded+1)
		}
		delete(open, n)
		size[n] = s
		return s
	}
	if count(&root) > maxExpanded {
		return why
	}
	return ""
}

// --- pickle

// plainGlobals are what a pickle of plain data names: nothing that does
// anything when it is called with whatever arguments, and no class whose
// attributes a pickle could set.
var plainGlobals = map[string]string{
	"datetime": "datetime date time timedelta timezone", "decimal": "Decimal", "collections": "OrderedDict deque", "_codecs": "encode",
	"builtins": "set frozenset complex slice", "__builtin__": "set frozenset complex slice",
}

// breaksPickle reads a pickle as far as Python would and refuses one that names
// a function or a class, but for those of plain data. Nothing can be called in
// a pickle that was not named before.
func breaksPickle(b []byte, whole, _ bool) string {
	var top [2]string // the last two strings, "\x00" where it is no string
	none := "\x00"
	push := func(s string) { top[0], top[1] = top[1], s }
	push(none)
	push(none)
	memo := map[int]string{}
	strings2 := 0 // how many strings there were
	short := func() string {
		if whole {
			return "" // Python stops here, too
		}
		return tooLong
	}
	// Where the frame ends, as what is left behind it. Python's reader of files
	// passes over what of an instruction stands before the end of a frame:
	// picklers write none there.
	frame := -1
	crosses := func() bool { return frame >= 0 && len(b) < frame }
	const torn = "pickle with an instruction across the end of a frame"
	for len(b) > 0 {
		if crosses() {
			return torn
		}
		op := b[0]
		b = b[1:]
		line := func() (string, bool) {
			l, rest, ok := bytes.Cut(b, []byte{'\n'})
			if ok {
				b = rest
			}
			return string(bytes.TrimSuffix(l, []byte{'\r'})), ok
		}
		sized := func(width int) (string, bool) {
			if len(b) < width {
				return "", false
			}
			var n uint64
			for i := width - 1; i >= 0; i-- {
				n = n<<8 | uint64(b[i])
			}
			if n > uint64(len(b)-width) {
				return "", false
			}
			s := string(b[width : width+int(n)])
			b = b[width+int(n):]
			return s, true
		}
		number := func(width int) (int, bool) {
			if len(b) < width {
				return 0, false
			}
			n := 0
			for i := width - 1; i >= 0; i-- {
				n = n<<8 | int(b[i])
			}
			b = b[width:]
			return n, true
		}
		switch op {
		case 'c', 'i': // GLOBAL, INST
			module, ok := line()
			if !ok {
				return short()
			}
			name, ok := line()
			if !ok {
				// The last line counts without its end, too, and loses its last
				// character.
				for _, rest := range [][]byte{b, b[:max(0, len(b)-1)]} {
					if why := namedByPickle(module, string(rest)); why != "" {
						return why
					}
				}
				return short()
			}
			if crosses() {
				return torn
			}
			if why := namedByPickle(module, name); why != "" {
				return why
			}
			if !pythonName(module) || !pythonName(name) {
				return ""
			}
			push(none)
		case 0x93: // STACK_GLOBAL
			if strings2 == 0 {
				return "" // nothing on the stack that it takes
			}
			if top[0] == none || top[1] == none {
				return unfollowed
			}
			if why := namedByPickle(top[0], top[1]); why != "" {
				return why
			}
			push(none)
			push(none)
		case 'S', 'V': // STRING, UNICODE
			s, ok := line()
			if !ok {
				return short()
			}
			if op == 'S' {
				s = strings.Trim(s, "'\"")
			}
			if strings.Contains(s, `\`) || op == 'V' && strings.IndexFunc(s, func(r rune) bool { return r > 0x7e }) >= 0 {
				s = none // not as it is read
			}
			push(s)
			strings2++
		case 'U', 0x8c, 'T', 'X', 0x8d: // strings with a length before
			s, ok := sized(map[byte]int{'U': 1, 0x8c: 1, 'T': 4, 'X': 4, 0x8d: 8}[op])
			if !ok {
				return short()
			}
			push(s)
			strings2++
		case 'C', 'B', 0x8e, 0x96, 0x8a, 0x8b: // bytes, and long numbers
			if _, ok := sized(map[byte]int{'C': 1, 'B': 4, 0x8e: 8, 0x96: 8, 0x8a: 1, 0x8b: 4}[op]); !ok {
				return short()
			}
			push(none)
		case 'F', 'I', 'L', 'P': // numbers, an id of its own
			if _, ok := line(); !ok {
				return short()
			}
			push(none)
		case 'g', 'h', 'j': // GET, BINGET, LONG_BINGET
			n, ok := 0, false
			if op == 'g' {
				var s string
				if s, ok = line(); ok {
					var stops bool
					if n, stops = memoNumber(s); stops {
						return ""
					}
				}
			} else {
				n, ok = number(map[byte]int{'h': 1, 'j': 4}[op])
			}
			if !ok {
				return short()
			}
			if n < 0 {
				return unfollowed
			}
			s, known := memo[n]
			if !known {
				s = none
			}
			push(s)
		case 'p', 'q', 'r', 0x94: // PUT, BINPUT, LONG_BINPUT, MEMOIZE
			n, ok := len(memo), true // what has a place already takes no other one
			switch op {
			case 'p':
				var s string
				if s, ok = line(); ok {
					var stops bool
					if n, stops = memoNumber(s); stops {
						return ""
					}
				}
			case 'q', 'r':
				n, ok = number(map[byte]int{'q': 1, 'r': 4}[op])
			}
			if !ok {
				return short()
			}
			if n < 0 {
				return unfollowed
			}
			memo[n] = top[1]
		case 0x95, 0x80: // FRAME, PROTO: the stack stays
			inFrame := frame >= 0 && len(b) >= frame
			n, ok := number(map[byte]int{0x95: 8, 0x80: 1}[op])
			switch {
			case !ok:
				return short()
			case op == 0x80:
			case n < 0 || n > len(b):
				frame = 0 // it ends where the pickle does
			case inFrame && len(b) > frame:
				return torn
			default:
				frame = len(b) - n
			}
		case 'J', 'K', 'M', 'G', 0x82, 0x83, 0x84:
			if _, ok := number(map[byte]int{'J': 4, 'K': 1, 'M': 2, 'G': 8, 0x82: 1, 0x83: 2, 0x84: 4}[op]); !ok {
				return short()
			}
			push(none)
		case '.': // STOP; the next load goes on behind it
			clear(memo)
			push(none)
			push(none)
		case '(', '0', '1', '2', 'N', 'Q', 'R', 'a', 'b', 'd', '}', 'e', 'l', ']', 'o', 's', 't', ')', 'u',
			0x81, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8f, 0x90, 0x91, 0x92, 0x97, 0x98:
			push(none)
			push(none)
		default:
			return "" // no instruction: Python stops here, too
		}
	}
	return short()
}

// unfollowed is said of a pickle that no pickler writes.
const unfollowed = "pickle that names an object in a way that cannot be followed"

// memoNumber reads where a pickle keeps an object. stops says that Python takes
// no such number; one that it may take and that is not known here, such as 1_0,
// is negative.
func memoNumber(line string) (n int, stops bool) {
	line = strings.TrimSpace(line)
	if n, err := strconv.Atoi(line); err == nil {
		return n, n < 0
	}
	return -1, line == "" || strings.IndexFunc(line, func(r rune) bool { return r < 0x80 && isAlpha(byte(r)) }) >= 0
}

// pythonName reports whether a module or what is in it can have such a name.
func pythonName(s string) bool {
	return s != "" && utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// namedByPickle says whether a pickle names what it must not. Names that Python
// cannot have end the reading.
func namedByPickle(module, name string) string {
	if !pythonName(module) || !pythonName(name) || slices.Contains(strings.Fields(plainGlobals[module]), name) {
		return ""
	}
	return "pickle that names " + module + "." + name
}

// --- jsonpickle

// breaksJSONPickle refuses what jsonpickle makes objects of: keys that begin
// with py/, but for those of containers.
func breaksJSONPickle(b []byte, whole, _ bool) string {
	if !whole {
		return tooLong
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return "JSON in an encoding that is not looked into" // UTF-16 and UTF-32, which Python finds out
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	for {
		t, err := d.Token()
		if err == io.EOF {
			return ""
		}
		if err != nil {
			if bytes.Contains(b, []byte("py/")) || bytes.Contains(b, []byte(`py\/`)) || bytes.Contains(b, []byte(`\u00`)) {
				return "jsonpickle that cannot be read"
			}
			return ""
		}
		s, _ := t.(string)
		if name, ok := strings.CutPrefix(s, "py/"); ok && !slices.Contains([]string{"tuple", "set", "id", "b64", "b85", "bytes"}, name) {
			return "jsonpickle that builds an object: " + s
		}
	}
}
