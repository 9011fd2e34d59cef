package event

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"
)

const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

var ids struct {
	sync.Mutex
	ms   uint64
	hi   uint16
	lo   uint64
	pool [4096]byte
	left int
}

// NewID returns a ULID: 26 characters, unique, and sorted as they were made
// within one process. 80 of its bits are random, drawn anew each millisecond;
// within one they count up.
func NewID(now time.Time) string {
	ms := uint64(max(now.UnixMilli(), 0))
	ids.Lock()
	if ms > ids.ms {
		if ids.left < 10 {
			_, _ = rand.Read(ids.pool[:]) // never fails: crypto/rand ends the program instead
			ids.left = len(ids.pool)
		}
		b := ids.pool[len(ids.pool)-ids.left:]
		ids.left -= 10
		ids.ms = ms
		ids.hi = binary.BigEndian.Uint16(b) & 0x7fff // room to count
		ids.lo = binary.BigEndian.Uint64(b[2:])
	} else if ids.lo++; ids.lo == 0 {
		ids.hi++
	}
	ms, hi, lo := ids.ms, uint64(ids.hi), ids.lo
	ids.Unlock()
	var out [26]byte
	for i := 9; i >= 0; i-- {
		out[i] = crockford[ms&31]
		ms >>= 5
	}
	for i := 25; i >= 10; i-- {
		out[i] = crockford[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(out[:])
}
