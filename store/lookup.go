package store

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"time"
)

// This file reads the entries of keys.

// discardWait limits how long a request waits while damage that it found is removed.
const discardWait = 20 * time.Millisecond

// Entries implements [Store]. It leaves damaged entries out.
func (d *Disk) Entries(ctx context.Context, key string) ([]*Entry, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	it := d.tier.get(key)
	if it != nil {
		var st fileStat
		now := time.Now().UnixNano()
		err := d.statKey(it, &st, now)
		if err == nil && it.holds(&st) && !d.unusable.has(key, &st) {
			d.touch(it, now)
			return slices.Clone(it.entries), nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			d.tier.remove(key)
			return nil, nil
		}
	}
	st, it, err := d.load(key)
	if err != nil {
		return nil, err
	}
	if st.damaged {
		st, it = d.discardDamage(ctx, key, st, it)
	}
	if len(st.entries) == 0 {
		d.tier.remove(key)
		return nil, nil
	}
	d.touch(it, time.Now().UnixNano())
	if d.tier.max > 0 {
		d.tier.put(it)
	}
	return slices.Clone(st.entries), nil
}

// touch records the use of a key, if the recorded use is old, and of the cache.
func (d *Disk) touch(it *tierItem, now int64) {
	d.noteInUse(now)
	used := it.used.Load()
	age := now - used
	// A use in the future was recorded by a clock that was set back since.
	if age < d.touchAfter.Load() && age > -int64(time.Minute) || !it.used.CompareAndSwap(used, now) {
		return
	}
	var err error
	shard := shardOf(it.key)
	if dir := d.standing(shard, now); dir != nil {
		dir.release()
	} else {
		err = d.checkShard(shard)
	}
	if err == nil {
		err = setUsed(it.path, now)
	}
	if err != nil {
		d.log.Debug("cachetrip: store: use time not recorded", "key", it.key, "error", err)
	}
}

// load reads the file of a key. It needs no lock. A file that does not exist is no
// error. The item is what the memory tier may keep.
func (d *Disk) load(key string) (keyState, *tierItem, error) {
	it := &tierItem{key: key, path: d.path(key), seen: time.Now().UnixNano()}
	b, err := d.readFrom(shardOf(key), key, maxKeyFile, &it.stat, nil, it.seen)
	return d.decode(it, b, err)
}

// load is [Disk.load] for a caller that holds the lock of the shard.
func (l *locked) load(key string) (keyState, *tierItem, error) {
	it := &tierItem{key: key, path: l.d.path(key), seen: time.Now().UnixNano()}
	b, err := l.dir.read(key, maxKeyFile, &it.stat, nil)
	return l.d.decode(it, b, err)
}

// decode returns the results of load. b and err are those of reading the file.
func (d *Disk) decode(it *tierItem, b []byte, err error) (keyState, *tierItem, error) {
	key := it.key
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(err, new(noDirError)):
		return keyState{}, it, nil
	case isUnreadable(it.path, err):
		st := keyState{damaged: true}
		if !it.stat.regular {
			statFile(it.path, &it.stat) // it was not opened
		}
		if it.stat.regular {
			st.size = it.stat.size
		}
		return st, it, nil
	case err != nil:
		return keyState{}, nil, opError("read entries", err)
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

// isUnreadable reports whether reading failed because of the file itself: it is damaged,
// another user has made it, or something that is not a regular file stands in its place.
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
// damaged entries. It does so only if that is possible at once. It returns what the
// file has now: another caller may have written it since.
func (d *Disk) discardDamage(ctx context.Context, key string, st keyState, it *tierItem) (keyState, *tierItem) {
	ctx, cancel := context.WithTimeout(ctx, discardWait)
	defer cancel()
	var page usagePage
	l, err := d.lock(ctx, shardOf(key), lockWait)
	if err == nil {
		defer l.unlock()
		var now keyState
		var found *tierItem
		if now, found, err = l.load(key); err == nil {
			if st, it = now, found; !st.damaged {
				return st, it
			}
			_, err = l.write(key, st, st.entries, &page, anyRoom)
		}
	}
	d.log.Debug("cachetrip: store: damaged entries discarded", "key", key, "error", err)
	return st, it
}

// discardBlob removes the entries that name a damaged blob. It does so only if that
// is possible at once.
func (d *Disk) discardBlob(key, id string) {
	ctx, cancel := context.WithTimeout(context.Background(), discardWait)
	defer cancel()
	err := d.Update(ctx, key, func(entries []*Entry) []*Entry {
		return slices.DeleteFunc(entries, func(e *Entry) bool { return names(e, id) })
	})
	d.log.Debug("cachetrip: store: damaged body discarded", "key", key, "blob", id, "error", err)
}

// names reports whether a part of e names the blob.
func names(e *Entry, id string) bool {
	return slices.ContainsFunc(e.Parts, func(p Part) bool { return p.Blob.ID == id })
}

// All implements [Store]. If something cannot be read, All still returns the rest;
// the error comes last and joins all that failed.
func (d *Disk) All(ctx context.Context, prefix string) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		err := checkPrefix(prefix)
		if err == nil {
			err = d.begin(ctx)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		var failed []error
		for shard := range shardCount {
			if name := shardName(shard); !strings.HasPrefix(name, prefix) && !strings.HasPrefix(prefix, name) {
				continue
			}
			keys, err := d.keys(shard, prefix)
			if err != nil {
				failed = append(failed, err)
			}
			for _, key := range keys {
				if err := d.begin(ctx); err != nil {
					yield(nil, err)
					return
				}
				st, _, err := d.load(key)
				if err != nil {
					failed = append(failed, err)
				}
				for _, e := range st.entries {
					if !yield(e, nil) {
						return
					}
				}
			}
		}
		if err := errors.Join(failed...); err != nil {
			yield(nil, err)
		}
	}
}

// keys lists the keys of a shard that begin with prefix.
func (d *Disk) keys(shard int, prefix string) ([]string, error) {
	names, err := d.shardNames(shard)
	if err != nil {
		return nil, opError("list", err)
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return !strings.HasPrefix(name, prefix) || len(name) != keyLen || !isHex(name) || shardOf(name) != shard
	}), nil
}
