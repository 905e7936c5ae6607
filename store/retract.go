package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// What an Update supersedes must not be used any more even if the Update cannot be written: on a full disk an entry
// that was just invalidated would go on being fresh. To remove a file needs no space, so then the file of the key goes,
// with the other variants in it; and if not even that is possible, this Disk at least does not look at it any more.

// maxUnusable bounds how many keys are remembered as not to be used: 4096 take less than a megabyte.
const maxUnusable = 4096

// unusableFiles remembers files of keys that could be neither changed nor removed.
type unusableFiles struct {
	any   atomic.Bool
	mu    sync.Mutex
	files map[string]fileStat
	until int64 // what was changed before is not to be used, whatever its key; for when files is full
}

// add notes that the file of a key is not to be used as long as it is as st says.
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

// has reports whether the file of a key, which is as st says, is not to be used.
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

// superseded reports whether current has an entry that is not to be used any more if next takes its place. One that was
// merely freshened is not.
func superseded(current, next []*Entry) bool {
	return slices.ContainsFunc(current, func(e *Entry) bool {
		return !slices.ContainsFunc(next, func(n *Entry) bool {
			return n == e || n != nil && len(e.Parts) > 0 && (n.InvalidatedAt.IsZero() || n.InvalidatedAt.Equal(e.InvalidatedAt)) &&
				slices.EqualFunc(n.Parts, e.Parts, func(a, b Part) bool {
					return a.Blob.ID == b.Blob.ID && a.Offset == b.Offset && a.Length == b.Length && a.Skip == b.Skip
				})
		})
	})
}

// retract removes what change supersedes under key, after it could not be written.
func (d *Disk) retract(ctx context.Context, key string, change func([]*Entry) []*Entry) {
	var page usagePage
	// If the lock is not to be had either, the file goes all the same: whoever is writing to it only loses that.
	l, lerr := d.lock(ctx, shardOf(key), lockRetry)
	if lerr == nil {
		defer l.unlock()
	}
	if d.closed.Load() {
		return
	}
	st, it, err := d.load(key)
	if err != nil || len(st.entries) == 0 || !superseded(st.entries, change(slices.Clone(st.entries))) {
		return
	}
	d.tier.remove(key)
	if err = d.checkShard(shardOf(key)); err == nil {
		err = removeFile(it.path)
	}
	switch {
	case err != nil:
		d.unusable.add(key, &it.stat)
	case lerr == nil:
		l.account(-allocated(st.size), &page)
	}
	d.log.Debug("cachetrip: store: removed what could not be changed", "key", key, "error", err)
}

// unwritten reports whether an Update failed at err for want of means to write, and not because of what it was to write.
func unwritten(err error) bool {
	var full *fullError
	return errno(err) != 0 || errors.Is(err, errLocked) || errors.As(err, &full)
}
