package pyflow

// call is the arguments of one call.
type call struct {
	at   Span
	args []*value
	kw   []kwarg
	// rest joins what *args and **kwargs of unknown content may add; nil if
	// there is nothing.
	rest *value
	// spans are the places of args and then of kw; nil for calls that stand
	// nowhere in the source.
	spans []Span
	// on is the place of what a method is called on, if it is called so.
	on Span
	// deco is set on the call that makes a decorator: @app.route("/").
	deco bool
}

type kwarg struct {
	name string
	v    *value
}

// arg returns the argument at index i or of that name; nil when it is not
// given. When *args or **kwargs hide it, it is what they hold.
func (c *call) arg(i int, name string) *value {
	if i >= 0 && i < len(c.args) {
		return c.args[i]
	}
	if name != "" {
		if v := c.keyword(name); v != nil {
			return v
		}
	}
	return c.rest
}

func (c *call) keyword(name string) *value {
	for _, k := range c.kw {
		if k.name == name {
			return k.v
		}
	}
	return nil
}

// labels returns the labels of all arguments.
func (c *call) labels(it *interp, st *state) []label {
	var out []label
	for _, a := range c.args {
		out = addLabels(out, it.labelsOf(st, a))
	}
	for _, k := range c.kw {
		out = addLabels(out, it.labelsOf(st, k.v))
	}
	if c.rest != nil {
		out = addLabels(out, it.labelsOf(st, c.rest))
	}
	return out
}

// guesses returns the labels of the arguments for the result of a call of
// which nothing is known. Digits do no harm in most places, and whatever the
// call makes of them is not the attacker's choice.
func (c *call) guesses(it *interp, st *state) []label {
	before := it.guessing
	it.guessing = true
	out := guessed(c.labels(it, st), guess)
	it.guessing = before
	return out
}

// ofDigits returns the kinds of sinks for which a text of the characters is
// harmless wherever it stands: none unless there are digits only.
func (it *interp) ofDigits(chars Chars) tags {
	if chars.And(digits) != chars {
		return 0
	}
	t := it.tag("redirect") | it.tag("sql") | it.tag("html") | it.tag("template") | it.tag("response") | it.tag("log") | it.tag("header") | it.tag("cookie-value") | it.tag("email-header")
	if !chars.Has('.') {
		t |= it.pathTags()
	}
	return t
}

// native is a function of Python or of its library that is run in Go. self is
// the receiver of a method, nil otherwise. Neither self nor the arguments are
// refined any further, and each may be a union: [over] and [over2] take them
// apart. A nil result means that it does not know: what the facts say happens
// instead.
type native func(it *interp, st *state, self *value, c *call) *value

// natives are the functions by their dotted path, textMethods the methods of
// str and bytes by their name.
var (
	natives     = map[string]native{}
	textMethods = map[string]native{}
)

// test returns a truth value that is not known. What yes and no learn holds
// where a condition found it true or false. Either may be nil.
func test(yes, no func(it *interp, st *state)) *value {
	return &value{kind: vBoolean, sym: &sym{yes: yes, no: no}}
}
