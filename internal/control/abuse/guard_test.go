package abuse

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// buckets is the part of a store that the layer uses: GCRA over a fake clock,
// written from its definition (one theoretical arrival time per key).
type buckets struct {
	store.Store
	now time.Time
	tat map[string]time.Time
	err error
}

func (b *buckets) Allow(_ context.Context, key string, r store.Rate, cost int) (store.Result, error) {
	if b.err != nil {
		return store.Result{}, b.err
	}
	burst := r.Burst
	if burst == 0 {
		burst = r.Requests
	}
	every := r.Per / time.Duration(r.Requests)
	tat := b.tat[key]
	if tat.Before(b.now) {
		tat = b.now
	}
	next := tat.Add(every * time.Duration(cost))
	if wait := next.Sub(b.now) - every*time.Duration(burst); wait > 0 {
		return store.Result{Limit: burst, RetryAfter: wait, ResetAfter: tat.Sub(b.now)}, nil
	}
	b.tat[key] = next
	return store.Result{Allowed: true, Limit: burst, Remaining: int((every*time.Duration(burst) - next.Sub(b.now)) / every), ResetAfter: next.Sub(b.now)}, nil
}

func (b *buckets) AllowMany(ctx context.Context, takes []store.Take) ([]store.Result, error) {
	var out []store.Result
	for _, t := range takes {
		r, err := b.Allow(ctx, t.Key, t.Rate, t.Cost)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func newBuckets() *buckets {
	return &buckets{now: time.Unix(1e9, 0), tat: map[string]time.Time{}}
}

// defaults decodes the default tags that this test depends on, so that it
// tests what users get.
func defaults(t testing.TB) Config {
	t.Helper()
	c := Config{IPv4Prefix: 32, IPv6Prefix: 64}
	typ := reflect.TypeFor[Config]()
	tag := func(name string) string {
		f, ok := typ.FieldByName(name)
		if !ok || f.Tag.Get("default") == "" {
			t.Fatalf("Config.%s has no default", name)
		}
		return f.Tag.Get("default")
	}
	for name, r := range map[string]*store.Rate{"Rate": &c.Rate, "SensitiveRate": &c.SensitiveRate} {
		if err := r.UnmarshalText([]byte(tag(name))); err != nil {
			t.Fatal(err)
		}
	}
	c.Sensitive = strings.Split(tag("Sensitive"), ",")
	if p := c.Problems(); len(p) != 0 {
		t.Fatalf("the defaults have problems: %v", p)
	}
	return c
}

func ask(t testing.TB, l guard.Layer, method, path, addr string) guard.Decision {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	x := &guard.Exchange{Request: r, Path: r.URL.Path}
	if addr != "" {
		x.Client.Addr = netip.MustParseAddr(addr)
	}
	d := l.Request(x)
	if d.Verdict != guard.Allow {
		known := false
		for _, reason := range rateLimitSpec.Reasons {
			known = known || reason.Name == d.Reason
		}
		if !known || d.Status != 429 {
			t.Fatalf("undocumented refusal %+v", d)
		}
	}
	return d
}

func TestRateLimit(t *testing.T) {
	b := newBuckets()
	l, err := NewRateLimit(defaults(t), guard.Env{Store: b})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 400 {
		if d := ask(t, l, "GET", "/login", "203.0.113.5"); d.Verdict != guard.Allow {
			t.Fatalf("request %d: %+v", i, d)
		}
	}
	d := ask(t, l, "GET", "/", "203.0.113.5")
	if d.Reason != "rate-limit" || d.Header.Get("Retry-After") != "1" ||
		d.Header.Get("RateLimit-Policy") != `"general";q=400;w=20` || d.Header.Get("RateLimit") != `"general";r=0;t=20` {
		t.Errorf("request 401: %+v", d)
	}
	for name, addr := range map[string]string{"a neighbour": "203.0.113.6", "IPv6": "2001:db8::1", "nobody": ""} {
		if d := ask(t, l, "GET", "/", addr); d.Verdict != guard.Allow {
			t.Errorf("%s pays for another: %+v", name, d)
		}
	}
	b.now = b.now.Add(50 * time.Millisecond) // 1200 a minute
	if d := ask(t, l, "GET", "/", "203.0.113.5"); d.Verdict != guard.Allow {
		t.Errorf("after waiting: %+v", d)
	}
}

func TestRateLimitKeys(t *testing.T) {
	cfg := Config{Rate: store.Rate{Requests: 1, Per: time.Minute}, Allow: []string{"198.51.100.0/24", "2001:db8:aa::/48"}}
	for _, tt := range []struct {
		first, second string
		same          bool
	}{
		{"203.0.113.5", "203.0.113.5", true},
		{"203.0.113.5", "::ffff:203.0.113.5", true},
		{"203.0.113.5", "203.0.113.6", false},
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8:0:1::1", "2001:db8:0:2::1", false},
		{"fe80::1%eth0", "fe80::2%eth1", true},
		{"", "", true},
		{"198.51.100.7", "198.51.100.7", false}, // allowed
		{"::ffff:198.51.100.7", "::ffff:198.51.100.7", false},
		{"2001:db8:aa::1", "2001:db8:aa::1", false},
	} {
		l, err := NewRateLimit(cfg, guard.Env{Store: newBuckets()})
		if err != nil {
			t.Fatal(err)
		}
		if d := ask(t, l, "GET", "/", tt.first); d.Verdict != guard.Allow {
			t.Fatalf("%s: %+v", tt.first, d)
		}
		if d := ask(t, l, "GET", "/", tt.second); (d.Verdict == guard.Deny) != tt.same {
			t.Errorf("%q then %q: %+v", tt.first, tt.second, d)
		}
	}
}

func TestSensitive(t *testing.T) {
	for path, want := range map[string]bool{
		"/login": true, "/Login/": true, "/account/login": true, "/api/v1/signin": true, "/auth/token": true, "/oauth/token": true,
		"/reset-password": true, "/reset/abc123": true, "/forgot": true, "/password/reset": true, "/register": true, "/2fa/verify": true,
		"/": false, "/cart": false, "/loginhelp": false, "/blog/my-login-story": false, "/tokens": false, "/author/7": false, "/presets": false,
	} {
		b := newBuckets()
		l, err := NewRateLimit(defaults(t), guard.Env{Store: b})
		if err != nil {
			t.Fatal(err)
		}
		var d guard.Decision
		for range 26 {
			d = ask(t, l, "POST", path, "203.0.113.5")
		}
		if (d.Reason == "rate-limit-sensitive") != want {
			t.Errorf("the 26th POST %s: %q", path, d.Reason)
		}
		if want {
			if d.Header.Get("Retry-After") != "3" {
				t.Errorf("POST %s: Retry-After %q", path, d.Header.Get("Retry-After"))
			}
			if d := ask(t, l, "POST", "/LOGIN", "203.0.113.5"); d.Verdict != guard.Deny {
				t.Errorf("another sensitive path after %s is free", path)
			}
			if d := ask(t, l, "GET", path, "203.0.113.5"); d.Verdict != guard.Allow {
				t.Errorf("GET %s: %+v", path, d)
			}
		}
	}
}

func TestRouteRate(t *testing.T) {
	b := newBuckets()
	l, err := NewRateLimit(defaults(t), guard.Env{Store: b})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := http.NewRequest("POST", "/login", nil)
	x := &guard.Exchange{Request: r, Path: "/login", Client: guard.Client{Addr: netip.MustParseAddr("203.0.113.5")},
		Override: &guard.Override{Path: "/login", Rate: &store.Rate{Requests: 2, Per: time.Minute}}}
	for i := range 3 {
		if d := l.Request(x); (d.Reason == "rate-limit-route") != (i == 2) {
			t.Errorf("request %d: %+v", i, d)
		}
	}
	x.Override = &guard.Override{Path: "/login", Rate: &store.Rate{}}
	for range 1000 {
		if d := l.Request(x); d.Verdict != guard.Allow {
			t.Fatalf("rate off: %+v", d)
		}
	}
}

func TestStoreGone(t *testing.T) {
	b := newBuckets()
	l, err := NewRateLimit(defaults(t), guard.Env{Store: b})
	if err != nil {
		t.Fatal(err)
	}
	h := l.(guard.Reporter)
	if err := h.Health(); err != nil {
		t.Fatal(err)
	}
	b.err = fmt.Errorf("redis: %w", store.ErrUnavailable)
	if d := ask(t, l, "POST", "/login", "203.0.113.5"); d.Verdict != guard.Allow {
		t.Errorf("store gone: %+v", d)
	}
	if err := h.Health(); err == nil || !strings.Contains(err.Error(), "uncounted (2 so far)") {
		t.Errorf("Health: %v", err)
	}
	b.err = nil
	ask(t, l, "GET", "/", "203.0.113.5")
	if err := h.Health(); err != nil {
		t.Errorf("Health after recovery: %v", err)
	}
}

func TestProblems(t *testing.T) {
	c := Config{Sensitive: []string{"login", "/a**"}, Allow: []string{"x", "10.0.0.1", "::ffff:10.0.0.0/104"}, IPv4Prefix: 4, IPv6Prefix: 129}
	if p := c.Problems(); len(p) != 6 {
		t.Errorf("%d problems: %+v", len(p), p)
	}
	if _, err := NewRateLimit(c, guard.Env{Store: newBuckets()}); err == nil {
		t.Error("a layer is made of bad settings")
	}
	if _, err := NewRateLimit(Config{}, guard.Env{}); err == nil {
		t.Error("a layer is made without a store")
	}
}

type always struct{ store.Store }

func (always) Allow(context.Context, string, store.Rate, int) (store.Result, error) {
	return store.Result{Allowed: true}, nil
}

var allowed = []store.Result{{Allowed: true}}

func (always) AllowMany(context.Context, []store.Take) ([]store.Result, error) { return allowed, nil }

func BenchmarkRateLimit(b *testing.B) {
	l, err := NewRateLimit(defaults(b), guard.Env{Store: always{}})
	if err != nil {
		b.Fatal(err)
	}
	for _, method := range []string{"GET", "POST"} {
		b.Run(method, func(b *testing.B) {
			r, _ := http.NewRequest(method, "/products/42", nil)
			x := &guard.Exchange{Request: r, Path: "/products/42", Client: guard.Client{Addr: netip.MustParseAddr("2001:db8::1")}}
			b.ReportAllocs()
			for b.Loop() {
				l.Request(x)
			}
		})
	}
}
