package store

import (
	"container/list"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"
)

func testKey(n int) string {
	return fmt.Sprintf("%016x%048x", uint64(n+1)*0x9e3779b97f4a7c15, n)
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

// putBody stores an entry with a body under key, in place of what is there.
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

// delays are how much processor time something took, each time. The time by the clock says more of what else runs.
type delays []time.Duration

// report reports the median, the 99.9th percentile and the worst, in microseconds.
func (ds delays) report(b *testing.B) {
	slices.Sort(ds)
	for name, at := range map[string]int{"p50-cpu-µs": len(ds) / 2, "p99.9-cpu-µs": len(ds) * 999 / 1000, "worst-cpu-µs": len(ds) - 1} {
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

func BenchmarkOpenDisk(b *testing.B) {
	for _, entries := range []int{10, 10_000} {
		b.Run(fmt.Sprint(entries), func(b *testing.B) {
			dir := b.TempDir()
			d := openTest(b, dir, DiskOptions{})
			for i := range entries {
				mustPut(b, d, testKey(i), make([]byte, 100))
			}
			b.ReportAllocs()
			for b.Loop() {
				d, err := OpenDisk(dir, DiskOptions{})
				if err != nil {
					b.Fatal(err)
				}
				if es, err := d.Entries(b.Context(), testKeyOne); err != nil || len(es) != 1 {
					b.Fatal(es, err)
				}
				d.Close()
			}
		})
	}
}

// lruTrace runs a Zipf trace through the store and through an exact LRU of as many bytes.
func lruTrace(tb testing.TB, d *Disk, bound int64, requests int, size func(n int) int) (got, exact float64) {
	r := rand.New(rand.NewPCG(1, 2))
	z := rand.NewZipf(r, 1.05, 4, 20000)
	body := make([]byte, 1<<20)
	var order list.List
	held := map[int]*list.Element{}
	var bytes int64
	cost := func(n int) int64 {
		if s := size(n); s > inlineMax {
			return 4096 + allocated(bodyFileSize(int64(s)))
		}
		return allocated(int64(size(n)) + 700)
	}
	var hits, ideal int
	for range requests {
		n := int(z.Uint64())
		es, err := d.Entries(context.Background(), testKey(n))
		if err != nil {
			tb.Fatal(err)
		}
		if len(es) > 0 {
			hits++
		} else {
			mustPut(tb, d, testKey(n), body[:size(n)])
		}
		if el := held[n]; el != nil {
			ideal++
			order.MoveToFront(el)
			continue
		}
		held[n] = order.PushFront(n)
		for bytes += cost(n); bytes > bound; {
			old := order.Remove(order.Back()).(int)
			delete(held, old)
			bytes -= cost(old)
		}
	}
	return float64(hits) / float64(requests), float64(ideal) / float64(requests)
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
			for b.Loop() {
				d := openTest(b, b.TempDir(), DiskOptions{MaxBytes: bm.bound})
				got, exact := lruTrace(b, d, bm.bound, 60_000, bm.size)
				b.ReportMetric(100*got, "hit-%")
				b.ReportMetric(100*exact, "exact-LRU-%")
			}
		})
	}
}
