package encrypted_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/encrypted"
	"github.com/cachetrip/cachetrip/store/internal/subject"
	"github.com/cachetrip/cachetrip/store/storefault"
	"github.com/cachetrip/cachetrip/store/storetest"
)

func TestDisk(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		return subject.Disk(t, t.TempDir(), store.DiskOptions{MaxBytes: 128 << 20}, func(d *store.Disk) (store.Store, error) {
			return encrypted.New(d, key)
		})
	})
}

func TestMemory(t *testing.T) {
	storetest.Test(t, func(t *testing.T) store.Store { return wrap(t, store.NewMemory(64<<20)) })
}

// TestForged has the inner store give wrong bytes without noticing it.
func TestForged(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		inner := storefault.Wrap(store.NewMemory(64 << 20))
		return storetest.Subject{
			Store: wrap(t, inner),
			Damage: func(key string, _ store.Blob) error {
				inner.Inject(storefault.ForKey(key, storefault.Corrupt()), storefault.ReadAt)
				inner.Inject(func(storefault.Call) error { // what is stored next is intact
					inner.Inject(nil, storefault.ReadAt)
					return nil
				}, storefault.Create)
				return nil
			},
		}
	})
}

var key = []byte("0123456789abcdef0123456789abcdef")

func wrap(t *testing.T, inner store.Store) *encrypted.Store {
	t.Helper()
	s, err := encrypted.New(inner, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKeySize(t *testing.T) {
	if _, err := encrypted.New(store.NewMemory(0), key[:16]); err == nil {
		t.Error("a key of 16 bytes is taken")
	}
}

// newSession returns a client of a cache in dir that is sealed with key.
func newSession(t *testing.T, dir string, key []byte) *http.Client {
	t.Helper()
	disk, err := store.OpenDisk(dir, store.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := encrypted.New(disk, key)
	if err != nil {
		t.Fatal(err)
	}
	cache := &cachetrip.Transport{Store: s}
	t.Cleanup(func() {
		cache.Close()
		disk.Close()
	})
	return cache.Client()
}

// origin answers every path with its own words, over and over.
func origin(t *testing.T) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("ETag", `"tag-in-the-head"`)
		w.Header().Set("X-Words", "words-in-the-head")
		w.Header().Set("Vary", "Accept-Language")
		size := 100
		if strings.Contains(r.URL.Path, "large") {
			size = 1 << 20
		}
		http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader(strings.Repeat("words-in-the-body ", size/18+1)))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func get(t *testing.T, client *http.Client, url string, fields ...string) (string, cachetrip.Status) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), cachetrip.StatusOf(resp)
}

var paths = []string{"/small-path?query-in-url", "/large-path?query-in-url"}

// No stored content can be read in a file or in its name.
func TestNothingShows(t *testing.T) {
	dir, url := t.TempDir(), origin(t)
	client := newSession(t, dir, key)
	for _, path := range paths {
		for _, want := range []bool{false, true} {
			if _, status := get(t, client, url+path, "Accept-Language", "language-of-request"); status.Hit != want {
				t.Errorf("%s: %+v, want a hit: %t", path, status, want)
			}
		}
	}
	words := []string{"words-in-the-body", "words-in-the-head", "tag-in-the-head", "small-path", "large-path", "query-in-url",
		"language-of-request", "Accept-Language", "max-age", "127.0.0.1", "text/plain", string(key)}
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, word := range words {
			if strings.Contains(path+string(b), word) {
				t.Errorf("%q is in %s", word, path)
			}
		}
		return nil
	})
	if err != nil || files < 3 {
		t.Errorf("searched %d files, %v", files, err)
	}
}

// Ranges and streaming work as without encryption.
func TestRanges(t *testing.T) {
	url := origin(t)
	client := newSession(t, t.TempDir(), key)
	whole, _ := get(t, client, url+paths[1])
	for _, r := range []string{"bytes=0-0", "bytes=65535-65536", "bytes=65536-131071", "bytes=131072-", "bytes=-1", "bytes=700000-700017"} {
		part, status := get(t, client, url+paths[1], "Range", r)
		var first, last int
		switch n, _ := fmt.Sscanf(r, "bytes=%d-%d", &first, &last); {
		case n == 1 && first < 0:
			first, last = len(whole)+first, len(whole)-1
		case n == 1:
			last = len(whole) - 1
		}
		if !status.Hit || part != whole[first:last+1] {
			t.Errorf("%s: %d bytes, %+v, want %d and a hit", r, len(part), status, last+1-first)
		}
	}
}

// With another key everything is a miss, and nothing is lost for the first.
func TestWrongKey(t *testing.T) {
	dir, url := t.TempDir(), origin(t)
	right := newSession(t, dir, key)
	wrong := newSession(t, dir, bytes.Repeat([]byte("x"), 32))
	for _, path := range paths {
		want, _ := get(t, right, url+path)
		for _, hit := range []bool{false, true} {
			if got, status := get(t, wrong, url+path); status.Hit != hit || got != want {
				t.Errorf("%s with another key: %+v, want a hit: %t", path, status, hit)
			}
		}
		if got, status := get(t, right, url+path); !status.Hit || got != want {
			t.Errorf("%s with the right key again: %+v, want a hit", path, status)
		}
	}
	plain, err := store.OpenDisk(dir, store.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	cache := &cachetrip.Transport{Store: plain}
	if _, status := get(t, cache.Client(), url+paths[0]); status.Hit {
		t.Error("a hit without a key")
	}
	sealed, err := encrypted.New(plain, key)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for e, err := range sealed.All(t.Context(), "") {
		if err != nil || !strings.HasPrefix(e.URL, url) {
			t.Errorf("All yields %v, %v", e, err)
		}
		n++
	}
	if n != len(paths) {
		t.Errorf("All yields %d entries with the right key, want %d", n, len(paths))
	}
}

// tampering is a store with entries that were changed after they were stored.
// Their checksums are right.
type tampering struct {
	store.Store
	entry func(*store.Entry)
	body  func(id string, offset int64, p []byte)
}

func (s *tampering) Entries(ctx context.Context, key string) ([]*store.Entry, error) {
	entries, err := s.Store.Entries(ctx, key)
	for i := range entries {
		entries[i] = entries[i].Clone()
		for j := range entries[i].Parts {
			entries[i].Parts[j].Blob.Inline = bytes.Clone(entries[i].Parts[j].Blob.Inline)
		}
		if s.entry != nil {
			s.entry(entries[i])
		}
	}
	return entries, err
}

func (s *tampering) Open(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
	body, err := s.Store.Open(ctx, key, blob)
	if err != nil || s.body == nil {
		return body, err
	}
	return &tamperedBody{body, func(offset int64, p []byte) { s.body(blob.ID, offset, p) }}, nil
}

type tamperedBody struct {
	store.Body
	change func(offset int64, p []byte)
}

func (b *tamperedBody) ReadAt(p []byte, offset int64) (int, error) {
	n, err := b.Body.ReadAt(p, offset)
	b.change(offset, p[:n])
	return n, err
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// Changed content is never returned. It is a miss, or an error, or it is
// requested again while it is read.
func TestTampering(t *testing.T) {
	flip := func(at int64) func(string, int64, []byte) {
		return func(_ string, offset int64, p []byte) {
			if at >= offset && at < offset+int64(len(p)) {
				p[at-offset] ^= 1
			}
		}
	}
	other := func(at int) func(string) string { // changes a random character into another one
		return func(s string) string {
			with := "x"
			if s[at:at+1] == with {
				with = "y"
			}
			return s[:at] + with + s[at+1:]
		}
	}
	head := func(change func(string) string) func(*store.Entry) {
		return func(e *store.Entry) { e.Header["Sealed"] = []string{change(e.Header["Sealed"][0])} }
	}
	for _, test := range []struct {
		name, path string
		entry      func(*store.Entry)
		body       func(string, int64, []byte)
	}{
		{"salt of the head", paths[0], head(other(0)), nil},
		{"package header of the head", paths[0], head(other(33)), nil},
		{"text of the head", paths[0], head(other(60)), nil},
		{"end of the head", paths[0], head(func(s string) string { return s[:len(s)-1] }), nil},
		{"more after the head", paths[0], head(func(s string) string { return s + "x" }), nil},
		{"no head", paths[0], head(func(s string) string { return "" }), nil},
		{"half a head", paths[0], head(func(s string) string { return s[:40] }), nil},
		{"head without a field", paths[0], func(e *store.Entry) { e.Header = nil }, nil},
		{"small body", paths[0], func(e *store.Entry) { e.Parts[0].Blob.Inline[50] ^= 1 }, nil},
		{"small body cut", paths[0], func(e *store.Entry) { e.Parts[0].Blob.Inline = e.Parts[0].Blob.Inline[:40] }, nil},
		{"no body", paths[0], func(e *store.Entry) { e.Parts = nil }, nil},
		{"another blob", paths[1], func(e *store.Entry) { e.Parts[0].Blob.ID = "00000000000000000000000000000001" }, nil},
		{"first byte of a large body", paths[1], nil, flip(0)},
		{"text of a large body", paths[1], nil, flip(1000)},
		{"a later package", paths[1], nil, flip(500_000)},
		{"the order of packages", paths[1], nil, func(_ string, offset int64, p []byte) {
			const sealed = 64<<10 + 32
			if offset == 0 && len(p) >= sealed {
				copy(p, bytes.Repeat([]byte{0}, 16))
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			url := origin(t)
			inner := &tampering{Store: store.NewMemory(0)}
			if test.path == paths[0] { // Disk keeps it with the metadata
				disk, err := store.OpenDisk(t.TempDir(), store.DiskOptions{})
				if err != nil {
					t.Fatal(err)
				}
				defer disk.Close()
				inner.Store = disk
			}
			var asked atomic.Int64
			cache := &cachetrip.Transport{Store: wrap(t, inner), Base: roundTripper(func(req *http.Request) (*http.Response, error) {
				asked.Add(1)
				return http.DefaultTransport.RoundTrip(req)
			})}
			want, _ := get(t, cache.Client(), url+test.path)
			if _, status := get(t, cache.Client(), url+test.path); !status.Hit {
				t.Fatalf("not a hit before: %+v", status)
			}
			inner.entry, inner.body = test.entry, test.body
			resp, err := cache.Client().Get(url + test.path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if status := cachetrip.StatusOf(resp); status.Hit && err == nil && asked.Load() == 1 {
				t.Errorf("a hit of which nothing was asked for again: %+v", status)
			}
			if err == nil && string(b) != want || !strings.HasPrefix(want, string(b)) {
				t.Errorf("got %d wrong bytes", len(b))
			}
			inner.entry, inner.body = nil, nil
			if got, _ := get(t, cache.Client(), url+test.path); got != want {
				t.Errorf("got %d wrong bytes afterwards", len(got))
			}
		})
	}
}

// An entry does not serve for another key, nor a blob for another entry.
func TestSwap(t *testing.T) {
	inner := store.NewMemory(0)
	s := wrap(t, inner)
	one, two := storetest.Key(1, 1), storetest.Key(2, 2)
	for _, key := range []string{one, two} {
		draft, err := s.Create(t.Context(), key, -1)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(draft, strings.Repeat(key[:8], 10_000))
		blob, err := draft.Commit()
		if err != nil {
			t.Fatal(err)
		}
		draft.Close()
		e := &store.Entry{Key: key, URL: key, Method: "GET", Length: blob.Size, Parts: []store.Part{{Length: blob.Size, Blob: blob}}}
		if err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return []*store.Entry{e} }); err != nil {
			t.Fatal(err)
		}
	}
	first, err := inner.Entries(t.Context(), one)
	if err != nil || len(first) != 1 {
		t.Fatal(first, err)
	}
	err = inner.Update(t.Context(), two, func(second []*store.Entry) []*store.Entry {
		moved, blob := first[0].Clone(), second[0].Clone()
		moved.Key = two
		blob.Parts = moved.Parts
		return []*store.Entry{moved, blob}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Entries(t.Context(), two); len(got) != 0 || err != nil {
		t.Errorf("%d entries with another's head or blob, %v", len(got), err)
	}
	if got, err := s.Entries(t.Context(), one); len(got) != 1 || err != nil {
		t.Errorf("%d entries left where they belong, %v", len(got), err)
	}
}

func TestLease(t *testing.T) {
	inner := storefault.Wrap(store.NewMemory(0))
	kept, err := encrypted.New(inner, make([]byte, encrypted.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	cache := &cachetrip.Transport{Store: kept}
	get(t, cache.Client(), origin(t))
	cache.Close()
	if granted, released := len(inner.Calls(storefault.Lease)), len(inner.Calls(storefault.Release)); granted != 1 || released != 1 {
		t.Errorf("%d leases were granted and %d released, want 1", granted, released)
	}
}

func BenchmarkHit(b *testing.B) {
	s, err := encrypted.New(store.NewMemory(0), key)
	if err != nil {
		b.Fatal(err)
	}
	cache := &cachetrip.Transport{Store: s, Base: answers{}}
	for b.Loop() {
		resp, err := cache.Client().Get("http://example.com/")
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

type answers struct{}

func (answers) RoundTrip(req *http.Request) (*http.Response, error) {
	const text = "some text"
	return &http.Response{StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req, ContentLength: int64(len(text)),
		Header: http.Header{"Cache-Control": {"max-age=600000"}}, Body: io.NopCloser(strings.NewReader(text))}, nil
}
