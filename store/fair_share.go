package store

import (
	"math/bits"
	"strconv"
	"strings"
	"sync"
)

// This file knows how much each origin has stored. An origin that has more than
// its fair share loses its own oldest keys first; see the package comment.

// fairShare is the part of the size limit that an origin may use at the expense
// of others: one in so many.
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
// pushes out others by storing much, so that is enough. A key that another
// process stored has no known owner and is evicted by its last use alone. The
// zero value is ready for use.
//
// Of a large cache it knows only one key in every, and counts it so many times.
// So a process needs little memory for it.
type shares struct {
	every uint64 // a power of two; 0 is 1

	mu      sync.Mutex
	keys    map[uint64]keyShare
	origins map[string]*originShare
	top     *originShare // the largest origin that is known
}

const (
	// maxShares limits the keys that are known, whatever their sizes are.
	maxShares = DefaultMaxBytes / 4096

	// shareMemory is how many bytes of MemoryBytes there are for each known key. A
	// known key takes 50 bytes, or 200 if no other one has its origin.
	shareMemory = 256

	// fewShares is how many keys are known at least.
	fewShares = 1024
)

// init takes the limits of the cache and of its memory, in bytes.
func (s *shares) init(limit, memory int64) {
	known := max(fewShares, min(memory/shareMemory, maxShares))
	for s.every = 1; limit/4096 > known*int64(s.every); s.every *= 2 {
	}
}

// knows reports whether the key with a number is one of those that are known.
func (s *shares) knows(id uint64) bool {
	const odd = 0x9e3779b97f4a7c15 // see slotCheck
	return s.every <= 1 || (id*odd>>32)&(s.every-1) == 0
}

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
	if !s.knows(id) {
		if o := s.originOf(entries); o != nil {
			o.shards.add(shardOf(key))
		}
		return
	}
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
	k := keyShare{of, sizeOf(entries) * int64(max(1, s.every))}
	s.keys[id] = k
	of.keys++
	of.bytes += k.bytes
	of.shards.add(shardOf(key))
	if s.top == nil || of.bytes > s.top.bytes {
		s.top = of
	}
}

// originOf returns the origin of entries, or nil if it is not known.
func (s *shares) originOf(entries []*Entry) *originShare {
	if len(entries) == 0 {
		return nil
	}
	return s.origins[originOf(entries[0])]
}

// learn is set, and returns the origin of the entries, or nil if it is not
// known.
func (s *shares) learn(key string, entries []*Entry) *originShare {
	s.set(key, entries)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.originOf(entries)
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
// the shards in which its keys may be. It returns nil if there is no such
// origin, or if none of its keys can be found.
func (s *shares) over(max int64) (greedy *originShare, shards shardSet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.top == nil || s.top.bytes <= max/fairShare || s.top.shards == shards {
		return nil, shards
	}
	return s.top, s.top.shards
}

// notIn notes that no key of an origin was found in a shard.
func (s *shares) notIn(o *originShare, shard int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.shards.remove(shard)
}

// of returns the origin of a key, or nil if it is not known.
func (s *shares) of(key string) *originShare {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[shareID(key)].of
}

// maxLearn limits the files that one call reads to learn the origins of keys:
// that takes about a millisecond.
const maxLearn = 32

// learnOwners sets the owners of the keys. It reads the entries of some keys
// that another process stored, or that are not known for another reason.
func (d *Disk) learnOwners(keys []*keyFiles) {
	learned := 0
	for _, k := range keys {
		k.owner = d.shares.of(k.key)
		if k.owner != nil || !k.hasEntries || learned == maxLearn {
			continue
		}
		learned++
		if st, _, err := d.load(k.key); err == nil && len(st.entries) > 0 {
			k.owner = d.shares.learn(k.key, st.entries)
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
