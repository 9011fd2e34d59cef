package injection

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/waf"
)

func TestBudget(t *testing.T) {
	now := time.Unix(1e9, 0)
	b := &budget{now: func() time.Time { return now }}
	a, other, near := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8::2")
	for range budgetBurst {
		if b.spent(a) {
			t.Fatal("spent too early")
		}
		b.charge(a)
	}
	if !b.spent(a) || !b.spent(near) || b.spent(other) {
		t.Errorf("spent: %v, same subscriber %v, another %v", b.spent(a), b.spent(near), b.spent(other))
	}
	if mapped := netip.MustParseAddr("::ffff:192.0.2.1"); client(mapped) != netip.MustParseAddr("192.0.2.1") {
		t.Error("an IPv4 address in IPv6 form is another client")
	}
	now = now.Add(budgetEvery)
	if b.spent(a) {
		t.Error("nothing comes back")
	}
	for i := range 2 * budgetClients {
		b.charge(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if len(b.clients) > budgetClients {
		t.Errorf("%d accounts", len(b.clients))
	}
}

// A client that sends attack after attack is still refused for what it sends,
// without Coraza; others are judged as ever.
func TestAttackerGetsNoMoreOfCoraza(t *testing.T) {
	l := newLayer(t, Config{})
	now := time.Unix(1e9, 0)
	l.budget.now = func() time.Time { return now }
	asked := 0
	l.engine = counting{l.engine, func(v waf.Verdict) {
		if v.Reference {
			asked++
		}
	}}
	attack := func() string { return exchangeReason(l, "GET", "/?q=1'+UNION+SELECT+password+FROM+users--") }
	for range budgetBurst + 20 {
		if got := attack(); got != "waf-attack" {
			t.Fatalf("refused as %q", got)
		}
	}
	if asked != budgetBurst {
		t.Errorf("Coraza was asked %d times", asked)
	}
	if got := exchangeReason(l, "GET", "/?q=shoes"); got != "" {
		t.Errorf("an honest request of the same client is refused: %s", got)
	}
	now = now.Add(time.Minute)
	attack()
	if asked != budgetBurst+1 {
		t.Errorf("Coraza was asked %d times", asked)
	}
	if !slices.ContainsFunc(wafSpec.Reasons, func(r reason) bool { return r.Name == "waf-"+string(waf.ReasonBusy) }) {
		t.Error("waf-busy has no explanation")
	}
}

type reason = guard.Reason

// counting tells of every verdict.
type counting struct {
	inspector
	tell func(waf.Verdict)
}

func (c counting) Inspect(ctx context.Context, r waf.Request) (waf.Verdict, error) {
	v, err := c.inspector.Inspect(ctx, r)
	c.tell(v)
	return v, err
}

func exchangeReason(l *WAF, method, target string) string {
	return l.Request(exchange(method, target, "", "")).Reason
}
