package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/store"
)

// flaky is a store that is gone while gone is set.
type flaky struct {
	store.Store
	gone     atomic.Bool
	calls    atomic.Int64
	onChange func() // after the changes were read
}

func (f *flaky) down() error {
	f.calls.Add(1)
	if f.gone.Load() {
		return fmt.Errorf("%w: pulled out", store.ErrUnavailable)
	}
	return nil
}

func (f *flaky) Allow(ctx context.Context, key string, r store.Rate, cost int) (store.Result, error) {
	if err := f.down(); err != nil {
		return store.Result{}, err
	}
	return f.Store.Allow(ctx, key, r, cost)
}

func (f *flaky) Put(ctx context.Context, key string, v []byte, ttl time.Duration) error {
	return errors.Join(f.down(), f.unless(func() error { return f.Store.Put(ctx, key, v, ttl) }))
}

func (f *flaky) Delete(ctx context.Context, key string) error {
	return errors.Join(f.down(), f.unless(func() error { return f.Store.Delete(ctx, key) }))
}

func (f *flaky) unless(do func() error) error {
	if f.gone.Load() {
		return nil
	}
	return do()
}

func (f *flaky) Changes(ctx context.Context, folder, after string) ([]store.Entry, string, error) {
	if err := f.down(); err != nil {
		return nil, "", err
	}
	c, next, err := f.Store.Changes(ctx, folder, after)
	if f.onChange != nil {
		f.onChange()
	}
	return c, next, err
}

func (f *flaky) Scan(ctx context.Context, prefix string, visit func(store.Entry) bool) error {
	if err := f.down(); err != nil {
		return err
	}
	return f.Store.Scan(ctx, prefix, visit)
}

// TestReplicaWithoutStore: when the store is gone no ban ends and new ones
// count; when it is back it gets what it missed.
func TestReplicaWithoutStore(t *testing.T) {
	c := newClock()
	f := &flaky{Store: store.NewMemory(store.MemoryOptions{Now: c.Now})}
	r := store.Follow(f, "ban/", store.FollowOptions{Every: -1, Now: c.Now})
	defer r.Close()
	if err := r.Put(ctx, "ban/a", []byte("1"), time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := r.Put(ctx, "ban/b", []byte("1"), time.Hour); err != nil {
		t.Fatal(err)
	}
	f.gone.Store(true)
	if err := r.Put(ctx, "ban/c", []byte("1"), 2*time.Hour); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Put without a store: %v", err)
	}
	if err := r.Delete(ctx, "ban/b"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Delete without a store: %v", err)
	}
	if err := r.Put(ctx, "ban/short", nil, time.Minute); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Put without a store: %v", err)
	}
	if err := r.Refresh(ctx); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Refresh without a store: %v", err)
	}
	if !r.Has("ban/a") || r.Has("ban/b") || !r.Has("ban/c") {
		t.Error("the last known set is not kept")
	}
	if at, owed, err := r.Synced(); owed != 3 || err == nil || !at.Equal(c.Now()) {
		t.Errorf("Synced: %v, %d owed, %v", at, owed, err)
	}
	c.Advance(90 * time.Minute)
	if r.Has("ban/a") || !r.Has("ban/c") {
		t.Error("a ban outlives its term, or ends before it")
	}
	f.gone.Store(false)
	if err := r.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	other := store.Follow(f, "ban/", store.FollowOptions{Every: -1, Now: c.Now})
	defer other.Close()
	if other.Has("ban/b") || !other.Has("ban/c") || other.Has("ban/short") {
		t.Error("the store has not got what it missed")
	}
	var left time.Duration
	other.Range(func(e store.Entry) bool { left = e.TTL; return true })
	if left != 30*time.Minute {
		t.Errorf("the ban has %v left, want 30m", left)
	}
	if at, owed, err := r.Synced(); owed != 0 || err != nil || !at.Equal(c.Now()) {
		t.Errorf("Synced: %v, %d owed, %v", at, owed, err)
	}
}

// TestReplicaStartsWithoutStore: a replica made while the store is gone fills
// when it comes.
func TestReplicaStartsWithoutStore(t *testing.T) {
	f := &flaky{Store: store.NewMemory(store.MemoryOptions{})}
	if err := f.Put(ctx, "ban/a", nil, time.Hour); err != nil {
		t.Fatal(err)
	}
	f.gone.Store(true)
	r := store.Follow(f, "ban/", store.FollowOptions{Every: -1})
	defer r.Close()
	if at, _, err := r.Synced(); !at.IsZero() || err == nil {
		t.Errorf("it says it knows: %v %v", at, err)
	}
	f.gone.Store(false)
	if err := r.Refresh(ctx); err != nil || !r.Has("ban/a") {
		t.Errorf("after the store came: %v", err)
	}
}

// TestReplicaLost: a replica that was away for longer than the store
// remembers changes scans anew, and forgets what was deleted meanwhile.
func TestReplicaLost(t *testing.T) {
	m := store.NewMemory(store.MemoryOptions{})
	r := store.Follow(m, "ban/", store.FollowOptions{Every: -1})
	defer r.Close()
	if err := errors.Join(m.Put(ctx, "ban/a", nil, time.Hour), m.Put(ctx, "ban/b", nil, time.Hour), r.Refresh(ctx)); err != nil {
		t.Fatal(err)
	}
	if !r.Has("ban/a") {
		t.Fatal("not known")
	}
	_ = m.Delete(ctx, "ban/a")
	for i := range 10_000 {
		_ = m.Put(ctx, fmt.Sprint("ban/", i%7), nil, time.Hour)
	}
	if err := r.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if r.Has("ban/a") || !r.Has("ban/b") || !r.Has("ban/6") || r.Len() != 8 {
		t.Errorf("%d known; a: %v", r.Len(), r.Has("ban/a"))
	}
}

// TestReplicaKeepsItsOwn: what is put while a refresh reads is not overwritten
// by what that has read before, neither by changes nor by a scan.
func TestReplicaKeepsItsOwn(t *testing.T) {
	for _, way := range []string{"changes", "scan"} {
		t.Run(way, func(t *testing.T) {
			f := &flaky{Store: store.NewMemory(store.MemoryOptions{})}
			r := store.Follow(f, "ban/", store.FollowOptions{Every: -1})
			defer r.Close()
			if way == "scan" {
				f.gone.Store(true)
				r = store.Follow(f, "ban/", store.FollowOptions{Every: -1})
				defer r.Close()
				f.gone.Store(false)
			}
			if err := f.Put(ctx, "ban/x", []byte("old"), time.Hour); err != nil {
				t.Fatal(err)
			}
			f.onChange = func() {
				f.onChange = nil
				if err := errors.Join(r.Put(ctx, "ban/x", []byte("new"), time.Hour), r.Put(ctx, "ban/y", nil, time.Hour)); err != nil {
					t.Error(err)
				}
			}
			if err := r.Refresh(ctx); err != nil {
				t.Fatal(err)
			}
			if v, _ := r.Get("ban/x"); string(v) != "new" || !r.Has("ban/y") {
				t.Errorf("ban/x is %q, ban/y there: %v", v, r.Has("ban/y"))
			}
			if err := r.Refresh(ctx); err != nil {
				t.Fatal(err)
			}
			if v, _ := r.Get("ban/x"); string(v) != "new" || !r.Has("ban/y") {
				t.Errorf("after another refresh ban/x is %q, ban/y there: %v", v, r.Has("ban/y"))
			}
		})
	}
}

// TestReplicasConverge: two replicas and the store end with the same, while
// both are written to and the store goes and comes.
func TestReplicasConverge(t *testing.T) {
	f := &flaky{Store: store.NewMemory(store.MemoryOptions{})}
	var rs []*store.Replica
	var told [2]map[string]string
	for i := range 2 {
		told[i] = map[string]string{}
		rs = append(rs, store.Follow(f, "ban/", store.FollowOptions{Every: time.Millisecond, OnChange: func(e store.Entry) {
			if told[i][e.Key] = string(e.Value); e.TTL == 0 {
				delete(told[i], e.Key)
			}
		}}))
	}
	var wg sync.WaitGroup
	for i, r := range rs {
		wg.Go(func() {
			for n := range 400 {
				key := fmt.Sprint("ban/", n%13)
				if n%5 == 0 {
					_ = r.Delete(ctx, key)
				} else {
					_ = r.Put(ctx, key, fmt.Append(nil, i, n), time.Hour)
				}
				if i == 0 && n%50 == 0 {
					f.gone.Store(n%100 == 0)
				}
			}
		})
	}
	wg.Wait()
	f.gone.Store(false)
	for range 2 {
		for _, r := range rs {
			if err := r.Refresh(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, r := range rs {
		_ = r.Close()
	}
	want := map[string]string{}
	_ = f.Store.Scan(ctx, "ban/", func(e store.Entry) bool { want[e.Key] = string(e.Value); return true })
	for i, r := range rs {
		got := map[string]string{}
		r.Range(func(e store.Entry) bool { got[e.Key] = string(e.Value); return true })
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("replica %d has %v, the store %v", i, got, want)
		}
		if fmt.Sprint(told[i]) != fmt.Sprint(want) {
			t.Errorf("replica %d told of %v, the store has %v", i, told[i], want)
		}
	}
}

func BenchmarkReplicaHas(b *testing.B) {
	m := store.NewMemory(store.MemoryOptions{})
	for i := range 10_000 {
		_ = m.Put(ctx, fmt.Sprint("ban/192.0.2.", i), nil, time.Hour)
	}
	r := store.Follow(m, "ban/", store.FollowOptions{Every: -1})
	b.ReportAllocs()
	for b.Loop() {
		r.Has("ban/203.0.113.7")
	}
}

// TestReplicaThatIsFull: what does not fit is not forgotten. The store is asked
// for it, and when it is gone that is an error and no "no".
func TestReplicaThatIsFull(t *testing.T) {
	now := time.Now()
	clock := func() time.Time { return now }
	f := &flaky{Store: store.NewMemory(store.MemoryOptions{Now: clock})}
	told := map[string]bool{}
	r := store.Follow(f, "ended/", store.FollowOptions{Every: -1, Entries: 2, Now: clock, OnChange: func(e store.Entry) { told[e.Key] = e.TTL > 0 }})
	defer r.Close()
	other := store.Follow(f, "ended/", store.FollowOptions{Every: -1, Entries: 2, Now: clock})
	defer other.Close()
	ctx := t.Context()
	for i, key := range []string{"ended/a", "ended/b", "ended/c"} {
		ttl := time.Hour
		if i == 0 {
			ttl = time.Minute
		}
		if err := r.Put(ctx, key, []byte("x"), ttl); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
	if err := other.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	for name, one := range map[string]*store.Replica{"the one that was told": r, "another node": other} {
		if !one.Partial() {
			t.Errorf("%s: not partial", name)
		}
		for _, key := range []string{"ended/a", "ended/b", "ended/c"} {
			if v, ok, err := one.Find(ctx, key); !ok || err != nil || string(v) != "x" {
				t.Errorf("%s: %s: %q %v %v", name, key, v, ok, err)
			}
		}
		if _, ok, err := one.Find(ctx, "ended/d"); ok || err != nil {
			t.Errorf("%s: what was never put: %v %v", name, ok, err)
		}
	}
	if !told["ended/c"] {
		t.Error("nobody was told of what did not fit")
	}
	// What did not fit can be taken back.
	if err := r.Put(ctx, "ended/e", []byte("y"), time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(ctx, "ended/e"); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := r.Find(ctx, "ended/e"); ok || err != nil {
		t.Errorf("what was deleted: %v %v", ok, err)
	}
	f.gone.Store(true)
	if _, _, err := r.Find(ctx, "ended/c"); err == nil {
		t.Error("nobody knows whether it is there, and that is no error")
	}
	if err := r.Put(ctx, "ended/f", []byte("x"), time.Hour); err == nil {
		t.Error("a mark that is nowhere is no error")
	}
	f.gone.Store(false)
	// When there is room again all of it is here, and nobody asks.
	now = now.Add(2 * time.Minute)
	if err := r.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if r.Partial() {
		t.Error("partial although all of it fits")
	}
	f.gone.Store(true)
	for _, key := range []string{"ended/b", "ended/c"} {
		if _, ok, err := r.Find(ctx, key); !ok || err != nil {
			t.Errorf("%s, with room: %v %v", key, ok, err)
		}
	}
}
