package jinja

import (
	"cmp"
	"slices"
	"strings"
	"unique"
)

// maxAlternatives is how many places a State holds.
const maxAlternatives = 16

// State is where in the HTML one may stand: the set of the places that the
// ways here lead to. States are compared with ==. The zero State is in text
// at the beginning of an HTML file.
//
// When there are more than 16 places, those that differ only in what was
// read of a value, of a script or of a name become one; if that is not
// enough, the most harmless ones are left out.
type State struct {
	places [maxAlternatives]unique.Handle[point] // sorted; the rest is zero
}

func (s State) points() []point {
	var ps []point
	for _, h := range s.places {
		if h == (unique.Handle[point]{}) {
			break
		}
		ps = append(ps, h.Value())
	}
	if ps == nil {
		ps = []point{{}}
	}
	return ps
}

// newState makes the one State that holds the points.
func newState(ps []point) State {
	ps = sortPoints(ps)
	for _, merge := range []func(point) point{point.withoutRead, point.withoutCode, point.withoutNames} {
		if len(ps) > maxAlternatives {
			ps = mergePoints(ps, merge)
		}
	}
	if len(ps) > maxAlternatives {
		slices.SortStableFunc(ps, func(p, q point) int { return compareContexts(p.context(), q.context()) })
		ps = sortPoints(ps[:maxAlternatives])
	}
	var s State
	if len(ps) == 1 && ps[0] == (point{}) {
		return s
	}
	for i, p := range ps {
		s.places[i] = unique.Make(p)
	}
	return s
}

func sortPoints(ps []point) []point {
	slices.SortFunc(ps, point.compare)
	return slices.Compact(ps)
}

// withoutRead returns the point without what differs when more or less of a
// value was read.
func (p point) withoutRead() point {
	p.value, p.ref, p.dynamic, p.url.other = "", "", p.mode == inValue, ""
	p.code.word, p.code.pending, p.code.last, p.code.opener = "", 0, 0, 0
	return p
}

// withoutCode returns the point without what differs by the place in a
// script, but for the lexeme.
func (p point) withoutCode() point {
	p = p.withoutRead()
	p.code.open, p.code.operand, p.code.class = "", false, false
	return p
}

// withoutNames returns the point without the names of tags and attributes
// that mean nothing.
func (p point) withoutNames() point {
	p = p.withoutCode()
	if p.inTag() {
		if rawElements[p.tag] == KindText && p.tag != "svg" && p.tag != "math" && p.tag != "meta" {
			p.tag = ""
		}
		if attrKind(p.attr) == KindAttr && p.attr != "type" {
			p.attr = ""
		}
	}
	return p
}

// inTag reports whether a tag is read.
func (p point) inTag() bool { return p.mode >= inTagName && p.mode <= inSelfClosing }

// mergePoints makes one of those that are the same after f. What f took away
// of a value or of a name is kept as far as it is the same in all of them.
func mergePoints(ps []point, f func(point) point) []point {
	merged := map[point]point{}
	for _, p := range ps {
		k := f(p)
		m := k
		old, found := merged[k]
		if !found {
			old = p
		}
		if p.mode == inValue {
			m.value = commonPrefix(old.value, p.value)
		}
		if p.inTag() {
			m.tag, m.attr = commonName(old.tag, p.tag), commonName(old.attr, p.attr)
		}
		merged[k] = m
	}
	out := make([]point, 0, len(merged))
	for _, p := range merged {
		out = append(out, p)
	}
	return sortPoints(out)
}

// commonName returns what both names are: where they differ there is a "*".
func commonName(a, b string) string {
	if a == b {
		return a
	}
	return strings.TrimRight(commonPrefix(a, b), starMark) + starMark
}

func commonPrefix(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

// widen makes places that differ only by what was read one, so that a loop
// comes to an end.
func (s State) widen() State { return newState(mergePoints(s.points(), point.withoutNames)) }

// Text returns the state behind a text.
func (s State) Text(text string) State {
	if text == "" || s == (State{}) && !strings.Contains(text, "<") {
		return s
	}
	ps := s.points()
	for i := range ps {
		ps[i].text(text)
	}
	return newState(ps)
}

// Output returns the state behind an output.
func (s State) Output() State {
	if s == (State{}) {
		return s
	}
	ps := s.points()
	for i := range ps {
		ps[i].output()
	}
	return newState(ps)
}

// Join returns the state in which one may be if one may be in any of the
// given.
func Join(states ...State) State {
	if len(states) == 0 {
		return State{}
	}
	var ps []point
	same := true
	for _, s := range states {
		same = same && s == states[0]
	}
	if same {
		return states[0]
	}
	for _, s := range states {
		ps = append(ps, s.points()...)
	}
	return newState(ps)
}

// Contexts returns the places an output may be in, worst first.
func (s State) Contexts() []Context {
	if s == (State{}) {
		return []Context{{}}
	}
	ps := s.points()
	out := make([]Context, len(ps))
	for i, p := range ps {
		out[i] = p.context()
	}
	slices.SortFunc(out, compareContexts)
	return slices.Compact(out)
}

// String describes the places, for tests and logs.
func (s State) String() string {
	var all []string
	for _, c := range s.Contexts() {
		all = append(all, c.String())
	}
	return strings.Join(all, " or ")
}

// danger orders the kinds by what a value can do there that was only escaped
// for HTML.
var danger = map[Kind]int{
	KindScript: 16, KindScriptURL: 15, KindEvent: 14, KindSrcdoc: 13, KindTagName: 12, KindAttrName: 11,
	KindURL: 10, KindStyle: 9, KindStyleAttr: 8, KindAttr: 7, KindScriptData: 6, KindComment: 5, KindMarkup: 4,
	KindRawText: 3, KindText: 2, KindRCDATA: 1, KindPlain: 0,
}

// compareContexts puts the worst first.
func compareContexts(a, b Context) int {
	flag := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(danger[b.Kind], danger[a.Kind]),
		cmp.Compare(flag(b.Unquoted()), flag(a.Unquoted())),
		cmp.Compare(a.Lexeme, b.Lexeme),
		cmp.Compare(a.URL, b.URL),
		cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.Attr, b.Attr), cmp.Compare(a.Quote, b.Quote),
		cmp.Compare(a.Prefix, b.Prefix), cmp.Compare(flag(a.Dynamic), flag(b.Dynamic)), cmp.Compare(flag(a.Decoded), flag(b.Decoded)),
	)
}

// String describes the context: `url href in "…" after "/p/", path`.
func (c Context) String() string {
	var b strings.Builder
	b.WriteString(c.Kind.String())
	if c.Tag != "" {
		b.WriteString(" <" + c.Tag + ">")
	}
	if c.Attr != "" {
		b.WriteString(" " + c.Attr)
	}
	if c.Quote != 0 {
		b.WriteString(" in " + string(rune(c.Quote)))
	} else if c.Unquoted() {
		b.WriteString(" unquoted")
	}
	if c.URL != URLNone {
		b.WriteString(" at " + c.URL.String())
	}
	if c.Lexeme != LexNone {
		b.WriteString(" in " + c.Lexeme.String())
	}
	if c.Prefix != "" {
		b.WriteString(" after " + strings.ToValidUTF8(c.Prefix, "\uFFFD"))
	}
	if c.Dynamic {
		b.WriteString(" dynamic")
	}
	if c.Decoded {
		b.WriteString(" decoded")
	}
	return b.String()
}
