package eventlog

import (
	"sync"
	"time"
)

// Stamps gives the times of requests and of invalidations that are compared by
// time alone, because other processes made them. Of two events of this process,
// the later one has the later time, even if the clock has not moved on: a
// request that follows an invalidation has a time after it, and an invalidation
// has no time before that of an earlier request. Its zero value is ready for
// use. It is safe for concurrent use.
type Stamps struct {
	mu                   sync.Mutex
	request, invalidated time.Time
}

// setBack is by how much a clock may be behind the last event and count as not
// having moved on. Further behind, it was set back, and its time is taken as it
// is.
const setBack = time.Second

// Request returns the time of a request that is made at the time now.
func (s *Stamps) Request(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ahead := s.invalidated.Sub(now); ahead >= 0 && ahead < setBack {
		now = s.invalidated.Add(time.Nanosecond)
	}
	s.request = now
	return now
}

// Invalidation returns the time of an invalidation that happens at the time
// now.
func (s *Stamps) Invalidation(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ahead := s.request.Sub(now); ahead > 0 && ahead < setBack {
		now = s.request
	}
	s.invalidated = now
	return now
}
