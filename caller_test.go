package cachetrip

import (
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// TestTimeoutIsNotWatched: http.Client closes Request.Cancel for its Timeout. A
// response whose body is stored needs no goroutine for that.
func TestTimeoutIsNotWatched(t *testing.T) {
	origin, asked := &benchOrigin{body: benchBody(1 << 10), cacheControl: "no-cache"}, 0
	cache := &Transport{Store: store.NewMemory(0), Base: roundTripperFunc(func(req *http.Request) (*http.Response, error) {
		if req.Header.Get("If-None-Match") != "" {
			asked++
			all := make([]byte, 1<<20)
			if stacks := string(all[:runtime.Stack(all, true)]); strings.Contains(stacks, "callerContext") {
				t.Errorf("a goroutine watches a request that is revalidated:\n%s", stacks)
			}
		}
		return origin.RoundTrip(req)
	})}
	defer cache.Close()
	for _, timeout := range []time.Duration{0, time.Minute} {
		client := &http.Client{Transport: cache, Timeout: timeout}
		resp, err := client.Get("http://example.com/")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); n != 1<<10 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		resp.Body.Close()
	}
	if asked != 1 {
		t.Errorf("%d revalidations", asked)
	}
}
