package cachetrip

import (
	"sync"
	"time"

	"github.com/cachetrip/cachetrip/internal/inflight"
)

// What an exchange knows of other requests for the same.

// joining says how a request takes part in requests that are under way.
type joining int

const (
	joinAny   joining = iota // it waits for the response to another request
	joinReady                // it has waited long enough: it joins only where the header is there already
	joinNone                 // it asks the origin itself, and no other request waits for it
)

// sharing is what an exchange that asks the origin knows of other requests for the same.
type sharing struct {
	key    inflight.Key   // what it asks for; zero if nobody may join
	until  time.Time      // when it stops waiting for others; zero before it waits
	waited bool           // it has waited for another process
	turn   *inflight.Turn // at an origin that fails, if it has waited for a request that failed
	lease  *lease         // of the request that it leads, if the store has leases
	others []response     // are just being stored, and turned out to be other variants
}

// variants returns the responses that are just being stored, and turned out to be other variants.
func (s *sharing) variants() []response {
	if s == nil {
		return nil
	}
	return s.others
}

// end gives the turn of an exchange to the next one.
func (s *sharing) end() {
	if s != nil {
		s.turn.End()
	}
}

// lease keeps other processes from asking for the same. It ends once. A nil lease need not end.
type lease struct {
	mu      sync.Mutex
	release func(shared bool) // nil if the lease has ended
}

// end ends the lease. shared tells whether what was fetched could be of use to others.
func (l *lease) end(shared bool) { l.take()(shared) }

// take returns what ends the lease, which nobody else does then.
func (l *lease) take() (release func(shared bool)) {
	if l == nil {
		return func(bool) {}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.release == nil {
		return func(bool) {}
	}
	release = l.release
	l.release = nil
	return release
}
