package session

import (
	"time"

	"github.com/dewar-security/dewar/internal/guard"
)

// streamOf is what has to be known of the session of an answer that goes on.
type streamOf struct {
	t          ticket
	account    string // as in the store's keys; empty: nobody's
	nobodys    bool   // it is nobody's, then and later
	attributes map[string]string
	end        *time.Timer // when its time will be over; nil: never
}

// Stream implements [guard.Streamer]: what goes on for as long as somebody
// looks at it ends with the session. A request without a session, or one whose
// session this very answer has ended, is nobody's.
func (l *seal) Stream(x *guard.Exchange, s *guard.Stream) func() {
	e, _ := x.Value(sessionSpec).(*exchange)
	if e == nil || !e.k.active {
		return nil
	}
	// The session counts; the token that would make one where there is none.
	at := -1
	for i, n := range e.k.names {
		if e.held[i].given && (n.kind == kindSession || n.kind == kindRemember && at < 0) {
			at = i
		}
		if at >= 0 && e.k.names[at].kind == kindSession {
			break
		}
	}
	if at < 0 {
		return nil
	}
	n := e.k.names[at]
	o := &streamOf{t: e.held[at].t, attributes: l.attributes(n, e.held[at].t)}
	o.nobodys = o.t.account == "" && l.selfContained(n, &o.t)
	o.t.value = "" // it may be long
	if o.t.account != "" {
		o.account = accountKey(o.t.account)
	}
	now := l.now()
	if n.kind == kindSession && o.t.account != "" && l.cfg.Lifetime > 0 {
		left := time.Unix(o.t.login, 0).Add(time.Duration(l.cfg.Lifetime)).Sub(now)
		o.end = time.AfterFunc(max(left, 0), func() { s.End(o.note("its login is older than " + l.cfg.Lifetime.String())) })
	}
	remove := l.streams.Add(o.t.id.String(), s, o)
	// What ends from now on finds it; what ended before is known here.
	if how, at := l.endedAt(&o.t, now); how != notEnded {
		l.endStream(s, o, how, now.Sub(at))
	}
	return func() {
		remove()
		if o.end != nil {
			o.end.Stop()
		}
	}
}

// cut ends the streams of what has ended: name and value are those of the
// mark. It is called for every change of the marks, this node's and others'.
func (l *seal) cut(name string, value []byte) {
	how, at := parseEnded(value)
	if how == notEnded || name == "" {
		return
	}
	since := l.now().Sub(at)
	switch name[0] {
	case '*':
		l.streams.All(func(s *guard.Stream, o *streamOf) {
			if o.t.born <= at.Unix() {
				l.endStream(s, o, how, since)
			}
		})
	case '@':
		l.streams.All(func(s *guard.Stream, o *streamOf) {
			if o.account != "" && o.account == name[1:] && o.t.login <= at.Unix() {
				l.endStream(s, o, how, since)
			}
		})
	default:
		l.streams.Visit(name, func(s *guard.Stream, o *streamOf) { l.endStream(s, o, how, since) })
	}
}

// endStream ends a stream of a session that ended a while ago. What is good for
// requests on their way is good for it: a session that was replaced may be read
// for the grace, and so long a page that is still being made may take.
func (l *seal) endStream(s *guard.Stream, o *streamOf, how ending, since time.Duration) {
	if how == endReplaced && o.nobodys {
		return // somebody has logged in; what nobody may see goes on
	}
	n := o.note("its session was ended " + how.String())
	if left := time.Duration(l.cfg.Grace) - since; left > 0 && (how == endReplaced || !s.Live) {
		time.AfterFunc(left, func() { s.End(n) })
		return
	}
	s.End(n)
}

func (o *streamOf) note(detail string) guard.Note {
	return guard.Note{Event: "session_expired", Reason: "session-stream-ended", Detail: detail, Attributes: o.attributes}
}
