package cachetrip

import (
	"sync"
	"time"

	"github.com/cachetrip/cachetrip/internal/inflight"
)

// Who could share the last response for a key.

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
