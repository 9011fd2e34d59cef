package freeport

import (
	"fmt"
	"net"
	"sync"
	"testing"
)

// TestTake: nobody gets what another has or listens on, and what a test had is
// free when it has ended.
func TestTake(t *testing.T) {
	var mu sync.Mutex
	taken := map[int]int{}
	t.Run("held", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					port := Take(t)
					mu.Lock()
					taken[port]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for port, n := range taken {
			if n > 1 || port < lowest || port >= lowest+many {
				t.Errorf("port %d was given out %d times", port, n)
			}
			if l, err := net.Listen("unix", fmt.Sprint("@dewar-test-port-", port)); err == nil {
				l.Close()
				t.Errorf("another process may take %d", port)
			}
		}
		if len(taken) != 400 {
			t.Errorf("%d ports for 400 that asked", len(taken))
		}
	})
	for port := range taken {
		l, err := net.Listen("unix", fmt.Sprint("@dewar-test-port-", port))
		if err != nil {
			t.Fatalf("%d is kept after its test: %v", port, err)
		}
		l.Close()
	}
	port := Take(t)
	for _, p := range []int{port, port + many} {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", p))
		if err != nil {
			t.Fatal(err)
		}
		if free(port) {
			t.Errorf("%d is free while something listens on %d", port, p)
		}
		l.Close()
	}
}
