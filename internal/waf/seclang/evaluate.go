package seclang

import (
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"
)

// Interruption is the disruptive action that ended a transaction.
type Interruption struct {
	RuleID, Status int
	Action         string
}

// Match is a rule with a message that matched.
type Match struct {
	ID       int
	Severity types.RuleSeverity
	Message  string
	Data     string
	Variable variables.RuleVariable
	Key      string
}

// phase runs the rules of one phase, as Coraza's RuleGroup.Eval does.
func (x *Transaction) runPhase(phase types.RulePhase) {
	x.phase = int(phase)
	x.scanAll()
	ops := x.p.phases[phase]
loop:
	for i := range ops {
		if x.denied != nil || x.unsure != "" {
			return
		}
		op := &ops[i]
		r := op.rule
		if r == nil {
			if x.skipAfter == "" {
				for _, a := range op.assign {
					x.tx[a.slot] = variable{key: x.p.names[a.slot], value: a.value, set: !a.remove}
				}
			}
			continue
		}
		if x.removed[r.index] {
			continue
		}
		if x.skipAfter != "" {
			if r.mark == x.skipAfter {
				x.skipAfter = ""
			}
			continue
		}
		if x.skip > 0 {
			x.skip--
			continue
		}
		switch x.allow {
		case 0:
		case allowPhase, allowAll:
			break loop
		case allowRequest:
			if phase == types.PhaseRequestBody {
				x.allow = 0
				break loop
			}
			if phase == types.PhaseRequestHeaders {
				break loop
			}
		}
		if r.mark != "" {
			continue
		}
		// Most rules end here: nothing that they look for was found.
		if r.leaf >= 0 && !r.op.negated && !x.hasHit(r.leaf) {
			if !r.scanned {
				x.ambiguous |= 1<<10 - 1 // a foreseen chain captures all the same
			}
			continue
		}
		x.evaluate(r)
	}
	if x.allow == allowPhase {
		x.allow = 0
	}
	x.skip = 0
}

// Coraza's kinds of allow.
const (
	allowAll     = 1
	allowPhase   = 2
	allowRequest = 3
)

func (x *Transaction) hasHit(leaf int) bool { return x.hitBits[leaf>>6]>>(leaf&63)&1 != 0 }

// evaluate runs one rule with its chain.
func (x *Transaction) evaluate(r *rule) {
	if r.trouble != "" {
		x.punt(r.trouble)
		return
	}
	x.matched = x.matched[:0]
	x.values = x.values[:0]
	x.settled = 0
	for l := r; l != nil; l = l.chain {
		n := x.link(l)
		if n == 0 || x.unsure != "" {
			x.capture = false
			return
		}
	}
	x.capture = false
	if r.chain != nil || r.chained || r.op == nil {
		if r.msg != nil {
			x.values[0].message, _ = x.expand(r.msg)
		}
		if r.logdata != nil {
			x.values[0].logdata, _ = x.expand(r.logdata)
		}
	}
	for _, f := range r.flow {
		if f.after != "" {
			x.skipAfter = f.after
		} else {
			x.skip = f.count
		}
	}
	verdict := r.verdict
	if x.p.cfg.engine != types.RuleEngineOn {
		verdict = "" // DetectionOnly
	}
	switch verdict {
	case "deny":
		x.denied = &Interruption{RuleID: r.id, Status: r.status, Action: r.verdict}
		if r.status == 0 {
			x.denied.Status = 403
		}
	case "drop":
		x.denied = &Interruption{RuleID: r.id, Status: r.status, Action: r.verdict}
	case "redirect":
		x.denied = &Interruption{RuleID: r.id, Status: 302, Action: r.verdict}
		if s := r.status; s == 301 || s == 302 || s == 303 || s == 307 {
			x.denied.Status = s
		}
	case "allow":
		x.allow = r.allow
	}
	if r.id == 0 {
		return
	}
	if r.severity != types.RuleSeverityUnset {
		if r.severity.Int() < number(x.singles[variables.HighestSeverity].value) {
			x.singles[variables.HighestSeverity].value = strconv.Itoa(r.severity.Int())
		}
	}
	for i := range x.values {
		if d := &x.values[i]; d.message != "" {
			first := &x.values[0]
			x.matches = append(x.matches, Match{
				ID: r.id, Severity: r.severity, Message: d.message, Data: d.logdata, Variable: first.v, Key: first.key,
			})
			break
		}
	}
}

// link runs one link of a chain over all its values and returns how many
// matched.
func (x *Transaction) link(r *rule) int {
	x.capture = r.capture
	x.written = 0
	x.linkNumber++
	if r.op == nil || r.always {
		d := data{}
		if (r.head != r || r.multi) && r.msg != nil {
			d.message, _ = x.expand(r.msg)
		}
		if (r.head != r || r.multi) && r.logdata != nil {
			d.logdata, _ = x.expand(r.logdata)
		}
		x.values = append(x.values, d)
		x.match(r, d)
		return 1
	}
	if x.ambiguous&^x.settled&r.digits != 0 {
		x.punt("rule " + strconv.Itoa(r.head.id) + ": captures of which Coraza does not say which come last")
		return 0
	}
	before := len(x.values)
	for i := range r.targets {
		t := &r.targets[i]
		var more []exception
		for _, ex := range x.exceptions {
			if ex.v == t.v && ex.rules.Has(r.index) {
				more = append(more, ex.exception)
			}
		}
		x.target(r, t, more)
		if x.unsure != "" {
			return 0
		}
	}
	n := len(x.values) - before
	switch {
	case n == 1:
		x.ambiguous &^= x.written
	case n > 1:
		x.ambiguous |= x.written
		x.settled = 0
		if r.capture && r.op.captures != 0 && !r.op.negated && x.settles(r, x.values[before:]) {
			x.settled = r.op.captures
		}
		if r.ordered {
			x.punt("rule " + strconv.Itoa(r.head.id) + ": a chain about the last of several values")
			return 0
		}
	}
	return n
}

// settles reports whether it makes no difference to the rest of r's chain
// which of several values matched last: the links that look at what it
// captured hold for each of them, or one of them for none.
func (x *Transaction) settles(r *rule, values []data) bool {
	for l := r.chain; l != nil; l = l.chain {
		if l.capture {
			return false
		}
		if l.digits == 0 {
			continue
		}
		if l.op == nil || l.op.macro == nil && l.op.test == nil || l.multi || l.digits&^r.op.captures != 0 {
			return false
		}
		for _, ex := range x.exceptions {
			if ex.v == variables.TX && ex.rules.Has(r.index) {
				return false
			}
		}
		holds := 0
		for i := range values {
			c := capturer{capture: true, to: x.to}
			x.captureNow()
			r.op.run.Evaluate(&c, values[i].value)
			arg := l.op.arg
			if l.op.macro != nil && !l.op.macro.constant() {
				for _, t := range l.op.macro.tokens {
					if t.v != variables.Unknown && (t.v != variables.TX || t.slot > 9) {
						return false
					}
				}
				arg, _ = x.expand(l.op.macro)
			}
			for j := range l.targets {
				t := &l.targets[j]
				if t.v != variables.TX || t.keyRx != nil || t.count || len(t.except) > 0 || len(t.key) != 1 || t.key[0] < '0' || t.key[0] > '9' {
					return false
				}
				text := x.to[t.key[0]-'0'].value
				for _, s := range l.steps {
					if out, _, err := s.fn(text); err == nil {
						text = out
					}
				}
				got := false
				if l.op.macro != nil {
					got = comparisons[l.op.name](text, arg)
				} else {
					got = l.op.test(text)
				}
				if got != l.op.negated {
					holds++
					break
				}
			}
		}
		switch holds {
		case 0:
			return true // the chain ends here
		case len(values):
		default:
			return false
		}
	}
	return true
}

// target runs r on the values of one target.
func (x *Transaction) target(r *rule, t *target, more []exception) {
	switch {
	case t.v == variables.TX:
		if r.digits != 0 {
			x.captureNow()
		}
		n := 0
		visit := func(v *variable) {
			if !v.set || except(v.key, t.except) || except(v.key, more) {
				return
			}
			n++
			if !t.count {
				if v.loose {
					x.punt("rule " + strconv.Itoa(r.head.id) + ": a TX variable that several values set")
				}
				x.value(r, t.v, v.key, v.value)
			}
		}
		switch {
		case t.keyRx != nil || t.key == "":
			for i := range x.tx {
				if t.keyRx == nil || t.keyRx.MatchString(x.tx[i].key) {
					visit(&x.tx[i])
				}
			}
			for i := range x.more {
				if t.keyRx == nil || t.keyRx.MatchString(x.more[i].key) {
					visit(&x.more[i])
				}
			}
		default:
			if v := x.lookup(t.fold); v != nil {
				visit(v)
			}
		}
		if t.count {
			x.value(r, t.v, t.key, strconv.Itoa(n))
		}
	case t.v == variables.MatchedVars || t.v == variables.MatchedVarsNames:
		n, names := 0, t.v == variables.MatchedVarsNames
		// The list grows while it is read: Coraza reads it first.
		for i, all := 0, len(x.matched); i < all; i++ {
			name := x.matched[i].name()
			e := entry{key: name, fold: strings.ToLower(name), value: x.matched[i].value}
			if !t.wants(&e, names) || except(e.fold, t.except) || except(e.fold, more) {
				continue
			}
			n++
			if !t.count {
				x.valueOf(r, t.v, &e, names)
			}
		}
		if t.count {
			x.value(r, t.v, t.key, strconv.Itoa(n))
		}
	case t.v == variables.MatchedVar:
		x.single(r, t, x.last.value, more, nil)
	case t.v == variables.MatchedVarName:
		x.single(r, t, x.last.name(), more, nil)
	case t.v == variables.ArgsCombinedSize:
		x.single(r, t, x.argumentsSize(), more, nil)
	case t.single:
		e := &x.singles[t.v]
		if r.scanned && !e.scanned {
			x.punt("a value that was not scanned")
			return
		}
		x.single(r, t, e.value, more, e.hits)
	default:
		n := 0
		for _, w := range t.views {
			for i := range x.lists[w.list] {
				e := &x.lists[w.list][i]
				// Without a hit nothing matches, whatever the name is.
				if r.scanned && !e.scanned {
					x.punt("a value that was not scanned")
					return
				}
				if r.scanned && !r.op.negated {
					h := e.hits
					if w.names {
						h = e.nameHits
					}
					if !h.has(r.leaf) {
						continue
					}
				}
				if !t.wants(e, w.names) || len(t.except) > 0 && except(e.fold, t.except) || len(more) > 0 && except(e.fold, more) {
					continue
				}
				n++
				if !t.count {
					x.valueOf(r, reported(t.v), e, w.names)
				}
			}
		}
		if t.count {
			x.value(r, t.v, t.key, strconv.Itoa(n))
		}
	}
}

func (x *Transaction) single(r *rule, t *target, value string, more []exception, h hits) {
	n := 1
	if except("", t.except) || except("", more) {
		n = 0
	}
	switch {
	case t.count:
		x.value(r, t.v, t.key, strconv.Itoa(n))
	case n == 1:
		if r.scanned && r.op.negated == h.has(r.leaf) {
			return
		}
		x.value(r, t.v, "", value)
	}
}

func (x *Transaction) valueOf(r *rule, v variables.RuleVariable, e *entry, names bool) {
	if names {
		if r.scanned && r.op.negated == e.nameHits.has(r.leaf) {
			return
		}
		x.value(r, v, e.key, e.key)
		return
	}
	if r.scanned && r.op.negated == e.hits.has(r.leaf) {
		return
	}
	x.value(r, v, e.key, e.value)
}

// value transforms one value, compares it and, if it matches, does what the
// rule does for each match.
func (x *Transaction) value(r *rule, v variables.RuleVariable, key, value string) {
	if r.scanned && !r.multi && (!r.capture || r.op.captures != 0) {
		// The scan said that it matches. What the operator captures is found
		// out when somebody asks.
		for _, s := range r.steps {
			if out, _, err := s.fn(value); err == nil {
				value = out
			}
		}
		if r.capture {
			x.pending = append(x.pending, capture{r.op, value})
			x.written |= r.op.captures
		}
		x.matchedValue(r, v, key, value)
		return
	}
	if r.multi {
		// The value itself and every result that differs from the one before.
		x.compare(r, v, key, value)
		for _, s := range r.steps {
			out, changed, err := s.fn(value)
			if err == nil && changed {
				value = out
				x.compare(r, v, key, value)
			}
		}
		return
	}
	for _, s := range r.steps {
		if out, _, err := s.fn(value); err == nil {
			value = out
		}
	}
	x.compare(r, v, key, value)
}

func (x *Transaction) compare(r *rule, v variables.RuleVariable, key, value string) {
	if x.matchesOperator(r.op, value) && x.unsure == "" {
		x.matchedValue(r, v, key, value)
	}
}

func (x *Transaction) matchedValue(r *rule, v variables.RuleVariable, key, value string) {
	d := data{v: v, key: key, value: value}
	x.match(r, d)
	if r.head != r || !r.chained {
		if r.msg != nil {
			d.message, _ = x.expand(r.msg)
		}
		if r.logdata != nil {
			d.logdata, _ = x.expand(r.logdata)
		}
	}
	x.values = append(x.values, d)
}

// capture is an operator that matched a value, and captures nobody has asked
// for yet.
type capture struct {
	op    *operator
	value string
}

// captureNow makes the captures that are due.
func (x *Transaction) captureNow() {
	if len(x.pending) == 0 {
		return
	}
	c := capturer{capture: true, to: x.to}
	for _, p := range x.pending {
		p.op.run.Evaluate(&c, p.value)
	}
	clear(x.pending)
	x.pending = x.pending[:0]
}

// match sets MATCHED_* and runs the effects of r.
func (x *Transaction) match(r *rule, d data) {
	x.matched = append(x.matched, d)
	x.last = d
	for i := range r.effects {
		x.apply(&r.effects[i])
	}
}

func (x *Transaction) apply(e *effect) {
	switch e.kind {
	case setVariable, removeVariable:
		x.tainted = false
		key, ok := x.expand(e.key)
		if !ok || x.tainted {
			x.punt("the name in a setvar")
			return
		}
		key = strings.ToLower(key)
		if e.kind == removeVariable {
			if v := x.lookup(key); v != nil {
				v.set, v.value = false, ""
			}
			return
		}
		value, ok := x.expand(e.value)
		if !ok {
			x.punt("the value in a setvar")
			return
		}
		current := ""
		if v := x.lookup(key); v != nil && v.set {
			current = v.value
		}
		out, ok := setvar(current, value)
		if !ok {
			return
		}
		v := x.setTX(key, out)
		// Sums do not depend on the order of what is added.
		sum := value != "" && (value[0] == '+' || value[0] == '-')
		v.loose = x.tainted || !sum && v.link == x.linkNumber && (v.loose || current != out)
		v.link = x.linkNumber
	case removeRules:
		for _, i := range e.rules {
			x.remove(i)
		}
	case removeTargets:
		if e.touchesFolded {
			x.punt("a target of a rule decided beforehand is taken out")
		}
		x.exceptions = append(x.exceptions, e.except)
	case forceBody:
		x.forceBody = e.text == "on"
	case setProcessor:
		if x.phase <= int(types.PhaseRequestHeaders) {
			x.set(variables.ReqbodyProcessor, e.text)
		}
	default:
		x.punt(e.why)
	}
}

// setvar returns what a TX variable holds after setvar:tx.name=value; ok is
// false if it keeps what it had. "+n" and "-n" calculate.
func setvar(current, value string) (out string, ok bool) {
	if value == "" || value[0] != '+' && value[0] != '-' {
		return value, true
	}
	n := 0
	if len(value) > 1 {
		var err error
		if n, err = strconv.Atoi(value[1:]); err != nil {
			// Not a number. The name of a variable that is not there is left alone.
			return value, !strings.HasPrefix(value[1:], "tx.")
		}
	}
	have := 0
	if current != "" {
		var err error
		if have, err = strconv.Atoi(current); err != nil {
			return "", false
		}
	}
	if value[0] == '-' {
		n = -n
	}
	return strconv.Itoa(have + n), true
}

// remove takes the rule with that index out of the rest of the transaction.
func (x *Transaction) remove(i int) {
	if x.p.rules[i].folded {
		x.punt("rule " + strconv.Itoa(x.p.rules[i].id) + ", decided beforehand, is taken out")
	}
	x.removed[i] = true
}
