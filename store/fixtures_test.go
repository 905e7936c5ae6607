package store

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// Keys, entries and caches that many tests use.

func testKey(n int) string {
	return fmt.Sprintf("%016x%048x", uint64(n+1)*0x9e3779b97f4a7c15, n)
}

// sameShard returns the n-th further key of the shard of key.
func sameShard(key string, n int) string {
	return key[:2] + testKey(n)[2:]
}

func testHead(key string) *Entry {
	return &Entry{
		Key: key, URL: "https://api.example.com/v1/things/42", Method: "GET", Status: 200, Proto: "HTTP/2.0",
		Header: http.Header{
			"Cache-Control": {"private, max-age=60, s-maxage=60"}, "Content-Type": {"application/json; charset=utf-8"},
			"Date": {"Tue, 06 May 2031 07:08:09 GMT"}, "Etag": {`W/"644b5b0155e6404a9cc4bd9d8b1ae730"`},
			"Vary": {"Accept, Authorization, Cookie, Accept-Encoding"}, "X-Ratelimit-Remaining": {"4999"},
			"X-Request-Id": {"C0FF:12AB:345678:9ABCDE:66388888"}, "Server": {"example"},
		},
		Selecting:   map[string]string{"Accept": "application/json"},
		RequestTime: time.Unix(1900000000, 5).UTC(), ResponseTime: time.Unix(1900000000, 9).UTC(),
	}
}

// openTest opens a cache for a test or benchmark.
func openTest(tb testing.TB, dir string, opts DiskOptions) *Disk {
	tb.Helper()
	d, err := OpenDisk(dir, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { d.Close() })
	return d
}

// putBody replaces the entries of key by an entry with a body.
func putBody(s Store, key string, body []byte) error {
	ctx := context.Background()
	draft, err := s.Create(ctx, key, int64(len(body)))
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
	e := testHead(key)
	e.Length = blob.Size
	e.Parts = []Part{{Length: blob.Size, Blob: blob}}
	return s.Update(ctx, key, func([]*Entry) []*Entry { return []*Entry{e} })
}

func mustPut(tb testing.TB, s Store, key string, body []byte) {
	tb.Helper()
	if err := putBody(s, key, body); err != nil {
		tb.Fatal(err)
	}
}

var testKeyOne = testKey(1)

// patiently calls f again while f gives up waiting for a lock. On a busy
// machine, the caller that has the lock may make no progress for a while.
func patiently(f func() error) error {
	for last := time.Now().Add(time.Minute); ; {
		if err := f(); CauseOf(err) != CauseLocked || time.Now().After(last) {
			return err
		}
	}
}

// eventually waits until f returns true. It gives up and reports false after a
// minute, which is longer than any machine needs.
func eventually(f func() bool) bool {
	for last := time.Now().Add(time.Minute); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(last) {
			return false
		}
	}
	return true
}
