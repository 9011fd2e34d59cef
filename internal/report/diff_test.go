package report

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/audit"
)

// TestDiffApplies: git takes the diff, whatever the line breaks and the
// encoding, and makes the file that was meant.
func TestDiffApplies(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("SKIPPED: git is missing")
	}
	for name, f := range map[string]audit.FixedFile{
		"plain":          {Path: "a.py", Before: []byte("x\ny\nz\n"), After: []byte("import q\nx\nz\n")},
		"folder":         {Path: "pkg/a b.py", Before: []byte("x\n"), After: []byte("y\n")},
		"CRLF":           {Path: "a.py", Before: []byte("x\r\ny\r\n"), After: []byte("x\r\nz\r\n")},
		"no end of line": {Path: "a.py", Before: []byte("x\ny"), After: []byte("x\nz")},
		"strange name":   {Path: "a\n+++ b/evil \"\\é.py", Before: []byte("x\n"), After: []byte("y\n")},
		"many hunks":     {Path: "a.py", Before: many(""), After: many("changed ")},
		"latin-1":        {Path: "a.py", Before: []byte("# \xe9\nx\n"), After: []byte("# \xe9\ny\n")},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, filepath.FromSlash(f.Path))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, f.Before, 0o600); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := Diff(&b, []audit.FixedFile{f}, Screen{}); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(git, "apply", "-")
			cmd.Dir, cmd.Stdin = dir, bytes.NewReader(b.Bytes())
			cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s\n%s", err, out, b.Bytes())
			}
			if got, _ := os.ReadFile(path); !bytes.Equal(got, f.After) {
				t.Errorf("git made %q, want %q", got, f.After)
			}
			// Git finds a place by its text; the numbers have to be right for
			// those who do not.
			want, _ := exec.Command("diff", "-u", writeTemp(t, f.Before), writeTemp(t, f.After)).Output()
			if a, b := hunkHeads(string(want)), hunkHeads(b.String()); a != "" && a != b {
				t.Errorf("hunks\n%s\ndiff has\n%s", b, a)
			}
		})
	}
}

// many returns a file in which changed lines stand near each other and far.
func many(mark string) []byte {
	var b strings.Builder
	for i := range 200 {
		switch i {
		case 10, 14, 40, 46, 47, 100, 199:
			fmt.Fprintf(&b, "%s%d\n", mark, i)
			if mark != "" && i != 46 {
				b.WriteString("more\n")
			}
		case 60, 61:
			if mark == "" {
				fmt.Fprintf(&b, "gone %d\n", i)
			}
		default:
			fmt.Fprintf(&b, "line %d\n", i)
		}
	}
	return []byte(b.String())
}

func writeTemp(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func hunkHeads(diff string) string {
	return strings.Join(regexp.MustCompile(`(?m)^@@ .* @@`).FindAllString(diff, -1), "\n")
}

// TestDiffOnScreen: source cannot drive the terminal (CWE-150).
func TestDiffOnScreen(t *testing.T) {
	var b bytes.Buffer
	f := audit.FixedFile{Path: "a.py", Before: []byte("x = '\x1b]0;owned\x07'\n\ty\n"), After: []byte("x = '\x1b]0;owned\x07'\n\tz\n")}
	if err := Diff(&b, []audit.FixedFile{f}, Screen{Colour: true, Environ: []string{"TERM=xterm-256color"}}); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	if strings.Contains(got, "\x1b]") || strings.Contains(got, "\a") {
		t.Errorf("a control sequence got through: %q", got)
	}
	if !strings.Contains(got, "\x1b[") || !strings.Contains(got, "    z") {
		t.Errorf("no colour, or no code: %q", got)
	}
}
