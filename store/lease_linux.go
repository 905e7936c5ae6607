package store

import "golang.org/x/sys/unix"

// These commands are about locks that belong to an open file: two Disks of one
// process exclude each other, and closing one does not end the leases of the
// other.
const (
	setLock = unix.F_OFD_SETLK
	getLock = unix.F_OFD_GETLK
)
