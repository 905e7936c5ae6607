package stores_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
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

var soakFor = flag.Duration("soak", testtier.Pick(time.Second, 6*time.Second), "for how long TestSoak runs with each store")

// TestSoak lets 64 readers request 1,000 resources. Some resources change, some
// cannot be stored, and some break off. Readers read at random speeds, and stop
// or cancel at random. Each byte must be that of the version in the response's
// header. A reader gets an error only if it cancelled or its connection broke.
// Nothing is left at the end.
func TestSoak(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		const readers, keys = 64, 1000
		r.HTTP.MaxIdleConnsPerHost = readers
		var versions [keys]atomic.Int64
		pool := harness.Noise(3<<20, 40)
		content := func(key int, version int64) []byte { // a stretch of the pool that no other has
			seed := uint64(key)*1_000_003 + uint64(version)
			size := [...]int{0, 1, 300, 5_000, 20_000, 70_000, 200_000, 400_000}[seed%8]
			return pool[seed*2654435761%(2<<20):][:size+int(seed%97)]
		}
		origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			key, _ := strconv.Atoi(strings.TrimPrefix(req.URL.Path, "/"))
			version := versions[key].Load()
			body := content(key, version)
			h := w.Header()
			h.Set("X-Version", strconv.FormatInt(version, 10))
			h.Set("Content-Type", "application/octet-stream")
			h.Set("Cache-Control", [...]string{"max-age=3600", "max-age=1", "no-cache", "no-store", "max-age=3600", "max-age=0, stale-while-revalidate=5"}[key%6])
			tag := fmt.Sprintf(`"%d"`, version)
			switch key % 7 {
			case 0:
				tag = "W/" + tag
			case 1:
				tag = ""
			}
			if tag != "" {
				h.Set("ETag", tag)
			}
			if key%11 == 0 {
				h.Set("Vary", "Accept-Language")
			}
			var out http.ResponseWriter = w
			if rand.IntN(10) == 0 {
				out = &breaking{ResponseWriter: w, left: rand.IntN(len(body) + 1)}
			}
			if rand.IntN(20) == 0 {
				time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
			}
			http.ServeContent(out, req, "", time.Time{}, bytes.NewReader(body))
		}))
		origin.Config.ErrorLog = nil
		defer origin.Close()
		defer r.HTTP.CloseIdleConnections()

		var slow atomic.Uint64 // failures of the store that a busy machine explains
		r.Trace = &cachetrip.Trace{StoreError: func(info cachetrip.StoreErrorInfo) {
			switch {
			case errors.Is(info.Err, context.DeadlineExceeded), errors.Is(info.Err, context.Canceled),
				store.CauseOf(info.Err) == store.CauseLocked, strings.Contains(info.Err.Error(), "does not answer"):
				slow.Add(1)
			default:
				r.Errorf("%s: %v", info.Op, info.Err)
			}
		}}
		stop := time.Now().Add(*soakFor)
		var requests, whole, errs, bytesRead atomic.Int64
		goesOn := func() bool {
			late := time.Since(stop) // on a busy machine the first hit may take longer
			return late < 0 || late < time.Minute && (whole.Load() == 0 || r.Stats().Hits == 0)
		}
		var wg sync.WaitGroup
		for reader := range readers {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(reader), 1))
				for goesOn() && !r.Failed() {
					key := int(float64(keys) * rnd.Float64() * rnd.Float64() * rnd.Float64()) // some more often than others
					if rnd.IntN(200) == 0 {
						versions[key].Add(1)
					}
					ctx, cancel := context.WithCancel(r.Context())
					if rnd.IntN(5) == 0 {
						time.AfterFunc(time.Duration(rnd.IntN(5000))*time.Microsecond, cancel)
					}
					req := r.Request(ctx, origin.URL+"/"+strconv.Itoa(key), "Accept-Language", [...]string{"en", "de"}[rnd.IntN(2)])
					from, to := 0, -1
					if rnd.IntN(8) == 0 {
						from = rnd.IntN(300)
						to = from + rnd.IntN(100_000)
						req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to))
					}
					requests.Add(1)
					resp, err := r.RoundTrip(req)
					if err != nil {
						cancel()
						errs.Add(1)
						if ctx.Err() == nil && !broken(err) {
							r.Errorf("key %d: %v", key, err)
						}
						continue
					}
					version, _ := strconv.ParseInt(resp.Header.Get("X-Version"), 10, 64)
					want := content(key, version)
					switch resp.StatusCode {
					case 200:
					case 206:
						if got := resp.Header.Get("Content-Range"); got != fmt.Sprintf("bytes %d-%d/%d", from, min(to, len(want)-1), len(want)) {
							r.Errorf("key %d: got %s of %d bytes for %d-%d", key, got, len(want), from, to)
						}
						want = want[from:min(to+1, len(want))]
					case 416:
						if from < len(want) {
							r.Errorf("key %d: got 416 for %d-%d of %d", key, from, to, len(want))
						}
						want = nil
					default:
						r.Errorf("key %d: got %s", key, resp.Status)
					}
					if resp.StatusCode != 416 && resp.ContentLength >= 0 && resp.ContentLength != int64(len(want)) {
						r.Errorf("key %d: got length %d, want %d", key, resp.ContentLength, len(want))
					}
					limit := len(want) + 1
					if rnd.IntN(4) == 0 {
						limit = rnd.IntN(limit)
					}
					got := make([]byte, 0, limit+60_000)
					buf := make([]byte, 1+rnd.IntN(60_000))
					for err == nil && len(got) < limit {
						var n int
						n, err = resp.Body.Read(buf)
						got = append(got, buf[:n]...)
						if rnd.IntN(50) == 0 {
							time.Sleep(time.Duration(rnd.IntN(2000)) * time.Microsecond)
						}
					}
					resp.Body.Close()
					cancel()
					bytesRead.Add(int64(len(got)))
					if resp.StatusCode == 416 {
						continue
					}
					if !bytes.HasPrefix(want, got) {
						r.Errorf("key %d, version %d, %s: got %d bytes that are not the first of %d", key, version, resp.Header.Get("Cache-Status"), len(got), len(want))
					}
					switch {
					case err == io.EOF:
						whole.Add(1)
						if len(got) != len(want) {
							r.Errorf("key %d, version %d, %s: ended after %d bytes of %d", key, version, resp.Header.Get("Cache-Status"), len(got), len(want))
						}
					case err != nil:
						errs.Add(1)
						if ctx.Err() == nil && !broken(err) {
							r.Errorf("key %d: %v", key, err)
						}
					}
				}
			})
		}
		wg.Wait()
		s := r.Stats()
		r.Logf("%d requests, %d read to the end, %d errors, %d MiB; %+v", requests.Load(), whole.Load(), errs.Load(), bytesRead.Load()>>20, s)
		if whole.Load() == 0 || s.Hits == 0 || s.StoreErrors != slow.Load() {
			r.Errorf("%d read to the end, %+v", whole.Load(), s)
		}
	})
}

// broken reports whether err is one that a broken connection gives without a
// cache, too.
func broken(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || strings.Contains(err.Error(), "connection reset") ||
		strings.Contains(err.Error(), "server closed idle connection") || strings.Contains(err.Error(), "broken pipe")
}

// breaking breaks the connection after so many bytes.
type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if len(p) > b.left {
		b.ResponseWriter.Write(p[:b.left])
		http.NewResponseController(b.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	b.left -= len(p)
	return b.ResponseWriter.Write(p)
}
