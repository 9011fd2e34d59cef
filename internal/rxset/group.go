package rxset

import (
	"cmp"
	"math"
	"slices"
)

// group is patterns that one automaton runs: a pass over a value costs the
// same for one as for all, as long as they have few states together.
type group struct {
	members []int // by the number in the automaton
	all     Bits
	raw     bool // they read bytes
	dfa     *dfa
}

const (
	// maxGroupInst is how many instructions the patterns of a group may
	// have: what a state costs to make goes by it.
	maxGroupInst = 32000
	// maxTrial is how many states a group may need for the sample.
	maxTrial = 900
)

// group puts the patterns into groups. Neighbours in it are patterns that
// are likely to be asked for by the same values: those without clauses, that
// the filter lets through often, apart from the others, and by their rarest
// mask.
func (s *Set) group() {
	s.alone = s.NewBits()
	var order []int
	rank := make([]float64, len(s.patterns))
	for i, p := range s.patterns {
		if p.nfa == nil {
			s.alone.Set(i)
			continue
		}
		order = append(order, i)
		rank[i] = 1
		for _, m := range s.filter.masks {
			if m.patterns.Has(i) {
				rank[i] = min(rank[i], m.weight)
			}
		}
		rank[i] = math.Round(math.Log2(rank[i]))
	}
	kind := func(i int) int {
		switch {
		case s.patterns[i].mode != Text:
			return 2
		case s.filter.need[0].Has(i):
			return 1
		}
		return 0
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(kind(a), kind(b)), cmp.Compare(rank[b], rank[a]), cmp.Compare(a, b))
	})
	for len(order) > 0 {
		n := 1
		inst := len(s.patterns[order[0]].nfa.inst)
		for n < min(len(order), maxGroup) && (kind(order[n]) == 2) == (kind(order[0]) == 2) {
			inst += len(s.patterns[order[n]].nfa.inst)
			if inst > maxGroupInst {
				break
			}
			n++
		}
		for {
			g := group{members: order[:n], all: s.NewBits(), raw: kind(order[0]) == 2}
			var nfas []*nfa
			for _, i := range g.members {
				g.all.Set(i)
				nfas = append(nfas, s.patterns[i].nfa)
			}
			g.dfa = newDFA(s, nfas)
			if n == 1 || g.dfa.fits(sample, maxTrial) {
				s.groups = append(s.groups, g)
				order = order[n:]
				break
			}
			n = (n + 1) / 2
		}
	}
	s.mu.Lock()
	s.dfas = s.dfas[:0]
	for _, g := range s.groups {
		s.dfas = append(s.dfas, g.dfa)
	}
	s.mu.Unlock()
	s.flush()
}

// fits reports whether no more than most states are needed for a value.
func (d *dfa) fits(v string, most int) bool {
	for i := 0; i < len(v); i += 64 {
		d.match(v[:min(len(v), i+64)])
		if len(d.cur.Load().made.list) > most {
			return false
		}
	}
	return true
}
