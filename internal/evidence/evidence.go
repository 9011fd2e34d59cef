// Package evidence holds the words every other package shares: which control
// a fact is about, which face of Dewar found it, what came out, and how we
// know.
//
// The audit, the guard, the probe and the detectors know nothing of one
// another. Each of them only produces [Evidence]; the checklist (package
// control) is a pure fold over it. The zero [Outcome] is [Error]: evidence
// that nobody filled in proves nothing.
package evidence

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ControlID names one control of the catalogue, such as "csrf". It is also
// the name of the control's section in dewar.toml and of its package.
type ControlID string

// Face is the way Dewar learnt something.
type Face uint8

// The four faces, in the order in which the checklist prints them.
const (
	Audit  Face = iota + 1 // read in the project's files
	Guard                  // enforced while the app runs
	Probe                  // asked of the live site from outside
	Detect                 // seen in the guard's events
)

// Faces lists every face in the order of the checklist's columns.
var Faces = [...]Face{Audit, Guard, Probe, Detect}

var faceNames = []string{"", "audit", "guard", "probe", "detect"}

// String returns the face's name as the documentation spells it.
func (f Face) String() string { return nameOf(faceNames, uint8(f)) }

// MarshalText implements [encoding.TextMarshaler].
func (f Face) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (f *Face) UnmarshalText(b []byte) error {
	n, err := indexOf("face", faceNames, b)
	*f = Face(n)
	return err
}

// Outcome is what a face found. The order is the order of alarm when several
// pieces of evidence are summed up: see [Worst].
type Outcome uint8

const (
	// Error says that the check could not look, or looked and could not
	// tell. It counts as silence, and silence is never a pass.
	Error Outcome = iota
	// NotApplicable says that the app has nothing the promise is about.
	NotApplicable
	// Pass says that the check looked and the promise held.
	Pass
	// Fail says that the check looked and the promise was broken.
	Fail
)

var outcomeNames = []string{"error", "not-applicable", "pass", "fail"}

// String returns the outcome's name as it stands in reports.
func (o Outcome) String() string { return nameOf(outcomeNames, uint8(o)) }

// MarshalText implements [encoding.TextMarshaler].
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (o *Outcome) UnmarshalText(b []byte) error {
	n, err := indexOf("outcome", outcomeNames, b)
	*o = Outcome(n)
	return err
}

// Vantage says from where a probe looked at the app.
type Vantage uint8

const (
	// VantageUnknown is the honest answer when nothing identified itself.
	VantageUnknown Vantage = iota
	// ThroughGuard means that a Dewar guard holding the probe's key signed
	// the answer: the probe saw what the public sees.
	ThroughGuard
	// AroundGuard means that the probe's key is known to a running guard,
	// and yet the answer did not come through it: the app is reachable past
	// its own protection.
	AroundGuard
)

var vantageNames = []string{"unknown", "through-guard", "around-guard"}

// String returns the vantage's name as it stands in reports.
func (v Vantage) String() string { return nameOf(vantageNames, uint8(v)) }

// MarshalText implements [encoding.TextMarshaler].
func (v Vantage) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (v *Vantage) UnmarshalText(b []byte) error {
	n, err := indexOf("vantage", vantageNames, b)
	*v = Vantage(n)
	return err
}

// Location is a place in the project's source. Line and Column count from 1,
// columns in characters; zero means "the whole file".
type Location struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String returns the location as editors understand it: file:line:column.
func (l Location) String() string {
	switch {
	case l.Line == 0:
		return l.File
	case l.Column == 0:
		return fmt.Sprintf("%s:%d", l.File, l.Line)
	}
	return fmt.Sprintf("%s:%d:%d", l.File, l.Line, l.Column)
}

// Evidence is one fact about one control.
type Evidence struct {
	Control ControlID `json:"control"`
	Face    Face      `json:"face"`
	// Check is the rule, layer, preflight, probe check or detector that
	// found the fact: the name to give to "dewar explain".
	Check   string  `json:"check"`
	Outcome Outcome `json:"outcome"`
	// Summary is one sentence for a person, without a full stop.
	Summary string `json:"summary"`
	// Fix says what to do about a failure; empty for anything else.
	Fix string `json:"fix,omitempty"`

	// How we know: Location for the audit, Layer for the guard, URL and
	// Vantage for a probe.
	Location *Location `json:"location,omitempty"`
	Layer    string    `json:"layer,omitempty"`
	URL      string    `json:"url,omitempty"`
	Vantage  Vantage   `json:"vantage,omitzero"`
	// Seen is what a probe read, redacted: a header line, a status.
	Seen string `json:"seen,omitempty"`

	// MitigatedBy names the guard layers that, when they enforce, keep an
	// attacker from using an audit failure. Empty means that nothing at run
	// time makes up for it: no proxy turns a key in the source into a secret.
	MitigatedBy []string `json:"mitigated_by,omitempty"`

	// Partial marks a pass that holds only a part of the promise, or makes
	// breaking it harder without preventing it: a WAF in front of code that
	// nobody has read. It never makes a promise met by itself.
	Partial bool `json:"partial,omitempty"`

	// Time is when the fact was observed.
	Time time.Time `json:"time,omitzero"`
}

// PatchCheck returns the name under which a guard says that it holds a finding
// of the audit shut, and by which the finding's evidence asks for it in
// MitigatedBy. fingerprint is the finding's.
func PatchCheck(fingerprint string) string { return "patch " + fingerprint }

// Validate reports what makes e unusable as evidence: an unknown control
// cannot be checked here, but a fact without an origin can.
func (e Evidence) Validate() error {
	var errs []error
	if e.Control == "" {
		errs = append(errs, errors.New("no control"))
	}
	if !slices.Contains(Faces[:], e.Face) {
		errs = append(errs, fmt.Errorf("no face (%d)", e.Face))
	}
	if e.Check == "" {
		errs = append(errs, errors.New("no check"))
	}
	if e.Summary == "" {
		errs = append(errs, errors.New("no summary"))
	}
	if e.Face == Probe && e.Outcome != Error && e.URL == "" {
		errs = append(errs, errors.New("a probe's answer without the URL it came from"))
	}
	if len(errs) > 0 {
		return fmt.Errorf("evidence %s/%s: %w", e.Control, e.Check, errors.Join(errs...))
	}
	return nil
}

// Worst sums several outcomes up into one: a failure outweighs everything,
// an error outweighs a pass (a check that could not look leaves the promise
// unproven), and not-applicable counts only when nothing else spoke. ok is
// false when there was no evidence at all.
func Worst(all []Evidence) (o Outcome, ok bool) {
	var seen [4]bool
	for _, e := range all {
		seen[e.Outcome] = true
	}
	for _, o := range [...]Outcome{Fail, Error, Pass, NotApplicable} {
		if seen[o] {
			return o, true
		}
	}
	return Error, false
}

func nameOf(names []string, i uint8) string {
	if int(i) < len(names) {
		return names[i]
	}
	return fmt.Sprintf("invalid(%d)", i)
}

func indexOf(what string, names []string, b []byte) (int, error) {
	if i := slices.Index(names, string(b)); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("unknown %s %q (want one of %s)", what, b, strings.Trim(strings.Join(names, ", "), ", "))
}
