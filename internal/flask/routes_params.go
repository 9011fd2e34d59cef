package flask

import (
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// converter is one that the project registered.
type converter struct{ typ, regex string }

// baseConverters are the converters of Werkzeug that the project's derive
// from, and what the view gets from them.
var baseConverters = map[string]string{
	"IntegerConverter": "int", "FloatConverter": "float", "UUIDConverter": "UUID", "NumberConverter": "int",
	"BaseConverter": "str", "UnicodeConverter": "str", "PathConverter": "str", "AnyConverter": "str",
}

// convert fills in what the project's own converters say of parameters.
func (a *analyzer) convert(params []Param) {
	for i, p := range params {
		if converterTypes[p.Converter] != "" {
			continue
		}
		if a.converters == nil {
			a.findConverters()
		}
		if c, ok := a.converters[p.Converter]; ok {
			params[i].Type, params[i].Regex = c.typ, c.regex
		}
	}
}

// findConverters reads app.url_map.converters["name"] = Class, and the same
// by update.
func (a *analyzer) findConverters() {
	a.converters = map[string]converter{}
	add := func(s *scope, name string, value node) {
		if name == "" {
			return
		}
		for _, o := range a.eval(s, value) {
			if o.kind == objClass {
				a.converters[name] = a.converterOf(o.scope)
			}
		}
	}
	for _, u := range a.units {
		t := u.tree
		for _, st := range u.stores {
			base, key := t.sub(st.target)
			if base != 0 && st.value != 0 && strings.HasSuffix(t.text(base), "url_map.converters") {
				add(st.scope, a.fold(st.scope, key).Text, st.value)
			}
		}
		for _, c := range u.calls {
			fn, args := t.call(c.id)
			base, method := t.attr(fn)
			if base == 0 || method != "update" || !strings.HasSuffix(t.text(base), "url_map.converters") {
				continue
			}
			for _, x := range args {
				switch {
				case x.name != "":
					add(c.scope, x.name, x.val)
				case t.kind(x.val) == pysyntax.Dict:
					l := t.list(t.at(x.val).A)
					for i := 0; i+1 < len(l); i += 2 {
						if l[i] != 0 {
							add(c.scope, a.fold(c.scope, l[i]).Text, l[i+1])
						}
					}
				}
			}
		}
	}
}

func (a *analyzer) converterOf(cls *scope) converter {
	var c converter
	for _, b := range a.classMember(cls, "regex") {
		if b.kind == bindExpr {
			c.regex = a.fold(b.scope, b.node).Text
		}
	}
	_, library := a.ancestors(cls)
	for _, q := range library {
		if t := baseConverters[lastPart(q)]; t != "" {
			c.typ = t
		}
	}
	// to_python decides: what it gives is known when it is one conversion.
	for _, b := range a.classMember(cls, "to_python") {
		if b.kind != bindDef {
			continue
		}
		c.typ = ""
		t := b.def.unit.tree
		for _, st := range b.def.def.body {
			if t.kind(st) != pysyntax.Return || t.at(st).A == 0 {
				continue
			}
			fn := t.callee(t.at(st).A)
			if fn == 0 {
				continue
			}
			if name := t.text(fn); slices.Contains([]string{"int", "float", "str", "bool"}, name) {
				c.typ = name
			}
		}
	}
	return c
}

// fieldTypes are what the fields of WTForms give; the others give text.
var fieldTypes = map[string]string{
	"IntegerField": "int", "IntegerRangeField": "int", "FloatField": "float", "DecimalField": "float", "DecimalRangeField": "float",
	"BooleanField": "bool", "DateField": "date", "DateTimeField": "datetime", "DateTimeLocalField": "datetime", "TimeField": "time",
	"SelectMultipleField": "list", "FieldList": "list", "EmailField": "email", "URLField": "url", "UUIDField": "UUID",
	"CKEditorField": "html", "QuillField": "html", "TinyMceField": "html", "TinyMCEField": "html", "SummernoteField": "html", "PageDownField": "html",
}

// typed notes the type of a form field; what two forms say differently is
// text.
func (f *facts) typed(name, t string) {
	if old, ok := f.types[name]; ok && old != t {
		t = ""
	}
	if f.types == nil {
		f.types = map[string]string{}
	}
	f.types[name] = t
}

// argumentTypes are what the type of a parser's argument gives.
var argumentTypes = map[string]string{
	"int": "int", "float": "float", "bool": "bool", "list": "list", "inputs.boolean": "bool", "inputs.natural": "int", "inputs.positive": "int",
	"inputs.date": "date", "inputs.datetime_from_iso8601": "datetime", "inputs.int_range": "int", "inputs.email": "email", "inputs.url": "url",
}

// parserFields adds the fields of a RequestParser of Flask-RESTful or
// Flask-RESTX: what add_argument is called with on the same name. It reports
// whether every name is known.
func (a *analyzer) parserFields(s *scope, parser node, f *facts) bool {
	t := s.unit.tree
	name := t.text(parser)
	found, all := false, true
	for _, c := range s.unit.calls {
		fn, args := t.call(c.id)
		base, method := t.attr(fn)
		if base == 0 || method != "add_argument" || t.text(base) != name {
			continue
		}
		key := a.fold(c.scope, argNamed(args, "name", 0))
		if !key.Known || key.Kind != String {
			all = false
			continue
		}
		found = true
		lists := []*[]string{}
		where := a.fold(c.scope, argNamed(args, "location", -1))
		for _, l := range append(where.Strings(), where.Text) {
			switch l {
			case "args":
				lists = append(lists, &f.query)
			case "form":
				lists = append(lists, &f.form)
			case "json":
				lists = append(lists, &f.json)
			case "files":
				lists = append(lists, &f.files)
				f.uploads = true
			case "values":
				lists = append(lists, &f.query, &f.form)
			}
		}
		if where.Kind == "" || len(lists) == 0 && where.Text == "" {
			lists = append(lists, &f.json, &f.query, &f.form) // the default of both
		}
		for _, l := range lists {
			*l = append(*l, key.Text)
		}
		if typ := argNamed(args, "type", 1); typ != 0 {
			text := t.text(typ)
			if inner := t.callee(typ); inner != 0 {
				text = t.text(inner)
			}
			f.typed(key.Text, argumentTypes[text])
		}
		if v := argNamed(args, "action", -1); v != 0 && a.fold(c.scope, v).Text == "append" {
			f.typed(key.Text, "list")
		}
	}
	return found && all
}

// schemaTypes are what the fields of marshmallow give; the others give text.
var schemaTypes = map[string]string{
	"Int": "int", "Integer": "int", "Float": "float", "Decimal": "float", "Number": "float", "Bool": "bool", "Boolean": "bool", "Date": "date",
	"DateTime": "datetime", "NaiveDateTime": "datetime", "AwareDateTime": "datetime", "Time": "time", "List": "list", "DelimitedList": "list", "Tuple": "list",
	"Nested": "object", "Dict": "object", "Mapping": "object", "Email": "email", "Url": "url", "URL": "url", "UUID": "UUID", "File": "file",
}

// schemaFields adds the fields that a view's decorators take out of the
// request by a schema, as webargs, flask-smorest and APIFlask do. Where a
// schema is not understood, there are fields that are not known.
func (a *analyzer) schemaFields(r *rawRoute, f *facts) {
	if r.fn.kind != funcScope {
		for _, d := range r.decorators {
			f.dynamic = f.dynamic || takesSchema[lastPart(d.Name)]
		}
		return
	}
	s := r.fn.parent
	t := r.fn.unit.tree
	for _, d := range r.fn.def.decorators {
		fn, args := t.call(d)
		if fn == 0 || !takesSchema[lastPart(t.text(fn))] {
			continue
		}
		list, body := &f.json, true
		switch a.fold(s, argNamed(args, "location", -1)).Text {
		case "query", "querystring", "args":
			list, body = &f.query, false
		case "form", "form_and_files", "json_or_form":
			list = &f.form
		case "files":
			list, f.uploads = &f.files, true
		case "headers", "cookies", "path", "view_args":
			list, body = nil, false
		}
		f.body = f.body || body
		if list != nil && (len(args) == 0 || !a.schema(s, args[0].val, f, list)) {
			f.dynamic = true
		}
	}
}

// takesSchema are the decorators that give a view what a schema says.
var takesSchema = set("use_args use_kwargs arguments expect validate input")

// schema adds the fields of a schema class, or of a dictionary of fields, and
// reports whether it was understood.
func (a *analyzer) schema(s *scope, id node, f *facts, list *[]string) bool {
	t := s.unit.tree
	add := func(name string, s *scope, field node) bool {
		fn, args := s.unit.tree.call(field)
		if fn == 0 || name == "" {
			return false
		}
		if k := a.fold(s, argNamed(args, "data_key", -1)); k.Known && k.Text != "" {
			name = k.Text
		}
		*list = append(*list, name)
		if typ := schemaTypes[lastPart(s.unit.tree.text(fn))]; typ != "" {
			f.typed(name, typ)
		}
		return true
	}
	if t.kind(id) == pysyntax.Dict {
		all := true
		l := t.list(t.at(id).A)
		for i := 0; i+1 < len(l); i += 2 {
			all = l[i] != 0 && add(a.fold(s, l[i]).Text, s, l[i+1]) && all
		}
		return all
	}
	found := false
	for _, o := range a.eval(s, id) {
		if o.kind != objClass && o.kind != objInstance || o.scope == nil {
			continue
		}
		project, library := a.ancestors(o.scope)
		if !slices.ContainsFunc(library, func(q string) bool { return strings.Contains(lastPart(q), "Schema") }) {
			continue
		}
		for _, c := range project {
			for _, b := range sortedBinds(c) {
				for _, x := range b.list {
					if x.kind == bindExpr {
						found = add(b.name, x.scope, x.node) || found
					}
				}
			}
		}
	}
	return found
}
