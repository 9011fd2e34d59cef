package session

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
)

// streaming is the app, whose paths below /stream go on until somebody ends
// them, and whose other answers say how long they are.
type streaming struct {
	app  *app
	kind string
	// began gets one for each stream that goes on; over ends them all.
	began chan string
	over  chan bool
}

func (f *streaming) Forward(w http.ResponseWriter, x *guard.Exchange, modify func(*http.Response) error) error {
	rec := httptest.NewRecorder()
	f.app.ServeHTTP(rec, x.Request)
	res := rec.Result()
	res.ContentLength = int64(rec.Body.Len())
	goesOn := x.Request.URL.Query().Get("stream") != ""
	if goesOn {
		res.ContentLength = -1
		res.Header.Set("Content-Type", f.kind)
	}
	if err := modify(res); err != nil {
		return err
	}
	for name, v := range res.Header {
		w.Header()[name] = v
	}
	w.WriteHeader(res.StatusCode)
	_, _ = w.Write(rec.Body.Bytes())
	if goesOn {
		f.began <- x.Path
		select {
		case <-x.Context().Done():
			return context.Cause(x.Context())
		case <-f.over:
		}
	}
	return nil
}

// streams puts the app that streams in the place of the site's.
func (s *site) streams(kind string) *streaming {
	s.t.Helper()
	f := &streaming{app: s.app, kind: kind, began: make(chan string, 100), over: make(chan bool)}
	var err error
	s.chain, err = guard.NewChain(guard.Options{
		Layers: []guard.Bound{{Spec: sessionSpec, Layer: s.layer}}, Forward: f, Now: s.clock.now, Publish: s.publish,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

// open asks for something that goes on, and returns once it does. cut gets how
// it ended.
func (b *browser) open(f *streaming, path string) (cut chan bool) {
	b.s.t.Helper()
	cut = make(chan bool, 1)
	cookie := b.cookie()
	go func() {
		defer func() { cut <- recover() == http.ErrAbortHandler }()
		b.ask(path, cookie)
	}()
	select {
	case <-f.began:
	case <-time.After(2 * time.Minute):
		b.s.t.Fatal("the stream does not begin")
	}
	return cut
}

const events = "text/event-stream"

// TestStreamEndsWithItsSession: an event stream ends when its session does,
// on this node and on another, and nobody else's does (CWE-613).
func TestStreamEndsWithItsSession(t *testing.T) {
	cfg := config()
	cfg.Keys = "env:NODES"
	for _, tt := range []struct {
		name string
		end  func(here, there *site, ann *browser)
		all  bool
	}{
		{"logout in another tab", func(_, _ *site, ann *browser) { ann.get("/logout") }, false},
		{"logout on the other node", func(_, there *site, ann *browser) {
			ann.s = there
			ann.get("/logout")
		}, false},
		{"the cookie is deleted", func(_, _ *site, ann *browser) { ann.get("/clear") }, false},
		{"another user logs in", func(_, _ *site, ann *browser) { ann.get("/login?u=eve") }, false},
		{"session end", func(here, _ *site, _ *browser) { here.operate("session end", map[string]string{"account": "ann"}) }, false},
		{"session end on the other node", func(_, there *site, _ *browser) {
			there.operate("session end", map[string]string{"account": "ann"})
		}, false},
		{"session end-all", func(here, _ *site, _ *browser) { here.operate("session end-all", nil) }, true},
		{"session rotate-keys", func(here, _ *site, _ *browser) { here.operate("session rotate-keys", nil) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := cfg
			if tt.name == "session rotate-keys" {
				cfg.Keys = "" // those of a setting are not made anew
			}
			here, there := newSite(t, cfg), newSite(t, cfg)
			there.store, there.clock, there.app = here.store, here.clock, here.app
			there.start(cfg, guard.Enforce)
			f := here.streams(events)
			there.streams(events)
			ann, bob, nobody := here.browser(), here.browser(), here.browser()
			ann.get("/login?u=ann")
			bob.get("/login?u=bob")
			nobody.get("/set?k=cart&v=1")
			anns, bobs, nobodys := ann.open(f, "/a?stream=1"), bob.open(f, "/b?stream=1"), nobody.open(f, "/n?stream=1")
			free := here.browser().open(f, "/free?stream=1")
			here.took()
			here.clock.pass(time.Minute)
			tt.end(here, there, ann)
			if !<-anns {
				t.Error("ann's stream ended as if it were whole")
			}
			if tt.all {
				<-bobs
				<-nobodys
			} else if len(bobs)+len(nobodys) > 0 {
				t.Error("somebody else's stream ended")
			}
			if len(free) > 0 {
				t.Error("a stream without a session ended")
			}
			close(f.over)
			if !tt.all {
				if <-bobs || <-nobodys {
					t.Error("somebody else's stream was cut")
				}
			}
			if <-free {
				t.Error("a stream without a session was cut")
			}
			if n := here.layer.streams.Len(); n != 0 {
				t.Errorf("%d streams are kept", n)
			}
			seen := false
			for _, e := range here.took() {
				seen = seen || e == "session_expired session-stream-ended"
			}
			if !seen {
				t.Error("the log does not say why")
			}
		})
	}
}

// TestStreamGoesOn: what a logout must not cut: its own answer, pages that are
// still being made, and what a visitor saw before the login.
func TestStreamGoesOn(t *testing.T) {
	cfg := config()
	cfg.Grace = guard.Duration(time.Minute) // of real time, on a slow machine
	s := newSite(t, cfg)
	f := s.streams(events)
	ann := s.browser()
	before := s.browser()
	before.get("/set?k=cart&v=1")
	nobodys := before.open(f, "/n?stream=1")
	before.get("/login?u=ann") // the session is replaced
	ann.get("/login?u=ann")
	page := s.streams("text/html")
	pages := ann.open(page, "/page?stream=1")
	cookie := ann.cookie()
	// The answer to the logout goes on itself.
	logout := ann.open(page, "/logout?stream=1")
	if len(pages)+len(logout)+len(nobodys) > 0 {
		t.Error("something was cut")
	}
	s.clock.pass(2 * time.Minute)
	late := ann.open(page, "/me?stream=1")
	close(page.over)
	close(f.over)
	for name, cut := range map[string]chan bool{"a page on its way": pages, "the logout": logout, "nobody's": nobodys, "after the logout": late} {
		if <-cut {
			t.Errorf("%s was cut", name)
		}
	}
	if ann.ask("/me", cookie).Body.String() != "<nil>" {
		t.Error("there was no logout: the test cannot fail")
	}
	if n := s.layer.streams.Len(); n != 0 {
		t.Errorf("%d streams are kept", n)
	}
}

// TestStreamLifetime: the longest time of a login is that of its streams, too.
func TestStreamLifetime(t *testing.T) {
	s := newSite(t, config())
	f := s.streams(events)
	ann := s.browser()
	ann.get("/login?u=ann")
	s.clock.pass(29 * 24 * time.Hour)
	ann.get("/me") // made anew
	s.clock.pass(24*time.Hour - 1)
	if !<-ann.open(f, "/a?stream=1") {
		t.Error("it was not cut")
	}
}

// TestStreamOutlivesReload: the layer that was replaced by a reload still
// hears of what ended, for as long as a stream is in it.
func TestStreamOutlivesReload(t *testing.T) {
	s := newSite(t, config())
	f := s.streams(events)
	ann := s.browser()
	ann.get("/login?u=ann")
	anns := ann.open(f, "/a?stream=1")
	old := s.layer
	s.start(config(), guard.Enforce)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	s.clock.pass(time.Minute)
	s.operate("session end", map[string]string{"account": "ann"})
	if !<-anns {
		t.Error("it ended as if it were whole")
	}
	if n := old.streams.Len(); n != 0 {
		t.Errorf("%d streams are kept", n)
	}
}

// TestStreamRace: of streams that begin while their session ends none goes on,
// and none is kept.
func TestStreamRace(t *testing.T) {
	s := newSite(t, config())
	f := s.streams(events)
	for range 20 {
		ann := s.browser()
		ann.get("/login?u=ann")
		cookie := ann.cookie()
		s.clock.pass(time.Minute)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				defer func() { _ = recover() }()
				ann.ask("/a?stream=1", cookie)
			})
		}
		all.Go(func() { s.operate("session end", map[string]string{"account": "ann"}) })
		for range 4 {
			<-f.began
		}
		for anns := 1; anns > 0; time.Sleep(time.Millisecond) {
			anns = 0
			s.layer.streams.All(func(_ *guard.Stream, o *streamOf) {
				if o.account != "" {
					anns++
				}
			})
		}
		// Who came after the end is nobody, whose stream goes on.
		ended := make(chan bool)
		go func() { all.Wait(); close(ended) }()
		for done := false; !done; {
			select {
			case <-ended:
				done = true
			case f.over <- true:
			}
		}
	}
	if n := s.layer.streams.Len(); n != 0 {
		t.Errorf("%d streams are kept", n)
	}
}
