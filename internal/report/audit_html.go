package report

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/csp"
)

//go:embed audit.html
var auditPage string

//go:embed audit.css
var auditStyle string

//go:embed audit.js
var auditScript string

var auditTemplate = template.Must(template.New("audit").Funcs(template.FuncMap{
	"plain":  plain,
	"plural": plural,
}).Parse(auditPage))

// pageFinding is a finding as the page shows it.
type pageFinding struct {
	N                 int
	ID, Level         string
	Severity, Sure    string
	Title, Message    string
	Place, Fix, Kept  string
	Control, Explain  string
	Refs, MitigatedBy []string
	Steps             int
	Frames            []pageFrame
	Others            []pageOther // of the same cause
}

// pageOther is another place of a finding's cause.
type pageOther struct{ Place, Message string }

// pageFrame is the code of one file; a trace that comes back to a file has
// another frame.
type pageFrame struct {
	File  string
	Lines []pageLine
}

// pageLine is a line of code with the marks under it, or a gap.
type pageLine struct {
	Gap                   bool
	N                     int
	Before, Marked, After string
	Notes                 []pageNote
}

type pageNote struct {
	Step int // from 1; 0 outside of a trace
	Main bool
	Text string
}

// AuditHTML writes one page that needs nothing else: no image, no font, no
// request. Its Content-Security-Policy allows its own style and its own
// script, by their hashes; the script only filters, and without it everything
// can be read. Texts from the project are escaped by html/template. It holds
// no time: the same tree gives the same bytes.
func AuditHTML(w io.Writer, r *AuditReport, _ Screen) error {
	hash := func(s string) string { return "'" + csp.Hash(s) + "'" }
	type count struct {
		Severity string
		N        int
	}
	var counts []count
	for _, s := range []audit.Severity{audit.Critical, audit.High, audit.Medium, audit.Low} {
		c := count{Severity: s.String()}
		for _, f := range r.Findings {
			if f.Rule.Severity == s {
				c.N++
			}
		}
		counts = append(counts, c)
	}
	var findings, suppressed []pageFinding
	rules := map[string]bool{}
	for _, f := range bySeverity(r.Findings) {
		findings = append(findings, r.page(f, len(findings)+1))
		rules[f.Rule.ID] = true
	}
	for _, f := range bySeverity(r.Suppressed) {
		suppressed = append(suppressed, r.page(f, len(findings)+len(suppressed)+1))
	}
	ids := make([]string, 0, len(rules))
	for id := range rules {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return auditTemplate.Execute(w, map[string]any{
		"R": r, "Counts": counts, "Findings": findings, "Suppressed": suppressed, "Rules": ids,
		"Incomplete": len(r.Skipped) + len(r.NotUnderstood) + len(r.Unproven),
		"CSP":        "default-src 'none'; style-src " + hash(auditStyle) + "; script-src " + hash(auditScript) + "; base-uri 'none'; form-action 'none'",
		"Style":      template.CSS(auditStyle), "Script": template.JS(auditScript),
	})
}

func (r *AuditReport) page(f audit.Finding, n int) pageFinding {
	p := pageFinding{
		N: n, ID: f.Rule.ID, Level: level(f.Rule.Severity), Severity: f.Rule.Severity.String(), Sure: f.Sure().String(),
		Title: f.Rule.Title, Message: plain(f.Message), Place: plain(spanText(f.Span)), Fix: plain(cmp.Or(f.Fix, f.Rule.Fix)),
		Control: string(f.Rule.Control), Explain: "dewar explain " + f.Rule.ID, MitigatedBy: f.Rule.MitigatedBy, Steps: len(f.Trace),
	}
	if f.Suppressed != nil {
		p.Kept = plain("suppressed (" + f.Suppressed.Kind + "): " + cmp.Or(f.Suppressed.Reason, "no reason given"))
	}
	for _, c := range f.Rule.CWE {
		p.Refs = append(p.Refs, fmt.Sprintf("CWE-%d", c))
	}
	for _, o := range f.Rule.OWASP {
		p.Refs = append(p.Refs, "OWASP "+o)
	}
	for _, a := range f.Rule.ASVS {
		p.Refs = append(p.Refs, "ASVS 5.0 "+a)
	}
	marks, traced := marksOf(f)
	for _, g := range grouped(marks) {
		p.Frames = append(p.Frames, r.pageFrame(g, traced))
	}
	for _, o := range f.Others() {
		p.Others = append(p.Others, pageOther{plain(spanText(o.Span)), plain(o.Message)})
	}
	return p
}

// maxShown is how much of a long line stands on the page, in characters.
const maxShown = 400

// pageFrame draws the marks of one file: a line of a trace once for each time
// that the trace comes by, others once with all their marks.
func (r *AuditReport) pageFrame(g []mark, traced bool) pageFrame {
	frame := pageFrame{File: plain(g[0].span.File)}
	last := 0
	for _, m := range g {
		note := pageNote{Main: m.main, Text: plain(m.note), Step: m.step}
		if m.span.Line == 0 {
			frame.Lines = append(frame.Lines, pageLine{Notes: []pageNote{note}})
			continue
		}
		if last == m.span.Line && !traced {
			l := &frame.Lines[len(frame.Lines)-1]
			l.Notes = append(l.Notes, note)
			continue
		}
		if last > 0 && m.span.Line != last+1 && m.span.Line != last {
			frame.Lines = append(frame.Lines, pageLine{Gap: true})
		}
		last = m.span.Line
		l := pageLine{N: m.span.Line, Notes: []pageNote{note}}
		if text, ok := r.lineOf(m.span.File, m.span.Line); ok {
			l.Before, l.Marked, l.After = cut(text, m.span)
		} else {
			l.Before = "(source not available)"
		}
		frame.Lines = append(frame.Lines, l)
	}
	return frame
}

// cut parts a line at a span, and shortens what is long around it.
func cut(text string, s audit.Span) (before, marked, after string) {
	runes := []rune(strings.TrimRight(text, " \t"))
	start := min(max(s.Column-1, 0), len(runes))
	end := len(runes)
	if s.EndLine == s.Line && s.EndColumn > s.Column {
		end = min(start+s.EndColumn-s.Column, len(runes))
	}
	short := func(in []rune, keepEnd bool) string {
		if len(in) <= maxShown {
			return string(in)
		}
		if keepEnd {
			return "…" + string(in[len(in)-maxShown:])
		}
		return string(in[:maxShown]) + "…"
	}
	clean := func(s string) string {
		if !utf8.ValidString(s) {
			s = strings.ToValidUTF8(s, "\uFFFD")
		}
		return plain(strings.ReplaceAll(s, "\t", "    "))
	}
	return clean(short(runes[:start], true)), clean(short(runes[start:end], false)), clean(short(runes[end:], false))
}
