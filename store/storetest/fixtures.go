package storetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/store"
	"github.com/google/go-cmp/cmp"
)

// Key returns a key; those of one url share their first half.
func Key(url, identity int) string {
	return fmt.Sprintf("%08x%024x%032x", uint32(url)*2654435761, url, identity)
}

// content returns size bytes that differ from seed to seed and from offset to
// offset.
func content(seed uint64, size int) []byte {
	// ChaCha8 fills in large pieces, which the race detector does not look at
	// one by one.
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
	putAs(t, s, e, body, int64(len(body)))
}

// putApart is put for a body whose size the store does not know in advance. It
// is less likely that the store keeps such a body with the entry.
func putApart(t testing.TB, s store.Store, e *store.Entry, body []byte) {
	t.Helper()
	putAs(t, s, e, body, -1)
}

func putAs(t testing.TB, s store.Store, e *store.Entry, body []byte, size int64) {
	t.Helper()
	e = whole(e, stage(t, s, e.Key, body, size))
	update(t, s, e.Key, func(current []*store.Entry) []*store.Entry {
		return append([]*store.Entry{e}, current...)
	})
}

func update(t testing.TB, s store.Store, key string, change func([]*store.Entry) []*store.Entry) {
	t.Helper()
	if err := patientUpdate(t, s, key, change); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

// patiently calls f again while a store gives up waiting for a lock: on a busy
// machine, the holder of the lock may make no progress for a while.
func patiently(f func() error) error {
	last := time.Now().Add(time.Minute)
	for {
		err := f()
		if store.CauseOf(err) != store.CauseLocked || time.Now().After(last) {
			return err
		}
	}
}

func patientUpdate(t testing.TB, s store.Store, key string, change func([]*store.Entry) []*store.Entry) error {
	return patiently(func() error { return s.Update(t.Context(), key, change) })
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
		if e == nil {
			out = append(out, "no entry")
			continue
		}
		out = append(out, e.URL)
	}
	return out
}

// blobOf returns the first blob of the first entry of a key.
func blobOf(t testing.TB, s store.Store, key string) store.Blob {
	t.Helper()
	got := entries(t, s, key)
	if len(got) == 0 {
		t.Fatalf("no entries, want one with a body")
	}
	return blobIn(t, got[0])
}

// blobIn returns the first blob of an entry.
func blobIn(t testing.TB, e *store.Entry) store.Blob {
	t.Helper()
	if e == nil || len(e.Parts) == 0 {
		t.Fatalf("an entry lost its body")
	}
	return e.Parts[0].Blob
}

// tryRead reads as much of a blob as the store gives, and reports a byte that
// is not that of want. If the store does not give all of them, the error says
// why.
func tryRead(t testing.TB, s store.Store, key string, blob store.Blob, want []byte) error {
	t.Helper()
	body, err := s.Open(t.Context(), key, blob)
	if err != nil {
		return err
	}
	defer body.Close()
	got, err := io.ReadAll(io.NewSectionReader(body, 0, int64(len(want))))
	if !bytes.HasPrefix(want, got) {
		t.Errorf("a body of %d bytes is read with wrong bytes", len(want))
	}
	if w, ok := body.(rangeWriter); ok {
		var copied bytes.Buffer
		_, cerr := w.WriteRangeTo(&copied, 0, int64(len(want)))
		if !bytes.HasPrefix(want, copied.Bytes()) {
			t.Errorf("WriteRangeTo writes wrong bytes of a body of %d bytes", len(want))
		}
		if err == nil {
			err = cerr
		}
	}
	if err == nil && len(got) != len(want) {
		t.Errorf("%d bytes are read of %d, without an error", len(got), len(want))
	}
	return err
}
