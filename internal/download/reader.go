package download

import (
	"context"
	"hash/maphash"
	"io"
	"net/http"
	"time"

	"github.com/cachetrip/cachetrip/internal/patience"
)

// stallTime is how long a reader that cannot go on alone waits for a source
// that has stalled.
const stallTime = 30 * time.Second

// Reader reads the content of a Download from its beginning, at its own pace.
// Its context ends its own reading only. Several goroutines may use it: each
// byte goes to one of them.
type Reader struct {
	d       *Download
	caller  Caller
	unwatch func() bool // stops watching the context
	atEnd   func()      // called when all content was read; may be nil
	joined  bool        // the download was made for another caller

	// The lock of d protects what follows.
	position int64
	busy     bool          // a goroutine reads
	queued   int           // how many goroutines wait until busy is false
	reading  bool          // a source or the draft is read, without the lock
	err      error         // the final error of all further reads
	left     bool          // Leave has returned
	sum      *maphash.Hash // hash of the returned bytes from sumFrom on; nil if the draft surely has all
	sumFrom  int64
	alone    alone
}

// start makes r ready for use. The lock is held.
func (r *Reader) start(c Caller) {
	r.caller, r.alone.from = c, -1
	if c.Alone != nil && !r.d.config.Draft.AtOnce() {
		r.sum = new(maphash.Hash)
	}
	if ctx := c.Context; ctx.Done() != nil {
		// A caller whose context has ended need neither read nor close.
		r.unwatch = context.AfterFunc(ctx, func() {
			r.d.config.Stragglers.Add() // before the caller knows, who may close the Transport then
			defer r.d.config.Stragglers.Done()
			r.finish(context.Cause(ctx))
		})
	}
}

// AtEnd sets a function that is called when all content was read. It must be
// called before the first Read.
func (r *Reader) AtEnd(f func()) { r.atEnd = f }

// Wrong returns a [*digest.Mismatch] if the content does not have its digest.
// Then it is not stored, even if r got it to its end.
func (r *Reader) Wrong() error {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	return r.d.wrong
}

// patience returns how long r waits for other readers or for the store.
func (r *Reader) patience() time.Duration {
	if r.caller.Context.Err() != nil {
		return 0
	}
	return patience.Of(r.caller.Context, time.Now(), patience.Longest)
}

func (r *Reader) Read(p []byte) (n int, err error) {
	n, err = r.read(p)
	if err != nil && r.finish(err) && err == io.EOF && r.atEnd != nil {
		r.atEnd()
	}
	return n, err
}

// WriteTo copies whole pieces, without a buffer of its own size.
func (r *Reader) WriteTo(w io.Writer) (written int64, err error) {
	piece := takePiece()
	defer pieces.Put(piece)
	for {
		n, err := r.Read(piece[:])
		if n > 0 {
			m, writeErr := w.Write(piece[:n])
			written += int64(m)
			if writeErr == nil && m < n {
				writeErr = io.ErrShortWrite
			}
			if writeErr != nil {
				return written, writeErr
			}
		}
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
	}
}

// read reads like Read, but does not handle the end or an error.
func (r *Reader) read(p []byte) (int, error) {
	d := r.d
	d.mu.Lock()
	defer d.mu.Unlock()
	for r.busy {
		r.queued++
		d.changed.Wait()
		r.queued--
	}
	r.busy = true
	defer func() {
		r.busy = false
		if r.queued > 0 {
			d.changed.Broadcast()
		}
	}()
	n, err := r.next(p)
	if r.sum == nil && d.refused != nil && n > 0 && r.position-int64(n) == d.staged {
		r.sum, r.sumFrom = new(maphash.Hash), d.staged // the draft does not get these bytes
	}
	if r.sum != nil {
		r.sum.Write(p[:n])
	}
	return n, err
}

// next reads the next bytes, and waits for them if needed. The lock is held.
func (r *Reader) next(p []byte) (n int, err error) {
	for done := false; !done; {
		switch {
		case r.err != nil:
			return 0, r.err
		case r.caller.Context.Err() != nil:
			return 0, context.Cause(r.caller.Context)
		case len(p) == 0:
			return 0, nil
		case r.isAlone():
			n, done, err = r.readAlone(p)
		case r.position < r.d.arrived:
			n, done, err = r.readArrived(p)
		case r.d.end != nil || r.d.ending != nil:
			n, done, err = r.readBeyond(p)
		default:
			err = r.await()
			done = err != nil
		}
	}
	return n, err
}

// readArrived reads content that has arrived: from the window, or else from the
// draft or Held. done is false if r must continue alone. The lock is held.
func (r *Reader) readArrived(p []byte) (n int, done bool, err error) {
	d := r.d
	switch begin := d.arrived - int64(len(d.window.bytes)); {
	case r.position >= begin:
		n := copy(p, d.window.bytes[r.position-begin:])
		r.position += int64(n)
		if d.refused != nil {
			d.changed.Broadcast() // readers may have waited for this one
		} else if r.position == d.arrived && len(d.readers) <= 1 {
			d.window.drop() // a reader that joins reads staged content
		}
		return n, true, nil
	case r.position < d.staged:
		n, err = r.readStored(p[:min(int64(len(p)), d.staged-r.position)])
		if err == nil || r.err != nil || r.caller.Alone == nil {
			return n, true, err
		}
		r.goAlone(r.position, err) // the store has lost the content, but the origin may have it
		return 0, false, nil
	}
	return 0, true, errLate
}

// readBeyond reads after the source has ended. It returns held content after
// the source, or the end. done is false if r must wait for that, or must
// continue alone. The lock is held.
func (r *Reader) readBeyond(p []byte) (n int, done bool, err error) {
	d := r.d
	switch {
	case d.wrong != nil && r.joined && r.caller.Alone != nil:
		// Only the reader that asked gets a wrong message as it is. Another one
		// asks whether the origin sends it the same.
		r.alone.whole = true
		r.goAlone(r.position, errShared(d.wrong))
		return 0, false, nil
	case d.wrong != nil && r.joined:
		return 0, true, errShared(d.wrong)
	case (d.end == io.EOF || d.ending == io.EOF) && d.config.Held != nil && r.position < d.length:
		n, err = r.readStored(p)
		return n, true, err
	case d.end != nil && d.end != io.EOF && r.joined && r.caller.Alone != nil:
		r.alone.whole = !d.isBreak(d.end) // a limit below must not be bypassed
		r.goAlone(r.position, d.end)
		return 0, false, nil
	case d.end != nil:
		return 0, true, d.end
	}
	// The content is being stored. A store that hangs must not keep the reader.
	if d.wait(r.patience(), func() bool { return d.end == nil && r.err == nil }) {
		return 0, false, nil
	}
	return 0, true, d.ending
}

// await makes sure that the next piece is fetched, and waits for it. The error
// says that r has waited too long. The lock is held.
func (r *Reader) await() error {
	d := r.d
	if !r.joined {
		if !d.advance(r.caller.Context.Done() == nil, r.patience()) {
			d.changed.Wait()
		}
		return nil
	}
	at := d.arrived
	limit := stallTime
	if r.caller.Alone != nil {
		limit = r.patience()
	}
	came := d.wait(limit, func() bool {
		if d.arrived != at || d.end != nil || d.ending != nil || r.err != nil || r.caller.Context.Err() != nil || r.alone.from >= 0 {
			return false
		}
		d.advance(false, longestWait)
		return true
	})
	switch {
	case came:
	case r.caller.Alone == nil:
		return errStalled
	default:
		r.goAlone(r.position, errStalled)
		if d.config.Lost != nil {
			d.unlocked(d.config.Lost)
		}
	}
	return nil
}

// readStored reads staged or held content. The lock is held, except while it
// reads.
func (r *Reader) readStored(p []byte) (n int, err error) {
	d, position := r.d, r.position
	r.reading = true
	defer r.stopReading()
	d.unlocked(func() {
		n, err = d.readAt(r.caller.Context, p, position)
		if d.config.Held != nil {
			d.config.Check.Take(position, p[:n])
		}
	})
	if s := d.config.Span; d.config.Held != nil && (position < s.Start || position >= s.End) {
		d.config.Served.Add(int64(n))
	}
	if d.config.Held != nil && position >= d.config.Span.End && position+int64(n) == d.length {
		if err := r.checkHeld(); err != nil {
			return 0, err
		}
	}
	r.position += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// checkHeld returns an error if the content is wrong, when r has read the held
// content after the source to its end. Then the content was stored before, and
// is to be dropped. A reader that continues alone cannot tell, if the source
// has not ended. The lock is held.
func (r *Reader) checkHeld() error {
	d := r.d
	if d.config.OfRest || d.end != io.EOF && d.ending != io.EOF {
		return nil
	}
	wrong := d.config.Check.Wrong(d.length)
	if wrong == nil {
		return nil
	}
	d.wait(r.patience(), func() bool { return d.end == nil }) // it is still being stored
	if d.wrong == nil {
		d.wrong, d.end = wrong, errJoined(wrong)
		d.unlocked(func() { d.config.Mismatched(wrong) })
	}
	return errJoined(wrong)
}

func (r *Reader) stopReading() {
	r.reading = false
	if r.err != nil { // finish was called, and waits until this read has ended
		r.d.changed.Broadcast()
	}
}

// finish ends the reading with err, which every further Read returns. It
// reports false if it had already ended.
func (r *Reader) finish(err error) bool {
	d := r.d
	d.mu.Lock()
	if r.err != nil {
		d.mu.Unlock()
		return false
	}
	r.err = err
	delete(d.readers, r)
	d.changed.Broadcast()
	d.lastWait, d.lastContext = r.patience(), r.caller.Context
	if r.alone.stop != nil {
		r.alone.stop()
	}
	reading := func() bool { return r.reading } // the files must stay open until the read ends
	if d.wait(r.patience(), reading) {
		d.mu.Unlock()
		r.leave()
		return true
	}
	d.config.Stragglers.Add()
	d.mu.Unlock()
	go func() {
		defer d.config.Stragglers.Done()
		d.mu.Lock()
		for r.reading {
			d.changed.Wait()
		}
		d.mu.Unlock()
		r.leave()
	}()
	return true
}

// leave releases the resources of r, after its last read.
func (r *Reader) leave() {
	if r.unwatch != nil {
		r.unwatch()
	}
	r.d.mu.Lock()
	source := r.alone.source
	r.d.mu.Unlock()
	if source != nil {
		source.Close()
	}
	r.caller.Leave(r.caller.Context.Err() != nil)
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	r.left = true
	r.d.changed.Broadcast()
}

// Close ends the reading. If the store answers in time, the content is stored
// and files are closed when Close returns.
func (r *Reader) Close() error {
	if !r.finish(http.ErrBodyReadAfterClose) {
		r.d.mu.Lock()
		defer r.d.mu.Unlock()
		r.err = http.ErrBodyReadAfterClose
		r.d.wait(max(r.patience(), closeTime), func() bool { return !r.left })
	}
	return nil
}
