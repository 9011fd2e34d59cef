package pyflow

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// keyOf is the key under which a dictionary keeps a constant; equal values of
// Python have equal keys.
func keyOf(v *value) (string, bool) {
	switch v.kind {
	case vText:
		if v.text == nil {
			if v.isBytes {
				return "b:" + v.str, true
			}
			return "s:" + v.str, true
		}
	case vNum, vBool:
		return "n:" + strconv.FormatFloat(v.num, 'g', -1, 64), true
	case vNone:
		return "0:", true
	case vTuple:
		if v.str == "enum" {
			return "e:" + v.cls.path() + ":" + v.elems[0].str, true
		}
		var b strings.Builder
		b.WriteString("t:")
		for _, e := range v.elems {
			k, ok := keyOf(e)
			if !ok {
				return "", false
			}
			b.WriteString(strconv.Itoa(len(k)))
			b.WriteByte(':')
			b.WriteString(k)
		}
		return b.String(), true
	case vClass:
		return "c:" + v.cls.path(), true
	case vLib:
		return "l:" + v.str, true
	}
	return "", false
}

// keyValue is the value that a key stands for.
func keyValue(key string) *value {
	if len(key) < 2 {
		return unknown
	}
	rest := key[2:]
	switch key[0] {
	case 's':
		return text(rest)
	case 'b':
		return &value{kind: vText, str: rest, isBytes: true}
	case 'n':
		n, _ := strconv.ParseFloat(rest, 64)
		if n == math.Trunc(n) {
			return integer(n)
		}
		return float(n)
	case '0':
		return none
	case 't':
		var elems []*value
		for rest != "" {
			i := strings.IndexByte(rest, ':')
			if i < 0 {
				return unknown
			}
			n, err := strconv.Atoi(rest[:i])
			if err != nil || i+1+n > len(rest) {
				return unknown
			}
			elems = append(elems, keyValue(rest[i+1:i+1+n]))
			rest = rest[i+1+n:]
		}
		return &value{kind: vTuple, elems: elems}
	case 'l':
		return lib(rest)
	}
	return unknown
}

// index resolves a constant index against a length.
func index(k *value, n int) (int, bool) {
	if k.kind != vNum && k.kind != vBool || k.num != math.Trunc(k.num) {
		return 0, false
	}
	i := int(k.num)
	if i < 0 {
		i += n
	}
	return i, i >= 0 && i < n
}

// sliceBounds resolves the bounds of a slice with a positive or negative
// constant step against a length; ok is false when one is not known.
func sliceBounds(s *value, n int) (idx []int, ok bool) {
	if len(s.elems) != 3 {
		return nil, false
	}
	get := func(v *value) (float64, bool, bool) {
		switch v.kind {
		case vNone:
			return 0, false, true
		case vNum, vBool:
			return v.num, true, true
		}
		return 0, false, false
	}
	lo, hasLo, ok1 := get(s.elems[0])
	hi, hasHi, ok2 := get(s.elems[1])
	step, hasStep, ok3 := get(s.elems[2])
	if !ok1 || !ok2 || !ok3 {
		return nil, false
	}
	if !hasStep {
		step = 1
	}
	if step == 0 {
		return nil, false
	}
	fn := float64(n)
	clamp := func(x, min, max float64) float64 {
		if x < 0 {
			x += fn
		}
		return math.Max(min, math.Min(max, x))
	}
	if step > 0 {
		a, b := 0.0, fn
		if hasLo {
			a = clamp(lo, 0, fn)
		}
		if hasHi {
			b = clamp(hi, 0, fn)
		}
		for i := a; i < b; i += step {
			idx = append(idx, int(i))
		}
		return idx, true
	}
	a, b := fn-1, -1.0
	if hasLo {
		a = clamp(lo, -1, fn-1)
	}
	if hasHi {
		b = clamp(hi, -1, fn-1)
	}
	for i := a; i > b; i += step {
		idx = append(idx, int(i))
	}
	return idx, true
}

// item is c[k] for lists, tuples, dictionaries, texts and ranges.
func (it *interp) item(st *state, c, k *value) *value {
	if k.kind == vUnion {
		return over(k, func(k *value) *value { return it.item(st, c, k) })
	}
	switch c.kind {
	case vUnion:
		return over(c, func(c *value) *value { return it.item(st, c, k) })
	case vTuple:
		elems := c.elems
		if k.kind == vInst && k.str == "builtins.slice" {
			if idx, ok := sliceBounds(k, len(elems)); ok {
				out := &value{kind: vTuple}
				for _, i := range idx {
					out.elems = append(out.elems, elems[i])
				}
				return out
			}
			return it.list(st, oList, nil, unknownOr(joinAll(elems)))
		}
		i, ok := index(k, len(elems))
		switch {
		case ok:
			return elems[i]
		case k.kind == vNum && c.str == "":
			return unknown // IndexError
		}
		return unknownOr(joinAll(elems))
	case vText:
		if k.kind == vInst && k.str == "builtins.slice" {
			return it.sliceText(st, c, k.elems[0], k.elems[1], k.elems[2])
		}
		return it.indexText(st, c, k)
	case vObj:
		o := it.get(st, c.obj)
		if o == nil {
			return unknown
		}
		switch o.kind {
		case oList, oSet:
			if o.kind == oList && o.rest == nil && !o.summary && k.kind == vNum && c.obj > it.baseTop && !it.loading {
				if _, ok := index(k, len(o.elems)); !ok {
					return unknown // IndexError
				}
			}
			return it.listItem(st, o, k)
		case oDict:
			if key, ok := keyOf(k); ok {
				v, missing := bound(o.get(key))
				if missing && o.rest != nil {
					v = join(v, it.nth(o.rest, key))
				}
				if missing && o.factory != nil {
					d := it.call(st, o.factory, &call{})
					if st.dead {
						st.dead = false
						return unknown
					}
					v = join(v, d)
					it.write(st, c.obj).set(key, v)
				}
				return unknownOr(v)
			}
			v := o.all()
			if o.factory != nil {
				d := it.call(st, o.factory, &call{})
				if st.dead {
					st.dead = false
					return unknown
				}
				v = join(v, d)
				w := it.write(st, c.obj)
				w.rest = join(w.rest, d)
			}
			v, _ = bound(v)
			return unknownOr(v)
		}
	case vInst:
		if c.str == "builtins.range" {
			items, exact := it.rangeItems(c)
			if i, ok := index(k, len(items)); ok && exact {
				return items[i]
			}
			return number
		}
	}
	return opaque(it.labelsOf(st, c))
}

func (it *interp) listItem(st *state, o *object, k *value) *value {
	if k.kind == vInst && k.str == "builtins.slice" {
		if o.rest == nil {
			if idx, ok := sliceBounds(k, len(o.elems)); ok {
				var out []*value
				for _, i := range idx {
					out = append(out, o.elems[i])
				}
				return it.list(st, oList, out, nil)
			}
		}
		return it.list(st, oList, nil, unknownOr(o.all()))
	}
	if o.rest == nil {
		if i, ok := index(k, len(o.elems)); ok {
			v, _ := bound(o.elems[i])
			return unknownOr(v)
		}
	} else if k.kind == vNum && k.num >= 0 && int(k.num) < len(o.elems) {
		v, _ := bound(o.elems[int(k.num)])
		return unknownOr(v)
	}
	v, _ := bound(o.all())
	v = unknownOr(v)
	if key, ok := keyOf(k); ok && o.rest != nil {
		v = it.nth(v, key)
	}
	return v
}

// keyLabels are the labels that a key leaves in its dictionary. A number is as
// harmless there as its digits are in a text.
func (it *interp) keyLabels(st *state, k *value) []label {
	labels := it.labelsOf(st, k)
	c, _, _ := charsOf(k)
	if k.kind == vNumber || k.kind == vText && c.And(digits) == c {
		labels = slices.Clone(labels)
		for i := range labels {
			labels[i].clean = allTags
		}
	}
	return labels
}

// setItem is c[k] = v on the heap.
func (it *interp) setItem(st *state, c, k, v *value) {
	if c.kind != vObj {
		return
	}
	o := it.write(st, c.obj)
	switch o.kind {
	case oDict:
		if key, ok := keyOf(k); ok {
			o.set(key, v)
			return
		}
		if k.kind == vUnion {
			all := true
			for _, a := range k.elems {
				_, ok := keyOf(a)
				all = all && ok
			}
			if all {
				for _, a := range k.elems {
					key, _ := keyOf(a)
					old := o.get(key)
					if old == nil {
						old = unbound
					}
					o.set(key, join(old, v))
				}
				return
			}
		}
		o.rest = join(o.rest, v)
		o.restKeys = addLabels(o.restKeys, it.keyLabels(st, k))
	case oList:
		if k.kind == vInst && k.str == "builtins.slice" {
			items, exact := it.iterate(st, v)
			o = it.write(st, c.obj)
			idx, ok := sliceBounds(k, len(o.elems))
			full := len(k.elems) == 3 && k.elems[0].kind == vNone && k.elems[1].kind == vNone
			if exact && ok && full && o.rest == nil && k.elems[2].kind == vNone {
				o.elems = slices.Clone(items)
				return
			}
			_ = idx
			o.smash()
			o.rest = join(o.rest, joinAll(items))
			return
		}
		if i, ok := index(k, len(o.elems)); ok && (o.rest == nil || k.num >= 0) {
			if o.summary {
				v = join(o.elems[i], v)
			}
			o.elems[i] = v
			return
		}
		for i := range o.elems {
			o.elems[i] = join(o.elems[i], v)
		}
		if o.rest != nil {
			o.rest = join(o.rest, v)
		}
	default:
		o.rest = join(o.rest, v)
	}
}

// delItem is del c[k].
func (it *interp) delItem(st *state, c, k *value) {
	if c.kind != vObj {
		return
	}
	o := it.write(st, c.obj)
	switch o.kind {
	case oDict:
		if key, ok := keyOf(k); ok {
			o.del(key)
		}
	case oList:
		if i, ok := index(k, len(o.elems)); ok && o.rest == nil {
			o.elems = slices.Delete(o.elems, i, i+1)
			return
		}
		o.smash()
	}
}

// sliceText is v[lo:hi:step].
func (it *interp) sliceText(st *state, v, lo, hi, step *value) *value {
	s := &value{kind: vInst, str: "builtins.slice", elems: []*value{lo, hi, step}}
	if v.isConstText() {
		rs := []rune(v.str)
		if v.isBytes {
			rs = make([]rune, len(v.str))
			for i := range len(v.str) {
				rs[i] = rune(v.str[i])
			}
		}
		idx, ok := sliceBounds(s, len(rs))
		if !ok {
			return run(CharsOf(v.str), addLabels(shallowLabels(lo), shallowLabels(hi)))
		}
		var b strings.Builder
		for _, i := range idx {
			if v.isBytes {
				b.WriteByte(byte(rs[i]))
			} else {
				b.WriteRune(rs[i])
			}
		}
		return likeText(v, text(b.String()))
	}
	ps := v.text
	known := func(x *value, none float64) (float64, bool) {
		if x.kind == vNone {
			return none, true
		}
		return x.num, x.kind == vNum
	}
	l, ok1 := known(lo, 0)
	h, ok2 := known(hi, math.Inf(1))
	stp, ok3 := known(step, 1)
	if ok1 && ok2 && ok3 && stp == 1 {
		out := slices.Clone(ps)
		// Take l characters from the beginning, as far as it is literal.
		okay := true
		pos := 0.0
		if l > 0 {
			for l > 0 && len(out) > 0 && out[0].sym == nil {
				rs := []rune(out[0].lit)
				n := math.Min(l, float64(len(rs)))
				out[0].lit = string(rs[int(n):])
				l -= n
				pos += n
				if out[0].lit == "" {
					out = out[1:]
				}
			}
			if l > 0 {
				okay = false
			}
		} else if l < 0 {
			okay = false
			// The last characters, when the end is literal.
			if n := len(out); n > 0 && out[n-1].sym == nil && math.IsInf(h, 1) {
				if rs := []rune(out[n-1].lit); float64(len(rs)) >= -l {
					return likeText(v, text(string(rs[len(rs)+int(l):])))
				}
			}
		}
		if okay {
			switch {
			case math.IsInf(h, 1):
				return likeText(v, fromPieces(out))
			case h >= 0:
				want := h - pos
				var head []piece
				for _, p := range out {
					if want <= 0 {
						return likeText(v, fromPieces(head))
					}
					if p.sym != nil {
						okay = false
						break
					}
					rs := []rune(p.lit)
					n := math.Min(want, float64(len(rs)))
					head = append(head, piece{lit: string(rs[:int(n)])})
					want -= n
				}
				if okay || want <= 0 {
					return likeText(v, fromPieces(head))
				}
				if len(head) > 0 {
					// A known beginning, then some of what follows.
					c, labels, clean := charsOf(fromPieces(out[len(head):]))
					return likeText(v, fromPieces(append(head, piece{sym: &sym{}, chars: c, labels: labels, clean: clean &^ cleanUnlabelled(labels)})))
				}
			default:
				n := -h
				for n > 0 && len(out) > 0 && out[len(out)-1].sym == nil {
					last := &out[len(out)-1]
					rs := []rune(last.lit)
					k := math.Min(n, float64(len(rs)))
					last.lit = string(rs[:len(rs)-int(k)])
					n -= k
					if last.lit == "" {
						out = out[:len(out)-1]
					}
				}
				if n == 0 {
					return likeText(v, fromPieces(out))
				}
			}
		}
	}
	arg := "?"
	if ok1 && ok2 && ok3 {
		arg = sliceArg(lo) + ":" + sliceArg(hi) + ":" + sliceArg(step)
	}
	return it.part(v, "slice", arg)
}

func sliceArg(v *value) string {
	if v.kind == vNum {
		return numText(v)
	}
	return ""
}

// likeText gives t the kind of text that v is.
func likeText(v, t *value) *value {
	if v.isBytes == t.isBytes {
		return t
	}
	c := *t
	c.isBytes = v.isBytes
	return &c
}

// part is some part of a text: its characters are among those of v.
func (it *interp) part(v *value, op, arg string) *value {
	if v.kind == vText && len(v.text) == 1 && v.text[0].sym != nil {
		p := v.text[0]
		p.sym = it.derive(op, arg, p.sym)
		return &value{kind: vText, text: []piece{p}, isBytes: v.isBytes}
	}
	c, labels, clean := charsOf(v)
	p := piece{sym: it.derive(op, arg, symsOf(v)...), chars: c, labels: labels, clean: clean &^ cleanUnlabelled(labels)}
	return &value{kind: vText, text: []piece{p}, isBytes: v.isBytes}
}

// indexText is v[i].
// placeIn returns the text in which a number is a place, as in a loop over
// range(len(text)); nil for other numbers.
func placeIn(i *value) *sym {
	if i.kind == vNumber && i.sym != nil && i.sym.op == "place" {
		return i.sym.bases[0]
	}
	return nil
}

func (it *interp) indexText(st *state, v, i *value) *value {
	if v.isBytes {
		if v.text == nil {
			if n, ok := index(i, len(v.str)); ok {
				return integer(float64(v.str[n]))
			}
		}
		return numeric(shallowLabels(v))
	}
	if v.text == nil {
		rs := []rune(v.str)
		if n, ok := index(i, len(rs)); ok {
			return text(string(rs[n]))
		}
		if i.kind == vNum || len(rs) == 0 {
			return unknown // IndexError
		}
		if len(rs) <= maxConsts {
			var out *value
			for _, r := range rs {
				out = join(out, text(string(r)))
			}
			return out
		}
		return run(CharsOf(v.str), nil)
	}
	if i.kind == vNum && i.num >= 0 && len(v.text) > 0 && v.text[0].sym == nil {
		if rs := []rune(v.text[0].lit); int(i.num) < len(rs) {
			return text(string(rs[int(i.num)]))
		}
	}
	if i.kind == vNum && i.num < 0 && len(v.text) > 0 {
		if p := v.text[len(v.text)-1]; p.sym == nil {
			if rs := []rune(p.lit); int(-i.num) <= len(rs) {
				return text(string(rs[len(rs)+int(i.num)]))
			}
		}
	}
	if s := placeIn(i); s != nil && len(v.text) == 1 && v.text[0].sym == s {
		return it.charOf(v)
	}
	arg := "?"
	if i.kind == vNum {
		arg = numText(i)
	}
	return it.part(v, "index", arg)
}
