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
// Base64 or not; and where the Core Rule Set refuses prose (words and the
// punctuation of sentences, in which no judge finds anything), it has the last
// word.
//
// Letting go is exact: the rules run a second time without the parameters that
// hold prose, and only if nothing else denies the request does it pass.

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

// prose returns the names of the parameters whose values are all prose, as the
// rules compare names: in small letters, so ?q= and ?Q= are one.
func prose(tx *seclang.Transaction) []string {
	is := map[string]bool{}
	for key, value := range tx.Arguments() {
		key = strings.ToLower(key)
		old, seen := is[key]
		is[key] = (!seen || old) && payload.Prose(value)
	}
	var out []string
	for key, yes := range is {
		if yes && key != "" {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

// acquit looks again at a request that the rules denied as an attack, without
// the parameters that hold nothing but prose. The new verdict counts if it
// lets the request pass; [Verdict.Acquitted] then holds what matched before.
func (e *Engine) acquit(ctx context.Context, r Request, b body, v Verdict, names []string) Verdict {
	if len(names) == 0 || len(names) > maxProse || !slices.ContainsFunc(v.Matches, func(m Match) bool {
		_, name, ok := strings.Cut(m.Variable, ":")
		return ok && slices.Contains(names, strings.ToLower(name))
	}) {
		return v
	}
	rules := slices.DeleteFunc(slices.Clone(e.attacks), func(id int) bool { return id >= rulesStructure })
	plan, targets := &Plan{}, []seclang.Target(nil)
	for _, name := range names {
		// ToLower leaves valid UTF-8, which an expression has to be.
		plan.leave(rules, name, regexp.MustCompile(`^(?s:`+regexp.QuoteMeta(name)+`)$`), &targets)
	}
	e.compilePlan(plan, targets)
	r.prose = plan
	again, err := e.verdict(ctx, func() {}, r, b, Verdict{Threshold: v.Threshold, Partial: v.Partial}, nil)
	if err != nil || again.Denied {
		return v
	}
	again.Acquitted = v.Matches
	again.Reference = again.Reference || v.Reference
	return again
}

// refuseStructure completes a verdict with what the judges found.
func (v Verdict) refuseStructure(found []Match) Verdict {
	v.Denied, v.Status, v.Reason, v.RuleID = true, http.StatusForbidden, ReasonStructure, found[0].ID
	v.Matches = append(v.Matches, found...)
	return v
}
