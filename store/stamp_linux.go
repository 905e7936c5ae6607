package store

import (
	"math/rand/v2"
	"syscall"
	"unsafe"
)

// noatime keeps a read from changing the use time.
const noatime = syscall.O_NOATIME

// stampFile sets the mtime and the use time of an open file to now. The nanoseconds below a microsecond
// are random: nobody can write a file twice within a microsecond. It returns the time,
// or 0 if it cannot be set. It asks the system for the time, because the clock of a
// testing/synctest bubble stands still.
func stampFile(fd int) int64 {
	var now syscall.Timeval
	if syscall.Gettimeofday(&now) != nil {
		return 0
	}
	mtime := now.Nano() + 1 + rand.Int64N(999) // never whole, so that a file system without nanoseconds is noticed
	times := [2]syscall.Timespec{syscall.NsecToTimespec(mtime), syscall.NsecToTimespec(mtime)}
	if _, _, err := syscall.Syscall6(syscall.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0); err != 0 {
		return 0
	}
	return mtime
}
