package store

import (
	"errors"
	"io/fs"
	"sync/atomic"
	"time"
)

// shardDirs keeps the directories of shards open. Opening a file from its directory takes
// half the time of opening it by its whole path. Where the system allows it, the lock of a
// shard is a lock on its directory.
type shardDirs struct {
	kept   [shardCount]atomic.Pointer[shardDir]
	closed atomic.Bool

	max int32 // directories that all stores of the process may keep open

	checked atomic.Int64 // when the directories above were last checked, in nanoseconds since 1970
}

// dirsKept counts the directories that all stores of the process keep open. The program needs
// descriptors as well, and may have many stores.
var dirsKept atomic.Int32

const (
	// dirShare is the part of the process's descriptors that its stores may keep for
	// directories: one in so many.
	dirShare = 16

	// checkDirsEvery is how often the path of an open directory is checked: that it still
	// leads there, and not through a symbolic link. A directory that was removed is noticed
	// at once. Locking a shard also notices at once that its directory was replaced.
	checkDirsEvery = 100 * time.Millisecond
)

func (s *shardDirs) init() { s.max = int32(descriptorLimit() / dirShare) }

// get returns the directory of a shard if it is open, or nil. The caller must release it.
func (s *shardDirs) get(shard int) *shardDir {
	if dir := s.kept[shard].Load(); dir != nil && dir.retain() {
		return dir
	}
	return nil
}

// keep keeps a directory open for later calls, unless enough of them are open.
func (s *shardDirs) keep(dir *shardDir) {
	if dirsKept.Add(1) > s.max || !s.add(dir) {
		dirsKept.Add(-1)
		return
	}
	if s.closed.Load() {
		s.drop(dir)
	}
}

func (s *shardDirs) add(dir *shardDir) bool {
	dir.retain()
	dir.closeLost()
	if s.kept[dir.shard].CompareAndSwap(nil, dir) {
		return true
	}
	dir.lost.Stop()
	dir.release()
	return false
}

// drop stops keeping a directory. It is closed once nobody uses it any more.
func (s *shardDirs) drop(dir *shardDir) {
	if s.kept[dir.shard].CompareAndSwap(dir, nil) {
		dir.lost.Stop()
		dirsKept.Add(-1)
		dir.release()
	}
}

// close stops keeping directories.
func (s *shardDirs) close() {
	s.closed.Store(true)
	for i := range s.kept {
		if dir := s.kept[i].Load(); dir != nil {
			s.drop(dir)
		}
	}
}

// full reports whether no more directories can be kept.
func (s *shardDirs) full() bool { return dirsKept.Load() >= s.max }

// recent reports whether a check at a time is recent enough.
func recent(checked, now int64) bool {
	age := now - checked
	return age >= 0 && age < int64(checkDirsEvery)
}

// noDirError reports that something else stands in the place of a directory of the cache.
type noDirError struct{ error }

func (e noDirError) Unwrap() error { return e.error }

// openShard returns the directory of a shard, which the caller must release. The error is
// fs.ErrNotExist if there is none.
func (d *Disk) openShard(shard int, now int64) (*shardDir, error) {
	if err := d.checkParents(now); err != nil {
		return nil, noDirError{err}
	}
	if dir := d.dirs.get(shard); dir != nil {
		return dir, nil
	}
	dir, err := d.openAnew(shard)
	if err != nil {
		return nil, err
	}
	dir.checked.Store(now)
	d.dirs.keep(dir)
	d.usage.suspect.Store(true) // the usage file may be that of another cache now
	return dir, nil
}

// openAnew opens the directory of a shard, even if it is open already. It does not check the
// directories above.
func (d *Disk) openAnew(shard int) (*shardDir, error) {
	path := d.shardDir(shard)
	dir, err := openDir(path, shard)
	var st fileStat
	if err != nil && statFile(path, &st) == nil && !st.dir { // the error depends on the system
		err = noDirError{err}
	}
	return dir, err
}

// makeShard is openShard, but makes the directory, and those above it, if they do not exist.
func (d *Disk) makeShard(shard int) (*shardDir, error) {
	now := time.Now().UnixNano()
	dir, err := d.openShard(shard, now)
	if errors.Is(err, fs.ErrNotExist) {
		if err = d.makeShardDir(shard); err == nil {
			dir, err = d.openShard(shard, now)
		}
	}
	return dir, err
}

// checkParents checks from time to time that no symbolic link stands above the shards.
func (d *Disk) checkParents(now int64) error {
	if recent(d.dirs.checked.Load(), now) {
		return nil
	}
	err := checkDirs(d.root, d.data)
	if err == nil {
		d.dirs.checked.Store(now)
	}
	return err
}

// standing returns the open directory of a shard, or nil if it is not open or its path does
// not lead there any more. The caller needs no lock, and must release the directory.
func (d *Disk) standing(shard int, now int64) *shardDir {
	dir := d.dirs.get(shard)
	if dir == nil {
		return nil
	}
	if !recent(dir.checked.Load(), now) {
		if d.checkParents(now) != nil || !dir.stands() {
			d.dirs.drop(dir)
			dir.release()
			return nil
		}
		dir.checked.Store(now)
	}
	return dir
}

// statKey fills st for the file of an item's key. The caller needs no lock.
func (d *Disk) statKey(it *tierItem, st *fileStat, now int64) error {
	shard := shardOf(it.key)
	dir := d.standing(shard, now)
	if dir == nil && !d.dirs.full() {
		dir, _ = d.openShard(shard, now)
	}
	if dir == nil {
		return statFile(it.path, st)
	}
	defer dir.release()
	if it.held.Load().stat(st) {
		return nil
	}
	err := dir.stat(it.key, st)
	if err == nil {
		d.held.named(dir, it, st)
	} else if dir.gone() {
		d.dirs.drop(dir)
		err = statFile(it.path, st)
	}
	return err
}

// readFrom reads a file of a shard. The caller needs no lock.
func (d *Disk) readFrom(shard int, name string, max int64, st *fileStat, buf []byte, now int64) ([]byte, error) {
	if dir := d.standing(shard, now); dir != nil {
		defer dir.release()
		b, err := dir.read(name, max, st, buf)
		if err == nil || !dir.gone() {
			return b, err
		}
		d.dirs.drop(dir)
	}
	dir, err := d.openShard(shard, now)
	if err != nil {
		return nil, err
	}
	defer dir.release()
	return dir.read(name, max, st, buf)
}
