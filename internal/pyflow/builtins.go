package pyflow

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

func init() {
	for name, f := range map[string]native{
		"len": biLen, "int": biInt, "float": biFloat, "bool": biBool, "ord": biOrd, "chr": biChr, "hex": biHex, "oct": biHex, "bin": biHex,
		"str": biStr, "unicode": biStr, "bytes": biBytes, "bytearray": biBytes, "repr": biRepr, "ascii": biRepr,
		"abs": biAbs, "round": biRound, "sum": biSum, "divmod": biNumber, "pow": biNumber, "hash": biNumber, "id": biNumber,
		"min": biPick, "max": biPick, "sorted": biSorted, "reversed": biReversed, "enumerate": biEnumerate, "zip": biZip,
		"map": biMap, "filter": biFilter, "any": biAny, "all": biAll, "range": biRange, "xrange": biRange,
		"list": biCollect(oList), "set": biCollect(oSet), "frozenset": biCollect(oSet), "tuple": biTuple, "dict": biDict,
		"iter": biIter, "next": biNext, "callable": biCallable, "print": biNothing, "format": biFormat, "slice": biSlice,
	} {
		natives["builtins."+name] = f
	}
	for name, f := range map[string]native{
		"collections.OrderedDict": biDict, "collections.defaultdict": biDefaultDict,
		"copy.copy": biCopy, "copy.deepcopy": biCopy,
		"itertools.chain": biChain, "itertools.chain.from_iterable": biChainFrom,
		"itertools.islice": biSame, "itertools.cycle": biSame, "itertools.takewhile": biTakewhile, "itertools.dropwhile": biSecond,
		"itertools.repeat": biRepeat, "functools.reduce": biReduce,
		"_dewar.own": biOwn, "_dewar.later": biLater,
	} {
		natives[name] = f
	}
}

func biNothing(it *interp, st *state, self *value, c *call) *value { return none }

func first(c *call) *value { return c.arg(0, "") }

func biLen(it *interp, st *state, self *value, c *call) *value {
	v := first(c)
	if v == nil {
		return number
	}
	return over(v, func(v *value) *value {
		switch v.kind {
		case vText:
			if v.text == nil {
				if v.isBytes {
					return integer(float64(len(v.str)))
				}
				return integer(float64(len([]rune(v.str))))
			}
			if len(v.text) == 1 {
				return &value{kind: vNumber, sym: it.derive("len", "", v.text[0].sym)}
			}
		case vUnknown:
			if v.sym != nil && len(v.labels) > 0 {
				return &value{kind: vNumber, sym: it.derive("len", "", v.sym)}
			}
		case vTuple:
			if v.str == "" {
				return integer(float64(len(v.elems)))
			}
		case vObj:
			if o := it.get(st, v.obj); o != nil {
				if o.kind == oInstance {
					if o.cls != nil {
						if m := o.cls.lookup(it, st, "__len__"); m != nil {
							return it.call(st, it.bindMethod(st, m, v), &call{})
						}
					}
				} else if o.rest == nil && !o.summary {
					n := len(o.elems)
					for _, k := range o.keys {
						if _, missing := bound(o.m[k]); missing {
							return number
						}
						n++
					}
					return integer(float64(n))
				}
			}
		}
		return number
	})
}

func biInt(it *interp, st *state, self *value, c *call) *value {
	v := first(c)
	if v == nil {
		return integer(0)
	}
	base := 10
	if b := c.arg(1, "base"); b != nil {
		if b.kind != vNum {
			return numeric(it.labelsOf(st, v))
		}
		base = int(b.num)
	}
	return over(v, func(v *value) *value {
		switch v.kind {
		case vNum, vBool:
			return integer(math.Trunc(v.num))
		case vNumber:
			return v
		case vBoolean:
			return number
		case vText:
			if v.isConstText() {
				s := strings.ReplaceAll(strings.TrimSpace(v.str), "_", "")
				if base == 16 {
					s = strings.TrimPrefix(strings.ToLower(s), "0x")
				}
				if base < 2 || base > 36 {
					return number
				}
				n, err := strconv.ParseInt(s, base, 54)
				if err != nil {
					return number
				}
				return integer(float64(n))
			}
		}
		if base == 10 && (v.kind == vText || v.kind == vUnknown) {
			// It returned, so this is what the text is made of.
			it.restrict(st, v, AnyChars.And(numberText))
			it.typed(v, "int")
		}
		n := numeric(it.labelsOf(st, v))
		if n.sym != nil && v.sym != nil {
			n.sym = it.derive("int", "", v.sym)
		}
		return n
	})
}

// numberText are the characters that int() takes: digits of any script, signs
// and underscores. It takes white space before and behind them, too, which is
// left out: with a number beside it that says nothing a client could choose,
// and code that tests a text by int() is common.
var numberText = func() Chars {
	c := CharRange("0-9+_-")
	c.other = true
	return c
}()

func biFloat(it *interp, st *state, self *value, c *call) *value {
	v := first(c)
	if v == nil {
		return float(0)
	}
	return over(v, func(v *value) *value {
		switch {
		case v.kind == vNum || v.kind == vBool:
			return float(v.num)
		case v.isConstText():
			if f, err := strconv.ParseFloat(strings.TrimSpace(v.str), 64); err == nil {
				return float(f)
			}
			return number
		case v.kind == vText || v.kind == vUnknown:
			c := numberText.Or(CharRange("a-zA-Z."))
			it.restrict(st, v, c)
			it.typed(v, "float")
		}
		return numeric(it.labelsOf(st, v))
	})
}

func biBool(it *interp, st *state, self *value, c *call) *value {
	v := first(c)
	if v == nil {
		return vFalse
	}
	if t := it.truth(st, v); t >= 0 {
		return boolOf(t == 1)
	}
	if v.sym != nil && (v.sym.yes != nil || v.sym.no != nil) {
		return test(v.sym.yes, v.sym.no)
	}
	return boolean
}

func biOrd(it *interp, st *state, self *value, c *call) *value {
	v := first(c)
	if v == nil {
		return number
	}
	return over(v, func(v *value) *value {
		if v.isConstText() {
			rs := []rune(v.str)
			if len(rs) == 1 {
				return integer(float64(rs[0]))
			}
			return number
		}
		n := numeric(it.labelsOf(st, v))
		if s := symsOf(v); len(s) == 1 {
			n = &value{kind: vNumber, labels: n.labels, sym: it.derive("ord", "", s[0])}
		}
		return n
	})
}

func biChr(it *interp, st *state, self *value, c *call) *value {
	v := first(c)
	if v == nil {
		return unknown
	}
	return over(v, func(v *value) *value {
		if v.kind == vNum && v.num >= 0 && v.num <= 0x10ffff {
			return text(string(rune(v.num)))
		}
		return run(AnyChars, it.labelsOf(st, v))
	})
}

func biHex(it *interp, st *state, self *value, c *call) *value {
	return run(hexChars, c.labels(it, st))
}

func biStr(it *interp, st *state, self *value, c *call) *value {
	v := first(c)
	if v == nil {
		return empty
	}
	if len(c.args) > 1 || c.keyword("encoding") != nil {
		return over(v, func(v *value) *value {
			t := *fromPieces(it.pieces(st, v))
			t.isBytes = false
			return &t
		})
	}
	return over(v, func(v *value) *value { return it.str(st, v) })
}

func biBytes(it *interp, st *state, self *value, c *call) *value {
	v := first(c)
	if v == nil {
		return &value{kind: vText, isBytes: true}
	}
	return over(v, func(v *value) *value {
		if v.kind == vText || v.kind == vUnknown {
			t := *fromPieces(it.pieces(st, v))
			t.isBytes = true
			return &t
		}
		t := *run(AnyChars, it.labelsOf(st, v))
		t.isBytes = true
		return &t
	})
}

func biRepr(it *interp, st *state, self *value, c *call) *value {
	v := first(c)
	if v == nil {
		return nil
	}
	return it.formatSpec(st, v, 'r', "")
}

func biNumber(it *interp, st *state, self *value, c *call) *value { return numeric(c.labels(it, st)) }

func biAbs(it *interp, st *state, self *value, c *call) *value {
	if v := first(c); v != nil && v.kind == vNum {
		if v.isInt {
			return integer(math.Abs(v.num))
		}
		return float(math.Abs(v.num))
	}
	return numeric(c.labels(it, st))
}

func biRound(it *interp, st *state, self *value, c *call) *value {
	if v := first(c); len(c.args) == 1 && v.kind == vNum {
		return integer(math.RoundToEven(v.num))
	}
	return numeric(c.labels(it, st))
}

func biSum(it *interp, st *state, self *value, c *call) *value {
	items, exact := it.iterate(st, unknownOr(first(c)))
	if exact {
		acc := integer(0)
		if s := c.arg(1, "start"); s != nil {
			acc = s
		}
		for _, v := range items {
			acc = it.binary(st, "+", acc, v)
		}
		return acc
	}
	return numeric(c.labels(it, st))
}

func biPick(it *interp, st *state, self *value, c *call) *value {
	items := c.args
	if len(items) == 1 {
		items, _ = it.iterate(st, items[0])
	}
	if d := c.keyword("default"); d != nil {
		items = append(slices.Clone(items), d)
	}
	return unknownOr(joinAll(items))
}

func biSorted(it *interp, st *state, self *value, c *call) *value {
	items, exact := it.iterate(st, unknownOr(first(c)))
	if exact {
		list := slices.Clone(items)
		if len(list) <= 1 || sortConsts(list, &call{args: c.args[min(1, len(c.args)):], kw: c.kw}) {
			return it.list(st, oList, list, nil)
		}
	}
	return it.list(st, oList, nil, unknownOr(joinAll(items)))
}

func biReversed(it *interp, st *state, self *value, c *call) *value {
	items, exact := it.iterate(st, unknownOr(first(c)))
	if exact {
		list := slices.Clone(items)
		slices.Reverse(list)
		return it.list(st, oList, list, nil)
	}
	return it.list(st, oList, nil, unknownOr(joinAll(items)))
}

func biEnumerate(it *interp, st *state, self *value, c *call) *value {
	items, exact := it.iterate(st, unknownOr(first(c)))
	start := 0.0
	if s := c.arg(1, "start"); s != nil && s.kind == vNum {
		start = s.num
	}
	if exact {
		var out []*value
		for i, v := range items {
			out = append(out, &value{kind: vTuple, elems: []*value{integer(start + float64(i)), v}})
		}
		return it.list(st, oList, out, nil)
	}
	return it.list(st, oList, nil, &value{kind: vTuple, elems: []*value{number, unknownOr(joinAll(items))}})
}

func biZip(it *interp, st *state, self *value, c *call) *value {
	if c.rest != nil {
		return nil
	}
	n, all := math.MaxInt, true
	var cols [][]*value
	for _, a := range c.args {
		items, exact := it.iterate(st, a)
		all = all && exact
		n = min(n, len(items))
		cols = append(cols, items)
	}
	if len(cols) == 0 {
		return it.list(st, oList, nil, nil)
	}
	if all {
		var out []*value
		for i := range n {
			t := &value{kind: vTuple}
			for _, col := range cols {
				t.elems = append(t.elems, col[i])
			}
			out = append(out, t)
		}
		return it.list(st, oList, out, nil)
	}
	t := &value{kind: vTuple}
	for _, col := range cols {
		t.elems = append(t.elems, unknownOr(joinAll(col)))
	}
	return it.list(st, oList, nil, t)
}

func biMap(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) < 2 {
		return nil
	}
	cols, exact := [][]*value{}, true
	n := math.MaxInt
	for _, a := range c.args[1:] {
		items, ok := it.iterate(st, a)
		if !ok {
			items = []*value{unknownOr(joinAll(items))}
		}
		exact = exact && ok
		n = min(n, len(items))
		cols = append(cols, items)
	}
	var out []*value
	for i := range n {
		cc := &call{at: c.at}
		for _, col := range cols {
			cc.args = append(cc.args, col[i])
		}
		s := st.fork()
		v := it.call(s, c.args[0], cc)
		if s.dead {
			continue
		}
		if exact && n == 1 {
			*st = *s
		} else {
			it.merge(st, s)
		}
		out = append(out, v)
	}
	if exact {
		return it.list(st, oList, out, nil)
	}
	return it.list(st, oList, nil, unknownOr(joinAll(out)))
}

func biFilter(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) < 2 {
		return nil
	}
	items, exact := it.iterate(st, c.args[1])
	var sure []*value
	var maybe *value
	for _, x := range items {
		s := st.fork()
		r := x
		if c.args[0].kind != vNone {
			r = it.call(s, c.args[0], &call{at: c.at, args: []*value{x}})
		}
		if s.dead {
			continue
		}
		t := it.truth(s, r)
		if t == 0 {
			continue
		}
		it.follow(s, r.sym, true)
		x = it.refined(s, x)
		if t == 1 && exact && maybe == nil {
			sure = append(sure, x)
		} else {
			maybe = join(maybe, x)
		}
	}
	if maybe == nil && !exact {
		maybe = unknown
	}
	return it.list(st, oList, sure, maybe)
}

// quantified is any or all: what the elements' tests say about a character
// they say about every character of the text.
func quantified(it *interp, st *state, c *call, all bool) *value {
	items, exact := it.iterate(st, unknownOr(first(c)))
	known := true
	for _, v := range items {
		switch it.truth(st, v) {
		case 1:
			if !all && exact {
				return vTrue
			}
			if all {
				continue
			}
			known = false
		case 0:
			if all && exact {
				return vFalse
			}
			if !all {
				continue
			}
			known = false
		default:
			known = false
		}
	}
	if known && exact {
		return boolOf(all)
	}
	vals := slices.Clone(items)
	learn := func(it *interp, st *state) {
		for _, v := range vals {
			if v.sym == nil {
				continue
			}
			s := st.fork()
			it.follow(s, v.sym, all)
			for _, k := range newKnowledge(s.known, st.known) {
				if k.sym.op == "char" {
					it.learnChars(st, s.known, []*sym{k.sym})
				} else if exact || len(vals) == 1 && len(k.sym.bases) == 0 {
					st.replayKnowledge([]*knowledge{k})
				}
			}
		}
	}
	if all {
		return test(learn, nil)
	}
	if !exact {
		return test(nil, learn)
	}
	return test(func(it *interp, st *state) {
		// One of them is true: what they all would say holds.
		var known *knowledge
		some := false
		for _, v := range vals {
			if it.truth(st, v) == 0 {
				continue
			}
			s := st.fork()
			it.follow(s, v.sym, true)
			if !some {
				known, some = s.known, true
			} else {
				known = it.commonKnowledge(known, s.known)
			}
		}
		if some {
			st.replayKnowledge(newKnowledge(known, st.known))
		}
	}, learn)
}

func biAny(it *interp, st *state, self *value, c *call) *value { return quantified(it, st, c, false) }
func biAll(it *interp, st *state, self *value, c *call) *value { return quantified(it, st, c, true) }

func biRange(it *interp, st *state, self *value, c *call) *value {
	return &value{kind: vInst, str: "builtins.range", elems: slices.Clone(c.args)}
}

func biCollect(kind okind) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		v := first(c)
		if v == nil {
			return it.list(st, kind, nil, nil)
		}
		items, exact := it.iterate(st, v)
		if !exact {
			return it.list(st, kind, nil, unknownOr(joinAll(items)))
		}
		if kind == oSet {
			out := it.list(st, oSet, nil, nil)
			for _, x := range items {
				it.grow(st, out, x)
			}
			return out
		}
		return it.list(st, kind, items, nil)
	}
}

func biTuple(it *interp, st *state, self *value, c *call) *value {
	v := first(c)
	if v == nil {
		return &value{kind: vTuple}
	}
	items, exact := it.iterate(st, v)
	if !exact {
		return it.list(st, oList, nil, unknownOr(joinAll(items)))
	}
	return it.tuple(st, slices.Clone(items))
}

func biDict(it *interp, st *state, self *value, c *call) *value {
	d := &value{kind: vObj, obj: it.alloc(st, &object{kind: oDict})}
	containerMethods[oDict]["update"](it, st, d, c)
	return d
}

func biDefaultDict(it *interp, st *state, self *value, c *call) *value {
	rest := &call{at: c.at, kw: c.kw, rest: c.rest}
	var factory *value
	if len(c.args) > 0 {
		factory, rest.args = c.args[0], c.args[1:]
	}
	d := biDict(it, st, nil, rest)
	if factory != nil && factory.kind != vNone {
		it.write(st, d.obj).factory = factory
	}
	return d
}

// biIter is iter(x). What an iterator of a list gives stays in the list.
func biIter(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "")
	if v != nil && v.kind == vObj {
		if o := it.get(st, v.obj); o != nil && o.kind == oList {
			return it.copyOf(st, v)
		}
	}
	return v
}

// biLater is what a model calls with a function of the project that goes on
// running beside the requests, and its arguments, when it is started with the
// program: it finds what they leave.
func biLater(it *interp, st *state, self *value, c *call) *value {
	if !it.loading || len(c.args) == 0 || len(functionsIn(c.args[0])) == 0 {
		return none
	}
	r := &registration{kind: "task", path: threadTask, at: it.at(c), fn: c.args[0]}
	if args := c.arg(1, ""); args != nil {
		if items, exact := it.iterate(st, args); exact {
			r.args = items
		}
	}
	if kw := c.arg(2, ""); kw != nil && kw.kind == vObj {
		if o := it.get(st, kw.obj); o != nil && o.kind == oDict {
			for _, k := range o.keys {
				if name := keyValue(k); name.isConstText() {
					r.kw = append(r.kw, kwarg{name.str, o.m[k]})
				}
			}
		}
	}
	it.register(st, r)
	return none
}

// threadTask is the path of what was registered by biLater.
const threadTask = "threading.Thread.start"

// biOwn tells a model whether an object was made by this run, so that nobody
// else has it.
func biOwn(it *interp, st *state, self *value, c *call) *value {
	return boolOf(len(c.args) == 1 && c.args[0].kind == vObj && c.args[0].obj > it.baseTop && !it.loading)
}

func biNext(it *interp, st *state, self *value, c *call) *value {
	v := first(c)
	if v == nil {
		return unknown
	}
	items, exact := it.iterate(st, v)
	out := joinAll(items)
	if out != nil && !exact {
		out = it.taken(out, c)
	}
	if exact && len(items) > 0 && len(c.args) == 1 && v.kind == vObj {
		// The first one, and it is used up.
		if o := it.get(st, v.obj); o != nil && o.kind == oList && o.rest == nil {
			w := it.write(st, v.obj)
			w.elems = w.elems[1:]
			return items[0]
		}
	}
	if d := c.arg(1, "default"); d != nil {
		out = join(out, d)
	}
	return unknownOr(out)
}

func biCallable(it *interp, st *state, self *value, c *call) *value {
	if v := first(c); v != nil && callable(v) {
		return vTrue
	}
	return boolean
}

func biFormat(it *interp, st *state, self *value, c *call) *value {
	v := first(c)
	if v == nil {
		return nil
	}
	spec := c.arg(1, "")
	if spec == nil {
		spec = empty
	}
	return it.formatted(st, v, 0, spec)
}

func biSlice(it *interp, st *state, self *value, c *call) *value {
	s := []*value{none, none, none}
	switch len(c.args) {
	case 1:
		s[1] = c.args[0]
	case 2, 3:
		copy(s, c.args)
	}
	return &value{kind: vInst, str: "builtins.slice", elems: s}
}

func biCopy(it *interp, st *state, self *value, c *call) *value {
	v := first(c)
	if v == nil {
		return nil
	}
	return over(v, func(v *value) *value {
		if v.kind == vObj {
			return it.copyOf(st, v)
		}
		return v
	})
}

func biSame(it *interp, st *state, self *value, c *call) *value {
	if v := first(c); v != nil {
		items, _ := it.iterate(st, v)
		return it.list(st, oList, nil, unknownOr(joinAll(items)))
	}
	return nil
}

// biTakewhile is what filter gives or a beginning of it.
func biTakewhile(it *interp, st *state, self *value, c *call) *value {
	v := biFilter(it, st, self, c)
	if v == nil {
		return nil
	}
	o := it.get(st, v.obj)
	return it.list(st, oList, nil, unknownOr(o.all()))
}

func biSecond(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) < 2 {
		return nil
	}
	return biSame(it, st, nil, &call{args: c.args[1:]})
}

func biChain(it *interp, st *state, self *value, c *call) *value {
	out := it.list(st, oList, nil, nil)
	for _, a := range c.args {
		it.growAll(st, out, a)
	}
	if c.rest != nil {
		items, _ := it.iterate(st, c.rest)
		it.write(st, out.obj).rest = unknownOr(joinAll(items))
	}
	return out
}

func biChainFrom(it *interp, st *state, self *value, c *call) *value {
	v := first(c)
	if v == nil {
		return nil
	}
	items, exact := it.iterate(st, v)
	out := it.list(st, oList, nil, nil)
	for _, a := range items {
		it.growAll(st, out, a)
	}
	if !exact {
		it.write(st, out.obj).smash()
	}
	return out
}

func biRepeat(it *interp, st *state, self *value, c *call) *value {
	return it.list(st, oList, nil, unknownOr(first(c)))
}

func biReduce(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) < 2 {
		return nil
	}
	items, exact := it.iterate(st, c.args[1])
	var acc *value
	if len(c.args) > 2 {
		acc = c.args[2]
	}
	rounds := 1
	if !exact {
		rounds = 3
	}
	for range rounds {
		for _, x := range items {
			if acc == nil {
				acc = x
				continue
			}
			s := st.fork()
			r := it.call(s, c.args[0], &call{at: c.at, args: []*value{acc, x}})
			if s.dead {
				continue
			}
			it.merge(st, s)
			if exact {
				acc = r
			} else {
				acc = join(acc, r)
			}
		}
	}
	return unknownOr(acc)
}
