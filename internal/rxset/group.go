package rxset

import (
	"cmp"
	"math"
	"slices"
	"time"
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
	maxTrial = 1000
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
		if p.loose == nil {
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
			return 3
		case s.filter.need[0].Has(i):
			return 2
		case len(s.patterns[i].loose.inst) > 40:
			return 1
		}
		return 0
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(kind(a), kind(b)), cmp.Compare(rank[b], rank[a]), cmp.Compare(a, b))
	})
	var groups []group
	for len(order) > 0 {
		n := 1
		inst := len(s.patterns[order[0]].loose.inst)
		for n < min(len(order), maxGroup) && (kind(order[n]) == 3) == (kind(order[0]) == 3) {
			inst += len(s.patterns[order[n]].loose.inst)
			if inst > maxGroupInst {
				break
			}
			n++
		}
		for {
			g := s.newGroup(order[:n])
			if n == 1 || len(g.dfa.inst) < maxTrial || g.dfa.fits(sample, maxTrial) {
				groups = append(groups, g)
				order = order[n:]
				break
			}
			n = (n + 1) / 2
		}
	}
	s.first = groups
	s.use(groups)
	s.flush()
}

// newGroup makes a group of patterns that read alike.
func (s *Set) newGroup(members []int) group {
	g := group{members: members, all: s.NewBits(), raw: s.patterns[members[0]].mode != Text}
	var nfas []*nfa
	for _, i := range members {
		g.all.Set(i)
		nfas = append(nfas, s.patterns[i].loose)
	}
	g.dfa = newDFA(s, nfas, false)
	return g
}

const (
	// fullSoon is how soon a table must be full for its group to be split.
	fullSoon = 10 * time.Second
	// regroupAfter is for how long a group that was split stays so.
	regroupAfter = 10 * time.Minute
)

// overflow is told that the table of d was soon full. Of a group it makes two:
// most often few patterns need many states, or those that need many together
// need few apart. After regroupAfter the first groups are tried again, so that
// values made to drive the groups apart do so for a while only.
func (s *Set) overflow(d *dfa) {
	s.regroup.Lock()
	defer s.regroup.Unlock()
	groups := *s.groups.Load()
	at := slices.IndexFunc(groups, func(g group) bool { return g.dfa == d })
	if at < 0 || len(groups[at].members) == 1 {
		return
	}
	members := groups[at].members
	half := len(members) / 2
	groups = slices.Concat(groups[:at], []group{s.newGroup(members[:half]), s.newGroup(members[half:])}, groups[at+1:])
	s.use(groups)
	s.restore.Store(time.Now().Add(regroupAfter).UnixNano())
}

// restoreGroups goes back to the first groups if the time has come.
func (s *Set) restoreGroups() {
	if at := s.restore.Load(); at == 0 || time.Now().UnixNano() < at {
		return
	}
	s.regroup.Lock()
	defer s.regroup.Unlock()
	if s.restore.Swap(0) != 0 {
		s.use(s.first)
	}
}

// use puts groups in the place of those that there are.
func (s *Set) use(groups []group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dfas := slices.DeleteFunc(slices.Clone(s.dfas), func(d *dfa) bool { return !d.alone })
	for _, g := range groups {
		dfas = append(dfas, g.dfa)
	}
	for _, d := range s.dfas {
		if !slices.Contains(dfas, d) {
			if t := d.cur.Swap(nil); t != nil {
				s.used.Add(-t.made.bytes.Load())
			}
		}
	}
	s.dfas = dfas
	s.groups.Store(&groups)
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
