package catalog

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/event"
)

func eventNames() []string {
	var names []string
	for _, n := range event.Names {
		names = append(names, n.Name)
	}
	return names
}

// TestLayerEvents: a layer that can refuse says under which name, and every
// name is documented.
func TestLayerEvents(t *testing.T) {
	names := eventNames()
	for _, l := range Layers {
		switch {
		case l.Spec.Event == "" && l.Spec.Blocking:
			t.Errorf("layer %s refuses under no event name", l.Spec.Name)
		case l.Spec.Event != "" && !slices.Contains(names, l.Spec.Event):
			t.Errorf("layer %s: event %q is not in event.Names", l.Spec.Name, l.Spec.Event)
		}
	}
}

// TestEventNamesInTheSource: every name that the source gives an event or a
// decision is documented, and every documented name is given somewhere.
func TestEventNamesInTheSource(t *testing.T) {
	names := eventNames()
	used := map[string]bool{}
	files := token.NewFileSet()
	note := func(e ast.Expr, where token.Pos) {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return
		}
		name, err := strconv.Unquote(lit.Value)
		if err != nil || name == "" {
			return
		}
		used[name] = true
		if !slices.Contains(names, name) {
			t.Errorf("%s: %q is not in event.Names", files.Position(where), name)
		}
	}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "testdata" {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		imports := map[string]bool{}
		for _, i := range f.Imports {
			imports[strings.Trim(i.Path.Value, `"`)] = true
		}
		inEvent := f.Name.Name == "event"
		if !inEvent && !imports["github.com/dewar-security/dewar/internal/event"] && !imports["github.com/dewar-security/dewar/internal/guard"] && f.Name.Name != "guard" {
			return nil
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				kind := literalType(n.Type)
				for _, el := range n.Elts {
					kv, ok := el.(*ast.KeyValueExpr)
					if !ok {
						continue
					}
					key, _ := kv.Key.(*ast.Ident)
					if key == nil {
						continue
					}
					// event.Event{Name: …}, guard.Spec{Event: …}, guard.Decision{Event: …};
					// elements of []Event leave the type out, but not the severity.
					switch {
					case key.Name == "Event" && (kind == "Spec" || kind == "Decision" || kind == "Note" || kind == ""):
						note(kv.Value, kv.Pos())
					case key.Name == "Name" && (kind == "Event" || kind == "" && has(n, "Severity")):
						note(kv.Value, kv.Pos())
					}
				}
			case *ast.AssignStmt:
				for i, l := range n.Lhs {
					if s, ok := l.(*ast.SelectorExpr); ok && len(n.Lhs) == len(n.Rhs) && (s.Sel.Name == "Event" || s.Sel.Name == "Name" && inEventual(s)) {
						note(n.Rhs[i], n.Pos())
					}
				}
			case *ast.ValueSpec:
				for i, id := range n.Names {
					if strings.HasSuffix(id.Name, "Event") && i < len(n.Values) {
						note(n.Values[i], n.Pos())
					}
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(used) < 10 {
		t.Errorf("only %d names found in the source: the search is broken", len(used))
	}
	for _, n := range event.Names {
		if !used[n.Name] {
			t.Errorf("event.Names documents %q, which nothing writes", n.Name)
		}
		if n.Means == "" || n.Level == 0 {
			t.Errorf("event.Names: %q is not documented", n.Name)
		}
	}
}

// inEventual reports whether the field belongs to an event by the habit of
// calling events e and base.
func inEventual(s *ast.SelectorExpr) bool {
	id, ok := s.X.(*ast.Ident)
	return ok && (id.Name == "e" || id.Name == "base")
}

func literalType(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func has(lit *ast.CompositeLit, field string) bool {
	return slices.ContainsFunc(lit.Elts, func(el ast.Expr) bool {
		kv, ok := el.(*ast.KeyValueExpr)
		if !ok {
			return false
		}
		id, ok := kv.Key.(*ast.Ident)
		return ok && id.Name == field
	})
}
