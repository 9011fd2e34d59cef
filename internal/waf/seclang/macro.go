package seclang

import (
	"fmt"
	"strings"

	"github.com/corazawaf/coraza/v3/types/variables"
)

// macro is text with %{…} in it, as Coraza's macro package reads it.
type macro struct {
	text   string
	tokens []token
}

// token is text, or a variable if v is not Unknown; text is then what stands
// between the braces, which is what a missing variable expands to.
type token struct {
	text string
	v    variables.RuleVariable
	key  string
	slot int // of a TX variable, set by compile

	single bool
	views  []view
}

// constant reports whether m expands to itself.
func (m *macro) constant() bool {
	for _, t := range m.tokens {
		if t.v != variables.Unknown {
			return false
		}
	}
	return true
}

func parseMacro(s string) (*macro, error) {
	m := &macro{text: s}
	for rest := s; rest != ""; {
		i := strings.Index(rest, "%{")
		if i < 0 {
			m.tokens = append(m.tokens, token{text: rest})
			break
		}
		if i > 0 {
			m.tokens = append(m.tokens, token{text: rest[:i]})
		}
		inner, after, ok := strings.Cut(rest[i+2:], "}")
		if !ok || strings.Contains(inner, "%{") {
			return nil, fmt.Errorf("%w: macro %q", errForeign, s)
		}
		name, key, _ := strings.Cut(inner, ".")
		v, err := variables.Parse(name)
		if err != nil {
			return nil, fmt.Errorf("%w: macro %q", errForeign, s)
		}
		m.tokens = append(m.tokens, token{text: inner, v: v, key: strings.ToLower(key), single: singles[v], views: views[v]})
		rest = after
	}
	return m, nil
}
