package store

import (
	"container/heap"
	"container/list"
	"context"
	"math/rand/v2"
	"testing"
)

// How often a cache of a certain size hits, beside what is possible.

// ratios are the hit ratios of a trace in the store and in two ideal caches of
// the same size. One is exact LRU. The other is Belady's offline optimum, which
// knows the trace and evicts the entry whose next use is farthest. For bodies
// of different sizes the latter is a good solution and not the best, which is
// as hard to find as packing.
type ratios struct{ store, lru, optimum float64 }

// zipfTrace is a trace of requests for 20000 keys of Zipf's popularity, which
// hardly differs from that seen by proxies.
func zipfTrace(requests int) []int {
	r := rand.New(rand.NewPCG(1, 2))
	z := rand.NewZipf(r, 1.05, 4, 20000)
	trace := make([]int, requests)
	for i := range trace {
		trace[i] = int(z.Uint64())
	}
	return trace
}

// cost is what a body of size bytes takes in the store.
func cost(size int) int64 {
	if size > inlineMax {
		return 4096 + allocated(bodyFileSize(int64(size)))
	}
	return allocated(int64(size) + 700)
}

// runTrace runs a trace through the store and the ideals.
func runTrace(tb testing.TB, d *Disk, bound int64, trace []int, size func(n int) int) ratios {
	body := make([]byte, 1<<20)
	hits := 0
	for _, n := range trace {
		es, err := d.Entries(context.Background(), testKey(n))
		if err != nil {
			tb.Fatal(err)
		}
		if len(es) > 0 {
			hits++
		} else {
			mustPut(tb, d, testKey(n), body[:size(n)])
		}
	}
	share := func(hits int) float64 { return float64(hits) / float64(len(trace)) }
	return ratios{share(hits), share(lruHits(trace, bound, size)), share(optimumHits(trace, bound, size))}
}

func lruHits(trace []int, bound int64, size func(int) int) (hits int) {
	var order list.List
	held := map[int]*list.Element{}
	var bytes int64
	for _, n := range trace {
		if el := held[n]; el != nil {
			hits++
			order.MoveToFront(el)
			continue
		}
		held[n] = order.PushFront(n)
		for bytes += cost(size(n)); bytes > bound; {
			old := order.Remove(order.Back()).(int)
			delete(held, old)
			bytes -= cost(size(old))
		}
	}
	return hits
}

func optimumHits(trace []int, bound int64, size func(int) int) (hits int) {
	next := make([]int, len(trace)) // when the entry is requested next
	last := map[int]int{}
	for i := len(trace) - 1; i >= 0; i-- {
		next[i] = len(trace) + trace[i] // never
		if j, ok := last[trace[i]]; ok {
			next[i] = j
		}
		last[trace[i]] = i
	}
	var far farthest
	due := map[int]int{} // entries in the cache, and their next requests
	var bytes int64
	for i, n := range trace {
		_, ok := due[n]
		if ok {
			hits++
		} else {
			bytes += cost(size(n))
		}
		due[n] = next[i]
		heap.Push(&far, use{n, next[i]})
		for bytes > bound {
			u := heap.Pop(&far).(use)
			if at, ok := due[u.key]; ok && at == u.at {
				delete(due, u.key)
				bytes -= cost(size(u.key))
			}
		}
	}
	return hits
}

type use struct{ key, at int }

// farthest is a heap of uses, the last of them on top.
type farthest []use

func (f farthest) Len() int { return len(f) }

func (f farthest) Less(i, j int) bool { return f[i].at > f[j].at }

func (f farthest) Swap(i, j int) { f[i], f[j] = f[j], f[i] }

func (f *farthest) Push(x any) { *f = append(*f, x.(use)) }

func (f *farthest) Pop() any {
	old := *f
	u := old[len(old)-1]
	*f = old[:len(old)-1]
	return u
}

func BenchmarkHitRatio(b *testing.B) {
	for _, bm := range []struct {
		name  string
		bound int64
		size  func(int) int
	}{
		{"4MiB-small", 4 << 20, func(n int) int { return 1000 }},
		{"16MiB-small", 16 << 20, func(n int) int { return 1000 }},
		{"64MiB-mixed", 64 << 20, func(n int) int { return []int{1000, 3000, 10000, 50000, 200000}[n%5] }},
	} {
		b.Run(bm.name, func(b *testing.B) {
			trace := zipfTrace(60_000)
			for b.Loop() {
				d := openTest(b, b.TempDir(), DiskOptions{MaxBytes: bm.bound})
				got := runTrace(b, d, bm.bound, trace, bm.size)
				b.ReportMetric(100*got.store, "hit-%")
				b.ReportMetric(100*got.lru, "exact-LRU-%")
				b.ReportMetric(100*got.optimum, "optimum-%")
			}
		})
	}
}
