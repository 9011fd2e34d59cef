package seclang

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
)

// The cache remembers what was found in values: header values, tokens and
// form fields come again and again. Its tables have a fixed number of places
// and take values up to a length, so that it holds 16 MB at most. A value has
// two places to be in, chosen by a keyed hash, so that nobody can aim for one;
// a newcomer takes the place of another. A hit compares the whole value.
const (
	smallValue, smallPlaces = 256, 1 << 15
	largeValue, largePlaces = 4096, 1 << 10
)

type cache struct {
	seed         maphash.Seed
	small, large table
}

type table []atomic.Pointer[remembered]

// remembered is what was found in a value of a class. It never changes.
type remembered struct {
	hash  uint64
	class int
	value string
	hits  hits
}

func newCache() *cache {
	return &cache{seed: maphash.MakeSeed(), small: make(table, smallPlaces), large: make(table, largePlaces)}
}

// find returns the table for a value and its hash; nil for one too long.
func (c *cache) find(class int, value string) (table, uint64) {
	t := c.small
	if len(value) > smallValue {
		if t = c.large; len(value) > largeValue {
			return nil, 0
		}
	}
	return t, maphash.String(c.seed, value) + uint64(class)*0x9e3779b97f4a7c15
}

func (c *cache) get(class int, value string) (hits, bool) {
	t, hash := c.find(class, value)
	if t == nil {
		return nil, false
	}
	for i := range uint64(2) {
		e := t[hash&uint64(len(t)-1)^i].Load()
		if e != nil && e.hash == hash && e.class == class && e.value == value {
			return e.hits, true
		}
	}
	return nil, false
}

// put remembers a copy of h and returns it.
func (c *cache) put(class int, value string, h hits) hits {
	h = slices.Clip(slices.Clone(h))
	t, hash := c.find(class, value)
	if t == nil {
		return h
	}
	place := hash & uint64(len(t)-1)
	if t[place].Load() != nil && (t[place^1].Load() == nil || hash>>63 == 1) {
		place ^= 1
	}
	t[place].Store(&remembered{hash, class, strings.Clone(value), h})
	return h
}

func (c *cache) reset() {
	for _, t := range [...]table{c.small, c.large} {
		for i := range t {
			t[i].Store(nil)
		}
	}
}
