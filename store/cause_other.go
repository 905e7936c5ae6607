//go:build !windows

package store

import "syscall"

// errNotDir says that a path has something else in the place of a directory.
const errNotDir = syscall.ENOTDIR

func systemCause(syscall.Errno) (c Cause, ok bool) { return CauseOther, false }

// isBusy reports false: an open file can be replaced and removed.
func isBusy(error) bool { return false }
