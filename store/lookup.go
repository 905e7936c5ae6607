package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"
)

// This file reads the entries of keys.

// discardWait is how long a request that found damage waits for the lock under
// which it removes that. It is no time limit of a context: a process that was
// stopped for as long still removes the damage if the lock is free.
const discardWait = 20 * time.Millisecond

// Entries implements [Store]. It leaves damaged entries out.
func (d *Disk) Entries(ctx context.Context, key string) ([]*Entry, error) {
	return d.AppendEntries(ctx, nil, key)
}

// AppendEntries appends the result of Entries to dst. So a look-up need not
// allocate anything.
func (d *Disk) AppendEntries(ctx context.Context, dst []*Entry, key string) ([]*Entry, error) {
	if err := d.begin(ctx); err != nil {
		return dst, err
	}
	it, now := d.tier.get(key), time.Now().UnixNano()
	if it == nil {
		if err := CheckKey(key); err != nil { // the tier has only keys that were checked
			return dst, err
		}
		if d.absent.recently(key, d.counts.known(counterOf(key), now), now) {
			return dst, nil
		}
	} else {
		same, err := d.unchanged(it, now)
		if same {
			d.touch(it, now)
			return append(dst, it.entries...), nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			d.tier.remove(key)
			return dst, nil
		}
	}
	st, it, err := d.loadFor(key, now, d.touchAge(now))
	if err != nil {
		return dst, err
	}
	if st.damaged {
		st, it = d.discardDamage(ctx, key, st, it)
	}
	if len(st.entries) == 0 {
		d.tier.remove(key)
		if st.size == 0 && !st.damaged {
			d.absent.add(key, it.count.Load(), it.seen)
		}
		return dst, nil
	}
	d.touch(it, now)
	if d.tier.max > 0 {
		d.tier.offer(it)
	}
	return append(dst, st.entries...), nil
}

// lookEvery is how long counters are believed, as to the file of a key.
const lookEvery = checkDirsEvery

// unchanged reports whether the file of an item's key still has the content of
// the item. It asks the system only if the counter of the key has changed, or
// from time to time.
func (d *Disk) unchanged(it *tierItem, now int64) (bool, error) {
	count := d.counts.value(it.counter, now)
	if count != 0 && count == it.count.Load() && recent(it.looked.Load(), now) && !d.unusable.any.Load() {
		return true, nil
	}
	var st fileStat
	if err := d.statKey(it, &st, now); err != nil || !it.holds(&st, count) || d.unusable.has(it.key, &st) {
		return false, err
	}
	it.trust(count, now)
	return true, nil
}

// unreadItem returns an item for a file that is about to be read. now may be a
// little earlier.
func (d *Disk) unreadItem(key string, now int64) *tierItem {
	it := &tierItem{key: key, seen: now, counter: counterOf(key)}
	it.trust(d.counts.known(it.counter, now), now)
	return it
}

// touch records the use of a key, if the recorded use is old, and of the cache.
func (d *Disk) touch(it *tierItem, now int64) {
	d.noteInUse(now)
	used := it.used.Load()
	age := now - used
	// A use in the future was recorded by a clock that was set back since.
	if age < d.touchAge(now) && age > -int64(time.Minute) || !it.used.CompareAndSwap(used, now) {
		return
	}
	err := d.fromShard(shardOf(it.key), now, func(dir *shardDir) error { return dir.setUsed(it.key, now) })
	if err != nil {
		d.log.Debug("cachetrip: store: use time not recorded", "key", it.key, "error", err)
	}
}

// load reads the file of a key. It needs no lock. A file that does not exist is
// no error. The item is what the memory tier may keep.
func (d *Disk) load(key string) (keyState, *tierItem, error) {
	return d.loadFor(key, time.Now().UnixNano(), 0)
}

// loadFor is load at the time now. If useAfter is not 0, it records a use of
// the key, where the system allows it and the recorded use is older than that;
// see touch.
func (d *Disk) loadFor(key string, now, useAfter int64) (keyState, *tierItem, error) {
	it := d.unreadItem(key, now)
	r := reading{max: maxKeyFile, now: now, useAfter: useAfter}
	b, err := d.readFrom(shardOf(key), key, &r)
	it.stat = r.fileStat
	return d.decode(it, b, err)
}

// load is [Disk.load] for a caller that holds the lock of the shard.
func (l *locked) load(key string) (keyState, *tierItem, error) { return l.d.loadIn(l.dir, key) }

// loadIn is load for a caller that has the directory of the shard open.
func (d *Disk) loadIn(dir *shardDir, key string) (keyState, *tierItem, error) {
	it := d.unreadItem(key, time.Now().UnixNano())
	r := reading{max: maxKeyFile}
	b, err := dir.read(key, &r)
	it.stat = r.fileStat
	return d.decode(it, b, err)
}

// decode returns the results of load. b and err are those of reading the file.
func (d *Disk) decode(it *tierItem, b []byte, err error) (keyState, *tierItem, error) {
	key := it.key
	if err != nil {
		return d.unread(it, err)
	}
	if d.unusable.has(key, &it.stat) {
		return keyState{damaged: true, size: it.stat.size}, it, nil
	}
	it.used.Store(it.stat.atime)
	it.keyState = decodeKeyFile(key, b)
	it.detach()
	it.bytes = it.memory()
	return it.keyState, it, nil
}

// unread returns the results of load for a file that was not read because of
// err.
func (d *Disk) unread(it *tierItem, err error) (keyState, *tierItem, error) {
	path := d.path(it.key)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(err, new(noDirError)):
		return keyState{}, it, nil
	case isUnreadable(path, err):
		st := keyState{damaged: true}
		if !it.stat.regular {
			statFile(path, &it.stat) // it was not opened
		}
		if it.stat.regular {
			st.size = it.stat.size
		}
		return st, it, nil
	}
	return keyState{}, nil, opError("read entries", err)
}

// isUnreadable reports whether reading failed because of the file itself: it is
// damaged, another user has made it, or something that is not a regular file
// stands in its place.
func isUnreadable(path string, err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, ErrDamaged) || isForeign(path, err) {
		return true
	}
	fi, lerr := os.Lstat(path)
	return lerr == nil && !fi.Mode().IsRegular()
}

// discardDamage writes the file of a key, which was found damaged, without the
// damaged entries. It does so only if that is possible at once. It returns what
// the file has now: another caller may have written it since.
func (d *Disk) discardDamage(ctx context.Context, key string, st keyState, it *tierItem) (keyState, *tierItem) {
	var page usagePage
	l, err := d.lock(ctx, shardOf(key), discardWait)
	defer func() { // after the lock is released
		if st.damaged {
			d.log.Debug("cachetrip: store: damaged entries discarded", "key", key, "error", err)
		}
	}()
	if err != nil {
		return st, it
	}
	defer l.unlock()
	now, found, err := l.load(key)
	if err != nil {
		return st, it
	}
	if st, it = now, found; st.damaged {
		_, err = l.write(key, st, st.entries, &page, anyRoom)
	}
	return st, it
}

// discardBlob removes the entries that name a damaged blob. It does so only if
// that is possible at once.
func (d *Disk) discardBlob(key, id string) {
	ctx := context.Background()
	drop := func(entries []*Entry) []*Entry {
		return slices.DeleteFunc(entries, func(e *Entry) bool { return names(e, id) })
	}
	err := retryBusy(func() error { return d.updateAtOnce(ctx, key, drop) })
	if unwritten(err) && !errors.Is(err, errLocked) {
		d.retract(ctx, key, drop)
	}
	d.log.Debug("cachetrip: store: damaged body discarded", "key", key, "blob", id, "error", err)
}

// updateAtOnce is Update for a caller that found damage. It waits no longer
// than discardWait for the lock, and makes no room.
func (d *Disk) updateAtOnce(ctx context.Context, key string, change func([]*Entry) []*Entry) error {
	l, err := d.lock(ctx, shardOf(key), discardWait)
	if err != nil {
		return err
	}
	defer l.unlock()
	st, err := l.current(key)
	if err != nil {
		return err
	}
	var page usagePage
	_, err = l.apply(key, st, change, &page, anyRoom)
	return err
}

// names reports whether a part of e names the blob.
func names(e *Entry, id string) bool {
	return slices.ContainsFunc(e.Parts, func(p Part) bool { return p.Blob.ID == id })
}
