// Package golden helps to test that a store reads what earlier versions of it
// have written. A test fills a store once, and keeps the bytes that it wrote in
// a file. From then on the test reads them.
package golden

import (
	"bytes"
	"encoding/gob"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/fill"
)

var update = flag.Bool("update", false, "write the files in testdata anew, which must only be done for a new version of a format")

// File returns the value in a file. With the flag -update it first writes the
// value of write to the file.
func File[T any](t *testing.T, name string, write func() T) T {
	t.Helper()
	if *update {
		var b bytes.Buffer
		if err := gob.NewEncoder(&b).Encode(write()); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var value T
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// Keys are the keys that Fill stores under. Each has two entries. The body of
// the first key is small, that of the second is large.
var Keys = []string{strings.Repeat("0123456789abcdef", 4), strings.Repeat("fedcba98", 8)}

var sizes = []int{100, 70_000}

// body returns the body for the key with a number.
func body(i int) []byte {
	b := make([]byte, sizes[i])
	for j := range b {
		b[j] = byte(j ^ j>>8 ^ i)
	}
	return b
}

// entries returns the entries for the key with a number, of which the first has
// the body blob. No field of that entry is zero.
func entries(i int, blob store.Blob) []*store.Entry {
	e := new(store.Entry)
	fill.Fill(e)
	e.Key, e.Length = Keys[i], blob.Size
	e.Parts = []store.Part{{Length: blob.Size, Blob: blob}}
	return []*store.Entry{e, {
		Key: Keys[i], URL: "https://example.com/", Method: "HEAD", Status: 200, Proto: "HTTP/1.1",
		RequestTime: time.Unix(1_600_000_000, 0).UTC(), ResponseTime: time.Unix(1_600_000_001, 0).UTC(), Length: -1,
	}}
}

// Fill stores entries and bodies under Keys.
func Fill(t *testing.T, s store.Store) {
	t.Helper()
	for i, key := range Keys {
		draft, err := s.Create(t.Context(), key, int64(sizes[i]))
		if err != nil {
			t.Fatal(err)
		}
		defer draft.Close()
		if _, err := draft.Write(body(i)); err != nil {
			t.Fatal(err)
		}
		blob, err := draft.Commit()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return entries(i, blob) }); err != nil {
			t.Fatal(err)
		}
	}
}

// Check checks that s has what Fill stores.
func Check(t *testing.T, s store.Store) {
	t.Helper()
	for i, key := range Keys {
		got, err := s.Entries(t.Context(), key)
		if err != nil || len(got) != 2 || len(got[0].Parts) != 1 {
			t.Errorf("key %d: %d entries, %v; want 2 of which the first has a body", i, len(got), err)
			continue
		}
		blob := got[0].Parts[0].Blob // its ID is random
		if diff := cmp.Diff(entries(i, blob), got); diff != "" {
			t.Errorf("key %d: entries (-want +got):\n%s", i, diff)
		}
		opened, err := s.Open(t.Context(), key, blob)
		if err != nil {
			t.Errorf("key %d: %v", i, err)
			continue
		}
		read, err := io.ReadAll(io.NewSectionReader(opened, 0, blob.Size))
		if err != nil || !bytes.Equal(read, body(i)) {
			t.Errorf("key %d: another body, %d bytes of %d, %v", i, len(read), sizes[i], err)
		}
		opened.Close()
	}
}
