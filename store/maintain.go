package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Usage is how much a [Disk] holds.
type Usage struct {
	Keys   int   // one per URL and identity, and one per note; [Disk.All] returns the entries of each
	Bodies int   // bodies in files of their own
	Bytes  int64 // of all files, each rounded up to blocks of 4 KiB, staged ones included
}

// Usage counts the content of the cache. It lists all files, which takes some
// microseconds each. The error joins those of all parts that could not be
// listed; the others are counted.
func (d *Disk) Usage(ctx context.Context) (Usage, error) {
	var u Usage
	var failed []error
	for shard := range shardCount {
		if err := d.begin(ctx); err != nil {
			return u, err
		}
		list, err := d.listShard(shard)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		u.Bytes += list.bytes
		for _, k := range list.keys {
			if k.hasEntries {
				u.Keys++
			}
			u.Bodies += len(k.blobs)
		}
	}
	return u, errors.Join(failed...)
}

// Report is the result of [Disk.Verify].
type Report struct {
	Entries int   // intact entries of responses, with intact bodies
	Bytes   int64 // bytes of bodies that were read
	Damaged int   // keys with damage, which was removed
}

// Verify reads the whole cache and compares it with its checksums, including
// bodies that were verified before. It removes damaged entries and bodies,
// unless the directory cannot be written to. Verify does not count as use. The
// error joins those of everything that could not be read, or not be removed in
// time; the rest is verified.
func (d *Disk) Verify(ctx context.Context) (Report, error) {
	var r Report
	var failed []error
	for shard := range shardCount {
		keys, err := d.keys(shard, "")
		if err != nil {
			failed = append(failed, err)
		}
		for _, key := range keys {
			err := d.verifyKey(ctx, key, &r)
			if ended := d.begin(ctx); ended != nil {
				return r, ended
			}
			if err != nil {
				failed = append(failed, err)
			}
		}
		if err := d.begin(ctx); err != nil {
			return r, err
		}
	}
	return r, errors.Join(failed...)
}

// verifyTries is how often a key is verified again because its bodies were
// replaced while they were read.
const verifyTries = 5

func (d *Disk) verifyKey(ctx context.Context, key string, r *Report) error {
	damaged := false
	for try := 1; ; try++ {
		st, err := d.loadExact(ctx, key)
		if err != nil {
			return err
		}
		damaged = damaged || st.damaged
		good, wrong, missing, err := d.verifyBodies(ctx, key, st.entries, r)
		if err != nil {
			return err
		}
		damaged = damaged || wrong
		if len(missing) > 0 {
			// A body is removed after the entries that name it. An entry that
			// still names it has lost it.
			lost, err := d.dropNaming(ctx, key, missing)
			if err != nil {
				return err
			}
			damaged = damaged || lost
			if !lost && try < verifyTries {
				continue
			}
		}
		r.Entries += good
		if damaged {
			r.Damaged++
		}
		return nil
	}
}

// loadExact is load, but makes sure that a damaged file is not just being
// written. It removes the damage.
func (d *Disk) loadExact(ctx context.Context, key string) (keyState, error) {
	st, _, err := d.load(key)
	if err != nil || !st.damaged {
		return st, err
	}
	st, unwritten, err := d.removeDamage(ctx, key, st)
	if err == nil {
		err = d.mayRead(ctx, unwritten)
	}
	return st, err
}

// removeDamage removes the damage from the file of a key, which had the content
// st. It returns what the file has now. The error unwritten does not prevent
// reading it.
func (d *Disk) removeDamage(ctx context.Context, key string, st keyState) (now keyState, unwritten, err error) {
	l, err := d.lock(ctx, shardOf(key), lockPatience)
	if err != nil {
		return st, err, nil
	}
	defer l.unlock()
	if now, _, err = l.load(key); err != nil || !now.damaged {
		return now, nil, err
	}
	var page usagePage
	_, unwritten = l.write(key, now, now.entries, &page, anyRoom)
	return now, unwritten, nil
}

// mayRead returns err only if it also prevents reading. An error of writing
// does not.
func (d *Disk) mayRead(ctx context.Context, err error) error {
	if err == nil || d.begin(ctx) != nil {
		return err
	}
	d.log.Debug("cachetrip: store: damage not removed", "error", err)
	return nil
}

// verifyBodies reads the bodies that entries name, and removes damaged ones. It
// returns the number of intact entries, whether a body was damaged, and the
// bodies that do not exist.
func (d *Disk) verifyBodies(ctx context.Context, key string, entries []*Entry, r *Report) (good int, wrong bool, missing map[string]bool, err error) {
	bad := make(map[string]bool)
	checked := make(map[string]bool)
	missing = make(map[string]bool)
	for _, e := range entries {
		ok := true
		for _, p := range e.Parts {
			id := p.Blob.ID
			if p.Blob.Inline == nil && !checked[id] {
				checked[id] = true
				n, err := d.verifyBody(ctx, key, p.Blob, named(entries, id))
				r.Bytes += n
				switch {
				case errors.Is(err, fs.ErrNotExist):
					missing[id] = true
				case errors.Is(err, ErrDamaged):
					bad[id] = true
				case err != nil:
					return 0, false, nil, err
				}
			}
			ok = ok && !bad[id] && !missing[id]
		}
		if ok && !e.IsNote() {
			good++
		}
	}
	if len(bad) > 0 {
		if _, err := d.dropNaming(ctx, key, bad); err != nil {
			return 0, false, nil, err
		}
	}
	return good, len(bad) > 0, missing, nil
}

// dropNaming removes the entries under key that name one of the bodies. It
// reports whether there were any.
func (d *Disk) dropNaming(ctx context.Context, key string, ids map[string]bool) (dropped bool, err error) {
	drop := func(entries []*Entry) []*Entry {
		before := len(entries)
		entries = slices.DeleteFunc(entries, func(e *Entry) bool {
			return slices.ContainsFunc(e.Parts, func(p Part) bool { return p.Blob.Inline == nil && ids[p.Blob.ID] })
		})
		dropped = len(entries) < before
		return entries
	}
	if err = d.Update(ctx, key, drop); err != nil {
		if err = d.mayRead(ctx, err); err == nil {
			var st keyState
			if st, _, err = d.load(key); err == nil {
				drop(st.entries)
			}
		}
	}
	return dropped, err
}

// named returns the position behind the last byte of a body that entries name.
// Bytes after it may have come since a checkpoint, and have no checksum.
func named(entries []*Entry, id string) (end int64) {
	for _, e := range entries {
		for _, p := range e.Parts {
			if p.Blob.ID == id {
				end = max(end, p.Skip+p.Length)
			}
		}
	}
	return end
}

// verifyBody reads a body in a file of its own, up to end. The error is
// ErrDamaged if the body is damaged, and fs.ErrNotExist if it does not exist.
func (d *Disk) verifyBody(ctx context.Context, key string, blob Blob, end int64) (n int64, err error) {
	id, ok := parseBlobID(blob.ID)
	if !ok {
		return 0, ErrDamaged
	}
	d.verified.forget(blob.ID)
	body, err := d.openFile(key, id, blob)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	buf := writePool.Get().(*[writeSize]byte)
	defer writePool.Put(buf)
	for n < end {
		if err := d.begin(ctx); err != nil {
			return n, err
		}
		m, err := body.ReadAt(buf[:min(writeSize, end-n)], n)
		n += int64(m)
		if err != nil && n < end {
			return n, err
		}
	}
	return n, nil
}

// LastUse returns the recorded time of the last use of key. The real last use
// may be up to an hour later. LastUse returns zero if nothing is stored.
func (d *Disk) LastUse(key string) time.Time {
	var st fileStat
	if CheckKey(key) != nil || statFile(d.path(key), &st) != nil {
		return time.Time{}
	}
	return time.Unix(0, st.atime)
}

// evictKeys is after how many keys EvictTo lets requests evict that wait for
// it.
const evictKeys = 32

// EvictTo evicts the responses that were not used for longest until the cache
// has at most maxBytes bytes, however long that takes. It does not evict
// drafts. If drafts and files that cannot be removed have more than maxBytes,
// it evicts the rest and returns the error of the removal, or ErrTooLarge.
//
// A power cut can leave the recorded size too small. So EvictTo looks at all
// files in the end, and evicts again if they take more.
func (d *Disk) EvictTo(ctx context.Context, maxBytes int64) error {
	maxBytes = max(maxBytes, 0)
	for counted := false; ; {
		if err := d.begin(ctx); err != nil {
			return err
		}
		select {
		case d.evictor.mu <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		done, err := d.evict(ctx, evictLimits{target: maxBytes, keys: evictKeys})
		<-d.evictor.mu
		switch {
		case done.size <= maxBytes && err == nil && counted:
			return nil
		case done.size <= maxBytes && err == nil:
			counted = true
			for shard := range shardCount {
				if isMissing(d.shardDir(shard)) {
					continue // locking the shard would make its directory
				}
				d.scan(ctx, shard) // if that fails, what is recorded counts
				if err := ctx.Err(); err != nil {
					return err // the scan may have succeeded
				}
			}
		case done.keys < evictKeys && err == nil:
			return opError("evict", ErrTooLarge)
		case done.keys < evictKeys:
			return err
		}
	}
}

// Purge removes the entries that match, among those whose key begins with
// prefix, and returns how many it removed. match must be quick, because a lock
// may be held. The error joins those of everything that could not be read or
// changed; the rest is purged.
func (d *Disk) Purge(ctx context.Context, prefix string, match func(*Entry) bool) (removed int, err error) {
	var last string
	var failed []error
	for e, err := range d.All(ctx, prefix) {
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if e.Key == last || !match(e) {
			continue
		}
		last = e.Key
		n := 0
		err := d.Update(ctx, e.Key, func(entries []*Entry) []*Entry {
			before := len(entries)
			entries = slices.DeleteFunc(entries, match)
			n = before - len(entries)
			return entries
		})
		if err != nil {
			failed = append(failed, err)
			continue
		}
		removed += n
	}
	return removed, errors.Join(failed...)
}

// Clear removes everything except drafts, the directories and the secret. The
// error joins those of everything that could not be removed; the rest is
// removed.
func (d *Disk) Clear(ctx context.Context) error {
	var failed []error
	for shard := range shardCount {
		if err := d.begin(ctx); err != nil {
			return err
		}
		if err := retryBusy(func() error { return d.clearShard(ctx, shard) }); err != nil {
			failed = append(failed, err)
		}
	}
	d.sweepTemps(d.fileNow())
	return errors.Join(failed...)
}

func (d *Disk) clearShard(ctx context.Context, shard int) error {
	dir := d.shardDir(shard)
	names, err := d.shardNames(shard)
	if err != nil || len(names) == 0 {
		return opError("clear", err)
	}
	l, err := d.lock(ctx, shard, lockPatience)
	if err != nil {
		return err
	}
	defer l.unlock()
	if names, err = d.shardNames(shard); err != nil { // again, now that nobody adds files
		return opError("clear", err)
	}
	var first error
	for _, name := range names {
		if strings.HasSuffix(name, tempSuffix) {
			continue // it may be in use; if not, a sweep removes it
		}
		if len(name) == keyLen {
			d.tier.remove(name)
		}
		if err := l.remove(name); err != nil && first == nil {
			if fi, lerr := os.Lstat(filepath.Join(dir, name)); lerr == nil && !fi.IsDir() {
				first = err
			}
		}
	}
	list, err := l.listSettled()
	if err != nil {
		return err
	}
	var page usagePage
	if err := d.readUsage(&page); err != nil {
		return err
	}
	s := page.slot(shard)
	s.bytes = list.bytes
	if err := l.setSlot(s, &page); first == nil {
		first = err
	}
	return opError("clear", first)
}
