// Package freeport gives tests the numbers of ports for programs that cannot
// be handed a socket.
//
// A port that the kernel gave out and that was closed again may be given to
// somebody else before the program under test listens on it: to a test server
// of another package, to a connection. The numbers given here are below those
// that the kernel gives out by itself, and no two tests of the machine have
// the same at once, whatever process they run in.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// lowest is the first number given out, and many how many there are. The
// kernel's own begin at 32768; the bus of a Redis Cluster is 10,000 above a
// server's port, so that they stay below that with it.
const lowest, many = 10000, 10000

// Take returns a port of the loopback interface on which nothing listens, in
// TCP, in UDP, and in TCP 10,000 above it. It is the caller's until the test
// ends.
func Take(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := lowest + rand.N(many)
		// An abstract socket is a lock that ends with its process.
		lock, err := net.Listen("unix", fmt.Sprint("@dewar-test-port-", port))
		if err != nil {
			continue
		}
		if free(port) {
			t.Cleanup(func() { lock.Close() })
			return port
		}
		lock.Close()
	}
	t.Fatal("no free port")
	return 0
}

func free(port int) bool {
	for _, p := range []int{port, port + many} {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", p))
		if err != nil {
			return false
		}
		l.Close()
	}
	u, err := net.ListenPacket("udp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		return false
	}
	u.Close()
	return true
}
