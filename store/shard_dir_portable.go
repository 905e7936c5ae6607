//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
)

// shardDir is the directory of a shard and its lock. These systems cannot lock
// a directory, so that the lock is a file beside it.
type shardDir struct {
	shard   int
	path    string
	counts  *counters // of the cache
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
		return nil, &fs.PathError{Op: "open", Path: path, Err: errNotDir}
	}
	lock := path + ".lock"
	return &shardDir{shard: shard, path: path, lock: flock.New(lock, flock.SetFlag(os.O_CREATE|os.O_RDONLY|nofollow), flock.SetPermissions(0o600))}, nil
}

// retain reports false: no directory is kept open here.
func (dir *shardDir) retain() bool { return false }

func (dir *shardDir) release() {}

func (dir *shardDir) closeLost() {}

// stands reports true: files are always found by their paths here.
func (dir *shardDir) stands() bool { return true }

// gone reports false; see stands.
func (dir *shardDir) gone() bool { return false }

// tryLock opens the lock file and takes the lock, unless another process has
// it.
func (dir *shardDir) tryLock() (bool, error) { return dir.lock.TryLock() }

// unlock closes the lock file, which releases the lock.
func (dir *shardDir) unlock() { dir.lock.Close() }

// descriptorLimit does not matter, because nothing is kept open.
func descriptorLimit() int { return 0 }

func (dir *shardDir) name(name string) string { return dir.path + string(filepath.Separator) + name }

func (dir *shardDir) stat(name string, st *fileStat) error { return statFile(dir.name(name), st) }

func (dir *shardDir) read(name string, r *reading) ([]byte, error) {
	f, err := os.OpenFile(dir.name(name), os.O_RDONLY|nofollow, 0) // not openRead: the caller may hold the lock
	if err != nil {
		return nil, err
	}
	return readOpen(f, r)
}

// setUsed records that a file was used at t.
func (dir *shardDir) setUsed(name string, t int64) error {
	return os.Chtimes(dir.name(name), time.Unix(0, t), time.Time{})
}

func (dir *shardDir) createFile(name string, b []byte, w *written) error {
	return writeNew(dir.name(name), b, w)
}

func (dir *shardDir) appendFile(name string, b []byte, size int64, w *written) error {
	return appendFile(dir.name(name), b, size, w)
}

// appendFileUnlocked is not called: no directory is kept open here.
func (dir *shardDir) appendFileUnlocked(*tierItem, []byte, bool, *written) (alone bool, err error) {
	return false, errors.ErrUnsupported
}

func (dir *shardDir) renameFile(from, to string) error {
	return os.Rename(dir.name(from), dir.name(to))
}

func (dir *shardDir) removeFile(name string) error { return os.Remove(dir.name(name)) }
