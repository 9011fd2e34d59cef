package headers

import (
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// headerAssignment is response.headers["Name"] = value, with the value where
// it is a literal.
type headerAssignment struct {
	node  pysyntax.ID
	name  string
	value flask.Value
}

// headerAssignments returns the response headers that a file sets by name. A
// value that is no literal is left out: what it becomes is for a data-flow
// analysis to say.
func headerAssignments(f *audit.File) []headerAssignment {
	py := f.Python
	var out []headerAssignment
	pysyntax.Walk(py, py.Root, func(id pysyntax.ID) bool {
		if py.Kind(id) != pysyntax.Assign {
			return true
		}
		targets, value := py.Assign(id)
		text, ok := py.StringValue(value)
		if !ok {
			return true
		}
		for _, t := range targets {
			if py.Kind(t) != pysyntax.Subscript {
				continue
			}
			of, index := py.Subscript(t)
			name, literal := py.StringValue(index)
			dotted := py.DottedName(of)
			if literal && (dotted == "headers" || strings.HasSuffix(dotted, ".headers")) {
				out = append(out, headerAssignment{id, name, flask.StringValue(text)})
			}
		}
		return true
	})
	return out
}
