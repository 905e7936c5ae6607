// Package straggler counts goroutines that were told to end and that nobody
// waits for any more, so that closing can still wait for them.
package straggler

import (
	"sync"
	"time"
)

// Counter counts stragglers, such as requests that were cancelled. Unlike a
// sync.WaitGroup, it may be added to while others wait, and the wait has a
// limit. Its zero value is ready for use. It is safe for concurrent use.
type Counter struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n is 0; nil if nobody waits for that
}

// Add counts one more straggler. Done must be called for it.
func (c *Counter) Add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
}

// Done tells that a straggler has ended.
func (c *Counter) Done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n == 0 && c.none != nil {
		close(c.none)
		c.none = nil
	}
}

// Wait returns when all stragglers have ended, or at the deadline.
func (c *Counter) Wait(deadline time.Time) {
	c.mu.Lock()
	if c.n == 0 {
		c.mu.Unlock()
		return
	}
	if c.none == nil {
		c.none = make(chan struct{})
	}
	none := c.none
	c.mu.Unlock()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-none:
	case <-timer.C:
	}
}
