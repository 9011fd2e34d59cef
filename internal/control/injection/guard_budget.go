package injection

import (
	"net/netip"
	"sync"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
)

// What one client may have Coraza judge. The compiled rules decide nearly
// everything in microseconds; Coraza takes milliseconds, and seconds for the
// worst texts, so that a client who only sends what needs it would have the
// processors to itself (CWE-770).
const (
	budgetBurst   = 60
	budgetEvery   = time.Second // for one more
	budgetClients = 8192
)

// budget counts the requests of each client that Coraza judged. It is safe for
// concurrent use.
type budget struct {
	mu      sync.Mutex
	clients map[netip.Addr]account
	now     func() time.Time
}

// account is what a client has left, as of a time.
type account struct {
	left float64
	at   time.Time
}

// client is who has an account: an IPv6 subscriber has a whole /64 (RFC 6177).
func client(a netip.Addr) netip.Addr {
	return guard.ClientNetwork(a).Addr()
}

// spent reports whether a client has nothing left.
func (b *budget) spent(a netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	have, ok := b.clients[client(a)]
	return ok && have.balance(b.now()) < 1
}

// charge takes one from a client's account.
func (b *budget) charge(a netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, now := client(a), b.now()
	have, ok := b.clients[a]
	if !ok {
		have = account{budgetBurst, now}
		if b.clients == nil {
			b.clients = map[netip.Addr]account{}
		}
		if len(b.clients) >= budgetClients {
			b.forget(now)
		}
	}
	b.clients[a] = account{have.balance(now) - 1, now}
}

// forget drops the accounts that are full again, and if there are none some
// others: a client who is forgotten starts anew, which costs less than memory
// without bound.
func (b *budget) forget(now time.Time) {
	for a, have := range b.clients {
		if have.balance(now) >= budgetBurst {
			delete(b.clients, a)
		}
	}
	for a := range b.clients {
		if len(b.clients) < budgetClients {
			return
		}
		delete(b.clients, a)
	}
}

func (a account) balance(now time.Time) float64 {
	return min(budgetBurst, a.left+now.Sub(a.at).Seconds()/budgetEvery.Seconds())
}
