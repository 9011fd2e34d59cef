package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/dewar-security/dewar/internal/store"
	"github.com/dewar-security/dewar/internal/store/redisstore"
	"github.com/dewar-security/dewar/internal/store/redisstore/redistest"
)

// testStorage is what CertMagic asks of a storage. The one on the file system
// is its own: it says what the words mean.
func testStorage(t *testing.T, open func(t *testing.T) certmagic.Storage) {
	ctx := context.Background()
	t.Run("values", func(t *testing.T) {
		s := open(t)
		if _, err := s.Load(ctx, "a/b"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("nothing there: %v", err)
		}
		if s.Exists(ctx, "a/b") || s.Exists(ctx, "a") {
			t.Error("exists")
		}
		if _, err := s.Stat(ctx, "a/b"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat: %v", err)
		}
		for k, v := range map[string]string{"a/b": "1", "a/c/d": "22", "a/c/e": "", "f": "4", "ab/x": "5"} {
			if err := s.Store(ctx, k, []byte(v)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Store(ctx, "a/b", []byte("other")); err != nil {
			t.Fatal(err)
		}
		v, err := s.Load(ctx, "a/b")
		if err != nil || string(v) != "other" {
			t.Errorf("%q %v", v, err)
		}
		i, err := s.Stat(ctx, "a/b")
		if err != nil || i.Size != 5 || !i.IsTerminal || time.Since(i.Modified) > time.Minute {
			t.Errorf("%+v %v", i, err)
		}
		if i, err := s.Stat(ctx, "a/c"); err != nil || i.IsTerminal {
			t.Errorf("a folder: %+v %v", i, err)
		}
		for _, c := range []struct {
			dir       string
			recursive bool
			want      string
		}{{"a", false, "a/b a/c"}, {"a", true, "a/b a/c a/c/d a/c/e"}, {"a/c", false, "a/c/d a/c/e"}} {
			got, err := s.List(ctx, c.dir, c.recursive)
			slices.Sort(got)
			if err != nil || strings.Join(got, " ") != c.want {
				t.Errorf("list %s %v: %v %v", c.dir, c.recursive, got, err)
			}
		}
		if _, err := s.List(ctx, "nowhere", true); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("list of nothing: %v", err)
		}
		if err := s.Delete(ctx, "a"); err != nil {
			t.Error(err)
		}
		for _, k := range []string{"a/b", "a/c/d", "a/c/e"} {
			if s.Exists(ctx, k) {
				t.Errorf("%s is left", k)
			}
		}
		if !s.Exists(ctx, "ab/x") || !s.Exists(ctx, "f") {
			t.Error("too much was deleted")
		}
		if err := s.Delete(ctx, "a"); err != nil {
			t.Errorf("twice: %v", err)
		}
	})
	t.Run("writers together", func(t *testing.T) {
		s := open(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if err := s.Store(ctx, fmt.Sprintf("t/%d", i), []byte("x")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got, err := s.List(ctx, "t", false); err != nil || len(got) != 8 {
			t.Errorf("%v %v", got, err)
		}
	})
	t.Run("locks", func(t *testing.T) {
		s := open(t)
		var in, most, n atomic.Int64
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if err := s.Lock(ctx, "name"); err != nil {
					t.Error(err)
					return
				}
				most.Store(max(most.Load(), in.Add(1)))
				time.Sleep(2 * time.Millisecond)
				in.Add(-1)
				n.Add(1)
				if err := s.Unlock(ctx, "name"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most.Load() != 1 || n.Load() != 6 {
			t.Errorf("%d at once, %d in all", most.Load(), n.Load())
		}
		if err := s.Lock(ctx, "name"); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		if err := s.Lock(short, "name"); err == nil {
			t.Error("locked twice")
		}
		if err := s.Lock(ctx, "another"); err != nil {
			t.Error(err)
		}
		_ = s.Unlock(ctx, "another")
		_ = s.Unlock(ctx, "name")
	})
}

// redisStore opens a node's store in a real server.
func redisStore(t *testing.T, server *redistest.Server, prefix string) store.Store {
	t.Helper()
	s, err := redisstore.New(redisstore.Options{Addresses: []string{server.Address}, Secret: "a secret that all of the nodes have", Prefix: prefix, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	r := store.Resilient(s, store.ResilientOptions{Nodes: 2})
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestStorages(t *testing.T) {
	t.Run("files", func(t *testing.T) {
		testStorage(t, func(t *testing.T) certmagic.Storage { return &certmagic.FileStorage{Path: t.TempDir()} })
	})
	t.Run("redis", func(t *testing.T) {
		server, n := redistest.Start(t), 0
		testStorage(t, func(t *testing.T) certmagic.Storage {
			n++
			s, err := newSharedStorage(redisStore(t, server, fmt.Sprint("test", n)), "a secret of the operator", time.Now)
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
	})
	t.Run("shared", func(t *testing.T) {
		testStorage(t, func(t *testing.T) certmagic.Storage {
			m := store.NewMemory(store.MemoryOptions{})
			t.Cleanup(func() { m.Close() })
			s, err := newSharedStorage(m, "a secret of the operator", time.Now)
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
	})
}

// TestSharedStorage: what only a shared store can meet.
func TestSharedStorage(t *testing.T) {
	ctx := context.Background()
	now := time.Now()
	clock := func() time.Time { return now }
	m := store.NewMemory(store.MemoryOptions{Now: clock})
	defer m.Close()
	open := func(secret string) *sharedStorage {
		s, err := newSharedStorage(m, secret, clock)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if _, err := newSharedStorage(m, "short", clock); err == nil {
		t.Error("a short secret was taken")
	}
	a := open("a secret of the operator")
	if err := a.Store(ctx, "k", []byte("PRIVATE KEY")); err != nil {
		t.Fatal(err)
	}
	raw, ok, err := m.Get(ctx, "acme/v/k")
	if err != nil || !ok || strings.Contains(string(raw), "PRIVATE") {
		t.Errorf("the store holds it in clear: %q %v %v", raw, ok, err)
	}
	// Another secret, a changed value, a value under another name.
	if _, err := open("another secret of somebody").Load(ctx, "k"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("with another secret: %v", err)
	}
	m.Put(ctx, "acme/v/moved", raw, time.Hour)
	if _, err := a.Load(ctx, "moved"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("under another name: %v", err)
	}
	raw[len(raw)-1] ^= 1
	m.Put(ctx, "acme/v/k2", raw, time.Hour)
	if _, err := a.Load(ctx, "k2"); err == nil {
		t.Error("a changed value was believed")
	}
	// What is read lives on.
	for range 5 {
		now = now.Add(sharedLifetime * 6 / 10)
		if v, err := a.Load(ctx, "k"); err != nil || string(v) != "PRIVATE KEY" {
			t.Fatalf("%q %v", v, err)
		}
	}
	if got, err := a.List(ctx, "", false); err != nil || !slices.Contains(got, "k") {
		t.Errorf("%v %v", got, err)
	}
	// A node that died in the lock.
	if ok, err := a.TryLock(ctx, "l"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	b := open("a secret of the operator")
	if ok, _ := b.TryLock(ctx, "l"); ok {
		t.Error("locked twice")
	}
	now = now.Add(lockLifetime + time.Second)
	if ok, err := b.TryLock(ctx, "l"); !ok || err != nil {
		t.Errorf("the lock of a dead node stays: %v", err)
	}
}
