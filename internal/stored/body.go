package stored

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/cachetrip/cachetrip/internal/digest"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/store"
)

// copySize is the size of the pieces in which content is copied. With this
// size, reads and writes of files cost least.
const copySize = 256 << 10

// Body is a stretch of Content as the body of a response.
type Body struct {
	content *Content
	options Options
	closed  atomic.Bool
	keeps   bool // it does not close content at its end
	ended   func()

	turn    sync.Mutex // held by the goroutine that reads; Close does not wait for it
	left    span.Span  // the span that is still to be read
	damaged bool       // the store cannot write the next bytes, but Rest may supply them
	wrong   error      // the content does not have its digest; nil if it has, or if that is unknown

	rest atomic.Pointer[rest] // nil before the call of Rest
}

// rest is what the store has lost.
type rest struct {
	end  context.CancelFunc            // of the context of Rest
	body atomic.Pointer[io.ReadCloser] // the result of Rest; nil until it returns
}

func (r *rest) Close() {
	r.end()
	if body := r.body.Load(); body != nil {
		(*body).Close()
	}
}

// Options are the options of a Body.
type Options struct {
	// Count counts the bytes read.
	Count *atomic.Int64

	// Check has the digests of the content, which the body must read from its
	// beginning. If they do not match, the last piece is not read, and the body
	// ends in an error. Checked is then called, and also if they match. Check is
	// nil if there are none.
	Check   *digest.Check
	Checked func(wrong error)

	// Rest requests a stretch that the store has lost. It is called once, and
	// returns nil if it cannot get it. The context ends with the body, and when
	// the body is closed. Rest may be nil.
	Rest func(context.Context, span.Span) io.ReadCloser
}

// NewBody returns a body with the span s of content. The body closes content.
func NewBody(c *Content, s span.Span, o Options) *Body {
	b := new(Body)
	b.Init(c, s, o)
	return b
}

// Init initialises a zero Body as NewBody does.
func (b *Body) Init(c *Content, s span.Span, o Options) {
	b.content, b.left, b.options = c, s, o
}

// Text returns a body in memory.
func Text(text string) *Body {
	all := span.Of(0, int64(len(text)))
	parts := []store.Part{{Length: all.End, Blob: store.Blob{Size: all.End, Inline: []byte(text)}}}
	return NewBody(&Content{parts: parts}, all, Options{Count: new(atomic.Int64)})
}

// BeforeEnd sets a function that is called before a reader gets io.EOF, and
// before Close returns. It must be set before the body is used.
func (b *Body) BeforeEnd(f func()) { b.ended = f }

func (b *Body) beforeEnd() {
	if b.ended != nil {
		b.ended()
	}
}

func (b *Body) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.next(p)
	if err == io.EOF {
		b.beforeEnd()
	}
	return n, err
}

// next reads like Read, without the function of BeforeEnd.
func (b *Body) next(p []byte) (int, error) {
	b.turn.Lock()
	defer b.turn.Unlock()
	switch {
	case b.left.Start >= b.left.End:
		return 0, io.EOF
	case !b.content.acquire():
		return 0, http.ErrBodyReadAfterClose
	}
	defer b.content.release()
	p = p[:min(int64(len(p)), b.left.Length())]
	n, err := b.readChecked(p)
	b.advance(int64(n))
	return n, err
}

// readChecked reads like read, and hashes the bytes. It does not return the
// last bytes if the content is wrong.
func (b *Body) readChecked(p []byte) (int, error) {
	if b.wrong != nil {
		return 0, b.wrong
	}
	n, err := b.read(p)
	o := &b.options
	if o.Check == nil || n == 0 {
		return n, err
	}
	o.Check.Take(b.left.Start, p[:n])
	if b.left.Start+int64(n) < b.left.End {
		return n, err
	}
	wrong := o.Check.Wrong(b.left.End)
	o.Checked(wrong)
	if wrong == nil {
		return n, err
	}
	b.wrong = fmt.Errorf("cachetrip: the response was stored in parts, and %w; it is dropped, and the next request gets it whole: %w",
		wrong, io.ErrUnexpectedEOF)
	return 0, b.wrong
}

// read reads the next bytes: from the store, or from Rest if the store has lost
// them.
func (b *Body) read(p []byte) (int, error) {
	rest := b.rest.Load()
	if rest == nil {
		n, err := b.content.ReadAt(p, b.left.Start)
		if err == nil || b.options.Rest == nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
		rest = b.askRest()
		switch {
		case rest == nil && b.closed.Load():
			return 0, http.ErrBodyReadAfterClose
		case rest == nil:
			return 0, err
		}
	}
	n, err := (*rest.body.Load()).Read(p)
	if err == io.EOF {
		err = nil
		if n == 0 && len(p) > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

// askRest calls Rest. It returns nil if Rest does not get anything. Close may
// be called meanwhile.
func (b *Body) askRest() *rest {
	ask := b.options.Rest
	b.options.Rest = nil // even if it panics
	ctx, cancel := context.WithCancel(context.Background())
	r := &rest{end: cancel}
	b.rest.Store(r)
	defer func() {
		if r.body.Load() == nil {
			b.rest.Store(nil)
			cancel()
		}
	}()
	if b.closed.Load() {
		cancel()
	}
	body := ask(ctx, b.left)
	if body == nil {
		return nil
	}
	if r.body.Store(&body); b.closed.Load() {
		r.Close()
	}
	return r
}

func (b *Body) closeRest() {
	if r := b.rest.Load(); r != nil {
		r.Close()
	}
}

// advance counts n bytes as read. At the end it closes files, because many
// programs do not close a body that they have read.
func (b *Body) advance(n int64) {
	b.left.Start += n
	b.options.Count.Add(n)
	if b.left.Start < b.left.End {
		return
	}
	b.closeRest()
	if !b.keeps {
		b.content.Close()
	}
}

// WriteTo copies in large pieces. Where the store can, the bytes do not pass
// through memory.
func (b *Body) WriteTo(w io.Writer) (written int64, err error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	var buffer []byte
	for err == nil {
		n, over, writeErr := b.writeNext(w, &buffer)
		if over {
			b.beforeEnd()
			break
		}
		written, err = written+n, writeErr
	}
	return written, err
}

// writeNext writes the next bytes. over reports that there are none. The error
// may be any error of w, even io.EOF.
func (b *Body) writeNext(w io.Writer, buffer *[]byte) (n int64, over bool, err error) {
	b.turn.Lock()
	defer b.turn.Unlock()
	switch {
	case b.left.Start >= b.left.End:
		return 0, true, nil
	case b.closed.Load() || !b.content.acquire():
		return 0, false, http.ErrBodyReadAfterClose
	}
	defer b.content.release()
	n, err = b.writePiece(w, buffer)
	return n, false, err
}

// writePiece writes the next bytes: from memory, from the store, or through
// buffer, which it makes when needed.
func (b *Body) writePiece(w io.Writer, buffer *[]byte) (int64, error) {
	if inline := b.content.inline(b.left.Start); inline != nil && b.options.Check == nil {
		n, err := write(w, inline[:min(int64(len(inline)), b.left.Length())])
		b.advance(n)
		return n, err
	}
	if direct, length, offset := b.content.direct(b.left.Start); direct != nil && !b.damaged && b.options.Check == nil {
		n, err := direct.WriteRangeTo(w, offset, min(length, b.left.Length()))
		b.advance(n)
		if n == 0 && err == nil {
			err = store.ErrDamaged // the stored part is too short
		}
		if errors.Is(err, store.ErrDamaged) { // other errors may be those of w
			b.content.noteDamage(err)
			if b.damaged = b.options.Rest != nil; b.damaged {
				err = nil
			}
		}
		return n, err
	}
	if *buffer == nil {
		*buffer = make([]byte, min(copySize, b.left.Length()))
	}
	piece := (*buffer)[:min(int64(len(*buffer)), b.left.Length())]
	n, err := b.readChecked(piece)
	b.advance(int64(n))
	if n == 0 {
		return 0, err
	}
	written, writeErr := write(w, piece[:n])
	if writeErr != nil {
		err = writeErr
	}
	return written, err
}

// write writes p, and makes a short write an error.
func write(w io.Writer, p []byte) (int64, error) {
	n, err := w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return int64(n), err
}

// Close ends the body. A Read that is under way may still return bytes.
func (b *Body) Close() error {
	b.closed.Store(true)
	b.closeRest()
	err := b.content.Close()
	b.beforeEnd()
	return err
}
