package bodies_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// lastHeaders are headers of a response that completes another one with
// max-age=5000, and the outcome of the next GET.
var lastHeaders = []struct {
	name   string
	header []string
	want   string // in Cache-Status of the next GET
	kept   bool   // whether the rest may be stored
}{
	{"the same", []string{harness.Fresh}, "hit", true},
	{"no-store", []string{"Cache-Control: no-store"}, "fwd-status=200", false},
	{"no-cache", []string{"Cache-Control: no-cache"}, "fwd=stale", true},
	{"max-age=0", []string{"Cache-Control: max-age=0"}, "fwd=stale", true},
	{"nothing about it", nil, "hit", true},
	{"a longer lifetime", []string{"Cache-Control: max-age=900000"}, "hit", true},
}

// checkJoined checks what a body that came in two parts is to the next GET.
func checkJoined(r *harness.Cache, url string, body []byte, want string, asked func() int) {
	r.Helper()
	before := asked()
	resp, got := r.Get(url)
	harness.WantBody(r, got, body)
	harness.WantStatus(r, resp, want)
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

// TestHeaderOfTheRest: the response that brings the rest of a body, after it
// broke off or when it is resumed, updates the header of the whole: RFC 9111,
// section 3.4. So it decides about storing and reusing.
func TestHeaderOfTheRest(t *testing.T) {
	harness.LeavesNothing(t)
	body := harness.Noise(300_000, 60)
	const first = 100_000
	for _, how := range []string{"resumed", "continued", "continued, of unknown length"} {
		for _, test := range lastHeaders {
			t.Run(how+"/"+test.name, func(t *testing.T) {
				harness.EachCacheInParallel(t, func(r *harness.Cache) {
					origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
						lines := []string{harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "X-Part: first", "X-First: yes"}
						switch {
						case c.Header.Get("Range") != "":
							c.Rest(body, append(test.header, harness.Tag, "X-Part: last", "X-Last: yes")...)
						case c.N > 0 && c.Header.Get("If-None-Match") != "":
							c.Head(304, harness.Fresh, harness.Tag)
						case c.N > 0:
							c.Whole(body, "Cache-Control: no-store", harness.Tag)
						case how == "continued, of unknown length":
							c.Head(200, append(lines, "Transfer-Encoding: chunked")...)
							c.Write(fmt.Sprintf("%x\r\n", len(body)))
							c.Content(body[:first])
							c.HangUp()
						default:
							c.Head(200, append(lines, "Content-Length: "+strconv.Itoa(len(body)))...)
							c.Content(body[:first])
							if how == "resumed" {
								<-c.Gone
							}
							c.HangUp()
						}
					})
					defer origin.Close()
					asked := func() int { return len(origin.Requests()) }
					if how == "resumed" {
						resp := r.Send(r.Context(), origin.URL())
						io.ReadFull(resp.Body, make([]byte, first))
						resp.Body.Close()
					}
					_, got := r.Get(origin.URL())
					harness.WantBody(r, got, body)
					if r.Dir != "" && !test.kept {
						r.Restart()
						if size := harness.SizeOf(r.TB.(*testing.T), r.Dir); size >= first {
							r.Errorf("%d bytes are on disk", size)
						}
					}
					checkJoined(r, origin.URL(), body, test.want, asked)
				})
			})
		}
	}
}

// TestNoJoinAfterTheRest: requests that come while the rest of a body arrives
// do not share a response that the origin has taken back meanwhile.
func TestNoJoinAfterTheRest(t *testing.T) {
	body := harness.Noise(300_000, 61)
	const first = 100_000
	harness.EachCache(t, func(r *harness.Cache) {
		continued, finish := make(chan bool), make(chan bool)
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			switch {
			case c.N == 0:
				c.Head(200, harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "Content-Length: "+strconv.Itoa(len(body)))
				c.Content(body[:first])
				c.HangUp()
			case c.Header.Get("Range") != "":
				c.Head(206, "Cache-Control: no-cache", harness.Tag, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, len(body)-1, len(body)), fmt.Sprintf("Content-Length: %d", len(body)-first))
				c.Content(body[first : first+1000])
				close(continued)
				<-finish
				c.Content(body[first+1000:])
			default:
				c.Whole([]byte("new"), "Cache-Control: no-store")
			}
		})
		defer origin.Close()
		resp := r.Send(r.Context(), origin.URL())
		got := make([]byte, first+1)
		if _, err := io.ReadFull(resp.Body, got); err != nil {
			r.Fatal(err)
		}
		<-continued
		if other, got := r.Get(origin.URL()); string(got) != "new" {
			r.Errorf("got %s of %d bytes", other.Header.Get("Cache-Status"), len(got))
		}
		close(finish)
		rest, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			r.Fatal(err)
		}
		harness.WantBody(r, append(got, rest...), body)
	})
}

// TestRangesJoinedHaveALength: a 200 that is joined from requested ranges has a
// Content-Length.
func TestRangesJoinedHaveALength(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, "hello, world", "Cache-Control", "max-age=60", "Vary", "X-Kind", "Accept-Ranges", "bytes"))
		w.Get("/", "Range", "bytes=0-4")
		w.Get("/", "Range", "bytes=5-8")
		w.Get("/", "Range", "bytes=9-")
		r := w.WantGet("200 hello, world | hit", "/")
		harness.Check(t, "length", []string{r.Header.Get("Content-Length"), strconv.FormatInt(r.Response.ContentLength, 10)}, []string{"12", "12"})
		r = w.Do(w.Request("HEAD", "/"))
		harness.Check(t, "length of a HEAD", []string{r.Status.Fwd, r.Header.Get("Content-Length")}, []string{"", "12"})
	})
}

// TestRestWithoutVary: a 206 need not repeat what selects the response. RFC
// 9110, section 15.3.7.
func TestRestWithoutVary(t *testing.T) {
	body := harness.Noise(300_000, 62)
	const first = 100_000
	harness.EachCache(t, func(r *harness.Cache) {
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			if c.N == 0 {
				c.Head(200, harness.Fresh, "Accept-Ranges: bytes", harness.Tag, "Vary: X-Kind", "Content-Length: "+strconv.Itoa(len(body)))
				c.Content(body[:first])
				<-c.Gone
				c.HangUp()
				return
			}
			c.Rest(body, harness.Fresh, harness.Tag)
		})
		defer origin.Close()
		resp := r.Send(r.Context(), origin.URL(), "X-Kind", "a")
		io.ReadFull(resp.Body, make([]byte, first))
		resp.Body.Close()
		for _, want := range []string{"fwd-status=206", "hit"} {
			resp, got := r.Get(origin.URL(), "X-Kind", "a")
			harness.WantStatus(r, resp, want)
			harness.WantBody(r, got, body)
		}
	})
}

// limited is a body that a transport below limits to n bytes.
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

// TestErrorsOnPurpose: an error that a transport below makes of a body is the
// caller's, at the first request and at each later one. The transfer does not
// continue, and the bytes before the error are not kept.
func TestErrorsOnPurpose(t *testing.T) {
	body := harness.Noise(200_000, 63)
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
			harness.EachCache(t, func(r *harness.Cache) {
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					if c.Header.Get("Range") != "" {
						r.Errorf("request %d: got %v", c.N, c.Header)
					}
					c.Whole(body, harness.Fresh, harness.Tag, "Accept-Ranges: bytes")
				})
				defer origin.Close()
				base := r.Base
				r.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
					resp, err := base.RoundTrip(req)
					if err == nil {
						resp.Body = test.limit(resp.Body)
					}
					return resp, err
				})
				for i := range 3 {
					resp := r.Send(r.Context(), origin.URL())
					got, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err == nil || err.Error() != test.want.Error() {
						r.Errorf("got %v, want %v", err, test.want)
					}
					if !bytes.HasPrefix(body, got) || test.name != "a checksum" && len(got) != 50_000 {
						r.Errorf("got %d bytes", len(got))
					}
					if n := len(origin.Requests()); n != i+1 {
						r.Fatalf("got %d requests for %d", n, i+1)
					}
				}
			})
		})
	}
}

// TestBrokenStream: a stream of HTTP/2 that the origin resets is continued, as
// a connection of HTTP/1.1 is.
func TestBrokenStream(t *testing.T) {
	harness.EachProtocol(t, func(w *harness.World) {
		body := harness.Noise(300_000, 64)
		n := 0
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
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
		harness.Check(t, "the whole", w.Get("/").Body == string(body), true)
		harness.Check(t, "from the store", w.Get("/").Status.Hit, true)
		harness.Check(t, "number of requests", len(w.Asked()), 2)
	})
}

// TestRestOfDamagedContentWithoutRanges: the store fails in the middle of a
// body, and the origin takes no ranges. Without a cache the caller would have
// had the whole.
func TestRestOfDamagedContentWithoutRanges(t *testing.T) {
	body := harness.Noise(2<<20, 65)
	for _, refusal := range []int{200, 400, 403, 304, 501} {
		t.Run(strconv.Itoa(refusal), func(t *testing.T) {
			w := harness.NewWorld(t, harness.OnDisk, harness.ServeLoopback)
			whole := func(rw http.ResponseWriter) {
				harness.Answer(rw, 200, string(body), "ETag", `"1"`, "Cache-Control", "max-age=60", "Content-Length", strconv.Itoa(len(body)))
			}
			w.Handle(func(rw http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "" && refusal != 200 {
					rw.WriteHeader(refusal)
					return
				}
				whole(rw)
			})
			w.Get("/")
			faulty := storefault.Wrap(w.Store)
			faulty.Inject(storefault.Beyond(1<<20, syscall.EIO))
			breaking := &cachetrip.Transport{Store: faulty, Base: w.Transport.Base}
			defer breaking.Close()
			req := w.Request("GET", "/").WithContext(context.Background())
			resp, err := breaking.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if !cachetrip.StatusOf(resp).Hit {
				t.Errorf("got %v", resp.Header)
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			harness.WantBody(t, got, body)
		})
	}
}

// TestStoredBodyThatFailsWithoutValidator: the store loses a stored body that
// has no validator. The origin supplies the rest, if it still has the same
// content. If it has another body, the caller is not given a mixture.
func TestStoredBodyThatFailsWithoutValidator(t *testing.T) {
	body, other := harness.Noise(500_000, 67), harness.Noise(500_000, 68)
	for _, test := range []struct {
		name   string
		second []byte
		fails  bool
	}{{"the same", body, false}, {"another body", other, true}} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					if c.N == 0 {
						c.Whole(body, harness.Fresh)
						return
					}
					c.Whole(test.second, harness.Fresh)
				})
				defer origin.Close()
				r.Get(origin.URL())
				kept := r.Store
				defer func() { r.Store = kept }()
				faulty := storefault.Wrap(kept)
				faulty.Inject(storefault.Beyond(200_000, syscall.EIO))
				r.Store = faulty
				resp := r.Send(r.Context(), origin.URL())
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if (err != nil) != test.fails || !bytes.Equal(got, body[:len(got)]) || err == nil && len(got) != len(body) {
					r.Errorf("got %d bytes, %v", len(got), err)
				}
			})
		})
	}
}

// TestRestEndsWithItsCaller: the store loses a stored body in the middle, and
// the origin, which is asked for the rest, hangs. When the caller leaves, its
// Read ends, and so does that request.
func TestRestEndsWithItsCaller(t *testing.T) {
	body := harness.Noise(500_000, 69)
	type caller struct {
		resp   *http.Response
		cancel func()        // of its context
		gone   chan struct{} // Request.Cancel
	}
	for how, leave := range map[string]func(caller){
		"Close":   func(c caller) { c.resp.Body.Close() },
		"context": func(c caller) { c.cancel() },
		"Cancel":  func(c caller) { close(c.gone) },
	} {
		for _, tag := range []string{"", `"1"`} {
			for _, sends := range []int{-1, 50_000} { // -1: not even a header
				t.Run(fmt.Sprintf("%s, ETag %q, %d bytes", how, tag, sends), func(t *testing.T) {
					w := harness.NewWorld(t, harness.OnDisk, harness.ServeLoopback)
					hangs, ended := make(chan struct{}), make(chan struct{})
					w.Handle(func(rw http.ResponseWriter, r *http.Request) {
						fields := []string{"Cache-Control", "max-age=60", "Content-Length", strconv.Itoa(len(body))}
						if tag != "" {
							fields = append(fields, "ETag", tag)
						}
						if w.Count() == 1 {
							harness.Answer(rw, 200, string(body), fields...)
							return
						}
						var from int
						if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
							fields[3] = strconv.Itoa(len(body) - from)
							fields = append(fields, "Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
						}
						switch {
						case sends < 0:
						case from > 0:
							harness.Answer(rw, 206, string(body[from:from+sends]), fields...)
						default:
							harness.Answer(rw, 200, string(body[:200_000+sends]), fields...)
						}
						if sends >= 0 {
							http.NewResponseController(rw).Flush()
						}
						close(hangs)
						<-r.Context().Done()
						close(ended)
					})
					w.Get("/")
					faulty := storefault.Wrap(w.Store)
					faulty.Inject(storefault.Beyond(200_000, syscall.EIO))
					breaking := &cachetrip.Transport{Store: faulty, Base: w.Transport.Base}
					defer breaking.Close()
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					c := caller{cancel: cancel, gone: make(chan struct{})}
					req := w.Request("GET", "/").WithContext(ctx)
					req.Cancel = c.gone //lint:ignore SA1019 this test is about it
					var err error
					if c.resp, err = breaking.RoundTrip(req); err != nil {
						t.Fatal(err)
					}
					defer c.resp.Body.Close()
					over := make(chan struct{})
					go func() {
						defer close(over)
						if n, err := io.Copy(io.Discard, c.resp.Body); err == nil || n < 200_000 {
							t.Errorf("read %d bytes, %v", n, err)
						}
					}()
					<-hangs
					leave(c)
					harness.Within(t, "Read returns", over)
					harness.Within(t, "the request ends", ended)
				})
			}
		}
	}
}

// TestErrorsOnPurposeForAll: a limit below applies to all readers of a shared
// body, although each asks for the rest itself when a transfer breaks.
func TestErrorsOnPurposeForAll(t *testing.T) {
	body := harness.Noise(500_000, 66)
	harness.EachCache(t, func(r *harness.Cache) {
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			if c.Header.Get("Range") != "" {
				r.Errorf("request %d: got %v", c.N, c.Header)
			}
			c.Whole(body, harness.Fresh, harness.Tag, "Accept-Ranges: bytes")
		})
		defer origin.Close()
		base := r.Base
		r.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			resp, err := base.RoundTrip(req)
			if err == nil {
				resp.Body = http.MaxBytesReader(nil, resp.Body, 300_000)
			}
			return resp, err
		})
		first := r.Send(r.Context(), origin.URL())
		io.ReadFull(first.Body, make([]byte, 10))
		second := r.Send(r.Context(), origin.URL())
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

// TestPartUpdatesTheWhole: an origin answers every request with a range by a
// 206. The header of this part updates the stored whole. A part that may be of
// something else is not said to be stored.
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
			harness.EachWorld(t, func(w *harness.World) {
				w.Handle(harness.Tagged(`"1"`, body, "Cache-Control", "max-age=60", "Accept-Ranges", "bytes", "X-Field", "old"))
				w.Get("/")
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Range") != "" {
						delete(r.Header, "If-None-Match")
					}
					harness.Tagged(test.tag, body, "Cache-Control", test.directives, "Accept-Ranges", "bytes", "X-Field", "new")(rw, r)
				})
				w.WantGet("206 world | "+test.status, "/", "Range", "bytes=7-", "Cache-Control", "no-cache")
				r := w.WantGet("200 "+body+" | "+test.next, "/")
				harness.Check(w, "a field", r.Header.Get("X-Field"), test.field)
				harness.Check(w, "the length", r.Response.ContentLength, int64(len(body)))
			})
		})
	}
}
