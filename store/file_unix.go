//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package store

import (
	"io"
	"os"
	"syscall"
	"time"
)

// nofollow protects against other objects in the place of a file. Opening a
// symbolic link fails, and opening a pipe does not wait for its other end.
const nofollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

func (st *fileStat) set(s *syscall.Stat_t) {
	a, m, c := statTimes(s)
	st.fill(uint64(s.Ino), s.Size, uint32(s.Mode), a.Nano(), m.Nano(), c.Nano())
}

func (st *fileStat) fill(ino uint64, size int64, mode uint32, atime, mtime, ctime int64) {
	*st = fileStat{
		ino: ino, size: size, atime: atime, mtime: mtime, ctime: ctime,
		regular: mode&syscall.S_IFMT == syscall.S_IFREG,
		dir:     mode&syscall.S_IFMT == syscall.S_IFDIR,
	}
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

// linked reports whether an open file has a name.
func linked(fd uintptr) bool {
	var s syscall.Stat_t
	return syscall.Fstat(int(fd), &s) == nil && s.Nlink > 0
}

// stands reports whether path names the open file fd.
func stands(fd uintptr, path string) bool {
	var open, there syscall.Stat_t
	if syscall.Fstat(int(fd), &open) != nil {
		return false
	}
	for {
		err := syscall.Lstat(path, &there)
		if err != syscall.EINTR {
			return err == nil && there.Dev == open.Dev && there.Ino == open.Ino
		}
	}
}

// setMode gives an open file mode 0600, whatever the umask was when it was made.
func setMode(f *os.File) {
	var s syscall.Stat_t
	if fd := int(f.Fd()); syscall.Fstat(fd, &s) == nil && s.Mode&0o7777 != 0o600 {
		syscall.Fchmod(fd, 0o600)
	}
}

// openRead opens a file, and does not follow a link.
func openRead(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDONLY|nofollow, 0) }

// readFile reads a regular file of at most max bytes, into buf if that is large enough.
// It does not use package os, whose files cost another system call for the network
// poller. Where the system allows it, reading does not count as use. O_NONBLOCK keeps a
// pipe in the place of the file from blocking.
func readFile(path string, max int64, st *fileStat, buf []byte) ([]byte, error) {
	const flags = syscall.O_RDONLY | syscall.O_CLOEXEC | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	fd, err := openRetry(path, flags|noatime, 0)
	if err == syscall.EPERM && noatime != 0 { // another user's file
		fd, err = openRetry(path, flags, 0)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	b, op, err := readOpen(fd, max, st, buf)
	if op != "" {
		err = &os.PathError{Op: op, Path: path, Err: err}
	}
	return b, err
}

// readOpen reads an open file and closes it; see readFile. op is the call that failed.
func readOpen(fd int, max int64, st *fileStat, buf []byte) (b []byte, op string, err error) {
	defer syscall.Close(fd)
	var s syscall.Stat_t
	if err := syscall.Fstat(fd, &s); err != nil {
		return nil, "fstat", err
	}
	st.set(&s)
	if !st.regular || st.size > max {
		return nil, "", ErrDamaged
	}
	b = buf
	if int64(cap(b)) < st.size {
		b = make([]byte, st.size)
	}
	b = b[:st.size]
	for n := 0; n < len(b); {
		m, err := syscall.Pread(fd, b[n:], int64(n))
		if err == syscall.EINTR {
			continue
		}
		if err == nil && m == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, "read", err
		}
		n += m
	}
	return b, "", nil
}

func openRetry(path string, flags int, perm uint32) (int, error) {
	for {
		fd, err := syscall.Open(path, flags|syscall.O_CLOEXEC, perm)
		if err != syscall.EINTR {
			return fd, err
		}
	}
}

// writeNew makes a file with the content b. The file must not exist.
func writeNew(path string, b []byte, w *written) error {
	fd, err := openRetry(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|nofollow, 0o600)
	if err != nil {
		return &os.PathError{Op: "create", Path: path, Err: err}
	}
	if op, err := finish(fd, b, -1, w); err != nil {
		syscall.Unlink(path)
		return &os.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

// finish writes b, fills w with the properties of the file, and closes it. If
// that fails, it truncates the file to size bytes. If size is negative, the
// file is new, and the caller removes it. op is the call that failed.
func finish(fd int, b []byte, size int64, w *written) (op string, err error) {
	fail := func(op string, err error) (string, error) {
		if size >= 0 {
			syscall.Ftruncate(fd, size)
		}
		syscall.Close(fd)
		return op, err
	}
	for len(b) > 0 {
		n, err := syscall.Write(fd, b)
		if err == syscall.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fail("write", err)
		}
		b = b[n:]
	}
	mtime := stampFile(fd)
	if size < 0 {
		w.owner.give(uintptr(fd))
	}
	var s syscall.Stat_t
	if err := syscall.Fstat(fd, &s); err != nil {
		return fail("fstat", err)
	}
	if size < 0 && s.Mode&0o7777 != 0o600 { // an odd umask
		if err := syscall.Fchmod(fd, 0o600); err != nil {
			return fail("chmod", err)
		}
	}
	w.stat.set(&s)
	w.exact = mtime != 0 && w.stat.mtime == mtime
	if err := syscall.Close(fd); err != nil && err != syscall.EINTR {
		return "close", err
	}
	return "", nil
}

// rename is os.Rename without a look at the target: the system does not replace a
// directory with a file.
func rename(from, to string) error {
	for {
		err := syscall.Rename(from, to)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		}
		return nil
	}
}

// setUsed records that the file was used at t.
func setUsed(path string, t int64) error {
	return os.Chtimes(path, time.Unix(0, t), time.Time{})
}

// markAlive locks the file of a draft. The lock ends with the process, so that
// abandoned knows whether the owner lives.
func markAlive(f *os.File) {
	syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// shareLock takes a shared lock on an open file, if nobody has an exclusive one. It ends when
// the file is closed.
func shareLock(f *os.File) {
	syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
}

// lockAll takes an exclusive lock on an open file. It reports false if another process has a
// lock on it, or if there are no locks here.
func lockAll(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// abandoned reports whether the process that wrote the draft at path has ended.
func abandoned(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|nofollow, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return lockAll(f)
}

// lockUnsupported reports whether err says that the file system has no locks.
func lockUnsupported(err error) bool {
	if e := errno(err); e == syscall.EOPNOTSUPP || e == syscall.ENOTSUP { // one number on Linux, two elsewhere
		return true
	}
	switch errno(err) {
	case syscall.ENOSYS, syscall.ENOLCK, syscall.EINVAL:
		return true
	// On a full disk, callers must still be able to remove files.
	case syscall.ENOSPC, syscall.EDQUOT:
		return true
	}
	return false
}
