//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package store

import (
	"io"

	"golang.org/x/sys/unix"
)

// lockRange takes an exclusive lock on bytes of a file without waiting. It
// reports false if another process has a lock on one of them.
func lockRange(fd uintptr, start, length int64) (bool, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: start, Len: length}
	err := fileLock(fd, setLock, &lock)
	if err == unix.EAGAIN || err == unix.EACCES {
		return false, nil
	}
	return err == nil, err
}

// unlockRange ends the lock that begins at start.
func unlockRange(fd uintptr, start int64) {
	fileLock(fd, setLock, &unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart, Start: start, Len: leaseWidth})
}

// lockedLength returns the length of the lock that another process has from
// start on, 0 if there is none.
func lockedLength(fd uintptr, start int64) (int64, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: start, Len: 1}
	err := fileLock(fd, getLock, &lock)
	if err != nil || lock.Type == unix.F_UNLCK {
		return 0, err
	}
	return lock.Len, nil
}

func fileLock(fd uintptr, command int, lock *unix.Flock_t) error {
	for {
		if err := unix.FcntlFlock(fd, command, lock); err != unix.EINTR {
			return err
		}
	}
}
