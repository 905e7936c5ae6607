package store

import (
	"math/rand/v2"
	"syscall"
	"unsafe"
)

// noatime keeps reading from counting as use.
const noatime = syscall.O_NOATIME

// stampFile sets when an open file was changed to now, to a fraction of a microsecond that is made up: nobody can
// write a file twice within one. It returns the time, or 0 if that is not possible. The clock is the system's: that
// of a testing/synctest bubble stands still.
func stampFile(fd int) int64 {
	var now syscall.Timeval
	if syscall.Gettimeofday(&now) != nil {
		return 0
	}
	const omit = 1<<30 - 2
	mtime := now.Nano() + 1 + rand.Int64N(999) // a file system that counts microseconds shows
	times := [2]syscall.Timespec{{Nsec: omit}, syscall.NsecToTimespec(mtime)}
	if _, _, err := syscall.Syscall6(syscall.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0); err != 0 {
		return 0
	}
	return mtime
}
