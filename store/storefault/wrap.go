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
	if err := s.ignoreCorrupt(Call{Op: Entries, Key: key}); err != nil {
		return nil, err
	}
	return s.inner.Entries(s.context(ctx), key)
}

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	if err := s.ignoreCorrupt(Call{Op: Update, Key: key}); err != nil {
		return err
	}
	return s.inner.Update(s.context(ctx), key, change)
}

// Open implements [store.Store].
func (s *Store) Open(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
	if err := s.ignoreCorrupt(Call{Op: Open, Key: key}); err != nil {
		return nil, err
	}
	inner, err := s.inner.Open(s.context(ctx), key, blob)
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
	if err := s.ignoreCorrupt(Call{Op: Create, Key: key}); err != nil {
		return nil, err
	}
	inner, err := s.inner.Create(s.context(ctx), key, size)
	if err != nil {
		return nil, err
	}
	s.hold(1)
	return &draft{Draft: inner, s: s, key: key}, nil
}

// All implements [store.Store].
func (s *Store) All(ctx context.Context, prefix string) iter.Seq2[*store.Entry, error] {
	return func(yield func(*store.Entry, error) bool) {
		if err := s.ignoreCorrupt(Call{Op: All, Key: prefix}); err != nil {
			yield(nil, err)
			return
		}
		s.inner.All(s.context(ctx), prefix)(yield)
	}
}

// Secret implements [store.Store].
func (s *Store) Secret(ctx context.Context) ([]byte, error) {
	if err := s.ignoreCorrupt(Call{Op: Secret}); err != nil {
		return nil, err
	}
	return s.inner.Secret(s.context(ctx))
}

// Fits reports whether the wrapped store can take an entry. It is true if that store does not say.
func (s *Store) Fits(e *store.Entry) bool {
	if sizer, ok := s.inner.(interface{ Fits(*store.Entry) bool }); ok {
		return sizer.Fits(e)
	}
	return true
}

// Evictions returns how many keys the wrapped store has evicted, or 0 if it does not say.
func (s *Store) Evictions() uint64 {
	if evictor, ok := s.inner.(interface{ Evictions() uint64 }); ok {
		return evictor.Evictions()
	}
	return 0
}

// Lease asks the wrapped store for a lease. If that has none, or a fault applies, the lease is
// granted.
func (s *Store) Lease(ctx context.Context, key, variant string) (release func(shared bool), granted bool) {
	fleet, ok := s.inner.(interface {
		Lease(ctx context.Context, key, variant string) (func(shared bool), bool)
	})
	if !ok || s.ignoreCorrupt(Call{Op: Lease, Key: key}) != nil {
		return func(bool) {}, true
	}
	return fleet.Lease(s.context(ctx), key, variant)
}

// body is an open body of a Store.
type body struct {
	store.Body
	s      *Store
	key    string
	closed atomic.Bool
}

func (b *body) ReadAt(p []byte, offset int64) (int, error) {
	err := b.s.before(Call{Op: ReadAt, Key: b.key, Offset: offset, Length: int64(len(p))})
	corrupt := errors.Is(err, errCorrupt)
	if err != nil && !corrupt {
		return 0, err
	}
	n, err := b.Body.ReadAt(p, offset)
	if corrupt {
		flip(p[:n])
	}
	return n, err
}

func (b *body) Close() error {
	if !b.closed.Swap(true) {
		b.s.hold(-1)
	}
	fault := b.s.ignoreCorrupt(Call{Op: Close, Key: b.key})
	return errors.Join(fault, b.Body.Close())
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
	err := b.s.before(Call{Op: WriteRangeTo, Key: b.key, Offset: offset, Length: length})
	switch {
	case errors.Is(err, errCorrupt):
		w = flipping{w}
	case err != nil:
		return 0, err
	}
	return b.direct.WriteRangeTo(w, offset, length)
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
	err := d.s.before(Call{Op: Write, Key: d.key, Offset: d.written, Length: int64(len(p))})
	switch {
	case errors.Is(err, errCorrupt):
		p = bytes.Clone(p)
		flip(p)
	case err != nil:
		return 0, err
	}
	n, err := d.Draft.Write(p)
	d.written += int64(n)
	return n, err
}

func (d *draft) ReadAt(p []byte, offset int64) (int, error) {
	err := d.s.before(Call{Op: DraftReadAt, Key: d.key, Offset: offset, Length: int64(len(p))})
	corrupt := errors.Is(err, errCorrupt)
	if err != nil && !corrupt {
		return 0, err
	}
	n, err := d.Draft.ReadAt(p, offset)
	if corrupt {
		flip(p[:n])
	}
	return n, err
}

func (d *draft) Commit() (store.Blob, error) {
	if err := d.s.ignoreCorrupt(Call{Op: Commit, Key: d.key}); err != nil {
		return store.Blob{}, err
	}
	return d.Draft.Commit()
}

func (d *draft) Close() error {
	if !d.closed.Swap(true) {
		d.s.hold(-1)
	}
	fault := d.s.ignoreCorrupt(Call{Op: DraftClose, Key: d.key})
	return errors.Join(fault, d.Draft.Close())
}
