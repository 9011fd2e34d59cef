package store

import (
	"container/heap"
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// MemoryOptions bounds a [Memory]. The zero value is right for one node.
type MemoryOptions struct {
	// Buckets is how many rate-limit buckets are kept; 0 means 2 Mi, which
	// take 34 MiB. It is rounded up to a power of two.
	Buckets int
	// Entries and Bytes bound the values of Put and Once; 0 means 1 Mi
	// entries and 256 MiB, keys and bookkeeping included.
	Entries int
	Bytes   int64
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Memory is a [Store] in this process. It forgets at restart.
//
// Rate-limit buckets live in a fixed table of eight-way sets, one 64-bit tag
// and one GCRA timestamp each: memory does not grow with the number of
// clients. When a set is full the bucket that has most of its burst left is
// given up first, so a flood of new clients cannot push out one that is at
// its limit, not even a flood on another rate.
//
// Two keys with the same 64-bit hash share a bucket. With the table full that
// happens to one new key in nine million million: at a million new clients a
// second, about every hundred days one is counted together with another for a
// while. It limits, it never frees. The hash is seeded anew in every process,
// so nobody can aim.
type Memory struct {
	now    func() time.Time
	epoch  time.Time
	seed   maphash.Seed
	closed atomic.Bool

	sets []set
	mask uint64

	mu      sync.Mutex
	values  map[valueKey]*entry
	expiry  expiryHeap
	bytes   int64
	entries int
	limit   int64
}

const ways = 8

type set struct {
	mu sync.Mutex
	// tag is 54 bits of the key's hash and, in the low bits, the size class
	// of its window; 0 is an empty way.
	tag [ways]uint64
	tat [ways]int64 // theoretical arrival time, nanoseconds since the epoch
}

const classBits = 10

// class maps a window in nanoseconds to 1..1023, in steps of a sixteenth: all
// that a set needs to compare buckets of different rates.
func class(window int64) uint64 {
	log := bits.Len64(uint64(window)) - 1
	var frac int64
	if log >= 4 {
		frac = window >> (log - 4) & 15
	} else {
		frac = window << (4 - log) & 15
	}
	return uint64(log)<<4 + uint64(frac) + 1
}

// window is the inverse of class, rounded down.
func window(class uint64) float64 {
	class--
	return math.Ldexp(1+float64(class&15)/16, int(class>>4))
}

// valueKey keeps the names of Once apart from those of Put.
type valueKey struct {
	once bool
	key  string
}

type entry struct {
	valueKey
	value   []byte
	expires time.Time
	at      int // index in the heap
}

// entryOverhead is what an entry costs besides key and value: the struct, its
// places in map and heap (measured by TestValuesAreBounded).
const entryOverhead = 200

func (e *entry) size() int64 { return int64(len(e.key)+len(e.value)) + entryOverhead }

// expiryHeap has the entry that expires first on top.
type expiryHeap []*entry

func (h expiryHeap) Len() int           { return len(h) }
func (h expiryHeap) Less(i, j int) bool { return h[i].expires.Before(h[j].expires) }
func (h expiryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}
func (h *expiryHeap) Push(x any) {
	e := x.(*entry)
	e.at = len(*h)
	*h = append(*h, e)
}
func (h *expiryHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory(o MemoryOptions) *Memory {
	if o.Buckets <= 0 {
		o.Buckets = 2 << 20
	}
	if o.Entries <= 0 {
		o.Entries = 1 << 20
	}
	if o.Bytes <= 0 {
		o.Bytes = 256 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	n := 1
	for n*ways < o.Buckets {
		n *= 2
	}
	return &Memory{
		now: o.Now, epoch: o.Now(), seed: maphash.MakeSeed(), sets: make([]set, n), mask: uint64(n - 1),
		values: map[valueKey]*entry{}, entries: o.Entries, limit: o.Bytes,
	}
}

// Allow implements [Store].
func (m *Memory) Allow(_ context.Context, key string, rate Rate, cost int) (Result, error) {
	if m.closed.Load() {
		return Result{}, errClosed
	}
	if rate.IsZero() {
		return Result{Allowed: true, Limit: math.MaxInt, Remaining: math.MaxInt}, nil
	}
	if rate.Requests < 0 || rate.Per <= 0 || rate.Burst < 0 {
		return Result{}, fmt.Errorf("store: %v is no rate", rate)
	}
	burst := rate.Burst
	if burst == 0 {
		burst = rate.Requests
	}
	interval := max(int64(rate.Per)/int64(rate.Requests), 1)
	if int64(burst) > math.MaxInt64/4/interval {
		return Result{}, fmt.Errorf("store: %v is out of range", rate)
	}
	full := interval * int64(burst)
	if int64(cost) > int64(burst) || int64(cost) < -math.MaxInt64/4/interval {
		return Result{}, fmt.Errorf("store: a cost of %d is out of range for %v", cost, rate)
	}
	var h maphash.Hash
	h.SetSeed(m.seed)
	h.WriteString(key)
	// The same key under two rates is two buckets: a timestamp means
	// something else under each.
	maphash.WriteComparable(&h, [2]int64{interval, full})
	sum := h.Sum64()
	s := &m.sets[sum&m.mask]
	// The low bits chose the set; the tag takes the others.
	tag := sum&^(1<<classBits-1) | class(full)

	s.mu.Lock()
	defer s.mu.Unlock()
	now := max(int64(m.now().Sub(m.epoch)), 0)
	tat, way := now, -1
	for i := range ways {
		if s.tag[i] == tag {
			way, tat = i, max(s.tat[i], now)
			break
		}
	}
	next := max(tat+int64(cost)*interval, now)
	r := Result{Allowed: next-now <= full, Limit: burst}
	if r.Allowed {
		if cost != 0 && next > now {
			if way < 0 {
				way = s.victim(now)
				s.tag[way] = tag
			}
			s.tat[way] = next
		} else if cost != 0 && way >= 0 {
			s.tag[way] = 0 // a full bucket is no bucket
		}
		tat = next
	} else {
		r.RetryAfter = time.Duration(next - now - full)
	}
	r.ResetAfter = time.Duration(tat - now)
	r.Remaining = int((full - (tat - now)) / interval)
	return r, nil
}

// victim returns the way to use for a new bucket: an empty one, else the one
// with the largest share of its burst left.
func (s *set) victim(now int64) int {
	best, least := 0, math.Inf(1)
	for i := range ways {
		left := s.tat[i] - now
		if s.tag[i] == 0 || left <= 0 {
			return i
		}
		if share := float64(left) / window(s.tag[i]&(1<<classBits-1)); share < least {
			best, least = i, share
		}
	}
	return best
}

// Get implements [Store].
func (m *Memory) Get(_ context.Context, key string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return nil, false, errClosed
	}
	e, ok := m.values[valueKey{key: key}]
	if !ok || !m.now().Before(e.expires) {
		return nil, false, nil
	}
	return append([]byte(nil), e.value...), true, nil
}

// Put implements [Store]. When the store is full and nothing has expired it
// returns an error wrapping [ErrUnavailable]: it never forgets early, so
// nobody can wash out a ban by filling it.
func (m *Memory) Put(_ context.Context, key string, value []byte, ttl time.Duration) error {
	if ttl <= 0 {
		return fmt.Errorf("store: put %q: the lifetime %v is not positive", key, ttl)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	return m.put(now, &entry{valueKey: valueKey{key: key}, value: append([]byte(nil), value...), expires: now.Add(ttl)})
}

func (m *Memory) put(now time.Time, e *entry) error {
	if m.closed.Load() {
		return errClosed
	}
	// Two at a time keep up with what expires; all there is when it is full.
	for n := 0; len(m.expiry) > 0 && !now.Before(m.expiry[0].expires); n++ {
		if n >= 2 && m.fits(e) {
			break
		}
		m.remove(m.expiry[0])
	}
	if !m.fits(e) {
		return fmt.Errorf("%w: full (%d entries, %d bytes)", ErrUnavailable, len(m.values), m.bytes)
	}
	if old := m.values[e.valueKey]; old != nil {
		m.remove(old)
	}
	m.values[e.valueKey] = e
	heap.Push(&m.expiry, e)
	m.bytes += e.size()
	return nil
}

func (m *Memory) fits(e *entry) bool {
	n, size := len(m.values)+1, m.bytes+e.size()
	if old := m.values[e.valueKey]; old != nil {
		n, size = n-1, size-old.size()
	}
	return n <= m.entries && size <= m.limit
}

func (m *Memory) remove(e *entry) {
	heap.Remove(&m.expiry, e.at)
	delete(m.values, e.valueKey)
	m.bytes -= e.size()
}

// Delete implements [Store].
func (m *Memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return errClosed
	}
	if e := m.values[valueKey{key: key}]; e != nil {
		m.remove(e)
	}
	return nil
}

// Once implements [Store].
func (m *Memory) Once(_ context.Context, key string, ttl time.Duration) (bool, error) {
	if ttl <= 0 {
		return false, fmt.Errorf("store: once %q: the lifetime %v is not positive", key, ttl)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return false, errClosed
	}
	now := m.now()
	k := valueKey{once: true, key: key}
	if e := m.values[k]; e != nil && now.Before(e.expires) {
		return false, nil
	}
	if err := m.put(now, &entry{valueKey: k, expires: now.Add(ttl)}); err != nil {
		return false, err
	}
	return true, nil
}

var errClosed = fmt.Errorf("%w: closed", ErrUnavailable)

// Close implements [Store].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed.Store(true)
	m.values, m.expiry, m.bytes = nil, nil, 0
	return nil
}
