package flask

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// ValueKind says what a [Value] is.
type ValueKind string

// The kinds of values.
const (
	Unresolved ValueKind = ""         // not a constant
	String     ValueKind = "string"   // Text
	Bytes      ValueKind = "bytes"    // Text, as written without the quotes
	Bool       ValueKind = "bool"     // Bool
	Number     ValueKind = "number"   // Num
	Duration   ValueKind = "duration" // Num, in seconds: a timedelta
	None       ValueKind = "none"
	List       ValueKind = "list" // Items: a list, tuple or set
	Dict       ValueKind = "dict" // Keys and Items
	// Reference is a name that stands for something that is no constant: Text
	// is its qualified name, such as "flask_limiter.util.get_remote_address".
	Reference ValueKind = "reference"
	// Random is drawn anew in each process: secrets.token_hex, os.urandom.
	Random ValueKind = "random"
	// Read comes out of a file or a secret store while the app starts.
	Read ValueKind = "read"
)

// Value is what an expression comes to, as far as its text tells.
type Value struct {
	// Known is set when the value is a constant: everything the kind needs is
	// filled in.
	Known bool
	Kind  ValueKind
	Text  string
	Bool  bool
	Num   float64
	Keys  []Value
	Items []Value
	// FromEnv names the environment variable the value depends on. Default is
	// then what it comes to when the variable is not set; nil means that the
	// app does not start without it. Known is false.
	FromEnv string
	Default *Value
	// Choices are the possible values where several were found, such as the
	// arms of a conditional.
	Choices []Value
}

// Truth reports how Python would take the value in a condition.
func (v Value) Truth() (truth, known bool) {
	if !v.Known {
		return v.Kind == Random, v.Kind == Random
	}
	switch v.Kind {
	case String, Bytes:
		return v.Text != "", true
	case Bool:
		return v.Bool, true
	case Number, Duration:
		return v.Num != 0, true
	case None:
		return false, true
	case List, Dict:
		return len(v.Items) > 0, true
	}
	return true, true
}

// IsTrue reports that the value is known and true in a condition, or is that
// unless an environment variable says otherwise.
func (v Value) IsTrue() bool {
	if v.Default != nil {
		return v.Default.IsTrue()
	}
	t, ok := v.Truth()
	return ok && t
}

// IsFalse is the opposite question: see [Value.IsTrue].
func (v Value) IsFalse() bool {
	if v.Default != nil {
		return v.Default.IsFalse()
	}
	t, ok := v.Truth()
	return ok && !t
}

// Strings returns the known strings in the value: itself, or the elements of
// a list.
func (v Value) Strings() []string {
	if v.Known && v.Kind == String {
		return []string{v.Text}
	}
	var out []string
	for _, i := range v.Items {
		if i.Known && i.Kind == String {
			out = append(out, i.Text)
		}
	}
	return out
}

// Get returns the item of a dict under a string key.
func (v Value) Get(key string) (Value, bool) {
	for i, k := range v.Keys {
		if k.Kind == String && k.Text == key {
			return v.Items[i], true
		}
	}
	return Value{}, false
}

// String returns the value about as Python would write it. It shows secrets:
// a report must not print it unseen.
func (v Value) String() string {
	switch {
	case v.FromEnv != "" && v.Default != nil:
		return fmt.Sprintf("environ.get(%q, %s)", v.FromEnv, v.Default)
	case v.FromEnv != "":
		return fmt.Sprintf("environ[%q]", v.FromEnv)
	case v.Kind == String:
		return strconv.Quote(v.Text)
	case v.Kind == Bytes:
		return "b" + strconv.Quote(v.Text)
	case v.Kind == Bool && v.Bool:
		return "True"
	case v.Kind == Bool:
		return "False"
	case v.Kind == Number:
		return strconv.FormatFloat(v.Num, 'g', -1, 64)
	case v.Kind == Duration:
		return fmt.Sprintf("timedelta(seconds=%s)", strconv.FormatFloat(v.Num, 'g', -1, 64))
	case v.Kind == None:
		return "None"
	case v.Kind == Reference:
		return v.Text
	case v.Kind == List || v.Kind == Dict:
		parts := make([]string, len(v.Items))
		for i, x := range v.Items {
			parts[i] = x.String()
			if v.Kind == Dict {
				parts[i] = v.Keys[i].String() + ": " + parts[i]
			}
		}
		if v.Kind == Dict {
			return "{" + strings.Join(parts, ", ") + "}"
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case v.Kind == Random:
		return "<random>"
	case v.Kind == Read:
		return "<read from a file>"
	}
	return "<unknown>"
}

// MarshalJSON writes the value without text that may be a secret: strings
// stand as their length.
func (v Value) MarshalJSON() ([]byte, error) {
	out := map[string]any{"known": v.Known}
	if v.Kind != Unresolved {
		out["kind"] = v.Kind
	}
	switch v.Kind {
	case String, Bytes:
		out["length"] = len(v.Text)
	case Bool:
		out["bool"] = v.Bool
	case Number, Duration:
		if !math.IsInf(v.Num, 0) && !math.IsNaN(v.Num) {
			out["number"] = v.Num
		}
	case Reference:
		out["name"] = v.Text
	case List:
		out["items"] = v.Items
	case Dict:
		out["length"] = len(v.Items)
	}
	if v.FromEnv != "" {
		out["from_env"] = v.FromEnv
		if v.Default != nil {
			out["default"] = v.Default
		}
	}
	return json.Marshal(out)
}

// StringValue, BoolValue, NumberValue and NoneValue are known values, for
// tables and tests.
func StringValue(s string) Value    { return Value{Known: true, Kind: String, Text: s} }
func BoolValue(b bool) Value        { return Value{Known: true, Kind: Bool, Bool: b} }
func NumberValue(n float64) Value   { return Value{Known: true, Kind: Number, Num: n} }
func DurationValue(s float64) Value { return Value{Known: true, Kind: Duration, Num: s} }
func NoneValue() Value              { return Value{Known: true, Kind: None} }

// then applies f to the value, or to what it is while the environment is
// silent.
func (v Value) then(f func(Value) Value) Value {
	if v.FromEnv != "" {
		if v.Default != nil {
			d := f(*v.Default)
			v.Default = &d
		}
		v.Kind, v.Known = Unresolved, false
		return v
	}
	if !v.Known {
		if v.Kind == Random || v.Kind == Read {
			return v
		}
		return Value{}
	}
	return f(v)
}

// Bounds on folding: a constant expression must not cost more to fold than
// its text is long.
const (
	maxFoldText  = 64 << 10
	maxFoldItems = 4096
	maxFoldDepth = 64
)

// fold returns what the expression comes to in a scope.
func (a *analyzer) fold(s *scope, id node) Value {
	if id == 0 {
		return Value{}
	}
	u := s.unit
	if v, ok := u.folded[id]; ok {
		return v
	}
	if a.foldDepth >= maxFoldDepth {
		return Value{}
	}
	a.foldDepth++
	u.folded[id] = Value{} // a name defined by itself is not known
	v := a.foldNew(s, id)
	a.foldDepth--
	u.folded[id] = v
	return v
}

func (a *analyzer) foldNew(s *scope, id node) Value {
	t := s.unit.tree
	n := t.at(id)
	switch n.Kind {
	case pysyntax.Str:
		if v, ok := t.str(id); ok {
			return StringValue(v)
		}
	case pysyntax.Bytes:
		if v, ok := t.str(id); ok {
			return Value{Known: true, Kind: Bytes, Text: v}
		}
	case pysyntax.Num:
		return parseNumber(t.text(id))
	case pysyntax.True:
		return BoolValue(true)
	case pysyntax.False:
		return BoolValue(false)
	case pysyntax.None:
		return NoneValue()
	case pysyntax.JoinedStr:
		return a.foldJoined(s, t.list(n.A))
	case pysyntax.List, pysyntax.Tuple, pysyntax.Set:
		return a.foldItems(s, t.list(n.A))
	case pysyntax.Dict:
		return a.foldDict(s, t.list(n.A))
	case pysyntax.Name, pysyntax.Attribute:
		return a.foldName(s, id)
	case pysyntax.NamedExpr:
		return a.fold(s, n.B)
	case pysyntax.Await:
		return a.fold(s, n.A)
	case pysyntax.UnaryOp:
		switch op := t.unary(id); op {
		case "not":
			return a.fold(s, n.A).then(func(v Value) Value {
				if b, ok := v.Truth(); ok {
					return BoolValue(!b)
				}
				return Value{}
			})
		case "-", "+":
			return a.fold(s, n.A).then(func(v Value) Value {
				if v.Kind == Number && op == "-" {
					v.Num = -v.Num
				}
				return v
			})
		}
	case pysyntax.BinOp:
		l, r := a.fold(s, n.A), a.fold(s, n.B)
		return l.then(func(l Value) Value { return r.then(func(r Value) Value { return binary(n.Op, l, r) }) })
	case pysyntax.BoolOp:
		return a.foldBool(s, t.list(n.A), t.isOr(id))
	case pysyntax.IfExp:
		test := a.fold(s, n.A)
		body, other := a.fold(s, n.B), a.fold(s, n.C)
		if test.FromEnv != "" && test.Default != nil {
			if b, ok := test.Default.Truth(); ok {
				v := other
				if b {
					v = body
				}
				return Value{FromEnv: test.FromEnv, Default: &v, Choices: []Value{body, other}}
			}
		}
		if b, ok := test.Truth(); ok {
			if b {
				return body
			}
			return other
		}
		if body.Known && other.Known && body.String() == other.String() {
			return body
		}
		return Value{Choices: []Value{body, other}}
	case pysyntax.Compare:
		return a.foldCompare(s, n.A, t.compare(id))
	case pysyntax.Subscript:
		return a.foldSubscript(s, n.A, n.B)
	case pysyntax.Call:
		return a.foldCall(s, id)
	}
	return Value{}
}

func (a *analyzer) foldJoined(s *scope, parts []node) Value {
	v := StringValue("")
	for _, p := range parts {
		var x Value
		t := s.unit.tree
		if t.kind(p) == pysyntax.FormattedValue {
			if t.at(p).B != 0 {
				return Value{} // a format
			}
			x = a.fold(s, t.at(p).A).then(asString)
		} else {
			piece, ok := t.piece(p)
			if !ok {
				return Value{}
			}
			x = StringValue(piece)
		}
		l := v
		v = l.then(func(l Value) Value { return x.then(func(r Value) Value { return binary(pysyntax.OpAdd, l, r) }) })
	}
	return v
}

func (a *analyzer) foldItems(s *scope, ids []node) Value {
	if len(ids) > maxFoldItems {
		return Value{Kind: List}
	}
	v := Value{Known: true, Kind: List}
	for _, i := range ids {
		if s.unit.tree.kind(i) == pysyntax.Starred {
			inner := a.fold(s, s.unit.tree.at(i).A)
			v.Known = v.Known && inner.Known && inner.Kind == List
			v.Items = append(v.Items, inner.Items...)
			continue
		}
		x := a.fold(s, i)
		v.Known = v.Known && (x.Known || x.Kind == Reference)
		v.Items = append(v.Items, x)
	}
	return v
}

func (a *analyzer) foldDict(s *scope, ids []node) Value {
	if len(ids) > maxFoldItems {
		return Value{Kind: Dict}
	}
	v := Value{Known: true, Kind: Dict}
	for i := 0; i+1 < len(ids); i += 2 {
		if ids[i] == 0 { // **other
			inner := a.fold(s, ids[i+1])
			v.Known = v.Known && inner.Known
			v.Keys = append(v.Keys, inner.Keys...)
			v.Items = append(v.Items, inner.Items...)
			if len(v.Keys) != len(v.Items) {
				return Value{Kind: Dict}
			}
			continue
		}
		k, x := a.fold(s, ids[i]), a.fold(s, ids[i+1])
		v.Known = v.Known && k.Known && (x.Known || x.Kind == Reference)
		v.Keys = append(v.Keys, k)
		v.Items = append(v.Items, x)
	}
	return v
}

// foldName follows a name to its only assignment.
func (a *analyzer) foldName(s *scope, id node) Value {
	var found []Value
	if base, _ := s.unit.tree.attr(id); base != 0 && s.unit.tree.kind(base) == pysyntax.Call {
		if v := a.fold(s, base); v.Kind == Random || v.Kind == Read {
			return v // uuid.uuid4().hex
		}
	}
	for _, b := range a.bindings(s, id) {
		if b.kind == bindParam && a.given[b.scope] != nil {
			found = append(found, a.given[b.scope][b.index])
			continue
		}
		if b.kind != bindExpr || b.node == 0 {
			found = append(found, Value{})
			continue
		}
		v := a.fold(b.scope, b.node)
		if b.augmented {
			v = Value{}
		}
		found = append(found, v)
	}
	if len(found) == 0 {
		if q := a.qname(s, id); q != "" {
			return Value{Kind: Reference, Text: q}
		}
		return Value{}
	}
	if len(found) == 1 {
		if v := found[0]; v.Known || v.Kind != Unresolved || v.FromEnv != "" || v.Choices != nil {
			return v
		}
		if q := a.qname(s, id); q != "" {
			return Value{Kind: Reference, Text: q}
		}
		return found[0]
	}
	for _, v := range found[1:] {
		if !v.Known || !found[0].Known || v.String() != found[0].String() {
			return Value{Choices: found}
		}
	}
	return found[0]
}

func (a *analyzer) foldBool(s *scope, ids []node, or bool) Value {
	var v Value
	for i, id := range ids {
		x := a.fold(s, id)
		if i == 0 {
			v = x
			continue
		}
		switch {
		case v.FromEnv != "":
			// environ.get("X") or "x": while the variable is not set, the
			// second decides.
			if v.Default == nil {
				return v
			}
			d := *v.Default
			if b, ok := d.Truth(); ok && b != or {
				if x.FromEnv != "" { // environ.get("A") or environ.get("B")
					v = Value{FromEnv: v.FromEnv, Default: x.Default}
					if x.Default == nil {
						return x
					}
					continue
				}
				v = Value{FromEnv: v.FromEnv, Default: &x}
			}
		default:
			b, ok := v.Truth()
			if !ok {
				return Value{Choices: []Value{v, x}}
			}
			if b != or {
				v = x
			}
		}
	}
	return v
}

func (a *analyzer) foldCompare(s *scope, left node, rest []comparison) Value {
	if len(rest) != 1 {
		return Value{}
	}
	l, r := a.fold(s, left), a.fold(s, rest[0].right)
	return l.then(func(l Value) Value {
		return r.then(func(r Value) Value {
			switch rest[0].op {
			case "==":
				return BoolValue(l.String() == r.String())
			case "!=":
				return BoolValue(l.String() != r.String())
			case "is", "is not":
				if l.Kind == None || r.Kind == None || l.Kind == Bool {
					return BoolValue((l.String() == r.String()) == (rest[0].op == "is"))
				}
			case "in", "not in":
				in := false
				switch {
				case r.Kind == String && l.Kind == String:
					in = strings.Contains(r.Text, l.Text)
				case r.Kind == List:
					in = slices.ContainsFunc(r.Items, func(x Value) bool { return x.String() == l.String() })
				case r.Kind == Dict:
					in = slices.ContainsFunc(r.Keys, func(x Value) bool { return x.String() == l.String() })
				default:
					return Value{}
				}
				return BoolValue(in == (rest[0].op == "in"))
			case "<", "<=", ">", ">=":
				if l.Kind != Number || r.Kind != Number {
					return Value{}
				}
				switch rest[0].op {
				case "<":
					return BoolValue(l.Num < r.Num)
				case "<=":
					return BoolValue(l.Num <= r.Num)
				case ">":
					return BoolValue(l.Num > r.Num)
				}
				return BoolValue(l.Num >= r.Num)
			}
			return Value{}
		})
	})
}

func (a *analyzer) foldSubscript(s *scope, base, index node) Value {
	if q := a.qname(s, base); q == "os.environ" {
		if k := a.fold(s, index); k.Known && k.Kind == String {
			return Value{FromEnv: k.Text}
		}
		return Value{}
	}
	b, k := a.fold(s, base), a.fold(s, index)
	return k.then(func(k Value) Value {
		switch {
		case b.Kind == Dict:
			for i := range b.Keys {
				if b.Keys[i].String() == k.String() {
					return b.Items[i]
				}
			}
			return Value{}
		case b.Kind == List && b.Known && k.Kind == Number:
			i := int(k.Num)
			if i < 0 {
				i += len(b.Items)
			}
			if i >= 0 && i < len(b.Items) {
				return b.Items[i]
			}
		}
		return Value{}
	})
}

func asString(v Value) Value {
	switch v.Kind {
	case String:
		return v
	case Number, Bool, None:
		return StringValue(v.String())
	}
	return Value{}
}

func binary(op uint8, l, r Value) Value {
	switch {
	case (l.Kind == String && r.Kind == String || l.Kind == Bytes && r.Kind == Bytes) && op == pysyntax.OpAdd:
		if len(l.Text)+len(r.Text) <= maxFoldText {
			l.Text += r.Text
			return l
		}
	case l.Kind == String && r.Kind == Number && op == pysyntax.OpMul && r.Num >= 0 && r.Num*float64(len(l.Text)) <= maxFoldText && r.Num <= maxFoldText:
		l.Text = strings.Repeat(l.Text, int(r.Num))
		return l
	case l.Kind == List && r.Kind == List && op == pysyntax.OpAdd && len(l.Items)+len(r.Items) <= maxFoldItems:
		return Value{Known: l.Known && r.Known, Kind: List, Items: append(slices.Clone(l.Items), r.Items...)}
	case l.Kind == Dict && r.Kind == Dict && op == pysyntax.OpOr && len(l.Items)+len(r.Items) <= maxFoldItems:
		return Value{Known: l.Known && r.Known, Kind: Dict, Keys: append(slices.Clone(r.Keys), l.Keys...), Items: append(slices.Clone(r.Items), l.Items...)}
	case l.Kind == String && op == pysyntax.OpMod:
		items := []Value{r}
		if r.Kind == List {
			items = r.Items
		}
		out := l.Text
		for _, i := range items {
			x := asString(i)
			if !i.Known || !x.Known || strings.Count(out, "%s") == 0 || len(out)+len(x.Text) > maxFoldText {
				return Value{}
			}
			out = strings.Replace(out, "%s", x.Text, 1)
		}
		if strings.Contains(out, "%") {
			return Value{}
		}
		return StringValue(out)
	}
	num := func(k ValueKind, n float64) Value {
		if math.IsNaN(n) || math.IsInf(n, 0) {
			return Value{}
		}
		return Value{Known: true, Kind: k, Num: n}
	}
	isNum := func(v Value) bool { return v.Kind == Number || v.Kind == Duration }
	if !isNum(l) || !isNum(r) {
		return Value{}
	}
	k := Number
	if l.Kind == Duration || r.Kind == Duration {
		k = Duration
	}
	switch op {
	case pysyntax.OpAdd:
		return num(k, l.Num+r.Num)
	case pysyntax.OpSub:
		return num(k, l.Num-r.Num)
	case pysyntax.OpMul:
		return num(k, l.Num*r.Num)
	case pysyntax.OpDiv:
		return num(k, l.Num/r.Num)
	case pysyntax.OpFloorDiv:
		return num(k, math.Floor(l.Num/r.Num))
	case pysyntax.OpMod:
		if r.Num > 0 {
			return num(k, math.Mod(math.Mod(l.Num, r.Num)+r.Num, r.Num))
		}
	case pysyntax.OpPow:
		return num(k, math.Pow(l.Num, r.Num))
	case pysyntax.OpLShift:
		if r.Num >= 0 && r.Num < 63 {
			return num(k, l.Num*math.Pow(2, r.Num))
		}
	}
	return Value{}
}

func parseNumber(s string) Value {
	s = strings.ReplaceAll(s, "_", "")
	if n, err := strconv.ParseInt(s, 0, 64); err == nil {
		return NumberValue(float64(n))
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && !math.IsInf(f, 0) {
		return NumberValue(f)
	}
	return Value{}
}

// timedelta's positional parameters, in seconds each.
var deltaUnits = []struct {
	name    string
	seconds float64
}{{"days", 86400}, {"seconds", 1}, {"microseconds", 1e-6}, {"milliseconds", 1e-3}, {"minutes", 60}, {"hours", 3600}, {"weeks", 604800}}

func (a *analyzer) foldCall(s *scope, id node) Value {
	t := s.unit.tree
	fn, args := t.call(id)
	q := a.qname(s, fn)
	positional := func(i int) node {
		if i < len(args) && args[i].name == "" && args[i].star == 0 {
			return args[i].val
		}
		return 0
	}
	keyword := func(name string) node {
		for _, x := range args {
			if x.name == name {
				return x.val
			}
		}
		return 0
	}
	if how, ok := envReaders[q]; ok {
		return a.foldEnv(s, positional, keyword, how, "")
	}
	// environs: env = Env(); env.str("X", default=…), env.bool(…)
	if i := strings.LastIndex(q, "."); i > 0 && (q[:i] == "environs.Env()" || q[:i] == "environ.Env()" || q[:i] == "starlette.config.Config()") {
		return a.foldEnv(s, positional, keyword, envReader{}, q[i+1:])
	}
	if q == "environs.Env()" || q == "environ.Env()" {
		return a.foldEnv(s, positional, keyword, envReader{}, "")
	}
	switch {
	case randomCalls[q] || strings.HasPrefix(q, "uuid.uuid4()."):
		return Value{Kind: Random}
	case readCalls[q]:
		return Value{Kind: Read}
	case q == "datetime.timedelta":
		total := 0.0
		known := true
		var env Value
		add := func(x node, unit float64) {
			v := a.fold(s, x)
			if v.FromEnv != "" {
				env = v
				if v.Default != nil {
					v = *v.Default
				}
			}
			known = known && v.Known && v.Kind == Number
			total += v.Num * unit
		}
		for i, x := range args {
			switch {
			case x.star != 0 || x.name == "" && i >= len(deltaUnits):
				return Value{}
			case x.name == "":
				add(x.val, deltaUnits[i].seconds)
			default:
				j := slices.IndexFunc(deltaUnits, func(u struct {
					name    string
					seconds float64
				}) bool {
					return u.name == x.name
				})
				if j < 0 {
					return Value{}
				}
				add(x.val, deltaUnits[j].seconds)
			}
		}
		switch {
		case !known || math.IsInf(total, 0):
			return Value{FromEnv: env.FromEnv}
		case env.FromEnv != "":
			d := DurationValue(total)
			return Value{FromEnv: env.FromEnv, Default: &d}
		}
		return DurationValue(total)
	case len(args) >= 1 && args[0].star == 0 && args[0].name == "":
		if f, ok := castFuncs[q]; ok {
			return a.fold(s, args[0].val).then(f)
		}
	}
	if q == "dict" {
		v := Value{Known: true, Kind: Dict}
		for _, x := range args {
			if x.name == "" {
				inner := a.fold(s, x.val)
				if inner.Kind != Dict {
					return Value{Kind: Dict}
				}
				v.Keys, v.Items = append(v.Keys, inner.Keys...), append(v.Items, inner.Items...)
				continue
			}
			item := a.fold(s, x.val)
			v.Known = v.Known && (item.Known || item.Kind == Reference)
			v.Keys, v.Items = append(v.Keys, StringValue(x.name)), append(v.Items, item)
		}
		return v
	}
	// methods of strings and bytes
	if base, method := t.attr(fn); base != 0 {
		b := a.fold(s, base)
		if b.Kind == Random || b.Kind == Read {
			return b // secrets.token_bytes(16).hex(), open("key").read().strip()
		}
		if method == "get" && b.Kind == Dict && positional(0) != 0 {
			k := a.fold(s, positional(0))
			return k.then(func(k Value) Value {
				for i := range b.Keys {
					if b.Keys[i].String() == k.String() {
						return b.Items[i]
					}
				}
				if positional(1) != 0 {
					return a.fold(s, positional(1))
				}
				return NoneValue()
			})
		}
		var extra Value
		if positional(0) != 0 {
			extra = a.fold(s, positional(0))
		}
		return b.then(func(v Value) Value { return stringMethod(v, method, len(args), extra) })
	}
	return a.foldProjectCall(s, id)
}

func stringMethod(v Value, method string, nargs int, arg Value) Value {
	if v.Kind != String && v.Kind != Bytes {
		return Value{}
	}
	switch {
	case nargs == 0 && method == "lower" || nargs == 0 && method == "casefold":
		v.Text = strings.ToLower(v.Text)
	case nargs == 0 && method == "upper":
		v.Text = strings.ToUpper(v.Text)
	case nargs == 0 && method == "title" || nargs == 0 && method == "capitalize":
		if v.Text != "" {
			v.Text = strings.ToUpper(v.Text[:1]) + strings.ToLower(v.Text[1:])
		}
	case nargs == 0 && method == "strip":
		v.Text = strings.TrimSpace(v.Text)
	case method == "encode":
		v.Kind = Bytes
	case method == "decode":
		v.Kind = String
	case method == "startswith" && arg.Known && arg.Kind == v.Kind:
		return BoolValue(strings.HasPrefix(v.Text, arg.Text))
	case method == "endswith" && arg.Known && arg.Kind == v.Kind:
		return BoolValue(strings.HasSuffix(v.Text, arg.Text))
	case method == "split" && nargs <= 1:
		parts := strings.Fields(v.Text)
		if arg.Known && arg.Kind == String && arg.Text != "" {
			parts = strings.Split(v.Text, arg.Text)
		}
		out := Value{Known: true, Kind: List}
		for _, p := range parts[:min(len(parts), maxFoldItems)] {
			out.Items = append(out.Items, StringValue(p))
		}
		return out
	default:
		return Value{}
	}
	return v
}

type envReader struct {
	// nullDefault is set where a missing variable gives None; otherwise the
	// app does not start.
	nullDefault bool
}

// envReaders are the functions whose first argument names an environment
// variable and whose second, or "default", is what stands in for it.
var envReaders = map[string]envReader{
	"os.getenv": {true}, "os.environ.get": {true}, "os.environ.setdefault": {true}, "os.environ.pop": {true},
	"decouple.config": {}, "decouple.AutoConfig()": {}, "decouple.Config()": {}, "environs.env": {}, "os.environ.__getitem__": {},
}

// foldEnv reads a call of one of them. cast is the name of an environs
// method such as "bool".
func (a *analyzer) foldEnv(s *scope, positional func(int) node, keyword func(string) node, how envReader, cast string) Value {
	k := a.fold(s, positional(0))
	if keyword("key") != 0 {
		k = a.fold(s, keyword("key"))
	}
	if !k.Known || k.Kind != String {
		return Value{}
	}
	v := Value{FromEnv: k.Text}
	def := positional(1)
	if keyword("default") != 0 {
		def = keyword("default")
	}
	switch {
	case def != 0:
		d := a.fold(s, def)
		if d.FromEnv != "" { // a second variable stands in for the first
			v.Default = d.Default
		} else {
			v.Default = &d
		}
	case how.nullDefault:
		d := NoneValue()
		v.Default = &d
	}
	if c := keyword("cast"); c != 0 {
		cast = a.qname(s, c)
	}
	if f, ok := castFuncs[cast]; ok && v.Default != nil {
		if cast == "bool" { // these libraries parse the words, unlike bool()
			f = castFuncs["distutils.util.strtobool"]
		}
		if d := f(*v.Default); d.Known {
			v.Default = &d
		}
	}
	return v
}

// castFuncs are functions of one value that folding sees through.
var castFuncs = map[string]func(Value) Value{
	"bool": func(v Value) Value {
		if b, ok := v.Truth(); ok {
			return BoolValue(b)
		}
		return Value{}
	},
	"int": func(v Value) Value {
		switch v.Kind {
		case Number:
			return NumberValue(math.Trunc(v.Num))
		case Bool:
			if v.Bool {
				return NumberValue(1)
			}
			return NumberValue(0)
		case String:
			if n, err := strconv.ParseInt(strings.ReplaceAll(strings.TrimSpace(v.Text), "_", ""), 10, 64); err == nil {
				return NumberValue(float64(n))
			}
		}
		return Value{}
	},
	"float": func(v Value) Value {
		if v.Kind == String {
			return parseNumber(strings.TrimSpace(v.Text))
		}
		if v.Kind == Number {
			return v
		}
		return Value{}
	},
	"str": asString,
	"list": func(v Value) Value {
		if v.Kind == List {
			return v
		}
		return Value{}
	},
	"bytes": func(v Value) Value {
		if v.Kind == String {
			v.Kind = Bytes
		}
		return v
	},
	"json.loads":               parseJSON,
	"ast.literal_eval":         parseJSON,
	"distutils.util.strtobool": parseBool, "setuptools.distutils.util.strtobool": parseBool, "str2bool": parseBool,
	"werkzeug.utils.safe_str": asString,
	"hash":                    func(Value) Value { return Value{} },
	"datetime.timedelta":      func(Value) Value { return Value{} },
	"pathlib.Path":            asString, "os.fspath": asString, "os.path.abspath": asString, "os.path.normpath": asString,
	"markupsafe.Markup": asString, "tuple": func(v Value) Value { return v }, "set": func(v Value) Value { return v },
	"frozenset": func(v Value) Value { return v }, "sorted": func(v Value) Value { return v },
}

func parseBool(v Value) Value {
	if v.Kind == Bool || v.Kind == Number {
		b, _ := v.Truth()
		return BoolValue(b)
	}
	switch strings.ToLower(strings.TrimSpace(v.Text)) {
	case "y", "yes", "t", "true", "on", "1":
		return BoolValue(v.Kind == String)
	case "n", "no", "f", "false", "off", "0", "":
		if v.Kind == String {
			return BoolValue(false)
		}
	}
	return Value{}
}

func parseJSON(v Value) Value {
	if v.Kind != String {
		return Value{}
	}
	switch v.Text {
	case "True":
		return BoolValue(true)
	case "False":
		return BoolValue(false)
	case "None":
		return NoneValue()
	}
	var x any
	if json.Unmarshal([]byte(v.Text), &x) != nil {
		return Value{}
	}
	return fromJSON(x, 0)
}

func fromJSON(x any, depth int) Value {
	if depth > maxFoldDepth {
		return Value{}
	}
	switch x := x.(type) {
	case nil:
		return NoneValue()
	case bool:
		return BoolValue(x)
	case float64:
		return NumberValue(x)
	case string:
		return StringValue(x)
	case []any:
		v := Value{Known: true, Kind: List}
		for _, i := range x {
			v.Items = append(v.Items, fromJSON(i, depth+1))
		}
		return v
	case map[string]any:
		v := Value{Known: true, Kind: Dict}
		keys := make([]string, 0, len(x))
		for k := range x {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			v.Keys = append(v.Keys, StringValue(k))
			v.Items = append(v.Items, fromJSON(x[k], depth+1))
		}
		return v
	}
	return Value{}
}

// foldProjectCall folds a call of a project function with a single return,
// such as env_bool("DEBUG", False), with the arguments put in.
func (a *analyzer) foldProjectCall(s *scope, id node) Value {
	fn, args := s.unit.tree.call(id)
	objs := a.eval(s, fn)
	if len(objs) != 1 || objs[0].kind != objFunc {
		return Value{}
	}
	f := objs[0].scope
	if len(a.given) == 0 {
		a.callFuel = 500
	}
	if a.callFuel--; len(f.returns) != 1 || f.isGen || a.given[f] != nil || len(a.given) >= 4 || a.callFuel < 0 {
		return Value{}
	}
	site := argSite{scope: s, args: args}
	if objs[0].bound {
		site.self = 1
	}
	given := make([]Value, len(f.def.params))
	for i, p := range f.def.params {
		if v, ok := site.arg(p, i); ok {
			given[i] = a.fold(s, v)
		} else if p.def != 0 {
			given[i] = a.fold(f.parent, p.def)
		}
	}
	// What is folded now holds for this call only.
	kept := f.unit.folded
	f.unit.folded = map[node]Value{}
	a.given[f] = given
	v := a.fold(f, f.returns[0])
	delete(a.given, f)
	f.unit.folded = kept
	return v
}
