package store

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// The file "counters" tells every process whether the file of a key has
// changed, without a system call. All processes map it into memory. It has 4096
// counters of 8 bytes, in the order of bytes of the machine, and several keys
// share one. A writer adds to the counter before and after it changes the file
// of a key, atomically and without a lock. A reader loads the counter before it
// reads the file. As long as the counter has the same value, the file has not
// changed.
//
// The counters tell what this package does. The file of a key is also looked at
// every checkEvery, because others may remove it or put a backup in its place.
// So nothing that happens to the counters can hide a change for longer: a
// process killed between its two additions, torn or random counters, or a file
// that was removed while it was mapped.
//
// A new file has random counters. So the value that was seen in one file does
// not occur in the next, and the file has no holes: where a full disk has no
// room for a page, the system would refuse the first addition.
//
// Where the file cannot be mapped, a look-up asks the system for the file of
// its key.
//
// Behind the counters are 256 words of growth; see growth.go.

const (
	counterCount = 4096
	growthAt     = 8 * counterCount
	countersSize = growthAt + growthSize
)

// counterOf returns the number of a key's counter, by FNV-1a. All processes
// must agree on it. All users of a URL share half of the digits of their keys,
// so that all digits count.
func counterOf(key string) int {
	h := uint32(2166136261)
	for i := range len(key) {
		h = (h ^ uint32(key[i])) * 16777619
	}
	return int((h ^ h>>16) % counterCount)
}

// counters are the counters of a Disk. The file is mapped when it is first
// needed.
type counters struct {
	d       *Disk
	mapping atomic.Pointer[mapping] // nil: none
	checked atomic.Int64            // when the file was last looked at, in nanoseconds since 1970
	off     atomic.Bool             // the file system does not suit
	there   atomic.Bool             // there was a file when it could not be mapped

	mu sync.Mutex // of check
}

// value returns the value of a counter, or 0 if it is not known. It waits for
// nobody: while another goroutine looks at the file, no value is known.
func (c *counters) value(counter int, now int64) uint64 {
	m := c.look(now, false)
	if m == nil {
		return 0
	}
	v := m.load(counter)
	if v == 0 && m.failed.Load() {
		c.suspect()
	}
	return v
}

// known is value, but does not map the file for that. So a process that reads
// each key once does not pay for it.
func (c *counters) known(counter int, now int64) uint64 {
	if c.mapping.Load() == nil {
		return 0
	}
	return c.value(counter, now)
}

// add adds to a counter. It returns the new value, or 0 if it is not known.
func (c *counters) add(counter int) uint64 {
	if m := c.current(time.Now().UnixNano()); m != nil {
		if v := m.add(counter); v != 0 {
			return v
		}
		c.suspect()
	}
	if !c.off.Load() {
		c.overwrite(counter)
	}
	return 0
}

// overwrite changes a counter that this process cannot map. Others may have
// mapped it.
func (c *counters) overwrite(counter int) {
	f, err := c.openFile(os.O_WRONLY)
	if err != nil {
		return // nobody uses the counters, or this process cannot change the cache
	}
	defer f.Close()
	var b [8]byte
	rand.Read(b[:])
	f.WriteAt(b[:], int64(8*counter))
}

// openFile opens the file without mapping it. It returns ErrDamaged if it is no
// such file.
func (c *counters) openFile(flag int) (*os.File, error) {
	f, err := os.OpenFile(c.path(), flag|nofollow, 0)
	if err != nil {
		return nil, err
	}
	var st fileStat
	if err = statOpen(f, &st); err == nil && !(st.regular && st.size == countersSize) {
		err = ErrDamaged
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// keyChange is a change of the file of a key under way. Its zero value counts
// nothing.
type keyChange struct {
	c       *counters
	counter int
	first   uint64
}

// begin is called before a file of a shard changes.
func (c *counters) begin(name string) keyChange {
	if c == nil || len(name) != keyLen {
		return keyChange{}
	}
	counter := counterOf(name)
	return keyChange{c, counter, c.add(counter)}
}

// counts reports whether the value of the counter is known.
func (k keyChange) counts() bool { return k.first != 0 }

// follows reports whether no other change was counted since the counter had the
// value count.
func (k keyChange) follows(count uint64) bool { return count != 0 && k.first == count+1 }

// end is called after the change. It returns the value of the counter. It
// returns 0 if that is not known, or if another change was counted meanwhile.
func (k keyChange) end() uint64 {
	if k.c == nil {
		return 0
	}
	if v := k.c.add(k.counter); v == k.first+1 {
		return v
	}
	return 0
}

// suspect has the file looked at again before its counters are used.
func (c *counters) suspect() { c.checked.Store(0) }

func (c *counters) path() string { return filepath.Join(c.d.root, "counters") }

// current returns the mapped file, or nil. From time to time it makes sure that
// the name still leads to it.
func (c *counters) current(now int64) *mapping { return c.look(now, true) }

// look is current. Without waits, it returns nil while another goroutine looks
// at the file.
func (c *counters) look(now int64, waits bool) *mapping {
	if recent(c.checked.Load(), now) {
		return c.mapping.Load()
	}
	if waits {
		c.mu.Lock()
	} else if !c.mu.TryLock() {
		return nil
	}
	defer c.mu.Unlock()
	if recent(c.checked.Load(), now) {
		return c.mapping.Load()
	}
	m := c.mapping.Load()
	if m == nil || !m.stands(c.path()) {
		m = c.open()
		c.mapping.Store(m)
		c.there.Store(m == nil && !isMissing(c.path()))
	}
	c.checked.Store(now)
	return m
}

// open maps the file, and makes it if it does not exist. It returns nil if the
// file cannot be mapped.
func (c *counters) open() *mapping {
	d := c.d
	if d.closed.Load() || checkDirs(d.root) != nil {
		return nil
	}
	c.off.Store(!mappable(d.root))
	if c.off.Load() {
		return nil
	}
	used, err := d.growthUsed()
	if err != nil {
		return nil
	}
	m, err := mapFile(c.path())
	if c.lost(err) && c.make(used) {
		m, _ = mapFile(c.path())
	}
	if m == nil || !used && d.noteGrowthUsed() != nil {
		return nil
	}
	return m
}

// lost reports whether err says that there is no such file. It removes what is
// in its place.
func (c *counters) lost(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || removeForeign(c.path(), err) ||
		errors.Is(err, ErrDamaged) && removeFile(c.path()) == nil
}

// make makes the file, unless another process does. It reports whether there is
// one now. If words of growth were used before, they are lost.
func (c *counters) make(used bool) bool {
	b := make([]byte, countersSize)
	rand.Read(b)
	if !used {
		noGrowth(b[growthAt:])
	}
	made, err := c.d.linkNew(c.path(), b)
	return made && err == nil
}

// close forgets the file. It stays mapped until no goroutine uses it any more.
func (c *counters) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mapping.Store(nil)
}
