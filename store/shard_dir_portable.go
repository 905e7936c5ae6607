//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package store

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"

	"github.com/gofrs/flock"
)

// shardDir is the directory of a shard and its lock. These systems cannot lock a directory,
// so that the lock is a file beside it.
type shardDir struct {
	shard   int
	path    string
	lock    *flock.Flock
	checked atomic.Int64
	lost    runtime.Cleanup
}

func openDir(path string, shard int) (*shardDir, error) {
	var st fileStat
	if err := statFile(path, &st); err != nil {
		return nil, err
	}
	if !st.dir {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}
	lock := path + ".lock"
	return &shardDir{shard: shard, path: path, lock: flock.New(lock, flock.SetFlag(os.O_CREATE|os.O_RDONLY), flock.SetPermissions(0o600))}, nil
}

// retain reports false: no directory is kept open here.
func (dir *shardDir) retain() bool { return false }

func (dir *shardDir) release() {}

func (dir *shardDir) closeLost() {}

// stands reports true: files are always found by their paths here.
func (dir *shardDir) stands() bool { return true }

// gone reports false; see stands.
func (dir *shardDir) gone() bool { return false }

// tryLock opens the lock file and takes the lock, unless another process has it.
func (dir *shardDir) tryLock() (bool, error) { return dir.lock.TryLock() }

// unlock closes the lock file, which releases the lock.
func (dir *shardDir) unlock() { dir.lock.Close() }

// descriptorLimit does not matter, because nothing is kept open.
func descriptorLimit() int { return 0 }

func (dir *shardDir) name(name string) string { return dir.path + string(filepath.Separator) + name }

func (dir *shardDir) stat(name string, st *fileStat) error { return statFile(dir.name(name), st) }

func (dir *shardDir) read(name string, max int64, st *fileStat, buf []byte) ([]byte, error) {
	return readFile(dir.name(name), max, st, buf)
}

func (dir *shardDir) create(name string, b []byte, w *written) error {
	return writeNew(dir.name(name), b, w)
}

func (dir *shardDir) append(name string, b []byte, size int64, w *written) error {
	return appendFile(dir.name(name), b, size, w)
}

func (dir *shardDir) rename(from, to string) error { return os.Rename(dir.name(from), dir.name(to)) }

func (dir *shardDir) remove(name string) error { return os.Remove(dir.name(name)) }
