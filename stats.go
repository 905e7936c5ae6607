package cachetrip

import (
	"sync/atomic"

	"github.com/cachetrip/cachetrip/store"
)

// Counters of what a Transport did.

// Stats counts what a [Transport] did since it was made.
type Stats struct {
	Requests      uint64 // all requests
	Hits          uint64 // answered from the store without asking the origin, stale hits included
	StaleHits     uint64 // answered with a stale response, whether the origin had been asked or not
	Revalidations uint64 // stored responses confirmed by a 304
	Misses        uint64 // answered by the origin, because no stored response could be used
	Collapsed     uint64 // answered by another request's response, while that arrived
	Stored        uint64 // responses stored
	StoreErrors   uint64 // failures of the store, the sum of StoreFaults; each costs at most a miss
	Evictions     uint64 // entries that the store evicted to stay within its limits

	BytesServed   int64 // bytes of bodies that came from the store, also of a body whose rest the origin sent
	BytesReceived int64 // bytes of bodies that came from the origin

	StoreFaults StoreFaults // StoreErrors, by their causes
}

// StoreFaults counts failures of the store by their causes, as [store.CauseOf]
// tells them apart.
type StoreFaults struct {
	Full        uint64 // no space was left, or the quota was used up
	Denied      uint64 // read-only, or not permitted
	Vanished    uint64 // a file or directory was removed while in use
	Descriptors uint64 // too many files were open
	Obstructed  uint64 // something else stood where a file or a directory of the store should be
	TooLarge    uint64 // a file would have become larger than the system allows
	Locked      uint64 // another process held a lock too long, for example because it was stopped
	Other       uint64 // any other cause
}

// counters are the live form of Stats.
type counters struct {
	requests, hits, staleHits, revalidations, misses, collapsed, stored atomic.Uint64

	bytesServed, bytesReceived atomic.Int64

	storeFaults [store.Causes]struct {
		count atomic.Uint64
		told  atomic.Int64 // when the last log record was written, in nanoseconds since 1970
	}
}

// of returns the counter of the requests that were answered in one way, and nil
// if they are not counted.
func (c *counters) of(kind answerKind) *atomic.Uint64 {
	return [...]*atomic.Uint64{&c.hits, &c.staleHits, &c.revalidations, &c.collapsed, &c.misses, nil}[kind]
}

// stats returns the counters as they are now, except Evictions.
func (c *counters) stats() Stats {
	s := Stats{
		Requests:      c.requests.Load(),
		Hits:          c.hits.Load(),
		StaleHits:     c.staleHits.Load(),
		Revalidations: c.revalidations.Load(),
		Misses:        c.misses.Load(),
		Collapsed:     c.collapsed.Load(),
		Stored:        c.stored.Load(),
		BytesServed:   c.bytesServed.Load(),
		BytesReceived: c.bytesReceived.Load(),
	}
	for cause, field := range [store.Causes]*uint64{
		store.CauseFull:        &s.StoreFaults.Full,
		store.CauseDenied:      &s.StoreFaults.Denied,
		store.CauseVanished:    &s.StoreFaults.Vanished,
		store.CauseDescriptors: &s.StoreFaults.Descriptors,
		store.CauseObstructed:  &s.StoreFaults.Obstructed,
		store.CauseTooLarge:    &s.StoreFaults.TooLarge,
		store.CauseLocked:      &s.StoreFaults.Locked,
		store.CauseOther:       &s.StoreFaults.Other,
	} {
		*field = c.storeFaults[cause].count.Load()
		s.StoreErrors += *field
	}
	return s
}
