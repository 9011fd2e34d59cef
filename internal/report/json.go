package report

import (
	"encoding/json"
	"io"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/control"
)

// jsonVersion is raised when a field changes its meaning or goes away; new
// fields do not raise it.
const jsonVersion = 1

type jsonSpan struct {
	File      string `json:"file"`
	Line      int    `json:"line,omitempty"`
	Column    int    `json:"column,omitempty"`
	EndLine   int    `json:"end_line,omitempty"`
	EndColumn int    `json:"end_column,omitempty"`
}

type jsonStep struct {
	jsonSpan
	Note string `json:"note,omitempty"`
}

// jsonPlace is one place of a cause. Its fingerprint is what a baseline names.
type jsonPlace struct {
	jsonSpan
	Message     string     `json:"message"`
	Confidence  string     `json:"confidence"`
	Trace       []jsonStep `json:"trace,omitempty"`
	Fingerprint string     `json:"fingerprint"`
}

type jsonFinding struct {
	Rule       string   `json:"rule"`
	Control    string   `json:"control"`
	Severity   string   `json:"severity"`
	Confidence string   `json:"confidence"`
	Title      string   `json:"title"`
	Message    string   `json:"message"`
	Location   jsonSpan `json:"location"`
	// Places are all places of the finding's cause, its own included.
	Places      []jsonPlace `json:"places,omitempty"`
	Related     []jsonStep  `json:"related,omitempty"`
	Trace       []jsonStep  `json:"trace,omitempty"`
	Fix         string      `json:"fix"`
	CWE         []int       `json:"cwe"`
	OWASP       []string    `json:"owasp,omitempty"`
	ASVS        []string    `json:"asvs,omitempty"`
	MitigatedBy []string    `json:"mitigated_by,omitempty"`
	Fingerprint string      `json:"fingerprint"`
	Suppressed  *struct {
		Kind   string `json:"kind"`
		Reason string `json:"reason,omitempty"`
	} `json:"suppressed,omitempty"`
}

func spanJSON(s audit.Span) jsonSpan {
	return jsonSpan{s.File, s.Line, s.Column, s.EndLine, s.EndColumn}
}

func stepsJSON(in []audit.Step) []jsonStep {
	var out []jsonStep
	for _, s := range in {
		out = append(out, jsonStep{spanJSON(s.Span), s.Note})
	}
	return out
}

func findingsJSON(in []audit.Finding) []jsonFinding {
	out := []jsonFinding{}
	for _, f := range in {
		j := jsonFinding{
			Rule: f.Rule.ID, Control: string(f.Rule.Control), Severity: f.Rule.Severity.String(),
			Confidence: f.Sure().String(), Title: f.Rule.Title, Message: f.Message,
			Location: spanJSON(f.Span), Related: stepsJSON(f.Related), Trace: stepsJSON(f.Trace), Fix: f.Fix,
			CWE: f.Rule.CWE, OWASP: f.Rule.OWASP, ASVS: f.Rule.ASVS, MitigatedBy: f.Rule.MitigatedBy, Fingerprint: f.Fingerprint,
		}
		for _, p := range f.Places {
			j.Places = append(j.Places, jsonPlace{spanJSON(p.Span), p.Message, p.Sure().String(), stepsJSON(p.Trace), p.Fingerprint})
		}
		if j.Fix == "" {
			j.Fix = f.Rule.Fix
		}
		if f.Suppressed != nil {
			j.Suppressed = &struct {
				Kind   string `json:"kind"`
				Reason string `json:"reason,omitempty"`
			}{f.Suppressed.Kind, f.Suppressed.Reason}
		}
		out = append(out, j)
	}
	return out
}

// AuditJSON writes everything an audit found. It holds no time and no
// duration: the same tree gives the same bytes.
func AuditJSON(w io.Writer, r *AuditReport, _ Screen) error {
	rules := make([]string, 0, len(r.Rules))
	for _, k := range r.Rules {
		rules = append(rules, k.ID)
	}
	return encode(w, struct {
		Format        string        `json:"format"`
		FormatVersion int           `json:"format_version"`
		Dewar         string        `json:"dewar"`
		App           string        `json:"app"`
		Profile       string        `json:"profile"`
		Files         int           `json:"files"`
		Lines         int           `json:"lines"`
		Routes        int           `json:"routes"`
		Rules         []string      `json:"rules"`
		Since         *Since        `json:"since,omitempty"`
		Findings      []jsonFinding `json:"findings"`
		Suppressed    []jsonFinding `json:"suppressed"`
		Skipped       []Note        `json:"skipped"`
		NotUnderstood []Note        `json:"not_understood"`
		Unproven      []Note        `json:"rules_unproven"`
	}{"dewar-audit", jsonVersion, r.Version, r.App, r.Profile, r.Files, r.Lines, r.Routes, rules, r.Since,
		findingsJSON(r.Findings), findingsJSON(r.Suppressed), list(r.Skipped), list(r.NotUnderstood), list(r.Unproven)})
}

// ChecklistJSON writes the checklist with all its evidence.
func ChecklistJSON(w io.Writer, r *ChecklistReport, _ Screen) error {
	return encode(w, struct {
		Format        string        `json:"format"`
		FormatVersion int           `json:"format_version"`
		Score         control.Score `json:"score"`
		*ChecklistReport
	}{"dewar-checklist", jsonVersion, r.Score(), r})
}

// list makes nil an empty list, which is easier for programs than null.
func list[T any](in []T) []T {
	if in == nil {
		return []T{}
	}
	return in
}

func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
