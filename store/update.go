package store

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/cachetrip/cachetrip/store/internal/entryset"
)

// This file replaces the entries of a key. It reads the key's file under the
// lock of its shard and calls the caller's function. Then it appends to the
// file or writes a new one.

// Fits reports whether a response with this header may be stored. Update
// refuses an entry over the limits with ErrTooLarge, but only once its body was
// read.
func (d *Disk) Fits(e *Entry) bool { return metadataFits(e, d.maxKey()) }

// maxKey limits the metadata and the small bodies of a key, in bytes.
func (d *Disk) maxKey() int64 { return min(maxLive, d.max/bodyShare) }

// Update implements [Store].
func (d *Disk) Update(ctx context.Context, key string, change func([]*Entry) []*Entry) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	if err := CheckKey(key); err != nil {
		return err
	}
	var tried attempt
	if d.updateUnlocked(key, change, &tried) {
		return nil
	}
	page := pagePool.Get().(*usagePage)
	defer pagePool.Put(page)
	var sum int64
	var err error
	for try := 0; ; try++ {
		round := d.squeezed.rounds.Load()
		err = retryBusy(func() (err error) {
			sum, err = d.updateWithin(ctx, key, tried.of(change), page)
			return err
		})
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

// update is Update without the housekeeping after it. It returns the size of
// the cache according to page, or a negative number if the size did not change.
// If the cache would exceed its room, update fails with a fullError and changes
// nothing.
//
// If the key isAbsent, the file is not read. Making it tells whether there is
// one after all.
func (d *Disk) update(ctx context.Context, key string, change func([]*Entry) []*Entry, page *usagePage, r room) (sum int64, err error) {
	if d.isAbsent(key) {
		if sum, err, done := d.updateAbsent(ctx, key, change, page, r); done {
			return sum, err
		}
	}
	l, err := d.lock(ctx, shardOf(key), lockWait)
	if err != nil {
		return -1, err
	}
	defer l.unlock()
	for again := false; ; again = true {
		st, err := l.current(key)
		if err != nil {
			return -1, err
		}
		sum, err = l.apply(key, st, change, page, r)
		if again || !errors.As(err, new(retractedError)) {
			return sum, err
		}
	}
}

// retractedError reports that the file of a key is gone, although the lock is
// held: a caller that could not get the lock has removed it; see tryRetract.
type retractedError struct{ error }

func (e retractedError) Unwrap() error { return e.error }

// apply changes the entries of a key of the locked shard, which are those of
// st. It returns the size of the cache as update does.
func (l *locked) apply(key string, st keyState, change func([]*Entry) []*Entry, page *usagePage, r room) (sum int64, err error) {
	next := change(slices.Clone(st.entries))
	if slices.Equal(st.entries, next) {
		if st.assumed {
			return -1, errAssumed
		}
		return -1, nil
	}
	if next, err = Arrange(key, st.entries, next); err != nil {
		return -1, err
	}
	if err := l.checkFiles(key, st.entries, next); err != nil {
		return -1, err
	}
	return l.write(key, st, next, page, r)
}

// errAssumed reports that there is nothing to write if the assumed state is
// right.
var errAssumed = errors.New("the file of the key was not read")

// current is load, but takes the state from the memory tier if the file did not
// change. The shard's lock is held: afterwards, it can only be freshened.
func (l *locked) current(key string) (keyState, error) {
	var st fileStat
	d := l.d
	if it := d.tier.get(key); it != nil && !it.damaged && l.dir.stat(key, &st) == nil && !d.unusable.has(key, &st) {
		if it.holds(&st, d.counts.value(it.counter, time.Now().UnixNano())) {
			return it.keyState, nil
		}
	}
	ks, _, err := l.load(key)
	return ks, err
}

// write makes next the entries of a key of the locked shard, and removes the
// bodies that they do not name any more. It returns the size of the cache as
// update does.
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
		w.next = entryset.DropOldest(w.old.entries, w.next, responseTime)
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

// shrink notes that n bytes were freed. It returns the size of the cache, or
// sum if that cannot be read.
func (w *keyWrite) shrink(sum, n int64) int64 {
	if now, err := w.l.account(-n, w.page); err == nil {
		return now
	}
	return sum
}

// save writes the encoded entries. It appends them to the file, unless too much
// of the file would be obsolete then: in that case it writes a new one. It also
// returns what the memory tier may keep of the file, or nil.
func (w *keyWrite) save() (sum int64, it *tierItem, err error) {
	l, old := w.l, w.old
	current, _, err := inlineBlobs(old.entries)
	if err != nil {
		return -1, nil, err
	}
	there := newBlobSet(current)
	size := old.size + w.entriesRecord()
	for _, b := range w.blobs {
		if there.find(b.id) == nil {
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
		if anew || there.find(blob.id) == nil {
			b = appendRecord(b, recordBlob, blob.id[:], blob.data)
		}
	}
	at := len(b)
	b = appendRecord(b, recordEntries, w.buf.entries)
	w.buf.file = b
	tip := idOf(b, at)
	if !anew {
		tip.at += uint32(old.size)
	}

	file := written{owner: l.d.owner, modeChecked: &l.d.modeChecked}
	switch {
	case old.size == 0 && !old.damaged && l.alone:
		err = l.create(w.key, b, &file, old.assumed)
	case anew:
		err = l.replace(w.key, b, &file, old.size > 0)
	default:
		err = opError("append", l.dir.append(w.key, b, old.size, &file))
		if err == nil && !file.exact { // the system keeps the use time
			l.dir.setUsed(w.key, time.Now().UnixNano())
		}
	}
	if err != nil {
		if grows > 0 {
			l.account(-grows, w.page)
		}
		if old.size > 0 && errors.Is(err, fs.ErrNotExist) {
			err = retractedError{err}
		}
		return -1, nil, err
	}
	if anew && old.size > 0 {
		sum = w.shrink(-1, allocated(old.size))
	}
	if (file.exact || file.vouched()) && file.stat.size == size && l.d.tier.max > 0 {
		it = newItem(w.key, w.next, old.entries, w.live, tip, &file)
	}
	return sum, it, nil
}

// releaseBodies removes the body files that only the old entries named. It
// returns the size of the cache, or sum if it did not change.
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
func newItem(key string, entries, old []*Entry, live int64, tip recordID, file *written) *tierItem {
	it := &tierItem{key: key, stat: file.stat, exact: file.exact, seen: file.stat.mtime, counter: counterOf(key)}
	if it.unstamped() {
		it.seen = time.Now().UnixNano()
	}
	it.trust(file.count, it.seen)
	it.used.Store(file.stat.atime)
	it.entries, it.size, it.live, it.tip = make([]*Entry, len(entries)), file.stat.size, live, tip
	for i, e := range entries {
		it.entries[i] = asRead(e, old)
	}
	it.bytes = it.memory()
	return it
}

// asRead returns e, which replaces some of the old entries, as it is read from
// a file. That is e itself if it has this form: so callers know it again. A
// part may be allocated with an old entry, which it would keep in memory.
func asRead(e *Entry, old []*Entry) *Entry {
	requested, received, invalidated := asStored(e.RequestTime), asStored(e.ResponseTime), asStored(e.InvalidatedAt)
	isRead := requested == e.RequestTime && received == e.ResponseTime && invalidated == e.InvalidatedAt
	if isRead && !slices.ContainsFunc(old, func(other *Entry) bool { return other != e && sharesParts(other, e) }) {
		return e
	}
	c := &entryWithPart{Entry: *e}
	c.RequestTime, c.ResponseTime, c.InvalidatedAt = requested, received, invalidated
	if len(e.Parts) == 1 {
		c.part[0], c.Parts = e.Parts[0], c.part[:]
	}
	return &c.Entry
}

// sharesParts reports whether two entries have their parts in the same memory.
func sharesParts(a, b *Entry) bool {
	return len(a.Parts) > 0 && len(b.Parts) > 0 && &a.Parts[0] == &b.Parts[0]
}

// asStored returns t as it is read from a file: in UTC and without its
// monotonic clock, which stands still while the machine sleeps.
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
// diskv would use twenty system calls, and would not tell the cause of an
// error.
//
// If the caller only assumed that there is no file, an existing one stays as it
// is.
func (l *locked) create(key string, b []byte, file *written, assumed bool) error {
	err := l.dir.create(key, b, file)
	if errors.Is(err, fs.ErrExist) && !assumed { // another program made it
		return l.replace(key, b, file, false)
	}
	return opError("write", err)
}

// replace makes b the content of the file of a key. A caller that reads it
// meanwhile sees the old content or the new. A rename within the open directory
// takes half the time of diskv's Import, which is a third of the whole call;
// see BenchmarkPublish.
//
// If there was a file, it must still be there. Otherwise b may have entries that
// were retracted with it. A file that is retracted between that look and the
// rename, a few microseconds later, comes back. Only some file systems can
// exchange two names, which would notice that.
func (l *locked) replace(key string, b []byte, file *written, wasThere bool) error {
	temp := strconv.FormatUint(rand.Uint64(), 36) + tempSuffix
	if err := l.dir.create(temp, b, file); err != nil {
		return opError("write", err)
	}
	var err error
	if wasThere {
		err = l.dir.stat(key, new(fileStat))
	}
	if err == nil {
		err = l.dir.rename(temp, key, file)
	}
	if err != nil {
		l.dir.remove(temp)
	}
	return opError("write", err)
}

// removeBlob removes the file of a large body and returns how many bytes it
// had.
func (l *locked) removeBlob(key, id string) (int64, error) {
	name := blobName(key, id)
	var st fileStat
	if err := l.dir.stat(name, &st); err != nil {
		return 0, err
	}
	return st.size, l.remove(name)
}
