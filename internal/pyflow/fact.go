package pyflow

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Fact is what is known about one name of a library. The verbs:
//
//	source KIND [map] ["note"]  reading or calling it gives data labelled KIND; map: by name, as request.args
//	sink KIND ARG…              a [Hit] where a labelled value may reach one of the arguments
//	use KIND                    a [Hit] wherever it is called (or, for a module, imported)
//	read KIND                   a [Hit] wherever it is read without being called
//	set KIND                    a [Hit] wherever the attribute (or any item of it, as x[k] = v) is assigned
//	returns PATH                calling it gives an instance of PATH (labels of arguments go nowhere unless passes stands, too)
//	is PATH                     the attribute is an instance of PATH
//	element PATH                iterating or indexing an instance gives instances of PATH
//	like PATH                   another name: everything known of PATH holds, with all below it
//	base PATH                   a class whose instances know all that PATH knows
//	passes ARG…                 the result has the labels of these arguments (default for what nothing is known of: all)
//	clean [KIND…]               the result has no labels, or is harmless for sinks of these kinds
//	disarms KIND…               the labels of the result are harmless for sinks of these kinds, whatever becomes of it
//	number | boolean            the result is a number (labels of the arguments kept), a truth value
//	chars CLASS                 the result has only these characters, as in a regexp class: chars a-zA-Z0-9_.-
//	drops CHARS                 the result has the argument's text without these characters
//	excludes TEXT…              the result never contains these texts
//	normalizes                  the result is the argument as a normalised path
//	checks KIND ARG             a true result means that the argument is harmless for sinks of KIND (* for all)
//	ensures KIND ARG            a normal return means so
//	never                       it does not return (abort, sys.exit)
//	calls ARG [VALUE…]          it calls the argument; VALUE: an argument's index whose labels it is given
//	entry KIND [ARG]            it registers a function called from outside (as decorator, or ARG: the function)
//	methods KIND PATTERN…       the methods with such names (* for any text) of the project's classes that derive
//	                            from it are called from outside
//	wraps                       as a decorator or called with a function it gives that function back
//	injects KIND "note"         as a decorator it calls the function with arguments of its own, labelled KIND
//	hands PATH                  what it registers is called with an instance of PATH first
//	template ARG                it renders the template named by ARG with the keyword arguments
//	template-text ARG           it renders the template whose text is ARG
//	markup                      the result is safe markup: template escaping leaves it alone
//	enter PATH                  "with x as y" gives y an instance of PATH
//	opens ARG                   what it returns is the file that ARG names
//	stores ARG FILE             what ARG holds goes into the file that FILE names
//	fills ARG                   what ARG holds goes into the receiver, a file
//	holds [FILE]                the result is what went into the receiver, or into the file that FILE names
//	keeps                       of a class with one instance: what the project puts into its fields is read from
//	                            any instance
//
// ARG is an index from 0 (self not counted), a keyword's name, both as
// 0=name, self for the receiver, * for every argument, or result.
type Fact struct {
	Path string // dotted, "*.name" for any receiver of which nothing is known
	Verb string
	Args []string
}

// Facts is a parsed set of facts.
type Facts struct {
	byPath map[string][]Fact
	like   map[string]string
	base   map[string][]string
	any    map[string][]Fact // of "*.name", by name
	keeps  map[string]bool
	// byClass has every path of which something is known about an attribute.
	byClass map[string]bool
	n       int
}

// verbs says how many arguments each verb needs at least and at most.
var verbs = map[string][2]int{
	"source": {1, 3}, "sink": {2, 16}, "use": {1, 1}, "read": {1, 1}, "set": {1, 1}, "returns": {1, 1}, "is": {1, 1}, "element": {1, 1},
	"like": {1, 1}, "base": {1, 1}, "passes": {1, 16}, "clean": {0, 32}, "disarms": {1, 8}, "number": {0, 0}, "boolean": {0, 0},
	"chars": {1, 1}, "drops": {1, 1}, "excludes": {1, 8}, "normalizes": {0, 0}, "checks": {2, 2}, "ensures": {2, 2},
	"never": {0, 0}, "calls": {1, 8}, "entry": {1, 2}, "methods": {2, 8}, "wraps": {0, 0}, "template": {1, 1}, "template-text": {1, 1},
	"markup": {0, 0}, "enter": {1, 1}, "keeps": {0, 0}, "injects": {2, 2}, "hands": {1, 1}, "opens": {1, 1}, "stores": {2, 2}, "fills": {1, 1}, "holds": {0, 1},
}

// ParseFacts reads facts: lines of a path and one or several verbs with
// their arguments, separated by " ; ". A line that begins with "#" is a
// comment; a word may stand in double quotes. Several paths may share a
// line, separated by "|" without spaces in the last part: a.b.get|post.
//
// The error names the line and what is wrong with it.
func ParseFacts(name, text string) (*Facts, error) {
	fs := &Facts{byPath: map[string][]Fact{}, like: map[string]string{}, base: map[string][]string{}, any: map[string][]Fact{}, keeps: map[string]bool{}, byClass: map[string]bool{}}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		words, err := splitWords(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		paths := spread(words[0])
		if len(words) < 2 {
			return nil, fmt.Errorf("%s:%d: %s has no verb", name, n, words[0])
		}
		for _, part := range splitOn(words[1:], ";") {
			if len(part) == 0 {
				return nil, fmt.Errorf("%s:%d: nothing stands between two semicolons", name, n)
			}
			bounds, ok := verbs[part[0]]
			if !ok {
				return nil, fmt.Errorf("%s:%d: unknown verb %q", name, n, part[0])
			}
			if k := len(part) - 1; k < bounds[0] || k > bounds[1] {
				return nil, fmt.Errorf("%s:%d: %s takes %d to %d arguments, not %d", name, n, part[0], bounds[0], bounds[1], k)
			}
			for _, p := range paths {
				fs.add(Fact{Path: p, Verb: part[0], Args: part[1:]})
			}
		}
	}
	return fs, nil
}

// Merge adds the facts of other.
func (fs *Facts) Merge(other *Facts) {
	for _, list := range other.byPath {
		for _, f := range list {
			fs.add(f)
		}
	}
	for _, list := range other.any {
		for _, f := range list {
			fs.add(f)
		}
	}
	for p, q := range other.like {
		fs.like[p] = q
	}
	maps.Copy(fs.keeps, other.keeps)
	for p, q := range other.base {
		fs.base[p] = append(fs.base[p], q...)
	}
}

// Len returns how many facts there are.
func (fs *Facts) Len() int { return fs.n }

func (fs *Facts) add(f Fact) {
	fs.n++
	switch {
	case f.Verb == "like":
		fs.like[f.Path] = f.Args[0]
	case f.Verb == "keeps":
		fs.keeps[f.Path] = true
	case f.Verb == "base":
		fs.base[f.Path] = append(fs.base[f.Path], f.Args[0])
	case strings.HasPrefix(f.Path, "*."):
		name := f.Path[2:]
		fs.any[name] = append(fs.any[name], f)
	default:
		fs.byPath[f.Path] = append(fs.byPath[f.Path], f)
		if i := strings.LastIndexByte(f.Path, '.'); i > 0 {
			fs.byClass[f.Path[:i]] = true
		}
	}
}

func splitWords(line string) ([]string, error) {
	var out []string
	for i := 0; i < len(line); {
		switch {
		case line[i] == ' ' || line[i] == '\t':
			i++
		case line[i] == '"':
			end := strings.IndexByte(line[i+1:], '"')
			if end < 0 {
				return nil, fmt.Errorf("a quotation mark is not closed")
			}
			out = append(out, line[i+1:i+1+end])
			i += end + 2
		default:
			end := strings.IndexAny(line[i:], " \t")
			if end < 0 {
				end = len(line) - i
			}
			out = append(out, line[i:i+end])
			i += end
		}
	}
	return out, nil
}

func splitOn(words []string, sep string) [][]string {
	var out [][]string
	for {
		i := slices.Index(words, sep)
		if i < 0 {
			return append(out, words)
		}
		out = append(out, words[:i])
		words = words[i+1:]
	}
}

// spread takes a.b.get|post apart.
func spread(path string) []string {
	if !strings.Contains(path, "|") {
		return []string{path}
	}
	dot := strings.LastIndexByte(path[:strings.IndexByte(path, '|')], '.')
	var out []string
	for name := range strings.SplitSeq(path[dot+1:], "|") {
		out = append(out, path[:dot+1]+name)
	}
	return out
}

// maxPath is the length in bytes beyond which no path has facts, and an
// attribute is unknown: chains in a hostile file would make them long.
const maxPath = 1024

// canonical replaces another name at the beginning of path, at most eight
// times.
func (fs *Facts) canonical(path string) string {
	for range 8 {
		found, first := false, len(path)
		if first > maxPath { // no fact knows a longer one
			first = strings.LastIndexByte(path[:maxPath], '.')
		}
		for end := first; end > 0; end = strings.LastIndexByte(path[:end], '.') {
			if to, ok := fs.like[path[:end]]; ok {
				path, found = to+path[end:], true
				break
			}
		}
		if !found {
			return path
		}
	}
	return path
}

// of returns the facts of a canonical path, looking at the bases of its
// class when it has none itself.
func (fs *Facts) of(path string) []Fact {
	if list, ok := fs.byPath[path]; ok {
		return list
	}
	dot := strings.LastIndexByte(path, '.')
	if dot < 0 {
		return nil
	}
	for _, b := range fs.base[path[:dot]] {
		if list := fs.of(fs.canonical(b + path[dot:])); list != nil {
			return list
		}
	}
	return nil
}
