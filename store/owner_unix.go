//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// owner is to whom a process that runs as root gives the files that it makes.
// Otherwise a single run under sudo would leave files in a user's cache that
// the user cannot read. The zero value keeps them.
type owner struct {
	uid, gid int
	gives    bool
}

// ownerOf returns the owner for what is made in a directory: its own.
func ownerOf(dir string) owner {
	var s syscall.Stat_t
	if syscall.Geteuid() != 0 || syscall.Stat(dir, &s) != nil || s.Uid == 0 {
		return owner{}
	}
	return owner{int(s.Uid), int(s.Gid), true}
}

// give gives an open file or directory to o. If that fails, it stays root's,
// and others treat it as damaged.
func (o owner) give(fd uintptr) {
	if o.gives {
		syscall.Fchown(int(fd), o.uid, o.gid)
	}
}

// giveDir gives a new directory to the owner of the one above it.
func giveDir(path string) {
	o := ownerOf(filepath.Dir(path))
	if !o.gives {
		return
	}
	// Not by name: somebody else may have put a link in its place.
	fd, err := openRetry(path, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err == nil {
		o.give(uintptr(fd))
		syscall.Close(fd)
	}
}

// isForeign reports whether err says that this process must not read the file
// at path, although it may remove the file. Another user has made it, such as
// root.
func isForeign(path string, err error) bool {
	return errors.Is(err, fs.ErrPermission) && unix.Faccessat(unix.AT_FDCWD, filepath.Dir(path), unix.W_OK|unix.X_OK, unix.AT_EACCESS) == nil
}

// removeForeign removes the file at path if err says that it isForeign.
func removeForeign(path string, err error) bool {
	return isForeign(path, err) && os.Remove(path) == nil
}
