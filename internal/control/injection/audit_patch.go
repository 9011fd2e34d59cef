package injection

import (
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// What the rules know about their findings and a guard needs to hold them shut:
// see [audit.Patch].

// unwrapping are calls that hand on a document as it is, and those that undo a
// wrapping which payload.Sink undoes, too.
var (
	handsOn = []string{"decode", "encode", "read", "strip", "BytesIO", "StringIO", "str", "bytes", "bytearray", "memoryview", "getvalue"}
	unwraps = []string{"b64decode", "urlsafe_b64decode", "standard_b64decode", "decodebytes", "a2b_base64", "decompress"}
)

// documentWay says how a label's document comes to a sink's first argument:
// spot is raw where it is read as it came, and open why a guard cannot know what
// becomes of it on its way.
func documentWay(p *audit.Pass, h *pyflow.Hit, labels []pyflow.Label) (spot, open string) {
	const unknown = "what is done to it on its way is not known"
	f, call := p.HitCall(h)
	if call == 0 {
		return "", unknown
	}
	py := f.Python
	_, args, _ := py.Call(call)
	if len(args) == 0 {
		return "", unknown
	}
	spot = "raw"
	var plain func(id pysyntax.ID, depth int) bool
	plain = func(id pysyntax.ID, depth int) bool {
		if depth > 12 {
			return false
		}
		n := py.Node(id)
		if slices.ContainsFunc(labels, func(l pyflow.Label) bool {
			return l.At.File == h.At.File && l.At.Start == n.Start && l.At.End == n.End
		}) {
			return true
		}
		switch n.Kind {
		case pysyntax.Call:
			fn, args, _ := py.Call(id)
			name := py.DottedName(fn)
			if py.Kind(fn) == pysyntax.Attribute {
				_, name = py.Attribute(fn)
			}
			name = name[strings.LastIndexByte(name, '.')+1:]
			switch {
			case slices.Contains(unwraps, name) && len(args) > 0:
				spot = ""
				return plain(args[0], depth+1)
			case !slices.Contains(handsOn, name):
				return false
			case len(args) > 0 && name != "decode" && name != "encode" && name != "read":
				return plain(args[0], depth+1)
			case py.Kind(fn) == pysyntax.Attribute:
				of, _ := py.Attribute(fn)
				return plain(of, depth+1)
			}
			return false
		case pysyntax.Attribute: // .stream of a file
			of, _ := py.Attribute(id)
			return plain(of, depth+1)
		case pysyntax.Name:
			return slices.ContainsFunc(assignedTo(f, h, py.Name(id)), func(v pysyntax.ID) bool { return plain(v, depth+1) }) &&
				!slices.ContainsFunc(assignedTo(f, h, py.Name(id)), func(v pysyntax.ID) bool { return !plain(v, depth+1) })
		}
		return false
	}
	if !plain(args[0], 0) {
		return "", unknown
	}
	return spot, ""
}

// assignedTo returns what a name of the function around a hit is given: 0 among
// them for what is no plain assignment.
func assignedTo(f *audit.File, h *pyflow.Hit, name string) []pysyntax.ID {
	py := f.Python
	var out []pysyntax.ID
	for _, id := range slices.Backward(f.Around(h.At.Start, h.At.End)) {
		if k := py.Kind(id); k != pysyntax.FunctionDef && k != pysyntax.AsyncFunctionDef {
			continue
		}
		pysyntax.Walk(py, id, func(n pysyntax.ID) bool {
			if py.Kind(n) == pysyntax.Assign {
				targets, value := py.Assign(n)
				for _, t := range targets {
					if py.Kind(t) == pysyntax.Name && py.Name(t) == name {
						out = append(out, value)
					}
				}
			}
			return true
		})
		break
	}
	return out
}

// objectFormat is the language of a sink that builds objects.
func objectFormat(h *pyflow.Hit) (language, open string) {
	module, _, _ := strings.Cut(h.Path, ".")
	switch module {
	case "jsonpickle":
		return "jsonpickle", ""
	case "pickle", "_pickle", "cPickle", "pickle5", "dill", "cloudpickle":
		return "pickle", ""
	}
	return "pickle", "of the format of " + module + " only pickles in it are judged"
}

// patternWay says how a text comes to a pattern: the mode of the match, and why
// a guard that matches it first cannot be sure.
func patternWay(h *pyflow.Hit, pattern string, labels []pyflow.Label) (mode, open string) {
	name := h.Path[strings.LastIndexByte(h.Path, '.')+1:]
	switch name {
	case "match":
		mode = "match"
	case "fullmatch":
		mode = "full"
	default:
		mode = "search"
	}
	_, flags := h.Keywords["flags"]
	switch {
	case len(labels) != 1 || !whole(h):
		open = "it is changed before it is matched"
	case flags || len(h.Args) > 2 || strings.Contains(h.Path, "Pattern."):
		open = "the pattern may have flags that are not known here"
	case lookarounds.MatchString(pattern):
		open = "the pattern has parts that are not matched here as Python does"
	}
	return mode, open
}

// lookarounds are what this package's patterns read as something simpler:
// look-arounds, references, atomic groups, word boundaries, counts.
var lookarounds = regexp.MustCompile(`\(\?[=!<>(]|\(\?P=|\\[1-9bB]|[*+?}]\+|\{\d\d+|,\d\d+\}`)

// whole reports whether a sink gets one text from outside as it is, and nothing
// beside it.
func whole(h *pyflow.Hit) bool {
	for _, v := range h.Focus {
		for _, t := range audit.Texts(v) {
			if len(t.Pieces) != 1 {
				return false
			}
		}
	}
	return true
}

// privileged are attributes that say who somebody is and what he may do: no
// client should set them by naming them.
var privileged = regexp.MustCompile(`(?i)^(?:_.*|(?:is_?)?(?:admin|administrator|staff|superuser|root|moderator|verified|confirmed|approved|banned|locked)|email_(?:verified|confirmed)|(?:verified|confirmed|approved)_at|(?:user_?)?(?:roles?|role_id|permissions?|perms|privileges?)|access_level|(?:user|account)_type|pass(?:word|wd)?_?(?:hash|digest)|pw_?hash|hashed_password|(?:api|totp|otp|reset)_?(?:key|secret|token|code)|balance|credits?)$`)

// attributeNames returns the names of attributes that the project's models
// have, and that no form of its offers: those that are privileged, and others.
func attributeNames(p *audit.Pass) (names, watched []string) {
	have, offered := map[string]bool{}, map[string]bool{}
	for f := range p.Files(audit.Template, audit.HTML) {
		for _, m := range fieldName.FindAllSubmatch(f.Data, 2000) {
			offered[string(m[1])] = true
		}
	}
	for f := range p.Files(audit.Python) {
		if f.Test || f.Python == nil {
			continue
		}
		py := f.Python
		pysyntax.Walk(py, py.Root, func(id pysyntax.ID) bool {
			if py.Kind(id) != pysyntax.ClassDef {
				return true
			}
			c := py.ClassDef(id)
			to := have
			for _, b := range py.Arguments(id) {
				if k := py.Kind(b); (k == pysyntax.Name || k == pysyntax.Attribute) && strings.HasSuffix(py.DottedName(b), "Form") {
					to = offered
				}
			}
			for _, st := range c.Body {
				switch py.Kind(st) {
				case pysyntax.Assign:
					targets, value := py.Assign(st)
					if k := py.Kind(value); k != pysyntax.Call && k != pysyntax.Str && k != pysyntax.Num && k != pysyntax.None && k != pysyntax.True && k != pysyntax.False {
						continue
					}
					for _, t := range targets {
						if py.Kind(t) == pysyntax.Name {
							to[py.Name(t)] = true
						}
					}
				case pysyntax.AnnAssign:
					if t, _, _ := py.AnnAssign(st); py.Kind(t) == pysyntax.Name {
						to[py.Name(t)] = true
					}
				}
			}
			return true
		})
	}
	names = []string{"__class__", "__dict__", "_sa_instance_state"}
	for name := range have {
		switch {
		case offered[name] || strings.HasPrefix(name, "__") || name == strings.ToUpper(name): // the last are settings
		case privileged.MatchString(name):
			names = append(names, name)
		default:
			watched = append(watched, name)
		}
	}
	slices.Sort(names)
	slices.Sort(watched)
	return names, watched
}

var fieldName = regexp.MustCompile(`(?i)<(?:input|select|textarea|button)\b[^>]{0,1000}?\bname\s*=\s*["']?([\w.\-]{1,100})`)
