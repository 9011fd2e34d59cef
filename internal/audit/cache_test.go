package audit_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/evidence"
)

// cacheBench is a project, a cache, and a rule that counts its runs.
type cacheBench struct {
	t     *testing.T
	root  string
	cache *audit.Cache
	rule  *audit.Rule
	opt   audit.Options
	runs  atomic.Int32
	notes []string
}

func newCacheBench(t *testing.T) *cacheBench {
	b := &cacheBench{t: t, root: t.TempDir()}
	b.cache = &audit.Cache{Dir: filepath.Join(t.TempDir(), "a", "dewar"), Program: "p1", Note: func(s string) { b.notes = append(b.notes, s) }}
	b.rule = &audit.Rule{ID: "DW-TEST-001", Control: "test", Title: "Eval", Severity: audit.High, Confidence: audit.Likely, Check: func(p *audit.Pass) {
		b.runs.Add(1)
		for f := range p.Python() {
			for n := 1; n <= f.LineCount(); n++ {
				if i := strings.Index(f.Line(n), "eval("); i >= 0 {
					s := audit.Span{File: f.Path, Line: n, Column: 1 + i, EndLine: n, EndColumn: 6 + i}
					p.Report(audit.Finding{Span: s, Message: "eval in " + f.Path, Confidence: audit.Possible,
						Trace: []audit.Step{{Span: s, Note: "here"}}, Edits: []audit.Edit{{File: f.Path, Start: 0, End: 1, New: "x"}}})
				}
			}
		}
	}}
	b.write("app.py", "eval(a)\n")
	b.write("b.py", "eval(a)  # dewar: ignore[DW-TEST-001] until 2027-01-31: known\n")
	b.write("notes.txt", "text\n")
	b.opt.Now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	return b
}

func (b *cacheBench) write(name, text string) {
	b.t.Helper()
	name = filepath.Join(b.root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// audit runs once, and fails unless the cache was used as said.
func (b *cacheBench) audit(what string, cached bool) *audit.Result {
	b.t.Helper()
	before := b.runs.Load()
	tree, err := audit.Open(b.t.Context(), b.root, b.opt)
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := b.cache.Run(b.t.Context(), tree, []*audit.Rule{b.rule}, b.opt)
	if err != nil {
		b.t.Fatal(err)
	}
	if got := b.runs.Load() == before; got != cached || r.Cached.IsZero() == cached {
		b.t.Errorf("%s: from the cache: %v (said %v), want %v; notes %q", what, got, !r.Cached.IsZero(), cached, b.notes)
	}
	return r
}

// same reports whether two results tell the same.
func same(a, b *audit.Result) bool {
	return text(a) == text(b)
}

func TestCache(t *testing.T) {
	b := newCacheBench(t)
	first := b.audit("first run", false)
	second := b.audit("unchanged", true)
	if !same(first, second) || len(first.Findings) != 1 || len(first.Suppressed) != 1 {
		t.Errorf("the cache tells otherwise:\n%s\n%s", text(first), text(second))
	}
	if f := second.Findings[0]; f.Rule != b.rule || f.Sure() != audit.Possible || len(f.Trace) != 1 || len(f.Edits) != 1 {
		t.Errorf("the cache lost something: %+v", f)
	}
	if o := second.Outcomes; len(o) != 1 || o[0].Outcome != evidence.Fail || o[0].Findings != 1 || o[0].Suppressed != 1 {
		t.Errorf("outcomes %+v", o)
	}
	if err := os.Chmod(filepath.Join(b.root, "app.py"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(b.root, "app.py"), time.Now(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	b.audit("mode and time only", true)
	b.write(".git/HEAD", "ref: refs/heads/main\n") // no index: still not tracked
	b.audit("a file below .git", false)            // .git is a folder not read, which the report may say
	b.audit("again", true)

	b.write("app.py", "eval(b)\neval(c)\n")
	if r := b.audit("changed file", false); len(r.Findings) != 2 {
		t.Errorf("%d findings", len(r.Findings))
	}
	// Same length, same time: only the content differs.
	old, _ := os.Stat(filepath.Join(b.root, "app.py"))
	b.write("app.py", "eval(b)\nevil(c)\n")
	if err := os.Chtimes(filepath.Join(b.root, "app.py"), old.ModTime(), old.ModTime()); err != nil {
		t.Fatal(err)
	}
	if r := b.audit("same size and time", false); len(r.Findings) != 1 {
		t.Errorf("%d findings", len(r.Findings))
	}
	b.write("app.py", "eval(b)\neval(c)\n")
	b.audit("changed back", true)
	if err := os.Rename(filepath.Join(b.root, "app.py"), filepath.Join(b.root, "app2.py")); err != nil {
		t.Fatal(err)
	}
	b.audit("renamed", false)
	b.write("new.txt", "")
	b.audit("new file", false)
	b.write(".env", "A=1\n")
	b.audit("new dotfile", false)
	b.write("__pycache__/x.pyc", "1")
	b.audit("new ignored folder", false)
	b.write("__pycache__/y.pyc", "1")
	b.audit("a file in an ignored folder", true)
	b.write("logo.png", "1")
	b.audit("new image", false)
	b.write("logo.png", "2")
	b.audit("image that is not read", true)

	b.opt.Exclude = []string{"new.txt"}
	b.audit("other settings", false)
	b.opt.KnownRules = []string{"DW-TEST-001", "DW-TEST-002"}
	b.audit("other known rules", false)
	b.rule.ID = "DW-TEST-002"
	b.audit("other rules", false)
	b.rule.ID = "DW-TEST-001"
	b.cache.Program = "p2"
	b.audit("other program", false)
	b.audit("the same again", true)
	b.cache.Program = ""
	b.audit("program without a name", false)
	if len(b.notes) != 1 {
		t.Errorf("notes %q", b.notes)
	}
}

// TestCacheBaseline: the baseline is applied to what the cache gives.
func TestCacheBaseline(t *testing.T) {
	b := newCacheBench(t)
	base := b.audit("first", false).Baseline()
	b.opt.Baseline = base
	if r := b.audit("with a baseline", true); len(r.Findings) != 0 || len(r.Suppressed) != 2 || r.Stats.Baseline != 1 {
		t.Errorf("%+v", r.Stats)
	}
	base.Entries = append(base.Entries, audit.BaselineEntry{Fingerprint: strings.Repeat("0", 32), Rule: "DW-TEST-001"})
	if r := b.audit("with another", true); len(r.Notices) != 1 {
		t.Errorf("notices %+v", r.Notices)
	}
	b.opt.Baseline = nil
	if r := b.audit("without", true); len(r.Findings) != 1 || r.Outcomes[0].Outcome != evidence.Fail {
		t.Errorf("%+v", r)
	}
}

// TestCacheDate: a suppression that ends is no change of a file.
func TestCacheDate(t *testing.T) {
	b := newCacheBench(t)
	b.audit("first", false)
	b.opt.Now = time.Date(2027, 1, 31, 23, 0, 0, 0, time.UTC)
	b.audit("on the last day", true)
	b.opt.Now = time.Date(2027, 2, 1, 1, 0, 0, 0, time.UTC)
	if r := b.audit("the day after", false); len(r.Findings) != 2 {
		t.Errorf("%d findings", len(r.Findings))
	}
	b.audit("and again", true)
	if len(b.notes) != 0 {
		t.Errorf("notes %q", b.notes)
	}
}

// TestCachePlanted: what others may have written is not believed.
func TestCachePlanted(t *testing.T) {
	b := newCacheBench(t)
	b.audit("first", false)
	entries, err := filepath.Glob(filepath.Join(b.cache.Dir, "*.audit"))
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	entry := entries[0]
	for name, mode := range map[string]os.FileMode{b.cache.Dir: 0o700, entry: 0o600} {
		if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, %v", name, fi.Mode(), err)
		}
	}
	good, err := os.ReadFile(entry)
	if err != nil {
		t.Fatal(err)
	}
	restore := func() {
		t.Helper()
		if err := os.RemoveAll(entry); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(entry, good, 0o600); err != nil {
			t.Fatal(err)
		}
		b.notes = nil
	}
	expect := func(what, note string) {
		t.Helper()
		b.audit(what, false)
		if len(b.notes) == 0 || !strings.Contains(b.notes[0], note) {
			t.Errorf("%s: notes %q", what, b.notes)
		}
	}
	for _, i := range []int{0, 30, 60, len(good) - 2} {
		restore()
		bad := slices.Clone(good)
		bad[i] ^= 1
		if err := os.WriteFile(entry, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		expect("damaged", "damaged")
		b.audit("mended", true)
	}
	restore()
	if err := os.WriteFile(entry, good[:len(good)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	expect("cut off", "damaged")
	restore()
	if err := os.Chmod(entry, 0o666); err != nil {
		t.Fatal(err)
	}
	expect("written by anybody", "may be used by others")
	restore()
	elsewhere := filepath.Join(t.TempDir(), "e")
	if err := os.Rename(entry, elsewhere); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, entry); err != nil {
		t.Fatal(err)
	}
	expect("a link", "")
	restore()
	if err := os.Chmod(b.cache.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	expect("a folder of everybody", "may be used by others")
	if err := os.Chmod(b.cache.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	restore()
	if err := os.Rename(b.cache.Dir, b.cache.Dir+"2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(b.cache.Dir+"2", b.cache.Dir); err != nil {
		t.Fatal(err)
	}
	expect("a linked folder", "not a folder")
}

func TestCacheBounds(t *testing.T) {
	b := newCacheBench(t)
	b.cache.MaxEntries = 3
	for i := range 6 {
		b.write("app.py", strings.Repeat("eval(a)\n", i+1))
		b.audit("another", false)
		time.Sleep(15 * time.Millisecond) // the order of use is told by times of files
	}
	b.audit("the newest", true)
	entries, err := filepath.Glob(filepath.Join(b.cache.Dir, "*"))
	if err != nil || len(entries) != 3 {
		t.Errorf("%q, %v", entries, err)
	}
	b.cache.MaxBytes = 1
	b.write("app.py", "")
	b.audit("bytes", false)
	b.audit("the newest stays", true)
	if entries, _ = filepath.Glob(filepath.Join(b.cache.Dir, "*")); len(entries) != 1 {
		t.Errorf("%q", entries)
	}
}

// TestCacheCalledOff: half a result is not kept, and neither is that of a
// rule that failed.
func TestCacheCalledOff(t *testing.T) {
	b := newCacheBench(t)
	check := b.rule.Check
	ctx, cancel := context.WithCancel(t.Context())
	b.rule.Check = func(*audit.Pass) { cancel() }
	tree, err := audit.Open(ctx, b.root, b.opt)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.cache.Run(ctx, tree, []*audit.Rule{b.rule}, b.opt); err != nil {
		t.Fatal(err)
	}
	b.rule.Check = func(p *audit.Pass) { b.runs.Add(1); panic("a mistake") }
	b.audit("after a run that was called off", false)
	b.rule.Check = check
	b.audit("after a rule that failed", false)
}

// text is everything that two equal results have in common.
func text(r *audit.Result) string {
	var b strings.Builder
	for _, f := range slices.Concat(r.Findings, r.Suppressed) {
		fmt.Fprintln(&b, f.Rule.ID, f.Span, f.Message, f.Label, f.Sure(), f.Related, f.Trace, f.Fix, f.Edits, f.Fingerprint)
		if f.Suppressed != nil {
			fmt.Fprintln(&b, *f.Suppressed)
		}
	}
	for _, o := range r.Outcomes {
		fmt.Fprintln(&b, o.Rule.ID, o.Outcome, o.Reason, o.Findings, o.Suppressed, o.Nosec)
	}
	s := r.Stats
	s.Duration = 0
	fmt.Fprintln(&b, r.Notices, r.Skips, r.NotUnderstood, s)
	return b.String()
}
