package store

import (
	"os"
	"runtime/debug"
	"testing"
	"time"
)

// The usage file in memory says what the file says, whatever happens to it.
func TestUsageInMemory(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(t *testing.T, d *Disk, path string)
		mapped bool // the file is still read in memory
	}{
		"nothing": {func(*testing.T, *Disk, string) {}, true},
		"another store lists a shard": {func(t *testing.T, d *Disk, _ string) {
			other := openTest(t, d.dir, DiskOptions{})
			mustPut(t, other, testKey(1), pattern(1, 10_000))
			if _, err := other.scan(t.Context(), shardOf(testKey(1))); err != nil {
				t.Error(err)
			}
		}, true},
		"it is overwritten": {func(t *testing.T, _ *Disk, path string) {
			b := make([]byte, usageSize)
			b[0], b[usageSize-1] = 1, 2
			overwrite(t, path, b)
		}, true},
		"it is truncated": {func(t *testing.T, _ *Disk, path string) {
			if err := os.Truncate(path, 100); err != nil {
				t.Fatal(err)
			}
		}, false},
		"it is removed": {func(t *testing.T, d *Disk, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * lookEvery)
			mustPut(t, d, testKey(2), pattern(1, 1000))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := openTest(t, t.TempDir(), DiskOptions{})
			if !mappable(d.root) {
				t.Skip("the file is not mapped here")
			}
			mustPut(t, d, testKey(1), pattern(1, 1000))
			var got, want usagePage
			if err := d.readUsage(&got); err != nil {
				t.Fatal(err)
			}
			path := d.usage.path
			tt.change(t, d, path)
			f, err := d.usageOpen()
			if err != nil {
				t.Fatal(err)
			}
			if err := d.readUsageFrom(f, &got); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			copy(want[:], b)
			if err != nil || got != want {
				t.Errorf("the file in memory differs from the file, %v", err)
			}
			if mapped := d.readMapped(f, &got); mapped != tt.mapped {
				t.Errorf("it is read in memory: %t, want %t", mapped, tt.mapped)
			}
			if debug.SetPanicOnFault(false) {
				t.Error("every fault is a panic from now on")
			}
			mustPut(t, d, testKey(3), pattern(1, 1000))
			checkStatus(t, d, testKey(3), 200)
		})
	}
}
