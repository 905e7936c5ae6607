package storetest

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/fill"
	"github.com/google/go-cmp/cmp"
)

func testNothing(t testing.TB, s store.Store) {
	if got := entries(t, s, Key(1, 1)); len(got) != 0 {
		t.Errorf("got %d entries, want none", len(got))
	}
	for e, err := range s.All(t.Context(), "") {
		t.Errorf("All yields %v, %v, want nothing", e, err)
	}
	called := false
	update(t, s, Key(1, 1), func(current []*store.Entry) []*store.Entry {
		called = true
		if len(current) != 0 {
			t.Errorf("Update is given %d entries, want none", len(current))
		}
		return current
	})
	if !called {
		t.Error("Update does not call change for a key that holds nothing")
	}
}

func testRoundTrip(t testing.TB, s store.Store) {
	plain := &store.Entry{Key: Key(2, 2), Method: http.MethodHead, Length: -1}
	empty := &store.Entry{
		Key: Key(3, 2), Header: http.Header{}, Trailer: http.Header{}, Selecting: map[string]string{}, Length: 0,
		RequestTime: time.Unix(-1<<33, 5).UTC(), ResponseTime: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	many := entry(Key(4, 2), 1)
	for i := range 300 {
		many.Header[fmt.Sprint("X-", i)] = slices.Repeat([]string{strings.Repeat("v", i)}, 1+i%3)
	}
	full := new(store.Entry) // all fields, including fields that this version of the test does not know
	fill.Fill(full)
	full.Key = Key(5, 2)
	for i := range full.Parts {
		p := &full.Parts[i]
		p.Length, p.Skip, p.Blob = 3, 2, stage(t, s, full.Key, []byte("content"), -1)
	}
	for _, want := range []*store.Entry{entry(Key(1, 2), 1), entry(Key(1, 3), 6), plain, empty, many, full} {
		given := want.Clone()
		update(t, s, want.Key, func([]*store.Entry) []*store.Entry { return []*store.Entry{given} })
		if diff := cmp.Diff([]*store.Entry{want}, entries(t, s, want.Key), ignoreBlob); diff != "" {
			t.Errorf("entry changed (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, given); diff != "" {
			t.Errorf("Update changed the entry that it was given (-want +got):\n%s", diff)
		}
	}
}

func testParts(t testing.TB, s store.Store) {
	key := Key(1, 1)
	body := content(1, 500_000)
	first, second := stage(t, s, key, body[:1000], 1000), stage(t, s, key, body[900:], -1)
	e := entry(key, 1)
	e.Length = int64(len(body))
	e.Parts = []store.Part{
		{Offset: 0, Length: 1000, Blob: first},
		{Offset: 1000, Length: int64(len(body)) - 1000, Skip: 100, Blob: second},
	}
	update(t, s, key, func([]*store.Entry) []*store.Entry { return []*store.Entry{e} })
	got := entries(t, s, key)
	if diff := cmp.Diff([]*store.Entry{e}, got, ignoreBlob); diff != "" {
		t.Fatalf("entry changed (-want +got):\n%s", diff)
	}
	var joined []byte
	for _, p := range got[0].Parts {
		joined = append(joined, read(t, s, key, p.Blob)[p.Skip:p.Skip+p.Length]...)
	}
	if !bytes.Equal(joined, body) {
		t.Error("the parts do not join to the body")
	}
	bad := e.Clone()
	bad.Parts[1].Length++
	err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return []*store.Entry{bad} })
	if err == nil {
		t.Error("Update takes a part that reaches beyond its blob")
	}
}

func testOrder(t testing.TB, s store.Store) {
	key := Key(1, 1)
	for i := range 3 {
		e := entry(key, i)
		update(t, s, key, func(current []*store.Entry) []*store.Entry { return append(current, e) })
	}
	want := []string{entry(key, 2).URL, entry(key, 1).URL, entry(key, 0).URL}
	if diff := cmp.Diff(want, urls(entries(t, s, key))); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	// Freshening the last one is storing it.
	update(t, s, key, func(current []*store.Entry) []*store.Entry {
		current[2] = current[2].Clone()
		current[2].Header.Set("Age", "1")
		return current[:3:3]
	})
	if got := entries(t, s, key)[0].URL; got != want[2] {
		t.Errorf("%s comes first, want %s, which was just freshened", got, want[2])
	}
}

func testVariants(t testing.TB, s store.Store) {
	key := Key(1, 1)
	var all []*store.Entry
	for i := range 100 {
		all = append(all, entry(key, i))
	}
	update(t, s, key, func([]*store.Entry) []*store.Entry { return all })
	got := entries(t, s, key)
	if len(got) != 64 {
		t.Fatalf("%d entries kept of 100, want 64", len(got))
	}
	if diff := cmp.Diff(urls(all[36:]), urls(got)); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}

func testSameSlice(t testing.TB, s store.Store) {
	key := Key(1, 1)
	put(t, s, entry(key, 1), content(1, 100))
	before := entries(t, s, key)
	update(t, s, key, func(current []*store.Entry) []*store.Entry { return current })
	if diff := cmp.Diff(before, entries(t, s, key)); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}

func testRemove(t testing.TB, s store.Store) {
	for _, size := range []int{0, 100, 100_000} {
		key := Key(size, 1)
		put(t, s, entry(key, 1), content(1, size))
		update(t, s, key, func([]*store.Entry) []*store.Entry { return nil })
		if got := entries(t, s, key); len(got) != 0 {
			t.Errorf("%d bytes: %d entries left, want none", size, len(got))
		}
		for e := range s.All(t.Context(), key) {
			t.Errorf("%d bytes: All still yields %s", size, e.URL)
		}
		put(t, s, entry(key, 2), content(2, size))
		if got := urls(entries(t, s, key)); len(got) != 1 || got[0] != entry(key, 2).URL {
			t.Errorf("%d bytes: stored again, got %v", size, got)
		}
	}
}

func testForeignEntry(t testing.TB, s store.Store) {
	err := s.Update(t.Context(), Key(1, 1), func([]*store.Entry) []*store.Entry {
		return []*store.Entry{entry(Key(1, 2), 1)}
	})
	if err == nil {
		t.Error("an entry that belongs to another key is taken")
	}
}

func testKeys(t testing.TB, s store.Store) {
	ctx := t.Context()
	for _, key := range []string{
		"", "a", "../../../../../../etc/passwd", strings.Repeat("g", 64), strings.Repeat("A", 64),
		strings.Repeat("a", 63), strings.Repeat("a", 65), strings.Repeat("a", 63) + "/", strings.Repeat("a", 63) + "\x00",
	} {
		if _, err := s.Entries(ctx, key); err == nil {
			t.Errorf("Entries(%q) is no error", key)
		}
		if err := s.Update(ctx, key, func([]*store.Entry) []*store.Entry { return []*store.Entry{entry(key, 1)} }); err == nil {
			t.Errorf("Update(%q) is no error", key)
		}
		if _, err := s.Create(ctx, key, -1); err == nil {
			t.Errorf("Create(%q) is no error", key)
		}
		if _, err := s.Open(ctx, key, store.Blob{ID: "a", Size: 1}); err == nil {
			t.Errorf("Open(%q) is no error", key)
		}
	}
	for _, prefix := range []string{"../", "G", "a/", strings.Repeat("a", 65)} {
		failed := false
		for _, err := range s.All(ctx, prefix) {
			failed = failed || err != nil
		}
		if !failed {
			t.Errorf("All(%q) is no error", prefix)
		}
	}
	for _, id := range []string{"../secret", "..", "a/b", strings.Repeat("../", 12)} {
		if _, err := s.Open(ctx, Key(1, 1), store.Blob{ID: id, Size: 1}); err == nil {
			t.Errorf("Open of blob %q is no error", id)
		}
	}
}

func testFreshen(t testing.TB, s store.Store) {
	for _, size := range []int{0, 500, 500_000} {
		key := Key(size, 1)
		body := content(1, size)
		put(t, s, entry(key, 1), body)
		put(t, s, entry(key, 2), []byte("another variant"))
		for i := range 60 {
			update(t, s, key, func(current []*store.Entry) []*store.Entry {
				next := slices.Clone(current)
				for j, e := range next {
					next[j] = e.Clone()
					next[j].Header.Set("X-Round", fmt.Sprint(i))
				}
				return next
			})
		}
		got := entries(t, s, key)
		if len(got) != 2 || got[0].Header.Get("X-Round") != "59" || got[1].Header.Get("X-Round") != "59" {
			t.Fatalf("%d bytes: got %v, want two entries of round 59", size, got)
		}
		if !bytes.Equal(read(t, s, key, blobIn(t, got[1])), body) || string(read(t, s, key, blobIn(t, got[0]))) != "another variant" {
			t.Errorf("%d bytes: wrong bytes after freshening", size)
		}
	}
}

func testAll(t testing.TB, s store.Store) {
	want := map[string]int{}
	for url := range 10 {
		for identity := range 3 {
			key := Key(url, identity)
			put(t, s, entry(key, 0), content(1, 10))
			put(t, s, entry(key, 1), content(2, 20_000))
			want[key] = 2
		}
	}
	for _, prefix := range []string{"", "0", Key(3, 0)[:1], Key(3, 0)[:2], Key(3, 0)[:3], Key(3, 0)[:32], Key(3, 1)} {
		wanted := map[string]int{}
		for key, n := range want {
			if strings.HasPrefix(key, prefix) {
				wanted[key] = n
			}
		}
		got := map[string]int{}
		for e, err := range s.All(t.Context(), prefix) {
			if err != nil {
				t.Fatalf("All(%q): %v", prefix, err)
			}
			got[e.Key]++
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("All(%q) (-want +got):\n%s", prefix, diff)
		}
	}
}

func testAllChange(t testing.TB, s store.Store) {
	for url := range 20 {
		put(t, s, entry(Key(url, 0), 0), content(1, 10))
	}
	for range s.All(t.Context(), "") {
		break
	}
	for e, err := range s.All(t.Context(), "") {
		if err != nil {
			t.Fatalf("All: %v", err)
		}
		update(t, s, e.Key, func([]*store.Entry) []*store.Entry { return nil })
	}
	for e := range s.All(t.Context(), "") {
		t.Errorf("%s is left", e.Key)
	}
}

func testSecret(t testing.TB, s store.Store) {
	a, err := s.Secret(t.Context())
	if err != nil {
		t.Fatalf("Secret: %v", err)
	}
	if len(a) < 32 || bytes.Count(a, []byte{0}) > len(a)/2 {
		t.Errorf("Secret is %d bytes, %x, want 32 random ones at least", len(a), a)
	}
	first := bytes.Clone(a)
	clear(a)
	b, err := s.Secret(t.Context())
	if err != nil || !bytes.Equal(first, b) {
		t.Errorf("the second time Secret is %x, %v, want %x", b, err, first)
	}
}

func testEntriesApart(t testing.TB, s store.Store) {
	key := Key(1, 1)
	for i := range 3 {
		put(t, s, entry(key, i), content(uint64(i), 100))
	}
	want := urls(entries(t, s, key))
	for range 2 {
		got := entries(t, s, key)
		slices.Reverse(got)
		_ = append(got[:1], entry(key, 9))
		clear(got)
		if diff := cmp.Diff(want, urls(entries(t, s, key))); diff != "" {
			t.Errorf("the caller changed its slice, and the store's entries changed with it (-want +got):\n%s", diff)
		}
	}
}
