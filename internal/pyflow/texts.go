package pyflow

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

func init() {
	for name, f := range map[string]native{
		"upper": caseMethod("upper", strings.ToUpper), "lower": caseMethod("lower", strings.ToLower), "casefold": caseMethod("lower", strings.ToLower),
		"title": caseMethod("title", pyTitle), "capitalize": caseMethod("title", pyCapitalize), "swapcase": caseMethod("title", pySwap),
		"strip": stripMethod(true, true), "lstrip": stripMethod(true, false), "rstrip": stripMethod(false, true),
		"split": textSplit, "rsplit": textSplit, "splitlines": textSplitLines, "partition": textPartition(false), "rpartition": textPartition(true),
		"join": textJoin, "replace": textReplace, "removeprefix": textRemovePrefix, "removesuffix": textRemoveSuffix,
		"startswith": textStarts, "endswith": textEnds, "find": textFind, "index": textFind, "rfind": textFind, "rindex": textFind, "count": textFind,
		"zfill": padMethod("0"), "center": padMethod(" "), "ljust": padMethod(" "), "rjust": padMethod(" "), "expandtabs": padMethod(" "),
		"encode": textEncode, "decode": textDecode, "format": textFormat, "format_map": textFormatMap, "translate": textTranslate, "hex": textHex,
		"isdigit": charTest(CharRange(`0-9\u`), unicode.IsDigit), "isdecimal": charTest(CharRange(`0-9\u`), unicode.IsDigit), "isnumeric": charTest(CharRange(`0-9\u`), unicode.IsNumber),
		"isalpha":      charTest(CharRange(`a-zA-Z\u`), unicode.IsLetter),
		"isalnum":      charTest(CharRange(`a-zA-Z0-9\u`), func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }),
		"isspace":      charTest(CharsOf(" \t\n\r\v\f\x1c\x1d\x1e\x1f\u00a0"), unicode.IsSpace),
		"isascii":      charTest(Chars{^uint64(0), ^uint64(0), false}, func(r rune) bool { return r < 128 }),
		"isidentifier": charTest(CharRange(`a-zA-Z0-9_\u`), func(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) }),
		"isprintable":  charTest(AnyChars.Without("\n\r\t\x00\x0b\x0c\x1b"), unicode.IsPrint),
		"isupper":      charTest(AnyChars.And(CharRange("\x01-`{-~").Or(Chars{other: true}).Or(CharsOf("\x00\x7f"))), func(r rune) bool { return !unicode.IsLower(r) }),
		"islower":      charTest(AnyChars, func(r rune) bool { return !unicode.IsUpper(r) }),
	} {
		textMethods[name] = f
	}
}

// runs applies f to each unknown part of v and lit to each literal one.
func runs(v *value, lit func(string) string, f func(piece) piece) *value {
	ps := v.text
	if v.text == nil {
		ps = []piece{{lit: v.str}}
	}
	out := make([]piece, len(ps))
	for i, p := range ps {
		if p.sym == nil {
			p.lit = lit(p.lit)
		} else {
			p = f(p)
		}
		out[i] = p
	}
	r := fromPieces(out)
	if v.isBytes || v.safe {
		c := *r
		c.isBytes, c.safe = v.isBytes, v.safe
		return &c
	}
	return r
}

func caseMethod(op string, f func(string) string) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		return runs(self, f, func(p piece) piece {
			both := p.chars
			for r := rune('a'); r <= 'z'; r++ {
				if p.chars.Has(r) || p.chars.Has(r-32) {
					switch op {
					case "lower":
						both = both.with(r).Without(string(r - 32))
					case "upper":
						both = both.with(r - 32).Without(string(r))
					default:
						both = both.with(r).with(r - 32)
					}
				}
			}
			p.chars = both
			p.sym = it.derive(op, "", p.sym)
			p.not = slices.DeleteFunc(slices.Clone(p.not), func(s string) bool { return strings.ToUpper(s) != strings.ToLower(s) })
			return p
		})
	}
}

func pyTitle(s string) string {
	prev := false
	return strings.Map(func(r rune) rune {
		was := prev
		prev = unicode.IsLetter(r)
		if was {
			return unicode.ToLower(r)
		}
		return unicode.ToUpper(r)
	}, s)
}

func pyCapitalize(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	return string(unicode.ToUpper(r)) + strings.ToLower(s[n:])
}

func pySwap(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsUpper(r) {
			return unicode.ToLower(r)
		}
		return unicode.ToUpper(r)
	}, s)
}

const pySpace = " \t\n\r\v\f\x1c\x1d\x1e\x1f\u0085\u00a0"

func stripMethod(left, right bool) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		set := pySpace
		if a := c.arg(0, "chars"); a != nil && a.kind != vNone {
			if !a.isConstText() {
				return it.part(self, "slice", "?")
			}
			set = a.str
		}
		ps := self.text
		if ps == nil {
			s := self.str
			if left {
				s = strings.TrimLeft(s, set)
			}
			if right {
				s = strings.TrimRight(s, set)
			}
			return likeText(self, text(s))
		}
		out := slices.Clone(ps)
		op := "slice"
		switch {
		case set == pySpace:
			op = "strip"
		case strings.IndexFunc(set, func(r rune) bool { return r > ' ' }) < 0:
			op = "trim"
		}
		cut := func(i int) {
			p := &out[i]
			if p.sym == nil {
				return
			}
			if p.clean != allTags && p.chars.Has('/') && strings.Trim(set, "/") != "" {
				// "/srv/" and " ../x" is a path below /srv, with "../x" it is none.
				p.clean &^= it.pathTags()
			}
			p.sym = it.derive(op, set+strconv.FormatBool(left)+strconv.FormatBool(right), p.sym)
		}
		if left {
			if out[0].sym == nil {
				out[0].lit = strings.TrimLeft(out[0].lit, set)
			} else {
				cut(0)
			}
		}
		if n := len(out) - 1; right {
			if out[n].sym == nil {
				out[n].lit = strings.TrimRight(out[n].lit, set)
			} else if n > 0 || !left {
				cut(n)
			}
		}
		return likeText(self, fromPieces(out))
	}
}

// sureWithout reports whether no run of v can contain sep, nor can it arise
// across a border.
func sureWithout(v *value, sep string) bool {
	for i, p := range v.text {
		if p.sym == nil {
			continue
		}
		for _, r := range sep {
			if p.chars.Has(r) && !(len(sep) == 1 && slices.Contains(p.not, sep)) {
				return false
			}
		}
		_ = i
	}
	return true
}

// cutPieces splits pieces at a literal separator.
func cutPieces(v *value, sep string, limit int) []*value {
	ps := v.text
	if ps == nil {
		ps = []piece{{lit: v.str}}
	}
	var out []*value
	var cur []piece
	for _, p := range ps {
		if p.sym != nil {
			cur = append(cur, p)
			continue
		}
		rest := p.lit
		for limit < 0 || len(out) < limit {
			i := strings.Index(rest, sep)
			if i < 0 {
				break
			}
			cur = append(cur, piece{lit: rest[:i]})
			out = append(out, likeText(v, fromPieces(cur)))
			cur = nil
			rest = rest[i+len(sep):]
		}
		cur = append(cur, piece{lit: rest})
	}
	return append(out, likeText(v, fromPieces(cur)))
}

func textSplit(it *interp, st *state, self *value, c *call) *value {
	sep := c.arg(0, "sep")
	limit := -1
	if m := c.arg(1, "maxsplit"); m != nil && m.kind == vNum && m.num >= 0 {
		limit = int(m.num)
	}
	if self.isConstText() {
		if sep == nil || sep.kind == vNone {
			var out []*value
			s := strings.TrimLeft(self.str, pySpace)
			for s != "" {
				i := strings.IndexAny(s, pySpace)
				if limit >= 0 && len(out) >= limit || i < 0 {
					out = append(out, likeText(self, text(strings.TrimRight(s, pySpace))))
					break
				}
				out = append(out, likeText(self, text(s[:i])))
				s = strings.TrimLeft(s[i:], pySpace)
			}
			return it.list(st, oList, out, nil)
		}
		if sep.isConstText() && sep.str != "" {
			parts := strings.Split(self.str, sep.str)
			if limit >= 0 {
				return it.list(st, oList, cutPieces(self, sep.str, limit), nil)
			}
			var out []*value
			for _, p := range parts {
				out = append(out, likeText(self, text(p)))
			}
			return it.list(st, oList, out, nil)
		}
	}
	if sep != nil && sep.isConstText() && sep.str != "" {
		ps := self.text
		if sureWithout(self, sep.str) {
			return it.list(st, oList, cutPieces(self, sep.str, limit), nil)
		}
		// Up to the first part that may hold a separator all is known.
		var head []*value
		if len(ps) > 0 && ps[0].sym == nil && limit != 0 {
			parts := strings.Split(ps[0].lit, sep.str)
			for _, p := range parts[:len(parts)-1] {
				if limit < 0 || len(head) < limit {
					head = append(head, likeText(self, text(p)))
				}
			}
		}
		rest := it.part(self, "split", sep.str)
		if limit < 0 || limit > 8 {
			rest = withoutText(rest, sep.str)
		}
		return it.list(st, oList, head, rest)
	}
	rest := it.part(self, "split", "")
	if sep == nil || sep.kind == vNone {
		rest = narrowed(rest, AnyChars.Without(" \t\n\r\v\f"))
		if limit >= 0 {
			rest = it.part(self, "split", "")
		}
	}
	return it.list(st, oList, nil, rest)
}

// withoutText notes that a text does not occur in a run.
func withoutText(v *value, s string) *value {
	if len(v.text) != 1 || v.text[0].sym == nil {
		return v
	}
	c := *v
	c.text = slices.Clone(v.text)
	p := &c.text[0]
	if len(s) == 1 {
		p.chars = p.chars.Without(s)
	} else if !slices.Contains(p.not, s) {
		p.not = append(slices.Clone(p.not), s)
	}
	return &c
}

// narrowed leaves a run only some characters.
func narrowed(v *value, chars Chars) *value {
	if len(v.text) != 1 || v.text[0].sym == nil {
		return v
	}
	c := *v
	c.text = slices.Clone(v.text)
	c.text[0].chars = c.text[0].chars.And(chars)
	return &c
}

func textSplitLines(it *interp, st *state, self *value, c *call) *value {
	if self.isConstText() {
		var out []*value
		for l := range strings.Lines(strings.ReplaceAll(self.str, "\r\n", "\n")) {
			out = append(out, likeText(self, text(strings.TrimSuffix(l, "\n"))))
		}
		return it.list(st, oList, out, nil)
	}
	return it.list(st, oList, nil, narrowed(it.part(self, "split", "\n"), AnyChars.Without("\n\r")))
}

func textPartition(last bool) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		sep := c.arg(0, "sep")
		if sep == nil || !sep.isConstText() || sep.str == "" {
			p := it.part(self, "split", "?")
			return &value{kind: vTuple, elems: []*value{p, unknownOr(sep), p}}
		}
		if self.isConstText() {
			a, b, ok := strings.Cut(self.str, sep.str)
			if last {
				if i := strings.LastIndex(self.str, sep.str); i >= 0 {
					a, b = self.str[:i], self.str[i+len(sep.str):]
				} else {
					return &value{kind: vTuple, elems: []*value{empty, empty, self}}
				}
			}
			mid := sep
			if !ok {
				mid = empty
			}
			return &value{kind: vTuple, elems: []*value{likeText(self, text(a)), mid, likeText(self, text(b))}}
		}
		if !last && len(self.text) > 0 && self.text[0].sym == nil {
			if a, b, ok := strings.Cut(self.text[0].lit, sep.str); ok {
				rest := slices.Clone(self.text)
				rest[0].lit = b
				return &value{kind: vTuple, elems: []*value{likeText(self, text(a)), sep, likeText(self, fromPieces(rest))}}
			}
		}
		before := it.part(self, "partition", sep.str+"<")
		after := it.part(self, "partition", sep.str+">")
		if last {
			after = withoutText(after, sep.str)
		} else {
			before = withoutText(before, sep.str)
		}
		return &value{kind: vTuple, elems: []*value{before, join(sep, empty), after}}
	}
}

func allConstTexts(list []*value) bool {
	for _, v := range list {
		if !v.isConstText() {
			return false
		}
	}
	return true
}

// framed reports whether v is a text with a part from outside beside known
// ones, such as "x".
func framed(v *value) bool {
	if v.kind != vText || len(v.text) < 2 || len(v.text) > 7 {
		return false
	}
	return len(shallowLabels(v)) > 0 && slices.ContainsFunc(v.text, func(p piece) bool { return p.sym == nil })
}

// maxJoined is how many forms the parts of a text may have that each of them is
// kept when it is not known how many are joined.
const maxJoined = 3

func textJoin(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "iterable")
	if v == nil {
		return nil
	}
	items, exact := it.iterate(st, v)
	if exact {
		if len(items) > maxPieces && !(self.isConstText() && allConstTexts(items)) {
			t := blob([]*value{fromPieces(it.pieces(st, unknownOr(joinAll(items)))), fromPieces(it.pieces(st, self))})
			return likeText(self, t)
		}
		out := empty
		for i, x := range items {
			if i > 0 {
				out = it.concat(st, out, self)
			}
			if x.kind == vUnion && allTexts(x) {
				out = over(x, func(x *value) *value { return it.concat(st, out, x) })
				if out.kind == vUnion {
					out = flatten(out)
				}
				continue
			}
			out = it.concat(st, out, x)
		}
		return likeText(self, out)
	}
	e := unknownOr(joinAll(items))
	if alts := e.alts(); self.isConstText() && len(alts) <= maxJoined && !slices.ContainsFunc(alts, func(x *value) bool { return !framed(x) }) {
		// None, one, or more: what stands around each of them is kept.
		out := []*value{empty}
		for _, x := range alts {
			out = append(out, x, it.concat(st, it.concat(st, x, self), x))
		}
		return likeText(self, union(out))
	}
	list := []*value{fromPieces(it.pieces(st, e))}
	if !self.isConstText() || self.str != "" {
		list = append(list, self)
	}
	ps := it.pieces(st, blob(list))
	// Nothing says how it begins.
	chars, labels, clean := charsOf(&value{kind: vText, text: ps})
	var syms []*sym
	for _, p := range ps {
		if p.sym != nil {
			syms = append(syms, p.sym)
		}
	}
	return likeText(self, &value{kind: vText, text: []piece{{sym: it.derive("joined", "", syms...), chars: chars, labels: labels, clean: clean &^ cleanUnlabelled(labels)}}})
}

func allTexts(v *value) bool {
	for _, a := range v.alts() {
		if a.kind != vText {
			return false
		}
	}
	return true
}

func textReplace(it *interp, st *state, self *value, c *call) *value {
	a, b := c.arg(0, "old"), c.arg(1, "new")
	if a == nil || b == nil {
		return nil
	}
	if len(c.args) > 2 || c.keyword("count") != nil {
		t := blob([]*value{self, fromPieces(it.pieces(st, b))})
		chars, labels, clean := charsOf(t)
		return &value{kind: vText, text: []piece{{sym: &sym{}, chars: chars, labels: labels, clean: clean &^ cleanUnlabelled(labels)}}}
	}
	return over2(a, b, func(a, b *value) *value {
		if !a.isConstText() {
			labels := addLabels(shallowLabels(self), it.labelsOf(st, b))
			return run(AnyChars, labels)
		}
		if a.str == "" {
			return run(AnyChars, addLabels(shallowLabels(self), it.labelsOf(st, b)))
		}
		if b.isConstText() {
			if grown(self, strings.Count, a.str, b.str) {
				return run(AnyChars, addLabels(shallowLabels(self), it.labelsOf(st, b)))
			}
			return runs(self, func(s string) string { return strings.ReplaceAll(s, a.str, b.str) }, func(p piece) piece {
				before := p.chars
				one := len(a.str) == 1
				if one && !before.HasAny(a.str) {
					return p
				}
				chars := before.Or(CharsOf(b.str))
				op := "replace"
				if one {
					if !strings.Contains(b.str, a.str) {
						chars = chars.Without(a.str).Or(CharsOf(b.str))
					}
					if b.str == "" {
						op = "drop"
					}
				}
				arg := a.str
				if op == "replace" {
					arg += "\x00" + b.str
				}
				q := piece{sym: it.derive(op, arg, p.sym), chars: chars, labels: p.labels, clean: p.clean}
				for _, n := range p.not {
					// What was not there may arise when something goes.
					if one && b.str != "" && !strings.ContainsAny(n, b.str) && !strings.Contains(n, a.str) {
						q.not = append(q.not, n)
					}
				}
				// Doubling or escaping a character keeps what harmlessness was
				// about only when nothing was said about it.
				return q
			})
		}
		// Something unknown is put in.
		bt := fromPieces(it.pieces(st, b))
		if self.isConstText() || !self.hasRunWith(a.str) {
			var out []piece
			for i, part := range cutPieces(self, a.str, maxPieces/2) {
				if i > 0 {
					out = append(out, it.pieces(st, bt)...)
				}
				out = append(out, it.pieces(st, part)...)
			}
			return likeText(self, fromPieces(out))
		}
		if len(self.text) == 1 && len(self.text[0].labels) == 0 {
			// What stood around it is nobody's; what is put in stays what it is.
			around := piece{sym: &sym{}, chars: self.text[0].chars, clean: self.text[0].clean}
			return likeText(self, fromPieces(slices.Concat([]piece{around}, it.pieces(st, bt), []piece{around})))
		}
		return blob([]*value{fromPieces([]piece{{sym: &sym{}, chars: AnyChars, labels: shallowLabels(self)}}), bt})
	})
}

// hasRunWith reports whether an unknown part may contain s.
func (v *value) hasRunWith(s string) bool {
	for _, p := range v.text {
		if p.sym != nil {
			may := true
			for _, r := range s {
				may = may && p.chars.Has(r)
			}
			if may {
				return true
			}
		}
	}
	return false
}

func textRemovePrefix(it *interp, st *state, self *value, c *call) *value {
	p := c.arg(0, "prefix")
	if p == nil || !p.isConstText() {
		return it.part(self, "slice", "?")
	}
	if self.isConstText() {
		return likeText(self, text(strings.TrimPrefix(self.str, p.str)))
	}
	if s, ok := strings.CutPrefix(prefixOf(self), p.str); ok {
		out := slices.Clone(self.text)
		out[0].lit = s
		return likeText(self, fromPieces(out))
	}
	return it.part(self, "slice", "prefix "+p.str)
}

func textRemoveSuffix(it *interp, st *state, self *value, c *call) *value {
	p := c.arg(0, "suffix")
	if p == nil || !p.isConstText() {
		return it.part(self, "slice", "?")
	}
	if self.isConstText() {
		return likeText(self, text(strings.TrimSuffix(self.str, p.str)))
	}
	if n := len(self.text) - 1; self.text[n].sym == nil && strings.HasSuffix(self.text[n].lit, p.str) {
		out := slices.Clone(self.text)
		out[n].lit = strings.TrimSuffix(out[n].lit, p.str)
		return likeText(self, fromPieces(out))
	}
	return it.part(self, "slice", "suffix "+p.str)
}

// affixes returns the constants of an argument that may be a tuple.
func (it *interp) affixes(st *state, v *value) ([]string, bool) {
	if v == nil {
		return nil, false
	}
	var out []string
	for _, a := range v.alts() {
		if a.isConstText() {
			out = append(out, a.str)
			continue
		}
		if a.kind != vTuple && a.kind != vObj {
			return nil, false
		}
		items, exact := it.iterate(st, a)
		for _, x := range items {
			if !x.isConstText() {
				return nil, false
			}
			out = append(out, x.str)
		}
		if !exact {
			return nil, false
		}
	}
	return out, len(out) > 0
}

func textStarts(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) > 1 {
		return boolean
	}
	arg := c.arg(0, "prefix")
	list, ok := it.affixes(st, arg)
	if self.isConstText() {
		if ok && arg.kind != vUnion {
			return boolOf(slices.ContainsFunc(list, func(p string) bool { return strings.HasPrefix(self.str, p) }))
		}
		return boolean
	}
	norm := len(self.text) >= 1 && self.text[0].sym != nil && normalized(self.text[0].sym)
	if !ok {
		// A beginning that does not come from outside: the folder of the visitor's
		// account is the app's choice, too.
		if arg != nil && norm && allStored(it.labelsOf(st, arg)) {
			end := fromPieces(it.pieces(st, arg))
			if n := len(end.text); n > 0 && end.text[n-1].sym == nil && strings.HasSuffix(end.text[n-1].lit, "/") || end.isConstText() && strings.HasSuffix(end.str, "/") {
				return it.insideTest(self)
			}
			return it.insideWeakTest(self, arg)
		}
		return boolean
	}
	pre := prefixOf(self)
	at := 0 // the piece that the rest of a prefix speaks of
	if pre != "" && len(self.text) > 1 && self.text[1].sym != nil {
		at = 1
	}
	maybe := []string{}
	for _, p := range list {
		switch {
		case strings.HasPrefix(pre, p):
			return vTrue
		case len(p) > len(pre) && strings.HasPrefix(p, pre):
			if len(pre) == 0 && len(self.text) > 0 && self.text[0].sym != nil {
				q := self.text[0]
				ok := true
				for _, r := range p {
					ok = ok && q.chars.Has(r)
				}
				if !ok && len(self.text) == 1 {
					continue
				}
			}
			maybe = append(maybe, p)
		}
	}
	if len(maybe) == 0 {
		return vFalse
	}
	if self.text[at].sym == nil {
		return boolean
	}
	if at == 1 {
		for i := range maybe {
			maybe[i] = maybe[i][len(pre):]
		}
	}
	s := self.text[at].sym
	yes := func(it *interp, st *state) {
		if len(maybe) == 1 {
			st.learn(s, func(r *refinement) {
				if len(maybe[0]) > len(r.prefix) {
					r.prefix = maybe[0]
				}
			})
			if len(s.bases) == 1 && s.op == "same" {
				st.learn(s.bases[0], func(r *refinement) { r.prefix = maybe[0] })
			}
		}
		inside := norm
		for _, p := range maybe {
			inside = inside && strings.HasSuffix(p, "/") && p != "/"
		}
		if inside {
			st.learnClean(s, it.pathTags(), 0)
		}
	}
	no := func(it *interp, st *state) {
		for _, p := range maybe {
			p := p
			st.learn(s, func(r *refinement) {
				if len(r.notPrefix) < 8 && !slices.Contains(r.notPrefix, p) {
					r.notPrefix = append(r.notPrefix[:len(r.notPrefix):len(r.notPrefix)], p)
				}
			})
		}
	}
	return test(yes, no)
}

// normalized reports whether a symbol stands for a path without ".." parts.
func normalized(s *sym) bool {
	for range 4 {
		if s == nil {
			return false
		}
		switch s.op {
		case "norm", "real":
			return true
		case "either":
			for _, b := range s.bases {
				if !normalized(b) {
					return false
				}
			}
			return true
		}
		if s.op != "same" || len(s.bases) != 1 {
			return false
		}
		s = s.bases[0]
	}
	return false
}

// insideTest is the test that a normalised path is below a folder.
func (it *interp) insideTest(v *value) *value {
	return test(func(it *interp, st *state) {
		for _, s := range symsOf(v) {
			st.learnClean(s, it.pathTags(), 0)
		}
	}, nil)
}

// insideWeakTest is the test that a normalised path begins with that of a
// folder without its separator: /srv/files also begins /srv/files-of-others.
// Whether that is a way out depends on what lies beside the folder; the path
// is in the folder's neighbourhood at worst, and no rule can say that there
// is something.
func (it *interp) insideWeakTest(v, base *value) *value { return it.insideTest(v) }

func textEnds(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) > 1 {
		return boolean
	}
	list, ok := it.affixes(st, c.arg(0, "suffix"))
	if !ok {
		return boolean
	}
	if self.isConstText() {
		if c.arg(0, "suffix").kind == vUnion {
			return boolean
		}
		return boolOf(slices.ContainsFunc(list, func(p string) bool { return strings.HasSuffix(self.str, p) }))
	}
	last := self.text[len(self.text)-1]
	if last.sym == nil {
		possible := false
		for _, p := range list {
			if strings.HasSuffix(last.lit, p) {
				return vTrue
			}
			possible = possible || strings.HasSuffix(p, last.lit)
		}
		if !possible {
			return vFalse
		}
		return boolean
	}
	if len(list) != 1 {
		return boolean
	}
	s, suffix := last.sym, list[0]
	if slices.ContainsFunc(last.not, func(n string) bool { return strings.Contains(suffix, n) }) {
		return vFalse
	}
	for _, r := range suffix {
		if !last.chars.Has(r) && len(self.text) == 1 {
			return vFalse
		}
	}
	return test(func(it *interp, st *state) {
		st.learn(s, func(r *refinement) {
			if len(suffix) > len(r.suffix) {
				r.suffix = suffix
			}
		})
	}, nil)
}

func textFind(it *interp, st *state, self *value, c *call) *value {
	a := c.arg(0, "sub")
	if a != nil && a.isConstText() && self.isConstText() && len(c.args) == 1 {
		i := strings.Index(self.str, a.str)
		if i >= 0 {
			return integer(float64(utf8.RuneCountInString(self.str[:i])))
		}
	}
	return number
}

func padMethod(fill string) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		if f := c.arg(1, "fillchar"); f != nil && f.isConstText() {
			fill = f.str
		}
		ch, labels, clean := charsOf(self)
		return likeText(self, &value{kind: vText, text: []piece{{sym: &sym{}, chars: ch.Or(CharsOf(fill)), labels: labels, clean: clean &^ cleanUnlabelled(labels)}}})
	}
}

func textEncode(it *interp, st *state, self *value, c *call) *value {
	codec := c.arg(0, "encoding")
	if codec != nil && codec.isConstText() {
		switch strings.ToLower(codec.str) {
		case "utf-8", "utf8", "ascii", "latin-1", "latin1", "iso-8859-1", "utf_8":
		default:
			t := *run(AnyChars, shallowLabels(self))
			t.isBytes = true
			return &t
		}
	}
	t := *self
	t.isBytes, t.safe = true, false
	return &t
}

func textDecode(it *interp, st *state, self *value, c *call) *value {
	t := *self
	t.isBytes, t.safe = false, false
	return &t
}

func textHex(it *interp, st *state, self *value, c *call) *value {
	return run(CharRange("0-9a-f"), shallowLabels(self))
}

func textTranslate(it *interp, st *state, self *value, c *call) *value {
	table := c.arg(0, "table")
	if table != nil && table.kind == vObj {
		if o := it.get(st, table.obj); o != nil && o.kind == oDict && o.rest == nil {
			gone, add := "", Chars{}
			ok := true
			for _, k := range o.keys {
				kv := keyValue(k)
				r := ""
				switch {
				case kv.kind == vNum:
					r = string(rune(kv.num))
				case kv.isConstText():
					r = kv.str
				default:
					ok = false
				}
				gone += r
				v := noUnbound(o.m[k])
				switch {
				case v == nil || v.kind == vNone:
				case v.isConstText():
					add = add.Or(CharsOf(v.str))
				case v.kind == vNum:
					add = add.with(rune(v.num))
				default:
					ok = false
				}
			}
			if ok {
				op := "translate"
				if add == (Chars{}) {
					op = "drop"
				}
				ch, labels, clean := charsOf(self)
				return &value{kind: vText, text: []piece{{sym: it.derive(op, gone, symsOf(self)...), chars: ch.Without(gone).Or(add), labels: labels, clean: clean &^ cleanUnlabelled(labels)}}}
			}
		}
	}
	return run(AnyChars, addLabels(shallowLabels(self), c.labels(it, st)))
}

func charTest(set Chars, has func(rune) bool) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		if self.isConstText() {
			if self.str == "" {
				return vFalse
			}
			for _, r := range self.str {
				if !has(r) {
					return vFalse
				}
			}
			if set == AnyChars {
				return boolean
			}
			return vTrue
		}
		for _, p := range self.text {
			if p.sym == nil {
				for _, r := range p.lit {
					if !set.Has(r) {
						return vFalse
					}
				}
			}
		}
		v := self
		return test(func(it *interp, st *state) { it.restrict(st, v, set) }, func(it *interp, st *state) {
			if len(v.text) == 1 && v.text[0].sym != nil && v.text[0].sym.op == "char" && set != AnyChars {
				// One character that is not of the set. Beyond ASCII either may hold.
				rest := Chars{^set.lo, ^set.hi, true}
				it.restrict(st, v, rest)
			}
		})
	}
}

// formatSpec is format(v, spec) after a conversion.
func (it *interp) formatSpec(st *state, v *value, conversion byte, spec string) *value {
	return over(v, func(v *value) *value {
		if conversion == 'r' || conversion == 'a' {
			return it.reprText(st, v)
		}
		t := it.str(st, v)
		if spec == "" {
			return t
		}
		if v.isConst() {
			if s, ok := formatConst(v, spec); ok {
				return text(s)
			}
		}
		kind := spec[len(spec)-1]
		switch kind {
		case 'd':
			ch := CharRange("0-9-")
			for _, flag := range ",_+ " {
				if strings.ContainsRune(spec, flag) {
					ch = ch.with(flag)
				}
			}
			return run(ch, it.labelsOf(st, v))
		case 'f', 'F', 'e', 'E', 'g', 'G', 'n', '%':
			return run(CharRange("0-9.,+eE %naif-"), it.labelsOf(st, v))
		case 'x', 'X', 'o', 'b':
			return run(CharRange("0-9a-fA-FxXob+ -"), it.labelsOf(st, v))
		}
		ch, labels, clean := charsOf(t)
		return &value{kind: vText, text: []piece{{sym: &sym{}, chars: ch.Or(CharsOf(spec)).Or(CharsOf(" ")), labels: labels, clean: clean &^ cleanUnlabelled(labels)}}}
	})
}

// reprText is repr(v).
func (it *interp) reprText(st *state, v *value) *value {
	switch v.kind {
	case vNum, vNone, vBool, vNumber, vBoolean:
		return it.str(st, v)
	case vText:
		if v.isBytes {
			c := *v
			c.isBytes = false
			return it.concat(st, text("b"), it.reprText(st, &c))
		}
		if v.isConstText() {
			q := "'"
			if strings.Contains(v.str, "'") && !strings.Contains(v.str, `"`) {
				q = `"`
			}
			var b strings.Builder
			b.WriteString(q)
			for _, r := range v.str {
				switch {
				case r == '\n':
					b.WriteString(`\n`)
				case r == '\r':
					b.WriteString(`\r`)
				case r == '\t':
					b.WriteString(`\t`)
				case r == '\\' || string(r) == q:
					b.WriteString(`\` + string(r))
				case r < 32 || r == 127:
					b.WriteString(`\x` + strconv.FormatInt(int64(r)+256, 16)[1:])
				default:
					b.WriteRune(r)
				}
			}
			b.WriteString(q)
			return text(b.String())
		}
	}
	ch, labels, clean := charsOf(it.str(st, v))
	_ = clean
	// Quotes and backslashes are escaped and line ends written as letters.
	return &value{kind: vText, text: []piece{{sym: &sym{}, chars: ch.Or(CharsOf(`'"\\`)).Without("\n\r\t"), labels: labels}}}
}

// formatConst is format of a constant; ok is false for what is not covered.
func formatConst(v *value, spec string) (string, bool) {
	s := spec
	fill, align := " ", byte(0)
	if len(s) >= 2 && strings.IndexByte("<>^=", s[1]) >= 0 {
		fill, align, s = s[:1], s[1], s[2:]
	} else if s != "" && strings.IndexByte("<>^=", s[0]) >= 0 {
		align, s = s[0], s[1:]
	}
	sign := ""
	if s != "" && (s[0] == '+' || s[0] == ' ' || s[0] == '-') {
		sign, s = s[:1], s[1:]
	}
	if s != "" && s[0] == '#' {
		return "", false
	}
	if s != "" && s[0] == '0' && align == 0 {
		fill, align, s = "0", '=', s[1:]
	}
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	width, _ := strconv.Atoi(s[:n])
	s = s[n:]
	comma := false
	if s != "" && s[0] == ',' {
		comma, s = true, s[1:]
	}
	prec := -1
	if s != "" && s[0] == '.' {
		n = 1
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		prec, _ = strconv.Atoi(s[1:n])
		s = s[n:]
	}
	if len(s) > 1 || width > 4096 || prec > 100 || comma {
		return "", false
	}
	kind := byte(0)
	if s != "" {
		kind = s[0]
	}
	var body string
	switch v.kind {
	case vText:
		if kind != 0 && kind != 's' || align == '=' {
			return "", false
		}
		body = v.str
		if rs := []rune(body); prec >= 0 && len(rs) > prec {
			body = string(rs[:prec])
		}
		if align == 0 {
			align = '<'
		}
	case vNum:
		switch kind {
		case 0:
			if prec >= 0 {
				return "", false
			}
			body = numText(v)
		case 'd', 'n':
			if !v.isInt {
				return "", false
			}
			body = numText(v)
		case 'f', 'F':
			if prec < 0 {
				prec = 6
			}
			body = strconv.FormatFloat(v.num, 'f', prec, 64)
		case 'x':
			body = strconv.FormatInt(int64(v.num), 16)
		case 'X':
			body = strings.ToUpper(strconv.FormatInt(int64(v.num), 16))
		case 'o':
			body = strconv.FormatInt(int64(v.num), 8)
		case 'b':
			body = strconv.FormatInt(int64(v.num), 2)
		case '%':
			if prec < 0 {
				prec = 6
			}
			body = strconv.FormatFloat(v.num*100, 'f', prec, 64) + "%"
		default:
			return "", false
		}
		if sign == "+" && v.num >= 0 || sign == " " && v.num >= 0 {
			body = sign + body
		}
		if align == 0 {
			align = '>'
		}
	default:
		return "", false
	}
	pad := width - utf8.RuneCountInString(body)
	if pad <= 0 {
		return body, true
	}
	switch align {
	case '<':
		return body + strings.Repeat(fill, pad), true
	case '^':
		return strings.Repeat(fill, pad/2) + body + strings.Repeat(fill, pad-pad/2), true
	case '=':
		if body != "" && (body[0] == '-' || body[0] == '+') {
			return body[:1] + strings.Repeat(fill, pad) + body[1:], true
		}
	}
	return strings.Repeat(fill, pad) + body, true
}

// percentFormat is format % args.
func (it *interp) percentFormat(st *state, format, args *value) *value {
	list := []*value{args}
	var dict *object
	exact := true
	switch args.kind {
	case vTuple:
		if args.str == "" {
			list = args.elems
		}
	case vObj:
		if o := it.get(st, args.obj); o != nil {
			if o.kind == oDict {
				dict = o
			} else if o.kind == oList && o.rest != nil {
				exact = false
			}
		}
	case vUnknown, vBound:
		// A tuple or one value.
	}
	next := 0
	out := &value{kind: vText}
	var ps []piece
	add := func(v *value) {
		if format.safe && !(v.kind == vText && v.safe) {
			v = escapeHTML(it, fromPieces(it.pieces(st, v)))
		}
		ps = append(ps, it.pieces(st, v)...)
	}
	fps := format.text
	if fps == nil {
		fps = []piece{{lit: format.str}}
	}
	for _, p := range fps {
		if p.sym != nil {
			// A format that is not known may show any of the arguments.
			p.labels = addLabels(p.labels, it.labelsOf(st, args))
			p.chars = AnyChars
			ps = append(ps, p)
			continue
		}
		s := p.lit
		for s != "" {
			i := strings.IndexByte(s, '%')
			if i < 0 {
				ps = append(ps, piece{lit: s})
				break
			}
			ps = append(ps, piece{lit: s[:i]})
			s = s[i+1:]
			if s == "" {
				break
			}
			if s[0] == '%' {
				ps = append(ps, piece{lit: "%"})
				s = s[1:]
				continue
			}
			name, named := "", false
			if s[0] == '(' {
				j := strings.IndexByte(s, ')')
				if j < 0 {
					return run(AnyChars, addLabels(shallowLabels(format), it.labelsOf(st, args)))
				}
				name, named, s = s[1:j], true, s[j+1:]
			}
			n := 0
			for n < len(s) && strings.IndexByte("#0- +*.123456789hlL", s[n]) >= 0 {
				n++
			}
			flags := s[:n]
			if n >= len(s) {
				break
			}
			kind := s[n]
			s = s[n+1:]
			for range strings.Count(flags, "*") {
				next++
			}
			var v *value
			switch {
			case named && dict != nil:
				key, _ := keyOf(text(name))
				v = noUnbound(dict.get(key))
				if v == nil {
					v = unknownOr(dict.rest)
				}
			case named:
				v = it.subscript(st, args, text(name), Span{})
			case next < len(list) && exact:
				v = list[next]
				next++
			default:
				v = opaque(it.labelsOf(st, args))
			}
			if args.kind == vUnknown || args.kind == vBound {
				v = args
			}
			switch kind {
			case 's':
				if format.isBytes {
					v = over(v, func(v *value) *value { // bytes go into bytes as they are
						if v.kind != vText {
							return v
						}
						return textDecode(it, st, v, nil)
					})
				}
				if flags == "" {
					if v.kind == vUnion && allConst(v.elems) && len(v.elems) <= 4 && len(fps) == 1 {
						v = flatten(over(v, func(v *value) *value { return it.str(st, v) }))
					}
					add(it.str(st, v))
				} else {
					add(it.formatSpec(st, it.str(st, v), 0, percentSpec(flags, 's')))
				}
			case 'r', 'a':
				add(it.reprText(st, v))
			case 'd', 'i', 'u':
				if v.kind == vNum && flags == "" {
					add(text(numText(integer(math.Trunc(v.num)))))
				} else if f, ok := formatConst(v, percentSpec(flags, 'd')); ok {
					add(text(f))
				} else {
					ch := CharRange("0-9-")
					if strings.Trim(flags, "0.*123456789hlL") != "" || strings.Trim(flags, "0.") != "" {
						ch = ch.Or(CharsOf("+ "))
					}
					add(run(ch, it.labelsOf(st, v)))
				}
			case 'x', 'X', 'o':
				if v.kind == vNum {
					if f, ok := formatConst(v, strings.TrimPrefix(flags, "-")+string(kind)); ok {
						add(text(f))
						break
					}
				}
				add(run(hexChars, it.labelsOf(st, v)))
			case 'e', 'E', 'f', 'F', 'g', 'G':
				add(run(CharRange("0-9.+eEnaif -"), it.labelsOf(st, v)))
			case 'c':
				add(run(AnyChars, it.labelsOf(st, v)))
			default:
				add(run(AnyChars, it.labelsOf(st, v)))
			}
		}
	}
	out = fromPieces(ps)
	if format.isBytes || format.safe {
		c := *out
		c.isBytes, c.safe = format.isBytes, format.safe
		return &c
	}
	return out
}

func textFormat(it *interp, st *state, self *value, c *call) *value {
	return it.formatString(st, self, c)
}

func textFormatMap(it *interp, st *state, self *value, c *call) *value {
	m := c.arg(0, "mapping")
	if m == nil {
		return nil
	}
	cc := &call{at: c.at}
	for _, a := range m.alts() {
		if a.kind == vObj {
			if o := it.get(st, a.obj); o != nil && o.kind == oDict {
				for _, k := range o.keys {
					if kv := keyValue(k); kv.isConstText() {
						if v := noUnbound(o.m[k]); v != nil {
							cc.kw = append(cc.kw, kwarg{kv.str, v})
						}
					}
				}
				cc.rest = join(cc.rest, unknownOr(o.rest))
				continue
			}
		}
		cc.rest = join(cc.rest, opaque(it.labelsOf(st, a)))
	}
	return it.formatString(st, self, cc)
}

// percentSpec is the flags of a % conversion as format() writes them.
func percentSpec(flags string, kind byte) string {
	align := ">"
	if rest := strings.TrimLeft(flags, "#0- +"); strings.Contains(flags[:len(flags)-len(rest)], "-") {
		align, flags = "<", strings.ReplaceAll(flags[:len(flags)-len(rest)], "0", "")+rest
	}
	sign := ""
	zero := false
	rest := strings.TrimLeft(flags, "#0- +")
	for _, c := range flags[:len(flags)-len(rest)] {
		switch c {
		case '+', ' ':
			sign = string(c)
		case '0':
			zero = true
		}
	}
	if zero && kind == 'd' {
		return sign + "0" + rest + "d"
	}
	return align + sign + rest + string(kind)
}

// formatString is self.format(…).
func (it *interp) formatString(st *state, format *value, c *call) *value {
	outs := [][]piece{nil} // one for each choice of what the fields may be
	auto := 0
	emit := func(list ...piece) {
		for i := range outs {
			outs[i] = append(outs[i][:len(outs[i]):len(outs[i])], list...)
		}
	}
	add := func(v *value) {
		if format.safe && !(v.kind == vText && v.safe) {
			v = escapeHTML(it, fromPieces(it.pieces(st, v)))
		}
		if v.kind != vUnion || len(outs)*len(v.elems) > 6 {
			emit(it.pieces(st, v)...)
			return
		}
		var all [][]piece
		for _, before := range outs {
			for _, a := range v.elems {
				all = append(all, slices.Concat(before, it.pieces(st, a)))
			}
		}
		outs = all
	}
	fps := format.text
	if fps == nil {
		fps = []piece{{lit: format.str}}
	}
	for _, p := range fps {
		if p.sym != nil {
			p.labels = addLabels(p.labels, c.labels(it, st))
			p.chars = AnyChars
			emit(p)
			continue
		}
		s := p.lit
		for s != "" {
			i := strings.IndexAny(s, "{}")
			if i < 0 {
				emit(piece{lit: s})
				break
			}
			emit(piece{lit: s[:i]})
			if i+1 < len(s) && s[i+1] == s[i] {
				emit(piece{lit: s[i : i+1]})
				s = s[i+2:]
				continue
			}
			if s[i] == '}' {
				s = s[i+1:]
				continue
			}
			// The field ends at the brace that closes it; its format may hold
			// fields of its own.
			depth, j := 1, i+1
			for j < len(s) && depth > 0 {
				switch s[j] {
				case '{':
					depth++
				case '}':
					depth--
				}
				j++
			}
			if depth > 0 {
				// It goes on behind an unknown part: give up on the exact form.
				return run(AnyChars, addLabels(shallowLabels(format), c.labels(it, st)))
			}
			field := s[i+1 : j-1]
			s = s[j:]
			spec, conv := "", byte(0)
			if k := strings.IndexByte(field, ':'); k >= 0 {
				field, spec = field[:k], field[k+1:]
			}
			if k := strings.IndexByte(field, '!'); k >= 0 {
				if k+1 < len(field) {
					conv = field[k+1]
				}
				field = field[:k]
			}
			base := field
			if k := strings.IndexAny(field, ".["); k >= 0 {
				base = field[:k]
			}
			var v *value
			if base == "" {
				v = c.arg(auto, "")
				auto++
			} else if n, err := strconv.Atoi(base); err == nil {
				v = c.arg(n, "")
			} else {
				v = c.arg(-1, base)
			}
			if v == nil {
				v = unknown
			}
			for path := field[len(base):]; path != ""; {
				if path[0] == '.' {
					k := strings.IndexAny(path[1:], ".[")
					name := path[1:]
					if k >= 0 {
						name = path[1 : k+1]
					}
					v = it.attr(st, v, name, false, c.at)
					path = path[1+len(name):]
					continue
				}
				k := strings.IndexByte(path, ']')
				if k < 0 {
					break
				}
				key := text(path[1:k])
				if n, err := strconv.Atoi(path[1:k]); err == nil {
					key = integer(float64(n))
				}
				v = it.subscript(st, v, key, c.at)
				path = path[k+1:]
			}
			if strings.Contains(spec, "{") {
				add(run(AnyChars, c.labels(it, st)))
				continue
			}
			if v.kind == vUnion {
				add(over(v, func(v *value) *value { return it.formatted(st, v, conv, text(spec)) }))
				continue
			}
			add(it.formatted(st, v, conv, text(spec)))
		}
	}
	var out *value
	for _, ps := range outs {
		v := fromPieces(ps)
		if format.safe {
			c := *v
			c.safe = true
			v = &c
		}
		out = join(out, v)
	}
	return out
}

// grown reports whether replacing old in the known parts of a text gives more
// than is kept: before it is done, because 64 KB times 64 KB is 4 GB.
func grown(v *value, count func(s, old string) int, old, replacement string) bool {
	n := 0
	add := func(s string) { n += len(s) + count(s, old)*max(0, len(replacement)-len(old)) }
	add(v.str)
	for i := range v.text {
		add(v.text[i].lit)
	}
	return n > 4*maxLiteral
}

// doubledIn returns the quotation marks that can only stand in a text an even
// number of times in a row, for each of them was doubled by a replacement.
// What was put in the place of other things since, or taken away, has not
// parted them.
func doubledIn(s *sym) string {
	out, gone := "", ""
	for n := 0; s != nil && len(s.bases) == 1 && n < maxLinks; n++ {
		from, to := s.arg, ""
		switch s.op {
		case "replace":
			from, to, _ = strings.Cut(s.arg, "\x00")
		case "drop":
		default:
			return out
		}
		if len(from) == 1 && strings.Contains("'\"`", from) && to == from+from && !strings.Contains(gone, from) {
			out += from
		}
		gone += from + to
		s = s.bases[0]
	}
	return out
}
