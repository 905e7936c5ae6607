package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/testtier"
)

func TestGrowthWords(t *testing.T) {
	for _, blocks := range []int32{0, 1, -1, 4711, math.MaxInt32, math.MinInt32} {
		want := growth{blocks, true}
		word := want.encode()
		if got := decodeGrowth(word); got != want {
			t.Errorf("%+v is read as %+v", want, got)
		}
		for bit := range 64 {
			if g := decodeGrowth(word ^ 1<<bit); g.known {
				t.Errorf("%+v with another bit %d is read as %+v", want, bit, g)
			}
		}
	}
	if decodeGrowth(0).known { // as behind the end of a truncated file
		t.Error("zeros are a word")
	}
}

// growthLosses are ways to lose the words of growth.
var growthLosses = map[string]func(path string) error{
	"removed":              os.Remove,
	"empty":                func(path string) error { return os.Truncate(path, 0) },
	"cut before the words": func(path string) error { return os.Truncate(path, growthAt) },
	"cut within the page":  func(path string) error { return os.Truncate(path, growthAt+8*shardCount/2+3) },
	"cut and extended": func(path string) error {
		return errors.Join(os.Truncate(path, growthAt+700), os.Truncate(path, countersSize))
	},
	"zeros":     func(path string) error { return errors.Join(os.Truncate(path, 0), os.Truncate(path, countersSize)) },
	"rewritten": func(path string) error { return os.WriteFile(path, pattern(3, countersSize), 0o600) },
	"one word":  func(path string) error { return writeAt(path, growthAt+8*5, 0xdead) },
	"both files": func(path string) error {
		return errors.Join(os.Remove(path), os.Remove(filepath.Join(filepath.Dir(path), "usage")))
	},
	"the usage file":        func(path string) error { return os.Remove(filepath.Join(filepath.Dir(path), "usage")) },
	"none, by another disk": func(string) error { return nil },
}

func writeAt(path string, off int64, word uint64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, word), off)
	return err
}

// TestGrowthLost has it forgotten by how much the shards of a full cache have
// grown.
func TestGrowthLost(t *testing.T) {
	bound := testtier.Pick(1<<20, 2<<20)
	for name, lose := range growthLosses {
		for _, reopen := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, %t", name, reopen), func(t *testing.T) {
				t.Parallel()
				if often := name == "removed" || name == "rewritten"; reopen != often {
					testtier.LongOnly(t, "fills a cache")
					if reopen {
						t.Skip("two of the losses are enough for this")
					}
				}
				dir := scratchDir(t)
				d := openTest(t, dir, DiskOptions{MaxBytes: int64(bound)})
				for i := range bound / 8192 {
					mustPut(t, d, testKey(i), pattern(1, 7000))
				}
				path := d.counts.path()
				if d.counts.mapping.Load() == nil {
					t.Skip("files cannot be mapped on this file system")
				}
				if err := lose(path); err != nil {
					t.Fatal(err)
				}
				if reopen {
					d = openTest(t, dir, DiskOptions{MaxBytes: int64(bound)})
				}
				var page usagePage
				// It stores while the loss is noticed, and shards are listed.
				for i := range 2 * shardCount {
					mustPut(t, d, testKey(10_000+i), make([]byte, 7000))
					if i%32 != 31 {
						continue
					}
					if err := d.readUsage(&page); err != nil {
						t.Fatal(err)
					}
					if i > shardCount/2 && page.unknown() == 0 && !testtier.Long() {
						break
					}
					if n := diskBytes(t, dir); n > int64(bound*110/100) {
						t.Fatalf("after %d stores: %.1f %% of the bound", i+1, 100*float64(n)/float64(bound))
					}
					time.Sleep(checkDirsEvery / 4)
				}
				if err := d.readUsage(&page); err != nil {
					t.Fatal(err)
				}
				if n := diskBytes(t, dir); n < int64(bound*70/100) {
					t.Errorf("%.1f %% of the bound are left: too much was evicted", 100*float64(n)/float64(bound))
				}
				if got, want := page.sum(), diskBytes(t, dir); got != want || page.unknown() > 0 {
					t.Errorf("the files are said to take %d bytes, %d shards unknown; they take %d", got, page.unknown(), want)
				}
			})
		}
	}
}

// TestGrowthUnmapped has a process that cannot map the file store and evict
// beside one that can.
func TestGrowthUnmapped(t *testing.T) {
	const bound = 1 << 20
	dir := scratchDir(t)
	opts := DiskOptions{MaxBytes: bound}
	disks := []*Disk{openTest(t, dir, opts), openTest(t, dir, opts)}
	for i := range bound / 8192 * 5 / 4 {
		disks[1].counts.mapping.Store(nil)
		disks[1].counts.checked.Store(time.Now().UnixNano())
		mustPut(t, disks[i%2], testKey(i), pattern(1, 7000))
		for _, d := range disks {
			var page usagePage
			if err := d.readUsage(&page); err != nil {
				t.Fatal(err)
			}
			if got, want := page.sum(), diskBytes(t, dir); got != want {
				t.Fatalf("after %d stores: the files are said to take %d bytes, and take %d", i+1, got, want)
			}
		}
	}
	if err := disks[1].Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := disks[0].Bytes(); n != 0 {
		t.Errorf("the empty cache is said to take %d bytes", n)
	}
}

// TestGrowthElsewhere has a cache copied to a file system where files cannot be
// mapped, whole and damaged.
func TestGrowthElsewhere(t *testing.T) {
	const bound = 1 << 20
	losses := maps.Clone(growthLosses)
	losses["a slot"] = func(path string) error {
		return writeAt(filepath.Join(filepath.Dir(path), "usage"), usageHeader+5*usageSlot, 0xdead)
	}
	for name, lose := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name != "removed" && name != "rewritten" && name != "a slot" {
				testtier.LongOnly(t, "fills a cache")
			}
			dir := scratchDir(t)
			d := openTest(t, dir, DiskOptions{MaxBytes: bound})
			for i := range bound / 8192 {
				mustPut(t, d, testKey(i), pattern(1, 7000))
			}
			for i := range 20 { // so that some shards have shrunk since they were listed
				if err := d.Update(t.Context(), testKey(i), func([]*Entry) []*Entry { return nil }); err != nil {
					t.Fatal(err)
				}
			}
			path := d.counts.path()
			d.Close()
			if err := lose(path); err != nil {
				t.Skipf("files cannot be mapped on this file system: %v", err)
			}
			d = openTest(t, dir, DiskOptions{MaxBytes: bound})
			unmap := func() {
				c := &d.counts
				c.mapping.Store(nil)
				c.off.Store(true)
				c.there.Store(!isMissing(path))
				c.checked.Store(time.Now().UnixNano())
			}
			for i := range shardCount {
				unmap()
				mustPut(t, d, testKey(10_000+i), pattern(1, 7000))
				if i%16 > 0 {
					continue
				}
				if n := diskBytes(t, dir); n > bound*110/100 || n < bound*70/100 {
					t.Fatalf("after %d stores: %.1f %% of the bound", i+1, 100*float64(n)/bound)
				}
			}
			for shard := range shardCount {
				unmap()
				if _, err := d.scan(t.Context(), shard); err != nil {
					t.Fatal(err)
				}
			}
			unmap()
			var page usagePage
			if err := d.readUsage(&page); err != nil {
				t.Fatal(err)
			}
			if got, want := page.sum(), diskBytes(t, dir); got != want || page.unknown() > 0 {
				t.Errorf("the files are said to take %d bytes, %d shards unknown; they take %d", got, page.unknown(), want)
			}
		})
	}
}

// TestGrowthSettledMeanwhile: another caller settles the growth of a shard while
// the sizes are read. None of it gets lost, whether the shard has grown or
// shrunk.
func TestGrowthSettledMeanwhile(t *testing.T) {
	for name, removes := range map[string]bool{"grown": false, "shrunk": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d, other := openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{})
			shard := shardOf(testKeyOne)
			settle := func() {
				l, err := other.lock(t.Context(), shard, lockWait)
				if err != nil {
					t.Fatal(err)
				}
				defer l.unlock()
				if err := l.settle(); err != nil {
					t.Fatal(err)
				}
			}
			mustPut(t, d, sameShard(testKeyOne, 2), pattern(1, 10_000)) // stays
			mustPut(t, d, testKeyOne, pattern(1, 10_000))
			if removes {
				settle()
				if err := d.Update(t.Context(), testKeyOne, func([]*Entry) []*Entry { return nil }); err != nil {
					t.Fatal(err)
				}
			}
			var before [shardCount]uint64
			if d.counts.mapped(&before) == nil {
				t.Skip("files cannot be mapped on this file system")
			}
			var early, late usagePage
			f, err := d.usageOpen()
			if err != nil {
				t.Fatal(err)
			}
			for _, step := range []func() error{
				func() error { return d.readUsageFrom(f, &early) },
				func() error { settle(); return nil },
				func() error { return d.readUsageFrom(f, &late) },
			} {
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			for when, page := range map[string]*usagePage{"before": &early, "after": &late} {
				d.counts.addGrowth(page, &before)
				if got, want := page.sum(), diskBytes(t, dir); got < want {
					t.Errorf("slots read %s: the files are said to take %d bytes, and take %d", when, got, want)
				}
			}
			if got, want := d.Bytes(), diskBytes(t, dir); got != want {
				t.Errorf("at last, the files are said to take %d bytes, and take %d", got, want)
			}
		})
	}
}
