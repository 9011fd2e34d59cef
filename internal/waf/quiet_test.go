package waf

import (
	"strings"
	"sync"
	"testing"

	"github.com/dewar-security/dewar/internal/payload"
)

// TestQuiet asks the memory the same things again and again, from several
// goroutines: it says what the judges say, for each place and set of kinds.
func TestQuiet(t *testing.T) {
	var q quiet
	texts := []string{"a quiet value", "1' union select a from b-- ", "\nA7 LOGOUT\n", "line one\nQUIT\n", "/static/..;/admin", "plain-old-slug", "{{7*7}} and so on", strings.Repeat("long ", 200), "short", "<b>bold text</b>", "QUIT and more"}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				for _, text := range texts {
					for _, place := range []payload.Place{payload.Text, payload.Segment, payload.Field} {
						for _, kinds := range []payload.Kinds{payload.All, payload.KindsOf(payload.HTML), fieldKinds} {
							got, want := q.judge(text, place, kinds), payload.JudgeKinds(text, place, kinds)
							if len(got) != len(want) {
								t.Errorf("%q in place %d: %v, want %v", text, place, got, want)
								return
							}
						}
					}
				}
			}
		})
	}
	wg.Wait()
}
