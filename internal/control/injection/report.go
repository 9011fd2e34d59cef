package injection

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
)

// Report sums up what the waf layer refused or would have refused, as the
// security log tells it.
type Report struct {
	Denied   int       `json:"refused"`
	Observed int       `json:"observed"`
	First    time.Time `json:"first,omitzero"`
	Last     time.Time `json:"last,omitzero"`
	Groups   []*Group  `json:"groups"`

	index map[groupKey]*Group
}

type groupKey struct {
	method, route, parameter string
	rule                     int
}

// Group is one rule on one parameter of one route.
type Group struct {
	Method    string    `json:"method"`
	Route     string    `json:"route"`
	Parameter string    `json:"parameter"`
	Rule      int       `json:"rule"`
	Requests  int       `json:"requests"`
	Observed  int       `json:"observed"`
	Clients   int       `json:"clients"`
	More      bool      `json:"more_clients,omitempty"` // than were counted
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`

	clients map[netip.Prefix]bool
}

// Bounds of a report's memory: a hostile log must not grow it.
const (
	maxGroups  = 10_000
	maxClients = 1_000
)

// Add counts an event; those of other layers are left alone.
func (r *Report) Add(e *event.Event) {
	if e.Layer != wafSpec.Name || e.Verdict != "deny" && e.Verdict != "observe" {
		return
	}
	if e.Verdict == "deny" {
		r.Denied++
	} else {
		r.Observed++
	}
	if r.First.IsZero() || e.Time.Before(r.First) {
		r.First = e.Time
	}
	if e.Time.After(r.Last) {
		r.Last = e.Time
	}
	if r.index == nil {
		r.index = map[groupKey]*Group{}
	}
	matches := strings.Fields(e.Attributes["waf.matches"])
	if len(matches) == 0 {
		matches = []string{"0@" + e.Reason}
	}
	for _, m := range matches {
		id, place, _ := strings.Cut(m, "@")
		rule, err := strconv.Atoi(id)
		if err != nil {
			continue
		}
		key := groupKey{e.Method, routeOf(nil, e.Method, e.Path), place, rule}
		g := r.index[key]
		if g == nil {
			if len(r.index) >= maxGroups {
				continue
			}
			g = &Group{Method: key.method, Route: key.route, Parameter: place, Rule: rule, First: e.Time, clients: map[netip.Prefix]bool{}}
			r.index[key] = g
			r.Groups = append(r.Groups, g)
		}
		g.Requests++
		if e.Verdict == "observe" {
			g.Observed++
		}
		if e.Time.Before(g.First) {
			g.First = e.Time
		}
		if e.Time.After(g.Last) {
			g.Last = e.Time
		}
		if p := guard.ClientNetwork(e.Client); p.IsValid() && !g.clients[p] {
			if len(g.clients) < maxClients {
				g.clients[p] = true
				g.Clients++
			} else {
				g.More = true
			}
		}
	}
}

// Sort puts the groups that most clients meet first.
func (r *Report) Sort() {
	slices.SortFunc(r.Groups, func(a, b *Group) int {
		return cmp.Or(cmp.Compare(b.Clients, a.Clients), cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Route, b.Route), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Parameter, b.Parameter))
	})
}

// fewClients is how many clients must have met a rule before leaving it out is
// proposed: what one client meets may be an attack.
const fewClients = 3

// Proposal returns exclusions, as TOML, for what several clients met.
func (r *Report) Proposal() string {
	var lines []Line
	for _, g := range r.Groups {
		if g.Clients >= fewClients {
			lines = append(lines, Line{Method: g.Method, Route: g.Route, Parameter: g.Parameter, Rule: g.Rule, Requests: g.Requests})
		}
	}
	return Proposal(lines)
}
