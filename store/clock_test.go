package store

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip/internal/testtier"
)

// stamp gives all files of a cache the same times, as if they were written and
// used then, and has all shards been listed then.
func stamp(t *testing.T, d *Disk, at time.Time) {
	t.Helper()
	for path, mode := range tree(t, d.Dir()) {
		if mode.IsRegular() {
			if err := os.Chtimes(filepath.Join(d.Dir(), path), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	path := filepath.Join(d.root, "usage")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint64(b[16:], uint64(at.UnixNano()))
	for i := range shardCount {
		s := decodeSlot(b[usageHeader+i*usageSlot:])
		s.listed = uint32(at.Unix() / 60)
		s.encode(b[usageHeader+i*usageSlot:])
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestClock has the clock been far ahead, or far behind, when the cache was
// filled.
func TestClock(t *testing.T) {
	for name, at := range map[string]time.Time{
		"set back":    time.Now().AddDate(5, 0, 0),
		"set forward": time.Now().AddDate(-5, 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const bound = 8 << 20
			dir := scratchDir(t)
			d := openTest(t, dir, DiskOptions{MaxBytes: bound})
			sizes := []int{100, 10_000, 40_000, 200_000}
			const keys = 40
			for i := range keys {
				mustPut(t, d, testKey(i), pattern(byte(i), sizes[i%4]))
			}
			left := []string{
				d.path(blobName(testKey(1), strings.Repeat("a", 32))),
				d.path(blobName(testKey(2), strings.Repeat("b", 32))) + tempSuffix,
				filepath.Join(d.tmp, "123"),
			}
			for _, path := range left {
				if err := os.WriteFile(path, make([]byte, 100), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			stamp(t, d, at)
			d = openTest(t, dir, DiskOptions{MaxBytes: bound})
			var st fileStat
			for i := range keys / 2 { // half of them are used
				for range 2 {
					es := mustEntries(t, d, testKey(i))
					if len(es) != 1 {
						t.Fatalf("entry %d is not found", i)
					}
					if b, err := readBody(d, es[0]); err != nil || !bytes.Equal(b, pattern(byte(i), sizes[i%4])) {
						t.Errorf("entry %d: wrong bytes or %v", i, err)
					}
				}
				if statFile(d.path(testKey(i)), &st); time.Since(time.Unix(0, st.atime)).Abs() > time.Minute {
					t.Errorf("entry %d: its use is not recorded", i)
				}
			}
			var page usagePage
			for i := range 4 * shardCount { // until all shards were listed
				mustPut(t, d, testKey(100+i%5), pattern(byte(i), 20_000))
				if err := d.Update(t.Context(), testKey(100+i%5), func([]*Entry) []*Entry { return nil }); err != nil {
					t.Fatal(err)
				}
				if err := d.readUsage(&page); err != nil {
					t.Fatal(err)
				}
				if page.due(0, time.Now()) < 0 {
					break
				}
			}
			if shard := page.due(0, time.Now()); shard >= 0 {
				t.Errorf("shard %d is never listed", shard)
			}
			for _, path := range left {
				if _, err := os.Lstat(path); err == nil {
					t.Errorf("%s is still there", filepath.Base(path))
				}
			}
			if err := d.EvictTo(t.Context(), diskBytes(t, dir)/2+64<<10); err != nil {
				t.Fatal(err)
			}
			kept := [2]int{}
			for i := range keys {
				kept[i/(keys/2)] += len(mustEntries(t, d, testKey(i)))
			}
			if kept[0] < keys/2-1 || kept[1] > 4 {
				t.Errorf("of %d used since and as many not used, %v are left", keys/2, kept)
			}
			for i := range 200 {
				mustPut(t, d, testKey(1000+i), pattern(byte(i), 50_000))
			}
			if n := diskBytes(t, dir); n > bound*110/100 || n < bound*80/100 {
				t.Errorf("%d bytes after more was stored, bound %d", n, int64(bound))
			}
		})
	}
}

// TestOtherClock: the clock of the process differs from that of the file
// system, as in a bubble. A file that is being written is not taken for a
// leftover.
func TestOtherClock(t *testing.T) {
	dir := scratchDir(t)
	synctest.Test(t, func(t *testing.T) {
		d, err := OpenDisk(dir, DiskOptions{MaxBytes: 4 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		for round := range testtier.Pick(1, 3) {
			key := testKey(round)
			draft, err := d.Create(t.Context(), key, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer draft.Close()
			body := pattern(byte(round), 400_000)
			list := func() {
				t.Helper()
				os.Truncate(filepath.Join(d.root, "usage"), usageHeader) // so that every shard is due
				for i := range 2 * shardCount {
					mustPut(t, d, testKey(100+i%7), pattern(1, 30_000))
				}
				if err := d.EvictTo(t.Context(), 1<<20); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := draft.Write(body); err != nil {
				t.Fatal(err)
			}
			list()
			blob, err := draft.Commit()
			if err != nil {
				t.Fatalf("Commit: %v", err)
			}
			list()
			e := testHead(key)
			e.Length, e.Parts = blob.Size, []Part{{Length: blob.Size, Blob: blob}}
			if err := d.Update(t.Context(), key, func([]*Entry) []*Entry { return []*Entry{e} }); err != nil {
				t.Fatalf("Update: %v", err)
			}
			if b, err := readBody(d, mustEntries(t, d, key)[0]); err != nil || !bytes.Equal(b, body) {
				t.Errorf("wrong bytes or %v", err)
			}
			draft.Close() // Windows does not remove the file before
			time.Sleep(48 * time.Hour)
		}
	})
}

// TestNewVariantStays stores too many variants of a key, with a clock that was
// set back by an hour, or by little. The newest variant is not evicted.
func TestNewVariantStays(t *testing.T) {
	now := time.Now()
	for name, tt := range map[string]struct {
		before, now time.Time
		size        int
	}{
		"clock set back by an hour":        {now.Add(time.Hour), now, 10},
		"clock set back by a second":       {now, now.Add(-time.Second), 10},
		"many bytes, clock set back":       {now.Add(time.Hour), now, inlineMax - 1000},
		"many bytes, clock set back a bit": {now, now.Add(-time.Second), inlineMax - 1000},
	} {
		for kind, s := range map[string]Store{"disk": openTest(t, t.TempDir(), DiskOptions{MaxBytes: 2 << 20}), "memory": NewMemory(2 << 20)} {
			key := testKey(1)
			put := func(status int, at time.Time) {
				t.Helper()
				draft, err := s.Create(t.Context(), key, int64(tt.size))
				if err != nil {
					t.Fatal(err)
				}
				defer draft.Close()
				draft.Write(pattern(byte(status), tt.size))
				blob, err := draft.Commit()
				if err != nil {
					t.Fatal(err)
				}
				err = s.Update(t.Context(), key, func(es []*Entry) []*Entry {
					e := testHead(key)
					e.Status, e.ResponseTime, e.Length, e.Parts = status, at, blob.Size, []Part{{Length: blob.Size, Blob: blob}}
					return append(es, e)
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			for i := range maxVariants {
				put(200+i, tt.before)
			}
			full := len(mustEntries(t, s, key))
			for i := range 3 {
				put(400+i, tt.now)
				es := mustEntries(t, s, key)
				if len(es) != full || es[0].Status != 400+i {
					t.Errorf("%s, %s: %d variants of %d, of which the first has status %d, want %d", name, kind, len(es), full, es[0].Status, 400+i)
				}
			}
		}
	}
}
