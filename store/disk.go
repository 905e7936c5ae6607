package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"iter"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/peterbourgon/diskv/v3"
)

const (
	// DefaultMaxBytes is the bound of a [Disk] whose options name none: 1 GiB.
	DefaultMaxBytes = 1 << 30

	// DefaultMemoryBytes is the size of the memory tier if the options name none: 16 MiB, some thousand
	// responses of an API.
	DefaultMemoryBytes = 16 << 20

	// version is the part of the path that stands for the format of all that is below it.
	version = "v1"

	cacheDirTag = "Signature: 8a477f597d28d172789f06886806bc55\n" +
		"# This file is a cache directory tag created by cachetrip.\n" +
		"# For information about cache directory tags see https://bford.info/cachedir/\n"
)

// DiskOptions configures a [Disk]. The zero value is fit for most programs.
type DiskOptions struct {
	// MaxBytes bounds the cache's files in bytes, each rounded up to blocks of 4 KiB. It is kept within
	// 10 % by evicting what was not used for longest. 0 means DefaultMaxBytes.
	MaxBytes int64

	// MemoryBytes bounds the memory in bytes that heads and small bodies of hot keys are kept in.
	// 0 means DefaultMemoryBytes; if negative, nothing is kept in memory.
	MemoryBytes int64

	// Logger is told at debug level what goes wrong without concerning a caller, such as files found
	// damaged. nil is silent.
	Logger *slog.Logger
}

// Disk keeps a cache in a directory. Any number of processes, and of Disks within one, may use the same
// directory at the same time; each sees what the others stored with its next call. A process may be killed
// at any time. Nothing is ever flushed to the device on the way: what a power cut tears does not prove
// itself afterwards and counts as not stored.
//
// A Disk has no goroutine. Besides what it is asked to do, each call that stores does a little of the work
// that eviction and the removal of leftovers need.
//
// All Disks of a process together hold open at most an eighth of the descriptors that it may have: directories and, on
// Linux, the files of keys in much use. Such a file that another process evicts keeps its room until that shows here,
// with the next call for its key or Close; all of them are at most 1/128 of MaxBytes, and 8 MiB.
type Disk struct {
	dir  string
	root string // dir/v1
	data string // dir/v1/data
	tmp  string // dir/v1/tmp
	max  int64
	log  *slog.Logger

	dv       *diskv.Diskv
	tier     *tier
	verified verifiedFiles
	dirs     shardDirs
	held     heldFiles
	locks    shardLocks
	usage    usageFile
	shares   shares
	evictor  evictor
	shunned  shunned

	closed     atomic.Bool
	evictions  atomic.Uint64
	touchAfter atomic.Int64 // nanoseconds; see noteResidence
	staging    atomic.Int64 // bytes of all drafts' buffers

	secret      atomic.Pointer[[]byte] // nil: not loaded yet
	secretStale atomic.Bool            // the directory that it is in was taken away
}

var _ Store = (*Disk)(nil)

// OpenDisk opens the cache in dir, making the directory if it does not exist. It takes the same time
// however much the cache holds.
//
// It is an error if dir cannot be made, or is or leads through something other than a directory. A
// directory that exists but cannot be written to is not: what it holds is served, and Create and Update
// return errors.
func OpenDisk(dir string, opts DiskOptions) (*Disk, error) {
	if dir == "" {
		return nil, errors.New("cachetrip: store: open: no directory given")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, opError("open", err)
	}
	d := &Disk{
		dir:  dir,
		root: filepath.Join(dir, version),
		data: filepath.Join(dir, version, "data"),
		tmp:  filepath.Join(dir, version, "tmp"),
		max:  opts.MaxBytes,
		log:  opts.Logger,
	}
	if d.max <= 0 {
		d.max = DefaultMaxBytes
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	switch {
	case opts.MemoryBytes == 0:
		d.tier = newTier(DefaultMemoryBytes)
	default:
		d.tier = newTier(max(opts.MemoryBytes, 0))
	}
	d.dirs.init()
	d.held.init(d.max, d.dirs.max) // as many files as directories
	d.evictor.init()
	// diskv names the files and imports bodies. Its writes of small files take twice as many calls as are needed
	// (see create). Its own cache and its Erase, which
	// lists a directory each time, are not used, nor are its readers, which hold on to descriptors.
	d.dv = diskv.New(diskv.Options{
		BasePath: d.data,
		TempDir:  d.tmp,
		AdvancedTransform: func(name string) *diskv.PathKey {
			return &diskv.PathKey{Path: []string{name[:2]}, FileName: name}
		},
		InverseTransform: func(p *diskv.PathKey) string { return p.FileName },
		PathPerm:         0o700,
		FilePerm:         0o600,
	})

	// makeDirs also tells whether an existing dir is a directory.
	if err := makeDirs(dir); err != nil {
		return nil, opError("open", err)
	}
	// A symbolic link would have the cache change what is not its own.
	for _, path := range []string{d.root, d.data, d.tmp} {
		if fi, err := os.Lstat(path); err == nil && !fi.IsDir() {
			return nil, opError("open", &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR})
		}
	}
	if err := d.makeLayout(); err != nil {
		d.log.Debug("cachetrip: store: the cache directory cannot be written to", "dir", dir, "error", err)
	} else if err := d.tag(); err != nil {
		d.log.Debug("cachetrip: store: the directory has no tag", "dir", dir, "error", err)
	}
	var page usagePage
	if d.readUsage(&page) != nil {
		d.touchAfter.Store(int64(time.Hour)) // read-only, most likely: no use will be recorded
	}
	return d, nil
}

// makeLayout makes what is missing of the directories, from the cache directory down, with the modes
// that they are to have whatever the umask is.
func (d *Disk) makeLayout() error {
	if fi, err := os.Lstat(d.data); err == nil && fi.IsDir() {
		return nil // it is made last
	}
	if err := makeDirs(d.dir); err != nil {
		return opError("make directory", err)
	}
	fresh, err := makeDir(d.root)
	if err == nil {
		err = d.tag()
	}
	if err == nil {
		err = d.newUsage()
	}
	if fresh {
		d.secretStale.Store(true)
	}
	for _, dir := range []string{d.tmp, d.data} {
		if err == nil {
			_, err = makeDir(dir)
		}
	}
	return opError("make directory", err)
}

// tag makes sure that programs which make backups can tell that this is a cache.
func (d *Disk) tag() error {
	path := filepath.Join(d.dir, "CACHEDIR.TAG")
	signature, _, _ := strings.Cut(cacheDirTag, "\n")
	buf := make([]byte, len(cacheDirTag)) // some more, and it is somebody's own
	var st fileStat
	b, err := readFile(path, int64(len(buf)), &st, buf)
	switch {
	case err == nil && !bytes.HasPrefix(b, []byte(signature)): // a crash left but a part of it, or nothing
	case !errors.Is(err, fs.ErrNotExist):
		return nil // be it a good one, or what is not of this package's making
	}
	if err := checkDirs(d.root, d.tmp); err != nil {
		return err
	}
	if _, err := makeDir(d.tmp); err != nil {
		return err
	}
	temp := filepath.Join(d.tmp, strconv.FormatUint(rand.Uint64(), 36))
	if err := writeNew(temp, []byte(cacheDirTag), new(written)); err != nil {
		return err
	}
	if err := rename(temp, path); err != nil {
		os.Remove(temp)
		return err
	}
	return nil
}

// makeDirs makes a directory and those above it that do not exist, with the modes that they are to have.
func makeDirs(path string) error {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if above := filepath.Dir(path); above != path {
			if err := makeDirs(above); err != nil {
				return err
			}
		}
		_, err := makeDir(path)
		return err
	}
	if err == nil && !fi.IsDir() {
		err = &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	}
	return err
}

// makeDir makes one directory and tells whether it did not exist. A symbolic link is not accepted.
func makeDir(path string) (made bool, err error) {
	err = os.Mkdir(path, 0o700)
	if err == nil {
		return true, os.Chmod(path, 0o700)
	}
	if fi, lerr := os.Lstat(path); lerr == nil {
		if !fi.IsDir() {
			return false, &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
		}
		return false, nil
	}
	return false, err
}

// Dir returns the absolute path of the cache directory.
func (d *Disk) Dir() string { return d.dir }

// Evictions returns how many keys this Disk has evicted to keep the bound.
func (d *Disk) Evictions() uint64 { return d.evictions.Load() }

// Close releases the store. Bodies and drafts that are open stay readable; everything else then fails with
// ErrClosed. Closing again does nothing. A program that ends without Close loses nothing.
func (d *Disk) Close() error {
	if !d.closed.Swap(true) {
		d.usageClose()
		d.dirs.close()
		d.held.close()
	}
	return nil
}

// begin is the beginning of every method.
func (d *Disk) begin(ctx context.Context) error {
	if d.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}

const hexDigits = "0123456789abcdef"

// shardOf returns the shard of a valid key or blob name: its first two digits.
func shardOf(key string) int {
	return strings.IndexByte(hexDigits, key[0])<<4 | strings.IndexByte(hexDigits, key[1])
}

func shardName(shard int) string {
	return string([]byte{hexDigits[shard>>4], hexDigits[shard&15]})
}

func (d *Disk) shardDir(shard int) string {
	return d.data + string(filepath.Separator) + shardName(shard)
}

// path returns where the file of a key, or a body's file, is.
func (d *Disk) path(name string) string {
	const sep = string(filepath.Separator)
	return d.data + sep + name[:2] + sep + name
}

// tempSuffix is what the file of a draft ends in.
const tempSuffix = ".tmp"

// blobName returns the name of the file of a large body.
func blobName(key, id string) string { return key + "-" + id }

// Entries implements [Store]. What is damaged is left out.
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
		if err == nil && it.holds(&st) && !d.shunned.has(key, &st) {
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

// touch records the use of a key, if what is recorded is old.
func (d *Disk) touch(it *tierItem, now int64) {
	used := it.used.Load()
	age := now - used
	// A use in the future was recorded by a clock that was since set back.
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

// load reads the file of a key for one who holds no lock. That there is none is no error. The item is for the memory
// tier.
func (d *Disk) load(key string) (keyState, *tierItem, error) {
	it := &tierItem{key: key, path: d.path(key), seen: time.Now().UnixNano()}
	b, err := d.readFrom(shardOf(key), key, maxKeyFile, &it.stat, nil, it.seen)
	return d.decode(it, b, err)
}

// load is [Disk.load] for one who holds the lock of the shard.
func (l *locked) load(key string) (keyState, *tierItem, error) {
	it := &tierItem{key: key, path: l.d.path(key), seen: time.Now().UnixNano()}
	b, err := l.dir.read(key, maxKeyFile, &it.stat, nil)
	return l.d.decode(it, b, err)
}

// decode makes of what reading the file of a key gave what load returns.
func (d *Disk) decode(it *tierItem, b []byte, err error) (keyState, *tierItem, error) {
	key := it.key
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(err, new(noDirError)):
		return keyState{}, it, nil
	case notAFile(it.path, err):
		st := keyState{damaged: true}
		if it.stat.regular {
			st.size = it.stat.size
		}
		return st, it, nil
	case err != nil:
		return keyState{}, nil, opError("read entries", err)
	}
	if d.shunned.has(key, &it.stat) {
		return keyState{damaged: true, size: it.stat.size}, it, nil
	}
	it.used.Store(it.stat.atime)
	st := decodeKeyFile(key, b)
	it.keyState = st
	it.bytes = int64(len(b)) + 512 + 1024*int64(len(st.entries)) // with what decoding allocates, roughly
	return st, it, nil
}

// notAFile reports whether reading failed because of what is there, not because of the system's state.
func notAFile(path string, err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, ErrDamaged) {
		return true
	}
	fi, lerr := os.Lstat(path)
	return lerr == nil && !fi.Mode().IsRegular()
}

// Fits reports whether the header of a response without parts may be kept: an entry over the bounds makes Update fail
// with ErrTooLarge, but only once the body was read.
func (d *Disk) Fits(e *Entry) bool { return metadataFits(e, min(maxLive, d.max/bodyShare)) }

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
	r := room{limit: d.near()}
	sum, err := d.update(ctx, key, change, page, r)
	full := (*fullError)(nil)
	for try := 0; errors.As(err, &full); try++ {
		r.limit = d.max + d.max/10
		failed := d.grant(ctx, full, &r)
		if try == roomTries { // nothing but drafts, if nothing went wrong
			d.retract(ctx, key, change)
			return opError("update", cmp.Or(failed, ErrTooLarge))
		}
		sum, err = d.update(ctx, key, change, page, r)
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

// update does Update but for the work that follows it. The sum is that of the usage in page, or negative if
// it did not change. It fails with a fullError, and nothing changes, if the cache would grow beyond its room.
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

// current is load where the shard's lock is held, so that what the memory tier has of a file that did not change is
// as good.
func (l *locked) current(key string) (keyState, error) {
	var st fileStat
	d := l.d
	if it := d.tier.get(key); it != nil && !it.damaged && l.dir.stat(key, &st) == nil && it.holds(&st) && !d.shunned.has(key, &st) {
		return it.keyState, nil
	}
	ks, _, err := l.load(key)
	return ks, err
}

// checkFiles makes sure that bodies that next names for the first time are there: what is committed but
// named by nothing may have been discarded.
func (l *locked) checkFiles(key string, current, next []*Entry) error {
	old := fileBlobs(current)
	for id := range fileBlobs(next) {
		if old[id] {
			continue
		}
		if _, ok := parseBlobID(id); !ok {
			return opError("update", errors.New("blob "+id+" is not of this store"))
		}
		var st fileStat
		if err := l.dir.stat(blobName(key, id), &st); err != nil {
			return opError("update", err)
		}
	}
	return nil
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

// inlineBlobs returns the blobs that are kept with the entries, each once, and the bytes of their records.
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
				return nil, 0, opError("update", errors.New("blob "+b.ID+" is not of this store"))
			}
			seen[b.ID] = true
			blobs = append(blobs, inlineBlob{id: id, data: b.Inline})
			size += int64(recordHeader + blobIDLen + len(b.Inline))
		}
	}
	return blobs, size, nil
}

// write makes next the entries of a key of the locked shard, and releases what they do not name any more.
func (l *locked) write(key string, st keyState, next []*Entry, page *usagePage, r room) (sum int64, err error) {
	d := l.d
	var it *tierItem
	defer func() {
		if it != nil {
			d.tier.put(it)
		} else {
			d.tier.remove(key)
		}
	}()

	encode := encodePool.Get().(*encodeBuffers)
	defer encode.free()
	var heads []byte
	var blobs []inlineBlob
	var live int64
	for {
		if len(next) == 0 {
			break
		}
		if heads, err = encode.encodeEntries(key, next); err != nil {
			return -1, opError("update", err)
		}
		if blobs, live, err = inlineBlobs(next); err != nil {
			return -1, err
		}
		if live += int64(recordHeader + len(heads)); live <= min(maxLive, d.max/bodyShare) {
			break
		}
		if len(next) == 1 {
			return -1, opError("update", ErrTooLarge)
		}
		next = dropOldest(st.entries, next)
	}

	sum = -1
	switch {
	case len(next) == 0:
		if st.size > 0 || st.damaged {
			if err := l.remove(key); err != nil {
				return -1, opError("update", err)
			}
			if sum, err = l.account(-allocated(st.size), page); err != nil {
				sum = -1
			}
		}
	default:
		var w written
		if sum, err = l.put(key, st, blobs, encode, live, page, r, &w); err != nil {
			return -1, err
		}
		if w.exact && d.tier.max > 0 {
			it = newItem(key, d.path(key), next, live, &w)
		}
	}

	d.shares.set(key, next)

	// Only now does nothing name these any more.
	kept := fileBlobs(next)
	for id := range fileBlobs(st.entries) {
		if kept[id] {
			continue
		}
		if n, err := l.removeBlob(key, id); err == nil && n > 0 {
			if s, err := l.account(-allocated(n), page); err == nil {
				sum = s
			}
		}
	}
	return sum, nil
}

// newItem returns what the memory tier is to have of a file that was just written.
func newItem(key, path string, entries []*Entry, live int64, w *written) *tierItem {
	it := &tierItem{key: key, path: path, stat: w.stat, exact: w.exact, seen: w.stat.mtime}
	it.used.Store(w.stat.atime)
	it.entries, it.size, it.live = make([]*Entry, len(entries)), w.stat.size, live
	// As they would be read: a time loses its monotonic clock, which stands still while the machine sleeps.
	normal := func(t *time.Time) {
		if !t.IsZero() {
			*t = time.Unix(t.Unix(), int64(t.Nanosecond())).UTC()
		}
	}
	for i, e := range entries {
		c := *e
		normal(&c.RequestTime)
		normal(&c.ResponseTime)
		normal(&c.InvalidatedAt)
		it.entries[i] = &c
	}
	it.bytes = it.size + 512 + 1024*int64(len(entries))
	return it
}

// put writes what the file of a key is to say, whose heads are encoded already: by appending, or anew if that would
// leave too much in it that is obsolete.
func (l *locked) put(key string, st keyState, blobs []inlineBlob, encode *encodeBuffers, live int64, page *usagePage, r room, w *written) (sum int64, err error) {
	current, _, err := inlineBlobs(st.entries)
	if err != nil {
		return -1, err
	}
	there := blobFinder(current)
	added := int64(recordHeader + len(encode.entries))
	for _, b := range blobs {
		if there(b.id) == nil {
			added += int64(recordHeader + blobIDLen + len(b.data))
		}
	}
	anew := st.size == 0 || st.damaged || st.size+added-live > live+compactSlack
	size := st.size + added
	if anew {
		size = live
	}

	sum = -1
	grows := allocated(size) - allocated(st.size)
	if anew {
		grows = allocated(size) // the old file is there until the new one takes its place
	}
	if grows > 0 {
		if sum, err = l.reserve(grows, r, page); err != nil {
			return -1, err
		}
	}
	buf := encode.file[:0]
	for _, b := range blobs {
		if anew || there(b.id) == nil {
			buf = appendRecord(buf, recordBlob, b.id[:], b.data)
		}
	}
	buf = appendRecord(buf, recordEntries, encode.entries)
	encode.file = buf
	switch {
	case st.size == 0 && !st.damaged && l.alone:
		err = l.create(key, buf, w)
	case anew:
		err = l.replace(key, buf, w)
	default:
		err = opError("append", l.dir.append(key, buf, st.size, w))
	}
	w.exact = w.exact && w.stat.size == size
	if err != nil {
		if grows > 0 {
			l.account(-grows, page)
		}
		return -1, err
	}
	if anew && st.size > 0 {
		if sum, err = l.account(-allocated(st.size), page); err != nil {
			sum = -1
		}
	}
	return sum, nil
}

// create makes the file of a key that has none. Who reads it meanwhile may see a part of it, which does not prove
// itself and counts as not stored, as after a crash: that costs half as much as to write it beside and rename it. It
// would be removed as damaged, but for the lock.
// diskv would do it in twenty calls, eight of which make the file's name and mode, and without telling the cause of an
// error.
func (l *locked) create(key string, b []byte, w *written) error {
	err := l.dir.create(key, b, w)
	if errors.Is(err, fs.ErrExist) { // it was made by none of us
		return l.replace(key, b, w)
	}
	return opError("write", err)
}

// replace makes b the content of the file of a key. Who reads it meanwhile sees the old one or the new.
func (l *locked) replace(key string, b []byte, w *written) error {
	temp := strconv.FormatUint(rand.Uint64(), 36) + tempSuffix
	if err := l.dir.create(temp, b, w); err != nil {
		return opError("write", err)
	}
	err := retryBusy(func() error { return l.dir.rename(temp, key) })
	if err != nil {
		l.dir.remove(temp)
	}
	return opError("write", err)
}

// makeShardDir makes what is missing of the directories down to a shard's.
func (d *Disk) makeShardDir(shard int) error {
	if err := d.makeLayout(); err != nil {
		return err
	}
	_, err := makeDir(d.shardDir(shard))
	return err
}

// checkShard makes sure that the directories down to that of a shard are none that a symbolic link leads to, out of the
// cache.
func (d *Disk) checkShard(shard int) error {
	return checkDirs(d.root, d.data, d.shardDir(shard))
}

// checkDirs makes sure that what stands at the paths, if anything, are directories.
func checkDirs(paths ...string) error {
	var st fileStat
	for _, path := range paths {
		if statFile(path, &st) == nil && !st.dir {
			return opError("check directories", &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR})
		}
	}
	return nil
}

// removeBlob removes the file of a large body and returns how long it was.
func (l *locked) removeBlob(key, id string) (int64, error) {
	name := blobName(key, id)
	var st fileStat
	if err := l.dir.stat(name, &st); err != nil {
		return 0, err
	}
	return st.size, l.remove(name)
}

// remove is removeFile for a file of the shard.
func (l *locked) remove(name string) error {
	err := retryBusy(func() error { return l.dir.remove(name) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// removeFile removes a file; that there is none is no error. What stands in its place but is no file, and
// cannot be of this package's making, is removed as well if it is empty.
func removeFile(path string) error {
	err := retryBusy(func() error { return os.Remove(path) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// retryBusy tries again for a moment on Windows, where a file that somebody has open can be neither
// replaced nor removed.
func retryBusy(op func() error) error {
	err := op()
	for wait := time.Millisecond; err != nil && runtime.GOOS == "windows" && wait < 16*time.Millisecond; wait *= 2 {
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		time.Sleep(wait)
		err = op()
	}
	return err
}

// discardDamage removes what does not prove itself from the file of a key, which was found to be as st and it say, as far
// as that is possible at once. It returns what the file says then: it may just have been written.
func (d *Disk) discardDamage(ctx context.Context, key string, st keyState, it *tierItem) (keyState, *tierItem) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond) // a request waits for this
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

// discardBlob removes the entries that name a blob found damaged, as far as that is possible at once.
func (d *Disk) discardBlob(key, id string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond) // a reader waits for this
	defer cancel()
	err := d.Update(ctx, key, func(entries []*Entry) []*Entry {
		return slices.DeleteFunc(entries, func(e *Entry) bool { return names(e, id) })
	})
	d.log.Debug("cachetrip: store: damaged body discarded", "key", key, "blob", id, "error", err)
}

func names(e *Entry, id string) bool {
	return slices.ContainsFunc(e.Parts, func(p Part) bool { return p.Blob.ID == id })
}

// All implements [Store]. What cannot be read does not keep it from the rest: the error, of all that failed, comes last.
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

// shardNames lists a shard. One that a symbolic link leads to is empty.
func (d *Disk) shardNames(shard int) ([]string, error) {
	if d.checkShard(shard) != nil {
		return nil, nil
	}
	return readNames(d.shardDir(shard))
}

// readNames lists a directory, which need not exist. A symbolic link in its place is not followed.
func readNames(dir string) ([]string, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|nofollow, 0)
	if err != nil {
		if fi, lerr := os.Lstat(dir); lerr != nil && errors.Is(lerr, fs.ErrNotExist) || lerr == nil && !fi.IsDir() {
			return nil, nil
		}
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && !fi.IsDir() {
		return nil, nil
	}
	names, err := f.Readdirnames(-1)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return names, err
}
