package waf

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/dewar-security/dewar/internal/waf/seclang"
)

// compile makes e.compiled. Rules that cannot be compiled are no error:
// Coraza judges every request then, as it would without. Rules on which Coraza
// would fail are one.
func (e *Engine) compile() error {
	p, err := seclang.Load(e.requests, rulesFS{})
	if err != nil {
		e.gap = err.Error()
		return nil
	}
	if err := p.Fault(); err != nil {
		return fmt.Errorf("waf: %w", err)
	}
	if e.cfg.Reference {
		return nil
	}
	if gaps := p.Gaps(); len(gaps) > 0 {
		e.gap = gaps[0]
	}
	e.compiled = p
	if e.responses == nil {
		return nil
	}
	if p, err = seclang.Load(e.responses, rulesFS{}); err != nil {
		e.gap = err.Error()
		return nil
	}
	if gaps := p.Gaps(); len(gaps) > 0 && e.gap == "" {
		e.gap = gaps[0]
	}
	e.compiledResponses = p
	return nil
}

// inspectCompiled judges a request by the compiled rules. unsure says why only
// Coraza can tell, if so.
func (e *Engine) inspectCompiled(r Request, b body, v Verdict, seen *looked) (_ Verdict, unsure string) {
	tx := e.compiled.NewTransaction()
	defer tx.Close()
	tx.Exclude(e.global.compiled)
	for _, p := range r.plans() {
		if p != nil {
			tx.Exclude(p.compiled)
		}
	}
	describe(tx, &r)
	tx.SetBodyProcessor(b.processor)
	// Unsure in phase 1, what the judges of structure see shall be whole.
	if tx.ProcessRequestHeaders() || tx.Interruption() == nil {
		if len(b.bytes) > 0 {
			b.arguments(tx)
		}
		tx.ProcessRequestBody(b.bytes)
	}
	if seen != nil && e.cfg.Structure {
		seen.found = e.structures(tx, &r, b)
	}
	ask := seen != nil && e.cfg.Structure && len(seen.found) == 0 && tx.Read()
	if why := tx.Unsure(); why != "" {
		if ask {
			seen.excuses = e.excuses(tx, nil)
		}
		return v, why
	}
	v.Matches = compiledMatches(tx)
	v.Score, _ = strconv.Atoi(tx.TX("blocking_inbound_anomaly_score"))
	if it := tx.Interruption(); it != nil {
		if ask {
			seen.excuses = e.excuses(tx, v.Matches)
		}
		v = v.deny(it.RuleID, it.Status)
	}
	return v, ""
}

// inspectResponseCompiled is inspectCompiled for responses.
func (e *Engine) inspectResponseCompiled(r Response, v Verdict) (_ Verdict, unsure string) {
	tx := e.compiledResponses.NewTransaction()
	defer tx.Close()
	tx.Exclude(e.global.compiledResponses)
	tx.ProcessURI("/", http.MethodGet, r.Proto)
	if tx.ProcessRequestHeaders() {
		tx.ProcessRequestBody(nil)
	}
	if tx.Interruption() != nil || tx.Unsure() != "" {
		return v, "the response rules act on requests: " + tx.Unsure()
	}
	for name, values := range r.Header {
		for _, value := range values {
			tx.AddResponseHeader(name, value)
		}
	}
	if tx.ProcessResponseHeaders(r.Status, r.Proto) {
		b := r.Body
		if int64(len(b)) > e.cfg.MaxResponse {
			b, v.Partial = b[:e.cfg.MaxResponse], true
		}
		tx.ProcessResponseBody(b)
	}
	if why := tx.Unsure(); why != "" {
		return v, why
	}
	v.Matches = compiledMatches(tx)
	v.Score, _ = strconv.Atoi(tx.TX("blocking_outbound_anomaly_score"))
	if it := tx.Interruption(); it != nil {
		v = v.denyResponse(it.RuleID)
	}
	return v, ""
}

func compiledMatches(tx *seclang.Transaction) []Match {
	var out []Match
	for _, m := range tx.Matches() {
		if bookkeeping(m.ID) {
			continue
		}
		match := Match{ID: m.ID, Message: clean(m.Message), Severity: m.Severity.String(), Data: clean(m.Data), Variable: m.Variable.Name()}
		if m.Key != "" {
			match.Variable += ":" + clean(m.Key)
		}
		out = append(out, match)
	}
	return out
}
