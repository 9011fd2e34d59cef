package headers

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
	routemap "github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/store"
	"github.com/dewar-security/dewar/internal/waf"
)

// ReportPath is where browsers send what a policy stopped, with csp-report =
// "auto".
const ReportPath = "/.well-known/dewar/csp-report"

var reportsSpec = &guard.Spec{
	Name:    "csp-reports",
	Control: "headers",
	Does:    "takes browsers' reports about the Content-Security-Policy, groups them, and proposes what to allow",
	Partial: true,
	Failure: guard.FailOpen,
	Event:   "dewar_csp_report",
	Commands: []guard.Command{
		{Name: "csp report", Does: "Lists what browsers reported: by directive, what was stopped and on which route."},
		{Name: "csp propose", Does: "Prints the setting headers.csp with what enough clients asked for and the project's own source names; the rest is listed as a question."},
		{Name: "csp clear", Does: "Forgets the reports: for a new start after a change of the policy.", Changes: true},
	},
}

// Bounds: anybody can send reports.
const (
	maxReport  = 64 << 10 // bytes of one request
	maxReports = 20       // in one request
	maxGroups  = 256
	maxClients = 64 // told apart in a group
	keepGroups = 30 * 24 * time.Hour
	saveEvery  = 10 * time.Second
)

// reportRate is how many requests with reports a client may send: a page
// sends a handful.
var reportRate = store.Rate{Requests: 60, Per: time.Minute}

// reportKey is where the groups are kept over a reload.
const reportKey = "headers:csp-reports"

// group is one sort of violation.
type group struct {
	Directive string    `json:"directive"`
	Blocked   string    `json:"blocked"` // an origin, "inline", "eval", "data:", …
	Route     string    `json:"route"`   // the rule of the page, "?" if it is not known
	Reports   int       `json:"reports"`
	Clients   int       `json:"clients"` // at most maxClients
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	// Prefixes are hashes of the clients' networks, under a seed of this
	// process: enough to count them.
	Prefixes []uint32 `json:"-"`
}

// reports is the csp-reports layer.
type reports struct {
	on      bool
	csp     string
	clients int
	store   store.Store
	now     guard.Clock
	policy  func() *routemap.Policy
	seed    maphash.Seed
	to      string // headers.csp-report, for messages

	mu      sync.Mutex
	groups  map[string]*group
	dropped int // reports for which there was no room
	saved   time.Time
	dirty   bool
}

// NewReports makes the csp-reports layer.
func NewReports(cfg Config, env guard.Env) (guard.Layer, error) {
	if p := cfg.Problems(); len(p) > 0 {
		return nil, fmt.Errorf("headers.%s: %s", p[0].Key, p[0].Message)
	}
	cfg = cfg.withDefaults()
	l := &reports{
		on: cfg.reportTo() == ReportPath && cfg.CSPMode != "off", csp: cfg.CSP, clients: cmp.Or(cfg.CSPClients, 3),
		store: env.Store, now: env.Now, policy: env.Policy, seed: maphash.MakeSeed(), groups: map[string]*group{}, to: cfg.CSPReport,
	}
	if l.now == nil {
		l.now = time.Now
	}
	l.load()
	return l, nil
}

// load takes over what an earlier layer of this guard was told.
func (l *reports) load() {
	if l.store == nil || !l.on {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	data, ok, err := l.store.Get(ctx, reportKey)
	var all []*group
	if err != nil || !ok || json.Unmarshal(data, &all) != nil {
		return
	}
	for _, g := range all {
		if g != nil && len(l.groups) < maxGroups {
			l.groups[g.key()] = g
		}
	}
}

func (g *group) key() string { return g.Directive + " " + g.Blocked + " " + g.Route }

// Request implements [guard.Layer].
func (l *reports) Request(x *guard.Exchange) guard.Decision {
	if !l.on || x.Path != ReportPath {
		return guard.Pass()
	}
	answer := func(status int) guard.Decision {
		d := guard.Decision{Verdict: guard.Answer, Status: status, Quiet: true, Header: http.Header{"Cache-Control": {"no-store"}}}
		if status == http.StatusMethodNotAllowed {
			d.Header.Set("Allow", "POST")
		}
		return d
	}
	if x.Request.Method != http.MethodPost {
		return answer(http.StatusMethodNotAllowed)
	}
	kind := waf.MediaType(x.Request.Header.Get("Content-Type"))
	if kind != "application/csp-report" && kind != "application/reports+json" && kind != "application/json" {
		return answer(http.StatusUnsupportedMediaType)
	}
	if l.store != nil {
		ctx, cancel := context.WithTimeout(x.Request.Context(), 50*time.Millisecond)
		res, err := l.store.Allow(ctx, "csp-report:"+guard.ClientNetwork(x.Client.Addr).String(), reportRate, 1)
		cancel()
		if err == nil && !res.Allowed {
			return answer(http.StatusTooManyRequests)
		}
	}
	x.LimitBody(maxReport)
	body, err := x.Buffer()
	if err != nil {
		return answer(http.StatusRequestEntityTooLarge)
	}
	var all []violation
	if body != nil {
		data, err := io.ReadAll(body.Reader())
		if err != nil {
			return answer(http.StatusBadRequest)
		}
		if all, err = parseReports(data); err != nil {
			return answer(http.StatusBadRequest)
		}
	}
	for _, v := range all {
		l.take(x, v)
	}
	l.save(false)
	return answer(http.StatusNoContent)
}

// violation is one report, in either form.
type violation struct {
	document, blocked, directive, source string
}

// parseReports reads the body of a report: that of report-uri (CSP3 section
// 5.3) or that of the Reporting API.
func parseReports(data []byte) ([]violation, error) {
	var old struct {
		Report *struct {
			Document  string `json:"document-uri"`
			Blocked   string `json:"blocked-uri"`
			Effective string `json:"effective-directive"`
			Violated  string `json:"violated-directive"`
			Source    string `json:"source-file"`
		} `json:"csp-report"`
	}
	if err := json.Unmarshal(data, &old); err == nil && old.Report != nil {
		r := old.Report
		return []violation{{r.Document, r.Blocked, cmp.Or(r.Effective, r.Violated), r.Source}}, nil
	}
	var list []struct {
		Type string `json:"type"`
		Body struct {
			Document  string `json:"documentURL"`
			Blocked   string `json:"blockedURL"`
			Effective string `json:"effectiveDirective"`
			Source    string `json:"sourceFile"`
		} `json:"body"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	var out []violation
	for _, r := range list[:min(len(list), maxReports)] {
		if r.Type == "csp-violation" {
			out = append(out, violation{r.Body.Document, r.Body.Blocked, r.Body.Effective, r.Body.Source})
		}
	}
	return out, nil
}

// directives are those that a report may name.
var directives = []string{
	"base-uri", "child-src", "connect-src", "default-src", "font-src", "form-action", "frame-ancestors", "frame-src", "img-src",
	"manifest-src", "media-src", "object-src", "prefetch-src", "require-trusted-types-for", "sandbox", "script-src", "script-src-attr",
	"script-src-elem", "style-src", "style-src-attr", "style-src-elem", "trusted-types", "worker-src",
}

// blocked names what was stopped without anything of a visitor in it: an
// origin, a scheme, or one of CSP's own words. noise is set for what the
// browser's extensions did, which no policy of a site can change.
func blocked(v string) (name string, noise bool) {
	switch v {
	case "inline", "eval", "wasm-eval", "self", "trusted-types-policy", "trusted-types-sink":
		return v, false
	case "":
		return "inline", false // what old browsers say of inline ones
	case "about", "about:blank":
		return "about:", true
	}
	scheme, _, ok := strings.Cut(v, ":")
	scheme = strings.ToLower(scheme)
	switch {
	case strings.HasSuffix(scheme, "-extension"), scheme == "chrome", scheme == "resource", scheme == "webviewprogressproxy", scheme == "chromenull", scheme == "chromeinvoke", scheme == "mx", scheme == "about":
		return "extension", true
	case !ok:
		if scheme == "data" || scheme == "blob" || scheme == "filesystem" {
			return scheme + ":", false
		}
		return "other", false
	case scheme == "data", scheme == "blob", scheme == "filesystem":
		return scheme + ":", false
	case scheme == "http", scheme == "https", scheme == "ws", scheme == "wss":
		if u, err := url.Parse(v); err == nil && u.Host != "" && len(u.Host) <= 128 && u.User == nil && !strings.ContainsAny(u.Host, " ;,'\"*") {
			return scheme + "://" + strings.ToLower(u.Host), false
		}
	}
	return "other", false
}

// take counts one report.
func (l *reports) take(x *guard.Exchange, v violation) {
	name, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(v.directive)), " ")
	if !slices.Contains(directives, name) {
		return
	}
	what, noise := blocked(v.blocked)
	if _, byExtension := blocked(v.source); noise || byExtension && v.source != "" {
		return
	}
	u, err := url.Parse(v.document)
	if err != nil || !strings.EqualFold(u.Host, x.Client.Host) {
		return // not about a page of ours
	}
	route := "?"
	if l.policy != nil {
		if p := l.policy(); p != nil {
			if m := p.Match(http.MethodGet, u.Path); len(m.Routes) > 0 {
				route = m.Routes[0].Rule
			}
		}
	}
	if o, err := url.Parse(what); err == nil && o.Host != "" && strings.EqualFold(o.Host, x.Client.Host) {
		what = "self"
	}
	now := l.now().UTC().Truncate(time.Second)
	client := uint32(maphash.Comparable(l.seed, guard.ClientNetwork(x.Client.Addr)))

	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[(&group{Directive: name, Blocked: what, Route: route}).key()]
	if g == nil {
		if len(l.groups) >= maxGroups {
			l.dropped++
			return
		}
		g = &group{Directive: name, Blocked: what, Route: route, First: now}
		l.groups[g.key()] = g
		x.Note(guard.Note{Event: "dewar_csp_report", Severity: event.Info, Detail: fmt.Sprintf("%s: %s on %s", name, what, route)})
	}
	g.Reports++
	g.Last, l.dirty = now, true
	if len(g.Prefixes) < maxClients && !slices.Contains(g.Prefixes, client) {
		g.Prefixes = append(g.Prefixes, client)
		g.Clients = max(g.Clients, len(g.Prefixes)) // one more than before a reload is not told apart
	}
}

// save keeps the groups for a later layer.
func (l *reports) save(now bool) {
	if l.store == nil {
		return
	}
	l.mu.Lock()
	if !l.dirty || !now && l.now().Sub(l.saved) < saveEvery {
		l.mu.Unlock()
		return
	}
	data, err := json.Marshal(l.list())
	l.saved, l.dirty = l.now(), false
	l.mu.Unlock()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = l.store.Put(ctx, reportKey, data, keepGroups) // they come again
}

// Close keeps what is not kept yet.
func (l *reports) Close() error {
	l.save(true)
	return nil
}

// list returns the groups, the commonest first. The caller holds the lock.
func (l *reports) list() []*group {
	out := make([]*group, 0, len(l.groups))
	for _, g := range l.groups {
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b *group) int {
		return cmp.Or(b.Clients-a.Clients, b.Reports-a.Reports, strings.Compare(a.key(), b.key()))
	})
	return out
}

// Health implements [guard.Reporter].
func (l *reports) Health() error { return nil }

// Describe implements [guard.Reporter].
func (l *reports) Describe() string {
	if !l.on {
		return "browsers report elsewhere, or nowhere"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, g := range l.groups {
		n += g.Reports
	}
	s := fmt.Sprintf("%d reports of browsers in %d groups", n, len(l.groups))
	if l.dropped > 0 {
		s += fmt.Sprintf(", %d without room", l.dropped)
	}
	return s
}

// reported is a group as "csp report" shows it.
type reported struct {
	Directive string `json:"directive"`
	Blocked   string `json:"blocked"`
	Route     string `json:"route"`
	Reports   int    `json:"reports"`
	Clients   string `json:"clients"`
	Last      string `json:"last"`
}

// Operate implements [guard.Operator].
func (l *reports) Operate(_ context.Context, command string, _ map[string]string) (any, error) {
	if !l.on {
		return nil, fmt.Errorf("headers.csp-report is %q: the guard gets no reports", l.to)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch command {
	case "csp report":
		out := []reported{}
		for _, g := range l.list() {
			clients := strconv.Itoa(g.Clients)
			if g.Clients >= maxClients {
				clients += "+"
			}
			out = append(out, reported{g.Directive, g.Blocked, g.Route, g.Reports, clients, g.Last.Format(time.RFC3339)})
		}
		return out, nil
	case "csp propose":
		return l.propose(), nil
	case "csp clear":
		clear(l.groups)
		l.dropped, l.dirty = 0, true
		return "forgotten", nil
	}
	return nil, guard.ErrNoCommand
}

// propose writes the setting that would let through what enough clients asked
// for and the project's source names. Scripts are never allowed inline, and
// nothing that only browsers named is.
func (l *reports) propose() string {
	var source *derived
	if l.policy != nil {
		if p := l.policy(); p != nil {
			source = derive(p)
		}
	}
	known := func(origin string) bool {
		if source == nil || source.source == nil {
			return false
		}
		if slices.Contains(source.source.Mentioned, origin) {
			return true
		}
		for _, list := range source.source.Origins {
			for _, v := range list {
				if v == origin || strings.HasPrefix(v, origin+"/") {
					return true
				}
			}
		}
		return false
	}
	type wish struct{ directive, what string }
	clients := map[wish]int{}
	for _, g := range l.groups {
		w := wish{strings.TrimSuffix(g.Directive, "-elem"), g.Blocked}
		clients[w] = max(clients[w], g.Clients)
	}
	wishes := make([]wish, 0, len(clients))
	for w := range clients {
		wishes = append(wishes, w)
	}
	slices.SortFunc(wishes, func(a, b wish) int {
		return cmp.Or(strings.Compare(a.directive, b.directive), strings.Compare(a.what, b.what))
	})
	policy := l.csp
	var notes []string
	for _, w := range wishes {
		n := clients[w]
		switch {
		case w.what == "inline" && strings.HasPrefix(w.directive, "script"):
			notes = append(notes, fmt.Sprintf("%s: an inline script or handler that no template writes as it came, %d clients: move it into a file below static/; if nobody wrote it, it is an attack", w.directive, n))
		case w.what == "inline":
			notes = append(notes, fmt.Sprintf("%s: an inline style that no template writes as it came, %d clients", w.directive, n))
		case w.what == "eval" || w.what == "wasm-eval":
			notes = append(notes, fmt.Sprintf("%s: %s, %d clients: a library compiles code from text; look for its build for strict policies", w.directive, w.what, n))
		case strings.Contains(w.what, "://") && known(w.what) && n >= l.clients:
			policy = allow(policy, w.directive, []string{w.what})
		case strings.Contains(w.what, "://") && known(w.what):
			notes = append(notes, fmt.Sprintf("%s %s: named in the source, but by %d clients only (headers.csp-clients is %d)", w.directive, w.what, n, l.clients))
		case strings.Contains(w.what, "://"):
			notes = append(notes, fmt.Sprintf("%s %s: %d clients; the project's templates and static files do not name it", w.directive, w.what, n))
		default:
			notes = append(notes, fmt.Sprintf("%s %s: %d clients", w.directive, w.what, n))
		}
	}
	var b strings.Builder
	b.WriteString("[headers]\n")
	if policy == l.csp {
		b.WriteString("# headers.csp stays as it is\n")
	} else {
		fmt.Fprintf(&b, "csp = %s\n", guard.TOMLString(policy))
	}
	for _, n := range notes {
		fmt.Fprintf(&b, "# decide: %s\n", n)
	}
	return strings.TrimRight(b.String(), "\n")
}
