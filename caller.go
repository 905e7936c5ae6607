package cachetrip

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cachetrip/cachetrip/internal/patience"
)

// How long a caller waits for an answer.

// errCanceled is the error for a caller that has closed Request.Cancel, as
// net/http has it.
var errCanceled = errors.New("cachetrip: request canceled")

// sameMoment is how close a deadline must be to count as the reason for which
// Request.Cancel was closed.
const sameMoment = 10 * time.Millisecond

// cancelOf returns Request.Cancel, which may be nil.
func cancelOf(req *http.Request) <-chan struct{} {
	return req.Cancel //lint:ignore SA1019 programs that still use it must be heard
}

// callerContext returns a context that ends when the caller of a request does
// not want an answer any more: with the request's own context, and with
// Request.Cancel, which http.Client uses for its Timeout with every
// RoundTripper but net/http's own. stop must be called when the request is
// over.
func callerContext(req *http.Request) (ctx context.Context, stop func()) {
	canceled := cancelOf(req)
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
		// A Timeout is also a deadline of the request's context. That it has
		// passed says more.
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < sameMoment {
			<-ctx.Done()
		}
		cancel(errCanceled)
	}()
	return ctx, func() { cancel(nil) }
}

// context returns the context of the caller of x. See callerContext.
func (x *exchange) context() context.Context {
	if x.ctx == nil {
		x.ctx, x.unwatch = callerContext(x.req)
	}
	return x.ctx
}

// waitsFor returns how long x may still wait for other requests: altogether no
// longer than its patience.
func (x *exchange) waitsFor() time.Duration {
	now := time.Now()
	if x.sharing.until.IsZero() {
		ctx := x.ctx
		if ctx == nil {
			ctx = x.req.Context() // it has the same deadline
		}
		x.sharing.until = now.Add(patience.Of(ctx, now, x.t.shareTimeout()))
	}
	return x.sharing.until.Sub(now)
}
