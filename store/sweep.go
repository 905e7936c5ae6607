package store

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// This file removes leftovers: files of processes that were killed, bodies that
// no entry names, and what older versions of the format left behind.

const (
	// leftAfter is the age from which a file that no entry names is a leftover. No
	// body takes that long from its last write to the Update that names it.
	leftAfter = time.Hour

	// unusedAfter is how long a version of the format must not have been used
	// before another version removes its files: longer than a program waits for
	// its weekly run.
	unusedAfter = 8 * 24 * time.Hour

	// inUseEvery is how often a process notes that its version is in use.
	inUseEvery = 24 * time.Hour

	// sweepKeys limits the keys that are read, per listing of a shard, to find
	// bodies that no entry names.
	sweepKeys = 100

	// sweepFiles limits the files of other versions that one call removes: that
	// takes 0.4 ms.
	sweepFiles = 64
)

// housekeep does the work that is due after the cache grew to sum bytes. It
// evicts if the cache is over its limit, and lists at most one shard, or a part
// of it.
func (d *Disk) housekeep(ctx context.Context, sum int64, page *usagePage) {
	now := time.Now()
	if sum > d.limit() {
		d.makeRoom(ctx, sum, 0)
		if time.Since(now) > evictHard {
			return // the next call may list
		}
	}
	shard := page.due(rand.IntN(shardCount), now)
	if shard < 0 {
		return
	}
	e := &d.evictor
	select {
	case e.mu <- struct{}{}:
	default:
		return // another caller is listing
	}
	var err error
	defer func() { // after the lock is released
		if err != nil {
			d.log.Debug("cachetrip: store: shard not listed", "shard", shardName(shard), "error", err)
		}
	}()
	defer func() { <-e.mu }()
	switch {
	case e.survey.from != nil:
		shard = e.survey.shard
		err = d.continueSurvey(ctx)
	case now.After(e.survey.rest):
		err = d.beginSurvey(ctx, shard)
	default:
		return
	}
	if d.closed.Load() {
		e.survey.giveUp(0)
	}
	if e.survey.from != nil {
		return // the next call continues it
	}
	fileNow := d.fileNow()
	d.sweepTemps(fileNow)
	d.sweepVersions(fileNow)
}

// scan lists a shard under its lock and corrects its slot in the usage file. It
// removes the shard's leftovers if that is due.
func (d *Disk) scan(ctx context.Context, shard int) (*shardList, error) {
	l, err := d.lock(ctx, shard, lockWait)
	if err != nil {
		return nil, err
	}
	defer l.unlock()
	list, err := l.listSettled()
	if err != nil {
		return nil, err
	}
	var page usagePage
	if err := d.readUsage(&page); err != nil {
		return nil, err
	}
	now := time.Now()
	l.sweepDrafts(list)
	s := page.slot(shard)
	due := !s.known || page.dueShard(shard, now)
	if due {
		l.sweep(list, d.fileNow(), sweepKeys)
		s.listed = uint32(now.Unix() / 60)
	}
	if !due && s.bytes == list.bytes {
		return list, nil
	}
	s.bytes = list.bytes
	return list, l.setSlot(s, &page)
}

// sweepDrafts removes the drafts of processes that were killed.
func (l *locked) sweepDrafts(list *shardList) {
	dir := l.d.shardDir(l.shard)
	list.other = slices.DeleteFunc(list.other, func(f fileInfo) bool {
		path := filepath.Join(dir, f.name)
		if !strings.HasSuffix(f.name, tempSuffix) || !abandoned(path) || os.Remove(path) != nil {
			return false
		}
		list.bytes -= f.size
		return true
	})
}

// sweep removes the leftovers of the locked shard: bodies that no entry names,
// drafts of which nobody can know whether their process lives, and files that
// do not belong there. It reads at most budget keys to find bodies, and returns
// how many it may still read.
func (l *locked) sweep(list *shardList, now int64, budget int) int {
	for _, f := range list.other {
		l.sweepFile(list, f, now)
	}
	start := rand.IntN(len(list.keys) + 1) // so that every key gets its turn in time
	for i := range list.keys {
		k := list.keys[(start+i)%len(list.keys)]
		if !hasLeftover(k.blobs, now) {
			continue
		}
		if budget == 0 {
			break
		}
		budget--
		l.sweepBodies(list, k, now)
	}
	return budget
}

// sweepBodies removes the old bodies of a key that none of its entries names.
func (l *locked) sweepBodies(list *shardList, k *keyFiles, now int64) {
	st, _, err := l.d.load(k.key) // it may exist by now, even if it was not listed
	if err != nil {
		return
	}
	named := fileBlobs(st.entries)
	k.blobs = slices.DeleteFunc(k.blobs, func(f fileInfo) bool {
		if named[f.name[keyLen+1:]] || !isOld(now, f.mtime, leftAfter) {
			return false
		}
		l.sweepFile(list, f, now)
		return true
	})
}

// sweepFile removes a file of the locked shard if it is old.
func (l *locked) sweepFile(list *shardList, f fileInfo, now int64) {
	if isOld(now, f.mtime, leftAfter) && os.Remove(filepath.Join(l.d.shardDir(l.shard), f.name)) == nil {
		list.bytes -= f.size
	}
}

// hasLeftover reports whether one of the files is old enough to be a leftover.
func hasLeftover(files []fileInfo, now int64) bool {
	return slices.ContainsFunc(files, func(f fileInfo) bool { return isOld(now, f.mtime, leftAfter) })
}

// sweepTemps removes old temporary files that belong to no shard. They lie in a
// directory of their own and are not counted: each has a few kilobytes and
// exists for some microseconds.
func (d *Disk) sweepTemps(now int64) {
	names, err := readNames(d.tmp)
	if err != nil || checkDirs(d.root, d.tmp) != nil {
		return
	}
	var st fileStat
	for _, name := range names[:min(len(names), 4*sweepKeys)] {
		path := filepath.Join(d.tmp, name)
		if statFile(path, &st) == nil && st.regular && isOld(now, st.mtime, leftAfter) {
			os.Remove(path)
		}
	}
}

// sweepVersions removes what versions of the format have left in the cache
// directory that nobody has used for unusedAfter. A version may be older or
// newer than this one.
//
// All versions agree on this: the file "usage" begins with usageMagic. A
// process that uses a version keeps a shared lock on that file, and sets its
// modification time at least once a day. A process that removes files of
// another version holds an exclusive lock on the file meanwhile. A version that
// loses a file all the same loses no more than a hit.
func (d *Disk) sweepVersions(now int64) {
	names, err := readNames(d.dir)
	if err != nil {
		return
	}
	budget := sweepFiles
	for _, name := range names {
		if name == filepath.Base(d.root) || len(name) < 2 || name[0] != 'v' || strings.Trim(name[1:], "0123456789") != "" {
			continue
		}
		root := filepath.Join(d.dir, name)
		usage := openUnused(root, now)
		if usage == nil {
			continue
		}
		empty := d.sweepTree(root, now, &budget)
		usage.Close() // Windows does not remove an open file
		if empty {
			os.Remove(filepath.Join(root, "usage"))
			os.Remove(root)
		}
	}
}

// openUnused returns the usage file of a version, with an exclusive lock. It
// returns nil if the version is in use, or if root is no version of this
// package's format.
func openUnused(root string, now int64) *os.File {
	fi, err := os.Lstat(root)
	if err != nil || !fi.IsDir() {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(root, "usage"), os.O_RDONLY|nofollow, 0)
	if err != nil {
		return nil
	}
	var magic [len(usageMagic)]byte
	_, err = f.ReadAt(magic[:], 0)
	if err != nil || string(magic[:]) != usageMagic || !lockAll(f) {
		f.Close()
		return nil
	}
	if fi, err = f.Stat(); err != nil || !isOld(now, fi.ModTime().UnixNano(), unusedAfter) {
		f.Close()
		return nil
	}
	return f
}

// sweepTree removes old files below dir, except a file "usage" in it, until the
// budget of files is spent. It reports whether nothing else is left.
func (d *Disk) sweepTree(dir string, now int64, budget *int) bool {
	names, err := readNames(dir)
	if err != nil {
		return false
	}
	empty := true
	for _, name := range names {
		path := filepath.Join(dir, name)
		fi, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil || *budget <= 0:
			return false
		case fi.IsDir():
			if !d.sweepTree(path, now, budget) || os.Remove(path) != nil {
				empty = false
			}
			continue
		case name == "usage":
			continue
		}
		var st fileStat
		if statFile(path, &st) != nil || !isOld(now, max(st.mtime, st.atime), leftAfter) {
			empty = false
			continue
		}
		*budget--
		if os.Remove(path) != nil {
			empty = false
		}
	}
	return empty
}
