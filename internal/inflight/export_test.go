package inflight

// Remembered returns how many requests that have ended are remembered.
func (g *Group[R]) Remembered() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.endedAt)
}

// UnderWay returns how many requests can be joined.
func (g *Group[R]) UnderWay() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.byKey)
}

// Queues returns the number of keys with a caller that has a turn or waits for
// one.
func (ts *Turns) Queues() int {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return len(ts.byKey)
}

// Came reports whether the turn has come.
func (t *Turn) Came() bool {
	select {
	case <-t.came:
		return true
	default:
		return false
	}
}
