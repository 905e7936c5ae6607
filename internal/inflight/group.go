// Package inflight lets callers that want the same result share the work for
// it.
//
// The first caller for a key leads: it starts a [Request], whose work makes the
// result. Callers that come while the request is under way join it and get the
// same result. Each caller takes part with a [Participation] of its own.
//
// The package promises:
//
//   - A caller that leaves ends only its own participation. The context of the
//     work ends when the last participant leaves.
//   - The result is released once: when it is there and nobody takes part.
//   - Work that panics or ends its goroutine has a result as well.
//   - A caller that looked up before a request ended, and joins after that, is
//     told to look up again.
//   - What a Group and a Turns remember is limited.
//
// The package knows neither the work nor the type of its result.
package inflight

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/internal/straggler"
)

// Key says which callers want the same result. A caller with the zero Key
// shares with no other.
type Key struct {
	Subject string // what callers look up before they join
	Variant string // which result for it they want
}

// Group holds the requests that callers may join. Its zero value is ready for
// use. It is safe for concurrent use.
type Group[R any] struct {
	ended      atomic.Uint64 // how many requests can no longer be joined
	stragglers straggler.Counter

	mu    sync.Mutex // guards the fields below, and the participants of each request
	byKey map[Key]*Request[R]

	// endedAt has, for the subjects of the last requests that ended, the value
	// of ended then. Requests up to the number forgotten are unknown.
	endedAt   map[string]uint64
	forgotten uint64
}

// maxEnded limits the subjects in endedAt. Forgetting them costs each caller
// that is between its look-up and Join another look-up.
const maxEnded = 1024

// Moment returns the present moment, for Join. Call it before the look-up in
// the store.
func (g *Group[R]) Moment() uint64 { return g.ended.Load() }

// New returns a participation that leads a request which nobody can join.
func (g *Group[R]) New(ctx context.Context, owner Owner[R]) *Participation[R] {
	return &g.newRequest(ctx, owner, Key{}).leader
}

// Join returns a participation in the request for key. If there is none that
// can be joined, the participation leads a new request: then the caller must
// start its work. The owner and the context are those of a new request.
//
// A caller that does not wait joins only if the result is there already.
// Otherwise it leads another request, which no caller can join.
//
// Join returns nil if a request for the subject of key has ended since moment.
// Then the caller must look up again in the store.
func (g *Group[R]) Join(ctx context.Context, owner Owner[R], key Key, waits bool, moment uint64) *Participation[R] {
	if key == (Key{}) {
		return g.New(ctx, owner)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	current := g.byKey[key]
	if current != nil && current.participants > 0 && (waits || current.isReady()) {
		current.participants++
		return &Participation[R]{Request: current}
	}
	if moment < g.endedAt[key.Subject] || moment < g.forgotten {
		return nil
	}
	if current != nil && !waits {
		return g.New(ctx, owner)
	}
	r := g.newRequest(ctx, owner, key)
	if g.byKey == nil {
		g.byKey = make(map[Key]*Request[R])
	}
	g.byKey[key] = r
	return &r.leader
}

// Wait waits for work that has lost its last participant, and for the release
// of its result. It waits at most until the deadline.
func (g *Group[R]) Wait(deadline time.Time) { g.stragglers.Wait(deadline) }

// remember notes that a request for a subject has ended. It needs g.mu.
func (g *Group[R]) remember(subject string) {
	if len(g.endedAt) >= maxEnded {
		clear(g.endedAt)
		g.forgotten = g.ended.Load()
	}
	if g.endedAt == nil {
		g.endedAt = make(map[string]uint64)
	}
	g.endedAt[subject] = g.ended.Add(1)
}
