package cachetrip

import (
	"sync"
	"time"

	"github.com/cachetrip/cachetrip/internal/inflight"
)

// Knowledge about requests that share, or could share, a request to the origin:
// the state of an exchange, and which requests could share the last response
// for a key.

// joining says how a request may join requests that are under way.
type joining int

const (
	joinAny   joining = iota // it waits for the response to another request
	joinReady                // it has waited long enough, and joins only if the header is already there
	joinNone                 // it asks the origin itself, and no other request waits for it
)

// sharing is what an exchange knows about other requests for the same response.
type sharing struct {
	key    inflight.Key   // the key of its request; zero if no other request may join
	until  time.Time      // when it stops waiting for others; zero before it waits
	waited bool           // it has waited for another process
	turn   *inflight.Turn // its turn at a failing origin, after it waited for a request that failed
	lease  *lease         // of the request that it leads, if the store has leases
	others []response     // being stored at the moment, and turned out to be other variants
}

// variants returns the responses that are being stored and turned out to be
// other variants.
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

// lease keeps other processes from requesting the same. It ends once. A nil
// lease is already over.
type lease struct {
	mu      sync.Mutex
	release func(shared bool) // nil if the lease has ended
}

// end ends the lease. shared says whether others can use the response.
func (l *lease) end(shared bool) { l.take()(shared) }

// take returns the function that ends the lease, and makes end do nothing.
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

const (
	// audienceTime is for how long an audience is remembered. A mistake in
	// either direction costs one wait, or some requests, this often.
	audienceTime = 10 * time.Second

	// maxAudiences limits the keys for which one is remembered.
	maxAudiences = 4096
)

// audiences remembers who could share the responses for keys, so that requests
// that could not share do not wait for each other. Its zero value is ready for
// use.
type audiences struct {
	mu    sync.Mutex
	byKey map[inflight.Key]knownAudience
}

// knownAudience is an audience and the time until which it is remembered.
type knownAudience struct {
	audience
	until time.Time
}

// of returns who could share the last response for a key: anyone, if nothing is
// remembered.
func (as *audiences) of(key inflight.Key, now time.Time) audience {
	as.mu.Lock()
	defer as.mu.Unlock()
	known, ok := as.byKey[key]
	if ok && !now.Before(known.until) {
		delete(as.byKey, key)
		return anyone
	}
	return known.audience
}

// note remembers for a while who can share responses for a key.
func (as *audiences) note(key inflight.Key, who audience, now time.Time) {
	as.mu.Lock()
	defer as.mu.Unlock()
	if who == anyone {
		delete(as.byKey, key)
		return
	}
	if len(as.byKey) >= maxAudiences {
		clear(as.byKey) // costs each of them one wait
	}
	if as.byKey == nil {
		as.byKey = make(map[inflight.Key]knownAudience)
	}
	as.byKey[key] = knownAudience{who, now.Add(audienceTime)}
}
