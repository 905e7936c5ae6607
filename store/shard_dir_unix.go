//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package store

import (
	"io/fs"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// shardDir is an open directory of a shard. It is closed when its last user
// releases it.
type shardDir struct {
	shard  int
	path   string
	fd     int
	users  atomic.Int32
	counts *counters              // of the cache
	id     atomic.Pointer[fileID] // of fd; nil if not known yet

	checked atomic.Int64 // when its path was last checked, in nanoseconds since 1970

	lost runtime.Cleanup // see closeLost
}

func openDir(path string, shard int) (*shardDir, error) {
	fd, err := openRetry(path, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	dir := &shardDir{shard: shard, path: path, fd: fd}
	dir.users.Store(1)
	return dir, nil
}

// retain adds a user, unless the directory is closed.
func (dir *shardDir) retain() bool {
	for {
		n := dir.users.Load()
		if n == 0 {
			return false
		}
		if dir.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (dir *shardDir) release() {
	if dir.users.Add(-1) == 0 {
		syscall.Close(dir.fd)
	}
}

// closeLost makes sure that a kept directory is closed if its store is
// garbage-collected without Close.
func (dir *shardDir) closeLost() {
	dir.lost = runtime.AddCleanup(dir, func(fd int) {
		syscall.Close(fd)
		dirsKept.Add(-1)
	}, dir.fd)
}

// stands reports whether its path still names the directory.
func (dir *shardDir) stands() bool {
	var s syscall.Stat_t
	id := dir.id.Load()
	if id == nil {
		if syscall.Fstat(dir.fd, &s) != nil {
			return false
		}
		opened := fileIDOf(&s)
		id = &opened
		dir.id.Store(id)
	}
	return lstat(dir.path, &s) == nil && *id == fileIDOf(&s)
}

// gone reports whether the directory was removed.
func (dir *shardDir) gone() bool { return !linked(uintptr(dir.fd)) }

// tryLock takes the lock of the shard, unless another process has it.
func (dir *shardDir) tryLock() (bool, error) {
	switch err := retry(func() error { return syscall.Flock(dir.fd, syscall.LOCK_EX|syscall.LOCK_NB) }); err {
	case nil:
		return true, nil
	case syscall.EWOULDBLOCK:
		return false, nil
	default:
		return false, &fs.PathError{Op: "flock", Path: dir.path, Err: err}
	}
}

// unlock releases the lock, even if a child process that is just starting has a
// copy of the descriptor.
func (dir *shardDir) unlock() { syscall.Flock(dir.fd, syscall.LOCK_UN) }

// descriptorLimit returns how many files the process may have open.
func descriptorLimit() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return int(min(uint64(limit.Cur), 1<<20))
}

func (dir *shardDir) failed(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: dir.path + "/" + name, Err: err}
}

func (dir *shardDir) stat(name string, st *fileStat) error {
	var s unix.Stat_t
	err := retry(func() error { return unix.Fstatat(dir.fd, name, &s, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return dir.failed("lstat", name, err)
	}
	st.fill(uint64(s.Ino), s.Size, uint32(s.Mode), s.Atim.Nano(), s.Mtim.Nano(), s.Ctim.Nano())
	return nil
}

func (dir *shardDir) open(name string, flags int, perm uint32) (int, error) {
	return dir.openAt(name, flags|nofollow, perm)
}

func (dir *shardDir) openAt(name string, flags int, perm uint32) (fd int, err error) {
	err = retry(func() (err error) {
		fd, err = unix.Openat(dir.fd, name, flags|unix.O_CLOEXEC, perm)
		return err
	})
	return fd, err
}

// read is readFile.
func (dir *shardDir) read(name string, r *reading) ([]byte, error) {
	fd, err := dir.open(name, syscall.O_RDONLY|noatime, 0)
	if err == syscall.EPERM && noatime != 0 { // another user's file
		fd, err = dir.open(name, syscall.O_RDONLY, 0)
	}
	if err == syscall.ENOENT { // nearly always, when a key is looked up
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, dir.failed("open", name, err)
	}
	return dir.readOpen(fd, name, r)
}

func (dir *shardDir) readOpen(fd int, name string, r *reading) ([]byte, error) {
	b, op, err := readOpen(fd, r)
	if op != "" {
		err = dir.failed(op, name, err)
	}
	return b, err
}

// createFile is writeNew.
func (dir *shardDir) createFile(name string, b []byte, w *written) error {
	fd, err := dir.open(name, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL, 0o600)
	if err != nil {
		return dir.failed("create", name, err)
	}
	if op, err := finish(fd, b, -1, w); err != nil {
		dir.removeFile(name)
		return dir.failed(op, name, err)
	}
	return nil
}

// appendFile appends b to a file of size bytes with one system call. If that
// fails, the file is as before.
func (dir *shardDir) appendFile(name string, b []byte, size int64, w *written) error {
	fd, err := dir.open(name, syscall.O_WRONLY|syscall.O_APPEND, 0)
	if err != nil {
		return dir.failed("open", name, err)
	}
	op, err := finish(fd, b, size, w)
	if err != nil {
		if op == "close" { // and the file is not open any more
			syscall.Truncate(dir.path+"/"+name, size)
		}
		return dir.failed(op, name, err)
	}
	return nil
}

// appendFileUnlocked appends b with one system call to the file of an item,
// without the lock of the shard. It truncates nothing, because others may have
// appended as well. Unless changes are counted, it compares the file with the
// item, before and after. It sets w.stat only if it has written b.
func (dir *shardDir) appendFileUnlocked(it *tierItem, b []byte, counted bool, w *written) (alone bool, err error) {
	fd, err := dir.open(it.key, syscall.O_WRONLY|syscall.O_APPEND, 0)
	if err != nil {
		return false, dir.failed("open", it.key, err)
	}
	size := it.size + int64(len(b))
	op := "write"
	if counted {
		if err = writeAtOnce(fd, b); err == nil {
			alone, w.stat = true, fileStat{ino: it.stat.ino, size: size, atime: it.used.Load(), regular: true}
		}
	} else if hasContent(fd, it) {
		if err = writeAtOnce(fd, b); err == nil {
			op, err = stampWritten(fd, false, w)
		}
		alone = err == nil && w.linked && w.stat.size == size
	}
	if cerr := closeFile(fd); err == nil && cerr != nil {
		op, err = "close", cerr
	}
	if err != nil {
		return false, dir.failed(op, it.key, err)
	}
	return alone, nil
}

// hasContent reports whether an open file has the content of an item. A new
// file can have the number and the size of one that was removed.
func hasContent(fd int, it *tierItem) bool {
	var s syscall.Stat_t
	var st fileStat
	err := syscall.Fstat(fd, &s)
	st.set(&s)
	return err == nil && it.holds(&st, 0)
}

func (dir *shardDir) renameFile(from, to string) error {
	err := retry(func() error { return unix.Renameat(dir.fd, from, dir.fd, to) })
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// removeFile removes a file, or an empty directory in its place.
func (dir *shardDir) removeFile(name string) error {
	err := retry(func() error { return unix.Unlinkat(dir.fd, name, 0) })
	if err == nil {
		return nil
	}
	if isDir := err == syscall.EISDIR || err == syscall.EPERM; isDir && unix.Unlinkat(dir.fd, name, unix.AT_REMOVEDIR) == nil {
		return nil
	}
	return dir.failed("remove", name, err)
}
