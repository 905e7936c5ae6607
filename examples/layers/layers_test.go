package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-retryablehttp"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"golang.org/x/time/rate"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// site counts the requests that reach it.
type site struct {
	*httptest.Server
	asked  atomic.Int64
	failed atomic.Int64 // how many of the next requests get a 503
}

func newSite(t *testing.T) (*site, *cachetrip.Transport) {
	s := new(site)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if s.failed.Add(-1) >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		switch r.URL.Path {
		case "/moved":
			w.Header().Set("Cache-Control", "max-age=60")
			http.Redirect(w, r, "/a", http.StatusMovedPermanently)
		case "/stale":
			w.Header().Set("Cache-Control", "max-age=0")
			w.Header().Set("Etag", `"1"`)
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
			}
		default:
			w.Header().Set("Cache-Control", "max-age=60")
			fmt.Fprint(w, "hello")
		}
	}))
	cache := &cachetrip.Transport{Store: store.NewMemory(1 << 20)}
	t.Cleanup(func() {
		cache.Close()
		s.Close()
	})
	return s, cache
}

// get makes a request, and returns how it was answered in one line.
func get(ctx context.Context, cache *cachetrip.Transport, url string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	resp, err := cache.Client().Do(req)
	if err != nil {
		return "error"
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err.Error()
	}
	s := cachetrip.StatusOf(resp)
	return fmt.Sprintf("%d, hit %t, origin %d, %s", resp.StatusCode, s.Hit, s.FwdStatus, s.Detail)
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// A hit takes no token, and a request that cannot wait for one gets a stale
// response.
func TestLimit(t *testing.T) {
	s, cache := newSite(t)
	limit(cache, rate.NewLimiter(rate.Every(time.Hour), 2))
	cache.StaleIfError = time.Hour
	want(t, "the first", get(t.Context(), cache, s.URL+"/a"), "200, hit false, origin 200, ")
	for range 5 {
		want(t, "a hit", get(t.Context(), cache, s.URL+"/a"), "200, hit true, origin 0, ")
	}
	want(t, "a second token", get(t.Context(), cache, s.URL+"/stale"), "200, hit false, origin 200, ")
	soon, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // much earlier than the next token
	defer cancel()
	want(t, "no token, and a stale response", get(soon, cache, s.URL+"/stale"), "200, hit false, origin 0, stale-if-error")
	want(t, "no token, and nothing stored", get(soon, cache, s.URL+"/b"), "error")
	if soon.Err() != nil {
		t.Error("it waited for the deadline")
	}
	want(t, "requests at the origin", s.asked.Load(), int64(2))
}

// The limiter closes the content of a request that it does not send.
func TestLimitClosesContent(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	body := &closing{Reader: strings.NewReader("x")}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/", body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (limited{rate.NewLimiter(1, 1), nil}).RoundTrip(req); !errors.Is(err, context.Canceled) || !body.closed {
		t.Errorf("got %v, closed: %t", err, body.closed)
	}
}

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }

// The cache sees what came of all attempts, each redirect, and the last
// failure.
func TestRetry(t *testing.T) {
	s, cache := newSite(t)
	retry(cache)
	cache.Base.(*retryablehttp.RoundTripper).Client.RetryWaitMin = time.Millisecond // the default is a second
	cache.StaleIfError = time.Hour
	s.failed.Store(1)
	want(t, "the second attempt", get(t.Context(), cache, s.URL+"/a"), "200, hit false, origin 200, ")
	want(t, "requests at the origin", s.asked.Load(), int64(2))
	want(t, "a hit", get(t.Context(), cache, s.URL+"/a"), "200, hit true, origin 0, ")
	for range 2 {
		want(t, "a redirect to a hit", get(t.Context(), cache, s.URL+"/moved"), "200, hit true, origin 0, ")
	}
	want(t, "requests at the origin", s.asked.Load(), int64(3))
	want(t, "stored", get(t.Context(), cache, s.URL+"/stale"), "200, hit false, origin 200, ")
	s.failed.Store(4) // one attempt and three more
	want(t, "after all attempts", get(t.Context(), cache, s.URL+"/stale"), "200, hit false, origin 503, stale-if-error")
}

// There is one span for each request that reaches the origin.
func TestTrace(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	s, cache := newSite(t)
	trace(cache)
	for range 3 {
		get(t.Context(), cache, s.URL+"/a")
	}
	want(t, "spans", len(spans.Ended()), 1)
	want(t, "requests at the origin", s.asked.Load(), int64(1))
}

// All of them together, in the order of the page.
func TestTogether(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	s, cache := newSite(t)
	limit(cache, rate.NewLimiter(rate.Every(time.Millisecond), 1))
	trace(cache)
	retry(cache)
	cache.Base.(*retryablehttp.RoundTripper).Client.RetryWaitMin = time.Millisecond
	s.failed.Store(1)
	want(t, "the second attempt", get(t.Context(), cache, s.URL+"/a"), "200, hit false, origin 200, ")
	want(t, "a hit", get(t.Context(), cache, s.URL+"/a"), "200, hit true, origin 0, ")
	want(t, "spans", len(spans.Ended()), 2)
}

// The cache above asks the one below once its response is stale.
func TestChain(t *testing.T) {
	s, shared := newSite(t)
	above := front(shared, 1<<20)
	defer above.Close()
	statuses := func(path string) string {
		resp, err := above.Client().Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		var each []string
		for _, entry := range resp.Header["Cache-Status"] {
			entry, _, _ = strings.Cut(entry, "; ttl=") // which depends on the clock
			each = append(each, entry)
		}
		return strings.Join(each, " | ")
	}
	miss := "cachetrip; fwd=uri-miss; fwd-status=200; stored"
	want(t, "nothing stored", statuses("/a"), miss+" | "+miss)
	want(t, "a hit", statuses("/a"), miss+" | cachetrip; hit")
	other := front(shared, 1<<20) // another process
	defer other.Close()
	want(t, "a hit below", get(t.Context(), other, s.URL+"/a"), "200, hit false, origin 200, ")
	want(t, "requests at the origin", s.asked.Load(), int64(1))
	for _, cache := range []*cachetrip.Transport{shared, above} {
		if err := cache.Purge(t.Context(), s.URL+"/a"); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "purged", get(t.Context(), above, s.URL+"/a"), "200, hit false, origin 200, ")
	want(t, "requests at the origin", s.asked.Load(), int64(2))
	resp, err := above.Client().Post(s.URL+"/a", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	want(t, "after a POST", get(t.Context(), above, s.URL+"/a"), "200, hit false, origin 200, invalidated")
	want(t, "requests at the origin", s.asked.Load(), int64(4))
}

// Each size is made once, and never given for another one.
func TestThumbnails(t *testing.T) {
	s, originals := newSite(t)
	made := 0
	resize := func(image io.Reader, size string) ([]byte, error) {
		made++
		b, err := io.ReadAll(image)
		return fmt.Appendf(b, " in %s", size), err
	}
	sizes := images(originals.Store, resize)
	defer sizes.Close()
	for range 2 {
		for url, body := range map[string]string{"/a#200x": "hello in 200x", "/a#50x": "hello in 50x", "/a": "hello"} {
			resp, err := sizes.Client().Get(s.URL + url)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			want(t, url, string(b), body)
		}
	}
	want(t, "thumbnails made", made, 2)
	want(t, "requests at the origin", s.asked.Load(), int64(1))
}

// TestPage tests that the code in the documentation is that of this package.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/layers.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("layers.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(strings.ReplaceAll(string(page), "\r\n", "\n"), "```go\n")[1:]
	want(t, "number of blocks", len(blocks), 5)
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		if !strings.Contains(strings.ReplaceAll(string(source), "\r\n", "\n"), "\n"+block) {
			t.Errorf("not in layers.go:\n%s", block)
		}
	}
}
