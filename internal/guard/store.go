package guard

import (
	"context"
	"net/http"
	"time"

	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/store"
)

// Store is a [store.Store] behind a guard, for one request. Make it with
// [Guard.For]. Each method does the same as the method of that name in package
// store, unless its comment says otherwise.
type Store struct {
	guard    *Guard
	store    store.Store
	reporter Reporter
	req      *http.Request
}

// CannotHang reports whether all calls of the store end soon. They then run in
// the goroutine of their caller.
func (s Store) CannotHang() bool {
	_, ok := s.store.(*store.Memory)
	return ok
}

// AtOnce reports whether look-ups, reads of bodies, and all calls of drafts end
// soon. They then run in the goroutine of their caller, and ignore its context.
// So does Secret, but it heeds the context.
func (s Store) AtOnce() bool {
	switch s.store.(type) {
	case *store.Memory, *store.Disk:
		return true
	}
	return false
}

// IsShut reports whether the store may not be used any more.
func (s Store) IsShut() bool { return s.guard.IsShut() }

// waited makes a call with a result in a goroutine of its own.
func waited[T any](ctx context.Context, s Store, o options, f func(context.Context) (T, error)) (T, error) {
	var result T
	if err := s.run(ctx, o, func(ctx context.Context, _ *call) (err error) {
		result, err = f(ctx)
		return err
	}); err != nil {
		var none T
		return none, err // f may still set result
	}
	return result, nil
}

// Entries returns the entries of a key.
func (s Store) Entries(ctx context.Context, key string) ([]*store.Entry, error) {
	if s.AtOnce() {
		return direct(s.guard, func() ([]*store.Entry, error) { return s.store.Entries(ctx, key) })
	}
	return waited(ctx, s, options{op: "look up"}, func(ctx context.Context) ([]*store.Entry, error) {
		return s.store.Entries(ctx, key)
	})
}

// AppendEntries appends the entries of a key to dst. If dst has room for them,
// and they are in memory, it allocates nothing.
func (s Store) AppendEntries(ctx context.Context, dst []*store.Entry, key string) (entries []*store.Entry, err error) {
	if !s.AtOnce() {
		entries, err = s.Entries(ctx, key)
		return append(dst, entries...), err
	}
	if !s.guard.enter() {
		return dst, ErrShut
	}
	defer s.guard.leave()
	defer recovered(&err)
	if d, ok := s.store.(*store.Disk); ok {
		return d.AppendEntries(ctx, dst, key)
	}
	return s.store.(*store.Memory).AppendEntries(ctx, dst, key)
}

// Secret returns the secret of the store. The store is asked once.
func (s Store) Secret(ctx context.Context) (secret []byte, err error) {
	if known := s.guard.Secret(); known != nil {
		return known, nil
	}
	if s.AtOnce() {
		secret, err = s.secretDirect(ctx)
	} else {
		secret, err = waited(ctx, s, options{op: "secret"}, func(ctx context.Context) ([]byte, error) {
			return s.store.Secret(ctx)
		})
	}
	if err != nil {
		return nil, err
	}
	return s.guard.keepSecret(secret), nil
}

// secretDirect asks the store in the goroutine of its caller. Without a
// deadline, a [store.Disk] waits for a lock for less time than the caller has
// patience.
func (s Store) secretDirect(ctx context.Context) ([]byte, error) {
	if _, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.guard.patience(ctx))
		defer cancel()
	}
	return direct(s.guard, func() ([]byte, error) { return s.store.Secret(ctx) })
}

// ends reports whether ctx has a deadline, or can be cancelled. Otherwise no
// caller waits to go on.
func ends(ctx context.Context) bool {
	_, ok := ctx.Deadline()
	return ok || ctx.Done() != nil
}

// Update changes the entries of a key. It calls change only until it returns.
// For a caller without a deadline, a Disk is called in the goroutine of that
// caller: it waits for locks as long as the guard would, and a caller that must
// be gone in time would need another goroutine.
func (s Store) Update(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	if s.CannotHang() {
		return s.updateDirect(ctx, key, change)
	}
	if s.AtOnce() && !ends(ctx) {
		ctx, cancel := context.WithTimeout(ctx, s.guard.patience(ctx))
		defer cancel()
		_, err := direct(s.guard, func() (none struct{}, _ error) { return none, s.store.Update(ctx, key, change) })
		return err
	}
	return s.run(ctx, options{op: "update"}, func(ctx context.Context, c *call) error {
		return s.store.Update(ctx, key, func(current []*store.Entry) []*store.Entry {
			next := current
			c.unlessAbandoned(func() { next = change(current) })
			return next
		})
	})
}

// Freshen is [store.Disk.Freshen]. It reports false for other stores, which
// only Update changes.
func (s Store) Freshen(key string, change func([]*store.Entry) []*store.Entry) (done bool) {
	d, ok := s.store.(*store.Disk)
	if !ok {
		return false
	}
	done, err := direct(s.guard, func() (bool, error) { return d.Freshen(key, change), nil })
	return done && err == nil
}

// Invalidate is an Update that takes effect even if ctx has ended or the store
// is slow. change may be called after Invalidate has returned.
func (s Store) Invalidate(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	if s.CannotHang() {
		return s.updateDirect(ctx, key, change)
	}
	return s.run(ctx, options{op: "invalidate", completes: true}, func(ctx context.Context, _ *call) error {
		return s.store.Update(ctx, key, change)
	})
}

func (s Store) updateDirect(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	if ctx.Done() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	_, err := direct(s.guard, func() (none struct{}, _ error) {
		return none, s.store.Update(ctx, key, change)
	})
	return err
}

// leaser is an optional interface of a store: it lets one process at a time
// fetch a variant. If granted is false, another process has fetched the
// variant, so look up again. Call release with shared false if the response is
// of no use to others. Lease does not wait for long, and not if ctx has ended.
// In doubt it grants. It is safe for concurrent use.
type leaser interface {
	Lease(ctx context.Context, key, variant string) (release func(shared bool), granted bool)
}

// Lease lets one process at a time fetch a variant, if the store has leases. It
// takes at most the time most. If granted is false, another process has fetched
// the variant: look up again. release is nil if there is nothing to release.
// Call it with shared false if the response is of no use to others.
func (s Store) Lease(ctx context.Context, key, variant string, most time.Duration) (release func(shared bool), granted bool) {
	fleet, ok := s.store.(leaser)
	if !ok {
		return nil, true
	}
	if s.AtOnce() { // it waits no longer than until the deadline of ctx
		ctx := patience.Until(ctx, time.Now().Add(most))
		_, err := direct(s.guard, func() (struct{}, error) {
			release, granted = fleet.Lease(ctx, key, variant)
			return struct{}{}, nil
		})
		if err != nil {
			return nil, true
		}
		return release, granted
	}
	var end func(bool)
	var mine bool
	err := s.run(ctx, options{op: "lease", undo: func() {
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
		_ = s.run(values, options{op: "lease", releases: true}, func(context.Context, *call) error {
			end(shared)
			return nil
		})
	}, mine
}

// Evictions returns how many keys the store has evicted, or what it told last
// if it does not tell in time. It is 0 if the store has never told.
func (s Store) Evictions(ctx context.Context) uint64 {
	evictor, ok := s.store.(interface{ Evictions() uint64 })
	if !ok {
		return 0
	}
	if s.AtOnce() {
		return evictor.Evictions()
	}
	n, err := waited(ctx, s, options{op: "evictions", afterShut: true}, func(context.Context) (uint64, error) {
		return evictor.Evictions(), nil
	})
	if err != nil {
		if isBroken(err) {
			s.failed("evictions", err)
		}
		return s.guard.evictions.Load()
	}
	s.guard.evictions.Store(n)
	return n
}

// fits reports whether the store can take the header of e, as far as it tells
// in advance.
func (s Store) fits(e *store.Entry) bool {
	sizer, ok := s.store.(interface{ Fits(*store.Entry) bool })
	return !ok || sizer.Fits(e)
}
