//go:build unix

package redisstore_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store/redisstore"
)

// starved calls f while each goroutine of this program gets a turn about once a
// second only: busy goroutines take its only processor. They do so for a second
// of processor time, which a busy machine takes longer to give.
func starved(t *testing.T, f func()) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Error(err)
			return time.Hour
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var busy sync.WaitGroup
	defer busy.Wait()
	until := used() + time.Second
	for range 100 { // of which each runs for 10 ms at a time
		busy.Go(func() {
			for used() < until {
				for range 10_000 {
				}
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
		w.Header().Set("Cache-Control", "max-age=3600")
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
	// On a busy machine, the server may also wait for a processor, and then answers
	// too late. Time limits that count all time miss each time.
	eventually(t, "a client that is starved gets a hit", func() (hit bool) {
		starved(t, func() {
			body, resp, err := fetch(client, origin.URL)
			if err != nil || !bytes.Equal(body, large) {
				t.Fatalf("%d bytes of %d, %v", len(body), len(large), err)
			}
			hit = cachetrip.StatusOf(resp).Hit
		})
		return hit
	})
}
