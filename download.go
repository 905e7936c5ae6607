package cachetrip

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// The content of a response on its way from the origin, through a draft of the store, to its
// readers. Whoever needs the next byte makes the network deliver it; so there is never more than
// one piece in memory, and the slowness of all readers together reaches the origin.

// pieceSize is how much is asked of the network at once: large enough that handing a piece over
// costs little beside its transfer, small enough to hold one for each of many downloads.
const pieceSize = 128 << 10

var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// errAbandoned is why a download ended that nobody read any more.
var errAbandoned = errors.New("cachetrip: download abandoned by all readers")

// download is safe for concurrent use. Positions count from the beginning of its content.
type download struct {
	source   io.ReadCloser
	cancel   context.CancelCauseFunc // ends the origin's request
	received *atomic.Int64
	length   int64 // of the content, -1 if unknown

	// What was stored before, if the origin sends but the rest: the first base bytes.
	before *content
	base   int64

	// finish stores what the draft has taken, or nothing, and returns when that is done. end is
	// io.EOF if the content is complete. It is called once, without the lock.
	finish func(draft store.Draft, taken int64, end error)

	mu      sync.Mutex
	changed sync.Cond
	draft   store.Draft
	staged  int64 // up to here content can be read from before and draft
	pending int64 // up to here content has come: beyond staged it is in window
	window  []byte
	kept    bool  // the draft has taken everything so far
	refused error // why it has not
	fetches bool  // a step is under way
	writes  bool  // the draft is being written, or finished
	end     error
	readers map[*reader]struct{}
}

func newDownload(source io.ReadCloser, cancel context.CancelCauseFunc, draft store.Draft) *download {
	d := &download{source: source, cancel: cancel, draft: draft, kept: true, readers: make(map[*reader]struct{})}
	d.changed.L = &d.mu
	return d
}

// after makes d continue what c holds, which is released together with d.
func (d *download) after(c *content) {
	d.before, d.base = c, c.length()
	d.staged, d.pending = d.base, d.base
}

// step fetches one piece. It runs in a goroutine of its own, so that a reader whose context ends
// need not wait for the network; there is one at a time, while a reader waits for it.
func (d *download) step() {
	piece := pieces.Get().(*[pieceSize]byte)
	defer pieces.Put(piece)
	n, err := d.source.Read(piece[:])
	d.received.Add(int64(n))

	d.mu.Lock()
	d.fetches = false
	abandoned := d.end != nil
	if !abandoned && n > 0 {
		d.write(piece[:n])
	}
	if !abandoned && err != nil {
		if err == io.EOF && d.length >= 0 && d.pending != d.length {
			err = io.ErrUnexpectedEOF
		}
		d.finishWith(err)
		d.end = err
	}
	d.changed.Broadcast()
	d.mu.Unlock()
	if abandoned {
		d.source.Close()
	}
}

// write hands a piece to the draft, or, once that takes no more, to the readers alone. It is called
// with the lock held, and gives it up while it writes.
func (d *download) write(piece []byte) {
	if d.kept {
		d.writes = true
		d.mu.Unlock()
		_, err := d.draft.Write(piece)
		d.mu.Lock()
		d.writes = false
		d.kept, d.refused = err == nil, err
	}
	d.pending += int64(len(piece))
	if d.kept {
		d.staged = d.pending
		return
	}
	d.window = append(d.window[:0], piece...)
}

// finishWith has the content stored, with the lock held but for the while of storing.
func (d *download) finishWith(end error) {
	draft, taken := d.draft, d.staged-d.base
	if !d.kept {
		draft = nil
	}
	d.writes = true
	d.mu.Unlock()
	d.finish(draft, taken, end)
	d.mu.Lock()
	d.writes = false
}

// advance makes the next piece come, if it may: not before all readers have taken what only the
// window holds.
func (d *download) advance() {
	if d.fetches || d.writes || d.end != nil {
		return
	}
	if len(d.window) > 0 {
		for r := range d.readers {
			if r.position < d.pending {
				return
			}
		}
		d.window = d.window[:0]
	}
	d.fetches = true
	go d.step()
}

// joinable reports whether a reader can still have all of the content.
func (d *download) joinable() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.kept && (d.end == nil || d.end == io.EOF)
}

// reader returns a new reader of all content. leave is called once, when it needs d no more.
func (d *download) reader(ctx context.Context, leave func()) *reader {
	r := &reader{d: d, ctx: ctx, leave: leave}
	d.mu.Lock()
	d.readers[r] = struct{}{}
	d.mu.Unlock()
	if ctx.Done() != nil {
		r.unwatch = context.AfterFunc(ctx, func() {
			d.mu.Lock()
			d.changed.Broadcast()
			d.mu.Unlock()
		})
	}
	return r
}

// close ends d when the last reader has left. A remainder of at most budget bytes that comes within
// patience is still taken, so that whoever stops reading a little before the end, as a json.Decoder
// does, leaves a complete response; then the transfer is cut.
func (d *download) close(budget int64, patience time.Duration) {
	d.mu.Lock()
	if d.end == nil && d.kept && patience > 0 && (d.length < 0 || d.length-d.pending <= budget) {
		limit := d.pending + budget
		late := false
		timer := time.AfterFunc(patience, func() {
			d.mu.Lock()
			late = true
			d.changed.Broadcast()
			d.mu.Unlock()
		})
		for d.end == nil && d.kept && d.pending <= limit && !late {
			d.advance()
			d.changed.Wait()
		}
		timer.Stop()
	}
	for d.writes {
		d.changed.Wait()
	}
	if d.end == nil {
		d.end = errAbandoned
		d.finishWith(errAbandoned)
	}
	fetches := d.fetches
	d.mu.Unlock()
	d.cancel(errAbandoned)
	if !fetches { // else the step that cancel ends does it
		d.source.Close()
	}
	d.draft.Close()
	if d.before != nil {
		d.before.Close()
	}
}

// reader reads the content of a download from its beginning, at its own pace. Its context ends its
// own reading only.
type reader struct {
	d        *download
	ctx      context.Context
	position int64
	leave    func()
	unwatch  func() bool
	closed   bool
	left     bool
	atEnd    func() // called when all content was read, if not nil
}

func (r *reader) Read(p []byte) (n int, err error) {
	n, err = r.read(p)
	if err == io.EOF && r.atEnd != nil {
		r.atEnd()
	}
	if err != nil {
		r.release()
	}
	return n, err
}

func (r *reader) read(p []byte) (int, error) {
	d := r.d
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		switch {
		case r.closed:
			return 0, http.ErrBodyReadAfterClose
		case r.left:
			return 0, d.end
		case r.ctx.Err() != nil:
			return 0, context.Cause(r.ctx)
		case len(p) == 0:
			return 0, nil
		case r.position < d.staged:
			p = p[:min(int64(len(p)), d.staged-r.position)]
			d.mu.Unlock()
			n, err := d.readAt(p, r.position)
			d.mu.Lock()
			r.position += int64(n)
			if n > 0 {
				err = nil
			}
			return n, err
		case r.position < d.pending:
			n := copy(p, d.window[int64(len(d.window))-(d.pending-r.position):])
			r.position += int64(n)
			d.changed.Broadcast() // others may have waited for this reader
			return n, nil
		case d.end != nil:
			return 0, d.end
		}
		d.advance()
		d.changed.Wait()
	}
}

// readAt reads staged content.
func (d *download) readAt(p []byte, position int64) (int, error) {
	if position < d.base {
		p = p[:min(int64(len(p)), d.base-position)]
		return d.before.ReadAt(p, position)
	}
	return d.draft.ReadAt(p, position-d.base)
}

// release tells that r needs the download no more; it may be called again.
func (r *reader) release() {
	r.d.mu.Lock()
	left := r.left
	r.left = true
	delete(r.d.readers, r)
	r.d.changed.Broadcast()
	r.d.mu.Unlock()
	if left {
		return
	}
	if r.unwatch != nil {
		r.unwatch()
	}
	r.leave()
}

func (r *reader) Close() error {
	r.release()
	r.d.mu.Lock()
	r.closed = true
	r.d.mu.Unlock()
	return nil
}
