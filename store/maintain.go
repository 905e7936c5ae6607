package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Usage is how much a [Disk] holds.
type Usage struct {
	Keys   int   // URLs, per identity
	Bodies int   // bodies in files of their own
	Bytes  int64 // of all files, each rounded up to blocks of 4 KiB, staged ones included
}

// Usage counts what the cache holds, by listing all of it: some microseconds for each file.
func (d *Disk) Usage(ctx context.Context) (Usage, error) {
	var u Usage
	for shard := range shardCount {
		if err := d.begin(ctx); err != nil {
			return u, err
		}
		list, err := d.listShard(shard)
		if err != nil {
			return u, err
		}
		u.Bytes += list.bytes
		for _, k := range list.keys {
			if k.heads {
				u.Keys++
			}
			u.Bodies += len(k.blobs)
		}
	}
	return u, nil
}

// Report is what [Disk.Verify] found.
type Report struct {
	Entries int   // entries that prove themselves, and their bodies with them
	Bytes   int64 // bytes of bodies that were read
	Damaged int   // keys of which something did not; it was removed
}

// Verify reads everything that the cache holds and compares it with its checksums, whether it was verified
// before or not. What is damaged is removed. It does not count as use.
func (d *Disk) Verify(ctx context.Context) (Report, error) {
	var r Report
	for shard := range shardCount {
		keys, err := d.keys(shard, "")
		if err != nil {
			return r, err
		}
		for _, key := range keys {
			if err := d.begin(ctx); err != nil {
				return r, err
			}
			if err := d.verifyKey(ctx, key, &r); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

func (d *Disk) verifyKey(ctx context.Context, key string, r *Report) error {
	st, _, err := d.load(key)
	if err != nil {
		return err
	}
	damaged := st.damaged
	if damaged {
		d.discardDamage(ctx, key)
	}
	bad := make(map[string]bool)
	for id := range fileBlobs(st.entries) {
		d.verified.forget(id)
	}
	checked := make(map[string]bool)
	for _, e := range st.entries {
		for _, p := range e.Parts {
			if p.Blob.Inline != nil || checked[p.Blob.ID] {
				continue
			}
			checked[p.Blob.ID] = true
			n, err := d.verifyBody(ctx, key, p.Blob)
			r.Bytes += n
			switch {
			case errors.Is(err, ErrDamaged):
				bad[p.Blob.ID] = true
			case err != nil:
				return err
			}
		}
		if slices.ContainsFunc(e.Parts, func(p Part) bool { return bad[p.Blob.ID] }) {
			damaged = true
			continue
		}
		r.Entries++
	}
	if damaged {
		// It may have been replaced rather than damaged, while it was being read.
		if now, _, err := d.load(key); err == nil && !st.damaged && !slices.ContainsFunc(now.entries, func(e *Entry) bool {
			return slices.ContainsFunc(st.entries, func(old *Entry) bool { return old.ResponseTime.Equal(e.ResponseTime) })
		}) && len(now.entries) > 0 {
			return nil
		}
		r.Damaged++
	}
	return nil
}

// verifyBody reads a body. Damage removes the entries that name it.
func (d *Disk) verifyBody(ctx context.Context, key string, blob Blob) (n int64, err error) {
	body, err := d.Open(ctx, key, blob)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	buf := writePool.Get().(*[writeSize]byte)
	defer writePool.Put(buf)
	for n < blob.Size {
		if err := d.begin(ctx); err != nil {
			return n, err
		}
		m, err := body.ReadAt(buf[:min(writeSize, blob.Size-n)], n)
		n += int64(m)
		if err != nil && n < blob.Size {
			return n, err
		}
	}
	return n, nil
}

// LastUse returns when what is stored under key was last used, as far as that is recorded: it may have
// been up to an hour later. It is zero if nothing is stored.
func (d *Disk) LastUse(key string) time.Time {
	var st fileStat
	if checkKey(key) != nil || statFile(d.path(key), &st) != nil {
		return time.Time{}
	}
	return time.Unix(0, st.atime)
}

// EvictTo evicts what was not used for longest until the cache takes at most maxBytes bytes, however long that
// takes. Drafts are not evicted.
func (d *Disk) EvictTo(ctx context.Context, maxBytes int64) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	select {
	case d.evictor.mu <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.evictor.mu }()
	_, err := d.evictUntil(ctx, max(maxBytes, 0), func(int64, int) bool { return false })
	return err
}

// Purge removes the entries under keys with the given prefix that match returns true for, and returns how
// many they were. match must be quick: a lock may be held.
func (d *Disk) Purge(ctx context.Context, prefix string, match func(*Entry) bool) (removed int, err error) {
	var last string
	for e, err := range d.All(ctx, prefix) {
		if err != nil {
			return removed, err
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
			return removed, err
		}
		removed += n
	}
	return removed, nil
}

// Clear removes everything that the cache holds but drafts and what makes it a cache: its directories, its
// locks and its secret.
func (d *Disk) Clear(ctx context.Context) error {
	for shard := range shardCount {
		if err := d.begin(ctx); err != nil {
			return err
		}
		if err := d.clearShard(ctx, shard); err != nil {
			return err
		}
	}
	d.sweepTemps(time.Now())
	return nil
}

func (d *Disk) clearShard(ctx context.Context, shard int) error {
	dir := d.shardDir(shard)
	names, err := readNames(dir)
	if err != nil || len(names) == 0 {
		return opError("clear", err)
	}
	l, err := d.lock(ctx, shard)
	if err != nil {
		return err
	}
	defer l.unlock()
	if names, err = readNames(dir); err != nil { // again, now that nothing is added
		return opError("clear", err)
	}
	var first error
	for _, name := range names {
		if strings.HasSuffix(name, tempSuffix) {
			continue // somebody may be writing it; if not, it is swept in time
		}
		if len(name) == keyLen {
			d.tier.remove(name)
		}
		if err := removeFile(filepath.Join(dir, name)); err != nil && first == nil {
			if fi, lerr := os.Lstat(filepath.Join(dir, name)); lerr == nil && !fi.IsDir() {
				first = err
			}
		}
	}
	list, err := d.listShard(shard)
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
