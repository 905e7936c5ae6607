package inflight

// Participation is one caller's part in a request. Leave or LeaveAfter ends it,
// once: later calls of either do nothing.
type Participation[R any] struct {
	Request *Request[R]

	leads    bool
	ended    bool // Request.group.mu guards it, and stopping
	stopping bool // LeaveAfter was called
}

// Leads reports whether the caller leads the request.
func (p *Participation[R]) Leads() bool { return p.leads }

// Leave ends the participation. The last one to leave ends the context of the
// work, or releases the result. A leader that calls Leave does not read the
// result.
func (p *Participation[R]) Leave() { p.end(p.leads) }

// LeaveAfter ends the participation of a caller that has read the result. If
// all others have called LeaveAfter as well, it first calls last. Others may
// still join while last runs.
func (p *Participation[R]) LeaveAfter(last func()) {
	r := p.Request
	r.group.mu.Lock()
	if p.ended || p.stopping {
		r.group.mu.Unlock()
		return
	}
	p.stopping = true
	r.stopping++
	isLast := r.stopping == r.participants
	r.group.mu.Unlock()
	defer p.end(false)
	if isLast {
		last()
	}
}

// end ends the participation. unread says that it is the participation of the
// leader, and that the leader has not read the result.
func (p *Participation[R]) end(unread bool) {
	r := p.Request
	g := r.group
	g.mu.Lock()
	if p.ended {
		g.mu.Unlock()
		return
	}
	p.ended = true
	if p.stopping {
		r.stopping--
	}
	r.participants--
	r.unread = r.unread || unread
	ready, last := r.isReady(), r.participants == 0
	if last && !ready {
		g.stragglers.Add() // until Publish has released the result
	}
	keepsContext := r.keepsContext
	g.mu.Unlock()
	if unread && ready {
		r.owner.Unread(r)
	}
	if !last {
		return
	}
	if ready {
		r.owner.Release(r)
	}
	r.Hide()
	if !keepsContext {
		r.cancel(ErrAbandoned)
	}
}
