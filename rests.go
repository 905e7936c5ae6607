package cachetrip

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"

	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/store"
)

// Requests for the rest of a body, after the caller has got its beginning, and
// the headers of the responses to them: RFC 9111, section 3.4.

// rests collects the headers of the responses that bring the rest of another
// one, whose transfer broke off. It is safe for concurrent use.
type rests struct {
	reply *originReply // the response whose transfer broke off
	entry *store.Entry // the entry to be stored without a rest

	mu     sync.Mutex
	merged *store.Entry // entry, updated by the rests; nil if there were none
}

// add records that rest continues the response. length is that of all content.
// If the origin now forbids caching, no other request joins the response any
// more.
func (rs *rests) add(rest *originReply, length int64) {
	update := rest.entry().Header
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.merged == nil {
		rs.merged = rs.entry
	}
	merged := rs.merged.Clone()
	merged.Header = rest.joinedHeader(rs.merged.Header, update, length)
	rs.reply.noteCredentials(merged)
	rs.merged = merged
	for _, name := range []string{"Cache-Control", "Expires", "Vary"} {
		if !slices.Equal(merged.Header[name], rs.entry.Header[name]) {
			rs.reply.shared.Hide()
		}
	}
}

// joined returns the entry to be stored for the response with its rests. why is
// the reason if it must not be stored.
func (rs *rests) joined() (e *store.Entry, why string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.merged == nil {
		return rs.entry, ""
	}
	r := rs.reply.x.wholeOf(rs.merged)
	return rs.merged, rs.reply.x.storable(&r)
}

// errDisagrees is the error of a response that does not continue the caller's
// bytes.
var errDisagrees = errors.New("cachetrip: not a continuation")

// askRange requests the stretch s of r. It returns the response and the length
// of all content. If the error is errDisagrees, further requests are useless.
func (a *originReply) askRange(ctx context.Context, r *response, s span.Span) (rest *originReply, length int64, err error) {
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
	partial := newResponse(rest.entry())
	_, length, fits := r.continues(&partial, s)
	switch {
	case isFailure(resp.StatusCode) && !mayRefuseExtras(resp.StatusCode):
		discard(resp)
		return nil, 0, errors.New(resp.Status)
	case rest.redirected():
		return nil, 0, errDisagrees
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && r.endsAt(s.Start, resp.Header):
		discard(resp)
		resp.Body, length = http.NoBody, s.Start // only the end was missing
	case resp.StatusCode != http.StatusPartialContent || !fits || !rest.sentAs(r):
		return nil, 0, errDisagrees
	default:
		a.x.t.log(a.x.request(), "continued", slog.Int64("position", s.Start), slog.Int64("length", length))
	}
	taken = true
	return rest, length, nil
}

// askWhole sends the request out, for the whole of a response again. isSame
// decides by the header whether it is the same response. begins reads the body
// up to position, and decides whether these are the caller's bytes. The
// remaining body is then the rest for the caller.
func (a *originReply) askWhole(out *http.Request, position int64, isSame func(*originReply) bool, begins func(io.Reader, int64) bool) (*originReply, error) {
	again, err := a.sendAgain(out)
	if err != nil {
		return nil, err
	}
	taken := false
	defer func() {
		if !taken {
			again.resp.Body.Close()
		}
	}()
	if again.redirected() || !isSame(again) || !begins(again.resp.Body, position) {
		return nil, errDisagrees
	}
	taken = true
	return again, nil
}

// skips is a begins for askWhole that compares nothing, if the header proves
// that the content is the same.
func skips(body io.Reader, position int64) bool {
	_, err := io.CopyN(io.Discard, body, position)
	return err == nil
}

// brings reports whether a strong entity tag proves that the response is r
// again.
func (a *originReply) brings(r *response) bool {
	again := newResponse(a.entry())
	return a.resp.StatusCode == http.StatusOK && sameContent(r, &again) && (again.length < 0 || again.length == r.length) &&
		again.header.Get("Content-Encoding") == r.header.Get("Content-Encoding") && !again.uncompressed && a.sentAs(r)
}

// repeatedBy reports whether a response may have the same content as that of o,
// by its header. It does not matter whether a transport below has decoded it.
func (o *result) repeatedBy(a *originReply) bool {
	resp := a.resp
	for _, name := range []string{etagField, "Last-Modified", "Content-Type", "Content-Encoding"} {
		if resp.Header.Get(name) != o.entry.Header.Get(name) {
			return false
		}
	}
	if o.code == http.StatusPartialContent {
		if s, _, ok := contentRange(resp.Header); !ok || s != o.brings {
			return false
		}
	}
	return resp.StatusCode == o.code && (o.announced < 0 || resp.ContentLength == o.announced)
}

// repeatedRequest returns the request of the caller without its conditions.
func (x *exchange) repeatedRequest(ctx context.Context) *http.Request {
	return x.requestWithout(ctx, "If-None-Match", "If-Modified-Since")
}

// plainRequest returns the request of the caller without its range.
func (x *exchange) plainRequest(ctx context.Context) *http.Request {
	return x.requestWithout(ctx, "If-None-Match", "If-Modified-Since", "Range", "If-Range")
}

func (x *exchange) requestWithout(ctx context.Context, names ...string) *http.Request {
	out := x.outgoing(ctx)
	for _, name := range names {
		delete(out.Header, name)
	}
	return out
}

// sendAgain sends out, another request for the exchange of a.
func (a *originReply) sendAgain(out *http.Request) (rest *originReply, err error) {
	resp, err := a.x.t.send(out)
	if err != nil {
		return nil, err
	}
	defer func() {
		if rest == nil { // ModifyResponse refuses it, or panics
			resp.Body.Close()
		}
	}()
	if err := a.x.t.modify(resp); err != nil {
		return nil, errDisagrees
	}
	return &originReply{x: a.x, shared: a.shared, resp: resp, sent: out, sentEvent: a.sentEvent, requested: a.requested, received: wallClock()}, nil
}
