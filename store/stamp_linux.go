package store

import (
	"math/rand/v2"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// noatime keeps a read from changing the use time.
const noatime = syscall.O_NOATIME

// stampFile sets the mtime and the use time of an open file to now. The
// nanoseconds below a microsecond are random: nobody can write a file twice
// within a microsecond. It returns the time, or 0 if it cannot be set. It asks
// the system for the time, because the clock of a testing/synctest bubble
// stands still.
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

// setUsed records that a file was used at t.
func (dir *shardDir) setUsed(name string, t int64) error {
	times := usedAt(t)
	err := retry(func() error { return unix.UtimesNanoAt(dir.fd, name, times[:], unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return dir.failed("utimensat", name, err)
	}
	return nil
}

// setOpenUsed records that an open file was used at t. It reports whether it
// could.
func setOpenUsed(fd int, t int64) bool {
	times := usedAt(t)
	_, _, err := syscall.Syscall6(syscall.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	return err == 0
}

func usedAt(t int64) [2]unix.Timespec {
	return [2]unix.Timespec{unix.NsecToTimespec(t), {Nsec: unix.UTIME_OMIT}}
}
