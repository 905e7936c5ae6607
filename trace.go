package cachetrip

import (
	"context"
	"net/http"
)

// Hooks and log records that tell what becomes of each request and response.

// Trace is a set of hooks that a [Transport] calls when something happens. The
// hooks in Transport.Trace are called for all requests. Hooks that a context
// carries are called for its requests; see [WithTrace]. A nil hook is not
// called.
//
// For each response, RoundTrip calls exactly one of Hit, StaleHit, Revalidated,
// Collapsed, Miss and Refused. It calls the hook before it returns, in the
// goroutine of the caller. The other hooks are called when the event happens:
// while a body is read or closed, or in the background. They can be called
// after the response was read, until Close returns and the bodies that are
// being read have ended.
//
// Hooks are called concurrently for different requests, and must be safe for
// that. No lock is held, but a caller may be waiting, so a hook should be
// quick. A hook must not change its argument. A hook that panics while
// RoundTrip runs makes RoundTrip panic. At other times the panic is logged, and
// changes nothing.
type Trace struct {
	Hit         func(AnswerInfo) // a fresh stored response was served, without asking the origin
	StaleHit    func(AnswerInfo) // a stale stored response was served, because that is allowed or because the origin failed
	Revalidated func(AnswerInfo) // a stored response was served after the origin confirmed it, or was confirmed in the background
	Collapsed   func(AnswerInfo) // another request's response was served, while that arrived
	Miss        func(AnswerInfo) // the origin's response was served; Status.Fwd and Status.Detail say why
	Refused     func(AnswerInfo) // a 504 was served, because the request says only-if-cached and no stored response can be used

	Stored     func(StoreInfo)      // a response was stored, whole or as a part that can be continued
	NotStored  func(StoreInfo)      // a response to a GET or HEAD, or to a POST whose response GETs could use, was not stored; Reason says why
	StoreError func(StoreErrorInfo) // an operation of the store failed, which costs at most a miss
	Evicted    func(EvictInfo)      // the store evicted keys to stay within its limits
}

// AnswerInfo says how a request was answered.
type AnswerInfo struct {
	Request    *http.Request  // the request, or a copy of it
	Key        string         // the key of its stored responses, see store.Store; empty if the request does not concern the cache
	Response   *http.Response // the response as it is returned; its body must be left alone. nil if Background
	Status     Status         // how it was obtained
	Background bool           // no caller waited: a revalidation in the background after a stale response was served
}

// StoreInfo says whether a response was stored, or why not.
type StoreInfo struct {
	Request    *http.Request // the request that the response answers, or a copy of it
	StatusCode int           // of the response
	Length     int64         // of its body in bytes, -1 if that is not known
	Reason     string        // why it was not stored, a word such as "no-store" or "incomplete"; empty if it was
	Err        error         // the store's failure, or the digest that the body does not match, if that is the reason; else nil
	Background bool          // no caller waited for the response
}

// StoreErrorInfo describes a failed operation of the store.
type StoreErrorInfo struct {
	Request *http.Request // the request that needed the store, or a copy of it
	Op      string        // the operation, such as "look up" or "store"
	Err     error         // the error of the store, never nil; [store.CauseOf] returns its cause
}

// EvictInfo says how much a store evicted to stay within its limits.
type EvictInfo struct {
	Keys int // the keys evicted since the last call of the hook, by any user of the same Store value
}

type traceKey struct{}

// traces is the list of traces in a context. The trace that was added last
// comes first.
type traces struct {
	*Trace
	further *traces
}

// WithTrace returns a context whose requests call the hooks of trace, in
// addition to those that ctx already has.
func WithTrace(ctx context.Context, trace *Trace) context.Context {
	if trace == nil {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, &traces{trace, tracesOf(ctx)})
}

func tracesOf(ctx context.Context) *traces {
	ts, _ := ctx.Value(traceKey{}).(*traces)
	return ts
}
