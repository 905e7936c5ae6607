// Package stack grows the stack of a goroutine before it is needed.
package stack

import "runtime"

// room is about what a request to the origin needs of a stack.
const room = 12 << 10

// Grow grows the stack of the calling goroutine at once. Otherwise a new
// goroutine doubles its stack several times and copies it each time, which is a
// tenth of the cost of a revalidation.
//
//go:noinline
func Grow() {
	var needed [room]byte
	runtime.KeepAlive(&needed)
}
