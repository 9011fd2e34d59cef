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
	"maps"
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
	// AdvanceRates lets time pass for Allow alone, where Advance would have
	// to wait for hours; nil means Advance.
	AdvanceRates func(time.Duration)
}

func (s Subject) advanceRates(d time.Duration) {
	if s.AdvanceRates != nil {
		s.AdvanceRates(d)
		return
	}
	s.Advance(d)
}

// brief is a lifetime that is seen to its end: long enough that what a test
// does within it is done, where the clock is a real one.
func (s Subject) brief() time.Duration {
	if s.AdvanceRates != nil {
		return 1600 * time.Millisecond
	}
	return 200 * time.Millisecond
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
		{"AllowMany", testAllowMany},
		{"Values", testValues},
		{"ValuesExpire", testExpiry},
		{"ValuesAreCopies", testCopies},
		{"GetMany", testGetMany},
		{"Update", testUpdate},
		{"UpdateTogether", testUpdateTogether},
		{"Once", testOnce},
		{"OnceTogether", testOnceTogether},
		{"Scan", testScan},
		{"ScanWhileWriting", testScanWhileWriting},
		{"Changes", testChanges},
		{"ChangesAreMany", testChangesMany},
		{"ChangesAreEnough", testChangesEnough},
		{"ChangesAreLost", testChangesLost},
		{"Replica", testReplica},
		{"Sync", testSync},
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
			s.advanceRates(d)
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
	s.advanceRates(249 * time.Millisecond)
	if r := allow(t, s.Store, "k", rate, 1); r.Allowed {
		t.Fatalf("passed before RetryAfter: %+v", r)
	}
	s.advanceRates(time.Millisecond)
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
	put(s.brief())
	s.Advance(s.brief() / 2)
	if !here() {
		t.Error("gone before its time")
	}
	put(s.brief()) // a second Put starts anew
	s.Advance(s.brief() / 2)
	if !here() {
		t.Error("the second Put did not set a new lifetime")
	}
	s.Advance(s.brief() / 2)
	if here() {
		t.Error("there after its time")
	}
	put(time.Hour)
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
		first, err := s.Store.Once(ctx, key, s.brief())
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
	s.Advance(s.brief() / 2)
	if once("token") {
		t.Error("forgotten before its time")
	}
	s.Advance(s.brief() / 2)
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
	_, manyErr := s.Store.AllowMany(ctx, []store.Take{{Key: "k", Rate: store.Rate{Requests: 1, Per: time.Second}, Cost: 1}})
	_, getManyErr := s.Store.GetMany(ctx, []string{"k"})
	_, _, changesErr := s.Store.Changes(ctx, "f/", "")
	for call, err := range map[string]error{
		"Allow": allowErr, "Get": getErr, "Once": onceErr,
		"Put": s.Store.Put(ctx, "k", nil, time.Second), "Delete": s.Store.Delete(ctx, "k"),
		"AllowMany": manyErr, "GetMany": getManyErr, "Changes": changesErr, "Sync": s.Store.Sync(ctx),
		"Update": s.Store.Update(ctx, "k", func([]byte, bool) ([]byte, time.Duration, error) { return nil, time.Second, nil }),
		"Scan":   s.Store.Scan(ctx, "f/", func(store.Entry) bool { return true }),
	} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s after Close: %v, want ErrUnavailable", call, err)
		}
	}
}

func testAllowMany(t *testing.T, s Subject) {
	strict, loose := store.Rate{Requests: 1, Per: time.Hour}, store.Rate{Requests: 100, Per: time.Hour}
	many := func(takes ...store.Take) []store.Result {
		t.Helper()
		r, err := s.Store.AllowMany(ctx, takes)
		if err != nil || len(r) != len(takes) {
			t.Fatalf("AllowMany(%v): %v, %v", takes, r, err)
		}
		return r
	}
	if r := many(); len(r) != 0 {
		t.Errorf("nothing asked, %v answered", r)
	}
	takes := []store.Take{{Key: "a", Rate: strict, Cost: 1}, {Key: "a", Rate: loose, Cost: 2}, {Key: "b", Cost: 1}, {Key: "c", Rate: strict}}
	r := many(takes...)
	if !r[0].Allowed || r[0].Remaining != 0 || !r[1].Allowed || r[1].Remaining != 98 || !r[2].Allowed || !r[3].Allowed || r[3].Remaining != 1 {
		t.Fatalf("the first time: %+v", r)
	}
	r = many(takes...)
	if r[0].Allowed || r[0].RetryAfter <= 0 || !r[1].Allowed || r[1].Remaining != 96 || !r[2].Allowed || !r[3].Allowed {
		t.Errorf("one that is refused must not stop the others: %+v", r)
	}
	if r := allow(t, s.Store, "a", loose, 1); r.Remaining != 95 {
		t.Errorf("Allow and AllowMany have buckets of their own: %+v", r)
	}
	// The same bucket twice is two calls.
	r = many(store.Take{Key: "d", Rate: strict, Cost: 1}, store.Take{Key: "d", Rate: strict, Cost: 1})
	if !r[0].Allowed || r[1].Allowed {
		t.Errorf("one bucket twice: %+v", r)
	}
	if _, err := s.Store.AllowMany(ctx, []store.Take{{Key: "e", Rate: strict, Cost: 1}, {Key: "e", Rate: strict, Cost: 7}}); err == nil || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("an impossible cost: %v", err)
	}
	if r := allow(t, s.Store, "e", strict, 1); !r.Allowed {
		t.Error("an impossible call took something")
	}
}

func testGetMany(t *testing.T, s Subject) {
	for key, value := range map[string]string{"f/a": "1", "f/empty": "", "plain": "2"} {
		if err := s.Store.Put(ctx, key, []byte(value), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Store.Put(ctx, "short", []byte("3"), 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	s.Advance(50 * time.Millisecond)
	got, err := s.Store.GetMany(ctx, []string{"plain", "none", "f/empty", "short", "f/a", "plain"})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]byte{[]byte("2"), nil, {}, nil, []byte("1"), []byte("2")}
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) || (got[i] == nil) != (want[i] == nil) {
			t.Errorf("value %d is %#v, want %#v", i, got[i], want[i])
		}
	}
	if got, err := s.Store.GetMany(ctx, nil); len(got) != 0 || err != nil {
		t.Errorf("nothing asked: %v, %v", got, err)
	}
}

func testUpdate(t *testing.T, s Subject) {
	type answer struct {
		value string
		ttl   time.Duration
		err   error
	}
	update := func(key string, a answer) (old string, ok bool, err error) {
		t.Helper()
		err = s.Store.Update(ctx, key, func(o []byte, there bool) ([]byte, time.Duration, error) {
			old, ok = string(o), there
			return []byte(a.value), a.ttl, a.err
		})
		return old, ok, err
	}
	here := func(key string) string {
		t.Helper()
		v, ok, err := s.Store.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return "(none)"
		}
		return string(v)
	}
	own := errors.New("the caller's own")
	for i, tt := range []struct {
		answer
		old  string
		ok   bool
		err  error
		then string
	}{
		{answer{value: "kept", err: store.ErrKeep}, "", false, nil, "(none)"},
		{answer{value: "a", ttl: time.Hour}, "", false, nil, "a"},
		{answer{value: "b", ttl: time.Hour}, "a", true, nil, "b"},
		{answer{value: "c", ttl: time.Hour, err: store.ErrKeep}, "b", true, nil, "b"},
		{answer{value: "c", ttl: time.Hour, err: own}, "b", true, own, "b"},
		{answer{value: "", ttl: time.Hour}, "b", true, nil, ""},
		{answer{}, "", true, nil, "(none)"},
		{answer{}, "", false, nil, "(none)"}, // deleting nothing is no error
		{answer{value: "d", ttl: s.brief()}, "", false, nil, "d"},
	} {
		old, ok, err := update("f/k", tt.answer)
		if old != tt.old || ok != tt.ok || !errors.Is(err, tt.err) {
			t.Errorf("step %d: found %q %v, returned %v; want %q %v, %v", i, old, ok, err, tt.old, tt.ok, tt.err)
		}
		if got := here("f/k"); got != tt.then {
			t.Errorf("step %d: then there is %q, want %q", i, got, tt.then)
		}
	}
	s.Advance(s.brief())
	if old, ok, err := update("f/k", answer{err: store.ErrKeep}); ok || err != nil {
		t.Errorf("what has expired is given to change: %q %v", old, err)
	}
	if _, _, err := update("f/k", answer{value: "x", ttl: -1}); err == nil || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a negative lifetime: %v", err)
	}
	if got := here("f/k"); got != "(none)" {
		t.Errorf("a refused update stored %q", got)
	}
	// A new lifetime is one from now, shorter or longer.
	for _, ttl := range []time.Duration{time.Hour, 100 * time.Millisecond} {
		if _, _, err := update("plain", answer{value: "x", ttl: ttl}); err != nil {
			t.Fatal(err)
		}
	}
	s.Advance(100 * time.Millisecond)
	if got := here("plain"); got != "(none)" {
		t.Errorf("the first lifetime outlives the second: %q", got)
	}
	value := []byte("value")
	if err := s.Store.Update(ctx, "f/k", func([]byte, bool) ([]byte, time.Duration, error) { return value, time.Hour, nil }); err != nil {
		t.Fatal(err)
	}
	value[0] = 'X'
	if got := here("f/k"); got != "value" {
		t.Errorf("Update kept the caller's slice: %q", got)
	}
}

// testUpdateTogether: no update is lost, whoever does the same at once, and
// deletions in between are seen.
func testUpdateTogether(t *testing.T, s Subject) {
	const workers, each = 8, 40
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				err := s.Store.Update(ctx, "f/list", func(old []byte, _ bool) ([]byte, time.Duration, error) {
					return fmt.Appendf(bytes.Clone(old), "%d.%d ", w, i), time.Hour, nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	v, _, err := s.Store.Get(ctx, "f/list")
	if err != nil {
		t.Fatal(err)
	}
	words := bytes.Fields(v)
	seen := map[string]bool{}
	for _, w := range words {
		seen[string(w)] = true
	}
	if len(words) != workers*each || len(seen) != len(words) {
		t.Errorf("%d of %d updates are there, %d of them once", len(words), workers*each, len(seen))
	}
	// A claim: whoever finds nothing has it, and gives it back by deleting.
	var holders, most atomic.Int64
	claimed := 0
	var mu sync.Mutex
	for range workers {
		wg.Go(func() {
			for range each {
				mine := false
				err := s.Store.Update(ctx, "f/claim", func(_ []byte, ok bool) ([]byte, time.Duration, error) {
					if mine = !ok; ok {
						return nil, 0, store.ErrKeep
					}
					return []byte("held"), time.Hour, nil
				})
				if err != nil {
					t.Error(err)
					return
				}
				if !mine {
					continue
				}
				if n := holders.Add(1); n > most.Load() {
					most.Store(n)
				}
				mu.Lock()
				claimed++
				mu.Unlock()
				holders.Add(-1)
				if err := s.Store.Delete(ctx, "f/claim"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 || claimed == 0 {
		t.Errorf("%d held it at once, %d in all", most.Load(), claimed)
	}
}

func scan(t *testing.T, s store.Store, prefix string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := s.Scan(ctx, prefix, func(e store.Entry) bool {
		if _, twice := out[e.Key]; twice {
			t.Errorf("%q is visited twice", e.Key)
		}
		if e.TTL <= 0 || e.TTL > time.Hour {
			t.Errorf("%q lives for another %v", e.Key, e.TTL)
		}
		out[e.Key] = string(e.Value)
		return true
	})
	if err != nil {
		t.Fatalf("Scan(%q): %v", prefix, err)
	}
	return out
}

func testScan(t *testing.T, s Subject) {
	put := func(key, value string, ttl time.Duration) {
		t.Helper()
		if err := s.Store.Put(ctx, key, []byte(value), ttl); err != nil {
			t.Fatal(err)
		}
	}
	if got := scan(t, s.Store, "ban/"); len(got) != 0 {
		t.Errorf("an empty store: %v", got)
	}
	want := map[string]string{}
	for _, rest := range []string{"", "a", "a/b", "b*[x]?", "\x00\xff", "ключ", "{tag}"} {
		put("ban/"+rest, "v"+rest, time.Hour)
		want["ban/"+rest] = "v" + rest
	}
	put("ban", "no folder", time.Hour)
	put("bann/a", "another folder", time.Hour)
	put("ba/n/", "another folder", time.Hour)
	put("ban/short", "expires", 100*time.Millisecond)
	put("ban/deleted", "x", time.Hour)
	if err := s.Store.Delete(ctx, "ban/deleted"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Store.Once(ctx, "ban/once", time.Hour); err != nil {
		t.Fatal(err)
	}
	allow(t, s.Store, "ban/rate", store.Rate{Requests: 5, Per: time.Hour}, 1)
	s.Advance(100 * time.Millisecond)
	if got := scan(t, s.Store, "ban/"); !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := scan(t, s.Store, "ban/a"); !maps.Equal(got, map[string]string{"ban/a": "va", "ban/a/b": "va/b"}) {
		t.Errorf("below ban/a: %q", got)
	}
	visits := 0
	if err := s.Store.Scan(ctx, "ban/", func(e store.Entry) bool {
		visits++
		// visit may call the store, the entry's own key included.
		if err := s.Store.Delete(ctx, e.Key); err != nil {
			t.Error(err)
		}
		return false
	}); err != nil || visits != 1 {
		t.Errorf("%d visits after visit returned false, %v", visits, err)
	}
	if got := scan(t, s.Store, "ban/"); len(got) != len(want)-1 {
		t.Errorf("after one was deleted: %q", got)
	}
	for _, bad := range []string{"", "ban", "*"} {
		if err := s.Store.Scan(ctx, bad, func(store.Entry) bool { return true }); err == nil || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Scan(%q), which holds no folder: %v", bad, err)
		}
	}
}

// testScanWhileWriting: what is there all the time is visited once, however
// much comes and goes around it.
func testScanWhileWriting(t *testing.T, s Subject) {
	const stay = 300
	for i := range stay {
		if err := s.Store.Put(ctx, fmt.Sprint("f/stay", i), nil, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Sprint("f/go", w, ".", i%50)
				if err := errors.Join(s.Store.Put(ctx, key, nil, time.Hour), s.Store.Delete(ctx, fmt.Sprint("f/go", w, ".", (i+25)%50))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 10 {
		if got := scan(t, s.Store, "f/stay"); len(got) != stay {
			t.Errorf("%d of %d visited", len(got), stay)
		}
	}
	close(stop)
	wg.Wait()
}

func changes(t *testing.T, s store.Store, folder, after string) (map[string]string, string) {
	t.Helper()
	got, next, err := s.Changes(ctx, folder, after)
	if err != nil {
		t.Fatalf("Changes(%q, %q): %v", folder, after, err)
	}
	out := map[string]string{}
	for _, e := range got {
		if _, twice := out[e.Key]; twice {
			t.Errorf("%q changed twice", e.Key)
		}
		if out[e.Key] = string(e.Value); e.TTL == 0 {
			out[e.Key] = "(gone)"
		}
		if e.TTL < 0 || e.TTL > time.Hour {
			t.Errorf("%q lives for another %v", e.Key, e.TTL)
		}
	}
	return out, next
}

func testChanges(t *testing.T, s Subject) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	got, first := changes(t, s.Store, "ban/", "")
	if len(got) != 0 || first == "" {
		t.Fatalf("the present position is %q, with %v", first, got)
	}
	must(s.Store.Put(ctx, "ban/a", []byte("1"), time.Hour))
	must(s.Store.Put(ctx, "ban/b", []byte("1"), time.Hour))
	must(s.Store.Put(ctx, "ban/a", []byte("2"), time.Hour))
	must(s.Store.Put(ctx, "other/a", []byte("1"), time.Hour))
	must(s.Store.Update(ctx, "ban/c/d", func([]byte, bool) ([]byte, time.Duration, error) { return []byte("3"), time.Hour, nil }))
	must(s.Store.Update(ctx, "ban/kept", func([]byte, bool) ([]byte, time.Duration, error) { return nil, 0, store.ErrKeep }))
	got, second := changes(t, s.Store, "ban/", first)
	if want := map[string]string{"ban/a": "2", "ban/b": "1", "ban/c/d": "3"}; !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	must(s.Store.Delete(ctx, "ban/a"))
	must(s.Store.Update(ctx, "ban/b", func([]byte, bool) ([]byte, time.Duration, error) { return nil, 0, nil }))
	got, third := changes(t, s.Store, "ban/", second)
	if want := map[string]string{"ban/a": "(gone)", "ban/b": "(gone)"}; !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, _ = changes(t, s.Store, "ban/", first); got["ban/a"] != "(gone)" || got["ban/c/d"] != "3" || len(got) != 3 {
		t.Errorf("from the first position again: %q", got)
	}
	must(s.Store.Put(ctx, "ban/short", nil, 50*time.Millisecond))
	_, fourth := changes(t, s.Store, "ban/", third)
	s.Advance(50 * time.Millisecond)
	if got, _ = changes(t, s.Store, "ban/", fourth); len(got) != 0 {
		t.Errorf("expiry is a change: %q", got)
	}
	if got, next := changes(t, s.Store, "nothing/", ""); len(got) != 0 || next == "" {
		t.Errorf("a folder without anything: %q, %q", got, next)
	} else if got, _ := changes(t, s.Store, "nothing/", next); len(got) != 0 {
		t.Errorf("a folder without anything, again: %q", got)
	}
	for _, bad := range []string{"", "ban", "ban/a"} {
		if _, _, err := s.Store.Changes(ctx, bad, ""); err == nil || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Changes(%q), which is no folder: %v", bad, err)
		}
	}
}

// testChangesMany: more than one answer holds comes in several, all of it.
func testChangesMany(t *testing.T, s Subject) {
	_, at := changes(t, s.Store, "f/", "")
	const n = 1300
	for i := range n {
		if err := s.Store.Put(ctx, fmt.Sprint("f/", i), nil, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	seen, calls := 0, 0
	for {
		got, next := changes(t, s.Store, "f/", at)
		if len(got) == 0 {
			break
		}
		if len(got) >= n {
			t.Errorf("%d changes in one answer", len(got))
		}
		seen, at, calls = seen+len(got), next, calls+1
	}
	if seen != n {
		t.Errorf("%d of %d changes in %d answers", seen, n, calls)
	}
}

// testChangesEnough: a copy that is kept by Scan and Changes ends as what is
// stored, while several write.
func testChangesEnough(t *testing.T, s Subject) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 3 {
		rng := rand.New(rand.NewPCG(uint64(w), 7))
		wg.Go(func() {
			for i := range 150 {
				key := fmt.Sprint("f/", rng.IntN(20))
				var err error
				switch rng.IntN(3) {
				case 0:
					err = s.Store.Delete(ctx, key)
				case 1:
					err = s.Store.Update(ctx, key, func(old []byte, _ bool) ([]byte, time.Duration, error) {
						return fmt.Append(nil, len(old), w, i), time.Hour, nil
					})
				default:
					err = s.Store.Put(ctx, key, fmt.Append(nil, w, i), time.Hour)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	go func() { wg.Wait(); close(stop) }()
	_, at := changes(t, s.Store, "f/", "")
	have := scan(t, s.Store, "f/")
	for last := false; ; {
		select {
		case <-stop:
			last = true
		default:
		}
		got, next := changes(t, s.Store, "f/", at)
		at = next
		for k, v := range got {
			if have[k] = v; v == "(gone)" {
				delete(have, k)
			}
		}
		if last && len(got) == 0 {
			break
		}
	}
	if want := scan(t, s.Store, "f/"); !maps.Equal(have, want) {
		t.Errorf("the copy has %q, the store %q", have, want)
	}
}

func testChangesLost(t *testing.T, s Subject) {
	for _, at := range []string{"elsewhere-1", "x", "99999999999-0", "-", "\x00"} {
		if _, _, err := s.Store.Changes(ctx, "f/", at); !errors.Is(err, store.ErrLost) {
			t.Errorf("from the position %q: %v, want ErrLost", at, err)
		}
	}
}

// testReplica: what is put into one replica is known in another, and one that
// is made later knows it from the beginning.
func testReplica(t *testing.T, s Subject) {
	if err := s.Store.Put(ctx, "ban/old", []byte("0"), time.Hour); err != nil {
		t.Fatal(err)
	}
	a, b := store.Follow(s.Store, "ban/", store.FollowOptions{Every: -1}), store.Follow(s.Store, "ban/", store.FollowOptions{Every: -1})
	defer a.Close()
	defer b.Close()
	if _, ok := a.Get("ban/old"); !ok {
		t.Fatal("what was there before is not known")
	}
	if err := a.Put(ctx, "ban/x", []byte("1"), time.Hour); err != nil {
		t.Fatal(err)
	}
	if v, ok := a.Get("ban/x"); !ok || string(v) != "1" {
		t.Errorf("its own: %q %v", v, ok)
	}
	if _, ok := b.Get("ban/x"); ok {
		t.Error("known before it was asked for: the test shows nothing")
	}
	if err := b.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if v, ok := b.Get("ban/x"); !ok || string(v) != "1" {
		t.Errorf("the other's: %q %v", v, ok)
	}
	if err := errors.Join(b.Delete(ctx, "ban/x"), a.Refresh(ctx)); err != nil {
		t.Fatal(err)
	}
	if _, ok := a.Get("ban/x"); ok {
		t.Error("what the other deleted is still there")
	}
	if err := a.Put(ctx, "ban/short", nil, s.brief()); err != nil {
		t.Fatal(err)
	}
	if got := scan(t, s.Store, "ban/"); len(got) != 2 {
		t.Errorf("the store has %q", got)
	}
	if err := a.Put(ctx, "other/x", nil, time.Hour); err == nil {
		t.Error("a replica takes what is not in its folder")
	}
}

func testSync(t *testing.T, s Subject) {
	for range 2 {
		if err := s.Store.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.Store.Put(ctx, "ban/x", nil, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
}
