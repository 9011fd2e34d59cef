//go:build race

package rxset

// raced says that the race detector is on: sync.Pool then drops what it holds
// at random, so that allocations cannot be counted.
const raced = true
