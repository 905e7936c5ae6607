package store

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"iter"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// DefaultMemoryStoreBytes is the bound of a [Memory] that is given none: 64 MiB.
const DefaultMemoryStoreBytes = 64 << 20

const (
	// chunkMin and chunkMax are the sizes in bytes of the pieces that a body in memory grows by: it is never
	// copied to grow, and wastes at most as much as it is long, and no more than chunkMax.
	chunkMin = 1 << 10
	chunkMax = 256 << 10
)

// Memory keeps a cache in the memory of the process. It has no goroutine and needs no closing.
type Memory struct {
	max    int64
	secret []byte

	mu   sync.RWMutex // never held while a change function or a body's reader runs
	keys map[string]*memKey
	lru  list.List // of *memKey, the one used last in front

	origins map[string]*memOrigin
	greedy  *memOrigin // of which the most was stored, when something was last

	blobs map[string]*memBlob
	loose list.List // of *memBlob: committed, and not named by an entry yet; the oldest in front
	bytes int64     // heads, blobs and drafts
	next  uint64    // the next blob's ID
}

var _ Store = (*Memory)(nil)

type memKey struct {
	key     string
	entries []*Entry
	heads   int64
	elem    *list.Element

	// Whose it is, while it has entries, and what they take.
	origin *memOrigin
	its    *list.Element
	bytes  int64

	update  chan struct{} // held while an Update of the key runs
	waiting int           // Updates that run or wait; the key stays as long as there are any
}

// memOrigin is an origin that keys belong to.
type memOrigin struct {
	name  string
	lru   list.List // of *memKey, as in Memory
	bytes int64
}

// NewMemory returns a store that keeps at most maxBytes bytes of heads, bodies and drafts, of which one
// body may take a quarter, and evicts keys in the order of their last use. If maxBytes is not positive,
// DefaultMemoryStoreBytes is meant.
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
		return nil, checkKey(key) // what is there was checked when it came
	}
	m.use(k)
	return slices.Clone(k.entries), nil
}

// Fits is like that of [Disk].
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

	// Only eviction can change the entries meanwhile: then change is asked again.
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

// enter returns the key, which then stays until leave.
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

// replace makes next the entries of k if they still are current.
func (m *Memory) replace(k *memKey, current, next []*Entry, heads int64) (done bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(k.entries, current) {
		return false, nil
	}
	for _, e := range next {
		for _, p := range e.Parts {
			b := m.blobs[p.Blob.ID]
			if b == nil && p.Blob.Inline != nil && p.Blob.ID != "" { // it was evicted since the caller saw it
				b = &memBlob{id: p.Blob.ID, pieces: [][]byte{p.Blob.Inline}, starts: []int64{0}, size: p.Blob.Size, held: p.Blob.Size}
				m.blobs[b.id] = b
				m.bytes += b.held
			}
			if b == nil || b.size != p.Blob.Size {
				return true, opError("update", errors.New("blob "+p.Blob.ID+" is not there any more"))
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

// use notes that k was used last.
func (m *Memory) use(k *memKey) {
	m.lru.MoveToFront(k.elem)
	if k.origin != nil {
		k.origin.lru.MoveToFront(k.its)
	}
}

// belong counts what k has to its origin, and no more what it had.
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

// evict drops what k has.
func (m *Memory) evict(k *memKey) {
	m.hold(k.entries, -1)
	m.bytes -= k.heads
	k.entries, k.heads = nil, 0
	m.belong(k)
	m.dropEmpty(k)
}

// keySize returns what entries take with their bodies.
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

// hold counts how often the entries name each blob, and releases those that are not named any more.
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

// makeRoom evicts until the store is within its bound, and reports whether it is. keep, if not nil, is not
// evicted.
func (m *Memory) makeRoom(keep *memKey) bool {
	// What was committed so long ago will not be named any more.
	for el := m.loose.Front(); el != nil && time.Since(el.Value.(*memBlob).committed) > leftAfter; el = m.loose.Front() {
		m.release(el.Value.(*memBlob))
	}
	if o := m.greedy; o != nil { // has it more than its fair share?
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

// metadataSize estimates the memory that an entry takes without its body.
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

type memBody struct{ *memBlob }

func (memBody) Close() error { return nil }

// memBlob is a body in memory: pieces that are not moved once they are there.
type memBlob struct {
	id        string
	pieces    [][]byte
	starts    []int64 // the offsets of the pieces
	size      int64
	held      int64 // bytes that count against the bound
	named     int   // parts of entries that name it
	committed time.Time
	elem      *list.Element // in Memory.loose
}

// ReadAt implements io.ReaderAt.
func (b *memBlob) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, opError("read body", errors.New("negative offset"))
	}
	for i := sort.Search(len(b.starts), func(i int) bool { return b.starts[i] > off }) - 1; i >= 0 && i < len(b.pieces) && n < len(p); i++ {
		from := off + int64(n) - b.starts[i]
		if from >= int64(len(b.pieces[i])) {
			break
		}
		n += copy(p[n:], b.pieces[i][from:])
	}
	if n < len(p) || len(p) == 0 && off >= b.size {
		return n, io.EOF
	}
	return n, nil
}

// Create implements [Store].
func (m *Memory) Create(ctx context.Context, key string, size int64) (Draft, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if size > m.max/bodyShare {
		return nil, opError("create", ErrTooLarge)
	}
	return &memDraft{m: m, want: size}, nil
}

type memDraft struct {
	m    *Memory
	want int64

	mu        sync.RWMutex
	blob      memBlob
	err       error
	committed bool
	closed    bool
}

func (dr *memDraft) Write(p []byte) (n int, err error) {
	switch {
	case dr.err != nil:
		return 0, dr.err
	case dr.closed || dr.committed:
		return 0, opError("write body", fs.ErrClosed)
	case dr.blob.size+int64(len(p)) > dr.m.max/bodyShare:
		dr.err = opError("write body", ErrTooLarge)
		return 0, dr.err
	}
	b := &dr.blob
	for n < len(p) {
		last := len(b.pieces) - 1
		if last < 0 || len(b.pieces[last]) == cap(b.pieces[last]) {
			size := min(max(chunkMin, b.size), chunkMax)
			if left := dr.want - b.size; left > 0 {
				size = min(left, chunkMax)
			}
			if !dr.reserve(size) {
				dr.err = opError("write body", ErrTooLarge)
				return n, dr.err
			}
			dr.mu.Lock()
			b.pieces = append(b.pieces, make([]byte, 0, size))
			b.starts = append(b.starts, b.size)
			dr.mu.Unlock()
			last++
		}
		piece := p[n:min(len(p), n+cap(b.pieces[last])-len(b.pieces[last]))]
		dr.mu.Lock()
		b.pieces[last] = append(b.pieces[last], piece...)
		b.size += int64(len(piece))
		dr.mu.Unlock()
		n += len(piece)
	}
	return n, nil
}

// reserve makes room for size more bytes.
func (dr *memDraft) reserve(size int64) bool {
	m := dr.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes += size
	if !m.makeRoom(nil) {
		m.bytes -= size
		return false
	}
	dr.blob.held += size
	return true
}

func (dr *memDraft) ReadAt(p []byte, off int64) (int, error) {
	dr.mu.RLock()
	defer dr.mu.RUnlock()
	if dr.closed {
		return 0, opError("read draft", fs.ErrClosed)
	}
	n, err := dr.blob.ReadAt(p, off)
	if off >= dr.blob.size && err == nil {
		err = io.EOF
	}
	return n, err
}

func (dr *memDraft) Commit() (Blob, error) {
	switch {
	case dr.err != nil:
		return Blob{}, dr.err
	case dr.closed || dr.committed:
		return Blob{}, opError("commit", fs.ErrClosed)
	}
	m := dr.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next++
	b := dr.blob // the draft reads its own copy on
	b.id = strconv.FormatUint(m.next, 36)
	b.committed = time.Now()
	dr.committed = true
	m.blobs[b.id] = &b
	b.elem = m.loose.PushBack(&b)
	blob := Blob{ID: b.id, Size: b.size}
	switch len(b.pieces) {
	case 0:
		blob.Inline = []byte{}
	case 1:
		blob.Inline = b.pieces[0][:b.size:b.size]
	}
	return blob, nil
}

func (dr *memDraft) Close() error {
	dr.mu.Lock()
	var freed int64
	if !dr.closed && !dr.committed {
		freed = dr.blob.held
		dr.blob = memBlob{}
	}
	dr.closed = true
	dr.mu.Unlock()
	dr.m.mu.Lock()
	defer dr.m.mu.Unlock()
	dr.m.bytes -= freed
	return nil
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

// Bytes returns how many bytes the store holds, as its bound counts them.
func (m *Memory) Bytes() int64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.bytes
}
