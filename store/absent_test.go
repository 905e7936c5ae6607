package store

import (
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/testtier"
)

// An update that follows a look-up in vain sees what others have stored
// meanwhile, even if no counter tells that.
func TestStoredSinceLookUp(t *testing.T) {
	key, first := testKey(1), testKey(2)
	for what, c := range map[string]struct {
		store func(t *testing.T, dir string)
		calls int // of the function that changes the entries
	}{
		"nobody": {func(*testing.T, string) {}, 1},
		"another store": {func(t *testing.T, dir string) {
			mustPut(t, openTest(t, dir, DiskOptions{}), key, pattern(1, 1000))
		}, 1},
		"an outsider": {func(t *testing.T, dir string) {
			from, to := openTest(t, t.TempDir(), DiskOptions{}), openTest(t, dir, DiskOptions{})
			mustPut(t, from, key, pattern(1, 1000))
			if err := os.Rename(from.path(key), to.path(key)); err != nil {
				t.Fatal(err)
			}
		}, 2},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			d := openTest(t, dir, DiskOptions{})
			mustPut(t, d, first, pattern(1, 1000)) // has the counters mapped
			mustPut(t, d, sameShard(key, 7), pattern(1, 1000))
			if es := mustEntries(t, d, key); len(es) != 0 {
				t.Fatalf("%d entries to begin with", len(es))
			}
			c.store(t, dir)
			calls, seen := 0, 0
			err := d.Update(t.Context(), key, func(es []*Entry) []*Entry {
				calls, seen = calls+1, len(es)
				e := testHead(key)
				e.Status, e.Selecting = 203, map[string]string{"Accept": "text/plain"}
				return append([]*Entry{e}, es...)
			})
			if err != nil {
				t.Fatal(err)
			}
			want := 1
			if what == "nobody" {
				want = 0
			}
			if es := mustEntries(t, d, key); seen != want || len(es) != want+1 {
				t.Errorf("the update saw %d entries and left %d, want %d and %d", seen, len(es), want, want+1)
			}
			if mappable(d.root) && calls != c.calls {
				t.Errorf("%d calls of the function, want %d", calls, c.calls)
			}
			if got, want := d.Bytes(), diskBytes(t, dir); what != "an outsider" && got != want {
				t.Errorf("the usage file says %d bytes, the files take %d", got, want)
			}
		})
	}
}

// A look-up that follows one in vain asks the system only if there may be a
// file by now.
func TestAbsentKeyAppears(t *testing.T) {
	key := testKey(1)
	dir := t.TempDir()
	d := openTest(t, dir, DiskOptions{})
	mustPut(t, d, testKey(2), pattern(1, 1000)) // has the counters mapped
	look := func(want int) {
		t.Helper()
		if es := mustEntries(t, d, key); len(es) != want {
			t.Errorf("%d entries, want %d", len(es), want)
		}
	}
	look(0)
	look(0)
	other := openTest(t, dir, DiskOptions{})
	mustPut(t, other, key, pattern(1, 1000))
	look(1)
	if err := os.Rename(d.path(key), d.path(key)+".away"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(lookEvery)
	look(0)
	look(0)
	if err := os.Rename(d.path(key)+".away", d.path(key)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(lookEvery)
	look(1)
}

// TestNewKeysTogether has two stores add an entry to the same new keys at the
// same time, where one has looked before. Neither loses the other's.
func TestNewKeysTogether(t *testing.T) {
	dir := scratchDir(t)
	disks := []*Disk{openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{})}
	for _, d := range disks {
		mustPut(t, d, testKey(1), pattern(1, 100)) // has the counters mapped
	}
	for i := range testtier.Pick(300, 4000) {
		key := testKey(10 + i)
		mustEntries(t, disks[i%2], key)
		var together sync.WaitGroup
		for n, d := range disks {
			together.Go(func() {
				e := testHead(key)
				e.Header.Set("Vary", "Accept")
				e.Selecting = map[string]string{"Accept": strconv.Itoa(n)}
				if err := patiently(func() error {
					return d.Update(t.Context(), key, func(es []*Entry) []*Entry { return append(es, e) })
				}); err != nil {
					t.Errorf("key %d: %v", i, err)
				}
			})
		}
		together.Wait()
		for n, d := range disks {
			if es := mustEntries(t, d, key); len(es) != 2 {
				t.Fatalf("key %d: store %d has %d entries, want 2", i, n, len(es))
			}
		}
	}
}
