package headers

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/dewar-security/dewar/internal/csp"
	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
	routemap "github.com/dewar-security/dewar/internal/policy"
)

// maxPage is how much of a page is looked at, in bytes, decoded. A larger one
// is allowed what no page changes.
const maxPage = 2 << 20

// maxPolicies is how many policies are remembered; each page of an app mostly
// has the same.
const maxPolicies = 512

// derived is what the app's source adds to the policy of the settings.
type derived struct {
	from   *routemap.Policy
	source *csp.Source
	m      *csp.Matcher
	err    error // the source's content cannot be used
	fixed  csp.Page

	mu   sync.Mutex
	made map[string]made
}

// derived returns what the source adds, or nil. It is worked out once for
// every policy that comes into force.
func (l *headers) derived() *derived {
	if l.policy == nil {
		return nil
	}
	p := l.policy()
	if p == nil {
		return nil
	}
	d := l.source.Load()
	if d == nil || d.from != p {
		d = derive(p)
		l.source.Store(d)
	}
	if d.m == nil {
		return nil
	}
	return d
}

func derive(p *routemap.Policy) *derived {
	d := &derived{from: p, made: map[string]made{}}
	content := p.Content()
	if len(content) == 0 || string(content) == "null" {
		return d
	}
	d.source = &csp.Source{}
	if d.err = json.Unmarshal(content, d.source); d.err != nil {
		return d
	}
	// A policy file may come from anywhere: what is no source expression
	// would be a directive of its own.
	for name, list := range d.source.Origins {
		for _, v := range list {
			if strings.ContainsAny(v, " ;,\t\r\n'\"") || strings.ContainsAny(name, " ;,") {
				d.err = fmt.Errorf("%q is no source for %s", v, name)
				return d
			}
		}
	}
	if d.m, d.err = csp.NewMatcher(d.source); d.err == nil {
		d.fixed = d.m.Fixed()
	}
	return d
}

// describeSource says for the evidence what the source adds.
func (l *headers) describeSource() string {
	if l.policy == nil {
		return ""
	}
	p := l.policy()
	if p == nil {
		return ", without the app's source"
	}
	l.derived()
	d := l.source.Load()
	switch {
	case d == nil || d.source == nil && d.err == nil:
		return ""
	case d.err != nil:
		return ", without the app's templates: " + d.err.Error()
	}
	s := fmt.Sprintf(", extended by %d inline texts of the templates", len(d.source.Scripts)+len(d.source.Handlers)+len(d.source.Styles)+len(d.source.StyleAttributes))
	if n := len(d.source.Gaps); n > 0 {
		s += fmt.Sprintf(" (%d more cannot be told by their content: dewar routes --json)", n)
	}
	if n := l.large.Load(); n > 0 {
		s += fmt.Sprintf("; %d pages were too long to look at, or streamed", n)
	}
	if n := l.cut.Load(); n > 0 {
		s += fmt.Sprintf("; %d pages have more inline texts than a header has room for: some of them do not run where headers.csp is in force (headers.csp-max)", n)
	}
	return s
}

// page returns the inline texts of an answer that are the app's own.
func (l *headers) page(x *guard.Exchange, r *http.Response, d *derived) csp.Page {
	if !d.m.Dynamic() || x.Request != nil && x.Request.Method == http.MethodHead || r.Body == nil || r.Body == http.NoBody {
		return d.fixed
	}
	if r.ContentLength < 0 || r.ContentLength > maxPage {
		l.large.Add(1) // a page that comes in pieces is not held up
		return d.fixed
	}
	text, err := guard.PeekBody(r, maxPage+1)
	if err != nil || len(text) > maxPage {
		l.large.Add(1)
		return d.fixed
	}
	page := d.m.Match(text)
	for _, k := range page.Copied {
		x.Note(guard.Note{
			Event: "malicious_script", Severity: event.High, Reason: "csp-copied",
			Detail: fmt.Sprintf("more than one script of %s:%d on one page", k.File, k.Line),
		})
	}
	return page
}

// made is a policy as it was extended.
type made struct {
	policy string
	cut    bool
}

// extend returns a policy with what the source and a page add to it, in at most
// most bytes, and whether something had no room. secure says that browsers ask
// for everything over https.
func (d *derived) extend(base string, page csp.Page, secure bool, most int) (policy string, cut bool) {
	key := strings.Join([]string{base, fmt.Sprint(secure, page.Cut), strings.Join(page.Scripts, " "), strings.Join(page.Handlers, " "), strings.Join(page.Styles, " "), strings.Join(page.StyleAttributes, " ")}, "|")
	d.mu.Lock()
	defer d.mu.Unlock()
	if v, ok := d.made[key]; ok {
		return v.policy, v.cut
	}
	v := made{policy: base, cut: page.Cut}
	// One after the other: what comes first breaks most if it is not there.
	add := func(name string, sources []string) (all bool) {
		n := sort.Search(len(sources), func(n int) bool { return len(allow(v.policy, name, sources[:n+1])) > most })
		v.policy = allow(v.policy, name, sources[:n])
		v.cut = v.cut || n < len(sources)
		return n == len(sources)
	}
	add("script-src", quoted(page.Scripts))
	for _, name := range slices.Sorted(maps.Keys(d.source.Origins)) {
		switch name {
		case "base-uri", "object-src":
			continue // plugins and foreign bases are a decision of a person
		}
		list := d.source.Origins[name]
		if secure {
			list = slices.Clone(list)
			for i, o := range list {
				list[i] = upgraded(o)
			}
		}
		add(name, list)
	}
	// Attributes have directives of their own: 'unsafe-hashes' in script-src
	// would let an injected handler run any script that the page has.
	if len(page.Handlers) > 0 {
		add("script-src-attr", append([]string{"'unsafe-hashes'"}, quoted(page.Handlers)...))
	}
	add("style-src", quoted(page.Styles))
	if len(page.StyleAttributes) > 0 {
		before := v
		if !add("style-src-attr", append([]string{"'unsafe-hashes'"}, quoted(page.StyleAttributes)...)) {
			// An attribute's style has no selectors and runs nothing: a page
			// that looks wrong would be the worse harm.
			v = before
			v.policy = allow(v.policy, "style-src-attr", []string{"'unsafe-inline'"})
		}
	}
	if len(d.made) >= maxPolicies {
		clear(d.made)
	}
	d.made[key] = v
	return v.policy, v.cut
}

// upgraded returns the source for what browsers load instead of a cleartext one.
func upgraded(source string) string {
	switch scheme, rest, _ := strings.Cut(source, "://"); scheme {
	case "http":
		return "https://" + rest
	case "ws":
		return "wss://" + rest
	}
	return source
}

func quoted(hashes []string) []string {
	out := make([]string, len(hashes))
	for i, h := range hashes {
		out[i] = "'" + h + "'"
	}
	return out
}

// allow adds sources to a directive of a policy. A directive that is not there
// begins with what rules in its place (CSP3 section 6.8.3), so that adding to
// it allows nothing less.
func allow(policy, name string, sources []string) string {
	if len(sources) == 0 {
		return policy
	}
	fallback := "default-src"
	switch name {
	case "script-src-attr", "style-src-attr":
		fallback = "" // what the pages' own texts need, and nothing else
	case "form-action", "frame-ancestors", "base-uri":
		fallback = ""
	}
	now, has := directive(policy, name)
	if !has {
		if name == "form-action" {
			return policy // everything is allowed
		}
		if fallback != "" {
			if now, has = directive(policy, fallback); !has {
				return policy
			}
		}
	}
	list := strings.Fields(now)
	if len(list) == 1 && strings.EqualFold(list[0], "'none'") {
		list = nil
	}
	inline := slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, "'unsafe-inline'") })
	for _, s := range sources {
		if inline && strings.HasPrefix(s, "'sha256-") {
			continue // a hash would switch 'unsafe-inline' off, which the operator wrote
		}
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return setDirective(policy, name, strings.Join(list, " "))
}

// directive returns the value of a directive of a policy.
func directive(policy, name string) (value string, ok bool) {
	for d := range strings.SplitSeq(policy, ";") {
		key, v, _ := strings.Cut(strings.TrimSpace(d), " ")
		if strings.EqualFold(key, name) {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}
