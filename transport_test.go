package cachetrip_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
)

// Tests of the public API, with real servers, real directories, and exported
// names only.

func TestZeroTransportForwards(t *testing.T) {
	var cache cachetrip.Transport
	w := harness.NewWorld(t, harness.InMemory, harness.ServeLoopback)
	w.Handle(harness.Always(200, "hello", "Cache-Control", "max-age=60"))
	w.Client = cache.Client()
	for range 2 {
		w.WantGet("200 hello | fwd=bypass; fwd-status=200", "/")
	}
	w.WantAsked(nil, "GET /", "GET /")
	harness.Check(t, "Stats", cache.Stats(), cachetrip.Stats{Requests: 2, Misses: 2, BytesReceived: 10})
	ctx := context.Background()
	if err := errors.Join(cache.Invalidate(ctx, w.URL), cache.Purge(ctx, w.URL), cache.Close()); err != nil {
		t.Error(err)
	}
}

func TestOpenKeepsAcrossProcesses(t *testing.T) {
	w := harness.NewWorld(t, harness.InMemory, harness.ServeLoopback)
	w.Dir = filepath.Join(t.TempDir(), "not", "there", "yet")
	w.Handle(harness.Always(200, "hello", "Cache-Control", "max-age=60"))
	for _, want := range []string{
		"200 hello | fwd=uri-miss; fwd-status=200; stored",
		"200 hello | hit",
	} {
		cache, err := cachetrip.Open(w.Dir)
		if err != nil {
			t.Fatal(err)
		}
		w.Client = cache.Client()
		w.WantGet(want, "/")
		if err := cache.Close(); err != nil {
			t.Error(err)
		}
		// Close closes the store of Open, and a closed cache forwards.
		if _, err := cache.Store.Secret(context.Background()); !errors.Is(err, store.ErrClosed) {
			t.Errorf("the store after Close: %v, want ErrClosed", err)
		}
		w.WantGet("200 hello | fwd=bypass; fwd-status=200", "/")
		if err := cache.Close(); err != nil {
			t.Error("second Close:", err)
		}
	}
}

func TestOpenTellsWhatIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", file, filepath.Join(file, "below"), dir + "\x00"} {
		cache, err := cachetrip.Open(path)
		if err == nil || cache != nil || !strings.HasPrefix(err.Error(), "cachetrip: ") {
			t.Errorf("Open(%q) = %v, %v, want an error of ours", path, cache, err)
		}
		if strings.HasPrefix(path, file) && !strings.Contains(err.Error(), file) {
			t.Errorf("Open(%q): %q does not name what is in the way", path, err)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "mine" {
		t.Errorf("the file in the way: %q, %v", b, err)
	}
}

func TestCloseLeavesAStoreThatItWasGiven(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(harness.Always(200, "hello", "Cache-Control", "max-age=60"))
		w.Get("/")
		if err := w.Transport.Close(); err != nil {
			w.Error(err)
		}
		w.WantGet("200 hello | fwd=bypass; fwd-status=200", "/")
		w.WantGet("200 hello | fwd=bypass; fwd-status=200", "/other")
		other := &cachetrip.Transport{Store: w.Store, Base: w.Transport.Base}
		w.Client = other.Client()
		w.WantGet("200 hello | hit", "/")
		w.WantGet("200 hello | fwd=uri-miss; fwd-status=200; stored", "/other")
	})
}

func TestCloseLetsReadersFinish(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		body := strings.Repeat("0123456789abcdef", 64<<10) // not sent at once, and not kept with its head
		w.Handle(harness.Always(200, body, "Cache-Control", "max-age=60"))
		w.Get("/stored")
		var readers []*http.Response
		for _, path := range []string{"/stored", "/fetched"} {
			resp, err := w.Client.Do(w.Request("GET", path))
			if err != nil {
				w.Fatal(err)
			}
			readers = append(readers, resp)
		}
		if err := w.Transport.Close(); err != nil {
			w.Error(err)
		}
		if disk, ok := w.Store.(*store.Disk); ok {
			disk.Close()
		}
		for _, resp := range readers {
			got, err := io.ReadAll(resp.Body)
			if err != nil || string(got) != body {
				w.Errorf("read after Close: %d bytes, %v; want %d", len(got), err, len(body))
			}
			if err := resp.Body.Close(); err != nil {
				w.Error(err)
			}
		}
	})
}

func TestCloseWaitsForBackground(t *testing.T) {
	for _, test := range []struct {
		name   string
		second http.HandlerFunc
		want   string // of the entries that the next cache gets from the store
	}{
		{"confirmed", harness.Tagged(`"1"`, "one", "Cache-Control", "max-age=10, stale-while-revalidate=90"), "200 one | hit"},
		{"changed", harness.Tagged(`"2"`, "two", "Cache-Control", "max-age=10, stale-while-revalidate=90"), "200 two | hit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				w.Handle(harness.InTurn(
					harness.Tagged(`"1"`, "one", "Cache-Control", "max-age=10, stale-while-revalidate=90"),
					func(rw http.ResponseWriter, r *http.Request) {
						time.Sleep(2700 * time.Millisecond)
						test.second(rw, r)
					}))
				w.Get("/")
				time.Sleep(20 * time.Second)
				w.WantGet("200 one | hit; detail=stale-while-revalidate", "/")
				start := time.Now()
				if err := w.Transport.Close(); err != nil {
					w.Error(err)
				}
				harness.Check(w, "time that Close took", time.Since(start), 2700*time.Millisecond)
				next := &cachetrip.Transport{Store: w.Store, Base: w.Transport.Base}
				w.Client = next.Client()
				w.WantGet(test.want, "/")
				next.Close()
			})
		})
	}
}

func TestStatsOfAScriptedSequence(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		const fields = "max-age=10"
		w.Handle(harness.Tagged(`"1"`, "one", "Cache-Control", fields))
		want := cachetrip.Stats{}
		step := func(what string, do func(), change func(s *cachetrip.Stats)) {
			w.Helper()
			do()
			want.Requests++
			change(&want)
			harness.Check(w, "Stats after "+what, w.Transport.Stats(), want)
		}
		get := func(path string, fields ...string) func() { return func() { w.Get(path, fields...) } }
		step("a miss", get("/"), func(s *cachetrip.Stats) { s.Misses++; s.Stored++; s.BytesReceived += 3 })
		step("a hit", get("/"), func(s *cachetrip.Stats) { s.Hits++; s.BytesServed += 3 })
		time.Sleep(15 * time.Second)
		step("a stale hit", get("/", "Cache-Control", "max-stale"), func(s *cachetrip.Stats) { s.Hits++; s.StaleHits++; s.BytesServed += 3 })
		step("a 304", get("/"), func(s *cachetrip.Stats) { s.Revalidations++; s.BytesServed += 3 })
		step("a HEAD", func() { w.Do(w.Request("HEAD", "/")) }, func(s *cachetrip.Stats) { s.Hits++ })
		step("an answer to the caller's condition", get("/", "If-None-Match", `"1"`), func(s *cachetrip.Stats) { s.Hits++ })
		time.Sleep(15 * time.Second)
		w.Handle(harness.Tagged(`"2"`, "three", "Cache-Control", fields))
		step("a change", get("/"), func(s *cachetrip.Stats) { s.Misses++; s.Stored++; s.BytesReceived += 5 })
		step("a POST", func() { w.Do(w.Request("POST", "/")) }, func(s *cachetrip.Stats) { s.Misses++; s.BytesReceived += 5 })
		step("its invalidation", get("/"), func(s *cachetrip.Stats) { s.Revalidations++; s.BytesServed += 5 })
		step("a refusal", get("/none", "Cache-Control", "only-if-cached"), func(s *cachetrip.Stats) {})
		step("a bypass", get("/", "Cache-Control", "no-store"), func(s *cachetrip.Stats) { s.Misses++; s.BytesReceived += 5 })
		time.Sleep(15 * time.Second)
		w.Handle(harness.Always(503, "sorry"))
		step("a stale hit for an error", get("/", "Cache-Control", "stale-if-error=60"), func(s *cachetrip.Stats) { s.StaleHits++; s.BytesServed += 5 })
		step("an error", get("/"), func(s *cachetrip.Stats) { s.Misses++; s.BytesReceived += 5 })
		w.TakeDown()
		step("no answer", func() {
			if r, err := w.Try(w.Request("GET", "/")); err == nil {
				w.Errorf("got %v", r)
			}
		}, func(s *cachetrip.Stats) {})
	})
}

func TestNothingRunsAfterClose(t *testing.T) {
	// The bubble itself checks that no goroutine is left when the test function
	// and its clean-up, which closes the cache and the server, have returned.
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, strings.Repeat("x", 300<<10), "Cache-Control", "max-age=10, stale-while-revalidate=100"))
		w.Get("/")
		time.Sleep(time.Minute)
		w.Get("/") // with a revalidation behind it
		resp, err := w.Client.Do(w.Request("GET", "/partly"))
		if err != nil {
			w.Fatal(err)
		}
		resp.Body.Close()
	})
}

// After Close, the methods that change or list stored responses say once that
// the Transport was closed. Without a Store, they have nothing to do.
func TestStoredResponsesAfterClose(t *testing.T) {
	calls := map[string]func(*cachetrip.Transport) error{
		"Invalidate": func(c *cachetrip.Transport) error { return c.Invalidate(t.Context(), "http://example.com/") },
		"Purge":      func(c *cachetrip.Transport) error { return c.Purge(t.Context(), "http://example.com/") },
		"Clear":      func(c *cachetrip.Transport) error { return c.Clear(t.Context()) },
		"Entries": func(c *cachetrip.Transport) error {
			var errs []error
			for _, err := range c.Entries(t.Context(), "") {
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			if err := call(&cachetrip.Transport{}); err != nil {
				t.Errorf("without a Store: %v", err)
			}
			cache := &cachetrip.Transport{Store: store.NewMemory(0)}
			if err := call(cache); err != nil {
				t.Errorf("before Close: %v", err)
			}
			if err := cache.Close(); err != nil {
				t.Fatal(err)
			}
			err := call(cache)
			if err == nil || strings.Count(err.Error(), "the Transport was closed") != 1 || strings.Count(err.Error(), "cachetrip:") != 1 {
				t.Errorf("after Close: %v, want one error that says so", err)
			}
		})
	}
}
