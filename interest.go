package cachetrip

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Until when a caller wants an answer.

// errCanceled is what a caller gets who has closed Request.Cancel, as from net/http.
var errCanceled = errors.New("cachetrip: request canceled")

// sameMoment is within what time a context ends that has the deadline which Request.Cancel was closed for.
const sameMoment = 10 * time.Millisecond

// interest returns a context that ends with the interest of who made a request: with the request's own, and
// with Request.Cancel, which http.Client uses for its Timeout with every RoundTripper but net/http's own.
// done has to be called when there is nothing to end any more.
func interest(req *http.Request) (ctx context.Context, done func()) {
	//lint:ignore SA1019 who still uses it is to be heard
	canceled := req.Cancel
	if canceled == nil {
		return req.Context(), func() {}
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	go func() {
		select {
		case <-ctx.Done():
			return
		case <-canceled:
		}
		// A Timeout is also a deadline of the request's context, and that it has passed says more.
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < sameMoment {
			<-ctx.Done()
		}
		cancel(errCanceled)
	}()
	return ctx, func() { cancel(nil) }
}

// watch returns the context that ends with the interest of the caller of x.
func (x *exchange) watch() context.Context {
	if x.ctx == nil {
		x.ctx, x.unwatch = interest(x.req)
	}
	return x.ctx
}
