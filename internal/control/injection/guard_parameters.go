package injection

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
)

var parametersSpec = &guard.Spec{
	Name:     "parameters",
	Partial:  true,
	Advises:  true,
	Control:  "injection",
	Does:     "holds the fields of a request to what the source of the app reads: their names, types, number and, where settings say so, length",
	Blocking: true,
	Event:    "input_validation_fail",
	Severity: event.Info,
	Failure:  guard.FailOpen,
	Reasons: []guard.Reason{
		{Name: "parameter-type", Why: "The value is none of the type that the code turns it into: text for int(). It would be an error, or the default, in the app.", Fix: "Nothing, if the app says so to the visitor. An [[injection.field]] entry for the field says otherwise."},
		{Name: "parameter-repeated", Why: "The code reads one value of a field that came several times: two readers may take different ones (parameter pollution, CWE-235).", Fix: "Write an [[injection.field]] entry with repeated = true, if the app reads all of them."},
		{Name: "parameter-unknown", Why: "No code of the route reads a field of this name; whoever adds one hopes that something takes it over (mass assignment, CWE-915).", Fix: "Write an [[injection.field]] entry for it, if the app uses it; dewar policy propose writes those that visitors need."},
		{Name: "parameter-length", Why: "The value is longer than its [[injection.field]] entry allows.", Fix: "Raise max-length there."},
		{Name: "parameter-file", Why: "A file came to a route whose code reads none.", Fix: "Write an [[injection.field]] entry with in = \"file\", if the app takes it."},
		{Name: "parameter-unreadable", Why: "The fields of the request cannot be read as the app would read them.", Fix: "Correct the client."},
	},
	Commands: []guard.Command{
		{Name: "policy report", Does: "Shows what fields real traffic brought to each route beside what the source reads (injection.learn).", Args: []guard.Arg{{Name: "all", Does: "yes: also where both agree", Optional: true}}},
		{Name: "policy propose", Does: "Writes what real traffic needs and the source does not show as settings for dewar.toml.", Args: []guard.Arg{
			{Name: "clients", Does: "how many clients must have sent a field (default 3)", Optional: true},
			{Name: "lengths", Does: "yes: also bound the length of every field that was seen", Optional: true}}},
		{Name: "policy forget", Does: "Forgets what was learnt of real traffic.", Changes: true},
	},
}

// Parameters is the parameters layer.
type Parameters struct {
	policy func() *policy.Policy
	fields map[fieldKey]FieldRule
	learnt *learner // nil: nothing is learnt
}

// fieldKey names a field of a route in the settings.
type fieldKey struct{ rule, in, name string }

// NewParameters returns the parameters layer.
func NewParameters(cfg Config, env guard.Env) (guard.Layer, error) {
	if p := cfg.Problems(); len(p) > 0 {
		return nil, fmt.Errorf("injection.%s: %s", p[0].Key, p[0].Message)
	}
	l := &Parameters{policy: env.Policy, fields: map[fieldKey]FieldRule{}}
	for _, f := range cfg.Fields {
		l.fields[fieldKey{f.Route, f.In, f.Name}] = f
	}
	if cfg.Learn {
		l.learnt = newLearner(env.Store, env.Now)
	}
	return l, nil
}

// Close implements [io.Closer].
func (l *Parameters) Close() error {
	if l.learnt == nil {
		return nil
	}
	return l.learnt.save(context.Background())
}

func (l *Parameters) current() *policy.Policy {
	if l.policy == nil {
		return nil
	}
	return l.policy()
}

// Health implements [guard.Reporter].
func (l *Parameters) Health() error { return nil }

// Describe implements [guard.Reporter].
func (l *Parameters) Describe() string {
	p := l.current()
	if p == nil {
		return "nothing: the source's routes are not known"
	}
	n, typed := 0, 0
	for _, r := range p.Routes() {
		for _, f := range r.Fields {
			n++
			if typeChecks[f.Type] != nil {
				typed++
			}
		}
	}
	s := fmt.Sprintf("%d fields of %d routes by their names, %d by their types", n, len(p.Routes()), typed)
	if len(l.fields) > 0 {
		s += fmt.Sprintf(", %d by the settings", len(l.fields))
	}
	if l.learnt != nil {
		s += "; what real traffic brings is learnt"
	}
	return s
}

// Request implements [guard.Layer].
func (l *Parameters) Request(x *guard.Exchange) guard.Decision {
	p := l.current()
	if p == nil {
		return guard.Pass()
	}
	for _, name := range methodOverrides {
		if len(x.Request.Header[name]) > 0 {
			return guard.Pass() // it may be a request to another route
		}
	}
	m := x.Match(p)
	if len(m.Routes) == 0 {
		return guard.Pass()
	}
	fields, err := x.Fields()
	if errors.Is(err, guard.ErrFieldsMalformed) || errors.Is(err, guard.ErrFieldsTooMany) {
		return guard.Refuse(http.StatusBadRequest, "parameter-unreadable", err.Error())
	}
	for i := range fields {
		if d := l.judge(m, fields, i); d.Verdict != guard.Allow {
			return d
		}
	}
	return guard.Pass()
}

// judge looks at one field. Details name fields, never values.
func (l *Parameters) judge(m policy.Match, all guard.Fields, i int) guard.Decision {
	f := &all[i]
	if f.Guessed || f.Depth > 1 || f.In == policy.JSON && f.Depth == 0 {
		return guard.Pass()
	}
	refuse := func(reason, why string) guard.Decision {
		return guard.Refuse(http.StatusBadRequest, reason, fmt.Sprintf("%s %s of %s: %s", f.In, quoteShort(f.Name), m.Routes[0].Rule, why))
	}
	set, ok := l.setting(m, f)
	if ok && set.MaxLength > 0 && len(f.Value) > set.MaxLength {
		return refuse("parameter-length", fmt.Sprintf("%d bytes, allowed %d", len(f.Value), set.MaxLength))
	}
	typ, known := m.Type(f.In, f.Name)
	if ok {
		typ, known = set.Type, true
	} else if !m.Reads(f.In, f.Name) && !ofFramework(m, f) {
		switch f.In {
		case policy.File:
			if f.Value != "" {
				return refuse("parameter-file", "no code reads it")
			}
		case policy.Form, policy.JSON:
			return refuse("parameter-unknown", "no code reads it")
		}
		return guard.Pass() // in a query anybody's mark may stand: of a newsletter, a search engine
	}
	if !known {
		return guard.Pass()
	}
	if check := typeChecks[typ]; check != nil && f.Value != "" && f.Kind != guard.JSONNull && f.Kind != guard.JSONBool && !check(f) {
		return refuse("parameter-type", "no "+typ)
	}
	if (f.In == policy.Query || f.In == policy.Form) && typ != "list" && typ != "bool" && !(ok && set.Repeated) && !strings.HasSuffix(f.Name, "[]") && all.Count(f.In, f.Name) > 1 {
		return refuse("parameter-repeated", fmt.Sprintf("%d times", all.Count(f.In, f.Name)))
	}
	return guard.Pass()
}

// setting returns what the settings say of a field of any route that could
// answer.
func (l *Parameters) setting(m policy.Match, f *guard.Field) (FieldRule, bool) {
	if len(l.fields) == 0 {
		return FieldRule{}, false
	}
	for _, r := range m.Routes {
		if s, ok := l.fields[fieldKey{r.Rule, f.In, f.Name}]; ok {
			return s, true
		}
	}
	return FieldRule{}, false
}

// ofFramework says whether a field belongs to an extension that reads it
// before the view: the token against forged requests.
func ofFramework(m policy.Match, f *guard.Field) bool {
	if f.In != policy.Form {
		return false
	}
	if strings.HasPrefix(f.Name, guard.OwnFieldPrefix) {
		return true // the guard's own
	}
	for _, r := range m.Routes {
		if r.CSRF == "checked" || r.CSRF == "exempt" {
			return strings.Contains(strings.ToLower(f.Name), "csrf")
		}
	}
	return false
}

// typeChecks say of each type of the map whether a value can be of it, as Python
// would read it. Types that are not here take everything.
var typeChecks = map[string]func(*guard.Field) bool{
	"int":   func(f *guard.Field) bool { return isInt(f.Value) || f.Kind == guard.JSONNumber },
	"float": func(f *guard.Field) bool { return isFloat(f.Value) || f.Kind == guard.JSONNumber },
	"UUID":  func(f *guard.Field) bool { return isUUID(f.Value) },
}

// isInt is what int() takes: spaces around it, a sign, digits of any script,
// underscores between them.
func isInt(s string) bool {
	s = strings.TrimSpace(s)
	if s != "" && (s[0] == '-' || s[0] == '+') {
		s = s[1:]
	}
	last := '_'
	for _, r := range s {
		if r != '_' && !unicode.Is(unicode.Nd, r) || r == '_' && last == '_' {
			return false
		}
		last = r
	}
	return last != '_'
}

// isFloat is what float() takes, and a comma for the point.
func isFloat(s string) bool {
	s = strings.ToLower(strings.TrimSpace(s))
	if s != "" && (s[0] == '-' || s[0] == '+') {
		s = s[1:]
	}
	switch s {
	case "inf", "infinity", "nan":
		return true
	}
	mantissa, exponent, hasExponent := strings.Cut(s, "e")
	if hasExponent && !isInt(exponent) {
		return false
	}
	whole, fraction, _ := strings.Cut(strings.Replace(mantissa, ",", ".", 1), ".")
	if whole == "" && fraction == "" {
		return false
	}
	digits := func(s string) bool { return s == "" || unicode.Is(unicode.Nd, []rune(s)[0]) && isInt(s) }
	return digits(whole) && digits(fraction)
}

// isUUID is what uuid.UUID takes: 32 digits, whatever hyphens, braces and
// urn:uuid: there are.
func isUUID(s string) bool {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "urn:", ""), "uuid:", "")
	s = strings.ReplaceAll(strings.Trim(s, "{}"), "-", "")
	return len(s) == 32 && strings.Trim(strings.ToLower(s), "0123456789abcdef") == ""
}

// Response implements [guard.Responder]: it learns from requests that the app
// took and that no layer had anything to say of.
func (l *Parameters) Response(x *guard.Exchange, r *http.Response) guard.Decision {
	if l.learnt == nil || r.StatusCode >= 400 {
		return guard.Pass()
	}
	for i := range x.Decisions {
		// What this layer and the one before it noted is what is to be learnt.
		if d := &x.Decisions[i]; d.Verdict == guard.Deny || d.Verdict == guard.Answer || d.Verdict == guard.Observed && d.Layer != parametersSpec.Name && d.Layer != routesSpec.Name {
			return guard.Pass()
		}
	}
	p := l.current()
	if p == nil {
		return guard.Pass()
	}
	m := x.Match(p)
	if len(m.Routes) == 0 {
		return guard.Pass()
	}
	if fields, err := x.Fields(); err == nil {
		l.learnt.note(m.Routes[0].Rule, x.Request.Method, x.Client.Addr, fields)
	}
	return guard.Pass()
}

// Operate implements [guard.Operator].
func (l *Parameters) Operate(ctx context.Context, command string, args map[string]string) (any, error) {
	if l.learnt == nil {
		return nil, errors.New("nothing is learnt: set injection.learn = true, and let visitors come")
	}
	switch command {
	case "policy report":
		return l.learnt.report(l.current(), l, args["all"] != ""), nil
	case "policy propose":
		return l.learnt.propose(l.current(), l, args["clients"], args["lengths"] != "")
	case "policy forget":
		return "forgotten", l.learnt.forget(ctx)
	}
	return nil, guard.ErrNoCommand
}
