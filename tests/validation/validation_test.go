package validation_test

import (
	"bytes"
	"compress/gzip"
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
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// Validation, freshening and invalidation as they show from outside: RFC 9111,
// sections 4.3 and 4.4.

func TestTagsOfAllVariantsInOneQuestion(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		negotiated := func(rw http.ResponseWriter, r *http.Request) {
			kind := r.Header.Get("Accept")
			rw.Header().Set("Vary", "Accept")
			harness.Tagged(`"`+kind+`"`, "as "+kind, "Cache-Control", "max-age=60")(rw, r)
		}
		w.Handle(negotiated)
		for _, kind := range []string{"a/a", "b/b", "c/c"} {
			w.Get("/", "Accept", kind)
			time.Sleep(time.Second) // so that it is known which is the newest
		}
		w.Asked()
		// The request selects none of the three. The origin says which one to
		// use.
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			harness.Answer(rw, 304, "", "Vary", "Accept", "ETag", `"b/b"`, "Cache-Control", "max-age=60", "X-Chosen", "b")
		})
		r := w.WantGet("200 as b/b | fwd=vary-miss; fwd-status=304; stored", "/", "Accept", "d/d")
		harness.Check(w, "X-Chosen", r.Header.Get("X-Chosen"), "b")
		w.WantAsked([]string{"If-None-Match"}, `GET / If-None-Match: "c/c", "b/b", "a/a"`)
		// It serves both kinds of requests now, and the others are left alone.
		w.WantGet("200 as b/b | hit", "/", "Accept", "d/d")
		w.WantGet("200 as b/b | hit", "/", "Accept", "b/b")
		w.WantGet("200 as a/a | hit", "/", "Accept", "a/a")
		w.WantGet("200 as c/c | hit", "/", "Accept", "c/c")
		w.WantAsked(nil)
		// A stale one is asked about together with the others, too.
		time.Sleep(2 * time.Minute)
		w.Handle(negotiated)
		w.WantGet("200 as a/a | fwd=stale; fwd-status=304; stored", "/", "Accept", "a/a")
		requests := w.Asked()
		if len(requests) != 1 {
			w.Fatalf("%d requests", len(requests))
		}
		tags := requests[0].Header.Get("If-None-Match")
		for _, tag := range []string{`"a/a"`, `"b/b"`, `"c/c"`} {
			if strings.Count(tags, tag) != 1 {
				w.Errorf("If-None-Match %s names %s not once", tags, tag)
			}
		}
		// Only the confirmed response is fresh again.
		w.WantGet("200 as a/a | hit", "/", "Accept", "a/a")
		w.WantGet("200 as c/c | fwd=stale; fwd-status=304; stored", "/", "Accept", "c/c")
	})
}

// For callers that set no Accept-Encoding, net/http requests gzip and decodes
// the response. So the origin may confirm a response that was stored for a
// caller that requested gzip and decodes it itself.
func TestCodingOnlyForWhoAsksForIt(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		io.WriteString(z, "plain text")
		z.Close()
		negotiated := func(rw http.ResponseWriter, r *http.Request) {
			tag, body := `"plain"`, "plain text"
			if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				tag, body = `"packed"`, packed.String()
				rw.Header().Set("Content-Encoding", "gzip")
			}
			harness.Tagged(tag, body, "Vary", "Accept-Encoding", "Cache-Control", "max-age=60")(rw, r)
		}
		w.Handle(negotiated)
		w.WantGet("200 "+packed.String()+" | fwd=uri-miss; fwd-status=200; stored", "/", "Accept-Encoding", "gzip")
		w.Asked()
		r := w.WantGet("200 plain text | fwd=vary-miss; fwd-status=200; stored", "/")
		harness.Check(w, "Content-Encoding", r.Header.Get("Content-Encoding"), "")
		w.WantAsked([]string{"Accept-Encoding", "If-None-Match"}, "GET / Accept-Encoding: gzip")
		// Each goes on getting their own.
		w.WantGet("200 plain text | hit", "/")
		w.WantGet("200 "+packed.String()+" | hit", "/", "Accept-Encoding", "gzip")
		// A caller that accepts a coding may get a response in it that another
		// caller requested.
		w.Get("/other", "Accept-Encoding", "gzip")
		w.WantGet("200 "+packed.String()+" | fwd=vary-miss; fwd-status=304; stored", "/other", "Accept-Encoding", "br, gzip")
	})
}

// The last response of the origin counts, even if it is not stored.
func TestNewerResponseThatIsNotStored(t *testing.T) {
	const fresh, asks = "200 one | hit", "200 one | fwd=stale; fwd-status=200; stored; detail=invalidated"
	full := errors.New("no space left on device")
	for _, test := range []struct {
		name   string
		create error // of the store, while the newer response comes
		answer http.HandlerFunc
		want   string // of a request after it
	}{
		{"no-store", nil, harness.Always(200, "two", "Cache-Control", "no-store"), asks},
		{"no-store, of the same content", nil, harness.Always(200, "one", "Cache-Control", "no-store", "ETag", `"1"`), asks},
		{"gone", nil, harness.Always(404, "two", "Cache-Control", "no-store"), asks},
		{"elsewhere", nil, harness.Always(302, "", "Location", "/other"), asks},
		{"without lifetime and validator", nil, harness.Always(200, "two"), asks},
		{"too large", store.ErrTooLarge, harness.Always(200, "two", "Cache-Control", "max-age=60"), asks},
		{"the store can't keep the body", full, harness.Always(200, "two", "Cache-Control", "max-age=60"), asks},
		{"the store can't keep the body, of the same content", full, harness.Always(200, "one", "Cache-Control", "max-age=60", "ETag", `"1"`), fresh},
		{"a failure", nil, harness.Always(503, "two", "Cache-Control", "no-store"), fresh},
		{"no permission", nil, harness.Always(403, "two", "Cache-Control", "no-store"), asks},
		{"no permission, without credentials", nil, harness.Always(401, "two", "Cache-Control", "no-store"), asks},
		{"a rate limit", nil, harness.Always(403, "two", "Retry-After", "60"), fresh},
		{"another rate limit", nil, harness.Always(403, "two", "X-RateLimit-Remaining", "0"), fresh},
		{"too many requests", nil, harness.Always(429, "two"), fresh},
		{"a timeout", nil, harness.Always(408, "two"), fresh},
		{"about a precondition", nil, harness.Always(412, "", "Cache-Control", "no-store"), fresh},
		{"broken off", nil, harness.Always(200, "tw", "Cache-Control", "max-age=60", "Content-Length", "100"), fresh},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				one := harness.Always(200, "one", "Cache-Control", "max-age=60, stale-if-error=60", "ETag", `"1"`, "Vary", "Accept")
				w.Handle(one)
				w.Get("/")
				w.Get("/", "Accept", "a/a")
				w.Handle(test.answer)
				faulty := storefault.Wrap(w.Store)
				if test.create != nil {
					faulty.Inject(storefault.Fail(test.create), storefault.Create)
				}
				w.Transport.Store = faulty
				w.Try(w.Request("GET", "/", "Cache-Control", "no-cache"))
				w.Transport.Store = w.Store
				w.Handle(one)
				w.WantGet(test.want, "/")
				w.WantGet("200 one | hit", "/")
				w.WantGet("200 one | hit", "/", "Accept", "a/a")
			})
		})
	}
}

// A part that is not stored says what the whole is now.
func TestNewerPartThatIsNotStored(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, "one one", "Cache-Control", "max-age=60"))
		w.Get("/")
		w.WantGet("206 one | hit", "/", "Range", "bytes=0-2")
		w.Handle(harness.Tagged(`"2"`, "two two", "Cache-Control", "no-store"))
		w.WantGet("206 two | fwd=request; fwd-status=206; detail=no-cache", "/", "Range", "bytes=0-2", "Cache-Control", "no-cache")
		w.WantGet("200 two two | fwd=stale; fwd-status=200; detail=invalidated", "/")
	})
}

// A 304 to the caller's own entity tag, which differs from the stored one,
// shows that the stored response is outdated.
func TestNotModifiedOfWhatTheCallerHas(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, "one", "Cache-Control", "max-age=60"))
		w.Get("/")
		w.Handle(harness.Tagged(`"2"`, "two", "Cache-Control", "max-age=60"))
		w.WantGet("304  | fwd=request; fwd-status=304; detail=no-cache", "/", "Cache-Control", "no-cache", "If-None-Match", `"2"`)
		w.WantGet("200 two | fwd=stale; fwd-status=200; stored; detail=invalidated", "/")
	})
}

// A 304 with no-store serves only the caller that asked, not later callers and
// not those that waited for it.
func TestNotModifiedWithNoStore(t *testing.T) {
	for _, test := range []struct{ name, stored, confirmed string }{
		{"strong", `"1"`, `"1"`}, {"weak", `W/"1"`, `W/"1"`}, {"stronger than what is stored", `W/"1"`, `"1"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				w.Handle(harness.Always(200, "one", "Cache-Control", "max-age=60", "ETag", test.stored))
				w.Get("/")
				time.Sleep(2 * time.Minute)
				w.Asked()
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					time.Sleep(time.Second)
					if r.Header.Get("If-None-Match") != "" {
						harness.Answer(rw, 304, "", "Cache-Control", "no-store", "ETag", test.confirmed)
						return
					}
					harness.Answer(rw, 200, "anew", "Cache-Control", "no-store")
				})
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						r := w.Get("/")
						if r.Status.Stored || r.Status.Hit || r.Status.Collapsed {
							w.Errorf("got %s", r)
						}
					})
				}
				wg.Wait()
				harness.Check(w, "requests", len(w.Asked()), 3)
				w.Handle(harness.Always(200, "anew", "Cache-Control", "no-store"))
				if r := w.Get("/"); r.Body != "anew" {
					w.Errorf("afterwards: %s", r)
				}
				w.Asked()
				w.Get("/", "Cache-Control", "max-stale")
				harness.Check(w, "requests that accept what is stale", len(w.Asked()), 1)
			})
		})
	}
}

func TestStoredSaysWhatAHeadStored(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		head := func(want string, fields ...string) {
			w.Helper()
			w.WantDo(want, w.Request("HEAD", "/", fields...))
		}
		w.Handle(harness.Always(200, "", "Cache-Control", "no-store"))
		head("200  | fwd=uri-miss; fwd-status=200; detail=no-store")
		w.Handle(harness.Always(200, "", "Cache-Control", "max-age=60", "ETag", `"1"`))
		head("200  | fwd=uri-miss; fwd-status=200; stored")
		harness.Check(w, "responses stored", w.Transport.Stats().Stored, uint64(1))
		head("200  | hit")
		w.Handle(harness.Tagged(`"1"`, "one", "Cache-Control", "max-age=60"))
		w.WantGet("200 one | fwd=uri-miss; fwd-status=200; stored", "/")
		// A HEAD updates the stored response to a GET, like a 304, or makes it
		// be validated.
		w.Handle(harness.Always(200, "one", "Cache-Control", "max-age=60", "ETag", `"1"`))
		head("200  | fwd=request; fwd-status=200; stored; detail=no-cache", "Cache-Control", "no-cache")
		w.WantGet("200 one | hit", "/")
		w.Handle(harness.Tagged(`"2"`, "two", "Cache-Control", "max-age=60"))
		head("200  | fwd=request; fwd-status=200; detail=no-cache", "Cache-Control", "no-cache")
		w.WantGet("200 two | fwd=stale; fwd-status=200; stored; detail=invalidated", "/")
		w.Handle(harness.Always(200, "two", "Cache-Control", "no-store", "ETag", `"2"`))
		head("200  | fwd=request; fwd-status=200; detail=no-cache", "Cache-Control", "no-cache")
		w.WantGet("200 two | fwd=uri-miss; fwd-status=200; detail=no-store", "/")
	})
}

func TestNotModifiedThatMatchesNothing(t *testing.T) {
	ctx := context.Background()
	for _, test := range []struct {
		name   string
		size   int
		answer func(w *harness.World, rw http.ResponseWriter) // to the conditional request
	}{
		{"another tag", 10, func(w *harness.World, rw http.ResponseWriter) { harness.Answer(rw, 304, "", "ETag", `"other"`) }},
		{"another weak tag", 10, func(w *harness.World, rw http.ResponseWriter) { harness.Answer(rw, 304, "", "ETag", `W/"other"`) }},
		{"purged meanwhile", 10, func(w *harness.World, rw http.ResponseWriter) {
			if err := w.Transport.Purge(ctx, w.URL+"/"); err != nil {
				w.Error(err)
			}
			harness.Answer(rw, 304, "", "ETag", `"1"`)
		}},
		{"purged meanwhile, by another", 10, func(w *harness.World, rw http.ResponseWriter) {
			other := &cachetrip.Transport{Store: w.Store}
			if err := other.Purge(ctx, w.URL+"/"); err != nil {
				w.Error(err)
			}
			harness.Answer(rw, 304, "", "ETag", `"1"`)
		}},
		{"files gone meanwhile", 10, func(w *harness.World, rw http.ResponseWriter) {
			w.EachFile(func(path string, size int64) {
				if size > 0 && filepath.Base(filepath.Dir(path)) != "v1" {
					os.Remove(path)
				}
			})
			harness.FilesChanged()
			harness.Answer(rw, 304, "", "ETag", `"1"`)
		}},
		{"body gone meanwhile", 300_000, func(w *harness.World, rw http.ResponseWriter) {
			w.EachFile(func(path string, size int64) {
				if size > 200_000 {
					os.Remove(path)
				}
			})
			harness.Answer(rw, 304, "", "ETag", `"1"`)
		}},
		{"body cut meanwhile", 300_000, func(w *harness.World, rw http.ResponseWriter) {
			w.EachFile(func(path string, size int64) {
				if size > 200_000 {
					os.Truncate(path, size/2)
				}
			})
			harness.Answer(rw, 304, "", "ETag", `"1"`)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, kind := range []string{"disk", "memory"} {
				if kind == "memory" && strings.Contains(test.name, "meanwhile") && !strings.HasPrefix(test.name, "purged") {
					continue
				}
				keep := harness.OnDisk
				if kind == "memory" {
					keep = harness.InMemory
				}
				w := harness.NewWorld(t, keep, harness.ServeLoopback)
				body := strings.Repeat("1", test.size)
				w.Handle(harness.Tagged(`"1"`, body, "Cache-Control", "max-age=0"))
				w.Get("/")
				w.Asked()
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					if r.Header.Get("If-None-Match") != "" {
						test.answer(w, rw)
						return
					}
					harness.Answer(rw, 200, "anew", "Cache-Control", "max-age=60", "ETag", `"2"`)
				})
				if r := w.Get("/"); r.Code != 200 || r.Body != "anew" {
					t.Errorf("got %v", r)
				}
				w.WantAsked([]string{"If-None-Match"}, `GET / If-None-Match: "1"`, "GET /")
				w.WantGet("200 anew | hit", "/")
			}
		})
	}
}

func TestNotModifiedToNoQuestion(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(harness.Always(304, "", "ETag", `"1"`, "Cache-Control", "max-age=60"))
		w.WantGet("304  | fwd=uri-miss; fwd-status=304; detail=status", "/")
		w.WantGet("304  | fwd=uri-miss; fwd-status=304; detail=status", "/")
		harness.Check(w, "requests to the origin", len(w.Asked()), 2)
	})
}

func TestConfirmationRewritesHeadsOnly(t *testing.T) {
	w := harness.NewWorld(t, harness.OnDisk, harness.ServeLoopback)
	body := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	w.Handle(harness.Tagged(`"1"`, body, "Cache-Control", "max-age=0"))
	w.Get("/")
	type file struct {
		path string
		info os.FileInfo
	}
	survey := func() (large []file, small int64) {
		w.EachFile(func(path string, size int64) {
			if size < 1<<20 {
				small += size
				return
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Error(err)
			}
			large = append(large, file{path, info})
		})
		return large, small
	}
	before, heads := survey()
	if len(before) != 1 {
		t.Fatalf("%d large files, want one", len(before))
	}
	const rounds = 5
	for range rounds {
		r := w.Get("/")
		if !r.Status.Revalidated || r.Body != body {
			t.Fatalf("not confirmed: %+v, %d bytes", r.Status, len(r.Body))
		}
	}
	after, headsAfter := survey()
	if len(after) != 1 || after[0].path != before[0].path || !os.SameFile(after[0].info, before[0].info) ||
		after[0].info.Size() != before[0].info.Size() || !after[0].info.ModTime().Equal(before[0].info.ModTime()) {
		t.Errorf("the body's file was touched: %v, before %v", after, before)
	}
	if grown := headsAfter - heads; grown > rounds*2048 {
		t.Errorf("%d confirmations made the heads grow by %d bytes", rounds, grown)
	}
	harness.Check(t, "bytes received", w.Transport.Stats().BytesReceived, int64(len(body)))
}

func TestWhatAConfirmationChanges(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(harness.Always(200, "content", "ETag", `"1"`, "Cache-Control", "max-age=10", "Content-Type", "text/a",
			"Content-Language", "de", "X-Stays", "1", "X-RateLimit-Remaining", "10", "Age", "3"))
		w.Get("/")
		time.Sleep(time.Minute)
		w.Transport.ModifyResponse = func(resp *http.Response) error { // what net/http's server leaves out
			resp.Header["Content-Type"] = []string{"text/b"}
			resp.Header["Content-Length"] = []string{"999"}
			return nil
		}
		w.Handle(harness.Always(304, "", "ETag", `"1"`, "Cache-Control", "max-age=100",
			"Content-Encoding", "gzip", "X-RateLimit-Remaining", "9", "X-New", "a", "X-New", "b",
			"Connection", "X-Hop", "X-Hop", "1", "Keep-Alive", "timeout=5"))
		want := http.Header{
			"Etag": {`"1"`}, "Cache-Control": {"max-age=100"}, "Content-Type": {"text/b"}, "Content-Language": {"de"},
			"Content-Length": {"7"}, "X-Stays": {"1"}, "X-Ratelimit-Remaining": {"9"}, "X-New": {"a", "b"},
			"Date": {time.Now().UTC().Format(http.TimeFormat)},
		}
		for _, story := range []string{"200 content | fwd=stale; fwd-status=304; stored", "200 content | hit"} {
			h := w.WantGet(story, "/").Header.Clone()
			for _, ours := range []string{"Cache-Status", "X-From-Cache", "Age"} {
				h.Del(ours)
			}
			harness.Check(w, "header", h, want)
		}
		time.Sleep(90 * time.Second)
		w.WantGet("200 content | hit", "/") // by the new lifetime
	})
}

func TestValidationByDate(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		modified := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-Modified-Since") == modified {
				harness.Answer(rw, 304, "")
				return
			}
			harness.Answer(rw, 200, "content", "Last-Modified", modified, "Cache-Control", "max-age=10")
		})
		w.Get("/")
		time.Sleep(20 * time.Second)
		w.Asked()
		w.WantGet("200 content | fwd=stale; fwd-status=304; stored", "/")
		w.WantAsked([]string{"If-Modified-Since", "If-None-Match"}, "GET / If-Modified-Since: "+modified)
		w.WantGet("200 content | hit", "/")
	})
}

func TestCallersConditionsAndOurs(t *testing.T) {
	const stored, other = `"stored"`, `"other"`
	for _, test := range []struct {
		name, caller string
		current      string // the origin's tag
		want         string
		asked        string
	}{
		{"stored is current, caller has it", stored, stored, "304  | fwd=stale; fwd-status=304; stored", `"stored"`},
		{"stored is current, caller has another", other, stored, "200 body of stored | fwd=stale; fwd-status=304; stored", `"stored", "other"`},
		{"caller's is current", other, other, "304  | fwd=stale; fwd-status=304", `"stored", "other"`},
		{"neither is", other, `"newest"`, "200 body of newest | fwd=stale; fwd-status=200; stored", `"stored", "other"`},
		{"caller takes anything", "*", stored, "304  | fwd=stale; fwd-status=304; detail=status", `*`},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				serve := func(tag string) http.HandlerFunc {
					return harness.Tagged(tag, "body of "+strings.Trim(tag, `"`), "Cache-Control", "max-age=0")
				}
				w.Handle(serve(stored))
				w.Get("/")
				w.Asked()
				w.Handle(serve(test.current))
				w.WantGet(test.want, "/", "If-None-Match", test.caller)
				w.WantAsked([]string{"If-None-Match"}, "GET / If-None-Match: "+test.asked)
				// The stored response is whole, whatever the caller got.
				if r := w.Get("/"); r.Code != 200 || r.Body != "body of "+strings.Trim(test.current, `"`) {
					w.Errorf("the next GET got %v", r)
				}
			})
		})
	}
}

func TestHeadAnswersConcernTheStoredGet(t *testing.T) {
	for _, test := range []struct {
		name   string
		code   int
		fields []string
		want   string // of the next GET
	}{
		{"same tag", 200, []string{"ETag", `"1"`, "Content-Length", "3", "Cache-Control", "max-age=1000"}, "200 one | hit"},
		{"same, said less", 200, []string{"Cache-Control", "max-age=1000"}, "200 one | hit"},
		{"other tag", 200, []string{"ETag", `"2"`, "Cache-Control", "max-age=1000"}, "200 one | fwd=stale; fwd-status=304; stored; detail=invalidated"},
		{"other length", 200, []string{"Content-Length", "4", "Cache-Control", "max-age=1000"}, "200 one | fwd=stale; fwd-status=304; stored; detail=invalidated"},
		{"failure", 503, []string{"ETag", `"2"`}, "200 one | fwd=stale; fwd-status=304; stored"},
		{"no access", 403, []string{"ETag", `"2"`, "Cache-Control", "max-age=1000"}, "200 one | fwd=stale; fwd-status=304; stored; detail=invalidated"},
		{"too many requests", 429, []string{"ETag", `"2"`}, "200 one | fwd=stale; fwd-status=304; stored"},
		{"gone", 404, []string{"Cache-Control", "max-age=1000"}, "200 one | fwd=stale; fwd-status=304; stored; detail=invalidated"},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				get := harness.Tagged(`"1"`, "one", "Cache-Control", "max-age=60")
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					if r.Method == "HEAD" {
						harness.Answer(rw, test.code, "", test.fields...)
						return
					}
					get(rw, r)
				})
				w.Get("/")
				time.Sleep(2 * time.Minute)
				if r := w.Do(w.Request("HEAD", "/")); r.Code != test.code || r.Body != "" {
					w.Errorf("HEAD got %v", r)
				}
				w.WantGet(test.want, "/")
			})
		})
	}
}

func TestHeadsAlone(t *testing.T) {
	// A HEAD without a stored GET never costs more requests than without a cache.
	for _, control := range []string{"max-age=60", "max-age=0", "no-store"} {
		t.Run(control, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Handle(harness.Tagged(`"1"`, "one", "Cache-Control", control))
				for i := range 3 {
					r := w.Do(w.Request("HEAD", "/"))
					harness.Check(w, "code", r.Code, 200)
					harness.Check(w, "length", r.Response.ContentLength, int64(3))
					want := 1
					if control == "max-age=60" && i > 0 {
						want = 0
					}
					harness.Check(w, fmt.Sprint("requests of HEAD ", i), len(w.Asked()), want)
				}
				if r := w.Get("/"); r.Body != "one" {
					w.Errorf("GET got %v", r)
				}
			})
		})
	}
}

func TestInvalidationByUnsafeMethods(t *testing.T) {
	const hit, confirmed = "200 x | hit", "200 x | fwd=stale; fwd-status=304; stored; detail=invalidated"
	type want struct{ target, location, content, bystander string }
	only := want{confirmed, hit, hit, hit}
	nothing := want{hit, hit, hit, hit}
	for _, test := range []struct {
		method string
		code   int
		fields []string
		want   want
	}{
		{"POST", 200, nil, only},
		{"POST", 201, []string{"Location", "/location", "Content-Location", "content"}, want{confirmed, confirmed, confirmed, hit}},
		{"POST", 303, []string{"Location", "location#fragment"}, want{confirmed, confirmed, hit, hit}},
		{"PUT", 204, nil, only},
		{"PATCH", 200, nil, only},
		{"DELETE", 204, nil, only},
		{"FROB", 200, nil, only},
		{"get", 200, nil, only}, // methods are case-sensitive
		{"PUT", 200, []string{"Location", "ORIGIN/location"}, want{confirmed, confirmed, hit, hit}},
		{"PUT", 200, []string{"Location", "http://elsewhere.test/location", "Content-Location", "//elsewhere.test/content"}, only},
		{"PUT", 200, []string{"Location", "https:location", "Content-Location", "http://%zz"}, only},
		{"POST", 400, []string{"Location", "/location"}, nothing},
		{"POST", 404, nil, nothing},
		{"POST", 500, []string{"Content-Location", "/content"}, nothing},
		{"OPTIONS", 200, []string{"Location", "/location"}, nothing},
		{"PROPFIND", 207, nil, nothing},
		{"GET", 200, []string{"Location", "/location", "Content-Location", "/content"}, only}, // as it is newer
		{"GET", 503, []string{"Location", "/location", "Content-Location", "/content"}, nothing},
	} {
		t.Run(fmt.Sprint(test.method, test.code, test.fields), func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				get := harness.Tagged(`"1"`, "x", "Cache-Control", "max-age=60")
				unsafe := func(rw http.ResponseWriter, r *http.Request) {
					fields := []string{"Cache-Control", "no-store"}
					for _, s := range test.fields {
						fields = append(fields, strings.Replace(s, "ORIGIN", "HTTP://"+r.Host, 1))
					}
					harness.Answer(rw, test.code, "", fields...)
				}
				w.Handle(get)
				for _, path := range []string{"/target", "/location", "/content", "/bystander"} {
					w.Get(path)
				}
				w.Handle(unsafe)
				req := w.Request(test.method, "/target")
				if test.method == "GET" {
					req.Header.Set("Cache-Control", "no-cache")
				}
				w.Do(req)
				w.Handle(get)
				w.WantGet(test.want.target, "/target")
				w.WantGet(test.want.location, "/location")
				w.WantGet(test.want.content, "/content")
				w.WantGet(test.want.bystander, "/bystander")
			})
		})
	}
}

func TestInvalidationStopsAtTheOrigin(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		elsewhere, _, _ := harness.ServeLoopback(w.T, harness.Always(200, "x", "Cache-Control", "max-age=60"))
		get := func() *harness.Result {
			req, err := http.NewRequest("GET", elsewhere+"/page", nil)
			if err != nil {
				w.Fatal(err)
			}
			return w.Do(req)
		}
		get()
		w.Handle(harness.Always(200, "", "Location", elsewhere+"/page", "Content-Location", elsewhere+"/page"))
		w.Do(w.Request("POST", "/"))
		harness.Check(w, "another origin's page", get().String(), "200 x | hit")
	})
}

func TestFailedPostLeavesNothingInvalid(t *testing.T) {
	w := harness.NewWorld(t, harness.OnDisk, harness.ServeLoopback)
	w.Handle(harness.Tagged(`"1"`, "x", "Cache-Control", "max-age=60"))
	w.Get("/")
	w.TakeDown()
	if r, err := w.Try(w.Request("POST", "/")); err == nil {
		t.Errorf("got %v", r)
	}
	w.WantGet("200 x | hit", "/")
}

// An origin that answers has acted, even if a program refuses the response.
func TestModifyResponseDoesNotKeepFromInvalidating(t *testing.T) {
	errRefused := errors.New("refused by the program")
	for name, modify := range map[string]func(*http.Response) error{
		"an error": func(*http.Response) error { return errRefused },
		"another status": func(r *http.Response) error {
			r.StatusCode, r.Status = 500, "500 Internal Server Error"
			return nil
		},
		"no header": func(r *http.Response) error { r.Header = make(http.Header); return nil },
	} {
		for _, method := range []string{"PUT", "POST", "DELETE", "FROB"} {
			t.Run(name+" "+method, func(t *testing.T) {
				harness.EachWorld(t, func(w *harness.World) {
					w.Transport.ModifyResponse = func(r *http.Response) error {
						if r.Request.Method == "GET" {
							return nil
						}
						return modify(r)
					}
					w.Handle(func(rw http.ResponseWriter, r *http.Request) {
						rw.Header().Set("Location", "/other")
						harness.Tagged(`"1"`, "x", "Cache-Control", "max-age=60")(rw, r)
					})
					w.Get("/")
					w.Get("/other")
					if _, err := w.Try(w.Request(method, "/")); name == "an error" && !errors.Is(err, errRefused) {
						t.Errorf("got the error %v", err)
					}
					w.WantGet("200 x | fwd=stale; fwd-status=304; stored; detail=invalidated", "/")
					w.WantGet("200 x | fwd=stale; fwd-status=304; stored; detail=invalidated", "/other")
				})
			})
		}
	}
}

func TestErrorsNeverReplaceAGoodResponse(t *testing.T) {
	for _, code := range []int{401, 403, 407, 408, 428, 429, 431, 500, 502, 503, 504, 511} {
		refuses := code == 401 || code == 403 // so that the stored response must be validated
		for _, control := range []string{"max-age=60", "no-store", ""} {
			t.Run(fmt.Sprint(code, control), func(t *testing.T) {
				w := harness.NewWorld(t, harness.InMemory, harness.ServeLoopback)
				good := harness.Tagged(`"1"`, "good", "Cache-Control", "max-age=60")
				w.Handle(good)
				w.Get("/")
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					if control != "" {
						rw.Header().Set("Cache-Control", control)
					}
					harness.Answer(rw, code, "bad", "ETag", `"bad"`)
				})
				r := w.Get("/", "Cache-Control", "no-cache")
				if r.Code != code || r.Body != "bad" || r.Status.Stored {
					t.Errorf("got %v", r)
				}
				if refuses {
					harness.Check(w, "the next code", w.Get("/").Code, code)
				} else {
					w.WantGet("200 good | hit", "/")
				}
				w.Handle(good)
				if r := w.Get("/", "Cache-Control", "no-cache"); r.Body != "good" || !r.Status.Stored || !refuses && r.Status.FwdStatus != 304 {
					t.Errorf("got %v", r)
				}
				w.WantGet("200 good | hit", "/")
			})
		}
	}
}

func TestWhichStatusesAreKept(t *testing.T) {
	modified := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).Format(http.TimeFormat)
	never := map[int]bool{226: true, 428: true, 429: true, 431: true, 511: true}
	heuristic := map[int]bool{200: true, 203: true, 204: true, 300: true, 301: true, 308: true, 404: true, 405: true, 410: true, 414: true, 501: true}
	for _, code := range []int{200, 201, 202, 203, 204, 226, 300, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404, 405, 408, 410, 414, 418, 428, 429, 431, 451, 500, 501, 502, 503, 504, 511, 599} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			for _, test := range []struct {
				name   string
				fields []string
				want   bool // a hit
			}{
				{"explicit", []string{"Cache-Control", "max-age=60"}, true},
				{"heuristic", []string{"Last-Modified", modified}, heuristic[code]},
				{"public", []string{"Last-Modified", modified, "Cache-Control", "public"}, true},
				{"nothing", nil, false},
				{"no-store", []string{"Cache-Control", "no-store, max-age=60"}, false},
			} {
				w := harness.NewWorld(t, harness.InMemory, harness.ServeLoopback)
				w.Handle(harness.Always(code, "", test.fields...))
				w.Get("/")
				if r := w.Get("/"); r.Status.Hit != (test.want && !never[code]) || r.Code != code {
					t.Errorf("%s: %v, want a hit: %t", test.name, r, test.want && !never[code])
				}
			}
		})
	}
}

func TestHeuristicLifetime(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, "x", "Last-Modified", time.Now().Add(-100*time.Hour).UTC().Format(http.TimeFormat)))
		w.Get("/")
		time.Sleep(9*time.Hour + 59*time.Minute)
		w.WantGet("200 x | hit", "/")
		time.Sleep(2 * time.Minute)
		w.WantGet("200 x | fwd=stale; fwd-status=304; stored", "/")
	})
}

// A week at most, and nothing from a Date that is ahead of the clock or from
// the beginning of a file system's time.
func TestHeuristicLifetimeIsLimited(t *testing.T) {
	const day = 24 * time.Hour
	for _, test := range []struct {
		name           string
		modified, date time.Duration // before and after now
		epoch          string        // in place of modified
		want           time.Duration
	}{
		{"modified a year ago", 365 * day, 0, "", 7 * day},
		{"modified ten days ago, a Date a year ahead", 10 * day, 365 * day, "", day},
		{"modified in 1970", 0, 0, "Thu, 01 Jan 1970 00:00:01 GMT", 0},
		{"modified in 1980", 0, 0, "Tue, 01 Jan 1980 00:00:00 GMT", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				modified := test.epoch
				if modified == "" {
					modified = time.Now().Add(-test.modified).UTC().Format(http.TimeFormat)
				}
				w.Handle(harness.Tagged(`"1"`, "x", "Last-Modified", modified, "Date", time.Now().Add(test.date).UTC().Format(http.TimeFormat)))
				w.Get("/")
				if test.want > 0 {
					time.Sleep(test.want - time.Minute)
					w.WantGet("200 x | hit", "/")
					time.Sleep(2 * time.Minute)
				}
				w.WantGet("200 x | fwd=stale; fwd-status=304; stored", "/")
			})
		})
	}
}

// The meaning of a malformed Cache-Control is unknown. It never leads to a
// lifetime that the origin did not state, and its prohibitions hold.
func TestMalformedCacheControl(t *testing.T) {
	modified := time.Now().Add(-1000 * time.Hour).UTC().Format(http.TimeFormat)
	for control, stored := range map[string]bool{
		"no-cache; private; no-store": false, "no-store; max-age=0": false, "no-cache no-store": false, "max-age=60; no-store": false,
		"no-cache; max-age=60": true, "private; max-age=60": true, "max-age:60": true, "max-age 60": true, `"max-age=60"`: true, "<never>": true,
	} {
		t.Run(control, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Handle(harness.Tagged(`"1"`, "x", "Last-Modified", modified, "Cache-Control", control))
				harness.Check(w, "stored", w.Get("/").Status.Stored, stored)
				harness.Check(w, "a hit", w.Get("/").Status.Hit, false)
				harness.Check(w, "requests to the origin", len(w.Asked()), 2)
			})
		})
	}
}

func TestRedirectsAreFollowedFromTheCache(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=60")
			if r.URL.Path == "/from" {
				http.Redirect(rw, r, "/to", http.StatusMovedPermanently)
				return
			}
			harness.Answer(rw, 200, "there")
		})
		w.Client.CheckRedirect = nil
		w.WantGet("200 there | fwd=uri-miss; fwd-status=200; stored", "/from")
		r := w.WantGet("200 there | hit", "/from")
		harness.Check(w, "where it ended", r.Response.Request.URL.Path, "/to")
		harness.Check(w, "requests to the origin", len(w.Asked()), 2)
	})
}
