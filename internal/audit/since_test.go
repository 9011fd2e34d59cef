package audit

import (
	"bytes"
	"fmt"
	"testing"
)

func TestChangedLines(t *testing.T) {
	for _, c := range []struct{ was, now, want string }{
		{"a\nb\nc\n", "a\nb\nc\n", "[]"},
		{"a\nb\nc\n", "a\nX\nc\n", "[[2 2]]"},
		{"a\nb\nc\n", "a\nb\nX\nY\nc\n", "[[3 4]]"},
		{"a\nguard\nc\nd\n", "a\nc\nd\n", "[[1 2]]"}, // the lines beside a deleted one
		{"a\nb\nc\nd\ne\n", "X\na\nb\nc\nd\nY\n", "[[1 1] [6 6]]"},
		{"a\r\nb\r\n", "a\nb\n", "[]"},
		{"a\nb", "a\nb\nc", "[[2 3]]"},
	} {
		if got := fmt.Sprint(changedLines([]byte(c.was), []byte(c.now))); got != c.want {
			t.Errorf("%q to %q: %s, want %s", c.was, c.now, got, c.want)
		}
	}
}

// FuzzChangedLines: a line that was nowhere before is always a changed one.
func FuzzChangedLines(f *testing.F) {
	f.Add([]byte("a\nb\n"), []byte("b\nc"))
	f.Fuzz(func(t *testing.T, was, now []byte) {
		plain := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")) }
		in := map[string]bool{}
		for l := range bytes.Lines(plain(was)) {
			in[string(l)] = true
		}
		changed := changedLines(was, now)
		n := 0
		for l := range bytes.Lines(plain(now)) {
			n++
			hit := in[string(l)]
			for _, c := range changed {
				hit = hit || c[0] <= n && n <= c[1]
			}
			if !hit {
				t.Fatalf("line %d, %q, is new and not in %v", n, l, changed)
			}
		}
	})
}
