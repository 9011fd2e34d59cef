package session

import (
	"net/http"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/flasksession"
	"github.com/dewar-security/dewar/internal/guard"
)

// answering is what one answer needs.
type answering struct {
	l     *seal
	x     *guard.Exchange
	k     *known
	r     *http.Response
	now   time.Time
	https bool
	// told is what the worker said of a session on the server.
	told   flasksession.Session
	isTold bool
	// remembered: the request came with a good remember token.
	remembered bool
	// more are Set-Cookie fields beside the app's.
	more []string
}

// Response implements [guard.Responder]: what the app sets is sealed, what it
// takes away has ended, and a session that belongs to another account, or has
// other rights, gets another name.
func (l *seal) Response(x *guard.Exchange, r *http.Response) guard.Decision {
	var a answering
	a.told, a.isTold = l.told(r.Header)
	e, _ := x.Value(sessionSpec).(*exchange)
	list := r.Header["Set-Cookie"]
	if e == nil && len(list) == 0 || r.StatusCode < 200 && r.StatusCode != http.StatusSwitchingProtocols {
		return guard.Pass()
	}
	if e == nil {
		k := l.known()
		e = &exchange{k: k, held: make([]held, len(k.names))}
		x.SetValue(sessionSpec, e)
	}
	a.l, a.x, a.k, a.r, a.now = l, x, e.k, r, l.now()
	a.https = x.Client.Scheme == "https"
	for i, n := range e.k.names {
		if h := &e.held[i]; n.kind == kindRemember && (h.what == opened || h.what == adopted || h.what == raw && h.proven) {
			a.remembered = true
		}
	}
	if !e.k.active {
		a.watch(e, list)
		return guard.Pass()
	}
	out, changed := a.set(e, list)
	for i, n := range e.k.names {
		a.unset(n, &e.held[i])
	}
	if !changed && len(a.more) == 0 {
		return guard.Pass()
	}
	if out = append(out, a.more...); len(out) == 0 {
		r.Header.Del("Set-Cookie")
		return guard.Pass()
	}
	r.Header["Set-Cookie"] = out
	// A cache that keeps such an answer would hand one visitor's session to
	// the next.
	if c := r.Header["Cache-Control"]; len(c) > 0 && shared(c) {
		r.Header["Cache-Control"] = []string{private(c)}
	}
	return guard.Pass()
}

// set turns the app's Set-Cookie fields into sealed ones.
func (a *answering) set(e *exchange, list []string) (out []string, changed bool) {
	for i, header := range list {
		c := parseSetCookie(header)
		at := -1
		for j, n := range e.k.names {
			if c.name == n.app {
				at = j
			}
		}
		if at < 0 || ignored(header) {
			if changed {
				out = append(out, header)
			}
			continue
		}
		if !changed {
			out, changed = append(make([]string, 0, len(list)+2), list[:i]...), true
		}
		if again(list[i+1:], c) {
			continue // the browser would keep the later one only
		}
		if header := a.one(e.k.names[at], &e.held[at], c); header != "" {
			out = append(out, header)
		}
	}
	return out, changed
}

// again reports whether a later Set-Cookie overwrites c.
func again(list []string, c setCookie) bool {
	path, domain := placeOf(c)
	for _, header := range list {
		later := parseSetCookie(header)
		if p, d := placeOf(later); later.name == c.name && p == path && d == domain && !ignored(header) {
			return true
		}
	}
	return false
}

// one returns what the browser gets in place of a Set-Cookie; empty: nothing.
func (a *answering) one(n *sealed, h *held, c setCookie) string {
	value := c.value()
	gone := c.ends(a.now) || value == ""
	account, rights, readable := "", uint64(0), true
	if !gone {
		account, rights, readable = a.about(n, h, value)
	}
	if h.what != absent && !gone && !samePlace(c, &h.t) {
		// Another app's, below the same host: it comes after none.
		h = &held{plain: h.plain}
	}
	// What became of the session since the request came in?
	late := h.recent || h.what == stale
	if h.what == opened && !late {
		how, _ := a.l.endedAt(&h.t, a.now)
		late = how != notEnded
	}
	if late && (gone || account == "" || h.what != refused && h.what != done && account == h.t.account) {
		// A newer login, or a logout, was answered while this was on its way:
		// the browser has that cookie, and this one would overwrite it.
		h.what = done
		return ""
	}
	has := h.what == opened || h.what == adopted || h.what == stale
	if gone {
		if has {
			a.left(n, h)
			a.l.end(a.x, a.k, n, h, endLogout)
			h.what, h.given = done, false
		}
		return a.named(n, h, c, value)
	}
	t := ticket{account: account, rights: rights, sealed: a.now.Unix(), until: untilOf(c, a.now), attrs: attrsOf(c), value: value}
	same := has && !late && account == h.t.account && rights == h.t.rights && (readable && !a.byID(n) || value == h.t.value)
	if same {
		t.id, t.born, t.login, t.agent, t.network, t.unrecorded, t.checked = h.t.id, h.t.born, h.t.login, h.t.agent, h.t.network, h.t.unrecorded, h.t.checked
	} else {
		a.begin(n, h, &t, has)
	}
	if same && h.what == adopted && t.account != "" {
		a.l.write(a.x, a.k, n, &t, a.now)
	}
	sealed, ok := a.seal(n, &t, c)
	if !ok {
		return ""
	}
	h.t, h.what, h.due, h.given = t, done, false, true
	return a.named(n, h, c, sealed)
}

// samePlace reports whether a browser puts c in the place of the cookie that
// a ticket came in.
func samePlace(c setCookie, t *ticket) bool {
	path, domain := placeOf(c)
	otherPath, otherDomain := placeOf(parseSetCookie("x=" + t.attrs))
	return path == otherPath && domain == otherDomain
}

// byID reports whether the app keeps the session elsewhere: then another
// value is another session, made by the app itself.
func (a *answering) byID(n *sealed) bool {
	return n.kind == kindSession && a.k.from.sessions.Kind == "id"
}

// about returns whom a new value belongs to, from itself, from the worker, or,
// when neither says anything, as before.
func (a *answering) about(n *sealed, h *held, value string) (account string, rights uint64, readable bool) {
	if n.kind == kindSession && a.isTold {
		account, rights = a.l.about(a.told)
		return account, rights, true
	}
	if account, rights, readable = a.l.content(n, value); readable || h.what != opened && h.what != adopted {
		return account, rights, readable
	}
	return h.t.account, h.t.rights, false
}

// begin makes t the first of a lineage, and ends what it comes after.
func (a *answering) begin(n *sealed, h *held, t *ticket, has bool) {
	t.id, t.born = newLineage(), a.now.Unix()
	if t.account != "" {
		t.login = t.born
		t.agent, t.network = traits(a.x)
	}
	before := ""
	if has {
		before = h.t.account
		how := endReplaced
		if before != "" && before != t.account {
			how = endLogout // it was another's: not even for a moment
		}
		if how == endReplaced && before != "" {
			t.login, t.agent, t.network = h.t.login, h.t.agent, h.t.network
		}
		a.l.end(a.x, a.k, n, h, how)
	}
	if t.account != "" {
		a.l.write(a.x, a.k, n, t, a.now)
	}
	if n.kind != kindSession {
		return
	}
	switch {
	case t.account != "" && t.account != before:
		a.in(n, t, before)
	case t.account == "" && before != "":
		a.left(n, h)
	case t.account != "":
		a.x.Change, a.x.Identity.Session = guard.Renewed, t.id.String()
		attrs := a.l.attributes(n, *t)
		attrs["before"] = h.t.id.String()
		a.x.Note(guard.Note{Event: "session_renewed", Detail: "the app changed its rights, or its id", Attributes: attrs})
	}
}

// in notes a login.
func (a *answering) in(n *sealed, t *ticket, before string) {
	a.x.Change = guard.LoggedIn
	a.x.Identity.Account, a.x.Identity.Session = t.account, t.id.String()
	a.l.loginsN.Add(1)
	note := guard.Note{Event: "authn_login_success", Detail: "the app's session belongs to an account now", Attributes: a.l.attributes(n, *t)}
	switch {
	case before != "":
		note.Detail = "the app's session belongs to another account now"
		note.Attributes["before"] = before
	case a.remembered && (a.x.Request.Method == http.MethodGet || a.x.Request.Method == http.MethodHead):
		note.Event, note.Detail = "session_created", "a remember token made a session"
	}
	a.x.Note(note)
}

// left notes a logout.
func (a *answering) left(n *sealed, h *held) {
	if n.kind != kindSession || h.t.account == "" {
		return
	}
	a.x.Change = guard.LoggedOut
	a.l.logoutsN.Add(1)
	a.x.Note(guard.Note{Event: "authn_logout", Detail: "the session has ended: a copy of its cookie is worth nothing", Attributes: a.l.attributes(n, h.t)})
}

// unset deals with a cookie that the app did not set: one that is to be sealed
// anew, and one under a name that is not used any more.
func (a *answering) unset(n *sealed, h *held) {
	if h.what == absent || h.what == raw || h.what == done {
		return
	}
	if h.what == opened && n.kind == kindSession && a.isTold {
		// A session on the server can change without its cookie.
		if account, rights := a.l.about(a.told); account != h.t.account || rights != h.t.rights {
			if how, _ := a.l.endedAt(&h.t, a.now); how != notEnded {
				return
			}
			t := h.t
			t.account, t.rights, t.sealed = account, rights, a.now.Unix()
			a.begin(n, h, &t, true)
			a.anew(n, h, &t)
			return
		}
	}
	switch {
	case (h.what == opened || h.what == adopted) && h.due && !kept(a.r):
		if how, _ := a.l.endedAt(&h.t, a.now); how != notEnded {
			return
		}
		t := h.t
		t.sealed = a.now.Unix()
		if h.what == adopted {
			t.agent, t.network = traits(a.x)
			if t.account != "" {
				a.l.write(a.x, a.k, n, &t, a.now)
			}
		}
		a.anew(n, h, &t)
	case h.several && !kept(a.r):
		// Both go, wherever they are, or they would come for ever.
		a.more = append(a.more, a.everywhere(n.app)...)
	case h.what == refused && !h.recent && h.plain && !kept(a.r):
		// It would come with every request. Under the prefixed name nothing
		// can be in its place by now.
		if a.prefixed(n, parseSetCookie(n.app+"=; Path="+a.k.path+domainAttr(a.k.domain))) {
			a.more = append(a.more, removal(n.app))
		}
	}
}

// everywhere takes a cookie away from every place from which it can have come
// with the request: each folder of the path, this host and those above it.
func (a *answering) everywhere(name string) (out []string) {
	paths := []string{"/"}
	for i := 1; i < len(a.x.Path) && len(paths) < 5; i++ {
		if c := a.x.Path[i]; c <= ' ' || c >= 0x7f || c == ';' || c == ',' {
			break
		} else if c == '/' || i == len(a.x.Path)-1 {
			paths = append(paths, strings.TrimSuffix(a.x.Path[:i+1], "/"))
		}
	}
	domains := []string{""}
	host, _, _ := strings.Cut(a.x.Client.Host, ":")
	for len(domains) < 4 && strings.Count(host, ".") > 0 && !strings.ContainsAny(host, "[; ,") {
		domains = append(domains, "; Domain="+host)
		_, host, _ = strings.Cut(host, ".")
	}
	for _, d := range domains {
		for _, p := range paths {
			out = append(out, name+"=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path="+p+d)
		}
	}
	return out
}

func domainAttr(domain string) string {
	if domain == "" {
		return ""
	}
	return "; Domain=" + domain
}

// anew writes a cookie again that the app did not set.
func (a *answering) anew(n *sealed, h *held, t *ticket) {
	text := n.app + "=x" + t.attrs
	if t.until != 0 {
		text += "; Expires=" + time.Unix(t.until, 0).UTC().Format(http.TimeFormat)
	}
	c := parseSetCookie(text)
	v, ok := a.seal(n, t, c)
	if !ok {
		return
	}
	a.more = append(a.more, a.named(n, h, c, v))
	h.t, h.what, h.given = *t, done, true
}

// seal returns the sealed value. One that no browser would keep goes to the
// store, and the cookie says where.
func (a *answering) seal(n *sealed, t *ticket, c setCookie) (string, bool) {
	name := n.app
	if a.prefixed(n, c) {
		name = n.host
	}
	t.stored = false
	v, err := a.l.ring.seal(n.app, t)
	if err == nil && len(name)+1+len(v) > maxCookie {
		if t.account == "" && !a.l.spills.take(a.now) {
			a.x.Note(guard.Note{Event: "dewar_degraded", Severity: event.Warn, Reason: "session-unrecorded", Detail: "too many large sessions of visitors that are not logged in: one was dropped"})
			return "", false
		}
		var big string
		if big, err = a.l.ring.seal(valueName(n, t), &ticket{id: t.id, value: t.value}); err == nil && len(big) > maxSealed {
			a.x.Note(guard.Note{Event: "dewar_degraded", Severity: event.High, Reason: "session-unrecorded", Detail: "the app's cookie " + n.app + " is larger than any browser keeps: it was dropped"})
			return "", false
		}
		if err == nil {
			ctx, cancel := waiting(a.x.Request.Context())
			defer cancel()
			ttl := a.l.rest(a.k, n, t, a.now)
			if t.account == "" {
				ttl = min(ttl, 24*time.Hour)
			}
			if err = a.l.env.Store.Put(ctx, valueFolder+t.id.String(), []byte(big), ttl); err == nil {
				short := *t
				short.stored, short.value = true, ""
				v, err = a.l.ring.seal(n.app, &short)
			}
		}
	}
	if err != nil {
		a.l.failed(err)
		a.x.Note(guard.Note{Event: "dewar_degraded", Severity: event.High, Reason: "session-unrecorded", Detail: err.Error()})
		return "", false
	}
	a.l.sealedN.Add(1)
	return v, true
}

// prefixed reports whether a cookie can have the prefix __Host-: it comes over
// https, for every path, for this host alone (RFC 6265bis, 4.1.3.2).
func (a *answering) prefixed(n *sealed, c setCookie) bool {
	path, _ := c.get("path")
	domain, has := c.get("domain")
	return a.https && n.host != "" && path == "/" && (!has || domain == "")
}

// named writes a Set-Cookie under the name that the browser knows, with the
// app's attributes.
func (a *answering) named(n *sealed, h *held, c setCookie, value string) string {
	if !a.prefixed(n, c) {
		c.pair = n.app + "=" + value
		return c.String()
	}
	c.pair = n.host + "=" + value
	if !c.has("secure") {
		c.add("Secure")
	}
	c.remove("domain")
	if h.plain {
		a.more = append(a.more, removal(n.app))
	}
	return c.String()
}

func removal(name string) string {
	return name + "=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/"
}

// kept reports whether a cache between here and the browser may keep the
// answer, or whether it has no place for a cookie.
func kept(r *http.Response) bool {
	return r.StatusCode == http.StatusNotModified || shared(r.Header["Cache-Control"])
}

// shared reports whether a Cache-Control lets shared caches keep an answer.
func shared(lines []string) bool {
	public := false
	for _, line := range lines {
		for part := range strings.SplitSeq(strings.ToLower(line), ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			switch name {
			case "private", "no-store", "no-cache":
				if value == "" {
					return false
				}
			case "public", "immutable":
				public = true
			case "max-age", "s-maxage":
				public = public || strings.Trim(value, `" `) != "0"
			}
		}
	}
	return public
}

// private takes out of a Cache-Control what lets shared caches keep an answer.
func private(lines []string) string {
	out := "private"
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			part = strings.TrimSpace(part)
			name, _, _ := strings.Cut(strings.ToLower(part), "=")
			switch name {
			case "", "public", "s-maxage", "private":
			default:
				out += ", " + part
			}
		}
	}
	return out
}

// watch sees what the app sets where nothing is sealed: logins and logouts for
// the layers behind, and the end of what was sealed before.
func (a *answering) watch(e *exchange, list []string) {
	for i, n := range e.k.names {
		h := &e.held[i]
		if h.what == raw && !h.proven && len(list) > 0 {
			h.t.account, h.t.rights, _ = a.l.content(n, h.t.value)
		}
		account, rights := h.t.account, h.t.rights
		said := false
		for _, header := range list {
			c := parseSetCookie(header)
			if c.name != n.app || ignored(header) {
				continue
			}
			if c.ends(a.now) || c.value() == "" {
				account, rights, said = "", 0, true
				continue
			}
			if got, r, ok := a.l.content(n, c.value()); ok {
				account, rights, said = got, r, true
				a.weak(n, c.value())
			}
		}
		if n.kind == kindSession && a.isTold {
			account, rights = a.l.about(a.told)
			said = true
		}
		if !said {
			continue
		}
		if h.what == opened {
			// From here on the app's own cookie counts.
			a.l.end(a.x, a.k, n, h, endLogout)
		}
		if n.kind != kindSession {
			continue
		}
		t := ticket{account: account, rights: rights}
		switch {
		case account != "" && account != h.t.account:
			a.x.Change, a.x.Identity.Account = guard.LoggedIn, account
			a.l.loginsN.Add(1)
			a.x.Note(guard.Note{Event: "authn_login_success", Detail: "the app's session belongs to an account now", Attributes: map[string]string{"account": account}})
		case account == "" && h.t.account != "":
			a.left(n, h)
		case account != "" && t.rights != h.t.rights:
			a.x.Change = guard.Renewed
		}
	}
}

// weak looks once in a while whether the app's own cookies are signed with a
// published key, where the key itself is not known.
func (a *answering) weak(n *sealed, value string) {
	if n.kind != kindSession || len(a.k.keys) > 0 || a.l.weakSeen.Load() {
		return
	}
	last := a.l.looked.Load()
	if a.now.Unix()-last < 600 || !a.l.looked.CompareAndSwap(last, a.now.Unix()) {
		return
	}
	tok, ok := flasksession.Parse(unquoted(value))
	if !ok {
		return
	}
	for _, key := range flasksession.Published() {
		if tok.SignedWith(key, flasksession.Salt) {
			a.l.weakSeen.Store(true)
			a.x.Note(guard.Note{Event: "malicious_session", Severity: event.Critical, Reason: "session-weak-key", Detail: "the app signs its sessions with a published key: anybody can write one"})
			return
		}
	}
}
