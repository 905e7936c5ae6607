package store

import (
	"errors"
	"io/fs"
	"syscall"
)

// Cause is the reason of a store's failure, as far as the operator of the
// program can act on it.
type Cause int

const (
	CauseOther       Cause = iota // none of the others
	CauseFull                     // no space is left, or the quota is used up
	CauseDenied                   // read-only, or not permitted
	CauseVanished                 // something was removed while it was in use, such as the directory
	CauseDescriptors              // too many files are open
	CauseObstructed               // something else stands in the place of a file or directory of the store
	CauseTooLarge                 // a file would become larger than the system allows
	CauseLocked                   // another process holds a lock and makes no progress, perhaps because it is stopped

	// Causes is the number of causes. They are the numbers below it.
	Causes int = iota
)

// String names the cause in a few words.
func (c Cause) String() string {
	if c < 0 || int(c) >= Causes {
		c = CauseOther
	}
	return [...]string{"other", "disk full", "not permitted", "vanished", "too many open files", "obstructed", "file too large", "locked"}[c]
}

// CauseOf returns the cause of an error of a [Store].
func CauseOf(err error) Cause {
	var number syscall.Errno
	if errors.As(err, &number) {
		if c, ok := systemCause(number); ok {
			return c
		}
	}
	switch {
	case errors.Is(err, errLocked):
		return CauseLocked
	case errors.Is(err, fs.ErrPermission):
		return CauseDenied
	case errors.Is(err, fs.ErrNotExist):
		return CauseVanished
	case errors.Is(err, fs.ErrExist):
		return CauseObstructed
	case errors.Is(err, ErrTooLarge):
		return CauseTooLarge
	}
	switch number {
	case syscall.ENOSPC, syscall.EDQUOT:
		return CauseFull
	case syscall.EROFS:
		return CauseDenied
	case syscall.ESTALE, syscall.ENODEV, syscall.ENXIO:
		return CauseVanished
	case syscall.EMFILE, syscall.ENFILE:
		return CauseDescriptors
	case syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP:
		return CauseObstructed
	case syscall.EFBIG:
		return CauseTooLarge
	}
	return CauseOther
}
