package rxset

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// small returns a set whose tables are so small that they overflow all the
// time.
func small(t testing.TB, patterns []Pattern) (*Set, []oracle) {
	t.Helper()
	s, oracles := compile(t, patterns)
	s.maxTable, s.maxTables = 24<<10, 200<<10
	return s, oracles
}

// TestOverflow: however often tables are thrown away and groups split, the
// answers stay, and the memory stays in its bounds.
func TestOverflow(t *testing.T) {
	patterns := crs(t)
	s, oracles := small(t, patterns)
	before := len(*s.groups.Load())
	r := rand.New(rand.NewPCG(21, 22))
	out := s.NewBits()
	for round := range 400 {
		i := r.IntN(len(patterns))
		var b strings.Builder
		for _, v := range values(t, r, patterns[i], 2) {
			b.WriteString(v[:min(len(v), 100)])
		}
		v := b.String()
		out.Clear()
		s.Match(v, nil, out)
		if want := oracles[i].match(v); out.Has(i) != want || s.Contains(i, v) != want {
			t.Fatalf("pattern %d on %q: %v, want %v", i, v, out.Has(i), want)
		}
		if used := s.used.Load(); used < 0 || used > int64(s.maxTables+s.maxTable) {
			t.Fatalf("round %d: tables take %d bytes", round, used)
		}
	}
	split := len(*s.groups.Load())
	if split <= before {
		t.Errorf("%d groups, as at the beginning: no table overflowed", split)
	}
	s.restore.Store(time.Now().UnixNano() - 1)
	s.misses.Store(63) // the time is looked at now and then
	s.flush()
	s.Match("something 'new'", nil, out)
	if n := len(*s.groups.Load()); n != before {
		t.Errorf("%d groups after the time is over, %d at the beginning", n, before)
	}
}

// TestSlowlyFull: a table that took long to fill is thrown away, and its
// group is not split.
func TestSlowlyFull(t *testing.T) {
	for _, slow := range []bool{false, true} {
		s, _ := compile(t, []Pattern{{Expr: `\bfoo\b`}, {Expr: `bar+`}})
		out := s.NewBits()
		s.Match("some foo and barr", nil, out)
		s.maxTable = 1
		d := (*s.groups.Load())[0].dfa
		d.mu.Lock()
		made := d.cur.Load().made
		if slow {
			made.born = time.Now().Add(-fullSoon)
		}
		d.row(d.cur.Load(), state{pcs: []uint32{1, 2, 3}})
		if d.full == slow || d.cur.Load().made == made {
			t.Errorf("slowly %v: to split %v, thrown away %v", slow, d.full, d.cur.Load().made != made)
		}
		d.mu.Unlock()
	}
}

// TestLong: of long values, for some patterns, the strings are not looked for
// where that saves little. The answers stay.
func TestLong(t *testing.T) {
	patterns := crs(t)
	s, _ := compile(t, patterns)
	r := rand.New(rand.NewPCG(71, 72))
	all, some := s.NewBits(), s.NewBits()
	saved := 0
	for range 25 {
		v := hostile(t, r, patterns, -1, 150+r.IntN(3000))
		all.Clear()
		s.Match(v, nil, all)
		for range 6 {
			among := s.NewBits()
			for range 1 + r.IntN(12) {
				among.Set(r.IntN(len(patterns)))
			}
			some.Clear()
			s.Match(v, among, some)
			want := slices.Clone(all)
			if want.And(among); !slices.Equal(some, want) {
				t.Fatalf("among %v\non %q: %b, want %b", slices.Collect(among.All()), v, some, want)
			}
			if !s.filter.worth(among, *s.groups.Load(), among) {
				saved++
			}
		}
	}
	if saved == 0 {
		t.Error("every value was looked through")
	}
}

// TestConcurrent asks from several goroutines while tables overflow.
func TestConcurrent(t *testing.T) {
	patterns := crs(t)
	s, oracles := small(t, patterns)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(31, uint64(g)))
			out := s.NewBits()
			for range 60 {
				i := r.IntN(len(patterns))
				for _, v := range values(t, r, patterns[i], 1) {
					v = v[:min(len(v), 200)]
					out.Clear()
					s.Match(v, nil, out)
					if want := oracles[i].match(v); out.Has(i) != want {
						t.Errorf("pattern %d on %q: %v, want %v", i, v, out.Has(i), want)
						return
					}
				}
			}
		}()
	}
	wg.Wait()
}

// TestNoAllocation: what has been seen costs no memory.
func TestNoAllocation(t *testing.T) {
	if raced {
		t.Skip("the race detector empties pools at random; the run without it counts")
	}
	s, _ := compile(t, crs(t))
	out := s.NewBits()
	values := append(corpora()["headers"], corpora()["fields"]...)
	all := func() {
		for _, v := range values {
			s.Match(v, nil, out)
		}
	}
	all()
	// The collector may empty the pool of buffers meanwhile.
	if n := testing.AllocsPerRun(20, all); n > 2 {
		t.Errorf("%v allocations for %d values", n, len(values))
	}
}

// TestMemory: the whole Core Rule Set, with every table full, takes less than
// 20 MB.
func TestMemory(t *testing.T) {
	patterns := crs(t)
	heap := func() int {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	s, err := Compile(patterns)
	if err != nil {
		t.Fatal(err)
	}
	compiled := heap()
	r := rand.New(rand.NewPCG(41, 42))
	out := s.NewBits()
	most := int64(0)
	for most < int64(s.maxTables)/2 {
		i := r.IntN(len(patterns))
		for _, v := range values(t, r, patterns[i], 4) {
			s.Match(v, nil, out)
		}
		if used := s.used.Load(); used > most {
			most = used
		} else if used < most/2 {
			break // flushed
		}
	}
	full := heap()
	t.Logf("compiled %d KB, after hostile values %d KB, of which tables %d KB", (compiled-before)>>10, (full-before)>>10, s.used.Load()>>10)
	if full-before > 20<<20 {
		t.Errorf("%d bytes", full-before)
	}
	if used := int(s.used.Load()); full-compiled > 2*used+4<<20 {
		t.Errorf("tables are counted as %d bytes, the heap has grown by %d", used, full-compiled)
	}
	runtime.KeepAlive(s)
}
