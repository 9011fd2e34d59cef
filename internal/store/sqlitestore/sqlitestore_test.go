package sqlitestore

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/store"
	"github.com/dewar-security/dewar/internal/store/storetest"
)

var ctx = context.Background()

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

// warnings collects what the operator is told.
type warnings struct {
	mu  sync.Mutex
	all []string
}

func (w *warnings) add(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, s)
}

func (w *warnings) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.all, "\n")
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Memory.Buckets == 0 {
		o.Memory.Buckets = 4096
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func here(t testing.TB, s store.Store, key string) string {
	t.Helper()
	v, ok, err := s.Get(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return "(none)"
	}
	return string(v)
}

func put(t testing.TB, s store.Store, key, value string) {
	t.Helper()
	if err := s.Put(ctx, key, []byte(value), time.Hour); err != nil {
		t.Fatal(err)
	}
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		c := newClock()
		return storetest.Subject{Store: open(t, Options{Path: filepath.Join(t.TempDir(), FileName), Now: c.Now}), Advance: c.Advance}
	})
}

// TestRestart: what was put is there after a restart, for what is left of its
// life; what was deleted is not.
func TestRestart(t *testing.T) {
	c := newClock()
	o := Options{Path: filepath.Join(t.TempDir(), "a b%?#.sqlite"), Now: c.Now}
	s := open(t, o)
	put(t, s, "ban/a", "1")
	put(t, s, "ban/b", "1")
	put(t, s, "ban/a", "2")
	put(t, s, "session/\x00\xff", "")
	if err := errors.Join(s.Delete(ctx, "ban/b"), s.Put(ctx, "ban/short", nil, time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(ctx, "ban/c", func([]byte, bool) ([]byte, time.Duration, error) { return []byte("3"), time.Hour, nil }); err != nil {
		t.Fatal(err)
	}
	if first, err := s.Once(ctx, "token", time.Hour); !first || err != nil {
		t.Fatal(first, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", ".lock"} {
		if st, err := os.Stat(o.Path + suffix); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v, want mode 0600", o.Path+suffix, st.Mode(), err)
		}
	}
	c.Advance(59 * time.Minute)
	s = open(t, o)
	for key, want := range map[string]string{"ban/a": "2", "ban/b": "(none)", "ban/c": "3", "session/\x00\xff": "", "ban/short": "(none)"} {
		if got := here(t, s, key); got != want {
			t.Errorf("%q is %q, want %q", key, got, want)
		}
	}
	if first, err := s.Once(ctx, "token", time.Hour); first || err != nil {
		t.Errorf("a token works again after a restart: %v", err)
	}
	c.Advance(time.Minute)
	if got := here(t, s, "ban/a"); got != "(none)" {
		t.Errorf("after its time there is %q", got)
	}
	if first, _ := s.Once(ctx, "token", time.Hour); !first {
		t.Error("the restart made the token's life longer")
	}
}

func TestModesAndLinks(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Path: path}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others can read: %v", err)
	}
	_ = os.Remove(path)
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Path: path}); err == nil {
		t.Error("a link is followed")
	}
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Error("a link is written through")
	}
	if _, err := Open(Options{Path: filepath.Join(dir, "none", FileName)}); err == nil {
		t.Error("a folder that is not there")
	}
}

// TestTwoProcesses: while one guard takes over from another, both have the
// file, each knows what the other changes, and nothing is given out twice.
func TestTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	old := open(t, Options{Path: path})
	put(t, old, "ban/before", "1")
	if _, err := Open(Options{Path: path}); !errors.Is(err, ErrInUse) {
		t.Fatalf("a second process that takes nothing over: %v", err)
	}
	next := open(t, Options{Path: path, TakingOver: true})
	if got := here(t, next, "ban/before"); got != "1" {
		t.Errorf("the new process does not know what the old one did: %q", got)
	}
	known := func(s *Store, key, want string) {
		t.Helper()
		for range 3000 {
			if here(t, s, key) == want {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("%s is %q, want %q", key, here(t, s, key), want)
	}
	put(t, next, "ban/new", "2")
	known(old, "ban/new", "2")
	if err := old.Delete(ctx, "ban/new"); err != nil {
		t.Fatal(err)
	}
	known(next, "ban/new", "(none)")

	// Changes in both at once: none is lost, no token is given out twice.
	_, at, _ := old.Changes(ctx, "list/", "")
	var wg sync.WaitGroup
	var mu sync.Mutex
	firsts := map[string]int{}
	for w, s := range []*Store{old, next, old, next} {
		wg.Go(func() {
			for i := range 60 {
				err := s.Update(ctx, "list/a", func(old []byte, _ bool) ([]byte, time.Duration, error) {
					return fmt.Appendf(bytes.Clone(old), "%d.%d ", w, i), time.Hour, nil
				})
				if err != nil {
					t.Error(err)
					return
				}
				name := fmt.Sprint("token", i)
				first, err := s.Once(ctx, name, time.Hour)
				if err != nil {
					t.Error(err)
					return
				}
				if first {
					mu.Lock()
					firsts[name]++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(old.Sync(ctx), next.Sync(ctx)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{old, next} {
		if n := len(strings.Fields(here(t, s, "list/a"))); n != 4*60 {
			t.Errorf("%d of %d changes are there", n, 4*60)
		}
	}
	if len(firsts) != 60 {
		t.Errorf("%d tokens, want 60", len(firsts))
	}
	for name, n := range firsts {
		if n != 1 {
			t.Errorf("%s was given out %d times", name, n)
		}
	}
	if got, _, err := old.Changes(ctx, "list/", at); len(got) != 1 || err != nil {
		t.Errorf("followers of the old process see %v, %v", got, err)
	}

	// The old one ends; the new one goes on, and holds the lock from then on.
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, next, "ban/after", "3")
	locked := false
	for range 3000 {
		s, err := Open(Options{Path: path})
		if errors.Is(err, ErrInUse) {
			locked = true
			break
		}
		if err == nil {
			_ = s.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	if !locked {
		t.Error("nobody holds the file after the old process ended")
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, Options{Path: path})
	if got := here(t, s, "ban/after"); got != "3" {
		t.Errorf("after both ended: %q", got)
	}
}

// TestKilled: what was answered is there after the process was killed in the
// middle of its work, in order and without a gap.
func TestKilled(t *testing.T) {
	if path := os.Getenv("DEWAR_TEST_STORE"); path != "" {
		s, err := Open(Options{Path: path, Memory: store.MemoryOptions{Buckets: 64}})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for i := 0; ; i++ {
			if err := s.Put(ctx, fmt.Sprint("session/", i), []byte("x"), time.Hour); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			fmt.Println(i)
		}
	}
	path := filepath.Join(t.TempDir(), FileName)
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "DEWAR_TEST_STORE="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	answered := -1
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, err := fmt.Sscan(lines.Text(), &answered); err != nil {
			t.Fatalf("the process says %q", lines.Text())
		}
		if answered == 3000 {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
	if answered < 3000 {
		t.Fatalf("it ended after %d", answered)
	}
	s := open(t, Options{Path: path})
	n := 0
	_ = s.Scan(ctx, "session/", func(store.Entry) bool { n++; return true })
	if n < answered+1 || n > answered+2 { // one may have been written and not told
		t.Errorf("%d are there, %d were answered", n, answered+1)
	}
}

// TestDamaged: a file that is damaged in any way is set aside and said so, and
// the store works; whatever it still gives is what was put.
func TestDamaged(t *testing.T) {
	make := func(t *testing.T) string {
		path := filepath.Join(t.TempDir(), FileName)
		s := open(t, Options{Path: path})
		for i := range 2000 {
			put(t, s, fmt.Sprint("ban/", i), strings.Repeat("x", 100))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, damage := range map[string]func(b []byte) []byte{
		"no database":     func([]byte) []byte { return bytes.Repeat([]byte("garbage "), 1000) },
		"short text":      func([]byte) []byte { return []byte("hello") },
		"cut off":         func(b []byte) []byte { return b[:len(b)/2] },
		"cut in a page":   func(b []byte) []byte { return b[:len(b)/3+100] },
		"header":          func(b []byte) []byte { copy(b[16:], "\xff\xff\xff\xff\xff\xff\xff\xff"); return b },
		"zeros":           func(b []byte) []byte { clear(b[4096:]); return b },
		"zeros in middle": func(b []byte) []byte { clear(b[len(b)/2 : len(b)/2+8192]); return b },
		"schema":          func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("CREATE TABLE"), []byte("CREATE TIBLE")) },
	} {
		t.Run(name, func(t *testing.T) {
			path := make(t)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			var w warnings
			s := open(t, Options{Path: path, Warn: w.add})
			if !strings.Contains(w.String(), "damaged") || !strings.Contains(w.String(), "set aside") {
				t.Errorf("the operator is told %q", w.String())
			}
			if aside, _ := filepath.Glob(path + ".damaged-*[0-9]"); len(aside) != 1 {
				t.Errorf("set aside: %v", aside)
			}
			put(t, s, "ban/x", "1")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, Options{Path: path, Warn: func(m string) { t.Errorf("the new file: %s", m) }})
			if got := here(t, s, "ban/x"); got != "1" {
				t.Errorf("the new file does not keep: %q", got)
			}
		})
	}
	t.Run("again and again", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), FileName)
		for range keepDamaged + 4 {
			if err := os.WriteFile(path, bytes.Repeat([]byte("garbage "), 1000), 0o600); err != nil {
				t.Fatal(err)
			}
			_ = open(t, Options{Path: path}).Close()
		}
		if aside, _ := filepath.Glob(path + ".damaged-*[0-9]"); len(aside) != keepDamaged {
			t.Errorf("%d damaged files are kept, want %d", len(aside), keepDamaged)
		}
	})
	t.Run("another process has it", func(t *testing.T) {
		path := make(t)
		first := open(t, Options{Path: path})
		b, _ := os.ReadFile(path)
		clear(b[4096:])
		other := filepath.Join(filepath.Dir(path), "copy.sqlite")
		_ = os.WriteFile(other, b, 0o600)
		_ = os.Rename(other, path)
		if s, err := Open(Options{Path: path, TakingOver: true}); err == nil {
			s.Close()
			t.Error("a damaged file that another process has is taken away from it")
		}
		put(t, first, "ban/x", "1")
	})
}

// TestDamagedWhileRunning: the file breaks below a running store, which writes
// it anew from memory.
func TestDamagedWhileRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	var w warnings
	s := open(t, Options{Path: path, Warn: w.add})
	for i := range 3000 {
		put(t, s, fmt.Sprint("ban/", i), strings.Repeat("x", 100))
	}
	if err := errors.Join(s.exec("PRAGMA cache_size = 10"), s.checkpoint()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	st, _ := f.Stat()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, int(st.Size())-4096), 4096); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for i := 0; i < 20_000 && w.String() == ""; i++ {
		if err := s.Put(ctx, fmt.Sprint("ban/", i%3000), []byte("y"), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(w.String(), "written anew from memory (3000 values)") {
		t.Fatalf("the operator is told %q", w.String())
	}
	put(t, s, "ban/0", "z")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Path: path, Warn: func(m string) { t.Error(m) }})
	n := 0
	_ = s.Scan(ctx, "ban/", func(store.Entry) bool { n++; return true })
	if n != 3000 || here(t, s, "ban/0") != "z" {
		t.Errorf("%d of 3000 are there, ban/0 is %q", n, here(t, s, "ban/0"))
	}
}

// TestDiskFull: a change that does not fit on the disk is refused and has not
// happened, and the store goes on.
func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	s := open(t, Options{Path: path})
	put(t, s, "ban/a", "1")
	if err := s.exec("PRAGMA max_page_count = 40"); err != nil {
		t.Fatal(err)
	}
	var err error
	i := 0
	for ; err == nil && i < 1000; i++ {
		err = s.Put(ctx, fmt.Sprint("session/", i), make([]byte, 1000), time.Hour)
	}
	if !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("a full disk: %v", err)
	}
	if got := here(t, s, fmt.Sprint("session/", i-1)); got != "(none)" {
		t.Error("the refused change is there")
	}
	if got := here(t, s, "ban/a"); got != "1" {
		t.Errorf("what was there before is %q", got)
	}
	if err := s.Health(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Health: %v", err)
	}
	if err := s.exec("PRAGMA max_page_count = 100000"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "ban/b", "2")
	if err := errors.Join(s.Health(), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Path: path})
	n := 0
	_ = s.Scan(ctx, "session/", func(store.Entry) bool { n++; return true })
	if n != i-1 || here(t, s, "ban/b") != "2" {
		t.Errorf("%d sessions, want %d; ban/b is %q", n, i-1, here(t, s, "ban/b"))
	}
}

// exec and checkpoint reach below the store: they run in the writer's place.
func (s *Store) exec(query string) error {
	return s.change(&call{ctx: ctx, do: func() (store.Record, bool, error) {
		_, err := s.conn.ExecContext(ctx, query)
		return store.Record{}, true, err
	}})
}

func (s *Store) checkpoint() error {
	db, err := sql.Open("sqlite", s.o.Path)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

// TestSweep: rows that expired leave the file.
func TestSweep(t *testing.T) {
	c := newClock()
	s := open(t, Options{Path: filepath.Join(t.TempDir(), FileName), Now: c.Now})
	rows := func() (n int) {
		err := s.change(&call{ctx: ctx, do: func() (store.Record, bool, error) {
			return store.Record{}, true, s.conn.QueryRowContext(ctx, "SELECT count(*) FROM entries").Scan(&n)
		}})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for i := range 3 * sweepRows / 2 {
		if err := s.Put(ctx, fmt.Sprint("f/", i), nil, time.Duration(1+i%2)*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.Delete(ctx, "f/0")
	if n := rows(); n != 3*sweepRows/2 {
		t.Fatalf("%d rows", n)
	}
	c.Advance(90 * time.Minute)
	for i := 0; rows() != 3*sweepRows/4; i++ {
		if i == 1200 {
			t.Fatalf("%d rows after their time, want %d", rows(), 3*sweepRows/4)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestCallerGone: a change whose caller does not wait any longer does not run
// behind its back.
func TestCallerGone(t *testing.T) {
	s := open(t, Options{Path: filepath.Join(t.TempDir(), FileName)})
	busy, free := make(chan struct{}), make(chan struct{})
	go func() {
		_ = s.Update(ctx, "f/a", func([]byte, bool) ([]byte, time.Duration, error) {
			close(busy)
			<-free
			return nil, 0, store.ErrKeep
		})
	}()
	<-busy
	gone, cancel := context.WithCancel(ctx)
	ran := false
	done := make(chan error)
	go func() {
		done <- s.Update(gone, "f/b", func([]byte, bool) ([]byte, time.Duration, error) {
			ran = true
			return nil, time.Hour, nil
		})
	}()
	cancel()
	if err := <-done; !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(free)
	put(t, s, "f/c", "1")
	if ran || here(t, s, "f/b") != "(none)" {
		t.Error("it ran")
	}
	// A panic is the caller's, and costs nobody else anything.
	func() {
		defer func() {
			if p := recover(); p != "oops" {
				t.Errorf("recovered %v", p)
			}
		}()
		_ = s.Update(ctx, "f/c", func([]byte, bool) ([]byte, time.Duration, error) { panic("oops") })
	}()
	put(t, s, "f/d", "1")
}

func BenchmarkStore(b *testing.B) {
	s := open(b, Options{Path: filepath.Join(b.TempDir(), FileName), Memory: store.MemoryOptions{Buckets: 1 << 20}})
	value := make([]byte, 200)
	rate := store.Rate{Requests: 100, Per: time.Minute}
	b.Run("Allow", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.Allow(ctx, "rate:g:192.0.2.1/32", rate, 1)
		}
	})
	b.Run("Get", func(b *testing.B) {
		put(b, s, "session/a", string(value))
		b.ReportAllocs()
		for b.Loop() {
			_, _, _ = s.Get(ctx, "session/a")
		}
	})
	b.Run("Put", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			_ = s.Put(ctx, fmt.Sprint("session/", i%10000), value, time.Hour)
		}
	})
	b.Run("Put from 64", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				_ = s.Put(ctx, fmt.Sprint("session/", i%10000), value, time.Hour)
			}
		})
	})
	b.Run("Put and Sync", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			_ = s.Put(ctx, fmt.Sprint("ban/", i%10000), value, time.Hour)
			_ = s.Sync(ctx)
		}
	})
}
