package audittest

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/dewar-security/dewar/internal/audit"
)

// python finds an interpreter once; empty without one.
var python = sync.OnceValue(func() string {
	p, err := exec.LookPath("python3")
	if err != nil {
		return ""
	}
	return p
})

// Compiles asks Python whether it takes a source. It skips nothing: without
// Python it says nil.
func Compiles(source []byte) error {
	if python() == "" {
		return nil
	}
	cmd := exec.Command(python(), "-c", "import sys; compile(sys.stdin.buffer.read(), 'fixed.py', 'exec')")
	cmd.Stdin = bytes.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// Fix repairs everything in an archive that rules can repair and returns the
// fixes with what is wrong about them: a finding with edits that stays, or a
// file that no longer parses, by our parser or by Python's.
func Fix(t testing.TB, a *txtar.Archive, rules []*audit.Rule) (*audit.Fixes, []string) {
	t.Helper()
	ctx := context.Background()
	p := Project(t, a)
	res := audit.Run(ctx, p, rules, audit.Options{})
	return fix(t, p, res, rules)
}

func fix(t testing.TB, p *audit.Project, res *audit.Result, rules []*audit.Rule) (*audit.Fixes, []string) {
	t.Helper()
	fixes, err := audit.PlanFixes(context.Background(), p, res, rules, audit.Options{}, func(*audit.Finding) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	var problems []string
	for _, r := range fixes.Refused {
		// That a repair brings up another finding is an answer; that it does
		// not do what it says is a fault of the rule.
		if !strings.Contains(r.Reason, "would bring up") {
			problems = append(problems, fmt.Sprintf("the edits of %s at %s:%d do not hold: %s", r.Finding.Rule.ID, r.Finding.Span.File, r.Finding.Span.Line, r.Reason))
		}
	}
	for _, f := range fixes.Files {
		if file := p.File(f.Path); file == nil || file.Python == nil || Compiles(f.Before) != nil {
			continue
		}
		if err := Compiles(f.After); err != nil {
			problems = append(problems, fmt.Sprintf("%s does not compile after the repair: %v\n%s", f.Path, err, f.After))
		}
	}
	return fixes, problems
}
