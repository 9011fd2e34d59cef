package control_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/guard"
)

// sample has an audit and a guard face, a probe face that is not built and a
// detect face that cannot exist.
var sample = &control.Control{
	ID: "sample", Title: "Sample", Promise: "p", Why: "w", Fix: "general fix",
	CWE: []int{1}, ASVS: []string{"1.1.1"}, OWASP: []string{"A01:2025"},
	Rules:  []*audit.Rule{{ID: "DW-SAMPLE-001", Control: "sample"}},
	Layers: []*guard.Spec{{Name: "wall", Control: "sample"}},
	Empty: map[evidence.Face]control.Absence{
		evidence.Probe:  control.NotYet("not built"),
		evidence.Detect: control.Never("cannot be"),
	},
}

func ev(f evidence.Face, check string, o evidence.Outcome, mitigatedBy ...string) evidence.Evidence {
	e := evidence.Evidence{Control: "sample", Face: f, Check: check, Outcome: o, Summary: check + " " + o.String(), MitigatedBy: mitigatedBy}
	if f == evidence.Probe {
		e.URL = "https://localhost/"
	}
	return e
}

func part(e evidence.Evidence) evidence.Evidence {
	e.Partial = true
	return e
}

func TestFold(t *testing.T) {
	const (
		A, G, P, D            = evidence.Audit, evidence.Guard, evidence.Probe, evidence.Detect
		pass, fail, err, none = evidence.Pass, evidence.Fail, evidence.Error, evidence.NotApplicable
	)
	tests := []struct {
		name  string
		in    []evidence.Evidence
		want  control.Status
		cells [4]string // audit, guard, probe, detect
	}{
		{"silence is never a pass", nil, control.Unproven, [4]string{"silent", "silent", "not-yet", "never"}},
		{"only errors", []evidence.Evidence{ev(A, "r", err), ev(G, "wall", err)}, control.Unproven, [4]string{"error", "error", "not-yet", "never"}},
		{"a pass", []evidence.Evidence{ev(A, "r", pass)}, control.Met, [4]string{"pass", "silent", "not-yet", "never"}},
		{"a pass beside an error on the same face", []evidence.Evidence{ev(A, "r", pass), ev(A, "s", err)}, control.Met, [4]string{"error", "silent", "not-yet", "never"}},
		{"a pass of a part proves nothing alone", []evidence.Evidence{part(ev(G, "wall", pass))}, control.Unproven, [4]string{"silent", "partial", "not-yet", "never"}},
		{"a pass of a part beside a whole one", []evidence.Evidence{part(ev(G, "wall", pass)), ev(A, "r", pass)}, control.Met, [4]string{"pass", "partial", "not-yet", "never"}},
		{"a layer that holds a part still mitigates", []evidence.Evidence{ev(A, "r", fail, "wall"), part(ev(G, "wall", pass))}, control.Mitigated, [4]string{"mitigated", "partial", "not-yet", "never"}},
		{"only not applicable", []evidence.Evidence{ev(A, "r", none)}, control.NotApplicable, [4]string{"not-applicable", "silent", "not-yet", "never"}},
		{"not applicable and an error", []evidence.Evidence{ev(A, "r", none), ev(G, "wall", err)}, control.Unproven, [4]string{"not-applicable", "error", "not-yet", "never"}},
		{"audit fails, nothing guards", []evidence.Evidence{ev(A, "r", fail, "wall")}, control.Failed, [4]string{"fail", "silent", "not-yet", "never"}},
		{"audit fails, its layer enforces", []evidence.Evidence{ev(A, "r", fail, "wall"), ev(G, "wall", pass)}, control.Mitigated, [4]string{"mitigated", "pass", "not-yet", "never"}},
		{"audit fails, its layer only observes", []evidence.Evidence{ev(A, "r", fail, "wall"), ev(G, "wall", err)}, control.Failed, [4]string{"fail", "error", "not-yet", "never"}},
		{"audit fails, another layer enforces", []evidence.Evidence{ev(A, "r", fail, "moat"), ev(G, "wall", pass)}, control.Failed, [4]string{"fail", "pass", "not-yet", "never"}},
		{"audit fails and nothing at run time can help", []evidence.Evidence{ev(A, "r", fail), ev(G, "wall", pass)}, control.Failed, [4]string{"fail", "pass", "not-yet", "never"}},
		{"one of two audit failures is open", []evidence.Evidence{ev(A, "r", fail, "wall"), ev(A, "s", fail), ev(G, "wall", pass)}, control.Failed, [4]string{"fail", "pass", "not-yet", "never"}},
		{"probe fails whatever the others say", []evidence.Evidence{ev(A, "r", pass), ev(G, "wall", pass), ev(P, "p", fail)}, control.Failed, [4]string{"pass", "pass", "fail", "never"}},
		{"probe passes, audit failure is mitigated", []evidence.Evidence{ev(A, "r", fail, "wall"), ev(G, "wall", pass), ev(P, "p", pass)}, control.Mitigated, [4]string{"mitigated", "pass", "pass", "never"}},
		{"probe passes, audit failure is open", []evidence.Evidence{ev(A, "r", fail), ev(P, "p", pass)}, control.Failed, [4]string{"fail", "silent", "pass", "never"}},
		{"guard fails", []evidence.Evidence{ev(A, "r", pass), ev(G, "wall", fail)}, control.Failed, [4]string{"pass", "fail", "not-yet", "never"}},
		{"detector fails", []evidence.Evidence{ev(A, "r", pass), ev(D, "d", fail)}, control.Failed, [4]string{"pass", "silent", "not-yet", "fail"}},
	}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// Any order of evidence gives the same checklist.
			var first *control.Checklist
			for i := range 4 {
				in := append([]evidence.Evidence(nil), tt.in...)
				rand.New(rand.NewPCG(uint64(i), 1)).Shuffle(len(in), func(a, b int) { in[a], in[b] = in[b], in[a] })
				got := control.Fold([]*control.Control{sample}, in, now)
				row := got.Rows[0]
				if row.Status != tt.want {
					t.Fatalf("status %v because %q, want %v", row.Status, row.Because, tt.want)
				}
				if row.Because == "" {
					t.Error("no reason given")
				}
				if row.Status == control.Failed && row.Fix == "" {
					t.Error("failed without a fix")
				}
				var cells [4]string
				for i, c := range row.Cells {
					cells[i] = c.State
				}
				if cells != tt.cells {
					t.Errorf("cells %v, want %v", cells, tt.cells)
				}
				if first == nil {
					first = got
				} else if d := cmp.Diff(first, got, cmp.Comparer(func(a, b *control.Control) bool { return a == b })); d != "" {
					t.Errorf("the order of evidence matters:\n%s", d)
				}
			}
		})
	}
}

func TestFoldKeepsWhatItCannotUse(t *testing.T) {
	stray := evidence.Evidence{Control: "nobody", Face: evidence.Audit, Check: "r", Outcome: evidence.Pass, Summary: "s"}
	mute := evidence.Evidence{Control: "sample", Outcome: evidence.Pass}
	noURL := evidence.Evidence{Control: "sample", Face: evidence.Probe, Check: "p", Outcome: evidence.Pass, Summary: "s"}
	got := control.Fold([]*control.Control{sample}, []evidence.Evidence{stray, mute, noURL}, time.Time{})
	if got.Rows[0].Status != control.Unproven {
		t.Errorf("unusable evidence proved something: %v", got.Rows[0])
	}
	if len(got.Unplaced) != 3 || len(got.Problems) != 3 {
		t.Errorf("lost evidence: unplaced %d, problems %q", len(got.Unplaced), got.Problems)
	}
}

func TestScore(t *testing.T) {
	l := &control.Checklist{}
	for _, s := range []control.Status{control.Met, control.Met, control.Mitigated, control.Failed, control.Unproven, control.NotApplicable} {
		l.Rows = append(l.Rows, control.Row{Status: s})
	}
	want := control.Score{Met: 2, Mitigated: 1, Failed: 1, Unproven: 1, NotApplicable: 1, Of: 5, Percent: 50}
	if got := l.Score(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestValidate(t *testing.T) {
	if err := sample.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*control.Control){
		"no promise":       func(c *control.Control) { c.Promise = "" },
		"no references":    func(c *control.Control) { c.CWE = nil },
		"unexplained face": func(c *control.Control) { c.Empty = nil },
		"both there and not": func(c *control.Control) {
			c.Empty = map[evidence.Face]control.Absence{evidence.Audit: control.NotYet("x"), evidence.Probe: control.NotYet("x"), evidence.Detect: control.NotYet("x")}
		},
		"a stranger's rule": func(c *control.Control) { c.Rules = []*audit.Rule{{ID: "DW-OTHER-001", Control: "other"}} },
	} {
		c := *sample
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
