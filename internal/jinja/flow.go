package jinja

// Flow is where the nodes of a template are in the HTML.
type Flow struct {
	// Outputs are the contexts of each output, worst first. An output that
	// nothing leads to has none.
	Outputs map[*Output][]Context
	// Before is the state before each node.
	Before map[Node]State
	// End is the state behind the last node.
	End State
}

// Contexts follows nodes from a state: a template's body from [Start], or a
// block's, a macro's, an included template's from where it is placed.
//
// What is not in the nodes is taken to leave the state as it is: an included
// template, a macro of another one. A macro of these nodes begins at its calls
// in outputs, or in text when there are none; a block of a template that
// extends another, and what a block assigns to a variable, begins in text.
func Contexts(nodes []Node, start State) *Flow {
	f := &flow{
		before:  map[Node]State{},
		headers: map[*For]*header{},
		macros:  map[string]*Macro{},
		calls:   map[*Macro]State{},
	}
	Walk(nodes, func(n Node) bool {
		f.visits += maxVisits
		if m, ok := n.(*Macro); ok {
			f.macros[m.Name] = m
			f.order = append(f.order, m)
		}
		return true
	})
	end := f.run(nodes, reached(start))
	// A macro may call those before and after it; as states only grow, few
	// rounds are enough.
	done := map[*Macro]State{}
	for round := 0; round < 4; round++ {
		for _, m := range f.order {
			s, called := f.calls[m]
			if old, ok := done[m]; ok && old == s || !called && round < 1 {
				continue
			}
			done[m] = s
			f.run(m.Body, reached(s))
		}
	}
	out := &Flow{Outputs: map[*Output][]Context{}, Before: f.before, End: end.state}
	for n, s := range f.before {
		if o, ok := n.(*Output); ok {
			out.Outputs[o] = s.Contexts()
		}
	}
	return out
}

// at is a state, or none where nothing leads.
type at struct {
	state State
	ok    bool
}

func reached(s State) at { return at{s, true} }

func (a at) join(b at) at {
	switch {
	case !a.ok:
		return b
	case !b.ok:
		return a
	}
	return reached(Join(a.state, b.state))
}

// header is the state at the beginning of a loop's body. It only grows, over
// all the times that the loop is run, so that nested loops cost a sum and no
// product.
type header struct {
	at
	changes int
}

// A loop is run again while its header changes, from the fourth time on
// widened, and at most giveUpAt times; all together run at most maxVisits
// nodes for each that there is. Only what hundreds of loops in each other do
// to the tags around them comes there: what further rounds would lead to is
// left out.
const (
	widenAfter = 3
	giveUpAt   = 40
	maxVisits  = 16
)

type flow struct {
	before  map[Node]State
	headers map[*For]*header
	loops   []*at // the ways out of the loops around, by break and continue
	macros  map[string]*Macro
	order   []*Macro
	calls   map[*Macro]State
	extends bool
	visits  int // that are left
}

func (f *flow) run(nodes []Node, s at) at {
	for _, n := range nodes {
		if !s.ok {
			return s
		}
		if old, ok := f.before[n]; ok {
			f.before[n] = Join(old, s.state)
		} else {
			f.before[n] = s.state
		}
		f.visits--
		s = f.node(n, s)
	}
	return s
}

func (f *flow) node(n Node, s at) at {
	switch n := n.(type) {
	case *Text:
		s.state = s.state.Text(n.Value)
	case *Output:
		f.call(n.X, s.state)
		s.state = s.state.Output()
	case *Debug:
		s.state = s.state.Output()
	case *If:
		var end at
		for _, b := range n.Branches {
			end = end.join(f.run(b.Body, s))
		}
		return end.join(f.run(n.Else, s))
	case *For:
		return f.loop(n, s)
	case *Extends:
		f.extends = true
	case *Block:
		if f.extends {
			f.run(n.Body, reached(State{}))
			return s
		}
		return f.run(n.Body, s)
	case *CallBlock:
		f.call(n.X, s.state)
		return s.join(f.run(n.Body, s))
	case *FilterBlock:
		return f.run(n.Body, s)
	case *SetBlock:
		f.run(n.Body, reached(State{}))
	case *With:
		return f.run(n.Body, s)
	case *Autoescape:
		return f.run(n.Body, s)
	case *Trans:
		one := f.run(n.Body, s)
		if n.HasPlural {
			one = one.join(f.run(n.Plural, s))
		}
		return one
	case *Unknown:
		return f.run(n.Body, s)
	case *Break, *Continue:
		if k := len(f.loops); k > 0 {
			*f.loops[k-1] = f.loops[k-1].join(s)
			return at{}
		}
	}
	return s
}

// loop runs a loop's body until nothing changes. What leaves it early goes on
// behind it; that a continue goes to the next round makes no difference, for
// both lead to both.
func (f *flow) loop(n *For, s at) at {
	h := f.headers[n]
	if h == nil {
		h = &header{}
		f.headers[n] = h
	}
	var end at
	for in := s; ; {
		grown := h.join(in)
		if grown != h.at {
			h.changes++
			if h.changes > widenAfter {
				grown.state = grown.state.widen()
			}
		}
		changed := grown != h.at && h.changes < giveUpAt && f.visits > 0
		first := !end.ok
		if !changed && !first {
			break
		}
		if changed {
			h.at = grown
		}
		var early at
		f.loops = append(f.loops, &early)
		end = f.run(n.Body, h.at).join(early)
		f.loops = f.loops[:len(f.loops)-1]
		if !end.ok {
			break
		}
		in = end
	}
	return end.join(f.run(n.Else, s))
}

// call notes where a macro of the template is called.
func (f *flow) call(x Expr, s State) {
	for depth := 0; depth < maxHeight; depth++ {
		switch e := x.(type) {
		case *Filter:
			x = e.X
			continue
		case *Call:
			name, ok := e.Func.(*Name)
			if !ok {
				return
			}
			m := f.macros[name.Name]
			if m == nil {
				return
			}
			if old, ok := f.calls[m]; ok {
				s = Join(old, s)
			}
			f.calls[m] = s
		}
		return
	}
}
