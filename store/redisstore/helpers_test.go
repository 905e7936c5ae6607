package redisstore_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/redisstore"
)

// newEntry returns the metadata of a response that is fresh for a minute.
func newEntry(key string) *store.Entry {
	now := time.Now().Round(0)
	return &store.Entry{
		Key: key, URL: "https://example.com/", Method: http.MethodGet, Status: http.StatusOK, Proto: "HTTP/1.1",
		Header:      http.Header{"Cache-Control": {"max-age=60"}, "Date": {now.UTC().Format(http.TimeFormat)}},
		RequestTime: now, ResponseTime: now,
	}
}

// put replaces the entries of a key by an entry with a body.
func put(s store.Store, t testing.TB, key string, body []byte) error {
	t.Helper()
	draft, err := s.Create(t.Context(), key, int64(len(body)))
	if err != nil {
		return err
	}
	defer draft.Close()
	if _, err := draft.Write(body); err != nil {
		return err
	}
	blob, err := draft.Commit()
	if err != nil {
		return err
	}
	e := newEntry(key)
	e.Length = blob.Size
	e.Parts = []store.Part{{Length: blob.Size, Blob: blob}}
	return s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return []*store.Entry{e} })
}

func mustPut(s store.Store, t testing.TB, key string, body []byte) {
	t.Helper()
	if err := put(s, t, key, body); err != nil {
		t.Fatalf("storing %d bytes: %v", len(body), err)
	}
}

// get returns the body of the first entry of key, nil if there is none.
func get(s store.Store, t testing.TB, key string) ([]byte, error) {
	t.Helper()
	entries, err := s.Entries(t.Context(), key)
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	blob := entries[0].Parts[0].Blob
	body, err := s.Open(t.Context(), key, blob)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(io.NewSectionReader(body, 0, blob.Size))
}

func holds(s store.Store, t testing.TB, key string, want []byte) bool {
	t.Helper()
	got, err := get(s, t, key)
	return err == nil && bytes.Equal(got, want)
}

var (
	small = []byte("a small body")
	large = bytes.Repeat([]byte("a large body "), 40_000)
)

// metadataName returns the name of the hash with the metadata of a key.
func metadataName(opts redisstore.Options, key string) string {
	digit := strings.IndexByte("0123456789abcdef", key[33])
	return fmt.Sprintf("%s:v1:{%s}:m:%c%x", opts.Prefix, key[:32], key[32], digit&^3)
}
