package store

import (
	"errors"
	"io"
	"slices"
	"time"
)

// This file makes the changes that need no lock of the shard.

// attempt is what a change made of some entries before the lock was taken.
type attempt struct {
	from, to []*Entry // from is empty if the change was not tried
}

// of returns change, which is not called again for the same entries.
func (a *attempt) of(change func([]*Entry) []*Entry) func([]*Entry) []*Entry {
	if len(a.from) == 0 {
		return change
	}
	return func(entries []*Entry) []*Entry {
		if slices.Equal(entries, a.from) {
			return slices.Clone(a.to)
		}
		return change(entries)
	}
}

// Freshen is Update for a change that only updates headers and times of stored
// responses, as a 304 does. It appends to one file, and takes no lock. It
// reports false if only Update can make the change. Then it has changed
// nothing, but may have called change.
//
// It works only where changes are counted, which is never so on network file
// systems. These may hang, and the caller of Freshen waits for it.
func (d *Disk) Freshen(key string, change func([]*Entry) []*Entry) (done bool) {
	if d.closed.Load() || d.counts.value(counterOf(key), time.Now().UnixNano()) == 0 {
		return false
	}
	var tried attempt
	return d.updateUnlocked(key, change, &tried)
}

// updateUnlocked is Update for a change that only freshens entries of a key in
// the memory tier. It reports false if the change needs the lock, or if another
// change came between.
func (d *Disk) updateUnlocked(key string, change func([]*Entry) []*Entry, tried *attempt) bool {
	it := d.tier.get(key)
	if it == nil || it.damaged {
		return false
	}
	if same, err := d.unchanged(it, time.Now().UnixNano()); !same || err != nil {
		return false // so that change gets what is stored
	}
	tried.from, tried.to = it.entries, change(slices.Clone(it.entries))
	next, err := Arrange(key, it.entries, tried.to)
	if err != nil {
		return false
	}
	fresh := freshenings(it.entries, next)
	return len(fresh) > 0 && d.freshen(it, next, fresh)
}

// freshen appends a freshened record to the file of an item. It reports false
// if that needs the lock: the cache has no room for another block, or the file
// must be written anew.
func (d *Disk) freshen(it *tierItem, next []*Entry, fresh []replacement) bool {
	buf := encodePool.Get().(*encodeBuffers)
	defer buf.free()
	payload, err := buf.encodeFresh(it.tip, fresh)
	if err != nil {
		return false
	}
	buf.file = appendRecord(buf.file[:0], recordFresh, payload)
	size := it.size + int64(len(buf.file))
	if size-it.live > it.live+compactSlack || it.live+int64(len(payload)) > d.maxKey() {
		return false
	}
	now, shard := time.Now().UnixNano(), shardOf(it.key)
	dir := d.standing(shard, now)
	if dir == nil {
		return false
	}
	defer dir.release()
	grows := allocated(size) - allocated(it.size)
	if grows > 0 && !d.reserveUnlocked(shard, grows) {
		return false
	}
	var file written
	alone, err := dir.appendUnlocked(it, buf.file, &file)
	if err != nil || !alone {
		if grows > 0 && file.stat.size == 0 && !errors.Is(err, io.ErrShortWrite) {
			d.counts.grow(shard, -grows) // nothing was written
		}
		return false
	}
	if !file.exact && file.count == 0 {
		d.tier.remove(it.key)
		return true
	}
	tip := idOf(buf.file, 0)
	tip.at = uint32(it.size)
	made := newItem(it.key, next, it.entries, it.live, tip, &file)
	if made.unstamped() {
		made.looked.Store(it.looked.Load()) // the file was not looked at now
		made.seen = 0                       // if the number of the file is not known, it is read again then
		d.touch(made, now)
	}
	d.tier.put(made)
	return true
}
