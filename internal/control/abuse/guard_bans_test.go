package abuse

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// clock is a time that stands still until it is told.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1.8e9, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// forwarder is the app.
type forwarder func(x *guard.Exchange) *http.Response

func (f forwarder) Forward(w http.ResponseWriter, x *guard.Exchange, modify func(*http.Response) error) error {
	res := f(x)
	res.Request = x.Request
	if err := modify(res); err != nil {
		return err
	}
	for k, v := range res.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(res.StatusCode)
	if res.Body != nil {
		defer res.Body.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := res.Body.Read(buf)
			w.Write(buf[:n])
			if err != nil {
				break
			}
		}
	}
	return nil
}

// hook is a layer made of a function.
type hook func(x *guard.Exchange) guard.Decision

func (h hook) Request(x *guard.Exchange) guard.Decision { return h(x) }

// addressed is the client layer of these tests: it believes a header.
var addressed = guard.Bound{Spec: &guard.Spec{Name: "client", Control: "deployment"}, Layer: hook(func(x *guard.Exchange) guard.Decision {
	if a, err := netip.ParseAddr(x.Request.Header.Get("Test-Client")); err == nil {
		x.Client.Addr = a
	}
	x.Client.TrustedPeer = true
	return guard.Pass()
})}

type journal struct {
	mu     sync.Mutex
	events []event.Event
}

func (j *journal) publish(e event.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

func (j *journal) named(name string) []event.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []event.Event
	for _, e := range j.events {
		if e.Name == name {
			out = append(out, e)
		}
	}
	return out
}

func TestNetworks(t *testing.T) {
	var in []owned
	var plain []netip.Prefix
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 3000 {
		var p netip.Prefix
		if i%2 == 0 {
			p = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(r.IntN(4)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))}), 8+r.IntN(25)).Masked()
			if p.Bits() < 12 && i > 100 {
				continue // leave something uncovered
			}
		} else {
			var b [16]byte
			b[0], b[1], b[7], b[8], b[15] = 0x20, byte(r.IntN(2)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))
			p = netip.PrefixFrom(netip.AddrFrom16(b), 12+r.IntN(117)).Masked()
			if p.Bits() < 60 {
				continue
			}
		}
		in, plain = append(in, owned{p, uint16(i % 7)}), append(plain, p)
	}
	s := makeNetworks(in)
	hits := 0
	for range 20000 {
		var a netip.Addr
		if r.IntN(2) == 0 {
			a = netip.AddrFrom4([4]byte{byte(r.IntN(5)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))})
		} else {
			var b [16]byte
			b[0], b[1], b[7], b[8], b[15] = 0x20, byte(r.IntN(2)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))
			a = netip.AddrFrom16(b)
		}
		want := slices.ContainsFunc(plain, func(p netip.Prefix) bool { return p.Contains(a) })
		if s.holds(a) != want {
			t.Fatalf("%s: %v, want %v", a, s.holds(a), want)
		}
		if want {
			hits++
		}
	}
	if hits < 1000 || hits > 19000 {
		t.Fatalf("%d of 20000 hit: the test says nothing", hits)
	}
	edge := makeNetworks([]owned{{Prefix: netip.MustParsePrefix("255.255.255.0/24")}, {Prefix: netip.MustParsePrefix("2001:db8::/64")}, {Prefix: netip.MustParsePrefix("::/1")}})
	for a, want := range map[string]bool{"255.255.255.255": true, "255.255.254.255": false, "2001:db8::ffff:ffff:ffff:ffff": true, "2001:db8:0:1::": true, "8000::": false, "7fff::1": true} {
		if edge.holds(netip.MustParseAddr(a)) != want {
			t.Errorf("%s: want %v", a, want)
		}
	}
	if edge.holds(netip.Addr{}) || (*networks)(nil).holds(netip.MustParseAddr("::1")) {
		t.Error("no address is in a network")
	}
}

func TestReadList(t *testing.T) {
	var nets, systems []string
	err := readList(strings.NewReader("\xef\xbb\xbf# a list\n203.0.113.0/24 ; SBL1\n\n  198.51.100.7 # one\nAS64500\nas64501;x\n2001:db8::/32\n203.0.113.9/24\r\n"),
		func(p netip.Prefix) { nets = append(nets, p.String()) }, func(n uint32) { systems = append(systems, fmt.Sprint(n)) })
	if err != nil || strings.Join(nets, " ") != "203.0.113.0/24 198.51.100.7/32 2001:db8::/32 203.0.113.0/24" || strings.Join(systems, " ") != "64500 64501" {
		t.Errorf("%v %v %v", nets, systems, err)
	}
	for bad, want := range map[string]string{"ok\n": "line 1", "10.0.0.1\n10.0.0.0/33\n": "line 2", "0.0.0.0/0": "everybody", "::/0": "everybody", "AS0": "no autonomous", "AS4294967296": "no autonomous", "::ffff:10.0.0.0/104": "IPv6 clothes"} {
		if err := readList(strings.NewReader(bad), func(netip.Prefix) {}, func(uint32) {}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", bad, err, want)
		}
	}
}

func FuzzReadList(f *testing.F) {
	f.Add("203.0.113.0/24 # x\nAS1\n::1/64\n")
	f.Fuzz(func(t *testing.T, text string) {
		var nets []owned
		err := readList(strings.NewReader(text), func(p netip.Prefix) {
			if p.Bits() == 0 || p != p.Masked() {
				t.Fatalf("%s", p)
			}
			nets = append(nets, owned{Prefix: p})
		}, func(n uint32) {
			if n == 0 {
				t.Fatal("AS0")
			}
		})
		s := makeNetworks(nets)
		for _, n := range nets {
			if err == nil && !s.holds(n.Addr()) {
				t.Fatalf("%s is lost", n)
			}
		}
	})
}

// asnFile writes a database with one system.
func asnFile(t *testing.T, network string, system uint32) string {
	t.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "GeoLite2-ASN", RecordSize: 24, IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	_, p, err := net.ParseCIDR(network)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Insert(p, mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(system)}); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "asn.mmdb")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := w.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	return name
}

func newBans(t testing.TB, cfg Config, env guard.Env) *bans {
	t.Helper()
	if env.Store == nil {
		s := store.NewMemory(store.MemoryOptions{Buckets: 1 << 10, Now: env.Now})
		t.Cleanup(func() { s.Close() })
		env.Store = s
	}
	l, err := NewBans(cfg, env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.(*bans).Close() })
	return l.(*bans)
}

func at(l guard.Layer, addr string) guard.Decision {
	x := &guard.Exchange{Request: httptest.NewRequest("GET", "/", nil), Path: "/"}
	if addr != "" {
		x.Client.Addr = netip.MustParseAddr(addr)
	}
	return l.Request(x)
}

func TestLists(t *testing.T) {
	list := filepath.Join(t.TempDir(), "drop.txt")
	if err := os.WriteFile(list, []byte("203.0.113.0/24 ; SBL\n2001:db8:bad::/48\n127.0.0.0/8\nAS64500\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newClock()
	l := newBans(t, Config{Lists: []string{list}, ASNDatabase: asnFile(t, "198.51.100.0/24", 64500), Allow: []string{"203.0.113.128/25"}}, guard.Env{Now: c.Now})
	for addr, want := range map[string]string{
		"203.0.113.7": "listed", "::ffff:203.0.113.7": "listed", "203.0.113.200": "", "192.0.2.1": "", "2001:db8:bad::1": "listed",
		"198.51.100.9": "listed-system", "127.0.0.1": "", "": "",
	} {
		if d := at(l, addr); d.Reason != want || (want != "") != (d.Verdict == guard.Deny) {
			t.Errorf("%s: %+v, want %q", addr, d, want)
		}
	}
	// Another list in its place is taken over, a broken one is not.
	for _, step := range []struct {
		text, addr, want string
		healthy          bool
	}{
		{"192.0.2.0/24\n", "192.0.2.1", "listed", true},
		{"what is this\n", "192.0.2.1", "listed", false},
		{"# empty\n", "192.0.2.1", "", true},
	} {
		if err := os.WriteFile(list, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_ = l.lists.refresh()
		if d := at(l, step.addr); d.Reason != step.want {
			t.Errorf("%q: %+v", step.text, d)
		}
		if (l.Health() == nil) != step.healthy {
			t.Errorf("%q: health %v", step.text, l.Health())
		}
	}
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	if l.lists.refresh() == nil || l.Health() == nil {
		t.Error("a list that is gone is no news")
	}
	if _, err := NewBans(Config{Lists: []string{list}}, guard.Env{Store: store.NewMemory(store.MemoryOptions{Buckets: 8})}); err == nil {
		t.Error("started with a list that is not there")
	}
	if p := (&Config{ASNs: []int{64500}}).Problems(); len(p) != 1 {
		t.Errorf("a system without a database: %v", p)
	}
}

func TestBanCommands(t *testing.T) {
	c := newClock()
	l := newBans(t, Config{Allow: []string{"192.0.2.0/24"}, BanFor: guard.Duration(time.Hour)}, guard.Env{Now: c.Now})
	run := func(command string, args ...string) (any, error) {
		m := map[string]string{}
		for i := 0; i+1 < len(args); i += 2 {
			m[args[i]] = args[i+1]
		}
		return l.Operate(t.Context(), command, m)
	}
	if _, err := run("ban add", "network", "203.0.113.7", "for", "10m", "reason", "abuse report 12"); err != nil {
		t.Fatal(err)
	}
	if _, err := run("ban add", "network", "2001:db8::/32"); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{"203.0.113.7": true, "203.0.113.8": false, "2001:db8:1:2::3": true, "2001:db9::1": false} {
		if d := at(l, addr); (d.Reason == "banned") != want || want && d.Status != 403 {
			t.Errorf("%s: %+v", addr, d)
		}
	}
	v, err := run("ban list")
	rows := v.([]banRow)
	if err != nil || len(rows) != 2 || rows[0].Network != "203.0.113.7/32" || rows[0].Reason != "abuse report 12" || rows[0].By != "operator" || rows[1].Network != "2001:db8::/32" {
		t.Errorf("%+v %v", v, err)
	}
	if v, _ := run("ban list", "address", "203.0.113.8"); len(v.([]banRow)) != 0 {
		t.Errorf("%+v", v)
	}
	for _, bad := range [][]string{
		{"ban add", "network", "127.0.0.1"}, {"ban add", "network", "::1"}, {"ban add", "network", "192.0.2.9"}, {"ban add", "network", "0.0.0.0/0"},
		{"ban add", "network", "x"}, {"ban add", "network", "203.0.113.9", "for", "0s"}, {"ban add", "network", "203.0.113.9", "for", "400d"},
		{"ban lift", "network", "203.0.113.9"}, {"ban lift", "network", "2001:db8::1"}, {"ban sing"},
	} {
		if v, err := run(bad[0], bad[1:]...); err == nil {
			t.Errorf("%v: %v", bad, v)
		}
	}
	if _, err := run("ban lift", "network", "2001:db8::/32"); err != nil {
		t.Fatal(err)
	}
	if d := at(l, "2001:db8::1"); d.Verdict != guard.Allow {
		t.Errorf("lifted: %+v", d)
	}
	c.add(10 * time.Minute)
	if d := at(l, "203.0.113.7"); d.Verdict != guard.Allow {
		t.Errorf("after its end: %+v", d)
	}
	if v, _ := run("ban list"); len(v.([]banRow)) != 0 {
		t.Errorf("%+v", v)
	}
	if l.count.Load() != 0 || len(l.bits) != 0 {
		t.Errorf("%d bans, %v", l.count.Load(), l.bits)
	}
}

// TestAutomaticBan: who asks for hidden files again and again is banned for a
// while; a visitor whose browser another page abuses, this machine, an allowed
// network and a proxy are not.
func TestAutomaticBan(t *testing.T) {
	c := newClock()
	st := store.NewMemory(store.MemoryOptions{Buckets: 1 << 10, Now: c.Now})
	defer st.Close()
	cfg := Config{BanAfter: store.Rate{Requests: 100, Per: 10 * time.Minute}, BanFor: guard.Duration(time.Hour), Allow: []string{"198.51.100.0/24"}, IPv6Prefix: 64}
	l := newBans(t, cfg, guard.Env{Now: c.Now, Store: st})
	j := &journal{}
	hidden := guard.Bound{Spec: &guard.Spec{Name: "never-public", Control: "settings", Blocking: true, Event: "malicious_direct_reference"}, Layer: hook(func(x *guard.Exchange) guard.Decision {
		switch x.Path {
		case "/.git/config":
			return guard.Refuse(404, "hidden", "")
		case "/dead-link":
			d := guard.Refuse(404, "unknown-path", "")
			d.Event = "input_validation_fail"
			return d
		case "/attack":
			d := guard.Refuse(403, "waf", "")
			d.Event = "input_validation_fail"
			return d
		case "/slow":
			d := guard.Refuse(429, "rate-limit", "")
			d.Event = "excess_rate_limit_exceeded"
			return d
		}
		return guard.Pass()
	})}
	early := guard.Bound{Spec: &guard.Spec{Name: "request", Control: "deployment", Blocking: true, Event: "malicious_direct_reference"}, Layer: hook(func(x *guard.Exchange) guard.Decision {
		if x.Path == "/broken" {
			return guard.Refuse(400, "broken", "")
		}
		return guard.Pass()
	})}
	chain, err := guard.NewChain(guard.Options{Publish: j.publish, Now: c.Now, Layers: []guard.Bound{early, addressed, {Spec: bansSpec, Layer: l}, hidden},
		Forward: forwarder(func(*guard.Exchange) *http.Response {
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}
		})})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(path, addr string, header ...string) int {
		r := httptest.NewRequest("GET", path, nil)
		r.RemoteAddr = "192.0.2.250:999" // the proxy
		r.Header.Set("Test-Client", addr)
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		chain.ServeHTTP(w, r)
		return w.Code
	}
	for range 10 {
		if got := ask("/.git/config", "203.0.113.7"); got != 404 {
			t.Fatalf("got %d before the ban", got)
		}
	}
	if got := ask("/", "203.0.113.7"); got != 200 {
		t.Fatalf("banned too early: %d", got)
	}
	ask("/.git/config", "203.0.113.7")
	if got := ask("/", "203.0.113.7"); got != 403 {
		t.Fatalf("not banned: %d", got)
	}
	if e := j.named("dewar_ban"); len(e) != 1 || e[0].Attributes["network"] != "203.0.113.7/32" {
		t.Errorf("%+v", e)
	}
	// A /64 of IPv6 is one client.
	for i := range 12 {
		ask("/.git/config", fmt.Sprintf("2001:db8::%x", i+1))
	}
	if got := ask("/", "2001:db8::ffff"); got != 403 {
		t.Errorf("the neighbour in the /64: %d", got)
	}
	for range 101 {
		ask("/attack", "203.0.113.9")
	}
	if got := ask("/", "203.0.113.9"); got != 403 {
		t.Errorf("a hundred attacks: %d", got)
	}
	for name, f := range map[string]func() int{
		"dead links":              func() int { return map[bool]int{true: 403}[ask("/dead-link", "203.0.113.10") == 403] },
		"another site's page":     func() int { return ask("/.git/config", "203.0.113.8", "Sec-Fetch-Site", "cross-site") },
		"a limit, not an attack":  func() int { return ask("/slow", "203.0.113.8") },
		"an allowed network":      func() int { return ask("/.git/config", "198.51.100.7") },
		"this machine":            func() int { return ask("/.git/config", "127.0.0.1") },
		"the proxy itself":        func() int { return ask("/.git/config", "") },
		"before the client layer": func() int { return ask("/broken", "203.0.113.8") },
	} {
		for range 150 {
			if f() == 403 {
				t.Errorf("%s is banned", name)
				break
			}
		}
	}
	for _, addr := range []string{"203.0.113.8", "203.0.113.10", "198.51.100.7", "127.0.0.1", "", "192.0.2.250"} {
		if got := ask("/", addr); got != 200 {
			t.Errorf("%q is banned: %d", addr, got)
		}
	}
	if v, _ := l.Operate(t.Context(), "ban list", nil); len(v.([]banRow)) != 3 {
		t.Errorf("%+v", v)
	}
	c.add(time.Hour + time.Second)
	if got := ask("/", "203.0.113.7"); got != 200 {
		t.Errorf("not released: %d", got)
	}
}

// TestBansWithoutStore: what is known stays in force, and the health says so.
func TestBansWithoutStore(t *testing.T) {
	c := newClock()
	s := store.NewMemory(store.MemoryOptions{Buckets: 1 << 10, Now: c.Now})
	l := newBans(t, Config{BanFor: guard.Duration(time.Hour)}, guard.Env{Store: s, Now: c.Now})
	if _, err := l.Operate(t.Context(), "ban add", map[string]string{"network": "203.0.113.6"}); err != nil || l.Health() != nil {
		t.Fatal(err, l.Health())
	}
	// Another layer on the same store, after a reload or on another node.
	other := newBans(t, Config{}, guard.Env{Store: s, Now: c.Now})
	if d := at(other, "203.0.113.6"); d.Reason != "banned" {
		t.Errorf("after a reload: %+v", d)
	}
	if _, err := other.Operate(t.Context(), "ban lift", map[string]string{"network": "203.0.113.6"}); err != nil {
		t.Fatal(err)
	}
	if err := l.replica.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := at(l, "203.0.113.6"); d.Verdict != guard.Allow {
		t.Errorf("lifted on another node: %+v", d)
	}
	s.Close()
	_, err := l.Operate(t.Context(), "ban add", map[string]string{"network": "203.0.113.7"})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if d := at(l, "203.0.113.7"); d.Reason != "banned" {
		t.Errorf("%+v", d)
	}
	if _ = l.replica.Refresh(t.Context()); l.Health() == nil {
		t.Error("a store that is gone is no news")
	}
}

func BenchmarkBans(b *testing.B) {
	l := newBans(b, Config{}, guard.Env{})
	var in []owned
	r := rand.New(rand.NewPCG(3, 4))
	for range 100_000 {
		in = append(in, owned{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(r.IntN(223)), byte(r.IntN(256)), byte(r.IntN(256)), 0}), 24)})
	}
	l.lists.files = []string{"list"}
	l.lists.now.Store(&listed{nets: makeNetworks(in)})
	for i := range 1000 {
		l.set(ban{Network: netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), 32), Until: time.Now().Add(time.Hour)})
	}
	r0 := httptest.NewRequest("GET", "/", nil)
	x := &guard.Exchange{Request: r0, Path: "/", Client: guard.Client{Addr: netip.MustParseAddr("224.0.0.9")}}
	b.ReportAllocs()
	for b.Loop() {
		if l.Request(x).Verdict != guard.Allow {
			b.Fatal("refused")
		}
	}
}
