package store

import (
	"io"
	"math"
	"os"
)

// This file notes the growth of shards, and keeps it within the size limit.

// account notes that the files of the locked shard grow by delta bytes. It
// fills page afterwards and returns the size of all shards.
func (l *locked) account(delta int64, page *usagePage) (sum int64, err error) {
	f, err := l.d.usageOpen()
	if err != nil {
		return 0, opError("read usage", err)
	}
	// The growth is noted before that of others is read; see reserve.
	noted := l.d.counts.grow(l.shard, delta).known
	if noted {
		if err := l.d.readSizes(f, page); err != nil {
			return 0, err
		}
	}
	if !noted || !page.slot(l.shard).known {
		if err := l.addToSlot(f, delta, page); err != nil {
			return 0, err
		}
		if err := l.d.readSizes(f, page); err != nil {
			return 0, err
		}
	}
	return page.sum(), nil
}

// addToSlot notes in the slot of the locked shard that its files grow by delta
// bytes. It lists the shard if its size is unknown.
func (l *locked) addToSlot(f *os.File, delta int64, page *usagePage) error {
	if err := l.settle(); err != nil {
		return err
	}
	var b [usageSlot]byte
	if _, err := f.ReadAt(b[:], l.slotAt()); err != nil && err != io.EOF {
		return opError("read usage", err)
	}
	s := decodeSlot(b[:])
	if !s.known {
		list, err := l.d.listShard(l.shard)
		if err != nil {
			return err
		}
		s = slot{bytes: list.bytes} // not marked as listed, because nothing was swept
		delta = max(delta, 0)       // a removal came before the listing
	}
	s.bytes += delta
	return l.putSlot(f, s, page)
}

// room is how much a caller may let the cache grow.
type room struct {
	limit int64 // the bytes that the cache may have then
	paid  int64 // the bytes that the caller has freed while the size was unknown
}

// anyRoom is for changes that make the cache smaller in the end.
var anyRoom = room{math.MaxInt64, math.MaxInt64}

// reserve notes growth that is about to happen. It notes nothing and fails with
// a fullError in two cases: the cache would grow beyond the limit, or its size
// is unknown and the caller has not freed as many bytes.
//
// Callers may reserve at the same moment. Each one notes its growth first and
// reads the sum afterwards, and so sees at least all growth noted before its
// own. Together they therefore never get more than the limit.
func (l *locked) reserve(delta int64, r room, page *usagePage) (sum int64, err error) {
	sum, err = l.account(delta, page)
	if err != nil {
		return sum, err
	}
	unknown := delta > r.paid && page.unknown() > 0
	if sum > r.limit || unknown {
		l.account(-delta, page)
		return 0, &fullError{sum - delta, delta, unknown}
	}
	return sum, nil
}

// reserveUnlocked is reserve for a caller without the lock of the shard. It
// reports false, and notes nothing, if that needs the lock: growth cannot be
// noted in memory, the size of the cache is not known, or the cache has
// something to evict first.
//
// If the shard is listed between the reservation and the growth, its size is
// too small until the next listing, by one block for each caller that was just
// then at it.
func (d *Disk) reserveUnlocked(shard int, delta int64) bool {
	f, err := d.usageOpen()
	if err != nil || !d.counts.grow(shard, delta).known {
		return false
	}
	page := pagePool.Get().(*usagePage)
	defer pagePool.Put(page)
	if d.readSizes(f, page) != nil || page.unknown() > 0 || page.sum() > d.limit() {
		d.counts.grow(shard, -delta)
		return false
	}
	return true
}

// fullError reports that a cache of sum bytes has no room for delta more bytes,
// or may have none.
type fullError struct {
	sum, delta int64
	unknown    bool // the size of some shards is not known
}

func (e *fullError) Error() string { return "no room" }

// unknown returns of how many shards the size is not known.
func (p *usagePage) unknown() (n int) {
	for i := range shardCount {
		if !p.slot(i).known {
			n++
		}
	}
	return n
}

// setSlot writes the slot of the locked shard after a listing; see listSettled.
func (l *locked) setSlot(s slot, page *usagePage) error {
	f, err := l.d.usageOpen()
	if err != nil {
		return opError("write usage", err)
	}
	return l.putSlot(f, s, page)
}

func (l *locked) putSlot(f *os.File, s slot, page *usagePage) error {
	off := l.slotAt()
	s.encode(page[off:])
	if _, err := f.WriteAt(page[off:off+usageSlot], off); err != nil {
		return opError("write usage", err)
	}
	return nil
}

// slotAt returns where the slot of the shard is in the usage file.
func (l *locked) slotAt() int64 { return int64(usageHeader + l.shard*usageSlot) }

// listSettled lists the locked shard after its growth was moved to its slot, so
// that the slot may be set to the bytes that the list has.
func (l *locked) listSettled() (*shardList, error) {
	if err := l.settle(); err != nil {
		return nil, err
	}
	return l.d.listShard(l.shard)
}
