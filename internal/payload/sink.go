package payload

import (
	"html"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// A Sink is a place in a program of which it is known that a value becomes
// part of a text there that something reads: a statement, a command, a path.
// [Judge] looks for structure that an attack has; where the place is known,
// anything that leaves it is one, and [Sink.Breaks] says so.
type Sink struct {
	// Language is one of [Languages].
	Language string
	// Spot says where in the text the value stands: a quotation mark
	// between two of which it stands, one of the words bare (outside of
	// quotes), text (between the tags of a page), unquoted (an attribute of a
	// tag), rich (markup that people write in an editor), code (where any word
	// means something), filter and name (of LDAP);
	// below (a folder that is the program's own) and whole (the value is a path
	// by itself), several with | between. Empty if it is not known: then all are assumed.
	Spot string
	// Host is the site's own, with its port, to which redirections may lead.
	Host string
}

// Languages are the values of [Sink.Language].
var Languages = []string{"sql", "nosql", "shell", "option", "code", "template", "html", "path", "redirect", "url", "ldap", "xpath", "header", "mail", "xml", "yaml", "pickle", "jsonpickle"}

// Breaks says in a few words what in text leaves the sink's place, or "" if
// nothing does. The text is looked at as it is and with percent-encoding
// undone twice: the app may do that before it uses it.
func (s Sink) Breaks(text string) string {
	if documentJudges[s.Language] != nil {
		return s.document([]byte(text), true, true)
	}
	if len(text) > MaxText {
		return "longer than can be judged"
	}
	for layer := range 3 {
		if why := s.breaks(text); why != "" {
			return why
		}
		if strings.IndexByte(text, '%') < 0 || layer == 2 {
			break
		}
		next, ok := unwrapURL(text, false)
		if !ok || next == text {
			break
		}
		text = next
	}
	return ""
}

func (s Sink) breaks(text string) string {
	if text == "" {
		return ""
	}
	if kinds := judgedAs[s.Language]; kinds != 0 && (s.Language != "path" || s.Spot == "below") {
		if f := JudgeKinds(text, Text, kinds); len(f) > 0 {
			return f[0].Kind.String() + ": " + f[0].Shape
		}
	}
	if strings.IndexByte(s.Spot, '|') < 0 {
		return s.leaves(text)
	}
	for spot := range strings.SplitSeq(s.Spot, "|") {
		if why := (Sink{s.Language, spot, s.Host}).leaves(text); why != "" {
			return why
		}
	}
	return ""
}

func (s Sink) leaves(text string) string {
	switch s.Language {
	case "sql":
		return s.quoted(text, bareSQL, ";", "--", "/*", "#")
	case "nosql", "xpath":
		return s.quoted(text, bareWord)
	case "shell":
		return s.shell(text)
	case "option":
		if strings.HasPrefix(text, "-") {
			return "begins as an option"
		}
	case "code":
		if strings.Trim(text, "0123456789.+-*/%() \t") != "" {
			return "more than arithmetic"
		}
	case "template":
		if s.Spot == "code" {
			return s.quoted(text, bareWord)
		}
		for _, mark := range []string{"{{", "{%", "{#", "#}", "${", "<%", "#{"} {
			if strings.Contains(text, mark) {
				return "mark of a template: " + mark
			}
		}
	case "html":
		return s.html(text)
	case "path":
		return breaksPath(text, s.Spot == "below")
	case "redirect":
		return s.redirect(text)
	case "url":
		return breaksURL(text)
	case "ldap":
		switch {
		case s.Spot != "name" && strings.ContainsAny(text, "*()\\\x00"):
			return "character of a filter"
		case s.Spot != "filter" && (strings.ContainsAny(text, ",+\"<>;=\\\x00") || text[0] == '#'):
			return "character of a name"
		}
	case "header":
		if strings.ContainsAny(text, "\r\n\x00") {
			return "line end"
		}
	case "mail":
		// What str.splitlines takes for one, as the package email does.
		if strings.ContainsAny(text, "\r\n\x00\v\f\x1c\x1d\x1e\u0085\u2028\u2029") {
			return "line end"
		}
	}
	return ""
}

// judgedAs are the kinds of structure that each language is looked at for,
// whatever the place.
var judgedAs = map[string]Kinds{
	"sql": KindsOf(SQL), "nosql": KindsOf(NoSQL), "shell": KindsOf(Shell), "code": KindsOf(Code), "template": KindsOf(Template), "html": KindsOf(HTML, Script),
	"path": KindsOf(Path), "ldap": KindsOf(LDAP), "header": KindsOf(Header),
}

// quoted is the judge of languages with strings in quotes. Outside of them
// only what bare takes is plain; where the place is not known, neither quotes
// nor the marks of comments and statements are.
func (s Sink) quoted(text string, bare func(string) bool, marks ...string) string {
	switch s.Spot {
	case "'", `"`, "`":
		if strings.Contains(text, s.Spot) {
			return "closes the quotes"
		}
		if n := len(text) - len(strings.TrimRight(text, `\`)); n%2 == 1 {
			return "ends in a backslash, which keeps the quotes open"
		}
		if strings.IndexByte(text, 0) >= 0 {
			return "NUL"
		}
		return ""
	case "bare", "code":
		if !bare(text) {
			return "more than a name or a number"
		}
		return ""
	}
	if strings.ContainsAny(text, "'\"`\\\x00") {
		return "quotation mark or backslash"
	}
	for _, m := range marks {
		if strings.Contains(text, m) {
			return "mark of a comment or statement: " + m
		}
	}
	return ""
}

// bareWord takes a name, with dots between its parts, or a number.
func bareWord(text string) bool {
	for i, r := range text {
		switch {
		case r == '_' || r == '.' || unicode.IsLetter(r) || unicode.IsDigit(r):
		case (r == '-' || r == '+') && i == 0 && len(text) > 1:
		default:
			return false
		}
	}
	return true
}

// bareSQL takes what bareWord does, a direction behind it, and several of
// them with commas between: "name DESC, id".
func bareSQL(text string) bool {
	for item := range strings.SplitSeq(text, ",") {
		words := strings.Fields(item)
		switch {
		case len(words) == 1 && bareWord(words[0]):
		case len(words) == 2 && bareWord(words[0]) && (strings.EqualFold(words[1], "asc") || strings.EqualFold(words[1], "desc")):
		default:
			return false
		}
	}
	return true
}

func (s Sink) shell(text string) string {
	switch s.Spot {
	case "'":
		if strings.ContainsAny(text, "'\x00") {
			return "closes the quotes"
		}
		return ""
	case `"`:
		if strings.ContainsAny(text, "\"$`\\\x00") {
			return "closes the quotes, or is run within them"
		}
		return ""
	}
	if text[0] == '-' {
		return "begins as an option"
	}
	// What shlex.quote leaves as it is.
	for _, r := range text {
		if r != '_' && !strings.ContainsRune("@%+=:,./-", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return "more than a word of a command"
		}
	}
	return ""
}

func (s Sink) html(text string) string {
	if s.Spot == "rich" {
		return "" // markup belongs there; what runs script was looked for before
	}
	if s.Spot == "code" {
		if !bareWord(text) {
			return "more than a name or a number"
		}
		return ""
	}
	for i := 0; i+1 < len(text); i++ {
		if c := text[i+1]; text[i] == '<' && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '/' || c == '!' || c == '?') {
			return "tag"
		}
	}
	if s.Spot == "text" {
		if text[len(text)-1] == '<' {
			return "tag" // what stands behind it goes on
		}
		return ""
	}
	if scheme := schemeOf(html.UnescapeString(text)); scheme == "javascript" || scheme == "data" || scheme == "vbscript" {
		return "URL that runs script"
	}
	if s.Spot == "unquoted" {
		if strings.ContainsAny(text, " \t\r\n\f<>\"'`=") {
			return "ends the attribute"
		}
		return ""
	}
	if addsAttribute(text) {
		return "attribute"
	}
	if strings.ContainsAny(text, "<>\"'`") || strings.Contains(text, "${") {
		return "quotation mark or bracket"
	}
	return ""
}

// addsAttribute reports whether text could add an attribute to a tag in which
// it stands without quotes: a space, a name and an equals sign.
func addsAttribute(text string) bool {
	for i := range len(text) {
		if text[i] != '=' {
			continue
		}
		name := strings.TrimRight(text[:i], " \t\r\n\f")
		j := len(name)
		for j > 0 && (isAlnum(name[j-1]) || name[j-1] == '-' || name[j-1] == ':' || name[j-1] == '_') {
			j--
		}
		if j > 0 && j < len(name) && strings.IndexByte(" \t\r\n\f/\"'", name[j-1]) >= 0 {
			return true
		}
	}
	return false
}

// breaksPath refuses what leaves the folder. An absolute path does so only
// below one: where the whole path is the client's it may be what is wanted.
func breaksPath(text string, below bool) string {
	t := pathLookalikes.Replace(strings.ReplaceAll(text, `\`, "/"))
	switch {
	case strings.ContainsFunc(t, unicode.IsControl):
		return "control character"
	case below && (t[0] == '/' || t[0] == '~' || len(t) > 1 && t[1] == ':'):
		return "absolute path"
	}
	for part := range strings.SplitSeq(t, "/") {
		if part = strings.TrimSpace(part); part == ".." || strings.HasPrefix(part, "..;") {
			return "leaves the folder"
		}
	}
	return ""
}

// browserURL is a URL as browsers read it: without tabs and line ends in it,
// without space and control characters around it, with slashes for
// backslashes (WHATWG URL, section 4.4).
func browserURL(text string) string {
	text = strings.TrimFunc(text, func(r rune) bool { return r <= ' ' })
	return strings.NewReplacer("\t", "", "\r", "", "\n", "", `\`, "/").Replace(text)
}

// schemeOf returns the scheme of a URL in small letters, "" if it has none.
func schemeOf(text string) string {
	scheme, _, ok := strings.Cut(browserURL(text), ":")
	if !ok || scheme == "" || strings.ContainsAny(scheme, "/?#") {
		return ""
	}
	for i, c := range []byte(strings.ToLower(scheme)) {
		if (c < 'a' || c > 'z') && (i == 0 || (c < '0' || c > '9') && c != '+' && c != '-' && c != '.') {
			return ""
		}
	}
	return strings.ToLower(scheme)
}

func (s Sink) redirect(text string) string {
	t := browserURL(text)
	scheme := schemeOf(t)
	switch {
	case scheme == "" && !strings.HasPrefix(t, "//"):
		if strings.ContainsFunc(t, unicode.IsControl) {
			return "control character"
		}
		return ""
	case scheme != "" && scheme != "http" && scheme != "https":
		return "URL of the scheme " + scheme
	}
	_, rest, _ := strings.Cut(t, ":")
	if scheme == "" {
		rest = t
	}
	if !strings.HasPrefix(rest, "//") {
		return "URL without a host" // which browsers read in several ways
	}
	host := rest[2:]
	if i := strings.IndexAny(host, "/?#"); i >= 0 {
		host = host[:i]
	}
	if s.Host == "" || !strings.EqualFold(host, s.Host) {
		return "another site"
	}
	return ""
}

// breaksURL refuses what makes the app ask for something of its own network,
// or by another scheme than http. A text without a scheme may be a host or a
// path. Where a name leads is not looked up: it could lead elsewhere a moment
// later.
func breaksURL(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) {
		return "character that no URL has"
	}
	rest, scheme := text, schemeOf(text)
	if _, after, ok := strings.Cut(text, "://"); ok && scheme != "" {
		if scheme != "http" && scheme != "https" {
			return "URL of the scheme " + scheme
		}
		rest = after
	} else if scheme != "" && !strings.ContainsAny(scheme, ".") {
		port, _, _ := strings.Cut(text[len(scheme)+1:], "/")
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "URL of the scheme " + scheme
		}
	} else {
		rest = strings.TrimPrefix(rest, "//")
	}
	host := rest
	if i := strings.IndexAny(host, "/?#"); i >= 0 {
		host = host[:i]
	}
	if strings.IndexByte(host, '@') >= 0 {
		return "user name before the host"
	}
	name := host
	if strings.HasPrefix(host, "[") {
		name, _, _ = strings.Cut(host[1:], "]")
	} else if strings.Count(host, ":") == 1 {
		name, _, _ = strings.Cut(host, ":")
	}
	return privateHost(hostName(name), scheme == "http" || scheme == "https")
}

// hostName is a host as clients look it up: ①②⑦.0.0.1 is 127.0.0.1 to them, and
// characters that do not show are not there (UTS 46, section 4).
func hostName(name string) string {
	ascii := true
	for i := range len(name) {
		ascii = ascii && name[i] < 0x80
	}
	if !ascii {
		name = strings.Map(func(r rune) rune {
			switch {
			case r == '。':
				return '.'
			case unicode.In(r, unicode.Cf, unicode.Variation_Selector), r == '\u034f':
				return -1
			}
			return r
		}, norm.NFKC.String(name))
	}
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

func privateHost(name string, isURL bool) string {
	if a, ok := looseAddr(name); ok {
		if internal(a) {
			return "internal address"
		}
		return ""
	}
	if name == "localhost" || isURL && !strings.Contains(name, ".") {
		return "internal name"
	}
	for _, suffix := range []string{".localhost", ".internal", ".local", ".localdomain", ".lan", ".intranet", ".home.arpa", ".corp", ".svc", ".consul"} {
		if strings.HasSuffix(name, suffix) {
			return "internal name"
		}
	}
	// 10.0.0.1.some.example: names that lead to the address in them.
	labels := strings.FieldsFunc(name, func(r rune) bool { return r == '.' || r == '-' })
	for i := 0; i+4 <= len(labels); i++ {
		if a, err := netip.ParseAddr(strings.Join(labels[i:i+4], ".")); err == nil && internal(a) {
			return "name of an internal address"
		}
	}
	return ""
}

// special are networks that are nobody's on the internet (RFC 6890).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("fec0::/10"),
}

// embedding are networks whose addresses have one of IPv4 in them, and the
// byte at which it begins.
var embedding = map[netip.Prefix]int{netip.MustParsePrefix("64:ff9b::/96"): 12, netip.MustParsePrefix("2002::/16"): 2, netip.MustParsePrefix("::/96"): 12}

func internal(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() ||
		slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return true
	}
	for p, at := range embedding {
		if p.Contains(a) {
			b := a.As16()
			return internal(netip.AddrFrom4([4]byte(b[at : at+4])))
		}
	}
	return false
}

// looseAddr reads an address as inet_aton does, too: 127.1, 0x7f000001,
// 0177.0.0.1, 2130706433.
func looseAddr(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a, true
	}
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var v uint64
	for i, p := range parts {
		if p == "" || p[0] < '0' || p[0] > '9' || strings.IndexByte(p, '_') >= 0 {
			return netip.Addr{}, false
		}
		n, err := strconv.ParseUint(p, 0, 32)
		if err != nil {
			// A decimal with a zero in front that is no octal.
			if n, err = strconv.ParseUint(p, 10, 32); err != nil {
				return netip.Addr{}, false
			}
		}
		if i < len(parts)-1 {
			if n > 255 {
				return netip.Addr{}, false
			}
			v |= n << (8 * (3 - i))
			continue
		}
		if n >= 1<<(8*(5-len(parts))) {
			return netip.Addr{}, false
		}
		v |= n
	}
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), true
}
