package rxset

import "regexp/syntax"

// inst is one instruction of an nfa.
type inst struct {
	op  byte
	set uint16 // opSet: which of nfa.sets
	out uint32 // next
	arg uint32 // opAlt: the other next; opLook: syntax.EmptyOp; opMatch: pattern of the group
}

const (
	opFail byte = iota
	opSet       // consume one symbol of a set
	opAlt       // go to out and to arg
	opLook      // an assertion about the place between two symbols
	opMatch
)

// nfa is a pattern's program over symbols. Which way of several matches is
// of no interest here, only whether one does, so captures are gone.
type nfa struct {
	inst  []inst
	start uint32
	sets  []symset
	// looks is what assertions it makes.
	looks syntax.EmptyOp
	// first is what holds wherever a match begins.
	first syntax.EmptyOp
}

// maxInst is the longest program that an automaton is made of; Go's regexp
// runs what is longer.
const maxInst = 1 << 16

// newNFA turns a program into one over symbols; nil if it is too long.
func newNFA(prog *syntax.Prog, symbols func(pairs []rune) symset) *nfa {
	if len(prog.Inst) >= maxInst {
		return nil
	}
	n := &nfa{inst: make([]inst, len(prog.Inst))}
	if first := prog.StartCond(); first != ^syntax.EmptyOp(0) {
		n.first = first
	}
	// skip finds what a chain of instructions that do nothing leads to.
	skip := func(pc uint32) uint32 {
		for prog.Inst[pc].Op == syntax.InstNop || prog.Inst[pc].Op == syntax.InstCapture {
			pc = prog.Inst[pc].Out
		}
		return pc
	}
	known := map[symset]uint16{}
	for pc := range prog.Inst {
		from, to := &prog.Inst[pc], &n.inst[pc]
		switch from.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			*to = inst{op: opAlt, out: skip(from.Out), arg: skip(from.Arg)}
		case syntax.InstEmptyWidth:
			*to = inst{op: opLook, out: skip(from.Out), arg: from.Arg}
			n.looks |= syntax.EmptyOp(from.Arg)
		case syntax.InstMatch:
			*to = inst{op: opMatch}
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			set := symbols(instRunes(from))
			if set == (symset{}) {
				break // fails
			}
			id, ok := known[set]
			if !ok {
				id = uint16(len(n.sets))
				n.sets = append(n.sets, set)
				known[set] = id
			}
			*to = inst{op: opSet, out: skip(from.Out), set: id}
		}
	}
	n.start = skip(uint32(prog.Start))
	return n
}

// context is what stands before a place: all that assertions see of it.
type context uint8

const (
	atText  context = iota // nothing: the text begins, or ends
	atLine                 // a newline
	atWord                 // an ASCII letter, digit or _
	atOther                // anything else
)

func contextOf(symbol byte) context {
	switch {
	case symbol == '\n':
		return atLine
	case syntax.IsWordChar(rune(symbol)):
		return atWord
	}
	return atOther
}

// looking returns what assertions hold between prev and next.
func looking(prev, next context) syntax.EmptyOp {
	var f syntax.EmptyOp
	switch prev {
	case atText:
		f = syntax.EmptyBeginText | syntax.EmptyBeginLine
	case atLine:
		f = syntax.EmptyBeginLine
	}
	switch next {
	case atText:
		f |= syntax.EmptyEndText | syntax.EmptyEndLine
	case atLine:
		f |= syntax.EmptyEndLine
	}
	if (prev == atWord) != (next == atWord) {
		return f | syntax.EmptyWordBoundary
	}
	return f | syntax.EmptyNoWordBoundary
}
