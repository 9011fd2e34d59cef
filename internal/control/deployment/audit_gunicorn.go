package deployment

import (
	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// assignment is name = value at the top level of a gunicorn configuration,
// which is how gunicorn takes a setting.
type assignment struct {
	name        string
	node, value pysyntax.ID
	maybe       bool // below an if that the environment decides
}

// topLevelAssignments returns the assignments to plain names at a file's top
// level, those below an if included: gunicorn may get either. What only runs
// when somebody sets a variable, which has a default that says otherwise, is
// left out.
func topLevelAssignments(p *audit.Pass, f *audit.File) []assignment {
	var out []assignment
	py := f.Python
	maybe := false
	var body func(ids []pysyntax.ID)
	body = func(ids []pysyntax.ID) {
		for _, id := range ids {
			switch py.Kind(id) {
			case pysyntax.Assign:
				targets, value := py.Assign(id)
				for _, t := range targets {
					if py.Kind(t) == pysyntax.Name {
						out = append(out, assignment{py.Name(t), id, value, maybe})
					}
				}
			case pysyntax.AnnAssign:
				if t, _, value := py.AnnAssign(id); value != 0 && py.Kind(t) == pysyntax.Name {
					out = append(out, assignment{py.Name(t), id, value, maybe})
				}
			case pysyntax.If:
				test, then, other := py.If(id)
				holds, known := byDefault(p, f, test)
				outer := maybe
				maybe = maybe || !known
				if !known || holds {
					body(then)
				}
				if !known || !holds {
					body(other)
				}
				maybe = outer
			}
		}
	}
	body(py.Body())
	return out
}

// byDefault decides a condition about one variable of the environment by the
// default that the code gives it: os.getenv("RELOAD", "no") == "yes".
func byDefault(p *audit.Pass, f *audit.File, test pysyntax.ID) (holds, known bool) {
	py := f.Python
	if op, x := py.UnaryOp(test); op == pysyntax.UnaryNot {
		holds, known = byDefault(p, f, x)
		return !holds, known
	}
	left, rest := py.Compare(test)
	if len(rest) != 1 || rest[0].Op != pysyntax.CmpEq && rest[0].Op != pysyntax.CmpNe {
		return false, false
	}
	a, b := p.Flask.Value(f.Path, left), p.Flask.Value(f.Path, rest[0].Right)
	if a.FromEnv == "" {
		a, b = b, a
	}
	if a.FromEnv == "" || a.Default == nil || !a.Default.Known || !b.Known || b.FromEnv != "" || a.Default.Kind != flask.String || b.Kind != flask.String {
		return false, false
	}
	return (a.Default.Text == b.Text) == (rest[0].Op == pysyntax.CmpEq), true
}
