package pysyntax

import (
	"slices"
	"strings"
	"testing"
)

// headers are lines with an error, and what they should have been. The block
// and the arms around them are the same.
var headers = [][2]string{
	{"if x ===:", "if x:"}, {"if x y:", "if x:"}, {"if x", "if x:"}, {"if:", "if x:"}, {"if (x:", "if x:"}, {"if x = :", "if x:"}, {"if x $ y:", "if x:"},
	{"while x ===:", "while x:"}, {"while:", "while x:"}, {"while x do:", "while x:"},
	{"for x on y:", "for x in y:"}, {"for in y:", "for x in y:"}, {"for x in:", "for x in y:"}, {"for x y in z:", "for x in y:"}, {"for (x in y:", "for x in y:"},
	{"with open(a) sa b:", "with a:"}, {"with:", "with a:"}, {"with (a, b:", "with a:"}, {"with a as:", "with a:"},
	{"def f(a b):", "def f():"}, {"def f(:", "def f():"}, {"def f(a, =):", "def f():"}, {"def (a):", "def f():"}, {"def f:", "def f():"}, {"def f() ->:", "def f():"},
	{"def f(a", "def f():"}, {"def f[T:", "def f():"}, {"async def f(*):", "async def f():"}, {"def f(**a, b c):", "def f():"}, {"def f(\n        a,\n        b c,\n    ):", "def f():"},
	{"class C(:", "class C:"}, {"class:", "class C:"}, {"class C(A B):", "class C:"}, {"class C[:", "class C:"}, {"class C(\n        A,\n        =,\n    ):", "class C:"},
	{"@a b\n    def f():", "@a\n    def f():"}, {"@\n    def f():", "@a\n    def f():"}, {"@a(\n    @b\n    def f():", "@a\n    @b\n    def f():"}, {"@a\n    def f(a b):", "@a\n    def f():"}, {"@a)\n    class C:", "@a\n    class C:"},
	{"try x:", "try:"}, {"async for x on y:", "async for x in y:"}, {"async with a b:", "async with a:"},
}

// arms follow a header; the second of each pair has the error.
var arms = map[string][][2]string{
	"if":    {{"elif y:", "elif y z:"}, {"else:", "else y:"}, {"else:", "else"}},
	"while": {{"else:", "else +:"}},
	"for":   {{"else:", "else:"}},
	"try":   {{"except A:", "except A B:"}, {"except (A, B):", "except (A, B:"}, {"except A as a:", "except A as:"}, {"finally:", "finally x:"}},
}

// whole returns the tree of everything but the headers: of the statements that
// stand in blocks, which path of statements leads there.
func whole(f *File) []string {
	var out, path []string
	var visit func(id ID)
	visit = func(id ID) {
		n := f.Node(id)
		k := n.Kind
		if k == Assign || k == ErrorStmt {
			out = append(out, strings.Join(path, "/")+": "+k.String()+" "+strings.TrimSpace(string(f.Text(id))))
			return
		}
		if k.IsStatement() || k == ExceptHandler {
			path = append(path, k.String())
			defer func() { path = path[:len(path)-1] }()
			if k == FunctionDef || k == AsyncFunctionDef || k == ClassDef {
				decorators := 0
				if k == ClassDef {
					decorators = len(f.ClassDef(id).Decorators)
				} else {
					decorators = len(f.FunctionDef(id).Decorators)
				}
				path[len(path)-1] += strings.Repeat("@", decorators)
			}
		}
		for _, c := range f.Children(id) {
			visit(c)
		}
	}
	visit(f.Root)
	return out
}

// TestHeaders breaks the lines of compound statements: what is in their
// blocks, before, behind and in their arms is the same as in the file without
// the error, and the error is reported.
func TestHeaders(t *testing.T) {
	program := func(header, tail string) string {
		return "before = 1\nif outer:\n    " + header + "\n        inside = 1\n        if deeper:\n            deep = 1\n" + tail + "    behind = 1\nelse:\n    other = 1\nafter = 1\n"
	}
	check := func(t *testing.T, bad, good string) {
		t.Helper()
		b, g := Parse("bad.py", []byte(bad)), Parse("good.py", []byte(good))
		if len(g.Errors) > 0 {
			t.Fatalf("the mended file has errors: %v\n%s", g.Errors, good)
		}
		if len(b.Errors) == 0 {
			t.Fatalf("no error in\n%s", bad)
		}
		if have, want := whole(b), whole(g); !slices.Equal(have, want) {
			t.Errorf("%s\nhave %s\nwant %s", bad, strings.Join(have, "\n     "), strings.Join(want, "\n     "))
		}
	}
	for _, h := range headers {
		tail := ""
		if strings.HasPrefix(h[1], "try") {
			tail = "    except A:\n        arm = 1\n"
		}
		check(t, program(h[0], tail), program(h[1], tail))
		word, _, _ := strings.Cut(strings.TrimSuffix(h[1], ":"), " ")
		for _, a := range arms[word] {
			arm := func(i int) string {
				s := "    " + a[i] + "\n        arm = 1\n"
				if word == "try" && a[0] == "finally:" {
					s = "    except A:\n        handler = 1\n" + s
				}
				return s
			}
			check(t, program(h[0], arm(0)), program(h[1], arm(0)))
			if a[0] != a[1] {
				check(t, program(h[0], arm(1)), program(h[1], arm(0)))
				check(t, program(h[1], arm(1)), program(h[1], arm(0)))
			}
		}
	}
}
