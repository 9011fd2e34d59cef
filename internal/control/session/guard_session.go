package session

import (
	"context"
	"errors"
	"fmt"
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
		{Name: "session-stream-ended", Why: "A WebSocket or an event stream was open when its session ended: it was cut, so that nobody goes on reading after the logout (CWE-613). A download whose length the app did not say has session.grace before.", Fix: "Nothing: a page that is still logged in connects again by itself."},
		{Name: "session-weak-key", Why: "The app signs its sessions with a published key. Behind the seal that is worth nothing to an attacker, but everything else that the key signs is: reset links, CSRF tokens (CWE-321).", Fix: "Set SECRET_KEY to the output of: python -c 'import secrets; print(secrets.token_hex(32))'"},
	},
	// Closed where it cannot be known whose session it is, or whether it has
	// ended. A record that cannot be read is neither: see renew.
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
	// anonymousEnd is how long it is remembered that a session of nobody, whose
	// cookie holds all there is of it, was replaced by a login. The cookie
	// names nobody, then or later.
	anonymousEnd = time.Hour
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

	streams guard.Streams[*streamOf]

	marks    atomic.Bool // an account's sessions, or all, were ended at once
	reported reported
	trials   allowance // of the list of published keys
	spills   allowance // of values in the store for visitors that nobody knows
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
	l := &seal{cfg: cfg, env: env, mode: cfg.SealMode(upstream), now: env.Now, word: newLineage().String(), trials: allowance{per: time.Second / 5, burst: 10}, spills: allowance{per: time.Second / 2, burst: 200}}
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
	since, ok, err := l.ring.sealing(l.mode == guard.Enforce)
	switch {
	case err != nil:
		return nil, fmt.Errorf("session.keys: %w", err)
	case ok:
		l.since = since
	case l.mode == guard.Enforce:
		l.since = l.mark(ctx, "since")
	default:
		if err := env.Store.Delete(ctx, stateFolder+"since"); err != nil {
			l.failed(err)
		}
	}
	l.ended = store.Follow(env.Store, endedFolder, store.FollowOptions{Now: env.Now, Entries: 1 << 20, Bytes: 256 << 20, OnChange: func(e store.Entry) {
		name := strings.TrimPrefix(e.Key, endedFolder)
		if name != "" && (name[0] == '@' || name[0] == '*') {
			l.marks.Store(true)
		}
		l.cut(name, e.Value)
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
	// A WebSocket may be in it for longer than anything else.
	l.streams.WhenEmpty(func() { l.ended.Close() })
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
	if l.ended.Partial() && storeError == nil {
		return fmt.Errorf("%w: more sessions have ended than fit into memory: the store is asked for every request", guard.ErrDegraded)
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
	if len(names) == 0 {
		return "the app keeps no sessions"
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
	if k.active && len(k.names) == 0 && f.Sessions.Kind != "none" {
		k.active, k.why = false, "no cookie is sealed: the session's stands in session.js-readable"
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
	if f.Sessions.Tells && k.active { // while observing nothing is taken out of an answer
		k.ask = l.word + " " + strings.Join(slices.Concat(l.cfg.UserKeys, l.cfg.PrivilegeKeys), ",")
	}
	l.state.Store(k)
	return k
}
