package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
)

// AuditGitHub writes GitHub Actions workflow commands: each finding becomes a
// note in the pull request, at its line. GitHub shows ten errors and ten
// warnings of a step, so the worst come first.
//
// Format and escaping are those of the actions toolkit (docs.github.com,
// "Workflow commands for GitHub Actions"): a finding whose text could end its
// command, or begin another, would let a project's author speak for the audit.
func AuditGitHub(w io.Writer, r *AuditReport, _ Screen) error {
	var b bytes.Buffer
	for _, f := range bySeverity(r.Findings) {
		kind := map[string]string{"error": "error", "warning": "warning", "hint": "notice"}[level(f.Rule.Severity)]
		text := []string{f.Message}
		others := f.Others()
		for _, o := range others[:min(len(others), 20)] {
			text = append(text, "also at "+spanText(o.Span))
		}
		if left := len(others) - 20; left > 0 {
			text = append(text, fmt.Sprintf("and at %d more places", left))
		}
		for i, s := range f.Trace {
			text = append(text, fmt.Sprintf("%d. %s: %s", i+1, spanText(s.Span), s.Note))
		}
		text = append(text, "Fix: "+cmp.Or(f.Fix, f.Rule.Fix), fmt.Sprintf("%s, %s; dewar explain %s", f.Rule.Severity, f.Sure(), f.Rule.ID))
		props := [][2]string{{"title", f.Rule.ID + ": " + f.Rule.Title}}
		if f.Span.File != "" {
			props = append(props, [2]string{"file", r.inWorkspace(f.Span.File)})
		}
		if s := f.Span; s.Line > 0 {
			props = append(props, [2]string{"line", fmt.Sprint(s.Line)}, [2]string{"endLine", fmt.Sprint(max(s.Line, s.EndLine))})
			if s.EndLine <= s.Line { // GitHub takes columns within one line only
				props = append(props, [2]string{"col", fmt.Sprint(max(1, s.Column))})
				if s.EndColumn > s.Column {
					props = append(props, [2]string{"endColumn", fmt.Sprint(s.EndColumn)})
				}
			}
		}
		command(&b, kind, props, strings.Join(text, "\n"))
	}
	for _, l := range []struct {
		kind, title string
		notes       []Note
	}{{"warning", "not understood", r.NotUnderstood}, {"warning", "skipped", r.Skipped}, {"error", "rule could not look", r.Unproven}} {
		for _, n := range l.notes {
			props := [][2]string{{"title", "dewar: " + l.title}}
			if n.File != "" {
				props = append(props, [2]string{"file", r.inWorkspace(n.File)})
				if n.Line > 0 {
					props = append(props, [2]string{"line", fmt.Sprint(n.Line)})
				}
			}
			command(&b, l.kind, props, n.Place+": "+n.Text)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// inWorkspace is a file's path as the workflow sees it.
func (r *AuditReport) inWorkspace(file string) string { return path.Join(r.Base, file) }

// command writes one workflow command.
func command(b *bytes.Buffer, kind string, props [][2]string, text string) {
	b.WriteString("::" + kind)
	for i, p := range props {
		b.WriteString(map[bool]string{true: " ", false: ","}[i == 0])
		b.WriteString(p[0] + "=" + commandProperty.Replace(commandText(p[1])))
	}
	b.WriteString("::" + commandText(text) + "\n")
}

// commandProperty escapes what ends a property, over commandText.
var commandProperty = strings.NewReplacer(":", "%3A", ",", "%2C")

var commandEscapes = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")

// commandText escapes what ends a command. Other control characters, which
// the log would hand to a terminal, are replaced.
func commandText(s string) string {
	lines := strings.Split(strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\r\n", "\n"), "\n")
	for i := range lines {
		lines[i] = plain(lines[i])
	}
	return commandEscapes.Replace(strings.Join(lines, "\n"))
}

// spanText is a place in short: file:line:column.
func spanText(s audit.Span) string {
	if s.Line == 0 {
		return s.File
	}
	return fmt.Sprintf("%s:%d:%d", s.File, s.Line, s.Column)
}
