// Package waf decides whether a request carries an attack, by the rules of the
// OWASP Core Rule Set.
//
// [Engine] runs Coraza with the rule set compiled in. It is made once
// ([New] takes about a tenth of a second) and then asked for every request:
//
//	engine, err := waf.New(waf.Config{})
//	verdict, err := engine.Inspect(ctx, waf.Request{Method: "GET", URI: "/?q=1", …})
//	if verdict.Denied { … }
//
// A verdict comes from the returned value only: nothing is written to the
// client in here, so that an answer cannot overtake a refusal (the mistake in
// coraza-caddy issue 351).
//
// # What is inspected
//
// The request line, headers, cookies, the query, and bodies: urlencoded,
// multipart, JSON and XML are parsed by the type that Flask and Werkzeug would
// use; any other body is parsed as JSON if it looks like JSON (an app may call
// get_json(force=True)), inspected as text if it is text or declared as such,
// and left alone if it is binary. Segments of the path are parameters to Flask
// and inspected as one called "path". File contents of multipart bodies are not inspected and never
// written to disk, only their headers; upload inspection is another layer's.
//
// # What the Core Rule Set decides elsewhere
//
// Three of its rules judge what other layers own and would contradict the
// settings there: allowed methods (911100), allowed content types (920420) and
// a numeric Host (920350). They are left out. Two rules of ours join it (ids
// from 22000100): template and Python injection as it hits Flask, most of which
// the Core Rule Set sees from paranoia level 2 on or not at all.
//
// At paranoia level 1 the Core Rule Set is known to refuse some honest texts,
// such as "union was a great select", "zsh is the best!", "john+or@var.es",
// "12, Rue de l'Église (2nd floor)" or HTML with an <img>; an [Exclusion] for
// the parameter helps.
//
// # Cost
//
// Coraza runs regular expressions rule by rule: about 2.5 ms of CPU for a GET
// and 15 ms for a form of 2 KB. Package seclang therefore holds the same rules
// compiled: each value is scanned once for all of them, and what was found in
// a value is remembered. A verdict of the compiled rules that lets a request
// pass is final: it is the one that Coraza would have come to, rule for rule.
// Coraza is asked before a request is refused, and wherever the compiled rules
// cannot tell ([Engine.Gap]); [Verdict.Reference] says that it was. Its own
// SecRxPreFilter stays off: it lost two attacks of the rule set's own tests.
package waf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/dewar-security/dewar/internal/waf/seclang"
)

// RulesVersion is the version of the Core Rule Set that is compiled in.
const RulesVersion = "4.25.0"

// Defaults of Config's zero values.
const (
	DefaultInboundThreshold  = 5
	DefaultOutboundThreshold = 4
	DefaultMaxInspect        = 256 << 10
	DefaultMaxArguments      = 4000
	DefaultMaxResponse       = 256 << 10
)

// Config says how strict the engine is. The zero value inspects requests at
// paranoia level 1 with the rule set's own thresholds.
type Config struct {
	// Paranoia is the paranoia level, 1 (the default) to 4: higher levels
	// catch more and refuse more honest requests.
	Paranoia int
	// InboundThreshold is the anomaly score at which a request is denied;
	// one critical match scores 5. OutboundThreshold is the same for
	// responses, where one leak scores 4 or 5.
	InboundThreshold  int
	OutboundThreshold int
	// MaxInspect is how many body bytes are inspected, file contents not
	// counted. Longer bodies are denied with 413, or with Partial inspected
	// up to here, which an attacker can use to hide behind padding.
	MaxInspect int64
	Partial    bool
	// MaxArguments is how many values a query or body may have.
	MaxArguments int
	// Exclude takes rules or parameters out for every request.
	Exclude []Exclusion
	// RuleFiles are SecLang files loaded after the Core Rule Set.
	RuleFiles []string
	// Responses makes InspectResponse work. MaxResponse is how many bytes
	// of a response body are inspected.
	Responses   bool
	MaxResponse int64
	// Reference leaves every verdict to Coraza, without the compiled rules
	// in front of it.
	Reference bool
	// Structure adds the judges that go by grammar: they refuse what an
	// interpreter would read structure in, and let go what the rules refuse
	// though no interpreter would take it for more than data. It needs the compiled rules, see [Engine.Gap].
	Structure bool
}

// Exclusion takes something out of inspection.
type Exclusion struct {
	// Rules are rule ids; empty means every rule of the Core Rule Set that
	// looks at parameters, and then Parameters must not be empty.
	Rules []int
	// Parameters are names of query, form or JSON parameters that Rules do
	// not look at. "a.b" is the JSON member b of a, "a.*.b" the b of every
	// element of a, "path" the segments of the path. Empty means that Rules are off altogether.
	Parameters []string
	// Secret says that Parameters hold passwords, by their names and as far
	// as the source is understood: a value that is random by its look
	// ([payload.Random], which nothing is that runs something) is not judged
	// by grammar any further.
	Secret bool
}

// Request is what [Engine.Inspect] looks at.
type Request struct {
	Method string
	// URI is the request target as received, path and query undecoded.
	URI    string
	Proto  string // "HTTP/1.1"
	Host   string
	Header http.Header
	// TransferEncoding is what net/http took out of Header.
	TransferEncoding []string
	Client           netip.Addr
	// Body is the body, or nil. It is read up to what inspection needs.
	Body io.Reader
	// Plan is what this request is exempt from, or nil, and Typed what else
	// it is because of the types of its parameters.
	Plan, Typed *Plan
	// Brief says that this request is not worth the time that Coraza takes:
	// the compiled rules refuse without asking it, and what they cannot tell
	// is refused as [ReasonBusy]. It is for clients that send one attack
	// after the other.
	Brief bool

	excused *Plan // what the rules find in data, see acquit
}

// Verdict is what the rules said.
type Verdict struct {
	// Denied says that the request or response must not pass; Status is the
	// HTTP status to refuse it with, Reason one of the Reason constants.
	Denied bool
	Status int
	Reason Reason
	// RuleID is the rule that interrupted; for ReasonAttack that is the one
	// which compared the score.
	RuleID int
	// Score is the anomaly score reached, Threshold the one that denies.
	Score, Threshold int
	// Matches are the rules that matched, in order of evaluation, without
	// the rule set's bookkeeping.
	Matches []Match
	// Partial says that only the first MaxInspect bytes were looked at.
	Partial bool
	// Acquitted are the rules that matched what is only data and were
	// overruled: the request passes.
	Acquitted []Match
	// Reference says that Coraza judged, which costs a hundred times as much.
	Reference bool
}

// Reason says in which way a request was denied.
type Reason string

// The reasons of a denial.
const (
	ReasonAttack    Reason = "attack"    // the anomaly score reached the threshold
	ReasonRule      Reason = "rule"      // a rule denied by itself, such as one of a user's file
	ReasonStructure Reason = "structure" // a value would become code
	ReasonMalformed Reason = "malformed" // the body is not what its Content-Type says
	ReasonArguments Reason = "arguments" // more than MaxArguments values
	ReasonTooLarge  Reason = "too-large" // more than MaxInspect bytes to look at
	ReasonBusy      Reason = "busy"      // only Coraza could tell, and the request was to be brief
)

// Match is one rule that matched.
type Match struct {
	ID       int
	Message  string // "SQL Injection Attack Detected via libinjection"
	Severity string // "critical"
	// Variable is where it matched: "ARGS:q", "REQUEST_HEADERS:User-Agent".
	Variable string
	// Data is the rule's own description of what it found; it quotes the
	// request and may hold secrets.
	Data string
}

// Summary says what matched in one line without quoting the request: rule,
// message and place.
func (v Verdict) Summary() string {
	var b strings.Builder
	for i, m := range v.Matches {
		if i == 5 {
			fmt.Fprintf(&b, "; and %d more", len(v.Matches)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		if m.ID != 0 {
			fmt.Fprintf(&b, "%d ", m.ID)
		}
		b.WriteString(m.Message)
		if m.Variable != "" {
			fmt.Fprintf(&b, " in %s", m.Variable)
		}
	}
	if v.Score > 0 {
		fmt.Fprintf(&b, " (score %d of %d)", v.Score, v.Threshold)
	}
	return strings.TrimSpace(b.String())
}

// Engine inspects. It is safe for concurrent use.
type Engine struct {
	cfg       Config
	requests  coraza.WAF
	responses coraza.WAF
	// compiled and compiledResponses are the same rules compiled, or nil.
	compiled, compiledResponses *seclang.Program
	// gap says why the rules are not compiled, or not all of them.
	gap string
	// rules holds the ids that exist; attacks those of the Core Rule Set
	// that look for attacks in parameters.
	rules   map[int]bool
	attacks []int
	// structure holds the ids of the judges that go by grammar, quiet what
	// they had nothing to say of.
	structure []int
	quiet     quiet
	global    *Plan
	// slots bounds how many bodies are inspected at once, slow how many of
	// them Coraza judges. The work is pure CPU: more at a time would only
	// need more memory (Coraza took 670 MB for a few JSON bodies in parallel).
	slots, slow slots
}

// New loads the rules. Errors name the file and line for extra rule files and
// the rule id for exclusions of rules that do not exist. Coraza needs a
// writable temporary directory, although no body is ever written to it.
func New(cfg Config) (*Engine, error) {
	if cfg.Paranoia == 0 {
		cfg.Paranoia = 1
	}
	if cfg.Paranoia < 1 || cfg.Paranoia > 4 {
		return nil, fmt.Errorf("waf: paranoia level %d: choose 1 to 4", cfg.Paranoia)
	}
	setDefault(&cfg.InboundThreshold, DefaultInboundThreshold)
	setDefault(&cfg.OutboundThreshold, DefaultOutboundThreshold)
	setDefault(&cfg.MaxInspect, DefaultMaxInspect)
	setDefault(&cfg.MaxArguments, DefaultMaxArguments)
	setDefault(&cfg.MaxResponse, DefaultMaxResponse)
	if cfg.InboundThreshold < 1 || cfg.OutboundThreshold < 1 || cfg.MaxInspect < 1 || cfg.MaxArguments < 1 || cfg.MaxResponse < 1 {
		return nil, errors.New("waf: thresholds and limits must be positive")
	}
	e := &Engine{
		cfg:   cfg,
		rules: map[int]bool{},
		slots: make(slots, max(1, runtime.GOMAXPROCS(0))),
		slow:  make(slots, max(1, runtime.GOMAXPROCS(0))),
	}
	var err error
	if e.requests, err = load(requestDirectives(cfg), cfg.RuleFiles, e.observe); err != nil {
		return nil, err
	}
	if cfg.Responses {
		if e.responses, err = load(responseDirectives(cfg), nil, nil); err != nil {
			return nil, err
		}
	}
	if !cfg.Reference || len(cfg.RuleFiles) > 0 {
		if err := e.compile(); err != nil {
			return nil, err
		}
	}
	if cfg.Structure {
		e.addStructureRules()
	}
	if e.global, err = e.Plan(cfg.Exclude...); err != nil {
		return nil, err
	}
	return e, nil
}

func setDefault[T int | int64](p *T, v T) {
	if *p == 0 {
		*p = v
	}
}

// observe collects the ids of the rules that were loaded.
func (e *Engine) observe(r types.RuleMetadata) {
	id := r.ID()
	if id == 0 {
		return // the tail of a chain
	}
	e.rules[id] = true
	if (id >= 921000 && id < 949000 || id >= rulesFlask) && strings.Contains(r.Raw(), "ARGS") {
		e.attacks = append(e.attacks, id)
	}
}

// Rules returns how many rules are loaded.
func (e *Engine) Rules() int { return len(e.rules) }

// Gap says why Coraza judges every request, or those that come to some rule:
// that rule, and what of it is not compiled. It is empty if there is none.
func (e *Engine) Gap() string {
	if e.cfg.Reference {
		return "the compiled rules are off"
	}
	return e.gap
}

// RulesOf returns the ids of the rules that look for attacks in parameters,
// from one id up to another: the Core Rule Set numbers them by kind.
func (e *Engine) RulesOf(from, to int) []int {
	var out []int
	for _, id := range e.attacks {
		if id >= from && id <= to {
			out = append(out, id)
		}
	}
	return out
}

// Paranoia returns the paranoia level in force.
func (e *Engine) Paranoia() int { return e.cfg.Paranoia }

// Plan is a compiled set of exclusions.
type Plan struct {
	rules   []int
	targets []target
	secrets []*regexp.Regexp // names of parameters that hold secrets
	// compiled and compiledResponses are the same for the compiled rules.
	compiled, compiledResponses *seclang.Exclusions
}

type target struct {
	rule int
	key  string
	rx   *regexp.Regexp
}

// parameterVariables are the collections that hold request parameters.
var parameterVariables = [...]variables.RuleVariable{variables.Args, variables.ArgsGet, variables.ArgsPost}

// Plan compiles exclusions for use in [Request.Plan]. An id that no loaded
// rule has is an error: it is a typing mistake or a rule that a new version
// of the Core Rule Set renamed.
func (e *Engine) Plan(list ...Exclusion) (*Plan, error) {
	p := &Plan{}
	var compiled []seclang.Target
	for _, x := range list {
		for _, id := range x.Rules {
			if !e.rules[id] && !slices.Contains(e.structure, id) {
				return nil, fmt.Errorf("waf: no rule has the id %d%s", id, e.nearest(id))
			}
		}
		if len(x.Parameters) == 0 {
			if len(x.Rules) == 0 {
				return nil, errors.New("waf: an exclusion needs rules, parameters or both")
			}
			p.rules = append(p.rules, x.Rules...)
			continue
		}
		ids := x.Rules
		if len(ids) == 0 {
			ids = e.attacks
		}
		for _, name := range x.Parameters {
			if name == "" || name == "*" {
				return nil, fmt.Errorf("waf: %q is not a parameter's name", name)
			}
			// JSON members are named json.<path> by Coraza; a form field
			// of the same name is excluded too.
			rx := regexp.MustCompile(`(?i)^(?:json\.)?` + strings.ReplaceAll(regexp.QuoteMeta(name), `\*`, `[^.]*`) + `$`)
			p.leave(ids, name, rx, &compiled)
			if x.Secret {
				p.secrets = append(p.secrets, rx)
			}
		}
	}
	e.compilePlan(p, compiled)
	return p, nil
}

// leave takes parameters out of rules.
func (p *Plan) leave(ids []int, name string, rx *regexp.Regexp, compiled *[]seclang.Target) {
	for _, id := range ids {
		p.targets = append(p.targets, target{rule: id, key: name, rx: rx})
	}
	for _, v := range parameterVariables {
		*compiled = append(*compiled, seclang.Target{Rules: ids, Variable: v, Key: name, Rx: rx})
	}
}

// compilePlan adds what the compiled rules need of a plan.
func (e *Engine) compilePlan(p *Plan, targets []seclang.Target) {
	if e.compiled != nil {
		p.compiled = e.compiled.Exclusions(p.rules, targets)
	}
	if e.compiledResponses != nil {
		p.compiledResponses = e.compiledResponses.Exclusions(p.rules, targets)
	}
}

// nearest suggests the loaded rule whose id shares the longest beginning.
func (e *Engine) nearest(id int) string {
	want, best, length := strconv.Itoa(id), 0, 2
	ids := make([]int, 0, len(e.rules))
	for have := range e.rules {
		ids = append(ids, have)
	}
	slices.Sort(ids)
	for _, have := range ids {
		s, n := strconv.Itoa(have), 0
		for n < len(s) && n < len(want) && s[n] == want[n] {
			n++
		}
		if n > length {
			best, length = have, n
		}
	}
	if best == 0 {
		return ""
	}
	return fmt.Sprintf("; did you mean %d?", best)
}

// remover is what Coraza's own "ctl" actions use on a transaction.
type remover interface {
	RemoveRuleByID(id int)
	RemoveRuleTargetByID(id int, variable variables.RuleVariable, key string, keyRx *regexp.Regexp)
}

// apply takes p's rules and parameters out of one transaction.
func (p *Plan) apply(tx remover) {
	if p == nil {
		return
	}
	for _, id := range p.rules {
		tx.RemoveRuleByID(id)
	}
	for _, t := range p.targets {
		for _, v := range parameterVariables {
			tx.RemoveRuleTargetByID(t.rule, v, t.key, t.rx)
		}
	}
}

// transaction is a Coraza transaction with the parts of it that Coraza does
// not have in its stable interface. New checks that it is one.
type transaction interface {
	types.Transaction
	plugintypes.TransactionState
	remover
}

// setter writes a single-valued variable.
type setter interface{ Set(value string) }

// Inspect runs the rules on one request. The error is about the inspection
// itself (the body could not be read, ctx ended while waiting for a free
// slot); the request has then not been inspected.
func (e *Engine) Inspect(ctx context.Context, r Request) (v Verdict, err error) {
	v.Threshold = e.cfg.InboundThreshold
	var b body
	leave := func() {}
	if r.Body != nil {
		if leave, err = e.slots.enter(ctx); err != nil {
			return v, err
		}
		defer func() { leave() }()
		if b, err = e.readBody(r); err != nil {
			return v, fmt.Errorf("waf: read the body: %w", err)
		}
		if b.denied != "" {
			v.Denied, v.Reason, v.Status = true, b.denied, http.StatusBadRequest
			if b.denied == ReasonTooLarge {
				v.Status = http.StatusRequestEntityTooLarge
			}
			v.Matches = []Match{{Message: b.why, Variable: "REQUEST_BODY"}}
			return v, nil
		}
		v.Partial = b.partial
	}

	var seen looked
	if v, err = e.verdict(ctx, leave, r, b, v, &seen); err != nil || !e.cfg.Structure {
		return v, err
	}
	switch {
	case len(seen.found) > 0 && !v.Denied:
		v = v.refuseStructure(seen.found)
	case len(seen.found) == 0 && v.Denied && v.Reason == ReasonAttack:
		v, _ = e.acquit(ctx, r, b, v, seen.excuses)
	}
	return v, nil
}

// slots bounds how much is done at once.
type slots chan struct{}

// enter waits for a slot. leave gives it back; more than once does no harm.
func (s slots) enter(ctx context.Context) (leave func(), err error) {
	select {
	case s <- struct{}{}:
	case <-ctx.Done():
		return func() {}, fmt.Errorf("waf: waiting to inspect a body: %w", ctx.Err())
	}
	return sync.OnceFunc(func() { <-s }), nil
}

// looked is what the judges that go by grammar saw in a request.
type looked struct {
	found   []Match
	excuses []excuse // set where the compiled rules denied or cannot tell
}

// verdict asks the compiled rules, and Coraza where they deny or cannot tell.
// seen may be nil.
//
// A request is refused if either refuses it. Coraza remembers what
// transformations made of a value by the value's place in a map, and so takes
// one of several values of a form field for another, by chance: an attack that
// the compiled rules see in one of them may escape it.
//
// leave gives the request's place among those that the compiled rules judge to
// another one: who has to wait for Coraza keeps nobody else waiting.
func (e *Engine) verdict(ctx context.Context, leave func(), r Request, b body, v Verdict, seen *looked) (Verdict, error) {
	reference := func() (Verdict, error) {
		if leave(); len(b.bytes) > 0 {
			done, err := e.slow.enter(ctx)
			if err != nil {
				return v, err
			}
			defer done()
		}
		return e.inspectReference(r, b, v)
	}
	if e.compiled == nil {
		return reference()
	}
	fast, unsure := e.inspectCompiled(r, b, v, seen)
	if unsure == "" && fast.Denied && seen != nil && len(seen.found) == 0 {
		if acquitted, ok := e.acquit(ctx, r, b, fast, seen.excuses); ok {
			return acquitted, nil
		}
		seen.excuses = nil
	}
	switch {
	case unsure == "" && (!fast.Denied || r.Brief):
		return fast, nil
	case r.Brief:
		v.Denied, v.Reason, v.Status = true, ReasonBusy, http.StatusTooManyRequests
		return v, nil
	}
	slow, err := reference()
	if err == nil && unsure == "" && !slow.Denied {
		fast.Reference = true
		return fast, nil
	}
	return slow, err
}

// plans are all exemptions of a request.
func (r *Request) plans() [3]*Plan { return [...]*Plan{r.Plan, r.Typed, r.excused} }

// head is what requests are told to, by either engine.
type head interface {
	ProcessConnection(client string, clientPort int, server string, serverPort int)
	ProcessURI(uri, method, proto string)
	AddPathRequestArgument(key, value string)
	AddRequestHeader(key, value string)
	SetServerName(name string)
}

// describe tells tx the head of a request.
func describe(tx head, r *Request) {
	tx.ProcessConnection(r.Client.String(), 0, "", 0)
	tx.ProcessURI(r.URI, r.Method, r.Proto)
	for _, segment := range pathArguments(r.URI) {
		tx.AddPathRequestArgument(pathArgument, segment)
	}
	for name, values := range r.Header {
		if name == "Expect" {
			continue // answered by the guard itself, never seen by the app
		}
		for i, value := range values {
			if i > 0 {
				// Coraza tells values apart by where their name lies in memory.
				name = strings.Clone(name)
			}
			tx.AddRequestHeader(name, value)
		}
	}
	for _, te := range r.TransferEncoding {
		tx.AddRequestHeader("Transfer-Encoding", te)
	}
	tx.AddRequestHeader("Host", r.Host)
	tx.SetServerName(r.Host)
}

// arguments tells tx of a body what its parser would not.
func (b *body) arguments(tx interface {
	RemoveRuleByID(id int)
	AddPostRequestArgument(key, value string)
	AddPathRequestArgument(key, value string)
}) {
	if b.processor == "URLENCODED" {
		for _, field := range b.colliding() {
			tx.AddPathRequestArgument(field[0], field[1])
		}
	}
	if b.partial || b.guessed {
		// A cut body cannot parse, and a guess may be wrong; what did
		// parse is inspected all the same.
		tx.RemoveRuleByID(ruleBodyError)
	}
	if b.guessed {
		tx.AddPostRequestArgument("body", string(b.bytes))
	}
	if len(b.tail) > 0 {
		tx.AddPostRequestArgument("json.cut", string(b.tail))
	}
}

// inspectReference has Coraza judge a request.
func (e *Engine) inspectReference(r Request, b body, v Verdict) (_ Verdict, err error) {
	v.Reference = true
	tx := e.requests.NewTransaction().(transaction)
	defer func() {
		if cerr := tx.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("waf: close the transaction: %w", cerr)
		}
	}()
	e.global.apply(tx)
	for _, p := range r.plans() {
		p.apply(tx)
	}
	describe(tx, &r)
	tx.Variables().RequestBodyProcessor().(setter).Set(b.processor)
	if it := tx.ProcessRequestHeaders(); it != nil {
		return e.interrupted(tx, it, v), nil
	}
	if len(b.bytes) > 0 {
		b.arguments(tx)
		it, _, err := tx.WriteRequestBody(b.bytes)
		if err != nil {
			return v, fmt.Errorf("waf: %w", err)
		}
		if it != nil {
			return e.interrupted(tx, it, v), nil
		}
	}
	it, err := tx.ProcessRequestBody()
	if err != nil {
		return v, fmt.Errorf("waf: %w", err)
	}
	return e.interrupted(tx, it, v), nil
}

// pathArgument is the name under which the rules see segments of the path.
const pathArgument = "path"

// pathArguments returns the decoded segments of the path that hold more than
// letters, digits and what slugs and file names are made of. Flask's
// /user/<name> makes parameters of them, and most rules look at parameters
// only.
func pathArguments(uri string) []string {
	path, _, _ := strings.Cut(uri, "?")
	var out []string
	for segment := range strings.SplitSeq(path, "/") {
		if strings.Trim(segment, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~@:,+") == "" {
			continue
		}
		if text, err := url.PathUnescape(segment); err == nil {
			segment = text
		}
		out = append(out, segment)
	}
	return out
}

// interrupted completes v from what the transaction holds.
func (e *Engine) interrupted(tx transaction, it *types.Interruption, v Verdict) Verdict {
	v.Matches = matches(tx)
	v.Score = score(tx, "blocking_inbound_anomaly_score")
	if it == nil {
		return v
	}
	return v.deny(it.RuleID, it.Status)
}

// deny completes a verdict with the rule that ended the request.
func (v Verdict) deny(rule, status int) Verdict {
	v.Denied, v.RuleID, v.Status = true, rule, status
	switch rule {
	case 949110, 949111:
		v.Reason = ReasonAttack
	case ruleBodyError, ruleMultipart, ruleURI:
		v.Reason = ReasonMalformed
	case ruleArgumentsQuery, ruleArgumentsBody:
		v.Reason = ReasonArguments
	default:
		v.Reason = ReasonRule
	}
	if v.Status < 400 || v.Status > 599 {
		v.Status = http.StatusForbidden // a "drop" or "redirect" of a user's rule
	}
	return v
}

// matches lists the rules that found something.
func matches(tx types.Transaction) []Match {
	var out []Match
	for _, m := range tx.MatchedRules() {
		id := m.Rule().ID()
		if m.Message() == "" || bookkeeping(id) {
			continue
		}
		match := Match{ID: id, Message: clean(m.Message()), Severity: m.Rule().Severity().String(), Data: clean(m.Data())}
		if data := m.MatchedDatas(); len(data) > 0 {
			match.Variable = data[0].Variable().Name()
			if key := data[0].Key(); key != "" {
				match.Variable += ":" + clean(key)
			}
		}
		out = append(out, match)
	}
	return out
}

// bookkeeping reports whether a rule says nothing about the request itself:
// the Core Rule Set's initialisation, scores and correlation.
func bookkeeping(id int) bool {
	return id >= 900000 && id < 911000 || id >= 949000 && id < 950000 || id >= 959000 && id < 1000000
}

// clean makes text from a request fit for one line of a log: control
// characters become "?" (CWE-117), and the length is bounded.
func clean(s string) string {
	const most = 400
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return '?'
		}
		return r
	}, s)
}

func score(tx transaction, name string) int {
	values := tx.Variables().TX().Get(name)
	if len(values) == 0 {
		return 0
	}
	n, err := strconv.Atoi(values[0])
	if err != nil {
		return 0
	}
	return n
}

// Response is what [Engine.InspectResponse] looks at.
type Response struct {
	Status int
	Proto  string
	Header http.Header
	// Body is the beginning of the body, decoded; at most MaxResponse bytes
	// of it are looked at.
	Body []byte
}

// InspectResponse looks for leaks (database errors, source code, web shells)
// in a response. It allows everything unless Config.Responses was set.
func (e *Engine) InspectResponse(r Response) (v Verdict, err error) {
	v.Threshold = e.cfg.OutboundThreshold
	if e.responses == nil {
		return v, nil
	}
	if e.compiledResponses != nil {
		if fast, unsure := e.inspectResponseCompiled(r, v); unsure == "" && !fast.Denied {
			return fast, nil
		}
	}
	return e.inspectResponseReference(r, v)
}

// inspectResponseReference has Coraza judge a response.
func (e *Engine) inspectResponseReference(r Response, v Verdict) (_ Verdict, err error) {
	v.Reference = true
	tx := e.responses.NewTransaction().(transaction)
	defer func() {
		if cerr := tx.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("waf: close the transaction: %w", cerr)
		}
	}()
	e.global.apply(tx)
	tx.ProcessURI("/", http.MethodGet, r.Proto)
	if it := tx.ProcessRequestHeaders(); it != nil {
		return v, fmt.Errorf("waf: the response rules stopped in rule %d", it.RuleID)
	}
	if _, err := tx.ProcessRequestBody(); err != nil {
		return v, fmt.Errorf("waf: %w", err)
	}
	for name, values := range r.Header {
		for _, value := range values {
			tx.AddResponseHeader(name, value)
		}
	}
	it := tx.ProcessResponseHeaders(r.Status, r.Proto)
	if it == nil {
		b := r.Body
		if int64(len(b)) > e.cfg.MaxResponse {
			b, v.Partial = b[:e.cfg.MaxResponse], true
		}
		if it, _, err = tx.WriteResponseBody(b); err != nil {
			return v, fmt.Errorf("waf: %w", err)
		}
	}
	if it == nil {
		if it, err = tx.ProcessResponseBody(); err != nil {
			return v, fmt.Errorf("waf: %w", err)
		}
	}
	v.Matches = matches(tx)
	v.Score = score(tx, "blocking_outbound_anomaly_score")
	if it != nil {
		v = v.denyResponse(it.RuleID)
	}
	return v, nil
}

// denyResponse completes a verdict with the rule that ended the response.
func (v Verdict) denyResponse(rule int) Verdict {
	v.Denied, v.RuleID, v.Status, v.Reason = true, rule, http.StatusInternalServerError, ReasonRule
	if rule == 959100 || rule == 959101 {
		v.Reason = ReasonAttack
	}
	return v
}

// Close releases the compiled rules. The engine must not be used afterwards.
func (e *Engine) Close() error {
	var errs []error
	for _, w := range []coraza.WAF{e.requests, e.responses} {
		if c, ok := w.(experimental.WAFCloser); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}
