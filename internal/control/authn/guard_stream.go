package authn

import (
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// streamKey is under what an exchange keeps the session it came with.
type streamKey struct{}

// Stream implements [guard.Streamer]: what goes on for as long as somebody
// looks at it ends with the login. That a session was not used for a while
// does not end it: an open stream is no sign of a user who has gone.
func (l *layer) Stream(x *guard.Exchange, s *guard.Stream) func() {
	c, _ := x.Value(streamKey{}).(*cached)
	if c == nil {
		return nil
	}
	attributes := map[string]string{"session": c.s.Handle}
	end := func(detail string) {
		s.End(guard.Note{Event: logoutEvent, Reason: "authn-stream-ended", Detail: detail, Attributes: attributes})
	}
	left := time.Unix(c.s.Ends, 0).Sub(l.now())
	over := time.AfterFunc(max(left, 0), func() { end("its absolute time is over") })
	remove := l.streams.Add(c.key, s, func(detail string) {
		if s.Live {
			end(detail)
			return
		}
		time.AfterFunc(pageTime, func() { end(detail) })
	})
	// What becomes known from now on finds it; what was known before does not.
	if l.ended.Has(endedFolder + c.key) {
		end(endedDetail)
	}
	return func() {
		remove()
		over.Stop()
	}
}

// pageTime is what a page may take that was on its way when its session ended.
const pageTime = 10 * time.Second

const endedDetail = "its session was ended"

// cut ends the streams of a session that was ended, here or on another node.
func (l *layer) cut(e store.Entry) {
	if e.TTL <= 0 {
		return // it was forgotten
	}
	l.streams.Visit(strings.TrimPrefix(e.Key, endedFolder), func(_ *guard.Stream, end func(string)) { end(endedDetail) })
}
