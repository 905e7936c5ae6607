package store

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// TestFreshenedIsNotReadAgain: an entry that this process has just written is
// known without reading the file. A change right afterwards by another process
// is still seen, and so is damage, after a moment.
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
	time.Sleep(lookEvery)
	for _, d := range []*Disk{a, b} {
		if es := mustEntries(t, d, key); len(es) != 0 {
			t.Error("damage is not seen")
		}
	}
}

// TestDraftReadsAcrossPieces reads a draft around the end of each piece: in its
// file, in the piece that was flushed last, and in the buffer.
func TestDraftReadsAcrossPieces(t *testing.T) {
	for _, want := range []int64{-1, 900_001} {
		d := openTest(t, t.TempDir(), DiskOptions{})
		body := make([]byte, 900_001)
		for i := range body {
			body[i] = byte(i ^ i>>8 ^ i>>16)
		}
		dr, err := d.Create(t.Context(), testKey(1), want)
		if err != nil {
			t.Fatal(err)
		}
		defer dr.Close()
		check := func(n int) {
			t.Helper()
			for _, size := range []int{1, 1000, writeSize, writeSize + 1, n} {
				for _, off := range []int{0, n - size, n/2 - size, n - writeSize, n - 2*writeSize, n/writeSize*writeSize - size/2} {
					if off < 0 || off+size > n {
						continue
					}
					got := make([]byte, size)
					if m, err := dr.ReadAt(got, int64(off)); m != size || err != nil || string(got) != string(body[off:off+size]) {
						t.Fatalf("%d bytes at %d of %d: %d read, wrong or %v", size, off, n, m, err)
					}
				}
			}
		}
		for n := 0; n < len(body); {
			m := min(30_011, len(body)-n)
			if _, err := dr.Write(body[n : n+m]); err != nil {
				t.Fatal(err)
			}
			n += m
			check(n)
		}
		if _, err := dr.Commit(); err != nil {
			t.Fatal(err)
		}
		check(len(body))
	}
}
