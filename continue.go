package cachetrip

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/cachetrip/cachetrip/internal/download"
	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/prefix"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/internal/stored"
	"github.com/cachetrip/cachetrip/store"
)

// Going on with a body whose transfer has broken off or stalled, or that the store has lost: RFC 9111,
// section 3.4. There are two ways. If a validator proves that a range continues what the caller has, that
// is asked for. Otherwise the request is repeated, and what comes must begin with what the caller has.

// continuation returns what asks, within ctx, for the rest of r whose transfer has broken off, up to a
// limit if that is not negative. So a connection that breaks costs the callers a pause only. A response that
// disagrees ends this for good, and so do too many attempts without progress. What the rests say is noted
// in rests. It is nil if they are not stored.
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

// alone returns what asks the origin, in the name of the caller of x, for the rest of the response of o,
// which another request may have brought. It is nil if the caller does not want the origin to be asked.
func (x *exchange) alone(o *result) func(download.Shared) download.Rest {
	if x.rules.cc.OnlyIfCached {
		return nil
	}
	return func(has download.Shared) download.Rest {
		a := &originReply{x: x, requested: wallClock()}
		var again download.Rest
		if o.continues && !has.Whole && x.mayContinue(o) {
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

// mayContinue reports whether a validator identifies the content of o for x. A date does so only among
// requests that are alike.
func (x *exchange) mayContinue(o *result) bool {
	return field.IsStrongETag(o.response.strongValidator()) || alikeDigest(x.rules) == alikeDigest(o.asked)
}

// maxRepeats is how often a request is repeated for the rest of a body: once, and once more if that
// transfer breaks off, too.
const maxRepeats = 2

// remainder returns what asks for the rest of a stored response, the whole of e, when the store fails
// while c is read: a store on a network can do so in the middle of a body. Without a strong entity tag,
// content is compared: a date may be that of another user's page. remainder is nil if the origin cannot be
// asked.
func (x *exchange) remainder(c *stored.Content, r *response, e *store.Entry) func(span.Span) io.ReadCloser {
	if c.InMemory() || x.rules.cc.OnlyIfCached {
		return nil
	}
	if x.own == nil {
		x.detach() // the caller may change the request until then
	}
	a, whole := &originReply{x: x, requested: wallClock()}, *r
	return func(s span.Span) io.ReadCloser {
		rest, err := a.askRemainder(x.req.Context(), &whole, e, s, c)
		if err != nil {
			return nil
		}
		return x.t.counted(rest.resp)
	}
}

// askRemainder asks for the stretch s of r, whose beginning c may still have.
func (a *originReply) askRemainder(ctx context.Context, r *response, e *store.Entry, s span.Span, c *stored.Content) (rest *originReply, err error) {
	if !r.continuable() || !field.IsStrongETag(r.strongValidator()) {
		o := &result{code: r.status, entry: e, announced: r.length}
		return a.askWhole(a.x.repeatedRequest(ctx), s.Start, o.repeatedBy, func(body io.Reader, position int64) bool {
			return prefix.Same(body, c, position)
		})
	}
	rest, _, err = a.askRange(ctx, r, s)
	if err != nil && ctx.Err() == nil {
		isSame := func(again *originReply) bool { return again.brings(r) }
		rest, err = a.askWhole(a.x.plainRequest(ctx), s.Start, isSame, skips)
	}
	return rest, err
}

// pauses are the times to wait before asking again, as long as there is no progress. A broken connection
// is replaced at once, and a server that restarts takes a moment. Altogether it is less than a user takes
// to try again.
var pauses = []time.Duration{0, 100 * time.Millisecond, 400 * time.Millisecond}

// worthwhile is how much an attempt has to bring to count as progress: more than asking costs.
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
