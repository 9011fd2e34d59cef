package abuse

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// heap is the living heap in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemoryOfHostileClients: as many clients, each from its own /48, as many
// accounts, as many passwords: the rate limiter, the counts of logins and the
// sketches take what they take with none. HOSTILE_CLIENTS=1000000 runs it with
// a million.
func TestMemoryOfHostileClients(t *testing.T) {
	n := 20_000
	if v, err := strconv.Atoi(os.Getenv("HOSTILE_CLIENTS")); err == nil && v > 0 {
		n = v
	}
	before := heap()
	st := store.NewMemory(store.MemoryOptions{})
	defer st.Close()
	cfg := loginDefaults(t)
	// No attack is called one, or the later ones would not be counted.
	cfg.LoginDelay, cfg.Stuffing, cfg.Spraying = 0, 1<<30, 60_000
	rl, err := NewRateLimit(cfg, guard.Env{Store: st})
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewLogin(cfg, guard.Env{Store: st})
	if err != nil {
		t.Fatal(err)
	}
	login := l.(*loginLayer)
	cfg.BanAfter = store.Rate{Requests: 100, Per: 10 * time.Minute}
	bans := newBans(t, cfg, guard.Env{Store: st})
	idle := heap() - before
	refused := 0
	for i := range n {
		var b [16]byte
		b[0], b[1] = 0x20, 0x01
		binary.BigEndian.PutUint32(b[2:], uint32(i)) // its own /48
		addr := netip.AddrFrom16(b)
		r := httptest.NewRequest("POST", "/login", strings.NewReader(fmt.Sprintf("username=user%d&password=p%d", i, i)))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		x := &guard.Exchange{Request: r, Path: "/login", Client: guard.Client{Addr: addr, Peer: addr}}
		bans.Request(x)
		rl.Request(x)
		if d := login.Request(x); d.Verdict != guard.Allow {
			refused++
			continue
		}
		res := &http.Response{StatusCode: 401, Header: http.Header{}, Body: http.NoBody, Request: x.Request}
		login.Response(x, res)
		bans.Response(x, res)
	}
	busy := heap() - before
	t.Logf("%d clients and accounts (%d refused): %.1f MB, %.1f MB of it before the first one; sketches %.1f MB", n, refused, float64(busy)/1e6, float64(idle)/1e6, float64(login.watch.bytes()+len(login.variety.slots)*16)/1e6)
	if busy-idle > 4<<20 {
		t.Errorf("it grew by %d bytes", busy-idle)
	}
	if busy > 60<<20 {
		t.Errorf("%d bytes", busy)
	}
	if len(login.inFlight) != 0 {
		t.Errorf("%d attempts are still counted", len(login.inFlight))
	}
}

// TestMemoryOfBans: the list is bounded, and says so when it is full.
func TestMemoryOfBans(t *testing.T) {
	n := 20_000
	if os.Getenv("HOSTILE_CLIENTS") != "" {
		n = maxBans
	}
	before := heap()
	st := store.NewMemory(store.MemoryOptions{Buckets: 8})
	defer st.Close()
	l := newBans(t, Config{BanFor: guard.Duration(time.Hour)}, guard.Env{Store: st})
	for i := range n {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
		if err := l.add(t.Context(), ban{Network: p, Reason: "repeated refusals, last rule 942100", By: "guard", Since: time.Now(), Until: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	took := heap() - before
	t.Logf("%d bans: %.1f MB, %d bytes each", n, float64(took)/1e6, took/int64(n))
	if took/int64(n) > 2000 {
		t.Errorf("%d bytes a ban", took/int64(n))
	}
	if n == maxBans {
		p := netip.MustParsePrefix("30.0.0.1/32")
		if err := l.add(t.Context(), ban{Network: p, Until: time.Now().Add(time.Hour)}); err != errBansFull || l.Health() == nil {
			t.Errorf("full: %v, health %v", err, l.Health())
		}
	}
}

// BenchmarkLogin is what the layer costs: a GET, a POST that is no login, and
// a login that fails.
func BenchmarkLogin(b *testing.B) {
	st := store.NewMemory(store.MemoryOptions{})
	defer st.Close()
	cfg := loginDefaults(b)
	cfg.LoginDelay, cfg.Stuffing, cfg.Spraying = 0, 0, 0
	l, err := NewLogin(cfg, guard.Env{Store: st})
	if err != nil {
		b.Fatal(err)
	}
	login := l.(*loginLayer)
	for _, c := range []struct{ name, method, path, body string }{
		{"GET", "GET", "/", ""},
		{"POST", "POST", "/cart", "product=7&quantity=2&csrf_token=IjE2YjY"},
		{"login", "POST", "/login", "username=user%d&password=x"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			res := &http.Response{StatusCode: 401, Header: http.Header{}, Body: http.NoBody}
			for b.Loop() {
				i++
				b.StopTimer()
				body := strings.ReplaceAll(c.body, "%d", strconv.Itoa(i))
				r := httptest.NewRequest(c.method, c.path, strings.NewReader(body))
				if body == "" {
					r.Body, r.ContentLength = http.NoBody, 0
				}
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				x := &guard.Exchange{Request: r, Path: c.path, Client: guard.Client{Addr: netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)})}}
				_, _ = x.Fields()
				b.StartTimer()
				if login.Request(x).Verdict == guard.Allow {
					login.Response(x, res)
				}
			}
		})
	}
}
