package cachetrip

import (
	"context"
	"slices"
	"time"

	"github.com/cachetrip/cachetrip/internal/patience"
)

// Requests that were waiting for one that failed go to the origin themselves, a few at a time.

// turns are those of the requests for one key.
type turns struct {
	taken   int // no more than maxTurns
	waiting []*turn
}

// turn is that of one request. A nil turn is one that need not be waited for.
type turn struct {
	flights *flights
	key     string
	came    chan struct{} // closed when it has come
	ended   bool
}

// takeTurn has x ask the origin in turn with the others that waited for f, which has failed.
func (x *exchange) takeTurn(f *flight) {
	if x.turn == nil {
		x.turn = x.t.flights.takeTurn(f.base)
	}
}

// takeTurn returns a turn of the requests for a key, which has to be ended.
func (fs *flights) takeTurn(key string) *turn {
	t := &turn{flights: fs, key: key, came: make(chan struct{})}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	all := fs.turns[key]
	if all == nil {
		all = new(turns)
		if fs.turns == nil {
			fs.turns = make(map[string]*turns)
		}
		fs.turns[key] = all
	}
	all.waiting = append(all.waiting, t)
	fs.nextTurn(key)
	return t
}

// nextTurn has the turns of those come who have waited longest, as many as may be taken. It needs fs.mu.
func (fs *flights) nextTurn(key string) {
	all := fs.turns[key]
	for all.taken < maxTurns && len(all.waiting) > 0 {
		close(all.waiting[0].came)
		all.waiting = all.waiting[1:]
		all.taken++
	}
	if all.taken == 0 {
		delete(fs.turns, key)
	}
}

// wait returns when the turn has come or was waited for long enough, or with an error when ctx ends.
func (t *turn) wait(ctx context.Context, most time.Duration) error {
	if t == nil {
		return nil
	}
	if err := patience.Wait(ctx, t.came, most); err != patience.ErrExhausted {
		return err
	}
	return nil
}

// end lets the next one have their turn. It may be called more than once.
func (t *turn) end() {
	if t == nil || t.ended {
		return
	}
	t.ended = true
	t.flights.mu.Lock()
	defer t.flights.mu.Unlock()
	all := t.flights.turns[t.key]
	if i := slices.Index(all.waiting, t); i >= 0 {
		all.waiting = slices.Delete(all.waiting, i, i+1)
		return
	}
	all.taken--
	t.flights.nextTurn(t.key)
}
