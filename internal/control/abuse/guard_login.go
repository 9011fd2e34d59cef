package abuse

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/store"
)

var loginSpec = &guard.Spec{
	Name:     "login",
	Control:  "abuse",
	Does:     "Notices what comes of logins, second factors and reset codes in the app's own answers, and makes guessing slow: per account, client and network, and for all when an attack runs over many of them.",
	Blocking: true,
	Failure:  guard.FailOpen,
	Event:    "authn_login_fail_max",
	Commands: []guard.Command{
		{Name: "lockout list", Does: "List the accounts that are held for browsers they do not know, by the handle that the log has.", Args: []guard.Arg{
			{Name: "account", Does: "only this one: a handle, or the name that is typed to log in", Optional: true},
		}},
		{Name: "lockout lift", Does: "Let an account be tried again, with a full count.", Changes: true, Args: []guard.Arg{
			{Name: "account", Does: "a handle of the list, or the name that is typed to log in"},
		}},
	},
	Reasons: []guard.Reason{
		{
			Name: "login-held",
			Why:  "Too many passwords were tried for one account from browsers that had never logged in to it. Known browsers are let in; the hold ends by itself. It is the same whether the account exists or not (CWE-307, CWE-204).",
			Fix:  "Wait, or log in from a browser that was used before. Raise abuse.login-account when people really fail so often.",
		},
		{
			Name: "login-client",
			Why:  "One client, or one network, failed to log in more often than people do, over all accounts.",
			Fix:  "Raise abuse.login-client when many people share the address, or list it in abuse.allow.",
		},
		{
			Name: "login-names",
			Why:  "One login names more accounts than a form has fields for: it is made so that failures count for others.",
			Fix:  "Send the fields that the app reads.",
		},
		{
			Name: "login-parallel",
			Why:  "More logins at once than people make: guessing that hopes to be faster than the count.",
			Fix:  "Send logins one after another.",
		},
		{
			Name: "login-challenge",
			Why:  "After failed logins, or while an attack is going on, a browser that has never logged in to the account must do a little work first.",
			Fix:  "Let the page do its work and log in again; set abuse.challenge to \"off\" to do without.",
		},
		{
			Name: "login-attack",
			Why:  "While many accounts are under attack, a form that no browser sent, or a client with failed logins of its own, is turned away.",
			Fix:  "Use a browser. Raise abuse.stuffing or abuse.spraying when the site's own traffic sets it off.",
		},
		{
			Name: "login-sprayed",
			Why:  "The password is being tried on many accounts right now; from browsers that the account does not know it is not looked at.",
			Fix:  "Log in from a browser that was used before, or when the attack is over. Change the password: others use it, too.",
		},
		{
			Name: "login-account-rate",
			Why:  "One logged-in account asked more often than abuse.account-rate allows.",
			Fix:  "Raise abuse.account-rate.",
		},
		{
			Name: "login-failed",
			Why:  "The app refused a login, a second factor or a reset code.",
			Fix:  "Nothing, unless it comes often.",
		},
		{
			Name: "password-breached",
			Why:  "The password of a login that succeeded, or one that was chosen, is in a list of known passwords: it will be guessed (CWE-521).",
			Fix:  "Ask the user to choose another one. With abuse.breached-refuse it cannot be chosen.",
		},
	},
}

// Bounds of the login layer.
const (
	perAccount  = 3   // logins at once for one account
	perClient   = 32  // and of one client
	maxSleeping = 64  // logins that wait at once
	maxInFlight = 1e5 // accounts and clients that are counted at once
	// Wider networks get a multiple of what one client gets: a provider's
	// customer often has a /56 or a /48, a rented block of IPv4 a /24.
	wider24, wider56, wider48 = 8, 4, 16
	// aliasFor is how long a name is known to be that of an account. It is
	// short because every account that logs in takes a place in the store.
	aliasFor = 48 * time.Hour
	// knownDevices is how many times an account's failures all browsers that
	// know it may have together.
	knownDevices = 4
	aliasFolder  = "login-alias/"
	alarmFolder  = "login-attack/"
	lockFolder   = "login-lock/"
	// maxLocks bounds the lockouts that outlive a restart; the counts hold the
	// others.
	maxLocks = 1 << 15
	// knownBasic is how many pairs of HTTP Basic are remembered as right, and
	// for how long: an API client sends them with every request.
	knownBasic    = 4096
	knownBasicFor = 10 * time.Minute
	// askedPlaces is how many places are remembered that ask for such a pair.
	askedPlaces = 4096
)

// loginLayer is the layer against guessing. Only failures count, and what a
// user mistyped before a success is given back. An attempt whose outcome the
// app's answer does not tell counts half, and not alone; a second password for
// the same account is a failure whatever the answer was.
//
// Counts are in halves: 2 for a failure, 1 for an unknown outcome.
type loginLayer struct {
	clients
	store    store.Store
	local    *store.Memory // when the store is gone, at half the rates
	now      guard.Clock
	policy   func() *policy.Policy
	facts    func() guard.Facts
	publish  func(event.Event)
	patterns []string
	mode     guard.Mode

	perAccount  store.Rate // in halves
	perClient   store.Rate // in halves
	accountRate store.Rate
	gone        store.Gone // while the store is gone
	delay       time.Duration
	challenge   bool
	difficulty  int
	verifier    *verifier // the operator's page instead of the puzzle
	refuse      bool      // breached passwords, where one is chosen

	keys     keyring
	watch    *watch
	alarms   *store.Replica // attacks that some node sees
	locks    *store.Replica // accounts that are held
	variety  *variety
	learned  learned
	breached *breached
	closer   io.Closer

	mu       sync.Mutex
	inFlight map[string]int
	right    map[[16]byte]time.Time // pairs of HTTP Basic that were right
	stood    map[[16]byte]time.Time // pairs at places that did not answer 401
	asked    map[uint64]struct{}    // places that answered 401 for want of one
	seed     maphash.Seed           // of the keys of asked
	sleeping atomic.Int64

	failed  atomic.Pointer[error]
	checked atomic.Pointer[error] // of the breached file
	seen    [4]atomic.Uint64      // attempts by outcome
}

// NewLogin makes the login layer.
func NewLogin(cfg Config, env guard.Env) (guard.Layer, error) {
	if p := cfg.Problems(); len(p) > 0 {
		return nil, fmt.Errorf("abuse.%s: %s", p[0].Key, p[0].Message)
	}
	if env.Store == nil {
		return nil, errors.New("abuse: the login layer needs a store")
	}
	l := &loginLayer{
		clients: newClients(cfg), store: env.Store, now: env.Now, policy: env.Policy, facts: env.Facts, publish: env.Publish, mode: cfg.Login,
		perAccount: halves(cfg.LoginAccount), perClient: halves(cfg.LoginClient), accountRate: cfg.AccountRate, gone: cfg.LoginStoreGone, delay: time.Duration(cfg.LoginDelay),
		challenge: cfg.Challenge != "off", difficulty: cfg.ChallengeBits, refuse: cfg.BreachedRefuse,
		inFlight: map[string]int{}, right: map[[16]byte]time.Time{}, stood: map[[16]byte]time.Time{}, asked: map[uint64]struct{}{}, seed: maphash.MakeSeed(), variety: newVariety(), learned: learned{seen: map[string]int{}},
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.publish == nil {
		l.publish = func(event.Event) {}
	}
	if l.difficulty == 0 {
		l.difficulty = defaultDifficulty
	}
	for _, s := range cfg.Sensitive {
		l.patterns = append(l.patterns, strings.ToLower(s))
	}
	var err error
	if l.breached, l.closer, err = openBreached(cfg.Breached); err != nil {
		return nil, fmt.Errorf("abuse.breached: %w", err)
	}
	if cfg.Challenge == "page" {
		if env.Secret == nil {
			return nil, errors.New("abuse.challenge-secret: there is nothing to read secrets with")
		}
		secret, err := env.Secret(cfg.ChallengeKey)
		if err != nil {
			return nil, fmt.Errorf("abuse.challenge-secret: %w", err)
		}
		if len(secret.Reveal()) < 32 {
			return nil, errors.New("abuse.challenge-secret: shorter than 32 characters: it can be guessed")
		}
		u, err := url.Parse(cfg.ChallengePage)
		if err != nil {
			return nil, fmt.Errorf("abuse.challenge-page: %w", err)
		}
		l.verifier = &verifier{*u, []byte(secret.Reveal())}
	}
	l.keys.store, l.keys.now = env.Store, l.now
	l.watch = newWatch(cfg.Spraying, cfg.Stuffing, l.now)
	l.alarms = store.Follow(env.Store, alarmFolder, store.FollowOptions{Every: time.Second, Entries: 16, Now: l.now})
	l.locks = store.Follow(env.Store, lockFolder, store.FollowOptions{Entries: maxLocks, Now: l.now})
	l.local = store.NewMemory(store.MemoryOptions{Buckets: 1 << 15, Entries: 1 << 14, Bytes: 4 << 20, Now: l.now})
	return l, nil
}

const defaultDifficulty = 18

// halves is a rate of failures in halves.
func halves(r store.Rate) store.Rate {
	return store.Rate{Requests: 2 * r.Requests, Per: r.Per, Burst: 2 * burstOf(r)}
}

func burstOf(r store.Rate) int {
	if r.Burst == 0 {
		return r.Requests
	}
	return r.Burst
}

// times is a rate for n clients.
func times(r store.Rate, n int) store.Rate {
	return store.Rate{Requests: n * r.Requests, Per: r.Per, Burst: n * burstOf(r)}
}

// Close lets go of the operator's file.
func (l *loginLayer) Close() error {
	_ = l.local.Close()
	_ = l.alarms.Close()
	_ = l.locks.Close()
	if l.closer != nil {
		return l.closer.Close()
	}
	return nil
}

// tried is an attempt on its way, from the request to the answer.
type tried struct {
	attempt
	names   []string // handles of the accounts
	device  *device
	known   bool // the browser has logged in to the account, the only one, before
	client  netip.Prefix
	takes   []store.Take // what it counts against: account or device, pair, client, networks
	left    []store.Result
	pair    [16]byte // of HTTP Basic, and the client
	release func()
	done    bool
}

type triedKey struct{}

// one reports whether the attempt names exactly one account. Only then is it
// sure whose a success is.
func (t *tried) one() bool { return len(t.names) == 1 }

// who names the accounts for the log.
func (t *tried) who() string { return strings.Join(t.names, " ") }

// Request implements [guard.Layer].
func (l *loginLayer) Request(x *guard.Exchange) guard.Decision {
	secure := x.Client.Scheme == "https"
	deviceValue, proof := takeCookies(x.Request.Header, secure)
	var browser *device
	if deviceValue != "" {
		if browser = openDevice(l.keys.get(), deviceValue); browser != nil {
			x.Identity.Device = base64.RawURLEncoding.EncodeToString(browser.id[:])
		}
	}
	if d, ok := l.returned(x); ok {
		return d
	}
	if d := l.account(x); d.Verdict != guard.Allow {
		return d
	}
	a := l.detect(x)
	if a.kind == noAttempt {
		return guard.Pass()
	}
	k := l.keys.get()
	now := l.now()
	t := &tried{attempt: a, release: func() {}}
	addr := x.Client.Addr.Unmap().WithZone("")
	t.client = l.network(addr)
	if l.refuse && a.chosen != "" && l.isBreached(a.chosen) {
		d := guard.Refuse(http.StatusUnprocessableEntity, "password-breached", "a known password was chosen")
		d.Event, d.Severity = "dewar_password_breached", event.Info
		return d
	}
	if a.kind == newPassword {
		x.SetValue(triedKey{}, t)
		return guard.Pass()
	}
	if a.basic != nil {
		t.pair = [16]byte(handleBytes(handle(k.account, "basic", t.client.String()+"\x00"+a.basic[0]+"\x00"+a.basic[1])))
		right := l.wasRight(x.Request, t.pair, now)
		switch {
		case a.kind != basicAuth && !right && a.basic[0] != "" && !slices.Contains(a.accounts, a.basic[0]):
			// The app may look at the header and not at the form.
			a.accounts = append(slices.Clone(a.accounts), a.basic[0])
			t.accounts = a.accounts
		case a.kind == basicAuth && right:
			return guard.Pass()
		}
	}
	if len(a.accounts) > maxNames {
		return guard.Refuse(http.StatusBadRequest, "login-names", fmt.Sprintf("%d names of accounts", len(a.accounts)))
	}
	for _, n := range a.accounts {
		t.names = append(t.names, handle(k.account, "name", n))
	}
	t.device = browser
	// A browser is known by the name and by the account that it stands for.
	known := t.one() && browser.knows(t.names[0], now)
	l.resolve(x, t.names)
	t.known = t.one() && (known || browser.knows(t.names[0], now))
	d := guard.Pass()
	if !l.allow.holds(addr) {
		d = l.judge(x, t, addr, proof, k, now)
	}
	x.SetValue(triedKey{}, t)
	// Whoever hangs up before the answer has tried all the same.
	context.AfterFunc(x.Request.Context(), func() { t.release() })
	return d
}

// account takes one from the bucket of a logged-in account.
func (l *loginLayer) account(x *guard.Exchange) guard.Decision {
	if l.accountRate.IsZero() || x.Identity.Account == "" && x.Identity.Subject == "" {
		return guard.Pass()
	}
	key := "login/u/" + handle(l.keys.get().account, "id", x.Identity.Issuer+"\x00"+x.Identity.Subject+"\x00"+x.Identity.Account)
	res, ok := l.many(x, []store.Take{{Key: key, Rate: l.accountRate, Cost: 1, Gone: l.gone}})
	if !ok || res[0].Allowed {
		return guard.Pass()
	}
	d := guard.Refuse(http.StatusTooManyRequests, "login-account-rate", "more than "+l.accountRate.String())
	d.Header, d.Event = limitHeader("account", l.accountRate, res[0]), "excess_rate_limit_exceeded"
	return d
}

// resolve puts the handle of the account in the place of that of a name, where
// a user name and an e-mail address were seen to be the same account: two names
// do not double the tries.
func (l *loginLayer) resolve(x *guard.Exchange, names []string) {
	if len(names) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(x.Request.Context(), storeTimeout)
	defer cancel()
	ask := make([]string, len(names))
	for i, n := range names {
		ask[i] = aliasFolder + n
	}
	found, err := l.store.GetMany(ctx, ask)
	for i := range found {
		if err == nil && len(found[i]) == len(names[i]) {
			names[i] = string(found[i])
		}
	}
}

// judge says whether an attempt may be made. What it says depends on counts
// under the name that was given, whether the account exists or not.
func (l *loginLayer) judge(x *guard.Exchange, t *tried, addr netip.Addr, proof string, k *keys, now time.Time) guard.Decision {
	if !l.enter(t) {
		return l.wait("login-parallel", "too many at once", 2*time.Second)
	}
	l.against(t, addr, k)
	if !t.known {
		for _, n := range t.names {
			if h, ok := l.held(t.kind, n); ok {
				return l.wait("login-held", "account "+n, max(h.Until.Sub(now), time.Second))
			}
		}
	}
	left, ok := l.many(x, peeks(t.takes))
	if !ok {
		return guard.Pass() // neither store answers: not possible but for a broken one
	}
	t.left = left
	for i, take := range t.takes {
		// A pair's count only says how long to wait: the account's decides.
		if strings.HasPrefix(take.Key, "login/p/") || left[i].Remaining >= 2 {
			continue
		}
		after := refill(take.Rate, left[i], 2)
		if strings.HasPrefix(take.Key, "login/a/") || strings.HasPrefix(take.Key, "login/d/") || strings.HasPrefix(take.Key, "login/k/") {
			return l.wait("login-held", "account "+t.who(), after)
		}
		return l.wait("login-client", take.Key[len("login/"):], after)
	}
	on, sprayed := l.watch.active(t.password)
	for a := range on {
		on[a] = on[a] || l.alarms.Has(alarmFolder+attack(a).String())
	}
	attacked := on[spraying] || on[stuffing]
	if t.known {
		return guard.Pass()
	}
	var budget, client float64 = 1, 1 // shares that are left
	for i, take := range t.takes {
		share := float64(left[i].Remaining) / float64(burstOf(take.Rate))
		switch {
		case strings.HasPrefix(take.Key, "login/a/"):
			budget = min(budget, share)
		case strings.HasPrefix(take.Key, "login/c/"):
			client = share
		}
	}
	body := strings.ToLower(x.Request.Header.Get("Content-Type"))
	form := !strings.Contains(body, "json") && t.kind != basicAuth
	if l.challenge && form && (attacked || budget <= 0.5 || client <= 0.25) {
		name, right := l.proven(t, k, proof, now)
		switch {
		case right && l.spend(x, name):
		case navigates(x.Request):
			return l.ask(x, t, k, now)
		case attacked:
			return l.attack("login-attack", on, "no browser sent the form")
		}
	} else if sprayed {
		return l.attack("login-sprayed", on, "the password is tried on many accounts")
	} else if attacked && client < 0.75 {
		return l.attack("login-attack", on, "the client has failed before")
	}
	l.slow(x, t)
	return guard.Pass()
}

// against lists what the attempt counts against.
func (l *loginLayer) against(t *tried, addr netip.Addr, k *keys) {
	add := func(key string, r store.Rate) {
		if !r.IsZero() {
			t.takes = append(t.takes, store.Take{Key: key, Rate: r, Gone: l.gone})
		}
	}
	kind := t.kind.String()[:1] // codes and passwords are counted apart
	for _, name := range t.names {
		if t.known {
			add("login/d/"+kind+handle(k.account, "device", string(t.device.id[:]))+name, l.perAccount)
			add("login/k/"+kind+name, times(l.perAccount, knownDevices))
		} else {
			add("login/a/"+kind+name, l.perAccount)
			add("login/p/"+kind+name+"/"+t.client.String(), l.perAccount)
		}
	}
	if !t.client.IsValid() {
		add("login/c/unknown", l.perClient)
		return
	}
	add("login/c/"+t.client.String(), l.perClient)
	for _, w := range l.wider(addr) {
		add("login/n/"+w.Prefix.String(), times(l.perClient, int(w.owner)))
	}
}

// wider returns the networks around a client, with the multiple of one
// client's share that each gets as owner.
func (l *loginLayer) wider(addr netip.Addr) []owned {
	var out []owned
	add := func(bits, n, client int) {
		if bits < client {
			if p, err := addr.Prefix(bits); err == nil {
				out = append(out, owned{p, uint16(n)})
			}
		}
	}
	if addr.Is4() {
		add(24, wider24, l.v4)
	} else {
		add(56, wider56, l.v6)
		add(48, wider48, l.v6)
	}
	return out
}

func peeks(takes []store.Take) []store.Take {
	out := make([]store.Take, len(takes))
	for i, t := range takes {
		out[i] = store.Take{Key: t.Key, Rate: t.Rate, Gone: t.Gone}
	}
	return out
}

// refill is how long it takes until n units are there.
func refill(r store.Rate, left store.Result, n int) time.Duration {
	return time.Duration(float64(r.Per)/float64(r.Requests)*float64(n-left.Remaining)) + time.Second/2
}

// many asks the store, or this process's own counts at half the rates when it
// does not answer: what stands between a guesser and an account tightens, it
// does not open.
func (l *loginLayer) many(x *guard.Exchange, takes []store.Take) ([]store.Result, bool) {
	if len(takes) == 0 {
		return nil, true
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Request.Context()), storeTimeout)
	defer cancel()
	res, err := l.store.AllowMany(ctx, takes)
	if err == nil {
		if l.failed.Load() != nil {
			l.failed.Store(nil)
		}
		return res, true
	}
	l.failed.Store(&err)
	half := make([]store.Take, len(takes))
	for i, t := range takes {
		r := t.Rate
		r.Burst = max(burstOf(r)/2, 2)
		r.Per *= 2
		half[i] = store.Take{Key: t.Key, Rate: r, Cost: min(t.Cost, r.Burst)}
	}
	res, err = l.local.AllowMany(context.Background(), half)
	return res, err == nil
}

// wait is the refusal that is the same for every account.
func (l *loginLayer) wait(reason, detail string, after time.Duration) guard.Decision {
	d := guard.Refuse(http.StatusTooManyRequests, reason, detail)
	d.Header = http.Header{"Retry-After": {seconds(after)}}
	return d
}

func (l *loginLayer) attack(reason string, on [attacks]bool, detail string) guard.Decision {
	d := l.wait(reason, detail, l.watch.window)
	d.Event = "malicious_credential_stuffing"
	if on[spraying] {
		d.Event = "malicious_password_spraying"
	}
	return d
}

// enter counts the attempt among those that run; t.release takes it out.
func (l *loginLayer) enter(t *tried) (entered bool) {
	held := []string{"c" + t.client.String()}
	for _, n := range t.names {
		held = append(held, "a"+n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.kind == basicAuth {
		// A program sends its pair with every request: that many at once try
		// one password.
		pair := "b" + string(t.pair[:])
		if l.inFlight[pair] > 0 {
			l.inFlight[pair]++
			t.release = sync.OnceFunc(func() { l.leave(pair, held) })
			return true
		}
		defer func() {
			if entered {
				l.inFlight[pair] = 1
				t.release = sync.OnceFunc(func() { l.leave(pair, held) })
			}
		}()
	}
	for i, h := range held {
		if n := l.inFlight[h]; i == 0 && n >= perClient || i > 0 && n >= perAccount {
			return false
		}
	}
	if len(l.inFlight) >= maxInFlight {
		return false
	}
	for _, h := range held {
		l.inFlight[h]++
	}
	t.release = sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, h := range held {
			if l.inFlight[h]--; l.inFlight[h] <= 0 {
				delete(l.inFlight, h)
			}
		}
	})
	return true
}

// leave takes one request with a pair out, and what the pair counts against
// with the last of them.
func (l *loginLayer) leave(pair string, held []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inFlight[pair]--; l.inFlight[pair] > 0 {
		return
	}
	delete(l.inFlight, pair)
	for _, h := range held {
		if l.inFlight[h]--; l.inFlight[h] <= 0 {
			delete(l.inFlight, h)
		}
	}
}

// slow lets an attempt wait, the longer the more failed before it, as long as
// few others do: whoever waits holds a connection. Beyond that the counts must
// do.
func (l *loginLayer) slow(x *guard.Exchange, t *tried) {
	if l.delay <= 0 || l.mode != guard.Enforce || x.Override != nil && x.Override.Modes["login"] != guard.Enforce {
		return
	}
	fails := 0
	for i, take := range t.takes {
		if strings.HasPrefix(take.Key, "login/a/") || strings.HasPrefix(take.Key, "login/p/") {
			fails = max(fails, (burstOf(take.Rate)-t.left[i].Remaining)/2)
		}
	}
	if fails < 3 {
		return
	}
	wait := min(100*time.Millisecond<<min(fails-3, 10), l.delay)
	if l.sleeping.Add(1) <= maxSleeping {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-x.Request.Context().Done():
			timer.Stop()
		}
	}
	l.sleeping.Add(-1)
}

// ask is the decision to show a puzzle.
func (l *loginLayer) ask(x *guard.Exchange, t *tried, k *keys, now time.Time) guard.Decision {
	back := x.Path
	if u, err := x.Request.URL.Parse(x.Request.Header.Get("Referer")); err == nil && strings.EqualFold(u.Host, x.Client.Host) && u.Path != "" {
		back = u.EscapedPath()
	}
	back = localPath(back)
	d := l.wait("login-challenge", "", time.Minute)
	d.Event, d.Severity = "dewar_challenge", event.Info
	d.Header.Set("Content-Type", "text/html; charset=utf-8")
	if origin, ok := x.Client.Origin(); l.verifier != nil && ok {
		d.Body = verifierPage(l.verifier.address(newPuzzle(k.proof, t.client, 0, now), origin, back), x.ID)
		d.Header.Set("Content-Security-Policy", verifierCSP)
		return d
	}
	d.Body = challengePage(newPuzzle(k.proof, t.client, l.difficulty, now), l.difficulty, x.Client.Scheme == "https", back, l.watch.window, x.ID)
	d.Header.Set("Content-Security-Policy", challengeCSP)
	return d
}

// proven checks what a browser brought from the challenge.
func (l *loginLayer) proven(t *tried, k *keys, proof string, now time.Time) (name string, ok bool) {
	if l.verifier != nil {
		return l.verifier.signed(k.proof, t.client, proof, now)
	}
	return solved(k.proof, t.client, l.difficulty, proof, now)
}

// spend reports whether a solved puzzle is used for the first time.
func (l *loginLayer) spend(x *guard.Exchange, name string) bool {
	ctx, cancel := context.WithTimeout(x.Request.Context(), storeTimeout)
	defer cancel()
	first, err := l.store.Once(ctx, "login-puzzle/"+name, puzzleFor+time.Minute)
	if err != nil {
		// Once on each node, while the store is gone.
		first, err = l.local.Once(context.Background(), "login-puzzle/"+name, puzzleFor+time.Minute)
	}
	return err == nil && first
}

// wasRight reports whether a client's pair of HTTP Basic was right not long
// ago, or was answered at the very same place by something else than 401: then
// the place is for everybody, or the pair is right. Each use makes it last.
func (l *loginLayer) wasRight(r *http.Request, pair [16]byte, now time.Time) bool {
	here := standing(pair, l.place(r))
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range []struct {
		in  map[[16]byte]time.Time
		key [16]byte
	}{{l.right, pair}, {l.stood, here}} {
		if at, ok := k.in[k.key]; ok && now.Sub(at) < knownBasicFor && (k.key == pair || alone(r)) {
			k.in[k.key] = now
			return true
		}
	}
	return false
}

func (l *loginLayer) isRight(pair [16]byte, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	remember(l.right, pair, now)
}

// stands remembers that a place answered a pair by something else than 401.
func (l *loginLayer) stands(r *http.Request, pair [16]byte, now time.Time) {
	if !alone(r) {
		return
	}
	here := standing(pair, l.place(r))
	l.mu.Lock()
	defer l.mu.Unlock()
	remember(l.stood, here, now)
}

func remember(in map[[16]byte]time.Time, key [16]byte, now time.Time) {
	if len(in) >= knownBasic {
		for k, at := range in {
			if len(in) < knownBasic && now.Sub(at) < knownBasicFor {
				break
			}
			delete(in, k)
		}
	}
	in[key] = now
}

// standing is the key of a pair at a place.
func standing(pair [16]byte, place uint64) [16]byte {
	binary.LittleEndian.PutUint64(pair[:8], binary.LittleEndian.Uint64(pair[:8])^place)
	return pair
}

// alone reports whether a request brings nothing but the pair that may open a
// place: no session, no body with a name and a password.
func alone(r *http.Request) bool {
	return len(r.Header["Cookie"]) == 0 && r.ContentLength == 0
}

// place is what a request asks for, as far as its line tells.
func (l *loginLayer) place(r *http.Request) uint64 {
	var h maphash.Hash
	h.SetSeed(l.seed)
	h.WriteString(r.Method)
	h.WriteByte(' ')
	h.WriteString(r.URL.EscapedPath())
	h.WriteByte('?')
	h.WriteString(r.URL.RawQuery)
	return h.Sum64()
}

// asks remembers that a place asked for a pair of HTTP Basic.
func (l *loginLayer) asks(r *http.Request) {
	place := l.place(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := range l.asked {
		if len(l.asked) < askedPlaces {
			break
		}
		delete(l.asked, k)
	}
	l.asked[place] = struct{}{}
}

// proves reports whether an answer other than 401 says that a pair is right:
// the place is known to ask for one, and the request brought nothing else that
// may have opened it. What is for everybody says nothing.
func (l *loginLayer) proves(r *http.Request) bool {
	if !alone(r) {
		return false
	}
	place := l.place(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.asked[place]
	return ok
}

// isBreached reports whether a password is in a list.
func (l *loginLayer) isBreached(password string) bool {
	found, err := l.breached.has(password)
	if err != nil {
		l.checked.Store(&err)
	}
	return found
}

// Response implements [guard.Responder].
func (l *loginLayer) Response(x *guard.Exchange, r *http.Response) guard.Decision {
	if r.StatusCode == http.StatusUnauthorized && asksBasic(r.Header) && !refused(x) {
		l.asks(x.Request)
	}
	t, _ := x.Value(triedKey{}).(*tried)
	if t == nil || t.done {
		return guard.Pass()
	}
	t.done = true
	t.release()
	if refused(x) {
		return guard.Pass() // the app has seen no password
	}
	if x.ThroughProbe {
		return guard.Pass() // the operator's own: it asks whether there is a limit, and guesses nothing
	}
	o, why, user := l.infer(x, r, &t.attempt)
	if t.chosen != "" && o != failure && o != untried && l.isBreached(t.chosen) {
		x.Note(guard.Note{Event: "dewar_password_breached", Severity: event.Warn, Reason: "password-breached", Detail: "chosen", Attributes: map[string]string{"kind": t.kind.String()}})
	}
	if t.kind == newPassword {
		return guard.Pass()
	}
	l.seen[o].Add(1)
	now := l.now()
	if o == unknown {
		for _, n := range t.names {
			if l.variety.another(n, t.password, now) {
				o, why = failure, "another password for the same account"
			}
		}
	}
	attributes := map[string]string{"kind": t.kind.String(), "account": t.who(), "why": why, "route": t.route, "device": "unknown"}
	if t.known {
		attributes["device"] = "known"
	}
	if t.kind == basicAuth && o == untried && r.StatusCode < 400 {
		l.stands(x.Request, t.pair, now)
	}
	switch o {
	case failure:
		l.count(x, t, 2)
		l.hold(x, t, now)
		x.Note(guard.Note{Event: "authn_login_fail", Severity: event.Info, Reason: "login-failed", Attributes: attributes})
		l.observe(x, t)
	case unknown:
		// It may have been right: thirty new users with the same first
		// password are no attack.
		if l.charged(t) {
			l.count(x, t, 1)
		}
	case success:
		l.succeed(x, r, t, user, now, attributes)
	}
	return guard.Pass()
}

// refused reports whether the answer is a page of the guard's own.
func refused(x *guard.Exchange) bool {
	for i := range x.Decisions {
		if d := &x.Decisions[i]; d.Verdict == guard.Deny || d.Verdict == guard.Answer {
			return true
		}
	}
	return false
}

// asksBasic reports whether an answer asks for HTTP Basic (RFC 9110 section
// 11.6.1).
func asksBasic(h http.Header) bool {
	for _, v := range h["Www-Authenticate"] {
		for one := range strings.SplitSeq(v, ",") {
			if scheme, _, _ := strings.Cut(strings.TrimSpace(one), " "); strings.EqualFold(scheme, "basic") {
				return true
			}
		}
	}
	return false
}

// charged reports whether a failure is on one of the counts already: an
// unknown outcome does not begin one.
func (l *loginLayer) charged(t *tried) bool {
	for i, take := range t.takes {
		if i < len(t.left) && t.left[i].Remaining < burstOf(take.Rate) && !strings.HasPrefix(take.Key, "login/n/") && !strings.HasPrefix(take.Key, "login/c/") {
			return true
		}
	}
	return false
}

// count takes halves from everything the attempt counts against.
func (l *loginLayer) count(x *guard.Exchange, t *tried, halves int) {
	takes := peeks(t.takes)
	for i := range takes {
		takes[i].Cost = halves
	}
	if res, ok := l.many(x, takes); ok {
		t.left = res
	}
}

// lockout is one account that is held, as it stands in the store: a count may
// be forgotten at a restart, this is not.
type lockout struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
}

func lockKey(kind attemptKind, name string) string {
	return lockFolder + kind.String()[:1] + name
}

// held reports whether an account is held for browsers it does not know.
func (l *loginLayer) held(kind attemptKind, name string) (h lockout, ok bool) {
	key := lockKey(kind, name)
	if !l.locks.Has(key) {
		return lockout{}, false
	}
	v, ok := l.locks.Get(key)
	return h, ok && json.Unmarshal(v, &h) == nil
}

// hold begins a lockout where a failure used up what an account had.
func (l *loginLayer) hold(x *guard.Exchange, t *tried, now time.Time) {
	for i, take := range t.takes {
		name, ok := strings.CutPrefix(take.Key, "login/a/"+t.kind.String()[:1])
		if !ok || i >= len(t.left) || t.left[i].Remaining >= 2 || l.locks.Has(lockKey(t.kind, name)) {
			continue
		}
		h := lockout{Since: now, Until: now.Add(refill(take.Rate, t.left[i], 2))}
		v, err := json.Marshal(h)
		if err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Request.Context()), storeTimeout)
		_ = l.locks.Put(ctx, lockKey(t.kind, name), v, h.Until.Sub(now)) // the count holds it, too
		cancel()
		x.Note(guard.Note{Event: "authn_login_lock", Severity: event.Warn, Reason: "login-held", Detail: "held for browsers it does not know, until " + h.Until.UTC().Format(time.RFC3339),
			Attributes: map[string]string{"account": name, "kind": t.kind.String()}})
	}
}

// lockRow is a lockout as "dewar lockout list" shows it.
type lockRow struct {
	Account string `json:"account"`
	Kind    string `json:"kind"`
	Since   string `json:"since"`
	Until   string `json:"until"`
}

// Operate implements [guard.Operator].
func (l *loginLayer) Operate(ctx context.Context, command string, args map[string]string) (any, error) {
	k := l.keys.get()
	names := []string{}
	if n := normalName(args["account"]); n != "" {
		h := handle(k.account, "name", n)
		names = append(names, args["account"], h) // a handle from the list, or a name
		if v, ok, err := l.store.Get(ctx, aliasFolder+h); err == nil && ok {
			names = append(names, string(v))
		}
	}
	kinds := map[string]attemptKind{}
	for _, kind := range []attemptKind{login, secondFactor, resetCode, basicAuth} {
		kinds[kind.String()[:1]] = kind
	}
	rows := []lockRow{}
	var keys []string
	l.locks.Range(func(e store.Entry) bool {
		rest := strings.TrimPrefix(e.Key, lockFolder)
		var h lockout
		if len(rest) < 2 || json.Unmarshal(e.Value, &h) != nil || len(names) > 0 && !slices.Contains(names, rest[1:]) {
			return true
		}
		rows = append(rows, lockRow{rest[1:], kinds[rest[:1]].String(), h.Since.UTC().Format(time.RFC3339), h.Until.UTC().Format(time.RFC3339)})
		keys = append(keys, rest)
		return true
	})
	switch command {
	case "lockout list":
		slices.SortFunc(rows, func(a, b lockRow) int {
			return cmp.Or(cmp.Compare(a.Until, b.Until), cmp.Compare(a.Account, b.Account))
		})
		return rows, nil
	case "lockout lift":
		if len(rows) == 0 {
			return nil, errors.New("no such account is held")
		}
		for _, rest := range keys {
			if err := l.locks.Delete(ctx, lockFolder+rest); err != nil {
				return nil, err
			}
			if _, err := l.store.AllowMany(ctx, []store.Take{{Key: "login/a/" + rest, Rate: l.perAccount, Cost: -l.perAccount.Burst}}); err != nil {
				return nil, err
			}
		}
		return rows, nil
	}
	return nil, guard.ErrNoCommand
}

// observe tells the watch over all accounts.
func (l *loginLayer) observe(x *guard.Exchange, t *tried) {
	if t.known || t.kind != login && t.kind != basicAuth {
		return
	}
	for _, a := range l.watch.tried(t.who(), t.client, t.password) {
		n := guard.Note{Event: "malicious_credential_stuffing", Severity: event.Critical, Reason: "login-attack", Detail: "many pairs of names and passwords are tried, and few are right"}
		if a == spraying {
			n.Event, n.Detail = "malicious_password_spraying", "one password is tried on many accounts"
		}
		n.Attributes = map[string]string{"attack": a.String()}
		x.Note(n)
		l.alarm(x, a)
	}
}

// alarm tells the other nodes, and those that come after this one.
func (l *loginLayer) alarm(x *guard.Exchange, a attack) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Request.Context()), storeTimeout)
	defer cancel()
	_ = l.alarms.Put(ctx, alarmFolder+a.String(), []byte("on"), l.watch.window) // counts here in any case
}

// succeed gives back what the user had mistyped, remembers the browser, and
// looks whether the password is known to others.
func (l *loginLayer) succeed(x *guard.Exchange, r *http.Response, t *tried, user string, now time.Time, attributes map[string]string) {
	l.watch.succeeded()
	if t.kind == basicAuth {
		l.isRight(t.pair, now)
	}
	fails := 0
	var back []store.Take
	for i, take := range t.takes {
		if i < len(t.left) && t.one() && (strings.HasPrefix(take.Key, "login/p/") || strings.HasPrefix(take.Key, "login/d/")) {
			fails = burstOf(take.Rate) - t.left[i].Remaining
		}
	}
	if fails > 0 {
		for _, take := range t.takes {
			take.Cost = -fails
			back = append(back, take)
		}
		l.many(x, back)
		attributes["retries"] = strconv.Itoa(int(math.Ceil(float64(fails) / 2)))
		x.Note(guard.Note{Event: "authn_login_successafterfail", Attributes: attributes})
	}
	if !t.one() {
		return
	}
	k := l.keys.get()
	name, typed := t.names[0], handle(k.account, "name", t.accounts[0])
	// {"logged_in": true} says that somebody is logged in, and not who: the
	// same for all is no account.
	if user != "" && user != "true" {
		if id := handle(k.account, "user", user); id != name {
			// Whatever names log in to one id are one account.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Request.Context()), storeTimeout)
			err := l.store.Put(ctx, aliasFolder+typed, []byte(id), aliasFor)
			cancel()
			if err == nil {
				name = id
			}
		}
	}
	if t.kind == login {
		// Only a browser keeps a cookie; every other client ignores it.
		setCookie(r.Header, deviceCookie, t.device.learn(typed, now).learn(name, now).seal(k), x.Client.Scheme == "https", deviceFor)
		if t.chosen == "" && l.isBreached(t.password) {
			x.Note(guard.Note{Event: "dewar_password_breached", Severity: event.Warn, Reason: "password-breached", Detail: "in use", Attributes: map[string]string{"kind": t.kind.String(), "account": name}})
		}
	}
}

// limitHeader writes the standard fields (draft-ietf-httpapi-ratelimit-headers).
func limitHeader(policy string, rate store.Rate, res store.Result) http.Header {
	burst := burstOf(rate)
	window := seconds(time.Duration(float64(rate.Per) * float64(burst) / float64(rate.Requests)))
	return http.Header{
		"Retry-After":      {seconds(res.RetryAfter)},
		"Ratelimit-Policy": {`"` + policy + `";q=` + strconv.Itoa(burst) + ";w=" + window},
		"Ratelimit":        {`"` + policy + `";r=` + strconv.Itoa(max(res.Remaining, 0)) + ";t=" + seconds(res.ResetAfter)},
	}
}

// Health implements [guard.Reporter].
func (l *loginLayer) Health() error {
	if err := l.failed.Load(); err != nil {
		return fmt.Errorf("the store does not answer; logins are counted in this process, at half the rates: %w", *err)
	}
	if err := l.checked.Load(); err != nil {
		return fmt.Errorf("abuse.breached: %w", *err)
	}
	return nil
}

// Describe implements [guard.Reporter].
func (l *loginLayer) Describe() string {
	return fmt.Sprintf("%s failures per account and %s per client; %d logins failed, %d succeeded, %d cannot be told%s",
		whole(l.perAccount), whole(l.perClient), l.seen[failure].Load(), l.seen[success].Load(), l.seen[unknown].Load(), l.watch)
}

// whole undoes halves.
func whole(r store.Rate) string {
	return store.Rate{Requests: r.Requests / 2, Per: r.Per, Burst: r.Burst / 2}.String()
}
