package deployment

import (
	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// assignment is name = value at the top level of a gunicorn configuration,
// which is how gunicorn takes a setting.
type assignment struct {
	name        string
	node, value pysyntax.ID
}

// topLevelAssignments returns the assignments to plain names at a file's top
// level, those below an if included: gunicorn may get either.
func topLevelAssignments(f *audit.File) []assignment {
	var out []assignment
	py := f.Python
	var body func(ids []pysyntax.ID)
	body = func(ids []pysyntax.ID) {
		for _, id := range ids {
			switch py.Kind(id) {
			case pysyntax.Assign:
				targets, value := py.Assign(id)
				for _, t := range targets {
					if py.Kind(t) == pysyntax.Name {
						out = append(out, assignment{py.Name(t), id, value})
					}
				}
			case pysyntax.AnnAssign:
				if t, _, value := py.AnnAssign(id); value != 0 && py.Kind(t) == pysyntax.Name {
					out = append(out, assignment{py.Name(t), id, value})
				}
			case pysyntax.If:
				_, then, other := py.If(id)
				body(then)
				body(other)
			}
		}
	}
	body(py.Body())
	return out
}
