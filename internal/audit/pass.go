package audit

import (
	"context"
	"iter"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// Pass is one rule looking at one project. It belongs to the goroutine that
// [Rule.Check] was called on.
type Pass struct {
	Rule    *Rule
	Project *Project
	// Flask is Project.Flask, which nearly every rule asks.
	Flask *flask.Model

	ctx      context.Context
	looking  chan struct{} // holds one token for each rule that is at work
	findings []Finding
	outcome  evidence.Outcome
	reason   string
	panicked bool
	repairs  map[*File]int // see Repair
}

// Context ends when the audit is called off. A rule that may take long looks
// at it now and then.
func (p *Pass) Context() context.Context { return p.ctx }

// Flow returns what happened when the project's Python ran abstractly; see
// [Project.Flow].
func (p *Pass) Flow() *pyflow.Result {
	if p.looking != nil && !p.Project.flowDone.Load() {
		// While this one waits, another rule may look.
		<-p.looking
		defer func() { p.looking <- struct{}{} }()
	}
	return p.Project.Flow(p.ctx)
}

// Report records a finding. Rule is filled in; an empty Message becomes the
// rule's title.
func (p *Pass) Report(f Finding) {
	f.Rule = p.Rule
	if f.Message == "" {
		f.Message = p.Rule.Title
	}
	p.findings = append(p.findings, f)
}

// NotApplicable says that the project has nothing that the rule's promise is
// about, and why. A finding outweighs it.
func (p *Pass) NotApplicable(reason string) { p.give(evidence.NotApplicable, reason) }

// CouldNotLook says that the rule cannot tell, and why. It outweighs
// [Pass.NotApplicable]: silence is never a pass.
func (p *Pass) CouldNotLook(reason string) { p.give(evidence.Error, reason) }

func (p *Pass) give(o evidence.Outcome, reason string) {
	switch {
	case p.reason == "", o == evidence.Error && p.outcome != o:
		p.outcome, p.reason = o, reason
	case o == evidence.Error:
		p.reason += "; " + reason
	}
}

// Files yields the files of the given kinds, or all, in the order of their
// paths. Test code is left out: see [Project.Files] for all.
func (p *Pass) Files(kinds ...Kind) iter.Seq[*File] {
	return func(yield func(*File) bool) {
		for _, f := range p.Project.Files {
			if f.Test {
				continue
			}
			match := len(kinds) == 0
			for _, k := range kinds {
				match = match || f.Kind == k
			}
			if match && !yield(f) {
				return
			}
		}
	}
}

// Python yields every file with a Python tree, configuration of gunicorn
// included and test code left out.
func (p *Pass) Python() iter.Seq[*File] {
	return func(yield func(*File) bool) {
		for _, f := range p.Project.Files {
			if f.Python != nil && !f.Test && !yield(f) {
				return
			}
		}
	}
}

// Span returns the place of a part of the Flask model.
func (p *Pass) Span(at flask.Position) Span { return spanOf(at) }

func spanOf(at flask.Position) Span {
	return Span{File: at.File, Line: at.Line, Column: at.Column, EndLine: at.EndLine, EndColumn: at.EndColumn}
}

// NodeSpan returns the place of a node of f.Python.
func (f *File) NodeSpan(id pysyntax.ID) Span {
	s := Span{File: f.Path}
	n := f.Python.Node(id)
	s.Line, s.Column = f.Python.Position(n.Start)
	s.EndLine, s.EndColumn = f.Python.Position(n.End)
	return s
}
