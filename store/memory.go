package store

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
)

// DefaultMemoryStoreBytes is the size limit of a [Memory] that is given none: 64 MiB.
const DefaultMemoryStoreBytes = 64 << 20

// Memory keeps a cache in the memory of the process. It has no goroutine and needs no closing.
type Memory struct {
	max    int64
	secret []byte

	mu   sync.RWMutex // never held while a change function or a body's reader runs
	keys map[string]*memKey
	lru  list.List // of *memKey; the most recently used key is in front

	origins map[string]*memOrigin
	greedy  *memOrigin // the largest origin when something was last stored

	blobs map[string]*memBlob
	loose list.List // of *memBlob: committed, but not named by an entry yet; the oldest is in front
	bytes int64     // of metadata, blobs and drafts
	next  uint64    // the next blob's ID
}

var _ Store = (*Memory)(nil)

type memKey struct {
	key     string
	entries []*Entry
	heads   int64
	elem    *list.Element

	// The origin of the key, its place there, and the size of its entries. Set while the
	// key has entries.
	origin *memOrigin
	its    *list.Element
	bytes  int64

	update  chan struct{} // full while an Update of the key runs
	waiting int           // Updates that run or wait; the key stays until there are none
}

// memOrigin is an origin that keys belong to.
type memOrigin struct {
	name  string
	lru   list.List // of *memKey, as in Memory
	bytes int64
}

// NewMemory returns a store that keeps at most maxBytes bytes of metadata, bodies and
// drafts. One body may use a quarter of that. The store evicts keys in the order of their
// last use. If maxBytes is not positive, the limit is DefaultMemoryStoreBytes.
func NewMemory(maxBytes int64) *Memory {
	if maxBytes <= 0 {
		maxBytes = DefaultMemoryStoreBytes
	}
	m := &Memory{
		max:    maxBytes,
		secret: make([]byte, secretLen),
		keys:   make(map[string]*memKey),
		blobs:  make(map[string]*memBlob),

		origins: make(map[string]*memOrigin),
	}
	rand.Read(m.secret)
	return m
}

// Entries implements [Store].
func (m *Memory) Entries(ctx context.Context, key string) ([]*Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.keys[key]
	if k == nil || len(k.entries) == 0 {
		return nil, checkKey(key) // a key with entries was checked by Update
	}
	m.use(k)
	return slices.Clone(k.entries), nil
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
	if err := checkKey(key); err != nil {
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
		m.mu.Lock()
		current := slices.Clone(k.entries)
		m.mu.Unlock()
		next := change(slices.Clone(current))
		if same(current, next) {
			return nil
		}
		next = arrange(current, next)
		var heads int64
		for _, e := range next {
			if err := checkEntry(key, e); err != nil {
				return err
			}
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
	k := m.keys[key]
	if k == nil {
		k = &memKey{key: key, update: make(chan struct{}, 1)}
		k.elem = m.lru.PushFront(k)
		m.keys[key] = k
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
	if k.waiting == 0 && len(k.entries) == 0 && m.keys[k.key] == k {
		delete(m.keys, k.key)
		m.lru.Remove(k.elem)
	}
}

// replace makes next the entries of k, if current still are its entries.
func (m *Memory) replace(k *memKey, current, next []*Entry, heads int64) (done bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(k.entries, current) {
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
		next = dropOldest(current, slices.Clone(e))
		heads = 0
		for _, e := range next {
			heads += metadataSize(e)
		}
	}
	if heads > m.max/bodyShare {
		return true, opError("update", ErrTooLarge)
	}
	m.hold(next, 1)
	m.hold(k.entries, -1)
	m.bytes += heads - k.heads
	k.entries, k.heads = next, heads
	m.belong(k)
	m.use(k)
	m.makeRoom(k)
	return true, nil
}

// use notes that k is used now.
func (m *Memory) use(k *memKey) {
	m.lru.MoveToFront(k.elem)
	if k.origin != nil {
		k.origin.lru.MoveToFront(k.its)
	}
}

// belong counts the present entries of k for their origin, instead of the
// former ones.
func (m *Memory) belong(k *memKey) {
	if o := k.origin; o != nil {
		o.bytes -= k.bytes
		o.lru.Remove(k.its)
		if o.lru.Len() == 0 {
			delete(m.origins, o.name)
		}
		k.origin = nil
	}
	if len(k.entries) == 0 {
		return
	}
	name := originOf(k.entries[0])
	o := m.origins[name]
	if o == nil {
		o = &memOrigin{name: strings.Clone(name)}
		m.origins[o.name] = o
	}
	k.origin, k.its, k.bytes = o, o.lru.PushFront(k), m.keySize(k.entries)
	o.bytes += k.bytes
	if m.greedy == nil || o.bytes > m.greedy.bytes {
		m.greedy = o
	}
}

// evict drops the entries of k.
func (m *Memory) evict(k *memKey) {
	m.hold(k.entries, -1)
	m.bytes -= k.heads
	k.entries, k.heads = nil, 0
	m.belong(k)
	m.dropEmpty(k)
}

// keySize returns the size of entries with their bodies.
func (m *Memory) keySize(entries []*Entry) (n int64) {
	seen := make(map[string]bool)
	for _, e := range entries {
		n += metadataSize(e)
		for _, p := range e.Parts {
			if !seen[p.Blob.ID] {
				seen[p.Blob.ID] = true
				n += p.Blob.Size
			}
		}
	}
	return n
}

// hold adds to the number of parts that name each blob of the entries. It releases blobs
// that no part names any more.
func (m *Memory) hold(entries []*Entry, by int) {
	for _, e := range entries {
		for _, p := range e.Parts {
			b := m.blobs[p.Blob.ID]
			if b == nil {
				continue
			}
			b.named += by
			if b.elem != nil {
				m.loose.Remove(b.elem)
				b.elem = nil
			}
			if b.named == 0 {
				m.release(b)
			}
		}
	}
}

func (m *Memory) release(b *memBlob) {
	if b.elem != nil {
		m.loose.Remove(b.elem)
		b.elem = nil
	}
	delete(m.blobs, b.id)
	m.bytes -= b.held
}

// makeRoom evicts until the store is within its limit, and reports whether it is. It does not
// evict keep, which may be nil.
func (m *Memory) makeRoom(keep *memKey) bool {
	// No entry will name a blob that was committed so long ago.
	for el := m.loose.Front(); el != nil && time.Since(el.Value.(*memBlob).committed) > leftAfter; el = m.loose.Front() {
		m.release(el.Value.(*memBlob))
	}
	// Of those committed a minute ago, hardly any will be named.
	for el := m.loose.Front(); el != nil && m.bytes > m.max && time.Since(el.Value.(*memBlob).committed) > orphanAfter; el = m.loose.Front() {
		m.release(el.Value.(*memBlob))
	}
	if o := m.greedy; o != nil { // does it have more than its fair share?
		for el := o.lru.Back(); el != nil && m.bytes > m.max && o.bytes > m.max/fairShare; {
			k := el.Value.(*memKey)
			if el = el.Prev(); k != keep {
				m.evict(k)
			}
		}
	}
	for el := m.lru.Back(); el != nil && m.bytes > m.max; {
		k := el.Value.(*memKey)
		if el = el.Prev(); k != keep && len(k.entries) > 0 {
			m.evict(k)
		}
	}
	return m.bytes <= m.max
}

// metadataSize estimates the memory of an entry without its body, in bytes.
func metadataSize(e *Entry) int64 {
	n := int64(512) // the struct, its maps and list elements
	n += int64(len(e.URL) + len(e.Method) + len(e.Proto))
	for _, h := range []map[string][]string{e.Header, e.Trailer} {
		for name, values := range h {
			n += int64(len(name)) + 64
			for _, v := range values {
				n += int64(len(v)) + 16
			}
		}
	}
	for name, v := range e.Selecting {
		n += int64(len(name)+len(v)) + 64
	}
	return n + 128*int64(len(e.Parts))
}

// Open implements [Store].
func (m *Memory) Open(ctx context.Context, key string, blob Blob) (Body, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
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
		if err := checkPrefix(prefix); err != nil {
			yield(nil, err)
			return
		}
		var found []*Entry
		m.mu.RLock()
		for key, k := range m.keys {
			if strings.HasPrefix(key, prefix) {
				found = append(found, k.entries...)
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

// Bytes returns how many bytes the store holds, as its limit counts them.
func (m *Memory) Bytes() int64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.bytes
}
