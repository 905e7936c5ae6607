package cachetrip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
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

var (
	// errAbandoned is why a download ended that nobody read any more.
	errAbandoned = errors.New("cachetrip: download abandoned by all readers")

	// errLength is why content is not stored of which less or more came than was announced.
	errLength = errors.New("cachetrip: not the announced length")

	// errLate is what readers get who have fallen behind and can't have the rest for themselves.
	errLate = fmt.Errorf("cachetrip: the store took no more, and others did not wait for this reader: %w", io.ErrUnexpectedEOF)
)

// lateTime is for how long readers wait for one who does not read, once the store takes no more: longer
// than programs pause in what they are reading, and much less than they wait for it.
const lateTime = 3 * time.Second

// download is safe for concurrent use. Positions count from the beginning of the whole content,
// whose stretch from base on, up to limit, comes from the origin. What lies before and after that
// is held already, if there is any.
type download struct {
	received *atomic.Int64
	held     *content // nil if base is 0 and limit the end
	base     int64
	endless  bool // nothing is gained by waiting for the end
	exact    bool // the cache itself vouches for the length, so that less or more is an error

	// again asks the origin for what follows a position, after the source has failed there with err;
	// it returns nil if the readers have to live with that, and else also the length of the whole
	// content. It is nil if it can't be asked.
	again func(position int64, err error) (source io.ReadCloser, length int64)

	// apart returns the like of again for a reader who has fallen behind, to be used within a context.
	// It is nil if there is none.
	apart func(context.Context) func(position int64, err error) (source io.ReadCloser, length int64)

	// lost is called when the draft has failed, so that the content will not be stored.
	lost func()

	// panicked is told what Base panicked with where nobody who called it is there to be told.
	panicked func(p any, stack []byte)

	// finish stores what the draft has taken, or nothing, and returns when that is done. end is
	// io.EOF if that is everything up to limit. It is called once, without the lock.
	finish func(draft store.Draft, taken int64, end error)

	mu       sync.Mutex
	changed  sync.Cond
	source   io.ReadCloser
	length   int64 // of the whole content, -1 if unknown
	limit    int64 // -1 if unknown
	draft    store.Draft
	staged   int64 // up to here content can be read from held and draft
	pending  int64 // up to here content has come: beyond staged it is in window
	window   []byte
	overdue  *time.Timer // runs while readers wait for others to take what is in window
	gather   bool        // the draft is still to be begun with what is held before base
	skip     int64       // where base is in the draft
	ends     atomic.Bool // nobody is left
	kept     bool        // the draft has taken everything so far
	refused  error       // why it has not
	fetches  bool        // a step is under way
	writes   bool        // the draft is being written, or finished
	finished bool        // finish was called
	end      error
	readers  map[*reader]struct{}
	first    *reader // of who had it made, until they take it or leave
}

// newDownload returns a download of content of the given length, -1 if that is unknown.
func newDownload(source io.ReadCloser, draft store.Draft, length int64) *download {
	d := &download{source: source, draft: draft, length: length, limit: length, kept: true}
	d.changed.L = &d.mu
	d.first = &reader{d: d}
	d.readers = map[*reader]struct{}{d.first: {}}
	return d
}

// between makes d bring but a stretch of the content, what is around it being held; the limit is
// the end if nothing is behind it. length is that of all. d takes c over.
func (d *download) between(c *content, s span, length int64) {
	d.held, d.base, d.limit, d.length, d.exact = c, s.start, s.end, length, true
	d.staged, d.pending = d.base, d.base
}

// gathers makes the draft of d begin with what is held before the stretch that d brings, once that is
// asked for, so that both become one piece.
func (d *download) gathers() { d.gather, d.skip = true, d.base }

// step fetches one piece. It runs in a goroutine of its own for a reader whose context may end, who
// need not wait for the network then; there is one at a time, while a reader waits for it. Base's body may
// panic there, or end the goroutine, where nobody but readers can be told.
func (d *download) step() {
	err := errGone
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("cachetrip: panic in the body of a response of Base: %v", p)
			d.panicked(p, debug.Stack())
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.writes && d.end == nil { // it was the store that did so
			d.writes, d.kept, d.refused = false, false, err
		}
		if err != nil && d.end == nil {
			if !d.finished {
				d.finishWith(err)
			}
			d.end = cmp.Or(d.end, err)
		}
		d.fetches = false
		d.changed.Broadcast()
	}()
	d.bring()
	err = nil
}

// bring takes one piece from the source, and what follows from it.
func (d *download) bring() {
	piece := pieces.Get().(*[pieceSize]byte)
	defer pieces.Put(piece)
	if d.gather {
		d.copyHeld()
	}
	source := d.source // which nobody else changes meanwhile
	n, err := source.Read(piece[:])
	d.received.Add(int64(n))

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.end == nil && d.exact && d.limit >= 0 && int64(n) > d.limit-d.pending {
		n, err = int(d.limit-d.pending), errLength
	}
	if d.end == nil && n > 0 {
		d.write(piece[:n])
	}
	if d.end != nil || err == nil {
		return
	}
	next := d.goOn(err)
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

// copyHeld begins the draft with what is held. Readers have that meanwhile, and if it fails.
func (d *download) copyHeld() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.end != nil {
		return
	}
	d.writes = true
	var err error
	d.unlocked(func() {
		if err = d.held.copyTo(unlessLeft{d}, d.base); err != nil && d.lost != nil {
			d.lost()
		}
	})
	d.writes, d.gather = false, false
	d.kept, d.refused = err == nil, err
}

// unlessLeft writes to the draft of a download until that is to end.
type unlessLeft struct{ *download }

func (d unlessLeft) Write(p []byte) (int, error) {
	if d.ends.Load() {
		return 0, errAbandoned
	}
	return d.draft.Write(p)
}

// goOn returns a source of what comes next, after one has failed, if there is one. It is called
// with the lock held, and gives it up while it asks.
func (d *download) goOn(err error) io.ReadCloser {
	if err == errLength || d.again == nil || err == io.EOF && !d.short() {
		return nil
	}
	position := d.pending
	d.changed.Broadcast() // what has come can be read meanwhile
	var next io.ReadCloser
	var length int64
	d.unlocked(func() { next, length = d.again(position, err) })
	if next != nil && d.limit < 0 {
		d.length, d.limit = length, length
	}
	d.exact = d.exact || next != nil
	return next
}

// short reports whether an end here is none that readers may be given.
func (d *download) short() bool { return d.exact && d.limit >= 0 && d.pending < d.limit }

// stop ends d as the source has ended. It is called with the lock held, and gives it up while the
// content is being stored.
func (d *download) stop(err error) {
	if err == io.EOF && d.short() {
		err = io.ErrUnexpectedEOF
	}
	stored := err
	switch {
	case err == errLength:
		err = io.ErrUnexpectedEOF
	case err == io.EOF && d.limit >= 0 && d.pending != d.limit:
		// So they would have read it without a cache; but what can't be right is not kept.
		stored = errLength
	}
	d.finishWith(stored)
	if d.end != nil {
		return // abandoned meanwhile
	}
	if d.end = err; err == io.EOF && d.limit < d.length {
		d.staged, d.pending = d.length, d.length
	}
}

// write hands a piece to the draft, or, once that takes no more, to the readers alone. It is called
// with the lock held, and gives it up while it writes.
func (d *download) write(piece []byte) {
	if d.kept {
		d.writes = true
		var err error
		d.unlocked(func() {
			if _, err = d.draft.Write(piece); err != nil && d.lost != nil {
				d.lost()
			}
		})
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
	if d.gather {
		draft, d.refused = nil, errAbandoned // before it began
	}
	if !d.kept {
		draft = nil
	}
	d.writes, d.finished = true, true
	d.unlocked(func() { d.finish(draft, taken, end) })
	d.writes = false
}

// advance makes the next piece come, if it may: not before all readers have taken what only the
// window holds, for a while. For one who stays until it has come, it then has come; others are to wait, and so
// is who is told that it has not.
func (d *download) advance(stays bool) (came bool) {
	if d.fetches || d.writes || d.end != nil {
		return false
	}
	if len(d.window) > 0 {
		for r := range d.readers {
			if r.position < d.pending {
				if d.overdue == nil {
					at := d.pending
					d.overdue = time.AfterFunc(lateTime, func() { d.leaveBehind(at) })
				}
				return false
			}
		}
		d.emptied()
		d.window = d.window[:0]
	}
	d.fetches = true
	if stays {
		d.unlocked(d.step)
		return true
	}
	go func() {
		stretch()
		d.step()
	}()
	return false
}

// emptied tells that nobody waits for others any more.
func (d *download) emptied() {
	if d.overdue != nil {
		d.overdue.Stop()
		d.overdue = nil
	}
}

// leaveBehind lets those go on who have waited at a position for others; these are on their own.
func (d *download) leaveBehind(at int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending != at {
		return
	}
	d.overdue = nil
	waits := func(r *reader) bool { return r.position == at }
	if !slices.ContainsFunc(slices.Collect(maps.Keys(d.readers)), waits) {
		return // who waited has left
	}
	for r := range d.readers {
		if !waits(r) {
			r.late, r.from = true, max(r.position, d.staged)
			delete(d.readers, r)
		}
	}
	d.changed.Broadcast()
}

// join returns another reader of all content, or nil if it can't have that any more. leave is called
// once, when it needs d no more.
func (d *download) join(ctx context.Context, leave func(stopped bool)) *reader {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.kept || d.end != nil && d.end != io.EOF {
		return nil
	}
	r := &reader{d: d}
	d.readers[r] = struct{}{}
	r.start(ctx, leave)
	return r
}

// take returns the reader for who had d made. Up to then nothing is lost, even if the draft fails.
func (d *download) take(ctx context.Context, leave func(stopped bool)) *reader {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.first
	d.first = nil
	r.start(ctx, leave)
	return r
}

// decline tells that take will not be called.
func (d *download) decline() {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.readers, d.first)
	d.first = nil
	d.changed.Broadcast()
}

// idleShare is the share of the patience for a remainder that is waited for the next piece of it, where
// nobody knows whether anything is left: of most such bodies only the end is, which comes at once or is
// that of a stream that waits for an event.
const idleShare = 4

// drain takes a remainder of at most budget bytes that comes within patience, so that whoever stops
// reading a little before the end, as a json.Decoder does, leaves a complete response.
func (d *download) drain(budget int64, patience time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.end != nil || !d.kept || d.endless || patience <= 0 || d.limit >= 0 && d.limit-d.pending > budget {
		return
	}
	limit := d.pending + budget
	late := false
	giveUp := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		late = true
		d.changed.Broadcast()
	}
	timer := time.AfterFunc(patience, giveUp)
	defer timer.Stop()
	var idle *time.Timer
	if d.limit < 0 {
		idle = time.AfterFunc(patience/idleShare, giveUp)
		defer idle.Stop()
	}
	for d.end == nil && d.kept && d.pending <= limit && !late {
		before := d.pending
		d.advance(false)
		d.changed.Wait()
		if idle != nil && d.pending > before {
			idle.Reset(patience / idleShare)
		}
	}
}

// close ends d when the last reader has left, and by cancel the request to the origin.
func (d *download) close(cancel func()) {
	d.ends.Store(true)
	d.mu.Lock()
	for d.writes {
		d.changed.Wait()
	}
	if d.end == nil {
		d.end = errAbandoned
		if !d.finished {
			d.finishWith(errAbandoned)
		}
	}
	fetches, source := d.fetches, d.source
	d.emptied()
	d.mu.Unlock()
	cancel()
	if fetches {
		go d.interrupt(source)
	} else {
		source.Close()
	}
	d.draft.Close()
	if d.held != nil {
		d.held.Close()
	}
}

// interrupt closes a source that is being read: bodies of net/http let that be done, and others may take
// no notice of the end of their request, or wait for their reader.
func (d *download) interrupt(source io.Closer) {
	defer func() {
		if p := recover(); p != nil {
			d.panicked(p, debug.Stack())
		}
	}()
	source.Close()
}

// reader reads the content of a download from its beginning, at its own pace. Its context ends its
// own reading only.
type reader struct {
	d        *download
	ctx      context.Context
	position int64 // d.mu guards it, and what follows
	reads    bool  // what is staged, without the lock
	late     bool  // others do not wait for what this reader takes; from a position on it reads apart
	from     int64
	source   io.ReadCloser // of its own, that brings up to a position, if it reads apart
	until    int64
	again    func(position int64, err error) (io.ReadCloser, int64)
	stop     context.CancelFunc // ends what again is used within
	err      error              // that ended the reading, for good
	left     bool               // leave has returned
	leave    func(stopped bool)
	unwatch  func() bool
	atEnd    func() // called when all content was read, if not nil
}

// start makes r ready for use; the lock is held.
func (r *reader) start(ctx context.Context, leave func(stopped bool)) {
	r.ctx, r.leave = ctx, leave
	if ctx.Done() != nil {
		// Whoever has a context that ended need neither read nor close, and may be busy elsewhere.
		r.unwatch = context.AfterFunc(ctx, func() { r.end(context.Cause(ctx)) })
	}
}

func (r *reader) Read(p []byte) (n int, err error) {
	n, err = r.read(p)
	if err != nil && r.end(err) && err == io.EOF && r.atEnd != nil {
		r.atEnd()
	}
	return n, err
}

// WriteTo copies in pieces that are as large as those that come.
func (r *reader) WriteTo(w io.Writer) (written int64, err error) {
	piece := pieces.Get().(*[pieceSize]byte)
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

func (r *reader) read(p []byte) (int, error) {
	d := r.d
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		switch {
		case r.err != nil:
			return 0, r.err
		case r.ctx.Err() != nil:
			return 0, context.Cause(r.ctx)
		case len(p) == 0:
			return 0, nil
		case r.late && r.position >= r.from:
			return r.readApart(p)
		case r.position < d.staged:
			return r.readStaged(p[:min(int64(len(p)), d.staged-r.position)])
		case r.position < d.pending:
			n := copy(p, d.window[int64(len(d.window))-(d.pending-r.position):])
			r.position += int64(n)
			d.changed.Broadcast() // others may have waited for this reader
			return n, nil
		case d.end != nil:
			return 0, d.end
		}
		if !d.advance(r.ctx.Done() == nil) {
			d.changed.Wait()
		}
	}
}

// readStaged reads what is staged or held. It is called with the lock held, and gives it up meanwhile.
func (r *reader) readStaged(p []byte) (n int, err error) {
	position := r.position
	r.reads = true
	defer func() {
		r.reads = false
		if r.err != nil { // somebody waits to leave
			r.d.changed.Broadcast()
		}
	}()
	r.d.unlocked(func() { n, err = r.d.readAt(p, position) })
	r.position += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// readApart reads what others have had, and nobody keeps any more. It is called with the lock held, and
// gives it up meanwhile.
func (r *reader) readApart(p []byte) (n int, err error) {
	d := r.d
	if d.apart == nil {
		return 0, errLate
	}
	if r.again == nil {
		var ctx context.Context
		ctx, r.stop = context.WithCancel(r.ctx)
		r.again, r.until = d.apart(ctx), d.limit
	}
	for r.until < 0 || r.position < r.until {
		position, source := r.position, r.source
		if source == nil {
			var length int64
			d.unlocked(func() { source, length = r.again(position, errLate) })
			if source == nil {
				return 0, cmp.Or(r.err, errLate)
			}
			if r.err != nil {
				d.unlocked(func() { source.Close() })
				return 0, r.err
			}
			r.source = source
			if r.until < 0 {
				r.until = length
			}
		}
		p = p[:min(int64(len(p)), r.until-position)]
		d.unlocked(func() { n, err = source.Read(p) })
		d.received.Add(int64(n))
		r.position += int64(n)
		if n > 0 || err == nil {
			return n, nil
		}
		if r.err != nil {
			return 0, r.err
		}
		r.source = nil
		d.unlocked(func() { source.Close() })
	}
	if r.position < d.length {
		return r.readStaged(p)
	}
	return 0, io.EOF
}

// unlocked calls f without the lock, which is held before and after, even if f panics.
func (d *download) unlocked(f func()) {
	d.mu.Unlock()
	defer d.mu.Lock()
	f()
}

// readAt reads what is staged or held.
func (d *download) readAt(p []byte, position int64) (n int, err error) {
	switch {
	case position < d.base:
		return d.held.ReadAt(p[:min(int64(len(p)), d.base-position)], position)
	case d.held != nil && d.limit >= 0 && position >= d.limit:
		return d.held.ReadAt(p, position)
	case d.held != nil && d.limit >= 0:
		p = p[:min(int64(len(p)), d.limit-position)]
	}
	n, err = d.draft.ReadAt(p, position-d.base+d.skip)
	if n == 0 && err == io.EOF {
		err = io.ErrUnexpectedEOF // of what was written
	}
	return n, err
}

// end ends the reading with err, which every Read from now on returns, and reports whether it had
// not ended before.
func (r *reader) end(err error) bool {
	r.d.mu.Lock()
	if r.err != nil {
		r.d.mu.Unlock()
		return false
	}
	r.err = err
	delete(r.d.readers, r)
	r.d.changed.Broadcast()
	for r.reads { // from files, which the last to leave closes
		r.d.changed.Wait()
	}
	stop, source := r.stop, r.source
	r.d.mu.Unlock()
	if r.unwatch != nil {
		r.unwatch()
	}
	if stop != nil {
		stop()
	}
	if source != nil {
		source.Close()
	}
	r.leave(r.ctx.Err() != nil)
	r.d.mu.Lock()
	r.left = true
	r.d.changed.Broadcast()
	r.d.mu.Unlock()
	return true
}

func (r *reader) Close() error {
	if !r.end(http.ErrBodyReadAfterClose) {
		r.d.mu.Lock()
		r.err = http.ErrBodyReadAfterClose
		for !r.left { // so that what was read is stored, and files are closed, when this returns
			r.d.changed.Wait()
		}
		r.d.mu.Unlock()
	}
	return nil
}
