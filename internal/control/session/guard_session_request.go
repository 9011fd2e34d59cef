package session

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
)

// condition is what became of a cookie on the way in.
type condition uint8

const (
	absent  condition = iota
	opened            // sealed by us, and good
	stale             // sealed by us, replaced a moment ago: good for reading
	adopted           // the app's own, from before sealing
	refused           // the app did not get it
	raw               // the app's own, where nothing is sealed
	done              // the answer has dealt with it
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
	// several: there were two of ours.
	several bool
	// proven: a raw one was signed by the app's own key.
	proven bool
	// given: the app got the session of t, or made it in the answer.
	given bool
	t     ticket
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
	if !slices.ContainsFunc(k.names, func(n *sealed) bool { return mayName(header, n.app) }) {
		return guard.Pass()
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
		if mayName(header, n.app) {
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
		changed = changed || h.what != absent && h.what != raw
		if h.what == opened || h.what == stale || h.what == adopted {
			l.openedN.Add(1)
			h.given = true
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
			if h := &e.held[i]; (name == n.app || name == n.host) && h.what != absent && h.what != raw {
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
		if found {
			// Two apps below one host may each have one: the browser sends both
			// where the paths nest, and the longer path's counts.
			if a, b := specific(&t, x.Path), specific(&best, x.Path); a != b {
				if a > b {
					best, ofHost, several = t, host, false
				}
				return
			}
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
		h.several = true
		l.refuse(x, n, h, "session-ambiguous", event.High, "two cookies "+n.app+" of different sessions")
	case found:
		if strangeN > 0 && n.kind == kindSession && k.active && l.reported.first(l.now(), "beside", best.account, n.app, strange[0]) {
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
		if strangeN == 1 && h.plain && l.adopt(k, n, h, strange[0]) {
			return
		}
		l.foreign(x, k, n, h, strange)
	default:
		l.watch(x, k, n, h, strange)
	}
}

// placeOf returns where a browser keeps a cookie. Without a path it is taken
// for one of the whole site.
func placeOf(c setCookie) (path, domain string) {
	if path, _ = c.get("path"); !strings.HasPrefix(path, "/") {
		path = "/"
	}
	domain, _ = c.get("domain")
	return path, strings.ToLower(strings.TrimPrefix(domain, "."))
}

// specific orders cookies as browsers do for a path (RFC 6265bis, 5.8.3):
// longer paths first. One that has no business there comes last.
func specific(t *ticket, path string) int {
	p, _ := placeOf(parseSetCookie("x=" + t.attrs))
	if rest, ok := strings.CutPrefix(path, p); !ok || rest != "" && rest[0] != '/' && !strings.HasSuffix(p, "/") {
		return 0
	}
	return len(p)
}

// refuse keeps a cookie from the app, and says so.
func (l *seal) refuse(x *guard.Exchange, n *sealed, h *held, reason string, severity event.Severity, detail string) {
	h.what = refused
	l.refusedN.Add(1)
	if h.t.id != (lineage{}) && !l.reported.first(l.now(), reason, string(h.t.id[:])) {
		return
	}
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
	case how == endReplaced && now.Sub(at) <= time.Duration(l.cfg.Grace) && l.selfContained(n, t):
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
	if t.account != "" && now.Sub(time.Unix(t.checked, 0)) > time.Duration(l.cfg.Renew) && h.what == opened {
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

// selfContained reports whether a cookie says itself whose it is: then one
// from before a login is nobody's for ever. An id names what is on the server,
// and that may be somebody's by now.
func (l *seal) selfContained(n *sealed, t *ticket) bool {
	_, _, readable := l.content(n, t.value)
	return readable && !t.stored
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
	if !l.reported.first(l.now(), "elsewhere", string(h.t.id[:])) {
		return true
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
