package store

import (
	"errors"
	"io/fs"
	"sync/atomic"
	"time"
)

// shardDirs are the directories of shards that are open: to name a file from there takes half the time that it takes
// by its whole path, and the lock of a shard is one on its directory, where the system has such.
type shardDirs struct {
	kept   [shardCount]atomic.Pointer[shardDir]
	closed atomic.Bool

	max int32 // how many all stores of the process may keep open

	checked atomic.Int64 // when what is above them was looked at last, in nanoseconds since 1970
}

// dirsKept counts the directories that the stores of the process keep open: the program needs descriptors as well, and
// may have many stores.
var dirsKept atomic.Int32

const (
	// dirShare is which part of the descriptors that a process may have open its stores may keep for directories.
	dirShare = 16

	// checkDirsEvery is how often it is made sure that what is open still is where the cache has it, and that no
	// symbolic link leads there. That it was removed is seen at once, and so is by who locks a shard that its directory
	// is another one now.
	checkDirsEvery = 100 * time.Millisecond
)

func (s *shardDirs) init() { s.max = int32(descriptorLimit() / dirShare) }

// get returns the directory of a shard if it is open. It is to be released.
func (s *shardDirs) get(shard int) *shardDir {
	if dir := s.kept[shard].Load(); dir != nil && dir.retain() {
		return dir
	}
	return nil
}

// keep keeps a directory open for others, unless there are enough of them.
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

// drop closes a directory that is kept, once nobody uses it any more.
func (s *shardDirs) drop(dir *shardDir) {
	if s.kept[dir.shard].CompareAndSwap(dir, nil) {
		dir.lost.Stop()
		dirsKept.Add(-1)
		dir.release()
	}
}

// close closes all that are kept, and has none be kept any more.
func (s *shardDirs) close() {
	s.closed.Store(true)
	for i := range s.kept {
		if dir := s.kept[i].Load(); dir != nil {
			s.drop(dir)
		}
	}
}

// full reports whether no more are kept.
func (s *shardDirs) full() bool { return dirsKept.Load() >= s.max }

// recent reports whether what was made sure at a time need not be made sure again.
func recent(checked, now int64) bool {
	age := now - checked
	return age >= 0 && age < int64(checkDirsEvery)
}

// noDirError reports that there is something else where a directory of the cache should be.
type noDirError struct{ error }

func (e noDirError) Unwrap() error { return e.error }

// openShard returns the directory of a shard, which is to be released. The error is fs.ErrNotExist if there is none.
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
	d.usage.suspect.Store(true) // it may be that of another cache, in place of the one that is open
	return dir, nil
}

// openAnew is openShard without looking at what is open already, or at what is above the directory.
func (d *Disk) openAnew(shard int) (*shardDir, error) {
	path := d.shardDir(shard)
	dir, err := openDir(path, shard)
	var st fileStat
	if err != nil && statFile(path, &st) == nil && !st.dir { // what the error is then differs from system to system
		err = noDirError{err}
	}
	return dir, err
}

// makeShard is openShard, but makes the directory if there is none, and what is missing above it.
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

// checkParents makes sure, every now and then, that what is above the shards are directories.
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

// standing returns the directory of a shard for one who holds no lock, nil if it is not open, or not to be used any
// more.
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

// statKey looks at the file of an item's key for one who holds no lock.
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

// readFrom reads a file of a shard for one who holds no lock.
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
