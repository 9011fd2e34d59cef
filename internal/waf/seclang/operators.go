package seclang

import (
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3/collection"
	"github.com/corazawaf/coraza/v3/debuglog"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"
)

// comparisons are the operators whose argument is a macro. Coraza's own would
// expand it through a transaction of Coraza's.
var comparisons = map[string]func(value, arg string) bool{
	"eq":         func(v, a string) bool { return number(v) == number(a) },
	"ge":         func(v, a string) bool { return number(v) >= number(a) },
	"gt":         func(v, a string) bool { return number(v) > number(a) },
	"le":         func(v, a string) bool { return number(v) <= number(a) },
	"lt":         func(v, a string) bool { return number(v) < number(a) },
	"streq":      func(v, a string) bool { return v == a },
	"contains":   strings.Contains,
	"strmatch":   strings.Contains,
	"beginsWith": strings.HasPrefix,
	"endsWith":   strings.HasSuffix,
	"within":     func(v, a string) bool { return strings.Contains(a, v) },
}

// number is what Coraza's numeric operators make of text: 0 if it is none.
func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// pure are the operators of Coraza that look at nothing but the value and
// leave nothing behind but captures. Coraza's own code runs them.
var pure = map[string]bool{
	"rx": true, "pm": true, "pmf": true, "pmFromFile": true, "detectSQLi": true, "detectXSS": true,
	"ipMatch": true, "ipMatchF": true, "ipMatchFromFile": true,
	"validateByteRange": true, "validateUrlEncoding": true, "validateUtf8Encoding": true,
	"unconditionalMatch": true, "noMatch": true,
}

// matchesOperator runs r's operator on a transformed value.
func (x *Transaction) matchesOperator(op *operator, value string) bool {
	var got bool
	if op.test != nil && (!x.capture || op.captures != 0) {
		got = op.test(value)
		if got && x.capture {
			x.pending = append(x.pending, capture{op, value})
			x.written |= op.captures
		}
		return got != op.negated
	}
	if x.capture {
		x.captureNow() // what is due comes before what this one captures
	}
	if op.macro != nil {
		arg := op.arg
		if !op.macro.constant() {
			var ok bool
			x.tainted = false
			if arg, ok = x.expand(op.macro); !ok || x.tainted {
				x.punt("the argument of @" + op.name)
				return false
			}
		}
		got = comparisons[op.name](value, arg)
	} else {
		got = op.run.Evaluate(&x.capturer, value)
	}
	return got != op.negated
}

// capturer is what Coraza's operators see of a transaction: only that
// captures have a place to go.
type capturer struct {
	capture bool   // the rule captures
	written uint16 // captures that the current link made
	to      []variable
}

func (*capturer) ID() string                                              { return "" }
func (*capturer) Variables() plugintypes.TransactionVariables             { return nil }
func (*capturer) Collection(variables.RuleVariable) collection.Collection { return nil }
func (*capturer) Interrupt(*types.Interruption)                           {}
func (*capturer) DebugLogger() debuglog.Logger                            { return debuglog.Noop() }
func (*capturer) LastPhase() types.RulePhase                              { return types.PhaseUnknown }
func (c *capturer) Capturing() bool                                       { return c.capture }
func (c *capturer) CaptureField(i int, value string) {
	if c.capture && i <= 9 {
		c.to[i] = variable{key: digitNames[i], value: value, set: true}
		c.written |= 1 << i
	}
}

// digitNames are the names of the captures, which have the first slots of TX.
var digitNames = [...]string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}
