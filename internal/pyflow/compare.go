package pyflow

import (
	"slices"
	"strings"
)

// compare is a op b. What is not decided is a [test] that tells what follows.
func (it *interp) compare(st *state, op string, a, b *value) *value {
	switch op {
	case "==":
		return it.equal(st, a, b)
	case "!=":
		return negated(it.equal(st, a, b))
	case "is":
		return it.identity(st, a, b)
	case "is not":
		return negated(it.identity(st, a, b))
	case "in":
		return it.contains(st, a, b)
	case "not in":
		return negated(it.contains(st, a, b))
	}
	return it.ordered(st, op, a, b)
}

// negated is not v of a truth value.
func negated(v *value) *value {
	switch v.kind {
	case vBool:
		return boolOf(v.num == 0)
	case vBoolean:
		if v.sym != nil && (v.sym.yes != nil || v.sym.no != nil) {
			return test(v.sym.no, v.sym.yes)
		}
	}
	return boolean
}

// equalKnown decides a == b where both are known well enough: 1, 0 or -1.
func equalKnown(a, b *value) int {
	if a.isConst() && b.isConst() {
		ka, ok1 := keyOf(a)
		kb, ok2 := keyOf(b)
		if ok1 && ok2 {
			if ka == kb {
				return 1
			}
			return 0
		}
	}
	typed := func(v *value) int {
		switch v.kind {
		case vText:
			if v.isBytes {
				return 2
			}
			return 1
		case vNum, vNumber, vBool, vBoolean:
			return 3
		case vNone:
			return 4
		case vTuple:
			if v.str == "" {
				return 5
			}
		}
		return 0
	}
	if x, y := typed(a), typed(b); x != 0 && y != 0 && x != y {
		return 0
	}
	if a.kind == vText && b.kind == vText {
		// Different at a known end.
		p, q := prefixOf(a), prefixOf(b)
		n := min(len(p), len(q))
		if p[:n] != q[:n] {
			return 0
		}
		if a.isConstText() && len(q) > len(a.str) || b.isConstText() && len(p) > len(b.str) {
			return 0
		}
		for _, pair := range [2][2]*value{{a, b}, {b, a}} {
			if c := pair[0]; c.isConstText() {
				if !couldBe(pair[1], c.str) {
					return 0
				}
			}
		}
	}
	if a.kind == vClass && b.kind == vClass {
		return int(boolOf(a.cls == b.cls).num)
	}
	if a.kind == vLib && b.kind == vLib && a.str == b.str {
		return 1
	}
	return -1
}

// couldBe reports whether a text may be s: every literal occurs in it in
// order, and the characters between may occur in the runs.
func couldBe(v *value, s string) bool {
	if v.text == nil {
		return v.str == s
	}
	if len(v.text) == 1 && v.text[0].sym != nil {
		p := v.text[0]
		for _, r := range s {
			if !p.chars.Has(r) {
				return false
			}
		}
		for _, n := range p.not {
			if strings.Contains(s, n) {
				return false
			}
		}
		return true
	}
	for _, p := range v.text {
		if p.sym == nil {
			i := strings.Index(s, p.lit)
			if i < 0 {
				return false
			}
			s = s[i+len(p.lit):]
		}
	}
	return true
}

// equal is a == b.
func (it *interp) equal(st *state, a, b *value) *value {
	if a.kind == vUnion || b.kind == vUnion {
		r := it.eachTest(a, b, func(a, b *value) *value { return it.equal(st, a, b) })
		// Of several values one was compared, nobody knows which.
		if r == boolean && (a.kind != vUnion || len(it.labelsOf(st, a)) == 0) && (b.kind != vUnion || len(it.labelsOf(st, b)) == 0) {
			return it.equalUnlabelled(st, a, b)
		}
		return r
	}
	switch equalKnown(a, b) {
	case 1:
		return vTrue
	case 0:
		return vFalse
	}
	if a.kind == vObj && b.kind == vObj && a.obj == b.obj {
		return vTrue
	}
	if r := it.equalNormal(a, b); r != nil {
		return r
	}
	if b.isConst() && !a.isConst() {
		return equalTest(a, b)
	}
	if a.isConst() && !b.isConst() {
		return equalTest(b, a)
	}
	return it.equalUnlabelled(st, a, b)
}

// equalNormal is the test whether a text is what realpath or abspath makes of
// it, which then has no ".." in it; nil for another. What normpath makes of a
// text may begin so.
func (it *interp) equalNormal(a, b *value) *value {
	for _, p := range [2][2]*value{{a, b}, {b, a}} {
		v, r := p[0], p[1]
		if v.kind != vText || len(v.text) == 0 || r.kind != vText || len(r.text) == 0 {
			continue
		}
		s := r.text[len(r.text)-1].sym
		if s == nil || s.op != "real" && s.op != "norm" || s.op == "norm" && !strings.HasPrefix(prefixOf(v), "/") {
			continue
		}
		if s.op == "real" && s.arg == "/" && len(s.bases) == 1 {
			s = s.bases[0] // of pathlib
		}
		if s.arg == around(v) && slices.Equal(s.bases, symsOf(v)) {
			return test(func(it *interp, st *state) { it.exclude(st, v, "..") }, nil)
		}
	}
	return nil
}

// equalUnlabelled is a == b of which nothing else is known: being equal to
// something that does not come from outside leaves an attacker only what that
// may be.
func (it *interp) equalUnlabelled(st *state, a, b *value) *value {
	la, lb := it.labelsOf(st, a), it.labelsOf(st, b)
	switch {
	case len(la) > 0 && len(lb) == 0:
		return equalClean(a)
	case len(lb) > 0 && len(la) == 0:
		return equalClean(b)
	}
	if len(la) > 0 && len(lb) > 0 {
		// The host that was asked for is the app's own, as far as the one who
		// follows a link is concerned.
		switch {
		case ownAddress(lb) && !ownAddress(la):
			return equalClean(a)
		case ownAddress(la) && !ownAddress(lb):
			return equalClean(b)
		}
		// A folder that the app has stored.
		for _, p := range [2][2]*value{{a, b}, {b, a}} {
			if allStored(it.labelsOf(st, p[1])) && !allStored(it.labelsOf(st, p[0])) && normalPath(p[0]) {
				return it.insideTest(p[0])
			}
		}
	}
	return boolean
}

// ownAddress reports whether labels are all of the address of the request.
func ownAddress(list []label) bool {
	for _, l := range list {
		if l.src.kind != "url" && l.src.note != "Host header" {
			return false
		}
	}
	return true
}

func equalTest(v, c *value) *value {
	return test(func(it *interp, st *state) { it.equals(st, v, c) }, nil)
}

func equalClean(v *value) *value {
	return test(func(it *interp, st *state) {
		for _, s := range symsOf(v) {
			st.learnClean(s, allTags, 0)
			it.knownPart(st, s)
		}
	}, nil)
}

// eachTest decides a test for every pair of alternatives: decided when all
// are alike.
func (it *interp) eachTest(a, b *value, f func(a, b *value) *value) *value {
	// One side a union of constants, the other one unknown: it is one of them.
	for _, p := range [2][2]*value{{a, b}, {b, a}} {
		if p[0].kind == vUnion && p[1].kind != vUnion && !p[1].isConst() && allConst(p[0].elems) {
			yes, no := false, false
			for _, e := range p[0].elems {
				switch equalKnown(e, p[1]) {
				case 0:
					no = true
				default:
					yes = true
				}
			}
			if yes {
				v, c := p[1], p[0]
				_ = no
				return test(func(it *interp, st *state) { it.equals(st, v, c) }, nil)
			}
			return vFalse
		}
	}
	var out *value
	if len(a.alts())*len(b.alts()) > 64 {
		return boolean
	}
	var tests []*value // undecided
	never := true      // the others do not hold
	for _, x := range a.alts() {
		for _, y := range b.alts() {
			r := f(x, y)
			switch {
			case r.kind == vBoolean && r.sym != nil && r.sym.yes != nil:
				tests = append(tests, r)
			case r.kind != vBool || r.num != 0:
				never = false
			}
			switch {
			case out == nil:
				out = r
			case out.kind == vBool && r.kind == vBool && out.num == r.num:
			default:
				out = boolean
			}
		}
	}
	if out == boolean && never && len(tests) > 0 {
		// If it holds, it is one of those for which it can.
		return test(func(it *interp, st *state) {
			before := st.known
			var all *knowledge
			for i, t := range tests {
				st.known = before
				t.sym.yes(it, st)
				if i == 0 {
					all = st.known
				} else {
					all = it.commonKnowledge(all, st.known)
				}
			}
			st.known = all
		}, nil)
	}
	return out
}

func allConst(list []*value) bool {
	for _, e := range list {
		if !e.isConst() {
			return false
		}
	}
	return true
}

// identity is a is b.
func (it *interp) identity(st *state, a, b *value) *value {
	if a.kind == vUnion || b.kind == vUnion {
		return it.eachTest(a, b, func(a, b *value) *value { return it.identity(st, a, b) })
	}
	if a.kind == vNone || b.kind == vNone || a.kind == vBool && b.kind == vBool {
		if a.kind == b.kind && a.num == b.num {
			return vTrue
		}
		other := a
		if a.kind == vNone || a.kind == vBool && b.kind != vBool {
			other = b
		}
		switch other.kind {
		case vUnknown, vBoolean, vUnbound:
			if other.str == "computed" && (a.kind == vNone || b.kind == vNone) {
				return vFalse // what an operator gives is something
			}
			return boolean
		case vBound:
			if other.fn == nil {
				return boolean
			}
		case vLib:
			if !strings.HasPrefix(other.str, "builtins.") {
				return boolean
			}
		case vInst:
			return boolean
		}
		return vFalse
	}
	switch {
	case a.kind == vObj && b.kind == vObj:
		if a.obj == b.obj {
			return boolean // an object may stand for several
		}
	case a.kind == vClass && b.kind == vClass:
		return boolOf(a.cls == b.cls)
	case a.isConst() && b.isConst() && equalKnown(a, b) == 0:
		return vFalse
	case a.kind == vTuple && a.str == "enum" && b.kind == vTuple && b.str == "enum":
		return boolOf(same(a, b))
	}
	return it.equal(st, a, b)
}

// contains is a in b.
func (it *interp) contains(st *state, a, b *value) *value {
	if b.kind == vUnion {
		return it.eachTest(a, b, func(a, b *value) *value { return it.contains(st, a, b) })
	}
	if b.kind == vText {
		if a.kind == vUnion {
			return it.eachTest(a, b, func(a, b *value) *value { return it.contains(st, a, b) })
		}
		return it.containsText(st, a, b)
	}
	var elems []*value
	whole := false
	switch b.kind {
	case vTuple:
		elems, whole = b.elems, b.str == ""
	case vObj:
		o := it.get(st, b.obj)
		if o == nil {
			return boolean
		}
		switch o.kind {
		case oList, oSet:
			elems, whole = o.elems, o.rest == nil
			if o.rest != nil {
				elems = append(slices.Clone(elems), o.rest.alts()...)
				whole = allConst(o.rest.alts())
				if whole {
					// Known values, though not how often and where.
					return it.oneOf(st, a, elems, false)
				}
			}
		case oDict:
			for _, k := range o.keys {
				if v, missing := bound(o.m[k]); v != nil {
					_ = missing
					elems = append(elems, keyValue(k))
				}
			}
			whole = o.rest == nil
			if key, ok := keyOf(a); ok && o.rest == nil {
				v, missing := bound(o.get(key))
				switch {
				case v == nil:
					return vFalse
				case !missing:
					return vTrue
				}
				return boolean
			}
		default:
			return boolean
		}
	case vClass:
		if m := b.cls.enumMembers(it, st); m != nil {
			return boolean
		}
	case vUnknown:
		if len(it.labelsOf(st, b)) == 0 {
			return it.memberOfUnknown(a)
		}
		// Text from outside: a constant that is not in it does not occur.
		if a.isConstText() {
			c, hay := a.str, b
			return test(nil, func(it *interp, st *state) { it.exclude(st, hay, c) })
		}
		return boolean
	case vBound, vInst, vLib:
		if b.kind == vInst && b.str == "pathlib.parents" && allStored(it.labelsOf(st, a)) {
			if normalPath(b.elems[0]) {
				return it.insideTest(b.elems[0])
			}
			return boolean
		}
		if len(it.labelsOf(st, b)) == 0 && it.mapping(it.pathOf(st, b)) == nil {
			return it.memberOfUnknown(a)
		}
		return boolean
	default:
		return boolean
	}
	if whole {
		if slices.ContainsFunc(elems, func(e *value) bool { return it.isSame(b, e, a) }) {
			return vTrue
		}
		return it.oneOf(st, a, elems, true)
	}
	if b.kind == vObj && len(it.labelsOf(st, b)) == 0 {
		return it.memberOfUnknown(a)
	}
	return boolean
}

// memberOfUnknown is the test whether a is in a collection that does not come
// from outside: what is in it the attacker does not choose.
func (it *interp) memberOfUnknown(a *value) *value {
	if a.isConst() {
		return boolean
	}
	return test(func(it *interp, st *state) {
		for _, s := range symsOf(a) {
			st.learnClean(s, allTags, 0)
			it.knownPart(st, s)
		}
	}, nil)
}

// oneOf is a in elems. exact says that all of them are there.
func (it *interp) oneOf(st *state, a *value, elems []*value, exact bool) *value {
	if a.kind == vUnion {
		return it.eachTest(a, none, func(a, _ *value) *value { return it.oneOf(st, a, elems, exact) })
	}
	if len(elems) == 0 {
		return vFalse
	}
	var possible []*value
	for _, e := range elems {
		for _, x := range e.alts() {
			if x.kind == vUnbound {
				exact = false
				continue
			}
			switch equalKnown(a, x) {
			case 1:
				if exact && e.kind != vUnion {
					return vTrue
				}
				possible, _ = addAlt(possible, x, true)
			case -1:
				possible, _ = addAlt(possible, x, true)
			}
		}
	}
	if len(possible) == 0 {
		if allConst(elems) || a.isConst() {
			return vFalse
		}
		return boolean
	}
	if allConst(possible) {
		c := union(possible)
		if len(possible) > maxConsts {
			return it.memberOfUnknown(a)
		}
		return test(func(it *interp, st *state) { it.equals(st, a, c) }, nil)
	}
	for _, p := range possible {
		if hasLabels(p) {
			return boolean
		}
	}
	return it.memberOfUnknown(a)
}

// containsText is needle in hay.
func (it *interp) containsText(st *state, needle, hay *value) *value {
	if needle.isConstText() {
		n := needle.str
		if n == "" {
			return vTrue
		}
		if hay.isConstText() {
			return boolOf(strings.Contains(hay.str, n))
		}
		may := false
		for _, p := range hay.text {
			if p.sym == nil {
				if strings.Contains(p.lit, n) {
					return vTrue
				}
				continue
			}
			ok := true
			for _, r := range n {
				ok = ok && p.chars.Has(r)
			}
			if ok && !slices.Contains(p.not, n) {
				may = true
			}
		}
		if !may && len(hay.text) == 1 {
			return vFalse
		}
		return test(nil, func(it *interp, st *state) { it.exclude(st, hay, n) })
	}
	if hay.isConstText() {
		c := hay.str
		if needle.kind == vText || needle.kind == vUnknown {
			return test(func(it *interp, st *state) {
				// Of a text of constants the needle is a part: harmless, and of
				// its characters.
				it.restrict(st, needle, CharsOf(c))
				for _, s := range symsOf(needle) {
					if s.op == "char" {
						continue
					}
					st.learnClean(s, allTags, 0)
				}
			}, func(it *interp, st *state) {
				if len(needle.text) == 1 && needle.text[0].sym != nil && needle.text[0].sym.op == "char" {
					it.restrict(st, needle, AnyChars.Without(c))
				} else if needle.kind == vUnknown && needle.sym != nil && needle.sym.op == "char" {
					it.restrict(st, needle, AnyChars.Without(c))
				}
			})
		}
	}
	return boolean
}

// ordered is a < b and its like.
func (it *interp) ordered(st *state, op string, a, b *value) *value {
	if a.kind == vUnion || b.kind == vUnion {
		return it.eachTest(a, b, func(a, b *value) *value { return it.ordered(st, op, a, b) })
	}
	isNum := func(v *value) bool { return v.kind == vNum || v.kind == vBool }
	cmp := func(less, eq bool) *value {
		switch op {
		case "<":
			return boolOf(less)
		case "<=":
			return boolOf(less || eq)
		case ">":
			return boolOf(!less && !eq)
		}
		return boolOf(!less)
	}
	switch {
	case isNum(a) && isNum(b):
		return cmp(a.num < b.num, a.num == b.num)
	case a.isConstText() && b.isConstText():
		return cmp(a.str < b.str, a.str == b.str)
	}
	// ord(c) between constants, or c itself: bounds of a character.
	v, c, o := a, b, op
	if a.isConst() {
		v, c = b, a
		o = map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<="}[op]
	}
	bounds := func(limit rune, op string) Chars {
		var set Chars
		for r := rune(0); r < 128; r++ {
			if op == "<" && r < limit || op == "<=" && r <= limit || op == ">" && r > limit || op == ">=" && r >= limit {
				set = set.with(r)
			}
		}
		if op[0] == '>' {
			set.other = true
		}
		return set
	}
	opposite := map[string]string{"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
	if c.kind == vNum && v.kind == vNumber && v.sym != nil && v.sym.op == "ord" && len(v.sym.bases) == 1 {
		s, limit := v.sym.bases[0], rune(c.num)
		return test(func(it *interp, st *state) { it.restrictSym(st, s, bounds(limit, o)) },
			func(it *interp, st *state) { it.restrictSym(st, s, bounds(limit, opposite[o])) })
	}
	if c.isConstText() && len(c.str) == 1 && v.kind == vText && len(v.text) == 1 && v.text[0].sym != nil && v.text[0].sym.op == "char" {
		s, limit := v.text[0].sym, rune(c.str[0])
		return test(func(it *interp, st *state) { it.restrictSym(st, s, bounds(limit, o)) },
			func(it *interp, st *state) { it.restrictSym(st, s, bounds(limit, opposite[o])) })
	}
	return boolean
}
