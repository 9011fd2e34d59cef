package report

import (
	"cmp"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/audit"
)

// AuditReport is the result of an audit, ready to be written.
type AuditReport struct {
	Version string
	App     string
	Profile string
	// Config is the settings file in force, "" for none.
	Config string
	// Findings are what counts; Suppressed what somebody decided to live
	// with. Both are as [audit.Grouped] makes them: one for each cause.
	Findings   []audit.Finding
	Suppressed []audit.Finding
	// Rules are the rules that ran.
	Rules []*audit.Rule
	// Source returns a file's text for code frames; nil if it is gone.
	Source func(file string) []byte

	Files, Lines, Routes int
	Duration             time.Duration
	// Cached is when it was found, if nothing has changed since and it was
	// not found again; zero otherwise.
	Cached time.Time
	// Skipped files were not read, NotUnderstood read but not understood,
	// Unproven rules could not look. They are never silent.
	Skipped       []Note
	NotUnderstood []Note
	Unproven      []Note
	// Since is set when only the findings on changed lines are here.
	Since *Since
	// FailOn is the threshold in words, Exit the status dewar will end with.
	FailOn string
	Exit   int
	// Fails reports whether a finding reaches the threshold; nil means that
	// all do.
	Fails func(audit.Finding) bool
	// Base is the project's folder as the one who asked sees it, "" if it is
	// the same: what a build server needs before a path.
	Base string
	// All shows findings of low severity and suppressed ones in full.
	All bool

	starts map[string][]int // where the lines of files begin
}

// Since says what the findings are limited to.
type Since struct {
	Revision  string `json:"revision"`
	Base      string `json:"base"`      // the commit compared with
	Elsewhere int    `json:"elsewhere"` // findings on other lines, which are left out
}

// Note is one remark about a place.
type Note struct {
	Place string `json:"place"`
	Text  string `json:"text"`
	// File and Line are the place for formats that can point there; "" and 0
	// if it is no place in a file.
	File string `json:"-"`
	Line int    `json:"-"`
}

// Format is one way to write a report: an [AuditReport], a [ChecklistReport].
type Format[R any] struct {
	Name  string // as --format has it
	Doc   string
	Write func(io.Writer, R, Screen) error
}

// AuditFormats lists the formats of "dewar audit", the default first.
var AuditFormats = []Format[*AuditReport]{
	{"text", "code frames for a person", AuditText},
	{"concise", "one line per finding: file:line:column: severity[rule] message; with --all one for each of its places", AuditConcise},
	{"json", "everything, for a program", AuditJSON},
	{"sarif", "SARIF 2.1.0, for code-scanning services and editors", SARIF},
	{"github", "GitHub Actions annotations, at the lines of a pull request", AuditGitHub},
	{"junit", "JUnit XML, for a build server: a suite for each rule", AuditJUnit},
	{"html", "one self-contained page with the traces drawn, to read or to send", AuditHTML},
}

// ChecklistFormats lists the formats of "dewar check", the default first.
var ChecklistFormats = []Format[*ChecklistReport]{
	{"text", "a table with evidence for a person", ChecklistText},
	{"json", "everything, for a program", ChecklistJSON},
	{"html", "one self-contained page, without scripts", ChecklistHTML},
}

// level is the word a compiler would use.
func level(s audit.Severity) string {
	switch {
	case s >= audit.High:
		return "error"
	case s == audit.Medium:
		return "warning"
	}
	return "hint"
}

// places takes findings apart into their places, in the audit's order.
func places(in []audit.Finding) []audit.Finding {
	var out []audit.Finding
	for _, f := range in {
		if f.Places == nil {
			out = append(out, f)
		}
		out = append(out, f.Places...)
	}
	slices.SortStableFunc(out, func(a, b audit.Finding) int {
		return cmp.Or(
			strings.Compare(a.Span.File, b.Span.File), cmp.Compare(a.Span.Line, b.Span.Line),
			cmp.Compare(a.Span.Column, b.Span.Column), strings.Compare(a.Rule.ID, b.Rule.ID))
	})
	return out
}

// bySeverity orders findings for a reader: the worst first, then by place.
func bySeverity(in []audit.Finding) []audit.Finding {
	out := slices.Clone(in)
	slices.SortStableFunc(out, func(a, b audit.Finding) int {
		return cmp.Or(
			cmp.Compare(b.Rule.Severity, a.Rule.Severity),
			cmp.Compare(a.Span.File, b.Span.File),
			cmp.Compare(a.Span.Line, b.Span.Line),
			cmp.Compare(a.Span.Column, b.Span.Column),
			cmp.Compare(a.Rule.ID, b.Rule.ID))
	})
	return out
}
