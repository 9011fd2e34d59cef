package store

import (
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"sync"
	"time"
)

// MemoryOptions bounds a [Memory]. The zero value is right for one node.
type MemoryOptions struct {
	// Buckets is how many rate-limit buckets are kept; 0 means 2 Mi, which
	// take 32 MiB. It is rounded up to a power of two.
	Buckets int
	// Entries and Bytes bound the values of Put and Once; 0 means 1 Mi
	// entries and 256 MiB.
	Entries int
	Bytes   int64
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Memory is a [Store] in this process. It forgets at restart.
//
// Rate-limit buckets live in a fixed table of eight-way sets, one 64-bit
// fingerprint and one GCRA timestamp each: memory does not grow with the
// number of clients. When a set is full the bucket that has recovered most is
// given up first, so a flood of new clients cannot push a busy one out. Two
// keys that share a set and a fingerprint share a bucket: with 64 random bits
// that does not happen in practice, and where it does it limits, it never
// frees. The hash is seeded anew in every process, so nobody can aim.
type Memory struct {
	now   func() time.Time
	epoch time.Time
	seed  maphash.Seed

	sets []set
	mask uint64

	mu      sync.Mutex
	values  map[string]entry
	bytes   int64
	entries int
	limit   int64
	sweep   time.Time
	closed  bool
}

const ways = 8

type set struct {
	mu  sync.Mutex
	tag [ways]uint64
	tat [ways]int64 // theoretical arrival time, nanoseconds since the epoch
}

type entry struct {
	value   []byte
	expires time.Time
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
		values: map[string]entry{}, entries: o.Entries, limit: o.Bytes,
	}
}

// Allow implements [Store].
func (m *Memory) Allow(_ context.Context, key string, rate Rate, cost int) (Result, error) {
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
	window := interval * int64(burst)
	var h maphash.Hash
	h.SetSeed(m.seed)
	h.WriteString(key)
	// The same key under two rates is two buckets: a timestamp means
	// something else under each.
	maphash.WriteComparable(&h, [2]int64{interval, window})
	sum := h.Sum64()
	s := &m.sets[sum&m.mask]
	tag := sum | 1<<63 // 0 is an empty way

	s.mu.Lock()
	defer s.mu.Unlock()
	now := int64(m.now().Sub(m.epoch))
	way, victim := -1, 0
	worst := int64(math.MaxInt64)
	for i := range ways {
		if s.tag[i] == tag {
			way = i
			break
		}
		// How long until the bucket is full again: the least is the least
		// loss. An empty way needs nothing.
		left := max(s.tat[i]-now, 0)
		if s.tag[i] == 0 {
			left = -1
		}
		if left < worst {
			worst, victim = left, i
		}
	}
	tat := now
	if way >= 0 {
		tat = max(s.tat[way], now)
	}
	next := tat
	if cost > 0 && int64(cost) > math.MaxInt64/4/interval {
		next = math.MaxInt64
	} else {
		next = max(tat+int64(cost)*interval, now)
	}
	r := Result{Allowed: next-now <= window, Limit: burst}
	if r.Allowed {
		if cost != 0 {
			if way < 0 {
				way = victim
				s.tag[way] = tag
			}
			s.tat[way] = next
		}
		tat = next
	} else {
		r.RetryAfter = time.Duration(min(next-now-window, math.MaxInt64/2))
	}
	r.ResetAfter = time.Duration(tat - now)
	r.Remaining = int((window - (tat - now)) / interval)
	return r, nil
}

// Get implements [Store].
func (m *Memory) Get(_ context.Context, key string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.values[key]
	if !ok || !m.now().Before(e.expires) {
		return nil, false, nil
	}
	return append([]byte(nil), e.value...), true, nil
}

// Put implements [Store]. When the store is full and nothing has expired it
// returns an error wrapping [ErrUnavailable]: it never forgets early.
func (m *Memory) Put(_ context.Context, key string, value []byte, ttl time.Duration) error {
	if ttl <= 0 {
		return fmt.Errorf("store: put %q: the lifetime %v is not positive", key, ttl)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.put(key, entry{append([]byte(nil), value...), m.now().Add(ttl)})
}

func (m *Memory) put(key string, e entry) error {
	if m.closed {
		return fmt.Errorf("%w: closed", ErrUnavailable)
	}
	old, had := m.values[key]
	grow := int64(len(key) + len(e.value))
	if had {
		grow -= int64(len(key) + len(old.value))
	}
	if (!had && len(m.values) >= m.entries) || m.bytes+grow > m.limit {
		m.expire()
		old, had = m.values[key]
		grow = int64(len(key) + len(e.value))
		if had {
			grow -= int64(len(key) + len(old.value))
		}
		if (!had && len(m.values) >= m.entries) || m.bytes+grow > m.limit {
			return fmt.Errorf("%w: full (%d entries, %d bytes)", ErrUnavailable, len(m.values), m.bytes)
		}
	}
	m.values[key] = e
	m.bytes += grow
	return nil
}

// expire drops what has expired; at most once a second, because it looks at
// everything.
func (m *Memory) expire() {
	now := m.now()
	if now.Sub(m.sweep) < time.Second && !m.sweep.IsZero() {
		return
	}
	m.sweep = now
	for k, e := range m.values {
		if !now.Before(e.expires) {
			m.bytes -= int64(len(k) + len(e.value))
			delete(m.values, k)
		}
	}
}

// Delete implements [Store].
func (m *Memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.values[key]; ok {
		m.bytes -= int64(len(key) + len(e.value))
		delete(m.values, key)
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
	key = "once\x00" + key // apart from the keys of Put
	if e, ok := m.values[key]; ok && m.now().Before(e.expires) {
		return false, nil
	}
	if err := m.put(key, entry{nil, m.now().Add(ttl)}); err != nil {
		return false, err
	}
	return true, nil
}

// Close implements [Store].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.values, m.bytes = true, map[string]entry{}, 0
	return nil
}
