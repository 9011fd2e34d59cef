package pyflow

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// entryArgs are the arguments that a registered function is called with.
func (it *interp) entryArgs(st *state, r *registration, target *value) *call {
	c := &call{}
	fns := functionsIn(target)
	if r.orig != nil {
		fns = []*function{r.orig}
	}
	switch r.kind {
	case "task":
		if r.path == threadTask {
			c.args, c.kw = slices.Clone(r.args), slices.Clone(r.kw)
		}
	case "view":
		rules := 0
		for _, a := range r.args {
			if a.isConstText() && strings.Contains(a.str, "<") || a.isConstText() && strings.HasPrefix(a.str, "/") {
				it.ruleArgs(c, a.str, r.at)
				rules++
			}
		}
		for _, k := range r.kw {
			if k.name == "rule" && k.v.isConstText() {
				it.ruleArgs(c, k.v.str, r.at)
			}
			if k.name == "defaults" && k.v.kind == vObj {
				if o := it.get(st, k.v.obj); o != nil {
					for _, key := range o.keys {
						if kv := keyValue(key); kv.isConstText() && c.keyword(kv.str) == nil {
							c.kw = append(c.kw, kwarg{kv.str, o.m[key]})
						}
					}
				}
			}
		}
		// What a blueprint's prefix or a computed rule gives, or a decorator
		// that reads it from the request. What no rule of the project names,
		// the app gives itself: by url_defaults, or on the way to the view.
		if len(fns) > 0 {
			ps := fns[0].params
			if target.kind == vBound && len(ps) > 0 {
				ps = ps[1:]
			}
			if len(ps) > 0 {
				for _, f := range it.p.facts.of(it.p.facts.canonical(r.path)) {
					if f.Verb == "hands" && c.keyword(ps[0].Name) == nil {
						c.kw = append(c.kw, kwarg{ps[0].Name, inst(f.Args[0], nil)})
					}
				}
			}
			for _, p := range ps {
				if p.Kind == pysyntax.ArgVar || p.Kind == pysyntax.ArgKw || p.Default != 0 && r.handed[p.Name] == "" || c.keyword(p.Name) != nil {
					continue
				}
				v := it.handedParam(fns[0], p.Name, r)
				switch {
				case v != nil:
				case rules == 0 || !ofFlask(r) || it.p.urlOpen || it.p.urlNames[p.Name] || it.injected(st, fns[0], target):
					v = it.pathParam(p.Name, "string", "", r.at)
				default:
					v = unknown
				}
				c.kw = append(c.kw, kwarg{p.Name, v})
			}
		}
	case "hook":
		if strings.Contains(r.path, "after_request") || strings.Contains(r.path, "after_app_request") || strings.Contains(r.path, "after_this_request") {
			if v := it.instanceOf(st, "flask.Response"); v != nil {
				c.args = append(c.args, v)
			}
		}
	case "graphql":
		if len(fns) > 0 {
			it.graphqlArgs(c, fns[0], target)
		}
	case "message", "event", "socket":
		if len(fns) > 0 {
			ps := fns[0].params
			if target.kind == vBound && len(ps) > 0 {
				ps = ps[1:]
			}
			for _, p := range ps {
				if p.Kind == pysyntax.ArgVar || p.Kind == pysyntax.ArgKw {
					continue
				}
				src := it.sourceOf("websocket", fns[0].span(), "message "+strconv.Quote(p.Name))
				c.args = append(c.args, &value{kind: vUnknown, labels: []label{{src: src}}, sym: &sym{}})
			}
		}
	}
	return c
}

// injected reports whether a decorator stands at a view, or its class names
// some, that may give it arguments: any that does not register it.
func (it *interp) injected(st *state, fn *function, target *value) bool {
	f := fn.file.f
	switch f.Kind(fn.id) {
	case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef:
	default:
		return true
	}
	for _, d := range f.FunctionDef(fn.id).Decorators {
		if f.Kind(d) == pysyntax.Call {
			d, _, _ = f.Call(d)
		}
		name := ""
		if f.Kind(d) == pysyntax.Attribute {
			_, name = f.Attribute(d)
		}
		if !slices.Contains(registers, name) {
			return true
		}
	}
	if target.kind == vBound && fn.owner != nil {
		for _, name := range [...]string{"decorators", "method_decorators"} {
			if fn.owner.lookup(it, st, name) != nil {
				return true
			}
		}
	}
	return false
}

// ofFlask reports whether it is Flask that calls a view: others, such as
// FastAPI, give it also what stands behind the question mark.
func ofFlask(r *registration) bool {
	name, guess := strings.CutPrefix(r.path, "*.")
	return !guess || name == "route" || name == "add_url_rule"
}

// registers are what the decorators are called that give a view its URL.
var registers = []string{"route", "get", "post", "put", "patch", "delete", "endpoint"}

// urlNames returns the names of parameters in a file's texts that may be URL
// rules or parts of them; open is set when a rule is put together so that its
// parameters' names stand in no text.
func urlNames(f *pysyntax.File) (names []string, open bool) {
	for i := range f.Nodes {
		switch f.Nodes[i].Kind {
		case pysyntax.Str, pysyntax.StrPart:
		default:
			continue
		}
		t := f.Text(pysyntax.ID(i))
		j := bytes.IndexByte(t, '<')
		if j < 0 {
			continue
		}
		rule := bytes.TrimLeft(t, `rRuUfFbB"'`)
		begins := len(rule) > 0 && rule[0] == '/'
		for j >= 0 {
			t = t[j+1:]
			part, _, closed := bytes.Cut(t, []byte(">"))
			name := part
			if k := bytes.LastIndexByte(name, ':'); k >= 0 {
				name = name[k+1:]
			}
			switch name = bytes.TrimSpace(name); {
			case closed && isIdentifier(name):
				names = append(names, string(name))
			case begins && (closed && bytes.ContainsAny(part, "%{") || len(bytes.TrimRight(t, `"'`)) == 0):
				open = true // "/<%s>", "/<" + name
			}
			j = bytes.IndexByte(t, '<')
		}
	}
	return names, open
}

func isIdentifier(b []byte) bool {
	for i, c := range b {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c < 0x80 && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return len(b) > 0
}

// parts are the names under which Flask-OpenAPI3 hands over what of the
// request a view asks for.
var parts = map[string]string{"query": "query", "form": "form", "body": "json", "header": "header", "cookie": "cookie"}

// handedNotes say what a parameter of an operation is.
var handedNotes = map[string]string{"query": "query parameter ", "form": "form field ", "json": "JSON body ", "header": "request header ", "cookie": "cookie "}

// handedParam is a parameter of a view that a decorator or the library reads
// from the request; nil if it is not known to be one.
func (it *interp) handedParam(fn *function, name string, r *registration) *value {
	for _, f := range fn.injects {
		src := it.sourceOf(f.Args[0], fn.span(), f.Args[1])
		return &value{kind: vUnknown, labels: []label{{src: src}}, sym: &sym{input: true}}
	}
	if kind := r.handed[name]; kind != "" {
		it.field(Field{Kind: kind, Name: name, At: fn.span()})
		src := it.sourceOf(kind, fn.span(), handedNotes[kind]+strconv.Quote(name))
		return &value{kind: vUnknown, labels: []label{{src: src}}, sym: &sym{input: true}}
	}
	if kind := parts[name]; kind != "" && strings.HasPrefix(r.path, "flask_openapi3.") {
		src := it.sourceOf(kind, fn.span(), "request argument")
		return &value{kind: vUnknown, labels: []label{{src: src}}, sym: &sym{input: true}}
	}
	return nil
}

// graphqlArgs are what a resolver is called with: the object whose field it
// is, what the library knows of the query, and the field's arguments.
func (it *interp) graphqlArgs(c *call, fn *function, target *value) {
	ps := fn.params
	if target.kind == vBound && len(ps) > 0 {
		ps = ps[1:]
	}
	for i, p := range ps {
		v := unknown
		switch {
		case strings.TrimLeft(p.Name, "_") == "info":
			v = inst("graphql.GraphQLResolveInfo", nil)
		case p.Kind == pysyntax.ArgVar:
			continue
		case i == 0 && target.kind != vBound, p.Name == "root", p.Name == "parent":
		default:
			src := it.sourceOf("json", fn.span(), "GraphQL argument "+strconv.Quote(p.Name))
			it.field(Field{Kind: "json", Name: p.Name, At: fn.span()})
			v = &value{kind: vUnknown, labels: []label{{src: src}}, sym: &sym{input: true}}
		}
		if p.Kind == pysyntax.ArgKw {
			c.rest = v
			continue
		}
		c.kw = append(c.kw, kwarg{p.Name, v})
	}
}

// ruleArgs adds the parameters of a URL rule, such as /user/<int:id>.
func (it *interp) ruleArgs(c *call, rule string, at Span) {
	for {
		i := strings.IndexByte(rule, '<')
		if i < 0 {
			return
		}
		j := converterEnd(rule[i:])
		if j < 0 {
			return
		}
		part := rule[i+1 : i+j]
		rule = rule[i+j+1:]
		conv, name, ok := cutLast(part, ':')
		if !ok {
			conv, name = "string", part
		}
		args := ""
		if k := strings.IndexByte(conv, '('); k >= 0 {
			conv, args = conv[:k], strings.TrimSuffix(conv[k+1:], ")")
		}
		name = strings.TrimSpace(name)
		if c.keyword(name) == nil {
			c.kw = append(c.kw, kwarg{name, it.pathParam(name, conv, args, at)})
		}
	}
}

// converterEnd returns where the ">" of a parameter is that s begins with; -1
// if there is none. The arguments of a converter may hold others in quotes.
func converterEnd(s string) int {
	quote := byte(0)
	for i := range len(s) {
		switch c := s[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '>':
			return i
		}
	}
	return strings.IndexByte(s, '>')
}

// converterArgs returns the arguments in a rule that a converter is made with.
func converterArgs(s string) []*value {
	var out []*value
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimLeft(s, ", ") {
		if s[0] == '"' || s[0] == '\'' {
			if end := strings.IndexByte(s[1:], s[0]); end >= 0 {
				out, s = append(out, text(s[1:1+end])), s[end+2:]
				continue
			}
		}
		arg, rest, _ := strings.Cut(s, ",")
		if strings.Contains(arg, "=") {
			arg = ""
		}
		if arg != "" {
			out = append(out, unknown)
		}
		s = rest
	}
	return out
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return "", s, false
}

// pathParam is what a converter gives; see Werkzeug's routing.converters.
func (it *interp) pathParam(name, conv, args string, at Span) *value {
	src := it.sourceOf("path", at, "path parameter "+strconv.Quote(name))
	labels := []label{{src: src}}
	it.field(Field{Kind: "path", Name: name, Type: conv, At: at})
	switch conv {
	case "int", "float":
		return numeric(labels)
	case "uuid":
		return run(hexChars, labels)
	case "path":
		return run(AnyChars, labels)
	case "any":
		var out *value
		for a := range strings.SplitSeq(args, ",") {
			out = join(out, text(strings.Trim(strings.TrimSpace(a), `'"`)))
		}
		if out != nil {
			return out
		}
	case "string", "default", "":
		return run(AnyChars.Without("/"), labels)
	}
	if cls := it.converters[conv]; cls != nil {
		s := &state{heap: it.p.base, shared: true}
		pattern := cls.cls.lookup(it, s, "regex")
		var made *value
		if init := cls.cls.lookup(it, s, "__init__"); init != nil && init.kind == vFunc {
			// It may make its pattern of the arguments in the rule.
			if made = it.call(s, cls, &call{args: append([]*value{unknown}, converterArgs(args)...)}); !s.dead {
				pattern = it.attr(s, made, "regex", false, at)
			}
		}
		chars, known := AnyChars, false
		switch r := pattern; {
		case r != nil && r.isConstText():
			chars, known = regexChars(r.str)
		case r == nil && cls.cls.derives("werkzeug.routing.BaseConverter"):
			chars, known = AnyChars.Without("/"), true // the base class's pattern
		}
		if known {
			v := run(chars, labels)
			if m := cls.cls.lookup(it, s, "to_python"); m != nil && m.kind == vFunc && !s.dead {
				if made == nil {
					made = &value{kind: vObj, obj: it.alloc(s, &object{kind: oInstance, cls: cls.cls})}
				}
				return it.callFunction(s, m.fn, made, &call{args: []*value{v}})
			}
			return v
		}
	}
	return run(AnyChars, labels)
}

// instanceOf is an instance of a library class of which nothing more is
// known; of a model's class when there is one.
func (it *interp) instanceOf(st *state, path string) *value {
	v := it.libNamed(st, path)
	if v.kind == vClass {
		return &value{kind: vObj, obj: it.alloc(st, &object{kind: oInstance, cls: v.cls, rest: unknown})}
	}
	return inst(path, nil)
}

// response records what a view gives back.
func (it *interp) response(st *state, v *value, at Span) {
	fr := it.fr
	if fr.fn == nil {
		return
	}
	switch it.views[funcKey{fr.fn.file, fr.fn.id}] {
	case "", "task", "cli", "filter", "loader", "graphql", "message":
		return
	}
	v = it.refined(st, v)
	if len(it.labelsOf(st, v)) == 0 {
		return
	}
	it.reach("response")
	it.record(st, &Hit{Verb: "sink", Kind: "response", Path: "return", At: at}, nil, &call{at: at}, []*value{v})
}

// staticRule returns the URL rule of a view that has no variable part.
func staticRule(r *registration) string {
	if r.kind != "view" {
		return ""
	}
	rule := ""
	for _, a := range r.args {
		if a.isConstText() && strings.HasPrefix(a.str, "/") {
			rule = a.str
		}
	}
	if strings.Contains(rule, "<") {
		return ""
	}
	return rule
}

// soleMethod returns the only method that Flask hands to a view: POST of a
// route with methods=["POST"]. It is empty where there are several, and for
// GET, which HEAD comes with.
func soleMethod(r *registration, e *Entry) string {
	if r.kind != "view" || !ofFlask(r) || r.fn.kind != vFunc {
		return ""
	}
	method := strings.ToUpper(r.path[strings.LastIndexByte(r.path, '.')+1:])
	switch method {
	case "POST", "PUT", "PATCH", "DELETE":
		return method
	case "ROUTE", "ADD_URL_RULE":
	default:
		return ""
	}
	v, given := e.Keywords["methods"]
	if !given || len(v.Items) != 1 || v.Rest != nil || len(v.Alternatives) > 0 {
		return ""
	}
	method, _ = v.Items[0].Const()
	switch method = strings.ToUpper(method); method {
	case "POST", "PUT", "PATCH", "DELETE":
		return method
	}
	return ""
}
