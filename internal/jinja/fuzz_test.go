package jinja

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkTree holds what every tree promises: spans lie in the source and in
// each other, siblings follow each other, nothing that must be there is nil,
// and nothing is nested deeper than the package comment says.
func checkTree(t *testing.T, tpl *Template) {
	t.Helper()
	in := func(what any, s, around Span) {
		if s.Start < around.Start || s.End > around.End || s.Start > s.End {
			t.Fatalf("%T at %v is not inside of %v", what, s, around)
		}
	}
	var expr func(e Expr, around Span, depth int)
	expr = func(e Expr, around Span, depth int) {
		in(e, e.At(), around)
		if depth > maxHeight {
			t.Fatalf("an expression is more than %d deep", maxHeight)
		}
		most := 0
		Operands(e, func(k Expr) {
			most = max(most, k.height())
			// A name that stands for a whole tag has no place of its own in a
			// Bad, and parentheses belong to no node.
			expr(k, around, depth+1)
		})
		if e.height() <= most {
			t.Fatalf("%T is %d high and has one below of %d", e, e.height(), most)
		}
	}
	required := func(n Node, es ...Expr) {
		for _, e := range es {
			if e == nil {
				t.Fatalf("%T at %v lacks an expression", n, n.At())
			}
		}
	}
	var nodes func(ns []Node, around Span, depth int)
	nodes = func(ns []Node, around Span, depth int) {
		if depth > maxNesting+1 && len(ns) > 0 {
			t.Fatalf("nodes are %d deep", depth)
		}
		at := around.Start
		for _, n := range ns {
			in(n, n.At(), Span{at, around.End})
			at = n.At().End
			switch n := n.(type) {
			case *Output:
				required(n, n.X)
			case *If:
				for _, b := range n.Branches {
					in(n, b.Span, n.Span)
					required(n, b.Test)
				}
			case *For:
				required(n, n.Target, n.Iter)
			case *Extends:
				required(n, n.Template)
			case *Include:
				required(n, n.Template)
			case *Import:
				required(n, n.Template)
			case *FromImport:
				required(n, n.Template)
			case *CallBlock:
				required(n, n.X)
			case *FilterBlock:
				required(n, n.X)
			case *Set:
				required(n, n.Target, n.X)
			case *SetBlock:
				required(n, n.Target)
			case *With:
				if len(n.Targets) != len(n.Values) {
					t.Fatal("a with has not as many values as targets")
				}
			case *Autoescape:
				required(n, n.X)
			case *Do:
				required(n, n.X)
			}
			Exprs(n, func(e Expr) { expr(e, n.At(), 1) })
			// The bodies of one node follow each other too.
			var kids []Node
			Kids(n, func(k Node) { kids = append(kids, k) })
			nodes(kids, n.At(), depth+1)
		}
	}
	nodes(tpl.Body, Span{0, len(tpl.Source)}, 1)
	for i, e := range tpl.Errors {
		in(e, e.Span, Span{0, len(tpl.Source)})
		if line, _ := tpl.Line(e.Start); line != e.Line || e.Message == "" {
			t.Fatalf("error %d: %+v is on line %d", i, e, line)
		}
	}
}

// checkCover holds that nothing of the source is lost: every byte that is no
// white space lies in a node, or an error is about it.
func checkCover(t *testing.T, tpl *Template) {
	t.Helper()
	if len(tpl.Errors) == maxErrors {
		return // the others are not told
	}
	gap := func(from, to int) {
		if strings.TrimFunc(tpl.Source[from:to], isSpace) == "" {
			return
		}
		for _, e := range tpl.Errors {
			if e.Start < to && e.End > from {
				return
			}
		}
		t.Fatalf("%q belongs to nothing", tpl.Source[from:to])
	}
	end := 0
	for _, n := range tpl.Body {
		gap(end, n.At().Start)
		end = n.At().End
	}
	gap(end, len(tpl.Source))
}

func FuzzParse(f *testing.F) {
	for _, c := range syntaxCases() {
		f.Add(c)
	}
	for _, c := range []string{
		"{% for a in b %}<p {% if a %}title='{% else %}>{% endif %}{{ x }}{% endfor %}",
		"<script>{{ a }}</script><svg><style>{{ b }}", "{{ a\n}", "{% macro m() %}<a href={{ m() }}",
	} {
		f.Add(c)
	}
	paths, err := filepath.Glob("../../examples/*/*/templates/*.html")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no templates to begin with: %v", err)
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, src string) {
		tpl := Parse("t.html", []byte(src))
		checkTree(t, tpl)
		checkCover(t, tpl)
		flow := Contexts(tpl.Body, Start(tpl.Path))
		for o, cs := range flow.Outputs {
			if len(cs) == 0 || len(cs) > maxAlternatives {
				t.Fatalf("the output at %v has %d contexts", o.Span, len(cs))
			}
			for _, c := range cs {
				_ = c.String()
			}
		}
		if end := flow.End; Join(end, end) != end || Join(end, State{}) != Join(State{}, end) {
			t.Fatalf("joining %v with itself or with text", end)
		}
	})
}

// TestTreesOfSyntax holds the promises of a tree where the fuzzer begins.
func TestTreesOfSyntax(t *testing.T) {
	cases := syntaxCases()
	for _, c := range cases {
		// Cut off anywhere.
		for i := 0; i <= len(c); i++ {
			tpl := Parse("t.html", []byte(c[:i]))
			checkTree(t, tpl)
			checkCover(t, tpl)
		}
	}
	all := Parse("t.html", []byte(strings.Join(cases, "\n")))
	checkTree(t, all)
}

// TestHostile reads what is made to take long or to nest deep. That it ends
// is the test: each takes seconds where reading is not linear, and a stack
// overflow cannot be caught.
func TestHostile(t *testing.T) {
	const n = 100_000
	for name, src := range map[string]string{
		"brackets":        "{{ " + strings.Repeat("(", n) + " }}",
		"lists":           "{{ " + strings.Repeat("[", n) + strings.Repeat("]", n) + " }}",
		"dicts":           "{{ " + strings.Repeat("{1:", n) + " }}",
		"not":             "{{ " + strings.Repeat("not ", n) + "a }}",
		"minus":           "{{ " + strings.Repeat("-", n) + "a }}",
		"attributes":      "{{ a" + strings.Repeat(".b", n) + " }}",
		"calls":           "{{ a" + strings.Repeat("()", n) + " }}",
		"filters":         "{{ a" + strings.Repeat("|b", n) + " }}",
		"tests":           "{{ a" + strings.Repeat(" is b", n) + " }}",
		"sums":            "{{ a" + strings.Repeat("+b", n) + " }}",
		"compared":        "{{ a" + strings.Repeat("<b", n) + " }}",
		"ifs":             "{{ a" + strings.Repeat(" if b else c", n) + " }}",
		"if":              strings.Repeat("{% if a %}", n),
		"if closed":       strings.Repeat("{% if a %}", n) + strings.Repeat("{% else %}{% endif %}", n),
		"elif":            "{% if a %}" + strings.Repeat("{% elif a %}", n) + "{% endif %}",
		"for":             strings.Repeat("{% for a in b %}<p a='", n/5),
		"for closed":      strings.Repeat("{% for a in b %}<p a='", n/10) + strings.Repeat("{% endfor %}", n/10),
		"end":             strings.Repeat("{% if a %}", n) + strings.Repeat("{% endfor %}", n),
		"crossed":         strings.Repeat("{% if a %}{% for a in b %}{% endif %}", n),
		"unknown":         strings.Repeat("{% a %}", n) + "{% enda %}",
		"unknown else":    strings.Repeat("{% a %}{% else %}", n) + "{% enda %}",
		"outputs":         strings.Repeat("{{", n),
		"strings":         strings.Repeat("{{'", n),
		"mixed strings":   strings.Repeat("{{'{{\"", n),
		"escapes":         strings.Repeat("{{'\\", n),
		"tags":            strings.Repeat("{%", n),
		"comments":        strings.Repeat("{# ", n),
		"raw":             strings.Repeat("{% raw %}", n),
		"raw ends":        "{% raw %}" + strings.Repeat("{% endraw ", n),
		"bad":             "{{ " + strings.Repeat("a(", n) + " $ }}",
		"blocks":          strings.Repeat("{% block a %}", n),
		"macros":          strings.Repeat("{% macro a() %}{{ a() }}", n/10),
		"states":          strings.Repeat("{% if a %}<a href='b{% else %}c\"{% endif %}", n/20),
		"attribute":       "<p a='" + strings.Repeat("&amp;&", n) + "{{ b }}",
		"name":            "<" + strings.Repeat("a", n) + " " + strings.Repeat("b", n) + "='{{ b }}",
		"template string": "<script>`" + strings.Repeat("${{", n) + "{{ b }}",
		"svg":             strings.Repeat("<svg><desc>", n) + "{{ b }}",
		"markup":          strings.Repeat("<!", n) + "{{ b }}",
	} {
		t.Run(name, func(t *testing.T) {
			tpl := Parse("t.html", []byte(src))
			checkTree(t, tpl)
			flow := Contexts(tpl.Body, Start(tpl.Path))
			if len(tpl.Errors) > maxErrors {
				t.Errorf("%d errors", len(tpl.Errors))
			}
			_ = flow
		})
	}
}

// TestRecovery holds that what is wrong in one place does not hide what is in
// another.
func TestRecovery(t *testing.T) {
	for _, c := range []struct {
		src     string
		errors  int
		outputs int // of x
	}{
		{"{{ a b }}{{ x }}", 1, 1},
		{"{{ f(a }}{{ x }}", 1, 1},
		{"{{ 'a }}{{ x }}", 1, 1},
		{"{{ a {{ x }}", 1, 1},
		{"{% if a {{ x }}{% endif %}", 2, 1},
		{"{% if %}{{ x }}{% endif %}{{ x }}", 1, 2},
		{"{% if a %}{% for b in c %}{{ x }}{% endif %}{{ x }}", 1, 2},
		{"{% endif %}{{ x }}", 1, 1},
		{"{# a {{ x }}", 1, 1},
		{"{% raw %}{{ x }}", 1, 1},
		{"{% for in b %}{{ x }}{% endfor %}{{ x }}", 1, 2},
		{"{% frob a, b=c %}{{ x }}{% endfrob %}{% frob d %}{{ x }}", 0, 2},
		{"{% if a %}{% frob %}{% else %}{{ x }}{% endif %}", 0, 1},
		{"{% ifequal a b %}{{ x }}{% else %}{{ x }}{% endifequal %}", 0, 2},
		{"{% set a %}{{ x }}{% endset %}{% set a + %}{{ x }}", 1, 2},
	} {
		tpl := Parse("t.html", []byte(c.src))
		outputs := 0
		Walk(tpl.Body, func(n Node) bool {
			if o, ok := n.(*Output); ok {
				if name, ok := o.X.(*Name); ok && name.Name == "x" {
					outputs++
				}
			}
			return true
		})
		if len(tpl.Errors) != c.errors || outputs != c.outputs {
			t.Errorf("%s: %d outputs of x and errors %v, want %d and %d", c.src, outputs, tpl.Errors, c.outputs, c.errors)
		}
	}
	// What is left of an expression is there.
	tpl := Parse("t.html", []byte("{{ a|safe $ b.c( }}"))
	bad, ok := tpl.Body[0].(*Output).X.(*Bad)
	if !ok || len(bad.Parts) != 2 {
		t.Fatalf("got %#v", tpl.Body[0].(*Output).X)
	}
	if f, ok := bad.Parts[0].(*Filter); !ok || f.Name != "safe" {
		t.Errorf("got %#v", bad.Parts[0])
	}
}

func TestLine(t *testing.T) {
	tpl := Parse("t.html", []byte("a\nb\r\n{{ c\n.d }}\re"))
	for _, c := range [][3]int{{0, 1, 1}, {1, 1, 2}, {2, 2, 1}, {5, 3, 1}, {10, 4, 1}, {16, 5, 1}, {99, 5, 2}, {-1, 1, 1}} {
		if line, column := tpl.Line(c[0]); line != c[1] || column != c[2] {
			t.Errorf("offset %d is at %d:%d, want %d:%d", c[0], line, column, c[1], c[2])
		}
	}
}

func benchmarkSource(b *testing.B) []byte {
	paths, err := filepath.Glob("../../examples/*/*/templates/*.html")
	if err != nil || len(paths) == 0 {
		b.Fatalf("no templates: %v", err)
	}
	var src []byte
	for _, p := range paths {
		t, err := os.ReadFile(p)
		if err != nil {
			b.Fatal(err)
		}
		src = append(src, t...)
	}
	return src
}

func BenchmarkParse(b *testing.B) {
	src := benchmarkSource(b)
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		Parse("t.html", src)
	}
}

func BenchmarkContexts(b *testing.B) {
	src := benchmarkSource(b)
	tpl := Parse("t.html", src)
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		Contexts(tpl.Body, State{})
	}
}
