package store

import "syscall"

// errNotDir says that a path has something else in the place of a directory.
// The ENOTDIR of package syscall is another number here: that of a missing
// directory.
const errNotDir = syscall.Errno(267) // ERROR_DIRECTORY

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
	case 32, 33, errNotDir: // ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION
		return CauseObstructed, true
	case 223: // ERROR_FILE_TOO_LARGE
		return CauseTooLarge, true
	}
	return CauseOther, false
}

// isBusy reports whether err may go away when another program closes a file.
// The file can be neither replaced nor removed until then.
func isBusy(err error) bool {
	switch errno(err) {
	case 5, 32, 33, 303, 1224: // ERROR_ACCESS_DENIED, _SHARING_VIOLATION, _LOCK_VIOLATION, _DELETE_PENDING, _USER_MAPPED_FILE
		return true
	}
	return false
}
