package store

import (
	"strings"
	"time"
)

// The room of a Memory: what it counts, whom it belongs to, and what goes
// first.

// use notes that k is used now.
func (m *Memory) use(k *memKey) {
	k.moved.Store(m.moves.Add(1))
	m.lru.moveToFront(&k.place)
	if k.origin != nil {
		k.origin.lru.moveToFront(&k.its)
	}
}

// belong counts the present entries of k for their origin, instead of the
// former ones.
func (m *Memory) belong(k *memKey) {
	entries, name := k.entries(), ""
	if len(entries) > 0 {
		name = originOf(entries[0])
	}
	o := k.origin
	if o != nil {
		o.bytes -= k.bytes
	}
	if o != nil && (name != o.name || len(entries) == 0) {
		o.lru.remove(&k.its)
		if o.lru.len() == 0 {
			delete(m.origins, o.name)
		}
		o, k.origin = nil, nil
	}
	if len(entries) == 0 {
		return
	}
	if o == nil {
		if o = m.origins[name]; o == nil {
			o = &memOrigin{name: strings.Clone(name)}
			m.origins[o.name] = o
		}
		o.lru.pushFront(&k.its, k)
		k.origin = o
	}
	k.bytes = k.heads + m.bodiesSize(entries)
	o.bytes += k.bytes
	if m.greedy == nil || o.bytes > m.greedy.bytes {
		m.greedy = o
	}
}

// evict drops the entries of k.
func (m *Memory) evict(k *memKey) {
	m.hold(k.entries(), -1)
	m.bytes -= k.heads
	k.has.Store(nil)
	k.heads = 0
	m.belong(k)
	m.dropEmpty(k)
}

// keySize returns the size of entries with their bodies.
func (m *Memory) keySize(entries []*Entry) int64 {
	return headsSize(entries) + m.bodiesSize(entries)
}

// headsSize returns the size of entries without their bodies.
func headsSize(entries []*Entry) (n int64) {
	for _, e := range entries {
		n += metadataSize(e)
	}
	return n
}

// bodiesSize returns the size of the bodies of entries.
func (m *Memory) bodiesSize(entries []*Entry) (n int64) {
	if len(entries) == 1 && len(entries[0].Parts) == 1 { // nearly always
		return entries[0].Parts[0].Blob.Size
	}
	seen := make(map[string]bool)
	for _, e := range entries {
		for _, p := range e.Parts {
			if !seen[p.Blob.ID] {
				seen[p.Blob.ID] = true
				n += p.Blob.Size
			}
		}
	}
	return n
}

// hold adds to the number of parts that name each blob of the entries. It
// releases blobs that no part names any more.
func (m *Memory) hold(entries []*Entry, by int) {
	for _, e := range entries {
		for _, p := range e.Parts {
			b := m.blobs[p.Blob.ID]
			if b == nil {
				continue
			}
			b.named += by
			m.unloose(b)
			if b.named == 0 {
				m.release(b)
			}
		}
	}
}

func (m *Memory) release(b *memBlob) {
	m.unloose(b)
	delete(m.blobs, b.id)
	m.bytes -= b.held
}

// unloose takes a blob out of m.loose, if it is there.
func (m *Memory) unloose(b *memBlob) {
	if b.place.of != nil {
		m.loose.remove(&b.place)
	}
}

// makeRoom evicts until the store is within its limit, and reports whether it
// is. It does not evict keep, which may be nil.
func (m *Memory) makeRoom(keep *memKey) bool {
	// No entry will name a blob that was committed so long ago.
	for b := m.loose.front(); b != nil && time.Since(b.committed) > leftAfter; b = m.loose.front() {
		m.release(b)
	}
	// Of those committed a minute ago, hardly any will be named.
	for b := m.loose.front(); b != nil && m.bytes > m.max && time.Since(b.committed) > orphanAfter; b = m.loose.front() {
		m.release(b)
	}
	if o := m.greedy; o != nil { // does it have more than its fair share?
		for k := o.lru.back(); k != nil && m.bytes > m.max && o.bytes > m.max/fairShare; {
			next := o.lru.before(&k.its)
			if k != keep {
				m.evict(k)
			}
			k = next
		}
	}
	for k := m.lru.back(); k != nil && m.bytes > m.max; {
		next := m.lru.before(&k.place)
		if k != keep && len(k.entries()) > 0 {
			m.evict(k)
		}
		k = next
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
