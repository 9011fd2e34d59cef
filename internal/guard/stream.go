package guard

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// A Streamer is a Layer that may have to end an answer which has begun: what
// it allowed when the request came is not allowed any more, and the answer
// still goes on.
type Streamer interface {
	Layer
	// Stream is called when an answer that goes on has passed the responders.
	// From then on the layer may call s.End, from any goroutine. The function
	// that it returns is called when the answer has ended, whatever ended it;
	// nil: the layer has nothing to do with this one.
	Stream(x *Exchange, s *Stream) (over func())
}

// Stream is an answer that goes on, as one layer sees it.
type Stream struct {
	// Live says that it is made to go on: a WebSocket, server-sent events.
	// Otherwise it is a page or a download whose length the app did not say.
	Live bool

	layer *bound
	mode  Mode
	end   context.CancelCauseFunc
	over  func()
	note  atomic.Pointer[Note]
}

// errStreamEnded is why the context of an exchange ended that a layer ended.
var errStreamEnded = errors.New("a layer has ended the stream")

// End ends the exchange: the connections to the client and to the app are cut.
// The first note is the event, written when the exchange is over. Where the
// layer only observes, the stream goes on. It returns at once.
func (s *Stream) End(n Note) {
	if s.note.CompareAndSwap(nil, &n) && s.mode == Enforce {
		s.end(errStreamEnded)
	}
}

// streaming is what an exchange has whose answer goes on and is watched.
type streaming struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	streams []*Stream
}

// Context ends when nobody waits for the answer any more: with that of the
// request, or when a layer ends a stream. It has its last value once the
// answer has passed the responders.
func (x *Exchange) Context() context.Context {
	if x.streaming != nil {
		return x.streaming.ctx
	}
	return x.Request.Context()
}

// cut reports whether a layer has ended the stream.
func (x *Exchange) cut() bool {
	return x.streaming != nil && context.Cause(x.streaming.ctx) == errStreamEnded
}

// goesOn reports whether an answer may go on for long, and whether it is made
// to. Most answers say how long they are.
func goesOn(res *http.Response) (on, live bool) {
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		return true, true
	case res.StatusCode < 200 || res.Body == nil || res.Body == http.NoBody || res.ContentLength >= 0:
		return false, false
	}
	kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	kind = strings.TrimSpace(kind)
	return true, strings.EqualFold(kind, "text/event-stream") || strings.EqualFold(kind, "multipart/x-mixed-replace")
}

// stream tells the layers that can end it of an answer that goes on.
func (c *Chain) stream(x *Exchange, live bool) Decision {
	for i := range c.layers {
		l := &c.layers[i]
		if l.streamer == nil {
			continue
		}
		mode := l.mode(x)
		if mode == Off {
			continue
		}
		if x.streaming == nil {
			x.streaming = &streaming{}
			x.streaming.ctx, x.streaming.cancel = context.WithCancelCause(x.Request.Context())
		}
		s := &Stream{Live: live, layer: l, mode: mode, end: x.streaming.cancel}
		x.streaming.streams = append(x.streaming.streams, s)
		if d := c.settle(l, x, c.streamOf(l, x, s), mode); d.Verdict == Deny {
			return d
		}
	}
	return Pass()
}

func (c *Chain) streamOf(l *bound, x *Exchange, s *Stream) (d Decision) {
	defer func() {
		if v := recover(); v != nil {
			d = c.broken(l, x, v)
		}
	}()
	s.over = l.streamer.Stream(x, s)
	return Pass()
}

// streamOver tells the layers that the answer has ended, and takes over what
// they said of it.
func (c *Chain) streamOver(x *Exchange) {
	for _, s := range x.streaming.streams {
		if s.over != nil {
			s.over()
		}
		if n := s.note.Load(); n != nil {
			if s.mode == Observe {
				n.Detail = strings.TrimSuffix("would have been cut: "+n.Detail, ": ")
			}
			x.Note(*n)
			c.noted(s.layer, x, s.mode)
		}
	}
	x.streaming.cancel(nil)
}

// Streams are the streams that a layer may have to end, each under a key of
// the layer's, with what it has to know of it. The zero value holds none.
type Streams[T any] struct {
	mu    sync.Mutex
	byKey map[string]map[*Stream]T
	empty func()
}

// Add keeps a stream until remove is called.
func (s *Streams[T]) Add(key string, st *Stream, about T) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey == nil {
		s.byKey = map[string]map[*Stream]T{}
	}
	if s.byKey[key] == nil {
		s.byKey[key] = map[*Stream]T{}
	}
	s.byKey[key][st] = about
	return func() {
		s.mu.Lock()
		delete(s.byKey[key], st)
		if len(s.byKey[key]) == 0 {
			delete(s.byKey, key)
		}
		s.tellEmpty()
	}
}

// tellEmpty is called with the lock held, and gives it back.
func (s *Streams[T]) tellEmpty() {
	f := s.empty
	if len(s.byKey) > 0 {
		f = nil
	} else {
		s.empty = nil
	}
	s.mu.Unlock()
	if f != nil {
		f()
	}
}

// Visit calls visit for the streams of a key. visit must not add or remove.
func (s *Streams[T]) Visit(key string, visit func(*Stream, T)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st, about := range s.byKey[key] {
		visit(st, about)
	}
}

// All calls visit for every stream. visit must not add or remove.
func (s *Streams[T]) All(visit func(*Stream, T)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.byKey {
		for st, about := range of {
			visit(st, about)
		}
	}
}

// Len returns how many keys have streams.
func (s *Streams[T]) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byKey)
}

// WhenEmpty calls f once there are no streams: at once, or when the last has
// been removed. It is for the Close of a layer that was replaced: a WebSocket
// may be in it for days.
func (s *Streams[T]) WhenEmpty(f func()) {
	s.mu.Lock()
	s.empty = f
	s.tellEmpty()
}
