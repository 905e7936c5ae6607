package cachetrip

import (
	"context"
	"net/http"

	"github.com/cachetrip/cachetrip/internal/guard"
)

// The use of the Store, which always goes through a guard. No other file uses
// the Store.

// keeps reports whether there is a Store.
func (t *Transport) keeps() bool { return t.Store != nil }

// storeFor returns the Store behind its guard, for a request. req is for hooks,
// if the Store fails; it may be nil.
func (t *Transport) storeFor(req *http.Request) guard.Store {
	return t.guard.For(t.Store, (*failureReporter)(t), req)
}

// failureReporter tells hooks and logs of failures of the Store.
type failureReporter Transport

// StoreFailed implements [guard.Reporter].
func (r *failureReporter) StoreFailed(req *http.Request, op string, err error) {
	(*Transport)(r).storeFailed(req, op, err)
}

// digester returns the keyed hash. The Store keeps its secret.
func (t *Transport) digester(ctx context.Context) (digester, error) {
	if secret := t.guard.Secret(); secret != nil {
		return secret, nil
	}
	return t.storeFor(nil).Secret(ctx)
}

// Stats returns the counters as they are now. Evictions counts for all
// Transports that use the Store. If the Store does not tell their number in
// time, it is the last one that it told.
func (t *Transport) Stats() Stats {
	s := t.counters.stats()
	s.Evictions = t.storeFor(nil).Evictions(context.Background())
	return s
}
