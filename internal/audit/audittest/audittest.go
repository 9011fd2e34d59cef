// Package audittest tests audit rules against their own examples and against
// cases in testdata.
//
// A case is one txtar file: prose that says what is tested, then the files of
// a small project. A comment on the line it concerns says which rules must
// find something there:
//
//	app.run(debug=True)  # want DW-SETTINGS-001
//	{{ name|safe }}  {# want DW-INJECTION-003 #}
//
// The comment is taken out before the rules look. Every other finding fails
// the test, so a near miss is simply a line without one. Where no comment can
// stand (JSON, a line's meaning would change, the finding is about the whole
// file), a file named "want" in the archive holds lines such as
// "package.json:3: DW-XXX-001", or "Dockerfile: DW-XXX-002" for a whole file.
// The edits of the findings are tried as well: what they repair has to be gone
// afterwards, and the file must still be Python.
//
// A file named "tracked" lists the files that git would track; without it,
// whether a file is tracked is not known.
package audittest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/evidence"
)

// Run tests rules by [Examples] and by [Corpus] over testdata/*.txtar.
func Run(t *testing.T, rules []*audit.Rule) {
	t.Run("examples", func(t *testing.T) { Examples(t, rules) })
	t.Run("corpus", func(t *testing.T) { Corpus(t, rules, "testdata/*.txtar") })
}

// Examples holds that each rule finds its Bad example and is silent about its
// Good one. An example may be a txtar archive of several files; otherwise it
// is the file that Rule.File names.
func Examples(t *testing.T, rules []*audit.Rule) {
	t.Helper()
	if len(rules) == 0 {
		t.Fatal("no rules")
	}
	for _, r := range rules {
		t.Run(r.ID, func(t *testing.T) {
			if r.Bad == "" || r.Good == "" {
				t.Fatal("the rule has no Bad and Good example")
			}
			bad := audited(t, example(r, r.Bad), []*audit.Rule{r})
			if len(bad.Findings) == 0 {
				t.Errorf("Bad is not found (%s %s):\n%s", bad.Outcomes[0].Outcome, bad.Outcomes[0].Reason, r.Bad)
			}
			repairs := false
			for _, f := range bad.Findings {
				if f.Span.File == "" {
					t.Errorf("a finding without a file: %s", f.Message)
				}
				repairs = repairs || len(f.Edits) > 0
			}
			if repairs {
				_, problems := Fix(t, example(r, r.Bad), []*audit.Rule{r})
				for _, p := range problems {
					t.Error(p)
				}
			}
			good := audited(t, example(r, r.Good), []*audit.Rule{r})
			for _, f := range good.Findings {
				t.Errorf("Good is found at %s:%d: %s\n%s", f.Span.File, f.Span.Line, f.Message, r.Good)
			}
			if o := good.Outcomes[0]; o.Outcome == evidence.Error {
				t.Errorf("the rule could not look at Good: %s", o.Reason)
			}
			for _, p := range append(bad.NotUnderstood, good.NotUnderstood...) {
				t.Errorf("an example is not understood: %s:%d: %s", p.Span.File, p.Span.Line, p.Message)
			}
		})
	}
}

func example(r *audit.Rule, text string) *txtar.Archive {
	if a := txtar.Parse([]byte(text)); len(a.Files) > 0 {
		return a
	}
	name := r.File
	if name == "" {
		name = "app.py"
	}
	return &txtar.Archive{Files: []txtar.File{{Name: name, Data: []byte(text)}}}
}

// Corpus runs every case that the pattern names. No case is a failure.
func Corpus(t *testing.T, rules []*audit.Rule, pattern string) {
	t.Helper()
	cases, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatalf("no cases in %s", pattern)
	}
	for _, name := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range Check(t, a, rules) {
				t.Error(p)
			}
		})
	}
}

// wantRE finds the comment on a line: its mark, the ids, and what closes it.
var wantRE = regexp.MustCompile(`[ \t]*(?:#|//|\{#|<!--|/\*|;)[ \t]*want((?:[ \t,]+DW-[A-Z0-9]+-[A-Z0-9]+)+)[ \t]*(?:#\}|-->|\*/)?[ \t]*$`)

var wantLineRE = regexp.MustCompile(`^(.+?)(?::([0-9]+))?: *(DW-[A-Z0-9]+-[A-Z0-9]+)$`)

// Check audits one case and returns how the findings differ from what the
// case wants.
func Check(t testing.TB, a *txtar.Archive, rules []*audit.Rule) []string {
	t.Helper()
	var problems []string
	if strings.TrimSpace(string(a.Comment)) == "" {
		problems = append(problems, "the case does not say what it tests: begin it with a sentence")
	}
	known := map[string]bool{}
	for _, r := range rules {
		known[r.ID] = true
	}
	want := map[string]int{}
	clean := &txtar.Archive{}
	add := func(where, id string) {
		if !known[id] {
			problems = append(problems, fmt.Sprintf("%s: wants %s, which is not among the rules tested", where, id))
			return
		}
		want[where+": "+id]++
	}
	for _, f := range a.Files {
		if f.Name == "want" {
			for line := range strings.Lines(string(f.Data)) {
				if line = strings.TrimSpace(line); line == "" {
					continue
				}
				m := wantLineRE.FindStringSubmatch(line)
				if m == nil {
					problems = append(problems, fmt.Sprintf("want: %q is not file:line: DW-XXX-001", line))
					continue
				}
				if m[2] == "" {
					m[2] = "0"
				}
				add(m[1]+":"+m[2], m[3])
			}
			continue
		}
		if f.Name == "tracked" {
			clean.Files = append(clean.Files, f)
			continue
		}
		lines := strings.SplitAfter(string(f.Data), "\n")
		for i, line := range lines {
			text := strings.TrimRight(line, "\r\n")
			m := wantRE.FindStringSubmatchIndex(text)
			if m == nil {
				continue
			}
			for _, id := range strings.FieldsFunc(text[m[2]:m[3]], func(r rune) bool { return r == ' ' || r == ',' || r == '\t' }) {
				add(f.Name+":"+strconv.Itoa(i+1), id)
			}
			lines[i] = text[:m[0]] + line[len(text):]
		}
		clean.Files = append(clean.Files, txtar.File{Name: f.Name, Data: []byte(strings.Join(lines, ""))})
	}
	res := audited(t, clean, rules)
	if slices.ContainsFunc(res.Findings, func(f audit.Finding) bool { return len(f.Edits) > 0 }) {
		_, more := Fix(t, clean, rules)
		problems = append(problems, more...)
	}
	for _, f := range res.Findings {
		key := fmt.Sprintf("%s:%d: %s", f.Span.File, f.Span.Line, f.Rule.ID)
		if want[key] == 0 {
			problems = append(problems, fmt.Sprintf("unexpected %s: %s", key, f.Message))
			continue
		}
		want[key]--
	}
	for key, n := range want {
		if n > 0 {
			problems = append(problems, "missing "+key)
		}
	}
	for _, o := range res.Outcomes {
		if o.Outcome == evidence.Error && strings.Contains(o.Reason, "the rule failed") {
			problems = append(problems, o.Rule.ID+": "+o.Reason)
		}
	}
	slices.Sort(problems)
	return problems
}

// Project loads an archive as a project, for tests that look closer.
func Project(t testing.TB, a *txtar.Archive) *audit.Project {
	t.Helper()
	dir := t.TempDir()
	opt := audit.Options{Tracked: func(string) (bool, bool) { return false, false }}
	for _, f := range a.Files {
		if f.Name == "tracked" {
			tracked := strings.Fields(string(f.Data))
			opt.Tracked = func(name string) (bool, bool) { return slices.Contains(tracked, name), true }
			continue
		}
		if !filepath.IsLocal(f.Name) {
			t.Fatalf("%s leaves the project", f.Name)
		}
		p := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := audit.Load(context.Background(), dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func audited(t testing.TB, a *txtar.Archive, rules []*audit.Rule) *audit.Result {
	t.Helper()
	return audit.Run(context.Background(), Project(t, a), rules, audit.Options{})
}
