package store

import (
	"sync"
	"sync/atomic"
	"time"
)

// tier is the memory tier of a Disk: the content of the files of hot keys,
// limited in bytes. A hit takes no lock and sets a bit. A reader does not wait
// for the lock to keep what it has read; see offer. With many goroutines on few
// cores, a goroutine that waits 100 ns for a lock waits milliseconds for a
// core.
//
// It evicts by SIEVE (Zhang et al., NSDI 2024): one hand goes round from the
// oldest item to the newest. It spares items that were used since it last came
// by, and drops the first that was not. Scans do not push out hot items then;
// W-TinyLFU is hardly better at that. SIEVE needs no buffers, no goroutine and
// no clock. A store therefore leaves nothing behind, and works in a
// testing/synctest bubble.
type tier struct {
	max   int64 // bytes per part; 0: no tier
	parts [tierParts]tierPart

	// large has the items of keys with many variants, which would push out
	// hundreds of others. It may have as much as largeParts parts.
	large    tierPart
	hasLarge atomic.Bool
}

// largeParts is the share of the tier that large items have: so many parts.
const largeParts = 4

// tierParts is how many cores can write to the tier at the same time.
const tierParts = 16

type tierPart struct {
	mu    sync.Mutex // needed to change anything
	items sync.Map   // of *tierItem by key
	head  *tierItem  // newest
	tail  *tierItem  // oldest
	hand  *tierItem
	bytes int64
}

// tierItem is the content of the file of a key when it was read or written.
type tierItem struct {
	keyState
	key   string
	stat  fileStat
	seen  int64 // when the file was read, in nanoseconds since 1970
	exact bool  // no other state of the file had this stat; see written
	bytes int64

	used    atomic.Int64 // the use time that the file carries, in nanoseconds since 1970
	visited atomic.Bool

	// The file is still the same as long as its counter has the value count. 0:
	// not known.
	counter int
	count   atomic.Uint64
	looked  atomic.Int64 // when the file was last looked at, in nanoseconds since 1970

	newer, older *tierItem
}

// holds reports whether a file, whose properties are st now, still has the
// content of the item. count is the value of its counter, or 0.
func (it *tierItem) holds(st *fileStat, count uint64) bool {
	switch {
	case it.unstamped():
		// Of a new file, the number is not known either.
		mine := st.ino == it.stat.ino || it.stat.ino == 0 && time.Duration(st.mtime-it.seen).Abs() < lookEvery
		return count != 0 && count == it.count.Load() && mine && st.size == it.stat.size && st.regular
	case it.exact:
		return st.same(&it.stat)
	}
	return st.unchanged(&it.stat, it.seen)
}

// unstamped reports whether the time of change of the file is not known: this
// process made that change at the time seen, and the counter told that nobody
// else made one.
func (it *tierItem) unstamped() bool { return it.stat.mtime == 0 }

// trust notes that the file was looked at and has the content of the item.
// count is the value that its counter had before.
func (it *tierItem) trust(count uint64, now int64) {
	it.count.Store(count)
	it.looked.Store(now)
}

// memory returns about how many bytes the item takes, with what decoding
// allocates.
func (it *tierItem) memory() int64 {
	return it.live + min(it.size-it.live, looseMax) + 512 + 1024*int64(len(it.entries))
}

// looseMax limits the obsolete bytes of a file that stay in memory beside the
// small bodies in it.
const looseMax = 64 << 10

// detach copies the small bodies if they would keep many obsolete bytes in
// memory.
func (st *keyState) detach() {
	if st.size-st.live <= looseMax {
		return
	}
	copies := make(map[string][]byte)
	for _, e := range st.entries {
		for i := range e.Parts {
			b := &e.Parts[i].Blob
			if b.Inline == nil {
				continue
			}
			if copies[b.ID] == nil {
				copies[b.ID] = append([]byte{}, b.Inline...)
			}
			b.Inline = copies[b.ID]
		}
	}
}

func newTier(bytes int64) *tier {
	return &tier{max: bytes / (tierParts + largeParts)}
}

func (t *tier) part(key string) *tierPart {
	// The first two digits are the shard. More digits spread the keys of a
	// shard, too.
	h := uint32(0)
	for i := 0; i < 8 && i < len(key); i++ {
		h = h*31 + uint32(key[i])
	}
	return &t.parts[h%tierParts]
}

func (t *tier) get(key string) *tierItem {
	if t.max == 0 {
		return nil
	}
	it := t.part(key).get(key)
	if it == nil && t.hasLarge.Load() {
		it = t.large.get(key)
	}
	if it != nil && !it.visited.Load() {
		it.visited.Store(true)
	}
	return it
}

func (p *tierPart) get(key string) *tierItem {
	it, _ := p.items.Load(key)
	item, _ := it.(*tierItem)
	return item
}

// put keeps an item.
func (t *tier) put(it *tierItem) { t.keep(it, true) }

// offer is put for a reader. It keeps nothing if that has to wait. The next
// reader offers the item again.
func (t *tier) offer(it *tierItem) { t.keep(it, false) }

func (t *tier) keep(it *tierItem, waits bool) {
	p, max := t.part(it.key), t.max
	switch {
	case it.bytes > largeParts*t.max/2:
		t.remove(it.key)
		return
	case it.bytes > t.max/4:
		p.remove(it.key)
		t.hasLarge.Store(true)
		p, max = &t.large, largeParts*t.max
	case t.hasLarge.Load():
		t.large.remove(it.key)
	}
	if waits {
		p.mu.Lock()
	} else if !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	p.put(it, max)
}

func (p *tierPart) put(it *tierItem, max int64) {
	if old := p.get(it.key); old != nil {
		it.visited.Store(old.visited.Load())
		p.unlink(old)
	}
	for p.bytes+it.bytes > max && p.tail != nil {
		p.evict()
	}
	p.items.Store(it.key, it)
	p.bytes += it.bytes
	it.older = p.head
	if p.head != nil {
		p.head.newer = it
	}
	p.head = it
	if p.tail == nil {
		p.tail = it
	}
}

func (t *tier) remove(key string) {
	if t.max == 0 {
		return
	}
	t.part(key).remove(key)
	if t.hasLarge.Load() {
		t.large.remove(key)
	}
}

func (p *tierPart) remove(key string) {
	if p.get(key) == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if it := p.get(key); it != nil {
		p.drop(it)
	}
}

func (p *tierPart) evict() {
	it := p.hand
	for {
		if it == nil {
			it = p.tail
		}
		if !it.visited.Swap(false) {
			break
		}
		it = it.newer
	}
	p.hand = it
	p.drop(it)
}

// drop removes an item.
func (p *tierPart) drop(it *tierItem) {
	p.unlink(it)
	p.items.Delete(it.key)
}

// unlink removes an item from the list.
func (p *tierPart) unlink(it *tierItem) {
	if p.hand == it {
		p.hand = it.newer
	}
	if it.newer != nil {
		it.newer.older = it.older
	} else {
		p.head = it.older
	}
	if it.older != nil {
		it.older.newer = it.newer
	} else {
		p.tail = it.newer
	}
	it.newer, it.older = nil, nil
	p.bytes -= it.bytes
}
