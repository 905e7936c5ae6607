package cachetrip_test

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
)

// refusesPreconditions answers requests without preconditions by a page that has to be validated each time, and
// others by a refusal.
func refusesPreconditions(code int) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		if r.Header["If-None-Match"] != nil || r.Header["If-Modified-Since"] != nil {
			answer(rw, code, "refused")
			return
		}
		answer(rw, 200, "page", "ETag", `"1"`, "Cache-Control", "no-cache")
	}
}

// TestRefusedPreconditions: an origin that does not bear the preconditions that the cache adds is asked without them,
// as it would be asked without a cache, and after the first time at once.
func TestRefusedPreconditions(t *testing.T) {
	for _, code := range []int{400, 403, 405, 412, 501} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			inBubbles(t, func(w *world) {
				w.cache.StaleIfError = time.Hour
				w.handle(refusesPreconditions(code))
				w.get("/")
				w.asked()
				const whole = "200 page | fwd=stale; fwd-status=200; stored; detail="
				w.wantGet(whole+"conditions-refused", "/")
				w.wantAsked([]string{"If-None-Match"}, `GET / If-None-Match: "1"`, "GET /")
				w.wantGet(whole+"no-cache", "/")
				w.wantAsked([]string{"If-None-Match"}, "GET /")
				time.Sleep(time.Hour) // in which the origin may have been mended
				w.wantGet(whole+"conditions-refused", "/")
				w.wantAsked([]string{"If-None-Match"}, `GET / If-None-Match: "1"`, "GET /")
			})
		})
	}
}

// TestCallersPreconditionsAreTheCallers: what is refused because of them is the answer to them.
func TestCallersPreconditionsAreTheCallers(t *testing.T) {
	onEachStore(t, func(w *world) {
		w.handle(refusesPreconditions(412))
		w.get("/")
		w.asked()
		w.wantGet("412 refused | fwd=stale; fwd-status=412; detail=conditions-refused", "/", "If-None-Match", `"own"`)
		w.wantAsked([]string{"If-None-Match"}, `GET / If-None-Match: "1", "own"`, `GET / If-None-Match: "own"`)
		w.wantGet("412 refused | fwd=stale; fwd-status=412; detail=no-cache", "/", "If-None-Match", `"own"`)
		w.wantAsked([]string{"If-None-Match"}, `GET / If-None-Match: "own"`)
	})
}

// TestOriginThatRefusesPreconditions: once some of its URLs have refused, the others are not tried.
func TestOriginThatRefusesPreconditions(t *testing.T) {
	onEachStore(t, func(w *world) {
		w.handle(refusesPreconditions(400))
		const urls = 10
		for i := range urls {
			w.get("/" + strconv.Itoa(i))
		}
		w.asked()
		for i := range urls {
			w.get("/" + strconv.Itoa(i))
		}
		check(t, "number of requests", len(w.asked()), urls+3)
	})
}

// TestOriginThatRefusesEverything is asked but once for each request, after the first one of a URL, and
// asked with preconditions again when it has changed its mind.
func TestOriginThatRefusesEverything(t *testing.T) {
	onEachStore(t, func(w *world) {
		page := tagged(`"1"`, "page", "Cache-Control", "no-cache")
		w.handle(page)
		w.get("/")
		w.handle(always(403, "forbidden"))
		w.asked()
		for range 5 {
			check(t, "code", w.get("/").Code, 403)
		}
		check(t, "number of requests", len(w.asked()), 6)
		w.handle(page)
		w.wantGet("200 page | fwd=stale; fwd-status=200; stored; detail=invalidated", "/")
		w.wantGet("200 page | fwd=stale; fwd-status=304; stored; detail=no-cache", "/")
	})
}

// TestRateLimitIsNoRefusal: asking again would make it worse.
func TestRateLimitIsNoRefusal(t *testing.T) {
	onEachStore(t, func(w *world) {
		page := tagged(`"1"`, "page", "Cache-Control", "no-cache")
		for _, limit := range [][]string{{"Retry-After", "60"}, {"X-RateLimit-Remaining", "0"}} {
			w.handle(page)
			w.get("/")
			w.handle(always(403, "slow down", limit...))
			w.asked()
			check(t, "code", w.get("/").Code, 403)
			w.wantAsked([]string{"If-None-Match"}, `GET / If-None-Match: "1"`)
		}
	})
}

// refusals of a request for the rest, of which the content from first on is held.
var resumeRefusals = []struct {
	name   string
	answer func(c *rawCall, body []byte, first int)
}{
	{"304", func(c *rawCall, body []byte, first int) { c.head(304, tag) }},
	{"400", func(c *rawCall, body []byte, first int) { c.head(400, "Content-Length: 0") }},
	{"401", func(c *rawCall, body []byte, first int) { c.head(401, "Content-Length: 0") }},
	{"403", func(c *rawCall, body []byte, first int) { c.head(403, "Content-Length: 0") }},
	{"404", func(c *rawCall, body []byte, first int) { c.head(404, "Content-Length: 0", fresh) }},
	{"405", func(c *rawCall, body []byte, first int) { c.head(405, "Content-Length: 0") }},
	{"412", func(c *rawCall, body []byte, first int) { c.head(412, "Content-Length: 0") }},
	{"416", func(c *rawCall, body []byte, first int) { c.head(416, "Content-Length: 0") }},
	{"500", func(c *rawCall, body []byte, first int) { c.head(500, "Content-Length: 0") }},
	{"501", func(c *rawCall, body []byte, first int) { c.head(501, "Content-Length: 0") }},
	{"302", func(c *rawCall, body []byte, first int) {
		c.head(302, "Location: /elsewhere", "Content-Length: 0", fresh)
	}},
	{"204", func(c *rawCall, body []byte, first int) { c.head(204, fresh) }},
	{"another tag", func(c *rawCall, body []byte, first int) { c.part(body, first, len(body), fresh, `ETag: "2"`) }},
	{"another part", func(c *rawCall, body []byte, first int) { c.part(body, 0, 10, fresh, tag) }},
	{"a part that is not to be stored", func(c *rawCall, body []byte, first int) {
		c.part(body, first, len(body), "Cache-Control: no-store", tag)
	}},
	{"hangs up", func(c *rawCall, body []byte, first int) { c.hangUp() }},
}

// TestRefusedResume: whatever an origin makes of a request for the rest, the caller gets the whole, as without a
// cache, and what was of no use is not tried again: not for the next body that breaks off, nor by another process.
func TestRefusedResume(t *testing.T) {
	leavesNothing(t)
	body := noise(300_000, 50)
	const first = 100_000
	for _, test := range resumeRefusals {
		for _, control := range []string{"", "no-cache"} {
			if control != "" && test.name != "403" {
				continue
			}
			t.Run(test.name+" "+control, func(t *testing.T) {
				parallelInEachStore(t, func(r *rig) {
					broken, ranges := true, 0
					origin := newRaw(r, func(c *rawCall) {
						switch {
						case c.Header.Get("Range") != "":
							ranges++
							test.answer(c, body, first)
						case broken:
							broken = false
							c.head(200, fresh, "Accept-Ranges: bytes", tag, "Content-Length: "+strconv.Itoa(len(body)))
							c.content(body[:first])
							<-c.gone
							c.hangUp()
						default:
							c.whole(body, "Cache-Control: no-store", tag)
						}
					})
					defer origin.close()
					breakOff := func() {
						broken = true
						resp := r.send(r.Context(), origin.url())
						io.ReadFull(resp.Body, make([]byte, first))
						resp.Body.Close()
					}
					fields := []string{}
					if control != "" {
						fields = []string{"Cache-Control", control}
					}
					breakOff()
					for range 3 {
						resp, got := r.get(origin.url(), fields...)
						wantBody(r, got, body)
						if resp.StatusCode != 200 || resp.ContentLength != int64(len(body)) || resp.Header.Get("Content-Range") != "" {
							r.Errorf("got %s, %v", resp.Status, resp.Header)
						}
					}
					if ranges != 1 {
						r.Errorf("got %d requests for the rest, want 1", ranges)
					}
					breakOff()
					r.get(origin.url(), fields...)
					if ranges != 1 {
						r.Errorf("got %d requests for the rest, after the next body broke off", ranges)
					}
				})
				if test.name == "hangs up" {
					return
				}
				newUncheckedRig(t, t.TempDir(), func(r *rig) { // a part that was refused is gone for the next process as well
					ranges := 0
					origin := newRaw(r, func(c *rawCall) {
						switch {
						case c.n == 0:
							c.head(200, fresh, "Accept-Ranges: bytes", tag, "Content-Length: "+strconv.Itoa(len(body)))
							c.content(body[:first])
							<-c.gone
							c.hangUp()
						case c.Header.Get("Range") != "":
							ranges++
							test.answer(c, body, first)
						default:
							c.whole(body, "Cache-Control: no-store", tag)
						}
					})
					defer origin.close()
					resp := r.send(r.Context(), origin.url())
					io.ReadFull(resp.Body, make([]byte, first))
					resp.Body.Close()
					for range 2 {
						_, got := r.get(origin.url())
						wantBody(r, got, body)
						if ranges != 1 {
							r.Errorf("got %d requests for the rest, want 1", ranges)
						}
						if size := sizeOf(t, r.dir); size >= first {
							r.Errorf("%d bytes are left on disk", size)
						}
						r.restart()
					}
				})
			})
		}
	}
}

// TestWholeInsteadOfRestThatIsNotStored: the part is of no use any more then.
func TestWholeInsteadOfRestThatIsNotStored(t *testing.T) {
	body := noise(300_000, 51)
	const first = 100_000
	for _, is := range []string{tag, `ETag: "2"`} {
		inEachStore(t, func(r *rig) {
			ranges := 0
			origin := newRaw(r, func(c *rawCall) {
				if c.Header.Get("Range") != "" {
					ranges++
				}
				if c.n == 0 {
					c.head(200, fresh, "Accept-Ranges: bytes", tag, "Content-Length: "+strconv.Itoa(len(body)))
					c.content(body[:first])
					<-c.gone
					c.hangUp()
					return
				}
				c.whole(body, "Cache-Control: no-store", is)
			})
			defer origin.close()
			resp := r.send(r.Context(), origin.url())
			io.ReadFull(resp.Body, make([]byte, first))
			resp.Body.Close()
			for range 3 {
				_, got := r.get(origin.url())
				wantBody(r, got, body)
			}
			if ranges != 1 {
				r.Errorf("got %d requests for the rest, want 1", ranges)
			}
		})
	}
}

// TestResumeWhereEverythingIsRefused: the part can't be blamed, and each request costs one, after the first.
func TestResumeWhereEverythingIsRefused(t *testing.T) {
	leavesNothing(t)
	body := noise(300_000, 52)
	const first = 100_000
	for _, code := range []int{401, 403, 429, 500, 503} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			parallelInEachStore(t, func(r *rig) {
				refuses := false
				origin := newRaw(r, func(c *rawCall) {
					switch {
					case refuses:
						c.head(code, "Content-Length: 0")
					case c.n == 0:
						c.head(200, fresh, "Accept-Ranges: bytes", tag, "Content-Length: "+strconv.Itoa(len(body)))
						c.content(body[:first])
						<-c.gone
						c.hangUp()
					default:
						c.whole(body, fresh, tag)
					}
				})
				defer origin.close()
				resp := r.send(r.Context(), origin.url())
				io.ReadFull(resp.Body, make([]byte, first))
				resp.Body.Close()
				refuses = true
				for range 5 {
					if resp, _ := r.get(origin.url()); resp.StatusCode != code {
						r.Errorf("got %s", resp.Status)
					}
				}
				if n := len(origin.requests()); n > 7 {
					r.Errorf("got %d requests for 6", n)
				}
				refuses = false
				_, got := r.get(origin.url())
				wantBody(r, got, body)
			})
		})
	}
}

// TestCodedOnTheWay: a middleware that compresses as it sends may answer a range with that of the uncompressed file.
// Without a length beforehand, nothing tells.
func TestCodedOnTheWay(t *testing.T) {
	body := noise(300_000, 53)
	const first = 100_000
	for _, by := range []string{"the reader", "the origin"} {
		t.Run(by, func(t *testing.T) {
			inEachStore(t, func(r *rig) {
				origin := newRaw(r, func(c *rawCall) {
					lines := []string{fresh, tag, "Accept-Ranges: bytes", "Content-Encoding: gzip", "Vary: Accept-Encoding", "Transfer-Encoding: chunked"}
					if c.Header.Get("Range") != "" {
						r.Errorf("got %v", c.Header)
						c.head(400, "Content-Length: 0")
						return
					}
					c.head(200, lines...)
					sends := len(body)
					if c.n == 0 {
						sends = first
					}
					c.write(fmt.Sprintf("%x\r\n", sends))
					c.content(body[:sends])
					c.write("\r\n")
					switch {
					case c.n > 0:
						c.write("0\r\n\r\n")
					case by == "the reader":
						<-c.gone
						c.hangUp()
					default:
						c.hangUp()
					}
				})
				defer origin.close()
				resp := r.send(r.Context(), origin.url(), "Accept-Encoding", "gzip")
				got := make([]byte, first)
				io.ReadFull(resp.Body, got)
				wantBody(r, got, body[:first])
				if by == "the origin" {
					if n, err := resp.Body.Read(got); n != 0 || err != io.ErrUnexpectedEOF {
						r.Errorf("got %d bytes, %v", n, err)
					}
				}
				resp.Body.Close()
				for _, want := range []string{"fwd=uri-miss", "hit"} {
					resp, got := r.get(origin.url(), "Accept-Encoding", "gzip")
					wantStatus(r, resp, want)
					wantBody(r, got, body)
				}
				if r.dir == "" {
					return
				}
				// The store fails in the middle: what was not announced is not continued either.
				if err := os.RemoveAll(r.dir); err != nil {
					r.Fatal(err)
				}
				resp = r.send(r.Context(), origin.url(), "Accept-Encoding", "gzip")
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			})
		})
	}
}

// TestRefusalsInStats: a refused request is one request of its caller.
func TestRefusalsInStats(t *testing.T) {
	onEachStore(t, func(w *world) {
		w.handle(refusesPreconditions(412))
		w.get("/")
		w.get("/")
		s := w.cache.Stats()
		check(t, "stats", []uint64{s.Requests, s.Misses, s.Stored}, []uint64{2, 2, 2})
		if text := cachetrip.ReasonText("conditions-refused"); !strings.Contains(text, "preconditions") {
			t.Errorf("got %q", text)
		}
	})
}

// TestNoAccessAnyMore: what the origin refuses to give out is validated before it is used again, whatever
// lifetime it was given: the refusal itself is its caller's.
func TestNoAccessAnyMore(t *testing.T) {
	for _, code := range []int{401, 403} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Run("fresh", func(t *testing.T) {
				onEachStore(t, func(w *world) {
					w.handle(always(200, "page", "Cache-Control", "max-age=3600, stale-if-error=3600"))
					w.get("/")
					w.wantGet("200 page | hit", "/")
					w.handle(always(code, "no"))
					w.wantGet(fmt.Sprintf("%d no | fwd=request; fwd-status=%d; detail=no-cache", code, code), "/", "Cache-Control", "no-cache")
					for range 2 {
						w.wantGet(fmt.Sprintf("%d no | fwd=stale; fwd-status=%d; detail=invalidated", code, code), "/")
					}
					w.down()
					if _, err := w.try(w.request("GET", "/")); err == nil {
						t.Error("served although the origin had refused it last")
					}
				})
			})
			t.Run("stale while it is revalidated", func(t *testing.T) {
				inBubbles(t, func(w *world) {
					page := tagged(`"1"`, "page", "Cache-Control", "max-age=10, stale-while-revalidate=3600")
					w.handle(page)
					w.get("/")
					time.Sleep(time.Minute)
					w.handle(always(code, "no"))
					w.wantGet("200 page | hit; detail=stale-while-revalidate", "/") // nobody has asked yet
					time.Sleep(time.Second)
					w.wantGet(fmt.Sprintf("%d no | fwd=stale; fwd-status=%d; detail=invalidated", code, code), "/")
					w.handle(page)
					if r := w.get("/"); r.Body != "page" || r.Status.Fwd != "stale" || !r.Status.Stored {
						w.Errorf("got %v", r)
					}
					w.wantGet("200 page | hit", "/")
				})
			})
			t.Run("for one of two", func(t *testing.T) {
				onEachStore(t, func(w *world) {
					w.handle(always(200, "page", "Cache-Control", "max-age=3600", "Vary", "Accept"))
					w.get("/", "Accept", "a/a")
					w.get("/", "Accept", "b/b")
					w.get("/", "Authorization", "Bearer "+alice)
					w.handle(always(code, "no"))
					w.get("/", "Accept", "a/a", "Cache-Control", "no-cache")
					w.wantGet("200 page | hit", "/", "Accept", "b/b")
					w.wantGet("200 page | hit", "/", "Authorization", "Bearer "+alice)
					check(t, "code", w.get("/", "Accept", "a/a").Code, code)
				})
			})
		})
	}
}

// TestUnmatched304IsNotAskedForAgain: an origin whose 304s never match what is stored is asked twice once. Then its
// responses come without conditions, one request each, as they would without a cache.
func TestUnmatched304IsNotAskedForAgain(t *testing.T) {
	onEachStore(t, func(w *world) {
		w.handle(func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") != "" {
				answer(rw, 304, "", "ETag", `"another"`)
				return
			}
			answer(rw, 200, "page", "ETag", `"1"`, "Cache-Control", "no-cache")
		})
		const requests = 10
		for range requests {
			if r := w.get("/"); r.Code != 200 || r.Body != "page" {
				w.Errorf("got %s", r)
			}
		}
		if n := len(w.asked()); n != requests+1 {
			w.Errorf("got %d requests, want %d", n, requests+1)
		}
	})
}
