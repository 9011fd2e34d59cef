// Package policy says what the source of an app expects of each request: which
// paths and methods it answers, and what it reads from where and as what. It
// is the audit's route map, made fast to ask:
//
//	p, err := policy.Decode(file)       // dewar.policy.json
//	m := p.Match("POST", "/cart/7")     // what the app's router would pick from
//	typ, known := m.Type(policy.Form, "quantity") // "int", true
//
// The map comes from reading the program, so it may be incomplete, and says
// where. Nothing in here refuses a request; a caller that wants to asks
// [Match.Certain] first. Every answer is on the safe side: where several
// routes could answer, a type counts only if all of them agree on it, and a
// field is unknown to the app only if none of them can read it.
//
// # How paths are matched
//
// As Werkzeug's router does, with the converters string, int, float, path,
// uuid and any; a converter of the project counts by the expression that the
// audit found, or else accepts anything. A rule that ends with a slash also
// answers without it (by a redirect), and repeated slashes are merged (by a
// redirect, too). Hosts and subdomains are not looked at.
package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Version is the version of the file's form.
const Version = 1

// maxFile bounds a policy file, in bytes.
const maxFile = 64 << 20

// Where a field stands.
const (
	Query  = "query"
	Form   = "form"
	JSON   = "json"
	File   = "file"
	Header = "header"
	Cookie = "cookie"
)

// Policy is a route map. It is safe for concurrent use.
type Policy struct {
	routes  []*Route
	gaps    []Gap
	content json.RawMessage
	// tree finds the rules that can match a path by its first parts.
	tree node

	patches []*Patch
	// everywhere are patched parameters that a hook reads on every route.
	everywhere []Patched
}

// Route is one route of the app.
type Route struct {
	Rule     string   `json:"rule"`
	Methods  []string `json:"methods"`
	Answers  []string `json:"answers"`
	Endpoint string   `json:"endpoint"`
	File     string   `json:"file"`
	Line     int      `json:"line"`

	Params      []Param `json:"params"`
	Fields      []Field `json:"fields"`
	OtherFields bool    `json:"other_fields"`
	ReadsBody   bool    `json:"reads_body"`
	// CSRF is "checked" where an extension reads a token from the form.
	CSRF string `json:"csrf"`

	Login struct {
		Required bool     `json:"required"`
		Roles    []string `json:"roles"`
	} `json:"login"`
	Kind  string   `json:"kind"`
	Kinds []string `json:"kinds"`
	Sinks []string `json:"sinks"`
	// Writes says that the view changes what the app stores, whatever the
	// method.
	Writes bool `json:"writes_state"`
	// Extensions are those that the code compares the names of uploaded files
	// with before it keeps them, in lower case without the dot.
	Extensions []string `json:"extensions"`

	patched []Patched
	capture func() *capture // what its variable parts match
}

// Is says whether the route is for kind: login, logout, reset, upload, ….
func (r *Route) Is(kind string) bool { return r.Kind == kind || slices.Contains(r.Kinds, kind) }

// Param is one variable part of a rule.
type Param struct {
	Name      string `json:"name"`
	Converter string `json:"converter"`
	Args      string `json:"args"`
	Type      string `json:"type"`
	Regex     string `json:"regex"`
}

// Field is one named part of the request that a route reads.
type Field struct {
	In   string `json:"in"`
	Name string `json:"name"`
	Type string `json:"type"`
}

// Patch is a finding of the audit that is not fixed yet, with the parameters by
// which data flows into the fault: what the guard holds shut meanwhile.
type Patch struct {
	Check       string `json:"check"`   // the rule: DW-INJECTION-001
	Control     string `json:"control"` // the promise that the finding breaks
	Fingerprint string `json:"fingerprint"`
	Message     string `json:"message"`
	File        string `json:"file"`
	Line        int    `json:"line"`
	Severity    string `json:"severity"`   // low, medium, high, critical
	Confidence  string `json:"confidence"` // possible, likely, certain
	// Language is the judge of values: payload.Sink.
	Language   string           `json:"language"`
	Parameters []PatchParameter `json:"parameters"`
	// Open are the finding's sources that no parameter covers. Unbound says
	// that a parameter names a route which the map does not have.
	Open    []string `json:"open"`
	Unbound bool     `json:"-"`
}

// PatchParameter is one parameter of one route; rule * is every route, a
// parameter without a name every name.
type PatchParameter struct {
	Rule     string   `json:"rule"`
	Endpoint string   `json:"endpoint"`
	Methods  []string `json:"methods"`
	In       string   `json:"in"`
	Name     string   `json:"name"`
	Spot     string   `json:"spot"` // payload.Sink.Spot
	Pattern  string   `json:"pattern"`
	Names    []string `json:"names"`
	Watched  []string `json:"watched"`
}

// Patched is a parameter of a route with the patch that it belongs to.
type Patched struct {
	*Patch
	In, Name, Spot string
	// Pattern is what the value is matched against, Names and Watched are
	// fields that must not come, or are to be noted.
	Pattern        string
	Names, Watched []string
}

// Gap is something in the source that was not understood: the map may lack
// routes because of it.
type Gap struct {
	File string `json:"file"`
	Line int    `json:"line"`
	What string `json:"what"`
}

// Decode reads a route map as "dewar routes --json" prints it. A rule that
// cannot be read is an error that names the rule.
func Decode(r io.Reader) (*Policy, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("policy: more than %d MiB", maxFile>>20)
	}
	var file struct {
		Version   int             `json:"version"`
		Routes    []*Route        `json:"routes"`
		Content   json.RawMessage `json:"content"`
		Unmounted []*Route        `json:"unmounted"`
		Unknown   []Gap           `json:"not_understood"`
		Patches   []*Patch        `json:"patches"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			line := 1 + strings.Count(string(data[:min(int(syntax.Offset), len(data))]), "\n")
			return nil, fmt.Errorf("policy: line %d: %w", line, err)
		}
		return nil, fmt.Errorf("policy: %w", err)
	}
	if file.Version != Version {
		return nil, fmt.Errorf("policy: version %d: this Dewar reads version %d; make the file again with \"dewar routes --json\"", file.Version, Version)
	}
	p := &Policy{gaps: file.Unknown, content: file.Content}
	for i, route := range file.Routes {
		if route == nil {
			return nil, fmt.Errorf("policy: route %d is null", i+1)
		}
		if err := p.add(route); err != nil {
			return nil, fmt.Errorf("policy: route %d, rule %q: %w", i+1, route.Rule, err)
		}
	}
	// What nothing was seen to register may be registered all the same, at
	// a prefix that nobody knows.
	for _, route := range file.Unmounted {
		if route != nil {
			p.gaps = append(p.gaps, Gap{File: route.File, Line: route.Line, What: "route " + route.Rule + " of a blueprint that nothing was seen to register"})
		}
	}
	return p, p.bind(file.Patches)
}

// bind gives the patches to their routes.
func (p *Policy) bind(patches []*Patch) error {
	for i, x := range patches {
		if x == nil || x.Check == "" || x.Fingerprint == "" || x.Language == "" {
			return fmt.Errorf("policy: patch %d is not complete", i+1)
		}
		for _, param := range x.Parameters {
			one := Patched{Patch: x, In: param.In, Name: param.Name, Spot: param.Spot, Pattern: param.Pattern, Names: param.Names, Watched: param.Watched}
			if param.Rule == "*" {
				p.everywhere = append(p.everywhere, one)
				continue
			}
			bound := false
			for exact := true; !bound; exact = false {
				for _, r := range p.routes {
					if r.Rule == param.Rule && r.Endpoint == param.Endpoint && (!exact || slices.Equal(r.Answers, param.Methods)) {
						r.patched = append(r.patched, one)
						bound = true
					}
				}
				if !exact {
					break
				}
			}
			x.Unbound = x.Unbound || !bound
		}
		p.patches = append(p.patches, x)
	}
	return nil
}

// Patches returns the findings that are held shut, in the file's order. They
// must not be changed.
func (p *Policy) Patches() []*Patch { return p.patches }

// Patched calls each with the patched parameters of a match: those of every
// route that could answer, and those that a hook reads on every route.
func (p *Policy) Patched(m Match, each func(*Route, Patched)) {
	for _, one := range p.everywhere {
		each(nil, one)
	}
	for _, r := range m.Routes {
		for _, one := range r.patched {
			each(r, one)
		}
	}
}

// New returns a policy of routes that are known otherwise than from a file: the
// rules of the app that runs. It has no gaps. A rule that cannot be read is an
// error that names it; no policy can be made of the others then, since what it
// answers would count as unknown.
func New(routes []*Route) (*Policy, error) {
	p := &Policy{}
	for _, r := range routes {
		if err := p.add(r); err != nil {
			return nil, fmt.Errorf("policy: rule %q: %w", r.Rule, err)
		}
	}
	return p, nil
}

// Routes returns all routes, in the file's order. They must not be changed.
func (p *Policy) Routes() []*Route { return p.routes }

// Gaps returns why the map may lack routes; none says that it is complete.
func (p *Policy) Gaps() []Gap { return p.gaps }

// Content returns what the app's templates put into pages, as package csp
// reads it; nil if nothing is known.
func (p *Policy) Content() []byte { return p.content }

// Match is what the app may do with a request.
type Match struct {
	// Routes are those whose rule matches the path and that answer the
	// method. The router picks one of them.
	Routes []*Route
	// Path says that a rule matches the path, whatever the method.
	Path bool
	// Others are the routes whose rule matches the path and that do not
	// answer the method.
	Others []*Route
	// complete says that no other route can exist.
	complete bool
}

// Certain says that the map has no gaps: a path without a rule is one that
// the app does not answer.
func (m Match) Certain() bool { return m.complete }

// Type returns as what the app reads a named field: "" is text. known is
// false when some route that could answer reads it as something else or not by
// that name, or may read fields whose names are not known.
func (m Match) Type(in, name string) (typ string, known bool) {
	for i, r := range m.Routes {
		if r.OtherFields {
			return "", false
		}
		j := slices.IndexFunc(r.Fields, func(f Field) bool { return f.In == in && f.Name == name })
		if j < 0 || i > 0 && r.Fields[j].Type != typ {
			return "", false
		}
		typ = r.Fields[j].Type
	}
	return typ, len(m.Routes) > 0
}

// Reads says whether some route that could answer may read the named field.
func (m Match) Reads(in, name string) bool {
	for _, r := range m.Routes {
		if r.OtherFields || slices.ContainsFunc(r.Fields, func(f Field) bool { return f.In == in && f.Name == name }) {
			return true
		}
	}
	return len(m.Routes) == 0
}

// Writes says whether every route that could answer changes what the app
// stores.
func (m Match) Writes() bool {
	for _, r := range m.Routes {
		if !r.Writes {
			return false
		}
	}
	return len(m.Routes) > 0
}

// Is says whether every route that could answer is for kind.
func (m Match) Is(kind string) bool {
	for _, r := range m.Routes {
		if !r.Is(kind) {
			return false
		}
	}
	return len(m.Routes) > 0
}
