// Package stored reads the stored parts of bodies, and serves them as the
// bodies of responses: whole, as one range, or as several ranges. It promises:
//
//   - A body may be read and closed by several goroutines at once. Each byte goes to
//     one of them.
//   - Files are open for no longer than a body is read. The end of a body closes
//     them, as Close does.
//   - A short part is damage, and never the end of a body.
//   - Memory does not grow with the size of a body.
package stored

import (
	"errors"
	"io"
	"sync"

	"github.com/cachetrip/cachetrip/store"
)

// Content is the stored parts of one body, opened for reading. It is safe for
// concurrent use.
type Content struct {
	parts   []store.Part
	bodies  []store.Body // one for each part; nil for a part in memory; empty if all parts are
	damaged func()

	mu     sync.Mutex
	users  int // calls that read bodies
	closed bool
}

// Open opens the blobs of parts with open. Parts in memory need no call.
// damaged is called if a part turns out, now or later, to be damaged or
// missing. Open returns the error of a part that cannot be opened. It must be
// the first call of c.
func (c *Content) Open(parts []store.Part, open func(store.Blob) (store.Body, error), damaged func()) error {
	c.parts, c.damaged = parts, damaged
	for i, part := range parts {
		if part.Blob.Inline != nil {
			continue
		}
		body, err := open(part.Blob)
		if err != nil {
			c.Close()
			return c.noteDamage(err)
		}
		if c.bodies == nil {
			c.bodies = make([]store.Body, len(parts))
		}
		c.bodies[i] = body
	}
	return nil
}

// Parts returns the parts of c.
func (c *Content) Parts() []store.Part { return c.parts }

// InMemory reports whether all of c is in memory, so that reading it cannot
// fail.
func (c *Content) InMemory() bool { return c.bodies == nil }

// ReadAt reads at an offset of the whole body, up to the end of the part there.
// Unlike in an io.ReaderAt, a short read may have a nil error.
func (c *Content) ReadAt(p []byte, offset int64) (int, error) {
	i, skip := c.find(offset)
	if i < 0 {
		return 0, c.noteDamage(io.EOF)
	}
	part := c.parts[i]
	p = p[:min(int64(len(p)), part.Length-skip)]
	if part.Blob.Inline != nil {
		return copy(p, part.Blob.Inline[part.Skip+skip:]), nil
	}
	n, err := c.bodies[i].ReadAt(p, part.Skip+skip)
	if err == io.EOF && n == len(p) {
		err = nil
	}
	return n, c.noteDamage(err)
}

// find returns the index of the part with an offset, and the position within
// the part. The index is -1 if there is no such part.
func (c *Content) find(offset int64) (i int, skip int64) {
	for i := range c.parts {
		if skip := offset - c.parts[i].Offset; skip >= 0 && skip < c.parts[i].Length {
			return i, skip
		}
	}
	return -1, 0
}

// inline returns the bytes from an offset on if they are in memory, or nil.
func (c *Content) inline(offset int64) []byte {
	i, skip := c.find(offset)
	if i < 0 || c.parts[i].Blob.Inline == nil {
		return nil
	}
	part := c.parts[i]
	return part.Blob.Inline[part.Skip+skip : part.Skip+part.Length]
}

// rangeWriter is an optional interface of a store's Body. It copies verified
// bytes in the fastest way of the platform.
type rangeWriter interface {
	WriteRangeTo(w io.Writer, offset, length int64) (int64, error)
}

// direct returns the rangeWriter with the bytes from an offset on, or nil. The
// bytes are at from in it, and there are length of them.
func (c *Content) direct(offset int64) (w rangeWriter, length, from int64) {
	i, skip := c.find(offset)
	if i < 0 || c.parts[i].Blob.Inline != nil {
		return nil, 0, 0
	}
	w, _ = c.bodies[i].(rangeWriter)
	return w, c.parts[i].Length - skip, c.parts[i].Skip + skip
}

// noteDamage reports damage. An unexpected end counts as damage, too.
func (c *Content) noteDamage(err error) error {
	if err == io.EOF {
		err = store.ErrDamaged
	}
	if errors.Is(err, store.ErrDamaged) && c.damaged != nil {
		c.damaged()
	}
	return err
}

// acquire keeps c open until release. It returns false if c is closed.
func (c *Content) acquire() bool {
	if c.bodies == nil {
		return true // there is nothing to close
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.users++
	}
	return !c.closed
}

func (c *Content) release() {
	if c.bodies == nil {
		return
	}
	c.mu.Lock()
	c.users--
	last := c.closed && c.users == 0
	c.mu.Unlock()
	if last {
		c.closeBodies()
	}
}

// Close closes c, once no body reads it. It must not be called while ReadAt is.
func (c *Content) Close() error {
	if c.bodies == nil {
		return nil
	}
	c.mu.Lock()
	last := !c.closed && c.users == 0
	c.closed = true
	c.mu.Unlock()
	if last {
		c.closeBodies()
	}
	return nil
}

// closeBodies calls the store, and so must not hold the lock.
func (c *Content) closeBodies() {
	for _, body := range c.bodies {
		if body != nil {
			body.Close()
		}
	}
}
