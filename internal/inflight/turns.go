package inflight

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/cachetrip/cachetrip/internal/patience"
)

// maxTurns is how many callers have their turn for a key at once. More would
// not help an origin that has too much to do.
const maxTurns = 4

// Turns lets callers that want the same result continue a few at a time, each
// for itself. It is used after a shared request has failed. Its zero value is
// ready for use. It is safe for concurrent use.
type Turns struct {
	mu    sync.Mutex
	byKey map[Key]*queue
}

// queue has the callers that wait for a key, and the number of those that have
// their turn.
type queue struct {
	taken   int // no more than maxTurns
	waiting []*Turn
}

// Turn is the turn of one caller. A nil Turn need not be waited for.
type Turn struct {
	turns *Turns
	key   Key
	came  chan struct{} // closed when the turn has come
	ended bool          // turns.mu guards it
}

// Take returns a turn for key. The caller must end it.
func (ts *Turns) Take(key Key) *Turn {
	t := &Turn{turns: ts, key: key, came: make(chan struct{})}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	q := ts.byKey[key]
	if q == nil {
		q = new(queue)
		if ts.byKey == nil {
			ts.byKey = make(map[Key]*queue)
		}
		ts.byKey[key] = q
	}
	q.waiting = append(q.waiting, t)
	ts.advance(key)
	return t
}

// advance gives turns to the callers that have waited longest, as many as are
// free. It needs ts.mu.
func (ts *Turns) advance(key Key) {
	q := ts.byKey[key]
	for q.taken < maxTurns && len(q.waiting) > 0 {
		close(q.waiting[0].came)
		q.waiting = q.waiting[1:]
		q.taken++
	}
	if q.taken == 0 {
		delete(ts.byKey, key)
	}
}

// Wait returns nil when the turn has come or limit has passed. If ctx ends
// before, the error is its cause.
func (t *Turn) Wait(ctx context.Context, limit time.Duration) error {
	if t == nil {
		return nil
	}
	if err := patience.Wait(ctx, t.came, limit); err != patience.ErrExhausted {
		return err
	}
	return nil
}

// End lets the next caller have its turn. It may be called more than once.
func (t *Turn) End() {
	if t == nil {
		return
	}
	t.turns.mu.Lock()
	defer t.turns.mu.Unlock()
	if t.ended {
		return
	}
	t.ended = true
	q := t.turns.byKey[t.key]
	if i := slices.Index(q.waiting, t); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
		return
	}
	q.taken--
	t.turns.advance(t.key)
}
