package validation_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip/internal/harness"
)

// Stale on purpose: RFC 5861, and StaleIfError.

func TestStaleIfErrorIsAllowedBy(t *testing.T) {
	const served, failed = "200 good | fwd=stale; fwd-status=503; detail=stale-if-error", "503 bad | fwd=stale; fwd-status=503"
	for _, test := range []struct {
		name     string
		response string // its Cache-Control
		request  string
		field    time.Duration
		after    time.Duration // it became stale
		want     string
	}{
		{"nothing", "max-age=10", "", 0, time.Second, failed + "; detail=status"},
		{"response", "max-age=10, stale-if-error=60", "", 0, 59 * time.Second, served},
		{"response, but no longer", "max-age=10, stale-if-error=60", "", 0, 61 * time.Second, failed + "; detail=status"},
		{"request", "max-age=10", "stale-if-error=60", 0, 59 * time.Second, served},
		{"request, but no longer", "max-age=10", "stale-if-error=60", 0, 61 * time.Second, failed + "; detail=status"},
		{"field", "max-age=10", "", time.Minute, 59 * time.Second, served},
		{"field, but no longer", "max-age=10", "", time.Minute, 61 * time.Second, failed + "; detail=status"},
		{"field widens what the response says", "max-age=10, stale-if-error=5", "", time.Minute, 59 * time.Second, served},
		{"response says more than the field", "max-age=10, stale-if-error=60", "", time.Second, 59 * time.Second, served},
		{"not with must-revalidate", "max-age=10, must-revalidate, stale-if-error=60", "stale-if-error=60", time.Minute, time.Second, failed + "; detail=must-revalidate"},
		{"not with no-cache", "no-cache, stale-if-error=60", "stale-if-error=60", time.Minute, time.Second, failed + "; detail=no-cache"},
		{"not with no-cache in the request", "max-age=10, stale-if-error=60", "no-cache, stale-if-error=60", time.Minute, time.Second, failed + "; detail=no-cache"},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				w.Transport.StaleIfError = test.field
				w.Handle(harness.Always(200, "good", "Cache-Control", test.response, "ETag", `"1"`))
				w.Get("/")
				time.Sleep(10*time.Second + test.after)
				w.Handle(harness.Always(503, "bad"))
				for range 2 {
					w.WantGet(test.want, "/", "Cache-Control", test.request)
				}
				w.TakeDown()
				r, err := w.Try(w.Request("GET", "/", "Cache-Control", test.request))
				switch {
				case test.want == served && (err != nil || r.String() != "200 good | fwd=stale; detail=stale-if-error"):
					w.Errorf("unreachable: %v, %v", r, err)
				case test.want != served && err == nil:
					w.Errorf("unreachable: %v, want an error", r)
				}
			})
		})
	}
}

func TestWhatCountsAsFailure(t *testing.T) {
	type allowed struct{ Owner, Origin, Request bool }
	never, byOwner, byAll := allowed{}, allowed{true, false, false}, allowed{true, true, true}
	for code, want := range map[int]allowed{
		400: never, 401: never, 403: never, 404: never, 408: never, 410: never, 429: byOwner,
		500: byAll, 501: byOwner, 502: byAll, 503: byAll, 504: byAll, 505: byOwner, 507: byOwner, 511: byOwner, 599: byOwner,
	} {
		stale := func(owner time.Duration, response, request string) bool {
			w := harness.NewWorld(t, harness.InMemory, harness.ServeLoopback)
			w.Transport.StaleIfError = owner
			w.Handle(harness.Always(200, "good", "Cache-Control", "max-age=0"+response, "ETag", `"1"`))
			w.Get("/")
			w.Handle(harness.Always(code, "bad"))
			return w.Get("/", "Cache-Control", "x"+request).Body == "good"
		}
		got := allowed{stale(time.Hour, "", ""), stale(0, ", stale-if-error=60", ""), stale(0, "", ", stale-if-error=60")}
		harness.Check(t, fmt.Sprint("the stale response is served after ", code), got, want)
	}
}

func TestStaleWhenTimeRunsOut(t *testing.T) {
	errLate := errors.New("too late for us")
	for _, test := range []struct {
		name string
		ctx  func() (context.Context, context.CancelFunc)
		want bool // the stale response
	}{
		{"deadline", func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 3*time.Second)
		}, true},
		{"deadline with a cause", func() (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(context.Background(), 3*time.Second, errLate)
		}, true},
		{"cancelled", func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(3*time.Second, cancel)
			return ctx, cancel
		}, false},
		{"cancelled before the deadline", func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			time.AfterFunc(3*time.Second, cancel)
			return ctx, cancel
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				w.Transport.StaleIfError = time.Hour
				w.Handle(harness.Always(200, "good", "Cache-Control", "max-age=0", "ETag", `"1"`))
				w.Get("/")
				w.Handle(func(rw http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
				// Two at once: one of them waits for the other's request.
				var both sync.WaitGroup
				for range 2 {
					both.Go(func() {
						ctx, cancel := test.ctx()
						defer cancel()
						start := time.Now()
						r, err := w.Try(w.Request("GET", "/").WithContext(ctx))
						if got := err == nil && r.String() == "200 good | fwd=stale; detail=stale-if-error"; got != test.want {
							w.Errorf("got %v, %v, want the stale response: %t", r, err, test.want)
						}
						harness.Check(w, "waited", time.Since(start), 3*time.Second)
					})
				}
				both.Wait()
			})
		})
	}
	t.Run("of the client", func(t *testing.T) {
		harness.EachWorldInBubble(t, func(w *harness.World) {
			w.Transport.StaleIfError = time.Hour
			w.Handle(harness.Always(200, "good", "Cache-Control", "max-age=0", "ETag", `"1"`))
			w.Get("/")
			w.Handle(func(rw http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			w.Client.Timeout = 3 * time.Second
			w.WantGet("200 good | fwd=stale; detail=stale-if-error", "/")
		})
	})
}

func TestOneRefreshForManyStaleHits(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, "one", "Cache-Control", "max-age=10, stale-while-revalidate=100"))
		w.Get("/")
		w.Get("/other")
		time.Sleep(time.Minute)
		w.Asked()
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			harness.Tagged(`"2"`, "two", "Cache-Control", "max-age=1000")(rw, r)
		})
		for range 10 {
			w.WantGet("200 one | hit; detail=stale-while-revalidate", "/")
		}
		w.WantGet("200 one | hit; detail=stale-while-revalidate", "/other")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		harness.Check(w, "requests to the origin", len(w.Asked()), 2)
		w.WantGet("200 two | hit", "/")
		w.WantGet("200 two | hit", "/other")
		stats := w.Transport.Stats()
		harness.Check(w, "stale hits", stats.StaleHits, uint64(11))
	})
}

func TestRefreshIsNotTheCallersRequest(t *testing.T) {
	// A caller may reuse its request after the response.
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			harness.Answer(rw, 200, "at "+r.URL.Path+r.Header.Get("X-Header"), "Cache-Control", "max-age=10, stale-while-revalidate=1000")
		})
		w.Get("/first")
		w.Asked()
		time.Sleep(time.Minute)
		base := w.Transport.Base
		changed := make(chan struct{})
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			<-changed
			return base.RoundTrip(req)
		})
		req := w.Request("GET", "/first")
		resp, err := w.Transport.RoundTrip(req)
		if err != nil {
			w.Fatal(err)
		}
		resp.Body.Close()
		synctest.Wait()
		req.URL.Path = "/second"
		req.Header.Set("X-Header", "?")
		req.Host = "third.test"
		close(changed)
		synctest.Wait()
		w.WantAsked([]string{"X-Header"}, "GET /first")
		w.WantGet("200 at /first | hit", "/first")
	})
}

// Hooks for connections in the context of a request end with the response.
// Other values of the context stay, because transports below may need them.
func TestRefreshIsNotTraced(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		type key struct{}
		w.Handle(harness.Always(200, "one", "Cache-Control", "max-age=0, stale-while-revalidate=1000"))
		var told atomic.Int32
		note := func() { told.Add(1) }
		ctx := httptrace.WithClientTrace(context.WithValue(context.Background(), key{}, "kept"), &httptrace.ClientTrace{
			GetConn: func(string) { note() }, ConnectStart: func(string, string) { note() }, GotFirstResponseByte: note,
		})
		get := func(want string) {
			w.Helper()
			w.WantDo(want, w.Request("GET", "/").WithContext(ctx))
		}
		get("200 one | fwd=uri-miss; fwd-status=200; stored")
		if told.Load() == 0 {
			w.Error("the request that the caller waits for is not traced")
		}
		transport := w.Transport.Base.(*http.Transport)
		transport.CloseIdleConnections()
		done := make(chan any)
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			defer func() { done <- req.Context().Value(key{}) }()
			return transport.RoundTrip(req)
		})
		told.Store(0)
		get("200 one | hit; detail=stale-while-revalidate")
		harness.Check(w, "another value of the context", <-done, any("kept"))
		w.Transport.Close()
		harness.Check(w, "hooks that were called", told.Load(), int32(0))
	})
}

func TestStaleWhileRevalidateHasItsBounds(t *testing.T) {
	const stale = "200 one | hit; detail=stale-while-revalidate"
	const asked = "200 one | fwd=stale; fwd-status=304; stored"
	for _, test := range []struct {
		name, response, request string
		after                   time.Duration // it became stale
		want                    string
		refreshed               bool
	}{
		{"in time", "max-age=10, stale-while-revalidate=60", "", 59 * time.Second, stale, true},
		{"too late", "max-age=10, stale-while-revalidate=60", "", 61 * time.Second, asked, true},
		{"with must-revalidate", "max-age=10, stale-while-revalidate=60, must-revalidate", "", time.Second, asked + "; detail=must-revalidate", true},
		{"with no-cache", "no-cache, stale-while-revalidate=60", "", time.Second, asked + "; detail=no-cache", true},
		{"the request wants it fresh", "max-age=10, stale-while-revalidate=60", "max-age=1000", time.Second, asked, true},
		{"the request wants it from the cache only", "max-age=10, stale-while-revalidate=60", "only-if-cached", time.Second, stale, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				w.Handle(harness.Tagged(`"1"`, "one", "Cache-Control", test.response))
				w.Get("/")
				time.Sleep(10*time.Second + test.after)
				w.Asked()
				w.WantGet(test.want, "/", "Cache-Control", test.request)
				synctest.Wait()
				harness.Check(w, "the origin was asked", len(w.Asked()) > 0, test.refreshed)
			})
		})
	}
}

// TestStaleIfErrorOnRateLimits: Transport.StaleIfError takes a used-up rate
// limit for a failure of the origin, and other refusals not. A stale-if-error
// directive does not cover a rate limit.
func TestStaleIfErrorOnRateLimits(t *testing.T) {
	const stale = "200 good | fwd=stale; fwd-status=%d; detail=stale-if-error"
	for _, test := range []struct {
		name   string
		grace  time.Duration
		code   int
		fields []string
		want   string
	}{
		{"429", time.Hour, 429, nil, stale},
		{"429 with Retry-After", time.Hour, 429, []string{"Retry-After", "30"}, stale},
		{"403 with Retry-After", time.Hour, 403, []string{"Retry-After", "30"}, stale},
		{"403, nothing remains", time.Hour, 403, []string{"X-RateLimit-Remaining", "0"}, stale},
		{"403, some remain", time.Hour, 403, []string{"X-RateLimit-Remaining", "7"}, "403 limit | fwd=stale; fwd-status=403; detail=conditions-refused"},
		{"403", time.Hour, 403, nil, "403 limit | fwd=stale; fwd-status=403; detail=conditions-refused"},
		{"401", time.Hour, 401, []string{"Retry-After", "30"}, "401 limit | fwd=stale; fwd-status=401; detail=status"},
		{"404", time.Hour, 404, []string{"Retry-After", "30"}, "404 limit | fwd=stale; fwd-status=404; stored"},
		{"410", time.Hour, 410, nil, "410 limit | fwd=stale; fwd-status=410; stored"},
		{"too late", time.Second, 429, nil, "429 limit | fwd=stale; fwd-status=429; detail=status"},
		{"allowed by the response only", 0, 429, nil, "429 limit | fwd=stale; fwd-status=429; detail=status"},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				w.Transport.StaleIfError = test.grace
				w.Handle(harness.Always(200, "good", "Cache-Control", "max-age=10, stale-if-error=100000", "ETag", `"1"`))
				w.Get("/")
				time.Sleep(time.Minute)
				w.Handle(harness.Always(test.code, "limit", test.fields...))
				want := test.want
				if want == stale {
					want = fmt.Sprintf(want, test.code)
				}
				w.WantGet(want, "/")
				w.Handle(harness.Always(200, "new", "Cache-Control", "max-age=10"))
				if r := w.Get("/", "Cache-Control", "no-cache"); r.Body != "new" {
					t.Errorf("when the origin answers again: got %v", r)
				}
			})
		})
	}
}

func TestRefreshThatFails(t *testing.T) {
	for _, test := range []struct {
		name string
		fail func(w *harness.World)
	}{
		{"unreachable", func(w *harness.World) { w.TakeDown() }},
		{"503", func(w *harness.World) { w.Handle(harness.Always(503, "bad", "Cache-Control", "max-age=60")) }},
		{"hangs up", func(w *harness.World) {
			w.Handle(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		}},
		{"breaks off", func(w *harness.World) {
			w.Handle(func(rw http.ResponseWriter, r *http.Request) {
				harness.Answer(rw, 200, "cut", "Cache-Control", "max-age=60", "Content-Length", "10")
			})
		}},
		{"Base panics", func(w *harness.World) {
			w.Transport.Base = harness.RoundTripperFunc(func(*http.Request) (*http.Response, error) { panic("oh dear") })
		}},
		{"ModifyResponse fails", func(w *harness.World) {
			w.Transport.ModifyResponse = func(*http.Response) error { return errors.New("no") }
		}},
		{"never ends", func(w *harness.World) {
			w.Handle(func(rw http.ResponseWriter, r *http.Request) {
				harness.Answer(rw, 200, "begin", "Cache-Control", "max-age=60")
				rw.(http.Flusher).Flush()
				<-r.Context().Done()
			})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				w.Handle(harness.Always(200, "good", "Cache-Control", "max-age=10, stale-while-revalidate=1000"))
				w.Get("/")
				time.Sleep(time.Minute)
				test.fail(w)
				for range 3 {
					w.WantGet("200 good | hit; detail=stale-while-revalidate", "/")
					synctest.Wait()
				}
				start := time.Now()
				w.Transport.Close()
				if waited := time.Since(start); waited > 30*time.Second {
					w.Errorf("Close took %v", waited)
				}
			})
		})
	}
}

func TestUnusableStaleResponsesGiveTheError(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(harness.Always(200, "good", "Cache-Control", "max-age=10, must-revalidate", "ETag", `"1"`))
		w.Get("/")
		time.Sleep(time.Minute)
		w.TakeDown()
		if r, err := w.Try(w.Request("GET", "/")); err == nil {
			w.Errorf("got %v", r)
		}
		// Nor is it forgotten.
		if r := w.Get("/", "Cache-Control", "only-if-cached"); r.Code != 504 {
			w.Errorf("got %v", r)
		}
	})
}
