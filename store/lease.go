package store

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cachetrip/cachetrip/store/internal/leasewait"
)

// Leases: of all processes that share the cache, one at a time fetches a
// variant, and the others wait for what it stores. A lease is an advisory lock
// on a part of the file "leases". The part begins at a hash of the key and the
// variant. Its length is random, and tells one holder from the next. So a lease
// costs two system calls and no file of its own, and the system ends it when
// its process dies.
//
// The file has two tables. One has recent fetches that were of no use to
// others. Nobody waits for the like. The other has when somebody first waited
// for a holder. A process that is stopped, or whose origin hangs, keeps its
// lease. So callers wait from then on together, not one after another.

const (
	// leaseTime is how long a caller without a deadline waits for another process.
	leaseTime = 5 * time.Second

	// leaseWidth limits the length of a lock. Locks begin at multiples of it.
	leaseWidth = 1 << 20

	// leaseSlots is how many leases each table has room for.
	leaseSlots = 1024

	// A slot of the first table has the lease's sum and the time of the fetch
	// in seconds since 1970. One of the second has the sum, the holder, and the
	// time of the first wait in nanoseconds.
	uselessSize, waitSize = 8, 16
	waitsAt               = leaseSlots * uselessSize
)

// lease is what a lock on the file of leases stands for.
type lease struct {
	start  int64 // of the lock
	length int64 // of the lock; who only looks does not know it
	slot   int64 // of both tables
	sum    uint32
}

// leaseOf returns the lease for a key and a variant. Two of them that share a
// lock cost a wait, and nothing else.
func leaseOf(key, variant string) lease {
	h := fnv.New64a()
	h.Write([]byte(key))
	h.Write([]byte{0})
	h.Write([]byte(variant))
	sum := h.Sum64()
	return lease{
		start:  int64(sum & (math.MaxInt64 >> 1) &^ (leaseWidth - 1)),
		length: 1 + rand.Int64N(leaseWidth-1),
		slot:   int64(sum % leaseSlots),
		sum:    uint32(sum >> 32),
	}
}

// leaseFile is the file of the leases. Its zero value has none open.
type leaseFile struct {
	mu      sync.Mutex
	file    *os.File
	fd      uintptr // of file
	refused bool    // the file system has no locks, or does not let this process lock
	closed  bool
	held    map[int64]int // how often this process has each lease

	checked atomic.Int64 // when its name was last looked at, in nanoseconds since 1970
}

// Lease asks to be the one process that fetches what is to be stored under key
// for the given variant of requests. Requests with equal variants want the same
// response. A Transport calls Lease when it would ask an origin.
//
// If granted, the caller fetches. It calls release when the response is stored,
// or with shared false when the response is of no use to others: then nobody
// waits for the like for 10 s. If not granted, another process was fetching and
// has ended: the caller looks up again, and release is nil. Lease waits for one
// other process at most, until ctx ends, or for 5 s if ctx has no deadline.
// Then it grants the lease, although the caller does not have it. If ctx has
// ended before, Lease does not wait, but can still grant the lease. Within a
// Disk, all callers have a lease at the same time.
//
// A process that dies ends its leases. For one that goes on, or is stopped, a
// caller waits no longer than it would have since somebody first waited for it.
// Where the file system has no locks, Lease grants everything.
func (d *Disk) Lease(ctx context.Context, key, variant string) (release func(shared bool), granted bool) {
	none := func(bool) {}
	if CheckKey(key) != nil || d.closed.Load() {
		return none, true
	}
	wanted := leaseOf(key, variant)
	free, holder, err := d.leases.take(d, wanted)
	switch {
	case free:
		return func(shared bool) { d.leases.release(wanted, shared) }, true
	case err != nil || d.leases.isUseless(wanted):
		return none, true
	}
	now := time.Now()
	last, ok := ctx.Deadline()
	if !ok {
		last = now.Add(leaseTime)
	}
	last = d.leases.waitedSince(wanted, holder, now).Add(last.Sub(now))
	ended := leasewait.ForEnd(ctx, last, func() (bool, error) {
		now, err := d.leases.holder(wanted)
		return now != holder, err
	})
	if ended {
		return nil, false
	}
	return none, true
}

// take takes a lease. If another process has it, take returns the length of
// that one's lock.
func (l *leaseFile) take(d *Disk, wanted lease) (free bool, holder int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused || l.closed {
		return false, 0, errors.ErrUnsupported
	}
	if l.held[wanted.start] > 0 {
		l.held[wanted.start]++
		return true, 0, nil
	}
	if err := l.open(d); err != nil {
		return false, 0, err
	}
	for range 3 { // the holder may end between the two calls
		free, err = lockRange(l.fd, wanted.start, wanted.length)
		if err == nil && !free {
			holder, err = lockedLength(l.fd, wanted.start)
		}
		switch {
		case err != nil:
			l.refused = lockUnsupported(err) || errors.Is(err, errors.ErrUnsupported)
			return false, 0, err
		case free:
			if l.held == nil {
				l.held = make(map[int64]int)
			}
			l.held[wanted.start]++
			return true, 0, nil
		case holder != 0:
			return false, holder, nil
		}
	}
	return false, 0, errLocked
}

// holder returns the length of the lock of the process that has a lease, 0 if
// none has it.
func (l *leaseFile) holder(wanted lease) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return 0, fs.ErrClosed
	}
	return lockedLength(l.fd, wanted.start)
}

// open opens the file, unless it is open and had a name a moment ago. The
// caller has mu.
func (l *leaseFile) open(d *Disk) error {
	now := time.Now().UnixNano()
	if l.file != nil {
		if len(l.held) > 0 || recent(l.checked.Load(), now) {
			return nil
		}
		if l.checked.Store(now); linked(l.fd) {
			return nil
		}
		l.file.Close()
		l.file = nil
	}
	path := filepath.Join(d.root, "leases")
	f, err := os.OpenFile(path, os.O_RDWR|nofollow, 0)
	if errors.Is(err, fs.ErrNotExist) || removeForeign(path, err) {
		f, err = d.createNew(path)
		if errors.Is(err, fs.ErrExist) { // another process was faster
			f, err = os.OpenFile(path, os.O_RDWR|nofollow, 0)
		}
	}
	if err != nil {
		// Only a process that may write to the cache fetches for others.
		l.refused = errors.Is(err, fs.ErrPermission) || errno(err) == syscall.EROFS
		return err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		l.refused = true
		return errors.ErrUnsupported
	}
	l.file, l.fd = f, f.Fd()
	l.checked.Store(now)
	return nil
}

// release ends one use of a lease, and notes whether it was of use to others.
func (l *leaseFile) release(had lease, shared bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return
	}
	if !shared {
		var b [8]byte
		binary.LittleEndian.PutUint32(b[:], had.sum)
		binary.LittleEndian.PutUint32(b[4:], uint32(time.Now().Unix()))
		l.file.WriteAt(b[:], had.slot*uselessSize) // if that fails, others wait once more
	}
	if l.held[had.start]--; l.held[had.start] > 0 {
		return
	}
	delete(l.held, had.start)
	if runtime.GOOS == "windows" { // all holders look the same
		l.file.WriteAt(make([]byte, waitSize), waitsAt+had.slot*waitSize)
	}
	unlockRange(l.fd, had.start)
}

// isUseless reports whether a fetch was of no use to others a short while ago.
func (l *leaseFile) isUseless(wanted lease) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b [8]byte
	if l.file == nil {
		return false
	}
	if _, err := l.file.ReadAt(b[:], wanted.slot*uselessSize); err != nil || binary.LittleEndian.Uint32(b[:]) != wanted.sum {
		return false
	}
	age := int64(uint32(time.Now().Unix())) - int64(binary.LittleEndian.Uint32(b[4:]))
	return age >= 0 && age < int64(leasewait.UselessTime/time.Second)
}

// waitedSince returns when a caller first waited for the holder of a lease:
// now, if this one is the first.
func (l *leaseFile) waitedSince(wanted lease, holder int64, now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return now
	}
	at := waitsAt + wanted.slot*waitSize
	var b, known [waitSize]byte
	binary.LittleEndian.PutUint32(b[:], wanted.sum)
	binary.LittleEndian.PutUint32(b[4:], uint32(holder))
	binary.LittleEndian.PutUint64(b[8:], uint64(now.UnixNano()))
	if _, err := l.file.ReadAt(known[:], at); err == nil && [8]byte(known[:]) == [8]byte(b[:]) {
		since := time.Unix(0, int64(binary.LittleEndian.Uint64(known[8:])))
		if !since.After(now) { // else the clock was set back
			return since
		}
	}
	l.file.WriteAt(b[:], at) // if that fails, others wait as long as this one
	return now
}

// close ends all leases.
func (l *leaseFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed, l.held = true, nil
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}
