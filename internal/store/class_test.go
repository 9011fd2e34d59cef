package store

import (
	"math"
	"testing"
)

// TestClass: windows of any length fit the bits they have in the tag, and
// come back to within a sixteenth.
func TestClass(t *testing.T) {
	last := uint64(0)
	for w := int64(1); w > 0 && w < math.MaxInt64/2; w += w/7 + 1 {
		c := class(w)
		if c == 0 || c >= 1<<classBits {
			t.Fatalf("class(%d) = %d does not fit", w, c)
		}
		if c < last {
			t.Fatalf("class(%d) = %d is less than that of a shorter window", w, c)
		}
		last = c
		if back := window(c); back > float64(w) || back < float64(w)/(1+1./16)-1e-9 {
			t.Fatalf("class(%d) = %d stands for %g", w, c, back)
		}
	}
	if class(math.MaxInt64) >= 1<<classBits {
		t.Error("the longest window does not fit")
	}
}
