package pyflow

import "github.com/dewar-security/dewar/internal/pysyntax"

var binaryOps = [...]string{
	pysyntax.OpAdd: "+", pysyntax.OpSub: "-", pysyntax.OpMul: "*", pysyntax.OpMatMul: "@", pysyntax.OpDiv: "/",
	pysyntax.OpMod: "%", pysyntax.OpPow: "**", pysyntax.OpLShift: "<<", pysyntax.OpRShift: ">>", pysyntax.OpOr: "|",
	pysyntax.OpXor: "^", pysyntax.OpAnd: "&", pysyntax.OpFloorDiv: "//",
}

var compareOps = [...]string{
	pysyntax.CmpEq: "==", pysyntax.CmpNe: "!=", pysyntax.CmpLt: "<", pysyntax.CmpLe: "<=", pysyntax.CmpGt: ">",
	pysyntax.CmpGe: ">=", pysyntax.CmpIs: "is", pysyntax.CmpIsNot: "is not", pysyntax.CmpIn: "in", pysyntax.CmpNotIn: "not in",
}

var binaryMethods = map[string][2]string{
	"+": {"__add__", "__radd__"}, "-": {"__sub__", "__rsub__"}, "*": {"__mul__", "__rmul__"}, "/": {"__truediv__", "__rtruediv__"},
	"%": {"__mod__", "__rmod__"}, "|": {"__or__", "__ror__"}, "&": {"__and__", "__rand__"},
}

// operate is a op b.
func (it *interp) operate(st *state, op uint8, a, b *value) *value {
	if int(op) >= len(binaryOps) {
		return unknown
	}
	o := binaryOps[op]
	if names, ok := binaryMethods[o]; ok {
		for i, v := range [2]*value{a, b} {
			if v.kind != vObj {
				continue
			}
			obj := it.get(st, v.obj)
			if obj == nil || obj.kind != oInstance {
				continue
			}
			if obj.cls != nil {
				if m := obj.cls.lookup(it, st, names[i]); m != nil {
					other := b
					if i == 1 {
						other = a
					}
					return it.call(st, it.bindMethod(st, m, v), &call{args: []*value{other}})
				}
			}
		}
	}
	if raises(o, a, b) {
		it.throw(st)
		return unknown
	}
	return it.binary(st, o, a, b)
}

// raises reports whether a op b is certainly an error: a division by zero, a
// text and a number put together.
func raises(op string, a, b *value) bool {
	if a.kind == vUnion || b.kind == vUnion {
		for _, x := range a.alts() {
			for _, y := range b.alts() {
				if !raises(op, x, y) {
					return false
				}
			}
		}
		return true
	}
	isNum := func(v *value) bool { return v.kind == vNum || v.kind == vBool }
	switch op {
	case "/", "//", "%":
		return isNum(a) && isNum(b) && b.num == 0
	case "+":
		other := func(v *value) bool {
			return isNum(v) || v.kind == vNumber || v.kind == vBoolean || v.kind == vTuple && v.str == ""
		}
		return a.kind == vText && other(b) || other(a) && b.kind == vText || a.kind == vNone && b.kind == vNone
	}
	return false
}

// augmented is a op= b, which changes lists in place.
func (it *interp) augmented(st *state, op uint8, a, b *value) *value {
	if a.kind == vObj {
		o := it.get(st, a.obj)
		if o != nil && op == pysyntax.OpAdd && o.kind == oList {
			if m := containerMethods[oList]["extend"]; m != nil {
				m(it, st, a, &call{args: []*value{b}})
				return a
			}
		}
		if o != nil && op == pysyntax.OpOr && (o.kind == oDict || o.kind == oSet) {
			if m := containerMethods[o.kind]["update"]; m != nil {
				m(it, st, a, &call{args: []*value{b}})
				return a
			}
		}
	}
	return it.operate(st, op, a, b)
}

// unary is op v.
func (it *interp) unary(st *state, op uint8, v *value) *value {
	return over(v, func(v *value) *value {
		switch v.kind {
		case vNum, vBool:
			switch op {
			case pysyntax.UnaryMinus:
				if v.isInt || v.kind == vBool {
					return integer(-v.num)
				}
				return float(-v.num)
			case pysyntax.UnaryPlus:
				return v
			case pysyntax.UnaryInvert:
				return integer(-v.num - 1)
			}
		case vNumber, vBoolean:
			return numeric(v.labels)
		}
		return opaque(it.labelsOf(st, v))
	})
}

// compareOp is a op b.
func (it *interp) compareOp(st *state, op uint8, a, b *value) *value {
	switch op {
	case pysyntax.CmpIn, pysyntax.CmpNotIn:
		if b.kind == vObj {
			if o := it.get(st, b.obj); o != nil && o.kind == oInstance && o.cls != nil {
				if m := o.cls.lookup(it, st, "__contains__"); m != nil {
					r := it.call(st, it.bindMethod(st, m, b), &call{args: []*value{a}})
					if op == pysyntax.CmpNotIn && !st.dead {
						switch it.truth(st, r) {
						case 0:
							return vTrue
						case 1:
							return vFalse
						}
						if r.sym != nil {
							return test(r.sym.no, r.sym.yes)
						}
						return boolean
					}
					return r
				}
			}
		}
	case pysyntax.CmpEq, pysyntax.CmpNe:
		// Members of an Enum.
		if a.kind == vTuple && a.str == "enum" && b.kind == vTuple && b.str == "enum" {
			return boolOf(same(a, b) == (op == pysyntax.CmpEq))
		}
	}
	if int(op) >= len(compareOps) {
		return boolean
	}
	return it.compare(st, compareOps[op], a, b)
}
