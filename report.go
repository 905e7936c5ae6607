package cachetrip

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"time"

	"github.com/cachetrip/cachetrip/internal/guard"
	"github.com/cachetrip/cachetrip/store"
)

// Telling hooks, logs and counters what happens.

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

// tell counts a request that was answered, and tells hooks and logs. key is
// that of the stored responses, or empty. status is used if StatusOf cannot
// tell it from the response.
func (t *Transport) tell(kind answerKind, req *http.Request, key string, resp *http.Response, status Status) {
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
	info := AnswerInfo{Request: req, Key: key, Response: resp, Status: status, Background: resp == nil}
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
		if s.RetryAfter != 0 {
			about = append(about, slog.Duration("retry-after", s.RetryAfter))
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
	t.storeWorks.Store(false)
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
		attrs = append(attrs, slog.String("url", shownURL(req.URL)))
	}
	t.Logger.LogAttrs(ctx, level, "cachetrip: "+message, append(attrs, about...)...)
}

// shownURL returns u as it is logged: without user information, query and
// fragment.
func shownURL(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return shown.String()
}

var silent = slog.New(slog.DiscardHandler)

func (t *Transport) logger() *slog.Logger {
	if t.Logger != nil {
		return t.Logger
	}
	return silent
}

// panicked logs a panic of Base, a body of Base or a hook.
func (t *Transport) panicked(p any, stack []byte) {
	defer func() { _ = recover() }() // a panic of the Logger itself
	t.logger().Error("cachetrip: panic in Base or a hook", "panic", p, "stack", string(stack))
}

// shielded calls f, and logs a panic of it, because no caller could get the
// panic.
func (t *Transport) shielded(f func()) {
	defer func() {
		if p := recover(); p != nil {
			t.panicked(p, debug.Stack())
		}
	}()
	f()
}
