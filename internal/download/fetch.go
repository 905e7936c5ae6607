package download

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/cachetrip/cachetrip/internal/stack"
)

// Fetching the next piece: from the source, through the draft, into the window.

// advance fetches the next piece, or lets another goroutine fetch it. First,
// all readers must have taken the piece that only the window holds. If stays,
// advance fetches the piece itself and returns true. Otherwise the caller must
// wait for a change. late is how long it waits for other readers. The lock is
// held.
func (d *Download) advance(stays bool, late time.Duration) bool {
	if d.fetching || d.writing || d.end != nil || d.awaitsReaders(late) {
		return false
	}
	d.fetching = true
	if stays {
		d.unlocked(d.fetch)
		return true
	}
	go func() {
		stack.Grow()
		d.fetch()
	}()
	return false
}

// fetch fetches one piece. There is one call at a time. For a reader whose
// context may end, it runs in a goroutine of its own, so that the reader need
// not wait for the network.
func (d *Download) fetch() {
	err := errGoexit
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("cachetrip: panic in the body of a response: %v", p)
			d.config.Panicked(p, debug.Stack())
		}
		d.fetched(err)
	}()
	d.fetchPiece()
	err = nil
}

// fetched ends a fetch. The error says that the source or the draft panicked.
func (d *Download) fetched(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.writing && d.end == nil { // the draft panicked
		d.writing, d.refused = false, err
	}
	if err != nil && d.end == nil {
		if !d.finished {
			d.finish(err)
		}
		d.end = cmp.Or(d.end, d.ending, err)
	}
	d.fetching = false
	d.changed.Broadcast()
	if d.interrupted {
		d.config.Stragglers.Done()
	}
}

// fetchPiece reads one piece of the source. It passes the piece on, or ends or
// continues the download.
func (d *Download) fetchPiece() {
	if d.copyHeld {
		d.copyPrefix()
	}
	if start := d.config.Span.Start; d.config.Check.Lacks(start) < start {
		d.hashPrefix()
	}
	b, piece := d.buffer()
	source := d.source // nobody else changes it or d.arrived meanwhile
	n, err := source.Read(b)
	d.config.Received.Add(int64(n))
	d.config.Check.Take(d.arrived, b[:n])

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.end == nil && d.exact && d.limit >= 0 && int64(n) > d.limit-d.arrived {
		n, err = int(d.limit-d.arrived), ErrLength
	}
	if d.end == nil && d.completes(n) {
		// The last piece is held back, because some readers stop at the length.
		if d.wrong = d.config.Check.Wrong(d.limit); d.wrong != nil {
			n, err = 0, d.wrong
		}
	}
	if d.end == nil && n > 0 {
		d.write(b[:n], piece)
	} else if piece != nil {
		pieces.Put(piece)
	}
	if d.end != nil || err == nil {
		return
	}
	var next io.ReadCloser
	if d.wrong == nil {
		next = d.continues(err)
	}
	switch {
	case next == nil && d.end == nil:
		d.stop(err)
	case next == nil:
	case d.end != nil:
		d.unlocked(func() { next.Close() })
	default:
		d.source = next
		d.unlocked(func() { source.Close() })
	}
}

// wrote wakes those that wait until nobody uses the draft. Reading the source,
// which comes next, may take long.
func (d *Download) wrote() {
	d.writing = false
	d.changed.Broadcast()
}

// buffer returns the memory for the next piece: that of the draft, or a new
// piece.
func (d *Download) buffer() (b []byte, piece *piece) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.end == nil && d.refused == nil {
		d.writing = true
		d.limitWait() // the draft may write what it has
		d.unlocked(func() { b = d.config.Draft.AvailableBuffer() })
		d.wrote()
	}
	if b = b[:min(cap(b), pieceSize)]; len(b) > 0 {
		return b, nil
	}
	piece = takePiece()
	return piece[:], piece
}

// copyPrefix copies the content before the span to the draft. Readers get it
// from Held meanwhile, and also if copying fails.
func (d *Download) copyPrefix() {
	buffer := takePiece()
	defer pieces.Put(buffer)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.end != nil {
		return
	}
	prefix := io.NewSectionReader(d.config.Held, 0, d.config.Span.Start)
	d.writing = true
	d.unlocked(func() {
		if _, err := io.CopyBuffer(untilAbandoned{d}, struct{ io.Reader }{prefix}, buffer[:]); err != nil {
			d.refuse(err)
		}
	})
	d.copyHeld = false
	d.wrote()
}

// hashPrefix has Check hash the content before the span, as far as no reader
// has read it. A part that cannot be read counts as wrong in the end.
func (d *Download) hashPrefix() {
	buffer := takePiece()
	defer pieces.Put(buffer)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.end != nil {
		return
	}
	d.writing = true // Held stays open
	d.unlocked(func() {
		c, start := &d.config, d.config.Span.Start
		for at := c.Check.Lacks(start); at < start && !d.abandoned.Load(); at = c.Check.Lacks(start) {
			n, _ := c.Held.ReadAt(buffer[:min(pieceSize, start-at)], at)
			if n == 0 {
				return
			}
			c.Check.Take(at, buffer[:n])
		}
	})
	d.wrote()
}

// completes reports whether n more bytes complete content that is joined from
// parts.
func (d *Download) completes(n int) bool {
	return d.exact && !d.config.OfRest && d.limit >= 0 && d.limit == d.length && d.arrived+int64(n) == d.limit
}

// refuse records that the draft has failed, and is not used any more.
func (d *Download) refuse(err error) {
	d.mu.Lock()
	d.refused = err
	d.mu.Unlock()
	if d.config.Lost != nil {
		d.config.Lost()
	}
}

// untilAbandoned is a writer to the draft. It fails once the download is
// abandoned.
type untilAbandoned struct{ *Download }

func (d untilAbandoned) Write(p []byte) (int, error) {
	if d.abandoned.Load() {
		return 0, ErrAbandoned
	}
	d.mu.Lock()
	d.limitWait()
	d.mu.Unlock()
	return d.config.Draft.Write(p)
}

// write gives bytes to the draft and to the readers. The bytes are in piece, or
// in the draft's buffer if piece is nil. Readers that keep up with the source
// get them from there. The lock is held, except while it writes.
func (d *Download) write(b []byte, piece *piece) {
	if d.refused == nil {
		d.writing = true
		d.limitWait()
		d.unlocked(func() {
			if _, err := d.config.Draft.Write(b); err != nil {
				d.refuse(err)
			}
		})
		d.wrote()
	}
	d.arrived += int64(len(b))
	if d.refused == nil {
		d.staged = d.arrived
	} else if piece == nil {
		piece = takePiece()
		copy(piece[:], b)
	}
	d.window.fill(piece, len(b))
}

// continues returns a source of the rest after the source has failed, or nil.
// The lock is held, except during the request.
func (d *Download) continues(err error) io.ReadCloser {
	ended := err == io.EOF && !d.isShort()
	if err == ErrLength || d.config.Again == nil || ended || !d.config.Broken(err) {
		return nil
	}
	position := d.arrived
	d.changed.Broadcast() // readers can read the content so far
	var next io.ReadCloser
	var end int64
	d.unlocked(func() { next, end = d.config.Again(position) })
	if next == nil {
		return nil
	}
	if d.limit < 0 {
		d.length, d.limit = end, end
	}
	d.exact = true
	return next
}

// isShort reports whether content that ends here would be too short.
func (d *Download) isShort() bool { return d.exact && d.limit >= 0 && d.arrived < d.limit }

// stop ends d because the source has ended. The lock is held, except while it
// stores.
func (d *Download) stop(err error) {
	if err == io.EOF && d.isShort() {
		err = io.ErrUnexpectedEOF
	}
	stored := err
	switch {
	case err == ErrLength:
		err = io.ErrUnexpectedEOF
	case err == io.EOF && d.limit >= 0 && d.arrived != d.limit:
		// Without a cache, the readers would get this, too. But it is not stored.
		stored = ErrLength
	case d.wrong != nil:
		err = errJoined(d.wrong)
	case err == io.EOF:
		if d.wrong = d.config.Check.Wrong(d.arrived); d.wrong == nil {
			break
		}
		if stored = d.wrong; d.exact && !d.config.OfRest {
			err = errJoined(d.wrong)
		} // else the one reader that asked for this message gets it as it is
	}
	d.ending = err
	d.changed.Broadcast() // a reader that has read everything waits for its patience only
	d.finish(stored)
	if d.end == nil { // else it was abandoned meanwhile
		d.end = err
	}
}

// finish stores the content. The lock is held, except while it stores.
func (d *Download) finish(end error) {
	result := Result{Taken: d.staged - d.config.Span.Start, Refused: d.refused, End: end, Broken: end != io.EOF && d.isBreak(end)}
	result.Checked = d.config.Check != nil && !d.config.OfRest && end == io.EOF && (d.config.Held == nil || d.limit == d.length)
	if d.copyHeld {
		result.Refused = cmp.Or(d.refused, ErrAbandoned) // the draft does not even have the prefix
	}
	d.writing, d.finished = true, true
	d.config.Draft.SetWaiting(d.waiting())
	d.config.Draft.LimitWait(-1) // no reader waits for that any longer than its patience
	defer d.wrote()
	d.unlocked(func() { d.config.Finish(result) })
}

// isBreak reports whether content that ended with err is good as far as it
// came: neither has the source objected to it, nor has a transport limited it.
func (d *Download) isBreak(err error) bool {
	return err == ErrAbandoned || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || d.config.Broken(err)
}
