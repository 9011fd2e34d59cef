package session

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"hash/fnv"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/flasksession"
	"github.com/dewar-security/dewar/internal/guard"
)

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
	if at.IsZero() {
		// It does not say when it was made: before sealing began, since the
		// app's cookies are sealed from then on. What was ended later holds
		// for it.
		at = l.since
	}
	// The same cookie is the same session, however often it comes before the
	// browser has the sealed one.
	sum := sha256.Sum256([]byte("dewar adopted\x00" + n.app + "\x00" + value))
	h.t = ticket{id: lineage(sum[:10]), born: at.Unix(), sealed: now.Unix(), checked: now.Unix(), value: value}
	h.t.account, h.t.rights, _ = l.content(n, value)
	if h.t.account != "" {
		h.t.login = at.Unix()
	}
	// Where an operator has ended the sessions of anybody, one that does not say
	// whose it is may be theirs.
	whose := h.t.account != "" || k.from.sessions.Kind == "cookie" && n.kind == kindSession || !l.marks.Load()
	if how, _ := l.endedAt(&h.t, now); how != notEnded || !whose {
		h.t = ticket{}
		return false
	}
	h.what, h.due = adopted, true
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
	switch l.ring.looks(value) {
	case ourKey:
		return "session-forged", event.High, "sealed by this guard, and changed since, cut, or moved here from another cookie's name"
	case someKey:
		return "session-forged", event.Warn, "of the form of a sealed cookie, under a key that this guard does not have: one that was dropped, another guard's, or none"
	}
	return "session-forged", event.Warn, "not sealed by this guard for the cookie " + n.app
}

// foreign refuses cookies that are not sealed.
func (l *seal) foreign(x *guard.Exchange, k *known, n *sealed, h *held, values []string) {
	h.what = refused
	if !l.reported.first(l.now(), n.app, values[0]) {
		l.refusedN.Add(1)
		return
	}
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
	h.t.value = values[0]
	if len(k.keys) == 0 {
		return // nobody can tell; what the app answers will
	}
	if _, h.proven = k.proven(n, values[0]); h.proven {
		h.t.account, h.t.rights, _ = l.content(n, values[0])
		return
	}
	if !l.reported.first(l.now(), n.app, values[0]) {
		return
	}
	if reason, severity, detail := l.whose(k, n, values[0]); severity >= event.High {
		x.Note(guard.Note{Event: "malicious_session", Severity: severity, Reason: reason, Detail: detail + " (not refused: the layer only observes)"})
	}
}
