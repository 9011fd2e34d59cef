package report

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/guard"
)

var sampleRule = &audit.Rule{
	ID: "DW-SAMPLE-001", Control: "sample", Title: "A sample", Why: "because", Fix: "mend it",
	Severity: audit.High, Confidence: audit.Certain, CWE: []int{79}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.2.1"},
	Bad: "bad()", Good: "good()", MitigatedBy: []string{"wall"},
}

var traceRule = &audit.Rule{
	ID: "DW-SAMPLE-002", Control: "sample", Title: "A flow", Why: "because", Fix: "mend it",
	Severity: audit.Critical, Confidence: audit.Likely, CWE: []int{89}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.2.4"},
}

const source = "import x\n\tkey = \"é\" + danger(1)\nlast line\n"

// hostile is a file name and a message from an attacker's repository: they
// must not drive a terminal, break out of HTML or become an invalid URI.
const hostile = "a b#\x1b[31m/<script>alert(1)</script>.py"

func sampleAudit() *AuditReport {
	return &AuditReport{
		Version: "1.2.3", App: "shop", Profile: "production", Config: "dewar.toml",
		Rules: []*audit.Rule{sampleRule, traceRule},
		Findings: []audit.Finding{
			{Rule: sampleRule, Span: audit.Span{File: "app.py", Line: 2, Column: 14, EndLine: 2, EndColumn: 23}, Message: "danger is called", Label: "here", Fingerprint: strings.Repeat("a", 32),
				Related: []audit.Step{{Span: audit.Span{File: "app.py", Line: 1, Column: 1, EndLine: 1, EndColumn: 9}, Note: "imported here"}}},
			{Rule: traceRule, Span: audit.Span{File: "app.py", Line: 3, Column: 1, EndLine: 3, EndColumn: 5}, Message: "a flow", Fingerprint: strings.Repeat("b", 32),
				Trace: []audit.Step{{Span: audit.Span{File: "app.py", Line: 1, Column: 1, EndLine: 1, EndColumn: 7}, Note: "source"}, {Span: audit.Span{File: "lib/b.py", Line: 9, Column: 1}, Note: "passes"}, {Span: audit.Span{File: "app.py", Line: 3, Column: 1, EndLine: 3, EndColumn: 5}, Note: "sink"}}},
			{Rule: sampleRule, Span: audit.Span{File: hostile}, Message: "the whole file \x1b]0;owned\x07", Fingerprint: strings.Repeat("c", 32)},
		},
		Suppressed: []audit.Finding{{Rule: sampleRule, Span: audit.Span{File: "app.py", Line: 1, Column: 1}, Message: "accepted", Suppressed: &audit.Suppression{Kind: "baseline", Reason: "known"}}},
		Source: func(f string) []byte {
			if f == "app.py" {
				return []byte(source)
			}
			return nil
		},
		Files: 3, Lines: 40, Routes: 2, Duration: time.Second,
		Skipped:       []Note{{Place: "big.bin", Text: "50 MB", File: "big.bin"}},
		NotUnderstood: []Note{{Place: "old.py:3:1", Text: "print x", File: "old.py", Line: 3}},
		Unproven:      []Note{{Place: "DW-SAMPLE-009", Text: "panicked"}},
		FailOn:        "medium and above", Exit: 1,
	}
}

func render(t *testing.T, write func(*bytes.Buffer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestSARIFAgainstTheOfficialSchema(t *testing.T) {
	f, err := os.Open("testdata/sarif-schema-2.1.0.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("sarif.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("sarif.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*AuditReport{"full": sampleAudit(), "empty": {Version: "1", FailOn: "low"}} {
		out := render(t, func(b *bytes.Buffer) error { return SARIF(b, r, Screen{}) })
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(out))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	// The schema must be able to say no, or the test above proves nothing.
	if err := schema.Validate(map[string]any{"version": "2.1.0", "runs": []any{map[string]any{}}}); err == nil {
		t.Error("the schema accepts a run without a tool")
	}
}

func TestSARIFCarriesTheTrace(t *testing.T) {
	var log sarifLog
	if err := json.Unmarshal([]byte(render(t, func(b *bytes.Buffer) error { return SARIF(b, sampleAudit(), Screen{}) })), &log); err != nil {
		t.Fatal(err)
	}
	run := log.Runs[0]
	if n := len(run.Results[1].CodeFlows[0].ThreadFlows[0].Locations); n != 3 {
		t.Errorf("%d steps in the code flow, want 3", n)
	}
	if got := run.Results[2].Locations[0].PhysicalLocation.ArtifactLocation.URI; strings.ContainsAny(got, " #<\x1b") {
		t.Errorf("%q is no URI", got)
	}
	if len(run.Results[3].Suppressions) != 1 || run.Results[3].Suppressions[0].Kind != "external" {
		t.Errorf("the suppressed finding is not marked: %+v", run.Results[3])
	}
	if n := len(run.Invocations[0].ToolExecutionNotifications); n != 3 {
		t.Errorf("%d notifications, want 3: what was not read must be said", n)
	}
	for _, res := range run.Results {
		if run.Tool.Driver.Rules[res.RuleIndex].ID != res.RuleID {
			t.Errorf("result of %s points at rule %d", res.RuleID, res.RuleIndex)
		}
	}
}

func TestAuditText(t *testing.T) {
	for _, width := range []int{0, 40, 80, 120} {
		out := render(t, func(b *bytes.Buffer) error { return AuditText(b, sampleAudit(), Screen{Width: width}) })
		for _, want := range []string{"error[DW-SAMPLE-001]: danger is called", "app.py:2:14", "━━━━━━━━━ here", "imported here", "3 sink", "dewar explain DW-SAMPLE-001", "big.bin: 50 MB", "old.py:3:1: print x", "DW-SAMPLE-009: panicked", "1 suppressed (1 baseline)", "exit 1"} {
			if !strings.Contains(out, want) {
				t.Errorf("width %d: no %q in:\n%s", width, want, out)
			}
		}
		if strings.ContainsAny(out, "\x1b\x07") {
			t.Errorf("width %d: control characters reach the terminal", width)
		}
	}
	// The mark stands under the marked code, tabs and wide characters counted.
	lines := strings.Split(render(t, func(b *bytes.Buffer) error { return AuditText(b, sampleAudit(), Screen{}) }), "\n")
	for i, l := range lines {
		if strings.Contains(l, "━ here") {
			code, under := []rune(lines[i-1]), []rune(l)
			at := strings.Index(string(under), "━")
			col := len([]rune(string(under)[:at]))
			if got := string(code[col : col+9]); got != "danger(1)" {
				t.Errorf("the mark is under %q:\n%s\n%s", got, lines[i-1], l)
			}
		}
	}
	if out := render(t, func(b *bytes.Buffer) error {
		return AuditText(b, sampleAudit(), Screen{Colour: true, Environ: []string{"TERM=xterm-256color"}})
	}); !strings.Contains(out, "\x1b[") {
		t.Error("no colour on a colour terminal")
	}
}

func TestAuditJSONIsTheSameEveryTime(t *testing.T) {
	a, b := sampleAudit(), sampleAudit()
	b.Duration = time.Hour
	one := render(t, func(w *bytes.Buffer) error { return AuditJSON(w, a, Screen{}) })
	if one != render(t, func(w *bytes.Buffer) error { return AuditJSON(w, b, Screen{}) }) {
		t.Error("two runs differ")
	}
	var v struct {
		Findings []struct{ Rule, Severity string } `json:"findings"`
		Skipped  []Note                            `json:"skipped"`
	}
	if err := json.Unmarshal([]byte(one), &v); err != nil || len(v.Findings) != 3 || v.Findings[0].Severity != "high" || len(v.Skipped) != 1 {
		t.Errorf("%v %+v", err, v)
	}
}

func sampleChecklist() *ChecklistReport {
	c := &control.Control{
		ID: "sample", Title: "A sample <b>", Promise: "p", Why: "w", Fix: "f", CWE: []int{1}, ASVS: []string{"1"}, OWASP: []string{"A"},
		Rules: []*audit.Rule{sampleRule}, Layers: []*guard.Spec{{Name: "wall", Control: "sample"}},
		Empty: map[evidence.Face]control.Absence{evidence.Probe: control.NotYet("not built"), evidence.Detect: control.Never("cannot be")},
	}
	d := *c
	d.ID, d.Title = "other", "Another"
	return &ChecklistReport{
		Checklist: control.Fold([]*control.Control{c, &d}, []evidence.Evidence{
			{Control: "sample", Face: evidence.Audit, Check: "DW-SAMPLE-001", Outcome: evidence.Fail, Summary: "danger <script>alert(1)</script>\x1b[31m", Fix: "mend it", Location: &evidence.Location{File: "app.py", Line: 2}},
			{Control: "nobody", Face: evidence.Audit, Check: "r", Outcome: evidence.Pass, Summary: "stray"},
		}, time.Unix(1e9, 0)),
		Version: "1", App: "shop", Profile: "production", Looked: map[string]string{"audit": "3 files", "guard": "not running"},
	}
}

func TestChecklistText(t *testing.T) {
	out := render(t, func(b *bytes.Buffer) error { return ChecklistText(b, sampleChecklist(), Screen{}) })
	for _, want := range []string{"0 of 2 promises hold", "✗ failed", "DW-SAMPLE-001 app.py:2", "= fix mend it", "? unproven", "audit: 3 files", "guard: not running", "unknown control \"nobody\"", "Next: dewar explain DW-SAMPLE-001"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("a summary drives the terminal")
	}
	if strings.Index(out, "✗ failed") > strings.Index(out, "? unproven") {
		t.Error("what is broken does not come first")
	}
}

func TestChecklistHTML(t *testing.T) {
	out := render(t, func(b *bytes.Buffer) error { return ChecklistHTML(b, sampleChecklist(), Screen{}) })
	if strings.Contains(out, "<script") || strings.Contains(out, "<b>\"") {
		t.Error("text became markup")
	}
	for _, want := range []string{"&lt;script&gt;alert(1)", "default-src &#39;none&#39;", "A sample &lt;b&gt;", "mend it", "CWE-1"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(out, "http://") || strings.Contains(out, "src=") {
		t.Error("the page needs something from elsewhere")
	}
}

func TestChecklistJSON(t *testing.T) {
	var v struct {
		Score    control.Score `json:"score"`
		Controls []struct {
			ID, Status string
			Faces      []control.Cell
		} `json:"controls"`
	}
	if err := json.Unmarshal([]byte(render(t, func(b *bytes.Buffer) error { return ChecklistJSON(b, sampleChecklist(), Screen{}) })), &v); err != nil {
		t.Fatal(err)
	}
	if v.Score.Failed != 1 || len(v.Controls) != 2 || v.Controls[0].Status != "failed" || len(v.Controls[0].Faces) != 4 {
		t.Errorf("%+v", v)
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("a\x1b[31mb")
	f.Add("\u202eevil")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range plain(s) {
			if r < 0x20 || r == 0x7f || r == 0x1b || r >= 0x80 && r < 0xa0 || r >= 0x202a && r <= 0x202e {
				t.Fatalf("%q keeps %U", s, r)
			}
		}
	})
}
