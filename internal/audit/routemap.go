package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/invopop/jsonschema"

	"github.com/dewar-security/dewar/internal/csp"
	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// RouteMap says what a project answers, and what each route reads and
// reaches: what the Flask model knows from the text, joined with what
// happened when the views ran. It is made to be read by programs; see
// [RouteMapSchema].
type RouteMap struct {
	Version int           `json:"version" jsonschema:"enum=1" jsonschema_description:"Version of this form, 1. Fields may be added without another version."`
	Routes  []MappedRoute `json:"routes" jsonschema_description:"By rule, then methods."`
	// Unmounted are routes of blueprints and APIs that nothing registers.
	Unmounted []MappedRoute `json:"unmounted,omitempty" jsonschema_description:"Routes of blueprints that nothing was seen to register."`
	// Content is what the project's templates put into pages.
	Content *csp.Source `json:"content,omitempty" jsonschema_description:"What templates put into pages: inline scripts and styles as hashes or patterns, and what is loaded from elsewhere. The guard makes a Content-Security-Policy of it."`
	Unknown []MapGap    `json:"not_understood,omitempty" jsonschema_description:"What was seen and not understood: the map may lack routes."`
	// Patches are there if they were asked for.
	Patches []Patch `json:"patches,omitempty" jsonschema_description:"Findings of the audit that a guard can hold shut until they are fixed, with the parameters by which data comes in."`
}

// MapGap is something that was seen and not understood.
type MapGap struct {
	File string `json:"file"`
	Line int    `json:"line"`
	What string `json:"what"`
}

// MappedRoute is one route.
type MappedRoute struct {
	Rule      string   `json:"rule" jsonschema_description:"As Flask has it, with the prefix of its blueprint: /order/<int:id>."`
	Methods   []string `json:"methods" jsonschema_description:"That the view declares, sorted."`
	Answers   []string `json:"answers" jsonschema_description:"Those, and HEAD and OPTIONS where Flask adds them."`
	Endpoint  string   `json:"endpoint"`
	Function  string   `json:"function,omitempty" jsonschema_description:"package.module.name; empty for what Flask or an extension serves."`
	File      string   `json:"file"`
	Line      int      `json:"line"`
	Blueprint string   `json:"blueprint,omitempty"`

	Params []RouteParam `json:"params,omitempty" jsonschema_description:"The variable parts of the rule."`
	Fields []RouteField `json:"fields,omitempty" jsonschema_description:"The parts of the request that are read by name."`
	// OtherFields says that Fields may be incomplete.
	OtherFields bool `json:"other_fields,omitempty" jsonschema_description:"A name is computed, or the whole form, query or body is used: there are fields that are not listed."`
	ReadsBody   bool `json:"reads_body,omitempty"`

	Decorators []RouteDecorator `json:"decorators,omitempty" jsonschema_description:"Of the view, the outermost first."`
	Login      RouteLogin       `json:"login"`
	CSRF       string           `json:"csrf" jsonschema:"enum=checked,enum=exempt,enum=none,enum=not-needed" jsonschema_description:"checked: an extension checks a token. exempt: it leaves this view out. none: nothing checks. not-needed: only methods that change nothing."`

	Kind        flask.RouteKind   `json:"kind" jsonschema:"enum=page,enum=login,enum=logout,enum=register,enum=reset,enum=token,enum=admin,enum=api,enum=static,enum=health"`
	Kinds       []flask.RouteKind `json:"kinds" jsonschema_description:"All that the route does: its kind, and upload, redirect, fetch, write."`
	WritesState bool              `json:"writes_state,omitempty"`
	Sinks       []string          `json:"sinks,omitempty" jsonschema_description:"What its code reaches, whatever flows there: sql, command, path-read, url, …"`
	Extensions  []string          `json:"extensions,omitempty" jsonschema_description:"Of file names, in lower case without the dot: what the code compares the name of the one file that it takes with."`
}

// RouteParam is one variable part of a rule.
type RouteParam struct {
	Name      string `json:"name"`
	Converter string `json:"converter"`
	Args      string `json:"args,omitempty" jsonschema_description:"Of the converter: min=1, length=2."`
	Type      string `json:"type,omitempty" jsonschema_description:"What the view gets: str, int, float, UUID; missing when a converter of the project decides."`
	Regex     string `json:"regex,omitempty" jsonschema_description:"What a converter of the project accepts."`
}

// RouteField is one named part of the request.
type RouteField struct {
	In   string `json:"in" jsonschema:"enum=query,enum=form,enum=json,enum=file,enum=header,enum=cookie"`
	Name string `json:"name"`
	Type string `json:"type,omitempty" jsonschema_description:"int, float, bool, date, list, …; html where the code cleans it as markup or a page edits it so; missing for text."`
}

// RouteDecorator is one decorator of a view.
type RouteDecorator struct {
	Name  string `json:"name"`
	Login bool   `json:"login,omitempty" jsonschema_description:"It lets only known users through."`
	Above bool   `json:"above,omitempty" jsonschema_description:"It stands above the route's decorator and does nothing for requests."`
}

// RouteLogin says who is let in.
type RouteLogin struct {
	Required bool     `json:"required"`
	Gate     string   `json:"gate,omitempty" jsonschema_description:"What asks for the login: a decorator, a check in the function, a before_request."`
	Roles    []string `json:"roles,omitempty"`
}

// The kinds that a route can have beside [flask.Route]'s.
const (
	kindUpload   flask.RouteKind = "upload"
	kindRedirect flask.RouteKind = "redirect"
	kindFetch    flask.RouteKind = "fetch"
	kindWrite    flask.RouteKind = "write"
)

// content reads the project's templates, and what its static scripts and style
// sheets name. Nil says that there is nothing to allow.
func (p *Project) content() *csp.Source {
	var templates, static []csp.File
	for _, f := range p.Files {
		ext := path.Ext(f.Path)
		switch {
		case f.Kind == Template:
			templates = append(templates, csp.File{Path: f.Path, Data: f.Data})
		case (ext == ".js" || ext == ".mjs" || ext == ".css") && strings.Contains("/"+f.Path, "/static/"):
			static = append(static, csp.File{Path: f.Path, Data: f.Data})
		}
	}
	s := csp.Read(templates, static)
	if s.Empty() && len(s.Gaps) == 0 {
		return nil
	}
	return s
}

// RouteMap makes the map. It runs the project's Python abstractly, as the
// rules do; when ctx ends early, what that would have added is missing.
func (p *Project) RouteMap(ctx context.Context) *RouteMap {
	m := &RouteMap{Version: 1, Routes: []MappedRoute{}, Content: p.content()}
	flow := p.Flow(ctx)
	entries := map[entryPlace][]*pyflow.Entry{}
	if flow != nil {
		for _, e := range flow.Entries {
			at := p.FlowSpan(e.At)
			entries[entryPlace{at.File, at.Line}] = append(entries[entryPlace{at.File, at.Line}], e)
		}
	}
	checked := false
	for _, name := range []string{"CSRFProtect", "CsrfProtect", "SeaSurf"} {
		for _, e := range p.Flask.Extension(name) {
			checked = checked || e.Initialised
		}
	}
	rich := p.richFields()
	lists := sync.OnceValue(p.extensionLists)
	for _, r := range p.Flask.Routes {
		if f := p.File(r.File); f == nil || !f.Test {
			m.Routes = append(m.Routes, p.mapped(r, entries, checked, rich, lists))
		}
	}
	for _, r := range p.Flask.Unmounted {
		if f := p.File(r.File); f == nil || !f.Test {
			m.Unmounted = append(m.Unmounted, p.mapped(r, entries, checked, rich, lists))
		}
	}
	for _, u := range p.Flask.Unknown {
		m.Unknown = append(m.Unknown, MapGap{File: u.Position.File, Line: u.Position.Line, What: u.What})
	}
	return m
}

type entryPlace struct {
	file string
	line int
}

// entriesOf returns the entries that answer a route: its function, or the
// methods of its class that answer its methods.
func (p *Project) entriesOf(r *flask.Route, entries map[entryPlace][]*pyflow.Entry) []*pyflow.Entry {
	at := r.FunctionPosition
	if at.File == "" {
		return nil
	}
	if own := entries[entryPlace{at.File, at.Line}]; len(own) > 0 {
		return own
	}
	f := p.File(at.File)
	if f == nil || f.Python == nil || r.Function == "" {
		return nil
	}
	var out []*pyflow.Entry
	for line := at.Line + 1; line <= at.EndLine; line++ {
		for _, e := range entries[entryPlace{at.File, line}] {
			if strings.HasPrefix(e.Name, r.Function+".") && (slices.Contains(r.Methods, strings.ToUpper(e.Function)) || e.Function == "dispatch_request") {
				out = append(out, e)
			}
		}
	}
	return out
}

func (p *Project) mapped(r *flask.Route, entries map[entryPlace][]*pyflow.Entry, checked bool, rich map[string]bool, lists func() *extensionLists) MappedRoute {
	out := MappedRoute{
		Rule: r.Rule, Methods: r.Methods, Answers: r.Allowed(), Endpoint: r.Endpoint, Function: r.Function, File: r.File, Line: r.Line, Blueprint: r.Blueprint,
		OtherFields: r.DynamicKeys, ReadsBody: r.ReadsBody, Kind: r.Kind, WritesState: r.WritesState,
		Login: RouteLogin{Required: r.LoginRequired, Gate: r.Gate, Roles: r.Roles},
	}
	for _, x := range r.Params {
		out.Params = append(out.Params, RouteParam(x))
	}
	for _, d := range r.Decorators {
		out.Decorators = append(out.Decorators, RouteDecorator{Name: d.Name, Login: d.Login, Above: d.Above})
	}
	types := map[[2]string]string{}
	note := func(in, name, typ string) {
		key := [2]string{in, name}
		if old, ok := types[key]; !ok || old == "" {
			types[key] = typ
		}
	}
	for _, part := range []struct {
		in    string
		names []string
	}{{"query", r.Query}, {"form", r.Form}, {"json", r.JSON}, {"file", r.Files}} {
		for _, name := range part.names {
			note(part.in, name, r.Types[name])
		}
	}
	for _, e := range p.entriesOf(r, entries) {
		for _, f := range e.Fields {
			switch f.Kind {
			case "query", "form", "json", "file", "header", "cookie":
				if f.Name != "" {
					note(f.Kind, f.Name, cmp.Or(f.Type, p.castType(f.At)))
				}
			}
		}
		out.Sinks = append(out.Sinks, e.Sinks...)
	}
	for key, typ := range types {
		if typ == "" && (key[0] == "form" || key[0] == "json") && rich[key[1]] {
			typ = "html"
		}
		out.Fields = append(out.Fields, RouteField{In: key[0], Name: key[1], Type: typ})
	}
	order := []string{"query", "form", "json", "file", "header", "cookie"}
	slices.SortFunc(out.Fields, func(a, b RouteField) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.In), slices.Index(order, b.In)), strings.Compare(a.Name, b.Name))
	})
	slices.Sort(out.Sinks)
	out.Sinks = slices.Compact(out.Sinks)
	// A view's answer is no more than what every view has.
	out.Sinks = slices.DeleteFunc(out.Sinks, func(s string) bool { return s == "response" || s == "template" })
	if len(out.Sinks) == 0 {
		out.Sinks = nil
	}
	switch {
	case !r.Writes():
		out.CSRF = "not-needed"
	case r.CSRFExempt:
		out.CSRF = "exempt"
	case checked:
		out.CSRF = "checked"
	default:
		out.CSRF = "none"
	}
	out.Kinds = kindsOf(r, &out)
	files := 0
	for _, field := range out.Fields {
		if field.In == "file" {
			files++
		}
	}
	if files == 1 || files == 0 && r.Uploads {
		// Of two files each may have its own list.
		out.Extensions = lists().of(r)
	}
	return out
}

// kindsOf returns all that a route is for.
func kindsOf(r *flask.Route, m *MappedRoute) []flask.RouteKind {
	out := []flask.RouteKind{r.Kind}
	add := func(yes bool, k flask.RouteKind) {
		if yes && !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	add(r.LogsIn, flask.KindLogin)
	add(r.LogsOut, flask.KindLogout)
	add(slices.ContainsFunc(r.Roles, func(s string) bool { return strings.Contains(strings.ToLower(s), "admin") }), flask.KindAdmin)
	add(r.Uploads, kindUpload)
	add(r.Redirects, kindRedirect)
	add(slices.Contains(m.Sinks, "url"), kindFetch)
	add(r.WritesState || slices.ContainsFunc(r.Methods, func(s string) bool { return s == "DELETE" || s == "PUT" || s == "PATCH" }), kindWrite)
	return out
}

// castTypes are the calls that tell the type of what they are given.
var castTypes = map[string]string{
	"int": "int", "float": "float", "bool": "bool", "Decimal": "float", "decimal.Decimal": "float", "UUID": "UUID", "uuid.UUID": "UUID",
	"date.fromisoformat": "date", "datetime.date.fromisoformat": "date", "datetime.fromisoformat": "datetime", "datetime.datetime.fromisoformat": "datetime",
	"bleach.clean": "html", "nh3.clean": "html", "lxml.html.clean.clean_html": "html", "lxml_html_clean.clean_html": "html",
	"datetime.strptime": "datetime", "datetime.datetime.strptime": "datetime", "json.loads": "json",
}

// castType returns the type that the program turns a part of the request
// into where it reads it: int(request.args["page"]), request.args.get("page",
// type=int), request.form.getlist("tag"); empty if it does not.
func (p *Project) castType(at pyflow.Span) string {
	f := p.File(at.File)
	if f == nil || f.Python == nil {
		return ""
	}
	py := f.Python
	around := f.Around(at.Start, at.End)
	for i := len(around) - 1; i >= 0; i-- {
		fn, args, _ := py.Call(around[i])
		if fn == 0 {
			switch py.Kind(around[i]) {
			case pysyntax.Subscript, pysyntax.Attribute, pysyntax.BoolOp:
				continue
			case pysyntax.Name:
				continue
			}
			return ""
		}
		if n := py.Node(around[i]); n.Start == at.Start && n.End == at.End || i == len(around)-1 {
			if v, _ := py.Argument(around[i], "type"); v != 0 {
				return castTypes[py.DottedName(v)]
			}
			if _, method := py.Attribute(fn); method == "getlist" {
				return "list"
			}
			if n.Start == at.Start && n.End == at.End {
				continue
			}
		}
		if t := castTypes[py.DottedName(fn)]; t != "" && len(args) > 0 {
			return t
		}
		return ""
	}
	return ""
}

// RouteMapSchema returns the JSON schema (draft 2020-12) of a [RouteMap].
func RouteMapSchema() ([]byte, error) {
	r := &jsonschema.Reflector{Anonymous: true, ExpandedStruct: true}
	s := r.Reflect(&RouteMap{})
	s.ID, s.Title = "", "Dewar route map"
	s.Description = "What a Flask project answers, route by route, as \"dewar routes --json\" prints it."
	out, err := json.MarshalIndent(s, "", "  ")
	return append(out, '\n'), err
}

// richFields returns the names of the fields that some page of the project
// edits as rich text: a <textarea> that belongs to one of the usual editors,
// by its class, id or data attributes.
func (p *Project) richFields() map[string]bool {
	out := map[string]bool{}
	for _, f := range p.Files {
		if f.Kind != Template {
			continue
		}
		text := string(f.Data)
		for _, m := range textareaTag.FindAllString(text, 200) {
			name := nameAttribute.FindStringSubmatch(m)
			if name != nil && richEditor.MatchString(m) {
				out[name[1]] = true
			}
		}
	}
	return out
}

var (
	textareaTag   = regexp.MustCompile(`(?is)<textarea\b[^>]{1,1000}>`)
	nameAttribute = regexp.MustCompile(`(?i)\bname\s*=\s*["']?([\w.\-]{1,100})`)
	richEditor    = regexp.MustCompile(`(?i)(?:ckeditor|tinymce|mce-?editor|summernote|wysiwyg|rich-?_?text|quill|trix|froala|redactor|jodit|suneditor|markdown-editor|simplemde|easymde)`)
)
