package store

import (
	"os"
	"runtime"
	"testing"
)

// remove removes all entries of a key.
func remove(t *testing.T, d *Disk, key string) error {
	return d.Update(t.Context(), key, func([]*Entry) []*Entry { return nil })
}

// TestFileInUse removes entries while another program has their file open.
func TestFileInUse(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	key := testKey(1)
	hold := func() *os.File {
		mustPut(t, d, key, pattern(1, 100))
		f, err := os.Open(d.path(key))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}

	f := hold()
	if err := remove(t, d, key); CauseOf(err) != CauseObstructed {
		t.Errorf("a file in use: %v, which is %q, want %q", err, CauseOf(err), CauseObstructed)
	}
	if es := mustEntries(t, d, key); len(es) != 0 {
		t.Errorf("%d entries that could not be removed are still used", len(es))
	}
	f.Close()

	// A file that is in use until somebody else gets the lock of the shard. A busy
	// machine may keep that caller waiting for longer than the store waits.
	shard, removed := shardOf(key), false
	for range 20 {
		f := hold()
		before, closed := d.locks.taken[shard].Load(), make(chan struct{})
		go func() {
			defer close(closed)
			defer f.Close()
			for d.locks.taken[shard].Load() == before {
				runtime.Gosched()
			}
			if l, err := d.lock(t.Context(), shard, lockPatience); err == nil {
				l.unlock()
			}
		}()
		removed = remove(t, d, key) == nil || removed
		<-closed
	}
	if !removed {
		t.Error("a file that is in use for a moment is never removed")
	}
}
