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
		cfg := pyflow.Config{Facts: k.facts, Models: k.models, Roots: p.importRoots(), Template: p.template, Kept: append(slices.Clone(outside), "file-content")}
		for _, f := range p.Files {
			if f.Python != nil {
				cfg.Sources = append(cfg.Sources, pyflow.Source{Path: f.Path, Python: f.Python, Test: f.Test})
			}
		}
		cfg.Factories = func() []pyflow.Span {
			<-p.understood
			var out []pyflow.Span
			for _, a := range p.Flask.Apps {
				if file, start, ok := a.FactoryAt(); ok {
					out = append(out, pyflow.Span{File: file, Start: start})
				}
			}
			return out
		}
		cfg.Operations = func() []pyflow.Operation {
			<-p.understood
			var out []pyflow.Operation
			for _, o := range p.Flask.Operations {
				if file, start, ok := o.FunctionAt(); ok {
					out = append(out, pyflow.Operation{At: pyflow.Span{File: file, Start: start}, Rule: o.Rule, Handed: o.Handed})
				}
			}
			return out
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

// templateFile is a file that a program may name as a template.
type templateFile struct {
	f *File
	// rank is 0 in a folder that an app loads from, 1 in one of a blueprint or
	// whose name ends in templates, 2 below such a folder.
	rank   int
	folder string
	root   string // what holds the folder; "" is the project
}

// templateIndex lists the templates by their last name, for each way in which
// the program may call them.
func (p *Project) templateIndex() map[string][]templateFile {
	apps, folders := map[string]bool{}, map[string]bool{}
	for _, a := range p.Flask.Apps {
		apps[a.TemplateFolder] = a.TemplateFolder != ""
	}
	for _, d := range p.Flask.TemplateFolders() {
		folders[d] = true
	}
	out := map[string][]templateFile{}
	for _, f := range p.Files {
		if f.Python != nil {
			continue
		}
		dir, name := path.Split(f.Path)
		below := 0
		for d := strings.TrimSuffix(dir, "/"); d != "" && d != "."; d = path.Dir(d) {
			rank := 1
			switch {
			case apps[d]:
				rank = 0
			case !folders[d] && !strings.HasSuffix(d, "templates"):
				below++
				continue
			}
			root := path.Dir(d)
			if root == "." {
				root = ""
			}
			key := f.Path[len(d)+1:]
			out[key] = append(out[key], templateFile{f, rank, d, root})
			if below > 0 && key != name {
				out[name] = append(out[name], templateFile{f, 2, d, root})
			}
			break
		}
	}
	return out
}

// template finds a template by the name that the file from uses. The folders
// that lie above it come first, of these those that an app loads from.
func (p *Project) template(name, from string) (file string, text []byte, ok bool) {
	<-p.understood
	p.templatesOnce.Do(func() { p.templates = p.templateIndex() })
	var best *templateFile
	var score [4]int
	cands := p.templates[path.Clean("/" + name)[1:]]
	for i := range cands {
		c := &cands[i]
		// How well it fits: whether it lies above, its folder's kind, the distance.
		s := [4]int{c.rank, -common(c.root, from), -common(c.folder, from), len(c.f.Path)}
		if c.root != "" && !strings.HasPrefix(from, c.root+"/") {
			s[0] += 3
		} else if c.rank > 0 {
			s[1] = len(c.root) // the outer one: Flask asks the app before its blueprints
		}
		if best == nil || slices.Compare(s[:], score[:]) < 0 {
			best, score = c, s
		}
	}
	if best == nil {
		return "", nil, false
	}
	return best.f.Path, best.f.Data, true
}

// common returns how many bytes two paths begin with alike.
func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
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
