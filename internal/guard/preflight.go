package guard

import (
	"fmt"
	"slices"
	"time"

	"github.com/dewar-security/dewar/internal/evidence"
)

// PreflightResult is a problem that a preflight found.
type PreflightResult struct {
	Preflight *Preflight
	Problem   string
}

// RunPreflights asks every preflight about the app. Refusals must stop the
// start; warnings are problems that the profile relaxes. The evidence has one
// line per preflight: a problem is a failure in every profile, because the
// promise is broken whether or not the start was allowed.
func RunPreflights(profile Profile, facts Facts, all []*Preflight) (refusals, warnings []PreflightResult, ev []evidence.Evidence) {
	if profile == "" {
		profile = Production
	}
	now := time.Now()
	for _, p := range all {
		e := evidence.Evidence{Control: p.Control, Face: evidence.Guard, Check: p.Name, Time: now}
		problem, err := look(p, facts)
		switch {
		case err != nil:
			e.Outcome = evidence.Error
			e.Summary = "preflight " + p.Name + " could not look: " + err.Error()
		case problem != "":
			e.Outcome, e.Summary, e.Fix = evidence.Fail, problem, p.Fix
			r := PreflightResult{p, problem}
			if slices.Contains(p.RelaxedIn, profile) {
				warnings = append(warnings, r)
			} else {
				refusals = append(refusals, r)
			}
		default:
			e.Outcome, e.Summary = evidence.Pass, "preflight "+p.Name+": "+p.Does
		}
		ev = append(ev, e)
	}
	return refusals, warnings, ev
}

// look asks one preflight. One that panics over strange facts could not look.
func look(p *Preflight, facts Facts) (problem string, err error) {
	defer func() {
		if v := recover(); v != nil {
			problem, err = "", fmt.Errorf("it panicked: %v", v)
		}
	}()
	return p.Check(facts)
}
