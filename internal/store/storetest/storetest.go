// Package storetest is the contract of [store.Store] as a test: every
// implementation passes [Run].
//
// Rates are compared step by step with a naive token bucket that keeps time
// and tokens in the open, so that an implementation agrees with the words of
// the interface and not only with itself.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/store"
)

// A Subject is an empty store and the hand on its clock.
type Subject struct {
	Store store.Store
	// Advance lets time pass for the store: a fake clock moves, a real one
	// is waited for. The suite asks for whole milliseconds.
	Advance func(time.Duration)
}

// tolerance is how far durations may be off: a store behind a network may
// count in microseconds.
const tolerance = 10 * time.Microsecond

// Run tests the stores that open returns. Each subtest opens one of its own.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	for _, tt := range []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"Oracle", testOracle},
		{"Burst", testBurst},
		{"RetryAfterIsHonest", testRetryAfter},
		{"RatesAreApart", testRatesApart},
		{"PeekAndGiveBack", testPeek},
		{"NoLimit", testNoLimit},
		{"BadRates", testBadRates},
		{"AllowTogether", testAllowTogether},
		{"Values", testValues},
		{"ValuesExpire", testExpiry},
		{"ValuesAreCopies", testCopies},
		{"Once", testOnce},
		{"OnceTogether", testOnceTogether},
		{"Close", testClose},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() { _ = s.Store.Close() })
			tt.run(t, s)
		})
	}
}

var ctx = context.Background()

func allow(t *testing.T, s store.Store, key string, rate store.Rate, cost int) store.Result {
	t.Helper()
	r, err := s.Allow(ctx, key, rate, cost)
	if err != nil {
		t.Fatalf("Allow(%q, %v, %d): %v", key, rate, cost, err)
	}
	return r
}

// bucket is the oracle: tokens, each worth interval nanoseconds of refill.
type bucket struct {
	interval, full time.Duration
	have           time.Duration // tokens as the time it took to fill them in
	last           time.Duration
}

func (b *bucket) take(now time.Duration, cost int) store.Result {
	b.have = min(b.have+now-b.last, b.full)
	b.last = now
	need := time.Duration(cost) * b.interval
	r := store.Result{Allowed: need <= b.have, Limit: int(b.full / b.interval)}
	if r.Allowed {
		b.have = min(b.have-need, b.full)
	} else {
		r.RetryAfter = need - b.have
	}
	r.Remaining = int(b.have / b.interval)
	r.ResetAfter = b.full - b.have
	return r
}

func about(a, b time.Duration) bool { return (a - b).Abs() <= tolerance }

func testOracle(t *testing.T, s Subject) {
	rates := []store.Rate{
		{Requests: 10, Per: time.Second},
		{Requests: 100, Per: time.Minute, Burst: 20},
		{Requests: 1, Per: time.Second, Burst: 1},
		{Requests: 3, Per: 10 * time.Second, Burst: 7},
		{Requests: 5, Per: 24 * time.Hour},
	}
	const keys, steps = 3, 4000
	rng := rand.New(rand.NewPCG(1, 2))
	oracle := map[string]*bucket{}
	var now time.Duration
	allowed, refused := 0, 0
	for step := range steps {
		if rng.IntN(3) == 0 {
			d := time.Duration(rng.IntN(400)) * time.Millisecond
			if rng.IntN(50) == 0 {
				d *= 100
			}
			now += d
			s.Advance(d)
		}
		rate := rates[rng.IntN(len(rates))]
		key := fmt.Sprintf("client %d", rng.IntN(keys))
		cost := 1
		switch rng.IntN(12) {
		case 0:
			cost = 0
		case 1:
			cost = -rng.IntN(4)
		case 2:
			cost = 1 + rng.IntN(max(rate.Burst, 1))
		}
		id := fmt.Sprint(key, rate)
		b := oracle[id]
		if b == nil {
			interval := rate.Per / time.Duration(rate.Requests)
			burst := rate.Burst
			if burst == 0 {
				burst = rate.Requests
			}
			b = &bucket{interval: interval, full: interval * time.Duration(burst), have: interval * time.Duration(burst)}
			oracle[id] = b
		}
		want := b.take(now, cost)
		got := allow(t, s.Store, key, rate, cost)
		if got.Allowed {
			allowed++
		} else {
			refused++
		}
		// A microsecond more or less in a store's clock may move a token
		// across the edge.
		edge := b.have%b.interval < tolerance || b.interval-b.have%b.interval < tolerance
		if got.Allowed != want.Allowed || got.Limit != want.Limit || got.Remaining != want.Remaining && !(edge && math.Abs(float64(got.Remaining-want.Remaining)) <= 1) ||
			!about(got.RetryAfter, want.RetryAfter) || !about(got.ResetAfter, want.ResetAfter) {
			t.Fatalf("step %d, %v, cost %d for %s at %v:\n got %+v\nwant %+v", step, rate, cost, key, now, got, want)
		}
	}
	if allowed < steps/10 || refused < steps/10 {
		t.Fatalf("%d allowed, %d refused: the test does not try both", allowed, refused)
	}
}

func testBurst(t *testing.T, s Subject) {
	rate := store.Rate{Requests: 1, Per: time.Minute, Burst: 5}
	for i := range 5 {
		if r := allow(t, s.Store, "k", rate, 1); !r.Allowed || r.Remaining != 4-i || r.RetryAfter != 0 || r.Limit != 5 {
			t.Fatalf("request %d of the burst: %+v", i, r)
		}
	}
	for range 100 { // a refused call takes nothing: the wait does not grow
		if r := allow(t, s.Store, "k", rate, 1); r.Allowed || r.RetryAfter > time.Minute {
			t.Fatalf("after the burst: %+v", r)
		}
	}
	if r := allow(t, s.Store, "other", rate, 1); !r.Allowed {
		t.Errorf("another key pays for it: %+v", r)
	}
}

func testRetryAfter(t *testing.T, s Subject) {
	rate := store.Rate{Requests: 4, Per: time.Second, Burst: 2}
	allow(t, s.Store, "k", rate, 2)
	r := allow(t, s.Store, "k", rate, 1)
	if r.Allowed || !about(r.RetryAfter, 250*time.Millisecond) {
		t.Fatalf("%+v, want to wait 250ms", r)
	}
	s.Advance(249 * time.Millisecond)
	if r := allow(t, s.Store, "k", rate, 1); r.Allowed {
		t.Fatalf("passed before RetryAfter: %+v", r)
	}
	s.Advance(time.Millisecond)
	if r := allow(t, s.Store, "k", rate, 1); !r.Allowed {
		t.Fatalf("did not pass after RetryAfter: %+v", r)
	}
}

func testRatesApart(t *testing.T, s Subject) {
	login, all := store.Rate{Requests: 1, Per: time.Hour}, store.Rate{Requests: 100, Per: time.Second}
	allow(t, s.Store, "k", login, 1)
	if r := allow(t, s.Store, "k", login, 1); r.Allowed {
		t.Fatal("the strict rate allows two")
	}
	if r := allow(t, s.Store, "k", all, 1); !r.Allowed || r.Remaining != 99 {
		t.Errorf("the same key under another rate: %+v", r)
	}
}

func testPeek(t *testing.T, s Subject) {
	rate := store.Rate{Requests: 3, Per: time.Hour}
	for range 10 {
		if r := allow(t, s.Store, "k", rate, 0); !r.Allowed || r.Remaining != 3 || r.ResetAfter != 0 {
			t.Fatalf("peeking takes: %+v", r)
		}
	}
	allow(t, s.Store, "k", rate, 3)
	if r := allow(t, s.Store, "k", rate, 1); r.Allowed {
		t.Fatal("the bucket is not empty")
	}
	if r := allow(t, s.Store, "k", rate, -1); !r.Allowed || r.Remaining != 1 {
		t.Fatalf("one given back: %+v", r)
	}
	if r := allow(t, s.Store, "k", rate, -1000); !r.Allowed || r.Remaining != 3 {
		t.Fatalf("more given back than was taken: %+v", r)
	}
	if r := allow(t, s.Store, "k", rate, 3); !r.Allowed {
		t.Fatalf("%+v", r)
	}
	if r := allow(t, s.Store, "k", rate, 1); r.Allowed {
		t.Fatal("giving back too much saved some up")
	}
}

func testNoLimit(t *testing.T, s Subject) {
	for range 1000 {
		if r := allow(t, s.Store, "k", store.Rate{}, 1); !r.Allowed || r.Remaining <= 0 {
			t.Fatalf("the zero rate limits: %+v", r)
		}
	}
}

func testBadRates(t *testing.T, s Subject) {
	for _, tt := range []struct {
		rate store.Rate
		cost int
	}{
		{store.Rate{Requests: -1, Per: time.Second}, 1},
		{store.Rate{Requests: 1}, 1},
		{store.Rate{Requests: 1, Per: -time.Second}, 1},
		{store.Rate{Requests: 1, Per: time.Second, Burst: -1}, 1},
		{store.Rate{Requests: 1, Per: math.MaxInt64, Burst: 1 << 30}, 1},
		{store.Rate{Requests: 1, Per: time.Second, Burst: 5}, 6},
		{store.Rate{Requests: 1, Per: time.Second, Burst: 5}, math.MaxInt},
		{store.Rate{Requests: 1, Per: time.Second, Burst: 5}, math.MinInt},
	} {
		if r, err := s.Store.Allow(ctx, "k", tt.rate, tt.cost); err == nil || r.Allowed || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%+v, cost %d: %+v, %v; want an error of the caller's", tt.rate, tt.cost, r, err)
		}
	}
}

func testAllowTogether(t *testing.T, s Subject) {
	rate := store.Rate{Requests: 1, Per: time.Hour, Burst: 500}
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				r, err := s.Store.Allow(ctx, "hot", rate, 1)
				if err != nil {
					t.Error(err)
					return
				}
				if r.Allowed {
					passed.Add(1)
				}
				if _, err := s.Store.Allow(ctx, fmt.Sprint("cold", i), rate, 1); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n != 500 {
		t.Errorf("%d passed, the burst is 500", n)
	}
}

func testValues(t *testing.T, s Subject) {
	get := func(key string) ([]byte, bool) {
		t.Helper()
		v, ok, err := s.Store.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		return v, ok
	}
	if v, ok := get("none"); ok || v != nil {
		t.Errorf("a missing key: %q %v", v, ok)
	}
	for _, key := range []string{"plain", "", "with\x00zero", "\xff\xfe", "ключ:*?[a]"} {
		for _, value := range [][]byte{[]byte("one"), {}, {0, 1, 0xff}} {
			if err := s.Store.Put(ctx, key, value, time.Hour); err != nil {
				t.Fatal(err)
			}
			if v, ok := get(key); !ok || !bytes.Equal(v, value) {
				t.Errorf("%q: put %q, got %q %v", key, value, v, ok)
			}
		}
	}
	for range 2 { // a missing key is no error
		if err := s.Store.Delete(ctx, "plain"); err != nil {
			t.Fatal(err)
		}
		if _, ok := get("plain"); ok {
			t.Error("a deleted key is there")
		}
	}
	for _, ttl := range []time.Duration{0, -1} {
		if s.Store.Put(ctx, "k", nil, ttl) == nil {
			t.Errorf("Put takes the lifetime %v", ttl)
		}
		if _, err := s.Store.Once(ctx, "k", ttl); err == nil {
			t.Errorf("Once takes the lifetime %v", ttl)
		}
	}
	if _, ok := get("k"); ok {
		t.Error("a refused Put stored something")
	}
}

func testExpiry(t *testing.T, s Subject) {
	put := func(ttl time.Duration) {
		t.Helper()
		if err := s.Store.Put(ctx, "k", []byte("v"), ttl); err != nil {
			t.Fatal(err)
		}
	}
	here := func() bool {
		t.Helper()
		_, ok, err := s.Store.Get(ctx, "k")
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	put(200 * time.Millisecond)
	s.Advance(100 * time.Millisecond)
	if !here() {
		t.Error("gone before its time")
	}
	put(time.Second) // a second Put starts anew
	s.Advance(500 * time.Millisecond)
	if !here() {
		t.Error("the second Put did not set a new lifetime")
	}
	s.Advance(500 * time.Millisecond)
	if here() {
		t.Error("there after its time")
	}
	put(time.Second)
	put(100 * time.Millisecond) // a shorter one too
	s.Advance(100 * time.Millisecond)
	if here() {
		t.Error("the first Put's lifetime outlives the second's")
	}
}

func testCopies(t *testing.T, s Subject) {
	value := []byte("value")
	if err := s.Store.Put(ctx, "k", value, time.Hour); err != nil {
		t.Fatal(err)
	}
	value[0] = 'X'
	got, _, _ := s.Store.Get(ctx, "k")
	if string(got) != "value" {
		t.Fatalf("Put kept the caller's slice: %q", got)
	}
	got[0] = 'Y'
	if again, _, _ := s.Store.Get(ctx, "k"); string(again) != "value" {
		t.Errorf("Get gave out its own slice: %q", again)
	}
}

func testOnce(t *testing.T, s Subject) {
	once := func(key string) bool {
		t.Helper()
		first, err := s.Store.Once(ctx, key, 200*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		return first
	}
	if !once("token") || once("token") {
		t.Error("once is not once")
	}
	if !once("other") {
		t.Error("another key is taken")
	}
	s.Advance(100 * time.Millisecond)
	if once("token") {
		t.Error("forgotten before its time")
	}
	s.Advance(100 * time.Millisecond)
	if !once("token") {
		t.Error("a try within the lifetime made it longer")
	}
	// Whoever can choose names of values must not reach tokens.
	for _, key := range []string{"token", "once\x00token", "once:token"} {
		if _, ok, err := s.Store.Get(ctx, key); ok || err != nil {
			t.Errorf("Get sees Once's key as %q: %v", key, err)
		}
		if err := s.Store.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	if once("token") {
		t.Error("Delete reaches Once's keys")
	}
	if err := s.Store.Put(ctx, "put", nil, time.Hour); err != nil {
		t.Fatal(err)
	}
	if !once("put") {
		t.Error("Once sees Put's keys")
	}
}

func testOnceTogether(t *testing.T, s Subject) {
	for i := range 50 {
		var firsts atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				first, err := s.Store.Once(ctx, fmt.Sprint("token", i), time.Hour)
				if err != nil {
					t.Error(err)
				}
				if first {
					firsts.Add(1)
				}
			})
		}
		wg.Wait()
		if n := firsts.Load(); n != 1 {
			t.Fatalf("%d callers were the first", n)
		}
	}
}

func testClose(t *testing.T, s Subject) {
	for range 2 {
		if err := s.Store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, allowErr := s.Store.Allow(ctx, "k", store.Rate{Requests: 1, Per: time.Second}, 1)
	_, _, getErr := s.Store.Get(ctx, "k")
	_, onceErr := s.Store.Once(ctx, "k", time.Second)
	for call, err := range map[string]error{
		"Allow": allowErr, "Get": getErr, "Once": onceErr,
		"Put": s.Store.Put(ctx, "k", nil, time.Second), "Delete": s.Store.Delete(ctx, "k"),
	} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s after Close: %v, want ErrUnavailable", call, err)
		}
	}
}
