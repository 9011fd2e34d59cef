package session

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/flasksession"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

var sessionSpec = &guard.Spec{
	Name:    "session",
	Control: "session",
	Does:    "seals the app's session and remember cookies: the browser gets an encrypted one that only this guard makes, that ends at logout and changes at login; any other never reaches the app",
	Reasons: []guard.Reason{
		{Name: "session-forged", Why: "A session cookie that the guard did not seal: made up, broken, of another cookie's name, or signed with a key that somebody knows (CWE-565, CWE-321). The app did not get it; the detail says which key signed it.", Fix: "Nothing, for a forgery: it was worthless. If honest visitors have such cookies from before sealing began, set session.adopt for a day. If the app's own key signed it, rotate SECRET_KEY and see that nobody reaches the app around the guard."},
		{Name: "session-unsealed", Why: "A session cookie from before sealing began. The app did not get it, so its owner has to log in once.", Fix: "session.adopt = \"1d\" takes such cookies over for the first day."},
		{Name: "session-ended", Why: "A cookie of a session that was ended by a logout, by an operator or by a newer login (CWE-613): it was copied, or kept. The app did not get it.", Fix: "If the visitor never logged out, see whether the app deletes its session cookie where it should not."},
		{Name: "session-expired", Why: "The session was idle for too long, or too old (session.idle, session.lifetime), or its cookie had ended by the app's own Expires.", Fix: "Raise session.idle or session.lifetime."},
		{Name: "session-ambiguous", Why: "Several cookies of the session's name came at once. A page on a neighbouring host can plant one (cookie tossing, CWE-384). The guard's own counts; of two own ones neither.", Fix: "Let the app serve the session under one path and no Domain, so that the guard can give it the prefix __Host-, which no other host can set."},
		{Name: "session-elsewhere", Why: "A session is used by another browser, or from another network, than it was opened in (session.bind): a stolen cookie looks so.", Fix: "session.bind = \"off\", or \"observe\" to be told only."},
		{Name: "session-unrecorded", Why: "The record of a session could not be written: the store is gone or full. The session works; until the record is there it is not listed, and a restart forgets that it ended.", Fix: "See to the store (deployment of Redis, disk)."},
		{Name: "session-weak-key", Why: "The app signs its sessions with a published key. Behind the seal that is worth nothing to an attacker, but everything else that the key signs is: reset links, CSRF tokens (CWE-321).", Fix: "Set SECRET_KEY to the output of: python -c 'import secrets; print(secrets.token_hex(32))'"},
	},
	Failure:  guard.FailClosed,
	Event:    "malicious_session",
	Severity: event.High,
	Commands: []guard.Command{
		{Name: "session list", Does: "Lists the sessions of an account that the guard knows.", Args: []guard.Arg{{Name: "account", Does: "the app's user id, as events show it"}}},
		{Name: "session end", Does: "Ends all sessions of an account at once, remember-me included.", Args: []guard.Arg{{Name: "account", Does: "the app's user id, as events show it"}}, Changes: true},
		{Name: "session end-all", Does: "Ends every session of every visitor.", Changes: true},
		{Name: "session rotate-keys", Does: "Makes a new sealing key and forgets the others: every session ends. For when the key file was read by somebody.", Changes: true},
	},
}

const (
	hostPrefix = "__Host-"
	// askHeader is the question to the app's worker, and its answer: what a
	// session that is kept on the server holds. No client's ever passes the
	// client layer.
	askHeader = "X-Dewar-Session"

	endedFolder  = "session-ended/"
	recordFolder = "session/"
	valueFolder  = "session-value/"
	stateFolder  = "session-state/"

	// defaultLifetime is Flask's PERMANENT_SESSION_LIFETIME.
	defaultLifetime = 31 * 24 * time.Hour
	// anonymousEnd is how long it is remembered that a session of nobody was
	// replaced by a login. Its cookie names nobody, then or later.
	anonymousEnd = 24 * time.Hour
	// rememberLife is Flask-Login's REMEMBER_COOKIE_DURATION.
	rememberLife = 365 * 24 * time.Hour
	// maxCookie is what browsers keep of a name and a value (RFC 6265bis).
	maxCookie = 4096
	// storeWait bounds what one request waits for the store.
	storeWait = 2 * time.Second
)

// kind is what a sealed cookie is for.
type kind uint8

const (
	kindSession  kind = iota // the app's session
	kindRemember             // Flask-Login's token that makes a session
	kindOther                // of the setting also-seal
)

// sealed is a cookie that is sealed.
type sealed struct {
	kind kind
	app  string // its name, as the app knows it
	host string // with the prefix __Host-; empty: it has one already, or must not
}

// known is what follows from the settings and the app's own facts.
type known struct {
	from  factKey
	names []*sealed
	// active: cookies are sealed. Otherwise why says why not.
	active bool
	why    string
	keys   []string // SECRET_KEY and its fallbacks
	weak   bool     // one of them can be guessed
	signer flasksession.Signer
	path   string
	domain string
	// idle is after which silence the app's session ends at the latest.
	idle time.Duration
	// ask is the question to a worker that keeps sessions on the server.
	ask string
}

// factKey is what of the facts the layer depends on.
type factKey struct {
	known             bool
	session, remember string
	sessions          guard.SessionFacts
	key               guard.Secret
	fallbacks         int
}

// seal is the session layer.
type seal struct {
	cfg   Config
	env   guard.Env
	mode  guard.Mode
	now   func() time.Time
	ring  *keyring
	ended *store.Replica
	word  string // that an answer of the worker must begin with
	// began is when the store's memory begins: of sessions before it nothing
	// is known.
	began time.Time
	since time.Time // when sealing began
	state atomic.Pointer[known]

	marks    atomic.Bool // an account's sessions, or all, were ended at once
	trials   allowance   // of the list of published keys
	weakSeen atomic.Bool
	looked   atomic.Int64 // when an app's own cookie was tried against the list

	sealedN, openedN, refusedN, adoptedN, loginsN, logoutsN, unrecorded atomic.Int64
	mu                                                                  sync.Mutex
	keyError, storeError                                                error
}

// NewSession returns the session layer. upstream says that something else
// runs the app.
func NewSession(cfg Config, upstream bool, env guard.Env) (guard.Layer, error) {
	if p := cfg.Problems(); len(p) > 0 {
		return nil, fmt.Errorf("session.%s: %s", p[0].Key, p[0].Message)
	}
	if env.Now == nil {
		env.Now = time.Now
	}
	cfg = cfg.complete()
	l := &seal{cfg: cfg, env: env, mode: cfg.SealMode(upstream), now: env.Now, word: newLineage().String(), trials: allowance{per: time.Second / 5, burst: 10}}
	secret, dir := "", ""
	if cfg.Keys != "" {
		if env.Secret == nil {
			return nil, errors.New("session.keys: no secrets can be read here")
		}
		s, err := env.Secret(cfg.Keys)
		if err != nil {
			return nil, fmt.Errorf("session.keys: %w", err)
		}
		secret = s.Reveal()
	} else if env.DataDir != nil {
		var err error
		if dir, err = env.DataDir(); err != nil {
			l.keyError = fmt.Errorf("sealing keys are kept in memory only, so a restart logs everybody out: %w", err)
		}
	}
	var err error
	if l.ring, err = openKeyring(secret, dir, time.Duration(cfg.RotateKeys), max(time.Duration(cfg.Lifetime), rememberLife)+24*time.Hour, env.Now); err != nil {
		return nil, fmt.Errorf("session.keys: %w", err)
	}
	if env.Store == nil {
		return nil, errors.New("session: no store")
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeWait)
	defer cancel()
	l.began = l.mark(ctx, "began")
	if l.since = l.ring.since(); l.since.IsZero() {
		l.since = l.mark(ctx, "since")
	}
	l.ended = store.Follow(env.Store, endedFolder, store.FollowOptions{Now: env.Now, OnChange: func(e store.Entry) {
		if name := strings.TrimPrefix(e.Key, endedFolder); name != "" && (name[0] == '@' || name[0] == '*') {
			l.marks.Store(true)
		}
	}})
	return l, nil
}

// mark returns the time under a name in the store, which is now the first
// time.
func (l *seal) mark(ctx context.Context, name string) time.Time {
	at := l.now()
	err := l.env.Store.Update(ctx, stateFolder+name, func(old []byte, ok bool) ([]byte, time.Duration, error) {
		at = l.now()
		if ok {
			if n, err := strconv.ParseInt(string(old), 10, 64); err == nil {
				at = time.Unix(n, 0)
			}
		}
		return strconv.AppendInt(nil, at.Unix(), 10), 366 * 24 * time.Hour, nil
	})
	if err != nil {
		l.failed(err)
		return time.Time{} // nothing was forgotten, as far as can be told: a session without a record is not taken
	}
	return at
}

// Close implements [io.Closer].
func (l *seal) Close() error {
	l.ended.Close()
	return nil
}

// CheckOverride implements [guard.OverrideChecker].
func (l *seal) CheckOverride(o *guard.Override) error {
	if m, ok := o.Modes["session"]; ok && m != l.mode {
		return errors.New("layer \"session\" works on all routes or on none: the browser sends one cookie to all of them; set session.seal")
	}
	return nil
}

func (l *seal) failed(err error) {
	l.mu.Lock()
	l.storeError = err
	l.mu.Unlock()
}

// Health implements [guard.Reporter].
func (l *seal) Health() error {
	k := l.known()
	l.mu.Lock()
	keyError, storeError := l.keyError, l.storeError
	l.mu.Unlock()
	switch {
	case l.mode == guard.Enforce && !k.active:
		return errors.New(k.why)
	case keyError != nil:
		return keyError
	case l.ring.stale():
		return errors.New("no new sealing key could be written: see to the folder of " + l.ring.file)
	}
	if at, _, err := l.ended.Synced(); err != nil && l.now().Sub(at) > time.Minute {
		return fmt.Errorf("what other nodes ended is not known since %s: %w", at.Format(time.TimeOnly), err)
	}
	return storeError
}

// Describe implements [guard.Reporter].
func (l *seal) Describe() string {
	k := l.known()
	var names []string
	for _, n := range k.names {
		names = append(names, n.app)
	}
	s := fmt.Sprintf("%s sealed (%d made, %d opened, %d of others refused)", strings.Join(names, ", "), l.sealedN.Load(), l.openedN.Load(), l.refusedN.Load())
	s += fmt.Sprintf("; %d logins, %d logouts", l.loginsN.Load(), l.logoutsN.Load())
	if n := l.adoptedN.Load(); n > 0 {
		s += fmt.Sprintf("; %d taken over from before sealing", n)
	}
	if !l.ring.lasting() {
		s += "; the keys are in memory only: a restart logs everybody out"
	}
	if l.weakSeen.Load() {
		s += "; the app itself signs with a published key"
	}
	return s
}

// known returns what follows from the facts as they are now.
func (l *seal) known() *known {
	var f guard.Facts
	if l.env.Facts != nil {
		f = l.env.Facts()
	}
	from := factKey{f.Known, f.SessionCookieName, f.RememberCookieName, f.Sessions, f.SecretKey, len(f.SecretKeyFallbacks)}
	if k := l.state.Load(); k != nil && k.from == from {
		return k
	}
	k := &known{from: from, active: l.mode == guard.Enforce, path: "/", idle: defaultLifetime, signer: flasksession.Signer{Salt: f.Sessions.Salt, Derivation: f.Sessions.Derivation}}
	if l.cfg.Seal == SealAuto && (!f.Known || f.Sessions.Kind == "") {
		k.active, k.why = false, "the app has not said how it keeps its sessions: set session.seal = \"enforce\" to seal the usual cookies, or \"observe\""
	}
	session, remember := f.SessionCookieName, f.RememberCookieName
	if !f.Known {
		session, remember = defaultSessionCookies[0], defaultSessionCookies[1]
	}
	add := func(kind kind, name string) {
		if name == "" || slices.Contains(l.cfg.JSReadable, name) || slices.ContainsFunc(k.names, func(n *sealed) bool { return n.app == name }) {
			return
		}
		n := &sealed{kind: kind, app: name}
		if l.cfg.HostPrefix && !strings.HasPrefix(name, "__") {
			n.host = hostPrefix + name
		}
		k.names = append(k.names, n)
	}
	if f.Sessions.Kind != "none" {
		add(kindSession, session)
	}
	add(kindRemember, remember)
	for _, name := range l.cfg.AlsoSeal {
		add(kindOther, name)
	}
	if !f.SecretKey.IsZero() {
		k.keys = append(k.keys, f.SecretKey.Reveal())
	}
	for _, s := range f.SecretKeyFallbacks {
		k.keys = append(k.keys, s.Reveal())
	}
	for _, key := range k.keys {
		k.weak = k.weak || flasksession.WeakKey(key) != ""
	}
	if f.Sessions.Path != "" {
		k.path = f.Sessions.Path
	}
	k.domain = f.Sessions.Domain
	if f.Sessions.Lifetime > 0 {
		k.idle = f.Sessions.Lifetime
	}
	if l.cfg.Idle > 0 {
		k.idle = min(k.idle, time.Duration(l.cfg.Idle))
	}
	if f.Sessions.Tells {
		k.ask = l.word + " " + strings.Join(slices.Concat(l.cfg.UserKeys, l.cfg.PrivilegeKeys), ",")
	}
	l.state.Store(k)
	return k
}

// condition is what became of a cookie on the way in.
type condition uint8

const (
	absent  condition = iota
	opened            // sealed by us, and good
	stale             // sealed by us, replaced a moment ago: good for reading
	adopted           // the app's own, from before sealing
	refused           // the app did not get it
	raw               // the app's own, where nothing is sealed
)

// held is one cookie of a request.
type held struct {
	what condition
	// recent: it was refused because it ended within the grace.
	recent bool
	// plain: it came under the app's own name, though sealed ones have the
	// prefix.
	plain bool
	due   bool // it is to be sealed anew
	// proven: a raw one was signed by the app's own key.
	proven bool
	t      ticket
}

// exchange is what Request leaves to Response.
type exchange struct {
	k    *known
	held []held
	room [3]held
}

// Request implements [guard.Layer].
func (l *seal) Request(x *guard.Exchange) guard.Decision {
	k := l.known()
	delete(x.Request.Header, askHeader)
	if k.ask != "" {
		x.Request.Header[askHeader] = []string{k.ask}
	}
	var header string
	switch c := x.Request.Header["Cookie"]; len(c) {
	case 0:
		return guard.Pass()
	case 1:
		header = c[0]
	default:
		header = strings.Join(c, "; ") // the request layer has done so, where it is on
	}
	e := &exchange{k: k}
	if len(k.names) > len(e.room) {
		e.held = make([]held, len(k.names))
	} else {
		e.held = e.room[:len(k.names)]
	}
	var front, rest []byte
	seen := false
	for i, n := range k.names {
		if strings.Contains(header, n.app) {
			l.take(x, k, n, &e.held[i], header)
			seen = seen || e.held[i].what != absent
		}
	}
	if !seen {
		return guard.Pass()
	}
	x.SetValue(sessionSpec, e)
	changed := false
	for i, n := range k.names {
		h := &e.held[i]
		changed = changed || h.what != absent && h.what != raw && h.what != adopted
		if h.what == opened || h.what == stale {
			l.openedN.Add(1)
			front = appendPair(front, n.app, h.t.value)
		}
		switch {
		case h.what == absent, h.what == refused:
		case n.kind == kindSession && h.what == raw:
			if h.proven {
				x.Identity.Account = h.t.account
			}
		case n.kind == kindSession:
			x.Identity.Account, x.Identity.Session = h.t.account, h.t.id.String()
		}
	}
	if !changed {
		return guard.Pass()
	}
	pairs(header, func(name, _, part string) {
		for i, n := range k.names {
			if h := &e.held[i]; (name == n.app || name == n.host) && h.what != absent && h.what != raw && h.what != adopted {
				return
			}
		}
		if part = trim(part); part != "" {
			if len(rest) > 0 {
				rest = append(rest, "; "...)
			}
			rest = append(rest, part...)
		}
	})
	if len(front) > 0 && len(rest) > 0 {
		front = append(front, "; "...)
	}
	if front = append(front, rest...); len(front) == 0 {
		delete(x.Request.Header, "Cookie")
	} else {
		x.Request.Header["Cookie"] = []string{string(front)}
	}
	return guard.Pass()
}

func appendPair(b []byte, name, value string) []byte {
	if len(b) > 0 {
		b = append(b, "; "...)
	}
	return append(append(append(b, name...), '='), value...)
}

// take finds the cookie of one name and judges it. It notes what it refuses.
func (l *seal) take(x *guard.Exchange, k *known, n *sealed, h *held, header string) {
	var (
		strange  []string // not ours
		room     [4]string
		strangeN int
		best     ticket
		found    bool
		ofHost   bool
		several  bool
	)
	strange = room[:0]
	pairs(header, func(name, value, _ string) {
		host := n.host != "" && name == n.host
		if !host && name != n.app {
			return
		}
		h.plain = h.plain || !host
		var t ticket
		if !l.ring.open(n.app, value, &t) {
			strangeN++
			if len(strange) < cap(strange) {
				strange = append(strange, value)
			}
			return
		}
		switch {
		case !found, host && !ofHost, host == ofHost && t.id == best.id && t.sealed > best.sealed:
			best, found, ofHost = t, true, host
			several = several && !host
		case host == ofHost && t.id != best.id:
			several = true
		}
	})
	switch {
	case found && several:
		l.refuse(x, n, h, "session-ambiguous", event.High, "two cookies "+n.app+" of different sessions")
	case found:
		if strangeN > 0 && n.kind == kindSession && k.active {
			x.Note(guard.Note{Event: "malicious_session", Severity: event.Warn, Reason: "session-ambiguous", Detail: fmt.Sprintf("%d more cookies %s, not sealed, beside the sealed one", strangeN, n.app)})
		}
		h.t = best
		if l.judge(x, k, n, h); h.what == refused && !k.active && strangeN > 0 {
			// The app's own cookie came after it.
			*h = held{plain: true}
			l.watch(x, k, n, h, strange)
		}
	case strangeN == 0:
	case k.active:
		if strangeN == 1 && l.adopt(k, n, h, strange[0]) {
			return
		}
		l.foreign(x, k, n, h, strange)
	default:
		l.watch(x, k, n, h, strange)
	}
}

// refuse keeps a cookie from the app, and says so.
func (l *seal) refuse(x *guard.Exchange, n *sealed, h *held, reason string, severity event.Severity, detail string) {
	h.what = refused
	l.refusedN.Add(1)
	note := guard.Note{Event: "malicious_session", Severity: severity, Reason: reason, Detail: detail}
	switch reason {
	case "session-ended":
		note.Event = "session_use_after_expire"
	case "session-expired":
		note.Event = "session_expired"
	}
	if n.kind != kindSession {
		note.Attributes = map[string]string{"kind": n.app}
	}
	if h.t.account != "" {
		note.Attributes = l.attributes(n, h.t)
	}
	x.Note(note)
}

func (l *seal) attributes(n *sealed, t ticket) map[string]string {
	a := map[string]string{"handle": t.id.String()}
	if t.account != "" {
		a["account"] = t.account
	}
	if n.kind != kindSession {
		a["kind"] = n.app
	}
	return a
}

// judge decides about a cookie that we sealed.
func (l *seal) judge(x *guard.Exchange, k *known, n *sealed, h *held) {
	now := l.now()
	t := &h.t
	if why := l.over(k, n, t, now); why != "" {
		l.refuse(x, n, h, "session-expired", event.Info, why)
		return
	}
	switch how, at := l.endedAt(t, now); {
	case how == endReplaced && now.Sub(at) <= time.Duration(l.cfg.Grace):
		h.what = stale
	case how != notEnded && now.Sub(at) <= time.Duration(l.cfg.Grace):
		// On its way when it was ended: nothing to alarm anybody about.
		h.what, h.recent = refused, true
		return
	case how != notEnded:
		l.refuse(x, n, h, "session-ended", event.High, "it was ended "+how.String()+" "+ago(now.Sub(at)))
		return
	default:
		h.what = opened
	}
	age := now.Sub(time.Unix(t.sealed, 0))
	if t.account != "" && age > time.Duration(l.cfg.Renew) && h.what == opened {
		if !l.renew(x, k, n, h, now) {
			return
		}
		h.due = true
	}
	h.due = h.due || age > k.idle/2 || l.cfg.Idle > 0 && age > time.Duration(l.cfg.Idle)/4
	if t.account != "" && n.kind == kindSession {
		if !l.bound(x, n, h) {
			return
		}
	}
	if t.stored {
		if !l.fetch(x, n, t) {
			h.what = refused
			l.refusedN.Add(1)
		}
	}
}

// over says why a cookie's time is over; empty: it is not.
func (l *seal) over(k *known, n *sealed, t *ticket, now time.Time) string {
	silence := now.Sub(time.Unix(t.sealed, 0))
	switch {
	case t.until != 0 && now.Unix() >= t.until:
		return "the cookie's own Expires has passed"
	case n.kind != kindSession && t.until != 0:
		return "" // made to last
	case silence > k.idle:
		return "it was not used for " + guard.Duration(k.idle).String()
	case n.kind == kindSession && t.account != "" && l.cfg.Lifetime > 0 && now.Sub(time.Unix(t.login, 0)) > time.Duration(l.cfg.Lifetime):
		return "its login is older than " + l.cfg.Lifetime.String()
	}
	return ""
}

// rest returns how long a cookie can still be good if it is not made anew.
func (l *seal) rest(k *known, n *sealed, t *ticket, now time.Time) time.Duration {
	end := time.Unix(t.sealed, 0).Add(k.idle)
	if t.until != 0 && (n.kind != kindSession || time.Unix(t.until, 0).Before(end)) {
		end = time.Unix(t.until, 0)
	}
	if n.kind == kindSession && t.account != "" && l.cfg.Lifetime > 0 {
		if e := time.Unix(t.login, 0).Add(time.Duration(l.cfg.Lifetime)); e.Before(end) {
			end = e
		}
	}
	return max(end.Sub(now), time.Minute)
}

// ending is how a session ended.
type ending byte

const (
	notEnded    ending = 0
	endLogout   ending = 'l'
	endReplaced ending = 'r'
	endOperator ending = 'o'
)

// String ends the sentence "it was ended".
func (e ending) String() string {
	switch e {
	case endReplaced:
		return "by a newer login or a change of rights"
	case endOperator:
		return "by an operator"
	}
	return "by a logout"
}

func ago(d time.Duration) string { return guard.Duration(d.Round(time.Second)).String() + " ago" }

// accountKey stands for an account in the store's keys.
func accountKey(account string) string {
	sum := sha256.Sum256([]byte("dewar account\x00" + account))
	return hex.EncodeToString(sum[:10])
}

// endedAt says whether and when a session was ended.
func (l *seal) endedAt(t *ticket, now time.Time) (ending, time.Time) {
	if l.ended.Len() == 0 {
		return notEnded, time.Time{}
	}
	if how, at := l.lookUp(endedFolder + t.id.String()); how != notEnded {
		return how, at
	}
	if l.marks.Load() {
		if how, at := l.lookUp(endedFolder + "*"); how != notEnded && t.born <= at.Unix() {
			return how, at
		}
		if t.account != "" {
			if how, at := l.lookUp(endedFolder + "@" + accountKey(t.account)); how != notEnded && t.login <= at.Unix() {
				return how, at
			}
		}
	}
	return notEnded, time.Time{}
}

func (l *seal) lookUp(key string) (ending, time.Time) {
	v, ok := l.ended.Get(key)
	if !ok || len(v) < 2 {
		return notEnded, time.Time{}
	}
	n, err := strconv.ParseInt(string(v[1:]), 10, 64)
	if err != nil {
		return endOperator, time.Time{} // damaged: it says that something ended
	}
	return ending(v[0]), time.UnixMilli(n)
}

// waiting returns a context for the store that outlives the client's request:
// that a session ended must be known even if the client did not wait for it.
func waiting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), storeWait)
}

// end ends a lineage.
func (l *seal) end(x *guard.Exchange, k *known, n *sealed, h *held, how ending) {
	ctx, cancel := waiting(x.Request.Context())
	defer cancel()
	now := l.now()
	ttl := l.rest(k, n, &h.t, now)
	if h.t.account != "" {
		// Without its record it is not taken later, either.
		if err := l.env.Store.Delete(ctx, l.recordKey(&h.t)); err != nil {
			l.failed(err)
		} else {
			ttl = min(ttl, time.Duration(l.cfg.Renew)+time.Duration(l.cfg.Grace)+time.Minute)
		}
	} else if k.from.sessions.Kind == "cookie" {
		ttl = min(ttl, anonymousEnd)
	}
	if h.t.stored && how == endLogout {
		_ = l.env.Store.Delete(ctx, valueFolder+h.t.id.String())
	}
	l.markEnded(ctx, endedFolder+h.t.id.String(), how, ttl)
	if h.what == adopted {
		l.markEnded(ctx, adoptedKey(h.t.value), how, time.Duration(l.cfg.Adopt)+time.Minute)
	}
}

func (l *seal) markEnded(ctx context.Context, key string, how ending, ttl time.Duration) {
	if err := l.ended.Put(ctx, key, strconv.AppendInt([]byte{byte(how)}, l.now().UnixMilli(), 10), ttl); err != nil {
		l.failed(err)
	}
}

// adoptedKey is the name under which the end of a cookie from before sealing
// is remembered.
func adoptedKey(value string) string { return endedFolder + "=" + accountKey("value "+value) }

// record is what the store knows of a session that belongs to somebody.
type record struct {
	Account string    `json:"account"`
	Handle  string    `json:"handle"`
	Kind    string    `json:"kind"`
	Login   time.Time `json:"login"`
	Used    time.Time `json:"used"`
	Client  string    `json:"client"`
	Agent   string    `json:"agent"`
}

func (l *seal) recordKey(t *ticket) string {
	return recordFolder + accountKey(t.account) + "/" + t.id.String()
}

func (l *seal) recordOf(x *guard.Exchange, n *sealed, t *ticket, now time.Time) record {
	r := record{Account: t.account, Handle: t.id.String(), Kind: n.app, Login: time.Unix(t.login, 0).UTC(), Used: now.UTC().Truncate(time.Second)}
	if x.Client.Addr.IsValid() {
		r.Client = x.Client.Addr.String()
	}
	r.Agent = x.Request.UserAgent()
	if len(r.Agent) > 160 {
		r.Agent = strings.ToValidUTF8(r.Agent[:160], "")
	}
	return r
}

// write puts a session's record into the store.
func (l *seal) write(x *guard.Exchange, k *known, n *sealed, t *ticket, now time.Time) {
	b, err := json.Marshal(l.recordOf(x, n, t, now))
	if err == nil {
		ctx, cancel := waiting(x.Request.Context())
		defer cancel()
		err = l.env.Store.Put(ctx, l.recordKey(t), b, l.rest(k, n, t, now))
	}
	t.unrecorded = err != nil
	if err != nil {
		l.failed(err)
		l.unrecorded.Add(1)
		x.Note(guard.Note{Event: "dewar_degraded", Severity: event.High, Reason: "session-unrecorded", Detail: err.Error(), Attributes: l.attributes(n, *t)})
	} else {
		l.failed(nil)
	}
}

// renew asks the store whether the session is still there. It is called once
// in a while for each session, not for each request. It reports false after
// refusing.
func (l *seal) renew(x *guard.Exchange, k *known, n *sealed, h *held, now time.Time) bool {
	ctx, cancel := waiting(x.Request.Context())
	defer cancel()
	t := &h.t
	gone := false
	err := l.env.Store.Update(ctx, l.recordKey(t), func(old []byte, ok bool) ([]byte, time.Duration, error) {
		var r record
		if gone = !ok || json.Unmarshal(old, &r) != nil; gone {
			return nil, 0, store.ErrKeep
		}
		fresh := l.recordOf(x, n, t, now)
		fresh.Login = r.Login
		b, err := json.Marshal(fresh)
		again := *t
		again.sealed = now.Unix()
		return b, l.rest(k, n, &again, now), err
	})
	switch {
	case err != nil:
		// The seal says that the session was good, and what is known to have
		// ended was looked at: it goes on, and Health says so.
		l.failed(err)
		return true
	case gone && (t.unrecorded || t.sealed < l.began.Unix()):
		l.write(x, k, n, t, now) // the store has forgotten, or never knew
		return true
	case gone:
		l.refuse(x, n, h, "session-ended", event.High, "the store has no record of it any more")
		return false
	}
	l.failed(nil)
	return true
}

// bound looks whether a session is where it was opened. It reports false
// after refusing.
func (l *seal) bound(x *guard.Exchange, n *sealed, h *held) bool {
	if l.cfg.Bind == "off" {
		return true
	}
	agent, network := traits(x)
	otherAgent, otherNetwork := h.t.agent != 0 && agent != h.t.agent, h.t.network != 0 && network != h.t.network
	if !otherAgent && (!otherNetwork || l.cfg.Bind != "network") {
		return true
	}
	what := "another browser than at login"
	if !otherAgent {
		what = "another network than at login"
	} else if otherNetwork {
		what += ", and another network"
	}
	if l.cfg.Bind == "agent" || l.cfg.Bind == "network" {
		l.refuse(x, n, h, "session-elsewhere", event.High, what)
		return false
	}
	ctx, cancel := waiting(x.Request.Context())
	defer cancel()
	if first, err := l.env.Store.Once(ctx, "session-elsewhere/"+h.t.id.String(), 24*time.Hour); err != nil || first {
		x.Note(guard.Note{Event: "malicious_session", Severity: event.Warn, Reason: "session-elsewhere", Detail: what, Attributes: l.attributes(n, h.t)})
	}
	return true
}

// traits are what a client is like: its browser without the version, which
// changes by itself, and its network.
func traits(x *guard.Exchange) (agent, network uint32) {
	f := fnv.New32a()
	var b [1]byte
	ua := x.Request.UserAgent()
	for i := range len(ua) {
		if c := ua[i]; c != '.' && (c < '0' || c > '9') {
			b[0] = c
			f.Write(b[:])
		}
	}
	agent = f.Sum32() | 1
	addr, bits := x.Client.Addr, 24
	if !addr.IsValid() {
		return agent, 0
	}
	if addr.Is6() {
		bits = 48
	}
	if p, err := addr.Prefix(bits); err == nil {
		f.Reset()
		f.Write(p.Addr().AsSlice())
		network = f.Sum32() | 1
	}
	return agent, network
}

// fetch gets a value that is too large for a cookie.
func (l *seal) fetch(x *guard.Exchange, n *sealed, t *ticket) bool {
	ctx, cancel := waiting(x.Request.Context())
	defer cancel()
	b, ok, err := l.env.Store.Get(ctx, valueFolder+t.id.String())
	if err != nil {
		l.failed(err)
		return false
	}
	var v ticket
	if !ok || !l.ring.open(valueName(n, t), string(b), &v) {
		return false
	}
	t.value = v.value
	return true
}

func valueName(n *sealed, t *ticket) string { return n.app + " value of " + t.id.String() }

// content returns whom a value of the app's cookie belongs to, and a hash of
// the rights it speaks of. readable is false for a value that says nothing
// about that.
func (l *seal) content(n *sealed, value string) (account string, rights uint64, readable bool) {
	if n.kind == kindRemember {
		id, ok := flasksession.Remembered(unquoted(value))
		return cutAccount(id), 0, ok
	}
	tok, ok := flasksession.Parse(unquoted(value))
	if !ok {
		return "", 0, false
	}
	s, err := tok.Session()
	if err != nil {
		return "", 0, false
	}
	account, rights = l.about(s)
	return account, rights, true
}

// unquoted returns a cookie's value as an app reads it. What Flask and its
// extensions sign has no character that needs an escape.
func unquoted(v string) string {
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		return v[1 : len(v)-1]
	}
	return v
}

func cutAccount(s string) string {
	if len(s) > maxAccount {
		return s[:maxAccount]
	}
	return s
}

// about returns what a session says about its owner.
func (l *seal) about(s flasksession.Session) (account string, rights uint64) {
	for _, key := range l.cfg.UserKeys {
		if account = s.Text(key); account != "" {
			break
		}
	}
	f := fnv.New64a()
	said := false
	for _, key := range l.cfg.PrivilegeKeys {
		if v, ok := s[key]; ok {
			said = true
			f.Write([]byte(key + "\x00"))
			f.Write(v)
		}
	}
	if said {
		rights = f.Sum64() | 1
	}
	return cutAccount(account), rights
}

// told returns what the worker said of a session that is kept on the server,
// and takes that from the answer.
func (l *seal) told(h http.Header) (s flasksession.Session, ok bool) {
	v := h[askHeader]
	if len(v) == 0 {
		return nil, false
	}
	delete(h, askHeader)
	word, text, _ := strings.Cut(v[0], " ")
	if len(v) != 1 || word != l.word {
		return nil, false
	}
	b, err := base64.URLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(b, &s) != nil {
		return nil, false
	}
	return s, true
}

// proven reports whether the app's own key signed a value, and when.
func (k *known) proven(n *sealed, value string) (at time.Time, ok bool) {
	value = unquoted(value)
	if n.kind == kindRemember {
		return at, slices.ContainsFunc(k.keys, func(key string) bool { return flasksession.RememberedWith(value, key) })
	}
	tok, ok := flasksession.Parse(value)
	return tok.Time, ok && slices.ContainsFunc(k.keys, func(key string) bool { return tok.VerifiedBy(k.signer, key) })
}

// adopt takes over a cookie from before sealing, within the time that the
// settings give for it.
func (l *seal) adopt(k *known, n *sealed, h *held, value string) bool {
	now := l.now()
	if l.cfg.Adopt == 0 || l.since.IsZero() || now.Sub(l.since) > time.Duration(l.cfg.Adopt) || k.weak {
		return false
	}
	at, ok := k.proven(n, value)
	switch {
	case n.kind == kindSession && k.from.sessions.Kind == "cookie" && (!ok || at.After(l.since.Add(2*time.Second))):
		// Since then the app's cookies are sealed: a later one was made by
		// somebody who has its key.
		return false
	case n.kind == kindRemember && !ok:
		return false
	}
	if how, _ := l.lookUp(adoptedKey(value)); how != notEnded {
		return false
	}
	h.what, h.due = adopted, true
	h.t = ticket{id: newLineage(), born: now.Unix(), sealed: now.Unix(), value: value}
	h.t.account, h.t.rights, _ = l.content(n, value)
	if h.t.account != "" {
		h.t.login = now.Unix()
	}
	if n.kind == kindRemember {
		h.t.until = now.Add(rememberLife).Unix()
	}
	h.t.attrs = "; HttpOnly; Path=" + k.path
	if k.domain != "" {
		h.t.attrs += "; Domain=" + k.domain
	}
	l.adoptedN.Add(1)
	return true
}

// allowance is how often something costly may be done by whoever asks.
type allowance struct {
	per   time.Duration
	burst int64
	tat   atomic.Int64
}

func (a *allowance) take(now time.Time) bool {
	for {
		old := a.tat.Load()
		next := max(old, now.UnixNano()) + int64(a.per)
		if next-now.UnixNano() > int64(a.per)*a.burst {
			return false
		}
		if a.tat.CompareAndSwap(old, next) {
			return true
		}
	}
}

// whose says who can have made a cookie that is not sealed.
func (l *seal) whose(k *known, n *sealed, value string) (reason string, severity event.Severity, detail string) {
	value = unquoted(value)
	at, own := k.proven(n, value)
	tok, signed := flasksession.Parse(value)
	switch {
	case own && n.kind == kindRemember:
		return "session-unsealed", event.Warn, "a remember token that the app's own key signed: from before sealing, or made by somebody who has the key"
	case own && !at.After(l.since.Add(2*time.Second)):
		return "session-unsealed", event.Info, "signed by the app before sealing began"
	case own:
		return "session-forged", event.Critical, "signed with the app's own key at " + at.UTC().Format(time.DateTime) + ", after sealing began: somebody has SECRET_KEY, or reaches the app around the guard"
	case signed && !l.trials.take(l.now()):
		return "session-forged", event.High, "signed with a key that is not the app's (which one was not looked for: too many in a short time)"
	case signed && slices.ContainsFunc(flasksession.Published(), func(key string) bool { return tok.VerifiedBy(flasksession.Signer{}, key) }):
		return "session-forged", event.Critical, "signed with a published key: somebody tries word lists"
	case signed:
		return "session-forged", event.High, "signed with a key that is not the app's"
	}
	return "session-forged", event.Warn, "not sealed by this guard for the cookie " + n.app
}

// foreign refuses cookies that are not sealed.
func (l *seal) foreign(x *guard.Exchange, k *known, n *sealed, h *held, values []string) {
	reason, severity, detail := "", event.Severity(0), ""
	for _, v := range values {
		if r, s, d := l.whose(k, n, v); s > severity {
			reason, severity, detail = r, s, d
		}
	}
	l.refuse(x, n, h, reason, severity, detail)
}

// watch looks at cookies where nothing is sealed.
func (l *seal) watch(x *guard.Exchange, k *known, n *sealed, h *held, values []string) {
	h.what = raw
	var ok bool
	h.t.account, h.t.rights, ok = l.content(n, values[0])
	h.t.value = values[0]
	_, own := k.proven(n, values[0])
	if h.proven = own; own || !ok || len(k.keys) == 0 {
		return
	}
	if reason, severity, detail := l.whose(k, n, values[0]); severity >= event.High {
		x.Note(guard.Note{Event: "malicious_session", Severity: severity, Reason: reason, Detail: detail + " (not refused: the layer only observes)"})
	}
}
