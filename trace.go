package cachetrip

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// Seeing inside: hooks and log records for what becomes of each request, and of each response.

// Trace is a set of hooks that are called when something happens within a [Transport]: for all of its
// requests if it is the Transport's Trace, or for those whose context carries it, see [WithTrace]. A
// hook that is nil is not called.
//
// Exactly one of Hit, StaleHit, Revalidated, Collapsed, Miss and Refused is called for each response
// that RoundTrip returns, before it returns, in the goroutine that called it. The others are called
// when it happens, which may be while a body is read or closed, or in the background, even after the
// response was read: until Close returns, or what is being read then has ended. Hooks are therefore
// called concurrently for different requests, and must be safe for that. No lock is held, but
// somebody waits: a hook should be quick. It must not change what it is given. A hook that panics while RoundTrip runs
// makes RoundTrip panic; at other times the panic is logged, and changes nothing.
type Trace struct {
	Hit         func(AnswerInfo) // a fresh stored response was served, without asking the origin
	StaleHit    func(AnswerInfo) // a stale stored response was served: as that is allowed, or as the origin failed
	Revalidated func(AnswerInfo) // a stored response was served after the origin had confirmed it, or is confirmed in the background
	Collapsed   func(AnswerInfo) // another request's response was served, while that arrived
	Miss        func(AnswerInfo) // the origin's response was served; Status.Fwd and Status.Detail say why
	Refused     func(AnswerInfo) // a 504 was served: only-if-cached, and nothing stored can be used

	Stored     func(StoreInfo)      // a response was stored, all of it or a part that can be continued
	NotStored  func(StoreInfo)      // a response to a GET or HEAD, or one to a POST that GETs could use, was not stored; Reason says why
	StoreError func(StoreErrorInfo) // the store failed at something, which costs no more than a miss
	Evicted    func(EvictInfo)      // the store dropped something to keep its bounds
}

// AnswerInfo says how a request was answered.
type AnswerInfo struct {
	Request    *http.Request  // the request, or a copy of it
	Response   *http.Response // the response as it is returned; its body must be left alone. nil if Background
	Status     Status         // how it was obtained
	Background bool           // nobody waited for it: a revalidation behind a stale response that was served
}

// StoreInfo says what became of a response that could have been stored.
type StoreInfo struct {
	Request    *http.Request // the request that the response answers, or a copy of it
	StatusCode int           // of the response
	Length     int64         // of its body in bytes, -1 if that is not known
	Reason     string        // why it was not stored, a word such as "no-store" or "incomplete"; empty if it was
	Err        error         // the store's failure, if that is the reason; else nil
	Background bool          // nobody waited for the response
}

// StoreErrorInfo says what a store failed at.
type StoreErrorInfo struct {
	Request *http.Request // the request during which it failed, or a copy of it
	Op      string        // what was tried, such as "look up" or "store"
	Err     error         // what the store returned, never nil; [store.CauseOf] tells its cause
}

// EvictInfo says what a store dropped to keep its bounds.
type EvictInfo struct {
	Keys int // how many keys were dropped since the hook was last called, by any user of the same Store value
}

type traceKey struct{}

// traces are the traces that a context carries, the one that was added last first.
type traces struct {
	*Trace
	further *traces
}

// WithTrace returns a context whose requests call the hooks of trace, besides those of the traces
// that ctx carries already.
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

// observed reports whether anybody is told about a request: to be asked first where most requests
// pass.
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

// tell says how a request was answered. Status is what StatusOf can't tell from the response.
func (t *Transport) tell(kind answerKind, req *http.Request, resp *http.Response, status Status) {
	ctx := req.Context()
	if !t.observed(ctx) {
		return
	}
	told := false
	defer func() {
		if !told && resp != nil {
			resp.Body.Close() // which nobody is given
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

// request returns the request that hooks and logs are told: the caller's own may be changed once
// it is answered.
func (x *exchange) request() *http.Request {
	if x.asker != nil {
		return x.asker
	}
	if x.own != nil {
		return x.own
	}
	return x.req
}

// behind reports whether nobody waits for the answer.
func (x *exchange) behind() bool { return x.req == x.own }

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
	info := StoreInfo{Request: req, StatusCode: status, Length: length, Reason: reason, Err: err, Background: x.behind()}
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

// keepFailed tells that the store did not take a response: it failed, or keeps nothing so large. It
// returns the reason.
func (x *exchange) keepFailed(op string, e *store.Entry, err error) (reason string) {
	switch {
	case errors.Is(err, store.ErrTooLarge):
		reason = "too-large"
	case errors.Is(err, errShut):
		reason = "closed"
	default:
		reason = "store-error"
		x.storeFailed(op, err)
	}
	x.notStored(e.Status, e.Length, reason, err)
	return reason
}

func (x *exchange) storeFailed(op string, err error) { x.t.storeFailed(x.request(), op, err) }

// faultPause is how long after a failure of the store was logged others of the same cause are only counted: a disk that
// is full is so for hours, and for every request.
const faultPause = time.Minute

// storeFailed counts and tells a failure of the store that the caller is not to suffer from. That the store is not
// used any more after Close is none. req may be nil.
func (t *Transport) storeFailed(req *http.Request, op string, err error) {
	if errors.Is(err, errShut) {
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
	// The clock may have been set back since.
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

// evictions tells what the store has evicted since it was last asked.
func (x *exchange) evictions() {
	req := x.request()
	ctx := req.Context()
	if !x.t.observed(ctx) {
		return
	}
	total, _ := x.t.evictedByStore()
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

// raise sets a to value unless it is higher, and returns by how much.
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

// logs reports whether log does anything: to be asked first where most requests pass.
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
