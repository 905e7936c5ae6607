package storetest

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip/store"
	"github.com/google/go-cmp/cmp"
)

func testTooLarge(t testing.TB, s store.Store) {
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

func testOversized(t testing.TB, s store.Store) {
	if _, err := s.Create(t.Context(), Key(1, 1), 1<<60); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("Create of 1 EiB: %v, want ErrTooLarge", err)
	}
}

// testFits concerns stores with the optional method Fits.
func testFits(t testing.TB, s store.Store) {
	sizer, ok := s.(interface{ Fits(*store.Entry) bool })
	if !ok {
		t.Skip("the store has no method Fits")
	}
	if !sizer.Fits(entry(Key(1, 1), 1)) {
		t.Error("Fits is false for an entry of a few hundred bytes")
	}
	big := entry(Key(1, 1), 2)
	big.Header.Set("X-Big", strings.Repeat("x", 1<<20))
	if sizer.Fits(big) {
		t.Error("Fits is true for an entry with a header of 1 MiB, which Update refuses")
	}
}

// testMaxBody stores a body of the largest size, and one that is longer.
func testMaxBody(t testing.TB, sub Subject) {
	if sub.MaxBody == 0 {
		t.Skip("Subject.MaxBody is not set: the largest body is not tried")
	}
	s, key := sub.Store, Key(1, 1)
	if _, err := s.Create(t.Context(), key, sub.MaxBody+1); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("Create of %d bytes: %v, want ErrTooLarge", sub.MaxBody+1, err)
	}
	draft, err := s.Create(t.Context(), key, -1)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	defer draft.Close()
	piece := content(1, 1<<20)
	var written int64
	for written < sub.MaxBody {
		n, err := draft.Write(piece[:min(int64(len(piece)), sub.MaxBody-written)])
		written += int64(n)
		if err != nil {
			t.Fatalf("Write of %d bytes in all: %v", written, err)
		}
	}
	if n, err := draft.Write(piece); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("Write of %d bytes more: %d, %v, want ErrTooLarge", len(piece), n, err)
	}
	got := make([]byte, min(int64(len(piece)), sub.MaxBody))
	if n, err := draft.ReadAt(got, 0); n != len(got) || err != nil && err != io.EOF || !bytes.Equal(got, piece[:n]) {
		t.Errorf("the bytes written before the error are not readable: %d bytes, %v", n, err)
	}
	if _, err := draft.Commit(); err == nil {
		t.Error("Commit of a draft that was too large is no error")
	}
	if err := draft.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	largest := content(2, int(sub.MaxBody))
	put(t, s, entry(key, 1), largest)
	if !bytes.Equal(read(t, s, key, blobOf(t, s, key)), largest) {
		t.Error("the largest body is read with wrong bytes")
	}
}

// testPartRanges stores parts that do not lie within their blobs.
func testPartRanges(t testing.TB, s store.Store) {
	const size = 100_000
	key := Key(1, 1)
	put(t, s, entry(key, 1), content(1, size))
	before := entries(t, s, key)
	blob := blobOf(t, s, key)
	shorter, inline := blob, store.Blob{ID: blob.ID, Size: 5, Inline: []byte("123456")}
	shorter.Size, shorter.Inline = -1, nil
	for _, p := range []store.Part{
		{Offset: -1, Length: 1, Blob: blob},
		{Length: -1, Blob: blob},
		{Skip: -1, Length: 1, Blob: blob},
		{Length: size + 1, Blob: blob},
		{Skip: 1, Length: size, Blob: blob},
		{Skip: size, Length: 1, Blob: blob},
		{Skip: size + 1, Blob: blob},
		{Skip: math.MaxInt64, Length: 1, Blob: blob},
		{Skip: 1, Length: math.MaxInt64, Blob: blob},
		{Skip: math.MaxInt64, Length: math.MaxInt64, Blob: blob},
		{Length: 1, Blob: shorter},
		{Length: 5, Blob: inline},
	} {
		e := entry(key, 2)
		e.Parts = []store.Part{p}
		err := s.Update(t.Context(), key, func(current []*store.Entry) []*store.Entry { return append(current, e) })
		if err == nil {
			t.Errorf("Update takes a part of %d bytes at %d, after %d bytes of a blob of %d", p.Length, p.Offset, p.Skip, p.Blob.Size)
		}
		if diff := cmp.Diff(urls(before), urls(entries(t, s, key))); diff != "" {
			t.Fatalf("a refused part changed the entries (-before +after):\n%s", diff)
		}
	}
	for i, p := range []store.Part{{Blob: blob}, {Skip: size, Blob: blob}, {Offset: 5, Skip: size - 1, Length: 1, Blob: blob}} {
		e := entry(key, 3+i)
		e.Parts = []store.Part{p}
		update(t, s, key, func([]*store.Entry) []*store.Entry { return []*store.Entry{e} })
		if diff := cmp.Diff([]*store.Entry{e}, entries(t, s, key), ignoreBlob); diff != "" {
			t.Errorf("a part at the edge of its blob (-want +got):\n%s", diff)
		}
	}
}

// testClosed concerns stores that can be closed.
func testClosed(t testing.TB, s store.Store) {
	closer, ok := s.(io.Closer)
	if !ok {
		t.Skip("the store has no method Close")
	}
	key := Key(1, 1)
	put(t, s, entry(key, 1), content(1, 100_000))
	blob := blobOf(t, s, key)
	draft, err := s.Create(t.Context(), key, -1)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	for i := range 2 {
		if err := closer.Close(); err != nil {
			t.Errorf("Close, call %d: %v", i+1, err)
		}
	}
	draft.Write([]byte("late")) // may fail, but must not hang or panic
	draft.Commit()
	if err := draft.Close(); err != nil {
		t.Errorf("Close of a draft after the store was closed: %v", err)
	}
	errs := map[string]error{}
	_, errs["Entries"] = s.Entries(t.Context(), key)
	errs["Update"] = s.Update(t.Context(), key, func(current []*store.Entry) []*store.Entry { return nil })
	_, errs["Open"] = s.Open(t.Context(), key, blob)
	_, errs["Create"] = s.Create(t.Context(), key, 1)
	_, errs["Secret"] = s.Secret(t.Context())
	for _, err := range s.All(t.Context(), "") {
		errs["All"] = err
	}
	for _, op := range []string{"Entries", "Update", "Open", "Create", "Secret", "All"} {
		if !errors.Is(errs[op], store.ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", op, errs[op])
		}
	}
}
