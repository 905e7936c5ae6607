package sharing_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
)

// TestWhoCollapses: callers with ranges, conditions or directives share one
// request, too, if the response can be reused for them.
func TestWhoCollapses(t *testing.T) {
	body := harness.Noise(300_000, 90)
	whole := func(c *harness.RawCall) { c.Whole(body, harness.Fresh, `ETag: "1"`) }
	part := func(c *harness.RawCall) {
		var from, to int
		if n, _ := fmt.Sscanf(c.Header.Get("Range"), "bytes=%d-%d", &from, &to); n != 2 {
			whole(c)
			return
		}
		c.Part(body, from, to+1, harness.Fresh, `ETag: "1"`)
	}
	for _, test := range []struct {
		name   string
		stored bool // and in need of validation
		answer func(c *harness.RawCall)
		fields []string
		code   int
		want   []byte
		alone  bool
		hits   bool // later callers may get the stored response of the first
	}{
		{name: "max-age", answer: whole, fields: []string{"Cache-Control", "max-age=60"}, code: 200, want: body},
		{name: "min-fresh", answer: whole, fields: []string{"Cache-Control", "min-fresh=60"}, code: 200, want: body},
		{name: "max-age that is exceeded", fields: []string{"Cache-Control", "max-age=60"}, code: 200, want: body, alone: true,
			answer: func(c *harness.RawCall) { c.Whole(body, harness.Fresh, "Age: 100") }},
		{name: "min-fresh that is missed", answer: whole, fields: []string{"Cache-Control", "min-fresh=6000"}, code: 200, want: body, alone: true},
		{name: "max-age=0", answer: whole, fields: []string{"Cache-Control", "max-age=0"}, code: 200, want: body, alone: true},
		{name: "no-cache", answer: whole, fields: []string{"Cache-Control", "no-cache"}, code: 200, want: body, alone: true},
		{name: "a range", answer: part, fields: []string{"Range", "bytes=1000-200999"}, code: 206, want: body[1000:201_000]},
		{name: "a range, and If-Range", answer: part, fields: []string{"Range", "bytes=1000-200999", "If-Range", `"1"`}, code: 206, want: body[1000:201_000]},
		{name: "a range that is ignored", answer: whole, fields: []string{"Range", "bytes=1000-200999"}, code: 200, want: body},
		{name: "a range that is ignored, of unknown length", fields: []string{"Range", "bytes=-1000"}, code: 200, want: body,
			answer: func(c *harness.RawCall) {
				c.Head(200, harness.Fresh, "Connection: close")
				c.Content(body)
				c.HangUp()
			}},
		{name: "another range than was asked for", fields: []string{"Range", "bytes=1000-1999"}, code: 206, want: body[1000:3000], alone: true, hits: true,
			answer: func(c *harness.RawCall) { c.Part(body, 1000, 3000, harness.Fresh, `ETag: "1"`) }},
		{name: "a range that can't be", fields: []string{"Range", "bytes=1000000-"}, code: 416, alone: true,
			answer: func(c *harness.RawCall) { c.Head(416, "Content-Range: bytes */300000", "Content-Length: 0") }},
		{name: "several ranges", answer: whole, fields: []string{"Range", "bytes=0-1,5-6"}, code: 200, want: body, alone: true},
		{name: "own conditions", fields: []string{"If-None-Match", `"1"`}, code: 304, alone: true,
			answer: func(c *harness.RawCall) { c.Head(304, harness.Fresh, `ETag: "1"`) }},
		{name: "own conditions, confirmed", stored: true, fields: []string{"If-None-Match", `"1"`}, code: 304,
			answer: func(c *harness.RawCall) { c.Head(304, harness.Fresh, `ETag: "1"`) }},
		{name: "own conditions, the stored confirmed", stored: true, fields: []string{"If-None-Match", `"0"`}, code: 200, want: body,
			answer: func(c *harness.RawCall) { c.Head(304, harness.Fresh, `ETag: "1"`) }},
		{name: "own conditions, the own confirmed", stored: true, fields: []string{"If-None-Match", `"2"`}, code: 304, alone: true,
			answer: func(c *harness.RawCall) { c.Head(304, harness.Fresh, `ETag: "2"`) }},
		{name: "own conditions, changed", stored: true, fields: []string{"If-None-Match", `"1"`}, code: 200, want: body[:100_000],
			answer: func(c *harness.RawCall) { c.Whole(body[:100_000], harness.Fresh, `ETag: "2"`) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				release := make(chan struct{})
				first := 0
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					if test.stored && c.N == 0 {
						whole(c)
						return
					}
					<-release
					test.answer(c)
				})
				defer origin.Close()
				if test.stored {
					r.Get(origin.URL())
					if err := r.Invalidate(r.Context(), origin.URL()); err != nil {
						r.Fatal(err)
					}
					first = 1
				}
				const callers = 20
				var wg sync.WaitGroup
				var collapsed atomic.Int32
				for range callers {
					wg.Go(func() {
						resp, got := r.Get(origin.URL(), test.fields...)
						if test.hits && cachetrip.StatusOf(resp).Hit {
							harness.WantBody(r, got, body[1000:2000])
							return
						}
						harness.WantBody(r, got, test.want)
						if resp.StatusCode != test.code || test.code != 304 && test.code != 416 && test.want != nil && resp.ContentLength >= 0 && resp.ContentLength != int64(len(test.want)) {
							r.Errorf("got %s of %d", resp.Status, resp.ContentLength)
						}
						if cachetrip.StatusOf(resp).Collapsed {
							collapsed.Add(1)
						}
						if test.code == 206 {
							at := bytes.Index(body, got)
							if want := fmt.Sprintf("bytes %d-%d/%d", at, at+len(got)-1, len(body)); resp.Header.Get("Content-Range") != want || resp.Header.Get("Content-Length") != strconv.Itoa(len(got)) {
								r.Errorf("got %v, want %s", resp.Header, want)
							}
						}
					})
				}
				harness.Soon(r, "all ask, or wait", func() bool { return len(origin.Requests())-first+harness.Followers(r) == callers })
				close(release)
				wg.Wait()
				n := len(origin.Requests()) - first
				if test.alone && n != callers && !test.hits || test.hits && collapsed.Load() > 0 || !test.alone && n != 1 || !test.alone && collapsed.Load() == 0 {
					r.Errorf("got %d requests and %d collapsed, alone: %t", n, collapsed.Load(), test.alone)
				}
			})
		})
	}
}

// TestChangedForAll: a waiting caller whose If-None-Match names the tag of the
// shared response gets a 304.
func TestChangedForAll(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		body := harness.Noise(300_000, 91)
		release, finish := make(chan struct{}), make(chan struct{})
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			if c.N == 0 {
				c.Whole(body[:1000], harness.Fresh, `ETag: "1"`)
				return
			}
			<-release
			c.Head(200, harness.Fresh, `ETag: "2"`, "Content-Length: "+strconv.Itoa(len(body)))
			<-finish
			c.Content(body)
		})
		defer origin.Close()
		r.Get(origin.URL())
		if err := r.Invalidate(r.Context(), origin.URL()); err != nil {
			r.Fatal(err)
		}
		whole := make(chan struct{})
		go func() {
			defer close(whole)
			_, got := r.Get(origin.URL())
			harness.WantBody(r, got, body)
		}()
		harness.Soon(r, "the first asks", func() bool { return len(origin.Requests()) == 2 })
		told := make(chan struct{})
		go func() {
			defer close(told)
			resp, got := r.Get(origin.URL(), "If-None-Match", `"2"`)
			if resp.StatusCode != http.StatusNotModified || len(got) > 0 || resp.Header.Get("ETag") != `"2"` {
				r.Errorf("got %s, %d bytes, %v", resp.Status, len(got), resp.Header)
			}
			harness.WantStatus(r, resp, "collapsed")
		}()
		harness.Soon(r, "the second waits", func() bool { return harness.Followers(r) == 1 })
		close(release)
		harness.Within(r, "the second is told", told)
		close(finish)
		harness.Within(r, "the first has all", whole)
		if n := len(origin.Requests()); n != 2 {
			r.Errorf("got %d requests, want 2", n)
		}
	})
}

// TestFailureSeparatesNobody: after a failure of the origin, later callers
// still share requests.
func TestFailureSeparatesNobody(t *testing.T) {
	for _, failure := range []string{"503", "429", "hangs up"} {
		t.Run(failure, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				release := make(chan struct{})
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					if c.N > 0 {
						<-release
						c.Whole([]byte("hello"), harness.Fresh)
						return
					}
					if code, err := strconv.Atoi(failure); err == nil {
						c.Head(code, "Content-Length: 0")
					} else {
						c.HangUp()
					}
				})
				defer origin.Close()
				resp, err := r.RoundTrip(r.Request(r.Context(), origin.URL()))
				if (err != nil) != (failure == "hangs up") {
					r.Fatal(err)
				}
				if err == nil {
					resp.Body.Close()
				}
				const callers = 10
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						_, got := r.Get(origin.URL())
						harness.WantBody(r, got, []byte("hello"))
					})
				}
				harness.Soon(r, "one asks, and the others wait", func() bool { return len(origin.Requests()) == 2 && harness.Followers(r) == callers-1 })
				close(release)
				wg.Wait()
				if n := len(origin.Requests()); n != 2 {
					r.Errorf("got %d requests, want 2", n)
				}
			})
		})
	}
}
