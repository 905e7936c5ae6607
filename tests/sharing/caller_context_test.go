package sharing_test

import (
	"context"
	"io"
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
	"github.com/cachetrip/cachetrip/store"
)

// withCancel returns a request that ends when cancel is called, in the way from
// before there were contexts.
func withCancel(r *harness.Cache, url string) (req *http.Request, cancel func()) {
	req = r.Request(context.Background(), url)
	canceled := make(chan struct{})
	//lint:ignore SA1019 this test is about it
	req.Cancel = canceled
	return req, sync.OnceFunc(func() { close(canceled) })
}

// TestHerdWithTimeout: http.Client sets Request.Cancel for its Timeout. Such
// requests share a response of any lifetime, like others.
func TestHerdWithTimeout(t *testing.T) {
	for _, test := range []struct {
		directives string
		first      int // requests of a herd on nothing
		second     int // of one on what is stale then
	}{
		{"max-age=60", 1, 0},
		{"max-age=0", 1, 1},
		{"max-age=0, must-revalidate", 30, 30}, // each validates for itself
	} {
		for _, timeout := range []time.Duration{0, time.Minute} {
			t.Run(test.directives+", "+timeout.String(), func(t *testing.T) {
				harness.EachCache(t, func(r *harness.Cache) {
					const callers = 30
					var alone atomic.Bool // it is known that nobody can share
					origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
						if !alone.Load() {
							harness.Soon(r, "all others wait", func() bool { return harness.Followers(r) == callers-1 })
							alone.Store(test.first == callers)
						}
						if c.Header.Get("If-None-Match") != "" {
							c.Head(304, "Cache-Control: "+test.directives, harness.Tag)
							return
						}
						c.Whole([]byte("x"), "Cache-Control: "+test.directives, harness.Tag)
					})
					defer origin.Close()
					client := &http.Client{Transport: r.Transport, Timeout: timeout}
					for i, want := range []int{test.first, test.first + test.second} {
						var wg sync.WaitGroup
						for range callers {
							wg.Go(func() {
								resp, err := client.Get(origin.URL())
								if err != nil {
									r.Error(err)
									return
								}
								defer resp.Body.Close()
								if got, err := io.ReadAll(resp.Body); string(got) != "x" || err != nil {
									r.Errorf("got %q, %v", got, err)
								}
							})
						}
						wg.Wait()
						if n := len(origin.Requests()); n != want {
							r.Errorf("herd %d: got %d requests altogether, want %d", i, n, want)
						}
					}
				})
			})
		}
	}
}

// TestCancelIsNoFailure: a caller that cancels by the request's channel gets an
// error at once, and no stale response.
func TestCancelIsNoFailure(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		asked := make(chan bool, 1)
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			if c.N == 0 {
				c.Whole([]byte("old"), "Cache-Control: max-age=0, stale-if-error=600", harness.Tag)
				return
			}
			asked <- true
			<-c.Gone
			c.HangUp()
		})
		defer origin.Close()
		r.Get(origin.URL())
		req, cancel := withCancel(r, origin.URL())
		go func() {
			<-asked
			cancel()
		}()
		if resp, err := r.RoundTrip(req); err == nil {
			resp.Body.Close()
			r.Errorf("got %s, want an error", resp.Header.Get("Cache-Status"))
		}
	})
}

// TestCancelInBody: the channel ends the reading of its caller, and nobody
// else's.
func TestCancelInBody(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		body := harness.Noise(400_000, 3)
		rest := make(chan bool)
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			c.Head(200, harness.Fresh, harness.Tag, "Accept-Ranges: bytes", "Content-Length: "+strconv.Itoa(len(body)))
			c.Content(body[:200_000])
			<-rest
			c.Content(body[200_000:])
		})
		defer origin.Close()
		req, cancel := withCancel(r, origin.URL())
		first, err := r.RoundTrip(req)
		if err != nil {
			r.Fatal(err)
		}
		defer first.Body.Close()
		second := r.Send(r.Context(), origin.URL())
		io.ReadFull(first.Body, make([]byte, 200_000))
		cancel()
		if n, err := first.Body.Read(make([]byte, 1)); n > 0 || err == nil || err == io.EOF {
			r.Errorf("got %d bytes, %v after the cancellation", n, err)
		}
		close(rest)
		got, err := io.ReadAll(second.Body)
		if err != nil {
			r.Error(err)
		}
		harness.WantBody(r, got, body)
		second.Body.Close()
	})
}

// TestRefreshOutlivesTimeout: a revalidation behind a stale response has a life
// of its own, and so has what others take from it.
func TestRefreshOutlivesTimeout(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		fresher := harness.Noise(300_000, 4)
		begun, rest := make(chan bool, 1), make(chan bool)
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			if c.N == 0 {
				c.Whole([]byte("old"), "Cache-Control: max-age=0, stale-while-revalidate=60", harness.Tag)
				return
			}
			c.Head(200, harness.Fresh, `ETag: "2"`, "Content-Length: "+strconv.Itoa(len(fresher)))
			c.Content(fresher[:100_000])
			begun <- true
			<-rest
			c.Content(fresher[100_000:])
		})
		defer origin.Close()
		r.Get(origin.URL())
		req, cancel := withCancel(r, origin.URL())
		resp, err := r.RoundTrip(req)
		if err != nil {
			r.Fatal(err)
		}
		<-begun
		other := r.Send(r.Context(), origin.URL(), "Cache-Control", "min-fresh=1")
		cancel()
		resp.Body.Close()
		time.Sleep(20 * time.Millisecond) // for the harm to be done
		close(rest)
		got, err := io.ReadAll(other.Body)
		if err != nil {
			r.Error(err)
		}
		harness.WantBody(r, got, fresher)
		other.Body.Close()
		_, got = r.Get(origin.URL())
		harness.WantBody(r, got, fresher)
		if n := len(origin.Requests()); n != 2 {
			r.Errorf("got %d requests, want 2", n)
		}
	})
}

// TestDefaultTransport: a program may put the cache in the place of
// http.DefaultTransport, for libraries that take no client.
func TestDefaultTransport(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, req.Method)
	}))
	defer origin.Close()
	before := http.DefaultTransport
	defer func() { http.DefaultTransport = before }()
	cache := &cachetrip.Transport{Store: store.NewMemory(1 << 20)}
	http.DefaultTransport = cache
	defer cache.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, method := range []string{"GET", "GET", "POST"} {
		req, err := http.NewRequestWithContext(ctx, method, origin.URL, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(method, err)
		}
		if got, err := io.ReadAll(resp.Body); string(got) != method || err != nil {
			t.Errorf("%s: got %q, %v", method, got, err)
		}
		resp.Body.Close()
	}
	if s := cache.Stats(); s.Hits != 1 || s.Misses != 2 {
		t.Errorf("got %+v", s)
	}
}

// TestWrappedRoundTripper finds the transport below the cache by the interface
// that Kubernetes' clients use.
func TestWrappedRoundTripper(t *testing.T) {
	type wrapper interface{ WrappedRoundTripper() http.RoundTripper } // k8s.io/apimachinery/pkg/util/net.RoundTripperWrapper
	base := &http.Transport{}
	before := http.DefaultTransport
	defer func() { http.DefaultTransport = before }()
	itself := &cachetrip.Transport{}
	for _, test := range []struct {
		name           string
		cache          *cachetrip.Transport
		standard, want http.RoundTripper
	}{
		{"Base", &cachetrip.Transport{Base: base}, before, base},
		{"no Base", &cachetrip.Transport{}, before, before},
		{"no Base, with another default", &cachetrip.Transport{}, base, base},
		{"the default itself", itself, itself, before},
	} {
		http.DefaultTransport = test.standard
		if got := wrapper(test.cache).WrappedRoundTripper(); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

// TestCloseIdleConnections: http.Client passes the wish on, and so does the
// cache.
func TestCloseIdleConnections(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) { c.Whole([]byte("x"), harness.Fresh) })
		defer origin.Close()
		r.Get(origin.URL())
		if n := origin.Connections(); n != 1 {
			r.Fatalf("got %d connections, want one to be kept", n)
		}
		r.Client().CloseIdleConnections()
		harness.Soon(r, "the connection is closed", func() bool { return origin.Connections() == 0 })
	})
}
