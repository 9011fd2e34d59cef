package rxset

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/corazawaf/coraza/v3"
)

// TestCoraza holds Rx and PM against the operators of Coraza itself, most of
// all its choice between text and bytes.
func TestCoraza(t *testing.T) {
	rx := []string{
		`^foo$`, `a.b`, `é`, `(?i)É`, `[à-ÿ]`, `\x{e9}`, `\xe9`, `\xc3\xa9`, `\x{c3}\x{a9}`, `\x{fffd}`, `\x{200b}`, `\\xe9`, `\xe9\\x`,
		`\x41`, `[\x80-\xff]`, `[^\x00-\x7f]`, `[\x{80}-\x{ff}]`, `\pL\xff`, `.\xe2\x80.`, `^\xff$`, `(?i)\xe9`, `x\x7f$`, `\bk\b`, `(?i)\bk\b`,
		`\x{1F600}`, `[^é]`, `\W{3}`, `a$\n^b`,
	}
	pm := []string{"foo bar", "É", "ſ k", "İx", "a\xffb zz", "x$(", "Ünion select"}
	var patterns []Pattern
	var rules strings.Builder
	for _, expr := range rx {
		patterns = append(patterns, Pattern{Expr: expr})
	}
	for _, arg := range pm {
		patterns = append(patterns, PM(arg))
	}
	rules.WriteString("SecRuleEngine DetectionOnly\n")
	for i := range patterns {
		op := "@rx " + "%s"
		arg := ""
		if i < len(rx) {
			arg = rx[i]
		} else {
			op, arg = "@pm %s", pm[i-len(rx)]
		}
		fmt.Fprintf(&rules, "SecRule ARGS:v \""+op+"\" \"id:%d,phase:1,pass,nolog\"\n", arg, i+1)
	}
	waf, err := coraza.NewWAF(coraza.NewWAFConfig().WithDirectives(rules.String()))
	if err != nil {
		t.Fatal(err)
	}
	s, _ := compile(t, patterns)
	r := rand.New(rand.NewPCG(61, 62))
	all := append([]string{"", "foo", "x\nfoo", "Foo Bar", "a\nb", "k", "K", "\u212a", "é", "É", "e\u0301", "\xe9", "\xc3", "x\x7f", "😀", "\u200b"}, odd...)
	for range 300 {
		v := ""
		for range 1 + r.IntN(5) {
			v += all[r.IntN(len(all))]
		}
		all = append(all, v)
	}
	for _, p := range patterns {
		all = append(all, values(t, r, p, 3)...)
	}
	hits := 0
	for _, v := range all {
		tx := waf.NewTransaction()
		tx.AddGetRequestArgument("v", v)
		tx.ProcessRequestHeaders()
		want := s.NewBits()
		for _, m := range tx.MatchedRules() {
			want.Set(m.Rule().ID() - 1)
			hits++
		}
		if err := tx.Close(); err != nil {
			t.Fatal(err)
		}
		got := s.NewBits()
		s.Match(v, nil, got)
		for i := range patterns {
			if got.Has(i) != want.Has(i) {
				t.Errorf("pattern %d %q on %q: %v, Coraza %v", i, append(rx, pm...)[i], v, got.Has(i), want.Has(i))
			}
		}
	}
	if hits < 1000 {
		t.Errorf("only %d matches in %d values", hits, len(all))
	}
}
