package pyflow

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// registration is a function that something outside of the project will
// call.
type registration struct {
	kind, path string
	at         Span
	args       []*value
	kw         []kwarg
	self       *value
	fn         *value
	orig       *function         // that was decorated, when fn is what a decorator made of it
	handed     map[string]string // kinds of parameters that do not come from the rule
}

// pick returns the arguments that a fact's ARG names.
func (it *interp) pick(spec string, recv *value, c *call) (vs []*value, at []Span) {
	add := func(v *value, i int) {
		if v == nil {
			return
		}
		vs = append(vs, v)
		if i >= 0 && i < len(c.spans) {
			at = append(at, c.spans[i])
		} else {
			at = append(at, c.at)
		}
	}
	switch spec {
	case "self":
		add(recv, -1)
		return vs, at
	case "**":
		add(c.rest, -1)
		return vs, at
	case "*":
		for i, a := range c.args {
			add(a, i)
		}
		for i, k := range c.kw {
			add(k.v, len(c.args)+i)
		}
		add(c.rest, -1)
		return vs, at
	}
	idx, name := -1, spec
	if n, rest, ok := strings.Cut(spec, "="); ok {
		if i, err := strconv.Atoi(n); err == nil {
			idx, name = i, rest
		}
	} else if i, err := strconv.Atoi(spec); err == nil {
		idx, name = i, ""
	}
	if idx >= 0 && idx < len(c.args) {
		add(c.args[idx], idx)
		return vs, at
	}
	if name != "" {
		for i, k := range c.kw {
			if k.name == name {
				add(k.v, len(c.args)+i)
				return vs, at
			}
		}
	}
	add(c.rest, -1)
	return vs, at
}

// maxFocus is how deep a labelled value may lie in what a sink is given, and
// how deep a rule sees: documents of a database are nested.
const maxFocus = 6

// applyHits records the hits that facts speak of.
func (it *interp) applyHits(st *state, path string, facts []Fact, recv *value, c *call) {
	for i := range facts {
		f := &facts[i]
		switch f.Verb {
		case "use":
			it.hit(st, f, path, recv, c, nil, nil)
		case "sink":
			if f.Args[1] == "result" {
				continue
			}
			var focus []*value
			var spans []Span
			labelled := false
			for _, a := range f.Args[1:] {
				vs, at := it.pick(a, recv, c)
				for k, v := range vs {
					v = it.refined(st, v)
					vs[k] = v
					labelled = labelled || len(it.deepLabels(st, v, maxFocus, nil)) > 0
				}
				focus, spans = append(focus, vs...), append(spans, at...)
			}
			it.reach(f.Args[0])
			if f.Args[0] == "sql" && len(focus) > 0 && c.on.File != "" {
				it.asks(st, c, focus[0])
			}
			if labelled {
				if f.Args[0] == "sql" {
					// The database's error says where the statement broke.
					for _, v := range focus {
						it.raised = addLabels(it.raised, it.labelsOf(st, v))
					}
				}
				it.hit(st, f, path, recv, c, focus, spans)
			}
		}
	}
}

// reach notes that the running entry point can come to a sink.
func (it *interp) reach(kind string) {
	if it.notes != nil {
		if it.notes.sinks == nil {
			it.notes.sinks, it.notes.fields = map[string]bool{}, map[Field]bool{}
		}
		it.notes.sinks[kind] = true
	}
}

// modelled reports whether v is told by a model, which is no place of the
// project.
func (it *interp) at(c *call) Span {
	if c.at.File != "" && !strings.HasPrefix(c.at.File, "<model>") {
		return c.at
	}
	for fr := it.fr; fr != nil; fr = fr.up {
		if fr.callAt.File != "" && !strings.HasPrefix(fr.callAt.File, "<model>") {
			return fr.callAt
		}
	}
	return c.at
}

// callLib calls a name of a library. recv is the receiver of a method, else
// nil.
func (it *interp) callLib(st *state, path string, recv *value, c *call) *value {
	if path == "__unknown__" {
		return opaque(c.labels(it, st))
	}
	given := path
	path = it.p.facts.canonical(path)
	if path != given {
		// app.response_class is the class that a model describes.
		if m := it.libNamed(st, path); m.kind == vClass || m.kind == vFunc {
			return it.call(st, m, c)
		}
	}
	if strings.HasSuffix(path, ".as_view") && recv != nil && recv.kind == vClass {
		return &value{kind: vTuple, str: "asview", elems: []*value{recv}}
	}
	if sp := specials[path]; sp != nil {
		if r := sp(it, st, recv, c); r != nil {
			return r
		}
	}
	if recv == nil && len(c.args) > 0 {
		if m := unboundMethod(path); m != "" {
			n := *c
			n.args = c.args[1:]
			if len(c.spans) > 0 {
				n.spans = c.spans[1:]
			}
			return it.call(st, &value{kind: vBound, recv: c.args[0], str: m}, &n)
		}
	}
	facts := it.p.facts.of(path)
	if recv != nil && len(facts) == 0 {
		if f := it.mapping(it.pathOf(st, recv)); f != nil {
			if r := it.mapCall(st, f, recv, path[strings.LastIndexByte(path, '.')+1:], c); r != nil {
				return r
			}
		}
		// A method of a class whose name alone says enough.
		name := path[strings.LastIndexByte(path, '.')+1:]
		if any := it.p.facts.any[name]; len(any) > 0 && natives[path] == nil && !it.described(path[:len(path)-len(name)-1]) {
			return it.callFacts(st, "*."+name, any, recv, c)
		}
	}
	return it.callFacts(st, path, facts, recv, c)
}

// unboundMethod returns which method str.upper and the like are, whose first
// argument is what they are called on; empty for anything else.
func unboundMethod(path string) string {
	rest, ok := strings.CutPrefix(path, "builtins.")
	if !ok {
		return ""
	}
	class, m, ok := strings.Cut(rest, ".")
	if !ok || m == "maketrans" || m == "fromhex" || m == "fromkeys" || m == "from_bytes" || m == "fromisoformat" || strings.HasPrefix(m, "__") {
		return ""
	}
	switch class {
	case "str", "bytes", "list", "dict", "set":
		return m
	}
	return ""
}

// described reports whether something is known about a class, so that what
// its methods are called means nothing more.
func (it *interp) described(path string) bool { return it.p.facts.byClass[path] }

// callFacts calls something of which facts are known.
func (it *interp) callFacts(st *state, path string, facts []Fact, recv *value, c *call) *value {
	if strings.HasPrefix(path, "*.") && !c.deco {
		// @x.get("/") registers, x.get("/") may be anything.
		facts = slices.DeleteFunc(slices.Clone(facts), func(f Fact) bool { return f.Verb == "entry" && len(f.Args) == 1 })
		if len(facts) == 0 && recv != nil && (path == "*.get" || path == "*.pop") {
			if r := it.lookUp(st, recv, c); r != nil {
				return r
			}
		}
	}
	it.applyHits(st, path, facts, recv, c)
	if len(facts) > 0 && it.decorating > 0 && !c.deco {
		for _, f := range facts {
			if f.Verb == "wraps" && len(c.args) > 0 {
				if r := c.args[0]; r.kind == vFunc || r.kind == vClass || r.kind == vBound || r.kind == vUnion {
					it.noteWrap(st, path, r)
					return r
				}
			}
		}
	}
	var r *value
	shaped := false
	for _, f := range facts {
		switch f.Verb {
		case "returns", "source", "clean", "number", "boolean", "passes", "entry", "template", "template-text", "checks", "never", "calls", "chars", "drops", "excludes", "wraps":
			shaped = true
		}
	}
	if !shaped {
		if n := natives[path]; n != nil {
			r = n(it, st, recv, c)
		}
	}
	if r == nil {
		r = it.result(st, path, facts, recv, c)
	}
	if st.dead {
		return unknown
	}
	r = it.fileFacts(st, facts, recv, c, r)
	for i := range facts {
		f := &facts[i]
		switch f.Verb {
		case "sink":
			if f.Args[1] == "result" && len(it.labelsOf(st, r)) > 0 {
				it.reach(f.Args[0])
				it.hit(st, f, path, recv, c, []*value{r}, []Span{c.at})
			}
		case "ensures":
			vs, _ := it.pick(f.Args[1], recv, c)
			for _, v := range vs {
				for _, s := range symsOf(v) {
					st.learnClean(s, it.kindTags(f.Args[0]), 0)
				}
			}
		}
	}
	return r
}

// answerOf is the class of what another server has answered. It is harmless
// for URLs where the application alone chose that server.
const answerOf = "_dewar.Answer"

// ownURL reports whether a call asks a server that nobody outside chooses.
func (it *interp) ownURL(st *state, facts []Fact, recv *value, c *call) bool {
	for _, f := range facts {
		if f.Verb != "sink" || f.Args[0] != "url" {
			continue
		}
		for _, a := range f.Args[1:] {
			vs, _ := it.pick(a, recv, c)
			for _, v := range vs {
				if len(it.labelsOf(st, v)) > 0 {
					return false
				}
			}
		}
		return true
	}
	return false
}

// fetched reports whether v is an answer of a server that the application
// chose, or such an answer in memory.
func (it *interp) fetched(st *state, v *value) bool {
	switch v.kind {
	case vUnion:
		for _, a := range v.elems {
			if !it.fetched(st, a) {
				return false
			}
		}
		return true
	case vInst:
		return v.str == answerOf && v.clean&it.tag("url") != 0
	case vObj:
		o := it.get(st, v.obj)
		if o == nil || o.cls == nil || !o.cls.modelled() || len(it.labelsOf(st, v)) > 0 {
			return false
		}
		for _, k := range o.keys {
			x, _ := bound(o.m[k])
			if x != nil && slices.ContainsFunc(x.alts(), func(a *value) bool { return a.kind == vInst && it.fetched(st, a) }) {
				return true
			}
		}
	}
	return false
}

func (it *interp) kindTags(kind string) tags {
	if kind == "*" {
		return allTags
	}
	return it.tag(kind)
}

// result is what a call gives by the facts.
func (it *interp) result(st *state, path string, facts []Fact, recv *value, c *call) *value {
	var labels []label
	passes, returns := false, ""
	wipe := false
	var clean, disarmed tags
	kind := ""
	chars, excludes, drops := AnyChars, []string(nil), ""
	markup, normal := false, false
	var sources []*value
	var tests []Fact
	for i := range facts {
		f := &facts[i]
		switch f.Verb {
		case "never":
			it.throw(st)
			return unknown
		case "source":
			sources = append(sources, it.sourceCall(st, path, *f, recv, c))
		case "returns":
			returns = f.Args[0]
		case "passes":
			passes = true
			for _, a := range f.Args {
				vs, _ := it.pick(a, recv, c)
				for _, v := range vs {
					labels = addLabels(labels, it.labelsOf(st, v))
				}
			}
		case "clean":
			if len(f.Args) == 0 {
				wipe = true
			}
			for _, k := range f.Args {
				clean |= it.kindTags(k)
			}
		case "disarms":
			for _, k := range f.Args {
				disarmed |= it.kindTags(k)
			}
		case "number", "boolean":
			kind = f.Verb
		case "chars":
			chars = chars.And(CharRange(f.Args[0]))
		case "drops":
			drops += f.Args[0]
		case "excludes":
			excludes = append(excludes, f.Args...)
		case "markup":
			markup = true
		case "normalizes":
			normal = true
		case "checks":
			tests = append(tests, *f)
		case "calls":
			vs, _ := it.pick(f.Args[0], recv, c)
			for _, fn := range vs {
				cc := &call{at: c.at}
				for _, a := range f.Args[1:] {
					xs, _ := it.pick(a, recv, c)
					for _, x := range xs {
						if f.Verb == "calls" && (x.kind == vTuple || x.kind == vObj) && (a == "args" || strings.HasSuffix(a, "=args")) {
							items, exact := it.iterate(st, x)
							if exact {
								cc.args = append(cc.args, items...)
							} else {
								cc.rest = joinAll(items)
							}
							continue
						}
						cc.args = append(cc.args, x)
					}
				}
				if fn.kind == vFunc || fn.kind == vBound || fn.kind == vUnion || fn.kind == vLib {
					s := st.fork()
					r := it.call(s, fn, cc)
					if !s.dead {
						it.merge(st, s)
						labels = addLabels(labels, it.labelsOf(st, r))
					}
				}
			}
		case "entry":
			return it.entryCall(st, path, f, recv, c)
		case "wraps":
			if len(c.args) > 0 && callable(c.args[0]) && !c.deco {
				return c.args[0]
			}
			return &value{kind: vLib, str: path}
		case "template":
			vs, _ := it.pick(f.Args[0], recv, c)
			if len(vs) > 0 {
				return it.render(st, vs[0], nil, c)
			}
		case "template-text":
			vs, _ := it.pick(f.Args[0], recv, c)
			if len(vs) > 0 {
				return it.render(st, nil, vs[0], c)
			}
		}
	}
	if len(sources) > 0 {
		r := joinAll(sources)
		switch kind {
		case "number":
			return numeric(it.labelsOf(st, r))
		case "boolean":
			return boolean
		}
		if returns != "" {
			return inst(returns, it.labelsOf(st, r))
		}
		return r
	}
	if len(tests) > 0 {
		rv, cc := recv, c
		return test(func(it *interp, st *state) {
			for _, f := range tests {
				vs, _ := it.pick(f.Args[1], rv, cc)
				for _, v := range vs {
					for _, s := range symsOf(v) {
						st.learnClean(s, it.kindTags(f.Args[0]), 0)
					}
				}
			}
		}, nil)
	}
	if wipe {
		labels = nil
	} else if !passes && returns == "" {
		labels = c.labels(it, st)
		if recv != nil {
			labels = addLabels(it.labelsOf(st, recv), labels)
		}
	}
	labels = cleaned(labels, disarmed)
	switch kind {
	case "number":
		return numeric(labels)
	case "boolean":
		return boolean
	}
	if returns != "" {
		switch returns {
		case "str":
			return run(chars, labels)
		}
		v := inst(returns, labels)
		v.clean |= clean
		if it.fr != nil && it.fr.asked[it.onText(c)] {
			v.clean |= it.tag("sql")
		}
		switch {
		case returns == answerOf && recv != nil:
			v.clean |= recv.clean
		case it.ownURL(st, facts, recv, c):
			v.clean |= it.tag("url")
		}
		return v
	}
	if chars != AnyChars || len(excludes) > 0 || drops != "" || markup || clean != 0 || normal {
		// One argument is what it works on, as far as that can be said.
		var subject *value
		for _, a := range c.args {
			if len(it.labelsOf(st, a)) > 0 {
				if subject != nil {
					subject = nil
					break
				}
				subject = a
			}
		}
		if subject == nil && recv != nil && len(it.labelsOf(st, recv)) > 0 {
			subject = recv
		}
		p := piece{sym: &sym{}, chars: chars, not: excludes, clean: clean, labels: labels}
		if subject != nil {
			sc, _, sclean := charsOf(subject)
			if chars == AnyChars && !markup {
				p.chars = sc
			}
			if drops != "" {
				p.chars = sc.And(chars).Without(drops)
			}
			if subject.kind == vText || subject.kind == vUnknown {
				p.clean |= sclean &^ cleanUnlabelled(labels)
			}
			if ss := symsOf(subject); len(ss) == 1 {
				op := "lib"
				if normal {
					op = "norm"
				}
				p.sym = it.derive(op, path, ss[0])
			}
		}
		if subject == nil && len(labels) == 0 && len(c.args) > 0 && c.args[0].isConstText() && (clean != 0 || normal) {
			return c.args[0]
		}
		return &value{kind: vText, text: []piece{p}, safe: markup}
	}
	// Nothing says what it gives.
	if !passes && !wipe {
		labels = c.guesses(it, st)
		if recv != nil {
			labels = addLabels(it.labelsOf(st, recv), labels)
		}
	}
	if recv == nil || it.decorating > 0 {
		if last := path[strings.LastIndexByte(path, '.')+1:]; isClassName(last) && !strings.HasPrefix(path, "*.") {
			it.callbacks(st, c)
			v := inst(path, labels)
			return v
		}
	}
	it.callbacks(st, c)
	if it.decorating > 0 && len(labels) == 0 {
		return lib(path + "()")
	}
	if len(labels) == 0 && !strings.HasPrefix(path, "*.") {
		return unknown
	}
	return opaque(labels)
}

func callable(v *value) bool {
	switch v.kind {
	case vFunc, vClass, vBound:
		return true
	case vUnion:
		return callable(v.elems[0])
	case vTuple:
		return v.str == "asview"
	}
	return false
}

func isClassName(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return unicode.IsUpper(r) && !(len(s) > 1 && s == strings.ToUpper(s) && strings.Contains(s, "_"))
}

// sourceOf returns the one source of a place, kind and note.
func (it *interp) sourceOf(kind string, at Span, note string) *source {
	k := sourceKey{at, kind, note}
	if s := it.sources[k]; s != nil {
		return s
	}
	s := &source{kind: kind, at: at, note: note}
	it.sources[k] = s
	return s
}

// symFor returns the symbol of reading a source: the same part read twice is
// the same value.
func (it *interp) symFor(path, what string) *sym {
	k := sourceKey{kind: path, note: what}
	if s := it.srcSyms[k]; s != nil {
		return s
	}
	s := &sym{input: true}
	it.srcSyms[k] = s
	return s
}

func noteOf(f Fact) string {
	for _, a := range f.Args[1:] {
		if a != "map" {
			return a
		}
	}
	return f.Args[0] + " data"
}

// sourceValue is what reading an attribute that is a source gives.
func (it *interp) sourceValue(st *state, path string, f Fact, recv *value, at Span) *value {
	it.ruleRead = it.ruleRead || path == "flask.request.path"
	if path == "flask.request.path" && it.rule != "" {
		// The rule has no variable part, so the path is the rule, behind what
		// the app or blueprint is mounted at.
		return fromPieces([]piece{{sym: it.symFor(path, ""), chars: CharRange("a-zA-Z0-9_.~/-")}, {lit: it.rule}})
	}
	note := noteOf(f)
	src := it.sourceOf(f.Args[0], it.at(&call{at: at}), note) // of a model: where it was called
	if slices.Contains(f.Args[1:], "map") {
		return &value{kind: vInst, str: path, labels: []label{{src: src}}, sym: it.symFor(path, "")}
	}
	it.field(Field{Kind: f.Args[0], At: at})
	s := it.symFor(path, "")
	if f.Args[0] == "json" {
		return &value{kind: vUnknown, labels: []label{{src: src}}, sym: s, str: "json"}
	}
	if recv != nil && recv.sym != nil {
		s = it.derive("attr", path, recv.sym)
	}
	return &value{kind: vUnknown, labels: []label{{src: src}}, sym: s}
}

func (it *interp) sourceCall(st *state, path string, f Fact, recv *value, c *call) *value {
	if f.Args[0] == "file-content" && recv != nil && recv.kind == vInst && recv.clean&it.tag("archive") != 0 {
		return unknown // of an archive that the application fetched
	}
	note := noteOf(f)
	what := ""
	if len(c.args) > 0 && c.args[0].isConstText() {
		what = c.args[0].str
		note += " " + strconv.Quote(what)
	}
	src := it.sourceOf(f.Args[0], it.at(c), note)
	it.field(Field{Kind: f.Args[0], Name: what, At: c.at})
	s := &sym{}
	if f.Args[0] == "stored" && (recv != nil && recv.kind == vInst && recv.clean&it.tag("sql") != 0 || it.fr != nil && it.fr.asked[it.onText(c)]) {
		// Names of tables and columns are the program's own.
		return &value{kind: vUnknown, labels: []label{{src: src, clean: it.tag("sql")}}, sym: s}
	}
	if f.Args[0] == "json" && what == "" {
		return &value{kind: vUnknown, labels: []label{{src: src}}, sym: it.symFor(path, ""), str: "json"}
	}
	if recv == nil || recv.kind == vLib || recv.sym != nil && recv.kind == vInst && it.mapping(recv.str) != nil {
		s = it.symFor(path, what)
	} else if recv.sym != nil {
		s = it.derive("call", path+"("+what+")", recv.sym)
	}
	return &value{kind: vUnknown, labels: []label{{src: src}}, sym: s}
}

func (it *interp) field(f Field) {
	if it.notes != nil && !strings.HasPrefix(f.At.File, "<model>") {
		if it.notes.fields == nil {
			it.notes.sinks, it.notes.fields = map[string]bool{}, map[Field]bool{}
		}
		it.notes.fields[f] = true
	}
}

// typed notes that a part of the input is only read as a number.
func (it *interp) typed(v *value, typ string) {
	if v.sym == nil || it.notes == nil {
		return
	}
	if f, ok := it.fieldSyms[v.sym]; ok && f.Type == "" {
		delete(it.notes.fields, f)
		f.Type = typ
		it.field(f)
	}
}

// mapping returns the fact that makes a path a source by name; nil if it is
// none.
func (it *interp) mapping(path string) *Fact {
	if path == "" {
		return nil
	}
	facts := it.p.facts.of(it.p.facts.canonical(path))
	for i := range facts {
		if facts[i].Verb == "source" && slices.Contains(facts[i].Args[1:], "map") {
			return &facts[i]
		}
	}
	return nil
}

// mapItem is one entry of a mapping of input.
func (it *interp) mapItem(st *state, f *Fact, recv *value, key *value, at Span, typ string) *value {
	note, name := noteOf(*f), ""
	if key != nil && key.isConstText() {
		name = key.str
		note += " " + strconv.Quote(name)
	}
	src := it.sourceOf(f.Args[0], at, note)
	it.field(Field{Kind: f.Args[0], Name: name, Type: typ, At: at})
	labels := []label{{src: src}}
	for _, e := range it.p.facts.of(it.p.facts.canonical(recv.str)) {
		if e.Verb == "element" {
			v := inst(e.Args[0], labels)
			v.sym = it.symFor(recv.str, name)
			if name == "" {
				v.sym = &sym{}
			}
			return v
		}
	}
	s := &sym{}
	if name != "" {
		s = it.symFor(recv.str, name)
	}
	v := &value{kind: vUnknown, labels: labels, sym: s}
	if name != "" {
		it.fieldSyms[s] = Field{Kind: f.Args[0], Name: name, Type: typ, At: at}
	}
	if f.Args[0] != "json" {
		v.str = "text" // whatever it is, it is text if it is there
	}
	return v
}

// mapCall calls a method of a mapping of input; nil if it is not known.
func (it *interp) mapCall(st *state, f *Fact, recv *value, name string, c *call) *value {
	switch name {
	case "get", "pop", "__getitem__", "getone", "setdefault":
		key := c.arg(0, "key")
		typ := c.keyword("type")
		if typ == nil && len(c.args) > 2 {
			typ = c.args[2]
		}
		tn := ""
		if typ != nil && typ.kind == vLib {
			tn = strings.TrimPrefix(typ.str, "builtins.")
		}
		v := it.mapItem(st, f, recv, key, it.at(c), tn)
		switch tn {
		case "int", "float":
			v = numeric(v.labels)
		case "bool":
			v = boolean
		case "", "str":
		default:
			v = it.call(st, typ, &call{at: c.at, args: []*value{v}})
		}
		if typ != nil && typ.kind != vLib {
			v = it.call(st, typ, &call{at: c.at, args: []*value{v}})
		}
		var d *value
		if len(c.args) > 1 {
			d = c.args[1]
		} else {
			d = c.keyword("default")
		}
		if d != nil && d.kind != vNone {
			return join(v, d)
		}
		if tn != "" {
			return join(v, none)
		}
		return v
	case "getlist", "getall", "get_all", "poplist":
		return it.list(st, oList, nil, it.mapItem(st, f, recv, c.arg(0, "key"), it.at(c), ""))
	case "values", "listvalues":
		return it.list(st, oList, nil, it.mapItem(st, f, recv, nil, it.at(c), ""))
	case "keys":
		return it.list(st, oList, nil, it.mapItem(st, f, recv, nil, it.at(c), ""))
	case "items", "lists":
		return it.list(st, oList, nil, &value{kind: vTuple, elems: []*value{it.mapItem(st, f, recv, nil, it.at(c), ""), it.mapItem(st, f, recv, nil, it.at(c), "")}})
	case "to_dict", "copy", "deepcopy":
		return recv
	case "decode":
		return it.mapItem(st, f, recv, nil, it.at(c), "")
	}
	return nil
}

// libAttr reads an attribute of a library's module, class or instance.
func (it *interp) libAttr(st *state, path string, recv *value, name string, callee bool, at Span) *value {
	if len(path) > maxPath {
		if recv == nil {
			return unknown
		}
		return opaque(it.labelsOf(st, recv))
	}
	path = it.p.facts.canonical(path)
	if path == "flask.request.method" {
		it.ruleRead = true
		if it.method != "" {
			return text(it.method)
		}
	}
	facts := it.p.facts.of(path)
	var r *value
	if f := it.mapping(path); f != nil {
		return it.sourceValue(st, path, *f, recv, at)
	}
	for i := range facts {
		f := &facts[i]
		switch f.Verb {
		case "is":
			var labels []label
			if recv != nil {
				labels = recv.labels
			}
			if r != nil {
				labels = addLabels(labels, shallowLabels(r))
			}
			r = inst(f.Args[0], labels)
			if recv != nil && r.str == answerOf {
				r.clean = recv.clean
			}
			if r.sym != nil && recv != nil && recv.sym != nil {
				r.sym = it.derive("attr", path, recv.sym)
			}
		case "source":
			if callee && !slices.Contains(f.Args[1:], "map") {
				continue
			}
			s := it.sourceValue(st, path, *f, recv, at)
			if r != nil {
				r = inst(r.str, addLabels(r.labels, s.labels))
			} else {
				r = s
			}
		case "read":
			if !callee {
				it.hit(st, f, path, recv, &call{at: at}, nil, nil)
			}
		case "number":
			if !callee && !isFunction(facts) {
				r = number
			}
		case "clean":
			if !callee && len(f.Args) == 0 && r == nil && !isFunction(facts) {
				r = unknown
			}
		}
	}
	if r != nil {
		return r
	}
	if c := libConst(path); c != nil {
		return c
	}
	if v := it.libFields[path]; v != nil && !callee {
		return v
	}
	if recv == nil {
		return it.libNamed(st, path)
	}
	if owner := strings.TrimSuffix(path, "."+name); len(facts) == 0 && (recv.kind == vInst || recv.kind == vObj && !strings.HasPrefix(name, "_")) {
		if recv.kind == vInst {
			owner = it.p.facts.canonical(recv.str)
		}
		for _, f := range it.p.facts.of(it.p.facts.canonical(owner + ".__getattr__")) {
			if f.Verb == "returns" {
				return inst(f.Args[0], recv.labels)
			}
		}
	}
	if recv.kind == vInst || recv.kind == vLib || recv.kind == vBound {
		if !callee && len(recv.labels) > 0 {
			// A field of labelled data is such data; it keeps its path, for it
			// may be a method all the same.
			b := &value{kind: vBound, recv: recv, str: name}
			b.sym = it.derive("attr", name, symOf(recv))
			b.labels = recv.labels
			return b
		}
		if recv.kind == vInst {
			return &value{kind: vBound, recv: recv, str: name}
		}
	}
	if recv.kind == vObj || recv.kind == vClass || recv.kind == vBound {
		return &value{kind: vBound, recv: recv, str: name}
	}
	return lib(path)
}

// isFunction reports whether facts are about something that is called: what
// they say of its result says nothing about the name alone, which may be kept
// under another one and called there.
func isFunction(facts []Fact) bool {
	return slices.ContainsFunc(facts, func(f Fact) bool {
		switch f.Verb {
		case "sink":
			return f.Args[1] != "self"
		case "use", "calls", "ensures", "checks", "template", "template-text", "never", "stores", "fills":
			return true
		}
		return false
	})
}

// libRead is what reading a name of a library gives that was imported by
// itself: from flask_login import current_user.
func (it *interp) libRead(st *state, v *value, at Span) *value {
	for _, f := range it.p.facts.of(it.p.facts.canonical(v.str)) {
		if f.Verb == "source" || f.Verb == "is" {
			i := strings.LastIndexByte(v.str, '.')
			if i < 0 {
				return v
			}
			if r := it.libAttr(st, v.str, nil, v.str[i+1:], false, at); r.kind != vLib {
				return r
			}
		}
	}
	return v
}

// setLibField remembers what is put into a field of something global, such as
// flask.g, for whoever reads it later.
func (it *interp) setLibField(path string, v *value) {
	path = it.p.facts.canonical(path)
	if !it.loading && it.reachesNew(v, 0) {
		v = opaque(shallowLabels(v))
	}
	if old := it.libFields[path]; old != nil {
		if v = join(old, v); identical(old, v) {
			return
		}
	}
	it.libFields[path] = v
	it.fieldGens++
	it.fieldGen = it.fieldGens
}

// knownAttr is an attribute of an instance that package code understands:
// paths, split URLs.
func (it *interp) knownAttr(st *state, v *value, name string) *value {
	switch v.str {
	case "pathlib.Path":
		return it.pathAttr(st, v, name)
	case "urllib.parse.ParseResult":
		return it.urlAttr(st, v, name)
	}
	return nil
}

// libItem is v[k] of something of a library.
func (it *interp) libItem(st *state, v, k *value, at Span) *value {
	path := it.pathOf(st, v)
	if path == "" {
		return opaque(it.labelsOf(st, v))
	}
	if f := it.mapping(path); f != nil {
		return it.mapItem(st, f, &value{kind: vInst, str: path}, k, at, "")
	}
	for _, f := range it.p.facts.of(it.p.facts.canonical(path)) {
		switch f.Verb {
		case "element":
			return inst(f.Args[0], it.labelsOf(st, v))
		}
	}
	for _, f := range it.p.facts.of(it.p.facts.canonical(path + ".__getitem__")) {
		switch f.Verb {
		case "returns":
			return inst(f.Args[0], it.labelsOf(st, v))
		case "source":
			return it.sourceCall(st, path, f, v, &call{at: at, args: []*value{k}})
		}
	}
	if n := natives[it.p.facts.canonical(path+".__getitem__")]; n != nil {
		if r := n(it, st, v, &call{at: at, args: []*value{k}}); r != nil {
			return r
		}
	}
	labels := it.labelsOf(st, v)
	if len(labels) == 0 {
		return unknown
	}
	if key, ok := keyOf(k); ok && v.sym != nil {
		return &value{kind: vUnknown, labels: labels, clean: v.clean, sym: it.derive("item", key, v.sym)}
	}
	return opaque(labels)
}

// libElement is what iterating over v gives.
func (it *interp) libElement(st *state, v *value) *value {
	path := it.pathOf(st, v)
	if f := it.mapping(path); f != nil {
		return it.mapItem(st, f, &value{kind: vInst, str: "", recv: v}, nil, it.span0(), "")
	}
	for _, f := range it.p.facts.of(it.p.facts.canonical(path)) {
		if f.Verb == "element" {
			return inst(f.Args[0], it.labelsOf(st, v))
		}
	}
	for _, f := range it.p.facts.of(it.p.facts.canonical(path + ".__iter__")) {
		switch f.Verb {
		case "returns":
			return inst(f.Args[0], it.labelsOf(st, v))
		case "source":
			return it.sourceCall(st, path, f, v, &call{at: it.span0()})
		}
	}
	return opaque(it.labelsOf(st, v))
}

func (it *interp) span0() Span {
	if it.fr == nil || it.fr.fn == nil {
		return Span{}
	}
	return it.fr.fn.span()
}

// setFacts records that an attribute of something of a library, or an item
// of it, is assigned.
func (it *interp) setFacts(st *state, path string, recv, key, v *value, at Span) {
	path = it.p.facts.canonical(path)
	facts := it.p.facts.of(path)
	if rest, ok := strings.CutPrefix(path, "*."); ok {
		facts = it.p.facts.any[rest]
	}
	for i := range facts {
		f := &facts[i]
		if f.Verb != "set" {
			continue
		}
		if key == nil {
			key = text(path[strings.LastIndexByte(path, '.')+1:])
		}
		c := &call{at: at, args: []*value{key, v}, spans: []Span{at, at}}
		it.reach(f.Args[0])
		it.hit(st, f, path, recv, c, []*value{it.refined(st, v)}, []Span{at})
	}
}

// noteWrap is where decorators of libraries leave a function as it is, but for
// what they call it with.
func (it *interp) noteWrap(st *state, path string, fn *value) {
	for _, f := range it.p.facts.of(path) {
		if f.Verb != "injects" {
			continue
		}
		for _, fn := range functionsIn(fn) {
			if it.loading || it.fresh(fn) {
				fn.injects = append(fn.injects, f)
			}
		}
	}
}

// entryCall is a call that registers a function.
func (it *interp) entryCall(st *state, path string, f *Fact, recv *value, c *call) *value {
	reg := &registration{kind: f.Args[0], path: path, at: c.at, args: c.args, kw: c.kw, self: recv}
	if len(f.Args) > 1 {
		vs, _ := it.pick(f.Args[1], recv, c)
		for _, v := range vs {
			for _, a := range v.alts() {
				if callable(a) {
					r := *reg
					r.fn = a
					it.register(st, &r)
				}
			}
		}
		if len(vs) > 0 && callable(vs[0]) && it.decorating > 0 {
			return vs[0]
		}
		if len(vs) > 0 {
			return none
		}
	}
	if len(c.args) >= 1 && callable(c.args[0]) && (it.decorating > 0 || len(c.args) == 1) {
		reg.fn = c.args[0]
		reg.args = c.args[1:]
		it.register(st, reg)
		return c.args[0]
	}
	return &value{kind: vDeco, reg: reg}
}

// decorate applies what entryCall gave to a function.
func (it *interp) decorate(st *state, d *value, c *call) *value {
	if len(c.args) == 0 || !callable(c.args[0]) {
		return unknown
	}
	r := *d.reg
	r.fn = c.args[0]
	it.register(st, &r)
	return c.args[0]
}

func (it *interp) register(st *state, r *registration) {
	if r.at.File == "" || strings.HasPrefix(r.at.File, "<model>") {
		return
	}
	for _, fn := range functionsIn(r.fn) {
		it.views[funcKey{fn.file, fn.id}] = r.kind
	}
	it.regOrder = append(it.regOrder, r)
	it.outside++
}

// functionsIn returns the functions of the project in v.
func functionsIn(v *value) []*function {
	switch v.kind {
	case vFunc:
		return []*function{v.fn}
	case vBound:
		if v.fn != nil {
			return []*function{v.fn}
		}
	case vUnion:
		var out []*function
		for _, a := range v.elems {
			out = append(out, functionsIn(a)...)
		}
		return out
	}
	return nil
}
