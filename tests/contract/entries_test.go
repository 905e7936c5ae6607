package contract_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
)

// urls lists what Entries returns, with the paths of URLs alone.
func urls(w *harness.World, pattern string) []string {
	w.Helper()
	found := []string{}
	for e, err := range w.Transport.Entries(w.Context(), pattern) {
		if err != nil {
			w.Fatal(err)
		}
		found = append(found, strings.TrimPrefix(e.URL, w.URL))
	}
	slices.Sort(found)
	return found
}

// TestEntries lists stored responses by patterns, removes some in the loop, and
// then all.
func TestEntries(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(harness.Always(200, "page", "Cache-Control", "max-age=60", "Vary", "Accept-Language"))
		harness.Check(w, "nothing is stored", urls(w, ""), []string{})
		w.Get("/a", "Accept-Language", "de")
		w.Get("/a", "Accept-Language", "en")
		w.Get("/a", "Authorization", "Bearer token-of-alice")
		w.Get("/b/1")
		w.Get("/b/2")
		for _, test := range []struct {
			pattern string
			want    []string
		}{
			{"", []string{"/a", "/a", "/a", "/b/1", "/b/2"}},
			{"*", []string{"/a", "/a", "/a", "/b/1", "/b/2"}},
			{w.URL + "/b/*", []string{"/b/1", "/b/2"}},
			{strings.TrimPrefix(w.URL, "http://") + "/b/1", []string{"/b/1"}},
			{w.URL + "/b", []string{}},
			{"https://*", []string{}},
		} {
			harness.Check(w, "entries of "+test.pattern, urls(w, test.pattern), test.want)
		}
		for e, err := range w.Transport.Entries(w.Context(), "*/b/*") {
			if err != nil {
				w.Fatal(err)
			}
			if err := w.Transport.Purge(w.Context(), e.URL); err != nil {
				w.Error(err)
			}
			break
		}
		if left := urls(w, "*/b/*"); len(left) != 1 {
			w.Errorf("after one was purged, %q are left", left)
		}
		if err := w.Transport.Clear(w.Context()); err != nil {
			w.Error(err)
		}
		harness.Check(w, "after Clear", urls(w, ""), []string{})
		w.WantGet("200 page | fwd=uri-miss; fwd-status=200; stored", "/b/1")
		w.WantGet("200 page | hit", "/b/1")

		ended, cancel := context.WithCancel(w.Context())
		cancel()
		if err := w.Transport.Clear(ended); !errors.Is(err, context.Canceled) {
			w.Errorf("Clear when the context has ended: %v", err)
		}
		for _, err := range w.Transport.Entries(ended, "") {
			if !errors.Is(err, context.Canceled) {
				w.Errorf("Entries when the context has ended: %v", err)
			}
		}
		w.Transport.Close()
		if err := w.Transport.Clear(w.Context()); err == nil {
			w.Error("Clear of a closed Transport: no error")
		}
		n := 0
		for _, err := range w.Transport.Entries(w.Context(), "") {
			if n++; err == nil {
				w.Error("Entries of a closed Transport: no error")
			}
		}
		if n != 1 {
			w.Errorf("Entries of a closed Transport yields %d times, want 1", n)
		}
	})
}

// TestEntriesWithoutStore: a Transport without a Store has nothing to list or
// clear.
func TestEntriesWithoutStore(t *testing.T) {
	c := new(cachetrip.Transport)
	for range c.Entries(t.Context(), "") {
		t.Error("there is an entry")
	}
	if err := c.Clear(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestOpenWithOptions: the size limit of a small tool, in one call.
func TestOpenWithOptions(t *testing.T) {
	large := strings.Repeat("x", 400<<10)
	origin := harness.NewRawOrigin(t, func(c *harness.RawCall) { c.Whole([]byte(large), harness.Fresh) })
	defer origin.Close()
	for _, test := range []struct {
		opts []store.DiskOptions
		want string
	}{
		{nil, "stored"},
		{[]store.DiskOptions{{MaxBytes: 1 << 20}}, "!stored"}, // a body may take a quarter
		{[]store.DiskOptions{{MaxBytes: 64 << 20}}, "stored"},
	} {
		c, err := cachetrip.Open(t.TempDir(), test.opts...)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest("GET", origin.URL(), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		harness.WantStatus(t, resp, test.want)
		resp.Body.Close()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
