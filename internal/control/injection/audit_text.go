package injection

import (
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/pyflow"
)

// pathExit finds a labelled piece that makes a path lead somewhere else than
// its folder: by ".." between slashes, or by being absolute where nothing
// stands before it (which is also what os.path.join and pathlib make of an
// absolute part). Where the path is deleted, ".." alone will do.
func pathExit(pieces []pyflow.Piece, ok accept, kind string) (exit, bool) {
	for i, p := range pieces {
		labels := audit.Live(p, ok, kind)
		if len(labels) == 0 {
			continue
		}
		before, after := audit.Before(pieces, i), audit.After(pieces, i)
		slash := audit.CanHold(p, "/")
		spot := "below"
		if i == 0 {
			spot = "whole" // the client names the whole path, perhaps by design
		}
		switch {
		case before == "" && audit.CanBegin(p, '/'):
			return exit{Label: labels[0], Piece: i, Why: "can be an absolute path", Spot: spot}, true
		case slash && audit.CanHold(p, "../"):
			return exit{Label: labels[0], Piece: i, Why: "can hold ../", Spot: spot}, true
		case !slash && strings.HasPrefix(after, "/") && (before == "" || strings.HasSuffix(before, "/")) && audit.CanHold(p, ".."):
			return exit{Label: labels[0], Piece: i, Why: "can be ..", Spot: spot}, true
		case !slash && kind == "path-delete" && after == "" && strings.HasSuffix(before, "/") && audit.CanHold(p, ".."):
			return exit{Label: labels[0], Piece: i, Why: "can be .., the folder above", Spot: spot}, true
		case !slash && len(pieces) == 1 && kind != "path-stat" && audit.CanBegin(p, '.') && audit.CanHold(p, `\`):
			// Nothing but the URL's own slashes is kept out.
			return exit{Label: labels[0], Piece: i, Why: "can name any file of the folder that the app runs in", Spot: spot}, true
		}
	}
	return exit{}, false
}

// importExit finds a labelled piece that chooses a module. Behind a package's
// name and a dot the choice is one of its modules, as the code says.
func importExit(pieces []pyflow.Piece, ok accept) (exit, bool) {
	for i, p := range pieces {
		labels := audit.Live(p, ok, "import", "code")
		if len(labels) == 0 || audit.Only(p, audit.Digits) {
			continue
		}
		if strings.Contains(audit.Before(pieces, i), ".") && !audit.CanHold(p, "/") || i > 0 && strings.HasSuffix(audit.Before(pieces, i), "_") {
			continue
		}
		return exit{Label: labels[0], Piece: i, Why: "names the module that is loaded"}, true
	}
	return exit{}, false
}

// templateExit finds a labelled piece that can become code of a template. The
// delimiters depend on the language.
func templateExit(pieces []pyflow.Piece, ok accept, mako bool) (exit, bool) {
	inside := byte(0) // in {{ … }} or {% … %}: '{'; in a comment: '#'
	var q quoted
	for i, p := range pieces {
		if !p.Unknown {
			s := p.Literal
			for j := 0; j < len(s); j++ {
				switch pair := s[j:min(j+2, len(s))]; {
				case inside == 0 && (pair == "{{" || pair == "{%" || mako && (pair == "${" || pair == "<%")):
					inside, q = '{', quoted{quotes: "'\"", escape: true}
					j++
				case inside == 0 && pair == "{#":
					inside = '#'
					j++
				case inside == '#' && pair == "#}":
					inside = 0
					j++
				case inside == '{' && q.state == 0 && (pair == "}}" || pair == "%}" || mako && (s[j] == '}' || pair == "%>")):
					inside = 0
					j++
				case inside == '{':
					q.text(s[j : j+1])
				}
			}
			continue
		}
		labels := audit.Live(p, ok, "template-text")
		if len(labels) == 0 {
			continue
		}
		switch {
		case inside == '{':
			if why := q.leaves(p, "expression", false); why != "" {
				return exit{Label: labels[0], Piece: i, Why: "stands in a template's expression and " + strings.TrimPrefix(why, "stands "), Spot: "code"}, true
			}
		case inside == '#':
			if audit.CanHold(p, "#}") {
				return exit{Label: labels[0], Piece: i, Why: "stands in a comment, which #} closes"}, true
			}
		case mako && (audit.CanHold(p, "${") || audit.CanHold(p, "<%") || audit.CanHoldAny(p, "%\n")):
			return exit{Label: labels[0], Piece: i, Why: "can hold ${…}"}, true
		case !mako && (audit.CanHold(p, "{{") || audit.CanHold(p, "{%") || audit.CanHold(p, "{") && strings.HasSuffix(audit.Before(pieces, i), "{")):
			return exit{Label: labels[0], Piece: i, Why: "can hold {{…}}"}, true
		}
	}
	return exit{}, false
}

// redirectExit finds a labelled piece that lets a redirection leave the site.
// Browsers read "\" as "/", and "//host" and "/\host" as another host.
func redirectExit(pieces []pyflow.Piece, ok accept) (exit, bool) {
	for i, p := range pieces {
		labels := audit.Live(p, ok, "redirect", "url")
		if len(labels) == 0 {
			continue
		}
		before := strings.TrimLeft(audit.Before(pieces, i), " \t\r\n")
		switch {
		case before == "":
			// As a whole it is another site's address if it begins with two
			// slashes, or with a scheme.
			slash := audit.CanBegin(p, '/') && (audit.CanHold(p, "//") || audit.CanHold(p, `\`)) || audit.CanBegin(p, '\\')
			if slash || audit.CanHold(p, ":") && audit.CanBegin(p, 'h') {
				return exit{Label: labels[0], Piece: i, Why: "can be the address of another site"}, true
			}
		case before == "/":
			// "/" and a path that begins with a slash is //host.
			if audit.CanBegin(p, '/') || audit.CanBegin(p, '\\') {
				return exit{Label: labels[0], Piece: i, Why: "can begin with a slash, which makes //host of it"}, true
			}
		case strings.HasPrefix(before, "//"), strings.HasPrefix(before, `/\`), strings.HasPrefix(before, `\`):
			if !audit.HostFixed(pieces, i) {
				return exit{Label: labels[0], Piece: i, Why: "chooses the host"}, true
			}
		case before[0] == '/', before[0] == '?', before[0] == '#', before[0] == '.':
		case strings.Contains(before, ":"):
			if !audit.HostFixed(pieces, i) {
				return exit{Label: labels[0], Piece: i, Why: "can go on with the host's name"}, true
			}
		}
	}
	return exit{}, false
}

// newlineExit finds a labelled piece that can begin another line.
func newlineExit(pieces []pyflow.Piece, ok accept, kind string) (exit, bool) {
	for i, p := range pieces {
		if labels := audit.Live(p, ok, kind); len(labels) > 0 && audit.CanHoldAny(p, "\r\n") {
			return exit{Label: labels[0], Piece: i, Why: "can hold a line end"}, true
		}
	}
	return exit{}, false
}
