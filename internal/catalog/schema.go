package catalog

import (
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// Schema returns the JSON schema (draft 2020-12) of dewar.toml, made from
// [Config]: what an editor offers and what [Load] accepts are one thing.
func Schema() ([]byte, error) {
	text := func(pattern, example string) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Pattern: pattern, Examples: []any{example}}
	}
	r := &jsonschema.Reflector{
		FieldNameTag:               "toml",
		RequiredFromJSONSchemaTags: true,
		Anonymous:                  true,
		ExpandedStruct:             true,
		// Every section's type is called Config: its package tells them apart.
		Namer: func(t reflect.Type) string {
			if t.PkgPath() == "" {
				return "" // a list or a table without a name of its own
			}
			return path.Base(t.PkgPath()) + t.Name()
		},
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			switch t {
			case reflect.TypeFor[guard.Mode]():
				return &jsonschema.Schema{Type: "string", Enum: []any{"enforce", "observe", "off"}}
			case reflect.TypeFor[guard.Size]():
				return text(`^[0-9]+ ?([kKmMgG]([iI]?[bB])?|[bB])?$`, "10 MB")
			case reflect.TypeFor[guard.Duration]():
				return text(`^([0-9]+d|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+|0)$`, "30s")
			case reflect.TypeFor[audit.FailOn]():
				return text(`^(never|(low|medium|high|critical)(/(possible|likely|certain))?)$`, "high")
			case reflect.TypeFor[store.Gone]():
				return &jsonschema.Schema{Type: "string", Enum: []any{"share", "tighten", "refuse", "pass"}}
			case reflect.TypeFor[store.Rate]():
				return text(`^(off|[0-9]+ ?/ ?[0-9a-z.]+( burst [0-9]+)?)$`, "100/m")
			}
			return nil
		},
	}
	s := r.Reflect(&Config{})
	s.ID, s.Title = "", "dewar.toml"
	s.Description = "Settings of Dewar: dewar.toml, or [tool.dewar] of pyproject.toml."
	defaults(s, s.Definitions, reflect.TypeFor[Config]())

	// [profiles.NAME] repeats every section for one profile.
	per := &jsonschema.Schema{Type: "object", Properties: jsonschema.NewProperties(), AdditionalProperties: jsonschema.FalseSchema}
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		if p.Key != "profile" {
			per.Properties.Set(p.Key, p.Value)
		}
	}
	s.Definitions["ProfileSettings"] = per
	profiles := &jsonschema.Schema{Type: "object", Properties: jsonschema.NewProperties(), AdditionalProperties: jsonschema.FalseSchema, Description: "Settings that hold in one profile only."}
	for _, name := range Profiles {
		profiles.Properties.Set(string(name), &jsonschema.Schema{Ref: "#/$defs/ProfileSettings"})
	}
	s.Properties.Set("profiles", profiles)
	out, err := json.MarshalIndent(s, "", "  ")
	return append(out, '\n'), err
}

// defaults writes the default tags into the schema.
func defaults(s *jsonschema.Schema, defs jsonschema.Definitions, t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		prop, ok := s.Properties.Get(f.Tag.Get("toml"))
		if !ok {
			continue
		}
		if f.Type.Kind() == reflect.Struct && prop.Ref != "" {
			if d := defs[strings.TrimPrefix(prop.Ref, "#/$defs/")]; d != nil && d.Properties != nil {
				defaults(d, defs, f.Type)
			}
			continue
		}
		text, has := f.Tag.Lookup("default")
		if !has || prop.Ref != "" {
			continue
		}
		v := reflect.New(f.Type).Elem()
		if err := setText(v, text); err != nil {
			panic(fmt.Sprintf("catalog: the default of %s: %v", f.Name, err))
		}
		prop.Default = v.Interface()
	}
}

// Field is one setting as the reference page and "dewar init" show it.
type Field struct {
	Key         string // "csrf.trusted-origins"
	Type        string // "text", "list of texts", "yes or no", "size", …
	Default     string // as TOML
	Staging     string // "" when the default holds
	Development string
	Doc         string
	Environment string
	// Table is what one of the tables can hold, when the setting is a list of
	// them.
	Table []Field
}

// tableOf lists what one table of a list of tables can hold: Key, Type and
// Doc only.
func tableOf(t reflect.Type, prefix string) []Field {
	if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct {
		t = t.Elem()
	} else if prefix == "" {
		return nil
	}
	if reflect.PointerTo(t).Implements(textUnmarshaler) {
		return nil
	}
	var out []Field
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("toml")
		if name == "" || name == "-" {
			continue
		}
		if f.Type.Kind() == reflect.Struct && !reflect.PointerTo(f.Type).Implements(textUnmarshaler) {
			out = append(out, tableOf(f.Type, prefix+name+".")...)
			continue
		}
		out = append(out, Field{Key: prefix + name, Type: typeName(f), Doc: f.Tag.Get("jsonschema_description")})
	}
	return out
}

// SectionDoc is one section of the reference.
type SectionDoc struct {
	Name, Doc string
	Fields    []Field
}

// Reference lists every section and setting, in the order of [Config].
func Reference() []SectionDoc {
	var out []SectionDoc
	t := reflect.TypeFor[Config]()
	all := leavesOf(t)
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("toml")
		sec := SectionDoc{Name: name, Doc: f.Tag.Get("jsonschema_description")}
		for _, l := range all {
			if l.index[0] != i {
				continue
			}
			field := Field{Key: l.key, Type: typeName(l.field), Doc: l.field.Tag.Get("jsonschema_description"), Environment: l.env}
			if d := deployment.Effect(l.field.Tag.Get("reload")).Describe(); d != "" {
				field.Doc += " " + d
			}
			show := func(tag string) string {
				text, ok := l.field.Tag.Lookup(tag)
				v := reflect.New(l.field.Type).Elem()
				if ok {
					if err := setText(v, text); err != nil {
						panic(fmt.Sprintf("catalog: the default of %s: %v", l.key, err))
					}
				} else if tag != "default" {
					return ""
				}
				return textOf(v)
			}
			field.Default, field.Staging, field.Development = show("default"), show("staging"), show("development")
			field.Table = tableOf(l.field.Type, "")
			sec.Fields = append(sec.Fields, field)
		}
		if len(sec.Fields) > 0 {
			out = append(out, sec)
		}
	}
	return out
}

func typeName(f reflect.StructField) string {
	var enum []string
	for part := range strings.SplitSeq(f.Tag.Get("jsonschema"), ",") {
		if v, ok := strings.CutPrefix(part, "enum="); ok {
			enum = append(enum, v)
		}
	}
	t := f.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[guard.Mode]():
		return "enforce, observe or off"
	case reflect.TypeFor[guard.Size]():
		return "size"
	case reflect.TypeFor[guard.Duration]():
		return "duration"
	case reflect.TypeFor[audit.FailOn]():
		return "severity"
	case reflect.TypeFor[store.Gone]():
		return "share, tighten, refuse or pass"
	case reflect.TypeFor[store.Rate]():
		return "rate"
	}
	if len(enum) > 0 {
		return strings.Join(enum, ", ")
	}
	switch t.Kind() {
	case reflect.Bool:
		return "yes or no"
	case reflect.Int, reflect.Int64:
		return "whole number"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		switch t.Elem().Kind() {
		case reflect.Struct:
			return "tables"
		case reflect.Int:
			return "list of whole numbers"
		}
		return "list of texts"
	case reflect.Map:
		return "table"
	}
	return "text"
}
