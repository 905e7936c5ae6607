// Package stack grows the stack of a goroutine before it is needed.
package stack

import "runtime"

// room is about what a request to the origin needs of a stack.
const room = 12 << 10

// Grow grows the stack of the calling goroutine at once. A new goroutine would
// double its stack several times and copy it each time, which is a tenth of
// what a revalidation costs.
//
//go:noinline
func Grow() {
	var needed [room]byte
	runtime.KeepAlive(&needed)
}
