package redisstore_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store/redisstore"
	"github.com/cachetrip/cachetrip/store/storetest"
)

// fetch returns the body of a response.
func fetch(c *http.Client, url string) ([]byte, *http.Response, error) {
	resp, err := c.Get(url)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return body, resp, err
}

// replicas returns clients that share a server, as processes would.
func replicas(t *testing.T, n int, url string, opts redisstore.Options) []*http.Client {
	clients := make([]*http.Client, n)
	for i := range clients {
		cache := &cachetrip.Transport{Store: open(t, url, opts), Base: &http.Transport{}}
		t.Cleanup(func() { cache.Close() })
		clients[i] = cache.Client()
	}
	return clients
}

func TestLease(t *testing.T) {
	server := sharedServer(t)
	const fleet = 6
	for _, test := range []struct {
		name  string
		lease time.Duration
		size  int
		most  int64 // requests to the origin
	}{
		{"one fetches for all", time.Minute, 100, 1},
		{"one fetches a large body for all", time.Minute, 2 << 20, 1},
		{"without a lease all fetch", 0, 100, fleet},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			body := bytes.Repeat([]byte("x"), test.size)
			origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				time.Sleep(200 * time.Millisecond)
				w.Header().Set("Cache-Control", "max-age=60")
				w.Write(body)
			}))
			defer origin.Close()
			clients := replicas(t, fleet, server.url(), patient(redisstore.Options{Lease: test.lease}))
			var wg sync.WaitGroup
			for i := range 3 * fleet {
				wg.Go(func() {
					got, _, err := fetch(clients[i%fleet], origin.URL)
					if err != nil || !bytes.Equal(got, body) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				})
			}
			wg.Wait()
			if n := asked.Load(); n > test.most || n < min(test.most, 2) {
				t.Errorf("the origin was asked %d times, want %d", n, test.most)
			}
		})
	}
}

// TestLeaseOfNoUse has an origin answer only when all replicas ask at once, once it is known that its
// responses are of no use to others.
func TestLeaseOfNoUse(t *testing.T) {
	server := sharedServer(t)
	const fleet = 4
	var asked atomic.Int64
	all := make(chan struct{})
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		switch asked.Add(1) {
		case 1:
			return
		case 1 + fleet:
			close(all)
		}
		select {
		case <-all:
		case <-time.After(20 * time.Second):
			t.Error("replicas wait for each other")
		}
	}))
	defer origin.Close()
	clients := replicas(t, fleet, server.url(), patient(redisstore.Options{Lease: time.Minute}))
	if _, _, err := fetch(clients[0], origin.URL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is known", func() bool {
		for _, name := range strings.Split(server.do(t, "KEYS", "*:l:*"), "\n") {
			if server.do(t, "GET", name) == "alone" {
				return true
			}
		}
		return false
	})
	var wg sync.WaitGroup
	for _, client := range clients {
		wg.Go(func() {
			if _, _, err := fetch(client, origin.URL); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestLeaseOfTheDead(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	opts := patient(redisstore.Options{Lease: 300 * time.Millisecond})
	var key atomic.Pointer[string]
	dead := open(t, server.url(), opts)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "hello")
	}))
	defer origin.Close()
	client := replicas(t, 1, server.url(), opts)[0]
	if _, _, err := fetch(client, origin.URL); err != nil {
		t.Fatal(err)
	}
	for e := range dead.All(t.Context(), "") {
		key.Store(&e.Key)
	}
	if err := client.Transport.(*cachetrip.Transport).Purge(t.Context(), origin.URL); err != nil {
		t.Fatal(err)
	}
	if _, granted := dead.Lease(t.Context(), *key.Load(), ""); !granted {
		t.Fatal("no lease")
	}
	begin := time.Now()
	body, resp, err := fetch(client, origin.URL)
	if err != nil || string(body) != "hello" || cachetrip.StatusOf(resp).Hit {
		t.Errorf("%q, %v", body, err)
	}
	if took := time.Since(begin); took < 100*time.Millisecond {
		t.Errorf("it took %v, and did not wait for the lease", took)
	}
	server.kill()
	quick(t, "a lease without a server", func() {
		for range 100 {
			if _, granted := dead.Lease(t.Context(), storetest.Key(1, 1), ""); !granted {
				t.Fatal("no lease is granted without a server")
			}
		}
	})
	if body, _, err := fetch(client, strings.Replace(origin.URL, "127.0.0.1", "localhost", 1)); err != nil || string(body) != "hello" {
		t.Errorf("without a server: %q, %v", body, err)
	}
}
