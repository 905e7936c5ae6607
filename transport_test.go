package cachetrip_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
)

// Tests of the public API, with real servers, real directories, and exported
// names only.

func TestZeroTransportForwards(t *testing.T) {
	var cache cachetrip.Transport
	w := harness.NewWorld(t, harness.InMemory, harness.ServeLoopback)
	w.Handle(harness.Always(200, "hello", "Cache-Control", "max-age=60"))
	w.Client = cache.Client()
	for range 2 {
		w.WantGet("200 hello | fwd=bypass; fwd-status=200", "/")
	}
	w.WantAsked(nil, "GET /", "GET /")
	harness.Check(t, "Stats", cache.Stats(), cachetrip.Stats{Requests: 2, Misses: 2, BytesReceived: 10})
	ctx := context.Background()
	if err := errors.Join(cache.Invalidate(ctx, w.URL), cache.Purge(ctx, w.URL), cache.Close()); err != nil {
		t.Error(err)
	}
}

func TestOpenKeepsAcrossProcesses(t *testing.T) {
	w := harness.NewWorld(t, harness.InMemory, harness.ServeLoopback)
	w.Dir = filepath.Join(t.TempDir(), "not", "there", "yet")
	w.Handle(harness.Always(200, "hello", "Cache-Control", "max-age=60"))
	for _, want := range []string{
		"200 hello | fwd=uri-miss; fwd-status=200; stored",
		"200 hello | hit",
	} {
		cache, err := cachetrip.Open(w.Dir)
		if err != nil {
			t.Fatal(err)
		}
		w.Client = cache.Client()
		w.WantGet(want, "/")
		if err := cache.Close(); err != nil {
			t.Error(err)
		}
		// Close closes the store of Open, and a closed cache forwards.
		if _, err := cache.Store.Secret(context.Background()); !errors.Is(err, store.ErrClosed) {
			t.Errorf("the store after Close: %v, want ErrClosed", err)
		}
		w.WantGet("200 hello | fwd=bypass; fwd-status=200", "/")
		if err := cache.Close(); err != nil {
			t.Error("second Close:", err)
		}
	}
}

func TestOpenTellsWhatIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", file, filepath.Join(file, "below"), dir + "\x00"} {
		cache, err := cachetrip.Open(path)
		if err == nil || cache != nil || !strings.HasPrefix(err.Error(), "cachetrip: ") {
			t.Errorf("Open(%q) = %v, %v, want an error of ours", path, cache, err)
		}
		if strings.HasPrefix(path, file) && !strings.Contains(err.Error(), file) {
			t.Errorf("Open(%q): %q does not name what is in the way", path, err)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "mine" {
		t.Errorf("the file in the way: %q, %v", b, err)
	}
}

func TestCloseLeavesAStoreThatItWasGiven(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(harness.Always(200, "hello", "Cache-Control", "max-age=60"))
		w.Get("/")
		if err := w.Transport.Close(); err != nil {
			w.Error(err)
		}
		w.WantGet("200 hello | fwd=bypass; fwd-status=200", "/")
		w.WantGet("200 hello | fwd=bypass; fwd-status=200", "/other")
		other := &cachetrip.Transport{Store: w.Store, Base: w.Transport.Base}
		w.Client = other.Client()
		w.WantGet("200 hello | hit", "/")
		w.WantGet("200 hello | fwd=uri-miss; fwd-status=200; stored", "/other")
	})
}

func TestCloseLetsReadersFinish(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		body := strings.Repeat("0123456789abcdef", 64<<10) // not sent at once, and not kept with its head
		w.Handle(harness.Always(200, body, "Cache-Control", "max-age=60"))
		w.Get("/stored")
		var readers []*http.Response
		for _, path := range []string{"/stored", "/fetched"} {
			resp, err := w.Client.Do(w.Request("GET", path))
			if err != nil {
				w.Fatal(err)
			}
			readers = append(readers, resp)
		}
		if err := w.Transport.Close(); err != nil {
			w.Error(err)
		}
		if disk, ok := w.Store.(*store.Disk); ok {
			disk.Close()
		}
		for _, resp := range readers {
			got, err := io.ReadAll(resp.Body)
			if err != nil || string(got) != body {
				w.Errorf("read after Close: %d bytes, %v; want %d", len(got), err, len(body))
			}
			if err := resp.Body.Close(); err != nil {
				w.Error(err)
			}
		}
	})
}

func TestCloseWaitsForBackground(t *testing.T) {
	for _, test := range []struct {
		name   string
		second http.HandlerFunc
		want   string // of the entries that the next cache gets from the store
	}{
		{"confirmed", harness.Tagged(`"1"`, "one", "Cache-Control", "max-age=10, stale-while-revalidate=90"), "200 one | hit"},
		{"changed", harness.Tagged(`"2"`, "two", "Cache-Control", "max-age=10, stale-while-revalidate=90"), "200 two | hit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				w.Handle(harness.InTurn(
					harness.Tagged(`"1"`, "one", "Cache-Control", "max-age=10, stale-while-revalidate=90"),
					func(rw http.ResponseWriter, r *http.Request) {
						time.Sleep(2700 * time.Millisecond)
						test.second(rw, r)
					}))
				w.Get("/")
				time.Sleep(20 * time.Second)
				w.WantGet("200 one | hit; detail=stale-while-revalidate", "/")
				start := time.Now()
				if err := w.Transport.Close(); err != nil {
					w.Error(err)
				}
				harness.Check(w, "time that Close took", time.Since(start), 2700*time.Millisecond)
				next := &cachetrip.Transport{Store: w.Store, Base: w.Transport.Base}
				w.Client = next.Client()
				w.WantGet(test.want, "/")
				next.Close()
			})
		})
	}
}

func TestStatsOfAScriptedSequence(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		const fields = "max-age=10"
		w.Handle(harness.Tagged(`"1"`, "one", "Cache-Control", fields))
		want := cachetrip.Stats{}
		step := func(what string, do func(), change func(s *cachetrip.Stats)) {
			w.Helper()
			do()
			want.Requests++
			change(&want)
			harness.Check(w, "Stats after "+what, w.Transport.Stats(), want)
		}
		get := func(path string, fields ...string) func() { return func() { w.Get(path, fields...) } }
		step("a miss", get("/"), func(s *cachetrip.Stats) { s.Misses++; s.Stored++; s.BytesReceived += 3 })
		step("a hit", get("/"), func(s *cachetrip.Stats) { s.Hits++; s.BytesServed += 3 })
		time.Sleep(15 * time.Second)
		step("a stale hit", get("/", "Cache-Control", "max-stale"), func(s *cachetrip.Stats) { s.Hits++; s.StaleHits++; s.BytesServed += 3 })
		step("a 304", get("/"), func(s *cachetrip.Stats) { s.Revalidations++; s.BytesServed += 3 })
		step("a HEAD", func() { w.Do(w.Request("HEAD", "/")) }, func(s *cachetrip.Stats) { s.Hits++ })
		step("an answer to the caller's condition", get("/", "If-None-Match", `"1"`), func(s *cachetrip.Stats) { s.Hits++ })
		time.Sleep(15 * time.Second)
		w.Handle(harness.Tagged(`"2"`, "three", "Cache-Control", fields))
		step("a change", get("/"), func(s *cachetrip.Stats) { s.Misses++; s.Stored++; s.BytesReceived += 5 })
		step("a POST", func() { w.Do(w.Request("POST", "/")) }, func(s *cachetrip.Stats) { s.Misses++; s.BytesReceived += 5 })
		step("its invalidation", get("/"), func(s *cachetrip.Stats) { s.Revalidations++; s.BytesServed += 5 })
		step("a refusal", get("/none", "Cache-Control", "only-if-cached"), func(s *cachetrip.Stats) {})
		step("a bypass", get("/", "Cache-Control", "no-store"), func(s *cachetrip.Stats) { s.Misses++; s.BytesReceived += 5 })
		time.Sleep(15 * time.Second)
		w.Handle(harness.Always(503, "sorry"))
		step("a stale hit for an error", get("/", "Cache-Control", "stale-if-error=60"), func(s *cachetrip.Stats) { s.StaleHits++; s.BytesServed += 5 })
		step("an error", get("/"), func(s *cachetrip.Stats) { s.Misses++; s.BytesReceived += 5 })
		w.TakeDown()
		step("no answer", func() {
			if r, err := w.Try(w.Request("GET", "/")); err == nil {
				w.Errorf("got %v", r)
			}
		}, func(s *cachetrip.Stats) {})
	})
}

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
		}, want{}},
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
				if refused := test.want == (want{}); refused != (r.Code == http.StatusGatewayTimeout) {
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

func TestIdentities(t *testing.T) {
	whose := func(rw http.ResponseWriter, r *http.Request) {
		body := "nobody's"
		for _, name := range []string{"alice", "bob"} {
			if strings.Contains(r.Header.Get("Authorization")+r.Header.Get("Cookie")+r.Header.Get("Proxy-Authorization"), name) {
				body = name + "'s"
			}
		}
		harness.Tagged(`"`+body+`"`, body, "Cache-Control", "max-age=60")(rw, r)
	}
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(whose)
		ask := func(path string, fields ...string) string { return w.Get(path, fields...).String() }
		const miss, hit = " | fwd=uri-miss; fwd-status=200; stored", " | hit"
		for _, want := range []string{miss, hit} {
			harness.Check(w, "anonymous", ask("/"), "200 nobody's"+want)
			harness.Check(w, "alice", ask("/", "Authorization", "Bearer token-of-alice"), "200 alice's"+want)
			harness.Check(w, "bob", ask("/", "Authorization", "Bearer token-of-bob"), "200 bob's"+want)
			harness.Check(w, "by proxy", ask("/", "Proxy-Authorization", "Bearer token-of-bob"), "200 bob's"+want)
		}
		// The password in a URL is a credential, too: the client makes it an Authorization field.
		req := w.Request("GET", "/")
		req.URL.User = nil
		req.SetBasicAuth("carol", "password-of-carol")
		w.WantDo("200 nobody's"+miss, req)
		w.WantDo("200 nobody's"+hit, req)

		// The whole URL of all of them.
		if err := w.Transport.Invalidate(context.Background(), w.URL+"/"); err != nil {
			w.Error(err)
		}
		const confirmed = " | fwd=stale; fwd-status=304; stored; detail=invalidated"
		harness.Check(w, "anonymous", ask("/"), "200 nobody's"+confirmed)
		harness.Check(w, "alice", ask("/", "Authorization", "Bearer token-of-alice"), "200 alice's"+confirmed)
		harness.Check(w, "alice", ask("/", "Authorization", "Bearer token-of-alice"), "200 alice's"+hit)
		ask("/other")
		if err := w.Transport.Purge(context.Background(), w.URL+"/"); err != nil {
			w.Error(err)
		}
		harness.Check(w, "anonymous", ask("/"), "200 nobody's"+miss)
		harness.Check(w, "alice", ask("/", "Authorization", "Bearer token-of-alice"), "200 alice's"+miss)
		harness.Check(w, "bob", ask("/", "Authorization", "Bearer token-of-bob"), "200 bob's"+miss)
		harness.Check(w, "another URL", ask("/other"), "200 nobody's"+hit)
		for _, change := range []func(context.Context, string) error{w.Transport.Invalidate, w.Transport.Purge} {
			if err := change(context.Background(), "http://[::1"); err == nil {
				w.Error("no error for what is not a URL")
			}
		}
	})
}

func TestIdentityOfRotatingTokens(t *testing.T) {
	const first, second = "Bearer token-of-monday", "Bearer token-of-tuesday"
	for _, test := range []struct{ name, vary, second string }{
		{"without Vary", "", "200 one | hit"},
		// The origin says that tokens matter: it is asked, but the body need not come again.
		{"with Vary", "Authorization", "200 one | fwd=vary-miss; fwd-status=304; stored"},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Transport.Identity = func(req *http.Request) string { return req.Header.Get("X-App") }
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					if test.vary != "" {
						rw.Header().Set("Vary", test.vary)
					}
					harness.Tagged(`"1"`, "one", "Cache-Control", "max-age=60")(rw, r)
				})
				w.WantGet("200 one | fwd=uri-miss; fwd-status=200; stored", "/", "X-App", "a", "Authorization", first)
				w.WantGet("200 one | hit", "/", "X-App", "a", "Authorization", first)
				w.WantGet(test.second, "/", "X-App", "a", "Authorization", second)
				w.WantGet("200 one | hit", "/", "X-App", "a", "Authorization", second)
				w.WantGet("200 one | fwd=uri-miss; fwd-status=200; stored", "/", "X-App", "b", "Authorization", second)
				w.WantGet("200 one | fwd=uri-miss; fwd-status=200; stored", "/", "Authorization", second)
			})
		})
	}
}

func TestNothingRunsAfterClose(t *testing.T) {
	// The bubble itself checks that no goroutine is left when the test function and its clean-up,
	// which closes the cache and the server, have returned.
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, strings.Repeat("x", 300<<10), "Cache-Control", "max-age=10, stale-while-revalidate=100"))
		w.Get("/")
		time.Sleep(time.Minute)
		w.Get("/") // with a revalidation behind it
		resp, err := w.Client.Do(w.Request("GET", "/partly"))
		if err != nil {
			w.Fatal(err)
		}
		resp.Body.Close()
	})
}
