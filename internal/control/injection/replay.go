package injection

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/waf"
)

// Replay judges past traffic by settings.
type Replay struct {
	layer  *WAF
	routes []guard.Override
	policy *policy.Policy
}

// NewReplay loads the rules for settings: the section and the route
// overrides. p, which may be nil, tells the routes of paths.
func NewReplay(cfg Config, routes []guard.Override, p *policy.Policy) (*Replay, error) {
	cfg.Record = ""
	env := guard.Env{}
	if p != nil {
		env.Policy = func() *policy.Policy { return p }
	}
	l, err := NewWAF(cfg, env)
	if err != nil {
		return nil, err
	}
	layer := l.(*WAF)
	for i := range routes {
		if err := layer.CheckOverride(&routes[i]); err != nil {
			return nil, err
		}
	}
	return &Replay{layer: layer, routes: routes, policy: p}, nil
}

// Outcome is what the rules say of one request of the past.
type Outcome struct {
	// Denied says that the request is refused, by Reason; a layer that only
	// observes, or is off for the route, refuses nothing.
	Denied  bool
	Reason  string
	Verdict waf.Verdict
	// Route is the rule of the route in the route map, or the path with its
	// ids taken out.
	Route string
}

// Judge runs the rules on one request.
func (r *Replay) Judge(ctx context.Context, p *Past) (Outcome, error) {
	path, _, _ := strings.Cut(p.URI, "?")
	if plain, err := url.PathUnescape(path); err == nil {
		path = plain
	}
	out := Outcome{Route: routeOf(r.policy, p.Method, path)}
	mode := r.layer.cfg.Mode
	var plan *waf.Plan
	if o := overrideFor(r.routes, p.Method, path); o != nil {
		if m, ok := o.Modes[wafSpec.Name]; ok {
			mode = m
		}
		var err error
		if plan, err = r.layer.plan(o); err != nil {
			return out, err
		}
	}
	if mode == guard.Off {
		return out, nil
	}
	in := waf.Request{Method: p.Method, URI: p.URI, Proto: cmp.Or(p.Proto, "HTTP/1.1"), Host: cmp.Or(p.Host, "localhost"), Header: p.Header.Clone(), Client: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Plan: plan}
	_, query, _ := strings.Cut(p.URI, "?")
	in.Typed = r.layer.typedPlan(p.Method, path, query, p.Header, p.body)
	if in.Header == nil {
		in.Header = http.Header{}
	}
	if b := p.body(); len(b) > 0 {
		in.Body = bytes.NewReader(b)
		// The length then may not be that of what was recorded.
		in.Header.Set("Content-Length", fmt.Sprint(len(b)))
	} else {
		in.Header.Del("Content-Length")
		in.Header.Del("Content-Type")
	}
	in.Header.Del("Transfer-Encoding")
	// A log of paths and queries knows no headers; the rules that miss them
	// would speak of the log.
	if len(p.Header) == 0 || p.Header.Get("User-Agent") == "" {
		in.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	}
	if in.Header.Get("Accept") == "" {
		in.Header.Set("Accept", "*/*")
	}
	v, err := r.layer.engine.Inspect(ctx, in)
	if err != nil {
		return out, err
	}
	out.Verdict = v
	if v.Denied {
		out.Denied, out.Reason = mode == guard.Enforce, "waf-"+string(v.Reason)
	}
	return out, nil
}

// overrideFor returns the first override for a request, as the chain does.
func overrideFor(routes []guard.Override, method, path string) *guard.Override {
	for i := range routes {
		if routes[i].Matches(method, path) {
			return &routes[i]
		}
	}
	return nil
}

// routeOf names the route of a request for a report.
func routeOf(p *policy.Policy, method, path string) string {
	if p != nil {
		if m := p.Match(method, path); len(m.Routes) > 0 {
			return m.Routes[0].Rule
		}
	}
	path = strings.ToValidUTF8(path, "?")
	parts := strings.Split(path[:min(len(path), 1024)], "/")
	for i, s := range parts {
		digits := strings.Count(strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return '0'
			}
			return 'x'
		}, s), "0")
		switch {
		case s == "":
		case digits == len(s):
			parts[i] = "<int>"
		case len(s) > 40, digits > 3 && len(s) > 16, strings.ContainsAny(s, "%*<>{}[]"), strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0:
			parts[i] = "<…>"
		}
	}
	return strings.Join(parts, "/")
}

// Line is one line of a report: a rule that would refuse, or no longer
// refuses, requests of one route by one parameter.
type Line struct {
	Method    string `json:"method"`
	Route     string `json:"route"`
	Parameter string `json:"parameter"` // ARGS:q, as rules name places
	Rule      int    `json:"rule"`
	Message   string `json:"message"`
	// Requests is how many requests it concerns; First is where the first of
	// them stands in the log. Data is what the rule found there; it quotes
	// the request.
	Requests int    `json:"requests"`
	First    int    `json:"first_line"`
	Data     string `json:"data,omitempty"`
}

// Comparison says what a change of settings would have done to past traffic.
type Comparison struct {
	Requests int `json:"requests"`
	Skipped  int `json:"skipped_lines"`
	// Before and After are how many are refused by the settings in force and
	// by the changed ones.
	Before int `json:"refused_before"`
	After  int `json:"refused_after"`
	// New are requests that only the changed settings refuse, Freed those
	// that they no longer refuse, by rule, route and parameter, the most
	// frequent first. Kept are those that both refuse.
	New   []Line `json:"newly_refused"`
	Freed []Line `json:"no_longer_refused"`
	Kept  []Line `json:"refused_by_both"`
	// More counts matches that found no room among the lines: a hostile log
	// must not grow them without end.
	More int `json:"left_out,omitempty"`

	index [3]map[Line]int // of Kept, New and Freed
}

// Compare judges a request by both settings and notes the difference. It is
// used with one request after the other, and [Comparison.Sort] at the end.
func (c *Comparison) Compare(ctx context.Context, p *Past, before, after *Replay) error {
	b, err := before.Judge(ctx, p)
	if err != nil {
		return err
	}
	a := b
	if after != before {
		if a, err = after.Judge(ctx, p); err != nil {
			return err
		}
	}
	for i := range c.index {
		if c.index[i] == nil {
			c.index[i] = map[Line]int{}
		}
	}
	c.Requests++
	if b.Denied {
		c.Before++
	}
	if a.Denied {
		c.After++
	}
	switch {
	case a.Denied && b.Denied:
		note(&c.Kept, c.index[0], &c.More, p, a)
	case a.Denied:
		note(&c.New, c.index[1], &c.More, p, a)
	case b.Denied:
		note(&c.Freed, c.index[2], &c.More, p, b)
	}
	return nil
}

// note adds the matches of a refusal to lines, which index finds by what tells
// them apart; more counts what is beyond the bound.
func note(lines *[]Line, index map[Line]int, more *int, p *Past, o Outcome) {
	matches := o.Verdict.Matches
	if len(matches) == 0 {
		matches = []waf.Match{{ID: o.Verdict.RuleID, Message: o.Reason}}
	}
	seen := map[Line]bool{}
	for _, m := range matches {
		key := Line{Method: p.Method, Route: o.Route, Parameter: m.Variable, Rule: m.ID, Message: m.Message}
		if seen[key] {
			continue
		}
		seen[key] = true
		i, ok := index[key]
		if !ok {
			if len(*lines) >= maxGroups {
				*more++
				continue
			}
			key.First = p.Line
			if !secretPlace(m.Variable) {
				key.Data = m.Data
			}
			index[Line{Method: key.Method, Route: key.Route, Parameter: key.Parameter, Rule: key.Rule, Message: key.Message}] = len(*lines)
			*lines = append(*lines, key)
			i = len(*lines) - 1
		}
		(*lines)[i].Requests++
	}
}

// Sort puts the lines into the report's order.
func (c *Comparison) Sort() {
	for _, lines := range [][]Line{c.New, c.Freed, c.Kept} {
		slices.SortStableFunc(lines, func(a, b Line) int {
			return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Route, b.Route), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Parameter, b.Parameter))
		})
	}
}

// Proposal returns the settings, as TOML, that would let the requests of
// lines pass: the rules left out for these parameters on these routes. It is
// for a person to read first: an attack in the log would be let in.
func Proposal(lines []Line) string {
	type key struct{ method, route string }
	rules := map[key]map[int]bool{}
	parameters := map[key]map[string]bool{}
	var order []key
	for _, l := range lines {
		name, ok := parameterOf(l.Parameter)
		if !ok || l.Rule == 0 {
			continue
		}
		k := key{l.Method, l.Route}
		if rules[k] == nil {
			rules[k], parameters[k] = map[int]bool{}, map[string]bool{}
			order = append(order, k)
		}
		rules[k][l.Rule], parameters[k][name] = true, true
	}
	var b strings.Builder
	for _, k := range order {
		ids := make([]int, 0, len(rules[k]))
		for id := range rules[k] {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		fmt.Fprintf(&b, "[[route]]\npath = %s\nmethods = [%s]\nreason = \"…\"\nwaf = { exclude = [", guard.TOMLString(routePattern(k.route)), guard.TOMLString(k.method))
		for i, id := range ids {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprint(&b, id)
		}
		b.WriteString("], parameters = [")
		for i, name := range sortedKeys(parameters[k]) {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(guard.TOMLString(name))
		}
		b.WriteString("] }\n\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// parameterOf returns the parameter that a place names.
func parameterOf(place string) (string, bool) {
	for _, p := range []string{"ARGS:", "ARGS_GET:", "ARGS_POST:"} {
		if name, ok := strings.CutPrefix(place, p); ok {
			return strings.TrimPrefix(name, "json."), name != ""
		}
	}
	return "", false
}

// routePattern returns a rule of the route map as a pattern of [[route]].
func routePattern(rule string) string {
	parts := strings.Split(rule, "/")
	for i, s := range parts {
		switch {
		case strings.HasPrefix(s, "<path:"):
			parts[i] = "**"
		case strings.Contains(s, "<"):
			parts[i] = "*"
		}
	}
	return strings.Join(parts, "/")
}
