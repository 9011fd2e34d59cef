package session

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash/fnv"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// reported remembers for a minute what was reported: a cookie that comes with
// every request is one event a minute, not thousands. Its size is bounded;
// when it is full all is forgotten, and reported again.
type reported struct {
	mu sync.Mutex
	at map[uint64]int64
}

// first reports whether what was not reported within the last minute.
func (r *reported) first(now time.Time, what ...string) bool {
	f := fnv.New64a()
	for _, s := range what {
		f.Write([]byte(s))
		f.Write([]byte{0})
	}
	key, t := f.Sum64(), now.Unix()
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.at[key]; ok && t-at < 60 {
		return false
	}
	if r.at == nil || len(r.at) >= 4096 {
		r.at = make(map[uint64]int64, 64)
	}
	r.at[key] = t
	return true
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
	ctx, cancel := context.WithTimeout(context.Background(), storeWait)
	defer cancel()
	v, _, err := l.ended.Find(ctx, key)
	if err != nil {
		// It does not fit into memory, and the store is gone: who cannot be
		// shown to have a session that goes on has none.
		l.failed(err)
		return endOperator, l.now()
	}
	return parseEnded(v)
}

// parseEnded reads what markEnded and endMark wrote.
func parseEnded(v []byte) (ending, time.Time) {
	if len(v) < 2 {
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
		} else if h.t.born >= l.began.Unix() && !h.t.unrecorded {
			ttl = min(ttl, time.Duration(l.cfg.Renew)+time.Duration(l.cfg.Grace)+time.Minute)
		}
	} else if how == endLogout {
		// There is nothing in it, or in the app: it is for answers that are
		// on their way. Nobody fills the store by coming and going.
		ttl = min(ttl, time.Duration(l.cfg.Grace)+time.Minute)
	} else if k.from.sessions.Kind == "cookie" {
		ttl = min(ttl, anonymousEnd)
	}
	if h.t.stored && how == endLogout {
		_ = l.env.Store.Delete(ctx, valueFolder+h.t.id.String())
	}
	if l.cfg.Adopt > 0 && h.t.born <= l.since.Add(time.Duration(l.cfg.Adopt)).Unix() {
		ttl = max(ttl, time.Duration(l.cfg.Adopt)+time.Minute) // it may be one from before sealing
	}
	l.markEnded(ctx, endedFolder+h.t.id.String(), how, ttl)
}

func (l *seal) markEnded(ctx context.Context, key string, how ending, ttl time.Duration) {
	if err := l.ended.Put(ctx, key, strconv.AppendInt([]byte{byte(how)}, l.now().UnixMilli(), 10), ttl); err != nil {
		l.failed(err)
	}
}

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

// recordLife is how long a record is kept: for as long as the cookie can be
// good, and until it is looked at again.
func (l *seal) recordLife(k *known, n *sealed, t *ticket, now time.Time) time.Duration {
	return l.rest(k, n, t, now) + time.Duration(l.cfg.Renew) + time.Minute
}

// write puts a session's record into the store.
func (l *seal) write(x *guard.Exchange, k *known, n *sealed, t *ticket, now time.Time) {
	b, err := json.Marshal(l.recordOf(x, n, t, now))
	if err == nil {
		ctx, cancel := waiting(x.Request.Context())
		defer cancel()
		err = l.env.Store.Put(ctx, l.recordKey(t), b, l.recordLife(k, n, t, now))
	}
	t.unrecorded, t.checked = err != nil, now.Unix()
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
		return b, l.recordLife(k, n, &again, now), err
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
	t.checked = now.Unix()
	return true
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
