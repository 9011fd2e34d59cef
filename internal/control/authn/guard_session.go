package authn

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// keys is what is made of one secret: a key for each purpose.
type keys struct {
	seal      cipher.AEAD // sessions and introspected tokens in the store
	cookie    cipher.AEAD // the cookie of logins under way
	derive    []byte      // nonces and PKCE verifiers of those
	name      []byte      // names of keys in the store
	assertion *ecdsa.PrivateKey
}

// ring holds the keys of every secret. The first ones seal and sign, all of
// them open: that is how a secret is changed.
type ring struct {
	all     []*keys
	lasting bool // they outlive the process
}

// processSecret is the secret of a process that was given none and can keep
// none. It outlives reloads.
var processSecret = sync.OnceValue(func() string { return rand.Text() + rand.Text() })

// minSecret is how long a secret has to be, in characters.
const minSecret = 32

// newRing makes the keys. Without a secret those of a file in dir are taken,
// and without a dir those of the process.
func newRing(secrets []string, dir string) (*ring, error) {
	r := &ring{lasting: true}
	if len(secrets) == 0 && dir != "" {
		s, err := keptSecret(filepath.Join(dir, keyFile))
		if err != nil {
			return nil, err
		}
		secrets = []string{s}
	}
	if len(secrets) == 0 {
		secrets, r.lasting = []string{processSecret()}, false
	}
	for _, s := range secrets {
		if len(s) < minSecret {
			return nil, fmt.Errorf("at least %d characters, such as \"openssl rand -base64 32\" makes", minSecret)
		}
		k, err := newKeys(s)
		if err != nil {
			return nil, err
		}
		r.all = append(r.all, k)
	}
	return r, nil
}

func newKeys(secret string) (*keys, error) {
	var failed error
	key := func(purpose string) []byte {
		k, err := hkdf.Key(sha256.New, []byte(secret), nil, "dewar authn "+purpose, 32)
		failed = errors.Join(failed, err)
		return k
	}
	aead := func(purpose string) cipher.AEAD {
		block, err := aes.NewCipher(key(purpose))
		if err != nil {
			failed = errors.Join(failed, err)
			return nil
		}
		a, err := cipher.NewGCMWithRandomNonce(block)
		failed = errors.Join(failed, err)
		return a
	}
	k := &keys{seal: aead("store"), cookie: aead("cookie"), derive: key("derive"), name: key("name")}
	// A number at random is a private key of P-256 nearly always.
	for i := 0; k.assertion == nil && failed == nil; i++ {
		k.assertion, _ = ecdsa.ParseRawPrivateKey(elliptic.P256(), key(fmt.Sprintf("assertion %d", i)))
	}
	return k, failed
}

// keyFile holds the secret of a guard that was given none, in the folder of
// its project.
const keyFile = "authn.key"

// keptSecret reads the secret in a file, and makes one when there is none.
// Several processes may do so at once.
func keptSecret(name string) (string, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		made, err := os.CreateTemp(filepath.Dir(name), keyFile+".*") // mode 0600
		if err != nil {
			return "", err
		}
		defer os.Remove(made.Name())
		_, err = made.WriteString("# What seals the sessions of people who have logged in: whoever has it is any user.\n# Deleting this file logs everybody out.\n" + rand.Text() + rand.Text() + "\n")
		if err = errors.Join(err, made.Sync(), made.Close()); err != nil {
			return "", err
		}
		// A link is not made where there is a file: the first one counts.
		if err := os.Link(made.Name(), name); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		b, err = os.ReadFile(name)
		if err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			if len(line) < minSecret {
				break
			}
			return line, nil
		}
	}
	return "", fmt.Errorf("%s holds no secret: delete it (everybody logs in again)", name)
}

// seal seals a value for its place in the store.
func (r *ring) seal(place string, value []byte) []byte {
	return r.all[0].seal.Seal(nil, nil, value, []byte(place))
}

var errSealed = errors.New("sealed with another secret")

// open opens a value from its place in the store.
func (r *ring) open(place string, value []byte) ([]byte, error) {
	for _, k := range r.all {
		if b, err := k.seal.Open(nil, nil, value, []byte(place)); err == nil {
			return b, nil
		}
	}
	return nil, errSealed
}

func mac(key []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return h.Sum(nil)
}

// hidden returns a name for a key in the store that shows nothing of what it
// stands for.
func (r *ring) hidden(parts ...string) string { return r.hiddenBy(0, parts...) }

// hiddenBy is hidden by the nth secret.
func (r *ring) hiddenBy(n int, parts ...string) string {
	return base64.RawURLEncoding.EncodeToString(mac(r.all[n].name, parts...))
}

// session is a login, as it lies sealed in the store.
type session struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	SID      string   `json:"sid,omitempty"` // the provider's name of its session
	User     string   `json:"user"`
	Email    string   `json:"email,omitempty"`
	Name     string   `json:"name,omitempty"`
	Login    string   `json:"login,omitempty"` // preferred_username
	Groups   []string `json:"groups,omitempty"`
	Scopes   []string `json:"scopes,omitempty"`
	ACR      string   `json:"acr,omitempty"`
	Nonce    string   `json:"nonce,omitempty"`
	AuthTime int64    `json:"auth_time,omitempty"` // Unix seconds, as all times here
	Created  int64    `json:"created"`
	Ends     int64    `json:"ends"`            // whatever happens
	Renew    int64    `json:"renew,omitempty"` // when the tokens are to be renewed; 0: never
	Client   string   `json:"client,omitempty"`
	Handle   string   `json:"handle"` // names the session to an operator; opens nothing
}

// tokens are what the provider gave beside: needed at a refresh and at the
// logout only, so they lie beside the session. The access token is not kept:
// nobody here has a use for it.
type tokens struct {
	ID      string `json:"id,omitempty"`
	Refresh string `json:"refresh,omitempty"`
}

// Folders of the store.
const (
	tokensFolder  = "authn-tokens/"
	sessionFolder = "authn-session/"
	indexFolder   = "authn-index/" // of sessions, by subject and by sid
	endedFolder   = "authn-ended/" // what was a session
	askedFolder   = "authn-token/" // introspected tokens
	stateFolder   = "authn-state/" // Once: logins that have come back, logout tokens
	renewFolder   = "authn-renew/" // Once: refreshes under way
)

// sessions keeps the logins.
type sessions struct {
	store    store.Store
	ring     *ring
	now      guard.Clock
	idle     time.Duration
	absolute time.Duration
	cache    *lru[*cached]
}

// cached is a session as it was last opened, and what was made of it. The
// store is asked at every request all the same: what has ended there has
// ended here.
type cached struct {
	key    string
	blob   []byte
	s      *session
	signed assertion

	mu      sync.Mutex
	touched time.Time
}

// idBytes is how much of chance a session's id holds.
const idBytes = 32

// newID returns an id for the cookie.
func newID() string {
	b := make([]byte, idBytes)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// key returns the name under which a session lies in the store, "" for what is
// no id. Whoever reads the store learns no id from it.
func (t *sessions) key(id string) string {
	if len(id) != base64.RawURLEncoding.EncodedLen(idBytes) {
		return ""
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (t *sessions) open(key string, blob []byte) (*session, error) {
	b, err := t.ring.open(sessionFolder+key, blob)
	if err != nil {
		return nil, err
	}
	var s session
	return &s, json.Unmarshal(b, &s)
}

func (t *sessions) sealed(key string, s *session) []byte {
	b, _ := json.Marshal(s) // it holds nothing that cannot be encoded
	return t.ring.seal(sessionFolder+key, b)
}

// left is how long a session may lie in the store from now on.
func (t *sessions) left(s *session) time.Duration {
	return min(t.idle, time.Unix(s.Ends, 0).Sub(t.now()))
}

// get returns the session of a key, or nil. An error says that the store does
// not answer.
func (t *sessions) get(ctx context.Context, key string) (*cached, error) {
	blob, ok, err := t.store.Get(ctx, sessionFolder+key)
	if err != nil || !ok {
		return nil, err
	}
	c, known := t.cache.get(key)
	if !known || !bytes.Equal(c.blob, blob) {
		s, err := t.open(key, blob)
		if err != nil {
			return nil, nil // sealed with another secret: it is nobody's
		}
		c = &cached{key: key, blob: blob, s: s}
		t.cache.put(key, c)
	}
	now := t.now()
	if t.left(c.s) <= 0 {
		return nil, nil
	}
	// Its life in the store is the idle time; a tenth of it may be missing.
	c.mu.Lock()
	due := now.Sub(c.touched) >= t.idle/10
	if due {
		c.touched = now
	}
	c.mu.Unlock()
	if due {
		err := t.store.Update(ctx, sessionFolder+key, func(old []byte, ok bool) ([]byte, time.Duration, error) {
			if !ok { // a logout was faster: it stays ended
				return nil, 0, store.ErrKeep
			}
			return old, t.left(c.s), nil
		})
		if err == nil {
			err = t.store.Update(ctx, tokensFolder+key, func(old []byte, ok bool) ([]byte, time.Duration, error) {
				if !ok {
					return nil, 0, store.ErrKeep
				}
				return old, t.left(c.s), nil
			})
		}
		if err != nil {
			c.mu.Lock()
			c.touched = time.Time{}
			c.mu.Unlock()
		}
	}
	return c, nil
}

// start keeps a new session and returns its id.
func (t *sessions) start(ctx context.Context, s *session, given tokens) (id string, err error) {
	id = newID()
	key := t.key(id)
	now := t.now()
	s.Created, s.Ends = now.Unix(), now.Add(t.absolute).Unix()
	s.Handle = key[:12]
	if err := t.index(ctx, key, s); err != nil {
		return "", err
	}
	if err := t.keep(ctx, key, s, given); err != nil {
		return "", err
	}
	if err := t.store.Put(ctx, sessionFolder+key, t.sealed(key, s), t.left(s)); err != nil {
		return "", err
	}
	// A logout at the provider may have found the index and no session yet.
	if t.ended(ctx, key) {
		return "", errors.Join(errEndedAtOnce, t.end(ctx, key))
	}
	return id, nil
}

var errEndedAtOnce = errors.New("the provider ended the session while it began")

// keep puts the tokens of a session beside it.
func (t *sessions) keep(ctx context.Context, key string, s *session, given tokens) error {
	if given == (tokens{}) {
		return nil
	}
	b, _ := json.Marshal(given) // two texts
	return t.store.Put(ctx, tokensFolder+key, t.ring.seal(tokensFolder+key, b), t.left(s))
}

// given returns the tokens of a session; none when there are none.
func (t *sessions) given(ctx context.Context, key string) (g tokens, err error) {
	b, ok, err := t.store.Get(ctx, tokensFolder+key)
	if err != nil || !ok {
		return g, err
	}
	if b, err = t.ring.open(tokensFolder+key, b); err != nil {
		return g, nil
	}
	return g, json.Unmarshal(b, &g)
}

// change puts another version of a session in the place of the one that was
// read, unless it has ended or changed meanwhile.
func (t *sessions) change(ctx context.Context, key string, c *cached, s *session) (done bool, err error) {
	blob := t.sealed(key, s)
	err = t.store.Update(ctx, sessionFolder+key, func(old []byte, ok bool) ([]byte, time.Duration, error) {
		if done = ok && bytes.Equal(old, c.blob); !done {
			return nil, 0, store.ErrKeep
		}
		return blob, t.left(s), nil
	})
	return done, err
}

// endedFor is how long it is remembered that a session has ended: whoever
// shows its cookie then has an old copy.
const endedFor = 24 * time.Hour

// end ends a session.
func (t *sessions) end(ctx context.Context, key string) error {
	t.cache.remove(key)
	if err := errors.Join(t.store.Delete(ctx, sessionFolder+key), t.store.Delete(ctx, tokensFolder+key)); err != nil {
		return err
	}
	_ = t.store.Put(ctx, endedFolder+key, []byte{}, endedFor) // it only helps to notice
	return nil
}

// ended reports whether a key was that of a session.
func (t *sessions) ended(ctx context.Context, key string) bool {
	_, ok, err := t.store.Get(ctx, endedFolder+key)
	return err == nil && ok
}

// maxSessions is how many sessions one subject may have: a further login ends
// the oldest.
const maxSessions = 50

// entry is a session in an index.
type entry struct {
	Key  string `json:"k"`
	Ends int64  `json:"e"`
}

// names returns the indexes that a session is in, by the nth secret.
func (t *sessions) names(n int, issuer, subject, sid string) (bySubject, bySID string) {
	bySubject = indexFolder + t.ring.hiddenBy(n, "sub", issuer, subject)
	if sid != "" {
		bySID = indexFolder + t.ring.hiddenBy(n, "sid", issuer, sid)
	}
	return bySubject, bySID
}

// index notes a session under its subject and the provider's session, so that
// a logout there finds it.
func (t *sessions) index(ctx context.Context, key string, s *session) error {
	bySubject, bySID := t.names(0, s.Issuer, s.Subject, s.SID)
	var over []string
	for _, name := range []string{bySubject, bySID} {
		if name == "" {
			continue
		}
		var drop []string
		err := t.store.Update(ctx, name, func(old []byte, ok bool) ([]byte, time.Duration, error) {
			list := t.entries(old)
			now := t.now().Unix()
			list = slices.DeleteFunc(list, func(e entry) bool { return e.Ends <= now })
			list = append(list, entry{key, s.Ends})
			drop = nil
			for len(list) > maxSessions {
				drop, list = append(drop, list[0].Key), list[1:]
			}
			b, err := json.Marshal(list)
			return b, t.absolute, err
		})
		if err != nil {
			return err
		}
		over = append(over, drop...)
	}
	for _, k := range over {
		if err := t.end(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

func (t *sessions) entries(b []byte) []entry {
	var list []entry
	_ = json.Unmarshal(b, &list) // ours; what is not is no list
	return list
}

// endAll ends the sessions of a subject, or of one session at the provider,
// and returns how many there were. With both, those that are of both.
func (t *sessions) endAll(ctx context.Context, issuer, subject, sid string) (n int, err error) {
	var list []entry
	for i := range t.ring.all {
		bySubject, bySID := t.names(i, issuer, subject, sid)
		name := bySubject
		if bySID != "" {
			name = bySID
		}
		b, _, err := t.store.Get(ctx, name)
		if err != nil {
			return 0, err
		}
		list = append(list, t.entries(b)...)
	}
	for _, e := range list {
		blob, ok, err := t.store.Get(ctx, sessionFolder+e.Key)
		if err != nil {
			return n, err
		}
		if !ok {
			if e.Ends > t.now().Unix() { // ended, or about to begin: see start
				if err := t.store.Put(ctx, endedFolder+e.Key, []byte{}, endedFor); err != nil {
					return n, err
				}
			}
			continue
		}
		if s, err := t.open(e.Key, blob); err != nil || subject != "" && s.Subject != subject {
			continue
		}
		if err := t.end(ctx, e.Key); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// all calls visit for every session.
func (t *sessions) all(ctx context.Context, visit func(key string, s *session, left time.Duration) bool) error {
	return t.store.Scan(ctx, sessionFolder, func(e store.Entry) bool {
		key := strings.TrimPrefix(e.Key, sessionFolder)
		s, err := t.open(key, e.Value)
		if err != nil {
			return true
		}
		return visit(key, s, e.TTL)
	})
}

// Cookies. With __Host- in front no sibling domain and no clear-text page can
// plant one (RFC 6265bis, 4.1.3.2); a browser takes such a name over https
// only.
const (
	sessionCookie = "dewar-login"
	flowCookie    = "dewar-login-flow"
)

func cookieName(x *guard.Exchange, name string) string {
	if x.Client.Scheme == "https" {
		return "__Host-" + name
	}
	return name
}

// setCookie returns a Set-Cookie. age 0 takes the cookie away.
func setCookie(x *guard.Exchange, name, value string, age time.Duration, crossSite bool) string {
	c := http.Cookie{Name: cookieName(x, name), Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: x.Client.Scheme == "https", MaxAge: int(age / time.Second)}
	if age <= 0 {
		c.MaxAge = -1
	}
	if crossSite && c.Secure {
		c.SameSite = http.SameSiteNoneMode
	}
	return c.String()
}

// ownCookies are the values of our cookies; "" for one that is not there.
type ownCookies struct{ login, flow string }

// takeCookies returns our cookies and takes them, under every name they can
// have, out of what the app gets. A cookie that is there twice is none: one of
// them was planted (CWE-565).
func takeCookies(x *guard.Exchange) (c ownCookies) {
	lines := x.Request.Header["Cookie"]
	if len(lines) == 0 {
		return c
	}
	found := false
	for _, line := range lines {
		found = found || strings.Contains(line, sessionCookie) // flowCookie has it in it, too
	}
	if !found {
		return c
	}
	wantLogin, wantFlow := cookieName(x, sessionCookie), cookieName(x, flowCookie)
	logins, flows := 0, 0
	var kept []string
	for _, line := range lines {
		for pair := range strings.SplitSeq(line, ";") {
			pair = strings.Trim(pair, " \t")
			if pair == "" {
				continue
			}
			name, value, _ := strings.Cut(pair, "=")
			name = strings.Trim(name, " \t")
			switch strings.TrimPrefix(name, "__Host-") {
			case sessionCookie:
				if name == wantLogin {
					c.login, logins = strings.Trim(value, " \t"), logins+1
				}
				continue
			case flowCookie:
				if name == wantFlow {
					c.flow, flows = strings.Trim(value, " \t"), flows+1
				}
				continue
			}
			kept = append(kept, pair)
		}
	}
	if len(kept) == 0 {
		delete(x.Request.Header, "Cookie")
	} else {
		x.Request.Header["Cookie"] = []string{strings.Join(kept, "; ")}
	}
	if logins > 1 {
		c.login = ""
	}
	if flows > 1 {
		c.flow = ""
	}
	return c
}

// lru is a bounded map of what can be made again. It keeps two generations:
// when the young one is full it becomes the old one, and what the old one held
// is gone. It is safe for concurrent use.
type lru[V any] struct {
	mu         sync.RWMutex
	size       int
	young, old map[string]V
}

func newLRU[V any](size int) *lru[V] {
	return &lru[V]{size: max(size/2, 1), young: map[string]V{}}
}

func (l *lru[V]) get(key string) (v V, ok bool) {
	l.mu.RLock()
	v, ok = l.young[key]
	aged := false
	if !ok {
		v, aged = l.old[key]
	}
	l.mu.RUnlock()
	if aged {
		l.put(key, v)
	}
	return v, ok || aged
}

func (l *lru[V]) put(key string, v V) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.young) >= l.size {
		l.young, l.old = make(map[string]V, l.size), l.young
	}
	l.young[key] = v
}

func (l *lru[V]) remove(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.young, key)
	delete(l.old, key)
}
