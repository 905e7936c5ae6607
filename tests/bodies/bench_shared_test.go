package bodies_test

import (
	"io"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
)

// BenchmarkHerd has 100 callers ask for one thing that is not stored, while the
// origin takes 10 ms to answer. It reports how many requests that were, and how
// long after the origin's answer was written the callers had theirs, the mean
// and the last.
func BenchmarkHerd(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		for _, in := range []string{"disk", "memory"} {
			b.Run(strconv.Itoa(size>>10)+"KiB/"+in, func(b *testing.B) {
				dir := ""
				if in == "disk" {
					dir = b.TempDir()
				}
				harness.NewCache(b, dir, func(r *harness.Cache) {
					body := harness.Noise(size, 1)
					var mu sync.Mutex
					var answered time.Time
					origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
						time.Sleep(10 * time.Millisecond)
						mu.Lock()
						answered = time.Now()
						mu.Unlock()
						c.Whole(body, harness.Fresh)
					})
					defer origin.Close()
					const callers = 100
					var mean, last time.Duration
					rounds := 0
					for b.Loop() {
						url := origin.URL() + "/" + strconv.Itoa(rounds)
						rounds++
						var took [callers]time.Time
						var wg sync.WaitGroup
						for i := range callers {
							wg.Go(func() {
								resp := r.Send(r.Context(), url)
								n, err := io.Copy(io.Discard, resp.Body)
								resp.Body.Close()
								if n != int64(size) || err != nil {
									b.Errorf("got %d bytes, %v", n, err)
								}
								took[i] = time.Now()
							})
						}
						wg.Wait()
						var sum, most time.Duration
						mu.Lock()
						for _, at := range took {
							d := at.Sub(answered)
							sum, most = sum+d, max(most, d)
						}
						mu.Unlock()
						mean, last = mean+sum/callers, last+most
					}
					b.ReportMetric(float64(len(origin.Requests()))/float64(rounds), "requests/herd")
					b.ReportMetric(float64(mean.Microseconds())/float64(rounds), "µs-mean")
					b.ReportMetric(float64(last.Microseconds())/float64(rounds), "µs-last")
				})
			})
		}
	}
}

// BenchmarkCutDownload downloads 256 MiB, cut 20 times at a random point, and
// reports what that costs on the wire, as a multiple of its size.
func BenchmarkCutDownload(b *testing.B) {
	for _, in := range []string{"disk", "memory"} {
		b.Run(in, func(b *testing.B) {
			const size = 256 << 20
			var taken, sent int64
			n := 0
			for b.Loop() {
				n++
				dir := ""
				if in == "disk" {
					dir = b.TempDir()
				}
				harness.NewCache(b, dir, func(r *harness.Cache) {
					if in == "memory" {
						r.Store = store.NewMemory(8 * size)
					}
					t, s := cutDownload(r, size, 20)
					taken, sent = taken+t, sent+s
				})
			}
			b.SetBytes(size)
			b.ReportMetric(float64(taken)/float64(n)/size, "taken/size")
			b.ReportMetric(float64(sent)/float64(n)/size, "sent/size")
		})
	}
}
