package seclang

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"
)

// settings are what of Coraza's configuration decides how a transaction goes.
type settings struct {
	engine        types.RuleEngineStatus
	bodyAccess    bool
	bodyLimit     int64
	bodyReject    bool
	jsonDepth     int
	arguments     int
	responses     bool
	responseLimit int64
	responseCut   bool // at the limit the response is judged, not refused
	responseTypes []string
	prefilter     bool
}

// rule is one compiled rule of Coraza's, a link of a chain or a marker.
type rule struct {
	id, line int
	file     string
	phase    types.RulePhase // 0 for markers and links of a chain
	mark     string
	tags     []string
	severity types.RuleSeverity
	targets  []target
	op       *operator // nil: matches always
	steps    []step
	capture  bool
	multi    bool
	chained  bool
	chain    *rule
	head     *rule // of the chain; the rule itself if it is none
	msg      *macro
	logdata  *macro
	effects  []effect // run for each value that matches
	flow     []flow   // run when the whole rule matched
	// verdict is the disruptive action, "" for none.
	verdict string
	status  int
	allow   int64
	data    string

	// The rest is set by compile.
	index         int    // in Program.rules
	trouble       string // why it cannot be evaluated here, "" if it can
	leaf          int    // number of the operator on its transformations, or -1
	scanned       bool   // every value that it looks at is scanned beforehand
	always        bool   // its condition is known to hold
	folded        bool   // decided beforehand
	ordered       bool   // a later link depends on which value matched last
	digits        uint16 // captures that its condition looks at
	msgUnmodelled bool   // its message looks at what is not modelled
}

// target is one variable that a rule looks at.
type target struct {
	v      variables.RuleVariable
	count  bool
	key    string
	fold   string // key in lower case
	keyRx  *regexp.Regexp
	except []exception
	single bool
	views  []view
}

// exception is a key that a target leaves out; with neither key nor rx it is
// every key.
type exception struct {
	key string
	rx  *regexp.Regexp
}

// step is one transformation.
type step struct {
	name string
	fn   plugintypes.Transformation
}

// operator is what a value is compared with.
type operator struct {
	name    string // without "!" and "@"
	arg     string
	negated bool
	macro   *macro // of arg, for operators that expand it
	run     plugintypes.Operator
	file    string // of the rule, where "…FromFile" looks first

	foreseen *foreseen
	// test, if set, says whether a value matches, without captures and much
	// faster than run.
	test func(value string) bool
	// captures are those that it makes when it matches, if they are the same
	// each time.
	captures uint16
}

type effectKind uint8

const (
	setVariable effectKind = iota
	removeVariable
	removeRules
	removeTargets
	forceBody
	setProcessor
	unmodelled
)

// effect is a non-disruptive action that changes the transaction.
type effect struct {
	kind  effectKind
	key   *macro
	value *macro
	text  string
	// match selects the rules that removeRules and removeTargets are about.
	match         func(*rule) bool
	rules         []int          // the same, once all rules are known: indices
	except        *removedTarget // of removeTargets
	touchesFolded bool
	target        struct {
		v variables.RuleVariable
		exception
	}
	why string
}

// flow is skip or skipAfter.
type flow struct {
	after string
	count int
}

// errForeign says that Coraza's compiled rules do not look as this package
// knows them.
var errForeign = errors.New("seclang: this version of Coraza keeps its rules in another way")

// load reads the rules out of w. Coraza exports neither its parser nor its
// compiled rules, so they are read through reflection: a second parser would
// have to agree with Coraza about every directive, quote and default, and a
// disagreement would be an attack let through. What is read is checked by
// name and type; anything unknown is an error, and the caller leaves every
// request to Coraza.
func load(w coraza.WAF) (cfg settings, rules []*rule, err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(runtime.Error); ok {
				err = fmt.Errorf("%w: %v", errForeign, r)
				return
			}
			err = fmt.Errorf("%w: %v", errForeign, r)
		}
	}()
	tx := w.NewTransaction()
	defer tx.Close()
	waf := reflect.ValueOf(tx).Elem().FieldByName("WAF").Elem()
	cfg = settings{
		engine:        waf.FieldByName("RuleEngine").Interface().(types.RuleEngineStatus),
		bodyAccess:    waf.FieldByName("RequestBodyAccess").Bool(),
		bodyLimit:     waf.FieldByName("RequestBodyLimit").Int(),
		bodyReject:    waf.FieldByName("RequestBodyLimitAction").Interface().(types.BodyLimitAction) == types.BodyLimitActionReject,
		jsonDepth:     int(waf.FieldByName("RequestBodyJsonDepthLimit").Int()),
		arguments:     int(waf.FieldByName("ArgumentLimit").Int()),
		responses:     waf.FieldByName("ResponseBodyAccess").Bool(),
		responseLimit: waf.FieldByName("ResponseBodyLimit").Int(),
		responseCut:   waf.FieldByName("ResponseBodyLimitAction").Interface().(types.BodyLimitAction) == types.BodyLimitActionProcessPartial,
		responseTypes: waf.FieldByName("ResponseBodyMimeTypes").Interface().([]string),
		prefilter:     waf.FieldByName("RxPreFilterEnabled").Bool(),
	}
	list := waf.FieldByName("Rules").Addr().MethodByName("GetRules").Call(nil)[0]
	for i := range list.Len() {
		head, err := readRule(list.Index(i))
		if err != nil {
			return cfg, nil, err
		}
		for r := head; r != nil; r = r.chain {
			r.head = head
		}
		rules = append(rules, head)
	}
	if len(rules) == 0 {
		return cfg, nil, fmt.Errorf("%w: there are no rules", errForeign)
	}
	return cfg, rules, nil
}

// field returns a field of a struct, an unexported one too.
func field(v reflect.Value, name string) reflect.Value {
	f := v.FieldByName(name)
	if !f.IsValid() {
		panic("no field " + name + " in " + v.Type().String())
	}
	if !f.CanInterface() {
		f = reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem()
	}
	return f
}

// readRule reads one rule with the links of its chain.
func readRule(v reflect.Value) (*rule, error) {
	r := &rule{
		id:       int(field(v, "ID_").Int()),
		line:     int(field(v, "Line_").Int()),
		file:     field(v, "File_").String(),
		phase:    field(v, "Phase_").Interface().(types.RulePhase),
		mark:     field(v, "SecMark_").String(),
		tags:     field(v, "Tags_").Interface().([]string),
		severity: field(v, "Severity_").Interface().(types.RuleSeverity),
		capture:  field(v, "Capture").Bool(),
		multi:    field(v, "MultiMatch").Bool(),
		chained:  field(v, "HasChain").Bool(),
		status:   int(field(v, "DisruptiveStatus").Int()),
		leaf:     -1,
	}
	var err error
	if r.msg, err = readMacro(field(v, "Msg")); err != nil {
		return nil, err
	}
	if r.logdata, err = readMacro(field(v, "LogData")); err != nil {
		return nil, err
	}
	vars := field(v, "variables")
	for i := range vars.Len() {
		t := vars.Index(i)
		out := target{
			v:     field(t, "Variable").Interface().(variables.RuleVariable),
			count: field(t, "Count").Bool(),
			key:   field(t, "KeyStr").String(),
			keyRx: field(t, "KeyRx").Interface().(*regexp.Regexp),
		}
		out.fold = strings.ToLower(out.key)
		out.single, out.views = singles[out.v], views[out.v]
		ex := field(t, "Exceptions")
		for j := range ex.Len() {
			out.except = append(out.except, exception{
				key: strings.ToLower(field(ex.Index(j), "KeyStr").String()),
				rx:  field(ex.Index(j), "KeyRx").Interface().(*regexp.Regexp),
			})
		}
		r.targets = append(r.targets, out)
	}
	if op := field(v, "operator"); !op.IsNil() {
		op = op.Elem()
		r.op = &operator{
			arg:     field(op, "Data").String(),
			negated: field(op, "Negation").Bool(),
			run:     field(op, "Operator").Interface().(plugintypes.Operator),
			name:    strings.TrimPrefix(strings.TrimPrefix(field(op, "Function").String(), "!"), "@"),
			file:    r.file,
		}
		if strings.HasPrefix(field(op, "Function").String(), "!") != r.op.negated {
			return nil, errForeign
		}
	}
	trans := field(v, "transformations")
	for i := range trans.Len() {
		fn := field(trans.Index(i), "Function").Interface().(plugintypes.Transformation)
		name := runtime.FuncForPC(reflect.ValueOf(fn).Pointer()).Name()
		r.steps = append(r.steps, step{name: name[strings.LastIndexByte(name, '.')+1:], fn: fn})
	}
	acts := field(v, "actions")
	for i := range acts.Len() {
		name := field(acts.Index(i), "Name").String()
		fn := field(acts.Index(i), "Function").Interface().(plugintypes.Action)
		if err := r.readAction(name, fn); err != nil {
			return nil, err
		}
	}
	if next := field(v, "Chain"); !next.IsNil() {
		if r.chain, err = readRule(next.Elem()); err != nil {
			return nil, err
		}
		if int(field(next.Elem(), "ParentID_").Int()) == 0 {
			return nil, fmt.Errorf("%w: a link of a chain without a parent", errForeign)
		}
	}
	return r, nil
}

// readMacro reads an interface that holds a macro of Coraza's, or nil.
func readMacro(v reflect.Value) (*macro, error) {
	if v.IsNil() {
		return nil, nil
	}
	return parseMacro(v.Interface().(interface{ String() string }).String())
}

// setvarFault is a rule on which Coraza fails with a panic for each request
// that matches: setvar:!tx.name, or setvar:tx.name alone.
const setvarFault = "setvar without a value, on which Coraza fails when the rule matches (write setvar:'!tx.name=0')"

// inert are the actions that change nothing but logs and metadata. Coraza
// reads them when it compiles a rule, or does not support them.
var inert = map[string]bool{
	"log": true, "nolog": true, "auditlog": true, "noauditlog": true, "logdata": true, "capture": true, "multimatch": true,
	"t": true, "chain": true, "status": true, "expirevar": true, "initcol": true, "exec": true, "pass": true,
	"block": true, // without a SecDefaultAction for its phase; Coraza has replaced it otherwise

	"id": true, "phase": true, "msg": true, "severity": true, "tag": true, "rev": true, "ver": true, "maturity": true, "accuracy": true,
}

// readAction adds an action that does something to r.
func (r *rule) readAction(name string, fn plugintypes.Action) error {
	v := reflect.ValueOf(fn).Elem()
	switch {
	case name == "setvar":
		if field(v, "collection").Interface().(variables.RuleVariable) != variables.TX {
			return fmt.Errorf("%w: setvar of something else than TX", errForeign)
		}
		key, err := readMacro(field(v, "key"))
		if err != nil {
			return err
		}
		value, err := readMacro(field(v, "value"))
		if err != nil {
			return err
		}
		e := effect{kind: setVariable, key: key, value: value}
		switch {
		case value == nil:
			// Coraza expands the value of a setvar without one, too, and fails.
			e = effect{kind: unmodelled, why: setvarFault}
		case field(v, "isRemove").Bool():
			e.kind = removeVariable
		}
		r.effects = append(r.effects, e)
	case name == "ctl":
		r.effects = append(r.effects, readControl(v))
	case name == "setenv":
		r.effects = append(r.effects, effect{kind: unmodelled, why: "setenv"})
	case name == "skipafter":
		r.flow = append(r.flow, flow{after: field(v, "data").String()})
	case name == "skip":
		r.flow = append(r.flow, flow{count: int(field(v, "data").Int())})
	case name == "deny" || name == "drop":
		r.verdict = name
	case name == "redirect":
		r.verdict, r.data = name, field(v, "target").String()
	case name == "allow":
		r.verdict = name
		r.allow = reflectInt(field(v, "allow"))
	case inert[name]:
	case name == "":
		// A rule without default actions keeps an empty disruptive action.
		return fmt.Errorf("%w: an action without a name", errForeign)
	default:
		r.effects = append(r.effects, effect{kind: unmodelled, why: "action " + name})
	}
	return nil
}

func reflectInt(v reflect.Value) int64 {
	if v.CanInt() {
		return v.Int()
	}
	return int64(v.Uint())
}

// controls are the names of Coraza's ctl actions by their number. load checks
// nothing here: TestControls runs each through Coraza.
var controls = []string{
	"", "ruleRemoveTargetById", "ruleRemoveTargetByTag", "ruleRemoveTargetByMsg", "auditEngine", "auditLogParts",
	"forceRequestBodyVariable", "requestBodyAccess", "requestBodyLimit", "ruleEngine", "ruleRemoveById", "ruleRemoveByMsg",
	"ruleRemoveByTag", "hashEngine", "hashEnforcement", "requestBodyProcessor", "forceResponseBodyVariable",
	"responseBodyProcessor", "responseBodyAccess", "responseBodyLimit", "debugLogLevel",
}

func readControl(v reflect.Value) effect {
	n := int(field(v, "action").Int())
	e := effect{kind: unmodelled, text: field(v, "value").String()}
	if n <= 0 || n >= len(controls) {
		e.why = "an unknown ctl"
		return e
	}
	name := controls[n]
	e.why = "ctl:" + name
	value := e.text
	switch {
	case name == "auditEngine" || name == "auditLogParts" || name == "debugLogLevel" || strings.HasPrefix(name, "hash"):
		return effect{kind: removeRules} // of none: logs only
	case name == "forceRequestBodyVariable":
		switch strings.ToLower(value) {
		case "on", "off":
			e.kind, e.text = forceBody, strings.ToLower(value)
		default:
			return effect{kind: removeRules}
		}
	case name == "requestBodyProcessor":
		e.kind, e.text = setProcessor, strings.ToUpper(value)
	case strings.HasPrefix(name, "ruleRemove"):
		e.kind = removeRules
		if strings.HasPrefix(name, "ruleRemoveTarget") {
			e.kind = removeTargets
			e.target.v = field(v, "collection").Interface().(variables.RuleVariable)
			e.target.key = field(v, "colKey").String()
			e.target.rx = field(v, "colKeyRx").Interface().(*regexp.Regexp)
		}
		switch {
		case strings.HasSuffix(name, "Tag"):
			e.match = func(r *rule) bool {
				for _, t := range r.tags {
					if t == value {
						return true
					}
				}
				return false
			}
		case strings.HasSuffix(name, "Msg"):
			e.match = func(r *rule) bool { return r.msg != nil && r.msg.text == value }
		default:
			from, to, ok := idRange(value)
			e.match = func(r *rule) bool { return ok && r.id >= from && r.id <= to }
		}
	}
	return e
}

// idRange reads "941100" or "941000-941999".
func idRange(s string) (from, to int, ok bool) {
	a, b, ranged := strings.Cut(s, "-")
	from, err := strconv.Atoi(a)
	if err != nil {
		return 0, 0, false
	}
	if !ranged {
		return from, from, true
	}
	if to, err = strconv.Atoi(b); err != nil || from > to {
		return 0, 0, false
	}
	return from, to, true
}
