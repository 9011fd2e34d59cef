package injection

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/payload"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/waf"
)

var patchesSpec = &guard.Spec{
	Name:     "virtual-patches",
	Partial:  true,
	Control:  "injection",
	Does:     "holds findings of the audit shut until they are fixed: of the parameters that flow into one, only values that stay in their place there reach the app",
	Blocking: true,
	Event:    "input_validation_fail",
	Severity: event.High,
	Failure:  guard.FailClosed,
	Reasons: []guard.Reason{
		{Name: "virtual-patch", Why: "The audit found that this parameter flows into a statement, a command, a path or the like, and the value would be more than a value there.", Fix: "Fix the finding that the event names; the patch goes with it. Until then virtual-patches = \"observe\" in [[route]] modes lets such values pass on that route, and with them attacks."},
		{Name: "virtual-patch-unreadable", Why: "The request's fields cannot be read as the app would read them, and one of them flows into a finding of the audit.", Fix: "Correct the client, or fix the finding."},
	},
}

// Attributes of the layer's events.
const (
	attrCheck       = "patch.check"
	attrFingerprint = "patch.fingerprint"
	attrPlace       = "patch.place"
	attrParameter   = "patch.parameter"
)

// Patches is the virtual-patches layer.
type Patches struct {
	streams atomic.Bool // some route's bodies are not looked at
	policy  func() *policy.Policy
	facts   func() guard.Facts
	from    int
}

// severities are the audit's, lowest first.
var severities = []string{"low", "medium", "high", "critical"}

// NewPatches returns the virtual-patches layer.
func NewPatches(cfg Config, env guard.Env) (guard.Layer, error) {
	if p := cfg.Problems(); len(p) > 0 {
		return nil, fmt.Errorf("injection.%s: %s", p[0].Key, p[0].Message)
	}
	l := &Patches{policy: env.Policy, facts: env.Facts, from: slices.Index(severities, "high")}
	if cfg.PatchFrom != "" {
		l.from = slices.Index(severities, cfg.PatchFrom)
	}
	return l, nil
}

func (l *Patches) current() *policy.Policy {
	if l.policy == nil {
		return nil
	}
	return l.policy()
}

// refuses says whether what breaks a patch is refused, or only noted: the
// audit must be rather sure, and the finding bad.
func (l *Patches) refuses(p *policy.Patch) bool {
	return slices.Index(severities, p.Severity) >= l.from && (p.Confidence == "likely" || p.Confidence == "certain")
}

// CheckOverride implements [guard.OverrideChecker]: what streams past is seen by
// nobody, so that no patch of a body is proof any more.
func (l *Patches) CheckOverride(o *guard.Override) error {
	if o.Stream {
		l.streams.Store(true)
	}
	return nil
}

// Health implements [guard.Reporter].
func (l *Patches) Health() error { return nil }

// Describe implements [guard.Reporter].
func (l *Patches) Describe() string {
	p := l.current()
	if p == nil {
		return "nothing: the project's findings are not known"
	}
	shut, watched := 0, 0
	for _, x := range p.Patches() {
		if l.refuses(x) {
			shut++
		} else {
			watched++
		}
	}
	s := fmt.Sprintf("%d findings of the audit held shut", shut)
	if watched > 0 {
		s += fmt.Sprintf(", %d only watched", watched)
	}
	return s
}

// Request implements [guard.Layer].
func (l *Patches) Request(x *guard.Exchange) guard.Decision {
	p := l.current()
	if p == nil || len(p.Patches()) == 0 {
		return guard.Pass()
	}
	m := x.Match(p)
	if len(m.Others) > 0 && overridden(x) {
		// The app may take it for a request to another route.
		m.Routes = append(slices.Clone(m.Routes), m.Others...)
	}
	var d guard.Decision
	p.Patched(m, func(r *policy.Route, one policy.Patched) {
		if d.Verdict == guard.Deny {
			return
		}
		what, why, err := judge(x, r, one)
		reason, noted := "virtual-patch", errors.Is(err, errWatched)
		if noted {
			err = nil
		}
		if err != nil {
			// A body that did not come is another layer's to refuse.
			if !errors.Is(err, guard.ErrFieldsMalformed) && !errors.Is(err, guard.ErrFieldsTooMany) {
				return
			}
			reason, what, why = "virtual-patch-unreadable", one.In, err.Error()
		} else if why == "" {
			return
		}
		status := http.StatusForbidden
		if err != nil {
			status = http.StatusBadRequest
		}
		found := guard.Refuse(status, reason, fmt.Sprintf("%s would not stay in its place in %s (%s): %s at %s:%d", what, one.Language, why, one.Check, one.File, one.Line))
		found.Attributes = map[string]string{attrCheck: one.Check, attrFingerprint: one.Fingerprint, attrPlace: fmt.Sprintf("%s:%d", one.File, one.Line), attrParameter: what}
		if noted || !l.refuses(one.Patch) {
			found.Verdict, found.Severity = guard.Observed, event.Warn
		}
		if found.Verdict == guard.Deny || d.Verdict == guard.Allow {
			d = found
		}
	})
	return d
}

// overridden is what [overridesMethod] says of a request, by its fields. A body
// that is not seen may have one of that name.
func overridden(x *guard.Exchange) bool {
	r := x.Request
	if overridesMethod(r.URL.RawQuery, r.Header, func() []byte { return nil }) {
		return true
	}
	if r.Method != http.MethodPost {
		return false // what middleware takes for another method is a form
	}
	fields, err := x.Fields()
	for i := range fields {
		if f := &fields[i]; f.In == policy.Form && strings.EqualFold(strings.TrimSpace(f.Name), methodField) {
			return true
		}
	}
	return err != nil || x.Streams()
}

// judge looks at the values of one parameter. what names the one that does not
// stay in its place, why says how.
func judge(x *guard.Exchange, r *policy.Route, one policy.Patched) (what, why string, err error) {
	if one.Language == "attribute" {
		return judgeNames(x, one)
	}
	sink := sinkOf(x, one)
	switch one.In {
	case "body", "content":
		return judgeDocuments(x, one)
	case "path":
		if r == nil {
			return "", "", nil
		}
		if v, ok := r.PathValue(x.Path, one.Name); ok {
			why = sink.Breaks(v)
		}
		return "path " + one.Name, why, nil
	case policy.Header:
		for _, v := range x.Request.Header.Values(one.Name) {
			if why = sink.Breaks(v); why != "" {
				break
			}
		}
		return "header " + one.Name, why, nil
	case policy.Cookie:
		for _, v := range cookies(x.Request.Header, one.Name) {
			if why = sink.Breaks(v); why != "" {
				break
			}
		}
		return "cookie " + one.Name, why, nil
	}
	fields, err := x.Fields()
	for i := range fields {
		f := &fields[i]
		if f.In != one.In {
			continue
		}
		below := ""
		if one.Name != "" && f.Name != one.Name {
			rest, ok := strings.CutPrefix(f.Name, one.Name)
			if !ok || f.In != policy.JSON || rest == "" || rest[0] != '.' {
				continue
			}
			below = f.Name[strings.LastIndexByte(f.Name, '.')+1:]
		} else if one.Name == "" && !f.File {
			below = f.Name
		}
		switch {
		case f.Kind == guard.JSONObject && (one.Name != "" || f.Depth > 0):
			why = "an object where a plain value is meant"
		case below != "":
			why = sink.Breaks(below)
		}
		if why == "" {
			why = sink.Breaks(f.Value)
		}
		if why != "" {
			name := one.Name
			if name == "" && !f.File {
				name = "a field"
			}
			return strings.TrimSpace(one.In + " " + name), why, nil
		}
	}
	return "", "", err
}

// breaker is what judges one value.
type breaker interface{ Breaks(text string) string }

// breaks is a breaker that is a function.
type breaks func(text string) string

// Breaks implements breaker.
func (b breaks) Breaks(text string) string { return b(text) }

func sinkOf(x *guard.Exchange, one policy.Patched) breaker {
	switch one.Language {
	case "regex-text":
		return breaks(func(text string) string { return breaksRegexText(one.Pattern, one.Spot, text) })
	case "regex":
		return breaks(func(text string) string {
			if len(text) > maxPattern {
				return "longer than can be judged"
			}
			if runaway(text, false) || runaway(text, true) {
				return "a pattern that can take exponential time"
			}
			return ""
		})
	}
	return payload.Sink{Language: one.Language, Spot: one.Spot, Host: x.Client.Host}
}

// judgeDocuments looks at the whole body, or at what is in the files of it.
func judgeDocuments(x *guard.Exchange, one policy.Patched) (what, why string, err error) {
	if r := x.Request; r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return "", "", nil
	}
	if x.Streams() {
		return "", "", nil // the override says that nobody looks at it
	}
	body, err := x.Buffer()
	if err != nil {
		return "", "", err
	}
	sink := payload.Sink{Language: one.Language, Spot: one.Spot}
	read := func(r io.Reader, size int64) string {
		b, err := io.ReadAll(io.LimitReader(r, payload.MaxDocument))
		if err != nil {
			return "it cannot be read"
		}
		return sink.BreaksDocument(b, int64(len(b)) == size)
	}
	if one.In == "body" {
		return "body", read(body.Reader(), body.Size()), nil
	}
	if waf.MediaType(x.Request.Header.Get("Content-Type")) != "multipart/form-data" {
		return "", "", nil
	}
	parts, err := x.Parts(guard.MaxFields)
	if err != nil {
		return "file", "", fmt.Errorf("%w: %w", guard.ErrFieldsMalformed, err)
	}
	for i := range parts {
		p := &parts[i]
		if !p.File {
			continue
		}
		if why = read(p.Content(body), p.Size); why != "" {
			return "file", why, nil
		}
	}
	return "file", "", nil
}

// errWatched stands for a name of which nobody knows whether it may come.
var errWatched = errors.New("only watched")

// judgeNames looks at the names of fields, by which attributes are set.
func judgeNames(x *guard.Exchange, one policy.Patched) (what, why string, err error) {
	fields, err := x.Fields()
	watched := ""
	for i := range fields {
		f := &fields[i]
		if f.In != one.In || f.Name == "" {
			continue
		}
		name := f.Name
		if f.In == policy.JSON {
			if one.Name != "" && !strings.HasPrefix(name, one.Name+".") {
				continue
			}
			name = name[strings.LastIndexByte(name, '.')+1:]
		}
		same := func(n string) bool { return strings.EqualFold(n, name) }
		if slices.ContainsFunc(one.Names, same) {
			return one.In + " " + name, "privileged, and no form of the app offers it", nil
		}
		if watched == "" && slices.ContainsFunc(one.Watched, same) {
			watched = name
		}
	}
	if err == nil && watched != "" {
		return one.In + " " + watched, "no form of the app offers it", errWatched
	}
	return "", "", err
}

// cookies returns the values of a cookie as they came, and as they are without
// quotation marks around them.
func cookies(h http.Header, name string) []string {
	var out []string
	for _, line := range h["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			key, value, _ := strings.Cut(pair, "=")
			if strings.Trim(key, " \t") != name {
				continue
			}
			value = strings.Trim(value, " \t")
			if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
				out = append(out, unquoteCookie(value[1:len(value)-1]))
				continue
			}
			out = append(out, value)
		}
	}
	return out
}

// unquoteCookie undoes \" and \012, as Werkzeug does.
func unquoteCookie(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		octal := i+3 < len(s)
		for _, c := range []byte(s[i+1 : min(i+4, len(s))]) {
			octal = octal && '0' <= c && c <= '7'
		}
		if octal && s[i+1] <= '3' {
			b = append(b, (s[i+1]-'0')<<6|(s[i+2]-'0')<<3|s[i+3]-'0')
			i += 3
			continue
		}
		b = append(b, s[i+1])
		i++
	}
	return string(b)
}

// Proves implements [guard.Prover]: the findings that are held shut for sure.
// Nothing is said of one that has a source which no parameter covers, of a
// host's name, which can lead elsewhere after it was judged, and of routes that
// the app has elsewhere, too, by its own url_map.
func (l *Patches) Proves() []evidence.Evidence {
	p := l.current()
	if p == nil || l.facts == nil {
		return nil
	}
	facts := l.facts()
	if !facts.Known {
		return nil
	}
	for _, e := range facts.Elsewhere {
		if !strings.HasPrefix(e, "before_request ") && !strings.HasPrefix(e, "after_request ") && !strings.HasPrefix(e, "error handler ") {
			return nil // paths may be other ones to the app than they are here
		}
	}
	rules := map[string][]string{}
	for _, r := range facts.Routes {
		rules[r.Endpoint] = append(rules[r.Endpoint], r.Rule)
	}
	var out []evidence.Evidence
	for _, x := range p.Patches() {
		if !l.refuses(x) || len(x.Open) > 0 || x.Unbound || x.Language == "url" {
			continue
		}
		proven := true
		var names []string
		for _, param := range x.Parameters {
			names = append(names, strings.TrimSpace(param.In+" "+param.Name)+" of "+param.Rule)
			if l.streams.Load() && !slices.Contains([]string{"path", policy.Query, policy.Header, policy.Cookie}, param.In) {
				proven = false
				break
			}
			if param.Rule == "*" {
				continue
			}
			proven = proven && len(rules[param.Endpoint]) > 0
			for _, rule := range rules[param.Endpoint] {
				proven = proven && slices.ContainsFunc(x.Parameters, func(o policy.PatchParameter) bool {
					return o.Rule == rule && o.Endpoint == param.Endpoint && o.In == param.In && o.Name == param.Name
				})
			}
		}
		if !proven {
			continue
		}
		out = append(out, evidence.Evidence{
			Control: evidence.ControlID(x.Control), Check: evidence.PatchCheck(x.Fingerprint), Outcome: evidence.Pass, Partial: true,
			Summary:  fmt.Sprintf("%s at %s:%d is held shut: %s", x.Check, x.File, x.Line, strings.Join(names, ", ")),
			Location: &evidence.Location{File: x.File, Line: x.Line},
		})
	}
	return out
}
