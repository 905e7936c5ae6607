package store

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/testtier"
)

// openVersion opens the files of a version of the format. A version other than
// this one's stands for a later one, which this package knows nothing about, or
// for an earlier one.
func openVersion(t *testing.T, name, dir string) *Disk {
	t.Helper()
	d := newDiskOf(name, dir, DiskOptions{MemoryBytes: -1})
	if err := d.makeLayout(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// age sets the times of all files below a directory.
func age(t *testing.T, dir string, by time.Duration) {
	t.Helper()
	at := time.Now().Add(-by)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chtimes(path, at, at)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestVersionsBesideEachOther: a program with one version of the format works
// for a long time in a directory in which another version was used. It removes
// nothing that was used within days, and all of it later.
func TestVersionsBesideEachOther(t *testing.T) {
	for _, test := range []struct {
		name    string
		prepare func(t *testing.T, d *Disk, root string) // d is open, and its files are old
		kept    bool
		locks   bool // that tell whether a process uses the files
	}{
		{"used a day ago", func(t *testing.T, d *Disk, root string) {
			d.Close()
			age(t, root, 24*time.Hour)
		}, true, false},
		{"used a week ago", func(t *testing.T, d *Disk, root string) {
			d.Close()
			age(t, root, 7*24*time.Hour)
		}, true, false},
		{"hits alone", func(t *testing.T, d *Disk, root string) {
			age(t, root, unusedAfter+time.Hour)
			d.inUse.Store(0) // a day has passed
			seldomUsed(d)
			mustEntries(t, d, testKey(1))
			d.Close()
		}, true, false},
		{"opened again", func(t *testing.T, d *Disk, root string) {
			d.Close()
			age(t, root, unusedAfter+time.Hour)
			again := newDiskOf(filepath.Base(root), filepath.Dir(root), DiskOptions{})
			if err := again.readUsage(new(usagePage)); err != nil {
				t.Fatal(err)
			}
			again.Close()
		}, true, false},
		{"open all the time", func(t *testing.T, d *Disk, root string) { age(t, root, unusedAfter+time.Hour) }, true, true},
		{"not used any more", func(t *testing.T, d *Disk, root string) {
			d.Close()
			age(t, root, unusedAfter+time.Hour)
		}, false, false},
	} {
		for _, versions := range [][2]string{{"v1", "v2"}, {"v2", "v1"}} {
			mine, others := versions[0], versions[1]
			t.Run(test.name+", by "+mine, func(t *testing.T) {
				t.Parallel()
				if test.kept && mine != "v1" {
					testtier.LongOnly(t, "lists all shards twice")
				}
				if test.locks && (runtime.GOOS == "windows" || runtime.GOOS == "plan9") {
					t.Skip("no such locks here")
				}
				dir := t.TempDir()
				other := openVersion(t, others, dir)
				for key := range 6 {
					mustPut(t, other, testKey(key), pattern(byte(key), 100+key%2*100_000))
				}
				root := filepath.Join(dir, others)
				test.prepare(t, other, root)
				d := openVersion(t, mine, dir)
				for i := range 2 * shardCount { // the listing of every shard is due
					if i%shardCount == 0 {
						os.Truncate(filepath.Join(dir, mine, "usage"), usageHeader)
					}
					mustPut(t, d, testKey(100+i%3), pattern(1, 100))
				}
				d.Close()
				if !test.kept {
					if _, err := os.Lstat(root); err == nil {
						t.Errorf("%s is still there", root)
					}
					return
				}
				again := openVersion(t, others, dir)
				for key := range 6 {
					es := mustEntries(t, again, testKey(key))
					if len(es) != 1 {
						t.Errorf("key %d: %d entries, want 1", key, len(es))
						continue
					}
					if got, err := readBody(again, es[0]); err != nil || !bytes.Equal(got, pattern(byte(key), 100+key%2*100_000)) {
						t.Errorf("key %d: wrong bytes, or %v", key, err)
					}
				}
				if report, err := again.Verify(t.Context()); err != nil || report.Damaged != 0 {
					t.Errorf("Verify: %+v, %v", report, err)
				}
			})
		}
	}
}
