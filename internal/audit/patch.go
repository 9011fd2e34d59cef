package audit

import (
	"cmp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/payload"
	"github.com/dewar-security/dewar/internal/pyflow"
)

// Patch is what a guard needs to know to hold a finding shut until it is
// fixed: which parameters of which routes flow into the fault, and by which
// language their values are judged there.
type Patch struct {
	Check       string             `json:"check" jsonschema_description:"The rule: DW-INJECTION-001."`
	Control     evidence.ControlID `json:"control"`
	Fingerprint string             `json:"fingerprint" jsonschema_description:"Names the finding by content, as reports of the audit do."`
	Message     string             `json:"message" jsonschema_description:"What is wrong, as the finding says it."`
	File        string             `json:"file"`
	Line        int                `json:"line"`
	Severity    string             `json:"severity" jsonschema:"enum=low,enum=medium,enum=high,enum=critical"`
	Confidence  string             `json:"confidence" jsonschema:"enum=possible,enum=likely,enum=certain"`
	Language    string             `json:"language" jsonschema_description:"By which values are judged: sql, shell, path, url, …"`

	Parameters []PatchParameter `json:"parameters"`
	// Open says what of the finding's sources no parameter here covers. With
	// anything in it the patch makes the attack harder and no more.
	Open []string `json:"open,omitempty" jsonschema_description:"Sources of the finding that no parameter covers; empty when all are covered."`
}

// PatchParameter is one parameter of one route.
type PatchParameter struct {
	Rule     string   `json:"rule" jsonschema_description:"The route's rule; * where a hook reads the parameter on every route."`
	Endpoint string   `json:"endpoint,omitempty"`
	Methods  []string `json:"methods,omitempty"`
	In       string   `json:"in" jsonschema:"enum=query,enum=form,enum=json,enum=path,enum=header,enum=cookie,enum=file,enum=content,enum=body" jsonschema_description:"Where it stands; file is the name of an uploaded file, content what is in it."`
	Name     string   `json:"name,omitempty" jsonschema_description:"Missing: every name."`
	Spot     string   `json:"spot,omitempty" jsonschema_description:"Where in the text the value stands: a quotation mark, bare, text, unquoted, rich, code, filter, name, below, whole; raw where a document is read as it comes; match, search or full for how a pattern is matched; missing where that is not known."`
	Pattern  string   `json:"pattern,omitempty" jsonschema_description:"The regular expression that the value is matched against."`
	Names    []string `json:"names,omitempty" jsonschema_description:"Names of fields that are refused: privileged attributes that no form of the app offers."`
	Watched  []string `json:"watched,omitempty" jsonschema_description:"Names of fields that are noted: other attributes that no form offers."`
}

// patchable are the kinds of sources that a guard sees by their names, and those
// of which it sees the whole: bodies and files, which are judged as documents.
var (
	patchable = []string{"query", "form", "json", "path", "header", "cookie", "file"}
	documents = map[string]string{"body": "body", "file": "content", "file-content": "content"}
)

// Patches returns the patches for findings of rules that have a language to
// judge by, in the order of the findings. The project's flow has been run.
func (p *Project) Patches(flow *pyflow.Result, findings []Finding) []Patch {
	if flow == nil {
		return nil
	}
	at := map[entryPlace][]*pyflow.Entry{}
	for _, e := range flow.Entries {
		span := p.FlowSpan(e.At)
		at[entryPlace{span.File, span.Line}] = append(at[entryPlace{span.File, span.Line}], e)
	}
	routes := map[*pyflow.Entry][]*flask.Route{}
	for _, r := range p.Flask.Routes {
		for _, e := range p.entriesOf(r, at) {
			routes[e] = append(routes[e], r)
		}
	}
	unmounted := map[*pyflow.Entry]bool{}
	for _, r := range p.Flask.Unmounted {
		for _, e := range p.entriesOf(r, at) {
			unmounted[e] = true
		}
	}
	rich := p.richFields()
	var out []Patch
	for i := range findings {
		f := &findings[i]
		if f.Rule.Patch == "" || len(f.Sources) == 0 {
			continue
		}
		patch := Patch{
			Check: f.Rule.ID, Control: f.Rule.Control, Fingerprint: f.Fingerprint, Message: f.Message, File: f.Span.File, Line: f.Span.Line,
			Severity: f.Rule.Severity.String(), Confidence: f.Sure().String(), Language: cmp.Or(f.Language, f.Rule.Patch),
		}
		for _, s := range f.Sources {
			patch.cover(s, flow, routes, unmounted)
		}
		for j := range patch.Parameters {
			if x := &patch.Parameters[j]; patch.Language == "html" && (x.In == "form" || x.In == "json") && rich[x.Name] {
				x.Spot = "rich"
				patch.Open = append(patch.Open, x.Name+": people write markup there, and only what runs script is refused")
			}
		}
		if patch.Language == "path" && slices.ContainsFunc(patch.Parameters, func(x PatchParameter) bool { return x.Spot != "below" }) {
			patch.Open = append(patch.Open, "the whole path may be the client's: absolute ones are not refused")
		}
		if len(patch.Parameters) > 0 {
			out = append(out, patch)
		}
	}
	return out
}

// cover adds the parameters of one source, or says why it has none.
func (x *Patch) cover(s Source, flow *pyflow.Result, routes map[*pyflow.Entry][]*flask.Route, unmounted map[*pyflow.Entry]bool) {
	open := func(why string) {
		what := s.Kind
		if s.Name != "" {
			what += " " + s.Name
		}
		if why = what + ": " + why; !slices.Contains(x.Open, why) {
			x.Open = append(x.Open, why)
		}
	}
	whole := ""
	if slices.Contains(payload.Documents, x.Language) {
		whole = documents[s.Kind]
	}
	if !slices.Contains(patchable, s.Kind) && whole == "" || whole == "content" && s.Kind != "file" && !strings.HasPrefix(s.Note, "content of an uploaded") {
		open("no named part of the request")
		return
	}
	if s.Open != "" {
		open(s.Open)
	}
	if s.Name == "" && s.Kind != "file" && whole == "" && x.Language != "attribute" {
		open("it has no name that is known")
		if s.Kind == "header" || s.Kind == "cookie" || s.Kind == "path" {
			return
		}
	}
	add := func(param PatchParameter) {
		ins := []string{s.Kind}
		if s.Values {
			ins = []string{"query", "form"}
		}
		for _, in := range ins {
			param.In, param.Name, param.Spot = in, s.Name, s.Spot
			param.Pattern, param.Names, param.Watched = s.Pattern, s.Names, s.Watched
			if whole != "" {
				param.In = whole
			}
			if s.Kind == "file" || whole != "" {
				param.Name = "" // a name of a file says nothing of its field's
			}
			i := slices.IndexFunc(x.Parameters, func(o PatchParameter) bool {
				return o.Rule == param.Rule && o.Endpoint == param.Endpoint && slices.Equal(o.Methods, param.Methods) && o.In == param.In && o.Name == param.Name && o.Pattern == param.Pattern
			})
			switch {
			case i < 0:
				x.Parameters = append(x.Parameters, param)
			default:
				x.Parameters[i].Spot = bothSpots(x.Parameters[i].Spot, param.Spot)
			}
		}
	}
	read := 0
	for _, e := range flow.Entries {
		if !slices.ContainsFunc(e.Fields, func(f pyflow.Field) bool {
			return f.Kind == s.Kind && f.At == s.at && (f.Name == s.Name || s.Kind == "file" || whole != "")
		}) {
			continue
		}
		read++
		switch {
		case len(routes[e]) > 0:
			for _, r := range routes[e] {
				add(PatchParameter{Rule: r.Rule, Endpoint: r.Endpoint, Methods: r.Allowed()})
			}
		case strings.Contains(e.Path, "before_") || strings.Contains(e.Path, "after_") || e.Kind == "hook":
			add(PatchParameter{Rule: "*"})
		case unmounted[e]:
			open("nothing was seen to register " + e.Name)
		default:
			open("read by " + e.Name + ", which is no route")
		}
	}
	if read == 0 {
		open("it was not seen on which route it is read")
	}
}
