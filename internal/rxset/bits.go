package rxset

import (
	"iter"
	"math/bits"
)

// Bits is a set of pattern numbers, as wide as NewBits made it. A nil Bits
// handed to Set.Match as among stands for every pattern.
type Bits []uint64

// NewBits returns an empty set for the numbers 0 to n-1.
func NewBits(n int) Bits { return make(Bits, (n+63)/64) }

// Set adds i.
func (b Bits) Set(i int) { b[i>>6] |= 1 << (i & 63) }

// Unset takes i away.
func (b Bits) Unset(i int) { b[i>>6] &^= 1 << (i & 63) }

// Has reports whether i is in b; no number is in a nil b.
func (b Bits) Has(i int) bool { return i>>6 < len(b) && b[i>>6]>>(i&63)&1 != 0 }

// Clear empties b.
func (b Bits) Clear() { clear(b) }

// Or adds everything in o, which must not be wider than b.
func (b Bits) Or(o Bits) {
	for i, w := range o {
		b[i] |= w
	}
}

// And keeps only what o has as well; what lies beyond o's width is dropped.
func (b Bits) And(o Bits) {
	for i := range b {
		if i < len(o) {
			b[i] &= o[i]
		} else {
			b[i] = 0
		}
	}
}

// AndNot drops everything in o.
func (b Bits) AndNot(o Bits) {
	for i := range min(len(b), len(o)) {
		b[i] &^= o[i]
	}
}

// Empty reports whether nothing is in b.
func (b Bits) Empty() bool {
	for _, w := range b {
		if w != 0 {
			return false
		}
	}
	return true
}

// Intersects reports whether b and o share a number.
func (b Bits) Intersects(o Bits) bool {
	for i := range min(len(b), len(o)) {
		if b[i]&o[i] != 0 {
			return true
		}
	}
	return false
}

// Count returns how many numbers are in b.
func (b Bits) Count() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// All yields the numbers in b in rising order.
func (b Bits) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range b {
			for ; w != 0; w &= w - 1 {
				if !yield(i<<6 + bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}
