package store

import (
	"container/heap"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"sort"
	"strconv"
	"strings"
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
	folders map[string]*folder
	expiry  expiryHeap
	bytes   int64
	entries int
	limit   int64
	// changes counts what happened in any folder; name tells its numbers from
	// those of another store.
	changes uint64
	name    string
	// forgot is the number of the last change of a folder that is gone whole.
	forgot uint64
}

// folder lists the values below one first part of a key, and what changed
// last.
type folder struct {
	entries []*entry
	log     []change // a ring, the oldest at next once it is full
	next    int
	forgot  uint64 // the number of the last change that was overwritten
}

type change struct {
	number uint64
	key    string
}

const (
	// folderLog is how many changes a folder remembers: a follower that asks
	// five times a second is not lost below 20,000 changes a second.
	folderLog = 4096
	// changesAtOnce is how many a call of Changes returns.
	changesAtOnce = 512
)

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

// entry is never changed but for at and place: a value that is put again is
// another entry, so that a list of them is a snapshot.
type entry struct {
	valueKey
	value   []byte
	expires time.Time
	at      int // index in the heap
	place   int // index in its folder
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
		values: map[valueKey]*entry{}, folders: map[string]*folder{}, entries: o.Entries, limit: o.Bytes, name: rand.Text()[:8],
	}
}

// unlimited is the answer under the zero rate.
var unlimited = Result{Allowed: true, Limit: math.MaxInt, Remaining: math.MaxInt}

// Allow implements [Store].
func (m *Memory) Allow(_ context.Context, key string, rate Rate, cost int) (Result, error) {
	if m.closed.Load() {
		return Result{}, errClosed
	}
	l, err := rate.Limit(cost)
	if err != nil || l.IsZero() {
		return unlimited.or(err), err
	}
	return m.take(key, l, cost), nil
}

func (r Result) or(err error) Result {
	if err != nil {
		return Result{}
	}
	return r
}

// AllowMany implements [Store].
func (m *Memory) AllowMany(_ context.Context, takes []Take) ([]Result, error) {
	if m.closed.Load() {
		return nil, errClosed
	}
	for _, t := range takes {
		if _, err := t.Rate.Limit(t.Cost); err != nil {
			return nil, err
		}
	}
	out := make([]Result, len(takes))
	for i, t := range takes {
		out[i] = unlimited
		if l, _ := t.Rate.Limit(t.Cost); !l.IsZero() {
			out[i] = m.take(t.Key, l, t.Cost)
		}
	}
	return out, nil
}

func (m *Memory) take(key string, l Limit, cost int) Result {
	interval, full := int64(l.Interval), int64(l.Full)
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
	r := Result{Allowed: next-now <= full, Limit: l.Burst}
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
	return r
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
	e := m.get(m.now(), key)
	if e == nil {
		return nil, false, nil
	}
	return append([]byte(nil), e.value...), true, nil
}

// get returns the living entry, or nil.
func (m *Memory) get(now time.Time, key string) *entry {
	if e := m.values[valueKey{key: key}]; e != nil && now.Before(e.expires) {
		return e
	}
	return nil
}

// GetMany implements [Store].
func (m *Memory) GetMany(_ context.Context, keys []string) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return nil, errClosed
	}
	now := m.now()
	out := make([][]byte, len(keys))
	for i, key := range keys {
		if e := m.get(now, key); e != nil {
			out[i] = append([]byte{}, e.value...)
		}
	}
	return out, nil
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

// Update implements [Store]. change runs while nobody else can use the store.
func (m *Memory) Update(_ context.Context, key string, change func(old []byte, ok bool) ([]byte, time.Duration, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return errClosed
	}
	now := m.now()
	var old []byte
	e := m.get(now, key)
	if e != nil {
		old = e.value
	}
	value, ttl, err := change(old, e != nil)
	switch {
	case errors.Is(err, ErrKeep):
		return nil
	case err != nil:
		return err
	case ttl < 0:
		return fmt.Errorf("store: update %q: the lifetime %v is negative", key, ttl)
	case ttl == 0:
		m.delete(key)
		return nil
	}
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
		return fmt.Errorf("%w: (%d entries, %d bytes)", ErrFull, len(m.values), m.bytes)
	}
	if old := m.values[e.valueKey]; old != nil {
		m.remove(old)
	}
	m.values[e.valueKey] = e
	heap.Push(&m.expiry, e)
	m.bytes += e.size()
	if f := m.folderOf(e.valueKey, true); f != nil {
		e.place = len(f.entries)
		f.entries = append(f.entries, e)
		m.changed(f, e.key)
	}
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
	if f := m.folderOf(e.valueKey, false); f != nil {
		last := f.entries[len(f.entries)-1]
		f.entries[e.place], last.place = last, e.place
		f.entries[len(f.entries)-1] = nil
		f.entries = f.entries[:len(f.entries)-1]
	}
}

// maxFolders bounds the folders there are: they are words of the program's,
// and should a client find a way to name some it must not cost memory.
const maxFolders = 256

// folderOf returns the folder of a key, or nil when it is in none.
func (m *Memory) folderOf(k valueKey, make bool) *folder {
	name := Folder(k.key)
	if name == "" || k.once {
		return nil
	}
	f := m.folders[name]
	if f == nil && make {
		for other, f := range m.folders {
			if len(m.folders) < maxFolders {
				break
			}
			if len(f.entries) == 0 {
				delete(m.folders, other)
				m.forgot = m.changes
			}
		}
		f = &folder{forgot: m.forgot}
		m.folders[name] = f
	}
	return f
}

// changed writes a change to the folder's log.
func (m *Memory) changed(f *folder, key string) {
	m.changes++
	c := change{m.changes, key}
	if len(f.log) < folderLog {
		f.log = append(f.log, c)
		return
	}
	f.forgot = f.log[f.next].number
	f.log[f.next] = c
	f.next = (f.next + 1) % folderLog
}

// Delete implements [Store].
func (m *Memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return errClosed
	}
	m.delete(key)
	return nil
}

func (m *Memory) delete(key string) {
	if e := m.values[valueKey{key: key}]; e != nil {
		m.remove(e)
		if f := m.folderOf(e.valueKey, false); f != nil {
			m.changed(f, key)
		}
	}
}

// Scan implements [Store]. What it visits is what was there when it began.
func (m *Memory) Scan(ctx context.Context, prefix string, visit func(Entry) bool) error {
	name, err := checkFolder("scan", prefix)
	if err != nil {
		return err
	}
	m.mu.Lock()
	if m.closed.Load() {
		m.mu.Unlock()
		return errClosed
	}
	var entries []*entry
	if f := m.folders[name]; f != nil {
		entries = slices.Clone(f.entries)
	}
	m.mu.Unlock()
	for i, e := range entries {
		if i%1024 == 0 && ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
		if !strings.HasPrefix(e.key, prefix) {
			continue
		}
		if left := e.expires.Sub(m.now()); left > 0 && !visit(Entry{e.key, append([]byte{}, e.value...), left}) {
			return nil
		}
	}
	return nil
}

// Changes implements [Store].
func (m *Memory) Changes(_ context.Context, folderName, after string) ([]Entry, string, error) {
	if name, err := checkFolder("changes", folderName); err != nil || name != folderName {
		return nil, "", fmt.Errorf("store: changes: %q is no folder", folderName)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return nil, "", errClosed
	}
	at := func(n uint64) string { return m.name + "-" + strconv.FormatUint(n, 10) }
	if after == "" {
		return nil, at(m.changes), nil
	}
	name, number, _ := strings.Cut(after, "-")
	from, err := strconv.ParseUint(number, 10, 64)
	if err != nil || name != m.name || from > m.changes {
		return nil, "", fmt.Errorf("store: changes of %s: %w", folderName, ErrReset)
	}
	f := m.folders[folderName]
	if forgot := m.forgot; f == nil && from < forgot || f != nil && from < f.forgot {
		return nil, "", fmt.Errorf("store: changes of %s: %w", folderName, ErrLost)
	}
	if f == nil {
		return nil, at(m.changes), nil
	}
	now, next := m.now(), m.changes
	var out []Entry
	seen := map[string]bool{}
	first := sort.Search(len(f.log), func(i int) bool { return f.log[(f.next+i)%len(f.log)].number > from })
	for i := first; i < len(f.log); i++ {
		c := f.log[(f.next+i)%len(f.log)]
		if len(out) == changesAtOnce {
			next = c.number - 1
			break
		}
		if seen[c.key] {
			continue
		}
		seen[c.key] = true
		e := Entry{Key: c.key}
		if v := m.get(now, c.key); v != nil {
			e.Value, e.TTL = append([]byte{}, v.value...), v.expires.Sub(now)
		}
		out = append(out, e)
	}
	return out, at(next), nil
}

// A Record is one value of a [Memory] as something that keeps it elsewhere,
// too, reads and writes it.
type Record struct {
	Once    bool // a name of Once, not a value
	Key     string
	Value   []byte
	Expires time.Time // the zero time: there is none
}

// Record returns what is under a key, and ok == false when there is nothing.
func (m *Memory) Record(once bool, key string) (r Record, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r = Record{Once: once, Key: key}
	e := m.values[valueKey{once, key}]
	if e == nil || !m.now().Before(e.expires) {
		return r, false
	}
	r.Value, r.Expires = append([]byte{}, e.value...), e.expires
	return r, true
}

// Apply makes what is under a key what the record says. It fails like Put.
func (m *Memory) Apply(r Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return errClosed
	}
	now := m.now()
	k := valueKey{r.Once, r.Key}
	if now.Before(r.Expires) {
		return m.put(now, &entry{valueKey: k, value: append([]byte(nil), r.Value...), expires: r.Expires})
	}
	if e := m.values[k]; e != nil {
		m.remove(e)
		if f := m.folderOf(k, false); f != nil {
			m.changed(f, r.Key)
		}
	}
	return nil
}

// Records returns all there is, with values that must not be changed.
func (m *Memory) Records() []Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Record, 0, len(m.values))
	now := m.now()
	for k, e := range m.values {
		if now.Before(e.expires) {
			out = append(out, Record{k.once, k.key, e.value, e.expires})
		}
	}
	return out
}

// Sync implements [Store]. A crash takes everything, whatever one waits for.
func (m *Memory) Sync(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return errClosed
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
	m.values, m.folders, m.expiry, m.bytes = nil, nil, nil, 0
	return nil
}
