package guard

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/store"
)

// Open opens a blob of a key. The body can be read and closed after Shut.
func (s Store) Open(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
	if s.AtOnce() {
		return direct(s.guard, func() (store.Body, error) { return s.store.Open(ctx, key, blob) })
	}
	body, err := s.open(ctx, key, blob)
	if err != nil {
		return nil, err
	}
	return &guardedBody{store: s, ctx: ctx, body: body}, nil
}

func (s Store) open(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
	var body store.Body
	if err := s.run(ctx, options{op: "open", outlives: true, undo: func() { body.Close() }}, func(ctx context.Context, _ *call) (err error) {
		body, err = s.store.Open(ctx, key, blob)
		return err
	}); err != nil {
		return nil, err
	}
	return body, nil
}

// Create returns a draft for the body of e, an entry of a key. size is -1 if it
// is unknown. If the store tells in advance that it cannot take the header of
// e, the error is store.ErrTooLarge.
func (s Store) Create(ctx context.Context, key string, size int64, e *store.Entry) (*Draft, error) {
	var draft store.Draft
	var err error
	if s.AtOnce() {
		draft, err = direct(s.guard, func() (store.Draft, error) { return s.createFor(ctx, key, size, e) })
	} else {
		draft, err = s.create(ctx, key, size, e)
	}
	if err != nil {
		return nil, err
	}
	return &Draft{guardedBody: guardedBody{store: s, ctx: ctx, body: draft}, draft: draft, waiting: ctx}, nil
}

func (s Store) createFor(ctx context.Context, key string, size int64, e *store.Entry) (store.Draft, error) {
	if !s.fits(e) {
		return nil, store.ErrTooLarge
	}
	return s.store.Create(ctx, key, size)
}

func (s Store) create(ctx context.Context, key string, size int64, e *store.Entry) (store.Draft, error) {
	var draft store.Draft
	if err := s.run(ctx, options{op: "create", outlives: true, undo: func() { draft.Close() }}, func(ctx context.Context, _ *call) (err error) {
		draft, err = s.createFor(ctx, key, size, e)
		return err
	}); err != nil {
		return nil, err
	}
	return draft, nil
}

// guardedBody is a body or a draft of a store that may hang. The store's body
// is closed when the last call on it has returned.
type guardedBody struct {
	store Store
	ctx   context.Context // the context of the caller that opened it
	body  store.Body

	mu     sync.Mutex
	users  int // calls under way
	failed error
	closed bool
}

// pieceSize is how much is read or written by one call.
const pieceSize = 128 << 10

// pieces are buffers of calls: an abandoned call may still use its buffer when
// its caller has gone on.
var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// use makes a call of the body, unless an earlier call has hung, or the body is
// closed.
func (b *guardedBody) use(ctx context.Context, o options, f func(*call) error) error {
	b.mu.Lock()
	failed := b.failed
	b.mu.Unlock()
	if failed != nil {
		return failed
	}
	err := b.store.run(ctx, o, func(_ context.Context, c *call) error {
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
	return b.ReadAtWithin(b.ctx, p, offset)
}

// ReadAtWithin is ReadAt for a reader with a context of its own.
func (b *guardedBody) ReadAtWithin(ctx context.Context, p []byte, offset int64) (n int, err error) {
	if b.store.AtOnce() {
		defer recovered(&err)
		return b.body.ReadAt(p, offset)
	}
	return b.readAt(ctx, p, offset)
}

// readAt is ReadAtWithin for a store that may hang.
func (b *guardedBody) readAt(ctx context.Context, p []byte, offset int64) (n int, err error) {
	err = b.use(ctx, options{op: "read", afterShut: true}, func(c *call) error {
		piece := pieces.Get().(*[pieceSize]byte)
		defer pieces.Put(piece)
		m, err := b.body.ReadAt(piece[:min(len(p), pieceSize)], offset)
		c.unlessAbandoned(func() { n = copy(p, piece[:m]) })
		return err
	})
	if isBroken(err) {
		b.store.failed("read", err)
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
	if b.store.AtOnce() {
		defer recovered(&err)
		return b.body.Close()
	}
	o := options{op: "close", completes: true, releases: true}
	err = b.store.run(patience.Lasting(b.ctx), o, func(context.Context, *call) error { return b.body.Close() })
	if isBroken(err) {
		b.store.failed("close", err)
	}
	return nil
}

// Draft is a [store.Draft] behind a guard.
type Draft struct {
	guardedBody
	draft   store.Draft
	waiting context.Context // the context of the readers that wait for the next write
}

// Context returns the context that the draft was created with.
func (d *Draft) Context() context.Context { return d.ctx }

// AtOnce reports whether reads and writes end soon. They then ignore contexts,
// and heed LimitWait.
func (d *Draft) AtOnce() bool { return d.store.AtOnce() }

// SetWaiting sets the context of the callers that wait for the next Write or
// Commit. At first it is the context of Create.
func (d *Draft) SetWaiting(ctx context.Context) { d.waiting = ctx }

// Waiting returns the context of SetWaiting.
func (d *Draft) Waiting() context.Context { return d.waiting }

// LimitWait limits how long the next call may wait for other callers of the
// store. If most is negative, there is no limit. A draft that is not AtOnce has
// the limits of its contexts instead.
func (d *Draft) LimitWait(most time.Duration) {
	if l, ok := d.draft.(interface{ LimitWait(time.Duration) }); ok && d.store.AtOnce() {
		l.LimitWait(most)
	}
}

// AvailableBuffer returns a part of the draft's own buffer, for bytes that are
// passed to Write next. It returns nil if the draft has none to give.
func (d *Draft) AvailableBuffer() (b []byte) {
	if lender, ok := d.draft.(interface{ AvailableBuffer() []byte }); ok && d.store.AtOnce() {
		b, _ = direct(d.store.guard, func() ([]byte, error) { return lender.AvailableBuffer(), nil })
	}
	return b
}

// Write implements [store.Draft].
func (d *Draft) Write(p []byte) (int, error) {
	if d.store.AtOnce() {
		return direct(d.store.guard, func() (int, error) { return d.draft.Write(p) })
	}
	return d.write(p)
}

// write is Write for a store that may hang.
func (d *Draft) write(p []byte) (written int, err error) {
	for len(p) > 0 && err == nil {
		piece := pieces.Get().(*[pieceSize]byte)
		n := copy(piece[:], p) // an abandoned call may still read its buffer after Write has returned
		err = d.use(d.waiting, options{op: "write"}, func(c *call) error {
			defer pieces.Put(piece)
			m, err := d.draft.Write(piece[:n])
			c.unlessAbandoned(func() { written += m })
			return err
		})
		p = p[n:]
	}
	return written, err
}

// Commit implements [store.Draft].
func (d *Draft) Commit() (store.Blob, error) {
	if d.store.AtOnce() {
		return direct(d.store.guard, d.draft.Commit)
	}
	var blob store.Blob
	if err := d.use(d.waiting, options{op: "commit"}, func(*call) (err error) {
		blob, err = d.draft.Commit()
		return err
	}); err != nil {
		return store.Blob{}, err
	}
	return blob, nil
}

// checkpointer is an optional interface of a [store.Draft].
type checkpointer interface {
	Checkpoint() (store.Blob, int64, error)
}

// Checkpoint makes the bytes before length a part of a blob, if the store can
// do that; see [store.Draft]. Otherwise length is 0.
func (d *Draft) Checkpoint() (blob store.Blob, length int64, err error) {
	c, ok := d.draft.(checkpointer)
	if !ok {
		return store.Blob{}, 0, nil
	}
	if d.store.AtOnce() { // as Write
		blob, err = direct(d.store.guard, func() (b store.Blob, err error) {
			b, length, err = c.Checkpoint()
			return b, err
		})
		return blob, length, err
	}
	err = d.use(d.waiting, options{op: "checkpoint"}, func(call *call) error {
		b, n, err := c.Checkpoint()
		call.unlessAbandoned(func() { blob, length = b, n })
		return err
	})
	return blob, length, err
}
