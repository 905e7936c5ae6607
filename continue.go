package cachetrip

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"
)

// Going on with a transfer that has broken off on its way to callers: RFC 9111, section 3.4.

// continuation returns what asks, within ctx, for the rest of a transfer of r that has broken off on its
// way to callers, up to a limit if that is not negative: a connection that breaks in the middle of a large
// download costs them but a pause. Whatever speaks against joining the rest to what they have ends
// this for good, and so do too many attempts without progress: then they get the error as it came.
func (a *answer) continuation(ctx context.Context, r response, limit int64) func(position int64, err error) (io.ReadCloser, int64) {
	tries, from := 0, int64(0)
	return func(position int64, _ error) (io.ReadCloser, int64) {
		if position-from >= worthwhile {
			tries, from = 0, position
		}
		for tries < len(pauses) && pause(ctx, pauses[tries]) {
			tries++
			resp, length, err := a.askAgain(ctx, &r, span{position, limit})
			if resp != nil {
				r.length = length
				return resp.Body, length
			}
			if err == errDisagrees {
				tries = len(pauses)
			}
		}
		return nil, 0
	}
}

// remainder returns what asks for the rest of a stored response when the store has failed while it was
// being read: a store on a network can do so in the middle of a body. It is nil if the origin can't be asked.
func (x *exchange) remainder(held *content, r *response) func(span) io.ReadCloser {
	if held.bodies == nil || x.rules.cc.OnlyIfCached || !r.continuable() {
		return nil
	}
	if x.own == nil {
		x.detach() // the caller may change the request until then
	}
	a, stored := &answer{exchange: x, requested: wallClock()}, *r
	return func(s span) io.ReadCloser {
		resp, _, err := a.askAgain(x.req.Context(), &stored, s)
		if err != nil {
			return nil
		}
		return x.counted(resp)
	}
}

// pauses are the times to wait before asking again, for as long as there is no progress: a broken
// connection is replaced at once, a server that restarts takes a moment. Altogether it is less than
// callers who watch would take to try for themselves.
var pauses = []time.Duration{0, 100 * time.Millisecond, 400 * time.Millisecond}

// worthwhile is how much an attempt has to bring to count as progress: more than asking costs.
const worthwhile = 16 << 10

// pause waits, and reports false if ctx ended before.
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

// errDisagrees reports an answer to a continuation that can't be joined to what was there.
var errDisagrees = errors.New("cachetrip: not a continuation")

// askAgain asks, within ctx, for the stretch s of r. The error tells that there is no answer; only if it is not
// errDisagrees it is worth it to try again.
func (a *answer) askAgain(ctx context.Context, r *response, s span) (*http.Response, int64, error) {
	out := a.outgoing(ctx)
	delete(out.Header, "If-None-Match")
	delete(out.Header, "If-Modified-Since")
	r.askFor(s, out.Header)
	resp, err := a.Transport.send(out)
	if err != nil {
		return nil, 0, err
	}
	taken := false
	defer func() {
		if !taken {
			resp.Body.Close()
		}
	}()
	if err := a.modify(resp); err != nil {
		return nil, 0, errDisagrees
	}
	if isFailure(resp.StatusCode) {
		discard(resp)
		return nil, 0, errors.New(resp.Status)
	}
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && r.endsAt(s.start, resp.Header) {
		discard(resp)
		resp.Body = http.NoBody // only that it was the end was missing
		taken = true
		return resp, s.start, nil
	}
	rest := &answer{exchange: a.exchange, resp: resp, sent: out, requested: a.requested, received: wallClock()}
	partial := newResponse(rest.entry())
	if _, length, ok := r.continues(&partial, s); ok && resp.StatusCode == http.StatusPartialContent && rest.sentAs(r) {
		a.log(a.request(), "continued", slog.Int64("position", s.start), slog.Int64("length", length))
		taken = true
		return resp, length, nil
	}
	return nil, 0, errDisagrees
}
