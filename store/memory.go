package store

import (
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cachetrip/cachetrip/store/internal/entryset"
)

// DefaultMemoryStoreBytes is the size limit of a [Memory] that is given none:
// 64 MiB.
const DefaultMemoryStoreBytes = 64 << 20

// Memory keeps a cache in the memory of the process. It is safe for concurrent
// use. It has no goroutine and needs no closing.
type Memory struct {
	max    int64
	secret []byte

	keys  sync.Map      // of *memKey by key
	count atomic.Int64  // of keys
	moves atomic.Uint64 // how often a key was moved to the front of lru

	mu  sync.RWMutex  // needed to change anything; never held while a change function or a body's reader runs
	lru chain[memKey] // the most recently used key is in front, see near

	origins map[string]*memOrigin
	greedy  *memOrigin // the largest origin when something was last stored

	blobs map[string]*memBlob
	loose chain[memBlob] // committed, but not named by an entry yet; the oldest is in front
	bytes int64          // of metadata, blobs and drafts
	next  uint64         // the next blob's ID
}

var _ Store = (*Memory)(nil)

type memKey struct {
	key   string
	has   atomic.Pointer[[]*Entry] // see entries
	heads int64
	place node[memKey]  // in Memory.lru
	moved atomic.Uint64 // Memory.moves when it was last moved to the front

	// The origin of the key, its place there, and the size of its entries. Set
	// while the key has entries.
	origin *memOrigin
	its    node[memKey]
	bytes  int64

	update  chan struct{} // full while an Update of the key runs
	waiting int           // Updates that run or wait; the key stays until there are none
}

// entries returns the entries of k, which nobody changes.
func (k *memKey) entries() []*Entry {
	if has := k.has.Load(); has != nil {
		return *has
	}
	return nil
}

// memOrigin is an origin that keys belong to.
type memOrigin struct {
	name  string
	lru   chain[memKey] // as in Memory
	bytes int64
}

// NewMemory returns a store that keeps at most maxBytes bytes of metadata,
// bodies and drafts. One body may use a quarter of that. The store evicts keys
// in the order of their last use; the eighth of the keys that were used last
// count as equal. A use is not noted if that has to wait for another goroutine.
// If maxBytes is not positive, the limit is DefaultMemoryStoreBytes.
func NewMemory(maxBytes int64) *Memory {
	if maxBytes <= 0 {
		maxBytes = DefaultMemoryStoreBytes
	}
	m := &Memory{
		max:    maxBytes,
		secret: make([]byte, secretLen),
		blobs:  make(map[string]*memBlob),

		origins: make(map[string]*memOrigin),
	}
	rand.Read(m.secret)
	return m
}

// Entries implements [Store].
func (m *Memory) Entries(ctx context.Context, key string) ([]*Entry, error) {
	return m.AppendEntries(ctx, nil, key)
}

// AppendEntries appends the result of Entries to dst. So a look-up need not
// allocate anything.
func (m *Memory) AppendEntries(ctx context.Context, dst []*Entry, key string) ([]*Entry, error) {
	if err := ctx.Err(); err != nil {
		return dst, err
	}
	k := m.find(key)
	if k == nil {
		return dst, CheckKey(key)
	}
	entries := k.entries()
	if len(entries) == 0 {
		return dst, nil // the key was checked by Update
	}
	// A hit must not wait for a lock; see tier. While the lock is taken, uses
	// are not noted. A hot key is used again soon.
	if !m.near(k) && m.mu.TryLock() {
		if m.find(key) == k {
			m.use(k)
		}
		m.mu.Unlock()
	}
	return append(dst, entries...), nil
}

// find returns a key, or nil. It takes no lock.
func (m *Memory) find(key string) *memKey {
	found, _ := m.keys.Load(key)
	k, _ := found.(*memKey)
	return k
}

// near reports whether k is among the first eighth of the keys in lru. It then
// stays there when it is used, so that hits of hot keys need no lock.
func (m *Memory) near(k *memKey) bool {
	return m.moves.Load()-k.moved.Load() <= uint64(m.count.Load()/8)
}

// Fits is like [Disk.Fits].
func (m *Memory) Fits(e *Entry) bool {
	const part = 128
	return metadataSize(e)+part <= min(maxMetadata, m.max/bodyShare)
}

// Update implements [Store].
func (m *Memory) Update(ctx context.Context, key string, change func([]*Entry) []*Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := CheckKey(key); err != nil {
		return err
	}
	k := m.enter(key)
	defer m.leave(k)
	select {
	case k.update <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-k.update }()

	// Only eviction can change the entries meanwhile. Then change is called again.
	for {
		current := k.entries()
		next := change(slices.Clone(current))
		if slices.Equal(current, next) {
			return nil
		}
		next, err := Arrange(key, current, next)
		if err != nil {
			return err
		}
		var heads int64
		for _, e := range next {
			n := metadataSize(e)
			if n > maxMetadata {
				return opError("update", ErrTooLarge)
			}
			heads += n
		}
		if done, err := m.replace(k, current, next, heads); done || err != nil {
			return err
		}
	}
}

// enter returns a key, which stays until leave.
func (m *Memory) enter(key string) *memKey {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.find(key)
	if k == nil {
		k = &memKey{key: key, update: make(chan struct{}, 1)}
		k.moved.Store(m.moves.Add(1))
		m.lru.pushFront(&k.place, k)
		m.keys.Store(key, k)
		m.count.Add(1)
	}
	k.waiting++
	return k
}

func (m *Memory) leave(k *memKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k.waiting--
	m.dropEmpty(k)
}

func (m *Memory) dropEmpty(k *memKey) {
	if k.waiting == 0 && len(k.entries()) == 0 && m.find(k.key) == k {
		m.keys.Delete(k.key)
		m.count.Add(-1)
		m.lru.remove(&k.place)
	}
}

// replace makes next the entries of k, if current still are its entries.
func (m *Memory) replace(k *memKey, current, next []*Entry, heads int64) (done bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(k.entries(), current) {
		return false, nil
	}
	var again []*memBlob // blobs that were evicted and come back
	defer func() {
		for _, b := range again {
			if b.named == 0 && m.blobs[b.id] == b { // they are not needed after all
				m.release(b)
			}
		}
	}()
	for _, e := range next {
		for _, p := range e.Parts {
			b := m.blobs[p.Blob.ID]
			if b == nil && p.Blob.Inline != nil && p.Blob.ID != "" { // it was evicted after the caller saw it
				b = &memBlob{id: p.Blob.ID, pieces: [][]byte{p.Blob.Inline}, starts: []int64{0}, size: p.Blob.Size, held: p.Blob.Size}
				m.blobs[b.id] = b
				m.bytes += b.held
				again = append(again, b)
			}
			if b == nil || b.size != p.Blob.Size {
				return true, opError("update", errors.New("blob "+p.Blob.ID+" does not exist any more"))
			}
		}
	}
	for len(next) > 1 && m.keySize(next) > m.max/2 {
		e := next
		next = entryset.DropOldest(current, slices.Clone(e), responseTime)
		heads = headsSize(next)
	}
	if heads > m.max/bodyShare {
		return true, opError("update", ErrTooLarge)
	}
	m.hold(next, 1)
	m.hold(k.entries(), -1)
	m.bytes += heads - k.heads
	k.has.Store(&next)
	k.heads = heads
	m.belong(k)
	m.use(k)
	m.makeRoom(k)
	return true, nil
}

// Open implements [Store].
func (m *Memory) Open(ctx context.Context, key string, blob Blob) (Body, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	if blob.Inline != nil {
		return newBytesBody(blob.Inline), nil
	}
	m.mu.RLock()
	b := m.blobs[blob.ID]
	m.mu.RUnlock()
	if b == nil || b.size != blob.Size {
		return nil, opError("open body", ErrDamaged)
	}
	return memBody{b}, nil
}

// All implements [Store].
func (m *Memory) All(ctx context.Context, prefix string) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		if err := CheckPrefix(prefix); err != nil {
			yield(nil, err)
			return
		}
		var found []*Entry
		m.mu.RLock()
		for key, k := range m.keys.Range {
			if strings.HasPrefix(key.(string), prefix) {
				found = append(found, k.(*memKey).entries()...)
			}
		}
		m.mu.RUnlock()
		if err := ctx.Err(); err != nil {
			yield(nil, err)
			return
		}
		for _, e := range found {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Secret implements [Store].
func (m *Memory) Secret(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return slices.Clone(m.secret), nil
}

// MaxBytes returns the size limit in bytes.
func (m *Memory) MaxBytes() int64 { return m.max }

// Bytes returns how many bytes the store holds, as its limit counts them.
func (m *Memory) Bytes() int64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.bytes
}
