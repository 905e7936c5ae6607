package store

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// absentKeys remembers which keys had no file when they were looked up: the
// last one of each shard. A key that is looked up is mostly stored next. It is
// only a hint.
type absentKeys [shardCount]absentKey

type absentKey struct {
	sum    atomic.Uint64 // of the key and the value of its counter
	looked atomic.Int64  // in nanoseconds since 1970
}

// add notes that a key has no file. count is the value that its counter had
// before the look-up, or 0 if that is not known. now is the time before the
// look-up.
func (a *absentKeys) add(key string, count uint64, now int64) {
	if count != 0 {
		a[shardOf(key)].looked.Store(now)
		a[shardOf(key)].sum.Store(shareID(key) ^ count)
	}
}

// has reports whether a key was found to have no file. count is the value of
// its counter now: if it has changed, there may be a file.
func (a *absentKeys) has(key string, count uint64) bool {
	return count != 0 && a[shardOf(key)].sum.Load() == shareID(key)^count
}

// recently is has, for a look-up at most lookEvery ago: others may have made a
// file since.
func (a *absentKeys) recently(key string, count uint64, now int64) bool {
	return a.has(key, count) && recent(a[shardOf(key)].looked.Load(), now)
}

// isAbsent reports whether a look-up found no file of a key, and the counter of
// the key tells that nobody has made one since.
func (d *Disk) isAbsent(key string) bool {
	return d.absent.has(key, d.counts.known(counterOf(key), time.Now().UnixNano()))
}

// updateAbsent is update for a key that isAbsent. It reports false, and has
// changed nothing, if that is not so after all, or if there is nothing to
// store. The path of the directory need not be checked for that; see trustDirs.
func (d *Disk) updateAbsent(ctx context.Context, key string, change func([]*Entry) []*Entry, page *usagePage, r room) (sum int64, err error, done bool) {
	l, err := d.lockWithin(ctx, shardOf(key), lockWait, trustDirs)
	if err != nil {
		return -1, err, true
	}
	defer l.unlock()
	if !l.alone || !d.isAbsent(key) {
		return -1, nil, false
	}
	var full *fullError
	sum, err = l.apply(key, keyState{assumed: true}, change, page, r)
	return sum, err, err == nil || errors.As(err, &full)
}
