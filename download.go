package cachetrip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/internal/guard"
	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/internal/stack"
	"github.com/cachetrip/cachetrip/internal/straggler"
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

	// errStalled is why a reader asks for the rest itself: nothing has come for longer than it may wait. It is what the
	// reader gets if the origin then has something else, and the shared response does not go on either.
	errStalled = fmt.Errorf("cachetrip: the shared response has stalled, and what the origin has now does not continue it: %w", io.ErrUnexpectedEOF)
)

// stallTime is how long a reader that can't have the rest for itself waits for a shared response that has stalled.
const stallTime = 30 * time.Second

// lateTime is the longest that the reader who had the download made waits for one who does not read, once the
// store takes no more: longer than programs pause in what they are reading, and much less than they wait for it.
const lateTime = 3 * time.Second

// aloneFunc makes, for a reader and within its context, what asks the origin for the content from a position on
// in the reader's own name. begins reports whether a body begins with what the reader has been given up to a position,
// which it takes from the body. What it makes returns nil if the origin
// does not give that; else until says where the source ends, -1 if its end tells. With whole, the origin is asked for
// all of the content.
type aloneFunc func(ctx context.Context, begins func(body io.Reader, position int64) bool, whole bool) func(position int64) (source io.ReadCloser, until int64)

// bodyDraft is a draft of the store behind a guard; see [guard.Draft].
type bodyDraft interface {
	store.Draft
	ReadAtWithin(ctx context.Context, p []byte, offset int64) (int, error)
	Context() context.Context
	AtOnce() bool
	IsShut() bool
	SetWaiting(ctx context.Context)
	Waiting() context.Context
}

// download is safe for concurrent use. Positions count from the beginning of the whole content,
// whose stretch from base on, up to limit, comes from the origin. What lies before and after that
// is held already, if there is any.
type download struct {
	received   *atomic.Int64
	stragglers *straggler.Counter
	held       *content // nil if base is 0 and limit the end
	base       int64
	endless    bool // nothing is gained by waiting for the end
	exact      bool // the cache itself vouches for the length, so that less or more is an error

	// again asks the origin for what follows a position, after the source has failed there with err;
	// it returns nil if the readers have to live with that, and else also the length of the whole
	// content. It is nil if it can't be asked.
	again func(position int64, err error) (source io.ReadCloser, length int64)

	// lost is called when nobody should join any more: the draft has failed, so that the content will not be
	// stored, or nothing has come for a while.
	lost func()

	// panicked is told what Base panicked with where nobody who called it is there to be told.
	panicked func(p any, stack []byte)

	// finish stores what the draft has taken, or nothing, and returns when that is done. end is
	// io.EOF if that is everything up to limit. It is called once, without the lock.
	finish func(draft bodyDraft, taken int64, end error)

	mu       sync.Mutex
	changed  sync.Cond
	source   io.ReadCloser
	length   int64 // of the whole content, -1 if unknown
	limit    int64 // -1 if unknown
	draft    bodyDraft
	staged   int64            // up to here content can be read from held and draft
	pending  int64            // up to here content has come: beyond staged it is in window
	window   []byte           // what has come last, for who has not taken it yet
	piece    *[pieceSize]byte // what window lies in; nil if that is empty
	overdue  *time.Timer      // runs while readers wait for others to take what is in window
	gather   bool             // the draft is still to be begun with what is held before base
	skip     int64            // where base is in the draft
	ends     atomic.Bool      // nobody is left
	kept     bool             // the draft has taken everything so far
	refused  error            // why it has not
	fetches  bool             // a step is under way
	writes   bool             // the draft is being written, or finished
	finished bool             // finish was called
	ending   error            // what end will be, while finish stores what has come
	stopped  bool             // close was called while a step was under way
	end      error
	readers  map[*reader]struct{}
	patience time.Duration   // of the reader that left last
	leaver   context.Context // of that reader
	first    *reader         // of who had it made, until they take it or leave
}

// newDownload returns a download of content of the given length, -1 if that is unknown.
func newDownload(source io.ReadCloser, draft bodyDraft, length int64) *download {
	d := &download{source: source, draft: draft, length: length, limit: length, kept: true}
	d.changed.L = &d.mu
	d.first = &reader{d: d}
	d.readers = map[*reader]struct{}{d.first: {}}
	return d
}

// between makes d bring but a stretch of the content, what is around it being held; the limit is
// the end if nothing is behind it. length is that of all. d takes c over.
func (d *download) between(c *content, s span.Span, length int64) {
	d.held, d.base, d.limit, d.length, d.exact = c, s.Start, s.End, length, true
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
			d.end = cmp.Or(d.end, d.ending, err)
		}
		d.fetches = false
		d.changed.Broadcast()
		if d.stopped {
			d.stragglers.Done()
		}
	}()
	d.bring()
	err = nil
}

// bring takes one piece from the source, and what follows from it.
func (d *download) bring() {
	piece := pieces.Get().(*[pieceSize]byte)
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
		d.write(piece, n)
	} else {
		pieces.Put(piece)
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
	if err == errLength || d.again == nil || err == io.EOF && !d.short() || !connectionLost(err) {
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
	d.ending = err
	d.changed.Broadcast() // who has read everything need not wait for this for ever
	d.finishWith(stored)
	if d.end != nil {
		return // abandoned meanwhile
	}
	d.end = err
}

// write hands the first n bytes of a piece to the draft, as long as that takes any, and to the readers: who keeps up with
// the network needs no store for what has just come. It is called with the lock held, and gives it up while it writes.
func (d *download) write(piece *[pieceSize]byte, n int) {
	if d.kept && len(d.readers) <= 1 && d.draft.IsShut() {
		d.kept, d.refused = false, guard.ErrShut
	}
	if d.kept {
		d.writes = true
		if !d.draft.AtOnce() {
			d.draft.SetWaiting(d.patient())
		}
		var err error
		d.unlocked(func() {
			if _, err = d.draft.Write(piece[:n]); err != nil && d.lost != nil {
				d.lost()
			}
		})
		d.writes = false
		d.kept, d.refused = err == nil, err
	}
	d.dropWindow()
	d.window, d.piece = piece[:n], piece
	d.pending += int64(n)
	if d.kept {
		d.staged = d.pending
	}
}

// dropWindow gives the piece of the window back. The lock is held.
func (d *download) dropWindow() {
	if d.piece != nil {
		pieces.Put(d.piece)
	}
	d.window, d.piece = nil, nil
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
	d.draft.SetWaiting(d.patient())
	defer func() { d.writes = false }()
	d.unlocked(func() { d.finish(draft, taken, end) })
}

// patient returns a context with the deadline of the reader who has the earliest. It does not end. The lock is held.
func (d *download) patient() context.Context {
	var earliest time.Time
	for r := range d.readers {
		ctx := r.ctx
		if ctx == nil {
			ctx = d.draft.Context() // of who has not taken it yet
		}
		if deadline, ok := ctx.Deadline(); ok && (earliest.IsZero() || deadline.Before(earliest)) {
			earliest = deadline
		}
	}
	return patience.Until(d.draft.Context(), earliest)
}

// advance makes the next piece come, if it may: not before all readers have taken what only the
// window holds, for a while, at most lateTime. For one who stays until it has come, it then has come; others are to
// wait, and so is who is told that it has not.
func (d *download) advance(stays bool, late time.Duration) (came bool) {
	if d.fetches || d.writes || d.end != nil {
		return false
	}
	if !d.kept && len(d.window) > 0 {
		for r := range d.readers {
			if r.position < d.pending {
				if d.overdue == nil {
					at := d.pending
					d.overdue = time.AfterFunc(min(late, lateTime), func() { d.leaveBehind(at) })
				}
				return false
			}
		}
		d.emptied()
		d.dropWindow()
	}
	d.fetches = true
	if stays {
		d.unlocked(d.step)
		return true
	}
	go func() {
		stack.Grow()
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

// leaveBehind lets those go on who have waited at a position for others who have joined; these are on their own.
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
		// The one whose request it is never is left behind: the others have but joined it.
		if r.shared && !waits(r) {
			r.goAlone(max(r.position, d.staged), errLate)
		}
	}
	d.changed.Broadcast()
}

// join returns another reader of all content, or nil if it can't have that any more. leave is called
// once, when it needs d no more. With alone, which may be nil, it has the rest for itself if d fails it.
func (d *download) join(ctx context.Context, leave func(stopped bool), alone aloneFunc) *reader {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.kept || d.end != nil && d.end != io.EOF {
		return nil
	}
	r := &reader{d: d, shared: true}
	d.readers[r] = struct{}{}
	r.start(ctx, leave, alone)
	return r
}

// take returns the reader for who had d made. Up to then nothing is lost, even if the draft fails. leave and alone
// are as for join.
func (d *download) take(ctx context.Context, leave func(stopped bool), alone aloneFunc) *reader {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.first
	d.first = nil
	r.start(ctx, leave, alone)
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
		d.advance(false, lateTime)
		d.changed.Wait()
		if idle != nil && d.pending > before {
			idle.Reset(patience / idleShare)
		}
	}
}

// leaveTime is the least that the last reader waits for what has come to be stored: about what a healthy store takes.
const leaveTime = 100 * time.Millisecond

// close ends d when the last reader has left, and by cancel the request to the origin. A store that takes longer than the
// patience of that reader goes on by itself.
func (d *download) close(cancel func()) {
	d.ends.Store(true)
	d.mu.Lock()
	over, most := d.end != nil && !d.writes && d.draft.AtOnce(), max(d.patience, leaveTime)
	var gone <-chan struct{} // closed when the reader is no longer interested
	if d.leaver != nil && d.leaver.Err() == nil {
		gone = d.leaver.Done()
	}
	d.mu.Unlock()
	if over {
		d.shut(cancel)
		return
	}
	d.stragglers.Add()
	done := make(chan struct{})
	go func() {
		defer d.stragglers.Done()
		defer close(done)
		d.shut(cancel)
	}()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-gone:
	}
}

// shut has what has come stored, unless that was done, and closes all that d holds.
func (d *download) shut(cancel func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
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
	if d.stopped = fetches; fetches {
		d.stragglers.Add() // of the step
		d.stragglers.Add() // of interrupt
	}
	d.emptied()
	d.unlocked(func() {
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
	})
}

// wait waits while something holds, and reports whether it then did not hold any more, or, after a time, did. The lock
// is held.
func (d *download) wait(most time.Duration, holds func() bool) (over bool) {
	if !holds() {
		return true
	}
	late := false
	timer := time.AfterFunc(most, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		late = true
		d.changed.Broadcast()
	})
	defer timer.Stop()
	for holds() {
		if late {
			return false
		}
		d.changed.Wait()
	}
	return true
}

// interrupt closes a source that is being read: bodies of net/http let that be done, and others may take
// no notice of the end of their request, or wait for their reader.
func (d *download) interrupt(source io.Closer) {
	defer d.stragglers.Done()
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
	shared   bool  // it has joined the download of another one
	position int64 // d.mu guards it, and what follows
	busy     bool  // somebody reads
	queued   int   // how many wait for that to end
	reads    bool  // what is staged, without the lock
	err      error // that ended the reading, for good
	left     bool  // leave has returned
	leave    func(stopped bool)
	unwatch  func() bool
	atEnd    func()        // called when all content was read, if not nil
	sum      *maphash.Hash // of what was given, if the store may fail to give that again; else nil

	// Of a reader that has the rest for itself: from a position on, for a reason.
	alone  aloneFunc // nil if it can't
	from   int64     // -1 before
	why    error
	whole  bool // it asks for all of the content, though only a rest is missing
	again  func(position int64) (io.ReadCloser, int64)
	stop   context.CancelFunc // ends what again is used within
	source io.ReadCloser
	until  int64 // where source ends, -1 if its end tells
}

// start makes r ready for use; the lock is held.
func (r *reader) start(ctx context.Context, leave func(stopped bool), alone aloneFunc) {
	r.ctx, r.leave, r.alone, r.from = ctx, leave, alone, -1
	if alone != nil && !r.d.draft.AtOnce() {
		r.sum = new(maphash.Hash)
	}
	if ctx.Done() != nil {
		// Whoever has a context that ended need neither read nor close, and may be busy elsewhere.
		r.unwatch = context.AfterFunc(ctx, func() { r.end(context.Cause(ctx)) })
	}
}

// patience returns how long r waits for what others do.
func (r *reader) patience() time.Duration {
	if r.ctx.Err() != nil {
		return 0
	}
	return patience.Of(r.ctx, time.Now(), patience.Longest)
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
	for r.busy { // bodies of net/http let several goroutines read: each byte goes to one of them
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
	if r.sum != nil {
		r.sum.Write(p[:n])
	}
	return n, err
}

// next reads what comes next. The lock is held.
func (r *reader) next(p []byte) (int, error) {
	d := r.d
	for {
		switch {
		case r.err != nil:
			return 0, r.err
		case r.ctx.Err() != nil:
			return 0, context.Cause(r.ctx)
		case len(p) == 0:
			return 0, nil
		case r.from >= 0 && r.position >= r.from:
			if n, err, ok := r.readAlone(p); ok {
				return n, err
			}
		case r.position < d.pending && r.position >= d.pending-int64(len(d.window)):
			n := copy(p, d.window[int64(len(d.window))-(d.pending-r.position):])
			r.position += int64(n)
			switch {
			case !d.kept:
				d.changed.Broadcast() // others may have waited for this reader
			case r.position == d.pending && len(d.readers) <= 1:
				d.dropWindow() // whoever joins reads what is staged
			}
			return n, nil
		case r.position < d.staged:
			n, err := r.readStaged(p[:min(int64(len(p)), d.staged-r.position)])
			if err == nil || r.err != nil || r.alone == nil {
				return n, err
			}
			r.goAlone(r.position, err) // the origin still has what the store has lost
		case r.position < d.pending:
			return 0, errLate
		case (d.end == io.EOF || d.ending == io.EOF) && d.limit >= 0 && r.position < d.length:
			return r.readStaged(p) // what is held behind
		case d.end != nil && d.end != io.EOF && r.shared && r.alone != nil:
			r.whole = !isBreak(d.end)    // a limit below that ended it, say, is not to be got round
			r.goAlone(r.position, d.end) // what ended the transfer is the matter of who had it made
		case d.end != nil:
			return 0, d.end
		case d.ending != nil:
			if !d.wait(r.patience(), func() bool { return d.end == nil && r.err == nil }) {
				return 0, d.ending // a store that hangs keeps nobody
			}
		case r.shared:
			if err := r.awaitShared(); err != nil {
				return 0, err
			}
		default:
			if !d.advance(r.ctx.Done() == nil, r.patience()) {
				d.changed.Wait()
			}
		}
	}
}

// awaitShared waits for the next piece of a download that r has joined. If that has stalled, r goes on alone, if it
// can. The error is that it can't, and has waited for long.
func (r *reader) awaitShared() error {
	d := r.d
	at := d.pending
	waits := func() bool {
		if d.pending != at || d.end != nil || d.ending != nil || r.err != nil || r.ctx.Err() != nil || r.from >= 0 {
			return false
		}
		d.advance(false, lateTime)
		return true
	}
	if r.alone == nil {
		if !d.wait(stallTime, waits) {
			return errStalled
		}
		return nil
	}
	if !d.wait(r.patience(), waits) {
		r.goAlone(r.position, errStalled)
		if d.lost != nil {
			d.unlocked(d.lost)
		}
	}
	return nil
}

// goAlone has r read by itself what comes from a position on. The lock is held.
func (r *reader) goAlone(from int64, why error) {
	r.from, r.why = from, why
	delete(r.d.readers, r) // nobody waits for it any more
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
	r.d.unlocked(func() { n, err = r.d.readAt(r.ctx, p, position) })
	r.position += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// readAlone reads what r asks the origin for itself. It is called with the lock held, and gives it up meanwhile. ok is
// false if the origin does not give that, and r goes on with what it had joined, which has but stalled.
func (r *reader) readAlone(p []byte) (n int, err error, ok bool) {
	d := r.d
	if r.again == nil && r.alone != nil {
		var ctx context.Context
		ctx, r.stop = context.WithCancel(r.ctx)
		r.again, r.until = r.alone(ctx, r.begins, r.whole), d.limit
	}
	for r.until < 0 || r.position < r.until {
		position, source := r.position, r.source
		if source == nil {
			var until int64
			if r.again != nil {
				r.reads = true // what the caller has
				d.unlocked(func() { source, until = r.again(position) })
				r.reads = false
				d.changed.Broadcast()
			}
			switch {
			case r.err != nil:
				if source != nil {
					d.unlocked(func() { source.Close() })
				}
				return 0, r.err, true
			case source == nil && r.why == errStalled:
				r.from, r.alone, r.again = -1, nil, nil
				d.readers[r] = struct{}{}
				return 0, nil, false
			case source == nil:
				return 0, r.why, true
			}
			r.source, r.until = source, until
			r.why = io.ErrUnexpectedEOF // should it end early
		}
		p := p
		if r.until >= 0 {
			p = p[:min(int64(len(p)), r.until-position)]
		}
		d.unlocked(func() { n, err = source.Read(p) })
		d.received.Add(int64(n))
		r.position += int64(n)
		switch {
		case n > 0 || err == nil:
			return n, nil, true
		case r.err != nil:
			return 0, r.err, true
		case err == io.EOF && r.until < 0:
			r.until = r.position
		case err != io.EOF:
			r.why = err
		}
		if !connectionLost(err) {
			return 0, err, true // made on purpose below
		}
		r.source = nil
		d.unlocked(func() { source.Close() })
	}
	if r.position < d.length {
		n, err = r.readStaged(p) // what was held behind that
		return n, err, true
	}
	return 0, io.EOF, true
}

// begins takes what comes before a position from body, and reports whether that is what r was given.
func (r *reader) begins(body io.Reader, position int64) bool {
	if r.sum != nil {
		var sum maphash.Hash
		sum.SetSeed(r.sum.Seed())
		_, err := io.CopyN(&sum, body, position)
		return err == nil && sum.Sum64() == r.sum.Sum64()
	}
	return sameStart(body, func(p []byte, at int64) (int, error) { return r.d.readAt(r.ctx, p, at) }, position)
}

// unlocked calls f without the lock, which is held before and after, even if f panics.
func (d *download) unlocked(f func()) {
	d.mu.Unlock()
	defer d.mu.Lock()
	f()
}

// readAt reads what is staged or held, within the context of the reader.
func (d *download) readAt(ctx context.Context, p []byte, position int64) (n int, err error) {
	switch {
	case position < d.base:
		return d.held.ReadAt(p[:min(int64(len(p)), d.base-position)], position)
	case d.held != nil && d.limit >= 0 && position >= d.limit:
		return d.held.ReadAt(p, position)
	case d.held != nil && d.limit >= 0:
		p = p[:min(int64(len(p)), d.limit-position)]
	}
	n, err = d.draft.ReadAtWithin(ctx, p, position-d.base+d.skip)
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
	r.d.patience, r.d.leaver = r.patience(), r.ctx
	if r.stop != nil {
		r.stop()
	}
	reading := func() bool { return r.reads } // from files, which the last to leave closes
	if d := r.d; !d.wait(r.patience(), reading) {
		d.stragglers.Add()
		go func() {
			defer d.stragglers.Done()
			d.mu.Lock()
			for r.reads {
				d.changed.Wait()
			}
			d.mu.Unlock()
			r.depart()
		}()
		d.mu.Unlock()
		return true
	}
	r.d.mu.Unlock()
	r.depart()
	return true
}

// depart ends what r holds, once it reads no more.
func (r *reader) depart() {
	if r.unwatch != nil {
		r.unwatch()
	}
	r.d.mu.Lock()
	source := r.source
	r.d.mu.Unlock()
	if source != nil {
		source.Close()
	}
	r.leave(r.ctx.Err() != nil)
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	r.left = true
	r.d.changed.Broadcast()
}

func (r *reader) Close() error {
	if !r.end(http.ErrBodyReadAfterClose) {
		r.d.mu.Lock()
		r.err = http.ErrBodyReadAfterClose
		// What was read is stored, and files are closed, when this returns, if the store does its part.
		r.d.wait(max(r.patience(), leaveTime), func() bool { return !r.left })
		r.d.mu.Unlock()
	}
	return nil
}
