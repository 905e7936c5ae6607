package cachetrip

import (
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/cachetrip/cachetrip/internal/guard"
	"github.com/cachetrip/cachetrip/store"
)

// Reports about responses that were stored or not.

// wasStored tells that a response was stored.
func (x *exchange) wasStored(e *store.Entry) {
	x.t.counters.stored.Add(1)
	x.t.storeWorks.Store(true)
	x.told("stored", e.Status, e.Length, "", nil, func(t *Trace) func(StoreInfo) { return t.Stored })
	x.evictions()
}

// notStored tells that a response was not stored, and why. err may be nil.
func (x *exchange) notStored(status int, length int64, reason string, err error) {
	x.told("not stored", status, length, reason, err, func(t *Trace) func(StoreInfo) { return t.NotStored })
}

func (x *exchange) told(message string, status int, length int64, reason string, err error, hook func(*Trace) func(StoreInfo)) {
	req := x.request()
	ctx := req.Context()
	if !x.t.observed(ctx) {
		return
	}
	info := StoreInfo{Request: req, StatusCode: status, Length: length, Reason: reason, Err: err, Background: x.behind}
	if x.t.logs(ctx) {
		about := []slog.Attr{slog.Int("status", status), slog.Int64("length", length)}
		if reason != "" {
			about = append(about, slog.String("detail", reason))
		}
		if err != nil {
			about = append(about, slog.Any("error", err))
		}
		x.t.log(req, message, about...)
	}
	x.t.eachTrace(ctx, func(trace *Trace) {
		if f := hook(trace); f != nil {
			f(info)
		}
	})
}

// keepFailed tells that the store did not take a response, because it failed or
// because the response is too large for it. It returns the reason.
func (x *exchange) keepFailed(op string, e *store.Entry, err error) (reason string) {
	switch {
	case errors.Is(err, store.ErrTooLarge):
		reason = "too-large"
	case errors.Is(err, guard.ErrShut):
		reason = "closed"
	default:
		reason = "store-error"
		x.storeFailed(op, err)
	}
	x.notStored(e.Status, e.Length, reason, err)
	return reason
}

func (x *exchange) storeFailed(op string, err error) { x.t.storeFailed(x.request(), op, err) }

// evictions tells how many keys the store has evicted since the last call.
func (x *exchange) evictions() {
	req := x.request()
	ctx := req.Context()
	if !x.t.observed(ctx) {
		return
	}
	total := x.store().Evictions(x.lasting())
	n := raise(&x.t.evicted, total)
	if n == 0 {
		return
	}
	x.t.log(req, "evicted", slog.Uint64("keys", n))
	x.t.eachTrace(ctx, func(trace *Trace) {
		if trace.Evicted != nil {
			trace.Evicted(EvictInfo{Keys: int(n)})
		}
	})
}

// raise sets a to value unless a is already higher. It returns the difference.
func raise(a *atomic.Uint64, value uint64) uint64 {
	for {
		before := a.Load()
		if value <= before {
			return 0
		}
		if a.CompareAndSwap(before, value) {
			return value - before
		}
	}
}
