package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The file "usage" has the size of the cache, so that opening the cache needs no scan. It
// has a slot for each shard, with the size of the shard's files in whole blocks. A slot is
// written under the shard's lock. Growth is noted before it happens, and shrinkage after.
// If a process is killed in between, the slot is too large rather than too small. Listing
// the shard corrects it; eviction does that, and it is due every hour.
//
// A damaged slot counts as unknown, and its shard is listed soon. Until all slots are
// known, a caller that adds to the cache evicts as many bytes.

const (
	shardCount = 256

	usageMagic  = "cachetrip usage\n"
	usageHeader = 64
	usageSlot   = 16
	usageSize   = usageHeader + shardCount*usageSlot

	// listEvery is how often a shard is listed, to remove its leftovers.
	listEvery = time.Hour
)

// usagePage is the content of the usage file.
type usagePage [usageSize]byte

var pagePool = sync.Pool{New: func() any { return new(usagePage) }}

type slot struct {
	bytes  int64
	listed uint32 // when the shard was last listed, in minutes since 1970
	known  bool
}

func slotCheck(bytes uint64, listed uint32) uint32 {
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio: spreads every bit over the upper half
	return uint32(((bytes^uint64(listed)<<40)+1)*odd>>32) ^ 0x5bd1e995
}

func decodeSlot(b []byte) slot {
	n, listed := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:])
	if binary.LittleEndian.Uint32(b[12:]) != slotCheck(n, listed) || int64(n) < 0 {
		return slot{}
	}
	return slot{bytes: int64(n), listed: listed, known: true}
}

func (s slot) encode(b []byte) {
	s.bytes = max(s.bytes, 0)
	binary.LittleEndian.PutUint64(b, uint64(s.bytes))
	binary.LittleEndian.PutUint32(b[8:], s.listed)
	binary.LittleEndian.PutUint32(b[12:], slotCheck(uint64(s.bytes), s.listed))
}

func (p *usagePage) slot(shard int) slot {
	return decodeSlot(p[usageHeader+shard*usageSlot:][:usageSlot])
}

// sum adds up the shards that are known.
func (p *usagePage) sum() (n int64) {
	for i := range shardCount {
		n += p.slot(i).bytes
	}
	return n
}

// due returns the first shard from start on that is due to be listed, or -1.
func (p *usagePage) due(start int, now time.Time) int {
	for i := range shardCount {
		if shard := (start + i) % shardCount; p.dueShard(shard, now) {
			return shard
		}
	}
	return -1
}

func (p *usagePage) dueShard(shard int, now time.Time) bool {
	s := p.slot(shard)
	age := now.Unix()/60 - int64(s.listed)
	// A time in the future, by more than clocks differ, is from a clock that was set back.
	return !s.known || age >= int64(listEvery/time.Minute) || age < -1
}

// residence returns how long the key that was evicted last had not been used, and when the
// cache was made. Both are zero if not known.
func (p *usagePage) residence() (evicted time.Duration, made int64) {
	if string(p[:len(usageMagic)]) != usageMagic {
		return 0, 0
	}
	return time.Duration(binary.LittleEndian.Uint64(p[24:])), int64(binary.LittleEndian.Uint64(p[16:]))
}

// usageFile holds the usage file open.
type usageFile struct {
	mu sync.Mutex
	f  *os.File
	fd uintptr // of f

	path string

	checked int64       // when its path was last checked, in nanoseconds since 1970
	suspect atomic.Bool // its directory may have been removed
}

// newUsage writes the usage file of a new cache, unless there is one. The file appears
// with all its content, because other processes may use it at once. Nobody makes the
// directory of the shards before the usage file exists. If that directory does not exist,
// the cache is therefore known to be empty.
func (d *Disk) newUsage() error {
	path := filepath.Join(d.root, "usage")
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var p usagePage
	now := time.Now()
	copy(p[:], usageMagic)
	binary.LittleEndian.PutUint64(p[16:], uint64(now.UnixNano()))
	if _, err := os.Lstat(d.data); errors.Is(err, fs.ErrNotExist) {
		for i := range shardCount {
			slot{listed: uint32(now.Unix() / 60)}.encode(p[usageHeader+i*usageSlot:])
		}
	}
	linked, err := d.linkNew(path, p[:])
	if linked || err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|nofollow, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	d.owner.give(f.Fd())
	_, err = f.WriteAt(p[:], 0)
	return err
}

// linkNew makes a file with the content b appear at path, unless there is one already. It
// reports false if the file system has no hard links.
func (d *Disk) linkNew(path string, b []byte) (linked bool, err error) {
	if err := checkDirs(d.root); err != nil {
		return false, err
	}
	if _, err := makeDir(d.tmp); err != nil {
		return false, err
	}
	temp := filepath.Join(d.tmp, strconv.FormatUint(rand.Uint64(), 36))
	if err := writeNew(temp, b, &written{owner: d.owner}); err != nil {
		return false, err
	}
	defer os.Remove(temp)
	err = os.Link(temp, path)
	return err == nil || errors.Is(err, fs.ErrExist), nil
}

// usageOpen returns the usage file. It opens the file again if its directory was removed or
// replaced meanwhile.
func (d *Disk) usageOpen() (*os.File, error) {
	d.usage.mu.Lock()
	defer d.usage.mu.Unlock()
	if d.closed.Load() {
		return nil, ErrClosed
	}
	now := time.Now().UnixNano()
	if d.usage.f != nil && linked(d.usage.fd) && recent(d.usage.checked, now) && !d.usage.suspect.Load() {
		return d.usage.f, nil
	}
	d.usage.suspect.Store(false)
	if err := checkDirs(d.root); err != nil {
		d.usage.suspect.Store(true)
		return nil, err
	}
	d.usage.checked = now
	if d.usage.f != nil {
		if stands(d.usage.fd, d.usage.path) {
			return d.usage.f, nil
		}
		d.usage.f.Close()
		d.usage.f = nil
		d.secretStale.Store(true)
	}
	path := filepath.Join(d.root, "usage")
	f, err := os.OpenFile(path, os.O_RDWR|nofollow, 0)
	if errors.Is(err, fs.ErrNotExist) || removeForeign(path, err) {
		if err = d.makeLayout(); err == nil {
			if err = d.newUsage(); err == nil {
				f, err = os.OpenFile(path, os.O_RDWR|nofollow, 0)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	d.usage.f, d.usage.fd, d.usage.path = f, f.Fd(), path
	shareLock(f)
	d.noteInUse(now)
	return f, nil
}

// noteInUse notes once a day that the version of the format is in use; see sweepVersions.
func (d *Disk) noteInUse(now int64) {
	last := d.inUse.Load()
	if age := now - last; age >= 0 && age < int64(inUseEvery) || !d.inUse.CompareAndSwap(last, now) {
		return
	}
	path := filepath.Join(d.root, "usage")
	var st fileStat
	if statFile(path, &st) != nil || !isOld(now, st.mtime, inUseEvery) {
		return
	}
	if err := os.Chtimes(path, time.Time{}, time.Unix(0, now)); err != nil {
		d.log.Debug("cachetrip: store: use of the cache not recorded", "error", err)
	}
}

func (d *Disk) usageClose() {
	d.usage.mu.Lock()
	defer d.usage.mu.Unlock()
	if d.usage.f != nil {
		d.usage.f.Close()
		d.usage.f = nil
	}
}

// readUsage reads the whole usage file. Missing slots are unknown.
func (d *Disk) readUsage(p *usagePage) error {
	f, err := d.usageOpen()
	if err != nil {
		return opError("read usage", err)
	}
	return d.readUsageFrom(f, p)
}

func (d *Disk) readUsageFrom(f *os.File, p *usagePage) error {
	n, err := f.ReadAt(p[:], 0)
	if err != nil && err != io.EOF {
		return opError("read usage", err)
	}
	clear(p[n:])
	d.noteResidence(p)
	d.noteSqueeze(p)
	return nil
}

// account notes that the files of the locked shard grow by delta bytes. It fills page
// afterwards and returns the size of all shards.
func (l *locked) account(delta int64, page *usagePage) (sum int64, err error) {
	f, err := l.d.usageOpen()
	if err != nil {
		return 0, opError("read usage", err)
	}
	// The slot is written before those of others are read; see reserve.
	var b [usageSlot]byte
	if _, err := f.ReadAt(b[:], int64(usageHeader+l.shard*usageSlot)); err != nil && err != io.EOF {
		return 0, opError("read usage", err)
	}
	s := decodeSlot(b[:])
	if !s.known {
		list, err := l.d.listShard(l.shard)
		if err != nil {
			return 0, err
		}
		s = slot{bytes: list.bytes} // not marked as listed, because nothing was swept
		delta = max(delta, 0)       // a removal came before the listing
	}
	s.bytes += delta
	if err := l.putSlot(f, s, page); err != nil {
		return 0, err
	}
	if err := l.d.readUsageFrom(f, page); err != nil {
		return 0, err
	}
	return page.sum(), nil
}

// room is how much a caller may let the cache grow.
type room struct {
	limit int64 // the bytes that the cache may have then
	paid  int64 // the bytes that the caller has freed while the size was unknown
}

// anyRoom is for changes that make the cache smaller in the end.
var anyRoom = room{math.MaxInt64, math.MaxInt64}

// reserve notes growth that is about to happen. It notes nothing and fails with a fullError
// in two cases: the cache would grow beyond the limit, or its size is unknown and the
// caller has not freed as many bytes.
//
// Callers may reserve at the same moment. Each one notes its growth first and reads the
// sum afterwards, and so sees at least all growth noted before its own. Together they
// therefore never get more than the limit.
func (l *locked) reserve(delta int64, r room, page *usagePage) (sum int64, err error) {
	sum, err = l.account(delta, page)
	if err != nil {
		return sum, err
	}
	unknown := delta > r.paid && page.unknown()
	if sum > r.limit || unknown {
		l.account(-delta, page)
		return 0, &fullError{sum - delta, delta, unknown}
	}
	return sum, nil
}

// fullError reports that a cache of sum bytes has no room for delta more bytes, or may
// have none.
type fullError struct {
	sum, delta int64
	unknown    bool // the size of some shards is not known
}

func (e *fullError) Error() string { return "no room" }

// unknown reports whether the size of some shard is not known.
func (p *usagePage) unknown() bool {
	for i := range shardCount {
		if !p.slot(i).known {
			return true
		}
	}
	return false
}

// setSlot writes the slot of the locked shard.
func (l *locked) setSlot(s slot, page *usagePage) error {
	f, err := l.d.usageOpen()
	if err != nil {
		return opError("write usage", err)
	}
	return l.putSlot(f, s, page)
}

func (l *locked) putSlot(f *os.File, s slot, page *usagePage) error {
	off := usageHeader + l.shard*usageSlot
	s.encode(page[off:])
	if _, err := f.WriteAt(page[off:off+usageSlot], int64(off)); err != nil {
		return opError("write usage", err)
	}
	return nil
}

// fileNow returns the time of the clock that sets the times of files. The process may have
// another clock: on a network file system, and in a testing/synctest bubble.
func (d *Disk) fileNow() int64 {
	var st fileStat
	f, err := d.usageOpen()
	if err == nil && runtime.GOOS != "windows" { // Windows sets the mtime when a file is closed
		if _, err = f.WriteAt([]byte(usageMagic), 0); err == nil && statOpen(f, &st) == nil {
			return st.mtime
		}
	}
	return time.Now().UnixNano()
}

// isOld reports whether a file that was changed at mtime is older than age. A time as far
// in the future is from a clock that was set back; such a file counts as old.
func isOld(now, mtime int64, age time.Duration) bool {
	return now-mtime > int64(age) || mtime-now > int64(age)
}

// setResidence notes how long the key that was just evicted had not been used. It is a hint
// that processes may overwrite for each other.
func (d *Disk) setResidence(r time.Duration) {
	f, err := d.usageOpen()
	if err != nil || r <= 0 {
		return
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(r))
	f.WriteAt(b[:], 24)
}

// noteResidence sets from the usage file how old a recorded use time may get before a use
// is recorded again. That is an eighth of the time for which an unused key stays, and at
// most an hour. The order of eviction is right to that precision, whether the cache turns
// over in a second or in a year.
func (d *Disk) noteResidence(p *usagePage) {
	evicted, made := p.residence()
	age := time.Duration(time.Now().UnixNano() - made)
	if evicted > 0 && (evicted < age || age <= 0) {
		age = evicted
	}
	d.touchAfter.Store(int64(min(max(age/8, time.Millisecond), time.Hour)))
}

const errorPrefix = "cachetrip: store: "

// opError adds the operation to an error, unless err already names it.
func opError(op string, err error) error {
	if err == nil || errors.Is(err, ErrClosed) || strings.HasPrefix(err.Error(), errorPrefix) {
		return err
	}
	return fmt.Errorf("%s%s: %w", errorPrefix, op, err)
}
