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
	"github.com/dewar-security/dewar/internal/store/storetest"
)

func TestResilientContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		c := newClock()
		return storetest.Subject{Store: store.Resilient(store.NewMemory(store.MemoryOptions{Now: c.Now}), store.ResilientOptions{Now: c.Now}), Advance: c.Advance}
	})
}

func (f *flaky) AllowMany(ctx context.Context, takes []store.Take) ([]store.Result, error) {
	if err := f.down(); err != nil {
		return nil, err
	}
	return f.Store.AllowMany(ctx, takes)
}

func (f *flaky) Get(ctx context.Context, key string) ([]byte, bool, error) {
	if err := f.down(); err != nil {
		return nil, false, err
	}
	return f.Store.Get(ctx, key)
}

func (f *flaky) Sync(ctx context.Context) error {
	if err := f.down(); err != nil {
		return err
	}
	return f.Store.Sync(ctx)
}

func passes(t *testing.T, s store.Store, take store.Take, tries int) (n int) {
	t.Helper()
	for range tries {
		r, err := s.AllowMany(ctx, []store.Take{take})
		if err != nil {
			t.Fatalf("a limiter fails for its store: %v", err)
		}
		if r[0].Allowed {
			n++
		} else if r[0].RetryAfter <= 0 {
			t.Fatalf("refused without a time: %+v", r[0])
		}
		if r[0].Limit != 60 && take.Gone != store.Pass {
			t.Fatalf("%+v", r[0])
		}
	}
	return n
}

// TestGone: what a node allows without its store, per kind of limit, and that
// whoever had used up his part before has it used up.
func TestGone(t *testing.T) {
	for _, tt := range []struct {
		gone  store.Gone
		nodes int
		used  int // before the store goes
		want  int // of 200 tries after it went
	}{
		{store.Share, 1, 0, 60},
		{store.Share, 3, 0, 20},
		{store.Tighten, 1, 0, 30},
		{store.Tighten, 3, 0, 10},
		{store.Refuse, 3, 0, 0},
		{store.Pass, 3, 0, 200},
		{store.Share, 3, 15, 5},
		{store.Share, 3, 60, 0},
		{store.Share, 100, 0, 1},
		{store.Tighten, 1, 60, 0},
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			c := newClock()
			f := &flaky{Store: store.NewMemory(store.MemoryOptions{Now: c.Now, Buckets: 64})}
			r := store.Resilient(f, store.ResilientOptions{Nodes: tt.nodes, Now: c.Now, Cool: time.Hour})
			defer r.Close()
			take := store.Take{Key: "k", Rate: store.Rate{Requests: 60, Per: time.Hour}, Cost: 1, Gone: tt.gone}
			if n := passes(t, r, take, tt.used); n != tt.used {
				t.Fatalf("%d of %d pass while the store is there", n, tt.used)
			}
			f.gone.Store(true)
			c.Advance(2 * time.Second) // refusals are not remembered for longer
			before := f.calls.Load()
			if n := passes(t, r, take, 200); n != tt.want {
				t.Errorf("%d pass, want %d", n, tt.want)
			}
			if n := f.calls.Load() - before; n != 3 {
				t.Errorf("%d calls went to a store that is gone, want 3", n)
			}
			if err := r.Health(); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("Health: %v", err)
			}
			if s := r.Status(); s.Up || s.Fallbacks != 200 || s.Opened != 1 {
				t.Errorf("%+v", s)
			}
			if _, _, err := r.Get(ctx, "k"); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("a value of a store that is gone: %v", err)
			}
		})
	}
}

// TestShortCut: a client that was refused is refused without asking, never
// past its time, and not after units were given back here.
func TestShortCut(t *testing.T) {
	c := newClock()
	f := &flaky{Store: store.NewMemory(store.MemoryOptions{Now: c.Now, Buckets: 64})}
	r := store.Resilient(f, store.ResilientOptions{Now: c.Now})
	defer r.Close()
	rate := store.Rate{Requests: 10, Per: time.Second}
	allow := func(cost int) store.Result {
		t.Helper()
		res, err := r.Allow(ctx, "k", rate, cost)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	allow(10)
	if allow(1).Allowed {
		t.Fatal("over the limit")
	}
	before := f.calls.Load()
	for i := range 50 {
		res := allow(1)
		if want := 100*time.Millisecond - time.Duration(i)*time.Millisecond; res.Allowed || res.RetryAfter != want || res.ResetAfter != 900*time.Millisecond+want {
			t.Fatalf("after %d ms: %+v", i, res)
		}
		c.Advance(time.Millisecond)
	}
	if res := allow(3); res.Allowed || res.RetryAfter != 250*time.Millisecond {
		t.Errorf("what costs more: %+v", res)
	}
	if n := f.calls.Load() - before; n != 0 {
		t.Errorf("%d calls for a client that is known to be over", n)
	}
	if res := allow(0); !res.Allowed || res.Remaining != 0 {
		t.Errorf("a peek: %+v", res)
	}
	c.Advance(50 * time.Millisecond)
	if !allow(1).Allowed {
		t.Error("refused past its time")
	}
	if allow(1).Allowed {
		t.Error("the bucket is empty")
	}
	allow(-5)
	if !allow(1).Allowed {
		t.Error("units given back do not count")
	}
	// Another rate, another key: other buckets.
	allow(4)
	if allow(1).Allowed {
		t.Error("the bucket is empty")
	}
	if res, _ := r.Allow(ctx, "other", rate, 1); !res.Allowed {
		t.Error("another client is refused")
	}
	if res, _ := r.Allow(ctx, "k", store.Rate{Requests: 11, Per: time.Second}, 1); !res.Allowed {
		t.Error("another rate is refused")
	}
	// A long refusal is not believed for long: another node may give back.
	slow := store.Rate{Requests: 1, Per: time.Hour}
	_, _ = r.Allow(ctx, "slow", slow, 1)
	if res, _ := r.Allow(ctx, "slow", slow, 1); res.Allowed {
		t.Error("over the limit")
	}
	_, _ = f.Store.Allow(ctx, "slow", slow, -1)
	c.Advance(time.Second)
	if res, _ := r.Allow(ctx, "slow", slow, 1); !res.Allowed {
		t.Error("what another node gave back never counts")
	}
}

// TestBreaker: what opens it and what does not, and that it closes again.
func TestBreaker(t *testing.T) {
	f := &flaky{Store: store.NewMemory(store.MemoryOptions{Buckets: 64})}
	var mu sync.Mutex
	var told []string
	r := store.Resilient(f, store.ResilientOptions{Cool: time.Millisecond, CoolMost: 2 * time.Millisecond, OnChange: func(err error) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprint(err == nil))
	}})
	defer r.Close()
	get := func() error { _, _, err := r.Get(ctx, "k"); return err }
	f.gone.Store(true)
	_ = errors.Join(get(), get())
	f.gone.Store(false)
	_ = get()
	f.gone.Store(true)
	_ = errors.Join(get(), get())
	if err := r.Health(); err != nil {
		t.Errorf("two failures in a row: %v", err)
	}
	f.gone.Store(false)
	_ = get()
	// The caller's own: a change's error, a rate that is none, a hang-up.
	own := errors.New("own")
	for range 10 {
		if err := r.Update(ctx, "k", func([]byte, bool) ([]byte, time.Duration, error) { return nil, 0, own }); !errors.Is(err, own) {
			t.Fatal(err)
		}
		if err := r.Update(ctx, "k", func([]byte, bool) ([]byte, time.Duration, error) {
			return nil, 0, fmt.Errorf("%w: of another store", store.ErrUnavailable)
		}); !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
		if _, err := r.Allow(ctx, "k", store.Rate{Requests: -1}, 1); err == nil || errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	f.gone.Store(true)
	for range 10 {
		_, _, _ = r.Get(gone, "k")
	}
	if err := r.Health(); err != nil {
		t.Errorf("callers' mistakes opened it: %v", err)
	}
	for range 3 {
		_ = get()
	}
	if r.Health() == nil {
		t.Error("three failures in a row did not open it")
	}
	f.gone.Store(false)
	for i := 0; r.Health() != nil; i++ {
		if i > 60000 {
			t.Fatal("it does not close")
		}
		time.Sleep(time.Millisecond)
	}
	if err := get(); err != nil {
		t.Error(err)
	}
	// Every other call fails: no three in a row, and no store to wait for.
	for i := 0; i < 40 && r.Health() == nil; i++ {
		f.gone.Store(i%2 == 0)
		_ = get()
	}
	if s := r.Status(); s.Opened != 2 {
		t.Errorf("half of the calls fail, and it was opened %d times", s.Opened)
	}
	f.gone.Store(false)
	mu.Lock()
	defer mu.Unlock()
	if len(told) < 3 || told[0] != "false" || told[1] != "true" || told[2] != "false" {
		t.Errorf("told %v", told)
	}
}

// TestFailedBefore: a store that did not answer at the start is not waited for.
func TestFailedBefore(t *testing.T) {
	f := &flaky{Store: store.NewMemory(store.MemoryOptions{Buckets: 64})}
	f.gone.Store(true)
	r := store.Resilient(f, store.ResilientOptions{Cool: time.Millisecond, CoolMost: time.Millisecond, Failed: errors.New("nobody there")})
	defer r.Close()
	if _, _, err := r.Get(ctx, "k"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if s := r.Status(); s.Up || s.Calls != 0 {
		t.Errorf("%+v", s)
	}
	f.gone.Store(false)
	for i := 0; r.Health() != nil; i++ {
		if i > 60000 {
			t.Fatal("it does not close")
		}
		time.Sleep(time.Millisecond)
	}
}

// hanging is a store whose calls wait until their context ends.
type hanging struct {
	store.Store
	waits atomic.Int64
}

func (h *hanging) Allow(ctx context.Context, _ string, _ store.Rate, _ int) (store.Result, error) {
	h.waits.Add(1)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
	defer cancel()
	<-ctx.Done()
	return store.Result{}, fmt.Errorf("%w: %w", store.ErrUnavailable, ctx.Err())
}

func (h *hanging) Sync(context.Context) error { return store.ErrUnavailable }

// TestHanging: a store that hangs costs few requests a wait, also when many
// come at once.
func TestHanging(t *testing.T) {
	h := &hanging{Store: store.NewMemory(store.MemoryOptions{Buckets: 64})}
	r := store.Resilient(h, store.ResilientOptions{Cool: time.Millisecond, CoolMost: time.Millisecond})
	defer r.Close()
	var wg sync.WaitGroup
	const workers = 16
	for range workers {
		wg.Go(func() {
			for range 1000 {
				if _, err := r.Allow(ctx, "k", store.Rate{Requests: 5, Per: time.Second}, 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	// Those that were under way when it was given up have waited, too.
	if n := h.waits.Load(); n > 3+2*workers {
		t.Errorf("%d of %d requests waited", n, workers*1000)
	}
}

func TestGoneText(t *testing.T) {
	for _, g := range []store.Gone{store.Share, store.Tighten, store.Refuse, store.Pass} {
		b, _ := g.MarshalText()
		var back store.Gone
		if err := back.UnmarshalText(b); err != nil || back != g {
			t.Errorf("%s: %v %v", b, back, err)
		}
	}
	var g store.Gone
	if err := g.UnmarshalText([]byte("open")); err == nil {
		t.Error("open is a word")
	}
}

func BenchmarkResilientAllow(b *testing.B) {
	r := store.Resilient(store.NewMemory(store.MemoryOptions{}), store.ResilientOptions{})
	rate := store.Rate{Requests: 1e9, Per: time.Minute}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Allow(ctx, "rate:g:192.0.2.1/32", rate, 1); err != nil {
			b.Fatal(err)
		}
	}
}

// contended is a store in which too many change one value.
type contended struct{ store.Store }

func (contended) Update(context.Context, string, func([]byte, bool) ([]byte, time.Duration, error)) error {
	return fmt.Errorf("%w: %w", store.ErrContended, context.DeadlineExceeded)
}

// TestContended: that many want one value does not make the store one that is
// gone, and the caller still follows its declared failure mode.
func TestContended(t *testing.T) {
	r := store.Resilient(contended{store.NewMemory(store.MemoryOptions{})}, store.ResilientOptions{})
	defer r.Close()
	for range 100 {
		if err := r.Update(ctx, "session/a", nil); !errors.Is(err, store.ErrContended) || !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if s := r.Status(); !s.Up || s.Opened > 0 || r.Health() != nil {
		t.Errorf("%+v, %v", s, r.Health())
	}
}
