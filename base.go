package cachetrip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
)

// Requests to Base. A Base may return the same response or header twice, or a
// body that panics, and hooks may panic, too. None of that harms other
// requests.

// reply is a copy of a response of Base, with its body.
type reply struct {
	http.Response
	body originBody
}

// send makes a request with Base. The response is a copy, whose header and
// trailer may be changed. It has all fields that a RoundTripper must set, even
// if Base, such as a fake in a test, left them out.
func (t *Transport) send(req *http.Request) (*http.Response, error) {
	return t.sendBorrowing(req, false)
}

// sendBorrowing is send. If borrows is set, a 304 may have the header that Base
// has returned. It must not be changed, nor be read after the caller has its
// response.
func (t *Transport) sendBorrowing(req *http.Request, borrows bool) (*http.Response, error) {
	given, err := t.base().RoundTrip(req)
	switch {
	case err != nil:
		if given != nil && given.Body != nil {
			t.shielded(func() { given.Body.Close() })
		}
		return nil, err
	case given == nil:
		return nil, errors.New("cachetrip: Base returned neither a response nor an error")
	}
	r := &reply{Response: *given}
	resp := &r.Response
	resp.Trailer = given.Trailer.Clone()
	borrows = borrows && resp.StatusCode == http.StatusNotModified && t.ModifyResponse == nil
	header, isCopy := field.Received(given.Header) // in the form of net/http
	switch {
	case header == nil:
		header = make(http.Header)
	case !isCopy && !borrows:
		header = header.Clone()
	}
	resp.Header = header
	t.guardBody(resp, given, &r.body)
	return resp, nil
}

// guardBody puts b around the body of resp, if it has one. given is the
// response of Base. The body of a 101 is the connection, and stays as it is.
func (t *Transport) guardBody(resp, given *http.Response, b *originBody) {
	switch {
	case resp.Body == nil:
		resp.Body = http.NoBody
	case resp.Body == http.NoBody || resp.StatusCode == http.StatusSwitchingProtocols:
	default:
		b.ReadCloser, b.resp, b.given, b.transport = resp.Body, resp, given, t
		resp.Body = b
	}
}

// givenBy returns the response of Base that resp is a copy of. Its trailer is
// complete when its body has ended.
func givenBy(resp *http.Response) *http.Response {
	if b, ok := resp.Body.(*originBody); ok {
		return b.given
	}
	return resp
}

// contentLength returns the length of the body of resp, or -1 if it is unknown.
// A zero may mean that it was never set.
func contentLength(resp *http.Response) int64 {
	if resp.ContentLength == 0 && resp.Body != http.NoBody {
		return -1
	}
	return resp.ContentLength
}

// modify lets ModifyResponse see resp, a copy that send returned. If that
// fails, the body of resp is closed.
func (t *Transport) modify(resp *http.Response) error {
	if resp.Header[fromCacheField] != nil { // only this cache may set it
		resp.Header = resp.Header.Clone() // it may be borrowed
		delete(resp.Header, fromCacheField)
	}
	if t.ModifyResponse == nil {
		return nil
	}
	header, body, given := resp.Header, resp.Body, givenBy(resp)
	done := false
	defer func() {
		if !done {
			body.Close()
			resp.Body = body // so that a second Close does no harm
		}
	}()
	if err := t.ModifyResponse(resp); err != nil {
		return err
	}
	done = true
	switch {
	case resp.Header == nil:
		resp.Header = make(http.Header)
	case reflect.ValueOf(resp.Header).Pointer() != reflect.ValueOf(header).Pointer():
		resp.Header = maps.Clone(resp.Header) // the program may use its header again
	}
	resp.Header, _ = field.Received(resp.Header)
	if resp.StatusCode != http.StatusSwitchingProtocols && resp.Body != body { // ModifyResponse must not replace the body
		if resp.Body == nil {
			body.Close()
		}
		t.guardBody(resp, given, new(originBody))
	}
	return nil
}

// originBody is the body of a response of Base. It closes the body of Base
// once, no matter how often it is closed itself. It turns a panic of that Close
// into an error, because goroutines of the cache also close bodies.
type originBody struct {
	io.ReadCloser // the body of Base
	given, resp   *http.Response
	transport     *Transport
	closed        atomic.Bool

	// These fields are for a body that a caller reads itself; see counted and
	// claim. resp is the caller's response, which gets the trailer.
	count   *atomic.Int64
	trailer sync.Once
	ctx     context.Context // the caller's context, if the request has another one; else nil
	leave   func()          // called at the end; may be nil
}

func (b *originBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.count == nil {
		return n, err
	}
	b.count.Add(int64(n))
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF:
		b.trailer.Do(b.copyTrailer)
	case b.ctx != nil && b.ctx.Err() != nil:
		err = context.Cause(b.ctx)
	}
	b.left()
	return n, err
}

// copyTrailer puts the trailer into resp after the body, into the map that it
// already has, if any, as net/http does.
func (b *originBody) copyTrailer() {
	switch {
	case b.given == b.resp || len(b.given.Trailer) == 0:
	case b.resp.Trailer == nil:
		b.resp.Trailer = b.given.Trailer.Clone()
	default:
		maps.Copy(b.resp.Trailer, b.given.Trailer)
	}
}

func (b *originBody) Close() (err error) {
	defer b.left()
	if b.closed.Swap(true) {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("cachetrip: panic in the Close of a body of Base: %v", p)
			b.transport.panicked(p, debug.Stack())
		}
	}()
	return b.ReadCloser.Close()
}

func (b *originBody) left() {
	if b.leave != nil {
		b.leave()
	}
}

// counted returns the body of resp, which is not stored, and counts its bytes.
func (t *Transport) counted(resp *http.Response) io.ReadCloser {
	if b, ok := resp.Body.(*originBody); ok {
		b.count = &t.counters.bytesReceived
	}
	return resp.Body
}

const (
	// discardBytes is how much is read of an unneeded body, so that its
	// connection can be used again. It is about as much as arrives in the same
	// packets as a header.
	discardBytes = 16 << 10

	// discardTime limits the wait for these bytes, in case the origin announced
	// more than it sends.
	discardTime = 50 * time.Millisecond
)

// discard closes an unneeded body. It reads the body to its end first, if that
// is near.
func discard(resp *http.Response) {
	if _, ok := resp.Body.(*originBody); ok && resp.ContentLength >= 0 && resp.ContentLength <= discardBytes {
		timer := time.AfterFunc(discardTime, func() { resp.Body.Close() })
		defer timer.Stop()
		io.CopyN(io.Discard, resp.Body, discardBytes)
	}
	resp.Body.Close()
}
