package pyflow

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Regular expressions of Python, as far as is needed to know which characters
// a match may have and how it begins. See the documentation of Python's re.

type reKind uint8

const (
	reEmpty reKind = iota
	reSet          // one character of a set
	reCat
	reAlt
	reRepeat
	reGroup
	reStart // ^ or \A
	reEnd   // $
	reVeryEnd
	reZero // \b, look-around: no characters
	reAny  // a back reference, or what was not understood
)

type reNode struct {
	kind     reKind
	set      Chars
	some     bool // of the characters beyond ASCII set holds only some
	lit      rune // of a set of one character, else -1
	kids     []*reNode
	min, max int // of a repeat; max -1: any number
	group    int
}

// pattern is a parsed regular expression.
type pattern struct {
	root   *reNode
	groups []*reNode // by number; 0 is the whole
	names  map[string]int
	bad    bool // not understood
	multi  bool // MULTILINE
	icase  bool
}

const (
	maxRegex      = 4096
	maxRegexDepth = 60
)

type reParser struct {
	s     []rune
	i     int
	p     *pattern
	dot   bool // DOTALL
	ascii bool
	x     bool // VERBOSE
	bytes bool
	depth int
}

// Flags of package re.
const (
	reIgnoreCase = 2
	reMultiLine  = 8
	reDotAll     = 16
	reVerbose    = 64
	reASCII      = 256
)

func parsePattern(s string, flags int, bytes bool) *pattern {
	p := &pattern{names: map[string]int{}, groups: []*reNode{nil}}
	r := &reParser{s: []rune(s), p: p, dot: flags&reDotAll != 0, ascii: flags&reASCII != 0 || bytes, x: flags&reVerbose != 0, bytes: bytes}
	p.multi, p.icase = flags&reMultiLine != 0, flags&reIgnoreCase != 0
	if len(s) > maxRegex {
		p.bad = true
		p.root = &reNode{kind: reAny}
		return p
	}
	p.root = r.alt()
	if r.i < len(r.s) {
		p.bad = true
	}
	if p.bad {
		p.root = &reNode{kind: reAny}
	}
	p.groups[0] = p.root
	return p
}

func (r *reParser) alt() *reNode {
	r.depth++
	defer func() { r.depth-- }()
	if r.depth > maxRegexDepth {
		r.p.bad = true
		r.i = len(r.s)
		return &reNode{kind: reAny}
	}
	n := &reNode{kind: reAlt, kids: []*reNode{r.cat()}}
	for r.i < len(r.s) && r.s[r.i] == '|' {
		r.i++
		n.kids = append(n.kids, r.cat())
	}
	if len(n.kids) == 1 {
		return n.kids[0]
	}
	return n
}

func (r *reParser) cat() *reNode {
	n := &reNode{kind: reCat}
	for r.i < len(r.s) && r.s[r.i] != '|' && r.s[r.i] != ')' {
		if r.x {
			if c := r.s[r.i]; c == ' ' || c == '\t' || c == '\n' || c == '\r' {
				r.i++
				continue
			} else if c == '#' {
				for r.i < len(r.s) && r.s[r.i] != '\n' {
					r.i++
				}
				continue
			}
		}
		n.kids = append(n.kids, r.repeat(r.atom()))
	}
	return n
}

func (r *reParser) repeat(a *reNode) *reNode {
	for r.i < len(r.s) {
		lo, hi := 0, -1
		switch c := r.s[r.i]; c {
		case '*':
		case '+':
			lo = 1
		case '?':
			hi = 1
		case '{':
			j := r.i + 1
			for j < len(r.s) && (r.s[j] >= '0' && r.s[j] <= '9' || r.s[j] == ',') {
				j++
			}
			if j >= len(r.s) || r.s[j] != '}' || j == r.i+1 {
				return a // a brace like any other character
			}
			body := string(r.s[r.i+1 : j])
			x, y, comma := strings.Cut(body, ",")
			lo, _ = strconv.Atoi(x)
			if !comma {
				hi = lo
			} else if y != "" {
				hi, _ = strconv.Atoi(y)
			}
			r.i = j
		default:
			return a
		}
		r.i++
		if r.i < len(r.s) && (r.s[r.i] == '?' || r.s[r.i] == '+') {
			r.i++
		}
		a = &reNode{kind: reRepeat, kids: []*reNode{a}, min: lo, max: hi}
	}
	return a
}

func (r *reParser) one(c rune) *reNode {
	set := Chars{}.with(c)
	if r.p.icase {
		set = set.with([]rune(strings.ToUpper(string(c)))[0]).with([]rune(strings.ToLower(string(c)))[0])
		if c|0x20 == 'k' || c|0x20 == 's' || c|0x20 == 'i' {
			set.other = !r.ascii
		}
		return &reNode{kind: reSet, set: set, lit: -1, some: true}
	}
	return &reNode{kind: reSet, set: set, lit: c, some: true}
}

func (r *reParser) atom() *reNode {
	c := r.s[r.i]
	r.i++
	switch c {
	case '.':
		set := AnyChars
		if !r.dot {
			set = set.Without("\n")
		}
		return &reNode{kind: reSet, set: set, lit: -1}
	case '^':
		return &reNode{kind: reStart}
	case '$':
		return &reNode{kind: reEnd}
	case '[':
		return r.class()
	case '(':
		return r.group()
	case '\\':
		return r.escape(false)
	case '*', '+', '?':
		r.p.bad = true
	}
	return r.one(c)
}

func (r *reParser) group() *reNode {
	n := &reNode{kind: reGroup, group: -1}
	if r.i < len(r.s) && r.s[r.i] == '?' {
		r.i++
		if r.i >= len(r.s) {
			r.p.bad = true
			return n
		}
		c := r.s[r.i]
		r.i++
		switch c {
		case ':', '>':
		case '=', '!':
			r.skipGroup()
			return &reNode{kind: reZero}
		case '<':
			if r.i < len(r.s) && (r.s[r.i] == '=' || r.s[r.i] == '!') {
				r.skipGroup()
				return &reNode{kind: reZero}
			}
			r.p.bad = true
		case '#':
			for r.i < len(r.s) && r.s[r.i] != ')' {
				r.i++
			}
			r.i++
			return &reNode{kind: reEmpty}
		case 'P':
			if r.i < len(r.s) && r.s[r.i] == '<' {
				j := r.i + 1
				for j < len(r.s) && r.s[j] != '>' {
					j++
				}
				name := string(r.s[r.i+1 : min(j, len(r.s))])
				r.i = j + 1
				n.group = len(r.p.groups)
				r.p.groups = append(r.p.groups, n)
				r.p.names[name] = n.group
				break
			}
			r.skipGroup()
			return &reNode{kind: reAny}
		case '(':
			r.skipGroup()
			r.p.bad = true
			return &reNode{kind: reAny}
		default:
			// Inline flags.
			r.i--
			for r.i < len(r.s) && r.s[r.i] != ')' && r.s[r.i] != ':' {
				switch r.s[r.i] {
				case 'i':
					r.p.icase = true
				case 'm':
					r.p.multi = true
				case 's':
					r.dot = true
				case 'a':
					r.ascii = true
				case 'x':
					r.x = true
				case 'u', 'L':
				default:
					r.p.bad = true
				}
				r.i++
			}
			if r.i < len(r.s) && r.s[r.i] == ')' {
				r.i++
				return &reNode{kind: reEmpty}
			}
			r.i++
		}
	} else {
		n.group = len(r.p.groups)
		r.p.groups = append(r.p.groups, n)
	}
	n.kids = []*reNode{r.alt()}
	if r.i < len(r.s) && r.s[r.i] == ')' {
		r.i++
	} else {
		r.p.bad = true
	}
	return n
}

// skipGroup goes behind the bracket that closes the open group.
func (r *reParser) skipGroup() {
	depth := 1
	for r.i < len(r.s) && depth > 0 {
		switch r.s[r.i] {
		case '\\':
			r.i++
		case '(':
			depth++
		case ')':
			depth--
		}
		r.i++
	}
	if depth > 0 {
		r.p.bad = true
		r.i = len(r.s)
	}
}

var (
	reDigit = CharRange("0-9")
	reWord  = CharRange("a-zA-Z0-9_")
	reSpace = CharsOf(" \t\n\r\f\v")
)

// escape reads what follows a backslash.
func (r *reParser) escape(inClass bool) *reNode {
	if r.i >= len(r.s) {
		r.p.bad = true
		return &reNode{kind: reAny}
	}
	c := r.s[r.i]
	r.i++
	set := func(s Chars, neg bool) *reNode {
		if !r.ascii {
			s.other = true
		}
		if neg {
			s = Chars{^s.lo, ^s.hi, true}
		}
		return &reNode{kind: reSet, set: s, lit: -1, some: !r.ascii}
	}
	switch c {
	case 'd':
		return set(reDigit, false)
	case 'D':
		return set(reDigit, true)
	case 'w':
		return set(reWord, false)
	case 'W':
		return set(reWord, true)
	case 's':
		return set(reSpace, false)
	case 'S':
		return set(reSpace, true)
	case 'n':
		return r.one('\n')
	case 't':
		return r.one('\t')
	case 'r':
		return r.one('\r')
	case 'f':
		return r.one('\f')
	case 'v':
		return r.one('\v')
	case 'a':
		return r.one('\a')
	case 'x', 'u', 'U':
		n := map[rune]int{'x': 2, 'u': 4, 'U': 8}[c]
		if r.i+n > len(r.s) {
			r.p.bad = true
			return &reNode{kind: reAny}
		}
		v, err := strconv.ParseUint(string(r.s[r.i:r.i+n]), 16, 32)
		r.i += n
		if err != nil {
			r.p.bad = true
			return &reNode{kind: reAny}
		}
		return r.one(rune(v))
	case 'A':
		return &reNode{kind: reStart, min: 1}
	case 'Z', 'z':
		return &reNode{kind: reVeryEnd}
	case 'b':
		if inClass {
			return r.one('\b')
		}
		return &reNode{kind: reZero}
	case 'B':
		return &reNode{kind: reZero}
	case '0':
		return r.one(0)
	}
	if c >= '1' && c <= '9' {
		for r.i < len(r.s) && r.s[r.i] >= '0' && r.s[r.i] <= '9' {
			r.i++
		}
		return &reNode{kind: reAny}
	}
	if c < 128 && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
		r.p.bad = true
	}
	return r.one(c)
}

// class reads [...].
func (r *reParser) class() *reNode {
	neg := false
	if r.i < len(r.s) && r.s[r.i] == '^' {
		neg = true
		r.i++
	}
	var set Chars
	first, some := true, false
	for {
		if r.i >= len(r.s) {
			r.p.bad = true
			return &reNode{kind: reAny}
		}
		c := r.s[r.i]
		r.i++
		if c == ']' && !first {
			break
		}
		first = false
		lo := c
		single := true
		if c == '\\' {
			n := r.escape(true)
			if n.kind != reSet || n.lit < 0 && !r.p.icase || n.kind == reSet && n.lit < 0 {
				set = set.Or(n.set)
				some = some || n.some
				if n.kind == reAny {
					set = AnyChars
				}
				single = false
			} else {
				lo = n.lit
			}
		}
		if !single {
			continue
		}
		hi := lo
		if r.i+1 < len(r.s) && r.s[r.i] == '-' && r.s[r.i+1] != ']' {
			r.i++
			hi = r.s[r.i]
			r.i++
			if hi == '\\' {
				n := r.escape(true)
				if n.kind != reSet || n.lit < 0 {
					r.p.bad = true
					return &reNode{kind: reAny}
				}
				hi = n.lit
			}
		}
		for x := lo; x <= hi && x < 128; x++ {
			set = set.with(x)
			if r.p.icase && (x|0x20) >= 'a' && (x|0x20) <= 'z' {
				set = set.with(x ^ 0x20)
			}
		}
		if hi >= 128 {
			set.other, some = true, true
		}
	}
	if neg {
		set = Chars{^set.lo, ^set.hi, true}
	}
	return &reNode{kind: reSet, set: set, lit: -1, some: some}
}

// chars is every character that a match of n may have.
func (n *reNode) chars() Chars {
	var c Chars
	switch n.kind {
	case reSet:
		return n.set
	case reAny:
		return AnyChars
	}
	for _, k := range n.kids {
		c = c.Or(k.chars())
	}
	return c
}

// ends reports whether every match of n begins at the text's beginning
// (start) or ends at its end. newline says that one line end may follow.
func (p *pattern) anchored(n *reNode, start bool) (ok, newline bool) {
	switch n.kind {
	case reStart:
		return start && (!p.multi || n.min == 1), false
	case reEnd:
		return !start && !p.multi, true
	case reVeryEnd:
		return !start, false
	case reGroup:
		return p.anchored(n.kids[0], start)
	case reCat:
		list := n.kids
		if !start {
			list = slices.Clone(list)
			slices.Reverse(list)
		}
		for _, k := range list {
			if ok, nl := p.anchored(k, start); ok {
				return true, nl
			}
			if k.kind != reZero && k.kind != reEmpty {
				return false, false
			}
		}
	case reAlt:
		nl := false
		for _, k := range n.kids {
			ok, n := p.anchored(k, start)
			if !ok {
				return false, false
			}
			nl = nl || n
		}
		return true, nl
	}
	return false, false
}

// literal is the text that n matches if it is only one; ok is false
// otherwise.
func (n *reNode) literal() (string, bool) {
	switch n.kind {
	case reEmpty, reStart, reEnd, reVeryEnd:
		return "", true
	case reSet:
		if n.lit >= 0 {
			return string(n.lit), true
		}
	case reGroup:
		return n.kids[0].literal()
	case reCat:
		var b strings.Builder
		for _, k := range n.kids {
			s, ok := k.literal()
			if !ok {
				return "", false
			}
			b.WriteString(s)
		}
		return b.String(), true
	}
	return "", false
}

// alternatives are the texts that n matches if they are few.
func (n *reNode) alternatives() ([]string, bool) {
	switch n.kind {
	case reAlt:
		var out []string
		for _, k := range n.kids {
			a, ok := k.alternatives()
			if !ok || len(out)+len(a) > maxConsts {
				return nil, false
			}
			out = append(out, a...)
		}
		return out, true
	case reGroup:
		return n.kids[0].alternatives()
	case reCat:
		out := []string{""}
		for _, k := range n.kids {
			a, ok := k.alternatives()
			if !ok || len(out)*len(a) > maxConsts {
				return nil, false
			}
			var next []string
			for _, x := range out {
				for _, y := range a {
					next = append(next, x+y)
				}
			}
			out = next
		}
		return out, true
	}
	s, ok := n.literal()
	return []string{s}, ok
}

// prefix is the literal text that every match of n begins with.
func (n *reNode) prefix() string {
	switch n.kind {
	case reGroup:
		return n.kids[0].prefix()
	case reCat:
		out := ""
		for _, k := range n.kids {
			if s, ok := k.literal(); ok {
				out += s
				continue
			}
			return out + k.prefix()
		}
		return out
	case reSet:
		s, _ := n.literal()
		return s
	}
	return ""
}

// single is the set of characters when n matches exactly one of a set, or a
// run of them. some says that of those beyond ASCII only some match.
func (n *reNode) single() (set Chars, some, ok bool) {
	switch n.kind {
	case reSet:
		return n.set, n.some, true
	case reGroup:
		return n.kids[0].single()
	case reRepeat:
		if n.min <= 1 && n.max != 0 {
			return n.kids[0].single()
		}
	case reCat:
		if len(n.kids) == 1 {
			return n.kids[0].single()
		}
	case reAlt:
		for _, k := range n.kids {
			s, m, ok := k.single()
			if !ok {
				return Chars{}, false, false
			}
			set, some = set.Or(s), some || m
		}
		return set, some, true
	}
	return Chars{}, false, false
}

// outside is what a text may hold in which nothing of a set is found.
func outside(set Chars, some bool) Chars { return Chars{^set.lo, ^set.hi, !set.other || some} }

// regexChars is which characters a text that matches wholly may have.
func regexChars(s string) (Chars, bool) {
	p := parsePattern(s, 0, false)
	return p.root.chars(), !p.bad
}

// compiled is the Go form of a pattern, for constants; nil if there is none
// that means the same.
func compiled(s string, flags int) *regexp.Regexp {
	if len(s) > maxRegex || strings.Contains(s, "(?") && !strings.Contains(s, "(?:") && !strings.Contains(s, "(?P<") || strings.Contains(s, `\Z`) || strings.Contains(s, "$") {
		return nil
	}
	for _, r := range s {
		if r >= 128 {
			return nil
		}
	}
	if flags&^reIgnoreCase != 0 {
		return nil
	}
	if flags&reIgnoreCase != 0 {
		s = "(?i)" + s
	}
	re, err := regexp.Compile(s)
	if err != nil {
		return nil
	}
	return re
}

func init() {
	for _, m := range [...]string{"re", "regex"} {
		natives[m+".compile"] = reCompile
		natives[m+".escape"] = reEscape
		for name, how := range map[string]string{"match": "match", "fullmatch": "fullmatch", "search": "search", "sub": "sub", "subn": "sub", "split": "split", "findall": "findall", "finditer": "finditer"} {
			natives[m+"."+name] = reFunction(how, false)
			natives[m+".Pattern."+name] = reFunction(how, true)
		}
	}
	natives["re.Match.group"] = reMatchGroup
	natives["re.Match.__getitem__"] = reMatchGroup
	natives["re.Match.groups"] = reMatchGroups
	natives["re.Match.groupdict"] = reMatchDict
	natives["re.Match.start"] = func(it *interp, st *state, self *value, c *call) *value { return number }
	natives["re.Match.end"] = natives["re.Match.start"]
}

func reCompile(it *interp, st *state, self *value, c *call) *value {
	p := c.arg(0, "pattern")
	if p == nil {
		return nil
	}
	if p.kind == vInst && p.str == "re.Pattern" {
		return p
	}
	flags := c.arg(1, "flags")
	if flags == nil {
		flags = integer(0)
	}
	return &value{kind: vInst, str: "re.Pattern", elems: []*value{p, flags}, labels: shallowLabels(p)}
}

func reEscape(it *interp, st *state, self *value, c *call) *value {
	return it.mapped(st, c, "reescape", func(s string) (string, bool) { return regexp.QuoteMeta(s), true }, func(c Chars) Chars { return c.Or(CharsOf(`\`)) })
}

// reFlags reads flags, of which names such as re.I are library names.
func reFlags(v *value) (int, bool) {
	if v == nil {
		return 0, true
	}
	switch v.kind {
	case vNum:
		return int(v.num), true
	case vLib:
		switch v.str[strings.LastIndexByte(v.str, '.')+1:] {
		case "I", "IGNORECASE":
			return reIgnoreCase, true
		case "M", "MULTILINE":
			return reMultiLine, true
		case "S", "DOTALL":
			return reDotAll, true
		case "X", "VERBOSE":
			return reVerbose, true
		case "A", "ASCII":
			return reASCII, true
		case "U", "UNICODE", "L", "LOCALE":
			return 0, true
		}
	}
	return 0, false
}

func reFunction(how string, method bool) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		var pat, flags *value
		args := c.args
		if method {
			if self == nil || len(self.elems) != 2 {
				return nil
			}
			pat, flags = self.elems[0], self.elems[1]
		} else {
			if len(args) == 0 {
				return nil
			}
			pat = args[0]
			args = args[1:]
			flags = c.keyword("flags")
			at := 1
			if how == "sub" {
				at = 3
			}
			if flags == nil && len(args) > at {
				flags = args[at]
			}
			if pat.kind == vInst && pat.str == "re.Pattern" && len(pat.elems) == 2 {
				pat, flags = pat.elems[0], pat.elems[1]
			}
		}
		arg := func(i int, name string) *value {
			if i < len(args) {
				return args[i]
			}
			return c.keyword(name)
		}
		fl, ok := reFlags(flags)
		var p *pattern
		if ok && pat.isConstText() {
			p = parsePattern(pat.str, fl, pat.isBytes)
		} else {
			p = &pattern{root: &reNode{kind: reAny}, bad: true}
		}
		re := (*regexp.Regexp)(nil)
		if ok && pat.isConstText() && !p.bad {
			re = compiled(pat.str, fl)
		}
		if how == "sub" {
			return it.reSub(st, c, p, re, arg(0, "repl"), arg(1, "string"))
		}
		subject := arg(0, "string")
		if subject == nil {
			return nil
		}
		switch how {
		case "split":
			r := it.part(fromPieces(it.pieces(st, subject)), "split", "re")
			if set, some, ok := p.root.single(); ok && !p.bad {
				r = narrowed(r, outside(set, some))
			}
			return it.list(st, oList, nil, r)
		case "findall", "finditer":
			m := it.reMatch(p, subject)
			if how == "finditer" {
				return it.list(st, oList, nil, m)
			}
			if len(p.groups) > 2 {
				return it.list(st, oList, nil, reMatchGroups(it, st, m, &call{}))
			}
			return it.list(st, oList, nil, it.reGroup(m, len(p.groups)-1))
		}
		return over(subject, func(s *value) *value { return it.reTest(st, how, p, re, pat, s) })
	}
}

// reTest is match, fullmatch or search: a Match or None.
func (it *interp) reTest(st *state, how string, p *pattern, re *regexp.Regexp, pat, subject *value) *value {
	t := fromPieces(it.pieces(st, subject))
	m := it.reMatch(p, subject)
	if t.isConstText() && re != nil {
		loc := re.FindStringIndex(t.str)
		found := loc != nil
		switch how {
		case "match":
			anch, err := regexp.Compile(`\A(?:` + re.String() + ")")
			found = err == nil && anch.MatchString(t.str)
		case "fullmatch":
			full, err := regexp.Compile(`\A(?:` + re.String() + `)\z`)
			found = err == nil && full.MatchString(t.str)
		}
		if !found {
			return none
		}
		return m
	}
	s := &sym{}
	// What a match says about the whole text.
	start, _ := p.anchored(p.root, true)
	end, newline := p.anchored(p.root, false)
	start = start || how != "search"
	end = end || how == "fullmatch"
	if how == "fullmatch" {
		newline = false
	}
	subj := subject
	if !p.bad {
		whole := start && end
		chars := p.root.chars()
		if newline {
			chars = chars.with('\n')
		}
		alts, few := p.root.alternatives()
		pre := p.root.prefix()
		s.yes = func(it *interp, st *state) {
			switch {
			case whole && few && !newline && !p.icase:
				var c *value
				for _, a := range alts {
					c = join(c, text(a))
				}
				it.equals(st, subj, c)
			case whole:
				it.restrict(st, subj, chars)
			}
			if start && pre != "" && !p.icase {
				for _, y := range symsOf(subj) {
					if len(symsOf(subj)) == 1 {
						st.learn(y, func(r *refinement) {
							if len(pre) > len(r.prefix) {
								r.prefix = pre
							}
						})
					}
				}
			}
		}
		if how == "search" || how == "match" {
			// Not to be found.
			if set, some, ok := p.root.single(); ok && how == "search" {
				s.no = func(it *interp, st *state) { it.restrict(st, subj, outside(set, some)) }
			} else if alts, ok := p.root.alternatives(); ok && how == "search" && !p.icase {
				if a, _ := p.anchored(p.root, true); !a {
					if b, _ := p.anchored(p.root, false); !b {
						s.no = func(it *interp, st *state) {
							for _, a := range alts {
								if a != "" {
									it.exclude(st, subj, a)
								}
							}
						}
					}
				}
			}
		}
	}
	return &value{kind: vUnion, elems: []*value{none, m}, sym: s}
}

// reMatch is a Match object of a pattern on a subject.
func (it *interp) reMatch(p *pattern, subject *value) *value {
	labels := shallowLabels(subject)
	v := &value{kind: vInst, str: "re.Match", labels: labels, pat: p, recv: subject}
	if len(labels) > 0 {
		v.sym = &sym{}
	}
	return v
}

func (it *interp) reGroup(m *value, n int) *value {
	chars := AnyChars
	if m.pat != nil && !m.pat.bad && n >= 0 && n < len(m.pat.groups) && m.pat.groups[n] != nil {
		chars = m.pat.groups[n].chars()
	}
	if n >= 0 && n < len(m.elems) {
		return m.elems[n]
	}
	var syms []*sym
	if m.recv != nil {
		syms = symsOf(m.recv)
	}
	p := piece{sym: it.derive("group", strconv.Itoa(n), syms...), chars: chars, labels: m.labels}
	if m.recv != nil {
		sc, _, clean := charsOf(m.recv)
		if m.recv.kind == vText {
			p.chars = p.chars.And(sc)
			p.clean = clean &^ cleanUnlabelled(m.labels)
		}
	}
	if m.pat != nil && !m.pat.bad && n >= 0 && n < len(m.pat.groups) {
		if alts, ok := m.pat.groups[n].alternatives(); ok && len(alts) > 0 && !m.pat.icase {
			var c *value
			for _, a := range alts {
				c = join(c, text(a))
			}
			return c
		}
		if pre := m.pat.groups[n].prefix(); pre != "" && !m.pat.icase {
			return fromPieces([]piece{{lit: pre}, p})
		}
	}
	return &value{kind: vText, text: []piece{p}}
}

func reMatchGroup(it *interp, st *state, self *value, c *call) *value {
	if self == nil {
		return nil
	}
	one := func(k *value) *value {
		n := -1
		switch {
		case k.kind == vNum:
			n = int(k.num)
		case k.isConstText() && self.pat != nil:
			if i, ok := self.pat.names[k.str]; ok {
				n = i
			}
		}
		return it.reGroup(self, n)
	}
	switch len(c.args) {
	case 0:
		return it.reGroup(self, 0)
	case 1:
		return one(c.args[0])
	}
	t := &value{kind: vTuple}
	for _, a := range c.args {
		t.elems = append(t.elems, one(a))
	}
	return t
}

func reMatchGroups(it *interp, st *state, self *value, c *call) *value {
	if self == nil || self.pat == nil || self.pat.bad {
		return it.list(st, oList, nil, it.reGroup(unknownMatch(self), -1))
	}
	t := &value{kind: vTuple}
	for i := 1; i < len(self.pat.groups); i++ {
		t.elems = append(t.elems, it.reGroup(self, i))
	}
	return t
}

func unknownMatch(v *value) *value {
	if v == nil {
		return &value{kind: vInst, str: "re.Match"}
	}
	return v
}

func reMatchDict(it *interp, st *state, self *value, c *call) *value {
	if self == nil || self.pat == nil {
		return nil
	}
	o := &object{kind: oDict}
	for _, n := range sortedKeys(self.pat.names) {
		key, _ := keyOf(text(n))
		o.set(key, it.reGroup(self, self.pat.names[n]))
	}
	return &value{kind: vObj, obj: it.alloc(st, o)}
}

// reSub is re.sub: which characters survive it.
func (it *interp) reSub(st *state, c *call, p *pattern, re *regexp.Regexp, repl, subject *value) *value {
	if repl == nil || subject == nil {
		return nil
	}
	return over2(repl, subject, func(repl, subject *value) *value {
		t := fromPieces(it.pieces(st, subject))
		var add *value
		switch repl.kind {
		case vText:
			add = repl
		case vFunc, vBound, vLib, vClass:
			if v := it.subEach(st, c, p, re, repl, t); v != nil {
				return v
			}
			m := it.reMatch(p, subject)
			s := st.fork()
			add = it.call(s, repl, &call{at: c.at, args: []*value{m}})
			if s.dead {
				add = empty
			} else {
				it.merge(st, s)
			}
			add = fromPieces(it.pieces(st, add))
		default:
			add = fromPieces(it.pieces(st, repl))
		}
		if add.isConstText() && len(add.str) > 256 && grown(t, func(s, _ string) int { return len(s) + 1 }, "", add.str) {
			return run(AnyChars, addLabels(shallowLabels(t), it.labelsOf(st, add)))
		}
		refs := add.isConstText() && strings.ContainsAny(add.str, `\`)
		if t.isConstText() && re != nil && add.isConstText() && repl.kind == vText && !refs {
			return likeText(t, text(re.ReplaceAllLiteralString(t.str, add.str)))
		}
		ac, al, _ := charsOf(add)
		if refs {
			ac = ac.Or(p.root.chars())
		}
		set, some, single := p.root.single()
		if p.bad {
			single = false
		}
		if single && add.isConstText() && !refs {
			lit := func(s string) string {
				if re != nil {
					return re.ReplaceAllLiteralString(s, add.str)
				}
				var b strings.Builder
				for _, r := range s {
					if set.Has(r) && r < utf8.RuneSelf {
						b.WriteString(add.str)
					} else {
						b.WriteRune(r)
					}
				}
				return b.String()
			}
			return runs(t, lit, func(q piece) piece {
				gone := outside(set, some)
				op, arg := "resub", ""
				var dropped strings.Builder
				for r := rune(0); r < 128; r++ {
					if set.Has(r) {
						dropped.WriteRune(r)
					}
				}
				if add.str == "" {
					op, arg = "drop", dropped.String()
				} else {
					arg = dropped.String() + "\x00" + add.str
				}
				return piece{sym: it.derive(op, arg, q.sym), chars: q.chars.And(gone).Or(ac), labels: q.labels, clean: q.clean}
			})
		}
		tc, tl, _ := charsOf(t)
		if !add.isConstText() && len(al) > 0 {
			if v := it.spliced(t, add, re); v != nil {
				return likeText(t, v)
			}
		}
		return likeText(t, &value{kind: vText, text: []piece{{sym: it.derive("resub", "?", symsOf(t)...), chars: tc.Or(ac), labels: addLabels(tl, al)}}})
	})
}

// subEach is re.sub with a function on a known text: the function is called for
// each match, as it is. nil says that it is too much, or the text not known.
func (it *interp) subEach(st *state, c *call, p *pattern, re *regexp.Regexp, repl, t *value) *value {
	if !t.isConstText() || re == nil || p.bad {
		return nil
	}
	all := re.FindAllStringSubmatchIndex(t.str, maxPieces/2+1)
	if len(all) > maxPieces/2 {
		return nil
	}
	s := st.fork()
	var out []piece
	last := 0
	for _, at := range all {
		if at[0] > last {
			out = append(out, piece{lit: t.str[last:at[0]]})
		}
		last = at[1]
		m := it.reMatch(p, t)
		for i := 0; i+1 < len(at); i += 2 {
			g := none
			if at[i] >= 0 {
				g = likeText(t, text(t.str[at[i]:at[i+1]]))
			}
			m.elems = append(m.elems, g)
		}
		out = append(out, it.pieces(s, it.call(s, repl, &call{at: c.at, args: []*value{m}}))...)
		if s.dead || len(out) > maxPieces {
			return nil
		}
	}
	*st = *s
	if last < len(t.str) {
		out = append(out, piece{lit: t.str[last:]})
	}
	return likeText(t, fromPieces(out))
}

// spliced is t with add in the place of what a pattern matches. What comes from
// either keeps its own characters. nil says that it is too much.
func (it *interp) spliced(t, add *value, re *regexp.Regexp) *value {
	if len(add.text) > maxPieces/4 {
		return nil
	}
	if !t.isConstText() || re == nil {
		tc, tl, clean := charsOf(t)
		rest := func(part string) piece {
			return piece{sym: it.derive("resub", part, symsOf(t)...), chars: tc, labels: tl, clean: clean}
		}
		return fromPieces(slices.Concat([]piece{rest("before")}, add.text, []piece{rest("behind")}))
	}
	at := re.FindAllStringIndex(t.str, maxPieces)
	if len(at)*(len(add.text)+1) >= maxPieces {
		return nil
	}
	var out []piece
	last := 0
	for _, m := range at {
		if m[0] > last {
			out = append(out, piece{lit: t.str[last:m[0]]})
		}
		out = append(out, add.text...)
		last = m[1]
	}
	if last < len(t.str) {
		out = append(out, piece{lit: t.str[last:]})
	}
	return fromPieces(out)
}
