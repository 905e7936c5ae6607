package redisstore

import (
	"math"
	"runtime"
	"sync/atomic"
	"time"
)

// Time limits count the waiting for the server, and not the waiting for a
// processor. In a process that is busy, or that was stopped, the answer of the
// server may have come long ago, but the goroutine that reads it had no turn.

// budgetTurns is how many turns a budget is divided into. A busy process counts
// at most twice the length of each. So its goroutines get at least half as many
// turns, of which an operation needs about three.
const budgetTurns = 16

// budget ends after so much waiting. It does not end with the caller's context.
type budget struct {
	done chan struct{}
	over atomic.Bool // done is closed, or about to be

	turn  time.Duration
	timer *time.Timer   // calls tick
	left  time.Duration // for tick alone, as is last
	last  time.Time
}

// newBudget returns a budget that ends when limit has passed, except for time in
// which this process got no processor, or with end.
func newBudget(limit time.Duration) *budget {
	b := &budget{done: make(chan struct{}), left: limit, turn: limit/budgetTurns + 1, last: time.Now()}
	b.timer = time.AfterFunc(math.MaxInt64, b.tick)
	b.timer.Reset(b.turn)
	return b
}

// end ends the budget.
func (b *budget) end() {
	b.timer.Stop()
	if !b.over.Swap(true) {
		close(b.done)
	}
}

// tick ends a turn.
func (b *budget) tick() {
	// Goroutines that have waited for longer run first, among them the one that
	// reads what the server has answered.
	runtime.Gosched()
	now := time.Now()
	b.left -= min(now.Sub(b.last), 2*b.turn)
	b.last = now
	if b.left <= 0 || b.over.Load() {
		b.end()
		return
	}
	b.timer.Reset(min(b.left, b.turn))
}
