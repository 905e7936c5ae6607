package cachetrip

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

type rtf func(*http.Request) (*http.Response, error)

func (f rtf) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func benchHit(b *testing.B, s store.Store, size int) {
	body := bytes.Repeat([]byte("x"), size)
	t := &Transport{Store: s, Base: rtf(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Cache-Control": {"max-age=3600"}, "Content-Type": {"text/plain"}, "Etag": {`"abc"`}, "Date": {time.Now().UTC().Format(http.TimeFormat)}}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(size), Request: r}, nil
	})}
	get := func() {
		req, _ := http.NewRequest("GET", "http://example.com/a", nil)
		resp, err := t.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		if n != int64(size) || err != nil {
			b.Fatal(n, err)
		}
		resp.Body.Close()
	}
	get()
	b.ReportAllocs()
	for b.Loop() {
		get()
	}
	if t.Stats().Misses != 1 {
		b.Fatal(t.Stats())
	}
}

func BenchmarkHitDisk1K(b *testing.B) {
	d, _ := store.OpenDisk(b.TempDir(), store.DiskOptions{})
	benchHit(b, d, 1024)
}
func BenchmarkHitMem1K(b *testing.B) { benchHit(b, store.NewMemory(64<<20), 1024) }
func BenchmarkHitDisk1M(b *testing.B) {
	d, _ := store.OpenDisk(b.TempDir(), store.DiskOptions{})
	benchHit(b, d, 1<<20)
}
func BenchmarkHitDisk64M(b *testing.B) {
	d, _ := store.OpenDisk(b.TempDir(), store.DiskOptions{})
	benchHit(b, d, 64<<20)
}
func BenchmarkNewRequest(b *testing.B) {
	for b.Loop() {
		http.NewRequest("GET", "http://example.com/a", nil)
	}
}
func BenchmarkOpenRead1K(b *testing.B) {
	p := b.TempDir() + "/f"
	os.WriteFile(p, make([]byte, 1024), 0o600)
	buf := make([]byte, 2048)
	for b.Loop() {
		f, _ := os.Open(p)
		f.Stat()
		f.Read(buf)
		f.Close()
	}
}
