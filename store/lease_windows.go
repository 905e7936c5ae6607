package store

import (
	"golang.org/x/sys/windows"
)

// lockRange takes an exclusive lock on bytes of a file without waiting. It
// reports false if another process has a lock on one of them. Windows does not
// tell the length of another process's lock, and ends a lock only by its
// length. So all locks have the length 1.
func lockRange(fd uintptr, start, _ int64) (bool, error) {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err := windows.LockFileEx(windows.Handle(fd), flags, 0, 1, 0, overlappedAt(start))
	if err == windows.ERROR_LOCK_VIOLATION || err == windows.ERROR_IO_PENDING {
		return false, nil
	}
	return err == nil, err
}

// unlockRange ends the lock that begins at start.
func unlockRange(fd uintptr, start int64) {
	windows.UnlockFileEx(windows.Handle(fd), 0, 1, 0, overlappedAt(start))
}

// lockedLength returns 1 if another process has a lock at start, and else 0.
func lockedLength(fd uintptr, start int64) (int64, error) {
	free, err := lockRange(fd, start, 1)
	if err != nil || !free {
		return 1, err
	}
	unlockRange(fd, start)
	return 0, nil
}

func overlappedAt(at int64) *windows.Overlapped {
	return &windows.Overlapped{Offset: uint32(at), OffsetHigh: uint32(at >> 32)}
}
