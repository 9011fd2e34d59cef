package waf

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/payload"
	"github.com/dewar-security/dewar/internal/waf/seclang"
)

// The Core Rule Set goes by words and signs. Beside it stands a judge that
// goes by grammar (package payload): it refuses values in which a database, a
// shell, a browser or another interpreter would read structure, wrapped in
// Base64 or not; and where the Core Rule Set refuses a value that the interpreter
// in question would only ever take for data, it has the last word.
//
// Letting go is exact: the rules run a second time, without those that look
// for what a parameter's value is certain not to be (payload.Inert), and only
// if nothing else denies the request does it pass.

// rulesStructure is the id before that of the first kind of structure; the
// ids are stable, so that an [Exclusion] can name one.
const rulesStructure = 22000200

// structureRule returns the id under which a kind of structure is reported.
func structureRule(k payload.Kind) int { return rulesStructure + int(k) }

// addStructureRules makes the judges' ids known, so that exclusions can name
// them.
func (e *Engine) addStructureRules() {
	for k := payload.SQL; k <= payload.Header; k++ {
		e.structure = append(e.structure, structureRule(k))
	}
	e.attacks = append(e.attacks, e.structure...)
}

// exempt says that a plan leaves a rule out, altogether or for a parameter.
func (p *Plan) exempt(id int, key string) bool {
	if p == nil {
		return false
	}
	return slices.Contains(p.rules, id) || slices.ContainsFunc(p.targets, func(t target) bool { return t.rule == id && t.rx.MatchString(key) })
}

// secret says that by a plan a parameter holds a secret.
func (p *Plan) secret(key string) bool {
	return p != nil && slices.ContainsFunc(p.secrets, func(rx *regexp.Regexp) bool { return rx.MatchString(key) })
}

// plainHeaders are headers in which no app looks for text: protocol, or
// judged elsewhere.
var plainHeaders = map[string]bool{
	"Accept": true, "Accept-Charset": true, "Accept-Encoding": true, "Accept-Language": true, "Access-Control-Request-Headers": true, "Access-Control-Request-Method": true, "Authorization": true,
	"Cache-Control": true, "Connection": true, "Content-Encoding": true, "Content-Length": true, "Content-Type": true, "Cookie": true, "Date": true, "Dnt": true, "Expect": true, "Forwarded": true,
	"If-Match": true, "If-Modified-Since": true, "If-None-Match": true, "If-Range": true, "If-Unmodified-Since": true, "Origin": true, "Pragma": true, "Priority": true, "Range": true, "Te": true, "Transfer-Encoding": true,
	"Upgrade": true, "Upgrade-Insecure-Requests": true, "Via": true, "X-Forwarded-For": true, "X-Forwarded-Host": true, "X-Forwarded-Proto": true, "X-Request-Id": true, "X-Csrf-Token": true, "X-Csrftoken": true, "X-Xsrf-Token": true,
	"Sec-Ch-Ua": true, "Sec-Ch-Ua-Mobile": true, "Sec-Ch-Ua-Platform": true, "Sec-Fetch-Dest": true, "Sec-Fetch-Mode": true, "Sec-Fetch-Site": true, "Sec-Fetch-User": true, "Sec-Websocket-Key": true, "Sec-Websocket-Extensions": true, "Sec-Websocket-Protocol": true, "Sec-Websocket-Version": true,
	"Baggage": true, "Traceparent": true, "Tracestate": true, "Save-Data": true,
}

// The kinds that make sense in each place.
var (
	nameKinds   = payload.KindsOf(payload.SQL, payload.NoSQL, payload.HTML, payload.Template, payload.Code)
	fieldKinds  = payload.KindsOf(payload.SQL, payload.Shell, payload.Code, payload.HTML, payload.Script, payload.Template, payload.Path, payload.LDAP)
	refererKind = payload.KindsOf(payload.HTML, payload.Shell, payload.Code, payload.Template)
	markupKinds = payload.KindsOf(payload.XML)
)

// structures judges the parts of a request. It stops at the first part that
// has any.
func (e *Engine) structures(tx *seclang.Transaction, r *Request, b body) (found []Match) {
	note := func(variable, key string, list []payload.Finding) bool {
		for _, f := range list {
			id := structureRule(f.Kind)
			if e.global.exempt(id, key) || r.Plan.exempt(id, key) || r.Typed.exempt(id, key) {
				continue
			}
			m := Match{ID: id, Message: "Structure of " + f.Kind.String() + ": " + f.Shape, Severity: "critical", Variable: variable, Data: "Matched Data: " + clean(f.Text)}
			if len(f.Through) > 0 {
				m.Message += " (in " + strings.Join(f.Through, ", ") + ")"
			}
			if key != "" {
				m.Variable += ":" + clean(key)
			}
			found = append(found, m)
		}
		return len(found) > 0
	}
	for key, value := range tx.Arguments() {
		if (r.Typed.secret(key) || r.Plan.secret(key)) && payload.Random(value) {
			continue
		}
		place := payload.Text
		if key == pathArgument {
			place = payload.Segment
		}
		if note("ARGS", key, e.quiet.judge(value, place, payload.All)) || note("ARGS_NAMES", key, e.quiet.judge(argumentName(key), payload.Name, nameKinds)) {
			return found
		}
	}
	// Segments of the path that are no arguments, because nothing shows in
	// them, may be wrapped.
	path, _, _ := strings.Cut(r.URI, "?")
	for segment := range strings.SplitSeq(path, "/") {
		if len(segment) >= 10 && strings.IndexByte(segment, '.') < 0 && note("ARGS", pathArgument, e.quiet.judge(segment, payload.Segment, payload.All)) {
			return found
		}
	}
	for name, values := range r.Header {
		if plainHeaders[name] {
			continue
		}
		kinds := fieldKinds
		if name == "Referer" {
			kinds = refererKind
		}
		for _, value := range values {
			if note("REQUEST_HEADERS", name, e.quiet.judge(value, payload.Field, kinds)) {
				return found
			}
		}
	}
	if b.processor == "XML" {
		text := string(b.bytes)
		if note("REQUEST_BODY", "", e.quiet.judge(text, payload.Document, markupKinds)) {
			return found
		}
		for part := range textNodes(text) {
			if note("XML", "", e.quiet.judge(part, payload.Text, payload.All)) {
				return found
			}
		}
	}
	return found
}

// argumentName returns the part of a name that a visitor chose: of a member
// of JSON the last one.
func argumentName(key string) string {
	if rest, ok := strings.CutPrefix(key, "json."); ok {
		if i := strings.LastIndexByte(rest, '.'); i >= 0 {
			rest = rest[i+1:]
		}
		return rest
	}
	return key
}

// textNodes yields the text between the tags of an XML document.
func textNodes(s string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for n := 0; n < 4096; n++ {
			i := strings.IndexByte(s, '>')
			if i < 0 {
				return
			}
			s = s[i+1:]
			end := strings.IndexByte(s, '<')
			if end < 0 {
				end = len(s)
			}
			if end > 0 && !yield(s[:end]) {
				return
			}
			s = s[end:]
		}
	}
}

// maxProse bounds how many parameters a second look leaves out: every rule
// asks each of its values about each of them.
const maxProse = 256

// maxExcused bounds how many bytes of values are looked at for excuses in one
// request: being sure costs more than finding something.
const maxExcused = 16 << 10

// excuse is a parameter and the kinds of interpreter to which all of its values
// are certain to be data.
type excuse struct {
	name  string
	inert payload.Kinds
	link  bool // every value is a link to another site
}

// excuses returns what can be said for the parameters in which rules found
// something; for all parameters if matches is nil. Rules compare names in small
// letters, so ?q= and ?Q= are one.
func (e *Engine) excuses(tx *seclang.Transaction, matches []Match) []excuse {
	asked := map[string]bool{}
	for _, m := range matches {
		if _, name, ok := strings.Cut(m.Variable, ":"); ok {
			asked[strings.ToLower(name)] = true
		}
	}
	by, left := map[string]excuse{}, maxExcused
	for key, value := range tx.Arguments() {
		key = strings.ToLower(key)
		old, seen := by[key]
		if key == "" || matches != nil && !asked[clean(key)] || seen && old.inert == 0 || !seen && len(by) > maxProse {
			continue
		}
		if left -= len(value); left < 0 {
			by[key] = excuse{name: key}
			continue
		}
		x := excuse{key, payload.Inert(value), payload.Link(value)}
		if e.cfg.Paranoia == 1 && !x.inert.Has(payload.SQL) && payload.Formula(value) {
			x.inert |= payload.KindsOf(payload.SQL)
		}
		if seen {
			x.inert &= old.inert
			x.link = x.link && old.link
		}
		by[key] = x
	}
	var out []excuse
	for _, x := range by {
		if x.inert != 0 {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b excuse) int { return strings.Compare(a.name, b.name) })
	return out
}

// excused says that what a rule found in a parameter is none of what the rule
// looks for. The rule set numbers its rules by kind.
func (x excuse) excused(id int) bool {
	if x.inert == payload.All {
		return id < rulesStructure
	}
	need := payload.Kinds(0)
	switch {
	case id >= 921110 && id < 921170 || id == 921190:
		need = payload.KindsOf(payload.Header)
	case id/1000 == 930:
		need = payload.KindsOf(payload.Path)
	case id == 931130:
		if !x.link {
			return false
		}
		need = payload.KindsOf(payload.Path, payload.Shell)
	case id >= 932300 && id < 932330:
		need = payload.KindsOf(payload.Shell, payload.Header)
	case id/1000 == 932:
		need = payload.KindsOf(payload.Shell)
	case id/1000 == 933:
		need = payload.KindsOf(payload.Code)
	case id == 934170:
		need = payload.KindsOf(payload.Code, payload.HTML, payload.Script)
	case id/1000 == 934 && id != 934110 && id != 934120:
		need = payload.KindsOf(payload.Code, payload.NoSQL, payload.Template, payload.Script)
	case id == 941380:
		need = payload.KindsOf(payload.Template)
	case id/1000 == 941:
		need = payload.KindsOf(payload.HTML, payload.Script)
	case id == 942290:
		need = payload.KindsOf(payload.SQL, payload.NoSQL)
	case id/1000 == 942:
		need = payload.KindsOf(payload.SQL)
	case id/1000 == 944:
		need = payload.KindsOf(payload.Code, payload.Template)
	case id >= rulesFlask && id < rulesStructure:
		need = payload.KindsOf(payload.Code, payload.Template)
	}
	return need != 0 && x.inert&need == need
}

// acquit looks again at a request that the rules denied as an attack, without
// the finds that parameters have an excuse for. The new verdict counts if it
// lets the request pass; [Verdict.Acquitted] then holds what matched before.
// It is the compiled rules' own, as of any request that they let pass.
func (e *Engine) acquit(ctx context.Context, r Request, b body, v Verdict, list []excuse) (Verdict, bool) {
	if v.Reason != ReasonAttack || len(list) == 0 || len(list) > maxProse || !slices.ContainsFunc(v.Matches, func(m Match) bool {
		_, name, ok := strings.Cut(m.Variable, ":")
		return ok && slices.ContainsFunc(list, func(x excuse) bool { return clean(x.name) == strings.ToLower(name) && x.excused(m.ID) })
	}) {
		return v, false
	}
	plan, targets := &Plan{}, []seclang.Target(nil)
	for _, x := range list {
		var rules []int
		for _, id := range e.attacks {
			if x.excused(id) {
				rules = append(rules, id)
			}
		}
		// ToLower leaves valid UTF-8, which an expression has to be.
		plan.leave(rules, x.name, regexp.MustCompile(`^(?s:`+regexp.QuoteMeta(x.name)+`)$`), &targets)
	}
	e.compilePlan(plan, targets)
	r.excused = plan
	again, unsure := e.inspectCompiled(r, b, Verdict{Threshold: v.Threshold, Partial: v.Partial}, nil)
	if unsure != "" && !r.Brief {
		var err error
		if again, err = e.verdict(ctx, func() {}, r, b, Verdict{Threshold: v.Threshold, Partial: v.Partial}, nil); err != nil {
			return v, false
		}
		unsure = ""
	}
	if unsure != "" || again.Denied {
		return v, false
	}
	again.Acquitted = v.Matches
	again.Reference = again.Reference || v.Reference
	return again, true
}

// refuseStructure completes a verdict with what the judges found.
func (v Verdict) refuseStructure(found []Match) Verdict {
	v.Denied, v.Status, v.Reason, v.RuleID = true, http.StatusForbidden, ReasonStructure, found[0].ID
	v.Matches = append(v.Matches, found...)
	return v
}
