// Package memo remembers facts about URLs and origins, in limited memory. It
// forgets when it has to: each memory says what that costs.
package memo

import (
	"hash/maphash"
	"sync/atomic"
)

var seed = maphash.MakeSeed()

// Set is a set of strings that forgets: a string that is added may displace another one. Its zero
// value is ready for use. It is safe for concurrent use, and takes no lock.
type Set struct {
	slots [512]atomic.Uint64
}

// Add adds a string.
func (s *Set) Add(name string) {
	slot, hash := s.slot(name)
	slot.Store(hash)
}

// Has reports whether a string was added. It is false if the string was displaced.
func (s *Set) Has(name string) bool {
	slot, hash := s.slot(name)
	return slot.Load() == hash
}

func (s *Set) slot(name string) (slot *atomic.Uint64, hash uint64) {
	hash = maphash.String(seed, name)
	return &s.slots[hash%uint64(len(s.slots))], hash
}
