package audit

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/evidence"
)

// Kinds of [Suppression].
const (
	KindComment  = "dewar"
	KindNosec    = "nosec"
	KindBaseline = "baseline"
)

// Result is what an audit found. Everything in it is sorted, so that the
// same tree gives the same result; only the durations differ.
type Result struct {
	Findings   []Finding // sorted by place, then rule; every place is one, see Grouped
	Suppressed []Finding // the same, with Suppressed set
	// Notices are about the suppressions themselves: those that do not count
	// and those that nothing needs any more.
	Notices       []Notice
	Skips         []Skip
	NotUnderstood []Problem
	// Outcomes has one entry for each rule, in the order of the rules' ids.
	Outcomes []RuleOutcome
	Stats    Stats
	// Cached is when the result was found, if it comes from a [Cache]; zero
	// otherwise. The outcomes' durations are then 0.
	Cached time.Time
}

// Notice is a remark about a suppression or the baseline.
type Notice struct {
	Span    Span // zero for the baseline
	Message string
	Fix     string
}

// RuleOutcome is how one rule fared.
type RuleOutcome struct {
	Rule *Rule
	// Outcome is Fail with findings that count, Error when the rule could
	// not look (even if it found something before).
	Outcome    evidence.Outcome
	Reason     string // why NotApplicable or Error
	Findings   int    // that count
	Suppressed int    // by a comment or the baseline
	Nosec      int    // by "# nosec"
	Duration   time.Duration
}

// Stats are the numbers of an audit.
type Stats struct {
	Files    int `json:"files"`
	Lines    int `json:"lines"`
	Routes   int `json:"routes"`
	Rules    int `json:"rules"`
	Nosec    int `json:"nosec"` // findings silenced by "# nosec"
	Baseline int `json:"baseline"`
	// Duration is how long loading and all rules together took.
	Duration time.Duration `json:"duration"`
}

// Run runs the rules over p. A rule that panics, or that ctx ends early, is
// an Error outcome, and what it found before counts.
func Run(ctx context.Context, p *Project, rules []*Rule, opt Options) *Result {
	start := time.Now()
	res := look(ctx, p, rules, &opt).result(&opt)
	res.Stats.Duration = p.took + time.Since(start)
	return res
}

// looked is what the rules saw, before the baseline: everything that follows
// from the tree, the rules and, with holds, the day. See [Cache].
type looked struct {
	rules    []*Rule   // sorted by id
	findings []Finding // sorted by place, then rule; what comments silence has Suppressed set
	notices  []Notice
	skips    []Skip
	problems []Problem
	outcomes []RuleOutcome // by rule: what the rule itself said, and how long it took
	stats    Stats
	holds    []suppressionEnd // the suppressions that end one day
	panicked bool             // a rule failed: a mistake of ours, which may not happen again
}

// suppressionEnd is the last day of a suppression.
type suppressionEnd struct {
	Until time.Time
	Over  bool // had it passed?
}

// look runs the rules and asks the comments.
func look(ctx context.Context, p *Project, rules []*Rule, opt *Options) *looked {
	rules = slices.Clone(rules)
	slices.SortStableFunc(rules, func(a, b *Rule) int { return strings.Compare(a.ID, b.ID) })
	l := &looked{
		rules: rules, skips: p.Skipped, problems: p.NotUnderstood,
		outcomes: make([]RuleOutcome, len(rules)),
		stats:    Stats{Files: len(p.Files), Rules: len(rules), Routes: len(p.Flask.Routes)},
	}
	for _, f := range p.Files {
		l.stats.Lines += f.LineCount()
	}
	passes := make([]*Pass, len(rules))
	var done atomic.Int64
	var wg sync.WaitGroup
	looking := make(chan struct{}, max(1, opt.parallel()))
	for i, rule := range rules {
		looking <- struct{}{}
		wg.Go(func() {
			defer func() { <-looking }()
			passes[i] = &Pass{Rule: rule, Project: p, Flask: p.Flask, ctx: ctx, looking: looking}
			began := time.Now()
			passes[i].run()
			l.outcomes[i] = RuleOutcome{Rule: rule, Duration: time.Since(began)}
			opt.progress(Judging, int(done.Add(1)), len(rules))
		})
	}
	wg.Wait()

	for i, pass := range passes {
		l.findings = append(l.findings, pass.findings...)
		l.panicked = l.panicked || pass.panicked
		o := &l.outcomes[i]
		o.Outcome, o.Reason = pass.outcome, pass.reason
		if o.Reason == "" {
			o.Outcome = evidence.Pass
			if len(p.Files) == 0 {
				o.Outcome, o.Reason = evidence.Error, "no file could be read"
			}
		}
	}
	slices.SortStableFunc(l.findings, compareFindings)
	l.findings = slices.CompactFunc(l.findings, func(a, b Finding) bool {
		return a.Rule == b.Rule && a.Span == b.Span && a.Message == b.Message
	})
	fingerprints(p, l.findings)
	l.suppress(p, opt)
	return l
}

// result applies the baseline and counts.
func (l *looked) result(opt *Options) *Result {
	r := &Result{
		Notices: slices.Clone(l.notices), Skips: l.skips, NotUnderstood: l.problems,
		Outcomes: slices.Clone(l.outcomes), Stats: l.stats,
	}
	r.accept(l, opt.Baseline)
	r.judge()
	return r
}

// run calls the rule and turns a panic into an outcome.
func (p *Pass) run() {
	defer func() {
		if r := recover(); r != nil {
			p.panicked = true
			p.CouldNotLook(fmt.Sprintf("the rule failed: %v, at %s", r, panicSite(debug.Stack())))
		}
	}()
	if err := p.ctx.Err(); err != nil {
		p.CouldNotLook("the audit was called off: " + err.Error())
		return
	}
	if p.Rule.Check == nil {
		p.CouldNotLook("the rule has no code")
		return
	}
	p.Rule.Check(p)
	if err := p.ctx.Err(); err != nil {
		p.CouldNotLook("the audit was called off: " + err.Error())
	}
}

// panicSite returns the file and line of the innermost frame of ours in a
// stack, which is what a bug report needs.
func panicSite(stack []byte) string {
	after := false
	for line := range strings.SplitSeq(string(stack), "\n") {
		if strings.HasPrefix(line, "panic(") {
			after = true
			continue
		}
		if i := strings.LastIndex(line, "/internal/"); after && i >= 0 && strings.HasPrefix(line, "\t") {
			site, _, _ := strings.Cut(line[i+len("/internal/"):], " ")
			return site
		}
	}
	return "an unknown place"
}

func compareFindings(a, b Finding) int {
	return cmp.Or(compareSpans(a.Span, b.Span), strings.Compare(a.Rule.ID, b.Rule.ID), strings.Compare(a.Message, b.Message))
}

// suppress marks the findings that a comment silences, and remarks on comments
// that do not do what they seem to.
func (l *looked) suppress(p *Project, opt *Options) {
	now := opt.Now
	if now.IsZero() {
		now = time.Now()
	}
	byFile := map[string][]*suppression{}
	var inOrder []*suppression
	for _, f := range p.Files {
		s := suppressions(f)
		byFile[f.Path] = s
		inOrder = append(inOrder, s...)
	}
	for i := range l.findings {
		f := &l.findings[i]
		for _, s := range byFile[f.Span.File] {
			if s.bad != "" || !s.covers(f) || !s.silences(f) {
				continue
			}
			if !s.nosec {
				s.used[f.Rule.ID] = true
			}
			if s.expired(now) {
				continue
			}
			// A comment with a reason explains more than "# nosec".
			if f.Suppressed == nil || f.Suppressed.Kind == KindNosec {
				kind := KindComment
				if s.nosec {
					kind = KindNosec
				}
				f.Suppressed = &Suppression{Kind: kind, Reason: s.reason, Span: s.span}
			}
		}
	}

	running := map[string]bool{}
	for _, rule := range l.rules {
		running[rule.ID] = true
	}
	known := opt.known(l.rules)
	for _, s := range inOrder {
		if !s.until.IsZero() {
			l.holds = append(l.holds, suppressionEnd{s.until, s.expired(now)})
		}
		if s.nosec {
			continue
		}
		if s.bad != "" {
			l.notices = append(l.notices, Notice{Span: s.span, Message: s.bad + ", so it does not count", Fix: s.fix})
			continue
		}
		for _, id := range s.ids {
			switch {
			case !slices.Contains(known, id):
				l.notices = append(l.notices, Notice{Span: s.span, Message: fmt.Sprintf("there is no rule %s", id), Fix: "did you mean " + nearest(id, known) + "?"})
			case s.used[id] && s.expired(now):
				l.notices = append(l.notices, Notice{Span: s.span, Message: fmt.Sprintf("the suppression of %s ended on %s", id, s.until.Format(time.DateOnly)), Fix: "repair the finding, or decide again until when to live with it"})
			case !s.used[id] && running[id]:
				l.notices = append(l.notices, Notice{Span: s.span, Message: fmt.Sprintf("nothing here needs the suppression of %s", id), Fix: "remove it"})
			}
		}
	}
}

// known returns the ids that a suppression may name.
func (o *Options) known(rules []*Rule) []string {
	if o.KnownRules != nil {
		return o.KnownRules
	}
	var ids []string
	for _, r := range rules {
		ids = append(ids, r.ID)
	}
	return ids
}

// accept parts the findings that count from those somebody decided to live
// with.
func (r *Result) accept(l *looked, base *Baseline) {
	accepted := map[string]*BaselineEntry{}
	if base != nil {
		for i := range base.Entries {
			accepted[base.Entries[i].Fingerprint] = &base.Entries[i]
		}
	}
	matched := map[string]bool{}
	for _, f := range l.findings {
		if e, ok := accepted[f.Fingerprint]; ok {
			matched[f.Fingerprint] = true
			if f.Suppressed == nil {
				f.Suppressed = &Suppression{Kind: KindBaseline, Reason: cmp.Or(e.Reason, noReason)}
			}
		}
		if f.Suppressed == nil {
			r.Findings = append(r.Findings, f)
			continue
		}
		switch f.Suppressed.Kind {
		case KindNosec:
			r.Stats.Nosec++
			s := *f.Suppressed // l may serve another result
			s.Reason = cmp.Or(s.Reason, "# nosec")
			f.Suppressed = &s
		case KindBaseline:
			r.Stats.Baseline++
		}
		r.Suppressed = append(r.Suppressed, f)
	}
	if base == nil {
		return
	}
	gone := 0
	for i := range base.Entries {
		e := &base.Entries[i]
		running := slices.ContainsFunc(l.rules, func(k *Rule) bool { return k.ID == e.Rule })
		if running && !matched[e.Fingerprint] {
			gone++
		}
	}
	if gone > 0 {
		r.Notices = append(r.Notices, Notice{Message: fmt.Sprintf("%d of the baseline's findings are gone", gone), Fix: "write the baseline again with dewar audit --write-baseline"})
	}
}

// judge says how each rule fared.
func (r *Result) judge() {
	at := map[*Rule]*RuleOutcome{}
	for i := range r.Outcomes {
		at[r.Outcomes[i].Rule] = &r.Outcomes[i]
	}
	for i := range r.Findings {
		o := at[r.Findings[i].Rule]
		o.Findings++
		if o.Outcome != evidence.Error {
			o.Outcome, o.Reason = evidence.Fail, ""
		}
	}
	for i := range r.Suppressed {
		o := at[r.Suppressed[i].Rule]
		if r.Suppressed[i].Suppressed.Kind == KindNosec {
			o.Nosec++
		} else {
			o.Suppressed++
		}
	}
}

// Failing returns the findings at or above the threshold.
func (r *Result) Failing(t FailOn) []Finding {
	var out []Finding
	for i := range r.Findings {
		if t.Reached(&r.Findings[i]) {
			out = append(out, r.Findings[i])
		}
	}
	return out
}

// Evidence returns what the audit says about the promises: a failure for
// each finding that counts, those of one cause together; for a rule that looked and found nothing that
// counts a pass, which names what was silenced or not read; for one that
// could not look an error.
func (r *Result) Evidence(now time.Time) []evidence.Evidence {
	var out []evidence.Evidence
	found := Grouped(r.Findings)
	blind := 0
	for _, s := range r.Skips {
		if !s.Routine {
			blind++
		}
	}
	unread := map[string]bool{}
	for _, n := range r.NotUnderstood {
		unread[n.Span.File] = true
	}
	for i := range r.Outcomes {
		o := &r.Outcomes[i]
		base := evidence.Evidence{Control: o.Rule.Control, Face: evidence.Audit, Check: o.Rule.ID, Time: now}
		for j := range found {
			f := &found[j]
			if f.Rule != o.Rule {
				continue
			}
			e := base
			e.Outcome, e.Summary, e.Fix = evidence.Fail, f.Message, cmp.Or(f.Fix, o.Rule.Fix)
			e.MitigatedBy = o.Rule.MitigatedBy
			if o.Rule.Patch != "" && len(f.Places) <= 1 {
				// Only a guard that covers all of its sources says so.
				e.MitigatedBy = append(slices.Clone(e.MitigatedBy), evidence.PatchCheck(f.Fingerprint))
			}
			if f.Span.File != "" {
				e.Location = &evidence.Location{File: f.Span.File, Line: f.Span.Line, Column: f.Span.Column}
			}
			out = append(out, e)
		}
		switch e := base; o.Outcome {
		case evidence.Fail: // said above
		case evidence.Pass:
			e.Outcome, e.Summary = evidence.Pass, "not found: "+lowerFirst(o.Rule.Title)
			var but []string
			if o.Suppressed > 0 {
				but = append(but, count(o.Suppressed, "finding", "findings")+" accepted with a reason")
			}
			if o.Nosec > 0 {
				but = append(but, count(o.Nosec, "finding", "findings")+" silenced by # nosec")
			}
			if blind > 0 {
				but = append(but, count(blind, "file", "files")+" not read")
			}
			if len(unread) > 0 {
				but = append(but, count(len(unread), "file", "files")+" understood in part")
			}
			if but != nil {
				e.Summary += " (" + strings.Join(but, ", ") + ")"
			}
			out = append(out, e)
		default:
			e.Outcome, e.Summary = o.Outcome, o.Reason
			out = append(out, e)
		}
	}
	return out
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// lowerFirst puts a title into the middle of a sentence, unless it begins
// with an abbreviation or a name in capitals.
func lowerFirst(s string) string {
	if len(s) > 1 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'a' && s[1] <= 'z' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

// nearest returns the word of known with the least edit distance to s.
func nearest(s string, known []string) string {
	best, least := "", 1<<30
	for _, k := range known {
		prev := make([]int, len(k)+1)
		for j := range prev {
			prev[j] = j
		}
		for i := range len(s) {
			diag := prev[0]
			prev[0] = i + 1
			for j := range len(k) {
				cost := diag
				if s[i] != k[j] {
					cost++
				}
				diag = prev[j+1]
				prev[j+1] = min(cost, prev[j]+1, prev[j+1]+1)
			}
		}
		if prev[len(k)] < least {
			best, least = k, prev[len(k)]
		}
	}
	return cmp.Or(best, "a rule of dewar explain")
}
