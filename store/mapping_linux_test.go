package store

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Where the file of counters can be mapped, and for how long.

// The file stays mapped while it is used, and no longer.
func TestCountersAreUnmapped(t *testing.T) {
	dir := t.TempDir()
	mapped := func() int {
		b, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Skip(err)
		}
		return strings.Count(string(b), dir)
	}
	for i := range 10 {
		d, err := OpenDisk(dir, DiskOptions{})
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, d, testKey(1), pattern(1, 1000))
		mustTrust(t, d, testKey(1))
		if mapped() == 0 {
			t.Fatal("the file of the counters is not mapped")
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 1000 {
					d.counts.value(1, time.Now().UnixNano())
					d.counts.add(1)
				}
			})
		}
		if i%2 == 0 {
			d.Close()
		}
		runtime.GC()
		wg.Wait()
	}
	if !eventually(func() bool { runtime.GC(); return mapped() == 0 }) {
		t.Errorf("%d mappings are left of stores that nobody uses", mapped())
	}
}

// On a full disk the file cannot be made, and look-ups ask the system.
func TestNoSpaceForCounters(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			dir := smallDisk(t, kind, 4)
			cache := filepath.Join(dir, "cache")
			d, other := openTest(t, cache, DiskOptions{}), openTest(t, cache, DiskOptions{})
			key := testKey(1)
			mustPut(t, d, key, pattern(1, 1000))
			os.Remove(d.counts.path())
			d.counts.suspect()
			other.counts.suspect()
			fillDisk(t, filepath.Join(dir, "filler"))
			if m := d.counts.current(time.Now().UnixNano()); m != nil {
				t.Error("counters were made on a full disk")
			}
			for range 10 {
				checkStatus(t, d, key, 200)
			}
			other.retract(t.Context(), key, func([]*Entry) []*Entry { return nil })
			checkStatus(t, d, key, 0)
			if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(lookEvery)
			mustPut(t, d, key, pattern(1, 1000))
			mustTrust(t, other, key)
			// A mapped file of counters needs no more space.
			fillDisk(t, filepath.Join(dir, "filler"))
			for i := range counterCount {
				if v := d.counts.add(i); v == 0 {
					t.Fatalf("counter %d cannot be changed on a full disk", i)
				}
			}
		})
	}
}

// Where files cannot be mapped, look-ups find the same.
func TestUnmappable(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("ramfs", dir, "ramfs", 0, ""); err != nil {
		t.Skipf("only root may mount: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	d, other := openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{})
	key := testKey(1)
	mustPut(t, d, key, pattern(1, 1000))
	for status := range 20 {
		checkStatus(t, d, key, 200+status)
		if err := freshen(other, key, 201+status); err != nil {
			t.Fatal(err)
		}
	}
	if d.counts.mapping.Load() != nil || !d.counts.off.Load() {
		t.Error("counters are used on a file system that nobody has checked")
	}
	if _, err := os.Lstat(d.counts.path()); err == nil {
		t.Error("counters were made that nobody uses")
	}
}

// Containers have their files on an overlay.
func TestCountersOnOverlay(t *testing.T) {
	layers := smallDisk(t, "tmpfs", 16)
	var dirs [4]string
	for i, name := range []string{"lower", "upper", "work", "merged"} {
		dirs[i] = filepath.Join(layers, name)
		os.Mkdir(dirs[i], 0o700)
	}
	below := openTest(t, dirs[0], DiskOptions{})
	key := testKey(1)
	mustPut(t, below, key, pattern(1, 1000))
	below.Close()
	if err := syscall.Mount("overlay", dirs[3], "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dirs[0], dirs[1], dirs[2])); err != nil {
		t.Skipf("no overlay can be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dirs[3], syscall.MNT_DETACH) })
	d, other := openTest(t, dirs[3], DiskOptions{}), openTest(t, dirs[3], DiskOptions{MemoryBytes: -1})
	for status := 200; status < 220; status++ {
		it := mustTrust(t, d, key)
		checkStatus(t, d, key, status)
		if err := freshen(other, key, status+1); err != nil {
			t.Fatal(err)
		}
		if it.count.Load() == d.counts.value(it.counter, time.Now().UnixNano()) {
			t.Error("a change was not counted")
		}
	}
}
