package cachetrip

import (
	"sync"
	"time"
)

// endings counts the goroutines that nobody waits for any more and that were told to end: requests to the origin that
// were cancelled, and bodies that are closed while they are read. Close waits for them. Its zero value is ready for use.
type endings struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n is 0; nil if nobody waits for that
}

func (e *endings) add() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n++
}

func (e *endings) done() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n--; e.n == 0 && e.none != nil {
		close(e.none)
		e.none = nil
	}
}

// wait returns when all have ended, or at the deadline.
func (e *endings) wait(deadline time.Time) {
	e.mu.Lock()
	if e.n == 0 {
		e.mu.Unlock()
		return
	}
	if e.none == nil {
		e.none = make(chan struct{})
	}
	none := e.none
	e.mu.Unlock()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-none:
	case <-timer.C:
	}
}
