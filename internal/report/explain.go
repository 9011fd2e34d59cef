package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/probe"
)

// Explainer writes what "dewar explain" says. Every method is one kind of
// topic; the texts are those of the catalogue.
type Explainer struct {
	b     bytes.Buffer
	width int
}

// NewExplainer returns an empty page for a screen.
func NewExplainer(s Screen) *Explainer { return &Explainer{width: min(s.width(), 100)} }

// Flush writes the page, with colours fitted to the screen.
func (e *Explainer) Flush(w io.Writer, s Screen) error {
	_, err := s.writer(w).Write(e.b.Bytes())
	return err
}

func (e *Explainer) head(kind, name, title string) {
	fmt.Fprintf(&e.b, "%s %s  %s\n", dim.Render(kind), bold.Inherit(blue).Render(name), bold.Render(title))
}

func (e *Explainer) para(name, text string) {
	if text == "" {
		return
	}
	for i, line := range fill(text, e.width-10) {
		label := pad("", 8)
		if i == 0 {
			label = dim.Render(pad(name, 8))
		}
		fmt.Fprintf(&e.b, "  %s%s\n", label, line)
	}
}

func (e *Explainer) code(name, text string) {
	if text == "" {
		return
	}
	for i, line := range strings.Split(strings.Trim(text, "\n"), "\n") {
		label := pad("", 8)
		if i == 0 {
			label = dim.Render(pad(name, 8))
		}
		fmt.Fprintf(&e.b, "  %s%s\n", label, line)
	}
}

func refs(cwe []int, asvs, owasp []string) string {
	var out []string
	for _, c := range cwe {
		out = append(out, fmt.Sprintf("CWE-%d", c))
	}
	for _, a := range asvs {
		out = append(out, "ASVS 5.0 "+a)
	}
	for _, o := range owasp {
		out = append(out, "OWASP "+o)
	}
	return strings.Join(out, " · ")
}

// Control explains a promise and everything that speaks about it.
func (e *Explainer) Control(c *control.Control) {
	e.head("control", string(c.ID), c.Title)
	e.para("promise", c.Promise)
	e.para("why", c.Why)
	e.para("fix", c.Fix)
	e.para("refs", refs(c.CWE, c.ASVS, c.OWASP))
	for _, f := range evidence.Faces {
		fmt.Fprintf(&e.b, "\n  %s\n", bold.Render(f.String()))
		item := func(name, text string) {
			lines := fill(text, e.width-34)
			for i, l := range lines {
				n := ""
				if i == 0 {
					n = name
				}
				fmt.Fprintf(&e.b, "    %s %s\n", pad(n, 28), l)
			}
		}
		switch f {
		case evidence.Audit:
			for _, r := range c.Rules {
				item(r.ID, r.Title+" ("+r.Severity.String()+")")
			}
		case evidence.Guard:
			for _, l := range c.Layers {
				item(l.Name, l.Does)
			}
			for _, p := range c.Preflights {
				item(p.Name, p.Does)
			}
			for _, s := range c.Services {
				item(s.Name, s.Does)
			}
		case evidence.Probe:
			for _, k := range c.Checks {
				item(k.ID, k.Asks)
			}
		case evidence.Detect:
			for _, d := range c.Detectors {
				item(d.Name, d.Doc)
			}
		}
		if a, empty := c.Empty[f]; empty {
			word := "not built yet: "
			if a.Never {
				word = "cannot exist: "
			}
			for _, l := range fill(word+a.Why, e.width-6) {
				fmt.Fprintf(&e.b, "    %s\n", dim.Render(l))
			}
		}
	}
	e.b.WriteByte('\n')
}

// Rule explains an audit rule with its examples.
func (e *Explainer) Rule(r *audit.Rule) {
	e.head("rule", r.ID, r.Title)
	e.para("control", string(r.Control))
	e.para("severity", r.Severity.String()+", "+r.Confidence.String())
	e.para("why", r.Why)
	e.para("fix", r.Fix)
	e.code("bad", r.Bad)
	e.code("good", r.Good)
	if len(r.MitigatedBy) > 0 {
		e.para("now", "until it is fixed, the guard's "+strings.Join(r.MitigatedBy, ", ")+" can stand in front: dewar run")
	}
	e.para("silence", "# dewar: ignore["+r.ID+"] why this is no problem here")
	e.para("refs", refs(r.CWE, r.ASVS, r.OWASP))
	e.b.WriteByte('\n')
}

// Layer explains a guard layer and every reason it gives.
func (e *Explainer) Layer(l *guard.Spec) {
	e.head("layer", l.Name, "")
	e.para("control", string(l.Control))
	e.para("does", l.Does)
	fails := "refuses requests with 503 (fails closed)"
	if l.Failure == guard.FailOpen {
		fails = "lets requests pass and says so in metrics and evidence (fails open)"
	}
	e.para("broken", "when it cannot work it "+fails)
	for _, k := range l.Commands {
		e.para("command", "dewar "+k.Name+": "+k.Does)
	}
	for _, r := range l.Reasons {
		e.b.WriteByte('\n')
		e.Reason(l, r)
	}
	e.b.WriteByte('\n')
}

// Reason explains one reason of a layer's refusals, or of the guard's own when
// l is nil.
func (e *Explainer) Reason(l *guard.Spec, r guard.Reason) {
	of := "a reason of the guard itself"
	if l != nil {
		of = "a reason of layer " + l.Name
	}
	fmt.Fprintf(&e.b, "  %s %s\n", bold.Render(r.Name), dim.Render(of))
	e.para("why", r.Why)
	e.para("wrong?", r.Fix)
}

// Preflight explains a check before the first request.
func (e *Explainer) Preflight(p *guard.Preflight) {
	e.head("preflight", p.Name, "")
	e.para("control", string(p.Control))
	e.para("does", p.Does)
	e.para("why", p.Why)
	e.para("fix", p.Fix)
	for _, in := range p.RelaxedIn {
		e.para("relaxed", "only a warning in profile "+string(in))
	}
	e.b.WriteByte('\n')
}

// Service explains something that runs beside the layers.
func (e *Explainer) Service(s *guard.Service) {
	e.head("service", s.Name, "")
	e.para("control", string(s.Control))
	e.para("does", s.Does)
	e.para("why", s.Why)
	e.para("fix", s.Fix)
	e.b.WriteByte('\n')
}

// Check explains a probe check.
func (e *Explainer) Check(k *probe.Check) {
	e.head("probe", k.ID, "")
	e.para("control", string(k.Control))
	e.para("asks", k.Asks)
	e.para("why", k.Why)
	e.para("fix", k.Fix)
	e.para("refs", refs(k.CWE, nil, nil))
	e.para("sends", fmt.Sprintf("at most %d %s", k.Requests, plural(k.Requests, "request", "requests")))
	e.b.WriteByte('\n')
}
