package store

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// TestFreshenedIsNotReadAgain has what was just written be known without a further look into the file, and what another
// wrote right afterwards, or damaged, be seen all the same.
func TestFreshenedIsNotReadAgain(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("times of change are those of a tick here")
	}
	dir := t.TempDir()
	a, b := openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{})
	key := testKey(1)
	freshen := func(d *Disk, status int) {
		t.Helper()
		if err := d.Update(t.Context(), key, func(es []*Entry) []*Entry {
			if len(es) != 1 {
				t.Errorf("%d entries to freshen", len(es))
				return es
			}
			e := es[0].Clone()
			e.Status = status
			e.ResponseTime = time.Now()
			return []*Entry{e}
		}); err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, a, key, pattern(1, 1000))
	for i := range 100 {
		d, other := a, b
		if i%3 == 0 {
			d, other = b, a
		}
		freshen(d, 100+i)
		it := d.tier.get(key)
		if it == nil {
			t.Fatal("what was written is not in the memory tier")
		}
		if !it.exact {
			t.Skip("the file system does not take the time of change")
		}
		got := mustEntries(t, d, key)
		if d.tier.get(key) != it {
			t.Fatal("what was just written was read again")
		}
		// It is what reading it says, too.
		st, read, err := d.load(key)
		if err != nil || st.size != it.size || st.live != it.live || !read.stat.same(&it.stat) {
			t.Fatalf("the memory tier has %d bytes of which %d are in use, the file %d and %d; %v", it.size, it.live, st.size, st.live, err)
		}
		for _, es := range [][]*Entry{got, st.entries, mustEntries(t, other, key)} {
			if len(es) != 1 || es[0].Status != 100+i || es[0].ResponseTime != got[0].ResponseTime || len(es[0].Parts[0].Blob.Inline) != 1000 {
				t.Fatalf("round %d: %+v", i, es)
			}
		}
	}
	if err := os.Truncate(a.path(key), 100); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*Disk{a, b} {
		if es := mustEntries(t, d, key); len(es) != 0 {
			t.Error("damage is not seen")
		}
	}
}
