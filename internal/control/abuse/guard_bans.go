package abuse

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

var bansSpec = &guard.Spec{
	Name:     "bans",
	Control:  "abuse",
	Does:     "Refuses banned clients, and networks and autonomous systems of the operator's lists, before anything costs; bans clients that attack again and again.",
	Partial:  true,
	Blocking: true,
	Failure:  guard.FailOpen,
	Event:    "dewar_banned",
	Severity: event.Info,
	Reasons: []guard.Reason{
		{
			Name: "banned",
			Why:  "The client is on the ban list: it attacked again and again, or the operator put it there.",
			Fix:  "See \"dewar ban list\" for who banned it and why, and \"dewar ban lift\". List networks that must never be banned in abuse.allow.",
		},
		{
			Name: "listed",
			Why:  "The client's network is in one of the files of abuse.lists.",
			Fix:  "Put the network into abuse.allow, which wins, or leave the list out.",
		},
		{
			Name: "listed-system",
			Why:  "The client's address is announced by an autonomous system that the operator refuses.",
			Fix:  "Put the network into abuse.allow, which wins, or take the number out of abuse.asns.",
		},
		{
			Name: "ban-points",
			Why:  "The client collected as many points for refused attacks as abuse.ban-after allows, and is banned for a while.",
			Fix:  "Look at its refusals in the log. Lift the ban, raise abuse.ban-after or lower the event's number in abuse.ban-points; list the network in abuse.allow when it is the security team's.",
		},
	},
	Commands: []guard.Command{
		{Name: "ban add", Does: "Refuse an address or a network from now on.", Changes: true, Args: []guard.Arg{
			{Name: "network", Does: "an address or a network, such as 203.0.113.7 or 2001:db8::/48"},
			{Name: "for", Does: "how long, such as 30m or 7d; abuse.ban-for when it is left out", Optional: true},
			{Name: "reason", Does: "why, for the list and the log", Optional: true},
		}},
		{Name: "ban list", Does: "List the bans in force, those of the guard and those of operators.", Args: []guard.Arg{
			{Name: "address", Does: "only the bans that hold for this address", Optional: true},
		}},
		{Name: "ban lift", Does: "Let a banned address or network in again.", Changes: true, Args: []guard.Arg{
			{Name: "network", Does: "the network as \"dewar ban list\" shows it"},
		}},
	},
}

// banPoints is what one refusal counts towards a ban, by the event's name:
// only what people do not do by accident, and little where a rule may be wrong
// about somebody in an office that shares the address. Limits and failed logins
// are not among them: a whole office may run into those.
var banPoints = map[string]int{
	"malicious_direct_reference": 10,
	"malicious_attack_tool":      5,
	"malicious_session":          5,
	"malicious_script":           5,
	"input_validation_fail":      1,
	"upload_validation":          1,
}

const (
	banFolder = "ban/"
	// maxBans bounds the bans in force, some 20 MB.
	maxBans = 100_000
	// maxBanFor bounds one ban: nothing here is for ever.
	maxBanFor = 366 * 24 * time.Hour
	// refreshEvery is how often changed files and bans that have ended are
	// looked for, while requests come.
	refreshEvery = 5 * time.Second
)

// ban is one entry of the ban list, as it stands in the store.
type ban struct {
	Network netip.Prefix `json:"network"`
	Reason  string       `json:"reason"`
	By      string       `json:"by"` // "guard" or "operator"
	Since   time.Time    `json:"since"`
	Until   time.Time    `json:"until"`
}

// bans is the layer that turns banned clients away.
//
// The list lies in the store, so it outlives a reload and, where the store
// does, a restart; each process follows it and asks its copy without a round
// trip. When the store is gone the copy stays in force to its end.
type bans struct {
	clients
	store   store.Store
	now     guard.Clock
	lists   *lists
	banFor  time.Duration
	after   store.Rate // points
	points  map[string]int
	publish func(event.Event)

	replica *store.Replica
	count   atomic.Int64 // of active
	mu      sync.RWMutex
	active  map[netip.Prefix]ban
	bits    map[int]int // prefix lengths in use (IPv6: 1000 more), how many of each

	refreshed  atomic.Int64 // unix nanoseconds
	refreshing atomic.Bool
	full       atomic.Uint64
}

// NewBans makes the bans layer.
func NewBans(cfg Config, env guard.Env) (guard.Layer, error) {
	if p := cfg.Problems(); len(p) > 0 {
		return nil, fmt.Errorf("abuse.%s: %s", p[0].Key, p[0].Message)
	}
	if env.Store == nil {
		return nil, errors.New("abuse: the bans layer needs a store")
	}
	l := &bans{
		clients: newClients(cfg), store: env.Store, now: env.Now, banFor: time.Duration(cfg.BanFor), after: cfg.BanAfter,
		points: map[string]int{}, publish: env.Publish, active: map[netip.Prefix]ban{}, bits: map[int]int{},
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.banFor == 0 {
		l.banFor = time.Hour
	}
	if l.publish == nil {
		l.publish = func(event.Event) {}
	}
	for name, n := range banPoints {
		l.points[name] = n
	}
	for name, n := range cfg.BanPoints {
		l.points[name] = n
	}
	var err error
	if l.lists, err = newLists(cfg.Lists, cfg.ASNDatabase, cfg.ASNs); err != nil {
		return nil, fmt.Errorf("abuse.lists: %w", err)
	}
	l.refreshed.Store(l.now().UnixNano())
	l.replica = store.Follow(env.Store, banFolder, store.FollowOptions{Entries: maxBans, Now: l.now, OnChange: l.changed})
	return l, nil
}

// Close ends the following of the store's list.
func (l *bans) Close() error { return l.replica.Close() }

// changed takes over one entry of the store's list.
func (l *bans) changed(e store.Entry) {
	var b ban
	switch p, err := netip.ParsePrefix(strings.TrimPrefix(e.Key, banFolder)); {
	case err != nil: // nothing of ours
	case e.TTL <= 0:
		l.unset(p)
	case json.Unmarshal(e.Value, &b) == nil && b.Network == p && p == p.Masked():
		l.set(b)
	}
}

// Request implements [guard.Layer].
func (l *bans) Request(x *guard.Exchange) guard.Decision {
	now := l.now()
	l.refresh(now)
	addr := x.Client.Addr.Unmap().WithZone("")
	if l.spared(x, addr) {
		return guard.Pass()
	}
	if l.count.Load() > 0 {
		if b, ok := l.find(addr, now); ok {
			return guard.Refuse(http.StatusForbidden, "banned", fmt.Sprintf("%s, by %s until %s: %s", b.Network, b.By, b.Until.UTC().Format(time.RFC3339), b.Reason))
		}
	}
	if why, system, ok := l.lists.find(addr); ok {
		if system != 0 {
			return guard.Refuse(http.StatusForbidden, "listed-system", why)
		}
		return guard.Refuse(http.StatusForbidden, "listed", why)
	}
	return guard.Pass()
}

// spared reports whether a client is never banned: one that the operator
// allows, this machine, a proxy that did not say for whom it asks, a probe of
// the operator's, and whoever has no address.
func (l *bans) spared(x *guard.Exchange, addr netip.Addr) bool {
	return !addr.IsValid() || addr.IsLoopback() || addr.IsUnspecified() || x.ThroughProbe ||
		x.Client.TrustedPeer && addr == x.Client.Peer.Unmap().WithZone("") || l.allow.holds(addr)
}

// find returns the widest ban that holds for an address.
func (l *bans) find(addr netip.Addr, now time.Time) (ban, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var found ban
	ok := false
	for bits := range l.bits {
		if bits >= 1000 == addr.Is4() {
			continue
		}
		p, err := addr.Prefix(bits % 1000)
		if err != nil {
			continue
		}
		if b, is := l.active[p]; is && now.Before(b.Until) && (!ok || p.Bits() < found.Network.Bits()) {
			found, ok = b, true
		}
	}
	return found, ok
}

func lengthKey(p netip.Prefix) int {
	if p.Addr().Is4() {
		return p.Bits()
	}
	return 1000 + p.Bits()
}

// set puts a ban into the table. The replica bounds how many there are.
func (l *bans) set(b ban) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.active[b.Network]; !ok {
		l.bits[lengthKey(b.Network)]++
	}
	l.active[b.Network] = b
	l.count.Store(int64(len(l.active)))
}

func (l *bans) unset(p netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(p)
}

// remove takes a ban out; l.mu is held.
func (l *bans) remove(p netip.Prefix) {
	if _, ok := l.active[p]; !ok {
		return
	}
	delete(l.active, p)
	if k := lengthKey(p); l.bits[k] > 1 {
		l.bits[k]--
	} else {
		delete(l.bits, k)
	}
	l.count.Store(int64(len(l.active)))
}

// Response implements [guard.Responder]: the pages of refusals pass it.
func (l *bans) Response(x *guard.Exchange, _ *http.Response) guard.Decision {
	if l.after.IsZero() || len(x.Decisions) == 0 {
		return guard.Pass()
	}
	points := 0
	why := ""
	for i := range x.Decisions {
		d := &x.Decisions[i]
		// Before the client layer has run, the address is that of the peer,
		// which may be a proxy: whoever sends rubbish through it must not
		// have it banned.
		if d.Verdict != guard.Deny || d.Layer == "request" || d.Layer == "client" || d.Layer == "bans" {
			continue
		}
		// A dead link, a wrong method or host, a file that is too large: people
		// and their programs do that, a hundred times too.
		if d.Status != http.StatusBadRequest && d.Status != http.StatusForbidden && !strings.HasPrefix(d.Event, "malicious_") {
			continue
		}
		if n := l.points[d.Event]; n > 0 {
			points, why = points+n, d.Reason
		}
	}
	addr := x.Client.Addr.Unmap().WithZone("")
	if points == 0 || l.spared(x, addr) || foreign(x.Request) {
		return guard.Pass()
	}
	client := l.network(addr)
	burst := l.after.Burst
	if burst == 0 {
		burst = l.after.Requests
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Request.Context()), storeTimeout)
	defer cancel()
	res, err := l.store.Allow(ctx, "ban-points/"+client.String(), l.after, min(points, burst))
	if err != nil || res.Allowed {
		return guard.Pass() // what a client has collected is not known: no ban on a guess
	}
	now := l.now()
	b := ban{Network: client, Reason: "repeated refusals, last " + why, By: "guard", Since: now, Until: now.Add(l.banFor)}
	if err := l.add(ctx, b); err != nil && errors.Is(err, errBansFull) {
		return guard.Pass()
	}
	x.Note(guard.Note{Event: "dewar_ban", Severity: event.High, Reason: "ban-points", Detail: fmt.Sprintf("%s is banned until %s: more than %s points, last for %s", client, b.Until.UTC().Format(time.RFC3339), l.after, why),
		Attributes: map[string]string{"network": client.String(), "by": "guard"}})
	return guard.Pass()
}

// foreign reports whether a page of another site had the visitor's browser
// send this: whoever runs that page must not be able to have visitors banned.
// An attacker can claim as much; the attack is refused all the same.
func foreign(r *http.Request) bool {
	switch site := r.Header["Sec-Fetch-Site"]; {
	case len(site) == 0:
		return false
	case len(site) == 1:
		return site[0] == "cross-site" || site[0] == "same-site"
	}
	return true
}

var errBansFull = fmt.Errorf("the ban list is full (%d networks)", maxBans)

// add puts a ban into force: here at once, and for everybody by the store. An
// error other than errBansFull says that the store has yet to take it.
func (l *bans) add(ctx context.Context, b ban) error {
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	key := banFolder + b.Network.String()
	if err = l.replica.Put(ctx, key, data, max(b.Until.Sub(l.now()), time.Second)); err != nil && !l.replica.Has(key) {
		l.full.Add(1)
		return errBansFull
	}
	return err
}

// refresh looks after what has ended and what the operator's files say now, at
// most one at a time and never on a request's way.
func (l *bans) refresh(now time.Time) {
	if now.UnixNano()-l.refreshed.Load() < int64(refreshEvery) || !l.refreshing.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer l.refreshing.Store(false)
		defer l.refreshed.Store(l.now().UnixNano())
		l.forget()
		if len(l.lists.files) > 0 || l.lists.database != "" {
			_ = l.lists.refresh() // its health says what went wrong
		}
	}()
}

// forget drops the bans that have ended.
func (l *bans) forget() {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, b := range l.active {
		if !now.Before(b.Until) {
			l.remove(p)
		}
	}
}

// banRow is a ban as "dewar ban list" shows it.
type banRow struct {
	Network string `json:"network"`
	Until   string `json:"until"`
	By      string `json:"by"`
	Since   string `json:"since"`
	Reason  string `json:"reason"`
}

// Operate implements [guard.Operator].
func (l *bans) Operate(ctx context.Context, command string, args map[string]string) (any, error) {
	now := l.now()
	l.forget()
	row := func(b ban) banRow {
		return banRow{b.Network.String(), b.Until.UTC().Format(time.RFC3339), b.By, b.Since.UTC().Format(time.RFC3339), b.Reason}
	}
	switch command {
	case "ban add":
		p, err := parseNetwork(args["network"])
		if err != nil {
			return nil, err
		}
		switch {
		case p.Addr().IsLoopback() || p.Bits() == 0:
			return nil, fmt.Errorf("%s: this machine, or everybody, cannot be banned", p)
		case l.allow.holds(p.Addr()):
			return nil, fmt.Errorf("%s: abuse.allow has it, and wins", p)
		}
		span := l.banFor
		if s := args["for"]; s != "" {
			var d guard.Duration
			if err := d.UnmarshalText([]byte(s)); err != nil {
				return nil, err
			}
			if span = time.Duration(d); span <= 0 || span > maxBanFor {
				return nil, fmt.Errorf("%q: a ban lasts from 1s to 366d", s)
			}
		}
		reason := strings.TrimSpace(args["reason"])
		if reason == "" {
			reason = "no reason given"
		}
		b := ban{Network: p, Reason: clip(reason, 200), By: "operator", Since: now, Until: now.Add(span)}
		switch err := l.add(ctx, b); {
		case errors.Is(err, errBansFull):
			return nil, err
		case err != nil:
			return nil, fmt.Errorf("%s is banned here, and the store, which would tell the others, does not answer yet: %w", p, err)
		}
		return row(b), nil
	case "ban list":
		var only netip.Addr
		if s := args["address"]; s != "" {
			p, err := parseNetwork(s)
			if err != nil {
				return nil, err
			}
			only = p.Addr()
		}
		rows := []banRow{}
		l.mu.RLock()
		all := make([]ban, 0, len(l.active))
		for _, b := range l.active {
			if now.Before(b.Until) && (!only.IsValid() || b.Network.Contains(only)) {
				all = append(all, b)
			}
		}
		l.mu.RUnlock()
		slices.SortFunc(all, func(a, b ban) int {
			return cmp.Or(a.Until.Compare(b.Until), a.Network.Addr().Compare(b.Network.Addr()), cmp.Compare(a.Network.Bits(), b.Network.Bits()))
		})
		for _, b := range all {
			rows = append(rows, row(b))
		}
		return rows, nil
	case "ban lift":
		p, err := parseNetwork(args["network"])
		if err != nil {
			return nil, err
		}
		l.mu.RLock()
		b, ok := l.active[p]
		l.mu.RUnlock()
		if !ok {
			if wider, is := l.find(p.Addr(), now); is {
				return nil, fmt.Errorf("%s is banned as a part of %s: lift that", p, wider.Network)
			}
			return nil, fmt.Errorf("%s is not banned", p)
		}
		if err := l.replica.Delete(ctx, banFolder+p.String()); err != nil {
			return nil, fmt.Errorf("%s is let in here, and the store, which would tell the others, does not answer yet: %w", p, err)
		}
		return row(b), nil
	}
	return nil, guard.ErrNoCommand
}

// Health implements [guard.Reporter].
func (l *bans) Health() error {
	if err := l.lists.health(); err != nil {
		return err
	}
	if n := l.full.Load(); n > 0 && l.count.Load() >= maxBans {
		return fmt.Errorf("the ban list is full: %d bans were not made", n)
	}
	if at, owed, err := l.replica.Synced(); err != nil {
		return fmt.Errorf("the ban list is as it was at %s, and the store has yet to take %d changes: %w", at.UTC().Format(time.RFC3339), owed, err)
	}
	return nil
}

// Describe implements [guard.Reporter].
func (l *bans) Describe() string {
	auto := "no automatic bans"
	if !l.after.IsZero() {
		auto = fmt.Sprintf("a ban of %s after %s points", guard.Duration(l.banFor), l.after)
	}
	return fmt.Sprintf("%d bans in force, %s, %s", l.count.Load(), l.lists.describe(), auto)
}
