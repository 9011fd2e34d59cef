package pyflow_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/pyflow"
)

// program writes a program of functions that call one another and write to
// objects which they share, such as remembering a call goes wrong on.
func program(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString("import t\napp = t.App()\nclass Box:\n    x = 'c'\n    y = None\nG = Box()\nH = Box()\nL = []\n")
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	funcs, callable := 2+r.IntN(4), 0
	expr := func(vars []string) string {
		v := vars[r.IntN(len(vars))]
		switch r.IntN(9) {
		case 0:
			return "t.source()"
		case 1:
			return "t.args['a']"
		case 2:
			return pick("'k'", "'q'", "''")
		case 3:
			return pick("G.x", "H.x", "G.y", "L[0]")
		case 4:
			return v + ".x"
		case 5:
			return v + ".y"
		case 6:
			if callable == 0 {
				return v
			}
			return fmt.Sprintf("f%d(%s, %s)", r.IntN(callable), v, vars[r.IntN(len(vars))])
		case 7:
			return "Box()"
		}
		return v
	}
	var block func(vars []string, depth int, in string) []string
	block = func(vars []string, depth int, in string) []string {
		for range 1 + r.IntN(4) {
			v := vars[r.IntN(len(vars))]
			e := expr(vars)
			switch r.IntN(10) {
			case 0, 1:
				fmt.Fprintf(&b, "%s%s.%s = %s\n", in, pick(v, "G", "H"), pick("x", "y"), e)
			case 2, 3:
				n := fmt.Sprintf("v%d", r.IntN(4))
				fmt.Fprintf(&b, "%s%s = %s\n", in, n, e)
				if !slices.Contains(vars, n) && depth == 0 {
					vars = append(vars, n)
				}
			case 4, 5:
				fmt.Fprintf(&b, "%st.sink(%s)\n", in, e)
			case 6:
				fmt.Fprintf(&b, "%sL.append(%s)\n", in, e)
			case 7:
				if depth < 2 {
					fmt.Fprintf(&b, "%sif %s:\n", in, pick("t.any()", v+".x == 'k'", "t.args['a'] in ('k', 'q')", v+" == "+e))
					block(slices.Clone(vars), depth+1, in+"    ")
					if r.IntN(2) == 0 {
						fmt.Fprintf(&b, "%selse:\n", in)
						block(slices.Clone(vars), depth+1, in+"    ")
					}
				}
			case 8:
				if depth < 2 {
					fmt.Fprintf(&b, "%sfor i in t.any():\n", in)
					block(slices.Clone(vars), depth+1, in+"    ")
				}
			case 9:
				if depth > 0 {
					fmt.Fprintf(&b, "%sreturn %s\n", in, e)
					return vars
				}
			}
		}
		fmt.Fprintf(&b, "%spass\n", in)
		return vars
	}
	for i := range funcs {
		callable = i // a recursion is cut somewhere, and not always at the same place
		fmt.Fprintf(&b, "def f%d(a, b):\n", i)
		vars := block([]string{"a", "b"}, 0, "    ")
		fmt.Fprintf(&b, "    return %s\n", vars[r.IntN(len(vars))])
	}
	callable = funcs
	for i := range 2 + r.IntN(2) {
		fmt.Fprintf(&b, "@app.route('/%d')\ndef view%d():\n    o = Box()\n    p = %s\n", i, i, pick("Box()", "o", "G"))
		block([]string{"o", "p"}, 0, "    ")
		block([]string{"o", "p"}, 0, "    ")
		fmt.Fprintf(&b, "    f%d(o, p)\n    return ''\n", r.IntN(funcs))
	}
	return b.String()
}

// TestRememberedPrograms is [TestRememberedCalls] on programs made up.
func TestRememberedPrograms(t *testing.T) {
	n := uint64(600)
	if testing.Short() {
		n = 100
	}
	compared := uint64(0)
	for seed := range n {
		src := program(rand.New(rand.NewPCG(seed, 7)))
		files := map[string]string{"case.py": src}
		var each pyflow.Config
		each.Forget()
		a := runSources(t, files, each)
		b := runSources(t, files, pyflow.Config{})
		if len(a.GaveUp)+len(b.GaveUp) > 0 {
			continue
		}
		compared++
		have := sinkPlaces(b, []byte(src))
		for _, l := range sinkPlaces(a, []byte(src)) {
			if !slices.Contains(have, l) {
				t.Errorf("seed %d: nothing arrives at line %s any more\n%s", seed, l, src)
			}
		}
		if t.Failed() {
			return
		}
	}
	if compared < n/2 {
		t.Errorf("only %d of %d programs were run to their end", compared, n)
	}
}
