package guard

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/wire"
)

// Bound is a layer with its description and the mode that the settings give
// it.
type Bound struct {
	Spec  *Spec
	Layer Layer
	Mode  Mode
}

// Forwarder hands a request to the app. It sends x.Request and copies the
// answer to w, calling modify on the answer before its header is written. An
// error from modify comes back unchanged, and nothing has been written then;
// any other error means that there was no answer, and is an [*UpstreamError],
// one that wraps [ErrClientGone], or the client's body error.
type Forwarder interface {
	Forward(w http.ResponseWriter, x *Exchange, modify func(*http.Response) error) error
}

// UpstreamError says that the app gave no answer.
type UpstreamError struct {
	// Status is 502, 503 or 504 (RFC 9110, 15.6).
	Status int
	// RetryAfter is for the Retry-After header; 0 means unknown.
	RetryAfter time.Duration
	// Reason is a stable name for metrics and events: upstream-down,
	// upstream-timeout, upstream-broken.
	Reason string
	Err    error
}

// Error returns the reason and what lies beneath.
func (e *UpstreamError) Error() string { return e.Reason + ": " + e.Err.Error() }

// Unwrap returns what lies beneath.
func (e *UpstreamError) Unwrap() error { return e.Err }

// ErrClientGone says that the client went away before the answer began: there
// is nobody to tell.
var ErrClientGone = errors.New("the client went away")

// Metrics counts. It is called on the hot path, from many goroutines.
type Metrics interface {
	// Request is called once per request, when its answer has ended.
	Request(x *Exchange, status int, bytes int64, d time.Duration)
	// Decision is called for every decision that is not Allow.
	Decision(d Decision)
}

// An OverrideChecker is a layer that reads more of an override than its mode
// and its common fields; an error there is an error at the start.
type OverrideChecker interface {
	CheckOverride(*Override) error
}

// Options is what a [Chain] is made of.
type Options struct {
	// Layers in the order of traffic.
	Layers    []Bound
	Overrides []Override
	Forward   Forwarder
	// Publish gets one event per decision, and with LogAllowed one per
	// request that no decision ended. It must not block for long.
	Publish    func(event.Event)
	LogAllowed bool
	Metrics    Metrics // may be nil
	// Spool bounds what request bodies take; nil means the defaults.
	Spool *Spool
	Now   Clock // nil means time.Now
	// ProbeKey lets a probe that holds it learn that it came through here.
	// Empty: nobody learns it.
	ProbeKey []byte
}

// Chain is the guard: an [http.Handler] that lets every request pass the
// layers, forwards what they allow, and lets the answer pass the responders.
type Chain struct {
	o         Options
	layers    []bound
	overrides []override
	pathFrom  int // index of the layer after which x.Path is final
}

type bound struct {
	Bound
	responder Responder // nil if it does not look at answers
	streamer  Streamer  // nil if it does not end them
	seen      atomic.Uint64
	denied    atomic.Uint64
	observed  atomic.Uint64
	answered  atomic.Uint64
	failed    atomic.Uint64
}

// pathLayer is the layer that makes x.Path unambiguous; overrides match after
// it.
const pathLayer = "request"

// NewChain checks the options and returns the chain. The error names what is
// wrong with an override.
func NewChain(o Options) (*Chain, error) {
	if o.Forward == nil {
		return nil, errors.New("guard: no forwarder")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Publish == nil {
		o.Publish = func(event.Event) {}
	}
	c := &Chain{o: o, layers: make([]bound, len(o.Layers)), pathFrom: -1}
	for i, b := range o.Layers {
		if b.Spec == nil || b.Layer == nil {
			return nil, fmt.Errorf("guard: layer %d is not complete", i)
		}
		if slices.ContainsFunc(o.Layers[:i], func(p Bound) bool { return p.Spec.Name == b.Spec.Name }) {
			return nil, fmt.Errorf("guard: two layers are called %q", b.Spec.Name)
		}
		c.layers[i].Bound = b
		c.layers[i].responder, _ = b.Layer.(Responder)
		c.layers[i].streamer, _ = b.Layer.(Streamer)
		if b.Spec.Name == pathLayer {
			c.pathFrom = i
		}
	}
	var err error
	c.overrides, err = compileOverrides(o.Overrides, o.Layers)
	return c, err
}

// served is what one request needs, in one allocation.
type served struct {
	x   Exchange
	out recorder
}

// ServeHTTP implements [http.Handler].
func (c *Chain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := c.o.Now()
	s := &served{x: Exchange{ID: event.NewID(now), Start: now, Request: r, Path: r.URL.Path, spool: c.o.Spool}, out: recorder{ResponseWriter: w}}
	x, out := &s.x, &s.out
	x.Client = Client{Peer: peerOf(r), Scheme: "http", Host: strings.ToLower(r.Host)}
	x.Client.Addr = x.Client.Peer
	if r.TLS != nil {
		x.Client.Scheme = "https"
	}
	asked := request{method: r.Method, host: r.Host, path: r.URL.EscapedPath(), query: r.URL.RawQuery, agent: r.UserAgent()}
	fault := wire.FaultOf(r.Context())
	proof := ""
	if fault == nil {
		proof = c.probe(x)
	} else {
		path, query, _ := strings.Cut(fault.Target, "?")
		asked = request{method: fault.Method, host: fault.Host, path: path, query: query}
	}
	finished := false
	defer func() {
		// A mistake of ours (the layers' own were caught before): the visitor
		// gets a page, the log the stack, net/http nothing to print.
		v := recover()
		if v != nil && v != http.ErrAbortHandler {
			d := c.crashed(x, v)
			if !out.wrote {
				c.write(out, x, d, proof)
				v, finished = nil, true
			}
		}
		x.closeBody()
		if x.streaming != nil {
			c.streamOver(x)
		}
		switch {
		case finished && !out.wrote && out.status == 0:
			out.status = http.StatusOK // what net/http says for a handler that said nothing
		case !finished && (r.Context().Err() != nil || x.cut()) && out.wrote:
			// The client hung up on an answer that was on its way, or a layer
			// ended it: the client got the status, and nothing is wrong here.
		case !finished && x.cut():
			out.status = statusClientGone // it got no status
		case !finished:
			out.status = statusAborted // a panic on its way to net/http: the connection is cut
		}
		c.finish(x, out, &asked)
		if v != nil {
			panic(http.ErrAbortHandler)
		}
	}()
	if fault != nil {
		c.write(out, x, c.malformed(x, fault), proof)
		finished = true
		return
	}
	if d := c.inspect(x); d.Verdict != Allow {
		c.write(out, x, d, proof)
		finished = true
		return
	}
	r = x.Request
	r.Header["X-Request-Id"] = []string{x.ID}
	if r.Body != nil && r.Body != http.NoBody && x.body == nil && x.bodyErr == nil && x.limited {
		// Nobody read the body: the app may, up to the limit. w itself, not
		// out: net/http looks for a method of its own on it. A body that is
		// over the limit and came here was let through by a layer that only
		// observes.
		r.Body = http.MaxBytesReader(w, r.Body, int64(x.bodyLimit))
	}
	var err error
	if !x.Streams() && x.bodyErr == nil {
		// Whatever layers are on: the app is not bothered before the whole
		// request is here, or a hundred slow clients hold all its threads.
		_, err = x.Buffer()
	}
	if err == nil {
		err = c.o.Forward.Forward(out, x, func(res *http.Response) error { return c.respond(x, res, proof) })
	}
	if err != nil && (x.cut() || out.wrote && out.status != http.StatusSwitchingProtocols) {
		// Half an answer must not pass for a whole one.
		panic(http.ErrAbortHandler)
	}
	if err != nil && !out.wrote {
		if d, tell := c.explain(x, err); tell {
			c.write(out, x, d, proof)
		} else {
			out.status = statusClientGone
		}
	}
	finished = true
}

// statusClientGone and statusAborted are what the log says when nobody got a
// status: nginx's 499, and a connection cut in the middle of an answer.
const (
	statusClientGone = 499
	statusAborted    = 598
)

// request is what the log says about a request: how it came, not what layers
// made of it.
type request struct{ method, host, path, query, agent string }

// probe checks a probe's signature, takes the header away and returns what
// proves to the probe that it came through here.
func (c *Chain) probe(x *Exchange) (proof string) {
	v := x.Request.Header[evidence.ProbeHeader]
	if len(v) == 0 {
		return ""
	}
	delete(x.Request.Header, evidence.ProbeHeader)
	if len(v) == 1 {
		target, _, _ := strings.Cut(x.Request.RequestURI, "?")
		proof, x.ThroughProbe = evidence.VerifyProbe(c.o.ProbeKey, c.o.Now(), v[0], x.Request.Host, target)
	}
	if !x.ThroughProbe {
		return ""
	}
	return proof
}

// inspect runs the layers until one has the last word. Overrides match once
// the path is final: after the layer that makes it so, or before all layers
// when that one is off or not there.
func (c *Chain) inspect(x *Exchange) Decision {
	if c.pathFrom < 0 || c.layers[c.pathFrom].Mode == Off {
		x.Override = c.match(x)
	}
	for i := range c.layers {
		l := &c.layers[i]
		mode := l.mode(x)
		if mode == Off {
			continue
		}
		l.seen.Add(1)
		d := c.ask(l, x)
		if len(x.notes) > 0 {
			c.noted(l, x, mode)
		}
		if i == c.pathFrom && l.Mode != Off {
			// Only now is it sure which route this is.
			x.Override = c.match(x)
			if mode = l.mode(x); mode == Off {
				continue
			}
		}
		if d = c.settle(l, x, d, mode); d.Verdict == Deny || d.Verdict == Answer {
			return d
		}
	}
	return Pass()
}

func (l *bound) mode(x *Exchange) Mode {
	if x.Override != nil {
		if m, ok := x.Override.Modes[l.Spec.Name]; ok {
			return m
		}
	}
	return l.Mode
}

// ask calls a layer. One that panics does what its Spec declares.
func (c *Chain) ask(l *bound, x *Exchange) (d Decision) {
	defer func() {
		if v := recover(); v != nil {
			d = c.broken(l, x, v)
		}
	}()
	return l.Layer.Request(x)
}

// broken is the decision for a layer that panicked. Either way it is an event
// and a number in the metrics; FailOpen lets the request pass.
func (c *Chain) broken(l *bound, x *Exchange, v any) Decision {
	if v == http.ErrAbortHandler {
		panic(v)
	}
	l.failed.Add(1)
	if x.stacks == nil {
		x.stacks = map[string]string{}
	}
	x.stacks[l.Spec.Name] = string(debug.Stack())
	d := Refuse(http.StatusServiceUnavailable, "layer-failed", fmt.Sprintf("the layer panicked: %v", v))
	d.Event, d.Severity = "sys_crash", event.Critical
	if l.Spec.Failure == FailOpen {
		d.Verdict = Observed
	}
	return d
}

// crashed notes a panic outside of any layer.
func (c *Chain) crashed(x *Exchange, v any) Decision {
	if x.stacks == nil {
		x.stacks = map[string]string{}
	}
	x.stacks[upstreamLayer] = string(debug.Stack())
	d := Refuse(http.StatusInternalServerError, "guard-failed", fmt.Sprintf("the guard panicked: %v", v))
	d.Layer, d.Event, d.Severity = upstreamLayer, crashEvent, event.Critical
	x.Decisions = append(x.Decisions, d)
	if c.o.Metrics != nil {
		c.o.Metrics.Decision(d)
	}
	return d
}

// malformed is the decision about bytes that are no request, or more than one.
// It stands in every mode: there is nothing that could be passed on.
func (c *Chain) malformed(x *Exchange, f *wire.Fault) Decision {
	d := Refuse(f.Status, f.Reason, f.Detail)
	d.Layer, d.Event, d.Severity = pathLayer, inputEvent, event.Warn
	if c.pathFrom >= 0 {
		l := &c.layers[c.pathFrom]
		l.seen.Add(1)
		l.denied.Add(1)
	}
	x.Decisions = append(x.Decisions, d)
	if c.o.Metrics != nil {
		c.o.Metrics.Decision(d)
	}
	return d
}

// settle applies the mode to a decision, counts and notes it.
func (c *Chain) settle(l *bound, x *Exchange, d Decision, mode Mode) Decision {
	if d.Verdict == Allow {
		return d
	}
	d.Layer, d.Mode = l.Spec.Name, mode
	if d.Verdict > Deny {
		d.Verdict = Deny // no verdict of ours: a mistake must not let a request pass
	}
	switch {
	case d.Verdict == Answer && (d.Status < 200 || d.Status > 599):
		d.Status = http.StatusNoContent
	case d.Verdict == Deny && (d.Status < 400 || d.Status > 599):
		d.Status = http.StatusForbidden // a refusal never looks like success
	}
	if d.Event == "" {
		d.Event = l.Spec.Event
	}
	if d.Severity == 0 {
		d.Severity = l.Spec.Severity
	}
	if d.Severity == 0 {
		d.Severity = event.Warn
	}
	switch {
	case d.Verdict == Deny && mode == Observe:
		d.Verdict = Observed
		l.observed.Add(1)
	case d.Verdict == Deny:
		l.denied.Add(1)
	case d.Verdict == Answer:
		l.answered.Add(1)
		if d.Severity == event.Warn && l.Spec.Severity == 0 {
			d.Severity = event.Info
		}
	case d.Verdict == Observed:
		l.observed.Add(1)
	}
	x.Decisions = append(x.Decisions, d)
	if c.o.Metrics != nil {
		c.o.Metrics.Decision(d)
	}
	return d
}

// noted takes over what a layer noted beside its decision.
func (c *Chain) noted(l *bound, x *Exchange, mode Mode) {
	for _, d := range x.notes {
		d.Layer, d.Mode = l.Spec.Name, mode
		x.Decisions = append(x.Decisions, d)
		if c.o.Metrics != nil {
			c.o.Metrics.Decision(d)
		}
	}
	x.notes = x.notes[:0]
}

// refusal carries a responder's Deny through the forwarder.
type refusal struct{ d Decision }

func (r *refusal) Error() string { return r.d.Reason }

// respond lets an answer of the app pass the responders.
func (c *Chain) respond(x *Exchange, res *http.Response, proof string) error {
	if d := c.responders(x, res, false); d.Verdict == Deny {
		return &refusal{d}
	}
	if on, live := goesOn(res); on {
		if d := c.stream(x, live); d.Verdict == Deny {
			return &refusal{d}
		}
	}
	c.mark(x, res.Header, proof)
	return nil
}

func (c *Chain) mark(x *Exchange, h http.Header, proof string) {
	h.Set("X-Request-Id", x.ID)
	h.Del(evidence.GuardHeader)
	if proof != "" {
		h.Set(evidence.GuardHeader, proof)
	}
}

// responders lets an answer pass the layers that look at answers. A page of
// our own is changed like any other, but not refused: it is what a refusal
// would be replaced by.
func (c *Chain) responders(x *Exchange, res *http.Response, own bool) Decision {
	for i := range c.layers {
		l := &c.layers[i]
		if l.responder == nil {
			continue
		}
		if _, failed := x.stacks[l.Spec.Name]; failed && own {
			continue // its failure is why this page is sent
		}
		mode := l.mode(x)
		if mode == Off {
			continue
		}
		var before http.Header
		status, line, body := res.StatusCode, res.Status, res.Body
		if mode == Observe {
			before = res.Header.Clone()
		}
		d := c.answerOf(l, x, res)
		if len(x.notes) > 0 {
			c.noted(l, x, mode)
		}
		if own && d.Reason != "layer-failed" {
			d = Pass()
		}
		d = c.settle(l, x, d, mode)
		if mode == Observe {
			res.StatusCode, res.Status = status, line
			restore(res, body)
			c.undo(l, x, res, before, own)
		} else if d.Verdict == Deny || d.Verdict == Answer {
			d.Verdict = Deny // there is no other answer to an answer
			if d.Status < 400 {
				d.Status = http.StatusBadGateway
			}
			if !own {
				return d
			}
		}
	}
	return Pass()
}

func (c *Chain) answerOf(l *bound, x *Exchange, res *http.Response) (d Decision) {
	defer func() {
		if v := recover(); v != nil {
			d = c.broken(l, x, v)
		}
	}()
	return l.responder.Response(x, res)
}

// undo takes back what an observing responder changed in the header ([restore]
// the body), and
// notes what it would have changed.
func (c *Chain) undo(l *bound, x *Exchange, res *http.Response, before http.Header, own bool) {
	var changed []string
	for name, v := range res.Header {
		if !slices.Equal(v, before[name]) {
			changed = append(changed, name)
		}
	}
	for name := range before {
		if _, ok := res.Header[name]; !ok {
			changed = append(changed, name)
		}
	}
	if len(changed) == 0 {
		return
	}
	slices.Sort(changed)
	for name := range res.Header {
		delete(res.Header, name)
	}
	for name, v := range before {
		res.Header[name] = v
	}
	if own {
		return // the app's answer, not ours, is what an operator tunes the layer for
	}
	c.settle(l, x, Decision{Verdict: Observed, Reason: "would-change", Detail: strings.Join(changed, ", "), Event: "dewar_would_change", Severity: event.Info}, Observe)
}

// Names for decisions that no layer made.
const (
	upstreamLayer = "upstream"
	// inputEvent is the event of a request whose body did not arrive.
	inputEvent = "input_validation_fail"
	crashEvent = "sys_crash"
)

// Reasons documents what the chain itself says: of the app's server, of a
// layer that failed, and of itself. The reasons of the layers stand in their
// [Spec].
var Reasons = []Reason{
	{"upstream-down", "The app's server takes no connections: it is being started, has ended, or its queue is full. The client got 503 with Retry-After.", "See what the app wrote before (app │ in the output), and \"dewar check\"; with app.upstream, start what runs the app."},
	{"upstream-timeout", "The app did not begin its answer within deployment.timeout. The client got 504.", "Let long work run outside of requests, or raise deployment.timeout."},
	{"upstream-broken", "The app's server closed the connection without an answer, or sent one that two readers could understand differently: contradicting lengths, control characters in a header, a protocol switch that nobody asked for (CWE-113, CWE-444). The detail says which. The client got 502.", "Correct the app or its server; a worker that was killed (out of memory, time-out) is in the app's output."},
	{"answer-cut", "The answer had begun and broke off before its end. The connection was cut, so that the client does not take it for a whole one.", "Look for the app's exception under the same request id; an answer that pauses for longer than deployment.stream-timeout is cut, too."},
	{"layer-failed", "A layer panicked or its store is gone. Where it fails closed the client got 503; the stack is in the event.", "Report the stack as a bug; until then the layer can be set to observe for the route."},
	{"guard-failed", "The guard itself panicked while it handed the request on. The client got 500; the stack is in the event.", "Report the stack as a bug."},
	{"would-change", "A layer that only observes would have changed these header fields of the answer.", "Nothing: it is what the layer will do when its mode is enforce."},
}

// explain turns the forwarder's error into a decision. tell is false when
// nobody is there to be told.
func (c *Chain) explain(x *Exchange, err error) (d Decision, tell bool) {
	var denied *refusal
	var up *UpstreamError
	var tooLarge *http.MaxBytesError
	var slow net.Error
	var fault *wire.Fault
	switch {
	case errors.As(err, &denied):
		return denied.d, true
	case errors.As(err, &fault):
		d = Refuse(fault.Status, fault.Reason, fault.Detail)
	case errors.Is(err, ErrClientGone):
		return d, false
	case errors.As(err, &up):
		if up.Status < 500 || up.Status > 599 {
			up = &UpstreamError{Status: http.StatusBadGateway, RetryAfter: up.RetryAfter, Reason: up.Reason, Err: up.Err}
		}
		d = Refuse(up.Status, up.Reason, err.Error())
		d.Event, d.Severity = crashEvent, event.High
		if up.RetryAfter > 0 {
			d.Header = http.Header{"Retry-After": {fmt.Sprint(int64((up.RetryAfter + time.Second - 1) / time.Second))}}
		}
	// What is left is the client's body, which the app read while it came.
	case errors.Is(err, ErrBodyStorage):
		d = Refuse(http.StatusServiceUnavailable, "body-storage", err.Error())
		d.Event, d.Severity = crashEvent, event.High
	case errors.As(err, &tooLarge):
		d = Refuse(http.StatusRequestEntityTooLarge, "body-too-large", err.Error())
	case errors.As(err, &slow) && slow.Timeout(), errors.Is(err, os.ErrDeadlineExceeded):
		d = Refuse(http.StatusRequestTimeout, "body-slow", "the body did not arrive in time")
	default:
		d = Refuse(http.StatusBadRequest, "body-incomplete", err.Error())
	}
	if d.Event == "" {
		d.Event, d.Severity = inputEvent, event.Warn
	}
	d.Layer = upstreamLayer
	switch {
	case fault != nil && fault.Reason != wire.BadChunks:
		d.Layer = pathLayer
	case d.Event == inputEvent, errors.Is(err, ErrBodyStorage):
		d.Layer = "body" // whose reason it is
	}
	x.Decisions = append(x.Decisions, d)
	if c.o.Metrics != nil {
		c.o.Metrics.Decision(d)
	}
	return d, true
}

// finish counts the request and writes its events: one for every decision,
// and one for a request that was not ended by a decision, with LogAllowed.
func (c *Chain) finish(x *Exchange, w *recorder, asked *request) {
	now := c.o.Now()
	took := now.Sub(x.Start)
	if c.o.Metrics != nil {
		c.o.Metrics.Request(x, w.status, w.bytes, took)
	}
	cut := w.status == statusAborted
	if cut {
		x.Decisions = append(x.Decisions, Decision{
			Layer: upstreamLayer, Reason: "answer-cut", Event: crashEvent, Severity: event.High, Status: statusAborted,
			Detail: "the answer broke off: the connection was cut, so that the client does not take it for a whole one",
		})
	}
	if len(x.Decisions) == 0 && !c.o.LogAllowed {
		return
	}
	base := event.Event{
		Time: now, RequestID: x.ID, Method: asked.method, Scheme: x.Client.Scheme, Host: asked.host, Path: asked.path, Query: asked.query,
		Status: w.status, Bytes: w.bytes, Client: x.Client.Addr, UserAgent: asked.agent, Duration: float64(took.Microseconds()) / 1000,
	}
	final := cut
	for _, d := range x.Decisions {
		if d.Quiet && d.Verdict == Answer {
			continue
		}
		e := base
		e.ID, e.Name, e.Severity = event.NewID(now), d.Event, d.Severity
		e.Layer, e.Verdict, e.Reason, e.Detail = d.Layer, d.Verdict.String(), d.Reason, d.Detail
		if e.Name == "" {
			e.Name = "http_request"
		}
		e.Control = c.controlOf(d.Layer)
		e.Attributes = d.Attributes
		if stack, ok := x.stacks[d.Layer]; ok && (d.Reason == "layer-failed" || d.Reason == "guard-failed") {
			e.Attributes = map[string]string{"stack": stack}
		}
		final = final || d.Verdict == Deny || d.Verdict == Answer
		c.o.Publish(e)
	}
	if !final && c.o.LogAllowed {
		base.ID, base.Name, base.Severity, base.Verdict = event.NewID(now), "http_request", event.Info, Allow.String()
		c.o.Publish(base)
	}
}

// controlOf returns the promise that a layer keeps. The app's server is kept
// by deployment, a body that the chain itself read by uploads.
func (c *Chain) controlOf(layer string) string {
	for i := range c.layers {
		if c.layers[i].Spec.Name == layer {
			return string(c.layers[i].Spec.Control)
		}
	}
	if layer == "body" {
		return "uploads"
	}
	return "deployment"
}

// peerOf returns the other end of the connection; the zero address for a
// unix socket.
func peerOf(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// recorder remembers what the client got.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	wrote  bool
}

// Unwrap lets [http.ResponseController] reach flush, hijack and deadlines.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter]. A 1xx is not the answer yet,
// except 101, after which there is none.
func (w *recorder) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.wrote, w.status = true, status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *recorder) Write(p []byte) (int, error) {
	if !w.wrote {
		w.wrote, w.status = true, http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Hijack implements [http.Hijacker]: after it the answer is 101 and nothing
// more can be said on this connection.
func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.wrote, w.status = true, http.StatusSwitchingProtocols
	}
	return c, rw, err
}

// Health returns the state of every layer by name: nil when it works, as far
// as it can tell.
func (c *Chain) Health() map[string]error {
	out := make(map[string]error, len(c.layers))
	for i := range c.layers {
		out[c.layers[i].Spec.Name] = nil
		if r, ok := c.layers[i].Layer.(Reporter); ok && c.layers[i].Mode != Off {
			out[c.layers[i].Spec.Name] = r.Health()
		}
	}
	return out
}

// Close closes the layers that can be closed, when another chain has taken
// this one's place and its last request has ended.
func (c *Chain) Close() error {
	var errs []error
	for i := range c.layers {
		if l, ok := c.layers[i].Layer.(io.Closer); ok {
			if err := l.Close(); err != nil {
				errs = append(errs, fmt.Errorf("layer %s: %w", c.layers[i].Spec.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Evidence says what the guard enforces now, one line per layer.
func (c *Chain) Evidence() []evidence.Evidence {
	var out []evidence.Evidence
	now := c.o.Now()
	for i := range c.layers {
		l := &c.layers[i]
		e := evidence.Evidence{Control: l.Spec.Control, Face: evidence.Guard, Check: l.Spec.Name, Layer: l.Spec.Name, Partial: l.Spec.Partial, Time: now}
		reporter, _ := l.Layer.(Reporter)
		var health error
		what := l.Spec.Does
		if reporter != nil {
			health = reporter.Health()
			if d := reporter.Describe(); d != "" {
				what = d
			}
		}
		counts := fmt.Sprintf("%d requests seen, %d refused, %d observed", l.seen.Load(), l.denied.Load(), l.observed.Load())
		switch {
		case l.Mode == Off:
			e.Summary = "layer " + l.Spec.Name + " is switched off in the settings"
			if idler, ok := l.Layer.(Idler); ok && idler.Idle() != "" {
				e.Summary = "layer " + l.Spec.Name + " is off: " + idler.Idle()
			}
		case errors.Is(health, ErrDegraded):
			e.Summary = fmt.Sprintf("layer %s refuses what it should, and is %v", l.Spec.Name, health)
		case health != nil:
			e.Summary = fmt.Sprintf("layer %s cannot work: %v", l.Spec.Name, health)
		case l.Mode == Observe && l.Spec.Advises:
			e.Outcome = evidence.NotApplicable
			e.Summary = fmt.Sprintf("layer %s notes, and refuses nothing: %s (%d noted)", l.Spec.Name, strings.TrimSuffix(what, "."), l.observed.Load())
		case l.Mode == Observe:
			e.Summary = fmt.Sprintf("layer %s only observes: %d would have been refused", l.Spec.Name, l.observed.Load())
		default:
			e.Outcome = evidence.Pass
			e.Summary = fmt.Sprintf("layer %s enforces: %s (%s)", l.Spec.Name, strings.TrimSuffix(what, "."), counts)
		}
		if n := l.failed.Load(); n > 0 {
			e.Outcome = evidence.Error
			e.Summary = fmt.Sprintf("layer %s failed on %d requests: see the log", l.Spec.Name, n)
		}
		var weaker []string
		for _, o := range c.overrides {
			if m, ok := o.Modes[l.Spec.Name]; ok && m != Enforce && l.Mode == Enforce {
				weaker = append(weaker, fmt.Sprintf("%s on %s because %s", m, o.Path, o.Reason))
			} else if o.Stream && l.Mode == Enforce && slices.Contains(readsBodies, l.Spec.Name) {
				weaker = append(weaker, fmt.Sprintf("request bodies stream past it on %s because %s", o.Path, o.Reason))
			}
		}
		if len(weaker) > 0 {
			e.Summary += "; " + strings.Join(weaker, "; ")
		}
		out = append(out, e)
		if p, ok := l.Layer.(Prover); ok && e.Outcome == evidence.Pass && len(weaker) == 0 {
			for _, more := range p.Proves() {
				more.Face, more.Layer, more.Time = evidence.Guard, l.Spec.Name, now
				out = append(out, more)
			}
		}
	}
	return out
}

// readsBodies are the layers that see nothing of a body which streams past.
var readsBodies = []string{"body", "parameters", "virtual-patches", "files", "waf"}
