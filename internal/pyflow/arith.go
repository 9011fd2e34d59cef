package pyflow

import (
	"math"
	"slices"
	"strings"
)

// binary is a op b for everything but instances of the project's classes.
func (it *interp) binary(st *state, op string, a, b *value) *value {
	if a.kind == vUnion || b.kind == vUnion {
		return over2(a, b, func(a, b *value) *value {
			if a.kind == vUnion || b.kind == vUnion {
				return opaque(addLabels(it.labelsOf(st, a), it.labelsOf(st, b)))
			}
			if a.kind == vNone || b.kind == vNone || raises(op, a, b) {
				return nil // would raise
			}
			return it.binary(st, op, a, b)
		}).orUnknown()
	}
	isNum := func(v *value) bool { return v.kind == vNum || v.kind == vBool }
	numLike := func(v *value) bool { return isNum(v) || v.kind == vNumber || v.kind == vBoolean }
	labels := func() []label { return addLabels(it.labelsOf(st, a), it.labelsOf(st, b)) }
	switch {
	case isNum(a) && isNum(b):
		return arithmetic(op, a, b)
	case op == "%" && a.kind == vText:
		return it.percentFormat(st, a, b)
	case numLike(a) && numLike(b):
		return numeric(labels())
	}
	aText, bText := a.kind == vText, b.kind == vText
	switch op {
	case "+":
		switch {
		case (aText || bText) && (aText || a.kind == vUnknown || a.kind == vBound) && (bText || b.kind == vUnknown || b.kind == vBound):
			r := it.concat(st, a, b)
			if aText && a.safe && !(bText && b.safe) { // Markup + text escapes it
				c := *it.concat(st, a, escapeHTML(it, fromPieces(it.pieces(st, b))))
				c.safe = true
				return &c
			}
			if aText && a.isBytes || bText && b.isBytes {
				c := *r
				c.isBytes = true
				return &c
			}
			return r
		case a.kind == vUnknown && b.kind == vUnknown && (a.str == "text" || b.str == "text"):
			return it.concat(st, a, b)
		case a.kind == vTuple && b.kind == vTuple && a.str == "" && b.str == "":
			if len(a.elems)+len(b.elems) <= 4*maxElems {
				return it.tuple(st, slices.Concat(a.elems, b.elems))
			}
		case a.kind == vObj && b.kind == vObj:
			x, y := it.get(st, a.obj), it.get(st, b.obj)
			if x != nil && y != nil && x.kind == oList && y.kind == oList {
				if x.rest == nil {
					rest := y.rest
					return it.list(st, oList, slices.Concat(x.elems, y.elems), rest)
				}
				return it.list(st, oList, x.elems, join(x.rest, y.all()))
			}
		}
	case "*":
		t, n := a, b
		if numLike(a) {
			t, n = b, a
		}
		if t.kind == vText {
			return repeatText(it, t, n)
		}
		if t.kind == vTuple || t.kind == vObj {
			items, exact := it.iterate(st, t)
			if exact && n.kind == vNum && n.num >= 0 && int(n.num)*len(items) <= maxElems {
				var out []*value
				for range int(n.num) {
					out = append(out, items...)
				}
				if t.kind == vTuple {
					return it.tuple(st, out)
				}
				return it.list(st, oList, out, nil)
			}
			return it.list(st, oList, nil, unknownOr(joinAll(items)))
		}
	case "/":
		if a.kind == vInst && a.str == "pathlib.Path" || b.kind == vInst && b.str == "pathlib.Path" {
			if r := it.pathDiv(st, a, b); r != nil {
				return r
			}
		}
	case "|", "&", "-", "^":
		if a.kind == vObj && b.kind == vObj {
			x, y := it.get(st, a.obj), it.get(st, b.obj)
			if x == nil || y == nil {
				break
			}
			if x.kind == oDict && op == "|" {
				o := &object{kind: oDict}
				it.updateDict(st, o, a)
				it.updateDict(st, o, b)
				return &value{kind: vObj, obj: it.alloc(st, o)}
			}
			if x.kind == oSet {
				return it.setOperation(st, op, x, y)
			}
		}
	}
	if op == "&" {
		// What is in a set and in something of the application's own is one of
		// its own things.
		for _, p := range [2][2]*value{{a, b}, {b, a}} {
			if o := it.get(st, p[0].obj); p[0].kind == vObj && o != nil && o.kind == oSet && p[1].kind != vObj && len(it.labelsOf(st, p[1])) == 0 {
				return it.list(st, oSet, nil, unknown)
			}
		}
	}
	l := labels()
	if len(l) == 0 {
		return unknown
	}
	return &value{kind: vUnknown, str: "computed", labels: l, sym: &sym{}}
}

func (v *value) orUnknown() *value { return unknownOr(v) }

// setOperation is a union, intersection or difference of sets.
func (it *interp) setOperation(st *state, op string, x, y *object) *value {
	known := x.rest == nil && y.rest == nil && allConst(x.elems) && allConst(y.elems)
	in := func(v *value, o *object) bool {
		return slices.ContainsFunc(o.elems, func(e *value) bool { return equalKnown(e, v) == 1 })
	}
	var out []*value
	if known {
		for _, e := range x.elems {
			if op == "|" || op == "&" && in(e, y) || (op == "-" || op == "^") && !in(e, y) {
				out = append(out, e)
			}
		}
		if op == "|" || op == "^" {
			for _, e := range y.elems {
				if !in(e, x) {
					out = append(out, e)
				}
			}
		}
		return it.list(st, oSet, out, nil)
	}
	switch op {
	case "-":
		return it.list(st, oSet, nil, unknownOr(x.all()))
	case "&":
		// Every element is one of either's.
		for _, o := range [2]*object{y, x} {
			all := o.all()
			if allConst(o.elems) && o.rest == nil || all != nil && len(it.labelsOf(st, all)) == 0 {
				return it.list(st, oSet, nil, unknownOr(all))
			}
		}
	}
	return it.list(st, oSet, nil, unknownOr(join(x.all(), y.all())))
}

// repeatText is t * n.
func repeatText(it *interp, t, n *value) *value {
	if n.kind == vNum || n.kind == vBool {
		k := int(math.Min(n.num, 1<<20))
		if k <= 0 {
			return likeText(t, empty)
		}
		if t.isConstText() {
			if len(t.str)*k <= maxLiteral {
				return likeText(t, text(strings.Repeat(t.str, k)))
			}
			head := strings.Repeat(t.str, min(k, 256/max(1, len(t.str))+1))
			return likeText(t, fromPieces([]piece{{lit: head}, {sym: &sym{}, chars: CharsOf(t.str)}}))
		}
		if k*len(t.text) <= maxPieces {
			var ps []piece
			for range k {
				ps = append(ps, t.text...)
			}
			return likeText(t, fromPieces(ps))
		}
	}
	c, labels, clean := charsOf(t)
	return &value{kind: vText, isBytes: t.isBytes, text: []piece{{sym: &sym{}, chars: c, labels: labels, clean: clean &^ cleanUnlabelled(labels)}}}
}

// arithmetic is a op b of constants, as Python computes it.
func arithmetic(op string, a, b *value) *value {
	x, y := a.num, b.num
	ints := (a.isInt || a.kind == vBool) && (b.isInt || b.kind == vBool)
	num := func(n float64) *value {
		if ints {
			return integer(n)
		}
		return float(n)
	}
	switch op {
	case "+":
		return num(x + y)
	case "-":
		return num(x - y)
	case "*":
		return num(x * y)
	case "/":
		if y == 0 {
			return number
		}
		return float(x / y)
	case "//":
		if y == 0 {
			return number
		}
		return num(math.Floor(x / y))
	case "%":
		if y == 0 {
			return number
		}
		m := math.Mod(x, y)
		if m != 0 && (m < 0) != (y < 0) {
			m += y
		}
		return num(m)
	case "**":
		p := math.Pow(x, y)
		if math.IsNaN(p) || math.IsInf(p, 0) {
			return number
		}
		if ints && y < 0 {
			return float(p)
		}
		return num(p)
	}
	if !ints || math.Abs(x) > 1<<53 || math.Abs(y) > 1<<53 {
		return number
	}
	i, j := int64(x), int64(y)
	switch op {
	case "<<":
		if j < 0 || j > 53 {
			return number
		}
		return integer(x * math.Pow(2, y))
	case ">>":
		if j < 0 {
			return number
		}
		return integer(float64(i >> min(uint64(j), 63)))
	case "|":
		return integer(float64(i | j))
	case "&":
		return integer(float64(i & j))
	case "^":
		return integer(float64(i ^ j))
	}
	return number
}
