package injection

import (
	"strings"
	"testing"
	"time"
)

func TestRunaway(t *testing.T) {
	tests := []struct {
		pattern string
		full    bool
		want    bool
	}{
		{`(a+)+$`, false, true},
		{`(a+)+`, false, false}, // nothing behind it can fail
		{`(a+)+`, true, true},
		{`^(\w+\s?)*$`, false, true},
		{`(\w+\s?)+`, true, true},
		{`^(\w+\s)*$`, false, false}, // the space ends each round
		{`^(a|a)*$`, false, true},
		{`^(a|ab)*$`, false, false},
		{`^(a|b|ab)*c`, false, true},
		{`^(?:a*)*b`, false, true},
		{`^(a*)*b`, false, true},
		{`^([a-zA-Z0-9])(([\-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+[.]{1}(([a-z]{2,3})|([a-z]{2,3}[.]{1}[a-z]{2,3}))$`, false, true},
		{`^[\w.+-]+@[\w-]+\.[\w.-]+$`, false, false},
		{`^(\d{1,3}\.){3}\d{1,3}$`, false, false},
		{`^(\d{1,3},?)+$`, false, true},
		{`^([a-z]+){10}$`, false, true},
		{`^([a-z]{1,63}\.)+[a-z]+$`, false, false},
		{`(.*a){20}`, true, true},
		{`^(?P<year>\d+)-(?P<month>\d+)$`, false, false},
		{`^(\b\w+\b)*$`, false, false}, // two words do not touch
		{`^((\w+)\b)*$`, false, false},
		{`^(a++)+$`, false, false}, // possessive
		{`(x+x+)+y`, false, true},
		{`^(?=(a+)+$)`, false, true},
		{`(?i)^(A|a)*$`, false, true},
		{`^(\[[^\]]*\])*$`, false, false},
		{`^"(\\.|[^"\\])*"$`, false, false},
		{`[`, false, false},
		{`(`, true, false},
		{`a{2,1}`, true, false},
		{`^(?P<q>['"]).*(?P=q)$`, false, false},
		{`\d+(?#count)\s*`, true, false},
		{`^[a-z0-9]+(?:-[a-z0-9]+)*$`, false, false},
	}
	for _, tt := range tests {
		if got := runaway(tt.pattern, tt.full); got != tt.want {
			t.Errorf("runaway(%q, %v) = %v", tt.pattern, tt.full, got)
		}
	}
}

// TestRunawayIsBounded: patterns made to blow up the analysis end quickly.
func TestRunawayIsBounded(t *testing.T) {
	start := time.Now()
	for _, p := range []string{
		strings.Repeat("(a|b|c)*", 50),
		strings.Repeat("(", 2000) + "a" + strings.Repeat(")*", 2000),
		strings.Repeat("(a?){9}", 40),
		"((((((a{9}){9}){9}){9}){9}){9})",
		strings.Repeat("a|", 2000),
		"(" + strings.Repeat("a*", 100) + ")*b",
	} {
		runaway(p, true)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
}

func FuzzRunaway(f *testing.F) {
	f.Add(`^(\w+\s?)*$`, false)
	f.Add(`(?P<q>['"])(?:(?!(?P=q)).)*\1{2,30}\u00e9[^]a]`, true)
	f.Fuzz(func(_ *testing.T, p string, full bool) {
		if len(p) < 300 {
			runaway(p, full)
		}
	})
}
