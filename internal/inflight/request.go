package inflight

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/internal/stack"
)

// ErrAbandoned is the cause with which the context of a request ends when the
// last participant leaves.
var ErrAbandoned = errors.New("cachetrip: abandoned by all callers")

// Owner makes and releases results of requests. Its methods must not panic. No
// lock is held while they run.
type Owner[R any] interface {
	// Failed returns the result of work that panicked with p. If p is nil, the
	// work ended its goroutine, as runtime.Goexit does.
	Failed(p any, stack []byte) R

	// Unread is called once, when the result is there, if the leader has called
	// Leave.
	Unread(*Request[R])

	// Release is called once, when the result is there and nobody takes part any
	// more. It is called before the context of the request ends.
	Release(*Request[R])
}

// Request is work whose result its participants share.
type Request[R any] struct {
	group  *Group[R]
	owner  Owner[R]
	key    Key // zero if nobody can join
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the result is there
	result R
	leader Participation[R]
	parent endless // of ctx

	// group.mu guards the fields below.
	participants int
	stopping     int    // how many of them are in LeaveAfter
	unread       bool   // the leader has called Leave
	keepsContext bool   // the end of the last participation does not end ctx
	hidden       bool   // nobody can join any more
	onHide       func() // called when hidden becomes true; may be nil
}

// newRequest returns a request with one participant, its leader.
func (g *Group[R]) newRequest(ctx context.Context, owner Owner[R], key Key) *Request[R] {
	r := &Request[R]{group: g, owner: owner, key: key, done: make(chan struct{}), participants: 1, hidden: key == Key{}}
	r.leader = Participation[R]{Request: r, leads: true}
	r.parent = endless{ctx}
	r.ctx, r.cancel = context.WithCancelCause(&r.parent)
	return r
}

// endless has the values and the deadline of a context, and never ends by
// itself.
type endless struct{ context.Context }

func (endless) Done() <-chan struct{} { return nil }
func (endless) Err() error            { return nil }

// Key returns the key by which others can join r; zero if they cannot.
func (r *Request[R]) Key() Key { return r.key }

// Context returns the context for the work of r. It has the values and the
// deadline of the leader's context, so that the work can tell how much time
// there is. It ends when the last participant leaves, and not at the deadline:
// others may still wait for the result when the leader has gone.
func (r *Request[R]) Context() context.Context { return r.ctx }

// Cancel ends the context of r.
func (r *Request[R]) Cancel(cause error) { r.cancel(cause) }

// KeepContext makes the context of r outlive all participants: only Cancel ends
// it.
func (r *Request[R]) KeepContext() {
	r.group.mu.Lock()
	defer r.group.mu.Unlock()
	r.keepsContext = true
}

// Go calls Do in a new goroutine.
func (r *Request[R]) Go(work func() R) {
	go func() {
		stack.Grow()
		r.Do(work)
	}()
}

// Do does the work of r and publishes its result. The leader calls Do, Go or
// Publish, once.
func (r *Request[R]) Do(work func() R) {
	var result R
	returned := false
	defer func() {
		if p := recover(); !returned {
			result = r.owner.Failed(p, debug.Stack())
		}
		r.Publish(result)
	}()
	result = work()
	returned = true
}

// Publish gives the result to all participants. If nobody takes part any more,
// the result is released.
func (r *Request[R]) Publish(result R) {
	r.result = result
	r.group.mu.Lock()
	close(r.done)
	unread, abandoned := r.unread, r.participants == 0
	r.group.mu.Unlock()
	if abandoned {
		defer r.group.stragglers.Done()
	}
	if unread {
		r.owner.Unread(r)
	}
	if abandoned {
		r.owner.Release(r)
	}
}

// Wait returns nil when the result is there. If ctx ends before, the error is
// its cause. If limit passes before, the error is [patience.ErrExhausted].
func (r *Request[R]) Wait(ctx context.Context, limit time.Duration) error {
	return patience.Wait(ctx, r.done, limit)
}

// Done returns a channel that is closed when the result is there.
func (r *Request[R]) Done() <-chan struct{} { return r.done }

// isReady reports whether the result is there.
func (r *Request[R]) isReady() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// Result returns the result. It may be used once Wait has returned nil, by
// participants and by the owner.
func (r *Request[R]) Result() *R { return &r.result }

// Hide makes r a request that nobody can join any more. Its participants stay.
func (r *Request[R]) Hide() {
	g := r.group
	g.mu.Lock()
	onHide := r.onHide
	r.hidden, r.onHide = true, nil
	if g.byKey[r.key] == r {
		delete(g.byKey, r.key)
		g.remember(r.key.Subject)
	}
	g.mu.Unlock()
	if onHide != nil {
		onHide()
	}
}

// OnHide calls f once when nobody can join r any more, at once if that is so
// already. Only one function can wait for that.
func (r *Request[R]) OnHide(f func()) {
	r.group.mu.Lock()
	hidden := r.hidden
	if !hidden {
		r.onHide = f
	}
	r.group.mu.Unlock()
	if hidden {
		f()
	}
}
