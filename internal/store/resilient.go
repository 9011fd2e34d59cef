package store

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Gone says what a limit does while the store is gone. A limiter that fails
// must neither stop the site nor open it.
type Gone uint8

const (
	// Share is the zero value: this node allows its share of the rate, the
	// rate divided by [ResilientOptions.Nodes].
	Share Gone = iota
	// Tighten allows half of that: for logins and resets, where the time
	// without a common count is when one would guess.
	Tighten
	// Refuse allows nothing.
	Refuse
	// Pass allows everything.
	Pass
)

var goneNames = [...]string{"share", "tighten", "refuse", "pass"}

// String returns the word for g in settings.
func (g Gone) String() string {
	if int(g) < len(goneNames) {
		return goneNames[g]
	}
	return fmt.Sprintf("Gone(%d)", uint8(g))
}

// MarshalText implements [encoding.TextMarshaler].
func (g Gone) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (g *Gone) UnmarshalText(b []byte) error {
	for i, name := range goneNames {
		if string(b) == name {
			*g = Gone(i)
			return nil
		}
	}
	return fmt.Errorf("%q is none of share, tighten, refuse, pass", b)
}

// limit returns what a node allows of l on its own.
func (g Gone) limit(l Limit, nodes int) Limit {
	if g == Tighten {
		nodes *= 2
	}
	n := time.Duration(max(nodes, 1))
	if l.Interval > (1<<62)/n {
		n = 1
	}
	out := Limit{Interval: l.Interval * n, Burst: max(l.Burst/int(n), 1)}
	out.Full = out.Interval * time.Duration(out.Burst)
	return out
}

// ResilientOptions sets up [Resilient]. The zero value is right for one node.
type ResilientOptions struct {
	// Nodes is how many guards share the store; 0 means 1.
	Nodes int
	// Cool is how long a store that failed is left alone before it is tried
	// again, doubled with each failure up to CoolMost; 0 means 500 ms and
	// 15 s.
	Cool, CoolMost time.Duration
	// Failed is why the store did not answer before: it begins left alone.
	Failed error
	// OnChange is called when the store goes (with the error) and when it is
	// back (with nil). It must not call the store.
	OnChange func(err error)
	// Local bounds what counts while the store is gone.
	Local MemoryOptions
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// ResilientStore is a store that may be gone. Make one with [Resilient].
type ResilientStore struct {
	Store // the store itself
	o     ResilientOptions
	local *Memory
	over  overs
	stop  chan struct{}
	once  sync.Once
	probe sync.WaitGroup

	open    atomic.Pointer[error] // what calls get while the store is left alone; nil while it is used
	mu      sync.Mutex
	since   time.Time // when that began
	full    error     // the last answer of a full store, nil after one that took something
	history uint32    // the last calls, a 1 for each that failed
	row     int       // failures in a row

	calls, failed, fallbacks, short, opened atomic.Uint64
}

// Resilient wraps a store behind a network. It adds what such a store cannot
// do for itself:
//
// A circuit breaker: after three calls in a row that failed, or ten of the
// last 32, no call reaches the store, until one that no request waits for
// has. So a store that hangs costs a few requests one time-out each, and the
// others nothing.
//
// Limits without the store: Allow and AllowMany never fail for the store's
// sake. They go on with local buckets as [Take.Gone] says, which count along
// while the store is there, so that nobody begins anew.
//
// A short cut: a client that the store has refused is refused here until its
// time comes, for up to a second without asking.
func Resilient(s Store, o ResilientOptions) *ResilientStore {
	if o.Nodes <= 0 {
		o.Nodes = 1
	}
	if o.Cool <= 0 {
		o.Cool = 500 * time.Millisecond
	}
	if o.CoolMost <= 0 {
		o.CoolMost = 15 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Local.Buckets <= 0 {
		o.Local.Buckets = 1 << 19
	}
	o.Local.Now = o.Now
	r := &ResilientStore{Store: s, o: o, local: NewMemory(o.Local), over: newOvers(o.Now()), stop: make(chan struct{})}
	if o.Failed != nil {
		if !errors.Is(o.Failed, ErrUnavailable) {
			o.Failed = fmt.Errorf("%w: %w", ErrUnavailable, o.Failed)
		}
		r.row = failuresInRow
		r.note(o.Failed)
	}
	return r
}

const (
	failuresInRow  = 3
	failuresOfLast = 10 // of 32
	// overMost bounds how long a refusal is believed: units may be given back
	// on another node.
	overMost = time.Second
)

// do runs a call, if the store is in use, and learns from it.
func (r *ResilientStore) do(ctx context.Context, call func() error) error {
	if err := r.open.Load(); err != nil {
		return *err
	}
	r.calls.Add(1)
	err := call()
	switch {
	case errors.Is(err, ErrFull):
		r.mu.Lock()
		r.full = err
		r.mu.Unlock()
		r.note(nil)
	case errors.Is(err, ErrContended):
		// That says nothing about the store either.
	case errors.Is(err, ErrUnavailable):
		// A caller that hung up says nothing about the store.
		if !errors.Is(ctx.Err(), context.Canceled) {
			r.note(err)
		}
	default:
		r.note(nil)
	}
	return err
}

func (r *ResilientStore) note(err error) {
	r.mu.Lock()
	if err == nil {
		r.history, r.row = r.history<<1, 0
		r.mu.Unlock()
		return
	}
	r.failed.Add(1)
	r.history, r.row = r.history<<1|1, r.row+1
	if r.open.Load() != nil || r.row < failuresInRow && bits.OnesCount32(r.history) < failuresOfLast {
		r.mu.Unlock()
		return
	}
	select {
	case <-r.stop:
		r.mu.Unlock()
		return
	default:
	}
	wrapped := fmt.Errorf("not asked, it failed before: %w", err)
	r.open.Store(&wrapped)
	r.since = r.o.Now()
	r.opened.Add(1)
	r.probe.Add(1)
	r.mu.Unlock()
	if r.o.OnChange != nil {
		r.o.OnChange(err)
	}
	go r.wait()
}

// wait tries the store until it answers.
func (r *ResilientStore) wait() {
	defer r.probe.Done()
	for cool := r.o.Cool; ; cool = min(2*cool, r.o.CoolMost) {
		select {
		case <-r.stop:
			return
		case <-time.After(cool/2 + rand.N(cool)): // nodes do not come all at once
		}
		ctx, cancel := context.WithTimeout(context.Background(), refreshMost)
		err := r.Store.Sync(ctx)
		cancel()
		if err != nil {
			wrapped := fmt.Errorf("not asked, it failed before: %w", err)
			r.open.Store(&wrapped)
			continue
		}
		r.mu.Lock()
		r.history, r.row = 0, 0
		r.open.Store(nil)
		r.mu.Unlock()
		if r.o.OnChange != nil {
			r.o.OnChange(nil)
		}
		return
	}
}

// Allow implements [Store], with [Share] while the store is gone.
func (r *ResilientStore) Allow(ctx context.Context, key string, rate Rate, cost int) (Result, error) {
	l, err := rate.Limit(cost)
	if err != nil || l.IsZero() {
		return unlimited.or(err), err
	}
	t := Take{Key: key, Rate: rate, Cost: cost}
	if res, ok := r.over.get(r.o.Now(), t, l); ok {
		r.short.Add(1)
		return res, nil
	}
	var res Result
	err = r.do(ctx, func() (err error) { res, err = r.Store.Allow(ctx, key, rate, cost); return err })
	return r.settle(t, l, res, err)
}

// AllowMany implements [Store].
func (r *ResilientStore) AllowMany(ctx context.Context, takes []Take) ([]Result, error) {
	out := make([]Result, len(takes))
	limits := make([]Limit, len(takes))
	asked := make([]Take, 0, len(takes))
	places := make([]int, 0, len(takes))
	now := r.o.Now()
	for i, t := range takes {
		var err error
		if limits[i], err = t.Rate.Limit(t.Cost); err != nil {
			return nil, err
		}
	}
	for i, t := range takes {
		if limits[i].IsZero() {
			out[i] = unlimited
		} else if res, ok := r.over.get(now, t, limits[i]); ok {
			r.short.Add(1)
			out[i] = res
		} else {
			asked, places = append(asked, t), append(places, i)
		}
	}
	if len(asked) == 0 {
		return out, nil
	}
	var got []Result
	err := r.do(ctx, func() (err error) { got, err = r.Store.AllowMany(ctx, asked); return err })
	for n, i := range places {
		var res Result
		if err == nil {
			res = got[n]
		}
		var failed error
		if out[i], failed = r.settle(asked[n], limits[i], res, err); failed != nil {
			return nil, failed
		}
	}
	return out, nil
}

// settle makes of the store's answer the caller's.
func (r *ResilientStore) settle(t Take, l Limit, res Result, err error) (Result, error) {
	if err != nil && !errors.Is(err, ErrUnavailable) || r.local.closed.Load() {
		return Result{}, errors.Join(err, r.localError())
	}
	mine := t.Gone.limit(l, r.o.Nodes)
	cost := min(t.Cost, mine.Burst)
	if err == nil {
		if t.Cost < 0 {
			r.over.forget(t, l)
		} else if !res.Allowed {
			r.over.put(r.o.Now(), t, l, res)
		}
		if res.Allowed && t.Cost != 0 {
			r.local.take(t.Key, mine, cost)
		}
		return res, nil
	}
	r.fallbacks.Add(1)
	switch t.Gone {
	case Pass:
		return Result{Allowed: true, Limit: l.Burst, Remaining: l.Burst}, nil
	case Refuse:
		if t.Cost > 0 {
			return Result{Limit: l.Burst, RetryAfter: r.o.CoolMost, ResetAfter: r.o.CoolMost}, nil
		}
	}
	res = r.local.take(t.Key, mine, cost)
	res.Limit = l.Burst
	return res, nil
}

func (r *ResilientStore) localError() error {
	if r.local.closed.Load() {
		return errClosed
	}
	return nil
}

// Get implements [Store].
func (r *ResilientStore) Get(ctx context.Context, key string) (value []byte, ok bool, err error) {
	err = r.do(ctx, func() (err error) { value, ok, err = r.Store.Get(ctx, key); return err })
	return value, ok, err
}

// GetMany implements [Store].
func (r *ResilientStore) GetMany(ctx context.Context, keys []string) (values [][]byte, err error) {
	err = r.do(ctx, func() (err error) { values, err = r.Store.GetMany(ctx, keys); return err })
	return values, err
}

// Put implements [Store].
func (r *ResilientStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return r.taken(r.do(ctx, func() error { return r.Store.Put(ctx, key, value, ttl) }))
}

// Update implements [Store].
func (r *ResilientStore) Update(ctx context.Context, key string, change func(old []byte, ok bool) ([]byte, time.Duration, error)) error {
	var own error // of change: whatever it is, it is not the store's
	err := r.do(ctx, func() error {
		err := r.Store.Update(ctx, key, func(old []byte, ok bool) ([]byte, time.Duration, error) {
			value, ttl, err := change(old, ok)
			own = err
			return value, ttl, err
		})
		if own != nil && !errors.Is(own, ErrKeep) && errors.Is(err, own) {
			return nil
		}
		own = nil
		return err
	})
	if own != nil {
		return own
	}
	return err
}

// Delete implements [Store].
func (r *ResilientStore) Delete(ctx context.Context, key string) error {
	return r.do(ctx, func() error { return r.Store.Delete(ctx, key) })
}

// Once implements [Store].
func (r *ResilientStore) Once(ctx context.Context, key string, ttl time.Duration) (first bool, err error) {
	err = r.do(ctx, func() (err error) { first, err = r.Store.Once(ctx, key, ttl); return err })
	return first, r.taken(err)
}

// taken notices that a full store is not full any more.
func (r *ResilientStore) taken(err error) error {
	if err == nil {
		r.mu.Lock()
		r.full = nil
		r.mu.Unlock()
	}
	return err
}

// Scan implements [Store].
func (r *ResilientStore) Scan(ctx context.Context, prefix string, visit func(Entry) bool) error {
	return r.do(ctx, func() error { return r.Store.Scan(ctx, prefix, visit) })
}

// Changes implements [Store].
func (r *ResilientStore) Changes(ctx context.Context, folder, after string) (changes []Entry, next string, err error) {
	err = r.do(ctx, func() (err error) { changes, next, err = r.Store.Changes(ctx, folder, after); return err })
	return changes, next, err
}

// Sync implements [Store].
func (r *ResilientStore) Sync(ctx context.Context) error {
	return r.do(ctx, func() error { return r.Store.Sync(ctx) })
}

// Close closes the store.
func (r *ResilientStore) Close() error {
	r.once.Do(func() {
		r.mu.Lock()
		close(r.stop)
		r.mu.Unlock()
		_ = r.local.Close()
	})
	r.probe.Wait()
	closed := errClosed
	r.open.Store(&closed)
	return r.Store.Close()
}

// Health returns nil while the store is used and takes what it is given.
func (r *ResilientStore) Health() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.open.Load(); err != nil {
		return fmt.Errorf("gone since %s, limits are this node's own (1 of %d), bans and ended sessions those known before: %w", r.since.UTC().Format(time.RFC3339), r.o.Nodes, *err)
	}
	return r.full
}

// Status is what a [ResilientStore] counted.
type Status struct {
	Up        bool   // the store is used
	Calls     uint64 // that reached it
	Failed    uint64 // of those
	Fallbacks uint64 // limits that were decided without it
	Short     uint64 // limits that needed not ask it
	Opened    uint64 // how often it was given up
}

// Status returns what was counted since the start.
func (r *ResilientStore) Status() Status {
	return Status{
		Up: r.open.Load() == nil, Calls: r.calls.Load(), Failed: r.failed.Load(),
		Fallbacks: r.fallbacks.Load(), Short: r.short.Load(), Opened: r.opened.Load(),
	}
}

// overs remembers buckets that are over their limit: a fixed table, in which a
// newer one takes the place of the one that ends first.
type overs struct {
	seed  maphash.Seed
	epoch time.Time
	sets  []overSet
}

const (
	overSets = 4096
	overWays = 4
)

type overSet struct {
	mu   sync.Mutex
	ways [overWays]over
}

type over struct {
	tag       uint64 // 0 is none
	at, until time.Duration
	cost      int
	result    Result
}

func newOvers(now time.Time) overs {
	return overs{seed: maphash.MakeSeed(), epoch: now, sets: make([]overSet, overSets)}
}

func (o *overs) set(t Take, l Limit) (*overSet, uint64) {
	var h maphash.Hash
	h.SetSeed(o.seed)
	h.WriteString(t.Key)
	maphash.WriteComparable(&h, l)
	sum := h.Sum64()
	return &o.sets[sum%overSets], sum | 1
}

// get returns the refusal that is known to come.
func (o *overs) get(now time.Time, t Take, l Limit) (Result, bool) {
	if t.Cost <= 0 {
		return Result{}, false
	}
	s, tag := o.set(t, l)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := now.Sub(o.epoch)
	for i := range s.ways {
		w := &s.ways[i]
		if w.tag == tag && at < w.until && t.Cost >= w.cost {
			r, age := w.result, max(at-w.at, 0)
			// What costs more has to wait longer; how much is not known to
			// the unit when other units were taken meanwhile, but no less.
			r.RetryAfter += time.Duration(t.Cost-w.cost)*l.Interval - age
			r.ResetAfter = max(r.ResetAfter-age, 0)
			return r, true
		}
	}
	return Result{}, false
}

func (o *overs) put(now time.Time, t Take, l Limit, r Result) {
	s, tag := o.set(t, l)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := now.Sub(o.epoch)
	best := 0
	for i := range s.ways {
		if s.ways[i].tag == tag {
			best = i
			break
		}
		if s.ways[i].until < s.ways[best].until {
			best = i
		}
	}
	s.ways[best] = over{tag, at, at + min(r.RetryAfter, overMost), t.Cost, r}
}

func (o *overs) forget(t Take, l Limit) {
	s, tag := o.set(t, l)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.ways {
		if s.ways[i].tag == tag {
			s.ways[i] = over{}
		}
	}
}
