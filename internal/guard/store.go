package guard

import (
	"context"
	"errors"
	"iter"
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

// cannotHang reports whether all calls of the store end soon.
func (s Store) cannotHang() bool {
	_, ok := s.store.(*store.Memory)
	return ok
}

// AtOnce reports whether look-ups, and reads and writes of bodies, end soon. They then run in the
// goroutine of their caller, and ignore its context.
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

// Secret returns the secret of the store. The store is asked once.
func (s Store) Secret(ctx context.Context) (secret []byte, err error) {
	if known := s.guard.Secret(); known != nil {
		return known, nil
	}
	if s.cannotHang() {
		secret, err = direct(s.guard, func() ([]byte, error) { return s.store.Secret(ctx) })
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

// Update changes the entries of a key. It calls change only until it returns.
func (s Store) Update(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	if s.cannotHang() {
		return s.updateDirect(ctx, key, change)
	}
	return s.run(ctx, options{op: "update"}, func(ctx context.Context, c *call) error {
		return s.store.Update(ctx, key, func(current []*store.Entry) []*store.Entry {
			next := current
			c.unlessAbandoned(func() { next = change(current) })
			return next
		})
	})
}

// Invalidate is an Update that takes effect even if ctx has ended or the store is slow. change may be
// called after Invalidate has returned.
func (s Store) Invalidate(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	if s.cannotHang() {
		return s.updateDirect(ctx, key, change)
	}
	return s.run(ctx, options{op: "invalidate", completes: true}, func(ctx context.Context, _ *call) error {
		return s.store.Update(ctx, key, change)
	})
}

func (s Store) updateDirect(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	_, err := direct(s.guard, func() (none struct{}, _ error) {
		return none, s.store.Update(context.WithoutCancel(ctx), key, change)
	})
	return err
}

// Each returns the entries of all keys with a prefix, one after another. It waits for the store as
// long as that makes progress, and for its caller as long as ctx lasts. The error comes last.
func (s Store) Each(ctx context.Context, prefix string) iter.Seq2[*store.Entry, error] {
	return func(yield func(*store.Entry, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		found, ended := make(chan *store.Entry), make(chan error, 1)
		go func() {
			ended <- s.run(ctx, options{op: "list", progress: true}, func(ctx context.Context, c *call) error {
				for e, err := range s.store.All(ctx, prefix) {
					if err != nil {
						return err
					}
					if err := c.hand(ctx, found, e); err != nil {
						return err
					}
				}
				return nil
			})
		}()
		for {
			select {
			case e := <-found:
				if !yield(e, nil) {
					return
				}
			case err := <-ended:
				if err != nil {
					yield(nil, err)
				}
				return
			}
		}
	}
}

// hand gives an entry to the caller. A slow caller is not taken for a store that hangs.
func (c *call) hand(ctx context.Context, to chan<- *store.Entry, e *store.Entry) error {
	ticker := time.NewTicker(patience.Longest / 4)
	defer ticker.Stop()
	for {
		c.steps.Add(1)
		select {
		case to <- e:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// Clear removes all entries. It waits as long as ctx lasts.
func (s Store) Clear(ctx context.Context) error {
	clearer, ok := s.store.(interface{ Clear(context.Context) error })
	if !ok {
		return s.ChangeAll(ctx, true, func() []string { return []string{""} }, func([]*store.Entry) []*store.Entry { return nil })
	}
	return s.run(ctx, options{op: "clear", unhurried: true}, func(ctx context.Context, _ *call) error { return clearer.Clear(ctx) })
}

// ChangeAll changes the entries of all keys with one of the prefixes. It calls prefixes once
// [Guard.Secret] returns the secret. Until Shut it takes effect even if ctx has ended or the store is slow. If
// patient is set, it waits as long as ctx lasts while it makes progress. prefixes and change may be
// called after ChangeAll has returned.
func (s Store) ChangeAll(ctx context.Context, patient bool, prefixes func() []string, change func([]*store.Entry) []*store.Entry) error {
	return s.run(ctx, options{op: "invalidate", completes: true, progress: patient}, func(ctx context.Context, c *call) error {
		if s.guard.Secret() == nil {
			secret, err := s.store.Secret(ctx)
			if err != nil {
				return err
			}
			s.guard.keepSecret(secret)
		}
		var failed error
		for _, prefix := range prefixes() {
			failed = errors.Join(failed, s.changePrefix(ctx, c, prefix, change))
			if errors.Is(failed, ErrShut) {
				break
			}
		}
		return failed
	})
}

// changePrefix changes the entries of all keys with a prefix, as a part of the call c.
func (s Store) changePrefix(ctx context.Context, c *call, prefix string, change func([]*store.Entry) []*store.Entry) (failed error) {
	keys := make(map[string]bool)
	for e, err := range s.store.All(ctx, prefix) {
		c.steps.Add(1)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		keys[e.Key] = true
	}
	for key := range keys {
		if s.guard.IsShut() {
			return errors.Join(failed, ErrShut)
		}
		failed = errors.Join(failed, s.store.Update(ctx, key, change))
		c.steps.Add(1)
	}
	return failed
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

// Evictions returns how many keys the store has evicted. ok is false if it does not tell.
func (s Store) Evictions() (n uint64, ok bool) {
	evictor, ok := s.store.(interface{ Evictions() uint64 })
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

// Fits reports whether the store can take the header of e, as far as it tells in advance.
func (s Store) Fits(e *store.Entry) (ok bool) {
	sizer, ok := s.store.(interface{ Fits(*store.Entry) bool })
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
