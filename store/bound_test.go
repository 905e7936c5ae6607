package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/testtier"
)

// TestBound has the cache churn, by one store and by many short-lived ones, and
// looks at its size all the time.
func TestBound(t *testing.T) {
	t.Parallel()
	const (
		bound   = 4 << 20
		largest = bound/bodyShare - 100_000
	)
	for _, tt := range []struct {
		name    string
		reopen  int // stores per opened Disk
		workers int
	}{
		{"one daemon", 1 << 30, 1},
		{"short-lived processes", 1, 1},
		{"concurrent", 50, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := scratchDir(t)
			var wg sync.WaitGroup
			var storing sync.RWMutex // nothing changes while files are counted
			for w := range tt.workers {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(3, uint64(w)))
					var d *Disk
					for i := range testtier.Pick(200, 800) / tt.workers {
						if i%tt.reopen == 0 {
							var err error
							if d, err = OpenDisk(dir, DiskOptions{MaxBytes: bound}); err != nil {
								t.Error(err)
								return
							}
							// It is not closed, as in a process that ends.
							t.Cleanup(func() { d.Close() })
						}
						size := []int{100, 3000, 15_000, 40_000, 150_000}[r.IntN(5)]
						if r.IntN(50) == 0 {
							size = largest
						}
						storing.RLock()
						key := testKey(r.IntN(4000))
						err := patiently(func() error { return putBody(d, key, make([]byte, size)) })
						storing.RUnlock()
						if err != nil && !errors.Is(err, ErrTooLarge) {
							t.Errorf("storing: %v", err)
						}
						if i%8 != 0 { // counting takes longer than storing
							continue
						}
						storing.Lock()
						n := diskBytes(t, dir)
						storing.Unlock()
						if n > bound*110/100 {
							t.Errorf("after %d stores: %d bytes, which is %.1f %% of the bound", i, n, 100*float64(n)/bound)
							return
						}
					}
				})
			}
			wg.Wait()
			d := openTest(t, dir, DiskOptions{MaxBytes: bound})
			// Even exact LRU may evict a body of that size to free a few bytes.
			if n := diskBytes(t, dir); n < bound*95/100-largest {
				t.Errorf("%d bytes in the end, which is %.1f %% of the bound: too much is evicted", n, 100*float64(n)/bound)
			}
			if got, want := d.Bytes(), diskBytes(t, dir); got != want || d.MaxBytes() != bound {
				t.Errorf("Bytes returns %d of at most %d, the files take %d of at most %d", got, d.MaxBytes(), want, bound)
			}
		})
	}
}

// TestBoundWithoutUsage has it forgotten how much a full cache takes.
func TestBoundWithoutUsage(t *testing.T) {
	t.Parallel()
	bound := testtier.Pick(1<<20, 4<<20)
	for name, lose := range map[string]func(path string) error{
		"removed":   os.Remove,
		"empty":     func(path string) error { return os.Truncate(path, 0) },
		"torn":      func(path string) error { return os.Truncate(path, usageSize/2+3) },
		"zeros":     func(path string) error { return errors.Join(os.Truncate(path, 0), os.Truncate(path, usageSize)) },
		"rewritten": func(path string) error { return os.WriteFile(path, pattern(3, usageSize), 0o600) },
	} {
		for _, size := range []int{3000, bound/bodyShare - 1000} {
			for _, reopen := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %d bytes, %t", name, size, reopen), func(t *testing.T) {
					t.Parallel()
					if small := size == 3000; small != reopen || !small && name != "removed" {
						testtier.LongOnly(t, "fills a cache")
					}
					dir := scratchDir(t)
					d := openTest(t, dir, DiskOptions{MaxBytes: int64(bound)})
					for i := range bound / 8192 * 11 / 10 {
						mustPut(t, d, testKey(i), pattern(1, 7000))
					}
					if n := diskBytes(t, dir); n < int64(bound*90/100) {
						t.Fatalf("only %d bytes to begin with", n)
					}
					if err := lose(filepath.Join(dir, version, "usage")); err != nil {
						t.Fatal(err)
					}
					// A store that notices the loss midway may evict two large bodies for one.
					least := int64(bound * 70 / 100)
					if size > 3000 {
						least -= int64(size)
					}
					for i := range 40 {
						if reopen {
							d = openTest(t, dir, DiskOptions{MaxBytes: int64(bound)})
						}
						mustPut(t, d, testKey(10_000+i), make([]byte, size))
						n := diskBytes(t, dir)
						percent := 100 * float64(n) / float64(bound)
						if percent > 110 {
							t.Fatalf("after %d stores: %d bytes, which is %.1f %% of the bound", i+1, n, percent)
						}
						if i == 39 {
							least = int64(bound * 70 / 100)
						}
						if n < least {
							t.Fatalf("after %d stores: %.1f %% of the bound are left: too much is evicted", i+1, percent)
						}
					}
					var page usagePage
					for i := range shardCount { // each lists some shards, as many as there is time for
						if err := d.readUsage(&page); err != nil {
							t.Fatal(err)
						}
						if page.unknown() == 0 {
							break
						}
						mustPut(t, d, testKey(20_000+i), make([]byte, 3000))
					}
					if got, want := page.sum(), diskBytes(t, dir); got != want || page.unknown() > 0 {
						t.Errorf("usage says %d bytes, the files take %d", got, want)
					}
				})
			}
		}
	}
}

func TestDraftsAreWithinTheBound(t *testing.T) {
	const bound = 8 << 20
	t.Parallel()
	dir := scratchDir(t)
	d := openTest(t, dir, DiskOptions{MaxBytes: bound})
	for i := range testtier.Pick(200, 500) {
		mustPut(t, d, testKey(1000+i), make([]byte, 3000))
	}
	var drafts []Draft
	refused := 0
	for i := range 12 {
		draft, err := d.Create(t.Context(), testKey(i), -1)
		if err != nil {
			t.Fatal(err)
		}
		drafts = append(drafts, draft)
		for range 15 {
			if _, err := draft.Write(make([]byte, 100_000)); err != nil {
				if !errors.Is(err, ErrTooLarge) {
					t.Errorf("Write: %v", err)
				}
				refused++
				break
			}
			if n := diskBytes(t, dir); n > bound*110/100 {
				t.Fatalf("%d bytes, which is %.1f %% of the bound", n, 100*float64(n)/bound)
			}
		}
	}
	if refused == 0 {
		t.Error("12 drafts of 1.5 MB fit into 8 MiB")
	}
	for _, draft := range drafts {
		draft.Close()
	}
	if err := putBody(d, testKey(1), make([]byte, 1<<20)); err != nil {
		t.Errorf("after all drafts are closed: %v", err)
	}
	var page usagePage
	d.readUsage(&page)
	if got, want := page.sum(), diskBytes(t, dir); got != want {
		t.Errorf("usage says %d bytes, the files take %d", got, want)
	}
}

func TestTooLarge(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{MaxBytes: 4 << 20})
	if _, err := d.Create(t.Context(), testKey(1), 1<<20+1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Create of more than a quarter of the bound: %v, want ErrTooLarge", err)
	}
	draft, err := d.Create(t.Context(), testKey(1), -1)
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Close()
	draft.Write(pattern(1, 1<<20))
	if _, err := draft.Write([]byte{1}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Write of more than a quarter of the bound: %v, want ErrTooLarge", err)
	}
	got := make([]byte, 1<<20)
	if n, err := draft.ReadAt(got, 0); n != len(got) || !bytes.Equal(got, pattern(1, 1<<20)) {
		t.Errorf("the bytes written before are not readable: %d, %v", n, err)
	}
	if _, err := draft.Commit(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Commit: %v, want ErrTooLarge", err)
	}
}

func TestHitRatio(t *testing.T) {
	t.Parallel()
	const bound = 4 << 20
	d := openTest(t, scratchDir(t), DiskOptions{MaxBytes: bound})
	got := runTrace(t, d, bound, zipfTrace(testtier.Pick(3000, 8000)), func(n int) int { return []int{1000, 9000}[n%2] })
	t.Logf("hit ratio %.1f %%, exact LRU %.1f %%, offline optimum %.1f %%", 100*got.store, 100*got.lru, 100*got.optimum)
	if got.store < got.lru-0.03 {
		t.Errorf("hit ratio %.1f %%, more than 3 points below exact LRU's %.1f %%", 100*got.store, 100*got.lru)
	}
	if got.lru > got.optimum {
		t.Errorf("exact LRU hits %.1f %%, the optimum %.1f %%", 100*got.lru, 100*got.optimum)
	}
	if d.Evictions() == 0 {
		t.Error("no evictions counted")
	}
}

// TestLargeShard has so many keys in one shard that only samples of it are
// looked at.
func TestLargeShard(t *testing.T) {
	t.Parallel()
	dir := scratchDir(t)
	d := openTest(t, dir, DiskOptions{})
	const keys = 6 * sampleAll
	key := func(i int) string { return "ab" + testKey(i)[2:] }
	for i := range keys {
		mustPut(t, d, key(i), make([]byte, 100+20_000*((i+2)%5/4))) // some with a body in a file of its own
	}
	now := time.Now()
	for i := range keys {
		at := now.Add(time.Duration(i-keys) * time.Minute)
		if err := os.Chtimes(d.path(key(i)), at, at); err != nil {
			t.Fatal(err)
		}
	}
	before := diskBytes(t, dir)
	if err := d.EvictTo(t.Context(), before*2/3); err != nil {
		t.Fatal(err)
	}
	if n := diskBytes(t, dir); n > before*2/3 || n < before*6/10 {
		t.Errorf("EvictTo two thirds of %d bytes left %d", before, n)
	}
	var kept [4]int // by age, the oldest quarter first
	for i := range keys {
		es := mustEntries(t, d, key(i))
		kept[i*4/keys] += len(es)
		for _, e := range es {
			if _, err := readBody(d, e); err != nil {
				t.Error(err)
			}
		}
	}
	if kept[0] > keys/4/3 || kept[3] < keys/4*9/10 { // samples are random
		t.Errorf("by age, of %d each, %v are left", keys/4, kept)
	}
	var page usagePage
	if err := d.readUsage(&page); err != nil {
		t.Fatal(err)
	}
	if got, want := page.sum(), diskBytes(t, dir); got != want {
		t.Errorf("usage says %d bytes, the files take %d", got, want)
	}
}

func TestManyDraftsTakeLittleMemory(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	var drafts []Draft
	for i := range 300 {
		draft, err := d.Create(t.Context(), testKey(i), -1)
		if err != nil {
			t.Fatal(err)
		}
		defer draft.Close()
		drafts = append(drafts, draft)
	}
	for range 10 {
		for _, draft := range drafts {
			if _, err := draft.Write(make([]byte, 20_000)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := d.staging.Load(); n > stagingMax+300*stagingMin {
		t.Errorf("300 drafts gather %d bytes in memory, want %d at most", n, stagingMax+300*stagingMin)
	}
	for _, draft := range drafts {
		if _, err := draft.Commit(); err != nil {
			t.Fatal(err)
		}
		draft.Close()
	}
	if n := d.staging.Load(); n != 0 {
		t.Errorf("%d bytes are counted as gathered after all drafts were closed", n)
	}
}
