package cachetrip

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

// The one way from a Transport to its Store. A Store may be anybody's code, and may be a machine away: it may hang, panic,
// ignore contexts, or be closed below the Transport. None of that is to keep a caller from its answer. So every call
//
//   - is waited for no longer than the caller's patience, see internal/patience, and no longer than the caller is interested.
//     A call that takes longer is abandoned: it goes on in its own goroutine, and what it brings is given back;
//   - turns a panic, and runtime.Goexit, into an error;
//   - fails with errShut once Close has returned.
//
// Calls run in goroutines of their own, but for those that can't hang: all calls of a *store.Memory, and the look-ups of
// a *store.Disk. The latter wait for no lock, except for 20 ms if a file is damaged. What remains is a file system that
// hangs itself while an existing file is read, such as one on a network. A goroutine for each look-up would make every
// hit dearer to bear that.

const (
	// maxHung is how many calls may hang until further ones fail at once: a store that hangs does so for most keys.
	maxHung = 4

	// hangTime is how long an abandoned call must have taken to count as one that hangs: callers in a hurry leave
	// healthy stores behind.
	hangTime = 250 * time.Millisecond

	// maxLeft is how many abandoned calls there may be at all until further ones fail at once.
	maxLeft = 64
)

var (
	// errHangs reports that the store did not answer in time, or that too many calls before have not.
	errHangs = errors.New("cachetrip: the store does not answer")

	// errShut reports that the store may not be used any more, because Close has returned.
	errShut = errors.New("cachetrip: the Transport was closed")

	// errBroken reports that the store panicked, or ended the goroutine that called it, by runtime.Goexit.
	errBroken = errors.New("cachetrip: panic in the store")
)

// isBroken reports whether an error tells of a store that does not do what a Store must.
func isBroken(err error) bool { return errors.Is(err, errBroken) || errors.Is(err, errHangs) }

var errEnded = fmt.Errorf("%w: runtime.Goexit", errBroken)

// guard counts the calls of a Transport's Store. Its zero value is ready for use.
type guard struct {
	calls atomic.Int64 // calls under way, and shutBase once the guard is shut
	left  atomic.Int32 // abandoned calls that have not returned
	hung  atomic.Int32 // those of them that count as hanging
	idle  chan struct{}
}

const shutBase = math.MinInt64 / 2

// enter begins a call that ends with leave. It reports false if the guard is shut.
func (g *guard) enter() bool {
	if g.calls.Add(1) > 0 {
		return true
	}
	g.leave()
	return false
}

func (g *guard) leave() {
	if g.calls.Add(-1) == shutBase {
		select {
		case g.idle <- struct{}{}:
		default:
		}
	}
}

// shut lets no further call begin, and waits for those under way, for a limited time. It is called once.
func (g *guard) shut(limit time.Duration) {
	g.idle = make(chan struct{}, 1)
	if g.calls.Add(shutBase) == shutBase {
		return
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-g.idle:
	case <-timer.C:
	}
}

// isShut reports whether the store may not be used any more.
func (g *guard) isShut() bool { return g.calls.Load() < 0 }

// direct is deferred by a call that runs in its caller's goroutine: it ends the call, and makes a panic its error.
func (g *guard) direct(err *error) {
	if p := recover(); p != nil {
		*err = panicError(p)
	}
	g.leave()
}

func panicError(p any) error {
	return fmt.Errorf("%w: %v\n%s", errBroken, p, debug.Stack())
}

// patience returns how long ctx may be kept by a call of the store: the less, the more calls hang already, so that a
// request that makes several calls does not spend its time on them.
func (g *guard) patience(ctx context.Context) time.Duration {
	wait := patience.Of(ctx, time.Now(), patience.Longest)
	if wait == 0 && ctx.Done() == nil {
		wait = patience.Longest // the caller whose deadline it was is gone
	}
	return wait >> (2 * min(g.left.Load(), maxHung))
}

// until is a context with another deadline, and else like its parent: calls of the store are to be over in time for a
// caller whose end does not end them. A zero deadline is none.
type until struct {
	context.Context
	deadline time.Time
}

func (c until) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// lasting returns a context with the values and the deadline of ctx that never ends.
func lasting(ctx context.Context) context.Context {
	deadline, _ := ctx.Deadline()
	return until{context.WithoutCancel(ctx), deadline}
}

// access is the Store of a Transport, for a request.
type access struct {
	t   *Transport
	req *http.Request // whose hooks are told of what fails when nobody waits any more; may be nil
}

// keeps reports whether there is a Store.
func (t *Transport) keeps() bool { return t.Store != nil }

func (x *exchange) access() access { return access{x.t, x.request()} }

// lasting returns a context for calls of the store that the caller's end does not end, but that are to be over in time
// for the caller.
func (x *exchange) lasting() context.Context {
	if x.behind() {
		return context.WithoutCancel(x.req.Context())
	}
	return lasting(x.req.Context())
}

// cannotHang reports whether all calls of the Store end soon.
func (a access) cannotHang() bool {
	_, ok := a.t.Store.(*store.Memory)
	return ok
}

// looksUpAtOnce reports whether the look-ups of the Store end soon, and its bodies and drafts read and write so.
func (a access) looksUpAtOnce() bool {
	switch a.t.Store.(type) {
	case *store.Memory, *store.Disk:
		return true
	}
	return false
}

// manner is how a call is made.
type manner struct {
	op       string // for logs
	lasts    bool   // the call has to take effect: it begins, and goes on, even if nobody waits for it
	whole    bool   // its caller wants nothing else, and waits as long as it makes progress
	reads    bool   // it reads what was opened before, and may do so after Close
	cleans   bool   // it gives something back, which is always possible
	outlives bool   // its result uses the call's context
	undo     func() // gives back what an abandoned call brings; may be nil
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
	hangs     bool        // and counts as such
	timer     *time.Timer // that makes it count so
}

// wanted calls f unless the call was abandoned; then nothing may be changed that its caller sees.
func (c *call) wanted(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.abandoned {
		return false
	}
	f()
	return true
}

// run makes a call of the store. If it returns an error, f may still run: then what f has set must be left alone.
func (a access) run(ctx context.Context, m manner, f func(context.Context, *call) error) error {
	g := &a.t.guard
	if !m.lasts && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if entered := g.enter(); !entered && !m.reads && !m.cleans {
		return errShut
	} else if !entered {
		g.calls.Add(1)
	}
	if !m.cleans && (g.hung.Load() >= maxHung || g.left.Load() >= maxLeft) {
		g.leave()
		return errHangs
	}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &call{began: time.Now(), done: make(chan struct{})}
	wait := patience.Longest
	if !m.whole {
		wait = g.patience(ctx)
		if !m.lasts && !m.outlives {
			inner = until{inner, c.began.Add(wait)} // for stores that set deadlines on connections
		}
	}
	go a.make(inner, cancel, c, m, f)

	timer := time.NewTimer(wait)
	defer timer.Stop()
	var err error
	for steps := int32(0); err == nil; {
		select {
		case <-c.done:
			return c.err
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-timer.C:
			if now := c.steps.Load(); m.whole && now != steps {
				steps = now
				timer.Reset(wait)
			} else {
				err = errHangs
			}
		}
	}
	if !g.abandon(c) {
		return c.err
	}
	if !m.lasts {
		cancel()
	}
	return err
}

// make runs f as the call c, and cleans up after it if nobody waits any more.
func (a access) make(ctx context.Context, cancel context.CancelFunc, c *call, m manner, f func(context.Context, *call) error) {
	g := &a.t.guard
	defer g.leave()
	if !m.outlives {
		defer cancel()
	}
	err := errEnded
	defer func() {
		p := recover()
		if p != nil {
			err = panicError(p)
		}
		if !g.end(c, err) {
			return
		}
		defer func() { recover() }() // of a hook or a handler of logs
		switch {
		case p != nil || err == errEnded:
			a.t.storeFailed(a.req, m.op, err)
		case err == nil && m.undo != nil:
			m.undo()
		}
	}()
	err = f(ctx, c)
}

// abandon notes that nobody waits for c any more, unless it is over.
func (g *guard) abandon(c *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return false
	}
	c.abandoned = true
	g.left.Add(1)
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
func (g *guard) end(c *call, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over, c.err = true, err
	close(c.done)
	if !c.abandoned {
		return false
	}
	c.timer.Stop()
	g.left.Add(-1)
	if c.hangs {
		g.hung.Add(-1)
	}
	return true
}

// entries is [store.Store.Entries].
func (a access) entries(ctx context.Context, key string) (_ []*store.Entry, err error) {
	if a.looksUpAtOnce() {
		if !a.t.guard.enter() {
			return nil, errShut
		}
		defer a.t.guard.direct(&err)
		return a.t.Store.Entries(ctx, key)
	}
	var found []*store.Entry
	if err := a.run(ctx, manner{op: "look up"}, func(ctx context.Context, _ *call) (err error) {
		found, err = a.t.Store.Entries(ctx, key)
		return err
	}); err != nil {
		return nil, err
	}
	return found, nil
}

// secret is [store.Store.Secret].
func (a access) secret(ctx context.Context) (_ []byte, err error) {
	if a.cannotHang() {
		if !a.t.guard.enter() {
			return nil, errShut
		}
		defer a.t.guard.direct(&err)
		return a.t.Store.Secret(ctx)
	}
	var secret []byte
	if err := a.run(ctx, manner{op: "secret"}, func(ctx context.Context, _ *call) (err error) {
		secret, err = a.t.Store.Secret(ctx)
		return err
	}); err != nil {
		return nil, err
	}
	return secret, nil
}

// update is [store.Store.Update]. change is not called any more once update has returned.
func (a access) update(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	return a.updateAs(ctx, manner{op: "update"}, key, change)
}

// invalidate is an update that takes effect even if nobody waits for it any more: change may be called later, and at
// the same time as its caller goes on.
func (a access) invalidate(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	return a.updateAs(ctx, manner{op: "invalidate", lasts: true}, key, change)
}

func (a access) updateAs(ctx context.Context, m manner, key string, change func([]*store.Entry) []*store.Entry) (err error) {
	if a.cannotHang() {
		if !a.t.guard.enter() {
			return errShut
		}
		defer a.t.guard.direct(&err)
		return a.t.Store.Update(context.WithoutCancel(ctx), key, change)
	}
	return a.run(ctx, m, func(ctx context.Context, c *call) error {
		if m.lasts {
			return a.t.Store.Update(ctx, key, change)
		}
		return a.t.Store.Update(ctx, key, func(current []*store.Entry) []*store.Entry {
			next := current
			c.wanted(func() { next = change(current) })
			return next
		})
	})
}

// all returns what is stored under keys with a prefix that stands for a URL. It waits as long as ctx lasts while more
// is found.
func (a access) all(ctx context.Context, prefix string) (found []*store.Entry, err error) {
	var list []*store.Entry
	if err := a.run(ctx, manner{op: "list", whole: true}, func(ctx context.Context, c *call) error {
		for e, err := range a.t.Store.All(ctx, prefix) {
			if err != nil {
				return err
			}
			list = append(list, e)
			c.steps.Add(1)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return list, nil
}

// changeAll changes what is stored under the keys that begin with one of the prefixes, which are made with the secret of
// the store. It takes effect even if nobody waits for it any more, until Close. If whole is set, the call waits as long as
// ctx lasts while it makes progress.
func (a access) changeAll(ctx context.Context, whole bool, prefixes func(digester) []string, change func([]*store.Entry) []*store.Entry) error {
	return a.run(ctx, manner{op: "invalidate", lasts: true, whole: whole}, func(ctx context.Context, c *call) error {
		if a.t.secret.Load() == nil {
			secret, err := a.t.Store.Secret(ctx)
			if err != nil {
				return err
			}
			made := digester(secret)
			a.t.secret.CompareAndSwap(nil, &made)
		}
		var failed error
		for _, prefix := range prefixes(*a.t.secret.Load()) {
			keys := make(map[string]bool)
			for e, err := range a.t.Store.All(ctx, prefix) {
				c.steps.Add(1)
				if err != nil {
					failed = errors.Join(failed, err)
					continue
				}
				keys[e.Key] = true
			}
			for key := range keys {
				if a.t.guard.isShut() {
					return errShut
				}
				failed = errors.Join(failed, a.t.Store.Update(ctx, key, change))
				c.steps.Add(1)
			}
		}
		return failed
	})
}

// lease has one process at a time fetch the same, if the store sees to that, which may take most; see leaser.
func (a access) lease(ctx context.Context, key, variant string, most time.Duration) (release func(shared bool), granted bool) {
	fleet, ok := a.t.Store.(leaser)
	if !ok {
		return nil, true
	}
	var end func(bool)
	var mine bool
	err := a.run(ctx, manner{op: "lease", undo: func() {
		if end != nil {
			end(false)
		}
	}}, func(ctx context.Context, _ *call) error {
		ctx, cancel := context.WithTimeout(ctx, most)
		defer cancel()
		end, mine = fleet.Lease(ctx, key, variant)
		return nil
	})
	if err != nil {
		return nil, true
	}
	if end == nil {
		return nil, mine
	}
	values := context.WithoutCancel(ctx)
	return func(shared bool) {
		a.run(values, manner{op: "lease", cleans: true}, func(context.Context, *call) error {
			end(shared)
			return nil
		})
	}, mine
}

// evictedByStore returns how many keys the store has evicted, if it tells.
func (t *Transport) evictedByStore() (n uint64, ok bool) {
	evictor, ok := t.Store.(interface{ Evictions() uint64 })
	if !ok {
		return 0, false
	}
	defer func() {
		if recover() != nil {
			n, ok = 0, false
		}
	}()
	return evictor.Evictions(), true
}

// fits reports whether the store takes the header of e, as far as it tells before.
func (t *Transport) fits(e *store.Entry) (ok bool) {
	sizer, ok := t.Store.(interface{ Fits(*store.Entry) bool })
	if !ok {
		return true
	}
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return sizer.Fits(e)
}

// open is [store.Store.Open]. The body may be read and closed after Close of the Transport.
func (a access) open(ctx context.Context, key string, blob store.Blob) (_ store.Body, err error) {
	if a.looksUpAtOnce() {
		if !a.t.guard.enter() {
			return nil, errShut
		}
		defer a.t.guard.direct(&err)
		return a.t.Store.Open(ctx, key, blob)
	}
	var body store.Body
	if err := a.run(ctx, manner{op: "open", outlives: true, undo: func() { body.Close() }}, func(ctx context.Context, _ *call) (err error) {
		body, err = a.t.Store.Open(ctx, key, blob)
		return err
	}); err != nil {
		return nil, err
	}
	return &guardedBody{a: a, ctx: ctx, body: body}, nil
}

// create is [store.Store.Create].
func (a access) create(ctx context.Context, key string, size int64) (_ *guardedDraft, err error) {
	var draft store.Draft
	if a.cannotHang() {
		if !a.t.guard.enter() {
			return nil, errShut
		}
		defer a.t.guard.direct(&err)
		if draft, err = a.t.Store.Create(ctx, key, size); err != nil {
			return nil, err
		}
	} else if err := a.run(ctx, manner{op: "create", outlives: true, undo: func() { draft.Close() }}, func(ctx context.Context, _ *call) (err error) {
		draft, err = a.t.Store.Create(ctx, key, size)
		return err
	}); err != nil {
		return nil, err
	}
	return &guardedDraft{guardedBody{a: a, ctx: ctx, body: draft}, draft, ctx}, nil
}

// guardedBody is a body of the store, or a draft. It is closed once no call of it is under way any more, even one
// that hangs.
type guardedBody struct {
	a    access
	ctx  context.Context // for whom it is used
	body store.Body

	mu     sync.Mutex
	users  int // calls under way
	failed error
	closed bool
}

// use makes a call of the body, unless one before it has hung or the body is closed.
func (b *guardedBody) use(ctx context.Context, m manner, f func(*call) error) error {
	b.mu.Lock()
	failed := b.failed
	b.mu.Unlock()
	if failed != nil {
		return failed
	}
	err := b.a.run(ctx, m, func(_ context.Context, c *call) error {
		b.mu.Lock()
		if b.closed {
			b.mu.Unlock()
			return store.ErrClosed
		}
		b.users++
		b.mu.Unlock()
		defer b.unuse()
		return f(c)
	})
	if errors.Is(err, errHangs) {
		b.mu.Lock()
		b.failed = err
		b.mu.Unlock()
	}
	return err
}

func (b *guardedBody) unuse() {
	b.mu.Lock()
	b.users--
	closes := b.closed && b.users == 0
	b.mu.Unlock()
	if closes {
		b.body.Close()
	}
}

// ReadAt implements [store.Body].
func (b *guardedBody) ReadAt(p []byte, offset int64) (n int, err error) {
	return b.readAt(b.ctx, p, offset)
}

// readAt is ReadAt within the context of who reads.
func (b *guardedBody) readAt(ctx context.Context, p []byte, offset int64) (n int, err error) {
	if b.a.looksUpAtOnce() {
		defer recovered(&err)
		return b.body.ReadAt(p, offset)
	}
	err = b.use(ctx, manner{op: "read", reads: true}, func(c *call) error {
		piece := pieces.Get().(*[pieceSize]byte)
		defer pieces.Put(piece)
		m, err := b.body.ReadAt(piece[:min(len(p), pieceSize)], offset)
		c.wanted(func() { n = copy(p, piece[:m]) })
		return err
	})
	if isBroken(err) {
		b.a.t.storeFailed(b.a.req, "read", err)
	}
	return n, err
}

// Close implements [store.Body].
func (b *guardedBody) Close() (err error) {
	b.mu.Lock()
	closes := !b.closed && b.users == 0
	b.closed = true
	b.mu.Unlock()
	if !closes {
		return nil
	}
	if b.a.looksUpAtOnce() {
		defer recovered(&err)
		return b.body.Close()
	}
	err = b.a.run(lasting(b.ctx), manner{op: "close", lasts: true, cleans: true}, func(context.Context, *call) error { return b.body.Close() })
	if isBroken(err) {
		b.a.t.storeFailed(b.a.req, "close", err)
	}
	return nil
}

// guardedDraft is a draft of the store.
type guardedDraft struct {
	guardedBody
	draft store.Draft
	until context.Context // of those who wait for what is written; the writer sets it
}

// Write implements [store.Draft].
func (d *guardedDraft) Write(p []byte) (written int, err error) {
	if d.a.looksUpAtOnce() {
		if !d.a.t.guard.enter() {
			return 0, errShut
		}
		defer d.a.t.guard.direct(&err)
		return d.draft.Write(p)
	}
	for len(p) > 0 && err == nil {
		piece := pieces.Get().(*[pieceSize]byte)
		n := copy(piece[:], p) // which the store may still read when p is used for something else
		err = d.use(d.until, manner{op: "write"}, func(c *call) error {
			defer pieces.Put(piece)
			m, err := d.draft.Write(piece[:n])
			c.wanted(func() { written += m })
			return err
		})
		p = p[n:]
	}
	return written, err
}

// commit is [store.Draft.Commit].
func (d *guardedDraft) commit() (_ store.Blob, err error) {
	var blob store.Blob
	if d.a.cannotHang() {
		if !d.a.t.guard.enter() {
			return store.Blob{}, errShut
		}
		defer d.a.t.guard.direct(&err)
		return d.draft.Commit()
	}
	if err := d.use(d.until, manner{op: "commit"}, func(*call) (err error) {
		blob, err = d.draft.Commit()
		return err
	}); err != nil {
		return store.Blob{}, err
	}
	return blob, nil
}

// recovered is deferred by calls that make a panic their error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = panicError(p)
	}
}
