package store

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// The cost of opening a cache, and of a process that does little else.

// BenchmarkOpenDisk opens a cache and looks one key up. With
// CACHETRIP_BENCH_MILLION set it also does so in one of a million entries,
// which takes minutes to make and 4 GiB of disk.
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

// BenchmarkShortProcesses stores 10 KiB in a cache of 8 MiB by a process of its
// own each time, which never calls Close.
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
