package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/evidence"
)

// Limits of [PlanFixes]: repairs that only become possible after others, and
// audits to find out which of many repairs is the one that does harm.
const (
	fixRounds = 8
	fixAudits = 96
)

// Fixes are repairs that have been tried out in memory.
type Fixes struct {
	Files   []FixedFile // sorted by path; only those that change
	Fixed   []Finding   // as they were, in the order they were repaired
	Refused []Refusal   // findings with edits that did not hold
	// After is the audit of the repaired project.
	After *Result
}

// FixedFile is one file before and after.
type FixedFile struct {
	Path          string
	Before, After []byte
}

// Refusal is a finding whose edits were not taken, and why.
type Refusal struct {
	Finding Finding
	Reason  string // one clause, no full stop
}

// PlanFixes applies the edits of the findings of res that want accepts, in
// memory, and audits the outcome. A finding's edits are taken as a whole or
// not at all, and only if afterwards
//
//   - every file is understood as well as before,
//   - the finding is gone,
//   - no other finding has come up, and no rule has gone blind.
//
// Where edits overlap, the earlier finding wins and the later one is tried
// again on the result. The same project gives the same fixes. The error is
// for ctx.
func PlanFixes(ctx context.Context, p *Project, res *Result, rules []*Rule, opt Options, want func(*Finding) bool) (*Fixes, error) {
	x := &planner{ctx: ctx, rules: rules, opt: opt, p: p, res: res, reasons: map[string]string{}}
	out := &Fixes{}
	for range fixRounds {
		x.base, x.baseRes, x.accepted = x.p, x.res, nil
		set := x.compatible(want)
		if len(set) == 0 {
			break
		}
		x.accept(set)
		if x.err != nil {
			return nil, x.err
		}
		if len(x.accepted) == 0 {
			break
		}
		out.Fixed = append(out.Fixed, x.accepted...)
	}
	for i := range x.res.Findings {
		f := &x.res.Findings[i]
		if len(f.Edits) > 0 && want(f) {
			out.Refused = append(out.Refused, Refusal{*f, cmp.Or(x.reasons[refusalKey(f)], "it was not tried: there are too many repairs that hinder each other")})
		}
	}
	for _, f := range x.p.Files {
		if was := p.File(f.Path); was != nil && string(was.Data) != string(f.Data) {
			out.Files = append(out.Files, FixedFile{Path: f.Path, Before: was.Data, After: f.Data})
		}
	}
	out.After = x.res
	return out, nil
}

type planner struct {
	ctx   context.Context
	rules []*Rule
	opt   Options

	p   *Project // with everything accepted so far
	res *Result
	// The edits of a round count in the files of its base.
	base     *Project
	baseRes  *Result
	accepted []Finding
	reasons  map[string]string
	audits   int
	err      error
}

func refusalKey(f *Finding) string { return f.Rule.ID + "\x00" + f.Fingerprint }

// compatible returns the findings whose edits can be made together.
func (x *planner) compatible(want func(*Finding) bool) []Finding {
	var set []Finding
	taken := map[string][]Edit{}
	for i := range x.res.Findings {
		f := &x.res.Findings[i]
		if len(f.Edits) == 0 || !want(f) {
			continue
		}
		if _, refused := x.reasons[refusalKey(f)]; refused {
			continue
		}
		why := ""
		for _, e := range f.Edits {
			file := x.base.File(e.File)
			switch {
			case file == nil:
				why = "its repair is in " + e.File + ", which is not part of the project"
			case e.Start < 0 || e.Start > e.End || e.End > len(file.Data):
				why = "its repair lies outside of " + e.File
			}
		}
		if why != "" {
			x.reasons[refusalKey(f)] = why
			continue
		}
		if !fits(taken, f.Edits) {
			continue // the next round will see
		}
		for _, e := range f.Edits {
			taken[e.File] = append(taken[e.File], e)
		}
		set = append(set, *f)
	}
	return set
}

// fits reports whether edits clash neither with each other nor with others.
func fits(taken map[string][]Edit, edits []Edit) bool {
	for i, e := range edits {
		for _, o := range taken[e.File] {
			if clash(e, o) && e != o {
				return false
			}
		}
		for _, o := range edits[:i] {
			if clash(e, o) {
				return false
			}
		}
	}
	return true
}

// clash reports whether two edits cannot be made together: they overlap, or
// they are insertions at one place whose order could matter.
func clash(a, b Edit) bool {
	if a.File != b.File {
		return false
	}
	if a.Start == a.End && b.Start == b.End {
		return a.Start == b.Start && !(separate(a.New) && separate(b.New))
	}
	return a.Start < b.End && b.Start < a.End || a.Start == b.Start && a.End == b.End
}

// separate reports whether a text inserted stands for itself: whole lines, or
// further arguments.
func separate(s string) bool {
	return strings.HasPrefix(s, "\n") || strings.HasPrefix(s, "\r") || strings.HasSuffix(s, "\n") || strings.HasSuffix(s, "\r") || strings.HasPrefix(s, ", ")
}

// accept takes what it can of a set, halving it where it does not hold.
func (x *planner) accept(set []Finding) {
	if x.err != nil || len(set) == 0 {
		return
	}
	if x.audits >= fixAudits {
		return
	}
	why := x.try(set)
	switch {
	case why == "" || x.err != nil:
	case len(set) == 1:
		x.reasons[refusalKey(&set[0])] = why
	default:
		x.accept(set[:len(set)/2])
		x.accept(set[len(set)/2:])
	}
}

// try makes the edits of a set on top of those accepted in this round and
// returns why the outcome does not hold, or takes it.
func (x *planner) try(set []Finding) string {
	if x.err = x.ctx.Err(); x.err != nil {
		return ""
	}
	x.audits++
	all := slices.Concat(x.accepted, set)
	edits := map[string][]Edit{}
	for i := range all {
		for _, e := range all[i].Edits {
			if !slices.Contains(edits[e.File], e) {
				edits[e.File] = append(edits[e.File], e)
			}
		}
	}
	contents := map[string][]byte{}
	for name, list := range edits {
		contents[name] = ApplyEdits(x.base.File(name).Data, list)
	}
	p := x.base.With(contents)
	if why := understood(x.base, p, contents); why != "" {
		return why
	}
	res := Run(x.ctx, p, x.rules, x.opt)
	if x.err = x.ctx.Err(); x.err != nil {
		return ""
	}
	if why := holds(x.baseRes, res, all); why != "" {
		return why
	}
	x.accepted, x.p, x.res = all, p, res
	return ""
}

// ApplyEdits returns data with edits made, which lie within it and do not
// overlap. Insertions at one place stand in the order given.
func ApplyEdits(data []byte, edits []Edit) []byte {
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b Edit) int { return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End)) })
	var out []byte
	at := 0
	for _, e := range edits {
		out = append(append(out, data[at:e.Start]...), e.New...)
		at = e.End
	}
	return append(out, data[at:]...)
}

// understood says in what way the changed files are understood less than
// before.
func understood(before, after *Project, changed map[string][]byte) string {
	count := func(p *Project, name string) (n int, first string) {
		for _, q := range p.NotUnderstood {
			if q.Span.File == name {
				if n++; n == 1 {
					first = fmt.Sprintf("line %d: %s", q.Span.Line, q.Message)
				}
			}
		}
		return n, first
	}
	for name := range changed {
		if after.File(name) == nil {
			return name + " would no longer be text"
		}
		was, _ := count(before, name)
		if is, first := count(after, name); is > was {
			return fmt.Sprintf("%s would no longer parse (%s)", name, first)
		}
	}
	return ""
}

// holds says in what way an audit after the repair of findings is not what it
// should be. Findings are counted for each rule and file: a repair moves
// lines and changes their text, so nothing else names them before and after.
func holds(before, after *Result, fixed []Finding) string {
	type key struct{ rule, file string }
	left := map[key]int{}
	for i := range before.Findings {
		left[key{before.Findings[i].Rule.ID, before.Findings[i].Span.File}]++
	}
	aim := map[key]bool{}
	for i := range fixed {
		k := key{fixed[i].Rule.ID, fixed[i].Span.File}
		left[k]--
		aim[k] = true
	}
	still := ""
	for i := range after.Findings {
		f := &after.Findings[i]
		k := key{f.Rule.ID, f.Span.File}
		if left[k]--; left[k] >= 0 {
			continue
		}
		where := fmt.Sprintf("%s:%d", f.Span.File, f.Span.Line)
		if !aim[k] {
			return fmt.Sprintf("it would bring up %s at %s", f.Rule.ID, where)
		}
		still = "the finding would still be there at " + where
	}
	if still != "" {
		return still
	}
	blind := map[string]bool{}
	for _, o := range before.Outcomes {
		blind[o.Rule.ID] = o.Outcome == evidence.Error
	}
	for _, o := range after.Outcomes {
		if o.Outcome == evidence.Error && !blind[o.Rule.ID] {
			return fmt.Sprintf("%s could not look any more: %s", o.Rule.ID, o.Reason)
		}
	}
	return ""
}
