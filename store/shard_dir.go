package store

import (
	"errors"
	"io/fs"
	"sync/atomic"
	"time"
)

// shardDirs keeps the directories of shards open. Opening a file from its
// directory takes half the time of opening it by its whole path. Where the
// system allows it, the lock of a shard is a lock on its directory.
type shardDirs struct {
	kept   [shardCount + 1]atomic.Pointer[shardDir] // the last one is dataDir
	closed atomic.Bool

	max int32 // directories that all stores of the process may keep open

	checked atomic.Int64 // when the directories above were last checked, in nanoseconds since 1970
}

// dataDir stands for the directory above the shards, where the number of a
// shard is expected.
const dataDir = shardCount

// dirsKept counts the directories that all stores of the process keep open. The
// program needs descriptors as well, and may have many stores.
var dirsKept atomic.Int32

const (
	// dirShare is the part of the process's descriptors that its stores may
	// keep for directories: one in so many.
	dirShare = 16

	// checkDirsEvery is how often the path of an open directory is checked:
	// that it still leads there, and not through a symbolic link. Until then, a
	// look-up in a directory that was removed or replaced may miss what another
	// process has stored since. Locking a shard notices that at once, so no
	// change is lost.
	checkDirsEvery = 100 * time.Millisecond

	// trustDirs is how old such a check may be for a new key. A directory that
	// was removed takes no file. If the whole cache was moved away, its
	// counters were moved with it, and they do not tell any more that a key is
	// absent. An entry stored in a single directory that was moved away is gone
	// with it, as if it had been evicted.
	trustDirs = 10 * time.Second
)

func (s *shardDirs) init() { s.max = int32(descriptorLimit() / dirShare) }

// get returns the directory of a shard if it is open, or nil. The caller must
// release it.
func (s *shardDirs) get(shard int) *shardDir {
	if dir := s.kept[shard].Load(); dir != nil && dir.retain() {
		return dir
	}
	return nil
}

// usable reports whether the directory of a shard is open, and was checked a
// moment ago.
func (s *shardDirs) usable(shard int, now int64) bool {
	dir := s.kept[shard].Load()
	return dir != nil && recent(dir.checked.Load(), now)
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

// noDirError reports that something else stands in the place of a directory of
// the cache.
type noDirError struct{ error }

func (e noDirError) Unwrap() error { return e.error }

// openShard returns the directory of a shard, which the caller must release.
// The error is fs.ErrNotExist if there is none.
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

// openAnew opens the directory of a shard, even if it is open already. It does
// not check the directories above.
func (d *Disk) openAnew(shard int) (*shardDir, error) {
	path := d.data
	if shard != dataDir {
		path = d.shardDir(shard)
	}
	dir, err := openDir(path, shard)
	if err == nil {
		dir.counts = &d.counts
	}
	var st fileStat
	if err != nil && statFile(path, &st) == nil && !st.dir { // the error depends on the system
		err = noDirError{err}
	}
	return dir, err
}

// makeShard is openShard, but makes the directory, and those above it, if they
// do not exist.
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

// checkParents checks from time to time that no symbolic link stands above the
// shards.
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

// stood reports whether its path names the directory, or did at most age ago.
func (dir *shardDir) stood(age time.Duration) bool {
	now := time.Now().UnixNano()
	if since := now - dir.checked.Load(); since >= 0 && since < int64(age) {
		return true
	}
	stands := dir.stands()
	if stands {
		dir.checked.Store(now)
	}
	return stands
}

// lose stops keeping a directory that was removed or replaced. All of the cache
// may have been.
func (d *Disk) lose(dir *shardDir) {
	d.dirs.drop(dir)
	d.counts.suspect()
}

// standing returns the open directory of a shard, or nil if it is not open or
// its path does not lead there any more. The caller needs no lock, and must
// release the directory.
func (d *Disk) standing(shard int, now int64) *shardDir {
	dir := d.dirs.get(shard)
	if dir == nil {
		return nil
	}
	if !recent(dir.checked.Load(), now) {
		if d.checkParents(now) != nil || !dir.stands() {
			d.lose(dir)
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
		return statFile(d.path(it.key), st)
	}
	defer dir.release()
	err := dir.stat(it.key, st)
	if err != nil && dir.gone() {
		d.lose(dir)
		err = statFile(d.path(it.key), st)
	}
	return err
}

// readFrom reads a file of a shard. The caller needs no lock. The directory of
// a shard is not opened or checked for this: many programs look up one key of
// each.
func (d *Disk) readFrom(shard int, name string, r *reading) (b []byte, err error) {
	if canReadBelow() && !d.dirs.usable(shard, r.now) && !d.dirs.full() {
		err = d.fromShard(dataDir, r.now, func(dir *shardDir) (err error) {
			b, err = dir.readBelow(name, r)
			return err
		})
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
	}
	err = d.fromShard(shard, r.now, func(dir *shardDir) (err error) {
		b, err = dir.read(name, r)
		return err
	})
	return b, err
}

// fromShard calls f with the directory of a shard. The caller needs no lock.
func (d *Disk) fromShard(shard int, now int64, f func(*shardDir) error) error {
	if dir := d.standing(shard, now); dir != nil {
		defer dir.release()
		return f(dir)
	}
	dir, err := d.openShard(shard, now)
	if err != nil {
		return err
	}
	defer dir.release()
	return retryBusy(func() error { return f(dir) })
}

// The functions below are the only ones that change the file of a key. They
// count each change; see counters.go.

// create is writeNew.
func (dir *shardDir) create(name string, b []byte, w *written) error {
	change := dir.counts.begin(name)
	w.counted = change.counts()
	err := dir.createFile(name, b, w)
	w.count = change.end()
	return err
}

// append appends b to a file of size bytes with one system call. If that fails,
// the file is as before.
func (dir *shardDir) append(name string, b []byte, size int64, w *written) error {
	change := dir.counts.begin(name)
	err := dir.appendFile(name, b, size, w)
	w.count = change.end()
	return err
}

// appendUnlocked appends b with one system call to the file of an item, without
// the lock of the shard. It reports false if another change came before, or may
// have come between. If the counter of the key tells that, the properties of
// the file are not asked for.
func (dir *shardDir) appendUnlocked(it *tierItem, b []byte, w *written) (alone bool, err error) {
	change := dir.counts.begin(it.key)
	counted := change.follows(it.count.Load())
	alone, err = dir.appendFileUnlocked(it, b, counted, w)
	w.count = change.end()
	return alone && (w.count != 0 || !counted), err
}

// rename gives a file, which was written before, the name of a key.
func (dir *shardDir) rename(from, to string, w *written) error {
	change := dir.counts.begin(to)
	err := dir.renameFile(from, to)
	w.count = change.end()
	return err
}

// remove removes a file, or an empty directory in its place.
func (dir *shardDir) remove(name string) error {
	change := dir.counts.begin(name)
	defer change.end()
	return dir.removeFile(name)
}
