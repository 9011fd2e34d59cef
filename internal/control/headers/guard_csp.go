package headers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
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
	made map[string]string
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
	d := &derived{from: p, made: map[string]string{}}
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
		s += fmt.Sprintf("; %d pages have more inline texts than a header has room for: some of them do not run where headers.csp is in force", n)
	}
	return s
}

// page returns the inline texts of an answer that are the app's own, and counts
// the answers whose texts do not all fit.
func (l *headers) page(x *guard.Exchange, r *http.Response, d *derived) csp.Page {
	page := l.look(x, r, d)
	if page.Cut {
		l.cut.Add(1)
	}
	return page
}

func (l *headers) look(x *guard.Exchange, r *http.Response, d *derived) csp.Page {
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

// extend returns a policy with what the source and a page add to it.
func (d *derived) extend(base string, page csp.Page) string {
	key := strings.Join([]string{base, strings.Join(page.Scripts, " "), strings.Join(page.Handlers, " "), strings.Join(page.Styles, " "), strings.Join(page.StyleAttributes, " ")}, "|")
	d.mu.Lock()
	defer d.mu.Unlock()
	if v, ok := d.made[key]; ok {
		return v
	}
	v := base
	names := make([]string, 0, len(d.source.Origins))
	for name := range d.source.Origins {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		switch name {
		case "base-uri", "object-src":
			continue // plugins and foreign bases are a decision of a person
		}
		v = allow(v, name, d.source.Origins[name])
	}
	v = allow(v, "script-src", quoted(page.Scripts))
	v = allow(v, "style-src", quoted(page.Styles))
	// Attributes have directives of their own: 'unsafe-hashes' in script-src
	// would let an injected handler run any script that the page has.
	if len(page.Handlers) > 0 {
		v = allow(v, "script-src-attr", append([]string{"'unsafe-hashes'"}, quoted(page.Handlers)...))
	}
	if len(page.StyleAttributes) > 0 {
		v = allow(v, "style-src-attr", append([]string{"'unsafe-hashes'"}, quoted(page.StyleAttributes)...))
	}
	if len(d.made) >= maxPolicies {
		clear(d.made)
	}
	d.made[key] = v
	return v
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
