package store

import (
	"strconv"
	"strings"
	"sync"
)

// The fair share of an origin: what it takes beyond half of the bound goes before what others have stored. See
// the comment of the package.

// fairShare is the part of the bound that an origin may take at the expense of others: one in so many.
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

// shares knows, of the keys that this process has stored, whose they are. Origins that push out others do so by
// storing much; what other processes stored before is nobody's, and goes by its last use alone. Its zero value is
// ready for use.
type shares struct {
	mu      sync.Mutex
	keys    map[uint64]keyShare
	origins map[string]*originShare
	top     *originShare // of which most is known
}

// maxShares bounds the keys that are known, at about 50 bytes each: as many as fill the default bound.
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

// set notes that a key has the entries now, or none.
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

// over returns the origin that has more than its fair share of max bytes, nil if none has.
func (s *shares) over(max int64) *originShare {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.top == nil || s.top.bytes <= max/fairShare {
		return nil
	}
	return s.top
}

// of returns whose a key is, nil if that is not known.
func (s *shares) of(key string) *originShare {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[shareID(key)].of
}

// maxLearn bounds the files that are read at a time to learn whose they are: about a millisecond.
const maxLearn = 32

// victims returns those of the listed keys, which it sorts, that are to be evicted first, the first of all in front:
// those of an origin that has more than its fair share, or else the oldest of all.
func (d *Disk) victims(keys []*keyFiles) []*keyFiles {
	oldest := oldest(keys, evictPart)
	greedy := d.shares.over(d.max)
	if greedy == nil {
		return oldest
	}
	var theirs []*keyFiles
	learned := 0
	for _, k := range keys {
		of := d.shares.of(k.key)
		if of == nil && k.heads && learned < maxLearn { // stored by another process, or by one before this
			learned++
			if st, _, err := d.load(k.key); err == nil && len(st.entries) > 0 {
				d.shares.set(k.key, st.entries)
				of = d.shares.of(k.key)
			}
		}
		if of == greedy {
			theirs = append(theirs, k)
		}
	}
	if len(theirs) == 0 {
		return oldest
	}
	return theirs[:max(1, len(theirs)/evictPart)]
}

// shareID returns the part of a key by which it is known: 64 bits of its digest.
func shareID(key string) uint64 {
	id, _ := strconv.ParseUint(key[:16], 16, 64)
	return id
}

// sizeOf returns about what entries take on disk.
func sizeOf(entries []*Entry) int64 {
	bytes := allocated(1)
	for _, e := range entries {
		for _, p := range e.Parts {
			bytes += allocated(p.Length)
		}
	}
	return bytes
}
