package cachetrip

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/internal/guard"
	"github.com/cachetrip/cachetrip/store"
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
	Err        error         // the store's failure, if that is the reason; else nil
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

// eachTrace calls f with every trace that concerns a request.
func (t *Transport) eachTrace(ctx context.Context, f func(*Trace)) {
	if t.Trace != nil {
		f(t.Trace)
	}
	for ts := tracesOf(ctx); ts != nil; ts = ts.further {
		f(ts.Trace)
	}
}

// observed reports whether any hook or log is interested in a request. Most
// requests are not observed, so callers ask this first.
func (t *Transport) observed(ctx context.Context) bool {
	return t.Trace != nil || t.logs(ctx) || tracesOf(ctx) != nil
}

// answerKind is how a request was answered.
type answerKind int

const (
	answerHit answerKind = iota
	answerStale
	answerRevalidated
	answerCollapsed
	answerMiss
	answerRefused
)

// String names how a request was answered, for logs.
func (k answerKind) String() string {
	return [...]string{"hit", "stale hit", "revalidated", "collapsed", "miss", "refused"}[k]
}

func (k answerKind) hook(t *Trace) func(AnswerInfo) {
	return [...]func(AnswerInfo){t.Hit, t.StaleHit, t.Revalidated, t.Collapsed, t.Miss, t.Refused}[k]
}

// tell counts a request that was answered, and tells hooks and logs. Status is what StatusOf can't tell from the response.
func (t *Transport) tell(kind answerKind, req *http.Request, resp *http.Response, status Status) {
	if counter := t.counters.of(kind); counter != nil {
		counter.Add(1)
	}
	ctx := req.Context()
	if !t.observed(ctx) {
		return
	}
	told := false
	defer func() {
		if !told && resp != nil {
			resp.Body.Close() // RoundTrip panics, so no caller gets it
		}
	}()
	info := AnswerInfo{Request: req, Response: resp, Status: status, Background: resp == nil}
	if s := StatusOf(resp); s != (Status{}) {
		info.Status = s
	}
	if t.logs(ctx) {
		s := &info.Status
		var about []slog.Attr
		if resp != nil {
			about = append(about, slog.Int("status", resp.StatusCode))
		}
		if s.Fwd != "" {
			about = append(about, slog.String("fwd", s.Fwd))
		}
		if s.FwdStatus != 0 {
			about = append(about, slog.Int("fwd-status", s.FwdStatus))
		}
		if kind != answerMiss && kind != answerRefused {
			about = append(about, slog.Duration("ttl", s.TTL.Truncate(time.Second)))
		}
		if s.Detail != "" {
			about = append(about, slog.String("detail", s.Detail))
		}
		if info.Background {
			about = append(about, slog.Bool("background", true))
		}
		t.log(req, kind.String(), about...)
	}
	t.eachTrace(ctx, func(trace *Trace) {
		if f := kind.hook(trace); f != nil {
			f(info)
		}
	})
	told = true
}

// request returns the request that hooks and logs get. The caller may change
// its own request once it has the response.
func (x *exchange) request() *http.Request {
	if x.asker != nil {
		return x.asker
	}
	if x.own != nil {
		return x.own
	}
	return x.req
}

// wasStored tells that a response was stored.
func (x *exchange) wasStored(e *store.Entry) {
	x.t.counters.stored.Add(1)
	x.t.takes.Store(true)
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

// faultPause is the least time between two log records about the same cause of
// failure. Failures in between are only counted. A full disk stays full for
// hours, and fails for every request.
const faultPause = time.Minute

// storeFailed counts a failure of the store and tells it to hooks and logs. The
// caller does not notice the failure. errShut is not a failure: after Close the
// store is not used. req may be nil.
func (t *Transport) storeFailed(req *http.Request, op string, err error) {
	if errors.Is(err, guard.ErrShut) {
		return
	}
	if req == nil {
		req = new(http.Request)
	}
	cause := store.CauseOf(err)
	t.takes.Store(false)
	fault := &t.counters.storeFaults[cause]
	count := fault.count.Add(1)
	now := time.Now().UnixNano()
	told := fault.told.Load()
	// now < told: the clock was set back since.
	if t.Logger != nil && (told == 0 || now-told >= int64(faultPause) || now < told) && fault.told.CompareAndSwap(told, now) {
		t.logAs(slog.LevelWarn, req, "store error", slog.String("cause", cause.String()), slog.Uint64("count", count),
			slog.String("op", op), slog.Any("error", err))
	}
	ctx := req.Context()
	if !t.observed(ctx) {
		return
	}
	t.eachTrace(ctx, func(trace *Trace) {
		if trace.StoreError != nil {
			trace.StoreError(StoreErrorInfo{Request: req, Op: op, Err: err})
		}
	})
}

// evictions tells how many keys the store has evicted since the last call.
func (x *exchange) evictions() {
	req := x.request()
	ctx := req.Context()
	if !x.t.observed(ctx) {
		return
	}
	total, _ := x.store().Evictions()
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

// logs reports whether log writes anything. Most requests are not logged, so
// callers ask this first.
func (t *Transport) logs(ctx context.Context) bool {
	return t.Logger != nil && t.Logger.Enabled(ctx, slog.LevelDebug)
}

// log writes a record about a request.
func (t *Transport) log(req *http.Request, message string, about ...slog.Attr) {
	t.logAs(slog.LevelDebug, req, message, about...)
}

func (t *Transport) logAs(level slog.Level, req *http.Request, message string, about ...slog.Attr) {
	ctx := req.Context()
	if t.Logger == nil || !t.Logger.Enabled(ctx, level) {
		return
	}
	method := req.Method
	if method == "" {
		method = http.MethodGet
	}
	attrs := []slog.Attr{slog.String("method", method)}
	if req.URL != nil {
		u := url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Path: req.URL.Path}
		attrs = append(attrs, slog.String("url", u.String()))
	}
	t.Logger.LogAttrs(ctx, level, "cachetrip: "+message, append(attrs, about...)...)
}

var silent = slog.New(slog.DiscardHandler)

func (t *Transport) logger() *slog.Logger {
	if t.Logger != nil {
		return t.Logger
	}
	return silent
}
