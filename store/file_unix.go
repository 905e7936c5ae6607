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

// retry makes a system call again as long as a signal interrupts it.
func retry(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}

func lstat(path string, s *syscall.Stat_t) error {
	return retry(func() error { return syscall.Lstat(path, s) })
}

// statFile is os.Lstat without its allocations.
func statFile(path string, st *fileStat) error {
	var s syscall.Stat_t
	if err := lstat(path, &s); err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	st.set(&s)
	return nil
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
	return syscall.Fstat(int(fd), &open) == nil && lstat(path, &there) == nil && fileIDOf(&open) == fileIDOf(&there)
}

// fileID identifies a file.
type fileID struct{ dev, ino uint64 }

func fileIDOf(s *syscall.Stat_t) fileID { return fileID{uint64(s.Dev), uint64(s.Ino)} }

// setMode gives an open file mode 0600, whatever the umask was when it was
// made.
func setMode(f *os.File) {
	var s syscall.Stat_t
	if fd := int(f.Fd()); syscall.Fstat(fd, &s) == nil && s.Mode&0o7777 != 0o600 {
		syscall.Fchmod(fd, 0o600)
	}
}

// readFile reads a regular file. It does not use package os, whose files cost
// another system call for the network poller. Where the system allows it,
// reading does not count as use. O_NONBLOCK keeps a pipe in the place of the
// file from blocking.
func readFile(path string, r *reading) ([]byte, error) {
	const flags = syscall.O_RDONLY | syscall.O_CLOEXEC | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	fd, err := openRetry(path, flags|noatime, 0)
	if err == syscall.EPERM && noatime != 0 { // another user's file
		fd, err = openRetry(path, flags, 0)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	b, op, err := readOpen(fd, r)
	if op != "" {
		err = &os.PathError{Op: op, Path: path, Err: err}
	}
	return b, err
}

// readOpen reads an open file and closes it; see readFile. op is the call that
// failed.
func readOpen(fd int, r *reading) (b []byte, op string, err error) {
	defer syscall.Close(fd)
	var s syscall.Stat_t
	if err := syscall.Fstat(fd, &s); err != nil {
		return nil, "fstat", err
	}
	r.set(&s)
	if !r.regular || r.size > r.max {
		return nil, "", ErrDamaged
	}
	b = r.into()
	if r.isUse() && setOpenUsed(fd, r.now) {
		r.atime = r.now
	}
	if _, err := readAt(fd, b, 0); err == io.EOF {
		return nil, "read", io.ErrUnexpectedEOF
	} else if err != nil {
		return nil, "read", err
	}
	return b, "", nil
}

// readAt fills p with the bytes of a file from off on. If the file has fewer,
// the error is io.EOF.
func readAt(fd int, p []byte, off int64) (n int, err error) {
	for n < len(p) {
		var m int
		err = retry(func() (err error) {
			m, err = syscall.Pread(fd, p[n:], off+int64(n))
			return err
		})
		if err == nil && m == 0 {
			err = io.EOF
		}
		if err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

func openRetry(path string, flags int, perm uint32) (fd int, err error) {
	err = retry(func() (err error) {
		fd, err = syscall.Open(path, flags|syscall.O_CLOEXEC, perm)
		return err
	})
	return fd, err
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
	all := int64(len(b))
	for op = "write"; len(b) > 0 && err == nil; {
		var n int
		n, err = writeOnce(fd, b)
		b = b[n:]
	}
	if err == nil && !(size < 0 && w.assume(fd, all)) {
		op, err = stampWritten(fd, size < 0, w)
	}
	if err != nil {
		if size >= 0 {
			syscall.Ftruncate(fd, size)
		}
		syscall.Close(fd)
		return op, err
	}
	if err := closeFile(fd); err != nil {
		return "close", err
	}
	return "", nil
}

// writeOnce writes as much of b as one system call takes, at least one byte.
func writeOnce(fd int, b []byte) (n int, err error) {
	err = retry(func() (err error) {
		n, err = syscall.Write(fd, b)
		return err
	})
	if err == nil && n == 0 {
		err = io.ErrUnexpectedEOF
	}
	return max(n, 0), err
}

// writeAtOnce writes b with one system call.
func writeAtOnce(fd int, b []byte) error {
	n, err := writeOnce(fd, b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite // the rest would be a record of its own
	}
	return err
}

// assume is stampWritten for a new file of size bytes, without a system call:
// the counter of the key vouches for the file, and tells that it has changed.
// It reports false where changes are not counted, and from time to time.
func (w *written) assume(fd int, size int64) bool {
	now := time.Now().UnixNano()
	if !w.counted || w.modeChecked == nil || !recent(w.modeChecked.Load(), now) {
		return false
	}
	w.owner.give(uintptr(fd))
	w.stat = fileStat{size: size, atime: now, regular: true}
	return true
}

// stampWritten gives an open file that was written its times, and a new one its
// owner and mode. It fills w.
func stampWritten(fd int, isNew bool, w *written) (op string, err error) {
	mtime := stampFile(fd)
	if isNew {
		w.owner.give(uintptr(fd))
	}
	var s syscall.Stat_t
	if err := syscall.Fstat(fd, &s); err != nil {
		return "fstat", err
	}
	if isNew && s.Mode&0o7777 != 0o600 { // an odd umask
		if err := syscall.Fchmod(fd, 0o600); err != nil {
			return "chmod", err
		}
	} else if isNew && w.modeChecked != nil {
		w.modeChecked.Store(time.Now().UnixNano())
	}
	w.stat.set(&s)
	w.linked = s.Nlink == 1
	w.exact = mtime != 0 && w.stat.mtime == mtime
	return "", nil
}

// closeFile closes a file that was written.
func closeFile(fd int) error {
	if err := syscall.Close(fd); err != syscall.EINTR {
		return err
	}
	return nil
}

// rename is os.Rename without a look at the target: the system does not replace
// a directory with a file.
func rename(from, to string) error {
	if err := retry(func() error { return syscall.Rename(from, to) }); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// markAlive locks the file of a draft. The lock ends with the process, so that
// abandoned knows whether the owner lives.
func markAlive(f *os.File) {
	syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// shareLock takes a shared lock on an open file, if nobody has an exclusive
// one. It ends when the file is closed.
func shareLock(f *os.File) {
	syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
}

// lockAll takes an exclusive lock on an open file. It reports false if another
// process has a lock on it, or if there are no locks here.
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
