package store

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestSeenByOthers has two stores on one directory, as in two processes.
func TestSeenByOthers(t *testing.T) {
	dir := t.TempDir()
	a, b := openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{})
	key := testKey(1)
	for i := range 200 {
		// Nothing is slept here: what changes twice within a tick of the clock
		// must be seen as well.
		mustPut(t, a, key, pattern(byte(i), 100+i%2))
		for _, d := range []*Disk{a, b, b} {
			es := mustEntries(t, d, key)
			if len(es) != 1 || es[0].Parts[0].Blob.Inline[0] != byte(i) {
				t.Fatalf("round %d: the last store is not seen", i)
			}
		}
		if err := b.Update(t.Context(), key, func(es []*Entry) []*Entry {
			e := es[0].Clone()
			e.Status = i
			return []*Entry{e}
		}); err != nil {
			t.Fatal(err)
		}
		if es := mustEntries(t, a, key); len(es) != 1 || es[0].Status != i {
			t.Fatalf("round %d: the last freshening is not seen", i)
		}
		if i%3 == 0 {
			if err := b.Update(t.Context(), key, func([]*Entry) []*Entry { return nil }); err != nil {
				t.Fatal(err)
			}
			if es := mustEntries(t, a, key); len(es) != 0 {
				t.Fatalf("round %d: the removal is not seen", i)
			}
		}
	}
	sa, err := a.Secret(t.Context())
	sb, err2 := b.Secret(t.Context())
	if err != nil || err2 != nil || !bytes.Equal(sa, sb) {
		t.Errorf("secrets %x and %x, %v, %v", sa, sb, err, err2)
	}
}

func TestNoLostUpdateBetweenStores(t *testing.T) {
	dir := t.TempDir()
	key := testKey(1)
	mustPut(t, openTest(t, dir, DiskOptions{}), key, pattern(1, 100))
	const stores, rounds = 4, 30
	var wg sync.WaitGroup
	for range stores {
		d := openTest(t, dir, DiskOptions{})
		wg.Go(func() {
			for range rounds {
				if err := count(d, key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := counted(t, openTest(t, dir, DiskOptions{}), key); got != stores*rounds {
		t.Errorf("%d updates counted, want %d", got, stores*rounds)
	}
}

// count adds to the status of the entry of a key, which was stored by putBody.
// A caller that waits for a lock in vain does not remove the entry, because that
// keeps its body.
func count(d *Disk, key string) error {
	return patiently(func() error {
		return d.Update(noContext, key, func(es []*Entry) []*Entry {
			e := es[0].Clone()
			e.Status++
			return []*Entry{e}
		})
	})
}

// counted returns how often a key was counted.
func counted(t *testing.T, d *Disk, key string) int {
	t.Helper()
	es := mustEntries(t, d, key)
	if len(es) != 1 {
		t.Fatalf("%d entries, want 1", len(es))
	}
	return es[0].Status - testHead(key).Status
}

func TestAppendInsteadOfRewriting(t *testing.T) {
	dir := t.TempDir()
	d := openTest(t, dir, DiskOptions{})
	for _, size := range []int{1 << 10, 1 << 20} {
		key := testKey(size)
		mustPut(t, d, key, pattern(1, size))
		path := d.path(key)
		var first, st fileStat
		if err := statFile(path, &first); err != nil {
			t.Fatal(err)
		}
		rewritten := 0
		var most int64
		last := first
		for i := range 100 {
			if err := d.Update(t.Context(), key, func(es []*Entry) []*Entry {
				e := es[0].Clone()
				e.Status = i
				return []*Entry{e}
			}); err != nil {
				t.Fatal(err)
			}
			statFile(path, &st)
			if st.size < last.size {
				rewritten++
			} else if st.size-last.size > 4096 {
				t.Errorf("freshening a head of %d bytes appended %d", first.size, st.size-last.size)
			}
			most = max(most, st.size)
			last = st
		}
		if rewritten == 0 || rewritten > 10 {
			t.Errorf("the file was rewritten %d times in 100 updates, want some 5", rewritten)
		}
		if most > 2*first.size+2*compactSlack {
			t.Errorf("the file grew to %d bytes, from %d", most, first.size)
		}
		es := mustEntries(t, d, key)
		if b, err := readBody(d, es[0]); err != nil || !bytes.Equal(b, pattern(1, size)) || es[0].Status != 99 {
			t.Errorf("after all, status %d and wrong bytes or %v", es[0].Status, err)
		}
	}
}

// TestUpdateWhileRetracted: a caller that waits for a lock in vain removes the
// file that it could not change. The caller with the lock still stores its
// response, and does not bring back the others.
func TestUpdateWhileRetracted(t *testing.T) {
	key := testKey(1)
	variant := func(tag string, filler int) *Entry {
		e := testHead(key)
		e.Header.Set("Etag", tag)
		e.Header.Set("X-Filler", strings.Repeat("x", filler))
		e.Selecting = map[string]string{"Accept": tag}
		return e
	}
	for name, filler := range map[string]int{"the file is appended to": 0, "the file is written anew": 2 * compactSlack} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			opts := DiskOptions{MemoryBytes: -1}
			d, other := openTest(t, dir, opts), openTest(t, dir, opts)
			if err := d.Update(t.Context(), key, func([]*Entry) []*Entry {
				return []*Entry{variant("old", filler), variant("kept", 0)}
			}); err != nil {
				t.Fatal(err)
			}
			calls := 0
			err := d.Update(t.Context(), key, func(current []*Entry) []*Entry {
				if calls++; calls == 1 {
					err := other.Update(t.Context(), key, func(current []*Entry) []*Entry {
						next := make([]*Entry, len(current))
						for i, e := range current {
							next[i] = e.Clone()
							next[i].InvalidatedAt = time.Now()
						}
						return next
					})
					if CauseOf(err) != CauseLocked {
						t.Errorf("a caller without the lock: %v, want %v", err, CauseLocked)
					}
				}
				next := []*Entry{variant("new", 0)}
				for _, e := range current {
					if e.Header.Get("Etag") == "kept" {
						next = append(next, e)
					}
				}
				return next
			})
			if err != nil {
				t.Errorf("the caller with the lock: %v", err)
			}
			var got []string
			for _, e := range mustEntries(t, d, key) {
				got = append(got, e.Header.Get("Etag"))
			}
			if strings.Join(got, " ") != "new" {
				t.Errorf("%q is stored, want only the new response", got)
			}
		})
	}
}
