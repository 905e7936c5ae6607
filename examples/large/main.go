// Command large sends a large body through the cache twice, as a miss and as a
// hit, and reports the memory used. It fails if the bodies differ or the memory
// exceeds a limit.
//
//	go run ./examples/large -size 1073741824
package main

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

func main() {
	log.SetFlags(0)
	size := flag.Int64("size", 1<<30, "size of the body in `BYTES`")
	limit := flag.Int64("limit", 64<<20, "fail if more than so many `BYTES` of memory were in use at any time")
	parent := flag.String("dir", "", "make the cache below `DIR`; by default the system's directory for temporary files")
	flag.Parse()
	if err := run(*parent, *size, *limit); err != nil {
		log.Fatal("large: ", err)
	}
}

func run(parent string, size, limit int64) (err error) {
	dir, err := os.MkdirTemp(parent, "cachetrip-large-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// A store keeps no body over a quarter of its size limit.
	disk, err := store.OpenDisk(dir, store.DiskOptions{MaxBytes: 8*size + 1<<30})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	cache := &cachetrip.Transport{Store: disk}
	defer func() { err = errors.Join(err, cache.Close()) }()

	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		io.CopyN(w, rand.NewChaCha8([32]byte{}), size) // generated while it is sent
	}))
	defer origin.Close()

	var digests [2][sha256.Size]byte
	for i, what := range []string{"miss", "hit"} {
		start := time.Now()
		resp, err := cache.Client().Get(origin.URL)
		if err != nil {
			return err
		}
		digest := sha256.New()
		n, err := io.Copy(digest, resp.Body)
		resp.Body.Close()
		if err != nil {
			return err
		}
		digest.Sum(digests[i][:0])
		fmt.Printf("%-4s  %d bytes in %.1f s; %s\n", what, n, time.Since(start).Seconds(), resp.Header.Get("Cache-Status"))
		if hit := cachetrip.StatusOf(resp).Hit; n != size || hit != (what == "hit") {
			return fmt.Errorf("expected %d bytes from a %s", size, what)
		}
	}
	if digests[0] != digests[1] {
		return errors.New("the bodies differ")
	}
	memory, how := peakMemory()
	fmt.Printf("memory in use, origin and client included: at most %.1f MiB (%s)\n", float64(memory)/(1<<20), how)
	if memory > limit {
		return fmt.Errorf("more than the limit of %.1f MiB", float64(limit)/(1<<20))
	}
	return nil
}
