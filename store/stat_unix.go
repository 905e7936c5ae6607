//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package store

import (
	"io"
	"os"
	"syscall"
	"time"
)

// nofollow makes opening a symbolic link that was planted where a file of the cache should be fail, and
// opening a pipe there not wait for its other end.
const nofollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

func (st *fileStat) set(s *syscall.Stat_t) {
	st.ino = uint64(s.Ino)
	st.size = s.Size
	st.regular = s.Mode&syscall.S_IFMT == syscall.S_IFREG
	a, m, c := statTimes(s)
	st.atime, st.mtime, st.ctime = a.Nano(), m.Nano(), c.Nano()
}

// statFile is os.Lstat without its allocations.
func statFile(path string, st *fileStat) error {
	var s syscall.Stat_t
	for {
		err := syscall.Lstat(path, &s)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		st.set(&s)
		return nil
	}
}

// statOpen is statFile for an open file.
func statOpen(f *os.File, st *fileStat) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	st.set(fi.Sys().(*syscall.Stat_t))
	return nil
}

// unlinked reports whether f has no name any more.
func unlinked(f *os.File) bool {
	fi, err := f.Stat()
	return err != nil || fi.Sys().(*syscall.Stat_t).Nlink == 0
}

// readFile reads a regular file of at most max bytes, into buf if it is large enough, past package os, whose files cost a second system
// call for the network poller. Reading does not count as use where the system can be told so.
// O_NONBLOCK is for a pipe in the file's place, which would not open otherwise.
func readFile(path string, max int64, st *fileStat, buf []byte) ([]byte, error) {
	const flags = syscall.O_RDONLY | syscall.O_CLOEXEC | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	fd, err := openRetry(path, flags|noatime)
	if err == syscall.EPERM && noatime != 0 { // another user's file
		fd, err = openRetry(path, flags)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd)
	var s syscall.Stat_t
	if err := syscall.Fstat(fd, &s); err != nil {
		return nil, &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	st.set(&s)
	if !st.regular || st.size > max {
		return nil, ErrDamaged
	}
	b := buf
	if int64(cap(b)) < st.size {
		b = make([]byte, st.size)
	}
	b = b[:st.size]
	for n := 0; n < len(b); {
		m, err := syscall.Pread(fd, b[n:], int64(n))
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		if m == 0 {
			return nil, &os.PathError{Op: "read", Path: path, Err: io.ErrUnexpectedEOF}
		}
		n += m
	}
	return b, nil
}

func openRetry(path string, flags int) (int, error) {
	for {
		fd, err := syscall.Open(path, flags, 0)
		if err != syscall.EINTR {
			return fd, err
		}
	}
}

// setUsed records that the file was used at t.
func setUsed(path string, t int64) error {
	return os.Chtimes(path, time.Unix(0, t), time.Time{})
}

// markAlive lets abandoned know that the owner of a draft lives, by a lock that ends with the process.
func markAlive(f *os.File) {
	syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// abandoned reports whether the process that wrote the draft at path is gone.
func abandoned(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|nofollow, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// lockUnsupported reports whether err says that there are no locks to be had here.
func lockUnsupported(err error) bool {
	switch errno(err) {
	case syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.ENOLCK, syscall.EINVAL:
		return true
	// A full disk must not keep anybody from removing what fills it.
	case syscall.ENOSPC, syscall.EDQUOT:
		return true
	}
	return false
}
