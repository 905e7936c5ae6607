package contract_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
)

// The fields by which responses tell how they were obtained, and the directives
// by which programs ask the cache for something.

func TestWhatResponsesSayOfThemselves(t *testing.T) {
	const ttl = "max-age=60"
	type want struct {
		CacheStatus string
		FromCache   string
		Age         string
		Status      cachetrip.Status
	}
	for _, test := range []struct {
		name  string
		setup func(w *harness.World)
		req   func(w *harness.World) *http.Request
		want  want
	}{
		{"stored miss", nil, nil, want{
			"cachetrip; fwd=uri-miss; fwd-status=200; stored; ttl=60", "", "",
			cachetrip.Status{Fwd: "uri-miss", FwdStatus: 200, Stored: true, TTL: time.Minute},
		}},
		{"miss that is not stored", func(w *harness.World) {
			w.Handle(harness.Always(200, "x", "Cache-Control", "no-store"))
		}, nil, want{
			"cachetrip; fwd=uri-miss; fwd-status=200; detail=no-store", "", "",
			cachetrip.Status{Fwd: "uri-miss", FwdStatus: 200, Detail: "no-store"},
		}},
		{"hit", func(w *harness.World) {
			w.Get("/")
			time.Sleep(20 * time.Second)
		}, nil, want{"cachetrip; hit; ttl=40", "1", "20", cachetrip.Status{Hit: true, TTL: 40 * time.Second, Age: 20 * time.Second}}},
		{"hit on what was not young", func(w *harness.World) {
			w.Handle(harness.Always(200, "x", "Cache-Control", ttl, "Age", "30"))
			w.Get("/")
			time.Sleep(20 * time.Second)
		}, nil, want{"cachetrip; hit; ttl=10", "1", "50", cachetrip.Status{Hit: true, TTL: 10 * time.Second, Age: 50 * time.Second}}},
		{"stale hit", func(w *harness.World) {
			w.Get("/")
			time.Sleep(80 * time.Second)
		}, func(w *harness.World) *http.Request { return w.Request("GET", "/", "Cache-Control", "max-stale=30") }, want{
			"cachetrip; hit; ttl=-20; detail=max-stale", "1", "80",
			cachetrip.Status{Hit: true, TTL: -20 * time.Second, Age: 80 * time.Second, Detail: "max-stale"},
		}},
		{"revalidated", func(w *harness.World) {
			w.Get("/")
			time.Sleep(80 * time.Second)
		}, nil, want{
			"cachetrip; fwd=stale; fwd-status=304; stored; ttl=60", "1", "0",
			cachetrip.Status{Fwd: "stale", FwdStatus: 304, Stored: true, TTL: time.Minute, Revalidated: true},
		}},
		{"changed", func(w *harness.World) {
			w.Get("/")
			time.Sleep(80 * time.Second)
			w.Handle(harness.Tagged(`"2"`, "two", "Cache-Control", "max-age=5"))
		}, nil, want{
			"cachetrip; fwd=stale; fwd-status=200; stored; ttl=5", "", "",
			cachetrip.Status{Fwd: "stale", FwdStatus: 200, Stored: true, TTL: 5 * time.Second},
		}},
		{"other variant", func(w *harness.World) {
			w.Handle(harness.Always(200, "x", "Cache-Control", ttl, "Vary", "Accept"))
			w.Get("/", "Accept", "text/html")
		}, nil, want{
			"cachetrip; fwd=vary-miss; fwd-status=200; stored; ttl=60", "", "",
			cachetrip.Status{Fwd: "vary-miss", FwdStatus: 200, Stored: true, TTL: time.Minute},
		}},
		{"forced by the request", func(w *harness.World) { w.Get("/") }, func(w *harness.World) *http.Request {
			return w.Request("GET", "/", "Cache-Control", "no-cache")
		}, want{
			"cachetrip; fwd=request; fwd-status=304; stored; ttl=60; detail=no-cache", "1", "0",
			cachetrip.Status{Fwd: "request", FwdStatus: 304, Stored: true, TTL: time.Minute, Detail: "no-cache", Revalidated: true},
		}},
		{"not to be stored", nil, func(w *harness.World) *http.Request {
			return w.Request("GET", "/", "Cache-Control", "no-store")
		}, want{
			"cachetrip; fwd=request; fwd-status=200; detail=no-store", "", "",
			cachetrip.Status{Fwd: "request", FwdStatus: 200, Detail: "no-store"},
		}},
		{"invalidated", func(w *harness.World) {
			w.Get("/")
			if err := w.Transport.Invalidate(context.Background(), w.URL+"/"); err != nil {
				w.Error(err)
			}
		}, nil, want{
			"cachetrip; fwd=stale; fwd-status=304; stored; ttl=60; detail=invalidated", "1", "0",
			cachetrip.Status{Fwd: "stale", FwdStatus: 304, Stored: true, TTL: time.Minute, Detail: "invalidated", Revalidated: true},
		}},
		{"stale because of an error", func(w *harness.World) {
			w.Get("/")
			time.Sleep(80 * time.Second)
			w.Transport.StaleIfError = time.Minute
			w.Handle(harness.Always(503, "sorry"))
		}, nil, want{
			"cachetrip; fwd=stale; fwd-status=503; ttl=-20; detail=stale-if-error", "1", "80",
			cachetrip.Status{Fwd: "stale", FwdStatus: 503, TTL: -20 * time.Second, Age: 80 * time.Second, Detail: "stale-if-error"},
		}},
		{"other method", nil, func(w *harness.World) *http.Request { return w.Request("PUT", "/") }, want{
			"cachetrip; fwd=method; fwd-status=200", "", "", cachetrip.Status{Fwd: "method", FwdStatus: 200},
		}},
		{"GET with content", nil, func(w *harness.World) *http.Request {
			req := w.Request("GET", "/")
			req.Body = io.NopCloser(strings.NewReader("content"))
			return req
		}, want{
			"cachetrip; fwd=bypass; fwd-status=200; detail=content", "", "",
			cachetrip.Status{Fwd: "bypass", FwdStatus: 200, Detail: "content"},
		}},
		{"precondition for the origin", nil, func(w *harness.World) *http.Request {
			return w.Request("GET", "/", "If-Match", `"1"`)
		}, want{
			"cachetrip; fwd=bypass; fwd-status=200; detail=precondition", "", "",
			cachetrip.Status{Fwd: "bypass", FwdStatus: 200, Detail: "precondition"},
		}},
		{"refused", nil, func(w *harness.World) *http.Request {
			return w.Request("GET", "/", "Cache-Control", "only-if-cached")
		}, want{"", "", "", cachetrip.Status{Fwd: "uri-miss", Generated: true}}},
		{"a 504 of the origin", func(w *harness.World) { w.Handle(harness.Always(504, "late")) }, nil, want{
			"cachetrip; fwd=uri-miss; fwd-status=504; detail=status", "", "",
			cachetrip.Status{Fwd: "uri-miss", FwdStatus: 504, Detail: "status"},
		}},
		{"a stored 504 of the origin", func(w *harness.World) {
			w.Handle(harness.Always(504, "late", "Cache-Control", ttl))
			w.Get("/")
		}, func(w *harness.World) *http.Request {
			return w.Request("GET", "/", "Cache-Control", "only-if-cached")
		}, want{"cachetrip; hit; ttl=60", "1", "0", cachetrip.Status{Hit: true, TTL: time.Minute}}},
		{"a 504 of another cache", func(w *harness.World) {
			w.Handle(harness.Always(504, "late", "Cache-Status", "cachetrip"))
		}, nil, want{
			"cachetrip, cachetrip; fwd=uri-miss; fwd-status=504; detail=status", "", "",
			cachetrip.Status{Fwd: "uri-miss", FwdStatus: 504, Detail: "status"},
		}},
		{"another cache before, and marks that are not ours", func(w *harness.World) {
			w.Handle(harness.Always(200, "x", "Cache-Control", ttl, "Cache-Status", "cachetrip; hit; ttl=9", "X-From-Cache", "1"))
		}, nil, want{
			"cachetrip; hit; ttl=9, cachetrip; fwd=uri-miss; fwd-status=200; stored; ttl=60", "", "",
			cachetrip.Status{Fwd: "uri-miss", FwdStatus: 200, Stored: true, TTL: time.Minute},
		}},
		{"hit behind another cache", func(w *harness.World) {
			w.Handle(harness.Always(200, "x", "Cache-Control", ttl, "Cache-Status", "Example; hit"))
			w.Get("/")
		}, nil, want{"Example; hit, cachetrip; hit; ttl=60", "1", "0", cachetrip.Status{Hit: true, TTL: time.Minute}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				w.Handle(harness.Tagged(`"1"`, "one", "Cache-Control", ttl))
				if test.setup != nil {
					test.setup(w)
				}
				req := w.Request("GET", "/")
				if test.req != nil {
					req = test.req(w)
				}
				r := w.Do(req)
				harness.Check(w, "response", want{
					strings.Join(r.Header["Cache-Status"], ", "), r.Header.Get("X-From-Cache"), r.Header.Get("Age"), r.Status,
				}, test.want)
				if is504 := strings.Contains(test.name, "504"); (test.want.Status.Generated || is504) != (r.Code == http.StatusGatewayTimeout) {
					w.Errorf("status code %d", r.Code)
				}
			})
		})
	}
}

func TestStatusOfOthers(t *testing.T) {
	for _, resp := range []*http.Response{
		nil,
		{},
		{Header: http.Header{"Cache-Status": {"cachetrip; hit"}, "X-From-Cache": {"1"}, "Age": {"5"}}},
	} {
		harness.Check(t, fmt.Sprint(resp), cachetrip.StatusOf(resp), cachetrip.Status{})
	}
}

func TestWithCacheControl(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, "one", "Cache-Control", "max-age=60"))
		w.Get("/")
		w.Asked()
		for _, test := range []struct {
			context []string
			header  []string
			want    string
			asked   []string
		}{
			{[]string{"no-cache"}, nil, "200 one | fwd=request; fwd-status=304; stored; detail=no-cache", []string{"GET / Cache-Control: no-cache"}},
			{
				[]string{"no-cache"}, []string{"Cache-Control", "x=1", "Cache-Control", "y"}, "200 one | fwd=request; fwd-status=304; stored; detail=no-cache",
				[]string{"GET / Cache-Control: x=1 Cache-Control: y Cache-Control: no-cache"},
			},
			{
				[]string{"x, max-stale", "no-cache"}, nil, "200 one | fwd=request; fwd-status=304; stored; detail=no-cache",
				[]string{"GET / Cache-Control: x, max-stale Cache-Control: no-cache"},
			},
			{[]string{"no-store"}, nil, "200 one | fwd=request; fwd-status=200; detail=no-store", []string{"GET / Cache-Control: no-store"}},
			{[]string{"only-if-cached"}, nil, "200 one | hit", nil},
			{[]string{""}, nil, "200 one | hit", nil},
			{
				[]string{"max-age=5"}, []string{"Pragma", "no-cache"}, "200 one | hit", nil,
			},
		} {
			req := w.Request("GET", "/", test.header...)
			ctx := req.Context()
			for _, directives := range test.context {
				ctx = cachetrip.WithCacheControl(ctx, directives)
			}
			req = req.WithContext(ctx)
			before := req.Header.Clone()
			w.WantDo(test.want, req)
			w.WantAsked([]string{"Cache-Control"}, test.asked...)
			harness.Check(w, "the caller's header", req.Header, before)
		}
		// Other methods carry them, too.
		req := w.Request("POST", "/")
		w.Do(req.WithContext(cachetrip.WithCacheControl(req.Context(), "x=1")))
		w.WantAsked([]string{"Cache-Control"}, "POST / Cache-Control: x=1")
		harness.Check(w, "the caller's header", req.Header, http.Header{})
	})
}

func TestModifyResponse(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		var mu sync.Mutex
		var saw []int
		w.Transport.ModifyResponse = func(resp *http.Response) error {
			mu.Lock()
			defer mu.Unlock()
			saw = append(saw, resp.StatusCode)
			resp.Header.Set("Cache-Control", "max-age=10, stale-while-revalidate=90")
			resp.Header.Set("X-Added", fmt.Sprint(len(saw)))
			return nil
		}
		w.Handle(harness.Tagged(`"1"`, "one", "Cache-Control", "no-store"))
		r := w.WantGet("200 one | fwd=uri-miss; fwd-status=200; stored", "/")
		harness.Check(w, "X-Added of the miss", r.Header.Get("X-Added"), "1")
		r = w.WantGet("200 one | hit", "/")
		harness.Check(w, "X-Added of the hit", r.Header.Get("X-Added"), "1")
		time.Sleep(20 * time.Second)
		w.WantGet("200 one | hit; detail=stale-while-revalidate", "/")
		synctest.Wait()
		r = w.WantGet("200 one | hit", "/")
		harness.Check(w, "X-Added after the background's 304", r.Header.Get("X-Added"), "2")
		time.Sleep(200 * time.Second)
		r = w.WantGet("200 one | fwd=stale; fwd-status=304; stored", "/")
		harness.Check(w, "X-Added of the 304", r.Header.Get("X-Added"), "3")
		w.Do(w.Request("POST", "/"))
		w.Get("/", "Cache-Control", "no-store")
		mu.Lock()
		harness.Check(w, "responses that ModifyResponse saw", saw, []int{200, 304, 304, 200, 200})
		mu.Unlock()
	})
}

func TestModifyResponseFails(t *testing.T) {
	errModify := errors.New("not with me")
	harness.EachWorldInBubble(t, func(w *harness.World) {
		body := &harness.Closing{Reader: strings.NewReader("content")}
		base := w.Transport.Base
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			resp, err := base.RoundTrip(req)
			if err == nil {
				body = &harness.Closing{Reader: resp.Body, Closer: resp.Body}
				resp.Body = body
			}
			return resp, err
		})
		w.Handle(harness.Always(200, "one", "Cache-Control", "max-age=10, stale-while-revalidate=20, stale-if-error=1000", "ETag", `"1"`))
		w.Get("/stored")
		fails := true
		w.Transport.ModifyResponse = func(*http.Response) error {
			if fails {
				return errModify
			}
			return nil
		}
		time.Sleep(20 * time.Second)
		w.WantGet("200 one | hit; detail=stale-while-revalidate", "/stored") // fails in the background
		synctest.Wait()
		time.Sleep(20 * time.Second)
		for _, req := range []*http.Request{
			w.Request("GET", "/stored"), // its error is not a failure of the origin either
			w.Request("GET", "/new"),
			w.Request("GET", "/new", "Cache-Control", "no-store"),
			w.Request("POST", "/new"),
			w.Request("HEAD", "/new"),
		} {
			resp, err := w.Transport.RoundTrip(req)
			if err != errModify || resp != nil {
				w.Errorf("%s %s: %v, %v, want the error of ModifyResponse", req.Method, req.URL.Path, resp, err)
			}
			if !body.Closed() {
				w.Errorf("%s %s: the body was not closed", req.Method, req.URL.Path)
			}
		}
		fails = false
		w.WantGet("200 one | fwd=uri-miss; fwd-status=200; stored", "/new")
	})
}
