package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// An entry that an Update replaces must not be used again, even if the Update
// cannot be written. Otherwise, on a full disk, an invalidated entry would stay
// fresh. Removing a file needs no space. The Disk therefore removes the file of
// the key, with the other variants in it. If that is not possible either, at
// least this Disk ignores the file.

// maxUnusable limits the files that are remembered: 4096 take less than a
// megabyte.
const maxUnusable = 4096

// unusableFiles remembers the files of keys that could be neither changed nor
// removed.
type unusableFiles struct {
	any   atomic.Bool
	mu    sync.Mutex
	files map[string]fileStat
	until int64 // files that were changed before are unusable, whatever their key; set when files was full
}

// add notes that the file of a key is unusable as long as its properties are
// st.
func (s *unusableFiles) add(key string, st *fileStat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == nil {
		s.files = make(map[string]fileStat)
	}
	if len(s.files) == maxUnusable {
		clear(s.files)
		s.until = time.Now().UnixNano()
	}
	s.files[key] = *st
	s.any.Store(true)
}

// has reports whether the file of a key, whose properties are st, is unusable.
func (s *unusableFiles) has(key string, st *fileStat) bool {
	if !s.any.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.mtime < s.until {
		return true
	}
	old, ok := s.files[key]
	if ok && !st.same(&old) {
		delete(s.files, key)
		return false
	}
	return ok
}

// superseded reports whether current has an entry that must not be used any
// more if next takes its place. An entry that was merely freshened may still be
// used.
func superseded(current, next []*Entry) bool {
	return slices.ContainsFunc(current, func(e *Entry) bool {
		return !slices.ContainsFunc(next, func(n *Entry) bool {
			return n == e || n != nil && len(e.Parts) > 0 && (n.InvalidatedAt.IsZero() || n.InvalidatedAt.Equal(e.InvalidatedAt)) &&
				slices.EqualFunc(n.Parts, e.Parts, samePart)
		})
	})
}

// retract removes the entries that change replaces under key, after the change
// could not be written.
func (d *Disk) retract(ctx context.Context, key string, change func([]*Entry) []*Entry) {
	var left fileStat
	err := retryBusy(func() (err error) {
		left, err = d.tryRetract(ctx, key, change)
		return err
	})
	if err != nil {
		d.unusable.add(key, &left)
	}
}

// tryRetract is retract, but only returns the properties of a file that it
// cannot remove.
func (d *Disk) tryRetract(ctx context.Context, key string, change func([]*Entry) []*Entry) (left fileStat, err error) {
	var page usagePage
	// The file is removed even without the lock. A caller that is writing to it
	// begins again, or loses its change.
	l, lerr := d.lock(ctx, shardOf(key), lockRetry)
	tried := false
	defer func() { // after the lock is released
		if tried {
			d.log.Debug("cachetrip: store: removed what could not be changed", "key", key, "error", err)
		}
	}()
	if lerr == nil {
		defer l.unlock()
	}
	if d.closed.Load() {
		return left, nil
	}
	st, it, err := d.load(key)
	if err != nil || len(st.entries) == 0 || !superseded(st.entries, change(slices.Clone(st.entries))) {
		return left, nil
	}
	tried = true
	d.tier.remove(key)
	if err = d.checkShard(shardOf(key)); err == nil {
		err = d.removeKey(key)
	}
	if err == nil && lerr == nil {
		l.account(-allocated(st.size), &page)
	}
	return it.stat, err
}

// removeKey removes the file of a key. The caller may or may not hold the lock.
func (d *Disk) removeKey(key string) error {
	dir, err := d.openShard(shardOf(key), time.Now().UnixNano())
	if err != nil {
		return removed(err)
	}
	defer dir.release()
	return removed(dir.remove(key))
}

// unwritten reports whether an Update failed because it could not write, and
// not because of the entries that it was to write.
func unwritten(err error) bool {
	var full *fullError
	return errno(err) != 0 || errors.Is(err, errLocked) || errors.As(err, &full)
}
