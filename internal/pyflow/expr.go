package pyflow

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// eval returns what an expression may be. After it st may be dead.
func (it *interp) eval(st *state, id pysyntax.ID) *value {
	if id == 0 || st.dead {
		return unknown
	}
	if !it.step() {
		st.dead = true
		return unknown
	}
	f := it.fr.f
	n := f.Node(id)
	switch n.Kind {
	case pysyntax.Name:
		if it.isUnbound(st, f.Name(id)) {
			it.throw(st) // UnboundLocalError
			return unknown
		}
		v := it.name(st, f.Name(id))
		if v.kind == vLib {
			v = it.libRead(st, v, it.span(id))
		}
		return it.refined(st, v)
	case pysyntax.Attribute:
		return it.evalAttribute(st, id, false)
	case pysyntax.Str, pysyntax.Bytes, pysyntax.Num:
		return it.literal(id)
	case pysyntax.None:
		return none
	case pysyntax.True:
		return vTrue
	case pysyntax.False:
		return vFalse
	case pysyntax.Call:
		return it.evalCall(st, id)
	case pysyntax.BinOp:
		a, op, b := f.BinOp(id)
		x := it.eval(st, a)
		y := it.eval(st, b)
		if st.dead {
			return unknown
		}
		return it.operate(st, op, x, y)
	case pysyntax.UnaryOp:
		op, a := f.UnaryOp(id)
		if op == pysyntax.UnaryNot {
			return it.evalTest(st, id)
		}
		v := it.eval(st, a)
		if st.dead {
			return unknown
		}
		return it.unary(st, op, v)
	case pysyntax.BoolOp:
		return it.evalBool(st, id)
	case pysyntax.Compare:
		return it.evalTest(st, id)
	case pysyntax.IfExp:
		test, a, b := f.IfExp(id)
		yes, no := it.cond(st, test)
		var x, y *value
		if !yes.dead {
			x = it.eval(yes, a)
			if yes.dead {
				x = nil
			}
		}
		if !no.dead {
			y = it.eval(no, b)
			if no.dead {
				y = nil
			}
		}
		it.join2(st, yes, no)
		if v := join(x, y); v != nil {
			return v
		}
		return unknown
	case pysyntax.JoinedStr, pysyntax.TemplateStr:
		return it.evalFString(st, id)
	case pysyntax.Tuple:
		return it.evalTuple(st, id)
	case pysyntax.List, pysyntax.Set:
		kind := oList
		if n.Kind == pysyntax.Set {
			kind = oSet
		}
		elems, rest := it.evalElems(st, f.Elts(id))
		return it.list(st, kind, elems, rest)
	case pysyntax.Dict:
		return it.evalDict(st, id)
	case pysyntax.Subscript:
		v, i := f.Subscript(id)
		c := it.eval(st, v)
		k := it.evalIndex(st, i)
		if st.dead {
			return unknown
		}
		return it.refined(st, it.subscript(st, c, k, it.span(id)))
	case pysyntax.NamedExpr:
		t, v := f.NamedExpr(id)
		x := it.eval(st, v)
		it.assign(st, t, x)
		return x
	case pysyntax.Lambda:
		return it.evalLambda(st, id)
	case pysyntax.ListComp, pysyntax.SetComp, pysyntax.GeneratorExp, pysyntax.DictComp:
		return it.evalComp(st, id)
	case pysyntax.Await:
		return it.eval(st, n.A)
	case pysyntax.Starred:
		return it.eval(st, n.A)
	case pysyntax.Yield:
		v := none
		if n.A != 0 {
			v = it.eval(st, n.A)
		}
		if it.fr.loose && len(it.fr.yields) > 0 || len(it.fr.yields) > maxElems {
			k := len(it.fr.yields) - 1
			it.fr.yields[k] = join(it.fr.yields[k], v)
		} else {
			it.fr.yields = append(it.fr.yields, v)
		}
		return unknown
	case pysyntax.YieldFrom:
		v := it.eval(st, n.A)
		items, exact := it.iterate(st, v)
		if !exact {
			it.fr.loose = true
		}
		it.fr.yields = append(it.fr.yields, items...)
		return unknown
	case pysyntax.Slice:
		return it.evalIndex(st, id)
	}
	return unknown
}

// literal is the value of a literal.
func (it *interp) literal(id pysyntax.ID) *value {
	f := it.fr.f
	var place *atomic.Pointer[value]
	if it.fr.file != nil && it.fr.file.f == f && int(id) < len(it.fr.file.literals) {
		place = &it.fr.file.literals[id]
		if v := place.Load(); v != nil {
			return v
		}
	}
	var v *value
	switch f.Kind(id) {
	case pysyntax.Str:
		s, _ := f.StringValue(id)
		v = text(s)
	case pysyntax.Bytes:
		b, _ := f.BytesValue(id)
		t := text(string(b))
		v = &value{kind: vText, str: t.str, text: t.text, isBytes: true}
	default:
		v = numberValue(f, id)
	}
	if place != nil {
		place.Store(v)
	}
	return v
}

func numberValue(f *pysyntax.File, id pysyntax.ID) *value {
	n, ok := f.NumValue(id)
	if !ok {
		return number
	}
	return numberOf(n)
}

func (it *interp) evalTuple(st *state, id pysyntax.ID) *value {
	elems, rest := it.evalElems(st, it.fr.f.Elts(id))
	if rest != nil {
		return it.list(st, oList, elems, rest)
	}
	return it.tuple(st, elems)
}

// maxWeight bounds the values that one tuple holds, in tuples within it too
// and however often: x = (x, x) doubles it each time.
const maxWeight = 2000

// tuple makes a tuple; of too many values it is an unknown that comes from
// where they do.
func (it *interp) tuple(st *state, elems []*value) *value {
	n := 0
	for _, e := range elems {
		n += weight(e)
	}
	if n > maxWeight {
		var labels []label
		for _, e := range elems {
			labels = addLabels(labels, it.labelsOf(st, e))
		}
		return opaque(labels)
	}
	return &value{kind: vTuple, elems: elems, num: float64(n)}
}

func weight(v *value) int {
	n := 1
	switch {
	case v == nil:
	case v.kind == vTuple && v.num > 0:
		n += int(v.num)
	case v.kind == vTuple || v.kind == vUnion || v.kind == vInst:
		for _, e := range v.elems {
			n += weight(e)
		}
	case v.kind == vBound && v.recv != nil:
		n += weight(v.recv)
	}
	return n
}

// evalElems evaluates the elements of a display; rest is what a star of
// unknown length gives.
func (it *interp) evalElems(st *state, ids []pysyntax.ID) (elems []*value, rest *value) {
	f := it.fr.f
	for _, e := range ids {
		if f.Kind(e) == pysyntax.Starred {
			items, exact := it.iterate(st, it.eval(st, f.Value(e)))
			if !exact || rest != nil {
				rest = join(rest, joinAll(items))
				if rest == nil {
					rest = unknown
				}
				continue
			}
			elems = append(elems, items...)
			continue
		}
		v := it.eval(st, e)
		if rest != nil || len(elems) >= maxElems*8 {
			rest = join(rest, v)
			continue
		}
		elems = append(elems, v)
	}
	return elems, rest
}

func (it *interp) evalDict(st *state, id pysyntax.ID) *value {
	o := &object{kind: oDict}
	for k, v := range it.fr.f.DictItems(id) {
		if k == 0 {
			m := it.eval(st, v)
			it.updateDict(st, o, m)
			continue
		}
		kv, vv := it.eval(st, k), it.eval(st, v)
		if key, ok := keyOf(kv); ok {
			o.set(key, vv)
		} else {
			o.rest = join(o.rest, vv)
			o.restKeys = addLabels(o.restKeys, it.labelsOf(st, kv))
		}
	}
	return &value{kind: vObj, obj: it.alloc(st, o)}
}

// updateDict puts what is in m into o.
func (it *interp) updateDict(st *state, o *object, m *value) {
	for _, a := range m.alts() {
		var src *object
		if a.kind == vObj {
			src = it.get(st, a.obj)
		}
		if src == nil || src.kind != oDict {
			labels := it.labelsOf(st, a)
			o.rest = join(o.rest, opaque(labels))
			o.restKeys = addLabels(o.restKeys, labels)
			continue
		}
		o.restKeys = addLabels(o.restKeys, src.restKeys)
		for _, k := range src.keys {
			v := src.m[k]
			if m.kind == vUnion {
				v = join(v, unbound)
			}
			if b, missing := bound(v); missing {
				if b != nil {
					old := o.get(k)
					if old == nil {
						old = unbound
					}
					o.set(k, join(old, b))
				}
				continue
			}
			o.set(k, v)
		}
		if src.rest != nil {
			o.rest = join(o.rest, src.rest)
		}
	}
}

// evalIndex evaluates what stands between brackets; a slice becomes an
// instance of builtins.slice whose elements are its bounds.
func (it *interp) evalIndex(st *state, id pysyntax.ID) *value {
	f := it.fr.f
	if f.Kind(id) != pysyntax.Slice {
		return it.eval(st, id)
	}
	a, b, c := f.Slice(id)
	part := func(p pysyntax.ID) *value {
		if p == 0 {
			return none
		}
		return it.eval(st, p)
	}
	return &value{kind: vInst, str: "builtins.slice", elems: []*value{part(a), part(b), part(c)}}
}

func (it *interp) evalFString(st *state, id pysyntax.ID) *value {
	f := it.fr.f
	out := empty
	safe := false
	for _, p := range f.FStringParts(id) {
		var v *value
		if f.Kind(p) == pysyntax.StrPart {
			s, _ := f.StringValue(p)
			v = text(s)
		} else {
			fd := f.Field(p)
			x := it.eval(st, fd.Value)
			if st.dead {
				return unknown
			}
			spec := empty
			if fd.Format != 0 {
				spec = it.evalFString(st, fd.Format)
			}
			if len(fd.Debug) > 0 {
				out = it.concat(st, out, text(string(fd.Debug)))
			}
			v = it.formatted(st, x, fd.Conversion, spec)
		}
		if n := len(out.alts()) * len(v.alts()); n > 1 && n <= 6 {
			out = over2(out, v, func(a, b *value) *value { return it.concat(st, a, b) })
		} else {
			out = it.concat(st, flatten(out), v)
		}
		if out.safe {
			safe = true
		}
	}
	if safe {
		c := *out
		c.safe = false
		return &c
	}
	return out
}

// formatted is format(v, spec).
func (it *interp) formatted(st *state, v *value, conversion byte, spec *value) *value {
	if v.kind == vUnion && (spec.isConstText()) {
		allConst := true
		for _, a := range v.elems {
			allConst = allConst && (a.isConst() || a.kind == vText)
		}
		if allConst {
			return over(v, func(v *value) *value { return it.formatted(st, v, conversion, spec) })
		}
	}
	if !spec.isConstText() {
		return run(AnyChars, addLabels(it.labelsOf(st, v), it.labelsOf(st, spec)))
	}
	if conversion == 0 && spec.str == "" {
		return it.str(st, v)
	}
	return it.formatSpec(st, v, conversion, spec.str)
}

// str is str(v).
func (it *interp) str(st *state, v *value) *value {
	if it.nested > maxNested {
		return run(AnyChars, shallowLabels(v))
	}
	it.nested++
	defer func() { it.nested-- }()
	switch v.kind {
	case vText:
		if v.isBytes {
			return it.reprText(st, v)
		}
		if v.safe {
			c := *v
			c.safe = false
			return &c
		}
		return v
	case vUnion:
		return over(v, func(v *value) *value { return it.str(st, v) })
	case vObj:
		if o := it.get(st, v.obj); o != nil && o.cls != nil {
			for _, name := range []string{"__str__", "__repr__"} {
				if m := o.cls.lookup(it, st, name); m != nil && m.kind == vFunc {
					return it.call(st, &value{kind: vBound, fn: m.fn, recv: v, elems: []*value{m}}, &call{})
				}
			}
		}
	case vInst:
		if p := it.pathText(st, v); p != nil {
			return p
		}
	}
	if it.isNumbers(st, v) {
		return run(digits.Or(CharsOf("()[], e+")), it.labelsOf(st, v))
	}
	return fromPieces(it.pieces(st, v))
}

// isNumbers reports whether v is a tuple or list of numbers, whose text can
// hold nothing else.
func (it *interp) isNumbers(st *state, v *value) bool {
	list := v.elems
	switch v.kind {
	case vTuple:
		if v.str != "" {
			return false
		}
	case vObj:
		o := it.get(st, v.obj)
		if o == nil || o.kind != oList {
			return false
		}
		list = o.elems
		if o.rest != nil {
			list = append(slices.Clip(list), o.rest)
		}
	default:
		return false
	}
	for _, e := range list {
		for _, a := range e.alts() {
			if a.kind != vNum && a.kind != vNumber {
				return false
			}
		}
	}
	return len(list) > 0
}

func (it *interp) evalBool(st *state, id pysyntax.ID) *value {
	op, list := it.fr.f.BoolOp(id)
	var out *value
	var tests []*value
	var ends *state
	for i, e := range list {
		v := it.eval(st, e)
		if st.dead {
			break
		}
		if i == len(list)-1 {
			out = join(out, v)
			tests = append(tests, v)
			break
		}
		t := it.truth(st, v)
		stop := 0
		if op == pysyntax.BoolOr {
			stop = 1
		}
		tests = append(tests, v)
		if t == stop {
			out = join(out, v)
			break
		}
		if t < 0 {
			part := it.onlyTruth(st, v, stop == 1)
			out = join(out, part)
			ends = it.joinState(ends, st)
			it.follow(st, v.sym, stop == 0)
			if st.dead {
				break
			}
		}
	}
	if ends != nil {
		known := st.dead
		it.merge(st, ends)
		_ = known
	}
	if out == nil {
		return unknown
	}
	// The whole is a test, too: of "and" every part holds when it is true.
	if out.kind == vBoolean && len(tests) > 1 {
		all := slices.Clone(tests)
		learn := func(truth bool) func(it *interp, st *state) {
			return func(it *interp, st *state) {
				for _, t := range all {
					it.follow(st, t.sym, truth)
				}
			}
		}
		if op == pysyntax.BoolAnd {
			return test(learn(true), nil)
		}
		return test(nil, learn(false))
	}
	return out
}

// onlyTruth returns the alternatives of v that may have the truth.
func (it *interp) onlyTruth(st *state, v *value, truth bool) *value {
	want := 0
	if truth {
		want = 1
	}
	if v.kind == vBoolean {
		return boolOf(truth)
	}
	if v.kind != vUnion {
		if !truth {
			return falsy(v)
		}
		return v
	}
	var out *value
	for _, a := range v.elems {
		if t := it.truth(st, a); t == want || t < 0 {
			if !truth && t < 0 {
				a = falsy(a)
			}
			out = join(out, a)
		}
	}
	if out == nil {
		return v
	}
	return out
}

// falsy is what v is when it is false: nothing of an input is left in an
// empty text, None, 0 or an empty container.
func falsy(v *value) *value {
	switch {
	case v.kind == vText && v.isBytes:
		return &value{kind: vText, isBytes: true}
	case v.kind == vText:
		return empty
	case v.kind == vUnknown && len(v.labels) > 0:
		return unknown
	case v.kind == vNumber && len(v.labels) > 0:
		return integer(0)
	}
	return v
}

// learnFalsy learns that v is false.
func (it *interp) learnFalsy(st *state, v *value) {
	f := falsy(v)
	if f == v {
		return
	}
	s := v.sym
	if v.kind == vText {
		if len(v.text) != 1 {
			return
		}
		s = v.text[0].sym
	}
	st.learn(s, func(r *refinement) { r.eq = f })
}

// follow learns what follows from the truth of something.
func (it *interp) follow(st *state, s *sym, truth bool) {
	if s == nil || st.dead {
		return
	}
	if truth && s.yes != nil {
		s.yes(it, st)
	}
	if !truth && s.no != nil {
		s.no(it, st)
	}
}

// evalTest evaluates a condition as a value.
func (it *interp) evalTest(st *state, id pysyntax.ID) *value {
	f := it.fr.f
	switch f.Kind(id) {
	case pysyntax.UnaryOp:
		_, a := f.UnaryOp(id)
		v := it.eval(st, a)
		if st.dead {
			return unknown
		}
		switch it.truth(st, v) {
		case 0:
			return vTrue
		case 1:
			return vFalse
		}
		if v.sym != nil && (v.sym.yes != nil || v.sym.no != nil) {
			return test(v.sym.no, v.sym.yes)
		}
		return boolean
	case pysyntax.Compare:
		left, rest := f.Compare(id)
		a := it.eval(st, left)
		var out *value
		for _, c := range rest {
			b := it.eval(st, c.Right)
			if st.dead {
				return unknown
			}
			r := it.compareOp(st, c.Op, a, b)
			switch {
			case out == nil:
				out = r
			case it.truth(st, out) == 0 || it.truth(st, r) == 0:
				out = vFalse
			case it.truth(st, out) == 1:
				out = r
			default:
				x, y := out, r
				out = test(func(it *interp, st *state) { it.follow(st, x.sym, true); it.follow(st, y.sym, true) }, nil)
			}
			a = b
		}
		return out
	}
	return it.eval(st, id)
}

// cond evaluates a condition and returns the state where it is true and the
// one where it is false. st is used up.
func (it *interp) cond(st *state, id pysyntax.ID) (yes, no *state) {
	f := it.fr.f
	switch f.Kind(id) {
	case pysyntax.UnaryOp:
		if op, a := f.UnaryOp(id); op == pysyntax.UnaryNot {
			yes, no = it.cond(st, a)
			return no, yes
		}
	case pysyntax.BoolOp:
		op, list := f.BoolOp(id)
		var out *state
		cur := st
		for i, e := range list {
			y, n := it.cond(cur, e)
			if op == pysyntax.BoolAnd {
				out, cur = it.joinDead(out, n), y
			} else {
				out, cur = it.joinDead(out, y), n
			}
			if cur.dead && i < len(list)-1 {
				break
			}
		}
		if op == pysyntax.BoolAnd {
			return cur, out
		}
		return out, cur
	case pysyntax.Name, pysyntax.NamedExpr:
	default:
		if name, v := it.unionIn(st, id); name != "" {
			return it.each(st, name, v, func(s *state, _ *value) (*state, *state) { return it.cond(s, id) })
		}
	}
	return it.condLeaf(st, id)
}

// maxEach is for how many alternatives of a name a condition of the project is
// decided one by one; those of models are few and short.
const maxEach = 6

// unionIn returns a name in a condition that holds one of several things of
// which the condition may tell which.
func (it *interp) unionIn(st *state, id pysyntax.ID) (string, *value) {
	f := it.fr.f
	var name string
	var val *value
	n := 0
	pysyntax.Walk(f, id, func(x pysyntax.ID) bool {
		if n++; name != "" || n > 40 {
			return false
		}
		switch f.Kind(x) {
		case pysyntax.Lambda, pysyntax.ListComp, pysyntax.SetComp, pysyntax.DictComp, pysyntax.GeneratorExp, pysyntax.NamedExpr:
			return false
		case pysyntax.Name:
			s := f.Name(x)
			if it.fr.sc.module || it.fr.sc.class {
				return true
			}
			// A global that the function sets is told apart like a local: once it
			// was made, it is there.
			if _, local := it.fr.sc.slots[s]; !local && !it.fr.sc.globals[s] {
				return true
			}
			v := it.rawName(st, s)
			if v == nil || v.kind != vUnion || len(v.elems) > maxEach && !it.fr.file.model {
				return true
			}
			name, val = s, v
			return false
		}
		return true
	})
	return name, val
}

// each decides something for each alternative of a name, which in each branch
// keeps those that come there, as far as more has been told about them.
func (it *interp) each(st *state, name string, v *value, decide func(*state, *value) (yes, no *state)) (yes, no *state) {
	for _, a := range v.elems {
		if a.kind == vUnbound {
			continue
		}
		s := st.fork()
		if v.sym != nil {
			// What comes of the whole's being true or false comes of this.
			it.follow(s, v.sym, it.truth(s, a) != 0)
		}
		it.bindName(s, name, it.refined(s, a))
		y, n := decide(s, a)
		for i, b := range [2]*state{y, n} {
			if b.dead {
				continue
			}
			if w := it.rawName(b, name); w != nil {
				if r := it.refined(b, w); r != w {
					it.bindName(b, name, r)
				}
			}
			if i == 0 {
				yes = it.joinDead(yes, b)
			} else {
				no = it.joinDead(no, b)
			}
		}
	}
	if yes == nil {
		yes = deadFrom(st)
	}
	if no == nil {
		no = deadFrom(st)
	}
	return yes, no
}

// held is what it says of a key, from outside, that something is found under
// it: rooms.get(key) is true only of keys that are in rooms. nil for anything
// else.
func (it *interp) held(st *state, id pysyntax.ID) *sym {
	f := it.fr.f
	fn, args, keywords := f.Call(id)
	if fn == 0 || len(args) != 1 || len(keywords) > 0 || f.Kind(args[0]) != pysyntax.Name {
		return nil
	}
	base, method := f.Attribute(fn)
	if method != "get" {
		return nil
	}
	for b := base; f.Kind(b) != pysyntax.Name; {
		switch f.Kind(b) { // what can be read again without doing anything
		case pysyntax.Attribute:
			b, _ = f.Attribute(b)
		case pysyntax.Subscript:
			b, _ = f.Subscript(b)
		default:
			return nil
		}
	}
	key := it.rawName(st, f.Name(args[0]))
	if key == nil || len(it.labelsOf(st, key)) == 0 {
		return nil
	}
	if in := it.contains(st, key, it.eval(st, base)); in.kind == vBoolean {
		return in.sym
	}
	return nil
}

// condLeaf is cond for what is no and, or, not.
func (it *interp) condLeaf(st *state, id pysyntax.ID) (yes, no *state) {
	f := it.fr.f
	v := it.eval(st, id)
	if st.dead {
		return st, st.fork()
	}
	v = it.refined(st, v)
	if w := it.watch; w != nil && w.fr == it.fr && slices.Contains(w.ids, id) {
		w.v = join(w.v, v)
	}
	if f.Kind(id) == pysyntax.NamedExpr {
		id, _ = f.NamedExpr(id)
	}
	if f.Kind(id) == pysyntax.Name && v.kind == vUnion && v.sym == nil {
		name := it.setting(st, id, v)
		yes, no := it.split(st, id, v, func(st *state, v *value) *value {
			if t := it.truth(st, v); t >= 0 {
				return boolOf(t == 1)
			}
			return &value{kind: vBoolean, sym: v.sym}
		}, falsy)
		if name != "" && !yes.dead && !no.dead {
			it.learnSetting(yes, name, true)
			it.learnSetting(no, name, false)
		}
		return yes, no
	}
	held := it.held(st, id)
	switch it.truth(st, v) {
	case 1:
		it.follow(st, v.sym, true)
		it.follow(st, held, true)
		return st, deadFrom(st)
	case 0:
		it.follow(st, v.sym, false)
		return deadFrom(st), st
	}
	no = st.fork()
	if name := it.setting(st, id, v); name != "" {
		it.learnSetting(st, name, true)
		it.learnSetting(no, name, false)
	}
	if f.Kind(id) == pysyntax.Call && v.kind == vUnknown {
		it.judged(st, id)
	}
	if v.kind == vText && len(v.text) == 1 && v.text[0].sym != nil {
		it.emptyPart(no, v.text[0].sym)
	}
	it.follow(st, it.onlyWay(st, v, true), true)
	it.follow(st, held, true)
	it.follow(no, it.onlyWay(no, v, false), false)
	if v.kind == vText {
		it.noHost(no, v)
	}
	it.learnFalsy(no, v)
	if f.Kind(id) == pysyntax.Name && v.kind == vUnion {
		it.bindName(st, f.Name(id), it.onlyTruth(st, v, true))
		it.bindName(no, f.Name(id), it.onlyTruth(no, v, false))
	}
	return st, no
}

// setting returns the name of the app's own setting that a condition asks for,
// config.STRICT or current_app.config["STRICT"]; "" for any other condition.
func (it *interp) setting(st *state, id pysyntax.ID, v *value) string {
	if it.loading {
		return ""
	}
	f := it.fr.f
	name := ""
	switch f.Kind(id) {
	case pysyntax.Attribute, pysyntax.Subscript, pysyntax.Call:
		name = settingRead(f, id)
	case pysyntax.Name:
		name = it.settingUnder(f.Name(id))
	case pysyntax.Compare: // config.STRICT is True
		if left, rest := f.Compare(id); len(rest) == 1 {
			switch f.Kind(rest[0].Right) {
			case pysyntax.True, pysyntax.False, pysyntax.None:
				if _, name = f.Attribute(left); name != "" {
					name += string(f.Text(rest[0].Right))
				}
			}
		}
	}
	if name == "" || name != strings.ToUpper(name) && f.Kind(id) != pysyntax.Compare || len(it.labelsOf(st, v)) > 0 {
		return ""
	}
	return name
}

// settingRead returns the name of what an expression reads by a constant name:
// an attribute, an item, getattr.
func settingRead(f *pysyntax.File, id pysyntax.ID) (name string) {
	switch f.Kind(id) {
	case pysyntax.Attribute:
		_, name = f.Attribute(id)
	case pysyntax.Subscript:
		_, k := f.Subscript(id)
		name, _ = f.StringValue(k)
	case pysyntax.Call:
		fn, args, _ := f.Call(id)
		switch _, m := f.Attribute(fn); {
		case m == "get" && len(args) > 0:
			name, _ = f.StringValue(args[0])
		case f.Name(fn) == "getattr" && len(args) > 1:
			name, _ = f.StringValue(args[1])
		}
	}
	return name
}

// settingUnder returns the setting that the running function has put under a
// name, if that is all that it puts there.
func (it *interp) settingUnder(name string) string {
	fn := it.fr.fn
	if fn == nil {
		return ""
	}
	key := funcKey{fn.file, fn.id}
	names, ok := it.settingNames[key]
	if !ok {
		f := it.fr.f
		names = map[string]string{}
		pysyntax.Walk(f, fn.id, func(id pysyntax.ID) bool {
			targets, v := f.Assign(id)
			for _, t := range targets {
				if n := f.Name(t); n != "" {
					if _, again := names[n]; again {
						names[n] = ""
					} else {
						names[n] = settingRead(f, v)
					}
				}
			}
			return true
		})
		if it.settingNames == nil {
			it.settingNames = map[funcKey]map[string]string{}
		}
		it.settingNames[key] = names
	}
	return names[name]
}

// judged learns from a call of which nothing is known but that it said yes to
// what it was given: the program does not take that unchecked into a session.
func (it *interp) judged(st *state, id pysyntax.ID) {
	f := it.fr.f
	_, args, _ := f.Call(id)
	for _, a := range args {
		if f.Kind(a) != pysyntax.Name {
			continue
		}
		if v := it.rawName(st, f.Name(a)); v != nil {
			for _, s := range symsOf(it.refined(st, v)) {
				st.learnClean(s, it.tag("session"), 0)
			}
		}
	}
}

// onlyWay returns the symbol of what is so when v is true or false: its own,
// or that of the only alternative that can be. x.get("a", "").isdigit() is
// false for the default.
func (it *interp) onlyWay(st *state, v *value, truth bool) *sym {
	if v.kind != vUnion || v.sym != nil {
		return v.sym
	}
	var way *sym
	for _, a := range v.elems {
		if t := it.truth(st, a); t >= 0 && (t == 1) != truth {
			continue
		}
		if way != nil || a.sym == nil {
			return nil
		}
		way = a.sym
	}
	return way
}

func deadFrom(st *state) *state {
	d := st.fork()
	d.dead = true
	return d
}

func (it *interp) joinDead(acc, s *state) *state {
	if acc == nil || acc.dead {
		return s
	}
	it.merge(acc, s)
	return acc
}

// split decides a test for each alternative of a name and leaves it, in each
// branch, those that come there.
func (it *interp) split(st *state, id pysyntax.ID, v *value, decide func(*state, *value) *value, otherwise func(*value) *value) (yes, no *state) {
	name := it.fr.f.Name(id)
	if v.kind != vUnion {
		r := decide(st, v)
		switch it.truth(st, r) {
		case 1:
			return st, deadFrom(st)
		case 0:
			return deadFrom(st), st
		}
		no = st.fork()
		it.follow(st, r.sym, true)
		it.follow(no, r.sym, false)
		return st, no
	}
	var ys, ns []*value
	var syms []*sym
	tested := 0
	for _, a := range v.elems {
		r := decide(st, a)
		t := it.truth(st, r)
		if t != 0 {
			ys, _ = addAlt(ys, a, true)
		}
		if t != 1 {
			n := a
			if t < 0 && otherwise != nil {
				n = otherwise(a)
			}
			ns, _ = addAlt(ns, n, true)
		}
		if t < 0 {
			tested++
			if r.sym != nil {
				syms = append(syms, r.sym)
			}
		}
	}
	yes, no = st, st.fork()
	if len(ys) == 0 {
		yes.dead = true
	} else {
		it.bindName(yes, name, union(ys))
		if len(ys) == 1 && tested == 1 && len(syms) == 1 {
			it.follow(yes, syms[0], true)
		}
	}
	if len(ns) == 0 {
		no.dead = true
	} else {
		it.bindName(no, name, union(ns))
		if len(ns) == 1 && tested == 1 && len(syms) == 1 {
			it.follow(no, syms[0], false)
		}
	}
	// What holds of every alternative that was not decided.
	if tested == len(v.elems) && len(syms) == tested && tested > 1 {
		for _, s := range syms {
			it.follow(yes, s, true)
			it.follow(no, s, false)
		}
	}
	return yes, no
}

func (it *interp) evalLambda(st *state, id pysyntax.ID) *value {
	f := it.fr.f
	_, body := f.Lambda(id)
	fn := it.newFunction(st, id, "<lambda>")
	fn.expr = body
	return &value{kind: vFunc, fn: fn}
}

// evalComp evaluates a comprehension as the loops it stands for.
func (it *interp) evalComp(st *state, id pysyntax.ID) *value {
	f := it.fr.f
	key, elem, gens := f.Comp(id)
	kind := f.Kind(id)
	o := &object{kind: oList}
	switch kind {
	case pysyntax.SetComp:
		o.kind = oSet
	case pysyntax.DictComp:
		o.kind = oDict
	}
	// The targets are names of their own.
	var saved map[string]*value
	for _, g := range gens {
		t, _, _, _ := f.Comprehension(g)
		pysyntax.Walk(f, t, func(x pysyntax.ID) bool {
			if f.Kind(x) == pysyntax.Name {
				if saved == nil {
					saved = map[string]*value{}
				}
				name := f.Name(x)
				if _, ok := saved[name]; !ok {
					saved[name] = it.rawName(st, name)
				}
			}
			return true
		})
	}
	var names []label // who chooses the keys
	it.compLoop(st, gens, true, func(st *state, exact bool) {
		v := it.eval(st, elem)
		if st.dead {
			return
		}
		switch {
		case kind == pysyntax.DictComp && key == 0:
			it.updateDict(st, o, v)
		case kind == pysyntax.DictComp:
			k := it.eval(st, key)
			if ks, ok := keyOf(k); ok && exact {
				o.set(ks, v)
			} else {
				o.rest = join(o.rest, v)
				names = addLabels(names, it.labelsOf(st, it.refined(st, k)))
			}
		case exact:
			o.add(v)
		default:
			o.rest = join(o.rest, v)
		}
	})
	for name, v := range saved {
		if v == nil {
			v = unbound
		}
		it.bindName(st, name, v)
	}
	return &value{kind: vObj, obj: it.alloc(st, o), labels: names}
}

// rawName is what a name of the running function holds, nil if nothing.
func (it *interp) rawName(st *state, name string) *value {
	fr := it.fr
	if fr.sc.module || fr.sc.class {
		if o := it.get(st, fr.ns); o != nil {
			return o.get(name)
		}
		return nil
	}
	if fr.sc.globals[name] {
		if o := it.get(st, fr.mod.ns); o != nil {
			return o.get(name)
		}
		return nil
	}
	if slot, ok := fr.sc.slots[name]; ok {
		if slot < len(fr.cells) && fr.cells[slot] != 0 {
			return it.cell(st, fr.cells[slot])
		}
		if slot < len(st.vars) {
			return st.vars[slot]
		}
	}
	return nil
}

func (it *interp) compLoop(st *state, gens []pysyntax.ID, exact bool, body func(st *state, exact bool)) {
	if len(gens) == 0 {
		body(st, exact)
		return
	}
	target, iter, conds, _ := it.fr.f.Comprehension(gens[0])
	items, ok := it.rows(st, iter, it.eval(st, iter))
	if st.dead {
		return
	}
	if !ok {
		e := joinAll(items)
		if e == nil {
			e = unknown
		}
		items = []*value{e}
	}
	for _, x := range items {
		if st.dead || it.out() {
			return
		}
		in := st.fork()
		it.assign(in, target, x)
		all := exact && ok
		var outs *state
		for _, c := range conds {
			yes, no := it.cond(in, c)
			if !no.dead && !yes.dead {
				all = false
			}
			outs = it.joinState(outs, no)
			in = yes
			if in.dead {
				break
			}
		}
		if !in.dead {
			it.compLoop(in, gens[1:], all, body)
		}
		known := st.known
		if outs != nil {
			if in.dead {
				in = outs
			} else {
				it.merge(in, outs)
			}
		}
		if in.dead {
			// The body never ends normally.
			continue
		}
		*st = *in
		st.known = known
	}
}
