//go:build !windows

package store

import "syscall"

func systemCause(syscall.Errno) (c Cause, ok bool) { return CauseOther, false }
