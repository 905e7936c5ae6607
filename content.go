package cachetrip

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/cachetrip/cachetrip/internal/guard"
	"github.com/cachetrip/cachetrip/internal/pending"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/store"
)

// Stored content: the parts of a body, opened for reading.

// copySize is the size of the pieces in which content is copied: what reads from and writes to
// files cost least with.
const copySize = 256 << 10

// content reads the held parts of a stored body. It is safe for concurrent use; Close only with what is
// between use and unuse.
type content struct {
	parts   []store.Part
	bodies  []store.Body // beside parts; nil for what is inline
	damaged func()       // called when what is held does not prove itself

	// What is being stored when this is given to a caller, who is not to be told of its end before, while interested.
	saving *pending.Write
	ctx    context.Context

	mu    sync.Mutex
	users int
	over  bool
}

// openContent opens the parts of e. Damage found now, or a blob that is gone, is an error; damaged
// is called in both cases, and when damage is found later.
func openContent(ctx context.Context, s guard.Store, e *store.Entry, damaged func()) (*content, error) {
	c := &content{parts: e.Parts, damaged: damaged}
	for i, part := range e.Parts {
		if part.Blob.Inline != nil {
			continue
		}
		body, err := s.Open(ctx, e.Key, part.Blob)
		if err != nil {
			c.Close()
			return nil, c.checked(err)
		}
		if c.bodies == nil {
			c.bodies = make([]store.Body, len(e.Parts))
		}
		c.bodies[i] = body
	}
	return c, nil
}

// ReadAt reads what is held at an offset of the whole content, up to the end of the part there.
func (c *content) ReadAt(p []byte, offset int64) (int, error) {
	for i, part := range c.parts {
		from := offset - part.Offset
		if from < 0 || from >= part.Length {
			continue
		}
		p = p[:min(int64(len(p)), part.Length-from)]
		if part.Blob.Inline != nil {
			return copy(p, part.Blob.Inline[part.Skip+from:]), nil
		}
		n, err := c.bodies[i].ReadAt(p, part.Skip+from)
		if err == io.EOF && n == len(p) {
			err = nil
		}
		return n, c.checked(err)
	}
	return 0, c.checked(io.EOF)
}

// settle waits for what is being stored.
func (c *content) settle() { c.saving.Wait(c.ctx) }

// checked has damage reported. An end before that of the parts is damage, too.
func (c *content) checked(err error) error {
	if err == io.EOF {
		err = store.ErrDamaged
	}
	if errors.Is(err, store.ErrDamaged) {
		c.damaged()
	}
	return err
}

// use keeps c open until unuse, and reports false if it is closed.
func (c *content) use() bool {
	if c.bodies == nil {
		return true // there is nothing to close
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.users++
	}
	return !c.over
}

func (c *content) unuse() {
	if c.bodies == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users--; c.over && c.users == 0 {
		c.closeBodies()
	}
}

// Close closes c, once nobody uses it.
func (c *content) Close() error {
	if c.bodies == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over && c.users == 0 {
		c.closeBodies()
	}
	c.over = true
	return nil
}

func (c *content) closeBodies() {
	for _, body := range c.bodies {
		if body != nil {
			body.Close()
		}
	}
}

// served is the body of a response from the store: a stretch of stored content. It may be read and closed by several
// goroutines at once, as net/http allows for bodies: each byte goes to one of them.
type served struct {
	content *content
	count   *atomic.Int64
	last    bool // to read content, which is therefore closed at the end
	closed  atomic.Bool

	turn      sync.Mutex // of who reads; Close does not wait for it
	span.Span            // what is still to be read
	damaged   bool       // the store can't write what comes next, and again may bring it

	// again asks the origin for a stretch that the store can't give any more, and returns nil if that does not
	// help; it is nil if it can't be asked. rest is what it has returned.
	again func(span.Span) io.ReadCloser
	rest  atomic.Pointer[io.ReadCloser]
}

func (s *served) Read(p []byte) (int, error) {
	if s.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := s.next(p)
	if err == io.EOF {
		s.content.settle()
	}
	return n, err
}

// next is Read, but for waiting at the end.
func (s *served) next(p []byte) (int, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	switch {
	case s.Start >= s.End:
		return 0, io.EOF
	case !s.content.use():
		return 0, http.ErrBodyReadAfterClose
	}
	defer s.content.unuse()
	p = p[:min(int64(len(p)), s.Length())]
	n, err := s.read(p)
	s.advance(int64(n))
	return n, err
}

// read reads what comes next, from the store for as long as that can give it.
func (s *served) read(p []byte) (int, error) {
	rest := s.rest.Load()
	if rest == nil {
		n, err := s.content.ReadAt(p, s.Start)
		if err == nil || s.again == nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
		body := s.again(s.Span)
		if body == nil {
			return 0, err
		}
		s.again, rest = nil, &body
		if s.rest.Store(rest); s.closed.Load() {
			body.Close()
		}
	}
	n, err := (*rest).Read(p)
	if err == io.EOF {
		err = nil
		if n == 0 && len(p) > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

func (s *served) closeRest() {
	if rest := s.rest.Load(); rest != nil {
		(*rest).Close()
	}
}

// advance counts what was read. What is read to its end need not be closed as well for its files to be.
func (s *served) advance(n int64) {
	s.Start += n
	s.count.Add(n)
	if s.Start < s.End {
		return
	}
	s.closeRest()
	if s.last {
		s.content.Close()
	}
}

// WriteTo copies in large pieces, or, where the store can, without passing through memory.
func (s *served) WriteTo(w io.Writer) (written int64, err error) {
	if s.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	var piece []byte
	for err == nil {
		var n int64
		var over bool
		if n, over, err = s.writeNext(w, &piece); over {
			s.content.settle()
			break
		}
		written += n
	}
	return written, err
}

// writeNext writes what comes next, or reports that nothing does.
func (s *served) writeNext(w io.Writer, room *[]byte) (n int64, over bool, err error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	switch {
	case s.Start >= s.End:
		return 0, true, nil
	case s.closed.Load() || !s.content.use():
		return 0, false, http.ErrBodyReadAfterClose
	}
	defer s.content.unuse()
	n, err = s.writePiece(w, room)
	return n, false, err
}

// writePiece writes what comes next from memory, from the store or, through room, which is made when it is needed,
// from wherever it can be had.
func (s *served) writePiece(w io.Writer, room *[]byte) (int64, error) {
	if inline := s.content.inline(s.Start); inline != nil {
		inline = inline[:min(int64(len(inline)), s.Length())]
		n, err := w.Write(inline)
		s.advance(int64(n))
		if err == nil && n < len(inline) {
			err = io.ErrShortWrite
		}
		return int64(n), err
	}
	if direct, length, offset := s.content.direct(s.Start); direct != nil && !s.damaged {
		n, err := direct.WriteRangeTo(w, offset, min(length, s.Length()))
		s.advance(n)
		if errors.Is(err, store.ErrDamaged) { // else it may be an error of w, even io.EOF
			s.content.damaged()
			if s.damaged = s.again != nil; s.damaged {
				err = nil
			}
		}
		return n, err
	}
	if *room == nil {
		*room = make([]byte, min(copySize, s.Length()))
	}
	piece := (*room)[:min(int64(len(*room)), s.Length())]
	n, err := s.read(piece)
	s.advance(int64(n))
	if n == 0 {
		return 0, err
	}
	written, writeErr := w.Write(piece[:n])
	if writeErr == nil && written < n {
		writeErr = io.ErrShortWrite
	}
	if writeErr != nil {
		err = writeErr
	}
	return int64(written), err
}

// rangeWriter is what a store's Body may be besides: a source that copies itself, verified, as the
// platform does best.
type rangeWriter interface {
	WriteRangeTo(w io.Writer, offset, length int64) (int64, error)
}

// inline returns what is kept in memory of the content from offset on, nil if that is elsewhere.
func (c *content) inline(offset int64) []byte {
	for _, part := range c.parts {
		if skip := offset - part.Offset; skip >= 0 && skip < part.Length && part.Blob.Inline != nil {
			return part.Blob.Inline[part.Skip+skip : part.Skip+part.Length]
		}
	}
	return nil
}

// direct returns the rangeWriter that holds the content at offset, how much it holds from there,
// and at which offset of its own.
func (c *content) direct(offset int64) (w rangeWriter, length, from int64) {
	for i, part := range c.parts {
		if skip := offset - part.Offset; skip >= 0 && skip < part.Length && part.Blob.Inline == nil {
			if w, ok := c.bodies[i].(rangeWriter); ok {
				return w, part.Length - skip, part.Skip + skip
			}
		}
	}
	return nil, 0, 0
}

func (s *served) Close() error {
	s.closed.Store(true)
	s.closeRest()
	err := s.content.Close()
	s.content.settle()
	return err
}
