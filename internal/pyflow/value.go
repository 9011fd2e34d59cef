package pyflow

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// MaxAlternatives is how many alternatives a value has at most, unless all are
// constant; the last one then stands for all that were too many.
const MaxAlternatives = 8

// Bounds of values; see the package comment.
const (
	maxAlts    = MaxAlternatives
	maxConsts  = 24 // alternatives that are all constant texts or numbers
	maxPieces  = 32
	maxElems   = 64
	maxKeys    = 256
	maxLabels  = 4
	maxSteps   = 24      // of one trace
	maxLiteral = 1 << 16 // bytes of a literal piece that are kept
)

type vkind uint8

const (
	vUnknown vkind = iota
	vNone
	vBool    // constant: num
	vBoolean // True or False
	vNum     // constant: num, isInt
	vNumber  // some number
	vText    // str if text is nil
	vTuple   // elems
	vObj     // list, dict, set, instance on the heap
	vLib     // a name of a library: module, class, function; str is its path
	vInst    // an instance of a library class; str is the class's path
	vFunc
	vClass
	vModule
	vBound // fn or str (a method's or attribute's name) with its receiver
	vDeco  // what a call such as app.route("/x") gives: it registers a function
	vUnion // elems
	vUnbound
)

// value is an abstract value. It never changes after it was made.
type value struct {
	kind    vkind
	isInt   bool
	isBytes bool
	safe    bool // markup
	num     float64
	str     string
	text    []piece
	elems   []*value
	obj     objID
	fn      *function
	cls     *class
	mod     *module
	recv    *value
	reg     *registration
	pat     *pattern // of a match
	labels  []label
	sym     *sym
	clean   tags
}

// piece is a part of a text. It is a literal unless sym is set.
type piece struct {
	lit   string
	sym   *sym
	chars Chars
	not   []string
	// notFirst are characters that it does not begin with.
	notFirst Chars
	clean    tags
	labels   []label
}

// tags is a set of kinds of sinks.
type tags uint64

const allTags = ^tags(0)

// guess is among the kinds for which a label is harmless when it went through
// a call of which nothing is known.
const guess tags = 1 << 63

// eitherWay returns for which kinds a label is harmless that came in two
// ways. What a guess says adds nothing to what is known of the other way.
func eitherWay(a, b tags) tags {
	switch {
	case a&guess == 0 && b&guess != 0:
		return a
	case a&guess != 0 && b&guess == 0:
		return b
	}
	return a & b
}

// bothClean returns for which kinds something with labels is harmless that is
// one of two.
func bothClean(a tags, la []label, b tags, lb []label) tags {
	switch ga, gb := allGuessed(la), allGuessed(lb); {
	case gb && !ga:
		return a
	case ga && !gb:
		return b
	}
	return a & b
}

// allGuessed reports whether all labels are guesses.
func allGuessed(list []label) bool {
	for _, l := range list {
		if l.clean&guess == 0 {
			return false
		}
	}
	return len(list) > 0
}

// sym is the identity of something unknown, so that what a condition says
// about it holds wherever it went.
type sym struct {
	bases []*sym
	op    string // how it came from its bases
	arg   string
	whole *value // that it stands for in another form, such as base64
	// yes and no tell what follows from its being true or false.
	yes, no func(it *interp, st *state)
	input   bool // stands for a certain part of the input
}

// plain reports whether nothing is known of s but that it is unknown.
func (s *sym) plain() bool {
	return len(s.bases) == 0 && s.op == "" && s.arg == "" && s.whole == nil && s.yes == nil && s.no == nil && !s.input
}

// label is one source that a value may come from.
type label struct {
	src   *source
	step  *step
	clean tags
}

type source struct {
	kind string
	at   Span
	note string
}

type step struct {
	prev *step
	n    int
	at   Span
	note string
}

var (
	unknown  = &value{kind: vUnknown}
	none     = &value{kind: vNone}
	vTrue    = &value{kind: vBool, num: 1}
	vFalse   = &value{kind: vBool}
	boolean  = &value{kind: vBoolean}
	number   = &value{kind: vNumber}
	unbound  = &value{kind: vUnbound}
	empty    = &value{kind: vText}
	digits   = CharRange("0-9.-")
	hexChars = CharRange("0-9a-fA-FxX-")
)

func boolOf(b bool) *value {
	if b {
		return vTrue
	}
	return vFalse
}

func text(s string) *value {
	if len(s) > maxLiteral {
		return &value{kind: vText, text: []piece{{lit: s[:256]}, {sym: &sym{}, chars: AnyChars}}}
	}
	return &value{kind: vText, str: s}
}

func integer(n float64) *value {
	if math.Abs(n) > 1<<53 {
		return number
	}
	return &value{kind: vNum, num: n, isInt: true}
}

func float(n float64) *value { return &value{kind: vNum, num: n} }

func lib(path string) *value { return &value{kind: vLib, str: path} }

func inst(path string, labels []label) *value {
	v := &value{kind: vInst, str: path, labels: labels}
	if len(labels) > 0 {
		v.sym = &sym{}
	}
	return v
}

// opaque is something unknown with labels.
func opaque(labels []label) *value {
	if len(labels) == 0 {
		return unknown
	}
	return &value{kind: vUnknown, labels: labels, sym: &sym{}}
}

func numeric(labels []label) *value {
	if len(labels) == 0 {
		return number
	}
	return &value{kind: vNumber, labels: labels, sym: &sym{}}
}

// run is a text of which only its characters are known.
func run(chars Chars, labels []label) *value {
	return &value{kind: vText, text: []piece{{sym: &sym{}, chars: chars, labels: labels}}}
}

func (v *value) isConstText() bool { return v.kind == vText && v.text == nil }

// isConst reports whether v is one known simple value.
func (v *value) isConst() bool {
	switch v.kind {
	case vNone, vBool, vNum:
		return true
	case vText:
		return v.text == nil
	case vTuple:
		for _, e := range v.elems {
			if !e.isConst() {
				return false
			}
		}
		return true
	}
	return false
}

// alts returns the alternatives of v.
func (v *value) alts() []*value {
	if v.kind == vUnion {
		return v.elems
	}
	return []*value{v}
}

// truth returns 1 for true, 0 for false, -1 if it is not known.
func (it *interp) truth(st *state, v *value) int {
	switch v.kind {
	case vNone:
		return 0
	case vBool, vNum:
		return int(boolOf(v.num != 0).num)
	case vText:
		if v.text == nil {
			return int(boolOf(v.str != "").num)
		}
		for _, p := range v.text {
			if p.sym == nil && p.lit != "" {
				return 1
			}
		}
	case vTuple:
		return int(boolOf(len(v.elems) > 0).num)
	case vObj:
		o := it.get(st, v.obj)
		switch {
		case o == nil:
		case o.kind == oInstance:
			if o.cls != nil && (o.cls.lookup(it, st, "__bool__") != nil || o.cls.lookup(it, st, "__len__") != nil || o.cls.hasLibBase()) {
				return -1
			}
			return 1
		case len(o.elems) > 0 || len(o.keys) > 0:
			return 1
		case o.rest == nil:
			return 0
		}
	case vInst:
		if v.str == "re.Match" {
			return 1
		}
	case vFunc, vClass, vModule:
		return 1
	case vBound:
		// An attribute of something unknown may be a method or a setting.
		if v.fn == nil && (v.recv == nil || v.recv.kind == vUnknown || v.recv.kind == vInst || v.recv.kind == vLib || v.recv.kind == vBound) {
			return -1
		}
		return 1
	case vLib:
		return -1
	case vUnion:
		t := it.truth(st, v.elems[0])
		for _, a := range v.elems[1:] {
			if it.truth(st, a) != t {
				return -1
			}
		}
		return t
	}
	return -1
}

// join returns a value that may be a or b.
func join(a, b *value) *value {
	if a == b || b == nil {
		return a
	}
	if a == nil {
		return b
	}
	if a.kind != vUnion && b.kind != vUnion {
		if same(a, b) {
			return mergeLabels(a, b)
		}
		if e := either(a, b); e != nil {
			return e
		}
	}
	// What a holds is distinct already; mostly b has nothing new.
	var one [1]*value
	list, own := a.elems, false
	if a.kind != vUnion {
		one[0] = a
		list = one[:]
	}
	if b.kind != vUnion {
		list, own = addAlt(list, b, own)
	} else {
		for _, x := range b.elems {
			list, own = addAlt(list, x, own)
		}
	}
	if !own && a.sym == nil {
		return a
	}
	if !own {
		list = slices.Clone(list)
	}
	return union(list)
}

// addAlt returns list with x in it. It changes list itself only when own says
// that nobody else holds it, which is so of what it returns if own comes back.
func addAlt(list []*value, x *value, own bool) ([]*value, bool) {
	at, v := len(list), x
	for i, y := range list {
		if same(x, y) {
			m := mergeLabels(y, x)
			if m == y {
				return list, own
			}
			at, v = i, m
			break
		}
	}
	if at == len(list) {
		for i, y := range list {
			if e := either(y, x); e != nil {
				if e == y {
					return list, own
				}
				at, v = i, e
				break
			}
		}
	}
	if !own {
		list = append(make([]*value, 0, len(list)+4), list...)
	}
	if at == len(list) {
		return append(list, v), true
	}
	list[at] = v
	return list, true
}

// either is one value for two texts from outside of which only their
// characters are known, so that a condition speaks of whichever it is; nil
// for others.
func either(a, b *value) *value {
	if a.kind != b.kind || a.isBytes != b.isBytes || a.safe != b.safe {
		return nil
	}
	switch a.kind {
	case vText:
		if len(a.text) != 1 || len(b.text) != 1 {
			return nil
		}
		p, q := &a.text[0], &b.text[0]
		if p.sym == nil || q.sym == nil || len(p.labels) == 0 || len(q.labels) == 0 || p.sym.op == "char" || q.sym.op == "char" {
			return nil
		}
		n := piece{chars: p.chars.Or(q.chars), clean: bothClean(p.clean, p.labels, q.clean, q.labels), labels: addLabels(p.labels, q.labels)}
		for _, x := range p.not {
			if slices.Contains(q.not, x) {
				n.not = append(n.not, x)
			}
		}
		n.notFirst = p.notFirst.And(q.notFirst)
		n.sym = eitherSym(p.sym, q.sym)
		if n.sym == p.sym && n.chars == p.chars && n.clean == p.clean && n.notFirst == p.notFirst && len(n.not) == len(p.not) && len(n.labels) == len(p.labels) {
			return a
		}
		c := *a
		c.text = []piece{n}
		return &c
	case vUnknown:
		if a.str != "text" || b.str != "text" || a.sym == nil || b.sym == nil || len(a.labels) == 0 || len(b.labels) == 0 || a.sym.op == "char" || b.sym.op == "char" {
			return nil
		}
		c := *a
		c.clean, c.labels, c.sym = bothClean(a.clean, a.labels, b.clean, b.labels), addLabels(a.labels, b.labels), eitherSym(a.sym, b.sym)
		if c.sym == a.sym && c.clean == a.clean && len(c.labels) == len(a.labels) {
			return a
		}
		return &c
	}
	return nil
}

// eitherSym is the identity of what is a or b.
func eitherSym(a, b *sym) *sym {
	if a == b {
		return a
	}
	for _, p := range [2][2]*sym{{a, b}, {b, a}} {
		if p[0].op == "either" && (slices.Contains(p[0].bases, p[1]) || p[1].op == "either" && subset(p[1].bases, p[0].bases)) {
			return p[0]
		}
	}
	out := &sym{op: "either"}
	for _, s := range [2]*sym{a, b} {
		list := []*sym{s}
		if s.op == "either" {
			list = s.bases
		}
		for _, x := range list {
			if len(out.bases) < 8 && !slices.Contains(out.bases, x) {
				out.bases = append(out.bases, x)
			}
		}
	}
	return out
}

func subset(a, b []*sym) bool {
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}

// union makes a value of alternatives, widening when there are too many.
func union(list []*value) *value {
	if len(list) == 1 {
		return list[0]
	}
	consts := true
	for _, x := range list {
		consts = consts && (x.isConst() || x.kind == vUnbound)
	}
	if len(list) <= maxAlts || consts && len(list) <= maxConsts {
		return &value{kind: vUnion, elems: list}
	}
	allText := true
	for _, x := range list {
		allText = allText && x.kind == vText
	}
	if allText {
		return blob(list)
	}
	// Keep what can be called; the rest becomes one unknown value.
	var labels []label
	var keep []*value
	for _, x := range list {
		switch x.kind {
		case vFunc, vClass, vObj, vBound:
			if len(keep) < maxAlts-1 {
				keep = append(keep, x)
				continue
			}
		case vNum, vNumber, vBool, vBoolean:
			continue // no text of anybody's
		}
		labels = addLabels(labels, shallowLabels(x))
	}
	u := opaque(labels)
	if len(keep) == 0 {
		return u
	}
	return &value{kind: vUnion, elems: append(keep, u)}
}

// cleaned returns labels that are harmless for more kinds of sinks.
func cleaned(list []label, t tags) []label {
	if t == 0 {
		return list
	}
	var out []label
	for i, l := range list {
		if l.clean|t != l.clean {
			if out == nil {
				out = slices.Clone(list)
			}
			out[i].clean |= t
		}
	}
	if out == nil {
		return list
	}
	return out
}

// shallowLabels returns the labels of v without what lies on the heap.
func shallowLabels(v *value) []label {
	out := cleaned(v.labels, v.clean)
	for _, p := range v.text {
		out = addLabels(out, cleaned(p.labels, p.clean))
	}
	for _, e := range v.elems {
		out = addLabels(out, shallowLabels(e))
	}
	if v.recv != nil {
		out = addLabels(out, shallowLabels(v.recv))
	}
	return out
}

// blob is a text of any of the characters of the texts.
func blob(list []*value) *value {
	var chars Chars
	var labels []label
	prefix, first := "", true
	clean, guesses := allTags, allTags
	for _, v := range list {
		c, l, k := charsOf(v)
		chars, labels = chars.Or(c), addLabels(labels, l)
		if guesses &= k; !allGuessed(l) {
			clean &= k
		}
		p := prefixOf(v)
		if first {
			prefix, first = p, false
		} else {
			n := 0
			for n < len(p) && n < len(prefix) && p[n] == prefix[n] {
				n++
			}
			prefix = prefix[:n]
		}
	}
	if allGuessed(labels) {
		clean = guesses // there is nothing better
	}
	out := &value{kind: vText}
	if prefix != "" {
		out.text = append(out.text, piece{lit: prefix})
	}
	p := piece{sym: &sym{}, chars: chars, labels: labels, clean: clean &^ cleanUnlabelled(labels)}
	if prefix == "" {
		p.not = commonNots(list)
	}
	out.text = append(out.text, p)
	return out
}

// commonNots are the texts that occur in none of the texts, as far as
// somebody has said so of one of them.
func commonNots(list []*value) []string {
	var out []string
	for _, v := range list {
		if len(v.text) != 1 || v.text[0].sym == nil {
			continue
		}
		for _, n := range v.text[0].not {
			if slices.Contains(out, n) {
				continue
			}
			in := false
			for _, w := range list {
				switch {
				case w.isConstText():
					in = in || strings.Contains(w.str, n)
				case len(w.text) == 1 && w.text[0].sym != nil:
					in = in || !slices.Contains(w.text[0].not, n)
				default:
					in = true
				}
			}
			if !in {
				out = append(out, n)
			}
		}
	}
	return out
}

func cleanUnlabelled(labels []label) tags {
	if len(labels) == 0 {
		return allTags
	}
	return 0
}

func prefixOf(v *value) string {
	if v.kind != vText {
		return ""
	}
	if v.text == nil {
		return v.str
	}
	if len(v.text) > 0 && v.text[0].sym == nil {
		return v.text[0].lit
	}
	return ""
}

// charsOf returns which characters a text may have, its labels, and for
// which sinks all labelled parts are harmless.
func charsOf(v *value) (Chars, []label, tags) {
	if v.kind != vText {
		return AnyChars, shallowLabels(v), v.clean
	}
	if v.text == nil {
		return CharsOf(v.str), nil, allTags
	}
	var c Chars
	var labels []label
	clean, guesses := allTags, allTags
	for _, p := range v.text {
		if p.sym == nil {
			c = c.Or(CharsOf(p.lit))
			continue
		}
		c = c.Or(p.chars)
		if len(p.labels) > 0 {
			if guesses &= p.clean; !allGuessed(p.labels) {
				clean &= p.clean
			}
		}
		labels = addLabels(labels, p.labels)
	}
	if allGuessed(labels) {
		clean = guesses // there is nothing better
	}
	return c, labels, clean
}

// same reports whether two values are equal but for their labels and the
// identity of what is unknown.
func same(a, b *value) bool {
	if a == b {
		return true
	}
	if a.kind != b.kind || a.str != b.str || a.num != b.num || a.isInt != b.isInt || a.isBytes != b.isBytes || a.safe != b.safe ||
		a.obj != b.obj || a.reg != b.reg || a.fn != b.fn || a.cls != b.cls || a.mod != b.mod ||
		len(a.elems) != len(b.elems) || len(a.text) != len(b.text) || (a.text == nil) != (b.text == nil) || a.clean != b.clean {
		return false
	}
	if a.sym != b.sym && a.sym != nil && b.sym != nil {
		return false
	}
	if (a.recv == nil) != (b.recv == nil) || a.recv != nil && !same(a.recv, b.recv) {
		return false
	}
	for i := range a.text {
		p, q := &a.text[i], &b.text[i]
		if p.lit != q.lit || p.sym != q.sym || p.chars != q.chars || p.notFirst != q.notFirst || p.clean != q.clean || !slices.Equal(p.not, q.not) {
			return false
		}
	}
	for i := range a.elems {
		if !same(a.elems[i], b.elems[i]) {
			return false
		}
	}
	return true
}

// mergeLabels returns a with the labels of b, a being the same as b.
func mergeLabels(a, b *value) *value {
	if a == b {
		return a
	}
	l := addLabels(a.labels, b.labels)
	changed := len(l) != len(a.labels)
	var pieces []piece
	for i := range a.text {
		if pl := addLabels(a.text[i].labels, b.text[i].labels); len(pl) != len(a.text[i].labels) {
			if pieces == nil {
				pieces = slices.Clone(a.text)
			}
			pieces[i].labels = pl
			changed = true
		}
	}
	var elems []*value
	for i := range a.elems {
		if m := mergeLabels(a.elems[i], b.elems[i]); m != a.elems[i] {
			if elems == nil {
				elems = slices.Clone(a.elems)
			}
			elems[i] = m
			changed = true
		}
	}
	sym := a.sym
	if sym == nil {
		sym = b.sym
	}
	if !changed && sym == a.sym {
		return a
	}
	c := *a
	c.labels, c.sym = l, sym
	if pieces != nil {
		c.text = pieces
	}
	if elems != nil {
		c.elems = elems
	}
	return &c
}

// addLabels returns the union; the first trace to a source stays.
func addLabels(a, b []label) []label {
	if len(b) == 0 {
		return a
	}
	if len(a) == 0 {
		return b
	}
	out := a
	for _, l := range b {
		i := slices.IndexFunc(out, func(x label) bool { return x.src == l.src })
		switch {
		case i >= 0:
			if c := eitherWay(out[i].clean, l.clean); c != out[i].clean {
				out = slices.Clone(out)
				out[i].clean = c
			}
		case len(out) < maxLabels:
			out = append(out[:len(out):len(out)], l)
		}
	}
	return out
}

// guessed returns labels that went through a call of which nothing is known:
// the result may have nothing to do with the arguments.
func guessed(list []label, t tags) []label {
	if len(list) == 0 {
		return nil
	}
	list = slices.Clone(list)
	for i := range list {
		list[i].clean |= t
	}
	return list
}

// withStep returns v with one more step on the trace of its labels.
func withStep(v *value, at Span, note string) *value {
	return withStepIn(v, at, note, nil)
}

// withStepIn is withStep for what lies within another value: seen holds what
// has been done, because tuples may share their elements, x = (x, x).
func withStepIn(v *value, at Span, note string, seen map[*value]*value) (out *value) {
	switch v.kind {
	case vUnion, vTuple:
		if done, ok := seen[v]; ok {
			return done
		}
		if seen == nil {
			seen = map[*value]*value{}
		}
		defer func() { seen[v] = out }()
		var elems []*value
		for i, e := range v.elems {
			if n := withStepIn(e, at, note, seen); n != e {
				if elems == nil {
					elems = slices.Clone(v.elems)
				}
				elems[i] = n
			}
		}
		if elems == nil {
			return v
		}
		c := *v
		c.elems = elems
		return &c
	}
	labels := stepped(v.labels, at, note)
	var pieces []piece
	for i := range v.text {
		if l := stepped(v.text[i].labels, at, note); l != nil {
			if pieces == nil {
				pieces = slices.Clone(v.text)
			}
			pieces[i].labels = l
		}
	}
	if labels == nil && pieces == nil {
		return v
	}
	c := *v
	if labels != nil {
		c.labels = labels
	}
	if pieces != nil {
		c.text = pieces
	}
	return &c
}

func stepped(labels []label, at Span, note string) []label {
	var out []label
	for i, l := range labels {
		if l.step != nil && (l.step.n >= maxSteps || l.step.at == at) || l.step == nil && l.src.at == at {
			continue
		}
		if out == nil {
			out = slices.Clone(labels)
		}
		n := 1
		if l.step != nil {
			n = l.step.n + 1
		}
		out[i].step = &step{prev: l.step, n: n, at: at, note: note}
	}
	return out
}

// numText is str() of a number, as Python writes it.
func numText(v *value) string {
	if v.isInt {
		return strconv.FormatFloat(v.num, 'f', -1, 64)
	}
	switch {
	case math.IsInf(v.num, 1):
		return "inf"
	case math.IsInf(v.num, -1):
		return "-inf"
	case math.IsNaN(v.num):
		return "nan"
	}
	abs := math.Abs(v.num)
	if abs != 0 && (abs >= 1e16 || abs < 1e-4) {
		s := strconv.FormatFloat(v.num, 'e', -1, 64)
		return s
	}
	s := strconv.FormatFloat(v.num, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// pieces returns str(v) as pieces; of a union, one run.
func (it *interp) pieces(st *state, v *value) []piece {
	switch v.kind {
	case vText:
		if v.text != nil {
			return v.text
		}
		if v.str == "" {
			return nil
		}
		return []piece{{lit: v.str}}
	case vNone:
		return []piece{{lit: "None"}}
	case vBool:
		if v.num != 0 {
			return []piece{{lit: "True"}}
		}
		return []piece{{lit: "False"}}
	case vNum:
		return []piece{{lit: numText(v)}}
	case vNumber:
		return []piece{{sym: symOf(v), chars: digits, labels: v.labels, clean: v.clean}}
	case vBoolean:
		return []piece{{sym: &sym{}, chars: CharRange("TrueFals")}}
	case vUnknown:
		return []piece{{sym: symOf(v), chars: AnyChars, labels: v.labels, clean: v.clean}}
	case vInst:
		chars := AnyChars
		if v.str == "uuid.UUID" {
			chars = hexChars
		}
		return []piece{{sym: symOf(v), chars: chars, labels: v.labels, clean: v.clean}}
	case vUnion:
		list := make([]*value, len(v.elems))
		for i, a := range v.elems {
			list[i] = fromPieces(it.pieces(st, a))
		}
		b := blob(list)
		// An alternative that is one unknown run lends its identity, so that
		// conditions on it still speak of the whole.
		return b.text
	}
	return []piece{{sym: &sym{}, chars: AnyChars, labels: it.labelsOf(st, v)}}
}

func symOf(v *value) *sym {
	if v.sym != nil {
		return v.sym
	}
	return &sym{}
}

// fromPieces makes a text of pieces, joining what stands next to each other.
func fromPieces(ps []piece) *value {
	out := make([]piece, 0, len(ps))
	for _, p := range ps {
		if p.sym == nil {
			if p.lit == "" {
				continue
			}
			if n := len(out); n > 0 && out[n-1].sym == nil && len(out[n-1].lit)+len(p.lit) <= maxLiteral {
				out[n-1].lit += p.lit
				continue
			}
		}
		out = append(out, p)
	}
	switch {
	case len(out) == 0:
		return empty
	case len(out) == 1 && out[0].sym == nil:
		return text(out[0].lit)
	case len(out) > maxPieces:
		// Keep the ends; what is between becomes one run.
		mid := blob([]*value{{kind: vText, text: out[8 : len(out)-8]}})
		return fromPieces(slices.Concat(out[:8], mid.text, out[len(out)-8:]))
	}
	return &value{kind: vText, text: out}
}

// concat is a + b for texts.
func (it *interp) concat(st *state, a, b *value) *value {
	if a.isConstText() && b.isConstText() {
		t := text(a.str + b.str)
		if a.isBytes || a.safe {
			t = &value{kind: vText, str: t.str, text: t.text, isBytes: a.isBytes, safe: a.safe && b.safe}
		}
		return t
	}
	r := fromPieces(slices.Concat(it.pieces(st, a), it.pieces(st, b)))
	if a.safe && b.safe {
		c := *r
		c.safe = true
		return &c
	}
	return r
}

// over applies f to each alternative of v and joins the results.
func over(v *value, f func(*value) *value) *value {
	if v.kind != vUnion {
		return f(v)
	}
	var out *value
	for _, a := range v.elems {
		out = join(out, f(a))
	}
	return out
}

// over2 applies f to each pair of alternatives, as long as they are few.
func over2(a, b *value, f func(a, b *value) *value) *value {
	if a.kind != vUnion && b.kind != vUnion {
		return f(a, b)
	}
	if len(a.alts())*len(b.alts()) > 36 {
		if len(b.alts()) > 1 {
			b = flatten(b)
		}
		if len(a.alts()) > 6 {
			a = flatten(a)
		}
	}
	var out *value
	for _, x := range a.alts() {
		for _, y := range b.alts() {
			out = join(out, f(x, y))
		}
	}
	return out
}

// flatten makes one value of alternatives.
func flatten(v *value) *value {
	if v.kind != vUnion {
		return v
	}
	texts := true
	for _, a := range v.elems {
		texts = texts && a.kind == vText
	}
	if texts {
		return blob(v.elems)
	}
	return opaque(shallowLabels(v))
}
