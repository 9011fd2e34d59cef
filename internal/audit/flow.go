package audit

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// knowledge returns the facts and models of package flask, read once. They
// are part of the binary: a mistake in them is a bug, found by the tests.
var knowledge = sync.OnceValue(func() (k struct {
	facts  *pyflow.Facts
	models map[string]*pyflow.Source
}) {
	k.facts = &pyflow.Facts{}
	k.models = map[string]*pyflow.Source{}
	first := true
	err := fs.WalkDir(flask.Knowledge, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(flask.Knowledge, p)
		if err != nil {
			return err
		}
		switch path.Ext(p) {
		case ".facts":
			facts, err := pyflow.ParseFacts(p, string(data))
			if err != nil {
				return err
			}
			if first {
				k.facts, first = facts, false
			} else {
				k.facts.Merge(facts)
			}
		case ".py":
			name := strings.TrimSuffix(path.Base(p), ".py")
			k.models[name] = &pyflow.Source{Path: "<model>/" + path.Base(p), Python: pysyntax.Parse(p, data)}
		}
		return nil
	})
	if err != nil {
		panic(fmt.Sprintf("audit: the built-in knowledge: %v", err))
	}
	return k
})

// Flow runs the project's Python abstractly (see package pyflow) and returns
// what happened. It runs once for each project, on the first call, which ends
// early when its ctx does.
func (p *Project) Flow(ctx context.Context) *pyflow.Result {
	p.flowOnce.Do(func() {
		k := knowledge()
		cfg := pyflow.Config{Facts: k.facts, Models: k.models, Roots: p.importRoots(), Template: p.template}
		for _, f := range p.Files {
			if f.Python != nil {
				cfg.Sources = append(cfg.Sources, pyflow.Source{Path: f.Path, Python: f.Python, Test: f.Test})
			}
		}
		if p.progress != nil {
			p.progress(Interpreting, 0, 0)
			defer p.progress(Interpreting, 1, 1)
		}
		p.flow = pyflow.Analyze(ctx, cfg)
		p.flowDone.Store(true)
	})
	return p.flow
}

// importRoots returns the directories that absolute imports start from: the
// project itself, src and lib folders, and every folder that is no package
// and holds Python.
func (p *Project) importRoots() []string {
	packages, dirs := map[string]bool{}, map[string]bool{}
	for _, f := range p.Files {
		if f.Python == nil {
			continue
		}
		dir := path.Dir(f.Path)
		dirs[dir] = true
		if path.Base(f.Path) == "__init__.py" {
			packages[dir] = true
		}
	}
	roots := []string{""}
	for d := range dirs {
		// The parent of the outermost package is a root, and so is a folder
		// of scripts.
		for packages[d] && d != "." {
			d = path.Dir(d)
		}
		if d == "." {
			d = ""
		}
		if !slices.Contains(roots, d) {
			roots = append(roots, d)
		}
	}
	slices.SortFunc(roots, func(a, b string) int {
		if n := strings.Count(a, "/") - strings.Count(b, "/"); n != 0 && a != "" && b != "" {
			return n
		}
		return strings.Compare(a, b)
	})
	return roots
}

// template finds a template by name: in the folders called templates, the
// shortest path first.
func (p *Project) template(name string) (file string, text []byte, ok bool) {
	name = path.Clean("/" + name)[1:]
	for _, f := range p.Files {
		if !strings.HasSuffix(f.Path, name) || f.Python != nil {
			continue
		}
		dir := strings.TrimSuffix(f.Path, name)
		if dir != "" && !strings.HasSuffix(dir, "/") {
			continue
		}
		better := !ok || len(f.Path) < len(file)
		if strings.HasSuffix(dir, "templates/") && (better || !strings.HasSuffix(strings.TrimSuffix(file, name), "templates/")) {
			file, text, ok = f.Path, f.Data, true
		}
	}
	return file, text, ok
}

// FlowSpan returns the place of a span of the flow.
func (p *Project) FlowSpan(s pyflow.Span) Span {
	f := p.File(s.File)
	switch {
	case f == nil:
		return Span{File: s.File, Line: 1, Column: 1}
	case f.Python == nil:
		return f.SpanAt(int(s.Start), int(s.End))
	}
	out := Span{File: s.File}
	out.Line, out.Column = f.Python.Position(s.Start)
	out.EndLine, out.EndColumn = f.Python.Position(s.End)
	return out
}

// Trace returns the way of a label to a hit, source first, for
// [Finding.Trace].
func (p *Project) Trace(l pyflow.Label, h *pyflow.Hit) []Step {
	out := []Step{{Span: p.FlowSpan(l.At), Note: l.Note}}
	for _, s := range l.Trace {
		out = append(out, Step{Span: p.FlowSpan(s.At), Note: s.Note})
	}
	at := p.FlowSpan(h.At)
	if last := out[len(out)-1]; last.Span != at {
		out = append(out, Step{Span: at, Note: "reaches " + h.Path})
	}
	return out
}
