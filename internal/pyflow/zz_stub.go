package pyflow

func keyOf(v *value) (string, bool) {
	if v.isConstText() {
		return "s:" + v.str, true
	}
	if v.kind == vNum {
		return "i:" + numText(v), true
	}
	return "", false
}
func keyValue(k string) *value { return text(k[2:]) }
func (it *interp) item(st *state, c, k *value) *value {
	if c.kind == vObj {
		if o := st.heap.get(c.obj); o != nil {
			if key, ok := keyOf(k); ok && o.kind == oDict {
				if v, _ := bound(o.get(key)); v != nil {
					return v
				}
				return unknownOr(o.rest)
			}
			return unknownOr(o.all())
		}
	}
	return opaque(it.labelsOf(st, c))
}
func (it *interp) setItem(st *state, c, k, v *value) {
	if key, ok := keyOf(k); ok {
		it.write(st, c.obj).set(key, v)
		return
	}
	o := it.write(st, c.obj)
	o.rest = join(o.rest, v)
}
func (it *interp) delItem(st *state, c, k *value) {}
func (it *interp) binary(st *state, op string, a, b *value) *value {
	if op == "+" && (a.kind == vText || b.kind == vText) {
		return over2(a, b, func(a, b *value) *value { return it.concat(st, a, b) })
	}
	return opaque(addLabels(it.labelsOf(st, a), it.labelsOf(st, b)))
}
func (it *interp) compare(st *state, op string, a, b *value) *value { return boolean }
func (it *interp) formatSpec(st *state, v *value, conv byte, spec string) *value {
	return run(AnyChars, it.labelsOf(st, v))
}

var containerMethods = map[okind]map[string]native{}
var tupleMethods = map[string]native{}

func libConst(path string) *value                                   { return nil }
func (it *interp) pathText(st *state, v *value) *value              { return nil }
func (it *interp) pathAttr(st *state, v *value, name string) *value { return nil }
func (it *interp) urlAttr(st *state, v *value, name string) *value  { return nil }
func regexChars(s string) (Chars, bool)                             { return AnyChars, false }
