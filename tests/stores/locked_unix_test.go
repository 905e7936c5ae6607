//go:build unix

package stores_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
)

// TestProcessHoldsLocks: other processes that are stopped hold the locks of all
// shards. Every caller gets its whole body, within its deadline: the origin
// takes no time, and the cache no more than a part of what there is.
func TestProcessHoldsLocks(t *testing.T) {
	for _, limit := range []time.Duration{0, 40 * time.Millisecond, 200 * time.Millisecond, time.Second} {
		for _, size := range []int{0, 100, 100_000, 1 << 20} {
			t.Run(fmt.Sprintf("%v, %d bytes", limit, size), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					body := strings.Repeat("x", size)
					c, err := cachetrip.Open(t.TempDir(), store.DiskOptions{MaxBytes: 16 << 20})
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					c.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
						return withBody(harness.Scripted(req, 200, nil, "Cache-Control: max-age=60", "Content-Length: "+strconv.Itoa(size)), body), nil
					})
					get := func(path string) (took time.Duration) {
						ctx, cancel := t.Context(), func() {}
						if limit != 0 {
							ctx, cancel = context.WithTimeout(ctx, limit)
						}
						defer cancel()
						began := time.Now()
						req, err := http.NewRequestWithContext(ctx, "GET", "http://origin.example"+path, nil)
						if err != nil {
							t.Fatal(err)
						}
						resp, err := c.RoundTrip(req)
						if err != nil {
							t.Fatal(err)
						}
						got, err := io.ReadAll(resp.Body)
						resp.Body.Close()
						if len(got) != size || err != nil {
							t.Errorf("%s: got %d bytes of %d, %v", path, len(got), size, err)
						}
						return time.Since(began)
					}
					get("/0")
					holdShards(t, c.Store.(*store.Disk).Dir())
					most := time.Second
					if limit != 0 {
						most = limit / 2
					}
					for i := range 4 {
						if took := get(fmt.Sprintf("/%d", i+1)); took > most {
							t.Errorf("request %d took %v, want at most %v", i, took, most)
						}
						time.Sleep(time.Duration(i) * time.Second)
					}
				})
			})
		}
	}
}

// holdShards takes the locks of all shards of a cache, as other processes
// would.
func holdShards(t *testing.T, dir string) {
	for i := range 256 {
		shard := filepath.Join(dir, "v1", "data", fmt.Sprintf("%02x", i))
		if err := os.MkdirAll(shard, 0o700); err != nil {
			t.Fatal(err)
		}
		fd, err := syscall.Open(shard, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Close(fd) })
		if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			t.Fatal(err)
		}
	}
}
