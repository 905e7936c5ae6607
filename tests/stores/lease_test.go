package stores_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/internal/testtier"
	"github.com/cachetrip/cachetrip/store"
)

// others is a store with leases. Another process always had the requested lease
// before, and has stored nothing.
type others struct {
	store.Store
	waited, granted atomic.Int64
}

func (s *others) Lease(ctx context.Context, _, _ string) (func(bool), bool) {
	if ctx.Err() != nil {
		s.granted.Add(1)
		return func(bool) {}, true
	}
	s.waited.Add(1)
	return nil, false
}

// TestLeaseInVain: a request waits for one other process, not for one after
// another.
func TestLeaseInVain(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "hello")
	}))
	defer origin.Close()
	kept := &others{Store: store.NewMemory(0)}
	cache := &cachetrip.Transport{Store: kept}
	defer cache.Close()
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			resp, err := cache.Client().Get(origin.URL)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); string(body) != "hello" || err != nil {
				t.Errorf("%q, %v", body, err)
			}
		})
	}
	wg.Wait()
	if waited, granted := kept.waited.Load(), kept.granted.Load(); waited < 1 || waited > 5 || granted < 1 {
		t.Errorf("%d requests waited, and %d leases were granted, want 5 at most, and 1 at least", waited, granted)
	}
}

// before is a store with leases. Before it grants the first one, another
// process does its work.
type before struct {
	*store.Disk
	once sync.Once
	work func()
}

func (s *before) Lease(ctx context.Context, key, variant string) (release func(bool), granted bool) {
	s.once.Do(s.work)
	return s.Disk.Lease(ctx, key, variant)
}

// TestStoredBeforeLease: a request uses the response that another process
// stored between the request's look-up and its lease, if the rules allow that.
func TestStoredBeforeLease(t *testing.T) {
	plain := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
	}
	for _, test := range []struct {
		name   string
		header func(w http.ResponseWriter, r *http.Request)
		old    bool   // the response is stored before, and stale
		accept string // of the request of the other process
		asked  int32  // the requests that the origin is to get
		status string
	}{
		{"a response", plain, false, "a", 1, "hit"},
		{"a validation", plain, true, "a", 2, "hit"},
		{"another variant", func(w http.ResponseWriter, r *http.Request) {
			plain(w, r)
			w.Header().Set("Vary", "Accept")
		}, false, "b", 2, "fwd=vary-miss"},
		{"a response that is not stored", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-store")
		}, false, "a", 2, "fwd=uri-miss"},
		{"a response that must be validated", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-cache")
		}, true, "a", 3, "fwd=stale"},
	} {
		for _, memory := range []int64{0, -1} {
			t.Run(fmt.Sprint(test.name, ", memory ", memory), func(t *testing.T) {
				var asked atomic.Int32
				origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("ETag", `"1"`)
					test.header(w, r)
					if asked.Add(1) == 1 && test.old {
						w.Header().Set("Cache-Control", "max-age=0")
					}
					http.ServeContent(w, r, "", time.Time{}, strings.NewReader("hello"))
				}))
				defer origin.Close()
				dir := t.TempDir()
				ask := func(c *cachetrip.Transport, accept string) string {
					req, _ := http.NewRequest("GET", origin.URL, nil)
					req.Header.Set("Accept", accept)
					resp, err := c.Client().Do(req)
					if err != nil {
						t.Fatal(err)
					}
					defer resp.Body.Close()
					if body, err := io.ReadAll(resp.Body); string(body) != "hello" || err != nil {
						t.Errorf("%q, %v", body, err)
					}
					return resp.Header.Get("Cache-Status")
				}
				open := func() *store.Disk {
					d, err := store.OpenDisk(dir, store.DiskOptions{MemoryBytes: memory})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { d.Close() })
					return d
				}
				other := &cachetrip.Transport{Store: open()}
				defer other.Close()
				kept := &before{Disk: open(), work: func() { ask(other, test.accept) }}
				cache := &cachetrip.Transport{Store: kept}
				defer cache.Close()
				if test.old {
					ask(other, "a")
				}
				got := ask(cache, "a")
				if asked.Load() != test.asked || !strings.Contains(got, test.status) {
					t.Errorf("%d requests and %q, want %d and %s", asked.Load(), got, test.asked, test.status)
				}
			})
		}
	}
}

// shortLivedEnv names the origin to a process that is to be shortLived.
const shortLivedEnv = "CACHETRIP_TEST_SHORT_LIVED"

// shortLived is what a command-line tool does: it opens the cache, makes some
// requests and ends.
func shortLived(url, dir string) {
	cache, err := cachetrip.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	cache.ShareTimeout = time.Minute // a busy machine is slow
	for _, path := range []string{"/a", "/b", "/large", "/private"} {
		resp, err := cache.Client().Get(url + path)
		if err != nil {
			log.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || n == 0 {
			log.Fatalf("%s: %d bytes, %v", path, n, err)
		}
	}
	if err := cache.Close(); err != nil {
		log.Fatal(err)
	}
}

// TestShortLivedProcesses: processes that share a directory and begin at the
// same time on an empty cache make one request for each URL, together. A
// response that may not be stored costs each its own.
func TestShortLivedProcesses(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("not run there yet")
	}
	processes := testtier.Pick(20, 50)
	var mu sync.Mutex
	asked := make(map[string]int)
	large := harness.Noise(1<<20, 1)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[r.URL.Path]++
		mu.Unlock()
		time.Sleep(300 * time.Millisecond)
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("ETag", `"1"`)
		switch r.URL.Path {
		case "/large":
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(large))
		case "/private":
			w.Header().Set("Cache-Control", "no-store")
			io.WriteString(w, "private")
		default:
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader("hello"))
		}
	}))
	defer origin.Close()
	dir := t.TempDir()
	for _, test := range []struct {
		name string
		want map[string]int
	}{
		{"an empty cache", map[string]int{"/a": 1, "/b": 1, "/large": 1, "/private": processes}},
		{"a cache with all of it", map[string]int{"/private": processes}},
	} {
		mu.Lock()
		clear(asked)
		mu.Unlock()
		var wg sync.WaitGroup
		for range processes {
			wg.Go(func() {
				c := exec.Command(os.Args[0])
				c.Env = append(os.Environ(), shortLivedEnv+"="+origin.URL, shortLivedEnv+"_DIR="+dir)
				if out, err := c.CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
		wg.Wait()
		mu.Lock()
		harness.Check(t, test.name+": requests", asked, test.want)
		mu.Unlock()
	}
}
