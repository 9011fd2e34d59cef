package seclang

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/dewar-security/dewar/internal/rxset"
)

// Program is a rule set ready to run. It is safe for concurrent use.
type Program struct {
	cfg    settings
	rules  []*rule
	byID   map[int]int // index of the rule with an id
	slots  map[string]int
	names  []string // of the slots
	phases [types.PhaseLogging + 1][]op
	kept   []*rule // that phases run

	initial []variable
	gaps    []string
	scanner *scanner
	pool    sync.Pool
}

// op is one step of a phase: a rule, or what rules decided beforehand set.
type op struct {
	rule   *rule
	assign []assignment
}

type assignment struct {
	slot   int
	value  string
	remove bool
}

// Load compiles the rules of w. [Program.Gaps] says what of them it cannot
// evaluate. The error is about rules that could not be read at all.
func Load(w coraza.WAF, files Files) (*Program, error) {
	cfg, rules, err := load(w)
	if err != nil {
		return nil, err
	}
	p := &Program{cfg: cfg, rules: rules, byID: map[int]int{}, slots: map[string]int{}}
	for i, r := range rules {
		if r.id != 0 {
			p.byID[r.id] = i
		}
		for l := r; l != nil; l = l.chain {
			l.index = i
		}
	}
	for _, d := range digitNames {
		p.slot(d)
	}
	for _, r := range rules {
		for l := r; l != nil; l = l.chain {
			p.prepare(l)
		}
	}
	p.initial = make([]variable, len(p.names))
	for i, n := range p.names {
		p.initial[i].key = n
		if i < len(digitNames) {
			p.initial[i].set = true
		}
	}
	if cfg.engine == types.RuleEngineOff {
		p.gaps = append(p.gaps, "SecRuleEngine is "+cfg.engine.String())
	}
	p.fold()
	for _, ops := range p.phases {
		for _, op := range ops {
			if op.rule != nil {
				p.kept = append(p.kept, op.rule)
			}
		}
	}
	for _, r := range rules {
		for l := r; l != nil; l = l.chain {
			for i := range l.effects {
				e := &l.effects[i]
				for _, j := range e.rules {
					e.touchesFolded = e.touchesFolded || rules[j].folded
				}
			}
		}
	}
	if p.scanner, err = newScanner(p, files); err != nil {
		return nil, err
	}
	words := (p.scanner.leaves + 63) / 64
	p.pool.New = func() any {
		return &Transaction{tx: make([]variable, len(p.names)), removed: make([]bool, len(p.rules)), hitBits: make([]uint64, words)}
	}
	for _, ops := range p.phases[types.PhaseRequestHeaders:types.PhaseLogging] {
		for _, op := range ops {
			if op.rule != nil && op.rule.trouble != "" {
				p.gaps = append(p.gaps, fmt.Sprintf("%s: %s", op.rule.where(), op.rule.trouble))
			}
		}
	}
	return p, nil
}

// Fault returns an error about the first rule on which Coraza itself would
// fail, or nil.
func (p *Program) Fault() error {
	for _, r := range p.rules {
		for l := r; l != nil; l = l.chain {
			for _, e := range l.effects {
				if e.why == setvarFault {
					return fmt.Errorf("%s: %s", r.where(), e.why)
				}
			}
		}
	}
	return nil
}

// where names a rule for people.
func (r *rule) where() string {
	s := fmt.Sprintf("rule %d", r.head.id)
	if r.file != "" && r.file != "_inline_" && !strings.HasPrefix(r.file, "@") {
		s += " in " + r.file
	}
	return s
}

// Gaps lists what of the rules cannot be evaluated here, each with its rule.
// A transaction that comes to such a rule ends with [Transaction.Unsure].
func (p *Program) Gaps() []string { return p.gaps }

// slot returns the number of a TX variable.
func (p *Program) slot(name string) int {
	name = strings.ToLower(name)
	i, ok := p.slots[name]
	if !ok {
		i = len(p.names)
		p.slots[name] = i
		p.names = append(p.names, name)
	}
	return i
}

// prepare finds out what r needs and whether that is modelled.
func (p *Program) prepare(r *rule) {
	head := r.head
	trouble := func(format string, args ...any) {
		if head.trouble == "" {
			head.trouble = fmt.Sprintf(format, args...)
		}
	}
	macro := func(m *macro, condition bool) {
		if m == nil {
			return
		}
		for i := range m.tokens {
			t := &m.tokens[i]
			switch {
			case t.v == variables.Unknown:
			case t.v == variables.TX:
				t.slot = p.slot(t.key)
				if condition && t.slot < 10 {
					r.digits |= 1 << t.slot
				}
			}
			if condition && !modelled(t.v) {
				trouble("%s in a macro", t.v.Name())
			}
		}
	}
	macro(r.msg, false)
	macro(r.logdata, false)
	if r.msg != nil && !p.expandable(r.msg) || r.logdata != nil && !p.expandable(r.logdata) {
		r.msgUnmodelled = true
	}
	for i := range r.effects {
		e := &r.effects[i]
		macro(e.key, false)
		macro(e.value, false)
		switch e.kind {
		case setVariable, removeVariable:
			if !p.expandable(e.key) || !p.expandable(e.value) {
				e.kind, e.why = unmodelled, "a macro in setvar"
				continue
			}
			if e.key.constant() {
				p.slot(e.key.text)
			}
		case removeRules, removeTargets:
			for _, o := range p.rules {
				if e.match != nil && e.match(o) {
					e.rules = append(e.rules, o.index)
				}
			}
			if e.kind == removeTargets {
				e.except = &removedTarget{v: e.target.v, exception: e.target.exception, rules: rxset.NewBits(len(p.rules))}
				for _, i := range e.rules {
					if p.rules[i].id != 0 {
						e.except.rules.Set(i)
					}
				}
			}
		}
	}
	for i := range r.targets {
		t := &r.targets[i]
		if !modelled(t.v) {
			trouble("looks at %s", t.v.Name())
		}
		if matchedVariable(t.v) {
			if r == head {
				trouble("looks at %s outside of a chain", t.v.Name())
			}
		}
		if t.v == variables.TX {
			switch {
			case t.keyRx != nil || t.key == "":
				for d := range 10 {
					if t.keyRx == nil || t.keyRx.MatchString(digitNames[d]) {
						r.digits |= 1 << d
					}
				}
			default:
				if slot := p.slot(t.key); slot < 10 {
					r.digits |= 1 << slot
				}
			}
			if t.count {
				// That a capture is there does not depend on what it is.
				r.digits = 0
			}
		}
	}
	for _, s := range r.steps {
		if _, ok := triggers[s.name]; !ok {
			trouble("transformation %s", s.name)
		}
	}
	if op := r.op; op != nil {
		switch {
		case comparisons[op.name] != nil:
			m, err := parseMacro(op.arg)
			if err != nil {
				trouble("operator @%s: %v", op.name, err)
				break
			}
			op.macro = m
			macro(m, true)
		case pure[op.name]:
		default:
			trouble("operator @%s", op.name)
		}
	}
	for l := r.chain; l != nil; l = l.chain {
		if l.dependsOnMatch() {
			r.ordered = true
		}
	}
	if r.verdict == "allow" && r.allow == 0 {
		trouble("allow of an unknown kind")
	}
}

// dependsOnMatch reports whether a link's condition depends on which value
// matched last before it. What that leaves in TX is followed at run time.
func (r *rule) dependsOnMatch() bool {
	last := func(v variables.RuleVariable) bool { return v == variables.MatchedVar || v == variables.MatchedVarName }
	for _, t := range r.targets {
		if last(t.v) {
			return true
		}
	}
	if r.op == nil || comparisons[r.op.name] == nil {
		return false
	}
	m, err := parseMacro(r.op.arg)
	return err != nil || slices.ContainsFunc(m.tokens, func(t token) bool { return last(t.v) })
}

func matchedVariable(v variables.RuleVariable) bool {
	return v == variables.MatchedVar || v == variables.MatchedVarName || v == variables.MatchedVars || v == variables.MatchedVarsNames
}

func modelled(v variables.RuleVariable) bool {
	return v == variables.Unknown || v == variables.TX || v == variables.ArgsCombinedSize || matchedVariable(v) || singles[v] || views[v] != nil
}

// expandable reports whether [Transaction.expand] knows all of m.
func (p *Program) expandable(m *macro) bool {
	if m == nil {
		return true
	}
	for _, t := range m.tokens {
		if !modelled(t.v) || t.v == variables.MatchedVars || t.v == variables.MatchedVarsNames {
			return false
		}
	}
	return true
}

// variesWithMatch reports whether m expands differently for each value that
// matches.
func variesWithMatch(m *macro) bool {
	if m == nil {
		return false
	}
	for _, t := range m.tokens {
		if matchedVariable(t.v) || t.v == variables.TX && t.slot <= 10 {
			return true
		}
	}
	return false
}

// known is what is known of a TX variable at some place in the rules.
type known struct {
	state knowledge
	value string
}

type knowledge uint8

const (
	unknown knowledge = iota
	unset
	isSet
)

// folder follows the TX variables through the rules and decides those whose
// condition is the same for every request: the Core Rule Set's defaults and
// the paranoia levels.
type folder struct {
	p       *Program
	vars    []known
	loose   bool   // nothing more can be decided
	until   string // rules up to this marker are skipped for every request
	pending int    // that many of the next rules may be skipped
	// skips are rules that may skip to a marker, with what was known there.
	skips map[string][]known
}

// fold makes the phases' operations.
func (p *Program) fold() {
	f := &folder{p: p, vars: make([]known, len(p.names)), skips: map[string][]known{}}
	for i := range f.vars {
		f.vars[i] = known{state: unset}
		if i < len(digitNames) {
			f.vars[i] = known{state: isSet}
		}
	}
	// The body parser stores JSON there.
	for _, n := range []string{"json_request_body", "json_response_body"} {
		if i, ok := p.slots[n]; ok {
			f.vars[i] = known{}
		}
	}
	for phase := types.PhaseRequestHeaders; phase <= types.PhaseResponseBody; phase++ {
		p.phases[phase] = f.phase(phase)
	}
}

func (f *folder) phase(phase types.RulePhase) []op {
	var out []op
	clear(f.skips)
	f.pending = 0
	for _, r := range f.p.rules {
		if r.mark == "" && r.phase != phase && r.phase != 0 {
			continue
		}
		if f.pending > 0 && f.until == "" {
			// It may be skipped, and counts whatever it is.
			f.pending--
			if r.mark == "" {
				f.forget(r)
				out = append(out, op{rule: r})
				continue
			}
		}
		if r.mark != "" {
			if f.until == r.mark {
				f.until = ""
			}
			if at, ok := f.skips[r.mark]; ok {
				f.join(at)
				delete(f.skips, r.mark)
			}
			out = append(out, op{rule: r})
			continue
		}
		if f.until != "" {
			continue
		}
		holds, decided := f.decide(r)
		if decided && !holds {
			continue
		}
		if decided && !f.loose && r.trouble == "" && r.verdict == "" && r.severity == types.RuleSeverityUnset && !r.visible() {
			if assign, ok := f.assignments(r); ok {
				switch {
				case len(r.flow) == 0:
					r.folded = true
					out = appendAssign(out, assign)
					continue
				case len(r.flow) == 1 && r.flow[0].after != "" && len(f.skips) == 0:
					r.folded = true
					f.until = r.flow[0].after
					out = appendAssign(out, assign)
					continue
				}
			}
		}
		if decided && holds && r.chain == nil && !r.capture && !r.multi && !f.looksAtMatch(r) {
			r.always = true
		}
		f.forget(r)
		f.fill(r)
		out = append(out, op{rule: r})
	}
	if len(f.skips) > 0 {
		// A marker that does not come: the rest of the phase is skipped, and
		// the marker is waited for in the next one, too.
		f.giveUp()
	}
	return out
}

// fill expands the arguments of r's operators that are the same for every
// request.
func (f *folder) fill(r *rule) {
	if f.loose || r.phase == 0 {
		return
	}
	for l := r; l != nil; l = l.chain {
		if l.op == nil || l.op.macro == nil || l.op.macro.constant() {
			continue
		}
		if arg, ok := f.expand(l.op.macro); ok {
			l.op.arg, l.op.macro = arg, &macro{text: arg, tokens: []token{{text: arg}}}
		}
	}
}

// visible reports whether a match of r is something to report.
func (r *rule) visible() bool {
	for l := r; l != nil; l = l.chain {
		if l.msg != nil {
			return true
		}
	}
	return false
}

func appendAssign(out []op, a []assignment) []op {
	if len(a) == 0 {
		return out
	}
	if n := len(out); n > 0 && out[n-1].rule == nil {
		out[n-1].assign = append(out[n-1].assign, a...)
		return out
	}
	return append(out, op{assign: a})
}

func (f *folder) looksAtMatch(r *rule) bool {
	for _, e := range r.effects {
		if variesWithMatch(e.key) || variesWithMatch(e.value) {
			return true
		}
	}
	for _, m := range []*macro{r.msg, r.logdata} {
		if variesWithMatch(m) {
			return true
		}
	}
	return r.visible()
}

// decide reports whether r's condition is the same for every request.
func (f *folder) decide(r *rule) (holds, decided bool) {
	for l := r; l != nil; l = l.chain {
		h, d := f.decideLink(l)
		if !d {
			return false, false
		}
		if !h {
			// The links before have run their effects.
			return false, l == r
		}
		if l != r && len(l.effects) > 0 {
			return false, false
		}
	}
	return true, r.chain == nil || len(r.effects) == 0
}

func (f *folder) decideLink(r *rule) (holds, decided bool) {
	if r.op == nil {
		return true, true
	}
	if f.loose || r.op.macro == nil || r.multi || r.capture {
		return false, false
	}
	arg, ok := f.expand(r.op.macro)
	if !ok {
		return false, false
	}
	for i := range r.targets {
		t := &r.targets[i]
		if t.v != variables.TX || t.key == "" || t.keyRx != nil || len(t.except) > 0 {
			return false, false
		}
		k := f.vars[f.p.slot(t.key)]
		if k.state == unknown {
			return false, false
		}
		value := k.value
		switch {
		case t.count:
			value = "0"
			if k.state == isSet {
				value = "1"
			}
		case k.state == unset:
			continue
		}
		for _, s := range r.steps {
			if out, _, err := s.fn(value); err == nil {
				value = out
			}
		}
		if comparisons[r.op.name](value, arg) != r.op.negated {
			holds = true
		}
	}
	return holds, true
}

func (f *folder) expand(m *macro) (string, bool) {
	var b strings.Builder
	for _, t := range m.tokens {
		switch {
		case t.v == variables.Unknown:
			b.WriteString(t.text)
		case t.v == variables.TX:
			switch k := f.vars[t.slot]; k.state {
			case isSet:
				b.WriteString(k.value)
			case unset:
				b.WriteString(t.text)
			default:
				return "", false
			}
		default:
			return "", false
		}
	}
	return b.String(), true
}

// assignments returns what r's effects set, if that is known, and notes it.
func (f *folder) assignments(r *rule) (out []assignment, ok bool) {
	save := slices.Clone(f.vars)
	for l := r; l != nil; l = l.chain {
		for _, e := range l.effects {
			if e.kind != setVariable || !e.key.constant() {
				f.vars = save
				return nil, false
			}
			value, ok := f.expand(e.value)
			slot := f.p.slot(e.key.text)
			k := f.vars[slot]
			if !ok || k.state == unknown && value != "" && (value[0] == '+' || value[0] == '-') {
				f.vars = save
				return nil, false
			}
			current := ""
			if k.state == isSet {
				current = k.value
			}
			if result, changes := setvar(current, value); changes {
				f.vars[slot] = known{isSet, result}
				out = append(out, assignment{slot: slot, value: result})
			}
		}
	}
	return out, true
}

// forget drops what is known of everything that r may change.
func (f *folder) forget(r *rule) {
	for l := r; l != nil; l = l.chain {
		if l.capture {
			for i := range digitNames {
				f.vars[i] = known{}
			}
		}
		for _, e := range l.effects {
			switch e.kind {
			case setVariable, removeVariable:
				if e.key.constant() {
					f.vars[f.p.slot(e.key.text)] = known{}
					continue
				}
				prefix := ""
				if e.key.tokens[0].v == variables.Unknown {
					prefix = strings.ToLower(e.key.tokens[0].text)
				}
				for i, n := range f.p.names {
					if strings.HasPrefix(n, prefix) {
						f.vars[i] = known{}
					}
				}
			}
		}
	}
	if len(r.flow) > 1 {
		f.giveUp() // skip counts behind the marker of skipAfter
	}
	for _, fl := range r.flow {
		if fl.after == "" {
			f.pending = max(f.pending, fl.count)
			continue
		}
		if at, ok := f.skips[fl.after]; ok {
			f.merge(at)
		} else {
			f.skips[fl.after] = slices.Clone(f.vars)
		}
	}
	if r.verdict == "allow" {
		f.giveUp()
	}
}

// merge keeps in at what is known there and here.
func (f *folder) merge(at []known) {
	for i := range at {
		if at[i] != f.vars[i] {
			at[i] = known{}
		}
	}
}

// join keeps what is known here and at.
func (f *folder) join(at []known) {
	for i := range at {
		if at[i] != f.vars[i] {
			f.vars[i] = known{}
		}
	}
}

func (f *folder) giveUp() {
	f.loose = true
	clear(f.vars)
}
