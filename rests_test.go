package cachetrip_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// lastHeaders are what the response says that brings the rest of another one, whose header says max-age=5000, and what
// becomes of the next GET.
var lastHeaders = []struct {
	name   string
	header []string
	want   string // in Cache-Status of the next GET
	kept   bool   // whether the rest may be stored
}{
	{"the same", []string{fresh}, "hit", true},
	{"no-store", []string{"Cache-Control: no-store"}, "fwd-status=200", false},
	{"no-cache", []string{"Cache-Control: no-cache"}, "fwd=stale", true},
	{"max-age=0", []string{"Cache-Control: max-age=0"}, "fwd=stale", true},
	{"nothing about it", nil, "hit", true},
	{"a longer lifetime", []string{"Cache-Control: max-age=900000"}, "hit", true},
}

// checkJoined checks what a body that came in two parts is to the next GET.
func checkJoined(r *rig, url string, body []byte, want string, asked func() int) {
	r.Helper()
	before := asked()
	resp, got := r.get(url)
	wantBody(r, got, body)
	wantStatus(r, resp, want)
	if want == "hit" {
		if resp.Header.Get("X-Part") != "last" || resp.Header.Get("X-First") != "yes" || resp.Header.Get("X-Last") != "yes" {
			r.Errorf("got %v", resp.Header)
		}
		if resp.ContentLength != int64(len(body)) || resp.Header.Get("Content-Length") != strconv.Itoa(len(body)) {
			r.Errorf("got the length %d, %v", resp.ContentLength, resp.Header)
		}
		if asked() != before {
			r.Error("the origin was asked")
		}
		return
	}
	if asked() == before {
		r.Error("the origin was not asked")
	}
}

// TestHeaderOfTheRest: the response that brings the rest of a body, after it broke off or when it is resumed, updates
// the header of the whole: RFC 9111, section 3.4. So it decides about storing and reusing.
func TestHeaderOfTheRest(t *testing.T) {
	leavesNothing(t)
	body := noise(300_000, 60)
	const first = 100_000
	for _, how := range []string{"resumed", "continued", "continued, of unknown length"} {
		for _, test := range lastHeaders {
			t.Run(how+"/"+test.name, func(t *testing.T) {
				parallelInEachStore(t, func(r *rig) {
					origin := newRaw(r, func(c *rawCall) {
						lines := []string{fresh, "Accept-Ranges: bytes", tag, "X-Part: first", "X-First: yes"}
						switch {
						case c.Header.Get("Range") != "":
							c.rest(body, append(test.header, tag, "X-Part: last", "X-Last: yes")...)
						case c.n > 0 && c.Header.Get("If-None-Match") != "":
							c.head(304, fresh, tag)
						case c.n > 0:
							c.whole(body, "Cache-Control: no-store", tag)
						case how == "continued, of unknown length":
							c.head(200, append(lines, "Transfer-Encoding: chunked")...)
							c.write(fmt.Sprintf("%x\r\n", len(body)))
							c.content(body[:first])
							c.hangUp()
						default:
							c.head(200, append(lines, "Content-Length: "+strconv.Itoa(len(body)))...)
							c.content(body[:first])
							if how == "resumed" {
								<-c.gone
							}
							c.hangUp()
						}
					})
					defer origin.close()
					asked := func() int { return len(origin.requests()) }
					if how == "resumed" {
						resp := r.send(r.Context(), origin.url())
						io.ReadFull(resp.Body, make([]byte, first))
						resp.Body.Close()
					}
					_, got := r.get(origin.url())
					wantBody(r, got, body)
					if r.dir != "" && !test.kept {
						r.restart()
						if size := sizeOf(r.TB.(*testing.T), r.dir); size >= first {
							r.Errorf("%d bytes are on disk", size)
						}
					}
					checkJoined(r, origin.url(), body, test.want, asked)
				})
			})
		}
	}
}

// TestNoJoinAfterTheRest: requests that come while the rest of a body arrives do not share a response that the origin
// has taken back meanwhile.
func TestNoJoinAfterTheRest(t *testing.T) {
	body := noise(300_000, 61)
	const first = 100_000
	inEachStore(t, func(r *rig) {
		continued, finish := make(chan bool), make(chan bool)
		origin := newRaw(r, func(c *rawCall) {
			switch {
			case c.n == 0:
				c.head(200, fresh, "Accept-Ranges: bytes", tag, "Content-Length: "+strconv.Itoa(len(body)))
				c.content(body[:first])
				c.hangUp()
			case c.Header.Get("Range") != "":
				c.head(206, "Cache-Control: no-cache", tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-first))
				c.content(body[first : first+1000])
				close(continued)
				<-finish
				c.content(body[first+1000:])
			default:
				c.whole([]byte("new"), "Cache-Control: no-store")
			}
		})
		defer origin.close()
		resp := r.send(r.Context(), origin.url())
		got := make([]byte, first+1)
		if _, err := io.ReadFull(resp.Body, got); err != nil {
			r.Fatal(err)
		}
		<-continued
		if other, got := r.get(origin.url()); string(got) != "new" {
			r.Errorf("got %s of %d bytes", other.Header.Get("Cache-Status"), len(got))
		}
		close(finish)
		rest, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			r.Fatal(err)
		}
		wantBody(r, append(got, rest...), body)
	})
}

// TestRangesJoinedHaveALength: a 200 that is joined from ranges that callers have asked for says how long it is.
func TestRangesJoinedHaveALength(t *testing.T) {
	onEachStore(t, func(w *world) {
		w.handle(tagged(`"1"`, "hello, world", "Cache-Control", "max-age=60", "Vary", "X-Kind", "Accept-Ranges", "bytes"))
		w.get("/", "Range", "bytes=0-4")
		w.get("/", "Range", "bytes=5-8")
		w.get("/", "Range", "bytes=9-")
		r := w.wantGet("200 hello, world | hit", "/")
		check(t, "length", []string{r.Header.Get("Content-Length"), strconv.FormatInt(r.resp.ContentLength, 10)}, []string{"12", "12"})
		r = w.do(w.request("HEAD", "/"))
		check(t, "length of a HEAD", []string{r.Status.Fwd, r.Header.Get("Content-Length")}, []string{"", "12"})
	})
}

// TestRestWithoutVary: a 206 need not repeat what selects the response. RFC 9110, section 15.3.7.
func TestRestWithoutVary(t *testing.T) {
	body := noise(300_000, 62)
	const first = 100_000
	inEachStore(t, func(r *rig) {
		origin := newRaw(r, func(c *rawCall) {
			if c.n == 0 {
				c.head(200, fresh, "Accept-Ranges: bytes", tag, "Vary: X-Kind", "Content-Length: "+strconv.Itoa(len(body)))
				c.content(body[:first])
				<-c.gone
				c.hangUp()
				return
			}
			c.rest(body, fresh, tag)
		})
		defer origin.close()
		resp := r.send(r.Context(), origin.url(), "X-Kind", "a")
		io.ReadFull(resp.Body, make([]byte, first))
		resp.Body.Close()
		for _, want := range []string{"fwd-status=206", "hit"} {
			resp, got := r.get(origin.url(), "X-Kind", "a")
			wantStatus(r, resp, want)
			wantBody(r, got, body)
		}
	})
}

// limited is a body of which a transport below lets no more than n bytes through.
type limited struct {
	io.ReadCloser
	n   int64
	err error
}

func (b *limited) Read(p []byte) (int, error) {
	if b.n <= 0 {
		return 0, b.err
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.n)])
	b.n -= int64(n)
	if err == io.EOF {
		err = b.err // a verification at the end that fails
	}
	return n, err
}

// TestErrorsOnPurpose: an error that a transport below makes of a body is the caller's, at the first request and at
// each later one. Nothing goes on behind it, and what came before it is not kept.
func TestErrorsOnPurpose(t *testing.T) {
	body := noise(200_000, 63)
	failed := errors.New("checksum mismatch")
	cut, ended := fmt.Errorf("too much: %w", io.ErrUnexpectedEOF), fmt.Errorf("too much: %w", io.EOF)
	for _, test := range []struct {
		name  string
		limit func(body io.ReadCloser) io.ReadCloser
		want  error
	}{
		{"a limit", func(b io.ReadCloser) io.ReadCloser { return http.MaxBytesReader(nil, b, 50_000) }, &http.MaxBytesError{Limit: 50_000}},
		{"another limit", func(b io.ReadCloser) io.ReadCloser { return &limited{b, 50_000, failed} }, failed},
		{"a checksum", func(b io.ReadCloser) io.ReadCloser { return &limited{b, 1 << 30, failed} }, failed},
		{"a limit that is like a broken connection", func(b io.ReadCloser) io.ReadCloser { return &limited{b, 50_000, cut} }, cut},
		{"a limit that is like an end", func(b io.ReadCloser) io.ReadCloser { return &limited{b, 50_000, ended} }, ended},
	} {
		t.Run(test.name, func(t *testing.T) {
			inEachStore(t, func(r *rig) {
				origin := newRaw(r, func(c *rawCall) {
					if c.Header.Get("Range") != "" {
						r.Errorf("request %d: got %v", c.n, c.Header)
					}
					c.whole(body, fresh, tag, "Accept-Ranges: bytes")
				})
				defer origin.close()
				base := r.Base
				r.Base = roundTripper(func(req *http.Request) (*http.Response, error) {
					resp, err := base.RoundTrip(req)
					if err == nil {
						resp.Body = test.limit(resp.Body)
					}
					return resp, err
				})
				for i := range 3 {
					resp := r.send(r.Context(), origin.url())
					got, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err == nil || err.Error() != test.want.Error() {
						r.Errorf("got %v, want %v", err, test.want)
					}
					if !bytes.HasPrefix(body, got) || test.name != "a checksum" && len(got) != 50_000 {
						r.Errorf("got %d bytes", len(got))
					}
					if n := len(origin.requests()); n != i+1 {
						r.Fatalf("got %d requests for %d", n, i+1)
					}
				}
			})
		})
	}
}

// TestBrokenStream: a stream of HTTP/2 that the origin resets is continued, as a connection of HTTP/1.1 is.
func TestBrokenStream(t *testing.T) {
	onEachProtocol(t, func(w *world) {
		body := noise(300_000, 64)
		n := 0
		w.handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("ETag", `"1"`)
			rw.Header().Set("Cache-Control", "max-age=60")
			rw.Header().Set("Accept-Ranges", "bytes")
			if n++; n > 1 {
				http.ServeContent(rw, r, "a.bin", time.Time{}, bytes.NewReader(body))
				return
			}
			rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
			rw.Write(body[:100_000])
			http.NewResponseController(rw).Flush()
			panic(http.ErrAbortHandler)
		})
		check(t, "the whole", w.get("/").Body == string(body), true)
		check(t, "from the store", w.get("/").Status.Hit, true)
		check(t, "number of requests", len(w.asked()), 2)
	})
}

// TestRestOfDamagedContentWithoutRanges: the store fails in the middle of a body, and the origin takes no ranges. Without
// a cache the caller would have had the whole.
func TestRestOfDamagedContentWithoutRanges(t *testing.T) {
	body := noise(2<<20, 65)
	for _, refusal := range []int{200, 400, 403, 304, 501} {
		t.Run(strconv.Itoa(refusal), func(t *testing.T) {
			w := newWorld(t, onDisk, serveLoopback)
			whole := func(rw http.ResponseWriter) {
				answer(rw, 200, string(body), "ETag", `"1"`, "Cache-Control", "max-age=60", "Content-Length", strconv.Itoa(len(body)))
			}
			w.handle(func(rw http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "" && refusal != 200 {
					rw.WriteHeader(refusal)
					return
				}
				whole(rw)
			})
			w.get("/")
			breaking := &cachetrip.Transport{Store: failsBehind{w.store, 1 << 20}, Base: w.cache.Base}
			defer breaking.Close()
			req := w.request("GET", "/").WithContext(context.Background())
			resp, err := breaking.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if !strings.Contains(resp.Header.Get("Cache-Status"), "hit") {
				t.Errorf("got %v", resp.Header)
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			wantBody(t, got, body)
		})
	}
}

// failsBehind is a store whose bodies can't be read behind an offset.
type failsBehind struct {
	store.Store
	offset int64
}

func (s failsBehind) Open(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
	body, err := s.Store.Open(ctx, key, blob)
	if err != nil {
		return nil, err
	}
	return failingBody{body, s.offset}, nil
}

type failingBody struct {
	store.Body
	offset int64
}

func (b failingBody) ReadAt(p []byte, offset int64) (int, error) {
	if offset >= b.offset {
		return 0, errors.New("input/output error")
	}
	return b.Body.ReadAt(p[:min(int64(len(p)), b.offset-offset)], offset)
}

// TestStoredBodyThatFailsWithoutValidator: what a store has lost of a stored body without a validator comes from the
// origin as well, if the origin still has the same. If it has another body, the caller is not given a mixture.
func TestStoredBodyThatFailsWithoutValidator(t *testing.T) {
	body, other := noise(500_000, 67), noise(500_000, 68)
	for _, test := range []struct {
		name   string
		second []byte
		fails  bool
	}{{"the same", body, false}, {"another body", other, true}} {
		t.Run(test.name, func(t *testing.T) {
			inEachStore(t, func(r *rig) {
				origin := newRaw(r, func(c *rawCall) {
					if c.n == 0 {
						c.whole(body, fresh)
						return
					}
					c.whole(test.second, fresh)
				})
				defer origin.close()
				r.get(origin.url())
				kept := r.Store
				defer func() { r.Store = kept }()
				r.Store = failsBehind{kept, 200_000}
				resp := r.send(r.Context(), origin.url())
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if (err != nil) != test.fails || !bytes.Equal(got, body[:len(got)]) || err == nil && len(got) != len(body) {
					r.Errorf("got %d bytes, %v", len(got), err)
				}
			})
		})
	}
}

// TestErrorsOnPurposeForAll: who reads along with another request is limited as that is, though each asks the origin for
// itself when a shared transfer breaks off.
func TestErrorsOnPurposeForAll(t *testing.T) {
	body := noise(500_000, 66)
	inEachStore(t, func(r *rig) {
		origin := newRaw(r, func(c *rawCall) {
			if c.Header.Get("Range") != "" {
				r.Errorf("request %d: got %v", c.n, c.Header)
			}
			c.whole(body, fresh, tag, "Accept-Ranges: bytes")
		})
		defer origin.close()
		base := r.Base
		r.Base = roundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := base.RoundTrip(req)
			if err == nil {
				resp.Body = http.MaxBytesReader(nil, resp.Body, 300_000)
			}
			return resp, err
		})
		first := r.send(r.Context(), origin.url())
		io.ReadFull(first.Body, make([]byte, 10))
		second := r.send(r.Context(), origin.url())
		if !cachetrip.StatusOf(second).Collapsed {
			r.Fatal("not shared")
		}
		for _, resp := range []*http.Response{second, first} {
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			var tooLarge *http.MaxBytesError
			if !errors.As(err, &tooLarge) || len(got) > 300_000 {
				r.Errorf("got %d bytes, %v", len(got), err)
			}
		}
	})
}

// TestPartUpdatesTheWhole: an origin that answers a range whatever else is asked says, with a part of what is stored as
// a whole, what holds for that from now on. A part that may be of something else is not said to be stored.
func TestPartUpdatesTheWhole(t *testing.T) {
	const body = "hello, world"
	for _, test := range []struct{ tag, directives, status, next, field string }{
		{`"1"`, "no-cache", "fwd=request; fwd-status=206; stored; detail=no-cache", "fwd=stale; fwd-status=304; stored; detail=no-cache", "new"},
		{`"1"`, "max-age=0", "fwd=request; fwd-status=206; stored; detail=no-cache", "fwd=stale; fwd-status=304; stored", "new"},
		{`"1"`, "max-age=100", "fwd=request; fwd-status=206; stored; detail=no-cache", "hit", "new"},
		{`"1"`, "no-store", "fwd=request; fwd-status=206; detail=no-cache", "fwd=stale; fwd-status=304; detail=invalidated", "new"},
		{`W/"1"`, "max-age=100", "fwd=request; fwd-status=206; detail=no-cache", "hit", "old"},
	} {
		t.Run(test.tag+" "+test.directives, func(t *testing.T) {
			onEachStore(t, func(w *world) {
				w.handle(tagged(`"1"`, body, "Cache-Control", "max-age=60", "Accept-Ranges", "bytes", "X-Field", "old"))
				w.get("/")
				w.handle(func(rw http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Range") != "" {
						delete(r.Header, "If-None-Match")
					}
					tagged(test.tag, body, "Cache-Control", test.directives, "Accept-Ranges", "bytes", "X-Field", "new")(rw, r)
				})
				w.wantGet("206 world | "+test.status, "/", "Range", "bytes=7-", "Cache-Control", "no-cache")
				r := w.wantGet("200 "+body+" | "+test.next, "/")
				check(w, "a field", r.Header.Get("X-Field"), test.field)
				check(w, "the length", r.resp.ContentLength, int64(len(body)))
			})
		})
	}
}
