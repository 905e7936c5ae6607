package store

import (
	"container/heap"
	"container/list"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"
)

func testKey(n int) string {
	return fmt.Sprintf("%016x%048x", uint64(n+1)*0x9e3779b97f4a7c15, n)
}

// sameShard returns the n-th further key of the shard of key.
func sameShard(key string, n int) string {
	return key[:2] + testKey(n)[2:]
}

func testHead(key string) *Entry {
	return &Entry{
		Key: key, URL: "https://api.example.com/v1/things/42", Method: "GET", Status: 200, Proto: "HTTP/2.0",
		Header: http.Header{
			"Cache-Control": {"private, max-age=60, s-maxage=60"}, "Content-Type": {"application/json; charset=utf-8"},
			"Date": {"Tue, 06 May 2031 07:08:09 GMT"}, "Etag": {`W/"644b5b0155e6404a9cc4bd9d8b1ae730"`},
			"Vary": {"Accept, Authorization, Cookie, Accept-Encoding"}, "X-Ratelimit-Remaining": {"4999"},
			"X-Request-Id": {"C0FF:12AB:345678:9ABCDE:66388888"}, "Server": {"example"},
		},
		Selecting:   map[string]string{"Accept": "application/json"},
		RequestTime: time.Unix(1900000000, 5).UTC(), ResponseTime: time.Unix(1900000000, 9).UTC(),
	}
}

// openTest opens a cache for a test or benchmark.
func openTest(tb testing.TB, dir string, opts DiskOptions) *Disk {
	tb.Helper()
	d, err := OpenDisk(dir, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { d.Close() })
	return d
}

// putBody replaces the entries of key by an entry with a body.
func putBody(s Store, key string, body []byte) error {
	ctx := context.Background()
	draft, err := s.Create(ctx, key, int64(len(body)))
	if err != nil {
		return err
	}
	defer draft.Close()
	if _, err := draft.Write(body); err != nil {
		return err
	}
	blob, err := draft.Commit()
	if err != nil {
		return err
	}
	e := testHead(key)
	e.Length = blob.Size
	e.Parts = []Part{{Length: blob.Size, Blob: blob}}
	return s.Update(ctx, key, func([]*Entry) []*Entry { return []*Entry{e} })
}

func mustPut(tb testing.TB, s Store, key string, body []byte) {
	tb.Helper()
	if err := putBody(s, key, body); err != nil {
		tb.Fatal(err)
	}
}

// The least that a file system does for a hit, to compare with.
func BenchmarkLimitOpenRead1K(b *testing.B) {
	path := filepath.Join(b.TempDir(), "f")
	os.WriteFile(path, make([]byte, 1024), 0o600)
	buf := make([]byte, 1024)
	for b.Loop() {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		f.Stat()
		f.ReadAt(buf, 0)
		f.Close()
	}
}

func BenchmarkEntries(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10} {
		for _, bm := range []struct {
			name   string
			memory int64
		}{{"hot", 0}, {"cold", -1}} {
			b.Run(fmt.Sprintf("%s/%dK", bm.name, size>>10), func(b *testing.B) {
				d := openTest(b, b.TempDir(), DiskOptions{MemoryBytes: bm.memory})
				mustPut(b, d, testKey(1), make([]byte, size))
				time.Sleep(30 * time.Millisecond)
				b.ReportAllocs()
				for b.Loop() {
					if es, err := d.Entries(b.Context(), testKeyOne); err != nil || len(es) != 1 {
						b.Fatal(es, err)
					}
				}
			})
		}
	}
}

var testKeyOne = testKey(1)

func BenchmarkMemoryHit1K(b *testing.B) {
	m := NewMemory(0)
	mustPut(b, m, testKeyOne, make([]byte, 1024))
	buf := make([]byte, 1024)
	b.ReportAllocs()
	for b.Loop() {
		es, _ := m.Entries(b.Context(), testKeyOne)
		body, err := m.Open(b.Context(), testKeyOne, es[0].Parts[0].Blob)
		if err != nil {
			b.Fatal(err)
		}
		body.ReadAt(buf, 0)
		body.Close()
	}
}

func BenchmarkReadBody(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20, 64 << 20} {
		b.Run(fmt.Sprintf("%dK", size>>10), func(b *testing.B) {
			d := openTest(b, b.TempDir(), DiskOptions{})
			mustPut(b, d, testKeyOne, make([]byte, size))
			time.Sleep(30 * time.Millisecond)
			buf := make([]byte, 256<<10)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				es, _ := d.Entries(b.Context(), testKeyOne)
				body, err := d.Open(b.Context(), testKeyOne, es[0].Parts[0].Blob)
				if err != nil {
					b.Fatal(err)
				}
				for off := 0; off < size; off += len(buf) {
					if _, err := body.ReadAt(buf, int64(off)); err != nil && err != io.EOF {
						b.Fatal(err)
					}
				}
				body.Close()
			}
		})
		b.Run(fmt.Sprintf("limit/%dK", size>>10), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "f")
			f, _ := os.Create(path)
			buf := make([]byte, 256<<10)
			for off := 0; off < size; off += len(buf) {
				f.Write(buf[:min(len(buf), size-off)])
			}
			f.Close()
			b.SetBytes(int64(size))
			for b.Loop() {
				f, _ := os.Open(path)
				f.Stat()
				for off := 0; off < size; off += len(buf) {
					f.ReadAt(buf, int64(off))
				}
				f.Close()
			}
		})
	}
}

func BenchmarkFreshen(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 20} {
		b.Run(fmt.Sprintf("%dK", size>>10), func(b *testing.B) {
			d := openTest(b, b.TempDir(), DiskOptions{})
			mustPut(b, d, testKeyOne, make([]byte, size))
			b.ReportAllocs()
			for b.Loop() {
				err := d.Update(b.Context(), testKeyOne, func(es []*Entry) []*Entry {
					e := es[0].Clone()
					e.ResponseTime = time.Now()
					return []*Entry{e}
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkStore(b *testing.B) {
	for _, size := range []int{1 << 10, 32 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dK", size>>10), func(b *testing.B) {
			d := openTest(b, b.TempDir(), DiskOptions{MaxBytes: 8 << 30})
			body := make([]byte, size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			n := 0
			for b.Loop() {
				n++
				mustPut(b, d, testKey(n%1000), body)
			}
		})
	}
}

// delays are how much processor time something took, each time. Wall clock time
// says more about the load of the machine.
type delays []time.Duration

// report reports the median, high percentiles and the worst, in microseconds.
func (ds delays) report(b *testing.B) {
	slices.Sort(ds)
	for name, at := range map[string]int{"p50-cpu-µs": len(ds) / 2, "p99-cpu-µs": len(ds) * 99 / 100, "p99.9-cpu-µs": len(ds) * 999 / 1000, "worst-cpu-µs": len(ds) - 1} {
		b.ReportMetric(float64(ds[at].Nanoseconds())/1000, name)
	}
}

// BenchmarkChurn stores 4 KiB bodies through a bound of 64 MiB. Its worst has to be seen beside that of
// BenchmarkLimitCreateRename4K.
func BenchmarkChurn(b *testing.B) {
	d := openTest(b, b.TempDir(), DiskOptions{MaxBytes: 64 << 20})
	body := make([]byte, 3000)
	n := 0
	for range 20000 {
		n++
		mustPut(b, d, testKey(n), body)
	}
	b.ReportAllocs()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var took delays
	for b.Loop() {
		n++
		start := threadTime()
		mustPut(b, d, testKey(n), body)
		took = append(took, threadTime()-start)
	}
	took.report(b)
	u, _ := d.Usage(b.Context())
	b.ReportMetric(float64(u.Bytes)/(64<<20), "bound")
}

// BenchmarkLargeShards stores in a full cache. Some of its shards have as many
// files as each shard of a cache with a million entries. One of them is due to
// be listed all the time.
func BenchmarkLargeShards(b *testing.B) {
	const shards, files = 8, 4000
	dir := b.TempDir()
	d := openTest(b, dir, DiskOptions{MaxBytes: 1 << 30})
	n := 0
	for ; n < shards*files; n++ {
		mustPut(b, d, shardName(n%shards)+testKey(n)[2:], make([]byte, 1000))
	}
	d = openTest(b, dir, DiskOptions{MaxBytes: shards * files * 4096})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var took delays
	var page usagePage
	listings := -1
	for b.Loop() {
		if n++; n%10 == 0 {
			if err := d.readUsage(&page); err != nil {
				b.Fatal(err)
			}
			if page.due(0, time.Now()) < 0 { // as if an hour had passed for one of them
				if err := stampListed(d, rand.IntN(shards), 0); err != nil {
					b.Fatal(err)
				}
				listings++
			}
			d.evictor.survey.rest = time.Time{}
		}
		start := threadTime()
		mustPut(b, d, testKey(n), make([]byte, 1000))
		took = append(took, threadTime()-start)
	}
	took.report(b)
	b.ReportMetric(float64(listings), "listings")
	u, _ := d.Usage(b.Context())
	b.ReportMetric(float64(u.Bytes)/(shards*files*4096), "bound")
}

// stampListed notes when a shard was listed.
func stampListed(d *Disk, shard int, at uint32) error {
	var page usagePage
	return d.inShard(context.Background(), shard, &page, func(l *locked) error {
		s := page.slot(shard)
		s.listed = at
		return l.setSlot(s, &page)
	})
}

func BenchmarkLimitCreateRename4K(b *testing.B) {
	dir := b.TempDir()
	body := make([]byte, 4096)
	n := 0
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var took delays
	for b.Loop() {
		n++
		start := threadTime()
		tmp := filepath.Join(dir, "tmp")
		os.WriteFile(tmp, body, 0o600)
		if err := os.Rename(tmp, filepath.Join(dir, testKey(n%16384))); err != nil {
			b.Fatal(err)
		}
		took = append(took, threadTime()-start)
	}
	took.report(b)
}

// BenchmarkOpenDisk opens a cache and looks one key up. With CACHETRIP_BENCH_MILLION set it also does so in one of a
// million entries, which takes minutes to make and 4 GiB of disk.
func BenchmarkOpenDisk(b *testing.B) {
	counts := []int{10, 10_000}
	if os.Getenv("CACHETRIP_BENCH_MILLION") != "" {
		counts = append(counts, 1_000_000)
	}
	for _, entries := range counts {
		b.Run(fmt.Sprint(entries), func(b *testing.B) {
			dir := filledDir(b, entries)
			b.Run("hit", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					d, err := OpenDisk(dir, millionOptions)
					if err != nil {
						b.Fatal(err)
					}
					if es, err := d.Entries(b.Context(), testKeyOne); err != nil || len(es) != 1 {
						b.Fatal(es, err)
					}
					d.Close()
				}
			})
			b.Run("store", func(b *testing.B) {
				b.ReportAllocs()
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				var took delays
				for b.Loop() {
					start := threadTime()
					d, err := OpenDisk(dir, millionOptions)
					if err != nil {
						b.Fatal(err)
					}
					mustPut(b, d, testKeyOne, make([]byte, 100))
					d.Close()
					took = append(took, threadTime()-start)
				}
				took.report(b)
			})
			b.Run("store-and-evict", func(b *testing.B) {
				d := openTest(b, dir, millionOptions)
				u, err := d.Usage(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				full := DiskOptions{MaxBytes: max(u.Bytes, 4<<20)} // so that each that is added pushes one out
				b.ReportAllocs()
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				var took delays
				n := entries
				for b.Loop() {
					n++
					start := threadTime()
					d, err := OpenDisk(dir, full)
					if err != nil {
						b.Fatal(err)
					}
					mustPut(b, d, testKey(n), make([]byte, 100))
					d.Close()
					took = append(took, threadTime()-start)
				}
				took.report(b)
			})
		})
	}
}

var millionOptions = DiskOptions{MaxBytes: 16 << 30}

// filledDir returns a cache with so many entries.
func filledDir(b *testing.B, entries int) string {
	dir := b.TempDir()
	d := openTest(b, dir, millionOptions)
	for i := range entries {
		mustPut(b, d, testKey(i), make([]byte, 100))
	}
	return dir
}

// BenchmarkShortProcesses stores 10 KiB in a cache of 8 MiB by a process of its own each time, which never calls Close.
func BenchmarkShortProcesses(b *testing.B) {
	if runtime.GOOS == "windows" {
		b.Skip("no processes are started there")
	}
	dir := b.TempDir()
	d := openTest(b, dir, DiskOptions{MaxBytes: shortBound})
	for i := range 700 {
		mustPut(b, d, testKey(i), make([]byte, 10_000))
	}
	d.Close()
	var most int64
	n := 0
	for b.Loop() {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CACHETRIP_TEST_CHILD=short", "CACHETRIP_TEST_CHILD_DIR="+dir, "CACHETRIP_TEST_CHILD_KEY="+testKey(1000+n))
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		if n++; n%10 == 0 {
			most = max(most, diskBytes(b, dir))
		}
	}
	b.ReportMetric(100*float64(max(most, diskBytes(b, dir)))/shortBound, "most-%-of-bound")
	b.ReportMetric(100*float64(diskBytes(b, dir))/shortBound, "end-%-of-bound")
}

const shortBound = 8 << 20

// childShort stores one key and ends.
func childShort(dir string) error {
	d, err := OpenDisk(dir, DiskOptions{MaxBytes: shortBound})
	if err != nil {
		return err
	}
	return putBody(d, os.Getenv("CACHETRIP_TEST_CHILD_KEY"), make([]byte, 10_000))
}

// ratios are the hit ratios of a trace in the store and in two ideal caches of
// the same size. One is exact LRU. The other is Belady's offline optimum, which
// knows the trace and evicts the entry whose next use is farthest. For bodies
// of different sizes the latter is a good solution and not the best, which is
// as hard to find as packing.
type ratios struct{ store, lru, optimum float64 }

// zipfTrace is a trace of requests for 20000 keys of Zipf's popularity, which hardly differs from that seen by proxies.
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

func (f farthest) Len() int           { return len(f) }
func (f farthest) Less(i, j int) bool { return f[i].at > f[j].at }
func (f farthest) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }
func (f *farthest) Push(x any)        { *f = append(*f, x.(use)) }
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
func BenchmarkPublish(b *testing.B) {
	d := openTest(b, b.TempDir(), DiskOptions{})
	key := testKey(1)
	mustPut(b, d, key, pattern(1, 1000))
	publish := func(b *testing.B, give func(l *locked, temp string) error) {
		l, err := d.lock(b.Context(), shardOf(key), lockWait)
		if err != nil {
			b.Fatal(err)
		}
		defer l.unlock()
		content := pattern(2, 1000)
		for b.Loop() {
			const temp = "x" + tempSuffix
			if err := l.dir.create(temp, content, new(written)); err != nil {
				b.Fatal(err)
			}
			if err := give(l, temp); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("rename", func(b *testing.B) {
		publish(b, func(l *locked, temp string) error { return l.dir.rename(temp, testKey(2)) })
	})
	b.Run("Import", func(b *testing.B) {
		publish(b, func(l *locked, temp string) error {
			return d.dv.Import(filepath.Join(d.shardDir(shardOf(key)), temp), testKey(2), true)
		})
	})
	b.Run("whole=replaced metadata", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			if err := d.Update(b.Context(), key, func(es []*Entry) []*Entry {
				e := testHead(key)
				e.Status = 200 + i%2
				return []*Entry{e}
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("whole=body of 1 MiB", func(b *testing.B) {
		body := pattern(3, 1<<20)
		for b.Loop() {
			mustPut(b, d, key, body)
		}
	})
}
