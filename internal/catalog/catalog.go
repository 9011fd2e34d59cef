// Package catalog lists what Dewar is made of, each thing once: the controls
// in the order of the checklist ([All]), the layers in the order of traffic
// ([Layers]), the settings ([Config]). "dewar explain", the documentation,
// the SARIF metadata and the checklist are loops over these lists.
package catalog

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/control/abuse"
	"github.com/dewar-security/dewar/internal/control/authn"
	"github.com/dewar-security/dewar/internal/control/container"
	"github.com/dewar-security/dewar/internal/control/csrf"
	"github.com/dewar-security/dewar/internal/control/dependencies"
	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/control/egress"
	"github.com/dewar-security/dewar/internal/control/headers"
	"github.com/dewar-security/dewar/internal/control/injection"
	"github.com/dewar-security/dewar/internal/control/monitoring"
	"github.com/dewar-security/dewar/internal/control/secrets"
	"github.com/dewar-security/dewar/internal/control/session"
	"github.com/dewar-security/dewar/internal/control/settings"
	"github.com/dewar-security/dewar/internal/control/uploads"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/probe"
)

// All lists every control in the order of the checklist.
var All = []*control.Control{
	settings.Control,
	secrets.Control,
	injection.Control,
	uploads.Control,
	authn.Control,
	session.Control,
	csrf.Control,
	headers.Control,
	abuse.Control,
	dependencies.Control,
	container.Control,
	deployment.Control,
	monitoring.Control,
	egress.Control,
}

// Control returns the control named id, or nil.
func Control(id evidence.ControlID) *control.Control {
	i := slices.IndexFunc(All, func(c *control.Control) bool { return c.ID == id })
	if i < 0 {
		return nil
	}
	return All[i]
}

// Rules lists every audit rule, by control.
func Rules() []*audit.Rule {
	var out []*audit.Rule
	for _, c := range All {
		out = append(out, c.Rules...)
	}
	return out
}

// Checks lists every probe check, by control.
func Checks() []*probe.Check {
	var out []*probe.Check
	for _, c := range All {
		out = append(out, c.Checks...)
	}
	return out
}

// Preflights lists every preflight, by control.
func Preflights() []*guard.Preflight {
	var out []*guard.Preflight
	for _, c := range All {
		out = append(out, c.Preflights...)
	}
	return out
}

// Topic is something "dewar explain" can explain.
type Topic struct {
	Name    string
	Kind    string // "control", "rule", "layer", "preflight", "service", "check", "reason"
	Control *control.Control
	Rule    *audit.Rule
	Layer   *guard.Spec
	Pre     *guard.Preflight
	Service *guard.Service
	Check   *probe.Check
	Reason  *guard.Reason // of Layer, or of the chain itself when that is nil
}

// Topics lists everything that has a name a user can meet in a report.
func Topics() []Topic {
	var out []Topic
	for _, c := range All {
		out = append(out, Topic{Name: string(c.ID), Kind: "control", Control: c})
		for _, r := range c.Rules {
			out = append(out, Topic{Name: r.ID, Kind: "rule", Control: c, Rule: r})
		}
		for _, l := range c.Layers {
			out = append(out, Topic{Name: l.Name, Kind: "layer", Control: c, Layer: l})
			for i := range l.Reasons {
				out = append(out, Topic{Name: l.Reasons[i].Name, Kind: "reason", Control: c, Layer: l, Reason: &l.Reasons[i]})
			}
		}
		for _, p := range c.Preflights {
			out = append(out, Topic{Name: p.Name, Kind: "preflight", Control: c, Pre: p})
		}
		for _, s := range c.Services {
			out = append(out, Topic{Name: s.Name, Kind: "service", Control: c, Service: s})
		}
		for _, k := range c.Checks {
			out = append(out, Topic{Name: k.ID, Kind: "check", Control: c, Check: k})
		}
	}
	for i := range guard.Reasons {
		out = append(out, Topic{Name: guard.Reasons[i].Name, Kind: "reason", Reason: &guard.Reasons[i]})
	}
	return out
}

// Find returns every topic with that name, compared without regard to case. A
// layer may bear its control's name.
func Find(name string) []Topic {
	var out []Topic
	for _, t := range Topics() {
		if strings.EqualFold(t.Name, name) {
			out = append(out, t)
		}
	}
	return out
}

// Suggest returns " (did you mean X?)" for the topic nearest to name.
func Suggest(name string) string {
	var names []string
	for _, t := range Topics() {
		names = append(names, t.Name)
	}
	return (*loader)(nil).near(name, names)
}

// Validate reports every way in which the catalogue contradicts itself.
func Validate() error {
	seen := map[string]string{}
	for _, c := range All {
		if err := c.Validate(); err != nil {
			return err
		}
		var names []string
		for _, r := range c.Rules {
			names = append(names, r.ID)
		}
		for _, k := range c.Checks {
			names = append(names, k.ID)
		}
		for _, p := range c.Preflights {
			names = append(names, p.Name)
		}
		for _, n := range names {
			if other, dup := seen[n]; dup {
				return fmt.Errorf("%s is declared by %s and %s", n, other, c.ID)
			}
			seen[n] = string(c.ID)
		}
		for _, l := range c.Layers {
			if !slices.ContainsFunc(Layers, func(k Layer) bool { return k.Spec == l }) {
				return fmt.Errorf("control %s: layer %s is not in catalog.Layers", c.ID, l.Name)
			}
		}
		for _, r := range c.Rules {
			for _, m := range r.MitigatedBy {
				if !slices.ContainsFunc(Layers, func(k Layer) bool { return k.Spec.Name == m && k.Spec.Control == c.ID }) {
					return fmt.Errorf("rule %s: %q in MitigatedBy is no layer of %s", r.ID, m, c.ID)
				}
			}
		}
	}
	return nil
}
