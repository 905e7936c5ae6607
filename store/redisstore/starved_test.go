package redisstore_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store/redisstore"
)

// starved calls f while no goroutine of this program gets a turn for about a
// second: so long, busy goroutines take its only processor.
func starved(f func()) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var busy sync.WaitGroup
	defer busy.Wait()
	until := time.Now().Add(time.Second)
	for range 100 { // of which each runs for 10 ms at a time
		busy.Go(func() {
			for time.Now().Before(until) {
			}
		})
	}
	f()
}

// TestStarvedClient: a client that waits for a processor gets its hits. The
// server answers in time, and time limits do not count the rest. The test is
// not parallel, because it starves all goroutines.
func TestStarvedClient(t *testing.T) {
	server := sharedServer(t)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Write(large)
	}))
	defer origin.Close()
	opts := patient(redisstore.Options{MemoryBytes: -1}) // each lookup asks the server
	if _, _, err := fetch(replicas(t, 1, server.url(), opts)[0], origin.URL); err != nil {
		t.Fatal(err)
	}
	opts.LookupTimeout, opts.WriteTimeout = 0, 0
	client := replicas(t, 1, server.url(), opts)[0]
	eventually(t, "a client that is not starved gets a hit", func() bool {
		_, resp, err := fetch(client, origin.URL)
		return err == nil && cachetrip.StatusOf(resp).Hit
	})
	for i := range 3 {
		starved(func() {
			body, resp, err := fetch(client, origin.URL)
			if err != nil {
				t.Fatal(err)
			}
			if status := cachetrip.StatusOf(resp); !status.Hit || !bytes.Equal(body, large) {
				t.Errorf("request %d: %d bytes of %d, %v; want a hit", i, len(body), len(large), status)
			}
		})
	}
}
