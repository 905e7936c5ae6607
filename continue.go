package cachetrip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cachetrip/cachetrip/internal/digest"
	"github.com/cachetrip/cachetrip/internal/download"
	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/inflight"
	"github.com/cachetrip/cachetrip/internal/prefix"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/internal/stored"
	"github.com/cachetrip/cachetrip/store"
)

// Continuing a body whose transfer broke off or stalled, or that the store has
// lost: RFC 9111, section 3.4. There are two ways. If a validator proves that a
// range fits the bytes that the caller has, the cache requests the range.
// Otherwise it repeats the request, and the new body must begin with those
// bytes.

// continuation returns a function that requests, within ctx, the rest of r
// after its transfer has broken off. So a broken connection costs callers only
// a pause. limit is the position where the rest ends; it is negative if that is
// the end of r. The attempts end with a response that does not fit, or after
// too many of them without progress. rests collects the headers of the
// responses that bring the rest; it is nil if they are not stored.
func (a *originReply) continuation(ctx context.Context, r response, limit int64, rests *rests) download.Rest {
	tries, from := 0, int64(0)
	return func(position int64) (io.ReadCloser, int64) {
		if position-from >= worthwhile {
			tries, from = 0, position
		}
		for tries < len(pauses) && pause(ctx, pauses[tries]) {
			tries++
			rest, length, err := a.askRange(ctx, &r, span.Of(position, limit))
			if rest != nil {
				r.length = length
				if rests != nil && rest.resp.StatusCode == http.StatusPartialContent {
					rests.add(rest, length)
				}
				return rest.resp.Body, length
			}
			if err == errDisagrees {
				tries = len(pauses)
			}
		}
		return nil, 0
	}
}

// alone returns a function that requests the rest of the response of o for the
// caller of x alone. Another caller may have requested that response. alone
// returns nil if the caller does not allow a request to the origin.
func (x *exchange) alone(o *result) func(download.Shared) download.Rest {
	if x.rules.cc.OnlyIfCached {
		return nil
	}
	return func(has download.Shared) download.Rest {
		a := &originReply{x: x, requested: wallClock()}
		var again download.Rest
		// With a digest, the whole is repeated and compared. A rest would have
		// to be hashed for each reader.
		if o.continues && !has.Whole && x.mayContinue(o) && joinedCheck(o.entry.Header, -1) == nil {
			again = a.continuation(has.Context, o.response, o.brings.End, nil)
		}
		repeats := 0
		return func(position int64) (io.ReadCloser, int64) {
			if again != nil {
				if source, end := again(position); source != nil {
					if o.brings.End >= 0 {
						end = o.brings.End
					}
					return source, end
				}
				again = nil
			}
			if repeats++; repeats > maxRepeats {
				return nil, 0
			}
			rest, err := a.askWhole(x.repeatedRequest(has.Context), position, o.repeatedBy, has.Begins)
			if err != nil {
				return nil, 0
			}
			return rest.resp.Body, -1
		}
	}
}

// mayContinue reports whether a validator identifies the content of o for x. A
// date does only if the two requests are alike.
func (x *exchange) mayContinue(o *result) bool {
	return field.IsStrongETag(o.response.strongValidator()) || alikeDigest(x.rules) == alikeDigest(o.asked)
}

// maxRepeats is how often a request is repeated for the rest of a body: once,
// and once more if that transfer breaks off, too.
const maxRepeats = 2

// remainder returns a function that requests the rest of a stored response, if
// the store fails while c is read. A store on a network can fail in the middle
// of a body. e is the entry, which holds the whole body. Without a strong
// entity tag, the new content is compared, because a date may be that of
// another user's page. remainder returns nil if the origin must not be asked.
func (x *exchange) remainder(c *stored.Content, r *response, e *store.Entry) func(context.Context, span.Span) io.ReadCloser {
	if c.InMemory() || x.rules.cc.OnlyIfCached {
		return nil
	}
	if x.own == nil {
		x.detach() // the caller may change its request before the rest is requested
	}
	a, whole := &originReply{x: x, requested: wallClock()}, *r
	return func(ofBody context.Context, s span.Span) io.ReadCloser {
		ctx, unwatch := callerContext(x.req)
		ctx, cancel := context.WithCancelCause(ctx)
		context.AfterFunc(ofBody, func() {
			cancel(http.ErrBodyReadAfterClose)
			unwatch()
		})
		var check *digest.Check
		if whole.continuable() && field.IsStrongETag(whole.strongValidator()) { // else the bytes are compared
			check = joinedCheck(e.Header, e.Length)
		}
		rest, err := a.askRemainder(ctx, &whole, e, s, c, check)
		switch {
		case err != nil:
			return nil
		case check == nil:
			return x.t.counted(rest.resp)
		}
		return &checkedRest{ReadCloser: x.t.counted(rest.resp), check: check, position: s.Start, end: e.Length}
	}
}

// askRemainder requests the stretch s of r. c may still have the beginning of
// r. If check is not nil, the whole is requested, and check gets the bytes
// before s: the stored bytes had the digest when they were stored, and so must
// the new ones.
func (a *originReply) askRemainder(ctx context.Context, r *response, e *store.Entry, s span.Span, c *stored.Content, check *digest.Check) (rest *originReply, err error) {
	if !r.continuable() || !field.IsStrongETag(r.strongValidator()) {
		o := &result{code: r.status, entry: e, announced: r.length}
		return a.askWhole(a.x.repeatedRequest(ctx), s.Start, o.repeatedBy, func(body io.Reader, position int64) bool {
			return prefix.Same(body, c, position)
		})
	}
	isSame := func(again *originReply) bool { return again.brings(r) }
	if check != nil {
		return a.askWhole(a.x.plainRequest(ctx), s.Start, isSame, func(body io.Reader, position int64) bool {
			return skips(io.TeeReader(body, &taker{check: check}), position)
		})
	}
	rest, _, err = a.askRange(ctx, r, s)
	if err != nil && ctx.Err() == nil {
		rest, err = a.askWhole(a.x.plainRequest(ctx), s.Start, isSame, skips)
	}
	return rest, err
}

// taker is a writer of content for a check.
type taker struct {
	check    *digest.Check
	position int64
}

func (t *taker) Write(p []byte) (int, error) {
	t.check.Take(t.position, p)
	t.position += int64(len(p))
	return len(p), nil
}

// checkedRest is the rest of content of which check has the beginning. If the
// content does not have its digest, the last piece is replaced by an error.
type checkedRest struct {
	io.ReadCloser
	check         *digest.Check
	position, end int64
}

func (r *checkedRest) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.check.Take(r.position, p[:n])
	if r.position += int64(n); n == 0 || r.position < r.end {
		return n, err
	}
	if wrong := r.check.Wrong(r.end); wrong != nil {
		return 0, fmt.Errorf("cachetrip: the store has lost the rest of the response, and of what the origin sent instead, %w: %w", wrong, io.ErrUnexpectedEOF)
	}
	return n, err
}

// pauses are the pauses before further attempts, as long as there is no
// progress. A broken connection is replaced at once. A server that restarts
// needs a moment. The sum is less than a user takes to try again.
var pauses = []time.Duration{0, 100 * time.Millisecond, 400 * time.Millisecond}

// worthwhile is how many bytes an attempt must bring to count as progress.
// Fewer bytes cost less than the request.
const worthwhile = 16 << 10

// pause waits, and reports false if ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// Which errors say that a transfer broke off. A broken transfer can be
// continued.

// connectionLost reports whether an error of a body or of Base says that a
// connection broke. Any other error was made on purpose, for instance by a
// transport that limits or verifies bodies. The caller gets such an error.
func connectionLost(err error) bool {
	var op *net.OpError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return false
	case err == io.ErrUnexpectedEOF || err == io.EOF: // bodies of net/http end so; a wrapped error has another meaning
		return true
	case errors.As(err, &op), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.ECONNABORTED), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ETIMEDOUT):
		return true
	}
	for ; err != nil; err = errors.Unwrap(err) {
		text := err.Error()
		if slices.ContainsFunc(lostTexts, func(begin string) bool { return strings.HasPrefix(text, begin) }) {
			return true
		}
	}
	return false
}

// lostTexts are the beginnings of errors of a broken connection whose types
// net/http does not export.
var lostTexts = []string{
	"stream error: stream ID ", "http2: ", "connection error: ", // of HTTP/2
	"net/http: HTTP/1.x transport connection broken: ", "net/http: Transport failed to read from server: ",
}

// transferBroken reports whether an error of a body says that its transfer
// broke off, or that all readers have left.
func transferBroken(err error) bool { return err == inflight.ErrAbandoned || connectionLost(err) }
