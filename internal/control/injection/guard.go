package injection

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/waf"
)

var layers = []*guard.Spec{routesSpec, parametersSpec, patchesSpec, wafSpec}

var wafSpec = &guard.Spec{
	Name:     "waf",
	Partial:  true, // a net with holes, as every WAF
	Control:  "injection",
	Does:     "refuses requests in which the OWASP Core Rule Set finds an attack",
	Blocking: true,
	Event:    "input_validation_fail",
	Severity: event.High,
	Failure:  guard.FailClosed,
	Reasons: []guard.Reason{
		{Name: "waf-attack", Why: "The request looks like an attack: SQL, shell, template or script code, a path traversal, a known exploit.", Fix: "The event names the rules and the parameter; exclude that rule for that parameter on that route, with a reason."},
		{Name: "waf-structure", Why: "A database, a shell, a browser or another interpreter would read structure in a value where plain data is expected, perhaps after undoing Base64 or another encoding.", Fix: "The event names the kind and the parameter; if the parameter holds such text by design, exclude that id for it on that route, with a reason."},
		{Name: "waf-prose", Why: "Rules matched what is prose by its grammar, or is certain to be only data to the interpreter that they are about; the request passed.", Fix: "Nothing: it is noted so that you can see it. injection.structure = false makes the rules have the last word."},
		{Name: "waf-rule", Why: "A single rule refused the request by itself.", Fix: "Look at the rule that the event names."},
		{Name: "waf-malformed", Why: "The body is not what its Content-Type says, so the app might read something else than the rules did.", Fix: "Correct the client."},
		{Name: "waf-arguments", Why: "Thousands of values would hide an attack or cost minutes of CPU (CWE-770).", Fix: "Raise max-arguments."},
		{Name: "waf-too-large", Why: "There is more text in the body than is inspected; an attack could stand behind the padding.", Fix: "Raise inspect-body, or accept the risk with oversize = \"inspect-prefix\"."},
		{Name: "waf-busy", Why: "The client sent one request after the other that only the slow reference engine can judge; it has to wait, so that it cannot take the processors (CWE-770).", Fix: "Look at the event's client. An honest one whose requests the compiled rules cannot tell is a bug worth reporting."},
		{Name: "waf-body", Why: "The body could not be read for inspection.", Fix: "Nothing: the client went away, or sent too much."},
		{Name: "waf-failed", Why: "The rules could not be run; nothing passes uninspected.", Fix: "Look at the event's detail; report a bug if it is none of the machine's."},
		{Name: "waf-response", Why: "The response looks like a leak: a database error, source code, a web shell.", Fix: "Correct the app, or exclude the rule for the route."},
	},
}

var services = []*guard.Service{{
	Name:    "route-map",
	Control: "injection",
	Does:    "tells the layers what the app's source expects of each request: its routes, and the fields that each reads, with their types",
	Why:     "A field that the code reads as a number cannot become SQL; a rule about it would only stop honest requests. And what the guard does not know of the app it cannot hold requests to.",
	Fix:     "Let dewar run read the project (app.policy = \"auto\"), or check in dewar.policy.json, made by dewar routes --json.",
}}

// inspector is what the layer needs of package waf.
type inspector interface {
	Inspect(context.Context, waf.Request) (waf.Verdict, error)
	InspectResponse(waf.Response) (waf.Verdict, error)
	Plan(...waf.Exclusion) (*waf.Plan, error)
	Rules() int
	Paranoia() int
	RulesOf(from, to int) []int
	Gap() string
}

// WAF is the waf layer.
type WAF struct {
	engine inspector
	cfg    Config
	budget budget

	mu     sync.RWMutex
	plans  map[*guard.Override]*waf.Plan
	broken error // the first route override whose exclusions do not compile
	// unrecorded is why the last request was not recorded, untyped the first
	// route whose types could not be made use of.
	unrecorded, untyped error

	record *recorder // nil: nothing is recorded

	policy func() *policy.Policy // may be nil, and return nil
	typed  sync.Map              // *policy.Route to its *waf.Plan or nil
}

// NewWAF loads the rules and returns the waf layer.
func NewWAF(cfg Config, env guard.Env) (guard.Layer, error) {
	return newWAF(cfg, env, false)
}

// NewReference is [NewWAF] with Coraza alone, which judges every request at a
// hundred times the cost: what the layer is compared with.
func NewReference(cfg Config, env guard.Env) (guard.Layer, error) {
	return newWAF(cfg, env, true)
}

func newWAF(cfg Config, env guard.Env, reference bool) (guard.Layer, error) {
	if p := cfg.Problems(); len(p) > 0 {
		return nil, fmt.Errorf("injection.%s: %s", p[0].Key, p[0].Message)
	}
	of := cfg.engineConfig()
	of.Reference = reference
	engine, err := waf.New(of)
	if err != nil {
		return nil, err
	}
	l := &WAF{engine: engine, cfg: cfg, policy: env.Policy, budget: budget{now: time.Now}, plans: map[*guard.Override]*waf.Plan{}}
	if cfg.Record != "" {
		if l.record, err = newRecorder(cfg.Record, cfg.RecordSize); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Close implements [io.Closer].
func (l *WAF) Close() error {
	if l.record == nil {
		return nil
	}
	return l.record.close()
}

// CheckOverride compiles the exclusions of a route override ahead of the first
// request, so that a wrong rule id is an error at the start. Without it the
// mistake shows in [WAF.Health], and the route is inspected in full.
func (l *WAF) CheckOverride(o *guard.Override) error {
	_, err := l.plan(o)
	return err
}

// plan returns the compiled exclusions of o.
func (l *WAF) plan(o *guard.Override) (*waf.Plan, error) {
	if o == nil || len(o.WAF.Exclude) == 0 && len(o.WAF.Parameters) == 0 {
		return nil, nil
	}
	l.mu.RLock()
	p, ok := l.plans[o]
	l.mu.RUnlock()
	if ok {
		return p, nil
	}
	p, err := l.engine.Plan(waf.Exclusion{Rules: o.WAF.Exclude, Parameters: o.WAF.Parameters})
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("[[route]] %s: %w", o.Path, err)
		if l.broken == nil {
			l.broken = err
		}
		return nil, err
	}
	l.plans[o] = p
	return p, nil
}

// typedPlan returns what a request is exempt from because of what its route
// reads: a parameter that the code turns into a number cannot become SQL. Nil
// where nothing is known. body returns the body's beginning.
func (l *WAF) typedPlan(method, path, query string, h http.Header, body func() []byte) *waf.Plan {
	if l.policy == nil {
		return nil
	}
	p := l.policy()
	if p == nil {
		return nil
	}
	m := p.Match(method, path)
	if len(m.Routes) != 1 {
		return nil // none, or routes that may disagree
	}
	plan := l.typedRoute(p, m)
	if plan != nil && overridesMethod(query, h, body) {
		return nil // the app may take it for a request to another route
	}
	return plan
}

// typedRoute returns the plan of the one route of a match.
func (l *WAF) typedRoute(p *policy.Policy, m policy.Match) *waf.Plan {
	route := m.Routes[0]
	if plan, ok := l.typed.Load(route); ok {
		return plan.(*waf.Plan)
	}
	var plan *waf.Plan
	var exclude []waf.Exclusion
	if names := numbers(route); len(names) > 0 {
		exclude = append(exclude, waf.Exclusion{Parameters: names})
	}
	if names := richTexts(route); len(names) > 0 && l.cfg.Structure {
		// Markup is what belongs there; what runs script is still found by
		// its grammar.
		exclude = append(exclude, waf.Exclusion{Rules: l.engine.RulesOf(941000, 941999), Parameters: names})
	}
	if names := passwords(p, m); len(names) > 0 && l.cfg.Structure {
		// Good passwords are full of what rules take for attacks, and some by
		// chance of what has grammar. What runs something, and what is not
		// random by its look, is still found by its grammar.
		exclude = append(exclude, waf.Exclusion{Rules: l.engine.RulesOf(930000, 944999), Parameters: names, Secret: true})
	}
	if len(exclude) > 0 {
		var err error
		if plan, err = l.engine.Plan(exclude...); err != nil {
			plan = nil
			l.mu.Lock()
			if l.untyped == nil {
				l.untyped = fmt.Errorf("%s: %w", route.Rule, err)
			}
			l.mu.Unlock()
		}
	}
	l.typed.Store(route, plan)
	return plan
}

// methodOverrides are headers that middleware takes for the method, and
// methodField is the field of a form or query that it does.
var methodOverrides = [...]string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"}

const methodField = "_method"

// overridesMethod reports whether middleware in the app could take a request
// for one of another method.
func overridesMethod(query string, h http.Header, body func() []byte) bool {
	for _, name := range methodOverrides {
		if len(h[name]) > 0 {
			return true
		}
	}
	if namesMethod(query) {
		return true
	}
	switch waf.MediaType(h.Get("Content-Type")) {
	case "application/x-www-form-urlencoded":
		return namesMethod(string(body()))
	case "multipart/form-data":
		// Wherever it stands: the ways to write a name there are many.
		return bytes.Contains(bytes.ToLower(body()), []byte(methodField)) || bytes.Contains(body(), []byte("name*"))
	}
	return false
}

// namesMethod reports whether fields, as in a query, have one of that name.
func namesMethod(fields string) bool {
	for field := range strings.FieldsFuncSeq(fields, func(c rune) bool { return c == '&' || c == ';' }) {
		name, _, _ := strings.Cut(field, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		if strings.EqualFold(strings.TrimSpace(name), methodField) {
			return true
		}
	}
	return false
}

// numbers returns the names that a route reads as numbers, dates and the like
// and as nothing else, wherever in the request they stand.
func numbers(r *policy.Route) []string {
	return typedAs(r, "int", "float", "bool", "UUID")
}

// passwordField matches what a field with a password is called.
var passwordField = regexp.MustCompile(`(?i)passw|passphrase|^pass$|(?:^|[_-])pwd|pwd$`)

// passwords returns the names of the form and JSON fields of a route that hold
// a password, as far as the audit found nowhere that its text could do harm.
func passwords(p *policy.Policy, m policy.Match) []string {
	r := m.Routes[0]
	held := map[string]bool{}
	all := false
	p.Patched(m, func(_ *policy.Route, one policy.Patched) {
		held[strings.ToLower(one.Name)] = true
		all = all || one.Name == ""
	})
	var out []string
	for _, f := range r.Fields {
		name := strings.ToLower(f.Name)
		if (f.In == policy.Form || f.In == policy.JSON) && f.Type == "" && passwordField.MatchString(name) && !all && !held[name] &&
			!strings.ContainsAny(name, "*.") && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// richTexts returns the names that a route reads as markup and as nothing
// else.
func richTexts(r *policy.Route) []string { return typedAs(r, "html") }

func typedAs(r *policy.Route, types ...string) []string {
	if r.OtherFields {
		return nil // the same name may be read as text
	}
	number := map[string]bool{}
	for _, f := range r.Fields {
		switch f.In {
		case policy.Query, policy.Form, policy.JSON:
			// Exclusions and the rules tell names apart without case; the
			// app does not.
			is := slices.Contains(types, f.Type)
			name := strings.ToLower(f.Name)
			old, seen := number[name]
			number[name] = is && (old || !seen)
		}
	}
	for _, param := range r.Params {
		delete(number, strings.ToLower(param.Name))
	}
	var out []string
	for name, is := range number {
		// In an exclusion * stands for any part of a name, and a dot parts
		// the names of JSON.
		if is && name != "" && !strings.ContainsAny(name, "*.") && name != "path" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Health implements [guard.Reporter].
func (l *WAF) Health() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return cmp.Or(l.broken, l.unrecorded)
}

// Describe implements [guard.Reporter].
func (l *WAF) Describe() string {
	s := fmt.Sprintf("OWASP Core Rule Set %s, %d rules, paranoia level %d", waf.RulesVersion, l.engine.Rules(), l.engine.Paranoia())
	if l.cfg.Structure {
		if gap := l.engine.Gap(); gap == "" {
			s += ", values judged by grammar"
		}
	}
	if l.policy != nil {
		if p := l.policy(); p != nil {
			n := 0
			for _, r := range p.Routes() {
				n += len(numbers(r)) + len(richTexts(r))
			}
			if n > 0 {
				s += fmt.Sprintf(", %d parameters judged by their types in the route map", n)
			}
		}
	}
	l.mu.RLock()
	untyped := l.untyped
	l.mu.RUnlock()
	if untyped != nil {
		s += fmt.Sprintf("; types that could not be made use of, so that those parameters are inspected in full (%v)", untyped)
	}
	if n := len(l.cfg.Exclude); n > 0 {
		s += fmt.Sprintf(", %d exclusions", n)
	}
	if l.cfg.Oversize == "inspect-prefix" {
		s += ", only the beginning of large bodies"
	}
	if l.record != nil {
		s += "; requests are recorded"
	}
	if !l.cfg.Responses {
		s += "; responses are not inspected"
	}
	if gap := l.engine.Gap(); gap != "" {
		s += "; slow: Coraza alone judges the requests that come to a rule which is not compiled (" + gap + ")"
	}
	return s
}

// Request implements [guard.Layer].
func (l *WAF) Request(x *guard.Exchange) guard.Decision {
	d := l.inspect(x)
	if l.record != nil {
		l.keep(x, d)
	}
	return d
}

// keep records the request. That it cannot is no reason to refuse it.
func (l *WAF) keep(x *guard.Exchange, d guard.Decision) {
	r := x.Request
	var body []byte
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 && !x.Streams() {
		if b, err := x.Buffer(); err == nil && b.Size() > 0 {
			body, _ = io.ReadAll(io.LimitReader(b.Reader(), waf.DefaultMaxInspect))
		}
	}
	uri := r.RequestURI
	if uri == "" {
		uri = r.URL.RequestURI()
	}
	err := l.record.write(r, uri, body, d, x.Start)
	if err != nil {
		err = fmt.Errorf("traffic is not recorded: %w", err)
	}
	l.mu.RLock()
	was := l.unrecorded
	l.mu.RUnlock()
	if (err == nil) != (was == nil) { // it works again, say, when there is room on the disk
		l.mu.Lock()
		l.unrecorded = err
		l.mu.Unlock()
	}
}

func (l *WAF) inspect(x *guard.Exchange) guard.Decision {
	r := x.Request
	in := waf.Request{
		Method: r.Method, URI: r.RequestURI, Proto: r.Proto, Host: r.Host, Header: r.Header,
		TransferEncoding: r.TransferEncoding, Client: x.Client.Addr,
	}
	if in.URI == "" {
		in.URI = r.URL.RequestURI()
	}
	// A plan that does not compile leaves the route fully inspected.
	in.Plan, _ = l.plan(x.Override)
	prefix := func() []byte { return nil }
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 && !x.Streams() {
		b, err := x.Buffer()
		if err != nil {
			return guard.Refuse(http.StatusBadRequest, "waf-body", err.Error())
		}
		if b.Size() > 0 {
			in.Body = b.Reader()
			prefix = func() []byte { return b.Prefix(waf.DefaultMaxInspect) }
		}
	} else if x.Streams() {
		prefix = func() []byte { return []byte(methodField) } // nobody has seen it
	}
	in.Typed = l.typedPlan(r.Method, x.Path, r.URL.RawQuery, r.Header, prefix)
	// With a gap Coraza judges the honest as well: then nobody has a budget.
	limited := l.engine.Gap() == ""
	in.Brief = limited && l.budget.spent(x.Client.Addr)
	v, err := l.engine.Inspect(r.Context(), in)
	if err != nil {
		return guard.Refuse(http.StatusServiceUnavailable, "waf-failed", err.Error())
	}
	if limited && v.Reference {
		l.budget.charge(x.Client.Addr)
	}
	if !v.Denied {
		if len(v.Acquitted) == 0 {
			return guard.Pass()
		}
		v.Matches = v.Acquitted
		return guard.Decision{Verdict: guard.Observed, Reason: "waf-prose", Detail: detail(v), Severity: event.Info, Attributes: attributes(v)}
	}
	d := guard.Refuse(v.Status, "waf-"+string(v.Reason), detail(v))
	d.Attributes = attributes(v)
	for _, m := range v.Matches {
		if m.ID >= 913000 && m.ID < 914000 {
			d.Event = "malicious_attack_tool"
		}
	}
	if v.Reason == waf.ReasonTooLarge || v.Reason == waf.ReasonArguments || v.Reason == waf.ReasonMalformed || v.Reason == waf.ReasonBusy {
		d.Severity = event.Warn
	}
	return d
}

// Response implements [guard.Responder].
func (l *WAF) Response(x *guard.Exchange, r *http.Response) guard.Decision {
	if !l.cfg.Responses || r.Body == nil || r.Body == http.NoBody || !inspectable(r) {
		return guard.Pass()
	}
	prefix, err := guard.PeekBody(r, waf.DefaultMaxResponse)
	if err != nil && err != guard.ErrContentEncoding {
		return guard.Refuse(http.StatusBadGateway, "waf-failed", err.Error())
	}
	v, err := l.engine.InspectResponse(waf.Response{Status: r.StatusCode, Proto: x.Request.Proto, Header: r.Header, Body: prefix})
	if err != nil {
		return guard.Refuse(http.StatusServiceUnavailable, "waf-failed", err.Error())
	}
	if !v.Denied {
		return guard.Pass()
	}
	return guard.Refuse(http.StatusInternalServerError, "waf-response", detail(v))
}

// inspectable reports whether a response is a text that the rules read, and
// has an end: event streams and downloads pass untouched.
func inspectable(r *http.Response) bool {
	switch waf.MediaType(r.Header.Get("Content-Type")) {
	case "text/html", "text/plain", "text/xml", "application/json", "application/xml":
		return !strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Disposition")), "attachment")
	}
	return false
}

// attributes are the rules that matched and where, for reports: rule ids with
// the names of parameters, no values.
func attributes(v waf.Verdict) map[string]string {
	var b strings.Builder
	for i, m := range v.Matches {
		if i == 32 {
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		// No name of a parameter may look like another match.
		fmt.Fprintf(&b, "%d@%s", m.ID, strings.Map(func(r rune) rune {
			if unicode.IsSpace(r) {
				return '_'
			}
			return r
		}, m.Variable))
	}
	return map[string]string{"waf.matches": b.String()}
}

// detail says what matched, where, and for the first match what, unless the
// place holds secrets by its name: then only the place.
func detail(v waf.Verdict) string {
	s := v.Summary()
	for _, m := range v.Matches {
		fragment, ok := strings.CutPrefix(m.Data, "Matched Data: ")
		if !ok || secretPlace(m.Variable) {
			continue
		}
		fragment, _, _ = strings.Cut(fragment, " found within")
		if len(fragment) > 80 {
			fragment = fragment[:80] + "…"
		}
		return s + fmt.Sprintf(": %q", fragment)
	}
	return s
}

// secretPlace reports whether a variable is one whose value belongs in no log.
func secretPlace(variable string) bool {
	v := strings.ToLower(variable)
	if strings.HasPrefix(v, "request_cookies") {
		return true
	}
	for _, word := range []string{"pass", "pwd", "secret", "token", "key", "auth", "cookie", "session", "card", "cvv", "cvc", "iban", "csrf", "otp", "pin"} {
		if strings.Contains(v, word) {
			return true
		}
	}
	return false
}
