package rxset

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"
)

// filter tells in one pass over a value which patterns may match. A pattern
// it rules out does not match; of phrases it may also say that they do.
//
// It asks three things. Is the value long enough? Is there, for each of a
// pattern's masks, a symbol of it in the value? Is there, for each of its
// clauses, one of the strings? The first two take a table look-up for each
// byte and are remembered by the kinds of symbols seen. For the third every
// string is looked for by a window of two to four symbols in it, chosen to
// be rare: a flag for each pair of symbols says whether a window begins
// there, a hash table has what stands behind the windows.
type filter struct {
	patterns int
	// kind is a bit for each symbol: symbols that no mask tells apart share
	// one (and, if there are more than 64, some that masks do tell apart).
	kind [256]uint64
	// masks are the sets of kinds that patterns ask for.
	masks []mask
	// byKind has for each kind the patterns whose first, second and third
	// mask it meets, one behind the other, and open those that have no such
	// mask.
	byKind [64][]uint64
	open   []uint64
	// long has the patterns that a value of so many bytes is long enough
	// for.
	long [64]Bits

	// need says which patterns wait for their first and second clause.
	need    [maxClauses]Bits
	scanned Bits // those with any, and phrases
	phrases Bits // lists of phrases that scan finds
	decided Bits // those of them that it finds all of
	fold    *[256]byte
	letter  [256]uint8                 // symbol to letter of windows; 0 is in none
	pairs   [1 << 14 / 64]uint64       // a bit for two letters with which a short window begins
	seen    [1 << seenBits / 64]uint64 // a bit for the hash of a window of four
	slots   []slot                     // hash table of windows
	entries []entry
	strings string // what the entries refer to
	posts   []uint32
}

// mask asks for a symbol of some kinds.
type mask struct {
	kinds    uint64
	weight   float64
	patterns Bits
}

// maskAnswer is what the masks say to some kinds.
type maskAnswer struct {
	kinds uint64
	valid bool
	pass  Bits
}

// maskAnswers is how many of them a buffer remembers.
const (
	maskAnswers    = 1 << maskAnswerBits
	maskAnswerBits = 8
)

// slot is one window: entries[first:first+n] begin there.
type slot struct {
	key   uint32 // 0 is empty
	first uint32
	n     uint32
}

// entry is a string of which a window is looked for.
type entry struct {
	at     uint32 // in filter.strings
	len    uint16
	window uint16 // where the window is
	posts  uint32 // in filter.posts: what follows if the string is found
	n      uint16
	exact  bool // a phrase: only ASCII letters fold
}

const (
	// seenBits is the size of filter.seen.
	seenBits = 17
	// A post is a pattern's number and what comes of it: it meets its first
	// or second clause, or the pattern matches.
	postKinds = maxClauses + 1
	postMatch = maxClauses
)

// wish is a string and what its being there means.
type wish struct {
	text  string
	exact bool
	posts []uint32
}

// filterBuilder collects what the patterns need.
type filterBuilder struct {
	f      *filter
	masks  map[symset]Bits
	slots  map[symset][]uint64 // as in filter.byKind
	wishes map[string]*wish
	words  []string // keys of wishes in the order in which they came
}

func newFilterBuilder(n int, a *alphabet) *filterBuilder {
	f := &filter{patterns: n, fold: a.fold(), scanned: NewBits(n), phrases: NewBits(n), decided: NewBits(n)}
	for i := range f.need {
		f.need[i] = NewBits(n)
	}
	f.open = make([]uint64, maxMasks*len(f.scanned))
	for i := range f.open {
		f.open[i] = ^uint64(0)
	}
	for k := range f.byKind {
		f.byKind[k] = make([]uint64, len(f.open))
	}
	for i := range f.long {
		f.long[i] = NewBits(n)
	}
	return &filterBuilder{f: f, masks: map[symset]Bits{}, slots: map[symset][]uint64{}, wishes: map[string]*wish{}}
}

// rarely is how often a clause may come true at a place of ordinary values
// and still be worth looking for.
const rarely = 0.002

// add says what pattern i needs.
func (b *filterBuilder) add(i int, n need) {
	n.settle()
	for length := range b.f.long {
		if length >= n.min || length == len(b.f.long)-1 {
			b.f.long[length].Set(i)
		}
	}
	words := len(b.f.scanned)
	for slot, m := range bestMasks(n.masks) {
		if b.masks[m] == nil {
			b.masks[m] = NewBits(b.f.patterns)
			b.slots[m] = make([]uint64, maxMasks*words)
		}
		b.masks[m].Set(i)
		Bits(b.slots[m][slot*words:]).Set(i)
		Bits(b.f.open[slot*words:]).Unset(i)
	}
	kind := 0
clauses:
	for _, c := range bestClauses(n.clauses) {
		if weighClause(c) > rarely {
			continue
		}
		for _, s := range c {
			if len(s) < 2 {
				continue clauses // masks do as well
			}
		}
		for _, s := range c {
			b.wish(s, false, uint32(i*postKinds+kind))
		}
		b.f.need[kind].Set(i)
		b.f.scanned.Set(i)
		kind++
	}
}

// addPhrases says that pattern i matches where one of phrases stands. It
// returns those that it cannot look for: shorter than two bytes, or with
// others than ASCII.
func (b *filterBuilder) addPhrases(i int, phrases []string) (rest []string) {
	n := need{min: math.MaxInt}
	var any symset
	for _, s := range phrases {
		n.min = min(n.min, len(s))
		s = lowerASCII(s)
		// Its rarest byte; all of ASCII if it is empty.
		rarest := symset{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
		ascii := true
		for _, c := range []byte(s) {
			var m symset
			m.add(c)
			if m = coarse(m); weighMask(m) < weighMask(rarest) {
				rarest = m
			}
			ascii = ascii && c < utf8.RuneSelf
		}
		any = any.union(rarest)
		if len(s) < 2 || !ascii {
			rest = append(rest, s)
			continue
		}
		b.wish(s, true, uint32(i*postKinds+postMatch))
		b.f.scanned.Set(i)
		b.f.phrases.Set(i)
	}
	if n.min > 0 {
		n.masks = []symset{any}
	}
	b.add(i, n)
	if len(rest) == 0 {
		b.f.decided.Set(i)
	}
	return rest
}

func (b *filterBuilder) wish(s string, exact bool, post uint32) {
	if len(s) > math.MaxUint16 {
		s = s[:math.MaxUint16]
	}
	key := s
	if exact {
		key += "\xff"
	}
	w := b.wishes[key]
	if w == nil {
		w = &wish{text: s, exact: exact}
		b.wishes[key] = w
		b.words = append(b.words, key)
	}
	if !slices.Contains(w.posts, post) {
		w.posts = append(w.posts, post)
	}
}

// finish makes the tables.
func (b *filterBuilder) finish() *filter {
	f := b.f
	b.kinds()
	b.letters()
	windows := map[uint32][]entry{}
	var text strings.Builder
	posts := map[string]uint32{}
	for _, key := range b.words {
		w := b.wishes[key]
		at, k := f.window(w.text, windows)
		e := entry{at: uint32(text.Len()), len: uint16(len(w.text)), window: uint16(at), n: uint16(len(w.posts)), exact: w.exact}
		text.WriteString(w.text)
		list := string(uint32s(w.posts))
		first, ok := posts[list]
		if !ok {
			first = uint32(len(f.posts))
			posts[list] = first
			f.posts = append(f.posts, w.posts...)
		}
		e.posts = first
		key := f.key(w.text[at : at+k])
		if k < 4 {
			pair := key & (1<<14 - 1)
			f.pairs[pair/64] |= 1 << (pair % 64)
		} else {
			h := hashWindow(key) >> (32 - seenBits)
			f.seen[h/64] |= 1 << (h % 64)
		}
		windows[key] = append(windows[key], e)
	}
	f.strings = text.String()
	size := 16
	for size < 3*len(windows) {
		size *= 2
	}
	f.slots = make([]slot, size)
	keys := make([]uint32, 0, len(windows))
	for key := range windows {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		at := int(hashWindow(key)>>8) & (size - 1)
		for f.slots[at].key != 0 {
			at = (at + 1) & (size - 1)
		}
		f.slots[at] = slot{key: key, first: uint32(len(f.entries)), n: uint32(len(windows[key]))}
		f.entries = append(f.entries, windows[key]...)
	}
	return f
}

func uint32s(list []uint32) []byte {
	var b []byte
	for _, v := range list {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// kinds gives each symbol its kind: what masks it is in.
func (b *filterBuilder) kinds() {
	f := b.f
	sets := make([]symset, 0, len(b.masks))
	for m := range b.masks {
		sets = append(sets, m)
	}
	slices.SortFunc(sets, func(x, y symset) int {
		return cmp.Or(cmp.Compare(weighMask(x), weighMask(y)), slices.Compare(x[:], y[:]))
	})
	ids := map[string]int{}
	in := make([]byte, (len(sets)+7)/8)
	for c := range 256 {
		clear(in)
		for k, m := range sets {
			if m.has(byte(c)) {
				in[k/8] |= 1 << (k % 8)
			}
		}
		id, ok := ids[string(in)]
		if !ok {
			id = len(ids)
			ids[string(in)] = id
		}
		// Beyond 64 kinds some share a bit, so that a symbol of one counts
		// as one of the other, too.
		f.kind[c] = 1 << (id % 64)
	}
	for _, m := range sets {
		kinds := uint64(0)
		for c := range 256 {
			if m.has(byte(c)) {
				kinds |= f.kind[c]
			}
		}
		slots := b.slots[m]
		for k := range f.byKind {
			if kinds>>k&1 != 0 {
				for i, w := range slots {
					f.byKind[k][i] |= w
				}
			}
		}
		f.masks = append(f.masks, mask{kinds: kinds, weight: weighMask(m), patterns: b.masks[m]})
	}
}

// letters numbers the symbols in the strings: at most 127.
func (b *filterBuilder) letters() {
	f := b.f
	n := uint8(0)
	for _, key := range b.words {
		for _, c := range []byte(b.wishes[key].text) {
			if f.letter[c] == 0 {
				n++
				f.letter[c] = n
			}
		}
	}
	for c := range 256 {
		if fc := f.fold[c]; fc < utf8.RuneSelf && int(fc) != c {
			f.letter[c] = f.letter[fc]
		}
	}
}

// window chooses where to look for s, and by how many symbols: where few
// values have the window, and few strings before s have chosen it, as all of
// them are compared wherever it stands.
func (f *filter) window(s string, windows map[uint32][]entry) (at, n int) {
	n = min(len(s), 4)
	best := math.Inf(1)
	for i := 0; i+n <= len(s); i++ {
		others := float64(len(windows[f.key(s[i:i+n])]))
		if w := (weigh(s[i:i+n]) + 1e-6) * (1 + others); w < best {
			best, at = w, i
		}
	}
	return at, n
}

// key packs the two to four letters of a window, the first the lowest.
func (f *filter) key(s string) uint32 {
	key := uint32(0)
	for i := range len(s) {
		key |= uint32(f.letter[s[i]]) << (7 * i)
	}
	return key
}

// hashWindow spreads a key over 32 bits, of which the upper are the better.
func hashWindow(key uint32) uint32 { return key * 0x9e3779b1 }

// look returns in b.may which patterns of among may match, of a value whose
// symbols have been counted into b.kinds, and how many they are; and adds to
// out those of which it is sure.
func (f *filter) look(b *buffer, symbols string, length int, groups []group, among, out Bits) (n int) {
	pass := f.pass(b, b.kinds)
	long := f.long[min(length, len(f.long)-1)]
	may := b.may
	scan := uint64(0)
	for i := range may {
		w := pass[i] & long[i]
		if among != nil {
			w &= among[i]
		}
		scan |= w & f.scanned[i]
		w &^= f.decided[i]
		may[i] = w
		n += bits.OnesCount64(w)
	}
	if scan == 0 || length > 2*len(f.long) && !f.worth(b.may, groups, among) {
		return n
	}
	for k := range b.met {
		b.met[k].Clear()
	}
	f.scan(b, symbols, among, out)
	n = 0
	for i, w := range may {
		for k := range b.met {
			w &= b.met[k][i] | ^f.need[k][i]
		}
		may[i] = w
		n += bits.OnesCount64(w)
	}
	return n
}

// scanCost is how many groups cost as much to run as a scan.
const scanCost = 4

// worth reports whether a scan can save more than it costs: phrases depend
// on it, or so many groups may not have to run.
func (f *filter) worth(may Bits, groups []group, among Bits) bool {
	if among == nil || f.phrases.Intersects(among) {
		return true
	}
	n := 0
	for k := range groups {
		needed, saved := false, false
		for i, w := range groups[k].all {
			needed = needed || w&may[i]&^f.scanned[i] != 0
			saved = saved || w&may[i]&f.scanned[i] != 0
		}
		if saved && !needed {
			n++
		}
	}
	return n > scanCost
}

// pass returns the patterns whose masks all have a symbol of some kinds.
func (f *filter) pass(b *buffer, kinds uint64) Bits {
	a := &b.known[(kinds*0x9e3779b97f4a7c15)>>(64-maskAnswerBits)]
	if a.valid && a.kinds == kinds {
		return a.pass
	}
	sum := append(b.sum[:0], f.open...)
	for rest := kinds; rest != 0; rest &= rest - 1 {
		for i, w := range f.byKind[bits.TrailingZeros64(rest)] {
			sum[i] |= w
		}
	}
	n := len(a.pass)
	for i := range a.pass {
		a.pass[i] = sum[i] & sum[n+i] & sum[2*n+i]
	}
	b.sum = sum
	a.kinds, a.valid = kinds, true
	return a.pass
}

// scan looks for every string.
func (f *filter) scan(b *buffer, v string, among, out Bits) {
	key := uint32(0) // of the last four letters
	for i := range len(v) {
		key = key>>7 | uint32(f.letter[v[i]])<<21
		if h := hashWindow(key) >> (32 - seenBits); f.seen[h/64]>>(h%64)&1 != 0 {
			f.found(b, v, i-3, key, among, out)
		}
		if pair := key >> 14; f.pairs[pair/64]>>(pair%64)&1 != 0 {
			f.found(b, v, i-1, pair, among, out)
			if i+1 < len(v) {
				f.found(b, v, i-1, pair|uint32(f.letter[v[i+1]])<<14, among, out)
			}
		}
	}
}

// found looks whether strings with the window of the given key, which may
// begin at i, stand there.
func (f *filter) found(b *buffer, v string, i int, key uint32, among, out Bits) {
	at := int(hashWindow(key)>>8) & (len(f.slots) - 1)
	for f.slots[at].key != key {
		if f.slots[at].key == 0 {
			return
		}
		at = (at + 1) & (len(f.slots) - 1)
	}
	s := f.slots[at]
entries:
	for k := range f.entries[s.first : s.first+s.n] {
		e := &f.entries[int(s.first)+k]
		from := i - int(e.window)
		if from < 0 || from+int(e.len) > len(v) {
			continue
		}
		want, have := f.strings[e.at:e.at+uint32(e.len)], v[from:from+int(e.len)]
		for k := range len(want) {
			c := f.fold[have[k]]
			if c != want[k] || e.exact && have[k] >= utf8.RuneSelf {
				continue entries
			}
		}
		for _, post := range f.posts[e.posts : e.posts+uint32(e.n)] {
			p, kind := int(post/postKinds), post%postKinds
			if kind != postMatch {
				b.met[kind].Set(p)
			} else if among == nil || among.Has(p) {
				out.Set(p)
			}
		}
	}
}
