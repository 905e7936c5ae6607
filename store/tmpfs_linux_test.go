package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// forgetSqueeze ends the time for which a cache keeps below what has fitted.
func forgetSqueeze(t *testing.T, d *Disk) {
	t.Helper()
	f, err := d.usageOpen()
	if err == nil {
		_, err = f.WriteAt(make([]byte, 20), squeezeAt)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.squeezed.until.Store(0)
}

// TestNoSpaceLeft uses a file system that is really full. First, other files
// fill it, then the cache itself. At last not even a directory can be made.
func TestNoSpaceLeft(t *testing.T) {
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=4m,mode=700"); err != nil {
		t.Skipf("a small file system can be mounted by root only: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(mount, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	dir := filepath.Join(mount, "cache")
	d := openTest(t, dir, DiskOptions{MemoryBytes: -1}) // and so bounded by 1 GiB
	kept := map[string][]byte{testKey(0): pattern(1, 3000), testKey(1): pattern(2, 50_000), testKey(2): pattern(3, 300_000)}
	for key, body := range kept {
		mustPut(t, d, key, body)
	}
	intact := func(when string) {
		t.Helper()
		for key, body := range kept {
			es, err := d.Entries(t.Context(), key)
			if err == nil && len(es) == 0 { // it was evicted to make space
				delete(kept, key)
				continue
			}
			if err != nil || len(es) != 1 || es[0].Status != 200 {
				t.Errorf("%s: entries %v, %v", when, es, err)
				continue
			}
			if b, err := readBody(d, es[0]); err != nil || !bytes.Equal(b, body) {
				t.Errorf("%s: wrong bytes or %v", when, err)
			}
		}
	}
	exact := func(when string) {
		t.Helper()
		var page usagePage
		if err := d.readUsage(&page); err != nil {
			t.Fatal(err)
		}
		if got, want := page.sum(), diskBytes(t, dir); got != want {
			t.Errorf("%s: usage says %d bytes, the files take %d", when, got, want)
		}
	}

	// Others fill the disk, to the last block.
	filler := filepath.Join(mount, "filler")
	fill := func() {
		t.Helper()
		f, err := os.OpenFile(filler, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for {
			if _, err := f.Write(make([]byte, 4096)); err != nil {
				if !errors.Is(err, syscall.ENOSPC) {
					t.Fatal(err)
				}
				return
			}
		}
	}
	fill()
	for i, size := range []int{100, 15_000, 20_000, 100_000, 1 << 20} {
		if err := putBody(d, testKey(10+i), pattern(1, size)); err == nil {
			kept[testKey(10+i)] = pattern(1, size) // a place was left in a directory or a block
		} else if CauseOf(err) != CauseFull {
			t.Errorf("storing %d bytes: %v (%v), want %v", size, err, CauseOf(err), CauseFull)
		}
	}
	var full error
	for range 100 { // until the block of the key's file is full, too
		full = d.Update(t.Context(), testKey(0), func(es []*Entry) []*Entry {
			if len(es) == 0 {
				return nil
			}
			e := es[0].Clone()
			e.Header.Set("X-New", "x")
			return []*Entry{e}
		})
		if full != nil {
			break
		}
	}
	if full != nil && CauseOf(full) != CauseFull {
		t.Errorf("freshening: %v, want %v", full, CauseFull)
	}
	fill()
	if d2, err := OpenDisk(filepath.Join(mount, "other"), DiskOptions{}); err == nil {
		if err := putBody(d2, testKey(1), pattern(1, 100_000)); CauseOf(err) != CauseFull {
			t.Errorf("storing in a cache that was made on a full disk: %v, want %v", err, CauseFull)
		}
		d2.Close()
		os.RemoveAll(filepath.Join(mount, "other"))
	} else if CauseOf(err) != CauseFull {
		t.Errorf("opening on a full disk: %v, want %v", err, CauseFull)
	}
	fill()
	intact("on a full disk")
	exact("on a full disk")

	// When the other files are removed, the same Disk stores again.
	if err := d.Update(t.Context(), testKey(2), func([]*Entry) []*Entry { return nil }); err != nil {
		t.Errorf("removing an entry on a full disk: %v", err)
	}
	_, held := kept[testKey(2)]
	delete(kept, testKey(2))
	if err := putBody(d, testKey(20), pattern(4, 100_000)); err == nil {
		kept[testKey(20)] = pattern(4, 100_000)
	} else if held || CauseOf(err) != CauseFull {
		t.Errorf("storing where an entry was removed: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	forgetSqueeze(t, d)
	for i, size := range []int{100, 15_000, 20_000, 100_000, 1 << 20} {
		if err := putBody(d, testKey(10+i), pattern(5, size)); err != nil {
			t.Errorf("storing %d bytes when there is space again: %v", size, err)
		}
		kept[testKey(10+i)] = pattern(5, size)
	}
	intact("when there is space again")
	exact("when there is space again")

	// The cache itself fills the disk, by a body that is being written.
	draft, err := d.Create(t.Context(), testKey(30), -1)
	if err != nil {
		t.Fatal(err)
	}
	body := pattern(6, 8<<20)
	written := 0
	for written < len(body) {
		var n int
		n, err = draft.Write(body[written:min(len(body), written+50_000)])
		written += n
		if err != nil {
			break
		}
	}
	if CauseOf(err) != CauseFull {
		t.Errorf("writing a body larger than the disk: %v, want %v", err, CauseFull)
	}
	got := make([]byte, written)
	if n, err := draft.ReadAt(got, 0); n != written || !bytes.Equal(got, body[:written]) {
		t.Errorf("the bytes written before can't be read back: %d of %d, %v", n, written, err)
	}
	if _, err := draft.Commit(); CauseOf(err) != CauseFull {
		t.Errorf("Commit: %v, want %v", err, CauseFull)
	}
	draft.Close()
	intact("after a body that did not fit")
	exact("after a body that did not fit")
	if err := putBody(d, testKey(31), pattern(7, 500_000)); err != nil {
		t.Errorf("storing when the body was given up: %v", err)
	}
	if r, err := d.Verify(context.Background()); err != nil || r.Damaged != 0 || r.Entries != len(kept)+1 {
		t.Errorf("Verify in the end: %+v, %v, want %d entries", r, err, len(kept)+1)
	}
}
