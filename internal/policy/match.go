package policy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A node is a place between two slashes of rules: the fixed texts that can
// stand next, and the rules that have a variable part there.
type node struct {
	fixed map[string]*node
	// rules are tried by their expression, from this place on.
	rules []*rule
	// ends are rules that end here.
	ends []*rule
}

// rule is a compiled rule.
type rule struct {
	route *Route
	rx    *regexp.Regexp
}

// maxRule bounds a rule, in bytes.
const maxRule = 4 << 10

// part matches one variable part of a rule: <converter(args):name>.
var part = regexp.MustCompile(`<(?:([a-zA-Z_][a-zA-Z0-9_]*)(?:\((.*?)\))?:)?([a-zA-Z_][a-zA-Z0-9_]*)>`)

// add compiles the rule of route and puts it into the tree.
func (p *Policy) add(route *Route) error {
	if !strings.HasPrefix(route.Rule, "/") {
		return errors.New("a rule begins with a slash")
	}
	if len(route.Rule) > maxRule {
		return fmt.Errorf("longer than %d bytes", maxRule)
	}
	// The fixed beginning, up to the slash before the first variable part.
	fixed := route.Rule
	if i := strings.IndexByte(fixed, '<'); i >= 0 {
		fixed = fixed[:strings.LastIndexByte(fixed[:i], '/')+1]
	}
	n := &p.tree
	segments := strings.Split(fixed, "/")[1:]
	for i, s := range segments {
		if i == len(segments)-1 && s == "" {
			break
		}
		if n.fixed == nil {
			n.fixed = map[string]*node{}
		}
		if n.fixed[s] == nil {
			n.fixed[s] = &node{}
		}
		n = n.fixed[s]
	}
	r := &rule{route: route}
	if fixed == route.Rule {
		n.ends = append(n.ends, r)
	} else {
		expr, err := expression(route, "(?:")
		if err != nil {
			return err
		}
		route.capture = sync.OnceValue(func() *capture {
			c := &capture{}
			expr, err := expression(route, "(")
			if err == nil {
				c.rx, err = regexp.Compile(expr)
			}
			if err != nil {
				return nil
			}
			for _, m := range part.FindAllStringSubmatch(route.Rule, -1) {
				c.names = append(c.names, m[3])
			}
			if c.rx.NumSubexp() != len(c.names) {
				return nil
			}
			return c
		})
		if r.rx, err = regexp.Compile(expr); err != nil {
			return fmt.Errorf("cannot be compiled: %w", err)
		}
		n.rules = append(n.rules, r)
	}
	p.routes = append(p.routes, route)
	return nil
}

// expression returns what paths a rule matches. group begins a variable part.
func expression(route *Route, group string) (string, error) {
	var b strings.Builder
	b.WriteString(`^(?s:`)
	rest := strings.TrimSuffix(route.Rule, "/")
	for {
		m := part.FindStringSubmatchIndex(rest)
		if m == nil {
			break
		}
		b.WriteString(regexp.QuoteMeta(rest[:m[0]]))
		sub := func(i int) string {
			if m[2*i] < 0 {
				return ""
			}
			return rest[m[2*i]:m[2*i+1]]
		}
		b.WriteString(group + route.converter(sub(1), sub(2), sub(3)) + ")")
		rest = rest[m[1]:]
	}
	if strings.ContainsAny(rest, "<>") {
		return "", errors.New("a variable part is not closed or has no name")
	}
	b.WriteString(regexp.QuoteMeta(rest))
	b.WriteString(`/?)$`)
	return b.String(), nil
}

// capture tells what the variable parts of a rule match.
type capture struct {
	rx    *regexp.Regexp
	names []string
}

// PathValue returns what a variable part of the rule is for a path that the
// rule matches; ok is false for another name or path.
func (r *Route) PathValue(path, name string) (value string, ok bool) {
	if r.capture == nil {
		return "", false
	}
	c := r.capture()
	if c == nil {
		return "", false
	}
	i := slices.Index(c.names, name)
	if i < 0 {
		return "", false
	}
	m := c.rx.FindStringSubmatch(mergeSlashes(path))
	if m == nil {
		return "", false
	}
	return m[i+1], true
}

// Rule compiles one rule of Flask's, such as /orders/<int:order_id>, to what
// paths it matches, with or without a slash at the end. Converters of the
// project are errors: alone, a rule does not say what they accept.
func Rule(rule string) (*regexp.Regexp, error) {
	if !strings.HasPrefix(rule, "/") {
		return nil, errors.New("a rule begins with a slash")
	}
	if len(rule) > maxRule {
		return nil, fmt.Errorf("longer than %d bytes", maxRule)
	}
	for _, m := range part.FindAllStringSubmatch(rule, -1) {
		switch m[1] {
		case "", "default", "string", "int", "float", "uuid", "path", "any":
		default:
			return nil, fmt.Errorf("the converter %q is not one of Werkzeug's own", m[1])
		}
	}
	expr, err := expression(&Route{Rule: rule}, "(?:")
	if err != nil {
		return nil, err
	}
	return regexp.Compile(expr)
}

// converter returns the expression of one variable part, as Werkzeug's
// converters have it. What is not known accepts anything.
func (r *Route) converter(name, args, param string) string {
	switch name {
	case "", "default", "string":
		low, high := 1, -1
		for option := range strings.SplitSeq(args, ",") {
			key, value, _ := strings.Cut(option, "=")
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil || n < 0 || n > 1000 {
				continue
			}
			switch strings.TrimSpace(key) {
			case "length":
				low, high = n, n
			case "minlength":
				low = n
			case "maxlength":
				high = n
			}
		}
		if high < low && high >= 0 {
			return `[^/]+`
		}
		if high < 0 {
			return fmt.Sprintf(`[^/]{%d,}`, low)
		}
		return fmt.Sprintf(`[^/]{%d,%d}`, low, high)
	case "int":
		// signed=True allows the minus, and \d of Python's is a digit of any
		// script.
		return `-?\p{Nd}+`
	case "float":
		return `-?\p{Nd}+\.\p{Nd}+`
	case "uuid":
		return `[A-Fa-f0-9]{8}-[A-Fa-f0-9]{4}-[A-Fa-f0-9]{4}-[A-Fa-f0-9]{4}-[A-Fa-f0-9]{12}`
	case "path":
		return `[^/].*?`
	case "any":
		var words []string
		for w := range strings.SplitSeq(args, ",") {
			words = append(words, regexp.QuoteMeta(strings.Trim(strings.TrimSpace(w), `'"`)))
		}
		return strings.Join(words, "|")
	}
	// A converter of the project.
	if i := slices.IndexFunc(r.Params, func(p Param) bool { return p.Name == param }); i >= 0 && r.Params[i].Regex != "" {
		if expr, ok := widened(r.Params[i].Regex); ok {
			return expr
		}
	}
	return `.+?`
}

// classes are Python's for text in Go's words: there they know all scripts.
var classes = strings.NewReplacer(`\\`, `\\`, `\d`, `\p{Nd}`, `\w`, `\p{L}\p{M}\p{N}\p{Pc}`)

// widened returns an expression of Go's that accepts at least what one of
// Python's does; ok is false if none is known: for what Go has not, and for
// negated classes, which would become narrower.
func widened(expr string) (string, bool) {
	if strings.Contains(expr, "[^") && (strings.Contains(expr, `\d`) || strings.Contains(expr, `\w`)) || strings.Contains(expr, `\D`) || strings.Contains(expr, `\W`) || strings.Contains(expr, `\s`) || strings.Contains(expr, `\S`) || strings.Contains(expr, `\b`) || strings.Contains(expr, `\B`) || strings.Contains(expr, "(?") {
		return "", false
	}
	// Outside of a class \w stands for one.
	var b strings.Builder
	in := false
	for i := 0; i < len(expr); i++ {
		switch c := expr[i]; {
		case c == '\\' && i+1 < len(expr):
			next := classes.Replace(expr[i : i+2])
			if i++; !in && len(next) > len(`\p{Nd}`) {
				next = "[" + next + "]"
			}
			b.WriteString(next)
			continue
		case c == '[':
			in = true
		case c == ']':
			in = false
		}
		b.WriteByte(expr[i])
	}
	if _, err := regexp.Compile(b.String()); err != nil {
		return "", false
	}
	return b.String(), true
}

// Match returns the routes that a request may reach. path is decoded and
// without the query, as the app sees it.
func (p *Policy) Match(method, path string) Match {
	m := Match{complete: len(p.gaps) == 0}
	path = mergeSlashes(path)
	n := &p.tree
	rest := strings.TrimPrefix(path, "/")
	for {
		for _, r := range n.rules {
			if r.rx.MatchString(path) {
				m.found(r.route, method)
			}
		}
		if rest == "" {
			for _, r := range n.ends {
				m.found(r.route, method)
			}
			return m
		}
		segment := rest
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			// /a/ counts as /a, too: to say that a path may be answered
			// is the safe side.
			segment, rest = rest[:i], rest[i+1:]
		} else {
			rest = ""
		}
		if n = n.fixed[segment]; n == nil {
			return m
		}
	}
}

// Takes says whether the route answers a method. One without methods answers
// all.
func (r *Route) Takes(method string) bool {
	answers := r.Answers
	if len(answers) == 0 {
		answers = r.Methods
	}
	return slices.Contains(answers, method) || len(answers) == 0
}

func (m *Match) found(r *Route, method string) {
	m.Path = true
	if r.Takes(method) {
		m.Routes = append(m.Routes, r)
		return
	}
	m.Others = append(m.Others, r)
}

func mergeSlashes(path string) string {
	if !strings.Contains(path, "//") {
		return path
	}
	var b strings.Builder
	for i := range len(path) {
		if path[i] != '/' || i == 0 || path[i-1] != '/' {
			b.WriteByte(path[i])
		}
	}
	return b.String()
}
