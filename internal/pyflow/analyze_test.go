package pyflow_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// manyFiles is a project of several modules that call one another.
func manyFiles() map[string]string {
	files := map[string]string{"lib/__init__.py": "", "lib/clean.py": "def same(x):\n    return x\n\ndef ok(x):\n    if x not in ('a', 'b'):\n        return False\n    return True\n"}
	for i := range 40 {
		files[fmt.Sprintf("views/v%d.py", i)] = fmt.Sprintf(`
import t
from t import source, sink, route
from lib.clean import same, ok

class C%[1]d:
    def __init__(self, v):
        self.v = v
    def m(self):
        sink(self.v)

@route("/a/%[1]d/<int:n>/<name>")
def view(n, name):
    x = source()
    sink(same(x) + "%[1]d")
    C%[1]d(name).m()
    if ok(x):
        sink(x)
    for c in [x, name, n]:
        sink("-%%s-" %% c)
    return name

def loose(a, b=None):
    sink(t.args[a] + b)
`, i)
	}
	return files
}

func TestSameForAnyNumberOfProcessors(t *testing.T) {
	files := manyFiles()
	one := runSources(t, files, pyflow.Config{Workers: 1})
	if len(one.Hits) < 200 || len(one.Entries) != 40 {
		t.Fatalf("%d hits and %d entries", len(one.Hits), len(one.Entries))
	}
	for _, n := range []int{2, 8} {
		if r := runSources(t, files, pyflow.Config{Workers: n}); !reflect.DeepEqual(one, r) {
			t.Errorf("with %d workers the result is another one", n)
		}
	}
}

// FuzzAnalyze runs whatever Python there may be: it must end, within its
// bounds and without a mistake of the interpreter's.
func FuzzAnalyze(f *testing.F) {
	cases, _ := filepath.Glob("testdata/*/*.py")
	for _, name := range cases {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(src))
	}
	for _, src := range hostile {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 20_000 {
			return
		}
		runSources(t, map[string]string{"a.py": src, "b.py": "from a import *\nimport a\n"}, pyflow.Config{Steps: 20_000})
	})
}

// hostile are programs made to be hard on an interpreter.
var hostile = []string{
	"class Tree:\n    def __iter__(self): return Tree()\nfor x in Tree(): pass\n",
	"class T:\n    def __iter__(self): return iter(T())\n    def keys(self): return T().keys()\n    def items(self): return T().items()\n    def __getitem__(self, k): return T()[k]\n    def __str__(self): return str(T())\n    def __len__(self): return len(T())\n    def __enter__(self): return T().__enter__()\n    def __contains__(self, x): return x in T()\n    def __call__(self): return T()()\n    def __eq__(self, o): return T() == o\nt = T()\nprint(list(t), dict(t), t.keys(), t.items(), {**t}, [*t], t[1], str(t), f'{t}', len(t), 1 in t, t(), t == 1)\nwith t as y: pass\na, b = t\nfor k, v in t.items(): pass\n",
	"class D:\n    def __get__(self, o, t): return o.d\nclass C:\n    d = D()\nC().d\n",
	"def f(n):\n    return f(n + 1) + f(n + 2)\nf(0)\n",
	"x = ''\nwhile True:\n    x += 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'\n",
	"x = 'a' * 10**9\ny = x * 10**9\n",
	"x = [0]\nfor i in range(10**9):\n    x = [x, x]\n",
	"x = 2 ** 2 ** 2 ** 2 ** 2 ** 2\ny = 1 << 10**9\n",
	"class A(A): pass\nclass B(A, B): pass\n",
	"class M(type):\n    def __new__(c, *a): return M.__new__(c, *a)\nclass X(metaclass=M): pass\nX()\n",
	"class A:\n    def __getattr__(self, n): return getattr(self, n + 'x')\nA().y\n",
	"class A:\n    def __iter__(self): return self\n    def __next__(self): return self\nfor a in A():\n    for b in a: pass\n",
	"class A:\n    def __add__(self, o): return o + self\nA() + A()\n",
	"class A:\n    @property\n    def p(self): return self.p\nA().p\n",
	"import a\nimport b\nfrom a import *\nfrom . import a\nfrom .. import b\nfrom ....x import y\n",
	"d = {}\nd['d'] = d\nl = []\nl.append(l)\nd['l'] = l\nprint(d, l, '%s' % d, f'{l}')\nfrom t import sink\nsink(d)\n",
	"def g():\n    yield from g()\nfor x in g(): pass\n",
	"def d(f): return d(f)\n@d\n@d\ndef f(): pass\nf()\n",
	"f = lambda f: f(f)\nf(f)\n",
	"'{0.a[b].c:{1}}'.format(1, 2)\n'%(a)s' % {}\n'%s%s' % 1\n'{' .format()\n",
	"match x:\n    case {'a': [1, *r], **k}: pass\n    case A(b=1) | [1, 2] as c: pass\n",
	"try:\n    raise\nexcept* (A, B) as e:\n    pass\nelse:\n    return\nfinally:\n    break\n",
	"global x\nnonlocal y\ndel z\nreturn 1\nyield 2\nawait 3\n",
	strings.Repeat("def f():\n    pass\n", 300),
	strings.Repeat("if a:\n    x = 1\nelse:\n    x = 2\n", 300),
	"x = " + strings.Repeat("(", 150) + "1" + strings.Repeat(")", 150),
	"x = " + strings.Repeat("a.", 3000) + "b\n",
	"x = " + strings.Repeat("f(", 300) + strings.Repeat(")", 300) + "\n",
	strings.Repeat("for x in y:\n", 1) + "    for a in b:\n        for c in d:\n            for e in f:\n                for g in h:\n                    i = [i, g]\n",
}

func TestHostileEnds(t *testing.T) {
	for _, src := range hostile {
		runSources(t, map[string]string{"a.py": src, "b.py": "from a import *\n"}, pyflow.Config{})
	}
}

// TestSourceInModel: what a model reads of the input came in where the project
// called it; the model is nothing that a developer could open.
func TestSourceInModel(t *testing.T) {
	model := pysyntax.Parse("<model>/parser.py", []byte("import t\n\ndef parse(name):\n    return t.args.get(name) + t.text\n"))
	r := runSources(t, map[string]string{"a.py": "import parser, t\n\ndef f():\n    t.sink(parser.parse('x'))\n"}, pyflow.Config{
		Models: map[string]*pyflow.Source{"parser": {Path: "<model>/parser.py", Python: model}},
	})
	n := 0
	for _, h := range r.Hits {
		for _, v := range h.Focus {
			for _, l := range v.All() {
				n++
				if l.At.File != "a.py" {
					t.Errorf("%s came in at %v", l.Note, l.At)
				}
			}
		}
	}
	if n != 2 {
		t.Errorf("%d labels, want 2", n)
	}
}

// TestLate has a function that nothing calls and that does much with what was
// stored. It is run to its end: what it hands on of that is not followed any
// more when it has taken its share.
func TestLate(t *testing.T) {
	var src strings.Builder
	src.WriteString("import t\n\n\n")
	for i := range 40 {
		fmt.Fprintf(&src, "def part%d(x):\n", i)
		for range 60 {
			src.WriteString("    x = x + x\n")
		}
		src.WriteString("    return x\n\n\n")
	}
	src.WriteString("def uncalled():\n    row = t.Base.find(1)\n")
	for i := range 40 {
		fmt.Fprintf(&src, "    part%d(row)\n", i)
	}
	src.WriteString("    t.sink(t.source())\n")
	r := runSources(t, map[string]string{"case.py": src.String()}, pyflow.Config{Steps: 15_000})
	for _, g := range r.GaveUp {
		t.Errorf("%s gave up: %s", g.Name, g.Reason)
	}
	if len(r.Hits) != 1 {
		t.Errorf("the last line was not reached: %d hits", len(r.Hits))
	}
}
