package pysyntax

import (
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// find returns the first node of a kind, in the order of Walk.
func find(t *testing.T, f *File, k Kind) (found ID) {
	t.Helper()
	Walk(f, f.Root, func(id ID) bool {
		if found == 0 && f.Kind(id) == k {
			found = id
		}
		return found == 0
	})
	if found == 0 {
		t.Fatalf("no %v in %s", k, f.Src)
	}
	return found
}

// texts returns the source of nodes; "" for id 0.
func texts(f *File, ids ...ID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(f.Text(id))
	}
	return out
}

// TestAccessors takes one source of each kind apart.
func TestAccessors(t *testing.T) {
	word := func(s ...string) []string { return s }
	for _, c := range []struct {
		kind Kind
		src  string
		got  func(f *File, id ID) []string
		want []string
	}{
		{Call, "f(a, *b, k=c, **d)", func(f *File, id ID) []string {
			fn, args, kw := f.Call(id)
			return slices.Concat(texts(f, fn), texts(f, args...), word("|"), texts(f, kw...))
		}, word("f", "a", "*b", "|", "k=c", "**d")},
		{Call, "f(k=c, *b, l=d)", func(f *File, id ID) []string {
			_, args, kw := f.Call(id)
			return slices.Concat(texts(f, args...), word("|"), texts(f, kw...), word("|"), texts(f, f.Arguments(id)...))
		}, word("*b", "|", "k=c", "l=d", "|", "k=c", "*b", "l=d")},
		{Call, "f(a, debug=True)", func(f *File, id ID) []string {
			v, unpack := f.Argument(id, "debug")
			none, _ := f.Argument(id, "a")
			return append(texts(f, v, none), map[bool]string{true: "unpack", false: "all"}[unpack])
		}, word("True", "", "all")},
		{Call, "f(**opts, debug=x)", func(f *File, id ID) []string {
			v, unpack := f.Argument(id, "debug")
			return append(texts(f, v), map[bool]string{true: "unpack", false: "all"}[unpack])
		}, word("x", "unpack")},
		{Keyword, "f(key = c)", func(f *File, id ID) []string {
			name, v := f.KeywordArg(id)
			s, e := f.NameSpan(id)
			return append(texts(f, v), name, string(f.Src[s:e]))
		}, word("c", "key", "key")},
		{Attribute, "a . bé", func(f *File, id ID) []string {
			v, name := f.Attribute(id)
			s, e := f.NameSpan(id)
			return append(texts(f, v), name, string(f.Src[s:e]), f.DottedName(id))
		}, word("a", "bé", "bé", "a.bé")},
		{Attribute, "(a.b).c().d", func(f *File, id ID) []string { return word(f.DottedName(id)) }, word("")},
		{Attribute, "(a.b).c", func(f *File, id ID) []string { return word(f.DottedName(id)) }, word("a.b.c")},
		{AsyncFunctionDef, "@d.e\n@g()\nasync \\\n def  name[T](a, /, b: int = 1, *c, d=2, **e) -> r:\n  pass\n  x", func(f *File, id ID) []string {
			x := f.FunctionDef(id)
			s, e := f.NameSpan(id)
			out := slices.Concat(word(x.Name, string(f.Src[s:e])), texts(f, x.Decorators...), texts(f, x.TypeParams...), texts(f, x.Returns), texts(f, x.Body...))
			for _, p := range f.Params(id) {
				out = append(out, p.Name+string("/n*k!"[p.Kind])+string(f.Text(p.Annotation))+"="+string(f.Text(p.Default)))
			}
			if x.Async {
				out = append(out, "async")
			}
			return out
		}, word("name", "name", "d.e", "g()", "T", "r", "pass", "x", "a/=", "bnint=1", "c*=", "dk=2", "e!=", "async")},
		{FunctionDef, "def f(): pass", func(f *File, id ID) []string {
			x := f.FunctionDef(id)
			return append(texts(f, x.Params, x.Returns), texts(f, x.Decorators...)...)
		}, word("", "")},
		{ClassDef, "@d\nclass C(A, metaclass=M):\n x", func(f *File, id ID) []string {
			x := f.ClassDef(id)
			s, e := f.NameSpan(id)
			return slices.Concat(word(x.Name, string(f.Src[s:e])), texts(f, x.Bases...), texts(f, x.Keywords...), texts(f, x.Decorators...), texts(f, x.Body...))
		}, word("C", "C", "A", "metaclass=M", "d", "x")},
		{Lambda, "lambda a, b=1: c", func(f *File, id ID) []string {
			_, body := f.Lambda(id)
			p := f.Params(id)
			return append(texts(f, body), p[0].Name, p[1].Name, string(f.Text(p[1].Default)))
		}, word("c", "a", "b", "1")},
		{Assign, "a = b, c = v", func(f *File, id ID) []string {
			ts, v := f.Assign(id)
			return append(texts(f, ts...), texts(f, v)...)
		}, word("a", "b, c", "v")},
		{AugAssign, "a |= b", func(f *File, id ID) []string {
			x, op, v := f.AugAssign(id)
			return append(texts(f, x, v), opNames[op])
		}, word("a", "b", "BitOr")},
		{AnnAssign, "a: int = 1", func(f *File, id ID) []string { return texts(f, three(f.AnnAssign(id))...) }, word("a", "int", "1")},
		{NamedExpr, "(a := b)", func(f *File, id ID) []string { return texts(f, two(f.NamedExpr(id))...) }, word("a", "b")},
		{TypeAlias, "type X[T] = y", func(f *File, id ID) []string {
			n, ps, v := f.TypeAlias(id)
			return append(texts(f, n, v), texts(f, ps...)...)
		}, word("X", "y", "T")},
		{TypeVar, "type X[T: int = str] = y", func(f *File, id ID) []string {
			n, b, d := f.TypeParam(id)
			return append(texts(f, b, d), n)
		}, word("int", "str", "T")},
		{Delete, "del a, b.c", func(f *File, id ID) []string { return texts(f, f.Delete(id)...) }, word("a", "b.c")},
		{Global, "global a, b", func(f *File, id ID) []string { return f.Names(id) }, word("a", "b")},
		{Import, "import a.b as c, d . e", func(f *File, id ID) []string {
			var out []string
			for _, n := range f.Import(id) {
				out = append(out, n.Name, n.As, n.Bound())
			}
			return out
		}, word("a.b", "c", "c", "d.e", "", "d")},
		{ImportFrom, "from ... .a.b import (c, d as e)", func(f *File, id ID) []string {
			m, level, names := f.ImportFrom(id)
			return word(m, string(rune('0'+level)), names[0].Name, names[0].Bound(), names[1].Name, names[1].Bound())
		}, word("a.b", "4", "c", "c", "d", "e")},
		{ImportFrom, "from . import *", func(f *File, id ID) []string {
			m, level, names := f.ImportFrom(id)
			return word(m, string(rune('0'+level)), names[0].Name, names[0].Bound())
		}, word("", "1", "*", "")},
		{If, "if a: b\nelif c: d\nelse: e", func(f *File, id ID) []string {
			x, body, els := f.If(id)
			y, body2, els2 := f.If(els[0])
			return slices.Concat(texts(f, x), texts(f, body...), texts(f, y), texts(f, body2...), texts(f, els2...))
		}, word("a", "b", "c", "d", "e")},
		{While, "while a: b\nelse: c", func(f *File, id ID) []string {
			x, body, els := f.While(id)
			return slices.Concat(texts(f, x), texts(f, body...), texts(f, els...))
		}, word("a", "b", "c")},
		{For, "for a, b in c: d\nelse: e", func(f *File, id ID) []string {
			x := f.For(id)
			return slices.Concat(texts(f, x.Target, x.Iter), texts(f, x.Body...), texts(f, x.Else...))
		}, word("a, b", "c", "d", "e")},
		{With, "with a as b, c: d", func(f *File, id ID) []string {
			items, body := f.With(id)
			return slices.Concat(texts(f, two(f.WithItem(items[0]))...), texts(f, two(f.WithItem(items[1]))...), texts(f, body...))
		}, word("a", "b", "c", "", "d")},
		{Try, "try: a\nexcept B as c: d\nexcept: e\nelse: g\nfinally: h", func(f *File, id ID) []string {
			x := f.Try(id)
			typ, name, body := f.ExceptHandler(x.Handlers[0])
			bare, _, _ := f.ExceptHandler(x.Handlers[1])
			return slices.Concat(texts(f, x.Body...), texts(f, typ), word(name), texts(f, body...), texts(f, bare), texts(f, x.Else...), texts(f, x.Finally...))
		}, word("a", "B", "c", "d", "", "g", "h")},
		{Match, "match a:\n case {1: b, **c} if d: e\n case F(g, h=i) | [*j] as k: l", func(f *File, id ID) []string {
			subject, cases := f.Match(id)
			p, guard, body := f.MatchCase(cases[0])
			keys, values, rest := f.MatchMapping(p)
			out := slices.Concat(texts(f, subject, guard), texts(f, body...), texts(f, keys...), texts(f, values...), word(rest))
			p, _, _ = f.MatchCase(cases[1])
			p, name := f.MatchAs(p)
			alts := f.Patterns(p)
			return slices.Concat(out, word(name), texts(f, f.MatchClass(alts[0])), texts(f, f.Patterns(alts[0])...), word(f.MatchStar(f.Patterns(alts[1])[0])))
		}, word("a", "d", "e", "1", "b", "c", "k", "F", "g", "h=i", "j")},
		{Raise, "raise a from b", func(f *File, id ID) []string { return texts(f, two(f.Raise(id))...) }, word("a", "b")},
		{Assert, "assert a, b", func(f *File, id ID) []string { return texts(f, two(f.Assert(id))...) }, word("a", "b")},
		{Return, "def f(): return a", func(f *File, id ID) []string { return texts(f, f.Value(id)) }, word("a")},
		{Tuple, "(a, *b)", func(f *File, id ID) []string { return texts(f, f.Elts(id)...) }, word("a", "*b")},
		{Dict, "{a: b, **c}", func(f *File, id ID) []string {
			keys, values := f.Dict(id)
			out := append(texts(f, keys...), texts(f, values...)...)
			for k, v := range f.DictItems(id) {
				out = append(out, texts(f, k, v)...)
			}
			return out
		}, word("a", "", "b", "c", "a", "b", "", "c")},
		{Subscript, "a[b:c:d]", func(f *File, id ID) []string {
			v, i := f.Subscript(id)
			return append(texts(f, v), texts(f, three(f.Slice(i))...)...)
		}, word("a", "b", "c", "d")},
		{BinOp, "a % b", func(f *File, id ID) []string {
			l, op, r := f.BinOp(id)
			return append(texts(f, l, r), opNames[op])
		}, word("a", "b", "Mod")},
		{UnaryOp, "not a", func(f *File, id ID) []string {
			op, x := f.UnaryOp(id)
			return append(texts(f, x), map[bool]string{true: "Not"}[op == UnaryNot])
		}, word("a", "Not")},
		{BoolOp, "a or b or c", func(f *File, id ID) []string {
			op, xs := f.BoolOp(id)
			return append(texts(f, xs...), map[bool]string{true: "Or"}[op == BoolOr])
		}, word("a", "b", "c", "Or")},
		{Compare, "a < b is not c", func(f *File, id ID) []string {
			l, rest := f.Compare(id)
			return append(texts(f, l, rest[0].Right, rest[1].Right), cmpNames[rest[0].Op], cmpNames[rest[1].Op])
		}, word("a", "b", "c", "Lt", "IsNot")},
		{IfExp, "a if b else c", func(f *File, id ID) []string { return texts(f, three(f.IfExp(id))...) }, word("b", "a", "c")},
		{DictComp, "{a: b for c in d if e if g}", func(f *File, id ID) []string {
			k, v, gens := f.Comp(id)
			x, it, ifs, _ := f.Comprehension(gens[0])
			return append(texts(f, k, v, x, it), texts(f, ifs...)...)
		}, word("a", "b", "c", "d", "e", "g")},
		{GeneratorExp, "async def f(): g(a async for b in c)", func(f *File, id ID) []string {
			k, v, gens := f.Comp(id)
			_, _, _, async := f.Comprehension(gens[0])
			return append(texts(f, k, v), map[bool]string{true: "async"}[async])
		}, word("", "a", "async")},
		{JoinedStr, `'\x41' f"b{{{c = :>{d}}{e!a}"`, func(f *File, id ID) []string {
			var out []string
			for _, p := range f.FStringParts(id) {
				if s, ok := f.StringValue(p); ok {
					out = append(out, s)
					continue
				}
				x := f.Field(p)
				out = append(out, string(f.Text(x.Value)), string(rune(x.Conversion)), string(f.Text(x.Format)), string(x.Debug))
			}
			return out
		}, word("A", "b{", "c", "\x00", ":>{d}", "c = ", "e", "a", "", "")},
		{JoinedStr, `f"a" r"\b"`, func(f *File, id ID) []string {
			s, ok := f.StringValue(id)
			return word(s, map[bool]string{true: "known"}[ok])
		}, word(`a\b`, "known")},
		{JoinedStr, `f"{a}"`, func(f *File, id ID) []string {
			s, ok := f.StringValue(id)
			return word(s, map[bool]string{true: "known"}[ok])
		}, word("", "")},
	} {
		f := Parse("x.py", []byte(c.src))
		if len(f.Errors) > 0 {
			t.Errorf("%s: %v", c.src, f.Errors)
			continue
		}
		if diff := cmp.Diff(c.want, c.got(f, find(t, f, c.kind))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.src, diff)
		}
	}
}

func two(a, b ID) []ID      { return []ID{a, b} }
func three(a, b, c ID) []ID { return []ID{a, b, c} }

// TestOtherKinds asks every accessor about node 0 and about a node it is not
// for.
func TestOtherKinds(t *testing.T) {
	f := Parse("x.py", []byte("pass"))
	for _, id := range []ID{0, find(t, f, Pass)} {
		f.touch(id)
		if fn, args, kw := f.Call(id); fn != 0 || args != nil || kw != nil || f.Name(id) != "" || f.DottedName(id) != "" || f.Value(id) != 0 {
			t.Error("an accessor made something up")
		}
	}
}

// TestMutations damages real files at random places: what every caller relies
// on must hold, and most functions must still be found.
func TestMutations(t *testing.T) {
	python, _ := python(t)
	files := stdlib(t, python)
	r := rand.New(rand.NewPCG(3, 4))
	junk := []string{"", "", "(", ")", "]", "{", "'", `"""`, "f'{", "\\", ":", "=", "def ", "else:", "\n", "    ", "\x00", "é", "#", "lambda", "@"}
	count := func(f *File) (n int) {
		Walk(f, f.Root, func(id ID) bool {
			if f.FunctionDef(id).Name != "" {
				n++
			}
			return true
		})
		return n
	}
	whole, found := 0, 0
	for range 400 {
		src, err := os.ReadFile(files[r.IntN(len(files))])
		if err != nil {
			t.Fatal(err)
		}
		if len(src) < 100 || len(src) > 100_000 {
			continue
		}
		before := count(Parse("x.py", src))
		at := r.IntN(len(src) - 10)
		bad := slices.Concat(src[:at], []byte(junk[r.IntN(len(junk))]), src[at+r.IntN(10):])
		f := Parse("x.py", bad)
		checkTree(t, f)
		whole += before
		found += min(count(f), before)
	}
	t.Logf("%d of %d functions found in damaged files", found, whole)
	if whole < 1000 || float64(found) < 0.95*float64(whole) {
		t.Errorf("only %d of %d functions found in damaged files", found, whole)
	}
}

// TestStringsAreDecodedOnce guards the two names of one thing: the pieces of
// a literal beside an f-string decode as the literal alone.
func TestStringsAreDecodedOnce(t *testing.T) {
	for _, lit := range []string{`'a\n'`, `r'\n'`, `u"é\u00e9"`, `'''x
y'''`, `"\N{BULLET}"`, `'\ud800'`} {
		alone := Parse("x.py", []byte(lit))
		want, ok := alone.StringValue(alone.Value(alone.Body()[0]))
		f := Parse("x.py", []byte("f'' "+lit))
		got, ok2 := f.StringValue(f.Value(f.Body()[0]))
		if !ok || !ok2 || got != want || strings.Contains(got, "'") {
			t.Errorf("%s: %q %v and %q %v", lit, want, ok, got, ok2)
		}
	}
}
