package abuse

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// networks is a set of networks that is asked for every request: sorted,
// without overlap, 12 bytes for one of IPv4 and 40 for one of IPv6. Networks
// either nest or do not meet, so the outer one stands for those within. It is
// made once and then only read.
type networks struct {
	v4 []span4
	v6 []span6
}

// span4 and span6 are the first and the last address of a network, and whose
// it is.
type span4 struct {
	lo, hi uint32
	owner  uint16
}

type span6 struct {
	lo, hi [2]uint64
	owner  uint16
}

// owned is a network with the number of the list that it came from.
type owned struct {
	netip.Prefix
	owner uint16
}

func makeNetworks(in []owned) *networks {
	s := &networks{}
	for _, n := range in {
		if a := n.Addr(); a.Is4() {
			b := a.As4()
			lo := binary.BigEndian.Uint32(b[:])
			s.v4 = append(s.v4, span4{lo, lo | uint32(uint64(1)<<(32-n.Bits())-1), n.owner})
		} else {
			lo := words(a)
			hi := lo
			switch free := 128 - n.Bits(); {
			case free >= 64:
				hi[0] |= 1<<(free-64) - 1
				hi[1] = ^uint64(0)
			default:
				hi[1] |= 1<<free - 1
			}
			s.v6 = append(s.v6, span6{lo, hi, n.owner})
		}
	}
	// The outer network first, and then whatever begins within it is gone.
	slices.SortStableFunc(s.v4, func(a, b span4) int { return cmp.Or(cmp.Compare(a.lo, b.lo), cmp.Compare(b.hi, a.hi)) })
	slices.SortStableFunc(s.v6, func(a, b span6) int { return cmp.Or(compareWords(a.lo, b.lo), compareWords(b.hi, a.hi)) })
	kept4 := s.v4[:0]
	for _, n := range s.v4 {
		if k := len(kept4); k == 0 || n.lo > kept4[k-1].hi {
			kept4 = append(kept4, n)
		}
	}
	kept6 := s.v6[:0]
	for _, n := range s.v6 {
		if k := len(kept6); k == 0 || compareWords(n.lo, kept6[k-1].hi) > 0 {
			kept6 = append(kept6, n)
		}
	}
	s.v4, s.v6 = slices.Clip(kept4), slices.Clip(kept6)
	return s
}

func words(a netip.Addr) [2]uint64 {
	b := a.As16()
	return [2]uint64{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func compareWords(a, b [2]uint64) int {
	return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
}

// find returns the owner of a network that holds a.
func (s *networks) find(a netip.Addr) (owner int, ok bool) {
	switch {
	case s == nil || !a.IsValid():
		return 0, false
	case a.Is4():
		b := a.As4()
		v := binary.BigEndian.Uint32(b[:])
		i, j := 0, len(s.v4)
		for i < j { // the first that begins after a
			if h := int(uint(i+j) >> 1); s.v4[h].lo <= v {
				i = h + 1
			} else {
				j = h
			}
		}
		if i > 0 && v <= s.v4[i-1].hi {
			return int(s.v4[i-1].owner), true
		}
	default:
		v := words(a)
		i, j := 0, len(s.v6)
		for i < j {
			if h := int(uint(i+j) >> 1); compareWords(s.v6[h].lo, v) <= 0 {
				i = h + 1
			} else {
				j = h
			}
		}
		if i > 0 && compareWords(v, s.v6[i-1].hi) <= 0 {
			return int(s.v6[i-1].owner), true
		}
	}
	return 0, false
}

// holds reports whether a is in one of the networks.
func (s *networks) holds(a netip.Addr) bool {
	_, ok := s.find(a)
	return ok
}

// size is the number of networks that are left.
func (s *networks) size() int {
	if s == nil {
		return 0
	}
	return len(s.v4) + len(s.v6)
}
