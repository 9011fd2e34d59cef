package control

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dewar-security/dewar/internal/evidence"
)

// Status is the verdict on one promise.
type Status uint8

// The statuses. The zero value is Unproven: silence is never a pass.
const (
	Unproven Status = iota
	NotApplicable
	Met
	Mitigated
	Failed
)

var statusNames = [...]string{"unproven", "not-applicable", "met", "mitigated", "failed"}

// String returns the status as reports spell it.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("invalid(%d)", s)
}

// MarshalText implements [encoding.TextMarshaler].
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Status) UnmarshalText(b []byte) error {
	i := slices.Index(statusNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("unknown status %q", b)
	}
	*s = Status(i)
	return nil
}

// Cell is what one face says about one control.
type Cell struct {
	Face evidence.Face `json:"face"`
	// State is "pass", "partial" (a part of the promise holds), "fail",
	// "mitigated", "error", "not-applicable", "silent" (nobody looked in this run), "not-yet" (the face is not built)
	// or "never" (it cannot exist).
	State string `json:"state"`
	// Why explains a state that no evidence explains.
	Why string `json:"why,omitempty"`
}

// Row is one control of the checklist.
type Row struct {
	Control *Control `json:"-"`

	ID       evidence.ControlID  `json:"id"`
	Title    string              `json:"title"`
	Promise  string              `json:"promise"`
	Status   Status              `json:"status"`
	Because  string              `json:"because"` // one sentence: what decided
	Fix      string              `json:"fix,omitempty"`
	Cells    []Cell              `json:"faces"`
	Evidence []evidence.Evidence `json:"evidence"`
}

// Checklist is the judgement on every control of the catalogue.
type Checklist struct {
	Time time.Time `json:"time"`
	Rows []Row     `json:"controls"`
	// Unplaced is evidence about a control the catalogue does not know, or
	// evidence that says too little to be used. It never proves anything,
	// and it never disappears.
	Unplaced []evidence.Evidence `json:"unplaced,omitempty"`
	Problems []string            `json:"problems,omitempty"`
}

// Fold judges every control by the evidence. It is pure: the same controls
// and evidence, in any order, give the same checklist.
//
// The order of judgement, first match wins:
//
//  1. a failing probe: failed. What an attacker can see from outside is
//     true whatever the source and the guard say.
//  2. a failing preflight, layer or detector: failed.
//  3. an audit failure that no enforcing layer makes up for: failed.
//  4. an audit failure of which every one is made up for by an enforcing
//     layer named in its MitigatedBy: mitigated.
//  5. any pass that is not partial: met.
//  6. only partial passes: unproven, with what they hold.
//  7. only not-applicable: not applicable.
//  8. otherwise, silence or errors: unproven.
func Fold(controls []*Control, all []evidence.Evidence, now time.Time) *Checklist {
	list := &Checklist{Time: now}
	by := make(map[evidence.ControlID][]evidence.Evidence, len(controls))
	known := make(map[evidence.ControlID]bool, len(controls))
	for _, c := range controls {
		known[c.ID] = true
	}
	for _, e := range all {
		if err := e.Validate(); err != nil {
			list.Unplaced = append(list.Unplaced, e)
			list.Problems = append(list.Problems, err.Error())
			continue
		}
		if !known[e.Control] {
			list.Unplaced = append(list.Unplaced, e)
			list.Problems = append(list.Problems, fmt.Sprintf("evidence from %s is about the unknown control %q", e.Check, e.Control))
			continue
		}
		by[e.Control] = append(by[e.Control], e)
	}
	slices.SortFunc(list.Unplaced, compare)
	slices.Sort(list.Problems)
	for _, c := range controls {
		list.Rows = append(list.Rows, judge(c, by[c.ID]))
	}
	return list
}

func judge(c *Control, all []evidence.Evidence) Row {
	slices.SortStableFunc(all, compare)
	row := Row{Control: c, ID: c.ID, Title: c.Title, Promise: c.Promise, Evidence: all}
	enforcing := make(map[string]string) // by check, the layer's name
	for _, e := range all {
		if e.Face == evidence.Guard && e.Outcome == evidence.Pass {
			enforcing[e.Check] = cmp.Or(e.Layer, e.Check)
		}
	}
	mitigated := func(e evidence.Evidence) bool {
		return slices.ContainsFunc(e.MitigatedBy, func(layer string) bool { return enforcing[layer] != "" })
	}
	row.Cells = cells(c, all, mitigated)

	first := func(ok func(evidence.Evidence) bool) *evidence.Evidence {
		if i := slices.IndexFunc(all, ok); i >= 0 {
			return &all[i]
		}
		return nil
	}
	count := func(ok func(evidence.Evidence) bool) (n int) {
		for _, e := range all {
			if ok(e) {
				n++
			}
		}
		return n
	}
	failed := func(f evidence.Face) func(evidence.Evidence) bool {
		return func(e evidence.Evidence) bool { return e.Face == f && e.Outcome == evidence.Fail }
	}
	more := func(n int) string {
		if n > 1 {
			return fmt.Sprintf(" (and %d more)", n-1)
		}
		return ""
	}
	fail := func(e *evidence.Evidence, n int) Row {
		row.Status, row.Because, row.Fix = Failed, e.Summary+more(n), e.Fix
		if row.Fix == "" {
			row.Fix = c.Fix
		}
		return row
	}
	for _, f := range [...]evidence.Face{evidence.Probe, evidence.Guard, evidence.Detect} {
		if e := first(failed(f)); e != nil {
			return fail(e, count(failed(f)))
		}
	}
	open := func(e evidence.Evidence) bool { return failed(evidence.Audit)(e) && !mitigated(e) }
	if e := first(open); e != nil {
		return fail(e, count(open))
	}
	if e := first(failed(evidence.Audit)); e != nil {
		row.Status, row.Fix = Mitigated, e.Fix
		row.Because = fmt.Sprintf("%s%s; the guard's %s layer stands in front", e.Summary, more(count(failed(evidence.Audit))), enforcingOf(e.MitigatedBy, enforcing))
		return row
	}
	outcome := func(o evidence.Outcome) func(evidence.Evidence) bool {
		return func(e evidence.Evidence) bool { return e.Outcome == o }
	}
	// The strongest pass speaks: what was seen from outside, then what is
	// enforced, then what was read.
	for _, f := range [...]evidence.Face{evidence.Probe, evidence.Guard, evidence.Detect, evidence.Audit} {
		passed := func(e evidence.Evidence) bool { return e.Face == f && e.Outcome == evidence.Pass && !e.Partial }
		if e := first(passed); e != nil {
			row.Status, row.Because = Met, e.Summary+more(count(outcome(evidence.Pass)))
			return row
		}
	}
	if e := first(outcome(evidence.Pass)); e != nil {
		row.Status, row.Because = Unproven, "held in part only: "+e.Summary+more(count(outcome(evidence.Pass)))
		return row
	}
	if e := first(outcome(evidence.Error)); e != nil {
		row.Status, row.Because = Unproven, "could not tell: "+e.Summary+more(count(outcome(evidence.Error)))
		return row
	}
	if e := first(outcome(evidence.NotApplicable)); e != nil {
		row.Status, row.Because = NotApplicable, e.Summary
		return row
	}
	row.Status, row.Because = Unproven, "nobody looked in this run"
	for _, f := range evidence.Faces {
		if a, ok := c.Empty[f]; ok && !a.Never && !c.Has(evidence.Audit) {
			row.Because = a.Why
			break
		}
	}
	return row
}

func cells(c *Control, all []evidence.Evidence, mitigated func(evidence.Evidence) bool) []Cell {
	var out []Cell
	for _, f := range evidence.Faces {
		cell := Cell{Face: f}
		var mine []evidence.Evidence
		open := false
		for _, e := range all {
			if e.Face == f {
				mine = append(mine, e)
				open = open || (e.Outcome == evidence.Fail && !mitigated(e))
			}
		}
		o, spoke := evidence.Worst(mine)
		switch {
		case spoke && o == evidence.Fail && !open:
			cell.State, cell.Why = "mitigated", "every failure has a guard layer in front of it"
		case spoke && o == evidence.Pass && !slices.ContainsFunc(mine, func(e evidence.Evidence) bool { return e.Outcome == evidence.Pass && !e.Partial }):
			cell.State, cell.Why = "partial", "what was found holds a part of the promise"
		case spoke:
			cell.State = o.String()
		case c.Has(f):
			cell.State, cell.Why = "silent", "nobody looked in this run"
		case c.Empty[f].Never:
			cell.State, cell.Why = "never", c.Empty[f].Why
		default:
			cell.State, cell.Why = "not-yet", c.Empty[f].Why
		}
		out = append(out, cell)
	}
	return out
}

func enforcingOf(layers []string, enforcing map[string]string) string {
	for _, l := range layers {
		if name := enforcing[l]; name != "" {
			return name
		}
	}
	return ""
}

// compare orders evidence by face, alarm, check and place: the order in
// which a person wants to read it, and the same on every run.
func compare(a, b evidence.Evidence) int {
	if d := int(a.Face) - int(b.Face); d != 0 {
		return d
	}
	if d := int(b.Outcome) - int(a.Outcome); d != 0 {
		return d
	}
	return cmpStrings(
		[2]string{a.Check, b.Check}, [2]string{place(a), place(b)}, [2]string{a.URL, b.URL}, [2]string{a.Summary, b.Summary})
}

func place(e evidence.Evidence) string {
	if e.Location == nil {
		return ""
	}
	return fmt.Sprintf("%s:%09d:%06d", e.Location.File, e.Location.Line, e.Location.Column)
}

func cmpStrings(pairs ...[2]string) int {
	for _, p := range pairs {
		if p[0] != p[1] {
			if p[0] < p[1] {
				return -1
			}
			return 1
		}
	}
	return 0
}

// Score sums the checklist up.
type Score struct {
	Met           int `json:"met"`
	Mitigated     int `json:"mitigated"`
	Failed        int `json:"failed"`
	Unproven      int `json:"unproven"`
	NotApplicable int `json:"not_applicable"`
	// Of is how many promises concern this app: all but the not applicable.
	Of int `json:"of"`
	// Percent is the share of met and mitigated promises, a mitigated one
	// counting half: the app itself still breaks it.
	Percent int `json:"percent"`
}

// Score counts the statuses.
func (l *Checklist) Score() Score {
	var s Score
	for _, r := range l.Rows {
		switch r.Status {
		case Met:
			s.Met++
		case Mitigated:
			s.Mitigated++
		case Failed:
			s.Failed++
		case NotApplicable:
			s.NotApplicable++
		default:
			s.Unproven++
		}
	}
	s.Of = len(l.Rows) - s.NotApplicable
	if s.Of > 0 {
		s.Percent = (100*s.Met + 50*s.Mitigated) / s.Of
	}
	return s
}
