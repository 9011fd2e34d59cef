package headers

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// policy is one serialized Content-Security-Policy taken apart (CSP3 section
// 2.2): directives in lower case with their sources in lower case.
type policy map[string][]string

// errPolicy is a policy that the observatory calls unparsable. Browsers go on
// with the first of two directives of one name, and ignore what is empty; its
// author meant something else.
var errPolicy = errors.New("not a policy")

// readPolicy takes one policy apart as browsers do: of two directives of one
// name the first counts; the others are in twice.
func readPolicy(text string) (p policy, twice []string) {
	p = policy{}
	for d := range strings.SplitSeq(text, ";") {
		words := strings.FieldsFunc(d, func(r rune) bool { return r == ' ' || r == '\t' || r == '\n' || r == '\f' || r == '\r' })
		if len(words) == 0 {
			continue
		}
		name := strings.ToLower(words[0])
		if _, ok := p[name]; ok {
			twice = append(twice, name)
			continue
		}
		sources := []string{}
		for _, w := range words[1:] {
			sources = append(sources, strings.ToLower(w))
		}
		if len(sources) == 0 && strings.HasSuffix(name, "-src") {
			sources = []string{"'none'"}
		}
		p[name] = sources
	}
	return p, twice
}

// readPolicies takes header fields apart as browsers do: policies are separated
// by commas, and one without a directive is none.
func readPolicies(fields []string) []policy {
	var all []policy
	for _, f := range fields {
		for text := range strings.SplitSeq(f, ",") {
			if p, _ := readPolicy(text); len(p) > 0 {
				all = append(all, p)
			}
		}
	}
	return all
}

// parsePolicies takes header fields apart as the observatory does. doubled
// reports a repeated report-uri or report-to, which does no harm.
func parsePolicies(fields []string) (all []policy, doubled bool, err error) {
	for _, f := range fields {
		for text := range strings.SplitSeq(f, ",") {
			text = strings.Trim(text, " \t\r\n\f")
			if len(text) < len("img-src")-1 {
				return nil, false, fmt.Errorf("%w: %q", errPolicy, text)
			}
			p, twice := readPolicy(text)
			for _, name := range twice {
				if name != "report-uri" && name != "report-to" {
					return nil, false, fmt.Errorf("%w: %s occurs twice", errPolicy, name)
				}
				doubled = true
			}
			all = append(all, p)
		}
	}
	return all, doubled, nil
}

// intersect combines policies that are in force together: a source must be
// allowed by all of them. A directive that only one policy has keeps its
// sources, and one without a common source allows nothing.
func intersect(all []policy) policy {
	out := policy{}
	for _, p := range all {
		for name, sources := range p {
			old, ok := out[name]
			if !ok {
				out[name] = slices.Clone(sources)
				continue
			}
			both := []string{}
			for _, s := range old {
				if slices.Contains(sources, s) || covers(sources, s) {
					both = append(both, s)
				}
			}
			for _, s := range sources {
				if !slices.Contains(both, s) && covers(old, s) {
					both = append(both, s)
				}
			}
			if len(both) == 0 {
				both = []string{"'none'"}
			}
			out[name] = both
		}
	}
	return out
}

// covers reports whether one of the sources allows everything that the host
// or scheme source s does.
func covers(sources []string, s string) bool {
	if strings.HasPrefix(s, "'") {
		return false // keywords, nonces and hashes mean only themselves
	}
	for _, x := range sources {
		switch {
		case x == s:
			return true
		case x == "*" && !strings.HasPrefix(s, "data:") && !strings.HasPrefix(s, "blob:") && !strings.HasPrefix(s, "filesystem:"):
			return true
		case strings.HasSuffix(x, ":") && strings.HasPrefix(s, x):
			return true
		}
	}
	return false
}

// sources returns the list that rules a kind of fetch: its own directive, or
// default-src, or everything.
func (p policy) sources(name string) []string {
	if s, ok := p[name]; ok {
		return s
	}
	if s, ok := p["default-src"]; ok {
		return s
	}
	return []string{"*"}
}

// named reports whether one of the policies has a directive.
func named(all []policy, name string) bool {
	return slices.ContainsFunc(all, func(p policy) bool { _, ok := p[name]; return ok })
}

// limits reports whether one of the policies says from where a kind of thing
// may come, and does not say "from anywhere".
func limits(all []policy, name string) bool {
	return slices.ContainsFunc(all, func(p policy) bool {
		list, ok := p[name]
		if !ok && strings.HasSuffix(name, "-src") {
			list, ok = p["default-src"]
		}
		return ok && !slices.ContainsFunc(list, anywhere)
	})
}

// restrictsScripts reports whether policies that are in force together hold
// scripts to what the app's author named: hosts, hashes, nonces. Where inline
// scripts run, or scripts from anywhere, an injected one runs, too.
func restrictsScripts(all []policy) bool {
	return slices.ContainsFunc(all, func(p policy) bool {
		if flags, ok := p["sandbox"]; ok && !slices.Contains(flags, "allow-scripts") {
			return true
		}
		for _, name := range [...]string{"script-src", "script-src-elem", "script-src-attr"} {
			list, ok := p[name]
			if !ok {
				list = p.sources("script-src")
			}
			// Browsers ignore 'unsafe-inline' beside a nonce, a hash or
			// 'strict-dynamic' (CSP3 section 6.7.3.2), and addresses beside
			// the last (6.7.2.4).
			dynamic := slices.Contains(list, "'strict-dynamic'")
			if slices.Contains(list, "'unsafe-inline'") && !dynamic && !anyPrefix(list, "'nonce-", "'sha256-", "'sha384-", "'sha512-") {
				return false
			}
			if !dynamic && name != "script-src-attr" && slices.ContainsFunc(list, anywhere) {
				return false
			}
		}
		return true
	})
}

// anywhere reports whether a source allows what anybody can put somewhere: a
// scheme of the web's, every host, or data:, which needs no place at all.
func anywhere(source string) bool {
	switch source {
	case "http:", "https:", "ws:", "wss:", "ftp:", "data:":
		return true
	}
	_, rest, ok := strings.Cut(source, "://")
	if !ok {
		rest = source
	}
	rest, _, _ = strings.Cut(rest, "/")
	host, _, _ := strings.Cut(rest, ":")
	return host == "*" || host == "*.*"
}
