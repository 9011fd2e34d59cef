package pysyntax

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write the trees that the parser gives into testdata")

// outline writes a tree for people: a node a line, with its name, operator
// and, for a leaf, its text.
func outline(f *File) string {
	var b strings.Builder
	type item struct {
		id    ID
		depth int
	}
	stack := []item{{f.Root, 0}}
	for len(stack) > 0 {
		it := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		n := f.Node(it.id)
		fmt.Fprintf(&b, "%s%s", strings.Repeat("  ", it.depth), n.Kind)
		children := f.Children(it.id)
		word := func(s string) {
			if s != "" {
				b.WriteString(" " + s)
			}
		}
		switch n.Kind {
		case Name:
			word(f.Name(it.id))
		case Attribute:
			_, name := f.Attribute(it.id)
			word("." + name)
		case FunctionDef, AsyncFunctionDef:
			word(f.FunctionDef(it.id).Name)
		case ClassDef:
			word(f.ClassDef(it.id).Name)
		case Keyword:
			name, _ := f.KeywordArg(it.id)
			word(name)
		case Arg:
			word(f.str(n.A))
			word([]string{"/", "", "*", "kwonly", "**"}[n.Op])
		case Alias:
			word(f.str(n.A))
			word(f.str(n.B))
		case ImportFrom:
			module, level, _ := f.ImportFrom(it.id)
			word(strings.Repeat(".", level) + module)
		case Global, Nonlocal:
			word(strings.Join(f.Names(it.id), " "))
		case TypeVar, ParamSpec, TypeVarTuple:
			name, _, _ := f.TypeParam(it.id)
			word(name)
		case MatchAs:
			_, name := f.MatchAs(it.id)
			word(name)
		case MatchStar:
			word(f.MatchStar(it.id))
		case ExceptHandler:
			_, name, _ := f.ExceptHandler(it.id)
			word(name)
		case BinOp, AugAssign:
			word(opNames[n.Op])
		case BoolOp:
			word([]string{"", "And", "Or"}[n.Op])
		case UnaryOp:
			word([]string{"", "UAdd", "USub", "Invert", "Not"}[n.Op])
		case Compare:
			_, rest := f.Compare(it.id)
			for _, c := range rest {
				word(cmpNames[c.Op])
			}
		case FormattedValue, Interpolation:
			x := f.Field(it.id)
			if x.Conversion != 0 {
				word("!" + string(rune(x.Conversion)))
			}
			if x.Debug != nil {
				word(fmt.Sprintf("%q", x.Debug))
			}
		case Str, StrPart:
			if s, ok := f.StringValue(it.id); ok {
				word(fmt.Sprintf("%q", s))
			} else {
				word("?")
			}
		case Module, Arguments:
		default:
			if len(children) == 0 {
				word(fmt.Sprintf("%q", f.Text(it.id)))
			}
		}
		if n.Flags&FLazy != 0 {
			word("lazy")
		}
		if n.Flags&FAsync != 0 {
			word("async")
		}
		b.WriteByte('\n')
		for _, c := range slices.Backward(children) {
			stack = append(stack, item{c, it.depth + 1})
		}
	}
	for _, e := range f.Errors {
		fmt.Fprintf(&b, "! %v\n", e)
	}
	return b.String()
}

// TestTrees compares the sources in testdata/*.txtar with the trees beside
// them: syntax newer than most machines' Python, and how errors are survived.
func TestTrees(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no cases found: %v", err)
	}
	for _, path := range archives {
		a, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(a.Files); i++ {
			src := a.Files[i]
			name, isSource := strings.CutSuffix(src.Name, ".py")
			if !isSource {
				t.Fatalf("%s: %s stands where a source was expected", path, src.Name)
			}
			if i+1 == len(a.Files) || a.Files[i+1].Name != name+".tree" {
				if !*update {
					t.Fatalf("%s: %s has no tree beside it", path, src.Name)
				}
				a.Files = slices.Insert(a.Files, i+1, txtar.File{Name: name + ".tree"})
			}
			i++
			t.Run(filepath.Base(path)+"/"+name, func(t *testing.T) {
				f := Parse(src.Name, src.Data)
				checkTree(t, f)
				got := outline(f)
				if *update {
					a.Files[i].Data = []byte(got)
				} else if diff := cmp.Diff(string(a.Files[i].Data), got); diff != "" {
					t.Errorf("tree (-want +got):\n%s", diff)
				}
			})
		}
		if *update {
			if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// checkTree fails unless what every caller relies on holds for a tree.
func checkTree(t testing.TB, f *File) {
	t.Helper()
	if f.Kind(f.Root) != Module || f.Kind(0) != Bad || *f.Node(0) != (Node{}) {
		t.Fatal("no module, or node 0 in use")
	}
	reached := make([]bool, len(f.Nodes))
	depth := make([]int, len(f.Nodes))
	Walk(f, f.Root, func(id ID) bool {
		n := f.Node(id)
		if reached[id] {
			t.Fatalf("%v %d is in the tree twice", n.Kind, id)
		}
		reached[id] = true
		if n.Start > n.End || int(n.End) > len(f.Src) {
			t.Fatalf("%v %d: %d to %d in %d bytes", n.Kind, id, n.Start, n.End, len(f.Src))
		}
		if depth[id] >= MaxDepth {
			t.Fatalf("%v is %d nodes deep", n.Kind, depth[id])
		}
		f.touch(id)
		for _, c := range f.Children(id) {
			if c == 0 || c >= id {
				t.Fatalf("%v %d has child %d: children come first", n.Kind, id, c)
			}
			depth[c] = depth[id] + 1
			k := f.Node(c)
			outside := k.Start < n.Start || k.End > n.End
			switch {
			case !outside:
			case n.Kind == Arg && c == n.C: // a default stands behind its parameter's span
			case (n.Kind == FunctionDef || n.Kind == AsyncFunctionDef || n.Kind == ClassDef) && k.End <= n.Start: // a decorator
			default:
				t.Fatalf("%v %d at %d-%d has %v %d at %d-%d", n.Kind, id, n.Start, n.End, k.Kind, c, k.Start, k.End)
			}
		}
		return true
	})
	line, col := 1, 0
	for pos := 0; pos <= len(f.Src); pos += 1 + len(f.Src)/500 {
		l, c := f.Position(uint32(pos))
		if l < line || l == line && c < col || l > f.LineCount()+1 {
			t.Fatalf("position of %d is %d:%d after %d:%d of %d lines", pos, l, c, line, col, f.LineCount())
		}
		line, col = l, c
	}
	for i, e := range f.Errors {
		if e.Msg == parserFailed {
			t.Fatal(e)
		}
		if int(e.Pos) > len(f.Src) || e.Msg == "" || i > 0 && e.Pos < f.Errors[i-1].Pos {
			t.Fatalf("error %d: %+v", i, e)
		}
	}
}

// touch calls every accessor.
func (f *File) touch(id ID) {
	f.Name(id)
	f.Attribute(id)
	f.DottedName(id)
	f.Subscript(id)
	f.Slice(id)
	f.Value(id)
	f.Call(id)
	f.Arguments(id)
	f.Argument(id, "x")
	f.KeywordArg(id)
	f.FunctionDef(id)
	f.ClassDef(id)
	f.Params(id)
	f.Lambda(id)
	f.TypeParam(id)
	f.Assign(id)
	f.AugAssign(id)
	f.AnnAssign(id)
	f.NamedExpr(id)
	f.TypeAlias(id)
	f.Delete(id)
	f.Names(id)
	for _, n := range f.Import(id) {
		_ = n.Bound()
	}
	f.ImportFrom(id)
	f.If(id)
	f.While(id)
	f.For(id)
	f.With(id)
	f.WithItem(id)
	f.Try(id)
	f.ExceptHandler(id)
	f.Match(id)
	f.MatchCase(id)
	f.Patterns(id)
	f.MatchClass(id)
	f.MatchMapping(id)
	f.MatchAs(id)
	f.MatchStar(id)
	f.Raise(id)
	f.Assert(id)
	f.Elts(id)
	f.Dict(id)
	for range f.DictItems(id) {
	}
	f.BinOp(id)
	f.UnaryOp(id)
	f.BoolOp(id)
	f.Compare(id)
	f.IfExp(id)
	f.Comp(id)
	f.Comprehension(id)
	f.FStringParts(id)
	f.Field(id)
	f.NameSpan(id)
	f.StringValue(id)
	f.BytesValue(id)
	f.NumValue(id)
	f.Text(id)
}

func FuzzParse(f *testing.F) {
	for _, path := range []string{"testdata/new.txtar", "testdata/recovery.txtar"} {
		a, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range a.Files {
			if strings.HasSuffix(file.Name, ".py") {
				f.Add(file.Data)
			}
		}
	}
	for _, s := range nested {
		f.Add([]byte(strings.Repeat(s[0], 5) + s[1] + strings.Repeat(s[2], 5)))
	}
	f.Add([]byte("# -*- coding: latin-1 -*-\nx = '\xe9'\n"))
	f.Add([]byte(bom + "x = 'é'\r\ny\rz\x00"))
	f.Fuzz(func(t *testing.T, src []byte) {
		before := bytes.Clone(src)
		p := Parse("fuzz.py", src)
		if !bytes.Equal(src, before) {
			t.Fatal("the source was changed")
		}
		checkTree(t, p)
		dump(p, false)
		if again := Parse("fuzz.py", src); !bytes.Equal(dump(again, false), dump(p, false)) {
			t.Fatal("the second time another tree")
		}
	})
}

// nested are constructs that nest: an opening, what is inside of the
// innermost, and a closing.
var nested = [][3]string{
	{"(", "x", ")"}, {"[", "x", "]"}, {"{", "x", "}"}, {"(*", "x", ",)"}, {"[*", "x", "]"}, {"{**", "x", "}"}, {"{1: ", "x", "}"}, {"{1:1, **", "x", "}"},
	{"f(", "x", ")"}, {"f(*", "x", ")"}, {"f(**", "x", ")"}, {"f(k=", "x", ")"}, {"x[", "0", "]"}, {"x[*", "y", "]"}, {"x[1:", "0", "]"},
	{"not ", "x", ""}, {"-", "x", ""}, {"~", "x", ""}, {"x ** ", "x", ""}, {"-x**", "x", ""}, {"await ", "x", ""}, {"await (", "x", ")"}, {"(yield ", "x", ")"}, {"(yield from ", "x", ")"},
	{"lambda: ", "x", ""}, {"lambda a=", "x", ": 0"}, {"x if x else ", "x", ""}, {"x if ", "x", " else x"}, {"(x := ", "x", ")"},
	{"[x for x in ", "x", "]"}, {"[x for ", "x", " in x]"}, {"[x for x in x if ", "x", "]"}, {"{x: x for x in ", "x", "}"}, {"(x for x in ", "x", ")"},
	{"f'{", "x", "}'"}, {"f'''{", "x", "}'''"}, {"f'{x:{", "x", "}}'"}, {"f'{x:", "x", "}'"}, {"t'{", "x", "}'"},
	{"a.", "a", ""}, {"a + ", "a", ""}, {"a and ", "a", ""}, {"a < ", "a", ""}, {"", "a", ".b"}, {"", "a", "()"}, {"", "a", "[0]"}, {"", "a", " + a"}, {"", "a", "\\\n.b"},
	{"match x:\n case ", "x", ": pass"}, {"match x:\n case (", "x", ",): pass"}, {"x = ", "x", ""}, {"if x: ", "x", ""},
	{"with (", "x", "): pass"}, {"for (", "x", ",) in x: pass"}, {"del (", "x", ")"}, {"@", "x", "\ndef f(): pass"}, {"def f(a=", "x", "): pass"}, {"class C(", "x", "): pass"},
	{"type X = ", "x", ""}, {"def f[T: ", "x", "](): pass"}, {"import ", "a", ".b"}, {"(\n", "x", "\n)"}, {"'a' ", "'b'", ""},
}

// patterns nest inside of one match statement.
var nestedPatterns = [][3]string{
	{"(", "x", ")"}, {"[", "x", "]"}, {"{1: ", "x", "}"}, {"C(", "x", ")"}, {"C(k=", "x", ")"}, {"(a | ", "x", ")"}, {"(", "x", " as y)"}, {"a | ", "x", ""}, {"[*_, ", "x", "]"}, {"", "a", ".b"},
}

// TestDeep parses what nests or chains far too deep: the time and the stack
// stay bounded, and so is the height of the tree (CWE-674).
func TestDeep(t *testing.T) {
	parse := func(t *testing.T, src string) *File {
		start := time.Now()
		f := Parse("deep.py", []byte(src))
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("took %v for %d bytes", d, len(src))
		}
		checkTree(t, f)
		return f
	}
	for _, n := range []int{100, 100_000, 1_000_000} {
		for _, s := range nested {
			if chain := s[0] == "" || s[0] == "a."; n == 1_000_000 && !chain {
				continue
			}
			t.Run(fmt.Sprintf("%d %q %q", n, s[0], s[2]), func(t *testing.T) {
				f := parse(t, strings.Repeat(s[0], n)+s[1]+strings.Repeat(s[2], n)+"\nsurvivor = 1\n")
				if n == 100 {
					return
				}
				parse(t, strings.Repeat(s[0], n)+s[1])
				parse(t, strings.Repeat(s[0]+"\n", n/10))
				gaveUp := len(f.Errors) > 0 && strings.Contains(f.Errors[len(f.Errors)-1].Msg, "not read")
				if !bytes.Contains(dump(f, false), []byte("survivor")) && !strings.Contains(s[0], "'") && !gaveUp {
					t.Errorf("the statement behind is lost; %v", f.Errors)
				}
			})
		}
		if n == 1_000_000 {
			break
		}
		for _, s := range nestedPatterns {
			t.Run(fmt.Sprintf("%d pattern %q %q", n, s[0], s[2]), func(t *testing.T) {
				parse(t, "match x:\n case "+strings.Repeat(s[0], n)+s[1]+strings.Repeat(s[2], n)+": pass\n")
			})
		}
	}
	t.Run("elif", func(t *testing.T) {
		f := parse(t, "if x: pass\n"+strings.Repeat("elif x: pass\n", 5_000))
		if len(f.Errors) > 0 {
			t.Error(f.Errors)
		}
		f = parse(t, "if x: pass\n"+strings.Repeat("elif x: pass\n", 1_000_000))
		if len(f.Errors) == 0 {
			t.Error("a million elif and no error")
		}
	})
	t.Run("indent", func(t *testing.T) {
		var b strings.Builder
		for i := range 3000 {
			b.WriteString(strings.Repeat(" ", i) + "if x:\n")
		}
		parse(t, b.String())
	})
	t.Run("mixed", func(t *testing.T) {
		// Chains within brackets within chains.
		link := "(" + strings.Repeat("a.", 300) + "b + " + strings.Repeat("a + ", 200)
		parse(t, strings.Repeat(link, 400)+"x"+strings.Repeat(")", 400))
		parse(t, strings.Repeat("x"+strings.Repeat(".b", 300)+"(", 700)+"x"+strings.Repeat(")", 700))
	})
	t.Run("quadratic", func(t *testing.T) {
		for _, s := range []string{"#\r", "f'''{\n", "f'''{", "'''\n'", "(\n", "x = (\n", "foo(a,\n", "\\\n", "[ '\n", "f'\\N{\n", "\"\"\"\n(", "f'{'''\n", "f\"{f'{", "x = '''a\n", "lambda:(\n", "with (\n", "match (\n", "@\n", "else:\n", "\x00", "\u201c ", "é", "\r", "\f", "    x\n  y\n"} {
			parse(t, strings.Repeat(s, 1_000_000/len(s)))
			parse(t, strings.Repeat(s, 300)+strings.Repeat("a", 1_000_000))
			parse(t, strings.Repeat(s, 300)+"f'''"+strings.Repeat("a", 1_000_000))
		}
	})
}

// TestMaxDepth holds that a recursive function is safe and what is cut.
func TestMaxDepth(t *testing.T) {
	f := Parse("chain.py", []byte("x = a"+strings.Repeat(".b", 1_000_000)+"\ny = 1\n"))
	if len(f.Errors) != 1 || f.Errors[0].Msg != "too deeply nested" || f.Errors[0].Line != 1 {
		t.Errorf("errors %v", f.Errors)
	}
	if len(f.Body()) != 2 {
		t.Fatalf("%d statements", len(f.Body()))
	}
	_, value := f.Assign(f.Body()[0])
	links := 0
	for f.Kind(value) == Attribute {
		value, _ = f.Attribute(value)
		links++
	}
	if f.Kind(value) != Bad || links < 100 || links >= MaxDepth {
		t.Errorf("%v after %d links", f.Kind(value), links)
	}
	f = Parse("chain.py", []byte("x = a"+strings.Repeat(".b", MaxDepth-10)+"\n"))
	if len(f.Errors) != 0 {
		t.Errorf("a chain just below the limit: %v", f.Errors)
	}
	parents := Parents(f)
	_, value = f.Assign(f.Body()[0])
	if parents[value] != f.Body()[0] || parents[f.Body()[0]] != f.Root || parents[f.Root] != 0 {
		t.Error("wrong parents")
	}
}

// TestManyErrors holds that a large file of nonsense is given up, and says so.
func TestManyErrors(t *testing.T) {
	start := time.Now()
	f := Parse("many.py", []byte(strings.Repeat("x = )\n", 1<<20)))
	checkTree(t, f)
	if n := len(f.Errors); n != maxErrors || !strings.Contains(f.Errors[n-1].Msg, "not read") {
		t.Errorf("%d errors kept, the last of which is %v", n, f.Errors[n-1])
	}
	if len(f.Body()) > maxFailures+10 || time.Since(start) > 10*time.Second {
		t.Errorf("%d statements in %v", len(f.Body()), time.Since(start))
	}
}

// TestManyNames makes sure that names with one FNV-1a hash do not slow the
// parser down: the basis is another in each process.
func TestManyNames(t *testing.T) {
	var b strings.Builder
	for i := range 300_000 {
		fmt.Fprintf(&b, "n%x\n", i)
	}
	start := time.Now()
	f := Parse("names.py", []byte(b.String()))
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
	if got := f.Name(f.Value(f.Body()[299_999])); got != fmt.Sprintf("n%x", 299_999) {
		t.Errorf("last name is %q", got)
	}
}

func TestPosition(t *testing.T) {
	f := Parse("p.py", []byte(bom+"é = 1\r\nab\rc\n\n  日本 = x\n"))
	for pos, want := range map[uint32][2]int{
		0: {1, 1}, 3: {1, 1}, 5: {1, 2}, 8: {1, 5}, 11: {2, 1}, 13: {2, 3}, 14: {3, 1}, 16: {4, 1}, 17: {5, 1}, 19: {5, 3}, 22: {5, 4}, 25: {5, 5},
		30: {6, 1}, 1000: {6, 1},
	} {
		if l, c := f.Position(pos); [2]int{l, c} != want {
			t.Errorf("offset %d is %d:%d, want %v", pos, l, c, want)
		}
	}
	if n := f.LineCount(); n != 5 {
		t.Errorf("%d lines", n)
	}
	for n, want := range []string{"", "é = 1", "ab", "c", "", "  日本 = x", "", ""} {
		if got := string(f.Line(n)); got != want {
			t.Errorf("line %d is %q, want %q", n, got, want)
		}
	}
	if n := Parse("e.py", nil).LineCount(); n != 1 {
		t.Errorf("an empty file has %d lines", n)
	}
}

func TestEncodings(t *testing.T) {
	for _, c := range []struct{ name, src, value, err string }{
		{"utf-8", "x = 'é'\n", "é", ""},
		{"bom", bom + "x = 'é'\n", "é", ""},
		{"declared", "# vim: set fileencoding=utf-8 :\nx = 'é'\n", "é", ""},
		{"latin-1", "#!/usr/bin/python\n# -*- coding: latin-1 -*-\nx = '\xe9\x93'\n", "é\u0093", ""},
		{"iso-8859-15", "# coding=iso-8859-15\nx = '\xa4'\n", "€", ""},
		{"iso8859_2", "# coding: iso8859_2\nx = '\xb1'\n", "ą", ""},
		{"cp1252", "# coding: cp1252\nx = '\x80'\n", "€", ""},
		{"cp1251", "# coding: windows-1251\nx = '\xc6'\n", "Ж", ""},
		{"koi8-r", "# coding: koi8-r\nx = '\xf6'\n", "Ж", ""},
		{"euc-jp", "# coding: euc_jp\nx = '\xc6\xfc'\n", "日", ""},
		{"gbk", "# coding: gbk\nx = '\xc8\xd5'\n", "日", ""},
		{"ascii", "# coding: ascii\nx = '\xc3\xa9'\n", "é", "not ASCII"},
		{"unknown", "# coding: rot13\nx = '\xe9'\n", "é", `unknown encoding "rot13"`},
		{"utf-16 declared", "# coding: utf-16\nx = '\xe9'\n", "é", "unknown encoding"},
		{"not utf-8", "a = 1\nx = 'é\xe9'\n", "éé", "not UTF-8"},
		{"third line", "\n\n# coding: latin-1\nx = 'é'\n", "é", ""},
		{"after code", "a = 1\n# coding: latin-1\nx = 'é'\n", "é", ""},
		{"not a comment", "x = 'é' # no\n", "é", ""},
		{"crlf", "#!x\r\n# coding: latin-1\r\nx = '\xe9'\r\n", "é", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := Parse("x.py", []byte(c.src))
			checkTree(t, f)
			body := f.Body()
			_, v := f.Assign(body[len(body)-1])
			if got, ok := f.StringValue(v); !ok || got != c.value {
				t.Errorf("value %q %v, want %q", got, ok, c.value)
			}
			switch {
			case c.err == "" && len(f.Errors) > 0:
				t.Errorf("errors %v", f.Errors)
			case c.err != "" && (len(f.Errors) != 1 || !strings.Contains(f.Errors[0].Msg, c.err)):
				t.Errorf("errors %v, want one with %q", f.Errors, c.err)
			}
		})
	}
}

func TestBinary(t *testing.T) {
	elf := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 4096)...)
	for i := range elf[100:] {
		elf[100+i] = byte(i * 7)
	}
	utf16 := make([]byte, 0, 100)
	for _, r := range "\ufeffimport os\n" {
		utf16 = binary.LittleEndian.AppendUint16(utf16, uint16(r))
	}
	for name, src := range map[string][]byte{"elf": elf, "utf-16": utf16, "zeros": make([]byte, 1<<20)} {
		f := Parse(name, src)
		checkTree(t, f)
		if len(f.Errors) == 0 {
			t.Errorf("%s: no error", name)
		}
	}
	f := Parse("nul.py", []byte("import os\nx = 1 \x00\nos.system(x) # and more text so that one NUL does not make it binary, as it stands in a hundred\n"))
	if !strings.Contains(outline(f), "Attribute .system") || len(f.Errors) == 0 {
		t.Errorf("one NUL hides the rest: %s", outline(f))
	}
}

// TestParallel parses and reads in several goroutines, for the race detector.
func TestParallel(t *testing.T) {
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			p := NewParser()
			var last *File
			for i := range 200 {
				f := p.Parse("x.py", fmt.Appendf(nil, "name_%d_%d = other_%d\n", g, i, i))
				if prev := last; prev != nil {
					wg.Go(func() { outline(prev) }) // while the next is parsed
				}
				last = f
			}
		})
	}
	wg.Wait()
}

// corpus returns the sources that the benchmarks parse.
func corpus(b *testing.B) (srcs [][]byte, size int) {
	python, _ := python(b)
	for _, path := range stdlib(b, python) {
		src, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		srcs = append(srcs, src)
		size += len(src)
	}
	return srcs, size
}

// BenchmarkParse parses the standard library of the machine's Python.
func BenchmarkParse(b *testing.B) {
	srcs, size := corpus(b)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	p := NewParser()
	for b.Loop() {
		for _, src := range srcs {
			p.Parse("x.py", src)
		}
	}
}

// BenchmarkWalk visits every node of the same files.
func BenchmarkWalk(b *testing.B) {
	srcs, size := corpus(b)
	var files []*File
	for _, src := range srcs {
		files = append(files, Parse("x.py", src))
	}
	b.SetBytes(int64(size))
	n := 0
	for b.Loop() {
		for _, f := range files {
			Walk(f, f.Root, func(ID) bool { n++; return true })
		}
	}
	runtime.KeepAlive(n)
}

// TestInterner parses one project by several goroutines: equal names are one
// string, and the trees are those of Parse.
func TestInterner(t *testing.T) {
	in := NewInterner()
	src := func(i int) []byte {
		return fmt.Appendf(nil, "def shared_name(common, own_%d):\n    return common.attribute + own_%d\n", i, i)
	}
	files := make([]*File, 200)
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			for i := k; i < len(files); i += 4 {
				files[i] = in.Parse("a.py", src(i))
			}
		})
	}
	wg.Wait()
	texts := map[string]*byte{}
	for i, f := range files {
		alone := Parse("a.py", src(i))
		Walk(f, f.Root, func(id ID) bool {
			if f.Kind(id) != Name {
				return true
			}
			name := f.Name(id)
			if name != alone.Name(id) {
				t.Fatalf("file %d: %q, want %q", i, name, alone.Name(id))
			}
			if p, ok := texts[name]; ok && p != unsafe.StringData(name) {
				t.Fatalf("%q is kept twice", name)
			}
			texts[name] = unsafe.StringData(name)
			return true
		})
	}
	if len(texts) != 1+len(files) {
		t.Errorf("%d names", len(texts))
	}
}
