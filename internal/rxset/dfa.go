package rxset

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// dfa tells which patterns of a small group match, by an automaton whose
// states are made when a value first needs them. Readers take no lock.
//
// A state is the set of instructions that wait for the next symbol, the
// assertions among them still open; what stands before the place (as far as
// an assertion asks); and which patterns have matched. Threads that begin at
// the place itself are not in it: what they come to after one symbol depends
// on the two symbols around the place alone and is kept in first. So a match
// shows one symbol late, or at the end of the text, which is a symbol of its
// own here.
type dfa struct {
	inst   []inst
	owner  []uint8 // the pattern of each instruction; nil for one pattern
	starts []uint32
	firsts []syntax.EmptyOp // nfa.first of each pattern
	looks  syntax.EmptyOp   // all assertions
	// startLooks is what assertions decide whether a match can begin.
	startLooks syntax.EmptyOp
	all        uint32 // a bit for each pattern
	class      [256]uint8
	classes    int       // symbols that no pattern tells apart share a class
	stride     int       // entries of a row
	context    []context // of each class; one more for the end
	member     []symset  // which classes are in each set

	set   *Set // whose memory it uses
	alone bool // it is not of a group
	full  bool // the last step found the table full too soon
	cur   atomic.Pointer[table]
	mu    sync.Mutex // to make states, and to write into a table
}

// table is the transitions as readers see them. A row has one entry for each
// class of symbols and one for the end. An entry is 0 if nobody went that way
// yet, else the offset of the next row, maybe marked toLine, or with stop set
// the patterns that have matched.
type table struct {
	trans []uint32 // read and written atomically
	made  *states
}

const (
	// stop marks an entry that ends the run: nothing can change any more.
	stop = 1 << 31
	// toLine marks one whose state waits for the next line.
	toLine = 1 << 30
	// payload is the rest of an entry.
	payload = toLine - 1
	// plain is above every offset of a row, less one.
	plain = toLine - 1
	// maxGroup is how many patterns fit into an entry.
	maxGroup = 30
	// maxRows is how many states a table may have.
	maxRows = 1 << 16
)

// states are the states made since the last flush, under dfa.mu.
type states struct {
	list   []state           // by row; the first is unused
	byHash map[uint64]uint32 // the last row of each hash
	first  []*firstStep      // by context before and class
	born   time.Time
	bytes  atomic.Int64
}

type state struct {
	pcs  []uint32 // sorted
	done uint32   // the patterns that have matched
	prev context
	next uint32 // row of the same hash
}

// firstStep is where threads come to that begin between two symbols.
type firstStep struct {
	pcs  []uint32
	done uint32
}

// newDFA joins programs, at most maxGroup of them, that read the same
// kind of symbols. It is nil if they are too long for one. An automaton that
// stands alone is in no group.
func newDFA(set *Set, group []*nfa, alone bool) *dfa {
	d := &dfa{set: set, alone: alone, all: 1<<len(group) - 1}
	var sets []symset
	if len(group) == 1 {
		d.inst, sets = group[0].inst, group[0].sets
	} else {
		known := map[symset]uint16{}
		for i, n := range group {
			base := uint32(len(d.inst))
			if len(d.inst)+len(n.inst) > maxInst {
				return nil
			}
			for _, in := range n.inst {
				in.out += base
				switch in.op {
				case opAlt:
					in.arg += base
				case opMatch:
					in.arg = uint32(i)
				case opSet:
					s := n.sets[in.set]
					id, ok := known[s]
					if !ok {
						id = uint16(len(sets))
						known[s] = id
						sets = append(sets, s)
					}
					in.set = id
				}
				d.inst = append(d.inst, in)
				d.owner = append(d.owner, uint8(i))
			}
		}
	}
	at := uint32(0)
	for _, n := range group {
		d.starts = append(d.starts, n.start+at)
		at += uint32(len(n.inst))
		d.firsts = append(d.firsts, n.first)
		d.looks |= n.looks
	}
	d.split(sets)
	var sc scratch
	sc.reset(len(d.inst))
	for _, pc := range d.starts {
		d.arrive(&sc, pc)
	}
	for _, pc := range sc.pcs {
		if d.inst[pc].op == opLook {
			d.startLooks = d.looks // another may stand behind it
		}
	}
	set.mu.Lock()
	set.dfas = append(set.dfas, d)
	set.mu.Unlock()
	return d
}

// split finds the classes of symbols that no set and no assertion tells
// apart.
func (d *dfa) split(sets []symset) {
	id := make([]int, 256) // class of each symbol so far
	n := 1
	refine := func(s *symset) {
		var in, out [256]int // new class + 1 of the members and the others of each class
		m := 0
		for c := range 256 {
			half := &out
			if s.has(byte(c)) {
				half = &in
			}
			if half[id[c]] == 0 {
				m++
				half[id[c]] = m
			}
			id[c] = half[id[c]] - 1
		}
		n = m
	}
	if d.looks&(syntax.EmptyBeginLine|syntax.EmptyEndLine) != 0 {
		refine(&newline)
	}
	if d.looks&(syntax.EmptyWordBoundary|syntax.EmptyNoWordBoundary) != 0 {
		refine(&wordChars)
	}
	for i := range sets {
		refine(&sets[i])
	}
	// Symbols that values have often come first, so that few cache lines of
	// a row are in use, and a row begins with one.
	weight := make([]float64, n)
	for c := range 256 {
		weight[id[c]] += usual.one[c]
	}
	order := make([]int, n)
	for k := range order {
		order[k] = k
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(weight[b], weight[a]) })
	place := make([]int, n)
	for k, c := range order {
		place[c] = k
	}
	for c := range 256 {
		id[c] = place[id[c]]
	}
	d.classes = n
	d.stride = (n + 1 + 15) &^ 15
	d.context = make([]context, n+1) // atText at the end
	d.member = make([]symset, len(sets))
	for c := range 256 {
		d.class[c] = uint8(id[c])
		ctx := contextOf(byte(c))
		if d.looks&(syntax.EmptyWordBoundary|syntax.EmptyNoWordBoundary) == 0 && ctx == atWord {
			ctx = atOther
		}
		if d.looks&(syntax.EmptyBeginLine|syntax.EmptyEndLine) == 0 && ctx == atLine {
			ctx = atOther
		}
		d.context[id[c]] = ctx
		for i := range sets {
			if sets[i].has(byte(c)) {
				d.member[i].add(uint8(id[c]))
			}
		}
	}
}

var newline, wordChars symset

func init() {
	newline.add('\n')
	for c := range byte(128) {
		if contextOf(c) == atWord {
			wordChars.add(c)
		}
	}
}

// match returns the patterns of the group that match a string of symbols.
func (d *dfa) match(v string) uint32 {
	t := d.table()
	return d.from(t, uint32(d.stride), v, 0)
}

// table returns the table that a run begins with, at the row behind the
// first, unused one.
func (d *dfa) table() *table {
	if t := d.cur.Load(); t != nil {
		return t
	}
	return d.begin()
}

// from goes on at v[i] in a row of t.
func (d *dfa) from(t *table, row uint32, v string, i int) uint32 {
	trans := t.trans
	for ; i < len(v); i++ {
		c := uint32(d.class[v[i]])
		e := atomic.LoadUint32(&trans[row+c])
		if e-1 < plain { // neither unknown nor marked
			row = e
			continue
		}
		if e == 0 {
			t, e = d.step(t, row, int(c))
			trans = t.trans
		}
		if e&stop != 0 {
			return e & payload
		}
		row = e & payload
		if e&toLine != 0 {
			k := strings.IndexByte(v[i+1:], '\n')
			if k < 0 {
				break
			}
			i += k
		}
	}
	e := atomic.LoadUint32(&trans[row+uint32(d.classes)])
	if e == 0 {
		_, e = d.step(t, row, d.classes)
	}
	return e & payload
}

// match4 runs four automata side by side: each waits for its own loads, so
// that four take little longer than one. Where one of them cannot go on in
// its table they finish one after the other.
func match4(d *[4]*dfa, v string, out *[4]uint32) {
	t0, t1, t2, t3 := d[0].table(), d[1].table(), d[2].table(), d[3].table()
	r0, r1, r2, r3 := uint32(d[0].stride), uint32(d[1].stride), uint32(d[2].stride), uint32(d[3].stride)
	c0, c1, c2, c3 := &d[0].class, &d[1].class, &d[2].class, &d[3].class
	x0, x1, x2, x3 := t0.trans, t1.trans, t2.trans, t3.trans
	i := 0
	for ; i < len(v); i++ {
		c := v[i]
		e0 := atomic.LoadUint32(&x0[r0+uint32(c0[c])])
		e1 := atomic.LoadUint32(&x1[r1+uint32(c1[c])])
		e2 := atomic.LoadUint32(&x2[r2+uint32(c2[c])])
		e3 := atomic.LoadUint32(&x3[r3+uint32(c3[c])])
		if e0-1 >= plain || e1-1 >= plain || e2-1 >= plain || e3-1 >= plain {
			break
		}
		r0, r1, r2, r3 = e0, e1, e2, e3
	}
	out[0] = d[0].from(t0, r0, v, i)
	out[1] = d[1].from(t1, r1, v, i)
	out[2] = d[2].from(t2, r2, v, i)
	out[3] = d[3].from(t3, r3, v, i)
}

// match2 is match4 for two.
func match2(d *[4]*dfa, v string, out *[4]uint32) {
	t0, t1 := d[0].table(), d[1].table()
	r0, r1 := uint32(d[0].stride), uint32(d[1].stride)
	c0, c1 := &d[0].class, &d[1].class
	x0, x1 := t0.trans, t1.trans
	i := 0
	for ; i < len(v); i++ {
		c := v[i]
		e0 := atomic.LoadUint32(&x0[r0+uint32(c0[c])])
		e1 := atomic.LoadUint32(&x1[r1+uint32(c1[c])])
		if e0-1 >= plain || e1-1 >= plain {
			break
		}
		r0, r1 = e0, e1
	}
	out[0] = d[0].from(t0, r0, v, i)
	out[1] = d[1].from(t1, r1, v, i)
}

// flush throws away the tables of every automaton.
func (s *Set) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.dfas {
		d.cur.Store(nil)
	}
	s.used.Store(0)
}

// begin makes a table with the first state.
func (d *dfa) begin() *table {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.cur.Load(); t != nil {
		return t
	}
	return d.flush()
}

// flush puts a new table in the place of what is there. Runs that still go
// on in the old one end there.
func (d *dfa) flush() *table {
	stride := d.stride
	first := state{prev: atText}
	t := &table{
		trans: make([]uint32, 4*stride),
		made: &states{
			list:   append(make([]state, 1, 4), first),
			byHash: map[uint64]uint32{first.hash(): 1},
			first:  make([]*firstStep, 4*stride),
			born:   time.Now(),
		},
	}
	t.made.bytes.Store(int64(4*len(t.trans) + 8*len(t.made.first) + 1024))
	d.set.used.Add(t.made.bytes.Load())
	// Nobody may see a table without the first state's row.
	if old := d.cur.Swap(t); old != nil {
		d.set.used.Add(-old.made.bytes.Load())
	}
	return t
}

// row returns the row of a state, making it if need be, and the table that
// has it.
func (d *dfa) row(t *table, s state) (*table, uint32) {
	h := s.hash()
	made := t.made
	at, ok := made.byHash[h]
	for ; ok && at != 0; at = made.list[at].next {
		if made.list[at].same(&s) {
			return t, at
		}
	}
	stride := d.stride
	size := 4*stride + 4*len(s.pcs) + 96
	if int(made.bytes.Load())+size > d.set.maxTable && len(made.list) > 2 || len(made.list) == maxRows {
		// One that took long to fill saw much, and needs not so many at once.
		d.full = time.Since(made.born) < fullSoon
		return d.row(d.flush(), s)
	}
	if d.set.used.Add(int64(size)) > int64(d.set.maxTables) && len(made.list) > 2 {
		d.set.flush()
		return d.row(d.flush(), s)
	}
	made.bytes.Add(int64(size))
	id := uint32(len(made.list))
	s.next = made.byHash[h]
	s.pcs = slices.Clone(s.pcs)
	made.list = append(made.list, s)
	made.byHash[h] = id
	if need := (int(id) + 1) * stride; need > len(t.trans) {
		t2 := &table{trans: make([]uint32, max(2*len(t.trans), need, 4*stride)), made: made}
		copy(t2.trans, t.trans)
		d.cur.CompareAndSwap(t, t2)
		t = t2
	}
	return t, id
}

var seed = maphash.MakeSeed()

func (s *state) hash() uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	var b [8]byte
	binary.LittleEndian.PutUint32(b[:], s.done)
	b[4] = byte(s.prev)
	h.Write(b[:])
	for _, pc := range s.pcs {
		binary.LittleEndian.PutUint32(b[:], pc)
		h.Write(b[:4])
	}
	return h.Sum64()
}

func (s *state) same(o *state) bool {
	return s.done == o.done && s.prev == o.prev && slices.Equal(s.pcs, o.pcs)
}

// step finds the entry of table t at row for class c, which nobody has
// found before, and the table that row numbers in it are of.
func (d *dfa) step(t *table, row uint32, c int) (*table, uint32) {
	t, e, full := d.locked(t, row, c)
	if full {
		d.set.overflow(d)
	}
	if d.set.misses.Add(1)&63 == 0 {
		d.set.restoreGroups()
	}
	return t, e
}

func (d *dfa) locked(t *table, row uint32, c int) (_ *table, entry uint32, full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = false
	stride := uint32(d.stride)
	s := t.made.list[row/stride]
	now := d.cur.Load()
	if now == nil {
		now = d.flush()
	}
	if now.made == t.made {
		if e := atomic.LoadUint32(&now.trans[row+uint32(c)]); e != 0 {
			return now, e, false
		}
	}
	sc := d.set.scratch.Get().(*scratch)
	defer d.set.scratch.Put(sc)
	next := d.after(sc, now.made, &s, c)
	mark := d.waits(&next)
	if c == d.classes || mark&stop != 0 {
		e := stop | next.done
		if now.made == t.made {
			atomic.StoreUint32(&now.trans[row+uint32(c)], e)
		}
		return now, e, false
	}
	now, id := d.row(now, next)
	e := id*stride | mark
	if now.made == t.made {
		atomic.StoreUint32(&now.trans[row+uint32(c)], e)
	}
	return now, e, d.full
}

// waits says whether anything can still come of a state: stop if not,
// toLine if only a match that begins at the next line.
func (d *dfa) waits(s *state) uint32 {
	if s.done == d.all {
		return stop
	}
	if len(s.pcs) > 0 {
		return 0
	}
	mark := uint32(stop)
	for i, first := range d.firsts {
		switch {
		case s.done>>i&1 != 0 || first&syntax.EmptyBeginText != 0:
		case first&syntax.EmptyBeginLine != 0 && s.prev != atLine:
			mark = toLine
		default:
			return 0
		}
	}
	return mark
}

// scratch is what making a state needs.
type scratch struct {
	before, after []uint32 // by instruction: the step it was last seen in
	now           uint32
	stack         []uint32
	pcs           []uint32
	done          uint32
}

func (sc *scratch) reset(n int) {
	if len(sc.before) < n {
		sc.before, sc.after = make([]uint32, n), make([]uint32, n)
		sc.now = 0
	}
	if sc.now++; sc.now == 0 {
		clear(sc.before)
		clear(sc.after)
		sc.now = 1
	}
	sc.pcs = sc.pcs[:0]
	sc.done = 0
}

// after returns the state that follows s over a symbol of class c, or what
// has matched at the end. Its pcs are the scratch's.
func (d *dfa) after(sc *scratch, made *states, s *state, c int) state {
	first := d.firstStep(sc, made, s.prev, c)
	sc.reset(len(d.inst))
	holds := looking(s.prev, d.context[c])
	for _, pc := range s.pcs {
		d.run(sc, pc, holds, c)
	}
	sc.done |= s.done | first.done
	for _, pc := range first.pcs {
		if sc.after[pc] != sc.now {
			sc.after[pc] = sc.now
			sc.pcs = append(sc.pcs, pc)
		}
	}
	looks := d.startLooks
	k := 0
	for _, pc := range sc.pcs {
		if d.owner != nil && sc.done>>d.owner[pc]&1 != 0 {
			continue
		}
		if d.inst[pc].op == opLook {
			looks = d.looks // another may stand behind it
		}
		sc.pcs[k] = pc
		k++
	}
	sc.pcs = sc.pcs[:k]
	slices.Sort(sc.pcs)
	next := state{pcs: sc.pcs, done: sc.done, prev: d.context[c]}
	switch {
	case next.prev == atWord && looks&(syntax.EmptyWordBoundary|syntax.EmptyNoWordBoundary) == 0,
		next.prev == atLine && looks&syntax.EmptyBeginLine == 0:
		next.prev = atOther
	}
	return next
}

// firstStep returns where threads come to that begin after prev, over c.
func (d *dfa) firstStep(sc *scratch, made *states, prev context, c int) *firstStep {
	at := int(prev)*d.stride + c
	if f := made.first[at]; f != nil {
		return f
	}
	sc.reset(len(d.inst))
	holds := looking(prev, d.context[c])
	for _, pc := range d.starts {
		d.run(sc, pc, holds, c)
	}
	f := &firstStep{pcs: slices.Clone(sc.pcs), done: sc.done}
	made.first[at] = f
	made.bytes.Add(int64(4*len(f.pcs) + 64))
	d.set.used.Add(int64(4*len(f.pcs) + 64))
	return f
}

// run follows a thread at pc through what consumes nothing, under the
// assertions that hold, and over one symbol of class c.
func (d *dfa) run(sc *scratch, pc uint32, holds syntax.EmptyOp, c int) {
	sc.stack = append(sc.stack[:0], pc)
	for len(sc.stack) > 0 {
		pc := sc.stack[len(sc.stack)-1]
		sc.stack = sc.stack[:len(sc.stack)-1]
		for sc.before[pc] != sc.now {
			sc.before[pc] = sc.now
			in := &d.inst[pc]
			switch in.op {
			case opAlt:
				sc.stack = append(sc.stack, in.arg)
				pc = in.out
			case opLook:
				if syntax.EmptyOp(in.arg)&^holds == 0 {
					pc = in.out
				}
			case opMatch:
				sc.done |= 1 << in.arg
			case opSet:
				if c < d.classes && d.member[in.set].has(uint8(c)) {
					d.arrive(sc, in.out)
				}
			}
		}
	}
}

// arrive adds what a thread at pc waits for after a symbol.
func (d *dfa) arrive(sc *scratch, pc uint32) {
	base := len(sc.stack)
	sc.stack = append(sc.stack, pc)
	for len(sc.stack) > base {
		pc := sc.stack[len(sc.stack)-1]
		sc.stack = sc.stack[:len(sc.stack)-1]
		for sc.after[pc] != sc.now {
			sc.after[pc] = sc.now
			in := &d.inst[pc]
			switch in.op {
			case opAlt:
				sc.stack = append(sc.stack, in.arg)
				pc = in.out
			case opLook:
				if syntax.EmptyOp(in.arg)&syntax.EmptyBeginText == 0 {
					sc.pcs = append(sc.pcs, pc)
				}
			case opMatch:
				sc.done |= 1 << in.arg
			case opSet:
				sc.pcs = append(sc.pcs, pc)
			}
		}
	}
}
