//go:build !race

package cachetrip

import (
	"net/http"
	"runtime"
	"testing"
	"unsafe"

	"github.com/cachetrip/cachetrip/store"
)

// The cost of the hot paths, as far as it does not depend on the machine.

// TestAllocations limits the allocations of one request whose body is read.
// Allocations of the origin in the test count as well.
func TestAllocations(t *testing.T) {
	disk, err := store.OpenDisk(t.TempDir(), store.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	for _, c := range []struct {
		name         string
		store        store.Store
		cacheControl string
		most         float64
	}{
		{"a hit from memory", store.NewMemory(0), "private, max-age=3600", 6},
		{"a hit from disk", disk, "private, max-age=3600", 7},
		{"a 304 from memory", store.NewMemory(0), "private, no-cache", 75},
		{"a 304 from disk", disk, "private, no-cache", 80},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.store == disk && runtime.GOOS != "linux" {
				c.most += 40 // each look-up asks for the properties of a file by its path
				if c.name == "a 304 from disk" {
					c.most += 120 // it is written by another goroutine, under a lock
				}
			}
			origin := &benchOrigin{body: benchBody(1 << 10), cacheControl: c.cacheControl}
			cache := &Transport{Store: c.store, Base: origin}
			defer cache.Close()
			req, err := http.NewRequest("GET", "http://example.com/"+c.name, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", "application/json")
			buf := make([]byte, 2<<10)
			get := func() {
				resp, err := cache.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				for err == nil {
					_, err = resp.Body.Read(buf)
				}
				resp.Body.Close()
			}
			get()
			if n := testing.AllocsPerRun(200, get); n > c.most {
				t.Errorf("%v allocations, want at most %v", n, c.most)
			}
		})
	}
}

// TestUnusedTransportIsSmall: programs may have a Transport for each of their
// users.
func TestUnusedTransportIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Transport{}); size > 4<<10 {
		t.Errorf("a Transport takes %d bytes before it is used", size)
	}
}
