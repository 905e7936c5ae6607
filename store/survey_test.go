package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSurvey has a shard of so many files that it is listed in parts, while
// others store.
func TestSurvey(t *testing.T) {
	t.Parallel()
	const (
		keys  = 4 * sampleAll
		wrong = 1 << 20 // what the shard is said to take too much
	)
	inside := func(i int) string { return "ab" + testKey(i)[2:] }
	outside := func(i int) string { return "cd" + testKey(i)[2:] }
	shard := shardOf(inside(0))
	for _, tt := range []struct {
		name string
		// during is called before each part of the listing with its number.
		during func(t *testing.T, d *Disk, n int)
		exact  bool // the count is right then
	}{
		{"nothing else happens", func(*testing.T, *Disk, int) {}, true},
		{"replaced by as much", func(t *testing.T, d *Disk, n int) {
			if n > 0 {
				mustPut(t, d, inside(5*n+4), make([]byte, 20_100))
			}
		}, false},
		{"appended to", func(t *testing.T, d *Disk, n int) {
			if n != 1 {
				return
			}
			err := d.Update(t.Context(), inside(0), func(es []*Entry) []*Entry {
				e := testHead(inside(0))
				e.URL += strings.Repeat("x", 4000)
				return append(es, e)
			})
			if err != nil {
				t.Fatal(err)
			}
		}, false},
		{"a body grows as another shrinks", func() func(*testing.T, *Disk, int) {
			var drafts [2]*diskDraft
			return func(t *testing.T, d *Disk, n int) {
				for i := range drafts {
					if n == 0 {
						dr, err := d.Create(t.Context(), inside(i), 1<<20)
						if err != nil {
							t.Fatal(err)
						}
						drafts[i] = dr.(*diskDraft)
						t.Cleanup(func() { dr.Close() })
					}
					if _, err := drafts[i].resize(4096*int64(2+(n+i)%2), anyRoom); err != nil {
						t.Fatal(err)
					}
				}
				if n == 0 {
					time.Sleep(50 * time.Millisecond) // so that the directory stays as it is
				}
			}
		}(), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := scratchDir(t)
			d := openTest(t, dir, DiskOptions{})
			for i := range keys {
				mustPut(t, d, inside(i), make([]byte, 100+20_000*(i%5/4))) // some with a body in a file of its own
			}
			long := time.Now().Add(-2 * time.Hour)
			orphan := d.path(blobName(inside(1), strings.Repeat("a", 32)))
			leftovers := []string{orphan, orphan + tempSuffix, d.path(inside(2)) + ".junk"}
			for _, path := range leftovers {
				if err := os.WriteFile(path, make([]byte, 10_000), 0o600); err != nil {
					t.Fatal(err)
				}
				os.Chtimes(path, long, long)
			}
			// Leftovers are counted. So are files that were reserved but not
			// written, because their process was killed.
			var page usagePage
			say := func() int64 {
				t.Helper()
				var off int64
				err := d.inShard(t.Context(), shard, &page, func(l *locked) error {
					list, err := d.listShard(shard)
					if err != nil {
						return err
					}
					off = page.slot(shard).bytes - list.bytes
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				return off
			}
			off := say()
			err := d.inShard(t.Context(), shard, &page, func(l *locked) error {
				if err := l.settle(); err != nil {
					return err
				}
				s := page.slot(shard)
				return l.setSlot(slot{bytes: s.bytes - off + wrong, listed: 0}, &page)
			})
			if err != nil {
				t.Fatal(err)
			}

			parts, stored := 0, 0
			// survey stores elsewhere until a survey has ended, and tells
			// whether it was not in vain.
			survey := func(during func(*testing.T, *Disk, int)) bool {
				for n := range 10_000 {
					during(t, d, n)
					stored++
					mustPut(t, d, outside(stored), make([]byte, 100))
					s := &d.evictor.survey
					if s.from != nil {
						parts++
					} else if !s.rest.IsZero() || d.readUsage(&page) == nil && page.due(0, time.Now()) < 0 {
						vain := !s.rest.IsZero()
						s.rest = time.Time{}
						return !vain
					}
				}
				t.Fatal("no survey ends")
				return false
			}
			time.Sleep(50 * time.Millisecond)
			if survey(func(*testing.T, *Disk, int) {}) {
				t.Error("the count is set right by a survey that removed something")
			}
			for _, path := range leftovers {
				if _, err := os.Lstat(path); err == nil {
					t.Errorf("%s is still there", path)
				}
			}
			if got := say(); got != wrong {
				t.Errorf("what was removed is counted: %d bytes too many, want %d", got, wrong)
			}
			time.Sleep(50 * time.Millisecond)
			if got := survey(tt.during); got != tt.exact {
				t.Errorf("a survey says it is exact: %t, want %t", got, tt.exact)
			}
			if got := say(); tt.exact && got != 0 || !tt.exact && got != wrong {
				t.Errorf("%d bytes too many", got)
			}
			if parts == 0 {
				t.Error("the shard was not listed in parts")
			}
			for i := range keys {
				for _, e := range mustEntries(t, d, inside(i)) {
					if _, err := readBody(d, e); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

// checkUsage makes sure that the recorded size of a cache with one shard is
// right.
func checkUsage(t *testing.T, d *Disk, shard int) {
	t.Helper()
	var page usagePage
	if err := d.readUsage(&page); err != nil {
		t.Fatal(err)
	}
	if got, want := page.slot(shard).bytes, diskBytes(t, d.dir); got != want {
		t.Errorf("usage says %d bytes, the files take %d", got, want)
	}
}

// TestShrinkingUnknown removes a file that was not counted.
func TestShrinkingUnknown(t *testing.T) {
	t.Parallel()
	dir := scratchDir(t)
	d := openTest(t, dir, DiskOptions{})
	key, other := testKey(1), sameShard(testKey(1), 2)
	mustPut(t, d, key, make([]byte, 100))
	mustPut(t, d, other, make([]byte, 100))
	if err := os.Truncate(filepath.Join(dir, version, "usage"), usageHeader); err != nil {
		t.Fatal(err)
	}
	if err := d.Update(t.Context(), key, func([]*Entry) []*Entry { return nil }); err != nil {
		t.Fatal(err)
	}
	checkUsage(t, d, shardOf(key))
}
