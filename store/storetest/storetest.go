// Package storetest checks that a store.Store keeps what package store promises, in the manner of
// testing/fstest. An implementation's own test calls [Test].
package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/fill"
	"github.com/google/go-cmp/cmp"
)

// Test runs the acceptance tests. open returns a new, empty store each time,
// whose size limit is at least 64 MiB. open may use t.Cleanup to close it.
func Test(t *testing.T, open func(t *testing.T) store.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, store.Store)
	}{
		{"nothing stored is no error", testNothing},
		{"entries come back with every field", testRoundTrip},
		{"bodies of all sizes come back", testBodies},
		{"an entry may have several parts", testParts},
		{"the most recently stored comes first", testOrder},
		{"variants are bounded, the oldest goes", testVariants},
		{"returning the same slice changes nothing", testSameSlice},
		{"removing all entries removes the key", testRemove},
		{"no update is lost", testConcurrentUpdates},
		{"a failed update leaves what was there", testTooLarge},
		{"an entry of another key is refused", testForeignEntry},
		{"keys are checked", testKeys},
		{"an opened body outlives its release", testRelease},
		{"a released blob is gone", testReleased},
		{"a blob shared by two entries stays until the last goes", testSharedBlob},
		{"freshening keeps the body", testFreshen},
		{"a draft can be read while it is written", testDraft},
		{"a draft can be read by many while it is written", testDraftConcurrent},
		{"a draft that is closed early leaves nothing", testDraftDiscarded},
		{"an oversized body is refused", testOversized},
		{"a missing blob is damage", testMissingBlob},
		{"ReadAt keeps the contract of io.ReaderAt", testReaderAt},
		{"All finds by prefix", testAll},
		{"All may be left early and stores may change meanwhile", testAllChange},
		{"the secret is stable", testSecret},
		{"a cancelled context is an error", testContext},
		{"a draft ends once", testDraftEnds},
		{"drafts of one key do not disturb each other", testDraftsApart},
		{"a body copies itself as it reads", testWriteRange},
		{"what Entries returns may be rearranged", testEntriesApart},
		{"a panic in change does no harm", testPanic},
		{"everything at once", testEverything},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, open(t))
		})
	}
}

// Key returns a key; those of one url share their first half.
func Key(url, identity int) string {
	return fmt.Sprintf("%08x%024x%032x", uint32(url)*2654435761, url, identity)
}

// content returns size bytes that differ from seed to seed and from offset to offset.
func content(seed uint64, size int) []byte {
	// ChaCha8 fills in large pieces, which the race detector does not look at one by one.
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, size)
	rand.NewChaCha8(key).Read(b)
	return b
}

// entry returns an entry with every field set, without a body.
func entry(key string, n int) *store.Entry {
	at := time.Date(2031, 5, 6, 7, 8, 9, 123456789, time.UTC).Add(time.Duration(n) * time.Second)
	return &store.Entry{
		Key:    key,
		URL:    fmt.Sprintf("https://example.com/%d?q=ü", n),
		Method: http.MethodGet,
		Status: 200 + n%100,
		Proto:  "HTTP/2.0",
		Header: http.Header{
			"Content-Type":  {"text/plain; charset=utf-8"},
			"Cache-Control": {"max-age=60", "public"},
			"Etag":          {fmt.Sprintf(`"%d"`, n)},
			"X-Empty":       {""},
			"x-lower":       {"kept as it is"},
		},
		Trailer:            http.Header{"X-Checksum": {"abc"}},
		Selecting:          map[string]string{"Accept-Language": fmt.Sprint("de;q=", n)},
		RequestTime:        at,
		ResponseTime:       at.Add(20 * time.Millisecond),
		InvalidatedAt:      at.Add(time.Hour),
		Uncompressed:       n%2 == 0,
		ForeignCredentials: n%3 == 0,
		Length:             -1,
	}
}

// stage commits body as a blob.
func stage(t testing.TB, s store.Store, key string, body []byte, size int64) store.Blob {
	t.Helper()
	draft, err := s.Create(t.Context(), key, size)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	defer draft.Close()
	for rest := body; len(rest) > 0; {
		n := min(len(rest), 1+len(body)/7)
		if m, err := draft.Write(rest[:n]); m != n || err != nil {
			t.Fatalf("Write: %d, %v, want %d, nil", m, err, n)
		}
		rest = rest[n:]
	}
	blob, err := draft.Commit()
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	if blob.Size != int64(len(body)) || blob.ID == "" {
		t.Fatalf("Commit returned ID %q and size %d, want some ID and %d", blob.ID, blob.Size, len(body))
	}
	return blob
}

// whole makes blob the complete body of e.
func whole(e *store.Entry, blob store.Blob) *store.Entry {
	e.Length = blob.Size
	e.Parts = []store.Part{{Length: blob.Size, Blob: blob}}
	return e
}

// put stores an entry with a body, in front of the present entries.
func put(t testing.TB, s store.Store, e *store.Entry, body []byte) {
	t.Helper()
	e = whole(e, stage(t, s, e.Key, body, int64(len(body))))
	update(t, s, e.Key, func(current []*store.Entry) []*store.Entry {
		return append([]*store.Entry{e}, current...)
	})
}

func update(t testing.TB, s store.Store, key string, change func([]*store.Entry) []*store.Entry) {
	t.Helper()
	if err := s.Update(t.Context(), key, change); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

func entries(t testing.TB, s store.Store, key string) []*store.Entry {
	t.Helper()
	got, err := s.Entries(t.Context(), key)
	if err != nil {
		t.Fatalf("Entries: %v", err)
	}
	return got
}

// read returns a blob's bytes.
func read(t testing.TB, s store.Store, key string, blob store.Blob) []byte {
	t.Helper()
	body, err := s.Open(t.Context(), key, blob)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer body.Close()
	b, err := io.ReadAll(io.NewSectionReader(body, 0, blob.Size))
	if err != nil {
		t.Fatalf("reading a body: %v", err)
	}
	return b
}

// ignoreBlob compares entries but for how their blobs are kept.
var ignoreBlob = cmp.Comparer(func(a, b store.Blob) bool { return a.ID == b.ID && a.Size == b.Size })

func urls(entries []*store.Entry) []string {
	var out []string
	for _, e := range entries {
		out = append(out, e.URL)
	}
	return out
}

func testNothing(t *testing.T, s store.Store) {
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

func testRoundTrip(t *testing.T, s store.Store) {
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

func testBodies(t *testing.T, s store.Store) {
	for i, size := range []int{0, 1, 100, 1023, 4096, 16383, 16384, 16385, 65535, 65536, 65537, 131072, 262144, 300_001, 1 << 20, 5<<20 + 3} {
		for j, announced := range []int64{int64(size), -1} {
			key := Key(i, j)
			body := content(uint64(i), size)
			e := whole(entry(key, i), stage(t, s, key, body, announced))
			update(t, s, key, func([]*store.Entry) []*store.Entry { return []*store.Entry{e} })
			got := entries(t, s, key)
			if len(got) != 1 || !got[0].Complete() {
				t.Fatalf("%d bytes: entries %v, want a complete one", size, got)
			}
			blob := got[0].Parts[0].Blob
			if blob.Inline != nil && !bytes.Equal(blob.Inline, body) {
				t.Errorf("%d bytes: kept with the entry, but wrong", size)
			}
			if !bytes.Equal(read(t, s, key, blob), body) {
				t.Errorf("%d bytes: read wrong bytes", size)
			}
		}
	}
}

func testParts(t *testing.T, s store.Store) {
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

func testOrder(t *testing.T, s store.Store) {
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

func testVariants(t *testing.T, s store.Store) {
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

func testSameSlice(t *testing.T, s store.Store) {
	key := Key(1, 1)
	put(t, s, entry(key, 1), content(1, 100))
	before := entries(t, s, key)
	update(t, s, key, func(current []*store.Entry) []*store.Entry { return current })
	if diff := cmp.Diff(before, entries(t, s, key)); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}

func testRemove(t *testing.T, s store.Store) {
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

func testConcurrentUpdates(t *testing.T, s store.Store) {
	const workers, rounds = 8, 40
	keys := []string{Key(1, 1), Key(1, 2), Key(2, 1)}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				key := keys[(w+i)%len(keys)]
				err := s.Update(t.Context(), key, func(current []*store.Entry) []*store.Entry {
					e := entry(key, 0)
					if len(current) > 0 {
						e = current[0].Clone()
						e.Status++
					} else {
						e.Status = 1
					}
					return []*store.Entry{e}
				})
				if err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, key := range keys {
		for _, e := range entries(t, s, key) {
			sum += e.Status
		}
	}
	if sum != workers*rounds {
		t.Errorf("%d updates counted, want %d", sum, workers*rounds)
	}
}

func testTooLarge(t *testing.T, s store.Store) {
	key := Key(1, 1)
	put(t, s, entry(key, 1), content(1, 1000))
	before := entries(t, s, key)
	big := entry(key, 2)
	big.Header.Set("X-Big", strings.Repeat("x", 1<<20))
	err := s.Update(t.Context(), key, func(current []*store.Entry) []*store.Entry {
		return append([]*store.Entry{big}, current...)
	})
	if !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("Update with a head of 1 MiB: %v, want ErrTooLarge", err)
	}
	if diff := cmp.Diff(before, entries(t, s, key)); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}

func testForeignEntry(t *testing.T, s store.Store) {
	err := s.Update(t.Context(), Key(1, 1), func([]*store.Entry) []*store.Entry {
		return []*store.Entry{entry(Key(1, 2), 1)}
	})
	if err == nil {
		t.Error("an entry that belongs to another key is taken")
	}
}

func testKeys(t *testing.T, s store.Store) {
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

func testRelease(t *testing.T, s store.Store) {
	for _, size := range []int{10, 20_000, 70_000, 3 << 20} {
		key := Key(size, 1)
		want := content(uint64(size), size)
		put(t, s, entry(key, 1), want)
		body, err := s.Open(t.Context(), key, entries(t, s, key)[0].Parts[0].Blob)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		defer body.Close()
		half := make([]byte, size/2)
		if _, err := body.ReadAt(half, 0); err != nil {
			t.Errorf("%d bytes: reading the first half: %v", size, err)
		}
		update(t, s, key, func([]*store.Entry) []*store.Entry { return nil })
		rest, err := io.ReadAll(io.NewSectionReader(body, int64(size/2), int64(size)))
		if err != nil || !bytes.Equal(append(half, rest...), want) {
			t.Errorf("%d bytes: released while open, then read wrong bytes or %v", size, err)
		}
	}
}

func testReleased(t *testing.T, s store.Store) {
	key := Key(1, 1)
	put(t, s, entry(key, 1), content(1, 200_000))
	blob := entries(t, s, key)[0].Parts[0].Blob
	blob.Inline = nil
	put(t, s, entry(key, 2), content(2, 200_000))
	update(t, s, key, func(current []*store.Entry) []*store.Entry { return current[:1] })
	if body, err := s.Open(t.Context(), key, blob); !errors.Is(err, store.ErrDamaged) {
		if err == nil {
			body.Close()
		}
		t.Errorf("Open of a released blob: %v, want ErrDamaged", err)
	}
	got := entries(t, s, key)
	if len(got) != 1 || !bytes.Equal(read(t, s, key, got[0].Parts[0].Blob), content(2, 200_000)) {
		t.Error("the other entry suffered")
	}
}

func testSharedBlob(t *testing.T, s store.Store) {
	for _, size := range []int{100, 100_000} {
		key := Key(size, 1)
		body := content(1, size)
		blob := stage(t, s, key, body, -1)
		a, b := whole(entry(key, 1), blob), whole(entry(key, 2), blob)
		update(t, s, key, func([]*store.Entry) []*store.Entry { return []*store.Entry{a, b} })
		for left := 1; left >= 0; left-- {
			for _, e := range entries(t, s, key) {
				if !bytes.Equal(read(t, s, key, e.Parts[0].Blob), body) {
					t.Errorf("%d bytes: wrong bytes", size)
				}
			}
			update(t, s, key, func(current []*store.Entry) []*store.Entry { return current[:left] })
			if got := entries(t, s, key); len(got) != left {
				t.Errorf("%d entries left, want %d", len(got), left)
			}
		}
	}
}

func testFreshen(t *testing.T, s store.Store) {
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
		if !bytes.Equal(read(t, s, key, got[1].Parts[0].Blob), body) || string(read(t, s, key, got[0].Parts[0].Blob)) != "another variant" {
			t.Errorf("%d bytes: wrong bytes after freshening", size)
		}
	}
}

func testDraft(t *testing.T, s store.Store) {
	key := Key(1, 1)
	body := content(1, 2<<20)
	draft, err := s.Create(t.Context(), key, -1)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	buf := make([]byte, 3<<20)
	check := func(size int) {
		t.Helper()
		n, err := draft.ReadAt(buf, 0)
		if n != size || err != io.EOF || !bytes.Equal(buf[:n], body[:n]) {
			t.Fatalf("with %d bytes written, ReadAt: %d, %v, want all of them and io.EOF", size, n, err)
		}
		if n, err := draft.ReadAt(buf[:10], int64(size)); n != 0 || err != io.EOF {
			t.Errorf("ReadAt at the end: %d, %v, want 0, io.EOF", n, err)
		}
		if size >= 20 {
			if n, err := draft.ReadAt(buf[:10], int64(size)-15); n != 10 || err != nil || !bytes.Equal(buf[:10], body[size-15:size-5]) {
				t.Errorf("ReadAt within: %d, %v, want 10, nil and the right bytes", n, err)
			}
		}
	}
	check(0)
	written := 0
	for _, n := range []int{1, 10, 1000, 15_000, 373, 1, 40_000, 8000, 200_000, 1, 262_144, 900_000} {
		if m, err := draft.Write(body[written : written+n]); m != n || err != nil {
			t.Fatalf("Write: %d, %v", m, err)
		}
		written += n
		check(written)
	}
	blob, err := draft.Commit()
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	check(written)
	e := whole(entry(key, 1), blob)
	update(t, s, key, func([]*store.Entry) []*store.Entry { return []*store.Entry{e} })
	check(written)
	if err := draft.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := draft.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if !bytes.Equal(read(t, s, key, entries(t, s, key)[0].Parts[0].Blob), body[:written]) {
		t.Error("stored bytes differ from those written")
	}
	if _, err := draft.Write([]byte("x")); err == nil {
		t.Error("Write after Close is no error")
	}
}

func testDraftConcurrent(t *testing.T, s store.Store) {
	key := Key(1, 1)
	body := content(1, 1<<20+77)
	draft, err := s.Create(t.Context(), key, int64(len(body)))
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	defer draft.Close()
	var written atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			buf := make([]byte, 50_000)
			for off := int64(0); off < int64(len(body)); {
				n, err := draft.ReadAt(buf, off)
				if err != nil && err != io.EOF {
					t.Errorf("ReadAt: %v", err)
					return
				}
				if !bytes.Equal(buf[:n], body[off:off+int64(n)]) {
					t.Errorf("wrong bytes at %d", off)
					return
				}
				if off += int64(n); off > written.Load()+1 && off > int64(len(body)) {
					t.Errorf("read %d bytes, more than were written", off)
				}
			}
		})
	}
	for rest := body; len(rest) > 0; {
		n := min(len(rest), 3333)
		if _, err := draft.Write(rest[:n]); err != nil {
			t.Errorf("Write: %v", err)
			break
		}
		written.Add(int64(n))
		rest = rest[n:]
	}
	if _, err := draft.Commit(); err != nil {
		t.Errorf("Commit: %v", err)
	}
	wg.Wait()
}

func testDraftDiscarded(t *testing.T, s store.Store) {
	for _, size := range []int{0, 100, 700_000} {
		draft, err := s.Create(t.Context(), Key(1, 1), -1)
		if err != nil {
			t.Fatalf("Create: %v", err)
		}
		if _, err := draft.Write(content(1, size)); err != nil {
			t.Fatalf("Write: %v", err)
		}
		if err := draft.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if _, err := draft.Commit(); err == nil {
			t.Error("Commit after Close is no error")
		}
	}
	if got := entries(t, s, Key(1, 1)); len(got) != 0 {
		t.Errorf("got %d entries, want none", len(got))
	}
}

func testOversized(t *testing.T, s store.Store) {
	if _, err := s.Create(t.Context(), Key(1, 1), 1<<60); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("Create of 1 EiB: %v, want ErrTooLarge", err)
	}
}

func testMissingBlob(t *testing.T, s store.Store) {
	for _, id := range []string{"0123456789abcdef0123456789abcdef", "x"} {
		if _, err := s.Open(t.Context(), Key(1, 1), store.Blob{ID: id, Size: 5}); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("Open of a blob that never was: %v, want ErrDamaged", err)
		}
	}
}

func testReaderAt(t *testing.T, s store.Store) {
	for i, size := range []int{1, 5000, 40_000, 65_536, 200_000, 1 << 20} {
		key := Key(i, 1)
		want := content(uint64(i), size)
		put(t, s, entry(key, 1), want)
		body, err := s.Open(t.Context(), key, entries(t, s, key)[0].Parts[0].Blob)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		defer body.Close()
		r := rand.New(rand.NewPCG(1, uint64(size)))
		var wg sync.WaitGroup
		for range 2 {
			var offs, lens []int
			for range 50 {
				off := r.IntN(size)
				offs, lens = append(offs, off), append(lens, r.IntN(2*(size-off)+1))
			}
			wg.Go(func() {
				for i, off := range offs {
					p := make([]byte, lens[i])
					n, err := body.ReadAt(p, int64(off))
					left := min(len(p), size-off)
					if n != left || !bytes.Equal(p[:n], want[off:off+n]) || (n < len(p)) != (err == io.EOF) || err != nil && err != io.EOF {
						t.Errorf("ReadAt of %d at %d of %d: %d, %v", len(p), off, size, n, err)
					}
				}
			})
		}
		wg.Wait()
		for _, off := range []int64{int64(size), int64(size) + 1, 1 << 50} {
			if n, err := body.ReadAt(make([]byte, 1), off); n != 0 || err != io.EOF {
				t.Errorf("ReadAt at %d of %d: %d, %v, want 0, io.EOF", off, size, n, err)
			}
		}
		if _, err := body.ReadAt(make([]byte, 1), -1); err == nil || err == io.EOF {
			t.Errorf("ReadAt at -1: %v, want an error", err)
		}
	}
}

func testAll(t *testing.T, s store.Store) {
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

func testAllChange(t *testing.T, s store.Store) {
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

func testSecret(t *testing.T, s store.Store) {
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

func testContext(t *testing.T, s store.Store) {
	put(t, s, entry(Key(1, 1), 1), content(1, 100))
	blob := entries(t, s, Key(1, 1))[0].Parts[0].Blob
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	errs := map[string]error{}
	_, errs["Entries"] = s.Entries(ctx, Key(1, 1))
	errs["Update"] = s.Update(ctx, Key(1, 1), func([]*store.Entry) []*store.Entry { return nil })
	_, errs["Open"] = s.Open(ctx, Key(1, 1), blob)
	_, errs["Create"] = s.Create(ctx, Key(1, 1), 1)
	_, errs["Secret"] = s.Secret(ctx)
	for _, err := range s.All(ctx, "") {
		errs["All"] = err
	}
	for _, name := range []string{"Entries", "Update", "Open", "Create", "Secret", "All"} {
		if !errors.Is(errs[name], context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, errs[name])
		}
	}
	if len(entries(t, s, Key(1, 1))) != 1 {
		t.Error("a cancelled Update changed something")
	}
}

func testDraftEnds(t *testing.T, s store.Store) {
	for _, size := range []int{0, 100, 40_000, 700_000} {
		key := Key(size, 1)
		body := content(1, size)
		draft, err := s.Create(t.Context(), key, -1)
		if err != nil {
			t.Fatalf("Create: %v", err)
		}
		if _, err := draft.Write(body); err != nil {
			t.Fatalf("Write: %v", err)
		}
		blob, err := draft.Commit()
		if err != nil {
			t.Fatalf("Commit: %v", err)
		}
		if n, err := draft.Write([]byte("more")); err == nil {
			t.Errorf("%d bytes: Write after Commit is no error, %d", size, n)
		}
		if _, err := draft.Commit(); err == nil {
			t.Errorf("%d bytes: a second Commit is no error", size)
		}
		if err := draft.Close(); err != nil {
			t.Errorf("%d bytes: Close: %v", size, err)
		}
		if n, err := draft.ReadAt(make([]byte, 1), 0); err == nil {
			t.Errorf("%d bytes: ReadAt after Close is no error, %d", size, n)
		}
		e := whole(entry(key, 1), blob)
		update(t, s, key, func([]*store.Entry) []*store.Entry { return []*store.Entry{e} })
		if got := read(t, s, key, entries(t, s, key)[0].Parts[0].Blob); !bytes.Equal(got, body) {
			t.Errorf("%d bytes: what was committed differs", size)
		}
	}
}

func testDraftsApart(t *testing.T, s store.Store) {
	key := Key(1, 1)
	sizes := []int{500, 20_000, 70_000, 600_000}
	var drafts []store.Draft
	for range sizes {
		draft, err := s.Create(t.Context(), key, -1)
		if err != nil {
			t.Fatalf("Create: %v", err)
		}
		defer draft.Close()
		drafts = append(drafts, draft)
	}
	for n := 0; n < 600_000; n += 7000 { // in turn
		for i, draft := range drafts {
			body := content(uint64(i), sizes[i])
			if n < len(body) {
				if _, err := draft.Write(body[n:min(len(body), n+7000)]); err != nil {
					t.Fatalf("Write: %v", err)
				}
			}
		}
	}
	if err := drafts[3].Close(); err != nil { // given up
		t.Errorf("Close: %v", err)
	}
	ids := map[string]bool{}
	for i, draft := range drafts[:3] {
		blob, err := draft.Commit()
		if err != nil {
			t.Fatalf("Commit: %v", err)
		}
		ids[blob.ID] = true
		e := whole(entry(key, i), blob)
		update(t, s, key, func(current []*store.Entry) []*store.Entry { return append(current, e) })
	}
	if len(ids) != 3 {
		t.Errorf("%d different IDs of three blobs", len(ids))
	}
	got := entries(t, s, key)
	if len(got) != 3 {
		t.Fatalf("%d entries, want 3", len(got))
	}
	for i, e := range got {
		if !bytes.Equal(read(t, s, key, e.Parts[0].Blob), content(uint64(2-i), sizes[2-i])) {
			t.Errorf("entry %d has wrong bytes", i)
		}
	}
}

// testWriteRange concerns stores whose bodies have the optional method WriteRangeTo.
func testWriteRange(t *testing.T, s store.Store) {
	for i, size := range []int{1, 5000, 40_000, 65_536, 200_000, 1<<20 + 1} {
		key := Key(i, 1)
		want := content(uint64(i), size)
		put(t, s, entry(key, 1), want)
		for range 2 { // once before it was read, and once after
			body, err := s.Open(t.Context(), key, entries(t, s, key)[0].Parts[0].Blob)
			if err != nil {
				t.Fatalf("Open: %v", err)
			}
			defer body.Close()
			w, ok := body.(interface {
				WriteRangeTo(w io.Writer, offset, length int64) (int64, error)
			})
			if !ok {
				continue
			}
			for _, r := range [][2]int{{0, size}, {0, 0}, {size, 0}, {size / 2, size - size/2}, {size / 3, size / 3}} {
				var got bytes.Buffer
				n, err := w.WriteRangeTo(&got, int64(r[0]), int64(r[1]))
				if n != int64(r[1]) || err != nil || !bytes.Equal(got.Bytes(), want[r[0]:r[0]+r[1]]) {
					t.Errorf("WriteRangeTo of %d bytes at %d of %d: %d, %v, or wrong bytes", r[1], r[0], size, n, err)
				}
			}
			for _, r := range [][2]int64{{-1, 1}, {0, int64(size) + 1}, {int64(size) + 1, 0}, {0, -1}} {
				if n, err := w.WriteRangeTo(io.Discard, r[0], r[1]); n != 0 || err == nil {
					t.Errorf("WriteRangeTo of %d bytes at %d of %d: %d, %v, want an error", r[1], r[0], size, n, err)
				}
			}
			full := errors.New("full")
			if n, err := w.WriteRangeTo(failing{full}, 0, int64(size)); n != 0 || !errors.Is(err, full) {
				t.Errorf("WriteRangeTo a writer that fails: %d, %v, want its error", n, err)
			}
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func testEntriesApart(t *testing.T, s store.Store) {
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
			t.Errorf("what was returned before was rearranged, now (-want +got):\n%s", diff)
		}
	}
}

func testPanic(t *testing.T, s store.Store) {
	key := Key(1, 1)
	put(t, s, entry(key, 1), content(1, 100))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("Update swallows a panic of change")
			}
		}()
		s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { panic("change") })
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := s.Update(ctx, key, func(current []*store.Entry) []*store.Entry {
		return append([]*store.Entry{entry(key, 2)}, current...)
	})
	if err != nil || len(entries(t, s, key)) != 2 {
		t.Errorf("Update after a panic: %v, and %d entries, want 2", err, len(entries(t, s, key)))
	}
}

// testEverything lets several goroutines store, freshen, read and drop the same
// few keys. The first byte of each body determines the rest.
func testEverything(t *testing.T, s store.Store) {
	const workers, rounds = 6, 60
	sizes := []int{1, 900, 16_000, 30_000, 90_000, 400_000}
	bodies := make([][]byte, len(sizes))
	for i, size := range sizes {
		bodies[i] = content(uint64(i), size)
		bodies[i][0] = byte(i)
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(w)))
			for range rounds {
				key := Key(r.IntN(4), 0)
				switch r.IntN(5) {
				case 0, 1:
					i := r.IntN(len(bodies))
					draft, err := s.Create(t.Context(), key, -1)
					if err != nil {
						t.Errorf("Create: %v", err)
						return
					}
					_, err = draft.Write(bodies[i])
					blob, cerr := draft.Commit()
					draft.Close()
					if err := errors.Join(err, cerr); err != nil {
						t.Errorf("staging: %v", err)
						return
					}
					e := whole(entry(key, i), blob)
					err = s.Update(t.Context(), key, func(current []*store.Entry) []*store.Entry {
						return append([]*store.Entry{e}, current[:min(3, len(current))]...)
					})
					if err != nil {
						t.Errorf("Update: %v", err)
					}
				case 2:
					err := s.Update(t.Context(), key, func(current []*store.Entry) []*store.Entry {
						if len(current) == 0 {
							return current
						}
						next := slices.Clone(current)
						next[0] = next[0].Clone()
						next[0].Header.Set("X-Fresh", "1")
						return next
					})
					if err != nil {
						t.Errorf("Update: %v", err)
					}
				default:
					got, err := s.Entries(t.Context(), key)
					if err != nil {
						t.Errorf("Entries: %v", err)
					}
					for _, e := range got {
						body, err := s.Open(t.Context(), key, e.Parts[0].Blob)
						if errors.Is(err, store.ErrDamaged) {
							continue // released since
						}
						if err != nil {
							t.Errorf("Open: %v", err)
							continue
						}
						b, err := io.ReadAll(io.NewSectionReader(body, 0, e.Length))
						body.Close()
						if err != nil || len(b) == 0 || int(b[0]) >= len(bodies) || !bytes.Equal(b, bodies[b[0]]) {
							t.Errorf("read %d wrong bytes, %v", len(b), err)
						}
					}
				}
			}
		})
	}
	wg.Wait()
}
