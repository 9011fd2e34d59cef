package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// FollowOptions sets up a [Replica]. The zero value is right.
type FollowOptions struct {
	// Every is how often the store is asked for changes; 0 means 250 ms. A
	// negative one never asks: whoever holds the replica calls Refresh.
	Every time.Duration
	// Entries and Bytes bound the replica; 0 means 256 Ki and 64 MiB.
	Entries int
	Bytes   int64
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// OnChange is called for what became known, one call after another, its
	// own Put and Delete included; nil means nothing is. It must not call the
	// replica.
	OnChange func(Entry)
}

// A Replica holds a folder of a [Store] in this process: bans, sessions that
// were ended. Asking it costs no round trip and cannot fail. It is as old as
// [Replica.Synced] says; when the store is gone it stays what it was last, so
// that no ban ends for that, and what is put meanwhile counts here at once and
// reaches the store when it is back. A store that came back empty gets all of
// it.
type Replica struct {
	store  Store
	folder string
	o      FollowOptions
	local  *Memory
	stop   context.CancelFunc
	done   chan struct{}

	refreshing sync.Mutex    // one Refresh at a time
	paying     chan struct{} // holds the one token: changes reach the store in their order

	mu     sync.Mutex
	at     string          // position in the changes, "" before the first scan
	synced time.Time       // when the store was last asked with success
	err    error           // of the last try, nil after one that worked
	owed   map[string]owed // own changes the store has not taken
	debts  uint64          // numbers them
	// touched are the keys changed here since the refresh that runs began:
	// what it reads about them may be older. nil when none runs.
	touched map[string]bool
	// partial is set while the store has entries that did not fit here: for
	// those it is asked. scanned is when all of it was last read.
	partial atomic.Bool
	missed  uint64 // counts them
	scanned time.Time
}

type owed struct {
	number uint64
	until  time.Time // when it does not matter any more
}

// Follow returns the replica of a folder ("ban/"). It asks the store once
// before it returns; when that fails the replica is empty, [Replica.Synced]
// says so, and asking goes on.
func Follow(s Store, folder string, o FollowOptions) *Replica {
	if o.Every == 0 {
		o.Every = 250 * time.Millisecond
	}
	if o.Entries <= 0 {
		o.Entries = 256 << 10
	}
	if o.Bytes <= 0 {
		o.Bytes = 64 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Replica{
		store: s, folder: folder, o: o, done: make(chan struct{}), owed: map[string]owed{}, paying: make(chan struct{}, 1),
		local: NewMemory(MemoryOptions{Buckets: 1, Entries: o.Entries, Bytes: o.Bytes, Now: o.Now}),
	}
	r.paying <- struct{}{}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	_ = r.refreshWithin(ctx)
	if o.Every < 0 {
		close(r.done)
		return r
	}
	go func() {
		defer close(r.done)
		tick := time.NewTicker(o.Every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = r.refreshWithin(ctx)
			}
		}
	}()
	return r
}

// refreshMost bounds one refresh: a store that hangs is asked again, not
// waited for.
const refreshMost = 5 * time.Second

// rescanEvery is how often a store that did not fit is read anew.
const rescanEvery = time.Minute

func (r *Replica) refreshWithin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, refreshMost)
	defer cancel()
	return r.Refresh(ctx)
}

// Get returns the value under key, if it is known and has not expired.
func (r *Replica) Get(key string) (value []byte, ok bool) {
	value, ok, _ = r.local.Get(context.Background(), key)
	return value, ok
}

// Find is Get that also finds what did not fit into the replica, by asking the
// store: an error then means that it is not known whether there is a value.
func (r *Replica) Find(ctx context.Context, key string) (value []byte, ok bool, err error) {
	if value, ok = r.Get(key); ok || !r.partial.Load() {
		return value, ok, nil
	}
	return r.store.Get(ctx, key)
}

// Partial reports whether the store has entries that did not fit here.
func (r *Replica) Partial() bool { return r.partial.Load() }

// Has reports whether there is a value under key. It allocates nothing.
func (r *Replica) Has(key string) bool {
	r.local.mu.Lock()
	defer r.local.mu.Unlock()
	return r.local.get(r.local.now(), key) != nil
}

// Len returns how many entries are known; some may have expired.
func (r *Replica) Len() int {
	r.local.mu.Lock()
	defer r.local.mu.Unlock()
	return len(r.local.values)
}

// Range calls visit for what is known, until it returns false.
func (r *Replica) Range(visit func(Entry) bool) {
	_ = r.local.Scan(context.Background(), r.folder, visit)
}

// Put stores a value here and in the store, and waits until it is safe there
// ([Store.Sync]). After an error it counts here all the same, and the store
// gets it as soon as it takes it; unless there is no room here: then it is in
// the store alone, where Find looks, or after an error nowhere.
func (r *Replica) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if Folder(key) != r.folder {
		return fmt.Errorf("store: %q is not in %s", key, r.folder)
	}
	r.mu.Lock()
	if err := r.local.Put(ctx, key, value, ttl); err != nil {
		if !errors.Is(err, ErrFull) {
			r.mu.Unlock()
			return err
		}
		r.misses(ctx, Entry{key, value, ttl})
		delete(r.owed, key) // what is owed is read here
		if r.touched != nil {
			r.touched[key] = true
		}
		r.mu.Unlock()
		if err := r.store.Put(ctx, key, value, ttl); err != nil {
			return err
		}
		return r.store.Sync(ctx)
	}
	r.owe(key, ttl)
	r.tell(Entry{key, value, ttl})
	r.mu.Unlock()
	return r.pay(ctx, key)
}

// misses takes note of an entry for which there is no room.
func (r *Replica) misses(ctx context.Context, e Entry) {
	_ = r.local.Delete(ctx, e.Key) // an older value must not answer
	r.missed++
	r.partial.Store(true)
	r.tell(e)
}

// Delete removes a key here and in the store, as Put stores one.
func (r *Replica) Delete(ctx context.Context, key string) error {
	if Folder(key) != r.folder {
		return fmt.Errorf("store: %q is not in %s", key, r.folder)
	}
	r.mu.Lock()
	_ = r.local.Delete(ctx, key)
	r.owe(key, owedDeletion)
	r.tell(Entry{Key: key})
	r.mu.Unlock()
	return r.pay(ctx, key)
}

// owedDeletion is how long a deletion that the store did not take is tried.
const owedDeletion = 24 * time.Hour

func (r *Replica) owe(key string, ttl time.Duration) {
	r.debts++
	r.owed[key] = owed{r.debts, r.o.Now().Add(ttl)}
	if r.touched != nil {
		r.touched[key] = true
	}
}

func (r *Replica) tell(e Entry) {
	if r.o.OnChange != nil {
		r.o.OnChange(e)
	}
}

// pay gives the store what it is owed for the keys.
func (r *Replica) pay(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	select {
	case <-r.paying:
		defer func() { r.paying <- struct{}{} }()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	for _, key := range keys {
		r.mu.Lock()
		debt, owed := r.owed[key]
		now := r.o.Now()
		e := r.local.entry(key)
		r.mu.Unlock()
		if !owed {
			continue // somebody else paid
		}
		var err error
		if e == nil {
			err = r.store.Delete(ctx, key)
		} else {
			err = r.store.Put(ctx, key, e.value, e.expires.Sub(now))
		}
		if err != nil && now.Before(debt.until) {
			return err
		}
		r.mu.Lock()
		// It may have been changed meanwhile, and then that is owed.
		if r.owed[key] == debt {
			delete(r.owed, key)
		}
		r.mu.Unlock()
	}
	return r.store.Sync(ctx)
}

// entry returns the living entry under key, or nil.
func (m *Memory) entry(key string) *entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.get(m.now(), key)
}

// Refresh asks the store for what changed. It is called by itself.
func (r *Replica) Refresh(ctx context.Context) error {
	r.refreshing.Lock()
	defer r.refreshing.Unlock()
	begin := r.o.Now()
	r.mu.Lock()
	r.touched = map[string]bool{}
	r.mu.Unlock()
	err := r.refresh(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.touched = nil
	if r.err = err; err == nil {
		r.synced = begin
	}
	return err
}

func (r *Replica) refresh(ctx context.Context) error {
	r.mu.Lock()
	at := r.at
	keys := slices.Collect(maps.Keys(r.owed))
	r.mu.Unlock()
	if err := r.pay(ctx, keys...); err != nil {
		return err
	}
	reset := false
	if r.partial.Load() && r.o.Now().Sub(r.scanned) > rescanEvery {
		at = "" // there may be room by now
	}
	for at != "" {
		changes, next, err := r.store.Changes(ctx, r.folder, at)
		if errors.Is(err, ErrLost) {
			at, reset = "", errors.Is(err, ErrReset)
			break
		}
		if err != nil {
			return err
		}
		for _, e := range changes {
			if err := r.learn(ctx, e); err != nil {
				return err
			}
		}
		r.mu.Lock()
		r.at, at = next, next
		r.mu.Unlock()
		if len(changes) == 0 {
			return nil
		}
	}
	// Anew: the position first, so that nothing falls between the two.
	_, next, err := r.store.Changes(ctx, r.folder, "")
	if err != nil {
		return err
	}
	r.mu.Lock()
	missed := r.missed
	r.mu.Unlock()
	seen := map[string]bool{}
	var failed error
	if err := r.store.Scan(ctx, r.folder, func(e Entry) bool {
		seen[e.Key] = true
		failed = r.learn(ctx, e)
		return failed == nil
	}); err != nil || failed != nil {
		r.partial.Store(true) // of what was not read nothing is known
		return errors.Join(err, failed)
	}
	r.scanned = r.o.Now()
	r.mu.Lock()
	r.partial.Store(r.missed != missed)
	r.mu.Unlock()
	var gone []Entry
	r.Range(func(e Entry) bool {
		if !seen[e.Key] {
			gone = append(gone, e)
		}
		return true
	})
	for _, e := range gone {
		if reset {
			// It was not deleted, the store forgot it: here it is again.
			r.mu.Lock()
			if _, owed := r.owed[e.Key]; !owed {
				r.owe(e.Key, e.TTL)
			}
			r.mu.Unlock()
		} else if err := r.learn(ctx, Entry{Key: e.Key}); err != nil {
			return err
		}
	}
	if reset {
		r.mu.Lock()
		keys := slices.Collect(maps.Keys(r.owed))
		r.mu.Unlock()
		if err := r.pay(ctx, keys...); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.at = next
	r.mu.Unlock()
	return nil
}

// learn takes over what the store says, unless what was said here is newer:
// the store has yet to take it, or the next refresh will read it.
func (r *Replica) learn(ctx context.Context, e Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, owed := r.owed[e.Key]; owed || r.touched[e.Key] {
		return nil
	}
	old := r.local.entry(e.Key)
	if e.TTL <= 0 {
		if old != nil {
			_ = r.local.Delete(ctx, e.Key)
			r.tell(e)
		}
		return nil
	}
	if err := r.local.Put(ctx, e.Key, e.Value, e.TTL); err != nil {
		if !errors.Is(err, ErrFull) {
			return fmt.Errorf("%s does not fit into memory: %w", r.folder, err)
		}
		r.misses(ctx, e)
		return nil
	}
	if old == nil || string(old.value) != string(e.Value) {
		r.tell(e)
	}
	return nil
}

// Synced returns when the store was last asked with success (the zero time:
// never), how many changes it has yet to take, and the error of the last try,
// nil when that worked.
func (r *Replica) Synced() (at time.Time, owed int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.synced, len(r.owed), r.err
}

// Close ends the asking. What is known stays.
func (r *Replica) Close() error {
	r.stop()
	<-r.done
	return nil
}
