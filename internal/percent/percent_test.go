package percent_test

import (
	"encoding/hex"
	"testing"

	"github.com/dewar-security/dewar/internal/percent"
)

// TestAt holds every pair of bytes behind a % against encoding/hex.
func TestAt(t *testing.T) {
	for hi := range 256 {
		for lo := range 256 {
			s := "a%" + string([]byte{byte(hi), byte(lo)})
			want, err := hex.DecodeString(s[2:])
			got, ok := percent.At(s, 1)
			if ok != (err == nil) || ok && got != want[0] {
				t.Fatalf("%q: %#x, %v; encoding/hex says %x, %v", s, got, ok, want, err)
			}
		}
	}
	for _, s := range []string{"", "%", "%4", "4%4", "x41"} {
		for i := range len(s) + 1 {
			if c, ok := percent.At(s, i); ok {
				t.Errorf("%q at %d: %#x", s, i, c)
			}
		}
	}
}
