package abuse

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// storeTimeout is how long a request waits for the shared store: a limiter
// that hangs is an outage of its own making.
const storeTimeout = 50 * time.Millisecond

var layers = []*guard.Spec{bansSpec, rateLimitSpec, loginSpec}

var rateLimitSpec = &guard.Spec{
	Name:     "rate-limit",
	Control:  "abuse",
	Does:     "Lets each client ask only so often (GCRA), and only rarely try logins, resets and tokens.",
	Blocking: true,
	// A limiter whose store is gone must not be what stops the site: it
	// opens, and its health says so.
	Failure: guard.FailOpen,
	Event:   "excess_rate_limit_exceeded",
	Reasons: []guard.Reason{
		{
			Name: "rate-limit",
			Why:  "One client asked more often than a person with a browser does: scraping or flooding (CWE-770).",
			Fix:  "Raise abuse.rate, give the route a rate of its own, or list the client's network in abuse.allow.",
		},
		{
			Name: "rate-limit-sensitive",
			Why:  "One client sent more to login, reset or token paths than people do: password guessing (CWE-307).",
			Fix:  "Raise abuse.sensitive-rate when many people share one address, or set abuse.sensitive to the paths where guessing pays.",
		},
		{
			Name: "rate-limit-route",
			Why:  "One client asked more often than this route's own limit allows.",
			Fix:  "Raise rate in the [[route]] table.",
		},
	},
}

// rateLimit is the layer that counts requests per client.
type rateLimit struct {
	store     store.Store
	general   store.Rate
	sensitive store.Rate
	// What counts while the store is gone, in general and for guesses.
	gone, goneGuess store.Gone
	patterns        []string // lower case
	clients

	// failed is the error of the last call to the store, nil after one that
	// worked; open counts the requests that passed uncounted.
	failed atomic.Pointer[error]
	open   atomic.Uint64
}

// NewRateLimit makes the rate-limit layer.
func NewRateLimit(cfg Config, env guard.Env) (guard.Layer, error) {
	if p := cfg.Problems(); len(p) > 0 {
		return nil, fmt.Errorf("abuse.%s: %s", p[0].Key, p[0].Message)
	}
	if env.Store == nil {
		return nil, fmt.Errorf("abuse: the rate-limit layer needs a store")
	}
	l := &rateLimit{store: env.Store, general: cfg.Rate, sensitive: cfg.SensitiveRate, gone: cfg.StoreGone, goneGuess: cfg.LoginStoreGone, clients: newClients(cfg)}
	for _, s := range cfg.Sensitive {
		l.patterns = append(l.patterns, strings.ToLower(s))
	}
	return l, nil
}

// Request implements [guard.Layer].
func (l *rateLimit) Request(x *guard.Exchange) guard.Decision {
	addr := x.Client.Addr.Unmap().WithZone("")
	if l.allow.holds(addr) {
		return guard.Pass()
	}
	if o := x.Override; o != nil && o.Rate != nil {
		// The operator knows this route: its own limit replaces the others,
		// "off" included. All routes of one table share a bucket.
		return l.take(x, "o:"+o.Path+" "+strings.Join(o.Methods, ","), addr, *o.Rate, "rate-limit-route", "route")
	}
	if d := l.take(x, "g", addr, l.general, "rate-limit", "general"); d.Verdict != guard.Allow {
		return d
	}
	if l.guesses(x) {
		// One bucket for all sensitive paths: /login and /api/login are one
		// wall to a guesser.
		return l.take(x, "s", addr, l.sensitive, "rate-limit-sensitive", "sensitive")
	}
	return guard.Pass()
}

// guesses reports whether the request can try a password: looking at the
// login page does not.
func (l *rateLimit) guesses(x *guard.Exchange) bool {
	switch x.Request.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	path := strings.ToLower(strings.TrimRight(x.Path, "/"))
	for _, p := range l.patterns {
		if guard.MatchPattern(p, path) {
			return true
		}
	}
	return false
}

// take takes one unit from the client's bucket.
func (l *rateLimit) take(x *guard.Exchange, scope string, addr netip.Addr, rate store.Rate, reason, policy string) guard.Decision {
	if rate.IsZero() {
		return guard.Pass()
	}
	ctx, cancel := context.WithTimeout(x.Request.Context(), storeTimeout)
	var res store.Result
	var err error
	gone := l.gone
	if scope == "s" {
		gone = l.goneGuess // what stands before a guesser
	}
	if gone == store.Share {
		res, err = l.store.Allow(ctx, l.key(scope, addr), rate, 1)
	} else {
		var all []store.Result
		if all, err = l.store.AllowMany(ctx, []store.Take{{Key: l.key(scope, addr), Rate: rate, Cost: 1, Gone: gone}}); err == nil {
			res = all[0]
		}
	}
	cancel()
	if err != nil {
		// A client that hung up cancels the context: no fault of the store.
		if x.Request.Context().Err() == nil {
			l.failed.Store(&err)
		}
		l.open.Add(1)
		return guard.Pass()
	}
	if l.failed.Load() != nil {
		l.failed.Store(nil)
	}
	if res.Allowed {
		return guard.Pass()
	}
	d := guard.Refuse(http.StatusTooManyRequests, reason, "more than "+rate.String())
	// q units per window of w seconds; r left, and full again in t seconds.
	d.Header = limitHeader(policy, rate, res)
	return d
}

// key names a client's bucket. Clients without an address share one.
func (l *rateLimit) key(scope string, addr netip.Addr) string {
	b := make([]byte, 0, 96)
	b = append(b, "rate:"...)
	b = append(b, scope...)
	b = append(b, ':')
	p := l.network(addr)
	if !p.IsValid() {
		return string(append(b, "unknown"...))
	}
	return string(p.AppendTo(b))
}

// seconds writes d in whole seconds, rounded up: a client that waits as told
// must not come too early.
func seconds(d time.Duration) string {
	return strconv.Itoa(max(int(math.Ceil(d.Seconds())), 1))
}

// Health implements [guard.Reporter].
func (l *rateLimit) Health() error {
	if err := l.failed.Load(); err != nil {
		return fmt.Errorf("requests pass uncounted (%d so far): %w", l.open.Load(), *err)
	}
	return nil
}

// Describe implements [guard.Reporter].
func (l *rateLimit) Describe() string {
	return fmt.Sprintf("%s per client, %s on %d sensitive patterns", l.general, l.sensitive, len(l.patterns))
}
