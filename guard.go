package cachetrip

import (
	"context"
	"net/http"

	"github.com/cachetrip/cachetrip/internal/guard"
	"github.com/cachetrip/cachetrip/internal/patience"
)

// The one way from a Transport to its Store is a guard: no other file uses the Store.

// keeps reports whether there is a Store.
func (t *Transport) keeps() bool { return t.Store != nil }

// storeFor returns the Store as a request uses it. Hooks are told of req when the Store fails; it
// may be nil.
func (t *Transport) storeFor(req *http.Request) guard.Store {
	return t.guard.For(t.Store, (*failureReporter)(t), req)
}

// failureReporter tells hooks and logs of failures of the Store.
type failureReporter Transport

// StoreFailed implements [guard.Reporter].
func (r *failureReporter) StoreFailed(req *http.Request, op string, err error) {
	(*Transport)(r).storeFailed(req, op, err)
}

// store returns the Store as x uses it.
func (x *exchange) store() guard.Store { return x.t.storeFor(x.request()) }

// lasting returns a context for calls of the Store that the caller's end does not end. They still
// take no longer than the caller has patience.
func (x *exchange) lasting() context.Context {
	if x.behind {
		return context.WithoutCancel(x.req.Context())
	}
	return patience.Lasting(x.req.Context())
}

// digester returns the keyed hash. The Store keeps its secret.
func (t *Transport) digester(ctx context.Context) (digester, error) {
	if secret := t.guard.Secret(); secret != nil {
		return secret, nil
	}
	return t.storeFor(nil).Secret(ctx)
}
