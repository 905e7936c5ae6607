package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

// The file "usage" has the size of the cache, so that opening the cache needs
// no scan. It has a slot for each shard, with the size of the shard's files in
// whole blocks. A slot is written under the shard's lock. The bytes added since
// then are counted in growth.go. Growth is noted before it happens, and
// shrinkage after.
// If a process is killed in between, the slot is too large rather than too
// small. Listing the shard corrects it; eviction does that, and it is due every
// hour.
//
// A damaged slot counts as unknown, and its shard is listed soon. Until all
// slots are known, a caller that adds to the cache evicts as many bytes.

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
	bytes  int64  // may be negative if the shard has grown since
	listed uint32 // when the shard was last listed, in minutes since 1970
	known  bool
}

func slotCheck(bytes uint64, listed uint32) uint32 {
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio: spreads every bit over the upper half
	return uint32(((bytes^uint64(listed)<<40)+1)*odd>>32) ^ 0x5bd1e995
}

func decodeSlot(b []byte) slot {
	n, listed := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:])
	if binary.LittleEndian.Uint32(b[12:]) != slotCheck(n, listed) {
		return slot{}
	}
	return slot{bytes: int64(n), listed: listed, known: true}
}

func (s slot) encode(b []byte) {
	binary.LittleEndian.PutUint64(b, uint64(s.bytes))
	binary.LittleEndian.PutUint32(b[8:], s.listed)
	binary.LittleEndian.PutUint32(b[12:], slotCheck(uint64(s.bytes), s.listed))
}

func (p *usagePage) slot(shard int) slot {
	s := decodeSlot(p[usageHeader+shard*usageSlot:][:usageSlot])
	s.bytes = max(s.bytes, 0)
	return s
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
	// A time in the future, by more than clocks differ, is from a clock that
	// was set back.
	return !s.known || age >= int64(listEvery/time.Minute) || age < -1
}

// residence returns how long the key that was evicted last had not been used,
// and when the cache was made. Both are zero if not known.
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

	mapped atomic.Pointer[usageMap] // may be of an earlier f
}

// inMemory returns the map of f, or nil if f is not the usage file any more.
func (u *usageFile) inMemory(f *os.File) *usageMap {
	if m := u.mapped.Load(); m != nil && m.file == f {
		return m
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.f != f {
		return nil
	}
	m := newUsageMap(f, u.fd, u.path)
	u.mapped.Store(m)
	return m
}

// newUsage writes the usage file of a new cache, unless there is one. The file
// appears with all its content, because other processes may use it at once.
// Nobody makes the directory of the shards before the usage file exists. If
// that directory does not exist, the cache is therefore known to be empty.
func (d *Disk) newUsage() error {
	path := filepath.Join(d.root, "usage")
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var p usagePage
	now := time.Now()
	copy(p[:], usageMagic)
	binary.LittleEndian.PutUint64(p[16:], uint64(now.UnixNano()))
	if isMissing(d.data) && isMissing(d.counts.path()) {
		for i := range shardCount {
			slot{listed: uint32(now.Unix() / 60)}.encode(p[usageHeader+i*usageSlot:])
		}
	}
	linked, err := d.linkNew(path, p[:])
	if linked || err != nil {
		return err
	}
	f, err := d.createNew(path)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(p[:], 0)
	return err
}

// isMissing reports whether path is known not to exist.
func isMissing(path string) bool {
	var st fileStat
	return errors.Is(statFile(path, &st), fs.ErrNotExist)
}

// linkNew makes a file with the content b appear at path, unless there is one
// already. It reports false if the file system cannot do that.
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
	err = moveNew(temp, path)
	return err == nil || errors.Is(err, fs.ErrExist), nil
}

// usageOpen returns the usage file. It opens the file again if its directory
// was removed or replaced meanwhile. It looks from time to time, and after a
// caller that locked a shard has noticed that.
func (d *Disk) usageOpen() (*os.File, error) {
	d.usage.mu.Lock()
	defer d.usage.mu.Unlock()
	if d.closed.Load() {
		return nil, ErrClosed
	}
	now := time.Now().UnixNano()
	if d.usage.f != nil && recent(d.usage.checked, now) && !d.usage.suspect.Load() {
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
		d.leases.checked.Store(0)
		d.counts.suspect()
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

// noteInUse notes once a day that the version of the format is in use; see
// sweepVersions.
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
	os.Chtimes(path, time.Time{}, time.Unix(0, now)) // another process may be allowed to
}

func (d *Disk) usageClose() {
	d.usage.mu.Lock()
	defer d.usage.mu.Unlock()
	if d.usage.f != nil {
		d.usage.f.Close()
		d.usage.f = nil
		d.usage.mapped.Store(nil)
	}
}

// readUsage reads the whole usage file, and adds the growth since. Missing
// slots are unknown.
func (d *Disk) readUsage(p *usagePage) error {
	f, err := d.usageOpen()
	if err != nil {
		return opError("read usage", err)
	}
	return d.readSizes(f, p)
}

// readSizes reads the usage file f, and adds the growth since. Another caller may
// move the growth of a shard to its slot after the slots were read. So that it
// does not get lost, the growth before that counts as well; see addGrowth.
func (d *Disk) readSizes(f *os.File, p *usagePage) error {
	var words [shardCount]uint64
	before := d.counts.mapped(&words)
	err := d.readUsageFrom(f, p)
	if err == nil {
		d.counts.addGrowth(p, before)
	}
	return err
}

// readUsageFrom reads the usage file as it is.
func (d *Disk) readUsageFrom(f *os.File, p *usagePage) error {
	if !d.readMapped(f, p) {
		n, err := f.ReadAt(p[:], 0)
		if err != nil && err != io.EOF {
			return opError("read usage", err)
		}
		clear(p[n:])
	}
	d.noteResidence(p)
	d.noteSqueeze(p)
	return nil
}

// readMapped fills p without a system call. It reports false where the counters
// are not mapped.
func (d *Disk) readMapped(f *os.File, p *usagePage) bool {
	if d.counts.mapping.Load() == nil {
		return false
	}
	m := d.usage.inMemory(f)
	return m != nil && m.read(p)
}

// fileNow returns the time of the clock that sets the times of files. The
// process may have another clock: on a network file system, and in a
// testing/synctest bubble.
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

// isOld reports whether a file that was changed at mtime is older than age. A
// time as far in the future is from a clock that was set back; such a file
// counts as old.
func isOld(now, mtime int64, age time.Duration) bool {
	return now-mtime > int64(age) || mtime-now > int64(age)
}

// setResidence notes how long the key that was just evicted had not been used.
// It is a hint that processes may overwrite for each other.
func (d *Disk) setResidence(r time.Duration) {
	f, err := d.usageOpen()
	if err != nil || r <= 0 {
		return
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(r))
	f.WriteAt(b[:], 24)
}

// noteResidence notes what the usage file p says about how long keys stay; see
// touchAge.
func (d *Disk) noteResidence(p *usagePage) {
	evicted, made := p.residence()
	d.evicted.Store(int64(evicted))
	d.made.Store(made)
}

// touchAge returns how old a recorded use time may get before a use is recorded
// again. That is an eighth of the time for which an unused key stays, and at
// most an hour. The order of eviction is right to that precision, whether the
// cache turns over in a second or in a year. Until something is evicted, that
// time grows with the age of the cache.
func (d *Disk) touchAge(now int64) int64 {
	stays, age := d.evicted.Load(), now-d.made.Load()
	if stays <= 0 || age > 0 && age < stays {
		stays = age
	}
	return min(max(stays/8, int64(time.Millisecond)), int64(time.Hour))
}

const errorPrefix = "cachetrip: store: "

// opError adds the operation to an error, unless err already names it.
func opError(op string, err error) error {
	if err == nil || errors.Is(err, ErrClosed) || strings.HasPrefix(err.Error(), errorPrefix) {
		return err
	}
	return fmt.Errorf("%s%s: %w", errorPrefix, op, err)
}
