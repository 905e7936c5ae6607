package encrypted

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/minio/sio"

	"github.com/cachetrip/cachetrip/store"
)

// openBody reads a blob, package by package. It keeps the last package, for
// callers that read a little at a time.
type openBody struct {
	inner  store.Body
	reader io.ReaderAt
	size   int64
	last   atomic.Pointer[chunk]
}

// chunk is the plain text of one package.
type chunk struct {
	offset int64
	bytes  []byte
}

func (b *openBody) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, errors.New("cachetrip: store: encrypted: negative offset")
	}
	if left := b.size - offset; int64(len(p)) > left {
		p, err = p[:max(0, left)], io.EOF
	}
	for n < len(p) {
		at := offset + int64(n)
		start := at / packageSize * packageSize
		if whole := p[n:]; at == start && len(whole) >= packageSize {
			if err := b.read(whole[:packageSize], start); err != nil {
				return n, err
			}
			n += packageSize
			continue
		}
		c, err := b.chunk(start)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], c.bytes[at-start:])
	}
	return n, err
}

// chunk returns the plain text of the package that begins at start.
func (b *openBody) chunk(start int64) (*chunk, error) {
	if c := b.last.Load(); c != nil && c.offset == start {
		return c, nil
	}
	c := &chunk{start, make([]byte, min(packageSize, b.size-start))}
	if err := b.read(c.bytes, start); err != nil {
		return nil, err
	}
	b.last.Store(c)
	return c, nil
}

// read fills p. Too few bytes, or bytes that fail authentication, are damage.
func (b *openBody) read(p []byte, offset int64) error {
	if len(p) == 0 {
		return nil
	}
	n, err := b.reader.ReadAt(p, offset)
	return damage(n, len(p), err)
}

// damage returns the error for a read that wanted bytes and got n bytes and
// err.
func damage(n, want int, err error) error {
	var forged sio.Error
	switch {
	case n == want && (err == nil || err == io.EOF):
		return nil
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &forged):
		return fmt.Errorf("cachetrip: store: encrypted: %w: %v", store.ErrDamaged, err)
	}
	return err
}

func (b *openBody) Close() error { return b.inner.Close() }

// draft encrypts the bytes that are written, package by package. tail has the
// plain text that is not in the inner draft yet.
type draft struct {
	inner  store.Draft
	salt   []byte
	writer io.WriteCloser
	reader io.ReaderAt
	err    error

	mu     sync.RWMutex
	sealed int64  // the bytes that can be read from inner: whole packages
	tail   []byte // the bytes after them
	closed bool
}

func (d *draft) Write(p []byte) (n int, err error) {
	for n < len(p) && d.err == nil {
		// The writer holds a package back until more bytes follow: the last
		// package of all is marked.
		full := len(d.tail) == packageSize
		piece := p[n:]
		if full {
			piece = piece[:min(len(piece), packageSize)]
		} else {
			piece = piece[:min(len(piece), packageSize-len(d.tail))]
		}
		if _, d.err = d.writer.Write(piece); d.err != nil {
			break
		}
		d.mu.Lock()
		if full {
			d.sealed += packageSize
			d.tail = d.tail[:0]
		}
		d.tail = append(d.tail, piece...)
		d.mu.Unlock()
		n += len(piece)
	}
	return n, d.err
}

func (d *draft) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, errors.New("cachetrip: store: encrypted: negative offset")
	}
	d.mu.RLock()
	if d.closed {
		d.mu.RUnlock()
		return d.inner.ReadAt(p, offset) // which says so
	}
	size := d.sealed + int64(len(d.tail))
	if left := size - offset; int64(len(p)) > left {
		p, err = p[:max(0, left)], io.EOF
	}
	inner := int(min(max(0, d.sealed-offset), int64(len(p))))
	if inner < len(p) {
		copy(p[inner:], d.tail[offset+int64(inner)-d.sealed:])
	}
	d.mu.RUnlock()
	if inner > 0 {
		n, err := d.reader.ReadAt(p[:inner], offset)
		if err := damage(n, inner, err); err != nil {
			return n, err
		}
	}
	return len(p), err
}

func (d *draft) Commit() (store.Blob, error) {
	if d.err != nil {
		return store.Blob{}, d.err
	}
	if d.err = d.writer.Close(); d.err != nil {
		return store.Blob{}, d.err
	}
	d.err = fmt.Errorf("cachetrip: store: encrypted: draft: %w", fs.ErrClosed)
	inner, err := d.inner.Commit()
	if err != nil {
		return store.Blob{}, err
	}
	blob := store.Blob{ID: outerID(inner.ID, d.salt), Size: d.sealed + int64(len(d.tail))}
	if inner.Inline != nil && d.sealed == 0 {
		blob.Inline = append([]byte{}, slices.Clone(d.tail)...)
	}
	return blob, nil
}

func (d *draft) Close() error {
	d.mu.Lock()
	d.closed = true
	d.tail = nil
	d.mu.Unlock()
	if d.err == nil {
		d.err = fmt.Errorf("cachetrip: store: encrypted: draft: %w", fs.ErrClosed)
	}
	return d.inner.Close()
}
