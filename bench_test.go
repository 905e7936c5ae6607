package cachetrip

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// The hot paths, for benchstat. The program in bench/ compares them with peers
// and with the limits of the system.

// benchBody is what a benchmark's origin serves.
func benchBody(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i>>8 ^ i*7)
	}
	return b
}

// benchOrigin answers with a body, or with 304 to a conditional request, as
// often as it counts.
type benchOrigin struct {
	body         []byte
	cacheControl string
	requests     int
}

func (o *benchOrigin) RoundTrip(req *http.Request) (*http.Response, error) {
	o.requests++
	resp := &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Cache-Control":          {o.cacheControl},
			"Content-Type":           {"application/json; charset=utf-8"},
			"Content-Length":         {strconv.Itoa(len(o.body))},
			"Date":                   {time.Now().UTC().Format(http.TimeFormat)},
			"Etag":                   {`"644b5b0155e6404a"`},
			"Last-Modified":          {"Mon, 02 Feb 2026 09:00:00 GMT"},
			"Server":                 {"bench"},
			"Vary":                   {"Accept"},
			"X-Content-Type-Options": {"nosniff"},
			"X-Request-Id":           {"C0FF:12AB:345678"},
		},
		Body: io.NopCloser(bytes.NewReader(o.body)), ContentLength: int64(len(o.body)), Request: req,
	}
	if req.Header.Get("If-None-Match") != "" {
		resp.Status, resp.StatusCode, resp.Body, resp.ContentLength = "304 Not Modified", http.StatusNotModified, http.NoBody, 0
		delete(resp.Header, "Content-Length")
	}
	return resp, nil
}

// benchStores are the stores that each path is measured with.
var benchStores = []struct {
	name string
	open func(b *testing.B) store.Store
}{
	{"disk", func(b *testing.B) store.Store {
		d, err := store.OpenDisk(b.TempDir(), store.DiskOptions{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { d.Close() })
		return d
	}},
	{"memory", func(b *testing.B) store.Store { return store.NewMemory(1 << 30) }},
}

func benchRequest(b *testing.B, url string) *http.Request {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	return req
}

// benchGet reads the answer to req to its end, in pieces of buf.
func benchGet(b *testing.B, t http.RoundTripper, req *http.Request, buf []byte, size int) {
	resp, err := t.RoundTrip(req)
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for {
		m, err := resp.Body.Read(buf)
		n += m
		if err == io.EOF {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := resp.Body.Close(); err != nil || n != size {
		b.Fatalf("%d bytes, %v; want %d", n, err, size)
	}
}

// benchVerify makes sure that the measured responses were right.
func benchVerify(b *testing.B, t http.RoundTripper, req *http.Request, want []byte) {
	resp, err := t.RoundTrip(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	h := crc32.NewIEEE()
	if n, err := io.Copy(h, resp.Body); n != int64(len(want)) || err != nil || h.Sum32() != crc32.ChecksumIEEE(want) {
		b.Fatalf("wrong body of %d bytes, %v", n, err)
	}
}

// BenchmarkHit is a fresh hit, again and again the same.
func BenchmarkHit(b *testing.B) {
	for _, s := range benchStores {
		for _, size := range []int{1 << 10, 16 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("store=%s/size=%dK", s.name, size>>10), func(b *testing.B) {
				origin := &benchOrigin{body: benchBody(size), cacheControl: "private, max-age=3600"}
				t := &Transport{Store: s.open(b), Base: origin}
				req, buf := benchRequest(b, "http://example.com/v1/items/42"), make([]byte, 128<<10)
				benchGet(b, t, req, buf, size)
				time.Sleep(30 * time.Millisecond) // until the file's times are beyond doubt
				benchVerify(b, t, req, origin.body)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					benchGet(b, t, req, buf, size)
				}
				benchVerify(b, t, req, origin.body)
				if origin.requests != 1 {
					b.Fatalf("the origin was asked %d times", origin.requests)
				}
			})
		}
	}
}

// BenchmarkHitAs is a fresh hit on behalf of somebody.
func BenchmarkHitAs(b *testing.B) {
	const size = 1 << 10
	for _, identity := range []string{"nobody", "credentials", "name"} {
		b.Run("identity="+identity, func(b *testing.B) {
			origin := &benchOrigin{body: benchBody(size), cacheControl: "private, max-age=3600"}
			t := &Transport{Store: store.NewMemory(1 << 30), Base: origin}
			req, buf := benchRequest(b, "http://example.com/v1/items/42"), make([]byte, 128<<10)
			if identity != "nobody" {
				req.Header.Set("Authorization", "Bearer ghp_0123456789abcdefghijklmnopqrstuvwxyz")
			}
			if identity == "name" {
				t.Identity = func(*http.Request) string { return "somebody" }
			}
			b.ReportAllocs()
			for b.Loop() {
				benchGet(b, t, req, buf, size)
			}
			if origin.requests != 1 {
				b.Fatalf("the origin was asked %d times", origin.requests)
			}
		})
	}
}

// BenchmarkHitUnder is a fresh hit under policies. "without-query" also
// computes its URL.
func BenchmarkHitUnder(b *testing.B) {
	const size = 1 << 10
	u, err := url.Parse("http://example.com/v1/items/42?page=7")
	if err != nil {
		b.Fatal(err)
	}
	for _, policy := range []struct {
		name string
		of   func(*http.Request) Policy
	}{
		{"none", nil},
		{"zero", func(*http.Request) Policy { return Policy{} }},
		{"ttl", func(*http.Request) Policy { return Policy{TTL: time.Hour} }},
		{"ttl+url", func(*http.Request) Policy { return Policy{TTL: time.Hour, URL: u} }},
		{"without-query", func(req *http.Request) Policy {
			return Policy{TTL: time.Hour, URL: WithoutQuery(req.URL, "X-Amz-*")}
		}},
	} {
		b.Run("policy="+policy.name, func(b *testing.B) {
			origin := &benchOrigin{body: benchBody(size), cacheControl: "private, max-age=3600"}
			t := &Transport{Store: store.NewMemory(1 << 30), Base: origin, Policy: policy.of}
			req, buf := benchRequest(b, u.String()+"&X-Amz-Date=20260101T000000Z&X-Amz-Signature=0123456789abcdef"), make([]byte, 128<<10)
			b.ReportAllocs()
			for b.Loop() {
				benchGet(b, t, req, buf, size)
			}
			if origin.requests != 1 {
				b.Fatalf("the origin was asked %d times", origin.requests)
			}
		})
	}
}

// BenchmarkHitParallel is fresh hits by all processors at once, on 512 entries.
func BenchmarkHitParallel(b *testing.B) {
	const size, entries = 4 << 10, 512
	for _, s := range benchStores {
		b.Run("store="+s.name, func(b *testing.B) {
			origin := &benchOrigin{body: benchBody(size), cacheControl: "private, max-age=3600"}
			t := &Transport{Store: s.open(b), Base: origin}
			reqs := make([]*http.Request, entries)
			for i := range reqs {
				reqs[i] = benchRequest(b, fmt.Sprint("http://example.com/v1/items/", i))
				benchVerify(b, t, reqs[i], origin.body)
			}
			time.Sleep(30 * time.Millisecond)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				buf := make([]byte, 32<<10)
				for i := 0; pb.Next(); i++ {
					req := *reqs[i*7%entries]
					benchGet(b, t, &req, buf, size)
				}
			})
			if origin.requests != entries {
				b.Fatalf("the origin was asked %d times", origin.requests)
			}
		})
	}
}

// BenchmarkRevalidate is a 304. The body is not read.
func BenchmarkRevalidate(b *testing.B) {
	for _, s := range benchStores {
		for _, size := range []int{1 << 10, 64 << 20} {
			b.Run(fmt.Sprintf("store=%s/size=%dK", s.name, size>>10), func(b *testing.B) {
				origin := &benchOrigin{body: benchBody(size), cacheControl: "private, no-cache"}
				t := &Transport{Store: s.open(b), Base: origin}
				req := benchRequest(b, "http://example.com/v1/items/42")
				benchVerify(b, t, req, origin.body)
				b.ReportAllocs()
				for b.Loop() {
					resp, err := t.RoundTrip(req)
					if err != nil || resp.ContentLength != int64(size) {
						b.Fatal(resp, err)
					}
					resp.Body.Close()
				}
				benchVerify(b, t, req, origin.body)
				if got := t.Stats(); got.Misses != 1 || got.Revalidations != uint64(origin.requests-1) {
					b.Fatalf("%+v, with %d requests at the origin", got, origin.requests)
				}
			})
		}
	}
}

// BenchmarkMiss stores something new each time.
func BenchmarkMiss(b *testing.B) {
	for _, s := range benchStores {
		for _, size := range []int{1 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("store=%s/size=%dK", s.name, size>>10), func(b *testing.B) {
				origin := &benchOrigin{body: benchBody(size), cacheControl: "private, max-age=3600"}
				t := &Transport{Store: s.open(b), Base: origin}
				buf := make([]byte, 128<<10)
				var req *http.Request
				n := 0
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					n++
					req = benchRequest(b, "http://example.com/v1/items/"+strconv.Itoa(n))
					benchGet(b, t, req, buf, size)
				}
				benchVerify(b, t, req, origin.body)
				if origin.requests != n || t.Stats().Stored != uint64(n) {
					b.Fatalf("%d requests at the origin and %d stored, want %d", origin.requests, t.Stats().Stored, n)
				}
			})
		}
	}
}

// BenchmarkMissOverTCP is a miss over a real connection.
func BenchmarkMissOverTCP(b *testing.B) {
	const size = 1 << 20
	body := benchBody(size)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "private, max-age=3600")
		w.Header().Set("Content-Length", strconv.Itoa(size))
		w.Write(body)
	}))
	defer server.Close()
	for _, s := range benchStores {
		b.Run("store="+s.name, func(b *testing.B) {
			t := &Transport{Store: s.open(b)}
			buf := make([]byte, 128<<10)
			var req *http.Request
			n := 0
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				n++
				req = benchRequest(b, server.URL+"/"+strconv.Itoa(n))
				benchGet(b, t, req, buf, size)
			}
			benchVerify(b, t, req, body)
			if got := t.Stats(); got.Misses != uint64(n) || got.Hits != 1 {
				b.Fatalf("%+v after %d misses and a hit", got, n)
			}
		})
	}
}

// BenchmarkFile is the limit of BenchmarkHit/store=disk: the same bytes in a
// plain file.
func BenchmarkFile(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("size=%dK", size>>10), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "file")
			if err := os.WriteFile(path, benchBody(size), 0o600); err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, 128<<10)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				f, err := os.Open(path)
				if err != nil {
					b.Fatal(err)
				}
				fi, err := f.Stat()
				if err != nil {
					b.Fatal(err)
				}
				for left := fi.Size(); left > 0; {
					n, err := f.Read(buf)
					if err != nil {
						b.Fatal(err)
					}
					left -= int64(n)
				}
				f.Close()
			}
		})
	}
}

// BenchmarkHitOfManyVariants is a hit of one of several variants of 16 KiB.
func BenchmarkHitOfManyVariants(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 16<<10)
	for _, variants := range []int{1, 64} {
		b.Run(fmt.Sprintf("variants=%d", variants), func(b *testing.B) {
			disk, err := store.OpenDisk(b.TempDir(), store.DiskOptions{})
			if err != nil {
				b.Fatal(err)
			}
			defer disk.Close()
			c := &Transport{Store: disk, Base: roundTripperFunc(func(req *http.Request) (*http.Response, error) {
				h := http.Header{"Cache-Control": {"max-age=3600"}, "Vary": {"X-Variant"}, "Content-Length": {"16384"}}
				return &http.Response{StatusCode: 200, Header: h, ContentLength: 16384, Body: io.NopCloser(bytes.NewReader(body)), Request: req}, nil
			})}
			defer c.Close()
			get := func(variant int) {
				req, err := http.NewRequest("GET", "http://a.test/", nil)
				if err != nil {
					b.Fatal(err)
				}
				req.Header.Set("X-Variant", strconv.Itoa(variant))
				resp, err := c.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
			for i := range variants {
				get(i)
			}
			i := 0
			for b.Loop() {
				get(i % variants)
				i++
			}
		})
	}
}

type roundTripperFunc func(*http.Request) (*http.Response, error)

func (f roundTripperFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// BenchmarkHerd is a body of 16 MiB that 100 callers share while it arrives.
// Its limit is the same body in a plain file, which 100 goroutines read.
func BenchmarkHerd(b *testing.B) {
	const size, readers = 16 << 20, 100
	origin := &benchOrigin{body: benchBody(size), cacheControl: "private, max-age=3600"}
	together := func(b *testing.B, open func() io.ReadCloser) {
		bodies := make([]io.ReadCloser, readers)
		for i := range bodies {
			bodies[i] = open()
		}
		var group sync.WaitGroup
		var read atomic.Int64
		for _, body := range bodies {
			group.Go(func() {
				defer body.Close()
				buf := make([]byte, 128<<10)
				for {
					n, err := body.Read(buf)
					read.Add(int64(n))
					if err != nil {
						return
					}
				}
			})
		}
		group.Wait()
		if read.Load() != readers*size {
			b.Fatalf("%d bytes, want %d", read.Load(), readers*size)
		}
	}
	for _, s := range benchStores {
		b.Run("store="+s.name, func(b *testing.B) {
			t := &Transport{Store: s.open(b), Base: origin}
			n, requests := 0, origin.requests
			b.SetBytes(readers * size)
			b.ReportAllocs()
			for b.Loop() {
				n++
				req := benchRequest(b, "http://example.com/v1/items/"+strconv.Itoa(n))
				together(b, func() io.ReadCloser {
					resp, err := t.RoundTrip(req)
					if err != nil {
						b.Fatal(err)
					}
					return resp.Body
				})
				if err := t.Purge(b.Context(), req.URL.String()); err != nil {
					b.Fatal(err)
				}
			}
			if n != origin.requests-requests {
				b.Fatalf("%d requests at the origin, want %d", origin.requests-requests, n)
			}
		})
	}
	b.Run("limit", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "file")
		if err := os.WriteFile(path, origin.body, 0o600); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(readers * size)
		for b.Loop() {
			together(b, func() io.ReadCloser {
				f, err := os.Open(path)
				if err != nil {
					b.Fatal(err)
				}
				return f
			})
		}
	})
}
