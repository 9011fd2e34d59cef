package pysyntax

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// snippetFiles are the files of CPython's own tests whose strings are sources,
// right ones and wrong ones.
var snippetFiles = []string{
	"test_syntax", "test_grammar", "test_fstring", "test_patma", "test_named_expressions", "test_string_literals",
	"test_positional_only_arg", "test_keywordonlyarg", "test_unpack", "test_unpack_ex", "test_generators", "test_genexps",
	"test_listcomps", "test_exceptions", "test_eof", "test_tokenize", "test_ast", "test_unparse", "test_compile",
	"test_type_comments", "test_coroutines", "test_flufl", "test_exception_group", "test_except_star", "test_decorators",
	"test_lambda", "test_with", "test_global", "test_scope", "test_future", "test_codeop", "test_peg_generator", "test_type_params",
	"test_type_aliases", "test_tstring", "test_lazy_import", "test_symtable", "test_extcall", "test_dictcomps", "test_setcomps",
	"test_asyncgen", "test_annotations", "test_unicode_identifiers", "test_dynamic", "test_complex", "test_int_literal", "test_bytes",
}

var doctestLine = regexp.MustCompile(`(?m)^[ \t]*(>>>|\.\.\.)(?: |$)(.*)$`)

// snippets returns the sources that stand in CPython's own tests.
func snippets(t testing.TB, files []string) []string {
	t.Helper()
	wanted := map[string]bool{}
	for _, name := range snippetFiles {
		wanted[name+".py"] = true
	}
	seen := map[string]bool{}
	var out []string
	add := func(s string) {
		if len(s) < 20_000 && !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	for _, path := range files {
		if !wanted[filepath.Base(path)] && !strings.Contains(path, "test_peg_generator") {
			continue
		}
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f := Parse(path, src)
		Walk(f, f.Root, func(id ID) bool {
			s, ok := f.StringValue(id)
			if b, is := f.BytesValue(id); is {
				s, ok = string(b), true
			}
			if !ok {
				return true
			}
			example := ""
			for _, m := range doctestLine.FindAllStringSubmatch(s, -1) {
				if m[1] == ">>>" && example != "" {
					add(example)
					example = ""
				}
				example += m[2] + "\n"
			}
			if example != "" {
				add(example)
			} else {
				add(dedent(s))
			}
			return true
		})
	}
	return out
}

// dedent takes the indentation of the first line that is not blank from all.
func dedent(s string) string {
	first := strings.TrimLeft(s, "\n")
	indent := first[:len(first)-len(strings.TrimLeft(first, " "))]
	return strings.TrimPrefix(strings.ReplaceAll("\n"+s, "\n"+indent, "\n"), "\n")
}

// mutants changes a token of statements of real files: leaves it out, repeats
// it, changes it with its neighbour, or puts another in.
func mutants(t testing.TB, files []string, r *rand.Rand, n int) []string {
	t.Helper()
	words := strings.Fields("( ) [ ] { } , : ; . = == := -> * ** @ + - / | ~ ! != < += not in is if else elif for while try except finally with as async await def class lambda " +
		"return yield from import global nonlocal del pass break continue raise assert and or True None ... match case type _ x 1 1.5 1j 0x 'a' b'a' f'{x}' f'{' \\ \n")
	var out []string
	for len(out) < n {
		path := files[r.IntN(len(files))]
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f := Parse(path, src)
		if len(f.Errors) > 0 {
			continue
		}
		var statements []ID
		Walk(f, f.Root, func(id ID) bool {
			if k := f.Kind(id); k.IsStatement() && k != Pass && len(f.Text(id)) < 400 && (k == With || k == Match || k == Try || len(f.Text(id)) < 120) {
				statements = append(statements, id)
			}
			return true
		})
		for range min(20, len(statements)) {
			id := statements[r.IntN(len(statements))]
			line, col := f.Position(f.Node(id).Start)
			head := f.Line(line)
			if len(bytes.TrimLeft(head[:min(col-1, len(head))], " ")) > 0 {
				continue
			}
			source := strings.ReplaceAll(string(f.Text(id)), "\n"+strings.Repeat(" ", col-1), "\n") + "\n"
			toks := tokens(source)
			if len(toks) < 2 {
				continue
			}
			for range 1 + r.IntN(2) {
				i := r.IntN(len(toks))
				switch r.IntN(5) {
				case 0:
					toks[i] = ""
				case 1:
					toks[i] += " " + strings.TrimSpace(toks[i])
				case 2:
					j := r.IntN(len(toks))
					toks[i], toks[j] = toks[j], toks[i]
				case 3:
					toks[i] = " " + words[r.IntN(len(words))] + " "
				default:
					toks[i] += " " + words[r.IntN(len(words))] + " "
				}
			}
			out = append(out, strings.Join(toks, ""))
		}
	}
	return out
}

// tokens cuts a source into its tokens, each with the blanks before it.
func tokens(src string) []string {
	var l lexer
	l.src, l.eof, l.lineFrom, l.colonDepth, l.names = append([]byte(src), 0, 0, 0, 0), uint32(len(src)), 1, -1, newInterner(nil)
	l.indents, l.tabless = []int32{0}, []int32{0}
	var out []string
	last := uint32(0)
	for l.next(); l.tok != tEOF; l.next() {
		if l.tok == tFString {
			return nil // its text is no token
		}
		if l.end > last {
			out = append(out, src[last:l.end])
			last = l.end
		}
	}
	return append(out, src[last:])
}

// TestVerdictsCPython holds that this package and CPython agree on what is
// Python, and on its tree, for the sources in CPython's own tests and for
// statements of its library with a token changed.
func TestVerdictsCPython(t *testing.T) {
	python, version := python(t)
	files := stdlib(t, python)
	o := startOracle(t, python)
	srcs := snippets(t, files)
	t.Logf("%d snippets", len(srcs))
	srcs = append(srcs, mutants(t, files, rand.New(rand.NewPCG(3, 4)), 10_000)...)
	accepted, refused, tooNew := 0, 0, 0
	for _, src := range srcs {
		want, why := o.dump(t, fmt.Sprintf("=%x", src))
		f := Parse("x.py", []byte(src))
		switch {
		case why == "" && len(f.Errors) > 0:
			t.Errorf("CPython accepts, we say %v:\n%s", f.Errors[0], src)
		case why == "":
			accepted++
			if got := dump(f, bytes.HasPrefix(want, []byte("bare\n"))); !bytes.Equal(got, want) {
				t.Errorf("tree of\n%s\n%s", src, firstDifference(got, want))
			}
		case len(f.Errors) == 0 && newer(f, version, why):
			tooNew++
		case len(f.Errors) == 0:
			t.Errorf("CPython says %s, we accept:\n%s", why, src)
		default:
			refused++
		}
	}
	if len(srcs) < 10_000+1000 || accepted < 1000 || refused < 1000 {
		t.Errorf("only %d sources, %d accepted, %d refused", len(srcs), accepted, refused)
	}
	t.Logf("Python %s: %d sources accepted by both, %d refused by both, %d newer than it", version, accepted, refused, tooNew)
}

// refusals are what a CPython before the version says of syntax that came with
// it. In f-strings PEP 701 allowed what the older parser had to refuse.
var refusals = []struct {
	minor int
	says  string
}{
	{12, "f-string: "}, {12, "f-string expression part cannot include"},
	{14, "multiple exception types must be parenthesized"},
	{15, "iterable unpacking cannot be used in comprehension"},
	{15, "dict unpacking cannot be used in dict comprehension"},
}

// newer reports whether a source that CPython refuses has syntax newer than
// it: these are the only differences allowed.
func newer(f *File, version, why string) bool {
	var minor int
	fmt.Sscanf(version, "3.%d", &minor)
	for _, r := range refusals {
		if minor < r.minor && strings.Contains(why, r.says) {
			return true
		}
	}
	found := false
	Walk(f, f.Root, func(id ID) bool {
		switch n := f.Node(id); n.Kind {
		case TypeAlias, TypeVar, TypeVarTuple, ParamSpec:
			found = found || minor < 12
		case TemplateStr:
			found = found || minor < 14
		case Import, ImportFrom:
			found = found || minor < 15 && n.Flags&FLazy != 0
		case JoinedStr:
			found = found || minor < 12 // the same quotes again, see PEP 701
		}
		return true
	})
	return found
}
