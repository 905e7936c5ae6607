package store

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// mustHold has the file of a key be held.
func mustHold(t *testing.T, d *Disk, key string) *heldFile {
	t.Helper()
	for range 100 { // until the file's times are beyond doubt
		for range 2 * holdAfter {
			mustEntries(t, d, key)
		}
		if d.held.off.Load() {
			t.Skip("files cannot be held on this file system")
		}
		if it := d.tier.get(key); it != nil && it.held.Load() != nil && it.held.Load().open() {
			return it.held.Load()
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("not held")
	return nil
}

// Any change of a held file shows at the next look-up, like with a look-up by
// name.
func TestHeldFileChanges(t *testing.T) {
	key := testKey(1)
	for name, test := range map[string]struct {
		change func(t *testing.T, d, other *Disk, path string) error
		want   []byte // of the body; nil: no entry
		named  int    // looks by name
	}{
		"nothing": {func(*testing.T, *Disk, *Disk, string) error { return nil }, pattern(1, 1000), 0},
		"replaced by another": {func(_ *testing.T, _, other *Disk, _ string) error {
			return putBody(other, key, pattern(2, 1000))
		}, pattern(2, 1000), 2},
		"replaced here": {func(_ *testing.T, d, _ *Disk, _ string) error {
			return putBody(d, key, pattern(2, 1000))
		}, pattern(2, 1000), 2},
		"removed by another": {func(t *testing.T, _, other *Disk, _ string) error {
			n, err := other.Purge(t.Context(), key, func(*Entry) bool { return true })
			if n != 1 {
				t.Errorf("%d removed", n)
			}
			return err
		}, nil, 0},
		"evicted by another": {func(t *testing.T, _, other *Disk, _ string) error {
			return other.EvictTo(t.Context(), 0)
		}, nil, 0},
		"removed": {func(_ *testing.T, _, _ *Disk, path string) error { return os.Remove(path) }, nil, 0},
		"renamed": {func(_ *testing.T, _, _ *Disk, path string) error {
			return os.Rename(path, filepath.Join(filepath.Dir(filepath.Dir(path)), "elsewhere"))
		}, nil, 0},
		"its directory removed": {func(_ *testing.T, _, _ *Disk, path string) error {
			return os.RemoveAll(filepath.Dir(path))
		}, nil, 0},
		"linked, and replaced": {func(_ *testing.T, _, other *Disk, path string) error {
			if err := os.Link(path, filepath.Join(other.tmp, "snapshot")); err != nil {
				return err
			}
			return putBody(other, key, pattern(2, 1000))
		}, pattern(2, 1000), 2},
		"cut": {func(_ *testing.T, _, _ *Disk, path string) error { return os.Truncate(path, 100) }, nil, 0},
		"used by another": {func(_ *testing.T, _, _ *Disk, path string) error {
			return setUsed(path, time.Now().UnixNano())
		}, pattern(1, 1000), 1},
		"its mode changed": {func(_ *testing.T, _, _ *Disk, path string) error {
			return os.Chmod(path, 0o400)
		}, pattern(1, 1000), 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d, other := openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{})
			mustPut(t, other, key, pattern(1, 1000))
			f := mustHold(t, d, key)
			if err := test.change(t, d, other, d.path(key)); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				es := mustEntries(t, d, key)
				switch {
				case test.want == nil && len(es) > 0:
					t.Fatalf("%d entries, want none", len(es))
				case test.want != nil && (len(es) != 1 || !bytes.Equal(es[0].Parts[0].Blob.Inline, test.want)):
					t.Fatal("not what was stored last")
				}
			}
			if it := d.tier.get(key); test.named < 2 && it != nil {
				var st fileStat
				if it.held.Load() != f || !f.stat(&st) {
					t.Error("not held any more")
				}
				if n := int(it.looks.Load() % holdAfter); n != 0 {
					t.Errorf("%d looks by name that count, want none", n)
				}
			} else if f.open() {
				t.Error("still open, though it is the file of nothing")
			}
		})
	}
}

// A file that loses its name within one tick of the clock keeps its time of change.
func TestHeldFileRemovedAtOnce(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	mustPut(t, d, testKey(1), pattern(1, 1000))
	f := mustHold(t, d, testKey(1))
	if err := os.Remove(d.path(testKey(1))); err != nil {
		t.Fatal(err)
	}
	var s syscall.Stat_t
	if err := syscall.Fstat(int(f.fd.Load()), &s); err != nil {
		t.Fatal(err)
	}
	f.changed.Store(s.Ctim.Nano())
	if es := mustEntries(t, d, testKey(1)); len(es) > 0 {
		t.Errorf("%d entries, want none", len(es))
	}
}

// Held files are limited in number and bytes, are those of hot keys, and get
// closed.
func TestHeldFilesAreBounded(t *testing.T) {
	const size, places = 4 << 10, 16 // 4 KiB and their head: two blocks
	d := openTest(t, t.TempDir(), DiskOptions{MaxBytes: heldShare * places * 2 * size})
	hold := func(from, to int) (held int) {
		for range 8 * holdAfter {
			for i := from; i < to; i++ {
				mustEntries(t, d, testKey(i))
			}
		}
		for i := from; i < to; i++ {
			if f := d.tier.get(testKey(i)).held.Load(); f != nil && f.open() {
				held++
			}
		}
		return held
	}
	for i := range 4 * places {
		mustPut(t, d, testKey(i), pattern(byte(i), size))
	}
	mustHold(t, d, testKey(0))
	before := openFiles(d.data) - 1
	for _, from := range []int{0, places, 2 * places, 0} {
		if held := hold(from, from+places); held != places {
			t.Errorf("of the %d keys from %d, which are hot, %d are held", places, from, held)
		}
		if n := openFiles(d.data) - before; n > places+places { // and as many directories
			t.Errorf("%d files are held, want %d", n, places)
		}
		if d.held.bytes > d.held.max || len(d.held.files) > places {
			t.Errorf("%d files of %d bytes are held, want at most %d of %d", len(d.held.files), d.held.bytes, places, d.held.max)
		}
	}
	if _, err := d.Purge(t.Context(), "", func(*Entry) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if n := filesHeld.Load(); n != 0 {
		t.Errorf("%d files are held of an empty cache", n)
	}
	mustPut(t, d, testKey(1), pattern(1, size))
	mustHold(t, d, testKey(1))
	d.Close()
	if n := openFiles(d.data); n != 0 || filesHeld.Load() != 0 {
		t.Errorf("%d files are open after Close", n)
	}
}
