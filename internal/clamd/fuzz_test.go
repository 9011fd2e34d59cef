package clamd

import (
	"strings"
	"testing"
)

// Only a reply that says so makes a file clean.
func FuzzVerdict(f *testing.F) {
	for _, s := range []string{"stream: OK", "stream: Win.Test FOUND", "INSTREAM size limit exceeded. ERROR", "stream:  FOUND", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, reply string) {
		sig, err := verdict(reply)
		if err == nil && sig == "" && strings.TrimSpace(strings.TrimPrefix(reply, "stream: ")) != "OK" {
			t.Fatalf("%q is clean", reply)
		}
	})
}
