package origins_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
)

// refusesPreconditions answers requests without preconditions by a page that
// has to be validated each time, and others by a refusal.
func refusesPreconditions(code int) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		if r.Header["If-None-Match"] != nil || r.Header["If-Modified-Since"] != nil {
			harness.Answer(rw, code, "refused")
			return
		}
		harness.Answer(rw, 200, "page", "ETag", `"1"`, "Cache-Control", "no-cache")
	}
}

// TestRefusedPreconditions: an origin that refuses the preconditions that the
// cache adds gets the request without them. After the first time, it gets it so
// at once.
func TestRefusedPreconditions(t *testing.T) {
	for _, code := range []int{400, 403, 405, 412, 501} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				w.Transport.StaleIfError = time.Hour
				w.Handle(refusesPreconditions(code))
				w.Get("/")
				w.Asked()
				const whole = "200 page | fwd=stale; fwd-status=200; stored; detail="
				w.WantGet(whole+"conditions-refused", "/")
				w.WantAsked([]string{"If-None-Match"}, `GET / If-None-Match: "1"`, "GET /")
				w.WantGet(whole+"no-cache", "/")
				w.WantAsked([]string{"If-None-Match"}, "GET /")
				time.Sleep(time.Hour) // the origin may have been fixed meanwhile
				w.WantGet(whole+"conditions-refused", "/")
				w.WantAsked([]string{"If-None-Match"}, `GET / If-None-Match: "1"`, "GET /")
			})
		})
	}
}

// TestCallersPreconditionsAreTheCallers: a refusal of the caller's own
// preconditions is the response to them.
func TestCallersPreconditionsAreTheCallers(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(refusesPreconditions(412))
		w.Get("/")
		w.Asked()
		w.WantGet("412 refused | fwd=stale; fwd-status=412; detail=conditions-refused", "/", "If-None-Match", `"own"`)
		w.WantAsked([]string{"If-None-Match"}, `GET / If-None-Match: "1", "own"`, `GET / If-None-Match: "own"`)
		w.WantGet("412 refused | fwd=stale; fwd-status=412; detail=no-cache", "/", "If-None-Match", `"own"`)
		w.WantAsked([]string{"If-None-Match"}, `GET / If-None-Match: "own"`)
	})
}

// TestOriginThatRefusesPreconditions: once some of its URLs have refused, the
// others are not tried.
func TestOriginThatRefusesPreconditions(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(refusesPreconditions(400))
		const urls = 10
		for i := range urls {
			w.Get("/" + strconv.Itoa(i))
		}
		w.Asked()
		for i := range urls {
			w.Get("/" + strconv.Itoa(i))
		}
		harness.Check(t, "number of requests", len(w.Asked()), urls+3)
	})
}

// TestOriginThatRefusesEverything: after the first request for a URL, such an
// origin gets each request once. When it stops refusing, it gets preconditions
// again.
func TestOriginThatRefusesEverything(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		page := harness.Tagged(`"1"`, "page", "Cache-Control", "no-cache")
		w.Handle(page)
		w.Get("/")
		w.Handle(harness.Always(403, "forbidden"))
		w.Asked()
		for range 5 {
			harness.Check(t, "code", w.Get("/").Code, 403)
		}
		harness.Check(t, "number of requests", len(w.Asked()), 6)
		w.Handle(page)
		w.WantGet("200 page | fwd=stale; fwd-status=200; stored; detail=invalidated", "/")
		w.WantGet("200 page | fwd=stale; fwd-status=304; stored; detail=no-cache", "/")
	})
}

// TestRateLimitIsNoRefusal: asking again would make it worse.
func TestRateLimitIsNoRefusal(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		page := harness.Tagged(`"1"`, "page", "Cache-Control", "no-cache")
		for _, limit := range [][]string{{"Retry-After", "60"}, {"X-RateLimit-Remaining", "0"}} {
			w.Handle(page)
			w.Get("/")
			w.Handle(harness.Always(403, "slow down", limit...))
			w.Asked()
			harness.Check(t, "code", w.Get("/").Code, 403)
			w.WantAsked([]string{"If-None-Match"}, `GET / If-None-Match: "1"`)
		}
	})
}

// refusals of a request for the rest of a body that is held from first on.
var resumeRefusals = []struct {
	name   string
	answer func(c *harness.RawCall, body []byte, first int)
}{
	{"304", func(c *harness.RawCall, body []byte, first int) { c.Head(304, harness.Tag) }},
	{"400", func(c *harness.RawCall, body []byte, first int) { c.Head(400, "Content-Length: 0") }},
	{"401", func(c *harness.RawCall, body []byte, first int) { c.Head(401, "Content-Length: 0") }},
	{"403", func(c *harness.RawCall, body []byte, first int) { c.Head(403, "Content-Length: 0") }},
	{"404", func(c *harness.RawCall, body []byte, first int) { c.Head(404, "Content-Length: 0", harness.Fresh) }},
	{"405", func(c *harness.RawCall, body []byte, first int) { c.Head(405, "Content-Length: 0") }},
	{"412", func(c *harness.RawCall, body []byte, first int) { c.Head(412, "Content-Length: 0") }},
	{"416", func(c *harness.RawCall, body []byte, first int) { c.Head(416, "Content-Length: 0") }},
	{"500", func(c *harness.RawCall, body []byte, first int) { c.Head(500, "Content-Length: 0") }},
	{"501", func(c *harness.RawCall, body []byte, first int) { c.Head(501, "Content-Length: 0") }},
	{"302", func(c *harness.RawCall, body []byte, first int) {
		c.Head(302, "Location: /elsewhere", "Content-Length: 0", harness.Fresh)
	}},
	{"204", func(c *harness.RawCall, body []byte, first int) { c.Head(204, harness.Fresh) }},
	{"another tag", func(c *harness.RawCall, body []byte, first int) {
		c.Part(body, first, len(body), harness.Fresh, `ETag: "2"`)
	}},
	{"another part", func(c *harness.RawCall, body []byte, first int) { c.Part(body, 0, 10, harness.Fresh, harness.Tag) }},
	{"a part that is not to be stored", func(c *harness.RawCall, body []byte, first int) {
		c.Part(body, first, len(body), "Cache-Control: no-store", harness.Tag)
	}},
	{"hangs up", func(c *harness.RawCall, body []byte, first int) { c.HangUp() }},
}

// TestRefusedResume: if an origin refuses a request for the rest, the caller
// gets the whole, as without a cache. The cache does not try again, not for the
// next broken body and not in another process.
func TestRefusedResume(t *testing.T) {
	harness.LeavesNothing(t)
	body := harness.Noise(300_000, 50)
	const first = 100_000
	for _, test := range resumeRefusals {
		for _, control := range []string{"", "no-cache"} {
			if control != "" && test.name != "403" {
				continue
			}
			t.Run(test.name+" "+control, func(t *testing.T) {
				harness.EachCacheInParallel(t, func(r *harness.Cache) {
					broken, ranges := true, 0
					origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
						switch {
						case c.Header.Get("Range") != "":
							ranges++
							test.answer(c, body, first)
						case broken:
							broken = false
							c.Head(200, harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "Content-Length: "+strconv.Itoa(len(body)))
							c.Content(body[:first])
							<-c.Gone
							c.HangUp()
						default:
							c.Whole(body, "Cache-Control: no-store", harness.Tag)
						}
					})
					defer origin.Close()
					breakOff := func() {
						broken = true
						resp := r.Send(r.Context(), origin.URL())
						io.ReadFull(resp.Body, make([]byte, first))
						resp.Body.Close()
					}
					fields := []string{}
					if control != "" {
						fields = []string{"Cache-Control", control}
					}
					breakOff()
					for range 3 {
						resp, got := r.Get(origin.URL(), fields...)
						harness.WantBody(r, got, body)
						if resp.StatusCode != 200 || resp.ContentLength != int64(len(body)) || resp.Header.Get("Content-Range") != "" {
							r.Errorf("got %s, %v", resp.Status, resp.Header)
						}
					}
					if ranges != 1 {
						r.Errorf("got %d requests for the rest, want 1", ranges)
					}
					breakOff()
					r.Get(origin.URL(), fields...)
					if ranges != 1 {
						r.Errorf("got %d requests for the rest, after the next body broke off", ranges)
					}
				})
				if test.name == "hangs up" {
					return
				}
				harness.NewUncheckedCache(t, t.TempDir(), func(r *harness.Cache) { // a part that was refused is gone for the next process as well
					ranges := 0
					origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
						switch {
						case c.N == 0:
							c.Head(200, harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "Content-Length: "+strconv.Itoa(len(body)))
							c.Content(body[:first])
							<-c.Gone
							c.HangUp()
						case c.Header.Get("Range") != "":
							ranges++
							test.answer(c, body, first)
						default:
							c.Whole(body, "Cache-Control: no-store", harness.Tag)
						}
					})
					defer origin.Close()
					resp := r.Send(r.Context(), origin.URL())
					io.ReadFull(resp.Body, make([]byte, first))
					resp.Body.Close()
					for range 2 {
						_, got := r.Get(origin.URL())
						harness.WantBody(r, got, body)
						if ranges != 1 {
							r.Errorf("got %d requests for the rest, want 1", ranges)
						}
						if size := harness.SizeOf(t, r.Dir); size >= first {
							r.Errorf("%d bytes are left on disk", size)
						}
						r.Restart()
					}
				})
			})
		}
	}
}

// TestWholeInsteadOfRestThatIsNotStored: the part is of no use any more then.
func TestWholeInsteadOfRestThatIsNotStored(t *testing.T) {
	body := harness.Noise(300_000, 51)
	const first = 100_000
	for _, is := range []string{harness.Tag, `ETag: "2"`} {
		harness.EachCache(t, func(r *harness.Cache) {
			ranges := 0
			origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
				if c.Header.Get("Range") != "" {
					ranges++
				}
				if c.N == 0 {
					c.Head(200, harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "Content-Length: "+strconv.Itoa(len(body)))
					c.Content(body[:first])
					<-c.Gone
					c.HangUp()
					return
				}
				c.Whole(body, "Cache-Control: no-store", is)
			})
			defer origin.Close()
			resp := r.Send(r.Context(), origin.URL())
			io.ReadFull(resp.Body, make([]byte, first))
			resp.Body.Close()
			for range 3 {
				_, got := r.Get(origin.URL())
				harness.WantBody(r, got, body)
			}
			if ranges != 1 {
				r.Errorf("got %d requests for the rest, want 1", ranges)
			}
		})
	}
}

// TestResumeWhereEverythingIsRefused: the part can't be blamed, and each
// request costs one, after the first.
func TestResumeWhereEverythingIsRefused(t *testing.T) {
	harness.LeavesNothing(t)
	body := harness.Noise(300_000, 52)
	const first = 100_000
	for _, code := range []int{401, 403, 429, 500, 503} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			harness.EachCacheInParallel(t, func(r *harness.Cache) {
				refuses := false
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					switch {
					case refuses:
						c.Head(code, "Content-Length: 0")
					case c.N == 0:
						c.Head(200, harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "Content-Length: "+strconv.Itoa(len(body)))
						c.Content(body[:first])
						<-c.Gone
						c.HangUp()
					default:
						c.Whole(body, harness.Fresh, harness.Tag)
					}
				})
				defer origin.Close()
				resp := r.Send(r.Context(), origin.URL())
				io.ReadFull(resp.Body, make([]byte, first))
				resp.Body.Close()
				refuses = true
				for range 5 {
					if resp, _ := r.Get(origin.URL()); resp.StatusCode != code {
						r.Errorf("got %s", resp.Status)
					}
				}
				if n := len(origin.Requests()); n > 7 {
					r.Errorf("got %d requests for 6", n)
				}
				refuses = false
				_, got := r.Get(origin.URL())
				harness.WantBody(r, got, body)
			})
		})
	}
}

// TestCodedOnTheWay: a middleware that compresses as it sends may answer a
// range with that of the uncompressed file. Without a length beforehand,
// nothing tells.
func TestCodedOnTheWay(t *testing.T) {
	body := harness.Noise(300_000, 53)
	const first = 100_000
	for _, by := range []string{"the reader", "the origin"} {
		t.Run(by, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					lines := []string{harness.Fresh, harness.Tag, "Accept-Ranges: bytes", "Content-Encoding: gzip", "Vary: Accept-Encoding", "Transfer-Encoding: chunked"}
					if c.Header.Get("Range") != "" {
						r.Errorf("got %v", c.Header)
						c.Head(400, "Content-Length: 0")
						return
					}
					c.Head(200, lines...)
					sends := len(body)
					if c.N == 0 {
						sends = first
					}
					c.Write(fmt.Sprintf("%x\r\n", sends))
					c.Content(body[:sends])
					c.Write("\r\n")
					switch {
					case c.N > 0:
						c.Write("0\r\n\r\n")
					case by == "the reader":
						<-c.Gone
						c.HangUp()
					default:
						c.HangUp()
					}
				})
				defer origin.Close()
				resp := r.Send(r.Context(), origin.URL(), "Accept-Encoding", "gzip")
				got := make([]byte, first)
				io.ReadFull(resp.Body, got)
				harness.WantBody(r, got, body[:first])
				if by == "the origin" {
					if n, err := resp.Body.Read(got); n != 0 || err != io.ErrUnexpectedEOF {
						r.Errorf("got %d bytes, %v", n, err)
					}
				}
				resp.Body.Close()
				for _, want := range []string{"fwd=uri-miss", "hit"} {
					resp, got := r.Get(origin.URL(), "Accept-Encoding", "gzip")
					harness.WantStatus(r, resp, want)
					harness.WantBody(r, got, body)
				}
				if r.Dir == "" {
					return
				}
				// The store fails in the middle. A body of unknown length is
				// not continued then either.
				if err := os.RemoveAll(r.Dir); err != nil {
					r.Fatal(err)
				}
				resp = r.Send(r.Context(), origin.URL(), "Accept-Encoding", "gzip")
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			})
		})
	}
}

// TestRefusalsInStats: a refused request is one request of its caller.
func TestRefusalsInStats(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(refusesPreconditions(412))
		w.Get("/")
		w.Get("/")
		s := w.Transport.Stats()
		harness.Check(t, "stats", []uint64{s.Requests, s.Misses, s.Stored}, []uint64{2, 2, 2})
		if text := cachetrip.ReasonText("conditions-refused"); !strings.Contains(text, "preconditions") {
			t.Errorf("got %q", text)
		}
	})
}

// TestNoAccessAnyMore: after a refusal, the stored response is validated before
// its next use, even if it is fresh. The refusal goes to its caller.
func TestNoAccessAnyMore(t *testing.T) {
	for _, code := range []int{401, 403} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Run("fresh", func(t *testing.T) {
				harness.EachWorld(t, func(w *harness.World) {
					w.Handle(harness.Always(200, "page", "Cache-Control", "max-age=3600, stale-if-error=3600"))
					w.Get("/")
					w.WantGet("200 page | hit", "/")
					w.Handle(harness.Always(code, "no"))
					w.WantGet(fmt.Sprintf("%d no | fwd=request; fwd-status=%d; detail=no-cache", code, code), "/", "Cache-Control", "no-cache")
					for range 2 {
						w.WantGet(fmt.Sprintf("%d no | fwd=stale; fwd-status=%d; detail=invalidated", code, code), "/")
					}
					w.TakeDown()
					if _, err := w.Try(w.Request("GET", "/")); err == nil {
						t.Error("served although the origin had refused it last")
					}
				})
			})
			t.Run("stale while it is revalidated", func(t *testing.T) {
				harness.EachWorldInBubble(t, func(w *harness.World) {
					page := harness.Tagged(`"1"`, "page", "Cache-Control", "max-age=10, stale-while-revalidate=3600")
					w.Handle(page)
					w.Get("/")
					time.Sleep(time.Minute)
					w.Handle(harness.Always(code, "no"))
					w.WantGet("200 page | hit; detail=stale-while-revalidate", "/") // nobody has asked yet
					time.Sleep(time.Second)
					w.WantGet(fmt.Sprintf("%d no | fwd=stale; fwd-status=%d; detail=invalidated", code, code), "/")
					w.Handle(page)
					if r := w.Get("/"); r.Body != "page" || r.Status.Fwd != "stale" || !r.Status.Stored {
						w.Errorf("got %v", r)
					}
					w.WantGet("200 page | hit", "/")
				})
			})
			t.Run("for one of two", func(t *testing.T) {
				harness.EachWorld(t, func(w *harness.World) {
					w.Handle(harness.Always(200, "page", "Cache-Control", "max-age=3600", "Vary", "Accept"))
					w.Get("/", "Accept", "a/a")
					w.Get("/", "Accept", "b/b")
					w.Get("/", "Authorization", "Bearer token-of-alice")
					w.Handle(harness.Always(code, "no"))
					w.Get("/", "Accept", "a/a", "Cache-Control", "no-cache")
					w.WantGet("200 page | hit", "/", "Accept", "b/b")
					w.WantGet("200 page | hit", "/", "Authorization", "Bearer token-of-alice")
					harness.Check(t, "code", w.Get("/", "Accept", "a/a").Code, code)
				})
			})
		})
	}
}

// TestUnmatched304IsNotAskedForAgain: an origin whose 304s never match a stored
// response is asked twice only the first time. Then its responses come without
// conditions, one request each, as they would without a cache.
func TestUnmatched304IsNotAskedForAgain(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") != "" {
				harness.Answer(rw, 304, "", "ETag", `"another"`)
				return
			}
			harness.Answer(rw, 200, "page", "ETag", `"1"`, "Cache-Control", "no-cache")
		})
		const requests = 10
		for range requests {
			if r := w.Get("/"); r.Code != 200 || r.Body != "page" {
				w.Errorf("got %s", r)
			}
		}
		if n := len(w.Asked()); n != requests+1 {
			w.Errorf("got %d requests, want %d", n, requests+1)
		}
	})
}
