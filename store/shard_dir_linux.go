package store

import (
	"io/fs"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// noBelow is set once the system has said that it does not know openat2, which
// Linux has since 5.6.
var noBelow atomic.Bool

// canReadBelow reports whether the system may have what readBelow needs.
func canReadBelow() bool { return !noBelow.Load() }

// readBelow is read, for a file of a shard that is named from the directory
// above. It follows no symbolic link.
func (dir *shardDir) readBelow(name string, r *reading) ([]byte, error) {
	// Each key that is looked up for the first time comes here, so that the path
	// is made without an allocation. unix.Openat2 would make two for it.
	var path [len("00/") + maxNameLen + 1]byte
	if len(name) > maxNameLen {
		return nil, dir.failed("open", name, unix.ENAMETOOLONG)
	}
	copy(path[copy(path[:], name[:2]):], "/")
	copy(path[3:], name)
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC | noatime,
		Resolve: unix.RESOLVE_NO_SYMLINKS,
	}
	for {
		fd, _, err := syscall.Syscall6(unix.SYS_OPENAT2, uintptr(dir.fd), uintptr(unsafe.Pointer(&path)),
			uintptr(unsafe.Pointer(&how)), unix.SizeofOpenHow, 0, 0)
		switch err {
		case 0:
			return dir.readOpen(int(fd), name, r)
		case unix.EINTR:
			continue
		case unix.ENOENT:
			return nil, fs.ErrNotExist
		case unix.ENOSYS:
			noBelow.Store(true)
		}
		return nil, dir.failed("open", name[:2]+"/"+name, err)
	}
}
