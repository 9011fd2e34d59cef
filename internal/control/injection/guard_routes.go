package injection

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/waf"
)

var routesSpec = &guard.Spec{
	Name:     "routes",
	Partial:  true,
	Control:  "injection",
	Does:     "answers in the app's place where the app has no route, with the app's own page, and notes bodies that a route does not read",
	Blocking: true,
	Event:    "input_validation_fail",
	Severity: event.Info,
	Failure:  guard.FailOpen,
	Reasons: []guard.Reason{
		{Name: "route-unknown", Why: "The app that runs has no rule for the path: a scanner, a typing error or an old link. Where nothing else in the app can answer it, the app's own 404 is given without bothering the app.", Fix: "Nothing, if the app says 404 as well. A path that something outside of the app's url_map answers is let through; report one that is not."},
		{Name: "route-method", Why: "The app has a rule for the path, and none that takes this method.", Fix: "Nothing, if the app says 405 as well."},
		{Name: "route-body", Why: "The request has a body, and by its source the route reads none.", Fix: "Nothing: it is only noted. A route of which the source is misread is worth reporting."},
		{Name: "route-body-kind", Why: "The body is of another kind than what the route reads by its source: JSON for a form, or the other way.", Fix: "Nothing: it is only noted."},
	},
}

// Bounds on the app's own pages that are kept.
const (
	maxPage  = 64 << 10 // bytes of one page
	maxPages = 256      // kinds of pages; with more, all are asked for anew
)

// Routes is the routes layer.
type Routes struct {
	facts  func() guard.Facts
	policy func() *policy.Policy

	mu    sync.Mutex // held while a map is made
	known atomic.Pointer[liveMap]
}

// liveMap is what the running app said of its routes, made fast to ask.
type liveMap struct {
	of   *guard.FactRoute // first of the routes that it was made of
	n    int
	p    *policy.Policy // nil if it cannot be made
	why  string         // why nothing is certain, "" if it is
	tops map[string]bool

	// surprise is a path without a rule that the app answered all the same:
	// from then on nothing is certain.
	surprise atomic.Pointer[string]

	mu    sync.RWMutex
	pages map[pageKind]*page
	// varies counts kinds of pages that differ from one request to the next.
	varies int
}

// pageKind tells apart requests that an app may give different error pages.
type pageKind struct {
	status               int
	host, form, language string
	top                  string // first part of a longer path, if a rule has it, too
	fetched              bool   // X-Requested-With
}

// page is an error page of the app's.
type page struct {
	header http.Header
	body   []byte
	// path is the first one that it was given for. Only when the app gave
	// the very same for another path it is the page for all of them.
	path   string
	proven bool
	varies bool
}

// NewRoutes returns the routes layer.
func NewRoutes(cfg Config, env guard.Env) (guard.Layer, error) {
	if p := cfg.Problems(); len(p) > 0 {
		return nil, fmt.Errorf("injection.%s: %s", p[0].Key, p[0].Message)
	}
	return &Routes{facts: env.Facts, policy: env.Policy}, nil
}

// live returns the routes of the app that runs, or nil.
func (l *Routes) live() *liveMap {
	if l.facts == nil {
		return nil
	}
	f := l.facts()
	if !f.Known || len(f.Routes) == 0 {
		return nil
	}
	of := unsafe.SliceData(f.Routes)
	if m := l.known.Load(); m != nil && m.of == of && m.n == len(f.Routes) {
		return m
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.known.Load(); m != nil && m.of == of && m.n == len(f.Routes) {
		return m
	}
	m := newLiveMap(f)
	m.of, m.n = of, len(f.Routes)
	l.known.Store(m)
	return m
}

func newLiveMap(f guard.Facts) *liveMap {
	m := &liveMap{tops: map[string]bool{}, pages: map[pageKind]*page{}}
	var routes []*policy.Route
	for _, r := range f.Routes {
		route := &policy.Route{Rule: r.Rule, Methods: r.Methods, Endpoint: r.Endpoint}
		for name, expr := range r.Converters {
			route.Params = append(route.Params, policy.Param{Name: name, Regex: expr})
		}
		routes = append(routes, route)
		if top := topOf(r.Rule); !strings.Contains(top, "<") {
			m.tops[top] = true
		}
	}
	var err error
	if m.p, err = policy.New(routes); err != nil {
		m.why = err.Error()
	} else if len(f.Elsewhere) > 0 {
		m.why = f.Elsewhere[0]
	}
	return m
}

// topOf returns the first part of a path.
func topOf(path string) string {
	path = strings.TrimLeft(path, "/")
	top, _, _ := strings.Cut(path, "/")
	return top
}

// Health implements [guard.Reporter].
func (l *Routes) Health() error { return nil }

// Describe implements [guard.Reporter].
func (l *Routes) Describe() string {
	m := l.live()
	if m == nil || m.p == nil {
		if p := l.source(); p != nil {
			return fmt.Sprintf("only notes what none of the %d routes of the source answers: the app that runs was not asked", len(p.Routes()))
		}
		return "nothing: the app's routes are not known"
	}
	if s := m.surprise.Load(); s != nil {
		return fmt.Sprintf("only notes what none of the app's %d rules answers, since the app answered %s without one", m.n, quoteShort(*s))
	}
	if m.why != "" {
		return fmt.Sprintf("only notes what none of the app's %d rules answers, since something else may answer it: %s", m.n, m.why)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := fmt.Sprintf("what none of the app's %d rules answers does not reach it", m.n)
	if m.varies > 0 {
		s += ", but where its error page differs from one request to the next"
	}
	return s
}

func (l *Routes) source() *policy.Policy {
	if l.policy == nil {
		return nil
	}
	return l.policy()
}

// Request implements [guard.Layer].
func (l *Routes) Request(x *guard.Exchange) guard.Decision {
	p := l.source()
	live := l.live()
	method := x.Request.Method
	if live == nil || live.p == nil {
		m := x.Match(p)
		switch {
		case len(m.Routes) > 0:
			return bodyKind(x, m)
		case !m.Certain():
			return guard.Pass()
		case m.Path:
			return noted(http.StatusMethodNotAllowed, "route-method", method+": by the source the route does not answer it")
		}
		return noted(http.StatusNotFound, "route-unknown", "the source has no route for it")
	}
	m := live.p.Match(method, x.Path)
	status, reason, detail := http.StatusNotFound, "route-unknown", "no rule of the app matches"
	switch {
	case len(m.Routes) > 0:
		return bodyKind(x, x.Match(p))
	case m.Path:
		status, reason, detail = http.StatusMethodNotAllowed, "route-method", method+": the app answers "+allow(m.Others)
	}
	for _, name := range methodOverrides {
		if len(x.Request.Header[name]) > 0 {
			return noted(status, reason, detail+"; a header may choose another method")
		}
	}
	switch s := live.surprise.Load(); {
	case live.why != "":
		return noted(status, reason, detail+"; let through: "+live.why)
	case s != nil:
		return noted(status, reason, detail+"; let through: the app answered "+quoteShort(*s)+" without a rule")
	}
	own := live.page(pageOf(live, x, status))
	if own == nil {
		return noted(status, reason, detail+"; let through: the app's own page is not known yet")
	}
	d := guard.Refuse(status, reason, detail)
	d.Header, d.Body = own.header, own.body
	if status == http.StatusMethodNotAllowed {
		d.Header = own.header.Clone()
		d.Header.Set("Allow", allow(m.Others))
	}
	return d
}

// noted is a decision that only says what was seen.
func noted(status int, reason, detail string) guard.Decision {
	return guard.Decision{Verdict: guard.Observed, Status: status, Reason: reason, Detail: detail, Severity: event.Info}
}

// allow returns the methods of some routes for the Allow field, sorted.
func allow(routes []*policy.Route) string {
	var all []string
	for _, r := range routes {
		all = append(all, r.Methods...)
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
}

func pageOf(m *liveMap, x *guard.Exchange, status int) pageKind {
	h := x.Request.Header
	k := pageKind{status: status, host: x.Client.Host, form: guard.Wants(x.Request), fetched: len(h["X-Requested-With"]) > 0}
	if l := h["Accept-Language"]; len(l) > 0 {
		k.language = l[0]
	}
	if len(k.language) > 128 {
		k.language = k.language[:128]
	}
	// A part of the app, such as its API, may have pages of its own; what
	// stands at the top by itself is no part.
	if top := topOf(x.Path); m.tops[top] && strings.Contains(strings.Trim(x.Path, "/"), "/") {
		k.top = top
	}
	return k
}

// page returns the app's own page of a kind, if it is proven.
func (m *liveMap) page(k pageKind) *page {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if p := m.pages[k]; p != nil && p.proven {
		return p
	}
	return nil
}

// Response implements [guard.Responder]: it learns the app's own pages from
// what it answers to requests that were let through, and that the app answers
// what no rule has.
func (l *Routes) Response(x *guard.Exchange, r *http.Response) guard.Decision {
	let := false
	for i := range x.Decisions {
		switch d := &x.Decisions[i]; {
		case d.Verdict == guard.Deny || d.Verdict == guard.Answer:
			return guard.Pass() // a page of the guard's
		case d.Layer == routesSpec.Name && d.Status >= 400:
			let = true
		}
	}
	if !let {
		return guard.Pass()
	}
	live := l.live()
	if live == nil || live.p == nil || live.why != "" {
		return guard.Pass()
	}
	if m := live.p.Match(x.Request.Method, x.Path); len(m.Routes) > 0 {
		return guard.Pass() // the app was loaded anew in between
	}
	switch {
	case r.StatusCode < 400:
		path := x.Request.Method + " " + x.Path
		live.surprise.CompareAndSwap(nil, &path)
	case r.StatusCode == http.StatusNotFound || r.StatusCode == http.StatusMethodNotAllowed:
		live.learn(x, r)
	}
	return guard.Pass()
}

// learn keeps an error page that the app gave to somebody of whom it knows
// nothing.
func (m *liveMap) learn(x *guard.Exchange, r *http.Response) {
	h := x.Request.Header
	if x.Request.Method == http.MethodHead || len(h["Cookie"]) > 0 || len(h["Authorization"]) > 0 || x.Identity.Subject != "" || x.Identity.Account != "" ||
		len(r.Header["Set-Cookie"]) > 0 || len(r.Header["Content-Encoding"]) > 0 || r.ContentLength > maxPage {
		return
	}
	k := pageOf(m, x, r.StatusCode)
	m.mu.RLock()
	old := m.pages[k]
	m.mu.RUnlock()
	if old != nil && (old.proven || old.varies) {
		return
	}
	body, err := guard.PeekBody(r, maxPage+1)
	if err != nil || len(body) > maxPage {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old = m.pages[k]
	switch {
	case old == nil:
		if len(m.pages) >= maxPages {
			clear(m.pages)
			m.varies = 0
		}
		header := r.Header.Clone()
		for _, name := range []string{"Date", "Content-Length", "Connection", "Keep-Alive", "Transfer-Encoding", "Trailer", "Server", "X-Request-Id", "Allow"} {
			header.Del(name)
		}
		m.pages[k] = &page{header: header, body: bytes.Clone(body), path: x.Path}
	case old.path == x.Path:
		// Another path has to prove that the page does not quote it.
	case bytes.Equal(old.body, body) && old.header.Get("Content-Type") == r.Header.Get("Content-Type"):
		old.proven = true
	default:
		old.varies, old.body, old.header = true, nil, nil
		m.varies++
	}
}

// bodyKind notes a body that none of the routes that could answer reads.
func bodyKind(x *guard.Exchange, m policy.Match) guard.Decision {
	r := x.Request
	if len(m.Routes) == 0 || r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return guard.Pass()
	}
	reads := false
	var form, isJSON, named bool
	for _, route := range m.Routes {
		if route.OtherFields || route.CSRF == "checked" || len(route.Kinds) == 0 {
			return guard.Pass() // it reads what has no name here
		}
		reads = reads || route.ReadsBody
		for _, f := range route.Fields {
			switch f.In {
			case policy.Form, policy.File:
				form, named, reads = true, true, true
			case policy.JSON:
				isJSON, named, reads = true, true, true
			}
		}
	}
	if !reads {
		return noted(0, "route-body", "by its source "+m.Routes[0].Endpoint+" reads no body")
	}
	if !named {
		return guard.Pass()
	}
	switch kind := waf.MediaType(r.Header.Get("Content-Type")); {
	case !form && (kind == "application/x-www-form-urlencoded" || kind == "multipart/form-data"):
		return noted(0, "route-body-kind", "a form, and by its source "+m.Routes[0].Endpoint+" reads JSON")
	case !isJSON && (kind == "application/json" || strings.HasSuffix(kind, "+json")):
		return noted(0, "route-body-kind", "JSON, and by its source "+m.Routes[0].Endpoint+" reads a form")
	}
	return guard.Pass()
}

// quoteShort makes text from a request fit for a sentence.
func quoteShort(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "…"
	}
	return fmt.Sprintf("%q", s)
}
