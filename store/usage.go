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

// How much room the cache takes is kept in the file "usage", so that opening one needs no scan: a slot
// per shard, written under the shard's lock, with the bytes of its files, in blocks. Growth is noted
// before it happens and shrinkage after, so that a process that is killed in between leaves a slot that
// says too much rather than too little; listing the shard, which eviction does and which is due every
// hour, sets it right. A slot that does not prove itself is unknown, and its shard is listed soon; until all are known, who
// adds to the cache evicts as much.

const (
	shardCount = 256

	usageMagic  = "cachetrip usage\n"
	usageHeader = 64
	usageSlot   = 16
	usageSize   = usageHeader + shardCount*usageSlot

	// listEvery is how often a shard is listed, for what was left behind in it.
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

// due returns a shard that is to be listed, looking from start on; -1 if there is none.
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
	// A time in the future, by more than clocks differ, comes from a clock that was since set back.
	return !s.known || age >= int64(listEvery/time.Minute) || age < -1
}

// residence returns how long what was evicted last had not been used, and when the cache was made; zero
// if not known.
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

	checked int64       // when it was made sure that it is where the cache has it, in nanoseconds since 1970
	suspect atomic.Bool // the directory that it is in may have been taken away
}

// newUsage writes the usage file of a cache that was just made, unless there is one. It appears with all its content:
// others may use it at once. Until there is one nobody makes the directory of the data, so that without that directory
// the cache is known to hold nothing.
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
	_, err = f.WriteAt(p[:], 0)
	return err
}

// linkNew makes a file with b in it appear at path, unless there is one already. It reports false if that is not
// possible, as there are no hard links here.
func (d *Disk) linkNew(path string, b []byte) (linked bool, err error) {
	if err := checkDirs(d.root); err != nil {
		return false, err
	}
	if _, err := makeDir(d.tmp); err != nil {
		return false, err
	}
	temp := filepath.Join(d.tmp, strconv.FormatUint(rand.Uint64(), 36))
	if err := writeNew(temp, b, new(written)); err != nil {
		return false, err
	}
	defer os.Remove(temp)
	err = os.Link(temp, path)
	return err == nil || errors.Is(err, fs.ErrExist), nil
}

// usageOpen returns the usage file, opening it anew if its directory was taken away, or replaced, meanwhile.
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
	if errors.Is(err, fs.ErrNotExist) {
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
	return f, nil
}

func (d *Disk) usageClose() {
	d.usage.mu.Lock()
	defer d.usage.mu.Unlock()
	if d.usage.f != nil {
		d.usage.f.Close()
		d.usage.f = nil
	}
}

// readUsage reads the whole usage file. What is missing in it is unknown.
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
	return nil
}

// account notes that the files of the locked shard grow by delta bytes and returns the sum of all shards,
// which was read afterwards; page is filled for further use.
func (l *locked) account(delta int64, page *usagePage) (sum int64, err error) {
	f, err := l.d.usageOpen()
	if err != nil {
		return 0, opError("read usage", err)
	}
	// Written before the others' are read: see reserve.
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
		s = slot{bytes: list.bytes} // and listed never, as nothing was swept
		delta = max(delta, 0)       // what shrank did so before it was listed
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

// room is what one who makes the cache grow may count on.
type room struct {
	limit int64 // how many bytes the cache may take
	paid  int64 // how many bytes were set free for this while it was not known how many it takes
}

// anyRoom is for what makes the cache smaller in the end.
var anyRoom = room{math.MaxInt64, math.MaxInt64}

// reserve notes growth that is about to happen, unless the cache would take more than the limit with it, or it is not
// known how much it takes and more was not set free: then it fails with a fullError and nothing is noted. Of those who
// reserve at the same moment, each sees at least those who noted theirs before: so what is granted is never more than
// the limit together.
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

// fullError reports that a cache of sum bytes has no room for delta more, or may have none.
type fullError struct {
	sum, delta int64
	unknown    bool // what some shards take is not known
}

func (e *fullError) Error() string { return "no room" }

// unknown reports whether it is not known of some shard what it takes.
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

// fileNow returns the time by the clock that stamps files. The process may have another: on a network file system,
// and within a testing/synctest bubble.
func (d *Disk) fileNow() int64 {
	var st fileStat
	f, err := d.usageOpen()
	if err == nil && runtime.GOOS != "windows" { // which stamps a file when it is closed
		if _, err = f.WriteAt([]byte(usageMagic), 0); err == nil && statOpen(f, &st) == nil {
			return st.mtime
		}
	}
	return time.Now().UnixNano()
}

// isOld reports whether what was changed at mtime is older than age. What was changed so long after now was so by a
// clock that was since set back, and is left behind as well.
func isOld(now, mtime int64, age time.Duration) bool {
	return now-mtime > int64(age) || mtime-now > int64(age)
}

// setResidence notes how long what was just evicted had not been used. It is a hint, which processes may
// overwrite for each other.
func (d *Disk) setResidence(r time.Duration) {
	f, err := d.usageOpen()
	if err != nil || r <= 0 {
		return
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(r))
	f.WriteAt(b[:], 24)
}

// noteResidence derives from the usage file how old a recorded use time may get before a use is recorded
// anew: an eighth of the time that an unused key stays, so that the order of eviction is right to that
// precision whether the cache turns over in a second or in a year; and an hour at most.
func (d *Disk) noteResidence(p *usagePage) {
	evicted, made := p.residence()
	age := time.Duration(time.Now().UnixNano() - made)
	if evicted > 0 && (evicted < age || age <= 0) {
		age = evicted
	}
	d.touchAfter.Store(int64(min(max(age/8, time.Millisecond), time.Hour)))
}

const errorPrefix = "cachetrip: store: "

// opError says what was tried, unless err says so already.
func opError(op string, err error) error {
	if err == nil || errors.Is(err, ErrClosed) || strings.HasPrefix(err.Error(), errorPrefix) {
		return err
	}
	return fmt.Errorf("%s%s: %w", errorPrefix, op, err)
}
