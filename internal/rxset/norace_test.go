//go:build !race

package rxset

const raced = false
