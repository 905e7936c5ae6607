package store

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"
)

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

// report reports the mean, the median, high percentiles and the worst, in
// microseconds.
func (ds delays) report(b *testing.B) {
	slices.Sort(ds)
	var sum time.Duration
	for _, took := range ds {
		sum += took
	}
	b.ReportMetric(float64(sum.Nanoseconds())/1000/float64(len(ds)), "mean-cpu-µs")
	for name, at := range map[string]int{"p50-cpu-µs": len(ds) / 2, "p99-cpu-µs": len(ds) * 99 / 100, "p99.9-cpu-µs": len(ds) * 999 / 1000, "worst-cpu-µs": len(ds) - 1} {
		b.ReportMetric(float64(ds[at].Nanoseconds())/1000, name)
	}
}

// BenchmarkChurn stores 4 KiB bodies through a bound of 64 MiB. Its worst has
// to be seen beside that of BenchmarkLimitCreateRename4K.
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
		publish(b, func(l *locked, temp string) error { return l.dir.rename(temp, testKey(2), new(written)) })
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
