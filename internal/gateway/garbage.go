package gateway

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// By default Go lets as much garbage stand as there are objects in use.
// Thousands of slow clients would count twice; beyond heapRoom, garbage is
// collected sooner. leastPercent bounds what that costs.
const (
	heapRoom     = 48 << 20
	leastPercent = 20
)

// boundGarbage keeps the heap's garbage below heapRoom, or a fifth of what is
// in use, as long as the process lives. It does nothing where $GOGC says how
// it shall be.
var boundGarbage = sync.OnceFunc(func() {
	if os.Getenv("GOGC") != "" {
		return
	}
	now := 100
	var arm func()
	arm = func() {
		// What nothing refers to is cleaned up with the next collection.
		type mark struct{ _ [16]byte }
		runtime.AddCleanup(new(mark), func(int) {
			if p := gcPercent(); p < now-4 || p > now+4 || p == 100 && now != 100 {
				now = p
				debug.SetGCPercent(p) // stops all goroutines for a moment: not for nothing
			}
			arm()
		}, 0)
	}
	arm()
})

// gcPercent returns the growth that what is in use now allows.
func gcPercent() int {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}}
	metrics.Read(s)
	live := uint64(1)
	for _, v := range s {
		if v.Value.Kind() == metrics.KindUint64 {
			live += v.Value.Uint64()
		}
	}
	return int(min(max(100*heapRoom/live, leastPercent), 100))
}
