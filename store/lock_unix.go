//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package store

import (
	"os"
	"syscall"
)

// lockFile is the file of a shard's lock. gofrs/flock, which does this elsewhere, closes a file to unlock it.
type lockFile struct {
	shard int
	file  *os.File // to be closed even if the store is not
	fd    int      // of file
	dev   uint64
	ino   uint64
}

func openLock(path string, shard int) (*lockFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY|nofollow, 0o600)
	if err != nil {
		return nil, err
	}
	l := &lockFile{shard: shard, file: f, fd: int(f.Fd())}
	var s syscall.Stat_t
	if err := syscall.Fstat(l.fd, &s); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	if s.Mode&0o600 != 0o600 { // an odd umask
		syscall.Fchmod(l.fd, 0o600)
	}
	l.dev, l.ino = uint64(s.Dev), uint64(s.Ino)
	return l, nil
}

// tryLock takes the lock unless another has it.
func (l *lockFile) tryLock() (bool, error) {
	for {
		switch err := syscall.Flock(l.fd, syscall.LOCK_EX|syscall.LOCK_NB); err {
		case nil:
			return true, nil
		case syscall.EINTR:
		case syscall.EWOULDBLOCK:
			return false, nil
		default:
			return false, &os.PathError{Op: "flock", Path: l.file.Name(), Err: err}
		}
	}
}

// stands reports whether l is the file at path.
func (l *lockFile) stands(path string) bool {
	var s syscall.Stat_t
	for {
		err := syscall.Lstat(path, &s)
		if err != syscall.EINTR {
			return err == nil && uint64(s.Dev) == l.dev && uint64(s.Ino) == l.ino
		}
	}
}

// unlock releases the lock, also if a child process that is just being started still has a copy of the descriptor. It
// reports whether the lock may be taken again.
func (l *lockFile) unlock() bool {
	return syscall.Flock(l.fd, syscall.LOCK_UN) == nil
}

func (l *lockFile) close() { l.file.Close() }

// descriptorLimit is how many files the process may have open.
func descriptorLimit() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return int(min(uint64(limit.Cur), 1<<20))
}
