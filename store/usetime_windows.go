package store

import (
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// nofollow opens a symbolic link itself, and not the file that it leads to.
const nofollow = windows.FILE_FLAG_OPEN_REPARSE_POINT

func useTime(fi os.FileInfo) int64 {
	if d, ok := fi.Sys().(*syscall.Win32FileAttributeData); ok {
		return d.LastAccessTime.Nanoseconds()
	}
	return fi.ModTime().UnixNano()
}

func lockUnsupported(err error) bool {
	const (
		notSupported    = syscall.Errno(50)
		invalidFunction = syscall.Errno(1)
		diskFull        = syscall.Errno(112)
	)
	e := errno(err)
	return e == notSupported || e == invalidFunction || e == diskFull
}
