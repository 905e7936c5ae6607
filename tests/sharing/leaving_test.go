package sharing_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// TestContextEndsAlone: the end of its context ends a caller's part in a
// download, even if the caller neither reads nor closes. After the last one,
// the request to the origin ends and files are closed.
func TestContextEndsAlone(t *testing.T) {
	for _, callers := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d callers", callers), func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					c.Head(200, harness.Fresh, "Content-Length: 10000000")
					c.Content(harness.Noise(100_000, 50))
					<-c.Gone
					c.HangUp()
				})
				defer origin.Close()
				var cancels []context.CancelFunc
				var responses []*http.Response
				for range callers {
					ctx, cancel := context.WithCancel(r.Context())
					defer cancel()
					resp := r.Send(ctx, origin.URL())
					if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
						r.Fatal(err)
					}
					cancels, responses = append(cancels, cancel), append(responses, resp)
				}
				gone := origin.Requests()[0].Gone
				for i, cancel := range cancels {
					select {
					case <-gone:
						r.Errorf("ended before the context of caller %d", i)
					case <-time.After(10 * time.Millisecond):
					}
					cancel()
				}
				harness.Within(r, "the request ends at the origin", gone)
				for _, resp := range responses {
					if n, err := resp.Body.Read(make([]byte, 10)); n != 0 || !errors.Is(err, context.Canceled) {
						r.Errorf("got %d, %v, want %v", n, err, context.Canceled)
					}
					resp.Body.Close()
				}
			})
		})
	}
}

// slowly brings a byte a second.
type slowly struct{ left int }

func (s *slowly) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(time.Second)
	s.left--
	p[0] = 'x'
	return 1, nil
}

// TestRefreshEndsAlone: the bound on a revalidation in the background is its
// own. A caller that has joined gets all of the rest. Without one, the download
// ends there.
func TestRefreshEndsAlone(t *testing.T) {
	for _, test := range []struct {
		name         string
		head, length int // how long they take, in seconds
		joins        bool
		whole        bool
	}{
		{name: "within the bound", length: 20, whole: true},
		{name: "beyond it, in the body", length: 100},
		{name: "beyond it, before the head", head: 100, length: 1},
		{name: "joined, in the body", length: 100, joins: true, whole: true},
		{name: "joined, before the head", head: 100, length: 1, joins: true, whole: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int32
				var ended atomic.Bool
				c := &cachetrip.Transport{Store: store.NewMemory(0), Base: harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
					if asked.Add(1) == 1 {
						return harness.Scripted(req, 200, strings.NewReader("old"), "Cache-Control: max-age=1, stale-while-revalidate=1000", "Content-Length: 3"), nil
					}
					context.AfterFunc(req.Context(), func() { ended.Store(true) })
					select {
					case <-time.After(time.Duration(test.head) * time.Second):
					case <-req.Context().Done():
						return nil, context.Cause(req.Context())
					}
					return harness.Scripted(req, 200, &slowly{test.length}, "Cache-Control: max-age=3600", "Content-Length: "+strconv.Itoa(test.length)), nil
				})}
				get := func(fields ...string) string {
					req, _ := http.NewRequest("GET", "http://origin.example/", nil)
					for i := 0; i < len(fields); i += 2 {
						req.Header.Set(fields[i], fields[i+1])
					}
					resp, err := c.RoundTrip(req)
					if err != nil {
						t.Error(err)
						return ""
					}
					defer resp.Body.Close()
					body, err := io.ReadAll(resp.Body)
					if err != nil {
						t.Errorf("after %d bytes: %v", len(body), err)
					}
					return string(body)
				}
				get()
				time.Sleep(10 * time.Second)
				if got := get(); got != "old" {
					t.Errorf("got %q", got)
				}
				synctest.Wait()
				want := strings.Repeat("x", test.length)
				if test.joins {
					if got := get("Cache-Control", "max-stale=0"); got != want {
						t.Errorf("who joined got %d bytes, want %d", len(got), len(want))
					}
				}
				start := time.Now()
				c.Close()
				if took := time.Since(start); took > 32*time.Second {
					t.Errorf("Close took %v", took)
				}
				synctest.Wait()
				requests := int32(2)
				if test.joins && test.head > 0 {
					requests++ // of the caller that has waited long enough for the header
				}
				if cut := ended.Load() && asked.Load() == requests; !cut {
					t.Errorf("the request to the origin has not ended; %d requests", asked.Load())
				}
				c = &cachetrip.Transport{Store: c.Store, Base: c.Base}
				before := asked.Load()
				if test.whole {
					if got := get(); got != want || asked.Load() != before {
						t.Errorf("got %q, %d requests", got, asked.Load()-before)
					}
				}
			})
		})
	}
}

// TestLaggard: once the store takes no more, a caller that has joined and does
// not read holds up the others for a moment only. It requests the rest itself.
// Without a validator it requests all, and skips the bytes that it has.
func TestLaggard(t *testing.T) {
	body := harness.Noise(4<<20, 51)
	const kept = 1 << 20
	for _, test := range []struct {
		name   string
		fields []string
		differ bool // each response has another body
		want   error
	}{
		{name: "continued", fields: []string{`ETag: "1"`, "Accept-Ranges: bytes"}},
		{name: "repeated"},
		{name: "repeated, with another body", differ: true, want: io.ErrUnexpectedEOF},
	} {
		for _, read := range []int{0, 10, 600_000, 1_100_000} {
			if test.differ && read == 0 {
				continue // the other body is as good
			}
			t.Run(fmt.Sprintf("%s, %d bytes", test.name, read), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					asked := 0
					c := &cachetrip.Transport{Store: harness.NewFullStore(store.NewMemory(0), kept), Base: harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
						asked++
						fields := append([]string{"Cache-Control: max-age=3600"}, test.fields...)
						var from int
						if _, err := fmt.Sscanf(req.Header.Get("Range"), "bytes=%d-", &from); err == nil {
							rest := len(body) - from
							return harness.Scripted(req, 206, bytes.NewReader(body[from:]), append(fields, "Content-Length: "+strconv.Itoa(rest),
								fmt.Sprintf("Content-Range: bytes %d-%d/%d", from, len(body)-1, len(body)))...), nil
						}
						content := body
						if test.differ && asked > 1 {
							content = harness.Noise(len(body), uint64(asked))
						}
						return harness.Scripted(req, 200, bytes.NewReader(content), append(fields, "Content-Length: "+strconv.Itoa(len(body)))...), nil
					})}
					send := func() *http.Response {
						req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://origin.example/", nil)
						resp, err := c.RoundTrip(req)
						if err != nil {
							t.Fatal(err)
						}
						return resp
					}
					leader, idle, other := send(), send(), send()
					beginning := make([]byte, read)
					if _, err := io.ReadFull(idle.Body, beginning); err != nil {
						t.Fatal(err)
					}
					start := time.Now()
					done := make(chan bool, 2)
					for _, resp := range []*http.Response{leader, other} {
						go func() {
							got, err := io.ReadAll(resp.Body)
							resp.Body.Close()
							if err != nil {
								t.Error(err)
							}
							harness.WantBody(t, got, body)
							done <- true
						}()
					}
					<-done
					<-done
					if took := time.Since(start); took > 10*time.Second {
						t.Errorf("the others took %v", took)
					}
					rest, err := io.ReadAll(idle.Body)
					if !errors.Is(err, test.want) {
						t.Errorf("got %v, want %v", err, test.want)
					}
					got := append(beginning, rest...)
					if test.want == nil {
						harness.WantBody(t, got, body)
					} else {
						harness.WantBody(t, got, body[:len(got)])
					}
					idle.Body.Close()
					if asked < 2 || asked > 3 {
						t.Errorf("got %d requests, want 2 or 3", asked)
					}
				})
			})
		}
	}
}

// bodyFunc is a body whose Read is a function.
type bodyFunc func([]byte) (int, error)

func (f bodyFunc) Read(p []byte) (int, error) { return f(p) }
func (f bodyFunc) Close() error               { return nil }

// TestBodyEndsItsGoroutine: a body of Base that ends the goroutine reading it
// only causes an error for its readers. If it is the store that does so, they
// are given all of it.
func TestBodyEndsItsGoroutine(t *testing.T) {
	ends := map[string]func(){
		"panics": func() { panic("oh") },
		"exits":  runtime.Goexit,
	}
	for how, end := range ends {
		for _, where := range []string{"body", "continuation", "store"} {
			t.Run(how+" in the "+where, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					asked := 0
					kept := store.NewMemory(0)
					c := &cachetrip.Transport{Store: kept}
					c.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
						asked++
						switch {
						case asked > 2:
							return harness.Scripted(req, 200, strings.NewReader("hello"), harness.Fresh, "Content-Length: 5"), nil
						case asked == 2:
							end()
						}
						resp := harness.Scripted(req, 200, nil, harness.Fresh, "Content-Length: 100", "Accept-Ranges: bytes", `ETag: "1"`)
						reads := 0
						resp.Body = bodyFunc(func(p []byte) (int, error) {
							switch reads++; {
							case reads == 1:
								return copy(p, "beginning"), nil
							case where == "body":
								asked++
								end()
							case where == "continuation":
								return 0, io.ErrUnexpectedEOF
							}
							asked++
							return copy(p, "beginning"), nil
						})
						return resp, nil
					})
					if where == "store" {
						faulty := storefault.Wrap(kept)
						faulty.Inject(func(storefault.Call) error { end(); return nil }, storefault.Write)
						c.Store = faulty
					}
					var responses []*http.Response
					readers := 3
					if where == "store" {
						readers, asked = 1, 2
					}
					for range readers {
						req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://origin.example/", nil)
						resp, err := c.RoundTrip(req)
						if err != nil {
							t.Fatal(err)
						}
						responses = append(responses, resp)
					}
					for _, resp := range responses {
						got, err := io.ReadAll(resp.Body)
						if where == "store" {
							if string(got) != "hello" || err != nil {
								t.Errorf("got %q, %v", got, err)
							}
						} else if err == nil || string(got) != "beginning" {
							t.Errorf("got %q, %v", got, err)
						}
						resp.Body.Close()
					}
					c.Store = kept
					req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://origin.example/", nil)
					resp, err := c.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					defer resp.Body.Close()
					if got, err := io.ReadAll(resp.Body); string(got) != "hello" || err != nil {
						t.Errorf("got %q, %v", got, err)
					}
				})
			})
		}
	}
}

// deaf is a body that ignores its context. A read lasts until it is closed. If
// closing waits for the reader, it lasts until the test ends it.
type deaf struct {
	closed, free chan struct{}
	waits        bool
}

func (d *deaf) Read([]byte) (int, error) {
	if d.waits {
		<-d.free
	} else {
		<-d.closed
	}
	return 0, io.ErrClosedPipe
}

func (d *deaf) Close() error {
	close(d.closed) // which must not happen twice
	if d.waits {
		<-d.free
	}
	return nil
}

// TestDeafBody: a body that does not end with its request is closed all the
// same, and nobody waits for it.
func TestDeafBody(t *testing.T) {
	for _, waits := range []bool{false, true} {
		for _, how := range []string{"cancel", "close"} {
			for _, method := range []string{"GET", "POST"} {
				t.Run(fmt.Sprintf("%s, waits %t, %s", method, waits, how), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						body := &deaf{closed: make(chan struct{}), free: make(chan struct{}), waits: waits}
						c := &cachetrip.Transport{Store: store.NewMemory(0), Base: harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
							resp := harness.Scripted(req, 200, nil, harness.Fresh, "Content-Length: 100", "Content-Location: /")
							resp.Body = body
							return resp, nil
						})}
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						req, _ := http.NewRequestWithContext(ctx, method, "http://origin.example/", nil)
						resp, err := c.RoundTrip(req)
						if err != nil {
							t.Fatal(err)
						}
						go resp.Body.Read(make([]byte, 10))
						synctest.Wait()
						if how == "cancel" {
							cancel()
						}
						resp.Body.Close()
						synctest.Wait()
						select {
						case <-body.closed:
						default:
							t.Error("not closed")
						}
						close(body.free)
					})
				})
			}
		}
	}
}

// TestLastCloseAtOnce: the last readers close at once, a little before the end.
// The remaining bytes are read as after a single reader.
func TestLastCloseAtOnce(t *testing.T) {
	for round := range 300 {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			c := &cachetrip.Transport{Store: store.NewMemory(0), Base: harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
				asked++
				return harness.Scripted(req, 200, io.MultiReader(strings.NewReader("most"), strings.NewReader(" and the rest")), harness.Fresh, "Content-Length: 17"), nil
			})}
			const callers = 64
			begin := make(chan struct{})
			var wg sync.WaitGroup
			for range callers {
				req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://origin.example/", nil)
				resp, err := c.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(resp.Body, make([]byte, 4)); err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					<-begin
					resp.Body.Close()
				})
			}
			close(begin)
			wg.Wait()
			req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://origin.example/", nil)
			resp, err := c.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if asked != 1 || string(got) != "most and the rest" || err != nil {
				t.Fatalf("round %d: got %q, %v, after %d requests, want 1", round, got, err, asked)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// TestCloseOfAStream: Close does not wait for more where the end is not near.
func TestCloseOfAStream(t *testing.T) {
	for _, test := range []struct {
		name   string
		fields []string
		pause  time.Duration // between the bytes that are left
		bytes  int           // are left, without an end if negative
		want   time.Duration // that Close takes
		hit    bool
	}{
		{name: "events", fields: []string{"Content-Type: Text/Event-Stream; charset=utf-8"}, pause: time.Millisecond, bytes: -1},
		{name: "of unknown length, idle", pause: time.Hour, bytes: -1, want: 25 * time.Millisecond},
		{name: "of unknown length, busy", pause: 20 * time.Millisecond, bytes: -1, want: 100 * time.Millisecond},
		{name: "of unknown length, ending", pause: 20 * time.Millisecond, bytes: 3, want: 80 * time.Millisecond, hit: true},
		{name: "of known length", fields: []string{"Content-Length: 12"}, pause: 60 * time.Millisecond, bytes: 2, want: 100 * time.Millisecond},
		{name: "of known length, ending", fields: []string{"Content-Length: 10"}, pause: 60 * time.Millisecond, bytes: 1, want: 60 * time.Millisecond, hit: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &cachetrip.Transport{Store: store.NewMemory(0)}
				asked := 0
				c.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
					asked++
					resp := harness.Scripted(req, 200, nil, append(test.fields, harness.Fresh)...)
					first, left, sent := true, test.bytes, int64(0)
					resp.Body = bodyFunc(func(p []byte) (int, error) {
						if first {
							first = false
							sent += 9
							return copy(p, "beginning"), nil
						}
						select {
						case <-time.After(test.pause):
						case <-req.Context().Done():
							return 0, context.Cause(req.Context())
						}
						if left == 0 || sent == resp.ContentLength {
							return 0, io.EOF
						}
						left--
						sent++
						p[0] = 'x'
						if sent == resp.ContentLength {
							return 1, io.EOF
						}
						return 1, nil
					})
					return resp, nil
				})
				send := func() *http.Response {
					req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://origin.example/", nil)
					resp, err := c.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					return resp
				}
				resp := send()
				if _, err := io.ReadFull(resp.Body, make([]byte, 9)); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				resp.Body.Close()
				if took := time.Since(start); took != test.want {
					t.Errorf("Close took %v, want %v", took, test.want)
				}
				resp = send()
				if hit := cachetrip.StatusOf(resp).Hit; hit != test.hit {
					t.Errorf("got a hit: %t, want %t", hit, test.hit)
				}
				resp.Body.Close()
			})
		})
	}
}

// TestLeaderGoneAndStoreFull: the caller that led leaves before the header is
// there, and the store takes no more of the body than a part. The caller that
// remains gets all of it, and nothing waits for the one that has gone.
func TestLeaderGoneAndStoreFull(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		body := harness.Noise(4<<20, 20)
		kept := r.Store
		defer func() { r.Store = kept }()
		r.Store = harness.NewFullStore(kept, 1<<20)
		asked, head := make(chan struct{}), make(chan struct{})
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			if c.N == 0 {
				close(asked)
				<-head
			}
			c.Head(200, harness.Fresh, "Connection: close")
			c.Content(body)
			c.HangUp()
		})
		defer origin.Close()
		ctx, cancel := context.WithCancel(r.Context())
		gone, done := make(chan struct{}), make(chan struct{})
		go func() { defer close(gone); r.RoundTrip(r.Request(ctx, origin.URL())) }()
		<-asked
		go func() {
			defer close(done)
			_, got := r.Get(origin.URL())
			harness.WantBody(r, got, body)
		}()
		harness.Soon(r, "the second waits", func() bool { return harness.Followers(r) == 1 })
		cancel()
		<-gone
		close(head)
		<-done
		if n := len(origin.Requests()); n != 1 {
			r.Errorf("got %d requests, want 1", n)
		}
	})
}
