// Package guard protects a program from its [store.Store]. A store may be
// anybody's code, or on another machine. It may hang, panic, ignore contexts,
// or be closed while it is in use. The guard promises:
//
//   - A call takes no longer than the patience of its context, and no longer than the context
//     lasts. A call that takes longer is abandoned: it continues in its own goroutine, and its
//     result is released.
//   - A panic of the store, or runtime.Goexit, becomes an error.
//   - After Shut no call begins, except calls that read or close a body opened before.
//   - There are at most 64 abandoned calls. Beyond that, or if 4 of them hang, calls fail at once.
//
// Calls run in goroutines of their own, except calls that cannot hang while the
// file system works. These run in the goroutine of their caller:
//
//   - all calls of a [store.Memory];
//   - look-ups, reads, drafts, Secret and Lease of a [store.Disk];
//   - updates of a Disk for a caller without a deadline;
//   - [Store.Freshen], which changes nothing on a network file system.
//
// A look-up of a Disk waits for no lock, except for 20 ms if a file is damaged.
// Secret waits for one only if the cache is new. Secret and Update wait no
// longer than the patience of their context, and Lease no longer than its
// caller says.
//
// So a file system that hangs, such as one on a network, can still delay a
// caller. To avoid that, each hit would have to pay for a goroutine.
package guard

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/store"
)

const (
	// maxHung is how many calls may hang before further calls fail at once. A
	// store that hangs does so for most keys.
	maxHung = 4

	// hangTime is how long an abandoned call must take to count as hanging.
	// Callers with short deadlines also abandon calls of healthy stores.
	hangTime = 250 * time.Millisecond

	// maxAbandoned is how many abandoned calls there may be before further
	// calls fail at once.
	maxAbandoned = 64
)

var (
	// errHangs reports that the store did not answer in time, or that too many
	// calls hang already.
	errHangs = errors.New("cachetrip: the store does not answer")

	// ErrShut reports that the store may not be used any more.
	ErrShut = errors.New("cachetrip: the Transport was closed")

	// errBroken reports that the store panicked, or ended the goroutine that
	// called it.
	errBroken = errors.New("cachetrip: panic in the store")

	errEnded = fmt.Errorf("%w: runtime.Goexit", errBroken)
)

// isBroken reports whether an error says that the store does not do what a
// Store must.
func isBroken(err error) bool { return errors.Is(err, errBroken) || errors.Is(err, errHangs) }

// Guard counts the calls of one store, and remembers its secret. Its zero value
// is ready for use. It is safe for concurrent use.
type Guard struct {
	calls     atomic.Int64 // calls under way, plus shutBase once the guard is shut
	abandoned atomic.Int32 // abandoned calls that have not returned
	hung      atomic.Int32 // abandoned calls that count as hanging
	idle      chan struct{}
	secret    atomic.Pointer[[]byte]
	evictions atomic.Uint64 // what the store told last
}

const shutBase = math.MinInt64 / 2

// Reporter receives failures that no caller gets, because the caller has gone
// on or the method has no error. req is the argument of For. StoreFailed may be
// called in any goroutine.
type Reporter interface {
	StoreFailed(req *http.Request, op string, err error)
}

// For returns s behind the guard, for one request. req is for the reporter
// alone, and may be nil.
func (g *Guard) For(s store.Store, reporter Reporter, req *http.Request) Store {
	return Store{guard: g, store: s, reporter: reporter, req: req}
}

// Shut lets no further call begin, and waits for those under way, at most for
// the time limit. It may be called once.
func (g *Guard) Shut(limit time.Duration) {
	g.idle = make(chan struct{}, 1)
	if g.calls.Add(shutBase) == shutBase {
		return
	}
	_ = patience.Wait(context.Background(), g.idle, limit)
}

// IsShut reports whether Shut was called.
func (g *Guard) IsShut() bool { return g.calls.Load() < 0 }

// Secret returns the secret of the store if it is known, or nil.
func (g *Guard) Secret() []byte {
	if secret := g.secret.Load(); secret != nil {
		return *secret
	}
	return nil
}

// keepSecret remembers the first secret of the store, and returns it.
func (g *Guard) keepSecret(secret []byte) []byte {
	g.secret.CompareAndSwap(nil, &secret)
	return *g.secret.Load()
}

// enter begins a call that ends with leave. It reports false if the guard is
// shut.
func (g *Guard) enter() bool {
	if g.calls.Add(1) > 0 {
		return true
	}
	g.leave()
	return false
}

func (g *Guard) leave() {
	if g.calls.Add(-1) == shutBase {
		select {
		case g.idle <- struct{}{}:
		default:
		}
	}
}

// direct makes a call of a store that cannot hang, in the goroutine of its
// caller.
func direct[T any](g *Guard, f func() (T, error)) (_ T, err error) {
	if !g.enter() {
		var none T
		return none, ErrShut
	}
	defer g.leave()
	defer recovered(&err)
	return f()
}

// recovered is deferred by a call, to make a panic its error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = panicError(p)
	}
}

func panicError(p any) error {
	return fmt.Errorf("%w: %v\n%s", errBroken, p, debug.Stack())
}

// patience returns how long a call may delay the caller with ctx. It is shorter
// if more calls are abandoned, because a request may make several calls.
func (g *Guard) patience(ctx context.Context) time.Duration {
	wait := patience.Of(ctx, time.Now(), patience.Longest)
	if wait == 0 && ctx.Done() == nil {
		wait = patience.Longest // the caller with that deadline has gone on
	}
	return wait >> (2 * min(g.abandoned.Load(), maxHung))
}

// options say how a call is made.
type options struct {
	op        string // the operation, for logs
	completes bool   // the call begins and continues even if no caller waits for it
	progress  bool   // the caller waits as long as the call makes progress
	unhurried bool   // the caller waits as long as its context lasts
	afterShut bool   // the call reads a body that was opened before Shut
	releases  bool   // the call releases something, which is always possible
	outlives  bool   // the result uses the context of the call
	undo      func() // gives back the result of an abandoned call; may be nil
}

// call is a call of the store in a goroutine of its own.
type call struct {
	began time.Time
	done  chan struct{}
	steps atomic.Int32 // how far it has come

	mu        sync.Mutex
	err       error
	over      bool
	abandoned bool
	hangs     bool        // it counts as hanging
	timer     *time.Timer // sets hangs
}

// unlessAbandoned calls f unless the call was abandoned. An abandoned call may
// change nothing that its caller sees.
func (c *call) unlessAbandoned(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.abandoned {
		f()
	}
}

// run makes a call of the store by calling f in a goroutine. If run returns an
// error, f may still run: do not read then what f sets.
func (s Store) run(ctx context.Context, o options, f func(context.Context, *call) error) error {
	g := s.guard
	if !o.completes && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if entered := g.enter(); !entered && !o.afterShut && !o.releases {
		return ErrShut
	} else if !entered {
		g.calls.Add(1)
	}
	if !o.releases && (g.hung.Load() >= maxHung || g.abandoned.Load() >= maxAbandoned) {
		g.leave()
		return errHangs
	}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &call{began: time.Now(), done: make(chan struct{})}
	wait := patience.Longest
	switch {
	case o.unhurried:
		wait = patience.Unlimited
	case !o.progress:
		wait = g.patience(ctx)
		if !o.completes && !o.outlives {
			inner = patience.Until(inner, c.began.Add(wait)) // for stores that set deadlines on connections
		}
	}
	go s.make(inner, cancel, c, o, f)

	err := c.wait(ctx, wait, o.progress)
	if err == nil || !g.abandon(c) {
		return c.err
	}
	if !o.completes {
		cancel()
	}
	return err
}

// wait returns nil when c is over. Otherwise the error says why it is waited
// for no longer. With progress, the time most begins again with each step.
func (c *call) wait(ctx context.Context, most time.Duration, progress bool) error {
	timer := time.NewTimer(most)
	defer timer.Stop()
	for steps := int32(0); ; {
		select {
		case <-c.done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			now := c.steps.Load()
			if !progress || now == steps {
				return errHangs
			}
			steps = now
			timer.Reset(most)
		}
	}
}

// make runs f as the call c, and cleans up after it if it was abandoned.
func (s Store) make(ctx context.Context, cancel context.CancelFunc, c *call, o options, f func(context.Context, *call) error) {
	defer s.guard.leave()
	if !o.outlives {
		defer cancel()
	}
	err := errEnded
	defer func() {
		p := recover()
		if p != nil {
			err = panicError(p)
		}
		if !s.guard.end(c, err) {
			return
		}
		defer func() { _ = recover() }() // of undo or the reporter
		switch {
		case p != nil || err == errEnded:
			s.failed(o.op, err)
		case err == nil && o.undo != nil:
			o.undo()
		}
	}()
	err = f(ctx, c)
}

// failed tells the reporter of a failure.
func (s Store) failed(op string, err error) { s.reporter.StoreFailed(s.req, op, err) }

// abandon notes that nobody waits for c any more. It reports false if c is
// over.
func (g *Guard) abandon(c *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return false
	}
	c.abandoned = true
	g.abandoned.Add(1)
	c.timer = time.AfterFunc(hangTime-time.Since(c.began), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.over {
			c.hangs = true
			g.hung.Add(1)
		}
	})
	return true
}

// end notes that c is over, and reports whether it was abandoned before.
func (g *Guard) end(c *call, err error) (abandoned bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over, c.err = true, err
	close(c.done)
	if !c.abandoned {
		return false
	}
	c.timer.Stop()
	g.abandoned.Add(-1)
	if c.hangs {
		g.hung.Add(-1)
	}
	return true
}
