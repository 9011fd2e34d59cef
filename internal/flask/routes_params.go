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
			fn, _ := t.call(t.at(st).A)
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
