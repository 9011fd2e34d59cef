// Package audit reads a project and reports where it breaks a promise.
//
// [Load] reads the files once; [Run] runs every [Rule] over them. A rule is
// one literal with its documentation, its examples and its code; it knows no
// engine, and this package knows no vulnerability. Findings come out in a
// fixed order, suppressed ones included, so that the same tree always gives
// the same bytes.
package audit

import (
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/pyflow"
)

// Severity is how bad it is if the finding is real.
type Severity uint8

// The severities, as CVSS names them.
const (
	Low Severity = iota + 1
	Medium
	High
	Critical
)

// Confidence is how sure the rule is that the finding is real.
type Confidence uint8

// The confidences.
const (
	Possible Confidence = iota + 1 // worth a look
	Likely                         // true unless the code does something unusual
	Certain                        // follows from the text alone
)

// Rule is one thing to look for.
type Rule struct {
	// ID is the rule's name for ever, such as "DW-SETTINGS-001". An id is
	// never used for another rule.
	ID      string
	Control evidence.ControlID
	// Title says what is wrong, as it stands over a finding.
	Title      string
	Why        string // what an attacker gains
	Fix        string // what to do
	Severity   Severity
	Confidence Confidence
	CWE        []int
	OWASP      []string // "A02:2025"
	ASVS       []string // "13.4.2" of ASVS 5.0
	// Bad and Good are the smallest example of the fault and of its repair.
	// A test audits both: Bad must be found, Good must not. Lang is their
	// language for display and the file they are tested as: "app.py" if
	// empty.
	Bad, Good string
	File      string
	// MitigatedBy names guard layers that keep an attacker from using the
	// fault while they enforce. See evidence.Evidence.
	MitigatedBy []string
	// Patch is the language by which a guard can judge the values that flow
	// into the fault (payload.Sink), so that a finding which is not fixed yet
	// is held shut; empty where no judge of single values can.
	Patch string
	// Check looks at the whole project. It is called once per run, may run
	// beside other rules, and reports through the pass.
	Check func(*Pass)
}

// Span is a range in one file. Lines and columns count from 1, columns in
// characters; the end is exclusive.
type Span struct {
	File               string
	Line, Column       int
	EndLine, EndColumn int
}

// Step is one stop of a trace.
type Step struct {
	Span Span
	Note string // "source: query parameter q of GET /search"
}

// Finding is one place where a rule's promise is broken.
type Finding struct {
	Rule    *Rule
	Span    Span
	Message string // what is wrong here, one sentence, no full stop
	Label   string // short note for under the marked code; Message if empty
	// Confidence is how sure the rule is here, where that is less than in
	// general; 0 otherwise. See [Finding.Sure].
	Confidence Confidence
	// Cause says what is wrong at this place and at others alike, in a phrase
	// that names no place: "requests are made without a timeout". Findings of
	// a rule with the same cause are one for a reader; see [Grouped], which
	// fills Places. Empty if the finding stands alone.
	Cause  string
	Places []Finding `json:"-"`
	// Related are other places that belong to the finding, Trace the way
	// from source to sink for the rules that follow data.
	Related []Step
	Trace   []Step
	// Sources say by which parts of a request the data comes in, all of them;
	// nil for rules that do not follow data.
	Sources []Source `json:"-"`
	// Language is in place of [Rule.Patch] where the fault has its own.
	Language string `json:"-"`
	// Fix overrides Rule.Fix where the place allows a more exact advice.
	Fix string
	// Edits repair the fault when applied together, without changing what
	// correct use of the program does. Empty when no repair is safe. They do
	// not overlap.
	Edits []Edit

	// Fingerprint names the finding by content, not by line, so that a
	// baseline survives edits above it.
	Fingerprint string
	// Suppressed is set when somebody decided to live with the finding.
	Suppressed *Suppression
}

// Source is a part of a request that flows into a fault.
type Source struct {
	// Kind is that of the label: query, form, json, path, header, cookie, file,
	// or another one, that is no named part of a request.
	Kind, Name string
	// Note is the label's.
	Note string
	// Values is set where the program reads query and form as one.
	Values bool
	// Spot is where in the text the data stands (payload.Sink), "" if that is
	// not known, or there are several places.
	Spot string
	// Pattern is the regular expression that the data is matched against, for
	// the rule that looks for such.
	Pattern string
	// Names are of attributes that the data must not name, Watched those of
	// which nobody knows whether it may.
	Names, Watched []string
	// Open says why a guard at the source cannot make up for the fault; empty
	// if it can.
	Open string

	at pyflow.Span
}

// Sure returns how sure the rule is of this finding.
func (f *Finding) Sure() Confidence {
	if f.Confidence == 0 {
		return f.Rule.Confidence
	}
	return min(f.Confidence, f.Rule.Confidence)
}

// Suppression says who silenced a finding, and why.
type Suppression struct {
	Kind   string // "dewar" (comment), "nosec" or "baseline"
	Reason string
	Span   Span // of the comment; zero for a baseline
}

// Edit is one replacement in a file, as `dewar fix` and editors make it.
type Edit struct {
	File       string
	Start, End int    // bytes of File's content as loaded; End is exclusive
	New        string // what stands there afterwards
}
