package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/tools/txtar"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/audit/audittest"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// calls returns the calls of a function in a file.
func calls(f *audit.File, name string) (out []pysyntax.ID) {
	pysyntax.Walk(f.Python, f.Python.Root, func(id pysyntax.ID) bool {
		if fn, _, _ := f.Python.Call(id); fn != 0 && f.Python.DottedName(fn) == name {
			out = append(out, id)
		}
		return true
	})
	return out
}

// built applies what build makes of the first call of fn to a file and
// returns the text, or "refused".
func built(t *testing.T, src, fn string, build func(p *audit.Pass, f *audit.File, call pysyntax.ID) []audit.Edit) string {
	t.Helper()
	proj := audit.InMemory(map[string][]byte{"app.py": []byte(src)})
	f := proj.File("app.py")
	found := calls(f, fn)
	if len(found) == 0 {
		t.Fatalf("no call of %s in\n%s", fn, src)
	}
	edits := build(&audit.Pass{Project: proj, Flask: proj.Flask}, f, found[0])
	if edits == nil {
		return "refused"
	}
	out := audit.ApplyEdits(f.Data, edits)
	if audittest.Compiles([]byte(src)) == nil {
		if err := audittest.Compiles(out); err != nil {
			t.Errorf("Python does not take\n%s\n%v", out, err)
		}
	}
	if errs := pysyntax.Parse("app.py", out).Errors; len(errs) > len(f.Python.Errors) {
		t.Errorf("not understood: %v\n%s", errs, out)
	}
	return string(out)
}

func TestSetKeyword(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"no argument", "f()\n", "f(t=10)\n"},
		{"no argument, a comment", "f(  # why\n)\n", "f(t=10  # why\n)\n"},
		{"function in parentheses", "(f)()\n", "(f)(t=10)\n"},
		{"behind the last", "f(1, a=2)\n", "f(1, a=2, t=10)\n"},
		{"in place of the value", "f(t=None, a=1)\n", "f(t=10, a=1)\n"},
		{"in place of a value in parentheses", "f(t=(None), a=1)\n", "f(t=(10), a=1)\n"},
		{"trailing comma", "f(1,)\n", "f(1, t=10,)\n"},
		{"argument in parentheses", "f((1))\n", "f((1), t=10)\n"},
		{"argument in parentheses, twice", "f(( (1) ) )\n", "f(( (1) ), t=10 )\n"},
		{"lines", "f(\n    1,\n    a=2,\n)\n", "f(\n    1,\n    a=2,\n    t=10,\n)\n"},
		{"lines with comments", "f(\n    1,  # one\n    a=2,  # two, really)\n)\n", "f(\n    1,  # one\n    a=2,  # two, really)\n    t=10,\n)\n"},
		{"lines without trailing comma", "f(\n    1,\n    a=2  # two\n)\n", "f(\n    1,\n    a=2, t=10  # two\n)\n"},
		{"CRLF and tabs", "if 1:\r\n\tf(\r\n\t\t1,\r\n\t)\r\n", "if 1:\r\n\tf(\r\n\t\t1,\r\n\t\tt=10,\r\n\t)\r\n"},
		{"byte order mark", "\ufefff(1)\n", "\ufefff(1, t=10)\n"},
		{"joined line", "f(1 \\\n  )\n", "f(1, t=10 \\\n  )\n"},
		{"nested", "g(f(x[1]), y)\n", "g(f(x[1], t=10), y)\n"},
		{"characters beyond ASCII", "x = 'é😀'; f('ü')\n", "x = 'é😀'; f('ü', t=10)\n"},
		{"mapping", "f(**kw)\n", "refused"},
		{"sequence", "f(*a)\n", "refused"},
		{"generator", "f(x for x in y)\n", "refused"},
		{"f-string", "x = f'{f(1)}'\n", "refused"},
		{"no end of file", "f(1)", "f(1, t=10)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := built(t, c.in, "f", func(p *audit.Pass, f *audit.File, call pysyntax.ID) []audit.Edit {
				return p.SetKeyword(f, call, "t", "10")
			})
			if got != c.want {
				t.Errorf("got\n%q\nwant\n%q", got, c.want)
			}
		})
	}
}

func TestRemoveKeyword(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"alone", "f(debug=True)\n", "f()\n"},
		{"alone with a comma", "f(debug=True, )\n", "f()\n"},
		{"first", "f(debug=True, a=1)\n", "f(a=1)\n"},
		{"last", "f(a=1, debug=True)\n", "f(a=1)\n"},
		{"middle", "f(a, debug=True, b=2)\n", "f(a, b=2)\n"},
		{"lines", "f(\n    a=1,\n    debug=True,\n    b=2,\n)\n", "f(\n    a=1,\n    b=2,\n)\n"},
		{"parentheses before", "f((1), debug=True)\n", "refused"},
		{"comment before", "f(1,  # one\n  debug=True)\n", "refused"},
		{"absent", "f(1)\n", "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := built(t, c.in, "f", func(p *audit.Pass, f *audit.File, call pysyntax.ID) []audit.Edit {
				return p.RemoveKeyword(f, call, "debug")
			})
			if got != c.want {
				t.Errorf("got\n%q\nwant\n%q", got, c.want)
			}
		})
	}
}

func TestEnsureImport(t *testing.T) {
	for _, c := range []struct{ name, module, in, want string }{
		{"between", "secrets", "import os\nimport sys\n\nx = f()\n", "import os\nimport secrets\nimport sys\n\nx = secrets.f()\n"},
		{"behind the last", "secrets", "import os  # c\n\nimport flask\n\nx = f()\n", "import os  # c\nimport secrets\n\nimport flask\n\nx = secrets.f()\n"},
		{"before from", "secrets", "from flask import Flask\n\nx = f()\n", "import secrets\nfrom flask import Flask\n\nx = secrets.f()\n"},
		{"docstring and future", "secrets", "\"\"\"Doc.\"\"\"\n\nfrom __future__ import annotations\n\nimport os\n\nx = f()\n", "\"\"\"Doc.\"\"\"\n\nfrom __future__ import annotations\n\nimport os\nimport secrets\n\nx = secrets.f()\n"},
		{"future alone", "secrets", "from __future__ import annotations\n\nx = f()\n", "from __future__ import annotations\nimport secrets\n\nx = secrets.f()\n"},
		{"docstring alone", "secrets", "'''Doc\nof two lines.'''  # c\n\nx = f()\n", "'''Doc\nof two lines.'''  # c\n\nimport secrets\n\nx = secrets.f()\n"},
		{"nothing", "secrets", "#!/usr/bin/env python\n# licence\n\nx = f()\n", "#!/usr/bin/env python\n# licence\n\nimport secrets\n\nx = secrets.f()\n"},
		{"decorator first", "secrets", "@d\ndef g():\n    f()\n", "import secrets\n\n@d\ndef g():\n    secrets.f()\n"},
		{"imported", "secrets", "import secrets\nx = f()\n", "import secrets\nx = secrets.f()\n"},
		{"alias", "secrets", "import secrets as s\nx = f()\n", "import secrets as s\nx = s.f()\n"},
		{"from", "xml.etree", "from xml import etree as e\nx = f()\n", "from xml import etree as e\nx = e.f()\n"},
		{"dotted", "defusedxml.ElementTree", "import defusedxml.lxml\nx = f()\n", "import defusedxml.ElementTree\nimport defusedxml.lxml\nx = defusedxml.ElementTree.f()\n"},
		{"imported too late", "secrets", "x = f()\nimport secrets\n", "refused"},
		{"imported late, used in a function", "secrets", "def g():\n    return f()\nimport secrets\n", "def g():\n    return secrets.f()\nimport secrets\n"},
		{"only for type checkers", "secrets", "import typing\nif typing.TYPE_CHECKING:\n    import secrets\nx = f()\n", "refused"},
		{"name taken by a variable", "secrets", "import os\nsecrets = {}\nx = f()\n", "refused"},
		{"name taken by a parameter", "secrets", "import os\ndef g(secrets):\n    return f()\n", "refused"},
		{"name taken by another module", "secrets", "from mine import secrets\nx = f()\n", "refused"},
		{"name taken in a loop", "secrets", "import os\nfor i, (secrets, *y) in []:\n    f()\n", "refused"},
		{"CRLF", "secrets", "import os\r\n\r\nx = f()\r\n", "import os\r\nimport secrets\r\n\r\nx = secrets.f()\r\n"},
		{"byte order mark", "secrets", "\ufefffrom flask import Flask\nx = f()\n", "\ufeffimport secrets\nfrom flask import Flask\nx = secrets.f()\n"},
		{"semicolons", "secrets", "import os; import sys\nx = f()\n", "import os; import sys\nimport secrets\nx = secrets.f()\n"},
		{"parenthesis over lines", "secrets", "import os\nfrom a import (\n    b,\n)\n\nx = f()\n", "import os\nimport secrets\nfrom a import (\n    b,\n)\n\nx = secrets.f()\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := built(t, c.in, "f", func(p *audit.Pass, f *audit.File, call pysyntax.ID) []audit.Edit {
				name, imp := p.EnsureImport(f, c.module, call)
				fn, _, _ := f.Python.Call(call)
				return audit.Together(imp, p.ReplaceNode(f, fn, name+".f"))
			})
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
	t.Run("the project's own module", func(t *testing.T) {
		proj := audit.InMemory(map[string][]byte{"web/app.py": []byte("f()\n"), "secrets.py": nil})
		f := proj.File("web/app.py")
		if name, imp := (&audit.Pass{Project: proj}).EnsureImport(f, "secrets", calls(f, "f")[0]); name != "" || imp != nil {
			t.Errorf("imports the project's own file: %q %v", name, imp)
		}
	})
}

// TestFixEncodings: offsets of edits are bytes of the file, whatever its
// encoding.
func TestFixEncodings(t *testing.T) {
	for name, c := range map[string]struct {
		encode func(string) (string, error)
		head   string
		ok     bool
	}{
		"latin-1":      {charmap.ISO8859_1.NewEncoder().String, "# -*- coding: latin-1 -*-\nname = 'é'; f(1)\n", true},
		"windows-1252": {charmap.Windows1252.NewEncoder().String, "# coding: cp1252\nname = '€'\nf(name, 'é')\n", true},
		"shift_jis":    {japanese.ShiftJIS.NewEncoder().String, "# coding: shift_jis\nname = '表示ソ'\nf(name)\n", true},
		"gbk":          {simplifiedchinese.GBK.NewEncoder().String, "# coding: gbk\nname = '中文'\nif 1:\n    f(1)\n", true},
		// A character of two bytes stands before the call on its line.
		"gbk on the line": {simplifiedchinese.GBK.NewEncoder().String, "# coding: gbk\nname = '中文'; f(1)\n", false},
		"iso-2022-jp":     {japanese.ISO2022JP.NewEncoder().String, "# coding: iso-2022-jp\nname = '表'\nf(1)\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			src, err := c.encode(c.head)
			if err != nil {
				t.Fatal(err)
			}
			got := built(t, src, "f", func(p *audit.Pass, f *audit.File, call pysyntax.ID) []audit.Edit {
				return p.SetKeyword(f, call, "t", "10")
			})
			want := "refused"
			if c.ok {
				i := strings.LastIndex(src, ")")
				want = src[:i] + ", t=10" + src[i:]
			}
			if got != want {
				t.Errorf("got\n%q\nwant\n%q", got, want)
			}
			if got := built(t, src, "f", func(p *audit.Pass, f *audit.File, call pysyntax.ID) []audit.Edit {
				return p.SetKeyword(f, call, "t", "'é'")
			}); got != "refused" {
				t.Errorf("writes a character that may not be in the encoding: %q", got)
			}
		})
	}
}

// weak is a rule of the tests: random.x() is to be secrets.x(). Its bad
// variants break what a repair must not break.
func weak(variant string) *audit.Rule {
	return &audit.Rule{ID: "DW-TEST-001", Control: "settings", Title: "Weak", Severity: audit.High, Check: func(p *audit.Pass) {
		for f := range p.Python() {
			for _, call := range calls(f, "random.x") {
				fn, _, _ := f.Python.Call(call)
				name, imp := p.EnsureImport(f, "secrets", call)
				edits := audit.Together(imp, p.ReplaceNode(f, fn, name+".x"))
				switch variant {
				case "useless":
					edits = p.ReplaceNode(f, fn, "(random).x or random.x")
				case "broken":
					edits = p.ReplaceNode(f, fn, "secrets.x(")
				case "elsewhere":
					edits = []audit.Edit{{File: "../x.py", New: "x"}}
				case "outside":
					edits = []audit.Edit{{File: f.Path, Start: 5, End: 1 << 30}}
				}
				p.Report(audit.Finding{Span: f.NodeSpan(call), Edits: edits})
			}
		}
	}}
}

func everything(*audit.Finding) bool { return true }

func planned(t *testing.T, files map[string]string, rules ...*audit.Rule) *audit.Fixes {
	t.Helper()
	contents := map[string][]byte{}
	for name, text := range files {
		contents[name] = []byte(text)
	}
	p := audit.InMemory(contents)
	fixes, err := audit.PlanFixes(t.Context(), p, audit.Run(t.Context(), p, rules, audit.Options{}), rules, audit.Options{}, everything)
	if err != nil {
		t.Fatal(err)
	}
	return fixes
}

func TestPlanFixes(t *testing.T) {
	src := "import random\n\na = random.x()\nb = [random.x(), random.x(1)]\n"
	fixes := planned(t, map[string]string{"a.py": src, "b.py": "import random\nsecrets = 1\nrandom.x()\n"}, weak(""))
	if len(fixes.Fixed) != 3 || len(fixes.Refused) != 0 || len(fixes.Files) != 1 {
		t.Fatalf("%d fixed, %v refused, %d files", len(fixes.Fixed), fixes.Refused, len(fixes.Files))
	}
	want := "import random\nimport secrets\n\na = secrets.x()\nb = [secrets.x(), secrets.x(1)]\n"
	if got := string(fixes.Files[0].After); got != want || string(fixes.Files[0].Before) != src {
		t.Errorf("got\n%s", got)
	}
	if len(fixes.After.Findings) != 1 {
		t.Errorf("%d findings afterwards, want the one that cannot be repaired", len(fixes.After.Findings))
	}
}

// TestPlanFixesSkipsWhatIsAccepted: a suppression is a decision.
func TestPlanFixesSkipsWhatIsAccepted(t *testing.T) {
	fixes := planned(t, map[string]string{"a.py": "import random\nrandom.x()  # dewar: ignore[DW-TEST-001] a game\n"}, weak(""))
	if len(fixes.Files) != 0 || len(fixes.Fixed) != 0 || len(fixes.Refused) != 0 {
		t.Errorf("a suppressed finding was repaired: %+v", fixes)
	}
}

// TestPlanFixesRefuses: a repair that does not hold is not taken, and one
// beside it is.
func TestPlanFixesRefuses(t *testing.T) {
	for variant, want := range map[string]string{
		"useless": "still be there", "broken": "no longer parse", "elsewhere": "not part of the project", "outside": "lies outside",
	} {
		t.Run(variant, func(t *testing.T) {
			good := weak("")
			good.ID = "DW-TEST-002"
			good.Check = func(p *audit.Pass) {
				for f := range p.Python() {
					for _, call := range calls(f, "g") {
						p.Report(audit.Finding{Span: f.NodeSpan(call), Edits: p.ReplaceNode(f, call, "h()")})
					}
				}
			}
			fixes := planned(t, map[string]string{"a.py": "import random\nrandom.x()\ng()\n"}, weak(variant), good)
			if len(fixes.Refused) != 1 || !strings.Contains(fixes.Refused[0].Reason, want) || fixes.Refused[0].Finding.Rule.ID != "DW-TEST-001" {
				t.Errorf("refused: %v, want one that says %q", fixes.Refused, want)
			}
			if len(fixes.Files) != 1 || string(fixes.Files[0].After) != "import random\nrandom.x()\nh()\n" {
				t.Errorf("the repair beside it was not made: %q", fixes.Files)
			}
		})
	}
	t.Run("a new finding", func(t *testing.T) {
		other := &audit.Rule{ID: "DW-TEST-003", Control: "settings", Title: "Secrets", Severity: audit.Low, Check: func(p *audit.Pass) {
			for f := range p.Python() {
				for _, call := range calls(f, "secrets.x") {
					p.Report(audit.Finding{Span: f.NodeSpan(call)})
				}
			}
		}}
		fixes := planned(t, map[string]string{"a.py": "import random\nrandom.x()\n"}, weak(""), other)
		if len(fixes.Files) != 0 || len(fixes.Refused) != 1 || !strings.Contains(fixes.Refused[0].Reason, "bring up DW-TEST-003 at a.py:3") {
			t.Errorf("%+v", fixes.Refused)
		}
	})
}

// TestPlanFixesOverlap: the earlier finding wins, the later one is tried on
// the outcome.
func TestPlanFixesOverlap(t *testing.T) {
	replace := func(id, from, to string) *audit.Rule {
		return &audit.Rule{ID: id, Control: "settings", Title: id, Severity: audit.Low, Check: func(p *audit.Pass) {
			for f := range p.Python() {
				for _, call := range calls(f, from) {
					p.Report(audit.Finding{Span: f.NodeSpan(call), Edits: p.ReplaceNode(f, call, to+strings.TrimPrefix(string(f.Python.Text(call)), from))})
				}
			}
		}}
	}
	for range 3 {
		fixes := planned(t, map[string]string{"a.py": "outer(inner(1))\n"}, replace("DW-TEST-002", "inner", "i"), replace("DW-TEST-001", "outer", "o"))
		if len(fixes.Files) != 1 || string(fixes.Files[0].After) != "o(i(1))\n" || len(fixes.Fixed) != 2 || fixes.Fixed[0].Rule.ID != "DW-TEST-001" {
			t.Fatalf("%+v", fixes)
		}
	}
}

// TestPlanFixesManyBad: halving finds the good ones among bad ones within the
// bound on audits.
func TestPlanFixesManyBad(t *testing.T) {
	var src strings.Builder
	for i := range 40 {
		fmt.Fprintf(&src, "f(%d)\n", i)
	}
	rule := &audit.Rule{ID: "DW-TEST-001", Control: "settings", Title: "x", Severity: audit.Low, Check: func(p *audit.Pass) {
		for f := range p.Python() {
			for _, call := range calls(f, "f") {
				text := strings.Replace(string(f.Python.Text(call)), "f", "g", 1)
				if strings.HasSuffix(text, "7)") {
					text += " +"
				}
				p.Report(audit.Finding{Span: f.NodeSpan(call), Edits: p.ReplaceNode(f, call, text)})
			}
		}
	}}
	fixes := planned(t, map[string]string{"a.py": src.String()}, rule)
	if len(fixes.Fixed) != 36 || len(fixes.Refused) != 4 {
		t.Errorf("%d fixed, %d refused", len(fixes.Fixed), len(fixes.Refused))
	}
}

func TestPlanFixesCancelled(t *testing.T) {
	p := audit.InMemory(map[string][]byte{"a.py": []byte("import random\nrandom.x()\n")})
	rules := []*audit.Rule{weak("")}
	res := audit.Run(t.Context(), p, rules, audit.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := audit.PlanFixes(ctx, p, res, rules, audit.Options{}, everything); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestWriteFixes(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	a, b := put("a.py", "a", 0o755), put("pkg/b.py", "b", 0o640)
	files := []audit.FixedFile{{"a.py", []byte("a"), []byte("A")}, {"pkg/b.py", []byte("b"), []byte("B")}}
	if err := audit.WriteFixes(dir, files); err != nil {
		t.Fatal(err)
	}
	if read(a) != "A" || read(b) != "B" {
		t.Error("not written")
	}
	for path, mode := range map[string]os.FileMode{a: 0o755, b: 0o640} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, %v", path, fi.Mode(), err)
		}
	}
	nothingLeft := func() {
		t.Helper()
		_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error {
			if strings.Contains(path, ".dewar-fix") {
				t.Errorf("%s was left behind", path)
			}
			return nil
		})
	}
	nothingLeft()

	t.Run("changed meanwhile", func(t *testing.T) {
		err := audit.WriteFixes(dir, []audit.FixedFile{{"a.py", []byte("A"), []byte("A2")}, {"pkg/b.py", []byte("b"), []byte("B2")}})
		if err == nil || !strings.Contains(err.Error(), "pkg/b.py: the file changed") {
			t.Error(err)
		}
		if read(a) != "A" {
			t.Error("half was written")
		}
		nothingLeft()
	})
	outside := filepath.Join(t.TempDir(), "outside.py")
	if err := os.WriteFile(outside, []byte("o"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link.py")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(dir, "linked")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a.py", filepath.Join(dir, "inside.py")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.py"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link.py", "linked/outside.py", "inside.py", "../" + filepath.Base(dir) + "/a.py", "pipe.py", "gone.py", "pkg"} {
		t.Run(name, func(t *testing.T) {
			before := []byte("o")
			if name == "inside.py" {
				before = []byte("A")
			}
			if err := audit.WriteFixes(dir, []audit.FixedFile{{"pkg/b.py", []byte("B"), []byte("B3")}, {name, before, []byte("evil")}}); err == nil {
				t.Error("no error")
			}
			if read(outside) != "o" || read(a) != "A" || read(b) != "B" {
				t.Error("something was written")
			}
			nothingLeft()
		})
	}
}

// TestOverlay: what an editor has not saved counts, and nothing is read that
// the settings or the tree leave out.
func TestOverlay(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"app.py": "x = 1\n", "secret/a.py": "y = 1\n", "node_modules/m/a.py": "", "venv/pyvenv.cfg": ""} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := audit.Load(t.Context(), dir, audit.Options{Exclude: []string{"secret"}, MaxFileSize: 100, Overlay: map[string][]byte{
		"app.py": []byte("x = 2\n"), "new/b.py": []byte("z = 1\n"), "secret/c.py": nil, "node_modules/n.py": nil, "venv/lib/d.py": nil,
		"../out.py": nil, "/abs.py": nil, "big.py": make([]byte, 101), "binary.py": []byte("\x00\x01\x02\x03\x00"), "x.png": nil,
	}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range p.Files {
		names = append(names, f.Path)
	}
	if got := strings.Join(names, " "); got != "app.py new/b.py" {
		t.Errorf("files: %s", got)
	}
	if got := string(p.File("app.py").Data); got != "x = 2\n" {
		t.Errorf("app.py: %q", got)
	}

	q := p.With(map[string][]byte{"app.py": []byte("x = (\n"), "c.py": []byte("from app import x\n"), "../d.py": nil})
	if p.File("c.py") != nil || string(p.File("app.py").Data) != "x = 2\n" || len(p.NotUnderstood) != 0 {
		t.Error("With changed the project it was asked of")
	}
	if q.File("c.py") == nil || q.File("new/b.py") != p.File("new/b.py") || q.File("../d.py") != nil || len(q.NotUnderstood) == 0 {
		t.Error("With did not do what it says")
	}
	if r := q.With(map[string][]byte{"app.py": []byte("x = 3\n")}); len(r.NotUnderstood) != 0 {
		t.Errorf("a problem of before is still there: %v", r.NotUnderstood)
	}
}

// FuzzFixBuilders: no builder panics, and what it builds is understood as
// well as what was there.
func FuzzFixBuilders(f *testing.F) {
	for _, s := range []string{
		"import os\nf(1)\n", "f(\n  a=1,  # c\n)\r\n", "\ufefff()", "# coding: latin-1\nf('\xe9')\n", "# coding: shift_jis\nf('\x95\x5c')\n",
		"f(*a, **k)", "x = f'{f(1)}'", "@d\n(f)()\nclass A: f(1,)", "f(x:=1)", "'doc'\nfrom __future__ import a; f((1),)\n", "if 1:\n\tf(\\\n1)",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > 1<<12 {
			return
		}
		proj := audit.InMemory(map[string][]byte{"app.py": src})
		file := proj.File("app.py")
		if file == nil || file.Python == nil {
			return
		}
		p := &audit.Pass{Project: proj, Flask: proj.Flask}
		for i := range file.Python.Nodes {
			id := pysyntax.ID(i)
			if file.Python.Kind(id) != pysyntax.Call {
				continue
			}
			name, imp := p.EnsureImport(file, "secrets", id)
			for _, edits := range [][]audit.Edit{p.SetKeyword(file, id, "t", "10"), p.RemoveKeyword(file, id, "a"), imp, p.ReplaceNode(file, id, "g")} {
				if len(edits) == 0 {
					continue
				}
				for _, e := range edits {
					if e.Start < 0 || e.Start > e.End || e.End > len(file.Data) {
						t.Fatalf("%+v lies outside of %d bytes (%q)", e, len(file.Data), name)
					}
				}
				out := audit.ApplyEdits(file.Data, edits)
				if len(file.Python.Errors) > 0 {
					continue
				}
				if errs := pysyntax.Parse("app.py", out).Errors; len(errs) > 0 {
					t.Fatalf("%q becomes %q: %v", src, out, errs)
				}
			}
		}
	})
}

// TestFixArchive: several files and a suppression, as a user has them.
func TestFixArchive(t *testing.T) {
	a := txtar.Parse([]byte("-- a.py --\nimport random\nrandom.x()\n-- pkg/b.py --\n'''Doc.'''\nimport random\ndef f():\n\treturn random.x()\n"))
	fixes, problems := audittest.Fix(t, a, []*audit.Rule{weak("")})
	if len(problems) > 0 || len(fixes.Files) != 2 || len(fixes.Fixed) != 2 {
		t.Errorf("%v %+v", problems, fixes)
	}
}
