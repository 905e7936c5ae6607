package store

import (
	"sync"
	"sync/atomic"
)

// tier is the memory tier of a Disk: the content of the files of hot keys, limited in bytes.
// A hit takes a shared lock and sets a bit.
//
// It evicts by SIEVE (Zhang et al., NSDI 2024): one hand goes round from the oldest item to
// the newest. It spares items that were used since it last came by, and drops the first
// that was not. Scans do not push out hot items then; W-TinyLFU is hardly better at that.
// SIEVE needs no buffers, no goroutine and no clock. A store therefore leaves nothing
// behind, and works in a testing/synctest bubble.
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
	mu    sync.RWMutex
	items map[string]*tierItem
	head  *tierItem // newest
	tail  *tierItem // oldest
	hand  *tierItem
	bytes int64
}

// tierItem is the content of the file of a key when it was read or written.
type tierItem struct {
	keyState
	key   string
	path  string
	stat  fileStat
	seen  int64 // when the file was read, in nanoseconds since 1970
	exact bool  // no other state of the file had this stat; see written
	bytes int64

	used    atomic.Int64 // the use time that the file carries, in nanoseconds since 1970
	visited atomic.Bool

	held  atomic.Pointer[heldFile] // nil: not held open
	looks atomic.Uint32            // see heldFiles.named

	newer, older *tierItem
}

// holds reports whether a file, whose properties are st now, still has the content of the
// item.
func (it *tierItem) holds(st *fileStat) bool {
	if it.exact {
		return st.same(&it.stat)
	}
	return st.unchanged(&it.stat, it.seen)
}

// memory returns about how many bytes the item takes, with what decoding allocates.
func (it *tierItem) memory() int64 {
	return it.live + min(it.size-it.live, looseMax) + 512 + 1024*int64(len(it.entries))
}

// looseMax limits the obsolete bytes of a file that stay in memory beside the
// small bodies in it.
const looseMax = 64 << 10

// detach copies the small bodies if they would keep many obsolete bytes in memory.
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
	// The first two digits are the shard. More digits spread the keys of a shard, too.
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
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.items[key]
}

func (t *tier) put(it *tierItem) {
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
	p.put(it, max)
}

func (p *tierPart) put(it *tierItem, max int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.items == nil {
		p.items = make(map[string]*tierItem)
	}
	if old := p.items[it.key]; old != nil {
		it.visited.Store(old.visited.Load())
		p.unlink(old)
	}
	for p.bytes+it.bytes > max && p.tail != nil {
		p.evict()
	}
	p.items[it.key] = it
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
	p.mu.Lock()
	defer p.mu.Unlock()
	if it := p.items[key]; it != nil {
		p.unlink(it)
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
	p.unlink(it)
}

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
	if f := it.held.Load(); f != nil {
		f.close()
	}
	delete(p.items, it.key)
	p.bytes -= it.bytes
}
