package origins_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
)

// An odd Base, an odd body or a hook that panics must not harm the cache or
// other requests.

// panics calls f, and reports what that panicked with.
func panics(f func()) (p any) {
	defer func() { p = recover() }()
	f()
	return nil
}

// TestBodiesThatPanicWhenClosed has bodies of Base panic in Close wherever they
// are closed: nothing comes of it but a record in the log.
func TestBodiesThatPanicWhenClosed(t *testing.T) {
	for name, test := range map[string]struct {
		lines  []string
		read   int // bytes
		cancel bool
		header []string
	}{
		"stored, read to the end":      {[]string{harness.Fresh, `ETag: "1"`}, 1 << 30, false, nil},
		"stored, closed early":         {[]string{harness.Fresh, `ETag: "1"`}, 10, false, nil},
		"stored, cancelled":            {[]string{harness.Fresh, `ETag: "1"`}, 10, true, nil},
		"not stored, read to the end":  {[]string{"Cache-Control: no-store"}, 1 << 30, false, nil},
		"not stored, closed early":     {[]string{"Cache-Control: no-store"}, 10, false, nil},
		"not stored, cancelled":        {[]string{"Cache-Control: no-store"}, 10, true, nil},
		"past the cache, closed early": {[]string{harness.Fresh}, 10, false, []string{"Cache-Control", "no-store"}},
	} {
		t.Run(name, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				var log harness.LockedBuffer
				r.Logger = slog.New(slog.NewTextHandler(&log, nil))
				r.DrainBytes = -1
				bodies := r.Watch(func() { panic("closed") })
				release := make(chan struct{})
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					body := harness.Noise(300_000, 70)
					c.Head(200, append(test.lines, "Content-Length: 300000")...)
					c.Content(body[:1000])
					if test.read < 1000 {
						select {
						case <-release:
						case <-c.Gone:
							return
						}
					}
					c.Content(body[1000:])
				})
				defer origin.Close()
				defer close(release)
				ctx, cancel := context.WithCancel(r.Context())
				defer cancel()
				resp := r.Send(ctx, origin.URL(), test.header...)
				io.CopyN(io.Discard, resp.Body, int64(test.read))
				if test.cancel {
					cancel()
					if strings.HasPrefix(name, "not") { // its caller has the body itself
						resp.Body.Close()
					}
				} else {
					resp.Body.Close()
				}
				bodies.WantClosed(r, 1)
				if resp.Body.Close(); !strings.Contains(log.String(), "panic=closed") {
					r.Errorf("the panic is not logged:\n%s", log.String())
				}
			})
		})
	}
}

// TestDiscardedBodiesThatPanicWhenClosed: so it is for bodies that no caller is
// given.
func TestDiscardedBodiesThatPanicWhenClosed(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		bodies := r.Watch(func() { panic("closed") })
		begun := make(chan struct{}, 10)
		release := make(chan struct{})
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			switch {
			case c.URL.Path == "/late":
				begun <- struct{}{}
				<-release
				c.Whole([]byte("x"), "Cache-Control: no-store")
			case c.N == 0:
				c.Whole([]byte("x"), "Cache-Control: max-age=0, stale-if-error=100", `ETag: "1"`)
			case c.N == 1:
				c.Head(304, `ETag: "1"`)
			case c.N == 2: // more is announced than comes, so that it is closed by a timer
				c.Head(503, "Content-Length: 100")
				<-c.Gone
			}
		})
		defer origin.Close()
		r.Get(origin.URL())
		resp, _ := r.Get(origin.URL())
		harness.WantStatus(r, resp, "fwd-status=304")
		resp, _ = r.Get(origin.URL())
		harness.WantStatus(r, resp, "fwd-status=503", "detail=stale-if-error")
		ctx, cancel := context.WithCancel(r.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := r.RoundTrip(r.Request(ctx, origin.URL()+"/late")); err != context.Canceled {
				r.Errorf("got %v", err)
			}
		}()
		<-begun
		cancel()
		harness.Within(r, "a request that was cancelled", done)
		close(release)
		bodies.WantClosed(r, 3)
	})
}

// TestResponseAndError: a Base that returns both a response and an error is not
// asked to, and its body is closed.
func TestResponseAndError(t *testing.T) {
	failed := errors.New("failed")
	for _, close := range []func(){nil, func() { panic("closed") }} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			harness.EachCache(t, func(r *harness.Cache) {
				bodies := new(harness.WatchedBodies)
				r.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: 200, Header: http.Header{}, Body: bodies.Add(strings.NewReader("x"), close)}, failed
				})
				ctx, cancel := context.WithCancel(r.Context())
				defer cancel()
				for _, ctx := range []context.Context{r.Context(), ctx} {
					req := r.Request(ctx, "http://origin.test/")
					req.Method = method
					if resp, err := r.RoundTrip(req); resp != nil || err != failed {
						r.Errorf("%s: got %v, %v", method, resp, err)
					}
				}
				bodies.WantClosed(r, 2)
			})
		}
	}
}

// TestModifyResponseMayDoAnything has ModifyResponse replace and remove the
// header, fail and panic.
func TestModifyResponseMayDoAnything(t *testing.T) {
	failed := errors.New("failed")
	shared := http.Header{"Cache-Control": {"max-age=60"}, "X-Mine": {"yes"}}
	for name, test := range map[string]struct {
		modify func(*http.Response) error
		want   string
	}{
		"removes the header":     {func(resp *http.Response) error { resp.Header = nil; return nil }, "200"},
		"replaces the header":    {func(resp *http.Response) error { resp.Header = shared; return nil }, "200 yes"},
		"replaces it, misspelt":  {func(resp *http.Response) error { resp.Header = http.Header{"x-mine": {"yes"}}; return nil }, "200 yes"},
		"removes the body":       {func(resp *http.Response) error { resp.Body = nil; return nil }, "200"},
		"replaces the body":      {func(resp *http.Response) error { resp.Body = struct{ io.ReadCloser }{resp.Body}; return nil }, "200"},
		"fails":                  {func(resp *http.Response) error { return failed }, "failed"},
		"fails without a header": {func(resp *http.Response) error { resp.Header = nil; return failed }, "failed"},
		"panics":                 {func(resp *http.Response) error { panic("panicked") }, "panicked"},
		"panics without a body":  {func(resp *http.Response) error { resp.Body = nil; panic("panicked") }, "panicked"},
	} {
		t.Run(name, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				bodies := r.Watch(nil)
				r.ModifyResponse = test.modify
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					if c.Method == http.MethodHead {
						c.Head(200, "Cache-Control: no-cache", `ETag: "1"`, "Content-Length: 5000")
						return
					}
					c.Whole(harness.Noise(5000, 71), "Cache-Control: no-cache", `ETag: "1"`)
				})
				defer origin.Close()
				ctx, cancel := context.WithCancel(r.Context())
				defer cancel()
				requests := 0
				for _, method := range []string{"GET", "POST", "HEAD"} {
					for _, ctx := range []context.Context{r.Context(), ctx} {
						req := r.Request(ctx, fmt.Sprint(origin.URL(), "/", requests))
						req.Method = method
						got := ""
						if p := panics(func() {
							resp, err := r.RoundTrip(req)
							if err != nil {
								got = err.Error()
								return
							}
							io.Copy(io.Discard, resp.Body)
							resp.Body.Close()
							got = strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("X-Mine")))
							if cachetrip.StatusOf(resp) == (cachetrip.Status{}) {
								r.Errorf("%s: no status in %v", method, resp.Header)
							}
						}); p != nil {
							got = fmt.Sprint(p)
						}
						harness.Check(r, method, got, test.want)
						if method != "HEAD" {
							requests++
						}

					}
				}
				r.HTTP.CloseIdleConnections()
				bodies.Mu.Lock()
				n := len(bodies.All)
				bodies.Mu.Unlock()
				bodies.WantClosed(r, n)
			})
		})
	}
	harness.Check(t, "the header of ModifyResponse", shared, http.Header{"Cache-Control": {"max-age=60"}, "X-Mine": {"yes"}})
}

// TestBaseMayReturnTheSameAgain has a Base return one response, with one header
// and one trailer, to everybody.
func TestBaseMayReturnTheSameAgain(t *testing.T) {
	for name, change := range map[string]func(*http.Response){
		"stored":     func(*http.Response) {},
		"not stored": func(resp *http.Response) { resp.Header["Cache-Control"] = []string{"no-store"} },
		"misspelt":   func(resp *http.Response) { resp.Header["x-a"] = []string{"b"} },
		"from a cache": func(resp *http.Response) {
			resp.Header["X-From-Cache"], resp.Header["Cache-Status"] = []string{"1"}, []string{"Other; hit"}
		},
		"not modified": func(resp *http.Response) { resp.StatusCode = 304 },
		"empty":        func(resp *http.Response) { resp.StatusCode = 204 },
	} {
		t.Run(name, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				made := func() *http.Response {
					resp := &http.Response{
						StatusCode: 200, Body: http.NoBody, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
						Header:  http.Header{"Cache-Control": {"max-age=60"}, "Etag": {`"1"`}, "Digest": {"a"}},
						Trailer: http.Header{"Digest": {"b"}},
					}
					change(resp)
					return resp
				}
				always, want := made(), made()
				r.Base = harness.RoundTripperFunc(func(*http.Request) (*http.Response, error) { return always, nil })
				r.ModifyResponse = func(resp *http.Response) error {
					resp.Header.Set("X-Modified", "yes")
					return nil
				}
				var all sync.WaitGroup
				for i := range 20 {
					all.Go(func() {
						req := r.Request(r.Context(), fmt.Sprint("http://origin.test/", i%3))
						req.Method = []string{"GET", "POST", "HEAD"}[i%3]
						if i%2 == 0 {
							req.Header.Set("Cache-Control", "no-cache")
						}
						resp, err := r.RoundTrip(req)
						if err != nil {
							r.Error(err)
							return
						}
						resp.Header.Set("X-Caller", "yes")
						io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
					})
				}
				all.Wait()
				if diff := cmp.Diff([]any{always.Header, always.Trailer, always.StatusCode, always.Request == nil}, []any{want.Header, want.Trailer, want.StatusCode, true}); diff != "" {
					r.Errorf("what Base returned was changed (+want):\n%s", diff)
				}
			})
		})
	}
}

// TestHooksThatPanic makes every hook panic, in requests with and without a
// cancellable context. The panic reaches the caller or nobody, nothing is left,
// and the next request is answered.
func TestHooksThatPanic(t *testing.T) {
	var on atomic.Bool
	hook := func() {
		if on.Load() {
			panic("hook")
		}
	}
	body := harness.Noise(200_000, 72)
	answer := func(cachetrip.AnswerInfo) { hook() }
	stored := func(cachetrip.StoreInfo) { hook() }
	for name, hooks := range map[string]cachetrip.Trace{
		"of answers": {Hit: answer, StaleHit: answer, Revalidated: answer, Collapsed: answer, Miss: answer, Refused: answer},
		"of stores":  {Stored: stored, NotStored: stored, StoreError: func(cachetrip.StoreErrorInfo) { hook() }, Evicted: func(cachetrip.EvictInfo) { hook() }},
	} {
		for _, ends := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, contexts end: %t", name, ends), func(t *testing.T) {
				harness.EachCache(t, func(r *harness.Cache) {
					bodies := r.Watch(nil)
					origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
						control := "Cache-Control: " + c.URL.Query().Get("control")
						if c.Header.Get("If-None-Match") != "" {
							c.Head(304, control, `ETag: "1"`)
							return
						}
						if c.URL.Query().Get("fail") != "" && c.URL.Query().Get("n") != "" {
							c.Head(503, "Content-Length: 0")
							return
						}
						if c.Method == http.MethodHead {
							c.Head(200, control, `ETag: "1"`, "Content-Length: 200000")
							return
						}
						c.Whole(body, control, `ETag: "1"`)
					})
					defer origin.Close()
					r.Trace = &hooks
					request := func(method, path string, read bool, fields ...string) (p any) {
						ctx := r.Context()
						if ends {
							var cancel context.CancelFunc
							ctx, cancel = context.WithCancel(ctx)
							defer cancel()
						}
						return panics(func() {
							req := r.Request(ctx, origin.URL()+path, fields...)
							req.Method = method
							resp, err := r.RoundTrip(req)
							if err != nil {
								r.Error(err)
								return
							}
							if read {
								if _, err := io.Copy(io.Discard, resp.Body); err != nil {
									r.Errorf("%s: %v", path, err)
								}
							}
							resp.Body.Close()
						})
					}
					for i, test := range []struct {
						method, control string
						fields          []string
					}{
						{"GET", "max-age=60", nil},
						{"GET", "max-age=0", nil},
						{"GET", "max-age=0, stale-while-revalidate=60", nil},
						{"GET", "no-store", nil},
						{"HEAD", "max-age=60", nil},
						{"HEAD", "no-store", nil},
						{"POST", "max-age=60", nil},
						{"GET", "max-age=60", []string{"Cache-Control", "only-if-cached"}},
						{"GET", "max-age=60", []string{"Cache-Control", "no-store"}},
						{"GET", "max-age=60", []string{"Range", "bytes=10-20"}},
					} {
						for _, read := range []bool{true, false} {
							path := fmt.Sprintf("/%d%t?control=%s", i, read, strings.ReplaceAll(test.control, " ", "%20"))
							for range 3 {
								on.Store(true)
								if p := request(test.method, path, read, test.fields...); p != nil && p != "hook" {
									r.Errorf("%s: panicked with %v", path, p)
								} else if p == nil && name == "of answers" {
									r.Errorf("%s: did not panic", path)
								}
								r.WaitForQuiet()
								on.Store(false)
							}
							if p := request(test.method, path, true, test.fields...); p != nil {
								r.Errorf("%s without hooks: panicked with %v", path, p)
							}
							r.WaitForQuiet()
						}
					}
					r.HTTP.CloseIdleConnections()
					bodies.Mu.Lock()
					n := len(bodies.All)
					bodies.Mu.Unlock()
					bodies.WantClosed(r, n)
				})
			})
		}
	}
}

// panickingHandler is a slog.Handler that panics.
type panickingHandler struct{ slog.Handler }

func (panickingHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (panickingHandler) Handle(context.Context, slog.Record) error { panic("logger") }

// TestLoggersThatPanic: a Logger that panics in every record leaves nothing,
// and ends no goroutine of the cache.
func TestLoggersThatPanic(t *testing.T) {
	for _, ends := range []bool{false, true} {
		harness.EachCache(t, func(r *harness.Cache) {
			bodies := r.Watch(nil)
			r.Logger = slog.New(panickingHandler{slog.DiscardHandler})
			origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
				if c.Header.Get("If-None-Match") != "" {
					c.Head(304, `ETag: "1"`)
					return
				}
				c.Whole(harness.Noise(200_000, 73), "Cache-Control: max-age=0, stale-while-revalidate=60", `ETag: "1"`)
			})
			defer origin.Close()
			for i := range 10 {
				ctx, cancel := r.Context(), func() {}
				if ends {
					ctx, cancel = context.WithCancel(ctx)
				}
				p := panics(func() {
					resp, err := r.RoundTrip(r.Request(ctx, origin.URL()+fmt.Sprint("/", i/3)))
					if err == nil {
						io.CopyN(io.Discard, resp.Body, 1000)
						resp.Body.Close()
					}
				})
				if p != nil && p != "logger" {
					r.Errorf("panicked with %v", p)
				}
				cancel()
				r.WaitForQuiet()
			}
			r.HTTP.CloseIdleConnections()
			bodies.Mu.Lock()
			n := len(bodies.All)
			bodies.Mu.Unlock()
			bodies.WantClosed(r, n)
		})
	}
}

// TestCancelWithABaseThatPanics: the goroutine that watches Request.Cancel ends
// when Base panics.
func TestCancelWithABaseThatPanics(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		r.Base = harness.RoundTripperFunc(func(*http.Request) (*http.Response, error) { panic("base") })
		for _, method := range []string{"GET", "HEAD", "POST"} {
			req := r.Request(r.Context(), "http://origin.test/")
			req.Method = method
			//lint:ignore SA1019 a caller may still set it
			req.Cancel = make(chan struct{}) // which is never closed
			if p := panics(func() { r.RoundTrip(req) }); p != "base" {
				r.Errorf("%s: panicked with %v", method, p)
			}
		}
	})
}
