package store_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/store"
	"github.com/dewar-security/dewar/internal/store/storetest"
)

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

var ctx = context.Background()

func TestMemory(t *testing.T) {
	for _, buckets := range []int{0, 4096} {
		t.Run(fmt.Sprint("buckets=", buckets), func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Subject {
				c := newClock()
				return storetest.Subject{Store: store.NewMemory(store.MemoryOptions{Buckets: buckets, Now: c.Now}), Advance: c.Advance}
			})
		})
	}
}

// heap is the living heap in bytes. What an earlier test left in pools and
// behind finalizers takes more than one collection.
func heap() int64 {
	for range 4 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestFlood: a million clients nobody saw before, three times the table's
// size in all, and one abuser among them. He gets what his rate says, to the
// request, and memory stays where it was.
func TestFlood(t *testing.T) {
	c := newClock()
	before := heap()
	m := store.NewMemory(store.MemoryOptions{Buckets: 1 << 18, Now: c.Now})
	rate := store.Rate{Requests: 10, Per: time.Second, Burst: 20}
	table := heap() - before
	if table > 5<<20 {
		t.Errorf("256 Ki buckets take %d bytes", table)
	}
	const seconds, newcomers, tries = 4, 250_000, 100
	passed, refused := 0, 0
	for s := range seconds {
		for i := range newcomers {
			r, err := m.Allow(ctx, "new:"+strconv.Itoa(s*newcomers+i), rate, 1)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Allowed {
				refused++
			}
			if i%(newcomers/tries) == 0 {
				if r, _ := m.Allow(ctx, "abuser", rate, 1); r.Allowed {
					passed++
				}
			}
			if i%(newcomers/100) == 0 {
				c.Advance(time.Second / 100)
			}
		}
	}
	if want := 20 + 10*seconds; passed < want-1 || passed > want {
		t.Errorf("the abuser passed %d times in %d s, his rate allows %d", passed, seconds, want)
	}
	if refused > 0 {
		t.Errorf("%d of %d clients were refused at their first request", refused, seconds*newcomers)
	}
	if grown := heap() - before - table; grown > 1<<20 {
		t.Errorf("a million clients took %d bytes", grown)
	}
	runtime.KeepAlive(m)
}

// TestFloodOnAnotherRate: a client that is at its limit on a quick rate is not
// washed out by a flood on a slow one, whose timestamps lie much later.
func TestFloodOnAnotherRate(t *testing.T) {
	c := newClock()
	m := store.NewMemory(store.MemoryOptions{Buckets: 1 << 10, Now: c.Now})
	quick, slow := store.Rate{Requests: 100, Per: time.Second}, store.Rate{Requests: 5, Per: time.Hour}
	for range 100 {
		if r, _ := m.Allow(ctx, "abuser", quick, 1); !r.Allowed {
			t.Fatal("refused within the burst")
		}
	}
	for i := range 100_000 {
		if r, _ := m.Allow(ctx, strconv.Itoa(i), slow, 1); !r.Allowed {
			t.Fatal("a new client is refused")
		}
		if r, _ := m.Allow(ctx, "abuser", quick, 1); r.Allowed {
			t.Fatalf("after %d clients the abuser has a fresh bucket", i)
		}
	}
}

func TestValuesAreBounded(t *testing.T) {
	c := newClock()
	before := heap()
	const limit = 16 << 20
	m := store.NewMemory(store.MemoryOptions{Buckets: 64, Entries: 1 << 20, Bytes: limit, Now: c.Now})
	stored := 0
	var err error
	for ; err == nil; stored++ {
		if stored%2 == 0 {
			err = m.Put(ctx, "session:"+strconv.Itoa(stored), make([]byte, 32), time.Duration(1+stored)*time.Second)
		} else {
			_, err = m.Once(ctx, "token:"+strconv.Itoa(stored), time.Hour)
		}
	}
	stored--
	if !errors.Is(err, store.ErrUnavailable) {
		t.Fatal(err)
	}
	if used := int64(heap() - before); used > limit*5/4 {
		t.Errorf("%d entries take %d bytes, the bound is %d", stored, used, limit)
	}
	// Nothing was forgotten to make room.
	for i := range stored {
		if i%2 == 0 {
			if _, ok, err := m.Get(ctx, "session:"+strconv.Itoa(i)); !ok || err != nil {
				t.Fatalf("value %d of %d is gone: %v", i, stored, err)
			}
		} else if first, err := m.Once(ctx, "token:"+strconv.Itoa(i), time.Hour); first || err != nil {
			t.Fatalf("token %d of %d was forgotten: %v", i, stored, err)
		}
	}
	// A full store still overwrites, still says so, and recovers by itself.
	if err := m.Put(ctx, "session:0", make([]byte, 32), time.Hour); err != nil {
		t.Errorf("overwriting in a full store: %v", err)
	}
	if err := m.Put(ctx, "one more", make([]byte, 1000), time.Hour); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a full store takes more: %v", err)
	}
	c.Advance(time.Minute)
	if err := m.Put(ctx, "one more", make([]byte, 1000), time.Hour); err != nil {
		t.Errorf("after a minute: %v", err)
	}
	runtime.KeepAlive(m)
}

func TestEntriesAreBounded(t *testing.T) {
	c := newClock()
	m := store.NewMemory(store.MemoryOptions{Buckets: 64, Entries: 3, Now: c.Now})
	for i := range 3 {
		if err := m.Put(ctx, strconv.Itoa(i), nil, time.Duration(i+1)*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if first, err := m.Once(ctx, "x", time.Second); first || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v %v", first, err)
	}
	c.Advance(time.Second)
	if first, err := m.Once(ctx, "x", time.Second); !first || err != nil {
		t.Errorf("after one expired: %v %v", first, err)
	}
}

// TestClockGoesBack: a clock set back refuses for longer; it frees nobody and
// does not overflow.
func TestClockGoesBack(t *testing.T) {
	c := newClock()
	m := store.NewMemory(store.MemoryOptions{Buckets: 64, Now: c.Now})
	rate := store.Rate{Requests: 2, Per: time.Minute}
	c.Advance(time.Hour)
	m.Allow(ctx, "k", rate, 2)
	for range 3 {
		c.Advance(-24 * time.Hour)
		if r, err := m.Allow(ctx, "k", rate, 1); r.Allowed || err != nil {
			t.Errorf("%+v %v", r, err)
		}
	}
}

func TestParseRate(t *testing.T) {
	for in, want := range map[string]store.Rate{
		"100/m":           {Requests: 100, Per: time.Minute},
		" 5 / 30s ":       {Requests: 5, Per: 30 * time.Second},
		"100/m burst 20":  {Requests: 100, Per: time.Minute, Burst: 20},
		"1/day":           {Requests: 1, Per: 24 * time.Hour},
		"10/1m30s":        {Requests: 10, Per: 90 * time.Second},
		"off":             {},
		"1000000000/hour": {Requests: 1e9, Per: time.Hour},
	} {
		got, err := store.ParseRate(in)
		if err != nil || got != want {
			t.Errorf("ParseRate(%q) = %+v, %v; want %+v", in, got, err, want)
		}
		if again, err := store.ParseRate(got.String()); err != nil || again != got {
			t.Errorf("%+v is written %q, which reads %+v, %v", got, got.String(), again, err)
		}
	}
	for _, in := range []string{"", "100", "0/m", "-1/m", "1/0s", "1/-1s", "x/m", "1/fortnight", "1/m burst", "1/m burst 0", "1/m burst x", "2000000000/s", "1/s burst 99999999999", "1/2562047h", "1/d burst 1000", "on"} {
		if r, err := store.ParseRate(in); err == nil {
			t.Errorf("ParseRate(%q) = %+v, want an error", in, r)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"100/m", "5/30s burst 9", "off", "1/1ns", "1/9000h burst 3", "1e3/m"} {
		f.Add(s)
	}
	m := store.NewMemory(store.MemoryOptions{Buckets: 64})
	f.Fuzz(func(t *testing.T, s string) {
		r, err := store.ParseRate(s)
		if err != nil {
			return
		}
		if again, err := store.ParseRate(r.String()); err != nil || again != r {
			t.Fatalf("%q reads %+v, is written %q, which reads %+v, %v", s, r, r, again, err)
		}
		// What can be set can be used.
		if _, err := m.Allow(ctx, "k", r, 1); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
	})
}

func BenchmarkAllow(b *testing.B) {
	rate := store.Rate{Requests: 100, Per: time.Minute}
	b.Run("one client", func(b *testing.B) {
		m := store.NewMemory(store.MemoryOptions{})
		b.ReportAllocs()
		for b.Loop() {
			m.Allow(ctx, "rate:g:192.0.2.1/32", rate, 1)
		}
	})
	b.Run("new clients", func(b *testing.B) {
		m := store.NewMemory(store.MemoryOptions{})
		key := []byte("rate:g:000000000000/32")
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			strconv.AppendInt(key[:7], int64(1e11+i), 10)
			m.Allow(ctx, string(key), rate, 1)
		}
	})
	b.Run("one client from all cores", func(b *testing.B) {
		m := store.NewMemory(store.MemoryOptions{})
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				m.Allow(ctx, "rate:g:192.0.2.1/32", rate, 1)
			}
		})
	})
}

func BenchmarkOnce(b *testing.B) {
	m := store.NewMemory(store.MemoryOptions{})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.Once(ctx, strconv.Itoa(i), time.Millisecond)
	}
}
