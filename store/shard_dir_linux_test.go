package store

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestFirstLookups looks up one key of each shard after the cache was opened,
// with openat2 and without it, as on an old system.
func TestFirstLookups(t *testing.T) {
	dir := t.TempDir()
	d := openTest(t, dir, DiskOptions{})
	inShard := func(shard int) string { return shardName(shard) + testKey(1)[2:] }
	for shard := range shardCount {
		mustPut(t, d, inShard(shard), pattern(byte(shard), 100))
	}
	d.Close()
	const moved = 7 // leads out of the cache
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Rename(d.shardDir(moved), outside); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, d.shardDir(moved)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		old  bool // the system is
		most int  // directories that stay open
	}{
		{"openat2", false, 1},
		{"an old system", true, shardCount},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.old {
				defer noBelow.Store(noBelow.Swap(true))
			} else if noBelow.Load() {
				t.Skip("there is no openat2 here")
			}
			longAgo := time.Now().Add(-2 * time.Hour)
			for shard := range shardCount {
				if err := os.Chtimes(d.path(inShard(shard)), longAgo, longAgo); err != nil {
					t.Fatal(err)
				}
			}
			d := openTest(t, dir, DiskOptions{})
			seldomUsed(d)
			for shard := range shardCount {
				key := inShard(shard)
				es := mustEntries(t, d, key)
				if shard == moved {
					if len(es) != 0 {
						t.Errorf("%s: %d entries were found outside of the cache", key[:2], len(es))
					}
					continue
				}
				if len(es) != 1 {
					t.Fatalf("%s: %d entries, want 1", key[:2], len(es))
				}
				var st fileStat
				if err := statFile(d.path(key), &st); err != nil || st.atime <= longAgo.UnixNano() {
					t.Errorf("%s: the use was not recorded: %v, %v", key[:2], time.Unix(0, st.atime), err)
				}
			}
			if es := mustEntries(t, d, testKey(2)); len(es) != 0 {
				t.Errorf("%d entries of a key that was never stored", len(es))
			}
			if n := openFiles(d.data); n > test.most {
				t.Errorf("%d directories are open, want at most %d", n, test.most)
			}
		})
	}
}

// TestLookUpChecksNoShard looks a key up in a shard whose directory was checked
// long ago. The file is named from the directory above, whose check is one for
// all shards.
func TestLookUpChecksNoShard(t *testing.T) {
	d, key := openTest(t, scratchDir(t), DiskOptions{}), testKey(1)
	mustPut(t, d, key, nil)
	dir := d.dirs.kept[shardOf(key)].Load()
	if dir == nil {
		t.Fatal("the directory is not kept open")
	}
	dir.checked.Store(1)
	mustEntries(t, d, sameShard(key, 2))
	if !canReadBelow() {
		t.Skip("the system cannot name a file so")
	}
	if dir.checked.Load() != 1 {
		t.Error("a look-up has checked the directory")
	}
}
