// Package memo remembers facts about URLs and origins, in limited memory. It
// forgets when it has to: each memory says what that costs.
package memo

import (
	"hash/maphash"
	"sync/atomic"
)

var seed = maphash.MakeSeed()

// Set is a set of strings that forgets: a string that is added may displace
// another one. Its zero value is ready for use. It is safe for concurrent use,
// and takes no lock.
type Set struct {
	slots atomic.Pointer[[setSlots]atomic.Uint64] // nil before the first Add
}

const setSlots = 512

// Add adds a string.
func (s *Set) Add(name string) {
	if s.slots.Load() == nil {
		s.slots.CompareAndSwap(nil, new([setSlots]atomic.Uint64))
	}
	hash := maphash.String(seed, name)
	s.slots.Load()[hash%setSlots].Store(hash)
}

// Has reports whether a string was added. It is false if the string was
// displaced.
func (s *Set) Has(name string) bool {
	slots := s.slots.Load()
	if slots == nil {
		return false
	}
	hash := maphash.String(seed, name)
	return slots[hash%setSlots].Load() == hash
}
