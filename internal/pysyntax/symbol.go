package pysyntax

import (
	"math/rand/v2"
	"sync"
)

// Interner is the names of one project: all files that it parses share the
// text of a name, however many of them hold it and whichever goroutine read
// them. Symbols stay numbers of one file's table: one numbering for all would
// be a lock for each name, and nothing compares them across files.
//
// It is safe for concurrent use.
type Interner struct {
	parsers sync.Pool
	shards  [16]struct {
		mu    sync.Mutex
		names map[string]string
	}
}

// NewInterner returns an Interner without names.
func NewInterner() *Interner {
	in := &Interner{}
	in.parsers.New = func() any { return NewParser() }
	for i := range in.shards {
		in.shards[i].names = map[string]string{}
	}
	return in
}

// Parse is as the function [Parse]. A nil Interner shares nothing.
func (in *Interner) Parse(path string, src []byte) *File {
	if in == nil {
		return Parse(path, src)
	}
	q := in.parsers.Get().(*Parser)
	q.p.shared = in
	f := q.Parse(path, src)
	in.parsers.Put(q)
	return f
}

// text returns the one string for a name, whose hash is h.
func (in *Interner) text(h uint32, name []byte) string {
	s := &in.shards[h%uint32(len(in.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.names[string(name)]; ok {
		return t
	}
	t := string(name)
	s.names[t] = t
	return t
}

// Symbols are the names in a [File].
type Symbols struct{ strs []string }

// Str returns the text of a symbol. Symbol 0 is "".
func (s *Symbols) Str(sym uint32) string { return s.strs[sym] }

// hashBasis is drawn anew in each process, so that nobody can write a file
// whose names all collide (CWE-407).
var hashBasis = rand.Uint32() | 1

// interner maps names to small numbers. Keywords come first: the symbol of a
// keyword is its token.
type interner struct {
	slots []uint64 // hash<<32 | symbol, 0 if free
	shift uint     // 32 - log2 of len(slots)
	strs  []string
	// shared holds the texts of names for a whole project; nil if there is none.
	shared *Interner
}

func newInterner(shared *Interner) *interner {
	in := &interner{shared: shared, slots: make([]uint64, 1<<10), shift: 32 - 10, strs: make([]string, 1, 256)}
	for _, k := range keywords {
		in.intern(k)
	}
	return in
}

func (in *interner) intern(s string) uint32 {
	h := hashBasis
	for i := 0; i < len(s); i++ {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return in.lookup(h, []byte(s))
}

// lookup returns the symbol of b, whose FNV-1a hash from hashBasis is h.
func (in *interner) lookup(h uint32, b []byte) uint32 {
	mask := uint32(len(in.slots) - 1)
	i := in.slot(h)
	for e := in.slots[i]; e != 0; e = in.slots[i] {
		if uint32(e>>32) == h && in.strs[uint32(e)] == string(b) {
			return uint32(e)
		}
		i = (i + 1) & mask
	}
	s := uint32(len(in.strs))
	if in.shared != nil {
		in.strs = append(in.strs, in.shared.text(h, b))
	} else {
		in.strs = append(in.strs, string(b))
	}
	in.slots[i] = uint64(h)<<32 | uint64(s)
	if s > mask/2 {
		in.grow()
	}
	return s
}

// slot spreads the hash over the table: the low bits of FNV-1a alone depend on
// the basis too little.
func (in *interner) slot(h uint32) uint32 { return h * 0x9E3779B1 >> in.shift }

func (in *interner) grow() {
	old := in.slots
	in.slots = make([]uint64, len(old)*2)
	in.shift--
	mask := uint32(len(in.slots) - 1)
	for _, e := range old {
		if e == 0 {
			continue
		}
		j := in.slot(uint32(e >> 32))
		for in.slots[j] != 0 {
			j = (j + 1) & mask
		}
		in.slots[j] = e
	}
}

// symbols returns the names interned so far. The interner only ever appends
// beyond them, so a File may be read while its Parser parses the next.
func (in *interner) symbols() Symbols { return Symbols{in.strs[:len(in.strs):len(in.strs)]} }
