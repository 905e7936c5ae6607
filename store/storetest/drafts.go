package storetest

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cachetrip/cachetrip/store"
)

func testDraft(t testing.TB, s store.Store) {
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
	if !bytes.Equal(read(t, s, key, blobOf(t, s, key)), body[:written]) {
		t.Error("stored bytes differ from those written")
	}
	if _, err := draft.Write([]byte("x")); err == nil {
		t.Error("Write after Close is no error")
	}
}

func testDraftConcurrent(t testing.TB, s store.Store) {
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

func testDraftDiscarded(t testing.TB, s store.Store) {
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

func testDraftEnds(t testing.TB, s store.Store) {
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
		if got := read(t, s, key, blobOf(t, s, key)); !bytes.Equal(got, body) {
			t.Errorf("%d bytes: the committed body differs", size)
		}
	}
}

func testDraftsApart(t testing.TB, s store.Store) {
	key := Key(1, 1)
	sizes := []int{500, 20_000, 70_000, 600_000}
	var drafts []store.Draft
	var bodies [][]byte
	for i, size := range sizes {
		bodies = append(bodies, content(uint64(i), size))
		draft, err := s.Create(t.Context(), key, -1)
		if err != nil {
			t.Fatalf("Create: %v", err)
		}
		defer draft.Close()
		drafts = append(drafts, draft)
	}
	for n := 0; n < 600_000; n += 7000 { // in turn
		for i, draft := range drafts {
			if body := bodies[i]; n < len(body) {
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
		if !bytes.Equal(read(t, s, key, blobIn(t, e)), bodies[2-i]) {
			t.Errorf("entry %d has wrong bytes", i)
		}
	}
}
