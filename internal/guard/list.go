package guard

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/store"
)

// This file has the calls that concern many keys.

// Each returns the entries of all keys with a prefix, one after another. It
// waits for the store as long as that makes progress, and for its caller as
// long as ctx lasts. The error comes last.
func (s Store) Each(ctx context.Context, prefix string) iter.Seq2[*store.Entry, error] {
	return s.each(ctx, func(ctx context.Context, _ func()) iter.Seq2[*store.Entry, error] { return s.store.All(ctx, prefix) })
}

// matcher is an optional interface of a store: its All for the entries whose
// URL matches.
type matcher interface {
	Matching(ctx context.Context, prefix string, match func(url string) bool) iter.Seq2[*store.Entry, error]
}

// Matching is Each for the entries whose URL matches. It calls match in other
// goroutines, which hand over no other entries.
func (s Store) Matching(ctx context.Context, prefix string, match func(url string) bool) iter.Seq2[*store.Entry, error] {
	return s.each(ctx, func(ctx context.Context, step func()) iter.Seq2[*store.Entry, error] {
		matches := func(url string) bool {
			step()
			return match(url)
		}
		if m, ok := s.store.(matcher); ok {
			return m.Matching(ctx, prefix, matches)
		}
		return func(yield func(*store.Entry, error) bool) {
			for e, err := range s.store.All(ctx, prefix) {
				if (err != nil || matches(e.URL)) && !yield(e, err) {
					return
				}
			}
		}
	})
}

// each returns the entries of a list, which calls step when it makes progress.
func (s Store) each(ctx context.Context, list func(ctx context.Context, step func()) iter.Seq2[*store.Entry, error]) iter.Seq2[*store.Entry, error] {
	return func(yield func(*store.Entry, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		found, ended := make(chan *store.Entry), make(chan error, 1)
		go func() {
			ended <- s.run(ctx, options{op: "list", progress: true}, func(ctx context.Context, c *call) error {
				for e, err := range list(ctx, func() { c.steps.Add(1) }) {
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

// hand gives an entry to the caller. A slow caller is not taken for a store
// that hangs.
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

// Clear removes all entries. It waits as long as ctx lasts. If ctx has ended,
// nothing is removed.
func (s Store) Clear(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	clearer, ok := s.store.(interface{ Clear(context.Context) error })
	if !ok {
		return s.ChangeAll(ctx, true, func() []string { return []string{""} }, func([]*store.Entry) []*store.Entry { return nil })
	}
	return s.run(ctx, options{op: "clear", unhurried: true}, func(ctx context.Context, _ *call) error { return clearer.Clear(ctx) })
}

// ChangeAll changes the entries of all keys with one of the prefixes. It calls
// prefixes once [Guard.Secret] returns the secret. Until Shut it takes effect
// even if ctx has ended or the store is slow. If patient is set, it waits as
// long as ctx lasts while it makes progress. prefixes and change may be called
// after ChangeAll has returned.
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

// changePrefix changes the entries of all keys with a prefix, as a part of the
// call c.
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
