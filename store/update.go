package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// This file replaces the entries of a key. It reads the key's file under the
// lock of its shard and calls the caller's function. Then it appends to the
// file or writes a new one.

// Fits reports whether a response with this header may be stored. Update refuses an
// entry over the limits with ErrTooLarge, but only once its body was read.
func (d *Disk) Fits(e *Entry) bool { return metadataFits(e, d.maxKey()) }

// maxKey limits the metadata and the small bodies of a key, in bytes.
func (d *Disk) maxKey() int64 { return min(maxLive, d.max/bodyShare) }

// Update implements [Store].
func (d *Disk) Update(ctx context.Context, key string, change func([]*Entry) []*Entry) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	if err := checkKey(key); err != nil {
		return err
	}
	page := pagePool.Get().(*usagePage)
	defer pagePool.Put(page)
	var sum int64
	var err error
	for try := 0; ; try++ {
		round := d.squeezed.rounds.Load()
		sum, err = d.updateWithin(ctx, key, change, page)
		if !diskFull(err) || try == spaceTries || !d.makeSpace(ctx, round, 0) {
			break
		}
	}
	if err != nil {
		if unwritten(err) {
			d.retract(ctx, key, change)
		}
		return err
	}
	if sum >= 0 {
		d.housekeep(ctx, sum, page)
	}
	return nil
}

// updateWithin is update, but makes room if the cache would exceed its limit.
func (d *Disk) updateWithin(ctx context.Context, key string, change func([]*Entry) []*Entry, page *usagePage) (sum int64, err error) {
	r := room{limit: d.near()}
	sum, err = d.update(ctx, key, change, page, r)
	full := (*fullError)(nil)
	for try := 0; errors.As(err, &full); try++ {
		r.limit = d.max + d.max/10
		failed := d.grant(ctx, full, &r)
		if try == roomTries { // only drafts are left, unless something went wrong
			d.retract(ctx, key, change)
			return -1, opError("update", cmp.Or(failed, ErrTooLarge))
		}
		sum, err = d.update(ctx, key, change, page, r)
	}
	return sum, err
}

// update is Update without the housekeeping after it. It returns the size of the
// cache according to page, or a negative number if the size did not change. If the
// cache would exceed its room, update fails with a fullError and changes nothing.
func (d *Disk) update(ctx context.Context, key string, change func([]*Entry) []*Entry, page *usagePage, r room) (sum int64, err error) {
	l, err := d.lock(ctx, shardOf(key), lockWait)
	if err != nil {
		return -1, err
	}
	defer l.unlock()
	st, err := l.current(key)
	if err != nil {
		return -1, err
	}
	next := change(slices.Clone(st.entries))
	if same(st.entries, next) {
		return -1, nil
	}
	next = arrange(st.entries, next)
	for _, e := range next {
		if err := checkEntry(key, e); err != nil {
			return -1, err
		}
	}
	if err := l.checkFiles(key, st.entries, next); err != nil {
		return -1, err
	}
	return l.write(key, st, next, page, r)
}

// current is load, but takes the state from the memory tier if the file did not
// change. The shard's lock is held, so that it does not change afterwards either.
func (l *locked) current(key string) (keyState, error) {
	var st fileStat
	d := l.d
	if it := d.tier.get(key); it != nil && !it.damaged && l.dir.stat(key, &st) == nil && it.holds(&st) && !d.unusable.has(key, &st) {
		return it.keyState, nil
	}
	ks, _, err := l.load(key)
	return ks, err
}

// checkFiles returns an error unless the bodies that next names for the first time
// exist. A body that is committed but not named by an entry may have been removed.
func (l *locked) checkFiles(key string, current, next []*Entry) error {
	old := fileBlobs(current)
	for id := range fileBlobs(next) {
		if old[id] {
			continue
		}
		if _, ok := parseBlobID(id); !ok {
			return errForeignBlob(id)
		}
		var st fileStat
		if err := l.dir.stat(blobName(key, id), &st); err != nil {
			return opError("update", err)
		}
	}
	return nil
}

// errForeignBlob is the error for an entry that names a blob of another store.
func errForeignBlob(id string) error {
	return opError("update", fmt.Errorf("blob %q is not of this store", id))
}

// fileBlobs returns the IDs of the blobs that have a file of their own.
func fileBlobs(entries []*Entry) map[string]bool {
	var ids map[string]bool
	for _, e := range entries {
		for i := range e.Parts {
			if b := &e.Parts[i].Blob; b.Inline == nil {
				if ids == nil {
					ids = make(map[string]bool)
				}
				ids[b.ID] = true
			}
		}
	}
	return ids
}

// inlineBlobs returns the blobs that are kept with the entries, each once, and the
// bytes of their records.
func inlineBlobs(entries []*Entry) (blobs []inlineBlob, size int64, err error) {
	seen := make(map[string]bool)
	for _, e := range entries {
		for i := range e.Parts {
			b := &e.Parts[i].Blob
			if b.Inline == nil || seen[b.ID] {
				continue
			}
			id, ok := parseBlobID(b.ID)
			if !ok {
				return nil, 0, errForeignBlob(b.ID)
			}
			seen[b.ID] = true
			blob := inlineBlob{id: id, data: b.Inline}
			blobs = append(blobs, blob)
			size += blob.recordSize()
		}
	}
	return blobs, size, nil
}

// write makes next the entries of a key of the locked shard, and removes the bodies
// that they do not name any more. It returns the size of the cache as update does.
func (l *locked) write(key string, old keyState, next []*Entry, page *usagePage, r room) (sum int64, err error) {
	d := l.d
	w := keyWrite{l: l, key: key, old: old, next: next, page: page, room: r}
	w.buf = encodePool.Get().(*encodeBuffers)
	defer w.buf.free()

	var it *tierItem
	if err = w.encode(); err == nil {
		if len(w.next) == 0 {
			sum, err = w.remove()
		} else {
			sum, it, err = w.save()
		}
	}
	if it != nil {
		d.tier.put(it)
	} else {
		d.tier.remove(key)
	}
	if err != nil {
		return -1, err
	}
	d.shares.set(key, w.next)
	return w.releaseBodies(sum), nil
}

// keyWrite is a change of the file of a key.
type keyWrite struct {
	l    *locked
	key  string
	old  keyState
	next []*Entry // the entries that the file is to have
	page *usagePage
	room room

	// encode sets these.
	buf   *encodeBuffers
	blobs []inlineBlob // of next
	live  int64        // the bytes that a new file with next has
}

// encode encodes the entries. While they are too large together, it drops the
// oldest one.
func (w *keyWrite) encode() (err error) {
	for len(w.next) > 0 {
		if _, err = w.buf.encodeEntries(w.key, w.next); err != nil {
			return opError("update", err)
		}
		if w.blobs, w.live, err = inlineBlobs(w.next); err != nil {
			return err
		}
		w.live += w.entriesRecord()
		if w.live <= w.l.d.maxKey() {
			return nil
		}
		if len(w.next) == 1 {
			return opError("update", ErrTooLarge)
		}
		w.next = dropOldest(w.old.entries, w.next)
	}
	return nil
}

// entriesRecord returns the size of the record with the encoded entries.
func (w *keyWrite) entriesRecord() int64 { return int64(recordHeader + len(w.buf.entries)) }

// remove removes the file, because the key has no entries any more.
func (w *keyWrite) remove() (sum int64, err error) {
	if w.old.size == 0 && !w.old.damaged {
		return -1, nil
	}
	if err := w.l.remove(w.key); err != nil {
		return -1, opError("update", err)
	}
	return w.shrink(-1, allocated(w.old.size)), nil
}

// shrink notes that n bytes were freed. It returns the size of the cache, or sum if
// that cannot be read.
func (w *keyWrite) shrink(sum, n int64) int64 {
	if now, err := w.l.account(-n, w.page); err == nil {
		return now
	}
	return sum
}

// save writes the encoded entries. It appends them to the file, unless too much of
// the file would be obsolete then: in that case it writes a new one. It also returns
// what the memory tier may keep of the file, or nil.
func (w *keyWrite) save() (sum int64, it *tierItem, err error) {
	l, old := w.l, w.old
	current, _, err := inlineBlobs(old.entries)
	if err != nil {
		return -1, nil, err
	}
	there := blobFinder(current)
	size := old.size + w.entriesRecord()
	for _, b := range w.blobs {
		if there(b.id) == nil {
			size += b.recordSize()
		}
	}
	anew := old.size == 0 || old.damaged || size-w.live > w.live+compactSlack
	grows := allocated(size) - allocated(old.size)
	if anew {
		size = w.live
		grows = allocated(size) // the old file exists until the new one replaces it
	}

	sum = -1
	if grows > 0 {
		if sum, err = l.reserve(grows, w.room, w.page); err != nil {
			return -1, nil, err
		}
	}
	b := w.buf.file[:0]
	for _, blob := range w.blobs {
		if anew || there(blob.id) == nil {
			b = appendRecord(b, recordBlob, blob.id[:], blob.data)
		}
	}
	b = appendRecord(b, recordEntries, w.buf.entries)
	w.buf.file = b

	file := written{owner: l.d.owner}
	switch {
	case old.size == 0 && !old.damaged && l.alone:
		err = l.create(w.key, b, &file)
	case anew:
		err = l.replace(w.key, b, &file)
	default:
		err = opError("append", l.dir.append(w.key, b, old.size, &file))
		if err == nil && !file.exact { // the system keeps the use time
			setUsed(l.d.path(w.key), time.Now().UnixNano())
		}
	}
	if err != nil {
		if grows > 0 {
			l.account(-grows, w.page)
		}
		return -1, nil, err
	}
	if anew && old.size > 0 {
		sum = w.shrink(-1, allocated(old.size))
	}
	if file.exact && file.stat.size == size && l.d.tier.max > 0 {
		it = newItem(w.key, l.d.path(w.key), w.next, w.live, &file)
	}
	return sum, it, nil
}

// releaseBodies removes the body files that only the old entries named. It returns
// the size of the cache, or sum if it did not change.
func (w *keyWrite) releaseBodies(sum int64) int64 {
	kept := fileBlobs(w.next)
	for id := range fileBlobs(w.old.entries) {
		if kept[id] {
			continue
		}
		if n, err := w.l.removeBlob(w.key, id); err == nil && n > 0 {
			sum = w.shrink(sum, allocated(n))
		}
	}
	return sum
}

// newItem returns what the memory tier keeps of a file that was just written.
func newItem(key, path string, entries []*Entry, live int64, file *written) *tierItem {
	it := &tierItem{key: key, path: path, stat: file.stat, exact: file.exact, seen: file.stat.mtime}
	it.used.Store(file.stat.atime)
	it.entries, it.size, it.live = make([]*Entry, len(entries)), file.stat.size, live
	for i, e := range entries {
		c := *e
		for _, t := range []*time.Time{&c.RequestTime, &c.ResponseTime, &c.InvalidatedAt} {
			*t = asStored(*t)
		}
		it.entries[i] = &c
	}
	it.bytes = it.memory()
	return it
}

// asStored returns t as it is read from a file: in UTC and without its monotonic
// clock, which stands still while the machine sleeps.
func asStored(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.Unix(t.Unix(), int64(t.Nanosecond())).UTC()
}

// create makes the file of a key that has none. Another caller that reads it
// meanwhile may see a part of it, which fails its checksum and counts as
// missing, as after a crash. The lock keeps that caller from removing it as
// damaged. Writing under another name and renaming would cost twice as much.
// diskv would use twenty system calls, and would not tell the cause of an error.
func (l *locked) create(key string, b []byte, file *written) error {
	err := l.dir.create(key, b, file)
	if errors.Is(err, fs.ErrExist) { // another program made it
		return l.replace(key, b, file)
	}
	return opError("write", err)
}

// replace makes b the content of the file of a key. A caller that reads it meanwhile
// sees the old content or the new. A rename within the open directory takes half the
// time of diskv's Import, which is a third of the whole call; see BenchmarkPublish.
func (l *locked) replace(key string, b []byte, file *written) error {
	temp := strconv.FormatUint(rand.Uint64(), 36) + tempSuffix
	if err := l.dir.create(temp, b, file); err != nil {
		return opError("write", err)
	}
	err := retryBusy(func() error { return l.dir.rename(temp, key) })
	if err != nil {
		l.dir.remove(temp)
	}
	return opError("write", err)
}

// removeBlob removes the file of a large body and returns how many bytes it had.
func (l *locked) removeBlob(key, id string) (int64, error) {
	name := blobName(key, id)
	var st fileStat
	if err := l.dir.stat(name, &st); err != nil {
		return 0, err
	}
	return st.size, l.remove(name)
}
