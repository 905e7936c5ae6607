package store

import (
	"math/bits"
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

	shards shardSet // where keys of the origin may be
}

// shardSet is a set of shards.
type shardSet [shardCount / 64]uint64

func (s *shardSet) has(shard int) bool { return s[shard/64]>>(shard%64)&1 != 0 }
func (s *shardSet) add(shard int)      { s[shard/64] |= 1 << (shard % 64) }
func (s *shardSet) remove(shard int)   { s[shard/64] &^= 1 << (shard % 64) }

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
	of.shards.add(shardOf(key))
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

// over returns the origin that has more than its fair share of max bytes, and
// the shards in which its keys may be. It returns nil if there is no such origin,
// or if none of its keys can be found.
func (s *shares) over(max int64) (greedy *originShare, shards shardSet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.top == nil || s.top.bytes <= max/fairShare || s.top.shards == shards {
		return nil, shards
	}
	return s.top, s.top.shards
}

// notIn notes that no key of an origin was found in the listed shards.
func (s *shares) notIn(o *originShare, listed []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, shard := range listed {
		o.shards.remove(shard)
	}
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

// shareID returns a number for a key, from the digests of its URL and of its
// identity.
func shareID(key string) uint64 {
	url, _ := strconv.ParseUint(key[:16], 16, 64)
	identity, _ := strconv.ParseUint(key[keyLen/2:keyLen/2+16], 16, 64)
	return url ^ bits.RotateLeft64(identity, 1)
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
