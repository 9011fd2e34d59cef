// Package control says what a promise is, and folds evidence into the
// checklist: which promises hold, and how do we know?
//
// A [Control] joins the documentation of one promise with everything that
// speaks about it: audit rules, guard layers and preflights, probe checks,
// detectors. Each lives in a package of its own below this one; package
// catalog lists them. [Fold] is a pure function from evidence to a
// [Checklist].
package control

import (
	"fmt"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/probe"
)

// Control is one promise a Flask app should keep.
type Control struct {
	ID evidence.ControlID
	// Title names the control in a few words, Promise is the sentence that
	// must be true of the app.
	Title   string
	Promise string
	// Why says what happens to users when the promise is broken; Fix what to
	// do about it in general.
	Why string
	Fix string
	// CWE numbers, sections of ASVS 5.0 ("3.5.1"), categories of the OWASP
	// Top 10 ("A01:2025").
	CWE   []int
	ASVS  []string
	OWASP []string

	// What speaks about the promise, by face.
	Rules      []*audit.Rule
	Layers     []*guard.Spec
	Preflights []*guard.Preflight
	Services   []*guard.Service
	Checks     []*probe.Check
	Detectors  []*event.Detector

	// Empty says, for every face with nothing in it, why.
	Empty map[evidence.Face]Absence
}

// Absence is why a face of a control is empty.
type Absence struct {
	// Never is true when the face cannot exist: no traffic shows a package's
	// version. False means that it is not built yet, which leaves the face
	// unproven.
	Never bool
	// Why is the sentence that the checklist prints.
	Why string
}

// Never returns the Absence of a face that cannot exist.
func Never(why string) Absence { return Absence{Never: true, Why: why} }

// NotYet returns the Absence of a face that is not built yet.
func NotYet(why string) Absence { return Absence{Why: why} }

// Has reports whether c has anything on a face.
func (c *Control) Has(f evidence.Face) bool {
	switch f {
	case evidence.Audit:
		return len(c.Rules) > 0
	case evidence.Guard:
		return len(c.Layers)+len(c.Preflights)+len(c.Services) > 0
	case evidence.Probe:
		return len(c.Checks) > 0
	case evidence.Detect:
		return len(c.Detectors) > 0
	}
	return false
}

// Validate reports what c lacks to stand in the catalogue: documentation,
// references, and a reason for every empty face.
func (c *Control) Validate() error {
	for _, s := range []struct{ name, v string }{
		{"ID", string(c.ID)}, {"Title", c.Title}, {"Promise", c.Promise}, {"Why", c.Why}, {"Fix", c.Fix},
	} {
		if s.v == "" {
			return fmt.Errorf("control %q: no %s", c.ID, s.name)
		}
	}
	if len(c.CWE) == 0 || len(c.ASVS) == 0 || len(c.OWASP) == 0 {
		return fmt.Errorf("control %s: needs CWE, ASVS and OWASP references", c.ID)
	}
	for _, f := range evidence.Faces {
		a, excused := c.Empty[f]
		switch {
		case c.Has(f) && excused:
			return fmt.Errorf("control %s: the %s face exists, but Empty explains its absence", c.ID, f)
		case !c.Has(f) && (!excused || a.Why == ""):
			return fmt.Errorf("control %s: the %s face is empty and nothing says why", c.ID, f)
		}
	}
	for _, r := range c.Rules {
		if r.Control != c.ID {
			return fmt.Errorf("control %s: rule %s belongs to %s", c.ID, r.ID, r.Control)
		}
	}
	for _, l := range c.Layers {
		if l.Control != c.ID {
			return fmt.Errorf("control %s: layer %s belongs to %s", c.ID, l.Name, l.Control)
		}
	}
	for _, p := range c.Preflights {
		if p.Control != c.ID {
			return fmt.Errorf("control %s: preflight %s belongs to %s", c.ID, p.Name, p.Control)
		}
	}
	for _, k := range c.Checks {
		if k.Control != c.ID {
			return fmt.Errorf("control %s: probe check %s belongs to %s", c.ID, k.ID, k.Control)
		}
	}
	return nil
}
