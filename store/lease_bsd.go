//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package store

import "golang.org/x/sys/unix"

// These commands are about locks that belong to the process: two Disks of one
// process do not exclude each other, and closing one ends the leases of the
// other. That costs requests, and nothing else.
const (
	setLock = unix.F_SETLK
	getLock = unix.F_GETLK
)
