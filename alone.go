package cachetrip

import (
	"context"
	"io"
	"net/http"

	"github.com/cachetrip/cachetrip/internal/download"
	"github.com/cachetrip/cachetrip/internal/field"
)

// Going on alone with a body that was read along with another request, or from a store that has lost it: the transfer
// has stalled or broken off, or the others did not wait. RFC 9111, section 3.4.

// alone returns what asks the origin, in the name of the caller of x, for the rest of the response of o. If a validator
// proves that a rest belongs to what the caller has, that is asked for. Else the request is repeated, and what comes
// must begin with what the caller has, byte by byte: then it is as if that had been the response all along.
func (x *exchange) alone(o *result) func(download.Shared) download.Rest {
	if x.rules.cc.OnlyIfCached {
		return nil
	}
	return func(has download.Shared) download.Rest {
		var again download.Rest
		if o.continues && !has.Whole && x.mayContinue(o) {
			a := &originReply{x: x, requested: wallClock()}
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
			return x.repeat(has.Context, o, position, has.Begins), -1
		}
	}
}

// mayContinue reports whether a validator identifies the content of o for x: a date does so only among requests that are
// alike.
func (x *exchange) mayContinue(o *result) bool {
	return field.IsStrongETag(o.response.strongValidator()) || alikeDigest(x.rules) == alikeDigest(o.asked)
}

// maxRepeats bounds how often a request is repeated for the rest of a body: once, and once more if that breaks off.
const maxRepeats = 2

// repeat asks for a response like that of o anew, and returns its body from a position on, or nil if the content before
// that is another one.
func (x *exchange) repeat(ctx context.Context, o *result, position int64, begins func(io.Reader, int64) bool) io.ReadCloser {
	out := x.outgoing(ctx)
	delete(out.Header, "If-None-Match")
	delete(out.Header, "If-Modified-Since")
	resp, err := x.send(out)
	if err != nil {
		return nil
	}
	if err := x.t.modify(resp); err != nil {
		return nil
	}
	if followed(resp, out, x.own.URL) || !o.repeatedBy(resp) || !begins(resp.Body, position) {
		resp.Body.Close()
		return nil
	}
	return resp.Body
}

// repeatedBy reports whether resp may have the same content as the response of o, by its header. Whether something below
// the cache has decoded it does not matter.
func (o *result) repeatedBy(resp *http.Response) bool {
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
