package storefault

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"sync/atomic"

	"github.com/cachetrip/cachetrip/store"
)

// context returns what the wrapped store gets as its context.
func (s *Store) context(ctx context.Context) context.Context {
	if s.IgnoreContext {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

// Entries implements [store.Store].
func (s *Store) Entries(ctx context.Context, key string) ([]*store.Entry, error) {
	return do(s, Call{Op: Entries, Key: key}, func() ([]*store.Entry, error) {
		return s.inner.Entries(s.context(ctx), key)
	}, nothing)
}

func nothing[T any](T) {}

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	_, err := do(s, Call{Op: Update, Key: key}, func() (none struct{}, _ error) {
		return none, s.inner.Update(s.context(ctx), key, change)
	}, nothing)
	return err
}

// Open implements [store.Store].
func (s *Store) Open(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
	inner, err := do(s, Call{Op: Open, Key: key}, func() (store.Body, error) {
		return s.inner.Open(s.context(ctx), key, blob)
	}, func(b store.Body) { b.Close() })
	if err != nil {
		return nil, err
	}
	s.hold(1)
	b := &body{Body: inner, s: s, key: key}
	if direct, ok := inner.(rangeWriter); ok {
		return &directBody{body: b, direct: direct}, nil
	}
	return b, nil
}

// Create implements [store.Store].
func (s *Store) Create(ctx context.Context, key string, size int64) (store.Draft, error) {
	inner, err := do(s, Call{Op: Create, Key: key}, func() (store.Draft, error) {
		return s.inner.Create(s.context(ctx), key, size)
	}, func(d store.Draft) { d.Close() })
	if err != nil {
		return nil, err
	}
	s.hold(1)
	return &draft{Draft: inner, s: s, key: key}, nil
}

// All implements [store.Store].
func (s *Store) All(ctx context.Context, prefix string) iter.Seq2[*store.Entry, error] {
	return func(yield func(*store.Entry, error) bool) {
		_, err := do(s, Call{Op: All, Key: prefix}, func() (none struct{}, _ error) {
			for e, err := range s.inner.All(s.context(ctx), prefix) {
				if !yield(e, err) {
					return none, errLeft
				}
			}
			return none, nil
		}, nothing)
		if err != nil && err != errLeft {
			yield(nil, err)
		}
	}
}

// errLeft says that the caller of All has left the loop.
var errLeft = errors.New("left")

// Secret implements [store.Store].
func (s *Store) Secret(ctx context.Context) ([]byte, error) {
	return do(s, Call{Op: Secret}, func() ([]byte, error) { return s.inner.Secret(s.context(ctx)) }, nothing)
}

// Fits reports whether the wrapped store can take an entry. It is true if that
// store does not say.
func (s *Store) Fits(e *store.Entry) bool {
	s.before(&Call{Op: Fits, Key: e.Key})
	if sizer, ok := s.inner.(interface{ Fits(*store.Entry) bool }); ok {
		return sizer.Fits(e)
	}
	return true
}

// Evictions returns how many keys the wrapped store has evicted, or 0 if it
// does not say.
func (s *Store) Evictions() uint64 {
	s.before(&Call{Op: Evictions})
	if evictor, ok := s.inner.(interface{ Evictions() uint64 }); ok {
		return evictor.Evictions()
	}
	return 0
}

// Lease asks the wrapped store for a lease. If that has none, or a fault
// applies, the lease is granted.
func (s *Store) Lease(ctx context.Context, key, variant string) (release func(shared bool), granted bool) {
	type lease struct {
		release func(shared bool)
		granted bool
	}
	got, err := do(s, Call{Op: Lease, Key: key}, func() (got lease, _ error) {
		fleet, ok := s.inner.(interface {
			Lease(ctx context.Context, key, variant string) (func(shared bool), bool)
		})
		if !ok {
			return lease{func(bool) {}, true}, nil
		}
		got.release, got.granted = fleet.Lease(s.context(ctx), key, variant)
		return got, nil
	}, func(got lease) {
		if got.release != nil {
			got.release(false)
		}
	})
	if err != nil {
		got = lease{func(bool) {}, true}
	}
	if got.release == nil {
		return nil, got.granted
	}
	s.hold(1)
	var released atomic.Bool
	return func(shared bool) {
		defer func() {
			if !released.Swap(true) {
				s.hold(-1)
			}
		}()
		c := Call{Op: Release, Key: key}
		_ = s.before(&c)
		got.release(shared)
		_ = s.after(c)
	}, got.granted
}

// body is an open body of a Store.
type body struct {
	store.Body
	s      *Store
	key    string
	closed atomic.Bool
}

func (b *body) ReadAt(p []byte, offset int64) (int, error) {
	return b.s.readAt(Call{Op: ReadAt, Key: b.key}, b.Body, p, offset)
}

// readAt makes the call c, which reads from r.
func (s *Store) readAt(c Call, r io.ReaderAt, p []byte, offset int64) (int, error) {
	c.Offset, c.Length = offset, int64(len(p))
	n, err := s.transfer(c, func(length int64, corrupt bool) (int64, error) {
		n, err := r.ReadAt(p[:length], offset)
		if corrupt {
			flip(p[:n])
		}
		return int64(n), err
	})
	return int(n), err
}

func (b *body) Close() error { return b.s.close(Call{Op: Close, Key: b.key}, b.Body, &b.closed) }

// close makes the call c, which closes a body or draft. That is closed whatever
// the fault.
func (s *Store) close(c Call, inner io.Closer, closed *atomic.Bool) (err error) {
	if !closed.Swap(true) {
		s.hold(-1)
	}
	reached := false
	closes := func() (none struct{}, _ error) {
		reached = true
		return none, inner.Close()
	}
	_, err = do(s, c, closes, nothing)
	if !reached {
		_, closing := closes()
		err = errors.Join(err, closing)
	}
	return err
}

type rangeWriter interface {
	WriteRangeTo(w io.Writer, offset, length int64) (int64, error)
}

// directBody is a body that can copy itself.
type directBody struct {
	*body
	direct rangeWriter
}

func (b *directBody) WriteRangeTo(w io.Writer, offset, length int64) (int64, error) {
	c := Call{Op: WriteRangeTo, Key: b.key, Offset: offset, Length: length}
	return b.s.transfer(c, func(length int64, corrupt bool) (int64, error) {
		if corrupt {
			w = flipping{w}
		}
		return b.direct.WriteRangeTo(w, offset, length)
	})
}

// flipping flips a bit of each write.
type flipping struct{ w io.Writer }

func (f flipping) Write(p []byte) (int, error) {
	p = bytes.Clone(p)
	flip(p)
	return f.w.Write(p)
}

// draft is a draft of a Store.
type draft struct {
	store.Draft
	s       *Store
	key     string
	written int64
	closed  atomic.Bool
}

func (d *draft) Write(p []byte) (int, error) {
	c := Call{Op: Write, Key: d.key, Offset: d.written, Length: int64(len(p))}
	n, err := d.s.transfer(c, func(length int64, corrupt bool) (int64, error) {
		p := p[:length]
		if corrupt {
			p = bytes.Clone(p)
			flip(p)
		}
		n, err := d.Draft.Write(p)
		d.written += int64(n)
		return int64(n), err
	})
	return int(n), err
}

func (d *draft) ReadAt(p []byte, offset int64) (int, error) {
	return d.s.readAt(Call{Op: DraftReadAt, Key: d.key}, d.Draft, p, offset)
}

func (d *draft) Commit() (store.Blob, error) {
	return do(d.s, Call{Op: Commit, Key: d.key}, d.Draft.Commit, nothing)
}

func (d *draft) Close() error {
	return d.s.close(Call{Op: DraftClose, Key: d.key}, d.Draft, &d.closed)
}
