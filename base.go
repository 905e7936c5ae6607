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

// What Base returns. A Base may return the same response or header again, or a body that panics, and hooks may panic
// as well: none of that harms other requests.

// reply is a response of Base, copied, with its body.
type reply struct {
	http.Response
	body originBody
}

// send has Base make a request. The response is a copy, whose header and trailer may be written to. What a
// RoundTripper has to give, but one that is made up for a test may leave out, is added.
func (t *Transport) send(req *http.Request) (*http.Response, error) {
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
	if resp.Header = given.Header.Clone(); resp.Header == nil {
		resp.Header = make(http.Header)
	}
	resp.Header, _ = field.Canonical(resp.Header) // as net/http gives it
	t.guardBody(resp, given, &r.body)
	return resp, nil
}

// guardBody puts b around the body of resp, which has come as given, if it has one. The body of a 101 is the
// connection, and stays as it is.
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

// givenBy returns the response of Base that resp is a copy of. Its trailer is there when its body has ended.
func givenBy(resp *http.Response) *http.Response {
	if b, ok := resp.Body.(*originBody); ok {
		return b.given
	}
	return resp
}

// contentLength returns the length of what the body of resp will give, -1 if it is not known. Zero
// may also be what was never set.
func contentLength(resp *http.Response) int64 {
	if resp.ContentLength == 0 && resp.Body != http.NoBody {
		return -1
	}
	return resp.ContentLength
}

// modify lets ModifyResponse see resp, a copy that send returned. If that fails, the body of resp is closed.
func (t *Transport) modify(resp *http.Response) error {
	delete(resp.Header, fromCacheField) // which says that this cache answered
	if t.ModifyResponse == nil {
		return nil
	}
	header, body, given := resp.Header, resp.Body, givenBy(resp)
	done := false
	defer func() {
		if !done {
			body.Close()
			resp.Body = body // as others close it again
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
		resp.Header = maps.Clone(resp.Header) // the program may use it again
	}
	resp.Header, _ = field.Canonical(resp.Header)
	if resp.StatusCode != http.StatusSwitchingProtocols && resp.Body != body { // though it must not touch that
		if resp.Body == nil {
			body.Close()
		}
		t.guardBody(resp, given, new(originBody))
	}
	return nil
}

// originBody is the body of a response of Base. It closes the body that Base gave once, however often and by whom it is
// closed itself, and a panic in that is an error: some of those who close it are goroutines of the cache.
type originBody struct {
	io.ReadCloser // as Base gave it
	given, resp   *http.Response
	transport     *Transport
	closed        atomic.Bool

	// Of a body that a caller reads itself, see counted and claim. Then resp is the caller's, and is given the trailer.
	count   *atomic.Int64
	trailer sync.Once
	ctx     context.Context // of the caller, if the request has another; else nil
	leave   func()          // to be called at the end, if not nil
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

// copyTrailer gives resp what came after the body, in the map that it has, if any, as net/http does.
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

// counted returns the body of resp, which passes through the cache without being kept, its bytes counted.
func (t *Transport) counted(resp *http.Response) io.ReadCloser {
	if b, ok := resp.Body.(*originBody); ok {
		b.count = &t.counters.bytesReceived
	}
	return resp.Body
}

const (
	// discardBytes is what is read of a response that is of no use, so that its connection can be:
	// about what comes with a head in the same packets.
	discardBytes = 16 << 10

	// discardTime bounds the wait for it, should the origin have said that more comes than does.
	discardTime = 50 * time.Millisecond
)

// discard takes the body of a response that is of no use, if that is little, and closes it.
func discard(resp *http.Response) {
	if _, ok := resp.Body.(*originBody); ok && resp.ContentLength >= 0 && resp.ContentLength <= discardBytes {
		timer := time.AfterFunc(discardTime, func() { resp.Body.Close() })
		defer timer.Stop()
		io.CopyN(io.Discard, resp.Body, discardBytes)
	}
	resp.Body.Close()
}
