package store

import (
	"strconv"
	"strings"
	"sync"
)

// This file knows how much each origin has stored. An origin that has more than
// its fair share loses its own oldest keys first; see the package comment.

// fairShare is the part of the size limit that an origin may use at the expense of
// others: one in so many.
const fairShare = 2

// originOf returns the origin of an entry's URL: scheme, host and port.
func originOf(e *Entry) string {
	host := strings.Index(e.URL, "://")
	if host < 0 {
		return e.URL
	}
	host += len("://")
	if end := strings.IndexAny(e.URL[host:], "/?#"); end >= 0 {
		return e.URL[:host+end]
	}
	return e.URL
}

// shares knows the origins of the keys that this process has stored. An origin
// pushes out others by storing much, so that is enough. A key that another process
// stored has no known owner and is evicted by its last use alone. The zero value
// is ready for use.
type shares struct {
	mu      sync.Mutex
	keys    map[uint64]keyShare
	origins map[string]*originShare
	top     *originShare // the largest origin that is known
}

// maxShares limits the keys that are known, of about 50 bytes each. As many keys
// fit the default size limit.
const maxShares = DefaultMaxBytes / 4096

type keyShare struct {
	of    *originShare
	bytes int64
}

type originShare struct {
	origin string
	bytes  int64
	keys   int
}

// set notes the entries of a key, or that it has none.
func (s *shares) set(key string, entries []*Entry) {
	id := shareID(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(id)
	if len(entries) == 0 {
		return
	}
	if s.keys == nil {
		s.keys = make(map[uint64]keyShare)
		s.origins = make(map[string]*originShare)
	}
	for other := range s.keys {
		if len(s.keys) < maxShares {
			break
		}
		s.forget(other)
	}
	origin := originOf(entries[0])
	of := s.origins[origin]
	if of == nil {
		of = &originShare{origin: strings.Clone(origin)}
		s.origins[of.origin] = of
	}
	k := keyShare{of, sizeOf(entries)}
	s.keys[id] = k
	of.keys++
	of.bytes += k.bytes
	if s.top == nil || of.bytes > s.top.bytes {
		s.top = of
	}
}

func (s *shares) forget(id uint64) {
	k, ok := s.keys[id]
	if !ok {
		return
	}
	delete(s.keys, id)
	k.of.bytes -= k.bytes
	if k.of.keys--; k.of.keys == 0 {
		delete(s.origins, k.of.origin)
	}
}

// over returns the origin that has more than its fair share of max bytes, or nil.
func (s *shares) over(max int64) *originShare {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.top == nil || s.top.bytes <= max/fairShare {
		return nil
	}
	return s.top
}

// of returns the origin of a key, or nil if it is not known.
func (s *shares) of(key string) *originShare {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[shareID(key)].of
}

// maxLearn limits the files that one call reads to learn the origins of keys: that
// takes about a millisecond.
const maxLearn = 32

// learnOwners sets the owners of the keys. It reads the entries of some keys that
// another process stored.
func (d *Disk) learnOwners(keys []*keyFiles) {
	learned := 0
	for _, k := range keys {
		k.owner = d.shares.of(k.key)
		if k.owner != nil || !k.hasEntries || learned == maxLearn {
			continue
		}
		learned++
		if st, _, err := d.load(k.key); err == nil && len(st.entries) > 0 {
			d.shares.set(k.key, st.entries)
			k.owner = d.shares.of(k.key)
		}
	}
}

// shareID returns a number for a key: 64 bits of its digest.
func shareID(key string) uint64 {
	id, _ := strconv.ParseUint(key[:16], 16, 64)
	return id
}

// sizeOf returns about how many bytes entries take on disk.
func sizeOf(entries []*Entry) int64 {
	bytes := allocated(1)
	for _, e := range entries {
		for _, p := range e.Parts {
			bytes += allocated(p.Length)
		}
	}
	return bytes
}
