package bodies_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/internal/testtier"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// TestResume: after any cut of a transfer, the next request asks only for the
// rest. Its caller gets everything as one response, and the held part before
// the rest has come.
func TestResume(t *testing.T) {
	harness.LeavesNothing(t)
	body := harness.Noise(3<<20, 7)
	const first = 1<<20 + 4321
	modified := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	for _, by := range []string{"the reader", "the origin", "the origin, in chunks", "the end of the process"} {
		for _, validator := range []string{"ETag", "Last-Modified"} {
			t.Run(by+", "+validator, func(t *testing.T) {
				harness.EachCacheInParallel(t, func(r *harness.Cache) {
					lines := []string{harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "X-Kept: yes"}
					want := `"1"`
					if validator == "Last-Modified" {
						lines[2], want = "Last-Modified: "+modified, modified
					}
					release := make(chan struct{})
					origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
						switch {
						case c.N == 0 && by == "the origin, in chunks":
							c.Head(200, append(lines, "Transfer-Encoding: chunked")...)
							c.Write(fmt.Sprintf("%x\r\n", first))
							c.Content(body[:first])
							c.Write("\r\n")
							c.HangUp()
						case c.N == 0:
							c.Head(200, append(lines, "Content-Length: "+strconv.Itoa(len(body)))...)
							c.Content(body[:first])
							if !strings.HasPrefix(by, "the origin") {
								<-c.Gone
							}
							c.HangUp()
						case c.N < 4 && strings.HasPrefix(by, "the origin"):
							c.HangUp() // the attempts to go on
						case !c.Asks(first, want):
							r.Errorf("request %d: got %v", c.N, c.Header)
							c.HangUp()
						default:
							c.Head(206, append(lines, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)), "Content-Length: "+strconv.Itoa(len(body)-first))...)
							<-release
							c.Content(body[first:])
						}
					})
					defer origin.Close()

					resp := r.Send(r.Context(), origin.URL())
					got := make([]byte, first)
					if _, err := io.ReadFull(resp.Body, got); err != nil {
						r.Fatal(err)
					}
					if strings.HasPrefix(by, "the origin") {
						if _, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || len(origin.Requests()) != 4 {
							r.Errorf("got %v, want %v, and 4 requests", err, io.ErrUnexpectedEOF)
						}
					}
					resp.Body.Close()
					if by == "the end of the process" {
						r.Restart()
					}

					served := r.Stats().BytesServed
					resp = r.Send(r.Context(), origin.URL())
					if resp.StatusCode != 200 || resp.Status != "200 OK" || resp.ContentLength != int64(len(body)) ||
						resp.Header.Get("Content-Length") != strconv.Itoa(len(body)) ||
						resp.Header.Get("Content-Range") != "" || resp.Header.Get("X-Kept") != "yes" {
						r.Errorf("got %s of %d, %v", resp.Status, resp.ContentLength, resp.Header)
					}
					harness.WantStatus(r, resp, "fwd=partial", "fwd-status=206", "stored")
					if _, err := io.ReadFull(resp.Body, got); err != nil {
						r.Fatal(err)
					}
					harness.WantBody(r, got, body[:first])
					close(release)
					rest, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil {
						r.Fatal(err)
					}
					harness.WantBody(r, rest, body[first:])
					if n := r.Stats().BytesServed - served; n != first {
						r.Errorf("%d bytes are said to come from the store, want %d", n, first)
					}
					resp, got = r.Get(origin.URL())
					harness.WantStatus(r, resp, "hit")
					harness.WantBody(r, got, body)
					if resp.ContentLength != int64(len(body)) || resp.Header.Get("Content-Length") != strconv.Itoa(len(body)) {
						r.Errorf("got length %d, %v", resp.ContentLength, resp.Header)
					}
					if sent := origin.Written.Load(); sent != int64(len(body)) {
						r.Errorf("%d bytes were sent, want %d", sent, len(body))
					}
				})
			})
		}
	}
}

// TestHerdOnPartial: many callers that want a partial response lead to one
// request for the rest.
func TestHerdOnPartial(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		body := harness.Noise(1<<20, 8)
		const first = 300_000
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			if c.N == 0 {
				c.Head(200, harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "Content-Length: "+strconv.Itoa(len(body)))
				c.Content(body[:first])
				<-c.Gone
				c.HangUp()
				return
			}
			time.Sleep(20 * time.Millisecond)
			c.Rest(body, harness.Fresh, harness.Tag)
		})
		defer origin.Close()
		resp := r.Send(r.Context(), origin.URL())
		io.ReadFull(resp.Body, make([]byte, first))
		resp.Body.Close()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				resp, got := r.Get(origin.URL())
				harness.WantBody(r, got, body)
				if resp.StatusCode != 200 || resp.ContentLength != int64(len(body)) {
					r.Errorf("got %s of %d", resp.Status, resp.ContentLength)
				}
			})
		}
		wg.Wait()
		if n := len(origin.Requests()); n != 2 {
			r.Errorf("got %d requests, want 2", n)
		}
	})
}

// TestResumedPastPurge purges the stored part that a download resumes, while it
// does so. The reader gets the whole body.
func TestResumedPastPurge(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		body := harness.Noise(1<<20, 8)
		const first = 300_000
		resumed, purged := make(chan bool, 1), make(chan bool)
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			switch c.N {
			case 0:
				c.Head(200, harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "Content-Length: "+strconv.Itoa(len(body)))
				c.Content(body[:first])
				<-c.Gone
				c.HangUp()
			case 1:
				c.Head(206, harness.Fresh, harness.Tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)), "Content-Length: "+strconv.Itoa(len(body)-first))
				c.Content(body[first : 2*first])
				resumed <- true
				<-purged
				c.Content(body[2*first:])
			default:
				c.Rest(body, harness.Fresh, harness.Tag)
			}
		})
		defer origin.Close()
		resp := r.Send(r.Context(), origin.URL())
		io.ReadFull(resp.Body, make([]byte, first))
		resp.Body.Close()
		resp = r.Send(r.Context(), origin.URL())
		begun := make([]byte, first+1)
		io.ReadFull(resp.Body, begun)
		<-resumed
		if err := r.Purge(r.Context(), origin.URL()); err != nil {
			r.Fatal(err)
		}
		close(purged)
		rest, err := io.ReadAll(resp.Body)
		if err != nil {
			r.Fatal(err)
		}
		harness.WantBody(r, append(begun, rest...), body)
		_, got := r.Get(origin.URL())
		harness.WantBody(r, got, body)
		if s := r.Stats(); s.StoreErrors > 0 {
			r.Errorf("got %+v", s)
		}
	})
}

// TestNotResumed: a part is not kept if the rest that comes later could belong
// to another representation, or if the origin does not accept ranges.
func TestNotResumed(t *testing.T) {
	harness.LeavesNothing(t)
	body := harness.Noise(600_000, 9)
	const first = 300_000
	date := func(age time.Duration) string { return time.Now().Add(-age).UTC().Format(http.TimeFormat) }
	for _, test := range []struct {
		name  string
		lines []string
	}{
		{"a weak tag", []string{"Accept-Ranges: bytes", `ETag: W/"1"`}},
		{"a weak tag and a date", []string{"Accept-Ranges: bytes", `ETag: W/"1"`, "Last-Modified: " + date(time.Hour)}},
		{"no validator", []string{"Accept-Ranges: bytes"}},
		{"a date of the same second", []string{"Accept-Ranges: bytes", "Last-Modified: " + date(-time.Minute)}},
		{"ranges not accepted", []string{"Accept-Ranges: none", harness.Tag}},
		{"nothing said of ranges", []string{harness.Tag}},
		{"another unit", []string{"Accept-Ranges: lines", harness.Tag}},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachCacheInParallel(t, func(r *harness.Cache) {
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					if c.Header.Get("Range") != "" {
						r.Errorf("request %d: got %v", c.N, c.Header)
					}
					if c.N > 0 {
						c.Whole(body, append(test.lines, harness.Fresh)...)
						return
					}
					c.Head(200, append(test.lines, harness.Fresh, "Content-Length: "+strconv.Itoa(len(body)))...)
					c.Content(body[:first])
					c.HangUp()
				})
				defer origin.Close()
				resp := r.Send(r.Context(), origin.URL())
				if n, err := io.Copy(io.Discard, resp.Body); n != first || !errors.Is(err, io.ErrUnexpectedEOF) {
					r.Errorf("got %d bytes, %v", n, err)
				}
				resp.Body.Close()
				resp, got := r.Get(origin.URL())
				harness.WantStatus(r, resp, "fwd=uri-miss", "fwd-status=200", "stored")
				harness.WantBody(r, got, body)
				if n := len(origin.Requests()); n != 2 {
					r.Errorf("got %d requests, want 2", n)
				}
			})
		})
	}
}

// TestDateDoesNotGrowStrong: bytes that came within a second of the last
// modification may be older or newer. A later confirmation of the date does not
// change that.
func TestDateDoesNotGrowStrong(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		was, is := harness.Noise(1000, 36), harness.Noise(1000, 37)
		then := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			switch {
			case c.N == 0:
				c.Write("HTTP/1.1 206 Partial Content\r\nCache-Control: max-age=5000\r\nAccept-Ranges: bytes\r\nDate: " + then + "\r\nLast-Modified: " + then +
					"\r\nContent-Range: bytes 0-499/1000\r\nContent-Length: 500\r\n\r\n")
				c.Content(was[:500])
			case c.Header.Get("If-Modified-Since") == then:
				c.Head(304, "Cache-Control: max-age=5000", "Last-Modified: "+then)
			case c.Header.Get("Range") == "bytes=500-":
				c.Part(is, 500, 1000, harness.Fresh, "Last-Modified: "+then)
			default:
				c.Whole(is, harness.Fresh, "Last-Modified: "+then)
			}
		})
		defer origin.Close()
		r.Get(origin.URL(), "Range", "bytes=0-499")
		if err := r.Invalidate(r.Context(), origin.URL()); err != nil {
			r.Fatal(err)
		}
		resp, got := r.Get(origin.URL(), "Range", "bytes=100-199")
		harness.WantStatus(r, resp, "fwd-status=304")
		harness.WantBody(r, got, was[100:200])
		_, got = r.Get(origin.URL())
		harness.WantBody(r, got, is)
		r.Get(origin.URL(), "Range", "bytes=500-")
		_, got = r.Get(origin.URL())
		harness.WantBody(r, got, is)
	})
}

// TestDecompressedIsNotResumed: net/http decompresses unseen, and then offsets
// mean something else.
func TestDecompressedIsNotResumed(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		r.HTTP.DisableCompression = false
		text := bytes.Repeat([]byte("all work and no play "), 100_000)
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(text)
		z.Close()
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			if c.Header.Get("Range") != "" {
				r.Errorf("request %d: got %v", c.N, c.Header)
			}
			lines := []string{harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "Content-Encoding: gzip", "Vary: Accept-Encoding"}
			if c.N > 0 {
				c.Whole(b.Bytes(), lines...)
				return
			}
			c.Head(200, append(lines, "Content-Length: "+strconv.Itoa(b.Len()))...)
			c.Content(b.Bytes()[:b.Len()/2])
			c.HangUp()
		})
		defer origin.Close()
		resp := r.Send(r.Context(), origin.URL())
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			r.Error("no error")
		}
		resp.Body.Close()
		_, got := r.Get(origin.URL())
		harness.WantBody(r, got, text)
		// Its ranges are not the origin's either, so they are not answered from
		// the store.
		before := len(origin.Requests())
		resp = r.Send(r.Context(), origin.URL(), "Accept-Encoding", "gzip")
		resp.Body.Close()
		if n := len(origin.Requests()); n != before+1 {
			r.Errorf("got %d requests, want %d", n, before+1)
		}
	})
}

// disagreements are all ways in which the response to a request for the rest,
// from first on, can disagree with the held part.
var disagreements = []struct {
	name   string
	answer func(c *harness.RawCall, body []byte, first int)
}{
	{"another tag", func(c *harness.RawCall, body []byte, first int) {
		c.Part(body, first, len(body), harness.Fresh, `ETag: "2"`)
	}},
	{"a weak tag", func(c *harness.RawCall, body []byte, first int) {
		c.Part(body, first, len(body), harness.Fresh, `ETag: W/"1"`)
	}},
	{"no tag", func(c *harness.RawCall, body []byte, first int) { c.Part(body, first, len(body), harness.Fresh) }},
	{"another total", func(c *harness.RawCall, body []byte, first int) {
		c.Part(append(body, 1, 2, 3), first, len(body)+3, harness.Fresh, harness.Tag)
	}},
	{"a smaller total", func(c *harness.RawCall, body []byte, first int) {
		c.Part(body[:len(body)-3], first, len(body)-3, harness.Fresh, harness.Tag)
	}},
	{"what was asked for, of another total", func(c *harness.RawCall, body []byte, first int) {
		c.Head(206, harness.Fresh, harness.Tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)+3), fmt.Sprintf("Content-Length: %d", len(body)-first))
		c.Content(body[first:])
	}},
	{"an earlier offset", func(c *harness.RawCall, body []byte, first int) {
		c.Part(body, first-5, len(body), harness.Fresh, harness.Tag)
	}},
	{"a later offset", func(c *harness.RawCall, body []byte, first int) {
		c.Part(body, first+5, len(body), harness.Fresh, harness.Tag)
	}},
	{"from the beginning", func(c *harness.RawCall, body []byte, first int) {
		c.Part(body, 0, len(body), harness.Fresh, harness.Tag)
	}},
	{"not to the end", func(c *harness.RawCall, body []byte, first int) {
		c.Part(body, first, len(body)-5, harness.Fresh, harness.Tag)
	}},
	{"an unknown total", func(c *harness.RawCall, body []byte, first int) {
		c.Head(206, harness.Fresh, harness.Tag, fmt.Sprintf("Content-Range: bytes %d-%d/*", first, len(body)-1), fmt.Sprintf("Content-Length: %d", len(body)-first))
		c.Content(body[first:])
	}},
	{"no Content-Range", func(c *harness.RawCall, body []byte, first int) {
		c.Head(206, harness.Fresh, harness.Tag, fmt.Sprintf("Content-Length: %d", len(body)-first))
		c.Content(body[first:])
	}},
	{"Content-Range makes no sense", func(c *harness.RawCall, body []byte, first int) {
		c.Head(206, harness.Fresh, harness.Tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", len(body), first, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-first))
		c.Content(body[first:])
	}},
	{"two Content-Ranges", func(c *harness.RawCall, body []byte, first int) {
		c.Part(body, first, len(body), harness.Fresh, harness.Tag, fmt.Sprintf("Content-Range: bytes 0-%d/%d", len(body)-1, len(body)))
	}},
	{"another unit", func(c *harness.RawCall, body []byte, first int) {
		c.Head(206, harness.Fresh, harness.Tag, fmt.Sprintf("Content-Range: lines %d-%d/%d", first, len(body)-1, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-first))
		c.Content(body[first:])
	}},
	{"framed shorter", func(c *harness.RawCall, body []byte, first int) {
		c.Head(206, harness.Fresh, harness.Tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-first-5))
		c.Content(body[first : len(body)-5])
	}},
	{"framed longer", func(c *harness.RawCall, body []byte, first int) {
		c.Head(206, harness.Fresh, harness.Tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-first+5))
		c.Content(append(bytes.Clone(body[first:]), "extra"...))
	}},
	{"another coding", func(c *harness.RawCall, body []byte, first int) {
		c.Part(body, first, len(body), harness.Fresh, harness.Tag, "Content-Encoding: br")
	}},
	{"several parts", func(c *harness.RawCall, body []byte, first int) {
		c.Head(206, harness.Fresh, harness.Tag, "Content-Type: multipart/byteranges; boundary=x", "Content-Length: 10")
		c.Content([]byte("--x\r\n\r\n--x"))
	}},
	{"not satisfiable", func(c *harness.RawCall, body []byte, first int) {
		c.Head(416, fmt.Sprintf("Content-Range: bytes */%d", first), "Content-Length: 0")
	}},
	{"not satisfiable, and stalled", func(c *harness.RawCall, body []byte, first int) {
		c.Head(416, fmt.Sprintf("Content-Range: bytes */%d", first), "Content-Length: 10")
		<-c.Gone
		c.HangUp()
	}},
	{"stalled", func(c *harness.RawCall, body []byte, first int) {
		c.Head(206, harness.Fresh, `ETag: "2"`, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-first))
		<-c.Gone
		c.HangUp()
	}},
}

// TestDisagreement: a response that is not exactly the rest of the held part is
// not joined to it. The request is repeated for the whole.
func TestDisagreement(t *testing.T) {
	harness.LeavesNothing(t)
	was, is := harness.Noise(400_000, 10), harness.Noise(400_000, 11)
	const first = 150_000
	for _, test := range disagreements {
		t.Run(test.name, func(t *testing.T) {
			harness.EachCacheInParallel(t, func(r *harness.Cache) {
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					switch c.N {
					case 0:
						c.Head(200, harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "Content-Length: "+strconv.Itoa(len(was)))
						c.Content(was[:first])
						<-c.Gone
						c.HangUp()
					case 1:
						if !c.Asks(first, `"1"`) {
							r.Errorf("got %v", c.Header)
						}
						test.answer(c, is, first)
					default:
						if c.Header.Get("Range") != "" || c.Header.Get("If-Range") != "" {
							r.Errorf("request %d: got %v", c.N, c.Header)
						}
						c.Whole(is, harness.Fresh, `ETag: "2"`)
					}
				})
				defer origin.Close()
				resp := r.Send(r.Context(), origin.URL())
				io.ReadFull(resp.Body, make([]byte, first))
				resp.Body.Close()

				resp, got := r.Get(origin.URL())
				harness.WantBody(r, got, is)
				if resp.StatusCode != 200 || resp.ContentLength != int64(len(is)) || resp.Header.Get("ETag") != `"2"` {
					r.Errorf("got %s of %d, %v", resp.Status, resp.ContentLength, resp.Header)
				}
				harness.WantStatus(r, resp, "fwd=partial", "fwd-status=200", "stored")
				resp, got = r.Get(origin.URL())
				harness.WantStatus(r, resp, "hit")
				harness.WantBody(r, got, is)
				if n := len(origin.Requests()); n != 3 {
					r.Errorf("got %d requests, want 3", n)
				}
			})
		})
	}
}

// TestWholeInsteadOfRest: a 200 to a request for the rest replaces the held
// part.
func TestWholeInsteadOfRest(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		was, is := harness.Noise(400_000, 12), harness.Noise(300_000, 13)
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			if c.N == 0 {
				c.Head(200, harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "Content-Length: "+strconv.Itoa(len(was)))
				c.Content(was[:200_000])
				<-c.Gone
				c.HangUp()
				return
			}
			c.Whole(is, harness.Fresh, `ETag: "2"`)
		})
		defer origin.Close()
		resp := r.Send(r.Context(), origin.URL())
		io.ReadFull(resp.Body, make([]byte, 200_000))
		resp.Body.Close()
		for _, want := range []string{"fwd-status=200", "hit"} {
			resp, got := r.Get(origin.URL())
			harness.WantStatus(r, resp, want)
			harness.WantBody(r, got, is)
		}
		if n := len(origin.Requests()); n != 2 {
			r.Errorf("got %d requests, want 2", n)
		}
	})
}

// TestRestThatLies: a 206 with more or fewer bytes than it announced is an
// error for the caller, and is never stored.
func TestRestThatLies(t *testing.T) {
	body := harness.Noise(400_000, 14)
	const first = 150_000
	for _, extra := range []int{-1000, 1000} {
		t.Run(strconv.Itoa(extra), func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					switch {
					case c.N == 0:
						c.Head(200, harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "Content-Length: "+strconv.Itoa(len(body)))
						c.Content(body[:first])
						<-c.Gone
						c.HangUp()
					case c.N == 1: // in chunks, so that only Content-Range says how much it is
						rest := append(bytes.Clone(body[first:]), make([]byte, 2000)...)[:len(body)-first+extra]
						c.Head(206, harness.Fresh, harness.Tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)), "Transfer-Encoding: chunked")
						c.Write(fmt.Sprintf("%x\r\n", len(rest)))
						c.Content(rest)
						c.Write("\r\n0\r\n\r\n")
					case c.N == 2 && extra < 0: // the attempt to go on
						c.Head(404, "Content-Length: 0")
					case c.Header.Get("Range") != "":
						c.Rest(body, harness.Fresh, harness.Tag)
					default:
						c.Whole(body, harness.Fresh, harness.Tag)
					}
				})
				defer origin.Close()
				resp := r.Send(r.Context(), origin.URL())
				io.ReadFull(resp.Body, make([]byte, first))
				resp.Body.Close()

				resp = r.Send(r.Context(), origin.URL())
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(body, got) {
					r.Errorf("got %d bytes, %v", len(got), err)
				}
				_, got = r.Get(origin.URL())
				harness.WantBody(r, got, body)
			})
		})
	}
}

// TestContinued: a transfer that breaks continues where it broke, again and
// again as long as there is progress. The caller does not notice.
func TestContinued(t *testing.T) {
	for _, framing := range []string{"length", "chunks"} {
		t.Run(framing, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				body := harness.Noise(2<<20, 15)
				const each = 200_000
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					from := 0
					if c.N > 0 {
						from = each * c.N
						if !c.Asks(from, `"1"`) {
							r.Errorf("request %d: got %v", c.N, c.Header)
						}
						c.Head(206, harness.Fresh, harness.Tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", from, len(body)-1, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-from))
					} else if framing == "chunks" {
						c.Head(200, harness.Fresh, harness.Tag, "Accept-Ranges: bytes", "Transfer-Encoding: chunked")
						c.Write(fmt.Sprintf("%x\r\n", len(body)))
					} else {
						c.Head(200, harness.Fresh, harness.Tag, "Accept-Ranges: bytes", "Content-Length: "+strconv.Itoa(len(body)))
					}
					c.Content(body[from:min(len(body), from+each)])
					if from+each < len(body) {
						c.HangUp()
					}
				})
				defer origin.Close()
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						_, got := r.Get(origin.URL(), "X-Caller", "1")
						harness.WantBody(r, got, body)
					})
				}
				wg.Wait()
				resp, got := r.Get(origin.URL())
				harness.WantStatus(r, resp, "hit")
				harness.WantBody(r, got, body)
				if resp.ContentLength != int64(len(body)) {
					r.Errorf("got length %d", resp.ContentLength)
				}
				if sent := origin.Written.Load(); sent != int64(len(body)) {
					r.Errorf("%d bytes were sent, want %d", sent, len(body))
				}
			})
		})
	}
}

// TestNotContinued: if a transfer cannot be continued, the caller gets the
// error and no more bytes. The bytes before it still serve the next request.
func TestNotContinued(t *testing.T) {
	harness.LeavesNothing(t)
	was, is := harness.Noise(400_000, 16), harness.Noise(400_000, 17)
	const first = 150_000
	type test = struct {
		name   string
		answer func(c *harness.RawCall, body []byte, first int)
	}
	for _, test := range append([]test{
		{"200 instead", func(c *harness.RawCall, body []byte, first int) { c.Whole(body, harness.Fresh, `ETag: "2"`) }},
		{"not found", func(c *harness.RawCall, body []byte, first int) { c.Head(404, "Content-Length: 0") }},
		{"not modified", func(c *harness.RawCall, body []byte, first int) { c.Head(304, harness.Tag) }},
		{"fails", func(c *harness.RawCall, body []byte, first int) { c.Head(503, "Content-Length: 0") }},
		{"hangs up", func(c *harness.RawCall, body []byte, first int) { c.HangUp() }},
		{"sends the head and hangs up", func(c *harness.RawCall, body []byte, first int) {
			c.Head(206, harness.Fresh, harness.Tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-first))
			c.HangUp()
		}},
	}, disagreements...) {
		t.Run(test.name, func(t *testing.T) {
			harness.EachCacheInParallel(t, func(r *harness.Cache) {
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					if c.N == 0 {
						c.Head(200, harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "Content-Length: "+strconv.Itoa(len(was)))
						c.Content(was[:first])
						c.HangUp()
						return
					}
					if !c.Asks(first, `"1"`) {
						r.Errorf("request %d: got %v", c.N, c.Header)
					}
					test.answer(c, is, first)
				})
				defer origin.Close()
				resp := r.Send(r.Context(), origin.URL())
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				harness.WantBody(r, got, was[:first])
				if err != io.ErrUnexpectedEOF {
					r.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
				}
				if n := len(origin.Requests()); n > 4 {
					r.Errorf("got %d requests, want 4 at most", n)
				}
			})
		})
	}
}

// TestContinuingEnds: continuing ends with the reader that waited for it.
func TestContinuingEnds(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		asked := make(chan struct{})
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			if c.N == 0 {
				c.Head(200, harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "Content-Length: 1000000")
				c.Content(make([]byte, 1000))
				c.HangUp()
				return
			}
			close(asked)
			<-c.Gone
			c.HangUp()
		})
		defer origin.Close()
		ctx, cancel := context.WithCancel(r.Context())
		resp := r.Send(ctx, origin.URL())
		go func() {
			<-asked
			cancel()
		}()
		if n, err := io.Copy(io.Discard, resp.Body); n != 1000 || !errors.Is(err, context.Canceled) {
			r.Errorf("got %d bytes, %v", n, err)
		}
		resp.Body.Close()
		harness.Within(r, "the request ends at the origin", origin.Requests()[1].Gone)
	})
}

// TestCutTwentyTimes: a download that is cut at random points costs hardly more
// on the wire than one that is not, by a server of net/http.
// BenchmarkCutDownload measures a large one.
func TestCutTwentyTimes(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		const size = 16 << 20
		if taken, _ := cutDownload(r, size, 20); taken > size*102/100 {
			r.Errorf("%d bytes were taken from the connections, which is %.3f times %d", taken, float64(taken)/size, size)
		}
	})
}

// cutDownload downloads size bytes. The reader closes the body n times at a
// random point. It returns how many bytes were read from the connections, and
// how many the origin wrote. The difference was in buffers when a connection
// was closed. The buffers are small, as on a link that the reader can keep up
// with.
func cutDownload(r *harness.Cache, size, n int) (taken, sent int64) {
	body := harness.Noise(size, 18)
	modified := time.Now().Add(-time.Hour)
	var in, out atomic.Int64
	origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, req, "", modified, bytes.NewReader(body))
	}))
	const buffers = 32 << 10
	origin.Listener = listenerFunc{origin.Listener, func(conn net.Conn) net.Conn {
		conn.(*net.TCPConn).SetWriteBuffer(buffers)
		return &countedConn{conn, nil, &out}
	}}
	origin.Start()
	defer origin.Close()
	defer origin.CloseClientConnections()
	r.HTTP.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		conn.(*net.TCPConn).SetReadBuffer(buffers)
		return &countedConn{conn, &in, nil}, nil
	}
	r.DrainBytes = -1 // or the last cuts may be none
	cuts := rand.New(rand.NewPCG(1, uint64(size)))
	buf := make([]byte, 64<<10)
	held := 0
	for range n {
		resp := r.Send(r.Context(), origin.URL)
		at := held + cuts.IntN((size-held)/4+1)
		for read := 0; read < at; {
			m, err := resp.Body.Read(buf[:min(len(buf), at-read)])
			if !bytes.Equal(buf[:m], body[read:read+m]) {
				r.Fatalf("wrong bytes between %d and %d", read, read+m)
			}
			if read += m; err != nil {
				r.Fatal(err)
			}
		}
		resp.Body.Close()
		held = at
	}
	_, got := r.Get(origin.URL)
	harness.WantBody(r, got, body)
	return in.Load(), out.Load()
}

type listenerFunc struct {
	net.Listener
	wrap func(net.Conn) net.Conn
}

func (l listenerFunc) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(conn), nil
}

// countedConn counts the bytes that are read from a connection and written to
// it.
type countedConn struct {
	net.Conn
	in, out *atomic.Int64
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.in != nil {
		c.in.Add(int64(n))
	}
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if c.out != nil {
		c.out.Add(int64(n))
	}
	return n, err
}

// TestManyCuts: a body that comes in more pieces than an entry may have parts
// comes nevertheless.
func TestManyCuts(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		body := harness.Noise(testtier.Pick(400_000, 1<<20), 19)
		const each = 5000
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			from := 0
			if c.N > 0 {
				fmt.Sscanf(c.Header.Get("Range"), "bytes=%d-", &from)
				if from == 0 {
					r.Errorf("request %d: asks for all of it: %v", c.N, c.Header)
				}
				c.Head(206, harness.Fresh, harness.Tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", from, len(body)-1, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-from))
			} else {
				c.Head(200, harness.Fresh, harness.Tag, "Accept-Ranges: bytes", "Content-Length: "+strconv.Itoa(len(body)))
			}
			c.Content(body[from:min(len(body), from+each)])
			if from+each < len(body) {
				<-c.Gone
				c.HangUp()
			}
		})
		defer origin.Close()
		r.DrainBytes = -1
		parts := 0
		for n := each; ; n += each {
			resp := r.Send(r.Context(), origin.URL())
			got := make([]byte, min(len(body), n))
			if _, err := io.ReadFull(resp.Body, got); err != nil {
				r.Fatal(err)
			}
			harness.WantBody(r, got, body[:len(got)])
			resp.Body.Close()
			if n >= len(body) {
				break
			}
			for e, err := range r.Store.All(r.Context(), "") {
				if err != nil {
					r.Fatal(err)
				}
				parts = max(parts, len(e.Parts))
			}
		}
		_, got := r.Get(origin.URL())
		harness.WantBody(r, got, body)
		if sent := origin.Written.Load(); sent != int64(len(body)) {
			r.Errorf("%d bytes were sent, want %d", sent, len(body))
		}
		if parts < 50 || parts > 64 {
			r.Errorf("got up to %d parts, want 64 at most", parts)
		}
	})
}

// TestOnlyTheEndIsMissing: a transfer of unknown length breaks after its last
// byte. It counts as complete only if the origin says that there is no more.
func TestOnlyTheEndIsMissing(t *testing.T) {
	body := harness.Noise(100_000, 95)
	for _, test := range []struct {
		name  string
		lines []string
		want  error
	}{
		{name: "the end", lines: []string{"Content-Range: bytes */100000"}},
		{name: "the end, with the tag", lines: []string{"Content-Range: bytes */100000", harness.Tag}},
		{name: "another tag", lines: []string{"Content-Range: bytes */100000", `ETag: "2"`}, want: io.ErrUnexpectedEOF},
		{name: "shorter", lines: []string{"Content-Range: bytes */99999"}, want: io.ErrUnexpectedEOF},
		{name: "longer", lines: []string{"Content-Range: bytes */100001"}, want: io.ErrUnexpectedEOF},
		{name: "nothing said", want: io.ErrUnexpectedEOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					if c.Header.Get("Range") != "" {
						c.Head(416, append(test.lines, "Content-Length: 0")...)
						return
					}
					c.Head(200, harness.Fresh, harness.Tag, "Accept-Ranges: bytes", "Transfer-Encoding: chunked")
					c.Write(fmt.Sprintf("%x\r\n", len(body)))
					c.Content(body)
					c.Write("\r\n")
					if c.N == 0 {
						c.HangUp()
						return
					}
					c.Write("0\r\n\r\n")
				})
				defer origin.Close()
				resp := r.Send(r.Context(), origin.URL())
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if !errors.Is(err, test.want) {
					r.Errorf("got %v, want %v", err, test.want)
				}
				harness.WantBody(r, got, body)
				resp, got = r.Get(origin.URL())
				harness.WantBody(r, got, body) // if need be after a 416 to the rest
				if hit := cachetrip.StatusOf(resp).Hit; hit != (test.want == nil) {
					r.Errorf("got a hit: %t", hit)
				}
				resp, got = r.Get(origin.URL())
				harness.WantStatus(r, resp, "hit")
				harness.WantBody(r, got, body)
			})
		})
	}
}

// TestPartsBecomeOne: very many held parts become one when the rest comes. That
// delays neither the header nor the held bytes. If the caller does not want the
// rest, the parts stay as they are.
func TestPartsBecomeOne(t *testing.T) {
	const parts, each = 64, 10_000
	body := harness.Noise(parts*each+50_000, 96)
	for _, left := range []string{"", "before reading", "while they become one"} {
		t.Run("left "+left, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				origin := harness.ServeContent(body, "ETag", `"1"`)
				defer origin.Close()
				defer r.HTTP.CloseIdleConnections()
				for i := range parts {
					r.Get(origin.URL, "Range", fmt.Sprintf("bytes=%d-%d", i*each, (i+1)*each-1))
				}
				count := func() (n int) {
					for e, err := range r.Store.All(r.Context(), "") {
						if err != nil {
							r.Fatal(err)
						}
						n = len(e.Parts)
					}
					return n
				}
				if n := count(); n != parts {
					r.Fatalf("got %d parts, want %d", n, parts)
				}
				kept := r.Store
				defer func() { r.Store = kept }()
				writes, gate := make(chan struct{}, 1), make(chan struct{})
				gated := storefault.Wrap(kept)
				gated.Inject(func(storefault.Call) error {
					select {
					case writes <- struct{}{}:
					default:
					}
					<-gate
					return nil
				}, storefault.Write)
				r.Store = gated
				r.DrainBytes = -1
				resp := r.Send(r.Context(), origin.URL)
				got := make([]byte, parts*each)
				if left != "before reading" {
					if _, err := io.ReadFull(resp.Body, got); err != nil {
						r.Fatal(err)
					}
					harness.WantBody(r, got, body[:len(got)])
				}
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					rest, err := io.ReadAll(resp.Body)
					if left != "" {
						return
					}
					if err != nil {
						r.Error(err)
					}
					harness.WantBody(r, append(got, rest...), body)
				}()
				want := 1
				if left != "" {
					want = parts
					if left == "while they become one" {
						<-writes
					}
					closed := make(chan struct{})
					go func() {
						defer close(closed)
						resp.Body.Close()
					}()
					harness.Soon(r, "the download knows that its reader has left", func() bool {
						select {
						case <-closed:
							return true
						default:
							return harness.Calls(r, "download.(*Download).Close(", "patience.Wait(") == 1
						}
					})
				}
				close(gate)
				harness.Within(r, "the body ends", ended)
				resp.Body.Close()
				if n := count(); n != want {
					r.Errorf("got %d parts, want %d", n, want)
				}
				r.Store = kept
				resp, whole := r.Get(origin.URL)
				harness.WantBody(r, whole, body)
				if left == "" {
					harness.WantStatus(r, resp, "hit")
				}
			})
		})
	}
}

// TestHalvesOfTwoUsersAreNotJoined: an origin gives the pages of all users one
// date, and neither a tag nor Vary. A body that one user left half-read is not
// completed by another user's response, and their parts are not joined.
func TestHalvesOfTwoUsersAreNotJoined(t *testing.T) {
	const size = 400_000
	page := func(user string) string { return strings.Repeat(harness.PageOf(user)[:8], size/8) }
	alice, bob := []string{"Cookie", "user=alice-alice"}, []string{"Cookie", "user=bob-bob-bob"}
	for _, test := range []struct {
		name  string
		first func(w *harness.World)
	}{
		{"a body that was left", func(w *harness.World) {
			resp, err := w.Client.Do(w.Request("GET", "/", alice...))
			if err != nil {
				w.Fatal(err)
			}
			io.CopyN(io.Discard, resp.Body, size/4)
			resp.Body.Close()
		}},
		{"a part", func(w *harness.World) { w.Get("/", append(alice, "Range", "bytes=0-99999")...) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Transport.DrainTime = -1
				modified := time.Now().Add(-time.Hour)
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					rw.Header().Set("Cache-Control", "max-age=60")
					http.ServeContent(rw, r, "page.txt", modified, strings.NewReader(page(r.Header.Get("Cookie"))))
				})
				test.first(w)
				for _, user := range [][]string{bob, alice} {
					if r := w.Get("/", append(user, "Cache-Control", "no-cache")...); r.Body != page("user=alice-alice") && r.Body != page("user=bob-bob-bob") {
						w.Errorf("%s got a mixture: %s", user[1], r.Status.Detail)
					}
				}
				w.Get("/", append(bob, "Range", "bytes=200000-299999")...)
				if r := w.Get("/", bob...); r.Body != page("user=bob-bob-bob") && r.Body != page("user=alice-alice") {
					w.Errorf("got a mixture")
				}
			})
		})
	}
}

// TestRefusedRangeIsNotAskedForAgain: an origin that answers 501 to a range
// does not restart, as one that answers 503 may.
func TestRefusedRangeIsNotAskedForAgain(t *testing.T) {
	body := harness.Noise(300_000, 92)
	for code, want := range map[int]int{501: 2, 403: 2, 503: 4} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					if c.Header.Get("Range") != "" {
						c.Head(code, "Content-Length: 0")
						return
					}
					c.Head(200, harness.Fresh, harness.Tag, "Accept-Ranges: bytes", "Content-Length: "+strconv.Itoa(len(body)))
					c.Content(body[:100_000])
					c.HangUp()
				})
				defer origin.Close()
				resp := r.Send(r.Context(), origin.URL())
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err == nil || !bytes.Equal(got, body[:len(got)]) {
					r.Errorf("got %d bytes, %v", len(got), err)
				}
				if n := len(origin.Requests()); n != want {
					r.Errorf("got %d requests, want %d", n, want)
				}
			})
		})
	}
}

// TestUnaskedPartBreaks: the origin answers with a part that nobody asked for,
// and the transfer breaks. The rest of a part cannot be asked for as that of
// the whole: positions in it are others.
func TestUnaskedPartBreaks(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		const content = "0123456789"
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			var first int
			if _, err := fmt.Sscanf(c.Header.Get("Range"), "bytes=%d-", &first); err == nil {
				c.Head(206, harness.Fresh, harness.Tag, fmt.Sprintf("Content-Range: bytes %d-9/10", first), "Content-Length: "+strconv.Itoa(10-first))
				c.Content([]byte(content[first:]))
				return
			}
			c.Head(206, harness.Fresh, harness.Tag, "Content-Range: bytes 5-9/10", "Content-Length: 5")
			c.Content([]byte("56"))
			c.HangUp()
		})
		defer origin.Close()
		resp := r.Send(r.Context(), origin.URL())
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(got) != "56" && string(got) != "56789" || string(got) == "56" && err == nil {
			r.Errorf("got %q, %v, want the beginning of 56789", got, err)
		}
	})
}
