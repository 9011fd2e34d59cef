package audit

import (
	"context"
	"crypto/sha256"
	"slices"
	"testing"
	"time"
)

// FuzzCacheEntry: whatever an entry holds, it is refused or fits the tree.
func FuzzCacheEntry(f *testing.F) {
	root := f.TempDir()
	tree, err := Open(context.Background(), root, Options{})
	if err != nil {
		f.Fatal(err)
	}
	rules := []*Rule{{ID: "DW-TEST-001", Confidence: Likely}}
	key := sha256.Sum256([]byte("key"))
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	l := look(context.Background(), InMemory(nil), rules, &Options{})
	l.findings = []Finding{{Rule: rules[0], Span: Span{File: "a.py", Line: 1}, Message: "m", Suppressed: &Suppression{Kind: "dewar"}}}
	l.holds = []suppressionEnd{{Until: now}}
	good, err := encodeLooked(l, key, now)
	if err != nil {
		f.Fatal(err)
	}
	if _, _, err := decodeLooked(good, key, tree, rules, now); err != nil {
		f.Fatal(err)
	}
	head := len(cacheFormat) + 2*sha256.Size
	f.Add(good[head:])
	f.Add([]byte(`{"Findings":[{"ID":"DW-TEST-001","Edits":[{"Start":-1}]}],"Outcomes":[{"ID":"DW-TEST-001","Outcome":"pass"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		sum := sha256.Sum256(text)
		l, _, err := decodeLooked(slices.Concat([]byte(cacheFormat), key[:], sum[:], text), key, tree, rules, now)
		if err != nil {
			return
		}
		for i := range l.findings {
			if l.findings[i].Rule != rules[0] || !l.findings[i].sane(tree) {
				t.Errorf("%+v", l.findings[i])
			}
		}
		l.result(&Options{})
	})
}
