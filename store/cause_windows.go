package store

import "syscall"

// systemCause knows the error numbers of Windows. Package syscall has other
// values, which Windows never returns.
func systemCause(number syscall.Errno) (c Cause, ok bool) {
	switch number {
	case 39, 112, 1295: // ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL, ERROR_DISK_QUOTA_EXCEEDED
		return CauseFull, true
	case 19: // ERROR_WRITE_PROTECT
		return CauseDenied, true
	case 4: // ERROR_TOO_MANY_OPEN_FILES
		return CauseDescriptors, true
	case 32, 33, 267: // ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION, ERROR_DIRECTORY
		return CauseObstructed, true
	case 223: // ERROR_FILE_TOO_LARGE
		return CauseTooLarge, true
	}
	return CauseOther, false
}
