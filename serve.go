package cachetrip

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/internal/stored"
	"github.com/cachetrip/cachetrip/store"
)

// Making the responses that callers get.

// serve returns the stored response e, with the given age, for the caller. r is
// e as the rules see it. It returns an error if the content cannot be read.
func (x *exchange) serve(e *store.Entry, r *response, age time.Duration, status Status) (*http.Response, error) {
	status.TTL = r.lifetime() - age
	whole := x.newFromStore()
	resp := &whole.Response
	x.head(resp, e, fromCache(r, age, status))
	if status.FwdStatus != http.StatusNotModified || status.Collapsed {
		withoutValidation(resp.Header, r)
	}

	answer, spans := r.ranges(x.rules)
	switch {
	case r.notModified(x.rules):
		resp.StatusCode = http.StatusNotModified
		notModifiedHeader(resp.Header)
		withoutContentDigests(resp.Header)
		resp.ContentLength = 0
	case x.rules.method == http.MethodHead:
	case r.length == 0 && answer == wholeAnswer:
		trailed(resp)
	case answer == noneAnswer:
		resp.StatusCode = http.StatusRequestedRangeNotSatisfiable
		notModifiedHeader(resp.Header)
		withoutContentDigests(resp.Header)
		resp.Header["Content-Range"] = []string{"bytes */" + strconv.FormatInt(r.length, 10)}
		resp.ContentLength = 0
	case answer == originsAnswer:
		return nil, store.ErrDamaged // not reached: decide does not select it
	default:
		if err := x.open(&whole.content, e); err != nil {
			if !errors.Is(err, store.ErrDamaged) && x.req.Context().Err() == nil {
				x.storeFailed("open", err)
			}
			return nil, err
		}
		if answer == spansAnswer {
			x.servePart(resp, &whole.content, r.length, spans)
		} else {
			trailed(resp)
			options := stored.Options{Count: &x.t.counters.bytesServed, Rest: x.remainder(&whole.content, r, e)}
			if len(e.Parts) > 1 {
				x.checkParts(e, &options)
			}
			whole.body.Init(&whole.content, span.Of(0, r.length), options)
			resp.Body = &whole.body
		}
	}
	resp.Status = statusLine(resp.StatusCode)
	return resp, nil
}

// open opens the content of e. If it is damaged, e is dropped from the store.
func (x *exchange) open(c *stored.Content, e *store.Entry) error {
	if len(e.Parts) == 1 && e.Parts[0].Blob.Inline != nil {
		return c.Open(e.Parts, nil, nil) // it was verified together with e
	}
	ctx, s := x.storeContext(), x.store()
	return c.Open(e.Parts, func(blob store.Blob) (store.Body, error) {
		return s.Open(ctx, e.Key, blob)
	}, func() { x.drop(e, "dropped a damaged response") })
}

// statusLine returns the Status of an http.Response.
func statusLine(code int) string {
	if code == http.StatusOK {
		return "200 OK" // the most frequent code, without an allocation
	}
	return strconv.Itoa(code) + " " + http.StatusText(code)
}

// withoutValidation removes fields from h, the header of r. A no-cache with
// field names forbids using these without validation. RFC 9111, section
// 5.2.2.4.
func withoutValidation(h http.Header, r *response) {
	for _, name := range r.cc.NoCacheFields {
		delete(h, name)
	}
}

// trailed changes a whole response with a trailer to the form in which net/http
// receives one over HTTP/1.1. [http.Response.Write] writes the trailer only in
// that form. A response that announces its length, as HTTP/2 allows beside a
// trailer, stays as it is.
func trailed(resp *http.Response) {
	if len(resp.Trailer) > 0 && resp.Header["Content-Length"] == nil {
		resp.TransferEncoding, resp.ContentLength = []string{"chunked"}, -1
	}
}

// storeContext returns the caller's context. If that has ended, and the store
// shall replace the origin, it returns a context without an end. The wait for
// the store is then limited to overtime.
func (x *exchange) storeContext() context.Context {
	ctx := x.req.Context()
	if ctx.Err() != nil {
		return patience.Until(context.WithoutCancel(ctx), time.Now().Add(overtime*4)) // patience is a quarter of it
	}
	return ctx
}

// overtime is how long the store may take for a stale response after the
// caller's deadline.
const overtime = 50 * time.Millisecond

// head sets the fields of a new response from e: all but the body, with the
// given header.
func (x *exchange) head(resp *http.Response, e *store.Entry, header http.Header) {
	resp.StatusCode = e.Status
	resp.Proto = e.Proto
	resp.Header = header
	resp.Body = http.NoBody
	resp.ContentLength = e.Length
	resp.Uncompressed = e.Uncompressed
	resp.Trailer = e.Trailer.Clone()
	resp.Request = x.req
	resp.ProtoMajor, resp.ProtoMinor, _ = http.ParseHTTPVersion(e.Proto)
	if !x.t.KeepSetCookie {
		delete(resp.Header, "Set-Cookie") // stored with KeepSetCookie, or by an earlier version
	}
	if e.Uncompressed {
		resp.ContentLength = -1 // as in net/http
	}
}

// servePart makes resp a 206 with one span, or several. RFC 9110, section
// 15.3.7.
func (x *exchange) servePart(resp *http.Response, c *stored.Content, length int64, spans []span.Span) {
	withoutContentDigests(resp.Trailer)
	options := stored.Options{Count: &x.t.counters.bytesServed}
	if len(spans) == 1 {
		partHeader(resp, spans[0], length)
		resp.Body = stored.NewBody(c, spans[0], options)
		return
	}
	body, boundary, size := stored.NewMultipart(c, spans, length, resp.Header.Get("Content-Type"), options)
	resp.StatusCode = http.StatusPartialContent
	withoutContentDigests(resp.Header)
	resp.Header["Content-Type"] = []string{"multipart/byteranges; boundary=" + boundary}
	resp.ContentLength = size
	resp.Header["Content-Length"] = []string{strconv.FormatInt(size, 10)}
	resp.Body = body
}

// partHeader turns the header of resp into that of a 206 with one span.
func partHeader(resp *http.Response, s span.Span, length int64) {
	resp.StatusCode = http.StatusPartialContent
	withoutContentDigests(resp.Header)
	resp.ContentLength = s.Length()
	resp.Header["Content-Range"] = []string{s.ContentRange(length)}
	resp.Header["Content-Length"] = []string{strconv.FormatInt(resp.ContentLength, 10)}
}

// refusal returns the response to only-if-cached if no stored response can be
// used, which status explains. RFC 9111, section 5.2.1.7.
func refusal(req *http.Request, status Status) *http.Response {
	const text = "cachetrip: only-if-cached, and nothing stored can be used\n"
	resp := &http.Response{
		Status:        "504 Gateway Timeout",
		StatusCode:    http.StatusGatewayTimeout,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}, "Content-Length": {strconv.Itoa(len(text))}},
		Body:          stored.Text(text),
		ContentLength: int64(len(text)),
		Request:       req,
	}
	if req.Method == http.MethodHead {
		resp.Body = http.NoBody
	}
	setGenerated(resp.Header, status)
	return resp
}

// checkParts has the body of e checked while it is read, if its parts were
// joined without that.
func (x *exchange) checkParts(e *store.Entry, o *stored.Options) {
	if e.Selecting[checked] != "" || e.Uncompressed {
		return
	}
	if o.Check = joinedCheck(e.Header, e.Length); o.Check == nil {
		return
	}
	if x.own == nil {
		x.detach() // the caller may change its request before the body ends
	}
	o.Checked = func(wrong error) {
		if wrong != nil {
			x.dropWrong(e.Parts, wrong)
		}
	}
}

// dropWrong removes the stored responses that use one of the parts of a body,
// because the body does not have its digest.
func (x *exchange) dropWrong(parts []store.Part, wrong error) {
	x.drop(&store.Entry{Parts: parts}, "dropped a response in parts", slog.String("detail", "digest"), slog.Any("error", wrong))
}

// drop removes a stored response with unusable content. It logs message.
func (x *exchange) drop(e *store.Entry, message string, about ...slog.Attr) {
	x.t.log(x.request(), message, about...)
	err := x.store().Invalidate(x.lasting(), x.key, func(current []*store.Entry) []*store.Entry {
		return without(current, func(other *store.Entry) bool { return sharesBlob(e, other) })
	})
	if err != nil {
		x.storeFailed("drop", err)
	}
}
