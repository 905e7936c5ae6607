package cachetrip

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cachetrip/cachetrip/internal/download"
	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/prefix"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/internal/stored"
	"github.com/cachetrip/cachetrip/store"
)

// Going on with a transfer that has broken off on its way to callers: RFC 9111, section 3.4.

// continuation returns what asks, within ctx, for the rest of a transfer of r that has broken off on its
// way to callers, up to a limit if that is not negative: a connection that breaks in the middle of a large
// download costs them but a pause. Whatever speaks against joining the rest to what they have ends
// this for good, and so do too many attempts without progress: then they get the error as it came. What the rests say
// is noted in rests, unless that is nil because they are not stored.
func (a *originReply) continuation(ctx context.Context, r response, limit int64, rests *rests) download.Rest {
	tries, from := 0, int64(0)
	return func(position int64) (io.ReadCloser, int64) {
		if position-from >= worthwhile {
			tries, from = 0, position
		}
		for tries < len(pauses) && pause(ctx, pauses[tries]) {
			tries++
			rest, length, err := a.askAgain(ctx, &r, span.Of(position, limit))
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

// rests collects what the responses say that bring the rest of another one whose transfer broke off. It is safe for
// concurrent use.
type rests struct {
	*originReply              // the response that they continue
	entry        *store.Entry // the head to be stored for it

	mu     sync.Mutex
	merged *store.Entry // entry as the rests have updated it; nil if there were none
}

// add notes that rest continues the response, whose length is known by that. Requests that come now do not share a
// response that the origin has changed its mind about.
func (rs *rests) add(rest *originReply, length int64) {
	update := rest.entry().Header
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.merged == nil {
		rs.merged = rs.entry
	}
	merged := rs.merged.Clone()
	merged.Header = rest.joinedHeader(rs.merged.Header, update, length)
	rs.noteCredentials(merged)
	rs.merged = merged
	for _, name := range []string{"Cache-Control", "Expires", "Vary"} {
		if !slices.Equal(merged.Header[name], rs.entry.Header[name]) {
			rs.shared.Hide()
		}
	}
}

// joined returns the head of the response with its rests, and why it must not be stored, if so. RFC 9111, section 3.4.
func (rs *rests) joined() (e *store.Entry, why string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.merged == nil {
		return rs.entry, ""
	}
	r := asComplete(rs.merged)
	return rs.merged, storable(rs.x.rules, &r, rs.x.t.StaleIfError > 0)
}

// remainder returns what asks for the rest of a stored response, the whole of e, when the store has failed while it was
// being read: a store on a network can do so in the middle of a body. Without a strong entity tag the request is
// repeated, and what comes must begin with what is stored: a date may be that of another user's page. remainder is nil if the origin can't be asked.
func (x *exchange) remainder(c *stored.Content, r *response, e *store.Entry) func(span.Span) io.ReadCloser {
	if c.InMemory() || x.rules.cc.OnlyIfCached {
		return nil
	}
	if x.own == nil {
		x.detach() // the caller may change the request until then
	}
	a, whole := &originReply{x: x, requested: wallClock()}, *r
	return func(s span.Span) io.ReadCloser {
		ctx := x.req.Context()
		if !whole.continuable() || !field.IsStrongETag(whole.strongValidator()) {
			o := &result{code: whole.status, entry: e, announced: whole.length}
			return x.repeat(ctx, o, s.Start, func(body io.Reader, position int64) bool {
				return prefix.Same(body, c, position)
			})
		}
		rest, _, err := a.askAgain(ctx, &whole, s)
		if err != nil && ctx.Err() == nil {
			rest, err = a.askWhole(ctx, &whole, s)
		}
		if err != nil {
			return nil
		}
		return x.t.counted(rest.resp)
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
func (a *originReply) askAgain(ctx context.Context, r *response, s span.Span) (rest *originReply, length int64, err error) {
	out := a.x.plainRequest(ctx)
	r.askFor(s, out.Header)
	rest, err = a.sendAgain(out)
	if err != nil {
		return nil, 0, err
	}
	resp, taken := rest.resp, false
	defer func() {
		if !taken {
			resp.Body.Close()
		}
	}()
	if isFailure(resp.StatusCode) && !mayRefuseExtras(resp.StatusCode) {
		discard(resp)
		return nil, 0, errors.New(resp.Status)
	}
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && r.endsAt(s.Start, resp.Header) && !rest.redirected() {
		discard(resp)
		resp.Body = http.NoBody // only that it was the end was missing
		taken = true
		return rest, s.Start, nil
	}
	partial := newResponse(rest.entry())
	if _, length, ok := r.continues(&partial, s); ok && resp.StatusCode == http.StatusPartialContent && rest.sentAs(r) && !rest.redirected() {
		a.x.t.log(a.x.request(), "continued", slog.Int64("position", s.Start), slog.Int64("length", length))
		taken = true
		return rest, length, nil
	}
	return nil, 0, errDisagrees
}

// askWhole asks, within ctx, for all of r, of which the origin refuses the stretch s, and passes over what comes before
// that.
func (a *originReply) askWhole(ctx context.Context, r *response, s span.Span) (rest *originReply, err error) {
	rest, err = a.sendAgain(a.x.plainRequest(ctx))
	if err != nil {
		return nil, err
	}
	resp, taken := rest.resp, false
	defer func() {
		if !taken {
			resp.Body.Close()
		}
	}()
	whole := newResponse(rest.entry())
	same := resp.StatusCode == http.StatusOK && sameContent(r, &whole) && (whole.length < 0 || whole.length == r.length) &&
		whole.header.Get("Content-Encoding") == r.header.Get("Content-Encoding") && !whole.uncompressed && rest.sentAs(r) && !rest.redirected()
	if !same {
		return nil, errDisagrees
	}
	if _, err := io.CopyN(io.Discard, resp.Body, s.Start); err != nil {
		return nil, errDisagrees
	}
	taken = true
	return rest, nil
}

// plainRequest returns the request to send for x without what asks for less than the whole.
func (x *exchange) plainRequest(ctx context.Context) *http.Request {
	out := x.outgoing(ctx)
	for _, name := range []string{"If-None-Match", "If-Modified-Since", "Range", "If-Range"} {
		delete(out.Header, name)
	}
	return out
}

// sendAgain has Base make a further request for the one that a answers.
func (a *originReply) sendAgain(out *http.Request) (rest *originReply, err error) {
	resp, err := a.x.t.send(out)
	if err != nil {
		return nil, err
	}
	defer func() {
		if rest == nil { // as ModifyResponse refuses it, or panics
			resp.Body.Close()
		}
	}()
	if err := a.x.t.modify(resp); err != nil {
		return nil, errDisagrees
	}
	return &originReply{x: a.x, shared: a.shared, resp: resp, sent: out, sentEvent: a.sentEvent, requested: a.requested, received: wallClock()}, nil
}

// connectionLost reports whether err, which a body or Base returned, says that a connection broke. Any other error was
// made on purpose by a transport below, which limits bodies or verifies them for instance, and is the caller's.
func connectionLost(err error) bool {
	var op *net.OpError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return false
	case err == io.ErrUnexpectedEOF || err == io.EOF: // as net/http's bodies end; others wrap them to say something else
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

// lostTexts is how errors of net/http begin, of types that it does not export, that say that a connection broke.
var lostTexts = []string{
	"stream error: stream ID ", "http2: ", "connection error: ", // of HTTP/2
	"net/http: HTTP/1.x transport connection broken: ", "net/http: Transport failed to read from server: ",
}
