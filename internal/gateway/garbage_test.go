package gateway

import (
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// TestGarbageIsBounded: with much in use, garbage is collected sooner, and as
// usual when that is gone.
func TestGarbageIsBounded(t *testing.T) {
	if os.Getenv("GOGC") != "" {
		t.Skip("$GOGC says how it shall be")
	}
	boundGarbage()
	percent := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	until := func(ok func(int) bool) int {
		p := 0
		for range 200 {
			runtime.GC()
			if p = percent(); ok(p) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		return p
	}
	hold := make([]byte, 200<<20)
	for i := range hold {
		if i%4096 == 0 {
			hold[i] = 1
		}
	}
	if p := until(func(p int) bool { return p < 30 }); p < leastPercent || p >= 30 {
		t.Errorf("GOGC %d with 200 MiB in use", p)
	}
	runtime.KeepAlive(hold)
	hold = nil
	if p := until(func(p int) bool { return p > 60 }); p <= 60 {
		t.Errorf("GOGC %d with next to nothing in use", p)
	}
}
