package injection

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/waf"
)

// Config is the [injection] section of dewar.toml: the web application
// firewall.
type Config struct {
	Mode              guard.Mode  `toml:"mode" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the waf layer."`
	Routes            guard.Mode  `toml:"routes" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the routes layer: what the app has no route for gets the app's own 404 or 405 without reaching it, where that is certain; the rest is only noted."`
	Parameters        guard.Mode  `toml:"parameters" default:"observe" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the parameters layer: fields that by the source the route does not read, or not as what they are. The source may be misread, and apps answer wrong values themselves: so the default is to note them."`
	Fields            []FieldRule `toml:"field" jsonschema_description:"What single fields of single routes may be, where the source does not show it, or more strictly than it does. dewar policy propose writes them from real traffic."`
	Learn             bool        `toml:"learn" jsonschema_description:"Learn which fields real traffic brings to each route, of what type and length, without keeping values: for dewar policy report and dewar policy propose."`
	VirtualPatches    guard.Mode  `toml:"virtual-patches" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the virtual-patches layer: findings of the audit at the start are held shut until they are fixed."`
	PatchFrom         string      `toml:"patch-from" default:"high" jsonschema:"enum=low,enum=medium,enum=high,enum=critical" jsonschema_description:"Lowest severity of a finding that is held shut; of others, and of those the audit is not rather sure of, it is only noted what would be refused."`
	Paranoia          int         `toml:"paranoia" default:"1" jsonschema:"minimum=1,maximum=4" jsonschema_description:"Paranoia level of the OWASP Core Rule Set. 1 suits every app; higher levels catch more and refuse more honest requests."`
	Threshold         int         `toml:"threshold" default:"5" jsonschema:"minimum=1" jsonschema_description:"Anomaly score at which a request is refused; one critical match scores 5."`
	Structure         bool        `toml:"structure" default:"true" jsonschema_description:"Judge values by grammar as well: refuse what a database, shell, browser or template engine would read structure in, also in Base64, and let pass what the rules refuse though it is prose, or only data to the interpreter that they are about."`
	InspectBody       guard.Size  `toml:"inspect-body" default:"256 KiB" jsonschema_description:"How much of a body is inspected, contents of files not counted. A larger value costs CPU: about 6 ms per KiB of text today."`
	Oversize          string      `toml:"oversize" default:"refuse" jsonschema:"enum=refuse,enum=inspect-prefix" jsonschema_description:"What happens to a body with more to inspect than inspect-body: refuse (413), or inspect-prefix, which looks at the beginning only and lets attacks hide behind padding."`
	MaxArguments      int         `toml:"max-arguments" default:"4000" jsonschema:"minimum=1" jsonschema_description:"Most values in a query, form or JSON body."`
	Rules             []string    `toml:"rules" file:"start" jsonschema_description:"SecLang files with rules of your own, loaded after the Core Rule Set; relative to where Dewar is started."`
	Exclude           []Exclusion `toml:"exclude" jsonschema_description:"Rules or parameters left out on every route; for single routes use waf in [[route]]."`
	Responses         bool        `toml:"responses" jsonschema_description:"Inspect the beginning of text responses for leaks as well. Costly: 50 ms of CPU for 100 KiB of HTML."`
	Record            string      `toml:"record" jsonschema_description:"File to which inspected requests are recorded for dewar waf replay, secrets replaced by texts of the same shape; empty: nothing is recorded."`
	RecordSize        guard.Size  `toml:"record-size" default:"64 MiB" jsonschema_description:"How much of the recorded traffic is kept."`
	ResponseThreshold int         `toml:"response-threshold" default:"4" jsonschema:"minimum=1" jsonschema_description:"Anomaly score at which a response is replaced."`
}

// Exclusion is one [[injection.exclude]] table.
type Exclusion struct {
	Rules      []int    `toml:"rules" jsonschema_description:"Ids of rules, as events name them; empty means every rule that looks at parameters."`
	Parameters []string `toml:"parameters" jsonschema_description:"Query, form or JSON parameters (a.b, a.*.b) that the rules leave out; empty means that the rules are off altogether."`
	Reason     string   `toml:"reason" jsonschema_description:"Why. Required: it stands in evidence."`
}

// FieldRule is one [[injection.field]] table.
type FieldRule struct {
	Route     string `toml:"route" jsonschema_description:"The rule of the route, as dewar routes prints it: /order/<int:id>."`
	In        string `toml:"in" jsonschema:"enum=query,enum=form,enum=json,enum=file" jsonschema_description:"Where the field stands."`
	Name      string `toml:"name" jsonschema_description:"The field's name; of JSON that of a key of the outermost object."`
	Type      string `toml:"type" jsonschema:"enum=,enum=int,enum=float,enum=UUID" jsonschema_description:"What values must be; empty: any text."`
	Repeated  bool   `toml:"repeated" jsonschema_description:"The app reads all values of a field that comes several times."`
	MaxLength int    `toml:"max-length" jsonschema:"minimum=0" jsonschema_description:"Most bytes of a value; 0: no bound of its own."`
	Reason    string `toml:"reason" jsonschema_description:"Why. Required."`
}

// Problems reports settings that cannot be used. Ids of rules and the contents
// of rule files are checked when the rules are loaded.
func (c *Config) Problems() []guard.Problem {
	var out []guard.Problem
	add := func(key, format string, args ...any) {
		out = append(out, guard.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	if c.Paranoia < 0 || c.Paranoia > 4 {
		add("paranoia", "%d: choose 1 to 4", c.Paranoia)
	}
	for _, n := range []struct {
		key string
		v   int64
	}{{"threshold", int64(c.Threshold)}, {"response-threshold", int64(c.ResponseThreshold)}, {"inspect-body", int64(c.InspectBody)}, {"record-size", int64(c.RecordSize)}, {"max-arguments", int64(c.MaxArguments)}} {
		if n.v < 0 {
			add(n.key, "must be positive")
		}
	}
	if c.PatchFrom != "" && !slices.Contains(severities, c.PatchFrom) {
		add("patch-from", "%q: write one of %s", c.PatchFrom, strings.Join(severities, ", "))
	}
	switch c.Oversize {
	case "", "refuse", "inspect-prefix":
	default:
		add("oversize", "%q: write \"refuse\" or \"inspect-prefix\"", c.Oversize)
	}
	for i, f := range c.Fields {
		switch {
		case !strings.HasPrefix(f.Route, "/"):
			add("field", "number %d: route %q does not begin with a slash: write the rule as dewar routes prints it", i+1, f.Route)
		case !slices.Contains([]string{"query", "form", "json", "file"}, f.In):
			add("field", "number %d: in %q: write query, form, json or file", i+1, f.In)
		case f.Name == "":
			add("field", "number %d has no name", i+1)
		case f.Type != "" && typeChecks[f.Type] == nil:
			add("field", "number %d: type %q: write int, float or UUID, or leave it out", i+1, f.Type)
		case f.MaxLength < 0:
			add("field", "number %d: max-length must be positive", i+1)
		case strings.TrimSpace(f.Reason) == "":
			add("field", "number %d gives no reason: add reason = \"why the source does not show it\"", i+1)
		}
	}
	for i, x := range c.Exclude {
		if strings.TrimSpace(x.Reason) == "" {
			add("exclude", "number %d gives no reason: add reason = \"why these rules are left out\"", i+1)
		}
		if len(x.Rules) == 0 && len(x.Parameters) == 0 {
			add("exclude", "number %d names neither rules nor parameters", i+1)
		}
	}
	return out
}

// engineConfig translates the settings for package waf, which has defaults of
// its own for zero values; they are the same as the default tags.
func (c Config) engineConfig() waf.Config {
	out := waf.Config{
		Paranoia:          c.Paranoia,
		InboundThreshold:  c.Threshold,
		OutboundThreshold: c.ResponseThreshold,
		MaxInspect:        int64(c.InspectBody),
		MaxArguments:      c.MaxArguments,
		Partial:           c.Oversize == "inspect-prefix",
		RuleFiles:         append([]string(nil), c.Rules...),
		Responses:         c.Responses,
		Structure:         c.Structure,
	}
	for _, x := range c.Exclude {
		out.Exclude = append(out.Exclude, waf.Exclusion{Rules: x.Rules, Parameters: x.Parameters})
	}
	return out
}
