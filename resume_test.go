package cachetrip_test

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
	"github.com/cachetrip/cachetrip/store"
)

const tag = `ETag: "1"`

// rest answers a request with Range: bytes=N- as it should be.
func (c *rawCall) rest(body []byte, lines ...string) {
	from, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(c.Header.Get("Range"), "bytes="), "-"))
	c.part(body, from, len(body), lines...)
}

func (c *rawCall) part(body []byte, from, to int, lines ...string) {
	c.head(206, append(lines, fmt.Sprintf("Content-Range: bytes %d-%d/%d", from, to-1, len(body)), "Content-Length: "+strconv.Itoa(to-from))...)
	c.content(body[from:to])
}

// asks reports whether c asks for what follows the first n bytes, and nothing else.
func (c *rawCall) asks(n int, validator string) bool {
	return c.Header.Get("Range") == fmt.Sprintf("bytes=%d-", n) && c.Header.Get("If-Range") == validator &&
		c.Header.Get("If-None-Match") == "" && c.Header.Get("If-Modified-Since") == ""
}

// TestResume: however a transfer was cut, the next request asks for the rest only, and its caller
// gets all of it as one response, what is held before the rest has come.
func TestResume(t *testing.T) {
	leavesNothing(t)
	body := noise(3<<20, 7)
	const first = 1<<20 + 4321
	modified := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	for _, by := range []string{"the reader", "the origin", "the origin, in chunks", "the end of the process"} {
		for _, validator := range []string{"ETag", "Last-Modified"} {
			t.Run(by+", "+validator, func(t *testing.T) {
				parallelInEachStore(t, func(r *rig) {
					lines := []string{fresh, "Accept-Ranges: bytes", tag, "X-Kept: yes"}
					want := `"1"`
					if validator == "Last-Modified" {
						lines[2], want = "Last-Modified: "+modified, modified
					}
					release := make(chan struct{})
					origin := newRaw(r, func(c *rawCall) {
						switch {
						case c.n == 0 && by == "the origin, in chunks":
							c.head(200, append(lines, "Transfer-Encoding: chunked")...)
							c.write(fmt.Sprintf("%x\r\n", first))
							c.content(body[:first])
							c.write("\r\n")
							c.hangUp()
						case c.n == 0:
							c.head(200, append(lines, "Content-Length: "+strconv.Itoa(len(body)))...)
							c.content(body[:first])
							if !strings.HasPrefix(by, "the origin") {
								<-c.gone
							}
							c.hangUp()
						case c.n < 4 && strings.HasPrefix(by, "the origin"):
							c.hangUp() // the attempts to go on
						case !c.asks(first, want):
							r.Errorf("request %d: got %v", c.n, c.Header)
							c.hangUp()
						default:
							c.head(206, append(lines, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)), "Content-Length: "+strconv.Itoa(len(body)-first))...)
							<-release
							c.content(body[first:])
						}
					})
					defer origin.close()

					resp := r.send(r.Context(), origin.url())
					got := make([]byte, first)
					if _, err := io.ReadFull(resp.Body, got); err != nil {
						r.Fatal(err)
					}
					if strings.HasPrefix(by, "the origin") {
						if _, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || len(origin.requests()) != 4 {
							r.Errorf("got %v, want %v, and 4 requests", err, io.ErrUnexpectedEOF)
						}
					}
					resp.Body.Close()
					if by == "the end of the process" {
						r.restart()
					}

					resp = r.send(r.Context(), origin.url())
					if resp.StatusCode != 200 || resp.Status != "200 OK" || resp.ContentLength != int64(len(body)) ||
						resp.Header.Get("Content-Length") != strconv.Itoa(len(body)) ||
						resp.Header.Get("Content-Range") != "" || resp.Header.Get("X-Kept") != "yes" {
						r.Errorf("got %s of %d, %v", resp.Status, resp.ContentLength, resp.Header)
					}
					wantStatus(r, resp, "fwd=partial", "fwd-status=206", "stored")
					if _, err := io.ReadFull(resp.Body, got); err != nil {
						r.Fatal(err)
					}
					wantBody(r, got, body[:first])
					close(release)
					rest, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil {
						r.Fatal(err)
					}
					wantBody(r, rest, body[first:])
					resp, got = r.get(origin.url())
					wantStatus(r, resp, "hit")
					wantBody(r, got, body)
					if resp.ContentLength != int64(len(body)) || resp.Header.Get("Content-Length") != strconv.Itoa(len(body)) {
						r.Errorf("got length %d, %v", resp.ContentLength, resp.Header)
					}
					if sent := origin.written.Load(); sent != int64(len(body)) {
						r.Errorf("%d bytes were sent, want %d", sent, len(body))
					}
				})
			})
		}
	}
}

// TestHerdOnPartial: many who want what is held in part are one request for the rest.
func TestHerdOnPartial(t *testing.T) {
	inEachStore(t, func(r *rig) {
		body := noise(1<<20, 8)
		const first = 300_000
		origin := newRaw(r, func(c *rawCall) {
			if c.n == 0 {
				c.head(200, fresh, "Accept-Ranges: bytes", tag, "Content-Length: "+strconv.Itoa(len(body)))
				c.content(body[:first])
				<-c.gone
				c.hangUp()
				return
			}
			time.Sleep(20 * time.Millisecond)
			c.rest(body, fresh, tag)
		})
		defer origin.close()
		resp := r.send(r.Context(), origin.url())
		io.ReadFull(resp.Body, make([]byte, first))
		resp.Body.Close()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				resp, got := r.get(origin.url())
				wantBody(r, got, body)
				if resp.StatusCode != 200 || resp.ContentLength != int64(len(body)) {
					r.Errorf("got %s of %d", resp.Status, resp.ContentLength)
				}
			})
		}
		wg.Wait()
		if n := len(origin.requests()); n != 2 {
			r.Errorf("got %d requests, want 2", n)
		}
	})
}

// TestResumedPastPurge: what a download goes on from may be purged meanwhile. The reader gets all of it,
// and what came is kept as far as it goes.
func TestResumedPastPurge(t *testing.T) {
	inEachStore(t, func(r *rig) {
		body := noise(1<<20, 8)
		const first = 300_000
		resumed, purged := make(chan bool, 1), make(chan bool)
		origin := newRaw(r, func(c *rawCall) {
			switch c.n {
			case 0:
				c.head(200, fresh, "Accept-Ranges: bytes", tag, "Content-Length: "+strconv.Itoa(len(body)))
				c.content(body[:first])
				<-c.gone
				c.hangUp()
			case 1:
				c.head(206, fresh, tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)), "Content-Length: "+strconv.Itoa(len(body)-first))
				c.content(body[first : 2*first])
				resumed <- true
				<-purged
				c.content(body[2*first:])
			default:
				c.rest(body, fresh, tag)
			}
		})
		defer origin.close()
		resp := r.send(r.Context(), origin.url())
		io.ReadFull(resp.Body, make([]byte, first))
		resp.Body.Close()
		resp = r.send(r.Context(), origin.url())
		begun := make([]byte, first+1)
		io.ReadFull(resp.Body, begun)
		<-resumed
		if err := r.Purge(r.Context(), origin.url()); err != nil {
			r.Fatal(err)
		}
		close(purged)
		rest, err := io.ReadAll(resp.Body)
		if err != nil {
			r.Fatal(err)
		}
		wantBody(r, append(begun, rest...), body)
		_, got := r.get(origin.url())
		wantBody(r, got, body)
		if s := r.Stats(); s.StoreErrors > 0 {
			r.Errorf("got %+v", s)
		}
	})
}

// TestNotResumed: what could not be told from the bytes of another representation is not kept.
func TestNotResumed(t *testing.T) {
	leavesNothing(t)
	body := noise(600_000, 9)
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
		{"ranges not accepted", []string{"Accept-Ranges: none", tag}},
		{"nothing said of ranges", []string{tag}},
		{"another unit", []string{"Accept-Ranges: lines", tag}},
	} {
		t.Run(test.name, func(t *testing.T) {
			parallelInEachStore(t, func(r *rig) {
				origin := newRaw(r, func(c *rawCall) {
					if c.Header.Get("Range") != "" {
						r.Errorf("request %d: got %v", c.n, c.Header)
					}
					if c.n > 0 {
						c.whole(body, append(test.lines, fresh)...)
						return
					}
					c.head(200, append(test.lines, fresh, "Content-Length: "+strconv.Itoa(len(body)))...)
					c.content(body[:first])
					c.hangUp()
				})
				defer origin.close()
				resp := r.send(r.Context(), origin.url())
				if n, err := io.Copy(io.Discard, resp.Body); n != first || !errors.Is(err, io.ErrUnexpectedEOF) {
					r.Errorf("got %d bytes, %v", n, err)
				}
				resp.Body.Close()
				resp, got := r.get(origin.url())
				wantStatus(r, resp, "fwd=uri-miss", "fwd-status=200", "stored")
				wantBody(r, got, body)
				if n := len(origin.requests()); n != 2 {
					r.Errorf("got %d requests, want 2", n)
				}
			})
		})
	}
}

// TestDateDoesNotGrowStrong: bytes that came within a second of the last modification may be of
// either side of it, and no later confirmation of the date makes them certain.
func TestDateDoesNotGrowStrong(t *testing.T) {
	inEachStore(t, func(r *rig) {
		was, is := noise(1000, 36), noise(1000, 37)
		then := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
		origin := newRaw(r, func(c *rawCall) {
			switch {
			case c.n == 0:
				c.write("HTTP/1.1 206 Partial Content\r\nCache-Control: max-age=5000\r\nAccept-Ranges: bytes\r\nDate: " + then + "\r\nLast-Modified: " + then +
					"\r\nContent-Range: bytes 0-499/1000\r\nContent-Length: 500\r\n\r\n")
				c.content(was[:500])
			case c.Header.Get("If-Modified-Since") == then:
				c.head(304, "Cache-Control: max-age=5000", "Last-Modified: "+then)
			case c.Header.Get("Range") == "bytes=500-":
				c.part(is, 500, 1000, fresh, "Last-Modified: "+then)
			default:
				c.whole(is, fresh, "Last-Modified: "+then)
			}
		})
		defer origin.close()
		r.get(origin.url(), "Range", "bytes=0-499")
		if err := r.Invalidate(r.Context(), origin.url()); err != nil {
			r.Fatal(err)
		}
		resp, got := r.get(origin.url(), "Range", "bytes=100-199")
		wantStatus(r, resp, "fwd-status=304")
		wantBody(r, got, was[100:200])
		_, got = r.get(origin.url())
		wantBody(r, got, is)
		r.get(origin.url(), "Range", "bytes=500-")
		_, got = r.get(origin.url())
		wantBody(r, got, is)
	})
}

// TestDecompressedIsNotResumed: net/http decompresses unseen, and then offsets mean something else.
func TestDecompressedIsNotResumed(t *testing.T) {
	inEachStore(t, func(r *rig) {
		r.base.DisableCompression = false
		text := bytes.Repeat([]byte("all work and no play "), 100_000)
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(text)
		z.Close()
		origin := newRaw(r, func(c *rawCall) {
			if c.Header.Get("Range") != "" {
				r.Errorf("request %d: got %v", c.n, c.Header)
			}
			lines := []string{fresh, "Accept-Ranges: bytes", tag, "Content-Encoding: gzip", "Vary: Accept-Encoding"}
			if c.n > 0 {
				c.whole(b.Bytes(), lines...)
				return
			}
			c.head(200, append(lines, "Content-Length: "+strconv.Itoa(b.Len()))...)
			c.content(b.Bytes()[:b.Len()/2])
			c.hangUp()
		})
		defer origin.close()
		resp := r.send(r.Context(), origin.url())
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			r.Error("no error")
		}
		resp.Body.Close()
		_, got := r.get(origin.url())
		wantBody(r, got, text)
		// Nor are its ranges the origin's: they are not answered from what is stored.
		before := len(origin.requests())
		resp = r.send(r.Context(), origin.url(), "Accept-Encoding", "gzip")
		resp.Body.Close()
		if n := len(origin.requests()); n != before+1 {
			r.Errorf("got %d requests, want %d", n, before+1)
		}
	})
}

// disagreements are all the ways in which the answer to a request for the rest can disagree with
// what is held: of another content, from first on.
var disagreements = []struct {
	name   string
	answer func(c *rawCall, body []byte, first int)
}{
	{"another tag", func(c *rawCall, body []byte, first int) { c.part(body, first, len(body), fresh, `ETag: "2"`) }},
	{"a weak tag", func(c *rawCall, body []byte, first int) { c.part(body, first, len(body), fresh, `ETag: W/"1"`) }},
	{"no tag", func(c *rawCall, body []byte, first int) { c.part(body, first, len(body), fresh) }},
	{"another total", func(c *rawCall, body []byte, first int) {
		c.part(append(body, 1, 2, 3), first, len(body)+3, fresh, tag)
	}},
	{"a smaller total", func(c *rawCall, body []byte, first int) { c.part(body[:len(body)-3], first, len(body)-3, fresh, tag) }},
	{"what was asked for, of another total", func(c *rawCall, body []byte, first int) {
		c.head(206, fresh, tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)+3), fmt.Sprintf("Content-Length: %d", len(body)-first))
		c.content(body[first:])
	}},
	{"an earlier offset", func(c *rawCall, body []byte, first int) { c.part(body, first-5, len(body), fresh, tag) }},
	{"a later offset", func(c *rawCall, body []byte, first int) { c.part(body, first+5, len(body), fresh, tag) }},
	{"from the beginning", func(c *rawCall, body []byte, first int) { c.part(body, 0, len(body), fresh, tag) }},
	{"not to the end", func(c *rawCall, body []byte, first int) { c.part(body, first, len(body)-5, fresh, tag) }},
	{"an unknown total", func(c *rawCall, body []byte, first int) {
		c.head(206, fresh, tag, fmt.Sprintf("Content-Range: bytes %d-%d/*", first, len(body)-1), fmt.Sprintf("Content-Length: %d", len(body)-first))
		c.content(body[first:])
	}},
	{"no Content-Range", func(c *rawCall, body []byte, first int) {
		c.head(206, fresh, tag, fmt.Sprintf("Content-Length: %d", len(body)-first))
		c.content(body[first:])
	}},
	{"Content-Range makes no sense", func(c *rawCall, body []byte, first int) {
		c.head(206, fresh, tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", len(body), first, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-first))
		c.content(body[first:])
	}},
	{"two Content-Ranges", func(c *rawCall, body []byte, first int) {
		c.part(body, first, len(body), fresh, tag, fmt.Sprintf("Content-Range: bytes 0-%d/%d", len(body)-1, len(body)))
	}},
	{"another unit", func(c *rawCall, body []byte, first int) {
		c.head(206, fresh, tag, fmt.Sprintf("Content-Range: lines %d-%d/%d", first, len(body)-1, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-first))
		c.content(body[first:])
	}},
	{"framed shorter", func(c *rawCall, body []byte, first int) {
		c.head(206, fresh, tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-first-5))
		c.content(body[first : len(body)-5])
	}},
	{"framed longer", func(c *rawCall, body []byte, first int) {
		c.head(206, fresh, tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-first+5))
		c.content(append(bytes.Clone(body[first:]), "extra"...))
	}},
	{"another coding", func(c *rawCall, body []byte, first int) {
		c.part(body, first, len(body), fresh, tag, "Content-Encoding: br")
	}},
	{"several parts", func(c *rawCall, body []byte, first int) {
		c.head(206, fresh, tag, "Content-Type: multipart/byteranges; boundary=x", "Content-Length: 10")
		c.content([]byte("--x\r\n\r\n--x"))
	}},
	{"not satisfiable", func(c *rawCall, body []byte, first int) {
		c.head(416, fmt.Sprintf("Content-Range: bytes */%d", first), "Content-Length: 0")
	}},
	{"not satisfiable, and stalled", func(c *rawCall, body []byte, first int) {
		c.head(416, fmt.Sprintf("Content-Range: bytes */%d", first), "Content-Length: 10")
		<-c.gone
		c.hangUp()
	}},
	{"stalled", func(c *rawCall, body []byte, first int) {
		c.head(206, fresh, `ETag: "2"`, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-first))
		<-c.gone
		c.hangUp()
	}},
}

// TestDisagreement: an answer that does not bring exactly the rest of what is held is not joined to
// it: the request is repeated for the whole.
func TestDisagreement(t *testing.T) {
	leavesNothing(t)
	was, is := noise(400_000, 10), noise(400_000, 11)
	const first = 150_000
	for _, test := range disagreements {
		t.Run(test.name, func(t *testing.T) {
			parallelInEachStore(t, func(r *rig) {
				origin := newRaw(r, func(c *rawCall) {
					switch c.n {
					case 0:
						c.head(200, fresh, "Accept-Ranges: bytes", tag, "Content-Length: "+strconv.Itoa(len(was)))
						c.content(was[:first])
						<-c.gone
						c.hangUp()
					case 1:
						if !c.asks(first, `"1"`) {
							r.Errorf("got %v", c.Header)
						}
						test.answer(c, is, first)
					default:
						if c.Header.Get("Range") != "" || c.Header.Get("If-Range") != "" {
							r.Errorf("request %d: got %v", c.n, c.Header)
						}
						c.whole(is, fresh, `ETag: "2"`)
					}
				})
				defer origin.close()
				resp := r.send(r.Context(), origin.url())
				io.ReadFull(resp.Body, make([]byte, first))
				resp.Body.Close()

				resp, got := r.get(origin.url())
				wantBody(r, got, is)
				if resp.StatusCode != 200 || resp.ContentLength != int64(len(is)) || resp.Header.Get("ETag") != `"2"` {
					r.Errorf("got %s of %d, %v", resp.Status, resp.ContentLength, resp.Header)
				}
				wantStatus(r, resp, "fwd=partial", "fwd-status=200", "stored")
				resp, got = r.get(origin.url())
				wantStatus(r, resp, "hit")
				wantBody(r, got, is)
				if n := len(origin.requests()); n != 3 {
					r.Errorf("got %d requests, want 3", n)
				}
			})
		})
	}
}

// TestWholeInsteadOfRest: a 200 to a request for the rest takes the place of what was held.
func TestWholeInsteadOfRest(t *testing.T) {
	inEachStore(t, func(r *rig) {
		was, is := noise(400_000, 12), noise(300_000, 13)
		origin := newRaw(r, func(c *rawCall) {
			if c.n == 0 {
				c.head(200, fresh, "Accept-Ranges: bytes", tag, "Content-Length: "+strconv.Itoa(len(was)))
				c.content(was[:200_000])
				<-c.gone
				c.hangUp()
				return
			}
			c.whole(is, fresh, `ETag: "2"`)
		})
		defer origin.close()
		resp := r.send(r.Context(), origin.url())
		io.ReadFull(resp.Body, make([]byte, 200_000))
		resp.Body.Close()
		for _, want := range []string{"fwd-status=200", "hit"} {
			resp, got := r.get(origin.url())
			wantStatus(r, resp, want)
			wantBody(r, got, is)
		}
		if n := len(origin.requests()); n != 2 {
			r.Errorf("got %d requests, want 2", n)
		}
	})
}

// TestRestThatLies: what a 206 brings beyond or short of what it said is an error to the caller, and
// never part of what is stored.
func TestRestThatLies(t *testing.T) {
	body := noise(400_000, 14)
	const first = 150_000
	for _, extra := range []int{-1000, 1000} {
		t.Run(strconv.Itoa(extra), func(t *testing.T) {
			inEachStore(t, func(r *rig) {
				origin := newRaw(r, func(c *rawCall) {
					switch {
					case c.n == 0:
						c.head(200, fresh, "Accept-Ranges: bytes", tag, "Content-Length: "+strconv.Itoa(len(body)))
						c.content(body[:first])
						<-c.gone
						c.hangUp()
					case c.n == 1: // in chunks, so that only Content-Range says how much it is
						rest := append(bytes.Clone(body[first:]), make([]byte, 2000)...)[:len(body)-first+extra]
						c.head(206, fresh, tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)), "Transfer-Encoding: chunked")
						c.write(fmt.Sprintf("%x\r\n", len(rest)))
						c.content(rest)
						c.write("\r\n0\r\n\r\n")
					case c.n == 2 && extra < 0: // the attempt to go on
						c.head(404, "Content-Length: 0")
					case c.Header.Get("Range") != "":
						c.rest(body, fresh, tag)
					default:
						c.whole(body, fresh, tag)
					}
				})
				defer origin.close()
				resp := r.send(r.Context(), origin.url())
				io.ReadFull(resp.Body, make([]byte, first))
				resp.Body.Close()

				resp = r.send(r.Context(), origin.url())
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(body, got) {
					r.Errorf("got %d bytes, %v", len(got), err)
				}
				_, got = r.get(origin.url())
				wantBody(r, got, body)
			})
		})
	}
}

// TestContinued: a transfer that breaks on its way to the caller goes on where it broke, again and
// again as long as there is progress, and nobody notices.
func TestContinued(t *testing.T) {
	for _, framing := range []string{"length", "chunks"} {
		t.Run(framing, func(t *testing.T) {
			inEachStore(t, func(r *rig) {
				body := noise(2<<20, 15)
				const each = 200_000
				origin := newRaw(r, func(c *rawCall) {
					from := 0
					if c.n > 0 {
						from = each * c.n
						if !c.asks(from, `"1"`) {
							r.Errorf("request %d: got %v", c.n, c.Header)
						}
						c.head(206, fresh, tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", from, len(body)-1, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-from))
					} else if framing == "chunks" {
						c.head(200, fresh, tag, "Accept-Ranges: bytes", "Transfer-Encoding: chunked")
						c.write(fmt.Sprintf("%x\r\n", len(body)))
					} else {
						c.head(200, fresh, tag, "Accept-Ranges: bytes", "Content-Length: "+strconv.Itoa(len(body)))
					}
					c.content(body[from:min(len(body), from+each)])
					if from+each < len(body) {
						c.hangUp()
					}
				})
				defer origin.close()
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						_, got := r.get(origin.url(), "X-Caller", "1")
						wantBody(r, got, body)
					})
				}
				wg.Wait()
				resp, got := r.get(origin.url())
				wantStatus(r, resp, "hit")
				wantBody(r, got, body)
				if resp.ContentLength != int64(len(body)) {
					r.Errorf("got length %d", resp.ContentLength)
				}
				if sent := origin.written.Load(); sent != int64(len(body)) {
					r.Errorf("%d bytes were sent, want %d", sent, len(body))
				}
			})
		})
	}
}

// TestNotContinued: whatever speaks against it, the caller gets the error that came, no more bytes,
// and what came before is still good for the next request.
func TestNotContinued(t *testing.T) {
	leavesNothing(t)
	was, is := noise(400_000, 16), noise(400_000, 17)
	const first = 150_000
	type test = struct {
		name   string
		answer func(c *rawCall, body []byte, first int)
	}
	for _, test := range append([]test{
		{"200 instead", func(c *rawCall, body []byte, first int) { c.whole(body, fresh, `ETag: "2"`) }},
		{"not found", func(c *rawCall, body []byte, first int) { c.head(404, "Content-Length: 0") }},
		{"not modified", func(c *rawCall, body []byte, first int) { c.head(304, tag) }},
		{"fails", func(c *rawCall, body []byte, first int) { c.head(503, "Content-Length: 0") }},
		{"hangs up", func(c *rawCall, body []byte, first int) { c.hangUp() }},
		{"sends the head and hangs up", func(c *rawCall, body []byte, first int) {
			c.head(206, fresh, tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-first))
			c.hangUp()
		}},
	}, disagreements...) {
		t.Run(test.name, func(t *testing.T) {
			parallelInEachStore(t, func(r *rig) {
				origin := newRaw(r, func(c *rawCall) {
					if c.n == 0 {
						c.head(200, fresh, "Accept-Ranges: bytes", tag, "Content-Length: "+strconv.Itoa(len(was)))
						c.content(was[:first])
						c.hangUp()
						return
					}
					if !c.asks(first, `"1"`) {
						r.Errorf("request %d: got %v", c.n, c.Header)
					}
					test.answer(c, is, first)
				})
				defer origin.close()
				resp := r.send(r.Context(), origin.url())
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				wantBody(r, got, was[:first])
				if err != io.ErrUnexpectedEOF {
					r.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
				}
				if n := len(origin.requests()); n > 4 {
					r.Errorf("got %d requests, want 4 at most", n)
				}
			})
		})
	}
}

// TestContinuingEnds with the reader who waited for it.
func TestContinuingEnds(t *testing.T) {
	inEachStore(t, func(r *rig) {
		asked := make(chan struct{})
		origin := newRaw(r, func(c *rawCall) {
			if c.n == 0 {
				c.head(200, fresh, "Accept-Ranges: bytes", tag, "Content-Length: 1000000")
				c.content(make([]byte, 1000))
				c.hangUp()
				return
			}
			close(asked)
			<-c.gone
			c.hangUp()
		})
		defer origin.close()
		ctx, cancel := context.WithCancel(r.Context())
		resp := r.send(ctx, origin.url())
		go func() {
			<-asked
			cancel()
		}()
		if n, err := io.Copy(io.Discard, resp.Body); n != 1000 || !errors.Is(err, context.Canceled) {
			r.Errorf("got %d bytes, %v", n, err)
		}
		resp.Body.Close()
		within(r, "the request ends at the origin", origin.requests()[1].gone)
	})
}

// TestCutTwentyTimes: a download that is cut at random points costs hardly more on the wire than one
// that is not, by a server of net/http. BenchmarkCutDownload measures a large one.
func TestCutTwentyTimes(t *testing.T) {
	inEachStore(t, func(r *rig) {
		const size = 16 << 20
		if taken, _ := cutDownload(r, size, 20); taken > size*102/100 {
			r.Errorf("%d bytes were taken from the connections, which is %.3f times %d", taken, float64(taken)/size, size)
		}
	})
}

// cutDownload downloads size bytes of which the reader closes n times at a random point. It returns
// what was taken from the connections, and what the origin wrote to them: that is more by what was
// in the buffers in between when they were closed, which are made as small as a link's would be that
// the reader can keep up with.
func cutDownload(r *rig, size, n int) (taken, sent int64) {
	body := noise(size, 18)
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
	r.base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
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
		resp := r.send(r.Context(), origin.URL)
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
	_, got := r.get(origin.URL)
	wantBody(r, got, body)
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

// countedConn counts what is read from a connection and written to it, where that is asked for.
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

// TestManyCuts: a body that comes in more pieces than an entry may have parts comes nevertheless.
func TestManyCuts(t *testing.T) {
	inEachStore(t, func(r *rig) {
		body := noise(1<<20, 19)
		const each = 5000
		origin := newRaw(r, func(c *rawCall) {
			from := 0
			if c.n > 0 {
				fmt.Sscanf(c.Header.Get("Range"), "bytes=%d-", &from)
				if from == 0 {
					r.Errorf("request %d: asks for all of it: %v", c.n, c.Header)
				}
				c.head(206, fresh, tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", from, len(body)-1, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-from))
			} else {
				c.head(200, fresh, tag, "Accept-Ranges: bytes", "Content-Length: "+strconv.Itoa(len(body)))
			}
			c.content(body[from:min(len(body), from+each)])
			if from+each < len(body) {
				<-c.gone
				c.hangUp()
			}
		})
		defer origin.close()
		r.DrainBytes = -1
		parts := 0
		for n := each; ; n += each {
			resp := r.send(r.Context(), origin.url())
			got := make([]byte, min(len(body), n))
			if _, err := io.ReadFull(resp.Body, got); err != nil {
				r.Fatal(err)
			}
			wantBody(r, got, body[:len(got)])
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
		_, got := r.get(origin.url())
		wantBody(r, got, body)
		// It counts what it has written after that is read.
		soon(r, "all bytes are sent", func() bool { return origin.written.Load() >= int64(len(body)) })
		if sent := origin.written.Load(); sent != int64(len(body)) {
			r.Errorf("%d bytes were sent, want %d", sent, len(body))
		}
		if parts < 50 || parts > 64 {
			r.Errorf("got up to %d parts, want 64 at most", parts)
		}
	})
}

// TestOnlyTheEndIsMissing: a transfer of unknown length that breaks off after its last byte is complete if
// the origin says that there is no more, and only then.
func TestOnlyTheEndIsMissing(t *testing.T) {
	body := noise(100_000, 95)
	for _, test := range []struct {
		name  string
		lines []string
		want  error
	}{
		{name: "the end", lines: []string{"Content-Range: bytes */100000"}},
		{name: "the end, with the tag", lines: []string{"Content-Range: bytes */100000", tag}},
		{name: "another tag", lines: []string{"Content-Range: bytes */100000", `ETag: "2"`}, want: io.ErrUnexpectedEOF},
		{name: "shorter", lines: []string{"Content-Range: bytes */99999"}, want: io.ErrUnexpectedEOF},
		{name: "longer", lines: []string{"Content-Range: bytes */100001"}, want: io.ErrUnexpectedEOF},
		{name: "nothing said", want: io.ErrUnexpectedEOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			inEachStore(t, func(r *rig) {
				origin := newRaw(r, func(c *rawCall) {
					if c.Header.Get("Range") != "" {
						c.head(416, append(test.lines, "Content-Length: 0")...)
						return
					}
					c.head(200, fresh, tag, "Accept-Ranges: bytes", "Transfer-Encoding: chunked")
					c.write(fmt.Sprintf("%x\r\n", len(body)))
					c.content(body)
					c.write("\r\n")
					if c.n == 0 {
						c.hangUp()
						return
					}
					c.write("0\r\n\r\n")
				})
				defer origin.close()
				resp := r.send(r.Context(), origin.url())
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if !errors.Is(err, test.want) {
					r.Errorf("got %v, want %v", err, test.want)
				}
				wantBody(r, got, body)
				resp, got = r.get(origin.url())
				wantBody(r, got, body) // if need be after a 416 to the rest
				if hit := cachetrip.StatusOf(resp).Hit; hit != (test.want == nil) {
					r.Errorf("got a hit: %t", hit)
				}
				resp, got = r.get(origin.url())
				wantStatus(r, resp, "hit")
				wantBody(r, got, body)
			})
		})
	}
}

// gatedStore has what is written to it wait for its test.
type gatedStore struct {
	store.Store
	writes chan struct{} // told of each Write that begins
	gate   chan struct{}
}

type gatedDraft struct {
	store.Draft
	s gatedStore
}

func (s gatedStore) Create(ctx context.Context, key string, size int64) (store.Draft, error) {
	draft, err := s.Store.Create(ctx, key, size)
	return gatedDraft{draft, s}, err
}

func (d gatedDraft) Write(p []byte) (int, error) {
	select {
	case d.s.writes <- struct{}{}:
	default:
	}
	<-d.s.gate
	return d.Draft.Write(p)
}

// TestPartsBecomeOne: what is held in very many parts becomes one when the rest comes, which delays neither
// the head nor what is held; and it is kept as it is if the rest is not wanted after all.
func TestPartsBecomeOne(t *testing.T) {
	const parts, each = 64, 10_000
	body := noise(parts*each+50_000, 96)
	for _, left := range []string{"", "before reading", "while they become one"} {
		t.Run("left "+left, func(t *testing.T) {
			inEachStore(t, func(r *rig) {
				origin := serveContent(body, "ETag", `"1"`)
				defer origin.Close()
				defer r.base.CloseIdleConnections()
				for i := range parts {
					r.get(origin.URL, "Range", fmt.Sprintf("bytes=%d-%d", i*each, (i+1)*each-1))
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
				gated := gatedStore{kept, make(chan struct{}, 1), make(chan struct{})}
				r.Store = gated
				r.DrainBytes = -1
				resp := r.send(r.Context(), origin.URL)
				got := make([]byte, parts*each)
				if left != "before reading" {
					if _, err := io.ReadFull(resp.Body, got); err != nil {
						r.Fatal(err)
					}
					wantBody(r, got, body[:len(got)])
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
					wantBody(r, append(got, rest...), body)
				}()
				want := 1
				if left != "" {
					want = parts
					if left == "while they become one" {
						<-gated.writes
					}
					go resp.Body.Close()
					time.Sleep(20 * time.Millisecond)
				}
				close(gated.gate)
				within(r, "the body ends", ended)
				resp.Body.Close()
				if n := count(); n != want {
					r.Errorf("got %d parts, want %d", n, want)
				}
				r.Store = kept
				resp, whole := r.get(origin.URL)
				wantBody(r, whole, body)
				if left == "" {
					wantStatus(r, resp, "hit")
				}
			})
		})
	}
}

// TestHalvesOfTwoUsersAreNotJoined: an origin gives the pages of all users one date, and neither a tag nor Vary. What one
// user has left half-read is not completed by what another one is sent, nor are parts joined.
func TestHalvesOfTwoUsersAreNotJoined(t *testing.T) {
	const size = 400_000
	page := func(user string) string { return strings.Repeat(pageOf(user)[:8], size/8) }
	alice, bob := []string{"Cookie", "user=alice-alice"}, []string{"Cookie", "user=bob-bob-bob"}
	for _, test := range []struct {
		name  string
		first func(w *world)
	}{
		{"a body that was left", func(w *world) {
			resp, err := w.client.Do(w.request("GET", "/", alice...))
			if err != nil {
				w.Fatal(err)
			}
			io.CopyN(io.Discard, resp.Body, size/4)
			resp.Body.Close()
		}},
		{"a part", func(w *world) { w.get("/", append(alice, "Range", "bytes=0-99999")...) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			onEachStore(t, func(w *world) {
				w.cache.DrainTime = -1
				modified := time.Now().Add(-time.Hour)
				w.handle(func(rw http.ResponseWriter, r *http.Request) {
					rw.Header().Set("Cache-Control", "max-age=60")
					http.ServeContent(rw, r, "page.txt", modified, strings.NewReader(page(r.Header.Get("Cookie"))))
				})
				test.first(w)
				for _, user := range [][]string{bob, alice} {
					if r := w.get("/", append(user, "Cache-Control", "no-cache")...); r.Body != page("user=alice-alice") && r.Body != page("user=bob-bob-bob") {
						w.Errorf("%s got a mixture: %s", user[1], r.Status.Detail)
					}
				}
				w.get("/", append(bob, "Range", "bytes=200000-299999")...)
				if r := w.get("/", bob...); r.Body != page("user=bob-bob-bob") && r.Body != page("user=alice-alice") {
					w.Errorf("got a mixture")
				}
			})
		})
	}
}

// TestRefusedRangeIsNotAskedForAgain: an origin that answers 501 to a range does not restart, as one that answers 503 may.
func TestRefusedRangeIsNotAskedForAgain(t *testing.T) {
	body := noise(300_000, 92)
	for code, want := range map[int]int{501: 2, 403: 2, 503: 4} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			inEachStore(t, func(r *rig) {
				origin := newRaw(r, func(c *rawCall) {
					if c.Header.Get("Range") != "" {
						c.head(code, "Content-Length: 0")
						return
					}
					c.head(200, fresh, tag, "Accept-Ranges: bytes", "Content-Length: "+strconv.Itoa(len(body)))
					c.content(body[:100_000])
					c.hangUp()
				})
				defer origin.close()
				resp := r.send(r.Context(), origin.url())
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err == nil || !bytes.Equal(got, body[:len(got)]) {
					r.Errorf("got %d bytes, %v", len(got), err)
				}
				if n := len(origin.requests()); n != want {
					r.Errorf("got %d requests, want %d", n, want)
				}
			})
		})
	}
}
