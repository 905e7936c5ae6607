// Package download brings one body from a source to any number of readers, and
// keeps it in a draft meanwhile. It promises:
//
//   - Every reader gets the whole content from its beginning, at its own pace. A
//     reader that stops, or whose context ends, does not harm the others.
//   - The source is read only when a reader needs the next byte. So at most one
//     piece is in memory, and the fastest reader sets the pace.
//   - If the draft is full, hangs or panics, no reader loses content that
//     another one got.
//   - The content is stored before a reader gets io.EOF.
//   - A source that breaks is continued, if the program knows another one.
//   - Content that does not have its digest is not stored. If it was joined from
//     parts, its readers get an error instead of its end.
//   - Nothing that the source or the draft does ends the process, or leaves a lock
//     held.
//
// A program makes a Download with New, and readers with Take and Join. When the
// last reader has left, it may fetch a small remainder with Drain, and ends the
// download with Close.
package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/internal/digest"
	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/internal/straggler"
)

var (
	// ErrAbandoned is the error of a download that all readers have left.
	ErrAbandoned = errors.New("cachetrip: download abandoned by all readers")

	// ErrLength is the error of content that is longer or shorter than
	// announced.
	ErrLength = errors.New("cachetrip: not the announced length")

	// errLate is the error of a reader that was left behind and cannot get the
	// rest by itself.
	errLate = fmt.Errorf("cachetrip: the store took no more, and others did not wait for this reader: %w", io.ErrUnexpectedEOF)

	// errStalled is the error of a reader whose shared source has stalled, and
	// which could not get the rest by itself.
	errStalled = fmt.Errorf("cachetrip: the shared response has stalled, and what the origin has now does not continue it: %w", io.ErrUnexpectedEOF)

	// errGoexit is the error of a download whose source or draft called
	// runtime.Goexit, as testing.T.FailNow does.
	errGoexit = errors.New("cachetrip: the body of a response ended the goroutine that read it")
)

// errJoined is the error of a reader whose content was joined from parts and is
// wrong.
func errJoined(wrong error) error {
	return fmt.Errorf("cachetrip: the response was joined from parts, and %w; it is dropped, and the next request gets it whole: %w",
		wrong, io.ErrUnexpectedEOF)
}

// errShared is the error of a reader that got another reader's content, which
// is wrong, and could not get the content by itself.
func errShared(wrong error) error {
	return fmt.Errorf("cachetrip: the response was shared with another request, and %w: %w", wrong, io.ErrUnexpectedEOF)
}

// Draft receives the bytes of the source.
type Draft interface {
	// Write appends bytes. It may fail at the deadline of the context of
	// SetWaiting.
	io.Writer

	// AvailableBuffer returns a part of the draft's own buffer, for bytes that are
	// passed to Write next. It returns nil if there is none.
	AvailableBuffer() []byte

	// ReadAtWithin reads written bytes. It waits at most until ctx ends.
	ReadAtWithin(ctx context.Context, p []byte, offset int64) (int, error)

	// Close releases the draft.
	io.Closer

	// Context returns the context that the draft was made with.
	Context() context.Context

	// SetWaiting sets the context of the readers that wait for the next Write.
	SetWaiting(ctx context.Context)

	// AtOnce reports whether reads and writes end soon, and do not fail later.
	AtOnce() bool

	// LimitWait limits how long a draft that is AtOnce waits for other callers of
	// the store, from now on. If most is negative, there is no limit.
	LimitWait(most time.Duration)
}

// Held is content that is already stored. Unlike in an io.ReaderAt, a short
// read may have a nil error.
type Held interface {
	io.ReaderAt
	io.Closer
}

// Rest is a function that requests the content from a position on. It returns a
// body that begins there, and the position where it ends, or -1 if unknown. It
// returns a nil body if it cannot get one that fits.
type Rest func(position int64) (body io.ReadCloser, end int64)

// Result says how much content arrived before a download ended.
type Result struct {
	Taken   int64 // how many bytes of the source the draft has taken
	Refused error // why the draft is incomplete and must not be used; nil if it has everything

	// End is io.EOF if all content arrived. It is ErrLength if the length is
	// wrong, ErrAbandoned if all readers have left, a *digest.Mismatch if the
	// content is wrong, or else the error of the source.
	End error

	// Checked says that all content was hashed, and has its digests.
	Checked bool

	// Broken says that the content is good as far as it arrived: the readers
	// have left, or the connection of the source broke.
	Broken bool
}

// Config configures a Download.
type Config struct {
	Source io.ReadCloser
	Draft  Draft

	// Span is the part of the content that Source has. Its End is -1 if that is
	// unknown. Positions count from the beginning of the content.
	Span   span.Span
	Length int64 // of the whole content; -1 if that is unknown

	// Held has the content before and after Span. With it, the length must be
	// right. Held is nil if Source has all content.
	Held Held

	// CopyHeld makes the draft begin with the content before Span, so that both
	// become one body.
	CopyHeld bool

	// Check knows the digests of the content, and with Held where that ends. It is
	// nil if there are no digests.
	Check *digest.Check

	// OfRest says that Check is only about the content of Source, beside Held. If
	// that is wrong, it is not stored, but the readers get it as it came.
	OfRest bool

	// Mismatched is called if the content turns out to be wrong after it was
	// stored: at the end of Held. It is nil without Held.
	Mismatched func(error)

	// Endless says that the source will not end soon, so that Drain does not
	// wait for it.
	Endless bool

	// Again requests the rest after the source has broken. It is nil if that is
	// not possible.
	Again Rest

	// Broken reports whether an error of a source says that its connection broke.
	// Any other error was made on purpose, and the readers get it.
	Broken func(error) bool

	// Finish stores the draft, or discards it, and returns when that is done.
	// It is called once.
	Finish func(Result)

	// Lost is called when no reader should join any more, because the draft has
	// failed or the source has stalled.
	Lost func()

	// Panicked is called when the source or the draft has panicked with p.
	Panicked func(p any, stack []byte)

	Received   *atomic.Int64      // counts the bytes of all sources
	Served     *atomic.Int64      // counts the bytes of Held that readers got
	Stragglers *straggler.Counter // counts goroutines that no caller waits for
}

// Download is one body on its way. It is safe for concurrent use.
type Download struct {
	config Config

	mu      sync.Mutex
	changed sync.Cond // broadcasts each change of the fields below

	source     io.ReadCloser
	length     int64 // of the whole content; -1 if unknown
	limit      int64 // where the source ends; -1 if unknown
	exact      bool  // the length must be right; another one is an error
	arrived    int64 // the position up to which content has arrived
	staged     int64 // the position up to which Held and the draft have it; the rest is in the window
	draftBegin int64 // the position of the first byte in the draft
	copyHeld   bool  // the content before the span must still be copied to the draft

	wrong    error // why the source's content does not have its digest; nil if it has, or if that is unknown
	refused  error // why the draft takes no more; nil if it has taken everything so far
	fetching bool  // a piece is being fetched
	writing  bool  // the draft is being written, or finished
	finished bool  // Finish was called
	ending   error // the value of end after Finish returns
	end      error // why no more content arrives; nil while it may

	window  window
	readers map[*Reader]struct{}
	first   *Reader // the reader for Take, until it is taken or declined

	abandoned   atomic.Bool     // Close was called
	interrupted bool            // Close was called while a piece was being fetched
	lastContext context.Context // context of the reader that left last
	lastWait    time.Duration   // how long that reader waits
}

// Shared describes a reader that continues alone.
type Shared struct {
	// Context ends when the reader is done.
	Context context.Context

	// Begins reports whether a body begins with the bytes that the reader has
	// returned, up to a position. It reads that part of the body.
	Begins func(body io.Reader, position int64) bool

	// Whole says that only the whole content may be requested, because the
	// shared source was ended on purpose, for instance by a size limit.
	Whole bool
}

// New returns a Download. It takes over Source, Draft and Held, and closes them
// in the end. There must be one call of Take or Decline.
func New(c Config) *Download {
	d := &Download{
		config: c, source: c.Source, length: c.Length, limit: c.Span.End, exact: c.Held != nil,
		arrived: c.Span.Start, staged: c.Span.Start, draftBegin: c.Span.Start, copyHeld: c.CopyHeld,
	}
	if c.CopyHeld {
		d.draftBegin = 0
	}
	d.changed.L = &d.mu
	d.first = &Reader{d: d}
	d.readers = map[*Reader]struct{}{d.first: {}}
	return d
}

// Caller is the caller that a Reader reads for.
type Caller struct {
	Context context.Context   // reading ends when it ends
	Leave   func(ended bool)  // called once, when the reader is done; ended says that its context ended
	Alone   func(Shared) Rest // requests the rest for this caller alone; nil if that is not allowed
}

// Take returns the reader of the caller that started the download. Until then,
// no piece is dropped that it has not read.
func (d *Download) Take(c Caller) *Reader {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.first
	d.first = nil
	r.start(c)
	return r
}

// Decline says that Take will not be called.
func (d *Download) Decline() {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.readers, d.first)
	d.first = nil
	d.changed.Broadcast()
}

// Join returns another reader, or nil if the beginning of the content is gone.
func (d *Download) Join(c Caller) *Reader {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refused != nil || d.wrong != nil || d.end != nil && d.end != io.EOF {
		return nil
	}
	r := &Reader{d: d, joined: true}
	d.readers[r] = struct{}{}
	r.start(c)
	return r
}

// unlocked calls f without the lock, which is held before and after, even if f
// panics.
func (d *Download) unlocked(f func()) {
	d.mu.Unlock()
	defer d.mu.Lock()
	f()
}

// wait waits while a condition holds. It reports false if the condition still
// holds after the time limit. The lock is held.
func (d *Download) wait(limit time.Duration, condition func() bool) bool {
	if !condition() {
		return true
	}
	late := false
	timer := time.AfterFunc(limit, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		late = true
		d.changed.Broadcast()
	})
	defer timer.Stop()
	for condition() {
		if late {
			return false
		}
		d.changed.Wait()
	}
	return true
}

// waiting returns a context with the earliest deadline of all readers that wait
// for the draft, if they have one. It does not end. The lock is held.
func (d *Download) waiting() context.Context {
	var earliest time.Time
	now := time.Now()
	for r := range d.readers {
		ctx := r.caller.Context
		if ctx == nil {
			ctx = d.config.Draft.Context() // the first reader was not taken yet
		}
		// A reader whose deadline has passed does not wait any more.
		if deadline, ok := ctx.Deadline(); ok && deadline.After(now) && (earliest.IsZero() || deadline.Before(earliest)) {
			earliest = deadline
		}
	}
	return patience.Until(d.config.Draft.Context(), earliest)
}

// limitWait tells the draft how long its readers wait for its next call. The
// lock is held.
func (d *Download) limitWait() {
	ctx, most := d.waiting(), time.Duration(-1)
	if _, ok := ctx.Deadline(); ok {
		most = patience.Of(ctx, time.Now(), patience.Longest)
	}
	d.config.Draft.SetWaiting(ctx)
	d.config.Draft.LimitWait(most)
}

// readAt reads staged or held content, within the context of a reader.
func (d *Download) readAt(ctx context.Context, p []byte, position int64) (n int, err error) {
	held, start := d.config.Held, d.config.Span.Start
	switch {
	case position < start:
		return held.ReadAt(p[:min(int64(len(p)), start-position)], position)
	case held != nil && position >= d.config.Span.End:
		return held.ReadAt(p, position)
	case held != nil:
		p = p[:min(int64(len(p)), d.config.Span.End-position)]
	}
	n, err = d.config.Draft.ReadAtWithin(ctx, p, position-d.draftBegin)
	if n == 0 && err == io.EOF {
		err = io.ErrUnexpectedEOF // the draft has lost written content
	}
	return n, err
}
