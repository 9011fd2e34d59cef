package pyflow

import "github.com/dewar-security/dewar/internal/pysyntax"

func (it *interp) execMatch(st *state, id pysyntax.ID) {
	f := it.fr.f
	subject, cases := f.Match(id)
	v := it.eval(st, subject)
	if st.dead {
		return
	}
	name := ""
	if f.Kind(subject) == pysyntax.Name {
		name = f.Name(subject)
	}
	var end *state
	cur := st.fork()
	for _, c := range cases {
		if cur.dead {
			break
		}
		pat, guard, body := f.MatchCase(c)
		var yes, no *state
		if name != "" && v.kind == vUnion {
			v = it.refined(cur, it.name(cur, name))
		}
		if name != "" && v.kind == vUnion && len(v.elems) <= maxEach && it.rawName(cur, name) != nil {
			yes, no = it.each(cur, name, v, func(s *state, a *value) (*state, *state) { return it.matchPattern(s, pat, a) })
		} else {
			yes, no = it.matchPattern(cur, pat, v)
		}
		if guard != 0 && !yes.dead {
			g, ng := it.cond(yes, guard)
			yes, no = g, it.joinDead(no, ng)
		}
		it.execAll(yes, body)
		if !yes.dead {
			end = it.joinDead(end, yes)
		}
		cur = no
	}
	if cur != nil && !cur.dead {
		end = it.joinDead(end, cur)
	}
	if end == nil {
		st.dead = true
		return
	}
	*st = *end
}

// matchPattern returns the states in which v matches and in which it does
// not. st is used up.
func (it *interp) matchPattern(st *state, pat pysyntax.ID, v *value) (yes, no *state) {
	f := it.fr.f
	decided := func(r *value) (*state, *state) {
		switch it.truth(st, r) {
		case 1:
			return st, deadFrom(st)
		case 0:
			return deadFrom(st), st
		}
		n := st.fork()
		it.follow(st, r.sym, true)
		it.follow(n, r.sym, false)
		return st, n
	}
	switch f.Kind(pat) {
	case pysyntax.MatchValue:
		return decided(it.compareOp(st, pysyntax.CmpEq, v, it.eval(st, f.Value(pat))))
	case pysyntax.MatchSingleton:
		return decided(it.compareOp(st, pysyntax.CmpIs, v, it.eval(st, f.Value(pat))))
	case pysyntax.MatchAs:
		sub, name := f.MatchAs(pat)
		if sub == 0 {
			if name != "" {
				it.bindName(st, name, v)
			}
			return st, deadFrom(st)
		}
		yes, no = it.matchPattern(st, sub, v)
		if name != "" && !yes.dead {
			it.bindName(yes, name, v)
		}
		return yes, no
	case pysyntax.MatchOr:
		var consts *value
		cur := st
		for _, p := range f.Patterns(pat) {
			if f.Kind(p) == pysyntax.MatchValue {
				consts = join(consts, it.eval(cur, f.Value(p)))
			}
			if cur.dead {
				break
			}
			var y *state
			y, cur = it.matchPattern(cur, p, v)
			if yes == nil || yes.dead {
				yes = y
			} else if !y.dead {
				it.merge(yes, y)
			}
		}
		if consts != nil && yes != nil && !yes.dead && len(f.Patterns(pat)) == len(consts.alts()) && len(it.labelsOf(yes, v)) > 0 {
			it.equals(yes, v, consts)
		}
		if yes == nil {
			yes = deadFrom(cur)
		}
		return yes, cur
	case pysyntax.MatchSequence:
		pats := f.Patterns(pat)
		items, exact := it.iterate(st, v)
		no = st.fork()
		elem := joinAll(items)
		if elem == nil {
			elem = opaque(it.labelsOf(st, v))
		}
		for i, p := range pats {
			x := elem
			if exact && len(items) == len(pats) {
				x = items[i]
			}
			if f.Kind(p) == pysyntax.MatchStar {
				if n := f.MatchStar(p); n != "" {
					it.bindName(st, n, it.list(st, oList, nil, elem))
				}
				continue
			}
			var n *state
			st, n = it.matchPattern(st, p, x)
			_ = n
			if st.dead {
				break
			}
		}
		return st, no
	case pysyntax.MatchMapping:
		keys, pats, rest := f.MatchMapping(pat)
		no = st.fork()
		for i, p := range pats {
			k := it.eval(st, keys[i])
			x := it.subscript(st, v, k, it.span(pat))
			st, _ = it.matchPattern(st, p, x)
			if st.dead {
				break
			}
		}
		if rest != "" && !st.dead {
			it.bindName(st, rest, opaque(it.labelsOf(st, v)))
		}
		return st, no
	case pysyntax.MatchClass:
		no = st.fork()
		cls := it.eval(st, f.MatchClass(pat))
		r := it.isInstance(st, v, cls)
		if it.truth(st, r) == 0 {
			return deadFrom(st), no
		}
		it.follow(st, r.sym, true)
		for _, p := range f.Patterns(pat) {
			if f.Kind(p) == pysyntax.Keyword {
				name, sub := f.KeywordArg(p)
				st, _ = it.matchPattern(st, sub, it.attr(st, v, name, false, it.span(p)))
			} else {
				st, _ = it.matchPattern(st, p, v)
			}
			if st.dead {
				break
			}
		}
		return st, no
	}
	return st, st.fork()
}
