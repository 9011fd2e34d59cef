package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/audit"
)

// groupedAudit has two causes: one of thirty places, one of two flows.
func groupedAudit() *AuditReport {
	r := sampleAudit()
	var all []audit.Finding
	for i := range 30 {
		all = append(all, audit.Finding{
			Rule: sampleRule, Span: audit.Span{File: "[a].py", Line: i + 1, Column: 1, EndLine: i + 1, EndColumn: 4},
			Message: fmt.Sprintf("place %d", i+1), Cause: "things are dangerous", Fingerprint: fmt.Sprintf("%032d", i),
		})
	}
	for i := range 2 {
		s := audit.Span{File: "app.py", Line: i + 1, Column: 1, EndLine: i + 1, EndColumn: 3}
		all = append(all, audit.Finding{
			Rule: traceRule, Span: s, Message: "a flow", Cause: "things flow", Fingerprint: fmt.Sprintf("%032d", 100+i),
			Trace: []audit.Step{{Span: s, Note: "source"}, {Span: s, Note: "sink"}},
		})
	}
	r.Findings = audit.Grouped(all)
	return r
}

func TestGroupedText(t *testing.T) {
	r := groupedAudit()
	out := render(t, func(b *bytes.Buffer) error { return AuditText(b, r, Screen{Width: 100}) })
	for _, want := range []string{"error[DW-SAMPLE-001]: things are dangerous: 30 places", "[a].py:6:1  place 6", "24 more places; --all shows them", "app.py:2:1", "2 errors"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "place 7") {
		t.Error("all places are named without --all")
	}
	one := render(t, func(b *bytes.Buffer) error { return AuditConcise(b, r, Screen{}) })
	r.All = true
	if out := render(t, func(b *bytes.Buffer) error { return AuditText(b, r, Screen{Width: 100}) }); !strings.Contains(out, "[a].py:30:1  place 30") {
		t.Errorf("--all leaves a place out:\n%s", out)
	}
	all := render(t, func(b *bytes.Buffer) error { return AuditConcise(b, r, Screen{}) })
	if n, m := strings.Count(one, "\n"), strings.Count(all, "\n"); n != 2 || m != 32 {
		t.Errorf("%d lines, with --all %d; want 2 and 32", n, m)
	}
	if page := render(t, func(b *bytes.Buffer) error { return AuditHTML(b, r, Screen{}) }); !strings.Contains(page, "29 more places") || !strings.Contains(page, "place 30") {
		t.Error("the page leaves a place out")
	}
	if suites := render(t, func(b *bytes.Buffer) error { return AuditJUnit(b, r, Screen{}) }); !strings.Contains(suites, `name="things are dangerous"`) {
		t.Errorf("a cause's case is not called after it:\n%s", suites)
	}
	if notes := render(t, func(b *bytes.Buffer) error { return AuditGitHub(b, r, Screen{}) }); checkCommands(t, notes) != 2+3 || !strings.Contains(notes, "%0Aand at 9 more places") {
		t.Errorf("annotations:\n%s", notes)
	}
}

func TestGroupedForPrograms(t *testing.T) {
	var log sarifLog
	if err := json.Unmarshal([]byte(render(t, func(b *bytes.Buffer) error { return SARIF(b, groupedAudit(), Screen{}) })), &log); err != nil {
		t.Fatal(err)
	}
	var flows, places int
	for _, res := range log.Runs[0].Results {
		switch {
		case res.RuleID == traceRule.ID:
			flows += len(res.CodeFlows)
		case len(res.RelatedLocations) > 0:
			places = len(res.RelatedLocations)
			if !strings.Contains(res.Message.Text, `Also at [\[a\].py:2:1](1)`) || !strings.HasSuffix(res.Message.Text, "And at 9 more places") {
				t.Errorf("the message links to %q", res.Message.Text)
			}
		}
	}
	if flows != 2 || places != 29 {
		t.Errorf("%d flows and %d related places, want 2 and 29", flows, places)
	}
	var v struct {
		Findings []struct {
			Fingerprint string `json:"fingerprint"`
			Places      []struct {
				Line        int    `json:"line"`
				Fingerprint string `json:"fingerprint"`
			} `json:"places"`
		} `json:"findings"`
	}
	if err := json.Unmarshal([]byte(render(t, func(b *bytes.Buffer) error { return AuditJSON(b, groupedAudit(), Screen{}) })), &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Findings) != 2 || len(v.Findings[0].Places) != 30 || v.Findings[0].Places[4].Fingerprint != fmt.Sprintf("%032d", 4) || v.Findings[0].Places[4].Line != 5 {
		t.Errorf("%+v", v)
	}
}
