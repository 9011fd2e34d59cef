package audit_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/audit/audittest"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// causeRule finds calls of two functions, each a cause of its own.
var causeRule = &audit.Rule{
	ID: "DW-TEST-002", Control: "injection", Title: "Input is run", Fix: "do not", Severity: audit.Low, Confidence: audit.Certain,
	Check: func(p *audit.Pass) {
		for f := range p.Python() {
			for i := range f.Python.Nodes {
				fn, args, _ := f.Python.Call(pysyntax.ID(i))
				if fn == 0 {
					continue
				}
				switch name := f.Python.Name(fn); name {
				case "eval", "exec":
					x := audit.Finding{Span: f.NodeSpan(pysyntax.ID(i)), Message: name + " of " + string(f.Python.Text(args[0])), Cause: "input is given to " + name}
					if f.Python.Kind(args[0]) != pysyntax.Name {
						x.Confidence = audit.Possible
					}
					p.Report(x)
				}
			}
		}
	},
}

func grouped(t *testing.T, text string, opt audit.Options) (shown []string, res *audit.Result) {
	t.Helper()
	res = audit.Run(context.Background(), audittest.Project(t, txtar.Parse([]byte(text))), []*audit.Rule{causeRule}, opt)
	for _, f := range audit.Grouped(res.Findings) {
		at := ""
		for _, o := range f.Others() {
			at += fmt.Sprintf(" %s:%d", o.Span.File, o.Span.Line)
		}
		shown = append(shown, fmt.Sprintf("%s:%d %s%s", f.Span.File, f.Span.Line, f.Message, at))
	}
	return shown, res
}

func TestGrouped(t *testing.T) {
	const before = "-- a.py --\neval(f(1))\nexec(b)\neval(c)\n-- b.py --\neval(d)\n"
	shown, first := grouped(t, before, audit.Options{})
	want := []string{"a.py:2 exec of b", "a.py:3 input is given to eval: 3 places in 2 files a.py:1 b.py:1"}
	if d := cmp.Diff(want, shown); d != "" {
		t.Errorf("the surest place does not stand in for its cause:\n%s", d)
	}
	// Evidence speaks of causes, the outcome of the rule of places.
	if n := len(first.Evidence(first.Cached)); n != 2 {
		t.Errorf("%d pieces of evidence, want 2", n)
	}

	// A suppression takes its own place out and no other.
	shown, _ = grouped(t, strings.Replace(before, "eval(c)", "eval(c)  # dewar: ignore[DW-TEST-002] a calculator", 1), audit.Options{})
	want = []string{"a.py:2 exec of b", "b.py:1 input is given to eval: 2 places in 2 files a.py:1"}
	if d := cmp.Diff(want, shown); d != "" {
		t.Errorf("a suppression:\n%s", d)
	}

	// A baseline knows the places: one more is new, and alone.
	var buf bytes.Buffer
	if err := first.Baseline().Write(&buf); err != nil {
		t.Fatal(err)
	}
	base, err := audit.ReadBaseline(&buf, "b.json")
	if err != nil {
		t.Fatal(err)
	}
	after, res := grouped(t, strings.Replace(before, "exec(b)", "import os\nexec(b)\neval(new)", 1), audit.Options{Baseline: base})
	if d := cmp.Diff([]string{"a.py:4 eval of new"}, after); d != "" {
		t.Errorf("a new place of a known cause:\n%s", d)
	}
	if n := len(audit.Grouped(res.Suppressed)); n != 2 {
		t.Errorf("what the baseline silences is shown as %d findings, want 2", n)
	}
}

// TestGroupedFingerprint: the name of a cause is the same whatever places it
// has, and places keep names of their own.
func TestGroupedFingerprint(t *testing.T) {
	_, one := grouped(t, "-- a.py --\neval(a)\n", audit.Options{})
	_, many := grouped(t, "-- a.py --\nimport os\nexec(os)\neval(a)\n-- b.py --\neval(b)\n", audit.Options{})
	x, y := audit.Grouped(one.Findings), audit.Grouped(many.Findings)
	if len(x) != 1 || len(y) != 2 || x[0].Fingerprint != y[1].Fingerprint || y[0].Fingerprint == y[1].Fingerprint {
		t.Errorf("the fingerprints of the causes: %v, %v", x, y)
	}
	if x[0].Fingerprint == one.Findings[0].Fingerprint || y[1].Places[0].Fingerprint == y[1].Places[1].Fingerprint {
		t.Error("places have no fingerprints of their own")
	}
}
