package guard

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/dewar-security/dewar/internal/policy"
)

type override struct {
	*Override
	methods []string
}

// unmovable layers cannot be weakened for a route: who is asking and what is
// asked must be known before the route is.
var unmovable = []string{"client"}

func compileOverrides(in []Override, layers []Bound) ([]override, error) {
	var out []override
	for i := range in {
		o := &in[i]
		where := fmt.Sprintf("route %q", o.Path)
		if err := CheckPattern(o.Path); err != nil {
			return nil, fmt.Errorf("[[route]]: path: %w", err)
		}
		if isRule(o.Path) {
			if _, err := compileRule(o.Path); err != nil {
				return nil, fmt.Errorf("[[route]]: path: %q is no rule of Flask's: %w", o.Path, err)
			}
		}
		if strings.TrimSpace(o.Reason) == "" {
			return nil, fmt.Errorf("[[route]]: %s: no reason: say why this route is different", where)
		}
		var methods []string
		for _, m := range o.Methods {
			m = strings.ToUpper(strings.TrimSpace(m))
			if m == "" || strings.ContainsAny(m, " \t,;") {
				return nil, fmt.Errorf("[[route]]: %s: %q is no method", where, m)
			}
			methods = append(methods, m)
		}
		for name := range o.Modes {
			if slices.Contains(unmovable, name) {
				return nil, fmt.Errorf("[[route]]: %s: layer %q works on every route: every other layer relies on it", where, name)
			}
			if !slices.ContainsFunc(layers, func(b Bound) bool { return b.Spec.Name == name }) {
				var names []string
				for _, b := range layers {
					names = append(names, b.Spec.Name)
				}
				return nil, fmt.Errorf("[[route]]: %s: there is no layer %q: write one of %s", where, name, strings.Join(names, ", "))
			}
		}
		for _, b := range layers {
			if k, ok := b.Layer.(OverrideChecker); ok {
				if err := k.CheckOverride(o); err != nil {
					return nil, fmt.Errorf("[[route]]: %s: %w", where, err)
				}
			}
		}
		out = append(out, override{o, methods})
	}
	return out, nil
}

// match returns the first override for a request. HEAD is GET to a route.
func (c *Chain) match(x *Exchange) *Override {
	for i := range c.overrides {
		o := &c.overrides[i]
		if o.matches(o.methods, x.Request.Method, x.Path) {
			return o.Override
		}
	}
	return nil
}

// Matches reports whether the override is for a request with a method and a
// decoded path, as a chain with it would. HEAD is GET to a route.
func (o *Override) Matches(method, path string) bool {
	var methods []string
	for _, m := range o.Methods {
		methods = append(methods, strings.ToUpper(strings.TrimSpace(m)))
	}
	return o.matches(methods, method, path)
}

// matches is [Override.Matches] with the methods as compileOverrides has them.
func (o *Override) matches(methods []string, method, path string) bool {
	if len(methods) > 0 && !slices.Contains(methods, method) && (method != http.MethodHead || !slices.Contains(methods, http.MethodGet)) {
		return false
	}
	if isRule(o.Path) {
		rx, err := compileRule(o.Path)
		return err == nil && rx.MatchString(path)
	}
	return MatchPattern(o.Path, path)
}

// isRule reports whether an override's path is a rule of Flask's, as the app's
// own routes are written: /orders/<int:order_id>.
func isRule(p string) bool { return strings.IndexByte(p, '<') >= 0 }

// rules are the compiled rules of all overrides: as many as the settings ever
// had.
var rules sync.Map

func compileRule(p string) (*regexp.Regexp, error) {
	if rx, ok := rules.Load(p); ok {
		return rx.(*regexp.Regexp), nil
	}
	rx, err := policy.Rule(p)
	if err == nil {
		rules.Store(p, rx)
	}
	return rx, err
}
