package redisstore_test

import (
	"bytes"
	"context"
	"fmt"
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
	const fleet = 3
	for _, test := range []struct {
		name  string
		lease time.Duration
		size  int
		asked int64 // requests to the origin
	}{
		{"one fetches for all", hanging, 100, 1},
		{"one fetches a large body for all", hanging, 2 << 20, 1},
		{"without a lease all fetch", 0, 100, fleet},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			var all chan struct{}
			body := bytes.Repeat([]byte("x"), test.size)
			origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) == test.asked {
					time.Sleep(200 * time.Millisecond) // in which no other request may come
					close(all)
				}
				wait(t, all, "all that fetch ask the origin")
				w.Header().Set("Cache-Control", "max-age=3600")
				w.Write(body)
			}))
			defer origin.Close()
			clients := replicas(t, fleet, server.url(), patient(redisstore.Options{Lease: test.lease}))
			round := 0
			// A Transport waits for another one for five seconds. On a machine that is
			// very slow, that may be too little once.
			eventually(t, fmt.Sprintf("the origin is asked %d times", test.asked), func() bool {
				round++
				asked.Store(0)
				all = make(chan struct{})
				var wg sync.WaitGroup
				for i := range 2 * fleet {
					wg.Go(func() {
						got, _, err := fetch(clients[i%fleet], fmt.Sprintf("%s/%d", origin.URL, round))
						if err != nil || !bytes.Equal(got, body) {
							t.Errorf("%d bytes, %v", len(got), err)
						}
					})
				}
				wg.Wait()
				t.Logf("it was asked %d times", asked.Load())
				return asked.Load() == test.asked
			})
		})
	}
}

// wait waits for a channel to be closed.
func wait(t testing.TB, c <-chan struct{}, what string) {
	select {
	case <-c:
	case <-time.After(hanging):
		t.Errorf("it does not happen that %s", what)
	}
}

// TestLeaseOfNoUse: nobody waits for a response that is known to be of no use to
// others.
func TestLeaseOfNoUse(t *testing.T) {
	server := sharedServer(t)
	// becomesKnown lets the server remember that a response is of no use, which
	// it would forget in 10 seconds.
	becomesKnown := func(t *testing.T, opts redisstore.Options) {
		t.Helper()
		eventually(t, "it becomes known", func() bool {
			for _, name := range strings.Fields(server.do(t, "KEYS", opts.Prefix+":*:l:*")) {
				if server.do(t, "GET", name) == "alone" && server.do(t, "PERSIST", name) == "1" {
					return true
				}
			}
			return false
		})
	}
	t.Run("a Transport tells", func(t *testing.T) {
		origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-store")
		}))
		defer origin.Close()
		opts := patient(redisstore.Options{Lease: hanging})
		if _, _, err := fetch(replicas(t, 1, server.url(), opts)[0], origin.URL); err != nil {
			t.Fatal(err)
		}
		becomesKnown(t, opts)
	})
	t.Run("nobody waits", func(t *testing.T) {
		opts := patient(redisstore.Options{Lease: 4 * hanging})
		key := storetest.Key(1, 1)
		one := open(t, server.url(), opts)
		release, granted := one.Lease(t.Context(), key, "a")
		if !granted {
			t.Fatal("no lease")
		}
		release(false)
		becomesKnown(t, opts)
		for _, s := range []*redisstore.Store{one, open(t, server.url(), opts)} {
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), hanging)
				if _, granted := s.Lease(ctx, key, "a"); !granted || ctx.Err() != nil {
					t.Errorf("granted: %t, %v", granted, ctx.Err())
				}
				cancel()
			}
		}
	})
}

func TestLeaseOfTheDead(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	const lease = 300 * time.Millisecond
	opts := patient(redisstore.Options{Lease: lease})
	var key atomic.Pointer[string]
	dead := open(t, server.url(), opts)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		io.WriteString(w, "hello")
	}))
	defer origin.Close()
	client := replicas(t, 1, server.url(), opts)[0]
	if _, _, err := fetch(client, origin.URL); err != nil {
		t.Fatal(err)
	}
	for e, err := range dead.All(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		key.Store(&e.Key)
	}
	if err := client.Transport.(*cachetrip.Transport).Purge(t.Context(), origin.URL); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, granted := dead.Lease(t.Context(), *key.Load(), ""); !granted {
		t.Fatal("no lease")
	}
	body, resp, err := fetch(client, origin.URL)
	if err != nil || string(body) != "hello" || cachetrip.StatusOf(resp).Hit {
		t.Errorf("%q, %v", body, err)
	}
	if took := time.Since(begin); took < lease-50*time.Millisecond { // clocks may differ
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
