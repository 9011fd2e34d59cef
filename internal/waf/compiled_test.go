package waf

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// outcome is what must be the same whoever judges. Coraza keeps headers and
// arguments in maps, so that which of several values it names for a match, and
// what of them it quotes, is left to chance.
func outcome(v Verdict) string {
	var b strings.Builder
	fmt.Fprintf(&b, "denied %v %d %q rule %d score %d of %d partial %v:", v.Denied, v.Status, v.Reason, v.RuleID, v.Score, v.Threshold, v.Partial)
	for _, m := range v.Matches {
		fmt.Fprintf(&b, " %d(%s)", m.ID, m.Severity)
	}
	return b.String()
}

// both judges a request by the compiled rules and by Coraza. why is not empty
// if the compiled rules leave it to Coraza.
func both(t testing.TB, e *Engine, r Request) (compiled, reference Verdict, why string) {
	t.Helper()
	var raw []byte
	if r.Body != nil {
		var err error
		if raw, err = io.ReadAll(r.Body); err != nil {
			t.Fatal(err)
		}
	}
	read := func() (body, bool) {
		if raw == nil {
			return body{}, true
		}
		r.Body = strings.NewReader(string(raw))
		b, err := e.readBody(r)
		if err != nil {
			t.Fatal(err)
		}
		return b, b.denied == ""
	}
	b, ok := read()
	if !ok {
		return Verdict{}, Verdict{}, "refused before the rules"
	}
	v := Verdict{Threshold: e.cfg.InboundThreshold, Partial: b.partial}
	compiled, why = e.inspectCompiled(r, b, v)
	if why != "" {
		return compiled, Verdict{}, why
	}
	want := outcome(compiled)
	for range 8 {
		var err error
		if reference, err = e.inspectReference(r, b, v); err != nil {
			t.Fatal(err)
		}
		if outcome(reference) == want {
			break
		}
	}
	return compiled, reference, ""
}

var _ = context.Background

func TestCompiledRulesAgree(t *testing.T) {
	for level := 1; level <= 4; level++ {
		e, err := New(Config{Paranoia: level})
		if err != nil {
			t.Fatal(err)
		}
		if e.gap != "" {
			t.Fatal(e.gap)
		}
		unsure := map[string]int{}
		check := func(name string, r Request) {
			c, ref, why := both(t, e, r)
			if why != "" {
				unsure[why]++
				return
			}
			if got, want := outcome(c), outcome(ref); got != want {
				t.Errorf("level %d, %s:\n  compiled %s\n  coraza   %s", level, name, got, want)
			}
		}
		for _, a := range attacks {
			check(a.name, a.request(t))
		}
		for _, h := range honests {
			check(h.name, h.request(t))
		}
		t.Log(level, unsure)
		e.Close()
	}
}

var _ = slices.Contains[[]int]
