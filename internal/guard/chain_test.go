package guard

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/evidence"
)

// layerFunc is a layer made of functions; either may be nil.
type layerFunc struct {
	request  func(*Exchange) Decision
	response func(*Exchange, *http.Response) Decision
}

func (l layerFunc) Request(x *Exchange) Decision {
	if l.request == nil {
		return Pass()
	}
	return l.request(x)
}

func (l layerFunc) Response(x *Exchange, r *http.Response) Decision {
	if l.response == nil {
		return Pass()
	}
	return l.response(x, r)
}

func onRequest(name string, mode Mode, f func(*Exchange) Decision) Bound {
	return Bound{Spec: &Spec{Name: name, Control: "headers", Event: "input_validation_fail"}, Layer: layerFunc{request: f}, Mode: mode}
}

func onResponse(name string, mode Mode, f func(*Exchange, *http.Response) Decision) Bound {
	return Bound{Spec: &Spec{Name: name, Control: "settings", Event: "sys_crash"}, Layer: layerFunc{response: f}, Mode: mode}
}

// proxy forwards as the gateway does, without its care for gunicorn.
type proxy struct{ target *url.URL }

func (p proxy) Forward(w http.ResponseWriter, x *Exchange, modify func(*http.Response) error) error {
	var failed error
	ctx, cancel := context.WithCancel(x.Request.Context())
	defer cancel()
	rp := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(p.target); r.Out.Host = r.In.Host },
		FlushInterval: -1,
		ModifyResponse: func(res *http.Response) error {
			err := modify(res)
			context.AfterFunc(x.Context(), cancel)
			return err
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
		ErrorLog:     log.New(io.Discard, "", 0),
	}
	rp.ServeHTTP(w, x.Request.WithContext(ctx))
	if failed != nil && x.Request.Context().Err() != nil {
		return fmt.Errorf("%w: %w", ErrClientGone, failed)
	}
	return failed
}

// forwardFunc answers without a network.
type forwardFunc func(http.ResponseWriter, *Exchange, func(*http.Response) error) error

func (f forwardFunc) Forward(w http.ResponseWriter, x *Exchange, m func(*http.Response) error) error {
	return f(w, x, m)
}

// app serves a handler as a forwarder does, without a network.
func app(h http.HandlerFunc) forwardFunc {
	return func(w http.ResponseWriter, x *Exchange, modify func(*http.Response) error) error {
		rec := httptest.NewRecorder()
		h(rec, x.Request)
		res := rec.Result()
		if err := modify(res); err != nil {
			return err
		}
		for k, v := range res.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(res.StatusCode)
		_, err := io.Copy(w, res.Body)
		return err
	}
}

func hello(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }

// journal keeps events.
type journal struct {
	mu     sync.Mutex
	events []event.Event
}

func (j *journal) publish(e event.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

// wait returns the events once there are n: net/http runs the chain's end
// after the client has its answer.
func (j *journal) wait(t *testing.T, n int) []event.Event {
	t.Helper()
	for range 6000 {
		j.mu.Lock()
		got := slices.Clone(j.events)
		j.mu.Unlock()
		if len(got) >= n {
			return got
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%d events, want %d: %+v", len(j.events), n, j.events)
	return nil
}

func newChain(t testing.TB, o Options) *Chain {
	t.Helper()
	if o.Forward == nil {
		o.Forward = app(hello)
	}
	c, err := NewChain(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ask(c *Chain, method, target string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w
}

func deny(*Exchange) Decision { return Refuse(403, "no", "because") }

// TestModes: what each mode makes of a refusal, in a request and an answer.
func TestModes(t *testing.T) {
	for _, c := range []struct {
		mode    Mode
		route   string // mode of the override for /r, "" for none
		status  int
		verdict string
	}{
		{Enforce, "", 403, "deny"}, {Observe, "", 200, "observe"}, {Off, "", 200, ""},
		{Enforce, "off", 200, ""}, {Enforce, "observe", 200, "observe"}, {Off, "enforce", 403, "deny"}, {Observe, "enforce", 403, "deny"},
	} {
		for _, face := range []string{"request", "response"} {
			for _, path := range []string{"with", "without"} { // a layer that makes the path final
				var log journal
				var layers []Bound
				if path == "with" {
					layers = append(layers, onRequest("request", Enforce, nil))
				}
				if face == "request" {
					layers = append(layers, onRequest("l", c.mode, deny))
				} else {
					layers = append(layers, onResponse("l", c.mode, func(*Exchange, *http.Response) Decision { return Refuse(403, "no", "because") }))
				}
				o := Options{Layers: layers, Publish: log.publish}
				if c.route != "" {
					var m Mode
					if err := m.UnmarshalText([]byte(c.route)); err != nil {
						t.Fatal(err)
					}
					o.Overrides = []Override{{Path: "/r", Reason: "test", Modes: map[string]Mode{"l": m}}}
				}
				w := ask(newChain(t, o), "GET", "/r")
				name := fmt.Sprintf("%v route %q %s %s request layer", c.mode, c.route, face, path)
				if w.Code != c.status {
					t.Errorf("%s: status %d", name, w.Code)
				}
				got := ""
				for _, e := range log.events {
					got += e.Verdict
					if e.Reason != "no" || e.Detail != "because" || e.Status != c.status || e.Control == "" || e.Layer != "l" || e.Severity != event.Warn {
						t.Errorf("%s: %+v", name, e)
					}
				}
				if got != c.verdict {
					t.Errorf("%s: verdict %q", name, got)
				}
			}
		}
	}
}

// TestRequestLayerModes: overrides are found although the layer that makes the
// path final is off, and apply to that layer itself.
func TestRequestLayerModes(t *testing.T) {
	for _, c := range []struct {
		mode, route Mode
		status      int
	}{{Enforce, Enforce, 403}, {Enforce, Observe, 200}, {Enforce, Off, 200}, {Off, Off, 200}, {Off, Enforce, 403}, {Observe, Enforce, 403}} {
		var found *Override
		chain := newChain(t, Options{
			Layers:    []Bound{onRequest("request", c.mode, deny), onRequest("after", Enforce, func(x *Exchange) Decision { found = x.Override; return Pass() })},
			Overrides: []Override{{Path: "/r/*", Reason: "test", Modes: map[string]Mode{"request": c.route}}},
		})
		if w := ask(chain, "GET", "/r/1"); w.Code != c.status {
			t.Errorf("%v, route %v: status %d", c.mode, c.route, w.Code)
		}
		if c.status == 200 && found == nil {
			t.Errorf("%v, route %v: override not found", c.mode, c.route)
		}
	}
}

// TestFinalPath: overrides match the path that the request layer left.
func TestFinalPath(t *testing.T) {
	var got *Override
	c := newChain(t, Options{
		Layers: []Bound{
			onRequest("request", Enforce, func(x *Exchange) Decision { x.Path = "/final"; return Pass() }),
			onRequest("l", Enforce, func(x *Exchange) Decision { got = x.Override; return Pass() }),
		},
		Overrides: []Override{{Path: "/asked", Reason: "a"}, {Path: "/final", Reason: "b"}},
	})
	ask(c, "GET", "/asked")
	if got == nil || got.Reason != "b" {
		t.Errorf("%+v", got)
	}
}

func TestOverrideMatch(t *testing.T) {
	c := newChain(t, Options{Overrides: []Override{
		{Path: "/a/*", Methods: []string{"post", "GET"}, Reason: "1"}, {Path: "/a/b", Reason: "2"}, {Path: "/hooks/**", Reason: "3"}, {Path: "/**", Methods: []string{"DELETE"}, Reason: "4"},
	}})
	for in, want := range map[string]string{
		"GET /a/b": "1", "HEAD /a/b": "1", "POST /a/x": "1", "PUT /a/b": "2", "PUT /a/x": "", "get /a/x": "",
		"GET /hooks": "3", "GET /hooks/x/y": "3", "GET /hooksx": "", "DELETE /hooks": "3", "DELETE /z": "4", "GET /A/b": "",
	} {
		method, path, _ := strings.Cut(in, " ")
		o := c.match(&Exchange{Request: &http.Request{Method: method}, Path: path})
		got := ""
		if o != nil {
			got = o.Reason
		}
		if got != want {
			t.Errorf("%s: override %q, want %q", in, got, want)
		}
	}
}

type pickyLayer struct{ layerFunc }

func (pickyLayer) CheckOverride(o *Override) error {
	if len(o.WAF.Exclude) > 0 {
		return errors.New("waf.exclude: no rule 1")
	}
	return nil
}

func TestNewChainRefuses(t *testing.T) {
	ok := app(hello)
	layers := []Bound{onRequest("csrf", Enforce, nil), onRequest("client", Enforce, nil), {Spec: &Spec{Name: "waf"}, Layer: pickyLayer{}}}
	for want, o := range map[string]Options{
		"no forwarder":                {},
		"layer 0 is not complete":     {Forward: ok, Layers: []Bound{{}}},
		`two layers are called "a"`:   {Forward: ok, Layers: []Bound{onRequest("a", Enforce, nil), onRequest("a", Enforce, nil)}},
		"start it with /":             {Forward: ok, Overrides: []Override{{Path: "x", Reason: "r"}}},
		"say why this route":          {Forward: ok, Overrides: []Override{{Path: "/x", Reason: " "}}},
		`there is no layer "cfrs"`:    {Forward: ok, Layers: layers, Overrides: []Override{{Path: "/x", Reason: "r", Modes: map[string]Mode{"cfrs": Off}}}},
		"works on every route":        {Forward: ok, Layers: layers, Overrides: []Override{{Path: "/x", Reason: "r", Modes: map[string]Mode{"client": Off}}}},
		`"GET,POST" is no method`:     {Forward: ok, Overrides: []Override{{Path: "/x", Reason: "r", Methods: []string{"get,post"}}}},
		`route "/x": waf.exclude: no`: {Forward: ok, Layers: layers, Overrides: []Override{{Path: "/x", Reason: "r", WAF: WAFOverride{Exclude: []int{1}}}}},
	} {
		if _, err := NewChain(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// TestStatuses: whatever a layer fills in, the answer is well-formed HTTP.
func TestStatuses(t *testing.T) {
	for _, c := range []struct {
		d      Decision
		method string
		status int
		length string
	}{
		{Decision{Verdict: Answer}, "GET", 204, ""},
		{Decision{Verdict: Answer, Status: 100}, "GET", 204, ""},
		{Decision{Verdict: Answer, Status: 200, Body: []byte("{}")}, "GET", 200, "2"},
		{Decision{Verdict: Answer, Status: 304}, "GET", 304, ""},
		{Decision{Verdict: Answer, Status: 308, Header: http.Header{"Location": {"https://x/"}}}, "GET", 308, "0"},
		{Decision{Verdict: Deny}, "GET", 403, "-"},
		{Decision{Verdict: Deny, Status: 200}, "GET", 403, "-"},
		{Decision{Verdict: Deny, Status: 204}, "GET", 403, "-"},
		{Decision{Verdict: Deny, Status: 101}, "GET", 403, "-"},
		{Decision{Verdict: Deny, Status: 9999}, "GET", 403, "-"},
		{Decision{Verdict: Deny, Status: 429, Header: http.Header{"Retry-After": {"7"}}}, "HEAD", 429, "-"},
		{Decision{Verdict: 77}, "GET", 403, "-"},
	} {
		s := httptest.NewServer(newChain(t, Options{Layers: []Bound{onRequest("l", Enforce, func(*Exchange) Decision { return c.d })}}))
		r, _ := http.NewRequest(c.method, s.URL, nil)
		res, err := (&http.Transport{}).RoundTrip(r)
		if err != nil {
			t.Errorf("%+v: %v", c.d, err)
			s.Close()
			continue
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		s.Close()
		length := res.Header.Get("Content-Length")
		if res.StatusCode != c.status || c.length != "-" && length != c.length || c.length == "-" && (length == "" || length == "0") {
			t.Errorf("%+v: %d, length %q", c.d, res.StatusCode, length)
		}
		if wantBody := (c.length == "-" || len(c.d.Body) > 0) && c.method != "HEAD"; wantBody != (len(body) > 0) {
			t.Errorf("%+v: body %q", c.d, body)
		}
		for k := range c.d.Header {
			if res.Header.Get(k) != c.d.Header.Get(k) {
				t.Errorf("%+v: %s = %q", c.d, k, res.Header.Get(k))
			}
		}
		if res.Header.Get("X-Request-Id") == "" {
			t.Errorf("%+v: no X-Request-Id", c.d)
		}
	}
}

// TestDecisionHeaderStaysTheLayers: a layer may keep one header for all its
// decisions; responders that add to it must not write into it.
func TestDecisionHeaderStaysTheLayers(t *testing.T) {
	shared := http.Header{"Vary": append(make([]string, 0, 4), "Origin")}
	c := newChain(t, Options{Layers: []Bound{
		onRequest("l", Enforce, func(*Exchange) Decision { return Decision{Verdict: Deny, Header: shared} }),
		onResponse("r", Enforce, func(_ *Exchange, r *http.Response) Decision {
			r.Header.Add("Vary", "Cookie")
			r.Header.Set("X-New", "1")
			return Pass()
		}),
	}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if w := ask(c, "GET", "/"); !slices.Equal(w.Header()["Vary"], []string{"Origin", "Cookie"}) {
					t.Errorf("Vary = %q", w.Header()["Vary"])
					return
				}
			}
		})
	}
	wg.Wait()
	if len(shared) != 1 || len(shared["Vary"]) != 1 || shared["Vary"][:2][1] != "" {
		t.Errorf("the layer's header was changed: %q", shared["Vary"][:2])
	}
}

func TestPanics(t *testing.T) {
	for _, c := range []struct {
		failure FailureMode
		mode    Mode
		status  int
		verdict string
	}{{FailClosed, Enforce, 503, "deny"}, {FailOpen, Enforce, 200, "observe"}, {FailClosed, Observe, 200, "observe"}} {
		for _, face := range []string{"request", "response"} {
			var log journal
			l := layerFunc{}
			if face == "request" {
				l.request = func(*Exchange) Decision { panic("boom") }
			} else {
				l.response = func(*Exchange, *http.Response) Decision { panic("boom") }
			}
			chain := newChain(t, Options{Publish: log.publish, Layers: []Bound{{Spec: &Spec{Name: "l", Control: "csrf", Failure: c.failure}, Layer: l, Mode: c.mode}}})
			w := ask(chain, "GET", "/secret-path")
			if w.Code != c.status || strings.Contains(w.Body.String(), "boom") {
				t.Errorf("%v %v %s: %d %s", c.failure, c.mode, face, w.Code, w.Body)
			}
			if len(log.events) != 1 {
				t.Fatalf("%v %v %s: %d events: %+v", c.failure, c.mode, face, len(log.events), log.events)
			}
			if e := log.events[0]; e.Name != "sys_crash" || e.Severity != event.Critical || e.Reason != "layer-failed" || e.Verdict != c.verdict ||
				!strings.Contains(e.Detail, "boom") || !strings.Contains(e.Attributes["stack"], "chain_test.go") || e.Control != "csrf" || e.Path != "/secret-path" {
				t.Errorf("%v %v %s: %+v", c.failure, c.mode, face, e)
			}
			if ev := chain.Evidence()[0]; ev.Outcome != evidence.Error || !strings.Contains(ev.Summary, "failed on 1 requests") {
				t.Errorf("%v %s: %+v", c.failure, face, ev)
			}
		}
	}
}

// TestObserveUndoes: an observing responder leaves no trace but its event.
func TestObserveUndoes(t *testing.T) {
	var log journal
	change := func(_ *Exchange, r *http.Response) Decision {
		r.Header.Set("Added", "1")
		r.Header.Set("Changed", "new")
		r.Header.Del("Removed")
		r.StatusCode = 500
		if _, err := PeekBody(r, 3); err != nil {
			t.Error(err)
		}
		return Refuse(500, "leak", "")
	}
	c := newChain(t, Options{Publish: log.publish, Layers: []Bound{onResponse("mask", Observe, change)}, Forward: app(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Changed", "old")
		w.Header().Set("Removed", "here")
		fmt.Fprint(w, "the body")
	})})
	w := ask(c, "GET", "/")
	if w.Code != 200 || w.Body.String() != "the body" || w.Header().Get("Added") != "" || w.Header().Get("Changed") != "old" || w.Header().Get("Removed") != "here" {
		t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
	}
	if len(log.events) != 2 || log.events[0].Reason != "leak" || log.events[1].Reason != "would-change" || log.events[1].Detail != "Added, Changed, Removed" ||
		log.events[1].Name != "dewar_would_change" || log.events[1].Severity != event.Info {
		t.Errorf("%+v", log.events)
	}
}

// TestObserveUndoesBody: a page that an observing layer wrote anew goes out as
// the app sent it, and a layer that enforces has its own.
func TestObserveUndoesBody(t *testing.T) {
	rewrite := func(add string) func(*Exchange, *http.Response) Decision {
		return func(_ *Exchange, r *http.Response) Decision {
			text, err := PeekBody(r, 1000)
			if err != nil {
				t.Error(err)
			}
			ReplaceAnswer(r, append(bytes.Clone(text), add...))
			return Pass()
		}
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, "the page")
	z.Close()
	for _, encoding := range []string{"", "gzip"} {
		page := []byte("the page")
		if encoding != "" {
			page = packed.Bytes()
		}
		forward := app(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Etag", `"1"`)
			if encoding != "" {
				w.Header().Set("Content-Encoding", encoding)
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(page)))
			w.Write(page)
		})
		observed := newChain(t, Options{Forward: forward, Layers: []Bound{onResponse("a", Observe, rewrite(" of a")), onResponse("b", Observe, rewrite(" of b"))}})
		w := ask(observed, "GET", "/")
		if h := w.Header(); !bytes.Equal(w.Body.Bytes(), page) || h.Get("Content-Length") != strconv.Itoa(len(page)) || h.Get("Content-Encoding") != encoding || h.Get("Etag") != `"1"` {
			t.Errorf("%s observed: %q %v", encoding, w.Body, h)
		}
		mixed := newChain(t, Options{Forward: forward, Layers: []Bound{onResponse("a", Enforce, rewrite(" of a")), onResponse("b", Observe, rewrite(" of b")), onResponse("c", Enforce, rewrite(" of c"))}})
		w = ask(mixed, "GET", "/")
		if h := w.Header(); w.Body.String() != "the page of a of c" || h.Get("Content-Length") != "18" || h.Get("Content-Encoding") != "" || h.Get("Etag") != `W/"1"` {
			t.Errorf("%s mixed: %q %v", encoding, w.Body, h)
		}
	}
}

// TestResponderOrder: in the order of traffic, on the app's answers and on our
// own; a refusal replaces the whole answer.
func TestResponderOrder(t *testing.T) {
	add := func(name string) Bound {
		return onResponse(name, Enforce, func(_ *Exchange, r *http.Response) Decision {
			r.Header.Add("Order", name)
			return Pass()
		})
	}
	leak := onResponse("mask", Enforce, func(_ *Exchange, r *http.Response) Decision {
		text, _ := PeekBody(r, 100)
		if bytes.Contains(text, []byte("Traceback")) || r.StatusCode == 403 {
			return Refuse(500, "leak", "a traceback")
		}
		return Pass()
	})
	forward := app(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "of=app")
		fmt.Fprint(w, "Traceback: secret")
	})
	w := ask(newChain(t, Options{Layers: []Bound{add("a"), leak, add("b"), add("c")}, Forward: forward}), "GET", "/")
	if w.Code != 500 || strings.Contains(w.Body.String(), "secret") || w.Header().Get("Set-Cookie") != "" || !slices.Equal(w.Header()["Order"], []string{"a", "b", "c"}) {
		t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
	}
	// A responder that would refuse our own page does not, and is not counted.
	var log journal
	w = ask(newChain(t, Options{Publish: log.publish, Layers: []Bound{onRequest("l", Enforce, deny), leak, add("z")}}), "GET", "/")
	if w.Code != 403 || w.Header().Get("Order") != "z" || len(log.events) != 1 || !strings.Contains(w.Body.String(), "403") {
		t.Errorf("%d %v %+v", w.Code, w.Header(), log.events)
	}
}

// TestForwardErrors: what each error of the forwarder becomes.
func TestForwardErrors(t *testing.T) {
	timeout := &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
	for _, c := range []struct {
		err      error
		status   int
		reason   string
		name     string
		control  string
		severity event.Severity
		retry    string
	}{
		{&UpstreamError{Status: 503, RetryAfter: 1500 * time.Millisecond, Reason: "upstream-down", Err: errors.New("x")}, 503, "upstream-down", "sys_crash", "deployment", event.High, "2"},
		{&UpstreamError{Status: 504, Reason: "upstream-timeout", Err: timeout}, 504, "upstream-timeout", "sys_crash", "deployment", event.High, ""},
		{&UpstreamError{Reason: "upstream-broken", Err: errors.New("x")}, 502, "upstream-broken", "sys_crash", "deployment", event.High, ""},
		{fmt.Errorf("wrapped: %w", &UpstreamError{Status: 502, Reason: "upstream-broken", Err: errors.New("x")}), 502, "upstream-broken", "sys_crash", "deployment", event.High, ""},
		{&http.MaxBytesError{Limit: 5}, 413, "body-too-large", "input_validation_fail", "uploads", event.Warn, ""},
		{fmt.Errorf("reading: %w", timeout), 408, "body-slow", "input_validation_fail", "uploads", event.Warn, ""},
		{io.ErrUnexpectedEOF, 400, "body-incomplete", "input_validation_fail", "uploads", event.Warn, ""},
		{fmt.Errorf("%w: reset", ErrClientGone), 200, "", "", "", 0, ""}, // httptest's recorder says 200 for nothing
	} {
		var log journal
		w := ask(newChain(t, Options{Publish: log.publish, Forward: forwardFunc(func(http.ResponseWriter, *Exchange, func(*http.Response) error) error { return c.err })}), "GET", "/")
		if w.Code != c.status || w.Header().Get("Retry-After") != c.retry {
			t.Errorf("%v: %d, Retry-After %q", c.err, w.Code, w.Header().Get("Retry-After"))
		}
		if c.reason == "" {
			if len(log.events) != 0 || w.Body.Len() != 0 {
				t.Errorf("%v: %+v %q", c.err, log.events, w.Body)
			}
			continue
		}
		if len(log.events) != 1 {
			t.Errorf("%v: %+v", c.err, log.events)
			continue
		}
		if e := log.events[0]; e.Reason != c.reason || e.Name != c.name || e.Severity != c.severity || e.Control != c.control || e.Verdict != "deny" || e.Status != c.status {
			t.Errorf("%v: %+v", c.err, e)
		}
	}
}

// counter counts what metrics are told.
type counter struct {
	mu        sync.Mutex
	requests  []int
	decisions []string
}

func (c *counter) Request(_ *Exchange, status int, _ int64, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, status)
}

func (c *counter) Decision(d Decision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.decisions = append(c.decisions, d.Layer+" "+d.Verdict.String()+" "+d.Reason)
}

// TestEvents: one event per decision with what the client sent, not what
// layers made of it, and an access line where no decision ended the request.
func TestEvents(t *testing.T) {
	var log journal
	var m counter
	start := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	now := start
	layers := []Bound{
		onRequest("one", Observe, func(x *Exchange) Decision {
			x.Request.URL.Path, x.Request.URL.RawQuery, x.Request.Method = "/other", "", "PUT"
			x.Request.Header.Set("User-Agent", "changed")
			now = now.Add(1500 * time.Microsecond)
			return Decision{Verdict: Deny, Reason: "first", Event: "malicious_attack_tool", Severity: event.High}
		}),
		onRequest("two", Enforce, func(x *Exchange) Decision {
			if x.Path == "/stop" {
				return Refuse(429, "second", "")
			}
			if x.Path == "/answer" {
				return Decision{Verdict: Answer, Status: 308, Reason: "to-https"}
			}
			return Pass()
		}),
	}
	c := newChain(t, Options{Layers: layers, Publish: log.publish, Metrics: &m, LogAllowed: true, Now: func() time.Time { return now }})
	agent := func(r *http.Request) { r.Header.Set("User-Agent", "curl/8"); r.RemoteAddr = "192.0.2.7:1234" }

	ask(c, "GET", "https://shop.example/a%2Fb?x=1&y", agent)
	if len(log.events) != 2 {
		t.Fatalf("%+v", log.events)
	}
	for i, want := range []event.Event{{Name: "malicious_attack_tool", Severity: event.High, Verdict: "observe", Reason: "first", Layer: "one", Control: "headers"}, {Name: "http_request", Severity: event.Info, Verdict: "allow"}} {
		e := log.events[i]
		if e.Name != want.Name || e.Severity != want.Severity || e.Verdict != want.Verdict || e.Reason != want.Reason || e.Layer != want.Layer || e.Control != want.Control {
			t.Errorf("event %d: %+v", i, e)
		}
		if e.Path != "/a%2Fb" || e.Query != "x=1&y" || e.Method != "GET" || e.UserAgent != "curl/8" || e.Host != "shop.example" || e.Scheme != "https" ||
			e.Client.String() != "192.0.2.7" || e.Status != 200 || e.Bytes != 5 || e.Duration != 1.5 || len(e.RequestID) != 26 || len(e.ID) != 26 {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	if log.events[0].ID == log.events[1].ID || log.events[0].RequestID != log.events[1].RequestID {
		t.Error("ids")
	}

	log.events = nil
	ask(c, "GET", "/stop", agent)
	ask(c, "GET", "/answer", agent)
	var got []string
	for _, e := range log.events {
		got = append(got, fmt.Sprintf("%s %s %s %v %d", e.Verdict, e.Reason, e.Name, e.Severity, e.Status))
	}
	want := []string{
		"observe first malicious_attack_tool high 429", "deny second input_validation_fail warn 429",
		"observe first malicious_attack_tool high 308", "answer to-https input_validation_fail info 308",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if !slices.Equal(m.requests, []int{200, 429, 308}) || len(m.decisions) != 5 {
		t.Errorf("metrics: %v %v", m.requests, m.decisions)
	}
}

func TestRequestID(t *testing.T) {
	var seen []string
	c := newChain(t, Options{Forward: app(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header["X-Request-Id"]
		w.Header().Set("X-Request-Id", "of-the-app")
	})})
	w := ask(c, "GET", "/", func(r *http.Request) { r.Header["X-Request-Id"] = []string{"forged", "twice"} })
	if len(seen) != 1 || len(seen[0]) != 26 || !slices.Equal(w.Header()["X-Request-Id"], seen) {
		t.Errorf("app saw %q, client %q", seen, w.Header()["X-Request-Id"])
	}
}

// TestProbe: only who holds the key learns that a guard answered, whatever
// the answer; the app never sees the question.
func TestProbe(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	now := time.Now()
	var toApp http.Header
	forward := app(func(w http.ResponseWriter, r *http.Request) {
		toApp = r.Header.Clone()
		w.Header().Set(evidence.GuardHeader, "forged by the app")
	})
	good, answer := evidence.SignProbe(key, now, "shop.example", "/a%20b")
	other, _ := evidence.SignProbe([]byte("another key"), now, "shop.example", "/a%20b")
	old, _ := evidence.SignProbe(key, now.Add(-time.Hour), "shop.example", "/a%20b")
	elsewhere, _ := evidence.SignProbe(key, now, "shop.example", "/c")
	empty, _ := evidence.SignProbe(nil, now, "shop.example", "/a%20b")
	for name, c := range map[string]struct {
		key    []byte
		header []string
		want   string
	}{
		"right": {key, []string{good}, answer}, "no header": {key, nil, ""}, "another key": {key, []string{other}, ""}, "old": {key, []string{old}, ""},
		"another path": {key, []string{elsewhere}, ""}, "twice": {key, []string{good, good}, ""}, "no key here": {nil, []string{good}, ""}, "both without key": {nil, []string{empty}, ""}, "junk": {key, []string{"v1.x"}, ""},
	} {
		for _, refused := range []bool{false, true} {
			through := false
			layers := []Bound{onRequest("l", Enforce, func(x *Exchange) Decision {
				through = x.ThroughProbe
				if refused {
					return Refuse(403, "no", "")
				}
				return Pass()
			})}
			toApp = nil
			w := ask(newChain(t, Options{ProbeKey: c.key, Forward: forward, Layers: layers, Now: func() time.Time { return now }}), "GET", "http://shop.example/a%20b?q=1", func(r *http.Request) {
				r.RequestURI = "/a%20b?q=1"
				if c.header != nil {
					r.Header[evidence.ProbeHeader] = c.header
				}
			})
			if got := w.Header().Get(evidence.GuardHeader); got != c.want || through != (c.want != "") {
				t.Errorf("%s, refused %v: answer %q, through %v", name, refused, got, through)
			}
			if _, ok := toApp[evidence.ProbeHeader]; ok || refused != (toApp == nil) {
				t.Errorf("%s: app saw %v", name, toApp)
			}
		}
	}
}

func TestErrorPage(t *testing.T) {
	c := newChain(t, Options{Layers: []Bound{onRequest("l", Enforce, func(*Exchange) Decision {
		return Decision{Verdict: Deny, Status: 403, Reason: "csrf-cross-site", Detail: "<secret detail>", Header: http.Header{"Cache-Control": {"max-age=60"}}}
	})}})
	for _, q := range []struct{ header, want string }{
		{"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8"},
		{"Accept: */*", "text/plain; charset=utf-8"},
		{"", "text/plain; charset=utf-8"},
		{"Accept: application/json, text/plain, */*", "application/problem+json"},
		{"Accept: application/json;q=0.5, text/html", "text/html; charset=utf-8"},
		{"Accept: text/html;q=0, application/vnd.api+json", "application/problem+json"},
		{"Accept: TEXT/HTML", "text/html; charset=utf-8"},
		{"Accept: ;;q=,,q=zz;text/html", "text/plain; charset=utf-8"},
		{"Sec-Fetch-Mode: navigate", "text/html; charset=utf-8"},
		{"Sec-Fetch-Mode: cors", "application/problem+json"},
		{"Content-Type: application/json", "application/problem+json"},
	} {
		w := ask(c, "GET", "/<script>", func(r *http.Request) {
			if k, v, ok := strings.Cut(q.header, ": "); ok {
				r.Header.Set(k, v)
			}
		})
		body := w.Body.String()
		if got := w.Header().Get("Content-Type"); got != q.want {
			t.Errorf("%s: %s", q.header, got)
		}
		if w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: Cache-Control %q", q.header, w.Header()["Cache-Control"])
		}
		id := w.Header().Get("X-Request-Id")
		if !strings.Contains(body, id) || !strings.Contains(body, "403") {
			t.Errorf("%s: %s", q.header, body)
		}
		for _, leak := range []string{"csrf", "secret", "script", "detail>"} {
			if strings.Contains(body, leak) {
				t.Errorf("%s: leaks %q: %s", q.header, leak, body)
			}
		}
		if q.want == "application/problem+json" {
			var p struct {
				Type, Title, Detail string
				Status              int
				RequestID           string `json:"request_id"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != 403 || p.RequestID != id || p.Type != "about:blank" {
				t.Errorf("%v %+v", err, p)
			}
		}
	}
}

// serve runs a chain before an app on real servers, over HTTP/1.1 or HTTP/2
// with TLS.
func serve(t *testing.T, h2 bool, o Options, h http.HandlerFunc) (*httptest.Server, *http.Client) {
	t.Helper()
	up := httptest.NewServer(h)
	t.Cleanup(up.Close)
	u, err := url.Parse(up.URL)
	if err != nil {
		t.Fatal(err)
	}
	o.Forward = proxy{u}
	s := httptest.NewUnstartedServer(newChain(t, o))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = h2
	if h2 {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s, s.Client()
}

func bothProtocols(t *testing.T, f func(*testing.T, bool)) {
	t.Run("h1", func(t *testing.T) { f(t, false) })
	t.Run("h2", func(t *testing.T) { f(t, true) })
}

// TestEventStream: every event of a stream arrives when it is sent, through
// responders that look at the answer.
func TestEventStream(t *testing.T) {
	bothProtocols(t, func(t *testing.T, h2 bool) {
		next := make(chan bool)
		s, client := serve(t, h2, Options{Layers: []Bound{onResponse("r", Enforce, func(_ *Exchange, r *http.Response) Decision {
			r.Header.Set("X-Seen", r.Request.Proto)
			return Pass()
		})}}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for i := 0; <-next; i++ {
				fmt.Fprintf(w, "data: %d\n\n", i)
				w.(http.Flusher).Flush()
			}
		})
		go func() { next <- true }()
		res, err := client.Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if h2 != (res.ProtoMajor == 2) {
			t.Fatalf("protocol %s", res.Proto)
		}
		lines := bufio.NewReader(res.Body)
		for i := range 5 {
			got := make(chan string, 1)
			go func() {
				line, _ := lines.ReadString('\n')
				lines.ReadString('\n')
				got <- line
			}()
			select {
			case line := <-got:
				if line != fmt.Sprintf("data: %d\n", i) {
					t.Fatalf("line %q", line)
				}
			case <-time.After(time.Minute):
				t.Fatalf("event %d does not arrive before the next is sent", i)
			}
			next <- i < 4
		}
	})
}

// TestWebSocket: an upgrade passes, is logged as 101, and nothing is written
// behind it.
func TestWebSocket(t *testing.T) {
	var log journal
	var m counter
	s, _ := serve(t, false, Options{Publish: log.publish, LogAllowed: true, Metrics: &m}, func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		rw.Flush()
		line, _ := rw.ReadString('\n')
		fmt.Fprint(rw, "echo "+line)
		rw.Flush()
	})
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(c, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("X-Request-Id") == "" {
		t.Fatalf("%v %+v", err, res)
	}
	fmt.Fprint(c, "ping\n")
	if line, err := br.ReadString('\n'); line != "echo ping\n" {
		t.Fatalf("%q %v", line, err)
	}
	if rest, _ := io.ReadAll(br); len(rest) != 0 {
		t.Errorf("%q behind the upgrade", rest)
	}
	c.Close()
	if e := log.wait(t, 1)[0]; e.Status != 101 || e.Verdict != "allow" {
		t.Errorf("%+v", e)
	}
}

// TestHalfRequest: a body that stops in the middle is the client's fault, and
// never reaches the app as a whole one.
func TestHalfRequest(t *testing.T) {
	for _, buffered := range []bool{true, false} {
		var log journal
		var layers []Bound
		if buffered {
			layers = []Bound{onRequest("body", Enforce, func(x *Exchange) Decision {
				if _, err := x.Buffer(); err != nil {
					if !errors.Is(err, ErrBodyIncomplete) {
						t.Errorf("%v", err)
					}
					return Refuse(400, "body-incomplete", err.Error())
				}
				return Pass()
			})}
		}
		read := make(chan error, 1)
		s, _ := serve(t, false, Options{Publish: log.publish, LogAllowed: true, Layers: layers}, func(w http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			read <- err
		})
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
		c.(*net.TCPConn).CloseWrite()
		answer, _ := io.ReadAll(c)
		c.Close()
		e := log.wait(t, 1)[0]
		if e.Status != 400 && e.Status != 499 {
			t.Errorf("buffered %v: %+v", buffered, e)
		}
		if buffered && !bytes.HasPrefix(answer, []byte("HTTP/1.1 400")) {
			t.Errorf("%q", answer)
		}
		select {
		case err := <-read:
			if err == nil || buffered {
				t.Errorf("buffered %v: the app got half a request, %v", buffered, err)
			}
		case <-time.After(500 * time.Millisecond):
			// The transport may have noticed before it dialled.
		}
	}
}

// TestRefusalDoesNotWait: a refusal is sent although the body is still on its
// way; otherwise every slow client would hold a connection until a timeout.
func TestRefusalDoesNotWait(t *testing.T) {
	s, _ := serve(t, false, Options{Layers: []Bound{onRequest("l", Enforce, deny)}}, hello)
	for _, framing := range []string{"Content-Length: 1000", "Transfer-Encoding: chunked"} {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", framing)
		answer, err := io.ReadAll(c)
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 403")) || err != nil {
			t.Errorf("%s: %v %.40q", framing, err, answer)
		}
		c.Close()
	}
	// Without a body the connection stays.
	c, _ := net.Dial("tcp", s.Listener.Addr().String())
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	br := bufio.NewReader(c)
	for range 2 {
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(br, nil)
		if err != nil || res.StatusCode != 403 || res.Close {
			t.Fatalf("%v %+v", err, res)
		}
		io.Copy(io.Discard, res.Body)
	}
}

// TestClientGone: a client that hangs up before the answer is 499, one that
// hangs up in the middle keeps the status it got; neither is a crash.
func TestClientGone(t *testing.T) {
	bothProtocols(t, func(t *testing.T, h2 bool) {
		var log journal
		arrived := make(chan bool, 1)
		s, client := serve(t, h2, Options{Publish: log.publish, LogAllowed: true}, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/middle" {
				fmt.Fprint(w, "begin")
				w.(http.Flusher).Flush()
			} else {
				arrived <- true
			}
			for i := 0; i < 1000 && r.Context().Err() == nil; i++ {
				if r.URL.Path == "/middle" {
					w.Write(make([]byte, 1<<16))
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
		ctx, cancel := context.WithCancel(context.Background())
		go func() { <-arrived; cancel() }()
		r, _ := http.NewRequestWithContext(ctx, "GET", s.URL+"/before", nil)
		if _, err := client.Do(r); err == nil {
			t.Fatal("answered")
		}
		if e := log.wait(t, 1)[0]; e.Status != 499 || e.Name != "http_request" {
			t.Errorf("before: %+v", e)
		}
		ctx, cancel = context.WithCancel(context.Background())
		r, _ = http.NewRequestWithContext(ctx, "GET", s.URL+"/middle", nil)
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(res.Body, make([]byte, 5))
		cancel()
		res.Body.Close()
		if e := log.wait(t, 2)[1]; e.Status != 200 || e.Name != "http_request" {
			t.Errorf("middle: %+v", e)
		}
	})
}

// TestAnswerCut: an answer that the app breaks off reaches the client as
// broken off, and is an event even where requests are not logged.
func TestAnswerCut(t *testing.T) {
	bothProtocols(t, func(t *testing.T, h2 bool) {
		var log journal
		s, client := serve(t, h2, Options{Publish: log.publish}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		res, err := client.Get(s.URL)
		if err == nil {
			if _, err = io.ReadAll(res.Body); err == nil {
				t.Error("the client took it for whole")
			}
			res.Body.Close()
		}
		if e := log.wait(t, 1)[0]; e.Status != 598 || e.Name != "sys_crash" || e.Reason != "answer-cut" || e.Severity != event.High || e.Control != "deployment" {
			t.Errorf("%+v", e)
		}
	})
}

// TestUnreadBodyIsLimited: a body that no layer read is bounded when the app
// reads it.
func TestUnreadBodyIsLimited(t *testing.T) {
	bothProtocols(t, func(t *testing.T, h2 bool) {
		var log journal
		s, client := serve(t, h2, Options{Publish: log.publish, Layers: []Bound{onRequest("l", Enforce, func(x *Exchange) Decision { x.LimitBody(10); return Pass() })}},
			func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.ReadAll(r.Body); err == nil {
					fmt.Fprint(w, "read it all")
				}
			})
		for size, want := range map[int]int{10: 200, 11: 413, 100_000: 413} {
			res, err := client.Post(s.URL, "text/plain", io.MultiReader(strings.NewReader(strings.Repeat("x", size))))
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != want {
				t.Errorf("%d bytes: status %d", size, res.StatusCode)
			}
		}
	})
}

func TestHealthAndEvidence(t *testing.T) {
	c := newChain(t, Options{
		Layers: []Bound{
			{Spec: &Spec{Name: "good", Control: "csrf", Does: "Does it."}, Layer: reporter{}},
			{Spec: &Spec{Name: "ill", Control: "abuse", Does: "x"}, Layer: reporter{err: errors.New("store gone")}},
			{Spec: &Spec{Name: "watching", Control: "csrf"}, Layer: reporter{}, Mode: Observe},
			{Spec: &Spec{Name: "off", Control: "csrf"}, Layer: reporter{err: errors.New("unused")}, Mode: Off},
		},
		Overrides: []Override{{Path: "/hooks/**", Reason: "signed by the sender", Modes: map[string]Mode{"good": Off}}},
	})
	h := c.Health()
	if h["good"] != nil || h["ill"] == nil || h["off"] != nil || len(h) != 4 {
		t.Errorf("%v", h)
	}
	want := map[string]struct {
		o    evidence.Outcome
		text string
	}{
		"good": {evidence.Pass, "off on /hooks/** because signed by the sender"}, "ill": {evidence.Error, "store gone"},
		"watching": {evidence.Error, "only observes"}, "off": {evidence.Error, "switched off"},
	}
	for _, e := range c.Evidence() {
		if w := want[e.Layer]; e.Outcome != w.o || !strings.Contains(e.Summary, w.text) || e.Face != evidence.Guard {
			t.Errorf("%+v", e)
		}
	}
}

type reporter struct {
	layerFunc
	err error
}

func (r reporter) Health() error  { return r.err }
func (reporter) Describe() string { return "described" }

func TestPreflights(t *testing.T) {
	check := func(problem string, err error) func(Facts) (string, error) {
		return func(Facts) (string, error) { return problem, err }
	}
	for _, c := range []struct {
		name     string
		p        Preflight
		profile  Profile
		refused  int
		warned   int
		outcome  evidence.Outcome
		contains string
	}{
		{"fine", Preflight{Check: check("", nil), Does: "looks"}, Production, 0, 0, evidence.Pass, "looks"},
		{"problem", Preflight{Check: check("debug is on", nil), Fix: "off"}, Production, 1, 0, evidence.Fail, "debug is on"},
		{"zero profile is production", Preflight{Check: check("debug is on", nil), RelaxedIn: []Profile{Development}}, "", 1, 0, evidence.Fail, "debug"},
		{"relaxed is a failure still", Preflight{Check: check("debug is on", nil), RelaxedIn: []Profile{Development}}, Development, 0, 1, evidence.Fail, "debug"},
		{"not relaxed here", Preflight{Check: check("debug is on", nil), RelaxedIn: []Profile{Development}}, Staging, 1, 0, evidence.Fail, "debug"},
		{"cannot look", Preflight{Check: check("", errors.New("no app"))}, Production, 0, 0, evidence.Error, "no app"},
		{"panics", Preflight{Check: func(f Facts) (string, error) { return f.Routes[0].Rule, nil }}, Production, 0, 0, evidence.Error, "panicked"},
	} {
		c.p.Name, c.p.Control = "p", "settings"
		refusals, warnings, ev := RunPreflights(c.profile, Facts{}, []*Preflight{&c.p})
		if len(refusals) != c.refused || len(warnings) != c.warned || len(ev) != 1 || ev[0].Outcome != c.outcome || !strings.Contains(ev[0].Summary, c.contains) || ev[0].Face != evidence.Guard || ev[0].Time.IsZero() {
			t.Errorf("%s: %v %v %+v", c.name, refusals, warnings, ev)
		}
	}
}

func TestPeer(t *testing.T) {
	for in, want := range map[string]string{"192.0.2.1:5": "192.0.2.1", "[2001:db8::1%eth0]:5": "2001:db8::1", "[::ffff:192.0.2.1]:5": "192.0.2.1", "@": "invalid IP", "": "invalid IP"} {
		if got := peerOf(&http.Request{RemoteAddr: in}).String(); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
}

func TestTLSIsHTTPS(t *testing.T) {
	var scheme string
	c := newChain(t, Options{Layers: []Bound{onRequest("l", Enforce, func(x *Exchange) Decision { scheme = x.Client.Scheme; return Pass() })}})
	ask(c, "GET", "/", func(r *http.Request) { r.TLS = &tls.ConnectionState{} })
	if scheme != "https" {
		t.Error(scheme)
	}
}

// nothing is the cheapest ResponseWriter.
type nothing struct{ h http.Header }

func (n nothing) Header() http.Header         { return n.h }
func (n nothing) Write(p []byte) (int, error) { return len(p), nil }
func (n nothing) WriteHeader(int)             {}

// BenchmarkChain is what the chain itself costs: a bare handler, an empty
// chain, and twelve layers that do nothing, six of which look at answers.
func BenchmarkChain(b *testing.B) {
	res := &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}
	forward := forwardFunc(func(w http.ResponseWriter, x *Exchange, modify func(*http.Response) error) error {
		if err := modify(res); err != nil {
			return err
		}
		w.WriteHeader(200)
		return nil
	})
	var twelve []Bound
	for i := range 12 {
		name := fmt.Sprint("l", i)
		if i < 6 {
			twelve = append(twelve, Bound{Spec: &Spec{Name: name}, Layer: requestOnly{}})
		} else {
			twelve = append(twelve, onResponse(name, Enforce, nil))
		}
	}
	for name, h := range map[string]http.Handler{
		"bare":   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200) }),
		"empty":  newChain(b, Options{Forward: forward}),
		"twelve": newChain(b, Options{Forward: forward, Layers: twelve}),
		"logged": newChain(b, Options{Forward: forward, Layers: twelve, LogAllowed: true}),
	} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest("GET", "/products/17?page=2", nil)
			w := nothing{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		})
	}
}

type requestOnly struct{}

func (requestOnly) Request(*Exchange) Decision { return Pass() }

// resting is a layer that says something about itself.
type resting struct {
	layerFunc
	health error
	idle   string
}

func (r resting) Health() error    { return r.health }
func (r resting) Describe() string { return "what it does" }
func (r resting) Idle() string     { return r.idle }

// TestEvidenceOfRest: a layer that nobody configured is no layer that somebody
// switched off, one that cannot offer something is no pass, and neither is a
// broken one.
func TestEvidenceOfRest(t *testing.T) {
	for _, tt := range []struct {
		mode    Mode
		layer   resting
		outcome evidence.Outcome
		want    string
	}{
		{Off, resting{}, evidence.Error, "layer l is switched off in the settings"},
		{Off, resting{idle: "not configured: x"}, evidence.Error, "layer l is off: not configured: x"},
		{Enforce, resting{health: fmt.Errorf("%w: the provider is down", ErrDegraded)}, evidence.Error, "layer l refuses what it should, and is degraded: the provider is down"},
		{Enforce, resting{health: errors.New("no keys")}, evidence.Error, "layer l cannot work: no keys"},
		{Enforce, resting{}, evidence.Pass, "layer l enforces: what it does (0 requests seen, 0 refused, 0 observed)"},
	} {
		c := newChain(t, Options{Layers: []Bound{{Spec: &Spec{Name: "l", Control: "authn"}, Layer: tt.layer, Mode: tt.mode}}})
		e := c.Evidence()
		if len(e) != 1 || e[0].Outcome != tt.outcome || e[0].Summary != tt.want {
			t.Errorf("%+v: %+v", tt, e)
		}
	}
}
