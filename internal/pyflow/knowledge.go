package pyflow

import (
	"slices"
	"strings"
)

// knowledge is what conditions have said about unknown values, by symbol. It
// is a list that never changes; later entries hide earlier ones.
type knowledge struct {
	next *knowledge
	sym  *sym
	fact refinement
	n    int
	used bool // it was asked for since the running call began
}

// refinement is what is known about one symbol.
type refinement struct {
	chars   Chars
	bounded bool // chars says something
	not     []string
	clean   tags
	eq      *value // it is one of these
	prefix  string
	suffix  string
	// notPrefix are beginnings that it does not have.
	notPrefix []string
	notNone   bool
	nonEmpty  bool
}

func (k *knowledge) of(s *sym) (refinement, bool) {
	all := k
	for ; k != nil; k = k.next {
		if k.sym == s {
			k.used = true
			return k.fact, true
		}
	}
	if s.op == "nth" && len(s.bases) == 1 {
		return all.of(s.bases[0]) // what is said of any element
	}
	return refinement{}, false
}

// takeUsed returns what of k was asked for, and forgets that it was.
func (k *knowledge) takeUsed() []*knowledge {
	var out []*knowledge
	for ; k != nil; k = k.next {
		if k.used {
			k.used = false
			out = append(out, k)
		}
	}
	return out
}

func (r *refinement) same(o *refinement) bool {
	return r.chars == o.chars && r.bounded == o.bounded && r.clean == o.clean && r.prefix == o.prefix && r.suffix == o.suffix &&
		r.notNone == o.notNone && r.nonEmpty == o.nonEmpty && slices.Equal(r.not, o.not) && slices.Equal(r.notPrefix, o.notPrefix) &&
		(r.eq == nil) == (o.eq == nil) && identical(r.eq, o.eq)
}

// learn adds to what is known about s.
func (st *state) learn(s *sym, f func(*refinement)) {
	if s == nil {
		return
	}
	r, _ := st.known.of(s)
	f(&r)
	n := 1
	if st.known != nil {
		n = st.known.n + 1
	}
	if n > 400 {
		return // forgetting is safe
	}
	st.known = &knowledge{next: st.known, sym: s, fact: r, n: n}
}

// wholeOps are the derivations whose result is the whole of what it came from
// in another form; "between" is it but for what is known of the ends.
var wholeOps = map[string]bool{"strip": true, "same": true, "lower": true, "upper": true, "norm": true, "real": true, "lib": true, "int": true, "between": true}

// learnClean says that a value is harmless for sinks of the kinds, and so is
// what it was made of.
func (st *state) learnClean(s *sym, t tags, depth int) {
	if s == nil || depth > 6 {
		return
	}
	st.learn(s, func(r *refinement) { r.clean |= t })
	if s.op == "either" {
		// Whichever it is, what is in all of them was looked at.
		for _, b := range commonWholes(s, depth) {
			if b != s {
				st.learn(b, func(r *refinement) { r.clean |= t })
			}
		}
		return
	}
	// Tabs and line ends, and control characters at its ends, are what
	// browsers drop from a URL themselves; what is said without them about one
	// kind of sink holds with them.
	dropped := t != allTags && (s.op == "trim" || s.op == "drop" && strings.Trim(s.arg, "\t\r\n") == "")
	if !wholeOps[s.op] && !dropped {
		return // a part says nothing about the whole
	}
	for _, b := range s.bases {
		st.learnClean(b, t, depth+1)
	}
}

// commonWholes returns s and what it is another form of; of something that
// is one of several, only what all of them are a form of.
func commonWholes(s *sym, depth int) []*sym {
	out := []*sym{s}
	switch {
	case s == nil || depth > 6:
		return nil
	case s.op == "either":
		var all []*sym
		for i, b := range s.bases {
			list := commonWholes(b, depth+1)
			if i == 0 {
				all = list
				continue
			}
			all = slices.DeleteFunc(all, func(x *sym) bool { return !slices.Contains(list, x) })
		}
		return append(out, all...)
	case wholeOps[s.op]:
		for _, b := range s.bases {
			out = append(out, commonWholes(b, depth+1)...)
		}
	}
	return out
}

// commonKnowledge returns what holds in both.
func (it *interp) commonKnowledge(a, b *knowledge) *knowledge {
	if a == b {
		return a
	}
	// The common tail holds anyway.
	x, y := a, b
	for x != y {
		if y == nil || x != nil && x.n >= y.n {
			x = x.next
		} else {
			y = y.next
		}
	}
	out := x
	seen := map[*sym]bool{}
	parted := partedBySetting(a, b, x)
	paths := it.pathTags()
	url := it.tag("url")
	settings := it.tag(pathSetting) | it.tag(urlSetting)
	unless := func(only tags) (t tags) { // of what is harmless on one of the ways
		if only&paths != 0 {
			t |= it.tag(pathSetting)
		}
		if only&url != 0 {
			t |= it.tag(urlSetting)
		}
		return t
	}
	if parted {
		for k := b; k != x; k = k.next {
			if seen[k.sym] {
				continue
			}
			if _, ok := a.of(k.sym); ok {
				continue
			}
			seen[k.sym] = true
			if t := unless(k.fact.clean); t != 0 {
				n := 1
				if out != nil {
					n = out.n + 1
				}
				out = &knowledge{next: out, sym: k.sym, fact: refinement{clean: t}, n: n}
			}
		}
	}
	for k := a; k != x; k = k.next {
		if seen[k.sym] || k.sym.op == "setting" {
			continue
		}
		seen[k.sym] = true
		other, ok := b.of(k.sym)
		if !ok && (!parted || unless(k.fact.clean) == 0) {
			continue
		}
		r := refinement{}
		if ok {
			r = common(k.fact, other)
		}
		if parted {
			r.clean |= unless(k.fact.clean ^ other.clean)
		}
		// What is harmless is so whatever is set.
		r.clean |= (k.fact.clean | unless(k.fact.clean)) & (other.clean | unless(other.clean)) & settings &^ unless(r.clean)
		n := 1
		if out != nil {
			n = out.n + 1
		}
		out = &knowledge{next: out, sym: k.sym, fact: r, n: n}
	}
	return out
}

// pathSetting and urlSetting are the kinds of sinks for which a path counts as
// harmless that was found to stay in its folder, and a URL that was found to
// lead where it may, unless a setting switches that off.
const (
	pathSetting = "path-setting"
	urlSetting  = "url-setting"
)

// settingSym stands for the settings that conditions ask for.
var settingSym = &sym{op: "settings"}

// learnSetting notes on which side of a condition on a setting of the app's own
// a state is.
func (it *interp) learnSetting(st *state, name string, truth bool) {
	st.learn(it.derive("setting", name, settingSym), func(r *refinement) { r.eq = boolOf(truth) })
}

// partedBySetting reports whether two ways parted, after they had end in
// common, at a condition on a setting.
func partedBySetting(a, b, end *knowledge) bool {
	for k := a; k != end; k = k.next {
		if k.sym.op != "setting" {
			continue
		}
		for j := b; j != end; j = j.next {
			if j.sym == k.sym {
				return k.fact.eq != j.fact.eq
			}
		}
	}
	return false
}

// bounds returns the characters that are left; ok is false when nothing is
// known of them.
func (r *refinement) bounds() (c Chars, ok bool) {
	c = AnyChars
	if r.bounded {
		c, ok = r.chars, true
	}
	if r.eq != nil {
		var e Chars
		for _, a := range r.eq.alts() {
			if !a.isConstText() {
				return c, ok
			}
			e = e.Or(CharsOf(a.str))
		}
		return c.And(e), true
	}
	return c, ok
}

// harmless returns the kinds of sinks for which it is harmless; one of certain
// values of the program's own is it for all.
func (r *refinement) harmless() tags {
	if r.eq != nil && !hasLabels(r.eq) {
		return allTags
	}
	return r.clean
}

func common(a, b refinement) refinement {
	r := refinement{clean: a.harmless() & b.harmless(), notNone: a.notNone && b.notNone, nonEmpty: a.nonEmpty && b.nonEmpty}
	ca, oka := a.bounds()
	cb, okb := b.bounds()
	if oka && okb {
		r.bounded, r.chars = true, ca.Or(cb)
	}
	for _, n := range a.not {
		if slices.Contains(b.not, n) {
			r.not = append(r.not, n)
		}
	}
	if a.eq != nil && b.eq != nil {
		r.eq = join(a.eq, b.eq)
	}
	for len(r.prefix) < len(a.prefix) && len(r.prefix) < len(b.prefix) && a.prefix[len(r.prefix)] == b.prefix[len(r.prefix)] {
		r.prefix = a.prefix[:len(r.prefix)+1]
	}
	if a.suffix == b.suffix {
		r.suffix = a.suffix
	}
	for _, n := range a.notPrefix {
		if slices.Contains(b.notPrefix, n) {
			r.notPrefix = append(r.notPrefix, n)
		}
	}
	return r
}

// derive returns the symbol of something made from bases by op. The same
// bases, op and arg always give the same symbol, so that a condition on
// x[1:-1] is remembered when x[1:-1] is read again.
func (it *interp) derive(op, arg string, bases ...*sym) *sym {
	if len(bases) == 1 {
		key := derivation{bases[0], op, arg}
		if s, ok := it.derived[key]; ok {
			return s
		}
		s := &sym{bases: bases, op: op, arg: arg}
		it.derived[key] = s
		return s
	}
	return &sym{bases: slices.Clone(bases), op: op, arg: arg}
}

// nth is one element of a container of which only is known what any of them
// may be: what is learnt about one says nothing about the others.
func (it *interp) nth(v *value, arg string) *value {
	switch v.kind {
	case vUnknown, vNumber, vInst:
		if v.sym != nil {
			c := *v
			c.sym = it.derive("nth", arg, v.sym)
			return &c
		}
	case vText:
		var ps []piece
		for i := range v.text {
			if v.text[i].sym != nil {
				if ps == nil {
					ps = slices.Clone(v.text)
				}
				ps[i].sym = it.derive("nth", arg, v.text[i].sym)
			}
		}
		if ps != nil {
			c := *v
			c.text = ps
			return &c
		}
	case vUnion:
		c := *v
		c.elems = mapValues(v.elems, func(e *value) *value { return it.nth(e, arg) })
		return &c
	}
	return v
}

type derivation struct {
	base    *sym
	op, arg string
}

// symsOf returns the symbols in v, of its labelled parts first.
func symsOf(v *value) []*sym {
	var out []*sym
	if v.sym != nil {
		out = append(out, v.sym)
	}
	for i := range v.text {
		if s := v.text[i].sym; s != nil && len(out) < 8 {
			out = append(out, s)
		}
	}
	for _, e := range v.elems {
		if len(out) < 8 {
			out = append(out, symsOf(e)...)
		}
	}
	return out
}

// refined applies what is known to v.
func (it *interp) refined(st *state, v *value) *value {
	if st.known == nil {
		return v
	}
	switch v.kind {
	case vUnion, vTuple:
		var elems []*value
		for i, e := range v.elems {
			n := it.refined(st, e)
			if n != e && elems == nil {
				elems = slices.Clone(v.elems[:i])
			}
			if elems != nil {
				if v.kind == vUnion {
					if n.kind == vNone && e.kind != vNone {
						continue
					}
					for _, a := range n.alts() {
						elems, _ = addAlt(elems, a, true)
					}
				} else {
					elems = append(elems, n)
				}
			}
		}
		switch {
		case elems == nil:
			return v
		case v.kind == vUnion:
			if len(elems) == 0 {
				return v
			}
			return union(elems)
		}
		c := *v
		c.elems = elems
		return &c
	case vUnknown, vInst, vNumber:
		if v.kind == vInst && len(v.elems) > 0 && v.str != "functools.partial" {
			var elems []*value
			for i, e := range v.elems {
				if n := it.refined(st, e); n != e {
					if elems == nil {
						elems = slices.Clone(v.elems)
					}
					elems[i] = n
				}
			}
			if elems != nil {
				c := *v
				c.elems = elems
				v = &c
			}
		}
		if v.sym == nil {
			return v
		}
		r, ok := st.known.of(v.sym)
		if !ok {
			return v
		}
		if r.eq != nil {
			return r.eq
		}
		if v.kind == vUnknown && (r.bounded || len(r.not) > 0 || len(r.notPrefix) > 0 || r.prefix != "" || r.suffix != "") {
			p := piece{sym: v.sym, chars: AnyChars, labels: v.labels, clean: v.clean}
			return fromPieces(it.refinePiece(st, p, 0))
		}
		if r.clean&^v.clean != 0 {
			c := *v
			c.clean |= r.clean
			return &c
		}
	case vText:
		changed := false
		for i := range v.text {
			if v.text[i].sym != nil {
				if _, ok := st.known.of(v.text[i].sym); ok {
					changed = true
				}
			}
		}
		if !changed {
			return v
		}
		if len(v.text) == 1 {
			if r, _ := st.known.of(v.text[0].sym); r.eq != nil {
				return r.eq
			}
		}
		var out []piece
		for _, p := range v.text {
			out = append(out, it.refinePiece(st, p, 0)...)
		}
		n := fromPieces(out)
		if v.safe || v.isBytes {
			c := *n
			c.safe, c.isBytes = v.safe, v.isBytes
			return &c
		}
		return n
	}
	return v
}

func (it *interp) refinePiece(st *state, p piece, depth int) []piece {
	if p.sym == nil || depth > 3 {
		return []piece{p}
	}
	r, ok := st.known.of(p.sym)
	if !ok {
		return []piece{p}
	}
	if r.eq != nil {
		return it.pieces(st, r.eq)
	}
	if r.bounded {
		p.chars = p.chars.And(r.chars)
	}
	for _, n := range r.not {
		if !slices.Contains(p.not, n) {
			p.not = append(p.not[:len(p.not):len(p.not)], n)
		}
		if len(n) == 1 {
			p.chars = p.chars.Without(n)
		}
	}
	p.clean |= r.clean
	for _, n := range r.notPrefix {
		if len(n) == 1 && r.prefix == "" {
			p.notFirst = p.notFirst.Or(CharsOf(n))
		}
	}
	if r.prefix == "" && r.suffix == "" {
		return []piece{p}
	}
	inner := p
	inner.sym = it.derive("between", r.prefix+"\x00"+r.suffix, p.sym)
	inner.notFirst = Chars{}
	for _, n := range r.notPrefix {
		if c, ok := strings.CutPrefix(n, r.prefix); ok && len(c) == 1 {
			inner.notFirst = inner.notFirst.Or(CharsOf(c))
		}
	}
	out := []piece{{lit: r.prefix}}
	out = append(out, it.refinePiece(st, inner, depth+1)...)
	if r.suffix != "" {
		out = append(out, piece{lit: r.suffix})
	}
	return out
}

// exclude learns that text does not occur in v.
func (it *interp) exclude(st *state, v *value, what string) {
	for i := range v.text {
		if s := v.text[i].sym; s != nil {
			it.excludeSym(st, s, what)
		}
	}
	if v.kind == vUnknown && v.sym != nil {
		it.excludeSym(st, v.sym, what)
	}
	if v.kind == vUnion {
		for _, a := range v.elems {
			it.exclude(st, a, what)
		}
	}
}

func (it *interp) excludeSym(st *state, s *sym, what string) {
	st.learn(s, func(r *refinement) {
		if len(r.not) < 16 && !slices.Contains(r.not, what) {
			r.not = append(r.not[:len(r.not):len(r.not)], what)
		}
		if len(what) == 1 {
			if !r.bounded {
				r.bounded, r.chars = true, AnyChars
			}
			r.chars = r.chars.Without(what)
		}
	})
	// What is not in x[:] or x.lower() is, but for case, not in x.
	if len(s.bases) == 1 {
		switch s.op {
		case "strip", "same":
			if !strings.ContainsAny(what, " \t\r\n") {
				it.excludeSym(st, s.bases[0], what)
			}
		case "lower":
			if strings.ToUpper(what) == strings.ToLower(what) {
				it.excludeSym(st, s.bases[0], what)
			}
		}
	}
}

// restrict learns that v has only the characters.
func (it *interp) restrict(st *state, v *value, chars Chars) {
	for i := range v.text {
		it.restrictSym(st, v.text[i].sym, chars)
	}
	if v.kind == vUnknown || v.kind == vNumber {
		it.restrictSym(st, v.sym, chars)
	}
}

func (it *interp) restrictSym(st *state, s *sym, chars Chars) {
	if s == nil {
		return
	}
	st.learn(s, func(r *refinement) {
		if !r.bounded {
			r.bounded, r.chars = true, AnyChars
		}
		r.chars = r.chars.And(chars)
	})
	if len(s.bases) == 1 {
		switch s.op {
		case "strip":
			it.restrictSym(st, s.bases[0], chars.Or(CharsOf(" \t\r\n")))
		case "same":
			it.restrictSym(st, s.bases[0], chars)
		case "drop":
			it.restrictSym(st, s.bases[0], chars.Or(CharsOf(s.arg)))
		case "lower":
			up := chars
			for r := rune('a'); r <= 'z'; r++ {
				if chars.Has(r) {
					up = up.with(r - 32)
				}
			}
			it.restrictSym(st, s.bases[0], up)
		}
	}
}

// equals learns that v is one of the values of c, which is constant.
func (it *interp) equals(st *state, v, c *value) {
	switch {
	case v.kind == vText && len(v.text) == 1 && v.text[0].sym != nil:
		it.equalSym(st, v.text[0].sym, c)
	case (v.kind == vUnknown || v.kind == vNumber) && v.sym != nil:
		it.equalSym(st, v.sym, c)
	default:
		for _, s := range symsOf(v) {
			st.learnClean(s, allTags, 0)
		}
	}
}

func (it *interp) equalSym(st *state, s *sym, c *value) {
	st.learn(s, func(r *refinement) { r.eq = c })
	if len(s.bases) == 1 {
		switch s.op {
		case "lower", "strip", "same", "norm", "bool", "ext":
			// x.lower() == "asc" leaves few values of x.
			if s.op != "ext" {
				st.learnClean(s.bases[0], allTags, 0)
			}
			it.knownPart(st, s)
		default:
			it.knownPart(st, s)
		}
	} else {
		it.knownPart(st, s)
	}
}

// knownPart learns from a derived value being known: the host of a URL, the
// common path.
func (it *interp) knownPart(st *state, s *sym) {
	switch s.op {
	case "lower", "upper", "strip", "same": // the host in lower case
		for _, b := range s.bases {
			it.knownPart(st, b)
		}
	case "url.netloc", "url.hostname":
		for _, b := range s.bases {
			st.learnClean(b, it.tag("url")|it.tag("redirect"), 0)
		}
	case "url.scheme":
		for _, b := range s.bases {
			st.learnClean(b, it.tag("url-scheme"), 0)
		}
	case "commonpath":
		for _, b := range s.bases {
			st.learnClean(b, it.pathTags(), 0)
		}
	}
}

// emptyPart learns from a part of a URL being empty. A URL with neither scheme
// nor host leads to no other site, unless it begins with two slashes and no
// name behind them or has a backslash, which browsers take for a slash.
func (it *interp) emptyPart(st *state, s *sym) {
	if !strings.HasPrefix(s.op, "url.") || len(s.bases) != 1 {
		return
	}
	st.learn(s, func(r *refinement) { r.eq = empty })
	b := s.bases[0]
	isEmpty := func(part string) bool {
		// Only what was asked for is derived; [interp.noHost] goes by that.
		s, ok := it.derived[derivation{b, "url." + part, ""}]
		if !ok {
			return false
		}
		r, ok := st.known.of(s)
		return ok && r.eq == empty
	}
	if !isEmpty("scheme") || !isEmpty("netloc") && !isEmpty("hostname") {
		return
	}
	r, _ := st.known.of(b)
	plain := slashes(b) || r.bounded && !r.chars.Has('\\') || slices.Contains(r.not, `\`)
	if plain && slices.ContainsFunc(r.notPrefix, func(p string) bool { return p == "//" || p == "/" }) {
		st.learnClean(b, it.tag("url")|it.tag("redirect"), 0)
		if slashes(b) { // to a browser it is the same
			st.learnClean(b.bases[0], it.tag("url")|it.tag("redirect"), 0)
		}
	}
}

// slashes reports whether s is a text with slashes in place of backslashes.
func slashes(s *sym) bool { return s.op == "replace" && s.arg == "\\\x00/" }

// noHost learns from the host of a URL being empty that the URL stays on the
// site: if backslashes were made slashes first, as browsers do, if it does not
// begin with three of them, which browsers take for two, and if its scheme was
// looked at, too (http:example.com).
func (it *interp) noHost(st *state, v *value) {
	for _, s := range symsOf(v) {
		if s.op != "url.netloc" && s.op != "url.hostname" {
			continue
		}
		for _, b := range s.bases {
			r, _ := st.known.of(b)
			three := slices.ContainsFunc(r.notPrefix, func(p string) bool { return p != "" && strings.Trim(p, "/") == "" && len(p) <= 3 })
			if _, scheme := it.derived[derivation{b, "url.scheme", ""}]; slashes(b) && three && scheme {
				for _, whole := range append([]*sym{b}, b.bases...) {
					st.learnClean(whole, it.tag("redirect"), 0)
				}
			}
		}
	}
}

func (it *interp) pathTags() tags {
	return it.tag("path-read") | it.tag("path-write") | it.tag("path-delete") | it.tag("send-file") | it.tag("archive") | it.tag("path-stat")
}
