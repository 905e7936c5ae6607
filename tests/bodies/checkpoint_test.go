package bodies_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
)

// TestCheckpoint stores what has arrived of a long download, while it goes on.
// Nobody sees a difference, except another process: one that begins when this
// one has been killed.
func TestCheckpoint(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file cannot be renamed")
	}
	body := harness.Noise(24<<20, 9)
	for name, test := range map[string]struct {
		field, value string
		entries      int // in the end
		stored       int32
	}{
		"good":         {"X-Kept", "yes", 1, 1},
		"wrong digest": {"Repr-Digest", "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests, stored atomic.Int32
			begun, proceed := make(chan struct{}), make(chan struct{})
			origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				h := w.Header()
				h.Set("Cache-Control", "max-age=3600")
				h.Set("ETag", `"1"`)
				h.Set("Accept-Ranges", "bytes")
				h.Set("Content-Length", strconv.Itoa(len(body)))
				h.Set(test.field, test.value)
				w.Write(body[:1<<20])
				w.(http.Flusher).Flush()
				<-begun
				time.Sleep(1100 * time.Millisecond) // a checkpoint is made once a second at most
				w.Write(body[1<<20 : 20<<20])
				w.(http.Flusher).Flush()
				<-proceed
				w.Write(body[20<<20:])
			}))
			defer origin.Close()
			disk, err := store.OpenDisk(t.TempDir(), store.DiskOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer disk.Close()
			cache := &cachetrip.Transport{Store: disk}
			defer cache.Close()
			ctx := cachetrip.WithTrace(t.Context(), &cachetrip.Trace{Stored: func(cachetrip.StoreInfo) { stored.Add(1) }})
			get := func(ctx context.Context) io.ReadCloser {
				req, _ := http.NewRequestWithContext(ctx, "GET", origin.URL, nil)
				resp, err := cache.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				return resp.Body
			}
			first := get(ctx)
			defer first.Close()
			close(begun)
			got := make([]byte, len(body))
			if _, err := io.ReadFull(first, got[:20<<20]); err != nil {
				t.Fatal(err)
			}
			parts := 0
			for e, err := range disk.All(t.Context(), "") {
				if err != nil || e.IsNote() {
					continue
				}
				parts++
				if e.Complete() || len(e.Parts) != 1 || e.Parts[0].Length < 7<<20 || e.Parts[0].Length > 20<<20 {
					t.Errorf("parts %+v", e.Parts)
				}
			}
			if parts != 1 || stored.Load() != 0 {
				t.Errorf("under way: %d entries, and Stored was called %d times", parts, stored.Load())
			}
			second := get(t.Context()) // it joins, although a part is stored
			defer second.Close()
			close(proceed)
			if _, err := io.ReadFull(first, got[20<<20:]); err != nil || !bytes.Equal(got, body) {
				t.Errorf("%v, or other bytes", err)
			}
			io.Copy(io.Discard, first)
			if test.entries > 0 {
				if b, err := io.ReadAll(second); err != nil || !bytes.Equal(b, body) {
					t.Errorf("the second caller: %d bytes, %v", len(b), err)
				}
				if n := requests.Load(); n != 1 {
					t.Errorf("%d requests, want 1", n)
				}
			}
			second.Close()
			entries := 0
			for e, err := range disk.All(t.Context(), "") {
				if err == nil && !e.IsNote() {
					entries++
				}
			}
			if entries != test.entries || stored.Load() != test.stored {
				t.Errorf("in the end: %d entries, and Stored was called %d times; want %d, %d", entries, stored.Load(), test.entries, test.stored)
			}
			if r, err := disk.Verify(t.Context()); err != nil || r.Damaged != 0 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}
