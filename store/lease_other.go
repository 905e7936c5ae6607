//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly || windows)

package store

import "errors"

// There are no locks on parts of a file here: every lease is granted.

func lockRange(uintptr, int64, int64) (bool, error) { return false, errors.ErrUnsupported }

func unlockRange(uintptr, int64) {}

func lockedLength(uintptr, int64) (int64, error) { return 0, errors.ErrUnsupported }
