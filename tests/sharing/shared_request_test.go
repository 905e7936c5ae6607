package sharing_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// TestHerd: 100 callers on an empty cache lead to one request, and all get its
// response.
func TestHerd(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		for _, size := range []int{0, 1, 5000, 200_000, 1 << 20} {
			body := harness.Noise(size, 1)
			release := make(chan struct{})
			origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
				<-release
				c.Whole(body, harness.Fresh)
			})
			const callers = 100
			before := r.Stats()
			var wg sync.WaitGroup
			var collapsed, led atomic.Int32
			for range callers {
				wg.Go(func() {
					resp, got := r.Get(origin.URL())
					harness.WantBody(r, got, body)
					if resp.ContentLength != int64(size) {
						r.Errorf("got length %d, want %d", resp.ContentLength, size)
					}
					switch s := cachetrip.StatusOf(resp); {
					case s.Collapsed:
						harness.WantStatus(r, resp, "fwd=uri-miss", "fwd-status=200", "stored", "collapsed")
						collapsed.Add(1)
					default:
						harness.WantStatus(r, resp, "fwd=uri-miss", "fwd-status=200", "stored")
						led.Add(1)
					}
				})
			}
			harness.Soon(r, "all others wait", func() bool { return harness.Followers(r) == callers-1 })
			close(release)
			wg.Wait()
			if n := len(origin.Requests()); n != 1 {
				r.Errorf("%d bytes: got %d requests, want 1", size, n)
			}
			if led.Load() != 1 || collapsed.Load() != callers-1 {
				r.Errorf("%d bytes: %d led, %d collapsed", size, led.Load(), collapsed.Load())
			}
			if n := r.Stats().Collapsed - before.Collapsed; n != uint64(collapsed.Load()) {
				r.Errorf("Stats counts %d collapsed, want %d", n, collapsed.Load())
			}
			origin.Close()
		}
	})
}

// TestHerdWithoutBarrier: callers may come at any moment: before, while or just
// after the response is stored.
func TestHerdWithoutBarrier(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) { c.Whole([]byte(c.URL.Path), harness.Fresh) })
		defer origin.Close()
		const rounds, callers = 100, 16
		for round := range rounds {
			var wg sync.WaitGroup
			for i := range callers {
				wg.Go(func() {
					for range i * 10 {
						runtime.Gosched()
					}
					path := "/" + strconv.Itoa(round)
					if _, got := r.Get(origin.URL() + path); string(got) != path {
						r.Errorf("got %q, want %q", got, path)
					}
				})
			}
			wg.Wait()
		}
		if n := len(origin.Requests()); n != rounds {
			r.Errorf("got %d requests, want %d", n, rounds)
		}
	})
}

// TestLookedUpTooEarly: a caller that looked up just before a response was
// stored, and joins just after, does not ask the origin.
func TestLookedUpTooEarly(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) { c.Whole([]byte("hello"), harness.Fresh) })
		defer origin.Close()
		looked, goOn := make(chan struct{}), make(chan struct{})
		disk := r.Store
		defer func() { r.Store = disk }()
		faulty := storefault.Wrap(disk)
		faulty.InjectAfter(storefault.Nth(1, func(storefault.Call) error { // it returns the entries of some time ago
			close(looked)
			<-goOn
			return nil
		}), storefault.Entries)
		r.Store = faulty
		done := make(chan struct{})
		go func() {
			defer close(done)
			resp, got := r.Get(origin.URL())
			harness.WantBody(r, got, []byte("hello"))
			harness.WantStatus(r, resp, "hit")
		}()
		<-looked
		r.Get(origin.URL())
		close(goOn)
		<-done
		if n := len(origin.Requests()); n != 1 {
			r.Errorf("got %d requests, want 1", n)
		}
	})
}

// TestHerdOnStale: 100 callers on a stale response are one validation,
// confirmed or not.
func TestHerdOnStale(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		for _, code := range []int{304, 200} {
			stale, current := harness.Noise(300_000, 2), harness.Noise(300_000, 3)
			if code == 304 {
				current = stale
			}
			release := make(chan struct{})
			origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
				switch {
				case c.N == 0:
					c.Whole(stale, harness.Fresh, `ETag: "1"`)
				case c.Header.Get("If-None-Match") != `"1"`:
					r.Errorf("request %d: got If-None-Match %q", c.N, c.Header.Get("If-None-Match"))
					c.Head(500, "Content-Length: 0")
				default:
					<-release
					if code == 304 {
						c.Head(304, harness.Fresh, `ETag: "1"`)
					} else {
						c.Whole(current, harness.Fresh, `ETag: "2"`)
					}
				}
			})
			r.Get(origin.URL())
			if err := r.Invalidate(r.Context(), origin.URL()); err != nil {
				r.Fatal(err)
			}
			const callers = 100
			var wg sync.WaitGroup
			var collapsed atomic.Int32
			for range callers {
				wg.Go(func() {
					resp, got := r.Get(origin.URL())
					harness.WantBody(r, got, current)
					if s := cachetrip.StatusOf(resp); s.Collapsed {
						collapsed.Add(1)
						harness.WantStatus(r, resp, "fwd=stale", "fwd-status="+strconv.Itoa(code), "collapsed")
						if s.Revalidated != (code == 304) {
							r.Errorf("got Revalidated %t", s.Revalidated)
						}
					}
				})
			}
			harness.Soon(r, "all others wait", func() bool { return harness.Followers(r) == callers-1 })
			close(release)
			wg.Wait()
			if n := len(origin.Requests()); n != 2 {
				r.Errorf("%d: got %d requests, want 2", code, n)
			}
			if n := collapsed.Load(); n != callers-1 {
				r.Errorf("%d: %d collapsed", code, n)
			}
			origin.Close()
		}
	})
}

// TestFollowersReadAlong: followers get the header and the bytes so far while
// the rest is still missing, and read at their own pace.
func TestFollowersReadAlong(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		body := harness.Noise(1<<20, 4)
		const first = 70_000
		next := make(chan struct{})
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			c.Head(200, harness.Fresh, "Content-Length: "+strconv.Itoa(len(body)))
			c.Content(body[:first])
			<-next
			c.Content(body[first:])
		})
		defer origin.Close()
		var responses []*http.Response
		for i := range 5 {
			resp := r.Send(r.Context(), origin.URL())
			got := make([]byte, first)
			if _, err := io.ReadFull(resp.Body, got); err != nil {
				r.Fatal(err)
			}
			harness.WantBody(r, got, body[:first])
			if i > 0 {
				harness.WantStatus(r, resp, "collapsed")
			}
			responses = append(responses, resp)
		}
		close(next)
		// The last one reads to the end while the others do not read.
		for i := range responses {
			resp := responses[len(responses)-1-i]
			rest, err := io.ReadAll(resp.Body)
			if err != nil {
				r.Fatal(err)
			}
			harness.WantBody(r, rest, body[first:])
			resp.Body.Close()
		}
		resp, got := r.Get(origin.URL())
		harness.WantStatus(r, resp, "hit")
		harness.WantBody(r, got, body)
	})
}

// gathering is complete when so many have arrived, or when it ends before.
type gathering struct {
	missing  atomic.Int64
	complete chan struct{}
	end      func()
}

func newGathering(n int64) *gathering {
	g := &gathering{complete: make(chan struct{})}
	g.missing.Store(n)
	g.end = sync.OnceFunc(func() { close(g.complete) })
	return g
}

func (g *gathering) arrive() {
	if g.missing.Add(-1) == 0 {
		g.end()
	}
}

// TestWaitersGoAhead: if a response cannot be shared, all waiting callers ask
// at once and in parallel. Later callers do not wait at all, for as long as
// that is remembered. For failures see share_test.go.
func TestWaitersGoAhead(t *testing.T) {
	const callers = 20
	for _, test := range []struct {
		name   string
		answer func(c *harness.RawCall)
		twice  bool // a second herd asks in parallel at once
	}{
		{name: "no-store", twice: true,
			answer: func(c *harness.RawCall) { c.Whole([]byte("x"), "Cache-Control: no-store") }},
		{name: "max-age=0, no validator", twice: true,
			answer: func(c *harness.RawCall) { c.Whole([]byte("x"), "Cache-Control: max-age=0") }},
		{name: "nothing said", twice: true,
			answer: func(c *harness.RawCall) { c.Whole([]byte("x")) }},
		{name: "no-cache", twice: true,
			answer: func(c *harness.RawCall) { c.Whole([]byte("x"), "Cache-Control: no-cache", `ETag: "1"`) }},
		{name: "another variant",
			answer: func(c *harness.RawCall) { c.Whole([]byte("x"), harness.Fresh, "Vary: Who") }},
		{name: "any variant", twice: true,
			answer: func(c *harness.RawCall) { c.Whole([]byte("x"), harness.Fresh, "Vary: *") }},
		{name: "too large", twice: true,
			answer: func(c *harness.RawCall) {
				c.Head(200, harness.Fresh, "Content-Length: 1000000000000")
				c.HangUp()
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				release := make(chan struct{})
				others, all := newGathering(callers-1), newGathering(callers)
				arrive := func(g *gathering) { // nobody is answered before all others have asked
					g.arrive()
					harness.Within(r, "all others ask, too", g.complete)
				}
				var second atomic.Bool
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					switch {
					case second.Load():
						arrive(all)
					case c.N == 0:
						<-release
					default:
						arrive(others)
					}
					test.answer(c)
				})
				defer origin.Close()
				herd := func() *sync.WaitGroup {
					var wg sync.WaitGroup
					for i := range callers {
						wg.Go(func() {
							resp, err := r.RoundTrip(r.Request(r.Context(), origin.URL(), "Who", strconv.Itoa(i)))
							if err != nil {
								r.Error(err)
								return
							}
							io.Copy(io.Discard, resp.Body)
							resp.Body.Close()
							if cachetrip.StatusOf(resp).Collapsed {
								r.Errorf("got Cache-Status %q", resp.Header.Get("Cache-Status"))
							}
						})
					}
					return &wg
				}
				before := r.Stats().Requests
				first := herd()
				harness.Soon(r, "one asks, and the others wait", func() bool {
					return len(origin.Requests()) > 0 && harness.Followers(r) == callers-1
				})
				if n := len(origin.Requests()); n != 1 {
					r.Errorf("before the first answer: got %d requests, want 1", n)
				}
				released := time.Now()
				close(release)
				first.Wait()
				if !test.twice {
					return
				}
				second.Store(true)
				again := herd()
				harness.Soon(r, "all ask again", func() bool { return r.Stats().Requests-before == 2*callers })
				if time.Since(released) > 8*time.Second { // after 10 s they may wait for each other
					all.end()
				}
				again.Wait()
			})
		})
	}
}

// TestVariantsShareAmongThemselves: callers that want different variants of a
// new URL lead to one request for each variant.
func TestVariantsShareAmongThemselves(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		languages := []string{"en", "de", "fr"}
		release := make(chan struct{})
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			<-release
			c.Head(200, harness.Fresh, "Vary: Accept-Language", "Content-Length: 200002")
			c.Content(harness.Noise(200_000, 5))
			time.Sleep(50 * time.Millisecond) // the head says that it varies, the body takes a while
			c.Content([]byte(c.Header.Get("Accept-Language")))
		})
		defer origin.Close()
		const callers = 60
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				language := languages[i%len(languages)]
				_, got := r.Get(origin.URL(), "Accept-Language", language)
				harness.WantBody(r, got, append(harness.Noise(200_000, 5), language...))
			})
		}
		harness.Soon(r, "all others wait", func() bool { return harness.Followers(r) == callers-1 })
		close(release)
		wg.Wait()
		if n := len(origin.Requests()); n != len(languages) {
			r.Errorf("got %d requests, want %d", n, len(languages))
		}
	})
}

// TestCancelledMarksNothing: a request that its caller cancelled does not count
// as a failure of the key.
func TestCancelledMarksNothing(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		asked := make(chan struct{})
		release := make(chan struct{})
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			if c.N == 0 {
				close(asked)
				<-c.Gone
				c.HangUp()
				return
			}
			<-release
			c.Whole([]byte("x"), harness.Fresh)
		})
		defer origin.Close()
		ctx, cancel := context.WithCancel(r.Context())
		go func() {
			<-asked
			cancel()
		}()
		if _, err := r.RoundTrip(r.Request(ctx, origin.URL())); !errors.Is(err, context.Canceled) {
			r.Errorf("got %v, want %v", err, context.Canceled)
		}
		harness.Within(r, "the request ends at the origin", origin.Requests()[0].Gone)
		const callers = 10
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() { r.Get(origin.URL()) })
		}
		harness.Soon(r, "all others wait", func() bool { return harness.Followers(r) == callers-1 })
		close(release)
		wg.Wait()
		if n := len(origin.Requests()); n != 2 {
			r.Errorf("got %d requests, want 2", n)
		}
	})
}

// expiring is a context that a test ends like a deadline.
type expiring struct {
	context.Context
	done chan struct{}
}

func (e *expiring) Done() <-chan struct{} { return e.done }

func (e *expiring) Err() error {
	select {
	case <-e.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// TestOwnContexts: the end of a caller's context ends its own waiting or
// reading at once, and that of no other caller.
func TestOwnContexts(t *testing.T) {
	const size, first = 300_000, 100_000
	body := harness.Noise(size, 6)
	for _, leader := range []bool{true, false} {
		for _, stage := range []string{"before the head", "in the body", "in the body, stalled"} {
			for _, how := range []string{"cancel", "deadline", "close"} {
				if stage == "before the head" && how == "close" {
					continue
				}
				t.Run(fmt.Sprintf("leader %t, %s, %s", leader, stage, how), func(t *testing.T) {
					harness.EachCache(t, func(r *harness.Cache) {
						asked, head, rest := make(chan struct{}), make(chan struct{}), make(chan struct{})
						origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
							close(asked)
							<-head
							c.Head(200, harness.Fresh, "Content-Length: "+strconv.Itoa(size))
							c.Content(body[:first])
							<-rest
							c.Content(body[first:])
						})
						defer origin.Close()
						open := sync.OnceFunc(func() { close(head) })
						defer open()
						finish := sync.OnceFunc(func() { close(rest) })
						defer finish()
						if stage != "before the head" {
							open()
						}

						ctx, cancel := context.WithCancelCause(r.Context())
						defer cancel(nil)
						want := error(context.Canceled)
						why := errors.New("why")
						end := func() { cancel(why) }
						if how == "deadline" {
							want = context.DeadlineExceeded
							expiring := &expiring{Context: ctx, done: make(chan struct{})}
							ctx, end = expiring, sync.OnceFunc(func() { close(expiring.done) })
							defer end()
						}
						both := make(chan struct{}) // take part
						leaving := make(chan struct{})
						leave := func() {
							defer close(leaving)
							resp, err := r.RoundTrip(r.Request(ctx, origin.URL()))
							if stage != "before the head" {
								if err != nil {
									r.Error(err)
									return
								}
								got := make([]byte, first)
								if stage == "in the body" {
									got = got[:10]
								}
								if _, err := io.ReadFull(resp.Body, got); err != nil {
									r.Error(err)
								}
								<-both
								if how == "close" {
									resp.Body.Close()
									if _, err := resp.Body.Read(got); err == nil {
										r.Error("reading after Close: no error")
									}
									return
								}
								end()
								<-ctx.Done()
								for range 3 {
									var n int
									n, err = resp.Body.Read(got)
									if n != 0 || err == nil {
										r.Errorf("after the context has ended: got %d, %v", n, err)
									}
								}
								resp.Body.Close()
							}
							if !errors.Is(err, want) && !errors.Is(err, why) {
								r.Errorf("got %v, want %v", err, want)
							}
						}
						staying := make(chan struct{})
						stay := func() {
							defer close(staying)
							resp := r.Send(r.Context(), origin.URL())
							if stage != "before the head" {
								close(both)
							}
							got, err := io.ReadAll(resp.Body)
							if err != nil {
								r.Error(err)
							}
							resp.Body.Close()
							harness.WantBody(r, got, body)
						}
						if leader {
							go leave()
							harness.Within(r, "the request", asked)
							go stay()
						} else {
							go stay()
							harness.Within(r, "the request", asked)
							go leave()
						}
						if stage == "before the head" {
							harness.Soon(r, "the second waits", func() bool { return harness.Followers(r) == 1 })
							end()
						}
						harness.Within(r, "one leaves", leaving)
						select {
						case <-staying:
							r.Error("the other has everything before it was sent")
						default:
						}
						open()
						finish()
						harness.Within(r, "the other has everything", staying)
						if n := len(origin.Requests()); n != 1 {
							r.Errorf("got %d requests, want 1", n)
						}
						resp, got := r.Get(origin.URL())
						harness.WantStatus(r, resp, "hit")
						harness.WantBody(r, got, body)
					})
				})
			}
		}
	}
}

// TestNobodyLeft: when the last caller leaves, the request to the origin ends,
// before the header and after it.
func TestNobodyLeft(t *testing.T) {
	for _, stage := range []string{"before the head", "in the body"} {
		for _, how := range []string{"cancel", "close"} {
			if stage == "before the head" && how == "close" {
				continue
			}
			t.Run(stage+", "+how, func(t *testing.T) {
				harness.EachCache(t, func(r *harness.Cache) {
					length := "10000000" // so that Close does not wait for it
					if how == "cancel" {
						length, r.DrainTime = "1000", time.Hour // the reader that was stopped gets no EOF either
					}
					origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
						if stage == "in the body" {
							c.Head(200, harness.Fresh, "Content-Length: "+length)
							c.Content([]byte("beginning"))
						}
						<-c.Gone
						c.HangUp()
					})
					defer origin.Close()
					const callers = 3
					var cancels [callers]context.CancelFunc
					var left [callers]chan struct{}
					ready := make(chan struct{}, callers)
					for i := range callers {
						ctx, cancel := context.WithCancel(r.Context())
						cancels[i], left[i] = cancel, make(chan struct{})
						go func() {
							defer close(left[i])
							resp, err := r.RoundTrip(r.Request(ctx, origin.URL()))
							if err != nil {
								return
							}
							io.ReadFull(resp.Body, make([]byte, 5))
							ready <- struct{}{}
							if how == "cancel" {
								io.Copy(io.Discard, resp.Body)
							} else {
								<-ctx.Done()
							}
							resp.Body.Close()
						}()
					}
					if stage == "in the body" {
						for range callers {
							<-ready
						}
					} else {
						harness.Soon(r, "all others wait", func() bool { return harness.Followers(r) == callers-1 })
					}
					harness.Soon(r, "the origin is asked", func() bool { return len(origin.Requests()) > 0 })
					gone := origin.Requests()[0].Gone
					for i, cancel := range cancels {
						select {
						case <-gone:
							r.Fatalf("ended before reader %d left", i)
						case <-time.After(10 * time.Millisecond):
						}
						cancel()
						harness.Within(r, "it leaves", left[i])
					}
					harness.Within(r, "the request ends at the origin", gone)
					if n := len(origin.Requests()); n != 1 {
						r.Errorf("got %d requests, want 1", n)
					}
				})
			})
		}
	}
}

// TestNothingIsLeft: after every end of a download its descriptors are closed,
// without the garbage collector.
func TestNothingIsLeft(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	harness.EachCache(t, func(r *harness.Cache) {
		body := harness.Noise(300_000, 41)
		half := len(body) / 2
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			switch {
			case c.Header.Get("Range") != "" && c.URL.Path == "/changed":
				c.Part(body, half, len(body), harness.Fresh, `ETag: "2"`)
			case c.Header.Get("Range") != "" && c.URL.Path != "/broken":
				c.Rest(body, harness.Fresh, harness.Tag)
			case c.URL.Path == "/cut" && c.N%2 == 0, c.URL.Path == "/changed" && c.N%2 == 0, c.URL.Path == "/broken":
				c.Head(200, harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "Content-Length: "+strconv.Itoa(len(body)))
				c.Content(body[:half])
				c.HangUp()
			default:
				c.Whole(body, harness.Fresh, harness.Tag, "Accept-Ranges: bytes")
			}
		})
		defer origin.Close()
		kept := r.Store
		read := func(path string, n int64, fields ...string) {
			for range 3 {
				ctx, cancel := context.WithCancel(r.Context())
				resp := r.Send(ctx, origin.URL()+path, fields...)
				io.CopyN(io.Discard, resp.Body, n)
				if n%2 == 1 {
					cancel()
				}
				resp.Body.Close()
				resp.Body.Close()
				cancel()
			}
		}
		const all = 1 << 30
		read("/whole", all)
		read("/whole", 1000)
		read("/whole", all, "Range", "bytes=100-200000")
		read("/whole", 10, "Range", "bytes=100-200000,3-5")
		read("/early", 1000)
		read("/cancelled", 1001)
		read("/cancelled", all)
		read("/cut", all)
		read("/changed", all)
		read("/broken", all)
		r.Store = harness.NewFullStore(kept, 150_000)
		read("/full", all)
		read("/full", 200_000)
		read("/full", 200_001)
		r.Store = kept
		r.HTTP.CloseIdleConnections()
	})
}

// TestCallersMayReuse: a caller may change its request after RoundTrip has
// failed, and the header and trailer of its response while others read. The
// race detector watches.
func TestCallersMayReuse(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			c.Head(200, harness.Fresh, "Accept-Ranges: bytes", `ETag: "1"`, "Trailer: Digest", "Transfer-Encoding: chunked")
			for range 10 {
				c.Write("5\r\nhello\r\n")
				time.Sleep(time.Millisecond)
			}
			c.Write("0\r\nDigest: right\r\n\r\n")
		})
		defer origin.Close()
		for round := range 20 {
			url := origin.URL() + "/" + strconv.Itoa(round)
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() {
					ctx, cancel := context.WithCancel(r.Context())
					defer cancel()
					if i == 0 {
						time.AfterFunc(time.Duration(round)*200*time.Microsecond, cancel)
					}
					req := r.Request(ctx, url)
					resp, err := r.RoundTrip(req)
					if err != nil {
						req.URL.Path = "/other"
						req.Header = http.Header{"Other": {"1"}}
						req.Method = "POST"
						return
					}
					for range 20 {
						resp.Header.Set("Cache-Control", "mine")
						resp.Header.Del("Accept-Ranges")
						resp.StatusCode++
						for name := range resp.Trailer {
							_ = resp.Trailer[name]
						}
						resp.Trailer = http.Header{"Mine": nil}
						time.Sleep(100 * time.Microsecond)
					}
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if err == nil && resp.Trailer.Get("Digest") != "right" {
						r.Errorf("got trailer %v", resp.Trailer)
					}
				})
			}
			wg.Wait()
			resp, got := r.Get(url)
			if resp.Header.Get("Cache-Control") != "max-age=3600" || resp.Trailer.Get("Digest") != "right" || string(got) != strings.Repeat("hello", 10) {
				r.Errorf("got %v, %q, %v", resp.Header, got, resp.Trailer)
			}
		}
	})
}

// TestPanicOfBase: a panic of Base goes to the caller whose request it was. The
// others ask themselves.
func TestPanicOfBase(t *testing.T) {
	release := make(chan struct{})
	var n atomic.Int32
	c := &cachetrip.Transport{ShareTimeout: time.Hour, Store: store.NewMemory(0), Base: harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
		if n.Add(1) == 1 {
			<-release
			panic("oh")
		}
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	})}
	var wg sync.WaitGroup
	var panics atomic.Int32
	for range 5 {
		wg.Go(func() {
			defer func() {
				if p := recover(); p == "oh" {
					panics.Add(1)
				}
			}()
			req, _ := http.NewRequest("GET", "http://origin.example/", nil)
			if _, err := c.RoundTrip(req); err != nil {
				t.Error(err)
			}
		})
	}
	harness.Soon(t, "all others wait", func() bool { return harness.Followers(t) == 4 })
	close(release)
	wg.Wait()
	if panics.Load() != 1 || n.Load() != 5 {
		t.Errorf("got %d panics and %d requests, want 1 and 5", panics.Load(), n.Load())
	}
}

// TestNewerThanWhatIsUnderWay has another process store something newer than
// what a request could share.
func TestNewerThanWhatIsUnderWay(t *testing.T) {
	var version atomic.Int32
	release := make(chan struct{})
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := version.Add(1)
		content := strings.Repeat(strconv.Itoa(int(min(v, 2))), 1000)
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, min(v, 2)))
		if v > 1 {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
			return
		}
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, content[:10])
		w.(http.Flusher).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
		io.WriteString(w, content[10:])
	}))
	defer origin.Close()
	defer close(release)
	dir := t.TempDir()
	clients := make([]*http.Client, 2)
	for i := range clients {
		cache := &cachetrip.Transport{Store: harness.OpenDisk(t, dir, store.DiskOptions{})}
		defer cache.Close()
		clients[i] = cache.Client()
	}
	ask := func(client int, fields ...string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest("GET", origin.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(fields); i += 2 {
			req.Header.Set(fields[i], fields[i+1])
		}
		resp, err := clients[client].Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		first := make([]byte, 1)
		if _, err := io.ReadFull(resp.Body, first); err != nil {
			t.Fatal(err)
		}
		return resp, string(first)
	}
	if _, got := ask(0); got != "1" {
		t.Fatalf("the first response is of version %s", got)
	}
	if resp, got := ask(1, "Range", "bytes=0-99"); got != "2" {
		t.Fatalf("the other process got version %s, %s", got, resp.Header["Cache-Status"])
	}
	resp, got := ask(0)
	if got != "2" || resp.Header.Get("Etag") != `"2"` {
		t.Errorf("version %s, %s, is older than what is stored", got, resp.Header["Cache-Status"])
	}
}
