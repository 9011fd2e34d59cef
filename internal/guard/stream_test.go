package guard

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// streamer is a layer that keeps every stream under the path it is of.
type streamer struct {
	streams Streams[bool]
	began   chan *Stream
	panics  bool
}

func (*streamer) Request(*Exchange) Decision { return Pass() }

func (l *streamer) Stream(x *Exchange, s *Stream) func() {
	if l.panics {
		panic("a mistake")
	}
	remove := l.streams.Add(x.Path, s, s.Live)
	l.began <- s
	return remove
}

func (l *streamer) bound(mode Mode) Bound {
	return Bound{Spec: &Spec{Name: "s", Control: "session", Reasons: []Reason{{Name: "over"}}}, Layer: l, Mode: mode}
}

// endless is an app with an event stream, a page of unknown length, both of
// which end when their request does, and a page of known length.
func endless(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/events":
		w.Header().Set("Content-Type", "Text/Event-Stream; charset=utf-8")
	case "/short":
		w.Header().Set("Content-Length", "2")
		io.WriteString(w, "ok")
		return
	}
	io.WriteString(w, "data: 0\n\n")
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// TestStreamEnds: a layer ends an event stream that has begun, the app's
// server is told, the event is the layer's, and other streams go on.
func TestStreamEnds(t *testing.T) {
	bothProtocols(t, func(t *testing.T, h2 bool) {
		var log journal
		l := &streamer{began: make(chan *Stream, 8)}
		told := make(chan string, 8)
		s, client := serve(t, h2, Options{Layers: []Bound{l.bound(Enforce)}, Publish: log.publish}, func(w http.ResponseWriter, r *http.Request) {
			endless(w, r)
			told <- r.URL.Path
		})
		read := func(path string) (*http.Response, *bufio.Reader) {
			res, err := client.Get(s.URL + path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { res.Body.Close() })
			br := bufio.NewReader(res.Body)
			if line, err := br.ReadString('\n'); line != "data: 0\n" {
				t.Fatalf("%q %v", line, err)
			}
			return res, br
		}
		_, events := read("/events")
		if !(<-l.began).Live {
			t.Error("an event stream is not taken for one")
		}
		other, _ := read("/page")
		if (<-l.began).Live {
			t.Error("a page of unknown length is taken for an event stream")
		}
		if l.streams.Len() != 2 {
			t.Errorf("%d streams", l.streams.Len())
		}
		l.streams.Visit("/events", func(s *Stream, live bool) {
			s.End(Note{Event: "session_expired", Reason: "over", Detail: "once"})
			s.End(Note{Event: "session_expired", Reason: "over", Detail: "twice"})
		})
		if _, err := io.ReadAll(events); err == nil {
			t.Error("the cut stream looks whole")
		}
		if got := <-told; got != "/events" {
			t.Errorf("the app was told of %s", got)
		}
		e := log.wait(t, 1)
		if len(e) != 1 || e[0].Reason != "over" || e[0].Layer != "s" || e[0].Detail != "once" || e[0].Verdict != "note" || e[0].Status != 200 {
			t.Errorf("%+v", e)
		}
		select {
		case got := <-told:
			t.Errorf("%s ended, too", got)
		default:
		}
		empty := make(chan bool, 1)
		l.streams.WhenEmpty(func() { empty <- true })
		if len(empty) != 0 {
			t.Error("it is said that nothing goes on")
		}
		other.Body.Close()
		<-empty
		if l.streams.Len() != 0 {
			t.Errorf("%d streams are left", l.streams.Len())
		}
		res, err := client.Get(s.URL + "/short")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if len(l.began) != 0 {
			t.Error("an answer of known length is taken for a stream")
		}
	})
}

// TestStreamObserved: a layer that only observes ends nothing and says what it
// would have ended.
func TestStreamObserved(t *testing.T) {
	var log journal
	l := &streamer{began: make(chan *Stream, 1)}
	more := make(chan bool)
	s, client := serve(t, false, Options{Layers: []Bound{l.bound(Observe)}, Publish: log.publish}, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-more
		io.WriteString(w, "all of it")
	})
	res, err := client.Get(s.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	(<-l.began).End(Note{Event: "session_expired", Reason: "over", Detail: "its time"})
	close(more)
	if b, err := io.ReadAll(res.Body); string(b) != "all of it" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	if e := log.wait(t, 1)[0]; e.Reason != "over" || e.Detail != "would have been cut: its time" {
		t.Errorf("%+v", e)
	}
}

// TestStreamLayerFails: what a layer that fails cannot end does not begin,
// unless it fails open.
func TestStreamLayerFails(t *testing.T) {
	for _, failure := range []FailureMode{FailClosed, FailOpen} {
		b := (&streamer{panics: true}).bound(Enforce)
		b.Spec.Failure = failure
		w := ask(newChain(t, Options{Layers: []Bound{b}, Forward: unknown{}}), "GET", "/")
		if want := map[FailureMode]int{FailClosed: 503, FailOpen: 200}[failure]; w.Code != want {
			t.Errorf("%v: %d", failure, w.Code)
		}
	}
}

// unknown answers with a body of unknown length.
type unknown struct{}

func (unknown) Forward(w http.ResponseWriter, x *Exchange, modify func(*http.Response) error) error {
	rec := httptest.NewRecorder()
	rec.WriteString("ok")
	res := rec.Result()
	if err := modify(res); err != nil {
		return err
	}
	w.WriteHeader(res.StatusCode)
	_, err := io.Copy(w, res.Body)
	return err
}

// TestStreamsRace: streams that come and go while all are ended, again and
// again, leave nothing behind.
func TestStreamsRace(t *testing.T) {
	l := &streamer{began: make(chan *Stream, 4000)}
	c := newChain(t, Options{Layers: []Bound{l.bound(Enforce)}, Forward: unknown{}})
	stop := make(chan bool)
	var ending, asking sync.WaitGroup
	ending.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				l.streams.All(func(s *Stream, _ bool) { s.End(Note{Event: "session_expired", Reason: "over"}) })
				l.streams.Visit("/3", func(s *Stream, _ bool) { s.End(Note{}) })
			}
		}
	})
	for n := range 8 {
		asking.Go(func() {
			for range 200 {
				ask(c, "GET", fmt.Sprintf("/%d", n%4))
			}
		})
	}
	asking.Wait()
	close(stop)
	ending.Wait()
	if l.streams.Len() != 0 || len(l.began) != 1600 {
		t.Errorf("%d left of %d", l.streams.Len(), len(l.began))
	}
	done := false
	if l.streams.WhenEmpty(func() { done = true }); !done {
		t.Error("it is not said that nothing goes on")
	}
}

// TestGoesOn: which answers go on.
func TestGoesOn(t *testing.T) {
	for _, tt := range []struct {
		status   int
		length   int64
		body     io.ReadCloser
		kind     string
		on, live bool
	}{
		{101, 0, nil, "", true, true},
		{103, -1, io.NopCloser(nil), "", false, false},
		{200, 5, io.NopCloser(nil), "text/event-stream", false, false},
		{200, -1, io.NopCloser(nil), "text/event-stream;charset=utf-8", true, true},
		{200, -1, io.NopCloser(nil), "multipart/x-mixed-replace; boundary=x", true, true},
		{200, -1, io.NopCloser(nil), "text/event-streams", true, false},
		{200, -1, io.NopCloser(nil), "", true, false},
		{200, -1, http.NoBody, "text/event-stream", false, false},
		{304, -1, nil, "text/event-stream", false, false},
	} {
		res := &http.Response{StatusCode: tt.status, ContentLength: tt.length, Body: tt.body, Header: http.Header{"Content-Type": {tt.kind}}}
		if on, live := goesOn(res); on != tt.on || live != tt.live {
			t.Errorf("%+v: %v %v", tt, on, live)
		}
	}
}
