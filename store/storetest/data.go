package storetest

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/store"
	"github.com/google/go-cmp/cmp"
)

// Checks of what a store leaves in its place: for its next process, for another
// one at the same time, and after somebody else has damaged it.

// opened calls a function of a Subject that opens a store.
func opened(t testing.TB, name string, open func() (store.Store, error)) store.Store {
	t.Helper()
	if open == nil {
		t.Skipf("Subject.%s is not set: what it is needed for is not checked", name)
	}
	s, err := open()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return s
}

// afresh returns a store on the data of sub that has nothing of it in memory,
// if there is a way to get one.
func (sub *Subject) afresh(t testing.TB) store.Store {
	t.Helper()
	switch {
	case sub.Reopen != nil:
		sub.Store = opened(t, "Reopen", sub.Reopen)
		return sub.Store
	case sub.Second != nil:
		return opened(t, "Second", sub.Second)
	}
	return sub.Store
}

func testReopen(t testing.TB, sub Subject) {
	if sub.Reopen == nil {
		t.Skip("Subject.Reopen is not set: reopening is not checked")
	}
	s := sub.Store
	secret, err := s.Secret(t.Context())
	if err != nil {
		t.Fatalf("Secret: %v", err)
	}
	secret = bytes.Clone(secret)
	sizes := []int{0, 100, 20_000, 70_000, 3 << 20}
	want := map[string][]*store.Entry{}
	for i, size := range sizes {
		key := Key(i, 1)
		put(t, s, entry(key, 0), content(uint64(i), size))
		put(t, s, entry(key, 1), content(uint64(i+100), size))
		want[key] = entries(t, s, key)
	}
	removed := Key(100, 1)
	put(t, s, entry(removed, 1), content(1, 70_000))
	update(t, s, removed, func([]*store.Entry) []*store.Entry { return nil })
	left, err := s.Create(t.Context(), removed, -1)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	left.Write(content(1, 70_000))
	left.Close()

	for range 2 {
		s = opened(t, "Reopen", sub.Reopen)
		if again, err := s.Secret(t.Context()); err != nil || !bytes.Equal(again, secret) {
			t.Errorf("after reopening the secret is another one, or %v", err)
		}
		all := 0
		for _, err := range s.All(t.Context(), "") {
			if err != nil {
				t.Fatalf("All: %v", err)
			}
			all++
		}
		if all != 2*len(want) {
			t.Errorf("All yields %d entries after reopening, want %d", all, 2*len(want))
		}
		for i, size := range sizes {
			key := Key(i, 1)
			got := entries(t, s, key)
			if diff := cmp.Diff(want[key], got, ignoreBlob); diff != "" {
				t.Fatalf("entries changed by reopening (-before +after):\n%s", diff)
			}
			for j, e := range got {
				if err := tryRead(t, s, key, blobIn(t, e), content(uint64(i+100*(1-j)), size)); err != nil {
					t.Errorf("%d bytes: reading after reopening: %v", size, err)
				}
			}
		}
		if got := entries(t, s, removed); len(got) != 0 {
			t.Errorf("%d entries of a key that was removed are back", len(got))
		}
	}
	key := Key(0, 1)
	put(t, s, entry(key, 2), content(2, 100))
	if got := urls(entries(t, s, key)); len(got) != 3 || got[0] != entry(key, 2).URL {
		t.Errorf("stored after reopening: %v", got)
	}
}

// agreeWithin is how long an instance may take to learn what another one has
// changed. A variable, so that the tests of the checks do not wait for it.
var agreeWithin = 5 * time.Second

// eventually waits until something holds, but no longer than agreeWithin.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(agreeWithin); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("not within %v: %s", agreeWithin, what)
			return
		}
	}
}

func testTwo(t testing.TB, sub Subject) {
	a, b := sub.Store, opened(t, "Second", sub.Second)
	secret, err := a.Secret(t.Context())
	if err != nil {
		t.Fatalf("Secret: %v", err)
	}
	if other, err := b.Secret(t.Context()); err != nil || !bytes.Equal(secret, other) {
		t.Errorf("the secrets of two instances differ, or %v", err)
	}
	for _, size := range []int{100, 20_000, 70_000, 2 << 20} {
		key := Key(size, 1)
		entries(t, b, key) // b may remember that there is nothing
		want := content(uint64(size), size)
		put(t, a, entry(key, 1), want)
		eventually(t, "the second instance finds what the first has stored", func() bool { return len(entries(t, b, key)) == 1 })
		if t.Failed() {
			return
		}
		blob := blobOf(t, b, key)
		if err := tryRead(t, b, key, blob, want); err != nil {
			t.Errorf("%d bytes: the second instance reads what the first has stored: %v", size, err)
		}
		body, err := a.Open(t.Context(), key, blob)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		update(t, b, key, func(current []*store.Entry) []*store.Entry {
			if len(current) != 1 {
				t.Errorf("Update of the second instance is given %d entries, want 1", len(current))
			}
			return []*store.Entry{entry(key, 2)}
		})
		update(t, a, key, func(current []*store.Entry) []*store.Entry {
			if got := urls(current); !slices.Equal(got, []string{entry(key, 2).URL}) {
				t.Errorf("Update of the first instance is given %q, not what the second has stored", got)
			}
			return current
		})
		eventually(t, "the first instance finds what the second has stored", func() bool {
			return slices.Equal(urls(entries(t, a, key)), []string{entry(key, 2).URL})
		})
		got := make([]byte, size)
		if n, err := body.ReadAt(got, 0); n != size || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: a body that the first instance has open, and the second has released: %d, %v", size, n, err)
		}
		body.Close()
	}
}

// testTwoUpdates counts with both instances at once.
func testTwoUpdates(t testing.TB, sub Subject) {
	a, b := sub.Store, opened(t, "Second", sub.Second)
	const workers, rounds = 3, 30
	key := Key(1, 1)
	putCounted(t, a, key)
	var wg sync.WaitGroup
	for _, s := range []store.Store{a, b} {
		for range workers {
			wg.Go(func() {
				for range rounds {
					if err := count(t, s, key); err != nil {
						t.Errorf("Update: %v", err)
					}
				}
			})
		}
	}
	wg.Wait()
	update(t, a, key, func(current []*store.Entry) []*store.Entry {
		if n := counted(current); n != 2*workers*rounds {
			t.Errorf("%d updates counted, want %d", n, 2*workers*rounds)
		}
		return current
	})
}

func testDamage(t testing.TB, sub Subject) {
	if sub.Damage == nil {
		t.Skip("Subject.Damage is not set: damaged bodies are not checked")
	}
	for _, size := range []int{70_000, 300_001, 3 << 20} {
		damaged(t, &sub, size, "damaged", sub.Damage)
	}
}

func testLose(t testing.TB, sub Subject) {
	if sub.Lose == nil {
		t.Skip("Subject.Lose is not set: lost bodies are not checked")
	}
	for _, size := range []int{70_000, 300_001, 3 << 20} {
		damaged(t, &sub, size, "lost", sub.Lose)
	}
}

// damaged stores a body, does harm to it, and checks that the store says so.
func damaged(t testing.TB, sub *Subject, size int, how string, harm func(string, store.Blob) error) {
	t.Helper()
	key, other := Key(size, 1), Key(size, 2)
	want := content(1, size)
	putApart(t, sub.Store, entry(key, 1), want)
	putApart(t, sub.Store, entry(other, 1), want)
	blob := blobOf(t, sub.Store, key)
	if err := harm(key, blob); err != nil {
		t.Fatalf("doing harm to a body: %v", err)
	}
	// An instance may still have the bytes in memory.
	if err := tryRead(t, sub.Store, key, blob, want); err != nil && !errors.Is(err, store.ErrDamaged) {
		t.Errorf("%d bytes, %s: %v, want ErrDamaged", size, how, err)
	}
	s := sub.afresh(t)
	if got := entries(t, s, key); len(got) > 0 { // the store may have dropped it
		if err := tryRead(t, s, key, blobOf(t, s, key), want); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%d bytes, %s: %v, want ErrDamaged", size, how, err)
		}
	}
	if err := tryRead(t, s, other, blobOf(t, s, other), want); err != nil {
		t.Errorf("%d bytes: another body suffered: %v", size, err)
	}
	update(t, s, key, func([]*store.Entry) []*store.Entry { return nil })
	put(t, s, entry(key, 2), want)
	if err := tryRead(t, s, key, blobOf(t, s, key), want); err != nil {
		t.Errorf("%d bytes: stored again after it was %s: %v", size, how, err)
	}
}

func testDamageEntries(t testing.TB, sub Subject) {
	if sub.DamageEntries == nil {
		t.Skip("Subject.DamageEntries is not set: damaged entries are not checked")
	}
	for i := range 5 {
		key, other := Key(2*i, 1), Key(2*i+1, 1)
		put(t, sub.Store, entry(key, 1), content(1, 5000))
		put(t, sub.Store, entry(other, 1), content(2, 5000))
		want, wantOther := entries(t, sub.Store, key), entries(t, sub.Store, other)
		if err := sub.DamageEntries(key); err != nil {
			t.Fatalf("damaging entries: %v", err)
		}
		s := sub.afresh(t)
		got, err := s.Entries(t.Context(), key)
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			t.Errorf("Entries: %v, want ErrDamaged or no entries", err)
		}
		for e, err := range s.All(t.Context(), key) {
			if err == nil {
				got = append(got, e)
			}
		}
		for _, e := range got { // the store may be able to repair them
			if diff := cmp.Diff(want[0], e, ignoreBlob); diff != "" {
				t.Errorf("an entry was damaged and is returned (-stored +got):\n%s", diff)
			} else if err := tryRead(t, s, key, blobIn(t, e), content(1, 5000)); err != nil && !errors.Is(err, store.ErrDamaged) {
				t.Errorf("reading the body of a damaged entry: %v", err)
			}
		}
		if diff := cmp.Diff(wantOther, entries(t, s, other), ignoreBlob); diff != "" {
			t.Errorf("another key suffered (-want +got):\n%s", diff)
		}
		update(t, s, key, func([]*store.Entry) []*store.Entry { return []*store.Entry{entry(key, 9)} })
		if diff := cmp.Diff([]*store.Entry{entry(key, 9)}, entries(t, s, key)); diff != "" {
			t.Errorf("stored again (-want +got):\n%s", diff)
		}
	}
}

func testCollect(t testing.TB, sub Subject) {
	if sub.Collect == nil {
		t.Skip("Subject.Collect is not set: the removal of blobs that no entry names is not checked")
	}
	const size = 200_000
	s := sub.Store
	named, unnamed := Key(1, 1), Key(2, 1)
	putApart(t, s, entry(named, 1), content(1, size))
	alone := stage(t, s, unnamed, content(2, size), -1)
	beside := stage(t, s, named, content(3, size), -1)
	if alone.Inline != nil || beside.Inline != nil {
		t.Skip("the store keeps bodies of 200 KB with their entries")
	}
	if err := tryRead(t, s, unnamed, alone, content(2, size)); err != nil {
		t.Errorf("a blob that was just committed: %v", err)
	}
	if err := sub.Collect(); err != nil {
		t.Fatalf("Collect: %v", err)
	}
	for key, blob := range map[string]store.Blob{unnamed: alone, named: beside} {
		if err := tryRead(t, s, key, blob, nil); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("a blob that no entry named is kept: %v, want ErrDamaged", err)
		}
	}
	if err := tryRead(t, s, named, blobOf(t, s, named), content(1, size)); err != nil {
		t.Errorf("a blob that an entry names was collected: %v", err)
	}
}
